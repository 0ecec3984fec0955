/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/feature_list.h"

#include "base/util.h"
#include "oci/capability.h"

static const char *const mount_options[] = {
    "async",       "atime",          "auto",    "bind",         "defaults",
    "dev",         "diratime",       "exec",    "noatime",      "noauto",
    "nodev",       "nodiratime",     "noexec",  "noiversion",   "nomand",
    "norelatime",  "nostrictatime",  "nosuid",  "nosymfollow",  "private",
    "ratime",      "rbind",          "rdev",    "rdiratime",    "relatime",
    "rexec",       "rnoatime",       "rnodev",  "rnodiratime",  "rnoexec",
    "rnorelatime", "rnostrictatime", "rnosuid", "rnosymfollow", "ro",
    "rprivate",    "rrelatime",      "rro",     "rrw",          "rshared",
    "rslave",      "rstrictatime",   "rsuid",   "rsymfollow",   "runbindable",
    "rw",          "shared",         "slave",   "strictatime",  "suid",
    "symfollow",   "unbindable",
};

static const char *const namespaces[] = {"cgroup", "ipc", "mount", "network", "pid", "user", "uts"};

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

json_t *oci_features(void)
{
    return json_pack("{s:s, s:s, s:o, s:o, s:{s:o, s:o, s:{s:b, s:b, s:b, s:b}, s:{s:b}, s:{s:b}, "
                     "s:{s:b}, s:{s:b}},"
                     " s:[sss]}",
                     "ociVersionMin", "1.0.0", "ociVersionMax", "1.2.0", "hooks",
                     strings(hooks, ARRAY_LEN(hooks)), "mountOptions",
                     strings(mount_options, ARRAY_LEN(mount_options)), "linux", "namespaces",
                     strings(namespaces, ARRAY_LEN(namespaces)), "capabilities", capabilities(),
                     "cgroup", "v1", 1, "v2", 1, "systemd", 0, "systemdUser", 0, "apparmor",
                     "enabled", 0, "selinux", "enabled", 0, "intelRdt", "enabled", 0, "seccomp",
                     "enabled", 1, "potentiallyUnsafeConfigAnnotations", "io.lodge.overlay.lower",
                     "io.lodge.overlay.upper", "io.lodge.overlay.work");
}
