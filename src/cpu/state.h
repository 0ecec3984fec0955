/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The architectural state of one logical processor, in the SDM's terms, the same for every engine:
 * a state read from one engine can be set in another (when the CPUID policy allows it).
 */
#ifndef LODGE_CPU_STATE_H
#define LODGE_CPU_STATE_H

#include <stdbool.h>
#include <stdint.h>

/* Register numbers as instructions encode them (SDM 2A 2.1.5). */
enum cpu_gpr {
    CPU_RAX,
    CPU_RCX,
    CPU_RDX,
    CPU_RBX,
    CPU_RSP,
    CPU_RBP,
    CPU_RSI,
    CPU_RDI,
    CPU_R8,
    CPU_R9,
    CPU_R10,
    CPU_R11,
    CPU_R12,
    CPU_R13,
    CPU_R14,
    CPU_R15,
    CPU_NR_GPRS,
};

enum cpu_segment_index {
    CPU_ES,
    CPU_CS,
    CPU_SS,
    CPU_DS,
    CPU_FS,
    CPU_GS,
    CPU_NR_SEGMENTS,
};

/* RFLAGS (SDM 1 3.4.3) */
#define CPU_FLAG_CF   (UINT64_C(1) << 0)
#define CPU_FLAG_ONE  (UINT64_C(1) << 1) /* always set */
#define CPU_FLAG_PF   (UINT64_C(1) << 2)
#define CPU_FLAG_AF   (UINT64_C(1) << 4)
#define CPU_FLAG_ZF   (UINT64_C(1) << 6)
#define CPU_FLAG_SF   (UINT64_C(1) << 7)
#define CPU_FLAG_TF   (UINT64_C(1) << 8)
#define CPU_FLAG_IF   (UINT64_C(1) << 9)
#define CPU_FLAG_DF   (UINT64_C(1) << 10)
#define CPU_FLAG_OF   (UINT64_C(1) << 11)
#define CPU_FLAG_IOPL (UINT64_C(3) << 12)
#define CPU_FLAG_NT   (UINT64_C(1) << 14)
#define CPU_FLAG_RF   (UINT64_C(1) << 16)
#define CPU_FLAG_VM   (UINT64_C(1) << 17)
#define CPU_FLAG_AC   (UINT64_C(1) << 18)
#define CPU_FLAG_VIF  (UINT64_C(1) << 19)
#define CPU_FLAG_VIP  (UINT64_C(1) << 20)
#define CPU_FLAG_ID   (UINT64_C(1) << 21)
#define CPU_FLAGS_STATUS \
    (CPU_FLAG_CF | CPU_FLAG_PF | CPU_FLAG_AF | CPU_FLAG_ZF | CPU_FLAG_SF | CPU_FLAG_OF)

/* CR0, CR4, EFER (SDM 3A 2.5, 2.2.1) */
#define CPU_CR0_PE         (UINT64_C(1) << 0)
#define CPU_CR0_MP         (UINT64_C(1) << 1)
#define CPU_CR0_EM         (UINT64_C(1) << 2)
#define CPU_CR0_TS         (UINT64_C(1) << 3)
#define CPU_CR0_ET         (UINT64_C(1) << 4)
#define CPU_CR0_NE         (UINT64_C(1) << 5)
#define CPU_CR0_WP         (UINT64_C(1) << 16)
#define CPU_CR0_AM         (UINT64_C(1) << 18)
#define CPU_CR0_NW         (UINT64_C(1) << 29)
#define CPU_CR0_CD         (UINT64_C(1) << 30)
#define CPU_CR0_PG         (UINT64_C(1) << 31)
#define CPU_CR4_VME        (UINT64_C(1) << 0)
#define CPU_CR4_PVI        (UINT64_C(1) << 1)
#define CPU_CR4_TSD        (UINT64_C(1) << 2)
#define CPU_CR4_DE         (UINT64_C(1) << 3)
#define CPU_CR4_PSE        (UINT64_C(1) << 4)
#define CPU_CR4_PAE        (UINT64_C(1) << 5)
#define CPU_CR4_MCE        (UINT64_C(1) << 6)
#define CPU_CR4_PGE        (UINT64_C(1) << 7)
#define CPU_CR4_PCE        (UINT64_C(1) << 8)
#define CPU_CR4_OSFXSR     (UINT64_C(1) << 9)
#define CPU_CR4_OSXMMEXCPT (UINT64_C(1) << 10)
#define CPU_CR4_UMIP       (UINT64_C(1) << 11)
#define CPU_CR4_FSGSBASE   (UINT64_C(1) << 16)
#define CPU_CR4_PCIDE      (UINT64_C(1) << 17)
#define CPU_CR4_OSXSAVE    (UINT64_C(1) << 18)
#define CPU_CR4_SMEP       (UINT64_C(1) << 20)
#define CPU_CR4_SMAP       (UINT64_C(1) << 21)
#define CPU_EFER_SCE       (UINT64_C(1) << 0)
#define CPU_EFER_LME       (UINT64_C(1) << 8)
#define CPU_EFER_LMA       (UINT64_C(1) << 10)
#define CPU_EFER_NXE       (UINT64_C(1) << 11)

/* Exception vectors (SDM 3A 6.3.1) */
enum cpu_vector {
    CPU_VECTOR_DE = 0,
    CPU_VECTOR_DB = 1,
    CPU_VECTOR_NMI = 2,
    CPU_VECTOR_BP = 3,
    CPU_VECTOR_OF = 4,
    CPU_VECTOR_BR = 5,
    CPU_VECTOR_UD = 6,
    CPU_VECTOR_NM = 7,
    CPU_VECTOR_DF = 8,
    CPU_VECTOR_TS = 10,
    CPU_VECTOR_NP = 11,
    CPU_VECTOR_SS = 12,
    CPU_VECTOR_GP = 13,
    CPU_VECTOR_PF = 14,
    CPU_VECTOR_MF = 16,
    CPU_VECTOR_AC = 17,
    CPU_VECTOR_MC = 18,
    CPU_VECTOR_XM = 19,
};

/*
 * A segment register with its hidden part. attributes: bits 3:0 type, 4 S, 6:5 DPL, 7 P, 12 AVL, 13
 * L, 14 D/B, 15 G, 16 unusable (the layout of SDM 3C 24.4.1 access rights). limit is in bytes,
 * already scaled by G.
 */
struct cpu_segment {
    uint64_t base;
    uint32_t limit;
    uint32_t attributes;
    uint16_t selector;
};

#define CPU_SEGMENT_TYPE     0x000fu
#define CPU_SEGMENT_S        (1u << 4)
#define CPU_SEGMENT_DPL(a)   (((a) >> 5) & 3u)
#define CPU_SEGMENT_P        (1u << 7)
#define CPU_SEGMENT_L        (1u << 13)
#define CPU_SEGMENT_DB       (1u << 14)
#define CPU_SEGMENT_G        (1u << 15)
#define CPU_SEGMENT_UNUSABLE (1u << 16)

struct cpu_table_register {
    uint64_t base;
    uint16_t limit;
};

/* XSAVE area, standard (non-compacted) format: legacy 512 bytes, header 64, AVX at 576 (SDM
 * 1 13.4). */
#define CPU_XSAVE_SIZE       832
#define CPU_XSAVE_AVX_OFFSET 576
#define CPU_XCR0_X87         (UINT64_C(1) << 0)
#define CPU_XCR0_SSE         (UINT64_C(1) << 1)
#define CPU_XCR0_AVX         (UINT64_C(1) << 2)
#define CPU_XCR0_SUPPORTED   (CPU_XCR0_X87 | CPU_XCR0_SSE | CPU_XCR0_AVX)

enum cpu_activity {
    CPU_ACTIVITY_RUNNING,
    CPU_ACTIVITY_HALTED,
    CPU_ACTIVITY_WAIT_FOR_SIPI,
    CPU_ACTIVITY_SHUTDOWN,
};

struct cpu_mtrr {
    uint64_t def_type;
    uint64_t fixed[11]; /* 64K_00000, 16K_80000, 16K_A0000, 4K_C0000..4K_F8000 */
    struct {
        uint64_t base, mask;
    } variable[8];
};

struct cpu_state {
    uint64_t gpr[CPU_NR_GPRS];
    uint64_t rip;
    uint64_t rflags;
    struct cpu_segment segment[CPU_NR_SEGMENTS];
    struct cpu_segment tr, ldtr;
    struct cpu_table_register gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, cr8;
    uint64_t xcr0;
    uint64_t dr[8]; /* DR4, DR5 unused */

    uint64_t efer;
    uint64_t star, lstar, cstar, sfmask;
    uint64_t kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat;
    uint64_t tsc; /* guest TSC value at the moment of the read */
    uint64_t tsc_adjust;
    uint64_t tsc_aux;
    uint64_t misc_enable;
    uint64_t apic_base;
    uint64_t spec_ctrl;
    struct cpu_mtrr mtrr;
    uint64_t kvm_wall_clock_msr;  /* MSR 0x4b564d00: guest-physical address written by the guest */
    uint64_t kvm_system_time_msr; /* MSR 0x4b564d01: address | 1 when enabled */

    enum cpu_activity activity;
    bool interrupt_shadow; /* the instruction after STI or MOV SS */
    bool nmi_pending;
    bool nmi_blocked; /* until IRET */
    bool exception_pending;
    bool exception_has_error;
    uint8_t exception_vector;
    uint32_t exception_error;

    uint8_t xsave[CPU_XSAVE_SIZE] __attribute__((aligned(64)));
};

/* State after RESET (SDM 3A 9.1.1, table 9-1); APs differ by apic_base.BSP and activity only. */
void cpu_state_reset(struct cpu_state *state, unsigned cpu_index);

#endif
