/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order matters here, and each step says why it comes where it does. Privileges only shrink: user,
 * then capabilities; no-new-privileges last, because before it a capability set could still be
 * raised.
 */
#include "oci/init.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"
#include "oci/capability.h"
#include "oci/console.h"
#include "oci/device.h"
#include "oci/hooks.h"
#include "oci/inroot.h"
#include "oci/left_open.h"
#include "oci/memory_policy.h"
#include "oci/mount.h"
#include "oci/passwd.h"
#include "oci/process_attributes.h"
#include "oci/reaper.h"
#include "oci/state.h"
#include "oci/sync.h"
#include "oci/system_paths.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int join_namespaces(const struct init_arguments *a, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(a->namespace_fds) && a->namespace_fds[i] >= 0; i++)
        if (setns(a->namespace_fds[i], a->namespace_flags[i]) < 0)
            return err_errno(err, -errno, "join a namespace (flag %#x)",
                             (unsigned)a->namespace_flags[i]);
    return 0;
}

static int enter_cgroup(const struct init_arguments *a, struct err *err)
{
    const struct oci_namespace *ns = oci_spec_namespace(a->spec, CLONE_NEWCGROUP);
    int result = 0;

    if (a->cgroup_follows) {
        result = sync_wait_pid(a->socket, SYNC_CGROUP, &a->state->pid, err);
        if (result != 0)
            return result < 0 ? result : err_set(err, -EPIPE, "the runtime went away");
        cgroup_expect(a->cgroup);
    }
    if (a->cgroup)
        result = cgroup_join_self(a->cgroup, a->in_cgroup, err);
    /* Only now: the namespace's root is where its creator is. */
    if (result == 0 && ns && !ns->path && unshare(CLONE_NEWCGROUP) < 0)
        result = err_errno(err, -errno, "make a cgroup namespace");
    return result;
}

static int enter_user_namespace(const struct init_arguments *a, struct err *err)
{
    const struct oci_namespace *ns = oci_spec_namespace(a->spec, CLONE_NEWUSER);
    int result;

    if (!ns || ns->path)
        return 0;
    result = sync_wait(a->socket, SYNC_MAPPED, NULL, err);
    if (result != 0)
        return result < 0 ? result : err_set(err, -EPIPE, "the runtime went away");
    if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
        return err_errno(err, -errno, "become root of the user namespace");
    return 0;
}

/* A time namespace takes offsets only while nobody is in it; a process enters its own by the handle
 * for its children. */
static int enter_time_namespace(const struct oci_spec *spec, struct err *err)
{
    const struct oci_namespace *ns = oci_spec_namespace(spec, CLONE_NEWTIME);
    CLEANUP(fd_closep) int fd = -1;
    char text[96];
    int result;

    if (!ns || ns->path)
        return 0;
    if (unshare(CLONE_NEWTIME) < 0)
        return err_errno(err, -errno, "make a time namespace");
    for (size_t i = 0; i < spec->nr_time_offsets; i++) {
        const struct oci_time_offset *offset = &spec->time_offsets[i];

        snprintf(text, sizeof(text), "%s %lld %u\n", offset->clock, (long long)offset->seconds,
                 offset->nanoseconds);
        if ((result = file_write_string(AT_FDCWD, "/proc/self/timens_offsets", text)) < 0)
            return err_errno(err, result, "linux.timeOffsets.%s: %lld s", offset->clock,
                             (long long)offset->seconds);
    }
    fd = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWTIME) < 0)
        return err_errno(err, -errno, "enter the time namespace");
    return 0;
}

static int set_names(const struct oci_spec *spec, struct err *err)
{
    if (spec->hostname && sethostname(spec->hostname, strlen(spec->hostname)) < 0)
        return err_errno(err, -errno, "hostname '%s'", spec->hostname);
    if (spec->domainname && setdomainname(spec->domainname, strlen(spec->domainname)) < 0)
        return err_errno(err, -errno, "domainname '%s'", spec->domainname);
    return 0;
}

static int run_hooks(const struct init_arguments *a, const char *kind, const char *status,
                     struct err *err)
{
    CLEANUP(freep) char *state = NULL;

    if (!hooks_present(a->spec->hooks, kind))
        return 0;
    if (!(state = hooks_state_text(a->hook_state, status, getpid())))
        return err_set(err, -ENOMEM, "hooks.%s: out of memory", kind);
    return hooks_run(a->spec->hooks, kind, state, err);
}

/* The moment between the mounts and pivot_root. */
static int run_create_hooks(const struct init_arguments *a, struct err *err)
{
    int result;

    if (hooks_present(a->spec->hooks, HOOKS_PRESTART) ||
        hooks_present(a->spec->hooks, HOOKS_CREATE_RUNTIME)) {
        if ((result = sync_send(a->socket, SYNC_MOUNTED, NULL, -1)) < 0)
            return err_errno(err, result, "report to the runtime");
        result = sync_wait(a->socket, SYNC_HOOKED, NULL, err);
        if (result != 0)
            return result < 0 ? result : err_set(err, -EPIPE, "the runtime went away");
    }
    return run_hooks(a, HOOKS_CREATE_CONTAINER, "creating", err);
}

/* Ends inside the container's root, with its terminal's master in *ret_master (-1: none). */
static int build_root(const struct init_arguments *a, int *ret_master, struct err *err)
{
    const struct oci_spec *spec = a->spec;
    /* Building goes about; hooks begin where the runtime was. */
    CLEANUP(fd_closep) int before = spec->hooks ? open(".", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    CLEANUP(left_openp) int root_fd = -1;
    CLEANUP(fd_closep) int master = -1;
    CLEANUP(fd_closep) int slave = -1;
    int result;

    if ((result = mount_root(spec, a->rootfs, &root_fd, err)) < 0 ||
        (result = mount_all(spec, a->cgroup, a->bundle_fd, root_fd, err)) < 0 ||
        (result = device_make_all(spec, root_fd, err)) < 0)
        return result;
    if (spec->process.terminal) {
        result = console_make(root_fd, spec->process.console_width, spec->process.console_height,
                              &master, &slave, err);
        if (result < 0 || (result = mount_bind_fd(slave, root_fd, "/dev/console", err)) < 0 ||
            (result = console_take(slave, err)) < 0)
            return result;
        /* The program's user must be able to reopen its terminal. */
        if (fchown(slave, spec->process.uid, (gid_t)-1) < 0 && errno != EINVAL && errno != EPERM)
            return err_errno(err, -errno, "terminal: owner");
    }
    if ((result = system_paths_set_up(spec, root_fd, err)) < 0)
        return result;
    if (before >= 0 && fchdir(before) < 0)
        return err_errno(err, -errno, "working directory");
    if ((result = run_create_hooks(a, err)) < 0 ||
        (result = mount_pivot(root_fd, spec->root_read_only, err)) < 0)
        return result;
    *ret_master = TAKE_FD(master);
    return 0;
}

static int limit_process(const struct oci_process *process, struct err *err)
{
    for (size_t i = 0; i < process->nr_rlimits; i++)
        if (setrlimit((__rlimit_resource_t)process->rlimits[i].resource,
                      &process->rlimits[i].limit) < 0)
            return err_errno(err, -errno, "resource limit %d: soft %llu, hard %llu",
                             process->rlimits[i].resource,
                             (unsigned long long)process->rlimits[i].limit.rlim_cur,
                             (unsigned long long)process->rlimits[i].limit.rlim_max);
    return 0;
}

/* While the host's /proc is still there. */
static int adjust_oom_score(const struct oci_process *process, struct err *err)
{
    char text[16];
    int result;

    if (!process->has_oom_score_adj)
        return 0;
    snprintf(text, sizeof(text), "%d", process->oom_score_adj);
    result = file_write_string(AT_FDCWD, "/proc/self/oom_score_adj", text);
    return result < 0 ? err_errno(err, result, "oom score adjustment %s", text) : 0;
}

static bool setgroups_denied(void)
{
    CLEANUP(buf_donep) struct buf text;

    buf_init(&text, 64);
    return file_load(AT_FDCWD, "/proc/self/setgroups", &text, NULL) == 0 && text.length >= 4 &&
           memcmp(text.data, "deny", 4) == 0;
}

static int become_user(const struct oci_process *process, struct err *err)
{
    const struct oci_capabilities *capabilities = &process->capabilities;
    int result;

    /* A configuration without them has none: not those of whoever calls the runtime. */
    if ((result = capability_limit_bounding(capabilities->bounding, err)) < 0)
        return result;
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return err_errno(err, -errno, "keep capabilities");
    /* In a namespace that maps one id only, groups can be neither shed nor gained. */
    if (setgroups(process->nr_additional_gids, process->additional_gids) < 0 &&
        !(errno == EPERM && process->nr_additional_gids == 0 && setgroups_denied()))
        return err_errno(err, -errno, "set %zu additional groups", process->nr_additional_gids);
    if (setresgid(process->gid, process->gid, process->gid) < 0)
        return err_errno(err, -errno, "become group %u", process->gid);
    if (setresuid(process->uid, process->uid, process->uid) < 0)
        return err_errno(err, -errno, "become user %u", process->uid);
    if ((result = capability_apply(capabilities, err)) < 0)
        return result;
    if (process->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_errno(err, -errno, "no new privileges");
    return 0;
}

/*
 * Without no_new_privs the filter has to be installed while we may, so the profile must allow what
 * comes after; with it, it comes last (finish), unless somebody listens: the runtime of `create`
 * waits to pass the listener on.
 */
static int give_up_privileges(const struct init_arguments *a, struct err *err)
{
    const struct oci_process *process = &a->spec->process;
    int result;

    if ((result = process_attributes_apply(process, err)) < 0 ||
        (result = process_attributes_set_label(process, a->label_fd, err)) < 0)
        return result;
    if ((result = memory_policy_apply(&a->spec->memory_policy, err)) < 0)
        return result;
    if (a->spec->has_personality && personality(a->spec->personality) < 0)
        return err_errno(err, -errno, "linux.personality");
    if (a->seccomp && !process->no_new_privileges &&
        (result = seccomp_install(a->seccomp, a->handover, err)) < 0)
        return result;
    if ((result = become_user(process, err)) < 0)
        return result;
    if (a->seccomp && process->no_new_privileges && a->seccomp->notify)
        return seccomp_install(a->seccomp, a->handover, err);
    return 0;
}

/* The working directory is made when it is missing, as users of the other runtimes expect, and must
 * be inside the root. */
static int enter_directory(const char *cwd, struct err *err)
{
    char where[4096];

    if (chdir(cwd) < 0) {
        CLEANUP(fd_closep) int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        CLEANUP(fd_closep)
        int fd = errno == ENOENT && root >= 0 ? inroot_make_directory(root, cwd) : -errno;

        if (fd < 0 || fchdir(fd) < 0)
            return err_errno(err, fd < 0 ? fd : -errno, "working directory '%s'", cwd);
    }
    /* getcwd says "(unreachable)" for a directory outside the root: a leaked descriptor was
     * followed. */
    if (!getcwd(where, sizeof(where)) || where[0] != '/')
        return err_set(err, -EACCES, "working directory '%s' is outside the container's root", cwd);
    return 0;
}

/* Ends when the container is to be started and its startContainer hooks have run: `start` then
 * goes on to the hooks of its own side. */
static int wait_for_start(const struct init_arguments *a, struct err *err)
{
    CLEANUP(fd_closep) int writer = -1;
    int result;

    if (a->runs_by_itself)
        return 0;
    if (a->wait_on_fifo) {
        /* Blocks until `start` opens the other end. The directory's fd reaches the host's file
         * although its mount is gone from here. */
        writer = openat(a->state_fd, STATE_EXEC_FIFO, O_WRONLY | O_CLOEXEC);
        if (writer < 0)
            return err_errno(err, -errno, "wait for the start");
    } else {
        result = sync_wait(a->socket, SYNC_START, NULL, err);
        if (result != 0)
            return result < 0 ? result : err_set(err, -EPIPE, "the runtime went away");
    }
    if (!a->exec && (result = run_hooks(a, HOOKS_START_CONTAINER, "created", err)) < 0)
        return result;
    if (a->wait_on_fifo && write(writer, "0", 1) < 0)
        return err_errno(err, -errno, "wait for the start");
    return 0;
}

/* Nobody has handlers here; what a caller may have left ignored are the classic ones. `ignored` has
 * bit n - 1 for signal n. */
static void restore_signals(uint64_t ignored)
{
    sigset_t none;

    for (int number = 1; number < __SIGRTMIN; number++)
        if (ignored & UINT64_C(1) << (number - 1))
            signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* From the host's /proc/self/stat: field 33, signals that are ignored, in place of one system call
 * a signal, and all of them where that cannot be read; field 22, the start time. */
static void read_own_stat(struct init_arguments *a, uint64_t *ret_start_time)
{
    CLEANUP(left_openp) int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    char text[1024];
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    const char *ignored, *start;

    text[n > 0 ? n : 0] = '\0';
    ignored = process_stat_field(text, 33);
    start = process_stat_field(text, 22);
    a->ignored_signals = ignored ? strtoull(ignored, NULL, 10) : UINT64_MAX;
    *ret_start_time = start ? strtoull(start, NULL, 10) : 0;
}

static const char *environment_value(const struct oci_strings *env, const char *name)
{
    size_t length = strlen(name);

    for (size_t i = 0; i < env->length; i++)
        if (strncmp(env->items[i], name, length) == 0 && env->items[i][length] == '=')
            return env->items[i] + length + 1;
    return NULL;
}

/* The program's environment: the configuration's, a HOME where it has none, as programs rely on,
 * and the number of descriptors it was passed by socket activation. */
static const char **make_environment(const struct oci_process *process, unsigned listen_fds)
{
    const struct oci_strings *env = &process->env;
    const char **items = calloc(env->length + 4, sizeof(*items));
    CLEANUP(freep) char *home = NULL;
    size_t length = env->length;
    char *variable;

    if (!items)
        return NULL;
    for (size_t i = 0; i < env->length; i++)
        items[i] = env->items[i];
    if (listen_fds) {
        if (asprintf(&variable, "LISTEN_FDS=%u", listen_fds) < 0)
            return NULL;
        items[length++] = variable;
        items[length++] = "LISTEN_PID=1";
    }
    if (environment_value(env, "HOME"))
        return items;
    if (!(home = passwd_home(process->uid)) || asprintf(&variable, "HOME=%s", home) < 0)
        return NULL;
    items[length] = variable;
    return items;
}

/* execvp with the container's own PATH. What it allocates lives until the process is replaced. */
static int execute(const struct oci_process *process, unsigned listen_fds, struct err *err)
{
    const char *program = process->args.items[0];
    const char *path = environment_value(&process->env, "PATH");
    char *const *argv = (char *const *)(uintptr_t)process->args.items;
    char *const *envp = (char *const *)(uintptr_t)make_environment(process, listen_fds);
    int first = -ENOENT;

    if (!envp)
        return err_set(err, -ENOMEM, "environment: out of memory");
    if (!path)
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    if (strchr(program, '/')) {
        execve(program, argv, envp);
        return err_errno(err, -errno, "execute '%s'", program);
    }
    while (*path) {
        size_t length = strcspn(path, ":");
        char candidate[4096];
        int n = snprintf(candidate, sizeof(candidate), "%.*s/%s", (int)length, length ? path : ".",
                         program);

        path += length + (path[length] == ':');
        if (n < 0 || (size_t)n >= sizeof(candidate))
            continue;
        execve(candidate, argv, envp);
        if (errno != ENOENT && errno != ENOTDIR && first == -ENOENT)
            first = -errno;
    }
    return first == -ENOENT
               ? err_set(err, first, "execute '%s': executable file not found in $PATH", program)
               : err_errno(err, first, "execute '%s'", program);
}

/* A process that cannot be looked into cannot write its own files in /proc from inside a user
 * namespace; that one keeps others out by itself. */
bool init_shares_processes(const struct oci_spec *spec)
{
    const struct oci_namespace *pids = oci_spec_namespace(spec, CLONE_NEWPID);

    return (!pids || pids->path) && !oci_spec_namespace(spec, CLONE_NEWUSER);
}

static int set_up(struct init_arguments *a, struct err *err)
{
    const struct oci_process *process = &a->spec->process;
    CLEANUP(fd_closep) int master = -1;
    int result;

    /* In no time namespace of the container's. */
    read_own_stat(a, &a->state->pid_start_time);
    /* A session of our own, so that a terminal can become ours and signals of the caller's do not
     * reach us. */
    if (setsid() < 0)
        return err_errno(err, -errno, "make a session");
    if (a->own_namespaces && unshare(a->own_namespaces) < 0)
        return err_errno(err, -errno, "make the container's namespaces (%#x)",
                         (unsigned)a->own_namespaces);
    if ((result = enter_cgroup(a, err)) < 0 || (result = join_namespaces(a, err)) < 0 ||
        (result = enter_user_namespace(a, err)) < 0 ||
        (result = enter_time_namespace(a->spec, err)) < 0 || (result = set_names(a->spec, err)) < 0)
        return result;
    if ((result = adjust_oom_score(process, err)) < 0)
        return result;
    a->label_fd = process_attributes_open_label(process, err);
    if (a->label_fd < -1)
        return a->label_fd;
    umask(0);
    if ((result = build_root(a, &master, err)) < 0)
        return result;
    umask(process->umask);
    if (a->runs_by_itself && (result = state_save_pid(a->state_file_fd, a->state, err)) < 0)
        return result;
    /* The root may take more descriptors than the program is to have, and the record more room. */
    if ((result = limit_process(process, err)) < 0)
        return result;
    if (!a->runs_by_itself && (result = sync_send(a->socket, SYNC_READY, NULL, master)) < 0)
        return err_errno(err, result, "report to the runtime");
    return 0;
}

/*
 * All from `first` on but three (-1: none). Really, not only on exec: the working directory, the
 * program and its interpreter are looked up before that, and /proc/self/fd/N of an image would lead
 * through whatever is open (CVE-2024-21626).
 */
static int close_descriptors(unsigned first, int a, int b, int c)
{
    int kept[] = {a, b, c};

    for (;;) {
        unsigned next = ~0u;

        for (size_t i = 0; i < ARRAY_LEN(kept); i++)
            if (kept[i] >= 0 && (unsigned)kept[i] >= first && (unsigned)kept[i] < next)
                next = (unsigned)kept[i];
        if (next > first && close_range(first, next == ~0u ? next : next - 1, 0) < 0)
            return -errno;
        if (next == ~0u)
            return 0;
        first = next + 1;
    }
}

static bool runtime_is_gone(int socket)
{
    char byte;

    return recv(socket, &byte, sizeof(byte), MSG_DONTWAIT | MSG_PEEK) == 0;
}

static int finish(const struct init_arguments *a, struct err *err)
{
    const struct oci_process *process = &a->spec->process;
    unsigned first_closed = 3 + (unsigned)a->preserve_fds;
    bool listened = a->seccomp && a->seccomp->notify;
    /* Privileges go before the start where nothing needs them until then: the runtime writes its
     * record meanwhile. */
    bool early = listened || (!a->wait_on_fifo && (!a->seccomp || process->no_new_privileges) &&
                              !hooks_present(a->spec->hooks, HOOKS_START_CONTAINER));
    int result;

    /* Before a filter that may forbid them. */
    restore_signals(a->ignored_signals);
    /* It may be among those that are preserved. */
    if (a->self_fd >= 0)
        close(a->self_fd);
    if ((result = close_descriptors(first_closed, a->socket, a->wait_on_fifo ? a->state_fd : -1,
                                    a->label_fd)) < 0)
        return err_errno(err, result, "close descriptors");
    if ((early && (result = give_up_privileges(a, err)) < 0) ||
        (result = wait_for_start(a, err)) < 0)
        return result;
    /* From here on paths come from the image. */
    if (a->wait_on_fifo)
        close(a->state_fd);
    if ((!early && (result = give_up_privileges(a, err)) < 0) ||
        (result = enter_directory(process->cwd, err)) < 0)
        return result;
    /* After the change of user, which clears it. */
    if (a->die_with_parent && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return err_errno(err, -errno, "parent death signal");
    /* It may have died before that. */
    if (a->runs_by_itself && a->die_with_parent && runtime_is_gone(a->socket))
        return err_set(err, -EPIPE, "the runtime went away");
    if (!a->exec && reaper_is_wanted(a->spec)) {
        bool own_user = a->spec->nr_uid_maps == 1 && a->spec->uid_maps[0].size == 1 &&
                        a->spec->uid_maps[0].host_id != 0;

        result = reaper_fork(a->spec->process.terminal, own_user, a->socket, err);
        if (result < 0)
            return result;
    }
    if (a->seccomp && process->no_new_privileges && !listened &&
        (result = seccomp_install(a->seccomp, a->handover, err)) < 0)
        return result;
    return execute(process, a->listen_fds, err);
}

/* The container's namespaces, all at once, by the pidfd of its first process: no path of its /proc
 * is trusted. */
static int join_container(const struct init_arguments *a, struct err *err)
{
    if (a->join_flags && setns(a->container_pid_fd, a->join_flags) < 0)
        return err_errno(err, -errno, "join the container's namespaces (flags %#x)",
                         (unsigned)a->join_flags);
    if ((a->join_flags & CLONE_NEWUSER) && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
        return err_errno(err, -errno, "become root of the user namespace");
    if (chdir("/") < 0)
        return err_errno(err, -errno, "enter the root");
    return 0;
}

static int take_terminal(const struct oci_process *process, int *ret_master, struct err *err)
{
    CLEANUP(fd_closep) int root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(fd_closep) int slave = -1;
    int result;

    if (root_fd < 0)
        return err_errno(err, -errno, "open the root");
    result = console_make(root_fd, process->console_width, process->console_height, ret_master,
                          &slave, err);
    if (result < 0 || (result = console_take(slave, err)) < 0)
        return result;
    if (fchown(slave, process->uid, (gid_t)-1) < 0 && errno != EINVAL && errno != EPERM)
        return err_errno(err, -errno, "terminal: owner");
    return 0;
}

static int set_up_exec(struct init_arguments *a, struct err *err)
{
    uint64_t start_time;
    const struct oci_process *process = &a->spec->process;
    CLEANUP(fd_closep) int master = -1;
    int result;

    if (setsid() < 0)
        return err_errno(err, -errno, "make a session");
    if ((result = process_attributes_set_affinity(process->affinity_initial, err)) < 0)
        return result;
    if (a->cgroup && (result = cgroup_join_self(a->cgroup, a->in_cgroup, err)) < 0)
        return result;
    if (a->sub_cgroup && (result = cgroup_join_self(a->sub_cgroup, false, err)) < 0)
        return result;
    if ((result = process_attributes_set_affinity(process->affinity_final, err)) < 0)
        return result;
    read_own_stat(a, &start_time);
    if ((result = adjust_oom_score(process, err)) < 0 || (result = limit_process(process, err)) < 0)
        return result;
    a->label_fd = process_attributes_open_label(process, err);
    if (a->label_fd < -1)
        return a->label_fd;
    if ((result = join_container(a, err)) < 0)
        return result;
    if (process->terminal && (result = take_terminal(process, &master, err)) < 0)
        return result;
    umask(process->umask);
    if ((result = sync_send(a->socket, SYNC_READY, NULL, master)) < 0)
        return err_errno(err, result, "report to the runtime");
    return 0;
}

__attribute__((noreturn)) static void finish_and_exit(const struct init_arguments *arguments,
                                                      int result, struct err *err)
{
    int status = 1;

    if (result == 0) {
        result = finish(arguments, err);
        if (strncmp(err->message, "execute '", 9) == 0)
            status = result == -ENOENT ? 127 : 126;
    }
    sync_send(arguments->socket, SYNC_FAILED, err, -1);
    _exit(status);
}

/* Where the runtime waits for us until the program is executed, it has the last one. */
static void leave_self_to_runtime(struct init_arguments *a)
{
    if (a->wait_on_fifo || a->self_fd < 0)
        return;
    close(a->self_fd);
    a->self_fd = -1;
}

void init_exec_main(const struct init_arguments *arguments)
{
    struct init_arguments a = *arguments;
    struct err err = ERR_INIT;

    leave_self_to_runtime(&a);
    finish_and_exit(&a, set_up_exec(&a, &err), &err);
}

void init_main(const struct init_arguments *arguments)
{
    struct init_arguments a = *arguments;
    struct err err = ERR_INIT;

    leave_self_to_runtime(&a);
    finish_and_exit(&a, set_up(&a, &err), &err);
}
