/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The run loop of one KVM vCPU.
 *
 * No request is lost: kick sets immediate_exit and signals the thread after the request bit is set;
 * the loop clears immediate_exit before it looks at the bits. So a request that comes after the
 * look finds KVM_RUN refusing to enter, and one that comes inside it ends it by the signal.
 *
 * KVM finishes an access of the guest (the register of an IN, the rest of a string) on the next
 * entry; before the state is handed out, or run returns, complete_io makes one empty entry.
 */
#include "kvm/kvm_internal.h"

#include "base/clock.h"
#include "base/util.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int vcpu_create(struct kvm_vcpu *vcpu, struct err *err)
{
    struct cpu_vm *vm = vcpu->cpu.vm;
    struct cpu_state state;
    void *map;
    int r;

    vcpu->fd = ioctl(vm->vm_fd, KVM_CREATE_VCPU, (unsigned long)vcpu->cpu.index);
    if (vcpu->fd < 0)
        return err_errno(err, -errno, "create KVM vCPU %u", vcpu->cpu.index);
    map = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (map == MAP_FAILED)
        return err_errno(err, -errno, "map KVM vCPU %u", vcpu->cpu.index);
    vcpu->run = map;
    r = kvm_cpu_set_features(vcpu, err);
    if (r < 0)
        return r;
    cpu_state_reset(&state, vcpu->cpu.index);
    return kvm_cpu_set_state(&vcpu->cpu, &state, err);
}

int kvm_cpu_new(struct cpu_vm *vm, unsigned index, struct cpu **ret, struct err *err)
{
    struct kvm_vcpu *vcpu = calloc(1, sizeof(*vcpu));
    int r;

    if (!vcpu)
        return err_set(err, -ENOMEM, "out of memory");
    vcpu->cpu.engine = &kvm_engine;
    vcpu->cpu.vm = vm;
    vcpu->cpu.index = index;
    vcpu->fd = -1;
    vcpu->thread = gettid();
    r = vcpu_create(vcpu, err);
    if (r < 0) {
        kvm_cpu_free(&vcpu->cpu);
        return r;
    }
    *ret = &vcpu->cpu;
    return 0;
}

void kvm_cpu_free(struct cpu *cpu)
{
    struct kvm_vcpu *vcpu = kvm_vcpu_of(cpu);

    if (!cpu)
        return;
    if (vcpu->run)
        munmap(vcpu->run, cpu->vm->run_size);
    if (vcpu->fd >= 0)
        close(vcpu->fd);
    free(vcpu);
}

void kvm_cpu_kick(struct cpu *cpu)
{
    struct kvm_vcpu *vcpu = kvm_vcpu_of(cpu);

    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_tgkill, getpid(), vcpu->thread, KVM_KICK_SIGNAL);
}

void kvm_cpu_counters(struct cpu *cpu, struct cpu_counters *ret)
{
    const struct kvm_vcpu *vcpu = kvm_vcpu_of(cpu);

    memset(ret, 0, sizeof(*ret));
    ret->io_accesses = __atomic_load_n(&vcpu->counters.io_accesses, __ATOMIC_RELAXED);
    ret->mmio_accesses = __atomic_load_n(&vcpu->counters.mmio_accesses, __ATOMIC_RELAXED);
}

static void count(uint64_t *counter)
{
    __atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

static void port_access(struct kvm_vcpu *vcpu)
{
    const struct cpu_bus *bus = vcpu->cpu.vm->config.bus;
    const struct kvm_run *run = vcpu->run;
    uint8_t *data = (uint8_t *)vcpu->run + run->io.data_offset;

    for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
        count(&vcpu->counters.io_accesses);
        if (run->io.direction == KVM_EXIT_IO_OUT) {
            bus->io_write(bus->context, vcpu->cpu.index, run->io.port, data, run->io.size);
        } else {
            memset(data, 0xff, run->io.size);
            bus->io_read(bus->context, vcpu->cpu.index, run->io.port, data, run->io.size);
        }
    }
}

static void memory_access(struct kvm_vcpu *vcpu)
{
    const struct cpu_bus *bus = vcpu->cpu.vm->config.bus;
    struct kvm_run *run = vcpu->run;

    count(&vcpu->counters.mmio_accesses);
    if (run->mmio.is_write) {
        bus->mmio_write(bus->context, vcpu->cpu.index, run->mmio.phys_addr, run->mmio.data,
                        run->mmio.len);
    } else {
        memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
        bus->mmio_read(bus->context, vcpu->cpu.index, run->mmio.phys_addr, run->mmio.data,
                       run->mmio.len);
    }
}

/* The instruction at RIP, for the report: what KVM fetched, else by the guest's page tables. */
static void instruction_fetch(struct kvm_vcpu *vcpu, struct cpu_exit *exit)
{
    const struct kvm_run *run = vcpu->run;
    struct memory *memory = vcpu->cpu.vm->config.memory;
    struct kvm_sregs sregs;
    struct kvm_regs regs;

    if (ioctl(vcpu->fd, KVM_GET_REGS, &regs) || ioctl(vcpu->fd, KVM_GET_SREGS, &sregs))
        return;
    exit->unsupported.linear_address = sregs.cs.base + regs.rip;
    if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
        run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION &&
        run->emulation_failure.ndata >= 3 &&
        (run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
        exit->unsupported.nr_bytes = MIN(run->emulation_failure.insn_size, CPU_INSN_MAX);
        memcpy(exit->unsupported.bytes, run->emulation_failure.insn_bytes,
               exit->unsupported.nr_bytes);
        return;
    }
    for (uint8_t i = 0; i < CPU_INSN_MAX; i++) {
        struct kvm_translation at = {.linear_address = exit->unsupported.linear_address + i};

        if (ioctl(vcpu->fd, KVM_TRANSLATE, &at) || !at.valid ||
            memory_read(memory, at.physical_address, &exit->unsupported.bytes[i], 1))
            return;
        exit->unsupported.nr_bytes = i + 1u;
    }
}

static void exit_unsupported(struct kvm_vcpu *vcpu, const char *reason, struct cpu_exit *ret)
{
    ret->kind = CPU_EXIT_UNSUPPORTED;
    ret->unsupported.reason = reason;
    instruction_fetch(vcpu, ret);
}

/* True when the monitor has to act: *ret is filled. */
static bool exit_handle(struct kvm_vcpu *vcpu, struct cpu_exit *ret)
{
    switch (vcpu->run->exit_reason) {
    case KVM_EXIT_IO:
        vcpu->io_uncompleted = true;
        port_access(vcpu);
        return false;
    case KVM_EXIT_MMIO:
        vcpu->io_uncompleted = true;
        memory_access(vcpu);
        return false;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_IOAPIC_EOI:
        return false;
    case KVM_EXIT_HLT:
        ret->kind = CPU_EXIT_HALT;
        return true;
    case KVM_EXIT_SHUTDOWN:
    case KVM_EXIT_SYSTEM_EVENT:
        ret->kind = CPU_EXIT_SHUTDOWN;
        return true;
    case KVM_EXIT_INTERNAL_ERROR:
        exit_unsupported(vcpu,
                         vcpu->run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION
                             ? "KVM cannot emulate this instruction"
                             : "KVM met an internal error",
                         ret);
        return true;
    case KVM_EXIT_FAIL_ENTRY:
        exit_unsupported(vcpu, "the processor refuses the guest's state", ret);
        return true;
    default:
        exit_unsupported(vcpu, "KVM exits for a reason that this monitor does not know", ret);
        return true;
    }
}

static int enter(struct kvm_vcpu *vcpu)
{
    int r = ioctl(vcpu->fd, KVM_RUN, 0) ? -errno : 0;

    vcpu->io_uncompleted = false;
    return r;
}

static int complete_io(struct kvm_vcpu *vcpu)
{
    int r;

    while (vcpu->io_uncompleted) {
        struct cpu_exit ignored;

        __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        r = enter(vcpu);
        if (r == 0)
            exit_handle(vcpu, &ignored); /* the next part of a split access */
        else if (r != -EINTR && r != -EAGAIN)
            return r;
    }
    return 0;
}

/* True when run has to return with *ret. */
static bool requests_handle(struct kvm_vcpu *vcpu, struct cpu_exit *ret)
{
    uint32_t requests = cpu_take_requests(&vcpu->cpu, ~0u);

    if (requests & CPU_REQUEST_NMI)
        ioctl(vcpu->fd, KVM_NMI, 0);
    if ((requests & CPU_REQUEST_KICK) ||
        (vcpu->deadline_ns && clock_monotonic_ns() >= vcpu->deadline_ns)) {
        ret->kind = CPU_EXIT_KICK;
        return true;
    }
    return false;
}

int kvm_cpu_run(struct cpu *cpu, struct cpu_exit *ret, struct err *err)
{
    struct kvm_vcpu *vcpu = kvm_vcpu_of(cpu);
    int r;

    memset(ret, 0, sizeof(*ret));
    for (;;) {
        __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
        if (requests_handle(vcpu, ret)) {
            r = complete_io(vcpu);
            return r < 0 ? err_errno(err, r, "run KVM vCPU %u", cpu->index) : 0;
        }
        r = enter(vcpu);
        if (r == -EINTR || r == -EAGAIN)
            continue;
        if (r < 0)
            return err_errno(err, r, "run KVM vCPU %u", cpu->index);
        if (exit_handle(vcpu, ret))
            return 0;
    }
}
