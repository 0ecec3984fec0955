/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rest of `linux` (config-linux.md): namespaces, kernel parameters, propagation, filters,
 * personality, clocks.
 */
#include "oci/spec_parts.h"

#include "base/json.h"
#include "base/util.h"
#include "oci/memory_policy.h"
#include "oci/net_device.h"
#include "oci/rdt.h"
#include "oci/seccomp_filter.h"
#include "oci/spec_read.h"

#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>

static int parse_namespaces(const struct json_at *linux_at, struct oci_spec *ret, struct err *err)
{
    static const struct {
        const char *name;
        int flag;
    } types[] = {
        {"pid", CLONE_NEWPID},       {"network", CLONE_NEWNET}, {"mount", CLONE_NEWNS},
        {"ipc", CLONE_NEWIPC},       {"uts", CLONE_NEWUTS},     {"user", CLONE_NEWUSER},
        {"cgroup", CLONE_NEWCGROUP}, {"time", CLONE_NEWTIME},
    };
    struct json_at array, item;
    size_t length;
    int result = spec_read_array(linux_at, "namespaces", &array, &length, err);

    if (result < 0 || !length)
        return result;
    if (!(ret->namespaces = spec_new_list(length, sizeof(*ret->namespaces))))
        return err_set(err, -ENOMEM, "linux.namespaces: out of memory");
    for (size_t i = 0; i < length; i++) {
        struct oci_namespace *ns = &ret->namespaces[i];
        const char *type = NULL;
        size_t t = 0;

        if ((result = json_at_index(&array, i, &item, err)) < 0 ||
            (result = json_get_string(&item, "type", &type, err)) < 0 ||
            (result = json_opt_string(&item, "path", &ns->path, err)) < 0)
            return result;
        while (t < ARRAY_LEN(types) && strcmp(types[t].name, type) != 0)
            t++;
        if (t == ARRAY_LEN(types))
            return err_set(err, -EINVAL, "%s.type: unknown namespace '%s'", item.path, type);
        if (oci_spec_namespace(ret, types[t].flag))
            return err_set(err, -EINVAL, "%s.type: namespace '%s' is given twice", item.path, type);
        if (ns->path && ns->path[0] != '/')
            return err_set(err, -EINVAL, "%s.path: '%s' is not an absolute path", item.path,
                           ns->path);
        if (ns->path && ns->path[0] == '\0')
            ns->path = NULL;
        ns->flag = types[t].flag;
        ret->nr_namespaces++;
    }
    return 0;
}

static int parse_sysctls(const struct json_at *linux_at, struct oci_spec *ret, struct err *err)
{
    const char *name;
    struct json_at at;
    json_t *value;
    int result = json_at_member(linux_at, "sysctl", &at, err);

    if (result < 0 || !at.value)
        return result;
    if (!json_is_object(at.value))
        return err_set(err, -EINVAL, "linux.sysctl: an object is needed");
    if (!(ret->sysctls = spec_new_list(json_object_size(at.value), sizeof(*ret->sysctls))))
        return err_set(err, -ENOMEM, "linux.sysctl: out of memory");
    json_object_foreach(at.value, name, value)
    {
        if (!json_is_string(value))
            return err_set(err, -EINVAL, "linux.sysctl.%s: a string is needed", name);
        if (strchr(name, '/') || strstr(name, ".."))
            return err_set(err, -EINVAL, "linux.sysctl.%s: not the name of a kernel parameter",
                           name);
        ret->sysctls[ret->nr_sysctls++] = (struct oci_sysctl){name, json_string_value(value)};
    }
    return 0;
}

static int parse_propagation(const struct json_at *linux_at, struct oci_spec *ret, struct err *err)
{
    static const struct {
        const char *name;
        unsigned long flags;
    } names[] = {
        {"slave", MS_SLAVE},           {"rslave", MS_SLAVE | MS_REC},
        {"private", MS_PRIVATE},       {"rprivate", MS_PRIVATE | MS_REC},
        {"shared", MS_SHARED},         {"rshared", MS_SHARED | MS_REC},
        {"unbindable", MS_UNBINDABLE}, {"runbindable", MS_UNBINDABLE | MS_REC},
    };
    const char *name = NULL;
    int result = json_opt_string(linux_at, "rootfsPropagation", &name, err);

    if (result < 0 || !name || !name[0])
        return result;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i].name, name) == 0) {
            ret->rootfs_propagation = names[i].flags;
            return 0;
        }
    return err_set(err, -EINVAL, "linux.rootfsPropagation: unknown value '%s'", name);
}

static int parse_mount_label(const struct json_at *linux_at, struct oci_spec *ret, struct err *err)
{
    int result = json_opt_string(linux_at, "mountLabel", &ret->mount_label, err);

    if (result < 0 || !ret->mount_label)
        return result;
    /* Clients write the empty string for "none". */
    if (!ret->mount_label[0]) {
        ret->mount_label = NULL;
        return 0;
    }
    for (size_t i = 0; i < ret->nr_mounts; i++) {
        struct oci_mount *mount = &ret->mounts[i];

        /* proc, sysfs and cgroups have labels of the kernel's own. */
        if (mount->type &&
            (strcmp(mount->type, "tmpfs") == 0 || strcmp(mount->type, "devpts") == 0 ||
             strcmp(mount->type, "ramfs") == 0) &&
            asprintf(&mount->label_option, "context=%s", ret->mount_label) < 0) {
            mount->label_option = NULL;
            return err_set(err, -ENOMEM, "linux.mountLabel: out of memory");
        }
    }
    return 0;
}

static int parse_seccomp(const struct json_at *linux_at, struct oci_spec *ret, struct err *err)
{
    struct seccomp_program program;
    struct json_at at;
    int result = json_at_member(linux_at, "seccomp", &at, err);

    if (result < 0 || !at.value)
        return result;
    ret->seccomp = at.value;
    return seccomp_describe(at.value, &program, err);
}

static int parse_personality(const struct json_at *linux_at, struct oci_spec *ret, struct err *err)
{
    const char *domain = NULL;
    struct json_at at, flags;
    size_t length;
    int result = json_at_member(linux_at, "personality", &at, err);

    if (result < 0 || !at.value)
        return result;
    if ((result = json_get_string(&at, "domain", &domain, err)) < 0 ||
        (result = spec_read_array(&at, "flags", &flags, &length, err)) < 0)
        return result;
    /* The specification names no flag so far. */
    if (length)
        return err_set(err, -EINVAL, "%s: no flags are known", flags.path);
    if (strcmp(domain, "LINUX") != 0 && strcmp(domain, "LINUX32") != 0)
        return err_set(err, -EINVAL, "%s.domain: '%s' is not LINUX or LINUX32", at.path, domain);
    ret->has_personality = true;
    ret->personality = strcmp(domain, "LINUX32") == 0 ? PER_LINUX32 : PER_LINUX;
    return 0;
}

static int parse_time_offsets(const struct json_at *linux_at, struct oci_spec *ret, struct err *err)
{
    static const char *const clocks[] = {"monotonic", "boottime"};
    static const char *const known[] = {"monotonic", "boottime", NULL};
    struct json_at at, clock;
    int result = json_at_member(linux_at, "timeOffsets", &at, err);

    if (result < 0 || !at.value)
        return result;
    if ((result = json_reject_unknown(&at, known, err)) < 0)
        return result;
    for (size_t i = 0; i < ARRAY_LEN(clocks); i++) {
        struct oci_time_offset *offset = &ret->time_offsets[ret->nr_time_offsets];

        if ((result = json_at_member(&at, clocks[i], &clock, err)) < 0)
            return result;
        if (!clock.value)
            continue;
        offset->clock = clocks[i];
        if ((result = json_opt_int(&clock, "secs", &offset->seconds, err)) < 0 ||
            (result = spec_read_uint32(&clock, "nanosecs", &offset->nanoseconds, err)) < 0)
            return result;
        if (offset->nanoseconds >= 1000000000)
            return err_set(err, -ERANGE, "%s.nanosecs: %u is a second or more", clock.path,
                           offset->nanoseconds);
        ret->nr_time_offsets++;
    }
    return 0;
}

int spec_read_linux(const struct json_at *root, struct oci_spec *ret, struct err *err)
{
    struct json_at at;
    int result = json_at_member(root, "linux", &at, err);

    if (result < 0)
        return result;
    if (!at.value)
        return err_set(err, -EINVAL, "linux: required on this system, and absent");
    if ((result = parse_namespaces(&at, ret, err)) < 0 ||
        (result = spec_read_id_maps(&at, "uidMappings", &ret->uid_maps, &ret->nr_uid_maps, err)) <
            0 ||
        (result = spec_read_id_maps(&at, "gidMappings", &ret->gid_maps, &ret->nr_gid_maps, err)) <
            0 ||
        (result = spec_read_devices(&at, ret, err)) < 0 ||
        (result = spec_read_resources(&at, &ret->resources, err)) < 0 ||
        (result = parse_sysctls(&at, ret, err)) < 0 ||
        (result = parse_propagation(&at, ret, err)) < 0 ||
        (result = parse_seccomp(&at, ret, err)) < 0 ||
        (result = parse_personality(&at, ret, err)) < 0 ||
        (result = parse_time_offsets(&at, ret, err)) < 0 ||
        (result = memory_policy_read(&at, &ret->memory_policy, err)) < 0 ||
        (result = parse_mount_label(&at, ret, err)) < 0 ||
        (result = rdt_read(&at, &ret->rdt, err)) < 0 ||
        (result = net_device_read(&at, ret, err)) < 0 ||
        (result = json_opt_string(&at, "cgroupsPath", &ret->cgroups_path, err)) < 0 ||
        (result = spec_read_strings(&at, "maskedPaths", &ret->masked_paths, err)) < 0)
        return result;
    return spec_read_strings(&at, "readonlyPaths", &ret->read_only_paths, err);
}
