/* SPDX-License-Identifier: Apache-2.0 */
/* lodge job submit: the options of the queue are taken out, the others are those of lodge run. */
#include "cmd/job_cli.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/cli.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct submission {
    const char *queue, *name, *estimate, *priority, *tickets, *count;
    bool restartable, wait, json;
};

int job_put_seconds(json_t *object, const char *name, const char *what, const char *text,
                    struct err *err)
{
    static const struct {
        const char *unit;
        double seconds;
    } units[] = {{"", 1}, {"s", 1}, {"ms", .001}, {"us", .000001}, {"m", 60}, {"h", 3600}};
    char *end;
    double value;

    if (!text)
        return 0;
    value = strtod(text, &end);
    for (size_t i = 0; end != text && i < ARRAY_LEN(units); i++)
        if (!strcmp(end, units[i].unit) && value >= 0 && value < 1e12) {
            json_object_set_new(object, name, json_real(value * units[i].seconds));
            return 0;
        }
    return err_set(err, -EINVAL, "%s '%.40s' is not a time: 30s, 500ms, 2m, 1h", what, text);
}

int job_put_whole(json_t *object, const char *name, const char *what, const char *text,
                  struct err *err)
{
    char *end;
    long long value;

    if (!text)
        return 0;
    errno = 0;
    value = strtoll(text, &end, 10);
    if (end == text || *end || errno)
        return err_set(err, -EINVAL, "%s '%.40s' is not a whole number", what, text);
    json_object_set_new(object, name, json_integer(value));
    return 0;
}

const char *job_text(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name)) ?: "";
}

double job_number(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

void job_print_json(const json_t *json)
{
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
}

/* Ours: 1, with *at at its last word. Not ours: 0. */
static int take(struct submission *s, int argc, char **argv, int *at)
{
    const struct {
        const char *name;
        const char **value;
        bool *flag;
    } options[] = {{"--queue", &s->queue, NULL},
                   {"--name", &s->name, NULL},
                   {"--estimate", &s->estimate, NULL},
                   {"--priority", &s->priority, NULL},
                   {"--tickets", &s->tickets, NULL},
                   {"--count", &s->count, NULL},
                   {"--wait", NULL, &s->wait},
                   {"--json", NULL, &s->json},
                   {"--restartable", NULL, &s->restartable}};
    const char *word = argv[*at];
    size_t length = strcspn(word, "=");

    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        if (strlen(options[i].name) != length || strncmp(options[i].name, word, length) != 0)
            continue;
        if (options[i].flag)
            *options[i].flag = true;
        else if (word[length])
            *options[i].value = word + length + 1;
        else if (*at + 1 < argc)
            *options[i].value = argv[++*at];
        else
            return -1;
        return 1;
    }
    return 0;
}

/* What is not ours stays in argv; returns how many words, or -1. */
static int split(struct submission *s, int argc, char **argv)
{
    int kept = 1, r;

    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-') { /* the image: the rest is the guest's */
            while (i < argc)
                argv[kept++] = argv[i++];
            break;
        }
        if ((r = take(s, argc, argv, &i)) < 0)
            return -1;
        if (r > 0)
            continue;
        argv[kept++] = argv[i];
        if (!strchr(argv[i], '=') && run_option_awaiting(argv[i]) && i + 1 < argc)
            argv[kept++] = argv[++i];
    }
    argv[kept] = NULL;
    return kept;
}

static int make_request(const struct submission *s, int argc, char **argv, json_t **ret,
                        struct err *err)
{
    struct run_options options = {0};
    json_t *spec, *job;
    int r = run_options_parse(&options, argc, argv, err);

    if (r < 0)
        return r;
    spec = managed_spec(&options);
    run_options_done(&options);
    json_object_del(spec, "name");
    *ret = job = json_pack("{s:o}", "spec", spec);
    if (s->queue)
        json_object_set_new(job, "queue", json_string(s->queue));
    if (s->name)
        json_object_set_new(job, "name", json_string(s->name));
    if (s->restartable)
        json_object_set_new(job, "restartable", json_true());
    if ((r = job_put_seconds(job, "estimate_s", "--estimate", s->estimate, err)) < 0 ||
        (r = job_put_whole(job, "priority", "--priority", s->priority, err)) < 0 ||
        (r = job_put_whole(job, "tickets", "--tickets", s->tickets, err)) < 0 ||
        (r = job_put_whole(job, "count", "--count", s->count, err)) < 0)
        json_decref(job);
    return r;
}

/* The last of their statuses that is not 0. */
static int wait_for(const json_t *ids, int *ret_status, struct err *err)
{
    for (size_t i = 0; i < json_array_size(ids); i++) {
        char path[64];
        json_t *job = NULL;
        int r, status = 0;

        snprintf(path, sizeof(path), "/v1/jobs/%lld/wait",
                 (long long)json_integer_value(json_array_get(ids, i)));
        do {
            json_decref(job);
            job = NULL;
            r = api_ask("GET", path, NULL, &job, &status, err);
        } while (r == -EREMOTEIO && status == 504);
        if (r < 0)
            return r;
        if (job_number(job, "exit_code") != 0)
            *ret_status = (int)job_number(job, "exit_code");
        else if (strcmp(job_text(job, "state"), "done") != 0)
            *ret_status = 1;
        json_decref(job);
    }
    return 0;
}

int job_submit(int argc, char **argv)
{
    struct submission s = {0};
    json_t *request = NULL, *answer = NULL;
    struct err err = ERR_INIT;
    int status = 0, r;

    if ((argc = split(&s, argc, argv)) < 0)
        return cli_usage_error(&verb_job, "the last option needs a value");
    if (argc < 2)
        return cli_usage_error(&verb_job, "submit: an image is needed");
    if (make_request(&s, argc, argv, &request, &err) < 0)
        return cli_usage_error(&verb_job, "submit: %s", err.message);
    if (api_ask("POST", "/v1/jobs", request, &answer, NULL, &err) < 0)
        return managed_fail(&err);
    if (s.json)
        job_print_json(answer);
    else
        for (size_t i = 0; i < json_array_size(json_object_get(answer, "ids")); i++)
            printf("%lld\n", (long long)json_integer_value(
                                 json_array_get(json_object_get(answer, "ids"), i)));
    fflush(stdout);
    r = s.wait ? wait_for(json_object_get(answer, "ids"), &status, &err) : 0;
    json_decref(answer);
    return r < 0 ? managed_fail(&err) : status;
}
