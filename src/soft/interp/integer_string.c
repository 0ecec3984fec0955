/* SPDX-License-Identifier: Apache-2.0 */
/*
 * String instructions: MOVS, STOS, LODS, CMPS, SCAS, with and without REP.
 *
 * Each iteration completes before the next begins: registers are committed after every element (or
 * run of elements), so a fault, an interrupt or a request finds a state from which the instruction
 * goes on. MOVS and STOS move runs inside one page by the host's own copy; the rest goes element
 * by element.
 *
 * Source: SDM 2B, the pages of the instructions; SDM 1 7.3.9.
 */
#include "soft/interp/integer.h"

/* Elements between two looks at the requests. */
#define STRING_BATCH 256u

struct string {
    struct soft_cpu *cpu;
    const struct insn *insn;
    unsigned size;
    uint64_t mask; /* of addresses and count */
    int64_t step;
};

static void string_init(struct string *s, struct soft_cpu *cpu, const struct insn *insn)
{
    s->cpu = cpu;
    s->insn = insn;
    s->size = insn->operand[0].size;
    s->mask = integer_mask(insn->address_size);
    s->step = cpu->rflags & CPU_FLAG_DF ? -(int64_t)s->size : (int64_t)s->size;
}

static uint64_t source(const struct string *s)
{
    return s->cpu->gpr[CPU_RSI] & s->mask;
}

static uint64_t destination(const struct string *s)
{
    return s->cpu->gpr[CPU_RDI] & s->mask;
}

static void advance(struct string *s, unsigned reg, uint64_t elements)
{
    integer_gpr_write(s->cpu, reg, s->insn->address_size,
                      s->cpu->gpr[reg] + (uint64_t)s->step * elements);
}

static enum soft_result load_source(struct string *s, uint64_t *ret)
{
    *ret = 0;
    return mmu_load(s->cpu, s->insn->mem.segment, source(s), ret, s->size);
}

static enum soft_result load_destination(struct string *s, uint64_t *ret)
{
    *ret = 0;
    return mmu_load(s->cpu, CPU_ES, destination(s), ret, s->size);
}

static enum soft_result step_movs(struct string *s)
{
    uint64_t value;
    enum soft_result result = load_source(s, &value);

    if (!result)
        result = mmu_store(s->cpu, CPU_ES, destination(s), &value, s->size);
    if (result)
        return result;
    advance(s, CPU_RSI, 1);
    advance(s, CPU_RDI, 1);
    return SOFT_OK;
}

static enum soft_result step_stos(struct string *s)
{
    enum soft_result result = mmu_store(s->cpu, CPU_ES, destination(s), &s->cpu->gpr[CPU_RAX],
                                        s->size);

    if (!result)
        advance(s, CPU_RDI, 1);
    return result;
}

static enum soft_result step_lods(struct string *s)
{
    uint64_t value;
    enum soft_result result = load_source(s, &value);

    if (result)
        return result;
    integer_gpr_write(s->cpu, CPU_RAX, s->size, value);
    advance(s, CPU_RSI, 1);
    return SOFT_OK;
}

/* The status flags of a - b. */
static void compare_flags(struct string *s, uint64_t a, uint64_t b)
{
    unsigned shift = 64 - 8 * s->size;
    uint64_t mask = integer_mask(s->size);
    uint64_t difference = (a - b) & mask;
    uint64_t overflow = ((a ^ b) & (a ^ difference)) << shift >> 63;
    uint64_t flags = s->cpu->rflags & ~CPU_FLAGS_STATUS;

    flags |= a < b ? CPU_FLAG_CF : 0;
    flags |= __builtin_parity((unsigned)difference & 0xff) ? 0 : CPU_FLAG_PF;
    flags |= (a ^ b ^ difference) & 0x10 ? CPU_FLAG_AF : 0;
    flags |= difference ? 0 : CPU_FLAG_ZF;
    flags |= difference << shift >> 63 ? CPU_FLAG_SF : 0;
    flags |= overflow ? CPU_FLAG_OF : 0;
    s->cpu->rflags = flags;
}

static enum soft_result step_cmps(struct string *s)
{
    uint64_t a, b;
    enum soft_result result = load_source(s, &a);

    if (!result)
        result = load_destination(s, &b);
    if (result)
        return result;
    compare_flags(s, a, b);
    advance(s, CPU_RSI, 1);
    advance(s, CPU_RDI, 1);
    return SOFT_OK;
}

static enum soft_result step_scas(struct string *s)
{
    uint64_t b;
    enum soft_result result = load_destination(s, &b);

    if (result)
        return result;
    compare_flags(s, integer_gpr(s->cpu, CPU_RAX, s->size), b);
    advance(s, CPU_RDI, 1);
    return SOFT_OK;
}

typedef enum soft_result string_step_fn(struct string *s);

/* Host memory for up to `elements` whole elements upwards from segment:offset in one page; 0 when
 * it has to go element by element (also where that will fault). */
static uint64_t run_at(struct string *s, unsigned segment, uint64_t offset, enum mmu_access access,
                       uint64_t elements, void **ret)
{
    unsigned length;
    gva_t linear;

    if (mmu_linear(s->cpu, segment, offset, s->size, access, &linear) ||
        mmu_host_range(s->cpu, linear, access, ret, &length) || !*ret)
        return 0;
    return MIN(elements, length / s->size);
}

static bool runs_possible(const struct string *s)
{
    return s->step > 0 && s->cpu->flat_segments && !s->cpu->debug_active;
}

static uint64_t run_movs(struct string *s, uint64_t elements)
{
    uint8_t *from, *to;
    void *host;

    elements = run_at(s, s->insn->mem.segment, source(s), MMU_READ, elements, &host);
    if (!elements)
        return 0;
    from = host;
    elements = run_at(s, CPU_ES, destination(s), MMU_WRITE, elements, &host);
    if (!elements)
        return 0;
    to = host;
    /* A destination just above the source repeats what was written: element by element. */
    if (to > from && (uint64_t)(to - from) < elements * s->size)
        return 0;
    memmove(to, from, elements * s->size);
    mmu_written_host(s->cpu, to, (unsigned)(elements * s->size));
    advance(s, CPU_RSI, elements);
    advance(s, CPU_RDI, elements);
    return elements;
}

static uint64_t run_stos(struct string *s, uint64_t elements)
{
    uint64_t value = s->cpu->gpr[CPU_RAX];
    uint8_t *to;
    void *host;

    elements = run_at(s, CPU_ES, destination(s), MMU_WRITE, elements, &host);
    if (!elements)
        return 0;
    to = host;
    if (s->size == 1 || value == 0)
        memset(to, (int)(value & 0xff), elements * s->size);
    else
        for (uint64_t i = 0; i < elements; i++)
            memcpy(to + i * s->size, &value, s->size);
    mmu_written_host(s->cpu, to, (unsigned)(elements * s->size));
    advance(s, CPU_RDI, elements);
    return elements;
}

typedef uint64_t string_run_fn(struct string *s, uint64_t elements);

/* compares: REPE and REPNE end on the zero flag. */
static enum soft_result repeat(struct string *s, string_step_fn *step, string_run_fn *run,
                               bool compares)
{
    struct soft_cpu *cpu = s->cpu;
    bool while_equal = s->insn->prefixes & INSN_PREFIX_REP;
    uint64_t count = cpu->gpr[CPU_RCX] & s->mask, done;
    enum soft_result result;

    for (unsigned batch = 0; count; batch++) {
        done = run && runs_possible(s) ? run(s, count) : 0;
        if (!done) {
            result = step(s);
            if (result)
                return result;
            done = 1;
        } else {
            batch = STRING_BATCH;
        }
        count -= done;
        integer_gpr_write(cpu, CPU_RCX, s->insn->address_size, count);
        if (compares && !!(cpu->rflags & CPU_FLAG_ZF) != while_equal)
            break;
        if (!count)
            break;
        if (cpu->debug_active)
            return SOFT_REPEAT;
        if (batch >= STRING_BATCH) {
            batch = 0;
            if (cpu_peek_requests(&cpu->cpu) || cpu->end_block)
                return SOFT_REPEAT;
        }
    }
    return SOFT_OK;
}

static enum soft_result string(struct soft_cpu *cpu, const struct insn *insn, string_step_fn *step,
                               string_run_fn *run, bool compares)
{
    struct string s;

    string_init(&s, cpu, insn);
    if (insn->prefixes & (INSN_PREFIX_REP | INSN_PREFIX_REPNE))
        return repeat(&s, step, run, compares);
    return step(&s);
}

static enum soft_result handle_movs(struct soft_cpu *cpu, const struct insn *insn)
{
    return string(cpu, insn, step_movs, run_movs, false);
}

static enum soft_result handle_stos(struct soft_cpu *cpu, const struct insn *insn)
{
    return string(cpu, insn, step_stos, run_stos, false);
}

static enum soft_result handle_lods(struct soft_cpu *cpu, const struct insn *insn)
{
    return string(cpu, insn, step_lods, NULL, false);
}

static enum soft_result handle_cmps(struct soft_cpu *cpu, const struct insn *insn)
{
    return string(cpu, insn, step_cmps, NULL, true);
}

static enum soft_result handle_scas(struct soft_cpu *cpu, const struct insn *insn)
{
    return string(cpu, insn, step_scas, NULL, true);
}

const struct soft_handler integer_handlers_string[] = {
    {INSN_MOVS, handle_movs}, {INSN_STOS, handle_stos}, {INSN_LODS, handle_lods},
    {INSN_CMPS, handle_cmps}, {INSN_SCAS, handle_scas}, {INSN_NONE, NULL},
};
