/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/device_filter.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

/* clang-format off */
#define LOAD_WORD(dst, src, offset_) ((struct bpf_insn){.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = dst, .src_reg = src, .off = offset_})
#define COPY32(dst, src)         ((struct bpf_insn){.code = BPF_ALU | BPF_MOV | BPF_X, .dst_reg = dst, .src_reg = src})
#define SET(dst, value)          ((struct bpf_insn){.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = dst, .imm = value})
#define AND(dst, value)          ((struct bpf_insn){.code = BPF_ALU | BPF_AND | BPF_K, .dst_reg = dst, .imm = value})
#define SHIFT_RIGHT(dst, value)  ((struct bpf_insn){.code = BPF_ALU | BPF_RSH | BPF_K, .dst_reg = dst, .imm = value})
#define JUMP_IF_NOT(dst, value)  ((struct bpf_insn){.code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = dst, .imm = value})
#define JUMP_IF(dst, value)      ((struct bpf_insn){.code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = dst, .imm = value})
#define RETURN                   ((struct bpf_insn){.code = BPF_JMP | BPF_EXIT})
/* clang-format on */

/* Registers: 1 the context, 2 type, 3 access, 4 major, 5 minor, 6 scratch. */
enum { RESULT = 0, CONTEXT = 1, TYPE = 2, ACCESS = 3, MAJOR = 4, MINOR = 5, SCRATCH = 6 };

#define ACCESS_ALL (BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE)

static int access_bits(const char *access)
{
    return (strchr(access, 'r') ? BPF_DEVCG_ACC_READ : 0) |
           (strchr(access, 'w') ? BPF_DEVCG_ACC_WRITE : 0) |
           (strchr(access, 'm') ? BPF_DEVCG_ACC_MKNOD : 0);
}

/* One rule: a chain of tests, each of which goes on to the next rule when it fails. */
static size_t make_rule(const struct oci_device_rule *rule, struct bpf_insn *items)
{
    int bits = rule->type == 'a' ? ACCESS_ALL : access_bits(rule->access);
    size_t n = 0;

    if (rule->type != 'a') {
        items[n++] = JUMP_IF_NOT(TYPE,
                                 rule->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
        if (bits != ACCESS_ALL) {
            items[n++] = COPY32(SCRATCH, ACCESS);
            /* Allowed: nothing but these is asked for. Denied: any of these is. */
            items[n++] = AND(SCRATCH, rule->allow ? ACCESS_ALL & ~bits : bits);
            items[n++] = rule->allow ? JUMP_IF_NOT(SCRATCH, 0) : JUMP_IF(SCRATCH, 0);
        }
        if (rule->major >= 0)
            items[n++] = JUMP_IF_NOT(MAJOR, (int32_t)rule->major);
        if (rule->minor >= 0)
            items[n++] = JUMP_IF_NOT(MINOR, (int32_t)rule->minor);
    }
    items[n++] = SET(RESULT, rule->allow);
    items[n++] = RETURN;
    for (size_t i = 0; i < n; i++)
        if (BPF_CLASS(items[i].code) == BPF_JMP && BPF_OP(items[i].code) != BPF_EXIT)
            items[i].off = (int16_t)(n - i - 1);
    return n;
}

size_t device_filter_make(const struct oci_device_rule *rules, size_t length,
                          const struct oci_device_rule *more, size_t nr_more,
                          struct bpf_insn *items)
{
    size_t n = 0;

    items[n++] = LOAD_WORD(TYPE, CONTEXT, offsetof(struct bpf_cgroup_dev_ctx, access_type));
    items[n++] = COPY32(ACCESS, TYPE);
    items[n++] = AND(TYPE, 0xffff);
    items[n++] = SHIFT_RIGHT(ACCESS, 16);
    items[n++] = LOAD_WORD(MAJOR, CONTEXT, offsetof(struct bpf_cgroup_dev_ctx, major));
    items[n++] = LOAD_WORD(MINOR, CONTEXT, offsetof(struct bpf_cgroup_dev_ctx, minor));
    /* Last first. A rule for all devices ends the list: the verifier refuses code behind it. */
    for (size_t i = length + nr_more; i-- > 0;) {
        const struct oci_device_rule *rule = i < length ? &rules[i] : &more[i - length];

        n += make_rule(rule, items + n);
        if (rule->type == 'a')
            return n;
    }
    items[n++] = SET(RESULT, 0);
    items[n++] = RETURN;
    return n;
}

static int bpf(int command, union bpf_attr *attributes)
{
    long result = syscall(SYS_bpf, command, attributes, sizeof(*attributes));

    return result < 0 ? -errno : (int)result;
}

/* The program that an earlier call attached here, or -1. */
static int find_attached(int directory_fd)
{
    union bpf_attr query = {0}, get = {0};
    uint32_t ids[2] = {0};

    query.query.target_fd = (uint32_t)directory_fd;
    query.query.attach_type = BPF_CGROUP_DEVICE;
    query.query.prog_ids = (uint64_t)(uintptr_t)ids;
    query.query.prog_cnt = ARRAY_LEN(ids);
    if (bpf(BPF_PROG_QUERY, &query) < 0 || query.query.prog_cnt != 1)
        return -1;
    get.prog_id = ids[0];
    return MAX(bpf(BPF_PROG_GET_FD_BY_ID, &get), -1);
}

int device_filter_attach(int directory_fd, const struct bpf_insn *items, size_t length,
                         struct err *err)
{
    static const char license[] = "Apache-2.0";
    CLEANUP(fd_closep) int program = -1;
    CLEANUP(fd_closep) int former = -1;
    union bpf_attr load = {0}, attach = {0};
    int result;

    load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    load.insns = (uint64_t)(uintptr_t)items;
    load.insn_cnt = (uint32_t)length;
    load.license = (uint64_t)(uintptr_t)license;
    if ((program = bpf(BPF_PROG_LOAD, &load)) < 0)
        return err_errno(err, program, "device rules: load a program of %zu instructions", length);
    former = find_attached(directory_fd);
    attach.target_fd = (uint32_t)directory_fd;
    attach.attach_bpf_fd = (uint32_t)program;
    attach.attach_type = BPF_CGROUP_DEVICE;
    attach.attach_flags = BPF_F_ALLOW_MULTI | (former >= 0 ? BPF_F_REPLACE : 0u);
    if (former >= 0)
        attach.replace_bpf_fd = (uint32_t)former;
    if ((result = bpf(BPF_PROG_ATTACH, &attach)) < 0)
        return err_errno(err, result, "device rules: attach to the cgroup");
    return 0;
}
