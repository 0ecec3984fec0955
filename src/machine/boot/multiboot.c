/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Multiboot 0.6.96 kernels: a header in the first 8 KiB, loaded as ELF or by the header's address
 * fields; entered in 32-bit protected mode without paging, EAX = 2BADB002h, EBX = information.
 */
#include "base/util.h"
#include "machine/boot/loader.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define HEADER_MAGIC 0x1badb002u
#define LOADER_MAGIC 0x2badb002u

#define HEADER_KNOWN     7u /* page alignment, memory, video mode (a wish, not met) */
#define HEADER_REQUIRED  0xffffu
#define HEADER_ADDRESSES (1u << 16)

#define INFO_MEMORY  (1u << 0)
#define INFO_CMDLINE (1u << 2)
#define INFO_MODULES (1u << 3)
#define INFO_MAP     (1u << 6)
#define INFO_NAME    (1u << 9)

#define MODULES_AT (BOOT_TABLES + GUEST_PAGE_SIZE)

struct header {
    uint32_t magic, flags, checksum;
    uint32_t header_address, load_address, load_end, bss_end, entry;
};

struct information {
    uint32_t flags, memory_lower_kib, memory_upper_kib, boot_device, cmdline;
    uint32_t nr_modules, modules, symbols[4], map_length, map;
    uint32_t drives_length, drives, config_table, loader_name, apm, vbe[4];
};

struct module {
    uint32_t start, end, cmdline, reserved;
};

struct map_entry {
    uint32_t size; /* of what follows */
    uint64_t gpa, size_bytes;
    uint32_t kind;
} __attribute__((packed));

/* Offset of the header in the file's first bytes, or -1. */
static int find_header(const uint8_t *head, uint64_t length)
{
    for (uint64_t offset = 0; offset + 12 <= MIN(length, (uint64_t)BOOT_HEAD_MAX); offset += 4) {
        uint32_t flags = load_le32(head + offset + 4), sum = load_le32(head + offset + 8);

        if (load_le32(head + offset) == HEADER_MAGIC && HEADER_MAGIC + flags + sum == 0)
            return (int)offset;
    }
    return -1;
}

bool multiboot_is(const void *head, uint64_t length)
{
    return find_header(head, length) >= 0;
}

static int load_by_addresses(struct boot_loader *loader, const struct header *header,
                             uint64_t header_offset, uint32_t *ret_entry, struct err *err)
{
    uint64_t before = (uint64_t)header->header_address - header->load_address, offset, length;
    gpa_t end;
    int result;

    if (header->load_address > header->header_address || before > header_offset)
        return err_set(err, -ENOEXEC, "'%s': the multiboot header's load address is wrong",
                       loader->kernel.path);
    offset = header_offset - before;
    length = loader->kernel.size_bytes - offset;
    if (header->load_end) {
        if (header->load_end < header->load_address)
            return err_set(err, -ENOEXEC, "'%s': the multiboot header's load end is wrong",
                           loader->kernel.path);
        length = header->load_end - header->load_address;
    }
    end = MAX(header->load_address + length, (uint64_t)header->bss_end);
    if ((result = boot_check_image(loader, header->load_address, end - header->load_address, err)) <
        0)
        return result;
    result = boot_copy(loader, &loader->kernel, offset, header->load_address, length, err);
    if (!result)
        result = boot_zero(loader, header->load_address + length,
                           end - header->load_address - length, err);
    loader->image_end = align_up(end, GUEST_PAGE_SIZE);
    *ret_entry = header->entry;
    return result;
}

static int load_as_elf(struct boot_loader *loader, uint32_t *ret_entry, struct err *err)
{
    struct elf_image image;
    uint64_t entry;
    int result;

    if ((result = elf_parse(&loader->kernel, &image, err)) < 0 ||
        (result = elf_load(loader, &loader->kernel, &image, err)) < 0)
        return result;
    /* An entry by virtual address, as a higher-half kernel's linker writes it, is translated. */
    entry = image.entry;
    for (unsigned i = 0; i < image.nr_segments; i++) {
        const struct elf_segment *s = &image.segments[i];

        if (image.entry - s->virtual_address < s->memory_size) {
            entry = image.entry - s->virtual_address + s->gpa;
            break;
        }
    }
    if (entry < image.low || entry >= image.high || entry >= BOOT_LIMIT_32)
        return err_set(err, -ENOEXEC, "'%s' has its entry at 0x%" PRIx64 ", outside itself",
                       loader->kernel.path, image.entry);
    *ret_entry = (uint32_t)entry;
    return 0;
}

/* KiB of RAM from 1 MiB up to the first hole. */
static uint32_t upper_memory_kib(const struct boot_loader *loader)
{
    for (unsigned i = 0; i < loader->machine->nr_regions; i++) {
        const struct boot_region *region = &loader->machine->regions[i];

        if (region->gpa == MIB && region->kind == BOOT_REGION_RAM)
            return (uint32_t)(MIN(region->size_bytes, BOOT_LIMIT_32 - MIB) / KIB);
    }
    return 0;
}

static int write_information(struct boot_loader *loader, struct err *err)
{
    static const char name[] = "lodge";
    const struct boot_machine *machine = loader->machine;
    struct boot_loaded loaded[BOOT_MODULES_MAX] = {{0}};
    struct module modules[BOOT_MODULES_MAX] = {{0}};
    struct map_entry map[BOOT_REGIONS_MAX];
    struct information info = {
        .flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MAP | INFO_NAME,
        .memory_lower_kib = 639,
        .memory_upper_kib = upper_memory_kib(loader),
        .nr_modules = loader->source->nr_modules,
        .modules = (uint32_t)MODULES_AT,
        .map_length = (uint32_t)(machine->nr_regions * sizeof(map[0])),
        .map = (uint32_t)BOOT_TABLES,
    };
    gpa_t cmdline, loader_name;
    int result;

    memset(map, 0, sizeof(map));
    if ((result = boot_add_string(loader, loader->source->cmdline, &cmdline, err)) < 0 ||
        (result = boot_add_string(loader, name, &loader_name, err)) < 0 ||
        (result = boot_load_modules(loader, loaded, err)) < 0)
        return result;
    info.cmdline = (uint32_t)cmdline;
    info.loader_name = (uint32_t)loader_name;
    for (unsigned i = 0; i < loader->source->nr_modules; i++)
        modules[i] = (struct module){(uint32_t)loaded[i].gpa,
                                     (uint32_t)(loaded[i].gpa + loaded[i].size_bytes),
                                     (uint32_t)loaded[i].cmdline, 0};
    for (unsigned i = 0; i < machine->nr_regions; i++)
        map[i] = (struct map_entry){sizeof(map[i]) - sizeof(map[i].size), machine->regions[i].gpa,
                                    machine->regions[i].size_bytes, machine->regions[i].kind};
    if ((result = boot_write(loader, BOOT_TABLES, map, sizeof(map), err)) < 0 ||
        (result = boot_write(loader, MODULES_AT, modules, sizeof(modules), err)) < 0)
        return result;
    return boot_write(loader, BOOT_PARAMETERS, &info, sizeof(info), err);
}

int multiboot_load(struct boot_loader *loader, struct boot_result *ret, struct err *err)
{
    uint8_t head[BOOT_HEAD_MAX] = {0};
    struct header header = {0};
    uint32_t entry = 0;
    int offset, result;

    result = boot_input_read(&loader->kernel, 0, head, MIN(sizeof(head), loader->kernel.size_bytes),
                             err);
    if (result < 0)
        return result;
    if ((offset = find_header(head, MIN(sizeof(head), loader->kernel.size_bytes))) < 0)
        return err_set(err, -ENOEXEC, "'%s' has no multiboot header", loader->kernel.path);
    memcpy(&header, head + offset, MIN(sizeof(header), sizeof(head) - (size_t)offset));
    if (header.flags & HEADER_REQUIRED & ~HEADER_KNOWN)
        return err_set(err, -ENOEXEC, "'%s' requires multiboot features 0x%x that are not offered",
                       loader->kernel.path, header.flags & HEADER_REQUIRED & ~HEADER_KNOWN);
    if (header.flags & HEADER_ADDRESSES)
        result = load_by_addresses(loader, &header, (uint64_t)offset, &entry, err);
    else
        result = load_as_elf(loader, &entry, err);
    if (result < 0)
        return result;
    if ((result = write_information(loader, err)) < 0)
        return result;
    ret->protocol = BOOT_MULTIBOOT;
    result = boot_state_protected(loader, entry, &ret->state, err);
    ret->state.gpr[CPU_RAX] = LOADER_MAGIC;
    ret->state.gpr[CPU_RBX] = BOOT_PARAMETERS;
    return result;
}
