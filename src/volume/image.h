/* SPDX-License-Identifier: Apache-2.0 */
/* The ext4 image of a volume with a size. Private to volume/. */
#ifndef LODGE_VOLUME_IMAGE_H
#define LODGE_VOLUME_IMAGE_H

#include "base/err.h"

#include <stdint.h>

/* A sparse file dir_fd/name with an empty ext4 in it, by mke2fs. */
int image_make(int dir_fd, const char *name, uint64_t size_bytes, struct err *err);
/* Waits a while until nobody has it any more: a user that was killed is gone before its mounts and
 * its monitor are. */
int image_wait(const char *path, struct err *err);
/* Repairs what an unclean end left; refuses what is no sound file system. */
int image_check(const char *path, struct err *err);
/* Mounts it by a loop device that goes with the mount. */
int image_mount(const char *path, const char *place, struct err *err);

#endif
