/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Differential test of the software CPU against the host's: one stream of user-mode instructions
 * runs natively in a sandboxed child and in the interpreter at CPL 3 of a tiny VM, from the same
 * registers, flags, vector state and memory, at the same linear addresses. What comes out has to
 * be equal: registers, RFLAGS, memory, and the exception with its address.
 *
 * Streams are of 64-bit code, of 32-bit code in compatibility mode (CS 0x23 of Linux), or of 16-bit
 * code with 16-bit data and stack segments from an LDT. The data segments of the latter are the
 * scratch pages, its code segment starts at DIFF_CODE_VA.
 *
 *   native.c    the child: fixed mappings, trampoline, signal handler, seccomp
 *   guest.c     the VM: page tables, IDT whose handlers halt
 *   layout.c    what both sides do alike with a stream
 *   generate.c  random streams from the decoder's own tables
 *   allowed.c   what may stand in them
 *   generate_vector.c  vector and x87 instructions, every form as often as the others
 *   diff_main.c batches, comparison, minimising, reports
 *
 * Streams end in a jump through DIFF_LEAVE_POINTER, which changes no register and no flag; 16- and
 * 32-bit ones by a far jump to DIFF_GATE_VA, where 64-bit code does that.
 */
#ifndef LODGE_TESTS_DIFF_H
#define LODGE_TESTS_DIFF_H

#include "base/err.h"
#include "cpu/state.h"
#include "soft/decode/insn.h"

#include <stdbool.h>
#include <stdint.h>

/* Linear addresses, the same on both sides. */
#define DIFF_CODE_VA       0x10000000u /* one page, read and execute */
#define DIFF_SCRATCH_VA    0x20000000u /* two pages read-write, one read-only, then nothing */
#define DIFF_AREA_VA       0x35a3c000u /* the trampoline's page */
#define DIFF_GATE_VA       (DIFF_CODE_VA + 0xf00u)
#define DIFF_LEAVE_POINTER (DIFF_AREA_VA + 0xff8u)
#define DIFF_END_VA        (DIFF_AREA_VA + 0x800u) /* where a trap behind the last jump is said to be */
/* As Linux has them: they are pushed, and loaded by streams. */
#define DIFF_SELECTOR_CODE_32 0x23u
#define DIFF_SELECTOR_DATA    0x2bu
#define DIFF_SELECTOR_CODE_64 0x33u
#define DIFF_SELECTOR_CODE_16 0x07u /* LDT */
#define DIFF_SELECTOR_DATA_16 0x0fu
/* The guest's tables and handlers, supervisor only. */
#define DIFF_KERNEL_VA   0x2f400000u
#define DIFF_KERNEL_SIZE 0x10000u
#define DIFF_WRITABLE    8192u
#define DIFF_SCRATCH     12288u

#define DIFF_INSNS_MAX 64u
#define DIFF_CODE_MAX  1024u

struct diff_state {
    uint64_t gpr[CPU_NR_GPRS];
    uint64_t rflags;
    uint8_t xsave[CPU_XSAVE_SIZE] __attribute__((aligned(64)));
};

/* A stream: instructions in order. A branch's target is the instruction `target` (nr_insns: the
 * end), put in when the stream is laid out. */
struct diff_insn {
    uint8_t bytes[INSN_LENGTH_MAX];
    uint8_t length;
    uint8_t target; /* 0: no branch */
    uint8_t displacement_offset, displacement_size;
    bool any_order;           /* which of its stack words it reads first is the implementation's */
    bool partial;             /* when it faults, some of its registers may be written */
    uint16_t undefined_flags; /* whose values at this instruction the architecture leaves open */
};

struct diff_stream {
    unsigned nr_insns;
    uint8_t code_mode; /* enum insn_mode */
    struct diff_insn insn[DIFF_INSNS_MAX];
    uint64_t memory_seed;
    uint32_t undefined_flags; /* at its end */
    bool vector;              /* vector and x87 state is loaded and compared */
    struct diff_state initial;
};

#define DIFF_COMPLETED 0xff
#define DIFF_ENDLESS   0xfe   /* wild control found a loop: stopped where it was */
#define DIFF_TICK_US   20000u /* three of them are too long for a stream */

struct diff_result {
    uint8_t vector; /* exception, or DIFF_COMPLETED */
    bool lost;      /* the side could not run it */
    uint32_t error;
    uint64_t rip;     /* when not completed */
    uint64_t address; /* CR2 of a page fault */
    struct diff_state state;
    uint8_t memory[DIFF_SCRATCH];
    char reason[64]; /* of lost */
};

/* Bytes of the stream with its end; returns the length. offset[i] of each instruction and the end.
 */
unsigned diff_layout(const struct diff_stream *stream, uint8_t code[DIFF_CODE_MAX],
                     uint16_t offset[DIFF_INSNS_MAX + 1]);
/* The code at DIFF_GATE_VA. */
void diff_gate_fill(uint8_t *code);
void diff_memory_fill(uint64_t seed, uint8_t memory[DIFF_SCRATCH]);

/* SIGVTALRM every DIFF_TICK_US of this process's own time; NULL: its action is set already. */
void diff_ticks_start(void (*handler)(int number));

struct diff_native;
int diff_native_new(struct diff_native **ret, struct err *err);
void diff_native_free(struct diff_native *native);
/* 16-bit code needs modify_ldt. */
bool diff_native_has_16(const struct diff_native *native);
#define DIFF_BATCH 64u
/* Starts a batch (at most DIFF_BATCH) in the child, and waits for it. A stream that kills the child
 * gives results that are `lost`. */
void diff_native_start(struct diff_native *native, const struct diff_stream *streams, unsigned nr);
void diff_native_wait(struct diff_native *native, struct diff_result *ret_results);

struct diff_guest;
/* engine_options: cpu_vm_config.options. */
int diff_guest_new(const char *engine_options, struct diff_guest **ret, struct err *err);
void diff_guest_free(struct diff_guest *guest);
void diff_guest_run(struct diff_guest *guest, const struct diff_stream *stream,
                    struct diff_result *ret);
/* Does the guest's CPUID policy expose what the instruction needs? */
bool diff_guest_exposes(const struct diff_guest *guest, const struct insn *insn);
uint64_t diff_guest_instructions(const struct diff_guest *guest);

enum diff_mode { DIFF_MODE_INTEGER, DIFF_MODE_VECTOR, DIFF_MODE_ALL };
/* splitmix64: *state is the seed. */
uint64_t diff_random(uint64_t *state);
unsigned diff_pick(uint64_t *seed, unsigned n);
void diff_generate(const struct diff_guest *guest, enum diff_mode mode, enum insn_mode code_mode,
                   uint64_t seed, struct diff_stream *ret);

/* Flags that the instruction leaves undefined, and that the interpreter does not take from the
 * host's instruction. */
uint32_t diff_undefined_flags(unsigned id);
/* May it stand in a stream of this mode? */
bool diff_allowed(const struct diff_guest *guest, enum diff_mode mode, const struct insn *insn);
/* generate_vector.c: one vector or x87 instruction, and one before it where that has to prepare its
 * operand. Returns how many of ret[0..1] were filled; 0: try again. */
unsigned diff_draw_form(const struct diff_guest *guest, enum insn_mode code_mode, uint64_t *seed,
                        struct diff_insn *ret);

/* Empty text: equal. */
struct diff_report {
    char text[2048];
};
bool diff_equal(const struct diff_stream *stream, const struct diff_result *native,
                const struct diff_result *guest, struct diff_report *report);

#endif
