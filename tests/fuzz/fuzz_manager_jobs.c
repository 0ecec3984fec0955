/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of requests about jobs and queues: a submission, a change of a job, a configuration. What
 * is accepted of a queue must be accepted again as it is written down. */
#include "manager/jobs_spec.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void configure(json_t *document)
{
    struct job_queue_spec spec, again;
    struct err err = ERR_INIT;
    json_t *written;

    job_queue_spec_init(&spec, 2);
    if (job_queue_spec_change(document, &spec, &err) < 0)
        return;
    written = job_queue_spec_json(&spec);
    job_queue_spec_init(&again, 1);
    if (job_queue_spec_change(written, &again, &err) < 0 ||
        again.config.policy != spec.config.policy || again.config.servers != spec.config.servers ||
        again.keep != spec.keep)
        abort();
    json_decref(written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct queue_spec change = {.tickets = 100};
    struct job_request request;
    struct err err = ERR_INIT;
    json_t *document = NULL;

    if (json_parse((const char *)data, size, "fuzz", &document, &err) < 0 ||
        !json_is_object(document)) {
        json_decref(document);
        return 0;
    }
    if (job_request_parse(document, &request, &err) == 0) {
        if (!request.spec || !request.image || !request.tickets || !request.count)
            abort();
        job_request_done(&request);
    }
    job_change_parse(document, &change, &err);
    if (!change.tickets)
        abort();
    configure(document);
    json_decref(document);
    return 0;
}
