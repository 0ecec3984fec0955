/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The archive's members in the order a kernel wants them, parents first, and the cache of archives
 * under a key of what they are made from.
 */
#include "image/initramfs.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/util.h"
#include "image/modules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#define ARCHIVE_MAX    (256u << 20)
#define ARCHIVE_FORMAT 3 /* another number whenever the same inputs make another archive */

/* What lodge-init needs of the kernel, in this order. ext4 is the image's file system. */
static const char *const wanted_modules[] = {
    "virtio_mmio", "virtio_blk", "vmw_vsock_virtio_transport", "ext4", "overlay",
    "?virtio_rng", NULL};

static int pad(struct buf *archive)
{
    static const char zeros[4];

    return buf_append(archive, zeros, (4 - archive->length % 4) % 4);
}

int cpio_append(struct buf *archive, const char *name, unsigned mode, unsigned rdev,
                const void *data, size_t length)
{
    size_t before = archive->length;
    int result;

    if (length > UINT32_MAX)
        return -EFBIG;
    /* magic, inode, mode, owner, group, links, time, size, device, rdevice, name size, check */
    result = buf_printf(archive, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 0u,
                        mode, 0u, 0u, 1u, 0u, (unsigned)length, 0u, 0u, major(rdev), minor(rdev),
                        (unsigned)strlen(name) + 1, 0u);
    if (result >= 0)
        result = buf_append(archive, name, strlen(name) + 1);
    if (result >= 0)
        result = pad(archive);
    if (result >= 0)
        result = buf_append(archive, data, length);
    if (result >= 0)
        result = pad(archive);
    if (result < 0)
        archive->length = before;
    return result < 0 ? result : 0;
}

int cpio_finish(struct buf *archive)
{
    return cpio_append(archive, "TRAILER!!!", 0, 0, NULL, 0);
}

static int append_file(struct buf *archive, const char *name, unsigned mode, const char *path,
                       bool module, struct err *err)
{
    CLEANUP(buf_donep) struct buf content;
    int result;

    buf_init(&content, ARCHIVE_MAX);
    if ((result = file_load(AT_FDCWD, path, &content, err)) < 0)
        return result;
    if (module)
        content.length = module_strip(content.data, content.length);
    if ((result = cpio_append(archive, name, S_IFREG | mode, 0, content.data, content.length)) < 0)
        return err_errno(err, result, "put '%s' into the initramfs", path);
    return 0;
}

/* What is wanted, in order: the boot's, then those for later (INITRAMFS_LATER). */
static int resolve(const struct kernel *kernel, const char *const *extra, bool later,
                   struct module_list *ret, struct err *err)
{
    const char *wanted[ARRAY_LEN(wanted_modules) + 16];
    size_t nr = 0;

    for (size_t i = 0; wanted_modules[i]; i++)
        wanted[nr++] = wanted_modules[i];
    for (int pass = 0; pass <= later; pass++)
        for (size_t i = 0; extra && extra[i]; i++) {
            if ((extra[i][0] == INITRAMFS_LATER) != pass)
                continue;
            if (nr + 1 >= ARRAY_LEN(wanted))
                return err_set(err, -E2BIG, "too many extra modules");
            wanted[nr++] = extra[i] + pass;
        }
    wanted[nr] = NULL;
    return modules_resolve(kernel->dir, kernel->release, wanted, ret, err);
}

/* Modules first to last - 1 of the list, and the list of their names. */
static int append_list(struct buf *archive, const struct module_list *list, size_t first,
                       size_t last, const char *list_name, struct err *err)
{
    CLEANUP(buf_donep) struct buf names;
    int result = 0;

    buf_init(&names, 1u << 20);
    for (size_t i = first; i < last; i++) {
        const char *base = strrchr(list->paths[i], '/') + 1;
        char name[300];

        snprintf(name, sizeof(name), "modules/%.255s", base);
        if ((result = append_file(archive, name, 0644, list->paths[i], true, err)) < 0)
            return result;
        if (buf_printf(&names, "%s\n", base) < 0)
            return err_set(err, -ENOMEM, "list the kernel's modules");
    }
    result = cpio_append(archive, list_name, S_IFREG | 0644, 0, names.data, names.length);
    return result < 0 ? err_set(err, result, "list the kernel's modules") : 0;
}

static int append_modules(struct buf *archive, const struct kernel *kernel,
                          const char *const *extra, struct err *err)
{
    struct module_list boot = {0}, all = {0};
    int result;

    if ((result = resolve(kernel, extra, false, &boot, err)) == 0 &&
        (result = resolve(kernel, extra, true, &all, err)) == 0 &&
        (result = append_list(archive, &all, 0, boot.nr, "modules/list", err)) == 0 &&
        all.nr > boot.nr)
        result = append_list(archive, &all, boot.nr, all.nr, "modules/later", err);
    module_list_done(&boot);
    module_list_done(&all);
    return result;
}

static int build(struct buf *archive, const struct kernel *kernel, const char *init_path,
                 const char *const *extra, struct err *err)
{
    static const char *const dirs[] = {"dev", "proc", "sys", "modules"};
    int result = 0;

    for (size_t i = 0; i < ARRAY_LEN(dirs) && result == 0; i++)
        result = cpio_append(archive, dirs[i], S_IFDIR | 0755, 0, NULL, 0);
    if (result == 0)
        result = cpio_append(archive, "dev/console", S_IFCHR | 0600, makedev(5, 1), NULL, 0);
    if (result < 0)
        return err_errno(err, result, "make the initramfs");
    if ((result = append_file(archive, "init", 0755, init_path, false, err)) < 0)
        return result;
    if (*kernel->dir && *kernel->release &&
        (result = append_modules(archive, kernel, extra, err)) < 0)
        return err_wrap(err, "kernel '%s'", kernel->name);
    if ((result = cpio_finish(archive)) < 0)
        return err_errno(err, result, "make the initramfs");
    return 0;
}

/* A hash of what the archive is made from: another lodge-init is another archive. */
static uint64_t archive_key(const struct stat *init, const char *const *extra)
{
    uint64_t numbers[] = {ARCHIVE_FORMAT,
                          (uint64_t)init->st_size,
                          (uint64_t)init->st_mtim.tv_sec,
                          (uint64_t)init->st_mtim.tv_nsec,
                          init->st_ino,
                          init->st_dev};
    uint64_t hash = hash_bytes(HASH_START, numbers, sizeof(numbers));

    for (; extra && *extra; extra++)
        hash = hash_bytes(hash, *extra, strlen(*extra) + 1);
    return hash;
}

/* Archives of earlier builds of lodge-init, more than a day old. */
static void sweep(const char *dir_path, const char *keep)
{
    CLEANUP(dir_closep) DIR *dir = opendir(dir_path);
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        struct stat st;

        if (!strncmp(entry->d_name, "initramfs-", 10) && strcmp(entry->d_name, keep) != 0 &&
            fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            time(NULL) - st.st_mtime > 86400)
            unlinkat(dirfd(dir), entry->d_name, 0);
    }
}

int initramfs_prepare(const struct kernel *kernel, const char *init_path, const char *const *extra,
                      const char *fallback_dir, char ret_path[PATH_MAX], struct err *err)
{
    CLEANUP(buf_donep) struct buf archive;
    const char *dir = *kernel->dir && access(kernel->dir, W_OK) == 0 ? kernel->dir : fallback_dir;
    char name[64];
    struct stat st;
    int result;

    buf_init(&archive, ARCHIVE_MAX);
    if (stat(init_path, &st) < 0)
        return err_errno(err, -errno, "'%s' (the first process of a VM)", init_path);
    snprintf(name, sizeof(name), "initramfs-%016llx.cpio",
             (unsigned long long)archive_key(&st, extra));
    if (snprintf(ret_path, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
        return err_set(err, -ENAMETOOLONG, "the kernel's directory has too long a path");
    if (access(ret_path, R_OK) == 0)
        return 0;
    if ((result = build(&archive, kernel, init_path, extra, err)) < 0)
        return result;
    sweep(dir, name);
    return file_replace(AT_FDCWD, ret_path, archive.data, archive.length, 0644, err);
}
