/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory that is taken into use. The host gives it page by page, each with a fault that costs
 * microseconds. Where a guest takes memory in order, as kernels do that fill their page cache, it
 * gets more at once: the rest of the block of 64 KiB, or of the large page, which costs the host as
 * much as a hundred small ones.
 *
 *   touched[region]   bit i: block i of the region was reported by memory_touch
 *        0 ──touch──▶ some bits ──TOUCH_BLOCKS, and TOUCH_PAGES are there──▶ large ──▶ all ones
 *        ▲                │  ▲ │ the block before or behind is touched, too
 *        │                │  └─┘ and no large page: the block
 *        │                └─ a part of the region is discarded ─────────────────────────▲
 *        └─ all of it is discarded ◀────────────────────────────────────────────────────┘
 *
 * Invariants:
 *  1. A region grows to at most 512 / TOUCH_PAGES times of what was there, or by blocks beside
 *     touched ones.
 *  2. What the guest gave back stays given back: a region of which it gave a part (a balloon does)
 *     is served page by page until it has given all of it. touch_lock: no part is taken back
 *     between the look and the gift.
 *  3. The contents are those of the pages: what was not there is zero either way.
 *
 * MADV_COLLAPSE (Linux 6.1) does not ask for the host's setting for large pages of shared memory,
 * which is off as a rule. Where the host has to look for a large page, or is itself a guest whose
 * free memory was given back, it takes many times as long: then large pages rest for TOUCH_REST
 * times what was spent. Nothing here fails: without all this memory comes page by page.
 */
#include "cpu/memory.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define BLOCK            (UINT64_C(64) << 10)
#define TOUCH_BLOCKS     2
#define TOUCH_PAGES      32u
#define TOUCH_PAGES_MOST 256u /* beyond that the rest is cheaper page by page */
#define TOUCH_SLOW_NS    NS_PER_MS
#define TOUCH_REST       16u
#define ALL_ONES         UINT32_MAX

static unsigned resident_pages(void *host)
{
    unsigned char vector[MEMORY_LARGE >> GUEST_PAGE_SHIFT];
    unsigned nr = 0;

    if (mincore(host, MEMORY_LARGE, vector))
        return 0;
    for (unsigned i = 0; i < sizeof(vector); i++)
        nr += vector[i] & 1;
    return nr;
}

/* The large page of a region; false: not now. touch_lock held. */
static bool large_give(struct memory *memory, struct memory_slot *slot, uint64_t region)
{
    uint8_t *host = slot->host + region * MEMORY_LARGE;
    unsigned resident = resident_pages(host);
    uint64_t spent_ns;
    bool done;

    if (resident < TOUCH_PAGES || resident > TOUCH_PAGES_MOST)
        return false;
    spent_ns = clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
    done = !madvise(host, MEMORY_LARGE, MADV_COLLAPSE);
    spent_ns = clock_read_ns(CLOCK_THREAD_CPUTIME_ID) - spent_ns;
    if (!done || spent_ns > TOUCH_SLOW_NS)
        memory->touch_rests_until_ns = clock_monotonic_ns() +
                                       TOUCH_REST * MAX(spent_ns, TOUCH_SLOW_NS);
    if (done)
        __atomic_store_n(&slot->touched[region], ALL_ONES, __ATOMIC_RELAXED);
    return done;
}

/* Is the block before or behind touched? */
static bool in_order(const struct memory_slot *slot, uint64_t region, unsigned block, uint32_t word)
{
    if (block == 0 && region > 0)
        word |= __atomic_load_n(&slot->touched[region - 1], __ATOMIC_RELAXED) >> 31 << 1;
    return (word >> block & 2) || (block > 0 && (word >> (block - 1) & 1));
}

void memory_touch(struct memory *memory, struct memory_slot *slot, uint64_t offset)
{
    uint64_t region = offset / MEMORY_LARGE;
    unsigned block = (unsigned)(offset % MEMORY_LARGE / BLOCK);
    uint32_t bit = 1u << block, word;

    if (!slot->touched || (__atomic_load_n(&slot->touched[region], __ATOMIC_RELAXED) & bit))
        return;
    word = __atomic_fetch_or(&slot->touched[region], bit, __ATOMIC_RELAXED);
    if (!range_fits(region * MEMORY_LARGE, MEMORY_LARGE, slot->size_bytes))
        return;
    pthread_mutex_lock(&memory->touch_lock);
    /* It may have been discarded meanwhile. */
    if (__atomic_load_n(&slot->touched[region], __ATOMIC_RELAXED) == (word | bit) &&
        !(__builtin_popcount(word | bit) >= TOUCH_BLOCKS &&
          clock_monotonic_ns() >= memory->touch_rests_until_ns &&
          large_give(memory, slot, region)) &&
        in_order(slot, region, block, word))
        (void)madvise(slot->host + align_down(offset, BLOCK), BLOCK, MADV_POPULATE_WRITE);
    pthread_mutex_unlock(&memory->touch_lock);
}

static void forget(struct memory_slot *slot, uint64_t start, uint64_t length)
{
    uint64_t end = start + length;

    for (uint64_t i = start / MEMORY_LARGE; slot->touched && i * MEMORY_LARGE < end; i++) {
        bool whole = start <= i * MEMORY_LARGE && (i + 1) * MEMORY_LARGE <= end;

        __atomic_store_n(&slot->touched[i], whole ? 0 : ALL_ONES, __ATOMIC_RELAXED);
    }
}

int memory_discard(struct memory *memory, gpa_t gpa, uint64_t length)
{
    struct memory_slot *slot = memory_slot_find(memory, gpa);
    int r = 0;

    if (!slot || slot->read_only || !length ||
        !range_fits(gpa - slot->gpa, length, slot->size_bytes))
        return -EFAULT;
    pthread_mutex_lock(&memory->touch_lock);
    if (fallocate(slot->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  (off_t)(slot->fd_offset + (gpa - slot->gpa)), (off_t)length))
        r = -errno;
    else
        forget(slot, gpa - slot->gpa, length);
    pthread_mutex_unlock(&memory->touch_lock);
    return r;
}
