/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only ring 0 and real mode do, against /dev/kvm: the same small guests (kvm_guests.S) run on
 * both engines through cpu/cpu.h and have to leave the same registers, segments, control registers
 * and memory. Where KVM emulates ring 0 in software, its emulator is the oracle: what it lacks
 * does not stand in the guests (of real mode BOUND; task switches, virtual-8086 mode), or is a case
 * of its own that is skipped there (INT n, IRET, LAR, LSL, ARPL and ring 3 of protected mode).
 */
#include "cpu/cpuid.h"
#include "kvm/kvm.h"
#include "soft/soft.h"

#include "../unit/testing.h"

#include "base/util.h"

#include <string.h>
#include <unistd.h>

#define GUEST_RAM  (1 * MIB)
#define GUEST_LOAD 0x1000u
#define GUEST_LOG  0x4000u
#define GUEST_ALL  0x3fd0u /* the guest's own switch: the parts that KVM needs hardware for */
#define PORT_END   0x11

extern const uint8_t guest_real[], guest_real_end[];
extern const uint8_t guest_protected[], guest_protected_end[];

struct outcome {
    struct cpu_state state;
    struct cpu_exit exit;
    uint8_t memory[0x9000];
};

struct machine {
    struct cpu *cpu;
};

static void io_read(void *context, unsigned cpu, uint16_t port, void *data, unsigned size)
{
    (void)context, (void)cpu, (void)port;
    memset(data, 0xff, size);
}

static void io_write(void *context, unsigned cpu, uint16_t port, const void *data, unsigned size)
{
    struct machine *m = context;

    (void)cpu, (void)data, (void)size;
    if (port == PORT_END)
        cpu_request(m->cpu, CPU_REQUEST_KICK);
}

static void mmio_read(void *context, unsigned cpu, gpa_t gpa, void *data, unsigned size)
{
    (void)context, (void)cpu, (void)gpa;
    memset(data, 0xff, size);
}

static void mmio_write(void *context, unsigned cpu, gpa_t gpa, const void *data, unsigned size)
{
    (void)context, (void)cpu, (void)gpa, (void)data, (void)size;
}

static void run_on(const struct cpu_engine *engine, const uint8_t *code, size_t length, bool all,
                   struct outcome *ret)
{
    struct cpuid_options options = {.nr_cpus = 1, .tsc_hz = cpu_host_tsc_hz()};
    struct machine m = {.cpu = NULL};
    struct cpu_bus bus = {.context = &m,
                          .io_read = io_read,
                          .io_write = io_write,
                          .mmio_read = mmio_read,
                          .mmio_write = mmio_write};
    struct cpu_vm_config config = {.nr_cpus = 1, .tsc_hz = options.tsc_hz, .bus = &bus};
    struct cpuid_policy policy;
    struct memory *memory;
    struct cpu_vm *vm;
    struct err err = ERR_INIT;

    cpuid_policy_init(&policy, &options);
    ck_assert_int_eq(memory_new(&memory, &err), 0);
    ck_assert_int_eq(memory_add_ram(memory, 0, GUEST_RAM, &err), 0);
    ck_assert_int_eq(memory_write(memory, GUEST_LOAD, code, length), 0);
    ck_assert_int_eq(memory_write(memory, GUEST_ALL, &all, sizeof(all)), 0);
    config.memory = memory;
    config.cpuid = &policy;
    ck_assert_msg(engine->vm_new(&config, &vm, &err) == 0, "%s", err.message);
    ck_assert_msg(engine->cpu_new(vm, 0, &m.cpu, &err) == 0, "%s", err.message);
    ck_assert_int_eq(engine->get_state(m.cpu, &ret->state, &err), 0);
    memset(ret->state.gpr, 0, sizeof(ret->state.gpr));
    ret->state.segment[CPU_CS].selector = 0;
    ret->state.segment[CPU_CS].base = 0;
    ret->state.rip = GUEST_LOAD;
    ck_assert_msg(engine->set_state(m.cpu, &ret->state, &err) == 0, "%s", err.message);
    ck_assert_msg(engine->run(m.cpu, &ret->exit, &err) == 0, "%s", err.message);
    ck_assert_int_eq(engine->get_state(m.cpu, &ret->state, &err), 0);
    memory_read(memory, 0, ret->memory, sizeof(ret->memory));
    engine->cpu_free(m.cpu);
    engine->vm_free(vm);
    memory_free(memory);
}

static void compare_segments(const struct cpu_state *kvm, const struct cpu_state *soft)
{
    for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++) {
        const struct cpu_segment *a = &kvm->segment[i], *b = &soft->segment[i];

        ck_assert_msg(a->selector == b->selector && a->base == b->base,
                      "segment %u: kvm %x at 0x%llx, soft %x at 0x%llx", i, a->selector,
                      (unsigned long long)a->base, b->selector, (unsigned long long)b->base);
        if (a->attributes & CPU_SEGMENT_UNUSABLE || b->attributes & CPU_SEGMENT_UNUSABLE)
            continue;
        ck_assert_msg(a->limit == b->limit, "segment %u: limits 0x%x and 0x%x", i, a->limit,
                      b->limit);
    }
    ck_assert_uint_eq(kvm->tr.selector, soft->tr.selector);
    ck_assert_uint_eq(kvm->gdtr.base, soft->gdtr.base);
    ck_assert_uint_eq(kvm->idtr.limit, soft->idtr.limit);
}

static void compare_on_both(const uint8_t *code, size_t length, bool all)
{
    static struct outcome kvm, soft;

    run_on(&soft_engine, code, length, all, &soft);
    ck_assert_int_eq(soft.exit.kind, CPU_EXIT_KICK);
    /* The guest went all its way. */
    ck_assert_uint_ne(load_le32(soft.memory + GUEST_LOG + 40), 0);
    run_on(&kvm_engine, code, length, all, &kvm);
    TEST_NEEDS(kvm.exit.kind != CPU_EXIT_UNSUPPORTED, "KVM here cannot emulate the guest");
    for (unsigned i = 0; i < sizeof(kvm.memory); i += 4)
        ck_assert_msg(load_le32(kvm.memory + i) == load_le32(soft.memory + i),
                      "memory 0x%x: kvm %x, soft %x", i, load_le32(kvm.memory + i),
                      load_le32(soft.memory + i));
    ck_assert_int_eq(kvm.exit.kind, CPU_EXIT_KICK);
    for (unsigned i = 0; i < CPU_NR_GPRS; i++)
        ck_assert_msg(kvm.state.gpr[i] == soft.state.gpr[i], "r%u: kvm %llx, soft %llx", i,
                      (unsigned long long)kvm.state.gpr[i], (unsigned long long)soft.state.gpr[i]);
    ck_assert_uint_eq(kvm.state.rip, soft.state.rip);
    ck_assert_uint_eq(kvm.state.rflags, soft.state.rflags);
    ck_assert_uint_eq(kvm.state.cr0, soft.state.cr0);
    compare_segments(&kvm.state, &soft.state);
}

#define NEEDS_KVM() TEST_NEEDS(access("/dev/kvm", R_OK | W_OK) == 0, "/dev/kvm is missing")

START_TEST(real_mode)
{
    NEEDS_KVM();
    compare_on_both(guest_real, (size_t)(guest_real_end - guest_real), false);
}
END_TEST

START_TEST(protected_mode)
{
    NEEDS_KVM();
    compare_on_both(guest_protected, (size_t)(guest_protected_end - guest_protected), false);
}
END_TEST

START_TEST(protected_mode_events)
{
    NEEDS_KVM();
    compare_on_both(guest_protected, (size_t)(guest_protected_end - guest_protected), true);
}
END_TEST

TEST_MAIN("kvm_guests", tcase_add_test(tcase, real_mode); tcase_add_test(tcase, protected_mode);
          tcase_add_test(tcase, protected_mode_events);)
