/* SPDX-License-Identifier: Apache-2.0 */
/* Removing trees by descriptor: no symbolic link is followed, no mount is entered. */
#include "image/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* As deep as a path may be; each level holds one descriptor. */
#define DEPTH_MAX 300

static int remove_below(int fd, dev_t device, unsigned depth);

static int remove_one(int dirfd, const char *name, dev_t device, unsigned depth)
{
    CLEANUP(fd_closep) int fd = -1;
    struct stat st;
    int result;

    if (unlinkat(dirfd, name, 0) == 0)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES && fchmodat(dirfd, name, 0700, 0) == 0)
        fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (device && st.st_dev != device)
        return -EXDEV;
    if (!(st.st_mode & S_IWUSR))
        fchmod(fd, 0700);
    if ((result = remove_below(fd, st.st_dev, depth + 1)) < 0)
        return result;
    return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

static int remove_below(int fd, dev_t device, unsigned depth)
{
    CLEANUP(dir_closep) DIR *dir = NULL;
    struct dirent *entry;
    int copy, result = 0;

    if (depth > DEPTH_MAX)
        return -ELOOP;
    copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (copy < 0 || !(dir = fdopendir(copy))) {
        result = -errno;
        if (copy >= 0)
            close(copy);
        return result;
    }
    while (result == 0 && (entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            result = remove_one(fd, entry->d_name, device, depth);
    return result == -ENOENT ? 0 : result;
}

int tree_remove(int dirfd, const char *name)
{
    return remove_one(dirfd, name, 0, 0);
}
