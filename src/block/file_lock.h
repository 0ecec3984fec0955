/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and locking an image's file. Private to block/. */
#ifndef LODGE_BLOCK_FILE_LOCK_H
#define LODGE_BLOCK_FILE_LOCK_H

#include "base/err.h"

#include <stdbool.h>

/* A regular file or block device, with an open-file-description lock on all of it: it belongs to
 * this open file, ends with it (also by SIGKILL), and other programs that follow the convention
 * respect it. Exclusive for writers, shared for readers. */
int block_file_open(const char *path, bool read_only, int *ret_fd, struct err *err);

#endif
