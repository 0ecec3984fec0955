/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x87, MMX, SSE and AVX state of a vCPU, kept as an XSAVE area in standard format (SDM 1 13.4): the
 * register file of the guest is never left in host registers between instructions. Registers that
 * the guest never enabled hold their initial values.
 */
#ifndef LODGE_SOFT_FPU_STATE_H
#define LODGE_SOFT_FPU_STATE_H

#include "cpu/state.h"

#include <stdint.h>

struct soft_fpu {
    uint8_t xsave[CPU_XSAVE_SIZE] __attribute__((aligned(64)));
};

#endif
