/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mke2fs on a file, and the file mounted through /dev/loopN (loop(4)). Containers write files into
 * the image, never the image itself, so it is as trustworthy as the host's kernel left it; one that
 * was a disk of a virtual machine is made sound by e2fsck first (image_check), which is confined
 * (tool/tool.h).
 */
#include "volume/image.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "tool/tool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#define UNMOUNT_TRIES 200 /* ten seconds */
#define TOOL_LIMIT_S  1800
#define TRIES         16 /* another process may take the free device first */

static int run_mke2fs(int fd, struct err *err)
{
    const char *const argv[] = {"mke2fs",
                                "-q",
                                "-F",
                                "-t",
                                "ext4",
                                "-m",
                                "0",
                                "-E",
                                "lazy_itable_init=1,"
                                "lazy_journal_init=1,nodiscard",
                                tool_file,
                                NULL};
    const struct tool tool = {.argv = argv, .file = fd, .limit_s = TOOL_LIMIT_S};
    char words[200];
    int status = tool_run(&tool, words, sizeof(words), err);

    return status > 0 ? err_set(err, -EIO, "make the volume's file system: %s", words) : status;
}

int image_check(const char *path, struct err *err)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    const char *const argv[] = {"e2fsck", "-f", "-p", tool_file, NULL};
    const struct tool tool = {.argv = argv, .file = fd, .limit_s = TOOL_LIMIT_S};
    char words[200];
    int status;

    if (fd < 0)
        return err_errno(err, -errno, "open '%s'", path);
    status = tool_run(&tool, words, sizeof(words), err);
    /* 1: repaired. */
    return status > 1 ? err_set(err, -EUCLEAN,
                                "its file system is damaged, and e2fsck alone could not mend it: "
                                "look at it with `e2fsck %s`",
                                path)
                      : MIN(status, 0);
}

int image_make(int dir_fd, const char *name, uint64_t size_bytes, struct err *err)
{
    CLEANUP(fd_closep) int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int r;

    if (fd < 0 || ftruncate(fd, (off_t)size_bytes))
        return err_errno(err, -errno, "make the volume's image");
    if ((r = run_mke2fs(fd, err)) < 0)
        return r;
    return fsync(fd) ? err_errno(err, -errno, "write the volume's image") : 0;
}

/* A loop device over the file: its path, and a descriptor that keeps it until it is mounted. */
static int loop_open(int file, char *ret_path, size_t size, struct err *err)
{
    CLEANUP(fd_closep) int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    struct loop_config config = {.fd = (unsigned)file, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};

    if (control < 0)
        return err_errno(err, -errno,
                         "a volume with a size needs loop devices (/dev/loop-control)");
    for (int i = 0; i < TRIES; i++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE), fd;

        if (number < 0)
            break;
        snprintf(ret_path, size, "/dev/loop%d", number);
        fd = open(ret_path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            break;
        if (ioctl(fd, LOOP_CONFIGURE, &config) == 0)
            return fd;
        close(fd);
        if (errno != EBUSY)
            break;
    }
    return err_errno(err, -errno, "get a loop device");
}

/* Is there a loop device over this file? Then somebody has it mounted still. */
static bool is_mounted(const char *path)
{
    CLEANUP(dir_closep) DIR *devices = opendir("/sys/block");
    const struct dirent *entry;
    char name[512], backing[PATH_MAX];

    while (devices && (entry = readdir(devices))) {
        CLEANUP(fd_closep) int fd = -1;
        ssize_t n;

        if (strncmp(entry->d_name, "loop", 4) != 0)
            continue;
        snprintf(name, sizeof(name), "/sys/block/%.255s/loop/backing_file", entry->d_name);
        fd = open(name, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? 0 : read(fd, backing, sizeof(backing) - 1);
        if (n <= 0)
            continue;
        backing[n] = '\0';
        backing[strcspn(backing, "\n")] = '\0';
        if (!strcmp(backing, path))
            return true;
    }
    return false;
}

/* A monitor locks some of the bytes of its disks' images, as long as it lives. */
static bool is_locked(const char *path)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    return fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* Two mounts of one image by two kernels would destroy it. */
int image_wait(const char *path, struct err *err)
{
    struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
    char real[PATH_MAX];

    if (!realpath(path, real))
        return err_errno(err, -errno, "'%s'", path);
    for (unsigned tries = 0; is_mounted(real) || is_locked(real); tries++) {
        if (tries == UNMOUNT_TRIES)
            return err_set(err, -EBUSY, "a guest that has ended still has it mounted");
        nanosleep(&pause, NULL);
    }
    return 0;
}

int image_mount(const char *path, const char *place, struct err *err)
{
    CLEANUP(fd_closep) int file = open(path, O_RDWR | O_CLOEXEC), loop = -1;
    CLEANUP(fd_closep) int root = -1;
    char device[32];

    if (file < 0)
        return err_errno(err, -errno, "open '%s'", path);
    if ((loop = loop_open(file, device, sizeof(device), err)) < 0)
        return loop;
    if (mount(device, place, "ext4", MS_NODEV | MS_NOSUID, NULL))
        return err_errno(err, -errno, "mount '%s' at '%s'", path, place);
    root = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root >= 0 && unlinkat(root, "lost+found", AT_REMOVEDIR) && errno != ENOENT &&
        errno != ENOTEMPTY)
        return err_errno(err, -errno, "prepare '%s'", place);
    return 0;
}
