/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup.procs of the first hierarchy that has the container's directory, children included, and
 * the freezer: `freezer.state` on v1, `cgroup.freeze` with `cgroup.events` on v2 (the kernel's
 * cgroup-v1/freezer-subsystem.rst, cgroup-v2.rst).
 */
#include "oci/cgroup_processes.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PROCS_SIZE_MAX (16 * MIB)
#define DEPTH_MAX      32
/* Freezing waits for processes in the kernel (file systems, for one): up to ten seconds. */
#define FREEZE_ROUNDS_MAX 5000

static int collect(int fd, struct buf *ret, unsigned depth)
{
    CLEANUP(dir_closep) DIR *dir = NULL;
    CLEANUP(fd_closep) int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct dirent *entry;
    int result = file_load(fd, "cgroup.procs", ret, NULL);

    /* A threaded or just removed child has no list of its own. */
    if (result < 0 && depth == 0)
        return result;
    if (copy < 0 || !(dir = fdopendir(copy)))
        return -errno;
    (void)TAKE_FD(copy);
    while ((result = file_next_entry(dir, &entry)) > 0)
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.' && depth < DEPTH_MAX) {
            CLEANUP(fd_closep)
            int child = openat(fd, entry->d_name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

            if (child >= 0 && (result = collect(child, ret, depth + 1)) < 0)
                return result;
        }
    return result;
}

static int compare_pids(const void *a, const void *b)
{
    pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

    return (x > y) - (x < y);
}

/* v1 controllers first: on a hybrid host all of them hold every process. */
static int first_directory(const struct cgroup *cgroup)
{
    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++)
        if (cgroup->hierarchies[i].fd >= 0)
            return cgroup->hierarchies[i].fd;
    return -1;
}

int cgroup_processes(struct cgroup *cgroup, pid_t **ret, size_t *ret_length, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    CLEANUP(freep) pid_t *pids = NULL;
    size_t length = 0, lines = 0;
    int fd = first_directory(cgroup), result;
    char *next;

    buf_init(&text, PROCS_SIZE_MAX);
    if (fd < 0)
        return err_set(err, -ENOENT, "cgroup '%s' does not exist", cgroup->path);
    if ((result = collect(fd, &text, 0)) < 0 || !buf_string(&text))
        return err_errno(err, result < 0 ? result : -ENOMEM, "processes of cgroup '%s'",
                         cgroup->path);
    for (size_t i = 0; i < text.length; i++)
        lines += text.data[i] == '\n';
    if (!(pids = calloc(lines + 1, sizeof(*pids))))
        return err_set(err, -ENOMEM, "processes of cgroup '%s'", cgroup->path);
    next = text.data;
    while (length < lines) {
        long pid = strtol(next, &next, 10);

        /* 0 is a process of another pid namespace: not ours to name. */
        if (pid > 0)
            pids[length++] = (pid_t)pid;
        else if (!*next || pid < 0)
            break;
        next += strcspn(next, "\n");
        next += *next == '\n';
    }
    qsort(pids, length, sizeof(*pids), compare_pids);
    *ret = TAKE_PTR(pids);
    *ret_length = length;
    return 0;
}

int cgroup_signal_all(struct cgroup *cgroup, int signal_number, struct err *err)
{
    CLEANUP(freep) pid_t *pids = NULL;
    size_t length = 0;
    int result = cgroup_processes(cgroup, &pids, &length, err);

    for (size_t i = 0; result == 0 && i < length; i++)
        if (kill(pids[i], signal_number) < 0 && errno != ESRCH)
            return err_errno(err, -errno, "signal %d to process %d", signal_number, (int)pids[i]);
    return result;
}

static bool file_says(int fd, const char *file, const char *text)
{
    CLEANUP(buf_donep) struct buf content;

    buf_init(&content, 4096);
    return file_load(fd, file, &content, NULL) == 0 && buf_string(&content) &&
           strstr(content.data, text);
}

static void pause_briefly(void)
{
    struct timespec t = {.tv_nsec = 2000000};

    nanosleep(&t, NULL);
}

static int freeze_v1(int fd, bool freeze)
{
    const char *wanted = freeze ? "FROZEN" : "THAWED";

    for (unsigned round = 0; round < FREEZE_ROUNDS_MAX; round++) {
        int result = file_write_string(fd, "freezer.state", wanted);

        if (result < 0)
            return result;
        if (file_says(fd, "freezer.state", wanted))
            return 0;
        pause_briefly();
        /* A process forked at the wrong moment keeps the state at FREEZING: begin again. */
        if (freeze && round % 100 == 99)
            file_write_string(fd, "freezer.state", "THAWED");
    }
    file_write_string(fd, "freezer.state", "THAWED");
    return -ETIMEDOUT;
}

static int freeze_v2(int fd, bool freeze)
{
    int result = file_write_string(fd, "cgroup.freeze", freeze ? "1" : "0");

    for (unsigned round = 0; result == 0 && round < FREEZE_ROUNDS_MAX; round++) {
        if (file_says(fd, "cgroup.events", freeze ? "frozen 1" : "frozen 0"))
            return 0;
        pause_briefly();
    }
    if (result == 0)
        file_write_string(fd, "cgroup.freeze", "0");
    return result < 0 ? result : -ETIMEDOUT;
}

int cgroup_freeze(struct cgroup *cgroup, bool freeze, struct err *err)
{
    const char *what = freeze ? "freeze" : "thaw";
    int result = -ENOTSUP;

    for (unsigned i = 0; i < cgroup->nr_hierarchies && result == -ENOTSUP; i++) {
        int fd = cgroup->hierarchies[i].fd;

        if (fd >= 0 && faccessat(fd, "freezer.state", F_OK, 0) == 0)
            result = freeze_v1(fd, freeze);
    }
    for (unsigned i = 0; i < cgroup->nr_hierarchies && result == -ENOTSUP; i++) {
        int fd = cgroup->hierarchies[i].fd;

        if (fd >= 0 && faccessat(fd, "cgroup.freeze", F_OK, 0) == 0)
            result = freeze_v2(fd, freeze);
    }
    if (result == -ENOTSUP)
        return err_set(err, result, "%s cgroup '%s': this host has no freezer", what, cgroup->path);
    return result < 0 ? err_errno(err, result, "%s cgroup '%s'", what, cgroup->path) : 0;
}

bool cgroup_is_frozen(const char *path)
{
    static const struct {
        const char *hierarchy, *file, *thawed;
    } places[] = {
        {"freezer/", "freezer.state", "THAWED"},
        {"", "cgroup.freeze", "0"},
        {"unified/", "cgroup.freeze", "0"},
    };

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        CLEANUP(buf_donep) struct buf content;
        char file[PATH_MAX];

        buf_init(&content, 64);
        if ((size_t)snprintf(file, sizeof(file), "/sys/fs/cgroup/%s%s/%s", places[i].hierarchy,
                             path, places[i].file) >= sizeof(file))
            return false;
        if (file_load(AT_FDCWD, file, &content, NULL) < 0 || !buf_string(&content))
            continue;
        if (strncmp(content.data, places[i].thawed, strlen(places[i].thawed)) != 0)
            return true;
    }
    return false;
}
