/* SPDX-License-Identifier: Apache-2.0 */
/* The file of `lodge job run`: what is accepted is in order, with figures that a queue takes. */
#include "cmd/job.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct job_file file;
    struct err err = ERR_INIT;

    if (job_file_parse((const char *)data, size, "fuzz", &file, &err) < 0)
        return 0;
    for (size_t i = 0; i < file.nr_jobs; i++)
        if (!file.jobs[i].image || (i && file.jobs[i].arrival_ns < file.jobs[i - 1].arrival_ns) ||
            file.jobs[i].spec.estimate_ns > QUEUE_TIME_MAX)
            abort();
    job_file_done(&file);
    return 0;
}
