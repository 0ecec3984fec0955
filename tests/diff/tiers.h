/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tier against tier: whole programs, in ring 3 or ring 0, on the translator and on the interpreter,
 * one instruction at a time there. What the processor alone can do (diff.h) is compared with the
 * host; here is what a host process cannot do: interrupts at any point, stores into code that runs
 * or is about to, page tables that change, code that moves to another page, caches that overflow.
 *
 * A program is a ring of segments. A segment notes where it is, counts down (the end when nothing
 * is left), repairs some pointers, runs a stream of generate.c and goes on to some other segment,
 * by every kind of branch. Between its instructions stand stores into code (below), page table
 * changes with the flush that belongs to them, and device reads that ask for an interrupt.
 * Exceptions are mixed into a sum, with their frames, and lead to the next segment.
 *
 * Stores into code: any into immediates ("points"); of one instruction, two or a branch into others
 * of the same length ("switches", which go back and forth); instructions written into data pages
 * and called. All of these are known to be harmless. In a third of the programs of ring 3
 * anything is written anywhere ("wild"): what that makes may be any instruction, so those that see
 * what the two runs do not share are made to fault (time stamps, I/O) or do not exist (random
 * numbers), and exceptions repair the code, now and then. Where points and switches go, while a
 * program is made smaller, so do the stores into them: else what is left would be wild without
 * these precautions.
 *
 * Interrupts: where the translator took one, the whole state is kept. The interpreter's run has to
 * come through all these states, memory included, in order, at instruction boundaries; it gets its
 * interrupts there. At the end registers, vector state and all of memory have to be equal.
 *
 *   tiers_program.c   random programs, their layout
 *   tiers_rewrite.c   their stores into opcodes
 *   tiers_guest.c     the machine: page tables, handlers, devices, one run on one tier
 *   tiers_handlers.S  the guest's handlers
 *   tiers_main.c      the comparison, making failures smaller
 */
#ifndef LODGE_TESTS_DIFF_TIERS_H
#define LODGE_TESTS_DIFF_TIERS_H

#include "diff.h"

#define TIERS_SEGMENTS     12u
#define TIERS_ITEMS        2048u
#define TIERS_PAGES        5u /* of code; the last is mapped in the place of the one before, in turns */
#define TIERS_POINTS       64u
#define TIERS_SWITCHES     64u
#define TIERS_SWITCH_BYTES 4u

#define TIERS_STATE_VA 0x30000000u
#define TIERS_MMIO_VA  0x31000000u
#define TIERS_UPPER    UINT64_C(0xffff800000000000)
#define TIERS_PORT     0x5au
/* Software interrupts of programs, and the device's vector. */
#define TIERS_INT_FLUSH 0x40u
#define TIERS_INT_END   0x41u
#define TIERS_INTERRUPT 0x60u

/* In the page at TIERS_STATE_VA. */
#define TIERS_STATE_NEXT  0x00u  /* segment that runs */
#define TIERS_STATE_LEFT  0x08u  /* segments to go */
#define TIERS_STATE_SUM   0x10u  /* of all that the handlers saw */
#define TIERS_STATE_FLUSH 0x18u  /* which flush TIERS_INT_FLUSH does: bits */
#define TIERS_STATE_NR    0x20u  /* segments */
#define TIERS_STATE_TABLE 0x100u /* their addresses */
#define TIERS_STATE_COUNT 0x28u  /* of handlers run */
/* Where exceptions in a segment repair its code: from here, so many words of 8 bytes; 4 bytes each.
 */
#define TIERS_STATE_REPAIR 0x180u
/* Of the last 32 of them, 64 bytes each: vector, error code, RIP, CS, RFLAGS, RSP, CR2. */
#define TIERS_STATE_LOG 0x400u
#define TIERS_STATE_GPA 0x120000u
/* The code as it was, behind the kernel's pages. */
#define TIERS_PRISTINE_OFFSET 0x20000u
#define TIERS_PRISTINE_GPA    0x108000u

#ifndef __ASSEMBLER__

enum tiers_item_kind {
    TIERS_PLAIN,
    TIERS_FORWARD, /* branch inside the segment: `target` items on */
    TIERS_SEGMENT, /* branch to segment `target` */
    TIERS_POINT,   /* its last 4 bytes are an immediate that others write */
    TIERS_STORE,   /* absolute store into point `target`; `shift` bytes into the immediate */
    TIERS_SWITCH,  /* instructions of TIERS_SWITCH_BYTES in all: `bytes` or `other` */
    TIERS_TOGGLE,  /* makes one of these the other, in item `to`; immediate at `shift` */
    TIERS_WILD,    /* store to byte `shift` of item `to` */
    TIERS_GLUE,    /* never removed */
};

struct tiers_item {
    uint8_t bytes[INSN_LENGTH_MAX];
    uint8_t length, kind, target, shift;
    uint8_t displacement_offset, displacement_size;
    uint8_t other[TIERS_SWITCH_BYTES];
    uint8_t jumps; /* bits: `bytes` (`other`) starts with a short Jcc over `target` items */
    uint16_t to;
    bool removed;
};

struct tiers_program {
    uint64_t seed;
    bool ring0, smap, global, wild;
    bool data_code_across; /* code in data pages is all written across the pages' boundary */
    unsigned nr_segments, nr_items, nr_points, nr_switches;
    uint32_t rounds;
    uint16_t first[TIERS_SEGMENTS + 1]; /* item of each segment */
    uint16_t gap[TIERS_SEGMENTS];       /* bytes before it */
    uint16_t page_end[TIERS_SEGMENTS];  /* nonzero: it starts so many bytes before a page's end */
    uint16_t point[TIERS_POINTS];       /* items */
    uint16_t switches[TIERS_SWITCHES];  /* items */
    struct tiers_item item[TIERS_ITEMS];
    uint32_t interrupt_seed;
    uint64_t memory_seed;
    struct diff_state initial;

    /* tiers_layout */
    uint16_t offset[TIERS_ITEMS];
    uint16_t start[TIERS_SEGMENTS];
    uint8_t code[TIERS_PAGES * 4096];
};

void tiers_generate(const struct diff_guest *features, uint64_t seed, struct tiers_program *ret);
/* False: too long. */
bool tiers_layout(struct tiers_program *program);
/* Removed, or a store into what is. */
bool tiers_item_gone(const struct tiers_program *program, const struct tiers_item *item);
uint64_t tiers_code_va(const struct tiers_program *program);

/* One run: what the interrupts met, and the end. */
#define TIERS_DELIVERIES 64u

/* Of a delivery's state, in the place of debug registers: what tells one round of a loop from
 * another, and memory that programs can write. */
#define TIERS_SUM_OF_MEMORY 2u

struct tiers_outcome {
    int exit; /* enum cpu_exit_kind */
    unsigned nr_deliveries;
    struct cpu_state delivery[TIERS_DELIVERIES];
    struct cpu_state near; /* at the next delivery's address in its round, but not its state */
    struct cpu_state end;
    uint64_t steps; /* instruction boundaries with interrupts on; of a stepped run */
    uint8_t *ram;   /* TIERS_RAM bytes, of the caller */
};

#define TIERS_RAM        0x200000u
#define TIERS_TABLES     0x1000u /* page tables */
#define TIERS_TABLES_END 0xc000u

struct tiers_guest;
/* replays: runs one instruction at a time and takes interrupts where told. */
int tiers_guest_new(const char *engine_options, bool replays, struct tiers_guest **ret,
                    struct err *err);
void tiers_guest_free(struct tiers_guest *guest);
/* replay: the run whose deliveries are to be repeated; NULL: interrupts come as they come (of a
 * guest that does not replay). An endless run ends with CPU_EXIT_KICK, after patience times some 20
 * ms; one that replays after a number of instructions. */
void tiers_guest_run(struct tiers_guest *guest, const struct tiers_program *program,
                     const struct tiers_outcome *replay, unsigned patience,
                     struct tiers_outcome *ret);

extern const uint8_t tiers_handlers[], tiers_handlers_end[], tiers_handler_common[];
#endif
#endif
