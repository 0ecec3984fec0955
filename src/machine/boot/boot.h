/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Boot loaders: a kernel file, modules (the first is Linux's initrd) and a command line go into
 * guest memory, and the state in which vCPU 0 enters the kernel comes back. Recognised by content:
 *  - bzImage (Linux boot protocol 2.02 and later): the compressed payload is decompressed here, not
 * in the guest, and the vmlinux inside is entered by the 64-bit boot protocol at the address it was
 * linked for; without a payload field (before 2.08) the image is entered by the 32-bit protocol;
 *  - multiboot 1 (ELF or address fields);
 *  - ELF with a PVH entry note.
 *
 * Invariants: 1. Files are hostile: every offset and size is checked against the file and against
 * guest RAM before use. 2. No more memory is used than the compressed payload's size in the file
 * plus the guest's RAM size plus a fixed amount (decoder windows). 3. Everything the loader writes
 * lies in the RAM regions given. 4. An error names the file and what is wrong with it.
 *
 * Threads: none of its own; call while no vCPU runs.
 * Specifications: Linux Documentation/arch/x86/boot.rst; Multiboot 0.6.96; Xen docs/misc/pvh.
 */
#ifndef LODGE_MACHINE_BOOT_BOOT_H
#define LODGE_MACHINE_BOOT_BOOT_H

#include "base/err.h"
#include "cpu/memory.h"
#include "cpu/state.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BOOT_MODULES_MAX 16
#define BOOT_REGIONS_MAX 16

/* A file to load: by path, or by descriptor (path then only names it in messages), or from memory.
 */
struct boot_file {
    const char *path;
    int fd;            /* > 0: the file, open for reading; stays the caller's */
    const void *bytes; /* not NULL: the contents themselves */
    size_t nr_bytes;
};

struct boot_module {
    struct boot_file file;
    const char *cmdline; /* multiboot and PVH; NULL: none */
};

struct boot_source {
    struct boot_file kernel;
    struct boot_module modules[BOOT_MODULES_MAX]; /* bzImage: at most one, the initrd */
    unsigned nr_modules;
    const char *cmdline; /* NULL: empty */
};

enum boot_region_kind { /* = e820 types */
                        BOOT_REGION_RAM = 1,
                        BOOT_REGION_RESERVED = 2,
                        BOOT_REGION_ACPI = 3,
};

struct boot_region {
    gpa_t gpa;
    uint64_t size_bytes;
    enum boot_region_kind kind;
};

/* The machine as the loader needs to know it. Regions ascend and do not overlap. */
struct boot_machine {
    struct memory *memory;
    struct boot_region regions[BOOT_REGIONS_MAX];
    unsigned nr_regions;
    gpa_t rsdp; /* ACPI root pointer; 0: none */
};

enum boot_protocol {
    BOOT_LINUX64,
    BOOT_LINUX32,
    BOOT_PVH,
    BOOT_MULTIBOOT,
};

struct boot_result {
    enum boot_protocol protocol;
    struct cpu_state state; /* of vCPU 0 */
};

/* On failure guest memory may be partly written; nothing else has changed. */
int boot_load(const struct boot_machine *machine, const struct boot_source *source,
              struct boot_result *ret, struct err *err);

#endif
