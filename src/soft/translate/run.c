/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running translated code: finding blocks, going in, and what each exit asks for.
 *
 *   find ──▶ translated? ──▶ enter ──▶ exit ──▶ LOAD, STORE  cache the page, again; or REST
 *    ▲           │ no                    │      ONE          interpret it, go on behind it
 *    │           ▼                       │      VECTOR       load the registers, again; or REST
 *    └── interpret the block             └────▶ LINK, GOTO, POLL, REST: find
 *
 * Whatever happens to the translations while an exit is served (a store to code, a full cache) is
 * seen in translation.block, which is NULL when it is dead; memory of a dead translation stays
 * until translate_flushed, which is called only between blocks.
 *
 * The page tables' view is checked at every entry: when mmu.epoch has moved, what this class has
 * cached of that half of the address space is forgotten.
 */
#include "soft/translate/translate_internal.h"

#include "base/cleanup.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#define HWCAP2_WRGSBASE 2u

/* Index of a linear address: bits 12..20, and which half it is in. */
#define INDEX_MASK UINT64_C(0x8000001ff000)
#define JUMP_MASK  ((TRANSLATE_JUMPS - 1) << 1)
#define NO_BLOCK   UINT32_MAX /* interp_block.runs: not to be translated (again) */

static bool host_can(void)
{
    return __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("avx2") &&
           (getauxval(AT_HWCAP2) & HWCAP2_WRGSBASE);
}

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
    memset(translate->jump_pages[number], 0, sizeof(translate->jump_pages[number]));
}

/* half: by bit 63 of the address */
static void class_flush(struct translate *translate, unsigned number, unsigned half)
{
    struct translate_class *region = translate->region[number];
    unsigned first = half * (TRANSLATE_INDEX / 2);
    size_t size = sizeof(region->read_tag) / 2;

    memcpy(region->read_tag + first, translate->no_tag + first, size);
    memcpy(region->write_tag + first, translate->no_tag + first, size);
    if (half == jump_half(number))
        class_jumps_flush(translate, number);
}

static void jumps_flush(struct translate *translate)
{
    for (unsigned i = 0; i < MMU_NR_CLASSES; i++)
        class_jumps_flush(translate, i);
}

/* Forgets in the current class what mmu.epoch says. */
static void class_sync(struct soft_cpu *cpu)
{
    struct translate *translate = cpu->translate;
    unsigned number = cpu->mmu.current_class;

    for (unsigned half = 0; half < 2; half++) {
        if (LIKELY(translate->seen_epoch[number][half] == cpu->mmu.epoch[half]))
            continue;
        translate->seen_epoch[number][half] = cpu->mmu.epoch[half];
        class_flush(translate, number, half);
    }
}

static unsigned page_index(uint64_t address)
{
    return (unsigned)((address >> 12 & 511) | (address >> 47 & 1) << 9); /* INDEX_MASK */
}

static unsigned jump_index(uint64_t address)
{
    return (unsigned)((address & JUMP_MASK) >> 1);
}

static unsigned jump_page_hash(uint64_t address)
{
    return (unsigned)(address >> 12 ^ address >> 22) % TRANSLATE_JUMP_PAGES;
}

void translate_page_flushed(struct soft_cpu *cpu, gva_t address)
{
    struct translate *translate = cpu->translate;
    unsigned index = page_index(address), hash = jump_page_hash(address);
    /* An instruction that begins in the page before may end in this one. */
    unsigned before = jump_page_hash(address - GUEST_PAGE_SIZE);

    for (unsigned i = 0; i < MMU_NR_CLASSES; i++) {
        struct translate_class *region = translate->region[i];
        const uint64_t *pages = translate->jump_pages[i];

        region->read_tag[index] = translate->no_tag[index];
        region->write_tag[index] = translate->no_tag[index];
        if (address >> 63 != jump_half(i))
            continue;
        if ((pages[hash / 64] >> (hash % 64) & 1) || (pages[before / 64] >> (before % 64) & 1))
            class_jumps_flush(translate, i);
    }
}

void translate_begin(struct soft_cpu *cpu)
{
    cpu->translate->gs = NULL;
}

static void stores_flush(struct translate *translate)
{
    for (unsigned i = 0; i < MMU_NR_CLASSES; i++)
        memcpy(translate->region[i]->write_tag, translate->no_tag, sizeof(translate->no_tag));
}

/* The three classes, their first pages one. */
static int classes_map(struct translate *translate)
{
    CLEANUP(fd_closep) int fd = memfd_create("lodge-vcpu", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, 4096) < 0)
        return -errno;
    for (unsigned i = 0; i < MMU_NR_CLASSES; i++) {
        void *map = mmap(NULL, sizeof(struct translate_class), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (map == MAP_FAILED)
            return -errno;
        translate->region[i] = map;
        if (mmap(map, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
            return -errno;
    }
    translate->hot = &translate->region[0]->hot;
    return 0;
}

static void tables_fill(struct soft_cpu *cpu, struct translate *translate)
{
    struct translate_hot *hot = translate->hot;

    /* Of a page two away from any with this index: the distance has page bits even when the last
     * byte of an access is in the next page. */
    for (uint64_t i = 0; i < TRANSLATE_INDEX; i++)
        translate->no_tag[i] = -(((i ^ 2) & 511) << 12);
    for (uint64_t i = 0; i < TRANSLATE_JUMPS; i++)
        translate->no_jump[i] = -((i ^ 1) << 1);
    for (unsigned i = 0; i < MMU_NR_CLASSES; i++) {
        translate->nr_jump_log[i] = TRANSLATE_JUMP_LOG + 1; /* all */
        class_flush(translate, i, 0);
        class_flush(translate, i, 1);
    }
    hot->index_mask = INDEX_MASK;
    hot->jump_mask = JUMP_MASK;
    for (unsigned i = 0; i < ARRAY_LEN(hot->check_mask); i++)
        hot->check_mask[i] = ~GUEST_PAGE_MASK | ((UINT64_C(1) << i) - 1);
    hot->vector_absent = 1;
    hot->mxcsr_host = FPU_MXCSR_DEFAULT;
    hot->cpu = (uintptr_t)cpu;
}

int translate_init(struct soft_cpu *cpu, struct err *err)
{
    size_t size = TRANSLATE_CACHE_TOTAL / cpu->vm->config->nr_cpus * 2 / 3;
    struct translate *translate;
    int error;

    if (!host_can())
        return err_set(err, -ENOTSUP,
                       "engine soft: tier=translate needs a host with BMI2, AVX2 and FSGSBASE");
    translate = calloc(1, sizeof(*translate));
    if (!translate)
        return err_set(err, -ENOMEM, "engine soft: memory for translated code");
    cpu->translate = translate;
    size = align_down(MAX(size, (size_t)TRANSLATE_CACHE_LEAST), 65536);
    error = code_cache_init(&translate->code, size, err);
    if (error)
        return error;
    translate->arena_size = size / TRANSLATE_ARENA_SHARE;
    translate->arena = mmap(NULL, translate->arena_size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    translate->table = mmap(NULL, TRANSLATE_TABLE_MAX * sizeof(translate->table[0]),
                            PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                            0);
    if (translate->arena == MAP_FAILED || translate->table == (void *)MAP_FAILED)
        return err_set(err, -ENOMEM, "engine soft: memory for translated code");
    error = classes_map(translate);
    if (error)
        return err_set(err, error, "engine soft: memory for translated code");
    tables_fill(cpu, translate);
    error = trampolines_emit(translate);
    return error ? err_set(err, error, "engine soft: memory for translated code") : 0;
}

void translate_done(struct soft_cpu *cpu)
{
    struct translate *translate = cpu->translate;

    if (!translate)
        return;
    cpu->translate = NULL;
    code_cache_done(&translate->code);
    if (translate->arena && translate->arena != MAP_FAILED)
        munmap(translate->arena, translate->arena_size);
    if (translate->table && translate->table != (void *)MAP_FAILED)
        munmap(translate->table, TRANSLATE_TABLE_MAX * sizeof(translate->table[0]));
    for (unsigned i = 0; i < MMU_NR_CLASSES; i++)
        if (translate->region[i])
            munmap(translate->region[i], sizeof(struct translate_class));
    free(translate);
}

static void link_patch(struct translate *translate, const struct translate_link *link,
                       const uint8_t *target)
{
    int64_t distance = target - (code_cache_run(&translate->code, link->patch) + 4);

    __atomic_store_n((uint32_t *)(void *)link->patch, (uint32_t)distance, __ATOMIC_RELAXED);
}

void translate_block_killed(struct soft_cpu *cpu, struct interp_block *block)
{
    struct translation *t = block->translation;

    if (!t)
        return;
    block->translation = NULL;
    t->block = NULL;
    for (struct translate_link *link = t->incoming; link; link = link->next)
        link_patch(cpu->translate, link, link->stub);
    t->incoming = NULL;
    jumps_flush(cpu->translate);
}

void translate_flushed(struct soft_cpu *cpu)
{
    struct translate *translate = cpu->translate;

    if (!translate)
        return;
    for (uint32_t i = 0; i < translate->nr_translations; i++) {
        struct translation *t = translate->table[i];

        if (t->block)
            t->block->translation = NULL;
        t->block = NULL;
    }
    translate->nr_translations = 0;
    translate->generation++;
    translate->arena_used = 0;
    translate->code.used = translate->code_start;
    translate->full = false;
    jumps_flush(translate);
}

void translate_kick(struct soft_cpu *cpu)
{
    if (cpu->translate)
        __atomic_store_n(&cpu->translate->hot->pending, 1, __ATOMIC_SEQ_CST);
}

void translate_stores_revoke_begin(struct soft_vm *vm)
{
    for (unsigned i = 0; i < vm->config->nr_cpus; i++) {
        struct soft_cpu *cpu = __atomic_load_n(&vm->cpus[i], __ATOMIC_ACQUIRE);

        if (!cpu || !cpu->translate)
            continue;
        __atomic_store_n(&cpu->translate->revoke, 1, __ATOMIC_SEQ_CST);
        translate_kick(cpu);
    }
}

void translate_stores_revoke_wait(struct soft_vm *vm)
{
    for (unsigned i = 0; i < vm->config->nr_cpus; i++) {
        struct soft_cpu *cpu = __atomic_load_n(&vm->cpus[i], __ATOMIC_ACQUIRE);

        if (!cpu || !cpu->translate)
            continue;
        while (__atomic_load_n(&cpu->translate->inside, __ATOMIC_ACQUIRE) &&
               __atomic_load_n(&cpu->translate->revoke, __ATOMIC_ACQUIRE)) {
            translate_kick(cpu);
            sched_yield();
        }
    }
}

/* Caches the page of hot.address for loads (and stores) if it can be. False: the instruction is to
 * be interpreted. */
static bool translate_fill(struct soft_cpu *cpu, bool write)
{
    struct translate *translate = cpu->translate;
    uint64_t address = translate->hot->address, page = address & ~GUEST_PAGE_MASK;
    struct translate_class *region = translate->region[cpu->mmu.current_class];
    unsigned index = page_index(address);
    const struct mmu_entry *entry;
    unsigned length;
    void *host;
    uint64_t tag;

    if ((int64_t)(address << 16) >> 16 != (int64_t)address ||
        mmu_host_range(cpu, address, write ? MMU_WRITE : MMU_READ, &host, &length))
        return false;
    entry = mmu_entry_at(cpu, address);
    tag = page | cpu->mmu.tag[address >> 63];
    if (entry->read_tag != tag)
        return false;
    if (region->read_tag[index] == -page && (!write || region->write_tag[index] == -page))
        return false; /* it is there: something else is the matter */
    cpu->counters.translated_fills++;
    region->addend[index] = entry->addend;
    region->read_tag[index] = -page;
    region->write_tag[index] = translate->no_tag[index];
    if (entry->write_tag == tag && !__atomic_load_n(entry->code_byte, __ATOMIC_SEQ_CST))
        region->write_tag[index] = -page;
    return !write || region->write_tag[index] == -page;
}

/* May vector code of this translation run with the registers loaded? */
static bool vector_allowed(const struct soft_cpu *cpu, const struct translation *t)
{
    uint64_t both = CPU_XCR0_SSE | CPU_XCR0_AVX;

    if ((cpu->cr0 & (CPU_CR0_EM | CPU_CR0_TS)) || !(cpu->cr4 & CPU_CR4_OSFXSR) ||
        (cpu->fpu.area.mxcsr & 0x1f80) != 0x1f80)
        return false;
    return !t->avx || ((cpu->cr4 & CPU_CR4_OSXSAVE) && (cpu->xcr0 & both) == both);
}

/* Goes in at `code`; returns the exit. */
static uint32_t go_in(struct soft_cpu *cpu, const uint8_t *code, bool vector)
{
    struct translate *translate = cpu->translate;
    unsigned number = cpu->mmu.current_class;
    struct translate_class *region = translate->region[number];
    struct translate_hot *hot = translate->hot;
    uint32_t exit;

    __atomic_store_n(&translate->inside, 1, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* the other side's membarrier does the rest */
    if (UNLIKELY(__atomic_load_n(&translate->revoke, __ATOMIC_RELAXED))) {
        stores_flush(translate);
        __atomic_store_n(&translate->revoke, 0, __ATOMIC_RELEASE);
    }
    class_sync(cpu);
    if (translate->gs != region) {
        translate->gs = region;
        __asm__ volatile("wrgsbase %0" : : "r"((uintptr_t)region));
    }
    hot->segment_base[0] = cpu->segment[CPU_FS].base;
    hot->segment_base[1] = cpu->segment[CPU_GS].base;
    hot->enter = (uintptr_t)code;
    if (vector)
        hot->vector_absent = 0;
    exit = vector ? translate->enter_vector(cpu) : translate->enter(cpu);
    __atomic_store_n(&translate->inside, 0, __ATOMIC_RELEASE);
    cpu->counters.translated_exits++;
    return exit;
}

/* Interprets from operation `op` of a block to its end. */
static int interpret(struct soft_cpu *cpu, const struct translation *t,
                     const struct interp_op *first)
{
    int result;

    assert(first);
    cpu->counters.translated_handbacks++;
    cpu->rip = cpu->translate->hot->page + t->start;
    result = first->run(cpu, first);
    return result == INTERP_LEFT ? SOFT_OK : result;
}

struct visit {
    struct translation *t;
    const uint8_t *code;
    struct translate_link *link; /* to be patched to the next block */
    bool vector;
    bool done; /* find the next block */
    /* The two pages cached last, and by which exit: an instruction whose two accesses meet at one
     * index would drive each other's page out for ever. */
    uint64_t page[2];
    uint32_t exit;
};

/* Exits LOAD and STORE: false: interpret. */
static bool fill(struct soft_cpu *cpu, struct visit *visit, uint32_t exit, bool write)
{
    uint64_t page = cpu->translate->hot->address >> GUEST_PAGE_SHIFT;
    bool again = visit->exit >> TRANSLATE_EXIT_BITS == exit >> TRANSLATE_EXIT_BITS &&
                 visit->page[1] == page;

    visit->exit = exit;
    visit->page[1] = visit->page[0];
    visit->page[0] = page;
    if (again)
        visit->page[1] = visit->page[0] = UINT64_MAX;
    return !again && translate_fill(cpu, write);
}

/* Exit ONE. */
static int interpret_one(struct soft_cpu *cpu, struct visit *visit, unsigned op)
{
    struct translation *t = visit->t;
    int result;

    cpu->counters.translated_handbacks++;
    cpu->rip = cpu->translate->hot->page + t->start;
    result = t->single[2 * t->single_of[op]].run(cpu, &t->single[2 * t->single_of[op]]);
    visit->done = true;
    if (result)
        return result == INTERP_LEFT ? SOFT_OK : result;
    if (t->block && !cpu->end_block && op + 1u < t->nr_ops && cpu->mmu.tag[0] != MMU_TAG_NEVER) {
        visit->code = t->entry + t->offset[op + 1];
        visit->done = false;
    }
    return SOFT_OK;
}

static int serve(struct soft_cpu *cpu, struct visit *visit, uint32_t exit)
{
    struct translate *translate = cpu->translate;
    struct translation *t = translate->table[exit >> TRANSLATE_SHIFT];
    unsigned op = exit >> TRANSLATE_EXIT_BITS & ((1u << TRANSLATE_OP_BITS) - 1);
    enum translate_exit kind = (enum translate_exit)(exit & ((1u << TRANSLATE_EXIT_BITS) - 1));
    struct interp_block *block = t->block;

    visit->t = t;
    visit->done = true;
    switch (kind) {
    case TRANSLATE_EXIT_LINK:
        visit->link = &t->link[op & 1];
        cpu->rip = translate->hot->page + visit->link->target;
        return SOFT_OK;
    case TRANSLATE_EXIT_GOTO:
        cpu->rip = translate->hot->address;
        return SOFT_OK;
    case TRANSLATE_EXIT_POLL:
        cpu->rip = translate->hot->page + t->start + block->ops[op].offset;
        __atomic_store_n(&translate->hot->pending, 0, __ATOMIC_SEQ_CST);
        return SOFT_OK;
    case TRANSLATE_EXIT_ONE:
        return interpret_one(cpu, visit, op);
    case TRANSLATE_EXIT_LOAD:
    case TRANSLATE_EXIT_STORE:
        visit->done = !fill(cpu, visit, exit, kind == TRANSLATE_EXIT_STORE);
        break;
    case TRANSLATE_EXIT_VECTOR:
        visit->done = !vector_allowed(cpu, t);
        break;
    default:
        break;
    }
    /* A page walk sets accessed bits: that too is a write which may hit this block. */
    if (!visit->done && t->block) {
        visit->code = t->entry + t->offset[op];
        return SOFT_OK;
    }
    visit->done = true;
    return interpret(cpu, t, &block->ops[op]);
}

/* From one translation through whatever is linked to it, until the next block is to be found. */
static int visit_run(struct soft_cpu *cpu, struct visit *visit)
{
    int result = SOFT_OK;

    visit->code = visit->t->entry;
    visit->done = false;
    visit->link = NULL;
    cpu->translate->hot->page = cpu->rip & ~GUEST_PAGE_MASK;
    while (!visit->done && !result) {
        struct translation *t = visit->t;

        if (t->vector && !vector_allowed(cpu, t)) {
            unsigned op = 0;

            while (op + 1u < t->nr_ops && t->entry + t->offset[op] != visit->code)
                op++;
            visit->done = true;
            return interpret(cpu, t, &t->block->ops[op]);
        }
        result = serve(cpu, visit, go_in(cpu, visit->code, t->vector));
    }
    return result;
}

static void enlist(struct soft_cpu *cpu, struct translation *t)
{
    struct translate *translate = cpu->translate;
    unsigned number = cpu->mmu.current_class, hash = jump_page_hash(cpu->rip);
    struct translate_class *region = translate->region[number];
    uint64_t index = jump_index(cpu->rip);

    if (cpu->rip >> 63 != jump_half(number))
        return;
    class_sync(cpu);
    translate->jump_pages[number][hash / 64] |= UINT64_C(1) << (hash % 64);
    translate->jump_translation[number][index] = t;
    if (translate->nr_jump_log[number] < TRANSLATE_JUMP_LOG)
        translate->jump_log[number][translate->nr_jump_log[number]++] = (uint16_t)index;
    else
        translate->nr_jump_log[number] = TRANSLATE_JUMP_LOG + 1;
    region->jump_tag[index] = -cpu->rip;
    region->jump_code[index] = (uintptr_t)t->entry_far;
}

/* The translation at RIP, if the jump table has it. */
static struct translation *enlisted(struct soft_cpu *cpu)
{
    struct translate *translate = cpu->translate;
    unsigned number = cpu->mmu.current_class;
    uint64_t index = jump_index(cpu->rip);

    if (cpu->code_mode != INSN_MODE_64 || cpu->mmu.tag[0] == MMU_TAG_NEVER)
        return NULL;
    class_sync(cpu);
    if (translate->region[number]->jump_tag[index] != -cpu->rip)
        return NULL;
    return translate->jump_translation[number][index];
}

/* The translation of a block, made if it is worth it. */
static struct translation *translation_of(struct soft_cpu *cpu, struct interp_block *block)
{
    if (LIKELY(block->translation))
        return block->translation;
    /* A stale block, which the jump cache may still name, leaves by itself when it is run. */
    if (block->stale || (block->key & ~CACHE_KEY_USER) != INSN_MODE_64 || block->runs == NO_BLOCK)
        return NULL;
    if (block->runs++ < (uint32_t)cpu->vm->translate_runs)
        return NULL;
    block->translation = translate_block(cpu, block);
    if (!block->translation && !cpu->translate->full)
        block->runs = NO_BLOCK;
    return block->translation;
}

static int find(struct soft_cpu *cpu, struct interp_block **ret)
{
    uint64_t linear = cpu->rip;
    const struct interp_jump *jump;

    if (cpu->code_mode != INSN_MODE_64)
        return cache_find(cpu, false, ret);
    jump = cache_jump(cpu, linear);
    if (LIKELY(jump->linear == linear && jump->context == cache_context(cpu))) {
        *ret = jump->block;
        return SOFT_OK;
    }
    return cache_find(cpu, false, ret);
}

static bool attention_due(const struct soft_cpu *cpu)
{
    return cpu->end_block || cpu_peek_requests(&cpu->cpu);
}

/* Was `link` left at a block of this very page that is now `t`? */
static bool link_leads(const struct translation *from, const struct translate_link *link,
                       const struct translation *to)
{
    return from->block && from->block->key == to->block->key && link->target == to->start &&
           (from->block->gpa & ~GUEST_PAGE_MASK) == (to->block->gpa & ~GUEST_PAGE_MASK);
}

/* A block in two pages depends on a translation of the second: it is entered through the jump
 * table only, which forgets with the TLB. */
static void link_make(struct translate *translate, const struct translation *from,
                      struct translate_link *link, struct translation *to)
{
    const uint8_t *far;

    if (to->block->page[1].mask) {
        far = translate_far_link(translate, from, link->target);
        if (far)
            link_patch(translate, link, far);
        return;
    }
    link_patch(translate, link, to->entry);
    link->next = to->incoming;
    to->incoming = link;
}

int translate_execute(struct soft_cpu *cpu)
{
    struct translate *translate = cpu->translate;
    struct visit visit = {0};
    int result;

    if (__atomic_load_n(&translate->hot->pending, __ATOMIC_RELAXED)) {
        __atomic_store_n(&translate->hot->pending, 0, __ATOMIC_SEQ_CST);
        if (cpu_peek_requests(&cpu->cpu)) /* came before pending was cleared */
            return SOFT_OK;
    }
    interp_flags_load(cpu);
    do {
        uint32_t generation = translate->generation;
        struct translate_link *link = visit.link;
        struct translation *from = visit.t, *t;
        struct interp_block *block;

        visit.link = NULL;
        if (UNLIKELY(translate->full))
            translate_flushed(cpu);
        t = enlisted(cpu);
        if (!t) {
            result = find(cpu, &block);
            if (result)
                break;
            t = cpu->mmu.tag[0] == MMU_TAG_NEVER ? NULL : translation_of(cpu, block);
            if (!t) {
                result = block->ops[0].run(cpu, &block->ops[0]);
                if (result == INTERP_LEFT)
                    result = SOFT_OK;
                continue;
            }
            enlist(cpu, t);
        }
        if (link && generation == translate->generation && link_leads(from, link, t))
            link_make(translate, from, link, t);
        visit.t = t;
        result = visit_run(cpu, &visit);
    } while (!result && !attention_due(cpu));
    interp_flags_store(cpu);
    return result;
}
