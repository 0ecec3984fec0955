/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.json is replaced atomically (see state_save_first for its first version); the directory is
 * made first and removed last, so that its existence is the container's.
 *
 * It is one JSON document in three parts, so that `state` and `kill` need not parse a configuration
 * and a pid can be put in its place: HEAD_END ends the first line, the configuration follows as it
 * was (configBytes of the first line says how long), and the last line is TAIL. Of the tail, the
 * start time is written before the pid and read after it: whoever finds a pid finds its start time.
 */
#include "oci/state.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/util.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define STATE_FILE     "state.json"
#define STATE_SIZE_MAX (32 * MIB) /* the configuration is at most half of it */

#define HEAD_END ",\"config\":\n"
/* Numbers of a fixed width: JSON takes spaces in front of them. */
#define TAIL            "\n,\"pid\":%11d,\"pidStartTime\":%20llu}\n"
#define TAIL_PID        8
#define TAIL_START_TIME 35
#define TAIL_LENGTH     57

DEFINE_CLEANUP(state_freep, struct container_state *, state_free);

char *state_default_root(void)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    char *root = NULL;

    if (runtime && runtime[0] == '/' && geteuid() != 0) {
        if (asprintf(&root, "%s/lodge-oci", runtime) < 0)
            return NULL;
        return root;
    }
    return strdup("/run/lodge-oci");
}

int state_check_id(const char *id, struct err *err)
{
    size_t length = strlen(id);

    if (length == 0 || length > 255)
        return err_set(err, -EINVAL, "container id: 1 to 255 characters are needed, not %zu",
                       length);
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)id[i]) && !strchr("_+-.", id[i]))
            return err_set(err, -EINVAL,
                           "container id '%s': only letters, digits and _ + - . are allowed", id);
    if (strcmp(id, ".") == 0 || strcmp(id, "..") == 0)
        return err_set(err, -EINVAL, "container id '%s' is a directory name", id);
    return 0;
}

/* ROOT and its parents, 0700 at the end. */
static int make_root(const char *root, struct err *err)
{
    CLEANUP(freep) char *copy = NULL;

    if (mkdir(root, 0700) == 0 || errno == EEXIST)
        return 0;
    if (!(copy = strdup(root)))
        return err_set(err, -ENOMEM, "state root '%s': out of memory", root);
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0755) < 0 && errno != EEXIST)
            return err_errno(err, -errno, "make state root '%s'", root);
        *slash = '/';
    }
    if (mkdir(copy, 0700) < 0 && errno != EEXIST)
        return err_errno(err, -errno, "make state root '%s'", root);
    return 0;
}

static int open_root(const char *root, struct err *err)
{
    int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? err_errno(err, -errno, "state root '%s'", root) : fd;
}

int state_create(const char *root, const char *id, int *ret_root_fd, struct err *err)
{
    CLEANUP(fd_closep) int root_fd = -1;
    int fd, result;

    if ((result = state_check_id(id, err)) < 0)
        return result;
    root_fd = open_root(root, NULL);
    if (root_fd == -ENOENT && (result = make_root(root, err)) < 0)
        return result;
    if (root_fd < 0 && (root_fd = open_root(root, err)) < 0)
        return root_fd;
    if (mkdirat(root_fd, id, 0711) < 0)
        return errno == EEXIST
                   ? err_set(err, -EEXIST, "container '%s' exists already (state in %s)", id, root)
                   : err_errno(err, -errno, "make the state of container '%s' in %s", id, root);
    fd = openat(root_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, -errno, "state of container '%s'", id);
    *ret_root_fd = TAKE_FD(root_fd);
    return fd;
}

int state_open(const char *root, const char *id, struct err *err)
{
    CLEANUP(fd_closep) int root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = -1, result = state_check_id(id, err);

    if (result < 0)
        return result;
    if (root_fd >= 0)
        fd = openat(root_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? err_set(err, -ENOENT, "container '%s' does not exist", id)
                               : err_errno(err, -errno, "state of container '%s' in %s", id, root);
    return fd;
}

static int state_text(const struct container_state *state, struct buf *ret)
{
    CLEANUP(json_decrefp)
    json_t *json = json_pack("{s:s, s:s, s:s, s:I, s:i, s:I, s:O*, s:O*, s:O*}", "id", state->id,
                             "bundle", state->bundle, "ociVersion", state->version, "createdNs",
                             (json_int_t)state->created_ns, "owner", (int)state->owner,
                             "configBytes", (json_int_t)state->config_length, "annotations",
                             state->annotations, "resources", state->resources, "rdt", state->rdt);
    CLEANUP(freep) char *text = NULL;
    char tail[TAIL_LENGTH + 1];

    if (!json || json_put_string(json, "rootfs", state->rootfs) < 0 ||
        json_put_string(json, "cgroupPath", state->cgroup_path) < 0 ||
        !(text = json_text(json, JSON_COMPACT)))
        return -ENOMEM;
    snprintf(tail, sizeof(tail), TAIL, (int)state->pid, (unsigned long long)state->pid_start_time);
    /* Without its closing brace. */
    if (buf_append(ret, text, strlen(text) - 1) < 0 || buf_append_string(ret, HEAD_END) < 0 ||
        buf_append(ret, state->config, state->config_length) < 0 ||
        (state->config_length == 0 && buf_append_string(ret, "null") < 0) ||
        buf_append_string(ret, tail) < 0)
        return -ENOMEM;
    return 0;
}

int state_save(int dir_fd, const struct container_state *state, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    int result;

    buf_init(&text, STATE_SIZE_MAX);
    if (state_text(state, &text) < 0)
        return err_set(err, -ENOMEM, "state of container '%s': out of memory", state->id);
    if ((result = file_replace_unsynced(dir_fd, STATE_FILE, text.data, text.length, 0600, err)) < 0)
        return err_wrap(err, "state of container '%s'", state->id);
    return 0;
}

int state_save_first(int dir_fd, struct container_state *state, int *ret_file_fd, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    CLEANUP(fd_closep) int fd = -1;
    int result;

    buf_init(&text, STATE_SIZE_MAX);
    if (state_text(state, &text) < 0)
        return err_set(err, -ENOMEM, "state of container '%s': out of memory", state->id);
    fd = openat(dir_fd, STATE_FILE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    result = fd < 0 ? -errno : file_write_full(fd, text.data, text.length);
    if (result < 0)
        return err_errno(err, result, "state of container '%s'", state->id);
    state->tail = (off_t)text.length - TAIL_LENGTH;
    *ret_file_fd = TAKE_FD(fd);
    return 0;
}

int state_open_file(int dir_fd, struct container_state *state)
{
    CLEANUP(fd_closep) int fd = openat(dir_fd, STATE_FILE, O_WRONLY | O_CLOEXEC);
    off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

    if (end < TAIL_LENGTH)
        return end < 0 ? -errno : -EIO;
    state->tail = end - TAIL_LENGTH;
    return TAKE_FD(fd);
}

int state_save_pid(int file_fd, const struct container_state *state, struct err *err)
{
    char text[32];
    int result, length;

    length = snprintf(text, sizeof(text), "%20llu", (unsigned long long)state->pid_start_time);
    result = file_pwrite_full(file_fd, text, (size_t)length, state->tail + TAIL_START_TIME);
    length = snprintf(text, sizeof(text), "%11d", (int)state->pid);
    if (result == 0)
        result = file_pwrite_full(file_fd, text, (size_t)length, state->tail + TAIL_PID);
    return result < 0 ? err_errno(err, result, "state of container '%s'", state->id) : 0;
}

/* What follows the first line: the configuration, and the process. */
static int load_rest(const char *rest, size_t length, size_t config_length,
                     struct container_state *state)
{
    size_t value_length = config_length ? config_length : strlen("null");
    const char *tail = rest + value_length;

    /* Its writer was killed, or is still at it: nothing has been made yet. */
    if (length < TAIL_LENGTH || length - TAIL_LENGTH < value_length)
        return 0;
    if (config_length && !(state->config = strndup(rest, config_length)))
        return -ENOMEM;
    state->config_length = config_length;
    state->pid = (pid_t)strtol(tail + TAIL_PID, NULL, 10);
    state->pid_start_time = strtoull(tail + TAIL_START_TIME, NULL, 10);
    return 0;
}

/* The first line as a document of its own. -ENOENT while it is not complete. */
static int parse_head(struct buf *text, const char **ret_rest, json_t **ret, struct err *err)
{
    size_t end_length = strlen(HEAD_END);
    char *line_end = strchr(text->data, '\n');

    if (!line_end)
        return err_set(err, -ENOENT, "%s is not complete", STATE_FILE);
    *ret_rest = line_end + 1;
    if ((size_t)(*ret_rest - text->data) > end_length &&
        strncmp(*ret_rest - end_length, HEAD_END, end_length) == 0) {
        line_end = text->data + (*ret_rest - text->data) - end_length;
        *line_end++ = '}';
    }
    return json_parse(text->data, (size_t)(line_end - text->data), STATE_FILE, ret, err);
}

int state_load(int dir_fd, struct container_state **ret, struct err *err)
{
    CLEANUP(state_freep) struct container_state *state = calloc(1, sizeof(*state));
    const char *id = NULL, *bundle = NULL, *cgroup_path = NULL, *version = NULL, *rootfs = NULL;
    uint64_t owner = 0, config_length = 0;
    CLEANUP(json_decrefp) json_t *json = NULL;
    CLEANUP(buf_donep) struct buf text;
    struct json_at root;
    const char *rest;
    int result;

    buf_init(&text, STATE_SIZE_MAX);
    if (!state)
        return err_set(err, -ENOMEM, "state: out of memory");
    if ((result = file_load(dir_fd, STATE_FILE, &text, err)) < 0)
        return result;
    if (!buf_string(&text))
        return err_set(err, -ENOMEM, "state: out of memory");
    if ((result = parse_head(&text, &rest, &json, err)) < 0)
        return result;
    json_at_root(json, &root);
    if ((result = json_get_string(&root, "id", &id, err)) < 0 ||
        (result = json_get_string(&root, "bundle", &bundle, err)) < 0 ||
        (result = json_get_string(&root, "ociVersion", &version, err)) < 0 ||
        (result = json_opt_string(&root, "rootfs", &rootfs, err)) < 0 ||
        (result = json_opt_string(&root, "cgroupPath", &cgroup_path, err)) < 0 ||
        (result = json_get_uint(&root, "createdNs", &state->created_ns, err)) < 0 ||
        (result = json_opt_uint(&root, "owner", &owner, err)) < 0 ||
        (result = json_opt_uint(&root, "configBytes", &config_length, err)) < 0)
        return result;
    state->owner = (uid_t)owner;
    if ((result = load_rest(rest, text.length - (size_t)(rest - text.data), (size_t)config_length,
                            state)) < 0)
        return err_set(err, result, "state: out of memory");
    state->annotations = json_incref(json_object_get(json, "annotations"));
    state->resources = json_incref(json_object_get(json, "resources"));
    state->rdt = json_incref(json_object_get(json, "rdt"));
    if (!(state->id = strdup(id)) || !(state->bundle = strdup(bundle)) ||
        !(state->version = strdup(version)) || (rootfs && !(state->rootfs = strdup(rootfs))) ||
        (cgroup_path && !(state->cgroup_path = strdup(cgroup_path))))
        return err_set(err, -ENOMEM, "state: out of memory");
    *ret = TAKE_PTR(state);
    return 0;
}

/* One that holds files only (the notify socket's). */
static void remove_directory(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    CLEANUP(dir_closep) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    if (fd >= 0 && !dir)
        close(fd);
    while (dir && (entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(dirfd(dir), entry->d_name, 0);
    unlinkat(parent, name, AT_REMOVEDIR);
}

/* Whatever else is in the directory: hooks, temporary files of a save that was killed. */
static int remove_files(int dir_fd)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(dir_closep) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    if (!dir) {
        fd_closep(&fd);
        return -ENOMEM;
    }
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.' && unlinkat(dirfd(dir), entry->d_name, 0) < 0)
            remove_directory(dirfd(dir), entry->d_name);
    return 0;
}

int state_remove_made(int root_fd, int dir_fd, const char *id, struct err *err)
{
    int result;

    /* Mostly this is all there is. The state goes last: it names what there is to remove. */
    unlinkat(dir_fd, STATE_FILE, 0);
    if (unlinkat(root_fd, id, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    if ((result = remove_files(dir_fd)) < 0)
        return err_errno(err, result, "state of container '%s'", id);
    if (unlinkat(root_fd, id, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return err_errno(err, -errno, "remove the state of container '%s'", id);
    return 0;
}

int state_remove(const char *root, const char *id, struct err *err)
{
    CLEANUP(fd_closep) int root_fd = open_root(root, err);
    CLEANUP(fd_closep) int dir_fd = -1;

    if (root_fd < 0)
        return root_fd;
    dir_fd = openat(root_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir_fd < 0)
        return errno == ENOENT ? 0 : err_errno(err, -errno, "state of container '%s'", id);
    return state_remove_made(root_fd, dir_fd, id, err);
}

void state_free(struct container_state *state)
{
    if (!state)
        return;
    free(state->id);
    free(state->bundle);
    free(state->rootfs);
    free(state->cgroup_path);
    free(state->version);
    free(state->config);
    json_decref(state->annotations);
    json_decref(state->resources);
    json_decref(state->rdt);
    free(state);
}

const char *process_stat_field(const char *text, int number)
{
    /* Field 2, the name, may hold anything up to the last ')'. */
    const char *field = strrchr(text, ')');

    for (int at = 2; field && at < number; at++)
        if ((field = strchr(field, ' ')))
            field++;
    return field;
}

int state_pid_start_time(pid_t pid, uint64_t *ret)
{
    CLEANUP(buf_donep) struct buf text;
    const char *status, *start;
    char path[64];

    buf_init(&text, 4096);
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (file_load(AT_FDCWD, path, &text, NULL) < 0 || !buf_string(&text) ||
        !(status = process_stat_field(text.data, 3)) ||
        !(start = process_stat_field(text.data, 22)) || *status == 'Z' || *status == 'X')
        return -ESRCH;
    *ret = strtoull(start, NULL, 10);
    return 0;
}

enum container_status state_status(int dir_fd, const struct container_state *state)
{
    uint64_t start_time;

    if (state->pid == 0)
        return CONTAINER_CREATING;
    if (state_pid_start_time(state->pid, &start_time) < 0 || start_time != state->pid_start_time)
        return CONTAINER_STOPPED;
    return faccessat(dir_fd, STATE_EXEC_FIFO, F_OK, 0) == 0 ? CONTAINER_CREATED : CONTAINER_RUNNING;
}

const char *state_status_name(enum container_status status)
{
    static const char *const names[] = {"creating", "created", "running", "paused", "stopped"};

    return names[status];
}

/* A number where it is not root: reading the host's password database costs more than all the rest.
 */
static const char *state_owner_name(uid_t owner, char *text, size_t size)
{
    if (owner == 0)
        return "root";
    snprintf(text, size, "%u", owner);
    return text;
}

json_t *state_to_json(const struct container_state *state, enum container_status status)
{
    time_t seconds = (time_t)(state->created_ns / 1000000000);
    char created[64], stamp[40], owner[64];
    json_t *json;
    struct tm tm;

    gmtime_r(&seconds, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(created, sizeof(created), "%s.%09lluZ", stamp,
             (unsigned long long)(state->created_ns % 1000000000));
    json = json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:O*, s:s}", "ociVersion", state->version,
                     "id", state->id, "pid", status == CONTAINER_STOPPED ? 0 : (int)state->pid,
                     "status", state_status_name(status), "bundle", state->bundle, "created",
                     created, "annotations", state->annotations, "owner",
                     state_owner_name(state->owner, owner, sizeof(owner)));
    if (json && json_put_string(json, "rootfs", state->rootfs) < 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}
