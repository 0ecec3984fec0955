/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime's side of making a container. Order (invariant 2 of container.h):
 *   state directory -> state.json naming the cgroup -> cgroup -> limits -> clone3 -> pid into
 * state.json and backwards when a step fails.
 */
#include "oci/container.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/util.h"
#include "oci/cgroup.h"
#include "oci/cgroup_processes.h"
#include "oci/console.h"
#include "oci/container_hooks.h"
#include "oci/container_making.h"
#include "oci/container_open.h"
#include "oci/foreground.h"
#include "oci/id_map.h"
#include "oci/hooks.h"
#include "oci/mount_idmap.h"
#include "oci/init.h"
#include "oci/net_device.h"
#include "oci/notify_socket.h"
#include "oci/pid_namespace.h"
#include "oci/rdt.h"
#include "oci/seccomp_filter.h"
#include "oci/self.h"
#include "oci/spec.h"
#include "oci/state.h"
#include "oci/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* How long a first process may take to end after a failure of ours. */
#define FAILED_END_MS 2000

DEFINE_CLEANUP(cgroup_freep, struct cgroup *, cgroup_free);
DEFINE_CLEANUP(state_freep, struct container_state *, state_free);

/* Opens the namespaces to join. A pid namespace is joined by us, for our child; the rest by the
 * first process. */
static int open_namespaces(struct making *m, struct init_arguments *a, uint64_t *ret_flags,
                           int *ret_own_pids, struct err *err)
{
    size_t n = 0;

    *ret_flags = 0;
    for (size_t i = 0; i < m->spec->nr_namespaces; i++) {
        const struct oci_namespace *ns = &m->spec->namespaces[i];
        int fd;

        if (!ns->path) {
            /* The cgroup namespace is made when the process is in its cgroup. */
            if (ns->flag != CLONE_NEWCGROUP && ns->flag != CLONE_NEWTIME)
                *ret_flags |= (uint64_t)(unsigned)ns->flag;
            continue;
        }
        fd = open(ns->path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return err_errno(err, -errno, "namespace '%s'", ns->path);
        if (ns->flag == CLONE_NEWPID) {
            int result = pid_namespace_enter(fd, ret_own_pids);

            close(fd);
            if (result < 0)
                return err_errno(err, result, "join pid namespace '%s'", ns->path);
            continue;
        }
        a->namespace_fds[n] = fd;
        a->namespace_flags[n++] = ns->flag;
    }
    return 0;
}

static int map_ids(struct making *m, struct err *err)
{
    const struct oci_namespace *ns = oci_spec_namespace(m->spec, CLONE_NEWUSER);
    int result;

    if (!ns || ns->path)
        return 0;
    if ((result = id_map_write(m->pid, m->spec, err)) < 0)
        return result;
    if ((result = sync_send(m->socket, SYNC_MAPPED, NULL, -1)) < 0)
        return err_errno(err, result, "talk to the container's first process");
    return 0;
}

static int start_init(struct making *m, struct init_arguments *a, struct err *err)
{
    CLEANUP(fd_closep) int cgroup_fd = a->cgroup ? cgroup_v2_fd(a->cgroup) : -1;
    CLEANUP(fd_closep) int own_pids = -1;
    struct clone_args args = {.exit_signal = SIGCHLD};
    int pair[2];
    uint64_t flags = 0;
    long pid;
    int result = open_namespaces(m, a, &flags, &own_pids, err);

    if (result < 0)
        return result;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(err, -errno, "make a socket pair");
    m->socket = pair[0];
    a->socket = pair[1];
    if (a->cgroup_follows) {
        a->own_namespaces = (int)(flags & ~(uint64_t)CLONE_NEWPID);
        flags &= CLONE_NEWPID;
    }
    args.flags = flags | CLONE_PIDFD;
    args.pidfd = (uint64_t)(uintptr_t)&m->pid_fd;
    if (cgroup_fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)(unsigned)cgroup_fd;
        a->in_cgroup = true;
    }
    if (init_shares_processes(m->spec) && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return err_errno(err, -errno, "hide from other containers");
    pid = syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0) {
        /* Our copy of the other end must not keep the runtime's end of file from coming. */
        close(pair[0]);
        fd_closep(&own_pids);
        init_main(a);
    }
    result = -errno;
    pid_namespace_leave(own_pids);
    close(pair[1]);
    if (pid < 0)
        return err_errno(err, result, "make the container's first process (namespaces %#llx)",
                         (unsigned long long)flags);
    m->pid = (pid_t)pid;
    return map_ids(m, err);
}

static int prepare_seccomp(struct making *m, struct init_arguments *a, struct err *err)
{
    int result;

    if (!m->spec->seccomp)
        return 0;
    result = seccomp_prepare(m->spec->seccomp, m->options->root, &m->seccomp, err);
    if (result < 0)
        return result;
    if (m->seccomp.notify && !(m->handover = seccomp_handover_new()))
        return err_set(err, -ENOMEM, "linux.seccomp: out of memory");
    a->seccomp = &m->seccomp;
    a->handover = m->handover;
    return 0;
}

/* The listener of the filter goes from the first process to the agent. */
static int pass_listener(struct making *m, struct err *err)
{
    CLEANUP(json_decrefp) json_t *state = NULL;
    CLEANUP(fd_closep) int listener = -1;

    if (!m->handover)
        return 0;
    listener = seccomp_take_listener(m->handover, m->pid_fd, err);
    if (listener == -ESRCH) {
        int result = sync_wait(m->socket, SYNC_FAILED, NULL, err);

        return result < 0 ? result : err_set(err, -ECHILD, "the container's first process died");
    }
    if (listener < 0)
        return listener;
    if (!(state = state_to_json(m->state, CONTAINER_CREATING)))
        return err_set(err, -ENOMEM, "linux.seccomp: out of memory");
    return seccomp_send_listener(&m->seccomp, listener, m->pid, state, err);
}

/* Hooks of the runtime, while the first process stands before pivot_root. */
static int run_create_hooks(struct making *m, struct err *err)
{
    int result;

    if (!hooks_present(m->spec->hooks, HOOKS_PRESTART) &&
        !hooks_present(m->spec->hooks, HOOKS_CREATE_RUNTIME))
        return 0;
    result = sync_wait(m->socket, SYNC_MOUNTED, NULL, err);
    if (result > 0)
        return err_set(err, -ECHILD, "the container's first process died while it was set up");
    if (result < 0)
        return result;
    m->hooks_begun = true;
    if ((result = container_hooks_created(m->spec->hooks, m->state, m->pid, err)) < 0)
        return result;
    if ((result = sync_send(m->socket, SYNC_HOOKED, NULL, -1)) < 0)
        return err_errno(err, result, "talk to the container's first process");
    return 0;
}

/* The namespace is there as soon as its first process is, or it is somebody else's. */
static int move_devices(struct making *m, struct err *err)
{
    const struct oci_namespace *ns = oci_spec_namespace(m->spec, CLONE_NEWNET);
    CLEANUP(fd_closep) int fd = -1;
    char path[64];

    if (!m->spec->nr_net_devices || !ns)
        return 0;
    snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)m->pid);
    fd = open(ns->path ? ns->path : path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, -errno, "linux.netDevices: the container's network namespace");
    return net_device_move_all(m->spec, fd, err);
}

/*
 * Making the namespaces takes as long as making the cgroup: where the first process can make its
 * own (none is joined, none belongs to a user namespace, and nobody needs one from outside), both
 * are done at once. Where version 2 is all there is, the cgroup comes first: the process is born
 * into it.
 */
static bool works_at_once(const struct making *m)
{
    if (!m->cgroup_begun || m->cgroup_begun->layout == CGROUP_LAYOUT_V2 ||
        m->spec->nr_net_devices || m->state->owner != 0)
        return false;
    for (size_t i = 0; i < m->spec->nr_namespaces; i++)
        if (m->spec->namespaces[i].path || m->spec->namespaces[i].flag == CLONE_NEWUSER)
            return false;
    return true;
}

/* Is there nothing between the root that was built and the program that the runtime has to do? Then
 * the first process writes the record, too, and neither waits for the other. */
static bool runs_by_itself(const struct making *m)
{
    return !m->spec->hooks && !m->spec->process.terminal && !m->handover && !m->state->rdt &&
           !m->options->pid_file && !notify_is_wanted() &&
           (!m->spec->seccomp || m->spec->process.no_new_privileges);
}

static int finish_cgroup(struct making *m, struct err *err)
{
    int result = making_cgroup_finish(m, err);

    return result < 0 ? result : sync_tell(m->socket, SYNC_CGROUP, m->pid, err);
}

/* From nothing to a first process that waits for its start. */
static int make(struct making *m, bool foreground, bool fifo, struct err *err)
{
    struct init_arguments a = {
        .wait_on_fifo = fifo, .die_with_parent = foreground, .self_fd = self_mount()};
    CLEANUP(json_decrefp) json_t *hook_state = NULL;
    int result;

    memset(a.namespace_fds, 0xff, sizeof(a.namespace_fds));
    if ((result = making_load_bundle(m, err)) < 0 || (result = making_state(m, err)) < 0 ||
        (result = container_hooks_save(m->state_fd, m->spec->hooks, err)) < 0 ||
        (result = notify_prepare(m, err)) < 0 ||
        (result = mount_idmap_prepare(m->spec, m->bundle_fd, err)) < 0 ||
        (result = prepare_seccomp(m, &a, err)) < 0 || (result = making_cgroup_begin(m, err)) < 0 ||
        (result = making_rdt(m, err)) < 0)
        return result;
    a.cgroup_follows = works_at_once(m);
    a.runs_by_itself = m->runs_by_itself = a.cgroup_follows && !fifo && runs_by_itself(m);
    if (!a.cgroup_follows && (result = making_cgroup_finish(m, err)) < 0)
        return result;
    if (m->spec->hooks && !(a.hook_state = hook_state = container_hooks_state(m->state)))
        return err_set(err, -ENOMEM, "hooks: out of memory");
    if (fifo && mkfifoat(m->state_fd, STATE_EXEC_FIFO, 0622) < 0)
        return err_errno(err, -errno, "make the exec FIFO");
    if (fifo && fchmodat(m->state_fd, STATE_EXEC_FIFO, 0622, 0) < 0)
        return err_errno(err, -errno, "exec FIFO");
    a.spec = m->spec;
    a.rootfs = m->rootfs;
    a.bundle_fd = m->bundle_fd;
    a.state = m->state;
    a.state_fd = m->state_fd;
    a.state_file_fd = m->state_file_fd;
    a.cgroup = a.cgroup_follows ? m->cgroup_begun : m->cgroup;
    a.preserve_fds = m->options->preserve_fds;
    a.listen_fds = m->options->listen_fds;
    result = start_init(m, &a, err);
    for (size_t i = 0; i < ARRAY_LEN(a.namespace_fds); i++)
        fd_closep(&a.namespace_fds[i]);
    if (result < 0)
        return result;
    if (a.cgroup_follows && (result = finish_cgroup(m, err)) < 0)
        return result;
    /* `create` ends when the first process has reported: that one has the last of it, then. */
    if (fifo && a.self_fd >= 0)
        close(a.self_fd);
    if ((result = move_devices(m, err)) < 0 || (result = run_create_hooks(m, err)) < 0)
        return result;
    /* While it is at work; making_record_pid tries again, and says what was wrong. */
    if (!m->runs_by_itself)
        state_pid_start_time(m->pid, &m->state->pid_start_time);
    /* It has closed its own by now: the wait for the kernel's readers is here, beside its work, and
     * not beside the program's end, which has such a wait of its own. */
    if (!fifo && a.self_fd >= 0)
        close(a.self_fd);
    if (m->runs_by_itself)
        return 0;
    result = sync_wait(m->socket, SYNC_READY, &m->master, err);
    if (result > 0)
        return err_set(err, -ECHILD, "the container's first process died while it was set up");
    if (result < 0 || (result = making_record_pid(m, err)) < 0 ||
        (result = pass_listener(m, err)) < 0)
        return result;
    m->hooks_begun = m->spec->hooks != NULL;
    if (m->master >= 0 && m->options->console_socket)
        return console_send(m->options->console_socket, m->master, err);
    return 0;
}

int container_create(const struct container_options *options, struct err *err)
{
    CLEANUP(making_done) struct making m;
    int result;

    making_init(&m, options);
    if ((result = make(&m, false, true, err)) < 0)
        making_undo(&m);
    return result;
}

/* Lets the program be executed, and waits until that has happened or failed. */
static int release(struct making *m, struct err *err)
{
    int result;

    /* Before the program can ask for it. */
    if (m->master >= 0 && !m->options->console_socket)
        console_copy_size(m->master);
    if (!m->runs_by_itself && (result = sync_tell(m->socket, SYNC_START, 0, err)) < 0)
        return result;
    result = sync_wait(m->socket, SYNC_FAILED, NULL, err);
    return result > 0 ? 0 : result;
}

static bool has_ended(int process, int milliseconds)
{
    struct pollfd pollfd = {.fd = process, .events = POLLIN};
    int ready;

    while ((ready = poll(&pollfd, 1, milliseconds)) < 0 && errno == EINTR)
        ;
    return ready > 0;
}

/* After a failure, which its own exit status may explain: it tells a program that cannot be
 * executed from a failed set-up. 0: it does not. */
static int await_failed(struct making *m)
{
    int status = 0;

    /* What it waits for does not come any more, so it ends by itself, unless it was our side that
     * failed and it runs. */
    fd_closep(&m->socket);
    m->socket = -1;
    if (m->handover)
        atomic_store(&m->handover->taken, 1);
    if (m->pid <= 0)
        return 0;
    if (!has_ended(m->pid_fd, FAILED_END_MS))
        kill(m->pid, SIGKILL);
    if (waitpid(m->pid, &status, 0) != m->pid)
        return 0;
    m->pid = 0;
    return WIFEXITED(status) && WEXITSTATUS(status) >= 126 ? WEXITSTATUS(status) : 0;
}

static void proxy_done(struct notify_proxy *proxy)
{
    fd_closep(&proxy->fd);
}

static int run(struct making *m, int *ret_status, struct err *err)
{
    const struct container_options *options = m->options;
    CLEANUP(proxy_done) struct notify_proxy proxy = {.fd = -1};
    int result, status = 0;

    if ((result = make(m, !options->detach, false, err)) < 0 ||
        (result = notify_bind(m->state_fd, &proxy, err)) < 0 || (result = release(m, err)) < 0) {
        if ((status = await_failed(m)) > 0)
            *ret_status = status;
        making_undo(m);
        return result;
    }
    container_hooks_started(m->spec->hooks, m->state);
    proxy.pid = m->pid;
    if (options->detach) {
        notify_wait_ready(&proxy, m->pid_fd);
        *ret_status = 0;
        return 0;
    }
    result = foreground_wait(m->pid, m->pid_fd, options->console_socket ? -1 : m->master, &proxy,
                             ret_status, err);
    m->pid = 0;
    if (!options->keep)
        making_undo(m);
    return result;
}

int container_run(const struct container_options *options, int *ret_status, struct err *err)
{
    CLEANUP(making_done) struct making m;
    sigset_t before;
    int result = 0;

    making_init(&m, options);
    *ret_status = 1;
    foreground_hold_signals(&before);
    if (options->exit_with_parent && (result = foreground_exit_with_parent(getppid())) < 0)
        err_errno(err, result, "follow the caller's death");
    if (result == 0)
        result = run(&m, ret_status, err);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return result;
}

int container_start(const char *root, const char *id, struct err *err)
{
    CLEANUP(state_freep) struct container_state *state = NULL;
    CLEANUP(fd_closep) int dir_fd = -1;
    CLEANUP(json_decrefp) json_t *hooks = NULL;
    CLEANUP(proxy_done) struct notify_proxy proxy = {.fd = -1};
    CLEANUP(fd_closep) int process = -1;
    CLEANUP(fd_closep) int fifo = -1;
    enum container_status status;
    struct pollfd poll_fifo;
    char byte;
    int result = container_open(root, id, &dir_fd, &state, err);

    if (result < 0)
        return result;
    if ((status = state_status(dir_fd, state)) != CONTAINER_CREATED)
        return err_set(err, -EINVAL, "container '%s' is %s; only a created one can be started", id,
                       state_status_name(status));
    if ((result = notify_bind(dir_fd, &proxy, err)) < 0)
        return result;
    fifo = openat(dir_fd, STATE_EXEC_FIFO, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fifo < 0)
        return err_errno(err, -errno, "container '%s': exec FIFO", id);
    /* The first process may die instead of writing: look for that, too. */
    for (poll_fifo = (struct pollfd){.fd = fifo, .events = POLLIN};;) {
        if (poll(&poll_fifo, 1, 100) > 0 && read(fifo, &byte, 1) == 1)
            break;
        if (state_status(dir_fd, state) == CONTAINER_STOPPED)
            return err_set(err, -ESRCH, "container '%s': its first process died", id);
    }
    if (unlinkat(dir_fd, STATE_EXEC_FIFO, 0) < 0)
        return err_errno(err, -errno, "container '%s': exec FIFO", id);
    hooks = container_hooks_load(dir_fd);
    container_hooks_started(hooks, state);
    proxy.pid = state->pid;
    if (proxy.fd >= 0 && (process = container_open_process(state)) >= 0)
        notify_wait_ready(&proxy, process);
    return 0;
}

int container_delete(const char *root, const char *id, bool force, struct err *err)
{
    CLEANUP(state_freep) struct container_state *state = NULL;
    CLEANUP(cgroup_freep) struct cgroup *cgroup = NULL;
    CLEANUP(fd_closep) int dir_fd = state_open(root, id, err);
    CLEANUP(json_decrefp) json_t *hooks = NULL;
    CLEANUP(fd_closep) int process = -1;
    enum container_status status;
    int result;

    if (dir_fd < 0)
        return force && dir_fd == -ENOENT ? 0 : dir_fd;
    if ((result = state_load(dir_fd, &state, err)) < 0) {
        /* Killed before its first save: there is a directory and nothing else. A state that is
         * there and cannot be read now may speak of processes. */
        return force && result == -ENOENT ? state_remove(root, id, err)
                                          : err_wrap(err, "container '%s'", id);
    }
    status = state_status(dir_fd, state);
    if (status != CONTAINER_STOPPED && !force && status != CONTAINER_CREATED)
        return err_set(err, -EBUSY, "container '%s' is %s; stop it first, or use --force", id,
                       state_status_name(status));
    if (state->cgroup_path && (result = cgroup_open(state->cgroup_path, &cgroup, err)) < 0)
        return result;
    if (state->pid && (process = container_open_process(state)) >= 0) {
        syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0);
        /* A frozen process dies only when it thaws, and in a moment unless it is frozen. */
        if (!has_ended(process, 50)) {
            if (cgroup)
                cgroup_freeze(cgroup, false, NULL);
            has_ended(process, 10000);
        }
    }
    if (cgroup) {
        if (!cgroup_remove_empty(cgroup) && ((result = cgroup_kill_all(cgroup, err)) < 0 ||
                                             (result = cgroup_remove(cgroup, err)) < 0))
            return result;
    }
    rdt_remove(state->rdt);
    hooks = container_hooks_load(dir_fd);
    if ((result = state_remove(root, id, err)) == 0)
        container_hooks_stopped(hooks, state);
    return result;
}

int container_state(const char *root, const char *id, json_t **ret, struct err *err)
{
    CLEANUP(state_freep) struct container_state *state = NULL;
    CLEANUP(fd_closep) int dir_fd = -1;
    int result = container_open(root, id, &dir_fd, &state, err);

    if (result < 0)
        return result;
    if (!(*ret = state_to_json(state, container_status(dir_fd, state))))
        return err_set(err, -ENOMEM, "state of container '%s': out of memory", id);
    return 0;
}

int container_list(const char *root, json_t **ret, struct err *err)
{
    CLEANUP(dir_closep) DIR *dir = opendir(root);
    CLEANUP(json_decrefp) json_t *list = json_array();
    struct dirent *entry;
    int result = 0;

    if (!list)
        return err_set(err, -ENOMEM, "list: out of memory");
    while (dir && (result = file_next_entry(dir, &entry)) > 0) {
        json_t *state = NULL;

        /* One that goes away, or is just being made, meanwhile is no error. */
        if (entry->d_name[0] != '.' && container_state(root, entry->d_name, &state, NULL) == 0)
            json_array_append_new(list, state);
    }
    if (result < 0)
        return err_errno(err, result, "list '%s'", root);
    *ret = TAKE_PTR(list);
    return 0;
}
