/* SPDX-License-Identifier: Apache-2.0 */
/* A mount namespace with a root that has the image, the tree, programs and libraries. */
#include "tool/internal.h"

#include "base/userns.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROOT "/tmp" /* where it is put together, in a namespace in which nobody else looks */

const char *const tool_hosts[] = {"/usr",   "/bin",   "/sbin", "/lib",
                                  "/lib32", "/lib64", "/nix",  NULL};

static bool namespaces(const struct tool *tool)
{
    if (geteuid() == 0)
        return unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) == 0;
    /* Of other owners nobody would be left. */
    return (!tool->tree || tool->tree_is_ours) &&
           userns_unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC);
}

static int copy_of(int dir, const char *path, unsigned flags)
{
    return (int)syscall(SYS_open_tree, dir, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);
}

/* A mount of another namespace than this one cannot be copied: by its name, if that is it still. */
static int copy_of_file(int file)
{
    char link[32], path[PATH_MAX];
    struct stat st, there;
    ssize_t n;
    int fd;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
    n = readlink(link, path, sizeof(path) - 1);
    path[n > 0 ? n : 0] = '\0';
    if (n <= 0 || (fd = copy_of(AT_FDCWD, path, 0)) < 0)
        return -1;
    if (fstat(file, &st) == 0 && fstat(fd, &there) == 0 && st.st_dev == there.st_dev &&
        st.st_ino == there.st_ino)
        return fd;
    close(fd);
    return -1;
}

static bool put(int mount_fd, const char *place, bool read_only)
{
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                                                (read_only ? MOUNT_ATTR_RDONLY : 0)};

    return mount_fd >= 0 &&
           syscall(SYS_mount_setattr, mount_fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes,
                   sizeof(attributes)) == 0 &&
           syscall(SYS_move_mount, mount_fd, "", AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH) == 0;
}

/* In the new root, which is the working directory: one of the host's own directories, or the link
 * that takes its place. One that is not there is not needed. */
static void put_host(const char *path)
{
    const char *name = path + 1;
    char target[256];
    ssize_t n;
    int fd;

    n = readlink(path, target, sizeof(target) - 1);
    if (n > 0) {
        target[n] = '\0';
        if (symlink(target, name) < 0)
            errno = 0;
        return;
    }
    if ((fd = copy_of(AT_FDCWD, path, AT_RECURSIVE)) < 0)
        return;
    if (mkdir(name, 0755) == 0)
        put(fd, name, true);
    close(fd);
}

static bool make_file(const char *name)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    return fd >= 0 && close(fd) == 0;
}

/* A device node of its own works only where devices may be: the host's, bound. */
static void put_null(void)
{
    int fd = copy_of(AT_FDCWD, "/dev/null", 0);

    if (fd < 0)
        return;
    if (mkdir("dev", 0755) == 0 && make_file("dev/null") &&
        syscall(SYS_move_mount, fd, "", AT_FDCWD, "dev/null", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        errno = 0;
    close(fd);
}

static bool fill(int file, int tree)
{
    int cache = copy_of(AT_FDCWD, "/etc/ld.so.cache", 0);

    for (size_t i = 0; tool_hosts[i]; i++)
        put_host(tool_hosts[i]);
    put_null();
    if (mkdir("etc", 0755) == 0 && cache >= 0 && make_file("etc/ld.so.cache"))
        put(cache, "etc/ld.so.cache", true);
    make_file("etc/mtab"); /* nothing is mounted */
    if (cache >= 0)
        close(cache);
    if (tree >= 0 &&
        (mkdir(&TOOL_TREE_PLACE[1], 0755) < 0 || !put(tree, &TOOL_TREE_PLACE[1], true)))
        return false;
    return make_file(&TOOL_FILE_PLACE[1]) && put(file, &TOOL_FILE_PLACE[1], false);
}

static bool change_root(void)
{
    struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};

    return syscall(SYS_pivot_root, ".", ".") == 0 && umount2(".", MNT_DETACH) == 0 &&
           chdir("/") == 0 &&
           syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, &read_only, sizeof(read_only)) == 0;
}

bool tool_root_enter(const struct tool *tool)
{
    int file, tree = -1;

    if (!namespaces(tool) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        return false;
    /* Before anything lies over them. */
    file = copy_of_file(tool->file);
    if (tool->tree)
        tree = copy_of(AT_FDCWD, tool->tree, AT_RECURSIVE);
    if (file < 0 || (tool->tree && tree < 0) ||
        mount("none", ROOT, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=755"))
        return false;
    if (chdir(ROOT) < 0 || !fill(file, tree) || !change_root())
        tool_give_up("make a root of its own"); /* half a one is none */
    return true;
}
