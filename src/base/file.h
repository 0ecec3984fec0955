/* SPDX-License-Identifier: Apache-2.0 */
/* Whole reads and writes, and whole files. All functions retry EINTR and short transfers. */
#ifndef LODGE_BASE_FILE_H
#define LODGE_BASE_FILE_H

#include "base/buf.h"
#include "base/err.h"

#include <dirent.h>
#include <stddef.h>
#include <sys/types.h>

/* Up to `length` bytes; fewer only at end of file. Returns bytes read or -errno. */
ssize_t file_read_full(int fd, void *data, size_t length);
ssize_t file_pread_full(int fd, void *data, size_t length, off_t offset);
/* All of it, or -errno. */
int file_write_full(int fd, const void *data, size_t length);
int file_pwrite_full(int fd, const void *data, size_t length, off_t offset);

/* Appends the whole file at dirfd/path to `ret`, up to its cap. */
int file_load(int dirfd, const char *path, struct buf *ret, struct err *err);
/* The next entry of a directory: 1; 0 at its end; -errno, which readdir says in the same way as the
 * end. */
int file_next_entry(DIR *dir, struct dirent **ret);
/* Closes descriptors (those below 0 are none), consecutive ones by one call. */
void file_close_all(const int *fds, size_t length);
/* Writes one string to an existing file at dirfd/path (cgroup and proc files): one write(2).
 * -errno. */
int file_write_string(int dirfd, const char *path, const char *string);
/* Replaces dirfd/path atomically (temporary file, fsync, rename). */
int file_replace(int dirfd, const char *path, const void *data, size_t length, mode_t mode,
                 struct err *err);
/* The same without fsync: readers see the old or the new file, and a crash of the host may lose
 * both. For what a restart of the host makes meaningless anyway. */
int file_replace_unsynced(int dirfd, const char *path, const void *data, size_t length, mode_t mode,
                          struct err *err);

/* Opens /dev/null as each of the standard descriptors that is closed: the next file opened would
 * take its place, and be read as input or written to as output. For the start of a program. */
void file_open_standard(void);

#endif
