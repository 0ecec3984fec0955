/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jump table of each class: from linear addresses to translated code.
 *
 * The table of the user class holds code of the lower half of the address space only, the others'
 * of the upper; each is emptied when that half of the TLB is flushed. An entry that another address
 * drives out goes to a second, smaller table, which jumps ask on their way out (jump_miss).
 *
 * Entry 0 is never used: hot.jump_mask is 0 while something is pending, so that jumps through the
 * table need no poll of their own. They miss, and jump_miss looks. (All but one to address 4, which
 * stands there for "nothing": its code is an exit that goes to R10.)
 */
#include "soft/translate/translate_internal.h"

/* The half of the address space whose code a class's jump table holds. */
static unsigned jump_half(unsigned number)
{
    return number != MMU_CLASS_USER;
}

static void class_jumps_flush(struct translate *translate, unsigned number)
{
    struct translate_class *region = translate->region[number];

    if (translate->nr_jump_log[number] > TRANSLATE_JUMP_LOG)
        memcpy(region->jump_tag, translate->no_jump, sizeof(translate->no_jump));
    else
        for (uint32_t i = 0; i < translate->nr_jump_log[number]; i++) {
            unsigned index = translate->jump_log[number][i];

            region->jump_tag[index] = translate->no_jump[index];
        }
    translate->nr_jump_log[number] = 0;
    if (translate->nr_seconds[number])
        memcpy(region->second_tag, translate->no_second, sizeof(translate->no_second));
    translate->nr_seconds[number] = 0;
    translate->counts.jump_flushes++;
    translate->nr_jump_flushes[number]++;
    memset(translate->jump_pages[number], 0, sizeof(translate->jump_pages[number]));
}

void jumps_half_flush(struct translate *translate, unsigned number, unsigned half)
{
    if (half == jump_half(number))
        class_jumps_flush(translate, number);
}

void jumps_flush(struct translate *translate)
{
    for (unsigned i = 0; i < MMU_NR_CLASSES; i++)
        class_jumps_flush(translate, i);
}

static unsigned jump_index(uint64_t address)
{
    return (unsigned)((address & TRANSLATE_JUMP_MASK) >> TRANSLATE_JUMP_SHIFT);
}

static unsigned second_index(uint64_t address)
{
    return (unsigned)((address >> TRANSLATE_JUMP_SHIFT & 0xff) | (address >> 18 & 0xf) << 8);
}

static unsigned jump_page_hash(uint64_t address)
{
    return (unsigned)(address >> 12 ^ address >> 22) % TRANSLATE_JUMP_PAGES;
}

void jumps_page_flush(struct translate *translate, gva_t address)
{
    unsigned hash = jump_page_hash(address);
    /* An instruction that begins in the page before may end in this one. */
    unsigned before = jump_page_hash(address - GUEST_PAGE_SIZE);

    for (unsigned i = 0; i < MMU_NR_CLASSES; i++) {
        const uint64_t *pages = translate->jump_pages[i];

        if (address >> 63 != jump_half(i))
            continue;
        if ((pages[hash / 64] >> (hash % 64) & 1) || (pages[before / 64] >> (before % 64) & 1))
            class_jumps_flush(translate, i);
    }
}

/* Its lowest bits are known, of 18 and above all are tried. */
static void second_forget(struct translate *translate, unsigned number, const struct translation *t)
{
    for (unsigned index = second_index(t->start); index < TRANSLATE_SECONDS; index += 256)
        if (translate->second_translation[number][index] == t) {
            translate->second_translation[number][index] = NULL;
            translate->region[number]->second_tag[index] = translate->no_second[index];
        }
}

void jumps_forget(struct translate *translate, const struct translation *t)
{
    unsigned lowest = (t->start & TRANSLATE_JUMP_MASK) >> TRANSLATE_JUMP_SHIFT;

    /* Where it lies in the page is known, in which page is not. */
    for (unsigned i = 0; i < MMU_NR_CLASSES; i++) {
        if (t->tables >> i & 1)
            second_forget(translate, i, t);
        for (unsigned index = t->tables >> i & 1 ? lowest : TRANSLATE_JUMPS;
             index < TRANSLATE_JUMPS; index += GUEST_PAGE_SIZE >> TRANSLATE_JUMP_SHIFT)
            if (translate->jump_translation[i][index] == t) {
                translate->jump_translation[i][index] = NULL;
                translate->region[i]->jump_tag[index] = translate->no_jump[index];
            }
    }
}

void jumps_init(struct translate *translate)
{
    for (uint64_t i = 0; i < TRANSLATE_JUMPS; i++)
        translate->no_jump[i] = -((i ^ 1) << TRANSLATE_JUMP_SHIFT);
    for (uint64_t i = 0; i < TRANSLATE_SECONDS; i++) /* of an address with another index */
        translate->no_second[i] = -((i ^ 1) << TRANSLATE_JUMP_SHIFT);
    for (unsigned i = 0; i < MMU_NR_CLASSES; i++) {
        /* Address 4 finds itself there when the mask is 0. */
        translate->region[i]->jump_code[0] = (uintptr_t)translate->return_empty;
        translate->nr_jump_log[i] = TRANSLATE_JUMP_LOG + 1; /* all */
        translate->nr_seconds[i] = 1;
        class_jumps_flush(translate, i);
    }
    translate->hot->second_mask = TRANSLATE_SECOND_MASK;
}

static void second_set(struct translate *translate, unsigned number, uint64_t address,
                       uint64_t code, struct translation *t)
{
    struct translate_class *region = translate->region[number];
    unsigned index = second_index(address);

    region->second_tag[index] = -address;
    region->second_code[index] = code;
    translate->second_translation[number][index] = t;
    translate->nr_seconds[number]++;
}

static void entry_set(struct translate *translate, unsigned number, uint64_t address,
                      struct translation *t)
{
    struct translate_class *region = translate->region[number];
    unsigned index = jump_index(address);

    t->tables |= (uint8_t)(1u << number);
    if (!index) {
        second_set(translate, number, address, (uintptr_t)t->entry_far, t);
        return;
    }
    if (region->jump_tag[index] != translate->no_jump[index] && region->jump_tag[index] != -address)
        second_set(translate, number, -region->jump_tag[index], region->jump_code[index],
                   translate->jump_translation[number][index]);
    translate->jump_translation[number][index] = t;
    if (translate->nr_jump_log[number] < TRANSLATE_JUMP_LOG)
        translate->jump_log[number][translate->nr_jump_log[number]++] = (uint16_t)index;
    else
        translate->nr_jump_log[number] = TRANSLATE_JUMP_LOG + 1;
    region->jump_tag[index] = -address;
    region->jump_code[index] = (uintptr_t)t->entry_far;
}

/* The first entry of a page brings all that ever were needed, where there is room: a page that is
 * mapped again, by another process or after a flush, costs one look. */
static void page_add(struct translate *translate, unsigned number, struct translate_page *page,
                     uint64_t address)
{
    const struct translate_class *region = translate->region[number];
    struct translation **link = &page->targets;

    page->tables[number] = translate->nr_jump_flushes[number];
    while (*link) {
        uint64_t at = (address & ~GUEST_PAGE_MASK) | (*link)->start, index = jump_index(at);

        if (!(*link)->block) {
            *link = (*link)->next_target;
            continue;
        }
        if (region->jump_tag[index] == translate->no_jump[index])
            entry_set(translate, number, at, *link);
        link = &(*link)->next_target;
    }
}

void jumps_add(struct soft_cpu *cpu, struct translation *t)
{
    struct translate *translate = cpu->translate;
    unsigned number = cpu->mmu.current_class, hash = jump_page_hash(cpu->rip);

    if (cpu->rip >> 63 != jump_half(number))
        return;
    view_sync(cpu);
    translate->jump_pages[number][hash / 64] |= UINT64_C(1) << (hash % 64);
    entry_set(translate, number, cpu->rip, t);
    if (t->block->page[1].mask)
        return;
    if (t->page->tables[number] != translate->nr_jump_flushes[number])
        page_add(translate, number, t->page, cpu->rip);
    if (!t->target) {
        t->target = true;
        t->next_target = t->page->targets;
        t->page->targets = t;
    }
}

struct translation *jumps_find(struct soft_cpu *cpu)
{
    struct translate *translate = cpu->translate;
    unsigned number = cpu->mmu.current_class;
    uint64_t index = jump_index(cpu->rip);

    if (!translate_possible(cpu))
        return NULL;
    view_sync(cpu);
    if (LIKELY(translate->region[number]->jump_tag[index] == -cpu->rip))
        return translate->jump_translation[number][index];
    index = second_index(cpu->rip);
    if (translate->region[number]->second_tag[index] == -cpu->rip)
        return translate->second_translation[number][index];
    return NULL;
}

struct translation *jumps_user_find(const struct translate *translate, gva_t address)
{
    unsigned index = jump_index(address);

    if (translate->region[MMU_CLASS_USER]->jump_tag[index] != -address)
        return NULL;
    return translate->jump_translation[MMU_CLASS_USER][index];
}
