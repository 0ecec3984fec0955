/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One function for all operand sizes out of the host's own instruction of each size (host_alu.h):
 * compute_NAME(size, a, b, &flags). For handlers that are not hot; those name the size themselves.
 */
#ifndef LODGE_SOFT_INTERP_COMPUTE_H
#define LODGE_SOFT_INTERP_COMPUTE_H

#include "soft/interp/host_alu.h"

/* Each argument list for the function of its size. */
#define COMPUTE_OF_SIZES(name, bytes, words, doublewords, quadwords)                       \
    static uint64_t compute_##name(unsigned size, uint64_t a, uint64_t b, uint64_t *flags) \
    {                                                                                      \
        (void)b;                                                                           \
        switch (size) {                                                                    \
        case 1:                                                                            \
            return host_##name##8 bytes;                                                   \
        case 2:                                                                            \
            return host_##name##16 words;                                                  \
        case 4:                                                                            \
            return host_##name##32 doublewords;                                            \
        default:                                                                           \
            return host_##name##64 quadwords;                                              \
        }                                                                                  \
    }

#define COMPUTE_BINARY(name)                                                                   \
    COMPUTE_OF_SIZES(name, ((uint8_t)a, (uint8_t)b, flags), ((uint16_t)a, (uint16_t)b, flags), \
                     ((uint32_t)a, (uint32_t)b, flags), (a, b, flags))

/* Of one operand: b is not looked at. */
#define COMPUTE_UNARY(name)                                                                 \
    COMPUTE_OF_SIZES(name, ((uint8_t)a, flags), ((uint16_t)a, flags), ((uint32_t)a, flags), \
                     (a, flags))

/* b is a count. */
#define COMPUTE_SHIFT(name)                                                                   \
    COMPUTE_OF_SIZES(name, ((uint8_t)a, (uint8_t)b, flags), ((uint16_t)a, (uint8_t)b, flags), \
                     ((uint32_t)a, (uint8_t)b, flags), (a, (uint8_t)b, flags))

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
