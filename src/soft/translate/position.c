/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the guest is, asked from a signal handler that interrupted the vCPU's thread anywhere; and
 * which host code stands for which guest code.
 *
 *   the host's RIP is in              the guest is
 *   a translation                     at the operation whose code that is
 *   glue between translations, a      about to enter R10
 *   return that missed
 *   an exact check                    in the translation that called it
 *   the way in                        where hot.enter leads
 *   the way out, the way to a callout at the exit in RCX
 *   a callout                         at the exit in hot.leave_with
 *   C, after an exit                  in the block that was left: translate.where
 *   C, otherwise                      at cpu->rip
 *
 * Everything read here is written by this very thread, which stands still meanwhile; a table that
 * is just being emptied or filled is not looked at, since then no generated code runs.
 */
#include "soft/translate/translate_internal.h"

#include <ucontext.h>

static const struct translation *translation_at(const struct translate *translate,
                                                const uint8_t *host)
{
    uint32_t low = 1, high = translate->nr_translations;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (translate->table[middle]->entry_far <= host)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 1 && host < translate->table[low - 1]->entry_far +
                                 translate->table[low - 1]->code_bytes
               ? translate->table[low - 1]
               : NULL;
}

/* Whose code at the end of the cache: it was filled downwards. */
static const struct translation *translation_cold(const struct translate *translate, size_t offset)
{
    uint32_t low = 1, high = translate->nr_translations;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (translate->table[middle]->cold > offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low < translate->nr_translations ? translate->table[low] : NULL;
}

static uint64_t in_translation(const struct translate *translate, const struct translation *t,
                               const uint8_t *host, uint64_t r10)
{
    unsigned op = 0;

    if (host < t->entry) /* hot.page is not set yet */
        return (r10 & ~GUEST_PAGE_MASK) + t->start;
    while (op + 1u < t->nr_ops && t->entry + t->offset[op + 1] <= host)
        op++;
    return translate->hot->page + t->start + (t->block ? t->block->ops[op].offset : 0);
}

static uint64_t at_host(const struct translate *translate, const uint8_t *host, uint64_t r10)
{
    const struct translation *t = translation_at(translate, host);

    if (t)
        return in_translation(translate, t, host, r10);
    if (host >= translate->code.run + translate->code.cold) {
        t = translation_cold(translate, (size_t)(host - translate->code.run));
        return translate->hot->page + (t ? t->start : 0);
    }
    /* Glue (translate_lookup) is aligned, and its first instruction has not loaded R10. */
    return (uintptr_t)host & 7 ? r10 : translate->hot->page;
}

static uint64_t at_exit(const struct translate *translate, uint32_t exit)
{
    uint32_t number = exit >> TRANSLATE_SHIFT;

    if (!number || number >= translate->nr_translations)
        return translate->hot->address;
    return translate->hot->page + translate->table[number]->start;
}

static bool in_code(const struct translate *translate, const uint8_t *host)
{
    return (size_t)(host - translate->code.run) < translate->code.size;
}

/* Generated code, its trampolines, or what it calls. *ret_user is corrected where privilege is just
 * changing. */
static uint64_t inside(const struct translate *translate, const greg_t *regs, bool *ret_user)
{
    const uint8_t *host = (const uint8_t *)(uintptr_t)regs[REG_RIP]; /* NOLINT */
    const struct translate_hot *hot = translate->hot;
    const uint8_t *enter = (const uint8_t *)(uintptr_t)hot->enter; /* NOLINT */
    uint64_t r10 = (uint64_t)regs[REG_R10], address;

    if (in_code(translate, host)) {
        if (host >= translate->code.run + translate->code_start)
            return at_host(translate, host, r10);
        if (host < code_cache_run(&translate->code, translate->leave))
            return at_host(translate, enter, hot->page);
        if (host >= code_cache_run(&translate->code, translate->return_miss) &&
            host < code_cache_run(&translate->code, translate->callout[0]))
            return r10;
        if (host >= code_cache_run(&translate->code, translate->check[0]) &&
            host < code_cache_run(&translate->code, translate->check_end))
            return at_host(translate,
                           *(const uint8_t *const *)(uintptr_t)regs[REG_RSP], /* NOLINT */
                           r10);
        return at_exit(translate, (uint32_t)regs[REG_RCX]);
    }
    /* SYSCALL, SYSRET, IRET: in C the privilege may be the new one. */
    address = at_exit(translate, hot->leave_with);
    *ret_user = !(address >> 63);
    return address;
}

bool translate_position(struct soft_cpu *cpu, const void *context, struct cpu_position *ret)
{
    const ucontext_t *user = context;
    const struct translate *translate = cpu->translate;

    ret->user = cpu->cpl == 3;
    ret->address = cpu->rip + (cpu->code_mode == INSN_MODE_64 ? 0 : cpu->segment[CPU_CS].base);
    if (translate && guard_running == translate)
        ret->address = inside(translate, user->uc_mcontext.gregs, &ret->user);
    else if (translate && translate->where)
        ret->address = at_exit(translate, translate->where);
    ret->space = ret->user ? cpu->cr3 & ~GUEST_PAGE_MASK & ~(UINT64_C(1) << 63) : 0;
    return true;
}

void translate_code_map(struct soft_cpu *cpu, cpu_code_fn *fn, void *context)
{
    const struct translate *translate = cpu->translate;

    for (uint32_t i = 1; translate && i < translate->nr_translations; i++) {
        const struct translation *t = translate->table[i];
        uint64_t page = t->page && t->page->linear != UINT64_MAX ? t->page->linear : 0;

        if (page)
            fn(context, t->entry_far, t->code_bytes, page + t->start,
               t->page->key & CACHE_KEY_USER);
    }
}
