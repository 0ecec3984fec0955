/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/self.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* An execution by descriptor has this for a name. */
#define BY_DESCRIPTOR "/dev/fd/"

bool self_is_protected;

void self_protect(char **argv)
{
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
    CLEANUP(fd_closep) int fd = -1;
    struct statvfs fs;

    if (getauxval(AT_EUID) != 0)
        return;
    if (self_is_protected || (statvfs("/proc/self/exe", &fs) == 0 && (fs.f_flag & ST_RDONLY))) {
        int held = self_mount();

        if (held >= 0)
            fcntl(held, F_SETFD, FD_CLOEXEC);
        return;
    }
    fd = open_tree(AT_FDCWD, "/proc/self/exe", OPEN_TREE_CLONE);
    if (fd >= 0 && mount_setattr(fd, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) == 0)
        execveat(fd, "", argv, environ, AT_EMPTY_PATH);
}

int self_mount(void)
{
    const char *name = (const char *)getauxval(AT_EXECFN);

    if (getauxval(AT_EUID) != 0 || !name ||
        strncmp(name, BY_DESCRIPTOR, strlen(BY_DESCRIPTOR)) != 0)
        return -1;
    return (int)strtol(name + strlen(BY_DESCRIPTOR), NULL, 10);
}
