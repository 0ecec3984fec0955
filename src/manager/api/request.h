/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request and what it is answered with. A handler fills the reply's body, or makes a response
 * of its own (a stream, an upgrade). Each connection has a thread, so a handler may wait.
 */
#ifndef LODGE_MANAGER_API_REQUEST_H
#define LODGE_MANAGER_API_REQUEST_H

#include "manager/internal.h"

#include <microhttpd.h>

#define API_BODY_MAX  (1u << 20)
#define API_REPLY_MAX (256u << 20)
#define API_ARGS      2

struct api_reply {
    unsigned status;
    struct buf body;
    const char *content_type;
    struct MHD_Response *response; /* in the place of body */
};

struct api_request {
    struct manager *m;
    struct MHD_Connection *connection;
    const char *method, *path;
    char *args[API_ARGS]; /* the path's variable parts, decoded */
    struct buf body;
    json_t *json; /* the body, when there was one */
    bool too_large;
    /* API_RAW_BODY */
    bool raw;
    struct content *content;  /* where the body goes; NULL: it was refused */
    struct api_reply refusal; /* sent once the body has come: clients send all before they listen */
    uint64_t wait_s;          /* for the operation's end, after the body's */
};

typedef void api_fn(struct api_request *request, struct api_reply *reply);

/* API_RAW_BODY: not collected; the handler is called before it comes, and begins its `content`. */
enum api_body { API_NO_BODY, API_OPTIONAL_BODY, API_JSON_BODY, API_RAW_BODY };

struct api_route {
    const char *method, *path; /* {ref} is one segment */
    enum api_body body;
    api_fn *fn;
};

extern const struct api_route api_routes[];
extern const size_t api_nr_routes;
/* The route of a request, its variable parts in args (to be freed). *ret_allowed: the methods that
 * the path has. */
const struct api_route *api_route_find(const char *method, const char *path, char *args[API_ARGS],
                                       char ret_allowed[64]);

bool api_takes_raw_body(const char *method, const char *path);

/* {"error": {"code", "message"}} */
void api_fail(struct api_reply *reply, unsigned status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void api_fail_err(struct api_reply *reply, int code, const struct err *err);
/* The body; value is consumed. */
void api_reply_json(struct api_reply *reply, json_t *value);
/* A number of the query; `otherwise` when it is absent. -EINVAL: api_fail was called. */
int api_query_number(struct api_request *request, struct api_reply *reply, const char *name,
                     uint64_t most, uint64_t otherwise, uint64_t *ret);
bool api_query_flag(struct api_request *request, const char *name);
const char *api_query(struct api_request *request, const char *name);
/* Starts it and answers with it, once it is over or wait_s are; it is consumed. */
void api_operate(struct api_request *request, struct api_reply *reply, struct operation *operation,
                 uint64_t wait_s);
/* The instance that args[0] names, or NULL: api_fail was called. */
struct instance *api_instance(struct api_request *request, struct api_reply *reply);

api_fn api_info, api_openapi, api_metrics, api_events, api_operations, api_operation,
    api_operation_cancel, api_operation_content;
/* The answer to what has come whole; consumes request->content. */
void api_content_end(struct api_request *request, struct api_reply *reply);
api_fn api_list, api_create, api_inspect, api_delete, api_patch;
api_fn api_start, api_stop, api_restart, api_pause, api_resume, api_kill, api_wait;
api_fn api_networks, api_network_create, api_network, api_network_delete;
api_fn api_network_connect, api_network_disconnect;
api_fn api_images, api_image_add, api_image_remove, api_images_prune;
api_fn api_volumes, api_volume_create, api_volume, api_volume_delete, api_volumes_prune;
api_fn api_logs, api_attach, api_exec, api_copy, api_stats, api_stats_all, api_top;
api_fn api_jobs, api_job_submit, api_job_batch, api_job, api_job_patch, api_job_delete,
    api_job_cancel, api_job_wait, api_job_logs;
api_fn api_queues, api_queue_create, api_queue, api_queue_patch, api_queue_delete,
    api_queue_history;

/* A log at `path` (and path.1 before it) as the answer, and what an instance (taken; NULL: none)
 * goes on to write there while it is followed. later (may be NULL): where it is if not there, since
 * it was moved at this moment. */
void api_send_log(struct api_request *request, struct api_reply *reply, const char *path,
                  const char *later, struct instance *instance);
api_fn api_attach_disk, api_detach_disk, api_attach_network, api_detach_network;
/* A machine of parts gets an interface on a network of the host's, or loses it; by who has it. */
int api_hardware_connect(struct manager *m, struct instance *instance, const char *network,
                         const char *address4, bool connect, struct err *err);
api_fn api_disks, api_disk_create, api_disk_resize, api_disk_convert, api_remove_disk;
api_fn api_environments, api_environment_create, api_environment, api_environment_update,
    api_environment_remove, api_explain, api_figures;

#endif
