/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linux bzImage (Documentation/arch/x86/boot.rst, zero-page.rst). The kernel proper, an ELF file
 * compressed inside, is decompressed here and placed at the addresses it was linked for, so the
 * guest neither decompresses nor relocates: no KASLR. A 64-bit kernel is entered at its ELF entry
 * with the registers of the 64-bit boot protocol, a 32-bit one likewise by the 32-bit protocol.
 * An image older than protocol 2.08 does not say where its payload is: it is loaded whole and
 * entered at its 32-bit entry.
 */
#include "base/cleanup.h"
#include "base/util.h"
#include "machine/boot/decompress.h"
#include "machine/boot/loader.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

/* Offsets in the file's first sectors and in the zero page alike. */
#define SETUP_SECTS       0x1f1
#define SETUP_SYSSIZE     0x1f4
#define SETUP_BOOT_FLAG   0x1fe
#define SETUP_JUMP_LENGTH 0x201
#define SETUP_MAGIC       0x202
#define SETUP_VERSION     0x206
#define SETUP_LOADER      0x210
#define SETUP_LOADFLAGS   0x211
#define SETUP_CODE32      0x214
#define SETUP_RAMDISK     0x218
#define SETUP_RAMDISK_LEN 0x21c
#define SETUP_HEAP_END    0x224
#define SETUP_CMDLINE     0x228
#define SETUP_INITRD_MAX  0x22c
#define SETUP_RELOCATABLE 0x234
#define SETUP_XLOADFLAGS  0x236
#define SETUP_CMDLINE_MAX 0x238
#define SETUP_PAYLOAD     0x248
#define SETUP_PAYLOAD_LEN 0x24c
#define SETUP_PREF        0x258
#define SETUP_INIT_SIZE   0x260
#define SETUP_END_MAX     0x290 /* of what is copied into the zero page */

/* Zero page only. */
#define PARAMS_RSDP       0x070
#define PARAMS_E820_COUNT 0x1e8
#define PARAMS_E820       0x2d0
#define E820_ENTRY        20

#define BOOT_FLAG          0xaa55
#define LOADER_UNDEFINED   0xff
#define LOADFLAG_HIGH      0x01
#define LOADFLAG_HEAP      0x80
#define XLOADFLAG_KERNEL64 0x01

#define INITRD_MAX_OLD   UINT64_C(0x37ffffff)
#define CMDLINE_MAX_OLD  255
#define LOAD_ADDRESS_OLD MIB

struct bzimage {
    uint8_t setup[SETUP_END_MAX]; /* zeros where the file's header is shorter */
    unsigned version;
    uint64_t setup_size; /* where protected-mode code begins in the file */
};

bool bzimage_is(const void *head, uint64_t length)
{
    const uint8_t *bytes = head;

    return length >= SETUP_MAGIC + 4 && !memcmp(bytes + SETUP_MAGIC, "HdrS", 4);
}

static int read_setup(const struct boot_loader *loader, struct bzimage *ret, struct err *err)
{
    const struct boot_input *kernel = &loader->kernel;
    uint64_t end;
    int result;

    memset(ret, 0, sizeof(*ret));
    result = boot_input_read(kernel, 0, ret->setup, MIN(SETUP_END_MAX, kernel->size_bytes), err);
    if (result < 0)
        return result;
    ret->version = load_le16(ret->setup + SETUP_VERSION);
    if (load_le16(ret->setup + SETUP_BOOT_FLAG) != BOOT_FLAG)
        return err_set(err, -ENOEXEC, "kernel '%s' is damaged: no boot flag", kernel->path);
    if (ret->version < 0x202)
        return err_set(err, -ENOEXEC,
                       "kernel '%s' speaks boot protocol %u.%02u; 2.02 or later is needed",
                       kernel->path, ret->version >> 8, ret->version & 0xff);
    if (!(ret->setup[SETUP_LOADFLAGS] & LOADFLAG_HIGH))
        return err_set(err, -ENOEXEC, "kernel '%s' is a zImage; a bzImage is needed", kernel->path);
    ret->setup_size = ((ret->setup[SETUP_SECTS] ? ret->setup[SETUP_SECTS] : 4) + UINT64_C(1)) * 512;
    if (ret->setup_size >= kernel->size_bytes)
        return err_set(err, -EINVAL,
                       "'%s' is truncated: it has %" PRIu64
                       " bytes, its setup code alone has %" PRIu64,
                       kernel->path, kernel->size_bytes, ret->setup_size);
    /* The header says itself where it ends; behind it the copy must be zero. */
    end = SETUP_MAGIC + (uint64_t)ret->setup[SETUP_JUMP_LENGTH];
    if (end < SETUP_END_MAX)
        memset(ret->setup + end, 0, SETUP_END_MAX - end);
    return 0;
}

struct mapping {
    void *data;
    size_t size;
};

static void mapping_done(struct mapping *mapping)
{
    if (mapping->data)
        munmap(mapping->data, mapping->size);
}

static int mapping_make(size_t size, struct mapping *ret)
{
    void *data = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (data == MAP_FAILED)
        return -ENOMEM;
    (void)madvise(data, size, MADV_HUGEPAGE); /* it is all written, once */
    *ret = (struct mapping){data, size};
    return 0;
}

/* The payload's range in the file: [*ret_offset, + *ret_length). */
static int find_payload(const struct boot_loader *loader, const struct bzimage *image,
                        uint64_t *ret_offset, uint64_t *ret_length, struct err *err)
{
    const struct boot_input *kernel = &loader->kernel;
    uint64_t offset = image->setup_size + load_le32(image->setup + SETUP_PAYLOAD);
    uint64_t length = load_le32(image->setup + SETUP_PAYLOAD_LEN);

    if (length < 16)
        return err_set(err, -EINVAL, "kernel '%s' is damaged: a payload of %" PRIu64 " bytes",
                       kernel->path, length);
    if (!range_fits(offset, length, kernel->size_bytes))
        return err_set(err, -EINVAL,
                       "'%s' is truncated: it has %" PRIu64
                       " bytes, its compressed kernel ends at %" PRIu64,
                       kernel->path, kernel->size_bytes, offset + length);
    *ret_offset = offset;
    *ret_length = length;
    return 0;
}

static int unpack(const struct boot_loader *loader, const struct bzimage *image,
                  struct mapping *ret_elf, uint64_t *ret_size, struct err *err)
{
    CLEANUP(mapping_done) struct mapping packed = {0};
    const struct boot_input *kernel = &loader->kernel;
    uint64_t offset = 0, length = 0, capacity = 0;
    enum compression compression;
    size_t size = 0;
    int result;

    if ((result = find_payload(loader, image, &offset, &length, err)) < 0)
        return result;
    /* What does not fit into the guest's memory need not be decompressed. */
    for (unsigned i = 0; i < loader->machine->nr_regions; i++)
        if (loader->machine->regions[i].kind == BOOT_REGION_RAM)
            capacity = MAX(capacity, loader->machine->regions[i].size_bytes);
    if (mapping_make(length, &packed) < 0 || mapping_make(capacity, ret_elf) < 0)
        return err_set(err, -ENOMEM, "no memory to decompress kernel '%s'", kernel->path);
    if ((result = boot_input_read(kernel, offset, packed.data, length, err)) < 0)
        return result;
    compression = compression_detect(packed.data, length);
    if (compression == COMPRESSION_UNKNOWN) {
        const uint8_t *b = packed.data;

        return err_set(err, -EINVAL,
                       "kernel '%s': its payload, beginning %02x %02x %02x %02x, is compressed in "
                       "no known way (damaged?)",
                       kernel->path, b[0], b[1], b[2], b[3]);
    }
    result = decompress(compression, packed.data, length, ret_elf->data, capacity, &size, err);
    if (result == -EFBIG)
        return err_wrap(err, "kernel '%s' does not fit into the guest's memory (give it more)",
                        kernel->path);
    if (result < 0)
        return err_wrap(err, "kernel '%s': its payload (%s) cannot be unpacked", kernel->path,
                        compression_name(compression));
    *ret_size = size;
    return 0;
}

static uint64_t initrd_limit(const struct bzimage *image)
{
    uint64_t most = INITRD_MAX_OLD;

    if (image->version >= 0x203 && load_le32(image->setup + SETUP_INITRD_MAX))
        most = load_le32(image->setup + SETUP_INITRD_MAX);
    return most + 1;
}

static int load_initrd(struct boot_loader *loader, const struct bzimage *image, uint8_t *params,
                       struct err *err)
{
    const struct boot_source *source = loader->source;
    struct boot_input initrd;
    gpa_t place = 0;
    int result;

    if (source->nr_modules > 1)
        return err_set(err, -EINVAL, "kernel '%s' takes one initrd, %u were given",
                       loader->kernel.path, source->nr_modules);
    if (!source->nr_modules)
        return 0;
    if ((result = boot_input_open(&source->modules[0].file, "initrd", &initrd, err)) < 0)
        return result;
    if (initrd.size_bytes > UINT32_MAX ||
        boot_find_high(loader, initrd.size_bytes, MAX(loader->image_end, MIB),
                       MIN(initrd_limit(image), BOOT_LIMIT_32), &place) < 0)
        result = err_set(
            err, -ENOMEM,
            "initrd '%s' (%" PRIu64 " KiB) does not fit into guest memory between "
            "the kernel's end at 0x%" PRIx64 " and 0x%" PRIx64 ": give the guest more memory",
            initrd.path, initrd.size_bytes / KIB, loader->image_end, initrd_limit(image));
    if (!result)
        result = boot_copy(loader, &initrd, 0, place, initrd.size_bytes, err);
    store_le32(params + SETUP_RAMDISK, (uint32_t)place);
    store_le32(params + SETUP_RAMDISK_LEN, (uint32_t)initrd.size_bytes);
    boot_input_close(&initrd);
    return result;
}

static void fill_e820(const struct boot_loader *loader, uint8_t *params)
{
    const struct boot_machine *machine = loader->machine;

    params[PARAMS_E820_COUNT] = (uint8_t)machine->nr_regions;
    for (unsigned i = 0; i < machine->nr_regions; i++) {
        uint8_t *entry = params + PARAMS_E820 + (uint64_t)i * E820_ENTRY;

        store_le64(entry, machine->regions[i].gpa);
        store_le64(entry + 8, machine->regions[i].size_bytes);
        store_le32(entry + 16, machine->regions[i].kind);
    }
}

/* The zero page; loads the initrd on the way. */
static int write_params(struct boot_loader *loader, const struct bzimage *image, struct err *err)
{
    uint8_t params[GUEST_PAGE_SIZE] = {0};
    const char *cmdline = loader->source->cmdline ? loader->source->cmdline : "";
    uint32_t cmdline_max = CMDLINE_MAX_OLD;
    gpa_t cmdline_gpa;
    int result;

    if (image->version >= 0x206)
        cmdline_max = load_le32(image->setup + SETUP_CMDLINE_MAX);
    if (strlen(cmdline) > cmdline_max)
        return err_set(err, -E2BIG,
                       "a command line of %zu characters; kernel '%s' takes at most %u",
                       strlen(cmdline), loader->kernel.path, cmdline_max);
    memcpy(params + SETUP_SECTS, image->setup + SETUP_SECTS, SETUP_END_MAX - SETUP_SECTS);
    params[SETUP_LOADER] = LOADER_UNDEFINED;
    params[SETUP_LOADFLAGS] |= LOADFLAG_HEAP;
    store_le16(params + SETUP_HEAP_END, 0xfe00);
    store_le64(params + PARAMS_RSDP, loader->machine->rsdp);
    fill_e820(loader, params);
    if ((result = boot_add_string(loader, cmdline, &cmdline_gpa, err)) < 0)
        return result;
    store_le32(params + SETUP_CMDLINE, (uint32_t)cmdline_gpa);
    if ((result = load_initrd(loader, image, params, err)) < 0)
        return result;
    return boot_write(loader, BOOT_PARAMETERS, params, sizeof(params), err);
}

/* 2.02 to 2.07: the image as it is, unpacking itself in the guest. */
static int load_whole(struct boot_loader *loader, const struct bzimage *image, gpa_t *ret_entry,
                      struct err *err)
{
    uint64_t length = loader->kernel.size_bytes - image->setup_size;
    /* Room to unpack: three times the packed size, as no init_size tells. */
    uint64_t room = MAX(4 * length, 8 * MIB);
    int result;

    if ((result = boot_check_image(loader, LOAD_ADDRESS_OLD, room, err)) < 0)
        return result;
    result = boot_copy(loader, &loader->kernel, image->setup_size, LOAD_ADDRESS_OLD, length, err);
    if (result < 0)
        return result;
    loader->image_end = LOAD_ADDRESS_OLD + room;
    *ret_entry = LOAD_ADDRESS_OLD;
    return 0;
}

static int load_payload(struct boot_loader *loader, const struct bzimage *image, gpa_t *ret_entry,
                        bool *ret_64bit, struct err *err)
{
    CLEANUP(mapping_done) struct mapping unpacked = {0};
    struct boot_input input = {.path = loader->kernel.path, .fd = -1};
    struct elf_image elf;
    int result;

    if ((result = unpack(loader, image, &unpacked, &input.size_bytes, err)) < 0)
        return result;
    input.bytes = unpacked.data;
    if (!elf_is(input.bytes, input.size_bytes))
        return err_set(err, -ENOEXEC, "kernel '%s' is damaged: its payload unpacks to no ELF file",
                       loader->kernel.path);
    if ((result = elf_parse(&input, &elf, err)) < 0)
        return err_wrap(err, "the unpacked payload of kernel");
    if (elf.is_64bit && image->version >= 0x20c &&
        !(load_le16(image->setup + SETUP_XLOADFLAGS) & XLOADFLAG_KERNEL64))
        return err_set(err, -ENOEXEC,
                       "kernel '%s' contradicts itself: 64-bit, but has no 64-bit "
                       "entry",
                       loader->kernel.path);
    if ((result = elf_load(loader, &input, &elf, err)) < 0)
        return result;
    *ret_entry = elf.entry;
    *ret_64bit = elf.is_64bit;
    return 0;
}

int bzimage_load(struct boot_loader *loader, struct boot_result *ret, struct err *err)
{
    struct bzimage image;
    bool is_64bit = false;
    gpa_t entry = 0;
    int result;

    if ((result = read_setup(loader, &image, err)) < 0)
        return result;
    if (image.version >= 0x208 && load_le32(image.setup + SETUP_PAYLOAD_LEN))
        result = load_payload(loader, &image, &entry, &is_64bit, err);
    else
        result = load_whole(loader, &image, &entry, err);
    if (result < 0)
        return result;
    if (!boot_is_ram(loader, entry, 1) || entry >= loader->image_end || entry >= BOOT_LIMIT_32)
        return err_set(err, -ENOEXEC, "kernel '%s' has its entry at 0x%" PRIx64 ", outside itself",
                       loader->kernel.path, entry);
    if ((result = write_params(loader, &image, err)) < 0)
        return result;
    ret->protocol = is_64bit ? BOOT_LINUX64 : BOOT_LINUX32;
    result = is_64bit ? boot_state_long(loader, entry, &ret->state, err)
                      : boot_state_protected(loader, (uint32_t)entry, &ret->state, err);
    ret->state.gpr[CPU_RSI] = BOOT_PARAMETERS;
    return result;
}
