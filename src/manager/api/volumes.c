/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /v1/volumes: the named volumes of this host, which `lodge volume` and `lodge run -v` see as well.
 * One that an instance's specification names is in use even while that does not run.
 */
#include "manager/api/request.h"

#include "volume/volume.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static void list_one(const struct volume *volume, void *context)
{
    json_array_append_new(context, volume_json(volume));
}

void api_volumes(struct api_request *request, struct api_reply *reply)
{
    struct err err = ERR_INIT;
    json_t *list = json_array();
    int result = volume_each(NULL, list_one, list, &err);

    (void)request;
    if (result < 0) {
        json_decref(list);
        api_fail_err(reply, result, &err);
        return;
    }
    api_reply_json(reply,
                   json_pack("{s:o, s:s}", "volumes", list, "directory", volume_directory()));
}

static void reply_volume(struct api_reply *reply, const char *name)
{
    CLEANUP(freep) struct volume *volume = calloc(1, sizeof(*volume));
    struct err err = ERR_INIT;
    int result = volume ? volume_find(NULL, name, volume, &err)
                        : err_set(&err, -ENOMEM, "out of memory");

    if (result < 0)
        api_fail_err(reply, result, &err);
    else
        api_reply_json(reply, volume_json(volume));
}

void api_volume_create(struct api_request *request, struct api_reply *reply)
{
    static const char *const known[] = {"name", "size_bytes", NULL};
    const char *name = NULL;
    uint64_t size_bytes = 0;
    struct err err = ERR_INIT;
    struct json_at body;
    int result;

    json_at_root(request->json, &body);
    if ((result = json_reject_unknown(&body, known, &err)) < 0 ||
        (result = json_get_string(&body, "name", &name, &err)) < 0 ||
        (result = json_opt_uint(&body, "size_bytes", &size_bytes, &err)) < 0 ||
        (result = volume_create(NULL, name, size_bytes, &err)) < 0) {
        api_fail_err(reply, result, &err);
        return;
    }
    reply->status = 201;
    reply_volume(reply, name);
}

void api_volume(struct api_request *request, struct api_reply *reply)
{
    reply_volume(reply, request->args[0]);
}

void api_volume_delete(struct api_request *request, struct api_reply *reply)
{
    const char *name = request->args[0];
    CLEANUP(freep) char *user = volumes_user(request->m, name);
    struct err err = ERR_INIT;
    int result;

    if (user)
        api_fail(reply, 409, "volume '%.70s' is in use by instance '%s'; `lodge rm %s` first", name,
                 user, user);
    else if ((result = volume_remove(NULL, name, &err)) < 0)
        api_fail_err(reply, result, &err);
    else
        buf_append_string(&reply->body, "{}\n");
}

struct pruning {
    struct manager *m;
    json_t *candidates;
};

static void consider(const struct volume *volume, void *context)
{
    struct pruning *pruning = context;
    CLEANUP(freep) char *user = volumes_user(pruning->m, volume->name);

    if (!volume->in_use && !user)
        json_array_append_new(pruning->candidates, json_string(volume->name));
}

void api_volumes_prune(struct api_request *request, struct api_reply *reply)
{
    struct pruning pruning = {.m = request->m, .candidates = json_array()};
    json_t *removed = json_array(), *name;
    struct err err = ERR_INIT;
    int result = volume_each(NULL, consider, &pruning, &err);
    size_t i;

    json_array_foreach(pruning.candidates, i, name)
    {
        /* One that was taken meanwhile stays. */
        if (volume_remove(NULL, json_string_value(name), NULL) == 0)
            json_array_append(removed, name);
    }
    json_decref(pruning.candidates);
    if (result < 0) {
        json_decref(removed);
        api_fail_err(reply, result, &err);
        return;
    }
    api_reply_json(reply, json_pack("{s:o}", "removed", removed));
}
