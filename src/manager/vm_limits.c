/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of a running VM's size can change beside its share of the processors (allocation.c). Memory:
 * its balloon takes what it is to do without, which the guest's driver gives in its own time; more
 * than it was started with it cannot get. What its own kernel rules (its processes) cannot be
 * limited from here.
 */
#include "manager/internal.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>

#define MEMORY_LEAST (64 * MIB)

static int limit_memory(struct manager *m, const struct instance *instance, const struct spec *spec,
                        uint64_t started_with, struct err *err)
{
    uint64_t wanted = spec->memory_bytes ? spec->memory_bytes : started_with;
    json_t *answer = NULL;
    int result;

    if (wanted > align_up(started_with, 2 * MIB))
        return err_set(err, -EBUSY,
                       "'%s' was started with %llu MiB and cannot have more while it runs; `lodge "
                       "stop %s` first",
                       instance->name, (unsigned long long)(started_with / MIB), instance->name);
    if (wanted < MEMORY_LEAST)
        return err_set(err, -EINVAL, "memory_bytes: a virtual machine needs %llu MiB at least",
                       (unsigned long long)(MEMORY_LEAST / MIB));
    result = vm_ask(m, instance->id,
                    json_pack("{s:s, s:I}", "command", "balloon", "target_bytes",
                              (json_int_t)MIN(wanted, started_with)),
                    &answer, err);
    if (result == 0 && !json_is_true(json_object_get(answer, "driver")))
        result = err_set(err, -EOPNOTSUPP,
                         "the guest of '%s' has no driver for the balloon, so its memory changes "
                         "only while it is stopped",
                         instance->name);
    json_decref(answer);
    return result < 0 ? err_wrap(err, "memory") : 0;
}

static int read_memory(struct manager *m, const struct instance *instance, uint64_t *ret,
                       struct err *err)
{
    json_t *status = NULL;
    int result = vm_ask(m, instance->id, json_pack("{s:s}", "command", "status"), &status, err);

    if (result < 0)
        return result;
    *ret = (uint64_t)json_integer_value(json_object_get(status, "memory_bytes"));
    json_decref(status);
    return 0;
}

int vm_limits_change(struct manager *m, const struct instance *instance, const struct spec *before,
                     const struct spec *spec, struct err *err)
{
    uint64_t memory;
    int result;

    if (spec->pids != before->pids)
        return err_set(err, -EOPNOTSUPP,
                       "pids: the processes of a virtual machine are its own kernel's, which no "
                       "limit of this host reaches");
    if (spec->cpu_millis != before->cpu_millis)
        return err_set(err, -EBUSY,
                       "cpu_millis: the processors that '%s' sees change only while it is stopped; "
                       "cpu_max_millis (--cpu-max) caps what they may use while it runs",
                       instance->name);
    if (spec->memory_bytes == before->memory_bytes)
        return 0;
    if ((result = read_memory(m, instance, &memory, err)) < 0)
        return result;
    return limit_memory(m, instance, spec, memory, err);
}
