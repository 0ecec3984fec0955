/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The member `process` (config.md, "Process"): who runs, with which limits and capabilities. Its
 * rarer attributes are read in process_attributes.c.
 */
#include "oci/spec_parts.h"

#include "base/json.h"
#include "base/util.h"
#include "oci/capability.h"
#include "oci/process_attributes.h"
#include "oci/spec_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
    /* To the kernel this one means "as it is": root. */
    if (ret->uid == UINT32_MAX || ret->gid == UINT32_MAX)
        return err_set(err, -ERANGE, "process.user.%s: %u is nobody's id",
                       ret->uid == UINT32_MAX ? "uid" : "gid", UINT32_MAX);
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

int spec_read_process(const struct json_at *root, struct oci_process *ret, struct err *err)
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
