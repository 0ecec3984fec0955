/* SPDX-License-Identifier: Apache-2.0 */
/* lodge version. */
#include "cmd/cli.h"

#include <stdio.h>

static int run(int argc, char **argv)
{
    (void)argv;
    if (argc > 1 && argv[0][0] != '-')
        return cli_usage_error(&verb_version, "takes no argument");
    printf("lodge %s\n", LODGE_VERSION);
    return 0;
}

const struct cli_verb verb_version = {
    .name = "version",
    .summary = "Prints the version",
    .usage = "version",
    .help = "",
    .run = run,
};
