/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A KVM virtual machine: its slots, the in-kernel interrupt controllers and PIT, interrupt lines
 * and messages, and the dirty log.
 *
 * Invariant: KVM's slot n is memory->slots[n] of the moment when the VM was made; slots are not
 * added later.
 *
 * Source: Linux Documentation/virt/kvm/api.rst.
 */
#include "kvm/kvm_internal.h"

#include "base/cleanup.h"
#include "base/size.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define KVM_API_VERSION_EXPECTED 12

/* Pages that some Intel processors need for real mode, at the place every monitor gives them. */
#define KVM_IDENTITY_MAP_ADDRESS UINT64_C(0xfffbc000)
#define KVM_TSS_ADDRESS          0xfffbd000ul

#define IOAPIC_PINS    24
#define PIC_PINS       8
#define PIT_IOAPIC_PIN 2 /* ISA interrupt 0, as the MADT's override says */
#define NR_ROUTES      (16 + IOAPIC_PINS)

static const struct {
    int capability;
    const char *what;
} kvm_needed[] = {
    {KVM_CAP_USER_MEMORY, "user memory"},
    {KVM_CAP_IRQCHIP, "in-kernel interrupt controllers"},
    {KVM_CAP_PIT2, "an in-kernel PIT"},
    {KVM_CAP_IRQ_ROUTING, "interrupt routing"},
    {KVM_CAP_SIGNAL_MSI, "message-signalled interrupts"},
    {KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
    {KVM_CAP_MP_STATE, "multiprocessor state"},
    {KVM_CAP_VCPU_EVENTS, "vCPU events"},
    {KVM_CAP_DEBUGREGS, "debug registers"},
    {KVM_CAP_XSAVE, "XSAVE state"},
    {KVM_CAP_XCRS, "extended control registers"},
};

static void kick_received(int signal)
{
    (void)signal; /* its only effect is that KVM_RUN returns EINTR */
}

static int kick_install(struct err *err)
{
    struct sigaction action = {.sa_handler = kick_received};

    if (sigaction(KVM_KICK_SIGNAL, &action, NULL))
        return err_errno(err, -errno, "install the vCPU kick signal");
    return 0;
}

/* options: NULL, or "fd=N" with /dev/kvm open already (it stays the caller's). */
static int device_open(const char *options, int *ret_fd, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    uint64_t given;
    int version, r;

    if (!options) {
        fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    } else if (!strncmp(options, "fd=", 3)) {
        r = number_parse(options + 3, "option fd", 0, INT_MAX, &given, err);
        if (r < 0)
            return r;
        fd = fcntl((int)given, F_DUPFD_CLOEXEC, 0);
    } else {
        return err_set(err, -EINVAL, "the kvm engine has no option '%s'", options);
    }
    if (fd < 0)
        return err_errno(err, -errno, "open /dev/kvm");
    version = ioctl(fd, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION_EXPECTED)
        return err_set(err, -ENOTSUP, "/dev/kvm speaks version %d, not %d", version,
                       KVM_API_VERSION_EXPECTED);
    for (size_t i = 0; i < ARRAY_LEN(kvm_needed); i++)
        if (ioctl(fd, KVM_CHECK_EXTENSION, kvm_needed[i].capability) <= 0)
            return err_set(err, -ENOTSUP, "/dev/kvm lacks %s", kvm_needed[i].what);
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int slot_register(struct cpu_vm *vm, unsigned index, struct err *err)
{
    const struct memory_slot *slot = &vm->config.memory->slots[index];
    struct kvm_userspace_memory_region region = {
        .slot = index,
        .flags = (slot->read_only ? KVM_MEM_READONLY : 0u) |
                 (slot->dirty_log ? KVM_MEM_LOG_DIRTY_PAGES : 0u),
        .guest_phys_addr = slot->gpa,
        .memory_size = slot->size_bytes,
        .userspace_addr = (uintptr_t)slot->host,
    };

    if (ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region))
        return err_errno(err, -errno, "give KVM %llu MiB of guest memory at 0x%llx",
                         (unsigned long long)(slot->size_bytes / MIB),
                         (unsigned long long)slot->gpa);
    vm->logging[index] = slot->dirty_log;
    return 0;
}

static void route_add(struct kvm_irq_routing *table, unsigned gsi, unsigned chip, unsigned pin)
{
    table->entries[table->nr++] = (struct kvm_irq_routing_entry){
        .gsi = gsi,
        .type = KVM_IRQ_ROUTING_IRQCHIP,
        .u.irqchip = {.irqchip = chip, .pin = pin},
    };
}

/* ISA interrupts reach the PIC and the I/O APIC, the others the I/O APIC alone. */
static int routes_set(struct cpu_vm *vm, struct err *err)
{
    CLEANUP(freep)
    struct kvm_irq_routing *table = calloc(1,
                                           sizeof(*table) + NR_ROUTES * sizeof(table->entries[0]));

    if (!table)
        return err_set(err, -ENOMEM, "out of memory");
    for (unsigned gsi = 0; gsi < IOAPIC_PINS; gsi++) {
        if (gsi < PIC_PINS && gsi != 2)
            route_add(table, gsi, KVM_IRQCHIP_PIC_MASTER, gsi);
        else if (gsi >= PIC_PINS && gsi < 2 * PIC_PINS)
            route_add(table, gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - PIC_PINS);
        if (gsi == 0)
            route_add(table, gsi, KVM_IRQCHIP_IOAPIC, PIT_IOAPIC_PIN);
        else if (gsi != PIT_IOAPIC_PIN)
            route_add(table, gsi, KVM_IRQCHIP_IOAPIC, gsi);
    }
    if (ioctl(vm->vm_fd, KVM_SET_GSI_ROUTING, table))
        return err_errno(err, -errno, "route KVM's interrupts");
    return 0;
}

static int irqchip_create(struct cpu_vm *vm, struct err *err)
{
    struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
    uint64_t identity_map = KVM_IDENTITY_MAP_ADDRESS;

    if (ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0 &&
        ioctl(vm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map))
        return err_errno(err, -errno, "place KVM's identity map");
    if (ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_TSS_ADDR) > 0 &&
        ioctl(vm->vm_fd, KVM_SET_TSS_ADDR, KVM_TSS_ADDRESS))
        return err_errno(err, -errno, "place KVM's task state segment");
    if (ioctl(vm->vm_fd, KVM_CREATE_IRQCHIP, 0))
        return err_errno(err, -errno, "create KVM's interrupt controllers");
    if (ioctl(vm->vm_fd, KVM_CREATE_PIT2, &pit))
        return err_errno(err, -errno, "create KVM's PIT");
    return routes_set(vm, err);
}

static int vm_create(struct cpu_vm *vm, struct err *err)
{
    int r, size;

    r = device_open(vm->config.options, &vm->kvm_fd, err);
    if (r < 0)
        return r;
    do
        vm->vm_fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
    while (vm->vm_fd < 0 && errno == EINTR);
    if (vm->vm_fd < 0)
        return err_errno(err, -errno, "create a KVM virtual machine");
    size = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size < (int)sizeof(struct kvm_run))
        return err_set(err, -ENOTSUP, "/dev/kvm gives a vCPU mapping of %d bytes", size);
    vm->run_size = (size_t)size;
    r = irqchip_create(vm, err);
    for (unsigned i = 0; r == 0 && i < vm->config.memory->nr_slots; i++)
        r = slot_register(vm, i, err);
    return r;
}

int kvm_vm_new(const struct cpu_vm_config *config, struct cpu_vm **ret, struct err *err)
{
    struct cpu_vm *vm;
    int r;

    r = kick_install(err);
    if (r < 0)
        return r;
    vm = calloc(1, sizeof(*vm));
    if (!vm)
        return err_set(err, -ENOMEM, "out of memory");
    vm->config = *config;
    vm->kvm_fd = vm->vm_fd = -1;
    r = vm_create(vm, err);
    if (r < 0) {
        kvm_vm_free(vm);
        return r;
    }
    *ret = vm;
    return 0;
}

void kvm_vm_free(struct cpu_vm *vm)
{
    if (!vm)
        return;
    if (vm->vm_fd >= 0)
        close(vm->vm_fd);
    if (vm->kvm_fd >= 0)
        close(vm->kvm_fd);
    free(vm);
}

static int kvm_irq_line(struct cpu_vm *vm, unsigned gsi, bool level)
{
    struct kvm_irq_level line = {.irq = gsi, .level = level};

    return ioctl(vm->vm_fd, KVM_IRQ_LINE, &line) ? -errno : 0;
}

static int kvm_msi(struct cpu_vm *vm, uint64_t address, uint32_t data)
{
    struct kvm_msi msi = {
        .address_lo = (uint32_t)address,
        .address_hi = (uint32_t)(address >> 32),
        .data = data,
    };

    return ioctl(vm->vm_fd, KVM_SIGNAL_MSI, &msi) < 0 ? -errno : 0;
}

static int kvm_dirty_log_changed(struct cpu_vm *vm, struct err *err)
{
    struct memory *memory = vm->config.memory;

    for (unsigned i = 0; i < memory->nr_slots; i++) {
        int r;

        if (vm->logging[i] == !!memory->slots[i].dirty_log)
            continue;
        r = slot_register(vm, i, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int kvm_dirty_log_sync(struct cpu_vm *vm, struct err *err)
{
    struct memory *memory = vm->config.memory;

    for (unsigned i = 0; i < memory->nr_slots; i++) {
        struct memory_slot *slot = &memory->slots[i];
        size_t words = ((slot->size_bytes >> GUEST_PAGE_SHIFT) + 63) / 64;
        struct kvm_dirty_log log = {.slot = i};
        uint64_t *bits;

        if (!slot->dirty_log || !vm->logging[i])
            continue;
        bits = calloc(words, sizeof(*bits));
        if (!bits)
            return err_set(err, -ENOMEM, "out of memory");
        log.dirty_bitmap = bits;
        if (ioctl(vm->vm_fd, KVM_GET_DIRTY_LOG, &log)) {
            int r = -errno;

            free(bits);
            return err_errno(err, r, "read KVM's dirty log");
        }
        for (size_t w = 0; w < words; w++)
            if (bits[w])
                __atomic_fetch_or(&slot->dirty_log[w], bits[w], __ATOMIC_RELAXED);
        free(bits);
    }
    return 0;
}

const struct cpu_engine kvm_engine = {
    .name = "kvm",
    .probe = kvm_probe,
    .vm_new = kvm_vm_new,
    .vm_free = kvm_vm_free,
    .cpu_new = kvm_cpu_new,
    .cpu_free = kvm_cpu_free,
    .run = kvm_cpu_run,
    .get_state = kvm_cpu_get_state,
    .set_state = kvm_cpu_set_state,
    .kick = kvm_cpu_kick,
    .counters = kvm_cpu_counters,
    .dirty_log_changed = kvm_dirty_log_changed,
    .dirty_log_sync = kvm_dirty_log_sync,
    .irq_line = kvm_irq_line,
    .msi = kvm_msi,
};
