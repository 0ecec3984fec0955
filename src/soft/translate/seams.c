/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seams: what lets accesses in a page's last granule (FLAT_PAGE - 1) go by the flat tables, though
 * they may cross into the next page. Two guest pages that follow each other in linear addresses
 * seldom do so in the host's memory. For pairs that are asked for often both are mapped again, side
 * by side, into an area of this vCPU; the last granule's entry leads there.
 *
 *   linear   │ page      │ page + 1 │      guest memory  ... B ......... A ...
 *            │ A      ▒▒▒│ B        │      area          │ A │ B │ ...
 *                     └ its entry: ───────────────────────────▲
 *
 * Where the next page has no entries, nothing is mapped behind the first: what crosses faults, and
 * the seam is not used again (seam_crossed).
 *
 * Often: exact checks count down hot.seam_wait, and leave at 0 (trampoline.c).
 *
 * Invariants:
 *  1. A last granule has an entry only while its page has, and one that leads on to the next page
 *     only while that has (for stores: entries for stores). Whoever takes a page's entries away, or
 *     makes them, takes that of the granule before, too (view.c).
 *  2. A place of the area is mapped to other pages only after the entry that led to it is gone:
 *     each is known by one entry.
 *  3. What guards guest memory against addresses that the tables confuse (guard.c) guards the area
 *     as well.
 *
 * Threads: the vCPU's own.
 */
#include "soft/translate/translate_internal.h"

#include <sys/mman.h>

#define LAST           (FLAT_PAGE - 1)
#define SEAMS_ALL      4096u /* of all vCPUs */
#define SEAM_BYTES     (2 * GUEST_PAGE_SIZE)
#define SEAM_WAIT      2048u
#define SEAM_WAIT_TEST 4u

/* Exact checks to the next seam. Where blocks are translated before they run, for tests, a few;
 * without an area for seams none ever leaves. */
static uint64_t wait_of(const struct soft_cpu *cpu)
{
    if (!cpu->translate->seam_area)
        return UINT64_MAX;
    return cpu->vm->translate_runs ? SEAM_WAIT : SEAM_WAIT_TEST;
}

/* Two pages that are neighbours in linear addresses, in the host's memory. */
struct pair {
    const uint8_t *host[2];
    const struct memory_slot *slot[2];
};

/* Where the flat table of loads says that a page is. It does not tell all addresses apart, but only
 * the right ones lead to guest memory. */
static bool page_at(const struct soft_cpu *cpu, unsigned number, uint64_t page,
                    const uint8_t **ret_host, const struct memory_slot **ret_slot)
{
    const struct memory *memory = cpu->vm->memory;
    uint64_t addend;

    *ret_host = NULL;
    if (!flat_is_touched(cpu->translate, number, page))
        return false;
    addend = *flat_loads(cpu->translate, number, page);
    for (unsigned i = 0; addend && i < memory->nr_slots; i++) {
        const uint8_t *host = (const uint8_t *)(uintptr_t)(addend + page); /* NOLINT */

        if ((uint64_t)(host - memory->slots[i].host) < memory->slots[i].size_bytes) {
            *ret_host = host;
            *ret_slot = &memory->slots[i];
        }
    }
    return *ret_host;
}

/* False: not even the first. */
static bool pair_of(const struct soft_cpu *cpu, unsigned number, uint64_t page, struct pair *ret)
{
    if (!page_at(cpu, number, page, &ret->host[0], &ret->slot[0]))
        return false;
    page_at(cpu, number, page + GUEST_PAGE_SIZE, &ret->host[1], &ret->slot[1]);
    return true;
}

static struct translate_seam *seam_of(struct translate *translate, const struct pair *pair)
{
    uint64_t hash = ((uintptr_t)pair->host[0] ^ (uintptr_t)pair->host[1] << 20) *
                    UINT64_C(0x9e3779b97f4a7c15);

    return &translate->seam[hash >> 40 & (translate->nr_seams - 1)];
}

static bool has_pair(const struct translate_seam *seam, const struct pair *pair)
{
    return seam->host[0] == pair->host[0] && seam->host[1] == pair->host[1];
}

/* alone: nothing is behind it. */
static void entry_set(const struct translate *translate, unsigned number, uint64_t page,
                      uint64_t addend, bool alone)
{
    uint64_t *stores = flat_stores(translate, number, page);
    bool write = stores[0] && (alone || *flat_stores(translate, number, page + GUEST_PAGE_SIZE));

    flat_loads(translate, number, page)[LAST] = addend;
    stores[LAST] = write ? addend : 0;
}

static uint8_t *place_of(const struct translate *translate, const struct translate_seam *seam)
{
    return translate->seam_area + (size_t)(seam - translate->seam) * SEAM_BYTES;
}

/* No entry leads to this seam any more. */
static void seam_free(struct translate *translate, struct translate_seam *seam)
{
    uint64_t addend = (uintptr_t)place_of(translate, seam) - seam->page;

    if (!seam->host[0] || !flat_is_touched(translate, seam->number, seam->page))
        return;
    if (flat_loads(translate, seam->number, seam->page)[LAST] == addend)
        flat_loads(translate, seam->number, seam->page)[LAST] = 0;
    if (flat_stores(translate, seam->number, seam->page)[LAST] == addend)
        flat_stores(translate, seam->number, seam->page)[LAST] = 0;
}

/* The seam's entry is that of this page. */
static void seam_use(struct translate *translate, struct translate_seam *seam, unsigned number,
                     uint64_t page)
{
    if (seam->crossed)
        return;
    if (seam->number != number || seam->page != page)
        seam_free(translate, seam);
    seam->number = (uint8_t)number;
    seam->page = page;
    entry_set(translate, number, page, (uintptr_t)place_of(translate, seam) - page, !seam->host[1]);
}

void seam_keep(struct soft_cpu *cpu, unsigned number, uint64_t page)
{
    struct translate *translate = cpu->translate;
    struct translate_seam *seam;
    struct pair pair;

    if (!pair_of(cpu, number, page, &pair))
        return;
    if (pair.host[1] == pair.host[0] + GUEST_PAGE_SIZE && pair.slot[0] == pair.slot[1]) {
        entry_set(translate, number, page, (uintptr_t)pair.host[0] - page, false);
        return;
    }
    seam = seam_of(translate, &pair);
    if (translate->seam_area && has_pair(seam, &pair))
        seam_use(translate, seam, number, page);
}

static bool seam_map(struct translate *translate, struct translate_seam *seam,
                     const struct pair *pair)
{
    uint8_t *place = place_of(translate, seam);

    seam_free(translate, seam);
    memset(seam, 0, sizeof(*seam));
    for (unsigned i = 0; i < 2; i++, place += GUEST_PAGE_SIZE) {
        const struct memory_slot *slot = pair->slot[i];
        void *map;

        if (pair->host[i])
            map = mmap(place, GUEST_PAGE_SIZE, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED | MAP_POPULATE, slot->fd,
                       (off_t)(slot->fd_offset + (uint64_t)(pair->host[i] - slot->host)));
        else
            map = mmap(place, GUEST_PAGE_SIZE, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED)
            return false;
        madvise(place, GUEST_PAGE_SIZE, MADV_DONTDUMP);
    }
    seam->host[0] = pair->host[0];
    seam->host[1] = pair->host[1];
    return true;
}

bool seam_due(struct soft_cpu *cpu)
{
    struct translate *translate = cpu->translate;
    uint64_t page = translate->hot->address & ~GUEST_PAGE_MASK;
    unsigned number = cpu->mmu.current_class;
    struct translate_seam *seam;
    struct pair pair;

    if (LIKELY(translate->hot->seam_wait))
        return false;
    translate->hot->seam_wait = wait_of(cpu);
    if (!pair_of(cpu, number, page, &pair))
        return true;
    seam = seam_of(translate, &pair);
    if (has_pair(seam, &pair) || seam_map(translate, seam, &pair))
        seam_use(translate, seam, number, page);
    return true;
}

bool seam_crossed(struct translate *translate)
{
    uint64_t at = translate->fault_address - (uintptr_t)translate->seam_area;
    struct translate_seam *seam = &translate->seam[at / SEAM_BYTES % TRANSLATE_SEAMS];

    if (!translate->seam_area || at >= SEAM_AREA_BYTES || at % SEAM_BYTES < GUEST_PAGE_SIZE)
        return false;
    seam_free(translate, seam);
    seam->crossed = true;
    return true;
}

void seams_init(struct soft_cpu *cpu)
{
    struct translate *translate = cpu->translate;
    uint8_t *area = translate->flat ? guard_area(cpu->vm) : NULL;

    /* Each is two mappings, of which a process may not have any number. */
    translate->nr_seams = TRANSLATE_SEAMS;
    while (translate->nr_seams > 1 && translate->nr_seams * cpu->vm->config->nr_cpus > SEAMS_ALL)
        translate->nr_seams /= 2;
    translate->seam_area = area ? area + cpu->cpu.index * SEAM_AREA_BYTES : NULL;
    translate->hot->seam_wait = wait_of(cpu);
}
