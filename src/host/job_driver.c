/* SPDX-License-Identifier: Apache-2.0 */
#include "host/job_driver.h"

uint64_t host_jobs_step(struct queue *q, uint64_t now, const struct host_job_verbs *verbs,
                        void *owner)
{
    struct queue_decision decision;

    while (queue_decide(q, now, &decision)) {
        struct queue_record record;
        struct err err = ERR_INIT;
        int r;

        if (decision.action == QUEUE_PAUSE)
            r = verbs->pause(owner, &decision, &err);
        else if (decision.first_start)
            r = verbs->start(owner, &decision, &err);
        else
            r = verbs->resume(owner, &decision, &err);
        if (r < 0 && queue_cancel(q, now, decision.job, &record) >= 0 && verbs->failed)
            verbs->failed(owner, &record, &err);
    }
    return queue_next(q, now);
}
