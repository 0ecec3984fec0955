/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/self.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

void self_protect(char **argv)
{
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
    CLEANUP(fd_closep) int fd = -1;
    struct statvfs fs;

    if (getauxval(AT_EUID) != 0 || (statvfs("/proc/self/exe", &fs) == 0 && (fs.f_flag & ST_RDONLY)))
        return;
    fd = open_tree(AT_FDCWD, "/proc/self/exe", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (fd >= 0 && mount_setattr(fd, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) == 0)
        execveat(fd, "", argv, environ, AT_EMPTY_PATH);
}
