/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime's side of exec. The container is found by a pidfd whose process was checked against
 * the recorded start time, and its namespaces are joined by that pidfd alone: nothing below
 * /proc/PID is opened by name.
 *
 *   runtime                          the new process (init_exec_main)
 *     setns(pid namespace)
 *     clone3 (v2: into the cgroup) ─▶ v1: enters the cgroup; setns(all others); terminal
 *     setns(own pid namespace)
 *     pid file, terminal ◀── SYNC_READY
 *     SYNC_START ──────────────────▶ user, capabilities, execve
 *     end of file: executed
 *
 * A frozen cgroup stops whoever enters it, so that the runtime would wait for ever: it is refused
 * unless that was asked for.
 */
#include "oci/exec.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/util.h"
#include "oci/cgroup.h"
#include "oci/cgroup_processes.h"
#include "oci/console.h"
#include "oci/container_open.h"
#include "oci/exec_process.h"
#include "oci/foreground.h"
#include "oci/init.h"
#include "oci/pid_file.h"
#include "oci/pid_namespace.h"
#include "oci/process_attributes.h"
#include "oci/seccomp_filter.h"
#include "oci/self.h"
#include "oci/spec.h"
#include "oci/state.h"
#include "oci/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* One exec while it is made. */
struct joining {
    const struct exec_options *options;
    struct container_state *state;
    struct oci_spec *spec;
    struct cgroup *cgroup, *sub_cgroup;
    int container_fd; /* pidfd of the container's first process */
    int socket, pid_fd, master;
    pid_t pid;
    struct seccomp_program seccomp;
    struct seccomp_handover *handover; /* NULL: nobody listens */
};

static void joining_done(struct joining *j)
{
    state_free(j->state);
    oci_spec_free(j->spec);
    cgroup_free(j->cgroup);
    cgroup_free(j->sub_cgroup);
    fd_closep(&j->container_fd);
    fd_closep(&j->socket);
    fd_closep(&j->pid_fd);
    fd_closep(&j->master);
    seccomp_program_done(&j->seccomp);
    seccomp_handover_free(j->handover);
}

/* Is the hierarchy one of `controllers` ("cpu,memory")? */
static bool is_among(const struct cgroup_hierarchy *hierarchy, const char *controllers)
{
    for (const char *c = controllers; *c; c += strspn(c, ",")) {
        size_t length = strcspn(c, ",");

        for (const char *found = hierarchy->name; *found; found += strspn(found, ",")) {
            size_t n = strcspn(found, ",");

            if (n == length && strncmp(found, c, n) == 0)
                return true;
            found += n;
        }
        c += length;
    }
    return false;
}

/* --cgroup: in the hierarchies that are named, or everywhere, a cgroup below the container's. */
static int find_sub_cgroup(struct joining *j, struct err *err)
{
    const char *wanted = j->options->cgroup;
    const char *colon = strchr(wanted, ':');
    CLEANUP(freep) char *controllers = colon ? strndup(wanted, (size_t)(colon - wanted)) : NULL;
    CLEANUP(freep) char *path = NULL;
    unsigned nr_found = 0;
    int result;

    if (colon)
        wanted = colon + 1;
    wanted += strspn(wanted, "/");
    if ((colon && !controllers) || asprintf(&path, "%s/%s", j->state->cgroup_path, wanted) < 0)
        return err_set(err, -ENOMEM, "--cgroup: out of memory");
    if (strstr(wanted, ".."))
        return err_set(err, -EINVAL, "--cgroup: '%s' leaves the container's cgroup", wanted);
    if (!*wanted)
        return 0;
    if ((result = cgroup_open(path, &j->sub_cgroup, err)) < 0)
        return result;
    for (unsigned i = 0; i < j->sub_cgroup->nr_hierarchies; i++) {
        struct cgroup_hierarchy *hierarchy = &j->sub_cgroup->hierarchies[i];

        if (controllers && !is_among(hierarchy, controllers)) {
            fd_closep(&hierarchy->fd);
            hierarchy->fd = -1;
        }
        nr_found += hierarchy->fd >= 0;
    }
    return nr_found ? 0 : err_set(err, -ENOENT, "--cgroup: '%s' does not exist", path);
}

static int find_container(struct joining *j, int dir_fd, struct err *err)
{
    int result;
    const char *id = j->options->id;
    enum container_status status = container_status(dir_fd, j->state);

    if (status == CONTAINER_PAUSED && !j->options->ignore_paused)
        return err_set(err, -EBUSY,
                       "container '%s' is paused: resume it first (or --ignore-paused)", id);
    if (status == CONTAINER_STOPPED || status == CONTAINER_CREATING)
        return err_set(err, -ESRCH, "container '%s' is not running (it is %s)", id,
                       state_status_name(status));
    if ((j->container_fd = container_open_process(j->state)) < 0)
        return err_set(err, -ESRCH, "container '%s' is not running", id);
    if (!j->state->cgroup_path)
        return j->options->cgroup
                   ? err_set(err, -ENOTSUP, "--cgroup: container '%s' has no cgroup", id)
                   : 0;
    if ((result = cgroup_open(j->state->cgroup_path, &j->cgroup, err)) < 0)
        return result;
    return j->options->cgroup ? find_sub_cgroup(j, err) : 0;
}

static int make_spec(struct joining *j, struct err *err)
{
    CLEANUP(json_decrefp) json_t *config = NULL;
    int result = container_load_config(j->state, &config, err);

    if (result < 0 || (result = exec_process_place(j->options, config, err)) < 0 ||
        (result = oci_spec_from_json(config, "exec", &j->spec, err)) < 0)
        return result;
    if (j->options->console_socket && !j->spec->process.terminal)
        return err_set(err, -EINVAL,
                       "a console socket is given, but the process has no terminal (--tty)");
    if (j->spec->process.terminal && j->options->detach && !j->options->console_socket)
        return err_set(err, -EINVAL, "a detached terminal needs --console-socket");
    if ((result = process_attributes_check_labels(j->spec, err)) < 0)
        return result;
    if (j->spec->seccomp &&
        (result = seccomp_prepare(j->spec->seccomp, j->options->root, &j->seccomp, err)) < 0)
        return result;
    if (j->seccomp.notify && !(j->handover = seccomp_handover_new()))
        return err_set(err, -ENOMEM, "linux.seccomp: out of memory");
    return 0;
}

/* Joining the user namespace one is in already is an error to the kernel. */
static bool same_user_namespace(pid_t pid)
{
    struct stat ours, theirs;
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
    return stat("/proc/self/ns/user", &ours) == 0 && stat(path, &theirs) == 0 &&
           ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev;
}

/* The namespaces that the container does not share with us. */
static int namespaces_to_join(const struct joining *j)
{
    int flags = 0;

    for (size_t i = 0; i < j->spec->nr_namespaces; i++)
        flags |= j->spec->namespaces[i].flag;
    if ((flags & CLONE_NEWUSER) && same_user_namespace(j->state->pid))
        flags &= ~CLONE_NEWUSER;
    return flags;
}

__attribute__((noreturn)) static void child(const struct joining *j, const struct init_arguments *a)
{
    close(j->socket);
    init_exec_main(a);
}

/* Into the container's pid namespace (`pids`), which we join ourselves, for this one child. */
static long clone_child(struct joining *j, const struct init_arguments *a, struct clone_args *args,
                        bool pids)
{
    int own_pids = -1;
    int result = pids ? pid_namespace_enter(j->container_fd, &own_pids) : 0;
    long pid;

    if (result < 0)
        return result;
    pid = syscall(SYS_clone3, args, sizeof(*args));
    if (pid == 0) {
        fd_closep(&own_pids);
        child(j, a);
    }
    result = -errno;
    pid_namespace_leave(own_pids);
    fd_closep(&own_pids);
    return pid < 0 ? result : pid;
}

/*
 * An ordinary user's privileges over a container's namespaces come with its user namespace, from
 * which no way leads back. So a helper joins, and its child becomes ours: CLONE_PARENT. The pidfd
 * comes into our table of descriptors, which the helper shares; the pid comes through a pipe.
 */
static long clone_by_helper(struct joining *j, const struct init_arguments *a,
                            struct clone_args *args, bool pids)
{
    struct clone_args helper_args = {.flags = CLONE_FILES, .exit_signal = SIGCHLD};
    struct {
        long pid;
        int pid_fd;
    } made = {-EIO, -1};
    int ends[2];
    long helper;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    helper = syscall(SYS_clone3, &helper_args, sizeof(helper_args));
    if (helper == 0) {
        args->flags |= CLONE_PARENT;
        args->exit_signal = 0; /* it has the helper's */
        made.pid = setns(j->container_fd, CLONE_NEWUSER) < 0 ? -errno
                                                             : clone_child(j, a, args, pids);
        made.pid_fd = j->pid_fd;
        _exit(write(ends[1], &made, sizeof(made)) == sizeof(made) ? 0 : 1);
    }
    if (helper < 0)
        made.pid = -errno;
    else if (waitpid((pid_t)helper, NULL, 0) == helper &&
             read(ends[0], &made, sizeof(made)) != sizeof(made))
        made.pid = -EIO;
    j->pid_fd = made.pid_fd;
    close(ends[0]);
    close(ends[1]);
    return made.pid;
}

static int start_process(struct joining *j, struct err *err)
{
    CLEANUP(fd_closep) int cgroup_fd = j->cgroup ? cgroup_v2_fd(j->cgroup) : -1;
    struct clone_args args = {.exit_signal = SIGCHLD, .flags = CLONE_PIDFD};
    struct init_arguments a = {.spec = j->spec,
                               .bundle_fd = -1,
                               .state_fd = -1,
                               .self_fd = self_mount(),
                               .cgroup = j->cgroup,
                               .sub_cgroup = j->sub_cgroup,
                               .preserve_fds = j->options->preserve_fds,
                               .seccomp = j->spec->seccomp ? &j->seccomp : NULL,
                               .handover = j->handover,
                               .exec = true,
                               .container_pid_fd = j->container_fd};
    int flags = namespaces_to_join(j);
    bool pids = flags & CLONE_NEWPID, helper = (flags & CLONE_NEWUSER) && geteuid() != 0;
    int pair[2];
    long pid;

    a.join_flags = flags & ~(CLONE_NEWPID | (helper ? CLONE_NEWUSER : 0));
    memset(a.namespace_fds, 0xff, sizeof(a.namespace_fds));
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(err, -errno, "make a socket pair");
    j->socket = pair[0];
    a.socket = pair[1];
    args.pidfd = (uint64_t)(uintptr_t)&j->pid_fd;
    if (cgroup_fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)(unsigned)cgroup_fd;
        a.in_cgroup = true;
    }
    /* Its namespaces show the new process to the container's from its first moment on. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return err_errno(err, -errno, "hide from the container");
    pid = helper ? clone_by_helper(j, &a, &args, pids) : clone_child(j, &a, &args, pids);
    close(pair[1]);
    if (pid < 0)
        return err_errno(err, (int)pid, "make a process in the container's namespaces");
    j->pid = (pid_t)pid;
    return 0;
}

/* The listener of the filter goes from the new process to the agent. */
static int pass_listener(struct joining *j, struct err *err)
{
    CLEANUP(json_decrefp) json_t *state = NULL;
    CLEANUP(fd_closep) int listener = -1;

    if (!j->handover)
        return 0;
    listener = seccomp_take_listener(j->handover, j->pid_fd, err);
    if (listener == -ESRCH) {
        int result = sync_wait(j->socket, SYNC_FAILED, NULL, err);

        return result < 0 ? result : err_set(err, -ECHILD, "the process died");
    }
    if (listener < 0)
        return listener;
    if (!(state = state_to_json(j->state, CONTAINER_RUNNING)))
        return err_set(err, -ENOMEM, "linux.seccomp: out of memory");
    return seccomp_send_listener(&j->seccomp, listener, j->pid, state, err);
}

/* From the new process's first message to its program. */
static int release(struct joining *j, struct err *err)
{
    int result = sync_wait(j->socket, SYNC_READY, &j->master, err);

    if (result > 0)
        return err_set(err, -ECHILD, "the process died while it was set up");
    if (result < 0 || (result = pid_file_write(j->options->pid_file, j->pid, err)) < 0 ||
        (result = pass_listener(j, err)) < 0)
        return result;
    if (j->master >= 0 && j->options->console_socket)
        result = console_send(j->options->console_socket, j->master, err);
    else if (j->master >= 0)
        console_copy_size(j->master);
    if (result < 0)
        return result;
    if ((result = sync_tell(j->socket, SYNC_START, 0, err)) < 0)
        return result;
    /* While the program is executed. */
    if (self_mount() >= 0)
        close(self_mount());
    result = sync_wait(j->socket, SYNC_FAILED, NULL, err);
    return result > 0 ? 0 : result;
}

static int run(struct joining *j, int *ret_status, struct err *err)
{
    const struct exec_options *options = j->options;
    CLEANUP(fd_closep) int dir_fd = -1;
    int result;

    if ((result = container_open(options->root, options->id, &dir_fd, &j->state, err)) < 0 ||
        (result = find_container(j, dir_fd, err)) < 0 || (result = make_spec(j, err)) < 0)
        return result;
    if ((result = start_process(j, err)) < 0 || (result = release(j, err)) < 0) {
        if (j->pid > 0) {
            kill(j->pid, SIGKILL);
            waitpid(j->pid, NULL, 0);
        }
        return result;
    }
    *ret_status = 0;
    if (options->detach)
        return 0;
    return foreground_wait(j->pid, j->pid_fd, options->console_socket ? -1 : j->master, NULL,
                           ret_status, err);
}

int container_exec(const struct exec_options *options, int *ret_status, struct err *err)
{
    CLEANUP(joining_done)
    struct joining j = {
        .options = options, .container_fd = -1, .socket = -1, .pid_fd = -1, .master = -1};
    sigset_t before;
    int result;

    foreground_hold_signals(&before);
    result = run(&j, ret_status, err);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return result;
}
