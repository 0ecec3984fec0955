/* SPDX-License-Identifier: Apache-2.0 */
/* See forms.h. */
#include "diff/forms.h"

struct bytes {
    uint8_t *data;
    unsigned length;
};

static void put(struct bytes *bytes, unsigned value)
{
    bytes->data[bytes->length++] = (uint8_t)value;
}

static bool has_vector_operand(const struct insn *insn)
{
    for (unsigned i = 0; i < insn->nr_operands && i < INSN_OPERANDS_MAX; i++)
        if (insn->operand[i].kind == INSN_OPERAND_REG &&
            insn->operand[i].reg_class >= INSN_REG_ST && insn->operand[i].reg_class <= INSN_REG_YMM)
            return true;
    return false;
}

bool form_is_vector(const struct insn *insn)
{
    if (insn->traits & (INSN_TRAIT_X87 | INSN_TRAIT_MMX) || has_vector_operand(insn))
        return true;
    return insn->id >= INSN_FXSAVE && insn->id <= INSN_EMMS;
}

unsigned form_put_opcode(const struct form *form, unsigned rxb, unsigned vvvv, uint8_t *ret_bytes)
{
    struct bytes bytes = {.data = ret_bytes};
    unsigned pp = form->prefix == 0x66   ? 1
                  : form->prefix == 0xf3 ? 2
                  : form->prefix == 0xf2 ? 3
                                         : 0;

    if (form->map && form->vex) {
        put(&bytes, 0xc4);
        put(&bytes, (~rxb & 7) << 5 | form->map);
        put(&bytes, (unsigned)form->w << 7 | (~vvvv & 15) << 3 | (unsigned)form->l << 2 | pp);
        put(&bytes, form->opcode);
        return bytes.length;
    }
    if (form->prefix)
        put(&bytes, form->prefix);
    if (rxb || form->w)
        put(&bytes, 0x40 | (unsigned)form->w << 3 | rxb);
    if (form->map)
        put(&bytes, 0x0f);
    if (form->map > 1)
        put(&bytes, form->map == 2 ? 0x38 : 0x3a);
    put(&bytes, form->opcode);
    return bytes.length;
}

/* Does it exist, with this vvvv? Tried with zeroed operands and immediates. */
static bool try_form(struct forms *ret, struct form *form, unsigned vvvv)
{
    uint8_t data[16] = {0};
    struct bytes bytes = {.data = data};
    struct insn insn;

    bytes.length = form_put_opcode(form, 0, vvvv, data);
    put(&bytes, (form->memory ? 0u : 0xc0u) | (unsigned)form->reg << 3 | form->rm);
    if (form->memory && form->rm == 4)
        put(&bytes, 0x10); /* SIB: base rax, index 2 */
    if (insn_decode(data, sizeof(data), INSN_MODE_64, &insn) != INSN_OK || !form_is_vector(&insn))
        return false;
    form->id = (enum insn_id)insn.id;
    form->has_modrm = insn.has_modrm;
    if (ret->count < FORMS_MAX)
        ret->form[ret->count++] = *form;
    return true;
}

/* Bytes that are other tables' names, not opcodes. */
static bool is_escape(unsigned map, unsigned opcode)
{
    return map == 1 && (opcode == 0x38 || opcode == 0x3a);
}

static bool is_group(unsigned map, unsigned opcode)
{
    return map == 1 && ((opcode >= 0x71 && opcode <= 0x73) || opcode == 0x78 || opcode == 0xae ||
                        opcode == 0xc7 || opcode == 0x0d || opcode == 0x18);
}

static void sweep_opcode(struct forms *ret, struct form form)
{
    unsigned regs = is_group(form.map, form.opcode) ? 8 : 1;

    form.fixed_reg = regs == 8;
    for (unsigned reg = 0; reg < regs; reg++) {
        form.reg = (uint8_t)reg;
        form.fixed_rm = false;
        form.rm = 0;
        if (try_form(ret, &form, 0) || !form.vex)
            continue;
        if (try_form(ret, &form, 1)) /* vvvv must differ from the other registers */
            continue;
        form.rm = 4; /* VSIB needs SIB */
        form.fixed_rm = true;
        if (form.memory)
            try_form(ret, &form, 1);
    }
}

static void sweep_x87(struct forms *ret)
{
    struct form form = {.fixed_reg = true, .fixed_rm = true};

    for (unsigned modrm = 0; modrm < 0x40 * 8; modrm++) {
        form.opcode = (uint8_t)(0xd8 + modrm / 0x40);
        form.reg = modrm >> 3 & 7;
        form.rm = modrm & 7;
        form.memory = false;
        form.fixed_rm = true;
        try_form(ret, &form, 0);
        if (form.rm)
            continue;
        form.memory = true;
        form.fixed_rm = false;
        try_form(ret, &form, 0);
    }
    form = (struct form){.opcode = 0x9b, .fixed_reg = true, .fixed_rm = true};
    try_form(ret, &form, 0);
}

void forms_sweep(struct forms *ret)
{
    static const uint8_t prefixes[] = {0, 0x66, 0xf3, 0xf2};

    ret->count = 0;
    for (unsigned n = 0; n < 2 * 3 * 4 * 256 * 2 * 2 * 2; n++) {
        struct form form = {
            .opcode = (uint8_t)n,
            .prefix = prefixes[n >> 8 & 3],
            .memory = n >> 10 & 1,
            .w = n >> 11 & 1,
            .l = n >> 12 & 1,
            .vex = n >> 13 & 1,
            .map = (uint8_t)(1 + (n >> 14) % 3),
        };

        if ((!form.l || form.vex) && !is_escape(form.map, form.opcode))
            sweep_opcode(ret, form);
    }
    sweep_x87(ret);
}
