/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Predecoded operations: what a block is made of, and how their functions are written.
 *
 * A hot operation is a function specialised by operation, size and operand form. It ends by calling
 * the next one (INTERP_NEXT, a tail call), so a block runs without a loop; the run loop sees only
 * block ends. Everything else is op_generic, which calls a soft_handler_fn with its struct insn.
 *
 * Invariants inside a block:
 *  1. cpu->rip is the address of the block's first instruction; an operation's own is rip + offset.
 *     op_generic sets rip and next_rip for its handler and puts rip back.
 *  2. The status flags live in cpu->host_flags (AX after LAHF and SETO AL), the others in rflags;
 *     op_generic materialises them for its handler (rule 5 of soft_cpu.h) and takes them back.
 *  3. Every block ends in an operation that does not call INTERP_NEXT. Of branches only a Jcc of a
 *     trace (cache_extend) may stand before the end.
 *  4. An operation that leaves early calls interp_leave_fault or interp_leave, which set rip,
 *     interp.executed; result 0 means: the block came to its end.
 *  5. A block that is invalidated while it runs gets every op's function replaced by op_stale,
 *     so that the next operation leaves it; its memory stays until the whole cache is dropped.
 */
#ifndef LODGE_SOFT_INTERP_OP_H
#define LODGE_SOFT_INTERP_OP_H

#include "base/util.h"
#include "soft/mmu/mmu.h"
#include "soft/soft_cpu.h"

struct interp_op;

/* Beyond enum soft_result: the block was left between instructions, interp.executed is set. */
#define INTERP_LEFT 8

typedef int interp_fn(struct soft_cpu *cpu, const struct interp_op *op);

/* A handler with its instruction, for op_generic. */
struct interp_generic {
    soft_handler_fn *run;
    bool guarded; /* interp_guarded has something to check */
    struct insn insn;
};

struct interp_op {
    interp_fn *run;
    /* Registers as byte offsets in struct soft_cpu; base and index: `zero` when absent, `rip` for
     * RIP-relative addresses (displacement then counts from the block's start). */
    uint16_t dst, src, base, index;
    uint16_t offset;   /* of the instruction from the block's first byte */
    uint16_t position; /* instructions before it in the block */
    uint8_t length;
    uint8_t scale; /* shift count of the index */
    uint8_t segment;
    uint8_t condition;
    int64_t displacement;
    union {
        uint64_t imm; /* branches: offset of the target from the block's first byte */
        const struct interp_generic *generic;
    };
    uint64_t mask; /* of addresses; of rip for branches */
};

#define INTERP_NEXT() return (op + 1)->run(cpu, op + 1)

/* Register access by byte offset. A 32-bit write clears the upper half. */
#define INTERP_REG8(place)  (*(uint8_t *)((char *)cpu + (place)))
#define INTERP_REG16(place) (*(uint16_t *)(void *)((char *)cpu + (place)))
#define INTERP_REG32(place) (*(uint32_t *)(void *)((char *)cpu + (place)))
#define INTERP_REG64(place) (*(uint64_t *)(void *)((char *)cpu + (place)))

#define INTERP_WRITE8(place, value)  (INTERP_REG8(place) = (uint8_t)(value))
#define INTERP_WRITE16(place, value) (INTERP_REG16(place) = (uint16_t)(value))
#define INTERP_WRITE32(place, value) (INTERP_REG64(place) = (uint32_t)(value))
#define INTERP_WRITE64(place, value) (INTERP_REG64(place) = (uint64_t)(value))

#define INTERP_GPR(n) ((uint16_t)(offsetof(struct soft_cpu, gpr) + 8u * (n)))

/* host_flags: AL = OF, AH = SF ZF - AF - PF - CF */
#define HOST_FLAG_OF 0x0001u
#define HOST_FLAG_CF 0x0100u
#define HOST_FLAG_PF 0x0400u
#define HOST_FLAG_AF 0x1000u
#define HOST_FLAG_ZF 0x4000u
#define HOST_FLAG_SF 0x8000u

static inline uint64_t interp_flags_from_host(uint64_t host)
{
    return ((host >> 8) & 0xd5u) | (host & 1u) << 11;
}

static inline uint64_t interp_flags_to_host(uint64_t rflags)
{
    return (rflags & 0xd5u) << 8 | ((rflags >> 11) & 1u);
}

/* Invariant 2: to rflags, and back. */
static inline void interp_flags_store(struct soft_cpu *cpu)
{
    cpu->rflags = (cpu->rflags & ~CPU_FLAGS_STATUS) | interp_flags_from_host(cpu->host_flags);
}

static inline void interp_flags_load(struct soft_cpu *cpu)
{
    cpu->host_flags = interp_flags_to_host(cpu->rflags);
}

static inline bool interp_condition(uint64_t host, unsigned condition)
{
    bool value;

    switch (condition >> 1) {
    case 0:
        value = host & HOST_FLAG_OF;
        break;
    case 1:
        value = host & HOST_FLAG_CF;
        break;
    case 2:
        value = host & HOST_FLAG_ZF;
        break;
    case 3:
        value = host & (HOST_FLAG_CF | HOST_FLAG_ZF);
        break;
    case 4:
        value = host & HOST_FLAG_SF;
        break;
    case 5:
        value = host & HOST_FLAG_PF;
        break;
    case 6:
        value = ((host >> 15) ^ host) & 1;
        break;
    default:
        value = (((host >> 15) ^ host) & 1) || (host & HOST_FLAG_ZF);
        break;
    }
    return value ^ (condition & 1);
}

/* The current instruction faulted (or asks to leave): nothing of it was done. */
int interp_leave_fault(struct soft_cpu *cpu, const struct interp_op *op, int result);
/* The current instruction is done; rip moves behind it. */
int interp_leave(struct soft_cpu *cpu, const struct interp_op *op);

/* Pseudo operations and the generic one (generic.c). */
interp_fn op_end, op_end_legacy, op_stale, op_generic, op_generic_end;
interp_fn op_undefined, op_too_long, op_unsupported;

/* INSN_TRAIT_NOT_REAL_MODE and INSN_TRAIT_PRIVILEGED. */
enum soft_result interp_guarded(struct soft_cpu *cpu, const struct insn *insn);
/* Fills cpu->exit; rip is at the instruction. */
void interp_unsupported(struct soft_cpu *cpu, const char *reason);
/* Fills a table of handlers by id from all groups. (dispatch.c) */
void interp_handlers_fill(soft_handler_fn *table[INSN_NR_IDS]);

/*
 * Hot operations: each file offers a function that fills op->run for an instruction it has a
 * specialised form of (registers, address and immediate are already in op), else returns NULL.
 */
interp_fn *hot_alu_select(const struct insn *insn, struct interp_op *op);
interp_fn *hot_move_select(const struct insn *insn, struct interp_op *op);
interp_fn *hot_unary_select(const struct insn *insn, struct interp_op *op);
interp_fn *hot_branch_select(const struct insn *insn, struct interp_op *op);
interp_fn *hot_stack_select(const struct insn *insn, struct interp_op *op);

/* Is it a Jcc of 64-bit code that leads forward, and not 2 GiB? Make it one that need not end its
 * block. */
bool hot_jcc_forward(const struct interp_op *op);
void hot_jcc_go_on(struct interp_op *op);

/* Operand forms of the hot operations: F: flat 64-bit address without segment base, G: any. */
enum hot_form {
    HOT_RR,
    HOT_RI,
    HOT_RM_F,
    HOT_RM_G,
    HOT_MR_F,
    HOT_MR_G,
    HOT_MI_F,
    HOT_MI_G,
    HOT_NR_FORMS,
    HOT_NONE = HOT_NR_FORMS,
};

/* Of a two-operand instruction. */
enum hot_form hot_form_of(const struct insn *insn);
/* Is the memory operand in the flat form? */
bool hot_address_flat(const struct insn *insn);
/* 1, 2, 4, 8 -> 0..3 */
static inline unsigned hot_size_index(unsigned size)
{
    return size == 8 ? 3 : size == 4 ? 2 : size == 2 ? 1 : 0;
}

#endif
