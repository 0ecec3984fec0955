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

static long type_of(const char *path)
{
    struct statfs fs;

    return statfs(path, &fs) == 0 ? (long)fs.f_type : -1;
}

/* The cgroup's path as it is below a hierarchy's root. These are the kernel's own directories,
 * without symlinks. */
static const char *path_below(const struct cgroup *cgroup)
{
    const char *path = cgroup->path + strspn(cgroup->path, "/");

    return *path ? path : ".";
}

/* Takes root. */
static void add_hierarchy(struct cgroup *cgroup, const char *name, bool v2, int root)
{
    struct cgroup_hierarchy *hierarchy;

    if (cgroup->nr_hierarchies == CGROUP_HIERARCHIES_MAX ||
        strlen(name) >= sizeof(hierarchy->name)) {
        close(root);
        return;
    }
    hierarchy = &cgroup->hierarchies[cgroup->nr_hierarchies++];
    hierarchy->root = root;
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
static int look_at(struct cgroup *cgroup, int dir, const char *name)
{
    CLEANUP(fd_closep) int fd = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct statfs fs;

    if (fd < 0 || fstatfs(fd, &fs) < 0)
        return errno == ENOENT || errno == EACCES || errno == ENOTDIR ? 0 : -errno;
    if (fs.f_type == CGROUP_SUPER_MAGIC || fs.f_type == CGROUP2_SUPER_MAGIC)
        add_hierarchy(cgroup, name, fs.f_type == CGROUP2_SUPER_MAGIC, TAKE_FD(fd));
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
    CLEANUP(dir_closep) DIR *dir = NULL;
    CLEANUP(fd_closep) int fd = open(CGROUP_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct dirent *entry;
    struct statfs fs;
    int result;

    if (fd < 0 || fstatfs(fd, &fs) < 0)
        return errno == ENOENT || errno == EACCES ? 0 : -errno;
    if (fs.f_type == CGROUP2_SUPER_MAGIC) {
        cgroup->layout = CGROUP_LAYOUT_V2;
        add_hierarchy(cgroup, "", true, TAKE_FD(fd));
        return 0;
    }
    if (!(dir = fdopendir(fd)))
        return -errno;
    (void)TAKE_FD(fd);
    while ((result = file_next_entry(dir, &entry)) > 0) {
        if (entry->d_name[0] == '.')
            continue;
        if (entry->d_type == DT_LNK)
            add_link(cgroup, dirfd(dir), entry->d_name);
        else if ((result = look_at(cgroup, dirfd(dir), entry->d_name)) < 0)
            return result;
    }
    set_layout(cgroup);
    return result;
}

bool cgroup_is_v2(void)
{
    return type_of(CGROUP_ROOT) == CGROUP2_SUPER_MAGIC;
}

bool cgroup_is_mounted(void)
{
    long type = type_of(CGROUP_ROOT);

    return type == CGROUP2_SUPER_MAGIC || type == TMPFS_MAGIC;
}

const char *cgroup_layout_name(enum cgroup_layout layout)
{
    static const char *const names[] = {"none", "v1", "v2", "hybrid"};

    return names[layout];
}

static int copy_parent_file(int parent, int child, const char *name)
{
    CLEANUP(fd_closep) int fd = openat(parent, name, O_RDONLY | O_CLOEXEC);
    char text[4096];
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;

    /* Not the cpuset controller, or nothing to hand down. */
    if (n <= 1)
        return 0;
    text[n] = '\0';
    return file_write_string(child, name, text);
}

/* A v1 cpuset without CPUs and memory nodes takes no process: it starts with its parent's. */
static void inherit_cpuset(int parent, int child)
{
    copy_parent_file(parent, child, "cpuset.cpus");
    copy_parent_file(parent, child, "cpuset.mems");
}

/* What the parent must hand down before a v2 child has a controller's files. Best effort: a missing
 * one shows when it is used. */
static void enable_controllers(int parent)
{
    static const char *const controllers[] = {"+cpu", "+memory", "+pids",
                                              "+io",  "+cpuset", "+hugetlb"};

    for (size_t i = 0; i < ARRAY_LEN(controllers); i++)
        file_write_string(parent, "cgroup.subtree_control", controllers[i]);
}

/* Walks (and with `create` makes) hierarchy-root/path; the last directory's O_PATH fd or -errno. */
static int walk(const struct cgroup_hierarchy *hierarchy, const char *path, bool create,
                bool *ret_new)
{
    CLEANUP(fd_closep) int fd = openat(hierarchy->root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(freep) char *copy = strdup(path);
    char *save = NULL;

    if (fd < 0)
        return -errno;
    if (!copy)
        return -ENOMEM;
    for (char *name = strtok_r(copy, "/", &save); name; name = strtok_r(NULL, "/", &save)) {
        int next;

        if (create && hierarchy->v2)
            enable_controllers(fd);
        *ret_new = create && mkdirat(fd, name, 0755) == 0;
        if (create && !*ret_new && errno != EEXIST)
            return -errno;
        next = openat(fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0)
            return -errno;
        if (create && !hierarchy->v2)
            inherit_cpuset(fd, next);
        close(fd);
        fd = next;
    }
    return TAKE_FD(fd);
}

void cgroup_hand_down(struct cgroup *cgroup, const char *controller)
{
    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++) {
        CLEANUP(freep) char *copy = strdup(path_below(cgroup));

        if (!cgroup->hierarchies[i].v2 || !copy)
            continue;
        file_write_string(cgroup->hierarchies[i].root, "cgroup.subtree_control", controller);
        for (char *slash = strchr(copy, '/'); slash; slash = strchr(slash + 1, '/')) {
            CLEANUP(fd_closep) int fd = -1;

            *slash = '\0';
            fd = openat(cgroup->hierarchies[i].root, copy,
                        O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (fd >= 0)
                file_write_string(fd, "cgroup.subtree_control", controller);
            *slash = '/';
        }
    }
}

int cgroup_directory(const struct cgroup *cgroup, struct cgroup_hierarchy *hierarchy)
{
    if (hierarchy->unopened)
        hierarchy->fd = openat(hierarchy->root, path_below(cgroup),
                               O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    hierarchy->unopened = false;
    return hierarchy->fd;
}

/* *ret_new: it was not there before. 0, with the directory opened or to be opened; or -errno. */
static int make_directory(const struct cgroup *cgroup, struct cgroup_hierarchy *hierarchy,
                          bool *ret_new)
{
    int result;

    *ret_new = false;
    /* Where nothing is handed down from parent to child one step is enough. */
    if (cgroup->layout != CGROUP_LAYOUT_V2 && !strstr(hierarchy->name, "cpuset")) {
        *ret_new = mkdirat(hierarchy->root, path_below(cgroup), 0755) == 0;
        if (*ret_new || errno == EEXIST) {
            hierarchy->unopened = true;
            return 0;
        }
    }
    result = walk(hierarchy, cgroup->path, true, ret_new);
    hierarchy->fd = MAX(result, -1);
    return MIN(result, 0);
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
            unlinkat(cgroup->hierarchies[i].root, path_below(cgroup), AT_REMOVEDIR);
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

        hierarchy->fd = openat(hierarchy->root, path_below(cgroup),
                               O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (hierarchy->fd < 0 && errno != ENOENT)
            return err_errno(err, -errno, "cgroup '%s' (%s/%s)", path, CGROUP_ROOT,
                             hierarchy->name);
    }
    *ret = TAKE_PTR(cgroup);
    return 0;
}

/* They were opened one after the other: mostly one call closes them all. */
static void close_roots(struct cgroup *cgroup)
{
    unsigned n = cgroup->nr_hierarchies, first = 0;

    for (unsigned i = 1; i <= n; i++)
        if (i == n || cgroup->hierarchies[i].root != cgroup->hierarchies[i - 1].root + 1) {
            close_range((unsigned)cgroup->hierarchies[first].root,
                        (unsigned)cgroup->hierarchies[i - 1].root, 0);
            first = i;
        }
}

void cgroup_free(struct cgroup *cgroup)
{
    if (!cgroup)
        return;
    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++)
        fd_closep(&cgroup->hierarchies[i].fd);
    close_roots(cgroup);
    free(cgroup->path);
    free(cgroup);
}

/* The calling process into one hierarchy. The file stays open: the process closes everything at
 * once before it becomes the container's. */
static int join(const struct cgroup *cgroup, const struct cgroup_hierarchy *hierarchy)
{
    const char *file = hierarchy->v2 ? "cgroup.procs" : "tasks";
    char path[PATH_MAX];
    int fd, n;

    if (hierarchy->fd >= 0) {
        fd = openat(hierarchy->fd, file, O_WRONLY | O_CLOEXEC);
    } else {
        n = snprintf(path, sizeof(path), "%s/%s", path_below(cgroup), file);
        fd = n > 0 && n < PATH_MAX
                 ? openat(hierarchy->root, path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC)
                 : -1;
    }
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

    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++)
        gone = (unlinkat(cgroup->hierarchies[i].root, path_below(cgroup), AT_REMOVEDIR) == 0 ||
                errno == ENOENT) &&
               gone;
    return gone;
}

int cgroup_remove(struct cgroup *cgroup, struct err *err)
{
    const char *slash = strrchr(cgroup->path, '/');
    CLEANUP(freep)
    char *parent_path = strndup(cgroup->path, slash ? (size_t)(slash - cgroup->path) : 0);
    const char *name = slash ? slash + 1 : cgroup->path;
    int first = 0;

    if (!parent_path)
        return err_set(err, -ENOMEM, "remove cgroup '%s': out of memory", cgroup->path);
    for (unsigned i = 0; i < cgroup->nr_hierarchies; i++) {
        struct cgroup_hierarchy *hierarchy = &cgroup->hierarchies[i];
        bool is_new;
        CLEANUP(fd_closep) int parent = walk(hierarchy, parent_path, false, &is_new);
        int result;

        fd_closep(&hierarchy->fd);
        hierarchy->fd = -1;
        hierarchy->unopened = false;
        if (parent < 0 || !name[0])
            continue;
        result = remove_tree(parent, name);
        if (result < 0 && first == 0)
            first = err_errno(err, result, "remove cgroup '%s' from %s/%s", cgroup->path,
                              CGROUP_ROOT, hierarchy->name);
    }
    return first;
}
