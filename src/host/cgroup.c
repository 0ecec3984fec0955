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

#define FREEZE_LIMIT (10 * NS_PER_S)
#define STAT_MAX     HOST_STAT_MAX

static const char *const controllers[] = {"cpu",   "cpuacct", "memory", "freezer",
                                          "blkio", "cpuset",  "unified"};

static bool is_v2(const char *root)
{
    char path[PATH_MAX];

    return (size_t)snprintf(path, sizeof(path), "%s/cgroup.controllers", root) < sizeof(path) &&
           access(path, F_OK) == 0;
}

/* -ENAMETOOLONG. */
static int directory_of(char ret[PATH_MAX], const struct host_cgroup *cgroup, unsigned controller,
                        const char *path)
{
    int n = cgroup->v2
                ? snprintf(ret, PATH_MAX, "%s%s", cgroup->root, path)
                : snprintf(ret, PATH_MAX, "%s/%s%s", cgroup->root, controllers[controller], path);

    return n < PATH_MAX ? 0 : -ENAMETOOLONG;
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

/* A version 1 cpuset takes no process before it has processors and memory nodes. */
static void inherit_cpuset(const char *directory)
{
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
    CLEANUP(fd_closep) int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(fd_closep) int parent = fd < 0 ? -1 : openat(fd, "..", O_RDONLY | O_CLOEXEC);

    for (unsigned i = 0; parent >= 0 && i < ARRAY_LEN(files); i++) {
        char text[STAT_MAX];

        if (host_read_text(fd, files[i], text)[0] > '\n')
            continue;
        file_write_string(fd, files[i], host_read_text(parent, files[i], text));
    }
}

static int make_path(const struct host_cgroup *cgroup, unsigned controller)
{
    bool hands_on = cgroup->v2 || controller == HOST_UNIFIED;
    char whole[PATH_MAX];
    size_t at;

    if (directory_of(whole, cgroup, controller, "") < 0 ||
        directory_of(whole, cgroup, controller, cgroup->path) < 0)
        return -ENAMETOOLONG;
    for (at = strlen(whole) - strlen(cgroup->path) + 1;; at++) {
        char end = whole[at];

        if (end && end != '/')
            continue;
        whole[at] = '\0';
        if (hands_on) {
            char *slash = strrchr(whole, '/');

            *slash = '\0';
            hand_on_controllers(whole);
            *slash = '/';
        }
        if (mkdir(whole, 0755) < 0 && errno != EEXIST)
            return -errno;
        if (!cgroup->v2 && controller == HOST_CPUSET)
            inherit_cpuset(whole);
        whole[at] = end;
        if (!end)
            return 0;
    }
}

static int open_directories(struct host_cgroup *cgroup)
{
    int found = 0;

    for (unsigned i = 0; i < (cgroup->v2 ? 1 : HOST_CONTROLLERS); i++) {
        char whole[PATH_MAX];

        if (directory_of(whole, cgroup, i, cgroup->path) < 0)
            return -ENAMETOOLONG;
        cgroup->fds[i] = open(whole, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        found += cgroup->fds[i] >= 0;
    }
    return found ? 0 : -ENOENT;
}

static int cgroup_get(const char *root, const char *path, bool make, struct host_cgroup **ret,
                      struct err *err)
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
    cgroup->v2 = is_v2(root);
    cgroup->path = strdup(path);
    cgroup->root = strdup(root);
    if (!cgroup->path || !cgroup->root)
        return err_set(err, -ENOMEM, "cgroup '%s': out of memory", path);
    for (unsigned i = 0; make && i < (cgroup->v2 ? 1 : HOST_CONTROLLERS); i++) {
        r = make_path(cgroup, i);
        if (r < 0 && r != -ENOENT && !(r == -EROFS && i))
            return err_errno(err, r, "make cgroup '%s' below %s (%s)", path, root,
                             cgroup->v2 ? "version 2" : controllers[i]);
    }
    r = open_directories(cgroup);
    if (r < 0)
        return err_errno(err, r, "open cgroup '%s'", path);
    *ret = TAKE_PTR(cgroup);
    return 0;
}

int host_cgroup_make_at(const char *root, const char *path, struct host_cgroup **ret,
                        struct err *err)
{
    return cgroup_get(root, path, true, ret, err);
}

int host_cgroup_open_at(const char *root, const char *path, struct host_cgroup **ret,
                        struct err *err)
{
    return cgroup_get(root, path, false, ret, err);
}

int host_cgroup_make(const char *path, struct host_cgroup **ret, struct err *err)
{
    return cgroup_get(HOST_CGROUP_ROOT, path, true, ret, err);
}

int host_cgroup_open(const char *path, struct host_cgroup **ret, struct err *err)
{
    return cgroup_get(HOST_CGROUP_ROOT, path, false, ret, err);
}

void host_cgroup_close(struct host_cgroup *cgroup)
{
    if (!cgroup)
        return;
    for (unsigned i = 0; i < HOST_CONTROLLERS; i++)
        fd_closep(&cgroup->fds[i]);
    free(cgroup->root);
    free(cgroup->path);
    free(cgroup);
}

int host_cgroup_remove(struct host_cgroup *cgroup)
{
    int result = 0;

    for (unsigned i = 0; i < (cgroup->v2 ? 1 : HOST_CONTROLLERS); i++) {
        char whole[PATH_MAX];

        if (directory_of(whole, cgroup, i, cgroup->path) < 0)
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
        if (r < 0 && !(i == HOST_UNIFIED && !cgroup->v2))
            return err_errno(err, r, "put process %d into cgroup '%s'", pid, cgroup->path);
    }
    return 0;
}

static int set_bytes(struct host_cgroup *cgroup, const char *file, uint64_t bytes, struct err *err)
{
    char value[32];

    if (bytes == UINT64_MAX)
        snprintf(value, sizeof(value), "%s", cgroup->v2 ? "max" : "-1");
    else
        snprintf(value, sizeof(value), "%" PRIu64, bytes);
    return host_cgroup_write(cgroup, HOST_MEMORY, file, value, err);
}

int host_cgroup_set_memory_high(struct host_cgroup *cgroup, uint64_t high_bytes, struct err *err)
{
    return set_bytes(cgroup, cgroup->v2 ? "memory.high" : "memory.soft_limit_in_bytes", high_bytes,
                     err);
}

const char *host_read_text(int fd, const char *file, char text[HOST_STAT_MAX])
{
    CLEANUP(fd_closep) int opened = fd < 0 ? -1 : openat(fd, file, O_RDONLY | O_CLOEXEC);
    ssize_t length = opened < 0 ? 0 : file_read_full(opened, text, STAT_MAX - 1);

    text[length > 0 ? length : 0] = '\0';
    return text;
}

int host_cgroup_set_memory_limit(struct host_cgroup *cgroup, uint64_t bytes, struct err *err)
{
    return set_bytes(cgroup, cgroup->v2 ? "memory.max" : "memory.limit_in_bytes", bytes, err);
}

int host_cgroup_set_cpuset(struct host_cgroup *cgroup, const char *list, struct err *err)
{
    int fd = host_cgroup_directory(cgroup, HOST_CPUSET);
    char text[STAT_MAX];

    if (!*list && !cgroup->v2) {
        CLEANUP(fd_closep) int parent = fd < 0 ? -1 : openat(fd, "..", O_RDONLY | O_CLOEXEC);

        list = host_read_text(parent, "cpuset.cpus", text);
    }
    return host_cgroup_write(cgroup, HOST_CPUSET, "cpuset.cpus", *list ? list : "\n", err);
}

/* The file that takes the weight; NULL: none does. */
static const char *io_weight_file(const struct host_cgroup *cgroup)
{
    static const char *const files[2][2] = {{"blkio.weight", "blkio.bfq.weight"},
                                            {"io.weight", "io.bfq.weight"}};
    int fd = host_cgroup_directory(cgroup, HOST_BLKIO);

    for (size_t i = 0; fd >= 0 && i < ARRAY_LEN(files[0]); i++)
        if (faccessat(fd, files[cgroup->v2][i], F_OK, 0) == 0)
            return files[cgroup->v2][i];
    return NULL;
}

int host_cgroup_check_io_weight(const struct host_cgroup *cgroup, struct err *err)
{
    if (io_weight_file(cgroup))
        return 0;
    return err_set(err, -EOPNOTSUPP,
                   "this host's kernel does not divide block devices by weight: cgroups have no %s",
                   cgroup->v2 ? "io.weight (the io controller) or io.bfq.weight (the BFQ scheduler)"
                              : "blkio.weight or blkio.bfq.weight (the BFQ scheduler)");
}

int host_cgroup_set_io_weight(struct host_cgroup *cgroup, uint64_t weight, struct err *err)
{
    const char *file = io_weight_file(cgroup);
    char value[32];

    if (!file)
        return host_cgroup_check_io_weight(cgroup, err);
    if (!strcmp(file, "io.weight")) /* 1 ... 10000 */
        weight = 1 + (weight - 10) * 9999 / 990;
    snprintf(value, sizeof(value), "%" PRIu64, weight);
    return host_cgroup_write(cgroup, HOST_BLKIO, file, value, err);
}

uint64_t host_read_number(int fd, const char *file)
{
    char buf[STAT_MAX];
    const char *text = host_read_text(fd, file, buf);
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

    return read_field(host_read_text(fd, file, text), name);
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

    return sscanf(host_read_text(fd, file, buf), "some avg10=%lf", &value) == 1 ? value / 100 : -1;
}

static bool is_frozen(const struct host_cgroup *cgroup, bool frozen)
{
    char buf[STAT_MAX];
    const char *text;

    if (cgroup->v2)
        return read_field(host_read_text(cgroup->fds[0], "cgroup.events", buf), "frozen") == frozen;
    text = host_read_text(cgroup->fds[HOST_FREEZER], "freezer.state", buf);
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

int host_cgroup_is_frozen(const struct host_cgroup *cgroup)
{
    bool frozen = is_frozen(cgroup, true);

    return frozen || is_frozen(cgroup, false) ? frozen : -ENOENT;
}

static void read_pressures(int fd, struct host_figures *figures)
{
    figures->cpu_pressure = read_pressure(fd, "cpu.pressure");
    figures->memory_pressure = read_pressure(fd, "memory.pressure");
    figures->io_pressure = read_pressure(fd, "io.pressure");
}

/* Lines of "MAJOR:MINOR Read N"; those of the whole (Total) are sums of these. */
static uint64_t sum_v1_io(int fd, const char *file)
{
    char buf[STAT_MAX];
    const char *line = host_read_text(fd, file, buf);
    uint64_t total = 0;

    if (!*line)
        return HOST_NOT_COUNTED;
    for (; line; line = strchr(line, '\n')) {
        char what[16];
        uint64_t value;

        line += *line == '\n';
        if (sscanf(line, "%*u:%*u %15s %" SCNu64, what, &value) == 2 &&
            (!strcmp(what, "Read") || !strcmp(what, "Write")))
            total += value;
    }
    return total;
}

/* "MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N ...": the sum of the members with these names. */
static uint64_t sum_v2_io(const char *text, const char *read, const char *written)
{
    const char *const names[] = {read, written};
    uint64_t total = 0;

    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        for (const char *at = strstr(text, names[i]); at; at = strstr(at + 1, names[i]))
            total += strtoull(at + strlen(names[i]), NULL, 10);
    return total;
}

static void read_v1(const struct host_cgroup *cgroup, struct host_figures *figures)
{
    char memory[STAT_MAX];
    const char *text;

    figures->cpu_ns = host_read_number(cgroup->fds[HOST_CPUACCT], "cpuacct.usage");
    figures->memory_bytes = host_read_number(cgroup->fds[HOST_MEMORY], "memory.usage_in_bytes");
    figures->reclaimed = host_read_number(cgroup->fds[HOST_MEMORY], "memory.failcnt");
    text = host_read_text(cgroup->fds[HOST_MEMORY], "memory.stat", memory);
    figures->file_bytes = sum(read_field(text, "total_inactive_file"),
                              read_field(text, "total_active_file"));
    figures->io_requests = sum_v1_io(cgroup->fds[HOST_BLKIO],
                                     "blkio.throttle.io_serviced_recursive");
    figures->io_bytes = sum_v1_io(cgroup->fds[HOST_BLKIO],
                                  "blkio.throttle.io_service_bytes_recursive");
    read_pressures(cgroup->fds[HOST_UNIFIED], figures);
}

static void read_v2(const struct host_cgroup *cgroup, struct host_figures *figures)
{
    char memory[STAT_MAX];
    const char *text = host_read_text(cgroup->fds[0], "memory.stat", memory);

    figures->memory_bytes = host_read_number(cgroup->fds[0], "memory.current");
    figures->file_bytes = sum(read_field(text, "inactive_file"), read_field(text, "active_file"));
    figures->reclaimed = read_field(text, "pgscan");
    text = host_read_text(cgroup->fds[0], "io.stat", memory);
    figures->io_requests = sum_v2_io(text, " rios=", " wios=");
    figures->io_bytes = sum_v2_io(text, " rbytes=", " wbytes=");
    read_pressures(cgroup->fds[0], figures);
}

int host_cgroup_read(const struct host_cgroup *cgroup, struct host_figures *ret, struct err *err)
{
    char buf[STAT_MAX];
    const char *stat = host_read_text(host_cgroup_directory(cgroup, HOST_CPU), "cpu.stat", buf);
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
