/* SPDX-License-Identifier: Apache-2.0 */
/* Small arithmetic that every folder needs. No state. */
#ifndef LODGE_BASE_UTIL_H
#define LODGE_BASE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ARRAY_LEN(a)                  (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))
#define LIKELY(x)                     __builtin_expect(!!(x), 1)
#define UNLIKELY(x)                   __builtin_expect(!!(x), 0)
#define MIN(a, b)                     ((a) < (b) ? (a) : (b))
#define MAX(a, b)                     ((a) > (b) ? (a) : (b))

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* alignment is a power of two */
static inline uint64_t align_down(uint64_t value, uint64_t alignment)
{
    return value & ~(alignment - 1);
}

static inline uint64_t align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

/* Is [start, start + length) inside [0, size)? Never overflows. */
static inline bool range_fits(uint64_t start, uint64_t length, uint64_t size)
{
    return start <= size && length <= size - start;
}

/* Unaligned little-endian access (the host is x86: little-endian). */
#define DEFINE_UNALIGNED(bits)                                       \
    static inline uint##bits##_t load_le##bits(const void *p)        \
    {                                                                \
        uint##bits##_t value;                                        \
                                                                     \
        memcpy(&value, p, sizeof(value));                            \
        return value;                                                \
    }                                                                \
    static inline void store_le##bits(void *p, uint##bits##_t value) \
    {                                                                \
        memcpy(p, &value, sizeof(value));                            \
    }
DEFINE_UNALIGNED(16)
DEFINE_UNALIGNED(32)
DEFINE_UNALIGNED(64)
#undef DEFINE_UNALIGNED

#endif
