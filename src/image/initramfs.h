/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The initial root file system of a guest: lodge-init and the modules it has to load, as an
 * uncompressed cpio archive ("newc"): the guest is not to spend time on decompression.
 */
#ifndef LODGE_IMAGE_INITRAMFS_H
#define LODGE_IMAGE_INITRAMFS_H

#include "base/buf.h"
#include "image/store.h"

/* Appends one entry. mode has the file type; for a device, rdev is its number; data may be NULL. */
int cpio_append(struct buf *archive, const char *name, unsigned mode, unsigned rdev,
                const void *data, size_t length);
/* Closes the archive. */
int cpio_finish(struct buf *archive);

/*
 * The archive for this kernel and this lodge-init, with extra modules (NULL-terminated, or NULL)
 * beyond those that every guest needs; with INITRAMFS_LATER before its name, one that is only
 * loaded when something comes that needs it. The archive is kept beside the kernel when that
 * directory can be written, otherwise made in fallback_dir. ret_path names it.
 */
#define INITRAMFS_LATER '+'
int initramfs_prepare(const struct kernel *kernel, const char *init_path, const char *const *extra,
                      const char *fallback_dir, char ret_path[PATH_MAX], struct err *err);

#endif
