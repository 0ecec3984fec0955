/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work for a CPU under test, in one static program: each line of output is a name, nanoseconds a
 * round, and a checksum that must be the same wherever it runs. An argument is the seconds that
 * each kernel may take (0.3 when absent); a second one names a single kernel.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint64_t random_state = 88172645463325252ull;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

struct node {
    struct node *next;
    uint64_t value;
};

static uint64_t work_list(void)
{
    static struct node nodes[4096];
    static unsigned order[4096];
    uint64_t sum = 0;

    if (!nodes[0].next) {
        for (unsigned i = 0; i < 4096; i++)
            order[i] = i;
        for (unsigned i = 4095; i > 0; i--) {
            unsigned j = (unsigned)(next_random() % (i + 1)), swap = order[i];

            order[i] = order[j];
            order[j] = swap;
        }
        for (unsigned i = 0; i < 4096; i++) {
            nodes[order[i]].next = &nodes[order[(i + 1) % 4096]];
            nodes[order[i]].value = order[i];
        }
    }
    struct node *node = nodes;
    for (unsigned i = 0; i < 4096 * 8; i++) {
        sum += node->value;
        node = node->next;
    }
    return sum;
}

static uint64_t work_matrix(void)
{
    enum { N = 48 };
    static int32_t a[N][N], b[N][N], c[N][N];

    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            a[i][j] = i + j, b[i][j] = i - j;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            int32_t sum = 0;

            for (int k = 0; k < N; k++)
                sum += a[i][k] * b[k][j];
            c[i][j] = sum;
        }
    return (uint64_t)(uint32_t)c[7][9] + (uint32_t)c[40][3];
}

static uint64_t work_crc(void)
{
    static uint32_t table[256];
    static uint8_t data[16384];
    uint32_t crc = ~0u;

    if (!table[1])
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t value = i;

            for (int bit = 0; bit < 8; bit++)
                value = value & 1 ? value >> 1 ^ 0xedb88320u : value >> 1;
            table[i] = value;
            for (unsigned j = 0; j < 64; j++)
                data[64 * i + j] = (uint8_t)(i * j);
        }
    for (unsigned i = 0; i < sizeof(data); i++)
        crc = table[(crc ^ data[i]) & 255] ^ crc >> 8;
    return crc;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static uint64_t work_qsort(void)
{
    static uint32_t data[2048];
    uint32_t seed = 12345;

    for (unsigned i = 0; i < 2048; i++)
        data[i] = seed = seed * 1664525u + 1013904223u;
    qsort(data, 2048, sizeof(data[0]), compare);
    return data[1000];
}

static uint64_t work_hash(void)
{
    static uint64_t keys[1 << 15];
    uint64_t found = 0;

    memset(keys, 0, sizeof(keys));
    for (uint64_t i = 1; i < 12000; i++) {
        uint64_t key = i * 0x9e3779b97f4a7c15ull, slot = key >> 49;

        while (keys[slot] && keys[slot] != key)
            slot = (slot + 1) & 32767;
        keys[slot] = key;
        found += slot;
    }
    return found;
}

static uint64_t work_bytecode(void)
{
    static const uint8_t program[] = {0, 1, 2, 3, 1, 4, 5, 2, 0, 3, 6};
    uint64_t a = 1, b = 2, count = 20000;
    unsigned at = 0;

    for (;;) {
        switch (program[at++]) {
        case 0:
            a += b;
            break;
        case 1:
            b ^= a;
            break;
        case 2:
            a = a << 7 | a >> 57;
            break;
        case 3:
            b += 3;
            break;
        case 4:
            a -= b >> 3;
            break;
        case 5:
            b = b * 5 + 1;
            break;
        default:
            if (!--count)
                return a ^ b;
            at = 0;
        }
    }
}

static uint64_t fib(uint64_t n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t work_fib(void)
{
    uint64_t (*volatile f)(uint64_t) = fib;

    return f(20);
}

static uint64_t work_nbody(void)
{
    double x[5], v[5], e = 0;

    for (int i = 0; i < 5; i++)
        x[i] = i * 1.5 + 1, v[i] = 0.1 * i;
    for (int step = 0; step < 1000; step++) {
        for (int i = 0; i < 5; i++)
            for (int j = 0; j < 5; j++)
                if (i != j) {
                    double d = x[j] - x[i], r = d * d + 0.01;

                    v[i] += 0.0001 * d / (r * __builtin_sqrt(r));
                }
        for (int i = 0; i < 5; i++)
            x[i] += v[i] * 0.0001;
    }
    for (int i = 0; i < 5; i++)
        e += x[i];
    return (uint64_t)(e * 1e6);
}

static uint64_t work_matmul(void)
{
    enum { N = 48 };
    static double a[N][N], b[N][N], c[N][N];

    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            a[i][j] = i + j, b[i][j] = i - j, c[i][j] = 0;
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++)
            for (int j = 0; j < N; j++)
                c[i][j] += a[i][k] * b[k][j];
    return (uint64_t)(int64_t)c[7][9];
}

static uint64_t work_memcpy(void)
{
    static char a[65536], b[65536];
    void *(*volatile copy)(void *, const void *, size_t) = memcpy;

    copy(b, a, sizeof(b));
    return (uint64_t)b[77];
}

static uint64_t work_divide(void)
{
    uint64_t a = 0x123456789abcdefull, sum = 0;

    for (uint64_t i = 3; i < 3000; i++)
        sum += a / i + a % i;
    return sum;
}

static uint64_t work_getppid(void)
{
    for (int i = 0; i < 100; i++)
        syscall(SYS_getppid);
    return 0;
}

static uint64_t work_fault(void)
{
    char *map = mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    for (int i = 0; i < 64; i++)
        map[i * 4096] = 1;
    munmap(map, 64 * 4096);
    return 0;
}

static uint64_t work_pipe(void)
{
    static int fd[2] = {-1, -1};
    char c = 1;

    if (fd[0] < 0 && pipe(fd))
        exit(1);
    for (int i = 0; i < 32; i++)
        if (write(fd[1], &c, 1) != 1 || read(fd[0], &c, 1) != 1)
            exit(1);
    return 0;
}

static uint64_t work_fork(void)
{
    pid_t child = fork();
    int status;

    if (!child)
        _exit(0);
    waitpid(child, &status, 0);
    return 0;
}

static const struct {
    const char *name;
    uint64_t (*run)(void);
} works[] = {
    {"list", work_list},     {"matrix", work_matrix}, {"crc", work_crc},
    {"qsort", work_qsort},   {"hash", work_hash},     {"bytecode", work_bytecode},
    {"fib", work_fib},       {"divide", work_divide}, {"nbody", work_nbody},
    {"matmul", work_matmul}, {"memcpy", work_memcpy}, {"getppid", work_getppid},
    {"fault", work_fault},   {"pipe", work_pipe},     {"fork", work_fork},
};

int main(int argc, char **argv)
{
    double limit = (argc > 1 ? atof(argv[1]) : 0.3) * 1e9;

    for (unsigned i = 0; i < sizeof(works) / sizeof(works[0]); i++) {
        uint64_t checksum, rounds = 0;
        double best = 1e30, start;

        if (argc > 2 && strcmp(argv[2], works[i].name) != 0)
            continue;
        checksum = works[i].run();
        start = now();

        while (rounds < 3 || now() - start < limit) {
            double begin = now(), took;

            checksum = works[i].run();
            took = now() - begin;
            best = took < best ? took : best;
            rounds++;
        }
        printf("%s %.0f %llx\n", works[i].name, best, (unsigned long long)checksum);
        fflush(stdout);
    }
    return 0;
}
