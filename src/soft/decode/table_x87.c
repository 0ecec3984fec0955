/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The x87 opcodes D8 to DF (SDM 2D A.5). The stack registers that an instruction uses without
 * writing them down are not listed as operands.
 *
 * The reserved aliases that every processor executes are here: DC D0 (FCOM), DC D8, DE D0 (FCOMP),
 * DD C8, DF C8 (FXCH), D9 D8, DF D0, DF D8 (FSTP), and FNENI, FNDISI, FNSETPM, which do nothing.
 */
#include "soft/decode/decode_table.h"

/* clang-format off */
#define ROW(name, reg, ...)    F(name, SLASH(reg) | REG, X87, __VA_ARGS__)
#define ONE(name, reg, rm)     F(name, SLASH(reg) | RM(rm) | REG, X87)
#define LOAD(name, reg, size)  F(name, SLASH(reg) | MEM, X87, R(size))
#define STORE(name, reg, size) F(name, SLASH(reg) | MEM, X87, W(size))
#define ARITHMETIC(prefix, size) \
    LOAD(prefix##ADD, 0, size), LOAD(prefix##MUL, 1, size), LOAD(prefix##COM, 2, size), \
    LOAD(prefix##COMP, 3, size), LOAD(prefix##SUB, 4, size), LOAD(prefix##SUBR, 5, size), \
    LOAD(prefix##DIV, 6, size), LOAD(prefix##DIVR, 7, size)
#define CMOV(name, reg, flag) \
    F(name, SLASH(reg) | REG, TRAIT(X87) | FEATURE(CMOV) | FL(flag), RW(ST0), R(STi))
#define COMI(name, reg) F(name, SLASH(reg) | REG, TRAIT(X87) | FEATURE(CMOV) | FL(ARITH), R(ST0), R(STi))

const struct decode_form decode_x87_forms[8][DECODE_X87_FORMS_MAX] = {
    { /* D8 */
        ARITHMETIC(F, Md),
        ROW(FADD, 0, RW(ST0), R(STi)), ROW(FMUL, 1, RW(ST0), R(STi)),
        ROW(FCOM, 2, R(STi)), ROW(FCOMP, 3, R(STi)),
        ROW(FSUB, 4, RW(ST0), R(STi)), ROW(FSUBR, 5, RW(ST0), R(STi)),
        ROW(FDIV, 6, RW(ST0), R(STi)), ROW(FDIVR, 7, RW(ST0), R(STi)),
    },
    { /* D9 */
        LOAD(FLD, 0, Md), STORE(FST, 2, Md), STORE(FSTP, 3, Md),
        LOAD(FLDENV, 4, Menv), LOAD(FLDCW, 5, Mw), STORE(FNSTENV, 6, Menv), STORE(FNSTCW, 7, Mw),
        ROW(FLD, 0, R(STi)), ROW(FXCH, 1, RW(STi)), ONE(FNOP, 2, 0), ROW(FSTP, 3, W(STi)),
        ONE(FCHS, 4, 0), ONE(FABS, 4, 1), ONE(FTST, 4, 4), ONE(FXAM, 4, 5),
        ONE(FLD1, 5, 0), ONE(FLDL2T, 5, 1), ONE(FLDL2E, 5, 2), ONE(FLDPI, 5, 3),
        ONE(FLDLG2, 5, 4), ONE(FLDLN2, 5, 5), ONE(FLDZ, 5, 6),
        ONE(F2XM1, 6, 0), ONE(FYL2X, 6, 1), ONE(FPTAN, 6, 2), ONE(FPATAN, 6, 3),
        ONE(FXTRACT, 6, 4), ONE(FPREM1, 6, 5), ONE(FDECSTP, 6, 6), ONE(FINCSTP, 6, 7),
        ONE(FPREM, 7, 0), ONE(FYL2XP1, 7, 1), ONE(FSQRT, 7, 2), ONE(FSINCOS, 7, 3),
        ONE(FRNDINT, 7, 4), ONE(FSCALE, 7, 5), ONE(FSIN, 7, 6), ONE(FCOS, 7, 7),
    },
    { /* DA */
        ARITHMETIC(FI, Md),
        CMOV(FCMOVB, 0, GET_CF), CMOV(FCMOVE, 1, GET_ZF), CMOV(FCMOVBE, 2, GET_CF_ZF),
        CMOV(FCMOVU, 3, GET_PF), ONE(FUCOMPP, 5, 1),
    },
    { /* DB */
        LOAD(FILD, 0, Md), F(FISTTP, SLASH(1) | MEM, TRAIT(X87) | FEATURE(SSE3), W(Md)),
        STORE(FIST, 2, Md), STORE(FISTP, 3, Md), LOAD(FLD, 5, Mt), STORE(FSTP, 7, Mt),
        CMOV(FCMOVNB, 0, GET_CF), CMOV(FCMOVNE, 1, GET_ZF), CMOV(FCMOVNBE, 2, GET_CF_ZF),
        CMOV(FCMOVNU, 3, GET_PF),
        ONE(FNOP, 4, 0), ONE(FNOP, 4, 1), ONE(FNCLEX, 4, 2), ONE(FNINIT, 4, 3), ONE(FNOP, 4, 4),
        COMI(FUCOMI, 5), COMI(FCOMI, 6),
    },
    { /* DC */
        ARITHMETIC(F, Mq),
        ROW(FADD, 0, RW(STi), R(ST0)), ROW(FMUL, 1, RW(STi), R(ST0)),
        ROW(FCOM, 2, R(STi)), ROW(FCOMP, 3, R(STi)),
        ROW(FSUBR, 4, RW(STi), R(ST0)), ROW(FSUB, 5, RW(STi), R(ST0)),
        ROW(FDIVR, 6, RW(STi), R(ST0)), ROW(FDIV, 7, RW(STi), R(ST0)),
    },
    { /* DD */
        LOAD(FLD, 0, Mq), F(FISTTP, SLASH(1) | MEM, TRAIT(X87) | FEATURE(SSE3), W(Mq)),
        STORE(FST, 2, Mq), STORE(FSTP, 3, Mq), LOAD(FRSTOR, 4, Mx87), STORE(FNSAVE, 6, Mx87),
        STORE(FNSTSW, 7, Mw),
        ROW(FFREE, 0, W(STi)), ROW(FXCH, 1, RW(STi)), ROW(FST, 2, W(STi)), ROW(FSTP, 3, W(STi)),
        ROW(FUCOM, 4, R(STi)), ROW(FUCOMP, 5, R(STi)),
    },
    { /* DE */
        ARITHMETIC(FI, Mw),
        ROW(FADDP, 0, RW(STi), R(ST0)), ROW(FMULP, 1, RW(STi), R(ST0)),
        ROW(FCOMP, 2, R(STi)), ONE(FCOMPP, 3, 1),
        ROW(FSUBRP, 4, RW(STi), R(ST0)), ROW(FSUBP, 5, RW(STi), R(ST0)),
        ROW(FDIVRP, 6, RW(STi), R(ST0)), ROW(FDIVP, 7, RW(STi), R(ST0)),
    },
    { /* DF */
        LOAD(FILD, 0, Mw), F(FISTTP, SLASH(1) | MEM, TRAIT(X87) | FEATURE(SSE3), W(Mw)),
        STORE(FIST, 2, Mw), STORE(FISTP, 3, Mw), LOAD(FBLD, 4, Mt), LOAD(FILD, 5, Mq),
        STORE(FBSTP, 6, Mt), STORE(FISTP, 7, Mq),
        ROW(FFREEP, 0, W(STi)), ROW(FXCH, 1, RW(STi)), ROW(FSTP, 2, W(STi)), ROW(FSTP, 3, W(STi)),
        F(FNSTSW, SLASH(4) | RM(0) | REG, X87, W(AX)), COMI(FUCOMIP, 5), COMI(FCOMIP, 6),
    },
};
