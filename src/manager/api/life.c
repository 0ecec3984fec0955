/* SPDX-License-Identifier: Apache-2.0 */
/* What changes an instance's life, as operations; and waiting for its end. */
#include "manager/api/request.h"

#include "base/clock.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WAIT_MOST 86400u
/* Of a request that does not say how long it would wait. */
#define WAIT_USUAL 600u

static void reply_operation(struct api_request *request, struct api_reply *reply,
                            struct operation *operation, bool done)
{
    if (done && operation->code) {
        reply->status = (unsigned)operation->code;
        buf_printf(&reply->body, "{\"error\": {\"code\": %d, \"message\": ", operation->code);
        out_string(&reply->body, operation->error);
        if (operation->exit_code)
            buf_printf(&reply->body, ", \"exit_code\": %d", operation->exit_code);
        buf_append_string(&reply->body, "}, \"operation\": ");
        operation_write_json(request->m, operation, &reply->body);
        buf_append_string(&reply->body, "}\n");
        return;
    }
    reply->status = done ? 200 : 202;
    operation_write_json(request->m, operation, &reply->body);
    buf_append(&reply->body, "\n", 1);
}

/* One that is not waited for, or of the host, is promised: it is stored before it is acknowledged.
 */
static int run(struct manager *m, struct operation *operation, uint64_t wait_s, bool *ret_done,
               struct err *err)
{
    int result;

    if ((wait_s == 0 || operation->task) && (result = operation_store(m, operation, err)) < 0) {
        operation_abandon(m, operation, err);
        operation_unref(m, operation);
        return result;
    }
    if ((result = operation_start(m, operation, err)) < 0) {
        operation_abandon(m, operation, err);
        operation_unref(m, operation);
        return result;
    }
    *ret_done = wait_s > 0 && operation_wait(m, operation, wait_s * 1000);
    if (!*ret_done && wait_s > 0)
        operation_store(m, operation, NULL);
    return 0;
}

void api_operate(struct api_request *request, struct api_reply *reply, struct operation *operation,
                 uint64_t wait_s)
{
    struct err err = ERR_INIT;
    bool done;
    int result = run(request->m, operation, wait_s, &done, &err);

    if (result < 0) {
        api_fail_err(reply, result, &err);
        return;
    }
    reply_operation(request, reply, operation, done);
    operation_unref(request->m, operation);
}

static void operate(struct api_request *request, struct api_reply *reply, const char *kind,
                    const char *arguments)
{
    struct instance *instance;
    struct operation *operation;
    struct err err = ERR_INIT;
    uint64_t wait_s;
    int result;

    if (api_query_number(request, reply, "wait", WAIT_MOST, WAIT_USUAL, &wait_s) < 0 ||
        !(instance = api_instance(request, reply)))
        return;
    result = operation_new(request->m, kind, instance, arguments, &operation, &err);
    instance_unref(request->m, instance);
    if (result < 0)
        api_fail_err(reply, result, &err);
    else
        api_operate(request, reply, operation, wait_s);
}

void api_start(struct api_request *request, struct api_reply *reply)
{
    operate(request, reply, "start", "{}");
}

/* {"signal", "timeout_s"} of the body, else the specification's own. */
static int stop_arguments(struct api_request *request, struct api_reply *reply, char *to,
                          size_t size)
{
    static const char *const known[] = {"signal", "timeout_s", NULL};
    struct instance *instance = api_instance(request, reply);
    const char *signal_name = NULL;
    struct err err = ERR_INIT;
    uint64_t timeout_s = 0;
    struct json_at body;
    struct spec spec;
    int number = SIGTERM, result;

    if (!instance)
        return -ENOENT;
    pthread_mutex_lock(&request->m->lock);
    result = spec_parse_text(instance->spec, &spec, &err);
    pthread_mutex_unlock(&request->m->lock);
    instance_unref(request->m, instance);
    if (result == 0) {
        number = spec.stop_signal;
        timeout_s = spec.stop_timeout_s;
        spec_done(&spec);
        json_at_root(request->json, &body);
        if (request->json && ((result = json_reject_unknown(&body, known, &err)) < 0 ||
                              (result = json_opt_string(&body, "signal", &signal_name, &err)) < 0 ||
                              (result = json_opt_uint(&body, "timeout_s", &timeout_s, &err)) < 0))
            result = err.code;
        else if (timeout_s > 86400)
            result = err_set(&err, -EINVAL, "timeout_s: more than a day");
        else if (signal_name && (number = spec_signal(signal_name, &err)) < 0)
            result = number;
    }
    if (result < 0) {
        api_fail_err(reply, result, &err);
        return result;
    }
    snprintf(to, size, "{\"signal\":%d,\"timeout_s\":%llu}", number, (unsigned long long)timeout_s);
    return 0;
}

void api_stop(struct api_request *request, struct api_reply *reply)
{
    char arguments[80];

    if (stop_arguments(request, reply, arguments, sizeof(arguments)) == 0)
        operate(request, reply, "stop", arguments);
}

void api_restart(struct api_request *request, struct api_reply *reply)
{
    char arguments[80];

    if (stop_arguments(request, reply, arguments, sizeof(arguments)) == 0)
        operate(request, reply, "restart", arguments);
}

void api_pause(struct api_request *request, struct api_reply *reply)
{
    operate(request, reply, "pause", "{}");
}

void api_resume(struct api_request *request, struct api_reply *reply)
{
    operate(request, reply, "resume", "{}");
}

void api_delete(struct api_request *request, struct api_reply *reply)
{
    operate(request, reply, "remove",
            api_query_flag(request, "force") ? "{\"force\":true}" : "{\"force\":false}");
}

void api_kill(struct api_request *request, struct api_reply *reply)
{
    static const char *const known[] = {"signal", NULL};
    struct instance *instance;
    enum instance_state state;
    struct err err = ERR_INIT;
    const char *name = "KILL";
    struct json_at body;
    int number = -EINVAL, result = 0;

    json_at_root(request->json, &body);
    if (request->json && (result = json_reject_unknown(&body, known, &err)) == 0)
        result = json_opt_string(&body, "signal", &name, &err);
    if (result == 0)
        result = number = spec_signal(name, &err);
    if (result < 0) {
        api_fail_err(reply, result, &err);
        return;
    }
    if (!(instance = api_instance(request, reply)))
        return;
    pthread_mutex_lock(&request->m->lock);
    state = instance->row.state;
    pthread_mutex_unlock(&request->m->lock);
    if (!life_is_active(state)) {
        api_fail(reply, 409, "'%s' is %s, so there is nothing to send a signal to",
                 request->args[0], instance_state_name(state));
        instance_unref(request->m, instance);
        return;
    }
    if (number == SIGKILL)
        life_write_back(request->m, instance);
    result = shim_ask(request->m, instance->id,
                      json_pack("{s:s, s:i}", "command", "kill", "signal", number), -1, &err);
    if (result < 0)
        api_fail(reply, 409, "'%s': %s", request->args[0], err.message);
    else
        buf_printf(&reply->body, "{\"signal\": %d}\n", number);
    instance_unref(request->m, instance);
}

enum condition { UNTIL_EXITED, UNTIL_RUNNING, UNTIL_REMOVED, UNTIL_HEALTHY };

static bool reached(const struct instance *instance, enum condition condition)
{
    bool active = life_is_active(instance->row.state);

    if (instance->gone)
        return true;
    switch (condition) {
    case UNTIL_EXITED:
        return !active && instance->row.run > 0 && !instance->restart_at_ns;
    case UNTIL_RUNNING:
        return instance->row.state == INSTANCE_RUNNING;
    case UNTIL_HEALTHY:
        return instance->health == HEALTH_HEALTHY;
    default:
        return false;
    }
}

void api_wait(struct api_request *request, struct api_reply *reply)
{
    static const char *const names[] = {"exited", "running", "removed", "healthy"};
    const char *wanted = api_query(request, "condition") ?: "exited";
    struct manager *m = request->m;
    struct instance *instance;
    struct timespec deadline;
    enum condition condition;
    uint64_t timeout_s;
    bool there;

    for (condition = UNTIL_EXITED; condition <= UNTIL_HEALTHY; condition++)
        if (!strcmp(wanted, names[condition]))
            break;
    if (condition > UNTIL_HEALTHY) {
        api_fail(reply, 400, "condition: '%.40s' is none of exited, running, removed, healthy",
                 wanted);
        return;
    }
    if (api_query_number(request, reply, "timeout", WAIT_MOST, WAIT_MOST, &timeout_s) < 0 ||
        !(instance = api_instance(request, reply)))
        return;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += (time_t)timeout_s;
    pthread_mutex_lock(&m->lock);
    while (!reached(instance, condition) && !atomic_load(&m->stopping))
        if (pthread_cond_timedwait(&instance->changed, &m->lock, &deadline) != 0)
            break;
    there = reached(instance, condition);
    buf_printf(&reply->body, "{\"reached\": %s, \"state\": \"%s\", \"exit_code\": %d, \"error\": ",
               there ? "true" : "false",
               instance->gone ? "removed" : instance_state_name(instance->row.state),
               instance->row.exit_code);
    out_string(&reply->body, instance->row.error);
    buf_append_string(&reply->body, "}\n");
    instance_unref_locked(instance);
    pthread_mutex_unlock(&m->lock);
    if (!there)
        reply->status = 504;
}
