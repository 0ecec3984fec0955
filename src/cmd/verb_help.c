/* SPDX-License-Identifier: Apache-2.0 */
/* lodge help: the list of verbs, or one verb's help. */
#include "cmd/cli.h"

#include <stdio.h>
#include <string.h>

static int run(int argc, char **argv)
{
    if (argc > 1) {
        for (size_t i = 0; i < cli_nr_verbs; i++)
            if (!strcmp(argv[1], cli_verbs[i]->name)) {
                cli_print_help(cli_verbs[i]);
                return 0;
            }
        return cli_usage_error(&verb_help, "there is no verb '%s'", argv[1]);
    }
    printf("usage: lodge VERB [...]\n"
           "Runs containers and virtual machines from the same images.\n\n");
    for (size_t i = 0; i < cli_nr_verbs; i++)
        printf("  %-11s %s\n", cli_verbs[i]->name, cli_verbs[i]->summary);
    printf("\nlodge help VERB tells more. To begin: lodge doctor; lodge run busybox uname -a\n");
    return 0;
}

const struct cli_verb verb_help = {
    .name = "help",
    .summary = "Says what the verbs do",
    .usage = "help [VERB]",
    .help = "",
    .run = run,
};
