/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths inside a container's root, by file descriptor. The root's contents are hostile: a path is
 * resolved by the kernel with openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS), so neither "..",
 * nor an absolute symlink, nor a race leads out of it, and what was resolved is used as a
 * descriptor, never again by name.
 */
#ifndef LODGE_OCI_INROOT_H
#define LODGE_OCI_INROOT_H

#include "base/err.h"

#include <sys/types.h>

/* openat2 below root_fd with `flags` (O_CLOEXEC is added); fd or -errno. */
int inroot_open(int root_fd, const char *path, int flags);
/* The same, and no symlink on the way (-ELOOP): for what the runtime itself relies on. */
int inroot_open_plain(int root_fd, const char *path, int flags);
/* The same, and no other mount either (-EXDEV). */
int inroot_open_here(int root_fd, const char *path, int flags);

/* For who is in the root already: the process's own root, without /proc/self/fd and its like. */
int inroot_open_inside(const char *path, int flags);

/* The directory at path, made (0755) where it is missing, as an O_PATH fd. -errno; -ENOTDIR for
 * what is no directory. */
int inroot_make_directory(int root_fd, const char *path);
/* The same, and no symlink on the way (-ELOOP). */
int inroot_make_directory_plain(int root_fd, const char *path);
/* The file at path, to mount on: an O_PATH fd, or of an empty regular file that is made where
 * nothing is. Parents are made too. */
int inroot_make_file(int root_fd, const char *path);
/* The same; a symlink in its place is refused (-ELOOP). */
int inroot_make_file_plain(int root_fd, const char *path);
/* The directory that path's last component is in (made where missing), and that component (points
 * into path). */
int inroot_make_parent(int root_fd, const char *path, const char **ret_name);

#endif
