/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the process behind a user-mode network may still do: carry frames, and make IPv4 sockets on
 * behalf of the container. It parses what a hostile guest sends, in a library that is not ours; so
 * files, programs, other processes and other kinds of sockets are out of its reach. What is
 * forbidden fails with EPERM: the network of a guest goes on.
 *
 * Where the host's name server is on its loopback alone, the library itself reads resolv.conf again
 * and again: then files can be opened for reading, as far as the user may.
 *
 * Limits: a sanitizer's build runs without the filter, as everywhere.
 */
#include "network/internal.h"

#include "base/sanitizer.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SANITIZED (SANITIZER_ADDRESS || SANITIZER_THREAD)

static const int allowed[] = {
    /* frames, and the loop */
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(close),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(poll),
    SCMP_SYS(timerfd_settime),
    /* the guest's connections */
    SCMP_SYS(bind),
    SCMP_SYS(listen),
    SCMP_SYS(accept),
    SCMP_SYS(accept4),
    SCMP_SYS(connect),
    SCMP_SYS(shutdown),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(fcntl),
    /* the C library, and the end */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(futex),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(getrandom),
    SCMP_SYS(getpid),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

static int allow_sockets(scmp_filter_ctx filter)
{
    /* Of socket(2)'s type: what SOCK_NONBLOCK and SOCK_CLOEXEC leave. */
    const scmp_datum_t type_mask = 0xf;
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM};
    int r = 0;

    for (size_t i = 0; r == 0 && i < ARRAY_LEN(types); i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2,
                             SCMP_A0(SCMP_CMP_EQ, AF_INET),
                             SCMP_A1(SCMP_CMP_MASKED_EQ, type_mask, (scmp_datum_t)types[i]));
    return r;
}

/* Memory, but no code; files, but only to be read. */
static int allow_narrowly(scmp_filter_ctx filter, bool resolv_conf)
{
    static const unsigned long requests[] = {FIONREAD, FIONBIO, TUNSETOFFLOAD};
    static const int files[] = {SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(lseek)};
    int r = 0;

    for (size_t i = 0; r == 0 && i < ARRAY_LEN(requests); i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                             SCMP_A1(SCMP_CMP_EQ, requests[i]));
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    for (size_t i = 0; r == 0 && resolv_conf && i < ARRAY_LEN(files); i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, files[i], 0);
    if (r == 0 && resolv_conf)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
    return r;
}

static int filter_load(bool resolv_conf, struct err *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int r = filter ? 0 : -ENOMEM;

    for (size_t i = 0; r == 0 && i < ARRAY_LEN(allowed); i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    if (r == 0)
        r = allow_sockets(filter);
    if (r == 0)
        r = allow_narrowly(filter, resolv_conf);
    if (r == 0)
        r = seccomp_load(filter);
    seccomp_release(filter);
    return r < 0 ? err_errno(err, r, "user-mode network: filter our system calls") : 0;
}

int user_jail_enter(bool resolv_conf, struct err *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
    struct rlimit no_core = {0, 0};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || setrlimit(RLIMIT_CORE, &no_core) ||
        syscall(SYS_capset, &header, none))
        return err_errno(err, -errno, "user-mode network: give up our rights");
    return SANITIZED ? 0 : filter_load(resolv_conf, err);
}
