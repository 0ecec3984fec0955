/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer's tar (gzip, zstd or plain) into a directory (OCI image specification 1.1, layer.md).
 *
 * The archive is foreign: nothing that it says leads out of the directory. Paths are resolved below
 * its descriptor by the kernel (openat2, RESOLVE_IN_ROOT), ".." is refused, hard links lead to
 * files of the same tree only, and what exists is replaced, never written through. Sizes, counts
 * and the compression ratio are capped while it is read. Extended attributes by which an overlay
 * file system is steered never come from an archive.
 *
 * Two forms of result: for overlayfs (whiteouts become its own: character device 0:0, the opaque
 * attribute), or flat (one layer after the other into one directory; whiteouts remove).
 */
#ifndef LODGE_IMAGE_UNPACK_H
#define LODGE_IMAGE_UNPACK_H

#include "base/err.h"
#include "image/manifest.h"

#include <stdbool.h>
#include <stdint.h>

enum unpack_devices {
    UNPACK_DEVICES_SKIP, /* left out, and counted */
    UNPACK_DEVICES_REFUSE,
    UNPACK_DEVICES_MAKE,
};

struct unpack_options {
    uint64_t most_bytes;   /* unpacked, holes counted; 0: UNPACK_BYTES */
    uint64_t most_entries; /* 0: UNPACK_ENTRIES */
    unsigned most_ratio;   /* tar bytes to blob bytes beyond UNPACK_RATIO_FROM; 0: UNPACK_RATIO */
    enum unpack_devices devices;
    bool flat;
    void (*progress)(void *context, uint64_t blob_bytes); /* NULL: none */
    void *context;
};

#define UNPACK_BYTES      (UINT64_C(64) << 30)
#define UNPACK_ENTRIES    UINT64_C(1000000)
#define UNPACK_RATIO      200u
#define UNPACK_RATIO_FROM (UINT64_C(256) << 20)

struct unpack_result {
    char digest[DIGEST_MAX], diff_id[DIGEST_MAX]; /* of the blob, and of the tar in it */
    uint64_t blob_bytes, tar_bytes, file_bytes, nr_entries, nr_devices_skipped;
};

/* blob_fd is read from its start to its end. What is below root_fd after a failure is undefined.
 * -E2BIG: a cap; -EBADMSG: damaged or cut off; -EPERM: refused. */
int unpack_layer(int blob_fd, int root_fd, const struct unpack_options *options,
                 struct unpack_result *ret, struct err *err);

#endif
