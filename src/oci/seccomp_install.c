/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Into the kernel, and the listener out of the filtered process. Between the installation and the
 * moment the runtime has the listener the first process makes no system call at all: any of them
 * might wait for an agent that has no descriptor yet.
 */
#include "oci/seccomp_filter.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fdpass.h"
#include "base/json.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>

/* About a minute of pauses: longer than the runtime waits. */
#define HANDOVER_PAUSES_MAX (UINT64_C(1) << 31)
#define LISTENER_WAIT_NS    (UINT64_C(10) * 1000000000)

int seccomp_install(const struct seccomp_program *program, struct seccomp_handover *handover,
                    struct err *err)
{
    struct sock_fprog fprog = {(unsigned short)program->length, program->filter};
    unsigned flags = program->flags | (program->notify ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0u);
    long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &fprog);

    if (fd < 0)
        return err_errno(err, -errno, "install the system call filter (%zu instructions)",
                         program->length);
    if (!program->notify)
        return 0;
    atomic_store(&handover->fd, (int)fd + 1);
    for (uint64_t i = 0; !atomic_load(&handover->taken); i++) {
        if (i == HANDOVER_PAUSES_MAX)
            return err_set(err, -ETIMEDOUT, "nobody took the system call filter's listener");
        __builtin_ia32_pause();
    }
    return 0;
}

int seccomp_take_listener(struct seccomp_handover *handover, int pid_fd, struct err *err)
{
    uint64_t deadline_ns = clock_monotonic_ns() + LISTENER_WAIT_NS;
    struct timespec pause = {.tv_nsec = 50000};
    struct pollfd end = {.fd = pid_fd, .events = POLLIN};
    int fd;

    while ((fd = atomic_load(&handover->fd)) == 0) {
        if (poll(&end, 1, 0) > 0)
            return -ESRCH; /* it says why on its socket */
        if (clock_monotonic_ns() > deadline_ns)
            return err_set(err, -ETIMEDOUT, "the system call filter was not installed in time");
        nanosleep(&pause, NULL);
    }
    fd = (int)syscall(SYS_pidfd_getfd, pid_fd, fd - 1, 0);
    if (fd < 0)
        return err_errno(err, -errno, "take the system call filter's listener");
    atomic_store(&handover->taken, 1);
    return fd;
}

int seccomp_send_listener(const struct seccomp_program *program, int listener, pid_t pid,
                          json_t *state, struct err *err)
{
    CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    json_t *json = json_pack("{s:s, s:[s], s:i, s:O}", "ociVersion", "1.2.0", "fds", "seccompFd",
                             "pid", (int)pid, "state", state);
    CLEANUP(freep) char *text = NULL;
    int result;

    if (json && json_put_string(json, "metadata", program->listener_metadata) == 0)
        text = json_text(json, JSON_COMPACT);
    json_decref(json);
    if (!text)
        return err_set(err, -ENOMEM, "linux.seccomp.listenerPath: out of memory");
    if (strlen(program->listener_path) >= sizeof(address.sun_path))
        return err_set(err, -ENAMETOOLONG, "linux.seccomp.listenerPath '%s'",
                       program->listener_path);
    strcpy(address.sun_path, program->listener_path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return err_errno(err, -errno, "linux.seccomp.listenerPath '%s'", program->listener_path);
    if ((result = fdpass_send(fd, text, strlen(text), listener)) < 0)
        return err_errno(err, result, "linux.seccomp.listenerPath '%s'", program->listener_path);
    return 0;
}

struct seccomp_handover *seccomp_handover_new(void)
{
    void *page = mmap(NULL, sizeof(struct seccomp_handover), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return page == MAP_FAILED ? NULL : page;
}

void seccomp_handover_free(struct seccomp_handover *handover)
{
    if (handover)
        munmap(handover, sizeof(*handover));
}
