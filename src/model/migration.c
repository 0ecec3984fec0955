/* SPDX-License-Identifier: Apache-2.0 */
/* Rounds are counted one by one: there are few, and the caps make a closed form useless. */
#include "model/migration.h"

#include "model/check.h"

double migration_dirtied(const struct migration *m, double seconds)
{
    double cap = m->working_set > 0 ? fmin(m->working_set, m->memory) : m->memory;

    return fmin(m->dirty_rate * seconds, cap);
}

bool migration_ends(const struct migration *m, unsigned rounds, double left,
                    const char **ret_reason)
{
    double time = left / m->bandwidth;

    if (time <= m->downtime_limit) {
        *ret_reason = "the rest fits into the allowed downtime";
        return true;
    }
    if (rounds == (m->rounds_max ? m->rounds_max : MIGRATION_ROUNDS_MAX)) {
        *ret_reason = "the limit of rounds was reached";
        return true;
    }
    *ret_reason = m->dirty_rate >= m->bandwidth ? "memory is dirtied faster than it can be sent"
                                                : "the working set does not shrink";
    return rounds > 0 && migration_dirtied(m, time) >= left;
}

int migration_precopy(const struct migration *m, struct migration_result *ret, struct err *err)
{
    struct migration_result result = {0};
    unsigned rounds_max = m->rounds_max ? m->rounds_max : MIGRATION_ROUNDS_MAX;
    double left = m->memory;
    int r = check_positive("memory", m->memory, err);

    if (r < 0 || (r = check_positive("bandwidth", m->bandwidth, err)) < 0 ||
        (r = check_not_negative("dirty-rate", m->dirty_rate, err)) < 0 ||
        (r = check_not_negative("downtime", m->downtime_limit, err)) < 0 ||
        (r = check_not_negative("working-set", m->working_set, err)) < 0 ||
        (r = check_count("rounds", rounds_max, 1, 1000000, err)) < 0)
        return r;
    while (!migration_ends(m, result.rounds, left, &result.reason)) {
        double time = left / m->bandwidth;

        result.sent += left;
        result.total += time;
        result.rounds++;
        left = migration_dirtied(m, time);
    }
    result.downtime = left / m->bandwidth;
    result.converged = result.downtime <= m->downtime_limit;
    result.sent += left;
    result.total += result.downtime;
    *ret = result;
    return 0;
}
