/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/environments, and why an instance has what it has. */
#include "manager/api/request.h"

#include "base/util.h"
#include "manager/explain.h"
#include "manager/figures.h"

#include <errno.h>

static void reply_environment(struct api_request *request, struct api_reply *reply,
                              const char *name, bool measured)
{
    struct err err = ERR_INIT;
    int result = explain_environment(request->m, name, measured, &reply->body, &err);

    if (result < 0) {
        buf_consume(&reply->body, reply->body.length);
        api_fail_err(reply, result, &err);
    }
}

void api_environments(struct api_request *request, struct api_reply *reply)
{
    explain_environments(request->m, &reply->body);
}

void api_environment_create(struct api_request *request, struct api_reply *reply)
{
    char name[SPEC_NAME_MAX + 1] = "";
    struct err err = ERR_INIT;
    int result = environment_create(request->m, request->json, name, &err);

    if (result < 0) {
        api_fail_err(reply, result, &err);
        return;
    }
    reply->status = 201;
    reply_environment(request, reply, name, false);
}

void api_environment(struct api_request *request, struct api_reply *reply)
{
    reply_environment(request, reply, request->args[0], api_query_flag(request, "measure"));
}

void api_environment_update(struct api_request *request, struct api_reply *reply)
{
    struct err err = ERR_INIT;
    int result = environment_update(request->m, request->args[0], request->json, &err);

    if (result < 0) {
        api_fail_err(reply, result, &err);
        return;
    }
    allocator_round(request->m, NULL);
    reply_environment(request, reply, request->args[0], false);
}

void api_environment_remove(struct api_request *request, struct api_reply *reply)
{
    struct err err = ERR_INIT;
    int result = environment_remove(request->m, request->args[0], &err);

    if (result < 0)
        api_fail_err(reply, result, &err);
    else
        buf_append_string(&reply->body, "{}\n");
}

void api_explain(struct api_request *request, struct api_reply *reply)
{
    struct instance *instance = api_instance(request, reply);
    struct err err = ERR_INIT;
    int result;

    if (!instance)
        return;
    if ((result = explain_instance(request->m, instance, &reply->body, &err)) < 0)
        api_fail_err(reply, result, &err);
    instance_unref(request->m, instance);
}

void api_figures(struct api_request *request, struct api_reply *reply)
{
    struct instance *instance = api_instance(request, reply);
    struct instance_figures figures;
    struct err err = ERR_INIT;
    int result;

    if (!instance)
        return;
    if ((result = figures_read(request->m, instance, &figures, &err)) < 0) {
        api_fail_err(reply, result, &err);
    } else {
        buf_append(&reply->body, "{", 1);
        figures_write(&reply->body, &figures);
        buf_append_string(&reply->body, "}\n");
    }
    instance_unref(request->m, instance);
}
