/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/parts.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "guest/init.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define DEVICES   "/sys/bus/platform/devices"
#define DRIVER    "/sys/bus/platform/drivers/virtio-mmio"
#define WINDOW    "LNRO0005:" /* the ACPI identity of a window, as the kernel names its device */
#define BY_ID     "/dev/disk/by-id"
#define FIRST_PID "/proc/1/fd/%d"
#define WAIT_NS   (10 * NS_PER_S) /* for a driver that was given a device */

/* The first process's descriptor, which this one does not hold itself. */
static int modules = -1;

void parts_keep_modules(int dirfd)
{
    modules = dirfd;
}

static int load_modules(struct err *err)
{
    CLEANUP(fd_closep) int dirfd = -1;
    char path[32];

    if (modules < 0)
        return 0;
    snprintf(path, sizeof(path), FIRST_PID, modules);
    if ((dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return err_errno(err, -errno, "open the kernel's modules");
    return init_load_later(dirfd, err);
}

/* Has the driver look at every window that it does not have. An empty one it refuses. */
static int look_again(struct err *err)
{
    CLEANUP(dir_closep) DIR *dir = opendir(DEVICES);
    const struct dirent *entry;

    if (!dir)
        return err_errno(err, -errno, "read '%s'", DEVICES);
    while ((entry = readdir(dir))) {
        char path[PATH_MAX];

        snprintf(path, sizeof(path), DEVICES "/%s/driver", entry->d_name);
        if (!strncmp(entry->d_name, WINDOW, strlen(WINDOW)) && access(path, F_OK) < 0)
            file_write_string(AT_FDCWD, DRIVER "/bind", entry->d_name);
    }
    return 0;
}

/* Members of a class (a directory of sysfs), each known by what a file of it says. */
struct kind {
    const char *what, *class, *name;
};

static const struct kind net_kind = {"network interface", "/sys/class/net", "address"};
static const struct kind disk_kind = {"disk", "/sys/block", "serial"};

static int read_text(const struct kind *kind, const char *member, char *ret, size_t size)
{
    CLEANUP(fd_closep) int fd = -1;
    char path[PATH_MAX];
    ssize_t length;

    snprintf(path, sizeof(path), "%s/%s/%s", kind->class, member, kind->name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (length = file_read_full(fd, ret, size - 1)) <= 0)
        return -ENOENT;
    ret[length] = '\0';
    ret[strcspn(ret, "\n")] = '\0';
    return *ret ? 0 : -ENOENT;
}

static int find(const struct kind *kind, const char *value, char ret[NAME_MAX + 1])
{
    CLEANUP(dir_closep) DIR *dir = opendir(kind->class);
    const struct dirent *entry;
    char text[64];

    while (dir && (entry = readdir(dir)))
        if (read_text(kind, entry->d_name, text, sizeof(text)) == 0 && !strcasecmp(text, value)) {
            snprintf(ret, NAME_MAX + 1, "%s", entry->d_name);
            return 0;
        }
    return -ENOENT;
}

static int wait_for(const struct kind *kind, const char *value, char ret[NAME_MAX + 1],
                    struct err *err)
{
    uint64_t deadline_ns = clock_monotonic_ns() + WAIT_NS;
    struct timespec pause = {.tv_nsec = 2 * NS_PER_MS};
    int result;

    while (find(kind, value, ret) < 0) {
        if ((result = look_again(err)) < 0)
            return result;
        if (find(kind, value, ret) == 0)
            return 0;
        if (clock_monotonic_ns() > deadline_ns)
            return err_set(err, -ENODEV, "the guest's kernel does not see the %s '%s'", kind->what,
                           value);
        nanosleep(&pause, NULL);
    }
    return 0;
}

/* Takes the driver off the window that the member of the class is in. */
static int leave(const struct kind *kind, const char *member, struct err *err)
{
    char path[PATH_MAX], place[PATH_MAX], *name;
    int result;

    snprintf(path, sizeof(path), "%s/%s/device/..", kind->class, member);
    if (!realpath(path, place) || !(name = strrchr(place, '/')))
        return err_errno(err, -errno, "find the place of '%s'", member);
    if (strncmp(++name, WINDOW, strlen(WINDOW)) != 0)
        return err_set(err, -EOPNOTSUPP, "'%s' is no part that can go while the guest runs",
                       member);
    if ((result = file_write_string(AT_FDCWD, DRIVER "/unbind", name)) < 0)
        return err_errno(err, result, "take the driver off '%s'", member);
    return 0;
}

static int write_resolv_conf(const char *gateway, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    char text[96];
    int result;

    snprintf(text, sizeof(text), "nameserver %s\noptions ndots:0\n", gateway);
    mkdir("/etc", 0755);
    unlink("/etc/resolv.conf");
    fd = open("/etc/resolv.conf", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || (result = file_write_full(fd, text, strlen(text))) < 0)
        return err_errno(err, fd < 0 ? -errno : result, "write /etc/resolv.conf");
    return 0;
}

int parts_attach_net(const char *mac, const char *text4, const char *text6, struct err *err)
{
    const char *gateway = strchr(text4, ',');
    char name[NAME_MAX + 1];
    int result;

    if ((result = load_modules(err)) < 0 || (result = wait_for(&net_kind, mac, name, err)) < 0 ||
        (result = init_interface_up(name, text4, err)) < 0 ||
        (text6 && (result = init_interface6_up(name, text6, err)) < 0))
        return result;
    return gateway ? write_resolv_conf(gateway + 1, err) : 0;
}

int parts_detach_net(const char *mac, struct err *err)
{
    char name[NAME_MAX + 1];

    if (find(&net_kind, mac, name) < 0)
        return 0;
    return leave(&net_kind, name, err);
}

/* As udev would: a name that stays the same whatever else the machine has. */
static void link_disk(const char *serial, const char *name)
{
    char link[128], target[NAME_MAX + 8];

    mkdir("/dev/disk", 0755);
    mkdir(BY_ID, 0755);
    snprintf(link, sizeof(link), BY_ID "/virtio-%s", serial);
    unlink(link);
    snprintf(target, sizeof(target), "../../%s", name);
    (void)!symlink(target, link);
}

void parts_link_disks(void)
{
    CLEANUP(dir_closep) DIR *dir = opendir(disk_kind.class);
    const struct dirent *entry;
    char serial[64];

    while (dir && (entry = readdir(dir)))
        if (read_text(&disk_kind, entry->d_name, serial, sizeof(serial)) == 0)
            link_disk(serial, entry->d_name);
}

int parts_attach_disk(const char *serial, char ret[PARTS_DISK_MAX], struct err *err)
{
    char name[NAME_MAX + 1];
    int result = wait_for(&disk_kind, serial, name, err);

    if (result < 0)
        return result;
    link_disk(serial, name);
    snprintf(ret, PARTS_DISK_MAX, "/dev/%.24s", name);
    return 0;
}

/* The first place where a disk, or a part of it, is mounted; "" when it is at none. */
static void mounted_at(const char *name, char *ret, size_t size)
{
    CLEANUP(buf_donep) struct buf text;
    char *line, *rest, place[256], source[64], device[32];

    *ret = '\0';
    buf_init(&text, 1 << 20);
    if (file_load(AT_FDCWD, "/proc/mounts", &text, NULL) < 0 || !(line = buf_string(&text)))
        return;
    snprintf(device, sizeof(device), "/dev/%.24s", name);
    for (line = strtok_r(line, "\n", &rest); line && !*ret; line = strtok_r(NULL, "\n", &rest))
        if (sscanf(line, "%63s %255s", source, place) == 2 &&
            !strncmp(source, device, strlen(device)))
            snprintf(ret, size, " at '%.200s'", place);
}

/* Who opens a disk exclusively is refused while it is mounted, or a part of it, or swapped to. */
static int check_unused(const char *name, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    char path[64], place[256];

    snprintf(path, sizeof(path), "/dev/%.24s", name);
    if ((fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC)) >= 0) {
        fsync(fd);
        return 0;
    }
    if (errno != EBUSY)
        return err_errno(err, -errno, "open '%s'", path);
    mounted_at(name, place, sizeof(place));
    return err_set(err, -EBUSY, "'%s' is in use there%s", path, place);
}

int parts_detach_disk(const char *serial, bool force, struct err *err)
{
    char name[NAME_MAX + 1], link[128];
    int result;

    if (find(&disk_kind, serial, name) < 0)
        return 0;
    if (!force && (result = check_unused(name, err)) < 0)
        return result;
    if ((result = leave(&disk_kind, name, err)) < 0)
        return result;
    snprintf(link, sizeof(link), BY_ID "/virtio-%s", serial);
    unlink(link);
    return 0;
}
