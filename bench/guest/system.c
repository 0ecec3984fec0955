/* SPDX-License-Identifier: Apache-2.0 */
/* What a kernel is asked to do most: calls, faults, mappings, pipes, signals, processes. */
#include "work.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t run_getppid(unsigned scale)
{
    for (unsigned i = 0; i < 300000 * scale; i++)
        syscall(SYS_getppid);
    return 1;
}

static uint64_t run_fault(unsigned scale)
{
    const size_t size = 4096 * 4096;
    uint64_t sum = 0;

    for (unsigned round = 0; round < 6 * scale; round++) {
        char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (map == MAP_FAILED || madvise(map, size, MADV_NOHUGEPAGE))
            work_fail("fault: mmap");
        for (size_t at = 0; at < size; at += 4096)
            map[at + at / 4096 % 4096] = (char)(at >> 12);
        for (size_t at = 0; at < size; at += 4096)
            sum += (unsigned char)map[at + at / 4096 % 4096];
        munmap(map, size);
    }
    return sum;
}

static uint64_t run_mmap(unsigned scale)
{
    for (unsigned i = 0; i < 20000 * scale; i++) {
        void *map = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (map == MAP_FAILED || munmap(map, 65536))
            work_fail("mmap: mmap");
    }
    return 1;
}

/* Two processes on one CPU, a byte to and fro. */
static uint64_t run_pipe(unsigned scale)
{
    unsigned rounds = 8000 * scale;
    int there[2], back[2], status;
    cpu_set_t one, before;
    uint64_t sum = 0;
    pid_t child;

    CPU_ZERO(&one);
    sched_getaffinity(0, sizeof(before), &before);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &before)) {
            CPU_SET(i, &one);
            break;
        }
    if (pipe(there) || pipe(back))
        work_fail("pipe: pipe");
    sched_setaffinity(0, sizeof(one), &one);
    child = fork();
    if (child < 0)
        work_fail("pipe: fork");
    if (!child) {
        unsigned char c;

        for (unsigned i = 0; i < rounds; i++) {
            if (read(there[0], &c, 1) != 1)
                _exit(1);
            c = (unsigned char)(c * 5 + 1);
            if (write(back[1], &c, 1) != 1)
                _exit(1);
        }
        _exit(0);
    }
    for (unsigned i = 0; i < rounds; i++) {
        unsigned char c = (unsigned char)i;

        if (write(there[1], &c, 1) != 1 || read(back[0], &c, 1) != 1)
            work_fail("pipe: write or read");
        sum = sum * 3 + c;
    }
    waitpid(child, &status, 0);
    sched_setaffinity(0, sizeof(before), &before);
    for (unsigned i = 0; i < 2; i++) {
        close(there[i]);
        close(back[i]);
    }
    return status ? 0 : sum;
}

static volatile uint64_t signals;

static void signal_count(int number)
{
    signals += (uint64_t)number;
}

static uint64_t run_signal(unsigned scale)
{
    struct sigaction action = {.sa_handler = signal_count}, before;
    pid_t self = getpid();

    signals = 0;
    sigaction(SIGUSR1, &action, &before);
    for (unsigned i = 0; i < 20000 * scale; i++)
        kill(self, SIGUSR1);
    sigaction(SIGUSR1, &before, NULL);
    return signals;
}

static uint64_t run_fork(unsigned scale)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < 200 * scale; i++) {
        int status;
        pid_t child = fork();

        if (child < 0)
            work_fail("fork: fork");
        if (!child)
            _exit((int)(i & 63));
        waitpid(child, &status, 0);
        sum += (uint64_t)WEXITSTATUS(status);
    }
    return sum;
}

const struct work work_system[] = {
    {"getppid", run_getppid}, {"fault", run_fault}, {"mmap", run_mmap}, {"pipe", run_pipe},
    {"signal", run_signal},   {"fork", run_fork},   {NULL, NULL},
};
