/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/rdt.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/util.h"
#include "oci/spec_read.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define ROOT              "/sys/fs/resctrl"
#define SCHEMATA_SIZE_MAX (64 * KIB)

static bool is_group_name(const char *name)
{
    static const char *const taken[] = {"info", "mon_groups", "mon_data", ".", ".."};

    for (size_t i = 0; i < ARRAY_LEN(taken); i++)
        if (strcmp(taken[i], name) == 0)
            return false;
    return name[0] && strlen(name) <= NAME_MAX && !strpbrk(name, "/\n");
}

int rdt_read(const struct json_at *linux_at, struct oci_rdt *ret, struct err *err)
{
    bool cache_monitoring = false, bandwidth_monitoring = false;
    struct json_at at;
    int result = json_at_member(linux_at, "intelRdt", &at, err);

    if (result < 0 || !at.value)
        return result;
    if ((result = json_opt_string(&at, "closID", &ret->clos_id, err)) < 0 ||
        (result = json_opt_string(&at, "l3CacheSchema", &ret->l3_schema, err)) < 0 ||
        (result = json_opt_string(&at, "memBwSchema", &ret->bandwidth_schema, err)) < 0 ||
        (result = json_opt_bool(&at, "enableCMT", &cache_monitoring, err)) < 0 ||
        (result = json_opt_bool(&at, "enableMBM", &bandwidth_monitoring, err)) < 0 ||
        (result = json_opt_bool(&at, "enableMonitoring", &ret->monitoring, err)) < 0 ||
        (result = spec_read_strings(&at, "schemata", &ret->schemata, err)) < 0)
        return result;
    if (ret->clos_id && !is_group_name(ret->clos_id))
        return err_set(err, -EINVAL, "%s.closID: '%s' is not the name of a directory", at.path,
                       ret->clos_id);
    ret->monitoring = ret->monitoring || cache_monitoring || bandwidth_monitoring;
    ret->present = true;
    return 0;
}

const char *rdt_root(struct err *err)
{
    struct statfs fs;

    if (statfs(ROOT, &fs) == 0 && fs.f_type == RDTGROUP_SUPER_MAGIC)
        return ROOT;
    err_set(err, -ENOTSUP, "linux.intelRdt: this host has no resctrl file system at " ROOT);
    return NULL;
}

json_t *rdt_plan(const char *root, const struct oci_rdt *rdt, const char *container_id)
{
    const char *name = rdt->clos_id ? rdt->clos_id : container_id;
    CLEANUP(freep) char *group = NULL;
    CLEANUP(freep) char *monitor = NULL;
    json_t *plan;

    if (asprintf(&group, "%s/%s", root, name) < 0) {
        group = NULL;
        return NULL;
    }
    if (rdt->monitoring && asprintf(&monitor, "%s/mon_groups/%s", group, container_id) < 0) {
        monitor = NULL;
        return NULL;
    }
    plan = json_pack("{s:s, s:b}", "group", group, "own", rdt->clos_id == NULL);
    if (plan && json_put_string(plan, "monitor", monitor) < 0) {
        json_decref(plan);
        return NULL;
    }
    return plan;
}

static const char *path_of(const json_t *plan, const char *which)
{
    return json_string_value(json_object_get(plan, which));
}

static int write_into(const char *directory, const char *file, const char *text, struct err *err)
{
    char path[PATH_MAX];
    int result;

    if ((size_t)snprintf(path, sizeof(path), "%s/%s", directory, file) >= sizeof(path))
        return err_set(err, -ENAMETOOLONG, "linux.intelRdt: '%s'", directory);
    if ((result = file_write_string(AT_FDCWD, path, text)) < 0)
        return err_errno(err, result, "linux.intelRdt: write '%.*s' to '%s'",
                         (int)strcspn(text, "\n"), text, path);
    return 0;
}

/* All lines by one write: together they are valid or not. */
static int write_schemata(const char *group, const char *const *lines, size_t length,
                          struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    int result = 0;

    buf_init(&text, SCHEMATA_SIZE_MAX);
    for (size_t i = 0; i < length && result == 0; i++)
        if (lines[i] && lines[i][0])
            result = buf_printf(&text, "%s%s", lines[i],
                                lines[i][strlen(lines[i]) - 1] == '\n' ? "" : "\n");
    if (result < 0 || (text.length && !buf_string(&text)))
        return err_set(err, -ENOMEM, "linux.intelRdt: out of memory");
    return text.length ? write_into(group, "schemata", text.data, err) : 0;
}

int rdt_create(const json_t *plan, const struct oci_rdt *rdt, struct err *err)
{
    const char *group = path_of(plan, "group"), *monitor = path_of(plan, "monitor");
    bool own = json_is_true(json_object_get(plan, "own"));
    bool shares = rdt->l3_schema || rdt->bandwidth_schema || rdt->schemata.length;
    const char *const simple[] = {rdt->l3_schema, rdt->bandwidth_schema};
    int result = mkdir(group, 0755) < 0 ? -errno : 0;

    if (result == -EEXIST && own)
        return err_set(err, -EEXIST, "linux.intelRdt: '%s' exists already", group);
    if (result < 0 && result != -EEXIST)
        return err_errno(err, result, "linux.intelRdt: make '%s'", group);
    /* A class of service that is only named has to be there. */
    if (result == 0 && !own && !shares) {
        rmdir(group);
        return err_set(err, -ENOENT, "linux.intelRdt.closID: '%s' does not exist", group);
    }
    if ((result = write_schemata(group, simple, ARRAY_LEN(simple), err)) < 0 ||
        (result = write_schemata(group, rdt->schemata.items, rdt->schemata.length, err)) < 0)
        return result;
    if (monitor && mkdir(monitor, 0755) < 0)
        return err_errno(err, -errno, "linux.intelRdt: make '%s'", monitor);
    return 0;
}

int rdt_join(const json_t *plan, pid_t pid, struct err *err)
{
    const char *monitor = path_of(plan, "monitor");
    char text[16];
    int result;

    snprintf(text, sizeof(text), "%d", (int)pid);
    if ((result = write_into(path_of(plan, "group"), "tasks", text, err)) < 0)
        return result;
    return monitor ? write_into(monitor, "tasks", text, err) : 0;
}

int rdt_update(const json_t *plan, const char *l3_schema, const char *bandwidth_schema,
               struct err *err)
{
    const char *const lines[] = {l3_schema, bandwidth_schema};

    if (!plan)
        return err_set(err, -EINVAL, "the container was made without linux.intelRdt");
    return write_schemata(path_of(plan, "group"), lines, ARRAY_LEN(lines), err);
}

void rdt_remove(const json_t *plan)
{
    const char *group = path_of(plan, "group"), *monitor = path_of(plan, "monitor");

    if (monitor)
        rmdir(monitor);
    if (group && json_is_true(json_object_get(plan, "own")))
        rmdir(group);
}
