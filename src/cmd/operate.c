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

static void path_of(const json_t *operation, const char *rest, char ret[OPERATION_PATH_MAX])
{
    snprintf(ret, OPERATION_PATH_MAX, "/v1/operations/%llu%s",
             (unsigned long long)number_of(operation, "id"), rest);
}

/* *operation is replaced by what it is then. It may just be over: a refusal is none. */
static void cancel(json_t **operation)
{
    char path[OPERATION_PATH_MAX];
    json_t *next = NULL;

    path_of(*operation, "", path);
    if (api_ask("DELETE", path, NULL, &next, NULL, NULL) == 0 && next) {
        json_decref(*operation);
        *operation = next;
    }
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
        if (interrupted && !cancelled) {
            cancelled = true;
            cancel(operation);
            continue;
        }
        path_of(*operation, "?wait=1", path);
        result = api_ask("GET", path, NULL, &next, NULL, err);
        if (next) {
            json_decref(*operation);
            *operation = next;
        }
    }
    return result;
}

struct sending {
    const struct operate_content *content;
    struct progress *progress;
    struct api_put *put;
    json_t **operation;
    uint64_t done;
};

bool operate_interrupted(void)
{
    return interrupted;
}

int operate_write(void *to, const void *data, size_t length)
{
    struct sending *sending = to;
    uint64_t total = sending->content->length;
    int result = api_put_write(sending->put, data, length);

    if (result < 0)
        return result;
    sending->done += length;
    progress_show(sending->progress, "sending", sending->done, total == UINT64_MAX ? 0 : total);
    return 0;
}

static int produce(struct api_put *put, void *context, struct err *err)
{
    struct sending *sending = context;
    int result;

    sending->put = put;
    result = sending->content->produce(sending, sending->content->context, err);
    /* While the connection is there: afterwards the content would have been cut off. */
    if (result < 0 && interrupted)
        cancel(sending->operation);
    return result;
}

/* What the manager does not want to have is no failure of ours: the operation says why. */
static int send_content(json_t **operation, const struct operate_content *content,
                        struct progress *progress, struct err *err)
{
    struct sending sending = {content, progress, NULL, operation, 0};
    struct err own = ERR_INIT;
    char path[OPERATION_PATH_MAX];
    int result;

    path_of(*operation, "/content?wait=0", path);
    result = api_put(path, content->length, &interrupted, produce, &sending, &own);
    if (result == 0 || result == -EPIPE || result == -ECONNRESET || interrupted)
        return 0;
    return err_set(err, result, "%s", own.message);
}

static int carry_out(const char *method, const char *path, json_t *body,
                     const struct operate_content *content, struct progress *progress,
                     json_t **operation, struct err *err)
{
    int result = api_ask(method, path, body, operation, NULL, err);

    if (result == 0 && content)
        result = send_content(operation, content, progress, err);
    return result < 0 ? result : follow(operation, progress, err);
}

int operate(const char *method, const char *path, json_t *body,
            const struct operate_content *content, struct progress *progress, json_t **ret,
            struct err *err)
{
    const struct sigaction catch = {.sa_handler = on_signal};
    CLEANUP(json_decrefp) json_t *operation = NULL;
    struct sigaction before[2];
    int result;

    interrupted = 0;
    sigaction(SIGINT, &catch, &before[0]);
    sigaction(SIGTERM, &catch, &before[1]);
    result = carry_out(method, path, body, content, progress, &operation, err);
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
