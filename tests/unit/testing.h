/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame of a unit test program on Check. A file defines its test cases with START_TEST and ends
 * with TEST_MAIN("buf", tcase_add_test(tcase, grows); tcase_add_test(tcase, keeps_cap);) Each case
 * runs in a process of its own, with a time limit (seconds, TESTING_TIMEOUT to change it). A test
 * that needs something of its host (root, /dev/kvm) calls TEST_NEEDS(condition, "reason"): it then
 * counts as skipped.
 */
#ifndef LODGE_TESTS_TESTING_H
#define LODGE_TESTS_TESTING_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef TESTING_TIMEOUT
#define TESTING_TIMEOUT 60
#endif

#define TEST_NEEDS(condition, reason)                  \
    do {                                               \
        if (!(condition)) {                            \
            printf("SKIP %s: %s\n", __func__, reason); \
            fflush(stdout);                            \
            return;                                    \
        }                                              \
    } while (0)

#define TEST_MAIN(name, add_cases)                   \
    int main(void)                                   \
    {                                                \
        Suite *suite = suite_create(name);           \
        TCase *tcase = tcase_create(name);           \
        SRunner *runner;                             \
        int failed;                                  \
                                                     \
        tcase_set_timeout(tcase, TESTING_TIMEOUT);   \
        add_cases;                                   \
        suite_add_tcase(suite, tcase);               \
        runner = srunner_create(suite);              \
        srunner_run_all(runner, CK_NORMAL);          \
        failed = srunner_ntests_failed(runner);      \
        srunner_free(runner);                        \
        return failed ? EXIT_FAILURE : EXIT_SUCCESS; \
    }

#endif
