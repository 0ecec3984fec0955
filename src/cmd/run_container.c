/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `lodge run` without --vm: an OCI bundle whose root is the image under a writable layer, run by
 * lodge-oci (or what $LODGE_OCI names).
 *
 * The overlay and its tmpfs are mounted in a mount namespace of our own: they end with the last of
 * our processes, however that ends.
 */
#include "cmd/run.h"
#include "cmd/run_attachment.h"
#include "cmd/run_network.h"
#include "network/network.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/mounts.h"
#include "base/size.h"
#include "cmd/terminal.h"
#include "launch/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct container {
    const struct run_context *context;
    const char *program;
    char root[PATH_MAX], config[PATH_MAX], pid_file[PATH_MAX], log[PATH_MAX];
    char lodge[PATH_MAX], resolv_conf[PATH_MAX]; /* of a user-mode network */
    pid_t runtime;
    int runtime_fd;
    int fatal_signal; /* with which we ended the container in the place of its default action */
    int waiting[8];   /* signals that came before the container had a process */
    unsigned nr_waiting;
};

static int private_mounts(struct err *err)
{
    int result;

    if (unshare(CLONE_NEWNS) < 0)
        return err_errno(err, -errno,
                         geteuid() == 0 ? "a mount namespace of our own"
                                        : "a mount namespace of our own (containers need "
                                          "root so far; --vm does not)");
    if ((result = mounts_set_propagation(MS_SLAVE)) < 0)
        return err_errno(err, result, "keep our mounts to ourselves");
    return 0;
}

/*
 * "lowerdir=/proc/self/fd/4:/proc/self/fd/3": by descriptor, since a path may hold what overlay's
 * options split at, and since as many paths would not fit. Opened anew: overlay takes what belongs
 * to our own mount namespace only.
 */
static int open_lower(const struct image *image, int *fds, char *text, size_t size, struct err *err)
{
    size_t length = (size_t)snprintf(text, size, "lowerdir=");

    for (size_t i = 0; i < image->nr_layers; i++) {
        fds[i] = open(image->layers[i].path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fds[i] < 0)
            return err_errno(err, -errno, "open '%s'", image->layers[i].path);
        length += (size_t)snprintf(text + length, size - length, "%s/proc/self/fd/%d", i ? ":" : "",
                                   fds[i]);
        if (length >= size)
            return err_set(err, -E2BIG, "image '%s' has too many layers", image->name);
    }
    return 0;
}

static int mount_layers(const struct run_context *context, int *lower_fds, struct err *err)
{
    const struct image *image = context->image;
    char layer[PATH_MAX], upper[PATH_MAX + 8], work[PATH_MAX + 8], root[PATH_MAX];
    char lower[IMAGE_LAYERS_MAX * 24 + 16], options[sizeof(lower) + 2 * PATH_MAX + 48];
    struct stat st;
    int result;

    if ((result = open_lower(image, lower_fds, lower, sizeof(lower), err)) < 0 ||
        (result = run_dir_path(context->dir, "layer", layer, err)) < 0 ||
        (result = run_dir_path(context->dir, "rootfs", root, err)) < 0)
        return result;
    if (fstat(lower_fds[0], &st) < 0)
        return err_errno(err, -errno, "open '%s'", image->rootfs);
    snprintf(upper, sizeof(upper), "%s/upper", layer);
    snprintf(work, sizeof(work), "%s/work", layer);
    if (mkdir(layer, 0700) < 0 || mkdir(root, 0755) < 0 ||
        mount("lodge", layer, "tmpfs", MS_NODEV, "mode=700,size=50%") < 0 ||
        mkdir(upper, 0755) < 0 || mkdir(work, 0700) < 0 || chown(upper, st.st_uid, st.st_gid) < 0 ||
        chmod(upper, st.st_mode & 07777) < 0)
        return err_errno(err, -errno, "make a writable layer in '%s'", context->dir->path);
    snprintf(options, sizeof(options), "%s,upperdir=%s,workdir=%s", lower, upper, work);
    if (mount("overlay", root, "overlay", 0, options) < 0)
        return err_errno(err, -errno, "mount an overlay over '%s'", image->rootfs);
    return 0;
}

static int mount_root(const struct run_context *context, struct err *err)
{
    int lower_fds[IMAGE_LAYERS_MAX], result;

    for (size_t i = 0; i < IMAGE_LAYERS_MAX; i++)
        lower_fds[i] = -1;
    result = mount_layers(context, lower_fds, err);
    for (size_t i = 0; i < IMAGE_LAYERS_MAX; i++)
        fd_closep(&lower_fds[i]);
    return result;
}

static void unmount_root(const struct run_context *context)
{
    char path[PATH_MAX];

    if (run_dir_path(context->dir, "rootfs", path, NULL) == 0)
        umount2(path, MNT_DETACH);
    if (run_dir_path(context->dir, "layer", path, NULL) == 0)
        umount2(path, MNT_DETACH);
}

static _Noreturn void child_main(const struct container *c, pid_t parent)
{
    const struct run_context *context = c->context;
    const char *name = strrchr(c->program, '/');
    const char *argv[16] = {c->program, "--root",           c->root,      "--log",
                            c->log,     "--log-format",     "json",       "run",
                            "--bundle", context->dir->path, "--pid-file", c->pid_file};
    size_t nr = 12;
    sigset_t none;

    if (!strcmp(name ? name + 1 : c->program, "lodge-oci"))
        argv[nr++] = "--exit-with-parent";
    else
        prctl(PR_SET_PDEATHSIG, SIGTERM);
    argv[nr++] = context->dir->id;
    if (getppid() != parent)
        _exit(125);
    /* Unless it has our terminal in raw mode, it must not get a Ctrl-C there from the kernel as
     * well as from us. */
    if (!(context->options->tty && context->options->stdin_open))
        setpgid(0, 0);
    if (!context->options->stdin_open) {
        int null = open("/dev/null", O_RDONLY);

        dup2(null, STDIN_FILENO);
    }
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv(c->program, (char **)(uintptr_t)argv);
    fprintf(stderr, "lodge: cannot run '%s': %s\n", c->program, strerror(errno));
    _exit(125);
}

static pid_t first_process(const struct container *c)
{
    CLEANUP(buf_donep) struct buf text;

    buf_init(&text, 64);
    if (file_load(AT_FDCWD, c->pid_file, &text, NULL) < 0)
        return 0;
    return (pid_t)strtol(buf_string(&text) ?: "", NULL, 10);
}

/* Does the signal's number stand in that mask of /proc/PID/status? */
static bool mask_has(const char *status, const char *name, int number)
{
    const char *line = strstr(status, name);

    return line && (strtoull(line + strlen(name), NULL, 16) >> (number - 1) & 1);
}

/*
 * The first process of a PID namespace has no default actions: a signal it does not handle is lost,
 * and Ctrl-C would do nothing. So the default action is ours to take.
 */
static void pass_on(struct container *c, int number)
{
    CLEANUP(buf_donep) struct buf status;
    pid_t pid = first_process(c);
    char path[64];
    const char *text;

    buf_init(&status, 64 << 10);
    if (pid <= 1) {
        if (c->nr_waiting < sizeof(c->waiting) / sizeof(c->waiting[0]))
            c->waiting[c->nr_waiting++] = number;
        return;
    }
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    if (file_load(AT_FDCWD, path, &status, NULL) < 0 || !(text = buf_string(&status)))
        return;
    if (mask_has(text, "SigIgn:", number))
        return;
    if (mask_has(text, "SigCgt:", number) || mask_has(text, "SigBlk:", number)) {
        kill(pid, number);
        return;
    }
    if (number == SIGCONT || number == SIGURG || number == SIGWINCH || number == SIGCHLD)
        return;
    c->fatal_signal = number;
    kill(pid, SIGKILL);
}

static void handle_signal(struct container *c)
{
    struct signalfd_siginfo info;

    if (read(c->context->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    if (info.ssi_signo == SIGWINCH)
        kill(c->runtime, SIGWINCH);
    else if (info.ssi_signo != SIGCHLD)
        pass_on(c, (int)info.ssi_signo);
}

static void retry_waiting(struct container *c)
{
    unsigned nr = c->nr_waiting;

    c->nr_waiting = 0;
    for (unsigned i = 0; i < nr; i++)
        pass_on(c, c->waiting[i]);
}

static int wait_end(struct container *c)
{
    int status = 0;

    for (;;) {
        struct pollfd fds[] = {{.fd = c->runtime_fd, .events = POLLIN},
                               {.fd = c->context->signal_fd, .events = POLLIN}};

        if (poll(fds, 2, c->nr_waiting ? 5 : -1) < 0 && errno != EINTR)
            break;
        if (fds[0].revents)
            break;
        if (fds[1].revents)
            handle_signal(c);
        else if (c->nr_waiting)
            retry_waiting(c);
    }
    while (waitpid(c->runtime, &status, 0) < 0 && errno == EINTR)
        continue;
    close(c->runtime_fd);
    return status;
}

/* The runtime's own failure, which it wrote to its log as well as to standard error. */
static bool runtime_failed(const struct container *c)
{
    struct stat st;

    return stat(c->log, &st) == 0 && st.st_size > 0;
}

/* A runtime that was killed left its container to us. */
static void remove_leftovers(const struct container *c)
{
    char state[PATH_MAX + 80];
    pid_t pid;

    snprintf(state, sizeof(state), "%s/%s", c->root, c->context->dir->id);
    if (access(state, F_OK) < 0)
        return;
    if ((pid = fork()) == 0) {
        execl(c->program, c->program, "--root", c->root, "delete", "--force", c->context->dir->id,
              (char *)NULL);
        _exit(127);
    }
    if (pid > 0)
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            continue;
}

static int finish(struct container *c, int status, int *ret_status, struct err *err)
{
    remove_leftovers(c);
    if (c->fatal_signal) {
        *ret_status = 128 + c->fatal_signal;
        return 0;
    }
    if (WIFSIGNALED(status))
        return err_set(err, -EIO, "the container's runtime was killed by signal %d",
                       WTERMSIG(status));
    *ret_status = WEXITSTATUS(status);
    if (runtime_failed(c) && *ret_status != 126 && *ret_status != 127)
        *ret_status = 125;
    return 0;
}

/* A user-mode network: lodge itself is the hook that makes it. */
static int user_network(struct container *c, struct bundle *bundle, struct buf *text,
                        struct err *err)
{
    char lines[4096] = "";
    ssize_t n = readlink("/proc/self/exe", c->lodge, sizeof(c->lodge) - 1);
    int result;

    if (n < 0)
        return err_errno(err, -errno, "find ourselves");
    c->lodge[n] = '\0';
    network_user_resolv_conf(lines, sizeof(lines));
    if ((result = run_dir_path(c->context->dir, "resolv.conf", c->resolv_conf, err)) < 0 ||
        (result = file_replace_unsynced(AT_FDCWD, c->resolv_conf, lines, strlen(lines), 0644,
                                        err)) < 0 ||
        (result = run_network_user_text(c->context->options, text, err)) < 0)
        return result;
    bundle->resolv_conf = c->resolv_conf;
    bundle->network_program = c->lodge;
    bundle->network_text = buf_string(text);
    return bundle->network_text ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int write_bundle(struct container *c, struct err *err)
{
    const struct run_context *context = c->context;
    const struct run_options *options = context->options;
    struct bundle_volume volumes[RUN_VOLUMES_MAX];
    CLEANUP(buf_donep) struct buf text;
    char cgroup[128], root[PATH_MAX];
    int result;
    struct bundle bundle = {
        .command = context->command,
        .image_root = root, /* where the image's layers are mounted one over another */
        .hostname = context->hostname,
        .cgroup = cgroup,
        .tty = options->tty,
        .volumes = volumes,
        .nr_volumes = options->nr_volumes,
        .limits = {.memory_bytes = options->memory_bytes,
                   .cpu_quota_us = options->nr_cpus * BUNDLE_CPU_PERIOD_US},
    };

    buf_init(&text, 1 << 16);
    if (run_dir_path(context->dir, "rootfs", root, err) < 0)
        return err->code;
    snprintf(cgroup, sizeof(cgroup), "/lodge/%s", context->dir->id);
    for (size_t i = 0; i < options->nr_volumes; i++)
        volumes[i] = (struct bundle_volume){options->volumes[i].source, options->volumes[i].target,
                                            options->volumes[i].read_only};
    if (context->attachment) {
        bundle.network_namespace = run_attachment_path(context->attachment);
        bundle.resolv_conf = run_attachment_resolv_conf(context->attachment);
    }
    if (run_network_is_user(options->network) &&
        (result = user_network(c, &bundle, &text, err)) < 0)
        return result;
    if (options->tty)
        terminal_size(&bundle.rows, &bundle.cols);
    return bundle_write(&bundle, c->config, err);
}

static int run_mounted(struct container *c, int *ret_status, struct err *err)
{
    struct terminal terminal;
    pid_t parent = getpid();
    int result, status;

    if (c->context->attachment &&
        (result = run_attachment_namespace(c->context->attachment, c->context, err)) < 0)
        return result;
    if ((result = write_bundle(c, err)) < 0) {
        /* As in a VM, where only the guest can tell. */
        if (result == -ESRCH)
            *ret_status = 126;
        return result;
    }
    /* Orphans of a killed runtime come to us, and end with it. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    terminal_save(&terminal);
    if ((c->runtime = fork()) == 0)
        child_main(c, parent);
    if (c->runtime < 0 || (c->runtime_fd = (int)syscall(SYS_pidfd_open, c->runtime, 0)) < 0)
        return err_errno(err, -errno, "start '%s'", c->program);
    status = wait_end(c);
    terminal_restore(&terminal);
    return finish(c, status, ret_status, err);
}

int run_container(const struct run_context *context, const char *oci_program, int *ret_status,
                  struct err *err)
{
    struct container c = {.context = context, .program = oci_program};
    int result;

    if ((result = run_dir_path(context->dir, "oci", c.root, err)) < 0 ||
        (result = run_dir_path(context->dir, "config.json", c.config, err)) < 0 ||
        (result = run_dir_path(context->dir, "pid", c.pid_file, err)) < 0 ||
        (result = run_dir_path(context->dir, "log", c.log, err)) < 0 ||
        (result = private_mounts(err)) < 0)
        return result;
    if ((result = mount_root(context, err)) == 0)
        result = run_mounted(&c, ret_status, err);
    unmount_root(context);
    return result;
}
