/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of names, the bounding set, and the sets in the order that the kernel demands: bounding
 * first, while we still may; ambient last, when permitted and inheritable hold it.
 */
#include "oci/capability.h"

#include "base/util.h"
#include "oci/spec.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const capability_names[] = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};

int capability_from_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(capability_names); i++)
        if (strcasecmp(capability_names[i], name) == 0)
            return (int)i;
    return -1;
}

const char *capability_name(unsigned number)
{
    return number < ARRAY_LEN(capability_names) ? capability_names[number] : NULL;
}

int capability_limit_bounding(uint64_t bounding, struct err *err)
{
    for (int number = 0; number < 64; number++) {
        if ((bounding & (UINT64_C(1) << number)) || prctl(PR_CAPBSET_DROP, number, 0, 0, 0) == 0)
            continue;
        if (errno == EINVAL)
            return 0; /* past the last capability of this kernel */
        if (prctl(PR_CAPBSET_READ, number, 0, 0, 0) > 0)
            return err_errno(err, -errno, "drop capability %d from the bounding set", number);
    }
    return 0;
}

/* Bits of this process's permitted set: what can be granted at all. */
static int read_permitted(uint64_t *ret, struct err *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &header, data) < 0)
        return err_errno(err, -errno, "read capabilities");
    *ret = data[0].permitted | (uint64_t)data[1].permitted << 32;
    return 0;
}

int capability_apply(const struct oci_capabilities *capabilities, struct err *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    uint64_t have = 0;
    uint64_t effective, permitted, inheritable, ambient;
    int result = read_permitted(&have, err);

    if (result < 0)
        return result;
    permitted = capabilities->permitted & have;
    effective = capabilities->effective & permitted;
    /* An inheritable bit without its ambient one only serves file capabilities; without a permitted
     * one, nothing. */
    inheritable = capabilities->inheritable & permitted;
    ambient = capabilities->ambient & permitted & inheritable;
    data[0] = (struct __user_cap_data_struct){(uint32_t)effective, (uint32_t)permitted,
                                              (uint32_t)inheritable};
    data[1] = (struct __user_cap_data_struct){
        (uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)};
    if (syscall(SYS_capset, &header, data) < 0)
        return err_errno(err, -errno, "set capabilities");
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return err_errno(err, -errno, "clear ambient capabilities");
    for (unsigned number = 0; number < ARRAY_LEN(capability_names); number++)
        if ((ambient & (UINT64_C(1) << number)) &&
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0) < 0)
            return err_errno(err, -errno, "raise ambient %s", capability_names[number]);
    return 0;
}
