/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/run_options.h"

#include "base/util.h"
#include "cmd/vmm_process.h"
#include "testing.h"

#include <errno.h>
#include <string.h>

#define WORDS_MAX 24

/* Splits a line at blanks and parses it. */
static int parse(const char *line, struct run_options *options, struct err *err)
{
    static char copy[512];
    static char *argv[WORDS_MAX + 1];
    char *word, *rest;
    int argc = 0;

    snprintf(copy, sizeof(copy), "run %s", line);
    for (word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        argv[argc++] = word;
    argv[argc] = NULL;
    return run_options_parse(options, argc, argv, err);
}

START_TEST(everything_at_once)
{
    struct run_options o;
    struct err err = ERR_INIT;

    ck_assert_msg(parse("-it --cpus=3 -m2G -eA=1 --env B -v /s:/t:ro --volume /u:/v -w /w -u me:us "
                        "--name n.1 --hostname h img ls -la --vm",
                        &o, &err) == 0,
                  "%s", err.message);
    ck_assert(o.stdin_open && o.tty && !o.vm);
    ck_assert_uint_eq(o.nr_cpus, 3);
    ck_assert_uint_eq(o.memory_bytes, 2 * GIB);
    ck_assert_uint_eq(o.nr_env, 2);
    ck_assert_str_eq(o.env[0], "A=1");
    ck_assert_uint_eq(o.nr_volumes, 2);
    ck_assert_str_eq(o.volumes[0].source, "/s");
    ck_assert_str_eq(o.volumes[0].target, "/t");
    ck_assert(o.volumes[0].read_only && !o.volumes[1].read_only);
    ck_assert_str_eq(o.cwd, "/w");
    ck_assert_str_eq(o.user, "me:us");
    ck_assert_str_eq(o.image, "img");
    ck_assert_str_eq(o.command[1], "-la");
    ck_assert_str_eq(o.command[2], "--vm");
    ck_assert_ptr_null(o.command[3]);
    run_options_done(&o);
}
END_TEST

START_TEST(defaults_of_a_machine)
{
    struct run_options o;

    ck_assert_int_eq(parse("--vm -- img", &o, NULL), 0);
    ck_assert_str_eq(o.engine, "auto");
    ck_assert_str_eq(o.kernel, "cloud");
    ck_assert(o.vm && !o.stdin_open && o.nr_cpus == 0);
    ck_assert_ptr_null(o.command[0]);
    run_options_done(&o);
}
END_TEST

static const struct {
    const char *line;
    int code;
    const char *words;
} wrong[] = {
    {"", -EINVAL, "IMAGE"},
    {"--vm", -EINVAL, "IMAGE"},
    {"--vm --engine warp i", -EINVAL, "warp"},
    {"--vm --engine softer i", -EINVAL, "softer"},
    {"--engine kvm i", -EINVAL, "--vm"},
    {"--kernel rt i", -EINVAL, "--vm"},
    {"--cpus", -EINVAL, "needs a value"},
    {"--cpus 99999 i", -ERANGE, "99999"},
    {"-m 0 i", -EINVAL, "256M"},
    {"-m 1X i", -EINVAL, "1X"},
    {"-v :/x i", -EINVAL, "SRC:DST"},
    {"-ix i", -EINVAL, "-x"},
    {"--tty=1 i", -EINVAL, "no value"},
    {"--hostname _x i", -EINVAL, "_x"},
    {"--workdirr /x i", -EINVAL, "--workdir'"},
};

START_TEST(wrong_ones_are_named)
{
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct run_options o;
        struct err err = ERR_INIT;
        int result = parse(wrong[i].line, &o, &err);

        ck_assert_msg(result < 0 && (result == wrong[i].code || wrong[i].code == -ERANGE),
                      "'%s': %d", wrong[i].line, result);
        ck_assert_msg(strstr(err.message, wrong[i].words) != NULL, "'%s': %s", wrong[i].line,
                      err.message);
    }
}
END_TEST

START_TEST(a_tail_keeps_the_last_lines)
{
    static struct tail tail;
    char text[100], line[32];

    for (int i = 0; i < 3000; i++) {
        snprintf(line, sizeof(line), "line %d\r\n", i);
        tail_append(&tail, line, strlen(line));
    }
    tail_last_lines(&tail, 2, "> ", text, sizeof(text));
    ck_assert_str_eq(text, "> line 2998\n> line 2999");
    tail_append(&tail, "\033[31mred", 8);
    tail_last_lines(&tail, 1, "", text, sizeof(text));
    ck_assert_str_eq(text, ".[31mred");
    tail_last_lines(&tail, 100, "", text, 10);
    ck_assert_uint_lt(strlen(text), 10);
}
END_TEST

TEST_MAIN("run_options", tcase_add_test(tcase, everything_at_once);
          tcase_add_test(tcase, defaults_of_a_machine); tcase_add_test(tcase, wrong_ones_are_named);
          tcase_add_test(tcase, a_tail_keeps_the_last_lines))
