/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON configuration of lodge-vmm on arbitrary bytes. What is accepted must also pass, or be
 * refused by, the check of the whole with a message; nothing may be left allocated.
 */
#include "vmm/config.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vmm_config config;
    struct err err = ERR_INIT;
    int r;

    vmm_config_init(&config);
    r = vmm_config_from_json(&config, (const char *)data, size, "fuzz", &err);
    if (r == 0)
        r = vmm_config_check(&config, &err);
    if (r < 0 && (!err.message[0] || err.code >= 0))
        abort();
    if (config.nr_disks > VMM_DISKS_MAX || config.nr_modules > VMM_MODULES_MAX)
        abort();
    vmm_config_done(&config);
    return 0;
}
