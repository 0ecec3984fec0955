/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dominant-resource fairness: users whose tasks need several resources are served so that their
 * dominant shares (the largest of what each has of any resource, as a part of the capacity, divided
 * by the user's weight) are as equal as whole tasks allow. Progressive filling: the user with the
 * smallest dominant share gets its next task; one whose task does not fit any more is done.
 * Ties: the lower index. O((n + tasks) log n).
 *
 * Source: Ghodsi et al., Dominant Resource Fairness, NSDI 2011, algorithm 1.
 */
#ifndef LODGE_POLICY_DRF_H
#define LODGE_POLICY_DRF_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define DRF_RESOURCES_MAX 8

struct drf_user {
    double need[DRF_RESOURCES_MAX]; /* of one task; at least one above 0 */
    double weight;                  /* 0: 1 */
    uint64_t tasks_max;             /* 0: no limit */
    uint64_t tasks;                 /* in: what it has already; out: what it has in the end */
    double dominant_share;          /* out */
    unsigned dominant_resource;     /* out */
};

/*
 * Serves until nothing fits. capacity: above 0 where any need is. used (may be NULL) gets what is
 * taken of each resource in the end. -EINVAL, -ENOMEM.
 */
int drf_fill(const double *capacity, unsigned nr_resources, struct drf_user *users, size_t n,
             double *ret_used, struct err *err);

#endif
