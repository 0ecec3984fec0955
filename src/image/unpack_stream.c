/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two readers of libarchive in a row: the first knows filters only, so that what leaves it is the
 * tar itself, whose digest an image's configuration names; the second knows tar only.
 */
#include "image/unpack_stream.h"

#include "base/file.h"
#include "base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static la_ssize_t read_blob(struct archive *raw, void *context, const void **ret)
{
    struct unpack_stream *stream = context;
    ssize_t n = file_read_full(stream->fd, stream->buffer, STREAM_BUFFER);

    if (n < 0) {
        archive_set_error(raw, (int)-n, "%s", strerror((int)-n));
        return -1;
    }
    sha256_update(&stream->blob_sha, stream->buffer, (size_t)n);
    stream->blob_bytes += (uint64_t)n;
    if (stream->options->progress)
        stream->options->progress(stream->options->context, stream->blob_bytes);
    *ret = stream->buffer;
    return n;
}

static int check_caps(struct unpack_stream *stream)
{
    /* Headers and padding come on top of the files; a tar is never this much more than its files.
     */
    if (stream->tar_bytes > stream->most_bytes + stream->most_bytes / 2 + MIB)
        return err_set(stream->err, -E2BIG,
                       "the layer is larger than %llu MiB unpacked, the most that is taken",
                       (unsigned long long)(stream->most_bytes / MIB));
    if (stream->tar_bytes > UNPACK_RATIO_FROM &&
        stream->tar_bytes / stream->most_ratio > stream->blob_bytes)
        return err_set(stream->err, -E2BIG,
                       "the layer unpacks to more than %u times its size (%llu MiB out of %llu "
                       "KiB): taken for an attack",
                       stream->most_ratio, (unsigned long long)(stream->tar_bytes / MIB),
                       (unsigned long long)(stream->blob_bytes / KIB));
    return 0;
}

static int raw_error(struct unpack_stream *stream)
{
    const char *text = archive_error_string(stream->raw);

    return err_set(stream->err, -EBADMSG, "the layer is damaged or cut off: %s",
                   text ? text : "cannot be decompressed");
}

/* The next piece of the tar: its length, 0 at the end. */
static ssize_t next_piece(struct unpack_stream *stream, const void **ret)
{
    size_t length = 0;
    la_int64_t offset;
    int result;

    do
        result = archive_read_data_block(stream->raw, ret, &length, &offset);
    while (result == ARCHIVE_RETRY || (result == ARCHIVE_OK && length == 0));
    if (result == ARCHIVE_EOF)
        return 0;
    if (result != ARCHIVE_OK)
        return raw_error(stream);
    sha256_update(&stream->tar_sha, *ret, length);
    stream->tar_bytes += length;
    result = check_caps(stream);
    return result < 0 ? result : (ssize_t)length;
}

static la_ssize_t read_tar(struct archive *tar, void *context, const void **ret)
{
    struct unpack_stream *stream = context;
    ssize_t n = next_piece(stream, ret);

    if (n < 0)
        archive_set_error(tar, (int)-n, "%s", stream->err ? stream->err->message : "failed");
    return n < 0 ? -1 : n;
}

static int open_raw(struct unpack_stream *stream)
{
    struct archive_entry *entry;
    int result;

    archive_read_support_filter_gzip(stream->raw);
    archive_read_support_filter_zstd(stream->raw);
    archive_read_support_format_raw(stream->raw);
    archive_read_support_format_empty(stream->raw);
    if (archive_read_open(stream->raw, stream, NULL, read_blob, NULL) != ARCHIVE_OK)
        return raw_error(stream);
    result = archive_read_next_header(stream->raw, &entry);
    return result == ARCHIVE_OK || result == ARCHIVE_EOF ? 0 : raw_error(stream);
}

int unpack_stream_open(struct unpack_stream *stream, int fd, const struct unpack_options *options,
                       struct err *err)
{
    int result;

    memset(stream, 0, sizeof(*stream));
    stream->fd = fd;
    stream->options = options;
    stream->err = err;
    stream->most_bytes = options->most_bytes ? options->most_bytes : UNPACK_BYTES;
    stream->most_ratio = options->most_ratio ? options->most_ratio : UNPACK_RATIO;
    sha256_init(&stream->blob_sha);
    sha256_init(&stream->tar_sha);
    stream->buffer = malloc(STREAM_BUFFER);
    stream->raw = archive_read_new();
    stream->tar = archive_read_new();
    if (!stream->buffer || !stream->raw || !stream->tar)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = open_raw(stream)) < 0)
        return result;
    archive_read_support_format_tar(stream->tar);
    archive_read_support_format_empty(stream->tar);
    if (archive_read_open(stream->tar, stream, NULL, read_tar, NULL) != ARCHIVE_OK)
        return unpack_stream_error(stream, "open the layer");
    return 0;
}

int unpack_stream_error(struct unpack_stream *stream, const char *what)
{
    const char *text = archive_error_string(stream->tar);

    if (stream->err && stream->err->code < 0)
        return stream->err->code;
    return err_set(stream->err, -EBADMSG, "%s: %s", what,
                   text ? text : "the layer is no tar archive");
}

int unpack_stream_finish(struct unpack_stream *stream, struct unpack_result *ret)
{
    uint8_t hash[SHA256_BYTES];
    const void *ignored;
    ssize_t n;

    while ((n = next_piece(stream, &ignored)) > 0)
        continue;
    /* What a filter leaves unread is part of the blob all the same. */
    while (n == 0 && (n = read_blob(stream->raw, stream, &ignored)) > 0)
        n = 0;
    if (n < 0)
        return stream->err && stream->err->code < 0 ? stream->err->code : raw_error(stream);
    sha256_final(&stream->blob_sha, hash);
    digest_format(hash, ret->digest);
    sha256_final(&stream->tar_sha, hash);
    digest_format(hash, ret->diff_id);
    ret->blob_bytes = stream->blob_bytes;
    ret->tar_bytes = stream->tar_bytes;
    return 0;
}

void unpack_stream_done(struct unpack_stream *stream)
{
    if (stream->tar)
        archive_read_free(stream->tar);
    if (stream->raw)
        archive_read_free(stream->raw);
    free(stream->buffer);
}
