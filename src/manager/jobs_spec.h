/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client may say of jobs and queues: JSON objects, checked member by member, unknown members
 * and numbers out of range refused by name. Pure: no files, no state, no clock.
 *
 * Times are seconds in JSON (whole or not) and nanoseconds here.
 */
#ifndef LODGE_MANAGER_JOBS_SPEC_H
#define LODGE_MANAGER_JOBS_SPEC_H

#include "base/json.h"
#include "manager/spec.h"
#include "policy/queue.h"

#define JOBS_SECONDS_MAX 1e8 /* three years */
#define JOBS_BATCH_MAX   10000
#define JOBS_KEEP_MAX    1000000
#define JOBS_KEEP_USUAL  1000
/* What a job takes of a queue's capacity if its specification does not limit it. */
#define JOBS_CPU_MILLIS   1000
#define JOBS_MEMORY_BYTES (UINT64_C(256) << 20)

struct job_request {
    char *queue, *name;  /* owned; name may be NULL */
    char *spec;          /* owned: the instance's specification as text, checked */
    char *image;         /* owned */
    char *command;       /* owned: one line, shortened */
    uint64_t class_hash; /* of image, isolation and command: what the estimates are learnt by */
    uint64_t estimate_ns;
    int32_t priority;
    uint32_t tickets;
    uint64_t need[QUEUE_RESOURCES];
    uint64_t count; /* so many alike */
    bool vm, restartable;
};

/* *ret is filled only on success; job_request_done frees it. */
int job_request_parse(json_t *document, struct job_request *ret, struct err *err);
void job_request_done(struct job_request *request);
/* The name under which the estimator knows a class, for a hash of job_request. */
#define JOBS_CLASS_NAME_MAX 24
void job_class_name(uint64_t class_hash, char ret[JOBS_CLASS_NAME_MAX]);

struct job_queue_spec {
    struct queue_config config;
    uint64_t keep; /* ended jobs that are remembered, with what they wrote */
    bool hold;     /* takes jobs, starts none */
};

/* What a queue is of which nothing is said. */
void job_queue_spec_init(struct job_queue_spec *spec, uint32_t nr_cpus);
/* Changes *spec by the members of document ("name" is skipped); unchanged on failure. */
int job_queue_spec_change(json_t *document, struct job_queue_spec *spec, struct err *err);
/* All of it, as job_queue_spec_change takes it. New reference; NULL without memory. */
json_t *job_queue_spec_json(const struct job_queue_spec *spec);

/* {"priority", "estimate_s", "tickets"}, of a job that has not ended; absent ones stay. */
int job_change_parse(json_t *document, struct queue_spec *spec, struct err *err);

#endif
