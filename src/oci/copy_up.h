/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tmpcopyup: what a directory of the image holds, copied into the tmpfs that is about to cover it.
 * The source is hostile: nothing is followed, only directories, regular files and symlinks are
 * copied, and the tmpfs's own size is the limit.
 */
#ifndef LODGE_OCI_COPY_UP_H
#define LODGE_OCI_COPY_UP_H

/* -errno; -ELOOP for a tree that is deeper than 128. */
int copy_up(int from_fd, int to_fd);

#endif
