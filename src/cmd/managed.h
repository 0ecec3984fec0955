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

/* "/v1/KIND/REF" and then `rest`, with REF escaped. */
void managed_path_of(char ret[MANAGED_PATH_MAX], const char *kind, const char *ref,
                     const char *rest);
/* The same of an instance. */
void managed_path(char ret[MANAGED_PATH_MAX], const char *ref, const char *rest);
/* Prints the error of a verb, returns the exit status. */
int managed_fail(const struct err *err);

/* Appends NAME=VALUE to an array, of NAME alone with our own value if there is one. */
void managed_put_env(json_t *list, const char *entry);
/* What the API wants for these options. New reference. */
json_t *managed_spec(const struct run_options *options);
/* lodge run with -d, --rm and the like: *ret_status what to exit with. */
int run_managed(const struct run_options *options, int *ret_status, struct err *err);
/* Connects our standard streams, terminal and signals to an upgraded connection (taken) until the
 * program at its other end is over. raw: our terminal is the program's. */
int managed_serve(int fd, bool stdin_open, bool raw, int *ret_status, struct err *err);

/* lodge logs, and the logs of other things: its options, the end of the path that they give, and
 * what the log holds, to our standard streams. The parser returns as managed_parse. */
struct managed_logs {
    bool follow, timestamps;
    const char *tail, *since;
    char rest[128];
};
struct cli_verb;
int managed_logs_parse(const struct cli_verb *verb, int argc, char **argv,
                       struct managed_logs *ret);
int managed_logs_print(const struct managed_logs *logs, const char *path, struct err *err);
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
    json_t *list; /* an array: it may be repeated, each value is appended */
};
int managed_parse(const struct cli_verb *verb, const struct managed_option *options, size_t nr,
                  int argc, char **argv);

/* GET path?all=0 or 1 with what filters it; *ret: the answer. */
struct managed_filter {
    const char *name, *value; /* value NULL: not asked for */
};
int managed_list(const char *path, bool all, const struct managed_filter *filters, size_t nr,
                 json_t **ret, struct err *err);

#endif
