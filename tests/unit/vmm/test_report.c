/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm.h"

#include "testing.h"

#include <string.h>

static struct cpu_exit some_exit(void)
{
    struct cpu_exit exit = {.kind = CPU_EXIT_UNSUPPORTED};

    exit.unsupported.linear_address = 0xffffffff81000010;
    exit.unsupported.nr_bytes = 3;
    memcpy(exit.unsupported.bytes, "\x0f\x01\xc1", 3);
    return exit;
}

START_TEST(a_report_names_address_bytes_and_registers)
{
    struct cpu_exit exit = some_exit();
    struct cpu_state state;
    char text[VM_REPORT_MAX];

    cpu_state_reset(&state, 0);
    state.gpr[CPU_R15] = 0x123456789abcdef0;
    report_exit(text, sizeof(text), 3, "instruction without a handler", &exit, &state);
    ck_assert_ptr_nonnull(strstr(text, "vCPU 3: instruction without a handler, at f000:fff0"));
    ck_assert_ptr_nonnull(strstr(text, "linear address ffffffff81000010, bytes 0f 01 c1\n"));
    ck_assert_ptr_nonnull(strstr(text, "r15 123456789abcdef0"));
    ck_assert_ptr_nonnull(strstr(text, "cs f000 base ffff0000 limit ffff"));
}
END_TEST

START_TEST(a_report_without_state_or_bytes_says_what_it_can)
{
    struct cpu_exit exit = some_exit();
    char text[VM_REPORT_MAX];

    exit.unsupported.nr_bytes = 0;
    report_exit(text, sizeof(text), 0, "code outside memory", &exit, NULL);
    ck_assert_str_eq(text,
                     "vCPU 0: code outside memory, linear address ffffffff81000010, bytes not "
                     "readable");
    report_exit(text, sizeof(text), 1, "triple fault", NULL, NULL);
    ck_assert_str_eq(text, "vCPU 1: triple fault");
}
END_TEST

START_TEST(a_report_never_leaves_its_buffer)
{
    struct cpu_exit exit = some_exit();
    struct cpu_state state;
    char text[VM_REPORT_MAX];

    cpu_state_reset(&state, 0);
    for (size_t size = 1; size < 600; size++) {
        memset(text, '~', sizeof(text));
        report_exit(text, size, 0, "something", &exit, &state);
        ck_assert_uint_lt(strlen(text), size);
        ck_assert_int_eq(text[size], '~');
    }
}
END_TEST

TEST_MAIN("vmm_report", tcase_add_test(tcase, a_report_names_address_bytes_and_registers);
          tcase_add_test(tcase, a_report_without_state_or_bytes_says_what_it_can);
          tcase_add_test(tcase, a_report_never_leaves_its_buffer))
