/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF executables, 32 and 64 bits, for x86 (System V gABI chapters 4 and 5). Program headers only:
 * PT_LOAD segments go to their physical addresses, PT_NOTE is searched for Xen's PVH entry.
 *
 * Invariant: everything in struct elf_image has been checked against the file: file ranges lie in
 * it, memory ranges do not wrap.
 */
#include "base/cleanup.h"
#include "base/util.h"
#include "machine/boot/loader.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define NOTES_MAX           (64 * KIB)
#define NOTE_XEN_PHYS_ENTRY 18 /* XEN_ELFNOTE_PHYS32_ENTRY */

bool elf_is(const void *data, uint64_t length)
{
    return length >= SELFMAG && memcmp(data, ELFMAG, SELFMAG) == 0;
}

static int bad(const struct boot_input *input, struct err *err, const char *what)
{
    return err_set(err, -ENOEXEC, "'%s' is not a usable ELF file: %s", input->path, what);
}

/* Notes are a header of three words, then name and descriptor, each padded to four bytes. */
static void find_pvh(const uint8_t *notes, uint64_t length, struct elf_image *image)
{
    uint64_t offset = 0;

    while (range_fits(offset, sizeof(Elf64_Nhdr), length)) {
        uint64_t name_size = load_le32(notes + offset), size = load_le32(notes + offset + 4);
        uint32_t type = load_le32(notes + offset + 8);
        uint64_t name = offset + sizeof(Elf64_Nhdr), data = name + align_up(name_size, 4);

        if (!range_fits(data, size, length))
            return;
        if (type == NOTE_XEN_PHYS_ENTRY && name_size == 4 && !memcmp(notes + name, "Xen", 4) &&
            size >= 4) {
            image->has_pvh = size == 4 || !load_le32(notes + data + 4);
            image->pvh_entry = load_le32(notes + data);
            return;
        }
        offset = data + align_up(size, 4);
    }
}

static int read_notes(const struct boot_input *input, const Elf64_Phdr *header,
                      struct elf_image *image, struct err *err)
{
    CLEANUP(freep) uint8_t *notes = NULL;
    int result;

    if (header->p_filesz > NOTES_MAX)
        return 0; /* not Xen's */
    if (!(notes = malloc(header->p_filesz + 1)))
        return err_set(err, -ENOMEM, "out of memory for '%s'", input->path);
    if ((result = boot_input_read(input, header->p_offset, notes, header->p_filesz, err)) < 0)
        return result;
    if (!image->has_pvh)
        find_pvh(notes, header->p_filesz, image);
    return 0;
}

static int add_segment(const struct boot_input *input, const Elf64_Phdr *header,
                       struct elf_image *image, struct err *err)
{
    struct elf_segment *segment = &image->segments[image->nr_segments];

    if (!header->p_memsz)
        return 0;
    if (image->nr_segments == BOOT_SEGMENTS_MAX)
        return bad(input, err, "too many segments");
    if (header->p_filesz > header->p_memsz)
        return bad(input, err, "a segment is larger in the file than in memory");
    if (!range_fits(header->p_offset, header->p_filesz, input->size_bytes))
        return bad(input, err, "a segment lies behind the end of the file (truncated?)");
    if (header->p_memsz > UINT64_MAX / 2 || header->p_paddr > UINT64_MAX / 2)
        return bad(input, err, "a segment's address is out of range");
    *segment = (struct elf_segment){
        .file_offset = header->p_offset,
        .file_size = header->p_filesz,
        .memory_size = header->p_memsz,
        .virtual_address = header->p_vaddr,
        .gpa = header->p_paddr,
    };
    image->low = image->nr_segments ? MIN(image->low, segment->gpa) : segment->gpa;
    image->high = MAX(image->high, segment->gpa + segment->memory_size);
    image->nr_segments++;
    return 0;
}

static void widen(const Elf32_Phdr *from, Elf64_Phdr *to)
{
    *to = (Elf64_Phdr){
        .p_type = from->p_type,
        .p_flags = from->p_flags,
        .p_offset = from->p_offset,
        .p_vaddr = from->p_vaddr,
        .p_paddr = from->p_paddr,
        .p_filesz = from->p_filesz,
        .p_memsz = from->p_memsz,
        .p_align = from->p_align,
    };
}

static int read_program_headers(const struct boot_input *input, uint64_t offset, unsigned nr,
                                struct elf_image *image, struct err *err)
{
    uint64_t size = image->is_64bit ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
    int result = 0;

    if (!range_fits(offset, nr * size, input->size_bytes))
        return bad(input, err, "the program headers lie behind the end of the file (truncated?)");
    for (unsigned i = 0; i < nr && !result; i++) {
        Elf64_Phdr header;
        Elf32_Phdr narrow;

        if (image->is_64bit) {
            result = boot_input_read(input, offset + i * size, &header, sizeof(header), err);
        } else {
            result = boot_input_read(input, offset + i * size, &narrow, sizeof(narrow), err);
            widen(&narrow, &header);
        }
        if (!result && header.p_type == PT_LOAD)
            result = add_segment(input, &header, image, err);
        else if (!result && header.p_type == PT_NOTE)
            result = read_notes(input, &header, image, err);
    }
    return result;
}

int elf_parse(const struct boot_input *input, struct elf_image *ret, struct err *err)
{
    union {
        Elf64_Ehdr wide;
        Elf32_Ehdr narrow;
        uint8_t bytes[sizeof(Elf64_Ehdr)];
    } header = {.bytes = {0}};
    uint64_t table;
    unsigned nr, entry_size, wanted_size, type;
    int result;

    *ret = (struct elf_image){0};
    result = boot_input_read(input, 0, &header, MIN(sizeof(header), input->size_bytes), err);
    if (result < 0)
        return result;
    if (!elf_is(header.bytes, input->size_bytes))
        return bad(input, err, "it does not begin with an ELF header");
    ret->is_64bit = header.bytes[EI_CLASS] == ELFCLASS64;
    if (input->size_bytes < (ret->is_64bit ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr)))
        return bad(input, err, "it ends within the header (truncated?)");
    if ((!ret->is_64bit && header.bytes[EI_CLASS] != ELFCLASS32) ||
        header.bytes[EI_DATA] != ELFDATA2LSB)
        return bad(input, err, "neither 32- nor 64-bit little-endian");
    ret->machine = header.wide.e_machine; /* the same place in both classes */
    type = header.wide.e_type;
    ret->entry = ret->is_64bit ? header.wide.e_entry : header.narrow.e_entry;
    table = ret->is_64bit ? header.wide.e_phoff : header.narrow.e_phoff;
    nr = ret->is_64bit ? header.wide.e_phnum : header.narrow.e_phnum;
    entry_size = ret->is_64bit ? header.wide.e_phentsize : header.narrow.e_phentsize;
    wanted_size = ret->is_64bit ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
    if (ret->machine != EM_X86_64 && ret->machine != EM_386)
        return bad(input, err, "it is not for x86");
    if (type != ET_EXEC && type != ET_DYN)
        return bad(input, err, "it is not an executable");
    if (!nr || entry_size != wanted_size || nr > 1024)
        return bad(input, err, "it has no program headers");
    if ((result = read_program_headers(input, table, nr, ret, err)) < 0)
        return result;
    return ret->nr_segments ? 0 : bad(input, err, "it has nothing to load");
}

int elf_load(struct boot_loader *loader, const struct boot_input *input,
             const struct elf_image *image, struct err *err)
{
    int result;

    for (unsigned i = 0; i < image->nr_segments; i++) {
        const struct elf_segment *s = &image->segments[i];

        if ((result = boot_check_image(loader, s->gpa, s->memory_size, err)) < 0)
            return result;
    }
    for (unsigned i = 0; i < image->nr_segments; i++) {
        const struct elf_segment *s = &image->segments[i];

        result = boot_zero(loader, s->gpa + s->file_size, s->memory_size - s->file_size, err);
        if (!result)
            result = boot_copy(loader, input, s->file_offset, s->gpa, s->file_size, err);
        if (result < 0)
            return result;
    }
    loader->image_end = align_up(image->high, GUEST_PAGE_SIZE);
    return 0;
}
