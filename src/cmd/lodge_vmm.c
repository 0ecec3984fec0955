/* SPDX-License-Identifier: Apache-2.0 */
/* lodge-vmm: runs one virtual machine. See docs/lodge-vmm.md. */
#include "base/file.h"
#include "base/log.h"
#include "vmm/config.h"
#include "vmm/vmm.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct vmm_config config;
    int r;

    file_open_standard();
    log_init("lodge-vmm", LOG_LEVEL_INFO);
    vmm_config_init(&config);
    r = vmm_config_from_options(&config, argc, argv, &err);
    switch (r) {
    case VMM_OPTIONS_HELP:
        fputs(vmm_options_help, stdout);
        r = 0;
        break;
    case VMM_OPTIONS_VERSION:
        puts("lodge-vmm " LODGE_VERSION);
        r = 0;
        break;
    case VMM_OPTIONS_RUN:
        if (config.quiet)
            log_init("lodge-vmm", LOG_LEVEL_ERROR);
        r = vmm_run(&config, &err);
        break;
    default:
        break;
    }
    if (r < 0)
        log_error("%s", err.message);
    vmm_config_done(&config);
    return r < 0 ? VMM_EXIT_FAILURE : r;
}
