/* SPDX-License-Identifier: Apache-2.0 */
/* Recognises a kernel's format and hands it to its loader. */
#include "machine/boot/boot.h"

#include "base/util.h"
#include "machine/boot/decompress.h"
#include "machine/boot/loader.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static int unknown_format(const struct boot_input *kernel, const uint8_t *head, uint64_t length,
                          struct err *err)
{
    enum compression compression = compression_detect(head, length);

    if (compression != COMPRESSION_UNKNOWN && compression != COMPRESSION_NONE)
        return err_set(err, -ENOEXEC, "'%s' is not a kernel but a %s-compressed file: unpack it",
                       kernel->path, compression_name(compression));
    if (length < 512)
        return err_set(err, -ENOEXEC, "'%s' is not a kernel: it has only %" PRIu64 " bytes",
                       kernel->path, kernel->size_bytes);
    return err_set(err, -ENOEXEC,
                   "'%s' is not a kernel: neither a Linux bzImage nor ELF nor multiboot (it begins "
                   "%02x %02x %02x %02x)",
                   kernel->path, head[0], head[1], head[2], head[3]);
}

static int load_detected(struct boot_loader *loader, struct boot_result *ret, struct err *err)
{
    uint8_t head[BOOT_HEAD_MAX] = {0};
    uint64_t length = MIN(sizeof(head), loader->kernel.size_bytes);
    int result;

    if (loader->kernel.size_bytes > BOOT_KERNEL_MAX)
        return err_set(err, -EFBIG, "'%s' is not a kernel: it has %" PRIu64 " bytes",
                       loader->kernel.path, loader->kernel.size_bytes);
    if ((result = boot_input_read(&loader->kernel, 0, head, length, err)) < 0)
        return result;
    if (bzimage_is(head, length))
        return bzimage_load(loader, ret, err);
    if (multiboot_is(head, length))
        return multiboot_load(loader, ret, err);
    if (elf_is(head, length))
        return pvh_load(loader, ret, err);
    return unknown_format(&loader->kernel, head, length, err);
}

int boot_load(const struct boot_machine *machine, const struct boot_source *source,
              struct boot_result *ret, struct err *err)
{
    struct boot_loader loader = {.machine = machine, .source = source};
    struct boot_result found = {0};
    int result;

    if (source->nr_modules > BOOT_MODULES_MAX || machine->nr_regions > BOOT_REGIONS_MAX)
        return err_set(err, -E2BIG, "more than %u modules", BOOT_MODULES_MAX);
    if ((result = boot_input_open(&source->kernel, "kernel", &loader.kernel, err)) < 0)
        return result;
    result = load_detected(&loader, &found, err);
    boot_input_close(&loader.kernel);
    if (!result)
        *ret = found;
    return result;
}
