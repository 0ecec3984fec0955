/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the loaders of this folder share: reading the kernel file with bounds, finding room in guest
 * RAM, writing there, and the processor's entry states. Private to machine/boot.
 *
 * Boot data (page tables, GDT, parameter blocks, memory map, command lines) lies in one fixed area
 * at the top of conventional memory, which no kernel image may cover.
 */
#ifndef LODGE_MACHINE_BOOT_LOADER_H
#define LODGE_MACHINE_BOOT_LOADER_H

#include "machine/boot/boot.h"

#define BOOT_DATA_START   UINT64_C(0x80000)
#define BOOT_GDT          UINT64_C(0x80000)
#define BOOT_PAGE_TABLES  UINT64_C(0x81000) /* 6 pages: 4 GiB mapped one to one */
#define BOOT_PARAMETERS   UINT64_C(0x88000) /* zero page, start info, multiboot information */
#define BOOT_TABLES       UINT64_C(0x89000) /* memory map, module list */
#define BOOT_STRINGS      UINT64_C(0x8b000)
#define BOOT_STRINGS_SIZE UINT64_C(0x10000)
#define BOOT_STACK_TOP    UINT64_C(0x9e000)
#define BOOT_DATA_END     UINT64_C(0x9e000)
#define BOOT_LIMIT_32     (UINT64_C(1) << 32)
#define BOOT_KERNEL_MAX   (UINT64_C(4) << 30) /* a larger file is no kernel */
#define BOOT_SEGMENTS_MAX 64

/* An open file of known size, or bytes in memory. */
struct boot_input {
    const char *path;
    int fd;
    bool close_fd;
    const uint8_t *bytes;
    uint64_t size_bytes;
};

/* `what` names the file's role in errors ("kernel", "initrd"). */
int boot_input_open(const struct boot_file *file, const char *what, struct boot_input *ret,
                    struct err *err);
void boot_input_close(struct boot_input *input);
/* All of it, or -EINVAL saying that the file is too short. */
int boot_input_read(const struct boot_input *input, uint64_t offset, void *data, uint64_t length,
                    struct err *err);

struct boot_loader {
    const struct boot_machine *machine;
    const struct boot_source *source;
    struct boot_input kernel;
    gpa_t image_end;     /* first byte behind the kernel's memory */
    uint64_t nr_strings; /* bytes used at BOOT_STRINGS */
};

/* Does [gpa, gpa + length) lie in one RAM region? */
bool boot_is_ram(const struct boot_loader *loader, gpa_t gpa, uint64_t length);
/* Where kernel memory may lie: RAM and not boot data. The error says what does not fit. */
int boot_check_image(const struct boot_loader *loader, gpa_t gpa, uint64_t length, struct err *err);
int boot_write(const struct boot_loader *loader, gpa_t gpa, const void *data, uint64_t length,
               struct err *err);
int boot_zero(const struct boot_loader *loader, gpa_t gpa, uint64_t length, struct err *err);
/* Copies part of a file straight into guest memory. */
int boot_copy(const struct boot_loader *loader, const struct boot_input *input, uint64_t offset,
              gpa_t gpa, uint64_t length, struct err *err);
/* A terminated string into BOOT_STRINGS; NULL is the empty string. */
int boot_add_string(struct boot_loader *loader, const char *string, gpa_t *ret, struct err *err);
/* The highest page-aligned place for length bytes in RAM that is at least `low` and ends at or
 * below `high`. -ENOMEM without a message. */
int boot_find_high(const struct boot_loader *loader, uint64_t length, gpa_t low, gpa_t high,
                   gpa_t *ret);
/* Loads all modules one behind the other, page-aligned, behind the kernel; 32-bit addresses. */
struct boot_loaded {
    gpa_t gpa;
    uint64_t size_bytes;
    gpa_t cmdline;
};
int boot_load_modules(struct boot_loader *loader, struct boot_loaded ret[BOOT_MODULES_MAX],
                      struct err *err);

/* Entry states; they write the GDT (and the page tables) into boot data. Registers are the caller's
 * to fill. */
int boot_state_long(const struct boot_loader *loader, gpa_t entry, struct cpu_state *ret,
                    struct err *err);
int boot_state_protected(const struct boot_loader *loader, uint32_t entry, struct cpu_state *ret,
                         struct err *err);

/* --- ELF (elf.c) --- */

struct elf_segment {
    uint64_t file_offset, file_size, memory_size;
    uint64_t virtual_address;
    gpa_t gpa;
};

struct elf_image {
    bool is_64bit;
    uint16_t machine;
    uint64_t entry;
    struct elf_segment segments[BOOT_SEGMENTS_MAX];
    unsigned nr_segments;
    gpa_t low, high; /* of all segments in memory */
    bool has_pvh;
    uint32_t pvh_entry;
};

bool elf_is(const void *data, uint64_t length);
/* Headers and notes, checked against the file. */
int elf_parse(const struct boot_input *input, struct elf_image *ret, struct err *err);
/* Copies the segments and sets image_end. */
int elf_load(struct boot_loader *loader, const struct boot_input *input,
             const struct elf_image *image, struct err *err);

/* --- the formats: each looks at the first bytes of the file and says whether it is its own --- */

#define BOOT_HEAD_MAX 8192

bool bzimage_is(const void *head, uint64_t length);
int bzimage_load(struct boot_loader *loader, struct boot_result *ret, struct err *err);
bool multiboot_is(const void *head, uint64_t length);
int multiboot_load(struct boot_loader *loader, struct boot_result *ret, struct err *err);
int pvh_load(struct boot_loader *loader, struct boot_result *ret, struct err *err);

#endif
