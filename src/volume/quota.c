/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quotactl_fd(2), in the generic form that ext4 and xfs share, and FS_IOC_FSSETXATTR for the
 * directory's project. The project's number is made of the inode's, which is the directory's alone
 * while it lives, and far from those that an administrator writes by hand; one that is taken
 * nevertheless is passed over.
 */
#include "volume/quota.h"

#include "base/util.h"

#include <errno.h>
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PROJECT_FIRST 0x40000000u
#define PROJECT_MASK  0x3fffffffu
#define PROJECT_TRIES 64u

static int quota_call(int fd, unsigned command, uint32_t project, void *data)
{
    return syscall(SYS_quotactl_fd, fd, QCMD(command, PRJQUOTA), project, data) ? -errno : 0;
}

static bool is_enforced(int fd)
{
    struct fs_quota_statv state = {.qs_version = FS_QSTATV_VERSION1};

    return quota_call(fd, Q_XGETQSTATV, 0, &state) == 0 && state.qs_flags & FS_QUOTA_PDQ_ENFD;
}

int quota_check(int dir_fd, struct err *err)
{
    return is_enforced(dir_fd)
               ? 0
               : err_set(err, -EOPNOTSUPP,
                         "its limit is a project quota, which its file system does not enforce "
                         "now: mount it with -o prjquota");
}

/* xfs says so of a project it has never seen. */
static int get(int fd, uint32_t project, struct if_dqblk *ret)
{
    int r;

    memset(ret, 0, sizeof(*ret));
    r = quota_call(fd, Q_GETQUOTA, project, ret);
    return r == -ENOENT ? 0 : r;
}

static int find_free(int fd, uint32_t *ret)
{
    struct if_dqblk quota;
    struct stat st;

    if (fstat(fd, &st))
        return -errno;
    for (unsigned i = 0; i < PROJECT_TRIES; i++) {
        uint32_t project = PROJECT_FIRST | (((uint32_t)st.st_ino + i) & PROJECT_MASK);
        int r = get(fd, project, &quota);

        if (r < 0)
            return r;
        if (!quota.dqb_bhardlimit && !quota.dqb_curinodes) {
            *ret = project;
            return 0;
        }
    }
    return -EBUSY;
}

static int set_limit(int fd, uint32_t project, uint64_t size_bytes)
{
    struct if_dqblk quota = {.dqb_bhardlimit = align_up(size_bytes, QIF_DQBLKSIZE) / QIF_DQBLKSIZE,
                             .dqb_valid = QIF_BLIMITS};

    return quota_call(fd, Q_SETQUOTA, project, &quota);
}

static int join(int fd, uint32_t project)
{
    struct fsxattr attributes;

    if (ioctl(fd, FS_IOC_FSGETXATTR, &attributes))
        return -errno;
    attributes.fsx_projid = project;
    attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT;
    return ioctl(fd, FS_IOC_FSSETXATTR, &attributes) ? -errno : 0;
}

int quota_limit(int dir_fd, uint64_t size_bytes, uint32_t *ret_project, struct err *err)
{
    uint32_t project = 0;
    int r;

    if (!is_enforced(dir_fd))
        return err_set(err, -EOPNOTSUPP, "the file system enforces no project quotas");
    /* The limit first: it is there before the first file can be. */
    if ((r = find_free(dir_fd, &project)) == 0 &&
        (r = set_limit(dir_fd, project, size_bytes)) == 0 && (r = join(dir_fd, project)) < 0)
        set_limit(dir_fd, project, 0);
    if (r == -EPERM || r == -EACCES || r == -ENOTTY || r == -EOPNOTSUPP)
        return err_set(err, -EOPNOTSUPP, "project quotas cannot be set here: %s", strerror(-r));
    if (r < 0)
        return err_errno(err, r, "set a project quota");
    *ret_project = project;
    return 0;
}

int quota_used(int dir_fd, uint32_t project, uint64_t *ret_bytes)
{
    struct if_dqblk quota;
    int r = get(dir_fd, project, &quota);

    if (r == 0)
        *ret_bytes = quota.dqb_curspace;
    return r;
}

void quota_drop(int dir_fd, uint32_t project)
{
    /* Where quotas are off now, nothing is left of it that limits. */
    (void)set_limit(dir_fd, project, 0);
}
