/* SPDX-License-Identifier: Apache-2.0 */
/* The file of `lodge job run`; errors name the file and the member. */
#include "cmd/job.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/size.h"
#include "base/util.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define FILE_MAX    (16 * MIB)
#define SECONDS_MAX 1e8

/* A number, whole or not. */
static int get_number(const struct json_at *at, const char *name, double least, double most,
                      double *ret, struct err *err)
{
    struct json_at member;
    int r = json_at_member(at, name, &member, err);

    if (r < 0 || !member.value)
        return r;
    if (!json_is_number(member.value))
        return err_set(err, -EINVAL, "%s is not a number", member.path);
    *ret = json_number_value(member.value);
    if (!(*ret >= least && *ret <= most))
        return err_set(err, -ERANGE, "%s: %g is not in %g to %g", member.path, *ret, least, most);
    return 0;
}

/* It becomes part of the name of a run and of a file. */
static int check_id(const char *id, const struct json_at *at, struct err *err)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

    if (!*id || strlen(id) > JOB_ID_MAX || id[strspn(id, letters)])
        return err_set(err, -EINVAL, "%s.id: '%.60s' is not 1 to %d letters, digits, '_' and '-'",
                       at->path, id, JOB_ID_MAX);
    return 0;
}

static int read_command(const struct json_at *at, struct job_entry *job, struct err *err)
{
    struct json_at command;
    int r = json_at_member(at, "command", &command, err);

    if (r < 0)
        return r;
    if (!json_is_array(command.value) || !json_array_size(command.value))
        return err_set(err, -EINVAL, "%s is not an array of the command and its arguments",
                       command.path);
    for (size_t i = 0; i < json_array_size(command.value); i++)
        if (!json_is_string(json_array_get(command.value, i)))
            return err_set(err, -EINVAL, "%s[%zu] is not a string", command.path, i);
    job->command = command.value;
    return 0;
}

static int read_numbers(const struct json_at *at, struct job_entry *job, struct err *err)
{
    double arrival = 0, estimate = 0, priority = 0, tickets = 100;
    uint64_t bytes = 0;
    int r = get_number(at, "arrival", 0, SECONDS_MAX, &arrival, err);

    if (r >= 0)
        r = get_number(at, "estimate", 0, SECONDS_MAX, &estimate, err);
    if (r >= 0)
        r = get_number(at, "priority", -QUEUE_PRIORITY_MAX, QUEUE_PRIORITY_MAX, &priority, err);
    if (r >= 0)
        r = get_number(at, "tickets", 1, QUEUE_TICKETS_MAX, &tickets, err);
    if (r >= 0)
        r = get_number(at, "cpus", 0.01, 4096, &job->cpus, err);
    if (r >= 0)
        r = json_opt_string(at, "memory", &job->memory, err);
    if (r >= 0 && job->memory && (r = size_parse(job->memory, &bytes, err)) < 0)
        return err_wrap(err, "%s.memory", at->path);
    if (r < 0)
        return r;
    job->arrival_ns = (uint64_t)llround(arrival * (double)NS_PER_S);
    job->spec.estimate_ns = (uint64_t)llround(estimate * (double)NS_PER_S);
    job->spec.priority = (int32_t)priority;
    job->spec.tickets = (uint32_t)tickets;
    job->spec.need[0] = (uint64_t)llround(job->cpus * 1000);
    job->spec.need[1] = bytes;
    return 0;
}

static int read_job(const struct json_at *at, size_t number, struct job_entry *job, struct err *err)
{
    static const char *const known[] = {"id",       "image",    "command", "arrival",
                                        "estimate", "priority", "tickets", "cpus",
                                        "memory",   "vm",       NULL};
    char numbered[24];
    const char *id = numbered;
    int r = json_reject_unknown(at, known, err);

    snprintf(numbered, sizeof(numbered), "%zu", number);
    job->status = -1;
    if (r >= 0)
        r = json_opt_string(at, "id", &id, err);
    if (r >= 0)
        r = check_id(id, at, err);
    if (r >= 0)
        r = json_get_string(at, "image", &job->image, err);
    if (r >= 0)
        r = json_opt_bool(at, "vm", &job->vm, err);
    if (r >= 0)
        r = read_command(at, job, err);
    if (r < 0)
        return r;
    snprintf(job->id, sizeof(job->id), "%s", id);
    return read_numbers(at, job, err);
}

static int compare_ids(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_unique(const struct job_file *file, struct err *err)
{
    CLEANUP(freep) const char **ids = calloc(file->nr_jobs + 1, sizeof(*ids));

    if (!ids)
        return err_set(err, -ENOMEM, "out of memory");
    for (size_t i = 0; i < file->nr_jobs; i++)
        ids[i] = file->jobs[i].id;
    qsort(ids, file->nr_jobs, sizeof(*ids), compare_ids);
    for (size_t i = 1; i < file->nr_jobs; i++)
        if (!strcmp(ids[i - 1], ids[i]))
            return err_set(err, -EEXIST, "two jobs have the id '%s'", ids[i]);
    return 0;
}

/* spec.cookie is still the place in the file. */
static int compare_arrivals(const void *a, const void *b)
{
    const struct job_entry *x = a, *y = b;

    if (x->arrival_ns != y->arrival_ns)
        return x->arrival_ns < y->arrival_ns ? -1 : 1;
    return x->spec.cookie < y->spec.cookie ? -1 : 1;
}

static int read_all(struct job_file *file, struct err *err)
{
    struct json_at root;
    int r = 0;

    json_at_root(file->document, &root);
    if (!json_is_array(file->document))
        return err_set(err, -EINVAL, "not a JSON array of jobs");
    file->nr_jobs = json_array_size(file->document);
    if (file->nr_jobs > JOB_FILE_JOBS_MAX)
        return err_set(err, -E2BIG, "%zu jobs; at most %d", file->nr_jobs, JOB_FILE_JOBS_MAX);
    file->jobs = calloc(file->nr_jobs + 1, sizeof(*file->jobs));
    if (!file->jobs)
        return err_set(err, -ENOMEM, "out of memory");
    for (size_t i = 0; r >= 0 && i < file->nr_jobs; i++) {
        struct json_at at;

        r = json_at_index(&root, i, &at, err);
        if (r >= 0)
            r = read_job(&at, i + 1, &file->jobs[i], err);
        file->jobs[i].spec.cookie = i;
    }
    if (r >= 0)
        r = check_unique(file, err);
    if (r < 0)
        return r;
    qsort(file->jobs, file->nr_jobs, sizeof(*file->jobs), compare_arrivals);
    for (size_t i = 0; i < file->nr_jobs; i++)
        file->jobs[i].spec.cookie = i;
    return 0;
}

int job_file_parse(const char *text, size_t length, const char *source, struct job_file *ret,
                   struct err *err)
{
    struct job_file file = {0};
    int r = json_parse(text, length, source, &file.document, err);

    if (r < 0)
        return r;
    r = read_all(&file, err);
    if (r < 0) {
        job_file_done(&file);
        return err_wrap(err, "%s", source);
    }
    *ret = file;
    return 0;
}

int job_file_load(const char *path, struct job_file *ret, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    int r;

    buf_init(&text, FILE_MAX);
    r = file_load(AT_FDCWD, path, &text, err);
    return r < 0 ? r : job_file_parse(text.data, text.length, path, ret, err);
}

void job_file_done(struct job_file *file)
{
    free(file->jobs);
    json_decref(file->document);
    *file = (struct job_file){0};
}
