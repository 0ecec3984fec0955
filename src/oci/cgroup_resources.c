/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Members of linux.resources beyond the common limits of cgroup_limits.c: real time, burst and idle
 * of cpu, the rest of memory, block I/O, huge pages, network, RDMA. They are read from the document
 * when they are written: each is one or two files. A member that this host's version of cgroups
 * does not have is refused by name.
 */
#include "oci/cgroup_internal.h"

#include "base/json.h"
#include "base/util.h"
#include "oci/spec_read.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A number that only version 1 has a file for. */
static int write_v1_only(struct cgroup *cgroup, const struct json_at *at, const char *member,
                         const char *file, struct err *err)
{
    int64_t value = INT64_MIN;
    int result = json_opt_int(at, member, &value, err);

    if (result < 0 || value == INT64_MIN)
        return result;
    if (cgroup->layout == CGROUP_LAYOUT_V2)
        return err_set(err, -ENOTSUP, "%s.%s: cgroup v2 has no such limit", at->path, member);
    return cgroup_write_number(cgroup, file, value, err);
}

int cgroup_check_memory(struct cgroup *cgroup, json_t *resources, struct err *err)
{
    struct json_at at = {.value = json_object_get(resources, "memory")};
    uint64_t current = 0, peak = 0;
    bool check = false;
    int64_t limit = -1;
    int result;

    snprintf(at.path, sizeof(at.path), "linux.resources.memory");
    if (!at.value)
        return 0;
    if ((result = json_opt_bool(&at, "checkBeforeUpdate", &check, err)) < 0 ||
        (result = json_opt_int(&at, "limit", &limit, err)) < 0)
        return result;
    if (check && limit > 0 && cgroup_memory_bytes(cgroup, &current, &peak) == 0 &&
        current > (uint64_t)limit)
        return err_set(err, -EBUSY, "%s.limit: %lld is below the %llu bytes in use", at.path,
                       (long long)limit, (unsigned long long)current);
    return 0;
}

static int apply_memory(struct cgroup *cgroup, const struct json_at *at, struct err *err)
{
    uint64_t swappiness = 0;
    bool no_killer = false;
    int result;

    if ((result = json_opt_uint(at, "swappiness", &swappiness, err)) < 0 ||
        (result = json_opt_bool(at, "disableOOMKiller", &no_killer, err)) < 0)
        return result;
    if (swappiness > 100)
        return err_set(err, -ERANGE, "%s.swappiness: %llu is not in 0..100", at->path,
                       (unsigned long long)swappiness);
    /* Kernel memory has had no limit of its own since Linux 5.16: `kernel` is accepted as the other
     * runtimes do, and counts as part of `limit`. */
    if ((result = write_v1_only(cgroup, at, "kernelTCP", "memory.kmem.tcp.limit_in_bytes", err)) <
            0 ||
        (result = write_v1_only(cgroup, at, "swappiness", "memory.swappiness", err)) < 0)
        return result;
    if (!no_killer)
        return 0;
    if (cgroup->layout == CGROUP_LAYOUT_V2)
        return err_set(err, -ENOTSUP, "%s.disableOOMKiller: cgroup v2 has no such switch",
                       at->path);
    return cgroup_write_text(cgroup, "memory.oom_control", "1", err);
}

static int apply_cpu(struct cgroup *cgroup, const struct json_at *at, struct err *err)
{
    uint64_t burst = 0;
    int64_t idle = 0;
    int result;

    if ((result = json_opt_uint(at, "burst", &burst, err)) < 0 ||
        (result = json_opt_int(at, "idle", &idle, err)) < 0)
        return result;
    if (json_object_get(at->value, "idle") && idle != 0 && idle != 1)
        return err_set(err, -ERANGE, "%s.idle: 0 or 1 is needed", at->path);
    if (json_object_get(at->value, "burst") &&
        (result = cgroup_write_number(
             cgroup, cgroup->layout == CGROUP_LAYOUT_V2 ? "cpu.max.burst" : "cpu.cfs_burst_us",
             (int64_t)burst, err)) < 0)
        return result;
    if (json_object_get(at->value, "idle") &&
        (result = cgroup_write_number(cgroup, "cpu.idle", idle, err)) < 0)
        return result;
    /* The period first: the run time must fit into it. */
    if ((result = write_v1_only(cgroup, at, "realtimePeriod", "cpu.rt_period_us", err)) < 0)
        return result;
    return write_v1_only(cgroup, at, "realtimeRuntime", "cpu.rt_runtime_us", err);
}

static int read_device_number(const struct json_at *item, char *ret, size_t size, struct err *err)
{
    uint64_t major = 0, minor = 0;
    int result;

    if ((result = json_get_uint(item, "major", &major, err)) < 0 ||
        (result = json_get_uint(item, "minor", &minor, err)) < 0)
        return result;
    if (major > UINT32_MAX || minor > UINT32_MAX)
        return err_set(err, -ERANGE, "%s: not a device number", item->path);
    snprintf(ret, size, "%llu:%llu", (unsigned long long)major, (unsigned long long)minor);
    return 0;
}

static int apply_weights(struct cgroup *cgroup, const struct json_at *at, struct err *err)
{
    struct json_at array, item;
    size_t length;
    int result = spec_read_array(at, "weightDevice", &array, &length, err);

    if (result == 0 && json_object_get(at->value, "leafWeight"))
        return err_set(err, -ENOTSUP, "%s.leafWeight: no current kernel has it", at->path);
    for (size_t i = 0; result == 0 && i < length; i++) {
        char device[48], text[96];
        uint64_t weight = 0;

        if ((result = json_at_index(&array, i, &item, err)) < 0 ||
            (result = read_device_number(&item, device, sizeof(device), err)) < 0 ||
            (result = json_get_uint(&item, "weight", &weight, err)) < 0)
            return result;
        if (json_object_get(item.value, "leafWeight"))
            return err_set(err, -ENOTSUP, "%s.leafWeight: no current kernel has it", item.path);
        snprintf(text, sizeof(text), "%s %llu", device, (unsigned long long)weight);
        result = cgroup_write_text(cgroup,
                                   cgroup->layout == CGROUP_LAYOUT_V2 ? "io.bfq.weight"
                                                                      : "blkio.bfq.weight_device",
                                   text, err);
    }
    return result;
}

static int apply_block_io(struct cgroup *cgroup, const struct json_at *at, struct err *err)
{
    static const struct {
        const char *member, *v1_file, *v2_key;
    } throttles[] = {
        {"throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"},
        {"throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"},
        {"throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"},
        {"throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops"},
    };
    bool v2 = cgroup->layout == CGROUP_LAYOUT_V2;
    struct json_at array, item;
    size_t length;
    int result = apply_weights(cgroup, at, err);

    for (size_t t = 0; result == 0 && t < ARRAY_LEN(throttles); t++) {
        if ((result = spec_read_array(at, throttles[t].member, &array, &length, err)) < 0)
            return result;
        for (size_t i = 0; result == 0 && i < length; i++) {
            char device[48], text[128];
            uint64_t rate = 0;

            if ((result = json_at_index(&array, i, &item, err)) < 0 ||
                (result = read_device_number(&item, device, sizeof(device), err)) < 0 ||
                (result = json_get_uint(&item, "rate", &rate, err)) < 0)
                return result;
            if (v2)
                snprintf(text, sizeof(text), "%s %s=%llu", device, throttles[t].v2_key,
                         (unsigned long long)rate);
            else
                snprintf(text, sizeof(text), "%s %llu", device, (unsigned long long)rate);
            result = cgroup_write_text(cgroup, v2 ? "io.max" : throttles[t].v1_file, text, err);
        }
    }
    return result;
}

/* "2MB", "1GB": part of a file's name, so nothing else may pass. */
static bool is_page_size(const char *text)
{
    size_t digits = strspn(text, "0123456789");

    return digits > 0 && digits < 10 && text[0] != '0' && strchr("KMG", text[digits]) &&
           text[digits] && strcmp(text + digits + 1, "B") == 0;
}

/* Version 2's, also on a hybrid host that has the controller there: it is not handed down yet. */
static bool huge_pages_are_v2(struct cgroup *cgroup, const char *size)
{
    char file[64];

    snprintf(file, sizeof(file), "hugetlb.%s.max", size);
    if (cgroup->layout == CGROUP_LAYOUT_HYBRID)
        cgroup_hand_down(cgroup, "+hugetlb");
    return cgroup->layout == CGROUP_LAYOUT_V2 || cgroup_has_file(cgroup, file);
}

static int apply_huge_pages(struct cgroup *cgroup, const struct json_at *resources, struct err *err)
{
    struct json_at array, item;
    size_t length;
    int result = spec_read_array(resources, "hugepageLimits", &array, &length, err);

    for (size_t i = 0; result == 0 && i < length; i++) {
        const char *size = NULL;
        uint64_t limit = 0;
        char file[64], text[32];
        bool v2;

        if ((result = json_at_index(&array, i, &item, err)) < 0 ||
            (result = json_get_string(&item, "pageSize", &size, err)) < 0 ||
            (result = json_get_uint(&item, "limit", &limit, err)) < 0)
            return result;
        if (!is_page_size(size))
            return err_set(err, -EINVAL, "%s.pageSize: '%s' is not like 2MB", item.path, size);
        v2 = huge_pages_are_v2(cgroup, size);
        snprintf(text, sizeof(text), "%llu", (unsigned long long)limit);
        /* Reservations, too, where they are counted: otherwise mmap alone goes past the limit. */
        snprintf(file, sizeof(file), "hugetlb.%s.rsvd.%s", size, v2 ? "max" : "limit_in_bytes");
        if (cgroup_has_file(cgroup, file) &&
            (result = cgroup_write_text(cgroup, file, text, err)) < 0)
            return result;
        snprintf(file, sizeof(file), "hugetlb.%s.%s", size, v2 ? "max" : "limit_in_bytes");
        result = cgroup_write_text(cgroup, file, text, err);
    }
    return result;
}

static int apply_network(struct cgroup *cgroup, const struct json_at *at, struct err *err)
{
    struct json_at array, item;
    size_t length;
    int result = write_v1_only(cgroup, at, "classID", "net_cls.classid", err);

    if (result < 0 || (result = spec_read_array(at, "priorities", &array, &length, err)) < 0)
        return result;
    if (length && cgroup->layout == CGROUP_LAYOUT_V2)
        return err_set(err, -ENOTSUP, "%s: cgroup v2 has no such limit", array.path);
    for (size_t i = 0; result == 0 && i < length; i++) {
        const char *name = NULL;
        uint64_t priority = 0;
        char text[64];

        if ((result = json_at_index(&array, i, &item, err)) < 0 ||
            (result = json_get_string(&item, "name", &name, err)) < 0 ||
            (result = json_get_uint(&item, "priority", &priority, err)) < 0)
            return result;
        if (strlen(name) > 15 || strpbrk(name, " \n"))
            return err_set(err, -EINVAL, "%s.name: '%s' is not a network device", item.path, name);
        snprintf(text, sizeof(text), "%s %llu", name, (unsigned long long)priority);
        result = cgroup_write_text(cgroup, "net_prio.ifpriomap", text, err);
    }
    return result;
}

static int apply_rdma(struct cgroup *cgroup, const struct json_at *at, struct err *err)
{
    const char *device;
    json_t *value;
    int result = 0;

    if (!json_is_object(at->value))
        return err_set(err, -EINVAL, "%s: an object is needed", at->path);
    json_object_foreach(at->value, device, value)
    {
        uint32_t handles = UINT32_MAX, objects = UINT32_MAX;
        char text[160], handle_text[24] = "", object_text[24] = "";
        struct json_at item;

        if ((result = json_at_member(at, device, &item, err)) < 0 ||
            (result = spec_read_uint32(&item, "hcaHandles", &handles, err)) < 0 ||
            (result = spec_read_uint32(&item, "hcaObjects", &objects, err)) < 0)
            return result;
        if (strlen(device) > 63 || strpbrk(device, " \n"))
            return err_set(err, -EINVAL, "%s: not an RDMA device", item.path);
        if (json_object_get(item.value, "hcaHandles"))
            snprintf(handle_text, sizeof(handle_text), " hca_handle=%u", handles);
        if (json_object_get(item.value, "hcaObjects"))
            snprintf(object_text, sizeof(object_text), " hca_object=%u", objects);
        snprintf(text, sizeof(text), "%s%s%s", device, handle_text, object_text);
        if ((result = cgroup_write_text(cgroup, "rdma.max", text, err)) < 0)
            return result;
    }
    return result;
}

int cgroup_apply_document(struct cgroup *cgroup, json_t *resources, struct err *err)
{
    static const struct {
        const char *member;
        int (*apply)(struct cgroup *cgroup, const struct json_at *at, struct err *err);
    } members[] = {
        {"memory", apply_memory},   {"cpu", apply_cpu},   {"blockIO", apply_block_io},
        {"network", apply_network}, {"rdma", apply_rdma},
    };
    struct json_at at = {.value = resources}, member;
    int result;

    if (!resources)
        return 0;
    snprintf(at.path, sizeof(at.path), "linux.resources");
    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if ((result = json_at_member(&at, members[i].member, &member, err)) < 0 ||
            (member.value && (result = members[i].apply(cgroup, &member, err)) < 0))
            return result;
    return apply_huge_pages(cgroup, &at, err);
}
