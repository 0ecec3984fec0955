/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu_fixture.h"

#include "testing.h"

static void record(struct fixture *f, bool write, bool mmio, uint64_t address, uint64_t value,
                   unsigned size)
{
    if (f->nr_accesses < ARRAY_LEN(f->access))
        f->access[f->nr_accesses++] = (struct bus_access){write, mmio, address, value, size};
}

static void bus_read(void *context, uint64_t address, bool mmio, void *data, unsigned size)
{
    struct fixture *f = context;

    memcpy(data, &f->bus_value, size);
    record(f, false, mmio, address, f->bus_value, size);
}

static void bus_write(void *context, uint64_t address, bool mmio, const void *data, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, data, size);
    record(context, true, mmio, address, value, size);
}

static void io_read(void *context, unsigned cpu, uint16_t port, void *data, unsigned size)
{
    (void)cpu;
    bus_read(context, port, false, data, size);
}

static void io_write(void *context, unsigned cpu, uint16_t port, const void *data, unsigned size)
{
    (void)cpu;
    bus_write(context, port, false, data, size);
}

static void mmio_read(void *context, unsigned cpu, gpa_t gpa, void *data, unsigned size)
{
    (void)cpu;
    bus_read(context, gpa, true, data, size);
}

static void mmio_write(void *context, unsigned cpu, gpa_t gpa, const void *data, unsigned size)
{
    (void)cpu;
    bus_write(context, gpa, true, data, size);
}

struct fixture *fixture_new(void)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct cpuid_options options = {.nr_cpus = 1, .tsc_hz = 2000000000};
    struct cpu_state state;

    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(memory_new(&f->memory, NULL), 0);
    ck_assert_int_eq(memory_add_ram(f->memory, 0, FIXTURE_RAM, NULL), 0);
    cpuid_policy_init(&f->policy, &options);
    f->bus = (struct cpu_bus){f, io_read, io_write, mmio_read, mmio_write};
    f->vm.config_copy = (struct cpu_vm_config){
        .nr_cpus = 1,
        .memory = f->memory,
        .bus = &f->bus,
        .cpuid = &f->policy,
        .tsc_hz = options.tsc_hz,
    };
    f->vm.config = &f->vm.config_copy;
    f->vm.memory = f->memory;
    f->vm.physical_address_mask = (UINT64_C(1) << 40) - 1;
    memset(f->vm.features, 1, sizeof(f->vm.features));
    f->cpu = aligned_alloc(64, (sizeof(*f->cpu) + 63) & ~(size_t)63);
    ck_assert_ptr_nonnull(f->cpu);
    memset(f->cpu, 0, sizeof(*f->cpu));
    f->cpu->vm = &f->vm;
    mmu_init(f->cpu);
    cpu_state_reset(&state, 0);
    ck_assert_int_eq(soft_set_state(&f->cpu->cpu, &state, NULL), 0);
    f->next_table = FIXTURE_TABLES;
    return f;
}

void fixture_free(struct fixture *f)
{
    mmu_done(f->cpu);
    free(f->cpu);
    memory_free(f->memory);
    free(f);
}

uint64_t peek(struct fixture *f, gpa_t gpa, unsigned size)
{
    uint64_t value = 0;

    ck_assert_int_eq(memory_read(f->memory, gpa, &value, size), 0);
    return value;
}

void poke(struct fixture *f, gpa_t gpa, uint64_t value, unsigned size)
{
    ck_assert_int_eq(memory_write(f->memory, gpa, &value, size), 0);
}

void fixture_descriptor(struct fixture *f, gpa_t at, uint64_t base, uint32_t limit,
                        uint32_t attributes)
{
    uint32_t scaled = attributes & CPU_SEGMENT_G ? limit >> 12 : limit;
    uint64_t low = (scaled & 0xffff) | (base & 0xffff) << 16;
    uint64_t high = (base >> 16 & 0xff) | (attributes & 0xf0ff) << 8 | (scaled & 0xf0000) |
                    (base & 0xff000000);

    poke(f, at, low | high << 32, 8);
}

void fixture_gate(struct fixture *f, gpa_t at, uint16_t selector, uint64_t offset, unsigned type,
                  unsigned dpl, unsigned ist_or_count)
{
    uint64_t low = (offset & 0xffff) | (uint64_t)selector << 16;
    uint64_t high = (offset & 0xffff0000) | 0x8000 | dpl << 13 | type << 8 | ist_or_count;

    poke(f, at, low | high << 32, 8);
    if (f->cpu->efer & CPU_EFER_LMA)
        poke(f, at + 8, offset >> 32, 8);
}

void fixture_idt(struct fixture *f, uint8_t vector, uint16_t selector, uint64_t offset,
                 unsigned type, unsigned dpl, unsigned ist)
{
    unsigned size = f->cpu->efer & CPU_EFER_LMA ? 16 : 8;

    fixture_gate(f, FIXTURE_IDT + vector * size, selector, offset, type, dpl, ist);
}

static void standard_gdt(struct fixture *f, bool long_mode)
{
    static const struct {
        uint16_t selector;
        uint32_t limit, attributes;
    } segments[] = {
        {SEL_CODE0, 0xffffffff, 0xc09b},  {SEL_DATA0, 0xffffffff, 0xc093},
        {SEL_CODE3, 0xffffffff, 0xc0fb},  {SEL_DATA3, 0xffffffff, 0xc0f3},
        {SEL_CODE32, 0xffffffff, 0xc0fb}, {SEL_CODE16, 0xffff, 0x009b},
        {SEL_DATA16, 0xffff, 0x0093},     {SEL_CONFORMING, 0xffffffff, 0xc09f},
    };

    for (unsigned i = 0; i < ARRAY_LEN(segments); i++) {
        uint16_t selector = segments[i].selector & 0xfff8;
        uint32_t attributes = segments[i].attributes;

        if (long_mode && (attributes & 8) && (attributes & CPU_SEGMENT_DB) &&
            segments[i].selector != SEL_CODE32)
            attributes = (attributes & ~CPU_SEGMENT_DB) | CPU_SEGMENT_L;
        fixture_descriptor(f, FIXTURE_GDT + selector, 0, segments[i].limit, attributes);
    }
    fixture_descriptor(f, FIXTURE_GDT + SEL_TSS, FIXTURE_TSS, 0x2067, 0x8b);
    fixture_descriptor(f, FIXTURE_GDT + SEL_LDT, FIXTURE_LDT, 0xff, 0x82);
}

static void load_segment(struct fixture *f, struct cpu_segment *to, uint16_t selector)
{
    uint64_t raw = peek(f, FIXTURE_GDT + (selector & 0xfff8u), 8);
    struct descriptor d = {.low = (uint32_t)raw, .high = (uint32_t)(raw >> 32)};

    descriptor_expand(&d, selector, to);
}

static void load_segments(struct fixture *f, unsigned cpl)
{
    struct soft_cpu *cpu = f->cpu;

    for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++)
        load_segment(f, &cpu->segment[i], cpl == 3 ? SEL_DATA3 : SEL_DATA0);
    load_segment(f, &cpu->segment[CPU_CS], cpl == 3 ? SEL_CODE3 : SEL_CODE0);
    load_segment(f, &cpu->tr, SEL_TSS);
    cpu->gdtr = (struct cpu_table_register){FIXTURE_GDT, 0xff};
    cpu->idtr = (struct cpu_table_register){FIXTURE_IDT, 0xfff};
    segment_set_null(&cpu->ldtr, 0, 0);
    cpu->gpr[CPU_RSP] = cpl == 3 ? FIXTURE_STACK3 : FIXTURE_STACK0;
    cpu->rip = cpu->next_rip = FIXTURE_CODE;
    cpu->rflags = CPU_FLAG_ONE;
    mmu_flush_all(cpu);
    soft_cpu_update_mode(cpu);
}

void fixture_real(struct fixture *f)
{
    struct cpu_state state;

    cpu_state_reset(&state, 0);
    state.segment[CPU_CS].base = FIXTURE_CODE;
    state.segment[CPU_CS].selector = FIXTURE_CODE >> 4;
    state.rip = 0;
    state.gpr[CPU_RSP] = FIXTURE_STACK0;
    state.idtr.limit = 0x3ff;
    ck_assert_int_eq(soft_set_state(&f->cpu->cpu, &state, NULL), 0);
}

void fixture_protected(struct fixture *f, unsigned cpl)
{
    struct soft_cpu *cpu = f->cpu;

    cpu->cr0 = CPU_CR0_PE | CPU_CR0_ET;
    cpu->efer = 0;
    cpu->cr4 = 0;
    standard_gdt(f, false);
    poke(f, FIXTURE_TSS + 4, FIXTURE_STACK0, 4);
    poke(f, FIXTURE_TSS + 8, SEL_DATA0, 2);
    load_segments(f, cpl);
}

void fixture_long(struct fixture *f, unsigned cpl)
{
    struct soft_cpu *cpu = f->cpu;

    cpu->cr0 = CPU_CR0_PE | CPU_CR0_PG | CPU_CR0_WP | CPU_CR0_ET;
    cpu->efer = CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_SCE | CPU_EFER_NXE;
    cpu->cr4 = CPU_CR4_PAE | CPU_CR4_PGE;
    standard_gdt(f, true);
    cpu->cr3 = f->next_table;
    memset(memory_range(f->memory, cpu->cr3, GUEST_PAGE_SIZE), 0, GUEST_PAGE_SIZE);
    f->next_table += GUEST_PAGE_SIZE;
    for (gpa_t gpa = 0; gpa < FIXTURE_RAM; gpa += 2 * MIB) {
        uint64_t *table;

        fixture_map(f, gpa, gpa, 12, PTE_P | PTE_W | PTE_U, PTE_P | PTE_W | PTE_U);
        table = memory_range(f->memory, fixture_leaf(f, gpa), GUEST_PAGE_SIZE);
        for (unsigned i = 0; i < 512; i++)
            table[i] = (gpa + i * GUEST_PAGE_SIZE) | PTE_P | PTE_W | PTE_U;
    }
    poke(f, FIXTURE_TSS + 4, FIXTURE_STACK0, 8);
    poke(f, FIXTURE_TSS + 0x24, FIXTURE_IST1, 8);
    load_segments(f, cpl);
}

void fixture_v86(struct fixture *f, unsigned iopl)
{
    struct soft_cpu *cpu = f->cpu;

    fixture_protected(f, 0);
    cpu->rflags |= CPU_FLAG_VM | (uint64_t)iopl << 12;
    for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++)
        segment_set_real(cpu, i, FIXTURE_CODE >> 4);
    cpu->rip = cpu->next_rip = 0;
    cpu->gpr[CPU_RSP] = 0x100;
    soft_cpu_update_mode(cpu);
}

void fixture_map(struct fixture *f, gva_t gva, gpa_t gpa, unsigned shift, uint64_t flags,
                 uint64_t upper)
{
    gpa_t table = f->cpu->cr3 & ~UINT64_C(0xfff);

    for (unsigned level = 39;; level -= 9) {
        gpa_t at = table + (gva >> level & 0x1ff) * 8;
        uint64_t entry = peek(f, at, 8);

        if (level == shift) {
            poke(f, at, gpa | flags | (shift > 12 ? PTE_PS : 0), 8);
            return;
        }
        if (!(entry & PTE_P)) {
            entry = f->next_table | upper;
            memset(memory_range(f->memory, f->next_table, GUEST_PAGE_SIZE), 0, GUEST_PAGE_SIZE);
            f->next_table += GUEST_PAGE_SIZE;
            ck_assert_uint_lt(f->next_table, FIXTURE_RAM);
        }
        entry |= upper;
        poke(f, at, entry, 8);
        table = entry & UINT64_C(0x000ffffffffff000);
    }
}

gpa_t fixture_leaf(struct fixture *f, gva_t gva)
{
    gpa_t table = f->cpu->cr3 & ~UINT64_C(0xfff);

    for (unsigned level = 39; level > 12; level -= 9)
        table = peek(f, table + (gva >> level & 0x1ff) * 8, 8) & UINT64_C(0x000ffffffffff000);
    return table + (gva >> 12 & 0x1ff) * 8;
}

static unsigned parse_hex(const char *hex, uint8_t *bytes, unsigned most)
{
    unsigned n = 0, value;
    int used;

    while (n < most && sscanf(hex, " %2x%n", &value, &used) == 1) {
        bytes[n++] = (uint8_t)value;
        hex += used;
    }
    return n;
}

bool fixture_decodes(struct fixture *f, const char *hex)
{
    uint8_t bytes[INSN_LENGTH_MAX];
    unsigned length = parse_hex(hex, bytes, sizeof(bytes));
    struct insn insn;

    if (insn_decode(bytes, length, f->cpu->code_mode, &insn) != INSN_OK || insn.length != length)
        return false;
    for (const struct soft_handler *h = soft_handlers_system; h->id != INSN_NONE; h++)
        if (h->id == insn.id)
            return true;
    return false;
}

enum soft_result fixture_run(struct fixture *f, const char *hex)
{
    uint8_t bytes[INSN_LENGTH_MAX];
    unsigned length = parse_hex(hex, bytes, sizeof(bytes));
    struct soft_cpu *cpu = f->cpu;
    enum soft_result result;
    struct insn insn;

    ck_assert_int_eq(insn_decode(bytes, length, cpu->code_mode, &insn), INSN_OK);
    ck_assert_uint_eq(insn.length, length);
    cpu->next_rip = cpu->rip + length;
    for (const struct soft_handler *h = soft_handlers_system; h->id != INSN_NONE; h++) {
        if (h->id != insn.id)
            continue;
        result = h->run(cpu, &insn);
        if (result == SOFT_OK)
            cpu->rip = cpu->next_rip;
        return result;
    }
    ck_abort_msg("no handler for %s", insn_name(insn.id));
}
