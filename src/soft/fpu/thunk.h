/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Thunks: one guest instruction each, executed by the host CPU on the guest's state in memory.
 *
 * An instruction is normalised: its register operands get fixed numbers by their role in the
 * encoding, a memory operand becomes (%rsi). So all instructions that differ only in registers and
 * addresses share one thunk, and the thunk is given pointers:
 *
 *   role  encoding field           host register      pointer
 *   A     modrm.reg                xmm1 / mm1 / rax   rdi
 *   B     VEX.vvvv                 xmm2               rdx
 *   C     modrm.rm, or memory      xmm3 / mm3 / rax   rsi
 *   D     imm8[7:4]                xmm4               rcx
 *         implicit XMM0            xmm0               rcx
 *
 * A pointer to a vector register addresses its low half; the high half of a YMM register lies
 * THUNK_HIGH bytes behind it (the distance in struct fpu_area, and in `shadow`).
 *
 * Invariants:
 *  1. The code buffer is mapped twice, writable and executable; no page is both.
 *  2. Thunks are only added; when the buffer or the table is full all are dropped at once.
 *  3. A thunk leaves MXCSR alone (its caller sets and reads it), and leaves the x87 unit empty with
 *     all exceptions masked and the upper halves of vector registers clean.
 *
 * Threads: one struct fpu_thunks per vCPU, used by its thread only.
 */
#ifndef LODGE_SOFT_FPU_THUNK_H
#define LODGE_SOFT_FPU_THUNK_H

#include "base/err.h"
#include "base/util.h"
#include "soft/fpu/fpu_state.h"
#include "soft/soft_cpu.h"

#define THUNK_HIGH       (offsetof(struct fpu_area, ymm_high) - offsetof(struct fpu_area, xmm))
#define THUNK_CODE_SIZE  (512u * 1024)
#define THUNK_MAX_BYTES  160u
#define THUNK_TABLE_SIZE 4096u /* a power of two */
#define THUNK_MEM_MAX    64u

/* General registers that go in or come out, at fixed offsets that the generated code knows. */
struct thunk_io {
    uint64_t gpr;   /* A or C when it is a general register */
    uint64_t flags; /* status flags */
    uint64_t rax, rdx, rcx;
    uint16_t fcw; /* FPU_FCW_DEFAULT, for the host's return to its own settings */
    /* Of the short way of x87 (x87_lean.c). */
    uint16_t guest_fcw;
    uint16_t fsw;   /* out: what the instruction left */
    uint16_t clear; /* in: exception flags that the host must not have set beforehand */
};

typedef void thunk_fn(void *a, void *c, void *b, void *d, struct thunk_io *io);

enum thunk_kind {
    THUNK_KIND_NONE,
    THUNK_KIND_VECTOR,
    THUNK_KIND_MMX,
    THUNK_KIND_GPR,
    THUNK_KIND_MEM,
};

enum thunk_role {
    THUNK_A,
    THUNK_B,
    THUNK_C,
    THUNK_D,
    THUNK_NR_ROLES,
};

enum thunk_flag {
    THUNK_LOADS = 1 << 0,
    THUNK_STORES = 1 << 1,
    THUNK_USES_XMM = 1 << 2,
    THUNK_USES_MMX = 1 << 3,
    THUNK_GPR_OUT = 1 << 4,   /* the general register of role A or C is written */
    THUNK_FLAGS_OUT = 1 << 5, /* RFLAGS status bits are written */
    THUNK_RCX_OUT = 1 << 6,
    THUNK_RAX_RDX_IN = 1 << 7,
    THUNK_FP = 1 << 8,   /* MXCSR matters */
    THUNK_X0 = 1 << 9,   /* implicit XMM0 in role D */
    THUNK_IS4 = 1 << 10, /* role D is named by the immediate */
    THUNK_X87 = 1 << 11,
    THUNK_FLAGS_IN = 1 << 12,
};

#define THUNK_NO_ROLE 0xff

struct thunk {
    uint64_t key; /* 0: free */
    thunk_fn *run;
    thunk_fn *run_lean;           /* x87: the short way */
    uint16_t flags;               /* enum thunk_flag */
    uint8_t kind[THUNK_NR_ROLES]; /* enum thunk_kind */
    uint8_t destination;          /* enum thunk_role of the vector or MMX register written */
    uint8_t mem_size;             /* bytes */
    bool vex;
    uint8_t lean;       /* enum lean_shape */
    uint8_t lean_needs; /* enum lean_flag */
};

/* The short way of x87: what an instruction takes and leaves, see x87_lean.c. */
enum lean_shape {
    LEAN_NONE,
    LEAN_UNARY,  /* ST(0) */
    LEAN_MEMORY, /* ST(0) and memory */
    LEAN_PAIR,   /* ST(0) and ST(i) */
    LEAN_LOAD,   /* memory or a constant to a new ST(0) */
    LEAN_STORE,  /* ST(0) to memory */
    /* Those that only move: no code. */
    LEAN_LOAD80,
    LEAN_STORE80,
    LEAN_LOAD_ST,
    LEAN_STORE_ST,
    LEAN_EXCHANGE,
};

enum lean_flag {
    LEAN_ST0 = 1 << 0,
    LEAN_STI = 1 << 1,
    LEAN_PUSH = 1 << 2,
    LEAN_POP = 1 << 3,
    LEAN_POP2 = 1 << 4,
    LEAN_CONDITION = 1 << 5, /* C0, C2 and C3 are results */
    LEAN_TO_STI = 1 << 6,    /* the result goes to ST(i) */
    LEAN_NO_RESULT = 1 << 7, /* only flags */
};

/* Code as it is being put together. */
struct thunk_code {
    uint8_t bytes[THUNK_MAX_BYTES];
    unsigned length;
    bool overflow;
};

struct fpu_thunks {
    struct thunk table[THUNK_TABLE_SIZE];
    unsigned nr_thunks;
    uint8_t *code_write;
    const uint8_t *code_run;
    size_t code_used;
    bool host_saves_pointers; /* FXSAVE writes FIP, FDP and FOP though no exception is pending */
    /* AMD or Hygon: SHA operands need not be aligned; MASKMOVQ and MASKMOVDQU check the address of
     * all bytes, and make the MMX transition before that. */
    bool host_is_amd;
    /* CPUID.(7,0):EBX[13] and [6], which the guest sees as the host has them: the selectors are
     * always zero; FDP follows only instructions that leave an unmasked exception. */
    bool zero_selectors, fdp_by_exception;
    uint64_t nr_made, nr_flushes;
    struct thunk_io io;
    uint8_t mem[THUNK_MEM_MAX] __attribute__((aligned(64)));
    struct fpu_area shadow __attribute__((aligned(64))); /* the registers of an instruction that may
                                                            turn out to fault; the x87 image */
};

int thunks_new(struct fpu_thunks **ret, struct err *err);
void thunks_free(struct fpu_thunks *thunks);

/* The thunk of insn: from the table, or made now. NULL when it cannot be made. */
struct thunk *thunk_make(struct fpu_thunks *thunks, const struct insn *insn, uint64_t key);

/* Roles, kinds and flags of a vector instruction, and its code; likewise of an x87 instruction.
 * false: not one. */
bool thunk_plan_vector(const struct insn *insn, struct thunk *thunk);
void thunk_emit_vector(const struct insn *insn, const struct thunk *thunk, struct thunk_code *code);
void thunk_emit_x87(const struct insn *insn, const struct thunk *thunk, struct thunk_code *code);

/* Appends bytes. */
void thunk_put(struct thunk_code *code, const char *bytes, unsigned length);

/* x87_lean.c: the shape of an instruction, and its code if it has any. */
void lean_plan(const struct insn *insn, struct thunk *thunk);
void lean_emit(const struct insn *insn, const struct thunk *thunk, struct thunk_code *code);

/* Everything that distinguishes the code of two normalised instructions; never 0. */
static inline uint64_t thunk_key(const struct insn *insn)
{
    bool memory = insn->has_modrm && (insn->modrm >> 6) != 3;
    uint64_t key = UINT64_C(1) << 63;
    uint8_t fixed_modrm = 0;

    if (insn->traits & INSN_TRAIT_X87)
        fixed_modrm = memory ? insn->modrm & 0x38 : insn->modrm;
    else if (insn->map == 1 && insn->opcode >= 0x70 && insn->opcode < 0x79)
        fixed_modrm = insn->modrm & 0x38;
    key |= insn->opcode;
    key |= (uint64_t)fixed_modrm << 8;
    key |= (uint64_t)(insn->map & 3) << 16;
    key |= (uint64_t)memory << 18;
    key |= (uint64_t) !!(insn->prefixes & INSN_PREFIX_VEX) << 19;
    key |= (uint64_t)insn->vex_l << 20;
    key |= (uint64_t)(insn->rex >> 3 & 1) << 21;
    key |= (uint64_t)(insn->mode == INSN_MODE_64) << 22;
    key |= (uint64_t) !!(insn->traits & INSN_TRAIT_X87) << 23;
    key |= (uint64_t)insn->mandatory << 24;
    key |= (uint64_t)insn->vex_w << 48;
    if (insn->imm_size)
        key |= (insn->imm & 0xff) << 32 | (insn->imm2 & 0xff) << 40;
    return key;
}

static inline struct thunk *thunk_get(struct fpu_thunks *thunks, const struct insn *insn)
{
    uint64_t key = thunk_key(insn);
    unsigned slot = (unsigned)(key * UINT64_C(0x9e3779b97f4a7c15) >> 48);

    for (unsigned i = 0; i < 8; i++) {
        struct thunk *thunk = &thunks->table[(slot + i) % THUNK_TABLE_SIZE];

        if (LIKELY(thunk->key == key))
            return thunk;
        if (!thunk->key)
            break;
    }
    return thunk_make(thunks, insn, key);
}

#endif
