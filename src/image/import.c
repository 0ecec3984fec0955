/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images into the store: blobs first, each held to its digest; then the layers unpacked, each once;
 * then the tag. What breaks off in between leaves content without a name, for the next collection.
 */
#include "image/import.h"

#include "base/file.h"
#include "base/json.h"
#include "base/util.h"
#include "image/source.h"
#include "image/tree_tar.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

struct import {
    const struct layout *layout;
    const struct image_source *source;
    const struct import_options *options;
    struct import_result *result;
    char what[64];
    uint64_t total;
    const char *taking; /* "packing", "copying" */
    uint64_t taken_total;
};

static void progress(const struct import *import, const char *what, uint64_t done, uint64_t total)
{
    if (import->options->progress)
        import->options->progress(import->options->context, what, done, total);
}

static void layer_progress(void *context, uint64_t bytes)
{
    const struct import *import = context;

    progress(import, import->what, bytes, import->total);
}

static void blob_progress(void *context, uint64_t bytes)
{
    const struct import *import = context;

    if (import->taking)
        progress(import, import->taking, bytes, import->taken_total);
}

/* Everything below a directory's file system on the disk, before it gets its name. */
static int sync_tree(int fd)
{
    return syncfs(fd) < 0 ? -errno : 0;
}

/* Unpacks a blob into tmp/; ret_name is where. */
static int unpack_temporary(struct import *import, const char *blob, char ret_name[64],
                            struct unpack_result *ret, struct err *err)
{
    const struct layout *layout = import->layout;
    struct unpack_options options = import->options->unpack;
    CLEANUP(fd_closep) int fd = blob_open(layout, blob, err);
    CLEANUP(fd_closep) int root = -1;
    int result;

    if (fd < 0)
        return fd;
    options.flat = false;
    options.progress = layer_progress;
    options.context = import;
    layout_temporary("layer", ret_name);
    if (mkdirat(layout->fd, ret_name, 0755) < 0 ||
        (root = openat(layout->fd, ret_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return err_errno(err, -errno, "create '%s/%s'", layout->path, ret_name);
    result = unpack_layer(fd, root, &options, ret, err);
    if (result == 0 && strcmp(ret->digest, blob) != 0) {
        char path[96];

        snprintf(path, sizeof(path), "blobs/sha256/%s", digest_hex(blob));
        unlinkat(layout->fd, path, 0);
        result = err_set(err, -EBADMSG, "the layer's content is not what its digest says: %s came",
                         ret->digest);
    }
    if (result == 0 && (result = sync_tree(root)) < 0)
        err_errno(err, result, "write '%s/%s'", layout->path, ret_name);
    import->result->nr_devices_skipped += ret->nr_devices_skipped;
    return result < 0 ? err_wrap(err, "layer %.19s", blob) : 0;
}

/* diff_id: what the layer must be; or "" for what it is, which is returned there. */
static int add_layer(struct import *import, const char *blob, char diff_id[DIGEST_MAX],
                     struct err *err)
{
    const struct layout *layout = import->layout;
    struct unpack_result unpacked;
    char name[64], path[96];
    struct stat st;
    int result;

    import->result->nr_layers++;
    if (*diff_id) {
        snprintf(path, sizeof(path), "layers/%s", digest_hex(diff_id));
        if (fstatat(layout->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
            return 0;
    }
    *name = '\0';
    result = unpack_temporary(import, blob, name, &unpacked, err);
    if (result == 0 && *diff_id && strcmp(diff_id, unpacked.diff_id) != 0)
        result = err_set(err, -EBADMSG,
                         "layer %.19s is not what the configuration says: %s is needed, %s came",
                         blob, diff_id, unpacked.diff_id);
    if (result == 0) {
        memcpy(diff_id, unpacked.diff_id, DIGEST_MAX);
        snprintf(path, sizeof(path), "layers/%s", digest_hex(diff_id));
        if (renameat(layout->fd, name, layout->fd, path) == 0)
            import->result->nr_layers_new++;
        else if (errno == EEXIST || errno == ENOTEMPTY)
            tree_remove(layout->fd, name); /* another process was faster */
        else
            result = err_errno(err, -errno, "write '%s/%s'", layout->path, path);
    }
    if (result < 0 && *name)
        tree_remove(layout->fd, name);
    return result;
}

static int tag(struct import *import, const char *reference, const struct descriptor *target,
               struct err *err)
{
    struct import_result *ret = import->result;
    int result = layout_tag(import->layout, reference, target, err);

    if (result < 0)
        return result;
    memcpy(ret->digest, target->digest, DIGEST_MAX);
    if (ret->nr_references < IMPORT_REFERENCES_MAX)
        snprintf(ret->references[ret->nr_references++], REFERENCE_MAX, "%s", reference);
    return 0;
}

/* OCI layouts. */

static int ensure_blob(struct import *import, const struct descriptor *blob, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    char name[96], digest[DIGEST_MAX];
    uint64_t bytes;
    int result;

    if (blob_exists(import->layout, blob->digest, blob->bytes))
        return 0;
    snprintf(name, sizeof(name), "blobs/sha256/%s", digest_hex(blob->digest));
    if ((fd = source_member(import->source, name, err)) < 0)
        return fd;
    import->taking = "copying";
    import->taken_total = blob->bytes;
    result = blob_copy(import->layout, fd, blob->digest, digest, &bytes, err);
    import->taking = NULL;
    return result;
}

/* Follows indexes down to a manifest. */
static int find_manifest(struct import *import, struct descriptor *target, struct buf *text,
                         struct err *err)
{
    for (unsigned depth = 0; depth < 4; depth++) {
        bool is_index;
        int result;

        text->length = 0;
        if (target->bytes > DOCUMENT_MAX)
            return err_set(err, -E2BIG, "a manifest of %llu bytes",
                           (unsigned long long)target->bytes);
        if ((result = ensure_blob(import, target, err)) < 0 ||
            (result = blob_load(import->layout, target->digest, text, err)) < 0 ||
            (result = manifest_pick(text->data, text->length, target->digest, &is_index, target,
                                    err)) < 0)
            return result;
        if (!is_index)
            return 0;
    }
    return err_set(err, -ELOOP, "the image's indexes are nested too deeply");
}

static int import_manifest(struct import *import, struct descriptor *target, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    CLEANUP(buf_donep) struct buf config_text;
    CLEANUP(freep) struct manifest *manifest = malloc(sizeof(*manifest));
    CLEANUP(freep) struct image_config *config = calloc(1, sizeof(*config));
    int result;

    buf_init(&text, DOCUMENT_MAX);
    buf_init(&config_text, DOCUMENT_MAX);
    if (!manifest || !config)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = find_manifest(import, target, &text, err)) < 0 ||
        (result = manifest_parse(text.data, text.length, target->digest, manifest, err)) < 0 ||
        (result = ensure_blob(import, &manifest->config, err)) < 0 ||
        (result = blob_load(import->layout, manifest->config.digest, &config_text, err)) < 0 ||
        (result = image_config_parse(config_text.data, config_text.length, manifest->config.digest,
                                     manifest->nr_layers, config, err)) < 0)
        return result;
    if (!*target->media_type)
        snprintf(target->media_type, sizeof(target->media_type), "%s", MEDIA_OCI);
    for (size_t i = 0; i < manifest->nr_layers && result == 0; i++) {
        snprintf(import->what, sizeof(import->what), "layer %zu of %zu", i + 1,
                 manifest->nr_layers);
        import->total = manifest->layers[i].bytes;
        result = ensure_blob(import, &manifest->layers[i], err);
        if (result == 0)
            result = add_layer(import, manifest->layers[i].digest, config->diff_ids[i], err);
    }
    image_config_done(config);
    return result;
}

static int import_oci(struct import *import, const char *fallback, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    json_t *index, *list;
    int result;

    buf_init(&text, DOCUMENT_MAX);
    if ((result = source_load(import->source, "index.json", &text, err)) < 0 ||
        (result = json_parse(text.data, text.length, "index.json", &index, err)) < 0)
        return result;
    list = json_object_get(index, "manifests");
    if (json_array_size(list) == 0)
        result = err_set(err, -ENOENT, "index.json names no image");
    for (size_t i = 0; i < json_array_size(list) && result == 0; i++) {
        json_t *entry = json_array_get(list, i), *notes = json_object_get(entry, "annotations");
        const char *name = json_string_value(json_object_get(notes, "io.containerd.image.name"));
        char reference[REFERENCE_MAX];
        struct descriptor target;

        if (!name)
            name = json_string_value(json_object_get(notes, ANNOTATION_NAME));
        if (import->options->reference || !name || reference_normalize(name, reference, NULL) < 0)
            snprintf(reference, sizeof(reference), "%s", fallback);
        if ((result = descriptor_parse(entry, "index.json", &target, err)) == 0 &&
            (result = import_manifest(import, &target, err)) == 0)
            result = tag(import, reference, &target, err);
        if (import->options->reference)
            break;
    }
    json_decref(index);
    return result;
}

/* What is made here: a manifest over blobs that are in the store. */

static const char *media_type(const struct layout *layout, const char *blob)
{
    CLEANUP(fd_closep) int fd = blob_open(layout, blob, NULL);
    uint8_t magic[4] = {0};

    if (fd >= 0 && file_read_full(fd, magic, sizeof(magic)) == (ssize_t)sizeof(magic)) {
        if (magic[0] == 0x1f && magic[1] == 0x8b)
            return MEDIA_OCI_LAYER "+gzip";
        if (load_le32(magic) == 0xfd2fb528)
            return MEDIA_OCI_LAYER "+zstd";
    }
    return MEDIA_OCI_LAYER;
}

static int put_json(const struct layout *layout, json_t *document, char ret[DIGEST_MAX],
                    uint64_t *ret_bytes, struct err *err)
{
    CLEANUP(freep) char *text = document ? json_dumps(document, JSON_COMPACT) : NULL;

    json_decref(document);
    if (!text)
        return err_set(err, -ENOMEM, "out of memory");
    *ret_bytes = strlen(text);
    return blob_put(layout, text, strlen(text), ret, err);
}

/* layers: descriptors, taken. */
static int put_manifest(const struct layout *layout, const char *config, uint64_t config_bytes,
                        json_t *layers, struct descriptor *ret, struct err *err)
{
    json_t *document = json_pack("{s:i, s:s, s:{s:s, s:s, s:I}, s:o}", "schemaVersion", 2,
                                 "mediaType", MEDIA_OCI, "config", "mediaType", MEDIA_OCI_CONFIG,
                                 "digest", config, "size", (json_int_t)config_bytes, "layers",
                                 layers);

    snprintf(ret->media_type, sizeof(ret->media_type), "%s", MEDIA_OCI);
    return put_json(layout, document, ret->digest, &ret->bytes, err);
}

static json_t *layer_descriptor(const struct layout *layout, const char *digest, uint64_t bytes)
{
    return json_pack("{s:s, s:s, s:I}", "mediaType", media_type(layout, digest), "digest", digest,
                     "size", (json_int_t)bytes);
}

/* docker-archive: manifest.json lists configurations and layers by member names. */

static int import_docker_layer(struct import *import, const char *member, char diff_id[DIGEST_MAX],
                               json_t *layers, struct err *err)
{
    CLEANUP(fd_closep) int fd = source_member(import->source, member, err);
    char digest[DIGEST_MAX];
    struct stat st;
    uint64_t bytes;
    int result;

    if (fd < 0)
        return fd;
    import->total = import->taken_total = fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
    import->taking = "copying";
    result = blob_copy(import->layout, fd, NULL, digest, &bytes, err);
    import->taking = NULL;
    if (result < 0 || (result = add_layer(import, digest, diff_id, err)) < 0)
        return result;
    return json_array_append_new(layers, layer_descriptor(import->layout, digest, bytes)) < 0
               ? err_set(err, -ENOMEM, "out of memory")
               : 0;
}

static int import_docker_image(struct import *import, json_t *entry, struct descriptor *target,
                               struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    CLEANUP(freep) struct image_config *config = calloc(1, sizeof(*config));
    const char *name = json_string_value(json_object_get(entry, "Config"));
    json_t *list = json_object_get(entry, "Layers"), *layers = json_array();
    char digest[DIGEST_MAX];
    int result;

    buf_init(&text, DOCUMENT_MAX);
    if (!config || !layers)
        result = err_set(err, -ENOMEM, "out of memory");
    else if (!name || json_array_size(list) == 0)
        result = err_set(err, -EINVAL, "manifest.json: 'Config' and 'Layers' are needed");
    else if ((result = source_load(import->source, name, &text, err)) == 0)
        result = image_config_parse(text.data, text.length, name, json_array_size(list), config,
                                    err);
    for (size_t i = 0; result == 0 && i < json_array_size(list); i++) {
        const char *member = json_string_value(json_array_get(list, i));

        snprintf(import->what, sizeof(import->what), "layer %zu of %zu", i + 1,
                 json_array_size(list));
        result = member ? import_docker_layer(import, member, config->diff_ids[i], layers, err)
                        : err_set(err, -EINVAL, "manifest.json: Layers[%zu] is no name", i);
    }
    if (result == 0)
        result = blob_put(import->layout, text.data, text.length, digest, err);
    if (result == 0)
        result = put_manifest(import->layout, digest, text.length, TAKE_PTR(layers), target, err);
    json_decref(layers);
    if (config)
        image_config_done(config);
    return result;
}

static int import_docker(struct import *import, const char *fallback, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    json_t *list;
    int result;

    buf_init(&text, DOCUMENT_MAX);
    if ((result = source_load(import->source, "manifest.json", &text, err)) < 0 ||
        (result = json_parse(text.data, text.length, "manifest.json", &list, err)) < 0)
        return result;
    if (!json_is_array(list) || json_array_size(list) == 0)
        result = err_set(err, -EINVAL, "manifest.json names no image");
    for (size_t i = 0; i < json_array_size(list) && result == 0; i++) {
        json_t *entry = json_array_get(list, i), *tags = json_object_get(entry, "RepoTags");
        struct descriptor target = {0};
        bool tagged = false;

        result = import_docker_image(import, entry, &target, err);
        for (size_t t = 0; result == 0 && !import->options->reference && t < json_array_size(tags);
             t++) {
            const char *name = json_string_value(json_array_get(tags, t));
            char reference[REFERENCE_MAX];

            if (!name || reference_normalize(name, reference, NULL) < 0)
                continue;
            result = tag(import, reference, &target, err);
            tagged = true;
        }
        if (result == 0 && !tagged)
            result = tag(import, fallback, &target, err);
        if (import->options->reference)
            break;
    }
    json_decref(list);
    return result;
}

int import_source(const struct layout *layout, const struct image_source *source, bool docker,
                  const char *fallback, const struct import_options *options,
                  struct import_result *ret, struct err *err)
{
    struct import import = {.layout = layout, .source = source, .options = options, .result = ret};

    return docker ? import_docker(&import, fallback, err) : import_oci(&import, fallback, err);
}

/* Root file systems: one layer, and a configuration of our own. */

static int import_tree(struct import *import, int fd, bool directory, const char *reference,
                       struct err *err)
{
    char blob[DIGEST_MAX], diff_id[DIGEST_MAX] = "", config[DIGEST_MAX], created[32];
    struct descriptor target = {0};
    uint64_t bytes, config_bytes;
    time_t now = time(NULL);
    struct tm utc;
    int result;

    snprintf(import->what, sizeof(import->what), "layer 1 of 1");
    import->taking = directory ? "packing" : "copying";
    progress(import, import->taking, 0, import->taken_total);
    result = directory ? tree_tar(import->layout, fd, blob, &bytes, err)
                       : tar_take(import->layout, fd, blob, &bytes, err);
    import->total = bytes;
    import->taking = NULL;
    if (result < 0 || (result = add_layer(import, blob, diff_id, err)) < 0)
        return result;
    strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    result = put_json(import->layout,
                      json_pack("{s:s, s:s, s:s, s:{s:[s], s:[s], s:s}, s:{s:s, s:[s]}, "
                                "s:[{s:s, s:s}]}",
                                "created", created, "architecture", "amd64", "os", "linux",
                                "config", "Cmd", "/bin/sh", "Env",
                                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                "WorkingDir", "/", "rootfs", "type", "layers", "diff_ids", diff_id,
                                "history", "created", created, "created_by", "lodge image import"),
                      config, &config_bytes, err);
    if (result == 0)
        result = put_manifest(import->layout, config, config_bytes,
                              json_pack("[o]", layer_descriptor(import->layout, blob, bytes)),
                              &target, err);
    return result < 0 ? result : tag(import, reference, &target, err);
}

/* A name for what has none: the file's, without what says that it is an archive. */
static void name_from_path(const char *path, char ret[REFERENCE_MAX])
{
    static const char *const endings[] = {".gz", ".zst", ".xz", ".bz2", ".tgz", ".tar", ".oci"};
    char name[PATH_MAX], *slash;

    snprintf(name, sizeof(name), "%s", path);
    while ((slash = strrchr(name, '/')) && !slash[1])
        *slash = '\0';
    slash = strrchr(name, '/');
    memmove(name, slash ? slash + 1 : name, strlen(slash ? slash + 1 : name) + 1);
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        size_t length = strlen(name), ending = strlen(endings[i]);

        if (length > ending && !strcmp(name + length - ending, endings[i]))
            name[length - ending] = '\0';
    }
    if (reference_normalize(name, ret, NULL) < 0)
        snprintf(ret, REFERENCE_MAX, "imported:latest");
}

/* Standard input may be a pipe: a file that can be read twice. */
static int spool_input(const struct layout *layout, struct err *err)
{
    CLEANUP(freep) char *data = malloc(MIB);
    CLEANUP(fd_closep) int fd = -1;
    char name[64];
    ssize_t n;
    int result = 0;

    layout_temporary("input", name);
    fd = openat(layout->fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || !data)
        return err_errno(err, data ? -errno : -ENOMEM, "create '%s/%s'", layout->path, name);
    unlinkat(layout->fd, name, 0);
    while (result == 0 && (n = file_read_full(STDIN_FILENO, data, MIB)) != 0)
        result = n < 0 ? (int)n : file_write_full(fd, data, (size_t)n);
    if (result < 0)
        return err_errno(err, result, "copy standard input to '%s'", layout->path);
    return TAKE_FD(fd);
}

static int import_opened(struct import *import, int fd, bool directory, const char *reference,
                         struct err *err)
{
    struct image_source source;
    enum source_kind kind;
    int result = source_detect(fd, directory, &kind, err);

    if (result < 0)
        return result;
    if (kind == SOURCE_TREE)
        return import_tree(import, fd, directory, reference, err);
    progress(import, "reading", 0, 0);
    if ((result = source_open(import->layout, fd, directory, &source, err)) < 0)
        return result;
    import->source = &source;
    result = kind == SOURCE_DOCKER ? import_docker(import, reference, err)
                                   : import_oci(import, reference, err);
    source_close(&source);
    return result;
}

int import_store_dir(const struct store *store, char ret[PATH_MAX], struct err *err)
{
    char path[PATH_MAX];

    for (unsigned attempt = 0; attempt < 2; attempt++) {
        if (store_writable_dir(store, "oci", path) == 0) {
            *strrchr(path, '/') = '\0';
            memcpy(ret, path, PATH_MAX);
            return 0;
        }
        /* The store's own directory may not have been made yet. */
        for (size_t i = 0; i < store->nr_dirs; i++)
            for (char *slash = strcpy(path, store->dirs[i]); slash;) {
                if ((slash = strchr(slash + 1, '/')))
                    *slash = '\0';
                (void)!mkdir(path, 0755);
                if (slash)
                    *slash = '/';
            }
    }
    return err_set(err, -EROFS,
                   "no directory of the store can be written to; name one with "
                   "LODGE_HOME");
}

int image_import(const struct store *store, const char *path, const struct import_options *options,
                 struct import_result *ret, struct err *err)
{
    struct import import = {.options = options, .result = ret};
    CLEANUP(fd_closep) int fd = -1;
    CLEANUP(fd_closep) int lock = -1;
    char dir[PATH_MAX], reference[REFERENCE_MAX];
    const char *name = !strcmp(path, "-") && options->source ? options->source : path;
    struct layout layout;
    struct stat st;
    int result;

    memset(ret, 0, sizeof(*ret));
    name_from_path(name, reference);
    if ((options->reference &&
         (result = reference_normalize(options->reference, reference, err)) < 0) ||
        (result = import_store_dir(store, dir, err)) < 0 ||
        (result = layout_open(dir, true, &layout, err)) < 0)
        return result;
    import.layout = &layout;
    layout.wrote = blob_progress;
    layout.context = &import;
    if ((lock = layout_lock(&layout, LAYOUT_ADD, err)) < 0)
        result = lock;
    else if (!strcmp(path, "-"))
        result = fd = spool_input(&layout, err);
    else if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) < 0)
        result = err_errno(err, -errno, "open '%s'", path);
    if (result >= 0 && fstat(fd, &st) < 0)
        result = err_errno(err, -errno, "open '%s'", path);
    if (result >= 0 && !S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
        result = err_set(err, -EINVAL,
                         "'%s' is neither a directory nor a file ('-' is standard input)", path);
    if (result >= 0 && S_ISREG(st.st_mode))
        import.taken_total = (uint64_t)st.st_size;
    if (result >= 0)
        result = import_opened(&import, fd, S_ISDIR(st.st_mode), reference, err);
    layout_close(&layout);
    return result < 0 ? err_wrap(err, "import '%s'", name) : 0;
}
