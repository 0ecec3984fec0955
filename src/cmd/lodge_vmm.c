/* SPDX-License-Identifier: Apache-2.0 */
/* lodge-vmm: runs one virtual machine. See docs/lodge-vmm.md. */
#include "base/log.h"
#include "vmm/config.h"
#include "vmm/vmm.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* A closed standard descriptor would be taken by the next file that is opened, and then read as
 * input or written to as output. */
static void standard_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct vmm_config config;
    int r;

    standard_descriptors();
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
