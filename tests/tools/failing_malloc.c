/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An allocator whose Nth allocation fails, linked into a test program in place of the C library's.
 * Counted from the start of each program, and on through fork. Environment:
 *
 *   LODGE_MALLOC_FAIL=N   the Nth allocation (from 1) is refused, and only that one
 *   LODGE_MALLOC_NOTE=FD  a byte is written there when that has happened
 *
 * Memory is never used again: what is tested here lives for milliseconds. Single-threaded.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHUNK ((size_t)4 << 20)
#define ALIGN ((size_t)16)

static char *chunk, *chunk_end;
static long countdown;
static int note_fd = -1;

void *aligned_alloc(size_t alignment, size_t size);
void *memalign(size_t alignment, size_t size);

/* The C library's own start comes before this, and does not survive a refusal. */
__attribute__((constructor)) static void begin_counting(void)
{
    const char *fail = getenv("LODGE_MALLOC_FAIL"), *note = getenv("LODGE_MALLOC_NOTE");

    countdown = fail ? atol(fail) : 0;
    note_fd = note ? atoi(note) : -1;
}

static int is_refused(void)
{
    if (countdown == 0 || --countdown)
        return 0;
    if (note_fd >= 0 && write(note_fd, "x", 1) < 0)
        note_fd = -1;
    errno = ENOMEM;
    return 1;
}

/* The size stands before the memory. */
static void *take(size_t size)
{
    size_t whole = (size + ALIGN + ALIGN - 1) & ~(ALIGN - 1);
    char *memory;

    if (whole < size) {
        errno = ENOMEM;
        return NULL;
    }
    if ((size_t)(chunk_end - chunk) < whole) {
        size_t length = whole > CHUNK ? whole : CHUNK;

        memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            return NULL;
        chunk = memory;
        chunk_end = memory + length;
    }
    memory = chunk;
    chunk += whole;
    *(size_t *)(void *)memory = size;
    return memory + ALIGN;
}

void *malloc(size_t size)
{
    return is_refused() ? NULL : take(size);
}

void free(void *memory)
{
    (void)memory;
}

void *calloc(size_t number, size_t size)
{
    size_t whole;

    if (__builtin_mul_overflow(number, size, &whole)) {
        errno = ENOMEM;
        return NULL;
    }
    return malloc(whole); /* fresh pages are zero, and none is used twice */
}

void *realloc(void *memory, size_t size)
{
    void *made = malloc(size);

    if (made && memory) {
        size_t before = *(size_t *)(void *)((char *)memory - ALIGN);

        memcpy(made, memory, before < size ? before : size);
    }
    return made;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    char *memory = malloc(size + alignment + ALIGN);
    uintptr_t place = ((uintptr_t)memory + ALIGN + alignment - 1) & ~(uintptr_t)(alignment - 1);

    if (!memory)
        return NULL;
    memory += place - (uintptr_t)memory;
    *(size_t *)(void *)(memory - ALIGN) = size;
    return memory;
}

void *memalign(size_t alignment, size_t size)
{
    return aligned_alloc(alignment, size);
}
