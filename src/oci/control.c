/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/control.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/util.h"
#include "oci/cgroup.h"
#include "oci/cgroup_processes.h"
#include "oci/container_open.h"
#include "oci/rdt.h"
#include "oci/spec.h"
#include "oci/state.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

DEFINE_CLEANUP(cgroup_freep, struct cgroup *, cgroup_free);
DEFINE_CLEANUP(state_freep, struct container_state *, state_free);
DEFINE_CLEANUP(oci_spec_freep, struct oci_spec *, oci_spec_free);

static int open_cgroup(const struct container_state *state, struct cgroup **ret, struct err *err)
{
    if (!state->cgroup_path)
        return err_set(err, -ENOTSUP, "container '%s' has no cgroup", state->id);
    return cgroup_open(state->cgroup_path, ret, err);
}

int container_kill(const char *root, const char *id, int signal_number, bool all, struct err *err)
{
    CLEANUP(state_freep) struct container_state *state = NULL;
    CLEANUP(cgroup_freep) struct cgroup *cgroup = NULL;
    CLEANUP(fd_closep) int dir_fd = -1;
    CLEANUP(fd_closep) int process = -1;
    int result = container_open(root, id, &dir_fd, &state, err);

    if (result < 0)
        return result;
    /* All of them: also what a first process that is gone left behind. */
    if (all && state->cgroup_path) {
        if ((result = cgroup_open(state->cgroup_path, &cgroup, err)) < 0)
            return result;
        return signal_number == SIGKILL ? cgroup_kill_all(cgroup, err)
                                        : cgroup_signal_all(cgroup, signal_number, err);
    }
    /* Callers know a container that ended meanwhile by these words. */
    if ((process = container_open_process(state)) < 0)
        return err_set(err, -ESRCH, "signal container '%s': container not running", id);
    if (syscall(SYS_pidfd_send_signal, process, signal_number, NULL, 0) < 0)
        return err_errno(err, -errno, "signal %d to container '%s'", signal_number, id);
    /* A frozen process dies only when it thaws. */
    if (signal_number == SIGKILL && state->cgroup_path && cgroup_is_frozen(state->cgroup_path) &&
        cgroup_open(state->cgroup_path, &cgroup, NULL) == 0)
        cgroup_freeze(cgroup, false, NULL);
    return 0;
}

int container_freeze(const char *root, const char *id, bool freeze, struct err *err)
{
    CLEANUP(state_freep) struct container_state *state = NULL;
    CLEANUP(cgroup_freep) struct cgroup *cgroup = NULL;
    CLEANUP(fd_closep) int dir_fd = -1;
    enum container_status status;
    int result = container_open(root, id, &dir_fd, &state, err);

    if (result < 0)
        return result;
    status = container_status(dir_fd, state);
    if (freeze ? status != CONTAINER_RUNNING && status != CONTAINER_CREATED
               : status != CONTAINER_PAUSED)
        return err_set(err, -EINVAL, "container '%s' is %s; only a %s one can be %s", id,
                       state_status_name(status), freeze ? "running" : "paused",
                       freeze ? "paused" : "resumed");
    if ((result = open_cgroup(state, &cgroup, err)) < 0)
        return result;
    return cgroup_freeze(cgroup, freeze, err);
}

int container_processes(const char *root, const char *id, pid_t **ret, size_t *ret_length,
                        struct err *err)
{
    CLEANUP(state_freep) struct container_state *state = NULL;
    CLEANUP(cgroup_freep) struct cgroup *cgroup = NULL;
    CLEANUP(fd_closep) int dir_fd = -1;
    int result = container_open(root, id, &dir_fd, &state, err);

    if (result < 0 || (result = open_cgroup(state, &cgroup, err)) < 0)
        return result;
    return cgroup_processes(cgroup, ret, ret_length, err);
}

/* An absent value, in the ways that callers write it. */
static bool says_nothing(const json_t *value)
{
    return json_is_null(value) || (json_is_integer(value) && json_integer_value(value) == 0) ||
           (json_is_string(value) && json_string_length(value) == 0);
}

static int merge(json_t *into, json_t *changes)
{
    const char *name;
    json_t *value;
    int result = 0;

    json_object_foreach(changes, name, value)
    {
        json_t *old = json_object_get(into, name);

        if (says_nothing(value))
            continue;
        if (json_is_object(value) && json_is_object(old))
            result = merge(old, value);
        else
            result = json_object_set_new(into, name, json_deep_copy(value));
        if (result < 0)
            return result;
    }
    return 0;
}

/* The parts of config that `update` may change, as they are in force and then changed. */
static int merge_resources(const struct container_state *state, json_t *config, json_t *changes,
                           struct err *err)
{
    json_t *linux_object = json_object_get(config, "linux");
    json_t *resources = state->resources ? json_deep_copy(state->resources)
                                         : json_incref(json_object_get(linux_object, "resources"));

    if (!resources)
        resources = json_object();
    /* First: setting takes the reference. */
    if (!resources || json_object_set_new(linux_object, "resources", resources) < 0 ||
        merge(resources, changes) < 0)
        return err_set(err, -ENOMEM, "update: out of memory");
    return 0;
}

/* Device rules are not for update: writing them anew would take every device away for a moment. */
static int apply(struct cgroup *cgroup, struct oci_resources *resources, json_t *changes,
                 struct err *err)
{
    size_t nr_devices = resources->nr_devices;
    json_t *memory = json_object_get(changes, "memory");
    int result;

    /* On v1 the limit with swap must never be the smaller one: when both grow it goes first. */
    if (memory && cgroup->layout != CGROUP_LAYOUT_V2)
        cgroup_raise_swap_limit(cgroup, resources->memory_swap_bytes);
    resources->nr_devices = 0;
    result = cgroup_apply(cgroup, resources, err);
    resources->nr_devices = nr_devices;
    return result;
}

int container_update_rdt(const char *root, const char *id, const char *l3_schema,
                         const char *bandwidth_schema, struct err *err)
{
    CLEANUP(state_freep) struct container_state *state = NULL;
    CLEANUP(fd_closep) int dir_fd = -1;
    int result = container_open(root, id, &dir_fd, &state, err);

    return result < 0 ? result : rdt_update(state->rdt, l3_schema, bandwidth_schema, err);
}

int container_update(const char *root, const char *id, json_t *changes, struct err *err)
{
    CLEANUP(state_freep) struct container_state *state = NULL;
    CLEANUP(oci_spec_freep) struct oci_spec *spec = NULL;
    CLEANUP(cgroup_freep) struct cgroup *cgroup = NULL;
    CLEANUP(json_decrefp) json_t *config = NULL;
    CLEANUP(fd_closep) int dir_fd = -1;
    int result = container_open(root, id, &dir_fd, &state, err);

    if (result < 0)
        return result;
    if (!json_is_object(changes))
        return err_set(err, -EINVAL, "resources: an object is needed");
    if (state_status(dir_fd, state) == CONTAINER_STOPPED)
        return err_set(err, -ESRCH, "container '%s' is not running", id);
    if ((result = open_cgroup(state, &cgroup, err)) < 0 ||
        (result = container_load_config(state, &config, err)) < 0 ||
        (result = merge_resources(state, config, changes, err)) < 0 ||
        (result = oci_spec_from_json(config, "update", &spec, err)) < 0 ||
        (result = apply(cgroup, &spec->resources, changes, err)) < 0)
        return result;
    json_decref(state->resources);
    state->resources = json_incref(json_object_get(json_object_get(config, "linux"), "resources"));
    return state_save(dir_fd, state, err);
}
