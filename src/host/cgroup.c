/* SPDX-License-Identifier: Apache-2.0 */
/* Weights, caps and counters by file. Where a controller is and what its files are called is in one
 * table; everything else is the same for both versions. */
#include "host/cgroup_internal.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/util.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#define ROOT         "/sys/fs/cgroup"
#define FREEZE_LIMIT (10 * NS_PER_S)
#define STAT_MAX     16384 /* the longest, memory.stat, has about 3000 bytes */

static const char *const controllers[] = {"cpu", "cpuacct", "memory", "freezer"};

static bool host_is_v2(void)
{
    return access(ROOT "/cgroup.controllers", F_OK) == 0;
}

static int root_of(char *text, size_t size, bool v2, unsigned controller)
{
    return snprintf(text, size, v2 ? ROOT : ROOT "/%s", controllers[controller]);
}

static int check_path(const char *path, struct err *err)
{
    if (path[0] != '/' || strstr(path, "..") || strlen(path) > PATH_MAX / 2 || !path[1])
        return err_set(err, -EINVAL, "cgroup '%s': not a path below the root of cgroups", path);
    return 0;
}

/* Version 2 counts only for controllers that the parent hands on. One that the kernel lacks is
 * noticed where it is needed. */
static void hand_on_controllers(const char *directory)
{
    static const char *const wanted[] = {"+cpu", "+memory", "+io"};
    CLEANUP(fd_closep) int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

    for (unsigned i = 0; fd >= 0 && i < ARRAY_LEN(wanted); i++)
        file_write_string(fd, "cgroup.subtree_control", wanted[i]);
}

static int make_path(const char *root, const char *path, bool v2)
{
    char whole[PATH_MAX];
    size_t at = strlen(root) + 1;

    if ((size_t)snprintf(whole, sizeof(whole), "%s%s", root, path) >= sizeof(whole))
        return -ENAMETOOLONG;
    for (;; at++) {
        char end = whole[at];

        if (end && end != '/')
            continue;
        whole[at] = '\0';
        if (v2) {
            char *slash = strrchr(whole, '/');

            *slash = '\0';
            hand_on_controllers(whole);
            *slash = '/';
        }
        if (mkdir(whole, 0755) < 0 && errno != EEXIST)
            return -errno;
        whole[at] = end;
        if (!end)
            return 0;
    }
}

static int open_directories(struct host_cgroup *cgroup)
{
    int found = 0;

    for (unsigned i = 0; i < (cgroup->v2 ? 1 : HOST_CONTROLLERS); i++) {
        char root[64], whole[PATH_MAX];

        root_of(root, sizeof(root), cgroup->v2, i);
        if ((size_t)snprintf(whole, sizeof(whole), "%s%s", root, cgroup->path) >= sizeof(whole))
            return -ENAMETOOLONG;
        cgroup->fds[i] = open(whole, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        found += cgroup->fds[i] >= 0;
    }
    return found ? 0 : -ENOENT;
}

static int cgroup_get(const char *path, bool make, struct host_cgroup **ret, struct err *err)
{
    CLEANUP(host_cgroup_closep) struct host_cgroup *cgroup = NULL;
    int r = check_path(path, err);

    if (r < 0)
        return r;
    cgroup = calloc(1, sizeof(*cgroup));
    if (!cgroup)
        return err_set(err, -ENOMEM, "cgroup '%s': out of memory", path);
    for (unsigned i = 0; i < HOST_CONTROLLERS; i++)
        cgroup->fds[i] = -1;
    cgroup->v2 = host_is_v2();
    cgroup->path = strdup(path);
    if (!cgroup->path)
        return err_set(err, -ENOMEM, "cgroup '%s': out of memory", path);
    for (unsigned i = 0; make && i < (cgroup->v2 ? 1 : HOST_CONTROLLERS); i++) {
        char root[64];

        root_of(root, sizeof(root), cgroup->v2, i);
        r = make_path(root, path, cgroup->v2);
        if (r < 0 && r != -ENOENT && !(r == -EROFS && i))
            return err_errno(err, r, "make cgroup '%s' below %s", path, root);
    }
    r = open_directories(cgroup);
    if (r < 0)
        return err_errno(err, r, "open cgroup '%s'", path);
    *ret = TAKE_PTR(cgroup);
    return 0;
}

int host_cgroup_make(const char *path, struct host_cgroup **ret, struct err *err)
{
    return cgroup_get(path, true, ret, err);
}

int host_cgroup_open(const char *path, struct host_cgroup **ret, struct err *err)
{
    return cgroup_get(path, false, ret, err);
}

void host_cgroup_close(struct host_cgroup *cgroup)
{
    if (!cgroup)
        return;
    for (unsigned i = 0; i < HOST_CONTROLLERS; i++)
        fd_closep(&cgroup->fds[i]);
    free(cgroup->path);
    free(cgroup);
}

int host_cgroup_remove(struct host_cgroup *cgroup)
{
    int result = 0;

    for (unsigned i = 0; i < (cgroup->v2 ? 1 : HOST_CONTROLLERS); i++) {
        char root[64], whole[PATH_MAX];

        root_of(root, sizeof(root), cgroup->v2, i);
        if ((size_t)snprintf(whole, sizeof(whole), "%s%s", root, cgroup->path) >= sizeof(whole))
            return -ENAMETOOLONG;
        if (rmdir(whole) < 0 && errno != ENOENT)
            result = -errno;
    }
    return result;
}

int host_cgroup_write(const struct host_cgroup *cgroup, enum host_controller controller,
                      const char *file, const char *value, struct err *err)
{
    int fd = host_cgroup_directory(cgroup, controller), r;

    if (fd < 0)
        return err_set(err, -EOPNOTSUPP, "cgroup '%s': the host has no controller %s for it",
                       cgroup->path, controllers[controller]);
    r = file_write_string(fd, file, value);
    if (r == -ENOENT)
        return err_set(err, -EOPNOTSUPP, "cgroup '%s': the kernel has no %s", cgroup->path, file);
    if (r < 0)
        return err_errno(err, r, "cgroup '%s': write '%s' to %s", cgroup->path, value, file);
    return 0;
}

int host_cgroup_attach(struct host_cgroup *cgroup, pid_t pid, struct err *err)
{
    char value[32];

    snprintf(value, sizeof(value), "%d", pid);
    for (unsigned i = 0; i < HOST_CONTROLLERS; i++) {
        int r;

        if (cgroup->fds[i] < 0)
            continue;
        r = file_write_string(cgroup->fds[i], "cgroup.procs", value);
        if (r < 0)
            return err_errno(err, r, "put process %d into cgroup '%s'", pid, cgroup->path);
    }
    return 0;
}

int host_cgroup_set_memory_high(struct host_cgroup *cgroup, uint64_t high_bytes, struct err *err)
{
    char value[32];

    if (high_bytes == UINT64_MAX)
        snprintf(value, sizeof(value), "%s", cgroup->v2 ? "max" : "-1");
    else
        snprintf(value, sizeof(value), "%" PRIu64, high_bytes);
    return host_cgroup_write(cgroup, HOST_MEMORY,
                             cgroup->v2 ? "memory.high" : "memory.soft_limit_in_bytes", value, err);
}

/* A file that is not there reads as empty, one that is longer as its beginning. */
static const char *read_text(int fd, const char *file, char text[STAT_MAX])
{
    CLEANUP(fd_closep) int opened = fd < 0 ? -1 : openat(fd, file, O_RDONLY | O_CLOEXEC);
    ssize_t length = opened < 0 ? 0 : file_read_full(opened, text, STAT_MAX - 1);

    text[length > 0 ? length : 0] = '\0';
    return text;
}

uint64_t host_read_number(int fd, const char *file)
{
    char buf[STAT_MAX];
    const char *text = read_text(fd, file, buf);
    uint64_t value;

    return sscanf(text, "%" SCNu64, &value) == 1 ? value : HOST_NOT_COUNTED;
}

/* A new period is written without a quota, since the old one may not be allowed with it. */
static int set_quota_v1(struct host_cgroup *cgroup, const struct allocation_cgroup *cpu,
                        struct err *err)
{
    char quota[32], period[32];
    int r = 0;

    snprintf(period, sizeof(period), "%" PRIu64, cpu->period_us);
    snprintf(quota, sizeof(quota), "%" PRId64, cpu->quota_us);
    if (host_read_number(cgroup->fds[HOST_CPU], "cpu.cfs_period_us") != cpu->period_us) {
        r = host_cgroup_write(cgroup, HOST_CPU, "cpu.cfs_quota_us", "-1", err);
        if (r >= 0)
            r = host_cgroup_write(cgroup, HOST_CPU, "cpu.cfs_period_us", period, err);
    }
    return r < 0 ? r : host_cgroup_write(cgroup, HOST_CPU, "cpu.cfs_quota_us", quota, err);
}

int host_cgroup_set_cpu(struct host_cgroup *cgroup, const struct allocation_cgroup *cpu,
                        struct err *err)
{
    char value[64];
    int r;

    snprintf(value, sizeof(value), "%" PRIu64, cgroup->v2 ? cpu->v2_weight : cpu->v1_shares);
    r = host_cgroup_write(cgroup, HOST_CPU, cgroup->v2 ? "cpu.weight" : "cpu.shares", value, err);
    if (r < 0)
        return r;
    if (!cgroup->v2)
        return set_quota_v1(cgroup, cpu, err);
    if (cpu->quota_us > 0)
        snprintf(value, sizeof(value), "%" PRId64 " %" PRIu64, cpu->quota_us, cpu->period_us);
    else
        snprintf(value, sizeof(value), "max %" PRIu64, cpu->period_us);
    return host_cgroup_write(cgroup, HOST_CPU, "cpu.max", value, err);
}

/* "name value" on a line of its own. */
static uint64_t read_field(const char *text, const char *name)
{
    size_t length = strlen(name);

    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        uint64_t value;

        line += *line == '\n';
        if (!strncmp(line, name, length) && line[length] == ' ' &&
            sscanf(line + length, "%" SCNu64, &value) == 1)
            return value;
    }
    return HOST_NOT_COUNTED;
}

uint64_t host_read_field(int fd, const char *file, const char *name)
{
    char text[STAT_MAX];

    return read_field(read_text(fd, file, text), name);
}

static uint64_t scaled(uint64_t value, uint64_t factor)
{
    return value == HOST_NOT_COUNTED ? value : value * factor;
}

static uint64_t sum(uint64_t a, uint64_t b)
{
    return a == HOST_NOT_COUNTED || b == HOST_NOT_COUNTED ? HOST_NOT_COUNTED : a + b;
}

static double read_pressure(int fd, const char *file)
{
    char buf[STAT_MAX];
    double value;

    return sscanf(read_text(fd, file, buf), "some avg10=%lf", &value) == 1 ? value / 100 : -1;
}

static bool is_frozen(const struct host_cgroup *cgroup, bool frozen)
{
    char buf[STAT_MAX];
    const char *text;

    if (cgroup->v2)
        return read_field(read_text(cgroup->fds[0], "cgroup.events", buf), "frozen") == frozen;
    text = read_text(cgroup->fds[HOST_FREEZER], "freezer.state", buf);
    return !strncmp(text, frozen ? "FROZEN" : "THAWED", 6);
}

int host_cgroup_set_frozen(struct host_cgroup *cgroup, bool frozen, struct err *err)
{
    uint64_t deadline = clock_monotonic_ns() + FREEZE_LIMIT;
    const char *file = cgroup->v2 ? "cgroup.freeze" : "freezer.state";
    const char *values[2] = {cgroup->v2 ? "0" : "THAWED", cgroup->v2 ? "1" : "FROZEN"};

    for (;;) {
        int r = host_cgroup_write(cgroup, HOST_FREEZER, file, values[frozen], err);

        if (r < 0 || is_frozen(cgroup, frozen))
            return r;
        if (clock_monotonic_ns() > deadline)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    host_cgroup_write(cgroup, HOST_FREEZER, file, values[0], NULL);
    return err_set(err, -ETIMEDOUT, "cgroup '%s': the kernel does not %s it", cgroup->path,
                   frozen ? "freeze" : "thaw");
}

static void read_v1(const struct host_cgroup *cgroup, struct host_figures *figures)
{
    char memory[STAT_MAX];
    const char *text;

    figures->cpu_ns = host_read_number(cgroup->fds[HOST_CPUACCT], "cpuacct.usage");
    figures->memory_bytes = host_read_number(cgroup->fds[HOST_MEMORY], "memory.usage_in_bytes");
    figures->reclaimed = host_read_number(cgroup->fds[HOST_MEMORY], "memory.failcnt");
    text = read_text(cgroup->fds[HOST_MEMORY], "memory.stat", memory);
    figures->file_bytes = sum(read_field(text, "total_inactive_file"),
                              read_field(text, "total_active_file"));
}

static void read_v2(const struct host_cgroup *cgroup, struct host_figures *figures)
{
    char memory[STAT_MAX];
    const char *text = read_text(cgroup->fds[0], "memory.stat", memory);

    figures->memory_bytes = host_read_number(cgroup->fds[0], "memory.current");
    figures->file_bytes = sum(read_field(text, "inactive_file"), read_field(text, "active_file"));
    figures->reclaimed = read_field(text, "pgscan");
    figures->cpu_pressure = read_pressure(cgroup->fds[0], "cpu.pressure");
    figures->memory_pressure = read_pressure(cgroup->fds[0], "memory.pressure");
    figures->io_pressure = read_pressure(cgroup->fds[0], "io.pressure");
}

int host_cgroup_read(const struct host_cgroup *cgroup, struct host_figures *ret, struct err *err)
{
    char buf[STAT_MAX];
    const char *stat = read_text(host_cgroup_directory(cgroup, HOST_CPU), "cpu.stat", buf);
    struct host_figures figures = {.cpu_pressure = -1, .memory_pressure = -1, .io_pressure = -1};

    figures.periods = read_field(stat, "nr_periods");
    figures.throttled = read_field(stat, "nr_throttled");
    if (cgroup->v2) {
        figures.cpu_ns = scaled(read_field(stat, "usage_usec"), NS_PER_US);
        figures.throttled_ns = scaled(read_field(stat, "throttled_usec"), NS_PER_US);
        read_v2(cgroup, &figures);
    } else {
        figures.throttled_ns = read_field(stat, "throttled_time");
        read_v1(cgroup, &figures);
    }
    if (figures.cpu_ns == HOST_NOT_COUNTED)
        return err_set(err, -EOPNOTSUPP, "cgroup '%s': the kernel does not count processor time",
                       cgroup->path);
    *ret = figures;
    return 0;
}
