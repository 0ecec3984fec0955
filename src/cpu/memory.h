/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest-physical memory: slots over memfds, the dirty log, and the map of pages that hold decoded
 * code.
 *
 * Invariants:
 *  1. Slots never overlap, are page-aligned, and are sorted by address. They are added before the
 * first vCPU runs, or while all vCPUs are paused.
 *  2. A host pointer to guest memory comes from memory_range (or, for an engine, from a slot found
 * by memory_slot_find) and nowhere else: nothing outside a slot is ever reachable.
 *  3. Whoever writes guest memory by any way other than an engine's own store path calls
 * memory_written after the write and before it tells the guest: that keeps the dirty log complete
 * and decoded code true to memory.
 *  4. Guest memory may change under the reader at any moment (other vCPUs): copy once, then check.
 *
 * Threads: slots are read-only while vCPUs run; the bitmaps are accessed atomically from any
 * thread.
 */
#ifndef LODGE_CPU_MEMORY_H
#define LODGE_CPU_MEMORY_H

#include "base/err.h"
#include "base/util.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t gpa_t; /* guest-physical address */
typedef uint64_t gva_t; /* guest-virtual (linear) address */

#define GUEST_PAGE_SHIFT 12
#define GUEST_PAGE_SIZE  (UINT64_C(1) << GUEST_PAGE_SHIFT)
#define GUEST_PAGE_MASK  (GUEST_PAGE_SIZE - 1)

#define MEMORY_SLOTS_MAX 32
#define MEMORY_LARGE     (UINT64_C(2) << 20) /* a large page of the host */

struct memory_slot {
    gpa_t gpa;
    uint64_t size_bytes;
    uint8_t *host;       /* read-write mapping */
    int fd;              /* the memfd behind it */
    uint64_t fd_offset;  /* of the slot's first byte in fd */
    bool read_only;      /* guest writes are dropped (ROM) */
    uint8_t *code_map;   /* one byte a page: nonzero while an engine holds code decoded from it */
    uint64_t *dirty_log; /* one bit a page; NULL while logging is off */
    uint32_t *touched;   /* first_touch.c: a word for each MEMORY_LARGE bytes; NULL: not for it */
};

/* Told (from the writing thread) that [gpa, gpa + length) changed in a page whose code_map byte is
 * set. */
typedef void memory_code_written_fn(void *context, gpa_t gpa, uint64_t length);

struct memory {
    struct memory_slot slots[MEMORY_SLOTS_MAX];
    unsigned nr_slots;
    /* first_touch.c: memory is given or taken back; no large page before that time */
    pthread_mutex_t touch_lock;
    uint64_t touch_rests_until_ns;
    memory_code_written_fn *code_written; /* set by the engine when the VM is made */
    void *code_written_context;
};

int memory_new(struct memory **ret, struct err *err);
void memory_free(struct memory *memory);

/* Adds RAM at gpa over a new sealed memfd, reserved lazily. -EEXIST on overlap, -EINVAL on
 * misalignment. */
int memory_add_ram(struct memory *memory, gpa_t gpa, uint64_t size_bytes, struct err *err);

/* The slot that holds gpa, or NULL. */
static inline struct memory_slot *memory_slot_find(struct memory *memory, gpa_t gpa)
{
    for (unsigned i = 0; i < memory->nr_slots; i++)
        if (gpa - memory->slots[i].gpa < memory->slots[i].size_bytes)
            return &memory->slots[i];
    return NULL;
}

/* The slot that a host address lies in, or NULL. */
static inline struct memory_slot *memory_slot_at(struct memory *memory, const void *host)
{
    uintptr_t at = (uintptr_t)host;

    for (unsigned i = 0; i < memory->nr_slots; i++)
        if (at - (uintptr_t)memory->slots[i].host < memory->slots[i].size_bytes)
            return &memory->slots[i];
    return NULL;
}

/* Host pointer to [gpa, gpa + length), or NULL unless all of it lies in one slot. length > 0. */
void *memory_range(struct memory *memory, gpa_t gpa, uint64_t length);

/* Copies; -EFAULT unless the whole range is RAM. memory_write calls memory_written itself. */
int memory_read(struct memory *memory, gpa_t gpa, void *data, uint64_t length);
int memory_write(struct memory *memory, gpa_t gpa, const void *data, uint64_t length);

/* Invariant 3. The range must lie in RAM. */
void memory_written(struct memory *memory, gpa_t gpa, uint64_t length);

/* Gives whole pages back to the host: they read as zeros. gpa and length are page-aligned, and the
 * range lies in RAM of one slot; else, or when the host declines, -errno, and nothing has changed.
 * memory_written is the caller's (invariant 3). */
int memory_discard(struct memory *memory, gpa_t gpa, uint64_t length);

/* An engine is about to write here for the first time in a while: where the guest takes memory into
 * use in order, the host gives the rest of the large page at once (first_touch.c). */
void memory_touch(struct memory *memory, struct memory_slot *slot, uint64_t offset);

uint64_t memory_size(const struct memory *memory); /* bytes, all slots */

/* Dirty log. Start allocates it with every bit clear; fetch copies the slot's bits (size/4096/8
 * bytes, rounded up to 8) and clears them. Engines are told through cpu_engine.dirty_log_changed.
 */
int memory_dirty_start(struct memory *memory, struct err *err);
void memory_dirty_stop(struct memory *memory);
int memory_dirty_fetch(struct memory *memory, unsigned slot, uint64_t *ret_bits);

static inline void memory_slot_mark_dirty(struct memory_slot *slot, uint64_t page)
{
    if (slot->dirty_log)
        __atomic_fetch_or(&slot->dirty_log[page / 64], UINT64_C(1) << (page % 64),
                          __ATOMIC_RELAXED);
}

#endif
