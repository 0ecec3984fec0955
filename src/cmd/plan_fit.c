/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge plan fit: how many more of an instance there is room for. Three may say no, each by the
 * manager's own rules: admission (reservations against hosts with overcommit, and against the
 * environment's quota), placement (room on one host, constraints), and how busy a host shall be.
 * The answer is the smallest of the three, with who breaks first and why.
 */
#include "cmd/plan_fleet.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>

/* What this machine has left: processors less what the last minute used, memory that is available,
 * room in the current directory's file system. */
static int this_host(const struct plan_arguments *arguments, struct fleet **ret, struct err *err)
{
    double cores = get_nprocs(), loads[1] = {0}, memory = 0, need[3] = {0};
    struct fleet_kind *kind;
    struct statvfs fs;
    CLEANUP(buf_donep) struct buf text;
    const char *at, *string;
    int r;

    buf_init(&text, 65536);
    if ((r = file_load(AT_FDCWD, "/proc/meminfo", &text, err)) < 0)
        return r;
    string = buf_string(&text);
    at = string ? strstr(string, "MemAvailable:") : NULL;
    memory = at ? strtod(at + strlen("MemAvailable:"), NULL) / 1024 : 0;
    if (statvfs(".", &fs) < 0)
        return err_errno(err, -errno, "room on disk");
    if (getloadavg(loads, 1) < 1)
        loads[0] = 0;
    if ((r = plan_number(arguments, "cpus", .001, 4e6, &need[0], err)) < 0 ||
        (r = plan_number(arguments, "memory", 1, 4e9, &need[1], err)) < 0 ||
        (r = plan_number(arguments, "disk", 0, 4e9, &need[2], err)) < 0)
        return r;
    if (need[0] <= 0 || need[1] <= 0)
        return err_set(err, -EINVAL,
                       "either a file, or --cpus and --memory of one instance are needed");
    if ((r = fleet_of_host(cores, memory,
                           fmin((double)fs.f_bavail * (double)fs.f_frsize / 1048576, 4e9), ret,
                           err)) < 0)
        return r;
    kind = &(*ret)->kinds[0];
    snprintf(kind->name, sizeof(kind->name), "instance");
    for (unsigned i = 0; i < 3; i++)
        kind->need.need[i] = (uint32_t)llround(need[i] * (i == 0 ? 1000 : 1));
    (*ret)->host_busy[0] = fmin(loads[0], cores);
    kind->dirty_rate = -1;
    kind->busy = need[0]; /* until measured: all that it may */
    return plan_number(arguments, "busy", 0, 1e6, &kind->busy, err);
}

int plan_fleet_kind(const struct plan_arguments *arguments, const struct fleet *fleet,
                    size_t *ret_kind, struct err *err)
{
    const char *name = plan_value(arguments, "instance");
    size_t kind = 0;

    if (fleet->nr_kinds == 0)
        return err_set(err, -EINVAL, "instances: the kind of instance to add is not in the file");
    while (name && kind < fleet->nr_kinds && strcmp(fleet->kinds[kind].name, name) != 0)
        kind++;
    if (kind == fleet->nr_kinds)
        return err_set(err, -EINVAL, "--instance: there is no kind '%.40s' in the file", name);
    *ret_kind = kind;
    return 0;
}

static const char *first_short(const struct fleet_fit *fit)
{
    static const char *const names[] = {"processors", "memory", "disk"};
    unsigned worst = 0;

    for (unsigned i = 1; i < PLACEMENT_RESOURCES; i++)
        if (fit->short_of[i] > fit->short_of[worst])
            worst = i;
    return fit->forbidden > fit->short_of[worst] ? "constraints" : names[worst];
}

static const char *refused_resource(const struct admission_answer *refusal)
{
    if (refusal->by_count)
        return "the number of instances";
    return refusal->resource == ALLOCATION_CPU ? "processors" : "memory";
}

static json_t *count(uint64_t copies)
{
    return copies == UINT64_MAX ? json_null() : json_integer((json_int_t)copies);
}

static int fit(const struct plan_arguments *arguments, json_t **ret, struct err *err)
{
    CLEANUP(fleet_freep) struct fleet *fleet = NULL;
    double busy_most = .8, most = 1e6;
    struct fleet_fit answer;
    uint64_t found;
    size_t kind = 0;
    bool busy_first, admission_first;
    int r = arguments->nr_positionals ? plan_read_fleet(arguments, &fleet, err)
                                      : this_host(arguments, &fleet, err);

    if (r < 0 || (r = plan_number(arguments, "busy-most", .01, 10, &busy_most, err)) < 0 ||
        (r = plan_number(arguments, "most", 1, 1e7, &most, err)) < 0 ||
        (arguments->nr_positionals && (r = fleet_place_all(fleet, err)) < 0))
        return r;
    if ((r = plan_fleet_kind(arguments, fleet, &kind, err)) < 0 ||
        (r = fleet_fit(fleet, kind, busy_most, (uint64_t)most, &answer, err)) < 0)
        return r;
    found = MIN(answer.copies, answer.copies_ok);
    busy_first = answer.copies_ok < answer.copies && answer.copies_ok < answer.admitted;
    admission_first = !busy_first && answer.admitted <= found && *answer.because;
    *ret = json_pack("{s:s, s:I, s:s, s:s}", "instance", fleet->kinds[kind].name, "more_that_fit",
                     (json_int_t)fleet_fit_more(&answer), "breaks_first",
                     busy_first                        ? "busy processors"
                     : admission_first                 ? refused_resource(&answer.refusal)
                     : answer.copies == (uint64_t)most ? "nothing: --most is reached"
                                                       : first_short(&answer),
                     "who_says_no",
                     busy_first        ? "--busy-most"
                     : admission_first ? "admission"
                                       : "placement");
    if (admission_first)
        json_object_set_new(*ret, "because", json_string(answer.because));
    json_object_set_new(*ret, "by_admission", count(answer.admitted));
    json_object_set_new(*ret, "by_reservation", count(answer.copies));
    if (fleet->kinds[kind].busy > 0)
        json_object_set_new(*ret, "by_busy_processors", count(answer.copies_ok));
    json_object_set_new(*ret, "hosts_short_of",
                        json_pack("{s:i, s:i, s:i, s:i}", "processors", (int)answer.short_of[0],
                                  "memory", (int)answer.short_of[1], "disk",
                                  (int)answer.short_of[2], "forbidden", (int)answer.forbidden));
    if (busy_first)
        json_object_set_new(*ret, "busiest_host", json_string(fleet->host_names[answer.busy_host]));
    json_object_set_new(*ret, "hosts_when_full", plan_host_rows(fleet));
    return 0;
}

static const struct plan_option fit_options[] = {
    {"instance", "NAME", "kind in the file to add; the first"},
    {"cpus", "N", "without a file: cores of one instance on this host"},
    {"memory", "MIB", "without a file: its memory"},
    {"disk", "MIB", "without a file: its disk"},
    {"busy", "N", "without a file: cores that it really uses; all of its"},
    {"busy-most", "SHARE", "hosts shall not be busier than this; 0.8"},
    {"most", "N", "stop there"},
    {NULL},
};

const struct plan_command plan_fit = {
    .name = "fit",
    .usage = "[OPTION...] [FLEET.json]",
    .summary = "how many more of an instance there is room for, and what breaks first",
    .text = "Without a file: on this host, with the memory and processors that are free now.\n",
    .options = fit_options,
    .run = fit,
};
