/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving: CRIU is told which mounts, files and namespaces of the container's processes come from
 * outside, because it can neither save nor make those. Mount points are compared by where they
 * really are: the configuration may name them by way of a symlink.
 */
#include "oci/checkpoint.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/size.h"
#include "base/util.h"
#include "oci/checkpoint_parts.h"
#include "oci/container_open.h"
#include "oci/inroot.h"
#include "oci/spec.h"
#include "oci/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define LOG_NAME      "dump.log"
#define MOUNTINFO_MAX (16 * MIB)

/* One container while it is saved. */
struct saving {
    const struct checkpoint_options *options;
    struct container_state *state;
    struct oci_spec *spec;
    struct checkpoint_directories directories;
    struct criu_options request;
    int root_fd; /* of the container */
};

static void saving_done(struct saving *s)
{
    state_free(s->state);
    oci_spec_free(s->spec);
    checkpoint_close(&s->directories);
    criu_options_done(&s->request);
    fd_closep(&s->root_fd);
}

/* Where path really is in the container; false when it is not there. */
static bool real_place(int root_fd, const char *path, char *ret, size_t size, struct stat *ret_stat)
{
    CLEANUP(fd_closep) int fd = inroot_open(root_fd, path, O_PATH);
    char link[64];
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    if (fd < 0 || fstat(fd, ret_stat) < 0 || (n = readlink(link, ret, size - 1)) < 0)
        return false;
    ret[n] = '\0';
    return true;
}

static int add_mount(void *opaque, const char *place, const char *host, struct err *err)
{
    struct saving *s = opaque;
    char real[PATH_MAX];
    struct stat st;

    (void)host;
    (void)err;
    if (real_place(s->root_fd, place, real, sizeof(real), &st))
        criu_options_pair(&s->request, CRIU_EXTERNAL_MOUNT, real, place);
    return 0;
}

/* Masked files are covered by the host's null device; masked directories by a tmpfs, which is the
 * container's own. */
static void add_masks(struct saving *s)
{
    for (size_t i = 0; i < s->spec->masked_paths.length; i++) {
        char real[PATH_MAX];
        struct stat st;

        if (real_place(s->root_fd, s->spec->masked_paths.items[i], real, sizeof(real), &st) &&
            S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3))
            criu_options_pair(&s->request, CRIU_EXTERNAL_MOUNT, real, "/dev/null");
    }
}

static int add_namespaces(struct saving *s, struct err *err)
{
    static const struct {
        int flag;
        const char *file, *name;
    } kinds[] = {{CLONE_NEWNET, "net", CHECKPOINT_NETWORK}, {CLONE_NEWPID, "pid", CHECKPOINT_PIDS}};

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        const struct oci_namespace *ns = oci_spec_namespace(s->spec, kinds[i].flag);
        char path[64], text[96];
        struct stat st;

        if (!ns || !ns->path)
            continue;
        snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)s->state->pid, kinds[i].file);
        if (stat(path, &st) < 0)
            return err_errno(err, -errno, "namespace '%s'", path);
        snprintf(text, sizeof(text), "%s[%llu]:%s", kinds[i].file, (unsigned long long)st.st_ino,
                 kinds[i].name);
        criu_options_text(&s->request, CRIU_EXTERNAL, text);
    }
    return 0;
}

/* Is a mount with that id in the container's mount namespace? */
static bool has_mount(const char *mountinfo, unsigned long id)
{
    for (const char *line = mountinfo; line && *line;) {
        if (strtoul(line, NULL, 10) == id)
            return true;
        if ((line = strchr(line, '\n')))
            line++;
    }
    return false;
}

static bool mount_id_of(pid_t pid, int number, unsigned long *ret)
{
    CLEANUP(buf_donep) struct buf text;
    char path[64], *member;

    buf_init(&text, 64 * KIB);
    snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)pid, number);
    if (file_load(AT_FDCWD, path, &text, NULL) < 0 || !buf_string(&text) ||
        !(member = strstr(text.data, "mnt_id:")))
        return false;
    *ret = strtoul(member + strlen("mnt_id:"), NULL, 10);
    return true;
}

/* What `restore` has to put in this standard stream's place: CRIU's name for the pipe, or for a
 * file whose mount is not the container's; otherwise where it leads, for the reader. */
static json_t *describe_stream(struct saving *s, const char *mountinfo, int number)
{
    char path[64], target[PATH_MAX] = "", key[96];
    unsigned long mount_id;
    struct stat st;
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)s->state->pid, number);
    n = readlink(path, target, sizeof(target) - 1);
    target[n > 0 ? n : 0] = '\0';
    if (target[0] == '/' && stat(path, &st) == 0 && mount_id_of(s->state->pid, number, &mount_id) &&
        !has_mount(mountinfo, mount_id)) {
        snprintf(key, sizeof(key), "file[%lx:%llx]", mount_id, (unsigned long long)st.st_ino);
        criu_options_text(&s->request, CRIU_EXTERNAL, key);
        return json_string(key);
    }
    return json_string(target);
}

static int save_streams(struct saving *s, struct err *err)
{
    CLEANUP(json_decrefp) json_t *list = json_array();
    CLEANUP(freep) char *text = NULL;
    CLEANUP(buf_donep) struct buf mountinfo;
    char path[64];
    int result;

    buf_init(&mountinfo, MOUNTINFO_MAX);
    snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)s->state->pid);
    if ((result = file_load(AT_FDCWD, path, &mountinfo, err)) < 0)
        return result;
    if (!buf_string(&mountinfo))
        return err_set(err, -ENOMEM, "checkpoint: out of memory");
    for (int number = 0; number < 3; number++)
        json_array_append_new(list, describe_stream(s, mountinfo.data, number));
    if (s->options->pre_dump)
        return 0;
    if (!(text = json_text(list, JSON_COMPACT)))
        return err_set(err, -ENOMEM, "checkpoint: out of memory");
    return file_replace(s->directories.image, CHECKPOINT_DESCRIPTORS, text, strlen(text), 0600,
                        err);
}

/* A container that is paused already stays so; CRIU uses the same freezer. */
static void add_freezer(struct saving *s)
{
    char path[PATH_MAX];
    static const char *const places[][2] = {{"/sys/fs/cgroup/freezer", "freezer.state"},
                                            {"/sys/fs/cgroup", "cgroup.freeze"},
                                            {"/sys/fs/cgroup/unified", "cgroup.freeze"}};

    for (size_t i = 0; s->state->cgroup_path && i < ARRAY_LEN(places); i++) {
        char file[PATH_MAX + 32];

        snprintf(path, sizeof(path), "%s%s", places[i][0], s->state->cgroup_path);
        snprintf(file, sizeof(file), "%s/%s", path, places[i][1]);
        if (access(file, F_OK) == 0) {
            criu_options_text(&s->request, CRIU_FREEZE_CGROUP, path);
            return;
        }
    }
}

/* "ADDRESS:PORT"; the address may be IPv6 in brackets. */
static int add_page_server(struct saving *s, struct err *err)
{
    CLEANUP(freep) char *copy = s->options->page_server ? strdup(s->options->page_server) : NULL;
    char *colon = copy ? strrchr(copy, ':') : NULL;
    uint64_t port;
    int result;

    if (!s->options->page_server)
        return 0;
    if (!colon || colon == copy)
        return err_set(err, -EINVAL, "--page-server: '%s' is not ADDRESS:PORT",
                       s->options->page_server);
    *colon = '\0';
    if ((result = number_parse(colon + 1, "--page-server: port", 1, 65535, &port, err)) < 0)
        return result;
    criu_options_page_server(&s->request, copy, port);
    return 0;
}

static int describe(struct saving *s, struct err *err)
{
    const struct checkpoint_options *options = s->options;
    int result = checkpoint_common(options, &s->directories, LOG_NAME, &s->request, err);

    if (result < 0)
        return result;
    criu_options_number(&s->request, CRIU_PID, (uint64_t)s->state->pid);
    criu_options_text(&s->request, CRIU_ROOT, s->state->rootfs);
    criu_options_flag(&s->request, CRIU_LEAVE_RUNNING, options->leave_running);
    criu_options_flag(&s->request, CRIU_TRACK_MEMORY, options->pre_dump);
    criu_options_text(&s->request, CRIU_PARENT_IMAGE, options->parent_path);
    add_freezer(s);
    if ((result = add_page_server(s, err)) < 0 || (result = add_namespaces(s, err)) < 0 ||
        (result = checkpoint_each_mount(s->spec, s->state->bundle, s->state->cgroup_path, add_mount,
                                        s, err)) < 0 ||
        (result = save_streams(s, err)) < 0)
        return result;
    add_masks(s);
    return s->request.result < 0 ? err_errno(err, s->request.result, "options for CRIU") : 0;
}

static int find_container(struct saving *s, const char *root, const char *id, struct err *err)
{
    CLEANUP(json_decrefp) json_t *config = NULL;
    CLEANUP(fd_closep) int dir_fd = -1;
    CLEANUP(fd_closep) int process = -1;
    enum container_status status;
    char path[64];
    int result = container_open(root, id, &dir_fd, &s->state, err);

    if (result < 0)
        return result;
    status = container_status(dir_fd, s->state);
    if (status != CONTAINER_RUNNING && status != CONTAINER_PAUSED)
        return err_set(err, -EINVAL, "container '%s' is %s; only a running one can be saved", id,
                       state_status_name(status));
    if ((result = container_load_config(s->state, &config, err)) < 0 ||
        (result = oci_spec_from_json(config, "checkpoint", &s->spec, err)) < 0)
        return result;
    snprintf(path, sizeof(path), "/proc/%d/root", (int)s->state->pid);
    s->root_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (s->root_fd < 0)
        return err_errno(err, -errno, "root of container '%s'", id);
    /* Still the same process, now that its root is open? */
    if ((process = container_open_process(s->state)) < 0)
        return err_set(err, -ESRCH, "container '%s' is not running", id);
    return 0;
}

static int run_criu(struct saving *s, struct err *err)
{
    const int fds[] = {s->directories.image, s->directories.work, s->options->status_fd};
    struct criu_start start = {.program = s->options->criu, .fds = fds, .nr_fds = ARRAY_LEN(fds)};
    struct criu criu = {.socket = -1};
    int result = criu_start(&start, &criu, err);

    if (result == 0) {
        result = criu_request(&criu, s->options->pre_dump ? CRIU_PRE_DUMP : CRIU_DUMP,
                              &s->request.fields, NULL, NULL, NULL, err);
        if (result < 0)
            checkpoint_explain(s->options, &s->directories, LOG_NAME, err);
    }
    criu_stop(&criu);
    return result;
}

int container_checkpoint(const char *root, const char *id, const struct checkpoint_options *options,
                         struct err *err)
{
    CLEANUP(saving_done)
    struct saving s = {.options = options, .directories = {-1, -1}, .root_fd = -1};
    int result;

    criu_options_init(&s.request);
    if ((result = find_container(&s, root, id, err)) < 0 ||
        (result = checkpoint_open(options, true, &s.directories, err)) < 0 ||
        (result = describe(&s, err)) < 0 || (result = run_criu(&s, err)) < 0)
        return err_wrap(err, "checkpoint of container '%s'", id);
    if (options->leave_running || options->pre_dump)
        return 0;
    return container_delete(root, id, true, err);
}
