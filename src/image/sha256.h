/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4, 6.2): the names of an image's contents. One owner, no locks. */
#ifndef LODGE_IMAGE_SHA256_H
#define LODGE_IMAGE_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32

struct sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
    bool instructions; /* the processor has some for it */
};

void sha256_init(struct sha256 *sha);
void sha256_update(struct sha256 *sha, const void *data, size_t length);
/* The digest of what was added; sha must be initialised again before it is used again. */
void sha256_final(struct sha256 *sha, uint8_t ret[SHA256_BYTES]);

#endif
