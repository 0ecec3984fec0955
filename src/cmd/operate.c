/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/operate.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "cmd/api_client.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define OPERATION_PATH_MAX 96

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

static const char *text_of(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name)) ?: "";
}

static uint64_t number_of(const json_t *object, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(object, name));
}

void operate_show(struct progress *progress, const json_t *operation)
{
    const json_t *at = json_object_get(operation, "progress");

    progress_show(progress, text_of(at, "text"), number_of(at, "done"), number_of(at, "total"));
}

/* Until it is over; *operation is replaced by what it is then. */
static int follow(json_t **operation, struct progress *progress, struct err *err)
{
    char path[OPERATION_PATH_MAX];
    bool cancelled = false;
    int result = 0;

    while (result == 0 && !strcmp(text_of(*operation, "status"), "running")) {
        json_t *next = NULL;

        operate_show(progress, *operation);
        snprintf(path, sizeof(path), "/v1/operations/%llu%s",
                 (unsigned long long)number_of(*operation, "id"),
                 interrupted && !cancelled ? "" : "?wait=1");
        if (interrupted && !cancelled) {
            cancelled = true;
            /* It may just be over. */
            if (api_ask("DELETE", path, NULL, &next, NULL, NULL) < 0)
                continue;
        } else {
            result = api_ask("GET", path, NULL, &next, NULL, err);
        }
        if (next) {
            json_decref(*operation);
            *operation = next;
        }
    }
    return result;
}

int operate(const char *path, json_t *body, struct progress *progress, json_t **ret,
            struct err *err)
{
    const struct sigaction catch = {.sa_handler = on_signal};
    CLEANUP(json_decrefp) json_t *operation = NULL;
    struct sigaction before[2];
    int result;

    interrupted = 0;
    sigaction(SIGINT, &catch, &before[0]);
    sigaction(SIGTERM, &catch, &before[1]);
    if ((result = api_ask("POST", path, body, &operation, NULL, err)) == 0)
        result = follow(&operation, progress, err);
    sigaction(SIGINT, &before[0], NULL);
    sigaction(SIGTERM, &before[1], NULL);
    progress_end(progress);
    if (result == 0 && strcmp(text_of(operation, "status"), "done") != 0)
        result = err_set(err, interrupted ? -ECANCELED : -EREMOTEIO, "%s",
                         text_of(operation, "error"));
    if (result == 0 && ret)
        *ret = json_incref(json_object_get(operation, "result"));
    return result;
}

int operate_path(const char *path, char *ret, size_t size, struct err *err)
{
    char here[PATH_MAX] = "";
    int length;

    if (*path != '/' && !getcwd(here, sizeof(here)))
        return err_errno(err, -errno, "find the working directory");
    length = snprintf(ret, size, "%s%s%s", here, *here ? "/" : "", path);
    return length < (int)size ? 0 : err_set(err, -ENAMETOOLONG, "the path is too long");
}
