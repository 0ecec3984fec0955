/* SPDX-License-Identifier: Apache-2.0 */
/* openat2 with the two rules of this folder. Private to copy/. */
#ifndef LODGE_COPY_BENEATH_H
#define LODGE_COPY_BENEATH_H

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline int copy_openat2(int dir, const char *path, int flags, uint64_t resolve)
{
    struct open_how how = {.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC), .resolve = resolve};
    int fd;

    /* The kernel says EAGAIN when something was renamed meanwhile and it cannot be sure. */
    for (int i = 0; i < 64; i++)
        if ((fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof(how))) >= 0 || errno != EAGAIN)
            return fd < 0 ? -errno : fd;
    return -EAGAIN;
}

/* As if root were "/": links are followed, and stay inside. */
static inline int copy_open_in_root(int root, const char *path, int flags)
{
    return copy_openat2(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

/* Below dir, through no link. */
static inline int copy_open_beneath(int dir, const char *path, int flags)
{
    return copy_openat2(dir, path, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

#endif
