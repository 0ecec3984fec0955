/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/process_attributes.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"
#include "oci/spec_read.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#define IOPRIO_CLASS_SHIFT 13
#define IOPRIO_WHO_PROCESS 1

/* struct sched_attr of sched_setattr(2), which the C library does not declare. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

struct word {
    const char *name;
    uint64_t value;
};

static int find_word(const struct word *words, size_t length, const char *name, uint64_t *ret)
{
    for (size_t i = 0; i < length; i++)
        if (strcmp(words[i].name, name) == 0) {
            *ret = words[i].value;
            return 0;
        }
    return -EINVAL;
}

static int read_scheduler(const struct json_at *process, struct oci_scheduler *ret, struct err *err)
{
    static const struct word policies[] = {
        {"SCHED_OTHER", 0}, {"SCHED_FIFO", 1}, {"SCHED_RR", 2},       {"SCHED_BATCH", 3},
        {"SCHED_ISO", 4},   {"SCHED_IDLE", 5}, {"SCHED_DEADLINE", 6},
    };
    static const struct word flag_words[] = {
        {"SCHED_FLAG_RESET_ON_FORK", 0x01},  {"SCHED_FLAG_RECLAIM", 0x02},
        {"SCHED_FLAG_DL_OVERRUN", 0x04},     {"SCHED_FLAG_KEEP_POLICY", 0x08},
        {"SCHED_FLAG_KEEP_PARAMS", 0x10},    {"SCHED_FLAG_UTIL_CLAMP_MIN", 0x20},
        {"SCHED_FLAG_UTIL_CLAMP_MAX", 0x40},
    };
    struct oci_strings flags = {0};
    const char *policy = NULL;
    int64_t nice = 0, priority = 0;
    uint64_t value = 0;
    struct json_at at;
    int result = json_at_member(process, "scheduler", &at, err);

    if (result < 0 || !at.value)
        return result;
    if ((result = json_get_string(&at, "policy", &policy, err)) < 0 ||
        (result = json_opt_int(&at, "nice", &nice, err)) < 0 ||
        (result = json_opt_int(&at, "priority", &priority, err)) < 0 ||
        (result = json_opt_uint(&at, "runtime", &ret->runtime_ns, err)) < 0 ||
        (result = json_opt_uint(&at, "deadline", &ret->deadline_ns, err)) < 0 ||
        (result = json_opt_uint(&at, "period", &ret->period_ns, err)) < 0)
        return result;
    if (find_word(policies, ARRAY_LEN(policies), policy, &value) < 0)
        return err_set(err, -EINVAL, "%s.policy: unknown policy '%s'", at.path, policy);
    if (nice < -20 || nice > 19 || priority < 0 || priority > 99)
        return err_set(err, -ERANGE, "%s: nice is -20..19 and priority 0..99", at.path);
    ret->present = true;
    ret->policy = (uint32_t)value;
    ret->nice = (int32_t)nice;
    ret->priority = (uint32_t)priority;
    result = spec_read_strings(&at, "flags", &flags, err);
    for (size_t i = 0; result == 0 && i < flags.length; i++) {
        if (find_word(flag_words, ARRAY_LEN(flag_words), flags.items[i], &value) < 0)
            result = err_set(err, -EINVAL, "%s.flags: unknown flag '%s'", at.path, flags.items[i]);
        ret->flags |= value;
    }
    free(flags.items);
    return result;
}

static int read_io_priority(const struct json_at *process, struct oci_process *ret, struct err *err)
{
    static const struct word classes[] = {
        {"IOPRIO_CLASS_RT", 1}, {"IOPRIO_CLASS_BE", 2}, {"IOPRIO_CLASS_IDLE", 3}};
    const char *name = NULL;
    uint64_t class = 0;
    int64_t priority = 0;
    struct json_at at;
    int result = json_at_member(process, "ioPriority", &at, err);

    if (result < 0 || !at.value)
        return result;
    if ((result = json_get_string(&at, "class", &name, err)) < 0 ||
        (result = json_opt_int(&at, "priority", &priority, err)) < 0)
        return result;
    if (find_word(classes, ARRAY_LEN(classes), name, &class) < 0)
        return err_set(err, -EINVAL, "%s.class: unknown class '%s'", at.path, name);
    if (priority < 0 || priority > 7)
        return err_set(err, -ERANGE, "%s.priority: %lld is not in 0..7", at.path,
                       (long long)priority);
    ret->has_io_priority = true;
    ret->io_priority = (int)(class << IOPRIO_CLASS_SHIFT) | (int)priority;
    return 0;
}

int cpu_list_parse(const char *list, cpu_set_t *ret)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    if (!*list)
        return -EINVAL;
    while (*list) {
        unsigned long first, last;
        char *end;

        if (!isdigit((unsigned char)*list))
            return -EINVAL;
        first = last = strtoul(list, &end, 10);
        if (*end == '-') {
            if (!isdigit((unsigned char)end[1]))
                return -EINVAL;
            last = strtoul(end + 1, &end, 10);
        }
        if (first > last || last >= CPU_SETSIZE || (*end && *end != ',') ||
            (*end == ',' && !end[1]))
            return -EINVAL;
        for (unsigned long cpu = first; cpu <= last; cpu++)
            CPU_SET(cpu, &set);
        list = *end ? end + 1 : end;
    }
    *ret = set;
    return 0;
}

int process_attributes_set_affinity(const char *list, struct err *err)
{
    cpu_set_t set;

    if (!list)
        return 0;
    if (cpu_list_parse(list, &set) < 0 || sched_setaffinity(0, sizeof(set), &set) < 0)
        return err_errno(err, -errno, "process.execCPUAffinity '%s'", list);
    return 0;
}

static int read_affinity(const struct json_at *process, struct oci_process *ret, struct err *err)
{
    struct json_at at;
    cpu_set_t set;
    int result = json_at_member(process, "execCPUAffinity", &at, err);

    if (result < 0 || !at.value)
        return result;
    if ((result = json_opt_string(&at, "initial", &ret->affinity_initial, err)) < 0 ||
        (result = json_opt_string(&at, "final", &ret->affinity_final, err)) < 0)
        return result;
    if (ret->affinity_initial && cpu_list_parse(ret->affinity_initial, &set) < 0)
        return err_set(err, -EINVAL, "%s.initial: '%s' is not a list of CPUs", at.path,
                       ret->affinity_initial);
    if (ret->affinity_final && cpu_list_parse(ret->affinity_final, &set) < 0)
        return err_set(err, -EINVAL, "%s.final: '%s' is not a list of CPUs", at.path,
                       ret->affinity_final);
    return 0;
}

int process_attributes_read(const struct json_at *process, struct oci_process *ret, struct err *err)
{
    int result;

    if ((result = read_scheduler(process, &ret->scheduler, err)) < 0 ||
        (result = read_io_priority(process, ret, err)) < 0 ||
        (result = read_affinity(process, ret, err)) < 0 ||
        (result = json_opt_string(process, "apparmorProfile", &ret->apparmor_profile, err)) < 0 ||
        (result = json_opt_string(process, "selinuxLabel", &ret->selinux_label, err)) < 0)
        return result;
    /* Clients write the empty string for "none". */
    if (ret->apparmor_profile && !ret->apparmor_profile[0])
        ret->apparmor_profile = NULL;
    if (ret->selinux_label && !ret->selinux_label[0])
        ret->selinux_label = NULL;
    return 0;
}

static bool has_apparmor(void)
{
    CLEANUP(buf_donep) struct buf text;

    buf_init(&text, 64);
    return file_load(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", &text, NULL) == 0 &&
           text.length && text.data[0] == 'Y';
}

static bool has_selinux(void)
{
    struct statfs fs;

    return statfs("/sys/fs/selinux", &fs) == 0 && fs.f_type == SELINUX_MAGIC;
}

int process_attributes_check_labels(const struct oci_spec *spec, struct err *err)
{
    const struct oci_process *process = &spec->process;

    if (spec->mount_label && !has_selinux())
        return err_set(err, -ENOTSUP,
                       "linux.mountLabel: '%s' cannot be used, this host has no SELinux",
                       spec->mount_label);
    if (process->apparmor_profile && !has_apparmor())
        return err_set(err, -ENOTSUP,
                       "process.apparmorProfile: '%s' cannot be used, this host has no AppArmor",
                       process->apparmor_profile);
    if (process->selinux_label && !has_selinux())
        return err_set(err, -ENOTSUP,
                       "process.selinuxLabel: '%s' cannot be used, this host has no SELinux",
                       process->selinux_label);
    return 0;
}

int process_attributes_apply(const struct oci_process *process, struct err *err)
{
    const struct oci_scheduler *s = &process->scheduler;
    struct scheduling attributes = {
        sizeof(attributes), s->policy,     s->flags,       s->nice,
        s->priority,        s->runtime_ns, s->deadline_ns, s->period_ns};

    if (s->present && syscall(SYS_sched_setattr, 0, &attributes, 0) < 0)
        return err_errno(err, -errno, "process.scheduler: policy %u, nice %d, priority %u",
                         s->policy, s->nice, s->priority);
    if (process->has_io_priority &&
        syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, process->io_priority) < 0)
        return err_errno(err, -errno, "process.ioPriority: class %d, priority %d",
                         process->io_priority >> IOPRIO_CLASS_SHIFT, process->io_priority & 7);
    return 0;
}

int process_attributes_open_label(const struct oci_process *process, struct err *err)
{
    int fd = -1;

    if (!process->apparmor_profile && !process->selinux_label)
        return -1;
    if (process->apparmor_profile)
        fd = open("/proc/self/attr/apparmor/exec", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        fd = open("/proc/self/attr/exec", O_WRONLY | O_CLOEXEC);
    return fd < 0 ? err_errno(err, -errno, "security label") : fd;
}

int process_attributes_set_label(const struct oci_process *process, int fd, struct err *err)
{
    const char *label = process->apparmor_profile ? process->apparmor_profile
                                                  : process->selinux_label;
    CLEANUP(freep) char *text = NULL;

    if (fd < 0 || !label)
        return 0;
    if (asprintf(&text, "%s%s", process->apparmor_profile ? "exec " : "", label) < 0) {
        text = NULL;
        return err_set(err, -ENOMEM, "security label: out of memory");
    }
    if (write(fd, text, strlen(text)) < 0)
        return err_errno(err, -errno, "security label '%s'", label);
    return 0;
}
