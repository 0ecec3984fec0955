/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes from one cgroup into another, cgroups with all that is below them removed, and the
 * cgroup that a process is in.
 */
#include "host/cgroup_internal.h"

#include "base/cgroup_procs.h"
#include "base/cleanup.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MOVE_ROUNDS   200
#define REMOVE_ROUNDS 50

static void pause_a_moment(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

int host_cgroup_move(const struct host_cgroup *from, struct host_cgroup *to, struct err *err)
{
    for (unsigned i = 0; i < HOST_CONTROLLERS; i++) {
        int error = 0;

        if (from->fds[i] < 0 || to->fds[i] < 0)
            continue;
        for (unsigned round = 0; cgroup_move_once(from->fds[i], to->fds[i], &error); round++) {
            if (round == MOVE_ROUNDS)
                return err_errno(err, error ? error : -EBUSY,
                                 "move processes from cgroup '%s' to '%s'", from->path, to->path);
            if (round)
                pause_a_moment();
        }
    }
    return 0;
}

/* Children first. The last process of one may be just going away. */
static int remove_below(int parent, const char *name)
{
    CLEANUP(fd_closep)
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    CLEANUP(dir_closep) DIR *dir = NULL;
    struct dirent *entry;

    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!(dir = fdopendir(fd)))
        return -errno;
    fd = -1; /* the stream has it */
    while ((entry = readdir(dir)))
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            remove_below(dirfd(dir), entry->d_name);
    for (unsigned round = 0; unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT; round++) {
        if (errno != EBUSY || round == REMOVE_ROUNDS)
            return -errno;
        pause_a_moment();
    }
    return 0;
}

/* Calls for each hierarchy's root that may hold it: the mount point itself, and what is in it. */
static int each_hierarchy(int (*fn)(int root, const char *path), const char *path)
{
    CLEANUP(dir_closep) DIR *dir = opendir(HOST_CGROUP_ROOT);
    struct dirent *entry;
    int result = 0;

    if (!dir)
        return -errno;
    if (faccessat(dirfd(dir), "cgroup.controllers", F_OK, 0) == 0)
        return fn(dirfd(dir), path);
    while ((entry = readdir(dir))) {
        CLEANUP(fd_closep) int root = -1;
        int r;

        if (entry->d_name[0] == '.' || entry->d_type == DT_LNK)
            continue;
        root = openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = root < 0 ? 0 : fn(root, path);
        if (r != 0)
            result = r;
    }
    return result;
}

int host_cgroup_remove_tree(const char *path)
{
    if (path[0] != '/' || !path[1] || strstr(path, ".."))
        return -EINVAL;
    return each_hierarchy(remove_below, path + 1);
}

static int is_there(int root, const char *path)
{
    return faccessat(root, path, F_OK, 0) == 0;
}

bool host_cgroup_exists(const char *path)
{
    return path[0] == '/' && each_hierarchy(is_there, path + 1) > 0;
}

int host_cgroup_of_process(pid_t pid, char *ret, size_t size)
{
    char name[64], line[4096];
    CLEANUP(file_closep) FILE *list = NULL;
    bool found = false;

    snprintf(name, sizeof(name), "/proc/%d/cgroup", (int)pid);
    if (!(list = fopen(name, "re")))
        return -ESRCH;
    while (fgets(line, sizeof(line), list)) {
        char *controllers = strchr(line, ':'), *path;

        if (!controllers || !(path = strchr(++controllers, ':')))
            continue;
        *path++ = '\0';
        path[strcspn(path, "\n")] = '\0';
        if (strcmp(controllers, "cpu") != 0 && strncmp(controllers, "cpu,", 4) != 0 &&
            (*controllers || found))
            continue;
        found = true;
        if ((size_t)snprintf(ret, size, "%s", path) >= size)
            return -ENAMETOOLONG;
        if (*controllers)
            return 0;
    }
    return found ? 0 : -ESRCH;
}
