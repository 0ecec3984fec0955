/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blob as a tar stream: decompressed by libarchive, hashed before and behind that, held to the
 * caps. Private to image/.
 */
#ifndef LODGE_IMAGE_UNPACK_STREAM_H
#define LODGE_IMAGE_UNPACK_STREAM_H

#include "image/sha256.h"
#include "image/unpack.h"

#include <archive.h>
#include <archive_entry.h>

#define STREAM_BUFFER (256u << 10)

struct unpack_stream {
    int fd;
    struct archive *raw; /* the filters */
    struct archive *tar; /* reads what comes out of them */
    struct sha256 blob_sha, tar_sha;
    uint64_t blob_bytes, tar_bytes, most_bytes;
    unsigned most_ratio;
    const struct unpack_options *options;
    struct err *err;
    char *buffer;
};

int unpack_stream_open(struct unpack_stream *stream, int fd, const struct unpack_options *options,
                       struct err *err);
/* Reads to the very end, behind the tar's own; then the digests are of the whole. */
int unpack_stream_finish(struct unpack_stream *stream, struct unpack_result *ret);
void unpack_stream_done(struct unpack_stream *stream);
/* The reason of a failure of `tar`; the stream's own goes before libarchive's. */
int unpack_stream_error(struct unpack_stream *stream, const char *what);

#endif
