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
/* what-if: figures of the fleet with all its instances placed, and how many more would fit. */
int plan_fleet_figures(const struct plan_arguments *arguments, const struct document *document,
                       json_t **ret, struct err *err);
/* what-if: instances on hosts that there were, and are not any more, may go anywhere. */
int plan_fleet_let_go(const json_t *was, json_t *root, struct err *err);
/* --instance NAME, or the first kind. */
int plan_fleet_kind(const struct plan_arguments *arguments, const struct fleet *fleet,
                    size_t *ret_kind, struct err *err);
/* rebalance --simulate: the moves in virtual time, into `result` and its rows. */
int plan_simulate_moves(const struct plan_arguments *arguments, struct fleet *fleet,
                        const struct balancing_plan *plan, json_t *rows, json_t *result,
                        struct err *err);

#endif
