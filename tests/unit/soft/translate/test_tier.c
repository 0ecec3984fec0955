/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's options, and what runs where the host cannot translate. */
#include "soft/soft.h"
#include "soft/tier.h"
#include "testing.h"

#include <errno.h>

START_TEST(known_and_unknown)
{
    static const struct {
        const char *text;
        int result;
        enum soft_tier tier;
        int runs;
        unsigned cache_kib;
    } table[] = {
        {NULL, 0, SOFT_TIER_BEST, 2, 65536},
        {"", 0, SOFT_TIER_BEST, 2, 65536},
        {"tier=interp", 0, SOFT_TIER_INTERPRET, 2, 65536},
        {"tier=translate", 0, SOFT_TIER_TRANSLATE, 2, 65536},
        {"tier=translate,runs=0", 0, SOFT_TIER_TRANSLATE, 0, 65536},
        {"runs=9,cache=2048", 0, SOFT_TIER_BEST, 9, 2048},
        {"cache=256", 0, SOFT_TIER_BEST, 2, 256},
        {"cache=255", -EINVAL, 0, 0, 0},
        {"cache=1048577", -EINVAL, 0, 0, 0},
        {"cache=99999999999999999999", -EINVAL, 0, 0, 0},
        {"cache=", -EINVAL, 0, 0, 0},
        {"runs=10", -EINVAL, 0, 0, 0},
        {"runs=-1", -EINVAL, 0, 0, 0},
        {"runs=", -EINVAL, 0, 0, 0},
        {"tier=warp", -EINVAL, 0, 0, 0},
        {"tier=interpreter", -EINVAL, 0, 0, 0},
        {"tier", -EINVAL, 0, 0, 0},
        {",", -EINVAL, 0, 0, 0},
        {"tier=interp,,runs=1", -EINVAL, 0, 0, 0},
    };

    for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
        struct soft_options options = {.runs = -7};
        struct err err = ERR_INIT;

        ck_assert_msg(soft_options_parse(table[i].text, &options, &err) == table[i].result,
                      "'%s': %s", table[i].text, err.message);
        if (table[i].result) {
            ck_assert_int_eq(options.runs, -7);
            ck_assert_ptr_nonnull(strstr(err.message, "tier=translate"));
            continue;
        }
        ck_assert_int_eq(options.tier, table[i].tier);
        ck_assert_int_eq(options.runs, table[i].runs);
        ck_assert_uint_eq(options.cache_size, (size_t)table[i].cache_kib << 10);
    }
}
END_TEST

START_TEST(choice)
{
    static const struct {
        enum soft_tier tier;
        const char *why_not;
        int result;
        bool translated;
    } table[] = {
        {SOFT_TIER_BEST, NULL, 0, true},       {SOFT_TIER_BEST, "no BMI2", 0, false},
        {SOFT_TIER_TRANSLATE, NULL, 0, true},  {SOFT_TIER_TRANSLATE, "no BMI2", -ENOTSUP, false},
        {SOFT_TIER_INTERPRET, NULL, 0, false}, {SOFT_TIER_INTERPRET, "no BMI2", 0, false},
    };

    for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
        struct soft_options options = {.tier = table[i].tier};
        struct err err = ERR_INIT;
        bool translated = !table[i].translated;

        ck_assert_int_eq(soft_tier_choose(&options, table[i].why_not, &translated, &err),
                         table[i].result);
        if (table[i].result)
            ck_assert_ptr_nonnull(strstr(err.message, "no BMI2"));
        else
            ck_assert_int_eq(translated, table[i].translated);
    }
}
END_TEST

TEST_MAIN("soft_tier", tcase_add_test(tcase, known_and_unknown); tcase_add_test(tcase, choice);)
