/* SPDX-License-Identifier: Apache-2.0 */
#include "bootdisk/confine.h"

#include "base/sanitizer.h"
#include "base/util.h"

#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define NOBODY 65534

static int limit_resources(struct err *err)
{
    static const struct {
        int resource;
        rlim_t most;
    } limits[] = {{RLIMIT_CPU, 120},
                  {RLIMIT_FSIZE, (rlim_t)1536 << 20},
                  {RLIMIT_CORE, 0},
                  {RLIMIT_AS, (rlim_t)2 << 30}};

    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct rlimit limit = {limits[i].most, limits[i].most};

        if (limits[i].resource == RLIMIT_AS && (SANITIZER_ADDRESS || SANITIZER_THREAD))
            continue;
        if (setrlimit((__rlimit_resource_t)limits[i].resource, &limit) < 0)
            return err_errno(err, -errno, "limit our resources");
    }
    return 0;
}

/* Namespaces are worth having and not always to be had: the filter holds without them. */
static int drop_rights(struct err *err)
{
    if (geteuid() != 0)
        return 0;
    (void)!unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWNS);
    if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
        setresuid(NOBODY, NOBODY, NOBODY) < 0)
        return err_errno(err, -errno, "give up our rights");
    return 0;
}

static int filter(struct err *err)
{
    static const int allowed[] = {
        /* the disk, and what is handed over */
        SCMP_SYS(read), SCMP_SYS(pread64), SCMP_SYS(preadv), SCMP_SYS(write), SCMP_SYS(lseek),
        SCMP_SYS(fstat), SCMP_SYS(close),
        /* memory */
        SCMP_SYS(brk), SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise),
        SCMP_SYS(mprotect), SCMP_SYS(futex),
        /* time, as libext2fs asks for it, and the end */
        SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(getrandom),
        SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask), SCMP_SYS(getpid), SCMP_SYS(getuid),
        SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid), SCMP_SYS(exit),
        SCMP_SYS(exit_group)};
    /* What libraries try in passing and can do without. */
    static const int refused[] = {SCMP_SYS(openat), SCMP_SYS(open),   SCMP_SYS(newfstatat),
                                  SCMP_SYS(stat),   SCMP_SYS(access), SCMP_SYS(readlink),
                                  SCMP_SYS(ioctl)};
    scmp_filter_ctx context = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int r = context ? 0 : -ENOMEM;

    for (size_t i = 0; r == 0 && i < ARRAY_LEN(allowed); i++)
        r = seccomp_rule_add(context, SCMP_ACT_ALLOW, allowed[i], 0);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(refused); i++)
        r = seccomp_rule_add(context, SCMP_ACT_ERRNO(EACCES), refused[i], 0);
    if (r == 0)
        r = seccomp_load(context);
    seccomp_release(context);
    return r < 0 ? err_errno(err, r, "filter our system calls") : 0;
}

int confine(struct err *err)
{
    int r;

    if ((r = limit_resources(err)) < 0 || (r = drop_rights(err)) < 0)
        return r;
    /* A sanitizer looks for leaks as a debugger of its own process, which the change of user would
     * forbid it. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_DUMPABLE, SANITIZER_ADDRESS || SANITIZER_THREAD, 0, 0, 0) < 0)
        return err_errno(err, -errno, "give up new privileges");
    return SANITIZER_ADDRESS || SANITIZER_THREAD ? 0 : filter(err);
}
