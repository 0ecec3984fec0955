/* SPDX-License-Identifier: Apache-2.0 */
/* Environments as clients describe them: what is taken, what is refused and in which words. */
#include "manager/environment.h"
#include "testing.h"

#include <math.h>
#include <string.h>

static int parse(const char *text, struct environment_spec *ret, struct err *err)
{
    json_t *document = NULL;
    int result = json_parse(text, strlen(text), "test", &document, err);

    if (result == 0)
        result = environment_spec_parse(document, ret, err);
    json_decref(document);
    return result;
}

START_TEST(usual_values)
{
    struct environment_spec spec;
    struct err err = ERR_INIT;

    ck_assert_msg(parse("{}", &spec, &err) == 0, "%s", err.message);
    ck_assert(isinf(spec.cpus) && isinf(spec.memory) && !spec.drf && !spec.instances_max);
    ck_assert_double_eq(spec.priority, 1);
    ck_assert_double_eq(spec.alpha, 1);
    ck_assert_double_eq(spec.beta, 0);
    ck_assert_int_eq(spec.mode, ALLOCATION_STATIC);
    for (unsigned i = 0; i < ALLOCATION_RESOURCES; i++)
        ck_assert_double_eq(spec.overcommit[i], 1);
}
END_TEST

START_TEST(all_members)
{
    struct environment_spec spec;
    struct err err = ERR_INIT;

    ck_assert_msg(parse("{\"cpu_millis\": 2500, \"memory_bytes\": 4294967296, \"priority\": 2, "
                        "\"alpha\": 3, \"beta\": -0.5, \"instances_max\": 9, \"keep_free\": 0.2, "
                        "\"drf\": true, \"overcommit\": {\"cpu\": 4, \"memory\": 1.25}, "
                        "\"policy\": \"dynamic\", \"network\": \"lan\"}",
                        &spec, &err) == 0,
                  "%s", err.message);
    ck_assert_double_eq(spec.cpus, 2.5);
    ck_assert_double_eq(spec.memory, 4294967296.0);
    ck_assert_double_eq(spec.beta, -0.5);
    ck_assert_double_eq(spec.overcommit[ALLOCATION_CPU], 4);
    ck_assert_double_eq(spec.overcommit[ALLOCATION_MEMORY], 1.25);
    ck_assert_double_eq(spec.keep_free, 0.2);
    ck_assert_uint_eq(spec.instances_max, 9);
    ck_assert(spec.drf && spec.mode == ALLOCATION_DYNAMIC);
    ck_assert_str_eq(spec.network, "lan");
}
END_TEST

static const struct {
    const char *text, *words;
} bad[] = {
    {"[]", "not a JSON object"},
    {"{\"cpus\": 1}", "cpus"},
    {"{\"cpu_millis\": 1}", "cpu_millis"},
    {"{\"cpu_millis\": -1}", "cpu_millis"},
    {"{\"cpu_millis\": 1.5}", "cpu_millis"},
    {"{\"priority\": 0}", "priority"},
    {"{\"priority\": 1e300}", "priority"},
    {"{\"priority\": \"1\"}", "not a number"},
    {"{\"alpha\": -1}", "alpha"},
    {"{\"beta\": 1e7}", "beta"},
    {"{\"keep_free\": 1}", "keep_free"},
    {"{\"overcommit\": 2}", "overcommit"},
    {"{\"overcommit\": {\"disk\": 2}}", "disk"},
    {"{\"overcommit\": {\"cpu\": 0}}", "overcommit.cpu"},
    {"{\"policy\": \"lottery\"}", "neither static nor dynamic"},
    {"{\"network\": \"a/b\"}", "no name of a network"},
    {"{\"drf\": 1}", "drf"},
};

START_TEST(refused)
{
    struct environment_spec spec;
    struct err err = ERR_INIT;

    ck_assert_int_lt(parse(bad[_i].text, &spec, &err), 0);
    ck_assert_msg(strstr(err.message, bad[_i].words) != NULL, "%s: %s", bad[_i].text, err.message);
}
END_TEST

START_TEST(changes)
{
    json_t *before = json_pack("{s:i, s:f}", "cpu_millis", 500, "priority", 2.0);
    json_t *change = json_pack("{s:n, s:s}", "cpu_millis", "policy", "dynamic"), *after = NULL;
    json_t *wrong = json_pack("{s:i}", "priority", -1);
    struct err err = ERR_INIT;

    ck_assert_msg(environment_spec_change(before, change, &after, &err) == 0, "%s", err.message);
    ck_assert_ptr_null(json_object_get(after, "cpu_millis"));
    ck_assert_str_eq(json_string_value(json_object_get(after, "policy")), "dynamic");
    ck_assert_double_eq(json_number_value(json_object_get(after, "priority")), 2);
    ck_assert_int_eq(json_integer_value(json_object_get(before, "cpu_millis")), 500);
    json_decref(after);
    ck_assert_int_lt(environment_spec_change(before, wrong, &after, &err), 0);
    json_decref(wrong);
    json_decref(change);
    json_decref(before);
}
END_TEST

TEST_MAIN("manager_environment_spec", tcase_add_test(tcase, usual_values);
          tcase_add_test(tcase, all_members);
          tcase_add_loop_test(tcase, refused, 0, sizeof(bad) / sizeof(bad[0]));
          tcase_add_test(tcase, changes);)
