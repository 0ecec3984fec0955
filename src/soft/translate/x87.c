/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x87 and MMX by copying, on the host's own registers.
 *
 * The state is loaded at the first block that wants it and taken back when generated code is left
 * (x87_load, x87_save). Only while every exception is masked and none is pending: nothing that is
 * copied here can then raise #MF, and an instruction that could change this (FLDCW with an
 * unmasked exception, FLDENV, FRSTOR, FNSAVE) is interpreted.
 *
 * Pointers (SDM 1 8.1.8). The host's FIP, FDP and FOP say where the copy is: they are never shown.
 * Each instruction notes its own in hot.x87_last, those with a memory operand the address in
 * hot.x87_data; x87_settle (and a change of privilege, for the selectors) makes pointers of them.
 *
 * Source: SDM 1 8, 9; 2 the pages of the instructions.
 */
#include "soft/fpu/fpu.h"
#include "soft/fpu/fpu_internal.h"
#include "soft/translate/translator.h"

bool x87_allowed(const struct soft_cpu *cpu)
{
    const struct fpu_area *area = &cpu->fpu.area;

    return !(cpu->cr0 & (CPU_CR0_EM | CPU_CR0_TS)) &&
           (area->fcw & FPU_EXCEPTIONS) == FPU_EXCEPTIONS && !(area->fsw & FPU_FSW_ES);
}

void x87_load(struct soft_cpu *cpu)
{
    struct translate_hot *hot = cpu->translate->hot;

    __asm__ volatile("xrstor64 %0" : : "m"(cpu->fpu.xsave), "a"(1), "d"(0));
    hot->x87_last = TRANSLATE_X87_NONE;
    hot->x87_segment = TRANSLATE_X87_NONE;
    hot->x87_absent = 0;
}

void x87_save(struct soft_cpu *cpu)
{
    struct translate_hot *hot = cpu->translate->hot;
    struct fpu_area *area = &cpu->fpu.area;
    uint64_t fip = area->fip, fdp = area->fdp;
    uint16_t fop = area->fop;

    __asm__ volatile("xsave64 %0\n\tfninit" : "+m"(cpu->fpu.xsave) : "a"(1), "d"(0));
    area->xstate_bv = CPU_XCR0_SUPPORTED;
    area->fip = fip;
    area->fdp = fdp;
    area->fop = fop;
    x87_settle(cpu, hot);
    hot->x87_absent = 1;
}

/* The block's first: leaves unless the state is loaded. */
void translator_x87_check(struct translator *tr)
{
    if (tr->x87_seen)
        return;
    tr->x87_seen = true;
    tr->t->x87 = true;
    tr->held = TRANSLATOR_NO_RANGE;
    emit_load_hot(&tr->e, HOST_RCX, HOT(x87_absent));
    emit8(&tr->e, 0xe3);
    emit8(&tr->e, 5);
    translator_exit(tr, emit_jump(&tr->e), TRANSLATE_EXIT_VECTOR, tr->op);
}

/* mov dword [offset], value */
static void note(struct emit *e, uint32_t offset, uint32_t value)
{
    emit_memory32(e, 0xc7, 0, HOST_BASE, emit_based(offset));
    emit32(e, value);
}

/* The instruction was executed: pointers to it. */
static void note_pointers(struct translator *tr)
{
    const struct insn *insn = &tr->insn;
    uint32_t fop = (insn->opcode & 7u) << 8 | insn->modrm;

    if (!tr->x87_noted) {
        emit_load_hot(&tr->e, HOST_R11, HOT(page));
        emit_store_hot(&tr->e, HOST_R11, HOT(x87_page));
        tr->x87_noted = true;
    }
    note(&tr->e, HOT(x87_last), tr->offset | fop << GUEST_PAGE_SHIFT);
}

/* Not FLDENV, FNSTENV, FRSTOR, FNSAVE, nor the forms with pointers or masks of their own (below).
 */
static bool memory_form(const struct insn *insn)
{
    unsigned reg = insn->modrm >> 3 & 7;

    if (!(insn->opcode & 1))
        return true; /* arithmetic */
    if (insn->opcode == 0xdf)
        return true;
    return reg < 4 || (insn->opcode == 0xdb && (reg == 5 || reg == 7));
}

static void operand_emit(struct translator *tr, unsigned opcode, unsigned reg)
{
    const struct emit_operand *operand = &tr->operand;
    unsigned rex = emit_rex_of(HOST_NONE, operand->base, operand->index);

    if (rex)
        emit8(&tr->e, 0x40 | rex);
    emit8(&tr->e, opcode);
    emit_operand(&tr->e, reg, operand);
}

/* The size of the memory operand, and whether it is written; 0: none. */
static unsigned operand_size_of(const struct insn *insn, bool *ret_write)
{
    for (unsigned i = 0; i < insn->nr_operands; i++)
        if (insn->operand[i].kind == INSN_OPERAND_MEM) {
            *ret_write = insn->operand[i].access & INSN_WRITE;
            return insn->operand[i].size;
        }
    return 0;
}

/* FNSTCW alone needs no state loaded: FLDCW keeps fpu.area up to date. */
static bool emit_fnstcw(struct translator *tr)
{
    struct emit *e = &tr->e;

    if (!translator_address(tr))
        return false;
    emit_load_hot(e, HOST_R11, HOT(cpu));
    emit_memory(e, 0x8b, HOST_RCX, HOST_R11, (int32_t)offsetof(struct soft_cpu, cr0));
    emit_pext(e, HOST_RCX, HOST_RCX, HOT(keep) + 8u * TRANSLATE_KEEP_NO_FPU);
    emit8(e, 0xe3);
    emit8(e, 5);
    translator_exit(tr, emit_jump(e), TRANSLATE_EXIT_REST, tr->op);
    translator_check(tr, 2, true, false);
    emit_load_hot(e, HOST_R11, HOT(cpu));
    emit_memory(e, 0x8b, HOST_R11, HOST_R11,
                (int32_t)(offsetof(struct soft_cpu, fpu) + offsetof(struct soft_fpu, area)));
    emit8(e, 0x66); /* mov operand, r11w */
    emit8(e, 0x40 | emit_rex_of(HOST_R11, tr->operand.base, tr->operand.index));
    emit8(e, 0x89);
    emit_operand(e, HOST_R11, &tr->operand);
    return true;
}

/* FNSTSW: no pointers. */
static bool emit_store_word(struct translator *tr)
{
    if (!translator_address(tr))
        return false;
    translator_check(tr, 2, true, false);
    operand_emit(tr, tr->insn.opcode, 7);
    return true;
}

/* By way of hot.target: what is looked at is what is loaded. */
static bool emit_fldcw(struct translator *tr)
{
    struct emit *e = &tr->e;

    if (!translator_address(tr))
        return false;
    translator_check(tr, 2, false, false);
    emit8(e, 0x44 | emit_rex_of(HOST_NONE, tr->operand.base, tr->operand.index));
    emit8(e, 0x0f); /* movzx r11d, operand */
    emit8(e, 0xb7);
    emit_operand(e, HOST_R11, &tr->operand);
    emit_store_hot(e, HOST_R11, HOT(target));
    emit_pext(e, HOST_RCX, HOST_R11, HOT(low_bits) + 8); /* bits 0 to 5 */
    emit_lea(e, HOST_RCX, HOST_RCX, HOST_NONE, 0, -(int32_t)FPU_EXCEPTIONS);
    emit8(e, 0xe3);
    emit8(e, 5);
    translator_exit(tr, emit_jump(e), TRANSLATE_EXIT_REST, tr->op);
    emit_memory32(e, 0xd9, 5, HOST_BASE, emit_based(HOT(target))); /* fldcw */
    translator_islands(tr, false);
    emit_load_hot(e, HOST_R10, HOT(cpu));
    emit8(e, 0x41); /* fnstcw: without the bits that are not there */
    emit8(e, 0xd9);
    emit_address(e, 7, HOST_R10, HOST_NONE, 0,
                 (int32_t)(offsetof(struct soft_cpu, fpu) + offsetof(struct soft_fpu, area)));
    return true;
}

static bool emit_memory_form(struct translator *tr)
{
    const struct insn *insn = &tr->insn;
    bool write = false;
    unsigned size = operand_size_of(insn, &write);

    if (!memory_form(insn) || !size || insn->mem.segment >= CPU_FS || !translator_address(tr))
        return false;
    emit_store_hot(&tr->e, HOST_R10, HOT(target));
    translator_check(tr, size, write, false);
    operand_emit(tr, insn->opcode, insn->modrm >> 3 & 7);
    translator_islands(tr, false);
    emit_load_hot(&tr->e, HOST_R11, HOT(target));
    emit_store_hot(&tr->e, HOST_R11, HOT(x87_data));
    note(&tr->e, HOT(x87_segment), insn->mem.segment);
    note_pointers(tr);
    return true;
}

static bool emit(struct translator *tr)
{
    const struct insn *insn = &tr->insn;

    switch (insn->id) {
    case INSN_FLDENV:
    case INSN_FNSTENV:
    case INSN_FRSTOR:
    case INSN_FNSAVE:
    case INSN_FNINIT:
        return false;
    default:
        break;
    }
    if (insn->id == INSN_FNSTCW)
        return emit_fnstcw(tr);
    translator_x87_check(tr);
    if (insn->id == INSN_FWAIT) /* nothing is pending */
        return true;
    if (insn->id == INSN_FLDCW)
        return emit_fldcw(tr);
    if (insn->modrm >> 6 != 3)
        return insn->id == INSN_FNSTSW ? emit_store_word(tr) : emit_memory_form(tr);
    if (insn->id == INSN_FNOP && insn->opcode == 0xdb)
        return true;
    emit8(&tr->e, insn->opcode);
    emit8(&tr->e, insn->modrm);
    if (insn->id != INSN_FNSTSW && insn->id != INSN_FNCLEX)
        note_pointers(tr);
    return true;
}

bool translator_x87(struct translator *tr)
{
    uint8_t *start = tr->e.at;
    unsigned nr_stubs = tr->nr_stubs;
    bool seen = tr->x87_seen, noted = tr->x87_noted, x87 = tr->t->x87;

    if (tr->cpu->fpu.thunks->fdp_by_exception)
        return false;
    if (emit(tr))
        return true;
    tr->e.at = start;
    tr->nr_stubs = nr_stubs;
    tr->x87_seen = seen;
    tr->x87_noted = noted;
    tr->t->x87 = x87;
    return false;
}
