/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail: see jail.h. Reasons for what is allowed stand beside it.
 *
 * The software engine maps guest memory again and makes code (mmap and mprotect with PROT_EXEC);
 * that stays possible: whoever controls this process could as well reuse its code. What the filter
 * takes away is reaching anything else: files by name, other processes, new programs, networks.
 */
#include "vmm/jail.h"

#include "base/util.h"
#include "kvm/kvm.h"
#include "base/sanitizer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#define FILES_MAX 2048

/* Sanitizers need system calls of their own at exit: then no filter. */
#define SANITIZED (SANITIZER_ADDRESS || SANITIZER_THREAD)

static const int allowed[] = {
    /* I/O on what is open: disks, sockets, console, event loops */
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(preadv),
    SCMP_SYS(pwritev),
    SCMP_SYS(preadv2),
    SCMP_SYS(pwritev2),
    SCMP_SYS(lseek),
    SCMP_SYS(fstat),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(fallocate),
    SCMP_SYS(ftruncate),
    SCMP_SYS(sync_file_range),
    SCMP_SYS(close),
    SCMP_SYS(fcntl),
    SCMP_SYS(dup),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(eventfd2),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(accept4),
    SCMP_SYS(accept),
    SCMP_SYS(connect),
    SCMP_SYS(shutdown),
    SCMP_SYS(sendmsg),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(recvfrom),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    /* memory */
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(mprotect),
    SCMP_SYS(madvise),
    SCMP_SYS(mincore), /* of guest memory */
    SCMP_SYS(brk),
    SCMP_SYS(memfd_create),
    /* threads and waiting */
    SCMP_SYS(futex),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(nanosleep),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(getpid),
    SCMP_SYS(getppid), /* seeds of a library's random numbers */
    SCMP_SYS(gettid),
    SCMP_SYS(getrandom),
    SCMP_SYS(sysinfo),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(membarrier),
    /* the end of a child: the server of shared directories */
    SCMP_SYS(wait4),
};

/* Asked for by the C library on the way; the answer is that there is nothing. */
static const int refused[] = {
    SCMP_SYS(open),       SCMP_SYS(openat),   SCMP_SYS(stat),
    SCMP_SYS(lstat),      SCMP_SYS(access),   SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2), SCMP_SYS(readlink), SCMP_SYS(readlinkat),
};

/* Async-signal-safe, without the C library's formatting. */
static void violation(int signal, siginfo_t *info, void *context)
{
    static const char before[] = "lodge-vmm: error: system call ";
    static const char after[] = " is outside of what this process may do; stopped\n";
    char line[sizeof(before) + sizeof(after) + 12];
    char digits[12];
    size_t length = 0, nr = 0;
    unsigned value = (unsigned)info->si_syscall;

    (void)signal;
    (void)context;
    for (size_t i = 0; before[i]; i++)
        line[length++] = before[i];
    do
        digits[nr++] = (char)('0' + value % 10);
    while ((value /= 10) && nr < sizeof(digits));
    while (nr)
        line[length++] = digits[--nr];
    for (size_t i = 0; after[i]; i++)
        line[length++] = after[i];
    if (write(STDERR_FILENO, line, length) < 0)
        _exit(JAIL_EXIT_STATUS);
    _exit(JAIL_EXIT_STATUS);
}

static int close_but(int keep_fd)
{
    unsigned keep = (unsigned)keep_fd;

    if (keep_fd < 3)
        return close_range(3, ~0u, 0);
    if (keep > 3 && close_range(3, keep - 1, 0))
        return -1;
    return close_range(keep + 1, ~0u, 0);
}

int jail_prepare(int keep_fd, struct err *err)
{
    struct rlimit none = {0, 0};
    struct sigaction action = {.sa_sigaction = violation, .sa_flags = SA_SIGINFO};

    if (close_but(keep_fd) && errno != ENOSYS)
        return err_errno(err, -errno, "close inherited descriptors");
    if (setrlimit(RLIMIT_CORE, &none)) /* a core would hold the guest's memory */
        return err_errno(err, -errno, "forbid core dumps");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return err_errno(err, -errno, "give up new privileges");
    if (sigaction(SIGSYS, &action, NULL))
        return err_errno(err, -errno, "install the handler of forbidden system calls");
    return 0;
}

static int capabilities_drop(struct err *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};

    if (syscall(SYS_capset, &header, none))
        return err_errno(err, -errno, "drop capabilities");
    return 0;
}

static int files_limit(struct err *err)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit))
        return err_errno(err, -errno, "read the limit on descriptors");
    limit.rlim_cur = limit.rlim_max = MIN(limit.rlim_max, FILES_MAX);
    if (setrlimit(RLIMIT_NOFILE, &limit))
        return err_errno(err, -errno, "limit descriptors");
    return 0;
}

static int networks_fill(scmp_filter_ctx filter, const struct jail_needs *needs)
{
    /* Of socket(2)'s type: what SOCK_NONBLOCK and SOCK_CLOEXEC leave. */
    const scmp_datum_t type_mask = 0xf;
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM};
    static const unsigned long taps[] = {TUNSETOFFLOAD, TUNSETVNETHDRSZ};
    int r = 0;

    for (size_t i = 0; r == 0 && needs->tap && !needs->kvm && i < ARRAY_LEN(taps); i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                             SCMP_A1(SCMP_CMP_EQ, taps[i]));
    for (size_t i = 0; r == 0 && needs->sockets && i < ARRAY_LEN(types); i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2,
                             SCMP_A0(SCMP_CMP_EQ, AF_INET),
                             SCMP_A1(SCMP_CMP_MASKED_EQ, type_mask, (scmp_datum_t)types[i]));
    return r;
}

static int filter_fill(scmp_filter_ctx filter, const struct jail_needs *needs)
{
    bool kvm = needs->kvm;
    static const unsigned long terminal[] = {TCGETS,  TCSETS,     TCSETSW,
                                             TCSETSF, TIOCGWINSZ, FIONREAD};
    static const int timers[] = {SCMP_SYS(timer_create), SCMP_SYS(timer_settime),
                                 SCMP_SYS(timer_delete)};
    int r = 0;

    for (size_t i = 0; r == 0 && needs->profile && i < ARRAY_LEN(timers); i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, timers[i], 0);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(allowed); i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(refused); i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), refused[i], 0);
    for (size_t i = 0; r == 0 && !kvm && i < ARRAY_LEN(terminal); i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                             SCMP_A1(SCMP_CMP_EQ, terminal[i]));
    if (r == 0 && kvm)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 0);
    if (r == 0 && kvm) /* the engine's kick */
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(rt_sigaction), 1,
                             SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)KVM_KICK_SIGNAL));
    if (r == 0 && !kvm) /* the engine's: accesses of translated code that the host refuses */
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(rt_sigaction), 1,
                             SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)SIGSEGV));
    if (r == 0 && !kvm)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(rt_sigaction), 1,
                             SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)SIGBUS));
    /* Threads of our own only: clone3's flags are out of a filter's sight, and the C library falls
     * back to clone. */
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                             SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
    /* fstat, as the C library does it; by name it is refused like the others. */
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1,
                             SCMP_A3(SCMP_CMP_EQ, AT_EMPTY_PATH));
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(newfstatat), 1,
                             SCMP_A3(SCMP_CMP_NE, AT_EMPTY_PATH));
    if (r == 0) /* thread names */
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
                             SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
    if (r == 0) /* the timers' thread */
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
                             SCMP_A0(SCMP_CMP_EQ, PR_SET_TIMERSLACK));
    if (r == 0) /* names of allocations */
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
                             SCMP_A0(SCMP_CMP_EQ, PR_SET_VMA));
    if (r == 0) /* vsock: connections to the host's unix sockets */
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                             SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
    return r == 0 ? networks_fill(filter, needs) : r;
}

static int filter_load(const struct jail_needs *needs, struct err *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
    int r;

    if (!filter)
        return err_set(err, -ENOMEM, "out of memory");
    r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (r == 0)
        r = filter_fill(filter, needs);
    if (r == 0)
        r = seccomp_load(filter);
    seccomp_release(filter);
    return r < 0 ? err_errno(err, r, "load the system call filter (--no-jail runs without)") : 0;
}

int jail_enter(const struct jail_needs *needs, struct err *err)
{
    int r = files_limit(err);

    if (r == 0)
        r = capabilities_drop(err);
    if (r == 0 && !SANITIZED)
        r = filter_load(needs, err);
    return r;
}
