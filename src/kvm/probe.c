/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Can KVM run a kernel here? Some hosts offer /dev/kvm without hardware virtualization behind it:
 * guests in ring 3 run, but the kernel below executes ring 0 by emulating a subset. So the probe
 * runs what an operating system does in its first milliseconds (probe_guest.S) and says at which
 * step it stopped.
 */
#include "kvm/kvm_internal.h"

#include "base/clock.h"
#include "base/util.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PROBE_MEMORY     (2 * MIB)
#define PROBE_TIMEOUT_NS (2 * NS_PER_S)

/* Guest-physical layout; probe_guest.S knows CODE's relatives by label and DATA, PTE by number. */
#define AT_PML4  0x1000
#define AT_PDPT  0x2000
#define AT_PD    0x3000
#define AT_PT    0x4000 /* maps the first 2 MiB in 4 KiB pages */
#define AT_GDT   0x5000
#define AT_IDT   0x6000
#define AT_TSS   0x7000
#define AT_CODE  0x8000
#define AT_STACK 0x20000

#define PORT_STEP      0xf1
#define PORT_DONE      0xf2
#define PORT_EXCEPTION 0xf3

#define PTE_FLAGS 7u /* present, writable, user */

#define SELECTOR_CODE 0x08
#define SELECTOR_DATA 0x10
#define SELECTOR_TSS  0x30

extern const uint8_t kvm_probe_guest[], kvm_probe_guest_end[];
extern const uint8_t kvm_probe_stubs[], kvm_probe_breakpoint[];

static const char *const step_name[] = {
    "nothing",          "locked operations", "cmpxchg16b",   "SSE",
    "xsave, xrstor",    "int3, iretq",       "MSRs, swapgs", "paging",
    "sysretq, syscall",
};

struct probe {
    struct cpu *cpu;
    unsigned step;
    bool done;
    int exception; /* -1: none */
};

static void probe_read(void *context, unsigned cpu, uint64_t at, void *data, unsigned size)
{
    (void)context;
    (void)cpu;
    (void)at;
    memset(data, 0xff, size);
}

static void probe_io_read(void *context, unsigned cpu, uint16_t port, void *data, unsigned size)
{
    probe_read(context, cpu, port, data, size);
}

static void probe_mmio_write(void *context, unsigned cpu, gpa_t gpa, const void *data,
                             unsigned size)
{
    (void)context;
    (void)cpu;
    (void)gpa;
    (void)data;
    (void)size;
}

static void probe_io_write(void *context, unsigned cpu, uint16_t port, const void *data,
                           unsigned size)
{
    struct probe *probe = context;
    uint8_t value = *(const uint8_t *)data;

    (void)cpu;
    (void)size;
    switch (port) {
    case PORT_STEP:
        probe->step = MIN(value, ARRAY_LEN(step_name) - 1);
        break;
    case PORT_DONE:
        probe->done = true;
        cpu_request(probe->cpu, CPU_REQUEST_KICK);
        break;
    case PORT_EXCEPTION:
        probe->exception = value;
        cpu_request(probe->cpu, CPU_REQUEST_KICK);
        break;
    default:
        break;
    }
}

static void put64(struct memory *memory, gpa_t gpa, uint64_t value)
{
    memory_write(memory, gpa, &value, sizeof(value));
}

static void gate_put(struct memory *memory, unsigned vector, uint64_t handler)
{
    put64(memory, AT_IDT + vector * 16,
          (handler & 0xffff) | SELECTOR_CODE << 16 | UINT64_C(0x8e00) << 32 |
              (handler >> 16 & 0xffff) << 48);
    put64(memory, AT_IDT + vector * 16 + 8, handler >> 32);
}

static void guest_load(struct memory *memory)
{
    static const uint64_t gdt[] = {
        0,
        0x00af9b000000ffff, /* 08: ring 0 code, 64-bit */
        0x00cf93000000ffff, /* 10: ring 0 data */
        0x00cff3000000ffff, /* 18: ring 3 data (STAR 63:48 + 8) */
        0x00affb000000ffff, /* 20: ring 3 code, 64-bit */
        0,
        0x00008b0000000067 | (uint64_t)AT_TSS << 16, /* 30: TSS */
        0,
    };

    memory_write(memory, AT_CODE, kvm_probe_guest,
                 (uint64_t)(kvm_probe_guest_end - kvm_probe_guest));
    put64(memory, AT_PML4, AT_PDPT | PTE_FLAGS);
    put64(memory, AT_PDPT, AT_PD | PTE_FLAGS);
    put64(memory, AT_PD, AT_PT | PTE_FLAGS);
    for (uint64_t i = 0; i < 511; i++) /* the last page is the guest's own experiment */
        put64(memory, AT_PT + i * 8, i << GUEST_PAGE_SHIFT | PTE_FLAGS);
    memory_write(memory, AT_GDT, gdt, sizeof(gdt));
    for (unsigned i = 0; i < 32; i++)
        gate_put(memory, i, AT_CODE + (uint64_t)(kvm_probe_stubs - kvm_probe_guest) + i * 16);
    gate_put(memory, 3, AT_CODE + (uint64_t)(kvm_probe_breakpoint - kvm_probe_guest));
}

static struct cpu_segment flat_segment(uint16_t selector, uint32_t attributes)
{
    return (struct cpu_segment){
        .limit = 0xffffffff, .selector = selector, .attributes = attributes};
}

static void guest_state(struct cpu_state *state)
{
    cpu_state_reset(state, 0);
    state->rip = AT_CODE;
    state->gpr[CPU_RSP] = AT_STACK;
    state->cr0 = CPU_CR0_PE | CPU_CR0_MP | CPU_CR0_ET | CPU_CR0_NE | CPU_CR0_WP | CPU_CR0_PG;
    state->cr3 = AT_PML4;
    state->cr4 = CPU_CR4_PAE;
    state->efer = CPU_EFER_LME | CPU_EFER_LMA;
    for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++)
        state->segment[i] = flat_segment(SELECTOR_DATA, 0xc093);
    state->segment[CPU_CS] = flat_segment(SELECTOR_CODE, 0xa09b);
    state->tr = (struct cpu_segment){
        .base = AT_TSS, .limit = 0x67, .selector = SELECTOR_TSS, .attributes = 0x8b};
    state->ldtr.attributes = CPU_SEGMENT_UNUSABLE;
    state->gdtr = (struct cpu_table_register){AT_GDT, 8 * 8 - 1};
    state->idtr = (struct cpu_table_register){AT_IDT, 32 * 16 - 1};
}

static int verdict(const struct probe *probe, const struct cpu_exit *exit, struct err *err)
{
    const char *step = step_name[probe->step];

    if (probe->done)
        return 0;
    if (probe->exception == 0xff)
        return err_set(err, -ENOTSUP, "KVM gives a guest kernel wrong results: %s", step);
    if (probe->exception >= 0)
        return err_set(err, -ENOTSUP,
                       "KVM cannot run a kernel here: %s raised exception %d in ring 0", step,
                       probe->exception);
    switch (exit->kind) {
    case CPU_EXIT_UNSUPPORTED:
        return err_set(err, -ENOTSUP, "KVM cannot run a kernel here: %s: %s", step,
                       exit->unsupported.reason);
    case CPU_EXIT_SHUTDOWN:
        return err_set(err, -ENOTSUP, "KVM cannot run a kernel here: %s led to a triple fault",
                       step);
    default:
        return err_set(err, -ENOTSUP, "KVM cannot run a kernel here: %s did not end within 2 s",
                       step);
    }
}

static int guest_run(struct cpu_vm *vm, struct memory *memory, struct probe *probe,
                     struct cpu_exit *exit, struct err *err)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = KVM_KICK_SIGNAL};
    struct itimerspec limit = {.it_value.tv_sec = PROBE_TIMEOUT_NS / NS_PER_S,
                               .it_interval.tv_nsec = 10 * NS_PER_MS};
    struct cpu *cpu = NULL;
    struct cpu_state state;
    timer_t timer;
    int r;

    guest_load(memory);
    guest_state(&state);
    r = kvm_cpu_new(vm, 0, &cpu, err);
    if (r < 0)
        return r;
    probe->cpu = cpu;
    r = kvm_cpu_set_state(cpu, &state, err);
    event._sigev_un._tid = gettid();
    if (r == 0 && timer_create(CLOCK_MONOTONIC, &event, &timer))
        r = err_errno(err, -errno, "make a timer for the KVM probe");
    if (r == 0) {
        kvm_vcpu_of(cpu)->deadline_ns = clock_monotonic_ns() + PROBE_TIMEOUT_NS;
        timer_settime(timer, 0, &limit, NULL);
        r = kvm_cpu_run(cpu, exit, err);
        timer_delete(timer);
    }
    kvm_cpu_free(cpu);
    return r;
}

int kvm_probe(struct err *err)
{
    struct probe probe = {.exception = -1};
    struct cpu_bus bus = {
        .context = &probe,
        .io_read = probe_io_read,
        .io_write = probe_io_write,
        .mmio_read = probe_read,
        .mmio_write = probe_mmio_write,
    };
    struct cpuid_options options = {.nr_cpus = 1, .tsc_hz = cpu_host_tsc_hz()};
    struct cpuid_policy policy;
    struct cpu_vm_config config = {
        .nr_cpus = 1, .bus = &bus, .cpuid = &policy, .tsc_hz = options.tsc_hz};
    struct cpu_exit exit = {0};
    struct memory *memory = NULL;
    struct cpu_vm *vm = NULL;
    int r;

    cpuid_policy_init(&policy, &options);
    r = memory_new(&memory, err);
    if (r == 0)
        r = memory_add_ram(memory, 0, PROBE_MEMORY, err);
    config.memory = memory;
    if (r == 0)
        r = kvm_vm_new(&config, &vm, err);
    if (r == 0)
        r = guest_run(vm, memory, &probe, &exit, err);
    if (r == 0)
        r = verdict(&probe, &exit, err);
    kvm_vm_free(vm);
    memory_free(memory);
    return r;
}
