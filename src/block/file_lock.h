/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and locking an image's file. Private to block/. */
#ifndef LODGE_BLOCK_FILE_LOCK_H
#define LODGE_BLOCK_FILE_LOCK_H

#include "base/err.h"

#include <stdbool.h>

/*
 * A regular file or block device, locked: a writer alone, readers together. The locks are
 * open-file-description locks on single bytes, as QEMU takes them: a byte from 100 on is held for
 * each permission that its owner uses, a byte from 200 on for each that it grants nobody else. So
 * qemu-img refuses what we write to, and reads beside us what we only read. They belong to this
 * open file and go where its descriptor goes; they end with it (also by SIGKILL).
 */
int block_file_open(const char *path, bool read_only, int *ret_fd, struct err *err);
/* The lock alone, of a file that somebody else has opened; path is for messages. -EBUSY. */
int block_file_lock(int fd, const char *path, bool read_only, struct err *err);

#endif
