/* SPDX-License-Identifier: Apache-2.0 */
/* See harness.h. */
#include "harness.h"

#include "base/util.h"
#include "soft/fpu/fpu.h"
#include "soft/mmu/mmu.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

struct harness harness;

/* The functions that the handlers call. */

enum soft_result fault_raise(struct soft_cpu *cpu, enum cpu_vector vector)
{
    cpu->fault = (struct soft_fault){.vector = (uint8_t)vector};
    return SOFT_FAULT;
}

enum soft_result fault_raise_error(struct soft_cpu *cpu, enum cpu_vector vector, uint32_t error)
{
    cpu->fault = (struct soft_fault){.vector = (uint8_t)vector, .has_error = true, .error = error};
    return SOFT_FAULT;
}

static uint8_t *at(struct soft_cpu *cpu, unsigned segment, uint64_t offset, unsigned size,
                   bool write)
{
    uint64_t place = offset + cpu->segment[segment].base - (uint64_t)(uintptr_t)harness.arena;

    if (!range_fits(place, size, write ? HARNESS_WRITABLE : HARNESS_READABLE)) {
        if ((int64_t)(offset << 16) >> 16 != (int64_t)offset)
            fault_raise_error(cpu, segment == CPU_SS ? CPU_VECTOR_SS : CPU_VECTOR_GP, 0);
        else
            fault_raise_error(cpu, CPU_VECTOR_PF, 0);
        return NULL;
    }
    return harness.copy + place;
}

enum soft_result mmu_load(struct soft_cpu *cpu, unsigned segment, uint64_t offset, void *data,
                          unsigned size)
{
    const uint8_t *from = at(cpu, segment, offset, size, false);

    if (!from)
        return SOFT_FAULT;
    memcpy(data, from, size);
    return SOFT_OK;
}

enum soft_result mmu_store(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                           const void *data, unsigned size)
{
    uint8_t *to = at(cpu, segment, offset, size, true);

    if (!to)
        return SOFT_FAULT;
    memcpy(to, data, size);
    return SOFT_OK;
}

enum soft_result mmu_probe_store(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                 unsigned size)
{
    return at(cpu, segment, offset, size, true) ? SOFT_OK : SOFT_FAULT;
}

enum soft_result mmu_probe_load(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                unsigned size)
{
    return at(cpu, segment, offset, size, false) ? SOFT_OK : SOFT_FAULT;
}

enum soft_result mmu_linear(struct soft_cpu *cpu, unsigned segment, uint64_t offset, unsigned size,
                            enum mmu_access access, gva_t *ret)
{
    (void)size;
    (void)access;
    *ret = offset + cpu->segment[segment].base;
    return SOFT_OK;
}

enum soft_result mmu_load_system(struct soft_cpu *cpu, gva_t address, void *data, unsigned size)
{
    (void)address;
    (void)data;
    (void)size;
    return fault_raise(cpu, CPU_VECTOR_PF);
}

void mmu_written_host(struct soft_cpu *cpu, const uint8_t *host, unsigned length)
{
    (void)cpu;
    (void)host;
    (void)length;
}

/* Set-up. */

static void set_features(void)
{
    uint32_t a, b, c, d, ext_c;

    memset(harness.vm.features, 1, sizeof(harness.vm.features));
    __cpuid(0x80000001, a, b, ext_c, d);
    harness.vm.features[INSN_FEATURE_SSE4A] = ext_c >> 6 & 1;
    __cpuid_count(7, 0, a, b, c, d);
    harness.vm.features[INSN_FEATURE_SHA] = b >> 29 & 1;
    harness.vm.features[INSN_FEATURE_GFNI] = c >> 8 & 1;
    harness.vm.features[INSN_FEATURE_VAES] = c >> 9 & 1;
    harness.vm.features[INSN_FEATURE_VPCLMULQDQ] = c >> 10 & 1;
    __cpuid_count(13, 1, a, b, c, d);
    harness.vm.features[INSN_FEATURE_XSAVEC] = a >> 1 & 1;
}

bool harness_init(void)
{
    static struct mmu_entry no_entries[MMU_DATA_ENTRIES];
    struct soft_cpu *cpu = &harness.cpu;
    struct err err = ERR_INIT;

    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
        printf("SKIP: the oracle needs a host with AVX2 and FMA\n");
        return false;
    }
    if (native_init() < 0 || (cpu->vm = &harness.vm, fpu_init(cpu, &err)) < 0) {
        printf("no executable memory: %s\n", err.message);
        return false;
    }
    harness.arena = mmap(NULL, HARNESS_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                         -1, 0);
    if (harness.arena == MAP_FAILED)
        return false;
    mprotect(harness.arena + HARNESS_WRITABLE, HARNESS_PAGE, PROT_READ);
    mprotect(harness.arena + HARNESS_READABLE, HARNESS_PAGE, PROT_NONE);
    harness.random = UINT64_C(0x9e3779b97f4a7c15);
    set_features();
    cpu->cr0 = CPU_CR0_PE | CPU_CR0_MP | CPU_CR0_NE | CPU_CR0_PG;
    cpu->cr4 = CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT | CPU_CR4_OSXSAVE;
    cpu->xcr0 = CPU_XCR0_SUPPORTED;
    cpu->mode = SOFT_MODE_LONG64;
    cpu->cpl = 3;
    cpu->flat_segments = true;
    cpu->mmu.data = no_entries;
    cpu->mmu.tag[0] = cpu->mmu.tag[1] = MMU_TAG_NEVER;
    __asm__("mov %%cs, %0" : "=r"(cpu->segment[CPU_CS].selector));
    __asm__("mov %%ds, %0" : "=r"(cpu->segment[CPU_DS].selector));
    __asm__("mov %%ss, %0" : "=r"(cpu->segment[CPU_SS].selector));
    return true;
}

soft_handler_fn *harness_handler(enum insn_id id)
{
    static soft_handler_fn *table[INSN_NR_IDS];

    if (!table[INSN_ADDPS])
        fpu_handlers_fill(table);
    return table[id];
}

/* Operands. */

uint64_t harness_random(void)
{
    uint64_t z = harness.random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t random_lane(unsigned style)
{
    static const uint64_t f64[] = {0,
                                   UINT64_C(0x8000000000000000),
                                   UINT64_C(0x7ff0000000000000),
                                   UINT64_C(0xfff0000000000000),
                                   UINT64_C(0x7ff8000000000001),
                                   UINT64_C(0x7ff0000000000001),
                                   UINT64_C(0xfff4000000000000),
                                   1,
                                   UINT64_C(0x000fffffffffffff),
                                   UINT64_C(0x0010000000000000),
                                   UINT64_C(0x7fefffffffffffff),
                                   UINT64_C(0x3ff0000000000000),
                                   UINT64_C(0x43e0000000000000),
                                   UINT64_C(0xc1e0000000000000),
                                   UINT64_C(0x3ca0000000000000),
                                   UINT64_C(0x3fe0000000000000)};
    static const uint32_t f32[] = {0,          0x80000000, 0x7f800000, 0xff800000,
                                   0x7fc00001, 0x7f800001, 0xffa00000, 1,
                                   0x007fffff, 0x00800000, 0x7f7fffff, 0x3f800000,
                                   0x4f000000, 0xcf000000, 0x33800000, 0x3f000000};
    uint64_t r = harness_random();

    switch (style) {
    case 0:
        return f64[r & 15];
    case 1:
        return f32[r & 15] | (uint64_t)f32[r >> 8 & 15] << 32;
    case 2: /* doubles of like size, exact sums */
        return (r & UINT64_C(0x800fffff00000000)) | UINT64_C(0x3ff0000000000000);
    case 3:
        return (r & UINT64_C(0x807ff000807ff000)) | UINT64_C(0x3f8000003f800000);
    case 4: /* tiny */
        return r & UINT64_C(0x803fffff803fffff);
    default:
        return r;
    }
}

static void random_vector(uint8_t *to, unsigned size)
{
    unsigned style = (unsigned)(harness_random() % 8);

    for (unsigned i = 0; i < size; i += 8)
        store_le64(to + i, random_lane(style == 7 ? (unsigned)(harness_random() % 7) : style));
}

static void random_st(struct fpu_st *st)
{
    static const uint16_t exponents[] = {0,      0x7fff, 0x3fff, 0x3ffe, 0x4000, 0x403e, 1, 0x7ffe,
                                         0x3c01, 0x3f81, 0x43fe, 0x407e, 0x4010, 0x3fc0, 0, 0x7fff};
    uint64_t r = harness_random();

    st->exponent = (uint16_t)(exponents[r & 15] | (r >> 4 & 1) << 15);
    st->mantissa = harness_random();
    if ((r >> 8 & 7) == 0)
        st->mantissa = UINT64_C(0x8000000000000000);
    else if ((r >> 8 & 7) == 1)
        st->mantissa &= UINT64_C(0xffffff0000000000);
    else if ((r >> 8 & 7) == 2)
        st->mantissa = 0;
    if ((r >> 12 & 15) != 0 && (st->exponent & 0x7fff))
        st->mantissa |= UINT64_C(1) << 63;
    if ((st->exponent & 0x7fff) == 0 && (r >> 16 & 3))
        st->mantissa &= UINT64_MAX >> 1;
}

static void randomise_x87(struct fpu_area *area, bool wild)
{
    uint64_t r = harness_random();

    for (unsigned i = 0; i < 8; i++)
        random_st(&area->st[i]);
    area->fcw = FPU_FCW_DEFAULT;
    area->ftw = 0;
    if (!wild)
        return;
    area->fcw = (uint16_t)(0x7f | (r & 0xf00));
    if ((r >> 12 & 7) == 0)
        area->fcw &= (uint16_t)(0xffc0 | (r >> 16 & 0x3f));
    area->fsw = (uint16_t)(r >> 24 & 0x7f00);
    if ((r >> 40 & 3) == 0)
        area->fsw |= (uint16_t)(r >> 44 & 0x7f);
    if ((r >> 51 & 7) || (area->fcw & 0x3f) == 0x3f)
        area->fsw &= (uint16_t)(0xffc0 | (area->fcw & 0x3f)); /* mostly nothing pending */
    if (area->fsw & ~area->fcw & 0x3f)
        area->fsw |= 0x8080;
    area->ftw = (r >> 54 & 3) ? 0xff : (uint8_t)(r >> 56);
}

void harness_randomise(struct native_state *state, bool x87)
{
    uint64_t r = harness_random();

    memset(state, 0, sizeof(*state));
    for (unsigned i = 0; i < 16; i++) {
        random_vector(state->area.xmm[i], 16);
        random_vector(state->area.ymm_high[i], 16);
        state->gpr[i] = random_lane((unsigned)(harness_random() % 8));
    }
    if ((r & 7) == 0)
        memset(state->area.xmm[r >> 3 & 15], 0, 16);
    state->gpr[CPU_RSP] = (uint64_t)(uintptr_t)harness.arena + 1024;
    state->area.mxcsr = FPU_MXCSR_DEFAULT;
    if ((r >> 8 & 1) == 0)
        state->area.mxcsr |= (uint32_t)(r >> 9) & 0xe07f;
    if ((r >> 26 & 7) == 0)
        state->area.mxcsr &= ~((uint32_t)(r >> 29) & 0x1f80);
    state->rflags = r >> 40 & CPU_FLAGS_STATUS;
    randomise_x87(&state->area, x87);
}

void harness_randomise_arena(void)
{
    for (unsigned i = 0; i < HARNESS_READABLE; i += 64)
        random_vector(harness.copy + i, 64);
    mprotect(harness.arena + HARNESS_WRITABLE, HARNESS_PAGE, PROT_READ | PROT_WRITE);
    memcpy(harness.arena, harness.copy, HARNESS_READABLE);
    mprotect(harness.arena + HARNESS_WRITABLE, HARNESS_PAGE, PROT_READ);
}

/* Comparison. */

static int run_handler(const struct insn *insn)
{
    soft_handler_fn *run = harness_handler((enum insn_id)insn->id);

    switch (run(&harness.cpu, insn)) {
    case SOFT_OK:
        return NATIVE_OK;
    case SOFT_FAULT:
        return harness.cpu.fault.vector;
    default:
        return 1000;
    }
}

static const char *compare_x87(const struct fpu_area *ours, const struct fpu_area *host)
{
    if (ours->fcw != host->fcw)
        return "FCW";
    if (ours->fsw != host->fsw)
        return "FSW";
    if (ours->ftw != host->ftw)
        return "FTW";
    for (unsigned i = 0; i < 8; i++)
        if (memcmp(&ours->st[i], &host->st[i], 10) != 0)
            return "ST";
    return NULL;
}

/* DPPS, DPPD: an exact tiny product inside is not seen. */
static bool is_dot_product(const struct insn *insn)
{
    return insn->map == 3 && (insn->opcode & 0xfe) == 0x40;
}

/*
 * Flags that may differ when #XM was raised: PE beside an unmasked overflow or underflow, because
 * we do not have the result of unbounded exponent; all of a dot product, which stops at its first
 * step.
 */
static uint32_t tolerated_mxcsr(const struct insn *insn, uint32_t mxcsr, int vector)
{
    if (vector != CPU_VECTOR_XM)
        return 0;
    if (is_dot_product(insn))
        return 0x3f;
    return mxcsr & ~(mxcsr >> 7) & 0x18 ? 0x20 : 0;
}

static const char *compare_registers(const struct insn *insn, const struct native_state *host,
                                     int vector)
{
    const struct soft_cpu *cpu = &harness.cpu;
    uint64_t undefined = insn->flags_undefined;
    uint64_t flags = CPU_FLAGS_STATUS;

    flags &= ~((undefined & 0xd5) | (undefined & 8 ? CPU_FLAG_OF : 0));
    for (unsigned i = 0; i < 16; i++)
        if (cpu->gpr[i] != host->gpr[i])
            return "general register";
    if ((cpu->rflags ^ host->rflags) & flags)
        return "flags";
    if ((cpu->fpu.area.mxcsr ^ host->area.mxcsr) & ~tolerated_mxcsr(insn, host->area.mxcsr, vector))
        return "MXCSR";
    if (memcmp(cpu->fpu.area.xmm, host->area.xmm, sizeof(host->area.xmm)) != 0)
        return "XMM";
    if (memcmp(cpu->fpu.area.ymm_high, host->area.ymm_high, sizeof(host->area.ymm_high)) != 0)
        return "upper half of YMM";
    return compare_x87(&cpu->fpu.area, &host->area);
}

/* FIP, FOP and FDP, where the host showed them. */
static const char *compare_env(const struct native_state *host)
{
    const struct fpu_area *ours = &harness.cpu.fpu.area;

    /* A context switch in between loses them: the selectors always, the rest on AMD while no
     * exception is pending. */
    if (!load_le32(host->env + 12) || !load_le16(host->env + 16))
        return NULL;
    if (load_le32(host->env + 12) != (uint32_t)ours->fip)
        return "FIP";
    if ((load_le16(host->env + 18) & 0x7ff) != ours->fop)
        return "FOP";
    if (load_le32(host->env + 20) != (uint32_t)ours->fdp)
        return "FDP";
    if (load_le16(host->env + 16) != harness.cpu.fpu.fcs)
        return "FCS";
    return load_le16(host->env + 24) != harness.cpu.fpu.fds ? "FDS" : NULL;
}

const char *harness_compare(const uint8_t *bytes, const struct insn *insn,
                            const struct native_state *state, int *ret_vector)
{
    struct soft_cpu *cpu = &harness.cpu;
    struct native_state host = *state;
    const char *differs;
    int ours;

    *ret_vector = native_run(bytes, insn->length, &host);
    harness.host = host;
    cpu->fpu.area = state->area;
    cpu->fpu.area.xstate_bv = CPU_XCR0_SUPPORTED;
    cpu->fpu.fcs = cpu->fpu.fds = 0;
    memcpy(cpu->gpr, state->gpr, sizeof(cpu->gpr));
    cpu->rflags = state->rflags | CPU_FLAG_ONE;
    cpu->rip = native_rip();
    cpu->next_rip = cpu->rip + insn->length;
    ours = run_handler(insn);
    if (__builtin_ia32_stmxcsr() != FPU_MXCSR_DEFAULT)
        return "the host's own MXCSR";
    if (ours == CPU_VECTOR_GP && (host.area.mxcsr & ~FPU_MXCSR_MASK))
        return NULL; /* MXCSR.MM of AMD, which the guest is not offered */
    if (*ret_vector == CPU_VECTOR_XM && is_dot_product(insn) && (host.area.mxcsr & 0x10))
        return NULL;
    if (ours != *ret_vector)
        return "exception";
    if (ours == CPU_VECTOR_PF && insn->mem.vsib)
        return NULL; /* which elements beyond the faulting one are done is the processor's choice */
    differs = compare_registers(insn, &host, *ret_vector);
    if (!differs && (insn->traits & INSN_TRAIT_X87) && ours == NATIVE_OK)
        differs = compare_env(&host);
    if (!differs && memcmp(harness.arena, harness.copy, HARNESS_READABLE) != 0)
        differs = "memory";
    return differs;
}
