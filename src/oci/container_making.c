/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/container_making.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "oci/container_hooks.h"
#include "oci/container_open.h"
#include "oci/pid_file.h"
#include "oci/process_attributes.h"
#include "oci/rdt.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

void making_done(struct making *m)
{
    oci_spec_free(m->spec);
    buf_done(&m->config);
    cgroup_free(m->cgroup);
    cgroup_free(m->cgroup_begun);
    state_free(m->state);
    free(m->bundle);
    free(m->rootfs);
    fd_closep(&m->bundle_fd);
    fd_closep(&m->root_fd);
    fd_closep(&m->state_fd);
    fd_closep(&m->state_file_fd);
    fd_closep(&m->socket);
    fd_closep(&m->pid_fd);
    fd_closep(&m->master);
    seccomp_program_done(&m->seccomp);
    seccomp_handover_free(m->handover);
}

void making_undo(struct making *m)
{
    if (m->pid > 0) {
        kill(m->pid, SIGKILL);
        waitpid(m->pid, NULL, 0);
        m->pid = 0;
    }
    if (m->cgroup_begun)
        cgroup_unmake(m->cgroup_begun);
    if (m->cgroup && !cgroup_remove_empty(m->cgroup)) {
        cgroup_kill_all(m->cgroup, NULL);
        cgroup_remove(m->cgroup, NULL);
    }
    if (m->state)
        rdt_remove(m->state->rdt);
    if (m->state_fd >= 0)
        state_remove_made(m->root_fd, m->state_fd, m->options->id, NULL);
    if (m->hooks_begun)
        container_hooks_stopped(m->spec->hooks, m->state);
}

int making_load_bundle(struct making *m, struct err *err)
{
    struct stat st;
    int result;

    if (!(m->bundle = realpath(m->options->bundle, NULL)))
        return err_errno(err, -errno, "bundle '%s'", m->options->bundle);
    m->bundle_fd = open(m->bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (m->bundle_fd < 0)
        return err_errno(err, -errno, "bundle '%s'", m->bundle);
    if ((result = oci_spec_load(m->bundle_fd, &m->config, &m->spec, err)) < 0)
        return err_wrap(err, "bundle '%s'", m->bundle);
    if (asprintf(&m->rootfs, "%s%s%s", m->spec->root_path[0] == '/' ? "" : m->bundle,
                 m->spec->root_path[0] == '/' ? "" : "/", m->spec->root_path) < 0)
        return err_set(err, -ENOMEM, "root: out of memory");
    if (stat(m->rootfs, &st) < 0)
        return err_errno(err, -errno, "root.path '%s'", m->rootfs);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, -ENOTDIR, "root.path '%s' is not a directory", m->rootfs);
    if ((result = process_attributes_check_labels(m->spec, err)) < 0)
        return result;
    if (m->options->console_socket && !m->spec->process.terminal)
        return err_set(err, -EINVAL, "a console socket is given, but process.terminal is false");
    return 0;
}

int making_state(struct making *m, struct err *err)
{
    struct container_state *state;

    m->state_fd = state_create(m->options->root, m->options->id, &m->root_fd, err);
    if (m->state_fd < 0)
        return m->state_fd;
    if (!(m->state = state = calloc(1, sizeof(*state))) || !(state->id = strdup(m->options->id)) ||
        !(state->bundle = strdup(m->bundle)) || !(state->rootfs = strdup(m->rootfs)) ||
        !(state->version = strdup(m->spec->version)))
        return err_set(err, -ENOMEM, "state: out of memory");
    if (cgroup_is_mounted() &&
        (m->spec->cgroups_path
             ? asprintf(&state->cgroup_path, "%s%s", m->spec->cgroups_path[0] == '/' ? "" : "/",
                        m->spec->cgroups_path)
             : asprintf(&state->cgroup_path, "/%s", m->options->id)) < 0) {
        state->cgroup_path = NULL;
        return err_set(err, -ENOMEM, "state: out of memory");
    }
    state->created_ns = clock_realtime_ns();
    state->owner = geteuid();
    state->annotations = json_incref(m->spec->annotations);
    /* What the bundle says later does not concern this container. */
    state->config_length = m->config.length;
    state->config = TAKE_PTR(m->config.data);
    m->config.length = m->config.capacity = 0;
    return state_save_first(m->state_fd, state, &m->state_file_fd, err);
}

static bool resources_are_limited(const struct oci_resources *r)
{
    return r->memory_limit_bytes > 0 || r->pids_limit > 0 || r->cpu_quota_us > 0 || r->cpu_shares ||
           r->cpuset_cpus || r->cpuset_mems;
}

/* An ordinary user to whom no cgroup was delegated goes without. */
static bool may_go_without(int result)
{
    return (result == -EACCES || result == -EPERM || result == -EROFS) && geteuid() != 0;
}

static void go_without(struct making *m, const char *reason)
{
    if (resources_are_limited(&m->spec->resources))
        log_warning("the limits of linux.resources are not in force: %s", reason);
    cgroup_free(TAKE_PTR(m->cgroup_begun));
    free(TAKE_PTR(m->state->cgroup_path));
}

int making_cgroup_begin(struct making *m, struct err *err)
{
    int result;

    if (!m->state->cgroup_path)
        return 0;
    result = cgroup_begin(m->state->cgroup_path, &m->cgroup_begun, err);
    if (result < 0 && !may_go_without(result))
        return result;
    if (result < 0)
        go_without(m, err ? err->message : "no cgroup");
    else if (m->cgroup_begun->layout == CGROUP_LAYOUT_NONE)
        go_without(m, "this host has no cgroups");
    return 0;
}

int making_cgroup_finish(struct making *m, struct err *err)
{
    int result;

    if (!m->cgroup_begun)
        return 0;
    result = cgroup_finish(m->cgroup_begun, err);
    if (result < 0) {
        cgroup_unmake(m->cgroup_begun);
        if (!may_go_without(result))
            return result;
        go_without(m, err ? err->message : "no cgroup");
        return 0;
    }
    m->cgroup = TAKE_PTR(m->cgroup_begun);
    return cgroup_apply(m->cgroup, &m->spec->resources, err);
}

int making_cgroup(struct making *m, struct err *err)
{
    int result = making_cgroup_begin(m, err);

    return result < 0 ? result : making_cgroup_finish(m, err);
}

int making_rdt(struct making *m, struct err *err)
{
    const char *root;
    int result;

    if (!m->spec->rdt.present)
        return 0;
    if (!(root = rdt_root(err)))
        return -ENOTSUP;
    if (!(m->state->rdt = rdt_plan(root, &m->spec->rdt, m->options->id)))
        return err_set(err, -ENOMEM, "linux.intelRdt: out of memory");
    if ((result = state_save(m->state_fd, m->state, err)) < 0)
        return result;
    close(m->state_file_fd);
    if ((m->state_file_fd = state_open_file(m->state_fd, m->state)) < 0)
        return err_errno(err, m->state_file_fd, "state of container '%s'", m->options->id);
    return rdt_create(m->state->rdt, &m->spec->rdt, err);
}

int making_record_pid(struct making *m, struct err *err)
{
    int result;

    m->state->pid = m->pid;
    if (m->state->pid_start_time == 0 &&
        state_pid_start_time(m->pid, &m->state->pid_start_time) < 0)
        return err_set(err, -ESRCH, "the container's first process died while it was set up");
    if ((m->state->rdt && (result = rdt_join(m->state->rdt, m->pid, err)) < 0) ||
        (result = state_save_pid(m->state_file_fd, m->state, err)) < 0)
        return result;
    return pid_file_write(m->options->pid_file, m->pid, err);
}

void making_init(struct making *m, const struct container_options *options)
{
    *m = (struct making){.options = options,
                         .bundle_fd = -1,
                         .root_fd = -1,
                         .state_fd = -1,
                         .state_file_fd = -1,
                         .socket = -1,
                         .pid_fd = -1,
                         .master = -1};
}
