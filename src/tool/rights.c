/* SPDX-License-Identifier: Apache-2.0 */
/* Capabilities, limits, and the list of system calls. */
#include "tool/internal.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MEMORY_MAX ((rlim_t)4 << 30)

/* Root's program would have all of the bounding set again. */
int tool_rights_drop(const struct tool *tool)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0, 0, 0}, {0, 0, 0}};
    unsigned kept = tool->tree ? CAP_DAC_READ_SEARCH : ~0u;

    for (unsigned i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
        if (i != kept && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0 && errno != EPERM)
            return -1;
    if (tool->tree && geteuid() == 0)
        data[0].permitted = data[0].effective = 1u << CAP_DAC_READ_SEARCH;
    if (syscall(SYS_capset, &header, data))
        return -1;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

int tool_limits_set(const struct tool *tool)
{
    struct stat st;
    struct {
        int resource;
        rlim_t most;
    } limits[] = {{RLIMIT_CPU, tool->limit_s},
                  {RLIMIT_FSIZE, 0},
                  {RLIMIT_CORE, 0},
                  {RLIMIT_AS, MEMORY_MAX},
                  {RLIMIT_NOFILE, TOOL_FILES_MAX}};

    if (fstat(tool->file, &st) < 0)
        return -1;
    limits[1].most = (rlim_t)st.st_size;
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct rlimit limit = {limits[i].most, limits[i].most};

        if (setrlimit((__rlimit_resource_t)limits[i].resource, &limit) < 0)
            return -1;
    }
    return 0;
}

static const int allowed[] = {
    /* files that can be named, which are few */
    SCMP_SYS(open),
    SCMP_SYS(openat),
    SCMP_SYS(close),
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(lseek),
    SCMP_SYS(fstat),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(statx),
    SCMP_SYS(fstatfs),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(getdents64),
    SCMP_SYS(chdir),
    SCMP_SYS(fchdir),
    SCMP_SYS(getcwd),
    SCMP_SYS(llistxattr),
    SCMP_SYS(lgetxattr),
    SCMP_SYS(listxattr),
    SCMP_SYS(getxattr),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(fadvise64),
    SCMP_SYS(fcntl),
    SCMP_SYS(dup),
    SCMP_SYS(umask),
    /* memory */
    SCMP_SYS(brk),
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(mprotect),
    SCMP_SYS(madvise),
    SCMP_SYS(futex),
    /* the C library, and the end */
    SCMP_SYS(arch_prctl),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(prlimit64),
    SCMP_SYS(getrlimit),
    SCMP_SYS(getrusage),
    SCMP_SYS(sysinfo),
    SCMP_SYS(uname),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_yield),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(getrandom),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

static int fill(scmp_filter_ctx filter)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < ARRAY_LEN(allowed); i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    /* Its own program, once: it can have no descriptor of that number afterwards. */
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(execveat), 2,
                             SCMP_A0(SCMP_CMP_EQ, TOOL_PROGRAM_FD),
                             SCMP_A4(SCMP_CMP_EQ, AT_EMPTY_PATH));
    /* Threads of its own (libext2fs reads bitmaps so), no processes. */
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    return r;
}

/* As code: loading it needs no memory, so the child can. */
int tool_filter_make(struct tool_filter *ret, struct err *err)
{
    CLEANUP(fd_closep) int fd = memfd_create("filter", MFD_CLOEXEC);
    scmp_filter_ctx filter = fd < 0 ? NULL : seccomp_init(SCMP_ACT_ERRNO(EPERM));
    CLEANUP(freep) struct sock_filter *code = NULL;
    off_t bytes;
    int r = filter ? fill(filter) : -ENOMEM;

    if (r == 0)
        r = seccomp_export_bpf(filter, fd);
    seccomp_release(filter);
    if (r < 0)
        return err_errno(err, r, "make the list of system calls");
    bytes = lseek(fd, 0, SEEK_END);
    if (bytes <= 0 || bytes / (off_t)sizeof(*code) > 4096 || !(code = malloc((size_t)bytes)) ||
        pread(fd, code, (size_t)bytes, 0) != (ssize_t)bytes)
        return err_set(err, -ENOMEM, "out of memory");
    ret->length = (unsigned short)((size_t)bytes / sizeof(*code));
    ret->code = TAKE_PTR(code);
    return 0;
}

void tool_filter_free(struct tool_filter *filter)
{
    free(filter->code);
    filter->code = NULL;
}
