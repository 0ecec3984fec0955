/* SPDX-License-Identifier: Apache-2.0 */
/* Equal up to a relative error; both figures are printed when they are not. */
#ifndef LODGE_TESTS_NEAR_H
#define LODGE_TESTS_NEAR_H

#include <math.h>
#include <stdbool.h>
#include <stdio.h>

static inline bool near(double is, double should, double relative)
{
    if (fabs(is - should) <= relative * fmax(fabs(should), 1e-12))
        return true;
    printf("%.17g is not %.17g to within %g\n", is, should, relative);
    fflush(stdout);
    return false;
}

#define NEAR(is, should, relative) ck_assert(near(is, should, relative))

#endif
