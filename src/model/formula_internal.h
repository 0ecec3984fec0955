/* SPDX-License-Identifier: Apache-2.0 */
/* What the tables of formulas share: values from their texts, numbers into results. */
#ifndef LODGE_MODEL_FORMULA_INTERNAL_H
#define LODGE_MODEL_FORMULA_INTERNAL_H

#include "model/formula.h"

#include <stdint.h>

/* Named errors as in check.h. */
int formula_number(const char *name, const char *text, double *ret, struct err *err);
int formula_count(const char *name, const char *text, uint64_t *ret, struct err *err);
int formula_list(const char *name, const char *text, double *ret, size_t max, size_t *ret_nr,
                 struct err *err);
/* null for what is not finite */
void formula_put(json_t *object, const char *name, double value);

/* The formulas of networks; NULL past the last. */
const struct formula *formula_network_at(size_t i);

#endif
