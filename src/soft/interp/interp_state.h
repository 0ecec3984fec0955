/* SPDX-License-Identifier: Apache-2.0 */
/* The interpreter's part of a vCPU: its cache of decoded blocks. */
#ifndef LODGE_SOFT_INTERP_STATE_H
#define LODGE_SOFT_INTERP_STATE_H
#include <stdint.h>
struct soft_interp {
    uint64_t placeholder;
};
#endif
