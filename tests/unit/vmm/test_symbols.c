/* SPDX-License-Identifier: Apache-2.0 */
/* Symbol files and the names of samples. */
#include "testing.h"

#include "vmm/profile.h"
#include "vmm/symbols.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct symbols *load(const char *text, int expected)
{
    struct symbols *symbols = symbols_new();
    char path[] = "/tmp/lodge-symbols-XXXXXX";
    struct err err = ERR_INIT;
    int fd = mkstemp(path);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    ck_assert_int_eq(symbols_load(symbols, path, 0, &err), expected);
    unlink(path);
    return symbols;
}

static const char map[] = "ffffffff81000000 T _text\n"
                          "ffffffff81000100 t helper\n"
                          "ffffffff81000100 T named_twice\n"
                          "ffffffff81000080 T between\n"
                          "ffffffff81000180 D data\n"
                          "0000000000000000 T hidden\n"
                          "not a symbol\n"
                          "ffffffff81000200 t with;odd\t[module]\n";

START_TEST(an_address_belongs_to_the_function_below)
{
    static const struct {
        uint64_t address;
        const char *name;
    } vectors[] = {
        {0xffffffff80ffffff, NULL},
        {0xffffffff81000000, "_text"},
        {0xffffffff8100007f, "_text"},
        {0xffffffff81000080, "between"},
        {0xffffffff81000100, "named_twice"},
        {0xffffffff810001ff, "named_twice"},
        {0xffffffff81000200, "with_odd"},
        {0xffffffff81000200 + SYMBOLS_REACH, NULL},
        {0x400000, NULL},
    };
    struct symbols *symbols = load(map, 0);

    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        const char *name = symbols_find(symbols, vectors[i].address);

        if (vectors[i].name)
            ck_assert_str_eq(name, vectors[i].name);
        else
            ck_assert_ptr_null(name);
    }
    symbols_free(symbols);
}
END_TEST

START_TEST(our_own_elf_file_names_this_test)
{
    struct symbols *symbols = symbols_new();
    struct err err = ERR_INIT;
    extern char __executable_start[];

    ck_assert_int_eq(symbols_load(symbols, "/proc/self/exe", (uintptr_t)__executable_start, &err),
                     0);
    ck_assert_str_eq(symbols_find(symbols, (uintptr_t)load + 3), "load");
    symbols_free(symbols);
}
END_TEST

START_TEST(files_without_functions_are_errors)
{
    symbols_free(load("", -EINVAL));
    symbols_free(load("ffffffff81000000 D data\n", -EINVAL));
    symbols_free(load("\x7f"
                      "ELF and what is no header, but long enough to be taken for one, is refused",
                      -EINVAL));
}
END_TEST

START_TEST(samples_are_called_by_space_and_function)
{
    struct symbols *symbols = load(map, 0);
    char text[100];

    profile_name(symbols, &(struct cpu_position){.address = 0xffffffff81000085}, text, 100);
    ck_assert_str_eq(text, "kernel;between");
    profile_name(symbols, &(struct cpu_position){0x401234, 0x5000, true}, text, 100);
    ck_assert_str_eq(text, "user;space-5;0x401000");
    symbols_free(symbols);
}
END_TEST

TEST_MAIN("vmm_symbols", tcase_add_test(tcase, an_address_belongs_to_the_function_below);
          tcase_add_test(tcase, our_own_elf_file_names_this_test);
          tcase_add_test(tcase, files_without_functions_are_errors);
          tcase_add_test(tcase, samples_are_called_by_space_and_function))
