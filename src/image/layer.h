/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writable layer of a VM's root: an ext4 image with a journal in a sparse file, which takes of
 * the disk what the guest has written. Made once; whoever owns the instance removes the file.
 */
#ifndef LODGE_IMAGE_LAYER_H
#define LODGE_IMAGE_LAYER_H

#include "base/err.h"

#include <stdint.h>

/* Makes the file at `path`, if there is none: whole or not at all. Needs mke2fs. One that is there:
 * returns when no machine has it open any more; -EBUSY. */
int layer_prepare(const char *path, uint64_t size_bytes, struct err *err);

#endif
