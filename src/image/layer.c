/* SPDX-License-Identifier: Apache-2.0 */
/* mke2fs under a temporary name, which a killed run leaves to be overwritten by the next. */
#include "image/layer.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "tool/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define FREE_LIMIT_NS (15 * NS_PER_S)
#define MAKE_LIMIT_S  600

/* Nothing that the guest's first mount would have to write: tables are zeros in a sparse file. */
static int run_mke2fs(int fd, struct err *err)
{
    const char *const argv[] = {
        TOOL_MKE2FS,
        "-i",
        "16384",
        "-J",
        "size=16",
        "-O",
        "none,has_journal,extents,filetype,dir_index,sparse_super,large_file,huge_file,uninit_bg,"
        "flex_bg,extra_isize,ext_attr,dir_nlink",
        "-E",
        "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
        tool_file,
        NULL};
    const struct tool tool = {.argv = argv, .file = fd, .limit_s = MAKE_LIMIT_S};
    char words[200];
    int status = tool_run(&tool, words, sizeof(words), err);

    return status > 0 ? err_set(err, -EIO, "make a virtual machine's writable layer: %s", words)
                      : status;
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
    if ((result = run_mke2fs(fd, err)) < 0) {
        unlink(temporary);
        return result;
    }
    if (fsync(fd) < 0 || rename(temporary, path) < 0)
        return err_errno(err, -errno, "make '%s'", path);
    return 0;
}
