/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directories in order of preference; the first that has the thing wins. Names are checked before
 * they become paths.
 */
#include "image/store.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define CONFIG_MAX (1u << 20)

/* What cannot be a path is left out: it then names nothing. */
static int path_join(char ret[PATH_MAX], const char *dir, const char *name)
{
    int n = snprintf(ret, PATH_MAX, "%s/%s", dir, name);

    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static void add_dir(struct store *store, const char *dir, const char *below)
{
    if (store->nr_dirs < STORE_DIRS_MAX && dir && *dir == '/' &&
        path_join(store->dirs[store->nr_dirs], dir, below) == 0)
        store->nr_dirs++;
}

/* Installed: libexec/lodge beside bin. Otherwise users are in a source tree. */
static void find_tools(struct store *store, const char *above)
{
    char script[PATH_MAX];

    if (path_join(store->tools_dir, above, "libexec/lodge") < 0 ||
        path_join(script, store->tools_dir, "make_images.sh") < 0 || access(script, X_OK) < 0)
        strcpy(store->tools_dir, "tools");
}

int store_open(struct store *ret, struct err *err)
{
    const char *home = getenv("LODGE_HOME"), *data = getenv("XDG_DATA_HOME");
    char above[PATH_MAX];
    ssize_t n;
    char *slash;

    memset(ret, 0, sizeof(*ret));
    n = readlink("/proc/self/exe", ret->exe_dir, sizeof(ret->exe_dir) - 1);
    if (n < 0)
        return err_errno(err, -errno, "find our own program through /proc/self/exe");
    ret->exe_dir[n] = '\0';
    if ((slash = strrchr(ret->exe_dir, '/')))
        *slash = '\0';
    snprintf(above, sizeof(above), "%s", ret->exe_dir);
    if ((slash = strrchr(above, '/')))
        *slash = '\0';
    find_tools(ret, above);
    if (home && *home) {
        if (!realpath(home, ret->dirs[0]))
            return err_errno(err, -errno, "LODGE_HOME '%s'", home);
        ret->nr_dirs = 1;
        return 0;
    }
    if ((slash = strrchr(ret->exe_dir, '/')) && !strcmp(slash, "/bin"))
        add_dir(ret, above, "guest");
    add_dir(ret, "/var/lib", "lodge");
    if (data && *data == '/')
        add_dir(ret, data, "lodge");
    else
        add_dir(ret, getenv("HOME"), ".local/share/lodge");
    return 0;
}

int store_writable_dir(const struct store *store, const char *subdir, char ret[PATH_MAX])
{
    for (size_t i = 0; i < store->nr_dirs; i++) {
        char path[PATH_MAX];

        if (access(store->dirs[i], W_OK) < 0 || path_join(path, store->dirs[i], subdir) < 0)
            continue;
        if ((mkdir(path, 0755) < 0 && errno != EEXIST) || access(path, W_OK | X_OK) < 0)
            continue;
        memcpy(ret, path, PATH_MAX);
        return 0;
    }
    return -EROFS;
}

void image_done(struct image *image)
{
    json_decref(image->config);
    image->config = NULL;
}

static int image_load(const char *store_dir, const char *name, struct image *ret, struct err *err)
{
    struct image image = {0};
    CLEANUP(buf_donep) struct buf text;
    char path[PATH_MAX], below[IMAGE_NAME_MAX + 32];
    const char *digest = "";
    struct json_at root;
    int result;

    buf_init(&text, CONFIG_MAX);
    snprintf(below, sizeof(below), "images/%.127s/config.json", name);
    if (path_join(path, store_dir, below) < 0)
        return -ENAMETOOLONG;
    if ((result = file_load(AT_FDCWD, path, &text, err)) < 0 ||
        (result = json_parse(text.data, text.length, path, &image.config, err)) < 0)
        return result;
    json_at_root(image.config, &root);
    if ((result = json_opt_string(&root, "digest", &digest, err)) < 0) {
        err_wrap(err, "%s", path);
        image_done(&image);
        return result;
    }
    snprintf(image.name, sizeof(image.name), "%s", name);
    snprintf(image.digest, sizeof(image.digest), "%.95s", digest);
    snprintf(image.store_dir, sizeof(image.store_dir), "%s", store_dir);
    snprintf(below, sizeof(below), "images/%.127s/rootfs", name);
    (void)path_join(image.rootfs, store_dir, below);
    *ret = image;
    return 0;
}

int image_list(const struct store *store, void (*each)(const struct image *image, void *context),
               void *context)
{
    for (size_t i = 0; i < store->nr_dirs; i++) {
        CLEANUP(dir_closep) DIR *dir = NULL;
        char path[PATH_MAX];
        struct dirent *entry;

        if (path_join(path, store->dirs[i], "images") < 0 || !(dir = opendir(path)))
            continue;
        while ((entry = readdir(dir))) {
            struct image image;
            struct err ignored = ERR_INIT;

            if (entry->d_name[0] == '.' || strlen(entry->d_name) >= IMAGE_NAME_MAX ||
                image_load(store->dirs[i], entry->d_name, &image, &ignored) < 0)
                continue;
            each(&image, context);
            image_done(&image);
        }
    }
    return 0;
}

struct names {
    char text[512];
};

static void names_add(struct names *names, const char *name)
{
    size_t length = strlen(names->text);

    snprintf(names->text + length, sizeof(names->text) - length, "%s%s", length ? ", " : "", name);
}

static void names_add_image(const struct image *image, void *context)
{
    names_add(context, image->name);
}

static int image_open_dir(const char *path, struct image *ret, struct err *err)
{
    struct image image = {0};
    struct stat st;

    if (!realpath(path, image.rootfs))
        return err_errno(err, -errno, "root file system '%s'", path);
    if (stat(image.rootfs, &st) < 0)
        return err_errno(err, -errno, "root file system '%s'", path);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, -ENOTDIR,
                       "'%s' is not a directory: an image's name or a directory with a "
                       "root file system is needed",
                       path);
    if (!strcmp(image.rootfs, "/"))
        return err_set(err, -EINVAL, "the host's own root directory cannot be an image");
    snprintf(image.name, sizeof(image.name), "%.127s", strrchr(image.rootfs, '/') + 1);
    if (!(image.config = json_object()))
        return err_set(err, -ENOMEM, "open '%s'", path);
    *ret = image;
    return 0;
}

int image_open(const struct store *store, const char *name_or_dir, struct image *ret,
               struct err *err)
{
    struct names names = {""};

    if (strchr(name_or_dir, '/') || !strcmp(name_or_dir, ".") || !strcmp(name_or_dir, ".."))
        return image_open_dir(name_or_dir, ret, err);
    if (!*name_or_dir || name_or_dir[0] == '.' || strlen(name_or_dir) >= IMAGE_NAME_MAX)
        return err_set(err, -EINVAL, "'%.40s' is no image's name", name_or_dir);
    for (size_t i = 0; i < store->nr_dirs; i++) {
        int result = image_load(store->dirs[i], name_or_dir, ret, err);

        if (result != -ENOENT)
            return result;
    }
    image_list(store, names_add_image, &names);
    if (*names.text)
        return err_set(err, -ENOENT,
                       "no image '%s' here; there are: %s (a directory needs a '/' in "
                       "it: ./%s)",
                       name_or_dir, names.text, name_or_dir);
    return err_set(err, -ENOENT,
                   "no image '%s' here, and no other: make some with "
                   "%s/make_images.sh busybox debian",
                   name_or_dir, store->tools_dir);
}

/* A kernel's directory; -ENOENT when it holds none. */
static int kernel_load(const char *dir, const char *name, struct kernel *ret)
{
    struct kernel kernel = {0};
    char path[PATH_MAX];
    CLEANUP(buf_donep) struct buf text;

    buf_init(&text, 4096);
    if (path_join(kernel.vmlinuz, dir, "vmlinuz") < 0 || access(kernel.vmlinuz, F_OK) < 0)
        return -ENOENT;
    snprintf(kernel.name, sizeof(kernel.name), "%.127s", name);
    snprintf(kernel.dir, sizeof(kernel.dir), "%s", dir);
    if (path_join(path, dir, "release") == 0 && file_load(AT_FDCWD, path, &text, NULL) == 0)
        snprintf(kernel.release, sizeof(kernel.release), "%.*s",
                 (int)MIN(strcspn(buf_string(&text) ?: "", "\n"), sizeof(kernel.release) - 1),
                 text.data ? text.data : "");
    *ret = kernel;
    return 0;
}

int kernel_list(const struct store *store, void (*each)(const struct kernel *kernel, void *context),
                void *context)
{
    for (size_t i = 0; i < store->nr_dirs; i++) {
        CLEANUP(dir_closep) DIR *dir = NULL;
        char path[PATH_MAX], kernel_dir[PATH_MAX];
        struct dirent *entry;

        if (path_join(path, store->dirs[i], "kernels") < 0 || !(dir = opendir(path)))
            continue;
        while ((entry = readdir(dir))) {
            struct kernel kernel;

            if (entry->d_name[0] != '.' && path_join(kernel_dir, path, entry->d_name) == 0 &&
                kernel_load(kernel_dir, entry->d_name, &kernel) == 0)
                each(&kernel, context);
        }
    }
    return 0;
}

static void names_add_kernel(const struct kernel *kernel, void *context)
{
    names_add(context, kernel->name);
}

static int kernel_open_path(const char *path, struct kernel *ret, struct err *err)
{
    char real[PATH_MAX], *slash;
    struct stat st;

    if (!realpath(path, real) || stat(real, &st) < 0)
        return err_errno(err, -errno, "kernel '%s'", path);
    if (S_ISDIR(st.st_mode)) {
        if (kernel_load(real, strrchr(real, '/') + 1, ret) < 0)
            return err_set(err, -ENOENT, "'%s' holds no 'vmlinuz'", path);
        return 0;
    }
    slash = strrchr(real, '/');
    *slash = '\0';
    if (!strcmp(slash + 1, "vmlinuz") && kernel_load(real, strrchr(real, '/') ?: "/", ret) == 0 &&
        *ret->release)
        return 0;
    *slash = '/';
    memset(ret, 0, sizeof(*ret));
    snprintf(ret->name, sizeof(ret->name), "%.127s", slash + 1);
    snprintf(ret->vmlinuz, sizeof(ret->vmlinuz), "%s", real);
    return 0;
}

int kernel_open(const struct store *store, const char *name_or_path, struct kernel *ret,
                struct err *err)
{
    struct names names = {""};

    if (strchr(name_or_path, '/'))
        return kernel_open_path(name_or_path, ret, err);
    for (size_t i = 0; i < store->nr_dirs && *name_or_path; i++) {
        char below[IMAGE_NAME_MAX + 16], dir[PATH_MAX];

        snprintf(below, sizeof(below), "kernels/%.127s", name_or_path);
        if (path_join(dir, store->dirs[i], below) == 0 && kernel_load(dir, name_or_path, ret) == 0)
            return 0;
    }
    kernel_list(store, names_add_kernel, &names);
    return err_set(err, -ENOENT,
                   "no guest kernel '%s' here (there are: %s); fetch one with "
                   "%s/fetch_kernel.sh cloud|generic|rt, or name a file with its path",
                   name_or_path, *names.text ? names.text : "none", store->tools_dir);
}
