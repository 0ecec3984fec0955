/* SPDX-License-Identifier: Apache-2.0 */
/* Device rules as a program: interpreted here over a table of accesses, and judged by the kernel's
 * verifier where a v2 hierarchy is at hand. */
#include "oci/device_filter.h"

#include "base/util.h"
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define R BPF_DEVCG_ACC_READ
#define W BPF_DEVCG_ACC_WRITE
#define M BPF_DEVCG_ACC_MKNOD
#define C BPF_DEVCG_DEV_CHAR
#define B BPF_DEVCG_DEV_BLOCK

static uint64_t load_word(const struct bpf_cgroup_dev_ctx *context, int offset)
{
    uint32_t value;

    ck_assert(offset >= 0 && (size_t)offset + sizeof(value) <= sizeof(*context));
    memcpy(&value, (const char *)context + offset, sizeof(value));
    return value;
}

/* The handful of instructions that the generator uses; anything else fails the test. */
static int interpret(const struct bpf_insn *items, size_t length,
                     const struct bpf_cgroup_dev_ctx *context)
{
    uint64_t r[11] = {0};

    for (size_t pc = 0; pc < length; pc++) {
        const struct bpf_insn *i = &items[pc];
        uint64_t immediate = (uint64_t)(int64_t)i->imm;

        switch (i->code) {
        case BPF_LDX | BPF_MEM | BPF_W:
            r[i->dst_reg] = load_word(context, i->off);
            break;
        case BPF_ALU | BPF_MOV | BPF_X:
            r[i->dst_reg] = (uint32_t)r[i->src_reg];
            break;
        case BPF_ALU64 | BPF_MOV | BPF_K:
            r[i->dst_reg] = immediate;
            break;
        case BPF_ALU | BPF_AND | BPF_K:
            r[i->dst_reg] = (uint32_t)r[i->dst_reg] & (uint32_t)i->imm;
            break;
        case BPF_ALU | BPF_RSH | BPF_K:
            r[i->dst_reg] = (uint32_t)r[i->dst_reg] >> i->imm;
            break;
        case BPF_JMP | BPF_JNE | BPF_K:
            pc += r[i->dst_reg] != immediate ? (size_t)i->off : 0;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            pc += r[i->dst_reg] == immediate ? (size_t)i->off : 0;
            break;
        case BPF_JMP | BPF_EXIT:
            return (int)r[0];
        default:
            ck_abort_msg("instruction %zu: code %#x", pc, i->code);
        }
    }
    ck_abort_msg("ran off the end");
    return -1;
}

static const struct oci_device_rule deny_all = {false, 'a', -1, -1, "rwm"};

static const struct {
    struct oci_device_rule rules[4];
    size_t length;
    uint32_t type, access, major, minor;
    int allowed;
} cases[] = {
    {{{false, 'a', -1, -1, "rwm"}}, 1, C, R, 1, 3, 0},
    {{{true, 'a', -1, -1, "rwm"}}, 1, B, R | W, 8, 0, 1},
    {{{true, 'c', 1, 3, "rwm"}}, 1, C, R, 1, 3, 1},
    {{{true, 'c', 1, 3, "rwm"}}, 1, C, R, 1, 5, 0},
    {{{true, 'c', 1, 3, "rwm"}}, 1, C, R, 2, 3, 0},
    {{{true, 'c', 1, 3, "rwm"}}, 1, B, R, 1, 3, 0},
    {{{true, 'c', 1, -1, "r"}}, 1, C, R, 1, 77, 1},
    {{{true, 'c', 1, -1, "r"}}, 1, C, R | W, 1, 77, 0},
    {{{true, 'c', -1, -1, "m"}}, 1, C, M, 200, 200, 1},
    {{{true, 'c', -1, -1, "m"}}, 1, C, R, 200, 200, 0},
    /* The last rule that fits wins. */
    {{{true, 'a', -1, -1, "rwm"}, {false, 'b', 8, -1, "w"}}, 2, B, W, 8, 1, 0},
    {{{true, 'a', -1, -1, "rwm"}, {false, 'b', 8, -1, "w"}}, 2, B, R | W, 8, 1, 0},
    {{{true, 'a', -1, -1, "rwm"}, {false, 'b', 8, -1, "w"}}, 2, B, R, 8, 1, 1},
    {{{true, 'a', -1, -1, "rwm"}, {false, 'b', 8, -1, "w"}}, 2, B, W, 9, 1, 1},
    {{{false, 'c', 1, 3, "rwm"}, {true, 'c', 1, 3, "rw"}}, 2, C, R, 1, 3, 1},
    {{{true, 'c', 1, 3, "rwm"}, {false, 'a', -1, -1, "rwm"}}, 2, C, R, 1, 3, 0},
    {{{true, 'c', 1, 3, ""}}, 1, C, R, 1, 3, 0},
};

START_TEST(accesses_are_judged_as_version_1_would)
{
    struct bpf_insn items[DEVICE_FILTER_LENGTH(8)];
    struct bpf_cgroup_dev_ctx context = {.access_type = cases[_i].access << 16 | cases[_i].type,
                                         .major = cases[_i].major,
                                         .minor = cases[_i].minor};
    size_t n = device_filter_make(cases[_i].rules, cases[_i].length, NULL, 0, items);

    ck_assert_uint_le(n, DEVICE_FILTER_LENGTH(cases[_i].length));
    ck_assert_int_eq(interpret(items, n, &context), cases[_i].allowed);
}
END_TEST

START_TEST(later_lists_win)
{
    static const struct oci_device_rule allow_null = {true, 'c', 1, 3, "rwm"};
    struct bpf_insn items[DEVICE_FILTER_LENGTH(2)];
    struct bpf_cgroup_dev_ctx context = {.access_type = R << 16 | C, .major = 1, .minor = 3};
    size_t n = device_filter_make(&deny_all, 1, &allow_null, 1, items);

    ck_assert_int_eq(interpret(items, n, &context), 1);
    context.minor = 4;
    ck_assert_int_eq(interpret(items, n, &context), 0);
}
END_TEST

/* In a cgroup of its own, by a child: the kernel takes the program and acts on it. */
START_TEST(the_kernel_enforces_it)
{
    static const struct oci_device_rule rules[] = {{false, 'a', -1, -1, "rwm"},
                                                   {true, 'c', 1, 5, "rw"}};
    const char *roots[] = {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"};
    struct bpf_insn items[DEVICE_FILTER_LENGTH(2)];
    size_t n = device_filter_make(rules, 2, NULL, 0, items);
    struct err err = ERR_INIT;
    char path[128] = "", procs[160];
    int directory, fd, result = -1;

    for (size_t i = 0; i < ARRAY_LEN(roots) && result < 0; i++) {
        snprintf(procs, sizeof(procs), "%s/cgroup.controllers", roots[i]);
        snprintf(path, sizeof(path), "%s/lodge-unit-%d", roots[i], (int)getpid());
        result = access(procs, F_OK) == 0 ? mkdir(path, 0755) : -1;
    }
    if (result < 0)
        return; /* no v2 hierarchy that we may write: the interpreter has to do */
    directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* Twice: the second takes the first one's place. */
    result = device_filter_attach(directory, items, n, &err);
    if (result == 0)
        result = device_filter_attach(directory, items, n, &err);
    snprintf(procs, sizeof(procs), "%s/cgroup.procs", path);
    if (result == 0 && fork() == 0) {
        fd = open(procs, O_WRONLY | O_CLOEXEC);
        if (write(fd, "0", 1) != 1)
            _exit(3);
        if (open("/dev/zero", O_RDWR | O_CLOEXEC) < 0)
            _exit(1);
        _exit(open("/dev/null", O_RDWR | O_CLOEXEC) < 0 && errno == EPERM ? 0 : 2);
    }
    if (result == 0)
        ck_assert_int_gt(wait(&fd), 0);
    close(directory);
    rmdir(path);
    if (result == -EPERM || result == -EINVAL)
        return; /* no BPF for us here */
    ck_assert_msg(result == 0, "%s", err.message);
    ck_assert_int_eq(WEXITSTATUS(fd), 0);
}
END_TEST

TEST_MAIN("device_filter", tcase_add_loop_test(tcase, accesses_are_judged_as_version_1_would, 0,
                                               (int)ARRAY_LEN(cases));
          tcase_add_test(tcase, later_lists_win); tcase_add_test(tcase, the_kernel_enforces_it))
