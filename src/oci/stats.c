/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One object from many small files. A controller that the host does not have leaves its member
 * empty. Times are nanoseconds, sizes bytes.
 */
#include "oci/stats.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"
#include "oci/cgroup.h"
#include "oci/container_open.h"
#include "oci/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

DEFINE_CLEANUP(cgroup_freep, struct cgroup *, cgroup_free);
DEFINE_CLEANUP(state_freep, struct container_state *, state_free);

#define FILE_SIZE_MAX (256 * KIB)

/* The file's text from whichever hierarchy has it; false: none has. */
static bool read_file(const struct cgroup *cgroup, const char *file, struct buf *ret)
{
    ret->length = 0;
    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++)
        if (cgroup->hierarchies[i].fd >= 0 &&
            file_load(cgroup->hierarchies[i].fd, file, ret, NULL) == 0)
            return buf_string(ret) != NULL;
    return false;
}

/* JSON's integers are signed; "max" and what lies beyond are the largest. */
static json_int_t number_of(const char *text)
{
    unsigned long long value = strncmp(text, "max", 3) == 0 ? INT64_MAX : strtoull(text, NULL, 10);

    return (json_int_t)MIN(value, (unsigned long long)INT64_MAX);
}

static void set(json_t *object, const char *name, json_int_t value)
{
    json_object_set_new(object, name, json_integer(value));
}

static bool set_from_file(json_t *object, const char *name, const struct cgroup *cgroup,
                          const char *file)
{
    CLEANUP(buf_donep) struct buf text;

    buf_init(&text, FILE_SIZE_MAX);
    if (!read_file(cgroup, file, &text))
        return false;
    set(object, name, number_of(text.data));
    return true;
}

/* "key number" lines as an object. New reference, empty when the file is not there. */
static json_t *flat_file(const struct cgroup *cgroup, const char *file)
{
    CLEANUP(buf_donep) struct buf text;
    json_t *object = json_object();
    char *save = NULL;

    buf_init(&text, FILE_SIZE_MAX);
    if (!read_file(cgroup, file, &text))
        return object;
    for (char *line = strtok_r(text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *space = strchr(line, ' ');

        if (!space)
            continue;
        *space = '\0';
        set(object, line, number_of(space + 1));
    }
    return object;
}

static json_int_t member(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

static json_t *numbers_of(const char *text)
{
    json_t *list = json_array();

    while (*text) {
        char *end;
        unsigned long long value = strtoull(text, &end, 10);

        if (end == text)
            break;
        json_array_append_new(list, json_integer((json_int_t)value));
        text = end;
    }
    return list;
}

static void add_throttling(json_t *cpu, const json_t *stat, bool v2)
{
    json_t *throttling = json_object();

    if (member(stat, "nr_periods")) {
        set(throttling, "periods", member(stat, "nr_periods"));
        set(throttling, "throttledPeriods", member(stat, "nr_throttled"));
        set(throttling, "throttledTime",
            v2 ? member(stat, "throttled_usec") * 1000 : member(stat, "throttled_time"));
    }
    json_object_set_new(cpu, "throttling", throttling);
}

static json_t *cpu_stats(const struct cgroup *cgroup)
{
    bool v2 = cgroup->layout == CGROUP_LAYOUT_V2;
    json_t *cpu = json_object(), *usage = json_object();
    json_t *stat = flat_file(cgroup, "cpu.stat");
    CLEANUP(buf_donep) struct buf text;

    buf_init(&text, FILE_SIZE_MAX);
    if (v2) {
        set(usage, "total", member(stat, "usage_usec") * 1000);
        set(usage, "kernel", member(stat, "system_usec") * 1000);
        set(usage, "user", member(stat, "user_usec") * 1000);
    } else {
        json_t *ticks = flat_file(cgroup, "cpuacct.stat");
        long hz = sysconf(_SC_CLK_TCK);
        json_int_t tick_ns = 1000000000 / (hz > 0 ? hz : 100);

        set_from_file(usage, "total", cgroup, "cpuacct.usage");
        if (read_file(cgroup, "cpuacct.usage_percpu", &text))
            json_object_set_new(usage, "percpu", numbers_of(text.data));
        set(usage, "kernel", member(ticks, "system") * tick_ns);
        set(usage, "user", member(ticks, "user") * tick_ns);
        json_decref(ticks);
    }
    json_object_set_new(cpu, "usage", usage);
    add_throttling(cpu, stat, v2);
    json_decref(stat);
    return cpu;
}

static json_t *memory_entry(const struct cgroup *cgroup, const char *limit, const char *usage,
                            const char *max, const char *failures)
{
    json_t *entry = json_object();

    if (!set_from_file(entry, "limit", cgroup, limit))
        return entry;
    set_from_file(entry, "usage", cgroup, usage);
    set_from_file(entry, "max", cgroup, max);
    if (!failures || !set_from_file(entry, "failcnt", cgroup, failures))
        set(entry, "failcnt", 0);
    return entry;
}

static json_t *memory_stats(const struct cgroup *cgroup, uint64_t *ret_oom_kills)
{
    bool v2 = cgroup->layout == CGROUP_LAYOUT_V2;
    json_t *memory = json_object(), *raw = flat_file(cgroup, "memory.stat");
    json_t *events = flat_file(cgroup, v2 ? "memory.events" : "memory.oom_control");

    *ret_oom_kills = (uint64_t)member(events, "oom_kill");
    json_decref(events);
    set(memory, "cache", member(raw, v2 ? "file" : "cache"));
    if (v2) {
        json_object_set_new(
            memory, "usage",
            memory_entry(cgroup, "memory.max", "memory.current", "memory.peak", NULL));
        json_object_set_new(memory, "swap",
                            memory_entry(cgroup, "memory.swap.max", "memory.swap.current",
                                         "memory.swap.peak", NULL));
    } else {
        json_object_set_new(memory, "usage",
                            memory_entry(cgroup, "memory.limit_in_bytes", "memory.usage_in_bytes",
                                         "memory.max_usage_in_bytes", "memory.failcnt"));
        json_object_set_new(
            memory, "swap",
            memory_entry(cgroup, "memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes",
                         "memory.memsw.max_usage_in_bytes", "memory.memsw.failcnt"));
        json_object_set_new(memory, "kernel",
                            memory_entry(cgroup, "memory.kmem.limit_in_bytes",
                                         "memory.kmem.usage_in_bytes",
                                         "memory.kmem.max_usage_in_bytes", "memory.kmem.failcnt"));
    }
    json_object_set_new(memory, "raw", raw);
    return memory;
}

static json_t *pids_stats(const struct cgroup *cgroup)
{
    CLEANUP(buf_donep) struct buf text;
    json_t *pids = json_object();

    buf_init(&text, 256);
    set_from_file(pids, "current", cgroup, "pids.current");
    if (read_file(cgroup, "pids.max", &text) && strncmp(text.data, "max", 3) != 0)
        set(pids, "limit", number_of(text.data));
    return pids;
}

/* v1 "8:0 Read 4096" lines; the total without a device is left out. */
static json_t *blkio_entries(const struct cgroup *cgroup, const char *file)
{
    CLEANUP(buf_donep) struct buf text;
    json_t *list = json_array();
    char *save = NULL;

    buf_init(&text, FILE_SIZE_MAX);
    if (!read_file(cgroup, file, &text))
        return list;
    for (char *line = strtok_r(text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        unsigned major, minor;
        unsigned long long value;
        char operation[16];

        if (sscanf(line, "%u:%u %15s %llu", &major, &minor, operation, &value) == 4)
            json_array_append_new(list, json_pack("{s:i, s:i, s:s, s:I}", "major", (int)major,
                                                  "minor", (int)minor, "op", operation, "value",
                                                  (json_int_t)value));
    }
    return list;
}

static json_t *blkio_stats(const struct cgroup *cgroup)
{
    static const struct {
        const char *name, *file;
    } files[] = {
        {"ioServiceBytesRecursive", "blkio.throttle.io_service_bytes_recursive"},
        {"ioServicedRecursive", "blkio.throttle.io_serviced_recursive"},
    };
    json_t *blkio = json_object();

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        json_t *list = blkio_entries(cgroup, files[i].file);

        if (json_array_size(list))
            json_object_set_new(blkio, files[i].name, list);
        else
            json_decref(list);
    }
    return blkio;
}

int container_stats(const char *root, const char *id, json_t **ret, uint64_t *ret_oom_kills,
                    struct err *err)
{
    CLEANUP(state_freep) struct container_state *state = NULL;
    CLEANUP(cgroup_freep) struct cgroup *cgroup = NULL;
    CLEANUP(fd_closep) int dir_fd = -1;
    int result = container_open(root, id, &dir_fd, &state, err);

    if (result < 0)
        return result;
    if (state_status(dir_fd, state) == CONTAINER_STOPPED)
        return err_set(err, -ESRCH, "container '%s' is not running", id);
    if (!state->cgroup_path)
        return err_set(err, -ENOTSUP, "container '%s' has no cgroup", id);
    if ((result = cgroup_open(state->cgroup_path, &cgroup, err)) < 0)
        return result;
    *ret = json_pack("{s:o, s:o, s:o, s:o, s:{}, s:{}, s:n}", "cpu", cpu_stats(cgroup), "memory",
                     memory_stats(cgroup, ret_oom_kills), "pids", pids_stats(cgroup), "blkio",
                     blkio_stats(cgroup), "hugetlb", "intel_rdt", "network_interfaces");
    return *ret ? 0 : err_set(err, -ENOMEM, "statistics: out of memory");
}
