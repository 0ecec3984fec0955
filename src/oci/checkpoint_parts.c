/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/checkpoint_parts.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/size.h"
#include "base/util.h"
#include "oci/cgroup.h"
#include "oci/device.h"
#include "oci/mount_options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LOG_SIZE_MAX (64 * MIB)
#define LOG_LEVEL    4

static int open_directory(const char *path, bool make, const char *what, struct err *err)
{
    int fd;

    if (make && mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_errno(err, -errno, "make %s '%s'", what, path);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_errno(err, -errno, "%s '%s'", what, path) : fd;
}

int checkpoint_open(const struct checkpoint_options *options, bool make,
                    struct checkpoint_directories *ret, struct err *err)
{
    ret->image = open_directory(options->image_path, make, "image path", err);
    if (ret->image < 0)
        return ret->image;
    if (options->work_path)
        ret->work = open_directory(options->work_path, true, "work path", err);
    return options->work_path && ret->work < 0 ? ret->work : 0;
}

void checkpoint_close(struct checkpoint_directories *directories)
{
    fd_closep(&directories->image);
    fd_closep(&directories->work);
}

/* Numbers of criu_cg_mode. */
static int cgroups_mode(const char *name, struct err *err)
{
    static const char *const names[] = {"ignore", "none", "props", "soft", "full", "strict"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i], name) == 0)
            return (int)i;
    return err_set(err, -EINVAL,
                   "--manage-cgroups-mode: '%s' is not ignore, none, props, soft, full or strict",
                   name);
}

int checkpoint_common(const struct checkpoint_options *options,
                      const struct checkpoint_directories *directories, const char *log_name,
                      struct criu_options *ret, struct err *err)
{
    int mode = cgroups_mode(options->cgroups_mode ? options->cgroups_mode : "soft", err);

    if (mode < 0)
        return mode;
    criu_options_number(ret, CRIU_IMAGES_DIR_FD, (uint64_t)directories->image);
    if (directories->work >= 0)
        criu_options_number(ret, CRIU_WORK_DIR_FD, (uint64_t)directories->work);
    criu_options_number(ret, CRIU_LOG_LEVEL, LOG_LEVEL);
    criu_options_text(ret, CRIU_LOG_FILE, log_name);
    criu_options_flag(ret, CRIU_NOTIFY_SCRIPTS, true);
    /* "ignore": cgroups are neither saved nor made. */
    criu_options_flag(ret, CRIU_MANAGE_CGROUPS, mode != 0);
    criu_options_number(ret, CRIU_CGROUPS_MODE, (uint64_t)mode);
    criu_options_flag(ret, CRIU_EXT_UNIX_SK, options->ext_unix_sk);
    criu_options_flag(ret, CRIU_TCP_ESTABLISHED, options->tcp_established);
    criu_options_flag(ret, CRIU_TCP_SKIP_IN_FLIGHT, options->tcp_skip_in_flight);
    criu_options_flag(ret, CRIU_TCP_CLOSE, options->tcp_close);
    criu_options_flag(ret, CRIU_SHELL_JOB, options->shell_job);
    criu_options_flag(ret, CRIU_FILE_LOCKS, options->file_locks);
    criu_options_flag(ret, CRIU_LINK_REMAP, options->link_remap);
    criu_options_flag(ret, CRIU_AUTO_DEDUP, options->auto_dedup);
    criu_options_flag(ret, CRIU_ORPHAN_PTS_MASTER, true);
    if (options->empty_namespaces)
        criu_options_number(ret, CRIU_EMPTY_NAMESPACES, options->empty_namespaces);
    if (options->status_fd >= 0)
        criu_options_number(ret, CRIU_STATUS_FD, (uint64_t)options->status_fd);
    return 0;
}

/* Features that CRIU looks for and does not find; it goes on without them. */
static bool is_complaint(const char *line)
{
    return strncmp(line, "tun: ", 5) == 0 || strncmp(line, "rlimit: ", 8) == 0;
}

/* Lines of the log are "(00.012345) Error (file.c:12): what happened". The first failure is the
 * cause of the others. */
static void first_error(const char *log, char *ret, size_t size)
{
    for (const char *line = strstr(log, "Error ("); line; line = strstr(line, "Error (")) {
        const char *text = strstr(line, "): ");

        if (!text)
            return;
        line = text + 3;
        if (is_complaint(line))
            continue;
        snprintf(ret, size, "%.*s", (int)strcspn(line, "\n"), line);
        return;
    }
}

int checkpoint_explain(const struct checkpoint_options *options,
                       const struct checkpoint_directories *directories, const char *log_name,
                       struct err *err)
{
    const char *directory = options->work_path ? options->work_path : options->image_path;
    int fd = directories->work >= 0 ? directories->work : directories->image;
    CLEANUP(buf_donep) struct buf text;
    char reason[384] = "";

    buf_init(&text, LOG_SIZE_MAX);
    if (fd >= 0 && file_load(fd, log_name, &text, NULL) == 0 && buf_string(&text))
        first_error(text.data, reason, sizeof(reason));
    if (err && !reason[0])
        snprintf(reason, sizeof(reason), "%.*s", (int)strcspn(err->message, "\n"), err->message);
    return err ? err_set(err, err->code, "CRIU: %s (its log: %s/%s)", reason, directory, log_name)
               : -EIO;
}

/* The hierarchies of version 1, as mount_cgroup_v1 binds them. */
static int each_hierarchy(const char *destination, const char *cgroup_path,
                          checkpoint_mount_fn *each, void *opaque, struct err *err)
{
    CLEANUP(dir_closep) DIR *dir = opendir("/sys/fs/cgroup");
    struct dirent *entry;
    int result = 0;

    while (result == 0 && dir) {
        char place[PATH_MAX], host[PATH_MAX];
        int more = file_next_entry(dir, &entry);

        if (more <= 0)
            return more < 0 ? err_errno(err, more, "read /sys/fs/cgroup") : 0;
        if (entry->d_name[0] == '.' || entry->d_type == DT_LNK)
            continue;
        if ((size_t)snprintf(place, sizeof(place), "%s/%s", destination, entry->d_name) >=
                sizeof(place) ||
            (size_t)snprintf(host, sizeof(host), "/sys/fs/cgroup/%s%s", entry->d_name,
                             cgroup_path) >= sizeof(host))
            return err_set(err, -ENAMETOOLONG, "mount '%s'", destination);
        result = each(opaque, place, host, err);
    }
    return result;
}

static int mount_from_outside(const struct oci_mount *mount, const char *bundle,
                              const char *cgroup_path, checkpoint_mount_fn *each, void *opaque,
                              struct err *err)
{
    CLEANUP(mount_options_done) struct mount_options options = {0};
    CLEANUP(freep) char *host = NULL;
    int result = mount_options_parse(mount, &options, err);

    if (result < 0)
        return result;
    if (!options.bind && mount->type) {
        bool cgroup = strcmp(mount->type, "cgroup") == 0;

        return cgroup && cgroup_path && !cgroup_is_v2()
                   ? each_hierarchy(mount->destination, cgroup_path, each, opaque, err)
                   : 0;
    }
    if (mount->nr_uid_maps || mount->nr_gid_maps)
        return err_set(err, -ENOTSUP, "mount '%s': an id-mapped mount cannot be saved",
                       mount->destination);
    if (!mount->source)
        return 0;
    if (asprintf(&host, "%s%s%s", mount->source[0] == '/' ? "" : bundle,
                 mount->source[0] == '/' ? "" : "/", mount->source) < 0) {
        host = NULL;
        return err_set(err, -ENOMEM, "mount '%s': out of memory", mount->destination);
    }
    return each(opaque, mount->destination, host, err);
}

int checkpoint_each_mount(const struct oci_spec *spec, const char *bundle, const char *cgroup_path,
                          checkpoint_mount_fn *each, void *opaque, struct err *err)
{
    bool user_namespace = oci_spec_namespace(spec, CLONE_NEWUSER) != NULL;
    const struct oci_device *device;
    int result = 0;

    for (size_t i = 0; result == 0 && i < spec->nr_mounts; i++)
        result = mount_from_outside(&spec->mounts[i], bundle, cgroup_path, each, opaque, err);
    /* In a user namespace nodes cannot be made: they are bound. */
    for (size_t i = 0; result == 0 && user_namespace && (device = device_default(i)); i++)
        result = each(opaque, device->path, device->path, err);
    for (size_t i = 0; result == 0 && user_namespace && i < spec->nr_devices; i++)
        result = each(opaque, spec->devices[i].path, spec->devices[i].path, err);
    return result;
}
