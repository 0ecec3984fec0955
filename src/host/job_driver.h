/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carries the decisions of a job queue out on real instances. The owner gives the verbs (start,
 * pause, resume), calls host_jobs_step whenever something happened or the time it returned has
 * come, and tells the queue itself about arrivals and ends. A verb that fails withdraws its job
 * from the queue and says so, so that one broken job never stops the others.
 */
#ifndef LODGE_HOST_JOB_DRIVER_H
#define LODGE_HOST_JOB_DRIVER_H

#include "policy/queue.h"

struct host_job_verbs {
    /* 0, or -errno with err. */
    int (*start)(void *owner, const struct queue_decision *decision, struct err *err);
    int (*pause)(void *owner, const struct queue_decision *decision, struct err *err);
    int (*resume)(void *owner, const struct queue_decision *decision, struct err *err);
    /* A verb failed; the job is out of the queue. May be NULL. */
    void (*failed)(void *owner, const struct queue_record *record, const struct err *err);
};

/* Returns when to be called again at the latest, by the clock of `now`; QUEUE_NEVER. */
uint64_t host_jobs_step(struct queue *q, uint64_t now, const struct host_job_verbs *verbs,
                        void *owner);

#endif
