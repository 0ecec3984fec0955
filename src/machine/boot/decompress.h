/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decompression of one kernel payload, whole to whole, by the libraries of the formats that Linux
 * uses: gzip, bzip2, lzma, xz, lzo (lzop), lz4 (legacy frames), zstd. Bytes behind the end of the
 * compressed stream (the size that the kernel's build appends) are ignored.
 *
 * The output never grows past `capacity`; decoder memory is bounded (xz, lzma: 256 MiB).
 */
#ifndef LODGE_MACHINE_BOOT_DECOMPRESS_H
#define LODGE_MACHINE_BOOT_DECOMPRESS_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum compression {
    COMPRESSION_UNKNOWN,
    COMPRESSION_NONE, /* an ELF file as it is */
    COMPRESSION_GZIP,
    COMPRESSION_BZIP2,
    COMPRESSION_LZMA,
    COMPRESSION_XZ,
    COMPRESSION_LZO,
    COMPRESSION_LZ4,
    COMPRESSION_ZSTD,
};

enum compression compression_detect(const uint8_t *data, size_t length);
const char *compression_name(enum compression compression);

/* -EFBIG: more than capacity; -EINVAL: damaged; -ENOMEM. The message says what, not which file. */
int decompress(enum compression compression, const uint8_t *in, size_t in_length, uint8_t *out,
               size_t capacity, size_t *ret_length, struct err *err);

#endif
