/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May one more come in? Admission promises only what can be kept: the reservations of all admitted
 * stay within R_total * overcommit, at each level (host, environment) that the newcomer passes.
 *
 *   R_free = R_total * overcommit - sum of reservations
 *
 * A refusal names level and resource, what was asked, what is free, and what would fit. Pure; the
 * owner keeps the sums (admission_add, admission_remove keep them right). Overcommit is 1 unless
 * the owner says otherwise; memory above 1 is a promise that the owner must be able to break
 * gently.
 */
#ifndef LODGE_POLICY_ADMISSION_H
#define LODGE_POLICY_ADMISSION_H

#include "policy/allocation.h"

struct admission_level {
    const char *name;                        /* "host", "environment dev": for messages */
    double total[ALLOCATION_RESOURCES];      /* ALLOCATION_UNLIMITED: not counted */
    double overcommit[ALLOCATION_RESOURCES]; /* 0: 1.0 */
    double reserved[ALLOCATION_RESOURCES];   /* sum of what is admitted */
    uint64_t instances, instances_max;       /* 0: no limit */
};

struct admission_answer {
    bool admitted;
    size_t level;                      /* refused: the first level that cannot */
    enum allocation_resource resource; /* refused: the resource that is most over */
    bool by_count;                     /* refused: instances_max, not a resource */
    double asked, free, total;         /* of that resource at that level */
    double fits[ALLOCATION_RESOURCES]; /* the most that would be admitted now */
    uint64_t copies; /* how many of exactly this would be admitted one after the other */
};

double admission_free(const struct admission_level *level, enum allocation_resource resource);

/* Asks all levels. -EINVAL: a number that is none (err says which). A refusal is not an error. */
int admission_ask(const struct admission_level *levels, size_t nr_levels,
                  const double reservation[ALLOCATION_RESOURCES], struct admission_answer *ret,
                  struct err *err);

/* One sentence for the user: "environment dev: 2 of 4 cores are free, 3 were asked for; ...". */
int admission_explain(const struct admission_level *levels, const struct admission_answer *answer,
                      char *text, size_t size);

void admission_add(struct admission_level *level, const double reservation[ALLOCATION_RESOURCES]);
void admission_remove(struct admission_level *level,
                      const double reservation[ALLOCATION_RESOURCES]);

#endif
