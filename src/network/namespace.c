/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest needs beside its interface: a network namespace that outlives whoever made it (it is
 * mounted at a file), and a resolver in the background. Both may be asked for by one thread of
 * many: only the calling thread is in the new namespace for a moment, and the child is spawned.
 */
#include "network/internal.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define OWN_NAMESPACE "/proc/thread-self/ns/net"

int network_namespace_make(const char *path, int *ret_fd, struct err *err)
{
    CLEANUP(fd_closep) int ours = open(OWN_NAMESPACE, O_RDONLY | O_CLOEXEC);
    CLEANUP(fd_closep) int place = -1, made = -1;
    int r = 0;

    network_namespace_remove(path);
    place = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (ours < 0 || place < 0 || unshare(CLONE_NEWNET))
        return err_errno(err, -errno, "make a network namespace");
    made = open(OWN_NAMESPACE, O_RDONLY | O_CLOEXEC);
    if (made < 0 || mount(OWN_NAMESPACE, path, NULL, MS_BIND, NULL))
        r = err_errno(err, -errno, "keep a network namespace at '%s'", path);
    if (setns(ours, CLONE_NEWNET))
        r = err_errno(err, -errno, "return to our network namespace");
    if (r == 0)
        *ret_fd = TAKE_FD(made);
    return r;
}

void network_namespace_remove(const char *path)
{
    umount2(path, MNT_DETACH);
    unlink(path);
}

int network_resolver_start(const char *program, const char *dir, const char *name, bool coming,
                           struct err *err)
{
    char directory[PATH_MAX + 16], *const env[] = {directory, NULL};
    char *const argv[] = {(char *)(uintptr_t)program,
                          (char *)(uintptr_t) "network",
                          (char *)(uintptr_t) "resolve",
                          (char *)(uintptr_t)name,
                          coming ? (char *)(uintptr_t)NETWORK_COMING : NULL,
                          NULL};
    posix_spawnattr_t attributes;
    sigset_t none;
    int status, r;
    pid_t pid;

    snprintf(directory, sizeof(directory), "LODGE_NETWORKS=%s", dir);
    sigemptyset(&none);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigmask(&attributes, &none);
    r = -posix_spawn(&pid, program, NULL, &attributes, argv, env);
    posix_spawnattr_destroy(&attributes);
    if (r < 0)
        return err_errno(err, r, "start the network's resolver, '%s'", program);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return 0;
}
