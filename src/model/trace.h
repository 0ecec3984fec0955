/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recorded workloads as jobs. Formats, told from their first line where not given:
 *   jobs     CSV with a header:
 * id,arrival,burst[,priority,estimate,cpus,memory,tickets,weight,limit,reserve], any order;
 * seconds, cores, MiB swf      Standard Workload Format 2.2 (Feitelson): 18 numbers a line,
 * comments by ';' google   Google cluster trace 2011, task_events: timestamp in us, job, task,
 * event type, priority, requests; a job is from SUBMIT to FINISH, its burst from the last SCHEDULE
 *   azure    Azure public dataset, vmtable: created, deleted, cores, memory in GiB
 *   alibaba  Alibaba cluster trace 2018, batch_task: start, end, plan_cpu in hundredths of a core
 *
 * Requests that a trace gives as a share of a machine (google: processors and memory, alibaba:
 * memory) become that share of a machine of 1 core and 1,024 MiB times `scale`. Jobs that have no
 * known end or begin are left out and counted. Errors name file and line. All of it is untrusted.
 */
#ifndef LODGE_MODEL_TRACE_H
#define LODGE_MODEL_TRACE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define TRACE_JOBS_MAX  20000000u
#define TRACE_BYTES_MAX (UINT64_C(4) << 30)
#define TRACE_TIME_MAX  2e9 /* seconds */
#define TRACE_ID_MAX    24

enum trace_format {
    TRACE_AUTO,
    TRACE_JOBS,
    TRACE_SWF,
    TRACE_GOOGLE,
    TRACE_AZURE,
    TRACE_ALIBABA,
};
extern const char *const trace_format_names[]; /* NULL-terminated */

struct trace_job {
    char id[TRACE_ID_MAX]; /* shortened where longer */
    double arrival, burst; /* seconds; arrival from the first job's */
    double estimate;       /* told to the policy; 0: unknown */
    double cpus, memory_mib;
    int32_t priority;
    uint32_t tickets;
    double weight, limit, reserve; /* limit, reserve: cores; 0: not said */
};

struct trace {
    struct trace_job *jobs; /* in order of arrival */
    size_t nr, capacity;
    size_t left_out; /* records without begin or end */
};

/* scale: see above; 0: 1. */
int trace_parse(const char *text, size_t length, const char *source, enum trace_format format,
                double scale, struct trace *ret, struct err *err);
int trace_load(const char *path, enum trace_format format, double scale, struct trace *ret,
               struct err *err);
void trace_done(struct trace *trace);

static inline void trace_donep(struct trace *trace)
{
    trace_done(trace);
}

#endif
