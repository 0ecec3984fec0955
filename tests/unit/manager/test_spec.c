/* SPDX-License-Identifier: Apache-2.0 */
#include "manager/spec.h"

#include "testing.h"

#include <errno.h>
#include <string.h>

START_TEST(all_members)
{
    struct bundle_limits limits;
    struct err err = ERR_INIT;
    struct spec spec;

    ck_assert_msg(
        spec_parse_text("{\"image\": \"i\", \"isolation\": \"vm\", \"command\": [\"a\", \"b\"], "
                        "\"env\": [\"A=1\"], \"tty\": true, \"volumes\": [{\"source\": \"/s\", "
                        "\"target\": \"/t\", \"read_only\": true}], \"resources\": "
                        "{\"cpu_millis\": 2000, \"cpu_max_millis\": 1500, \"pids\": 7, "
                        "\"memory_bytes\": 67108864, \"priority\": 2.5, \"beta\": -1, "
                        "\"reserve_cpu_millis\": 1500, \"cpuset\": \"0-1,3\"}, "
                        "\"environment\": \"dev\", "
                        "\"restart\": {\"policy\": \"on-failure\", \"max_retries\": 3}, "
                        "\"health\": {\"command\": [\"true\"], \"interval_ms\": 500}, "
                        "\"stop_signal\": \"SIGINT\", \"stop_timeout_s\": 0}",
                        &spec, &err) == 0,
        "%s", err.message);
    ck_assert(spec.vm && spec.tty && !spec.stdin_open && !spec.auto_remove);
    ck_assert_str_eq(spec.command[1], "b");
    ck_assert_ptr_null(spec.command[2]);
    ck_assert_str_eq(spec.volumes[0].target, "/t");
    ck_assert_int_eq(spec.stop_signal, 2);
    ck_assert_uint_eq(spec.stop_timeout_s, 0);
    ck_assert_int_eq(spec.restart, SPEC_RESTART_ON_FAILURE);
    ck_assert_uint_eq(spec.max_retries, 3);
    ck_assert_uint_eq(spec.health.interval_ms, 500);
    ck_assert_uint_eq(spec.health.retries, 3);
    spec_limits(&spec, &limits);
    ck_assert_uint_eq(limits.cpu_quota_us, 150000);
    ck_assert_uint_eq(limits.pids, 7);
    ck_assert_str_eq(limits.cpuset, "0-1,3");
    ck_assert_str_eq(spec_environment(&spec), "dev");
    ck_assert_double_eq(spec.share.priority, 2.5);
    ck_assert_double_eq(spec.share.beta, -1);
    ck_assert_double_nan(spec.share.alpha);
    ck_assert_uint_eq(spec.share.reserve_cpu_millis, 1500);
    spec_done(&spec);
}
END_TEST

START_TEST(what_is_wrong_is_named)
{
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"{}", "image"},
        {"[]", "not a JSON object"},
        {"{\"image\": \"i\", \"colour\": 1}", "colour"},
        {"{\"image\": \"\"}", "image: empty"},
        {"{\"image\": \"i\", \"isolation\": \"jail\"}", "isolation"},
        {"{\"image\": \"i\", \"command\": \"ls\"}", "command"},
        {"{\"image\": \"i\", \"command\": [1]}", "command[0]"},
        {"{\"image\": \"i\", \"env\": [\"x\"]}", "env[0]"},
        {"{\"image\": \"i\", \"env\": [\"=x\"]}", "env[0]"},
        {"{\"image\": \"i\", \"resources\": {\"pids\": 0}}", "pids"},
        {"{\"image\": \"i\", \"resources\": {\"gpus\": 1}}", "gpus"},
        {"{\"image\": \"i\", \"volumes\": [{\"source\": \"a/s\", \"target\": \"/t\"}]}",
         "absolute"},
        {"{\"image\": \"i\", \"labels\": {\"a=b\": \"\"}}", "labels"},
        {"{\"image\": \"i\", \"restart\": {\"policy\": \"maybe\"}}", "maybe"},
        {"{\"image\": \"i\", \"health\": {}}", "health.command"},
        {"{\"image\": \"i\", \"stop_signal\": \"NOPE\"}", "NOPE"},
        {"{\"image\": \"i\", \"auto_remove\": true, \"restart\": {\"policy\": \"always\"}}",
         "exclude"},
        {"{\"image\": \"i\", \"network\": \"n,x\"}", "network"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err err = ERR_INIT;
        struct spec spec;

        ck_assert_msg(spec_parse_text(cases[i].text, &spec, &err) < 0, "%s", cases[i].text);
        ck_assert_msg(strstr(err.message, cases[i].words) != NULL, "%s: %s", cases[i].text,
                      err.message);
    }
}
END_TEST

START_TEST(changes_merge)
{
    struct err err = ERR_INIT;
    json_t *before = json_pack("{s:s, s:{s:i, s:i}, s:{s:s}}", "image", "i", "resources", "pids", 7,
                               "cpu_shares", 100, "labels", "a", "b");
    json_t *changes = json_pack("{s:{s:i, s:n}, s:{s:s, s:n}}", "resources", "pids", 9,
                                "cpu_shares", "labels", "c", "d", "a");
    json_t *after;

    ck_assert_int_eq(spec_change(before, changes, &after, &err), 0);
    ck_assert_int_eq(
        json_integer_value(json_object_get(json_object_get(after, "resources"), "pids")), 9);
    ck_assert_ptr_null(json_object_get(json_object_get(after, "resources"), "cpu_shares"));
    ck_assert_ptr_null(json_object_get(json_object_get(after, "labels"), "a"));
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(after, "labels"), "c")),
                     "d");
    json_decref(changes);
    json_decref(after);
    changes = json_pack("{s:s}", "image", "other");
    ck_assert_int_lt(spec_change(before, changes, &after, &err), 0);
    json_decref(changes);
    json_decref(before);
}
END_TEST

static int parse_nets(const char *nets, struct spec *ret, struct err *err)
{
    char text[512];

    snprintf(text, sizeof(text),
             "{\"isolation\": \"vm\", \"hardware\": {\"memory_bytes\": 134217728, \"cpus\": 1, "
             "\"networks\": [%s]}}",
             nets);
    return spec_parse_text(text, ret, err);
}

START_TEST(interfaces_of_a_machine)
{
    static const struct {
        const char *nets, *words;
    } cases[] = {
        {"{\"id\": \"a\", \"net\": \"network=\"}", "network=NAME"},
        {"{\"id\": \"a\", \"net\": \"network=../x\"}", "network=NAME"},
        {"{\"id\": \"a\", \"net\": \"network=a,mac=1\"}", "network=NAME"},
        {"{\"id\": \"a\", \"net\": \"network=a-name-that-is-longer-than-31-bytes\"}",
         "network=NAME"},
        {"{\"id\": \"a\", \"net\": \"network=x\"}, {\"id\": \"b\", \"net\": \"network=x\"}",
         "there already"},
        {"{\"id\": \"a\", \"net\": \"user\"}, {\"id\": \"a\", \"net\": \"user\"}", "there already"},
        {"{\"id\": \"A\", \"net\": \"user\"}", "small letters"},
        {"{\"id\": \"a\", \"net\": \"bridge\"}", "'network=NAME'"},
    };
    char id[HARDWARE_ID_MAX + 1], other[HARDWARE_ID_MAX + 1];
    struct err err = ERR_INIT;
    struct spec spec;

    ck_assert_msg(parse_nets("{\"id\": \"a\", \"net\": \"network=town,ip=10.88.0.9\"}, "
                             "{\"id\": \"b\", \"net\": \"user\"}",
                             &spec, &err) == 0,
                  "%s", err.message);
    ck_assert_str_eq(spec.hardware->nets[0].network, "town");
    ck_assert_str_eq(spec.hardware->nets[0].address4, "10.88.0.9");
    ck_assert_str_eq(spec.hardware->nets[1].network, "");
    ck_assert(hardware_is_networked(spec.hardware, NULL));
    ck_assert(hardware_is_networked(spec.hardware, "town"));
    ck_assert(!hardware_is_networked(spec.hardware, "user"));
    spec_done(&spec);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        err_clear(&err);
        ck_assert_msg(parse_nets(cases[i].nets, &spec, &err) < 0, "%s", cases[i].nets);
        ck_assert_msg(strstr(err.message, cases[i].words), "%s: %s", cases[i].nets, err.message);
    }
    hardware_net_id("town", id);
    ck_assert_str_eq(id, "town");
    hardware_net_id("Town", id);
    hardware_net_id("a-name-of-31-bytes-is-too-long.", other);
    ck_assert_uint_eq(strlen(id), 17);
    ck_assert_str_ne(id, other);
}
END_TEST

START_TEST(names_and_signals)
{
    ck_assert_int_eq(spec_check_name("a.b-c_9", NULL), 0);
    ck_assert_int_lt(spec_check_name("", NULL), 0);
    ck_assert_int_lt(spec_check_name("-a", NULL), 0);
    ck_assert_int_lt(spec_check_name("a/b", NULL), 0);
    ck_assert_int_eq(spec_signal("15", NULL), 15);
    ck_assert_int_eq(spec_signal("sigterm", NULL), 15);
    ck_assert_int_lt(spec_signal("0", NULL), 0);
    ck_assert_int_lt(spec_signal("65", NULL), 0);
}
END_TEST

TEST_MAIN("manager_spec", tcase_add_test(tcase, all_members);
          tcase_add_test(tcase, what_is_wrong_is_named); tcase_add_test(tcase, changes_merge);
          tcase_add_test(tcase, interfaces_of_a_machine); tcase_add_test(tcase, names_and_signals);)
