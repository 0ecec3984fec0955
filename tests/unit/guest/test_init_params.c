/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/init.h"

#include "base/util.h"
#include "testing.h"

#include <string.h>

static const struct {
    const char *cmdline, *agent, *root, *rw;
} lines[] = {
    {"", "", "/dev/vda", "50%"},
    {"quiet\n", "", "/dev/vda", "50%"},
    {"console=ttyS0 lodge.agent=vsock:1024 quiet\n", "vsock:1024", "/dev/vda", "50%"},
    {"lodge.root=/dev/vdb  lodge.rw=64m", "", "/dev/vdb", "64m"},
    {"lodge.rw=/dev/vdb", "", "/dev/vda", "/dev/vdb"},
    {"lodge.agent=a lodge.agent=b", "b", "/dev/vda", "50%"},
    {"xlodge.agent=a", "", "/dev/vda", "50%"},
    {"lodge.agent=", "", "/dev/vda", "50%"},
    {"quiet -- lodge.agent=for-the-command", "", "/dev/vda", "50%"},
};

START_TEST(words_are_found)
{
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct init_params params;

        init_params_parse(lines[i].cmdline, &params);
        ck_assert_str_eq(params.agent, lines[i].agent);
        ck_assert_str_eq(params.root, lines[i].root);
        ck_assert_str_eq(params.rw, lines[i].rw);
    }
}
END_TEST

START_TEST(mounts_are_collected)
{
    struct init_params params;

    init_params_parse("lodge.mount=v0,/a quiet lodge.mount=v1,/b,ro -- lodge.mount=no", &params);
    ck_assert_str_eq(params.mounts, "v0,/a v1,/b,ro ");
}
END_TEST

START_TEST(interfaces_are_collected)
{
    struct init_params params;

    init_params_parse("lodge.nic=02:00:00:00:00:01+10.0.0.2/24 lodge.nic=b+c/8+d/64", &params);
    ck_assert_str_eq(params.nics, "02:00:00:00:00:01+10.0.0.2/24 b+c/8+d/64 ");
}
END_TEST

START_TEST(a_value_too_long_is_no_value)
{
    char line[2 * INIT_PARAM_MAX] = "lodge.agent=";
    struct init_params params;

    memset(line + strlen(line), 'x', INIT_PARAM_MAX);
    init_params_parse(line, &params);
    ck_assert_str_eq(params.agent, "");
}
END_TEST

TEST_MAIN("init_params", tcase_add_test(tcase, words_are_found);
          tcase_add_test(tcase, mounts_are_collected);
          tcase_add_test(tcase, interfaces_are_collected);
          tcase_add_test(tcase, a_value_too_long_is_no_value))
