/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers without an end of their own: logs and events that are followed, and connections that are
 * handed to a shim.
 */
#include "manager/api/request.h"
#include "manager/pins.h"

#include "base/clock.h"
#include "base/users.h"
#include "launch/bundle.h"
#include "stream_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK        (64u << 10)
#define FOLLOW_US    50000
#define HEARTBEAT_MS 15000

struct follow {
    struct manager *m;
    struct instance *instance; /* logs: a reference */
    char path[PATH_SIZE], later[PATH_SIZE];
    int fd;
    bool old; /* reads log.1 */
    bool follow;
    uint64_t sequence; /* events: the last one sent */
    struct buf line;   /* events: what is left of one */
};

static void follow_free(void *context)
{
    struct follow *follow = context;

    instance_unref(follow->m, follow->instance);
    fd_closep(&follow->fd);
    buf_done(&follow->line);
    free(follow);
}

static struct follow *follow_new(struct manager *m, struct instance *instance)
{
    struct follow *follow = calloc(1, sizeof(*follow));

    if (!follow)
        return NULL;
    follow->m = m;
    follow->instance = instance;
    follow->fd = -1;
    buf_init(&follow->line, 64 << 10);
    return follow;
}

static int open_current(struct follow *follow)
{
    int fd = open(follow->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd >= 0 || !*follow->later || follow->fd >= 0)
        return fd;
    memcpy(follow->path, follow->later, sizeof(follow->path));
    return open(follow->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

/* The next file, if there is one: after log.1 comes log, and after log a younger log. */
static bool next_file(struct follow *follow)
{
    struct stat ours, there;
    int fd;

    if (follow->fd >= 0 && !follow->old && fstat(follow->fd, &ours) == 0 &&
        (stat(follow->path, &there) < 0 || there.st_ino == ours.st_ino))
        return false;
    if ((fd = open_current(follow)) < 0)
        return false;
    fd_closep(&follow->fd);
    follow->fd = fd;
    follow->old = false;
    return true;
}

static bool more_to_come(struct follow *follow)
{
    bool more;

    if (!follow->instance)
        return false;
    pthread_mutex_lock(&follow->m->lock);
    more = !follow->instance->gone &&
           ((life_is_active(follow->instance->row.state) && !follow->instance->ended) ||
            follow->instance->restart_at_ns || follow->instance->row.run == 0);
    pthread_mutex_unlock(&follow->m->lock);
    return more && !atomic_load(&follow->m->stopping);
}

static ssize_t read_log(void *context, uint64_t position, char *to, size_t most)
{
    struct follow *follow = context;

    (void)position;
    for (;;) {
        bool more = follow->follow && more_to_come(follow); /* before the read: no line is missed */
        ssize_t n = follow->fd >= 0 ? read(follow->fd, to, most) : 0;

        if (n > 0)
            return n;
        if (n < 0)
            return MHD_CONTENT_READER_END_WITH_ERROR;
        if (next_file(follow))
            continue;
        if (!more)
            return MHD_CONTENT_READER_END_OF_STREAM;
        usleep(FOLLOW_US);
    }
}

/* Where the last `lines` lines begin; -1: the file has fewer. */
static off_t tail_offset(int fd, uint64_t lines)
{
    char block[4096];
    off_t at = lseek(fd, 0, SEEK_END);
    uint64_t seen = 0;

    while (at > 0) {
        size_t part = at < (off_t)sizeof(block) ? (size_t)at : sizeof(block);

        at -= (off_t)part;
        if (pread(fd, block, part, at) != (ssize_t)part)
            return 0;
        for (size_t i = part; i-- > 0;)
            if (block[i] == '\n' && seen++ == lines)
                return at + (off_t)i + 1;
    }
    return seen >= lines ? 0 : -1;
}

static void open_logs(struct follow *follow, uint64_t tail)
{
    char old[PATH_SIZE + 2];
    off_t offset = 0;

    snprintf(old, sizeof(old), "%s.1", follow->path);
    if (tail != UINT64_MAX) {
        follow->fd = open_current(follow);
        offset = follow->fd >= 0 ? tail_offset(follow->fd, tail) : -1;
        if (offset >= 0) {
            lseek(follow->fd, offset, SEEK_SET);
            return;
        }
        fd_closep(&follow->fd);
    }
    follow->fd = open(old, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    follow->old = follow->fd >= 0;
}

static void stream(struct api_reply *reply, const char *type, MHD_ContentReaderCallback fn,
                   struct follow *follow)
{
    reply->response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, fn, follow,
                                                        follow_free);
    if (!reply->response) {
        follow_free(follow);
        api_fail(reply, 503, "out of memory");
        return;
    }
    MHD_add_response_header(reply->response, "Content-Type", type);
}

void api_logs(struct api_request *request, struct api_reply *reply)
{
    struct instance *instance = api_instance(request, reply);
    char path[PATH_SIZE];

    if (!instance)
        return;
    manager_path(request->m, path, sizeof(path), "instances/%s/log", instance->id);
    api_send_log(request, reply, path, NULL, instance);
}

void api_send_log(struct api_request *request, struct api_reply *reply, const char *path,
                  const char *later, struct instance *instance)
{
    struct follow *follow;
    uint64_t tail;

    if (api_query_number(request, reply, "tail", UINT32_MAX, UINT64_MAX, &tail) < 0) {
        instance_unref(request->m, instance);
        return;
    }
    if (!(follow = follow_new(request->m, instance))) {
        instance_unref(request->m, instance);
        api_fail(reply, 503, "out of memory");
        return;
    }
    snprintf(follow->path, sizeof(follow->path), "%s", path);
    follow->follow = api_query_flag(request, "follow");
    snprintf(follow->later, sizeof(follow->later), "%s", later ? later : "");
    open_logs(follow, tail);
    stream(reply, "application/x-lodge-log", read_log, follow);
}

static ssize_t read_events(void *context, uint64_t position, char *to, size_t most)
{
    struct follow *follow = context;
    size_t part;

    (void)position;
    if (!follow->line.length) {
        uint64_t deadline_ns = clock_monotonic_ns() + HEARTBEAT_MS * NS_PER_MS, next = 0;

        while (next == 0 && !atomic_load(&follow->m->stopping) &&
               clock_monotonic_ns() < deadline_ns) {
            next = event_next(follow->m, follow->sequence, follow->follow ? 1000 : 0,
                              &follow->line);
            if (!follow->follow && next == 0)
                return MHD_CONTENT_READER_END_OF_STREAM;
        }
        if (atomic_load(&follow->m->stopping))
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (next)
            follow->sequence = next;
        else
            buf_append(&follow->line, "\n", 1); /* does anybody still listen? */
    }
    part = follow->line.length < most ? follow->line.length : most;
    memcpy(to, follow->line.data, part);
    buf_consume(&follow->line, part);
    return (ssize_t)part;
}

void api_events(struct api_request *request, struct api_reply *reply)
{
    struct follow *follow;
    uint64_t since;
    const char *wanted = api_query(request, "follow");

    if (api_query_number(request, reply, "since", INT64_MAX, event_latest(request->m), &since) < 0)
        return;
    if (!(follow = follow_new(request->m, NULL))) {
        api_fail(reply, 503, "out of memory");
        return;
    }
    follow->follow = !wanted || !strcmp(wanted, "1") || !strcmp(wanted, "true");
    follow->sequence = since;
    stream(reply, "application/x-ndjson", read_events, follow);
}

/* A connection on its way to a shim. */
struct handover {
    struct manager *m;
    struct instance *instance; /* a reference */
    json_t *command;           /* for the shim; NULL: start the instance with this client */
    struct copying copying;    /* with a path: files, and no shim */
};

static void handover_free(struct handover *handover)
{
    instance_unref(handover->m, handover->instance);
    json_decref(handover->command);
    free(handover->copying.path);
    free(handover);
}

static void say_failure(int fd, int exit_code, const char *message)
{
    char code[40];
    size_t length = (size_t)snprintf(code, sizeof(code), "{\"exit_code\": %d}", exit_code);
    uint8_t header[STREAM_HEADER_SIZE];

    stream_header_encode(header, STREAM_ERROR, (uint32_t)strlen(message));
    (void)!send(fd, header, sizeof(header), MSG_NOSIGNAL);
    (void)!send(fd, message, strlen(message), MSG_NOSIGNAL);
    stream_header_encode(header, STREAM_EXIT, (uint32_t)length);
    (void)!send(fd, header, sizeof(header), MSG_NOSIGNAL);
    (void)!send(fd, code, length, MSG_NOSIGNAL);
}

/* Our copy of the connection must stay open as long as the shim serves it: closing it here shuts it
 * down for all. `link` ends when the shim does. */
static void stand_by(struct manager *m, int client, int link)
{
    while (!atomic_load(&m->stopping)) {
        struct pollfd fds[] = {{.fd = client, .events = POLLRDHUP}, {.fd = link, .events = POLLIN}};

        if (poll(fds, 2, 500) < 0 && errno != EINTR)
            return;
        if (fds[0].revents || fds[1].revents)
            return;
    }
}

static int start_with_client(struct handover *handover, int client, int *ret_exit_code,
                             struct err *err)
{
    struct manager *m = handover->m;
    struct operation *operation;
    int copy = fcntl(client, F_DUPFD_CLOEXEC, 10);
    int result = copy < 0 ? err_errno(err, -errno, "duplicate the connection") : 0;

    if (result < 0 ||
        (result = operation_new(m, "start", handover->instance, "{}", &operation, err)) < 0) {
        fd_closep(&copy);
        return result;
    }
    operation->client_fd = copy;
    if ((result = operation_start(m, operation, err)) < 0)
        operation_abandon(m, operation, err);
    else if (operation_wait(m, operation, UINT32_MAX) && operation->code)
        /* The shim has told the client itself, if there was one. */
        result = operation->handed_over ? -ECANCELED : err_set(err, -EIO, "%s", operation->error);
    if (operation->exit_code)
        *ret_exit_code = operation->exit_code;
    operation_unref(m, operation);
    return result;
}

static void on_upgrade(void *context, struct MHD_Connection *connection, void *request_state,
                       const char *extra, size_t extra_length, MHD_socket client,
                       struct MHD_UpgradeResponseHandle *handle)
{
    struct handover *handover = context;
    struct manager *m = handover->m;
    struct err err = ERR_INIT;
    int link = -1, exit_code = 125, result;

    (void)connection;
    (void)request_state;
    (void)extra;
    atomic_fetch_add(&m->nr_streams, 1);
    if (extra_length) /* it had to wait for our 101 */
        result = err_set(&err, -EPROTO, "data came before the connection was upgraded");
    else if (handover->copying.path)
        result = copying_serve(m, handover->instance, &handover->copying, client, &err);
    else if (!handover->command)
        result = start_with_client(handover, client, &exit_code, &err);
    else
        result = shim_hand_over(m, handover->instance->id, TAKE_PTR(handover->command), client,
                                &link, &err);
    if (result < 0 && *err.message)
        say_failure(client, exit_code, err.message);
    if (result == 0 && link < 0 && !handover->copying.path)
        link = shim_link(m, handover->instance->id);
    if (result == 0 && link >= 0)
        stand_by(m, client, link);
    fd_closep(&link);
    handover_free(handover);
    atomic_fetch_sub(&m->nr_streams, 1);
    MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
}

static bool wants_upgrade(struct api_request *request, struct api_reply *reply)
{
    const char *upgrade = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND,
                                                      "Upgrade");

    if (upgrade && !strcasecmp(upgrade, STREAM_UPGRADE))
        return true;
    api_fail(reply, 426, "this needs the headers Connection: Upgrade and Upgrade: %s",
             STREAM_UPGRADE);
    return false;
}

/* Takes the reference, the command, and the copying's path. */
static void upgrade(struct api_request *request, struct api_reply *reply, struct instance *instance,
                    json_t *command, const struct copying *copying)
{
    struct handover *handover = calloc(1, sizeof(*handover));

    if (!handover) {
        instance_unref(request->m, instance);
        json_decref(command);
        free(copying ? copying->path : NULL);
        api_fail(reply, 503, "out of memory");
        return;
    }
    *handover = (struct handover){request->m, instance, command, {0}};
    if (copying)
        handover->copying = *copying;
    reply->status = MHD_HTTP_SWITCHING_PROTOCOLS;
    reply->response = MHD_create_response_for_upgrade(on_upgrade, handover);
    if (!reply->response) {
        handover_free(handover);
        api_fail(reply, 503, "out of memory");
        return;
    }
    MHD_add_response_header(reply->response, "Upgrade", STREAM_UPGRADE);
}

static void hand_over(struct api_request *request, struct api_reply *reply,
                      struct instance *instance, json_t *command)
{
    upgrade(request, reply, instance, command, NULL);
}

/* acts: it has to do something now, so it may not be paused. */
static bool check_running(struct api_request *request, struct api_reply *reply,
                          struct instance *instance, bool acts)
{
    enum instance_state state;
    bool hardware;

    pthread_mutex_lock(&request->m->lock);
    state = instance->row.state;
    hardware = instance->brief->hardware;
    pthread_mutex_unlock(&request->m->lock);
    if (hardware && acts) {
        api_fail(
            reply, 501,
            "'%s' is a machine of its own: no agent of ours is in it; `lodge attach %s` is its "
            "console",
            request->args[0], request->args[0]);
        return false;
    }
    if (life_is_active(state) && (state != INSTANCE_PAUSED || !acts))
        return true;
    if (state == INSTANCE_PAUSED) {
        api_fail(reply, 409, "'%s' is paused; `lodge resume %s` lets it go on", request->args[0],
                 request->args[0]);
        return false;
    }
    api_fail(reply, 409, "'%s' is %s; `lodge start %s` starts it", request->args[0],
             instance_state_name(state), request->args[0]);
    return false;
}

void api_attach(struct api_request *request, struct api_reply *reply)
{
    bool start = api_query_flag(request, "start");
    struct instance *instance;

    if (!wants_upgrade(request, reply) || !(instance = api_instance(request, reply)))
        return;
    if (!start && !check_running(request, reply, instance, false)) {
        instance_unref(request->m, instance);
        return;
    }
    hand_over(request, reply, instance, start ? NULL : json_pack("{s:s}", "command", "attach"));
}

/* The program as the instance's own configuration would have it. */
static int exec_process(struct api_request *request, const struct instance *instance, pid_t pid,
                        json_t **ret, struct err *err)
{
    uint16_t rows = (uint16_t)json_integer_value(json_object_get(request->json, "rows"));
    uint16_t cols = (uint16_t)json_integer_value(json_object_get(request->json, "cols"));
    static const char *const known[] = {"command", "env",  "cwd",  "user", "tty",
                                        "stdin",   "rows", "cols", NULL};
    json_t *merged = NULL, *document = NULL, *value;
    const char *const names[] = {"command", "cwd", "user", "tty"};
    struct json_at body;
    struct spec spec;
    size_t i;
    int result;

    json_at_root(request->json, &body);
    if ((result = json_reject_unknown(&body, known, err)) < 0)
        return result;
    if (json_array_size(json_object_get(request->json, "command")) == 0)
        return err_set(err, -EINVAL, "command: what is to be run?");
    pthread_mutex_lock(&request->m->lock);
    result = json_parse(instance->spec, strlen(instance->spec), "spec", &document, err);
    pthread_mutex_unlock(&request->m->lock);
    if (result < 0)
        return result;
    /* The request's members in the place of the specification's, environment after environment. */
    merged = json_deep_copy(document);
    json_decref(document);
    for (i = 0; i < 4; i++)
        if (json_object_get(request->json, names[i]))
            json_object_set(merged, names[i], json_object_get(request->json, names[i]));
    if (!json_object_get(request->json, "tty"))
        json_object_set_new(merged, "tty", json_false());
    if (!json_object_get(merged, "env"))
        json_object_set_new(merged, "env", json_array());
    json_array_foreach(json_object_get(request->json, "env"), i, value)
        json_array_append(json_object_get(merged, "env"), value);
    result = spec_parse(merged, &spec, err);
    json_decref(merged);
    if (result < 0)
        return result;
    pins_resolve(request->m, instance->id, &spec);
    result = spec.vm ? guest_vm_process(request->m, &spec, rows, cols, ret, err)
                     : prepare_process(request->m, &spec, pid, rows, cols, ret, err);
    spec_done(&spec);
    return result;
}

void api_exec(struct api_request *request, struct api_reply *reply)
{
    struct instance *instance;
    struct err err = ERR_INIT;
    json_t *process = NULL, *command;
    pid_t pid;
    int result;

    if (!wants_upgrade(request, reply) || !(instance = api_instance(request, reply)))
        return;
    pthread_mutex_lock(&request->m->lock);
    pid = instance->pid;
    pthread_mutex_unlock(&request->m->lock);
    if (!check_running(request, reply, instance, true)) {
        instance_unref(request->m, instance);
        return;
    }
    if ((result = exec_process(request, instance, pid, &process, &err)) < 0) {
        api_fail_err(reply, result, &err);
        instance_unref(request->m, instance);
        return;
    }
    command = json_pack("{s:s, s:o, s:b}", "command", "exec", "process", process, "stdin",
                        json_is_true(json_object_get(request->json, "stdin")));
    hand_over(request, reply, instance, command);
}

static json_t *copy_command(const char *path, bool in, bool keep_owner)
{
    json_t *process = guest_builtin(in ? "copy-in" : "copy-out", path);

    if (keep_owner)
        json_array_append_new(json_object_get(process, "args"), json_string("keep"));
    return json_pack("{s:s, s:o, s:b}", "command", "exec", "process", process, "stdin", in);
}

/* {"path", "direction", "keep_owner"} */
static int copy_arguments(struct api_request *request, const char **ret_path, bool *ret_in,
                          bool *ret_keep, struct err *err)
{
    static const char *const known[] = {"path", "direction", "keep_owner", NULL};
    const char *direction = "";
    struct json_at body;
    int result;

    json_at_root(request->json, &body);
    if ((result = json_reject_unknown(&body, known, err)) < 0 ||
        (result = json_get_string(&body, "path", ret_path, err)) < 0 ||
        (result = json_get_string(&body, "direction", &direction, err)) < 0 ||
        (result = json_opt_bool(&body, "keep_owner", ret_keep, err)) < 0)
        return result;
    *ret_in = !strcmp(direction, "in");
    if (!*ret_in && strcmp(direction, "out") != 0)
        return err_set(err, -EINVAL, "direction: '%.40s' is neither in nor out", direction);
    if (!**ret_path || strlen(*ret_path) >= PATH_MAX)
        return err_set(err, -EINVAL, "path: %s", **ret_path ? "too long" : "empty");
    return 0;
}

static bool is_active(struct manager *m, const struct instance *instance)
{
    bool active;

    pthread_mutex_lock(&m->lock);
    active = life_is_active(instance->row.state);
    pthread_mutex_unlock(&m->lock);
    return active;
}

void api_copy(struct api_request *request, struct api_reply *reply)
{
    struct instance *instance;
    bool agent; /* the guest's agent serves it */
    struct err err = ERR_INIT;
    struct copying copying = {0};
    const char *path;
    int result;

    if (!wants_upgrade(request, reply))
        return;
    if ((result = copy_arguments(request, &path, &copying.in, &copying.keep_owner, &err)) < 0) {
        api_fail_err(reply, result, &err);
        return;
    }
    if (!(instance = api_instance(request, reply)))
        return;
    agent = instance->brief->hardware || (instance->brief->vm && is_active(request->m, instance));
    if (agent && !check_running(request, reply, instance, true)) {
        instance_unref(request->m, instance);
    } else if (agent) {
        hand_over(request, reply, instance, copy_command(path, copying.in, copying.keep_owner));
    } else if (!(copying.path = strdup(path))) {
        api_fail(reply, 503, "out of memory");
        instance_unref(request->m, instance);
    } else {
        upgrade(request, reply, instance, NULL, &copying);
    }
}
