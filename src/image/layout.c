/* SPDX-License-Identifier: Apache-2.0 */
/* The store's directory, its locks, and the index of tags. */
#include "image/layout.h"

#include "base/file.h"
#include "base/json.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define RESERVE       "reserve"
#define RESERVE_BYTES 65536u

static const char layout_file[] = "{\"imageLayoutVersion\":\"1.0.0\"}";

static int make_directories(int fd, const char *path, struct err *err)
{
    static const char *const names[] = {"blobs", "blobs/sha256", "layers", "pins", "tmp"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (mkdirat(fd, names[i], 0755) < 0 && errno != EEXIST)
            return err_errno(err, -errno, "create '%s/%s'", path, names[i]);
    if (faccessat(fd, "oci-layout", F_OK, 0) < 0)
        return file_replace(fd, "oci-layout", layout_file, sizeof(layout_file) - 1, 0644, err);
    return 0;
}

int layout_open(const char *store_dir, bool create, struct layout *ret, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    int result;

    if (snprintf(ret->path, sizeof(ret->path), "%s/oci", store_dir) >= (int)sizeof(ret->path))
        return err_set(err, -ENAMETOOLONG, "the store's path is too long");
    if (create && mkdir(ret->path, 0755) < 0 && errno != EEXIST)
        return err_errno(err, -errno, "create '%s'", ret->path);
    if ((fd = open(ret->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return err_errno(err, -errno, "open '%s'", ret->path);
    if (create && (result = make_directories(fd, ret->path, err)) < 0)
        return result;
    ret->wrote = NULL;
    ret->fd = TAKE_FD(fd);
    return 0;
}

void layout_close(struct layout *layout)
{
    if (layout->fd >= 0)
        close(layout->fd);
    layout->fd = -1;
}

int layout_lock(const struct layout *layout, enum layout_lock lock, struct err *err)
{
    static const struct {
        const char *name;
        int operation;
    } locks[] = {[LAYOUT_ADD] = {"content.lock", LOCK_SH},
                 [LAYOUT_COLLECT] = {"content.lock", LOCK_EX | LOCK_NB},
                 [LAYOUT_INDEX] = {"index.lock", LOCK_EX}};
    CLEANUP(fd_closep)
    int fd = openat(layout->fd, locks[lock].name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);

    /* A store that we may only read: nobody of our rights can change it under us. */
    if (fd < 0 && lock == LAYOUT_ADD)
        fd = openat(layout->fd, locks[lock].name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_errno(err, -errno, "open '%s/%s'", layout->path, locks[lock].name);
    while (flock(fd, locks[lock].operation) < 0) {
        if (errno == EWOULDBLOCK)
            return err_set(err, -EAGAIN, "images are being added or started; try again later");
        if (errno != EINTR)
            return err_errno(err, -errno, "lock '%s/%s'", layout->path, locks[lock].name);
    }
    return TAKE_FD(fd);
}

void layout_temporary(const char *what, char ret[64])
{
    static atomic_uint counter;

    snprintf(ret, 64, "tmp/%.20s.%d.%u", what, (int)getpid(), atomic_fetch_add(&counter, 1));
}

int layout_index(const struct layout *layout, json_t **ret, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    char source[PATH_MAX + 16];
    struct err why = ERR_INIT;
    int result;

    buf_init(&text, (size_t)DOCUMENT_MAX * 4);
    snprintf(source, sizeof(source), "%s/index.json", layout->path);
    result = file_load(layout->fd, "index.json", &text, &why);
    if (result == -ENOENT) {
        *ret = json_pack("{s:i, s:[]}", "schemaVersion", 2, "manifests");
        return *ret ? 0 : err_set(err, -ENOMEM, "out of memory");
    }
    if (result < 0)
        return err_set(err, result, "%s", why.message);
    if ((result = json_parse(text.data, text.length, source, ret, err)) < 0)
        return result;
    if (!json_is_array(json_object_get(*ret, "manifests"))) {
        json_decref(*ret);
        return err_set(err, -EINVAL, "'%s' is no image index", source);
    }
    return 0;
}

static const char *entry_reference(json_t *entry)
{
    return json_string_value(
        json_object_get(json_object_get(entry, "annotations"), ANNOTATION_NAME));
}

static size_t index_position(json_t *list, const char *reference)
{
    size_t i = 0;

    for (; i < json_array_size(list); i++) {
        const char *name = entry_reference(json_array_get(list, i));

        if (name && !strcmp(name, reference))
            break;
    }
    return i;
}

/* Room for another index of this length, so that images can be removed from a full disk. */
static void keep_reserve(const struct layout *layout, size_t length)
{
    CLEANUP(fd_closep)
    int fd = openat(layout->fd, RESERVE, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd >= 0 && fallocate(fd, 0, 0, (off_t)(length + RESERVE_BYTES)) < 0 && errno == ENOSPC)
        unlinkat(layout->fd, RESERVE, 0);
}

static int save_index(const struct layout *layout, json_t *index, struct err *err)
{
    CLEANUP(freep) char *text = json_dumps(index, JSON_INDENT(2));
    int result;

    if (!text)
        return err_set(err, -ENOMEM, "out of memory");
    result = file_replace(layout->fd, "index.json", text, strlen(text), 0644, err);
    if (result == 0)
        keep_reserve(layout, strlen(text));
    if (result == 0 && fsync(layout->fd) < 0)
        result = err_errno(err, -errno, "write '%s/index.json'", layout->path);
    return result;
}

/* target NULL: the tag goes. */
static int change_index(const struct layout *layout, const char *reference,
                        const struct descriptor *target, struct err *err)
{
    CLEANUP(fd_closep) int lock = layout_lock(layout, LAYOUT_INDEX, err);
    json_t *index, *list, *entry = NULL;
    size_t at;
    int result;

    if (lock < 0)
        return lock;
    if ((result = layout_index(layout, &index, err)) < 0)
        return result;
    list = json_object_get(index, "manifests");
    at = index_position(list, reference);
    if (target && !(entry = json_pack("{s:s, s:s, s:I, s:{s:s}}", "mediaType", target->media_type,
                                      "digest", target->digest, "size", (json_int_t)target->bytes,
                                      "annotations", ANNOTATION_NAME, reference)))
        result = err_set(err, -ENOMEM, "out of memory");
    else if (!target && at == json_array_size(list))
        result = err_set(err, -ENOENT, "no image '%s' here (see: lodge image ls)", reference);
    else if (target && at < json_array_size(list))
        json_array_set_new(list, at, entry);
    else if (target)
        json_array_append_new(list, entry);
    else
        json_array_remove(list, at);
    if (result == 0)
        result = save_index(layout, index, err);
    if (result == -ENOSPC && !target && unlinkat(layout->fd, RESERVE, 0) == 0)
        result = save_index(layout, index, err);
    json_decref(index);
    return result;
}

int layout_tag(const struct layout *layout, const char *reference, const struct descriptor *target,
               struct err *err)
{
    return change_index(layout, reference, target, err);
}

int layout_untag(const struct layout *layout, const char *reference, struct err *err)
{
    return change_index(layout, reference, NULL, err);
}

/* Does `name` say this digest, whole or by its first digits (at least 6)? */
static bool names_digest(const char *name, const char *digest)
{
    const char *digits = !strncmp(name, "sha256:", 7) ? name + 7 : name;
    size_t length = strlen(digits);

    return length >= 6 && !strncmp(digits, digest_hex(digest), length);
}

/* A manifest that no tag leads to, and a pin keeps: by its whole digest. */
static int find_untagged(const struct layout *layout, const char *name, struct descriptor *ret)
{
    CLEANUP(fd_closep) int fd = digest_valid(name) ? blob_open(layout, name, NULL) : -1;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > DOCUMENT_MAX)
        return -ENOENT;
    *ret = (struct descriptor){.bytes = (uint64_t)st.st_size};
    snprintf(ret->media_type, sizeof(ret->media_type), "%s", MEDIA_OCI);
    snprintf(ret->digest, sizeof(ret->digest), "%s", name);
    return 0;
}

int layout_find(const struct layout *layout, const char *name, struct descriptor *ret,
                char ret_reference[REFERENCE_MAX], struct err *err)
{
    char reference[REFERENCE_MAX] = "";
    json_t *index, *list, *found = NULL;
    int result = layout_index(layout, &index, err);

    if (result < 0)
        return result;
    list = json_object_get(index, "manifests");
    if (reference_normalize(name, reference, NULL) == 0)
        found = json_array_get(list, index_position(list, reference));
    for (size_t i = 0; !found && i < json_array_size(list); i++) {
        const char *digest = json_string_value(json_object_get(json_array_get(list, i), "digest"));

        if (digest && digest_valid(digest) && names_digest(name, digest))
            found = json_array_get(list, i);
    }
    if (!found && find_untagged(layout, name, ret) == 0) {
        snprintf(ret_reference, REFERENCE_MAX, "%s", ret->digest);
    } else if (!found) {
        result = err_set(err, -ENOENT, "no image '%.200s' here (see: lodge image ls)", name);
    } else if ((result = descriptor_parse(found, "index.json", ret, err)) == 0) {
        const char *has = entry_reference(found);

        snprintf(ret_reference, REFERENCE_MAX, "%s", has ? has : ret->digest);
    }
    json_decref(index);
    return result;
}

int layout_image_load(const struct layout *layout, const char *name, struct layout_image *ret,
                      struct err *err)
{
    CLEANUP(buf_donep) struct buf manifest;
    CLEANUP(buf_donep) struct buf config;
    int result;

    buf_init(&manifest, DOCUMENT_MAX);
    buf_init(&config, DOCUMENT_MAX);
    ret->config.document = NULL;
    if ((result = layout_find(layout, name, &ret->target, ret->reference, err)) < 0 ||
        (result = blob_load(layout, ret->target.digest, &manifest, err)) < 0 ||
        (result = manifest_parse(manifest.data, manifest.length, ret->target.digest, &ret->manifest,
                                 err)) < 0 ||
        (result = blob_load(layout, ret->manifest.config.digest, &config, err)) < 0)
        return result;
    return image_config_parse(config.data, config.length, ret->manifest.config.digest,
                              ret->manifest.nr_layers, &ret->config, err);
}

void layout_image_done(struct layout_image *image)
{
    image_config_done(&image->config);
}
