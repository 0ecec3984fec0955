/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/feature_list.h"

#include "base/util.h"
#include "oci/capability.h"

static const char *const mount_options[] = {
    "async",       "atime",          "auto",       "bind",         "defaults",
    "dev",         "diratime",       "exec",       "noatime",      "noauto",
    "nodev",       "nodiratime",     "noexec",     "noiversion",   "nomand",
    "norelatime",  "nostrictatime",  "nosuid",     "nosymfollow",  "private",
    "ratime",      "rbind",          "rdev",       "rdiratime",    "relatime",
    "rexec",       "rnoatime",       "rnodev",     "rnodiratime",  "rnoexec",
    "rnorelatime", "rnostrictatime", "rnosuid",    "rnosymfollow", "ro",
    "rprivate",    "rrelatime",      "rro",        "rrw",          "rshared",
    "rslave",      "rstrictatime",   "rsuid",      "rsymfollow",   "runbindable",
    "rw",          "shared",         "slave",      "strictatime",  "suid",
    "symfollow",   "tmpcopyup",      "unbindable",
};

static const char *const namespaces[] = {"cgroup", "ipc",  "mount", "network",
                                         "pid",    "time", "user",  "uts"};

static const char *const hooks[] = {"prestart",       "createRuntime", "createContainer",
                                    "startContainer", "poststart",     "poststop"};

static json_t *strings(const char *const *items, size_t length)
{
    json_t *list = json_array();

    for (size_t i = 0; i < length; i++)
        json_array_append_new(list, json_string(items[i]));
    return list;
}

static json_t *capabilities(void)
{
    json_t *list = json_array();
    const char *name;

    for (unsigned number = 0; (name = capability_name(number)); number++)
        json_array_append_new(list, json_string(name));
    return list;
}

#define STRINGS(list) strings(list, ARRAY_LEN(list))

static json_t *seccomp(void)
{
    static const char *const actions[] = {
        "SCMP_ACT_ALLOW",        "SCMP_ACT_ERRNO", "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG",   "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_NOTIFY",       "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
    };
    static const char *const operators[] = {"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT",
                                            "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
                                            "SCMP_CMP_NE"};
    static const char *const archs[] = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"};
    static const char *const flags[] = {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG",
                                        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                                        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};

    return json_pack("{s:b, s:o, s:o, s:o, s:o, s:o}", "enabled", 1, "actions", STRINGS(actions),
                     "operators", STRINGS(operators), "archs", STRINGS(archs), "knownFlags",
                     STRINGS(flags), "supportedFlags", STRINGS(flags));
}

static json_t *memory_policy(void)
{
    static const char *const modes[] = {"MPOL_DEFAULT",
                                        "MPOL_PREFERRED",
                                        "MPOL_BIND",
                                        "MPOL_INTERLEAVE",
                                        "MPOL_LOCAL",
                                        "MPOL_PREFERRED_MANY",
                                        "MPOL_WEIGHTED_INTERLEAVE"};
    static const char *const flags[] = {"MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES",
                                        "MPOL_F_STATIC_NODES"};

    return json_pack("{s:o, s:o}", "modes", STRINGS(modes), "flags", STRINGS(flags));
}

static json_t *linux_features(void)
{
    return json_pack("{s:o, s:o, s:{s:b, s:b, s:b, s:b, s:b}, s:o, s:{s:b}, s:{s:b}, s:{s:b},"
                     " s:{s:{s:b}}, s:{s:b}, s:o}",
                     "namespaces", STRINGS(namespaces), "capabilities", capabilities(), "cgroup",
                     "v1", 1, "v2", 1, "systemd", 0, "systemdUser", 0, "rdma", 1, "seccomp",
                     seccomp(), "apparmor", "enabled", 1, "selinux", "enabled", 1, "intelRdt",
                     "enabled", 1, "mountExtensions", "idmap", "enabled", 1, "netDevices",
                     "enabled", 1, "memoryPolicy", memory_policy());
}

/* What this program can do; whether the host can is said when a container asks for it. */
json_t *oci_features(void)
{
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:{s:s, s:s}, s:[sss]}", "ociVersionMin", "1.0.0",
                     "ociVersionMax", "1.2.0", "hooks", STRINGS(hooks), "mountOptions",
                     STRINGS(mount_options), "linux", linux_features(), "annotations",
                     "io.lodge.runtime.name", "lodge-oci", "io.lodge.runtime.checkpoint.enabled",
                     "true", "potentiallyUnsafeConfigAnnotations", "io.lodge.overlay.lower",
                     "io.lodge.overlay.upper", "io.lodge.overlay.work");
}
