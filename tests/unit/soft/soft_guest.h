/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest on the software engine, through the engine's own interface: RAM from address 0, up to two
 * vCPUs, a bus on which nothing answers. For tests that run small programs (single parts without an
 * engine: cpu_fixture.h).
 */
#ifndef LODGE_TESTS_SOFT_GUEST_H
#define LODGE_TESTS_SOFT_GUEST_H

#include "cpu/cpuid.h"
#include "soft/soft.h"
#include "testing.h"

#define GUEST_CPUS 2u

struct guest {
    struct memory *memory;
    struct cpuid_policy policy;
    struct cpu_bus bus;
    struct cpu_vm *vm;
    struct cpu *cpu[GUEST_CPUS];
    unsigned nr_cpus;
};

static inline void guest_io_nothing(void *context, unsigned cpu, uint16_t port, const void *data,
                                    unsigned size)
{
    (void)context, (void)cpu, (void)port, (void)data, (void)size;
}

static inline void guest_mmio_ones(void *context, unsigned cpu, gpa_t gpa, void *data,
                                   unsigned size)
{
    (void)context, (void)cpu, (void)gpa;
    memset(data, 0xff, size);
}

static inline void guest_mmio_nothing(void *context, unsigned cpu, gpa_t gpa, const void *data,
                                      unsigned size)
{
    (void)context, (void)cpu, (void)gpa, (void)data, (void)size;
}

/* irqchip may be NULL. guest_done ends what this began. */
static inline void guest_init(struct guest *g, const char *engine_options, unsigned nr_cpus,
                              uint64_t ram_bytes, const struct cpu_irqchip *irqchip)
{
    struct cpuid_options options = {.nr_cpus = nr_cpus, .tsc_hz = 1000000000};
    struct cpu_vm_config config = {.nr_cpus = nr_cpus,
                                   .tsc_hz = options.tsc_hz,
                                   .options = engine_options,
                                   .irqchip = irqchip};
    struct err err = ERR_INIT;

    memset(g, 0, sizeof(*g));
    ck_assert_uint_le(nr_cpus, GUEST_CPUS);
    g->nr_cpus = nr_cpus;
    cpuid_policy_init(&g->policy, &options);
    ck_assert_int_eq(memory_new(&g->memory, NULL), 0);
    ck_assert_int_eq(memory_add_ram(g->memory, 0, ram_bytes, NULL), 0);
    g->bus = (struct cpu_bus){.io_write = guest_io_nothing,
                              .mmio_read = guest_mmio_ones,
                              .mmio_write = guest_mmio_nothing};
    config.memory = g->memory;
    config.bus = &g->bus;
    config.cpuid = &g->policy;
    ck_assert_msg(!soft_engine.vm_new(&config, &g->vm, &err), "%s", err.message);
    for (unsigned i = 0; i < nr_cpus; i++)
        ck_assert_msg(!soft_engine.cpu_new(g->vm, i, &g->cpu[i], &err), "%s", err.message);
}

static inline void guest_done(struct guest *g)
{
    for (unsigned i = 0; i < g->nr_cpus; i++)
        soft_engine.cpu_free(g->cpu[i]);
    soft_engine.vm_free(g->vm);
    memory_free(g->memory);
}

static inline void guest_put(struct guest *g, gpa_t gpa, const void *bytes, size_t length)
{
    ck_assert_int_eq(memory_write(g->memory, gpa, bytes, length), 0);
}

static inline void guest_put64(struct guest *g, gpa_t gpa, uint64_t value)
{
    guest_put(g, gpa, &value, 8);
}

static inline uint64_t guest_peek64(struct guest *g, gpa_t gpa)
{
    uint64_t value;

    ck_assert_int_eq(memory_read(g->memory, gpa, &value, 8), 0);
    return value;
}

#define GUEST_PROGRAM(g, gpa, ...)                    \
    do {                                              \
        static const uint8_t code_[] = {__VA_ARGS__}; \
        guest_put(g, gpa, code_, sizeof(code_));      \
    } while (0)

/* A program in the assembler's words: its bytes, from `name` to `name_end`. At file scope. */
#define GUEST_TEXT(name, text)                                           \
    extern const uint8_t name[], name##_end[];                           \
    __asm__(".pushsection .rodata\n" #name ":\n" text "\n" #name "_end:" \
            "\n.popsection")

/* 64-bit mode in ring 0 with page tables at 0x1000, running, and no IDT: an exception is
 * CPU_EXIT_SHUTDOWN. */
static inline void guest_long_mode(struct cpu_state *s, unsigned index, uint64_t rip, uint64_t rsp)
{
    cpu_state_reset(s, index);
    s->cr0 = CPU_CR0_PE | CPU_CR0_ET | CPU_CR0_NE | CPU_CR0_WP | CPU_CR0_PG;
    s->cr3 = 0x1000;
    s->cr4 = CPU_CR4_PAE | CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT;
    s->efer = CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE;
    s->segment[CPU_CS] =
        (struct cpu_segment){.limit = 0xffffffff, .attributes = 0xa09b, .selector = 8};
    s->segment[CPU_SS] =
        (struct cpu_segment){.limit = 0xffffffff, .attributes = 0xc093, .selector = 16};
    s->idtr.limit = 0;
    s->rip = rip;
    s->gpr[CPU_RSP] = rsp;
    s->activity = CPU_ACTIVITY_RUNNING;
}

/* Runs to an exit of this kind and gives the state there. */
static inline struct cpu_state guest_run(struct guest *g, unsigned index, enum cpu_exit_kind kind)
{
    struct cpu_state state;
    struct cpu_exit exit;

    ck_assert_int_eq(soft_engine.run(g->cpu[index], &exit, NULL), 0);
    ck_assert_int_eq(exit.kind, kind);
    ck_assert_int_eq(soft_engine.get_state(g->cpu[index], &state, NULL), 0);
    return state;
}

#endif
