/* SPDX-License-Identifier: Apache-2.0 */
/* See instance.h. */
#include "instance.h"

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
    probed.length = form_put_opcode(form, rxb, vvvv, probe);
    put(&probed, (form->memory ? 0x40u : 0xc0u) | reg << 3 | (form->memory && rm == 4 ? 3 : rm));
    if (insn_decode(probe, sizeof(probe), INSN_MODE_64, &insn) != INSN_OK)
        vvvv = form->fixed_rm && form->memory ? vvvv : 0;
    insn.imm_size = 0;
    probed.length = 0;
    memset(probe, 0, sizeof(probe));
    probed.length = form_put_opcode(form, rxb, vvvv, probe);
    put(&probed, (form->memory ? 0x40u : 0xc0u) | reg << 3 | (form->memory && rm == 4 ? 3 : rm));
    if (insn_decode(probe, sizeof(probe), INSN_MODE_64, &insn) != INSN_OK)
        insn.imm_size = 0;
    bytes.length = form_put_opcode(form, rxb, vvvv, ret_bytes);
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
