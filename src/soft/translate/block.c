/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One block: instructions in order, each copied, or left to the interpreter; then the exits.
 *
 *   entry_far   page = R10 - start
 *   entry       instruction 0 .. n-1, each complete or not begun
 *               jump to the next block
 *   stubs       mov ecx, exit; jmp leave
 *
 * The bytes come from guest memory a second time: when another vCPU has changed them since the
 * block was decoded, its message is waiting, and the block dies before the change may be seen as
 * ordered; a length that no longer agrees gives the translation up.
 */
#include "soft/translate/translator.h"

static uint32_t exit_of(const struct translator *tr, enum translate_exit kind, unsigned field)
{
    return tr->t->number << TRANSLATE_SHIFT | field << TRANSLATE_EXIT_BITS | (uint32_t)kind;
}

void translator_exit(struct translator *tr, uint8_t *patch, enum translate_exit kind,
                     unsigned field)
{
    tr->stub[tr->nr_stubs++] = (struct translator_stub){
        .patch = patch,
        .leave = tr->cpu->translate->leave,
        .exit = exit_of(tr, kind, field),
    };
}

/* Leaves when hot.pending is set: before an instruction that may close a loop. */
static void poll(struct translator *tr)
{
    tr->held = TRANSLATOR_NO_RANGE;
    if (tr->insn.id == INSN_CALL)
        emit_pext(&tr->e, HOST_RCX, HOST_RSP, HOT(call_poll));
    else
        emit_load_hot(&tr->e, HOST_RCX, HOT(go_on));
    translator_leave_if_zero(tr, TRANSLATE_EXIT_POLL);
}

/* Direct jumps backward, also to another page: every loop has one, or an indirect branch. Every
 * CALL, for returns.c. An indirect JMP comes to jump_miss when something is pending, a RET without
 * a CALL to return_miss: they poll. */
static bool may_close_loop(const struct translator *tr)
{
    if (!(tr->insn.traits & INSN_TRAIT_BRANCH))
        return false;
    return tr->insn.id == INSN_CALL ||
           (tr->insn.operand[0].kind == INSN_OPERAND_REL && (int64_t)tr->insn.imm < 0);
}

/* The operation is interpreted alone; what follows it is translated again. */
static void leave_for_one(struct translator *tr, const struct interp_op *op)
{
    struct translate *translate = tr->cpu->translate;
    struct translation *t = tr->t;
    struct interp_op *pair = (void *)(translate->arena + translate->arena_used);

    translate->arena_used += 2 * sizeof(*pair);
    pair[0] = *op;
    pair[1] = (struct interp_op){
        .run = op_end,
        .offset = (uint16_t)(op->offset + op->length),
        .position = (uint16_t)(op->position + 1),
    };
    if (!t->single)
        t->single = pair;
    translator_exit(tr, emit_jump(&tr->e), TRANSLATE_EXIT_ONE, tr->op);
}

#define ISLAND_OVER 2u
#define GOTO_BYTES  20u /* more than translator_goto */

static void undo(struct translator *tr, uint8_t *from, uint8_t held)
{
    translator_undo(tr, from);
    tr->held = held;
}

/* False: nothing may follow. */
static bool op_once(struct translator *tr, const struct interp_op *op, bool last)
{
    uint8_t *start, held;
    bool open = true;

    if (tr->insn.id == INSN_JCC && !last) {
        translator_side(tr);
        return true;
    }
    if (may_close_loop(tr))
        poll(tr);
    start = tr->e.at;
    held = tr->held;
    if (translator_system(tr, last, &open))
        return open;
    undo(tr, start, held);
    if (last && (tr->insn.traits & (INSN_TRAIT_BRANCH | INSN_TRAIT_BLOCK_END))) {
        if (translator_branch(tr))
            return false;
        undo(tr, start, held);
        translator_exit(tr, emit_jump(&tr->e), TRANSLATE_EXIT_REST, tr->op);
        return false;
    }
    if (translator_stack(tr))
        return true;
    undo(tr, start, held);
    if (tr->insn.traits & INSN_TRAIT_X87 ? translator_x87(tr) : translator_copy(tr))
        return true;
    undo(tr, start, held);
    leave_for_one(tr, op);
    return true;
}

/* Does it become few bytes, with islands in its checks alone? */
static bool is_short(const struct insn *insn)
{
    return translator_copies(insn) || insn->id == INSN_PUSH || insn->id == INSN_POP ||
           insn->id == INSN_JCC || insn->id == INSN_JMP || insn->id == INSN_CALL ||
           insn->id == INSN_RET;
}

/* Islands are jumped over, so they are put off until an instruction would end too far behind a
 * JRCXZ: it is then emitted again, behind an island. */
static bool op_trial(struct translator *tr, const struct interp_op *op, bool last, bool *ret_open)
{
    struct translate *translate = tr->cpu->translate;
    struct translation *t = tr->t;
    uint8_t *start = tr->e.at, held = tr->held;
    unsigned nr_stubs = tr->nr_stubs;
    bool vector_seen = tr->vector_seen, vector = t->vector, avx = t->avx;
    bool x87_seen = tr->x87_seen, x87 = t->x87;
    struct interp_op *single = t->single;
    size_t arena_used = translate->arena_used;
    int32_t rsp_pending = tr->rsp_pending;
    unsigned nr_sides = tr->nr_sides, nr_far = tr->nr_far;

    tr->trial = true;
    *ret_open = op_once(tr, op, last);
    tr->trial = false;
    if (translator_reached(tr, last && *ret_open ? GOTO_BYTES : ISLAND_OVER))
        return true;
    undo(tr, start, held);
    tr->nr_stubs = nr_stubs;
    tr->vector_seen = vector_seen;
    t->vector = vector;
    t->avx = avx;
    tr->x87_seen = x87_seen;
    t->x87 = x87;
    t->single = single;
    translate->arena_used = arena_used;
    tr->nr_sides = nr_sides;
    tr->nr_far = nr_far;
    tr->rsp_pending = rsp_pending;
    tr->rcx_kept = false;
    return false;
}

static bool op_emit(struct translator *tr, const struct interp_op *op, bool last)
{
    bool open;

    if (op->run == op_undefined || op->run == op_too_long || op->run == op_unsupported) {
        translator_exit(tr, emit_jump(&tr->e), TRANSLATE_EXIT_REST, tr->op);
        return false;
    }
    if (is_short(&tr->insn) && op_trial(tr, op, last, &open))
        return open;
    translator_islands(tr, false);
    return op_once(tr, op, last);
}

static bool translate_op(struct translator *tr, const struct interp_op *op, bool last)
{
    bool open;

    tr->rcx_kept = false;
    open = op_emit(tr, op, last);
    if (!tr->rcx_kept)
        tr->held = TRANSLATOR_NO_RANGE;
    return open;
}

#define STUB_BYTES  10u
#define CHECK_BYTES 26u /* of an exact check, at most, but for its stub */

static void stub_emit(struct translator *tr, const struct translator_stub *stub)
{
    unsigned field = stub->exit >> TRANSLATE_EXIT_BITS & ((1u << TRANSLATE_OP_BITS) - 1);
    struct translation *t = tr->t;

    switch (stub->exit & ((1u << TRANSLATE_EXIT_BITS) - 1)) {
    case TRANSLATE_EXIT_LINK:
        t->link[field].stub = tr->e.at;
        break;
    case TRANSLATE_EXIT_CAREFUL:
        t->careful_jump[field] = (uint32_t)(tr->e.at + STUB_BYTES - 4 - t->entry);
        break;
    default:
        break;
    }
    emit8(&tr->e, 0xb9); /* mov ecx, exit */
    emit32(&tr->e, stub->exit);
    emit_patch(emit_jump(&tr->e), stub->leave);
}

void translator_exit_emit(struct translator *tr, enum translate_exit kind, unsigned field)
{
    const struct translator_stub stub = {
        .leave = tr->cpu->translate->leave,
        .exit = exit_of(tr, kind, field),
    };

    stub_emit(tr, &stub);
}

/* What seldom runs goes to the other end of the memory, so that the rest is dense. */
static void cold_emit(struct translator *tr)
{
    struct code_cache *code = &tr->cpu->translate->code;
    struct emit hot = tr->e;

    code->cold -= tr->nr_stubs * STUB_BYTES + tr->nr_cold * (STUB_BYTES + CHECK_BYTES);
    tr->e.at = code->write + code->cold;
    translator_cold_emit(tr);
    for (unsigned i = 0; i < tr->nr_stubs; i++) {
        emit_patch(tr->stub[i].patch, tr->e.at);
        stub_emit(tr, &tr->stub[i]);
    }
    tr->e = hot;
}

static void stubs_emit(struct translator *tr)
{
    translator_islands(tr, true);
    for (unsigned i = 0; i < tr->nr_far; i++) {
        emit_patch(tr->far[i].patch, tr->e.at);
        translator_goto(tr, tr->far[i].link, tr->far[i].target);
    }
    cold_emit(tr);
}

/* False: bytes and block disagree. */
static bool block_decode(struct translator *tr, const struct interp_block *block,
                         const uint8_t *bytes, unsigned start)
{
    for (unsigned i = 0; i < block->nr_instructions; i++) {
        const struct interp_op *op = &block->ops[i];
        unsigned left = block->page[1].mask ? INSN_LENGTH_MAX
                                            : (unsigned)GUEST_PAGE_SIZE - start - op->offset;

        if (op->length && (insn_decode(bytes + op->offset, left, INSN_MODE_64, &tr->insns[i]) ||
                           tr->insns[i].length != op->length))
            return false;
    }
    return true;
}

static void ranges_plan(struct translator *tr, const struct interp_block *block)
{
    struct translate *translate = tr->cpu->translate;

    translator_ranges_plan(tr, block);
    if (!tr->t->ranged)
        return;
    tr->t->careful_jump = (void *)(translate->arena + translate->arena_used);
    translate->arena_used += align_up(block->nr_instructions * sizeof(uint32_t), 64);
}

/* False: bytes and block disagree. */
static bool block_emit(struct translator *tr, const struct interp_block *block, bool careful)
{
    struct memory *memory = tr->cpu->vm->memory;
    const uint8_t *bytes = memory_range(memory, block->gpa, 1);
    unsigned start = (unsigned)(block->gpa & GUEST_PAGE_MASK);
    uint8_t crossing[2 * INSN_LENGTH_MAX];
    bool open = true;

    if (block->page[1].mask) { /* one instruction, in two pages */
        unsigned first = (unsigned)GUEST_PAGE_SIZE - start;

        if (first > INSN_LENGTH_MAX)
            return false;
        memcpy(crossing, bytes, first);
        memcpy(crossing + first, memory_range(memory, block->page[1].gpa, INSN_LENGTH_MAX),
               INSN_LENGTH_MAX);
        bytes = crossing;
    }
    if (!block_decode(tr, block, bytes, start))
        return false;
    if (tr->window ||
        (!careful && tr->cpu->translate->flat && !block->exact && !block->page[1].mask))
        ranges_plan(tr, block);
    for (tr->op = 0; tr->op < block->nr_instructions && open; tr->op++) {
        const struct interp_op *op = &block->ops[tr->op];

        tr->offset = start + op->offset;
        tr->bytes = bytes + op->offset;
        tr->t->offset[tr->op] = (uint32_t)(tr->e.at - tr->t->entry);
        if (op->length)
            tr->insn = tr->insns[tr->op];
        translation_rsp_pending(tr->t)[tr->op] = (int8_t)(tr->rsp_pending / 8);
        translation_ids(tr->t)[tr->op] = (uint16_t)(op->length ? tr->insn.id : INSN_NONE);
        if (tr->nr_stubs + 6 > TRANSLATOR_STUBS_MAX)
            return false;
        open = translate_op(tr, op, tr->op + 1 == block->nr_instructions);
    }
    if (open)
        translator_goto(tr, 1, (int64_t)tr->offset + tr->insn.length);
    stubs_emit(tr);
    return !tr->failed;
}

/* Room for a block of any content, or translate->full. */
static bool room(struct translate *translate)
{
    size_t side = sizeof(struct translation) + sizeof(struct translate_page) +
                  64 *
                      (2 * sizeof(uint32_t) + sizeof(uint16_t) + 1 + 2 * sizeof(struct interp_op)) +
                  (TRANSLATOR_LINK_SIDES + CACHE_SIDES_MAX) * sizeof(struct translate_link) + 192;

    if (translate->code.cold - translate->code.used < TRANSLATE_BLOCK_BYTES ||
        translate->arena_size - translate->arena_used < side ||
        translate->nr_translations == TRANSLATE_TABLE_MAX)
        translate->full = true;
    return !translate->full;
}

/* Writable addresses become those at which the code runs. */
static void publish(struct translate *translate, struct translation *t, uint8_t *end)
{
    for (unsigned i = 0; i < t->nr_links; i++)
        if (t->link[i].stub)
            t->link[i].stub = code_cache_run(&translate->code, t->link[i].stub);
    t->entry = code_cache_run(&translate->code, t->entry);
    t->entry_far = code_cache_run(&translate->code, t->entry_far);
    t->entry_page = code_cache_run(&translate->code, t->entry_page);
    t->code_bytes = (uint32_t)(code_cache_run(&translate->code, end) - t->entry_far);
    t->cold = (uint32_t)translate->code.cold;
    translate->code.used = align_up((uint64_t)(end - translate->code.write), 8);
    translate->table[translate->nr_translations++] = t;
}

/* *ret_failed: NULL because islands came out too far away. */
static struct translation *block_try(struct soft_cpu *cpu, struct interp_block *block, bool careful,
                                     bool no_islands, bool *ret_failed)
{
    struct translate *translate = cpu->translate;
    size_t start = translate->code.used;
    struct translate_page *page;
    struct translation *t;
    struct translator tr;

    *ret_failed = false;
    if (block->nr_instructions > TRANSLATOR_OPS_MAX || !room(translate))
        return NULL;
    page = page_of(translate, block->gpa, block->key);
    t = (void *)(translate->arena + translate->arena_used);
    translate->arena_used += align_up(
        sizeof(*t) + block->nr_instructions * (sizeof(uint32_t) + sizeof(uint16_t) + 1), 64);
    memset(t, 0, sizeof(*t));
    t->nr_links = (uint8_t)(TRANSLATOR_LINK_SIDES + block->nr_sides);
    t->link = (void *)(translate->arena + translate->arena_used);
    translate->arena_used += align_up(t->nr_links * sizeof(*t->link), 64);
    memset(t->link, 0, t->nr_links * sizeof(*t->link));
    tr.e.at = translate->code.write + translate->code.used;
    tr.cpu = cpu;
    tr.t = t;
    tr.user = block->key & CACHE_KEY_USER;
    tr.window = (block->key & CACHE_KEY_WINDOW) && !block->exact;
    tr.vector_seen = tr.x87_seen = tr.x87_noted = false;
    tr.nr_stubs = 0;
    tr.nr_sides = tr.nr_far = 0;
    tr.failed = false;
    tr.no_islands = no_islands;
    tr.trial = false;
    tr.rsp_pending = 0;
    tr.island_end = NULL;
    tr.nr_cold = tr.nr_near = 0;
    tr.nr_ranges = 0;
    tr.held = TRANSLATOR_NO_RANGE;
    t->block = block;
    t->page = page;
    t->number = translate->nr_translations;
    t->start = (uint16_t)(block->gpa & GUEST_PAGE_MASK);
    t->nr_ops = (uint8_t)block->nr_instructions;
    t->entry_far = tr.e.at;
    emit_lea(&tr.e, HOST_R10, HOST_R10, HOST_NONE, 0, -(int32_t)t->start);
    t->entry_page = tr.e.at;
    emit_store_hot(&tr.e, HOST_R10, HOT(page));
    t->entry = tr.e.at;
    if (!block_emit(&tr, block, careful)) {
        *ret_failed = tr.failed;
        return NULL;
    }
    publish(translate, t, tr.e.at);
    cpu->counters.blocks_translated++;
    translate->counts.instructions += block->nr_instructions;
    translate->counts.code_bytes += (size_t)(tr.e.at - (translate->code.write + start));
    return t;
}

struct translation *translate_block(struct soft_cpu *cpu, struct interp_block *block, bool careful)
{
    bool failed;
    struct translation *t = block_try(cpu, block, careful, false, &failed);

    return failed ? block_try(cpu, block, careful, true, &failed) : t;
}
