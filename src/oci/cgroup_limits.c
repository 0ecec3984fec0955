/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resource limits of the OCI configuration in the files of cgroup v1 and v2 (config-linux.md
 * "Control groups"; the kernel's cgroup-v1/ and cgroup-v2.rst). Conversions from v1 units to v2 are
 * the runtime specification's: cpu.shares -> cpu.weight: 10^((log2(s)^2 + 125 log2(s)) / 612 -
 * 7/34), so that 1024 is 100.
 */
#include "oci/cgroup_internal.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/buf.h"
#include "base/util.h"
#include "oci/device_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The v1 hierarchy whose directory has `file` (each controller's files carry its name), or the v2
 * one. NULL: nobody. */
static struct cgroup_hierarchy *owner_of(struct cgroup *cgroup, const char *file)
{
    size_t length = strcspn(file, ".");

    /* Most often the hierarchy is called what the file begins with. */
    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++) {
        struct cgroup_hierarchy *hierarchy = &cgroup->hierarchies[i];

        if (strncmp(hierarchy->name, file, length) == 0 && hierarchy->name[length] == '\0' &&
            faccessat(cgroup_directory(cgroup, hierarchy), file, F_OK, 0) == 0)
            return hierarchy;
    }
    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++)
        if (faccessat(cgroup_directory(cgroup, &cgroup->hierarchies[i]), file, F_OK, 0) == 0)
            return &cgroup->hierarchies[i];
    return NULL;
}

bool cgroup_has_file(struct cgroup *cgroup, const char *file)
{
    return owner_of(cgroup, file) != NULL;
}

int cgroup_write_text(struct cgroup *cgroup, const char *file, const char *text, struct err *err)
{
    struct cgroup_hierarchy *hierarchy = owner_of(cgroup, file);
    int result;

    if (!hierarchy)
        return err_set(err, -ENOTSUP,
                       "cgroup '%s': this host has no %s, so the limit %s cannot be set",
                       cgroup->path, file, text);
    result = file_write_string(hierarchy->fd, file, text);
    if (result < 0)
        return err_errno(err, result, "cgroup '%s': write '%s' to %s", cgroup->path, text, file);
    return 0;
}

int cgroup_write_number(struct cgroup *cgroup, const char *file, int64_t value, struct err *err)
{
    char text[32];

    snprintf(text, sizeof(text), "%lld", (long long)value);
    return cgroup_write_text(cgroup, file, text, err);
}

/* v2 files take "max" where v1 takes -1. */
static int write_limit(struct cgroup *cgroup, const char *file, int64_t value, struct err *err)
{
    return value < 0 ? cgroup_write_text(cgroup, file, "max", err)
                     : cgroup_write_number(cgroup, file, value, err);
}

static uint64_t weight_from_shares(uint64_t shares)
{
    double l = log2((double)MIN(MAX(shares, UINT64_C(2)), UINT64_C(262144)));
    double weight = ceil(pow(10, (l * l + 125 * l) / 612.0 - 7.0 / 34.0));

    return (uint64_t)MIN(MAX(weight, 1.0), 10000.0);
}

static int apply_memory_v1(struct cgroup *cgroup, const struct oci_resources *r, struct err *err)
{
    int result = 0;

    if (r->memory_limit_bytes != -1)
        result = cgroup_write_number(cgroup, "memory.limit_in_bytes", r->memory_limit_bytes, err);
    if (result == 0 && r->memory_swap_bytes != -1 &&
        owner_of(cgroup, "memory.memsw.limit_in_bytes"))
        result = cgroup_write_number(cgroup, "memory.memsw.limit_in_bytes", r->memory_swap_bytes,
                                     err);
    if (result == 0 && r->memory_reservation_bytes != -1)
        result = cgroup_write_number(cgroup, "memory.soft_limit_in_bytes",
                                     r->memory_reservation_bytes, err);
    return result;
}

static int apply_memory_v2(struct cgroup *cgroup, const struct oci_resources *r, struct err *err)
{
    int result = 0;

    if (r->memory_limit_bytes != -1)
        result = write_limit(cgroup, "memory.max", r->memory_limit_bytes, err);
    /* OCI's swap limit is memory plus swap, v2's is swap alone. */
    if (result == 0 && r->memory_swap_bytes > 0) {
        if (r->memory_limit_bytes > r->memory_swap_bytes)
            return err_set(err, -EINVAL, "memory.swap: %lld is below the memory limit",
                           (long long)r->memory_swap_bytes);
        result = write_limit(cgroup, "memory.swap.max",
                             r->memory_swap_bytes - MAX(r->memory_limit_bytes, INT64_C(0)), err);
    }
    if (result == 0 && r->memory_reservation_bytes != -1)
        result = write_limit(cgroup, "memory.low", r->memory_reservation_bytes, err);
    return result;
}

static int apply_cpu_v1(struct cgroup *cgroup, const struct oci_resources *r, struct err *err)
{
    int result = 0;

    if (r->cpu_shares)
        result = cgroup_write_number(cgroup, "cpu.shares", (int64_t)r->cpu_shares, err);
    if (result == 0 && r->cpu_period_us)
        result = cgroup_write_number(cgroup, "cpu.cfs_period_us", (int64_t)r->cpu_period_us, err);
    if (result == 0 && r->cpu_quota_us != -1)
        result = cgroup_write_number(cgroup, "cpu.cfs_quota_us", r->cpu_quota_us, err);
    return result;
}

static int apply_cpu_v2(struct cgroup *cgroup, const struct oci_resources *r, struct err *err)
{
    uint64_t period = r->cpu_period_us ? r->cpu_period_us : 100000;
    char text[64];
    int result = 0;

    if (r->cpu_shares)
        result = cgroup_write_number(cgroup, "cpu.weight",
                                     (int64_t)weight_from_shares(r->cpu_shares), err);
    if (result < 0 || (r->cpu_quota_us == -1 && !r->cpu_period_us))
        return result;
    if (r->cpu_quota_us > 0)
        snprintf(text, sizeof(text), "%lld %llu", (long long)r->cpu_quota_us,
                 (unsigned long long)period);
    else
        snprintf(text, sizeof(text), "max %llu", (unsigned long long)period);
    return cgroup_write_text(cgroup, "cpu.max", text, err);
}

static int apply_unified(struct cgroup *cgroup, const struct oci_resources *r, struct err *err)
{
    const char *file;
    json_t *value;
    int result = 0;

    if (!r->unified)
        return 0;
    if (cgroup->layout != CGROUP_LAYOUT_V2)
        return err_set(err, -ENOTSUP, "linux.resources.unified: needs cgroup v2, this host has %s",
                       cgroup_layout_name(cgroup->layout));
    json_object_foreach(r->unified, file, value)
    {
        if (!json_is_string(value) || strchr(file, '/'))
            return err_set(err, -EINVAL,
                           "linux.resources.unified.%s: not a cgroup file with a string", file);
        if ((result = cgroup_write_text(cgroup, file, json_string_value(value), err)) < 0)
            return result;
    }
    return result;
}

/* The files of one device policy, opened once: there are dozens of rules. */
struct device_files {
    int allow, deny;
};

static void device_files_done(struct device_files *files)
{
    fd_closep(&files->allow);
    fd_closep(&files->deny);
}

static int write_device_rule(struct cgroup *cgroup, int directory, struct device_files *files,
                             const struct oci_device_rule *rule, struct err *err)
{
    const char *name = rule->allow ? "devices.allow" : "devices.deny";
    int *fd = rule->allow ? &files->allow : &files->deny;
    char major[24] = "*", minor[24] = "*", text[96];

    if (rule->major >= 0)
        snprintf(major, sizeof(major), "%lld", (long long)rule->major);
    if (rule->minor >= 0)
        snprintf(minor, sizeof(minor), "%lld", (long long)rule->minor);
    if (rule->type == 'a')
        snprintf(text, sizeof(text), "a");
    else
        snprintf(text, sizeof(text), "%c %s:%s %s", rule->type, major, minor, rule->access);
    if (*fd < 0)
        *fd = openat(directory, name, O_WRONLY | O_CLOEXEC);
    if (*fd < 0 || write(*fd, text, strlen(text)) < 0)
        return err_errno(err, -errno, "cgroup '%s': write '%s' to %s", cgroup->path, text, name);
    return 0;
}

/* The devices that the specification promises in every container work whatever the configuration's
 * rules were. */
static const struct oci_device_rule default_device_rules[] = {
    {true, 'c', -1, -1, "m"},    /* making a node opens nothing */
    {true, 'b', -1, -1, "m"},    /* the same */
    {true, 'c', 1, 3, "rwm"},    /* null */
    {true, 'c', 1, 5, "rwm"},    /* zero */
    {true, 'c', 1, 7, "rwm"},    /* full */
    {true, 'c', 1, 8, "rwm"},    /* random */
    {true, 'c', 1, 9, "rwm"},    /* urandom */
    {true, 'c', 5, 0, "rwm"},    /* tty */
    {true, 'c', 5, 2, "rwm"},    /* ptmx */
    {true, 'c', 136, -1, "rwm"}, /* pts */
};

static int attach_device_filter(struct cgroup *cgroup, const struct oci_resources *r,
                                struct err *err)
{
    CLEANUP(freep)
    struct bpf_insn *items = calloc(
        DEVICE_FILTER_LENGTH(r->nr_devices + ARRAY_LEN(default_device_rules)), sizeof(*items));
    CLEANUP(fd_closep) int directory = cgroup_v2_fd(cgroup);
    size_t length;
    int result;

    if (!items || directory < 0)
        return err_set(err, -ENOMEM, "device rules: out of memory");
    length = device_filter_make(r->devices, r->nr_devices, default_device_rules,
                                ARRAY_LEN(default_device_rules), items);
    result = device_filter_attach(directory, items, length, err);
    /* Without the host's privileges no device can be made in the first place. */
    return result == -EPERM && geteuid() != 0 ? 0 : result;
}

static bool is_same_rule(const struct oci_device_rule *a, const struct oci_device_rule *b)
{
    return a->allow == b->allow && a->type == b->type && a->major == b->major &&
           a->minor == b->minor && strcmp(a->access, b->access) == 0;
}

/* Said already, and nothing was denied since. */
static bool is_said(const struct oci_resources *r, const struct oci_device_rule *rule)
{
    for (size_t i = r->nr_devices; i && r->devices[i - 1].allow; i--)
        if (is_same_rule(&r->devices[i - 1], rule))
            return true;
    return false;
}

/* What no rule speaks of is denied, in both versions. */
static int apply_devices(struct cgroup *cgroup, const struct oci_resources *r, struct err *err)
{
    static const struct oci_device_rule all_denied = {false, 'a', -1, -1, "rwm"};
    CLEANUP(device_files_done) struct device_files files = {-1, -1};
    struct cgroup_hierarchy *hierarchy;
    int result = 0;

    if (!r->nr_devices)
        return 0;
    if (cgroup->layout == CGROUP_LAYOUT_V2)
        return attach_device_filter(cgroup, r, err);
    if (!(hierarchy = owner_of(cgroup, "devices.allow")))
        return 0;
    if (r->devices[0].type != 'a')
        result = write_device_rule(cgroup, hierarchy->fd, &files, &all_denied, err);
    for (size_t i = 0; result == 0 && i < r->nr_devices; i++)
        result = write_device_rule(cgroup, hierarchy->fd, &files, &r->devices[i], err);
    for (size_t i = 0; result == 0 && i < ARRAY_LEN(default_device_rules); i++)
        if (!is_said(r, &default_device_rules[i]))
            result = write_device_rule(cgroup, hierarchy->fd, &files, &default_device_rules[i],
                                       err);
    return result;
}

int cgroup_apply(struct cgroup *cgroup, const struct oci_resources *r, struct err *err)
{
    bool v2 = cgroup->layout == CGROUP_LAYOUT_V2;
    int result = cgroup_check_memory(cgroup, r->document, err);

    if (result == 0)
        result = v2 ? apply_memory_v2(cgroup, r, err) : apply_memory_v1(cgroup, r, err);
    if (result == 0)
        result = v2 ? apply_cpu_v2(cgroup, r, err) : apply_cpu_v1(cgroup, r, err);
    if (result == 0 && r->cpuset_cpus && r->cpuset_cpus[0])
        result = cgroup_write_text(cgroup, "cpuset.cpus", r->cpuset_cpus, err);
    if (result == 0 && r->cpuset_mems && r->cpuset_mems[0])
        result = cgroup_write_text(cgroup, "cpuset.mems", r->cpuset_mems, err);
    if (result == 0 && r->pids_limit != -1 && r->pids_limit != 0)
        result = r->pids_limit < 0 ? cgroup_write_text(cgroup, "pids.max", "max", err)
                                   : cgroup_write_number(cgroup, "pids.max", r->pids_limit, err);
    if (result == 0 && r->blkio_weight)
        result = v2 ? cgroup_write_number(cgroup, "io.weight",
                                          1 + ((int64_t)r->blkio_weight - 10) * 9999 / 990, err)
                    : cgroup_write_number(cgroup,
                                          cgroup_has_file(cgroup, "blkio.weight")
                                              ? "blkio.weight"
                                              : "blkio.bfq.weight",
                                          (int64_t)r->blkio_weight, err);
    if (result == 0)
        result = apply_devices(cgroup, r, err);
    if (result == 0)
        result = cgroup_apply_document(cgroup, r->document, err);
    return result < 0 ? result : apply_unified(cgroup, r, err);
}

static int read_number(struct cgroup *cgroup, const char *v1_file, const char *v2_file,
                       uint64_t *ret)
{
    const char *file = cgroup->layout == CGROUP_LAYOUT_V2 ? v2_file : v1_file;
    struct cgroup_hierarchy *hierarchy = owner_of(cgroup, file);
    CLEANUP(buf_donep) struct buf text;
    int result;

    buf_init(&text, 256);
    if (!hierarchy)
        return -ENOENT;
    if ((result = file_load(hierarchy->fd, file, &text, NULL)) < 0)
        return result;
    if (!buf_string(&text))
        return -ENOMEM;
    *ret = strtoull(text.data, NULL, 10);
    return 0;
}

void cgroup_raise_swap_limit(struct cgroup *cgroup, int64_t bytes)
{
    uint64_t now = 0;

    if (bytes > 0 && read_number(cgroup, "memory.memsw.limit_in_bytes", "", &now) == 0 &&
        (uint64_t)bytes > now)
        cgroup_write_number(cgroup, "memory.memsw.limit_in_bytes", bytes, NULL);
}

int cgroup_memory_bytes(struct cgroup *cgroup, uint64_t *ret_current, uint64_t *ret_peak)
{
    int result = read_number(cgroup, "memory.usage_in_bytes", "memory.current", ret_current);

    if (result < 0)
        return result;
    if (read_number(cgroup, "memory.max_usage_in_bytes", "memory.peak", ret_peak) < 0)
        *ret_peak = *ret_current; /* memory.peak came with Linux 5.19 */
    return 0;
}
