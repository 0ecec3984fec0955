/* SPDX-License-Identifier: Apache-2.0 */
/* What place, rebalance and fit share: a fleet from a file, and tables of it. */
#ifndef LODGE_CMD_PLAN_FLEET_H
#define LODGE_CMD_PLAN_FLEET_H

#include "cmd/plan.h"
#include "model/fleet.h"
#include "policy/balancing.h"

/* The one positional. Errors name file and line. */
int plan_read_fleet(const struct plan_arguments *arguments, struct fleet **ret, struct err *err);
/* One row a host; bounded. */
json_t *plan_host_rows(const struct fleet *fleet);
/* rebalance --simulate: the moves in virtual time, into `result` and its rows. */
int plan_simulate_moves(const struct plan_arguments *arguments, struct fleet *fleet,
                        const struct balancing_plan *plan, json_t *rows, json_t *result,
                        struct err *err);

#endif
