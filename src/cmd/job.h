/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of jobs that `lodge job run` puts through a queue: read from a file (job_file.c), run as
 * containers and VMs (job_run.c), and told about (verb_job.c).
 *
 * The file is a JSON array of objects:
 *   image, command           required: what lodge run is given
 *   id                       its name; default: its number from 1
 *   arrival, estimate        seconds; default 0 and unknown (then learnt from earlier ones alike)
 *   priority, tickets        as the queue takes them (policy/queue.h)
 *   cpus, memory             what it needs, and is limited to: 1.5, "256M"
 *   vm                       true: in a virtual machine
 */
#ifndef LODGE_CMD_JOB_H
#define LODGE_CMD_JOB_H

#include "base/err.h"
#include "base/json.h"
#include "policy/queue.h"

#define JOB_FILE_JOBS_MAX 10000
#define JOB_ID_MAX        32

struct job_entry {
    char id[JOB_ID_MAX + 1];
    const char *image; /* in the document */
    json_t *command;   /* in the document: an array of strings */
    const char *memory;
    double cpus;
    uint64_t arrival_ns;
    bool vm;
    struct queue_spec spec;
    /* written by job_run */
    struct queue_record record;
    int status; /* exit status; 128 + signal; -1: not run */
    bool ended;
};

struct job_file {
    json_t *document;
    struct job_entry *jobs; /* in order of arrival, then as in the file */
    size_t nr_jobs;
};

/* source: what the text is called in errors. */
int job_file_parse(const char *text, size_t length, const char *source, struct job_file *ret,
                   struct err *err);
int job_file_load(const char *path, struct job_file *ret, struct err *err);
void job_file_done(struct job_file *file);

struct job_run_options {
    struct queue_config queue;
    const char *logs; /* directory for what they write: ID.log; NULL: our standard error */
    /* What happens, as it happens; may be NULL. */
    void (*say)(const struct job_entry *job, const char *what, const char *why, uint64_t now_ns);
};

/* Runs all. 0; -EINTR: a signal ended it, and everything is stopped; -errno. */
int job_run(struct job_file *file, const struct job_run_options *options,
            struct queue_totals *ret_totals, struct err *err);

#endif
