/* SPDX-License-Identifier: Apache-2.0 */
/* The multiboot loader: the header's checksum is put right, so that its other fields are reached.
 */
#include "boot_guest.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t copy[1 << 16];

    if (size < 64 || size > sizeof(copy))
        return 0;
    memcpy(copy, data, size);
    store_le32(copy + 4, 0x1badb002);
    store_le32(copy + 12, 0u - 0x1badb002 - load_le32(copy + 8));
    boot_guest_load(copy, size);
    return 0;
}
