/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF kernels with a PVH entry (Xen docs/misc/pvh.pandoc,
 * include/public/arch-x86/hvm/start_info.h): 32-bit protected mode without paging, EBX points to
 * struct hvm_start_info.
 */
#include "base/util.h"
#include "machine/boot/loader.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>

#define START_INFO_MAGIC   0x336ec578u
#define START_INFO_VERSION 1u

struct start_info {
    uint32_t magic, version, flags, nr_modules;
    uint64_t modules, cmdline, rsdp, memory_map;
    uint32_t nr_memory_map, reserved;
};

struct start_module {
    uint64_t gpa, size_bytes, cmdline, reserved;
};

struct start_memory {
    uint64_t gpa, size_bytes;
    uint32_t kind, reserved;
};

#define MODULES_AT (BOOT_TABLES + GUEST_PAGE_SIZE)

static int write_start_info(struct boot_loader *loader, struct err *err)
{
    const struct boot_machine *machine = loader->machine;
    struct boot_loaded loaded[BOOT_MODULES_MAX] = {{0}};
    struct start_module modules[BOOT_MODULES_MAX] = {{0}};
    struct start_memory memory[BOOT_REGIONS_MAX] = {{0}};
    struct start_info info = {
        .magic = START_INFO_MAGIC,
        .version = START_INFO_VERSION,
        .nr_modules = loader->source->nr_modules,
        .modules = loader->source->nr_modules ? MODULES_AT : 0,
        .rsdp = machine->rsdp,
        .memory_map = BOOT_TABLES,
        .nr_memory_map = machine->nr_regions,
    };
    int result;

    if ((result = boot_add_string(loader, loader->source->cmdline, &info.cmdline, err)) < 0 ||
        (result = boot_load_modules(loader, loaded, err)) < 0)
        return result;
    for (unsigned i = 0; i < loader->source->nr_modules; i++)
        modules[i] = (struct start_module){loaded[i].gpa, loaded[i].size_bytes, loaded[i].cmdline,
                                           0};
    for (unsigned i = 0; i < machine->nr_regions; i++)
        memory[i] = (struct start_memory){machine->regions[i].gpa, machine->regions[i].size_bytes,
                                          machine->regions[i].kind, 0};
    if ((result = boot_write(loader, BOOT_TABLES, memory, sizeof(memory), err)) < 0 ||
        (result = boot_write(loader, MODULES_AT, modules, sizeof(modules), err)) < 0)
        return result;
    return boot_write(loader, BOOT_PARAMETERS, &info, sizeof(info), err);
}

int pvh_load(struct boot_loader *loader, struct boot_result *ret, struct err *err)
{
    struct elf_image image;
    int result;

    if ((result = elf_parse(&loader->kernel, &image, err)) < 0)
        return result;
    if (!image.has_pvh)
        return err_set(err, -ENOEXEC,
                       "'%s' is an ELF file without a PVH entry note (a Linux vmlinux needs "
                       "CONFIG_PVH) and without a multiboot header",
                       loader->kernel.path);
    if ((result = elf_load(loader, &loader->kernel, &image, err)) < 0)
        return result;
    if (image.pvh_entry < image.low || image.pvh_entry >= image.high)
        return err_set(err, -ENOEXEC, "'%s' has its PVH entry at 0x%x, outside itself",
                       loader->kernel.path, image.pvh_entry);
    if ((result = write_start_info(loader, err)) < 0)
        return result;
    ret->protocol = BOOT_PVH;
    result = boot_state_protected(loader, image.pvh_entry, &ret->state, err);
    ret->state.gpr[CPU_RBX] = BOOT_PARAMETERS;
    return result;
}
