/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CVE-2019-5736. Stands in for the image's dynamic loader, so it needs no loader, no relocation and
 * no C library itself: the kernel starts it in the place of whatever program asks for a loader,
 * with that program's file as /proc/self/exe. It keeps a descriptor of that file, gets out of its
 * way by becoming another program, and tries to write to it until nobody executes it any more.
 *
 *   overwrite            -> "here", then runs itself as:
 *   overwrite again FD   -> "opened for writing" or "refused ERRNO"
 */
#include <asm/unistd.h>

#define O_RDONLY 0
#define O_WRONLY 1
#define ETXTBSY  26

static long call(long number, long a, long b, long c)
{
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return result;
}

static void say(const char *text)
{
    long length = 0;

    while (text[length])
        length++;
    call(__NR_write, 1, (long)text, length);
}

static void decimal(long value, char *ret)
{
    char digits[24];
    int n = 0;

    do
        digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    while (n)
        *ret++ = digits[--n];
    *ret = '\0';
}

static void attempt(const char *number)
{
    char path[64] = "/proc/self/fd/";
    long pause[2] = {0, 10000000}, fd = 0;
    int n = 14;

    while (*number && n < 60)
        path[n++] = *number++;
    path[n] = '\0';
    for (int i = 0; i < 300; i++) {
        fd = call(__NR_open, (long)path, O_WRONLY, 0);
        if (fd != -ETXTBSY)
            break;
        call(__NR_nanosleep, (long)pause, 0, 0);
    }
    if (fd >= 0) {
        say("opened for writing\n");
        return;
    }
    decimal(-fd, path);
    say("refused ");
    say(path);
    say("\n");
}

__attribute__((used)) void begin(long *stack)
{
    char **argv = (char **)(stack + 1);
    char number[24], self[] = "/bin/overwrite", again[] = "again";
    char *arguments[4];
    long fd;

    if (stack[0] == 3 && argv[1][0] == 'a') {
        attempt(argv[2]);
        call(__NR_exit_group, 0, 0, 0);
    }
    say("here\n");
    fd = call(__NR_open, (long)"/proc/self/exe", O_RDONLY, 0);
    decimal(fd, number);
    arguments[0] = self;
    arguments[1] = again;
    arguments[2] = number;
    arguments[3] = 0;
    call(__NR_execve, (long)self, (long)arguments, 0);
    call(__NR_exit_group, 1, 0, 0);
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\nand $-16, %rsp\ncall begin\nhlt\n");
