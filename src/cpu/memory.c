/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest-physical memory. Each slot is one memfd, sealed against resizing (a shrunk file would turn
 * accesses into SIGBUS), mapped shared and without reservation: untouched guest memory costs
 * nothing on the host. The memfd has no name in any file system, so nothing stays behind when the
 * process dies.
 */
#include "cpu/memory.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

/* The largest address that fits the widest physical address we expose (52 bits). */
#define MEMORY_GPA_END (UINT64_C(1) << 52)
#define PLACE_START    (UINT64_C(1) << 45) /* between programs and libraries */

int memory_new(struct memory **ret, struct err *err)
{
    struct memory *memory = calloc(1, sizeof(*memory));

    if (!memory)
        return err_set(err, -ENOMEM, "out of memory");
    pthread_mutex_init(&memory->touch_lock, NULL);
    *ret = memory;
    return 0;
}

static uint64_t slot_pages(const struct memory_slot *slot)
{
    return slot->size_bytes >> GUEST_PAGE_SHIFT;
}

static size_t slot_log_words(const struct memory_slot *slot)
{
    return (slot_pages(slot) + 63) / 64;
}

static void slot_done(struct memory_slot *slot)
{
    if (slot->host)
        munmap(slot->host, slot->size_bytes);
    if (slot->code_map)
        munmap(slot->code_map, slot_pages(slot));
    free(slot->dirty_log);
    free(slot->touched);
    if (slot->fd >= 0)
        close(slot->fd);
}

void memory_free(struct memory *memory)
{
    if (!memory)
        return;
    for (unsigned i = 0; i < memory->nr_slots; i++)
        slot_done(&memory->slots[i]);
    pthread_mutex_destroy(&memory->touch_lock);
    free(memory);
}

static uint64_t host_memory_size(void)
{
    struct sysinfo info;

    if (sysinfo(&info))
        return UINT64_MAX;
    return ((uint64_t)info.totalram + info.totalswap) * info.mem_unit;
}

static int ram_check(const struct memory *memory, gpa_t gpa, uint64_t size_bytes, struct err *err)
{
    uint64_t total, host;

    if (!size_bytes || (gpa & GUEST_PAGE_MASK) || (size_bytes & GUEST_PAGE_MASK))
        return err_set(err, -EINVAL, "guest memory at 0x%llx of 0x%llx bytes is not page-aligned",
                       (unsigned long long)gpa, (unsigned long long)size_bytes);
    if (!range_fits(gpa, size_bytes, MEMORY_GPA_END))
        return err_set(err, -EINVAL, "guest memory at 0x%llx of 0x%llx bytes is beyond 52 bits",
                       (unsigned long long)gpa, (unsigned long long)size_bytes);
    if (memory->nr_slots == MEMORY_SLOTS_MAX)
        return err_set(err, -ENOSPC, "more than %d pieces of guest memory", MEMORY_SLOTS_MAX);
    for (unsigned i = 0; i < memory->nr_slots; i++) {
        const struct memory_slot *slot = &memory->slots[i];

        if (gpa < slot->gpa + slot->size_bytes && slot->gpa < gpa + size_bytes)
            return err_set(err, -EEXIST, "guest memory at 0x%llx overlaps that at 0x%llx",
                           (unsigned long long)gpa, (unsigned long long)slot->gpa);
    }
    total = memory_size(memory) + size_bytes;
    host = host_memory_size();
    if (total > host)
        return err_set(err, -ENOMEM,
                       "guest memory of %llu MiB is more than this host has: %llu MiB",
                       (unsigned long long)(total / MIB), (unsigned long long)(host / MIB));
    return 0;
}

/*
 * Where a slot would best lie. The software CPU wants the addresses that are a multiple of 2^38
 * from it for itself (soft/translate/guard.c); so it lies where, by the low 38 bits, nothing else
 * of the process is near: in the largest gap between program, libraries and stack.
 */
static void *place_find(const struct memory *memory)
{
    const uint64_t cycle = UINT64_C(1) << 38;
    uint64_t taken[] = {(uintptr_t)memory_new, (uintptr_t)mmap, (uintptr_t)&cycle};
    uint64_t widest = 0, place = 0;

    for (unsigned i = 0; i < ARRAY_LEN(taken); i++) {
        uint64_t gap = cycle;

        for (unsigned j = 0; j < ARRAY_LEN(taken); j++)
            if (j != i)
                gap = MIN(gap, (taken[j] - taken[i]) & (cycle - 1));
        if (gap > widest) {
            widest = gap;
            place = taken[i] + gap / 4;
        }
    }
    place = (place + memory_size(memory)) & (cycle - 1);
    return (void *)(uintptr_t)(PLACE_START + align_up(place, MEMORY_LARGE)); /* NOLINT */
}

static int slot_map(const struct memory *memory, struct memory_slot *slot, struct err *err)
{
    void *map;

    slot->fd = memfd_create("guest-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (slot->fd < 0)
        return err_errno(err, -errno, "create guest memory");
    if (ftruncate(slot->fd, (off_t)slot->size_bytes) ||
        fcntl(slot->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
        return err_errno(err, -errno, "size guest memory of %llu MiB",
                         (unsigned long long)(slot->size_bytes / MIB));
    map = mmap(place_find(memory), slot->size_bytes, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_NORESERVE, slot->fd, 0);
    if (map == MAP_FAILED)
        return err_errno(err, -errno, "map guest memory of %llu MiB",
                         (unsigned long long)(slot->size_bytes / MIB));
    slot->host = map;
    madvise(slot->host, slot->size_bytes, MADV_DONTDUMP); /* a core dump would carry the guest */
    map = mmap(NULL, slot_pages(slot), PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return err_errno(err, -errno, "map the code map of guest memory");
    slot->code_map = map;
    /* Elsewhere than asked for, the host's large pages would not fit. */
    if ((uintptr_t)slot->host % MEMORY_LARGE == 0)
        slot->touched = calloc(slot->size_bytes / MEMORY_LARGE + 1, sizeof(*slot->touched));
    return 0;
}

int memory_add_ram(struct memory *memory, gpa_t gpa, uint64_t size_bytes, struct err *err)
{
    struct memory_slot slot = {.gpa = gpa, .size_bytes = size_bytes, .fd = -1};
    unsigned at;
    int r;

    r = ram_check(memory, gpa, size_bytes, err);
    if (r < 0)
        return r;
    r = slot_map(memory, &slot, err);
    if (r < 0) {
        slot_done(&slot);
        return r;
    }
    for (at = 0; at < memory->nr_slots && memory->slots[at].gpa < gpa; at++)
        ;
    memmove(&memory->slots[at + 1], &memory->slots[at],
            (memory->nr_slots - at) * sizeof(memory->slots[0]));
    memory->slots[at] = slot;
    memory->nr_slots++;
    return 0;
}

void *memory_range(struct memory *memory, gpa_t gpa, uint64_t length)
{
    struct memory_slot *slot = memory_slot_find(memory, gpa);

    if (!slot || !length || !range_fits(gpa - slot->gpa, length, slot->size_bytes))
        return NULL;
    return slot->host + (gpa - slot->gpa);
}

/* The host address of gpa, and in *ret_part how many of `length` bytes lie in that slot; or NULL.
 */
static uint8_t *range_part(struct memory *memory, gpa_t gpa, uint64_t length, uint64_t *ret_part)
{
    struct memory_slot *slot = memory_slot_find(memory, gpa);

    if (!slot)
        return NULL;
    *ret_part = MIN(length, slot->size_bytes - (gpa - slot->gpa));
    return slot->host + (gpa - slot->gpa);
}

/* Is all of [gpa, gpa + length) RAM, over however many adjacent slots? */
static bool range_is_ram(struct memory *memory, gpa_t gpa, uint64_t length)
{
    uint64_t part = 0;

    for (; length; gpa += part, length -= part)
        if (!range_part(memory, gpa, length, &part))
            return false;
    return true;
}

int memory_read(struct memory *memory, gpa_t gpa, void *data, uint64_t length)
{
    uint64_t part = 0;
    uint8_t *to = data;

    if (!range_is_ram(memory, gpa, length))
        return -EFAULT;
    for (; length; gpa += part, to += part, length -= part) {
        const uint8_t *host = range_part(memory, gpa, length, &part);

        if (!host)
            return -EFAULT;
        memcpy(to, host, part);
    }
    return 0;
}

#define POPULATE_LEAST MIB

int memory_write(struct memory *memory, gpa_t gpa, const void *data, uint64_t length)
{
    const uint8_t *from = data;
    uint64_t part = 0;

    if (!range_is_ram(memory, gpa, length))
        return -EFAULT;
    for (; length; gpa += part, from += part, length -= part) {
        uint8_t *host = range_part(memory, gpa, length, &part);

        if (!host)
            return -EFAULT;
        if (part >= POPULATE_LEAST) /* all at once is cheaper than fault by fault; not needed */
            (void)madvise((void *)align_up((uintptr_t)host, GUEST_PAGE_SIZE), /* NOLINT */
                          align_down(part, GUEST_PAGE_SIZE) - GUEST_PAGE_SIZE, MADV_POPULATE_WRITE);
        memcpy(host, from, part);
        memory_written(memory, gpa, part);
    }
    return 0;
}

void memory_written(struct memory *memory, gpa_t gpa, uint64_t length)
{
    while (length) {
        struct memory_slot *slot = memory_slot_find(memory, gpa);
        uint64_t part = MIN(length, GUEST_PAGE_SIZE - (gpa & GUEST_PAGE_MASK));
        uint64_t page;

        if (!slot)
            return;
        page = (gpa - slot->gpa) >> GUEST_PAGE_SHIFT;
        memory_slot_mark_dirty(slot, page);
        if (UNLIKELY(__atomic_load_n(&slot->code_map[page], __ATOMIC_ACQUIRE)) &&
            memory->code_written)
            memory->code_written(memory->code_written_context, gpa, part);
        gpa += part;
        length -= part;
    }
}

uint64_t memory_size(const struct memory *memory)
{
    uint64_t size = 0;

    for (unsigned i = 0; i < memory->nr_slots; i++)
        size += memory->slots[i].size_bytes;
    return size;
}

int memory_dirty_start(struct memory *memory, struct err *err)
{
    for (unsigned i = 0; i < memory->nr_slots; i++) {
        struct memory_slot *slot = &memory->slots[i];

        free(slot->dirty_log);
        slot->dirty_log = calloc(slot_log_words(slot), sizeof(uint64_t));
        if (!slot->dirty_log) {
            memory_dirty_stop(memory);
            return err_set(err, -ENOMEM, "allocate the dirty log");
        }
    }
    return 0;
}

void memory_dirty_stop(struct memory *memory)
{
    for (unsigned i = 0; i < memory->nr_slots; i++) {
        free(memory->slots[i].dirty_log);
        memory->slots[i].dirty_log = NULL;
    }
}

int memory_dirty_fetch(struct memory *memory, unsigned slot, uint64_t *ret_bits)
{
    struct memory_slot *s;

    if (slot >= memory->nr_slots)
        return -EINVAL;
    s = &memory->slots[slot];
    if (!s->dirty_log)
        return -ENODATA;
    for (size_t i = 0; i < slot_log_words(s); i++)
        ret_bits[i] = __atomic_exchange_n(&s->dirty_log[i], 0, __ATOMIC_ACQ_REL);
    return 0;
}
