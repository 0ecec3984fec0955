/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Translation through libseccomp, which knows the tables of system calls and how one rule maps to
 * several architectures. Two things are added to what it makes: system calls newer than any that
 * the profile names give ENOSYS (a C library then falls back to the older call, where the profile's
 * EPERM would make the program fail), and rules that compare one argument twice become several.
 */
#include "oci/seccomp_filter.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/util.h"
#include "oci/spec_read.h"

#include <ctype.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

#define ERRNO_MAX        4095
#define X32_BIT          0x40000000u
#define STUB_LENGTH_MAX  16
#define ARCHITECTURE_MAX 3

DEFINE_CLEANUP(filter_releasep, scmp_filter_ctx, seccomp_release);

/* An action word with its value in it; TRACE and ERRNO take errnoRet (EPERM when absent). */
static int read_action(const struct json_at *at, const char *member, const char *errno_member,
                       uint32_t *ret, struct err *err)
{
    static const struct {
        const char *name;
        uint32_t action;
        bool takes_errno;
    } names[] = {
        {"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD, false},
        {"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD, false},
        {"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS, false},
        {"SCMP_ACT_TRAP", SCMP_ACT_TRAP, false},
        {"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0), true},
        {"SCMP_ACT_TRACE", SCMP_ACT_TRACE(0), true},
        {"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW, false},
        {"SCMP_ACT_LOG", SCMP_ACT_LOG, false},
        {"SCMP_ACT_NOTIFY", SCMP_ACT_NOTIFY, false},
    };
    const char *name = NULL;
    uint64_t number = EPERM;
    int result;

    if ((result = json_get_string(at, member, &name, err)) < 0 ||
        (result = json_opt_uint(at, errno_member, &number, err)) < 0)
        return result;
    if (number > ERRNO_MAX)
        return err_set(err, -ERANGE, "%s.%s: %llu is not an error number", at->path, errno_member,
                       (unsigned long long)number);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i].name, name) == 0) {
            *ret = names[i].action | (names[i].takes_errno ? (uint32_t)number : 0);
            return 0;
        }
    return err_set(err, -EINVAL, "%s.%s: unknown action '%s'", at->path, member, name);
}

static int read_flags(const struct json_at *at, unsigned *ret, struct err *err)
{
    static const struct {
        const char *name;
        unsigned flag;
    } names[] = {
        {"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC},
        {"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
        {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
        {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
    };
    struct oci_strings flags = {0};
    int result = spec_read_strings(at, "flags", &flags, err);

    for (size_t i = 0; result == 0 && i < flags.length; i++) {
        size_t j = 0;

        while (j < ARRAY_LEN(names) && strcmp(names[j].name, flags.items[i]) != 0)
            j++;
        if (j < ARRAY_LEN(names))
            *ret |= names[j].flag;
        else
            result = err_set(err, -EINVAL, "%s.flags: unknown flag '%s'", at->path, flags.items[i]);
    }
    free(flags.items);
    return result;
}

static void profile_at(json_t *profile, struct json_at *ret)
{
    ret->value = profile;
    snprintf(ret->path, sizeof(ret->path), "linux.seccomp");
}

int seccomp_describe(json_t *profile, struct seccomp_program *ret, struct err *err)
{
    struct seccomp_program program = {0};
    struct json_at at, rules, rule;
    uint32_t action = 0;
    size_t length;
    int result;

    profile_at(profile, &at);
    if ((result = read_action(&at, "defaultAction", "defaultErrnoRet", &action, err)) < 0 ||
        (result = read_flags(&at, &program.flags, err)) < 0 ||
        (result = json_opt_string(&at, "listenerPath", &program.listener_path, err)) < 0 ||
        (result = json_opt_string(&at, "listenerMetadata", &program.listener_metadata, err)) < 0 ||
        (result = spec_read_array(&at, "syscalls", &rules, &length, err)) < 0)
        return result;
    if (action == SCMP_ACT_NOTIFY)
        return err_set(err, -EINVAL,
                       "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY would leave "
                       "nobody to set the container up");
    for (size_t i = 0; i < length; i++) {
        if ((result = json_at_index(&rules, i, &rule, err)) < 0 ||
            (result = read_action(&rule, "action", "errnoRet", &action, err)) < 0)
            return result;
        program.notify |= action == SCMP_ACT_NOTIFY;
    }
    if (program.notify && !program.listener_path)
        return err_set(err, -EINVAL,
                       "linux.seccomp.listenerPath: needed with the action SCMP_ACT_NOTIFY");
    /* One thread only: what it would do is the case, and beside a listener it has another meaning.
     */
    if (program.notify)
        program.flags &= ~(unsigned)SECCOMP_FILTER_FLAG_TSYNC;
    else
        program.flags &= ~(unsigned)SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    *ret = program;
    return 0;
}

/* "SCMP_ARCH_X86_64" -> its token. */
static int read_architecture(const char *name, uint32_t *ret)
{
    char lower[32];
    size_t length;

    if (strncmp(name, "SCMP_ARCH_", 10) != 0 || (length = strlen(name + 10)) >= sizeof(lower))
        return -EINVAL;
    for (size_t i = 0; i <= length; i++)
        lower[i] = (char)tolower((unsigned char)name[10 + i]);
    *ret = seccomp_arch_resolve_name(lower);
    return *ret ? 0 : -EINVAL;
}

static int add_architectures(scmp_filter_ctx filter, const struct json_at *at, struct err *err)
{
    struct oci_strings names = {0};
    int result = spec_read_strings(at, "architectures", &names, err);

    for (size_t i = 0; result == 0 && i < names.length; i++) {
        uint32_t token;

        if (read_architecture(names.items[i], &token) < 0)
            result = err_set(err, -EINVAL, "%s.architectures: unknown architecture '%s'", at->path,
                             names.items[i]);
        else if ((result = seccomp_arch_add(filter, token)) == -EEXIST)
            result = 0;
        else if (result < 0)
            err_set(err, result, "%s.architectures: '%s' cannot be combined with the others",
                    at->path, names.items[i]);
    }
    free(names.items);
    return result;
}

static int read_argument(const struct json_at *at, struct scmp_arg_cmp *ret, struct err *err)
{
    static const struct {
        const char *name;
        enum scmp_compare op;
    } ops[] = {
        {"SCMP_CMP_NE", SCMP_CMP_NE},
        {"SCMP_CMP_LT", SCMP_CMP_LT},
        {"SCMP_CMP_LE", SCMP_CMP_LE},
        {"SCMP_CMP_EQ", SCMP_CMP_EQ},
        {"SCMP_CMP_GE", SCMP_CMP_GE},
        {"SCMP_CMP_GT", SCMP_CMP_GT},
        {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
    };
    uint64_t index = 0, value = 0, second = 0;
    const char *op = NULL;
    int result;

    if ((result = json_get_uint(at, "index", &index, err)) < 0 ||
        (result = json_get_uint(at, "value", &value, err)) < 0 ||
        (result = json_opt_uint(at, "valueTwo", &second, err)) < 0 ||
        (result = json_get_string(at, "op", &op, err)) < 0)
        return result;
    if (index > 5)
        return err_set(err, -ERANGE, "%s.index: a system call has the arguments 0 to 5", at->path);
    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        if (strcmp(ops[i].name, op) == 0) {
            *ret = (struct scmp_arg_cmp){(unsigned)index, ops[i].op, value, second};
            return 0;
        }
    return err_set(err, -EINVAL, "%s.op: unknown comparison '%s'", at->path, op);
}

struct rule {
    uint32_t action;
    struct oci_strings names;
    struct scmp_arg_cmp arguments[6];
    unsigned nr_arguments;
    bool alternatives; /* one argument is compared more than once: any of them is enough */
};

static void rule_done(struct rule *rule)
{
    free(rule->names.items);
}

static int read_rule(const struct json_at *at, struct rule *ret, struct err *err)
{
    struct json_at array, item;
    unsigned seen = 0;
    size_t length;
    int result;

    if ((result = read_action(at, "action", "errnoRet", &ret->action, err)) < 0 ||
        (result = spec_read_strings(at, "names", &ret->names, err)) < 0 ||
        (result = spec_read_array(at, "args", &array, &length, err)) < 0)
        return result;
    if (length > ARRAY_LEN(ret->arguments))
        return err_set(err, -E2BIG, "%s: %zu comparisons, at most 6 are allowed", array.path,
                       length);
    for (size_t i = 0; i < length; i++) {
        struct scmp_arg_cmp *argument = &ret->arguments[i];

        if ((result = json_at_index(&array, i, &item, err)) < 0 ||
            (result = read_argument(&item, argument, err)) < 0)
            return result;
        ret->alternatives |= (seen & (1u << argument->arg)) != 0;
        seen |= 1u << argument->arg;
        ret->nr_arguments++;
    }
    return 0;
}

static int add_rule(scmp_filter_ctx filter, const struct rule *rule, const char *name)
{
    int number = seccomp_syscall_resolve_name(name);
    int result = 0;

    if (number == __NR_SCMP_ERROR)
        return 0;
    if (!rule->alternatives)
        return seccomp_rule_add_array(filter, rule->action, number, rule->nr_arguments,
                                      rule->arguments);
    for (unsigned i = 0; result == 0 && i < rule->nr_arguments; i++)
        result = seccomp_rule_add_array(filter, rule->action, number, 1, &rule->arguments[i]);
    return result;
}

/* The highest system call number that the profile names, for each architecture of this machine. */
struct highest {
    uint32_t token, number;
};

static void note_highest(struct highest highest[ARCHITECTURE_MAX], const char *name)
{
    for (size_t i = 0; i < ARCHITECTURE_MAX; i++) {
        int number = seccomp_syscall_resolve_name_arch(highest[i].token, name);

        if (number > 0 && (uint32_t)number > highest[i].number)
            highest[i].number = (uint32_t)number;
    }
}

static int add_rules(scmp_filter_ctx filter, const struct json_at *at, uint32_t default_action,
                     struct highest highest[ARCHITECTURE_MAX], struct err *err)
{
    struct json_at array, item;
    size_t length;
    int result = spec_read_array(at, "syscalls", &array, &length, err);

    for (size_t i = 0; result == 0 && i < length; i++) {
        CLEANUP(rule_done) struct rule rule = {0};

        if ((result = json_at_index(&array, i, &item, err)) < 0 ||
            (result = read_rule(&item, &rule, err)) < 0)
            return result;
        for (size_t j = 0; result == 0 && j < rule.names.length; j++) {
            note_highest(highest, rule.names.items[j]);
            /* What happens anyway needs no rule, and libseccomp refuses one. */
            if (rule.action == default_action)
                continue;
            if ((result = add_rule(filter, &rule, rule.names.items[j])) < 0)
                err_errno(err, result, "%s: rule for '%s'", item.path, rule.names.items[j]);
        }
    }
    return result;
}

/* Instructions that give ENOSYS for numbers above the highest named one, and go on otherwise. */
static size_t make_stub(const struct highest highest[ARCHITECTURE_MAX], struct sock_filter *stub)
{
    size_t n = 0;

    stub[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                             offsetof(struct seccomp_data, arch));
    for (size_t i = 0; i < ARCHITECTURE_MAX; i++) {
        bool x32 = highest[i].token == SCMP_ARCH_X32;
        /* x32 shares the architecture word of x86-64 and has a bit of its own in the number. */
        uint32_t word = x32 ? SCMP_ARCH_X86_64 : highest[i].token;
        bool low_only = highest[i].token == SCMP_ARCH_X86_64;

        if (!highest[i].number || x32)
            continue;
        /* if (arch == word && nr > highest && !(x86-64 && nr >= X32_BIT)) return ENOSYS; */
        stub[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, word, 0,
                                                 (uint8_t)(low_only ? 5 : 4));
        stub[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                                 offsetof(struct seccomp_data, nr));
        if (low_only)
            stub[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 2, 0);
        stub[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, highest[i].number, 0,
                                                 1);
        stub[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SCMP_ACT_ERRNO(ENOSYS));
        /* Back to the architecture for the next one. */
        stub[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                                 offsetof(struct seccomp_data, arch));
    }
    return n;
}

/* The program that libseccomp makes, behind the stub where there is one. */
static int export_program(scmp_filter_ctx filter, const struct sock_filter *stub,
                          size_t stub_length, struct seccomp_program *ret, struct err *err)
{
    CLEANUP(fd_closep) int file = memfd_create("filter", MFD_CLOEXEC);
    CLEANUP(freep) struct sock_filter *items = NULL;
    off_t bytes;
    int result;

    if (file < 0)
        return err_errno(err, -errno, "linux.seccomp");
    if ((result = seccomp_export_bpf(filter, file)) < 0)
        return err_errno(err, result, "linux.seccomp: translate");
    bytes = lseek(file, 0, SEEK_END);
    if (bytes <= 0 || (size_t)bytes / sizeof(*items) + stub_length > BPF_MAXINSNS)
        return err_set(err, -E2BIG, "linux.seccomp: the filter is larger than the kernel takes");
    if (!(items = malloc(stub_length * sizeof(*items) + (size_t)bytes)))
        return err_set(err, -ENOMEM, "linux.seccomp: out of memory");
    memcpy(items, stub, stub_length * sizeof(*items));
    if (file_pread_full(file, items + stub_length, (size_t)bytes, 0) != (ssize_t)bytes)
        return err_set(err, -EIO, "linux.seccomp: translate");
    ret->length = stub_length + (size_t)bytes / sizeof(*items);
    ret->filter = TAKE_PTR(items);
    return 0;
}

int seccomp_compile(json_t *profile, struct seccomp_program *ret, struct err *err)
{
    struct highest highest[ARCHITECTURE_MAX] = {
        {SCMP_ARCH_X86_64, 0}, {SCMP_ARCH_X86, 0}, {SCMP_ARCH_X32, 0}};
    CLEANUP(filter_releasep) scmp_filter_ctx filter = NULL;
    struct sock_filter stub[STUB_LENGTH_MAX];
    size_t stub_length = 0;
    uint32_t action = 0;
    struct json_at at;
    int result;

    profile_at(profile, &at);
    if ((result = read_action(&at, "defaultAction", "defaultErrnoRet", &action, err)) < 0)
        return result;
    /* All that kernels with the mount API have; saves libseccomp a dozen probing system calls. */
    seccomp_api_set(6);
    if (!(filter = seccomp_init(action)))
        return err_set(err, -EINVAL, "linux.seccomp.defaultAction: refused");
    if ((result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2)) < 0)
        return err_errno(err, result, "linux.seccomp");
    if ((result = add_architectures(filter, &at, err)) < 0 ||
        (result = add_rules(filter, &at, action, highest, err)) < 0)
        return result;
    if (action != SCMP_ACT_ALLOW && action != SCMP_ACT_LOG && action != SCMP_ACT_ERRNO(ENOSYS))
        stub_length = make_stub(highest, stub);
    return export_program(filter, stub, stub_length, ret, err);
}

void seccomp_program_done(struct seccomp_program *program)
{
    free(program->filter);
    program->filter = NULL;
}
