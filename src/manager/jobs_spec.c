/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what is said of jobs and queues. */
#include "manager/jobs_spec.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/hash.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND_SHOWN 120

/* A number, whole or not, within bounds; absent leaves *ret. */
static int get_number(const struct json_at *at, const char *name, double least, double most,
                      double *ret, struct err *err)
{
    struct json_at member;
    int r = json_at_member(at, name, &member, err);

    if (r < 0 || !member.value || json_is_null(member.value))
        return r;
    if (!json_is_number(member.value))
        return err_set(err, -EINVAL, "%s is not a number", member.path);
    if (!(json_number_value(member.value) >= least && json_number_value(member.value) <= most))
        return err_set(err, -EINVAL, "%s: %g is not within %g and %g", member.path,
                       json_number_value(member.value), least, most);
    *ret = json_number_value(member.value);
    return 0;
}

static int get_whole(const struct json_at *at, const char *name, int64_t least, int64_t most,
                     int64_t *ret, struct err *err)
{
    struct json_at member;
    int64_t value;
    int r = json_at_member(at, name, &member, err);

    if (r < 0 || !member.value || json_is_null(member.value))
        return r;
    if (!json_is_integer(member.value))
        return err_set(err, -EINVAL, "%s is not a whole number", member.path);
    value = json_integer_value(member.value);
    if (value < least || value > most)
        return err_set(err, -EINVAL, "%s: %" PRId64 " is not within %" PRId64 " and %" PRId64,
                       member.path, value, least, most);
    *ret = value;
    return 0;
}

static int get_seconds(const struct json_at *at, const char *name, double least, uint64_t *ret_ns,
                       struct err *err)
{
    double seconds = (double)*ret_ns / 1e9;
    int r = get_number(at, name, least, JOBS_SECONDS_MAX, &seconds, err);

    if (r == 0)
        *ret_ns = (uint64_t)llround(seconds * 1e9);
    return r;
}

static char *command_line(const struct spec *spec)
{
    CLEANUP(buf_donep) struct buf text;
    size_t length;

    buf_init(&text, 1 << 20);
    for (size_t i = 0; spec->command && spec->command[i] && text.length <= COMMAND_SHOWN; i++)
        if (buf_printf(&text, "%s%.*s", i ? " " : "", COMMAND_SHOWN, spec->command[i]) < 0)
            return NULL;
    /* Not in the middle of a character. */
    length = text.length;
    if (length > COMMAND_SHOWN)
        for (length = COMMAND_SHOWN; length && ((unsigned char)text.data[length] & 0xc0) == 0x80;)
            length--;
    return strndup(text.data ? text.data : "", length);
}

static uint64_t class_of(const struct spec *spec)
{
    uint64_t hash = hash_bytes(HASH_START, spec->image, strlen(spec->image) + 1);

    hash = hash_bytes(hash, spec->vm ? "v" : "c", 1);
    for (size_t i = 0; spec->command && spec->command[i]; i++)
        hash = hash_bytes(hash, spec->command[i], strlen(spec->command[i]) + 1);
    return hash;
}

void job_class_name(uint64_t class_hash, char ret[JOBS_CLASS_NAME_MAX])
{
    snprintf(ret, JOBS_CLASS_NAME_MAX, "%016" PRIx64, class_hash);
}

/* What makes no sense for one that a queue starts and ends. */
static int check_instance(const struct spec *spec, struct err *err)
{
    if (!spec->image || spec->hardware)
        return err_set(err, -EINVAL, "spec: a job runs an image; a machine of parts has none");
    if (spec->restart != SPEC_RESTART_NO)
        return err_set(err, -EINVAL,
                       "spec.restart: a job ends once; say \"restartable\" for one that may be "
                       "begun again after its host was lost");
    if (spec->auto_remove)
        return err_set(err, -EINVAL, "spec.auto_remove: what a job wrote is kept; leave it out");
    if (spec->tty || spec->stdin_open)
        return err_set(err, -EINVAL,
                       "spec.tty, spec.stdin: a job has no terminal and no input; leave them out");
    return 0;
}

static int read_spec(const struct json_at *root, struct job_request *request, struct err *err)
{
    struct json_at at;
    struct spec spec;
    int r = json_at_member(root, "spec", &at, err);

    if (r < 0)
        return r;
    if (!json_is_object(at.value))
        return err_set(err, -EINVAL, "spec: the instance to run is needed, as an object");
    if ((r = spec_parse(at.value, &spec, err)) < 0)
        return err_wrap(err, "spec");
    if ((r = check_instance(&spec, err)) == 0) {
        request->vm = spec.vm;
        request->need[0] = spec.cpu_millis ? spec.cpu_millis : JOBS_CPU_MILLIS;
        request->need[1] = spec.memory_bytes ? spec.memory_bytes : JOBS_MEMORY_BYTES;
        request->class_hash = class_of(&spec);
        request->image = strdup(spec.image);
        request->command = command_line(&spec);
        request->spec = json_text(at.value, JSON_COMPACT);
        if (!request->image || !request->command || !request->spec)
            r = err_set(err, -ENOMEM, "out of memory");
    }
    spec_done(&spec);
    return r;
}

static int read_words(const struct json_at *at, struct job_request *request, struct err *err)
{
    const char *queue = "default", *name = NULL;
    int r;

    if ((r = json_opt_string(at, "queue", &queue, err)) < 0 ||
        (r = json_opt_string(at, "name", &name, err)) < 0)
        return r;
    if ((r = spec_check_name(queue, err)) < 0)
        return err_wrap(err, "queue");
    if (name && (r = spec_check_name(name, err)) < 0)
        return err_wrap(err, "name");
    request->queue = strdup(queue);
    request->name = name ? strdup(name) : NULL;
    if (!request->queue || (name && !request->name))
        return err_set(err, -ENOMEM, "out of memory");
    return json_opt_bool(at, "restartable", &request->restartable, err);
}

static int read_figures(const struct json_at *at, uint64_t *estimate_ns, int32_t *priority,
                        uint32_t *tickets, struct err *err)
{
    int64_t whole_priority = *priority, whole_tickets = *tickets;
    int r;

    if ((r = get_seconds(at, "estimate_s", 1e-6, estimate_ns, err)) < 0 ||
        (r = get_whole(at, "priority", -QUEUE_PRIORITY_MAX, QUEUE_PRIORITY_MAX, &whole_priority,
                       err)) < 0 ||
        (r = get_whole(at, "tickets", 1, QUEUE_TICKETS_MAX, &whole_tickets, err)) < 0)
        return r;
    *priority = (int32_t)whole_priority;
    *tickets = (uint32_t)whole_tickets;
    return 0;
}

int job_request_parse(json_t *document, struct job_request *ret, struct err *err)
{
    static const char *const known[] = {"queue",       "name",  "estimate_s", "priority", "tickets",
                                        "restartable", "count", "spec",       NULL};
    struct job_request request = {.tickets = 100};
    int64_t count = 1;
    struct json_at at;
    int r;

    json_at_root(document, &at);
    if (!json_is_object(document))
        r = err_set(err, -EINVAL, "a job is not an object");
    else if ((r = json_reject_unknown(&at, known, err)) == 0 &&
             (r = read_words(&at, &request, err)) == 0 &&
             (r = read_figures(&at, &request.estimate_ns, &request.priority, &request.tickets,
                               err)) == 0 &&
             (r = get_whole(&at, "count", 1, JOBS_BATCH_MAX, &count, err)) == 0)
        r = read_spec(&at, &request, err);
    if (r < 0) {
        job_request_done(&request);
        return r;
    }
    request.count = (uint64_t)count;
    *ret = request;
    return 0;
}

void job_request_done(struct job_request *request)
{
    free(request->queue);
    free(request->name);
    free(request->spec);
    free(request->image);
    free(request->command);
    *request = (struct job_request){0};
}

int job_change_parse(json_t *document, struct queue_spec *spec, struct err *err)
{
    static const char *const known[] = {"estimate_s", "priority", "tickets", NULL};
    struct queue_spec changed = *spec;
    struct json_at at;
    int r;

    json_at_root(document, &at);
    if ((r = json_reject_unknown(&at, known, err)) < 0 ||
        (r = read_figures(&at, &changed.estimate_ns, &changed.priority, &changed.tickets, err)) < 0)
        return r;
    *spec = changed;
    return 0;
}

void job_queue_spec_init(struct job_queue_spec *spec, uint32_t nr_cpus)
{
    *spec = (struct job_queue_spec){.keep = JOBS_KEEP_USUAL};
    spec->config.servers = nr_cpus ? nr_cpus : 1;
    spec->config.quantum_ns = NS_PER_S;
    spec->config.seed = 1;
}

static int read_policy(const struct json_at *at, struct queue_config *config, struct err *err)
{
    const char *name = NULL;
    bool backfill = config->backfill == QUEUE_BACKFILL_EASY;
    int r, policy;

    if ((r = json_opt_string(at, "policy", &name, err)) < 0 ||
        (r = json_opt_bool(at, "preemptive", &config->preemptive, err)) < 0 ||
        (r = json_opt_bool(at, "backfill", &backfill, err)) < 0 ||
        (r = get_seconds(at, "quantum_s", 1e-3, &config->quantum_ns, err)) < 0 ||
        (r = get_seconds(at, "ageing_s", 0, &config->ageing_ns, err)) < 0)
        return r;
    config->backfill = backfill ? QUEUE_BACKFILL_EASY : QUEUE_BACKFILL_NONE;
    if (!name)
        return 0;
    if ((policy = queue_policy_parse(name)) < 0)
        return err_set(err, -EINVAL,
                       "policy: '%.40s' is none of fcfs, sjf, srtf, rr, priority, stride, lottery",
                       name);
    config->policy = (enum queue_policy)policy;
    return 0;
}

static int read_capacity(const struct json_at *at, struct queue_config *config, struct err *err)
{
    double cpus = (double)config->capacity[0] / 1000;
    int64_t slots = config->servers, memory = (int64_t)config->capacity[1];
    int r;

    if ((r = get_whole(at, "slots", 0, QUEUE_SERVERS_MAX, &slots, err)) < 0 ||
        (r = get_number(at, "cpus", 0, 1e6, &cpus, err)) < 0 ||
        (r = get_whole(at, "memory_bytes", 0, INT64_C(1) << 60, &memory, err)) < 0)
        return r;
    config->servers = (uint32_t)slots;
    config->capacity[0] = (uint64_t)llround(cpus * 1000);
    config->capacity[1] = (uint64_t)memory;
    if (!config->servers && !config->capacity[0] && !config->capacity[1])
        return err_set(err, -EINVAL,
                       "slots 0 needs cpus or memory_bytes to limit what runs at once");
    return 0;
}

int job_queue_spec_change(json_t *document, struct job_queue_spec *spec, struct err *err)
{
    static const char *const known[] = {"name",     "policy", "quantum_s", "preemptive",
                                        "ageing_s", "slots",  "cpus",      "memory_bytes",
                                        "backfill", "hold",   "keep",      NULL};
    struct job_queue_spec changed = *spec;
    int64_t keep = (int64_t)spec->keep;
    CLEANUP(queue_freep) struct queue *probe = NULL;
    struct json_at at;
    int r;

    json_at_root(document, &at);
    if ((r = json_reject_unknown(&at, known, err)) < 0 ||
        (r = read_policy(&at, &changed.config, err)) < 0 ||
        (r = read_capacity(&at, &changed.config, err)) < 0 ||
        (r = json_opt_bool(&at, "hold", &changed.hold, err)) < 0 ||
        (r = get_whole(&at, "keep", 0, JOBS_KEEP_MAX, &keep, err)) < 0)
        return r;
    /* The policy itself says what does not go together. */
    if ((r = queue_new(&changed.config, &probe, err)) < 0)
        return r;
    changed.keep = (uint64_t)keep;
    *spec = changed;
    return 0;
}

json_t *job_queue_spec_json(const struct job_queue_spec *spec)
{
    const struct queue_config *config = &spec->config;

    return json_pack(
        "{s:s, s:f, s:b, s:f, s:I, s:f, s:I, s:b, s:b, s:I}", "policy",
        queue_policy_name(config->policy), "quantum_s", (double)config->quantum_ns / 1e9,
        "preemptive", (int)config->preemptive, "ageing_s", (double)config->ageing_ns / 1e9, "slots",
        (json_int_t)config->servers, "cpus", (double)config->capacity[0] / 1000, "memory_bytes",
        (json_int_t)config->capacity[1], "backfill", config->backfill == QUEUE_BACKFILL_EASY,
        "hold", (int)spec->hold, "keep", (json_int_t)spec->keep);
}
