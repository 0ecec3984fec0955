/* SPDX-License-Identifier: Apache-2.0 */
/* About the manager itself, its operations, and what instances use. */
#include "manager/api/request.h"

#include "base/clock.h"
#include "base/file.h"
#include "manager/figures.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CANCEL_MS 30000 /* until what was broken off has come to its end */

extern const char api_openapi_start[], api_openapi_end[];

/* docs/API/openapi.json, as it was when this was built. */
__asm__(".pushsection .rodata\n"
        ".global api_openapi_start, api_openapi_end\n"
        "api_openapi_start:\n"
        ".incbin \"" OPENAPI_FILE "\"\n"
        "api_openapi_end:\n"
        ".byte 0\n"
        ".popsection\n");

void api_openapi(struct api_request *request, struct api_reply *reply)
{
    (void)request;
    buf_append(&reply->body, api_openapi_start, (size_t)(api_openapi_end - api_openapi_start));
}

void api_info(struct api_request *request, struct api_reply *reply)
{
    struct manager *m = request->m;

    pthread_mutex_lock(&m->lock);
    buf_printf(&reply->body,
               "{\"version\": \"%s\", \"pid\": %d, \"instances\": %zu, \"running\": %zu, "
               "\"state_dir\": ",
               m->options.version, (int)getpid(), m->nr_instances, m->nr_states[INSTANCE_RUNNING]);
    pthread_mutex_unlock(&m->lock);
    out_string(&reply->body, m->options.state_dir);
    buf_append_string(&reply->body, ", \"runtime_dir\": ");
    out_string(&reply->body, m->options.runtime_dir);
    buf_append_string(&reply->body, ", \"started\": ");
    out_time(&reply->body, m->started_ns);
    buf_append_string(&reply->body, "}\n");
}

static void metric(struct buf *to, const char *name, const char *type, const char *help,
                   unsigned long long value)
{
    buf_printf(to, "# HELP lodge_%s %s\n# TYPE lodge_%s %s\nlodge_%s %llu\n", name, help, name,
               type, name, value);
}

static unsigned long long count_files(const char *path)
{
    CLEANUP(dir_closep) DIR *dir = opendir(path);
    unsigned long long nr = 0;

    while (dir && readdir(dir))
        nr++;
    return nr;
}

static unsigned long long resident_bytes(void)
{
    CLEANUP(buf_donep) struct buf text;
    unsigned long long total, resident = 0;

    buf_init(&text, 256);
    if (file_load(AT_FDCWD, "/proc/self/statm", &text, NULL) == 0 &&
        sscanf(buf_string(&text) ?: "", "%llu %llu", &total, &resident) == 2)
        return resident * (unsigned long long)sysconf(_SC_PAGESIZE);
    return 0;
}

void api_metrics(struct api_request *request, struct api_reply *reply)
{
    struct manager *m = request->m;
    struct buf *to = &reply->body;
    size_t states[INSTANCE_NR_STATES];

    reply->content_type = "text/plain; version=0.0.4";
    pthread_mutex_lock(&m->lock);
    memcpy(states, m->nr_states, sizeof(states));
    pthread_mutex_unlock(&m->lock);
    buf_append_string(to, "# HELP lodge_instances Instances by state.\n"
                          "# TYPE lodge_instances gauge\n");
    for (int i = 0; i < INSTANCE_NR_STATES; i++)
        buf_printf(to, "lodge_instances{state=\"%s\"} %zu\n",
                   instance_state_name((enum instance_state)i), states[i]);
    metric(to, "api_requests_total", "counter", "Requests served.",
           atomic_load(&m->counters.requests));
    metric(to, "api_errors_total", "counter", "Requests that failed by the manager's fault.",
           atomic_load(&m->counters.errors));
    metric(to, "starts_total", "counter", "Starts of instances.", atomic_load(&m->counters.starts));
    metric(to, "exits_total", "counter", "Ends of instances.", atomic_load(&m->counters.exits));
    metric(to, "restarts_total", "counter", "Starts by a restart policy.",
           atomic_load(&m->counters.restarts));
    metric(to, "store_failures_total", "counter", "Changes that the store did not take.",
           atomic_load(&m->counters.store_failures));
    metric(to, "streams", "gauge", "Connections handed to instances.",
           (unsigned long long)atomic_load(&m->nr_streams));
    metric(to, "open_files", "gauge", "File descriptors of the manager.",
           count_files("/proc/self/fd"));
    metric(to, "resident_bytes", "gauge", "Resident memory of the manager.", resident_bytes());
    figures_metrics(m, to);
}

void api_operations(struct api_request *request, struct api_reply *reply)
{
    struct manager *m = request->m;
    uint64_t after = 0, id, end;

    if (api_query_number(request, reply, "after", INT64_MAX, 0, &after) < 0)
        return;
    buf_append_string(&reply->body, "{\"operations\": [");
    pthread_mutex_lock(&m->lock);
    id = m->operations ? m->operations->id : 0;
    end = m->next_operation; /* what comes meanwhile is for the next who asks */
    pthread_mutex_unlock(&m->lock);
    for (bool first = true; id; id++) {
        struct operation *operation;

        if (id <= after)
            id = after + 1;
        if (id >= end)
            break;
        if (!(operation = operation_find(m, id)))
            continue;
        if (!first)
            buf_append(&reply->body, ",\n", 2);
        first = false;
        operation_write_json(m, operation, &reply->body);
        operation_unref(m, operation);
    }
    buf_append_string(&reply->body, "]}\n");
}

static void reply_operation(struct api_request *request, struct api_reply *reply,
                            struct operation *operation)
{
    operation_write_json(request->m, operation, &reply->body);
    buf_append(&reply->body, "\n", 1);
}

void api_operation_cancel(struct api_request *request, struct api_reply *reply)
{
    struct operation *operation;
    struct err err = ERR_INIT;
    char *end;
    uint64_t id = strtoull(request->args[0], &end, 10);

    if (*end || !(operation = operation_find(request->m, id))) {
        api_fail(reply, 404, "there is no operation '%.40s'", request->args[0]);
        return;
    }
    if (operation_cancel(request->m, operation, &err) < 0) {
        api_fail_err(reply, err.code, &err);
    } else {
        operation_wait(request->m, operation, CANCEL_MS);
        reply_operation(request, reply, operation);
    }
    operation_unref(request->m, operation);
}

void api_operation(struct api_request *request, struct api_reply *reply)
{
    struct operation *operation;
    char *end;
    uint64_t id = strtoull(request->args[0], &end, 10), wait_s;

    if (api_query_number(request, reply, "wait", 86400, 0, &wait_s) < 0)
        return;
    if (*end || !(operation = operation_find(request->m, id))) {
        api_fail(reply, 404, "there is no operation '%.40s'", request->args[0]);
        return;
    }
    if (wait_s)
        operation_wait(request->m, operation, wait_s * 1000);
    reply_operation(request, reply, operation);
    operation_unref(request->m, operation);
}

void api_operation_content(struct api_request *request, struct api_reply *reply)
{
    const char *length = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND,
                                                     MHD_HTTP_HEADER_CONTENT_LENGTH);
    struct err err = ERR_INIT;
    char *end;
    uint64_t id = strtoull(request->args[0], &end, 10);
    int result;

    if (api_query_number(request, reply, "wait", 86400, 600, &request->wait_s) < 0)
        return;
    if (*end)
        api_fail(reply, 404, "there is no operation '%.40s'", request->args[0]);
    else if ((result = content_begin(request->m, id, length ? strtoull(length, NULL, 10) : 0,
                                     &request->content, &err)) < 0)
        api_fail_err(reply, result, &err);
}

/* Its failure is the operation's, and in there. */
void api_content_end(struct api_request *request, struct api_reply *reply)
{
    struct operation *operation = content_operation(request->content);
    bool done;

    pthread_mutex_lock(&request->m->lock);
    operation->nr_refs++;
    pthread_mutex_unlock(&request->m->lock);
    content_end(request->content, true);
    request->content = NULL;
    done = request->wait_s && operation_wait(request->m, operation, request->wait_s * 1000);
    reply->status = done ? 200 : 202;
    reply_operation(request, reply, operation);
    operation_unref(request->m, operation);
}
