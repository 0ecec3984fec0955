/* SPDX-License-Identifier: Apache-2.0 */
#include "manager/figures.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/util.h"
#include "manager/internal.h"

#include <errno.h>
#include <stddef.h>

/* Each costs a few dozen reads of small files. */
#define METRICS_MAX 512

int figures_read(struct manager *m, const struct instance *instance, struct instance_figures *ret,
                 struct err *err)
{
    CLEANUP(host_cgroup_closep) struct host_cgroup *cgroup = NULL;
    struct instance_figures figures = {0};
    char path[ENVIRONMENT_PATH_MAX];
    int result;

    instance_cgroup_path(m, instance, path);
    if (host_cgroup_open(path, &cgroup, NULL) < 0)
        return err_set(err, -ESRCH, "'%s' does not run, or was started without rights to cgroups",
                       instance->name);
    if ((result = host_cgroup_read(cgroup, &figures.host, err)) < 0 ||
        (result = host_cgroup_waiting(cgroup, &figures.waited_ns, &figures.tasks, err)) < 0)
        return result;
    *ret = figures;
    return 0;
}

static const struct {
    const char *name, *help;
    size_t offset;
} counts[] = {
    {"run_ns", "processor time used", offsetof(struct instance_figures, host.cpu_ns)},
    {"waiting_ns", "ready to run, without a processor",
     offsetof(struct instance_figures, waited_ns)},
    {"throttled_ns", "stopped by a cap", offsetof(struct instance_figures, host.throttled_ns)},
    {"throttled_periods", "periods in which a cap stopped it",
     offsetof(struct instance_figures, host.throttled)},
    {"periods", "periods in which a cap was in force",
     offsetof(struct instance_figures, host.periods)},
    {"reclaimed", "pages looked at to be reclaimed, or times the limit of memory was met",
     offsetof(struct instance_figures, host.reclaimed)},
    {"memory_bytes", "memory held", offsetof(struct instance_figures, host.memory_bytes)},
    {"reclaimable_bytes", "of it: pages of files",
     offsetof(struct instance_figures, host.file_bytes)},
    {"io_requests", "requests to block devices",
     offsetof(struct instance_figures, host.io_requests)},
    {"io_bytes", "bytes of them", offsetof(struct instance_figures, host.io_bytes)},
};

static const struct {
    const char *name;
    size_t offset;
} pressures[] = {
    {"cpu", offsetof(struct instance_figures, host.cpu_pressure)},
    {"memory", offsetof(struct instance_figures, host.memory_pressure)},
    {"io", offsetof(struct instance_figures, host.io_pressure)},
};

static uint64_t count_of(const struct instance_figures *figures, size_t i)
{
    return *(const uint64_t *)(const void *)((const char *)figures + counts[i].offset);
}

static double pressure_of(const struct instance_figures *figures, size_t i)
{
    return *(const double *)(const void *)((const char *)figures + pressures[i].offset);
}

void figures_write(struct buf *to, const struct instance_figures *figures)
{
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        uint64_t value = count_of(figures, i);

        buf_printf(to, "\"%s\": ", counts[i].name);
        if (value == UINT64_MAX)
            buf_append_string(to, "null, ");
        else
            buf_printf(to, "%llu, ", (unsigned long long)value);
    }
    buf_printf(to, "\"tasks\": %u, \"pressure\": {", figures->tasks);
    for (size_t i = 0; i < ARRAY_LEN(pressures); i++) {
        double value = pressure_of(figures, i);

        buf_printf(to, "%s\"%s\": ", i ? ", " : "", pressures[i].name);
        if (value < 0)
            buf_append_string(to, "null");
        else
            buf_printf(to, "%.4f", value);
    }
    buf_append(to, "}", 1);
}

struct reading {
    struct instance *instance;
    struct instance_figures figures;
    char name[SPEC_NAME_MAX + 1];
};

static size_t take_running(struct manager *m, struct reading *readings)
{
    size_t nr = 0;

    pthread_mutex_lock(&m->lock);
    for (struct instance *at = m->first; at && nr < METRICS_MAX; at = at->next) {
        if (at->row.state != INSTANCE_RUNNING && at->row.state != INSTANCE_PAUSED)
            continue;
        instance_ref_locked(at);
        snprintf(readings[nr].name, sizeof(readings[nr].name), "%s", at->name);
        readings[nr++].instance = at;
    }
    pthread_mutex_unlock(&m->lock);
    return nr;
}

/* As Prometheus wants its names: what only grows ends in _total, and times are in seconds. */
static void write_family(struct buf *to, size_t k, const struct reading *readings, size_t nr)
{
    const char *name = counts[k].name;
    size_t length = strlen(name);
    bool gauge = strstr(name, "able_bytes") || strstr(name, "memory_");
    bool time = length > 3 && !strcmp(name + length - 3, "_ns");
    bool begun = false;
    char full[80];

    snprintf(full, sizeof(full), "lodge_instance_%.*s%s%s", (int)(time ? length - 3 : length), name,
             time ? "_seconds" : "", gauge ? "" : "_total");
    for (size_t i = 0; i < nr; i++) {
        uint64_t value = count_of(&readings[i].figures, k);

        if (value == UINT64_MAX)
            continue;
        if (!begun)
            buf_printf(to, "# HELP %s Of an instance: %s.\n# TYPE %s %s\n", full, counts[k].help,
                       full, gauge ? "gauge" : "counter");
        begun = true;
        buf_printf(to, "%s{instance=\"%s\"} ", full, readings[i].name);
        if (time)
            buf_printf(to, "%.9f\n", (double)value / (double)NS_PER_S);
        else
            buf_printf(to, "%llu\n", (unsigned long long)value);
    }
}

void figures_metrics(struct manager *m, struct buf *to)
{
    CLEANUP(freep) struct reading *readings = calloc(METRICS_MAX, sizeof(*readings));
    size_t nr = readings ? take_running(m, readings) : 0, kept = 0;

    for (size_t i = 0; i < nr; i++) {
        struct instance *instance = readings[i].instance;
        bool good = figures_read(m, instance, &readings[i].figures, NULL) == 0;

        instance_unref(m, instance);
        if (good)
            readings[kept++] = readings[i];
    }
    for (size_t k = 0; k < ARRAY_LEN(counts); k++)
        write_family(to, k, readings, kept);
    if (kept)
        buf_append_string(to, "# HELP lodge_instance_pressure Part of time in which a task stalled."
                              "\n# TYPE lodge_instance_pressure gauge\n");
    for (size_t k = 0; k < ARRAY_LEN(pressures); k++)
        for (size_t i = 0; i < kept; i++)
            if (pressure_of(&readings[i].figures, k) >= 0)
                buf_printf(to, "lodge_instance_pressure{instance=\"%s\",resource=\"%s\"} %.4f\n",
                           readings[i].name, pressures[k].name,
                           pressure_of(&readings[i].figures, k));
}
