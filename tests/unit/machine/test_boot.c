/* SPDX-License-Identifier: Apache-2.0 */
#include "images.h"

#include "machine/boot/decompress.h"

#include <bzlib.h>
#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <lzma.h>
#include <lzo/lzo1x.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define GUEST_SIZE (64 * MIB)
#define KERNEL_GPA UINT64_C(0x1000000)
#define PARAMS     UINT64_C(0x88000)
#define ELF_KERNEL                                                            \
    {                                                                         \
        .gpa = KERNEL_GPA, .entry = KERNEL_GPA + 0x10, .memory_size = 0x40000 \
    }

static uint8_t packed[1 << 16];

static uint32_t be32(uint32_t value)
{
    return __builtin_bswap32(value);
}

/* As Linux's build makes them; returns the length, with four bytes of size behind most. */
static size_t pack(enum compression compression, const struct buf *elf)
{
    size_t size = 0, capacity = sizeof(packed);
    uint8_t *in = (uint8_t *)elf->data;

    if (compression == COMPRESSION_GZIP) {
        z_stream z = {.next_in = in,
                      .avail_in = (uInt)elf->length,
                      .next_out = packed,
                      .avail_out = (uInt)capacity};

        ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
        ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
        deflateEnd(&z);
        return z.total_out;
    } else if (compression == COMPRESSION_BZIP2) {
        unsigned got = (unsigned)capacity;

        ck_assert_int_eq(BZ2_bzBuffToBuffCompress((char *)packed, &got, (char *)in,
                                                  (unsigned)elf->length, 9, 0, 0),
                         BZ_OK);
        size = got;
    } else if (compression == COMPRESSION_XZ) {
        ck_assert_int_eq(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, in, elf->length, packed,
                                                 &size, capacity),
                         LZMA_OK);
    } else if (compression == COMPRESSION_LZMA) {
        lzma_stream z = LZMA_STREAM_INIT;
        lzma_options_lzma options;

        lzma_lzma_preset(&options, 6);
        ck_assert_int_eq(lzma_alone_encoder(&z, &options), LZMA_OK);
        z.next_in = in, z.avail_in = elf->length, z.next_out = packed, z.avail_out = capacity;
        ck_assert_int_eq(lzma_code(&z, LZMA_FINISH), LZMA_STREAM_END);
        size = (size_t)z.total_out;
        lzma_end(&z);
    } else if (compression == COMPRESSION_LZ4) {
        int got = LZ4_compress_default((char *)in, (char *)packed + 8, (int)elf->length,
                                       (int)capacity - 8);

        ck_assert_int_gt(got, 0);
        store_le32(packed, 0x184c2102);
        store_le32(packed + 4, (uint32_t)got);
        size = 8 + (size_t)got;
    } else if (compression == COMPRESSION_LZO) {
        static uint8_t work[LZO1X_1_MEM_COMPRESS];
        static const uint8_t head[] = {0x89, 'L',  'Z',  'O',  0,    0x0d, 0x0a, 0x1a, 0x0a,
                                       0x10, 0x30, 0x20, 0xa0, 0x09, 0x40, 1,    5,    0,
                                       0,    0,    1, /* flags: adler32 of the output */
                                       0,    0,    0,    0,    0,    0,    0,    0,    0,
                                       0,    0,    0,    0,    0,    0,    0,    0};
        lzo_uint got;

        memcpy(packed, head, sizeof(head));
        size = sizeof(head);
        ck_assert_int_eq(lzo1x_1_compress(in, elf->length, packed + size + 12, &got, work), 0);
        store_le32(packed + size, be32((uint32_t)elf->length));
        store_le32(packed + size + 4, be32((uint32_t)got));
        store_le32(packed + size + 8, 0);
        size += 12 + got;
        store_le32(packed + size, 0);
        size += 4;
    } else {
        size = ZSTD_compress(packed, capacity, in, elf->length, 19);
        ck_assert(!ZSTD_isError(size));
    }
    store_le32(packed + size, (uint32_t)elf->length);
    return size + 4;
}

static uint64_t guest_u64(const struct boot_machine *guest, gpa_t gpa)
{
    uint64_t value = 0;

    ck_assert_int_eq(memory_read(guest->memory, gpa, &value, sizeof(value)), 0);
    return value;
}

static uint32_t guest_u32(const struct boot_machine *guest, gpa_t gpa)
{
    return (uint32_t)guest_u64(guest, gpa);
}

static int load(const struct boot_machine *guest, const struct buf *kernel, const char *cmdline,
                const char *module, struct boot_result *ret, struct err *err)
{
    struct boot_source source = {
        .kernel = {.path = "K", .bytes = kernel->data, .nr_bytes = kernel->length},
        .cmdline = cmdline,
    };

    if (module) {
        source.nr_modules = 1;
        source.modules[0] = (struct boot_module){
            .file = {.path = "I", .bytes = module, .nr_bytes = strlen(module)}, .cmdline = "mod x"};
    }
    return boot_load(guest, &source, ret, err);
}

START_TEST(bzimage_of_every_compression)
{
    static const struct images_elf spec = ELF_KERNEL;
    struct boot_machine guest;
    struct buf elf;

    images_guest(&guest, GUEST_SIZE);
    buf_init(&elf, MIB);
    images_elf(&elf, &spec);
    for (enum compression c = COMPRESSION_GZIP; c <= COMPRESSION_ZSTD; c++) {
        struct boot_result result;
        struct err err = ERR_INIT;
        struct buf file;
        char text[sizeof(IMAGES_TEXT)];

        buf_init(&file, MIB);
        images_bzimage(&file, packed, pack(c, &elf));
        ck_assert_int_eq(memory_write(guest.memory, KERNEL_GPA + 0x200, "dirty", 5), 0);
        ck_assert_msg(load(&guest, &file, "quiet", "initrd!", &result, &err) == 0, "%s: %s",
                      compression_name(c), err.message);
        memory_read(guest.memory, KERNEL_GPA, text, sizeof(text));
        ck_assert_str_eq(text, IMAGES_TEXT);
        ck_assert_uint_eq(guest_u64(&guest, KERNEL_GPA + 0x200), 0); /* .bss */
        ck_assert_int_eq(result.protocol, BOOT_LINUX64);
        ck_assert_uint_eq(result.state.rip, KERNEL_GPA + 0x10);
        buf_done(&file);
    }
    buf_done(&elf);
    memory_free(guest.memory);
}
END_TEST

START_TEST(zero_page_and_long_mode)
{
    static const struct images_elf spec = ELF_KERNEL;
    struct boot_machine guest;
    struct boot_result result;
    struct buf elf, file;
    char text[16];

    images_guest(&guest, GUEST_SIZE);
    buf_init(&elf, MIB), buf_init(&file, MIB);
    images_elf(&elf, &spec);
    images_bzimage(&file, elf.data, elf.length); /* stored, uncompressed */
    ck_assert_int_eq(load(&guest, &file, "console=ttyS0", "initrd!", &result, NULL), 0);
    ck_assert_uint_eq(result.state.gpr[CPU_RSI], PARAMS);
    ck_assert_uint_eq(guest_u32(&guest, PARAMS + 0x202), 0x53726448);
    ck_assert_uint_eq(guest_u32(&guest, PARAMS + 0x210) & 0xff, 0xff);
    memory_read(guest.memory, guest_u32(&guest, PARAMS + 0x228), text, 14);
    ck_assert_str_eq(text, "console=ttyS0");
    ck_assert_uint_eq(guest_u32(&guest, PARAMS + 0x218), GUEST_SIZE - 4096);
    ck_assert_uint_eq(guest_u32(&guest, PARAMS + 0x21c), 7);
    memory_read(guest.memory, GUEST_SIZE - 4096, text, 7);
    ck_assert_mem_eq(text, "initrd!", 7);
    ck_assert_uint_eq(guest_u64(&guest, PARAMS + 0x70), 0xe0000);
    ck_assert_uint_eq(guest_u32(&guest, PARAMS + 0x1e8) & 0xff, 4);
    ck_assert_uint_eq(guest_u64(&guest, PARAMS + 0x2d0 + 60), MIB);
    ck_assert_uint_eq(guest_u64(&guest, PARAMS + 0x2d0 + 68), GUEST_SIZE - MIB);
    ck_assert_uint_eq(result.state.efer, CPU_EFER_LME | CPU_EFER_LMA);
    ck_assert(result.state.cr0 & CPU_CR0_PG && result.state.cr4 & CPU_CR4_PAE);
    ck_assert_uint_eq(result.state.segment[CPU_CS].selector, 0x10);
    ck_assert_uint_eq(guest_u64(&guest, result.state.gdtr.base + 0x10), 0x00af9b000000ffff);
    ck_assert_uint_eq(guest_u64(&guest, result.state.gdtr.base + 0x18), 0x00cf93000000ffff);
    ck_assert_uint_eq(guest_u64(&guest, result.state.cr3 + 0x5000 + 4088), 0xffe00083);
    buf_done(&elf), buf_done(&file);
    memory_free(guest.memory);
}
END_TEST

/* Each case spoils one thing of a good bzImage and names a part of the message. */
START_TEST(bad_bzimages_are_explained)
{
    static const struct {
        const char *text;
        uint64_t guest_size;
        size_t cut;    /* keep so many bytes; 0: all */
        size_t offset; /* where `value` is put */
        uint8_t value[4];
        unsigned nr_value;
    } cases[] = {
        {"truncated", GUEST_SIZE, 900, 0, {0}, 0},
        {"truncated: it has 1100 bytes", GUEST_SIZE, 1100, 0, {0}, 0},
        {"boot flag", GUEST_SIZE, 0, 0x1fe, {0}, 2},
        {"protocol 2.01", GUEST_SIZE, 0, 0x206, {1, 2}, 2},
        {"zImage", GUEST_SIZE, 0, 0x211, {0}, 1},
        {"no known way", GUEST_SIZE, 0, 0x400, {1, 2, 3, 4}, 4},
        {"truncated", GUEST_SIZE, 0, 0x248, {0xff, 0xff, 0xff, 0xff}, 4},
        {"truncated", GUEST_SIZE, 0, 0x24c, {0xff, 0xff, 0xff, 0xff}, 4},
        {"damaged", GUEST_SIZE, 0, 0x24c, {3, 0, 0, 0}, 4},
        {"behind the end of the file", GUEST_SIZE, 0, 0x400 + 64 + 15, {0x40}, 1},
        {"needs memory at 0x1000000", 4 * MIB, 0, 0, {0}, 0},
    };
    static const struct images_elf spec = ELF_KERNEL;
    struct buf elf;

    buf_init(&elf, MIB);
    images_elf(&elf, &spec);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct boot_machine guest;
        struct boot_result result;
        struct err err = ERR_INIT;
        struct buf file;

        images_guest(&guest, cases[i].guest_size);
        buf_init(&file, MIB);
        images_bzimage(&file, elf.data, elf.length);
        memcpy(file.data + cases[i].offset, cases[i].value, cases[i].nr_value);
        if (cases[i].cut)
            file.length = cases[i].cut;
        ck_assert_msg(load(&guest, &file, NULL, NULL, &result, &err) < 0, "case %u", i);
        ck_assert_msg(strstr(err.message, cases[i].text), "case %u: %s", i, err.message);
        ck_assert_msg(strstr(err.message, "'K'"), "case %u: %s", i, err.message);
        buf_done(&file);
        memory_free(guest.memory);
    }
    buf_done(&elf);
}
END_TEST

START_TEST(bombs_and_damaged_payloads_end)
{
    struct boot_machine guest;
    struct boot_result result;
    struct buf big, file;

    images_guest(&guest, 8 * MIB);
    buf_init(&big, 64 * MIB);
    ck_assert_int_eq(buf_reserve(&big, 16 * MIB), 0);
    memset(big.data, 0, 16 * MIB);
    big.length = 16 * MIB;
    for (enum compression c = COMPRESSION_GZIP; c <= COMPRESSION_ZSTD; c++) {
        struct err err = ERR_INIT;
        size_t length;

        if (c == COMPRESSION_LZO || c == COMPRESSION_LZ4)
            continue; /* 16 MiB of zeros do not pack into 64 KiB */
        length = pack(c, &big);
        buf_init(&file, MIB);
        images_bzimage(&file, packed, length);
        ck_assert_msg(load(&guest, &file, NULL, NULL, &result, &err) == -EFBIG, "%s: %d %s",
                      compression_name(c), err.code, err.message);
        file.data[0x400 + length / 2] ^= 0x55;
        ck_assert_int_lt(load(&guest, &file, NULL, NULL, &result, &err), 0);
        store_le32(file.data + 0x24c, (uint32_t)length / 2);
        ck_assert_int_lt(load(&guest, &file, NULL, NULL, &result, &err), 0);
        buf_done(&file);
    }
    buf_done(&big);
    memory_free(guest.memory);
}
END_TEST

START_TEST(initrd_must_fit_below_its_limit)
{
    static const struct images_elf spec = ELF_KERNEL;
    struct boot_machine guest;
    struct boot_result result;
    struct err err = ERR_INIT;
    struct buf elf, file;

    images_guest(&guest, GUEST_SIZE);
    buf_init(&elf, MIB), buf_init(&file, MIB);
    images_elf(&elf, &spec);
    images_bzimage(&file, elf.data, elf.length);
    store_le32(file.data + 0x22c, 0x1ffffff); /* 32 MiB */
    ck_assert_int_eq(load(&guest, &file, NULL, "initrd!", &result, NULL), 0);
    ck_assert_uint_eq(guest_u32(&guest, PARAMS + 0x218), 32 * MIB - 4096);
    store_le32(file.data + 0x22c, 0x103ffff); /* the kernel's own end */
    ck_assert_int_eq(load(&guest, &file, NULL, "initrd!", &result, &err), -ENOMEM);
    ck_assert_ptr_nonnull(strstr(err.message, "initrd 'I'"));
    buf_done(&elf), buf_done(&file);
    memory_free(guest.memory);
}
END_TEST

START_TEST(pvh_start_info)
{
    static const struct images_elf spec = {
        .gpa = KERNEL_GPA, .entry = 1, .memory_size = 0x1000, .pvh_entry = KERNEL_GPA + 0x20};
    struct boot_machine guest;
    struct boot_result result;
    struct buf elf;
    gpa_t info, module;
    char text[8];

    images_guest(&guest, GUEST_SIZE);
    buf_init(&elf, MIB);
    images_elf(&elf, &spec);
    ck_assert_int_eq(load(&guest, &elf, "args", "module!", &result, NULL), 0);
    ck_assert_int_eq(result.protocol, BOOT_PVH);
    ck_assert_uint_eq(result.state.rip, KERNEL_GPA + 0x20);
    ck_assert_uint_eq(result.state.cr0 & (CPU_CR0_PE | CPU_CR0_PG), CPU_CR0_PE);
    info = result.state.gpr[CPU_RBX];
    ck_assert_uint_eq(guest_u32(&guest, info), 0x336ec578);
    ck_assert_uint_eq(guest_u32(&guest, info + 4), 1);
    ck_assert_uint_eq(guest_u32(&guest, info + 12), 1);
    module = guest_u64(&guest, info + 16);
    memory_read(guest.memory, guest_u64(&guest, info + 24), text, 5);
    ck_assert_str_eq(text, "args");
    ck_assert_uint_eq(guest_u64(&guest, info + 32), 0xe0000);
    ck_assert_uint_eq(guest_u32(&guest, info + 48), 4);
    ck_assert_uint_eq(guest_u64(&guest, guest_u64(&guest, info + 40) + 24 * 3), MIB);
    ck_assert_uint_eq(guest_u64(&guest, module + 8), 7);
    memory_read(guest.memory, guest_u64(&guest, module), text, 7);
    ck_assert_mem_eq(text, "module!", 7);
    buf_done(&elf);
    memory_free(guest.memory);
}
END_TEST

START_TEST(multiboot_by_elf_and_by_addresses)
{
    static const struct images_elf spec = {.narrow = true,
                                           .gpa = 2 * MIB,
                                           .entry = 2 * MIB + 0x40,
                                           .memory_size = 0x2000,
                                           .multiboot = 0x20};
    uint32_t kludge[64] = {0};
    struct boot_machine guest;
    struct boot_result result;
    struct buf elf;
    gpa_t info, modules;
    char text[8];

    images_guest(&guest, GUEST_SIZE);
    buf_init(&elf, MIB);
    images_elf(&elf, &spec);
    ck_assert_int_eq(load(&guest, &elf, "args", "module!", &result, NULL), 0);
    ck_assert_int_eq(result.protocol, BOOT_MULTIBOOT);
    ck_assert_uint_eq(result.state.rip, 2 * MIB + 0x40);
    ck_assert_uint_eq(result.state.gpr[CPU_RAX], 0x2badb002);
    info = result.state.gpr[CPU_RBX];
    ck_assert_uint_eq(guest_u32(&guest, info), 0x24d);
    ck_assert_uint_eq(guest_u32(&guest, info + 8), (GUEST_SIZE - MIB) / KIB);
    memory_read(guest.memory, guest_u32(&guest, info + 16), text, 5);
    ck_assert_str_eq(text, "args");
    ck_assert_uint_eq(guest_u32(&guest, info + 20), 1);
    modules = guest_u32(&guest, info + 24);
    ck_assert_uint_eq(guest_u32(&guest, modules), 2 * MIB + 0x2000);
    ck_assert_uint_eq(guest_u32(&guest, modules + 4), 2 * MIB + 0x2007);
    memory_read(guest.memory, guest_u32(&guest, modules + 8), text, 6);
    ck_assert_str_eq(text, "mod x");
    ck_assert_uint_eq(guest_u32(&guest, info + 44), 4 * 24);
    ck_assert_uint_eq(guest_u32(&guest, guest_u32(&guest, info + 48)), 20);

    elf.length = 0;
    memcpy(kludge + 4,
           (uint32_t[]){0x1badb002, 0x10003, 0u - 0x1badb002 - 0x10003, 0x200010, 0x200000,
                        0x200080, 0x200400, 0x200050},
           32);
    kludge[20] = 0x12345678;
    ck_assert_int_eq(buf_append(&elf, kludge, sizeof(kludge)), 0);
    memory_write(guest.memory, 0x200200, "dirty", 5);
    ck_assert_int_eq(load(&guest, &elf, NULL, NULL, &result, NULL), 0);
    ck_assert_uint_eq(result.state.rip, 0x200050);
    ck_assert_uint_eq(guest_u32(&guest, 0x200050), 0x12345678);
    ck_assert_uint_eq(guest_u64(&guest, 0x200200), 0);
    buf_done(&elf);
    memory_free(guest.memory);
}
END_TEST

START_TEST(what_is_no_kernel_is_said)
{
    static const struct {
        const char *bytes, *text;
        size_t nr_bytes;
    } cases[] = {
        {"hello", "only 5 bytes", 5},
        {"\x1f\x8b\x08 and so on", "gzip-compressed", 12},
        {"\177ELF", "(truncated?)", 4},
    };
    static const struct images_elf plain = {.gpa = MIB, .entry = MIB, .memory_size = 0x1000};
    static const struct images_elf low = {
        .gpa = 0x7f000, .entry = MIB, .memory_size = 0x2000, .pvh_entry = 0x7f000};
    struct boot_machine guest;
    struct boot_result result;
    struct boot_source source = {.kernel = {.path = "/nonexistent/kernel"}};
    struct err err = ERR_INIT;
    struct buf file;

    images_guest(&guest, GUEST_SIZE);
    ck_assert_int_eq(boot_load(&guest, &source, &result, &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.message, "kernel '/nonexistent/kernel'"));
    source.kernel.path = "/";
    ck_assert_int_lt(boot_load(&guest, &source, &result, &err), 0);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        file = (struct buf){.data = (char *)(uintptr_t)cases[i].bytes, .length = cases[i].nr_bytes};
        ck_assert_int_lt(load(&guest, &file, NULL, NULL, &result, &err), 0);
        ck_assert_msg(strstr(err.message, cases[i].text), "%s", err.message);
    }
    buf_init(&file, MIB);
    images_elf(&file, &plain);
    ck_assert_int_lt(load(&guest, &file, NULL, NULL, &result, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.message, "PVH"));
    file.length = 0;
    images_elf(&file, &low);
    ck_assert_int_lt(load(&guest, &file, NULL, NULL, &result, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.message, "boot data"));
    buf_done(&file);
    memory_free(guest.memory);
}
END_TEST

START_TEST(a_distribution_kernel_loads)
{
    const char *path = getenv("LODGE_TEST_KERNEL");
    struct boot_source source = {.kernel = {.path = path}, .cmdline = "console=ttyS0"};
    struct boot_machine guest;
    struct boot_result result;
    struct err err = ERR_INIT;

    TEST_NEEDS(path && access(path, R_OK) == 0, "LODGE_TEST_KERNEL names no kernel");
    images_guest(&guest, 256 * MIB);
    ck_assert_msg(boot_load(&guest, &source, &result, &err) == 0, "%s", err.message);
    ck_assert_int_eq(result.protocol, BOOT_LINUX64);
    ck_assert_uint_eq(result.state.rip, KERNEL_GPA);
    memory_free(guest.memory);
}
END_TEST

TEST_MAIN("boot", tcase_add_test(tcase, bzimage_of_every_compression);
          tcase_add_test(tcase, zero_page_and_long_mode);
          tcase_add_test(tcase, bad_bzimages_are_explained);
          tcase_add_test(tcase, bombs_and_damaged_payloads_end);
          tcase_add_test(tcase, initrd_must_fit_below_its_limit);
          tcase_add_test(tcase, pvh_start_info);
          tcase_add_test(tcase, multiboot_by_elf_and_by_addresses);
          tcase_add_test(tcase, what_is_no_kernel_is_said);
          tcase_add_test(tcase, a_distribution_kernel_loads))
