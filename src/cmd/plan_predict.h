/* SPDX-License-Identifier: Apache-2.0 */
/* What predict and what-if share. */
#ifndef LODGE_CMD_PLAN_PREDICT_H
#define LODGE_CMD_PLAN_PREDICT_H

#include "cmd/plan.h"
#include "model/scenario.h"

/* Errors name file and line. */
int plan_read_scenario(const struct document *document, struct scenario **ret, struct err *err);
/* --seed, --answers, --replications */
int plan_scenario_options(const struct plan_arguments *arguments, struct scenario *scenario,
                          struct err *err);
json_t *plan_point(const struct scenario *scenario, const struct scenario_point *point);

#endif
