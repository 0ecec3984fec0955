/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One function for all operand sizes out of the host's own instruction of each size (host_alu.h):
 * compute_NAME(size, a, b, &flags). For handlers that are not hot; those name the size themselves.
 */
#ifndef LODGE_SOFT_INTERP_COMPUTE_H
#define LODGE_SOFT_INTERP_COMPUTE_H

#include "soft/interp/host_alu.h"

#define COMPUTE_BINARY(name)                                                               \
    static uint64_t compute_##name(unsigned size, uint64_t a, uint64_t b, uint64_t *flags) \
    {                                                                                      \
        switch (size) {                                                                    \
        case 1:                                                                            \
            return host_##name##8((uint8_t)a, (uint8_t)b, flags);                          \
        case 2:                                                                            \
            return host_##name##16((uint16_t)a, (uint16_t)b, flags);                       \
        case 4:                                                                            \
            return host_##name##32((uint32_t)a, (uint32_t)b, flags);                       \
        default:                                                                           \
            return host_##name##64(a, b, flags);                                           \
        }                                                                                  \
    }

/* Of one operand: b is not looked at. */
#define COMPUTE_UNARY(name)                                                                \
    static uint64_t compute_##name(unsigned size, uint64_t a, uint64_t b, uint64_t *flags) \
    {                                                                                      \
        (void)b;                                                                           \
        switch (size) {                                                                    \
        case 1:                                                                            \
            return host_##name##8((uint8_t)a, flags);                                      \
        case 2:                                                                            \
            return host_##name##16((uint16_t)a, flags);                                    \
        case 4:                                                                            \
            return host_##name##32((uint32_t)a, flags);                                    \
        default:                                                                           \
            return host_##name##64(a, flags);                                              \
        }                                                                                  \
    }

/* b is a count. */
#define COMPUTE_SHIFT(name)                                                                \
    static uint64_t compute_##name(unsigned size, uint64_t a, uint64_t b, uint64_t *flags) \
    {                                                                                      \
        switch (size) {                                                                    \
        case 1:                                                                            \
            return host_##name##8((uint8_t)a, (uint8_t)b, flags);                          \
        case 2:                                                                            \
            return host_##name##16((uint16_t)a, (uint8_t)b, flags);                        \
        case 4:                                                                            \
            return host_##name##32((uint32_t)a, (uint8_t)b, flags);                        \
        default:                                                                           \
            return host_##name##64(a, (uint8_t)b, flags);                                  \
        }                                                                                  \
    }

/* For instructions without a byte form. */
#define COMPUTE_WIDE(name)                                                                 \
    static uint64_t compute_##name(unsigned size, uint64_t a, uint64_t b, uint64_t *flags) \
    {                                                                                      \
        switch (size) {                                                                    \
        case 2:                                                                            \
            return host_##name##16((uint16_t)a, (uint16_t)b, flags);                       \
        case 4:                                                                            \
            return host_##name##32((uint32_t)a, (uint32_t)b, flags);                       \
        default:                                                                           \
            return host_##name##64(a, b, flags);                                           \
        }                                                                                  \
    }

#endif
