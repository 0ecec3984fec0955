/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/copy_up.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#define DEPTH_MAX 128

static int copy_file(int from_dir, int to_dir, const char *name)
{
    CLEANUP(fd_closep)
    int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    CLEANUP(fd_closep) int to = -1;
    struct stat st;
    ssize_t n;

    /* What was a regular file a moment ago may be something else by now. */
    if (from < 0 || fstat(from, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return 0;
    to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0)
        return -errno;
    while ((n = sendfile(to, from, NULL, 1 << 20)) > 0)
        ;
    if (n < 0 || fchown(to, st.st_uid, st.st_gid) < 0 || fchmod(to, st.st_mode & 07777) < 0)
        return -errno;
    return 0;
}

static int copy_link(int from_dir, int to_dir, const char *name, const struct stat *st)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(from_dir, name, target, sizeof(target) - 1);

    if (n < 0)
        return -errno;
    target[n] = '\0';
    if (symlinkat(target, to_dir, name) < 0 ||
        fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    return 0;
}

static int copy_tree(int from_dir, int to_dir, unsigned depth);

static int copy_directory(int from_dir, int to_dir, const char *name, unsigned depth)
{
    CLEANUP(fd_closep)
    int from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    CLEANUP(fd_closep) int to = -1;
    struct stat st;
    int result;

    if (from < 0 || fstat(from, &st) < 0 || mkdirat(to_dir, name, 0700) < 0)
        return -errno;
    to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (to < 0)
        return -errno;
    if ((result = copy_tree(from, to, depth + 1)) < 0)
        return result;
    if (fchown(to, st.st_uid, st.st_gid) < 0 || fchmod(to, st.st_mode & 07777) < 0)
        return -errno;
    return 0;
}

static int copy_tree(int from_dir, int to_dir, unsigned depth)
{
    CLEANUP(fd_closep) int copy = openat(from_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(dir_closep) DIR *dir = NULL;
    struct dirent *entry;
    int result = 0;

    if (depth > DEPTH_MAX)
        return -ELOOP;
    if (copy < 0 || !(dir = fdopendir(copy)))
        return -errno;
    (void)TAKE_FD(copy);
    while (result == 0 && (result = file_next_entry(dir, &entry)) > 0) {
        const char *name = entry->d_name;
        struct stat st;

        result = 0;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        if (fstatat(from_dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return -errno;
        if (S_ISDIR(st.st_mode))
            result = copy_directory(from_dir, to_dir, name, depth);
        else if (S_ISREG(st.st_mode))
            result = copy_file(from_dir, to_dir, name);
        else if (S_ISLNK(st.st_mode))
            result = copy_link(from_dir, to_dir, name, &st);
    }
    return result;
}

int copy_up(int from_fd, int to_fd)
{
    return copy_tree(from_fd, to_fd, 0);
}
