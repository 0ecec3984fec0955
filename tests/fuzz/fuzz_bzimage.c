/* SPDX-License-Identifier: Apache-2.0 */
/* The bzImage loader, with all decompressors behind it: the input gets the two marks of a bzImage,
 * so that the fuzzer need not find them. */
#include "boot_guest.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t copy[1 << 16];

    if (size < 0x290 || size > sizeof(copy))
        return 0;
    memcpy(copy, data, size);
    memcpy(copy + 0x1fe, "\x55\xaa", 2);
    memcpy(copy + 0x202, "HdrS", 4);
    boot_guest_load(copy, size);
    return 0;
}
