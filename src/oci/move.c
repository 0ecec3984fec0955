/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A running container into another cgroup: made with all its limits and device rules, entered by
 * its processes one by one, then noted in its state; the old one goes last. Broken off at any
 * point, the same call completes it: a process is in the one or in the other, and the state names
 * the old one until all have left it.
 */
#include "oci/move.h"

#include "base/cgroup_procs.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "oci/cgroup.h"
#include "oci/cgroup_processes.h"
#include "oci/container_open.h"
#include "oci/spec.h"
#include "oci/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

DEFINE_CLEANUP(cgroup_freep, struct cgroup *, cgroup_free);
DEFINE_CLEANUP(state_freep, struct container_state *, state_free);
DEFINE_CLEANUP(oci_spec_freep, struct oci_spec *, oci_spec_free);

#define ROUNDS_MAX 500

/* The limits in force: those of the configuration, or what `update` made of them. */
static int apply_limits(const struct container_state *state, struct cgroup *cgroup, struct err *err)
{
    CLEANUP(json_decrefp) json_t *config = NULL;
    CLEANUP(oci_spec_freep) struct oci_spec *spec = NULL;
    int result = container_load_config(state, &config, err);

    if (result < 0)
        return result;
    if (state->resources &&
        json_object_set(json_object_get(config, "linux"), "resources", state->resources) < 0)
        return err_set(err, -ENOMEM, "move: out of memory");
    if ((result = oci_spec_from_json(config, "move", &spec, err)) < 0)
        return result;
    return cgroup_apply(cgroup, &spec->resources, err);
}

static int move_processes(struct cgroup *from, struct cgroup *to, struct err *err)
{
    for (unsigned i = 0; i < from->nr_hierarchies && i < to->nr_hierarchies; i++) {
        int source = cgroup_directory(from, &from->hierarchies[i]);
        int target = cgroup_directory(to, &to->hierarchies[i]);
        int error = 0;

        if (source < 0 || target < 0)
            continue;
        for (unsigned round = 0; cgroup_move_once(source, target, &error); round++) {
            if (round == ROUNDS_MAX)
                return err_errno(err, error ? error : -EBUSY, "move processes from cgroup '%s'",
                                 from->path);
            if (round)
                nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        }
    }
    return 0;
}

/* All directories are made before anything moves: where one holds processes, an earlier call got as
 * far as that, and all are there. */
static int make_target(const char *path, struct cgroup **ret, struct err *err)
{
    CLEANUP(cgroup_freep) struct cgroup *cgroup = NULL;
    int result = cgroup_begin(path, &cgroup, err);

    if (result == 0 && (result = cgroup_finish(cgroup, err)) < 0)
        cgroup_unmake(cgroup);
    if (result == -EEXIST)
        return cgroup_open(path, ret, err);
    if (result < 0)
        return result;
    *ret = TAKE_PTR(cgroup);
    return 0;
}

int container_move(const char *root, const char *id, const char *path, struct err *err)
{
    CLEANUP(state_freep) struct container_state *state = NULL;
    CLEANUP(cgroup_freep) struct cgroup *from = NULL;
    CLEANUP(cgroup_freep) struct cgroup *to = NULL;
    CLEANUP(fd_closep) int dir_fd = -1;
    int result = container_open(root, id, &dir_fd, &state, err);

    if (result < 0)
        return result;
    if (path[0] != '/' || !path[1] || strstr(path, ".."))
        return err_set(err, -EINVAL, "cgroup path '%s': a path from the root of cgroups is needed",
                       path);
    if (!state->cgroup_path)
        return err_set(err, -ENOTSUP, "container '%s' has no cgroup", id);
    if (!strcmp(state->cgroup_path, path))
        return 0;
    if (state_status(dir_fd, state) == CONTAINER_STOPPED)
        return err_set(err, -ESRCH, "container '%s' is not running", id);
    if (cgroup_is_frozen(state->cgroup_path))
        return err_set(err, -EBUSY, "container '%s' is paused; resume it first", id);
    if ((result = cgroup_open(state->cgroup_path, &from, err)) < 0)
        return result;
    if ((result = make_target(path, &to, err)) < 0 || (result = apply_limits(state, to, err)) < 0 ||
        (result = move_processes(from, to, err)) < 0)
        return result;
    free(state->cgroup_path);
    if (!(state->cgroup_path = strdup(path)))
        return err_set(err, -ENOMEM, "move: out of memory");
    if ((result = state_save(dir_fd, state, err)) < 0)
        return result;
    return cgroup_remove(from, err);
}
