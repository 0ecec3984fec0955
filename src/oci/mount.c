/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mount API by descriptor (fsopen, fsmount, open_tree, mount_setattr, move_mount): a mount is
 * made detached, gets its attributes, and is then attached to a directory that was resolved inside
 * the root (inroot.h). No path is looked up twice.
 */
#include "oci/mount.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/mounts.h"
#include "base/util.h"
#include "oci/cgroup.h"
#include "oci/copy_up.h"
#include "oci/inroot.h"
#include "oci/left_open.h"
#include "oci/mount_options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

DEFINE_CLEANUP(strp_free, char *, free);

static int attach(int mount_fd, int target_fd)
{
    return move_mount(mount_fd, "", target_fd, "",
                      MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0
               ? -errno
               : 0;
}

/* "key=value" or "flag" to an fsopen context. */
/* Directories below an overlay. */
#define LOWER_MAX 128

static int configure_option(int context, const char *option)
{
    CLEANUP(strp_free) char *copy = NULL;
    char *equals;

    if (!(copy = strdup(option)))
        return -ENOMEM;
    if (!(equals = strchr(copy, '=')))
        return fsconfig(context, FSCONFIG_SET_FLAG, copy, NULL, 0) < 0 ? -errno : 0;
    *equals = '\0';
    return fsconfig(context, FSCONFIG_SET_STRING, copy, equals + 1, 0) < 0 ? -errno : 0;
}

/* What the file system itself says about a refused option or creation, when it says something. */
static void append_context_log(int context, struct err *err)
{
    char line[256] = "";
    ssize_t n = read(context, line, sizeof(line) - 1);
    size_t used;

    if (n <= 2 || !err)
        return;
    line[strcspn(line, "\n")] = '\0';
    used = strlen(err->message);
    snprintf(err->message + used, sizeof(err->message) - used, " (%s)", line + 2);
}

/* A new superblock of `type`, detached. Returns the mount's fd or -errno with err set. */
static int make_filesystem(const char *type, const char *source, const struct oci_strings *data,
                           bool read_only, uint64_t attributes, struct err *err)
{
    CLEANUP(left_openp) int context = fsopen(type, FSOPEN_CLOEXEC);
    int fd;

    if (context < 0)
        return err_errno(err, -errno, "file system type '%s'", type);
    if (source && fsconfig(context, FSCONFIG_SET_STRING, "source", source, 0) < 0)
        return err_errno(err, -errno, "%s: source '%s'", type, source);
    for (size_t i = 0; data && i < data->length; i++) {
        int result = configure_option(context, data->items[i]);

        if (result < 0) {
            err_errno(err, result, "%s: option '%s'", type, data->items[i]);
            append_context_log(context, err);
            return result;
        }
    }
    if (read_only)
        fsconfig(context, FSCONFIG_SET_FLAG, "ro", NULL, 0);
    if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) {
        int code = -errno;

        err_errno(err, code, "make a %s file system", type);
        append_context_log(context, err);
        return code;
    }
    fd = fsmount(context, FSMOUNT_CLOEXEC, (unsigned)attributes);
    return fd < 0 ? err_errno(err, -errno, "mount a %s file system", type) : fd;
}

/* MS_* flags for MOUNT_ATTR_* ones; false when mount(2) cannot say it. */
static bool flags_of(uint64_t attributes, bool read_only, unsigned long *ret)
{
    static const struct {
        uint64_t attribute;
        unsigned long flag;
    } names[] = {
        {MOUNT_ATTR_NOSUID, MS_NOSUID},   {MOUNT_ATTR_NODEV, MS_NODEV},
        {MOUNT_ATTR_NOEXEC, MS_NOEXEC},   {MOUNT_ATTR_NODIRATIME, MS_NODIRATIME},
        {MOUNT_ATTR_NOATIME, MS_NOATIME}, {MOUNT_ATTR_STRICTATIME, MS_STRICTATIME},
    };
    unsigned long flags = read_only ? MS_RDONLY : 0;

    /* MS_RDONLY is the mount's and the superblock's at once. */
    if ((attributes & MOUNT_ATTR_RDONLY) && !read_only)
        return false;
    attributes &= ~(uint64_t)MOUNT_ATTR_RDONLY;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (attributes & names[i].attribute) {
            flags |= names[i].flag;
            attributes &= ~names[i].attribute;
        }
    *ret = flags;
    return attributes == 0;
}

/* make_filesystem and attach in one call, for what mount(2) can say. A failure is not told: the
 * long way finds and names it. */
static bool mount_at_once(const char *type, const char *source, const struct oci_strings *data,
                          bool read_only, uint64_t attributes, int target)
{
    char text[1024] = "";
    unsigned long flags;
    size_t used = 0;

    if (!flags_of(attributes, read_only, &flags))
        return false;
    for (size_t i = 0; i < data->length; i++) {
        size_t length = strlen(data->items[i]);

        if (strchr(data->items[i], ',') || used + length + 2 > sizeof(text))
            return false;
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", used ? "," : "",
                                 data->items[i]);
    }
    /* From the directory itself: its name in /proc/self/fd takes the kernel longer than the mount.
     */
    return fchdir(target) == 0 && mount(source, ".", type, flags, used ? text : NULL) == 0;
}

static int set_attributes(int fd, uint64_t set, uint64_t clear, bool recursive)
{
    struct mount_attr attributes = {.attr_set = set, .attr_clr = clear};

    if (!set && !clear)
        return 0;
    return mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attributes,
                         sizeof(attributes)) < 0
               ? -errno
               : 0;
}

static int set_propagation(int fd, unsigned long propagation)
{
    struct mount_attr attributes = {.propagation = propagation & ~(unsigned long)MS_REC};

    if (!propagation)
        return 0;
    return mount_setattr(fd, "", AT_EMPTY_PATH | (propagation & MS_REC ? AT_RECURSIVE : 0),
                         &attributes, sizeof(attributes)) < 0
               ? -errno
               : 0;
}

int mount_bind_fd(int source_fd, int root_fd, const char *path, struct err *err)
{
    CLEANUP(left_openp) int target = inroot_make_file_plain(root_fd, path);
    CLEANUP(left_openp) int tree = -1;
    int result;

    if (target < 0)
        return err_errno(err, target, "mount point '%s'", path);
    tree = open_tree(source_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (tree < 0)
        return err_errno(err, -errno, "bind onto '%s'", path);
    if ((result = attach(tree, target)) < 0)
        return err_errno(err, result, "bind onto '%s'", path);
    return 0;
}

static int mount_bind(const struct oci_mount *mount, const struct mount_options *options,
                      int bundle_fd, int root_fd, struct err *err)
{
    CLEANUP(left_openp) int source = -1;
    CLEANUP(left_openp) int target = -1;
    CLEANUP(left_openp) int tree = -1;
    struct stat st;
    int result;

    if (!mount->source)
        return err_set(err, -EINVAL, "mount '%s': a bind needs a source", mount->destination);
    source = mount->tree_fd >= 0 ? fcntl(mount->tree_fd, F_DUPFD_CLOEXEC, 3)
                                 : openat(bundle_fd, mount->source, O_PATH | O_CLOEXEC);
    if (source < 0 || fstat(source, &st) < 0)
        return err_errno(err, -errno, "mount '%s': source '%s'", mount->destination, mount->source);
    target = S_ISDIR(st.st_mode) ? inroot_make_directory(root_fd, mount->destination)
                                 : inroot_make_file(root_fd, mount->destination);
    if (target < 0)
        return err_errno(err, target, "mount '%s': mount point", mount->destination);
    tree = mount->tree_fd >= 0 ? TAKE_FD(source)
                               : open_tree(source, "",
                                           OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH |
                                               (options->recursive ? AT_RECURSIVE : 0u));
    if (tree < 0)
        return err_errno(err, -errno, "mount '%s': bind '%s'", mount->destination, mount->source);
    if ((result = set_attributes(tree, options->attributes_set, options->attributes_clear, false)) <
            0 ||
        (result = set_attributes(tree, options->recursive_set, options->recursive_clear, true)) < 0)
        return err_errno(err, result, "mount '%s': attributes", mount->destination);
    if ((result = attach(tree, target)) < 0)
        return err_errno(err, result, "mount '%s'", mount->destination);
    return 0;
}

/* The container's directory of one version 1 hierarchy, bound below the working directory. Nobody
 * else sees that tmpfs yet, so names in it can be relied on; and they are short: a way through
 * /proc/self/fd takes the kernel longer than the mount. */
static int bind_hierarchy(const char *name, const char *cgroup_path)
{
    char source[PATH_MAX];

    if ((size_t)snprintf(source, sizeof(source), "/sys/fs/cgroup/%s%s%s", name,
                         cgroup_path[0] == '/' ? "" : "/", cgroup_path) >= sizeof(source))
        return -ENAMETOOLONG;
    if (mkdir(name, 0755) < 0)
        return -errno;
    if (mount(source, name, NULL, MS_BIND, NULL) < 0)
        return errno == ENOENT ? 0 : -errno;
    return 0;
}

static int bind_hierarchies(const struct cgroup *own, const char *destination, struct err *err)
{
    for (unsigned i = 0; i < own->nr_hierarchies; i++) {
        const struct cgroup_hierarchy *hierarchy = &own->hierarchies[i];
        int result = 0;

        if (hierarchy->fd >= 0 || hierarchy->unopened)
            result = bind_hierarchy(hierarchy->name, own->path);
        if (result < 0)
            return err_errno(err, result, "mount '%s': hierarchy %s", destination, hierarchy->name);
    }
    return 0;
}

/* Version 1: a tmpfs with one directory a hierarchy, each showing the container's own cgroup as its
 * top. */
static int mount_cgroup_v1(const struct oci_mount *mount, const struct mount_options *options,
                           const struct cgroup *own, int target, struct err *err)
{
    static const char *const tmpfs_data[] = {"mode=755", "size=64k"};
    struct oci_strings data = {(const char **)tmpfs_data, ARRAY_LEN(tmpfs_data)};
    CLEANUP(left_openp) int tmpfs = make_filesystem("tmpfs", "cgroup", &data, false, 0, err);
    int result;

    if (tmpfs < 0)
        return err_wrap(err, "mount '%s'", mount->destination);
    if ((result = attach(tmpfs, target)) < 0)
        return err_errno(err, result, "mount '%s'", mount->destination);
    for (unsigned i = 0; own && i < own->nr_links; i++)
        symlinkat(own->links[i].target, tmpfs, own->links[i].name);
    if (fchdir(tmpfs) < 0 || (own && (result = bind_hierarchies(own, mount->destination, err)) < 0))
        return result < 0 ? result : err_errno(err, -errno, "mount '%s'", mount->destination);
    result = set_attributes(tmpfs, options->attributes_set, options->attributes_clear, true);
    return result < 0 ? err_errno(err, result, "mount '%s'", mount->destination) : 0;
}

/* Where the runtime itself relies on what it mounts: masks, devices, terminals. */
static bool is_system_place(const struct oci_mount *mount)
{
    static const char *const places[] = {"/dev", "/proc", "/sys"};

    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (strcmp(places[i], mount->destination) == 0)
            return true;
    return strcmp(mount->type, "proc") == 0 || strcmp(mount->type, "sysfs") == 0;
}

struct mounting {
    const struct cgroup *own; /* the container's; NULL: none */
    int bundle_fd, root_fd;
    int dev_fd; /* the tmpfs on /dev; -1: there is none yet */
};

/* The name of what is to be a directory of /dev itself; NULL: it is not. */
static const char *name_in_dev(const char *path)
{
    return strncmp(path, "/dev/", 5) == 0 && path[5] && path[5] != '.' && !strchr(path + 5, '/')
               ? path + 5
               : NULL;
}

/* Where a new file system goes, as an O_PATH fd. -errno. */
static int make_mount_point(const struct mounting *m, const struct oci_mount *mount)
{
    const char *name = name_in_dev(mount->destination);

    /* A tmpfs of our own has nothing in it at first. */
    if (name && m->dev_fd >= 0 && mkdirat(m->dev_fd, name, 0755) == 0)
        return inroot_open_plain(m->dev_fd, name, O_PATH | O_DIRECTORY);
    return is_system_place(mount) ? inroot_make_directory_plain(m->root_fd, mount->destination)
                                  : inroot_make_directory(m->root_fd, mount->destination);
}

static bool is_v1(const struct cgroup *own)
{
    return own ? own->layout != CGROUP_LAYOUT_V2 : !cgroup_is_v2();
}

static int mount_new(const struct oci_mount *mount, const struct mount_options *options,
                     const struct mounting *m, struct err *err)
{
    bool cgroup = strcmp(mount->type, "cgroup") == 0;
    bool read_only = options->superblock_read_only && strcmp(mount->type, "tmpfs") != 0 &&
                     strcmp(mount->type, "sysfs") != 0 && !cgroup;
    CLEANUP(left_openp) int target = make_mount_point(m, mount);
    CLEANUP(left_openp) int fd = -1;
    const char *type = cgroup ? "cgroup2" : mount->type;
    const char *source = mount->source ? mount->source : mount->type;
    const uint64_t late = MOUNT_ATTR_RDONLY;
    int result = 0;

    if (target < 0)
        return err_errno(err, target, "mount '%s': mount point", mount->destination);
    if (options->copy_up && strcmp(mount->type, "tmpfs") != 0)
        return err_set(err, -EINVAL, "mount '%s': option tmpcopyup is for tmpfs",
                       mount->destination);
    if (cgroup && is_v1(m->own))
        return mount_cgroup_v1(mount, options, m->own, target, err);
    if (!options->copy_up &&
        mount_at_once(type, source, &options->data, read_only, options->attributes_set, target))
        return 0;
    fd = make_filesystem(type, source, &options->data, read_only,
                         options->attributes_set & ~(options->copy_up ? late : 0u), err);
    if (fd < 0)
        return err_wrap(err, "mount '%s'", mount->destination);
    if (options->copy_up) {
        CLEANUP(fd_closep)
        int from = inroot_open(m->root_fd, mount->destination, O_RDONLY | O_DIRECTORY);

        if (from < 0 || (result = copy_up(from, fd)) < 0 ||
            (result = set_attributes(fd, options->attributes_set & late, 0, false)) < 0)
            return err_errno(err, MIN(from, result), "mount '%s': tmpcopyup", mount->destination);
    }
    if ((result = attach(fd, target)) < 0)
        return err_errno(err, result, "mount '%s'", mount->destination);
    return 0;
}

static int mount_one(const struct oci_mount *mount, struct mounting *m, struct err *err)
{
    CLEANUP(mount_options_done) struct mount_options options = {0};
    CLEANUP(fd_closep) int placed = -1;
    int result = mount_options_parse(mount, &options, err);

    if (result < 0)
        return result;
    if (options.bind || !mount->type)
        result = mount_bind(mount, &options, m->bundle_fd, m->root_fd, err);
    else
        result = mount_new(mount, &options, m, err);
    if (result == 0 && strcmp(mount->destination, "/dev") == 0) {
        CLEANUP(left_openp) int before = m->dev_fd;

        m->dev_fd = mount->type && strcmp(mount->type, "tmpfs") == 0
                        ? inroot_open_plain(m->root_fd, "/dev", O_PATH | O_DIRECTORY)
                        : -1;
    }
    if (result < 0 || !options.propagation)
        return result;
    placed = inroot_open(m->root_fd, mount->destination, O_PATH);
    if (placed < 0 || (result = set_propagation(placed, options.propagation)) < 0)
        return err_errno(err, MIN(placed, result), "mount '%s': propagation", mount->destination);
    return 0;
}

int mount_all(const struct oci_spec *spec, const struct cgroup *own, int bundle_fd, int root_fd,
              struct err *err)
{
    struct mounting m = {own, bundle_fd, root_fd, -1};
    int result = 0;

    for (size_t i = 0; result == 0 && i < spec->nr_mounts; i++)
        result = mount_one(&spec->mounts[i], &m, err);
    left_openp(&m.dev_fd);
    return result;
}

/* tmpfs for the upper layer on `rootfs`, with upper, work and root below it; returns the tmpfs's
 * fd. */
static int make_upper_tmpfs(const struct oci_spec *spec, const char *rootfs, struct err *err)
{
    const char *size = oci_spec_annotation(spec, "io.lodge.overlay.size");
    CLEANUP(fd_closep) int tmpfs = -1;
    CLEANUP(fd_closep) int target = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
    const char *items[2] = {"mode=755", NULL};
    struct oci_strings data = {items, 1};
    char text[64];
    int result;

    if (target < 0)
        return err_errno(err, -errno, "root '%s'", rootfs);
    if (size) {
        snprintf(text, sizeof(text), "size=%s", size);
        items[data.length++] = text;
    }
    if ((tmpfs = make_filesystem("tmpfs", "lodge", &data, false, 0, err)) < 0)
        return err_wrap(err, "overlay's upper layer");
    if ((result = attach(tmpfs, target)) < 0)
        return err_errno(err, result, "overlay's upper layer on '%s'", rootfs);
    if (mkdirat(tmpfs, "upper", 0755) < 0 || mkdirat(tmpfs, "work", 0755) < 0 ||
        mkdirat(tmpfs, "root", 0755) < 0)
        return err_errno(err, -errno, "overlay's upper layer");
    return TAKE_FD(tmpfs);
}

/* The kernel's legacy option parser splits at ',' and ':': such a path cannot be a layer. */
static bool layer_path_is_usable(const char *path)
{
    return path[0] == '/' && !strpbrk(path, ",\\");
}

/*
 * "lowerdir=A", or, of several directories apart by ':', "lowerdir+=A" "lowerdir+=B" ...
 * (Linux 6.5), which have room for paths of any length. Writes into text (freed by the caller with
 * items).
 */
static int lower_options(const char *lower, char **ret_text, const char **items, size_t *ret_nr)
{
    bool several = strchr(lower, ':') != NULL;
    size_t nr = 0, used = 0, size = 2 * strlen(lower) + 12 * (LOWER_MAX + 1);
    CLEANUP(strp_free) char *text = malloc(size);

    if (!text)
        return -ENOMEM;
    while (*lower) {
        size_t length = strcspn(lower, ":");

        if (nr == LOWER_MAX)
            return -E2BIG;
        items[nr++] = text + used;
        used += (size_t)snprintf(text + used, size - used, "lowerdir%s=%.*s", several ? "+" : "",
                                 (int)length, lower) +
                1;
        lower += length + (lower[length] == ':');
    }
    *ret_nr = nr;
    *ret_text = TAKE_PTR(text);
    return 0;
}

static int mount_overlay(const struct oci_spec *spec, const char *lower, const char *rootfs,
                         int *ret_root_fd, struct err *err)
{
    const char *upper = oci_spec_annotation(spec, "io.lodge.overlay.upper");
    const char *work = oci_spec_annotation(spec, "io.lodge.overlay.work");
    CLEANUP(strp_free) char *lower_option = NULL;
    CLEANUP(strp_free) char *upper_option = NULL;
    CLEANUP(strp_free) char *work_option = NULL;
    CLEANUP(fd_closep) int upper_fd = -1;
    CLEANUP(fd_closep) int target = -1;
    CLEANUP(fd_closep) int fd = -1;
    const char *items[LOWER_MAX + 3];
    struct oci_strings data = {items, 0};
    int result, n;

    if (!layer_path_is_usable(lower) || (upper && !layer_path_is_usable(upper)) ||
        (work && !layer_path_is_usable(work)))
        return err_set(
            err, -EINVAL,
            "overlay: layers must be absolute paths without ',' and '\\' (lower is '%s')", lower);
    if (upper && !work)
        return err_set(err, -EINVAL,
                       "annotation io.lodge.overlay.work: needed beside an upper layer");
    if (!upper && (upper_fd = make_upper_tmpfs(spec, rootfs, err)) < 0)
        return upper_fd;
    if ((result = lower_options(lower, &lower_option, items, &data.length)) < 0)
        return err_errno(err, result, "overlay over '%.200s'", lower);
    n = 0;
    if (upper)
        n = asprintf(&upper_option, "upperdir=%s", upper);
    else
        n = asprintf(&upper_option, "upperdir=%s/upper", rootfs);
    if (n >= 0)
        n = upper ? asprintf(&work_option, "workdir=%s", work)
                  : asprintf(&work_option, "workdir=%s/work", rootfs);
    if (n < 0)
        return err_set(err, -ENOMEM, "overlay: out of memory");
    items[data.length++] = upper_option;
    items[data.length++] = work_option;
    /* Its marks cannot be trusted.* attributes there. */
    if (oci_spec_namespace(spec, CLONE_NEWUSER))
        items[data.length++] = "userxattr";
    if ((fd = make_filesystem("overlay", "lodge", &data, false, 0, err)) < 0)
        return err_wrap(err, "root over '%s'", lower);
    target = upper ? open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC)
                   : openat(upper_fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (target < 0 || (result = attach(fd, target)) < 0)
        return err_errno(err, target < 0 ? -errno : result, "root over '%s'", lower);
    *ret_root_fd = TAKE_FD(fd);
    return 0;
}

int mount_root(const struct oci_spec *spec, const char *rootfs, int *ret_root_fd, struct err *err)
{
    const char *lower = oci_spec_annotation(spec, "io.lodge.overlay.lower");
    unsigned long propagation = spec->rootfs_propagation ? spec->rootfs_propagation
                                                         : (unsigned long)(MS_SLAVE | MS_REC);
    CLEANUP(fd_closep) int tree = -1;
    CLEANUP(left_openp) int target = -1;
    int result;

    /* Even a shared root propagation concerns the container's mounts, not the host's: those are
     * slaves first. */
    if ((result = mounts_set_propagation(propagation & MS_PRIVATE ? MS_PRIVATE : MS_SLAVE)) < 0)
        return err_errno(err, result, "make mounts private");
    if (lower)
        return mount_overlay(spec, lower, rootfs, ret_root_fd, err);
    tree = open_tree(AT_FDCWD, rootfs, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    if (tree < 0)
        return err_errno(err, -errno, "root '%s'", rootfs);
    if ((result = set_propagation(tree, MS_PRIVATE | MS_REC)) < 0)
        return err_errno(err, result, "root '%s': propagation", rootfs);
    if ((target = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        return err_errno(err, -errno, "root '%s'", rootfs);
    if ((result = attach(tree, target)) < 0)
        return err_errno(err, result, "mount root '%s'", rootfs);
    *ret_root_fd = TAKE_FD(tree);
    return 0;
}

int mount_pivot(int root_fd, bool read_only, struct err *err)
{
    int result;

    if (fchdir(root_fd) < 0)
        return err_errno(err, -errno, "enter the root");
    /* Both names the same: the old root ends up stacked on the new one, and is what umount2 then
     * takes off. */
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return err_errno(err, -errno, "pivot_root");
    if (umount2(".", MNT_DETACH) < 0)
        return err_errno(err, -errno, "detach the host's root");
    if (chdir("/") < 0)
        return err_errno(err, -errno, "enter the root");
    if (read_only && (result = set_attributes(root_fd, MOUNT_ATTR_RDONLY, 0, false)) < 0)
        return err_errno(err, result, "make the root read-only");
    return 0;
}
