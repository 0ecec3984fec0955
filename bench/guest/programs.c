/* SPDX-License-Identifier: Apache-2.0 */
/* Programs of the distribution, on the scripts and data that bench/guest/prepare.py puts into
 * /bench. */
#include "work.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs argv; the checksum goes over its standard output, and over the file `made` if there is one.
 */
static uint64_t program(const char *const *argv, const char *made)
{
    static const char *const environment[] = {"PATH=/usr/bin:/bin", "HOME=/tmp", "LC_ALL=C", NULL};
    static unsigned char data[65536];
    uint64_t hash = WORK_HASH_START;
    int out[2], status;
    ssize_t length;
    pid_t child;

    if (pipe(out))
        work_fail("program: pipe");
    child = fork();
    if (child < 0)
        work_fail("program: fork");
    if (!child) {
        int nothing = open("/dev/null", O_RDWR);

        dup2(nothing, 0);
        dup2(out[1], 1);
        close(out[0]);
        close(out[1]);
        execve(argv[0], (char *const *)argv, (char *const *)environment);
        _exit(127);
    }
    close(out[1]);
    while ((length = read(out[0], data, sizeof(data))) > 0)
        hash = work_hash_bytes(hash, data, (size_t)length);
    close(out[0]);
    if (waitpid(child, &status, 0) != child || status)
        work_fail(argv[0]);
    if (made) {
        int fd = open(made, O_RDONLY);

        while ((length = read(fd, data, sizeof(data))) > 0)
            hash = work_hash_bytes(hash, data, (size_t)length);
        close(fd);
        unlink(made);
    }
    return hash;
}

static uint64_t programs(const char *const *argv, const char *made, unsigned rounds)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < rounds; i++)
        sum = sum * 3 + program(argv, made);
    return sum;
}

#define PROGRAM(name, made, rounds, ...)                       \
    static uint64_t run_##name(unsigned scale)                 \
    {                                                          \
        static const char *const argv[] = {__VA_ARGS__, NULL}; \
                                                               \
        return programs(argv, made, (rounds)*scale);           \
    }

PROGRAM(lua, NULL, 1, "/usr/bin/lua5.4", "/bench/work.lua")
PROGRAM(sqlite, NULL, 1, "/usr/bin/sqlite3", ":memory:", ".read /bench/work.sql")
PROGRAM(python, NULL, 1, "/usr/bin/python3.11", "-E", "/bench/work.py")
PROGRAM(python_start, NULL, 4, "/usr/bin/python3.11", "-E", "-c", "print(1)")
PROGRAM(gzip, NULL, 1, "/bin/gzip", "-6", "-c", "-n", "/bench/text")
PROGRAM(gunzip, NULL, 3, "/bin/gzip", "-d", "-c", "/bench/text.gz")
PROGRAM(zstd, NULL, 2, "/usr/bin/zstd", "-q", "-3", "--single-thread", "-c", "/bench/text")
PROGRAM(unzstd, NULL, 4, "/usr/bin/zstd", "-q", "-d", "-c", "/bench/text.zst")
PROGRAM(lua_long, NULL, 1, "/usr/bin/lua5.4", "/bench/long.lua")
PROGRAM(sqlite_long, NULL, 1, "/usr/bin/sqlite3", ":memory:", ".read /bench/long.sql")
PROGRAM(python_long, NULL, 1, "/usr/bin/python3.11", "-E", "/bench/long.py")
PROGRAM(gzip_long, NULL, 1, "/bin/gzip", "-6", "-c", "-n", "/bench/long.text")
PROGRAM(zstd_long, NULL, 2, "/usr/bin/zstd", "-q", "-3", "--single-thread", "-c",
        "/bench/long.text")
PROGRAM(exec, NULL, 60, "/bin/true")
PROGRAM(shell, NULL, 1, "/bin/dash", "/bench/work.sh")
PROGRAM(gcc, "/tmp/bench.o", 1, "/usr/bin/gcc-12", "-O2", "-c", "/bench/work.c", "-o",
        "/tmp/bench.o")

const struct work work_programs[] = {
    {"lua", run_lua},
    {"sqlite", run_sqlite},
    {"python", run_python},
    {"python-start", run_python_start},
    {"gzip", run_gzip},
    {"gunzip", run_gunzip},
    {"zstd", run_zstd},
    {"unzstd", run_unzstd},
    {"exec", run_exec},
    {"shell", run_shell},
    {"gcc", run_gcc},
    {"lua-long", run_lua_long},
    {"sqlite-long", run_sqlite_long},
    {"python-long", run_python_long},
    {"gzip-long", run_gzip_long},
    {"zstd-long", run_zstd_long},
    {NULL, NULL},
};
