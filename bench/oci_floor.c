/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci_floor ROOTFS NAME PROGRAM [ARG...]: the least that any container runtime must do, as a lower
 * limit for bench/oci.sh: a cgroup in every hierarchy, one clone3 into all namespaces, the usual
 * mounts, pivot_root, the program, and the clean-up. It reads no configuration, checks nothing and
 * is not safe to use.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define HIERARCHIES_MAX 24

static char cgroups[HIERARCHIES_MAX][512];
static int nr_cgroups;

static void make_cgroups(const char *name)
{
    DIR *dir = opendir("/sys/fs/cgroup");
    struct dirent *entry;

    while (dir && (entry = readdir(dir)) && nr_cgroups < HIERARCHIES_MAX) {
        if (entry->d_name[0] == '.' || entry->d_type != DT_DIR)
            continue;
        snprintf(cgroups[nr_cgroups], sizeof(cgroups[0]), "/sys/fs/cgroup/%s/%s", entry->d_name,
                 name);
        /* An empty cpuset takes nobody, and the v2 hierarchy here has no controllers. */
        if (strncmp(entry->d_name, "cpuset", 6) != 0 && strcmp(entry->d_name, "unified") != 0 &&
            (mkdir(cgroups[nr_cgroups], 0755) == 0 || errno == EEXIST))
            nr_cgroups++;
    }
    if (dir)
        closedir(dir);
}

static void enter_cgroups(void)
{
    for (int i = 0; i < nr_cgroups; i++) {
        char path[600];
        int fd;

        snprintf(path, sizeof(path), "%.511s/tasks", cgroups[i]);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "0", 1) != 1)
            _exit(101);
        close(fd);
    }
}

__attribute__((noreturn)) static void child(const char *rootfs, char **argv)
{
    static const struct {
        const char *type, *where, *data;
    } mounts[] = {
        {"proc", "proc", NULL},
        {"tmpfs", "dev", "mode=755"},
        {"sysfs", "sys", NULL},
    };
    char *const environment[] = {(char *)(unsigned long)"PATH=/bin:/usr/bin", NULL};

    enter_cgroups();
    if (unshare(CLONE_NEWCGROUP) < 0 || mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0 ||
        mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL) < 0 || chdir(rootfs) < 0)
        _exit(102);
    for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
        mkdir(mounts[i].where, 0755);
        if (mount(mounts[i].type, mounts[i].where, mounts[i].type, MS_NOSUID, mounts[i].data) < 0)
            _exit(103);
    }
    mkdir("dev/pts", 0755);
    mkdir("dev/shm", 01777);
    if (mount("devpts", "dev/pts", "devpts", 0, "newinstance,ptmxmode=0666") < 0 ||
        mount("shm", "dev/shm", "tmpfs", 0, NULL) < 0 || sethostname("floor", 5) < 0)
        _exit(104);
    if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        _exit(105);
    execve(argv[0], argv, environment);
    _exit(127);
}

int main(int argc, char **argv)
{
    struct clone_args args = {.exit_signal = SIGCHLD,
                              .flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC |
                                       CLONE_NEWUTS};
    int status = 0;
    long pid;

    if (argc < 4)
        return 2;
    make_cgroups(argv[2]);
    pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0)
        child(argv[1], argv + 3);
    if (pid < 0 || waitpid((pid_t)pid, &status, 0) < 0)
        return 1;
    for (int i = 0; i < nr_cgroups; i++)
        rmdir(cgroups[i]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
