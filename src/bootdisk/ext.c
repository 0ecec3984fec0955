/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ext2, ext3 and ext4 through libext2fs, which reads our bytes by an I/O manager of ours.
 * Read-only; a journal is not replayed, so of a file system that was not unmounted the last seconds
 * may be missing. Symbolic links are followed by the library, inside the file system.
 */
#include "bootdisk/volume.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK (1u << 20)

struct ext {
    struct volume volume;
    struct disk_bytes disk;
    struct struct_io_manager manager;
    ext2_filsys fs;
};

/* The manager's open gets a name and nothing else: ours is the address of what is read. */
static errcode_t io_open(const char *name, int flags, io_channel *ret)
{
    io_channel channel = calloc(1, sizeof(*channel));
    void *ext = NULL;

    (void)flags;
    if (!channel)
        return EXT2_ET_NO_MEMORY;
    if (sscanf(name, "%p", &ext) != 1) {
        free(channel);
        return EXT2_ET_BAD_DEVICE_NAME;
    }
    channel->magic = EXT2_ET_MAGIC_IO_CHANNEL;
    channel->manager = &((struct ext *)ext)->manager;
    channel->block_size = 1024;
    channel->refcount = 1;
    channel->private_data = ext;
    *ret = channel;
    return 0;
}

static errcode_t io_close(io_channel channel)
{
    if (--channel->refcount == 0)
        free(channel);
    return 0;
}

static errcode_t io_set_blksize(io_channel channel, int size)
{
    channel->block_size = size;
    return 0;
}

/* count: blocks, or bytes when it is negative. */
static errcode_t io_read64(io_channel channel, unsigned long long block, int count, void *data)
{
    const struct ext *ext = channel->private_data;
    uint64_t length = count < 0 ? -(uint64_t)count
                                : (uint64_t)count * (uint64_t)channel->block_size;
    uint64_t size = (uint64_t)channel->block_size;

    if (size == 0 || block > ext->disk.bytes / size)
        return EXT2_ET_SHORT_READ;
    return disk_bytes_read(&ext->disk, block * size, data, length) < 0 ? EXT2_ET_SHORT_READ : 0;
}

static errcode_t io_read(io_channel channel, unsigned long block, int count, void *data)
{
    return io_read64(channel, block, count, data);
}

static errcode_t io_write64(io_channel channel, unsigned long long block, int count,
                            const void *data)
{
    (void)channel, (void)block, (void)count, (void)data;
    return EXT2_ET_RO_FILSYS;
}

static errcode_t io_write(io_channel channel, unsigned long block, int count, const void *data)
{
    return io_write64(channel, block, count, data);
}

static errcode_t io_flush(io_channel channel)
{
    (void)channel;
    return 0;
}

static int find(struct ext *ext, const char *path, ext2_ino_t *ret)
{
    errcode_t error = ext2fs_namei_follow(ext->fs, EXT2_ROOT_INO, EXT2_ROOT_INO, *path ? path : "/",
                                          ret);

    return error == 0 ? 0 : error == EXT2_ET_FILE_NOT_FOUND ? -ENOENT : -EIO;
}

static int copy_file(ext2_file_t file, uint64_t bytes, volume_sink_fn *sink, void *context)
{
    CLEANUP(freep) char *data = malloc(CHUNK);
    int result = data ? 0 : -ENOMEM;

    while (result == 0 && bytes) {
        unsigned got = 0;

        if (ext2fs_file_read(file, data, (unsigned)MIN(bytes, (uint64_t)CHUNK), &got) || got == 0)
            return -EIO;
        result = sink(context, data, got);
        bytes -= MIN(bytes, (uint64_t)got);
    }
    return result;
}

static int ext_load(struct volume *volume, const char *path, uint64_t most, volume_sink_fn *sink,
                    void *context)
{
    struct ext *ext = CONTAINER_OF(volume, struct ext, volume);
    struct ext2_inode inode;
    ext2_file_t file;
    uint64_t bytes;
    ext2_ino_t ino;
    int result = find(ext, path, &ino);

    if (result < 0)
        return result;
    if (ext2fs_read_inode(ext->fs, ino, &inode))
        return -EIO;
    if (!LINUX_S_ISREG(inode.i_mode))
        return -ENOENT;
    bytes = EXT2_I_SIZE(&inode);
    if (bytes > most)
        return -EFBIG;
    if (ext2fs_file_open(ext->fs, ino, 0, &file))
        return -EIO;
    result = copy_file(file, bytes, sink, context);
    ext2fs_file_close(file);
    return result;
}

struct listing {
    volume_name_fn *each;
    void *context;
};

static int list_entry(struct ext2_dir_entry *entry, int offset, int block_size, char *block,
                      void *context)
{
    const struct listing *listing = context;
    char name[EXT2_NAME_LEN + 1];
    int length = ext2fs_dirent_name_len(entry);

    (void)offset, (void)block_size, (void)block;
    memcpy(name, entry->name, (size_t)length);
    name[length] = '\0';
    listing->each(listing->context, name);
    return 0;
}

static int ext_list(struct volume *volume, const char *path, volume_name_fn *each, void *context)
{
    struct ext *ext = CONTAINER_OF(volume, struct ext, volume);
    struct listing listing = {each, context};
    ext2_ino_t ino;
    int result = find(ext, path, &ino);

    if (result < 0)
        return result;
    return ext2fs_dir_iterate(ext->fs, ino, 0, NULL, list_entry, &listing) ? -EIO : 0;
}

static void ext_close(struct volume *volume)
{
    struct ext *ext = CONTAINER_OF(volume, struct ext, volume);

    ext2fs_close_free(&ext->fs);
    free(ext);
}

static const struct volume_functions ext_functions = {ext_load, ext_list, ext_close};

int volume_open_ext(const struct disk_bytes *disk, struct volume **ret)
{
    struct ext *ext = calloc(1, sizeof(*ext));
    char name[32];
    errcode_t error;

    if (!ext)
        return -ENOMEM;
    ext->volume = (struct volume){&ext_functions, "ext4"};
    ext->disk = *disk;
    ext->manager = (struct struct_io_manager){.magic = EXT2_ET_MAGIC_IO_MANAGER,
                                              .name = "lodge",
                                              .open = io_open,
                                              .close = io_close,
                                              .set_blksize = io_set_blksize,
                                              .read_blk = io_read,
                                              .write_blk = io_write,
                                              .flush = io_flush,
                                              .read_blk64 = io_read64,
                                              .write_blk64 = io_write64};
    snprintf(name, sizeof(name), "%p", (void *)ext);
    error = ext2fs_open2(name, NULL, EXT2_FLAG_64BITS, 0, 0, &ext->manager, &ext->fs);
    if (error) {
        free(ext);
        return error == EXT2_ET_NO_MEMORY ? -ENOMEM : -EINVAL;
    }
    *ret = &ext->volume;
    return 0;
}
