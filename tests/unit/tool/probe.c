/* SPDX-License-Identifier: Apache-2.0 */
/* A program that was taken over: tries what it should not be able to, and says what it could. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void could(const char *what, int is)
{
    if (is)
        printf("%s ", what);
}

static int can_open(const char *path, int flags)
{
    int fd = open(path, flags, 0600);

    return fd >= 0 && close(fd) == 0;
}

static int can_write(const char *path)
{
    return can_open(path, O_WRONLY | O_CREAT);
}

static int can_socket(int family, int type)
{
    return socket(family, type, 0) >= 0;
}

/* As often as it would take to find the descriptor that the first program came from. */
static int can_run(const char *path)
{
    char *argv[] = {(char *)path, NULL}, *env[] = {NULL};

    for (int i = 0; i < 300; i++)
        if (open(path, O_RDONLY) < 0)
            break;
    for (int fd = 3; fd < 300; fd++)
        syscall(SYS_execveat, fd, "", argv, env, AT_EMPTY_PATH);
    execve(path, argv, env);
    return 0;
}

static void *nothing(void *context)
{
    return context;
}

static void try_all(const char *image, const char *tree, const char *secret)
{
    pthread_t thread;
    char path[300], byte = 'w';
    int fd = open(image, O_RDWR);

    signal(SIGXFSZ, SIG_IGN);
    could("image", fd >= 0 && pread(fd, &byte, 1, 0) == 1 && byte == 'i');
    could("write", fd >= 0 && pwrite(fd, "w", 1, 0) == 1);
    could("GROW", fd >= 0 && pwrite(fd, "w", 1, 1 << 20) == 1);
    snprintf(path, sizeof(path), "%s/file", tree);
    could("tree", can_open(path, O_RDONLY));
    could("TREE-WRITE", can_open(path, O_RDWR));
    could("thread",
          pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0);
    could("SECRET", can_open(secret, O_RDONLY));
    could("PASSWD", can_open("/etc/passwd", O_RDONLY));
    could("PROC", can_open("/proc/self/maps", O_RDONLY));
    could("USR", can_write("/usr/lodge-probe"));
    could("ROOT", can_write("/lodge-probe"));
    could("INET", can_socket(AF_INET, SOCK_STREAM));
    could("UNIX", can_socket(AF_UNIX, SOCK_STREAM));
    could("NETLINK", can_socket(AF_NETLINK, SOCK_RAW));
    could("KILL", kill(getppid(), 0) == 0);
    could("PTRACE", ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) == 0);
    could("MOUNT", mount("none", "/", "tmpfs", 0, NULL) == 0);
    could("CHOWN", chown(image, 1, 1) == 0);
    could("CHMOD", chmod(image, 04777) == 0);
    could("UNSHARE", unshare(CLONE_NEWUSER) == 0);
    could("SETUID", syscall(SYS_setuid, 1) == 0);
    could("MEMORY",
          mmap(NULL, 6ul << 30, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    fflush(stdout);
    could("FORK", syscall(SYS_fork) >= 0);
    fflush(stdout);
    could("RUN", can_run("/bin/sh"));
    could("RUN", can_run("/usr/bin/env"));
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 9;
    if (!strcmp(argv[1], "spin"))
        for (volatile unsigned i = 0;; i++)
            continue;
    if (!strcmp(argv[1], "sleep"))
        for (;;)
            sleep(1);
    if (!strcmp(argv[1], "crash"))
        __builtin_trap();
    if (!strcmp(argv[1], "chatter"))
        for (int i = 0; i < 100000; i++)
            printf("line %d\n", i);
    else if (argc == 5)
        try_all(argv[2], argv[3], argv[4]);
    fflush(stdout);
    return atoi(argv[1]);
}
