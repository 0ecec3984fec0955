/* SPDX-License-Identifier: Apache-2.0 */
/* One block's translation in progress: what block.c, branch.c and copy.c share. */
#ifndef LODGE_SOFT_TRANSLATOR_H
#define LODGE_SOFT_TRANSLATOR_H

#include "soft/translate/emit.h"

#define TRANSLATOR_STUBS_MAX 320u
#define TRANSLATOR_COLD_MAX  160u
#define TRANSLATOR_NEAR_MAX  12u

struct translator_stub {
    uint8_t *patch;
    uint32_t exit;
    const uint8_t *leave; /* where it goes with ECX = exit */
};

/* An access that the flat tables do not know: its exact check, behind the block. */
struct translator_cold {
    uint8_t *patch;      /* of the jump to it; NULL until an island has one */
    const uint8_t *back; /* where the access goes on */
    uint8_t size, op;
    uint8_t address, displacement; /* host register; of the access from there */
    bool write, range;
};

#define TRANSLATOR_NO_RANGE 0xffu
#define TRANSLATOR_OPS_MAX  48u

/* What the accesses of a range (ranges.c) have in common. No padding. */
struct translator_range_key {
    uint8_t barrier, base, index, scale, segment, base_version, index_version;
};

struct translator_range {
    struct translator_range_key key;
    int64_t low, high;
    unsigned members;
    bool write;
    bool reloaded;      /* a later access does not find the addend in RCX */
    const uint8_t *led; /* behind the first access's check; NULL: not yet emitted */
};

/* A JRCXZ that waits for an island: a jump within its reach. */
struct translator_near {
    uint8_t *patch;
    uint8_t cold; /* which, or TRANSLATOR_NO_COLD: an exit */
    uint8_t kind, op;
};
#define TRANSLATOR_NO_COLD 0xffu

/* A Jcc to another page. */
struct translator_far {
    uint8_t *patch;
    unsigned link;
    int64_t target;
};

/* translation.link */
#define TRANSLATOR_LINK_TAKEN  0u /* of the last instruction */
#define TRANSLATOR_LINK_BEHIND 1u
#define TRANSLATOR_LINK_SIDES  2u /* first of those of other Jcc */

struct translator {
    struct emit e;
    struct soft_cpu *cpu;
    struct translation *t;
    const uint8_t *bytes; /* of the current instruction */
    struct insn insn;
    struct emit_operand operand; /* translator_check's */
    unsigned op;                 /* its operation */
    uint32_t offset;             /* of it in the page */
    bool user;                   /* the block runs at CPL 3 (otherwise 0) */
    bool window;                 /* its accesses are the host's at the same addresses: window.c */
    bool vector_seen;            /* the check for loaded vector registers was emitted */
    bool failed;                 /* something did not find room: again, without islands */
    bool no_islands;             /* each JRCXZ has its jump beside it */
    bool trial;                  /* no islands for now: block.c */
    uint8_t *island_end;         /* the last one begins before this */
    unsigned nr_cold, nr_near;
    struct translator_cold cold[TRANSLATOR_COLD_MAX];
    struct translator_near near[TRANSLATOR_NEAR_MAX];
    bool x87_seen, x87_noted; /* the same for x87; hot.x87_page was set */
    struct insn insns[TRANSLATOR_OPS_MAX];
    unsigned nr_ranges;
    struct translator_range range[TRANSLATE_RANGES];
    uint8_t range_of[TRANSLATOR_OPS_MAX]; /* of each operation's access */
    int64_t range_at[TRANSLATOR_OPS_MAX];
    int32_t rsp_pending; /* of a run of PUSHes or POPs: not yet added to the guest's RSP */
    uint8_t held;        /* the range whose addend RCX has */
    bool rcx_kept;       /* this instruction leaves RCX alone: set by those who know */
    unsigned nr_stubs;
    struct translator_stub stub[TRANSLATOR_STUBS_MAX];
    unsigned nr_sides; /* Jcc before the end, so far */
    /* Taken branches to other pages, put behind the block. */
    unsigned nr_far;
    struct translator_far far[1 + CACHE_SIDES_MAX];
};

/* The jump at `patch` leaves with this exit. */
void translator_exit(struct translator *tr, uint8_t *patch, enum translate_exit kind,
                     unsigned field);
/* Here, behind the block. */
void translator_exit_emit(struct translator *tr, enum translate_exit kind, unsigned field);
/* access.c. R10 = linear address of the memory operand. False: not in the form that this tier
 * handles. */
bool translator_address(struct translator *tr);
/* R10 is a linear address: tr->operand is its place in the host's memory, made of RCX and R10, or
 * the instruction's exit. aligned: exits too when the address is no multiple of size. Clobbers R11.
 * What then uses the operand must have changed no register of the guest before. */
void translator_check(struct translator *tr, unsigned size, bool write, bool aligned);
/* Both for the memory operand of the instruction, which has no other access: false as
 * translator_address. tr->operand may be made of RCX and a register of the guest's. */
bool translator_access(struct translator *tr, unsigned size, bool write, bool aligned);
/* The same for 8 bytes at a guest register (RSP or RBP) plus displacement. */
void translator_stack_access(struct translator *tr, unsigned reg, int32_t displacement, bool write);
/* window_access.c. The same where tr->window, for accesses that need no alignment. */
void window_check(struct translator *tr);
bool window_access(struct translator *tr);
void window_stack_access(struct translator *tr, unsigned home, int32_t displacement);
/* ranges.c: which of tr->insns have their accesses checked together. */
void translator_ranges_plan(struct translator *tr, const struct interp_block *block);
/* copy_list.c: is this an instruction that copy.c copies (and that writes its operands only)? */
bool translator_copies(const struct insn *insn);
/* copy.c: does RCX stay what it is, but for a check (of memory, of vector registers)? Not always
 * when it does. */
bool translator_keeps_rcx(const struct insn *insn);
/* tr->operand does without RCX from here on. */
void translator_free_rcx(struct translator *tr);

/* Jumps for those JRCXZ that wait for one; end: nothing runs on behind. Not to be undone. */
void translator_islands(struct translator *tr, bool end);
/* Would they be near enough `more` bytes from here? */
bool translator_reached(const struct translator *tr, unsigned more);
/* The instruction leaves with this exit when RCX is 0. */
void translator_leave_if_zero(struct translator *tr, enum translate_exit kind);
/* What was emitted from here on is not. */
void translator_undo(struct translator *tr, uint8_t *from);
/* Behind the block. */
void translator_cold_emit(struct translator *tr);

/* system.c: emits the current instruction if it is one of those that need no C, or a callout;
 * false: nothing was emitted. last: the block ends here, *ret_open false: nothing may follow. */
bool translator_system(struct translator *tr, bool last, bool *ret_open);

/* x87.c: emits the current instruction if it is one of the x87; for MMX: leaves unless the x87
 * state is loaded. */
bool translator_x87(struct translator *tr);
void translator_x87_check(struct translator *tr);

/* divide.c: the same as translator_copy for DIV and IDIV; what was emitted is to be undone. */
bool translator_divide(struct translator *tr);
/* copy.c: emits the current instruction; false: it is to be interpreted (nothing was emitted). */
bool translator_copy(struct translator *tr);
/* branch.c: the block's last instruction, if it is a near branch; PUSH, POP, LEAVE. */
bool translator_branch(struct translator *tr);
/* A Jcc after which the block goes on. */
void translator_side(struct translator *tr);
bool translator_stack(struct translator *tr);
/* The block goes on at `target`, an offset from the start of its page, by this link. */
void translator_goto(struct translator *tr, unsigned slot, int64_t target);

#endif
