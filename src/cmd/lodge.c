/* SPDX-License-Identifier: Apache-2.0 */
/* lodge: finds the verb and runs it. */
#include "base/file.h"
#include "base/log.h"
#include "base/util.h"
#include "cmd/cli.h"
#include "cmd/remote.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

const struct cli_verb *const cli_verbs[] = {
    &verb_run,       &verb_create,  &verb_start,  &verb_stop,    &verb_restart, &verb_pause,
    &verb_resume,    &verb_kill,    &verb_rm,     &verb_exec,    &verb_attach,  &verb_cp,
    &verb_operation, &verb_logs,    &verb_ps,     &verb_inspect, &verb_top,     &verb_wait,
    &verb_rename,    &verb_update,  &verb_events, &verb_image,   &verb_images,  &verb_vm,
    &verb_disk,      &verb_kernels, &verb_stats,  &verb_network, &verb_volume,  &verb_env,
    &verb_explain,   &verb_balance, &verb_doctor, &verb_plan,    &verb_job,     &verb_completion,
    &verb_version,   &verb_help};
const size_t cli_nr_verbs = ARRAY_LEN(cli_verbs);

static const struct cli_verb *find_verb(const char *name)
{
    if (!strcmp(name, "--help") || !strcmp(name, "-h"))
        return &verb_help;
    if (!strcmp(name, "--version"))
        return &verb_version;
    for (size_t i = 0; i < cli_nr_verbs; i++)
        if (!strcmp(name, cli_verbs[i]->name))
            return cli_verbs[i];
    return NULL;
}

/* Of `lodge VERB PART --help` the help is the verb's, which has that of its parts. */
static bool has_parts(const struct cli_verb *verb)
{
    return verb == &verb_network || verb == &verb_volume || verb == &verb_env ||
           verb == &verb_operation || verb == &verb_job;
}

static int unknown_verb(const char *name)
{
    const char *names[ARRAY_LEN(cli_verbs) + 1], *nearest;
    size_t i;

    for (i = 0; i < cli_nr_verbs; i++)
        names[i] = cli_verbs[i]->name;
    names[i] = NULL;
    nearest = cli_nearest(name, names);
    fprintf(stderr, "lodge: there is no verb '%s'", name);
    if (nearest)
        fprintf(stderr, "; did you mean '%s'?", nearest);
    fprintf(stderr, "\nSee: lodge help\n");
    return CLI_EXIT_USAGE;
}

int main(int argc, char **argv)
{
    const struct cli_verb *verb;
    struct err err = ERR_INIT;

    file_open_standard();
    log_init("lodge", LOG_LEVEL_INFO);
    if (remote_take_options(&argc, argv, &err) < 0) {
        log_error("%s", err.message);
        return CLI_EXIT_USAGE;
    }
    if (argc < 2) {
        verb_help.run(1, argv);
        return CLI_EXIT_USAGE;
    }
    if (!(verb = find_verb(argv[1])))
        return unknown_verb(argv[1]);
    if (has_parts(verb) && argc > 2 && !strcmp(argv[argc - 1], "--help") &&
        argc - 3 <= (!strcmp(argv[2], "queue") ? 2 : 1)) {
        cli_print_help(verb);
        return 0;
    }
    for (int i = 2; i < argc; i++) {
        /* Help anywhere before the image's name, which only `run` has. */
        if (!strcmp(argv[i], "--help") ||
            (!strcmp(argv[i], "-h") && verb != &verb_run && verb != &verb_create)) {
            cli_print_help(verb);
            return 0;
        }
        if (argv[i][0] != '-')
            break;
    }
    if (remote_check_verb(verb->name, &err) < 0) {
        log_error("%s", err.message);
        return CLI_EXIT_FAILURE;
    }
    return verb->run(argc - 1, argv + 1);
}
