/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lodge command: what its verbs share. One verb a file (verb_NAME.c), each with its help; main
 * finds the verb and exits with what it returns.
 *
 * Exit statuses of our own: 125 lodge could not do it, 2 wrong usage; otherwise the command's.
 */
#ifndef LODGE_CMD_CLI_H
#define LODGE_CMD_CLI_H

#include <stdbool.h>
#include <stddef.h>

#define CLI_EXIT_USAGE   2
#define CLI_EXIT_FAILURE 125

#define LODGE_VERSION "0.1.0"

struct cli_verb {
    const char *name;
    const char *summary;               /* one line */
    const char *usage;                 /* after "usage: lodge " */
    const char *help;                  /* the rest, lines */
    int (*run)(int argc, char **argv); /* argv[0] is the verb */
};

extern const struct cli_verb verb_run, verb_image, verb_images, verb_disk, verb_kernels, verb_stats,
    verb_network, verb_volume, verb_doctor, verb_plan, verb_job, verb_completion, verb_version,
    verb_help, verb_create, verb_start, verb_stop, verb_restart, verb_pause, verb_resume, verb_kill,
    verb_rm, verb_wait, verb_rename, verb_ps, verb_inspect, verb_top, verb_logs, verb_events,
    verb_exec, verb_attach, verb_cp, verb_operation, verb_update, verb_vm, verb_env, verb_explain,
    verb_balance;
extern const struct cli_verb *const cli_verbs[];
extern const size_t cli_nr_verbs;

/* Prints the verb's help. */
void cli_print_help(const struct cli_verb *verb);
/* Whether a word after the verb asks for its help, which is then printed. */
bool cli_helps(const struct cli_verb *verb, int argc, char **argv);
/* "lodge: VERB: MESSAGE" and where help is, to standard error; returns CLI_EXIT_USAGE. */
int cli_usage_error(const struct cli_verb *verb, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The same for a number of arguments that a subverb does not take; `arguments` are those it does.
 */
int cli_subverb_error(const struct cli_verb *verb, const char *subverb, const char *arguments,
                      bool too_few);
/* The same for a word after the verb that is none of `known` (NULL-terminated). */
int cli_unknown_word(const struct cli_verb *verb, const char *word, const char *const *known);
/* The known word that `word` was most likely meant to be, or NULL. known is NULL-terminated. */
const char *cli_nearest(const char *word, const char *const *known);

#endif
