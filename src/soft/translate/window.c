/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The window: the guest's user pages at their own linear addresses in the host's address space, so
 * that a copied instruction may use the operand as it stands, and the host's MMU finds the page.
 *
 *   guest   0x5555_5555_4000 ─── user code: mov rax, [rbx+8]
 *   host    0x5555_5555_4000 ─── the same page of guest memory, mapped when it is first touched
 *
 * No address may lead to what is the process's own. So the lower half is divided into blocks of 512
 * MiB; one that the host's kernel gives us whole (MAP_FIXED_NOREPLACE), with a margin, is the
 * guest's for good: nothing else ever lies there. A table has a page for each block, readable when
 * the block is the guest's. Generated code reads a byte of that page, found by the upper bits of a
 * register, before it uses the register (access.c): if the block is not the guest's, that faults.
 * The byte's value is not looked at, so nothing waits for it.
 *
 * A page is there, for loads or for both, only while a processor's TLB may have it: all else
 * faults, and exit GUARD comes to window_fault. INVLPG takes a page away. When CR3 is loaded, code
 * that uses the window is not found any more; back in the same address space the pages are looked
 * at again, in the guest's tables (window_changed).
 *
 * To map a page costs some 3 us, a fault 2 more: this pays for programs that stay. So blocks with
 * such accesses have a key of their own (CACHE_KEY_WINDOW), and code with and without them exists
 * side by side. The window is for one address space at a time, for one that has used the processor
 * for a while; many faults end it.
 *
 * Invariants:
 *  1. A page of the table is readable only when its block, and WINDOW_MARGIN around it, was taken.
 *  2. Blocks are given up only outside generated code, while the window is not on: code that
 *     relies on a check has made it in the same run.
 *  3. While the window is on, a page in it is one of guest memory that the guest's tables give user
 *     accesses, with its accessed bits set; for stores only if it is dirty, not logged, and holds
 * no decoded code.
 *
 * Threads: the vCPU's own. One vCPU a VM: two would want different pages at one address.
 */
#include "soft/translate/translate_internal.h"

#include "base/clock.h"

#include <sys/mman.h>

#define BLOCK_SIZE    (UINT64_C(1) << WINDOW_BLOCK_SHIFT)
#define ADDRESS_LEAST UINT64_C(65536) /* vm.mmap_min_addr: below this nothing is ever mapped */
#define ADDRESS_END   ((UINT64_C(1) << 47) - 4096)
#define MILLISECOND   ((int64_t)NS_PER_MS)
#define WAIT_BEGIN    (20 * MILLISECOND)  /* of an address space, before it gets the window */
#define WAIT_PAGE     80000               /* ... for each page that it has touched */
#define WAIT_OTHER    (250 * MILLISECOND) /* ... from another that still uses it */
#define USED          (200 * MILLISECOND)
#define WORTH         32 /* a mapping should last so many times longer than it takes to look at it */
#define PENALTY_LEAST (2 * MILLISECOND)
#define PENALTY_MOST  (64 * MILLISECOND)
#define PAUSE_LEAST   (256 * MILLISECOND) /* after many faults */
#define PAUSE_MOST    (4096 * MILLISECOND)
#define FAULT_NS      80000 /* one in so long a time is good */
#define FAULTS_MOST   1024  /* more than that at once */
#define FAULTS_LOOK   64u
#define FOREIGN_MOST  64u /* accesses where the process has memory of its own */
#define LARGE_SHIFT   21u
#define LARGE_SIZE    (UINT64_C(1) << LARGE_SHIFT)

static int64_t now(void)
{
    return (int64_t)clock_monotonic_ns();
}

static void *lazily(size_t size)
{
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return map == MAP_FAILED ? NULL : map;
}

void window_init(struct soft_cpu *cpu)
{
    struct translate *translate = cpu->translate;
    struct translate_window *window = &translate->window;
    uint8_t *table = window_table(translate);

    window->pause = PAUSE_LEAST;
    if (!translate->flat || cpu->vm->config->nr_cpus > 1 ||
        cpu->vm->translate_window == SOFT_WINDOW_OFF || !faults_come_here())
        return;
    if (mprotect(table, WINDOW_TABLE_SIZE, PROT_NONE))
        return;
    window->page = lazily(WINDOW_PAGES * sizeof(*window->page));
    window->place = lazily(WINDOW_PLACES * sizeof(*window->place));
    window->possible = window->page && window->place;
}

static void blocks_release(struct translate *translate)
{
    struct translate_window *window = &translate->window;

    for (uint32_t i = 0; i < window->nr_blocks; i++) {
        struct window_block *block = &window->block[i];

        mmap(window_table(translate) + ((uint64_t)block->number << 12), 4096, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
        munmap((void *)(uintptr_t)block->at, block->size_bytes); /* NOLINT */
    }
    window->nr_blocks = 0;
}

void window_done(struct translate *translate)
{
    struct translate_window *window = &translate->window;

    blocks_release(translate);
    if (window->page)
        munmap(window->page, WINDOW_PAGES * sizeof(*window->page));
    if (window->place)
        munmap(window->place, WINDOW_PLACES * sizeof(*window->place));
    window->possible = false;
}

static struct window_block *block_find(struct translate_window *window, uint64_t number)
{
    for (uint32_t i = 0; i < window->nr_blocks; i++)
        if (window->block[i].number == number)
            return &window->block[i];
    return NULL;
}

/* Takes the addresses of a block; NULL: something else is there. */
static struct window_block *block_take(struct translate *translate, uint64_t number)
{
    struct translate_window *window = &translate->window;
    uint64_t start = number << WINDOW_BLOCK_SHIFT, end = start + BLOCK_SIZE;
    struct window_block *block = &window->block[window->nr_blocks];
    void *map, *at;

    if (window->nr_blocks == WINDOW_BLOCKS)
        return NULL;
    /* A neighbour has one of its margins here, and is one. */
    if (number && block_find(window, number - 1))
        start += WINDOW_MARGIN;
    else
        start = number ? start - WINDOW_MARGIN : ADDRESS_LEAST;
    if (block_find(window, number + 1))
        end -= WINDOW_MARGIN;
    else
        end = MIN(end + WINDOW_MARGIN, ADDRESS_END);
    at = (void *)(uintptr_t)start; /* NOLINT */
    map = mmap(at, end - start, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (map != at) {
        if (map != MAP_FAILED)
            munmap(map, end - start);
        return NULL;
    }
    *block =
        (struct window_block){.number = (uint32_t)number, .at = start, .size_bytes = end - start};
    if (mmap(window_table(translate) + (number << 12), 4096, PROT_READ,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
        munmap(at, end - start);
        return NULL;
    }
    window->nr_blocks++;
    return block;
}

/* NULL: it cannot be had. */
static struct window_block *block_have(struct translate *translate, uint64_t number)
{
    struct window_block *block = block_find(&translate->window, number);

    return block ? block : block_take(translate, number);
}

static uint64_t size_of(const struct window_page *page)
{
    return page->linear & WINDOW_LARGE ? LARGE_SIZE : GUEST_PAGE_SIZE;
}

static uint64_t address_of(const struct window_page *page)
{
    return page->linear & ~(uint64_t)WINDOW_LARGE;
}

static uint64_t host_of(const struct window_page *page)
{
    return page->host & ~(uint64_t)WINDOW_WRITE;
}

/* Where the number of this page's place, plus 1, is or would be. */
static uint16_t *place_of(const struct translate_window *window, uint64_t linear)
{
    uint32_t at = (uint32_t)(linear * UINT64_C(0x9e3779b97f4a7c15) >> 40);

    for (;; at++) {
        uint16_t *place = &window->place[at % WINDOW_PLACES];

        if (!*place || window->page[*place - 1].linear == linear)
            return place;
    }
}

static struct window_page *page_at(const struct translate_window *window, uint64_t linear)
{
    uint16_t place = *place_of(window, linear);

    return place && window->page[place - 1].host ? &window->page[place - 1] : NULL;
}

static uint64_t large_of(uint64_t address)
{
    return (address & ~(LARGE_SIZE - 1)) | WINDOW_LARGE;
}

/* The page that an address is in, or NULL. */
static struct window_page *page_find(const struct translate_window *window, uint64_t address)
{
    struct window_page *page = page_at(window, address & ~GUEST_PAGE_MASK);

    return page || !window->nr_large ? page : page_at(window, large_of(address));
}

static void unmap(uint64_t at, uint64_t size)
{
    mmap((void *)(uintptr_t)at, size, PROT_NONE, /* NOLINT */
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

static void page_drop(struct window_page *page)
{
    page->host = 0;
    unmap(address_of(page), size_of(page));
}

void window_clear(struct translate *translate)
{
    struct translate_window *window = &translate->window;

    if (!window->nr_pages)
        return;
    for (uint32_t i = 0; i < window->nr_blocks; i++) {
        struct window_block *block = &window->block[i];
        uint64_t start = MAX((uint64_t)block->number << WINDOW_BLOCK_SHIFT, ADDRESS_LEAST);
        uint64_t end = MIN(((uint64_t)block->number + 1) << WINDOW_BLOCK_SHIFT, ADDRESS_END);

        if (block->used)
            unmap(start, end - start);
        block->used = false;
    }
    memset(window->place, 0, WINDOW_PLACES * sizeof(*window->place));
    window->nr_pages = window->nr_large = 0;
    window->cut = false;
}

void window_page_gone(struct translate *translate, uint64_t address)
{
    const struct translate_window *window = &translate->window;
    struct window_page *page;

    if (!window->nr_pages)
        return;
    page = page_at(window, address & ~GUEST_PAGE_MASK);
    if (page)
        page_drop(page);
    page = window->nr_large ? page_at(window, large_of(address)) : NULL;
    if (page)
        page_drop(page);
    for (uint32_t i = 0; window->cut && i < window->nr_pages; i++)
        if (window->page[i].host && large_of(window->page[i].linear) == large_of(address))
            page_drop(&window->page[i]);
}

void window_host_revoke(struct translate *translate, uint64_t host)
{
    struct translate_window *window = &translate->window;

    if (!window->on) /* looked at when it is on again */
        return;
    for (uint32_t i = 0; i < window->nr_pages; i++) {
        struct window_page *page = &window->page[i];

        if ((page->host & WINDOW_WRITE) && host - host_of(page) < size_of(page))
            page_drop(page);
    }
}

static bool holds_code(const struct memory_slot *slot, uint64_t offset, uint64_t size)
{
    for (uint64_t i = 0; i < size >> GUEST_PAGE_SHIFT; i++)
        if (__atomic_load_n(&slot->code_map[(offset >> GUEST_PAGE_SHIFT) + i], __ATOMIC_SEQ_CST))
            return true;
    return false;
}

/* What the guest's tables say of this address: the page, as it may be in the window; *ret_slot:
 * where. As large as it can be: a large one is so for loads and stores alike. False: it may not. */
static bool page_known(struct soft_cpu *cpu, uint64_t address, struct window_page *ret,
                       const struct memory_slot **ret_slot)
{
    uint64_t size = GUEST_PAGE_SIZE, offset;
    const struct memory_slot *slot;
    struct mmu_known known;
    bool large, code;

    if (!mmu_user_known(cpu, address, &known))
        return false;
    slot = memory_slot_find(cpu->vm->memory, known.gpa);
    if (!slot || slot->read_only || known.shift > LARGE_SHIFT)
        return false;
    offset = (known.gpa - slot->gpa) & ~(LARGE_SIZE - 1);
    large = known.shift == LARGE_SHIFT && !(slot->gpa & (LARGE_SIZE - 1)) &&
            slot->size_bytes - offset >= LARGE_SIZE && !holds_code(slot, offset, LARGE_SIZE);
    if (large)
        size = LARGE_SIZE;
    else if (known.shift == LARGE_SHIFT)
        cpu->translate->window.cut = true;
    offset = (known.gpa - slot->gpa) & ~(size - 1);
    code = !large && holds_code(slot, offset, GUEST_PAGE_SIZE);
    ret->linear = (address & ~(size - 1)) | (large ? WINDOW_LARGE : 0);
    ret->host = (uintptr_t)slot->host + offset;
    if (known.write && !code && !slot->dirty_log)
        ret->host |= WINDOW_WRITE;
    *ret_slot = slot;
    return true;
}

/* Puts a page of this block where it belongs. touch: it is wanted at once. */
static bool page_map(struct translate *translate, struct window_block *block,
                     const struct window_page *page, const struct memory_slot *slot, bool touch)
{
    struct translate_window *window = &translate->window;
    uint64_t offset = host_of(page) - (uintptr_t)slot->host;
    uint16_t *place;

    if (window->nr_pages == WINDOW_PAGES)
        window_clear(translate);
    if (mmap((void *)(uintptr_t)address_of(page), size_of(page), /* NOLINT */
             PROT_READ | (page->host & WINDOW_WRITE ? PROT_WRITE : 0),
             MAP_SHARED | MAP_FIXED | (touch ? MAP_POPULATE : 0), slot->fd,
             (off_t)(slot->fd_offset + offset)) == MAP_FAILED)
        return false;
    place = place_of(window, page->linear);
    if (!*place) {
        *place = (uint16_t)++window->nr_pages;
        window->nr_large += page->linear & WINDOW_LARGE;
    }
    window->page[*place - 1] = *page;
    window->counts.mapped++;
    block->used = true;
    return true;
}

static uint64_t root_of(const struct soft_cpu *cpu)
{
    return cpu->cr3 & ~GUEST_PAGE_MASK & cpu->vm->physical_address_mask;
}

static struct window_space space_of(struct soft_cpu *cpu)
{
    gva_t stack = cpu->gpr[CPU_RSP];
    struct mmu_known known;

    if (stack >> 47 || !mmu_user_known(cpu, stack, &known))
        known.gpa = 0;
    return (struct window_space){.root = root_of(cpu), .stack = stack, .stack_gpa = known.gpa};
}

/* Is this address space the present one? Roots of page tables are used again for other ones. */
static bool space_here(struct soft_cpu *cpu, const struct window_space *space)
{
    struct mmu_known known;

    return space->root == root_of(cpu) && mmu_user_known(cpu, space->stack, &known) &&
           known.gpa == space->stack_gpa;
}

/* Code with and without the window finds each other through tables: they are emptied. */
static void part(struct translate *translate)
{
    jumps_half_flush(translate, MMU_CLASS_USER, 0);
    returns_half_forget(translate, 0);
    links_half_cut(translate, 0);
}

static void turn(struct soft_cpu *cpu, bool on)
{
    cpu->translate->window.on = on;
    cpu->user_key = CACHE_KEY_USER | (on ? CACHE_KEY_WINDOW : 0);
}

/* Nobody's. */
static void give_up(struct soft_cpu *cpu)
{
    struct translate *translate = cpu->translate;
    struct translate_window *window = &translate->window;

    turn(cpu, false);
    window->owner.root = 0;
    window_clear(translate);
    if (window->nr_blocks > WINDOW_BLOCKS / 2)
        blocks_release(translate);
    part(translate);
}

/* The pages that the guest's tables still have so stay. */
static void resume(struct soft_cpu *cpu)
{
    struct translate_window *window = &cpu->translate->window;
    int64_t start = now();

    if (!space_here(cpu, &window->owner)) { /* it has ended */
        window->owner.root = 0;
        return;
    }
    for (uint32_t i = 0; i < window->nr_pages; i++) {
        struct window_page *page = &window->page[i], known;
        const struct memory_slot *slot;

        if (page->host &&
            (!page_known(cpu, address_of(page), &known, &slot) || known.linear != page->linear ||
             host_of(&known) != host_of(page) || (page->host & ~known.host & WINDOW_WRITE)))
            page_drop(page);
    }
    turn(cpu, true);
    window->counts.resumed++;
    window->since = now();
    window->sync_cost = window->since - start;
}

static bool always(const struct soft_cpu *cpu)
{
    return cpu->vm->translate_window == SOFT_WINDOW_ALWAYS;
}

void window_changed(struct soft_cpu *cpu)
{
    struct translate_window *window = &cpu->translate->window;
    int64_t time;

    if (LIKELY(!window->owner.root))
        return;
    if (window->on) {
        time = now();
        if (time - window->since > WORTH * window->sync_cost) {
            window->penalty = 0;
        } else {
            window->penalty = MIN(MAX(window->penalty * 2, PENALTY_LEAST), PENALTY_MOST);
            window->resume_at = time + window->penalty;
        }
        window->since = time;
    }
    turn(cpu, false);
    if (window->owner.root == root_of(cpu) &&
        (always(cpu) || !window->penalty || now() >= window->resume_at))
        resume(cpu);
}

/* Has it cost too much? Faults may take a part of the time, after a first few. */
static bool faults_too_many(struct soft_cpu *cpu)
{
    struct translate_window *window = &cpu->translate->window;
    int64_t time;

    if (++window->counts.faults % FAULTS_LOOK || always(cpu))
        return false;
    time = now();
    window->credit += (time - window->credit_since) / FAULT_NS - FAULTS_LOOK;
    window->credit = MIN(window->credit, FAULTS_MOST);
    window->credit_since = time;
    if (window->credit > 0)
        return false;
    window->not_before = time + window->pause;
    window->pause = MIN(window->pause * 4, PAUSE_MOST);
    give_up(cpu);
    return true;
}

static void decline(struct soft_cpu *cpu)
{
    struct translate_window *window = &cpu->translate->window;

    if (window->nr_blocks < WINDOW_BLOCKS)
        window->declined = root_of(cpu);
    give_up(cpu);
}

/* False: the page's address cannot be had. */
static bool page_bring(struct soft_cpu *cpu, uint64_t address, bool touch)
{
    struct translate *translate = cpu->translate;
    const struct memory_slot *slot;
    struct window_block *block;
    struct window_page page;

    if (!page_known(cpu, address, &page, &slot))
        return true;
    block = block_have(translate, address >> WINDOW_BLOCK_SHIFT);
    if (block && !page_find(&translate->window, address))
        page_map(translate, block, &page, slot, touch);
    return block;
}

static void begin(struct soft_cpu *cpu)
{
    struct translate *translate = cpu->translate;
    struct translate_window *window = &translate->window;

    view_sync(cpu);
    window_clear(translate);
    window->owner = space_of(cpu);
    window->candidate.root = 0;
    window->penalty = 0;
    window->nr_foreign = 0;
    window->counts.begun++;
    for (uint32_t i = 0; i < translate->nr_flat_log[MMU_CLASS_USER][0]; i++)
        if (!page_bring(cpu, translate->flat_log[MMU_CLASS_USER][0][i], false)) {
            decline(cpu);
            return;
        }
    part(translate);
    turn(cpu, true);
    window->since = window->credit_since = now();
    window->credit = FAULTS_MOST;
}

static bool may_begin(const struct soft_cpu *cpu)
{
    const struct translate_window *window = &cpu->translate->window;

    return window->possible && !window->on && cpu->mmu.current_class == MMU_CLASS_USER &&
           translate_possible(cpu);
}

/* How long an address space has to be in use: until a loss is at most as much again. */
static int64_t wait_of(const struct soft_cpu *cpu, int64_t time)
{
    const struct translate_window *window = &cpu->translate->window;
    int64_t wait = window->candidate_pages * WAIT_PAGE;

    if (window->owner.root && time - window->since < USED)
        return MAX(wait, WAIT_OTHER);
    return MAX(wait, WAIT_BEGIN);
}

void window_poll(struct soft_cpu *cpu)
{
    struct translate_window *window = &cpu->translate->window;
    uint64_t root;
    int64_t time;

    if (!may_begin(cpu))
        return;
    view_sync(cpu);
    root = root_of(cpu);
    time = now();
    window->candidate_pages = MAX(window->candidate_pages,
                                  cpu->translate->nr_flat_log[MMU_CLASS_USER][0]);
    if (root == window->owner.root) {
        if (!window->on && time >= window->resume_at) {
            part(cpu->translate);
            resume(cpu);
        }
    } else if (!space_here(cpu, &window->candidate)) {
        if (root != window->declined)
            window->declined = 0;
        window->candidate = space_of(cpu);
        window->candidate_since = time;
        window->candidate_pages = 0;
    } else if (root != window->declined && time >= window->not_before &&
               time - window->candidate_since >= wait_of(cpu, time)) {
        begin(cpu);
    }
}

void window_enter_slow(struct soft_cpu *cpu)
{
    struct translate_window *window = &cpu->translate->window;
    uint64_t expected = window->expected;

    if (cpu->cpl != 3)
        return;
    window->expected = 0;
    view_sync(cpu);
    if (expected && window->on)
        page_bring(cpu, expected, true);
    if (always(cpu) && may_begin(cpu) && root_of(cpu) != window->declined)
        begin(cpu);
}

enum window_result window_fault(struct soft_cpu *cpu, uint32_t exit)
{
    struct translate *translate = cpu->translate;
    struct translate_window *window = &translate->window;
    uint64_t address = translate->fault_address, page = address & ~GUEST_PAGE_MASK;
    uint64_t of_table = address - (uintptr_t)window_table(translate);
    bool write = translate->fault_write, fault, again;
    const struct memory_slot *slot;
    struct window_page known;
    struct window_block *block;

    if (!window->on || !translate->fault_page || faults_too_many(cpu))
        return WINDOW_INTERPRET;
    if (of_table < WINDOW_TABLE_SIZE) {
        if (block_have(translate, of_table >> 12))
            return WINDOW_AGAIN;
        if (++window->nr_foreign == FOREIGN_MOST && !always(cpu))
            decline(cpu);
        return WINDOW_INTERPRET;
    }
    again = window->last_exit == exit && window->last_page == (page | write);
    window->last_exit = again ? 0 : exit;
    window->last_page = page | write;
    block = address < ADDRESS_END ? block_have(translate, page >> WINDOW_BLOCK_SHIFT) : NULL;
    if (again || !block)
        return WINDOW_INTERPRET;
    translate->hot->address = address;
    if (!page_known(cpu, address, &known, &slot) || (write && !(known.host & WINDOW_WRITE))) {
        if (!view_fill(cpu, write, &fault)) {
            window->expected = fault ? address : 0;
            return fault ? WINDOW_FAULT : WINDOW_INTERPRET;
        }
        if (!page_known(cpu, address, &known, &slot))
            return WINDOW_INTERPRET;
    }
    return page_map(translate, block, &known, slot, true) ? WINDOW_AGAIN : WINDOW_INTERPRET;
}
