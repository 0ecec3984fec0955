/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreted side: a VM of one vCPU without devices. User mode at the same linear addresses as
 * the native child; every exception goes through an interrupt gate to a HLT of its own, so the
 * architecture's own delivery (stack switch, frame, error code) is what tells the result.
 */
#include "diff.h"

#include "base/util.h"
#include "cpu/cpuid.h"
#include "soft/soft.h"
#include "soft/soft_cpu.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    GPA_PML4 = 0x1000,
    GPA_PDPT = 0x2000,
    GPA_PD = 0x3000,
    GPA_PT_KERNEL = 0x4000, /* supervisor: the first pages of memory at DIFF_KERNEL_VA */
    GPA_PT_CODE = 0x5000,
    GPA_PT_SCRATCH = 0x6000,
    GPA_PT_AREA = 0x7000,
    GPA_GDT = 0x8000,
    GPA_IDT = 0x9000,
    GPA_TSS = 0xa000,
    GPA_LDT = 0xa800,
    GPA_HANDLERS = 0xb000, /* 16 bytes each */
    GPA_STACK_TOP = 0xe000,
    GPA_CODE = 0x100000,
    GPA_SCRATCH = 0x101000,
    GPA_AREA = 0x104000,
    GUEST_RAM = 0x200000,

    /* As Linux has them. */
    SELECTOR_KERNEL_CODE_32 = 0x08,
    SELECTOR_KERNEL_CODE = 0x10,
    SELECTOR_KERNEL_DATA = 0x18,
    SELECTOR_TSS = 0x40,
    SELECTOR_LDT = 0x50,
    GDT_LIMIT = 0x7f,
};

#define PTE_PRESENT  UINT64_C(1)
#define PTE_WRITABLE UINT64_C(2)
#define PTE_USER     UINT64_C(4)
#define PTE_NX       (UINT64_C(1) << 63)

#define NR_HANDLERS 32u

struct diff_guest {
    struct memory *memory;
    struct cpuid_policy policy;
    struct cpu_bus bus;
    struct cpu_vm *vm;
    struct cpu *cpu;
    struct cpu_state base; /* all but the stream's own registers */
    uint8_t *ram;
    bool translated;
    uint64_t generated; /* instructions of all streams */
};

static void bus_read_io(void *context, unsigned cpu, uint16_t port, void *data, unsigned size)
{
    (void)context, (void)cpu, (void)port;
    memset(data, 0xff, size);
}

static void bus_write_io(void *context, unsigned cpu, uint16_t port, const void *data,
                         unsigned size)
{
    (void)context, (void)cpu, (void)port, (void)data, (void)size;
}

static void bus_read_memory(void *context, unsigned cpu, gpa_t gpa, void *data, unsigned size)
{
    (void)context, (void)cpu, (void)gpa;
    memset(data, 0xff, size);
}

static void bus_write_memory(void *context, unsigned cpu, gpa_t gpa, const void *data,
                             unsigned size)
{
    (void)context, (void)cpu, (void)gpa, (void)data, (void)size;
}

static void map_page(struct diff_guest *guest, uint32_t va, unsigned table, uint32_t gpa,
                     uint64_t flags)
{
    store_le64(guest->ram + GPA_PD + 8 * (va >> 21 & 511),
               table | PTE_PRESENT | PTE_WRITABLE | PTE_USER);
    store_le64(guest->ram + table + 8 * (va >> 12 & 511), gpa | flags);
}

static void map_all(struct diff_guest *guest)
{
    uint64_t user = PTE_PRESENT | PTE_USER;

    store_le64(guest->ram + GPA_PML4, GPA_PDPT | user | PTE_WRITABLE);
    store_le64(guest->ram + GPA_PDPT, GPA_PD | user | PTE_WRITABLE);
    for (uint32_t gpa = 0; gpa < DIFF_KERNEL_SIZE; gpa += 4096)
        map_page(guest, DIFF_KERNEL_VA + gpa, GPA_PT_KERNEL, gpa, PTE_PRESENT | PTE_WRITABLE);
    map_page(guest, DIFF_CODE_VA, GPA_PT_CODE, GPA_CODE, user);
    map_page(guest, DIFF_SCRATCH_VA, GPA_PT_SCRATCH, GPA_SCRATCH, user | PTE_WRITABLE | PTE_NX);
    map_page(guest, DIFF_SCRATCH_VA + 4096, GPA_PT_SCRATCH, GPA_SCRATCH + 4096,
             user | PTE_WRITABLE | PTE_NX);
    map_page(guest, DIFF_SCRATCH_VA + 8192, GPA_PT_SCRATCH, GPA_SCRATCH + 8192, user | PTE_NX);
    map_page(guest, DIFF_AREA_VA, GPA_PT_AREA, GPA_AREA, user);
}

static const struct cpu_segment segment_code_16 = {
    .base = DIFF_CODE_VA, .limit = 0xffff, .attributes = 0xfb, .selector = DIFF_SELECTOR_CODE_16};
static const struct cpu_segment segment_data_16 = {.base = DIFF_SCRATCH_VA,
                                                   .limit = DIFF_SCRATCH - 1,
                                                   .attributes = 0xf3,
                                                   .selector = DIFF_SELECTOR_DATA_16};
static const struct cpu_segment segment_code_32 = {
    .limit = 0xffffffff, .attributes = 0xc0fb, .selector = DIFF_SELECTOR_CODE_32};
static const struct cpu_segment segment_data_32 = {
    .limit = 0xffffffff, .attributes = 0xc0f3, .selector = DIFF_SELECTOR_DATA};

/* Of a segment with byte granularity. */
static uint64_t descriptor(const struct cpu_segment *segment)
{
    return (segment->limit & 0xffff) | (segment->base & 0xffffff) << 16 |
           (uint64_t)segment->attributes << 40 | (uint64_t)(segment->limit >> 16 & 15) << 48 |
           (segment->base >> 24 & 0xff) << 56;
}

static void tables_fill(struct diff_guest *guest)
{
    uint8_t *gdt = guest->ram + GPA_GDT, *idt = guest->ram + GPA_IDT;

    store_le64(gdt + SELECTOR_KERNEL_CODE_32, UINT64_C(0x00cf9b000000ffff));
    store_le64(gdt + SELECTOR_KERNEL_CODE, UINT64_C(0x00af9b000000ffff));
    store_le64(gdt + SELECTOR_KERNEL_DATA, UINT64_C(0x00cf93000000ffff));
    store_le64(gdt + SELECTOR_TSS, UINT64_C(0x00008b0000000067));
    store_le64(gdt + (DIFF_SELECTOR_CODE_32 & ~7u), UINT64_C(0x00cffb000000ffff));
    store_le64(gdt + (DIFF_SELECTOR_DATA & ~7u), UINT64_C(0x00cff3000000ffff));
    store_le64(gdt + (DIFF_SELECTOR_CODE_64 & ~7u), UINT64_C(0x00affb000000ffff));
    store_le64(guest->ram + GPA_LDT + (DIFF_SELECTOR_CODE_16 & ~7u), descriptor(&segment_code_16));
    store_le64(guest->ram + GPA_LDT + (DIFF_SELECTOR_DATA_16 & ~7u), descriptor(&segment_data_16));
    store_le64(guest->ram + GPA_TSS + 4, DIFF_KERNEL_VA + GPA_STACK_TOP);
    store_le16(guest->ram + GPA_TSS + 102, 0x68);
    for (unsigned vector = 0; vector < NR_HANDLERS; vector++) {
        uint64_t handler = DIFF_KERNEL_VA + GPA_HANDLERS + 16u * vector;
        /* As under Linux, only INT3 and INTO are open to user mode. */
        uint64_t dpl = vector == CPU_VECTOR_BP || vector == CPU_VECTOR_OF ? 3 : 0;

        guest->ram[GPA_HANDLERS + 16u * vector] = 0xf4;
        store_le64(idt + 16 * vector, (handler & 0xffff) | (uint64_t)SELECTOR_KERNEL_CODE << 16 |
                                          (UINT64_C(0x8e00) | dpl << 13) << 32 |
                                          (handler & 0xffff0000) << 32);
    }
    /* The end of a stream: UD2, at an address of its own in the area page. */
    store_le64(guest->ram + GPA_AREA + 0xff8, DIFF_END_VA);
    store_le16(guest->ram + GPA_AREA + DIFF_END_VA - DIFF_AREA_VA, 0x0b0f);
}

static void state_fill(struct diff_guest *guest)
{
    struct cpu_state *s = &guest->base;

    cpu_state_reset(s, 0);
    s->cr0 = CPU_CR0_PE | CPU_CR0_MP | CPU_CR0_ET | CPU_CR0_NE | CPU_CR0_WP | CPU_CR0_AM |
             CPU_CR0_PG;
    s->cr3 = GPA_PML4;
    s->cr4 = CPU_CR4_PAE | CPU_CR4_PGE | CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT | CPU_CR4_OSXSAVE |
             CPU_CR4_UMIP | CPU_CR4_DE | CPU_CR4_FSGSBASE;
    s->efer = CPU_EFER_SCE | CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE;
    s->xcr0 = CPU_XCR0_SUPPORTED;
    s->gdtr.base = DIFF_KERNEL_VA + GPA_GDT;
    s->gdtr.limit = GDT_LIMIT;
    s->ldtr = (struct cpu_segment){.base = DIFF_KERNEL_VA + GPA_LDT,
                                   .limit = 15,
                                   .attributes = 0x82,
                                   .selector = SELECTOR_LDT};
    s->idtr.base = DIFF_KERNEL_VA + GPA_IDT;
    s->idtr.limit = 16 * NR_HANDLERS - 1;
    s->tr = (struct cpu_segment){.base = DIFF_KERNEL_VA + GPA_TSS,
                                 .limit = 0x67,
                                 .attributes = 0x8b,
                                 .selector = SELECTOR_TSS};
    for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++)
        s->segment[i] = (struct cpu_segment){.limit = 0xffffffff,
                                             .attributes = 0x10000 /* unusable: null */};
    s->segment[CPU_SS] = segment_data_32;
    s->segment[CPU_CS] = (struct cpu_segment){
        .limit = 0xffffffff, .attributes = 0xa0fb, .selector = DIFF_SELECTOR_CODE_64};
    s->rip = DIFF_CODE_VA;
}

/* Stops a stream that goes on for ever. The handler's only way to the guest that runs. */
static struct cpu *volatile ticking;
static volatile unsigned ticks;

static void on_tick(int number)
{
    struct cpu *cpu = ticking;

    (void)number;
    if (cpu && ++ticks >= 3)
        cpu_request(cpu, CPU_REQUEST_KICK);
}

int diff_guest_new(const char *engine_options, struct diff_guest **ret, struct err *err)
{
    struct diff_guest *guest = calloc(1, sizeof(*guest));
    struct cpuid_options options = {.nr_cpus = 1, .tsc_hz = cpu_host_tsc_hz()};
    struct cpu_vm_config config = {.nr_cpus = 1, .tsc_hz = options.tsc_hz};
    uint8_t memory[DIFF_SCRATCH];
    int r;

    if (!guest)
        return err_set(err, -ENOMEM, "interpreted side");
    guest->bus = (struct cpu_bus){.io_read = bus_read_io,
                                  .io_write = bus_write_io,
                                  .mmio_read = bus_read_memory,
                                  .mmio_write = bus_write_memory};
    cpuid_policy_init(&guest->policy, &options);
    r = memory_new(&guest->memory, err);
    if (!r)
        r = memory_add_ram(guest->memory, 0, GUEST_RAM, err);
    config.memory = guest->memory;
    config.options = engine_options;
    guest->translated = engine_options && strstr(engine_options, "translate");
    config.bus = &guest->bus;
    config.cpuid = &guest->policy;
    if (!r)
        r = soft_engine.vm_new(&config, &guest->vm, err);
    if (!r)
        r = soft_engine.cpu_new(guest->vm, 0, &guest->cpu, err);
    if (r) {
        diff_guest_free(guest);
        return r;
    }
    diff_ticks_start(on_tick);
    guest->ram = memory_range(guest->memory, 0, GUEST_RAM);
    map_all(guest);
    tables_fill(guest);
    state_fill(guest);
    memset(guest->ram + GPA_CODE, 0xcc, 4096);
    diff_gate_fill(guest->ram + GPA_CODE + (DIFF_GATE_VA - DIFF_CODE_VA));
    diff_memory_fill(0, memory);
    memcpy(guest->ram + GPA_SCRATCH, memory, DIFF_SCRATCH);
    *ret = guest;
    return 0;
}

void diff_guest_free(struct diff_guest *guest)
{
    if (!guest)
        return;
    soft_engine.cpu_free(guest->cpu);
    soft_engine.vm_free(guest->vm);
    memory_free(guest->memory);
    free(guest);
}

bool diff_guest_exposes(const struct diff_guest *guest, const struct insn *insn)
{
    const struct soft_vm *vm = (const struct soft_vm *)(const void *)guest->vm;

    return insn->feature < INSN_NR_FEATURES && vm->features[insn->feature];
}

uint64_t diff_guest_instructions(const struct diff_guest *guest)
{
    struct cpu_counters counters;

    soft_engine.counters(guest->cpu, &counters);
    /* The translating tier does not count. */
    return guest->translated ? guest->generated : counters.instructions;
}

/* The vector whose handler's HLT was reached, with its frame. */
static void collect(struct diff_guest *guest, const struct cpu_state *state,
                    struct diff_result *ret)
{
    static const uint32_t with_error = 1u << CPU_VECTOR_DF | 1u << CPU_VECTOR_TS |
                                       1u << CPU_VECTOR_NP | 1u << CPU_VECTOR_SS |
                                       1u << CPU_VECTOR_GP | 1u << CPU_VECTOR_PF |
                                       1u << CPU_VECTOR_AC;
    uint64_t slot = (state->rip - 1 - DIFF_KERNEL_VA - GPA_HANDLERS) / 16;
    uint64_t stack = state->gpr[CPU_RSP] - DIFF_KERNEL_VA;
    const uint8_t *frame = guest->ram + stack;

    memcpy(ret->state.gpr, state->gpr, sizeof(ret->state.gpr));
    memcpy(ret->state.xsave, state->xsave, sizeof(ret->state.xsave));
    if (slot >= NR_HANDLERS || stack > GPA_STACK_TOP - 40) {
        ret->lost = true;
        snprintf(ret->reason, sizeof(ret->reason), "halted at 0x%llx",
                 (unsigned long long)state->rip);
        return;
    }
    ret->vector = (uint8_t)slot;
    if (with_error >> slot & 1) {
        ret->error = load_le32(frame);
        frame += 8;
    }
    ret->rip = load_le64(frame);
    ret->state.rflags = load_le64(frame + 16);
    ret->state.gpr[CPU_RSP] = load_le64(frame + 24);
    ret->address = state->cr2;
    if (ret->vector == CPU_VECTOR_UD && ret->rip == DIFF_END_VA) {
        ret->vector = DIFF_COMPLETED;
        ret->rip = 0;
    }
}

static void segments_set(struct cpu_state *state, uint8_t code_mode)
{
    bool is_16 = code_mode == INSN_MODE_16;

    if (code_mode == INSN_MODE_64)
        return;
    state->segment[CPU_CS] = is_16 ? segment_code_16 : segment_code_32;
    state->segment[CPU_SS] = is_16 ? segment_data_16 : segment_data_32;
    state->segment[CPU_DS] = state->segment[CPU_ES] = state->segment[CPU_SS];
    if (is_16)
        state->rip = 0;
}

static int run_for_a_while(struct diff_guest *guest, struct cpu_exit *exit)
{
    int r;

    cpu_take_requests(guest->cpu, CPU_REQUEST_KICK);
    ticks = 0;
    ticking = guest->cpu;
    r = soft_engine.run(guest->cpu, exit, NULL);
    ticking = NULL;
    return r;
}

void diff_guest_run(struct diff_guest *guest, const struct diff_stream *stream,
                    struct diff_result *ret)
{
    struct cpu_state state = guest->base;
    uint8_t code[DIFF_CODE_MAX];
    uint16_t offset[DIFF_INSNS_MAX + 1];
    unsigned length = diff_layout(stream, code, offset);
    struct cpu_exit exit;

    guest->generated += stream->nr_insns;
    memset(ret, 0, offsetof(struct diff_result, state));
    memset(code + length, 0xcc, sizeof(code) - length);
    memory_write(guest->memory, GPA_CODE, code, sizeof(code));
    diff_memory_fill(stream->memory_seed, ret->memory);
    memcpy(guest->ram + GPA_SCRATCH, ret->memory, DIFF_WRITABLE);
    memcpy(state.gpr, stream->initial.gpr, sizeof(state.gpr));
    state.rflags = stream->initial.rflags;
    segments_set(&state, stream->code_mode);
    if (stream->vector)
        memcpy(state.xsave, stream->initial.xsave, sizeof(state.xsave));
    if (soft_engine.set_state(guest->cpu, &state, NULL) || run_for_a_while(guest, &exit) ||
        soft_engine.get_state(guest->cpu, &state, NULL)) {
        ret->lost = true;
        snprintf(ret->reason, sizeof(ret->reason), "the engine failed");
        return;
    }
    memcpy(ret->memory, guest->ram + GPA_SCRATCH, DIFF_WRITABLE);
    if (exit.kind == CPU_EXIT_HALT) {
        collect(guest, &state, ret);
        return;
    }
    ret->rip = state.rip;
    if (exit.kind == CPU_EXIT_KICK) {
        ret->vector = DIFF_ENDLESS;
        return;
    }
    ret->lost = true;
    snprintf(ret->reason, sizeof(ret->reason), "exit %d at 0x%llx: %s", (int)exit.kind,
             (unsigned long long)state.rip,
             exit.kind == CPU_EXIT_UNSUPPORTED ? exit.unsupported.reason : "");
}
