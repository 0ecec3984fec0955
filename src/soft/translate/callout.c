/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What generated code calls: changes of privilege, done here when nothing is in the way, so that
 * the code at the other end is entered directly.
 *
 * A callout either does the whole instruction, or nothing and lets the interpreter do it
 * (declined). It looks at memory only where it is cached; a case that is rare, faults, or arms
 * something (TF, #AC, an interrupt that becomes due) is declined.
 *
 * Compiled without vector registers, because the guest's may be loaded: no call of anything that
 * is not compiled here.
 *
 * Source: SDM 2A IRET, 2B SYSCALL, SYSRET; 3A 3.4.5, 6.8.1.
 */
#include "soft/interp/sys.h"
#include "soft/translate/translate_internal.h"

#define ATTRIBUTES_CODE64 0xa09bu
#define ATTRIBUTES_DATA   0xc093u

#define DESCRIPTOR_ACCESSED (1u << 8)
#define DESCRIPTOR_WRITABLE (1u << 9)
#define DESCRIPTOR_CONFORMS (1u << 10)
#define DESCRIPTOR_CODE     (1u << 11)
#define DESCRIPTOR_SEGMENT  (1u << 12)
#define DESCRIPTOR_PRESENT  (1u << 15)
#define DESCRIPTOR_LONG     (1u << 21)
#define DESCRIPTOR_DB       (1u << 22)

/* Written by IRET at CPL 0. VM, which long mode does not have, stays; RF is dropped: without armed
 * breakpoints it has no effect on the next instruction, which clears it. */
#define IRET_FLAGS                                                                            \
    (CPU_FLAGS_STATUS | CPU_FLAG_TF | CPU_FLAG_DF | CPU_FLAG_NT | CPU_FLAG_RF | CPU_FLAG_AC | \
     CPU_FLAG_ID | CPU_FLAG_IOPL | CPU_FLAG_VIF | CPU_FLAG_VIP | CPU_FLAG_IF)

static const uint8_t *declined(struct soft_cpu *cpu, uint32_t exit)
{
    cpu->translate->hot->leave_with = exit;
    return NULL;
}

/* The instruction is done and the next one is at `rip`. */
static const uint8_t *go(struct soft_cpu *cpu, uint32_t exit, uint64_t rip)
{
    struct translate_hot *hot = cpu->translate->hot;
    unsigned number = cpu->mmu.current_class;
    const struct translate_class *region = cpu->translate->region[number];
    uint64_t index = (rip & TRANSLATE_JUMP_MASK) >> TRANSLATE_JUMP_SHIFT;

    hot->address = rip;
    hot->leave_with = (exit & ~((1u << TRANSLATE_EXIT_BITS) - 1)) | TRANSLATE_EXIT_GOTO;
    if (hot->seen_epoch[number][0] != cpu->mmu.epoch[0] ||
        hot->seen_epoch[number][1] != cpu->mmu.epoch[1] || region->jump_tag[index] != -rip)
        return NULL;
    if (UNLIKELY(rip >> 63 != cpu->translate->return_current))
        cpu->translate->return_foreign[cpu->translate->return_current] = true; /* returns_enter */
    return (const uint8_t *)(uintptr_t)region->jump_code[index];
}

/* returns_switch */
static void returns_set(struct translate *translate, unsigned stack)
{
    struct translate_hot *hot = translate->hot;

    if (translate->return_current == stack)
        return;
    translate->return_rsp[translate->return_current] = hot->return_rsp;
    translate->return_current = stack;
    hot->return_rsp = translate->return_rsp[stack];
    hot->return_base = translate->return_base[stack];
}

/* What mmu_context_changed does where neither #AC nor watchpoints are on, and the tables that
 * generated code goes by. cpl 0 or 3. */
static void privilege_set(struct soft_cpu *cpu, unsigned cpl)
{
    struct translate_hot *hot = cpu->translate->hot;
    enum mmu_class class = cpl == 3                     ? MMU_CLASS_USER
                           : !(cpu->cr4 & CPU_CR4_SMAP) ? MMU_CLASS_SUPERVISOR
                           : cpu->rflags & CPU_FLAG_AC  ? MMU_CLASS_SUPERVISOR
                                                        : MMU_CLASS_SUPERVISOR_SMAP;

    cpu->cpl = (uint8_t)cpl;
    cpu->mmu.current_class = (uint8_t) class;
    cpu->mmu.data = cpu->mmu.data_table[class];
    cpu->mmu.fetch = cpu->mmu.fetch_table[cpl == 3];
    if (hot->gs != hot->class_base[class]) {
        hot->gs = hot->class_base[class];
        __asm__ volatile("wrgsbase %0" : : "r"(hot->gs));
    }
    returns_set(cpu->translate, class != MMU_CLASS_USER);
}

static uint64_t flags(const struct soft_cpu *cpu)
{
    return (cpu->rflags & ~CPU_FLAGS_STATUS) | interp_flags_from_host(cpu->host_flags);
}

static void flags_set(struct soft_cpu *cpu, uint64_t value)
{
    cpu->rflags = value;
    cpu->host_flags = interp_flags_to_host(value);
}

/* Would this change of flags need a look at what is pending, or arm something? */
static bool flags_delicate(const struct soft_cpu *cpu, uint64_t value)
{
    if (value & CPU_FLAG_TF)
        return true;
    return (value & CPU_FLAG_IF) &&
           (cpu->interrupt_possible ||
            __atomic_load_n(&cpu->translate->hot->pending, __ATOMIC_RELAXED));
}

static void segment_set(struct cpu_segment *segment, uint16_t selector, uint64_t base,
                        uint32_t limit, uint32_t attributes)
{
    segment->base = base;
    segment->limit = limit;
    segment->attributes = attributes;
    segment->selector = selector;
}

static void flat_set(struct soft_cpu *cpu, unsigned cs, unsigned ss, unsigned cpl)
{
    segment_set(&cpu->segment[CPU_CS], (uint16_t)((cs & ~3u) | cpl), 0, 0xffffffff,
                ATTRIBUTES_CODE64 | cpl << 5);
    segment_set(&cpu->segment[CPU_SS], (uint16_t)((ss & ~3u) | cpl), 0, 0xffffffff,
                ATTRIBUTES_DATA | cpl << 5);
}

/* hot.address is the address behind the instruction. */
static const uint8_t *callout_syscall(struct soft_cpu *cpu, uint32_t exit)
{
    struct translate_hot *hot = cpu->translate->hot;
    unsigned cs = (unsigned)(cpu->star >> 32) & 0xffff;
    uint64_t old = flags(cpu) & ~CPU_FLAG_RF, new = (old & ~cpu->sfmask) | CPU_FLAG_ONE;

    if (!(cpu->efer & CPU_EFER_SCE) || flags_delicate(cpu, new))
        return declined(cpu, exit);
    cpu->gpr[CPU_RCX] = hot->address;
    hot->kept[CPU_R11 - CPU_R9] = old;
    x87_settle(cpu, hot);
    flags_set(cpu, new);
    flat_set(cpu, cs, cs + 8, 0);
    privilege_set(cpu, 0);
    return go(cpu, exit, cpu->lstar);
}

/* With REX.W, at CPL 0. */
static const uint8_t *callout_sysret(struct soft_cpu *cpu, uint32_t exit)
{
    struct translate_hot *hot = cpu->translate->hot;
    unsigned base = (unsigned)(cpu->star >> 48);
    uint64_t new = (hot->kept[CPU_R11 - CPU_R9] & UINT64_C(0x3c7fd7)) | CPU_FLAG_ONE;
    uint64_t rip = cpu->gpr[CPU_RCX];

    if (!(cpu->efer & CPU_EFER_SCE) || !address_is_canonical(rip) || flags_delicate(cpu, new) ||
        ((new &CPU_FLAG_AC) && (cpu->cr0 & CPU_CR0_AM)))
        return declined(cpu, exit);
    x87_settle(cpu, hot);
    flags_set(cpu, new);
    flat_set(cpu, base + 16, base + 8, 3);
    privilege_set(cpu, 3);
    return go(cpu, exit, rip);
}

/* 8 bytes of a system structure, where the interpreter's TLB has them. */
static bool system_peek(const struct soft_cpu *cpu, uint64_t address, uint64_t *ret)
{
    enum mmu_class class = cpu->cr4 & CPU_CR4_SMAP ? MMU_CLASS_SUPERVISOR_SMAP
                                                   : MMU_CLASS_SUPERVISOR;
    const struct mmu_entry *entry =
        &cpu->mmu.data_table[class][(address >> GUEST_PAGE_SHIFT) & (MMU_DATA_ENTRIES - 1)];

    if (entry->read_tag != ((address & ~GUEST_PAGE_MASK) | cpu->mmu.tag[address >> 63]) ||
        (address & GUEST_PAGE_MASK) > GUEST_PAGE_SIZE - 8)
        return false;
    *ret = ((const struct mmu_unaligned64 *)(uintptr_t)(entry->addend + address))->value;
    return true;
}

/* Where the flat tables say that the byte is. They do not tell all addresses apart, but only the
 * right ones lead to guest memory (guard.c). */
static void *flat_cached(const struct soft_cpu *cpu, uint64_t address, bool write)
{
    const struct translate *translate = cpu->translate;
    const struct memory *memory = cpu->vm->memory;
    uint64_t page = address & ~GUEST_PAGE_MASK, addend;
    unsigned number = cpu->mmu.current_class;
    uint8_t *host;

    if (!translate->flat || !flat_is_touched(translate, number, page))
        return NULL;
    addend = write ? *flat_stores(translate, number, page) : *flat_loads(translate, number, page);
    host = (uint8_t *)(uintptr_t)(addend + address);
    for (unsigned i = 0; addend && i < memory->nr_slots; i++)
        if ((uint64_t)(host - memory->slots[i].host) < memory->slots[i].size_bytes)
            return host;
    return NULL;
}

/* A byte of memory at the current privilege, where generated code's tables or the interpreter's TLB
 * have it; NULL: it has to be looked for. Pages that hold code are not written to here. */
static void *cached(const struct soft_cpu *cpu, uint64_t address, bool write)
{
    uint64_t page = address & ~GUEST_PAGE_MASK;
    const struct translate_class *region = cpu->translate->region[cpu->mmu.current_class];
    uint64_t index = (address >> 12 & 511) | (address >> 47 & 1) << 9;
    const struct mmu_entry *entry;

    if (LIKELY((write ? region->write_tag : region->read_tag)[index] == -page))
        return (void *)(uintptr_t)(region->addend[index] + address);
    entry = mmu_entry_at(cpu, address);
    if ((write ? entry->write_tag : entry->read_tag) != mmu_wanted_tag(cpu, address, 1) ||
        (write && __atomic_load_n(entry->code_byte, __ATOMIC_SEQ_CST)))
        return flat_cached(cpu, address, write);
    return (void *)(entry->addend + address);
}

/* Five quadwords at RSP. */
static const struct mmu_unaligned64 *frame_at(const struct soft_cpu *cpu)
{
    uint64_t address = cpu->gpr[CPU_RSP];

    return (address & GUEST_PAGE_MASK) > GUEST_PAGE_SIZE - 40 ? NULL : cached(cpu, address, false);
}

/* The segment that the GDT has for `selector`, when its descriptor, masked, is `wanted` and its
 * level is the selector's. */
static bool segment_find(const struct soft_cpu *cpu, uint64_t selector, uint32_t mask,
                         uint32_t wanted, struct cpu_segment *ret)
{
    uint64_t offset = selector & 0xfff8, raw;
    uint32_t high, limit;

    if ((selector & 4) || offset + 7 > cpu->gdtr.limit ||
        !system_peek(cpu, cpu->gdtr.base + offset, &raw))
        return false;
    high = (uint32_t)(raw >> 32);
    if ((high & mask) != wanted || (high >> 13 & 3) != (selector & 3))
        return false;
    limit = ((uint32_t)raw & 0xffff) | (high & 0xf0000);
    segment_set(ret, (uint16_t)selector,
                (raw >> 16 & 0xffff) | (uint64_t)(high & 0xff) << 16 | (high & 0xff000000),
                high >> 23 & 1 ? limit << 12 | 0xfff : limit, high >> 8 & 0xf0ff);
    return true;
}

/* As segments_drop_privileged; false: one of them is to be dropped. */
static bool segments_stay(const struct soft_cpu *cpu)
{
    static const uint8_t segments[] = {CPU_ES, CPU_FS, CPU_GS, CPU_DS};

    for (unsigned i = 0; i < ARRAY_LEN(segments); i++) {
        uint32_t attributes = cpu->segment[segments[i]].attributes;

        if (!(attributes & CPU_SEGMENT_UNUSABLE) && CPU_SEGMENT_DPL(attributes) < 3)
            return false;
    }
    return true;
}

/* With REX.W, at CPL 0: to 64-bit code at CPL 0 or 3. */
static const uint8_t *callout_iret(struct soft_cpu *cpu, uint32_t exit)
{
    const struct mmu_unaligned64 *frame = frame_at(cpu);
    struct cpu_segment cs, ss;
    uint64_t rip, new, old = flags(cpu);
    unsigned cpl;

    if (!frame || cpu->nmi_blocked || (old & CPU_FLAG_NT) || cpu->translate->window.expected)
        return declined(cpu, exit);
    rip = frame[0].value;
    cpl = frame[1].value & 3;
    new = (old & ~IRET_FLAGS) | (frame[2].value & IRET_FLAGS & ~CPU_FLAG_RF) | CPU_FLAG_ONE;
    if ((cpl != 0 && cpl != 3) || !address_is_canonical(rip) || flags_delicate(cpu, new) ||
        (cpl == 3 && ((new &CPU_FLAG_AC) || !segments_stay(cpu))))
        return declined(cpu, exit);
    if (!segment_find(cpu, frame[1].value & 0xffff,
                      DESCRIPTOR_ACCESSED | DESCRIPTOR_CONFORMS | DESCRIPTOR_CODE |
                          DESCRIPTOR_SEGMENT | DESCRIPTOR_PRESENT | DESCRIPTOR_LONG | DESCRIPTOR_DB,
                      DESCRIPTOR_ACCESSED | DESCRIPTOR_CODE | DESCRIPTOR_SEGMENT |
                          DESCRIPTOR_PRESENT | DESCRIPTOR_LONG,
                      &cs))
        return declined(cpu, exit);
    if (cpl == 0 && (frame[4].value & 0xffff) == 0)
        segment_set(&ss, 0, 0, 0, CPU_SEGMENT_UNUSABLE);
    else if ((frame[4].value & 3) != cpl ||
             !segment_find(cpu, frame[4].value & 0xffff,
                           DESCRIPTOR_ACCESSED | DESCRIPTOR_WRITABLE | DESCRIPTOR_CODE |
                               DESCRIPTOR_SEGMENT | DESCRIPTOR_PRESENT,
                           DESCRIPTOR_ACCESSED | DESCRIPTOR_WRITABLE | DESCRIPTOR_SEGMENT |
                               DESCRIPTOR_PRESENT,
                           &ss))
        return declined(cpu, exit);
    cpu->gpr[CPU_RSP] = frame[3].value;
    flags_set(cpu, new);
    x87_settle(cpu, cpu->translate->hot);
    cpu->segment[CPU_CS] = cs;
    cpu->segment[CPU_SS] = ss;
    privilege_set(cpu, cpl);
    return go(cpu, exit, rip);
}

/* One run of a string instruction inside its pages. */
struct run {
    uint8_t *to;
    const uint8_t *from;
    uint64_t count; /* elements; what is left of them */
};

/* SIZES(HOST_STRING_OF, movs, "rep ") */
#define SIZES(one, name, prefix) \
    switch (size) {              \
    case 1:                      \
        one(prefix #name "b");   \
        break;                   \
    case 2:                      \
        one(prefix #name "w");   \
        break;                   \
    case 4:                      \
        one(prefix #name "l");   \
        break;                   \
    default:                     \
        one(prefix #name "q");   \
        break;                   \
    }
#define HOST_STRING_OF(text)                                                       \
    __asm__ volatile(text                                                          \
                     : "+D"(run->to), "+S"(run->from), "+c"(run->count), "+a"(rax) \
                     :                                                             \
                     : "memory", "cc")
#define HOST_COMPARE_OF(text)                                                                   \
    __asm__ volatile(text "\n\tpushfq\n\tpopq %0"                                               \
                     : "=r"(flags), "+D"(run->to), "+S"(run->from), "+c"(run->count), "+a"(rax) \
                     :                                                                          \
                     : "memory", "cc")

/* Runs too short for what a repeated instruction takes to begin. */
#define RUN_SHORT 24u

struct word {
    uint64_t value;
} __attribute__((packed, may_alias));

static void words_copy(struct run *run)
{
    volatile struct word *to = (void *)run->to;
    const volatile struct word *from = (const void *)run->from;

    for (; run->count; run->count--)
        to++->value = from++->value;
}

static void words_fill(struct run *run, uint64_t value)
{
    volatile struct word *to = (void *)run->to;

    for (; run->count; run->count--)
        to++->value = value;
}

/* The host's own instruction on host addresses; returns the flags of one that compares. */
static uint64_t host_string(struct soft_cpu *cpu, unsigned id, unsigned size, bool equal,
                            struct run *run)
{
    uint64_t rax = cpu->gpr[CPU_RAX], flags = 0;
    bool few = size == 8 && run->count <= RUN_SHORT;

    switch (id) {
    case INSN_MOVS:
        if (few)
            words_copy(run);
        else
            SIZES(HOST_STRING_OF, movs, "rep ")
        break;
    case INSN_STOS:
        if (few)
            words_fill(run, rax);
        else
            SIZES(HOST_STRING_OF, stos, "rep ")
        break;
    case INSN_LODS:
        SIZES(HOST_STRING_OF, lods, "rep ")
        cpu->gpr[CPU_RAX] = rax;
        break;
    case INSN_CMPS:
        if (equal)
            SIZES(HOST_COMPARE_OF, cmps, "repe ")
        else
            SIZES(HOST_COMPARE_OF, cmps, "repne ")
        break;
    default:
        if (equal)
            SIZES(HOST_COMPARE_OF, scas, "repe ")
        else
            SIZES(HOST_COMPARE_OF, scas, "repne ")
        break;
    }
    return flags;
}

/* How many whole elements at `address` lie in its page, at most `count`; 0: none is cached, and
 * `leave` is how generated code is left. */
static uint64_t run_length(struct soft_cpu *cpu, uint64_t address, unsigned size, bool write,
                           uint64_t count, uint32_t leave, void **ret)
{
    uint64_t left = GUEST_PAGE_SIZE - (address & GUEST_PAGE_MASK);

    *ret = cached(cpu, address, write);
    if (*ret)
        return MIN(count, left / size);
    cpu->translate->hot->address = address;
    cpu->translate->hot->leave_with = leave | (uint32_t)(write ? TRANSLATE_EXIT_STORE
                                                               : TRANSLATE_EXIT_LOAD);
    return 0;
}

/* Repeated, upwards, with 64-bit addresses, in flat segments; from page to page, each run complete
 * before the next. Between them registers are committed, so any exit may follow. */
static const uint8_t *callout_string(struct soft_cpu *cpu, uint32_t exit)
{
    const struct translation *t = cpu->translate->table[exit >> TRANSLATE_SHIFT];
    unsigned op = exit >> TRANSLATE_EXIT_BITS & ((1u << TRANSLATE_OP_BITS) - 1);
    const struct insn *insn = &t->block->ops[op].generic->insn;
    struct translate_hot *hot = cpu->translate->hot;
    const uint8_t *resume = (const uint8_t *)(uintptr_t)hot->address;
    unsigned size = insn->operand[0].size, id = insn->id;
    bool equal = insn->prefixes & INSN_PREFIX_REP, compares = id == INSN_CMPS || id == INSN_SCAS;
    bool source = id == INSN_MOVS || id == INSN_LODS || id == INSN_CMPS, target = id != INSN_LODS;
    uint32_t leave = exit & ~((1u << TRANSLATE_EXIT_BITS) - 1);
    uint64_t count = cpu->gpr[CPU_RCX], flags;

    if (cpu->rflags & CPU_FLAG_DF)
        return declined(cpu, exit);
    while (count) {
        struct run run = {.count = count};
        uint64_t done, begun;
        void *host;

        hot->leave_with = exit; /* an element in two pages */
        if (source) {
            run.count = run_length(cpu, cpu->gpr[CPU_RSI], size, false, run.count, leave, &host);
            run.from = host;
        }
        if (target && run.count) {
            run.count = run_length(cpu, cpu->gpr[CPU_RDI], size, !compares, run.count, leave,
                                   &host);
            run.to = host;
        }
        begun = run.count;
        if (!begun)
            return NULL;
        flags = host_string(cpu, id, size, equal, &run);
        done = begun - run.count;
        count -= done;
        cpu->gpr[CPU_RSI] += source ? done * size : 0;
        cpu->gpr[CPU_RDI] += target ? done * size : 0;
        cpu->gpr[CPU_RCX] = count;
        if (compares) {
            cpu->host_flags = interp_flags_to_host(flags);
            if (!!(flags & CPU_FLAG_ZF) != equal)
                break;
        }
        if (count && __atomic_load_n(&hot->pending, __ATOMIC_RELAXED)) {
            hot->leave_with = leave | TRANSLATE_EXIT_POLL;
            return NULL;
        }
    }
    return resume;
}

translate_callout_fn *const translate_callouts[TRANSLATE_NR_CALLOUTS] = {
    [TRANSLATE_CALLOUT_SYSCALL] = callout_syscall,
    [TRANSLATE_CALLOUT_SYSRET] = callout_sysret,
    [TRANSLATE_CALLOUT_IRET] = callout_iret,
    [TRANSLATE_CALLOUT_STRING] = callout_string,
};
