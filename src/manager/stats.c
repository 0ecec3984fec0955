/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a few lines each, read anew for each question; nothing is kept. */
#include "manager/stats.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/util.h"
#include "host/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GUEST_MS 2000

static char *load(struct buf *text, const char *path)
{
    text->length = 0;
    return file_load(AT_FDCWD, path, text, NULL) == 0 ? buf_string(text) : NULL;
}

/* The file of a controller: version 1 (or hybrid) first, then version 2's own name for it. */
static char *load_cgroup(struct buf *text, const char *cgroup, const char *controller,
                         const char *v1, const char *v2)
{
    char path[256], *found;

    snprintf(path, sizeof(path), "/sys/fs/cgroup/%s%s/%s", controller, cgroup, v1);
    if ((found = load(text, path)))
        return found;
    snprintf(path, sizeof(path), "/sys/fs/cgroup%s/%s", cgroup, v2);
    return load(text, path);
}

/* "max", and version 1's largest number: none. */
static uint64_t limit_of(const char *text)
{
    uint64_t number;

    if (!text || *text < '0' || *text > '9')
        return STATS_UNKNOWN;
    number = strtoull(text, NULL, 10);
    return number >= UINT64_C(1) << 62 ? STATS_UNKNOWN : number;
}

/* The sum of what stands behind each `word` in lines of any form. */
static uint64_t sum_after(const char *text, const char *word)
{
    uint64_t sum = 0;

    while ((text = strstr(text, word))) {
        text += strlen(word);
        sum += strtoull(text, NULL, 10);
    }
    return sum;
}

static void read_cgroup(struct stats *stats, struct manager *m, const char *id)
{
    CLEANUP(host_cgroup_closep) struct host_cgroup *cgroup = NULL;
    CLEANUP(buf_donep) struct buf text;
    struct host_figures figures;
    char path[ENVIRONMENT_PATH_MAX], *found;
    uint32_t tasks;

    buf_init(&text, 1 << 20);
    instance_cgroup_path_of(m, id, path);
    if (host_cgroup_open(path, &cgroup, NULL) < 0 || host_cgroup_read(cgroup, &figures, NULL) < 0)
        return;
    stats->cpu_ns = figures.cpu_ns;
    stats->throttled_ns = figures.throttled_ns;
    stats->throttled_periods = figures.throttled;
    stats->memory_bytes = figures.memory_bytes;
    stats->reclaimed = figures.reclaimed;
    stats->io_requests = figures.io_requests;
    host_cgroup_waiting(cgroup, &stats->waiting_ns, &tasks, NULL);
    stats->pressure[0] = figures.cpu_pressure;
    stats->pressure[1] = figures.memory_pressure;
    stats->pressure[2] = figures.io_pressure;
    stats->memory_limit_bytes =
        limit_of(load_cgroup(&text, path, "memory", "memory.limit_in_bytes", "memory.max"));
    if ((found = load_cgroup(&text, path, "pids", "pids.current", "pids.current")))
        stats->pids = limit_of(found);
    if ((found = load_cgroup(&text, path, "blkio", "blkio.throttle.io_service_bytes_recursive",
                             "io.stat"))) {
        bool v1 = strstr(found, "Total");

        stats->block_read_bytes = sum_after(found, v1 ? " Read " : "rbytes=");
        stats->block_written_bytes = sum_after(found, v1 ? " Write " : "wbytes=");
    }
}

/* Of the network namespace that the process is in: all interfaces but the loopback. */
static void read_network(struct stats *stats, pid_t pid)
{
    CLEANUP(buf_donep) struct buf text;
    char path[64], *line, *rest;

    buf_init(&text, 1 << 20);
    snprintf(path, sizeof(path), "/proc/%d/net/dev", (int)pid);
    if (pid <= 0 || !load(&text, path))
        return;
    stats->net_received_bytes = stats->net_sent_bytes = 0;
    for (line = strtok_r(text.data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        unsigned long long in, out;
        char name[64];

        if (sscanf(line, " %63[^:]: %llu %*u %*u %*u %*u %*u %*u %*u %llu", name, &in, &out) != 3 ||
            !strcmp(name, "lo"))
            continue;
        stats->net_received_bytes += in;
        stats->net_sent_bytes += out;
    }
}

/* A process's own: for a monitor whose VM is in no cgroup of its own. */
static void read_process(struct stats *stats, pid_t pid)
{
    unsigned long long user, kernel, resident;
    CLEANUP(buf_donep) struct buf text;
    char path[64], *found;

    buf_init(&text, 65536);
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if ((found = load(&text, path)) && (found = strrchr(found, ')')) &&
        sscanf(found + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
               &kernel) == 2)
        stats->cpu_ns = (user + kernel) * (NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
    snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    if ((found = load(&text, path)) && sscanf(found, "%*u %llu", &resident) == 1)
        stats->memory_bytes = resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t figure(const char *text, const char *name)
{
    size_t length = strlen(name);

    for (; text; text = strchr(text, '\n'), text = text ? text + 1 : NULL)
        if (!strncmp(text, name, length) && text[length] == ' ')
            return limit_of(text + length + 1);
    return STATS_UNKNOWN;
}

/* What the guest says: numbers, to be shown and no more. */
static void read_guest(struct manager *m, const char *id, struct stats *stats)
{
    CLEANUP(buf_donep) struct buf text;
    uint64_t total, available;
    const char *said;

    buf_init(&text, 65536);
    if (guest_ask(m, id, "figures", &text, GUEST_MS, NULL) < 0 || !(said = buf_string(&text)))
        return;
    total = figure(said, "memory_total_bytes");
    available = figure(said, "memory_available_bytes");
    if (total != STATS_UNKNOWN && available <= total)
        stats->guest_memory_bytes = total - available;
    stats->pids = figure(said, "tasks");
    stats->block_read_bytes = figure(said, "block_read_bytes");
    stats->block_written_bytes = figure(said, "block_written_bytes");
    stats->net_received_bytes = figure(said, "net_received_bytes");
    stats->net_sent_bytes = figure(said, "net_sent_bytes");
}

int stats_read(struct manager *m, const char *id, bool vm, pid_t pid, bool ask_guest,
               struct stats *ret, struct err *err)
{
    struct stats stats;
    json_t *status = NULL;
    int result;

    memset(&stats, 0xff, sizeof(stats)); /* STATS_UNKNOWN everywhere */
    for (size_t i = 0; i < ARRAY_LEN(stats.pressure); i++)
        stats.pressure[i] = -1;
    if (!vm) {
        read_cgroup(&stats, m, id);
        read_network(&stats, pid);
        if (stats.cpu_ns == STATS_UNKNOWN)
            return err_set(err, -ESRCH, "it has ended meanwhile");
        *ret = stats;
        return 0;
    }
    if ((result = vm_ask(m, id, json_pack("{s:s}", "command", "status"), &status, err)) < 0)
        return result;
    read_process(&stats, (pid_t)json_integer_value(json_object_get(status, "pid")));
    {
        struct stats counted = stats;

        counted.cpu_ns = STATS_UNKNOWN;
        read_cgroup(&counted, m, id);
        stats.throttled_ns = counted.throttled_ns;
        stats.throttled_periods = counted.throttled_periods;
        stats.waiting_ns = counted.waiting_ns;
        stats.reclaimed = counted.reclaimed;
        stats.io_requests = counted.io_requests;
        memcpy(stats.pressure, counted.pressure, sizeof(stats.pressure));
    }
    stats.memory_limit_bytes =
        (uint64_t)json_integer_value(json_object_get(status, "memory_bytes"));
    json_decref(status);
    if (ask_guest)
        read_guest(m, id, &stats);
    *ret = stats;
    return 0;
}

static void put(struct buf *to, const char *name, uint64_t value)
{
    if (value == STATS_UNKNOWN)
        buf_printf(to, "\"%s\": null, ", name);
    else
        buf_printf(to, "\"%s\": %llu, ", name, (unsigned long long)value);
}

void stats_write_json(struct buf *to, const struct stats *stats)
{
    static const char *const names[] = {"cpu", "memory", "io"};

    put(to, "cpu_ns", stats->cpu_ns);
    put(to, "throttled_ns", stats->throttled_ns);
    put(to, "throttled_periods", stats->throttled_periods);
    put(to, "waiting_ns", stats->waiting_ns);
    put(to, "reclaimed", stats->reclaimed);
    put(to, "io_requests", stats->io_requests);
    put(to, "memory_bytes", stats->memory_bytes);
    put(to, "memory_limit_bytes", stats->memory_limit_bytes);
    put(to, "guest_memory_bytes", stats->guest_memory_bytes);
    put(to, "pids", stats->pids);
    put(to, "block_read_bytes", stats->block_read_bytes);
    put(to, "block_written_bytes", stats->block_written_bytes);
    put(to, "net_received_bytes", stats->net_received_bytes);
    put(to, "net_sent_bytes", stats->net_sent_bytes);
    buf_append_string(to, "\"pressure\": {");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (stats->pressure[i] < 0)
            buf_printf(to, "%s\"%s\": null", i ? ", " : "", names[i]);
        else
            buf_printf(to, "%s\"%s\": %.4f", i ? ", " : "", names[i], stats->pressure[i]);
    }
    buf_append(to, "}", 1);
}
