/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ISO 9660, with Rock Ridge or Joliet names, through libarchive. It gives a CD's files in one pass
 * in the order in which they lie; each file that is wanted is a pass of its own, which skips the
 * others' contents. Names without Rock Ridge are upper case with a version, so they are compared
 * without both.
 */
#include "bootdisk/volume.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK       (64u << 10)
#define ENTRIES_MAX 200000
#define LINKS_MAX   8

struct iso {
    struct volume volume;
    struct disk_bytes disk;
};

struct cursor {
    const struct disk_bytes *disk;
    uint64_t at;
    char data[CHUNK];
};

static la_ssize_t cursor_read(struct archive *archive, void *context, const void **ret)
{
    struct cursor *cursor = context;
    size_t length = (size_t)MIN((uint64_t)CHUNK, cursor->disk->bytes - cursor->at);

    if (length && disk_bytes_read(cursor->disk, cursor->at, cursor->data, length) < 0) {
        archive_set_error(archive, EIO, "read error");
        return -1;
    }
    cursor->at += length;
    *ret = cursor->data;
    return (la_ssize_t)length;
}

static la_int64_t cursor_skip(struct archive *archive, void *context, la_int64_t request)
{
    struct cursor *cursor = context;
    uint64_t step = MIN((uint64_t)MAX(request, (la_int64_t)0), cursor->disk->bytes - cursor->at);

    (void)archive;
    cursor->at += step;
    return (la_int64_t)step;
}

static la_int64_t cursor_seek(struct archive *archive, void *context, la_int64_t offset, int whence)
{
    struct cursor *cursor = context;
    la_int64_t base = whence == SEEK_CUR   ? (la_int64_t)cursor->at
                      : whence == SEEK_END ? (la_int64_t)cursor->disk->bytes
                                           : 0;

    (void)archive;
    if (offset > 0 ? base > INT64_MAX - offset : base + offset < 0)
        return ARCHIVE_FATAL;
    cursor->at = MIN((uint64_t)(base + offset), cursor->disk->bytes);
    return (la_int64_t)cursor->at;
}

static struct archive *open_pass(const struct iso *iso, struct cursor *cursor)
{
    struct archive *archive = archive_read_new();

    cursor->disk = &iso->disk;
    cursor->at = 0;
    if (!archive)
        return NULL;
    archive_read_support_format_iso9660(archive);
    archive_read_set_callback_data(archive, cursor);
    archive_read_set_read_callback(archive, cursor_read);
    archive_read_set_skip_callback(archive, cursor_skip);
    archive_read_set_seek_callback(archive, cursor_seek);
    if (archive_read_open1(archive) != ARCHIVE_OK) {
        archive_read_free(archive);
        return NULL;
    }
    return archive;
}

static const char *skip_slashes(const char *path)
{
    while (*path == '/' || (path[0] == '.' && path[1] == '/'))
        path++;
    return path;
}

/* The same file? Case and ";1" do not count, nor do doubled slashes. */
static bool same_path(const char *a, const char *b)
{
    a = skip_slashes(a);
    b = skip_slashes(b);
    while (*a && *a != ';' && *b && *b != ';') {
        if (*a == '/' && *b == '/') {
            a = skip_slashes(a);
            b = skip_slashes(b);
            continue;
        }
        if (strncasecmp(a, b, 1) != 0)
            return false;
        a++;
        b++;
    }
    return (!*a || *a == ';') && (!*b || *b == ';');
}

static int copy_entry(struct archive *archive, uint64_t most, volume_sink_fn *sink, void *context)
{
    uint64_t total = 0;
    la_int64_t offset;
    const void *data;
    size_t length;
    int result, got;

    while ((got = archive_read_data_block(archive, &data, &length, &offset)) == ARCHIVE_OK) {
        if ((uint64_t)offset != total)
            return -EIO;
        if ((total += length) > most)
            return -EFBIG;
        if ((result = sink(context, data, length)) < 0)
            return result;
    }
    return got == ARCHIVE_EOF ? 0 : -EIO;
}

/* A link beside `path`, or from the top. */
static void resolve(const char *path, const char *target, char *ret, size_t size)
{
    const char *slash = *target == '/' ? NULL : strrchr(path, '/');

    snprintf(ret, size, "%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, target);
}

static int load_pass(struct iso *iso, const char *path, char *link, size_t link_size, uint64_t most,
                     volume_sink_fn *sink, void *context)
{
    CLEANUP(freep) struct cursor *cursor = malloc(sizeof(*cursor));
    struct archive *archive = cursor ? open_pass(iso, cursor) : NULL;
    struct archive_entry *entry;
    int result = archive ? -ENOENT : -EIO;

    *link = '\0';
    for (unsigned i = 0; archive && i < ENTRIES_MAX; i++) {
        int header = archive_read_next_header(archive, &entry);
        const char *name;

        if (header != ARCHIVE_OK && header != ARCHIVE_WARN)
            break;
        name = archive_entry_pathname(entry);
        if (!name || !same_path(name, path))
            continue;
        if (archive_entry_filetype(entry) == AE_IFLNK && archive_entry_symlink(entry)) {
            resolve(path, archive_entry_symlink(entry), link, link_size);
            result = 0;
        } else if (archive_entry_filetype(entry) == AE_IFREG) {
            result = copy_entry(archive, most, sink, context);
        }
        break;
    }
    if (archive)
        archive_read_free(archive);
    return result;
}

static int iso_load(struct volume *volume, const char *path, uint64_t most, volume_sink_fn *sink,
                    void *context)
{
    struct iso *iso = CONTAINER_OF(volume, struct iso, volume);
    char at[1024], link[1024];

    snprintf(at, sizeof(at), "%s", path);
    for (unsigned i = 0; i < LINKS_MAX; i++) {
        int result = load_pass(iso, at, link, sizeof(link), most, sink, context);

        if (result < 0 || !*link)
            return result;
        memcpy(at, link, sizeof(at));
    }
    return -ELOOP;
}

static int iso_list(struct volume *volume, const char *path, volume_name_fn *each, void *context)
{
    struct iso *iso = CONTAINER_OF(volume, struct iso, volume);
    CLEANUP(freep) struct cursor *cursor = malloc(sizeof(*cursor));
    struct archive *archive = cursor ? open_pass(iso, cursor) : NULL;
    struct archive_entry *entry;

    for (unsigned i = 0; archive && i < ENTRIES_MAX; i++) {
        int header = archive_read_next_header(archive, &entry);
        const char *name, *slash;
        char dir[1024];

        if (header != ARCHIVE_OK && header != ARCHIVE_WARN)
            break;
        if (!(name = archive_entry_pathname(entry)))
            continue;
        slash = strrchr(name, '/');
        snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - name) : 0, name);
        if (same_path(dir, path))
            each(context, slash ? slash + 1 : name);
    }
    if (!archive)
        return -EIO;
    archive_read_free(archive);
    return 0;
}

static void iso_close(struct volume *volume)
{
    free(CONTAINER_OF(volume, struct iso, volume));
}

static const struct volume_functions iso_functions = {iso_load, iso_list, iso_close};

int volume_open_iso(const struct disk_bytes *disk, struct volume **ret)
{
    struct iso *iso;
    char magic[5];

    /* The first volume descriptor (ECMA-119, 8.1). */
    if (disk_bytes_read(disk, 32769, magic, sizeof(magic)) < 0 || memcmp(magic, "CD001", 5) != 0)
        return -EINVAL;
    if (!(iso = calloc(1, sizeof(*iso))))
        return -ENOMEM;
    iso->volume = (struct volume){&iso_functions, "ISO 9660"};
    iso->disk = *disk;
    *ret = &iso->volume;
    return 0;
}
