/* SPDX-License-Identifier: Apache-2.0 */
#include "image/vdisk.h"

#include "base/clock.h"
#include "base/cleanup.h"
#include "base/util.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);

    return length > tail && !strcmp(text + length - tail, end);
}

static int parse_format(const char *format, const char *path, bool *ret_qcow2, struct err *err)
{
    if (!format)
        *ret_qcow2 = ends_with(path, ".qcow2");
    else if (!strcmp(format, "raw") || !strcmp(format, "qcow2"))
        *ret_qcow2 = *format == 'q';
    else
        return err_set(err, -EINVAL, "the format '%s' is none of raw, qcow2", format);
    return 0;
}

static int check_name(const char *name, struct err *err)
{
    static const char known[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    if (!*name || strlen(name) >= VDISK_NAME_MAX - 8 || *name == '.' || *name == '-' ||
        strspn(name, known) != strlen(name))
        return err_set(err, -EINVAL,
                       "'%.80s' is no disk's name: letters, digits and . _ - (a path needs a '/' "
                       "in it)",
                       name);
    return 0;
}

static int from_path(const char *path, const char *format, struct vdisk *ret, struct err *err)
{
    memset(ret, 0, sizeof(*ret));
    if (snprintf(ret->path, sizeof(ret->path), "%s", path) >= (int)sizeof(ret->path))
        return err_set(err, -ENAMETOOLONG, "the path is too long");
    return parse_format(format, path, &ret->qcow2, err);
}

static int at(const char *dir, const char *name, bool qcow2, struct vdisk *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->qcow2 = qcow2;
    snprintf(ret->name, sizeof(ret->name), "%.63s", name);
    return snprintf(ret->path, sizeof(ret->path), "%s/vdisks/%s.%s", dir, name,
                    qcow2 ? "qcow2" : "raw") < (int)sizeof(ret->path)
               ? 0
               : -ENAMETOOLONG;
}

int vdisk_find(const struct store *store, const char *name_or_path, const char *format,
               struct vdisk *ret, struct err *err)
{
    int result;

    if (strchr(name_or_path, '/'))
        return from_path(name_or_path, format, ret, err);
    if ((result = check_name(name_or_path, err)) < 0)
        return result;
    for (size_t i = 0; i < store->nr_dirs; i++)
        for (unsigned qcow2 = 0; qcow2 < 2; qcow2++)
            if (at(store->dirs[i], name_or_path, qcow2, ret) == 0 && access(ret->path, F_OK) == 0)
                return 0;
    return err_set(err, -ENOENT,
                   "no disk '%s' here (see: lodge disk ls); a file's path needs a '/' in it",
                   name_or_path);
}

int vdisk_place(const struct store *store, const char *name_or_path, const char *format,
                struct vdisk *ret, struct err *err)
{
    char dir[PATH_MAX];
    bool qcow2;
    int result;

    if (strchr(name_or_path, '/'))
        return from_path(name_or_path, format, ret, err);
    if ((result = check_name(name_or_path, err)) < 0 ||
        (result = parse_format(format, name_or_path, &qcow2, err)) < 0)
        return result;
    if (vdisk_find(store, name_or_path, NULL, ret, NULL) == 0)
        return err_set(err, -EEXIST, "there is a disk '%s' already: '%s'", name_or_path, ret->path);
    if (store_writable_dir(store, "vdisks", dir) < 0)
        return err_set(err, -EROFS,
                       "no directory of the store can be written to; name one with LODGE_HOME");
    *strrchr(dir, '/') = '\0';
    result = at(dir, name_or_path, qcow2, ret);
    return result < 0 ? err_set(err, result, "the path is too long") : 0;
}

void vdisk_list(const struct store *store, void (*each)(const struct vdisk *disk, void *context),
                void *context)
{
    for (size_t i = 0; i < store->nr_dirs; i++) {
        char path[PATH_MAX];
        CLEANUP(dir_closep) DIR *dir = NULL;
        struct dirent *entry;

        if (snprintf(path, sizeof(path), "%s/vdisks", store->dirs[i]) >= (int)sizeof(path) ||
            !(dir = opendir(path)))
            continue;
        while ((entry = readdir(dir))) {
            bool qcow2 = ends_with(entry->d_name, ".qcow2");
            char name[VDISK_NAME_MAX];
            struct vdisk disk;

            if (entry->d_name[0] == '.' || (!qcow2 && !ends_with(entry->d_name, ".raw")) ||
                strlen(entry->d_name) >= VDISK_NAME_MAX)
                continue;
            snprintf(name, sizeof(name), "%.63s", entry->d_name);
            *strrchr(name, '.') = '\0';
            if (at(store->dirs[i], name, qcow2, &disk) == 0)
                each(&disk, context);
        }
    }
}

/* One that was sent a signal may be for another moment. */
static bool is_gone(pid_t pid)
{
    uint64_t deadline_ns = clock_monotonic_ns() + 5 * NS_PER_S;

    while (kill(pid, 0) == 0 || errno != ESRCH) {
        if (clock_monotonic_ns() >= deadline_ns)
            return false;
        usleep(20000);
    }
    return true;
}

void vdisk_abandon(const char *path, pid_t pid)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    CLEANUP(dir_closep) DIR *dir = NULL;
    struct dirent *entry;
    char parent[PATH_MAX];

    snprintf(parent, sizeof(parent), "%.*s", slash ? (int)(slash - path + 1) : 1,
             slash ? path : ".");
    dir = opendir(parent);
    while (dir && (entry = readdir(dir))) {
        size_t length = strlen(base);
        char *end;
        long number;

        if (strncmp(entry->d_name, base, length) != 0 || entry->d_name[length] != '.')
            continue;
        number = strtol(entry->d_name + length + 1, &end, 10);
        if (number > 0 && number <= INT_MAX && !strcmp(end, ".tmp") &&
            (pid ? number == pid : is_gone((pid_t)number)))
            unlinkat(dirfd(dir), entry->d_name, 0);
    }
}
