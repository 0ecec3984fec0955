/* SPDX-License-Identifier: Apache-2.0 */
/* FNV-1a, 64 bits: names for cached files and the like. Not against an adversary. */
#ifndef LODGE_BASE_HASH_H
#define LODGE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_START UINT64_C(0xcbf29ce484222325)

/* `hash` (HASH_START, or what an earlier call returned) with these bytes after it. */
static inline uint64_t hash_bytes(uint64_t hash, const void *data, size_t length)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < length; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

#endif
