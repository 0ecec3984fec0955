/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine of tiers.h: one vCPU, page tables, handlers on stacks of their own, a device that
 * asks for an interrupt whenever it is read, and a port that changes page tables.
 *
 * Replay: debug_active makes the run loop go one instruction at a time, and the interrupt
 * controller is asked at each boundary; there the state is compared with the next one that the
 * other run was interrupted in.
 */
#include "tiers.h"

#include "base/util.h"
#include "cpu/cpuid.h"
#include "soft/soft.h"
#include "soft/soft_cpu.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

enum {
    GPA_PML4 = TIERS_TABLES,
    GPA_PDPT = 0x2000,
    GPA_PD = 0x3000,
    GPA_PT = 0x4000, /* five: kernel, code, scratch, state, MMIO */
    GPA_PDPT_UPPER = 0x9000,
    GPA_PD_UPPER = 0xa000,
    GPA_PT_UPPER = 0xb000,
    GPA_GDT = 0xc000,
    GPA_IDT = 0xd000,
    GPA_TSS = 0xe000,
    GPA_HANDLERS = 0x10000,
    GPA_STACKS = 0x12000, /* three, 8 KiB each */
    GPA_STUBS = 0x18000,  /* 16 bytes a vector */
    GPA_CODE = 0x100000,
    GPA_SCRATCH = 0x110000,
    GPA_STATE = TIERS_STATE_GPA,
    GPA_DEVICE = 0x40000000,

    SELECTOR_CODE = 0x08,
    SELECTOR_DATA = 0x10,
    SELECTOR_USER_DATA = 0x1b,
    SELECTOR_USER_CODE = 0x23,
    SELECTOR_TSS = 0x28,

    NR_VECTORS = TIERS_INTERRUPT + 1,
    /* Then a run is endless: of at most 100 us, and of 100 ms one instruction at a time. */
    TICKS_MOST = 400,
    TICKS_MOST_STEPPED = 200,
    STEPS_MOST = 400000,
};

#define PTE_PRESENT  UINT64_C(1)
#define PTE_WRITABLE UINT64_C(2)
#define PTE_USER     UINT64_C(4)
#define PTE_GLOBAL   UINT64_C(0x100)

struct tiers_guest {
    struct memory *memory;
    struct cpuid_policy policy;
    struct cpu_bus bus;
    struct cpu_irqchip irqchip;
    struct cpu_vm *vm;
    struct cpu *cpu;
    uint8_t *ram;
    bool replays;
    const struct tiers_program *program;
    const struct tiers_outcome *replay;
    struct tiers_outcome *out;
    bool asked; /* the device or the timer wants an interrupt */
};

/* The timer's only way to the run. */
static struct tiers_guest *volatile running;
static volatile unsigned ticks, ticks_most;
static uint64_t tick_seed;

static void timer_set(unsigned us)
{
    struct itimerval value = {.it_value = {.tv_usec = us}};

    setitimer(ITIMER_REAL, &value, NULL);
}

static void on_timer(int number)
{
    struct tiers_guest *guest = running;

    (void)number;
    if (!guest)
        return;
    guest->asked = true;
    cpu_request(guest->cpu, ++ticks > ticks_most ? CPU_REQUEST_KICK : CPU_REQUEST_INTERRUPT);
    timer_set(2 + (unsigned)(diff_random(&tick_seed) % (guest->replays ? 100000 : 98)));
}

/* What programs can change, with no padding between that would differ. */
static void state_get(struct tiers_guest *guest, struct cpu_state *ret)
{
    static struct cpu_state s;

    soft_engine.get_state(guest->cpu, &s, NULL);
    memset(ret, 0, sizeof(*ret));
    memcpy(ret->gpr, s.gpr, sizeof(s.gpr));
    memcpy(ret->xsave, s.xsave, sizeof(s.xsave));
    for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++) {
        ret->segment[i].base = s.segment[i].base;
        ret->segment[i].limit = s.segment[i].limit;
        ret->segment[i].attributes = s.segment[i].attributes;
        ret->segment[i].selector = s.segment[i].selector;
    }
    ret->rip = s.rip;
    ret->rflags = s.rflags;
    ret->cr0 = s.cr0;
    ret->cr2 = s.cr2;
    ret->cr3 = s.cr3;
    ret->cr4 = s.cr4;
    ret->activity = s.activity;
    /* Registers may come back to where they were: what tells one round from another. */
    ret->dr[0] = load_le64(guest->ram + GPA_STATE + TIERS_STATE_LEFT);
    ret->dr[1] = load_le64(guest->ram + GPA_STATE + TIERS_STATE_SUM);
    ret->interrupt_shadow = s.interrupt_shadow;
}

/* Of the pages that programs can write. */
static uint64_t memory_sum(const struct tiers_guest *guest)
{
    static const struct {
        uint32_t gpa, bytes;
    } parts[] = {{GPA_CODE, TIERS_PAGES * 4096}, {GPA_SCRATCH, DIFF_SCRATCH}, {GPA_STATE, 4096}};
    uint64_t sum = 1;

    for (unsigned k = 0; k < ARRAY_LEN(parts); k++)
        for (unsigned i = 0; i < parts[k].bytes; i += 8) {
            sum = (sum ^ load_le64(guest->ram + parts[k].gpa + i)) * UINT64_C(0x9e3779b97f4a7c15);
            sum ^= sum >> 29;
        }
    return sum;
}

/* Memory is looked at when all else is equal. */
static bool same_delivery(struct tiers_guest *guest, const struct cpu_state *next,
                          struct cpu_state *ret)
{
    state_get(guest, ret);
    ret->dr[TIERS_SUM_OF_MEMORY] = next->dr[TIERS_SUM_OF_MEMORY];
    if (memcmp(ret, next, sizeof(*ret)) != 0)
        return false;
    ret->dr[TIERS_SUM_OF_MEMORY] = memory_sum(guest);
    return ret->dr[TIERS_SUM_OF_MEMORY] == next->dr[TIERS_SUM_OF_MEMORY];
}

/* Asked at instruction boundaries with interrupts on. */
static int acknowledge(void *context, unsigned index)
{
    struct tiers_guest *guest = context;
    struct soft_cpu *cpu = CONTAINER_OF(guest->cpu, struct soft_cpu, cpu);
    struct tiers_outcome *out = guest->out;

    (void)index;
    if (guest->replays) {
        const struct tiers_outcome *replay = guest->replay;
        const struct cpu_state *next = &replay->delivery[out->nr_deliveries];

        out->steps++;
        cpu->debug_active = true;
        cpu_request(guest->cpu, out->steps > STEPS_MOST ? CPU_REQUEST_KICK : CPU_REQUEST_INTERRUPT);
        if (out->nr_deliveries == replay->nr_deliveries || next->rip != cpu->rip)
            return -1;
        if (!same_delivery(guest, next, &out->delivery[out->nr_deliveries])) {
            if (out->delivery[out->nr_deliveries].dr[0] == next->dr[0])
                out->near = out->delivery[out->nr_deliveries];
            return -1;
        }
        out->nr_deliveries++;
        return TIERS_INTERRUPT;
    }
    if (!guest->asked || out->nr_deliveries == TIERS_DELIVERIES)
        return -1;
    guest->asked = false;
    state_get(guest, &out->delivery[out->nr_deliveries]);
    out->delivery[out->nr_deliveries++].dr[TIERS_SUM_OF_MEMORY] = memory_sum(guest);
    return TIERS_INTERRUPT;
}

static bool pending(void *context, unsigned index)
{
    (void)context, (void)index;
    return true;
}

static uint64_t cr8_read(void *context, unsigned index)
{
    (void)context, (void)index;
    return 0;
}

static void cr8_write(void *context, unsigned index, uint64_t value)
{
    (void)context, (void)index, (void)value;
}

static int msr_read(void *context, unsigned index, uint32_t msr, uint64_t *ret)
{
    (void)context, (void)index, (void)msr;
    *ret = 0;
    return 0;
}

static int msr_write(void *context, unsigned index, uint32_t msr, uint64_t value)
{
    (void)context, (void)index, (void)msr, (void)value;
    return 0;
}

static void io_read(void *context, unsigned cpu, uint16_t port, void *data, unsigned size)
{
    (void)context, (void)cpu, (void)port;
    memset(data, 0xff, size);
}

static uint64_t pte(const struct tiers_guest *guest, gpa_t at)
{
    return load_le64(guest->ram + at);
}

static void pte_set(struct tiers_guest *guest, gpa_t at, uint64_t value)
{
    uint8_t bytes[8];

    store_le64(bytes, value);
    memory_write(guest->memory, at, bytes, 8);
}

/* TIERS_PORT: what the page tables shall be, from now on. The guest flushes. */
static void remap(struct tiers_guest *guest, uint32_t what)
{
    gpa_t code = GPA_PT + 0x1000 + 3 * 8, upper = GPA_PT_UPPER + 3 * 8, first = GPA_PT + 0x2000,
          second = first + 8;
    uint64_t a = pte(guest, first), b = pte(guest, second);

    switch (what % 4) {
    case 0:
        pte_set(guest, first, b);
        pte_set(guest, second, a);
        break;
    case 1:
        pte_set(guest, second, b ^ PTE_WRITABLE);
        break;
    case 2:
        pte_set(guest, code, pte(guest, code) ^ (GPA_CODE + 0x3000) ^ (GPA_CODE + 0x4000));
        pte_set(guest, upper, pte(guest, upper) ^ (GPA_CODE + 0x3000) ^ (GPA_CODE + 0x4000));
        break;
    default: /* a device writes a page that may be cached for stores */
        memory_write(guest->memory, GPA_SCRATCH + (what >> 8 & 0x1ff8), &what, 4);
        break;
    }
}

static void io_write(void *context, unsigned cpu, uint16_t port, const void *data, unsigned size)
{
    uint32_t value = 0;

    (void)cpu;
    memcpy(&value, data, MIN(size, 4u));
    if (port == TIERS_PORT)
        remap(context, value);
}

static void mmio_read(void *context, unsigned cpu, gpa_t gpa, void *data, unsigned size)
{
    struct tiers_guest *guest = context;

    (void)cpu, (void)gpa;
    memset(data, 0x5a, size);
    if (gpa & 8 || guest->replays)
        return;
    guest->asked = true;
    cpu_request(guest->cpu, CPU_REQUEST_INTERRUPT);
}

static void mmio_write(void *context, unsigned cpu, gpa_t gpa, const void *data, unsigned size)
{
    (void)context, (void)cpu, (void)gpa, (void)data, (void)size;
}

static void map(struct tiers_guest *guest, uint32_t va, unsigned table, uint64_t gpa,
                uint64_t flags)
{
    store_le64(guest->ram + GPA_PD + 8 * (va >> 21 & 511),
               (GPA_PT + 0x1000 * table) | PTE_PRESENT | PTE_WRITABLE | PTE_USER);
    store_le64(guest->ram + GPA_PT + 0x1000 * table + 8 * (va >> 12 & 511), gpa | flags);
}

static void map_all(struct tiers_guest *guest, const struct tiers_program *p)
{
    uint64_t link = PTE_PRESENT | PTE_WRITABLE | PTE_USER;
    uint64_t user = PTE_PRESENT | PTE_WRITABLE | (p->smap ? 0 : PTE_USER);
    uint64_t global = p->global ? PTE_GLOBAL : 0;

    store_le64(guest->ram + GPA_PML4, GPA_PDPT | link);
    store_le64(guest->ram + GPA_PDPT, GPA_PD | link);
    store_le64(guest->ram + GPA_PML4 + 8 * 256, GPA_PDPT_UPPER | link);
    store_le64(guest->ram + GPA_PDPT_UPPER, GPA_PD_UPPER | link);
    store_le64(guest->ram + GPA_PD_UPPER + 8 * (DIFF_CODE_VA >> 21 & 511), GPA_PT_UPPER | link);
    for (uint32_t gpa = 0; gpa < 0x20000; gpa += 4096)
        map(guest, DIFF_KERNEL_VA + gpa, 0, gpa, PTE_PRESENT | PTE_WRITABLE);
    for (uint32_t i = 0; i < TIERS_PAGES * 4096; i += 4096)
        map(guest, DIFF_KERNEL_VA + TIERS_PRISTINE_OFFSET + i, 0, TIERS_PRISTINE_GPA + i,
            PTE_PRESENT);
    for (uint32_t i = 0; i < TIERS_PAGES - 1; i++) {
        map(guest, DIFF_CODE_VA + 4096 * i, 1, GPA_CODE + 4096 * i, user | global);
        store_le64(guest->ram + GPA_PT_UPPER + 8 * i,
                   (GPA_CODE + 4096 * i) | PTE_PRESENT | PTE_WRITABLE | global);
    }
    for (uint32_t i = 0; i < 3; i++)
        map(guest, DIFF_SCRATCH_VA + 4096 * i, 2, GPA_SCRATCH + 4096 * i,
            (i < 2 ? user : user & ~PTE_WRITABLE) | global);
    map(guest, TIERS_STATE_VA, 3, GPA_STATE, user);
    map(guest, TIERS_MMIO_VA, 4, GPA_DEVICE, user);
}

static void gate(struct tiers_guest *guest, unsigned vector)
{
    static const uint32_t with_error = 1u << CPU_VECTOR_DF | 1u << CPU_VECTOR_TS |
                                       1u << CPU_VECTOR_NP | 1u << CPU_VECTOR_SS |
                                       1u << CPU_VECTOR_GP | 1u << CPU_VECTOR_PF |
                                       1u << CPU_VECTOR_AC;
    uint8_t *stub = guest->ram + GPA_STUBS + 16 * vector, *at = stub;
    uint64_t handler = DIFF_KERNEL_VA + GPA_STUBS + 16 * vector;
    uint64_t dpl = vector >= 0x20 || vector == CPU_VECTOR_BP || vector == CPU_VECTOR_OF ? 3 : 0;
    uint64_t stack = vector < 0x20 ? 1 : vector == TIERS_INTERRUPT ? 2 : 3;

    if (vector >= 32 || !(with_error >> vector & 1)) {
        *at++ = 0x6a;
        *at++ = 0;
    }
    *at++ = 0x6a;
    *at++ = (uint8_t)vector;
    *at++ = 0xe9;
    store_le32(at, (uint32_t)(GPA_HANDLERS + (tiers_handler_common - tiers_handlers) -
                              (GPA_STUBS + 16 * vector + (at + 4 - stub))));
    store_le64(guest->ram + GPA_IDT + 16 * vector,
               (handler & 0xffff) | (uint64_t)SELECTOR_CODE << 16 |
                   (stack | UINT64_C(0x8e00) | dpl << 13) << 32 | (handler & 0xffff0000) << 32);
}

static void tables_fill(struct tiers_guest *guest)
{
    uint8_t *gdt = guest->ram + GPA_GDT, *tss = guest->ram + GPA_TSS;
    uint64_t base = DIFF_KERNEL_VA + GPA_TSS;

    store_le64(gdt + SELECTOR_CODE, UINT64_C(0x00af9b000000ffff));
    store_le64(gdt + SELECTOR_DATA, UINT64_C(0x00cf93000000ffff));
    store_le64(gdt + (SELECTOR_USER_DATA & ~7), UINT64_C(0x00cff3000000ffff));
    store_le64(gdt + (SELECTOR_USER_CODE & ~7), UINT64_C(0x00affb000000ffff));
    store_le64(gdt + SELECTOR_TSS,
               0x67 | (base & 0xffffff) << 16 | UINT64_C(0x8b) << 40 | (base >> 24 & 0xff) << 56);
    for (unsigned i = 0; i < 3; i++)
        store_le64(tss + 0x24 + 8 * i, DIFF_KERNEL_VA + GPA_STACKS + 0x2000 * (i + 1));
    store_le64(tss + 4, DIFF_KERNEL_VA + GPA_STACKS + 0x1000);
    store_le16(tss + 102, 0x68);
    memcpy(guest->ram + GPA_HANDLERS, tiers_handlers,
           (size_t)(tiers_handlers_end - tiers_handlers));
    for (unsigned vector = 0; vector < NR_VECTORS; vector++)
        gate(guest, vector);
}

static void state_fill(const struct tiers_program *p, struct cpu_state *s)
{
    cpu_state_reset(s, 0);
    s->cr0 = CPU_CR0_PE | CPU_CR0_MP | CPU_CR0_ET | CPU_CR0_NE | CPU_CR0_WP | CPU_CR0_AM |
             CPU_CR0_PG;
    s->cr3 = GPA_PML4;
    s->cr4 = CPU_CR4_PAE | CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT | CPU_CR4_FSGSBASE |
             (p->seed & 16 ? CPU_CR4_OSXSAVE : 0) | (p->global ? CPU_CR4_PGE : 0) |
             (p->smap ? CPU_CR4_SMAP : 0) | (p->wild ? CPU_CR4_TSD : 0);
    s->efer = (p->wild ? 0 : CPU_EFER_SCE) | CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE;
    s->xcr0 = CPU_XCR0_SUPPORTED;
    s->gdtr.base = DIFF_KERNEL_VA + GPA_GDT;
    s->gdtr.limit = 0x37;
    s->idtr.base = DIFF_KERNEL_VA + GPA_IDT;
    s->idtr.limit = 16 * NR_VECTORS - 1;
    s->tr = (struct cpu_segment){.base = DIFF_KERNEL_VA + GPA_TSS,
                                 .limit = 0x67,
                                 .attributes = 0x8b,
                                 .selector = SELECTOR_TSS};
    for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++)
        s->segment[i] = (struct cpu_segment){.limit = 0xffffffff, .attributes = 0x10000};
    s->segment[CPU_FS].base = DIFF_SCRATCH_VA + 0x108;
    s->segment[CPU_GS].base = DIFF_SCRATCH_VA - 0x40;
    s->segment[CPU_CS] = (struct cpu_segment){.limit = 0xffffffff,
                                              .attributes = p->ring0 ? 0xa09b : 0xa0fb,
                                              .selector = p->ring0 ? SELECTOR_CODE
                                                                   : SELECTOR_USER_CODE};
    s->segment[CPU_SS] = (struct cpu_segment){.limit = 0xffffffff,
                                              .attributes = p->ring0 ? 0xc093 : 0xc0f3,
                                              .selector = p->ring0 ? SELECTOR_DATA
                                                                   : SELECTOR_USER_DATA};
    memcpy(s->gpr, p->initial.gpr, sizeof(s->gpr));
    memcpy(s->xsave, p->initial.xsave, sizeof(s->xsave));
    s->rflags = p->initial.rflags;
    s->rip = tiers_code_va(p) + p->start[0];
    s->activity = CPU_ACTIVITY_RUNNING;
}

/* All of memory is written anew: what was decoded of the last program dies. */
static void memory_fill(struct tiers_guest *guest, const struct tiers_program *p)
{
    uint8_t *state = guest->ram + GPA_STATE;
    uint8_t scratch[DIFF_SCRATCH];

    memset(guest->ram, 0, TIERS_RAM);
    tables_fill(guest);
    map_all(guest, p);
    memory_written(guest->memory, 0, TIERS_RAM);
    memory_write(guest->memory, GPA_CODE, p->code, sizeof(p->code));
    memory_write(guest->memory, TIERS_PRISTINE_GPA, p->code, sizeof(p->code));
    diff_memory_fill(p->memory_seed, scratch);
    memory_write(guest->memory, GPA_SCRATCH, scratch, sizeof(scratch));
    store_le32(state + TIERS_STATE_LEFT, p->rounds);
    store_le32(state + TIERS_STATE_NR, p->nr_segments);
    for (unsigned i = 0; i < p->nr_segments; i++) {
        unsigned last = p->first[i + 1] - 1u, start = p->start[i] & ~7u;
        unsigned end = p->offset[last] + p->item[last].length;

        store_le64(state + TIERS_STATE_TABLE + 8 * i, tiers_code_va(p) + p->start[i]);
        store_le32(state + TIERS_STATE_REPAIR + 8 * i, start);
        store_le32(state + TIERS_STATE_REPAIR + 8 * i + 4, p->wild ? (end - start + 7) / 8 : 0);
    }
}

void tiers_guest_run(struct tiers_guest *guest, const struct tiers_program *program,
                     const struct tiers_outcome *replay, unsigned patience,
                     struct tiers_outcome *ret)
{
    struct cpu_state state;
    struct cpu_exit exit = {.kind = CPU_EXIT_SHUTDOWN};

    ret->nr_deliveries = 0;
    ret->near.rip = 0;
    ret->steps = 0;
    guest->program = program;
    guest->replay = replay;
    guest->out = ret;
    guest->asked = false;
    memory_fill(guest, program);
    state_fill(program, &state);
    soft_engine.set_state(guest->cpu, &state, NULL);
    cpu_take_requests(guest->cpu, CPU_REQUEST_KICK | CPU_REQUEST_INTERRUPT);
    ticks = 0;
    ticks_most = patience * (guest->replays ? TICKS_MOST_STEPPED : TICKS_MOST);
    tick_seed = program->interrupt_seed;
    running = guest;
    if (guest->replays) {
        CONTAINER_OF(guest->cpu, struct soft_cpu, cpu)->debug_active = true;
        cpu_request(guest->cpu, CPU_REQUEST_INTERRUPT);
    }
    timer_set(guest->replays ? 50000 : 50);
    soft_engine.run(guest->cpu, &exit, NULL);
    running = NULL;
    ret->exit = (int)exit.kind;
    state_get(guest, &ret->end);
    memcpy(ret->ram, guest->ram, TIERS_RAM);
}

/* RDRAND, RDSEED: what wild stores may make. */
static void no_random_numbers(struct cpuid_policy *policy)
{
    for (unsigned i = 0; i < policy->nr_entries; i++) {
        if (policy->entries[i].leaf == 1)
            policy->entries[i].ecx &= ~(UINT32_C(1) << 30);
        else if (policy->entries[i].leaf == 7 && policy->entries[i].subleaf == 0)
            policy->entries[i].ebx &= ~(UINT32_C(1) << 18);
    }
}

int tiers_guest_new(const char *engine_options, bool replays, struct tiers_guest **ret,
                    struct err *err)
{
    struct tiers_guest *guest = calloc(1, sizeof(*guest));
    struct cpuid_options options = {.nr_cpus = 1, .tsc_hz = cpu_host_tsc_hz()};
    struct cpu_vm_config config = {.nr_cpus = 1, .tsc_hz = options.tsc_hz};
    struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART | SA_ONSTACK};
    int r;

    if (!guest)
        return err_set(err, -ENOMEM, "guest");
    guest->replays = replays;
    guest->bus = (struct cpu_bus){guest, io_read, io_write, mmio_read, mmio_write};
    guest->irqchip = (struct cpu_irqchip){.context = guest,
                                          .acknowledge = acknowledge,
                                          .pending = pending,
                                          .cr8_read = cr8_read,
                                          .cr8_write = cr8_write,
                                          .msr_read = msr_read,
                                          .msr_write = msr_write};
    cpuid_policy_init(&guest->policy, &options);
    no_random_numbers(&guest->policy);
    r = memory_new(&guest->memory, err);
    if (!r)
        r = memory_add_ram(guest->memory, 0, TIERS_RAM, err);
    config.memory = guest->memory;
    config.options = engine_options;
    config.bus = &guest->bus;
    config.irqchip = &guest->irqchip;
    config.cpuid = &guest->policy;
    if (!r)
        r = soft_engine.vm_new(&config, &guest->vm, err);
    if (!r)
        r = soft_engine.cpu_new(guest->vm, 0, &guest->cpu, err);
    if (r) {
        tiers_guest_free(guest);
        return r;
    }
    guest->ram = memory_range(guest->memory, 0, TIERS_RAM);
    sigaction(SIGALRM, &action, NULL);
    *ret = guest;
    return 0;
}

void tiers_guest_free(struct tiers_guest *guest)
{
    if (!guest)
        return;
    if (guest->cpu)
        soft_engine.cpu_free(guest->cpu);
    if (guest->vm)
        soft_engine.vm_free(guest->vm);
    memory_free(guest->memory);
    free(guest);
}
