/* SPDX-License-Identifier: Apache-2.0 */
#include "manager/jobs_spec.h"

#include "testing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static json_t *parse(const char *text)
{
    json_t *document = NULL;
    struct err err = ERR_INIT;

    ck_assert_msg(json_parse(text, strlen(text), "test", &document, &err) == 0, "%s", err.message);
    return document;
}

START_TEST(a_job_with_everything)
{
    json_t *document = parse(
        "{\"queue\": \"q\", \"name\": \"n\", \"estimate_s\": 1.5, \"priority\": -3,"
        " \"tickets\": 7, \"restartable\": true, \"count\": 3, \"spec\":"
        " {\"image\": \"i\", \"isolation\": \"vm\", \"command\": [\"a\", \"b c\"],"
        " \"resources\": {\"cpu_millis\": 2000, \"memory_bytes\": 67108864}}}");
    struct job_request job;
    struct err err = ERR_INIT;

    ck_assert_msg(job_request_parse(document, &job, &err) == 0, "%s", err.message);
    ck_assert_str_eq(job.queue, "q");
    ck_assert_str_eq(job.name, "n");
    ck_assert_str_eq(job.image, "i");
    ck_assert_str_eq(job.command, "a b c");
    ck_assert_uint_eq(job.estimate_ns, 1500000000);
    ck_assert_int_eq(job.priority, -3);
    ck_assert_uint_eq(job.tickets, 7);
    ck_assert_uint_eq(job.count, 3);
    ck_assert_uint_eq(job.need[0], 2000);
    ck_assert_uint_eq(job.need[1], 67108864);
    ck_assert(job.vm && job.restartable);
    job_request_done(&job);
    json_decref(document);
}
END_TEST

START_TEST(a_job_with_nothing)
{
    json_t *document = parse("{\"spec\": {\"image\": \"i\"}}");
    struct job_request job;

    ck_assert_int_eq(job_request_parse(document, &job, NULL), 0);
    ck_assert_str_eq(job.queue, "default");
    ck_assert_ptr_null(job.name);
    ck_assert_uint_eq(job.estimate_ns, 0);
    ck_assert_uint_eq(job.need[0], JOBS_CPU_MILLIS);
    ck_assert_uint_eq(job.need[1], JOBS_MEMORY_BYTES);
    ck_assert_uint_eq(job.count, 1);
    job_request_done(&job);
    json_decref(document);
}
END_TEST

/* Of one class are those of one image, isolation and command, however the words are cut. */
START_TEST(classes)
{
    static const char *const texts[] = {
        "{\"spec\": {\"image\": \"i\", \"command\": [\"a\", \"b\"]}}",
        "{\"priority\": 3, \"spec\": {\"command\": [\"a\", \"b\"], \"image\": \"i\", \"env\": []}}",
        "{\"spec\": {\"image\": \"i\", \"command\": [\"a b\"]}}",
        "{\"spec\": {\"image\": \"i\", \"command\": [\"a\", \"b\"], \"isolation\": \"vm\"}}",
        "{\"spec\": {\"image\": \"j\", \"command\": [\"a\", \"b\"]}}"};
    uint64_t hashes[5];

    for (size_t i = 0; i < 5; i++) {
        json_t *document = parse(texts[i]);
        struct job_request job;

        ck_assert_int_eq(job_request_parse(document, &job, NULL), 0);
        hashes[i] = job.class_hash;
        job_request_done(&job);
        json_decref(document);
    }
    ck_assert_uint_eq(hashes[0], hashes[1]);
    for (size_t i = 2; i < 5; i++)
        for (size_t k = 0; k < i; k++)
            ck_assert_uint_ne(hashes[i], hashes[k]);
}
END_TEST

/* A command of several bytes a character is cut between two of them. */
START_TEST(long_commands)
{
    char text[1024], word[600] = "";
    json_t *document;
    struct job_request job;

    for (int i = 0; i < 100; i++)
        strcat(word, "\u20ac");
    snprintf(text, sizeof(text), "{\"spec\": {\"image\": \"i\", \"command\": [\"%s\", \"%s\"]}}",
             "x", word);
    document = parse(text);
    ck_assert_int_eq(job_request_parse(document, &job, NULL), 0);
    ck_assert_uint_eq(strlen(job.command) % 3, 2); /* "x " and whole characters */
    ck_assert_uint_le(strlen(job.command), 120);
    job_request_done(&job);
    json_decref(document);
}
END_TEST

START_TEST(refused)
{
    static const char *const texts[][2] = {
        {"{}", "spec"},
        {"{\"spec\": []}", "spec"},
        {"{\"spec\": {}}", "image"},
        {"{\"spec\": {\"isolation\": \"vm\", \"hardware\": {}}}", "spec"},
        {"{\"spec\": {\"image\": \"i\"}, \"queue\": \"/\"}", "queue"},
        {"{\"spec\": {\"image\": \"i\"}, \"name\": \"\"}", "name"},
        {"{\"spec\": {\"image\": \"i\"}, \"estimate_s\": -1}", "estimate_s"},
        {"{\"spec\": {\"image\": \"i\"}, \"estimate_s\": 1e9}", "estimate_s"},
        {"{\"spec\": {\"image\": \"i\"}, \"priority\": 4097}", "priority"},
        {"{\"spec\": {\"image\": \"i\"}, \"priority\": 9223372036854775807}", "priority"},
        {"{\"spec\": {\"image\": \"i\"}, \"tickets\": 0}", "tickets"},
        {"{\"spec\": {\"image\": \"i\"}, \"count\": 10001}", "count"},
        {"{\"spec\": {\"image\": \"i\"}, \"colour\": 1}", "colour"},
        {"{\"spec\": {\"image\": \"i\", \"auto_remove\": true}}", "auto_remove"},
        {"{\"spec\": {\"image\": \"i\", \"stdin\": true}}", "stdin"}};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        json_t *document = parse(texts[i][0]);
        struct job_request job;
        struct err err = ERR_INIT;

        ck_assert_int_lt(job_request_parse(document, &job, &err), 0);
        ck_assert_msg(strstr(err.message, texts[i][1]), "%s: %s", texts[i][0], err.message);
        json_decref(document);
    }
}
END_TEST

START_TEST(queues)
{
    struct job_queue_spec spec, before;
    json_t *document =
        parse("{\"policy\": \"rr\", \"quantum_s\": 0.25, \"slots\": 3, \"cpus\": 2.5}");
    struct err err = ERR_INIT;

    job_queue_spec_init(&spec, 4);
    ck_assert_uint_eq(spec.config.servers, 4);
    ck_assert_msg(job_queue_spec_change(document, &spec, &err) == 0, "%s", err.message);
    json_decref(document);
    ck_assert_uint_eq(spec.config.policy, QUEUE_RR);
    ck_assert_uint_eq(spec.config.quantum_ns, 250000000);
    ck_assert_uint_eq(spec.config.servers, 3);
    ck_assert_uint_eq(spec.config.capacity[0], 2500);
    /* What is refused changes nothing, not even its good parts. */
    before = spec;
    document = parse("{\"slots\": 9, \"backfill\": true}");
    ck_assert_int_eq(job_queue_spec_change(document, &spec, &err), -EINVAL);
    ck_assert_int_eq(memcmp(&before, &spec, sizeof(spec)), 0);
    json_decref(document);
    document = parse("{\"slots\": 0, \"cpus\": 0}");
    ck_assert_int_eq(job_queue_spec_change(document, &spec, &err), -EINVAL);
    json_decref(document);
    /* As it is written down it is read again. */
    document = job_queue_spec_json(&spec);
    job_queue_spec_init(&before, 1);
    ck_assert_int_eq(job_queue_spec_change(document, &before, &err), 0);
    ck_assert_int_eq(memcmp(&before, &spec, sizeof(spec)), 0);
    json_decref(document);
}
END_TEST

START_TEST(changes)
{
    struct queue_spec spec = {.estimate_ns = 5, .priority = 1, .tickets = 100};
    json_t *document = parse("{\"priority\": -7}");
    struct err err = ERR_INIT;

    ck_assert_int_eq(job_change_parse(document, &spec, &err), 0);
    ck_assert_int_eq(spec.priority, -7);
    ck_assert_uint_eq(spec.estimate_ns, 5);
    json_decref(document);
    document = parse("{\"priority\": 2, \"queue\": \"x\"}");
    ck_assert_int_eq(job_change_parse(document, &spec, &err), -EINVAL);
    ck_assert_int_eq(spec.priority, -7);
    json_decref(document);
}
END_TEST

TEST_MAIN("manager_jobs_spec", tcase_add_test(tcase, a_job_with_everything);
          tcase_add_test(tcase, a_job_with_nothing); tcase_add_test(tcase, classes);
          tcase_add_test(tcase, long_commands); tcase_add_test(tcase, refused);
          tcase_add_test(tcase, queues); tcase_add_test(tcase, changes);)
