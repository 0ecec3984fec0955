/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One function a format. Each ends in one of three ways: the stream's end was reached (0), the
 * output is full before it (-EFBIG), or the data are damaged or end early (-EINVAL).
 */
#include "machine/boot/decompress.h"

#include "base/util.h"

#include <bzlib.h>
#include <errno.h>
#include <limits.h>
#include <lz4.h>
#include <lzma.h>
#include <lzo/lzo1x.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define XZ_MEMORY_MAX (256 * MIB)

#define LZ4_LEGACY_MAGIC 0x184c2102u
#define LZ4_BLOCK_MAX    (8 * MIB)

#define LZOP_FLAG_ADLER32_OUT 0x0001u
#define LZOP_FLAG_ADLER32_IN  0x0002u
#define LZOP_FLAG_EXTRA       0x0040u
#define LZOP_FLAG_CRC32_OUT   0x0100u
#define LZOP_FLAG_CRC32_IN    0x0200u
#define LZOP_FLAG_FILTER      0x0800u
#define LZOP_BLOCK_MAX        (64 * MIB)

static const struct {
    enum compression compression;
    const char *name;
    uint8_t magic[9];
    uint8_t nr_magic;
} formats[] = {
    {COMPRESSION_NONE, "none", {0x7f, 'E', 'L', 'F'}, 4},
    {COMPRESSION_GZIP, "gzip", {0x1f, 0x8b}, 2},
    {COMPRESSION_BZIP2, "bzip2", {'B', 'Z', 'h'}, 3},
    {COMPRESSION_LZMA, "lzma", {0x5d, 0, 0}, 3},
    {COMPRESSION_XZ, "xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6},
    {COMPRESSION_LZO, "lzo", {0x89, 'L', 'Z', 'O', 0, 0x0d, 0x0a, 0x1a, 0x0a}, 9},
    {COMPRESSION_LZ4, "lz4", {0x02, 0x21, 0x4c, 0x18}, 4},
    {COMPRESSION_ZSTD, "zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4},
};

enum compression compression_detect(const uint8_t *data, size_t length)
{
    for (unsigned i = 0; i < ARRAY_LEN(formats); i++)
        if (length >= formats[i].nr_magic && !memcmp(data, formats[i].magic, formats[i].nr_magic))
            return formats[i].compression;
    return COMPRESSION_UNKNOWN;
}

const char *compression_name(enum compression compression)
{
    for (unsigned i = 0; i < ARRAY_LEN(formats); i++)
        if (formats[i].compression == compression)
            return formats[i].name;
    return "unknown";
}

static int damaged(struct err *err)
{
    return err_set(err, -EINVAL, "the compressed data are damaged or incomplete");
}

static int too_large(size_t capacity, struct err *err)
{
    return err_set(err, -EFBIG, "it decompresses to more than %zu MiB", capacity / (size_t)MIB);
}

static int out_of_memory(struct err *err)
{
    return err_set(err, -ENOMEM, "not enough memory to decompress it");
}

static int copy(const uint8_t *in, size_t in_length, uint8_t *out, size_t capacity, size_t *ret,
                struct err *err)
{
    if (in_length > capacity)
        return too_large(capacity, err);
    memcpy(out, in, in_length);
    *ret = in_length;
    return 0;
}

static int gunzip(const uint8_t *in, size_t in_length, uint8_t *out, size_t capacity, size_t *ret,
                  struct err *err)
{
    z_stream z = {0};
    uint8_t spare;
    size_t done = 0;
    int result;

    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
        return out_of_memory(err);
    z.next_in = (Bytef *)(uintptr_t)in;
    do {
        /* zlib counts in unsigned int: feed and drain by pieces. */
        size_t consumed = (size_t)(z.next_in - in), piece = MIN(capacity - done, (size_t)INT_MAX);

        z.avail_in = (uInt)MIN(in_length - consumed, (size_t)INT_MAX);
        z.next_out = piece ? out + done : &spare;
        z.avail_out = piece ? (uInt)piece : 1;
        result = inflate(&z, Z_NO_FLUSH);
        if (piece)
            done += piece - z.avail_out;
        else if (!z.avail_out)
            result = Z_MEM_ERROR; /* a byte too many */
    } while (result == Z_OK);
    inflateEnd(&z);
    if (result == Z_MEM_ERROR)
        return done == capacity ? too_large(capacity, err) : out_of_memory(err);
    if (result != Z_STREAM_END)
        return damaged(err);
    *ret = done;
    return 0;
}

static int bunzip2(const uint8_t *in, size_t in_length, uint8_t *out, size_t capacity, size_t *ret,
                   struct err *err)
{
    unsigned length = (unsigned)MIN(capacity, (size_t)UINT_MAX);
    bz_stream z = {0};
    int result;

    if (in_length > UINT_MAX)
        return damaged(err);
    if (BZ2_bzDecompressInit(&z, 0, 0) != BZ_OK)
        return out_of_memory(err);
    z.next_in = (char *)(uintptr_t)in;
    z.avail_in = (unsigned)in_length;
    z.next_out = (char *)out;
    z.avail_out = length;
    result = BZ2_bzDecompress(&z);
    *ret = length - z.avail_out;
    BZ2_bzDecompressEnd(&z);
    if (result == BZ_STREAM_END)
        return 0;
    if (result == BZ_MEM_ERROR)
        return out_of_memory(err);
    return result == BZ_OK && *ret == length ? too_large(capacity, err) : damaged(err);
}

static int unlzma(enum compression compression, const uint8_t *in, size_t in_length, uint8_t *out,
                  size_t capacity, size_t *ret, struct err *err)
{
    lzma_stream z = LZMA_STREAM_INIT;
    lzma_ret result = compression == COMPRESSION_XZ ? lzma_stream_decoder(&z, XZ_MEMORY_MAX, 0)
                                                    : lzma_alone_decoder(&z, XZ_MEMORY_MAX);

    if (result != LZMA_OK)
        return out_of_memory(err);
    z.next_in = in;
    z.avail_in = in_length;
    z.next_out = out;
    z.avail_out = capacity;
    result = lzma_code(&z, LZMA_RUN);
    *ret = capacity - z.avail_out;
    lzma_end(&z);
    if (result == LZMA_STREAM_END)
        return 0;
    if (result == LZMA_MEM_ERROR || result == LZMA_MEMLIMIT_ERROR)
        return out_of_memory(err);
    return result == LZMA_OK && *ret == capacity ? too_large(capacity, err) : damaged(err);
}

static int unlz4(const uint8_t *in, size_t in_length, uint8_t *out, size_t capacity, size_t *ret,
                 struct err *err)
{
    size_t offset = 4, done = 0;

    /* Blocks of 8 MiB, each with its compressed size; a shorter one is the last. */
    while (in_length - offset >= 4) {
        uint32_t size = load_le32(in + offset);
        size_t room = MIN(capacity - done, (size_t)LZ4_BLOCK_MAX);
        int got;

        if (size == LZ4_LEGACY_MAGIC) { /* a further frame */
            offset += 4;
            continue;
        }
        if (in_length - offset == 4 && done)
            break; /* the appended size */
        if (!size || size > in_length - offset - 4 || size > INT_MAX)
            return damaged(err);
        got = LZ4_decompress_safe((const char *)in + offset + 4, (char *)out + done, (int)size,
                                  (int)room);
        if (got < 0)
            return room < LZ4_BLOCK_MAX ? too_large(capacity, err) : damaged(err);
        offset += 4 + size;
        done += (size_t)got;
        if ((size_t)got < LZ4_BLOCK_MAX)
            break;
    }
    if (!done)
        return damaged(err);
    *ret = done;
    return 0;
}

static int unzstd(const uint8_t *in, size_t in_length, uint8_t *out, size_t capacity, size_t *ret,
                  struct err *err)
{
    size_t frame = ZSTD_findFrameCompressedSize(in, in_length), got;
    unsigned long long size;

    if (ZSTD_isError(frame))
        return damaged(err);
    size = ZSTD_getFrameContentSize(in, frame);
    if (size < ZSTD_CONTENTSIZE_ERROR && size > capacity)
        return too_large(capacity, err);
    got = ZSTD_decompress(out, capacity, in, frame); /* whole to whole: needs no window */
    if (ZSTD_isError(got))
        return ZSTD_getFrameContentSize(in, frame) == ZSTD_CONTENTSIZE_UNKNOWN
                   ? err_set(err, -EINVAL, "the compressed data are damaged or more than %zu MiB",
                             capacity / (size_t)MIB)
                   : damaged(err);
    *ret = got;
    return 0;
}

static uint32_t load_be32(const uint8_t *p)
{
    return __builtin_bswap32(load_le32(p));
}

/* Length of an lzop file header (lzop's own format: magic, versions, method, flags, times, name),
 * or 0. Gives its flags. */
static size_t lzop_header(const uint8_t *in, size_t length, uint32_t *ret_flags)
{
    size_t offset = 9;
    unsigned version;

    if (length < 64)
        return 0;
    version = (unsigned)in[offset] << 8 | in[offset + 1];
    offset += version >= 0x940 ? 6 : 4; /* version, library version, version needed */
    offset += version >= 0x940 ? 2 : 1; /* method, level */
    *ret_flags = load_be32(in + offset);
    offset += 4;
    if (*ret_flags & LZOP_FLAG_FILTER)
        offset += 4;
    offset += version >= 0x940 ? 12 : 8; /* mode, times */
    offset += 1u + in[offset];           /* name */
    if (*ret_flags & LZOP_FLAG_EXTRA || !range_fits(offset, 4, length))
        return 0;
    return offset + 4; /* header checksum */
}

static int unlzo(const uint8_t *in, size_t in_length, uint8_t *out, size_t capacity, size_t *ret,
                 struct err *err)
{
    uint32_t flags = 0;
    size_t offset = lzop_header(in, in_length, &flags), done = 0;
    size_t out_sums = 4u * (!!(flags & LZOP_FLAG_ADLER32_OUT) + !!(flags & LZOP_FLAG_CRC32_OUT));
    size_t in_sums = 4u * (!!(flags & LZOP_FLAG_ADLER32_IN) + !!(flags & LZOP_FLAG_CRC32_IN));

    if (!offset)
        return damaged(err);
    for (;;) {
        uint32_t out_size, in_size;
        lzo_uint got;

        if (!range_fits(offset, 4, in_length))
            return damaged(err);
        if (!(out_size = load_be32(in + offset)))
            break;
        if (!range_fits(offset, 8, in_length))
            return damaged(err);
        in_size = load_be32(in + offset + 4);
        offset += 8 + out_sums + (in_size < out_size ? in_sums : 0);
        if (!in_size || in_size > out_size || out_size > LZOP_BLOCK_MAX ||
            !range_fits(offset, in_size, in_length))
            return damaged(err);
        if (out_size > capacity - done)
            return too_large(capacity, err);
        got = out_size;
        if (in_size == out_size)
            memcpy(out + done, in + offset, in_size);
        else if (lzo1x_decompress_safe(in + offset, in_size, out + done, &got, NULL) != LZO_E_OK ||
                 got != out_size)
            return damaged(err);
        offset += in_size;
        done += out_size;
    }
    *ret = done;
    return 0;
}

int decompress(enum compression compression, const uint8_t *in, size_t in_length, uint8_t *out,
               size_t capacity, size_t *ret_length, struct err *err)
{
    size_t length = 0;
    int result;

    switch (compression) {
    case COMPRESSION_NONE:
        result = copy(in, in_length, out, capacity, &length, err);
        break;
    case COMPRESSION_GZIP:
        result = gunzip(in, in_length, out, capacity, &length, err);
        break;
    case COMPRESSION_BZIP2:
        result = bunzip2(in, in_length, out, capacity, &length, err);
        break;
    case COMPRESSION_LZMA:
    case COMPRESSION_XZ:
        result = unlzma(compression, in, in_length, out, capacity, &length, err);
        break;
    case COMPRESSION_LZO:
        result = unlzo(in, in_length, out, capacity, &length, err);
        break;
    case COMPRESSION_LZ4:
        result = unlz4(in, in_length, out, capacity, &length, err);
        break;
    case COMPRESSION_ZSTD:
        result = unzstd(in, in_length, out, capacity, &length, err);
        break;
    default:
        result = err_set(err, -EINVAL, "unknown compression");
        break;
    }
    if (!result)
        *ret_length = length;
    return result;
}
