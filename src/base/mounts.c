/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Propagation of a whole mount namespace. The kernel changes it from a mount's root only. The root
 * of a chroot is usually a plain directory below one; the mount it lies on cannot be named from
 * inside, but joining one's own mount namespace anew leads to the namespace's root, where it can.
 */
#include "base/mounts.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

static int set_all(unsigned long propagation)
{
    return mount(NULL, "/", NULL, MS_REC | propagation, NULL) < 0 ? -errno : 0;
}

/* Our root, bound over itself, becomes our root; the working directory is found again below it. */
static int make_root_a_mount(int root_fd)
{
    CLEANUP(fd_closep) int tree = -1;

    tree = open_tree(root_fd, "",
                     OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
    if (tree < 0 ||
        move_mount(tree, "", root_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return -errno;
    return fchdir(tree) < 0 || chroot(".") < 0 ? -errno : 0;
}

int mounts_set_propagation(unsigned long propagation)
{
    CLEANUP(fd_closep) int root_fd = -1;
    CLEANUP(fd_closep) int namespace_fd = -1;
    char directory[PATH_MAX];
    int result = set_all(propagation);

    if (result != -EINVAL)
        return result;
    if (!getcwd(directory, sizeof(directory)) || directory[0] != '/')
        return -ENOENT;
    root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    namespace_fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (root_fd < 0 || namespace_fd < 0 || setns(namespace_fd, CLONE_NEWNS) < 0)
        return -errno;
    if ((result = set_all(propagation)) < 0 || (result = make_root_a_mount(root_fd)) < 0)
        return result;
    return chdir(directory) < 0 ? -errno : 0;
}
