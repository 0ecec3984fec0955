/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiled filters, kept in ROOT/.seccomp, one file a profile. A file holds the whole profile it
 * came from, so a collision of names is a miss, never the wrong filter. Directory and file must
 * belong to the user who starts the container and be writable for nobody else: whoever could write
 * here could let a container out.
 */
#include "oci/seccomp_filter.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CACHE_DIRECTORY   ".seccomp"
#define CACHE_KEY_MAX     (256 * KIB)
#define CACHE_ENTRIES_MAX 64
#define CACHE_MAGIC       0x31434c4f4445474cull
/* Raised whenever the translation changes. */
#define TRANSLATION_NUMBER 1

struct cache_header {
    uint64_t magic, key_bytes, nr_instructions;
};

static uint64_t hash(const char *data, size_t length)
{
    uint64_t value = 0xcbf29ce484222325;

    for (size_t i = 0; i < length; i++)
        value = (value ^ (unsigned char)data[i]) * 0x100000001b3;
    return value;
}

/* Everything that the filter depends on, as text. */
static char *make_key(const json_t *profile)
{
    const struct scmp_version *version = seccomp_version();
    CLEANUP(freep) char *text = json_text(profile, JSON_COMPACT);
    char *key = NULL;

    if (!text || asprintf(&key, "%d %u.%u.%u %#x %s", TRANSLATION_NUMBER,
                          version ? version->major : 0, version ? version->minor : 0,
                          version ? version->micro : 0, seccomp_arch_native(), text) < 0)
        return NULL;
    return key;
}

static bool is_ours_alone(int fd, mode_t type)
{
    struct stat st;

    return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == type && st.st_uid == geteuid() &&
           (st.st_mode & 022) == 0;
}

/* The cache's directory, made where it is missing. */
static int open_directory(const char *state_root)
{
    CLEANUP(fd_closep) int root = open(state_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(fd_closep) int fd = -1;

    if (root < 0 || !is_ours_alone(root, S_IFDIR))
        return -EACCES;
    if (mkdirat(root, CACHE_DIRECTORY, 0700) < 0 && errno != EEXIST)
        return -errno;
    fd = openat(root, CACHE_DIRECTORY, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || !is_ours_alone(fd, S_IFDIR))
        return -EACCES;
    return TAKE_FD(fd);
}

static int load(int directory, const char *name, const char *key, struct seccomp_program *ret)
{
    CLEANUP(fd_closep) int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    CLEANUP(freep) struct sock_filter *filter = NULL;
    CLEANUP(freep) char *stored = NULL;
    size_t length = strlen(key), bytes;
    struct cache_header header;

    if (fd < 0 || !is_ours_alone(fd, S_IFREG) ||
        file_read_full(fd, &header, sizeof(header)) != (ssize_t)sizeof(header) ||
        header.magic != CACHE_MAGIC || header.key_bytes != length || header.nr_instructions == 0 ||
        header.nr_instructions > BPF_MAXINSNS)
        return -ENOENT;
    bytes = (size_t)header.nr_instructions * sizeof(*filter);
    if (!(stored = malloc(length)) || !(filter = malloc(bytes)))
        return -ENOMEM;
    if (file_read_full(fd, stored, length) != (ssize_t)length || memcmp(stored, key, length) != 0 ||
        file_read_full(fd, filter, bytes) != (ssize_t)bytes)
        return -ENOENT;
    ret->length = (size_t)header.nr_instructions;
    ret->filter = TAKE_PTR(filter);
    return 0;
}

/* Too many profiles: all go, those still in use come back. */
static void trim(int directory)
{
    CLEANUP(fd_closep) int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(dir_closep) DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *entry;
    unsigned count = 0;

    if (!dir)
        return;
    (void)TAKE_FD(copy);
    while ((entry = readdir(dir)))
        count++;
    if (count < CACHE_ENTRIES_MAX)
        return;
    rewinddir(dir);
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.')
            unlinkat(directory, entry->d_name, 0);
}

static void store(int directory, const char *name, const char *key,
                  const struct seccomp_program *program)
{
    struct cache_header header = {CACHE_MAGIC, strlen(key), program->length};
    CLEANUP(buf_donep) struct buf data;

    buf_init(&data, CACHE_KEY_MAX + MIB);
    if (buf_append(&data, &header, sizeof(header)) < 0 || buf_append(&data, key, strlen(key)) < 0 ||
        buf_append(&data, program->filter, program->length * sizeof(*program->filter)) < 0)
        return;
    trim(directory);
    file_replace(directory, name, data.data, data.length, 0600, NULL);
}

int seccomp_prepare(json_t *profile, const char *state_root, struct seccomp_program *ret,
                    struct err *err)
{
    CLEANUP(fd_closep) int directory = -1;
    CLEANUP(freep) char *key = NULL;
    char name[32];
    int result = seccomp_describe(profile, ret, err);

    if (result < 0)
        return result;
    if (!(key = make_key(profile)))
        return err_set(err, -ENOMEM, "linux.seccomp: out of memory");
    if (strlen(key) <= CACHE_KEY_MAX)
        directory = open_directory(state_root);
    snprintf(name, sizeof(name), "%016llx", (unsigned long long)hash(key, strlen(key)));
    if (directory >= 0 && load(directory, name, key, ret) == 0)
        return 0;
    if ((result = seccomp_compile(profile, ret, err)) < 0)
        return result;
    if (directory >= 0)
        store(directory, name, key, ret);
    return 0;
}
