/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory operands of user code where guest addresses are the host's (window.c): as they stand, with
 * registers as emit.h places them.
 *
 *   pext  rcx, register, [window_mask]     the byte of the table; if the block of addresses is not
 *   mov   cl, gs:[rcx]                     the guest's, this faults. Nothing waits for it.
 *   op    [register + displacement]
 *
 * One check is good for all accesses of a block that are made of the same registers with the same
 * values and lie within WINDOW_SPAN (ranges.c), for blocks of addresses are never taken back.
 * An access that faults is an exit GUARD: the instruction has not changed anything then.
 */
#include "soft/translate/translator.h"

/* Is this host register (or [HOST_RCX]) an address in the window? Clobbers RCX. */
static void register_check(struct translator *tr, unsigned reg)
{
    emit_pext(&tr->e, HOST_RCX, reg, HOT(window_mask));
    emit8(&tr->e, 0x65); /* mov cl, gs:[rcx] */
    emit8(&tr->e, 0x8a);
    emit8(&tr->e, 0x09);
}

static bool is_near(int64_t displacement)
{
    return displacement > -WINDOW_NEAR && displacement < WINDOW_NEAR;
}

/* Had an access before this one the check that is good for it? */
static bool checked(struct translator *tr)
{
    unsigned range = tr->range_of[tr->op];

    return range != TRANSLATOR_NO_RANGE && tr->range[range].led;
}

static void is_checked(struct translator *tr)
{
    unsigned range = tr->range_of[tr->op];

    if (range != TRANSLATOR_NO_RANGE)
        tr->range[range].led = tr->e.at;
}

void window_check(struct translator *tr)
{
    register_check(tr, HOST_R10);
    tr->operand = (struct emit_operand){.base = HOST_R10, .index = HOST_NONE};
}

void window_stack_access(struct translator *tr, unsigned home, int32_t displacement)
{
    if (!checked(tr)) {
        register_check(tr, home);
        is_checked(tr);
    }
    tr->operand = (struct emit_operand){
        .base = (uint8_t)home, .index = HOST_NONE, .displacement = displacement + tr->rsp_pending};
}

/* A register of the guest's, or where it is loaded to. */
static unsigned register_of(struct translator *tr, unsigned guest, unsigned scratch)
{
    if (guest == INSN_NO_REG)
        return HOST_NONE;
    if (emit_home[guest] != HOST_NONE)
        return emit_home[guest];
    emit_load_hot(&tr->e, scratch, emit_kept(guest));
    return scratch;
}

/* tr->operand, its index in RCX if that has no register. False: not a form that is handled. */
static bool operand_make(struct translator *tr)
{
    const struct insn_mem *mem = &tr->insn.mem;
    int64_t displacement = mem->displacement;
    unsigned base, index = HOST_NONE;

    if (tr->insn.address_size != 8 || mem->vsib)
        return false;
    if (mem->segment >= CPU_FS && (mem->rip_relative || mem->base != INSN_NO_REG)) {
        if (!translator_address(tr))
            return false;
        tr->operand = (struct emit_operand){.base = HOST_R10, .index = HOST_NONE};
        return true;
    }
    if (mem->segment >= CPU_FS) {
        emit_load_hot(&tr->e, HOST_R10, HOT(segment_base) + 8u * (mem->segment - CPU_FS));
        base = HOST_R10;
    } else if (mem->rip_relative) {
        displacement += (int64_t)tr->offset + tr->insn.length;
        emit_load_hot(&tr->e, HOST_R10, HOT(page));
        base = HOST_R10;
    } else {
        base = register_of(tr, mem->base, HOST_R10);
    }
    if (displacement != (int32_t)displacement)
        return false;
    index = register_of(tr, mem->index, HOST_RCX);
    tr->operand = (struct emit_operand){
        .base = (uint8_t)base,
        .index = (uint8_t)index,
        .shift = (uint8_t)__builtin_ctz(mem->scale ? mem->scale : 1u),
        .displacement = (int32_t)displacement,
    };
    return true;
}

bool window_access(struct translator *tr)
{
    struct emit_operand *operand = &tr->operand;

    if (!operand_make(tr))
        return false;
    if (checked(tr))
        return true;
    if (operand->index == HOST_NONE && operand->base != HOST_NONE &&
        is_near(operand->displacement)) {
        register_check(tr, operand->base);
    } else {
        emit_lea(&tr->e, HOST_RCX, operand->base, operand->index, operand->shift,
                 operand->displacement);
        register_check(tr, HOST_RCX);
        if (operand->index == HOST_RCX)
            register_of(tr, tr->insn.mem.index, HOST_RCX);
    }
    is_checked(tr);
    return true;
}
