/* SPDX-License-Identifier: Apache-2.0 */
/* lodge plan rebalance --simulate: the moves that were decided, carried out in virtual time on
 * links that they share (model/moves.h). */
#include "cmd/plan_fleet.h"

#include "base/cleanup.h"
#include "model/moves.h"

#include <stdlib.h>

#define MOVES_MAX 20000u

static int read_options(const struct plan_arguments *arguments, struct moves *moves,
                        struct err *err)
{
    double bandwidth = 0, dirty = 0, downtime = .3, parallel = 1;
    int r;

    if ((r = plan_number(arguments, "bandwidth", .001, 1e9, &bandwidth, err)) < 0 ||
        (r = plan_number(arguments, "dirty-rate", 0, 1e9, &dirty, err)) < 0 ||
        (r = plan_number(arguments, "downtime", 0, 1e6, &downtime, err)) < 0 ||
        (r = plan_number(arguments, "parallel", 1, 1e6, &parallel, err)) < 0)
        return r;
    if (bandwidth <= 0)
        return err_set(err, -EINVAL, "--simulate: the --bandwidth of each host's link is needed");
    moves->copy =
        (struct migration){.bandwidth = bandwidth, .dirty_rate = dirty, .downtime_limit = downtime};
    moves->parallel = (uint32_t)parallel;
    return 0;
}

static void put_row(const struct move_result *one, json_t *row)
{
    if (!one->done) {
        json_object_set_new(row, "stays", json_string("no room for it"));
        return;
    }
    json_object_set_new(row, "begins", json_real(one->begin));
    json_object_set_new(row, "ends", json_real(one->end));
    json_object_set_new(row, "rounds", json_integer((json_int_t)one->rounds));
    json_object_set_new(row, "sent", json_real(one->sent));
    json_object_set_new(row, "stands_still", json_real(one->downtime));
    json_object_set_new(row, "converged", json_boolean(one->converged));
}

int plan_simulate_moves(const struct plan_arguments *arguments, struct fleet *fleet,
                        const struct balancing_plan *plan, json_t *rows, json_t *result,
                        struct err *err)
{
    CLEANUP(freep) struct move_result *each = calloc(plan->nr_moves + 1, sizeof(*each));
    CLEANUP(freep) double *dirty = calloc(plan->nr_moves + 1, sizeof(*dirty));
    struct moves moves = {.moves = plan->moves, .nr_moves = plan->nr_moves, .dirty_rates = dirty};
    struct moves_result all = {.each = each};
    int r = read_options(arguments, &moves, err);

    if (r < 0)
        return r;
    if (!each || !dirty)
        return err_set(err, -ENOMEM, "simulation");
    if (plan->nr_moves > MOVES_MAX)
        return err_set(err, -EINVAL, "--simulate: %zu moves; %u at most (--moves)", plan->nr_moves,
                       MOVES_MAX);
    for (size_t i = 0; i < plan->nr_moves; i++) {
        double own = fleet->kinds[fleet->instance_kinds[plan->moves[i].instance]].dirty_rate;

        dirty[i] = own >= 0 ? own : moves.copy.dirty_rate;
    }
    if ((r = moves_simulate(fleet->placement, &moves, &all, err)) < 0)
        return r;
    for (size_t i = 0; i < plan->nr_moves; i++)
        put_row(&each[i], json_array_get(rows, i));
    json_object_set_new(result, "simulated",
                        json_pack("{s:f, s:I, s:I, s:I, s:f, s:f, s:f, s:i, s:I}", "took", all.took,
                                  "moved", (json_int_t)all.done, "stayed", (json_int_t)all.waiting,
                                  "not_converged", (json_int_t)all.unconverged, "sent", all.sent,
                                  "downtime_together", all.downtime, "longest_downtime",
                                  all.most_downtime, "at_once", (int)all.most_at_once, "events",
                                  (json_int_t)all.events));
    return 0;
}
