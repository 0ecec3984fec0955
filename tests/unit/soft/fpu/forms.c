/* SPDX-License-Identifier: Apache-2.0 */
/* See forms.h. */
#include "forms.h"

#include "base/util.h"

#include <string.h>

struct bytes {
    uint8_t *data;
    unsigned length;
};

static void put(struct bytes *bytes, unsigned value)
{
    bytes->data[bytes->length++] = (uint8_t)value;
}

static void put32(struct bytes *bytes, uint32_t value)
{
    store_le32(bytes->data + bytes->length, value);
    bytes->length += 4;
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

/* Prefixes up to and with the opcode. rxb: extension bits of reg, index, base. */
static void put_opcode(struct bytes *bytes, const struct form *form, unsigned rxb, unsigned vvvv)
{
    if (form->map == 0) {
        if (rxb)
            put(bytes, 0x40 | rxb);
        put(bytes, form->opcode);
        return;
    }
    if (form->vex) {
        unsigned pp = form->prefix == 0x66   ? 1
                      : form->prefix == 0xf3 ? 2
                      : form->prefix == 0xf2 ? 3
                                             : 0;

        put(bytes, 0xc4);
        put(bytes, (~rxb & 7) << 5 | form->map);
        put(bytes, (unsigned)form->w << 7 | (~vvvv & 15) << 3 | (unsigned)form->l << 2 | pp);
        put(bytes, form->opcode);
        return;
    }
    if (form->prefix)
        put(bytes, form->prefix);
    if (rxb || form->w)
        put(bytes, 0x40 | (unsigned)form->w << 3 | rxb);
    put(bytes, 0x0f);
    if (form->map > 1)
        put(bytes, form->map == 2 ? 0x38 : 0x3a);
    put(bytes, form->opcode);
}

/* Does it exist, with this vvvv? Tried with zeroed operands and immediates. */
static bool try_form(struct forms *ret, struct form *form, unsigned vvvv)
{
    uint8_t data[16] = {0};
    struct bytes bytes = {.data = data};
    struct insn insn;

    put_opcode(&bytes, form, 0, vvvv);
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

/* Aligned, misaligned, across pages, and where the access faults. */
static uint64_t random_target(void)
{
    uint64_t arena = (uint64_t)(uintptr_t)harness.arena, r = harness_random();
    unsigned near = (unsigned)(r >> 8 & 63) + 1;

    switch (r & 15) {
    case 0:
    case 1:
        return arena + 256 + (r >> 8 & 0xfff);
    case 2:
        return arena + HARNESS_PAGE - near;
    case 3:
        return arena + HARNESS_WRITABLE - near;
    case 4:
        return arena + HARNESS_WRITABLE + (r >> 8 & 0x7c0);
    case 5:
        return arena + HARNESS_READABLE - near;
    case 6:
        return arena + HARNESS_READABLE + 128;
    default:
        return arena + 256 + (r >> 8 & 0xfc0);
    }
}

/* The vector register `index` becomes offsets around the arena's start. */
static void random_vsib(struct native_state *state, unsigned index, unsigned scale, bool wide)
{
    for (unsigned i = 0; i < 8; i++) {
        uint8_t *lane = i < 4 ? &state->area.xmm[index][4 * i]
                              : &state->area.ymm_high[index][4 * i - 16];
        uint64_t r = harness_random();
        int32_t value = (int32_t)((r & 0xfff) >> scale) - 32;

        if ((r >> 32 & 31) == 0)
            value = (int32_t)((HARNESS_READABLE - 448) >> scale); /* into the page that faults */
        store_le32(lane, (uint32_t)(wide && (i & 1) ? 0 : value));
        if (wide && !(i & 1) && value < 0)
            store_le32(lane, (uint32_t)-value);
    }
}

static void put_memory(struct bytes *bytes, const struct form *form, struct native_state *state,
                       unsigned reg, unsigned rxb, unsigned after)
{
    uint64_t target = random_target(), r = harness_random();
    unsigned base = (unsigned)(r & 7), scale = r >> 8 & 3, index = r >> 10 & 7;
    int8_t displacement = (int8_t)(r >> 16);

    if (form->fixed_rm) { /* VSIB */
        base = base == CPU_RSP ? CPU_RBX : base;
        index = (index & 7) == (reg & 7) ? (index + 1) & 7 : index;
        put(bytes, 0x44 | (reg & 7) << 3);
        put(bytes, scale << 6 | index << 3 | base);
        put(bytes, (uint8_t)displacement);
        state->gpr[base | (rxb & 1) << 3] = (uint64_t)(uintptr_t)harness.arena + 512 -
                                            (uint64_t)displacement;
        random_vsib(state, index | (rxb & 2) << 2, scale, form->opcode & 1);
        return;
    }
    if ((r >> 24 & 7) == 0) { /* RIP-relative */
        put(bytes, 5 | (reg & 7) << 3);
        put32(bytes, (uint32_t)(target - native_rip() - bytes->length - 4 - after));
        return;
    }
    if ((r >> 24 & 7) == 1) { /* SIB */
        index = index == base ? (index + 1) & 7 : index;
        base = base == CPU_RSP ? CPU_RBX : base;
        put(bytes, 0x84 | (reg & 7) << 3);
        put(bytes, scale << 6 | index << 3 | base);
        put32(bytes, (uint32_t)displacement);
        base |= (rxb & 1) << 3;
        index |= (rxb & 2) << 2;
        target -= (uint64_t)displacement;
        if (index == base)
            index = CPU_RSP;
        if (index != CPU_RSP)
            target -= state->gpr[index] << scale;
        state->gpr[base] = target;
        return;
    }
    base = base == CPU_RSP ? CPU_RBX : base;
    put(bytes, 0x40 | (reg & 7) << 3 | base);
    put(bytes, (uint8_t)displacement);
    state->gpr[base | (rxb & 1) << 3] = target - (uint64_t)displacement;
}

unsigned form_instance(const struct form *form, struct native_state *state, uint8_t *ret_bytes,
                       struct insn *ret_insn)
{
    uint64_t r = harness_random();
    unsigned rxb = form->map == 0 ? 0 : r & 7;
    unsigned reg = form->fixed_reg ? form->reg : r >> 3 & 7;
    unsigned rm = form->fixed_rm ? form->rm : r >> 6 & 7;
    unsigned vvvv = r >> 9 & 15;
    struct bytes bytes = {.data = ret_bytes};
    uint8_t probe[24] = {0};
    struct bytes probed = {.data = probe};
    struct insn insn;

    /* MASKMOVQ and MASKMOVDQU: which bytes they access for a clear mask is the processor's choice.
     */
    if (form->map == 1 && form->opcode == 0xf7)
        state->gpr[CPU_RDI] = (uint64_t)(uintptr_t)harness.arena + (r >> 20 & 0x1fdf);
    if (form->fixed_rm && form->memory)
        vvvv = (reg | (rxb & 4) << 1) ^ 8;
    /* What follows the operands, and whether vvvv is free, only the decoder knows. */
    put_opcode(&probed, form, rxb, vvvv);
    put(&probed, (form->memory ? 0x40u : 0xc0u) | reg << 3 | (form->memory && rm == 4 ? 3 : rm));
    if (insn_decode(probe, sizeof(probe), INSN_MODE_64, &insn) != INSN_OK)
        vvvv = form->fixed_rm && form->memory ? vvvv : 0;
    insn.imm_size = 0;
    probed.length = 0;
    memset(probe, 0, sizeof(probe));
    put_opcode(&probed, form, rxb, vvvv);
    put(&probed, (form->memory ? 0x40u : 0xc0u) | reg << 3 | (form->memory && rm == 4 ? 3 : rm));
    if (insn_decode(probe, sizeof(probe), INSN_MODE_64, &insn) != INSN_OK)
        insn.imm_size = 0;
    put_opcode(&bytes, form, rxb, vvvv);
    if (form->has_modrm) {
        unsigned immediates = insn.imm_size;

        if (form->memory)
            put_memory(&bytes, form, state, reg, rxb, immediates);
        else
            put(&bytes, 0xc0 | reg << 3 | rm);
        for (unsigned i = 0; i < immediates; i++)
            put(&bytes, (unsigned)(harness_random() & 0xff));
    }
    if (insn_decode(ret_bytes, bytes.length, INSN_MODE_64, ret_insn) != INSN_OK ||
        ret_insn->length != bytes.length)
        return 0;
    return bytes.length;
}
