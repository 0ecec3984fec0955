/* SPDX-License-Identifier: Apache-2.0 */
/* The KVM engine with small guests in real mode. Without /dev/kvm these count as skipped. */
#include "kvm/kvm.h"

#include "cpu/cpuid.h"
#include "testing.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NEEDS_KVM() TEST_NEEDS(access("/dev/kvm", R_OK | W_OK) == 0, "/dev/kvm is missing")

struct machine {
    struct memory *memory;
    struct cpuid_policy policy;
    struct cpu_bus bus;
    struct cpu_vm *vm;
    struct cpu *cpu;
    char written[256]; /* what the guest wrote to port 0x10 */
    unsigned nr_written;
    uint64_t mmio_at, mmio_value;
    unsigned mmio_size;
};

static void io_read(void *context, unsigned cpu, uint16_t port, void *data, unsigned size)
{
    (void)context;
    (void)cpu;
    if (port == 0x12 && size == 2)
        memcpy(data, "\x34\x12", 2);
}

static void io_write(void *context, unsigned cpu, uint16_t port, const void *data, unsigned size)
{
    struct machine *m = context;

    (void)cpu;
    if (port == 0x10 && m->nr_written + size <= sizeof(m->written)) {
        memcpy(m->written + m->nr_written, data, size);
        m->nr_written += size;
    }
    if (port == 0x11)
        cpu_request(m->cpu, CPU_REQUEST_KICK);
}

static void mmio_read(void *context, unsigned cpu, gpa_t gpa, void *data, unsigned size)
{
    (void)context;
    (void)cpu;
    if (gpa == 0xa0010 && size == 4)
        memcpy(data, "\x78\x56\x34\x12", 4);
}

static void mmio_write(void *context, unsigned cpu, gpa_t gpa, const void *data, unsigned size)
{
    struct machine *m = context;

    (void)cpu;
    m->mmio_at = gpa;
    m->mmio_size = size;
    m->mmio_value = 0;
    memcpy(&m->mmio_value, data, size);
}

/* A guest in real mode at 0000:1000. */
static void machine_make(struct machine *m, const void *code, size_t length)
{
    struct cpuid_options options = {.nr_cpus = 1, .tsc_hz = cpu_host_tsc_hz()};
    struct cpu_vm_config config = {.nr_cpus = 1, .tsc_hz = options.tsc_hz};
    struct cpu_state state;
    struct err err = ERR_INIT;

    memset(m, 0, sizeof(*m));
    cpuid_policy_init(&m->policy, &options);
    m->bus = (struct cpu_bus){.context = m,
                              .io_read = io_read,
                              .io_write = io_write,
                              .mmio_read = mmio_read,
                              .mmio_write = mmio_write};
    ck_assert_int_eq(memory_new(&m->memory, &err), 0);
    ck_assert_int_eq(memory_add_ram(m->memory, 0, 640 * KIB, &err), 0);
    ck_assert_int_eq(memory_write(m->memory, 0x1000, code, length), 0);
    config.memory = m->memory;
    config.bus = &m->bus;
    config.cpuid = &m->policy;
    ck_assert_msg(kvm_engine.vm_new(&config, &m->vm, &err) == 0, "%s", err.message);
    ck_assert_msg(kvm_engine.cpu_new(m->vm, 0, &m->cpu, &err) == 0, "%s", err.message);
    ck_assert_msg(kvm_engine.get_state(m->cpu, &state, &err) == 0, "%s", err.message);
    state.segment[CPU_CS].selector = 0;
    state.segment[CPU_CS].base = 0;
    state.rip = 0x1000;
    state.gpr[CPU_RSP] = 0x8000;
    ck_assert_msg(kvm_engine.set_state(m->cpu, &state, &err) == 0, "%s", err.message);
}

static void machine_done(struct machine *m)
{
    kvm_engine.cpu_free(m->cpu);
    kvm_engine.vm_free(m->vm);
    memory_free(m->memory);
}

static enum cpu_exit_kind machine_run(struct machine *m)
{
    struct cpu_exit exit;
    struct err err = ERR_INIT;

    ck_assert_msg(kvm_engine.run(m->cpu, &exit, &err) == 0, "%s", err.message);
    return exit.kind;
}

START_TEST(ports_are_read_and_written)
{
    /* in ax,12h; out 10h,ax; out 11h,al; hlt */
    static const uint8_t code[] = {0xe5, 0x12, 0xe7, 0x10, 0xe6, 0x11, 0xf4};
    struct machine m;
    struct cpu_counters counters;

    NEEDS_KVM();
    machine_make(&m, code, sizeof(code));
    ck_assert_int_eq(machine_run(&m), CPU_EXIT_KICK);
    ck_assert_uint_eq(m.nr_written, 2);
    ck_assert_int_eq(memcmp(m.written, "\x34\x12", 2), 0);
    kvm_engine.counters(m.cpu, &counters);
    ck_assert_uint_eq(counters.io_accesses, 3);
    machine_done(&m);
}
END_TEST

START_TEST(memory_outside_slots_is_the_bus)
{
    /* mov ax,0a000h; mov ds,ax; mov eax,[10h]; inc eax; mov [20h],eax; out 11h,al; hlt */
    static const uint8_t code[] = {0xb8, 0x00, 0xa0, 0x8e, 0xd8, 0x66, 0xa1, 0x10, 0x00,
                                   0x66, 0x40, 0x66, 0xa3, 0x20, 0x00, 0xe6, 0x11, 0xf4};
    struct machine m;

    NEEDS_KVM();
    machine_make(&m, code, sizeof(code));
    ck_assert_int_eq(machine_run(&m), CPU_EXIT_KICK);
    ck_assert_uint_eq(m.mmio_at, 0xa0020);
    ck_assert_uint_eq(m.mmio_size, 4);
    ck_assert_uint_eq(m.mmio_value, 0x12345679);
    machine_done(&m);
}
END_TEST

struct raiser {
    struct machine *m;
};

static void *raise_line(void *context)
{
    struct raiser *raiser = context;
    struct timespec pause = {.tv_nsec = 50000000};

    nanosleep(&pause, NULL);
    kvm_engine.irq_line(raiser->m->vm, 5, true);
    return NULL;
}

/* The guest sets up the PIC, halts, and the line of IRQ 5 wakes it. */
START_TEST(an_interrupt_wakes_a_halted_guest)
{
    static const uint8_t code[] = {
        0xb0, 0x11, 0xe6, 0x20,             /* ICW1 */
        0xb0, 0x20, 0xe6, 0x21,             /* ICW2: vectors from 20h */
        0xb0, 0x04, 0xe6, 0x21,             /* ICW3 */
        0xb0, 0x01, 0xe6, 0x21,             /* ICW4 */
        0xb0, 0xdf, 0xe6, 0x21,             /* only IRQ 5 */
        0xc7, 0x06, 0x94, 0x00, 0x50, 0x10, /* IVT[25h] = 0000:1050 */
        0xc7, 0x06, 0x96, 0x00, 0x00, 0x00, /* */
        0xfb, 0xf4,                         /* sti; hlt */
        0xb0, 0x42, 0xe6, 0x10, 0xe6, 0x11, 0xf4,
    };
    static const uint8_t handler[] = {0xb0, 0x41, 0xe6, 0x10, 0xcf}; /* out 10h,'A'; iret */
    struct machine m;
    struct raiser raiser = {&m};
    pthread_t thread;

    NEEDS_KVM();
    machine_make(&m, code, sizeof(code));
    ck_assert_int_eq(memory_write(m.memory, 0x1050, handler, sizeof(handler)), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, raise_line, &raiser), 0);
    ck_assert_int_eq(machine_run(&m), CPU_EXIT_KICK);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(m.nr_written, 2);
    ck_assert_int_eq(memcmp(m.written, "AB", 2), 0);
    machine_done(&m);
}
END_TEST

static void *kick_later(void *context)
{
    struct timespec pause = {.tv_nsec = 20000000};

    nanosleep(&pause, NULL);
    cpu_request(context, CPU_REQUEST_KICK);
    return NULL;
}

START_TEST(a_kick_ends_an_endless_loop)
{
    static const uint8_t code[] = {0xeb, 0xfe}; /* jmp $ */
    struct machine m;
    pthread_t thread;

    NEEDS_KVM();
    machine_make(&m, code, sizeof(code));
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_create(&thread, NULL, kick_later, m.cpu), 0);
        ck_assert_int_eq(machine_run(&m), CPU_EXIT_KICK);
        pthread_join(thread, NULL);
    }
    machine_done(&m);
}
END_TEST

START_TEST(state_survives_a_round_trip)
{
    static const uint8_t code[] = {0xf4};
    struct cpu_state before, set, after;
    struct err err = ERR_INIT;
    struct machine m;

    NEEDS_KVM();
    machine_make(&m, code, sizeof(code));
    ck_assert_int_eq(kvm_engine.get_state(m.cpu, &before, &err), 0);
    set = before;
    for (unsigned i = 0; i < CPU_NR_GPRS; i++)
        set.gpr[i] = 0x0101010101010101u * (i + 1);
    set.rflags = CPU_FLAG_ONE | CPU_FLAG_CF | CPU_FLAG_OF;
    set.segment[CPU_FS].base = 0x12340;
    set.lstar = 0xffffffff81000000;
    set.kernel_gs_base = 0x7000;
    set.sysenter_eip = 0x1234;
    set.dr[0] = 0x5000;
    set.cr2 = 0x99;
    set.nmi_blocked = true;
    memset(&set.xsave[160], 0x5a, 16); /* XMM0 */
    ck_assert_msg(kvm_engine.set_state(m.cpu, &set, &err) == 0, "%s", err.message);
    ck_assert_int_eq(kvm_engine.get_state(m.cpu, &after, &err), 0);
    ck_assert_int_eq(memcmp(set.gpr, after.gpr, sizeof(set.gpr)), 0);
    ck_assert_uint_eq(after.rflags, set.rflags);
    ck_assert_int_eq(memcmp(set.segment, after.segment, sizeof(set.segment)), 0);
    ck_assert_uint_eq(after.lstar, set.lstar);
    ck_assert_uint_eq(after.kernel_gs_base, set.kernel_gs_base);
    ck_assert_uint_eq(after.sysenter_eip, set.sysenter_eip);
    ck_assert_uint_eq(after.dr[0], set.dr[0]);
    ck_assert_uint_eq(after.cr2, set.cr2);
    ck_assert_uint_eq(after.pat, before.pat);
    ck_assert(after.nmi_blocked);
    ck_assert_int_eq(memcmp(&set.xsave[160], &after.xsave[160], 16), 0);
    machine_done(&m);
}
END_TEST

START_TEST(the_dirty_log_sees_guest_writes)
{
    /* mov byte [5000h],1; out 11h,al; mov byte [7000h],1; out 11h,al; hlt */
    static const uint8_t code[] = {0xc6, 0x06, 0x00, 0x50, 0x01, 0xe6, 0x11, 0xc6,
                                   0x06, 0x00, 0x70, 0x01, 0xe6, 0x11, 0xf4};
    uint64_t bits[3] = {0};
    struct err err = ERR_INIT;
    struct machine m;

    NEEDS_KVM();
    machine_make(&m, code, sizeof(code));
    ck_assert_int_eq(memory_dirty_start(m.memory, &err), 0);
    ck_assert_msg(kvm_engine.dirty_log_changed(m.vm, &err) == 0, "%s", err.message);
    ck_assert_int_eq(machine_run(&m), CPU_EXIT_KICK);
    ck_assert_int_eq(kvm_engine.dirty_log_sync(m.vm, &err), 0);
    ck_assert_int_eq(memory_dirty_fetch(m.memory, 0, bits), 0);
    ck_assert_uint_eq(bits[0] & (1u << 5 | 1u << 7), 1u << 5);
    ck_assert_int_eq(machine_run(&m), CPU_EXIT_KICK);
    ck_assert_int_eq(kvm_engine.dirty_log_sync(m.vm, &err), 0);
    ck_assert_int_eq(memory_dirty_fetch(m.memory, 0, bits), 0);
    ck_assert_uint_eq(bits[0] & (1u << 5 | 1u << 7), 1u << 7);
    memory_dirty_stop(m.memory);
    ck_assert_int_eq(kvm_engine.dirty_log_changed(m.vm, &err), 0);
    machine_done(&m);
}
END_TEST

static void *kick_much_later(void *context)
{
    struct timespec pause = {.tv_sec = 3};

    nanosleep(&pause, NULL);
    cpu_request(context, CPU_REQUEST_KICK);
    return NULL;
}

START_TEST(a_triple_fault_is_a_shutdown)
{
    /* lidt [cs:1007h] (limit 0); int 3; what lidt loads */
    static const uint8_t code[] = {0x2e, 0x0f, 0x01, 0x1e, 0x07, 0x10, 0xcc, 0, 0, 0, 0, 0, 0};
    struct machine m;
    enum cpu_exit_kind kind;
    pthread_t thread;

    NEEDS_KVM();
    machine_make(&m, code, sizeof(code));
    ck_assert_int_eq(pthread_create(&thread, NULL, kick_much_later, m.cpu), 0);
    kind = machine_run(&m);
    pthread_cancel(thread);
    pthread_join(thread, NULL);
    /* A KVM that emulates real mode may deliver interrupts without a look at the limit, and then
     * runs through zeros for ever. */
    if (kind == CPU_EXIT_KICK)
        printf("SKIP triple fault: KVM here ignores the limit of the interrupt table\n");
    else
        ck_assert(kind == CPU_EXIT_SHUTDOWN || kind == CPU_EXIT_UNSUPPORTED);
    machine_done(&m);
}
END_TEST

/* Whatever the host is, the probe ends with a verdict, and a refusal has a reason. */
START_TEST(the_probe_gives_a_verdict_with_a_reason)
{
    struct err err = ERR_INIT;
    int r = kvm_engine.probe(&err);

    if (r == 0)
        printf("kvm can run a kernel here\n");
    else
        printf("kvm cannot be used here: %s\n", err.message);
    ck_assert(r <= 0);
    ck_assert(r == 0 || err.message[0]);
    if (access("/dev/kvm", F_OK))
        ck_assert_int_eq(r, -2);
}
END_TEST

TEST_MAIN("kvm", tcase_add_test(tcase, ports_are_read_and_written);
          tcase_add_test(tcase, memory_outside_slots_is_the_bus);
          tcase_add_test(tcase, an_interrupt_wakes_a_halted_guest);
          tcase_add_test(tcase, a_kick_ends_an_endless_loop);
          tcase_add_test(tcase, state_survives_a_round_trip);
          tcase_add_test(tcase, the_dirty_log_sees_guest_writes);
          tcase_add_test(tcase, a_triple_fault_is_a_shutdown);
          tcase_add_test(tcase, the_probe_gives_a_verdict_with_a_reason))
