/* SPDX-License-Identifier: Apache-2.0 */
/* events: what a container uses, once (--stats) or every --interval, and when it runs out of
 * memory, until it ends. */
#include "base/json.h"
#include "base/size.h"
#include "cmd/oci_cli.h"
#include "oci/stats.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* "5s", "500ms", "2m", "3". */
static int parse_interval(const char *text, struct timespec *ret)
{
    char *unit;
    double seconds = strtod(text, &unit);

    if (unit == text || !isdigit((unsigned char)text[0]))
        return -EINVAL;
    if (strcmp(unit, "ms") == 0)
        seconds /= 1000;
    else if (strcmp(unit, "m") == 0)
        seconds *= 60;
    else if (strcmp(unit, "h") == 0)
        seconds *= 3600;
    else if (*unit && strcmp(unit, "s") != 0)
        return -EINVAL;
    if (!(seconds > 0 && seconds < 1e6))
        return -ERANGE;
    ret->tv_sec = (time_t)seconds;
    ret->tv_nsec = (long)((seconds - (double)ret->tv_sec) * 1e9);
    return 0;
}

static int print_event(const struct oci_global *global, const char *type, const char *id,
                       json_t *data)
{
    json_t *event = json_pack("{s:s, s:s, s:o*}", "type", type, "id", id, "data", data);
    int status = oci_print_json(global, event, JSON_COMPACT);

    json_decref(event);
    return status;
}

static int follow(const struct oci_global *global, const char *id, const struct timespec *interval)
{
    uint64_t kills_before = UINT64_MAX, kills = 0;
    struct err err;
    json_t *data;
    int result;

    while ((result = container_stats(global->root, id, &data, &kills, &err)) == 0) {
        if (kills > kills_before && print_event(global, "oom", id, NULL) != 0)
            return 1;
        kills_before = kills;
        if (print_event(global, "stats", id, data) != 0)
            return 1;
        nanosleep(interval, NULL);
    }
    /* Its end is the end of the events, unless it never was there. */
    return kills_before == UINT64_MAX ? oci_fail(global, &err) : 0;
}

int oci_verb_events(const struct oci_global *global, int argc, char **argv)
{
    static const struct option options[] = {{"stats", no_argument, NULL, 's'},
                                            {"interval", required_argument, NULL, 'i'},
                                            {NULL, 0, NULL, 0}};
    struct timespec interval = {.tv_sec = 5};
    bool once = false;
    uint64_t kills;
    const char *id;
    struct err err;
    json_t *data;
    int option;

    while ((option = getopt_long(argc, argv, "+", options, NULL)) >= 0) {
        if (option == 's')
            once = true;
        else if (option != 'i')
            return oci_unknown_option();
        else if (parse_interval(optarg, &interval) < 0)
            return oci_usage_error(global, "events: --interval '%s' is not a time such as 5s",
                                   optarg);
    }
    if (!(id = oci_single_id(global, argc, argv)))
        return 1;
    if (!once)
        return follow(global, id, &interval);
    if (container_stats(global->root, id, &data, &kills, &err) < 0)
        return oci_fail(global, &err);
    return print_event(global, "stats", id, data);
}
