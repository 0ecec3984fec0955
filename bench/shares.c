/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Divides one processor among running instances by the policy, and reads from the kernel's counters
 * what they got (bench/shares.py starts the instances):
 *
 *   bench_shares SECONDS PRIORITY[:RESERVATION[:LIMIT]]=CGROUP|pid:PID ...
 *
 * SECONDS of processor time of all together are measured, from 0.2 s after the division was written
 * (two of the kernel's periods). A process named by pid (a VM) is put into a cgroup
 * /lodge/share-PID. Prints JSON.
 */
#include "host/division.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INSTANCES_MAX 32

static struct allocation_instance instances[INSTANCES_MAX];
static struct host_cgroup *cgroups[INSTANCES_MAX];
static size_t n;

static void fail(const char *what)
{
    fprintf(stderr, "bench_shares: %s\n", what);
    exit(1);
}

static void add(char *argument)
{
    struct allocation_instance *instance = &instances[n];
    char *place = strchr(argument, '='), *colon;
    struct err err = ERR_INIT;
    char path[64];
    int r;

    if (!place || n == INSTANCES_MAX)
        fail("PRIORITY[:RESERVATION[:LIMIT]]=CGROUP|pid:PID, at most 32");
    *place++ = '\0';
    instance->alpha = 1;
    for (unsigned k = 0; k < ALLOCATION_RESOURCES; k++)
        instance->limit[k] = ALLOCATION_UNLIMITED;
    instance->priority = strtod(argument, &colon);
    if (*colon == ':')
        instance->reservation[ALLOCATION_CPU] = strtod(colon + 1, &colon);
    if (*colon == ':')
        instance->limit[ALLOCATION_CPU] = strtod(colon + 1, &colon);
    if (!strncmp(place, "pid:", 4)) {
        pid_t pid = (pid_t)strtol(place + 4, NULL, 10);

        snprintf(path, sizeof(path), "/lodge/share-%d", pid);
        r = host_cgroup_make(path, &cgroups[n], &err);
        if (r >= 0)
            r = host_cgroup_attach(cgroups[n], pid, &err);
    } else {
        r = host_cgroup_open(place, &cgroups[n], &err);
    }
    if (r < 0)
        fail(err.message);
    n++;
}

static uint64_t read_all(struct host_figures *figures)
{
    struct err err = ERR_INIT;
    uint64_t total = 0;

    for (size_t i = 0; i < n; i++) {
        if (host_cgroup_read(cgroups[i], &figures[i], &err) < 0)
            fail(err.message);
        total += figures[i].cpu_ns;
    }
    return total;
}

static void let_use(double seconds, struct host_figures *figures)
{
    uint64_t start = read_all(figures), deadline = clock_monotonic_ns() + 600 * NS_PER_S;

    while ((double)(read_all(figures) - start) < seconds * 1e9) {
        if (clock_monotonic_ns() > deadline)
            fail("the instances use no processor time");
        usleep(5000);
    }
}

int main(int argc, char **argv)
{
    const struct allocation_policy policy = {.mode = ALLOCATION_STATIC};
    struct allocation_result results[INSTANCES_MAX];
    struct host_division division[INSTANCES_MAX];
    struct host_figures before[INSTANCES_MAX], after[INSTANCES_MAX];
    struct err err = ERR_INIT;
    double shares[INSTANCES_MAX], deviation;

    if (argc < 3)
        fail("SECONDS PRIORITY[:RESERVATION[:LIMIT]]=CGROUP|pid:PID ...");
    for (int i = 2; i < argc; i++)
        add(argv[i]);
    if (host_division_apply(1, &policy, instances, cgroups, n, results, division, &err) < 0)
        fail(err.message);
    let_use(0.2, before);
    let_use(strtod(argv[1], NULL), after);
    if (host_division_verify(division, before, after, n, shares, &deviation) < 0)
        fail("nothing was used");
    printf("{\"deviation\": %.5f, \"instances\": [", deviation);
    for (size_t i = 0; i < n; i++)
        printf("%s{\"expected\": %.5f, \"got\": %.5f, \"throttled_ns\": %llu}", i ? ", " : "",
               division[i].expected, shares[i],
               (unsigned long long)(after[i].throttled_ns - before[i].throttled_ns));
    puts("]}");
    for (size_t i = 0; i < n; i++)
        host_cgroup_close(cgroups[i]);
    return 0;
}
