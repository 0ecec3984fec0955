/* SPDX-License-Identifier: Apache-2.0 */
/* Headers of tar archives: POSIX.1-2001 "ustar" with pax extended headers, and GNU's long names for
 * reading. Pure but for the callbacks. Private to copy/. */
#ifndef LODGE_COPY_TAR_H
#define LODGE_COPY_TAR_H

#include "copy/copy.h"

#define TAR_BLOCK    512u
#define TAR_SIZE_MAX (UINT64_C(1) << 60)

enum tar_type {
    TAR_FILE = '0',
    TAR_HARD_LINK = '1',
    TAR_SYMLINK = '2',
    TAR_DIRECTORY = '5',
    TAR_OTHER = '?', /* devices, pipes, what we do not know */
};

struct tar_entry {
    enum tar_type type;
    char path[COPY_PATH_MAX], link[COPY_PATH_MAX];
    uint32_t mode, uid, gid;
    uint64_t size;
    int64_t mtime_s;
};

/* The header, and an extended one before it where names or numbers do not fit. */
int tar_header_write(const struct tar_entry *entry, copy_write_fn *write, void *context);
/* Fills up to the block. */
int tar_pad_write(uint64_t size, copy_write_fn *write, void *context);
int tar_end_write(copy_write_fn *write, void *context);

struct tar_reader {
    copy_read_fn *read;
    void *context;
    uint64_t left, pad; /* of the current entry's contents, and what fills its block */
};

/* 1 and the next entry; 0 at the archive's end; -EPROTO, or what read said. What was left of the
 * entry before is passed over. */
int tar_next(struct tar_reader *reader, struct tar_entry *ret);
/* Up to `most` bytes of the entry's contents; 0 at their end. */
ssize_t tar_read(struct tar_reader *reader, void *data, size_t most);
/* Takes in what comes behind the archive's end. */
void tar_drain(struct tar_reader *reader);

#endif
