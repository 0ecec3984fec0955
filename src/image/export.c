/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image as a tar that both kinds of tools read: an OCI layout (index.json, blobs/) with a
 * manifest.json beside it that names the same blobs in Docker's way.
 */
#include "image/import.h"

#include "base/file.h"
#include "base/util.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct saver {
    const struct layout *layout;
    const struct import_options *options;
    struct archive *tar;
    char *data;
    struct err *err;
};

static int save_failed(struct saver *s)
{
    return err_set(s->err, archive_errno(s->tar) > 0 ? -archive_errno(s->tar) : -EIO,
                   "write the archive: %s", archive_error_string(s->tar));
}

static int save_header(struct saver *s, const char *name, uint64_t bytes)
{
    struct archive_entry *entry = archive_entry_new();
    int result;

    if (!entry)
        return err_set(s->err, -ENOMEM, "out of memory");
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, (la_int64_t)bytes);
    archive_entry_set_mtime(entry, 0, 0);
    result = archive_write_header(s->tar, entry);
    archive_entry_free(entry);
    return result == ARCHIVE_OK ? 0 : save_failed(s);
}

static int save_text(struct saver *s, const char *name, const char *text)
{
    int result = save_header(s, name, strlen(text));

    if (result == 0 && archive_write_data(s->tar, text, strlen(text)) != (la_ssize_t)strlen(text))
        result = save_failed(s);
    return result;
}

static int save_json(struct saver *s, const char *name, json_t *document)
{
    CLEANUP(freep) char *text = document ? json_dumps(document, JSON_COMPACT) : NULL;

    json_decref(document);
    return text ? save_text(s, name, text) : err_set(s->err, -ENOMEM, "out of memory");
}

static int save_blob(struct saver *s, const struct descriptor *blob, const char *what)
{
    CLEANUP(fd_closep) int fd = blob_open(s->layout, blob->digest, s->err);
    uint64_t done = 0;
    char name[96];
    int result;

    if (fd < 0)
        return fd;
    snprintf(name, sizeof(name), "blobs/sha256/%s", digest_hex(blob->digest));
    result = save_header(s, name, blob->bytes);
    while (result == 0 && done < blob->bytes) {
        ssize_t n = file_read_full(fd, s->data, MIN(blob->bytes - done, MIB));

        if (n <= 0)
            return err_set(s->err, n < 0 ? (int)n : -EIO, "the stored content %s is damaged",
                           blob->digest);
        if (archive_write_data(s->tar, s->data, (size_t)n) != n)
            return save_failed(s);
        done += (uint64_t)n;
        if (s->options->progress)
            s->options->progress(s->options->context, what, done, blob->bytes);
    }
    return result;
}

static int save(struct saver *s, const struct layout_image *image)
{
    const struct manifest *manifest = &image->manifest;
    json_t *layers = json_array();
    char path[96], what[64];
    int result;

    for (size_t i = 0; i < manifest->nr_layers; i++) {
        snprintf(path, sizeof(path), "blobs/sha256/%s", digest_hex(manifest->layers[i].digest));
        json_array_append_new(layers, json_string(path));
    }
    snprintf(path, sizeof(path), "blobs/sha256/%s", digest_hex(manifest->config.digest));
    result = save_json(s, "manifest.json",
                       json_pack("[{s:s, s:[s], s:o}]", "Config", path, "RepoTags",
                                 image->reference, "Layers", layers));
    if (result == 0)
        result = save_text(s, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
    if (result == 0)
        result = save_json(s, "index.json",
                           json_pack("{s:i, s:[{s:s, s:s, s:I, s:{s:s}}]}", "schemaVersion", 2,
                                     "manifests", "mediaType", image->target.media_type, "digest",
                                     image->target.digest, "size", (json_int_t)image->target.bytes,
                                     "annotations", ANNOTATION_NAME, image->reference));
    if (result == 0)
        result = save_blob(s, &image->target, "manifest");
    if (result == 0)
        result = save_blob(s, &manifest->config, "configuration");
    for (size_t i = 0; result == 0 && i < manifest->nr_layers; i++) {
        snprintf(what, sizeof(what), "layer %zu of %zu", i + 1, manifest->nr_layers);
        result = save_blob(s, &manifest->layers[i], what);
    }
    return result;
}

int image_save(const struct store *store, const char *name, int fd,
               const struct import_options *options, struct err *err)
{
    CLEANUP(freep) struct layout_image *image = calloc(1, sizeof(*image));
    CLEANUP(freep) char *data = malloc(MIB);
    CLEANUP(fd_closep) int lock = -1;
    struct saver s = {.options = options, .data = data, .err = err};
    struct layout layout;
    int result;

    if (!image || !data)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = import_find(store, name, &layout, err)) < 0)
        return result;
    s.layout = &layout;
    if ((lock = layout_lock(&layout, LAYOUT_ADD, err)) < 0) {
        result = lock;
    } else if ((result = layout_image_load(&layout, name, image, err)) == 0) {
        if (!(s.tar = archive_write_new()))
            result = err_set(err, -ENOMEM, "out of memory");
        else if (archive_write_set_format_pax_restricted(s.tar) != ARCHIVE_OK ||
                 archive_write_open_fd(s.tar, fd) != ARCHIVE_OK)
            result = save_failed(&s);
        else if ((result = save(&s, image)) == 0 && archive_write_close(s.tar) != ARCHIVE_OK)
            result = save_failed(&s);
        if (s.tar)
            archive_write_free(s.tar);
        layout_image_done(image);
    }
    layout_close(&layout);
    return result < 0 ? err_wrap(err, "save '%s'", name) : 0;
}

int import_find(const struct store *store, const char *name, struct layout *ret, struct err *err)
{
    struct descriptor target;
    char reference[REFERENCE_MAX];

    for (size_t i = 0; i < store->nr_dirs; i++) {
        if (layout_open(store->dirs[i], false, ret, NULL) < 0)
            continue;
        if (layout_find(ret, name, &target, reference, NULL) == 0)
            return 0;
        layout_close(ret);
    }
    for (size_t i = 0; i < store->nr_dirs && !strchr(name, '/'); i++) {
        char path[PATH_MAX + 160];

        snprintf(path, sizeof(path), "%s/images/%.128s", store->dirs[i], name);
        if (access(path, F_OK) == 0)
            return err_set(err, -ENOENT,
                           "image '%.128s' was not imported: it is the directory '%s', made by a "
                           "script or by hand",
                           name, path);
    }
    return err_set(err, -ENOENT, "no imported image '%.200s' here (see: lodge image ls)", name);
}
