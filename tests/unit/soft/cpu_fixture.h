/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A software vCPU without an engine around it, for tests of single parts: RAM, a recorded bus,
 * tables that the test fills, and one instruction at a time through the real decoder and the system
 * handlers.
 *
 * Guest-physical layout (identity-mapped where paging is on): GDT 0x1000, IDT 0x2000, TSS 0x4000,
 * LDT 0x5000, stacks that end at 0x9000 (ring 0), 0xa000 (ring 3), 0xb000 (IST1); page tables from
 * 0x100000.
 */
#ifndef LODGE_TESTS_CPU_FIXTURE_H
#define LODGE_TESTS_CPU_FIXTURE_H

#include "soft/interp/sys.h"

#define FIXTURE_RAM    (16 * MIB)
#define FIXTURE_GDT    0x1000u
#define FIXTURE_IDT    0x2000u
#define FIXTURE_TSS    0x4000u
#define FIXTURE_LDT    0x5000u
#define FIXTURE_STACK0 0x9000u
#define FIXTURE_STACK3 0xa000u
#define FIXTURE_IST1   0xb000u
#define FIXTURE_CODE   0x10000u
#define FIXTURE_TABLES 0x100000u

/* Selectors of the standard GDT. */
enum {
    SEL_CODE0 = 0x08, /* 32-bit (or 64-bit in long mode), DPL 0 */
    SEL_DATA0 = 0x10,
    SEL_CODE3 = 0x18 | 3,
    SEL_DATA3 = 0x20 | 3,
    SEL_CODE32 = 0x28 | 3, /* 32-bit DPL 3, in every mode */
    SEL_TSS = 0x30,        /* 16 bytes in long mode */
    SEL_LDT = 0x40,
    SEL_CODE16 = 0x50,
    SEL_DATA16 = 0x58,
    SEL_CONFORMING = 0x60,
    SEL_FREE = 0x68, /* for the test: to 0xff */
};

#define PTE_P  UINT64_C(0x001)
#define PTE_W  UINT64_C(0x002)
#define PTE_U  UINT64_C(0x004)
#define PTE_A  UINT64_C(0x020)
#define PTE_D  UINT64_C(0x040)
#define PTE_PS UINT64_C(0x080)
#define PTE_G  UINT64_C(0x100)
#define PTE_NX (UINT64_C(1) << 63)

struct bus_access {
    bool write, mmio;
    uint64_t address, value;
    unsigned size;
};

struct fixture {
    struct memory *memory;
    struct cpuid_policy policy;
    struct soft_vm vm;
    struct cpu_bus bus;
    struct bus_access access[16];
    unsigned nr_accesses;
    uint64_t bus_value; /* what reads give */
    struct soft_cpu *cpu;
    gpa_t next_table;
};

struct fixture *fixture_new(void);
void fixture_free(struct fixture *f);

/* A mode with the standard GDT, a TSS and flat segments; paging only in long mode (identity, all
 * user and writable unless the test maps over it). */
void fixture_real(struct fixture *f);
void fixture_protected(struct fixture *f, unsigned cpl);
void fixture_long(struct fixture *f, unsigned cpl);
void fixture_v86(struct fixture *f, unsigned iopl);

/* Guest-physical memory. */
uint64_t peek(struct fixture *f, gpa_t gpa, unsigned size);
void poke(struct fixture *f, gpa_t gpa, uint64_t value, unsigned size);

void fixture_descriptor(struct fixture *f, gpa_t at, uint64_t base, uint32_t limit,
                        uint32_t attributes);
/* type: SYSTEM_*; 16 bytes in long mode */
void fixture_gate(struct fixture *f, gpa_t at, uint16_t selector, uint64_t offset, unsigned type,
                  unsigned dpl, unsigned ist_or_count);
void fixture_idt(struct fixture *f, uint8_t vector, uint16_t selector, uint64_t offset,
                 unsigned type, unsigned dpl, unsigned ist);

/* 4-level tables: maps one page of 1 << shift (12, 21, 30). upper: flags of the levels above. */
void fixture_map(struct fixture *f, gva_t gva, gpa_t gpa, unsigned shift, uint64_t flags,
                 uint64_t upper);
/* Where the leaf entry of gva stands (4 KiB mapping). */
gpa_t fixture_leaf(struct fixture *f, gva_t gva);

/* Decodes and executes one system instruction at the current CS:RIP (bytes need not be in memory).
 */
/* Does it decode in the current mode, to a system instruction? */
bool fixture_decodes(struct fixture *f, const char *hex);
enum soft_result fixture_run(struct fixture *f, const char *hex);

#endif
