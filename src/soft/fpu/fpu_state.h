/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x87, MMX, SSE and AVX state of a vCPU, kept as an XSAVE area in standard format (SDM 1 13.4): the
 * register file of the guest is never left in host registers between instructions.
 *
 * Invariants:
 *  1. All of the area is valid at any time, whatever the guest enabled: registers that it never
 *     touched hold their initial values. xstate_bv is CPU_XCR0_SUPPORTED, xcomp_bv 0.
 *  2. st[i] is ST(i), relative to the top of stack in fsw, as FXSAVE has it. ftw is the abridged
 *     tag word (1: not empty). FSW.ES and FSW.B always follow from the flags and fcw.
 *  3. fip and fdp hold 64-bit offsets; the selectors, which the 64-bit format has no room for,
 *     stand beside the area.
 *  4. mxcsr has no bit outside FPU_MXCSR_MASK.
 */
#ifndef LODGE_SOFT_FPU_STATE_H
#define LODGE_SOFT_FPU_STATE_H

#include "cpu/state.h"

#include <stdint.h>

#define FPU_MXCSR_MASK    0xffffu
#define FPU_MXCSR_DEFAULT 0x1f80u
#define FPU_FCW_DEFAULT   0x037fu

struct fpu_st {
    uint64_t mantissa; /* also the MMX register */
    uint16_t exponent; /* and sign */
    uint16_t padding[3];
};

struct fpu_area {
    uint16_t fcw, fsw;
    uint8_t ftw, reserved_5;
    uint16_t fop;
    uint64_t fip, fdp;
    uint32_t mxcsr, mxcsr_mask;
    struct fpu_st st[8];
    uint8_t xmm[16][16];
    uint8_t reserved_416[96];
    uint64_t xstate_bv, xcomp_bv;
    uint64_t reserved_528[6];
    uint8_t ymm_high[16][16];
};

_Static_assert(sizeof(struct fpu_area) == CPU_XSAVE_SIZE, "XSAVE area size");

struct fpu_thunks;

struct soft_fpu {
    union {
        uint8_t xsave[CPU_XSAVE_SIZE];
        struct fpu_area area;
    } __attribute__((aligned(64)));
    uint16_t fcs, fds; /* selectors of the last x87 instruction and its operand */
    struct fpu_thunks
        *thunks; /* generated code and its scratch memory; owned (fpu_init, fpu_done) */
};

#endif
