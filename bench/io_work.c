/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What bench/net.sh and bench/blk.sh run inside the guest (static), and the host's end of the
 * network measurement. Times are taken on the host: a guest's clock is not to be trusted here.
 *
 *   io_work net-guest ADDRESS PORT      obeys the host: connections with a letter and a count
 *   io_work net-host ADDRESS PORT BYTES ROUNDS   prints one line a measurement; the stream to the
 *       guest twice where the host's own congestion control is another than the usual one: a
 *       paced one (BBR) measures how soon acknowledgements come, not how much the guest can take
 *   io_work random DEVICE READS         4 KiB reads at random places, one at a time, uncached
 *   io_work sequential DEVICE           reads it all through the page cache
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK    (256 << 10)
#define TCP_NAME 16 /* of the kernel's TCP_CA_NAME_MAX */

struct order {
    uint64_t what; /* 's'end, 'r'eceive, 'e'cho, 'q'uit: as the guest sees it */
    uint64_t count;
};

static char chunk[CHUNK] __attribute__((aligned(4096)));

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void put(int fd, const void *data, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = write(fd, (const char *)data + done, length - done);

        if (n <= 0)
            die("write");
        done += (size_t)n;
    }
}

static void get(int fd, void *data, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = read(fd, (char *)data + done, length - done);

        if (n <= 0)
            die("read");
        done += (size_t)n;
    }
}

static void stream_out(int fd, uint64_t count)
{
    for (uint64_t n; count; count -= n) {
        n = count < CHUNK ? count : CHUNK;
        put(fd, chunk, n);
    }
}

static void stream_in(int fd, uint64_t count)
{
    while (count) {
        ssize_t n = read(fd, chunk, count < CHUNK ? count : CHUNK);

        if (n <= 0)
            die("read");
        count -= (uint64_t)n;
    }
}

static struct sockaddr_in address_of(const char *address, const char *port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

    if (inet_pton(AF_INET, address, &in.sin_addr) != 1)
        die("address");
    return in;
}

static int net_guest(const char *address, const char *port)
{
    struct sockaddr_in in = address_of(address, port);

    for (;;) {
        int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
        struct order order;

        if (connect(fd, (struct sockaddr *)&in, sizeof(in)) < 0)
            die("connect");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        get(fd, &order, sizeof(order));
        if (order.what == 's')
            stream_out(fd, order.count);
        else if (order.what == 'r')
            stream_in(fd, order.count);
        else if (order.what == 'q')
            return 0;
        for (; order.what == 'e' && order.count; order.count--) {
            get(fd, chunk, 1);
            put(fd, chunk, 1);
        }
        put(fd, chunk, 1);
        close(fd);
    }
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double measure(int server, char what, uint64_t count)
{
    struct order order = {(uint64_t)what, count};
    int fd = accept(server, NULL, NULL), on = 1;
    double start, seconds;

    if (fd < 0)
        die("accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    start = now();
    put(fd, &order, sizeof(order));
    if (what == 's')
        stream_in(fd, count);
    if (what == 'r')
        stream_out(fd, count);
    for (; what == 'e' && count; count--) {
        put(fd, chunk, 1);
        get(fd, chunk, 1);
    }
    if (what != 'q')
        get(fd, chunk, 1);
    seconds = now() - start;
    close(fd);
    return seconds;
}

/* Cubic, or what every kernel has. Connections made from now on have it. */
static void choose_congestion(int server, char name[TCP_NAME])
{
    static const char *const usual[] = {"cubic", "reno"};

    for (unsigned i = 0; i < sizeof(usual) / sizeof(usual[0]); i++) {
        snprintf(name, TCP_NAME, "%s", usual[i]);
        if (!setsockopt(server, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name)))
            return;
    }
    die("congestion control");
}

static int net_host(const char *address, const char *port, uint64_t bytes, uint64_t rounds)
{
    struct sockaddr_in in = address_of(address, port);
    int server = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    char own[TCP_NAME] = "", chosen[TCP_NAME];
    socklen_t length = sizeof(own) - 1;

    if (getsockopt(server, IPPROTO_TCP, TCP_CONGESTION, own, &length) < 0)
        die("congestion control");
    choose_congestion(server, chosen);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(server, (struct sockaddr *)&in, sizeof(in)) < 0 || listen(server, 4) < 0)
        die("listen");
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(170);
    printf("ready %s %s\n", chosen, own);
    fflush(stdout);
    measure(server, 'e', 50);
    measure(server, 's', bytes / 8);
    printf("from %.6f\n", measure(server, 's', bytes) * 1e9 / (double)bytes);
    measure(server, 'r', bytes / 8);
    printf("to %.6f\n", measure(server, 'r', bytes) * 1e9 / (double)bytes);
    printf("round %.6f\n", measure(server, 'e', rounds) * 1e6 / (double)rounds);
    if (strcmp(own, chosen) != 0) {
        if (setsockopt(server, IPPROTO_TCP, TCP_CONGESTION, own, (socklen_t)strlen(own)) < 0)
            die("congestion control");
        measure(server, 'e', 1); /* this one was made before */
        measure(server, 'r', bytes / 8);
        printf("own %.6f\n", measure(server, 'r', bytes) * 1e9 / (double)bytes);
    }
    measure(server, 'q', 0);
    return 0;
}

static int open_device(const char *path, int flags, uint64_t *ret_bytes)
{
    int fd = open(path, O_RDONLY | flags);

    if (fd < 0 || ioctl(fd, BLKGETSIZE64, ret_bytes) < 0)
        die(path);
    return fd;
}

static void mark(const char *text)
{
    put(STDOUT_FILENO, text, strlen(text));
}

static int read_random(const char *path, uint64_t reads)
{
    uint64_t bytes, state = 88172645463325252u;
    int fd = open_device(path, O_DIRECT, &bytes);

    mark("random-start\n");
    for (; reads; reads--) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if (pread(fd, chunk, 4096, (off_t)(state % (bytes / 4096) * 4096)) != 4096)
            die("pread");
    }
    mark("random-end\n");
    return 0;
}

static int read_sequential(const char *path)
{
    uint64_t bytes;
    int fd = open_device(path, 0, &bytes);

    mark("sequential-start\n");
    while (read(fd, chunk, CHUNK) > 0)
        continue;
    mark("sequential-end\n");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "net-guest"))
        return net_guest(argv[2], argv[3]);
    if (argc == 6 && !strcmp(argv[1], "net-host"))
        return net_host(argv[2], argv[3], strtoull(argv[4], NULL, 10), strtoull(argv[5], NULL, 10));
    if (argc == 4 && !strcmp(argv[1], "random"))
        return read_random(argv[2], strtoull(argv[3], NULL, 10));
    if (argc == 3 && !strcmp(argv[1], "sequential"))
        return read_sequential(argv[2]);
    fprintf(stderr, "io_work: wrong arguments\n");
    return 2;
}
