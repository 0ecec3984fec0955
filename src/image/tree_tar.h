/* SPDX-License-Identifier: Apache-2.0 */
/* Layers out of root file systems. Private to image/. */
#ifndef LODGE_IMAGE_TREE_TAR_H
#define LODGE_IMAGE_TREE_TAR_H

#include "image/layout.h"

/* A blob with the tar of a directory: names in order, so that the same tree gives the same blob;
 * other file systems mounted in it are left out, and sockets. */
int tree_tar(const struct layout *layout, int dir_fd, char ret_digest[DIGEST_MAX],
             uint64_t *ret_bytes, struct err *err);
/* A tar as a blob: as it is, or decompressed where a layer may not be compressed so (xz, bzip2). */
int tar_take(const struct layout *layout, int fd, char ret_digest[DIGEST_MAX], uint64_t *ret_bytes,
             struct err *err);

#endif
