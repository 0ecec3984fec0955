/* SPDX-License-Identifier: Apache-2.0 */
/* The double mapping of generated code; code_cache.h holds the contract. */
#include "soft/cache/code_cache.h"

#include "base/cleanup.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

int code_cache_init(struct code_cache *cache, size_t size, struct err *err)
{
    CLEANUP(fd_closep) int fd = memfd_create("lodge-code", MFD_CLOEXEC);
    void *map;

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        return err_errno(err, -errno, "memory for translated code");
    map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return err_errno(err, -errno, "map translated code for writing");
    cache->write = map;
    cache->size = size;
    map = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return err_errno(err, -errno, "map translated code for running");
    cache->run = map;
    return 0;
}

void code_cache_done(struct code_cache *cache)
{
    if (cache->write)
        munmap(cache->write, cache->size);
    if (cache->run)
        munmap((void *)(uintptr_t)cache->run, cache->size);
    cache->write = NULL;
    cache->run = NULL;
}
