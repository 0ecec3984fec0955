/* SPDX-License-Identifier: Apache-2.0 */
/* Rounds are counted one by one: there are few, and the caps make a closed form useless. */
#include "model/migration.h"

#include "model/check.h"

int migration_precopy(const struct migration *m, struct migration_result *ret, struct err *err)
{
    struct migration_result result = {.reason = "the rest fits into the allowed downtime"};
    unsigned rounds_max = m->rounds_max ? m->rounds_max : MIGRATION_ROUNDS_MAX;
    double left = m->memory, cap = m->working_set > 0 ? m->working_set : m->memory;
    int r = check_positive("memory", m->memory, err);

    if (r < 0 || (r = check_positive("bandwidth", m->bandwidth, err)) < 0 ||
        (r = check_not_negative("dirty-rate", m->dirty_rate, err)) < 0 ||
        (r = check_not_negative("downtime", m->downtime_limit, err)) < 0 ||
        (r = check_not_negative("working-set", m->working_set, err)) < 0 ||
        (r = check_count("rounds", rounds_max, 1, 1000000, err)) < 0)
        return r;
    for (;;) {
        double time = left / m->bandwidth, dirtied = fmin(m->dirty_rate * time, cap);

        if (time <= m->downtime_limit)
            break;
        if (result.rounds == rounds_max) {
            result.reason = "the limit of rounds was reached";
            break;
        }
        if (result.rounds > 0 && dirtied >= left) {
            result.reason = m->dirty_rate >= m->bandwidth
                                ? "memory is dirtied faster than it can be sent"
                                : "the working set does not shrink";
            break;
        }
        result.sent += left;
        result.total += time;
        result.rounds++;
        left = fmin(dirtied, m->memory);
    }
    result.downtime = left / m->bandwidth;
    result.converged = result.downtime <= m->downtime_limit;
    result.sent += left;
    result.total += result.downtime;
    *ret = result;
    return 0;
}
