/* SPDX-License-Identifier: Apache-2.0 */
/* What a queue of the manager has had: its jobs, and what it decided. For charts and for plan. */
#ifndef LODGE_CMD_JOB_HISTORY_H
#define LODGE_CMD_JOB_HISTORY_H

#include "base/err.h"
#include "model/trace.h"
#include "policy/queue.h"

#include <jansson.h>

/* The API's own document (GET /v1/queues/NAME/history), the caller's. limit: of the latest jobs. */
int job_history_load(const char *queue, uint64_t limit, json_t **ret, struct err *err);
/* The queue's configuration. */
int job_history_config(const json_t *history, struct queue_config *ret, struct err *err);
/* Those that ran to an end, as a workload: burst is the time that they ran, arrival from the first
 * one's. trace_done frees it. */
int job_history_trace(const json_t *history, struct trace *ret, struct err *err);

#endif
