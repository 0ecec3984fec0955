/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vector and x87 instructions for the streams. Every form that the opcode maps hold is drawn as
 * often as any other. Memory operands are mostly inside the writable pages and aligned as the form
 * wants, so that a stream goes on; the rest cross pages, are misaligned or fault.
 */
#include "diff.h"

#include "base/util.h"
#include "diff/forms.h"

#include <string.h>

static const struct forms *all_forms(void)
{
    static struct forms forms;

    if (!forms.count)
        forms_sweep(&forms);
    return &forms;
}

static void finish(struct diff_insn *insn, unsigned length)
{
    insn->length = (uint8_t)length;
}

/* mov $value, %edi */
static void put_mov_edi(struct diff_insn *ret, uint32_t value)
{
    ret->bytes[0] = 0xbf;
    store_le32(ret->bytes + 1, value);
    finish(ret, 5);
}

/* movl $value, address */
static void put_mov_memory(struct diff_insn *ret, uint32_t address, uint32_t value)
{
    memcpy(ret->bytes, "\xc7\x04\x25", 3);
    store_le32(ret->bytes + 3, address);
    store_le32(ret->bytes + 7, value);
    finish(ret, 11);
}

/* vpsrld or vpsrlq, 256 bits: makes a register into indices that stay inside the pages. */
static void put_index(struct diff_insn *ret, unsigned reg, bool wide, unsigned scale)
{
    ret->bytes[0] = 0xc4;
    ret->bytes[1] = (uint8_t)(0xc1 | (reg & 8 ? 0u : 0x20u));
    ret->bytes[2] = (uint8_t)((~reg & 15) << 3 | 5);
    ret->bytes[3] = wide ? 0x73 : 0x72;
    ret->bytes[4] = (uint8_t)(0xd0 | (reg & 7));
    ret->bytes[5] = (uint8_t)((wide ? 64u : 32u) - 13 + scale);
    finish(ret, 6);
}

static uint32_t target(uint64_t *seed, bool aligned)
{
    static const uint16_t edges[] = {0, 4096, 8192, 12288};

    if (diff_pick(seed, 64) == 0)
        return DIFF_SCRATCH_VA + edges[diff_pick(seed, ARRAY_LEN(edges))] + diff_pick(seed, 64) -
               32u;
    if (aligned || diff_pick(seed, 3))
        return DIFF_SCRATCH_VA + 64u * diff_pick(seed, DIFF_WRITABLE / 64);
    return DIFF_SCRATCH_VA + diff_pick(seed, DIFF_WRITABLE - 128);
}

struct draft {
    enum insn_mode code_mode;
    struct diff_insn insn;
    unsigned rxb, reg, rm, vvvv;
    unsigned scale, index; /* VSIB */
    uint32_t address;
};

/* ModRM and what follows it; immediates come after. */
static unsigned put_operands(const struct form *form, struct draft *draft, unsigned at)
{
    uint8_t *bytes = draft->insn.bytes;

    if (!form->has_modrm)
        return at;
    if (!form->memory) {
        bytes[at] = (uint8_t)(0xc0 | draft->reg << 3 | draft->rm);
        return at + 1;
    }
    bytes[at] = (uint8_t)(draft->reg << 3 | 4);
    bytes[at + 1] = (uint8_t)(form->fixed_rm ? draft->scale << 6 | (draft->index & 7) << 3 | 5
                                             : 0x25);
    store_le32(bytes + at + 2, draft->address);
    return at + 6;
}

static bool assemble(const struct form *form, struct draft *draft, uint64_t *seed,
                     struct insn *insn)
{
    unsigned length = form_put_opcode(form, draft->rxb, draft->vvvv, draft->insn.bytes);

    length = put_operands(form, draft, length);
    if (length > INSN_LENGTH_MAX - 2)
        return false;
    store_le16(draft->insn.bytes + length, (uint16_t)diff_random(seed));
    if (insn_decode(draft->insn.bytes, INSN_LENGTH_MAX, draft->code_mode, insn) != INSN_OK)
        return false;
    finish(&draft->insn, insn->length);
    return true;
}

static void draw_registers(const struct form *form, struct draft *draft, uint64_t *seed)
{
    unsigned registers = draft->code_mode == INSN_MODE_64 ? 16 : 8;

    draft->rxb = form->map == 0 || registers == 8 ? 0 : diff_pick(seed, 8);
    draft->reg = form->fixed_reg ? form->reg : diff_pick(seed, 8);
    draft->rm = form->fixed_rm ? form->rm : diff_pick(seed, 8);
    draft->vvvv = diff_pick(seed, registers);
    if (!form->memory)
        return;
    draft->address = target(seed, true);
    if (form->fixed_rm) {
        draft->scale = diff_pick(seed, 4);
        draft->index = diff_pick(seed, registers);
        draft->rxb = (draft->rxb & 5) | (draft->index & 8) >> 2;
        draft->address = DIFF_SCRATCH_VA;
    } else {
        draft->rxb &= 5;
    }
}

/* What must come before, if anything. */
static unsigned prepare(const struct form *form, const struct draft *draft, uint64_t *seed,
                        struct diff_insn *ret)
{
    uint64_t r = diff_random(seed);

    *ret = (struct diff_insn){.length = 0};
    switch (form->id) {
    case INSN_MASKMOVQ:
    case INSN_MASKMOVDQU:
    case INSN_VMASKMOVDQU:
        put_mov_edi(ret, target(seed, false));
        return 1;
    case INSN_LDMXCSR:
    case INSN_VLDMXCSR:
        put_mov_memory(ret, draft->address, 0x1f80u | (r & 0xe07f));
        return 1;
    case INSN_FLDCW:
        put_mov_memory(ret, draft->address,
                       (r >> 16 & 15 ? 0x7fu : 0x40u | (r >> 20 & 63)) | (r & 0xf00));
        return 1;
    default:
        if (!form->memory || !form->fixed_rm || form->map == 0)
            return 0;
        put_index(ret, draft->index, form->opcode & 1, draft->scale);
        return 1;
    }
}

unsigned diff_draw_form(const struct diff_guest *guest, enum insn_mode code_mode, uint64_t *seed,
                        struct diff_insn *ret)
{
    const struct forms *forms = all_forms();
    const struct form *form = &forms->form[diff_pick(seed, forms->count)];
    struct draft draft = {.code_mode = code_mode, .insn = {.length = 0}};
    struct insn insn;
    unsigned before;

    if (code_mode != INSN_MODE_64 && form->w && !form->vex)
        return 0; /* its REX would be an instruction of its own */
    draw_registers(form, &draft, seed);
    if (!assemble(form, &draft, seed, &insn)) {
        draft.vvvv = 0;
        if (!assemble(form, &draft, seed, &insn))
            return 0;
    }
    if (!diff_allowed(guest, DIFF_MODE_VECTOR, &insn))
        return 0;
    before = prepare(form, &draft, seed, &ret[0]);
    if (form->memory && !form->fixed_rm && !before) {
        draft.address = target(seed, insn.traits & INSN_TRAIT_ALIGNED);
        if (!assemble(form, &draft, seed, &insn))
            return 0;
    }
    ret[before] = draft.insn;
    return before + 1;
}
