/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge plan: what its commands share. One command a file (plan_NAME.c): options by one table,
 * results as one JSON document that is printed as JSON, as CSV or as tables. Times in seconds.
 */
#ifndef LODGE_CMD_PLAN_H
#define LODGE_CMD_PLAN_H

#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>

#define PLAN_OPTIONS_MAX     48
#define PLAN_POSITIONALS_MAX 16

struct plan_option {
    const char *name;    /* without the dashes */
    const char *value;   /* what it takes: "FILE", "N"; NULL: a switch */
    const char *meaning; /* one line */
};

struct plan_arguments {
    const struct plan_option *options;
    size_t nr_options;
    const char *values[PLAN_OPTIONS_MAX]; /* "" of a switch; NULL: not given */
    const char *positionals[PLAN_POSITIONALS_MAX];
    size_t nr_positionals;
};

struct plan_command {
    const char *name, *usage, *summary; /* usage: after the name */
    const char *text;                   /* more help, lines; may be NULL */
    const struct plan_option *options;  /* until a NULL name; --json, --csv are everybody's */
    /* *ret: the result document. The command writes its own files (charts). */
    int (*run)(const struct plan_arguments *arguments, json_t **ret, struct err *err);
};

extern const struct plan_command plan_formula, plan_schedule, plan_compare, plan_trace,
    plan_predict, plan_what_if, plan_place, plan_rebalance, plan_fit, plan_from_host;
/* NULL past the last. */
const struct plan_command *plan_command_at(size_t i);

/* What could stand at the last of the words after the command's name. */
void plan_complete(const struct plan_command *command, size_t nr_words, char **words,
                   void (*offer)(const char *candidate, void *context), void *context);

/* The option's text; NULL: not given. */
const char *plan_value(const struct plan_arguments *arguments, const char *name);
/* Numbers in [least, most]; without the option *ret stays. */
int plan_number(const struct plan_arguments *arguments, const char *name, double least, double most,
                double *ret, struct err *err);

/* To standard output. */
void plan_print_json(const json_t *result);
void plan_print_csv(const json_t *result);
void plan_print_tables(const json_t *result);
/* Writes a chart; "-" is standard output. */
int plan_write(const char *path, const char *text, size_t length, struct err *err);

#endif
