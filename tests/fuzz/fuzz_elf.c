/* SPDX-License-Identifier: Apache-2.0 */
/* The ELF loader and its search for the PVH note. */
#include "boot_guest.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t copy[1 << 16];

    if (size < 64 || size > sizeof(copy))
        return 0;
    memcpy(copy, data, size);
    memcpy(copy, "\177ELF", 4);
    boot_guest_load(copy, size);
    return 0;
}
