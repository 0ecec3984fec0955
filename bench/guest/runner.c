/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of bench/cpu.py, and its measure on the bare host: does rows on request, one
 * line in, one line out. As process 1 it sets the guest up first, and powers it off at the end.
 *
 *   in    ROW [SCALE]                      quit
 *   out   =ready    =done ROW WALL_NS CPU_NS CHECKSUM    =fail ROW: WHAT
 *
 * Between a line out and the next line in the guest sleeps: whoever reads the host's clocks then
 * gets exactly the row's cost. `runner ROW...` does these rows and prints them.
 */
#include "work.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static char row[64];

void work_fail(const char *what)
{
    printf("=fail %s: %s\n", row, what);
    fflush(stdout);
    if (getpid() == 1)
        reboot(RB_POWER_OFF);
    exit(1);
}

static const struct work *work_find(const char *name)
{
    static const struct work *const tables[] = {work_integer, work_sse2,   work_avx2,
                                                work_x87,     work_system, work_programs};

    for (unsigned i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
        for (const struct work *work = tables[i]; work->name; work++)
            if (!strcmp(work->name, name))
                return work;
    return NULL;
}

static uint64_t wall_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t usage_ns(int who)
{
    struct rusage usage;

    getrusage(who, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000u +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000u;
}

static uint64_t cpu_ns(void)
{
    return usage_ns(RUSAGE_SELF) + usage_ns(RUSAGE_CHILDREN);
}

static void row_run(unsigned scale)
{
    const struct work *work = work_find(row);
    uint64_t wall, cpu, checksum;

    if (!work)
        work_fail("no such row");
    wall = wall_ns();
    cpu = cpu_ns();
    checksum = work->run(scale);
    cpu = cpu_ns() - cpu;
    wall = wall_ns() - wall;
    printf("=done %s %llu %llu %016llx\n", row, (unsigned long long)wall, (unsigned long long)cpu,
           (unsigned long long)checksum);
    fflush(stdout);
}

static void guest_prepare(void)
{
    struct termios terminal;

    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    mount("tmpfs", "/tmp", "tmpfs", 0, NULL);
    if (!tcgetattr(0, &terminal)) {
        cfmakeraw(&terminal);
        tcsetattr(0, TCSANOW, &terminal);
    }
}

int main(int argc, char **argv)
{
    char line[128];

    if (getpid() == 1) {
        guest_prepare();
        argc = 1; /* the kernel passes on what it does not know */
    }
    if (chdir("/tmp"))
        work_fail("chdir /tmp");
    for (int i = 1; i < argc; i++) {
        snprintf(row, sizeof(row), "%s", argv[i]);
        row_run(1);
    }
    if (argc > 1)
        return 0;
    printf("=ready\n");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin) && strncmp(line, "quit", 4) != 0) {
        unsigned scale = 1;

        if (sscanf(line, "%63s %u", row, &scale) >= 1)
            row_run(scale);
    }
    if (getpid() == 1)
        reboot(RB_POWER_OFF);
    return 0;
}
