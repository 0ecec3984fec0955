/* SPDX-License-Identifier: Apache-2.0 */
/* lodge-shim: see src/shim/shim.h. Started by the manager only. */
#include "base/log.h"
#include "shim/session.h"
#include "shim/shim.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;

    log_init("lodge-shim", LOG_LEVEL_INFO);
    if (argc == 4 && !strcmp(argv[1], "--session")) {
        json_seed();
        return session_main(argv[2], argv[3]);
    }
    if (argc != 2 || argv[1][0] == '-') {
        fputs("lodge-shim stands beside one running instance; lodged starts it. See lodge(1).\n",
              stderr);
        return 2;
    }
    json_seed();
    if (shim_run(argv[1], &err) < 0) {
        log_error("%s", err.message);
        return 1;
    }
    return 0;
}
