/* SPDX-License-Identifier: Apache-2.0 */
/* What the TLB may keep and must forget, and the inline path's rules. */
#include "../cpu_fixture.h"
#include "testing.h"

#include <pthread.h>

#define GVA   UINT64_C(0x0000123456789000)
#define UPPER UINT64_C(0xffff888000000000)
#define PAGE1 UINT64_C(0x300000)
#define PAGE2 UINT64_C(0x301000)

static uint64_t load(struct fixture *f, gva_t gva)
{
    uint64_t value = 0;

    ck_assert_int_eq(mmu_load64(f->cpu, CPU_DS, gva, &value), SOFT_OK);
    return value;
}

static struct fixture *prepared(unsigned cpl)
{
    struct fixture *f = fixture_new();

    fixture_long(f, cpl);
    poke(f, PAGE1, 1, 8);
    poke(f, PAGE2, 2, 8);
    return f;
}

static void remap(struct fixture *f, gva_t gva, gpa_t gpa, uint64_t flags)
{
    fixture_map(f, gva, gpa, 12, flags, PTE_P | PTE_W | PTE_U);
}

/* A stale entry is served (so it is a TLB), until INVLPG. */
START_TEST(invlpg)
{
    struct fixture *f = prepared(0);

    remap(f, GVA, PAGE1, PTE_P | PTE_W);
    ck_assert_uint_eq(load(f, GVA), 1);
    remap(f, GVA, PAGE2, PTE_P | PTE_W);
    ck_assert_uint_eq(load(f, GVA), 1);
    mmu_flush_page(f->cpu, GVA + 0xfff);
    ck_assert_uint_eq(load(f, GVA), 2);
    fixture_free(f);
}
END_TEST

START_TEST(invlpg_in_large_page)
{
    struct fixture *f = prepared(0);
    gva_t gva = UPPER + 0x200000;

    fixture_map(f, gva, 0x200000, 21, PTE_P | PTE_W | PTE_G, PTE_P | PTE_W);
    ck_assert_uint_eq(load(f, gva + 0x100000), 1);
    fixture_map(f, gva, 0x400000, 21, PTE_P | PTE_W | PTE_G, PTE_P | PTE_W);
    poke(f, 0x500000, 7, 8);
    mmu_flush_page(f->cpu, gva + 0x1000); /* another 4 KiB of the same page */
    ck_assert_uint_eq(load(f, gva + 0x100000), 7);
    fixture_free(f);
}
END_TEST

START_TEST(cr3_load_keeps_global_pages_only)
{
    struct fixture *f = prepared(0);

    remap(f, GVA, PAGE1, PTE_P | PTE_W);
    remap(f, UPPER, PAGE1, PTE_P | PTE_W | PTE_G);
    load(f, GVA);
    load(f, UPPER);
    remap(f, GVA, PAGE2, PTE_P | PTE_W);
    remap(f, UPPER, PAGE2, PTE_P | PTE_W | PTE_G);
    mmu_cr3_loaded(f->cpu, false);
    ck_assert_uint_eq(load(f, GVA), 2);
    ck_assert_uint_eq(load(f, UPPER), 1);
    mmu_flush_all(f->cpu);
    ck_assert_uint_eq(load(f, UPPER), 2);
    fixture_free(f);
}
END_TEST

START_TEST(cr3_load_drops_private_upper_pages)
{
    struct fixture *f = prepared(0);

    remap(f, UPPER, PAGE1, PTE_P | PTE_W);
    load(f, UPPER);
    remap(f, UPPER, PAGE2, PTE_P | PTE_W);
    mmu_cr3_loaded(f->cpu, false);
    ck_assert_uint_eq(load(f, UPPER), 2);
    fixture_free(f);
}
END_TEST

/* MOV CR3 with and without the no-flush bit, under PCIDs; INVPCID in its four types. */
START_TEST(pcid)
{
    struct fixture *f = prepared(0);
    struct soft_cpu *cpu = f->cpu;
    uint64_t cr3 = cpu->cr3, keep = UINT64_C(1) << 63;

    cpu->cr4 |= CPU_CR4_PCIDE;
    mmu_flush_all(cpu);
    soft_cpu_update_mode(cpu);
    remap(f, GVA, PAGE1, PTE_P | PTE_W);
    load(f, GVA); /* PCID 0 */
    remap(f, GVA, PAGE2, PTE_P | PTE_W);
    cpu->gpr[CPU_RAX] = cr3 | 5;
    ck_assert_int_eq(fixture_run(f, "0f 22 d8"), SOFT_OK);
    ck_assert_uint_eq(cpu->cr3, cr3 | 5);
    cpu->gpr[CPU_RAX] = cr3 | keep;
    ck_assert_int_eq(fixture_run(f, "0f 22 d8"), SOFT_OK);
    ck_assert_uint_eq(cpu->cr3, cr3);
    ck_assert_uint_eq(load(f, GVA), 1); /* PCID 0 was kept */
    cpu->gpr[CPU_RAX] = cr3 | 5 | keep;
    ck_assert_int_eq(fixture_run(f, "0f 22 d8"), SOFT_OK);
    ck_assert_uint_eq(load(f, GVA), 2); /* another PCID: its entries are not those of 0 */
    cpu->gpr[CPU_RAX] = cr3;
    ck_assert_int_eq(fixture_run(f, "0f 22 d8"), SOFT_OK);
    ck_assert_uint_eq(load(f, GVA), 2);

    for (unsigned type = 0; type < 4; type++) { /* invpcid (%rdi), %rax */
        remap(f, GVA, PAGE1, PTE_P | PTE_W);
        mmu_flush_all(cpu);
        load(f, GVA);
        remap(f, GVA, PAGE2, PTE_P | PTE_W);
        poke(f, 0xc000, 0, 8);
        poke(f, 0xc008, GVA, 8);
        cpu->gpr[CPU_RAX] = type;
        cpu->gpr[CPU_RDI] = 0xc000;
        ck_assert_int_eq(fixture_run(f, "66 0f 38 82 07"), SOFT_OK);
        ck_assert_uint_eq(load(f, GVA), 2);
    }
    cpu->gpr[CPU_RAX] = 4;
    ck_assert_int_eq(fixture_run(f, "66 0f 38 82 07"), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_GP);
    fixture_free(f);
}
END_TEST

START_TEST(invpcid_of_another_pcid)
{
    struct fixture *f = prepared(0);
    struct soft_cpu *cpu = f->cpu;
    uint64_t cr3 = cpu->cr3;

    cpu->cr4 |= CPU_CR4_PCIDE;
    mmu_flush_all(cpu);
    remap(f, GVA, PAGE1, PTE_P | PTE_W);
    load(f, GVA);
    remap(f, GVA, PAGE2, PTE_P | PTE_W);
    cpu->cr3 = cr3 | 5;
    mmu_cr3_loaded(cpu, true);
    mmu_flush_pcid(cpu, 0);
    cpu->cr3 = cr3;
    mmu_cr3_loaded(cpu, true);
    ck_assert_uint_eq(load(f, GVA), 2);
    fixture_free(f);
}
END_TEST

/* Thousands of switches: the numbers wrap, and nothing stale comes back. */
START_TEST(numbers_wrap)
{
    struct fixture *f = prepared(0);

    for (unsigned i = 0; i < 10000; i++) {
        remap(f, GVA, i & 1 ? PAGE1 : PAGE2, PTE_P | PTE_W);
        remap(f, UPPER, i & 1 ? PAGE1 : PAGE2, PTE_P | PTE_W);
        mmu_cr3_loaded(f->cpu, false);
        ck_assert_uint_eq(load(f, GVA), i & 1 ? 1 : 2);
        ck_assert_uint_eq(load(f, UPPER), i & 1 ? 1 : 2);
    }
    fixture_free(f);
}
END_TEST

/* A page cached for the supervisor is not thereby the user's; STAC and CLAC switch at once. */
START_TEST(contexts)
{
    struct fixture *f = prepared(0);
    struct soft_cpu *cpu = f->cpu;
    uint64_t value;

    cpu->cr4 |= CPU_CR4_SMAP;
    soft_cpu_update_mode(cpu);
    remap(f, GVA, PAGE1, PTE_P | PTE_W | PTE_U);
    remap(f, GVA + 0x1000, PAGE2, PTE_P | PTE_W);
    ck_assert_int_eq(mmu_load64(cpu, CPU_DS, GVA, &value), SOFT_FAULT);
    ck_assert_int_eq(fixture_run(f, "0f 01 cb"), SOFT_OK); /* stac */
    ck_assert_int_eq(mmu_load64(cpu, CPU_DS, GVA, &value), SOFT_OK);
    ck_assert_int_eq(fixture_run(f, "0f 01 ca"), SOFT_OK); /* clac */
    ck_assert_int_eq(mmu_load64(cpu, CPU_DS, GVA, &value), SOFT_FAULT);
    ck_assert_uint_eq(load(f, GVA + 0x1000), 2);
    cpu->segment[CPU_SS].attributes |= 3 << 5;
    soft_cpu_update_mode(cpu);
    ck_assert_uint_eq(cpu->cpl, 3);
    ck_assert_int_eq(mmu_load64(cpu, CPU_DS, GVA + 0x1000, &value), SOFT_FAULT);
    ck_assert_uint_eq(load(f, GVA), 1);
    fixture_free(f);
}
END_TEST

/* A store that crosses into a page it may not write changes neither; one that may changes both. */
START_TEST(page_crossing)
{
    struct fixture *f = prepared(0);
    uint64_t value;

    remap(f, GVA, PAGE1, PTE_P | PTE_W);
    remap(f, GVA + 0x1000, 0x310000, PTE_P);
    poke(f, PAGE1 + 0xff8, 0, 8);
    ck_assert_int_eq(mmu_store64(f->cpu, CPU_DS, GVA + 0xffc, UINT64_MAX), SOFT_FAULT);
    ck_assert_uint_eq(f->cpu->fault.cr2, GVA + 0x1000);
    ck_assert_uint_eq(peek(f, PAGE1 + 0xff8, 8), 0);
    remap(f, GVA + 0x1000, 0x310000, PTE_P | PTE_W);
    mmu_flush_page(f->cpu, GVA + 0x1000);
    ck_assert_int_eq(mmu_store64(f->cpu, CPU_DS, GVA + 0xffc, UINT64_C(0x1122334455667788)),
                     SOFT_OK);
    ck_assert_uint_eq(peek(f, PAGE1 + 0xffc, 4), 0x55667788);
    ck_assert_uint_eq(peek(f, 0x310000, 4), 0x11223344);
    ck_assert_int_eq(mmu_load64(f->cpu, CPU_DS, GVA + 0xffc, &value), SOFT_OK);
    ck_assert_uint_eq(value, UINT64_C(0x1122334455667788));
    fixture_free(f);
}
END_TEST

START_TEST(mmio)
{
    struct fixture *f = prepared(0);
    uint32_t value;

    remap(f, GVA, UINT64_C(0xfee00000), PTE_P | PTE_W);
    f->bus_value = 0xabcd1234;
    ck_assert_int_eq(mmu_load32(f->cpu, CPU_DS, GVA + 0x20, &value), SOFT_OK);
    ck_assert_uint_eq(value, 0xabcd1234);
    ck_assert_int_eq(mmu_store32(f->cpu, CPU_DS, GVA + 0x30, 5), SOFT_OK);
    ck_assert_uint_eq(f->nr_accesses, 2);
    ck_assert_uint_eq(f->access[0].address, 0xfee00020);
    ck_assert_uint_eq(f->access[0].size, 4);
    ck_assert(f->access[1].write && f->access[1].mmio);
    ck_assert_uint_eq(f->access[1].value, 5);
    fixture_free(f);
}
END_TEST

static void code_written(void *context, gpa_t gpa, uint64_t length)
{
    struct fixture *f = context;

    f->access[f->nr_accesses++] = (struct bus_access){.address = gpa, .size = (unsigned)length};
}

/* Stores to a code page are reported, however they are made, and by whichever entry was cached
 * before. */
START_TEST(code_pages)
{
    struct fixture *f = prepared(0);
    void *host;

    f->memory->code_written = code_written;
    f->memory->code_written_context = f;
    remap(f, GVA, PAGE1, PTE_P | PTE_W);
    ck_assert_int_eq(mmu_store64(f->cpu, CPU_DS, GVA, 1), SOFT_OK); /* entry cached */
    ck_assert_uint_eq(f->nr_accesses, 0);
    ck_assert(mmu_code_page_mark(&f->vm, PAGE1 + 5));
    ck_assert_int_eq(mmu_store32(f->cpu, CPU_DS, GVA + 0x40, 1), SOFT_OK);
    ck_assert_int_eq(mmu_rmw_begin(f->cpu, CPU_DS, GVA + 0x80, 8, &host), SOFT_OK);
    ck_assert_ptr_nonnull(host);
    mmu_rmw_done(f->cpu, host, 8);
    ck_assert_uint_eq(f->nr_accesses, 2);
    ck_assert_uint_eq(f->access[0].address, PAGE1 + 0x40);
    ck_assert_uint_eq(f->access[0].size, 4);
    ck_assert_uint_eq(f->access[1].address, PAGE1 + 0x80);
    ck_assert(!mmu_code_page_mark(&f->vm, FIXTURE_RAM));
    fixture_free(f);
}
END_TEST

START_TEST(dirty_log)
{
    struct fixture *f = prepared(0);
    static uint64_t bits[FIXTURE_RAM / 4096 / 64];

    remap(f, GVA, PAGE1, PTE_P | PTE_W);
    ck_assert_int_eq(memory_dirty_start(f->memory, NULL), 0);
    mmu_flush_all(f->cpu);
    for (unsigned round = 0; round < 2; round++) {
        ck_assert_int_eq(mmu_store64(f->cpu, CPU_DS, GVA, 9), SOFT_OK);
        ck_assert_int_eq(memory_dirty_fetch(f->memory, 0, bits), 0);
        ck_assert_uint_eq(bits[(PAGE1 >> 12) / 64] >> (PAGE1 >> 12) % 64 & 1, 1);
    }
    fixture_free(f);
}
END_TEST

START_TEST(read_modify_write)
{
    struct fixture *f = prepared(0);
    void *host;

    remap(f, GVA, PAGE1, PTE_P | PTE_W);
    remap(f, GVA + 0x2000, PAGE2, PTE_P);
    ck_assert_int_eq(mmu_rmw_begin(f->cpu, CPU_DS, GVA + 8, 8, &host), SOFT_OK);
    ck_assert_ptr_eq(host, memory_range(f->memory, PAGE1 + 8, 8));
    ck_assert_int_eq(mmu_rmw_begin(f->cpu, CPU_DS, GVA + 60, 8, &host), SOFT_OK);
    ck_assert_ptr_null(host); /* crosses a cache line */
    ck_assert_int_eq(mmu_rmw_begin(f->cpu, CPU_DS, GVA + 0x2000, 8, &host), SOFT_FAULT);
    ck_assert_uint_eq(f->cpu->fault.error, 3);
    fixture_free(f);
}
END_TEST

START_TEST(alignment_check)
{
    struct fixture *f = prepared(3);
    struct soft_cpu *cpu = f->cpu;
    uint64_t value;

    ck_assert_int_eq(mmu_load64(cpu, CPU_DS, 0x11001, &value), SOFT_OK);
    cpu->cr0 |= CPU_CR0_AM;
    cpu->rflags |= CPU_FLAG_AC;
    soft_cpu_update_mode(cpu);
    ck_assert_int_eq(mmu_load64(cpu, CPU_DS, 0x11001, &value), SOFT_FAULT);
    ck_assert_uint_eq(cpu->fault.vector, CPU_VECTOR_AC);
    ck_assert_int_eq(mmu_load64(cpu, CPU_DS, 0x11008, &value), SOFT_OK);
    fixture_free(f);
}
END_TEST

START_TEST(data_breakpoints)
{
    struct fixture *f = prepared(0);
    struct soft_cpu *cpu = f->cpu;
    uint64_t value;

    ck_assert_int_eq(mmu_store64(cpu, CPU_DS, 0x11000, 1), SOFT_OK);
    cpu->dr[1] = 0x11004;
    cpu->dr[7] = 0x400 | 1u << 2 | 1u << 20 | 3u << 22; /* L1, write, 4 bytes */
    mmu_context_changed(cpu);
    ck_assert_int_eq(mmu_load64(cpu, CPU_DS, 0x11000, &value), SOFT_OK);
    ck_assert_uint_eq(cpu->debug_hits, 0);
    ck_assert_int_eq(mmu_store32(cpu, CPU_DS, 0x11000, 1), SOFT_OK);
    ck_assert_uint_eq(cpu->debug_hits, 0);
    ck_assert_int_eq(mmu_store64(cpu, CPU_DS, 0x11000, 1), SOFT_OK);
    ck_assert_uint_eq(cpu->debug_hits, 2);
    fixture_free(f);
}
END_TEST

/* Marking a page as code while others write to it: every write that the marker did not see is
 * reported (mmu_fast.h). */
struct race {
    struct fixture *f;
    uint32_t stop;
    uint64_t reported;
};

static void race_written(void *context, gpa_t gpa, uint64_t length)
{
    struct race *race = context;

    (void)gpa;
    (void)length;
    __atomic_fetch_add(&race->reported, 1, __ATOMIC_SEQ_CST);
}

static void *race_writer(void *context)
{
    struct race *race = context;

    for (uint64_t i = 1; !__atomic_load_n(&race->stop, __ATOMIC_RELAXED); i++)
        if (mmu_store64(race->f->cpu, CPU_DS, GVA, i))
            return context;
    return NULL;
}

START_TEST(code_mark_race)
{
    struct race race = {.f = prepared(0)};
    struct fixture *f = race.f;
    uint8_t *byte = &f->memory->slots[0].code_map[PAGE1 >> 12];
    const uint64_t *data = memory_range(f->memory, PAGE1, 8);
    pthread_t thread;
    void *failed;

    f->memory->code_written = race_written;
    f->memory->code_written_context = &race;
    remap(f, GVA, PAGE1, PTE_P | PTE_W);
    ck_assert_int_eq(pthread_create(&thread, NULL, race_writer, &race), 0);
    for (unsigned i = 0; i < 300; i++) {
        uint64_t seen, before = __atomic_load_n(&race.reported, __ATOMIC_SEQ_CST);

        mmu_code_page_mark(&f->vm, PAGE1);
        seen = __atomic_load_n(data, __ATOMIC_RELAXED);
        while (__atomic_load_n(data, __ATOMIC_RELAXED) == seen) /* wait for one more write */
            ;
        /* two more writes: the report of the first must have come */
        seen = __atomic_load_n(data, __ATOMIC_RELAXED);
        while (__atomic_load_n(data, __ATOMIC_RELAXED) - seen < 2)
            ;
        ck_assert_uint_gt(__atomic_load_n(&race.reported, __ATOMIC_SEQ_CST), before);
        __atomic_store_n(byte, 0, __ATOMIC_SEQ_CST);
    }
    __atomic_store_n(&race.stop, 1, __ATOMIC_SEQ_CST);
    pthread_join(thread, &failed);
    ck_assert_ptr_null(failed);
    fixture_free(f);
}
END_TEST

TEST_MAIN("soft tlb", tcase_add_test(tcase, invlpg); tcase_add_test(tcase, invlpg_in_large_page);
          tcase_add_test(tcase, cr3_load_keeps_global_pages_only);
          tcase_add_test(tcase, cr3_load_drops_private_upper_pages); tcase_add_test(tcase, pcid);
          tcase_add_test(tcase, invpcid_of_another_pcid); tcase_add_test(tcase, numbers_wrap);
          tcase_add_test(tcase, contexts); tcase_add_test(tcase, page_crossing);
          tcase_add_test(tcase, mmio); tcase_add_test(tcase, code_pages);
          tcase_add_test(tcase, dirty_log); tcase_add_test(tcase, read_modify_write);
          tcase_add_test(tcase, alignment_check); tcase_add_test(tcase, data_breakpoints);
          tcase_add_test(tcase, code_mark_race);)
