/* SPDX-License-Identifier: Apache-2.0 */
/* Page walks: every paging mode, permissions and error codes, accessed and dirty bits, garbage. */
#include "../cpu_fixture.h"
#include "testing.h"

#define P 1u
#define W 2u
#define U 4u
#define R 8u
#define I 16u

#define GVA UINT64_C(0x0000123456789000)
#define GPA UINT64_C(0x00300000)

struct access_case {
    uint64_t flags; /* of the leaf */
    uint64_t upper; /* of the tables above */
    uint64_t cr0_clear, cr4, rflags;
    bool user;
    enum mmu_access access;
    int error; /* -1: allowed */
};

/* SDM 3A 4.6.1, 4.7 */
static const struct access_case cases[] = {
    {0, P | W | U, 0, 0, 0, false, MMU_READ, 0},
    {0, P | W | U, 0, 0, 0, true, MMU_WRITE, W | U},
    {0, P | W | U, 0, 0, 0, true, MMU_FETCH, U | I},
    {P | W | U, P | W | U, 0, 0, 0, true, MMU_WRITE, -1},
    {P | U, P | W | U, 0, 0, 0, true, MMU_WRITE, P | W | U},
    {P | W | U, P | U, 0, 0, 0, true, MMU_WRITE, P | W | U},
    {P | W, P | W | U, 0, 0, 0, true, MMU_READ, P | U},
    {P | W | U, P | W, 0, 0, 0, true, MMU_READ, P | U},
    {P, P | W | U, 0, 0, 0, false, MMU_WRITE, P | W},
    {P, P | W | U, CPU_CR0_WP, 0, 0, false, MMU_WRITE, -1},
    {P | U | PTE_NX, P | W | U, 0, 0, 0, true, MMU_FETCH, P | U | I},
    {P | PTE_NX, P | W | U, 0, 0, 0, false, MMU_FETCH, P | I},
    {P | U | PTE_NX, P | W | U, 0, 0, 0, true, MMU_READ, -1},
    {P | W | U, P | W | U, 0, CPU_CR4_SMEP, 0, false, MMU_FETCH, P | I},
    {P | W | U, P | W | U, 0, 0, 0, false, MMU_FETCH, -1},
    {P | W | U, P | W | U, 0, CPU_CR4_SMAP, 0, false, MMU_READ, P},
    {P | W | U, P | W | U, 0, CPU_CR4_SMAP, 0, false, MMU_WRITE, P | W},
    {P | W | U, P | W | U, 0, CPU_CR4_SMAP, CPU_FLAG_AC, false, MMU_WRITE, -1},
    {P | W, P | W | U, 0, CPU_CR4_SMAP, 0, false, MMU_WRITE, -1},
    {P | W | U | UINT64_C(1) << 41, P | W | U, 0, 0, 0, false, MMU_READ, P | R},
    {P | W | U | UINT64_C(1) << 52, P | W | U, 0, 0, 0, false, MMU_READ, -1}, /* ignored bit */
};

static enum soft_result access_page(struct fixture *f, const struct access_case *c, gva_t gva)
{
    uint32_t value = 0;
    uint8_t bytes[4];
    unsigned length;
    gpa_t gpa;

    switch (c->access) {
    case MMU_READ:
        return mmu_load32(f->cpu, CPU_DS, gva, &value);
    case MMU_WRITE:
        return mmu_store32(f->cpu, CPU_DS, gva, value);
    default:
        return mmu_fetch(f->cpu, gva, bytes, 4, &length, &gpa);
    }
}

START_TEST(permissions)
{
    const struct access_case *c = &cases[_i];
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;

    fixture_long(f, c->user ? 3 : 0);
    cpu->cr0 &= ~c->cr0_clear;
    cpu->cr4 |= c->cr4;
    cpu->rflags |= c->rflags;
    fixture_map(f, GVA, GPA, 12, c->flags, c->upper);
    mmu_flush_all(cpu);
    soft_cpu_update_mode(cpu);
    for (unsigned round = 0; round < 2; round++) { /* walk, then TLB */
        enum soft_result result = access_page(f, c, GVA + 8);

        if (c->error < 0) {
            ck_assert_int_eq(result, SOFT_OK);
            continue;
        }
        ck_assert_int_eq(result, SOFT_FAULT);
        ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_PF);
        ck_assert_uint_eq(cpu->fault.error, (uint32_t)c->error);
        ck_assert_uint_eq(cpu->fault.cr2, GVA + 8);
    }
    if (c->error >= 0)
        ck_assert_uint_eq(peek(f, fixture_leaf(f, GVA), 8) & (PTE_A | PTE_D), 0);
    fixture_free(f);
}
END_TEST

START_TEST(accessed_and_dirty)
{
    struct fixture *f = fixture_new();
    uint64_t value;

    fixture_long(f, 0);
    fixture_map(f, GVA, GPA, 12, PTE_P | PTE_W, PTE_P | PTE_W);
    ck_assert_int_eq(mmu_load64(f->cpu, CPU_DS, GVA, &value), SOFT_OK);
    ck_assert_uint_eq(peek(f, fixture_leaf(f, GVA), 8) & (PTE_A | PTE_D), PTE_A);
    ck_assert_int_eq(mmu_store64(f->cpu, CPU_DS, GVA, 5), SOFT_OK);
    ck_assert_uint_eq(peek(f, fixture_leaf(f, GVA), 8) & (PTE_A | PTE_D), PTE_A | PTE_D);
    ck_assert_uint_eq(peek(f, GPA, 8), 5);
    /* the tables above are marked too */
    ck_assert_uint_ne(peek(f, f->cpu->cr3 + (GVA >> 39) * 8, 8) & PTE_A, 0);
    fixture_free(f);
}
END_TEST

START_TEST(large_pages)
{
    struct fixture *f = fixture_new();
    uint64_t value;

    fixture_long(f, 0);
    fixture_map(f, UINT64_C(0xffff800000000000), 0, 30, PTE_P | PTE_W, PTE_P | PTE_W);
    fixture_map(f, UINT64_C(0xffff900000200000), 0x600000, 21, PTE_P | PTE_W, PTE_P | PTE_W);
    poke(f, 0x345678, 0x1111, 8);
    poke(f, 0x612340, 0x2222, 8);
    ck_assert_int_eq(mmu_load64(f->cpu, CPU_DS, UINT64_C(0xffff800000345678), &value), SOFT_OK);
    ck_assert_uint_eq(value, 0x1111);
    ck_assert_int_eq(mmu_load64(f->cpu, CPU_DS, UINT64_C(0xffff900000212340), &value), SOFT_OK);
    ck_assert_uint_eq(value, 0x2222);
    /* reserved bits: 20:13 of a 2 MiB entry */
    fixture_map(f, UINT64_C(0xffff900000400000), 0x604000, 21, PTE_P | PTE_W, PTE_P | PTE_W);
    ck_assert_int_eq(mmu_load64(f->cpu, CPU_DS, UINT64_C(0xffff900000400000), &value), SOFT_FAULT);
    ck_assert_uint_eq(f->cpu->fault.error, P | R);
    fixture_free(f);
}
END_TEST

START_TEST(no_execute_is_reserved_without_nxe)
{
    struct fixture *f = fixture_new();
    uint64_t value;

    fixture_long(f, 0);
    f->cpu->efer &= ~CPU_EFER_NXE;
    fixture_map(f, GVA, GPA, 12, PTE_P | PTE_NX, PTE_P | PTE_W);
    ck_assert_int_eq(mmu_load64(f->cpu, CPU_DS, GVA, &value), SOFT_FAULT);
    ck_assert_uint_eq(f->cpu->fault.error, P | R);
    fixture_free(f);
}
END_TEST

/* 32-bit paging: 4 KiB and 4 MiB pages, PSE-36 bits. */
START_TEST(legacy_paging)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    uint32_t value;

    fixture_protected(f, 0);
    cpu->cr3 = 0x200000;
    cpu->cr4 |= CPU_CR4_PSE;
    cpu->cr0 |= CPU_CR0_PG;
    poke(f, 0x200000 + 4 * (0xc0000000u >> 22), 0x201000 | PTE_P | PTE_W, 4);
    poke(f, 0x201000 + 4 * 5, GPA | PTE_P | PTE_W, 4);
    poke(f, 0x200000 + 4 * (0xc0400000u >> 22), 0x400000 | PTE_P | PTE_PS, 4);
    poke(f, 0x200000 + 4 * (0xc0800000u >> 22), 0x400000 | PTE_P | PTE_PS | 1u << 21, 4);
    poke(f, 0x200000 + 4 * (0xc0c00000u >> 22), 0x400000 | PTE_P | PTE_PS | 1u << 13, 4);
    mmu_flush_all(cpu);
    soft_cpu_update_mode(cpu);
    ck_assert_int_eq(mmu_store32(cpu, CPU_DS, 0xc0005010, 77), SOFT_OK);
    ck_assert_uint_eq(peek(f, GPA + 0x10, 4), 77);
    ck_assert_uint_eq(peek(f, 0x201000 + 4 * 5, 4), GPA | PTE_P | PTE_W | PTE_A | PTE_D);
    poke(f, 0x400000 + 0x54320, 99, 4);
    ck_assert_int_eq(mmu_load32(cpu, CPU_DS, 0xc0454320, &value), SOFT_OK);
    ck_assert_uint_eq(value, 99);
    ck_assert_int_eq(mmu_load32(cpu, CPU_DS, 0xc0800000, &value), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.error, P | R);
    ck_assert_int_eq(mmu_load32(cpu, CPU_DS, 0xc0c00004, &value), SOFT_OK); /* above 4 GiB: MMIO */
    ck_assert_uint_eq(f->access[0].address, UINT64_C(0x100400004));
    ck_assert_int_eq(mmu_load32(cpu, CPU_DS, 0xd0000000, &value), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.error, 0);
    fixture_free(f);
}
END_TEST

START_TEST(pae_paging)
{
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    uint32_t value;

    fixture_protected(f, 0);
    cpu->cr3 = 0x200020; /* 32-byte aligned */
    cpu->cr4 |= CPU_CR4_PAE;
    cpu->cr0 |= CPU_CR0_PG;
    poke(f, 0x200020 + 8 * 3, 0x201000 | PTE_P, 8); /* no R/W or U/S bits here */
    poke(f, 0x201000 + 8 * 0, 0x202000 | PTE_P | PTE_W, 8);
    poke(f, 0x202000 + 8 * 7, GPA | PTE_P | PTE_W, 8);
    poke(f, 0x201000 + 8 * 1, 0x400000 | PTE_P | PTE_W | PTE_PS, 8);
    poke(f, 0x200020 + 8 * 2, 0x201000 | PTE_P | PTE_W, 8); /* reserved in a PDPTE */
    mmu_flush_all(cpu);
    soft_cpu_update_mode(cpu);
    ck_assert_int_eq(mmu_store32(cpu, CPU_DS, 0xc0007010, 77), SOFT_OK);
    ck_assert_uint_eq(peek(f, GPA + 0x10, 4), 77);
    ck_assert_uint_eq(peek(f, 0x200020 + 8 * 3, 8), 0x201000 | PTE_P);
    ck_assert_int_eq(mmu_store32(cpu, CPU_DS, 0xc0200010, 78), SOFT_OK);
    ck_assert_uint_eq(peek(f, 0x400010, 4), 78);
    ck_assert_int_eq(mmu_load32(cpu, CPU_DS, 0x80007010, &value), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.error, P | R);
    fixture_free(f);
}
END_TEST

START_TEST(walk_without_side_effects)
{
    struct fixture *f = fixture_new();
    gpa_t gpa;

    fixture_long(f, 3);
    fixture_map(f, GVA, GPA, 12, PTE_P, PTE_P);
    ck_assert_int_eq(mmu_translate_debug(f->cpu, GVA + 0x123, &gpa), 0);
    ck_assert_uint_eq(gpa, GPA + 0x123);
    ck_assert_uint_eq(peek(f, fixture_leaf(f, GVA), 8) & PTE_A, 0);
    ck_assert_int_ne(mmu_translate_debug(f->cpu, GVA + 0x1000, &gpa), 0);
    fixture_free(f);
}
END_TEST

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Tables full of garbage, in every paging mode: accesses fault, hit RAM or the bus; nothing else is
 * touched (the sanitizers watch), and the bus sees only addresses outside RAM. */
START_TEST(garbage_tables)
{
    static const uint64_t cr4s[] = {0, CPU_CR4_PSE, CPU_CR4_PAE, CPU_CR4_PAE | CPU_CR4_SMAP};
    struct fixture *f = fixture_new();
    struct soft_cpu *cpu = f->cpu;
    uint64_t seed = UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)_i, value;
    unsigned faults = 0, ok = 0, entry_size = _i & 6 ? 8 : 4;

    if (_i & 4)
        fixture_long(f, 0);
    else
        fixture_protected(f, 0);
    cpu->cr4 = cr4s[_i & 3] | (_i & 4 ? CPU_CR4_PAE : 0);
    cpu->cr0 |= CPU_CR0_PG;
    for (gpa_t at = 0x20000; at < 0x80000; at += entry_size) {
        uint64_t entry = next_random(&seed), kind = next_random(&seed) % 8;

        /* mostly another table or page of RAM, or of the neighbourhood; else anything at all */
        if (kind < 5)
            entry = (0x20000 + entry % 0x60 * 0x1000) | (entry >> 32 & 7) | 1;
        else if (kind < 7)
            entry &= UINT64_C(0x1ffff67);
        poke(f, at, entry, entry_size);
    }
    for (unsigned i = 0; i < 20000; i++) {
        gva_t gva = next_random(&seed);

        if (i % 64 == 0) {
            cpu->cr3 = 0x20000 + (next_random(&seed) % 0x60) * 0x1000;
            mmu_cr3_loaded(cpu, i & 64);
        }
        gva = _i & 4 ? (uint64_t)((int64_t)(gva << 16) >> 16) : (uint32_t)gva;
        f->nr_accesses = 0;
        if ((i & 1 ? mmu_load64(cpu, CPU_DS, gva, &value) : mmu_store64(cpu, CPU_DS, gva, seed)) ==
            SOFT_OK)
            ok++;
        else
            faults++;
        for (unsigned n = 0; n < f->nr_accesses; n++)
            ck_assert_ptr_null(memory_slot_find(f->memory, f->access[n].address));
    }
    ck_assert_uint_gt(faults, 100);
    ck_assert_uint_gt(ok, 10);
    fixture_free(f);
}
END_TEST

TEST_MAIN("soft walk", tcase_add_loop_test(tcase, permissions, 0, ARRAY_LEN(cases));
          tcase_add_test(tcase, accessed_and_dirty); tcase_add_test(tcase, large_pages);
          tcase_add_test(tcase, no_execute_is_reserved_without_nxe);
          tcase_add_test(tcase, legacy_paging); tcase_add_test(tcase, pae_paging);
          tcase_add_test(tcase, walk_without_side_effects);
          tcase_add_loop_test(tcase, garbage_tables, 0, 8);)
