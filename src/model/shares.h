/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs that run all at once on one host, in virtual time, and share its processors by weight,
 * between each one's reservation and limit, as instances of the manager do. Who is let in is
 * decided by the manager's admission (policy/admission.h), who gets how much by its allocation
 * (policy/allocation.h); here is only what the real world would do: jobs arrive, progress at the
 * rate they are given, and end.
 *
 * A job's burst is processor time. It is admitted when its reservation (processors, memory) fits
 * what is not promised yet; until then it waits, in order of arrival; one that would not even fit
 * an empty host is refused. Each arrival and each end divides the processors anew.
 *
 * Jobs, results, Little's law: as in jobs.h. `wait` is turnaround less the time that the burst
 * takes at the job's limit, `response` the time until admission, busy_s processor time used. A
 * slice is the whole stay of an admitted job. O(jobs inside) an event.
 */
#ifndef LODGE_MODEL_SHARES_H
#define LODGE_MODEL_SHARES_H

#include "model/jobs.h"

#define SHARES_INSIDE_MAX 100000u

struct shares {
    double cores;
    double memory;     /* bytes; 0: not counted */
    double overcommit; /* of both; 0: 1 */
};

/* jobs->lanes is not looked at. -EINVAL, -ENOMEM; -ERANGE "unstable": more than SHARES_INSIDE_MAX
 * at once. */
int shares_simulate(const struct jobs *jobs, const struct shares *host, struct jobs_result *ret,
                    struct err *err);

#endif
