/* SPDX-License-Identifier: Apache-2.0 */
/* Time ready to run but not running: the second number of /proc/PID/task/TID/schedstat
 * (the kernel's scheduler/sched-stats.rst). */
#include "host/cgroup_internal.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

/* A task that ends meanwhile is left out. */
static void add_tasks(long pid, uint64_t *total_ns, uint32_t *tasks)
{
    char path[64];
    struct dirent *entry;
    CLEANUP(dir_closep) DIR *dir = NULL;

    snprintf(path, sizeof(path), "/proc/%ld/task", pid);
    dir = opendir(path);
    while (dir && (entry = readdir(dir))) {
        char name[320], text[128];
        CLEANUP(fd_closep) int fd = -1;
        uint64_t ran, waited;
        ssize_t length;

        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/schedstat", entry->d_name);
        fd = openat(dirfd(dir), name, O_RDONLY | O_CLOEXEC);
        length = fd < 0 ? -1 : file_read_full(fd, text, sizeof(text) - 1);
        if (length <= 0)
            continue;
        text[length] = '\0';
        if (sscanf(text, "%" SCNu64 " %" SCNu64, &ran, &waited) != 2)
            continue;
        *total_ns += waited;
        (*tasks)++;
    }
}

int host_cgroup_waiting(const struct host_cgroup *cgroup, uint64_t *ret_ns, uint32_t *ret_tasks,
                        struct err *err)
{
    int directory = host_cgroup_directory(cgroup, HOST_CPU);
    CLEANUP(fd_closep)
    int fd = directory < 0 ? -1 : openat(directory, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    CLEANUP(file_closep) FILE *list = NULL;
    uint64_t total = 0;
    uint32_t tasks = 0;
    char line[32];

    if (fd < 0 || !(list = fdopen(fd, "r")))
        return err_errno(err, -errno, "cgroup '%s': read its processes", cgroup->path);
    fd = -1; /* the stream has it */
    while (fgets(line, sizeof(line), list))
        add_tasks(strtol(line, NULL, 10), &total, &tasks);
    *ret_ns = total;
    *ret_tasks = tasks;
    return 0;
}
