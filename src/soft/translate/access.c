/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of memory operands, and the checks that turn them into host addresses. No check changes
 * a flag.
 *
 *   flat    pext  rcx, address, gs:[flat_mask]          exact   pext  r11, r10, gs:[index_mask]
 *           not   rcx                   (stores)                mov   rcx, gs:[r11*8 + tag]
 *           mov   rcx, gs:[rcx*8 + table]                       lea   rcx, [rcx + r10 + size - 1]
 *           jrcxz island                                        pext  rcx, rcx, gs:[check_mask]
 *     back: op    [rcx + address]                               jrcxz over;  jmp exit
 *                                                         over: mov   rcx, gs:[r11*8 + addend]
 *
 * JRCXZ reaches 127 bytes: islands between instructions hold the jumps to the exact check, which
 * stands behind the block and comes back.
 */
#include "soft/translate/translator.h"

/* From the oldest JRCXZ to where an island is due: what may come before the next chance fits
 * into the rest of its reach. */
#define NEAR_REACH 40

bool translator_address(struct translator *tr)
{
    const struct insn_mem *mem = &tr->insn.mem;
    unsigned base = HOST_NONE, index = HOST_NONE;
    int64_t displacement = mem->displacement;

    if (tr->insn.address_size != 8 || mem->vsib)
        return false;
    if (mem->rip_relative) {
        displacement += (int64_t)tr->offset + tr->insn.length;
        emit_load_hot(&tr->e, HOST_R10, HOT(page));
        base = HOST_R10;
    } else if (mem->base != INSN_NO_REG) {
        base = emit_home[mem->base];
        if (base == HOST_NONE) {
            base = HOST_R10;
            emit_load_hot(&tr->e, base, emit_kept(mem->base));
        }
    }
    if (displacement != (int32_t)displacement)
        return false;
    if (mem->index != INSN_NO_REG) {
        index = emit_home[mem->index];
        if (index == HOST_NONE) {
            index = HOST_R11;
            emit_load_hot(&tr->e, index, emit_kept(mem->index));
        }
    }
    emit_lea(&tr->e, HOST_R10, base, index, (unsigned)__builtin_ctz(mem->scale ? mem->scale : 1u),
             (int32_t)displacement);
    if (tr->insn.id != INSN_LEA && mem->segment >= CPU_FS) {
        emit_load_hot(&tr->e, HOST_R11, HOT(segment_base) + 8u * (mem->segment - CPU_FS));
        emit_lea(&tr->e, HOST_R10, HOST_R10, HOST_R11, 0, 0);
    }
    return true;
}

static void check_exact(struct translator *tr, unsigned size, bool write, bool aligned, unsigned op)
{
    struct emit *e = &tr->e;
    unsigned mask = 0;

    if (aligned && size > 1)
        mask = (unsigned)__builtin_ctz(size);
    emit_pext(e, HOST_R11, HOST_R10, HOT(index_mask));
    emit_load_indexed(e, HOST_RCX, write ? CLASS(write_tag) : CLASS(read_tag));
    emit_lea(e, HOST_RCX, HOST_RCX, HOST_R10, 0, mask ? 0 : (int32_t)size - 1);
    emit_pext(e, HOST_RCX, HOST_RCX, HOT(check_mask) + 8u * mask);
    emit8(e, 0xe3); /* jrcxz over the jump */
    emit8(e, 5);
    translator_exit(tr, emit_jump(e), write ? TRANSLATE_EXIT_STORE : TRANSLATE_EXIT_LOAD, op);
    emit_load_indexed(e, HOST_RCX, CLASS(addend));
}

/* mov rcx, gs:[rcx * 8 + displacement] */
static void load_flat(struct emit *e, int32_t displacement)
{
    emit8(e, 0x65);
    emit8(e, 0x48);
    emit8(e, 0x8b);
    emit_address(e, HOST_RCX, HOST_NONE, HOST_RCX, 3, displacement);
}

static void check_flat(struct translator *tr, unsigned size, bool write)
{
    struct emit *e = &tr->e;

    translator_islands(tr, false);
    if (tr->nr_near == TRANSLATOR_NEAR_MAX || tr->nr_cold == TRANSLATOR_COLD_MAX) {
        tr->failed = true;
        return;
    }
    emit_pext(e, HOST_RCX, HOST_R10, HOT(flat_mask));
    if (write)
        emit_not(e, HOST_RCX);
    load_flat(e, write ? 0 : (int32_t)FLAT_LOAD);
    emit8(e, 0xe3); /* jrcxz */
    emit8(e, 0);
    tr->near[tr->nr_near++] = (struct translator_near){.patch = e->at - 1,
                                                       .cold = (uint8_t)tr->nr_cold};
    tr->cold[tr->nr_cold++] = (struct translator_cold){
        .back = e->at,
        .size = (uint8_t)size,
        .op = (uint8_t)tr->op,
        .write = write,
    };
}

void translator_check(struct translator *tr, unsigned size, bool write, bool aligned)
{
    if (tr->cpu->translate->flat && !aligned)
        check_flat(tr, size, write);
    else
        check_exact(tr, size, write, aligned, tr->op);
    tr->operand = (struct emit_operand){.base = HOST_RCX, .index = HOST_R10};
}

static void islands(struct translator *tr, bool all, unsigned reach)
{
    struct emit *e = &tr->e;
    uint8_t *over = NULL;

    if (!tr->nr_near || (!all && e->at - tr->near[0].patch < reach))
        return;
    if (!all) {
        emit8(e, 0xeb);
        emit8(e, 0);
        over = e->at;
    }
    tr->island_end = e->at;
    for (unsigned i = 0; i < tr->nr_near; i++) {
        const struct translator_near *near = &tr->near[i];
        int64_t distance = e->at - (near->patch + 1);

        if (distance > 127)
            tr->failed = true;
        *near->patch = (uint8_t)distance;
        tr->cold[near->cold].patch = emit_jump(e);
    }
    if (over)
        over[-1] = (uint8_t)(e->at - over);
    tr->nr_near = 0;
}

void translator_islands(struct translator *tr, bool all)
{
    islands(tr, all, NEAR_REACH);
}

void translator_reach(struct translator *tr, unsigned bytes)
{
    islands(tr, false, bytes < 127 - NEAR_REACH ? NEAR_REACH : 0);
}

void translator_undo(struct translator *tr, uint8_t *from)
{
    tr->e.at = from;
    if (tr->island_end > from) /* others' jumps were there */
        tr->failed = true;
    while (tr->nr_near && tr->near[tr->nr_near - 1].patch >= from)
        tr->nr_near--;
    while (tr->nr_cold && tr->cold[tr->nr_cold - 1].back > from)
        tr->nr_cold--;
}

void translator_cold_emit(struct translator *tr)
{
    for (unsigned i = 0; i < tr->nr_cold; i++) {
        const struct translator_cold *cold = &tr->cold[i];

        if (tr->nr_stubs == TRANSLATOR_STUBS_MAX) {
            tr->failed = true;
            return;
        }
        emit_patch(cold->patch, tr->e.at);
        check_exact(tr, cold->size, cold->write, false, cold->op);
        emit_patch(emit_jump(&tr->e), cold->back);
    }
}

void translator_free_rcx(struct translator *tr)
{
    emit_lea(&tr->e, HOST_R10, tr->operand.base, tr->operand.index, 0, tr->operand.displacement);
    tr->operand = (struct emit_operand){.base = HOST_R10, .index = HOST_NONE};
}
