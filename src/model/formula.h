/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every analytic model by name, with its parameters, so that a command line or a document can call
 * it. The models themselves are in queueing.h, networks.h and migration.h; here names are given to
 * what goes in and comes out.
 */
#ifndef LODGE_MODEL_FORMULA_H
#define LODGE_MODEL_FORMULA_H

#include "base/err.h"
#include "base/json.h"

#include <stddef.h>

#define FORMULA_PARAMETERS_MAX 10

enum formula_kind {
    FORMULA_NUMBER,
    FORMULA_COUNT, /* a whole number */
    FORMULA_LIST,  /* numbers, comma between */
    FORMULA_WORDS, /* words, comma between, of those in `words` */
};

struct formula_parameter {
    const char *name, *meaning; /* meaning with the unit */
    enum formula_kind kind;
    const char *standard; /* as text; NULL: must be given */
    const char *words;    /* FORMULA_WORDS: "exact|schweitzer" */
};

struct formula {
    const char *name, *title, *text; /* text: the formula, its domain and source */
    struct formula_parameter parameters[FORMULA_PARAMETERS_MAX]; /* until a NULL name */
    int (*compute)(const struct formula_parameter *parameters, const char *const *values,
                   json_t *result, struct err *err);
    int (*compute_file)(const struct json_at *root, json_t *result, struct err *err); /* or NULL */
};

/* NULL past the last. */
const struct formula *formula_at(size_t i);
const struct formula *formula_find(const char *name);

/* values: one text a parameter, NULL where not given. *ret: an object with members in the order in
 * which they should be shown; the caller frees it. */
int formula_compute(const struct formula *formula, const char *const *values, json_t **ret,
                    struct err *err);
/* The same with a network from a JSON file, where the formula has that (mva, open, jackson). */
int formula_compute_file(const struct formula *formula, const char *path, json_t **ret,
                         struct err *err);

#endif
