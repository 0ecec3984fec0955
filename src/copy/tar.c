/* SPDX-License-Identifier: Apache-2.0 */
#include "copy/tar.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXTENDED_MAX (64u << 10)

/* Where the fields of a header are (POSIX.1-2001, pax, "ustar Interchange Format"). */
struct ustar {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], chksum[8], typeflag,
        linkname[100], magic[6], version[2], uname[32], gname[32], devmajor[8], devminor[8],
        prefix[155], pad[12];
};
_Static_assert(sizeof(struct ustar) == TAR_BLOCK, "header");

static unsigned checksum(const struct ustar *header)
{
    const unsigned char *bytes = (const unsigned char *)header;
    size_t from = offsetof(struct ustar, chksum), to = from + sizeof(header->chksum);
    unsigned sum = 0;

    for (size_t i = 0; i < TAR_BLOCK; i++)
        sum += i >= from && i < to ? ' ' : bytes[i];
    return sum;
}

static void put_octal(char *field, size_t size, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "%0*llo", (int)size - 1, (unsigned long long)value);
    memcpy(field, text, size);
}

static int put_header(const char *path, const char *link, const struct tar_entry *entry, char type,
                      uint64_t size, copy_write_fn *write, void *context)
{
    struct ustar header = {.typeflag = type};
    const uint64_t most_id = 07777777, most_size = UINT64_C(077777777777);

    memcpy(header.name, path, MIN(strlen(path), sizeof(header.name)));
    memcpy(header.linkname, link, MIN(strlen(link), sizeof(header.linkname)));
    put_octal(header.mode, sizeof(header.mode), entry->mode & 07777);
    put_octal(header.uid, sizeof(header.uid), MIN((uint64_t)entry->uid, most_id));
    put_octal(header.gid, sizeof(header.gid), MIN((uint64_t)entry->gid, most_id));
    put_octal(header.size, sizeof(header.size), MIN(size, most_size));
    put_octal(header.mtime, sizeof(header.mtime),
              entry->mtime_s > 0 ? MIN((uint64_t)entry->mtime_s, most_size) : 0);
    memcpy(header.magic, "ustar", 6);
    memcpy(header.version, "00", 2);
    snprintf(header.chksum, sizeof(header.chksum), "%06o", checksum(&header));
    header.chksum[7] = ' ';
    return write(&header, sizeof(header), context);
}

/* "LENGTH KEY=VALUE\n", where LENGTH counts itself. */
static size_t record(char *to, size_t room, const char *key, const char *value)
{
    size_t body = strlen(key) + strlen(value) + 3, length = body + 1;
    char digits[24];

    while ((size_t)snprintf(digits, sizeof(digits), "%zu", length) + body != length)
        length = body + (size_t)snprintf(digits, sizeof(digits), "%zu", length);
    if (length >= room)
        return 0;
    return (size_t)snprintf(to, room, "%zu %s=%s\n", length, key, value);
}

int tar_header_write(const struct tar_entry *entry, copy_write_fn *write, void *context)
{
    CLEANUP(freep) char *extended = malloc(EXTENDED_MAX);
    size_t used = 0;
    char number[24];
    int result = 0;

    if (!extended)
        return -ENOMEM;
    if (strlen(entry->path) > 100)
        used += record(extended + used, EXTENDED_MAX - used, "path", entry->path);
    if (strlen(entry->link) > 100)
        used += record(extended + used, EXTENDED_MAX - used, "linkpath", entry->link);
    if (entry->size > UINT64_C(077777777777)) {
        snprintf(number, sizeof(number), "%llu", (unsigned long long)entry->size);
        used += record(extended + used, EXTENDED_MAX - used, "size", number);
    }
    if (entry->uid > 07777777) {
        snprintf(number, sizeof(number), "%u", entry->uid);
        used += record(extended + used, EXTENDED_MAX - used, "uid", number);
    }
    if (entry->gid > 07777777) {
        snprintf(number, sizeof(number), "%u", entry->gid);
        used += record(extended + used, EXTENDED_MAX - used, "gid", number);
    }
    if (used && ((result = put_header("pax", "", entry, 'x', used, write, context)) < 0 ||
                 (result = write(extended, used, context)) < 0 ||
                 (result = tar_pad_write(used, write, context)) < 0))
        return result;
    return put_header(entry->path, entry->link, entry, (char)entry->type,
                      entry->type == TAR_FILE ? entry->size : 0, write, context);
}

int tar_pad_write(uint64_t size, copy_write_fn *write, void *context)
{
    static const char zeros[TAR_BLOCK];
    size_t pad = (size_t)(-size % TAR_BLOCK);

    return pad ? write(zeros, pad, context) : 0;
}

int tar_end_write(copy_write_fn *write, void *context)
{
    static const char zeros[2 * TAR_BLOCK];

    return write(zeros, sizeof(zeros), context);
}

/* All of it: 1; nothing but the end: 0. */
static int read_whole(struct tar_reader *reader, void *data, size_t length)
{
    size_t have = 0;

    while (have < length) {
        ssize_t n = reader->read((char *)data + have, length - have, reader->context);

        if (n < 0)
            return (int)n;
        if (n == 0)
            return have ? -EPROTO : 0;
        have += (size_t)n;
    }
    return 1;
}

/* Octal digits between blanks and NULs, or GNU's base 256. */
static int get_number(const char *field, size_t size, uint64_t *ret)
{
    uint64_t value = 0;
    size_t i = 0;

    if ((unsigned char)field[0] == 0x80) {
        for (i = 1; i < size; i++) {
            if (value >> 56)
                return -EPROTO;
            value = value << 8 | (unsigned char)field[i];
        }
        *ret = value;
        return 0;
    }
    while (i < size && field[i] == ' ')
        i++;
    for (; i < size && field[i] >= '0' && field[i] <= '7'; i++) {
        if (value >> 60)
            return -EPROTO;
        value = value << 3 | (uint64_t)(field[i] - '0');
    }
    if (i < size && field[i] != ' ' && field[i] != '\0')
        return -EPROTO;
    *ret = value;
    return 0;
}

static int get_string(char to[COPY_PATH_MAX], const char *from, size_t length)
{
    length = strnlen(from, length);
    if (length >= COPY_PATH_MAX)
        return -EPROTO;
    memcpy(to, from, length);
    to[length] = '\0';
    return 0;
}

/* What extended headers said about the next entry. */
struct extension {
    char path[COPY_PATH_MAX], link[COPY_PATH_MAX];
    uint64_t size, uid, gid;
    bool has_size, has_uid, has_gid;
};

static int take_number(const char *value, uint64_t *ret, bool *ret_has)
{
    char *end;

    errno = 0;
    *ret = strtoull(value, &end, 10);
    *ret_has = true;
    return errno || end == value || *end || *value == '-' ? -EPROTO : 0;
}

static int take_record(struct extension *extension, char *key, char *value, size_t length)
{
    if (strlen(value) != length)
        return -EPROTO; /* a NUL in it */
    if (!strcmp(key, "path"))
        return get_string(extension->path, value, length + 1);
    if (!strcmp(key, "linkpath"))
        return get_string(extension->link, value, length + 1);
    if (!strcmp(key, "size"))
        return take_number(value, &extension->size, &extension->has_size);
    if (!strcmp(key, "uid"))
        return take_number(value, &extension->uid, &extension->has_uid);
    if (!strcmp(key, "gid"))
        return take_number(value, &extension->gid, &extension->has_gid);
    return 0;
}

/* text is NUL-terminated behind its length. */
static int take_records(struct extension *extension, char *text, size_t length)
{
    char *const end = text + length;

    while (text < end) {
        char *blank, *key, *equals;
        unsigned long long whole = strtoull(text, &blank, 10);
        int result;

        if (blank == text || *blank != ' ' || whole > (size_t)(end - text) ||
            whole <= (size_t)(blank + 1 - text) || text[whole - 1] != '\n')
            return -EPROTO;
        key = blank + 1;
        text[whole - 1] = '\0';
        if (!(equals = strchr(key, '=')))
            return -EPROTO;
        *equals = '\0';
        if ((result = take_record(extension, key, equals + 1,
                                  (size_t)(text + whole - 1 - (equals + 1)))) < 0)
            return result;
        text += whole;
    }
    return 0;
}

/* 'x', 'g': records. 'L', 'K': a path, a link. */
static int read_extension(struct tar_reader *reader, char type, uint64_t size,
                          struct extension *extension)
{
    CLEANUP(freep) char *text = NULL;
    char pad[TAR_BLOCK];
    int result;

    if (size == 0 || size > EXTENDED_MAX || !(text = malloc(size + 1)))
        return size > EXTENDED_MAX || size == 0 ? -EPROTO : -ENOMEM;
    if ((result = read_whole(reader, text, size)) <= 0 ||
        (-size % TAR_BLOCK && (result = read_whole(reader, pad, -size % TAR_BLOCK)) <= 0))
        return result ? result : -EPROTO;
    text[size] = '\0';
    switch (type) {
    case 'x':
        return take_records(extension, text, size);
    case 'L':
        return get_string(extension->path, text, size);
    case 'K':
        return get_string(extension->link, text, size);
    default: /* global: what it might say is not for us */
        return 0;
    }
}

static int read_names(const struct ustar *header, const struct extension *extension,
                      struct tar_entry *ret)
{
    char name[256 + 2];
    size_t used = 0;

    if (*extension->path) {
        memcpy(ret->path, extension->path, sizeof(ret->path));
    } else {
        if (!memcmp(header->magic, "ustar\0", 6) && header->prefix[0])
            used = (size_t)snprintf(name, sizeof(name), "%.155s/", header->prefix);
        snprintf(name + used, sizeof(name) - used, "%.100s", header->name);
        if (get_string(ret->path, name, sizeof(name)) < 0)
            return -EPROTO;
    }
    if (*extension->link)
        memcpy(ret->link, extension->link, sizeof(ret->link));
    else if (get_string(ret->link, header->linkname, sizeof(header->linkname)) < 0)
        return -EPROTO;
    return 0;
}

static int read_numbers(const struct ustar *header, const struct extension *extension,
                        struct tar_entry *ret)
{
    uint64_t mode, uid, gid, mtime;

    if (get_number(header->mode, sizeof(header->mode), &mode) < 0 ||
        get_number(header->uid, sizeof(header->uid), &uid) < 0 ||
        get_number(header->gid, sizeof(header->gid), &gid) < 0 ||
        get_number(header->size, sizeof(header->size), &ret->size) < 0 ||
        get_number(header->mtime, sizeof(header->mtime), &mtime) < 0)
        return -EPROTO;
    if (extension->has_size)
        ret->size = extension->size;
    uid = extension->has_uid ? extension->uid : uid;
    gid = extension->has_gid ? extension->gid : gid;
    if (uid >= UINT32_MAX || gid >= UINT32_MAX || ret->size > TAR_SIZE_MAX ||
        mtime > (uint64_t)INT64_MAX)
        return -EPROTO;
    ret->mode = (uint32_t)mode & 07777;
    ret->uid = (uint32_t)uid;
    ret->gid = (uint32_t)gid;
    ret->mtime_s = (int64_t)mtime;
    return 0;
}

static enum tar_type type_of(char flag, const char *path)
{
    size_t length = strlen(path);

    switch (flag) {
    case '0':
    case '\0':
    case '7':
        return length && path[length - 1] == '/' ? TAR_DIRECTORY : TAR_FILE;
    case '1':
        return TAR_HARD_LINK;
    case '2':
        return TAR_SYMLINK;
    case '5':
        return TAR_DIRECTORY;
    default:
        return TAR_OTHER;
    }
}

static int pass_over(struct tar_reader *reader)
{
    char data[8192];
    uint64_t left = reader->left + reader->pad;

    while (left) {
        size_t part = (size_t)MIN(left, (uint64_t)sizeof(data));
        int result = read_whole(reader, data, part);

        if (result <= 0)
            return result ? result : -EPROTO;
        left -= part;
    }
    reader->left = reader->pad = 0;
    return 0;
}

int tar_next(struct tar_reader *reader, struct tar_entry *ret)
{
    CLEANUP(freep) struct extension *extension = calloc(1, sizeof(*extension));
    struct ustar header;
    uint64_t sum;
    int result;

    if (!extension)
        return -ENOMEM;
    if ((result = pass_over(reader)) < 0)
        return result;
    for (;;) {
        if ((result = read_whole(reader, &header, sizeof(header))) <= 0)
            return result;
        if (header.name[0] == '\0' && checksum(&header) == 8 * ' ')
            return 0; /* a block of zeros */
        if (get_number(header.chksum, sizeof(header.chksum), &sum) < 0 ||
            sum != checksum(&header) || read_names(&header, extension, ret) < 0 ||
            read_numbers(&header, extension, ret) < 0)
            return -EPROTO;
        if (!strchr("xgLK", header.typeflag) || !header.typeflag)
            break;
        if ((result = read_extension(reader, header.typeflag, ret->size, extension)) < 0)
            return result;
    }
    ret->type = type_of(header.typeflag, ret->path);
    /* Only files have contents, but what a foreign kind has is passed over. */
    reader->left = ret->type == TAR_FILE || ret->type == TAR_OTHER ? ret->size : 0;
    reader->pad = -reader->left % TAR_BLOCK;
    return *ret->path ? 1 : -EPROTO;
}

ssize_t tar_read(struct tar_reader *reader, void *data, size_t most)
{
    ssize_t n;

    if (!reader->left)
        return 0;
    n = reader->read(data, (size_t)MIN((uint64_t)most, reader->left), reader->context);
    if (n == 0)
        return -EPROTO;
    if (n > 0)
        reader->left -= (uint64_t)n;
    return n;
}

void tar_drain(struct tar_reader *reader)
{
    char data[8192];

    while (reader->read(data, sizeof(data), reader->context) > 0)
        continue;
}
