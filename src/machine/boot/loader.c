/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM as the loaders write it, module placement and the processor's entry states. */
#include "machine/boot/loader.h"

#include "base/file.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define PUNCH_LEAST (64 * KIB)

int boot_input_open(const struct boot_file *file, const char *what, struct boot_input *ret,
                    struct err *err)
{
    int fd = file->fd;
    off_t end;

    *ret = (struct boot_input){.path = file->path ? file->path : what, .fd = -1};
    if (file->bytes) {
        ret->bytes = file->bytes;
        ret->size_bytes = file->nr_bytes;
        return 0;
    }
    if (fd <= 0) {
        if (!file->path)
            return err_set(err, -EINVAL, "no %s file given", what);
        if ((fd = open(file->path, O_RDONLY | O_CLOEXEC)) < 0)
            return err_errno(err, -errno, "open %s '%s'", what, file->path);
    }
    ret->fd = fd;
    ret->close_fd = fd != file->fd;
    /* Not fstat: a jailed monitor may be denied the system call behind it. */
    if ((end = lseek(fd, 0, SEEK_END)) < 0 || end == INT64_MAX) {
        boot_input_close(ret);
        return err_set(err, -EINVAL, "%s '%s' is not a regular file", what, ret->path);
    }
    ret->size_bytes = (uint64_t)end;
    if (!ret->size_bytes) {
        boot_input_close(ret);
        return err_set(err, -EINVAL, "%s '%s' is empty", what, ret->path);
    }
    return 0;
}

void boot_input_close(struct boot_input *input)
{
    if (input->close_fd)
        close(input->fd);
    input->close_fd = false;
    input->fd = -1;
}

int boot_input_read(const struct boot_input *input, uint64_t offset, void *data, uint64_t length,
                    struct err *err)
{
    ssize_t got;

    if (!range_fits(offset, length, input->size_bytes))
        return err_set(err, -EINVAL,
                       "'%s' is truncated: it has %" PRIu64 " bytes, %" PRIu64 " are needed",
                       input->path, input->size_bytes,
                       length > UINT64_MAX - offset ? UINT64_MAX : offset + length);
    if (input->bytes) {
        if (length)
            memcpy(data, input->bytes + offset, length);
        return 0;
    }
    if ((got = file_pread_full(input->fd, data, length, (off_t)offset)) < 0)
        return err_errno(err, (int)got, "read '%s'", input->path);
    if ((uint64_t)got != length)
        return err_set(err, -EINVAL, "'%s' became shorter while it was read", input->path);
    return 0;
}

bool boot_is_ram(const struct boot_loader *loader, gpa_t gpa, uint64_t length)
{
    const struct boot_machine *machine = loader->machine;

    for (unsigned i = 0; i < machine->nr_regions; i++) {
        const struct boot_region *region = &machine->regions[i];

        if (region->kind == BOOT_REGION_RAM && gpa >= region->gpa &&
            range_fits(gpa - region->gpa, length, region->size_bytes))
            return true;
    }
    return false;
}

static uint64_t ram_size(const struct boot_loader *loader)
{
    uint64_t size = 0;

    for (unsigned i = 0; i < loader->machine->nr_regions; i++)
        if (loader->machine->regions[i].kind == BOOT_REGION_RAM)
            size += loader->machine->regions[i].size_bytes;
    return size;
}

int boot_check_image(const struct boot_loader *loader, gpa_t gpa, uint64_t length, struct err *err)
{
    if (!boot_is_ram(loader, gpa, length))
        return err_set(err, -ENOMEM,
                       "kernel '%s' needs memory at 0x%" PRIx64 "-0x%" PRIx64
                       "; the guest has %" PRIu64 " MiB: give it more",
                       loader->kernel.path, gpa, gpa + length, ram_size(loader) / MIB);
    if (gpa < BOOT_DATA_END && gpa + length > BOOT_DATA_START)
        return err_set(err, -EINVAL,
                       "kernel '%s' wants 0x%" PRIx64 "-0x%" PRIx64
                       ", where the boot data lies (0x%" PRIx64 "-0x%" PRIx64 ")",
                       loader->kernel.path, gpa, gpa + length, BOOT_DATA_START, BOOT_DATA_END);
    return 0;
}

static void *guest_range(const struct boot_loader *loader, gpa_t gpa, uint64_t length)
{
    if (!boot_is_ram(loader, gpa, length))
        return NULL;
    return memory_range(loader->machine->memory, gpa, length);
}

static int not_ram(const struct boot_loader *loader, gpa_t gpa, uint64_t length, struct err *err)
{
    return err_set(err, -ENOMEM, "loading '%s': 0x%" PRIx64 "-0x%" PRIx64 " is not guest memory",
                   loader->kernel.path, gpa, gpa + length);
}

int boot_write(const struct boot_loader *loader, gpa_t gpa, const void *data, uint64_t length,
               struct err *err)
{
    struct boot_input input = {
        .path = loader->kernel.path, .fd = -1, .bytes = data, .size_bytes = length};

    return boot_copy(loader, &input, 0, gpa, length, err);
}

int boot_copy(const struct boot_loader *loader, const struct boot_input *input, uint64_t offset,
              gpa_t gpa, uint64_t length, struct err *err)
{
    void *host;
    int result;

    if (!length)
        return 0;
    if (!(host = guest_range(loader, gpa, length)))
        return not_ram(loader, gpa, length, err);
    result = boot_input_read(input, offset, host, length, err);
    memory_written(loader->machine->memory, gpa, length);
    return result;
}

int boot_zero(const struct boot_loader *loader, gpa_t gpa, uint64_t length, struct err *err)
{
    gpa_t start = align_up(gpa, GUEST_PAGE_SIZE), end = align_down(gpa + length, GUEST_PAGE_SIZE);
    uint8_t *host;

    if (!length)
        return 0;
    if (!(host = guest_range(loader, gpa, length)))
        return not_ram(loader, gpa, length, err);
    /* Whole pages are given back rather than written: .bss need not be resident. */
    if (start + PUNCH_LEAST <= end &&
        memory_discard(loader->machine->memory, start, end - start) == 0) {
        memset(host, 0, start - gpa);
        memset(host + (end - gpa), 0, gpa + length - end);
    } else {
        memset(host, 0, length);
    }
    memory_written(loader->machine->memory, gpa, length);
    return 0;
}

int boot_add_string(struct boot_loader *loader, const char *string, gpa_t *ret, struct err *err)
{
    uint64_t length = strlen(string ? string : "") + 1;
    int result;

    if (length > BOOT_STRINGS_SIZE - loader->nr_strings)
        return err_set(err, -E2BIG, "command lines of more than %" PRIu64 " bytes",
                       BOOT_STRINGS_SIZE);
    *ret = BOOT_STRINGS + loader->nr_strings;
    if ((result = boot_write(loader, *ret, string ? string : "", length, err)) < 0)
        return result;
    loader->nr_strings += length;
    return 0;
}

int boot_find_high(const struct boot_loader *loader, uint64_t length, gpa_t low, gpa_t high,
                   gpa_t *ret)
{
    const struct boot_machine *machine = loader->machine;

    for (unsigned i = machine->nr_regions; i-- > 0;) {
        const struct boot_region *region = &machine->regions[i];
        gpa_t start = MAX(region->gpa, low), end = MIN(region->gpa + region->size_bytes, high);

        if (region->kind != BOOT_REGION_RAM || end <= start || end - start < length)
            continue;
        *ret = align_down(end - length, GUEST_PAGE_SIZE);
        if (*ret >= start)
            return 0;
    }
    return -ENOMEM;
}

int boot_load_modules(struct boot_loader *loader, struct boot_loaded ret[BOOT_MODULES_MAX],
                      struct err *err)
{
    gpa_t place = align_up(MAX(loader->image_end, MIB), GUEST_PAGE_SIZE);
    int result;

    for (unsigned i = 0; i < loader->source->nr_modules; i++) {
        const struct boot_module *module = &loader->source->modules[i];
        struct boot_input input;

        if ((result = boot_input_open(&module->file, "module", &input, err)) < 0)
            return result;
        if (place > BOOT_LIMIT_32 || input.size_bytes > BOOT_LIMIT_32 - place ||
            !boot_is_ram(loader, place, input.size_bytes))
            result = err_set(err, -ENOMEM,
                             "module '%s' (%" PRIu64 " MiB) does not fit behind the kernel, which "
                             "ends at 0x%" PRIx64 "; the guest has %" PRIu64 " MiB: give it more",
                             input.path, input.size_bytes / MIB, loader->image_end,
                             ram_size(loader) / MIB);
        if (!result)
            result = boot_copy(loader, &input, 0, place, input.size_bytes, err);
        if (!result)
            result = boot_add_string(loader, module->cmdline, &ret[i].cmdline, err);
        ret[i].gpa = place;
        ret[i].size_bytes = input.size_bytes;
        place = align_up(place + input.size_bytes, GUEST_PAGE_SIZE);
        boot_input_close(&input);
        if (result < 0)
            return result;
    }
    return 0;
}

/* --- entry states --- */

#define SELECTOR_CODE    0x10 /* __BOOT_CS and __BOOT_DS of the Linux boot protocol */
#define SELECTOR_DATA    0x18
#define SELECTOR_TSS     0x20
#define ATTRIBUTES_CODE  (0xbu | CPU_SEGMENT_S | CPU_SEGMENT_P | CPU_SEGMENT_G)
#define ATTRIBUTES_DATA  (0x3u | CPU_SEGMENT_S | CPU_SEGMENT_P | CPU_SEGMENT_G | CPU_SEGMENT_DB)
#define ATTRIBUTES_TSS   (0xbu | CPU_SEGMENT_P)
#define TSS_LIMIT        0x67u
#define PAGE_PRESENT_RW  UINT64_C(3)
#define PAGE_LARGE       UINT64_C(0x80)
#define PAGE_TABLE_PAGES 6

/* A GDT entry for base 0 (SDM 3A 3.4.5). */
static uint64_t descriptor(uint32_t limit, uint32_t attributes)
{
    uint32_t scaled = attributes & CPU_SEGMENT_G ? limit >> 12 : limit;

    return (uint64_t)(scaled & 0xffff) | (uint64_t)(attributes & 0xff) << 40 |
           (uint64_t)(scaled >> 16 & 0xf) << 48 | (uint64_t)(attributes >> 12 & 0xf) << 52;
}

static int state_common(const struct boot_loader *loader, uint32_t code_bits, struct cpu_state *ret,
                        struct err *err)
{
    struct cpu_segment code = {
        .limit = UINT32_MAX, .attributes = ATTRIBUTES_CODE | code_bits, .selector = SELECTOR_CODE};
    struct cpu_segment data = {
        .limit = UINT32_MAX, .attributes = ATTRIBUTES_DATA, .selector = SELECTOR_DATA};
    uint64_t gdt[6] = {0,
                       0,
                       descriptor(code.limit, code.attributes),
                       descriptor(data.limit, data.attributes),
                       descriptor(TSS_LIMIT, ATTRIBUTES_TSS),
                       0};

    cpu_state_reset(ret, 0);
    for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++)
        ret->segment[i] = data;
    ret->segment[CPU_CS] = code;
    ret->tr = (struct cpu_segment){
        .limit = TSS_LIMIT, .attributes = ATTRIBUTES_TSS, .selector = SELECTOR_TSS};
    ret->gdtr.base = BOOT_GDT;
    ret->gdtr.limit = sizeof(gdt) - 1;
    ret->idtr.base = 0;
    ret->idtr.limit = 0;
    ret->cr0 = CPU_CR0_PE | CPU_CR0_ET | CPU_CR0_NE;
    ret->rflags = CPU_FLAG_ONE;
    ret->gpr[CPU_RDX] = 0;
    ret->gpr[CPU_RSP] = BOOT_STACK_TOP;
    ret->activity = CPU_ACTIVITY_RUNNING;
    return boot_write(loader, BOOT_GDT, gdt, sizeof(gdt), err);
}

int boot_state_protected(const struct boot_loader *loader, uint32_t entry, struct cpu_state *ret,
                         struct err *err)
{
    int result = state_common(loader, CPU_SEGMENT_DB, ret, err);

    ret->rip = entry;
    return result;
}

int boot_state_long(const struct boot_loader *loader, gpa_t entry, struct cpu_state *ret,
                    struct err *err)
{
    uint64_t tables[PAGE_TABLE_PAGES][512] = {{0}};
    int result;

    tables[0][0] = (BOOT_PAGE_TABLES + GUEST_PAGE_SIZE) | PAGE_PRESENT_RW;
    for (unsigned i = 0; i < 4; i++)
        tables[1][i] = (BOOT_PAGE_TABLES + (2 + i) * GUEST_PAGE_SIZE) | PAGE_PRESENT_RW;
    for (uint64_t i = 0; i < 4 * 512; i++)
        tables[2 + i / 512][i % 512] = i * 2 * MIB | PAGE_PRESENT_RW | PAGE_LARGE;
    if ((result = boot_write(loader, BOOT_PAGE_TABLES, tables, sizeof(tables), err)) < 0)
        return result;
    if ((result = state_common(loader, CPU_SEGMENT_L, ret, err)) < 0)
        return result;
    ret->cr0 |= CPU_CR0_PG | CPU_CR0_WP;
    ret->cr3 = BOOT_PAGE_TABLES;
    ret->cr4 = CPU_CR4_PAE;
    ret->efer = CPU_EFER_LME | CPU_EFER_LMA;
    ret->rip = entry;
    return 0;
}
