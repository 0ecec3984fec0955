/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checks that every model makes of its parameters. Each failure has a name, the first word of
 * its message, which scripts may rely on:
 *   not-a-number   NaN or infinite                         -EDOM
 *   negative       below 0, or 0 where that means nothing  -EDOM
 *   range          outside what the formula is for         -ERANGE
 *   unstable       work arrives faster than it is done     -ERANGE
 */
#ifndef LODGE_MODEL_CHECK_H
#define LODGE_MODEL_CHECK_H

#include "base/err.h"

#include <math.h>
#include <stdint.h>

/* > 0 */
static inline int check_positive(const char *name, double value, struct err *err)
{
    if (!isfinite(value))
        return err_set(err, -EDOM, "not-a-number: %s is %g", name, value);
    if (value <= 0)
        return err_set(err, -EDOM, "negative: %s is %g, must be above 0", name, value);
    return 0;
}

/* >= 0 */
static inline int check_not_negative(const char *name, double value, struct err *err)
{
    if (!isfinite(value))
        return err_set(err, -EDOM, "not-a-number: %s is %g", name, value);
    if (value < 0)
        return err_set(err, -EDOM, "negative: %s is %g, must be at least 0", name, value);
    return 0;
}

static inline int check_count(const char *name, uint64_t value, uint64_t least, uint64_t most,
                              struct err *err)
{
    if (value < least || value > most)
        return err_set(err, -ERANGE, "range: %s is %llu, must be %llu to %llu", name,
                       (unsigned long long)value, (unsigned long long)least,
                       (unsigned long long)most);
    return 0;
}

/* Offered load per server must be below 1. */
static inline int check_stable(double utilisation, struct err *err)
{
    if (!(utilisation < 1))
        return err_set(err, -ERANGE,
                       "unstable: the servers would be %.4g %% busy; arrivals must stay below what "
                       "they can serve",
                       100 * utilisation);
    return 0;
}

#endif
