/* SPDX-License-Identifier: Apache-2.0 */
/* Module order out of small modules made here: ELF objects with nothing but a .modinfo section. */
#include "image/modules.h"

#include "base/file.h"
#include "base/util.h"
#include "testing.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMAGE_SIZE 1024

static size_t module_make(uint8_t image[IMAGE_SIZE], const char *info, size_t info_size)
{
    static const char names[] = "\0.modinfo\0.shstrtab";
    Elf64_Ehdr header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                         .e_type = ET_REL,
                         .e_shoff = 64,
                         .e_shentsize = sizeof(Elf64_Shdr),
                         .e_shnum = 3,
                         .e_shstrndx = 2};
    Elf64_Shdr sections[3] = {
        {0},
        {.sh_name = 1, .sh_type = SHT_PROGBITS, .sh_offset = 300, .sh_size = info_size},
        {.sh_name = 10, .sh_type = SHT_STRTAB, .sh_offset = 260, .sh_size = sizeof(names)}};

    memset(image, 0, IMAGE_SIZE);
    memcpy(image, &header, sizeof(header));
    memcpy(image + 64, sections, sizeof(sections));
    memcpy(image + 260, names, sizeof(names));
    memcpy(image + 300, info, info_size);
    return 300 + info_size;
}

START_TEST(values_are_found)
{
    static const char info[] = "license=GPL\0depends=a,b\0softdep=pre: x\0softdep=pre: y";
    uint8_t image[IMAGE_SIZE];
    size_t size = module_make(image, info, sizeof(info));

    ck_assert_str_eq(modinfo_find(image, size, "depends", 0), "a,b");
    ck_assert_str_eq(modinfo_find(image, size, "softdep", 1), "pre: y");
    ck_assert_ptr_null(modinfo_find(image, size, "softdep", 2));
    ck_assert_ptr_null(modinfo_find(image, size, "depend", 0));
}
END_TEST

/* A copy of exactly the size, so that the sanitizers see any step beyond it. */
START_TEST(cut_and_changed_images_are_survived)
{
    static const char info[] = "license=GPL\0depends=a,b";
    uint8_t image[IMAGE_SIZE];
    size_t size = module_make(image, info, sizeof(info));

    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = malloc(cut + 1);

        memcpy(copy, image, cut);
        ck_assert_ptr_null(modinfo_find(copy, cut, "depends", 0));
        free(copy);
    }
    for (size_t at = 0; at < 300; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            uint8_t *copy = malloc(size);

            memcpy(copy, image, size);
            copy[at] ^= (uint8_t)(1u << bit);
            modinfo_find(copy, size, "depends", 0);
            free(copy);
        }
}
END_TEST

START_TEST(signatures_and_type_information_go)
{
    static const char info[] = "depends=a\0";
    static const char marker[] = "~Module signature appended~\n";
    uint8_t image[IMAGE_SIZE + 64];
    size_t size = module_make(image, info, sizeof(info)), whole;

    /* 20 bytes of signature, 12 that describe it (the length is big-endian), the marker */
    memset(image + size, 0x55, 32);
    memcpy(image + size + 28, "\0\0\0\x14", 4);
    memcpy(image + size + 32, marker, 28);
    whole = size + 60;
    ck_assert_uint_eq(module_strip(image, whole), size);
    ck_assert_uint_eq(module_strip(image, size), size);
    /* A length beyond the file is not believed. */
    memcpy(image + size + 28, "\0\xff\0\0", 4);
    ck_assert_uint_eq(module_strip(image, whole), whole);
    ck_assert_uint_eq(module_strip(image + whole - 28, 28), 28);
    /* .modinfo under the other name is as if it were not there. */
    memcpy(image + 260 + 1, ".BTF", 5);
    module_strip(image, size);
    ck_assert_int_eq(memcmp(image + 260 + 1, "-BTF", 5), 0);
}
END_TEST

static char root[64];

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void put(const char *name, const char *info, size_t info_size)
{
    uint8_t image[IMAGE_SIZE];
    size_t size = module_make(image, info, info_size);
    char path[160];

    snprintf(path, sizeof(path), "%s/lib/modules/1/kernel/%s", root, name);
    ck_assert_int_eq(file_replace(AT_FDCWD, path, image, size, 0644, NULL), 0);
}

static void tree_make(void)
{
    static const char builtin[] = "kernel/fs/ext4/ext4.ko\nkernel/lib/some-thing.ko\n";
    static const char *const dirs[] = {"lib", "lib/modules", "lib/modules/1",
                                       "lib/modules/1/kernel"};
    char path[160];

    strcpy(root, "/tmp/test_modules.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        snprintf(path, sizeof(path), "%s/%s", root, dirs[i]);
        ck_assert_int_eq(mkdir(path, 0755), 0);
    }
    snprintf(path, sizeof(path), "%s/lib/modules/1/modules.builtin", root);
    ck_assert_int_eq(file_replace(AT_FDCWD, path, builtin, strlen(builtin), 0644, NULL), 0);
    put("top.ko", "depends=mid-dle,low", 20);
    put("mid_dle.ko", "depends=low\0softdep=pre: crc32c absent", 39);
    put("low.ko", "depends=", 9);
    put("crc32c_generic.ko", "depends=", 9);
    put("circle.ko", "depends=circle2", 16);
    put("circle2.ko", "depends=circle", 15);
    put("needy.ko", "depends=nowhere", 16);
}

static int resolve(const char *a, const char *b, char *ret, size_t size, struct err *err)
{
    const char *wanted[] = {a, b, NULL};
    struct module_list list;
    int result = modules_resolve(root, "1", wanted, &list, err);

    *ret = '\0';
    if (result < 0)
        return result;
    for (size_t i = 0; i < list.nr; i++)
        snprintf(ret + strlen(ret), size - strlen(ret), "%s ", strrchr(list.paths[i], '/') + 1);
    module_list_done(&list);
    return 0;
}

START_TEST(each_module_comes_after_what_it_needs)
{
    struct err err = ERR_INIT;
    char order[300];

    tree_make();
    ck_assert_int_eq(resolve("top", "low", order, sizeof(order), &err), 0);
    ck_assert_str_eq(order, "crc32c_generic.ko low.ko mid_dle.ko top.ko ");
    ck_assert_int_eq(resolve("ext4", "some_thing", order, sizeof(order), &err), 0);
    ck_assert_str_eq(order, "");
    ck_assert_int_eq(resolve("?nosuch", NULL, order, sizeof(order), &err), 0);
    ck_assert_int_eq(resolve("nosuch", NULL, order, sizeof(order), &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.message, "nosuch"));
    ck_assert_int_eq(resolve("needy", NULL, order, sizeof(order), &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.message, "nowhere"));
    ck_assert_int_eq(resolve("circle", NULL, order, sizeof(order), &err), -ELOOP);
    nftw(root, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}
END_TEST

TEST_MAIN("modules", tcase_add_test(tcase, values_are_found);
          tcase_add_test(tcase, cut_and_changed_images_are_survived);
          tcase_add_test(tcase, signatures_and_type_information_go);
          tcase_add_test(tcase, each_module_comes_after_what_it_needs))
