/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Restoring. Around the processes everything is made as for a new container: state, cgroup, root.
 * CRIU runs inside the cgroup and in a mount namespace of its own, where the root is attached:
 * whatever happens to it, no mount is left on the host.
 *
 *   runtime                               CRIU                          first process
 *     state, cgroup ── fork ───────────▶ joins the cgroup; root
 *     RESTORE ─────────────────────────▶ clones (as our child) ───────▶ namespaces, memory, files
 *     hooks ◀── setup-namespaces ──────
 *     terminal ◀── orphan-pts-master ──
 *     pid into state.json ◀── answer ──  ends                           goes on where it was
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/util.h"
#include "oci/cgroup.h"
#include "oci/checkpoint.h"
#include "oci/checkpoint_parts.h"
#include "oci/console.h"
#include "oci/container_hooks.h"
#include "oci/container_making.h"
#include "oci/foreground.h"
#include "oci/inroot.h"
#include "oci/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define LOG_NAME             "restore.log"
#define DESCRIPTORS_SIZE_MAX (64 * KIB)

/* One container while it is restored. */
struct restoring {
    struct making m;
    const struct checkpoint_options *options;
    struct checkpoint_directories directories;
    struct criu_options request;
    int network_fd, pids_fd; /* namespaces joined by path; -1: none */
    int streams[3];          /* copies of ours for the container; -1: none */
};

static void restoring_done(struct restoring *r)
{
    making_done(&r->m);
    checkpoint_close(&r->directories);
    criu_options_done(&r->request);
    fd_closep(&r->network_fd);
    fd_closep(&r->pids_fd);
    for (size_t i = 0; i < ARRAY_LEN(r->streams); i++)
        fd_closep(&r->streams[i]);
}

static int add_mount(void *opaque, const char *place, const char *host, struct err *err)
{
    struct restoring *r = opaque;

    (void)err;
    criu_options_pair(&r->request, CRIU_EXTERNAL_MOUNT, place, host);
    return 0;
}

static int open_namespace(const char *path, int *ret, const char *key, struct restoring *r,
                          struct err *err)
{
    *ret = open(path, O_RDONLY | O_CLOEXEC);
    if (*ret < 0)
        return err_errno(err, -errno, "namespace '%s'", path);
    criu_options_inherit(&r->request, key, *ret);
    return 0;
}

static int add_namespaces(struct restoring *r, struct err *err)
{
    int result = 0;

    for (size_t i = 0; result == 0 && i < r->m.spec->nr_namespaces; i++) {
        const struct oci_namespace *ns = &r->m.spec->namespaces[i];

        if (!ns->path)
            continue;
        if (ns->flag == CLONE_NEWNET)
            result = open_namespace(ns->path, &r->network_fd, CHECKPOINT_NETWORK, r, err);
        else if (ns->flag == CLONE_NEWPID)
            result = open_namespace(ns->path, &r->pids_fd, CHECKPOINT_PIDS, r, err);
        else if (ns->flag == CLONE_NEWIPC || ns->flag == CLONE_NEWUTS)
            criu_options_pair(&r->request, CRIU_JOIN_NAMESPACE,
                              ns->flag == CLONE_NEWIPC ? "ipc" : "uts", ns->path);
        else
            result = err_set(err, -ENOTSUP,
                             "namespace '%s': only network, pid, ipc and uts "
                             "namespaces can be joined by a restored container",
                             ns->path);
    }
    return result;
}

/* Our own streams where the image's led out of the container: copies, because CRIU has uses of its
 * own for 0, 1 and 2. */
static int add_streams(struct restoring *r, struct err *err)
{
    CLEANUP(json_decrefp) json_t *list = NULL;
    CLEANUP(buf_donep) struct buf text;
    int result;

    buf_init(&text, DESCRIPTORS_SIZE_MAX);
    if ((result = file_load(r->directories.image, CHECKPOINT_DESCRIPTORS, &text, err)) < 0 ||
        (result = json_parse(text.data, text.length, CHECKPOINT_DESCRIPTORS, &list, err)) < 0)
        return err_wrap(err, "image path '%s'", r->options->image_path);
    for (int number = 0; number < 3; number++) {
        const char *key = json_string_value(json_array_get(list, (size_t)number));

        if (!key || (strncmp(key, "pipe:", 5) != 0 && strncmp(key, "file[", 5) != 0))
            continue;
        if ((r->streams[number] = fcntl(number, F_DUPFD_CLOEXEC, 3)) < 0)
            return err_errno(err, -errno, "standard stream %d", number);
        criu_options_inherit(&r->request, key, r->streams[number]);
    }
    return 0;
}

/* CRIU makes the cgroups of the image below these. */
static void add_cgroup_roots(struct restoring *r)
{
    const struct cgroup *cgroup = r->m.cgroup;

    for (unsigned i = 0; cgroup && i < cgroup->nr_hierarchies; i++) {
        const struct cgroup_hierarchy *hierarchy = &cgroup->hierarchies[i];
        CLEANUP(freep) char *names = strdup(hierarchy->name);
        char *save = NULL;

        if ((hierarchy->fd < 0 && !hierarchy->unopened) || !names)
            continue;
        if (hierarchy->v2) {
            criu_options_pair(&r->request, CRIU_CGROUP_ROOT, "", cgroup->path);
            continue;
        }
        for (char *name = strtok_r(names, ",", &save); name; name = strtok_r(NULL, ",", &save))
            criu_options_pair(&r->request, CRIU_CGROUP_ROOT,
                              strcmp(name, "systemd") == 0 ? "name=systemd" : name, cgroup->path);
    }
}

static int describe(struct restoring *r, struct err *err)
{
    const struct checkpoint_options *options = r->options;
    int result = checkpoint_common(options, &r->directories, LOG_NAME, &r->request, err);

    if (result < 0)
        return result;
    criu_options_text(&r->request, CRIU_ROOT, r->m.rootfs);
    criu_options_flag(&r->request, CRIU_RESTORE_SIBLING, true);
    criu_options_text(&r->request, CRIU_LSM_PROFILE, options->lsm_profile);
    criu_options_text(&r->request, CRIU_LSM_MOUNT_CONTEXT, options->lsm_mount_context);
    add_cgroup_roots(r);
    criu_options_pair(&r->request, CRIU_EXTERNAL_MOUNT, "/dev/null", "/dev/null");
    if ((result = add_namespaces(r, err)) < 0 || (result = add_streams(r, err)) < 0 ||
        (result = checkpoint_each_mount(r->m.spec, r->m.bundle, r->m.state->cgroup_path, add_mount,
                                        r, err)) < 0)
        return result;
    return r->request.result < 0 ? err_errno(err, r->request.result, "options for CRIU") : 0;
}

/* Is there a mount of the configuration's above this one? Then its mount point is in the image. */
static bool is_below_a_mount(const struct oci_spec *spec, const struct oci_mount *mount)
{
    for (const struct oci_mount *other = spec->mounts; other < mount; other++) {
        size_t length = strlen(other->destination);

        if (strncmp(mount->destination, other->destination, length) == 0 &&
            mount->destination[length] == '/')
            return true;
    }
    return false;
}

/* The root may be a fresh one, without the mount points that the first start made. */
static int make_mount_points(const struct making *m, int root_fd, struct err *err)
{
    for (size_t i = 0; i < m->spec->nr_mounts; i++) {
        const struct oci_mount *mount = &m->spec->mounts[i];
        CLEANUP(fd_closep) int made = -1;
        struct stat st;

        if (is_below_a_mount(m->spec, mount))
            continue;
        /* Where other things rely on what is there, no symlink may lead away. */
        if (mount->type && (strcmp(mount->type, "proc") == 0 || strcmp(mount->type, "sysfs") == 0))
            made = inroot_make_directory_plain(root_fd, mount->destination);
        else if (mount->source && fstatat(m->bundle_fd, mount->source, &st, 0) == 0 &&
                 !S_ISDIR(st.st_mode) && mount->source[0] == '/')
            made = inroot_make_file(root_fd, mount->destination);
        else
            made = inroot_make_directory(root_fd, mount->destination);
        if (made < 0)
            return err_errno(err, made, "mount '%s': mount point", mount->destination);
    }
    return 0;
}

/* CRIU mounts in its working directory, so that has to be one of its own mount namespace. */
static int reopen(const char *path, int fd, struct err *err)
{
    CLEANUP(fd_closep)
    int again = path && fd >= 0 ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (!path || fd < 0)
        return 0;
    if (again < 0 || dup2(again, fd) < 0)
        return err_errno(err, -errno, "'%s'", path);
    return 0;
}

/* In CRIU's process. */
static int prepare(void *opaque, struct err *err)
{
    struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};
    struct restoring *r = opaque;
    CLEANUP(fd_closep) int root_fd = -1;
    int result;

    if (r->m.cgroup && (result = cgroup_join_self(r->m.cgroup, false, err)) < 0)
        return result;
    if (unshare(CLONE_NEWNS) < 0)
        return err_errno(err, -errno, "make a mount namespace");
    if ((result = reopen(r->options->image_path, r->directories.image, err)) < 0 ||
        (result = reopen(r->options->work_path, r->directories.work, err)) < 0)
        return result;
    if ((result = mount_root(r->m.spec, r->m.rootfs, &root_fd, err)) < 0)
        return result;
    if ((result = make_mount_points(&r->m, root_fd, err)) < 0)
        return result;
    /* CRIU leaves the root's attributes to us. */
    if (r->m.spec->root_read_only &&
        mount_setattr(root_fd, "", AT_EMPTY_PATH, &read_only, sizeof(read_only)) < 0)
        return err_errno(err, -errno, "make the root read-only");
    return 0;
}

static int on_notify(void *opaque, const char *script, pid_t pid, int *fd, struct err *err)
{
    struct restoring *r = opaque;

    if (strcmp(script, "orphan-pts-master") == 0 && *fd >= 0) {
        fd_closep(&r->m.master);
        r->m.master = TAKE_FD(*fd);
    } else if (strcmp(script, "setup-namespaces") == 0 && r->m.spec->hooks) {
        r->m.hooks_begun = true;
        return container_hooks_created(r->m.spec->hooks, r->m.state, pid, err);
    }
    return 0;
}

static int run_criu(struct restoring *r, struct err *err)
{
    const int fds[] = {r->directories.image, r->directories.work, r->options->status_fd,
                       r->network_fd,        r->pids_fd,          r->streams[0],
                       r->streams[1],        r->streams[2]};
    struct criu_start start = {.program = r->options->criu,
                               .fds = fds,
                               .nr_fds = ARRAY_LEN(fds),
                               .prepare = prepare,
                               .opaque = r};
    struct criu criu = {.socket = -1};
    int result = criu_start(&start, &criu, err);

    if (result == 0) {
        result = criu_request(&criu, CRIU_RESTORE, &r->request.fields, on_notify, r, &r->m.pid,
                              err);
        if (result < 0)
            checkpoint_explain(r->options, &r->directories, LOG_NAME, err);
    }
    criu_stop(&criu);
    return result;
}

static int make(struct restoring *r, struct err *err)
{
    struct making *m = &r->m;
    int result;

    if ((result = checkpoint_open(r->options, false, &r->directories, err)) < 0 ||
        (result = making_load_bundle(m, err)) < 0)
        return result;
    if (oci_spec_annotation(m->spec, "io.lodge.overlay.lower") &&
        !oci_spec_annotation(m->spec, "io.lodge.overlay.upper"))
        return err_set(err, -ENOTSUP,
                       "root: an overlay whose upper layer is in memory "
                       "(io.lodge.overlay.size) cannot be restored");
    if ((result = making_state(m, err)) < 0 ||
        (result = container_hooks_save(m->state_fd, m->spec->hooks, err)) < 0 ||
        (result = making_cgroup(m, err)) < 0 || (result = making_rdt(m, err)) < 0 ||
        (result = describe(r, err)) < 0 || (result = run_criu(r, err)) < 0)
        return result;
    if (m->pid <= 0)
        return err_set(err, -EPROTO, "CRIU did not say which process it restored");
    m->pid_fd = (int)syscall(SYS_pidfd_open, m->pid, 0);
    if (m->pid_fd < 0)
        return err_errno(err, -errno, "the restored process %d", (int)m->pid);
    if ((result = making_record_pid(m, err)) < 0)
        return result;
    m->hooks_begun = m->spec->hooks != NULL;
    if (m->master >= 0 && m->options->console_socket)
        return console_send(m->options->console_socket, m->master, err);
    return 0;
}

static int run(struct restoring *r, int *ret_status, struct err *err)
{
    const struct container_options *options = r->m.options;
    int result = make(r, err);

    if (result < 0) {
        making_undo(&r->m);
        return result;
    }
    *ret_status = 0;
    if (options->detach)
        return 0;
    if (r->m.master >= 0 && !options->console_socket)
        console_copy_size(r->m.master);
    result = foreground_wait(r->m.pid, r->m.pid_fd, options->console_socket ? -1 : r->m.master,
                             NULL, ret_status, err);
    r->m.pid = 0;
    if (!options->keep)
        making_undo(&r->m);
    return result;
}

int container_restore(const struct container_options *container,
                      const struct checkpoint_options *options, int *ret_status, struct err *err)
{
    CLEANUP(restoring_done)
    struct restoring r = {.options = options,
                          .directories = {-1, -1},
                          .network_fd = -1,
                          .pids_fd = -1,
                          .streams = {-1, -1, -1}};
    sigset_t before;
    int result;

    making_init(&r.m, container);
    criu_options_init(&r.request);
    *ret_status = 1;
    foreground_hold_signals(&before);
    result = run(&r, ret_status, err);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return result < 0 ? err_wrap(err, "restore of container '%s'", container->id) : result;
}
