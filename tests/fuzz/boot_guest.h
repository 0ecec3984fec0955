/* SPDX-License-Identifier: Apache-2.0 */
/* One small guest for the loader fuzzers; each input is loaded into it over the one before. */
#ifndef LODGE_TESTS_FUZZ_BOOT_GUEST_H
#define LODGE_TESTS_FUZZ_BOOT_GUEST_H

#include "base/util.h"
#include "machine/boot/boot.h"

#include <stdlib.h>

#define BOOT_GUEST_SIZE (32 * MIB)

static inline void boot_guest_load(const uint8_t *data, size_t size)
{
    static struct boot_machine guest;
    struct boot_source source = {
        .kernel = {.path = "kernel", .bytes = data, .nr_bytes = size},
        .modules = {{.file = {.path = "module", .bytes = "module", .nr_bytes = 6}}},
        .nr_modules = 1,
        .cmdline = "command line",
    };
    struct boot_result result;
    struct err err = ERR_INIT;

    if (!guest.memory) {
        guest = (struct boot_machine){
            .regions = {{0, 0x9fc00, BOOT_REGION_RAM},
                        {MIB, BOOT_GUEST_SIZE - MIB, BOOT_REGION_RAM}},
            .nr_regions = 2,
            .rsdp = 0xe0000,
        };
        if (memory_new(&guest.memory, NULL) < 0 ||
            memory_add_ram(guest.memory, 0, BOOT_GUEST_SIZE, NULL) < 0)
            abort();
    }
    /* A failure without a message leaves the user in the dark. */
    if (boot_load(&guest, &source, &result, &err) < 0 && !err.message[0])
        abort();
}

#endif
