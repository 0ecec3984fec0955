/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The notation of the opcode tables (table_*.c), and what decode.c reads from them. Private to this
 * folder.
 *
 * An opcode map is an array of 256 entries; an entry is a list of forms. The first form whose
 * condition holds is the instruction; none: #UD. A form is
 *
 *     F(name, condition, attributes, operands...)
 *
 * condition   what must hold besides the opcode byte, OR-ed together: mandatory prefix (NP P66 PF3
 *             PF2 NOREP), ModRM (SLASH(n) RM(n) MEM REG), W0 W1 L0 L1, M64 NO64, O16 O32 O64,
 * REXB0; ANY: always attributes  traits, feature, flags class, operand-size rule, special
 * treatment, OR-ed together operands    in the order of the SDM, those it does not write last:
 * RW(Ev), R(Gv)
 *
 * Operand codes are those of SDM 2 appendix A: a letter for where the operand is encoded, then
 * letters for its size.
 */
#ifndef LODGE_SOFT_DECODE_DECODE_TABLE_H
#define LODGE_SOFT_DECODE_DECODE_TABLE_H

#include "soft/decode/insn.h"

struct decode_form {
    uint64_t condition;  /* mask of the situation in the high half, value in the low half */
    uint64_t attributes; /* A_* */
    uint16_t id;
    uint16_t operand[INSN_OPERANDS_MAX]; /* method | size << 6 | access << 11 */
};

struct decode_entry {
    const struct decode_form *forms; /* ends with one that has id INSN_NONE; NULL: undefined */
    bool has_modrm;
    bool ignores_mod; /* MOV to and from control and debug registers: rm is a register */
};

/* clang-format off */
#define F(name, when, what, ...) \
    {.condition = (when), .attributes = (what), .id = INSN_##name, .operand = {__VA_ARGS__}}
#define FORMS(...) (const struct decode_form[]){__VA_ARGS__, {.id = INSN_NONE}}
#define OP(...)  {.forms = FORMS(__VA_ARGS__), .has_modrm = false}
#define OPM(...) {.forms = FORMS(__VA_ARGS__), .has_modrm = true}
#define OPM_REG(...) {.forms = FORMS(__VA_ARGS__), .has_modrm = true, .ignores_mod = true}

/* The situation: what is known about an instruction when its form is chosen. */
enum decode_situation {
    S_PP_SHIFT = 0,     /* 0 none, 1 66, 2 F3, 3 F2: the order of VEX.pp */
    S_REG_SHIFT = 2,    /* ModRM.reg, without its extension */
    S_RM_SHIFT = 5,     /* ModRM.rm, without its extension */
    S_MOD3_SHIFT = 8,   /* ModRM.mod == 3 */
    S_W_SHIFT = 9,
    S_L_SHIFT = 10,
    S_M64_SHIFT = 11,   /* 64-bit mode */
    S_SIZE_SHIFT = 12,  /* operand size: 0 16 bits, 1 32 bits, 2 64 bits */
    S_REXB_SHIFT = 14,
};

#define WHEN(shift, mask, value) ((uint64_t)(mask) << ((shift) + 32) | (uint64_t)(value) << (shift))
#define ANY      UINT64_C(0)
#define NP       WHEN(S_PP_SHIFT, 3, 0)
#define P66      WHEN(S_PP_SHIFT, 3, 1)
#define PF3      WHEN(S_PP_SHIFT, 3, 2)
#define PF2      WHEN(S_PP_SHIFT, 3, 3)
#define NOREP    WHEN(S_PP_SHIFT, 2, 0) /* neither F2 nor F3 */
#define SLASH(n) WHEN(S_REG_SHIFT, 7, n)
#define RM(n)    WHEN(S_RM_SHIFT, 7, n)
#define MEM      WHEN(S_MOD3_SHIFT, 1, 0)
#define REG      WHEN(S_MOD3_SHIFT, 1, 1)
#define W0       WHEN(S_W_SHIFT, 1, 0)
#define W1       WHEN(S_W_SHIFT, 1, 1)
#define L0       WHEN(S_L_SHIFT, 1, 0)
#define L1       WHEN(S_L_SHIFT, 1, 1)
#define M64      WHEN(S_M64_SHIFT, 1, 1)
#define NO64     WHEN(S_M64_SHIFT, 1, 0)
#define O16      WHEN(S_SIZE_SHIFT, 3, 0)
#define O32      WHEN(S_SIZE_SHIFT, 3, 1)
#define O64      WHEN(S_SIZE_SHIFT, 3, 2)
#define REXB0    WHEN(S_REXB_SHIFT, 1, 0)

/* Attributes. */
enum {
    A_FEATURE_SHIFT = 16, A_FLAGS_SHIFT = 24, A_SIZE_SHIFT = 32, A_SPECIAL_SHIFT = 36,
    A_UNALIGNED_SHIFT = 40,
};
#define FEATURE(name) ((uint64_t)INSN_FEATURE_##name << A_FEATURE_SHIFT)
#define TRAIT(name)   ((uint64_t)INSN_TRAIT_##name)
#define NONE_         UINT64_C(0)

#define PRIV      TRAIT(PRIVILEGED)
#define LOCKABLE  TRAIT(LOCKABLE)
#define BRANCH    TRAIT(BRANCH)
#define END       TRAIT(BLOCK_END)
#define PROTECTED TRAIT(NOT_REAL_MODE)
#define LONG      TRAIT(NOT_COMPAT)
#define IOPL      TRAIT(IO)
#define ALIGNED   TRAIT(ALIGNED)
#define FPX       TRAIT(FP_EXCEPTIONS)
#define UNALIGNED (UINT64_C(1) << A_UNALIGNED_SHIFT) /* 16-byte operand of a legacy SSE form that need not be aligned */

#define X87    (FEATURE(X87) | TRAIT(X87))
#define MMX    (FEATURE(MMX) | TRAIT(MMX))
#define MMX_SSE   (FEATURE(SSE) | TRAIT(MMX)) /* MMX registers, but came with SSE */
#define MMX_SSE2  (FEATURE(SSE2) | TRAIT(MMX))
#define MMX_SSSE3 (FEATURE(SSSE3) | TRAIT(MMX))
#define SSEV(feature) (FEATURE(feature) | TRAIT(SSE))
#define SSE    SSEV(SSE)
#define SSE2   SSEV(SSE2)
#define SSE3   SSEV(SSE3)
#define SSSE3  SSEV(SSSE3)
#define SSE41  SSEV(SSE4_1)
#define SSE42  SSEV(SSE4_2)
#define SSE4A  SSEV(SSE4A)
#define AVXV(feature) (FEATURE(feature) | TRAIT(AVX) | PROTECTED)
#define AVX    AVXV(AVX)
#define AVX2   AVXV(AVX2)
#define FMA    (AVXV(FMA) | FPX)
#define BMI1   (FEATURE(BMI1) | PROTECTED)
#define BMI2   (FEATURE(BMI2) | PROTECTED)

/* How the operand size comes about (insn.operand_size and the sizes v, z, y). */
enum decode_size_rule {
    SIZE_NORMAL,
    SIZE_DEFAULT_64, /* 64-bit mode: 8, or 2 with 66 */
    SIZE_FORCE_64,   /* 64-bit mode: 8 */
    SIZE_NATIVE,     /* 64-bit mode: 8; else 4 */
};
#define D64    ((uint64_t)SIZE_DEFAULT_64 << A_SIZE_SHIFT)
#define F64    ((uint64_t)SIZE_FORCE_64 << A_SIZE_SHIFT)
#define NATIVE ((uint64_t)SIZE_NATIVE << A_SIZE_SHIFT)

enum decode_special {
    SPECIAL_NONE,
    SPECIAL_CONDITION,  /* condition = low opcode nibble; reads its flags */
    SPECIAL_SHIFT,      /* shift or rotate by an immediate: count 0 leaves the flags, 1 defines OF */
    SPECIAL_REP_FLAGS,  /* with REP, the flags may stay as they were */
    SPECIAL_GATHER,     /* index, mask and destination must differ */
};
#define TTTN      ((uint64_t)SPECIAL_CONDITION << A_SPECIAL_SHIFT)
#define COUNT     ((uint64_t)SPECIAL_SHIFT << A_SPECIAL_SHIFT)
#define REPFLAGS  ((uint64_t)SPECIAL_REP_FLAGS << A_SPECIAL_SHIFT)
#define GATHER    ((uint64_t)SPECIAL_GATHER << A_SPECIAL_SHIFT)

/*
 * Flags classes: name, read, written, of those undefined. A form that may leave a flag as it was
 * (a shift by CL) counts as a reader of it.
 */
#define FLAG_SF 0x80
#define FLAG_ZF 0x40
#define FLAG_AF 0x10
#define FLAG_OF 0x08
#define FLAG_PF 0x04
#define FLAG_CF 0x01
#define FLAGS_ALL 0xdd
#define FLAGS_LAHF 0xd5
#define FLAGS_LIST(X) \
    X(UNTOUCHED, 0, 0, 0) \
    X(ARITH,  0, FLAGS_ALL, 0) \
    X(CARRY,  FLAG_CF, FLAGS_ALL, 0) \
    X(LOGIC,  0, FLAGS_ALL, FLAG_AF) \
    X(INCDEC, 0, FLAGS_ALL & ~FLAG_CF, 0) \
    X(MULTIPLY, 0, FLAGS_ALL, FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF) \
    X(DIVIDE, 0, FLAGS_ALL, FLAGS_ALL) \
    X(SHIFT_IMM, 0, FLAGS_ALL, FLAG_AF | FLAG_OF) \
    X(SHIFT_CL, FLAGS_ALL, FLAGS_ALL, FLAG_AF | FLAG_OF) \
    X(ROTATE_1, 0, FLAG_CF | FLAG_OF, 0) \
    X(ROTATE_IMM, 0, FLAG_CF | FLAG_OF, FLAG_OF) \
    X(ROTATE_CL, FLAG_CF | FLAG_OF, FLAG_CF | FLAG_OF, FLAG_OF) \
    X(RCARRY_1, FLAG_CF, FLAG_CF | FLAG_OF, 0) \
    X(RCARRY_IMM, FLAG_CF, FLAG_CF | FLAG_OF, FLAG_OF) \
    X(RCARRY_CL, FLAG_CF | FLAG_OF, FLAG_CF | FLAG_OF, FLAG_OF) \
    X(BITTEST, 0, FLAGS_ALL & ~FLAG_ZF, FLAG_SF | FLAG_AF | FLAG_OF | FLAG_PF) \
    X(BITSCAN, 0, FLAGS_ALL, FLAGS_ALL & ~FLAG_ZF) \
    X(BITCOUNT, 0, FLAGS_ALL, FLAG_SF | FLAG_AF | FLAG_OF | FLAG_PF) \
    X(BMI, 0, FLAGS_ALL, FLAG_AF | FLAG_PF) \
    X(EXTRACT, 0, FLAGS_ALL, FLAG_SF | FLAG_AF | FLAG_PF) \
    X(CHAIN_CF, FLAG_CF, FLAG_CF, 0) \
    X(CHAIN_OF, FLAG_OF, FLAG_OF, 0) \
    X(ADJUST_AAA, FLAG_AF, FLAGS_ALL, FLAG_OF | FLAG_SF | FLAG_ZF | FLAG_PF) \
    X(ADJUST_DAA, FLAG_AF | FLAG_CF, FLAGS_ALL, FLAG_OF) \
    X(ADJUST_AAM, 0, FLAGS_ALL, FLAG_OF | FLAG_AF | FLAG_CF) \
    X(SET_LAHF, 0, FLAGS_LAHF, 0) \
    X(GET_LAHF, FLAGS_LAHF, 0, 0) \
    X(SET_CF, 0, FLAG_CF, 0) \
    X(GET_CF, FLAG_CF, 0, 0) \
    X(GET_ZF, FLAG_ZF, 0, 0) \
    X(GET_PF, FLAG_PF, 0, 0) \
    X(GET_OF, FLAG_OF, 0, 0) \
    X(GET_CF_ZF, FLAG_CF | FLAG_ZF, 0, 0) \
    X(SET_ZF, 0, FLAG_ZF, 0) \
    X(GET_ALL, FLAGS_ALL, 0, 0) \
    X(MASK_ALL, FLAGS_ALL, FLAGS_ALL, 0)

enum decode_flags_class {
#define FLAGS_ENUM(name, read, written, undefined) FLAGS_##name,
    FLAGS_LIST(FLAGS_ENUM)
#undef FLAGS_ENUM
};
#define FL(name) ((uint64_t)FLAGS_##name << A_FLAGS_SHIFT)

/* Where an operand is encoded. */
enum decode_method {
    M_NONE,
    M_E,  /* ModRM.rm: general register or memory */
    M_R,  /* ModRM.rm: general register only */
    M_M,  /* ModRM.rm: memory only */
    M_G,  /* ModRM.reg: general register */
    M_Z,  /* low bits of the opcode: general register */
    M_B,  /* VEX.vvvv: general register */
    M_FIXED, /* general register 0..7, fixed by the opcode: eight methods */
    M_FIXED_LAST = M_FIXED + 7,
    M_AH,
    M_SEGMENT, /* enum cpu_segment_index, fixed by the opcode: six methods */
    M_SEGMENT_LAST = M_SEGMENT + 5,
    M_S,  /* ModRM.reg: segment register */
    M_SW, /* the same, written: not CS */
    M_C,  /* ModRM.reg: control register */
    M_D,  /* ModRM.reg: debug register */
    M_ST0,
    M_STI, /* ModRM.rm: x87 register */
    M_P,  /* ModRM.reg: MMX */
    M_Q,  /* ModRM.rm: MMX or memory */
    M_N,  /* ModRM.rm: MMX only */
    M_V,  /* ModRM.reg: XMM */
    M_VL, /* ModRM.reg: XMM or YMM by VEX.L */
    M_WX, /* ModRM.rm: XMM or memory */
    M_WL,
    M_U,  /* ModRM.rm: XMM only */
    M_UL,
    M_H,  /* VEX.vvvv: XMM */
    M_HL,
    M_IS4, /* bits 7:4 of the immediate: XMM */
    M_IS4L,
    M_XMM0,
    M_VSIB,  /* memory, vector index: XMM */
    M_VSIBL, /* XMM or YMM by VEX.L */
    M_I,   /* immediate, zero-extended */
    M_SI,  /* immediate, sign-extended */
    M_SIB, /* 8-bit immediate, sign-extended to the size */
    M_I2,  /* second immediate, 8 bits */
    M_ONE, /* the constant 1 */
    M_J,   /* branch displacement */
    M_A,   /* far pointer */
    M_O,   /* memory offset without ModRM */
    M_X,   /* DS:rSI */
    M_Y,   /* ES:rDI */
    M_XLAT, /* DS:rBX + AL */
    M_MASKMOV, /* DS:rDI, can be overridden */
    M_NR_METHODS,
};

/* Size of an operand, by operand size and VEX.L (decode.c: operand_bytes). */
enum decode_size {
    Z_0, Z_1, Z_2, Z_4, Z_6, Z_8, Z_10, Z_16, Z_32, Z_512,
    Z_V,  /* operand size */
    Z_Z,  /* operand size, at most 4 */
    Z_Y,  /* operand size, at least 4 */
    Z_P,  /* far pointer: operand size + 2 */
    Z_A,  /* BOUND: twice the operand size */
    Z_X,  /* vector length */
    Z_XH, /* half of it, a quarter, an eighth */
    Z_XQ,
    Z_XE,
    Z_DDUP, /* VMOVDDUP: 8 or 32 */
    Z_TABLE, /* descriptor-table register: 6, or 10 with operand size 8 */
    Z_NATIVE_W, /* SLDT, STR, SMSW, MOV from a segment register: memory 2, register operand size */
    Z_1_REG4, /* memory 1, register 4; memory 2, register 4 */
    Z_2_REG4,
    Z_ENV,  /* FNSTENV: 14 or 28 */
    Z_X87,  /* FNSAVE: 94 or 108 */
    Z_NR_SIZES,
};

#define OPERAND(method, size) ((method) | (size) << 6)
#define R(operand)  ((operand) | INSN_READ << 11)
#define W(operand)  ((operand) | INSN_WRITE << 11)
#define RW(operand) ((operand) | (INSN_READ | INSN_WRITE) << 11)
#define NOACCESS(operand) (operand)

#define Eb OPERAND(M_E, Z_1)
#define Ew OPERAND(M_E, Z_2)
#define Ed OPERAND(M_E, Z_4)
#define Ev OPERAND(M_E, Z_V)
#define Ey OPERAND(M_E, Z_Y)
#define Ewv OPERAND(M_E, Z_NATIVE_W) /* 16-bit memory, full-size register */
#define Ed_Mb OPERAND(M_E, Z_1_REG4)
#define Ed_Mw OPERAND(M_E, Z_2_REG4)
#define Rd OPERAND(M_R, Z_4)
#define Rv OPERAND(M_R, Z_V)
#define Ry OPERAND(M_R, Z_Y)
#define Gb OPERAND(M_G, Z_1)
#define Gw OPERAND(M_G, Z_2)
#define Gd OPERAND(M_G, Z_4)
#define Gv OPERAND(M_G, Z_V)
#define Gz OPERAND(M_G, Z_Z)
#define Gy OPERAND(M_G, Z_Y)
#define By OPERAND(M_B, Z_Y)
#define Zb OPERAND(M_Z, Z_1)
#define Zv OPERAND(M_Z, Z_V)
#define Mnone OPERAND(M_M, Z_0) /* size depends on state, or no access */
#define Mb OPERAND(M_M, Z_1)
#define Mw OPERAND(M_M, Z_2)
#define Md OPERAND(M_M, Z_4)
#define Mq OPERAND(M_M, Z_8)
#define Mt OPERAND(M_M, Z_10)
#define Mdq OPERAND(M_M, Z_16)
#define Mqq OPERAND(M_M, Z_32)
#define Mv OPERAND(M_M, Z_V)
#define My OPERAND(M_M, Z_Y)
#define Mp OPERAND(M_M, Z_P)
#define Ma OPERAND(M_M, Z_A)
#define Ms OPERAND(M_M, Z_TABLE)
#define Mx OPERAND(M_M, Z_X)
#define M512 OPERAND(M_M, Z_512)
#define Menv OPERAND(M_M, Z_ENV)
#define Mx87 OPERAND(M_M, Z_X87)
/* Gathers: index register XMM, or XMM or YMM by VEX.L; the size is that of an element of data. */
#define VSIBLd OPERAND(M_VSIBL, Z_4)
#define VSIBq  OPERAND(M_VSIB, Z_8)
#define VSIBLq OPERAND(M_VSIBL, Z_8)

#define FIXED(n, size) OPERAND(M_FIXED + (n), size)
#define AL FIXED(0, Z_1)
#define AH OPERAND(M_AH, Z_1)
#define AX FIXED(0, Z_2)
#define EAX FIXED(0, Z_4)
#define rAX FIXED(0, Z_V)
#define zAX FIXED(0, Z_Z)
#define CL FIXED(1, Z_1)
#define ECX FIXED(1, Z_4)
#define rCX FIXED(1, Z_V)
#define DX FIXED(2, Z_2)
#define EDX FIXED(2, Z_4)
#define rDX FIXED(2, Z_V)
#define yAX FIXED(0, Z_Y)
#define yCX FIXED(1, Z_Y)
#define yDX FIXED(2, Z_Y)
#define yBX FIXED(3, Z_Y)
#define EBX FIXED(3, Z_4)

#define SEGMENT_ES OPERAND(M_SEGMENT + 0, Z_2)
#define SEGMENT_CS OPERAND(M_SEGMENT + 1, Z_2)
#define SEGMENT_SS OPERAND(M_SEGMENT + 2, Z_2)
#define SEGMENT_DS OPERAND(M_SEGMENT + 3, Z_2)
#define SEGMENT_FS OPERAND(M_SEGMENT + 4, Z_2)
#define SEGMENT_GS OPERAND(M_SEGMENT + 5, Z_2)
#define Sw  OPERAND(M_S, Z_2)
#define SwW OPERAND(M_SW, Z_2)
#define Cv  OPERAND(M_C, Z_V)
#define Dv  OPERAND(M_D, Z_V)
#define ST0 OPERAND(M_ST0, Z_10)
#define STi OPERAND(M_STI, Z_10)

#define Pq OPERAND(M_P, Z_8)
#define Qq OPERAND(M_Q, Z_8)
#define Qd OPERAND(M_Q, Z_4) /* 32 bits when in memory */
#define Nq OPERAND(M_N, Z_8)
#define V  OPERAND(M_V, Z_16)
#define VL OPERAND(M_VL, Z_X)
#define Wb OPERAND(M_WX, Z_1) /* the size is that of the memory form */
#define Ww OPERAND(M_WX, Z_2)
#define Wd OPERAND(M_WX, Z_4)
#define Wq OPERAND(M_WX, Z_8)
#define Wdq OPERAND(M_WX, Z_16)
#define WL OPERAND(M_WL, Z_X)
#define Wxh OPERAND(M_WX, Z_XH)
#define Wxq OPERAND(M_WX, Z_XQ)
#define Wxe OPERAND(M_WX, Z_XE)
#define WLddup OPERAND(M_WL, Z_DDUP)
#define U  OPERAND(M_U, Z_16)
#define UL OPERAND(M_UL, Z_X)
#define H  OPERAND(M_H, Z_16)
#define HL OPERAND(M_HL, Z_X)
#define LX OPERAND(M_IS4, Z_16)
#define LL OPERAND(M_IS4L, Z_X)
#define XMM0 OPERAND(M_XMM0, Z_16)

#define Ib OPERAND(M_I, Z_1)
#define Iw OPERAND(M_I, Z_2)
#define Iv OPERAND(M_I, Z_V)
#define Iz OPERAND(M_SI, Z_Z) /* sign-extended to the operand size */
#define sIb OPERAND(M_SIB, Z_V)
#define Ib2 OPERAND(M_I2, Z_1)
#define One OPERAND(M_ONE, Z_1)
#define Jb OPERAND(M_J, Z_1)
#define Jz OPERAND(M_J, Z_Z)
#define Ap OPERAND(M_A, Z_P)
#define Ob OPERAND(M_O, Z_1)
#define Ov OPERAND(M_O, Z_V)
#define Xb OPERAND(M_X, Z_1)
#define Xv OPERAND(M_X, Z_V)
#define Xz OPERAND(M_X, Z_Z)
#define Yb OPERAND(M_Y, Z_1)
#define Yv OPERAND(M_Y, Z_V)
#define Yz OPERAND(M_Y, Z_Z)
#define XLATb OPERAND(M_XLAT, Z_1)
#define MASKq OPERAND(M_MASKMOV, Z_8)
#define MASKdq OPERAND(M_MASKMOV, Z_16)
/* clang-format on */

extern const struct decode_entry decode_map_one_byte[256];
extern const struct decode_entry decode_map_0f[256];
extern const struct decode_entry decode_map_0f38[256];
extern const struct decode_entry decode_map_0f3a[256];
extern const struct decode_entry decode_map_vex_0f[256];
extern const struct decode_entry decode_map_vex_0f38[256];
extern const struct decode_entry decode_map_vex_0f3a[256];
#define DECODE_X87_FORMS_MAX 44
extern const struct decode_form decode_x87_forms[8][DECODE_X87_FORMS_MAX];

#endif
