/* SPDX-License-Identifier: Apache-2.0 */
/* Which request goes to which handler. docs/API/openapi.json has the same list; a test compares. */
#include "manager/api/request.h"

#include "base/util.h"

#include <stdlib.h>
#include <string.h>

const struct api_route api_routes[] = {
    {"GET", "/openapi.json", API_NO_BODY, api_openapi},
    {"GET", "/metrics", API_NO_BODY, api_metrics},
    {"GET", "/v1/info", API_NO_BODY, api_info},
    {"GET", "/v1/stats", API_NO_BODY, api_stats_all},
    {"GET", "/v1/events", API_NO_BODY, api_events},
    {"GET", "/v1/operations", API_NO_BODY, api_operations},
    {"GET", "/v1/operations/{id}", API_NO_BODY, api_operation},
    {"DELETE", "/v1/operations/{id}", API_NO_BODY, api_operation_cancel},
    {"PUT", "/v1/operations/{id}/content", API_RAW_BODY, api_operation_content},
    {"GET", "/v1/instances", API_NO_BODY, api_list},
    {"POST", "/v1/instances", API_JSON_BODY, api_create},
    {"GET", "/v1/instances/{ref}", API_NO_BODY, api_inspect},
    {"PATCH", "/v1/instances/{ref}", API_JSON_BODY, api_patch},
    {"DELETE", "/v1/instances/{ref}", API_NO_BODY, api_delete},
    {"POST", "/v1/instances/{ref}/start", API_NO_BODY, api_start},
    {"POST", "/v1/instances/{ref}/stop", API_OPTIONAL_BODY, api_stop},
    {"POST", "/v1/instances/{ref}/restart", API_OPTIONAL_BODY, api_restart},
    {"POST", "/v1/instances/{ref}/pause", API_NO_BODY, api_pause},
    {"POST", "/v1/instances/{ref}/resume", API_NO_BODY, api_resume},
    {"POST", "/v1/instances/{ref}/kill", API_OPTIONAL_BODY, api_kill},
    {"GET", "/v1/instances/{ref}/wait", API_NO_BODY, api_wait},
    {"GET", "/v1/instances/{ref}/logs", API_NO_BODY, api_logs},
    {"GET", "/v1/instances/{ref}/stats", API_NO_BODY, api_stats},
    {"GET", "/v1/instances/{ref}/top", API_NO_BODY, api_top},
    {"GET", "/v1/instances/{ref}/figures", API_NO_BODY, api_figures},
    {"GET", "/v1/instances/{ref}/explain", API_NO_BODY, api_explain},
    {"GET", "/v1/environments", API_NO_BODY, api_environments},
    {"POST", "/v1/environments", API_JSON_BODY, api_environment_create},
    {"GET", "/v1/environments/{name}", API_NO_BODY, api_environment},
    {"PATCH", "/v1/environments/{name}", API_JSON_BODY, api_environment_update},
    {"DELETE", "/v1/environments/{name}", API_NO_BODY, api_environment_remove},
    {"POST", "/v1/instances/{ref}/attach", API_OPTIONAL_BODY, api_attach},
    {"POST", "/v1/instances/{ref}/exec", API_JSON_BODY, api_exec},
    {"POST", "/v1/instances/{ref}/copy", API_JSON_BODY, api_copy},
    {"GET", "/v1/jobs", API_NO_BODY, api_jobs},
    {"POST", "/v1/jobs", API_JSON_BODY, api_job_submit},
    {"POST", "/v1/jobs/batch", API_JSON_BODY, api_job_batch},
    {"GET", "/v1/jobs/{id}", API_NO_BODY, api_job},
    {"PATCH", "/v1/jobs/{id}", API_JSON_BODY, api_job_patch},
    {"DELETE", "/v1/jobs/{id}", API_NO_BODY, api_job_delete},
    {"POST", "/v1/jobs/{id}/cancel", API_OPTIONAL_BODY, api_job_cancel},
    {"GET", "/v1/jobs/{id}/wait", API_NO_BODY, api_job_wait},
    {"GET", "/v1/jobs/{id}/logs", API_NO_BODY, api_job_logs},
    {"GET", "/v1/queues", API_NO_BODY, api_queues},
    {"POST", "/v1/queues", API_JSON_BODY, api_queue_create},
    {"GET", "/v1/queues/{name}", API_NO_BODY, api_queue},
    {"PATCH", "/v1/queues/{name}", API_JSON_BODY, api_queue_patch},
    {"DELETE", "/v1/queues/{name}", API_NO_BODY, api_queue_delete},
    {"GET", "/v1/queues/{name}/history", API_NO_BODY, api_queue_history},
    {"GET", "/v1/networks", API_NO_BODY, api_networks},
    {"POST", "/v1/networks", API_JSON_BODY, api_network_create},
    {"GET", "/v1/networks/{ref}", API_NO_BODY, api_network},
    {"DELETE", "/v1/networks/{ref}", API_NO_BODY, api_network_delete},
    {"POST", "/v1/networks/{ref}/connect", API_JSON_BODY, api_network_connect},
    {"POST", "/v1/networks/{ref}/disconnect", API_JSON_BODY, api_network_disconnect},
    {"GET", "/v1/images", API_NO_BODY, api_images},
    {"POST", "/v1/images", API_JSON_BODY, api_image_add},
    {"DELETE", "/v1/images", API_NO_BODY, api_image_remove},
    {"POST", "/v1/images/prune", API_OPTIONAL_BODY, api_images_prune},
    {"GET", "/v1/volumes", API_NO_BODY, api_volumes},
    {"POST", "/v1/volumes", API_JSON_BODY, api_volume_create},
    {"POST", "/v1/volumes/prune", API_NO_BODY, api_volumes_prune},
    {"GET", "/v1/volumes/{ref}", API_NO_BODY, api_volume},
    {"DELETE", "/v1/volumes/{ref}", API_NO_BODY, api_volume_delete},
    {"POST", "/v1/instances/{ref}/attach-disk", API_JSON_BODY, api_attach_disk},
    {"POST", "/v1/instances/{ref}/detach-disk", API_JSON_BODY, api_detach_disk},
    {"POST", "/v1/instances/{ref}/attach-network", API_JSON_BODY, api_attach_network},
    {"POST", "/v1/instances/{ref}/detach-network", API_JSON_BODY, api_detach_network},
    {"GET", "/v1/disks", API_NO_BODY, api_disks},
    {"POST", "/v1/disks", API_JSON_BODY, api_disk_create},
    {"POST", "/v1/disks/resize", API_JSON_BODY, api_disk_resize},
    {"POST", "/v1/disks/convert", API_JSON_BODY, api_disk_convert},
    {"DELETE", "/v1/disks/{name}", API_NO_BODY, api_remove_disk},
};
const size_t api_nr_routes = ARRAY_LEN(api_routes);

/* Does the path have this form? Variable parts go into args. */
static bool path_fits(const char *form, const char *path, char *args[API_ARGS])
{
    size_t nr = 0;

    while (*form) {
        size_t length;

        if (*form != '{') {
            if (*form++ != *path++)
                return false;
            continue;
        }
        length = strcspn(path, "/");
        if (length == 0 || nr == API_ARGS)
            return false;
        free(args[nr]);
        if (!(args[nr++] = strndup(path, length)))
            return false;
        form = strchr(form, '}') + 1;
        path += length;
    }
    return !*path;
}

bool api_takes_raw_body(const char *method, const char *path)
{
    char *args[API_ARGS] = {NULL};
    bool takes = false;

    for (size_t i = 0; i < api_nr_routes && !takes; i++)
        takes = api_routes[i].body == API_RAW_BODY && !strcmp(api_routes[i].method, method) &&
                path_fits(api_routes[i].path, path, args);
    for (size_t i = 0; i < API_ARGS; i++)
        free(args[i]);
    return takes;
}

const struct api_route *api_route_find(const char *method, const char *path, char *args[API_ARGS],
                                       char ret_allowed[64])
{
    size_t used = 0;

    for (size_t i = 0; i < api_nr_routes; i++) {
        if (!path_fits(api_routes[i].path, path, args))
            continue;
        if (!strcmp(api_routes[i].method, method))
            return &api_routes[i];
        used += (size_t)snprintf(ret_allowed + used, 64 - used, "%s%s", used ? ", " : "",
                                 api_routes[i].method);
    }
    return NULL;
}
