/* SPDX-License-Identifier: Apache-2.0 */
/* Recorded workloads on arbitrary bytes, in each format: the first byte chooses. What is accepted
 * is in order of arrival, and within the bounds that the header promises. */
#include "model/trace.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trace trace = {0};
    struct err err = ERR_INIT;

    if (size == 0)
        return 0;
    if (trace_parse((const char *)data + 1, size - 1, "fuzz", (enum trace_format)(data[0] % 6), 8,
                    &trace, &err) < 0) {
        if (strncmp(err.message, "fuzz:", 5) != 0 || err.code >= 0)
            abort();
        return 0;
    }
    for (size_t i = 0; i < trace.nr; i++) {
        const struct trace_job *job = &trace.jobs[i];

        if (!(job->arrival >= 0 && job->arrival <= TRACE_TIME_MAX && job->burst >= 0 &&
              job->burst <= TRACE_TIME_MAX && job->cpus >= 0 && job->cpus <= 1e6) ||
            (i > 0 && job->arrival < trace.jobs[i - 1].arrival) || strlen(job->id) >= TRACE_ID_MAX)
            abort();
    }
    trace_done(&trace);
    return 0;
}
