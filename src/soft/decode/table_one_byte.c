/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one-byte opcode map (SDM 2D A.3, table A-2). Prefixes, the 0F escape and VEX are consumed by
 * decode.c before the map is read; their entries here are empty, or the instruction they are when
 * they are not prefixes.
 *
 * Undocumented but present on every processor: SALC (D6), INT1 (F1), 82 as an alias of 80, D0 /6 as
 * an alias of SHL, F6 /1 as an alias of TEST.
 */
#include "soft/decode/decode_table.h"

/* clang-format off */
#define ALU(base, name, flags) \
    [(base) + 0] = OPM(F(name, ANY, FL(flags) | LOCKABLE, RW(Eb), R(Gb))), \
    [(base) + 1] = OPM(F(name, ANY, FL(flags) | LOCKABLE, RW(Ev), R(Gv))), \
    [(base) + 2] = OPM(F(name, ANY, FL(flags), RW(Gb), R(Eb))), \
    [(base) + 3] = OPM(F(name, ANY, FL(flags), RW(Gv), R(Ev))), \
    [(base) + 4] = OP(F(name, ANY, FL(flags), RW(AL), R(Ib))), \
    [(base) + 5] = OP(F(name, ANY, FL(flags), RW(rAX), R(Iz)))

#define GROUP1(when, ev, immediate) \
    F(ADD, (when) | SLASH(0), FL(ARITH) | LOCKABLE, RW(ev), R(immediate)), \
    F(OR,  (when) | SLASH(1), FL(LOGIC) | LOCKABLE, RW(ev), R(immediate)), \
    F(ADC, (when) | SLASH(2), FL(CARRY) | LOCKABLE, RW(ev), R(immediate)), \
    F(SBB, (when) | SLASH(3), FL(CARRY) | LOCKABLE, RW(ev), R(immediate)), \
    F(AND, (when) | SLASH(4), FL(LOGIC) | LOCKABLE, RW(ev), R(immediate)), \
    F(SUB, (when) | SLASH(5), FL(ARITH) | LOCKABLE, RW(ev), R(immediate)), \
    F(XOR, (when) | SLASH(6), FL(LOGIC) | LOCKABLE, RW(ev), R(immediate)), \
    F(CMP, (when) | SLASH(7), FL(ARITH), R(ev), R(immediate))

#define GROUP2(ev, count, kind, special) \
    F(ROL, SLASH(0), FL(ROTATE_##kind) | (special), RW(ev), R(count)), \
    F(ROR, SLASH(1), FL(ROTATE_##kind) | (special), RW(ev), R(count)), \
    F(RCL, SLASH(2), FL(RCARRY_##kind) | (special), RW(ev), R(count)), \
    F(RCR, SLASH(3), FL(RCARRY_##kind) | (special), RW(ev), R(count))
#define GROUP2_SHIFTS(ev, count, flags, special) \
    F(SHL, SLASH(4), FL(flags) | (special), RW(ev), R(count)), \
    F(SHR, SLASH(5), FL(flags) | (special), RW(ev), R(count)), \
    F(SHL, SLASH(6), FL(flags) | (special), RW(ev), R(count)), \
    F(SAR, SLASH(7), FL(flags) | (special), RW(ev), R(count))

#define GROUP3(ev, immediate) \
    F(TEST, SLASH(0), FL(LOGIC), R(ev), R(immediate)), \
    F(TEST, SLASH(1), FL(LOGIC), R(ev), R(immediate)), \
    F(NOT,  SLASH(2), LOCKABLE, RW(ev)), \
    F(NEG,  SLASH(3), FL(ARITH) | LOCKABLE, RW(ev))

#define X87_OPCODE(n) {.forms = decode_x87_forms[n], .has_modrm = true}
#define INC(r)  [0x40 + (r)] = OP(F(INC, NO64, FL(INCDEC), RW(Zv)))
#define DEC(r)  [0x48 + (r)] = OP(F(DEC, NO64, FL(INCDEC), RW(Zv)))
#define PUSH(r) [0x50 + (r)] = OP(F(PUSH, ANY, D64, R(Zv)))
#define POP(r)  [0x58 + (r)] = OP(F(POP, ANY, D64, W(Zv)))
#define JCC(cc) [0x70 + (cc)] = OP(F(JCC, ANY, TTTN | BRANCH | F64, R(Jb)))
#define XCHG(r) [0x90 + (r)] = OP(F(XCHG, ANY, 0, RW(Zv), RW(rAX)))
#define MOVB(r) [0xb0 + (r)] = OP(F(MOV, ANY, 0, W(Zb), R(Ib)))
#define MOVV(r) [0xb8 + (r)] = OP(F(MOV, ANY, 0, W(Zv), R(Iv)))

const struct decode_entry decode_map_one_byte[256] = {
    ALU(0x00, ADD, ARITH),
    [0x06] = OP(F(PUSH, NO64, 0, R(SEGMENT_ES))),
    [0x07] = OP(F(POP, NO64, END, W(SEGMENT_ES))),
    ALU(0x08, OR, LOGIC),
    [0x0e] = OP(F(PUSH, NO64, 0, R(SEGMENT_CS))),
    ALU(0x10, ADC, CARRY),
    [0x16] = OP(F(PUSH, NO64, 0, R(SEGMENT_SS))),
    [0x17] = OP(F(POP, NO64, END, W(SEGMENT_SS))),
    ALU(0x18, SBB, CARRY),
    [0x1e] = OP(F(PUSH, NO64, 0, R(SEGMENT_DS))),
    [0x1f] = OP(F(POP, NO64, END, W(SEGMENT_DS))),
    ALU(0x20, AND, LOGIC),
    [0x27] = OP(F(DAA, NO64, FL(ADJUST_DAA), RW(AL))),
    ALU(0x28, SUB, ARITH),
    [0x2f] = OP(F(DAS, NO64, FL(ADJUST_DAA), RW(AL))),
    ALU(0x30, XOR, LOGIC),
    [0x37] = OP(F(AAA, NO64, FL(ADJUST_AAA), RW(AX))),
    [0x38] = OPM(F(CMP, ANY, FL(ARITH), R(Eb), R(Gb))),
    [0x39] = OPM(F(CMP, ANY, FL(ARITH), R(Ev), R(Gv))),
    [0x3a] = OPM(F(CMP, ANY, FL(ARITH), R(Gb), R(Eb))),
    [0x3b] = OPM(F(CMP, ANY, FL(ARITH), R(Gv), R(Ev))),
    [0x3c] = OP(F(CMP, ANY, FL(ARITH), R(AL), R(Ib))),
    [0x3d] = OP(F(CMP, ANY, FL(ARITH), R(rAX), R(Iz))),
    [0x3f] = OP(F(AAS, NO64, FL(ADJUST_AAA), RW(AX))),
    INC(0), INC(1), INC(2), INC(3), INC(4), INC(5), INC(6), INC(7),
    DEC(0), DEC(1), DEC(2), DEC(3), DEC(4), DEC(5), DEC(6), DEC(7),
    PUSH(0), PUSH(1), PUSH(2), PUSH(3), PUSH(4), PUSH(5), PUSH(6), PUSH(7),
    POP(0), POP(1), POP(2), POP(3), POP(4), POP(5), POP(6), POP(7),
    [0x60] = OP(F(PUSHA, NO64, 0)),
    [0x61] = OP(F(POPA, NO64, 0)),
    [0x62] = OPM(F(BOUND, NO64 | MEM, 0, R(Gv), R(Ma))),
    [0x63] = OPM(F(MOVSXD, M64, LONG, W(Gv), R(OPERAND(M_E, Z_Z))),
                 F(ARPL, NO64, FL(SET_ZF) | PROTECTED, RW(Ew), R(Gw))),
    [0x68] = OP(F(PUSH, ANY, D64, R(Iz))),
    [0x69] = OPM(F(IMUL, ANY, FL(MULTIPLY), W(Gv), R(Ev), R(Iz))),
    [0x6a] = OP(F(PUSH, ANY, D64, R(sIb))),
    [0x6b] = OPM(F(IMUL, ANY, FL(MULTIPLY), W(Gv), R(Ev), R(sIb))),
    [0x6c] = OP(F(INS, ANY, IOPL, W(Yb), R(DX))),
    [0x6d] = OP(F(INS, ANY, IOPL, W(Yz), R(DX))),
    [0x6e] = OP(F(OUTS, ANY, IOPL, R(DX), R(Xb))),
    [0x6f] = OP(F(OUTS, ANY, IOPL, R(DX), R(Xz))),
    JCC(0), JCC(1), JCC(2), JCC(3), JCC(4), JCC(5), JCC(6), JCC(7),
    JCC(8), JCC(9), JCC(10), JCC(11), JCC(12), JCC(13), JCC(14), JCC(15),
    [0x80] = OPM(GROUP1(ANY, Eb, Ib)),
    [0x81] = OPM(GROUP1(ANY, Ev, Iz)),
    [0x82] = OPM(GROUP1(NO64, Eb, Ib)),
    [0x83] = OPM(GROUP1(ANY, Ev, sIb)),
    [0x84] = OPM(F(TEST, ANY, FL(LOGIC), R(Eb), R(Gb))),
    [0x85] = OPM(F(TEST, ANY, FL(LOGIC), R(Ev), R(Gv))),
    [0x86] = OPM(F(XCHG, ANY, LOCKABLE, RW(Eb), RW(Gb))),
    [0x87] = OPM(F(XCHG, ANY, LOCKABLE, RW(Ev), RW(Gv))),
    [0x88] = OPM(F(MOV, ANY, 0, W(Eb), R(Gb))),
    [0x89] = OPM(F(MOV, ANY, 0, W(Ev), R(Gv))),
    [0x8a] = OPM(F(MOV, ANY, 0, W(Gb), R(Eb))),
    [0x8b] = OPM(F(MOV, ANY, 0, W(Gv), R(Ev))),
    [0x8c] = OPM(F(MOV_SEG, ANY, 0, W(Ewv), R(Sw))),
    [0x8d] = OPM(F(LEA, ANY, 0, W(Gv), NOACCESS(Mnone))),
    [0x8e] = OPM(F(MOV_SEG, ANY, END, W(SwW), R(Ew))),
    [0x8f] = OPM(F(POP, SLASH(0), D64, W(Ev))),
    [0x90] = OP(F(PAUSE, PF3 | REXB0, 0), F(NOP, REXB0, 0), F(XCHG, ANY, 0, RW(Zv), RW(rAX))),
    XCHG(1), XCHG(2), XCHG(3), XCHG(4), XCHG(5), XCHG(6), XCHG(7),
    [0x98] = OP(F(CBW, O16, 0, W(AX), R(AL)), F(CWDE, O32, 0, W(EAX), R(AX)),
                F(CDQE, O64, 0, W(rAX), R(EAX))),
    [0x99] = OP(F(CWD, O16, 0, W(DX), R(AX)), F(CDQ, O32, 0, W(EDX), R(EAX)),
                F(CQO, O64, 0, W(rDX), R(rAX))),
    [0x9a] = OP(F(CALL_FAR, NO64, BRANCH | END, R(Ap))),
    [0x9b] = OP(F(FWAIT, ANY, X87)),
    [0x9c] = OP(F(PUSHF, ANY, D64 | FL(GET_ALL))),
    [0x9d] = OP(F(POPF, ANY, D64 | FL(ARITH) | END)),
    [0x9e] = OP(F(SAHF, M64, FL(SET_LAHF) | FEATURE(LAHF64), R(AH)),
                F(SAHF, ANY, FL(SET_LAHF), R(AH))),
    [0x9f] = OP(F(LAHF, M64, FL(GET_LAHF) | FEATURE(LAHF64), W(AH)),
                F(LAHF, ANY, FL(GET_LAHF), W(AH))),
    [0xa0] = OP(F(MOV, ANY, 0, W(AL), R(Ob))),
    [0xa1] = OP(F(MOV, ANY, 0, W(rAX), R(Ov))),
    [0xa2] = OP(F(MOV, ANY, 0, W(Ob), R(AL))),
    [0xa3] = OP(F(MOV, ANY, 0, W(Ov), R(rAX))),
    [0xa4] = OP(F(MOVS, ANY, 0, W(Yb), R(Xb))),
    [0xa5] = OP(F(MOVS, ANY, 0, W(Yv), R(Xv))),
    [0xa6] = OP(F(CMPS, ANY, FL(ARITH) | REPFLAGS, R(Xb), R(Yb))),
    [0xa7] = OP(F(CMPS, ANY, FL(ARITH) | REPFLAGS, R(Xv), R(Yv))),
    [0xa8] = OP(F(TEST, ANY, FL(LOGIC), R(AL), R(Ib))),
    [0xa9] = OP(F(TEST, ANY, FL(LOGIC), R(rAX), R(Iz))),
    [0xaa] = OP(F(STOS, ANY, 0, W(Yb), R(AL))),
    [0xab] = OP(F(STOS, ANY, 0, W(Yv), R(rAX))),
    [0xac] = OP(F(LODS, ANY, 0, W(AL), R(Xb))),
    [0xad] = OP(F(LODS, ANY, 0, W(rAX), R(Xv))),
    [0xae] = OP(F(SCAS, ANY, FL(ARITH) | REPFLAGS, R(AL), R(Yb))),
    [0xaf] = OP(F(SCAS, ANY, FL(ARITH) | REPFLAGS, R(rAX), R(Yv))),
    MOVB(0), MOVB(1), MOVB(2), MOVB(3), MOVB(4), MOVB(5), MOVB(6), MOVB(7),
    MOVV(0), MOVV(1), MOVV(2), MOVV(3), MOVV(4), MOVV(5), MOVV(6), MOVV(7),
    [0xc0] = OPM(GROUP2(Eb, Ib, IMM, COUNT), GROUP2_SHIFTS(Eb, Ib, SHIFT_IMM, COUNT)),
    [0xc1] = OPM(GROUP2(Ev, Ib, IMM, COUNT), GROUP2_SHIFTS(Ev, Ib, SHIFT_IMM, COUNT)),
    [0xc2] = OP(F(RET, ANY, BRANCH | F64, R(Iw))),
    [0xc3] = OP(F(RET, ANY, BRANCH | F64)),
    [0xc4] = OPM(F(LES, NO64 | MEM, END, W(Gv), R(Mp))),
    [0xc5] = OPM(F(LDS, NO64 | MEM, END, W(Gv), R(Mp))),
    [0xc6] = OPM(F(MOV, SLASH(0), 0, W(Eb), R(Ib))),
    [0xc7] = OPM(F(MOV, SLASH(0), 0, W(Ev), R(Iz))),
    [0xc8] = OP(F(ENTER, ANY, D64, R(Iw), R(Ib2))),
    [0xc9] = OP(F(LEAVE, ANY, D64)),
    [0xca] = OP(F(RET_FAR, ANY, BRANCH | END, R(Iw))),
    [0xcb] = OP(F(RET_FAR, ANY, BRANCH | END)),
    [0xcc] = OP(F(INT3, ANY, FL(GET_ALL) | BRANCH | END)),
    [0xcd] = OP(F(INT, ANY, FL(GET_ALL) | BRANCH | END, R(Ib))),
    [0xce] = OP(F(INTO, NO64, FL(GET_ALL) | BRANCH | END)),
    [0xcf] = OP(F(IRET, ANY, FL(ARITH) | BRANCH | END)),
    [0xd0] = OPM(GROUP2(Eb, One, 1, 0), GROUP2_SHIFTS(Eb, One, LOGIC, 0)),
    [0xd1] = OPM(GROUP2(Ev, One, 1, 0), GROUP2_SHIFTS(Ev, One, LOGIC, 0)),
    [0xd2] = OPM(GROUP2(Eb, CL, CL, 0), GROUP2_SHIFTS(Eb, CL, SHIFT_CL, 0)),
    [0xd3] = OPM(GROUP2(Ev, CL, CL, 0), GROUP2_SHIFTS(Ev, CL, SHIFT_CL, 0)),
    [0xd4] = OP(F(AAM, NO64, FL(ADJUST_AAM), R(Ib), RW(AX))),
    [0xd5] = OP(F(AAD, NO64, FL(ADJUST_AAM), R(Ib), RW(AX))),
    [0xd6] = OP(F(SALC, NO64, FL(GET_CF), W(AL))),
    [0xd7] = OP(F(XLAT, ANY, 0, R(XLATb), RW(AL))),
    [0xd8] = X87_OPCODE(0), [0xd9] = X87_OPCODE(1),
    [0xda] = X87_OPCODE(2), [0xdb] = X87_OPCODE(3),
    [0xdc] = X87_OPCODE(4), [0xdd] = X87_OPCODE(5),
    [0xde] = X87_OPCODE(6), [0xdf] = X87_OPCODE(7),
    [0xe0] = OP(F(LOOPNE, ANY, FL(GET_ZF) | BRANCH | F64, R(Jb))),
    [0xe1] = OP(F(LOOPE, ANY, FL(GET_ZF) | BRANCH | F64, R(Jb))),
    [0xe2] = OP(F(LOOP, ANY, BRANCH | F64, R(Jb))),
    [0xe3] = OP(F(JRCXZ, ANY, BRANCH | F64, R(Jb))),
    [0xe4] = OP(F(IN, ANY, IOPL, W(AL), R(Ib))),
    [0xe5] = OP(F(IN, ANY, IOPL, W(zAX), R(Ib))),
    [0xe6] = OP(F(OUT, ANY, IOPL, R(Ib), R(AL))),
    [0xe7] = OP(F(OUT, ANY, IOPL, R(Ib), R(zAX))),
    [0xe8] = OP(F(CALL, ANY, BRANCH | F64, R(Jz))),
    [0xe9] = OP(F(JMP, ANY, BRANCH | F64, R(Jz))),
    [0xea] = OP(F(JMP_FAR, NO64, BRANCH | END, R(Ap))),
    [0xeb] = OP(F(JMP, ANY, BRANCH | F64, R(Jb))),
    [0xec] = OP(F(IN, ANY, IOPL, W(AL), R(DX))),
    [0xed] = OP(F(IN, ANY, IOPL, W(zAX), R(DX))),
    [0xee] = OP(F(OUT, ANY, IOPL, R(DX), R(AL))),
    [0xef] = OP(F(OUT, ANY, IOPL, R(DX), R(zAX))),
    [0xf1] = OP(F(INT1, ANY, FL(GET_ALL) | BRANCH | END)),
    [0xf4] = OP(F(HLT, ANY, PRIV | END)),
    [0xf5] = OP(F(CMC, ANY, FL(CHAIN_CF))),
    [0xf6] = OPM(GROUP3(Eb, Ib),
                 F(MUL,  SLASH(4), FL(MULTIPLY), R(Eb), W(AX), R(AL)),
                 F(IMUL, SLASH(5), FL(MULTIPLY), R(Eb), W(AX), R(AL)),
                 F(DIV,  SLASH(6), FL(DIVIDE), R(Eb), RW(AX)),
                 F(IDIV, SLASH(7), FL(DIVIDE), R(Eb), RW(AX))),
    [0xf7] = OPM(GROUP3(Ev, Iz),
                 F(MUL,  SLASH(4), FL(MULTIPLY), R(Ev), RW(rAX), W(rDX)),
                 F(IMUL, SLASH(5), FL(MULTIPLY), R(Ev), RW(rAX), W(rDX)),
                 F(DIV,  SLASH(6), FL(DIVIDE), R(Ev), RW(rAX), RW(rDX)),
                 F(IDIV, SLASH(7), FL(DIVIDE), R(Ev), RW(rAX), RW(rDX))),
    [0xf8] = OP(F(CLC, ANY, FL(SET_CF))),
    [0xf9] = OP(F(STC, ANY, FL(SET_CF))),
    [0xfa] = OP(F(CLI, ANY, IOPL)),
    [0xfb] = OP(F(STI, ANY, IOPL | END)),
    [0xfc] = OP(F(CLD, ANY, 0)),
    [0xfd] = OP(F(STD, ANY, 0)),
    [0xfe] = OPM(F(INC, SLASH(0), FL(INCDEC) | LOCKABLE, RW(Eb)),
                 F(DEC, SLASH(1), FL(INCDEC) | LOCKABLE, RW(Eb))),
    [0xff] = OPM(F(INC, SLASH(0), FL(INCDEC) | LOCKABLE, RW(Ev)),
                 F(DEC, SLASH(1), FL(INCDEC) | LOCKABLE, RW(Ev)),
                 F(CALL, SLASH(2), BRANCH | F64, R(Ev)),
                 F(CALL_FAR, SLASH(3) | MEM, BRANCH | END, R(Mp)),
                 F(JMP, SLASH(4), BRANCH | F64, R(Ev)),
                 F(JMP_FAR, SLASH(5) | MEM, BRANCH | END, R(Mp)),
                 F(PUSH, SLASH(6), D64, R(Ev))),
};
