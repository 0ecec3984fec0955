/* SPDX-License-Identifier: Apache-2.0 */
/* mke2fs under a temporary name, which a killed run leaves to be overwritten by the next. */
#include "image/layer.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define FREE_LIMIT_NS (15 * NS_PER_S)

/* Nothing that the guest's first mount would have to write: tables are zeros in a sparse file. */
static int run_mke2fs(const char *path, struct err *err)
{
    static char *const env[] = {(char *)(uintptr_t) "PATH=/usr/sbin:/sbin:/usr/bin:/bin",
                                (char *)(uintptr_t) "MKE2FS_CONFIG=/dev/null",
                                (char *)(uintptr_t) "LC_ALL=C", NULL};
    const char *argv[] = {"mke2fs",
                          "-q",
                          "-F",
                          "-b",
                          "4096",
                          "-I",
                          "256",
                          "-i",
                          "16384",
                          "-m",
                          "0",
                          "-J",
                          "size=16",
                          "-O",
                          "none,has_journal,extents,filetype,dir_index,sparse_super,large_file,"
                          "huge_file,uninit_bg,flex_bg,extra_isize,ext_attr,dir_nlink",
                          "-E",
                          "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
                          path,
                          NULL};
    posix_spawn_file_actions_t actions;
    int result, status;
    pid_t pid;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    result = -posix_spawnp(&pid, "mke2fs", &actions, NULL, (char *const *)(uintptr_t)argv, env);
    posix_spawn_file_actions_destroy(&actions);
    if (result < 0)
        return err_errno(err, result, "start mke2fs (install e2fsprogs)");
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return err_errno(err, -errno, "wait for mke2fs");
    return WIFEXITED(status) && WEXITSTATUS(status) == 0
               ? 0
               : err_set(err, -EIO, "mke2fs could not make '%s'", path);
}

/* A monitor that was killed a moment ago holds its lock (that of block/) until the kernel has taken
 * it apart, which takes a while with its memory. */
static int await_free(const char *path, struct err *err)
{
    uint64_t deadline_ns = clock_monotonic_ns() + FREE_LIMIT_NS;
    CLEANUP(fd_closep) int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fd < 0)
        return err_errno(err, -errno, "open '%s'", path);
    while (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        if (clock_monotonic_ns() >= deadline_ns)
            return err_set(err, -EBUSY, "'%s' is in use by another machine", path);
        usleep(5000);
    }
    return 0;
}

int layer_prepare(const char *path, uint64_t size_bytes, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    char temporary[PATH_MAX];
    int result;

    if (access(path, F_OK) == 0)
        return await_free(path, err);
    if (snprintf(temporary, sizeof(temporary), "%s.new", path) >= (int)sizeof(temporary))
        return err_errno(err, -ENAMETOOLONG, "'%s'", path);
    fd = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)size_bytes) < 0)
        return err_errno(err, -errno, "make '%s'", temporary);
    if ((result = run_mke2fs(temporary, err)) < 0) {
        unlink(temporary);
        return result;
    }
    if (fsync(fd) < 0 || rename(temporary, path) < 0)
        return err_errno(err, -errno, "make '%s'", path);
    return 0;
}
