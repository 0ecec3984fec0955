/* SPDX-License-Identifier: Apache-2.0 */
/* The software MMU's part of a vCPU. */
#ifndef LODGE_SOFT_MMU_STATE_H
#define LODGE_SOFT_MMU_STATE_H
#include <stdint.h>
struct soft_mmu {
    uint64_t placeholder;
};
#endif
