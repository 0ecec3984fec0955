/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files and trees as a stream of tar (POSIX.1-2001 pax interchange format), out of a root directory
 * and into one, where the tree, the stream or both may be hostile: a guest's.
 *
 * Invariants: 1. nothing outside of `root` is read or written, whatever links there are or come and
 * go meanwhile: the path that the caller names is resolved as if root were "/" (openat2
 * RESOLVE_IN_ROOT), all below it without following any link.  2. only regular files, directories
 * and symbolic links are copied; nothing else is ever opened.  3. a stream's names, sizes and
 * numbers are bounded; memory does not grow with the stream.  4. set-user-id and set-group-id bits
 * and owners are kept only where asked for.
 *
 * Linked into lodge-init as well: no libraries. One copy a call, any thread.
 */
#ifndef LODGE_COPY_COPY_H
#define LODGE_COPY_COPY_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define COPY_PATH_MAX 4096

/* Takes all of it, or says -errno: the copy ends with that. */
typedef int copy_write_fn(const void *data, size_t length, void *context);
/* Up to `most` bytes; 0 at the end; -errno. */
typedef ssize_t copy_read_fn(void *data, size_t most, void *context);

struct copy_sum {
    uint64_t files, bytes; /* entries, and bytes of regular files */
    uint64_t skipped;      /* devices, sockets, pipes; what is below /proc and /sys */
};

/*
 * The file, link or tree at `path`. Its entry is named after the last part of the path; with "/."
 * at the path's end the entries of a directory come without it. -ENOENT, -EACCES, or what write
 * said.
 */
int copy_out(int root, const char *path, copy_write_fn *write, void *context,
             struct copy_sum *ret_sum, struct err *err);

struct copy_in_options {
    bool keep_owner; /* owners as in the stream, and set-id bits; else who copies owns them */
};

/*
 * Into the directory at `path`, or, if there is nothing of that name, as `path` itself, whose
 * directory has to be there. Files and links that are in the way are replaced; a directory is never
 * replaced by something else, nor the other way round (-EEXIST). -EPROTO: this is no tar, or a
 * hostile one (".." in a name). What was copied before a failure stays.
 */
int copy_in(int root, const char *path, const struct copy_in_options *options, copy_read_fn *read,
            void *context, struct copy_sum *ret_sum, struct err *err);

#endif
