/* SPDX-License-Identifier: Apache-2.0 */
/* lodge logs and events: what instances said, and what became of them. */
#include "cmd/cli.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/managed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINE_MAX_BYTES (64u << 10)

struct printing {
    struct buf line;
    bool timestamps;
    const char *since; /* RFC 3339; NULL: all */
};

/* TIME STREAM FLAG TEXT */
static void print_entry(const struct printing *p, char *line, size_t length)
{
    char *time_end = memchr(line, ' ', length), *stream, *flag, *text;
    FILE *to;

    if (!time_end || length < 40 || !(stream = time_end + 1) ||
        !(flag = memchr(stream, ' ', length - (size_t)(stream - line))) || flag[1] == '\0')
        return;
    if (p->since && strncmp(line, p->since, strlen(p->since)) < 0)
        return;
    text = flag + 3;
    to = !strncmp(stream, "stderr", 6) ? stderr : stdout;
    if (p->timestamps)
        fprintf(to, "%.*s ", (int)(time_end - line), line);
    fwrite(text, 1, length - (size_t)(text - line), to);
    if (flag[1] == 'F')
        fputc('\n', to);
    /* Two streams that may be one terminal: in their order. */
    fflush(to);
}

static int take(const char *data, size_t length, void *context)
{
    struct printing *p = context;

    while (length) {
        const char *end = memchr(data, '\n', length);
        size_t part = end ? (size_t)(end - data) : length;

        if (buf_append(&p->line, data, part) < 0)
            p->line.length = 0;
        data += part;
        length -= part;
        if (!end)
            break;
        if (buf_string(&p->line))
            print_entry(p, p->line.data, p->line.length);
        p->line.length = 0;
        data++;
        length--;
    }
    return ferror(stdout) ? 1 : 0;
}

/* "10m", "2h", "30s" ago, or a time as it is. */
static int since_time(const char *given, char *to, size_t size, struct err *err)
{
    struct tm parsed = {0};
    char *end;
    long number = strtol(given, &end, 10);
    long unit = *end == 's' ? 1 : *end == 'm' ? 60 : *end == 'h' ? 3600 : *end == 'd' ? 86400 : 0;
    time_t when;
    struct tm utc;

    if (end == given || !unit || end[1]) {
        snprintf(to, size, "%s", given);
        return strptime(given, "%Y-%m-%d", &parsed)
                   ? 0
                   : err_set(err, -EINVAL,
                             "--since '%.60s' is neither a while (30s, 10m, 2h, 1d) nor a time "
                             "(2026-11-21T13:00:00Z)",
                             given);
    }
    when = time(NULL) - number * unit;
    gmtime_r(&when, &utc);
    strftime(to, size, "%Y-%m-%dT%H:%M:%S", &utc);
    return 0;
}

int managed_logs_parse(const struct cli_verb *verb, int argc, char **argv, struct managed_logs *ret)
{
    const struct managed_option options[] = {{"--follow", 'f', &ret->follow, NULL},
                                             {"--timestamps", 't', &ret->timestamps, NULL},
                                             {"--tail", 'n', NULL, &ret->tail},
                                             {"--since", 0, NULL, &ret->since}};
    int nr;

    *ret = (struct managed_logs){0};
    nr = managed_parse(verb, options, ARRAY_LEN(options), argc, argv);
    snprintf(ret->rest, sizeof(ret->rest), "/logs?follow=%d%s%.40s", ret->follow,
             ret->tail ? "&tail=" : "", ret->tail ?: "");
    return nr;
}

int managed_logs_print(const struct managed_logs *logs, const char *path, struct err *err)
{
    struct printing p = {.timestamps = logs->timestamps};
    char when[64];
    int result;

    if (logs->since) {
        if ((result = since_time(logs->since, when, sizeof(when), err)) < 0)
            return result;
        p.since = when;
    }
    buf_init(&p.line, LINE_MAX_BYTES);
    result = api_stream(path, take, &p, err);
    buf_done(&p.line);
    return result;
}

static int logs(int argc, char **argv)
{
    struct managed_logs asked;
    int nr = managed_logs_parse(&verb_logs, argc, argv, &asked);
    char path[MANAGED_PATH_MAX];
    struct err err = ERR_INIT;

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr != 1)
        return cli_usage_error(&verb_logs, "one instance is needed");
    managed_path(path, argv[1], asked.rest);
    return managed_logs_print(&asked, path, &err) < 0 ? managed_fail(&err) : 0;
}

static void print_event(const char *line, size_t length)
{
    json_t *event = json_loadb(line, length, 0, NULL);
    const char *when = json_string_value(json_object_get(event, "time"));

    if (when)
        printf("%.23sZ  %-8s %-12s %-20s %s\n", when,
               json_string_value(json_object_get(event, "event")) ?: "",
               json_string_value(json_object_get(event, "instance")) ?: "",
               json_string_value(json_object_get(event, "name")) ?: "",
               json_string_value(json_object_get(event, "detail")) ?: "");
    json_decref(event);
}

static int take_event(const char *data, size_t length, void *context)
{
    struct printing *p = context;
    char *end;

    if (buf_append(&p->line, data, length) < 0)
        return 1;
    while (p->line.length && (end = memchr(p->line.data, '\n', p->line.length))) {
        size_t part = (size_t)(end - p->line.data);

        if (part && p->timestamps) /* --json: as it comes */
            printf("%.*s\n", (int)part, p->line.data);
        else if (part)
            print_event(p->line.data, part);
        buf_consume(&p->line, part + 1);
    }
    fflush(stdout);
    return ferror(stdout) ? 1 : 0;
}

static int events(int argc, char **argv)
{
    bool json = false;
    const char *since = NULL;
    const struct managed_option options[] = {{"--json", 0, &json, NULL},
                                             {"--since", 0, NULL, &since}};
    int nr = managed_parse(&verb_events, options, ARRAY_LEN(options), argc, argv), result;
    struct printing p = {.timestamps = json};
    char path[160];
    struct err err = ERR_INIT;

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr > 0)
        return cli_usage_error(&verb_events, "what is '%s'?", argv[1]);
    snprintf(path, sizeof(path), "/v1/events?follow=1%s%.40s", since ? "&since=" : "", since ?: "");
    buf_init(&p.line, LINE_MAX_BYTES);
    result = api_stream(path, take_event, &p, &err);
    buf_done(&p.line);
    return result < 0 ? managed_fail(&err) : 0;
}

const struct cli_verb verb_logs = {
    .name = "logs",
    .summary = "Prints what an instance has written to its standard streams",
    .usage = "logs [--follow] [--tail N] [--since TIME] [--timestamps] INSTANCE",
    .help = "  -f, --follow      until it ends\n"
            "  -n, --tail N      the last N lines\n"
            "  --since TIME      10m, 2h, 30s ago, or a time such as 2026-11-21T13:00:00Z\n"
            "  -t, --timestamps\n",
    .run = logs,
};

const struct cli_verb verb_events = {
    .name = "events",
    .summary = "Prints what happens to instances, as it happens",
    .usage = "events [--json] [--since SEQUENCE]",
    .help = "  --json            one object a line\n"
            "  --since SEQUENCE  those after the event with this number, too\n",
    .run = events,
};
