/* SPDX-License-Identifier: Apache-2.0 */
/* Large pages for guest memory that is taken into use, and how memory is given back. */
#include "cpu/memory.h"

#include "testing.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define PAGES 512u
#define BLOCK 16u /* pages that count as one touch */
#define RAM   (8 * MEMORY_LARGE)

static struct memory *memory_make(void)
{
    struct memory *memory = NULL;
    struct err err = ERR_INIT;

    ck_assert_int_eq(memory_new(&memory, &err), 0);
    ck_assert_int_eq(memory_add_ram(memory, 0, RAM, &err), 0);
    return memory;
}

static unsigned resident(struct memory *memory, unsigned region)
{
    unsigned char vector[PAGES];
    unsigned nr = 0;

    ck_assert_int_eq(mincore(memory_range(memory, region * MEMORY_LARGE, 1), MEMORY_LARGE, vector),
                     0);
    for (unsigned i = 0; i < PAGES; i++)
        nr += vector[i] & 1;
    return nr;
}

static void touch(struct memory *memory, unsigned region, unsigned page)
{
    uint64_t offset = region * MEMORY_LARGE + page * GUEST_PAGE_SIZE;

    memory_touch(memory, &memory->slots[0], offset);
    *(uint32_t *)memory_range(memory, offset, 4) = region << 16 | page;
}

/* In order, as a vCPU that takes page after page. */
static void touch_all(struct memory *memory, unsigned region, unsigned from, unsigned pages)
{
    memory->touch_rests_until_ns = 0; /* however slow the host's last one was */
    for (unsigned i = from; i < from + pages; i++)
        touch(memory, region, i);
}

/* Has the host large pages, now? */
static bool gives(struct memory *memory, unsigned region)
{
    touch_all(memory, region, 0, 3 * BLOCK);
    return resident(memory, region) == PAGES;
}

static bool host_gives(void)
{
    struct memory *memory = memory_make();
    bool yes = gives(memory, 0);

    memory_free(memory);
    return yes;
}

/* Linux 5.14 */
static bool host_populates(void)
{
    struct memory *memory = memory_make();
    bool yes = !madvise(memory_range(memory, 0, 1), GUEST_PAGE_SIZE, MADV_POPULATE_WRITE);

    memory_free(memory);
    return yes;
}

START_TEST(pages_in_order_become_a_large_one)
{
    struct memory *memory;

    TEST_NEEDS(host_gives(), "no large pages of shared memory here");
    memory = memory_make();
    touch_all(memory, 2, 0, 3 * BLOCK);
    for (unsigned i = 0; i < PAGES; i++) {
        uint32_t word = *(uint32_t *)memory_range(memory, 2 * MEMORY_LARGE + i * 4096, 4);

        ck_assert_uint_eq(word, i < 3 * BLOCK ? 2u << 16 | i : 0);
    }
    /* The host may be out of large pages by now. */
    ck_assert(resident(memory, 2) == PAGES || memory->touch_rests_until_ns);
    ck_assert_uint_eq(resident(memory, 1), 0);
    ck_assert_uint_eq(resident(memory, 3), 0);
    memory_free(memory);
}
END_TEST

/* While the host has no large pages, blocks beside those that are touched come whole. */
START_TEST(pages_in_order_become_blocks)
{
    struct memory *memory;

    TEST_NEEDS(host_populates(), "the kernel cannot populate memory (Linux 5.14)");
    memory = memory_make();
    memory->touch_rests_until_ns = UINT64_MAX;
    touch(memory, 1, PAGES - 1);
    ck_assert_uint_eq(resident(memory, 1), 1);
    touch(memory, 2, 3);
    touch(memory, 2, BLOCK + 5);
    ck_assert_uint_eq(resident(memory, 2), 2 * BLOCK);
    touch(memory, 3, 5 * BLOCK + 1);
    touch(memory, 3, 4 * BLOCK + 1);
    ck_assert_uint_eq(resident(memory, 3), BLOCK + 1);
    touch(memory, 3, 4 * BLOCK + 2);
    ck_assert_uint_eq(resident(memory, 3), BLOCK + 1);
    ck_assert_uint_eq(resident(memory, 1), 1);
    memory_free(memory);
}
END_TEST

START_TEST(few_pages_stay_few)
{
    struct memory *memory = memory_make();

    memory->touch_rests_until_ns = 0;
    for (unsigned i = 0; i < PAGES; i += 2 * BLOCK)
        touch(memory, 1, i);
    ck_assert_uint_eq(resident(memory, 1), PAGES / (2 * BLOCK));
    ck_assert_uint_eq(resident(memory, 2), 0);
    memory_free(memory);
}
END_TEST

START_TEST(what_was_given_back_in_part_is_not_given)
{
    struct memory *memory = memory_make();

    ck_assert_int_eq(memory_discard(memory, 4 * MEMORY_LARGE + 4096 * 400, 4096 * 2), 0);
    touch_all(memory, 4, 0, 100);
    ck_assert_uint_eq(resident(memory, 4), 100);
    ck_assert_int_eq(memory_discard(memory, 4 * MEMORY_LARGE, 4096 * 10), 0);
    touch_all(memory, 4, 0, 100);
    ck_assert_uint_eq(resident(memory, 4), 100);
    memory_free(memory);
}
END_TEST

START_TEST(what_was_given_back_whole_is_given_again)
{
    struct memory *memory;

    TEST_NEEDS(host_gives(), "no large pages of shared memory here");
    memory = memory_make();
    ck_assert_int_eq(memory_discard(memory, 4 * MEMORY_LARGE + 4096, 4096), 0);
    ck_assert_int_eq(memory_discard(memory, 3 * MEMORY_LARGE, 3 * MEMORY_LARGE), 0);
    ck_assert_uint_eq(resident(memory, 4), 0);
    ck_assert(gives(memory, 4) || resident(memory, 4) == 3 * BLOCK);
    ck_assert_int_eq(memory_discard(memory, 4 * MEMORY_LARGE, MEMORY_LARGE), 0);
    ck_assert_uint_eq(resident(memory, 4), 0);
    ck_assert_uint_eq(*(uint32_t *)memory_range(memory, 4 * MEMORY_LARGE + 4096, 4), 0);
    memory_free(memory);
}
END_TEST

START_TEST(only_whole_ram_is_given_back)
{
    struct memory *memory = memory_make();

    ck_assert_int_eq(memory_discard(memory, RAM, 4096), -EFAULT);
    ck_assert_int_eq(memory_discard(memory, RAM - 4096, 8192), -EFAULT);
    ck_assert_int_eq(memory_discard(memory, 0, 0), -EFAULT);
    ck_assert_int_eq(memory_discard(memory, 4096, UINT64_MAX - 4095), -EFAULT);
    memory->slots[0].read_only = true;
    ck_assert_int_eq(memory_discard(memory, 0, 4096), -EFAULT);
    memory_free(memory);
}
END_TEST

TEST_MAIN("first_touch", tcase_add_test(tcase, pages_in_order_become_a_large_one);
          tcase_add_test(tcase, pages_in_order_become_blocks);
          tcase_add_test(tcase, few_pages_stay_few);
          tcase_add_test(tcase, what_was_given_back_in_part_is_not_given);
          tcase_add_test(tcase, what_was_given_back_whole_is_given_again);
          tcase_add_test(tcase, only_whole_ram_is_given_back);)
