/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The short way of x87: only the operands of an instruction go through the host's stack, not the
 * whole state (restoring and saving that takes 60 ns). It is open while the guest masks all
 * exceptions, none is pending, and no stack fault comes: every register that is read is valid, and
 * a push finds an empty one. The common instructions have it; the others always go the long way.
 *
 * The generated code loads operands as 80-bit values, which raises nothing, executes the
 * instruction with the guest's control word, takes the status word and stores the result. The
 * host's own sticky flags are cleared beforehand only where the guest does not have them set
 * anyway: clearing is what costs most.
 *
 * C0, C2 and C3 are taken from the host only where they are a result; C1 always.
 */
#include "soft/fpu/fpu_internal.h"

#include <string.h>

#define PUT(code, literal) thunk_put(code, literal, sizeof(literal) - 1)

static void put_byte(struct thunk_code *code, unsigned byte)
{
    char c = (char)byte;

    thunk_put(code, &c, 1);
}

static bool is_memory(const struct insn *insn)
{
    return (insn->modrm >> 6) != 3;
}

static void set(struct thunk *thunk, enum lean_shape shape, unsigned needs)
{
    thunk->lean = (uint8_t)shape;
    thunk->lean_needs = (uint8_t)needs;
}

/* /0 to /7 of arithmetic opcodes: all but compare give a result. */
static unsigned arithmetic_needs(unsigned reg)
{
    return reg == 2   ? LEAN_NO_RESULT | LEAN_CONDITION
           : reg == 3 ? LEAN_NO_RESULT | LEAN_CONDITION | LEAN_POP
                      : 0;
}

static void plan_memory(const struct insn *insn, struct thunk *thunk)
{
    unsigned reg = insn->modrm >> 3 & 7;

    if (!(insn->opcode & 1)) {
        set(thunk, LEAN_MEMORY, LEAN_ST0 | arithmetic_needs(reg));
        return;
    }
    if (insn->opcode == 0xdb && reg >= 5) {
        set(thunk, reg == 5 ? LEAN_LOAD80 : LEAN_STORE80,
            reg == 5 ? LEAN_PUSH : LEAN_ST0 | LEAN_POP);
        return;
    }
    if (reg == 0 || (insn->opcode == 0xdf && (reg == 4 || reg == 5)))
        set(thunk, LEAN_LOAD, LEAN_PUSH);
    else if (reg < 4 || insn->opcode == 0xdf)
        set(thunk, LEAN_STORE, LEAN_ST0 | (reg == 2 ? 0u : LEAN_POP));
}

static void plan_d9(const struct insn *insn, struct thunk *thunk)
{
    unsigned modrm = insn->modrm;

    if (modrm < 0xc8)
        set(thunk, LEAN_LOAD_ST, LEAN_STI | LEAN_PUSH);
    else if (modrm < 0xd0)
        set(thunk, LEAN_EXCHANGE, LEAN_ST0 | LEAN_STI);
    else if (modrm == 0xe0 || modrm == 0xe1 || modrm == 0xfa || modrm == 0xfc)
        set(thunk, LEAN_UNARY, LEAN_ST0); /* FCHS FABS FSQRT FRNDINT */
    else if (modrm == 0xe4 || modrm == 0xe5)
        set(thunk, LEAN_UNARY, LEAN_ST0 | LEAN_NO_RESULT | LEAN_CONDITION); /* FTST FXAM */
    else if (modrm >= 0xe8 && modrm <= 0xee)
        set(thunk, LEAN_LOAD, LEAN_PUSH); /* constants */
}

void lean_plan(const struct insn *insn, struct thunk *thunk)
{
    unsigned reg = insn->modrm >> 3 & 7;
    unsigned pair = LEAN_ST0 | LEAN_STI;

    if (is_memory(insn)) {
        plan_memory(insn, thunk);
        return;
    }
    switch (insn->opcode) {
    case 0xd8:
        set(thunk, LEAN_PAIR, pair | arithmetic_needs(reg));
        break;
    case 0xd9:
        plan_d9(insn, thunk);
        break;
    case 0xda: /* FUCOMPP */
        if (insn->modrm == 0xe9)
            set(thunk, LEAN_PAIR, pair | LEAN_NO_RESULT | LEAN_CONDITION | LEAN_POP2);
        break;
    case 0xdb: /* FUCOMI, FCOMI */
    case 0xdf:
        if (reg == 5 || reg == 6)
            set(thunk, LEAN_PAIR, pair | LEAN_NO_RESULT | (insn->opcode == 0xdf ? LEAN_POP : 0u));
        break;
    case 0xdc:
        if (reg != 2 && reg != 3)
            set(thunk, LEAN_PAIR, pair | LEAN_TO_STI);
        break;
    case 0xdd:
        if (reg == 2 || reg == 3)
            set(thunk, LEAN_STORE_ST, LEAN_ST0 | (reg == 3 ? LEAN_POP : 0u));
        else if (reg == 4 || reg == 5)
            set(thunk, LEAN_PAIR,
                pair | LEAN_NO_RESULT | LEAN_CONDITION | (reg == 5 ? LEAN_POP : 0u));
        break;
    case 0xde:
        if (insn->modrm == 0xd9)
            set(thunk, LEAN_PAIR, pair | LEAN_NO_RESULT | LEAN_CONDITION | LEAN_POP2);
        else if (reg != 2 && reg != 3)
            set(thunk, LEAN_PAIR, pair | LEAN_TO_STI | LEAN_POP);
        break;
    default:
        break;
    }
}

static void put_instruction(const struct insn *insn, struct thunk_code *code)
{
    put_byte(code, insn->opcode);
    if (is_memory(insn))
        put_byte(code, (insn->modrm & 0x38) | 6); /* (%rsi) */
    else if (insn->opcode == 0xd9 || insn->modrm == 0xe9 || insn->modrm == 0xd9)
        put_byte(code, insn->modrm);
    else
        put_byte(code, (insn->modrm & 0xf8) | 1); /* ST(i) is the host's ST(1) */
}

/* What is left on the host's stack goes to its places: rdi ST(0), rdx ST(i), rcx the new one. */
static void put_results(const struct thunk *thunk, struct thunk_code *code)
{
    unsigned needs = thunk->lean_needs;
    unsigned left = thunk->lean == LEAN_PAIR ? 2 : 1;

    if (thunk->lean == LEAN_LOAD) {
        PUT(code, "\xdb\x39"); /* fstpt (%rcx) */
        return;
    }
    left -= needs & LEAN_POP2 ? 2 : needs & LEAN_POP ? 1 : 0;
    if (thunk->lean != LEAN_STORE && !(needs & LEAN_NO_RESULT)) {
        if ((needs & LEAN_TO_STI) && !(needs & LEAN_POP)) {
            PUT(code, "\xdd\xd8"); /* fstp %st */
            left--;
        }
        if (needs & LEAN_TO_STI)
            PUT(code, "\xdb\x3a"); /* fstpt (%rdx) */
        else
            PUT(code, "\xdb\x3f"); /* fstpt (%rdi) */
        left--;
    }
    while (left--)
        PUT(code, "\xdd\xd8");
}

static void put_io(struct thunk_code *code, const char *opcode, unsigned length, size_t offset)
{
    thunk_put(code, opcode, length);
    put_byte(code, (unsigned)offset);
}

#define PUT_IO(code, literal, field) \
    put_io(code, literal, sizeof(literal) - 1, offsetof(struct thunk_io, field))

void lean_emit(const struct insn *insn, const struct thunk *thunk, struct thunk_code *code)
{
    if (thunk->lean == LEAN_NONE || thunk->lean >= LEAN_LOAD80)
        return;
    PUT(code, "\xdf\xe0");                   /* fnstsw %ax */
    PUT_IO(code, "\x41\x84\x40", clear);     /* test %al, clear(%r8) */
    PUT(code, "\x74\x02\xdb\xe2");           /* jz +2; fnclex */
    PUT_IO(code, "\x41\xd9\x68", guest_fcw); /* fldcw */
    if (thunk->lean == LEAN_PAIR)
        PUT(code, "\xdb\x2a"); /* fldt (%rdx) */
    if (thunk->lean != LEAN_LOAD)
        PUT(code, "\xdb\x2f"); /* fldt (%rdi) */
    put_instruction(insn, code);
    if (insn->flags_written)
        PUT_IO(code, "\x9c\x41\x8f\x40", flags); /* pushfq; pop */
    PUT(code, "\xdf\xe0");
    PUT_IO(code, "\x66\x41\x89\x40", fsw); /* mov %ax, fsw(%r8) */
    put_results(thunk, code);
    PUT_IO(code, "\x41\xd9\x68", fcw);
    PUT(code, "\xc3");
}

static bool is_valid(const struct fpu_area *area, unsigned i)
{
    return area->ftw >> ((fpu_top(area) + i) & 7) & 1;
}

static bool is_open(const struct fpu_area *area, const struct insn *insn, const struct thunk *thunk)
{
    unsigned needs = thunk->lean_needs;

    if (thunk->lean == LEAN_NONE || (area->fcw & FPU_EXCEPTIONS) != FPU_EXCEPTIONS ||
        (area->fsw & FPU_FSW_ES))
        return false;
    if (insn->flags_written && (area->fsw & FPU_FSW_C1))
        return false; /* FCOMI clears C1 on some processors and leaves it on others */
    if ((needs & LEAN_ST0) && !is_valid(area, 0))
        return false;
    if ((needs & LEAN_STI) && !is_valid(area, insn->modrm & 7))
        return false;
    return !(needs & LEAN_PUSH) || !is_valid(area, 7);
}

static void pop(struct fpu_area *area)
{
    struct fpu_st popped = area->st[0];
    unsigned top = fpu_top(area);

    memmove(&area->st[0], &area->st[1], 7 * sizeof(area->st[0]));
    area->st[7] = popped;
    area->ftw &= (uint8_t) ~(1u << top);
    area->fsw = (uint16_t)((area->fsw & ~FPU_FSW_TOP) | ((top + 1) & 7) << 11);
}

static void push(struct fpu_area *area, const struct fpu_st *value)
{
    unsigned top = (fpu_top(area) - 1) & 7;

    memmove(&area->st[1], &area->st[0], 7 * sizeof(area->st[0]));
    area->st[0] = *value;
    area->ftw |= (uint8_t)(1u << top);
    area->fsw = (uint16_t)((area->fsw & ~FPU_FSW_TOP) | top << 11);
}

/* Those without code. 0, or a fault. */
static enum soft_result move(struct soft_cpu *cpu, const struct insn *insn,
                             const struct thunk *thunk, uint64_t offset, struct fpu_st *created)
{
    struct fpu_area *area = &cpu->fpu.area;
    unsigned i = insn->modrm & 7;

    switch (thunk->lean) {
    case LEAN_LOAD80:
        memcpy(created, cpu->fpu.thunks->mem, 10);
        break;
    case LEAN_STORE80:
        return fpu_store_operand(cpu, insn->mem.segment, offset, &area->st[0], 10);
    case LEAN_LOAD_ST:
        *created = area->st[i];
        break;
    case LEAN_STORE_ST:
        area->st[i] = area->st[0];
        area->ftw |= (uint8_t)(1u << ((fpu_top(area) + i) & 7));
        break;
    default: /* LEAN_EXCHANGE */
        *created = area->st[0];
        area->st[0] = area->st[i];
        area->st[i] = *created;
        break;
    }
    return SOFT_OK;
}

static void call(struct soft_cpu *cpu, const struct insn *insn, const struct thunk *thunk,
                 struct fpu_st *created)
{
    struct fpu_area *area = &cpu->fpu.area;
    struct thunk_io *io = &cpu->fpu.thunks->io;

    io->guest_fcw = area->fcw;
    io->clear = ~area->fsw & FPU_EXCEPTIONS;
    thunk->run_lean(&area->st[0], cpu->fpu.thunks->mem, &area->st[insn->modrm & 7], created, io);
}

bool lean_run(struct soft_cpu *cpu, const struct insn *insn, const struct thunk *thunk,
              const struct insn_operand *operand, uint64_t offset, enum soft_result *ret)
{
    struct fpu_area *area = &cpu->fpu.area;
    unsigned needs = thunk->lean_needs, taken = FPU_EXCEPTIONS | FPU_FSW_C1, status = 0;
    struct fpu_st created = {0};

    if (!is_open(area, insn, thunk))
        return false;
    *ret = SOFT_OK;
    if (thunk->lean >= LEAN_LOAD80) {
        *ret = move(cpu, insn, thunk, offset, &created);
    } else {
        call(cpu, insn, thunk, &created);
        status = cpu->fpu.thunks->io.fsw;
        if (thunk->lean == LEAN_STORE)
            *ret = fpu_store_operand(cpu, insn->mem.segment, offset, cpu->fpu.thunks->mem,
                                     operand->size);
    }
    if (*ret != SOFT_OK)
        return true;
    if (needs & LEAN_CONDITION)
        taken |= FPU_FSW_C023;
    area->fsw = (uint16_t)((area->fsw & ~(taken & ~FPU_EXCEPTIONS)) | (status & taken));
    if (insn->flags_written)
        cpu->rflags = (cpu->rflags & ~CPU_FLAGS_STATUS) |
                      (cpu->fpu.thunks->io.flags & (CPU_FLAG_ZF | CPU_FLAG_PF | CPU_FLAG_CF));
    if (needs & LEAN_PUSH)
        push(area, &created);
    if (needs & (LEAN_POP | LEAN_POP2))
        pop(area);
    if (needs & LEAN_POP2)
        pop(area);
    return true;
}
