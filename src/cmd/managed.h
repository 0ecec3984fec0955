/* SPDX-License-Identifier: Apache-2.0 */
/* What the verbs of managed instances share. */
#ifndef LODGE_CMD_MANAGED_H
#define LODGE_CMD_MANAGED_H

#include "base/buf.h"
#include "base/err.h"
#include "cmd/run_options.h"

#include <jansson.h>
#include <stdbool.h>

#define MANAGED_PATH_MAX 1024

/* "/v1/instances/REF" and then `rest`, with REF escaped. */
void managed_path(char ret[MANAGED_PATH_MAX], const char *ref, const char *rest);
/* Prints the error of a verb, returns the exit status. */
int managed_fail(const struct err *err);

/* What the API wants for these options. New reference. */
json_t *managed_spec(const struct run_options *options);
/* lodge run with -d, --rm and the like: *ret_status what to exit with. */
int run_managed(const struct run_options *options, int *ret_status, struct err *err);
/* Connects our standard streams, terminal and signals to an upgraded connection (taken) until the
 * program at its other end is over. raw: our terminal is the program's. */
int managed_serve(int fd, bool stdin_open, bool raw, int *ret_status, struct err *err);

/* What a log of the API (a path with its query) holds, to our standard streams; since: as of `lodge
 * logs`, NULL: all. */
int managed_print_logs(const char *path, bool timestamps, const char *since, struct err *err);
/* The same for a machine's serial port: the terminal is raw, Ctrl-] leaves, and neither the end of
 * our input nor a signal reaches the guest. */
int managed_console(int fd, int *ret_status, struct err *err);

/* Options of a verb: letters and long names that set a flag or take a value. What is no option is
 * kept in order in argv[1..]; returns how many those are, or -1 after saying what is wrong. */
struct managed_option {
    const char *name; /* with its dashes */
    char letter;      /* 0: none */
    bool *flag;
    const char **value;
};
struct cli_verb;
int managed_parse(const struct cli_verb *verb, const struct managed_option *options, size_t nr,
                  int argc, char **argv);

#endif
