/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libmicrohttpd underneath: a thread a connection, bodies collected up to a cap, one handler a
 * request.
 *
 * Cross-site requests: a browser can be made to send requests to local ports by any page, and by a
 * name that resolves to us. So a request with an Origin, or a Host that is not one of ours, is
 * refused, and a body must be declared as JSON, which no form can do.
 */
#include "manager/api/api.h"

#include "base/clock.h"
#include "base/log.h"
#include "manager/api/request.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1024
#define STACK_SIZE      (256u << 10)
#define HEADERS_MAX     (48u << 10)

struct api {
    struct manager *m;
    struct MHD_Daemon *daemon;
};

void api_fail(struct api_reply *reply, unsigned status, const char *format, ...)
{
    char text[ERR_MESSAGE_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    reply->status = status;
    reply->body.length = 0;
    buf_printf(&reply->body, "{\"error\": {\"code\": %u, \"message\": ", status);
    out_string(&reply->body, text);
    buf_append_string(&reply->body, "}}\n");
}

void api_fail_err(struct api_reply *reply, int code, const struct err *err)
{
    api_fail(reply, (unsigned)error_status(code), "%s", err->message);
}

const char *api_query(struct api_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name);
}

bool api_query_flag(struct api_request *request, const char *name)
{
    const char *value = api_query(request, name);

    return value && (!strcmp(value, "1") || !strcmp(value, "true"));
}

int api_query_number(struct api_request *request, struct api_reply *reply, const char *name,
                     uint64_t most, uint64_t otherwise, uint64_t *ret)
{
    const char *text = api_query(request, name);
    char *end;

    *ret = otherwise;
    if (!text)
        return 0;
    errno = 0;
    *ret = strtoull(text, &end, 10);
    /* Which takes spaces and signs for a part of the number. */
    if (*text < '0' || *text > '9' || *end || errno || *ret > most) {
        api_fail(reply, 400, "query member %s: '%.40s' is not a number up to %llu", name, text,
                 (unsigned long long)most);
        return -EINVAL;
    }
    return 0;
}

struct instance *api_instance(struct api_request *request, struct api_reply *reply)
{
    struct instance *instance;
    struct err err = ERR_INIT;
    int result = instance_find(request->m, request->args[0], &instance, &err);

    if (result < 0) {
        api_fail_err(reply, result, &err);
        return NULL;
    }
    return instance;
}

static bool host_is_ours(const struct manager_options *options, const char *host)
{
    char name[256];
    static const char *const names[] = {"lodge", "localhost", "127.0.0.1", "[::1]"};
    size_t length = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");

    if (length > strlen(host) || (host[length] && host[length] != ':'))
        return false;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (length == strlen(names[i]) && !strncasecmp(host, names[i], length))
            return true;
    if (!*host)
        return true;
    if (!options->name_is_ours || length >= sizeof(name))
        return false;
    snprintf(name, sizeof(name), "%.*s", (int)length, host);
    return options->name_is_ours(name, options->name_context);
}

static const char *header(const struct api_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

static bool check_origin(const struct api_request *request, struct api_reply *reply)
{
    const char *host = header(request, "Host"), *site = header(request, "Sec-Fetch-Site");

    if (header(request, "Origin") || (site && strcmp(site, "none") != 0)) {
        api_fail(reply, 403, "requests from web pages are not served");
        return false;
    }
    if (host && !host_is_ours(&request->m->options, host)) {
        api_fail(reply, 403, "'%.80s' is not a host name of this API: use localhost", host);
        return false;
    }
    return true;
}

static bool read_body(struct api_request *request, enum api_body kind, struct api_reply *reply)
{
    const char *type = header(request, "Content-Type");
    struct err err = ERR_INIT;

    if (request->too_large) {
        api_fail(reply, 413, "the body is larger than %u bytes", API_BODY_MAX);
        return false;
    }
    if (request->body.length == 0) {
        if (kind == API_JSON_BODY)
            api_fail(reply, 400, "a JSON body is needed");
        return kind != API_JSON_BODY;
    }
    if (kind == API_NO_BODY) {
        api_fail(reply, 400, "this request has no body");
        return false;
    }
    if (!type || strncasecmp(type, "application/json", 16) != 0 ||
        (type[16] && !strchr("; \t", type[16]))) {
        api_fail(reply, 415, "the body's Content-Type must be application/json");
        return false;
    }
    if (json_parse(request->body.data, request->body.length, "body", &request->json, &err) < 0) {
        api_fail(reply, 400, "%s", err.message);
        return false;
    }
    if (!json_is_object(request->json)) {
        api_fail(reply, 400, "the body is not a JSON object");
        return false;
    }
    return true;
}

static bool check_raw_body(const struct api_request *request, struct api_reply *reply)
{
    const char *type = header(request, "Content-Type");

    if (type &&
        (!strcasecmp(type, "application/x-tar") || !strcasecmp(type, "application/octet-stream")))
        return true;
    api_fail(reply, 415,
             "the body's Content-Type must be application/x-tar or application/octet-stream");
    return false;
}

static void handle(struct api_request *request, struct api_reply *reply)
{
    char allowed[64] = "";
    const struct api_route *route;

    if (!check_origin(request, reply))
        return;
    route = api_route_find(request->method, request->path, request->args, allowed);
    if (!route && *allowed)
        api_fail(reply, 405, "%.20s is not served here, but %s", request->method, allowed);
    else if (!route)
        api_fail(reply, 404, "there is no '%.100s'; /openapi.json describes the API",
                 request->path);
    else if (route->body == API_RAW_BODY ? check_raw_body(request, reply)
                                         : read_body(request, route->body, reply))
        route->fn(request, reply);
}

static enum MHD_Result respond(struct MHD_Connection *connection, struct api_reply *reply)
{
    struct MHD_Response *response = reply->response;
    enum MHD_Result result;

    if (!response) {
        response = MHD_create_response_from_buffer(reply->body.length, reply->body.data,
                                                   reply->body.data ? MHD_RESPMEM_MUST_FREE
                                                                    : MHD_RESPMEM_PERSISTENT);
        if (!response)
            return MHD_NO;
        reply->body = (struct buf){0};
        MHD_add_response_header(response, "Content-Type", reply->content_type);
        MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    }
    result = MHD_queue_response(connection, reply->status, response);
    MHD_destroy_response(response);
    return result;
}

static void request_free(struct api_request *request)
{
    content_end(request->content, false);
    for (size_t i = 0; i < API_ARGS; i++)
        free(request->args[i]);
    buf_done(&request->body);
    buf_done(&request->refusal.body);
    json_decref(request->json);
    free(request);
}

/* Who asks, as the kernel says it; another host's requests come through our own relay. */
static void describe_client(struct MHD_Connection *connection, char *to, size_t size)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct ucred peer;
    socklen_t length = sizeof(peer);

    if (info && getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0)
        snprintf(to, size, "uid %u, process %d", peer.uid, (int)peer.pid);
}

/* fn makes the answer. */
static enum MHD_Result answer(struct api_request *request,
                              void (*fn)(struct api_request *request, struct api_reply *reply))
{
    struct manager *m = request->m;
    struct api_reply reply = {.status = 200, .content_type = "application/json"};
    char client[64] = "";
    const struct log_subject subject = {.client = client}, *before;
    uint64_t started_ns = clock_monotonic_ns();
    enum MHD_Result result;

    buf_init(&reply.body, API_REPLY_MAX);
    atomic_fetch_add(&m->counters.requests, 1);
    describe_client(request->connection, client, sizeof(client));
    before = log_set_subject(&subject);
    fn(request, &reply);
    log_debug("%s %s: %u, %llu us", request->method, request->path, reply.status,
              (unsigned long long)(clock_monotonic_ns() - started_ns) / 1000);
    log_set_subject(before);
    if (reply.status >= 500)
        atomic_fetch_add(&m->counters.errors, 1);
    result = respond(request->connection, &reply);
    buf_done(&reply.body);
    return result;
}

/* The head has come: who takes a raw body is called before that. */
static enum MHD_Result begin(struct api *api, struct MHD_Connection *connection, const char *path,
                             const char *method, void **state)
{
    struct api_request *request = calloc(1, sizeof(*request));

    if (!request)
        return MHD_NO;
    buf_init(&request->body, API_BODY_MAX);
    buf_init(&request->refusal.body, API_BODY_MAX);
    request->m = api->m;
    request->connection = connection;
    request->method = method;
    request->path = path;
    *state = request;
    if ((request->raw = api_takes_raw_body(method, path)))
        handle(request, &request->refusal);
    return MHD_YES;
}

static enum MHD_Result take(struct api_request *request, const char *data, size_t length)
{
    if (!request->content) { /* of one that was refused it is only counted */
        request->too_large |= buf_append(&request->body, data, length) < 0;
        return request->raw && request->too_large ? MHD_NO : MHD_YES;
    }
    if (content_write(request->content, data, length) == 0)
        return MHD_YES;
    /* It is over, and says why: the rest is not needed. */
    content_end(request->content, true);
    request->content = NULL;
    return MHD_NO;
}

/* A raw body has come to its end. */
static void finish(struct api_request *request, struct api_reply *reply)
{
    if (request->content) {
        api_content_end(request, reply);
        return;
    }
    reply->status = request->refusal.status;
    reply->body = request->refusal.body;
    request->refusal.body = (struct buf){0};
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection,
                                  const char *path, const char *method, const char *version,
                                  const char *data, size_t *length, void **state)
{
    struct api_request *request = *state;

    (void)version;
    if (!request)
        return begin(context, connection, path, method, state);
    if (*length) {
        enum MHD_Result result = take(request, data, *length);

        *length = 0;
        return result;
    }
    return answer(request, request->raw ? finish : handle);
}

static void on_done(void *context, struct MHD_Connection *connection, void **state,
                    enum MHD_RequestTerminationCode code)
{
    (void)context;
    (void)connection;
    (void)code;
    if (*state)
        request_free(*state);
    *state = NULL;
}

int api_open(struct manager *m, int listen_fd, struct api **ret, struct err *err)
{
    struct api *api = calloc(1, sizeof(*api));

    if (!api) {
        close(listen_fd);
        return err_set(err, -ENOMEM, "out of memory");
    }
    api->m = m;
    api->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION |
                                       MHD_USE_POLL | MHD_ALLOW_UPGRADE | MHD_USE_ITC,
                                   0, NULL, NULL, on_request, api, MHD_OPTION_LISTEN_SOCKET,
                                   listen_fd, MHD_OPTION_NOTIFY_COMPLETED, on_done, api,
                                   MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
                                   MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_SIZE,
                                   MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADERS_MAX,
                                   MHD_OPTION_CONNECTION_TIMEOUT, 300u, MHD_OPTION_END);
    if (!api->daemon) {
        free(api);
        return err_set(err, -EIO, "serve the API's socket");
    }
    *ret = api;
    return 0;
}

void api_close(struct api *api)
{
    if (!api)
        return;
    MHD_stop_daemon(api->daemon);
    free(api);
}
