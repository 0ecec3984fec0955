/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One guest that moves between engines in the middle of its work: every state that one engine gives
 * must be taken by the other, and the result must be that of a run on one engine alone. 64-bit
 * mode, ring 3 (where every KVM runs natively), paging, SSE registers, flags and debug registers
 * carried across.
 */
#include "cpu/cpuid.h"
#include "kvm/kvm.h"
#include "soft/soft.h"
#include "testing.h"

#include <string.h>
#include <unistd.h>

#define CODE   0x8000
#define TABLE  0x1000 /* PML4, PDPT, PD: one 2 MiB page, identity */
#define STACK  0x7000
#define ROUNDS 24

struct guest {
    struct memory *memory;
    struct cpuid_policy policy;
    struct cpu_bus bus;
    const struct cpu_engine *engine;
    struct cpu_vm *vm;
    struct cpu *cpu;
    uint32_t written[ROUNDS + 1];
    unsigned nr_written;
};

/* loop: imul eax, eax, 1664525; add eax, 1013904223; adc edx, ecx; paddd xmm0, xmm0 (after movd);
 * the sum of it goes to port 10h, and again. */
static const uint8_t code[] = {
    0x69, 0xc0, 0x0d, 0x66, 0x19, 0x00, /* imul eax, eax, 1664525 */
    0x05, 0x5f, 0xf3, 0x6e, 0x3c,       /* add eax, 1013904223 */
    0x11, 0xca,                         /* adc edx, ecx */
    0x66, 0x0f, 0x6e, 0xc8,             /* movd xmm1, eax */
    0x66, 0x0f, 0xfe, 0xc1,             /* paddd xmm0, xmm1 */
    0x66, 0x0f, 0x7e, 0xc3,             /* movd ebx, xmm0 */
    0x31, 0xd3,                         /* xor ebx, edx */
    0x50, 0x89, 0xd8, 0xe7, 0x10, 0x58, /* push eax; mov eax, ebx; out 10h, eax; pop eax */
    0xeb, 0xdd,                         /* jmp code */
};

static void io_read(void *context, unsigned cpu, uint16_t port, void *data, unsigned size)
{
    (void)context, (void)cpu, (void)port, (void)data, (void)size;
}

static void io_write(void *context, unsigned cpu, uint16_t port, const void *data, unsigned size)
{
    struct guest *g = context;

    (void)cpu;
    if (port == 0x10 && size == 4 && g->nr_written < ROUNDS)
        memcpy(&g->written[g->nr_written++], data, 4);
    cpu_request(g->cpu, CPU_REQUEST_KICK);
}

static void mmio_read(void *context, unsigned cpu, gpa_t gpa, void *data, unsigned size)
{
    (void)context, (void)cpu, (void)gpa, (void)data, (void)size;
}

static void mmio_write(void *context, unsigned cpu, gpa_t gpa, const void *data, unsigned size)
{
    (void)context, (void)cpu, (void)gpa, (void)data, (void)size;
}

static void engine_enter(struct guest *g, const struct cpu_engine *engine,
                         const struct cpu_state *state)
{
    struct cpu_vm_config config = {.nr_cpus = 1,
                                   .memory = g->memory,
                                   .bus = &g->bus,
                                   .cpuid = &g->policy,
                                   .tsc_hz = cpu_host_tsc_hz()};
    struct err err = ERR_INIT;

    g->engine = engine;
    ck_assert_msg(engine->vm_new(&config, &g->vm, &err) == 0, "%s", err.message);
    ck_assert_msg(engine->cpu_new(g->vm, 0, &g->cpu, &err) == 0, "%s", err.message);
    ck_assert_msg(engine->set_state(g->cpu, state, &err) == 0, "%s", err.message);
}

static void engine_leave(struct guest *g, struct cpu_state *ret)
{
    struct err err = ERR_INIT;

    ck_assert_msg(g->engine->get_state(g->cpu, ret, &err) == 0, "%s", err.message);
    g->engine->cpu_free(g->cpu);
    g->engine->vm_free(g->vm);
}

static void guest_make(struct guest *g, struct cpu_state *state)
{
    struct cpuid_options options = {.nr_cpus = 1, .tsc_hz = cpu_host_tsc_hz()};
    struct cpu_segment flat = {.limit = 0xffffffff, .selector = 0x1b, .attributes = 0xc0f3};
    const uint64_t tables[] = {TABLE + 0x1007, TABLE + 0x2007, 0x87};

    memset(g, 0, sizeof(*g));
    cpuid_policy_init(&g->policy, &options);
    g->bus = (struct cpu_bus){g, io_read, io_write, mmio_read, mmio_write};
    ck_assert_int_eq(memory_new(&g->memory, NULL), 0);
    ck_assert_int_eq(memory_add_ram(g->memory, 0, 4 * MIB, NULL), 0);
    memory_write(g->memory, CODE, code, sizeof(code));
    for (unsigned i = 0; i < 3; i++)
        memory_write(g->memory, TABLE + i * GUEST_PAGE_SIZE, &tables[i], sizeof(tables[i]));
    cpu_state_reset(state, 0);
    for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++)
        state->segment[i] = flat;
    state->segment[CPU_CS].selector = 0x23;
    state->segment[CPU_CS].attributes = 0xa0fb;
    state->ldtr.attributes = CPU_SEGMENT_UNUSABLE;
    state->cr0 = CPU_CR0_PE | CPU_CR0_MP | CPU_CR0_ET | CPU_CR0_NE | CPU_CR0_WP | CPU_CR0_PG;
    state->cr3 = TABLE;
    state->cr4 = CPU_CR4_PAE | CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT;
    state->efer = CPU_EFER_LME | CPU_EFER_LMA;
    state->rip = CODE;
    state->rflags |= CPU_FLAG_IOPL;
    state->gpr[CPU_RSP] = STACK;
    state->gpr[CPU_RAX] = 12345;
    state->gpr[CPU_RCX] = 0x9e3779b9;
    state->dr[1] = 0x1234;
    state->star = 0x0010000800000000;
}

/* Runs ROUNDS rounds, changing to engines[round % 2] before each. */
static void guest_run(struct guest *g, const struct cpu_engine *const engines[2],
                      struct cpu_state *state)
{
    struct cpu_exit exit;
    struct err err = ERR_INIT;

    for (unsigned round = 0; round < ROUNDS; round++) {
        engine_enter(g, engines[round % 2], state);
        ck_assert_msg(g->engine->run(g->cpu, &exit, &err) == 0, "%s", err.message);
        ck_assert_int_eq(exit.kind, CPU_EXIT_KICK);
        ck_assert_uint_eq(g->nr_written, round + 1);
        engine_leave(g, state);
    }
    memory_free(g->memory);
}

START_TEST(a_guest_moves_between_engines)
{
    const struct cpu_engine *const alone[2] = {&soft_engine, &soft_engine};
    const struct cpu_engine *const both[2] = {&soft_engine, &kvm_engine};
    struct cpu_state one, other;
    struct guest g, h;

    TEST_NEEDS(access("/dev/kvm", R_OK | W_OK) == 0, "/dev/kvm is missing");
    guest_make(&g, &one);
    guest_run(&g, alone, &one);
    guest_make(&h, &other);
    guest_run(&h, both, &other);
    ck_assert_int_eq(memcmp(g.written, h.written, sizeof(g.written)), 0);
    ck_assert_int_eq(memcmp(one.gpr, other.gpr, sizeof(one.gpr)), 0);
    ck_assert_uint_eq(one.rip, other.rip);
    /* Not IOPL: a KVM without hardware virtualization does not give it back. (Ports stay allowed by
     * the I/O bitmap of zeros that TR finds.) */
    ck_assert_uint_eq(one.rflags & CPU_FLAGS_STATUS, other.rflags & CPU_FLAGS_STATUS);
    ck_assert_uint_eq(other.cr0, one.cr0);
    ck_assert_uint_eq(other.cr4, one.cr4);
    ck_assert_uint_eq(other.dr[1], 0x1234);
    ck_assert_uint_eq(other.star, 0x0010000800000000);
    ck_assert_int_eq(memcmp(&one.xsave[160], &other.xsave[160], 32), 0);
}
END_TEST

TEST_MAIN("engines", tcase_add_test(tcase, a_guest_moves_between_engines))
