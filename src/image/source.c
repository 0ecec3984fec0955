/* SPDX-License-Identifier: Apache-2.0 */
#include "image/source.h"

#include "base/file.h"
#include "base/util.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define MEMBERS_MAX 4096
#define LINKS_MAX   8
#define BYTES_MAX   (UINT64_C(64) << 30)

static struct archive *open_tar(int fd, struct err *err)
{
    struct archive *tar = archive_read_new();

    if (!tar) {
        err_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    archive_read_support_filter_gzip(tar);
    archive_read_support_filter_zstd(tar);
    archive_read_support_filter_xz(tar);
    archive_read_support_filter_bzip2(tar);
    archive_read_support_format_tar(tar);
    archive_read_support_format_empty(tar);
    if (lseek(fd, 0, SEEK_SET) < 0 ||
        archive_read_open_fd(tar, fd, (size_t)256 << 10) != ARCHIVE_OK) {
        err_set(err, -EINVAL, "is no tar archive (%s)", archive_error_string(tar));
        archive_read_free(tar);
        return NULL;
    }
    return tar;
}

static const char *entry_name(struct archive_entry *entry)
{
    const char *name = archive_entry_pathname_utf8(entry);

    if (!name)
        name = archive_entry_pathname(entry);
    while (name && !strncmp(name, "./", 2))
        name += 2;
    return name ? name : "";
}

static bool has_file(int dirfd, const char *name)
{
    struct stat st;

    return fstatat(dirfd, name, &st, 0) == 0 && S_ISREG(st.st_mode);
}

int source_detect(int fd, bool directory, enum source_kind *ret, struct err *err)
{
    bool oci = false, docker = false;
    struct archive_entry *entry;
    struct archive *tar;
    int result;

    *ret = SOURCE_TREE;
    if (directory) {
        if (has_file(fd, "oci-layout") && has_file(fd, "index.json"))
            *ret = SOURCE_OCI;
        else if (has_file(fd, "manifest.json") && !has_file(fd, "bin/sh"))
            *ret = SOURCE_DOCKER;
        return 0;
    }
    if (!(tar = open_tar(fd, err)))
        return -EINVAL;
    while ((result = archive_read_next_header(tar, &entry)) == ARCHIVE_OK ||
           result == ARCHIVE_WARN) {
        oci |= !strcmp(entry_name(entry), "oci-layout");
        docker |= !strcmp(entry_name(entry), "manifest.json");
    }
    if (result != ARCHIVE_EOF)
        err_set(err, -EBADMSG, "the archive is damaged or cut off: %s", archive_error_string(tar));
    archive_read_free(tar);
    if (result != ARCHIVE_EOF)
        return -EBADMSG;
    *ret = oci ? SOURCE_OCI : docker ? SOURCE_DOCKER : SOURCE_TREE;
    return 0;
}

/* A link's target as a member's name: beside the link for symbolic ones, from the top for hard
 * ones. */
static char *link_target(const char *name, const char *target, bool symbolic)
{
    char path[PATH_MAX], *slash;
    size_t length = 0;

    if (symbolic && (slash = strrchr(name, '/')))
        length = (size_t)(slash - name);
    if (length >= sizeof(path))
        return NULL;
    memcpy(path, name, length);
    while (*target) {
        size_t part = strcspn(target, "/");

        if (part == 2 && !strncmp(target, "..", 2)) {
            while (length && path[--length] != '/')
                continue;
        } else if (part && !(part == 1 && *target == '.')) {
            if (length + part + 2 > sizeof(path))
                return NULL;
            if (length)
                path[length++] = '/';
            memcpy(path + length, target, part);
            length += part;
        }
        target += part + (target[part] == '/');
    }
    return strndup(path, length);
}

static struct source_member *add_member(struct image_source *source, const char *name,
                                        struct err *err)
{
    struct source_member *grown;

    if (source->nr == MEMBERS_MAX) {
        err_set(err, -E2BIG, "the archive holds more than %d files: no image", MEMBERS_MAX);
        return NULL;
    }
    if (source->nr == source->room) {
        size_t room = MAX(source->room * 2, (size_t)64);

        if (!(grown = realloc(source->members, room * sizeof(*grown)))) {
            err_set(err, -ENOMEM, "out of memory");
            return NULL;
        }
        source->members = grown;
        source->room = room;
    }
    grown = &source->members[source->nr];
    memset(grown, 0, sizeof(*grown));
    if (!(grown->name = strdup(name))) {
        err_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    source->nr++;
    return grown;
}

static int spool(struct image_source *source, struct archive *tar, struct source_member *member,
                 uint64_t *bytes, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    const void *data;
    size_t length;
    la_int64_t offset;
    int result;

    layout_temporary("member", member->stored);
    fd = openat(source->layout->fd, member->stored,
                O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(err, -errno, "create '%s/%s'", source->layout->path, member->stored);
    while ((result = archive_read_data_block(tar, &data, &length, &offset)) == ARCHIVE_OK) {
        *bytes += length;
        if (*bytes > BYTES_MAX)
            return err_set(err, -E2BIG, "the archive is larger than %llu GiB unpacked",
                           (unsigned long long)(BYTES_MAX >> 30));
        result = file_pwrite_full(fd, data, length, offset);
        if (result < 0)
            return err_errno(err, result, "write to '%s'", source->layout->path);
    }
    if (result != ARCHIVE_EOF)
        return err_set(err, -EBADMSG, "the archive is damaged or cut off: %s",
                       archive_error_string(tar));
    return 0;
}

static int spool_entry(struct image_source *source, struct archive *tar,
                       struct archive_entry *entry, uint64_t *bytes, struct err *err)
{
    const char *symbolic = archive_entry_symlink(entry), *hard = archive_entry_hardlink(entry);
    struct source_member *member;

    if (!symbolic && !hard && archive_entry_filetype(entry) != AE_IFREG)
        return 0;
    if (!(member = add_member(source, entry_name(entry), err)))
        return err ? err->code : -ENOMEM;
    if (!symbolic && !hard)
        return spool(source, tar, member, bytes, err);
    member->link = link_target(member->name, symbolic ? symbolic : hard, symbolic != NULL);
    return member->link ? 0 : err_set(err, -EINVAL, "the archive holds a link to nowhere");
}

int source_open(const struct layout *layout, int fd, bool directory, struct image_source *ret,
                struct err *err)
{
    struct archive_entry *entry;
    struct archive *tar;
    uint64_t bytes = 0;
    int result = 0, header;

    memset(ret, 0, sizeof(*ret));
    ret->layout = layout;
    ret->dir_fd = -1;
    if (directory) {
        ret->dir_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        return ret->dir_fd < 0 ? err_errno(err, -errno, "keep the directory open") : 0;
    }
    if (!(tar = open_tar(fd, err)))
        return -EINVAL;
    while (result == 0 && ((header = archive_read_next_header(tar, &entry)) == ARCHIVE_OK ||
                           header == ARCHIVE_WARN))
        result = spool_entry(ret, tar, entry, &bytes, err);
    archive_read_free(tar);
    if (result < 0)
        source_close(ret);
    return result;
}

void source_close(struct image_source *source)
{
    if (source->dir_fd >= 0)
        close(source->dir_fd);
    for (size_t i = 0; i < source->nr; i++) {
        if (*source->members[i].stored)
            unlinkat(source->layout->fd, source->members[i].stored, 0);
        free(source->members[i].name);
        free(source->members[i].link);
    }
    free(source->members);
    memset(source, 0, sizeof(*source));
    source->dir_fd = -1;
}

static const struct source_member *find(const struct image_source *source, const char *name)
{
    for (unsigned links = 0; links < LINKS_MAX; links++) {
        const struct source_member *member = NULL;

        /* The last of a name counts, as in any tar. */
        for (size_t i = source->nr; i-- > 0 && !member;)
            if (!strcmp(source->members[i].name, name))
                member = &source->members[i];
        if (!member || !member->link)
            return member;
        name = member->link;
    }
    return NULL;
}

int source_member(const struct image_source *source, const char *name, struct err *err)
{
    const struct source_member *member;
    int fd;

    if (source->dir_fd >= 0) {
        struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
                               .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
        struct stat st;

        fd = (int)syscall(SYS_openat2, source->dir_fd, name, &how, sizeof(how));
        if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))) {
            close(fd);
            return err_set(err, -EINVAL, "'%.200s' is no regular file", name);
        }
    } else {
        if (!(member = find(source, name)))
            return err_set(err, -ENOENT, "the archive has no '%.200s'", name);
        fd = openat(source->layout->fd, member->stored, O_RDONLY | O_CLOEXEC);
    }
    return fd < 0 ? err_errno(err, -errno, "open '%.200s' of the image", name) : fd;
}

int source_load(const struct image_source *source, const char *name, struct buf *ret,
                struct err *err)
{
    CLEANUP(fd_closep) int fd = source_member(source, name, err);
    char path[32];

    if (fd < 0)
        return fd;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return file_load(AT_FDCWD, path, ret, err);
}
