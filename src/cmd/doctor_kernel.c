/* SPDX-License-Identifier: Apache-2.0 */
/* What the host's kernel offers. Each check asks the kernel itself, not its configuration. */
#include "cmd/doctor.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"
#include "kvm/kvm.h"
#include "soft/soft.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#define DETAIL(finding, ...) snprintf((finding)->detail, sizeof((finding)->detail), __VA_ARGS__)

struct finding *findings_add(struct findings *findings, const char *subject,
                             enum finding_level level, const char *advice)
{
    struct finding *finding = &findings->list[MIN(findings->nr, (size_t)FINDINGS_MAX - 1)];

    if (findings->nr < FINDINGS_MAX)
        findings->nr++;
    *finding = (struct finding){.subject = subject, .level = level};
    snprintf(finding->advice, sizeof(finding->advice), "%s", advice ? advice : "");
    return finding;
}

static char *load_text(const char *path, struct buf *buf)
{
    buf_init(buf, 1u << 20);
    if (file_load(AT_FDCWD, path, buf, NULL) < 0)
        return NULL;
    return buf_string(buf);
}

static void check_host(struct findings *findings)
{
    struct finding *f = findings_add(findings, "host", FINDING_OK, NULL);
    struct utsname names;
    struct sysinfo memory;

    uname(&names);
    sysinfo(&memory);
    DETAIL(f, "Linux %s, %ld processors, %llu MiB of memory (%llu MiB free)", names.release,
           sysconf(_SC_NPROCESSORS_ONLN),
           (unsigned long long)((uint64_t)memory.totalram * memory.mem_unit / MIB),
           (unsigned long long)((uint64_t)(memory.freeram + memory.bufferram) * memory.mem_unit /
                                MIB));
    if ((uint64_t)memory.totalram * memory.mem_unit < 768 * MIB) {
        f->level = FINDING_LIMITED;
        snprintf(f->advice, sizeof(f->advice), "a VM takes 512M unless --memory says less");
    }
}

/* Not whether the device is there, but whether it can run a kernel: the engine's own probe. */
static void check_kvm(struct findings *findings)
{
    struct err err = ERR_INIT;
    int result = kvm_engine.probe(&err);
    struct finding *f = findings_add(findings, "kvm", result == 0 ? FINDING_OK : FINDING_LIMITED,
                                     NULL);

    if (result == 0) {
        DETAIL(f, "can run guests");
        return;
    }
    DETAIL(f, "%.300s", err.message);
    snprintf(
        f->advice, sizeof(f->advice), "%s",
        access("/dev/kvm", F_OK) < 0
            ? "virtual machines use Lodge's own processor (slower); hardware virtualization is "
              "set in the firmware, or in the settings of the VM that this host is"
        : access("/dev/kvm", R_OK | W_OK) < 0
            ? "virtual machines use Lodge's own processor (slower); join the group kvm"
            : "virtual machines use Lodge's own processor (slower)");
}

/* Which tier of the software processor this host allows. */
static void check_soft(struct findings *findings)
{
    struct err err = ERR_INIT;
    int result = soft_translates(&err);
    struct finding *f = findings_add(
        findings, "soft", result == 0 ? FINDING_OK : FINDING_LIMITED,
        result == 0 ? NULL : "virtual machines without KVM are interpreted, several times slower");

    if (result == 0)
        DETAIL(f, "Lodge's own processor translates code (BMI2, AVX2, FSGSBASE are there)");
    else
        DETAIL(f, "Lodge's own processor interprets: %.250s", err.message);
}

static void check_cgroups(struct findings *findings)
{
    CLEANUP(buf_donep) struct buf buf;
    char *mounts = load_text("/proc/self/mounts", &buf), *line, *rest, v1[200] = "", v2[80] = "";
    struct finding *f = findings_add(findings, "cgroups", FINDING_OK, NULL);

    for (line = mounts ? strtok_r(mounts, "\n", &rest) : NULL; line;
         line = strtok_r(NULL, "\n", &rest)) {
        char type[32], place[200];
        const char *name;

        if (sscanf(line, "%*s %199s %31s", place, type) != 2)
            continue;
        name = strrchr(place, '/') ? strrchr(place, '/') + 1 : place;
        if (!strcmp(type, "cgroup"))
            snprintf(v1 + strlen(v1), sizeof(v1) - strlen(v1), "%s%.40s", *v1 ? " " : "", name);
        else if (!strcmp(type, "cgroup2") && !*v2)
            snprintf(v2, sizeof(v2), "%.79s", place);
    }
    if (*v1 && *v2)
        DETAIL(f, "hybrid: version 1 (%s) and version 2 at %s", v1, v2);
    else if (*v2)
        DETAIL(f, "version 2 at %s", v2);
    else if (*v1)
        DETAIL(f, "version 1 (%s)", v1);
    else {
        f->level = FINDING_LIMITED;
        DETAIL(f, "none mounted");
        snprintf(f->advice, sizeof(f->advice),
                 "limits (--memory, --cpus) need them: mount -t cgroup2 none /sys/fs/cgroup");
    }
}

static void check_namespaces(struct findings *findings)
{
    static const char *const names[] = {"mnt", "pid",    "net",  "ipc",
                                        "uts", "cgroup", "user", "time"};
    struct finding *f = findings_add(findings, "namespaces", FINDING_OK, NULL);
    char missing[100] = "", path[40];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof(path), "/proc/self/ns/%s", names[i]);
        if (access(path, F_OK) < 0)
            snprintf(missing + strlen(missing), sizeof(missing) - strlen(missing), " %s", names[i]);
    }
    if (!*missing) {
        DETAIL(f, "mnt pid net ipc uts cgroup user time%s",
               geteuid() == 0 ? "" : "; not root: containers in a user namespace");
        if (geteuid() != 0) {
            f->level = FINDING_LIMITED;
            snprintf(f->advice, sizeof(f->advice),
                     "without root: no limits of containers, no networks by name (--net user "
                     "serves)");
        }
        return;
    }
    f->level = FINDING_MISSING;
    DETAIL(f, "missing:%s", missing);
    snprintf(f->advice, sizeof(f->advice),
             "a kernel with CONFIG_NAMESPACES and its parts is needed");
}

static void check_overlay(struct findings *findings)
{
    CLEANUP(buf_donep) struct buf buf;
    char *text = load_text("/proc/filesystems", &buf);
    bool there = text && strstr(text, "\toverlay\n");
    struct finding *f = findings_add(findings, "overlayfs", there ? FINDING_OK : FINDING_MISSING,
                                     there ? NULL
                                           : "modprobe overlay (container roots are overlays)");

    DETAIL(f, "%s", there ? "there" : "not known to the kernel (yet)");
}

static void check_io_uring(struct findings *findings)
{
    struct io_uring_params params = {0};
    int fd = (int)syscall(SYS_io_uring_setup, 4, &params);
    struct finding *f = findings_add(
        findings, "io_uring", fd >= 0 ? FINDING_OK : FINDING_LIMITED,
        fd >= 0 ? NULL : "disks use threads instead; sysctl kernel.io_uring_disabled=0");

    DETAIL(f, "%s", fd >= 0 ? "there" : strerror(errno));
    if (fd >= 0)
        close(fd);
}

static void check_userfaultfd(struct findings *findings)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */);
    struct finding *f =
        findings_add(findings, "userfaultfd", fd >= 0 ? FINDING_OK : FINDING_LIMITED,
                     fd >= 0 ? NULL : "needed by later features only; CONFIG_USERFAULTFD");

    DETAIL(f, "%s", fd >= 0 ? "there" : strerror(errno));
    if (fd >= 0)
        close(fd);
}

static void check_seccomp(struct findings *findings)
{
    unsigned action = SECCOMP_RET_KILL_PROCESS;
    bool there = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
    struct finding *f =
        findings_add(findings, "seccomp", there ? FINDING_OK : FINDING_LIMITED,
                     there ? NULL : "monitors and containers run without a system call filter");

    DETAIL(f, "%s", there ? "filters can be installed" : strerror(errno));
}

static void check_tun(struct findings *findings)
{
    bool there = access("/dev/net/tun", R_OK | W_OK) == 0;
    struct finding *f =
        findings_add(findings, "/dev/net/tun", there ? FINDING_OK : FINDING_LIMITED,
                     there ? NULL
                           : "a container has no --net user without root; `chmod 666 /dev/net/tun` "
                             "by root opens it to all");

    DETAIL(f, "%s (for networks of guests)", there ? "usable" : strerror(errno));
}

void doctor_check_kernel(struct findings *findings)
{
    check_host(findings);
    check_kvm(findings);
    check_soft(findings);
    check_cgroups(findings);
    check_namespaces(findings);
    check_overlay(findings);
    check_io_uring(findings);
    check_userfaultfd(findings);
    check_seccomp(findings);
    check_tun(findings);
}
