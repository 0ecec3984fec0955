/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File systems: the kernel's own (proc, sysfs, devtmpfs), then the image: read-only from its disk,
 * under an overlay whose writable layer is a tmpfs of capped size or a disk, moved onto "/".
 */
#include "guest/init.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

/* How long a disk may take to appear after its driver was loaded. */
#define ROOT_WAIT_NS (30 * NS_PER_S)

struct mount_point {
    const char *source, *target, *type;
    unsigned long flags;
    const char *options;
    bool optional;
};

static const struct mount_point early[] = {
    {"proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, false},
    {"sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, false},
    {"devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=755", false},
    {"devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666", false},
    {"shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777", false},
    {"cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, true},
};

int init_mount_early(struct err *err)
{
    static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"},
                                           {"/proc/self/fd/0", "/dev/stdin"},
                                           {"/proc/self/fd/1", "/dev/stdout"},
                                           {"/proc/self/fd/2", "/dev/stderr"}};

    for (size_t i = 0; i < ARRAY_LEN(early); i++) {
        const struct mount_point *m = &early[i];

        mkdir(m->target, 0755);
        /* The kernel may have mounted devtmpfs already. */
        if (mount(m->source, m->target, m->type, m->flags, m->options) < 0 && errno != EBUSY &&
            !m->optional)
            return err_errno(err, -errno, "mount %s", m->target);
    }
    for (size_t i = 0; i < ARRAY_LEN(links); i++)
        if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
            return err_errno(err, -errno, "make %s", links[i][1]);
    return 0;
}

int init_disk_open(const char *path, int *ret, struct err *err)
{
    uint64_t deadline_ns = clock_monotonic_ns() + ROOT_WAIT_NS;
    struct timespec pause = {.tv_nsec = 2 * NS_PER_MS};
    int fd;

    while ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
        if (errno != ENOENT && errno != ENXIO)
            return err_errno(err, -errno, "open the disk '%s'", path);
        if (clock_monotonic_ns() > deadline_ns)
            return err_set(err, -ENODEV, "no disk '%s' in this machine", path);
        nanosleep(&pause, NULL);
    }
    *ret = fd;
    return 0;
}

/* The file system on the disk, by its superblock; NULL when it is none that we mount. */
static const char *disk_type(int fd)
{
    uint8_t block[2048];

    if (file_pread_full(fd, block, sizeof(block), 0) != (ssize_t)sizeof(block))
        return NULL;
    if (load_le16(block + 1024 + 56) == 0xef53)
        return "ext4";
    if (load_le32(block + 1024) == 0xe0f5e1e2)
        return "erofs";
    if (!memcmp(block, "hsqs", 4))
        return "squashfs";
    return NULL;
}

static int mount_image(const struct init_params *params, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    const char *type;
    int result;

    if ((result = init_disk_open(params->root, &fd, err)) < 0)
        return result;
    if (!(type = disk_type(fd)))
        return err_set(err, -EINVAL, "'%s' holds no ext4, erofs or squashfs file system",
                       params->root);
    if (mount(params->root, "/lower", type, MS_RDONLY | MS_NOATIME, NULL) < 0)
        return err_errno(err, -errno, "mount '%s' (%s)", params->root, type);
    return 0;
}

static int mount_writable(const struct init_params *params, struct err *err)
{
    char options[64];
    CLEANUP(fd_closep) int fd = -1;
    int result;

    if (params->rw[0] != '/') {
        snprintf(options, sizeof(options), "mode=755,size=%s", params->rw);
        if (mount("overlay", "/writable", "tmpfs", MS_NOATIME, options) < 0)
            return err_errno(err, -errno, "mount a tmpfs (%s) for the writable layer", options);
        return 0;
    }
    if ((result = init_disk_open(params->rw, &fd, err)) < 0)
        return result;
    /* What is deleted is given back to the host; tables are not zeroed, as a sparse file is zeros.
     */
    if (mount(params->rw, "/writable", "ext4", MS_NOATIME, "noinit_itable,discard") < 0)
        return err_errno(err, -errno, "mount '%s' for the writable layer", params->rw);
    return 0;
}

static int mount_overlay(const struct init_params *params, struct err *err)
{
    struct stat lower;
    bool fresh;
    int result = mount_writable(params, err);

    if (result < 0)
        return result;
    fresh = mkdir("/writable/upper", 0755) == 0;
    if ((!fresh && errno != EEXIST) || (mkdir("/writable/work", 0755) < 0 && errno != EEXIST))
        return err_errno(err, -errno, "make the writable layer");
    /* The overlay's root directory takes its owner and mode from the upper layer. */
    if (fresh && stat("/lower", &lower) == 0 &&
        (chown("/writable/upper", lower.st_uid, lower.st_gid) < 0 ||
         chmod("/writable/upper", lower.st_mode & 07777) < 0))
        return err_errno(err, -errno, "make the writable layer");
    if (mount("overlay", "/image", "overlay", 0,
              "lowerdir=/lower,upperdir=/writable/upper,workdir=/writable/work") < 0)
        return err_errno(err, -errno, "mount the overlay");
    return 0;
}

int init_switch_root(const struct init_params *params, struct err *err)
{
    static const char *const moved[] = {"/proc", "/sys", "/dev"};
    char target[32];
    int result;

    mkdir("/lower", 0755);
    mkdir("/writable", 0755);
    mkdir("/image", 0755);
    if ((result = mount_image(params, err)) < 0 || (result = mount_overlay(params, err)) < 0)
        return result;
    for (size_t i = 0; i < ARRAY_LEN(moved); i++) {
        snprintf(target, sizeof(target), "/image%s", moved[i]);
        mkdir(target, 0755);
        if (mount(moved[i], target, NULL, MS_MOVE, NULL) < 0)
            return err_errno(err, -errno, "move %s into the image", moved[i]);
    }
    unlink("/init");
    if (chdir("/image") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
        chdir("/") < 0)
        return err_errno(err, -errno, "make the image the root directory");
    mkdir("/run", 0755);
    if (mount("run", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755") < 0)
        return err_errno(err, -errno, "mount /run");
    if (mkdir("/tmp", 01777) == 0)
        chmod("/tmp", 01777);
    return 0;
}
