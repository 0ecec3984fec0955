/* SPDX-License-Identifier: Apache-2.0 */
/* lodge operation: what the manager is at, and was. */
#include "cmd/cli.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/managed.h"
#include "cmd/operate.h"
#include "cmd/progress.h"

#include <stdio.h>
#include <string.h>

static const char *text(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name)) ?: "";
}

static bool is_running(const json_t *operation)
{
    return !strcmp(text(operation, "status"), "running");
}

/* "layer 1 of 2, 40 %" */
static void describe(const json_t *operation, char *ret, size_t size)
{
    const json_t *at = json_object_get(operation, "progress");
    double done = json_number_value(json_object_get(at, "done"));
    double total = json_number_value(json_object_get(at, "total"));

    if (total > 0)
        snprintf(ret, size, "%s, %.0f %%", text(at, "text"), MIN(done / total, 1.0) * 100);
    else
        snprintf(ret, size, "%s", text(at, "text"));
}

static int list(bool all, bool json)
{
    CLEANUP(json_decrefp) json_t *answer = NULL;
    struct err err = ERR_INIT;
    json_t *operations;

    if (api_ask("GET", "/v1/operations", NULL, &answer, NULL, &err) < 0)
        return managed_fail(&err);
    operations = json_object_get(answer, "operations");
    for (size_t i = json_array_size(operations); i-- > 0;)
        if (!all && !is_running(json_array_get(operations, i)))
            json_array_remove(operations, i);
    if (json) {
        json_dumpf(operations, stdout, JSON_INDENT(2));
        putchar('\n');
        return 0;
    }
    printf("%8s %-12s %-12s %-8s %s\n", "ID", "KIND", "OF", "STATUS", "PROGRESS");
    for (size_t i = 0; i < json_array_size(operations); i++) {
        const json_t *one = json_array_get(operations, i);
        char progress[160];

        describe(one, progress, sizeof(progress));
        printf("%8lld %-12s %-12s %-8s %s\n",
               (long long)json_integer_value(json_object_get(one, "id")), text(one, "kind"),
               *text(one, "subject") ? text(one, "subject") : text(one, "instance"),
               text(one, "status"), *text(one, "error") ? text(one, "error") : progress);
    }
    return 0;
}

static int ask_one(const char *method, const char *id, const char *rest, json_t **ret,
                   struct err *err)
{
    CLEANUP(buf_donep) struct buf path;

    buf_init(&path, MANAGED_PATH_MAX);
    buf_append_string(&path, "/v1/operations/");
    api_escape(&path, id);
    buf_append_string(&path, rest);
    if (!buf_string(&path))
        return err_set(err, -EINVAL, "'%.40s' is no operation", id);
    return api_ask(method, path.data, NULL, ret, NULL, err);
}

/* Until it is over, with what it is at. */
static int wait_for(const char *id, bool quiet)
{
    CLEANUP(json_decrefp) json_t *operation = NULL;
    struct progress progress;
    struct err err = ERR_INIT;

    progress_init(&progress, quiet);
    for (;;) {
        json_decref(TAKE_PTR(operation));
        if (ask_one("GET", id, "?wait=1", &operation, &err) < 0) {
            progress_end(&progress);
            return managed_fail(&err);
        }
        if (!is_running(operation))
            break;
        operate_show(&progress, operation);
    }
    progress_end(&progress);
    if (!strcmp(text(operation, "status"), "done"))
        return 0;
    err_set(&err, -EIO, "operation %.40s: %s", id, text(operation, "error"));
    return managed_fail(&err);
}

static int inspect_or_cancel(const char *method, const char *id)
{
    CLEANUP(json_decrefp) json_t *operation = NULL;
    struct err err = ERR_INIT;

    if (ask_one(method, id, "", &operation, &err) < 0)
        return managed_fail(&err);
    json_dumpf(operation, stdout, JSON_INDENT(2));
    putchar('\n');
    return 0;
}

static int run(int argc, char **argv)
{
    bool all = false, json = false, quiet = false;
    const struct managed_option options[] = {
        {"--all", 'a', &all, NULL}, {"--json", 0, &json, NULL}, {"--quiet", 'q', &quiet, NULL}};
    int nr = managed_parse(&verb_operation, options, ARRAY_LEN(options), argc, argv);

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr == 1 && !strcmp(argv[1], "ls"))
        return list(all, json);
    if (nr == 2 && !strcmp(argv[1], "inspect"))
        return inspect_or_cancel("GET", argv[2]);
    if (nr == 2 && !strcmp(argv[1], "cancel"))
        return inspect_or_cancel("DELETE", argv[2]);
    if (nr == 2 && !strcmp(argv[1], "wait"))
        return wait_for(argv[2], quiet);
    return cli_usage_error(&verb_operation, "ls, or inspect, wait or cancel with an id");
}

const struct cli_verb verb_operation = {
    .name = "operation",
    .summary = "Shows what the manager is at, and breaks it off",
    .usage = "operation ls [--all] [--json] | inspect ID | wait [--quiet] ID | cancel ID",
    .help = "What takes time is an operation with an id: starts, stops, removals,\n"
            "and work on images and disks.\n"
            "  ls         those under way; --all: those that are over, too\n"
            "  inspect    one, as JSON\n"
            "  wait       until it is over; fails as it did\n"
            "  cancel     breaks off a start that is under way, or work on images and disks; "
            "nothing of it "
            "stays\n",
    .run = run,
};
