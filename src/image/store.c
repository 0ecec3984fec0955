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
#include "image/import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
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
    for (size_t i = 0; i < image->nr_layers; i++)
        if (image->layers[i].fd >= 0)
            close(image->layers[i].fd);
    free(image->layers);
    image->layers = NULL;
    image->nr_layers = 0;
    json_decref(image->config);
    image->config = NULL;
}

/* The one directory of an image that has no layers. */
static int open_rootfs(struct image *image, struct err *err)
{
    if (!(image->layers = malloc(sizeof(*image->layers))))
        return err_set(err, -ENOMEM, "out of memory");
    image->nr_layers = 1;
    snprintf(image->layers->path, sizeof(image->layers->path), "%s", image->rootfs);
    image->layers->fd = open(image->rootfs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (image->layers->fd < 0)
        return err_errno(err, -errno, "open '%s'", image->rootfs);
    return 0;
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

/* Without their layers: nothing is opened or locked. */
static void list_imported(const struct store *store,
                          void (*each)(const struct image *image, void *context), void *context)
{
    for (size_t i = 0; i < store->nr_dirs; i++) {
        struct layout layout;
        json_t *index, *list;

        if (layout_open(store->dirs[i], false, &layout, NULL) < 0)
            continue;
        list = layout_index(&layout, &index, NULL) == 0 ? json_object_get(index, "manifests")
                                                        : NULL;
        for (size_t n = 0; n < json_array_size(list); n++) {
            CLEANUP(freep) struct layout_image *from = calloc(1, sizeof(*from));
            json_t *notes = json_object_get(json_array_get(list, n), "annotations");
            const char *name = json_string_value(json_object_get(notes, ANNOTATION_NAME));
            struct image image = {.imported = true};

            if (!from || !name || layout_image_load(&layout, name, from, NULL) < 0)
                continue;
            snprintf(image.name, sizeof(image.name), "%s", from->reference);
            snprintf(image.digest, sizeof(image.digest), "%s", from->target.digest);
            snprintf(image.store_dir, sizeof(image.store_dir), "%s", store->dirs[i]);
            snprintf(image.rootfs, sizeof(image.rootfs), "%.3900s/layers/%s", layout.path,
                     digest_hex(from->config.diff_ids[from->config.nr_layers - 1]));
            if ((image.config = image_config_run(&from->config)))
                each(&image, context);
            json_decref(image.config);
            layout_image_done(from);
        }
        if (list)
            json_decref(index);
        layout_close(&layout);
    }
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
    list_imported(store, each, context);
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
    if (open_rootfs(&image, err) < 0) {
        image_done(&image);
        return err->code;
    }
    *ret = image;
    return 0;
}

/* Locked before it is looked for again: a collection either sees the lock or was first. */
static int open_layer(const struct layout *layout, const char *diff_id, int *ret_fd)
{
    char path[96];
    CLEANUP(fd_closep) int fd = -1;

    snprintf(path, sizeof(path), "layers/%s", digest_hex(diff_id));
    fd = openat(layout->fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static int open_layers(const struct layout *layout, const struct layout_image *from,
                       struct image *image, struct err *err)
{
    size_t nr = from->config.nr_layers;

    if (!(image->layers = calloc(nr, sizeof(*image->layers))))
        return err_set(err, -ENOMEM, "out of memory");
    for (; image->nr_layers < nr; image->nr_layers++) {
        const char *diff_id = from->config.diff_ids[nr - 1 - image->nr_layers];
        struct image_layer *layer = &image->layers[image->nr_layers];
        int result = open_layer(layout, diff_id, &layer->fd);

        if (result < 0)
            return err_errno(err, result, "image '%s': open its layer %.19s", image->name, diff_id);
        snprintf(layer->path, sizeof(layer->path), "%.3900s/layers/%s", layout->path,
                 digest_hex(diff_id));
    }
    snprintf(image->rootfs, sizeof(image->rootfs), "%s", image->layers[0].path);
    return 0;
}

static int load_imported(const struct layout *layout, const char *store_dir, const char *name,
                         struct image *ret, struct err *err)
{
    CLEANUP(freep) struct layout_image *from = calloc(1, sizeof(*from));
    CLEANUP(fd_closep) int lock = -1;
    struct image image = {.imported = true};
    int result;

    if (!from)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = lock = layout_lock(layout, LAYOUT_ADD, err)) < 0 ||
        (result = layout_image_load(layout, name, from, err)) < 0)
        return result;
    snprintf(image.name, sizeof(image.name), "%s", from->reference);
    snprintf(image.digest, sizeof(image.digest), "%s", from->target.digest);
    snprintf(image.store_dir, sizeof(image.store_dir), "%s", store_dir);
    result = open_layers(layout, from, &image, err);
    if (result == 0 && !(image.config = image_config_run(&from->config)))
        result = err_set(err, -ENOMEM, "out of memory");
    layout_image_done(from);
    if (result < 0) {
        image_done(&image);
        return result;
    }
    *ret = image;
    return 0;
}

/* -ENOENT: no such image was imported. */
static int image_open_imported(const struct store *store, const char *name, struct image *ret,
                               struct err *err)
{
    struct layout layout;
    int result = -ENOENT;

    if (import_find(store, name, &layout, NULL) < 0)
        return -ENOENT;
    for (size_t i = 0; i < store->nr_dirs; i++)
        if (!strncmp(layout.path, store->dirs[i], strlen(store->dirs[i])) &&
            !strcmp(layout.path + strlen(store->dirs[i]), "/oci"))
            result = load_imported(&layout, store->dirs[i], name, ret, err);
    layout_close(&layout);
    if (result == -ENOENT) { /* the image is there, and not whole: that is another thing */
        err_wrap(err, "image '%s' is damaged in the store; import or pull it again", name);
        result = -ENODATA;
    }
    return result;
}

/* "host/name:tag" that is no path here. */
static bool is_reference(const char *name)
{
    char reference[REFERENCE_MAX];

    return access(name, F_OK) < 0 && reference_normalize(name, reference, NULL) == 0;
}

int image_open(const struct store *store, const char *name_or_dir, struct image *ret,
               struct err *err)
{
    struct names names = {""};
    int result;

    if (*name_or_dir == '/' || *name_or_dir == '.')
        return image_open_dir(name_or_dir, ret, err);
    if ((result = image_open_imported(store, name_or_dir, ret, err)) != -ENOENT)
        return result;
    if (strchr(name_or_dir, '/') && !is_reference(name_or_dir))
        return image_open_dir(name_or_dir, ret, err);
    if (!*name_or_dir || strlen(name_or_dir) >= IMAGE_NAME_MAX)
        return err_set(err, -EINVAL, "'%.40s' is no image's name", name_or_dir);
    for (size_t i = 0; i < store->nr_dirs; i++) {
        result = strchr(name_or_dir, '/') ? -ENOENT
                                          : image_load(store->dirs[i], name_or_dir, ret, err);
        if (result == 0 && (result = open_rootfs(ret, err)) < 0)
            image_done(ret);
        if (result != -ENOENT)
            return result;
    }
    if (digest_valid(name_or_dir))
        return err_set(err, -ENOENT,
                       "image '%s' is not in the store any more; import or pull it again",
                       name_or_dir);
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
