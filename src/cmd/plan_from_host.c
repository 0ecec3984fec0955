/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge plan from-host: a scenario from what the host counts while a service runs, and from a log
 * of its requests. The processor's demand is counted processor time by request (the utilisation
 * law), which a busy neighbour does not falsify as it would the clock's time.
 */
#include "cmd/plan.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"
#include "model/observe.h"
#include "model/queueing.h"
#include "model/stats.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#define LOG_BYTES_MAX (256u << 20)

struct requests_log {
    double *arrivals; /* sorted */
    size_t nr, capacity;
    struct tally between, response, service;
    bool has_response, has_service;
};

static void log_done(struct requests_log *log)
{
    free(log->arrivals);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static int log_line(struct requests_log *log, const char *path, unsigned line, const char *text,
                    const int columns[3], struct err *err)
{
    double values[3] = {0};
    int cell = 0;

    for (const char *p = text;; p++, cell++) {
        for (unsigned i = 0; i < 3; i++) {
            char *end;

            if (columns[i] != cell)
                continue;
            values[i] = strtod(p, &end);
            if (end == p || !(values[i] >= 0 && values[i] < 1e12) || (*end && *end != ','))
                return err_set(err, -EINVAL, "%s:%u: '%.30s' is not a time of at least 0", path,
                               line, p);
        }
        p += strcspn(p, ",");
        if (!*p)
            break;
    }
    for (unsigned i = 0; i < 3; i++)
        if (columns[i] > cell)
            return err_set(err, -EINVAL, "%s:%u: too few columns", path, line);
    if (log->nr == log->capacity) {
        size_t capacity = log->capacity ? 2 * log->capacity : 1024;
        double *arrivals = reallocarray(log->arrivals, capacity, sizeof(*arrivals));

        if (!arrivals)
            return err_set(err, -ENOMEM, "read '%s'", path);
        log->arrivals = arrivals;
        log->capacity = capacity;
    }
    log->arrivals[log->nr++] = values[0];
    if (columns[1] >= 0)
        tally_add(&log->response, values[1]);
    if (columns[2] >= 0)
        tally_add(&log->service, values[2]);
    return 0;
}

/* CSV: arrival[,response][,service], named in the first line. */
static int log_load(const char *path, struct requests_log *log, struct err *err)
{
    static const char *const names[] = {"arrival", "response", "service"};
    CLEANUP(buf_donep) struct buf text;
    int columns[3] = {-1, -1, -1}, r;
    char *line, *state = NULL, *string;
    unsigned number = 0;

    buf_init(&text, LOG_BYTES_MAX);
    if ((r = file_load(AT_FDCWD, path, &text, err)) < 0)
        return r;
    if (!(string = buf_string(&text)))
        return err_set(err, -ENOMEM, "read '%s'", path);
    for (line = strtok_r(string, "\r\n", &state); line; line = strtok_r(NULL, "\r\n", &state)) {
        if (number++ > 0) {
            if ((r = log_line(log, path, number, line, columns, err)) < 0)
                return r;
            continue;
        }
        for (int cell = 0; *line; cell++) {
            size_t length = strcspn(line, ",");

            for (unsigned i = 0; i < 3; i++)
                if (strlen(names[i]) == length && !strncmp(names[i], line, length))
                    columns[i] = cell;
            line += length + (line[length] == ',');
        }
        if (columns[0] < 0)
            return err_set(err, -EINVAL, "%s:1: the header must name the column arrival", path);
    }
    if (log->nr < 10)
        return err_set(err, -EINVAL, "%s: %zu requests are too few to learn from", path, log->nr);
    log->has_response = columns[1] >= 0;
    log->has_service = columns[2] >= 0;
    qsort(log->arrivals, log->nr, sizeof(*log->arrivals), by_value);
    for (size_t i = 1; i < log->nr; i++)
        tally_add(&log->between, log->arrivals[i] - log->arrivals[i - 1]);
    return 0;
}

static int choose_target(const struct plan_arguments *arguments, struct observe_target *target,
                         struct err *err)
{
    const char *cgroup = plan_value(arguments, "cgroup");
    double pid = 0;
    int r = plan_number(arguments, "pid", 1, 1e9, &pid, err);

    if (r < 0)
        return r;
    if (pid > 0)
        return observe_process((pid_t)pid, target, err);
    if (cgroup)
        return observe_cgroup(cgroup, target, err);
    observe_host(target);
    return 0;
}

/* Until the time is over, or the process given with --while has ended. */
static int watch(const struct plan_arguments *arguments, const struct observe_target *target,
                 struct observe_sample *ret, struct err *err)
{
    double seconds = 10, until = 0;
    struct observe_sample first, last;
    int r;

    if ((r = plan_number(arguments, "seconds", .01, 1e6, &seconds, err)) < 0 ||
        (r = plan_number(arguments, "while", 1, 1e9, &until, err)) < 0 ||
        (r = observe_take(target, &first, err)) < 0)
        return r;
    if (until > 0) {
        while (kill((pid_t)until, 0) == 0)
            usleep(20000);
    } else {
        struct timespec left = {(time_t)seconds, (long)(fmod(seconds, 1) * 1e9)};

        while (nanosleep(&left, &left) < 0 && errno == EINTR)
            ;
    }
    if ((r = observe_take(target, &last, err)) < 0)
        return r;
    observe_difference(&first, &last, ret);
    return 0;
}

static json_t *measured(const struct observe_sample *s)
{
    double time = (double)s->time_ns * 1e-9;
    json_t *m = json_pack("{s:f, s:f, s:f}", "seconds", time, "processor_seconds", s->cpu_s,
                          "processors_busy", s->cpu_s / time);

    if (s->has & OBSERVE_LIMIT)
        json_object_set_new(m, "throttled_seconds", json_real(s->throttled_s));
    if (s->has & OBSERVE_PSI) {
        json_object_set_new(m, "processor_stalled_seconds", json_real(s->cpu_stalled_s));
        json_object_set_new(m, "io_stalled_seconds", json_real(s->io_stalled_s));
    }
    if (s->has & OBSERVE_IO) {
        json_object_set_new(m, "io_per_second", json_real(s->io_operations / time));
        json_object_set_new(m, "io_bytes_per_second", json_real(s->io_bytes / time));
    }
    if (s->has & OBSERVE_NET)
        json_object_set_new(m, "network_bytes_per_second", json_real(s->net_bytes / time));
    return m;
}

/*
 * How service varies: measured, or read off the mean response by turning the waiting formula round:
 * Wq = C / (c mu - lambda) (ca2 + cs2) / 2.
 */
static double service_scv(const struct requests_log *log, double rate, double demand,
                          uint64_t servers)
{
    struct queueing_result q;
    double ca2 = tally_scv(&log->between);

    if (log->has_service)
        return tally_scv(&log->service);
    if (!log->has_response || queueing_mmc(rate, 1 / demand, servers, &q, NULL) < 0 ||
        q.utilisation < .05)
        return 1;
    return fmin(fmax(2 * (log->response.mean - demand) / q.wait - ca2, 0), 20);
}

/* What the response has beyond the processor: links, other services, the scheduler. */
static double other_time(const struct requests_log *log, double rate, double demand, double scv,
                         uint64_t servers)
{
    struct queueing_result q;

    if (!log->has_response || !log->has_service ||
        queueing_ggc(rate, 1 / demand, servers, tally_scv(&log->between), scv, &q, NULL) < 0)
        return 0;
    return fmax(log->response.mean - q.response, 0);
}

static json_t *make_scenario(const struct plan_arguments *arguments, const struct requests_log *log,
                             const struct observe_sample *s, double completions, double servers)
{
    double time = (double)s->time_ns * 1e-9, demand = s->cpu_s / completions, scv = 1, other = 0,
           rate = log->nr > 1 && log->between.mean > 0 ? 1 / log->between.mean : completions / time;
    const char *name = plan_value(arguments, "name");
    json_t *demands, *stations, *arrivals;
    const char *kind = plan_value(arguments, "shared") ? "shared" : "queue";

    if (log->nr > 1) {
        scv = service_scv(log, rate, demand, (uint64_t)servers);
        other = other_time(log, rate, demand, scv, (uint64_t)servers);
    }
    stations = json_pack("[{s:s, s:s, s:i}]", "name", "cpu", "kind", kind, "servers", (int)servers);
    demands = json_pack("{s:{s:f, s:f}}", "cpu", "mean", demand, "scv", scv);
    if (other > demand / 100) {
        json_array_append_new(stations, json_pack("{s:s, s:s}", "name", "other", "kind", "delay"));
        json_object_set_new(demands, "other", json_real(other));
    }
    arrivals = json_pack("{s:f, s:f}", "rate", rate, "scv",
                         log->nr > 1 ? tally_scv(&log->between) : 1.0);
    return json_pack("{s:s, s:o, s:[{s:s, s:o, s:o}]}", "name", name ? name : "measured",
                     "stations", stations, "classes", "name", "request", "arrivals", arrivals,
                     "demands", demands);
}

static int from_host(const struct plan_arguments *arguments, json_t **ret, struct err *err)
{
    CLEANUP(log_done) struct requests_log log = {0};
    const char *path = plan_value(arguments, "log");
    double completions = 0, servers = 1;
    struct observe_target target;
    struct observe_sample sample;
    json_t *about;
    int r;

    if ((r = plan_number(arguments, "completions", 1, 1e15, &completions, err)) < 0 ||
        (r = plan_number(arguments, "servers", 1, 1e5, &servers, err)) < 0 ||
        (r = choose_target(arguments, &target, err)) < 0 ||
        (r = watch(arguments, &target, &sample, err)) < 0)
        return r;
    if (path && (r = log_load(path, &log, err)) < 0)
        return r;
    if (log.nr > 0 && completions <= 0)
        completions = (double)log.nr;
    about = measured(&sample);
    if (completions <= 0) { /* no requests are known: what is counted, and room left */
        *ret = json_pack("{s:i, s:o}", "processors", get_nprocs(), "measured", about);
        return 0;
    }
    if (sample.cpu_s <= 0) {
        json_decref(about);
        return err_set(err, -ENODATA, "no processor time was used in that time");
    }
    *ret = make_scenario(arguments, &log, &sample, completions, servers);
    json_object_set_new(about, "completions", json_real(completions));
    if (log.has_response)
        json_object_set_new(about, "mean_response", json_real(log.response.mean));
    json_object_set_new(*ret, "measured", about);
    return 0;
}

static const struct plan_option options[] = {
    {"pid", "PID", "a process of the container"},
    {"cgroup", "PATH", "the container's cgroup; without either the whole host"},
    {"seconds", "T", "how long to watch; 10"},
    {"while", "PID", "watch until that process (the load) has ended"},
    {"log", "FILE", "requests of that time: arrival[,response][,service] with a header, seconds"},
    {"completions", "N", "requests of that time, without a log"},
    {"servers", "N", "requests that the service works on at once; 1"},
    {"shared", NULL, "it works on all at once (threads), not one after the other"},
    {"name", "WORD", "of the scenario"},
    {NULL},
};

const struct plan_command plan_from_host = {
    .name = "from-host",
    .usage = "[OPTION...]",
    .summary = "a scenario for predict from what the host counts while a service runs",
    .text = "Write it with --json > SCENARIO.json; its member `measured` says what was counted.\n",
    .options = options,
    .run = from_host,
};
