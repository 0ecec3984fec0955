/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume is made under a temporary name (".NAME.new") and renamed when it is whole; to be removed
 * it is renamed away first (".NAME.old"). What is left of either by a crash is removed by the next
 * creation or removal of that name.
 */
#include "volume/volume.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/util.h"
#include "volume/image.h"
#include "volume/quota.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define VOLUMES_DEFAULT "/var/lib/lodge/volumes"
#define DESCRIPTION_MAX 4096
/* The end of the year 9999, after which RFC 3339 has no times. */
#define CREATED_MAX UINT64_C(253402300799)

bool volume_name_ok(const char *name)
{
    size_t length = strlen(name);

    if (length == 0 || length >= VOLUME_NAME_MAX || !isalnum((unsigned char)name[0]))
        return false;
    for (const char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("-_.", *c))
            return false;
    return true;
}

static char own_directory[PATH_MAX];
static pthread_once_t own_once = PTHREAD_ONCE_INIT;

/* An ordinary user's volumes are where their images are. */
static void find_own(void)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    bool given = data && *data == '/';

    if (geteuid() == 0 || (!given && (!home || *home != '/')))
        strcpy(own_directory, VOLUMES_DEFAULT);
    else
        snprintf(own_directory, sizeof(own_directory), "%.3900s/%s", given ? data : home,
                 given ? "lodge/volumes" : ".local/share/lodge/volumes");
}

static const char *directory(const char *dir)
{
    const char *given = getenv("LODGE_VOLUMES");

    pthread_once(&own_once, find_own);
    return dir ? dir : given && given[0] ? given : own_directory;
}

const char *volume_directory(void)
{
    return directory(NULL);
}

static int path_of(const char *dir, const char *before, const char *name, const char *after,
                   char ret[PATH_MAX], struct err *err)
{
    if (snprintf(ret, PATH_MAX, "%s/%s%s%s", dir, before, name, after) >= PATH_MAX)
        return err_set(err, -ENAMETOOLONG, "the path of volume '%s' is too long", name);
    return 0;
}

static int check_name(const char *name, struct err *err)
{
    return volume_name_ok(name)
               ? 0
               : err_set(err, -EINVAL,
                         "volume '%.70s': 1 to %d letters, digits, '-', '_' and '.' are needed, "
                         "the first a letter or digit",
                         name, VOLUME_NAME_MAX - 1);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path) && errno != ENOENT ? -1 : 0;
}

/* Never across a mount. */
static int remove_tree(const char *path, struct err *err)
{
    if (nftw(path, remove_one, 64, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) && errno != ENOENT)
        return err_errno(err, -errno, "remove '%s'", path);
    return 0;
}

static int make_directories(const char *path, struct err *err)
{
    char copy[PATH_MAX];

    snprintf(copy, sizeof(copy), "%s", path);
    for (char *c = strchr(copy + 1, '/'); c; c = strchr(c + 1, '/')) {
        *c = '\0';
        if (mkdir(copy, 0755) && errno != EEXIST)
            return err_errno(err, -errno, "make '%s'", copy);
        *c = '/';
    }
    if (mkdir(copy, 0711) && errno != EEXIST)
        return err_errno(err, -errno, "make '%s'", copy);
    return 0;
}

/* One creation or removal at a time. */
static int lock_directory(const char *dir, int *ret, struct err *err)
{
    char path[PATH_MAX];
    int fd, r = path_of(dir, ".lock", "", "", path, err);

    if (r < 0)
        return r;
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(err, -errno, "open '%s'", path);
    while (flock(fd, LOCK_EX))
        if (errno != EINTR) {
            close(fd);
            return err_errno(err, -errno, "lock '%s'", path);
        }
    *ret = fd;
    return 0;
}

/* The contents, and what limits them. */
static int fill_data(int dir_fd, uint64_t size_bytes, uint32_t *ret_project, struct err *err)
{
    CLEANUP(fd_closep) int data = -1;
    int r;

    if (mkdirat(dir_fd, "data", 0755))
        return err_errno(err, -errno, "make the directory of its contents");
    if (!size_bytes)
        return 0;
    data = openat(dir_fd, "data", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (data < 0)
        return err_errno(err, -errno, "open the directory of its contents");
    if ((r = quota_limit(data, size_bytes, ret_project, err)) != -EOPNOTSUPP)
        return r;
    if (unlinkat(dir_fd, "data", AT_REMOVEDIR))
        return err_errno(err, -errno, "remove the directory of its contents");
    return image_make(dir_fd, "disk", size_bytes, err);
}

static int fill(const char *path, uint64_t size_bytes, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1, lock = -1;
    uint32_t project = 0;
    char text[128];
    int r;

    if (mkdir(path, 0711))
        return err_errno(err, -errno, "make '%s'", path);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    lock = fd < 0 ? -1 : openat(fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0)
        return err_errno(err, -errno, "fill '%s'", path);
    if ((r = fill_data(fd, size_bytes, &project, err)) < 0)
        return err_wrap(err, "fill '%s'", path);
    snprintf(text, sizeof(text),
             "{\"version\": 1, \"size\": %llu, \"created\": %llu, \"project\": %u}\n",
             (unsigned long long)size_bytes, (unsigned long long)time(NULL), project);
    r = file_replace(fd, "volume.json", text, strlen(text), 0644, err);
    if (r < 0 && project)
        quota_drop(fd, project);
    return r;
}

int volume_create(const char *dir, const char *name, uint64_t size_bytes, struct err *err)
{
    CLEANUP(fd_closep) int lock = -1;
    char path[PATH_MAX], fresh[PATH_MAX];
    int r;

    dir = directory(dir);
    if ((r = check_name(name, err)) < 0)
        return r;
    if (size_bytes && (size_bytes < VOLUME_SIZE_LEAST || size_bytes > VOLUME_SIZE_MOST))
        return err_set(err, -EINVAL, "a volume of %llu bytes: 4M to 64T are possible",
                       (unsigned long long)size_bytes);
    if ((r = make_directories(dir, err)) < 0 || (r = lock_directory(dir, &lock, err)) < 0 ||
        (r = path_of(dir, "", name, "", path, err)) < 0 ||
        (r = path_of(dir, ".", name, ".new", fresh, err)) < 0 || (r = remove_tree(fresh, err)) < 0)
        return r;
    if (access(path, F_OK) == 0)
        return err_set(err, -EEXIST, "volume '%s' exists", name);
    r = fill(fresh, size_bytes, err);
    if (r == 0 && rename(fresh, path))
        r = err_errno(err, -errno, "make '%s'", path);
    if (r < 0)
        remove_tree(fresh, NULL);
    return r;
}

/* --- looking --- */

static uint64_t tree_bytes(int fd, unsigned depth)
{
    DIR *list = fdopendir(fd);
    const struct dirent *entry;
    uint64_t total = 0;
    struct stat st;

    if (!list) {
        close(fd);
        return 0;
    }
    while ((entry = readdir(list))) {
        int below;

        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
            fstatat(dirfd(list), entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
            continue;
        total += (uint64_t)st.st_blocks * 512;
        if (!S_ISDIR(st.st_mode) || !depth)
            continue;
        below = openat(dirfd(list), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (below >= 0)
            total += tree_bytes(below, depth - 1);
    }
    closedir(list);
    return total;
}

static bool is_used(int dir_fd)
{
    CLEANUP(fd_closep) int lock = openat(dir_fd, "lock", O_RDWR | O_CLOEXEC);

    return lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
}

/* Those that hold a name in users/; names that nobody holds any more go. */
static void find_users(int dir_fd, char ret[VOLUME_USERS_MAX])
{
    int fd = openat(dir_fd, "users", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(dir_closep) DIR *list = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    size_t used = 0;

    while (list && (entry = readdir(list))) {
        CLEANUP(fd_closep) int user = -1;

        if (!volume_name_ok(entry->d_name))
            continue;
        user = openat(dirfd(list), entry->d_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (user >= 0 && flock(user, LOCK_EX | LOCK_NB) == 0)
            unlinkat(dirfd(list), entry->d_name, 0);
        else if (user >= 0 && used + strlen(entry->d_name) + 3 < VOLUME_USERS_MAX)
            used += (size_t)snprintf(ret + used, VOLUME_USERS_MAX - used, "%s%s", used ? ", " : "",
                                     entry->d_name);
    }
}

/* Names ourselves; without a name it is used all the same. */
static int name_user(const char *volume, const char *user)
{
    char path[PATH_MAX + 2 * VOLUME_NAME_MAX];
    int fd;

    if (!user || !volume_name_ok(user))
        return -1;
    snprintf(path, sizeof(path), "%s/users", volume);
    mkdir(path, 0700);
    snprintf(path, sizeof(path), "%s/users/%s", volume, user);
    for (;;) {
        struct stat here, there;

        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB)) {
            fd_closep(&fd);
            return -1;
        }
        /* Somebody may just have taken it for a leftover. */
        if (fstat(fd, &here) == 0 && stat(path, &there) == 0 && here.st_ino == there.st_ino)
            return fd;
        close(fd);
    }
}

json_t *volume_json(const struct volume *volume)
{
    const char *limit = volume->image ? "image" : volume->project ? "quota" : "none";
    time_t seconds = (time_t)volume->created_s;
    char created[32] = "";
    struct tm utc;

    if (gmtime_r(&seconds, &utc))
        strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", &utc);
    return json_pack("{s:s, s:s, s:I, s:I, s:s, s:s, s:b, s:s}", "name", volume->name, "path",
                     volume->path, "size_bytes", (json_int_t)volume->size_bytes, "used_bytes",
                     (json_int_t)volume->used_bytes, "limit", limit, "created", created, "in_use",
                     (int)volume->in_use, "users", volume->users);
}

static uint64_t measure(int fd, const struct volume *volume)
{
    CLEANUP(fd_closep) int data = -1;
    uint64_t bytes;
    struct stat st;

    if (volume->image)
        return fstatat(fd, "disk", &st, 0) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
    data = openat(fd, "data", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (volume->project && data >= 0 && quota_used(data, volume->project, &bytes) == 0)
        return bytes;
    return data < 0 ? 0 : tree_bytes(TAKE_FD(data), 64);
}

static int read_description(int fd, const char *name, struct volume *ret, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    uint64_t project = 0;
    struct json_at root;
    json_t *document;
    int r;

    buf_init(&text, DESCRIPTION_MAX);
    if ((r = file_load(fd, "volume.json", &text, err)) < 0 ||
        (r = json_parse(text.data ? text.data : "", text.length, name, &document, err)) < 0)
        return r;
    json_at_root(document, &root);
    if ((r = json_get_uint(&root, "size", &ret->size_bytes, err)) == 0 &&
        (r = json_get_uint(&root, "created", &ret->created_s, err)) == 0)
        r = json_opt_uint(&root, "project", &project, err);
    json_decref(document);
    if (r == 0 && project > UINT32_MAX)
        r = err_set(err, -EINVAL, "project %llu is none", (unsigned long long)project);
    if (r == 0 && ret->created_s > CREATED_MAX)
        r = err_set(err, -EINVAL, "%llu s since 1970 is no time of creation",
                    (unsigned long long)ret->created_s);
    ret->project = (uint32_t)project;
    ret->image = ret->size_bytes && !project;
    return r;
}

static int describe(const char *dir, const char *name, bool with_usage, struct volume *ret,
                    struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    int r;

    *ret = (struct volume){0};
    snprintf(ret->name, sizeof(ret->name), "%s", name);
    if ((r = path_of(dir, "", name, "", ret->path, err)) < 0)
        return r;
    fd = open(ret->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, -errno,
                       "there is no volume '%s'; `lodge volume create %s` makes it (a directory of "
                       "the host has a '/' in its name)",
                       name, name);
    if ((r = read_description(fd, name, ret, err)) < 0)
        return err_wrap(err, "volume '%s'", name);
    ret->in_use = is_used(fd);
    find_users(fd, ret->users);
    if (with_usage)
        ret->used_bytes = measure(fd, ret);
    return 0;
}

int volume_find(const char *dir, const char *name, struct volume *ret, struct err *err)
{
    int r = check_name(name, err);

    return r < 0 ? r : describe(directory(dir), name, true, ret, err);
}

int volume_check(const char *dir, const char *name, struct err *err)
{
    struct volume volume;
    int r = check_name(name, err);

    return r < 0 ? r : describe(dir ?: directory(dir), name, false, &volume, err);
}

static int visible(const struct dirent *entry)
{
    return volume_name_ok(entry->d_name);
}

int volume_each(const char *dir, void (*each)(const struct volume *volume, void *context),
                void *context, struct err *err)
{
    struct dirent **entries;
    struct volume volume;
    int nr, shown = 0;

    dir = directory(dir);
    nr = scandir(dir, &entries, visible, alphasort);
    if (nr < 0)
        return errno == ENOENT ? 0 : err_errno(err, -errno, "read '%s'", dir);
    for (int i = 0; i < nr; i++) {
        if (describe(dir, entries[i]->d_name, true, &volume, NULL) == 0) {
            each(&volume, context);
            shown++;
        }
        free(entries[i]);
    }
    free(entries);
    return shown;
}

/* --- use --- */

/* Shared, or alone. */
static int hold(const struct volume *volume, int how, int *ret, struct err *err)
{
    char path[PATH_MAX + 8];
    int fd;

    snprintf(path, sizeof(path), "%s/lock", volume->path);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, -errno, "open '%s'", path);
    if (flock(fd, how | LOCK_NB)) {
        int r = errno == EWOULDBLOCK
                    ? err_set(err, -EBUSY, "volume '%s' is in use%s%s%s", volume->name,
                              volume->users[0] ? " by " : "", volume->users,
                              volume->image ? " (one with a size is for one guest at a time)" : "")
                    : err_errno(err, -errno, "lock '%s'", path);

        close(fd);
        return r;
    }
    *ret = fd;
    return 0;
}

int volume_remove(const char *dir, const char *name, struct err *err)
{
    CLEANUP(fd_closep) int lock = -1, hold_fd = -1;
    char old[PATH_MAX], fresh[PATH_MAX];
    struct volume volume;
    int r;

    dir = directory(dir);
    if ((r = check_name(name, err)) < 0 || (r = describe(dir, name, false, &volume, err)) < 0 ||
        (r = lock_directory(dir, &lock, err)) < 0 ||
        (r = path_of(dir, ".", name, ".old", old, err)) < 0 ||
        (r = path_of(dir, ".", name, ".new", fresh, err)) < 0 ||
        (r = hold(&volume, LOCK_EX, &hold_fd, err)) < 0 || (r = remove_tree(old, err)) < 0 ||
        (r = remove_tree(fresh, err)) < 0)
        return r;
    if (rename(volume.path, old))
        return err_errno(err, -errno, "remove '%s'", volume.path);
    /* hold_fd is of the same file system. */
    if (volume.project)
        quota_drop(hold_fd, volume.project);
    return remove_tree(old, err);
}

/* The lock, and the volume that it holds. */
static int take(const char *dir, const char *name, struct volume *volume, struct volume_use *ret,
                struct err *err)
{
    int r = check_name(name, err);

    *ret = (struct volume_use){.lock_fd = -1, .user_fd = -1};
    if (r < 0 || (r = describe(directory(dir), name, false, volume, err)) < 0)
        return r;
    return hold(volume, volume->image ? LOCK_EX : LOCK_SH, &ret->lock_fd, err);
}

/* With the result of what came after the lock. */
static int taken(const struct volume *volume, int result, const char *user, struct volume_use *ret,
                 struct err *err)
{
    if (result < 0) {
        err_wrap(err, "volume '%s'", volume->name);
        volume_release(ret);
        return result;
    }
    /* The volume may have been renamed away between the look and the lock. */
    if (access(volume->path, F_OK)) {
        volume_release(ret);
        return err_set(err, -ENOENT, "volume '%s' was just removed", volume->name);
    }
    ret->user_fd = name_user(volume->path, user);
    return 0;
}

static int foreign_path(const struct volume *volume, char ret[PATH_MAX], struct err *err)
{
    return path_of(volume->path, "", "foreign", "", ret, err);
}

/* Checked, where a guest's kernel wrote it: then only what e2fsck lets pass reaches ours. */
static int check_foreign(const struct volume *volume, const char *disk, struct err *err)
{
    char mark[PATH_MAX];
    int r = foreign_path(volume, mark, err);

    if (r < 0 || access(mark, F_OK))
        return r;
    return image_check(disk, err);
}

static int mount_disk(const struct volume *volume, const char *place, struct volume_use *ret,
                      struct err *err)
{
    char disk[PATH_MAX], mark[PATH_MAX];
    int r;

    if ((r = path_of(volume->path, "", "disk", "", disk, err)) < 0 ||
        (r = foreign_path(volume, mark, err)) < 0)
        return r;
    snprintf(ret->path, sizeof(ret->path), "%s", place);
    if ((r = image_wait(disk, err)) < 0 || (r = check_foreign(volume, disk, err)) < 0 ||
        (r = image_mount(disk, place, err)) < 0)
        return r;
    unlink(mark);
    return 0;
}

int volume_take(const char *dir, const char *name, const char *place, const char *user,
                struct volume_use *ret, struct err *err)
{
    struct volume volume;
    int r = take(dir, name, &volume, ret, err);

    if (r < 0)
        return r;
    if (volume.project)
        r = quota_check(ret->lock_fd, err);
    if (r == 0)
        r = volume.image ? mount_disk(&volume, place, ret, err)
                         : path_of(volume.path, "", "data", "", ret->path, err);
    return taken(&volume, r, user, ret, err);
}

int volume_take_disk(const char *dir, const char *name, bool read_only, const char *user,
                     struct volume_use *ret, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    struct volume volume;
    char mark[PATH_MAX];
    int r = take(dir, name, &volume, ret, err);

    if (r < 0)
        return r;
    if (!volume.image)
        r = err_set(err, -EINVAL, "it is a directory, not an image");
    if (r == 0 && (r = path_of(volume.path, "", "disk", "", ret->path, err)) == 0 &&
        (r = foreign_path(&volume, mark, err)) == 0)
        r = image_wait(ret->path, err);
    /* A guest that only reads cannot write back what an unclean end left in the journal. */
    if (r == 0 && read_only)
        r = check_foreign(&volume, ret->path, err);
    if (r == 0 && !read_only &&
        ((fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0 || fsync(fd)))
        r = err_errno(err, -errno, "make '%s'", mark);
    return taken(&volume, r, user, ret, err);
}

void volume_release(struct volume_use *use)
{
    fd_closep(&use->lock_fd);
    fd_closep(&use->user_fd);
    use->lock_fd = use->user_fd = -1;
}
