/* SPDX-License-Identifier: Apache-2.0 */
/* Devices that are made (linux.devices) and what the container may use (linux.resources). */
#include "oci/spec_parts.h"

#include "base/json.h"
#include "oci/spec_read.h"

#include <errno.h>
#include <string.h>

int spec_read_devices(const struct json_at *linux_at, struct oci_spec *ret, struct err *err)
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

int spec_read_resources(const struct json_at *linux_at, struct oci_resources *ret, struct err *err)
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
