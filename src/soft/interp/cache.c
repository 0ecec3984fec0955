/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block cache: lookup, the arena, invalidation. cache.h holds the contract and the reasoning
 * about writes to code.
 */
#include "soft/interp/cache.h"

#include "soft/tier.h"
#include "soft/translate/translate.h"

#include <errno.h>
#include <sys/mman.h>

static void *map_lazily(size_t size)
{
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (map == MAP_FAILED)
        return NULL;
    madvise(map, size, MADV_HUGEPAGE); /* dense, and looked at everywhere */
    return map;
}

static void unmap(void *map, size_t size)
{
    if (map)
        munmap(map, size);
}

static size_t granule_bytes(const struct memory_slot *slot)
{
    return align_up((slot->size_bytes >> GUEST_PAGE_SHIFT) * sizeof(uint64_t), GUEST_PAGE_SIZE);
}

void cache_vm_init(struct soft_vm *vm)
{
    pthread_mutex_init(&vm->code_lock, NULL);
}

void cache_vm_done(struct soft_vm *vm)
{
    for (unsigned i = 0; i < vm->memory->nr_slots; i++)
        unmap(vm->code_granules[i], granule_bytes(&vm->memory->slots[i]));
    pthread_mutex_destroy(&vm->code_lock);
}

/* Beside translated code, decoded blocks have 3/4 of its memory; where nothing is translated, too,
 * when less than usual was asked for. */
static size_t arena_size(const struct soft_vm *vm)
{
    size_t share = vm->translate_memory / vm->config->nr_cpus / 4 * 3;

    if (vm->translate_runs < 0 && vm->translate_memory >= SOFT_CACHE_DEFAULT)
        return CACHE_ARENA_SIZE;
    return MIN(MAX(share, CACHE_ARENA_LEAST), CACHE_ARENA_SIZE);
}

int cache_init(struct soft_cpu *cpu)
{
    struct soft_interp *interp = &cpu->interp;

    cpu->user_key = CACHE_KEY_USER;
    interp->arena_size = arena_size(cpu->vm);
    interp->jumps = map_lazily(CACHE_JUMPS * sizeof(*interp->jumps));
    interp->block_hash = map_lazily(CACHE_BLOCKS * sizeof(*interp->block_hash));
    interp->page_hash = map_lazily(CACHE_PAGES * sizeof(*interp->page_hash));
    interp->arena = map_lazily(interp->arena_size);
    if (!interp->jumps || !interp->block_hash || !interp->page_hash || !interp->arena)
        return -ENOMEM;
    return 0;
}

void cache_done(struct soft_cpu *cpu)
{
    struct soft_interp *interp = &cpu->interp;

    unmap(interp->jumps, CACHE_JUMPS * sizeof(*interp->jumps));
    unmap(interp->block_hash, CACHE_BLOCKS * sizeof(*interp->block_hash));
    unmap(interp->page_hash, CACHE_PAGES * sizeof(*interp->page_hash));
    unmap(interp->arena, interp->arena_size);
}

/* Bits in soft_vm.code_granules stay: a superfluous bit costs one lookup at the next write. */
void cache_flush(struct soft_cpu *cpu)
{
    struct soft_interp *interp = &cpu->interp;

    memset(interp->jumps, 0, CACHE_JUMPS * sizeof(*interp->jumps));
    memset(interp->block_hash, 0, CACHE_BLOCKS * sizeof(*interp->block_hash));
    memset(interp->page_hash, 0, CACHE_PAGES * sizeof(*interp->page_hash));
    interp->arena_used = 0;
    translate_flushed(cpu); /* which looks at the blocks once more */
    madvise(interp->arena, interp->arena_size, MADV_DONTNEED);
}

void *cache_alloc(struct soft_cpu *cpu, size_t size)
{
    struct soft_interp *interp = &cpu->interp;
    void *memory = interp->arena + interp->arena_used;

    size = align_up(size, 16);
    if (size > interp->arena_size - interp->arena_used)
        return NULL;
    interp->arena_used += size;
    return memory;
}

/* The word of gpa's page, and its code_map byte; NULL: not RAM, or nothing was decoded in its slot.
 */
static uint64_t *granules_of(struct soft_vm *vm, gpa_t gpa, uint8_t **ret_code_byte)
{
    struct memory_slot *slot = memory_slot_find(vm->memory, gpa);
    uint64_t *granules = slot ? vm->code_granules[slot - vm->memory->slots] : NULL;
    uint64_t page;

    if (!granules)
        return NULL;
    page = (gpa - slot->gpa) >> GUEST_PAGE_SHIFT;
    *ret_code_byte = &slot->code_map[page];
    return &granules[page];
}

/* Slots may be added after the VM was made: their words are mapped at the first use. */
static void granules_map(struct soft_vm *vm, gpa_t gpa)
{
    const struct memory_slot *slot = memory_slot_find(vm->memory, gpa);
    uint64_t **granules = slot ? &vm->code_granules[slot - vm->memory->slots] : NULL;

    if (granules && !*granules)
        *granules = map_lazily(granule_bytes(slot));
}

/* Of [offset, offset + length) in a page; length > 0 */
static uint64_t granule_mask(unsigned offset, unsigned length)
{
    unsigned first = offset / CACHE_GRANULE;
    unsigned last = (offset + length - 1) / CACHE_GRANULE;

    return (UINT64_MAX << first) & (UINT64_MAX >> (63 - last));
}

bool cache_mark(struct soft_cpu *cpu, gpa_t gpa, unsigned length)
{
    struct soft_vm *vm = cpu->vm;
    uint8_t *code_byte;
    uint64_t *granules;

    pthread_mutex_lock(&vm->code_lock);
    granules_map(vm, gpa);
    granules = granules_of(vm, gpa, &code_byte);
    if (granules) {
        *granules |= granule_mask(gpa & GUEST_PAGE_MASK, length);
        if (*code_byte != 1) {
            __atomic_store_n(code_byte, 2, __ATOMIC_SEQ_CST);
            translate_stores_revoke_begin(vm, memory_range(vm->memory, gpa, 1));
            mmu_code_page_mark(vm, gpa);
            translate_stores_revoke_wait(vm);
        }
    }
    pthread_mutex_unlock(&vm->code_lock);
    return granules;
}

static struct interp_code_page **page_head(struct soft_interp *interp, gpa_t page)
{
    return &interp->page_hash[(page >> GUEST_PAGE_SHIFT) & (CACHE_PAGES - 1)];
}

static struct interp_code_page *page_find(struct soft_interp *interp, gpa_t page)
{
    struct interp_code_page *found = *page_head(interp, page);

    while (found && found->gpa != page)
        found = found->next;
    return found;
}

static struct interp_block **block_head(struct soft_interp *interp, gpa_t gpa, uint32_t key)
{
    uint64_t hash = (gpa ^ (uint64_t)key << 52) * UINT64_C(0x9e3779b97f4a7c15);

    return &interp->block_hash[hash >> 32 & (CACHE_BLOCKS - 1)];
}

/* Out of the hash, and does nothing any more. */
static void block_retire(struct soft_cpu *cpu, struct interp_block *block)
{
    struct interp_block **link = block_head(&cpu->interp, block->gpa, block->key);

    block->stale = true;
    while (*link && *link != block)
        link = &(*link)->hash_next;
    if (*link)
        *link = block->hash_next;
    for (unsigned i = 0; i < block->nr_ops; i++)
        block->ops[i].run = op_stale;
}

static void block_kill(struct soft_cpu *cpu, struct interp_block *block)
{
    if (block->stale)
        return;
    if (block->translation)
        translate_block_killed(cpu, block);
    block_retire(cpu, block);
    cpu->counters.blocks_invalidated++;
}

/* Drops this vCPU's blocks in the granules `mask` of a page. */
static void page_invalidate(struct soft_cpu *cpu, gpa_t gpa, uint64_t mask)
{
    struct interp_code_page *page = page_find(&cpu->interp, gpa);
    struct interp_block_page **link;

    if (!page)
        return;
    link = &page->blocks;
    while (*link) {
        if ((*link)->block->stale || ((*link)->mask & mask)) {
            block_kill(cpu, (*link)->block);
            *link = (*link)->next;
        } else {
            link = &(*link)->next;
        }
    }
}

/* Under code_lock. */
static void mail_post(struct soft_cpu *cpu, gpa_t page, uint64_t mask)
{
    struct soft_interp *interp = &cpu->interp;

    if (interp->nr_mail == INTERP_MAIL_MAX)
        interp->mail_overflow = true;
    else
        interp->mail[interp->nr_mail++] = (struct interp_mail){.gpa = page, .mask = mask};
    __atomic_fetch_or(&cpu->cpu.requests, CPU_REQUEST_ENGINE, __ATOMIC_SEQ_CST);
    translate_kick(cpu);
}

void cache_take_mail(struct soft_cpu *cpu)
{
    struct soft_interp *interp = &cpu->interp;

    pthread_mutex_lock(&cpu->vm->code_lock);
    if (interp->mail_overflow)
        cache_flush(cpu);
    else
        for (unsigned i = 0; i < interp->nr_mail; i++)
            page_invalidate(cpu, interp->mail[i].gpa, interp->mail[i].mask);
    interp->nr_mail = 0;
    interp->mail_overflow = false;
    pthread_mutex_unlock(&cpu->vm->code_lock);
}

/* Under code_lock: the granules `mask` of one page were written. */
static void page_written(struct soft_vm *vm, gpa_t gpa, uint64_t mask)
{
    uint8_t *code_byte;
    uint64_t *granules = granules_of(vm, gpa, &code_byte);
    gpa_t page = gpa & ~GUEST_PAGE_MASK;
    pthread_t self = pthread_self();

    if (!granules || !(*granules & mask))
        return;
    mask &= *granules;
    *granules &= ~mask;
    if (!*granules)
        __atomic_store_n(code_byte, 0, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < vm->config->nr_cpus; i++) {
        struct soft_cpu *cpu = __atomic_load_n(&vm->cpus[i], __ATOMIC_ACQUIRE);

        if (!cpu)
            continue;
        if (__atomic_load_n(&cpu->interp.in_run, __ATOMIC_ACQUIRE) &&
            pthread_equal(cpu->interp.thread, self))
            page_invalidate(cpu, page, mask);
        else
            mail_post(cpu, page, mask);
    }
}

void cache_code_written(void *context, gpa_t gpa, uint64_t length)
{
    struct soft_vm *vm = context;

    pthread_mutex_lock(&vm->code_lock);
    while (length) {
        unsigned offset = gpa & GUEST_PAGE_MASK;
        unsigned part = (unsigned)MIN(length, GUEST_PAGE_SIZE - offset);

        page_written(vm, gpa, granule_mask(offset, part));
        gpa += part;
        length -= part;
    }
    pthread_mutex_unlock(&vm->code_lock);
}

/* Puts a new block where lookups and writes find it. */
static bool block_insert(struct soft_cpu *cpu, struct interp_block *block)
{
    struct soft_interp *interp = &cpu->interp;
    struct interp_block **head = block_head(interp, block->gpa, block->key);

    for (unsigned i = 0; i < 2; i++) {
        struct interp_block_page *use = &block->page[i];
        struct interp_code_page *page;

        if (!use->mask)
            continue;
        page = page_find(interp, use->gpa);
        if (!page) {
            page = cache_alloc(cpu, sizeof(*page));
            if (!page)
                return false;
            *page = (struct interp_code_page){
                .next = *page_head(interp, use->gpa),
                .gpa = use->gpa,
            };
            *page_head(interp, use->gpa) = page;
        }
        use->block = block;
        use->next = page->blocks;
        page->blocks = use;
    }
    block->hash_next = *head;
    *head = block;
    return true;
}

/* Does the block's second page, if it has one, still lie where it was decoded? */
static bool second_page_matches(struct soft_cpu *cpu, const struct interp_block *block)
{
    unsigned first = (unsigned)(GUEST_PAGE_SIZE - (block->gpa & GUEST_PAGE_MASK));
    unsigned length;
    uint8_t byte;
    gpa_t gpa;

    if (!block->page[1].mask)
        return true;
    /* A fault here is raised again by block_build. */
    if (mmu_fetch(cpu, cpu->rip + first, &byte, 1, &length, &gpa))
        return false;
    return (gpa & ~GUEST_PAGE_MASK) == block->page[1].gpa;
}

/* Guest-physical address of CS:RIP; SOFT_FAULT, or SOFT_EXIT outside RAM. */
static int code_address(struct soft_cpu *cpu, gva_t linear, gpa_t *ret)
{
    const struct mmu_fetch_entry *entry = mmu_fetch_fast(cpu, linear);
    enum soft_result result;
    unsigned length;
    uint8_t byte;

    if (LIKELY(entry) && LIKELY(cpu->code_mode == INSN_MODE_64)) {
        *ret = entry->gpa | (linear & GUEST_PAGE_MASK);
        return SOFT_OK;
    }
    result = mmu_fetch(cpu, cpu->rip, &byte, 1, &length, ret);
    if (result)
        return (int)result;
    if (*ret != UINT64_MAX)
        return SOFT_OK;
    interp_unsupported(cpu, "code outside memory");
    return SOFT_EXIT;
}

static struct interp_block *find_physical(struct soft_cpu *cpu, gpa_t gpa, uint32_t key)
{
    struct interp_block *block = *block_head(&cpu->interp, gpa, key);

    while (block && (block->gpa != gpa || block->key != key))
        block = block->hash_next;
    return block;
}

int cache_find(struct soft_cpu *cpu, bool single, struct interp_block **ret)
{
    gva_t linear = cpu->rip + cpu->segment[CPU_CS].base;
    uint32_t key = cache_key(cpu) | (single ? CACHE_KEY_SINGLE : 0);
    struct interp_block *block;
    struct interp_jump *jump;
    int result;
    gpa_t gpa;

    if (cpu->code_mode != INSN_MODE_64)
        linear = (uint32_t)linear;
    result = code_address(cpu, linear, &gpa);
    if (result)
        return result;
    block = find_physical(cpu, gpa, key);
    if (block && UNLIKELY(!second_page_matches(cpu, block))) {
        block_kill(cpu, block);
        block = NULL;
    }
    for (unsigned attempt = 0; !block; attempt++) {
        result = block_build(cpu, gpa, key, false, &block);
        if (result)
            return result;
        if (block && !block_insert(cpu, block))
            block = NULL;
        if (block)
            break;
        if (attempt)
            return (int)(interp_unsupported(cpu, "no memory for decoded code"), SOFT_EXIT);
        cache_flush(cpu);
    }
    if (!single) {
        jump = cache_jump(cpu, linear);
        *jump =
            (struct interp_jump){.linear = linear, .context = cache_context(cpu), .block = block};
    }
    *ret = block;
    return SOFT_OK;
}

bool cache_goes_on(struct soft_cpu *cpu, gpa_t gpa, uint32_t key, const struct interp_op *op)
{
    gpa_t behind = gpa + op->offset + op->length;

    return hot_jcc_forward(op) && !((behind ^ gpa) & ~GUEST_PAGE_MASK) &&
           (!cpu->vm->translate_runs || find_physical(cpu, behind, key) ||
            ((key & CACHE_KEY_WINDOW) && find_physical(cpu, behind, key & ~CACHE_KEY_WINDOW)));
}

struct interp_block *cache_extend(struct soft_cpu *cpu, struct interp_block *block)
{
    const struct interp_op *last = &block->ops[block->nr_ops - 1];
    struct interp_block *longer;

    if (block->stale || block->nr_sides || !cache_goes_on(cpu, block->gpa, block->key, last) ||
        block_build(cpu, block->gpa, block->key, true, &longer) || !longer ||
        !block_insert(cpu, longer))
        return block;
    block_retire(cpu, block);
    return longer;
}

void cache_jump_forget(struct soft_cpu *cpu)
{
    gva_t linear = cpu->rip + cpu->segment[CPU_CS].base;

    if (cpu->code_mode != INSN_MODE_64)
        linear = (uint32_t)linear;
    cache_jump(cpu, linear)->block = NULL;
    cache_jump(cpu, linear)->context = UINT64_MAX;
}
