/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a connection, answered by a whole manager: framing, routes, bodies, queries. Its
 * directory is its own and goes with it; it has no images but directories, and its programs are
 * false(1), so nothing runs.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "manager/manager.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* An answer beyond this is a stream that goes on. */
#define ANSWER_MAX  (256u << 10)
#define PATIENCE_US 50000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct manager *manager;
static char dir[] = "/tmp/lodge-fuzz-XXXXXX";
static struct sockaddr_un address = {.sun_family = AF_UNIX};

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void clean_up(void)
{
    manager_close(manager);
}

/* However we end, a child of ours sees that, and then the directory goes. */
static void mind_directory(void)
{
    int ends[2];
    char byte;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0 || (pid = fork()) < 0)
        abort();
    if (pid) {
        close(ends[0]); /* the other one is closed by our end */
        return;
    }
    close(ends[1]);
    setsid();
    while (read(ends[0], &byte, 1) < 0)
        ;
    nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    _exit(0);
}

static void start(void)
{
    static struct manager_options options = {
        .shim = "/bin/false", .lodge = "/bin/false", .version = "fuzz"};
    static struct store images;
    struct err err = ERR_INIT;

    signal(SIGPIPE, SIG_IGN);
    log_init("fuzz", LOG_LEVEL_ERROR);
    log_set_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
    if (!mkdtemp(dir))
        abort();
    mind_directory();
    snprintf(options.state_dir, sizeof(options.state_dir), "%s/state", dir);
    snprintf(options.runtime_dir, sizeof(options.runtime_dir), "%s/run", dir);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/sock", dir);
    mkdir(options.state_dir, 0700);
    mkdir(options.runtime_dir, 0700);
    options.images = &images;
    options.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(options.listen_fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(options.listen_fd, 16) < 0 || manager_open(&options, &manager, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    atexit(clean_up);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct timeval patience = {.tv_usec = PATIENCE_US};
    CLEANUP(fd_closep) int fd = -1;
    static char answer[65536];
    size_t total = 0;
    ssize_t n;

    if (!manager)
        start();
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        abort();
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    for (size_t sent = 0; sent < size; sent += (size_t)n)
        if ((n = send(fd, data + sent, size - sent, MSG_NOSIGNAL)) <= 0)
            break;
    shutdown(fd, SHUT_WR);
    while (total < ANSWER_MAX && (n = recv(fd, answer, sizeof(answer), 0)) > 0)
        total += (size_t)n;
    return 0;
}
