/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers, each of which holds without the others: descriptors only and openat2 (nodes.c); a mount
 * namespace in which no path of the host exists; a system call filter. The second needs root or
 * user namespaces.
 */
#include "share/sandbox.h"

#include "base/sanitizer.h"
#include "base/userns.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Sanitizers need system calls of their own: then no filter. */
#define SANITIZED (SANITIZER_ADDRESS || SANITIZER_THREAD)

static int mount_copy(const struct share_member *member)
{
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                                                (member->read_only ? MOUNT_ATTR_RDONLY : 0)};
    int fd = (int)syscall(SYS_open_tree, member->fd, "",
                          AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

    if (fd < 0)
        return -1;
    /* Where it is refused (locked flags of a foreign mount), reads and writes are still told apart
     * by nodes.c. */
    syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes,
            sizeof(attributes));
    return fd;
}

void sandbox_namespaces(struct share_member *members, unsigned nr)
{
    /* Without privileges: a user namespace in which we are who we are, for the right to mount. */
    if (unshare(CLONE_NEWNS) && !userns_unshare(CLONE_NEWNS))
        return;
    if (unshare(CLONE_NEWNET | CLONE_NEWIPC))
        errno = 0; /* the filter forbids sockets anyway */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        return;
    for (unsigned i = 0; i < nr; i++) {
        int fd = mount_copy(&members[i]);

        if (fd >= 0) {
            close(members[i].fd);
            members[i].fd = fd;
        }
    }
}

void sandbox_root(void)
{
    CLEANUP(fd_closep) int before = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

    /* In a namespace that is not ours alone, this fails: no harm is done. */
    if (before < 0 || mount("none", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=4k,mode=500"))
        return;
    if (chdir("/tmp") == 0 && syscall(SYS_pivot_root, ".", ".") == 0)
        umount2(".", MNT_DETACH);
    if (fchdir(before))
        _exit(1); /* nothing would work */
}

static int keep_capabilities(struct err *err)
{
    static const unsigned kept[] = {CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID,
                                    CAP_SETGID, CAP_SETUID,       CAP_MKNOD,  CAP_SETFCAP};
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    uint32_t mask = 0;

    if (syscall(SYS_capget, &header, data))
        return err_errno(err, -errno, "read capabilities");
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        mask |= 1u << kept[i];
    data[0].permitted &= mask;
    data[0].effective = data[0].permitted;
    data[0].inheritable = 0;
    data[1] = (struct __user_cap_data_struct){0};
    return syscall(SYS_capset, &header, data) ? err_errno(err, -errno, "drop capabilities") : 0;
}

static const int allowed[] = {
    /* the monitor's socket, guest memory */
    SCMP_SYS(recvmsg),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    SCMP_SYS(close),
    SCMP_SYS(write),
    SCMP_SYS(fcntl),
    /* names */
    SCMP_SYS(openat2),
    SCMP_SYS(openat),
    SCMP_SYS(open),
    SCMP_SYS(statx),
    SCMP_SYS(newfstatat),
    SCMP_SYS(fstat),
    SCMP_SYS(readlinkat),
    SCMP_SYS(mkdirat),
    SCMP_SYS(mknodat),
    SCMP_SYS(symlinkat),
    SCMP_SYS(linkat),
    SCMP_SYS(unlinkat),
    SCMP_SYS(renameat),
    SCMP_SYS(renameat2),
    SCMP_SYS(getdents64),
    /* attributes */
    SCMP_SYS(fchownat),
    SCMP_SYS(fchmodat),
    SCMP_SYS(chmod),
    SCMP_SYS(utimensat),
    SCMP_SYS(getxattr),
    SCMP_SYS(setxattr),
    SCMP_SYS(listxattr),
    SCMP_SYS(removexattr),
    SCMP_SYS(fstatfs),
    /* contents */
    SCMP_SYS(preadv),
    SCMP_SYS(pwritev),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate),
    SCMP_SYS(lseek),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(syncfs),
    SCMP_SYS(copy_file_range),
    /* on behalf of a user of the guest */
    SCMP_SYS(setfsuid),
    SCMP_SYS(setfsgid),
    SCMP_SYS(capget),
    SCMP_SYS(capset),
    /* the C library */
    SCMP_SYS(futex),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(getrandom),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(tgkill),
};

static int filter_load(struct err *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int r = 0;

    if (!filter)
        return err_set(err, -ENOMEM, "out of memory");
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(allowed); i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    if (r == 0)
        r = seccomp_load(filter);
    seccomp_release(filter);
    return r < 0 ? err_errno(err, r, "load the system call filter") : 0;
}

int sandbox_rights(struct err *err)
{
    int r = keep_capabilities(err);

    if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        r = err_errno(err, -errno, "give up new privileges");
    if (r == 0 && !SANITIZED)
        r = filter_load(err);
    return r;
}
