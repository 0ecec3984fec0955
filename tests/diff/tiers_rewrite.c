/* SPDX-License-Identifier: Apache-2.0 */
/* Stores into opcodes, soon to run or just running (tiers.h): switches, wild stores, code in data
 * pages. */
#include "tiers_writer.h"

#include "base/util.h"

#include <string.h>

#define SLOT TIERS_SWITCH_BYTES

/* Some item of those near ahead, itself included. */
#define NEAR 4u

void tiers_pool_fill(struct tiers_writer *w)
{
    diff_generate(w->features, DIFF_MODE_ALL, INSN_MODE_64, diff_random(w->seed), &w->pool);
}

static bool touches_memory(const struct insn *insn)
{
    for (unsigned i = 0; i < insn->nr_operands; i++)
        if (insn->operand[i].kind == INSN_OPERAND_MEM)
            return true;
    switch (insn->id) {
    case INSN_PUSH:
    case INSN_POP:
    case INSN_PUSHF:
    case INSN_ENTER:
    case INSN_LEAVE:
        return true;
    default:
        return false;
    }
}

/* May it come to stand in the program without what the generator of streams puts around it? */
static bool harmless(const struct tiers_writer *w, const struct insn *insn, bool memory)
{
    if (insn->traits & (INSN_TRAIT_PRIVILEGED | INSN_TRAIT_IO | INSN_TRAIT_BRANCH) ||
        insn->prefixes & (INSN_PREFIX_REP | INSN_PREFIX_REPNE) ||
        !diff_allowed(w->features, DIFF_MODE_ALL, insn) || tiers_dangerous(w->p, insn))
        return false;
    switch (insn->id) {
    case INSN_INT3:
    case INSN_POPF:
    case INSN_CLI:
    case INSN_STI:
    case INSN_HLT:
        return false;
    default:
        return memory || !touches_memory(insn);
    }
}

/* Harmless instructions that fill the slot; a Jcc goes to its end. */
static bool fills_slot(const struct tiers_writer *w, const uint8_t bytes[SLOT], bool memory)
{
    unsigned at = 0;

    while (at < SLOT) {
        struct insn insn;

        if (insn_decode(bytes + at, SLOT - at, INSN_MODE_64, &insn) != INSN_OK)
            return false;
        at += insn.length;
        if (insn.id == INSN_JCC ? at + (uint64_t)insn.imm != SLOT : !harmless(w, &insn, memory))
            return false;
    }
    return true;
}

/* One from the pool that has room. Returns its length, 0: not found. */
static unsigned draw_short(struct tiers_writer *w, uint8_t *bytes, unsigned room, bool memory)
{
    for (unsigned i = 0; i < 24; i++) {
        const struct diff_insn *in = &w->pool.insn[diff_pick(w->seed, w->pool.nr_insns)];
        struct insn insn;

        if (in->length > room ||
            insn_decode(in->bytes, in->length, INSN_MODE_64, &insn) != INSN_OK ||
            !harmless(w, &insn, memory))
            continue;
        memcpy(bytes, in->bytes, in->length);
        return in->length;
    }
    return 0;
}

static void draw_slot(struct tiers_writer *w, uint8_t *bytes, unsigned room, bool memory)
{
    unsigned at = 0, length;

    while (at < room) {
        if (at + 2 <= room && !diff_pick(w->seed, 8)) {
            bytes[at] = (uint8_t)(0x70 | diff_pick(w->seed, 16));
            bytes[at + 1] = (uint8_t)(room - 2 - at);
            at += 2;
            continue;
        }
        length = draw_short(w, bytes + at, room - at, memory);
        if (!length)
            bytes[at] = 0x90;
        at += length ? length : 1;
    }
}

/* The same with one byte changed, where that is harmless; else something else. */
static void draw_other(struct tiers_writer *w, const uint8_t bytes[SLOT], uint8_t ret[SLOT])
{
    for (unsigned i = 0; i < 32 && diff_pick(w->seed, 12); i++) {
        memcpy(ret, bytes, SLOT);
        ret[diff_pick(w->seed, SLOT)] ^= (uint8_t)(1 + diff_pick(w->seed, 255));
        if (fills_slot(w, ret, true))
            return;
    }
    draw_slot(w, ret, SLOT, true);
}

static void put_jump(struct tiers_writer *w, uint8_t bytes[SLOT])
{
    bytes[0] = (uint8_t)(0x70 | diff_pick(w->seed, 16));
    memset(bytes + 1, 0x90, SLOT - 1);
}

void tiers_add_switch(struct tiers_writer *w)
{
    uint8_t bytes[SLOT];
    struct tiers_item *item;

    if (w->p->nr_switches == TIERS_SWITCHES)
        return;
    draw_slot(w, bytes, SLOT, true);
    w->p->switches[w->p->nr_switches++] = (uint16_t)w->p->nr_items;
    item = tiers_add(w, TIERS_SWITCH, bytes, SLOT);
    draw_other(w, bytes, item->other);
    item->target = (uint8_t)(1 + diff_pick(w->seed, 6));
    item->jumps = (uint8_t)(diff_pick(w->seed, 3) ? 0 : 1 + diff_pick(w->seed, 3));
    if (item->jumps & 1)
        put_jump(w, item->bytes);
    if (item->jumps & 2)
        put_jump(w, item->other);
}

/* xor of the slot; the longer forms first load the register. */
void tiers_add_toggle(struct tiers_writer *w)
{
    static const struct {
        uint8_t length, displacement, immediate, bytes[INSN_LENGTH_MAX];
    } forms[] = {
        {11, 3, 7, {0x81, 0x34, 0x25}},                   /* xor dword [], imm32 */
        {12, 4, 8, {0xf0, 0x81, 0x34, 0x25}},             /* lock */
        {12, 8, 1, {0xb8, 0, 0, 0, 0, 0x31, 0x04, 0x25}}, /* mov eax, imm32; xor [], eax */
        {12, 8, 1, {0xba, 0, 0, 0, 0, 0x31, 0x14, 0x25}},
    };
    unsigned form = diff_pick(w->seed, ARRAY_LEN(forms));
    struct tiers_item *item = tiers_add(w, TIERS_TOGGLE, forms[form].bytes, forms[form].length);

    item->displacement_offset = forms[form].displacement;
    item->displacement_size = 4;
    item->shift = forms[form].immediate;
}

void tiers_add_wild(struct tiers_writer *w)
{
    static const struct {
        uint8_t length, immediate, bytes[5];
    } forms[] = {
        {4, 1, {0x0f, 0xba, 0x3c, 0x25}},       /* btc dword [], imm8: one bit */
        {3, 1, {0x80, 0x34, 0x25}},             /* xor byte [], imm8 */
        {3, 4, {0x81, 0x34, 0x25}},             /* xor dword [], imm32 */
        {3, 1, {0xc6, 0x04, 0x25}},             /* mov byte [], imm8 */
        {3, 0, {0xf6, 0x14, 0x25}},             /* not byte [] */
        {3, 0, {0xfe, 0x04, 0x25}},             /* inc byte [] */
        {3, 0, {0x88, 0x0c, 0x25}},             /* mov [], cl */
        {4, 0, {0x48, 0x89, 0x04, 0x25}},       /* mov [], rax */
        {4, 0, {0x48, 0x87, 0x04, 0x25}},       /* xchg [], rax */
        {4, 0, {0x0f, 0x92, 0x04, 0x25}},       /* setc [] */
        {4, 0, {0x0f, 0x11, 0x04, 0x25}},       /* movups [], xmm0 */
        {5, 0, {0xc5, 0xfc, 0x11, 0x04, 0x25}}, /* vmovups [], ymm0 */
        {3, 0, {0xdd, 0x14, 0x25}},             /* fst qword [] */
        /* What the translator leaves to the interpreter, inside of a block. */
        {4, 0, {0x0f, 0x01, 0x24, 0x25}}, /* smsw [] */
        {4, 0, {0x0f, 0x01, 0x04, 0x25}}, /* sgdt [] */
        {4, 0, {0x0f, 0xae, 0x1c, 0x25}}, /* stmxcsr [] */
        {3, 0, {0xd9, 0x34, 0x25}},       /* fnstenv [] */
    };
    unsigned form = diff_pick(w->seed, 2) ? 0 : diff_pick(w->seed, ARRAY_LEN(forms));
    uint8_t bytes[INSN_LENGTH_MAX] = {0};
    struct tiers_item *item;
    unsigned length = forms[form].length;

    memcpy(bytes, forms[form].bytes, length);
    for (unsigned i = 0; i < forms[form].immediate; i++)
        bytes[length + 4 + i] = (uint8_t)diff_random(w->seed);
    item = tiers_add(w, TIERS_WILD, bytes, length + 4 + forms[form].immediate);
    item->displacement_offset = (uint8_t)length;
    item->shift = (uint8_t)diff_pick(w->seed, 8);
}

/* mov esp, somewhere; mov eax, at; call rax */
static void add_call(struct tiers_writer *w, uint32_t at)
{
    struct tiers_item *item;

    tiers_add_mov(w, TIERS_GLUE, CPU_RSP, DIFF_SCRATCH_VA + 2048);
    item = TIERS_ADD(w, TIERS_GLUE, 0xb8, 0, 0, 0, 0, 0xff, 0xd0);
    store_le32(item->bytes + 1, at);
}

/* The whole of it by one store, which begins in the page before, where perhaps no code is. */
static void add_code_across(struct tiers_writer *w)
{
    uint32_t at = DIFF_SCRATCH_VA + 4096;
    struct tiers_item *item = TIERS_ADD(w, TIERS_GLUE, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0xc3);

    store_le32(item->bytes + 2, (uint32_t)diff_random(w->seed));
    draw_slot(w, item->bytes + 6, 3, false);
    item = TIERS_ADD(w, TIERS_GLUE, 0x48, 0x89, 0x04, 0x25, 0, 0, 0, 0); /* mov [at - 4], rax */
    store_le32(item->bytes + 4, at - 4);
    add_call(w, at);
}

void tiers_add_data_code(struct tiers_writer *w)
{
    uint32_t at = DIFF_SCRATCH_VA + (diff_pick(w->seed, 2) ? 4096 - 8 + diff_pick(w->seed, 12)
                                                           : 3000 + diff_pick(w->seed, 4000));
    struct tiers_item *item;

    if (w->p->data_code_across) {
        add_code_across(w);
        return;
    }
    item = TIERS_ADD(w, TIERS_GLUE, 0xc7, 0x04, 0x25, 0, 0, 0, 0, 0, 0, 0, 0);
    store_le32(item->bytes + 3, at);
    draw_slot(w, item->bytes + 7, SLOT, false);
    item = TIERS_ADD(w, TIERS_GLUE, 0xc6, 0x04, 0x25, 0, 0, 0, 0, 0xc3); /* ret */
    store_le32(item->bytes + 3, at + SLOT);
    add_call(w, at);
}

static uint32_t difference(const struct tiers_item *item)
{
    return load_le32(item->bytes) ^ load_le32(item->other);
}

/* Mostly to the next switch. One that differs in one byte alone may be stored to by one byte. */
static void resolve_toggle(struct tiers_writer *w, unsigned number)
{
    static const uint8_t bytes[8] = {0x80, 0x34, 0x25}; /* xor byte [], imm8 */
    struct tiers_program *p = w->p;
    struct tiers_item *item = &p->item[number];
    unsigned first = 0;
    uint32_t differs;

    item->removed = !p->nr_switches;
    if (item->removed)
        return;
    if (diff_pick(w->seed, 4))
        while (first < p->nr_switches && p->switches[first] < number)
            first++;
    else
        first = diff_pick(w->seed, p->nr_switches);
    item->to = p->switches[first < p->nr_switches ? first : 0];
    differs = difference(&p->item[item->to]);
    if (p->item[item->to].jumps || !differs ||
        differs & ~(UINT32_C(0xff) << (__builtin_ctz(differs) & 24)) || diff_pick(w->seed, 2))
        return;
    memcpy(item->bytes, bytes, sizeof(bytes));
    item->length = sizeof(bytes);
    item->displacement_offset = 3;
    item->displacement_size = 1;
    item->shift = 7;
}

void tiers_resolve(struct tiers_writer *w)
{
    struct tiers_program *p = w->p;

    for (unsigned s = 0; s < p->nr_segments; s++)
        for (unsigned i = p->first[s]; i < p->first[s + 1]; i++) {
            struct tiers_item *item = &p->item[i];
            unsigned kind = diff_pick(w->seed, 8), to = i;

            if (item->kind == TIERS_TOGGLE)
                resolve_toggle(w, i);
            if (item->kind == TIERS_SWITCH)
                item->target = (uint8_t)MIN(item->target, p->first[s + 1] - 1u - i);
            if (item->kind != TIERS_WILD)
                continue;
            to += diff_pick(w->seed, kind < 5 ? NEAR : 16);
            item->to = (uint16_t)(kind < 7 ? MIN(to, p->nr_items - 1u)
                                           : diff_pick(w->seed, p->nr_items));
        }
}

static uint32_t contents(const struct tiers_program *p, unsigned number, bool other)
{
    const struct tiers_item *item = &p->item[number];
    uint8_t bytes[SLOT];

    memcpy(bytes, other ? item->other : item->bytes, SLOT);
    if (item->jumps >> other & 1)
        bytes[1] = (uint8_t)MIN(p->offset[number + item->target] - (p->offset[number] + 2u), 127u);
    return load_le32(bytes);
}

void tiers_fix_rewrite(struct tiers_program *p, unsigned number)
{
    const struct tiers_item *item = &p->item[number];
    uint8_t *at = p->code + p->offset[number];
    uint32_t differs, byte = 0;

    switch (item->kind) {
    case TIERS_SWITCH:
        store_le32(at, contents(p, number, false));
        break;
    case TIERS_TOGGLE:
        differs = contents(p, item->to, false) ^ contents(p, item->to, true);
        if (item->displacement_size == 1) {
            byte = (unsigned)__builtin_ctz(differs) / 8;
            at[item->shift] = (uint8_t)(differs >> 8 * byte);
        } else {
            store_le32(at + item->shift, differs);
        }
        store_le32(at + item->displacement_offset, DIFF_CODE_VA + p->offset[item->to] + byte);
        break;
    case TIERS_WILD:
        store_le32(at + item->displacement_offset,
                   DIFF_CODE_VA + p->offset[item->to] + item->shift);
        break;
    default:
        break;
    }
}
