/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/memory.h"

#include "testing.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static struct memory *memory_make(uint64_t low, uint64_t high)
{
    struct memory *memory = NULL;
    struct err err = ERR_INIT;

    ck_assert_int_eq(memory_new(&memory, &err), 0);
    if (high)
        ck_assert_int_eq(memory_add_ram(memory, low, high, &err), 0);
    ck_assert_int_eq(memory_add_ram(memory, 0, low, &err), 0);
    return memory;
}

START_TEST(slots_are_sorted_and_reject_overlap)
{
    struct memory *memory = memory_make(MIB, MIB);
    struct err err = ERR_INIT;

    ck_assert_uint_eq(memory->nr_slots, 2);
    ck_assert_uint_eq(memory->slots[0].gpa, 0);
    ck_assert_uint_eq(memory->slots[1].gpa, MIB);
    ck_assert_uint_eq(memory_size(memory), 2 * MIB);
    ck_assert_int_eq(memory_add_ram(memory, MIB - 4096, 8192, &err), -EEXIST);
    ck_assert_int_eq(memory_add_ram(memory, 4 * MIB + 1, 4096, &err), -EINVAL);
    ck_assert_int_eq(memory_add_ram(memory, 4 * MIB, 0, &err), -EINVAL);
    ck_assert_int_eq(memory_add_ram(memory, UINT64_MAX - 4095, 4096, &err), -EINVAL);
    ck_assert_int_eq(memory_add_ram(memory, 4 * MIB, UINT64_C(1) << 46, &err), -ENOMEM);
    ck_assert_ptr_nonnull(strstr(err.message, "more than this host has"));
    ck_assert_uint_eq(memory->nr_slots, 2);
    memory_free(memory);
}
END_TEST

START_TEST(range_stays_inside_one_slot)
{
    struct memory *memory = memory_make(MIB, MIB);

    ck_assert_ptr_eq(memory_range(memory, 0, MIB), memory->slots[0].host);
    ck_assert_ptr_null(memory_range(memory, 0, MIB + 1));
    ck_assert_ptr_null(memory_range(memory, MIB - 1, 2));
    ck_assert_ptr_null(memory_range(memory, 2 * MIB, 1));
    ck_assert_ptr_null(memory_range(memory, 2 * MIB - 1, UINT64_MAX));
    ck_assert_ptr_null(memory_range(memory, 0, 0));
    ck_assert_ptr_nonnull(memory_range(memory, 2 * MIB - 1, 1));
    memory_free(memory);
}
END_TEST

START_TEST(copies_cross_adjacent_slots_and_fail_whole)
{
    struct memory *memory = memory_make(MIB, MIB);
    char back[8] = "";

    ck_assert_int_eq(memory_write(memory, MIB - 4, "abcdefg", 8), 0);
    ck_assert_int_eq(memory_read(memory, MIB - 4, back, 8), 0);
    ck_assert_str_eq(back, "abcdefg");
    ck_assert_int_eq(memory_write(memory, 2 * MIB - 4, "12345678", 8), -EFAULT);
    ck_assert_int_eq(memory_read(memory, 2 * MIB - 4, back, 4), 0);
    ck_assert_int_eq(memcmp(back, "\0\0\0\0", 4), 0);
    memory_free(memory);
}
END_TEST

START_TEST(the_dirty_log_holds_what_was_written_once)
{
    struct memory *memory = memory_make(MIB, 0);
    uint64_t bits[4] = {0};
    struct err err = ERR_INIT;

    ck_assert_int_eq(memory_dirty_fetch(memory, 0, bits), -ENODATA);
    ck_assert_int_eq(memory_write(memory, 0, "x", 1), 0);
    ck_assert_int_eq(memory_dirty_start(memory, &err), 0);
    ck_assert_int_eq(memory_write(memory, 2 * 4096 - 1, "xy", 2), 0);
    ck_assert_int_eq(memory_write(memory, 200 * 4096, "x", 1), 0);
    ck_assert_int_eq(memory_dirty_fetch(memory, 0, bits), 0);
    ck_assert_uint_eq(bits[0], 6);
    ck_assert_uint_eq(bits[3], UINT64_C(1) << (200 - 192));
    ck_assert_int_eq(memory_dirty_fetch(memory, 0, bits), 0);
    ck_assert_uint_eq(bits[0] | bits[1] | bits[2] | bits[3], 0);
    ck_assert_int_eq(memory_dirty_fetch(memory, 1, bits), -EINVAL);
    memory_dirty_stop(memory);
    memory_free(memory);
}
END_TEST

struct told {
    gpa_t gpa;
    uint64_t length;
    int calls;
};

static void told_fn(void *context, gpa_t gpa, uint64_t length)
{
    struct told *told = context;

    told->gpa = gpa;
    told->length = length;
    told->calls++;
}

START_TEST(writes_to_code_pages_are_told_and_others_are_not)
{
    struct memory *memory = memory_make(MIB, 0);
    struct told told = {0};

    memory->code_written = told_fn;
    memory->code_written_context = &told;
    memory->slots[0].code_map[3] = 1;
    ck_assert_int_eq(memory_write(memory, 0x2000, "abcd", 4), 0);
    ck_assert_int_eq(told.calls, 0);
    ck_assert_int_eq(memory_write(memory, 0x2ffe, "abcd", 4), 0);
    ck_assert_int_eq(told.calls, 1);
    ck_assert_uint_eq(told.gpa, 0x3000);
    ck_assert_uint_eq(told.length, 2);
    memory_free(memory);
}
END_TEST

START_TEST(memory_behind_a_slot_is_sealed_and_lazy)
{
    struct memory *memory = memory_make(64 * MIB, 0);

    ck_assert_int_ne(ftruncate(memory->slots[0].fd, 0), 0);
    ck_assert_int_eq(errno, EPERM);
    memory_free(memory);
}
END_TEST

TEST_MAIN("memory", tcase_add_test(tcase, slots_are_sorted_and_reject_overlap);
          tcase_add_test(tcase, range_stays_inside_one_slot);
          tcase_add_test(tcase, copies_cross_adjacent_slots_and_fail_whole);
          tcase_add_test(tcase, the_dirty_log_holds_what_was_written_once);
          tcase_add_test(tcase, writes_to_code_pages_are_told_and_others_are_not);
          tcase_add_test(tcase, memory_behind_a_slot_is_sealed_and_lazy))
