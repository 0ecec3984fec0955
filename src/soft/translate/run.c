/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running translated code: finding blocks, going in, and what each exit asks for.
 *
 *   find ──▶ translated? ──▶ enter ──▶ exit ──▶ LOAD, STORE  cache the page, again; or REST
 *    ▲           │ no                    │      ONE          interpret it, go on behind it
 *    │           ▼                       │      VECTOR       load the registers, again; or REST
 *    └── interpret the block             └────▶ LINK, GOTO, POLL, REST: find
 *
 * Whatever happens to the translations while an exit is served (a store to code, a full cache) is
 * seen in translation.block, which is NULL when it is dead; memory of a dead translation stays
 * until translate_flushed, which is called only between blocks.
 *
 * The page tables' view is checked at every entry: when mmu.epoch has moved, what this class has
 * cached of that half of the address space is forgotten.
 */
#include "soft/translate/translate_internal.h"

#include "base/clock.h"

#include <assert.h>
#include <sched.h>

#define GUARD_EXITS_MAX 16u
#define INSN_ACCESS_MAX 32u
#define PASS_LEAST      (GUEST_PAGE_SIZE / 2)
#define NO_BLOCK        UINT32_MAX /* interp_block.runs: not to be translated (again) */

static bool avx_enabled(const struct soft_cpu *cpu)
{
    uint64_t both = CPU_XCR0_SSE | CPU_XCR0_AVX;

    return (cpu->cr4 & CPU_CR4_OSXSAVE) && (cpu->xcr0 & both) == both;
}

static bool sse_allowed(const struct soft_cpu *cpu)
{
    return !(cpu->cr0 & (CPU_CR0_EM | CPU_CR0_TS)) && (cpu->cr4 & CPU_CR4_OSFXSR) &&
           (cpu->fpu.area.mxcsr & 0x1f80) == 0x1f80;
}

/* May vector (and x87) code of this translation run with the registers loaded? */
static bool vector_allowed(const struct soft_cpu *cpu, const struct translation *t)
{
    if (t->x87 && !x87_allowed(cpu))
        return false;
    if (!t->vector)
        return true;
    return sse_allowed(cpu) && (!t->avx || avx_enabled(cpu));
}

/* Programs that use vector registers do so between any two exits: loading them again is cheaper
 * than another exit for it. */
static bool vector_again(const struct soft_cpu *cpu)
{
    return cpu->translate->hot->vector_left && cpu->cpl == 3 && sse_allowed(cpu);
}

/* Is any bit set in the upper halves of the YMM registers? */
static bool upper_halves(const struct soft_cpu *cpu)
{
    const uint8_t *bytes = (const uint8_t *)cpu->fpu.area.ymm_high;
    uint64_t any = 0, word;

    for (size_t i = 0; i < sizeof(cpu->fpu.area.ymm_high); i += sizeof(word)) {
        memcpy(&word, bytes + i, sizeof(word));
        any |= word;
    }
    return any;
}

/* Goes in at `code`; returns the exit. */
static uint32_t go_in(struct soft_cpu *cpu, const uint8_t *code, bool vector, bool x87)
{
    struct translate *translate = cpu->translate;
    unsigned number = cpu->mmu.current_class;
    struct translate_hot *hot = translate->hot;
    uint32_t exit;

    __atomic_store_n(&translate->inside, 1, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* the other side's membarrier does the rest */
    view_obey(translate);
    view_sync(cpu);
    if (hot->gs != hot->class_base[number]) {
        hot->gs = hot->class_base[number];
        returns_switch(translate, number);
        __asm__ volatile("wrgsbase %0" : : "r"(hot->gs));
    }
    hot->segment_base[0] = cpu->segment[CPU_FS].base;
    hot->segment_base[1] = cpu->segment[CPU_GS].base;
    hot->smap = !!(cpu->cr4 & CPU_CR4_SMAP);
    hot->enter = (uintptr_t)code;
    returns_enter(translate);
    hot->vector_here = vector;
    hot->vector_left = 0;
    hot->avx_here = vector && avx_enabled(cpu);
    if (x87) {
        x87_load(cpu);
        hot->x87_page = hot->page;
    }
    guard_running = translate;
    if (vector)
        exit = upper_halves(cpu) ? translate->enter_wide(cpu) : translate->enter_vector(cpu);
    else
        exit = translate->enter(cpu);
    translate->where = exit;
    guard_running = NULL;
    if (!hot->x87_absent)
        x87_save(cpu);
    __atomic_store_n(&translate->inside, 0, __ATOMIC_RELEASE);
    cpu->counters.translated_exits++;
    return exit;
}

static void handback_count(struct soft_cpu *cpu, struct translation *t, unsigned op)
{
    cpu->counters.translated_handbacks++;
    cpu->translate->counts.handbacks[translation_ids(t)[op]]++;
}

/* Interprets from operation `op` of the translation's block, which may be dead, to its end. */
static int interpret(struct soft_cpu *cpu, struct translation *t, const struct interp_block *block,
                     unsigned op)
{
    const struct interp_op *first;
    int result;

    assert(block);
    first = &block->ops[op];
    handback_count(cpu, t, op);
    cpu->rip = cpu->translate->hot->page + t->start;
    result = first->run(cpu, first);
    return result == INTERP_LEFT ? SOFT_OK : result;
}

struct visit {
    struct translation *t;
    const uint8_t *code;
    struct translate_link *link; /* to be patched to the next block */
    bool vector, x87;            /* what the last entry loaded, if the next one is to load it too */
    bool done;                   /* find the next block */
    /* The two pages cached last, and by which exit: an instruction whose two accesses meet at one
     * index would drive each other's page out for ever. */
    uint64_t page[2];
    uint32_t exit;
};

/* Is the access misaligned, by an instruction that then faults before it looks at the page? Filling
 * would set a dirty bit ahead of it. */
static bool misaligned(const struct interp_op *op, uint64_t address)
{
    const struct insn *insn;

    if (op->run != op_generic && op->run != op_generic_end)
        return false;
    insn = &op->generic->insn;
    if (!(insn->traits & INSN_TRAIT_ALIGNED))
        return false;
    for (unsigned i = 0; i < insn->nr_operands; i++)
        if (insn->operand[i].kind == INSN_OPERAND_MEM)
            return address & (insn->operand[i].size - 1u);
    return false;
}

/* Is what this access raised what the instruction raises? True of those that have one access, and
 * no other check before it. */
static bool access_alone(struct translation *t, const struct interp_op *op)
{
    if (op->run == op_generic || op->run == op_generic_end)
        return false;
    switch (translation_ids(t)[op->position]) {
    case INSN_MOV:
    case INSN_MOVZX:
    case INSN_MOVSX:
    case INSN_MOVSXD:
    case INSN_CMP:
    case INSN_TEST:
    case INSN_ADD:
    case INSN_SUB:
    case INSN_AND:
    case INSN_OR:
    case INSN_XOR:
        return true;
    default:
        return false;
    }
}

/* What begins here and ends beyond the canonical addresses raises #GP, not #PF. */
static bool ends_canonical(uint64_t address)
{
    return (int64_t)((address + INSN_ACCESS_MAX) << 16) >> 16 ==
           (int64_t)(address + INSN_ACCESS_MAX);
}

/* Is it a string instruction that has at least half a page before it? */
static bool passes(const struct soft_cpu *cpu, const struct interp_op *op)
{
    const struct insn *insn;

    if (op->run != op_generic && op->run != op_generic_end)
        return false;
    insn = &op->generic->insn;
    return (insn->id == INSN_MOVS || insn->id == INSN_STOS) && (insn->prefixes & INSN_PREFIX_REP) &&
           cpu->gpr[CPU_RCX] >= PASS_LEAST / insn->operand[0].size;
}

/* Exits LOAD and STORE: false: interpret; *ret_fault: view_fill. */
static bool fill(struct soft_cpu *cpu, struct visit *visit, uint32_t exit, bool write,
                 bool *ret_fault)
{
    uint64_t page = cpu->translate->hot->address >> GUEST_PAGE_SHIFT;
    const struct interp_op *op =
        &visit->t->block->ops[exit >> TRANSLATE_EXIT_BITS & ((1u << TRANSLATE_OP_BITS) - 1)];
    bool due = seam_due(cpu),
         again = visit->exit >> TRANSLATE_EXIT_BITS == exit >> TRANSLATE_EXIT_BITS &&
                 visit->page[1] == page;

    if (due)
        return true;
    visit->exit = exit;
    visit->page[1] = visit->page[0];
    visit->page[0] = page;
    if (again)
        visit->page[1] = visit->page[0] = UINT64_MAX;
    if (again || (write && misaligned(op, cpu->translate->hot->address)))
        return false;
    return passes(cpu, op) ? view_pass(cpu, write, ret_fault) : view_fill(cpu, write, ret_fault);
}

/* Goes on at operation `op` of visit->t; in a careful translation if that has ranges. False: there
 * is no room for one. */
static bool resume(struct soft_cpu *cpu, struct visit *visit, unsigned op, bool careful)
{
    struct translation *t = visit->t;

    if (t->ranged && (op || careful)) {
        if (!t->careful)
            t->careful = translate_block(cpu, t->block, true);
        t = t->careful;
        if (!t)
            return false;
    }
    visit->t = t;
    visit->code = op ? t->entry + t->offset[op] : t->entry;
    return true;
}

/* From now on straight to the careful translation. */
static void careful_link(struct translate *translate, struct translation *t, unsigned op)
{
    const uint8_t *jump = t->entry + t->careful_jump[op];
    uint8_t *write = translate->code.write + (jump - translate->code.run);

    store_le32(write, (uint32_t)(t->careful->entry + t->careful->offset[op] - (jump + 4)));
}

/* Exit ONE. */
static int interpret_one(struct soft_cpu *cpu, struct visit *visit, unsigned op)
{
    struct translation *t = visit->t;
    const struct interp_op *single = t->single;
    int result;

    while (single->position != op)
        single += 2;
    handback_count(cpu, t, op);
    cpu->rip = cpu->translate->hot->page + t->start;
    result = single->run(cpu, single);
    visit->done = true;
    if (result)
        return result == INTERP_LEFT ? SOFT_OK : result;
    if (t->block && !cpu->end_block && op + 1u < t->nr_ops && cpu->mmu.tag[0] != MMU_TAG_NEVER) {
        if (!resume(cpu, visit, op + 1, false))
            return interpret(cpu, t, t->block, op + 1);
        visit->done = false;
    }
    return SOFT_OK;
}

/* An exit GUARD costs a signal. A block that has many works on addresses of which the flat tables
 * cannot tell which is which: its next translation does without. */
static void guarded(struct soft_cpu *cpu, struct translation *t)
{
    if (++t->nr_guard_exits < GUARD_EXITS_MAX || !t->block)
        return;
    t->block->exact = true;
    translate_block_killed(cpu, t->block);
}

/* Generated code has seen that something is pending. */
static void polled(struct soft_cpu *cpu)
{
    returns_kicked(cpu->translate);
    returns_poll(cpu->translate);
    links_stable(cpu);
    window_poll(cpu);
}

/* A kernel's start is most of what was ever decoded, and does not run again: what goes on running
 * is soon translated again, the rest is given back. */
static void settle(struct soft_cpu *cpu)
{
    struct translate *translate = cpu->translate;

    if (LIKELY(!translate->settle_at) || clock_monotonic_ns() < translate->settle_at)
        return;
    translate->settle_at = 0;
    cache_flush(cpu);
}

/* An access that the host has stopped. */
static int serve_guard(struct soft_cpu *cpu, struct visit *visit, uint32_t exit)
{
    struct translate *translate = cpu->translate;
    struct translation *t = visit->t;
    struct interp_block *block = t->block;
    unsigned op = exit >> TRANSLATE_EXIT_BITS & ((1u << TRANSLATE_OP_BITS) - 1);
    bool window = block->key & CACHE_KEY_WINDOW, again;
    enum window_result result = window ? window_fault(cpu, exit) : WINDOW_INTERPRET;

    if (result == WINDOW_AGAIN && t->block) {
        visit->done = false;
        visit->code = t->entry + t->offset[op];
        return SOFT_OK;
    }
    cpu->gpr[CPU_RSP] += (uint64_t)(8 * translation_rsp_pending(t)[op]);
    again = !window && seam_crossed(translate);
    if (again && t->block && resume(cpu, visit, op, false)) {
        visit->done = false;
        return SOFT_OK;
    }
    if (result == WINDOW_FAULT && access_alone(t, &block->ops[op]) &&
        ends_canonical(translate->hot->address)) {
        cpu->rip = translate->hot->page + t->start;
        return interp_leave_fault(cpu, &block->ops[op], SOFT_FAULT);
    }
    if (!again && result == WINDOW_INTERPRET)
        guarded(cpu, t);
    return interpret(cpu, t, block, op);
}

static int serve(struct soft_cpu *cpu, struct visit *visit, uint32_t exit)
{
    struct translate *translate = cpu->translate;
    struct translation *t = translate->table[exit >> TRANSLATE_SHIFT];
    unsigned op = exit >> TRANSLATE_EXIT_BITS & ((1u << TRANSLATE_OP_BITS) - 1);
    enum translate_exit kind = (enum translate_exit)(exit & ((1u << TRANSLATE_EXIT_BITS) - 1));
    struct interp_block *block = t->block;
    bool fault = false;

    translate->counts.exits[kind]++;
    visit->t = t;
    visit->done = true;
    if (kind != TRANSLATE_EXIT_VECTOR)
        visit->vector = visit->x87 = false;
    switch (kind) {
    case TRANSLATE_EXIT_LINK:
        visit->link = &t->link[op];
        cpu->rip = translate->hot->page + (uint64_t)visit->link->target;
        return SOFT_OK;
    case TRANSLATE_EXIT_GOTO:
        cpu->rip = translate->hot->address;
        if (__atomic_load_n(&translate->hot->pending, __ATOMIC_RELAXED))
            polled(cpu);
        return SOFT_OK;
    case TRANSLATE_EXIT_POLL:
        cpu->rip = translate->hot->page + t->start + block->ops[op].offset;
        polled(cpu);
        return SOFT_OK;
    case TRANSLATE_EXIT_ONE:
        return interpret_one(cpu, visit, op);
    case TRANSLATE_EXIT_LOAD:
    case TRANSLATE_EXIT_STORE:
        visit->done = !fill(cpu, visit, exit, kind == TRANSLATE_EXIT_STORE, &fault);
        if (fault && access_alone(t, &block->ops[op]) && ends_canonical(translate->hot->address)) {
            cpu->rip = translate->hot->page + t->start;
            return interp_leave_fault(cpu, &block->ops[op], SOFT_FAULT);
        }
        break;
    case TRANSLATE_EXIT_VECTOR:
        visit->done = !vector_allowed(cpu, t);
        break;
    case TRANSLATE_EXIT_CAREFUL:
        visit->done = seam_due(cpu);
        break;
    case TRANSLATE_EXIT_PAUSE:
        /* A lock's holder may wait for this processor. */
        translate->hot->pauses = TRANSLATE_PAUSES;
        sched_yield();
        visit->done = false;
        break;
    case TRANSLATE_EXIT_GUARD:
        return serve_guard(cpu, visit, exit);
    case TRANSLATE_EXIT_REST: /* jump_miss, perhaps */
        if (__atomic_load_n(&translate->hot->pending, __ATOMIC_RELAXED))
            polled(cpu);
        break;
    default:
        break;
    }
    /* A page walk sets accessed bits: that too is a write which may hit this block. */
    if (!visit->done && t->block && resume(cpu, visit, op, kind == TRANSLATE_EXIT_CAREFUL)) {
        if (kind == TRANSLATE_EXIT_CAREFUL)
            careful_link(translate, t, op);
        return SOFT_OK;
    }
    visit->done = true;
    return interpret(cpu, t, block, op);
}

/* From one translation through whatever is linked to it, until the next block is to be found. */
static int visit_run(struct soft_cpu *cpu, struct visit *visit)
{
    int result = SOFT_OK;

    visit->code = visit->t->entry;
    visit->done = false;
    visit->link = NULL;
    visit->vector = visit->x87 = false;
    cpu->translate->hot->page = cpu->rip & ~GUEST_PAGE_MASK;
    while (!visit->done && !result) {
        struct translation *t = visit->t;

        if (UNLIKELY(t->vector || t->x87) && !vector_allowed(cpu, t)) {
            unsigned op = 0;

            while (op + 1u < t->nr_ops && t->entry + t->offset[op] != visit->code)
                op++;
            visit->done = true;
            return interpret(cpu, t, t->block, op);
        }
        visit->vector |= t->vector || vector_again(cpu);
        visit->x87 |= t->x87;
        result = serve(cpu, visit, go_in(cpu, visit->code, visit->vector, visit->x87));
    }
    return result;
}

/* The translation of a block, made if it is worth it. */
static struct translation *translation_of(struct soft_cpu *cpu, struct interp_block *block)
{
    if (LIKELY(block->translation))
        return block->translation;
    /* A stale block, which the jump cache may still name, leaves by itself when it is run. */
    if (block->stale || (block->key & ~(CACHE_KEY_USER | CACHE_KEY_WINDOW)) != INSN_MODE_64 ||
        block->runs == NO_BLOCK)
        return NULL;
    if (block->runs++ < cpu->translate->patience)
        return NULL;
    block = cache_extend(cpu, block);
    block->translation = translate_block(cpu, block, false);
    if (!block->translation && !cpu->translate->full)
        block->runs = NO_BLOCK;
    return block->translation;
}

static int find(struct soft_cpu *cpu, struct interp_block **ret)
{
    uint64_t linear = cpu->rip;
    const struct interp_jump *jump;

    if (cpu->code_mode != INSN_MODE_64)
        return cache_find(cpu, false, ret);
    jump = cache_jump(cpu, linear);
    if (LIKELY(jump->linear == linear && jump->context == cache_context(cpu))) {
        *ret = jump->block;
        return SOFT_OK;
    }
    return cache_find(cpu, false, ret);
}

static bool attention_due(const struct soft_cpu *cpu)
{
    return cpu->end_block || cpu_peek_requests(&cpu->cpu);
}

/* Right behind an STI: nothing is delivered before the next instruction. (That RIP has come there
 * in another way is possible; it waits for an instruction then, too.) */
static void shadow_take(struct soft_cpu *cpu)
{
    struct translate_hot *hot = cpu->translate->hot;

    if (LIKELY(cpu->rip != hot->shadow))
        return;
    hot->shadow = 0;
    cpu->interrupt_shadow = true;
}

int translate_execute(struct soft_cpu *cpu)
{
    struct translate *translate = cpu->translate;
    struct visit visit = {0};
    int result;

    if (__atomic_load_n(&translate->hot->pending, __ATOMIC_RELAXED)) {
        returns_kicked(translate);
        if (cpu_peek_requests(&cpu->cpu)) /* came before pending was cleared */
            return SOFT_OK;
    }
    translate->where = 0;
    settle(cpu);
    interp_flags_load(cpu);
    do {
        uint32_t generation = translate->generation;
        struct translate_link *link = visit.link;
        struct translation *from = visit.t, *t;
        struct interp_block *block;

        visit.link = NULL;
        if (UNLIKELY(translate->full))
            translate_flushed(cpu);
        window_enter(cpu);
        t = jumps_find(cpu);
        if (!t) {
            result = find(cpu, &block);
            if (result)
                break;
            t = translate_possible(cpu) ? translation_of(cpu, block) : NULL;
            if (!t) {
                translate->where = 0;
                result = block->ops[0].run(cpu, &block->ops[0]);
                if (result == INTERP_LEFT)
                    result = SOFT_OK;
                continue;
            }
            page_seen(translate, t, cpu->rip);
            if (!link || link->far)
                jumps_add(cpu, t);
        }
        if (link && generation == translate->generation)
            link_make(cpu, from, link, t);
        visit.t = t;
        result = visit_run(cpu, &visit);
    } while (!result && !attention_due(cpu));
    interp_flags_store(cpu);
    shadow_take(cpu);
    return result;
}
