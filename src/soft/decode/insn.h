/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One decoded x86 instruction, and the decoder. Bytes in, struct insn out: table-driven, no
 * allocation, no state, no guest memory access. It is used by the interpreter and by the
 * translator.
 *
 * What decodes: everything the CPUID policy can expose (cpu/cpuid.h) and all of the base
 * architecture in 16-, 32- and 64-bit mode. Encodings of extensions that are always hidden
 * (AVX-512, TSX, CET, ...) are INSN_UNDEFINED, or the NOP they are on a processor without the
 * extension (ENDBR64, the 0F 1E/0F 0D/0F 18 hint spaces).
 *
 * Where Intel and AMD differ in encoding, Intel's way: 66 before a near branch in 64-bit mode is
 * ignored, REX.W gives far pointers in memory a 64-bit offset.
 *
 * Source: SDM 2, chapters 2 to 6 and appendix A; AMD APM 3.
 */
#ifndef LODGE_SOFT_DECODE_INSN_H
#define LODGE_SOFT_DECODE_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INSN_LENGTH_MAX 15

/* The code segment's mode: D bit, or L bit with EFER.LMA. */
enum insn_mode {
    INSN_MODE_16,
    INSN_MODE_32,
    INSN_MODE_64,
};

/*
 * Mnemonics as in the SDM: INSN_ADD, INSN_MOV, INSN_VADDPS... A family that differs only in a
 * condition has one id and its condition in insn.condition (INSN_JCC, INSN_SETCC, INSN_CMOVCC).
 * String instructions have one id per operation and take their element size from operand[0].size
 * (INSN_MOVS, INSN_STOS, INSN_INS...).
 */
enum insn_id {
    INSN_NONE,
#define INSN(name) INSN_##name,
#include "soft/decode/insn_ids.h"
#undef INSN
    INSN_NR_IDS,
};

enum insn_operand_kind {
    INSN_OPERAND_NONE,
    INSN_OPERAND_REG,
    INSN_OPERAND_MEM, /* insn.mem; at most one explicit memory operand, or the two implicit of a
                         string instruction */
    INSN_OPERAND_IMM, /* insn.imm (second immediate of ENTER: insn.imm2) */
    INSN_OPERAND_REL, /* branch displacement, sign-extended in insn.imm, from the next instruction
                       */
    INSN_OPERAND_FAR, /* offset in insn.imm, selector in insn.imm2 */
};

enum insn_reg_class {
    INSN_REG_NONE,
    INSN_REG_GPR,       /* reg 0..15, size 1, 2, 4, 8 */
    INSN_REG_GPR8_HIGH, /* reg 0..3: AH CH DH BH */
    INSN_REG_SEGMENT,   /* enum cpu_segment_index */
    INSN_REG_CR,
    INSN_REG_DR,
    INSN_REG_ST, /* x87 stack register */
    INSN_REG_MMX,
    INSN_REG_XMM, /* size 16 even when fewer bytes are used */
    INSN_REG_YMM, /* size 32 */
    INSN_REG_RIP, /* only as insn.mem base */
};

#define INSN_READ  1u
#define INSN_WRITE 2u

/*
 * Operands stand in the SDM's order, those that it writes down first. A destination of which a part
 * or, by a condition, all may stay as it was (CMOVcc, BSF, MOVSS between registers) counts as read
 * too, except for the upper part of a register when a smaller one is written. The x87 registers
 * that the SDM does not write down, rSP of stack instructions, and rSI, rDI, rCX as such of string
 * instructions are not listed.
 */
struct insn_operand {
    uint8_t kind;      /* enum insn_operand_kind */
    uint8_t reg_class; /* enum insn_reg_class; VSIB memory: XMM or YMM of the index */
    uint8_t reg;       /* number, extended by REX/VEX; string memory: the rSI or rDI it is based on;
                          VSIB memory: the index */
    uint8_t access;    /* INSN_READ | INSN_WRITE */
    uint16_t size; /* bytes that the instruction accesses; 0 where it depends on state (XSAVE area,
                      FXSAVE: 512) */
    bool implicit; /* not encoded (AL of IN, DX of OUT, XMM0 of BLENDVPS, rSI/rDI of strings) */
};

#define INSN_OPERANDS_MAX 5
#define INSN_NO_REG       0xff

struct insn_mem {
    uint8_t base;  /* GPR number, INSN_NO_REG; RIP-relative: INSN_NO_REG with rip_relative set */
    uint8_t index; /* GPR number (VSIB: vector register number), INSN_NO_REG */
    uint8_t scale; /* 1, 2, 4, 8 */
    uint8_t
        segment; /* effective enum cpu_segment_index: the override, else the default of the form */
    bool rip_relative; /* displacement counts from the next instruction */
    bool vsib;
    int64_t displacement; /* sign-extended; not yet truncated to the address size */
};

enum insn_prefix {
    INSN_PREFIX_LOCK = 1 << 0,
    INSN_PREFIX_REP = 1 << 1,   /* F3, when it is not part of the opcode */
    INSN_PREFIX_REPNE = 1 << 2, /* F2, when it is not part of the opcode */
    INSN_PREFIX_OPERAND_SIZE = 1 << 3,
    INSN_PREFIX_ADDRESS_SIZE = 1 << 4,
    INSN_PREFIX_SEGMENT = 1 << 5,
    INSN_PREFIX_REX = 1 << 6,
    INSN_PREFIX_VEX = 1 << 7,
};

/* Properties of the form, from its table row. */
enum insn_trait {
    INSN_TRAIT_PRIVILEGED = 1 << 0, /* #GP(0) unless CPL 0 */
    INSN_TRAIT_LOCKABLE = 1 << 1,  /* LOCK allowed (the decoder has already refused it elsewhere) */
    INSN_TRAIT_BRANCH = 1 << 2,    /* may write RIP: ends a block */
    INSN_TRAIT_BLOCK_END = 1 << 3, /* serialising, mode-changing, or otherwise ends a block */
    INSN_TRAIT_X87 = 1 << 4,
    INSN_TRAIT_MMX = 1 << 5,
    INSN_TRAIT_SSE = 1 << 6,            /* legacy SSE encoding */
    INSN_TRAIT_AVX = 1 << 7,            /* VEX-encoded vector */
    INSN_TRAIT_ALIGNED = 1 << 8,        /* memory operand must be naturally aligned: #GP(0) */
    INSN_TRAIT_FP_EXCEPTIONS = 1 << 9,  /* may raise #XM / sets MXCSR flags */
    INSN_TRAIT_NOT_REAL_MODE = 1 << 10, /* #UD in real and virtual-8086 mode */
    INSN_TRAIT_NOT_COMPAT = 1 << 11,    /* decodes only in 64-bit mode */
    INSN_TRAIT_IO = 1 << 12,            /* IOPL / TSS bitmap sensitive */
};

/* The CPUID feature that must be exposed, else #UD. */
enum insn_feature {
    INSN_FEATURE_BASE,
    INSN_FEATURE_X87,
    INSN_FEATURE_CMOV,
    INSN_FEATURE_CX8,
    INSN_FEATURE_CX16,
    INSN_FEATURE_MMX,
    INSN_FEATURE_FXSR,
    INSN_FEATURE_SSE,
    INSN_FEATURE_SSE2,
    INSN_FEATURE_SSE3,
    INSN_FEATURE_SSSE3,
    INSN_FEATURE_SSE4_1,
    INSN_FEATURE_SSE4_2,
    INSN_FEATURE_SSE4A,
    INSN_FEATURE_POPCNT,
    INSN_FEATURE_LZCNT,
    INSN_FEATURE_BMI1,
    INSN_FEATURE_BMI2,
    INSN_FEATURE_ADX,
    INSN_FEATURE_MOVBE,
    INSN_FEATURE_AES,
    INSN_FEATURE_PCLMULQDQ,
    INSN_FEATURE_SHA,
    INSN_FEATURE_GFNI,
    INSN_FEATURE_VAES,
    INSN_FEATURE_VPCLMULQDQ,
    INSN_FEATURE_AVX,
    INSN_FEATURE_AVX2,
    INSN_FEATURE_F16C,
    INSN_FEATURE_FMA,
    INSN_FEATURE_XSAVE,
    INSN_FEATURE_XSAVEOPT,
    INSN_FEATURE_XSAVEC,
    INSN_FEATURE_XSAVES,
    INSN_FEATURE_FSGSBASE,
    INSN_FEATURE_RDTSCP,
    INSN_FEATURE_RDPID,
    INSN_FEATURE_RDRAND,
    INSN_FEATURE_RDSEED,
    INSN_FEATURE_CLFLUSH,
    INSN_FEATURE_CLFLUSHOPT,
    INSN_FEATURE_CLWB,
    INSN_FEATURE_INVPCID,
    INSN_FEATURE_SMAP,
    INSN_FEATURE_SYSCALL,
    INSN_FEATURE_SEP,
    INSN_FEATURE_LAHF64,
    INSN_FEATURE_MONITOR,
    INSN_FEATURE_3DNOWPREFETCH,
    INSN_NR_FEATURES,
};

struct insn {
    uint16_t id;       /* enum insn_id */
    uint8_t length;    /* bytes, 1..15 */
    uint8_t mode;      /* enum insn_mode it was decoded in */
    uint8_t prefixes;  /* enum insn_prefix */
    uint8_t rex;       /* the REX byte, or the equivalent W R X B from VEX in bits 3:0; 0: none */
    uint8_t map;       /* 0 one-byte, 1 0F, 2 0F38, 3 0F3A */
    uint8_t opcode;    /* last opcode byte */
    uint8_t mandatory; /* 0, 66, F2, F3: the prefix that is part of the opcode (or VEX.pp) */
    uint8_t modrm;     /* valid when has_modrm */
    uint8_t condition; /* tttn of Jcc, SETcc, CMOVcc */
    uint8_t operand_size; /* 2, 4, 8: the effective integer operand size */
    uint8_t address_size; /* 2, 4, 8 */
    uint8_t feature;      /* enum insn_feature */
    uint8_t vex_vvvv;     /* register number, valid with INSN_PREFIX_VEX */
    bool has_modrm;
    bool vex_l, vex_w;
    uint8_t nr_operands; /* explicit first, then implicit ones */
    /* Where parts stand in the bytes, for rewriting: 0 when absent. */
    uint8_t opcode_offset, modrm_offset, displacement_offset, imm_offset;
    uint8_t displacement_size, imm_size; /* imm_size: of all immediates together (ENTER: 3) */
    uint16_t traits;                     /* enum insn_trait */
    /* A flag that may stay as it was (shift by CL, REP CMPS) counts as read and written. */
    uint8_t flags_read; /* status flags in the layout of LAHF's byte; bit 3: OF (bits 7,6,4,2,0: SF
                           ZF AF PF CF); */
    uint8_t flags_written;   /* written or made undefined */
    uint8_t flags_undefined; /* of those, left undefined by the SDM */
    struct insn_mem mem;
    uint64_t imm; /* sign-extended to 64 bits where the form sign-extends, else zero-extended */
    uint64_t imm2;
    struct insn_operand operand[INSN_OPERANDS_MAX];
};

enum insn_result {
    INSN_OK,
    INSN_TRUNCATED, /* needs more bytes than were given */
    INSN_UNDEFINED, /* #UD; ret->length is valid when it is nonzero */
    INSN_TOO_LONG,  /* longer than 15 bytes: #GP(0) */
};

/* Decodes at most `length` bytes (more than 15 are ignored). Never reads past them. */
enum insn_result insn_decode(const uint8_t *bytes, size_t length, enum insn_mode mode,
                             struct insn *ret);

const char *insn_name(enum insn_id id); /* "ADD"; "?" when out of range */

#endif
