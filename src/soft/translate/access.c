/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of memory operands, and the checks that turn them into host addresses. No check changes
 * a flag.
 *
 *   loads   rorx  rcx, register, 7      (user)          exact   lea   r10, address
 *           mov   ecx, ecx                                      pext  r11, r10, [index_mask]
 *           pext  rcx, register, [flat_mask]    (kernel)        mov   rcx, [r11*8 + tag]
 *           mov   rcx, [rcx*8 + table]                          lea   rcx, [rcx + r10 + size - 1]
 *           jrcxz island                                        pext  rcx, rcx, [check_mask]
 *     back: op    [rcx + register + displacement]               jrcxz over;  jmp exit
 *   stores  pext  rcx, register, [mask]                   over: mov   rcx, [r11*8 + addend]
 *           mov   rcx, gs:[rcx*8]
 *           jrcxz island; and so on
 *
 * The register is the base, where the operand has no index and ends within a granule's span from
 * it, so that what the granule's entry says holds for the operand; otherwise R10 with its address.
 *
 * Accesses of one range (ranges.c): the first as above, for all of the range, then  mov
 * [hot.range], rcx  if a later one will not find it in RCX;  those  mov rcx, [hot.range].
 *
 * JRCXZ reaches 127 bytes: islands between instructions hold the jumps to the exact check, which
 * stands behind the block and comes back.
 */
#include "soft/translate/translator.h"

#define REACH        127
#define CHECK_REACH  85 /* where one is due before a check */
#define BRANCH_REACH 55 /* ... of a RET or an indirect JMP */
#define LONG_REACH   30 /* in an instruction that becomes many */

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

static enum translate_exit exit_of(bool write)
{
    return write ? TRANSLATE_EXIT_STORE : TRANSLATE_EXIT_LOAD;
}

static void check_exact(struct translator *tr, unsigned size, bool write, bool aligned,
                        enum translate_exit exit, unsigned op)
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
    translator_exit(tr, emit_jump(e), exit, op);
    emit_load_indexed(e, HOST_RCX, CLASS(addend));
}

/* RCX = entry of the table of loads. PEXT takes three times as long as a rotation, and what is
 * loaded waits for it; but 32 bits are too few for kernels, whose regions lie far apart at
 * multiples of large powers of two. */
static void flat_load_entry(struct translator *tr, unsigned address)
{
    struct emit *e = &tr->e;

    if (tr->user) {
        emit_rorx(e, HOST_RCX, address, FLAT_SHIFT);
        emit8(e, 0x89); /* mov ecx, ecx */
        emit8(e, 0xc9);
    } else {
        emit_pext(e, HOST_RCX, address, HOT(flat_mask));
    }
    emit8(e, 0x48 | emit_rex_of(HOST_RCX, HOST_BASE, HOST_RCX));
    emit8(e, 0x8b);
    emit_address(e, HOST_RCX, HOST_BASE, HOST_RCX, 3, 0);
}

/* ... of stores, for which nothing waits: mov rcx, gs:[rcx * 8 + table] */
static void flat_store_entry(struct translator *tr, unsigned address)
{
    struct emit *e = &tr->e;

    emit_pext(e, HOST_RCX, address, tr->user ? HOT(flat_user_mask) : HOT(flat_mask));
    emit8(e, 0x65);
    emit8(e, 0x48);
    emit8(e, 0x8b);
    emit_address(e, HOST_RCX, HOST_NONE, HOST_RCX, 3, (int32_t)WINDOW_TABLE_SIZE);
}

/* From the displacement of a JRCXZ to here. */
static unsigned e_distance(const struct translator *tr, unsigned near)
{
    return (unsigned)(tr->e.at - tr->near[near].patch);
}

static void islands_emit(struct translator *tr, bool end)
{
    struct emit *e = &tr->e;
    uint8_t *over = NULL;

    if (!end) {
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
        if (near->cold == TRANSLATOR_NO_COLD)
            translator_exit(tr, emit_jump(e), (enum translate_exit)near->kind, near->op);
        else
            tr->cold[near->cold].patch = emit_jump(e);
    }
    if (over)
        over[-1] = (uint8_t)(e->at - over);
    tr->nr_near = 0;
}

/* Inside an instruction: where the first JRCXZ would soon be too far away. */
static void islands_due(struct translator *tr, unsigned reach)
{
    if (tr->nr_near && !tr->trial && e_distance(tr, 0) >= reach)
        islands_emit(tr, false);
}

bool translator_reached(const struct translator *tr, unsigned more)
{
    for (unsigned i = 0; i < tr->nr_near; i++)
        if (e_distance(tr, i) + more + 5 * i > REACH)
            return false;
    return true;
}

static void near_add(struct translator *tr, unsigned cold, enum translate_exit kind)
{
    if (tr->nr_near == TRANSLATOR_NEAR_MAX) {
        tr->failed = true;
        return;
    }
    emit8(&tr->e, 0xe3); /* jrcxz */
    emit8(&tr->e, 0);
    if (tr->no_islands) {
        tr->e.at[-1] = 2;
        emit8(&tr->e, 0xeb);
        emit8(&tr->e, 5);
        if (cold == TRANSLATOR_NO_COLD)
            translator_exit(tr, emit_jump(&tr->e), kind, tr->op);
        else
            tr->cold[cold].patch = emit_jump(&tr->e);
        return;
    }
    tr->near[tr->nr_near++] = (struct translator_near){
        .patch = tr->e.at - 1, .cold = (uint8_t)cold, .kind = (uint8_t)kind, .op = (uint8_t)tr->op};
}

void translator_leave_if_zero(struct translator *tr, enum translate_exit kind)
{
    near_add(tr, TRANSLATOR_NO_COLD, kind);
}

/* How far away the first JRCXZ may be when this instruction's check begins. */
static unsigned check_reach(const struct insn *insn)
{
    if (translator_copies(insn) || insn->id == INSN_PUSH || insn->id == INSN_POP)
        return CHECK_REACH;
    return insn->id == INSN_RET || insn->id == INSN_JMP ? BRANCH_REACH : LONG_REACH;
}

/* `size` bytes at `displacement` from the address, all of which its own granule's entry covers.
 * range: a failure is the careful translation's. */
static void check_flat(struct translator *tr, unsigned address, int32_t displacement, unsigned size,
                       bool write, bool range)
{
    struct emit *e = &tr->e;
    struct translator_cold *cold;

    islands_due(tr, check_reach(&tr->insn));
    if (tr->nr_cold == TRANSLATOR_COLD_MAX) {
        tr->failed = true;
        return;
    }
    if (write)
        flat_store_entry(tr, address);
    else
        flat_load_entry(tr, address);
    cold = &tr->cold[tr->nr_cold];
    cold->patch = NULL;
    near_add(tr, tr->nr_cold++, TRANSLATE_EXIT_REST);
    *cold = (struct translator_cold){
        .patch = cold->patch,
        .back = e->at,
        .size = (uint8_t)size,
        .op = (uint8_t)tr->op,
        .address = (uint8_t)address,
        .displacement = (uint8_t)displacement,
        .write = write,
        .range = range,
    };
}

/* At `displacement` from a host register that is R10 or the guest's. */
static void check(struct translator *tr, unsigned address, int32_t displacement, unsigned size,
                  bool write, bool aligned)
{
    if (tr->cpu->translate->flat && !aligned && !tr->t->block->exact) {
        check_flat(tr, address, displacement, size, write, false);
    } else {
        if (address != HOST_R10 || displacement)
            emit_lea(&tr->e, HOST_R10, address, HOST_NONE, 0, displacement);
        address = HOST_R10;
        displacement = 0;
        check_exact(tr, size, write, aligned, exit_of(write), tr->op);
    }
    tr->held = TRANSLATOR_NO_RANGE;
    tr->operand = (struct emit_operand){
        .base = HOST_RCX, .index = (uint8_t)address, .displacement = displacement};
}

void translator_check(struct translator *tr, unsigned size, bool write, bool aligned)
{
    if (tr->window && !aligned)
        window_check(tr);
    else
        check(tr, HOST_R10, 0, size, write, aligned);
}

/* The range of this instruction's access, or NULL. */
static struct translator_range *range_current(struct translator *tr)
{
    unsigned range = tr->range_of[tr->op];

    return tr->t->ranged && range != TRANSLATOR_NO_RANGE ? &tr->range[range] : NULL;
}

static uint32_t range_place(unsigned number)
{
    return HOT(range) + 8u * (TRANSLATE_RANGES - 1 - number);
}

/* The range's lowest address is at `displacement` from a host register, the access at `access`. */
static void range_lead(struct translator *tr, struct translator_range *range, unsigned address,
                       int32_t displacement, int32_t access)
{
    unsigned number = (unsigned)(range - tr->range);

    check_flat(tr, address, displacement, (unsigned)(range->high - range->low), range->write, true);
    range->led = tr->e.at;
    if (range->reloaded || tr->no_islands)
        emit_store_hot(&tr->e, HOST_RCX, range_place(number));
    tr->held = (uint8_t)number;
    tr->operand =
        (struct emit_operand){.base = HOST_RCX, .index = (uint8_t)address, .displacement = access};
}

static void range_follow(struct translator *tr, const struct translator_range *range,
                         unsigned index, int64_t displacement)
{
    unsigned number = (unsigned)(range - tr->range);

    if (tr->held != number) {
        emit_load_hot(&tr->e, HOST_RCX, range_place(number));
        if (!range->reloaded && !tr->no_islands) /* not foreseen: nothing was stored */
            tr->failed = true;
    }
    tr->held = (uint8_t)number;
    tr->operand = (struct emit_operand){
        .base = HOST_RCX, .index = (uint8_t)index, .displacement = (int32_t)displacement};
}

/* The guest's register that an operand of this displacement is, as a host register, or HOST_NONE.
 */
static unsigned register_alone(const struct insn *insn)
{
    const struct insn_mem *mem = &insn->mem;

    if (insn->address_size != 8 || mem->rip_relative || mem->vsib || mem->base == INSN_NO_REG ||
        mem->index != INSN_NO_REG || mem->segment >= CPU_FS)
        return HOST_NONE;
    return emit_home[mem->base];
}

/* The same in memory: where. Or a segment's base, when there is nothing else. */
static uint32_t register_kept(const struct insn *insn)
{
    const struct insn_mem *mem = &insn->mem;

    if (insn->address_size != 8 || mem->rip_relative || mem->vsib || mem->index != INSN_NO_REG)
        return HOST_NONE;
    if (mem->segment >= CPU_FS)
        return mem->base == INSN_NO_REG && insn->id != INSN_LEA
                   ? HOT(segment_base) + 8u * (mem->segment - CPU_FS)
                   : (uint32_t)HOST_NONE;
    return mem->base != INSN_NO_REG && emit_home[mem->base] == HOST_NONE ? emit_kept(mem->base)
                                                                         : (uint32_t)HOST_NONE;
}

/* The operand's address, `back` less, is `*ret_displacement` from the host register `*ret`, and the
 * granule of that register covers `size` bytes there. False: as translator_address. */
static bool address_find(struct translator *tr, int64_t back, unsigned size, unsigned *ret,
                         int32_t *ret_displacement)
{
    struct insn_mem *mem = &tr->insn.mem;
    int64_t displacement = mem->displacement - back;
    bool done, covered = displacement >= 0 && displacement + size <= FLAT_SPAN;

    *ret = HOST_R10;
    *ret_displacement = 0;
    if (covered && register_alone(&tr->insn) != HOST_NONE) {
        *ret = register_alone(&tr->insn);
        *ret_displacement = (int32_t)displacement;
        return true;
    }
    if (covered && register_kept(&tr->insn) != HOST_NONE) {
        emit_load_hot(&tr->e, HOST_R10, register_kept(&tr->insn));
        *ret_displacement = (int32_t)displacement;
        return true;
    }
    mem->displacement -= back;
    done = translator_address(tr);
    mem->displacement += back;
    return done;
}

bool translator_access(struct translator *tr, unsigned size, bool write, bool aligned)
{
    struct translator_range *range = aligned ? NULL : range_current(tr);
    const struct insn_mem *mem = &tr->insn.mem;
    unsigned address, alone = register_alone(&tr->insn);
    int32_t displacement;
    int64_t back;

    if (tr->window && !aligned)
        return window_access(tr);
    if (!range) {
        if (!address_find(tr, 0, size, &address, &displacement))
            return false;
        check(tr, address, displacement, size, write, aligned);
        return true;
    }
    if (range->led) {
        if (alone != HOST_NONE) {
            range_follow(tr, range, alone, mem->displacement);
            return true;
        }
        if (register_kept(&tr->insn) != HOST_NONE) {
            emit_load_hot(&tr->e, HOST_R10, register_kept(&tr->insn));
            range_follow(tr, range, HOST_R10, mem->displacement);
            return true;
        }
        if (!translator_address(tr))
            return false;
        range_follow(tr, range, HOST_R10, 0);
        return true;
    }
    back = tr->range_at[tr->op] - range->low;
    if (!address_find(tr, back, (unsigned)(range->high - range->low), &address, &displacement))
        return false;
    range_lead(tr, range, address, displacement, displacement + (int32_t)back);
    return true;
}

void translator_stack_access(struct translator *tr, unsigned reg, int32_t displacement, bool write)
{
    struct translator_range *range = range_current(tr);
    int32_t back = range && !range->led ? (int32_t)(tr->range_at[tr->op] - range->low) : 0;
    int32_t lowest = displacement - back;
    unsigned address = emit_home[reg];

    if (tr->window) {
        window_stack_access(tr, address, displacement);
        return;
    }
    if (range && range->led) {
        range_follow(tr, range, address, displacement + tr->rsp_pending);
        return;
    }
    if (lowest < 0 || lowest + (range ? range->high - range->low : 8) > FLAT_SPAN) {
        emit_lea(&tr->e, HOST_R10, address, HOST_NONE, 0, lowest);
        address = HOST_R10;
        lowest = 0;
    }
    if (range)
        range_lead(tr, range, address, lowest, lowest + back);
    else
        check(tr, address, lowest, 8, write, false);
}

void translator_islands(struct translator *tr, bool end)
{
    if (tr->nr_near)
        islands_emit(tr, end);
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
    for (unsigned i = 0; i < tr->nr_ranges; i++)
        if (tr->range[i].led > from)
            tr->range[i].led = NULL;
}

static void cold_check(struct translator *tr, const struct translator_cold *cold)
{
    struct emit *e = &tr->e;
    uint8_t *miss;

    emit_patch(cold->patch, e->at);
    if (cold->address != HOST_R10 || cold->displacement)
        emit_lea(e, HOST_R10, cold->address, HOST_NONE, 0, cold->displacement);
    emit_lea(e, HOST_R11, HOST_R10, HOST_NONE, 0, (int32_t)cold->size - 1);
    emit_patch(emit_call(e), tr->cpu->translate->check[cold->write]);
    emit8(e, 0xe3); /* jrcxz */
    miss = e->at++;
    if (cold->address == HOST_R10 && cold->displacement)
        emit_lea(e, HOST_R10, HOST_R10, HOST_NONE, 0, -(int32_t)cold->displacement);
    emit_patch(emit_jump(e), cold->back);
    *miss = (uint8_t)(e->at - (miss + 1));
    translator_exit_emit(tr, cold->range ? TRANSLATE_EXIT_CAREFUL : exit_of(cold->write), cold->op);
}

void translator_cold_emit(struct translator *tr)
{
    for (unsigned i = 0; i < tr->nr_cold; i++)
        cold_check(tr, &tr->cold[i]);
}

void translator_free_rcx(struct translator *tr)
{
    if (tr->operand.base != HOST_RCX && tr->operand.index != HOST_RCX)
        return;
    emit_lea(&tr->e, HOST_R10, tr->operand.base, tr->operand.index, tr->operand.shift,
             tr->operand.displacement);
    tr->operand = (struct emit_operand){.base = HOST_R10, .index = HOST_NONE};
}
