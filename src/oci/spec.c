/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading config.json (OCI runtime specification 1.2, config.md and config-linux.md). The checks
 * name the member by its path.
 */
#include "oci/spec.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/util.h"
#include "oci/capability.h"
#include "oci/hooks.h"
#include "oci/process_attributes.h"
#include "oci/seccomp_filter.h"
#include "oci/spec_read.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/sysmacros.h>

#define CONFIG_SIZE_MAX (16 * MIB)

static int parse_capability_set(const struct json_at *at, const char *name, uint64_t *ret,
                                struct err *err)
{
    struct oci_strings names = {0};
    int result = spec_read_strings(at, name, &names, err);

    for (size_t i = 0; result == 0 && i < names.length; i++) {
        int number = capability_from_name(names.items[i]);

        /* Names newer than us cannot be granted by this kernel either: dropped, as the
         * specification allows. */
        if (number >= 0)
            *ret |= UINT64_C(1) << number;
    }
    free(names.items);
    return result;
}

static int parse_capabilities(const struct json_at *process, struct oci_capabilities *ret,
                              struct err *err)
{
    struct json_at at;
    int result = json_at_member(process, "capabilities", &at, err);

    if (result < 0 || !at.value)
        return result;
    ret->present = true;
    if ((result = parse_capability_set(&at, "bounding", &ret->bounding, err)) < 0 ||
        (result = parse_capability_set(&at, "effective", &ret->effective, err)) < 0 ||
        (result = parse_capability_set(&at, "permitted", &ret->permitted, err)) < 0 ||
        (result = parse_capability_set(&at, "inheritable", &ret->inheritable, err)) < 0)
        return result;
    return parse_capability_set(&at, "ambient", &ret->ambient, err);
}

static int rlimit_from_name(const char *name)
{
    static const struct {
        const char *name;
        int resource;
    } names[] = {
        {"RLIMIT_AS", RLIMIT_AS},           {"RLIMIT_CORE", RLIMIT_CORE},
        {"RLIMIT_CPU", RLIMIT_CPU},         {"RLIMIT_DATA", RLIMIT_DATA},
        {"RLIMIT_FSIZE", RLIMIT_FSIZE},     {"RLIMIT_LOCKS", RLIMIT_LOCKS},
        {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK}, {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
        {"RLIMIT_NICE", RLIMIT_NICE},       {"RLIMIT_NOFILE", RLIMIT_NOFILE},
        {"RLIMIT_NPROC", RLIMIT_NPROC},     {"RLIMIT_RSS", RLIMIT_RSS},
        {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},   {"RLIMIT_RTTIME", RLIMIT_RTTIME},
        {"RLIMIT_STACK", RLIMIT_STACK},     {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    };

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i].name, name) == 0)
            return names[i].resource;
    return -1;
}

/* RLIM_INFINITY is written as 2^64 - 1, which the parser holds as a real, or as -1. */
static rlim_t rlimit_value(const json_t *number)
{
    if (json_is_integer(number))
        return (rlim_t)json_integer_value(number);
    return json_real_value(number) >= 0 && json_real_value(number) < 0x1p64
               ? (rlim_t)json_real_value(number)
               : RLIM_INFINITY;
}

static int parse_rlimits(const struct json_at *process, struct oci_process *ret, struct err *err)
{
    struct json_at array, item;
    size_t length;
    int result = spec_read_array(process, "rlimits", &array, &length, err);

    if (result < 0 || !length)
        return result;
    if (!(ret->rlimits = spec_new_list(length, sizeof(*ret->rlimits))))
        return err_set(err, -ENOMEM, "%s: out of memory", array.path);
    for (size_t i = 0; i < length; i++) {
        struct oci_rlimit *rlimit = &ret->rlimits[i];
        const char *type = NULL;
        json_t *soft, *hard;

        if ((result = json_at_index(&array, i, &item, err)) < 0 ||
            (result = json_get_string(&item, "type", &type, err)) < 0)
            return result;
        if ((rlimit->resource = rlimit_from_name(type)) < 0)
            return err_set(err, -EINVAL, "%s.type: unknown limit '%s'", item.path, type);
        for (size_t j = 0; j < i; j++)
            if (ret->rlimits[j].resource == rlimit->resource)
                return err_set(err, -EINVAL, "%s.type: '%s' is given twice", item.path, type);
        soft = json_object_get(item.value, "soft");
        hard = json_object_get(item.value, "hard");
        if (!json_is_number(soft) || !json_is_number(hard))
            return err_set(err, -EINVAL, "%s: soft and hard numbers are needed", item.path);
        rlimit->limit.rlim_cur = rlimit_value(soft);
        rlimit->limit.rlim_max = rlimit_value(hard);
        if (rlimit->limit.rlim_cur > rlimit->limit.rlim_max)
            return err_set(err, -EINVAL, "%s: the soft limit is above the hard one", item.path);
        ret->nr_rlimits++;
    }
    return 0;
}

static int parse_user(const struct json_at *process, struct oci_process *ret, struct err *err)
{
    struct json_at user, array, item;
    uint32_t mask = 022;
    size_t length;
    int result = json_at_member(process, "user", &user, err);

    if (result < 0)
        return result;
    if (!user.value) {
        ret->umask = mask;
        return 0;
    }
    if ((result = spec_read_uint32(&user, "uid", &ret->uid, err)) < 0 ||
        (result = spec_read_uint32(&user, "gid", &ret->gid, err)) < 0 ||
        (result = spec_read_uint32(&user, "umask", &mask, err)) < 0 ||
        (result = spec_read_array(&user, "additionalGids", &array, &length, err)) < 0)
        return result;
    if (mask > 0777)
        return err_set(err, -ERANGE, "process.user.umask: %u is not a file mode mask", mask);
    ret->umask = mask;
    if (!(ret->additional_gids = spec_new_list(length, sizeof(gid_t))))
        return err_set(err, -ENOMEM, "process.user: out of memory");
    for (size_t i = 0; i < length; i++) {
        if ((result = json_at_index(&array, i, &item, err)) < 0)
            return result;
        if (!json_is_integer(item.value) || json_integer_value(item.value) < 0 ||
            json_integer_value(item.value) >= UINT32_MAX)
            return err_set(err, -EINVAL, "%s: not a group id", item.path);
        ret->additional_gids[ret->nr_additional_gids++] = (gid_t)json_integer_value(item.value);
    }
    return 0;
}

static int parse_process(const struct json_at *root, struct oci_process *ret, struct err *err)
{
    int64_t oom_score_adj = INT64_MIN;
    struct json_at at, size;
    int result = json_at_member(root, "process", &at, err);

    if (result < 0)
        return result;
    if (!at.value)
        return err_set(err, -EINVAL, "process: required to start a container, and absent");
    if ((result = json_get_string(&at, "cwd", &ret->cwd, err)) < 0 ||
        (result = json_opt_bool(&at, "terminal", &ret->terminal, err)) < 0 ||
        (result = json_opt_bool(&at, "noNewPrivileges", &ret->no_new_privileges, err)) < 0 ||
        (result = json_opt_int(&at, "oomScoreAdj", &oom_score_adj, err)) < 0 ||
        (result = spec_read_strings(&at, "args", &ret->args, err)) < 0 ||
        (result = spec_read_strings(&at, "env", &ret->env, err)) < 0 ||
        (result = parse_user(&at, ret, err)) < 0 ||
        (result = parse_capabilities(&at, &ret->capabilities, err)) < 0 ||
        (result = parse_rlimits(&at, ret, err)) < 0 ||
        (result = process_attributes_read(&at, ret, err)) < 0 ||
        (result = json_at_member(&at, "consoleSize", &size, err)) < 0)
        return result;
    if (size.value && ((result = spec_read_uint32(&size, "width", &ret->console_width, err)) < 0 ||
                       (result = spec_read_uint32(&size, "height", &ret->console_height, err)) < 0))
        return result;
    if (ret->cwd[0] != '/')
        return err_set(err, -EINVAL, "process.cwd: '%s' is not an absolute path", ret->cwd);
    if (!ret->args.length)
        return err_set(err, -EINVAL, "process.args: at least one argument is needed");
    if (oom_score_adj != INT64_MIN) {
        if (oom_score_adj < -1000 || oom_score_adj > 1000)
            return err_set(err, -ERANGE, "process.oomScoreAdj: %lld is not in -1000..1000",
                           (long long)oom_score_adj);
        ret->has_oom_score_adj = true;
        ret->oom_score_adj = (int)oom_score_adj;
    }
    return 0;
}

static int parse_id_maps(const struct json_at *linux_at, const char *name, struct oci_id_map **ret,
                         size_t *ret_length, struct err *err)
{
    struct json_at array, item;
    size_t length;
    int result = spec_read_array(linux_at, name, &array, &length, err);

    if (result < 0 || !length)
        return result;
    if (length > 340)
        return err_set(err, -E2BIG, "%s: the kernel takes at most 340 ranges", array.path);
    if (!(*ret = spec_new_list(length, sizeof(**ret))))
        return err_set(err, -ENOMEM, "%s: out of memory", array.path);
    for (size_t i = 0; i < length; i++) {
        struct oci_id_map *map = &(*ret)[i];

        if ((result = json_at_index(&array, i, &item, err)) < 0 ||
            (result = spec_read_uint32(&item, "containerID", &map->container_id, err)) < 0 ||
            (result = spec_read_uint32(&item, "hostID", &map->host_id, err)) < 0 ||
            (result = spec_read_uint32(&item, "size", &map->size, err)) < 0)
            return result;
        if (map->size == 0)
            return err_set(err, -EINVAL, "%s.size: must be at least 1", item.path);
    }
    *ret_length = length;
    return 0;
}

static int parse_mounts(const struct json_at *root, struct oci_spec *ret, struct err *err)
{
    struct json_at array, item;
    size_t length;
    int result = spec_read_array(root, "mounts", &array, &length, err);

    if (result < 0 || !length)
        return result;
    if (!(ret->mounts = spec_new_list(length, sizeof(*ret->mounts))))
        return err_set(err, -ENOMEM, "mounts: out of memory");
    for (size_t i = 0; i < length; i++) {
        struct oci_mount *mount = &ret->mounts[i];

        mount->tree_fd = -1;
        ret->nr_mounts++;
        if ((result = json_at_index(&array, i, &item, err)) < 0 ||
            (result = json_get_string(&item, "destination", &mount->destination, err)) < 0 ||
            (result = json_opt_string(&item, "type", &mount->type, err)) < 0 ||
            (result = json_opt_string(&item, "source", &mount->source, err)) < 0 ||
            (result = spec_read_strings(&item, "options", &mount->options, err)) < 0 ||
            (result = parse_id_maps(&item, "uidMappings", &mount->uid_maps, &mount->nr_uid_maps,
                                    err)) < 0 ||
            (result = parse_id_maps(&item, "gidMappings", &mount->gid_maps, &mount->nr_gid_maps,
                                    err)) < 0)
            return result;
    }
    return 0;
}

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

static int parse_devices(const struct json_at *linux_at, struct oci_spec *ret, struct err *err)
{
    struct json_at array, item;
    size_t length;
    int result = spec_read_array(linux_at, "devices", &array, &length, err);

    if (result < 0 || !length)
        return result;
    if (!(ret->devices = spec_new_list(length, sizeof(*ret->devices))))
        return err_set(err, -ENOMEM, "linux.devices: out of memory");
    for (size_t i = 0; i < length; i++) {
        struct oci_device *device = &ret->devices[i];
        const char *type = NULL;
        uint32_t mode = 0666;

        if ((result = json_at_index(&array, i, &item, err)) < 0 ||
            (result = json_get_string(&item, "path", &device->path, err)) < 0 ||
            (result = json_get_string(&item, "type", &type, err)) < 0 ||
            (result = spec_read_uint32(&item, "major", &device->major, err)) < 0 ||
            (result = spec_read_uint32(&item, "minor", &device->minor, err)) < 0 ||
            (result = spec_read_uint32(&item, "fileMode", &mode, err)) < 0 ||
            (result = spec_read_uint32(&item, "uid", &device->uid, err)) < 0 ||
            (result = spec_read_uint32(&item, "gid", &device->gid, err)) < 0)
            return result;
        if (!strchr("cbup", type[0]) || type[0] == '\0' || type[1])
            return err_set(err, -EINVAL, "%s.type: '%s' is not c, b, u or p", item.path, type);
        if (device->path[0] != '/')
            return err_set(err, -EINVAL, "%s.path: '%s' is not an absolute path", item.path,
                           device->path);
        device->type = type[0] == 'u' ? 'c' : type[0];
        device->mode = mode & 07777;
        ret->nr_devices++;
    }
    return 0;
}

static int parse_device_rules(const struct json_at *resources, struct oci_resources *ret,
                              struct err *err)
{
    struct json_at array, item;
    size_t length;
    int result = spec_read_array(resources, "devices", &array, &length, err);

    if (result < 0 || !length)
        return result;
    if (!(ret->devices = spec_new_list(length, sizeof(*ret->devices))))
        return err_set(err, -ENOMEM, "linux.resources.devices: out of memory");
    for (size_t i = 0; i < length; i++) {
        struct oci_device_rule *rule = &ret->devices[i];
        const char *type = "a";

        rule->major = rule->minor = -1;
        rule->access = "rwm";
        if ((result = json_at_index(&array, i, &item, err)) < 0 ||
            (result = json_get_bool(&item, "allow", &rule->allow, err)) < 0 ||
            (result = json_opt_string(&item, "type", &type, err)) < 0 ||
            (result = json_opt_int(&item, "major", &rule->major, err)) < 0 ||
            (result = json_opt_int(&item, "minor", &rule->minor, err)) < 0 ||
            (result = json_opt_string(&item, "access", &rule->access, err)) < 0)
            return result;
        if (!type[0] || type[1] || !strchr("abc", type[0]))
            return err_set(err, -EINVAL, "%s.type: '%s' is not a, b or c", item.path, type);
        if (strspn(rule->access, "rwm") != strlen(rule->access))
            return err_set(err, -EINVAL, "%s.access: '%s' is not made of r, w, m", item.path,
                           rule->access);
        rule->type = type[0];
        ret->nr_devices++;
    }
    return 0;
}

static int parse_resources(const struct json_at *linux_at, struct oci_resources *ret,
                           struct err *err)
{
    struct json_at at, memory, cpu, pids, block;
    int result;

    ret->memory_limit_bytes = ret->memory_swap_bytes = ret->memory_reservation_bytes = -1;
    ret->cpu_quota_us = -1;
    ret->pids_limit = -1;
    if ((result = json_at_member(linux_at, "resources", &at, err)) < 0 || !at.value)
        return result;
    if ((result = json_at_member(&at, "memory", &memory, err)) < 0 ||
        (result = json_at_member(&at, "cpu", &cpu, err)) < 0 ||
        (result = json_at_member(&at, "pids", &pids, err)) < 0 ||
        (result = json_at_member(&at, "blockIO", &block, err)) < 0)
        return result;
    if (memory.value &&
        ((result = json_opt_int(&memory, "limit", &ret->memory_limit_bytes, err)) < 0 ||
         (result = json_opt_int(&memory, "swap", &ret->memory_swap_bytes, err)) < 0 ||
         (result = json_opt_int(&memory, "reservation", &ret->memory_reservation_bytes, err)) < 0))
        return result;
    if (cpu.value && ((result = json_opt_uint(&cpu, "shares", &ret->cpu_shares, err)) < 0 ||
                      (result = json_opt_int(&cpu, "quota", &ret->cpu_quota_us, err)) < 0 ||
                      (result = json_opt_uint(&cpu, "period", &ret->cpu_period_us, err)) < 0 ||
                      (result = json_opt_string(&cpu, "cpus", &ret->cpuset_cpus, err)) < 0 ||
                      (result = json_opt_string(&cpu, "mems", &ret->cpuset_mems, err)) < 0))
        return result;
    if (pids.value && (result = json_opt_int(&pids, "limit", &ret->pids_limit, err)) < 0)
        return result;
    if (block.value && (result = json_opt_uint(&block, "weight", &ret->blkio_weight, err)) < 0)
        return result;
    ret->document = at.value;
    ret->unified = json_object_get(at.value, "unified");
    return parse_device_rules(&at, ret, err);
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

/* Members of `linux` that change what a container may do and that this runtime does not carry out.
 */
static int refuse_unsupported(const struct json_at *linux_at, struct err *err)
{
    static const char *const members[] = {"intelRdt", "netDevices"};
    const char *label = NULL;

    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (json_object_get(linux_at->value, members[i]))
            return err_set(err, -ENOTSUP, "linux.%s: not supported", members[i]);
    if (json_opt_string(linux_at, "mountLabel", &label, err) < 0)
        return -EINVAL;
    if (label && label[0])
        return err_set(err, -ENOTSUP, "linux.mountLabel: not supported");
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

static int parse_linux(const struct json_at *root, struct oci_spec *ret, struct err *err)
{
    struct json_at at;
    int result = json_at_member(root, "linux", &at, err);

    if (result < 0)
        return result;
    if (!at.value)
        return err_set(err, -EINVAL, "linux: required on this system, and absent");
    if ((result = refuse_unsupported(&at, err)) < 0 ||
        (result = parse_namespaces(&at, ret, err)) < 0 ||
        (result = parse_id_maps(&at, "uidMappings", &ret->uid_maps, &ret->nr_uid_maps, err)) < 0 ||
        (result = parse_id_maps(&at, "gidMappings", &ret->gid_maps, &ret->nr_gid_maps, err)) < 0 ||
        (result = parse_devices(&at, ret, err)) < 0 ||
        (result = parse_resources(&at, &ret->resources, err)) < 0 ||
        (result = parse_sysctls(&at, ret, err)) < 0 ||
        (result = parse_propagation(&at, ret, err)) < 0 ||
        (result = parse_seccomp(&at, ret, err)) < 0 ||
        (result = parse_personality(&at, ret, err)) < 0 ||
        (result = parse_time_offsets(&at, ret, err)) < 0 ||
        (result = json_opt_string(&at, "cgroupsPath", &ret->cgroups_path, err)) < 0 ||
        (result = spec_read_strings(&at, "maskedPaths", &ret->masked_paths, err)) < 0)
        return result;
    return spec_read_strings(&at, "readonlyPaths", &ret->read_only_paths, err);
}

/* A parameter that belongs to no namespace of the container would be changed for the whole host. */
static int check_sysctl(const struct oci_spec *spec, const char *name, struct err *err)
{
    static const char *const ipc[] = {"kernel.msgmax", "kernel.msgmnb",         "kernel.msgmni",
                                      "kernel.sem",    "kernel.shmall",         "kernel.shmmax",
                                      "kernel.shmmni", "kernel.shm_rmid_forced"};
    int flag = 0;

    if (strncmp(name, "net.", 4) == 0)
        flag = CLONE_NEWNET;
    else if (strncmp(name, "fs.mqueue.", 10) == 0)
        flag = CLONE_NEWIPC;
    else if (strcmp(name, "kernel.domainname") == 0 || strcmp(name, "kernel.hostname") == 0)
        flag = CLONE_NEWUTS;
    for (size_t i = 0; i < ARRAY_LEN(ipc); i++)
        if (strcmp(name, ipc[i]) == 0)
            flag = CLONE_NEWIPC;
    if (flag == 0)
        return err_set(err, -EINVAL, "linux.sysctl.%s: belongs to no namespace", name);
    if (!oci_spec_namespace(spec, flag))
        return err_set(err, -EINVAL, "linux.sysctl.%s: needs a namespace of its own (%s)", name,
                       flag == CLONE_NEWNET   ? "network"
                       : flag == CLONE_NEWIPC ? "ipc"
                                              : "uts");
    return 0;
}

static int check_consistency(const struct oci_spec *spec, struct err *err)
{
    if (!oci_spec_namespace(spec, CLONE_NEWNS))
        return err_set(err, -EINVAL, "linux.namespaces: a mount namespace is required");
    if (spec->hostname && !oci_spec_namespace(spec, CLONE_NEWUTS))
        return err_set(err, -EINVAL, "hostname: needs a uts namespace in linux.namespaces");
    if (spec->nr_uid_maps && !oci_spec_namespace(spec, CLONE_NEWUSER))
        return err_set(err, -EINVAL,
                       "linux.uidMappings: needs a user namespace in linux.namespaces");
    for (size_t i = 0; i < spec->nr_sysctls; i++) {
        int result = check_sysctl(spec, spec->sysctls[i].name, err);

        if (result < 0)
            return result;
    }
    if (spec->domainname && !oci_spec_namespace(spec, CLONE_NEWUTS))
        return err_set(err, -EINVAL, "domainname: needs a uts namespace in linux.namespaces");
    if (spec->nr_time_offsets && !oci_spec_namespace(spec, CLONE_NEWTIME))
        return err_set(err, -EINVAL,
                       "linux.timeOffsets: needs a time namespace in linux.namespaces");
    if (spec->cgroups_path && strstr(spec->cgroups_path, ".."))
        return err_set(err, -EINVAL, "linux.cgroupsPath: '%s' leaves its root", spec->cgroups_path);
    return 0;
}

static int parse_document(struct oci_spec *spec, struct err *err)
{
    struct json_at root, at;
    int result;

    json_at_root(spec->document, &root);
    if ((result = json_get_string(&root, "ociVersion", &spec->version, err)) < 0)
        return result;
    if (strncmp(spec->version, "1.", 2) != 0)
        return err_set(err, -ENOTSUP, "ociVersion: %s, but 1.x is what is understood",
                       spec->version);
    if ((result = parse_process(&root, &spec->process, err)) < 0 ||
        (result = json_at_member(&root, "root", &at, err)) < 0)
        return result;
    if (!at.value)
        return err_set(err, -EINVAL, "root: required, and absent");
    if ((result = json_get_string(&at, "path", &spec->root_path, err)) < 0 ||
        (result = json_opt_bool(&at, "readonly", &spec->root_read_only, err)) < 0 ||
        (result = json_opt_string(&root, "hostname", &spec->hostname, err)) < 0 ||
        (result = json_opt_string(&root, "domainname", &spec->domainname, err)) < 0 ||
        (result = parse_mounts(&root, spec, err)) < 0 ||
        (result = parse_linux(&root, spec, err)) < 0)
        return result;
    spec->annotations = json_object_get(spec->document, "annotations");
    spec->hooks = json_object_get(spec->document, "hooks");
    if ((result = hooks_check(&root, err)) < 0)
        return result;
    return check_consistency(spec, err);
}

DEFINE_CLEANUP(oci_spec_freep, struct oci_spec *, oci_spec_free);

int oci_spec_from_json(json_t *document, const char *source, struct oci_spec **ret, struct err *err)
{
    CLEANUP(oci_spec_freep) struct oci_spec *spec = calloc(1, sizeof(*spec));
    int result;

    if (!spec)
        return err_set(err, -ENOMEM, "%s: out of memory", source);
    spec->document = json_incref(document);
    if ((result = parse_document(spec, err)) < 0)
        return err_wrap(err, "%s", source);
    *ret = TAKE_PTR(spec);
    return 0;
}

int oci_spec_parse(const char *text, size_t length, const char *source, struct oci_spec **ret,
                   struct err *err)
{
    CLEANUP(oci_spec_freep) struct oci_spec *spec = calloc(1, sizeof(*spec));
    int result;

    if (!spec)
        return err_set(err, -ENOMEM, "%s: out of memory", source);
    if ((result = json_parse(text, length, source, &spec->document, err)) < 0)
        return result;
    if ((result = parse_document(spec, err)) < 0)
        return err_wrap(err, "%s", source);
    *ret = TAKE_PTR(spec);
    return 0;
}

int oci_spec_load(const char *bundle, struct oci_spec **ret, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    CLEANUP(fd_closep) int fd = open(bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int result;

    buf_init(&text, CONFIG_SIZE_MAX);
    if (fd < 0)
        return err_errno(err, -errno, "bundle '%s'", bundle);
    if ((result = file_load(fd, "config.json", &text, err)) < 0)
        return err_wrap(err, "bundle '%s'", bundle);
    return oci_spec_parse(text.data, text.length, "config.json", ret, err);
}

void oci_spec_free(struct oci_spec *spec)
{
    if (!spec)
        return;
    for (size_t i = 0; i < spec->nr_mounts; i++) {
        free(spec->mounts[i].options.items);
        free(spec->mounts[i].uid_maps);
        free(spec->mounts[i].gid_maps);
        fd_closep(&spec->mounts[i].tree_fd);
    }
    free(spec->mounts);
    free(spec->namespaces);
    free(spec->uid_maps);
    free(spec->gid_maps);
    free(spec->devices);
    free(spec->resources.devices);
    free(spec->masked_paths.items);
    free(spec->read_only_paths.items);
    free(spec->sysctls);
    free(spec->process.additional_gids);
    free(spec->process.args.items);
    free(spec->process.env.items);
    free(spec->process.rlimits);
    json_decref(spec->document);
    free(spec);
}

const char *oci_spec_annotation(const struct oci_spec *spec, const char *name)
{
    return spec->annotations ? json_string_value(json_object_get(spec->annotations, name)) : NULL;
}

const struct oci_namespace *oci_spec_namespace(const struct oci_spec *spec, int flag)
{
    for (size_t i = 0; i < spec->nr_namespaces; i++)
        if (spec->namespaces[i].flag == flag)
            return &spec->namespaces[i];
    return NULL;
}
