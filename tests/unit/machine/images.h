/* SPDX-License-Identifier: Apache-2.0 */
/* Small kernels made by hand, and a guest to load them into. */
#ifndef LODGE_TESTS_MACHINE_IMAGES_H
#define LODGE_TESTS_MACHINE_IMAGES_H

#include "base/buf.h"
#include "base/util.h"
#include "machine/boot/boot.h"

#include "testing.h"

#include <elf.h>
#include <string.h>

#define IMAGES_TEXT "kernel text"

static inline void images_guest(struct boot_machine *ret, uint64_t size_bytes)
{
    *ret = (struct boot_machine){
        .regions = {{0, 0x9fc00, BOOT_REGION_RAM},
                    {0x9fc00, 0x400, BOOT_REGION_RESERVED},
                    {0xe0000, 0x20000, BOOT_REGION_RESERVED},
                    {MIB, size_bytes - MIB, BOOT_REGION_RAM}},
        .nr_regions = 4,
        .rsdp = 0xe0000,
    };
    ck_assert_int_eq(memory_new(&ret->memory, NULL), 0);
    ck_assert_int_eq(memory_add_ram(ret->memory, 0, size_bytes, NULL), 0);
}

struct images_elf {
    bool narrow;
    uint64_t gpa, entry, memory_size;
    uint32_t pvh_entry; /* 0: no note */
    uint32_t multiboot; /* offset of a multiboot header in the text; 0: none */
};

/* Header, one PT_LOAD at file offset 0x200 of 0x100 bytes beginning with IMAGES_TEXT, one PT_NOTE.
 */
static inline void images_elf(struct buf *out, const struct images_elf *e)
{
    uint8_t file[0x300] = {0};
    uint32_t note[5] = {4, 4, 18, 0, e->pvh_entry};
    uint32_t multiboot[3] = {0x1badb002, 0, 0u - 0x1badb002};
    unsigned nr = e->pvh_entry ? 2 : 1;

    if (e->narrow) {
        Elf32_Ehdr h = {.e_type = ET_EXEC,
                        .e_machine = EM_386,
                        .e_version = 1,
                        .e_entry = (uint32_t)e->entry,
                        .e_phoff = 64,
                        .e_phentsize = 32,
                        .e_ehsize = 52,
                        .e_phnum = (uint16_t)nr};
        Elf32_Phdr p[2] = {{.p_type = PT_LOAD,
                            .p_offset = 0x200,
                            .p_vaddr = (uint32_t)e->gpa,
                            .p_paddr = (uint32_t)e->gpa,
                            .p_filesz = 0x100,
                            .p_memsz = (uint32_t)e->memory_size},
                           {.p_type = PT_NOTE, .p_offset = 0x180, .p_filesz = sizeof(note)}};

        memcpy(h.e_ident, ELFMAG "\1\1\1", 7);
        memcpy(file, &h, sizeof(h));
        memcpy(file + 64, p, nr * sizeof(p[0]));
    } else {
        Elf64_Ehdr h = {.e_type = ET_EXEC,
                        .e_machine = EM_X86_64,
                        .e_version = 1,
                        .e_entry = e->entry,
                        .e_phoff = 64,
                        .e_phentsize = 56,
                        .e_ehsize = 64,
                        .e_phnum = (uint16_t)nr};
        Elf64_Phdr p[2] = {{.p_type = PT_LOAD,
                            .p_offset = 0x200,
                            .p_vaddr = e->gpa,
                            .p_paddr = e->gpa,
                            .p_filesz = 0x100,
                            .p_memsz = e->memory_size},
                           {.p_type = PT_NOTE, .p_offset = 0x180, .p_filesz = sizeof(note)}};

        memcpy(h.e_ident, ELFMAG "\2\1\1", 7);
        memcpy(file, &h, sizeof(h));
        memcpy(file + 64, p, nr * sizeof(p[0]));
    }
    memcpy(note + 3, "Xen", 4);
    memcpy(file + 0x180, note, sizeof(note));
    memcpy(file + 0x200, IMAGES_TEXT, sizeof(IMAGES_TEXT));
    if (e->multiboot)
        memcpy(file + 0x200 + e->multiboot, multiboot, sizeof(multiboot));
    ck_assert_int_eq(buf_append(out, file, sizeof(file)), 0);
}

/* Protocol 2.15, one setup sector, the payload behind it. */
static inline void images_bzimage(struct buf *out, const void *payload, size_t length)
{
    uint8_t setup[1024] = {0};

    setup[0x1f1] = 1;
    store_le32(setup + 0x1f4, (uint32_t)((length + 15) / 16));
    store_le16(setup + 0x1fe, 0xaa55);
    store_le16(setup + 0x200, 0x6aeb);
    memcpy(setup + 0x202, "HdrS", 4);
    store_le16(setup + 0x206, 0x20f);
    setup[0x211] = 1;
    store_le32(setup + 0x22c, 0x7fffffff);
    setup[0x234] = 1;
    store_le16(setup + 0x236, 0x7f);
    store_le32(setup + 0x238, 2047);
    store_le32(setup + 0x248, 0);
    store_le32(setup + 0x24c, (uint32_t)length);
    store_le64(setup + 0x258, 0x1000000);
    store_le32(setup + 0x260, 0x100000);
    ck_assert_int_eq(buf_append(out, setup, sizeof(setup)), 0);
    ck_assert_int_eq(buf_append(out, payload, length), 0);
}

#endif
