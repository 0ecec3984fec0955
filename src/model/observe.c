/* SPDX-License-Identifier: Apache-2.0 */
/* Counters are read by what their lines begin with; an unknown line is passed over. */
#include "model/observe.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_MAX (4u << 20)

/* The file's text, or NULL; the caller frees it. */
static char *load(const char *directory, const char *name)
{
    CLEANUP(buf_donep) struct buf text;
    char path[PATH_MAX + 64];
    const char *string;

    buf_init(&text, TEXT_MAX);
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    if (file_load(AT_FDCWD, path, &text, NULL) < 0)
        return NULL;
    string = buf_string(&text);
    return string ? strdup(string) : NULL;
}

/* The number after "name " at the beginning of a line, or after " name=" anywhere; summed. */
static bool sum_after(const char *text, const char *name, double *sum)
{
    size_t length = strlen(name);
    bool found = false;

    for (const char *at = text; (at = strstr(at, name)); at += length) {
        bool begins = at == text || at[-1] == '\n' || at[-1] == ' ';

        if (!begins || (at[length] != ' ' && at[length] != '='))
            continue;
        *sum += strtod(at + length + 1, NULL);
        found = true;
    }
    return found;
}

static bool read_sum(const char *directory, const char *file, const char *name, double scale,
                     double *ret)
{
    CLEANUP(freep) char *text = load(directory, file);
    double sum = 0;

    if (!text || !sum_after(text, name, &sum))
        return false;
    *ret += sum * scale;
    return true;
}

/* "some avg10=0.00 avg60=0.00 avg300=0.00 total=123": microseconds */
static bool read_pressure(const char *directory, const char *file, double *ret)
{
    CLEANUP(freep) char *text = load(directory, file);
    const char *total = text && !strncmp(text, "some", 4) ? strstr(text, "total=") : NULL;

    if (!total)
        return false;
    *ret = strtod(total + 6, NULL) * 1e-6;
    return true;
}

/* ---- targets ---- */

void observe_host(struct observe_target *ret)
{
    memset(ret, 0, sizeof(*ret));
}

static bool is_cgroup(const char *directory, const char *file)
{
    char path[PATH_MAX + 64];

    snprintf(path, sizeof(path), "%s/%s", directory, file);
    return access(path, R_OK) == 0;
}

int observe_cgroup(const char *path, struct observe_target *ret, struct err *err)
{
    static const char *const roots[] = {"", "/sys/fs/cgroup/", "/sys/fs/cgroup/cpuacct/",
                                        "/sys/fs/cgroup/cpu,cpuacct/", "/sys/fs/cgroup/unified/"};
    struct observe_target target = {.cpu_dir = ""};

    for (size_t i = 0; i < sizeof(roots) / sizeof(*roots); i++) {
        char directory[PATH_MAX];

        snprintf(directory, sizeof(directory), "%.64s%.3900s", roots[i], path);
        if (is_cgroup(directory, "cpuacct.usage")) {
            snprintf(target.cpu_dir, sizeof(target.cpu_dir), "%s", directory);
            if (i == 2 || i == 3)
                snprintf(target.io_dir, sizeof(target.io_dir), "/sys/fs/cgroup/blkio/%.3900s",
                         path);
            *ret = target;
            return 0;
        }
        if (is_cgroup(directory, "cpu.stat") && is_cgroup(directory, "cgroup.controllers")) {
            snprintf(target.cpu_dir, sizeof(target.cpu_dir), "%s", directory);
            snprintf(target.io_dir, sizeof(target.io_dir), "%s", directory);
            target.v2 = true;
            *ret = target;
            return 0;
        }
    }
    return err_set(err, -ENOENT, "'%.200s' is not a cgroup with processor time (cpuacct or v2)",
                   path);
}

int observe_process(pid_t pid, struct observe_target *ret, struct err *err)
{
    char name[64];
    CLEANUP(freep) char *text = NULL;
    char *state = NULL, v2[PATH_MAX] = "", v1[PATH_MAX] = "";
    int r;

    snprintf(name, sizeof(name), "%d/cgroup", (int)pid);
    if (!(text = load("/proc", name)))
        return err_set(err, -ENOENT, "there is no process %d", (int)pid);
    for (char *line = strtok_r(text, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
        char *controllers = strchr(line, ':'), *path;

        if (!controllers || !(path = strchr(++controllers, ':')))
            continue;
        *path++ = '\0';
        if (!*controllers)
            snprintf(v2, sizeof(v2), "%.4000s", path);
        else if (strstr(controllers, "cpuacct"))
            snprintf(v1, sizeof(v1), "%.4000s", path);
    }
    if (*v1)
        r = observe_cgroup(v1[1] ? v1 + 1 : ".", ret, err);
    else
        r = observe_cgroup(v2[0] && v2[1] ? v2 + 1 : ".", ret, err);
    if (r == 0)
        ret->pid = pid;
    return r;
}

/* ---- samples ---- */

static void take_host(struct observe_sample *s)
{
    CLEANUP(freep) char *stat = load("/proc", "stat");
    CLEANUP(freep) char *disks = load("/proc", "diskstats");
    double tick = 1.0 / (double)sysconf(_SC_CLK_TCK), user, nice_, system, idle, wait, irq, soft;

    if (stat && sscanf(stat, "cpu %lf %lf %lf %lf %lf %lf %lf", &user, &nice_, &system, &idle,
                       &wait, &irq, &soft) == 7) {
        s->cpu_s = (user + nice_ + system + irq + soft) * tick;
        s->has |= OBSERVE_CPU;
    }
    for (char *line = disks; line && *line; line = strchr(line, '\n'), line += line != NULL) {
        char name[64];
        double reads, read_sectors, writes, written_sectors;

        if (sscanf(line, " %*d %*d %63s %lf %*f %lf %*f %lf %*f %lf", name, &reads, &read_sectors,
                   &writes, &written_sectors) == 5) {
            s->io_operations += reads + writes;
            s->io_bytes += 512 * (read_sectors + written_sectors);
            s->has |= OBSERVE_IO;
        }
        if (!strchr(line, '\n'))
            break;
    }
    if (read_pressure("/proc/pressure", "cpu", &s->cpu_stalled_s) &&
        read_pressure("/proc/pressure", "io", &s->io_stalled_s))
        s->has |= OBSERVE_PSI;
}

static void take_v1(const struct observe_target *target, struct observe_sample *s)
{
    CLEANUP(freep) char *usage = load(target->cpu_dir, "cpuacct.usage");

    if (usage) {
        s->cpu_s = strtod(usage, NULL) * 1e-9;
        s->has |= OBSERVE_CPU;
    }
    if (read_sum(target->cpu_dir, "cpu.stat", "throttled_time", 1e-9, &s->throttled_s))
        s->has |= OBSERVE_LIMIT;
    if (*target->io_dir &&
        read_sum(target->io_dir, "blkio.throttle.io_serviced", "Total", 1, &s->io_operations) &&
        read_sum(target->io_dir, "blkio.throttle.io_service_bytes", "Total", 1, &s->io_bytes))
        s->has |= OBSERVE_IO;
}

static void take_v2(const struct observe_target *target, struct observe_sample *s)
{
    double reads = 0, writes = 0;

    if (read_sum(target->cpu_dir, "cpu.stat", "usage_usec", 1e-6, &s->cpu_s))
        s->has |= OBSERVE_CPU;
    if (read_sum(target->cpu_dir, "cpu.stat", "throttled_usec", 1e-6, &s->throttled_s))
        s->has |= OBSERVE_LIMIT;
    if (read_sum(target->io_dir, "io.stat", "rios", 1, &reads) &&
        read_sum(target->io_dir, "io.stat", "wios", 1, &writes)) {
        s->io_operations = reads + writes;
        read_sum(target->io_dir, "io.stat", "rbytes", 1, &s->io_bytes);
        read_sum(target->io_dir, "io.stat", "wbytes", 1, &s->io_bytes);
        s->has |= OBSERVE_IO;
    }
    if (read_pressure(target->cpu_dir, "cpu.pressure", &s->cpu_stalled_s) &&
        read_pressure(target->cpu_dir, "io.pressure", &s->io_stalled_s))
        s->has |= OBSERVE_PSI;
}

/* All interfaces but the loopback. */
static void take_net(pid_t pid, struct observe_sample *s)
{
    char name[64];
    CLEANUP(freep) char *text = NULL;
    char *state = NULL;

    if (pid > 0)
        snprintf(name, sizeof(name), "%d/net/dev", (int)pid);
    else
        snprintf(name, sizeof(name), "self/net/dev");
    if (!(text = load("/proc", name)))
        return;
    for (char *line = strtok_r(text, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
        char *colon = strchr(line, ':');
        double received, sent;

        if (!colon || strstr(line, " lo:"))
            continue;
        if (sscanf(colon + 1, "%lf %*f %*f %*f %*f %*f %*f %*f %lf", &received, &sent) == 2) {
            s->net_bytes += received + sent;
            s->has |= OBSERVE_NET;
        }
    }
}

int observe_take(const struct observe_target *target, struct observe_sample *ret, struct err *err)
{
    struct observe_sample sample = {.time_ns = clock_monotonic_ns()};

    if (!*target->cpu_dir)
        take_host(&sample);
    else if (target->v2)
        take_v2(target, &sample);
    else
        take_v1(target, &sample);
    take_net(target->pid, &sample);
    if (!(sample.has & OBSERVE_CPU))
        return err_set(err, -ENODATA, "no processor time can be read%s%s",
                       *target->cpu_dir ? " in " : "", target->cpu_dir);
    *ret = sample;
    return 0;
}

void observe_difference(const struct observe_sample *a, const struct observe_sample *b,
                        struct observe_sample *ret)
{
    *ret = (struct observe_sample){
        .time_ns = b->time_ns - a->time_ns,
        .has = a->has & b->has,
        .cpu_s = b->cpu_s - a->cpu_s,
        .throttled_s = b->throttled_s - a->throttled_s,
        .cpu_stalled_s = b->cpu_stalled_s - a->cpu_stalled_s,
        .io_stalled_s = b->io_stalled_s - a->io_stalled_s,
        .io_operations = b->io_operations - a->io_operations,
        .io_bytes = b->io_bytes - a->io_bytes,
        .net_bytes = b->net_bytes - a->net_bytes,
    };
}
