/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/life_options.h"

#include "base/size.h"
#include "base/util.h"

#include <errno.h>
#include <string.h>

#define RETRIES_MAX 1000000

int restart_put(json_t *object, const char *text, struct err *err)
{
    static const char *const policies[] = {"no", "always", "unless-stopped", "on-failure"};
    const char *colon = text ? strchr(text, ':') : NULL;
    size_t length = text ? strcspn(text, ":") : 0;
    const char *policy = NULL;
    uint64_t retries = 0;
    int result;

    if (!text)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(policies); i++)
        if (strlen(policies[i]) == length && !strncmp(text, policies[i], length))
            policy = policies[i];
    if (!policy || (colon && strcmp(policy, "on-failure") != 0))
        return err_set(err, -EINVAL,
                       "--restart '%.60s' is none of no, on-failure[:N], always, unless-stopped",
                       text);
    if (colon && (result = number_parse(colon + 1, "--restart on-failure:N, with N", 1, RETRIES_MAX,
                                        &retries, err)) < 0)
        return result;
    if (object)
        json_object_set_new(
            object, "restart",
            json_pack("{s:s, s:I}", "policy", policy, "max_retries", (json_int_t)retries));
    return 0;
}

int health_options_check(const struct health_options *options, struct err *err)
{
    if (!options->command &&
        (options->interval_s || options->timeout_s || options->start_s || options->retries))
        return err_set(err, -EINVAL,
                       "--health-interval, -timeout, -retries and -start-period are of "
                       "--health-cmd COMMAND: add that");
    return 0;
}

void health_options_put(const struct health_options *options, json_t *object)
{
    const struct {
        const char *name;
        uint64_t value;
    } figures[] = {{"interval_ms", options->interval_s * 1000},
                   {"timeout_ms", options->timeout_s * 1000},
                   {"start_period_ms", options->start_s * 1000},
                   {"retries", options->retries}};
    json_t *health;

    if (!options->command)
        return;
    health = json_pack("{s:[s,s,s]}", "command", "/bin/sh", "-c", options->command);
    for (size_t i = 0; i < ARRAY_LEN(figures); i++)
        if (figures[i].value)
            json_object_set_new(health, figures[i].name,
                                json_integer((json_int_t)figures[i].value));
    json_object_set_new(object, "health", health);
}
