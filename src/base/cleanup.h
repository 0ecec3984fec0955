/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scope-bound ownership. A local that owns something is declared with CLEANUP(destructor); handing
 * the thing over empties the local with TAKE_PTR or TAKE_FD, so each object has one owner at every
 * line.
 */
#ifndef LODGE_BASE_CLEANUP_H
#define LODGE_BASE_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A local that is only there to be cleaned up counts as used. */
#define CLEANUP(function) __attribute__((cleanup(function), unused))

/* The value of p, and NULL left in its place. */
#define TAKE_PTR(p)               take_ptr_(&(p), p)
#define take_ptr_(address, value) ((__typeof__(value))take_ptr_raw_((void *)(address)))

static inline void *take_ptr_raw_(void *address)
{
    void **place = address;
    void *value = *place;

    *place = NULL;
    return value;
}

/* The value of fd, and -1 left in its place. */
#define TAKE_FD(fd) take_fd_(&(fd))

static inline int take_fd_(int *fd)
{
    int value = *fd;

    *fd = -1;
    return value;
}

/* Defines name(type **) that destroys *p with destructor, for use in CLEANUP. */
#define DEFINE_CLEANUP(name, type, destructor) \
    static inline void name(type *p)           \
    {                                          \
        if (*p)                                \
            destructor(*p);                    \
    }                                          \
    static inline void name(type *p)

static inline void fd_closep(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void freep(void *p)
{
    free(*(void **)p);
}

DEFINE_CLEANUP(file_closep, FILE *, fclose);
DEFINE_CLEANUP(dir_closep, DIR *, closedir);

#endif
