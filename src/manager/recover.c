/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the store and the locks to the truth, at the start. For each instance that was not at rest:
 *
 *      lock held                 a shim lives, or is about to: adopt it
 *      free, exit file of run    it ended meanwhile: settle
 *      free, state starting      the shim was never started: start it now
 *      free, otherwise           shim or host were killed: it ended, nobody knows how
 *
 * One that is adopted may be frozen, or not, unlike what is stored: if its manager was killed
 * between doing that and storing it. What is stored is made true.
 */
#include "manager/hotplug.h"
#include "manager/internal.h"
#include "manager/pins.h"
#include "vmm_control.h"

#include "base/clock.h"
#include "base/log.h"
#include "host/cgroup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int load_instance(const struct store_instance *stored, void *context)
{
    struct manager *m = context;
    struct instance *instance;
    struct err err = ERR_INIT;
    int state;

    if (strlen(stored->id) != INSTANCE_ID_LENGTH ||
        instance_new(stored->id, stored->name, stored->spec, &instance, &err) < 0) {
        log_error("instance %s cannot be read from the store: %s", stored->id, err.message);
        return err.code == -ENOMEM ? -ENOMEM : 0;
    }
    for (state = 0; state < INSTANCE_NR_STATES - 1; state++)
        if (!strcmp(stored->state, instance_state_name((enum instance_state)state)))
            break;
    instance->created_ns = stored->created_ns;
    instance->row = (struct instance_row){.state = (enum instance_state)state,
                                          .wanted = stored->wanted,
                                          .run = stored->run,
                                          .restarts = stored->restarts,
                                          .started_ns = stored->started_ns,
                                          .finished_ns = stored->finished_ns,
                                          .exit_code = stored->exit_code};
    snprintf(instance->row.error, sizeof(instance->row.error), "%s", stored->error);
    instance_insert(m, instance);
    return 0;
}

static int load_operation(const struct store_operation *stored, void *context)
{
    return operation_load(context, stored);
}

static void end_unknown(struct manager *m, struct instance *instance)
{
    pthread_mutex_lock(&m->lock);
    instance->end = (struct instance_end){.exit_code = 255,
                                          .lost = true,
                                          .started_ns = instance->row.started_ns,
                                          .finished_ns = (int64_t)clock_realtime_ns(),
                                          .error = "it was cut off: its host or its shim ended"};
    instance->ended = true;
    pthread_mutex_unlock(&m->lock);
}

/* 1, 0; negative: nobody says. */
static int is_frozen(struct manager *m, const struct instance *instance)
{
    CLEANUP(host_cgroup_closep) struct host_cgroup *cgroup = NULL;
    char path[ENVIRONMENT_PATH_MAX];
    struct err ignored = ERR_INIT;
    json_t *status = NULL;
    const char *state;
    int frozen = -ENOENT;

    if (!instance->brief->vm) {
        instance_cgroup_path(m, instance, path);
        return host_cgroup_open(path, &cgroup, &ignored) < 0 ? -ENOENT
                                                             : host_cgroup_is_frozen(cgroup);
    }
    if (vm_ask(m, instance->id, json_pack("{s:s}", "command", VMM_CONTROL_STATUS), &status,
               &ignored) == 0 &&
        (state = json_string_value(json_object_get(status, "state"))))
        frozen = !strcmp(state, "paused");
    json_decref(status);
    return frozen;
}

static void freeze_as_stored(struct manager *m, struct instance *instance)
{
    bool paused = instance->row.state == INSTANCE_PAUSED;
    struct err err = ERR_INIT;
    int frozen;

    if ((instance->row.state != INSTANCE_RUNNING && !paused) ||
        (frozen = is_frozen(m, instance)) < 0 || frozen == paused)
        return;
    log_info("instance %s was found %s", instance->name, frozen ? "frozen" : "not frozen");
    if (life_pause_surely(m, instance, paused, &err) < 0)
        log_warning("instance %s: %s", instance->name, err.message);
}

/* A manager that was killed while it reclaimed memory of a container. */
static void undo_reclaim(struct manager *m, const struct instance *instance)
{
    CLEANUP(host_cgroup_closep) struct host_cgroup *cgroup = NULL;
    char path[ENVIRONMENT_PATH_MAX];
    struct err err = ERR_INIT;

    instance_cgroup_path(m, instance, path);
    if (geteuid() != 0 || instance->brief->vm || host_cgroup_open(path, &cgroup, NULL) < 0)
        return;
    if (host_cgroup_reclaim_undo(cgroup, instance->brief->memory_bytes ?: UINT64_MAX, &err) < 0)
        log_warning("instance %s: %s", instance->name, err.message);
}

static void take_up(struct manager *m, struct instance *instance)
{
    struct err err = ERR_INIT;
    int lock = shim_lock(m, instance->id, 0, &err);

    if (lock < 0) {
        if (shim_adopt(m, instance, &err) == 0) {
            if (instance->row.state == INSTANCE_STARTING)
                life_finish_start(m, instance, &err);
            environment_reconcile(m, instance);
            undo_reclaim(m, instance);
            freeze_as_stored(m, instance);
            if (instance->row.state == INSTANCE_RUNNING)
                hotplug_settle(m, instance);
            return;
        }
        log_warning("instance %s: %s", instance->name, err.message);
        /* Who only looks whether it is held has it for a moment, too. */
        if ((lock = shim_lock(m, instance->id, 500, &err)) < 0)
            return; /* hung: the next start of the manager tries again */
    }
    close(lock);
    pthread_mutex_lock(&m->lock);
    instance->ended = shim_read_exit(m, instance, instance->row.run, &instance->end);
    pthread_mutex_unlock(&m->lock);
    if (!instance->ended && instance->row.state == INSTANCE_STARTING) {
        if (life_start(m, instance, NULL, -1, &err) < 0)
            log_warning("start of %s: %s", instance->name, err.message);
        return;
    }
    if (!instance->ended)
        end_unknown(m, instance);
    life_settle(m, instance);
}

static void recover_work(struct manager *m, void *context)
{
    struct instance *instance = context;
    const struct instance_row *row = &instance->row;

    if (life_is_active(row->state)) {
        take_up(m, instance);
    } else if (row->state == INSTANCE_REMOVING ||
               (row->state == INSTANCE_EXITED && instance->brief->auto_remove)) {
        life_remove(m, instance, NULL, false, NULL);
    } else if (row->state == INSTANCE_EXITED && row->wanted &&
               instance->brief->restart != SPEC_RESTART_NO) {
        life_replan(m, instance);
    }
    instance_release(m, instance);
    instance_unref(m, instance);
}

int recover(struct manager *m, struct err *err)
{
    int result = state_store_load(m->store, load_instance, load_operation, m, err);
    struct instance **busy;
    size_t nr = 0;

    if (result < 0)
        return result;
    pins_sweep(m);
    if (!(busy = calloc(m->nr_instances + 1, sizeof(*busy))))
        return err_set(err, -ENOMEM, "out of memory");
    /* Nobody may touch one of them before it was taken up. */
    pthread_mutex_lock(&m->lock);
    for (struct instance *at = m->first; at; at = at->next) {
        if (at->row.state == INSTANCE_CREATED ||
            (at->row.state == INSTANCE_EXITED && !at->row.wanted && !at->brief->auto_remove))
            continue;
        at->busy = true;
        instance_ref_locked(at);
        busy[nr++] = at;
    }
    pthread_mutex_unlock(&m->lock);
    for (size_t i = 0; i < nr; i++)
        work_post(m, recover_work, busy[i]);
    free(busy);
    operations_resume(m);
    return 0;
}
