/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel modules out of the initramfs. The list was put in dependency order when the initramfs was
 * made (src/image/modules.c), so that nothing has to be resolved here: the guest may be a slow one.
 */
#include "guest/init.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "guest/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#define MODULE_DIR   "/modules"
#define MODULE_LATER "later"

static int load(int dirfd, const char *name, struct err *err)
{
    CLEANUP(fd_closep) int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);

    if (fd < 0 && errno == ENOENT) /* loaded, and removed */
        return 0;
    if (fd < 0)
        return err_errno(err, -errno, "open kernel module '%s'", name);
    if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)
        return err_errno(err, -errno, "load kernel module '%s'", name);
    return 0;
}

static int load_list(int dirfd, const char *name, struct err *err)
{
    CLEANUP(buf_donep) struct buf list;
    char *line, *rest;
    int result;

    buf_init(&list, 64 << 10);
    if ((result = file_load(dirfd, name, &list, err)) < 0)
        return result;
    if (!(line = buf_string(&list)))
        return err_set(err, -ENOMEM, "read the list of kernel modules");
    for (line = strtok_r(line, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if ((result = load(dirfd, line, err)) < 0)
            return result;
        /* Its memory is the guest's. */
        unlinkat(dirfd, line, 0);
    }
    return 0;
}

int init_load_modules(struct err *err)
{
    CLEANUP(fd_closep) int dirfd = open(MODULE_DIR, O_DIRECTORY | O_CLOEXEC);
    int result;

    if (dirfd < 0 && errno == ENOENT)
        return 0;
    if (dirfd < 0)
        return err_errno(err, -errno, "open " MODULE_DIR);
    if ((result = load_list(dirfd, "list", err)) < 0)
        return result;
    /* The directory is out of everybody's sight once the image is the root. */
    if (faccessat(dirfd, MODULE_LATER, F_OK, 0) == 0)
        parts_keep_modules(TAKE_FD(dirfd));
    return 0;
}

int init_load_later(int dirfd, struct err *err)
{
    int result;

    if (faccessat(dirfd, MODULE_LATER, F_OK, 0) < 0)
        return 0;
    if ((result = load_list(dirfd, MODULE_LATER, err)) == 0)
        unlinkat(dirfd, MODULE_LATER, 0);
    return result;
}
