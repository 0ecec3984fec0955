/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accesses of a block that lie close together: the first asks the flat table for all of them.
 *
 * Two accesses belong to one range when they are made of the same registers with the same values,
 * up to constants that this file follows (PUSH, POP, ADD, SUB, LEA), and all of the range is at
 * most FLAT_SPAN bytes: an entry found at its lowest address is then good for all of it. The first
 * access checks the lowest address, for stores when any is one, and leaves the addend in hot.range;
 * where the check fails, the block goes on in its careful translation, which has no ranges and
 * decides for each access (so a range can only be too cautious).
 *
 * A translation with ranges is entered at its start only: what a later access relies on happened in
 * the same run. Exits that come back come back to the careful one. In between nothing can take the
 * page away: what does so waits until generated code is left (view.c), or is an instruction that
 * ends all ranges here (whatever is not copied).
 */
#include "soft/translate/copy_list.h"
#include "soft/translate/translator.h"

#define BASE_RIP  16u
#define BASE_NONE 17u
#define DELTA_MAX (INT64_C(1) << 28)

struct plan {
    struct translator *tr;
    uint8_t barrier;              /* counts */
    uint8_t version[CPU_NR_GPRS]; /* counts values that are not the one before plus delta */
    int64_t delta[CPU_NR_GPRS];   /* since the version's beginning */
};

/* The one access of an instruction. */
struct place {
    struct translator_range_key key;
    int64_t at; /* from what the key's registers were at their version's beginning */
    unsigned size;
    bool write;
};

static void renew(struct plan *plan, unsigned reg)
{
    plan->version[reg]++;
    plan->delta[reg] = 0;
}

static void move(struct plan *plan, unsigned reg, int64_t by)
{
    if (by > -DELTA_MAX && by < DELTA_MAX && plan->delta[reg] > -DELTA_MAX &&
        plan->delta[reg] < DELTA_MAX)
        plan->delta[reg] += by;
    else
        renew(plan, reg);
}

static bool is_gpr(const struct insn_operand *operand)
{
    return operand->kind == INSN_OPERAND_REG &&
           (operand->reg_class == INSN_REG_GPR || operand->reg_class == INSN_REG_GPR8_HIGH);
}

static void place_at(const struct plan *plan, struct place *place, unsigned base, int64_t offset,
                     bool write)
{
    *place = (struct place){
        .key = {.barrier = plan->barrier,
                .base = (uint8_t)base,
                .index = BASE_NONE,
                .base_version = plan->version[base]},
        .at = plan->delta[base] + offset,
        .size = 8,
        .write = write,
    };
}

static bool place_of_stack(const struct plan *plan, const struct insn *insn, struct place *ret)
{
    const struct insn_operand *operand = &insn->operand[0];

    if (insn->operand_size != 8)
        return false;
    switch (insn->id) {
    case INSN_PUSH:
        if (operand->kind != INSN_OPERAND_IMM &&
            (operand->kind != INSN_OPERAND_REG || operand->reg_class != INSN_REG_GPR))
            return false;
        place_at(plan, ret, CPU_RSP, -8, true);
        return true;
    case INSN_POP:
        place_at(plan, ret, CPU_RSP, 0, false);
        return operand->kind == INSN_OPERAND_REG && operand->reg_class == INSN_REG_GPR;
    case INSN_CALL:
        place_at(plan, ret, CPU_RSP, -8, true);
        return operand->kind == INSN_OPERAND_REL;
    case INSN_RET:
        place_at(plan, ret, CPU_RSP, 0, false);
        return true;
    case INSN_LEAVE:
        place_at(plan, ret, CPU_RBP, 0, false);
        return true;
    default:
        return false;
    }
}

static bool place_of_modrm(const struct plan *plan, const struct insn *insn, uint32_t offset,
                           struct place *ret)
{
    const struct insn_operand *operand = NULL;
    const struct insn_mem *mem = &insn->mem;

    if (!insn->has_modrm || insn->modrm >> 6 == 3 || insn->address_size != 8 || mem->vsib ||
        (insn->prefixes & INSN_PREFIX_LOCK) || insn->id == INSN_XCHG || insn->id == INSN_LEA ||
        insn->id == INSN_NOP || !translator_copies(insn))
        return false;
    if (insn->operand[1].kind == INSN_OPERAND_REG &&
        (insn->id == INSN_BT || insn->id == INSN_BTS || insn->id == INSN_BTR ||
         insn->id == INSN_BTC)) /* the bit's number is part of the address */
        return false;
    for (unsigned i = 0; i < insn->nr_operands; i++)
        if (insn->operand[i].kind == INSN_OPERAND_MEM && !operand)
            operand = &insn->operand[i];
    if (!operand || operand->implicit || !operand->access || !operand->size || operand->size > 32 ||
        mem->displacement <= -DELTA_MAX || mem->displacement >= DELTA_MAX)
        return false;
    *ret = (struct place){
        .key = {.barrier = plan->barrier,
                .base = BASE_NONE,
                .index = BASE_NONE,
                .segment = mem->segment >= CPU_FS ? mem->segment : 0},
        .at = mem->displacement,
        .size = operand->size,
        .write = operand->access & INSN_WRITE,
    };
    if (mem->rip_relative) {
        ret->key.base = BASE_RIP;
        ret->at += (int64_t)offset + insn->length;
    } else if (mem->base != INSN_NO_REG) {
        ret->key.base = mem->base;
        ret->key.base_version = plan->version[mem->base];
        ret->at += plan->delta[mem->base];
    }
    if (mem->index != INSN_NO_REG) {
        ret->key.index = mem->index;
        ret->key.scale = mem->scale;
        ret->key.index_version = plan->version[mem->index];
        ret->at += plan->delta[mem->index] * mem->scale;
    }
    return true;
}

/* A register that becomes itself plus a constant. */
static bool moves(struct plan *plan, const struct insn *insn)
{
    const struct insn_operand *to = &insn->operand[0];
    const struct insn_mem *mem = &insn->mem;

    if (!insn->nr_operands || to->kind != INSN_OPERAND_REG || to->reg_class != INSN_REG_GPR ||
        to->size != 8)
        return false;
    switch (insn->id) {
    case INSN_ADD:
    case INSN_SUB:
        if (insn->operand[1].kind != INSN_OPERAND_IMM)
            return false;
        move(plan, to->reg, insn->id == INSN_ADD ? (int64_t)insn->imm : -(int64_t)insn->imm);
        return true;
    case INSN_INC:
    case INSN_DEC:
        move(plan, to->reg, insn->id == INSN_INC ? 1 : -1);
        return true;
    case INSN_LEA:
        if (mem->rip_relative || mem->base != to->reg || mem->index != INSN_NO_REG ||
            insn->address_size != 8)
            return false;
        move(plan, to->reg, mem->displacement);
        return true;
    default:
        return false;
    }
}

/* MUL, DIV, CMPXCHG and most of what has no ModRM byte (MOV of a constant does). */
static bool writes_more(const struct insn *insn)
{
    if (!insn->has_modrm)
        return insn->map != 0 || insn->opcode < 0xb0 || insn->opcode > 0xbf;
    return insn->id == INSN_CMPXCHG ||
           (insn->map == 0 && (insn->opcode == 0xf6 || insn->opcode == 0xf7));
}

static void effects(struct plan *plan, const struct insn *insn)
{
    bool stack = insn->operand_size == 8 && (insn->id == INSN_PUSH || insn->id == INSN_POP);

    if (insn->id == INSN_JCC)
        return;
    if (!stack && insn->id != INSN_LEAVE && !translator_copies(insn)) {
        plan->barrier++;
        for (unsigned i = 0; i < CPU_NR_GPRS; i++)
            renew(plan, i);
        return;
    }
    if (stack)
        move(plan, CPU_RSP, insn->id == INSN_PUSH ? -8 : 8);
    if (insn->id == INSN_LEAVE)
        renew(plan, CPU_RSP);
    if (insn->id == INSN_LEAVE)
        renew(plan, CPU_RBP);
    if (moves(plan, insn))
        return;
    for (unsigned i = 0; i < insn->nr_operands; i++)
        if (is_gpr(&insn->operand[i]) && (insn->operand[i].access & INSN_WRITE))
            renew(plan, insn->operand[i].reg);
    /* What may be written without an operand for it. */
    if (copy_writes_rcx(insn))
        renew(plan, CPU_RCX);
    if (!stack && writes_more(insn)) {
        renew(plan, CPU_RAX);
        renew(plan, CPU_RDX);
    }
}

static void join(struct translator *tr, const struct place *place, unsigned op)
{
    int64_t end = place->at + (int64_t)place->size;

    for (unsigned i = tr->nr_ranges; i-- > 0;) {
        struct translator_range *range = &tr->range[i];
        int64_t low = MIN(range->low, place->at), high = MAX(range->high, end);

        if (memcmp(&range->key, &place->key, sizeof(place->key)) != 0 ||
            high - low > (int64_t)(tr->window ? WINDOW_SPAN : FLAT_SPAN))
            continue;
        range->low = low;
        range->high = high;
        range->write |= place->write;
        range->members++;
        tr->range_of[op] = (uint8_t)i;
        return;
    }
    if (tr->nr_ranges == TRANSLATE_RANGES)
        return;
    tr->range_of[op] = (uint8_t)tr->nr_ranges;
    tr->range[tr->nr_ranges++] = (struct translator_range){
        .key = place->key,
        .low = place->at,
        .high = end,
        .write = place->write,
        .members = 1,
    };
}

/* Has it a check for loaded vector registers? */
static bool checks_vector(const struct insn *insn, bool *seen_sse, bool *seen_avx)
{
    bool avx = insn->prefixes & INSN_PREFIX_VEX, first;

    if (copy_is_integer(insn) || !translator_copies(insn))
        return false;
    first = avx ? !*seen_avx : !*seen_sse;
    *seen_sse = true;
    *seen_avx |= avx;
    return first;
}

/* Which ranges' addends are needed when RCX has something else: foresees translator.held. */
static void reloads_plan(struct translator *tr, const struct interp_block *block)
{
    bool led[TRANSLATE_RANGES] = {false}, sse = false, avx = false;
    unsigned held = TRANSLATOR_NO_RANGE;

    for (unsigned i = 0; i < block->nr_instructions; i++) {
        const struct insn *insn = &tr->insns[i];
        unsigned range = tr->range_of[i];

        if (!block->ops[i].length) { /* nothing to decode: interpreted */
            held = TRANSLATOR_NO_RANGE;
            continue;
        }
        if (checks_vector(insn, &sse, &avx) || insn->id == INSN_CALL)
            held = TRANSLATOR_NO_RANGE;
        if (range != TRANSLATOR_NO_RANGE) {
            tr->range[range].reloaded |= led[range] && held != range;
            led[range] = true;
            held = range;
        } else if (insn->has_modrm && insn->modrm >> 6 != 3 && insn->id != INSN_LEA) {
            held = TRANSLATOR_NO_RANGE;
        }
        if (!translator_keeps_rcx(insn))
            held = TRANSLATOR_NO_RANGE;
    }
}

void translator_ranges_plan(struct translator *tr, const struct interp_block *block)
{
    struct plan plan = {.tr = tr};

    tr->nr_ranges = 0;
    memset(tr->range_of, TRANSLATOR_NO_RANGE, sizeof(tr->range_of));
    for (unsigned i = 0; i < block->nr_instructions; i++) {
        const struct insn *insn = &tr->insns[i];
        uint32_t offset = (uint32_t)(block->gpa & GUEST_PAGE_MASK) + block->ops[i].offset;
        struct place place;

        if (!block->ops[i].length)
            continue;
        if (place_of_stack(&plan, insn, &place) || place_of_modrm(&plan, insn, offset, &place)) {
            tr->range_at[i] = place.at;
            join(tr, &place, i);
        }
        effects(&plan, insn);
    }
    if (tr->window) /* what has been checked stays so */
        return;
    for (unsigned i = 0; i < block->nr_instructions; i++)
        if (tr->range_of[i] != TRANSLATOR_NO_RANGE) {
            if (tr->range[tr->range_of[i]].members < 2)
                tr->range_of[i] = TRANSLATOR_NO_RANGE;
            else
                tr->t->ranged = true;
        }
    if (tr->t->ranged)
        reloads_plan(tr, block);
}
