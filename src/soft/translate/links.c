/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Direct jumps between translations: host jumps that are patched when their target is known.
 *
 *   exit LINK ──▶ link_make ──▶ to the target's code ──▶ links_cut, links_far_cut: exit LINK again
 *                          └──▶ to code that asks the jump table, for ever
 *
 * Inside a page a link is valid under any mapping, as both ends lie in it. Between pages ("far") it
 * depends on where both are mapped:
 *  1. Far links are patched in the upper half of the address space only, where Linux and others
 * keep their kernel under global mappings. All are cut when mmu.epoch of that half moves, and when
 *     INVLPG names a page that one leads to.
 *  2. Code does not know its address. So a page that has far links is known at one linear address
 *     (translate_page.linear): page_seen learns of every address at which generated code is entered
 *     from outside, and a second one cuts all far links and bars the page from having any.
 *  3. A target in two pages depends on a translation of the second: it is always looked up.
 */
#include "soft/translate/translate_internal.h"

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

static void links_far_cut(struct translate *translate)
{
    struct translate_link *link;

    while ((link = translate->far_links)) {
        translate->far_links = link->far_next;
        link->listed = false;
        if (link->back)
            link_cut(translate, link);
    }
    memset(translate->far_pages, 0, sizeof(translate->far_pages));
}

static unsigned far_hash(gva_t address)
{
    return (unsigned)(address >> 12 ^ address >> 22) % TRANSLATE_FAR_PAGES;
}

void links_half_cut(struct translate *translate, unsigned half)
{
    if (half)
        links_far_cut(translate);
}

void links_page_cut(struct translate *translate, gva_t address)
{
    unsigned hash = far_hash(address);

    if (address >> 63 && translate->far_pages[hash / 64] >> (hash % 64) & 1)
        links_far_cut(translate);
}

void links_flushed(struct translate *translate)
{
    translate->far_links = NULL;
    memset(translate->page_hash, 0, sizeof(translate->page_hash));
    memset(translate->far_pages, 0, sizeof(translate->far_pages));
}

void page_seen(struct translate *translate, struct translation *t, gva_t address)
{
    struct translate_page *page = t->page;

    address &= ~GUEST_PAGE_MASK;
    if (LIKELY(page->linear == address) || page->aliased)
        return;
    if (page->linear == UINT64_MAX) {
        page->linear = address;
        return;
    }
    page->aliased = true;
    links_far_cut(translate);
}

/* May code at `from`, which lies in this page, jump to `to` without asking? */
static bool far_allowed(const struct translate_page *page, gva_t from, gva_t to)
{
    return from >> 63 && to >> 63 && !page->aliased && page->linear == (from & ~GUEST_PAGE_MASK);
}

static void link_far(struct soft_cpu *cpu, struct translation *from, struct translate_link *link,
                     struct translation *to)
{
    struct translate *translate = cpu->translate;
    unsigned hash = far_hash(cpu->rip);
    const uint8_t *code;

    if (!to->block->page[1].mask && from->block->key == to->block->key &&
        far_allowed(from->page, cpu->rip - (uint64_t)link->target, cpu->rip)) {
        link_to(translate, link, to, to->entry_far);
        translate->far_pages[hash / 64] |= UINT64_C(1) << (hash % 64);
        if (!link->listed) {
            link->listed = true;
            link->far_next = translate->far_links;
            translate->far_links = link;
        }
        return;
    }
    code = translate_lookup(translate, from, NULL);
    if (code)
        link_patch(translate, link, code);
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
    code = translate_lookup(translate, from, link);
    if (code)
        link_patch(translate, link, code);
}
