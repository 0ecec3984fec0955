/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding the hierarchies, making, entering and removing a cgroup. What the limits are called in
 * each version is in cgroup_limits.c. Hierarchies are found by the file system types below
 * /sys/fs/cgroup, not by parsing /proc/self/mountinfo: that file grows with every container on the
 * host.
 *
 * Entering v1 is done by the container's own first process, single-threaded, by writing 0 to
 * `tasks`: writing a pid to cgroup.procs takes a host-wide lock that is slow when it was not taken
 * recently.
 */
#include "oci/cgroup_internal.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#define CGROUP_ROOT       "/sys/fs/cgroup"
#define PROCS_SIZE_MAX    (4 * MIB)
#define KILL_ROUNDS_MAX   500
#define REMOVE_ROUNDS_MAX 200

DEFINE_CLEANUP(cgroup_freep, struct cgroup *, cgroup_free);

/* What is mounted at the root, 0: nothing to be found out. That does not change while a container
 * is made. */
static long type_of_root(void)
{
    static long type;
    struct statfs fs;

    if (!type && statfs(CGROUP_ROOT, &fs) == 0)
        type = (long)fs.f_type;
    return type;
}

/* Below root_fd, for freep; NULL: out of memory. These are the kernel's own directories, without
 * symlinks. */
static char *join_path(const char *directory, const char *name)
{
    char *path;

    return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}

/* The container's directory in a hierarchy. */
static char *place_of(const struct cgroup *cgroup, const struct cgroup_hierarchy *hierarchy)
{
    return join_path(hierarchy->name[0] ? hierarchy->name : ".",
                     cgroup->path + strspn(cgroup->path, "/"));
}

/* The same, opened: O_PATH fd or -errno. */
static int open_place(const struct cgroup *cgroup, const struct cgroup_hierarchy *hierarchy)
{
    CLEANUP(freep) char *directory = place_of(cgroup, hierarchy);
    int fd;

    if (!directory)
        return -ENOMEM;
    fd = openat(cgroup->root_fd, directory, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int remove_place(const struct cgroup *cgroup, const struct cgroup_hierarchy *hierarchy)
{
    CLEANUP(freep) char *directory = place_of(cgroup, hierarchy);

    if (!directory)
        return -ENOMEM;
    return unlinkat(cgroup->root_fd, directory, AT_REMOVEDIR) < 0 ? -errno : 0;
}

static void add_hierarchy(struct cgroup *cgroup, const char *name, bool v2)
{
    struct cgroup_hierarchy *hierarchy;

    if (cgroup->nr_hierarchies == CGROUP_HIERARCHIES_MAX || strlen(name) >= sizeof(hierarchy->name))
        return;
    hierarchy = &cgroup->hierarchies[cgroup->nr_hierarchies++];
    snprintf(hierarchy->name, sizeof(hierarchy->name), "%s", name);
    hierarchy->v2 = v2;
    hierarchy->fd = -1;
}

static void add_link(struct cgroup *cgroup, int dir, const char *name)
{
    char *target = cgroup->links[MIN(cgroup->nr_links, CGROUP_LINKS_MAX - 1u)].target;
    ssize_t n;

    if (cgroup->nr_links == CGROUP_LINKS_MAX || strlen(name) >= sizeof(cgroup->links[0].name))
        return;
    n = readlinkat(dir, name, target, sizeof(cgroup->links[0].target) - 1);
    if (n <= 0)
        return;
    target[n] = '\0';
    strcpy(cgroup->links[cgroup->nr_links++].name, name);
}

/* One directory of CGROUP_ROOT: a hierarchy, or something else. */
static int look_at(struct cgroup *cgroup, const char *name)
{
    char path[sizeof(CGROUP_ROOT) + NAME_MAX + 1];
    struct statfs fs;

    snprintf(path, sizeof(path), CGROUP_ROOT "/%s", name);
    if (statfs(path, &fs) < 0)
        return errno == ENOENT || errno == EACCES || errno == ENOTDIR ? 0 : -errno;
    if (fs.f_type == CGROUP_SUPER_MAGIC || fs.f_type == CGROUP2_SUPER_MAGIC)
        add_hierarchy(cgroup, name, fs.f_type == CGROUP2_SUPER_MAGIC);
    return 0;
}

static void set_layout(struct cgroup *cgroup)
{
    bool v1 = false, v2 = false;

    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++) {
        v1 = v1 || !cgroup->hierarchies[i].v2;
        v2 = v2 || cgroup->hierarchies[i].v2;
    }
    if (v1)
        cgroup->layout = v2 ? CGROUP_LAYOUT_HYBRID : CGROUP_LAYOUT_V1;
    else
        cgroup->layout = v2 ? CGROUP_LAYOUT_V2 : CGROUP_LAYOUT_NONE;
}

/* Fills layout and hierarchies. Symlinks (cpu -> cpu,cpuacct) are not counted: each hierarchy
 * once. */
static int find_hierarchies(struct cgroup *cgroup)
{
    _Alignas(struct dirent64) char entries[1024];
    const struct dirent64 *entry;
    ssize_t length;
    int result = 0;

    cgroup->root_fd = open(CGROUP_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (cgroup->root_fd < 0)
        return errno == ENOENT || errno == EACCES ? 0 : -errno;
    if (cgroup_is_v2()) {
        cgroup->layout = CGROUP_LAYOUT_V2;
        add_hierarchy(cgroup, "", true);
        return 0;
    }
    while (result == 0 && (length = getdents64(cgroup->root_fd, entries, sizeof(entries))) != 0) {
        if (length < 0)
            return -errno;
        for (ssize_t at = 0; result == 0 && at < length; at += entry->d_reclen) {
            entry = (const void *)(entries + at);
            if (entry->d_name[0] == '.')
                continue;
            if (entry->d_type == DT_LNK)
                add_link(cgroup, cgroup->root_fd, entry->d_name);
            else if (entry->d_type == DT_DIR)
                result = look_at(cgroup, entry->d_name);
        }
    }
    set_layout(cgroup);
    return result;
}

bool cgroup_is_v2(void)
{
    return type_of_root() == CGROUP2_SUPER_MAGIC;
}

bool cgroup_is_mounted(void)
{
    return type_of_root() == CGROUP2_SUPER_MAGIC || type_of_root() == TMPFS_MAGIC;
}

const char *cgroup_layout_name(enum cgroup_layout layout)
{
    static const char *const names[] = {"none", "v1", "v2", "hybrid"};

    return names[layout];
}

static bool is_empty(int root_fd, const char *file)
{
    CLEANUP(fd_closep) int fd = openat(root_fd, file, O_RDONLY | O_CLOEXEC);
    char text[8];

    return fd >= 0 && read(fd, text, sizeof(text)) <= 1;
}

/* A v1 cpuset without CPUs and memory nodes takes no process: it starts with its parent's. One that
 * was there is its maker's, unless that one left it empty. The files are closed together. */
static void inherit_cpuset(int root_fd, const char *parent, const char *child, bool is_new)
{
    static const char *const names[] = {"cpuset.cpus", "cpuset.mems"};
    int fds[2 * ARRAY_LEN(names)] = {-1, -1, -1, -1};
    char text[1024];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(freep) char *from = join_path(parent, names[i]);
        CLEANUP(freep) char *to = join_path(child, names[i]);
        ssize_t length;

        if (!from || !to || (!is_new && !is_empty(root_fd, to)))
            continue;
        fds[2 * i] = openat(root_fd, from, O_RDONLY | O_CLOEXEC);
        length = fds[2 * i] >= 0 ? read(fds[2 * i], text, sizeof(text)) : 0;
        /* A failure shows when the cpuset is entered. */
        if (length > 1 && (fds[2 * i + 1] = openat(root_fd, to, O_WRONLY | O_CLOEXEC)) >= 0 &&
            write(fds[2 * i + 1], text, (size_t)length) < 0)
            break;
    }
    file_close_all(fds, ARRAY_LEN(fds));
}

/* To a file of a v2 directory. Best effort: a missing controller shows when it is used. */
static void hand_down(int root_fd, const char *directory, const char *controller)
{
    CLEANUP(freep) char *file = join_path(directory, "cgroup.subtree_control");

    if (file)
        file_write_string(root_fd, file, controller);
}

/* What the parent must hand down before a v2 child has a controller's files. */
static void enable_controllers(int root_fd, const char *parent)
{
    static const char *const controllers[] = {"+cpu", "+memory", "+pids",
                                              "+io",  "+cpuset", "+hugetlb"};

    for (size_t i = 0; i < ARRAY_LEN(controllers); i++)
        hand_down(root_fd, parent, controllers[i]);
}

void cgroup_hand_down(struct cgroup *cgroup, const char *controller)
{
    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++) {
        CLEANUP(freep) char *directory = place_of(cgroup, &cgroup->hierarchies[i]);

        if (!cgroup->hierarchies[i].v2 || !directory)
            continue;
        for (char *slash = directory; (slash = strchr(slash, '/')); *slash++ = '/') {
            *slash = '\0';
            hand_down(cgroup->root_fd, directory, controller);
        }
    }
}

int cgroup_directory(const struct cgroup *cgroup, struct cgroup_hierarchy *hierarchy)
{
    if (hierarchy->unopened)
        hierarchy->fd = MAX(open_place(cgroup, hierarchy), -1);
    hierarchy->unopened = false;
    return hierarchy->fd;
}

/* Every directory on the way, with what the one above hands down. */
static int make_one_by_one(const struct cgroup *cgroup, const struct cgroup_hierarchy *hierarchy,
                           bool *ret_new)
{
    CLEANUP(freep) char *parent = place_of(cgroup, hierarchy);
    CLEANUP(freep) char *child = parent ? strdup(parent) : NULL;

    if (!child)
        return -ENOMEM;
    for (char *end = parent; (end = strchr(end, '/')); *end++ = '/') {
        char *child_end = child + (end - parent) + 1 + strcspn(end + 1, "/"), after = *child_end;

        *end = *child_end = '\0';
        if (hierarchy->v2)
            enable_controllers(cgroup->root_fd, parent);
        *ret_new = mkdirat(cgroup->root_fd, child, 0755) == 0;
        if (!*ret_new && errno != EEXIST)
            return -errno;
        if (!hierarchy->v2)
            inherit_cpuset(cgroup->root_fd, parent, child, *ret_new);
        *child_end = after;
    }
    return 0;
}

/* *ret_new: it was not there before. -errno. */
static int make_directory(const struct cgroup *cgroup, struct cgroup_hierarchy *hierarchy,
                          bool *ret_new)
{
    bool step_by_step = cgroup->layout == CGROUP_LAYOUT_V2 || strstr(hierarchy->name, "cpuset");
    CLEANUP(freep) char *directory = place_of(cgroup, hierarchy);
    int result = 0;

    *ret_new = false;
    if (!directory)
        return -ENOMEM;
    /* Where nothing is handed down from parent to child one step is enough. */
    if (!step_by_step)
        *ret_new = mkdirat(cgroup->root_fd, directory, 0755) == 0;
    if (step_by_step || (!*ret_new && errno != EEXIST))
        result = make_one_by_one(cgroup, hierarchy, ret_new);
    hierarchy->unopened = result == 0;
    return result;
}

static bool has_processes(int fd)
{
    CLEANUP(buf_donep) struct buf procs;

    buf_init(&procs, PROCS_SIZE_MAX);
    return file_load(fd, "cgroup.procs", &procs, NULL) == 0 && procs.length > 0;
}

static int cgroup_new(const char *path, struct cgroup **ret, struct err *err)
{
    CLEANUP(cgroup_freep) struct cgroup *cgroup = calloc(1, sizeof(*cgroup));
    int result;

    if (cgroup)
        cgroup->root_fd = -1;
    if (!cgroup || !(cgroup->path = strdup(path)))
        return err_set(err, -ENOMEM, "cgroup '%s': out of memory", path);
    /* Half a list would leave the other half's directories behind. */
    if ((result = find_hierarchies(cgroup)) < 0)
        return err_errno(err, result, "look for cgroups in " CGROUP_ROOT);
    *ret = TAKE_PTR(cgroup);
    return 0;
}

void cgroup_unmake(struct cgroup *cgroup)
{
    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++)
        if (cgroup->hierarchies[i].made)
            remove_place(cgroup, &cgroup->hierarchies[i]);
}

/* In those of one version; after a failure nothing is taken back yet. */
static int make_directories(struct cgroup *cgroup, bool v2, struct err *err)
{
    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++) {
        struct cgroup_hierarchy *hierarchy = &cgroup->hierarchies[i];
        int result;

        if (hierarchy->v2 != v2)
            continue;
        /* It may be made and then not be opened. */
        result = make_directory(cgroup, hierarchy, &hierarchy->made);
        if (result < 0) {
            if (cgroup->layout == CGROUP_LAYOUT_HYBRID && hierarchy->v2)
                continue; /* holds no controllers there */
            return err_errno(err, result, "make cgroup '%s' in %s/%s", cgroup->path, CGROUP_ROOT,
                             hierarchy->name);
        }
        if (!hierarchy->made && has_processes(cgroup_directory(cgroup, hierarchy)))
            return err_set(err, -EEXIST, "cgroup '%s' is in use: it holds processes (%s/%s)",
                           cgroup->path, CGROUP_ROOT, hierarchy->name);
    }
    return 0;
}

int cgroup_begin(const char *path, struct cgroup **ret, struct err *err)
{
    CLEANUP(cgroup_freep) struct cgroup *cgroup = NULL;
    int result = cgroup_new(path, &cgroup, err);

    if (result < 0)
        return result;
    if (strstr(path, ".."))
        return err_set(err, -EINVAL, "cgroup path '%s' leaves its root", path);
    if ((result = make_directories(cgroup, true, err)) < 0) {
        cgroup_unmake(cgroup);
        return result;
    }
    *ret = TAKE_PTR(cgroup);
    return 0;
}

int cgroup_finish(struct cgroup *cgroup, struct err *err)
{
    return make_directories(cgroup, false, err);
}

void cgroup_expect(struct cgroup *cgroup)
{
    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++)
        if (!cgroup->hierarchies[i].v2)
            cgroup->hierarchies[i].unopened = true;
}

int cgroup_open(const char *path, struct cgroup **ret, struct err *err)
{
    CLEANUP(cgroup_freep) struct cgroup *cgroup = NULL;
    int result = cgroup_new(path, &cgroup, err);

    if (result < 0)
        return result;
    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++) {
        struct cgroup_hierarchy *hierarchy = &cgroup->hierarchies[i];

        int fd = open_place(cgroup, hierarchy);

        if (fd < 0 && fd != -ENOENT)
            return err_errno(err, fd, "cgroup '%s' (%s/%s)", path, CGROUP_ROOT, hierarchy->name);
        hierarchy->fd = MAX(fd, -1);
    }
    *ret = TAKE_PTR(cgroup);
    return 0;
}

void cgroup_free(struct cgroup *cgroup)
{
    if (!cgroup)
        return;
    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++)
        fd_closep(&cgroup->hierarchies[i].fd);
    fd_closep(&cgroup->root_fd);
    free(cgroup->path);
    free(cgroup);
}

/* The calling process into one hierarchy. The file stays open: the process closes everything at
 * once before it becomes the container's. */
static int join(const struct cgroup *cgroup, const struct cgroup_hierarchy *hierarchy)
{
    CLEANUP(freep) char *directory = place_of(cgroup, hierarchy);
    CLEANUP(freep)
    char *file = directory ? join_path(directory, hierarchy->v2 ? "cgroup.procs" : "tasks") : NULL;
    int fd;

    if (!file)
        return -ENOMEM;
    fd = openat(cgroup->root_fd, file, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 || write(fd, "0", 1) < 0 ? -errno : 0;
}

int cgroup_join_self(struct cgroup *cgroup, bool v2_done, struct err *err)
{
    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++) {
        struct cgroup_hierarchy *hierarchy = &cgroup->hierarchies[i];
        int result;

        if ((hierarchy->fd < 0 && !hierarchy->unopened) || (hierarchy->v2 && v2_done))
            continue;
        result = join(cgroup, hierarchy);
        if (result < 0 && !(cgroup->layout == CGROUP_LAYOUT_HYBRID && hierarchy->v2))
            return err_errno(err, result, "enter cgroup '%s' (%s)", cgroup->path,
                             hierarchy->name[0] ? hierarchy->name : "v2");
    }
    return 0;
}

int cgroup_v2_fd(struct cgroup *cgroup)
{
    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++)
        if (cgroup->hierarchies[i].v2 && cgroup_directory(cgroup, &cgroup->hierarchies[i]) >= 0)
            return openat(cgroup->hierarchies[i].fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return -1;
}

static void pause_ms(long milliseconds)
{
    struct timespec t = {.tv_nsec = milliseconds * 1000000};

    nanosleep(&t, NULL);
}

/* Kills what cgroup.procs of fd and of its children lists; returns how many there were. */
static unsigned kill_tree(int fd)
{
    CLEANUP(buf_donep) struct buf procs;
    CLEANUP(dir_closep) DIR *dir = NULL;
    CLEANUP(fd_closep) int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct dirent *entry;
    unsigned killed = 0;
    char *text, *save = NULL;

    buf_init(&procs, PROCS_SIZE_MAX);
    if (file_load(fd, "cgroup.procs", &procs, NULL) == 0 && (text = buf_string(&procs)))
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
            pid_t pid = (pid_t)strtol(line, NULL, 10);

            if (pid > 1 && kill(pid, SIGKILL) == 0)
                killed++;
        }
    if (copy < 0 || !(dir = fdopendir(copy)))
        return killed;
    (void)TAKE_FD(copy);
    while ((entry = readdir(dir)))
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.') {
            CLEANUP(fd_closep)
            int child = openat(fd, entry->d_name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

            if (child >= 0)
                killed += kill_tree(child);
        }
    return killed;
}

int cgroup_kill_all(struct cgroup *cgroup, struct err *err)
{
    for (unsigned round = 0; round < KILL_ROUNDS_MAX; round++) {
        unsigned killed = 0;

        for (unsigned i = 0; i < cgroup->nr_hierarchies; i++) {
            struct cgroup_hierarchy *hierarchy = &cgroup->hierarchies[i];

            if (cgroup_directory(cgroup, hierarchy) < 0)
                continue;
            /* A frozen process dies only when it thaws. */
            if (!hierarchy->v2)
                file_write_string(hierarchy->fd, "freezer.state", "THAWED");
            else if (file_write_string(hierarchy->fd, "cgroup.kill", "1") == 0 &&
                     !has_processes(hierarchy->fd))
                continue;
            killed += kill_tree(hierarchy->fd);
        }
        if (!killed)
            return 0;
        pause_ms(2);
    }
    return err_set(err, -EBUSY, "cgroup '%s': processes do not die", cgroup->path);
}

/* Children first. A directory whose last process is just going away answers EBUSY for a moment. */
static int remove_tree(int parent, const char *name)
{
    CLEANUP(dir_closep) DIR *dir = NULL;
    CLEANUP(fd_closep)
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct dirent *entry;

    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!(dir = fdopendir(fd)))
        return -errno;
    (void)TAKE_FD(fd);
    while ((entry = readdir(dir)))
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            remove_tree(dirfd(dir), entry->d_name);
    for (unsigned round = 0;; round++) {
        if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
            return 0;
        if (errno != EBUSY || round == REMOVE_ROUNDS_MAX)
            return -errno;
        pause_ms(2);
    }
}

bool cgroup_remove_empty(const struct cgroup *cgroup)
{
    bool gone = true;

    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++) {
        int result = remove_place(cgroup, &cgroup->hierarchies[i]);

        gone = (result == 0 || result == -ENOENT) && gone;
    }
    return gone;
}

int cgroup_remove(struct cgroup *cgroup, struct err *err)
{
    int first = 0;

    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++) {
        struct cgroup_hierarchy *hierarchy = &cgroup->hierarchies[i];
        CLEANUP(freep) char *directory = place_of(cgroup, hierarchy);
        int result;

        fd_closep(&hierarchy->fd);
        hierarchy->fd = -1;
        hierarchy->unopened = false;
        /* The root itself stays. */
        if (!cgroup->path[strspn(cgroup->path, "/")])
            continue;
        result = directory ? remove_tree(cgroup->root_fd, directory) : -ENOMEM;
        if (result < 0 && first == 0)
            first = err_errno(err, result, "remove cgroup '%s' from %s/%s", cgroup->path,
                              CGROUP_ROOT, hierarchy->name);
    }
    return first;
}
