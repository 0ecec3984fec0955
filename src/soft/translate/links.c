/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Direct jumps between translations: host jumps that are patched when their target is known.
 *
 *                    ┌──▶ the target's code ──▶ links_cut (it dies): exit LINK again
 *   exit LINK ──▶ link_make          └──▶ far_cut (the mapping may have changed) ──┐
 *        ▲           └──▶ code that asks the jump table ◀──────────────────────────┘
 *        └────────────────── links_stable ──┘
 *
 * Inside a page a link is valid under any mapping, as both ends lie in it. Between pages ("far") it
 * depends on where both are mapped:
 *  1. Far links are cut when mmu.epoch of their half of the address space moves, and when INVLPG
 *     names a page that one leads to. No link joins the halves.
 *  2. Code does not know its address. So a page that has far links is known at one linear address
 *     (translate_page.linear): page_seen learns of every address at which generated code is entered
 *     from outside. A second one, while the jump table and the return stack may still lead to the
 *     first, cuts all far links and bars the page from having any until they are emptied.
 *  3. A target in two pages depends on a translation of the second: it is always looked up.
 *
 * The upper half, where kernels keep their code under global mappings, is linked at once. In the
 * lower half, which every change of CR3 cuts, the jump table does as well until the mapping has
 * stood for STABLE_NS: linking again must not cost more than it saves.
 */
#include "soft/translate/translate_internal.h"

#include <assert.h>
#include <time.h>

#define STABLE_NS 8000000

static struct translate_page **page_head(struct translate *translate, gpa_t gpa)
{
    return &translate->page_hash[gpa >> GUEST_PAGE_SHIFT & (TRANSLATE_PAGES - 1)];
}

struct translate_page *page_of(struct translate *translate, gpa_t gpa, uint32_t key)
{
    struct translate_page **head, *page;

    gpa &= ~GUEST_PAGE_MASK;
    head = page_head(translate, gpa);
    for (page = *head; page; page = page->next)
        if (page->gpa == gpa && page->key == key)
            return page;
    page = (void *)(translate->arena + translate->arena_used);
    translate->arena_used += align_up(sizeof(*page), 64);
    *page = (struct translate_page){
        .next = *head,
        .gpa = gpa,
        .key = key,
        .linear = UINT64_MAX,
    };
    *head = page;
    return page;
}

static void link_patch(struct translate *translate, const struct translate_link *link,
                       const uint8_t *target)
{
    int64_t distance = target - (code_cache_run(&translate->code, link->patch) + 4);

    __atomic_store_n((uint32_t *)(void *)link->patch, (uint32_t)distance, __ATOMIC_RELAXED);
}

static void link_cut(struct translate *translate, struct translate_link *link)
{
    assert(link->back); /* of a link that leads to a translation */
    link_patch(translate, link, link->stub);
    *link->back = link->next;
    if (link->next)
        link->next->back = link->back;
    link->back = NULL;
}

static void link_to(struct translate *translate, struct translate_link *link,
                    struct translation *to, const uint8_t *code)
{
    link_patch(translate, link, code);
    link->next = to->incoming;
    link->back = &to->incoming;
    if (link->next)
        link->next->back = &link->next;
    to->incoming = link;
}

void links_cut(struct translate *translate, struct translation *t)
{
    while (t->incoming)
        link_cut(translate, t->incoming);
}

static void far_list(struct translate_link **list, struct translate_link *link)
{
    link->listed = true;
    link->far_next = *list;
    *list = link;
}

/* Through the jump table, if there is room for the code. A link that is still listed among the
 * patched ones stays there. */
static void far_look_up(struct translate *translate, struct translate_link *link, unsigned half)
{
    if (!link->lookup)
        link->lookup = translate_lookup(translate, link);
    if (!link->lookup)
        return;
    link_patch(translate, link, link->lookup);
    if (!link->listed)
        far_list(&translate->far_lookups[half], link);
}

static void far_cut(struct translate *translate, unsigned half)
{
    struct translate_link *link, *next = translate->far_links[half];

    translate->far_links[half] = NULL;
    while ((link = next)) {
        next = link->far_next;
        link->listed = false;
        if (link->back) {
            link_cut(translate, link);
            translate->counts.link_cuts++;
        }
        if (link->lookup)
            far_look_up(translate, link, half);
    }
    memset(translate->far_pages[half], 0, sizeof(translate->far_pages[half]));
}

static unsigned far_hash(gva_t address)
{
    return (unsigned)(address >> 12 ^ address >> 22) % TRANSLATE_FAR_PAGES;
}

void links_half_cut(struct translate *translate, unsigned half)
{
    translate->nr_flushes[half]++;
    if (translate->far_links[half])
        far_cut(translate, half);
}

void links_page_cut(struct translate *translate, gva_t address)
{
    unsigned hash = far_hash(address), half = address >> 63;

    if (translate->far_pages[half][hash / 64] >> (hash % 64) & 1)
        far_cut(translate, half);
}

void links_flushed(struct translate *translate)
{
    memset(translate->far_links, 0, sizeof(translate->far_links));
    memset(translate->far_lookups, 0, sizeof(translate->far_lookups));
    memset(translate->page_hash, 0, sizeof(translate->page_hash));
    memset(translate->far_pages, 0, sizeof(translate->far_pages));
}

/* Of the lower half. */
static bool mapping_stable(const struct soft_cpu *cpu)
{
    return cpu->translate->stable && cpu->translate->stable_epoch == cpu->mmu.epoch[0];
}

static void far_link(struct translate *translate, struct translate_link *link,
                     struct translation *to, gva_t address)
{
    unsigned hash = far_hash(address), half = address >> 63;

    link_to(translate, link, to, to->entry_page);
    translate->far_pages[half][hash / 64] |= UINT64_C(1) << (hash % 64);
    if (!link->listed)
        far_list(&translate->far_links[half], link);
}

/* The links of the lower half that go through the table, as far as they and their targets have run
 * under the present mapping. */
static void far_resolve(struct translate *translate)
{
    struct translate_link *link, *next = translate->far_lookups[0];

    translate->far_lookups[0] = NULL;
    while ((link = next)) {
        const struct translate_page *page = link->page;
        gva_t address = page->linear + (uint64_t)(int64_t)link->target;
        struct translation *to = NULL;

        next = link->far_next;
        link->listed = false;
        if (page->nr_flushes == translate->nr_flushes[0] && !page->aliased &&
            !(page->linear >> 63) && !(address >> 63))
            to = jumps_user_find(translate, address);
        if (to && to->block && !to->block->page[1].mask && to->block->key == page->key)
            far_link(translate, link, to, address);
        else
            far_list(&translate->far_lookups[0], link);
    }
}

void links_stable(struct soft_cpu *cpu)
{
    struct translate *translate = cpu->translate;
    struct timespec time;
    int64_t now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    now = time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
    if (translate->stable_epoch != cpu->mmu.epoch[0]) {
        translate->stable_epoch = cpu->mmu.epoch[0];
        translate->stable_since = now;
        translate->stable_next = now + STABLE_NS;
        translate->stable = false;
    }
    if (now < translate->stable_next ||
        translate->hot->seen_epoch[MMU_CLASS_USER][0] != cpu->mmu.epoch[0])
        return;
    translate->stable = true;
    translate->stable_next = now + 2 * (now - translate->stable_since);
    far_resolve(translate);
}

void page_seen(struct translate *translate, struct translation *t, gva_t address)
{
    struct translate_page *page = t->page;
    unsigned half = page->linear >> 63;

    address &= ~GUEST_PAGE_MASK;
    if (page->nr_flushes != translate->nr_flushes[half] || page->linear == UINT64_MAX) {
        page->linear = address;
        page->nr_flushes = translate->nr_flushes[address >> 63];
        page->aliased = false;
    } else if (UNLIKELY(page->linear != address) && !page->aliased) {
        page->aliased = true;
        far_cut(translate, 0);
        far_cut(translate, 1);
    }
}

/* May code at `from`, which lies in this page, jump to `to` without asking? */
static bool far_allowed(const struct soft_cpu *cpu, const struct translate_page *page, gva_t from,
                        gva_t to)
{
    unsigned half = cpu->mmu.current_class != MMU_CLASS_USER;

    return from >> 63 == half && to >> 63 == half && !page->aliased &&
           page->linear == (from & ~GUEST_PAGE_MASK) && (half || mapping_stable(cpu));
}

static void link_far(struct soft_cpu *cpu, struct translation *from, struct translate_link *link,
                     struct translation *to)
{
    link->page = from->page;
    if (to->block->page[1].mask || from->block->key != to->block->key ||
        !far_allowed(cpu, from->page, cpu->rip - (uint64_t)link->target, cpu->rip))
        far_look_up(cpu->translate, link, cpu->rip >> 63);
    else
        far_link(cpu->translate, link, to, cpu->rip);
}

void link_make(struct soft_cpu *cpu, struct translation *from, struct translate_link *link,
               struct translation *to)
{
    struct translate *translate = cpu->translate;
    const uint8_t *code;

    if (!from->block || link->back)
        return;
    if (link->far) {
        link_far(cpu, from, link, to);
        return;
    }
    if (from->page != to->page || link->target != to->start)
        return;
    if (!to->block->page[1].mask) {
        link_to(translate, link, to, to->entry);
        return;
    }
    code = translate_lookup(translate, link);
    if (code)
        link_patch(translate, link, code);
}
