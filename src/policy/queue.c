/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs come and go: the table of jobs, submission, end, withdrawal, change, and what is told about
 * them. The order is in queue_order.c, the decisions in queue_decide.c.
 */
#include "policy/queue_internal.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <string.h>

static const char *const policy_names[] = {"fcfs",     "sjf",    "srtf",   "rr",
                                           "priority", "stride", "lottery"};
static const char *const resource_names[] = {"processors (thousandths)", "memory (bytes)"};

const char *queue_policy_name(enum queue_policy policy)
{
    return (unsigned)policy < ARRAY_LEN(policy_names) ? policy_names[policy] : "?";
}

int queue_policy_parse(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(policy_names); i++)
        if (!strcmp(name, policy_names[i]))
            return (int)i;
    return -EINVAL;
}

const char *queue_reason_text(enum queue_reason reason)
{
    switch (reason) {
    case QUEUE_FIRST:
        return "it is the first in the queue's order";
    case QUEUE_BACKFILLED:
        return "the first in order does not fit yet, and this one does not delay it";
    case QUEUE_QUANTUM_OVER:
        return "its quantum is over and others wait";
    case QUEUE_SHORTER:
        return "a job with less left to do waits";
    case QUEUE_URGENT:
        return "a job of a better priority waits";
    }
    return "?";
}

static int check_config(const struct queue_config *config, struct err *err)
{
    bool quantum = config->policy == QUEUE_RR || config->policy == QUEUE_STRIDE ||
                   config->policy == QUEUE_LOTTERY;

    if ((unsigned)config->policy >= QUEUE_POLICIES)
        return err_set(err, -EINVAL, "queue: no policy has the number %u", config->policy);
    if (quantum && (!config->quantum_ns || config->quantum_ns > QUEUE_TIME_MAX))
        return err_set(err, -EINVAL, "queue: policy %s needs a quantum above 0",
                       queue_policy_name(config->policy));
    if (config->ageing_ns > QUEUE_AGEING_MAX)
        return err_set(err, -EINVAL, "queue: ageing is at most %llu ns a level",
                       (unsigned long long)QUEUE_AGEING_MAX);
    if (config->servers > QUEUE_SERVERS_MAX)
        return err_set(err, -EINVAL, "queue: at most %u servers", QUEUE_SERVERS_MAX);
    if (config->jobs_max > QUEUE_JOBS_MAX)
        return err_set(err, -EINVAL, "queue: at most %u jobs", QUEUE_JOBS_MAX);
    if (!config->servers && !config->capacity[0] && !config->capacity[1])
        return err_set(err, -EINVAL, "queue: neither servers nor a capacity is given");
    if (config->backfill != QUEUE_BACKFILL_NONE && quantum)
        return err_set(err, -EINVAL, "queue: policy %s takes turns and has no backfill",
                       queue_policy_name(config->policy));
    return 0;
}

int queue_new(const struct queue_config *config, struct queue **ret, struct err *err)
{
    struct queue *q;
    int r = check_config(config, err);

    if (r < 0)
        return r;
    q = calloc(1, sizeof(*q));
    if (!q)
        return err_set(err, -ENOMEM, "queue: out of memory");
    q->config = *config;
    if (!q->config.backfill_depth)
        q->config.backfill_depth = 64;
    if (!q->config.jobs_max)
        q->config.jobs_max = QUEUE_JOBS_MAX;
    q->servers_max = config->servers ? config->servers : QUEUE_JOBS_MAX;
    q->free_place = q->expired_first = q->expired_last = q->drawn = QUEUE_NO_PLACE;
    q->random = config->seed;
    *ret = q;
    return 0;
}

void queue_free(struct queue *q)
{
    if (!q)
        return;
    free(q->jobs);
    free(q->waiting.nodes);
    free(q->running.nodes);
    free(q->running_places);
    free(q->free_servers);
    free(q->ticket_tree);
    free(q->scratch);
    free(q);
}

static bool grow_array(void *array_pointer, size_t size, uint32_t count)
{
    void **array = array_pointer;
    void *grown = realloc(*array, size * count);

    if (grown)
        *array = grown;
    return grown;
}

/* The tree's shape depends on its length: it is made again from the tickets of who waits. */
static void rebuild_tickets(struct queue *q)
{
    memset(q->ticket_tree, 0, (q->nr_places + (size_t)1) * sizeof(q->ticket_tree[0]));
    q->waiting_tickets = 0;
    for (uint32_t place = 0; place < q->places_used; place++)
        if (q->jobs[place].state == PLACE_WAITING)
            queue_ticket_add(q, place, q->jobs[place].spec.tickets);
}

/* Everything has room for one entry per place, so nothing is allocated later. */
static int grow(struct queue *q)
{
    uint32_t count = q->nr_places ? q->nr_places * 2 : 64;

    count = MIN(count, q->config.jobs_max);
    if (count <= q->nr_places)
        return -ENOSPC;
    if (!grow_array(&q->jobs, sizeof(q->jobs[0]), count) ||
        !grow_array(&q->waiting.nodes, sizeof(struct queue_node), count) ||
        !grow_array(&q->running.nodes, sizeof(struct queue_node), count) ||
        !grow_array(&q->scratch, sizeof(struct queue_node), count) ||
        !grow_array(&q->running_places, sizeof(uint32_t), count) ||
        !grow_array(&q->free_servers, sizeof(uint32_t), count) ||
        (q->config.policy == QUEUE_LOTTERY &&
         !grow_array(&q->ticket_tree, sizeof(uint64_t), count + 1)))
        return -ENOMEM;
    q->nr_places = count;
    if (q->config.policy == QUEUE_LOTTERY)
        rebuild_tickets(q);
    return 0;
}

static int check_spec(const struct queue *q, const struct queue_spec *spec, struct err *err)
{
    if (spec->priority < -QUEUE_PRIORITY_MAX || spec->priority > QUEUE_PRIORITY_MAX)
        return err_set(err, -EINVAL, "job: priority %d is not within -%d ... %d", spec->priority,
                       QUEUE_PRIORITY_MAX, QUEUE_PRIORITY_MAX);
    if (spec->tickets > QUEUE_TICKETS_MAX)
        return err_set(err, -EINVAL, "job: %u tickets: at most %d", spec->tickets,
                       QUEUE_TICKETS_MAX);
    if (spec->estimate_ns > QUEUE_TIME_MAX || spec->ran_ns > QUEUE_TIME_MAX ||
        spec->waited_ns > QUEUE_TIME_MAX)
        return err_set(err, -EINVAL, "job: a time is above %llu ns",
                       (unsigned long long)QUEUE_TIME_MAX);
    for (unsigned r = 0; r < QUEUE_RESOURCES; r++)
        if (spec->need[r] > (UINT64_C(1) << 60) ||
            (q->config.capacity[r] && spec->need[r] > q->config.capacity[r]))
            return err_set(err, -E2BIG, "job: needs %llu of %s, all there is are %llu",
                           (unsigned long long)spec->need[r], resource_names[r],
                           (unsigned long long)q->config.capacity[r]);
    return 0;
}

/* Time passes: a newcomer's pass moves on as those of all present do on average. */
uint64_t queue_advance(struct queue *q, uint64_t now)
{
    uint64_t elapsed;

    now = MIN(now, QUEUE_TIME_MAX);
    if (now <= q->now)
        return q->now;
    elapsed = now - q->now;
    q->now = now;
    if (q->config.policy == QUEUE_STRIDE && q->tickets && q->nr_running)
        q->global_pass += (uint64_t)((unsigned __int128)QUEUE_STRIDE_UNIT * elapsed *
                                     q->nr_running / q->config.quantum_ns / q->tickets);
    return now;
}

/* What it ran since it was charged last, in its pass. */
void queue_charge(struct queue *q, struct queue_job *job)
{
    if (q->config.policy != QUEUE_STRIDE)
        return;
    job->pass += (uint64_t)((unsigned __int128)QUEUE_STRIDE_UNIT * (q->now - job->charged_ns) /
                            q->config.quantum_ns / job->spec.tickets);
    job->charged_ns = q->now;
}

int64_t queue_left(const struct queue_job *job)
{
    if (!job->spec.estimate_ns)
        return QUEUE_LEFT_UNKNOWN;
    return job->spec.estimate_ns > job->spec.ran_ns
               ? (int64_t)(job->spec.estimate_ns - job->spec.ran_ns)
               : 0;
}

/* A place with the job in it, neither waiting nor running yet. */
static int place_take(struct queue *q, const struct queue_spec *spec, uint32_t *ret_place,
                      struct err *err)
{
    uint32_t place, generation = 0;
    struct queue_job *job;
    int r = check_spec(q, spec, err);

    if (r < 0)
        return r;
    if (q->free_place != QUEUE_NO_PLACE) {
        place = q->free_place;
        q->free_place = q->jobs[place].next;
        generation = q->jobs[place].generation + 1;
    } else {
        if (q->places_used == q->nr_places && (r = grow(q)) < 0)
            return err_set(err, r,
                           r == -ENOSPC ? "queue: full with %u jobs" : "queue: out of memory",
                           q->nr_places);
        place = q->places_used++;
    }
    job = &q->jobs[place];
    *job = (struct queue_job){.spec = *spec,
                              .submitted_ns = q->now,
                              .started_ns = QUEUE_NEVER,
                              .since_ns = q->now,
                              .charged_ns = q->now,
                              .pass = q->global_pass,
                              .seq = q->next_seq++,
                              .generation = generation};
    if (!spec->tickets)
        job->spec.tickets = 100;
    q->tickets += job->spec.tickets;
    q->totals.submitted++;
    *ret_place = place;
    return 0;
}

int queue_submit(struct queue *q, uint64_t now, const struct queue_spec *spec, queue_job_t *ret_job,
                 struct err *err)
{
    uint32_t place;
    int r;

    queue_advance(q, now);
    r = place_take(q, spec, &place, err);
    if (r < 0)
        return r;
    queue_waiting_add(q, place);
    *ret_job = queue_handle(q, place);
    return 0;
}

int queue_adopt(struct queue *q, uint64_t now, const struct queue_spec *spec, queue_job_t *ret_job,
                struct err *err)
{
    struct queue_job probe = {.spec = *spec};
    uint32_t place;
    int r;

    queue_advance(q, now);
    if (!queue_fits(q, &probe))
        return err_set(err, -EBUSY, "job: what it runs on is taken already");
    r = place_take(q, spec, &place, err);
    if (r < 0)
        return r;
    queue_start(q, place);
    *ret_job = queue_handle(q, place);
    return 0;
}

static struct queue_job *find(const struct queue *q, queue_job_t job, uint32_t *ret_place)
{
    uint32_t place = (uint32_t)job;

    if (place >= q->places_used || q->jobs[place].state == PLACE_FREE ||
        q->jobs[place].generation != job >> 32)
        return NULL;
    *ret_place = place;
    return &q->jobs[place];
}

static bool runs(const struct queue_job *job)
{
    return job->state == PLACE_RUNNING || job->state == PLACE_EXPIRED;
}

/* The job, already out of all orders, leaves. */
static void leave(struct queue *q, uint32_t place, struct queue_record *ret)
{
    struct queue_job *job = &q->jobs[place];

    if (ret)
        *ret = (struct queue_record){
            .cookie = job->spec.cookie,
            .submitted_ns = job->submitted_ns,
            .started_ns = job->started_ns,
            .ended_ns = q->now,
            .ran_ns = job->spec.ran_ns,
            .waited_ns = job->spec.waited_ns,
            .turnaround_ns = job->spec.ran_ns + job->spec.waited_ns,
            .pauses = job->pauses,
        };
    q->tickets -= job->spec.tickets;
    job->state = PLACE_FREE;
    job->next = q->free_place;
    q->free_place = place;
}

int queue_finish(struct queue *q, uint64_t now, queue_job_t job, struct queue_record *ret)
{
    uint32_t place;
    struct queue_job *ended = find(q, job, &place);

    if (!ended)
        return -ENOENT;
    if (!runs(ended))
        return -EINVAL;
    queue_advance(q, now);
    queue_stop(q, place);
    q->totals.finished++;
    q->totals.t_total_ns += ended->spec.ran_ns;
    q->totals.t_wait_ns += ended->spec.waited_ns;
    q->totals.turnaround_ns += ended->spec.ran_ns + ended->spec.waited_ns;
    leave(q, place, ret);
    return 0;
}

int queue_cancel(struct queue *q, uint64_t now, queue_job_t job, struct queue_record *ret)
{
    uint32_t place;
    struct queue_job *gone = find(q, job, &place);

    if (!gone)
        return -ENOENT;
    queue_advance(q, now);
    if (runs(gone)) {
        queue_stop(q, place);
    } else {
        queue_waiting_remove(q, place);
        gone->spec.waited_ns += q->now - gone->since_ns;
    }
    q->totals.cancelled++;
    leave(q, place, ret);
    return 0;
}

int queue_change(struct queue *q, uint64_t now, queue_job_t job, const struct queue_spec *spec)
{
    struct queue_spec checked = *spec;
    uint32_t place;
    struct queue_job *changed = find(q, job, &place);
    int r;

    if (!changed)
        return -ENOENT;
    memcpy(checked.need, changed->spec.need, sizeof(checked.need));
    checked.ran_ns = checked.waited_ns = 0;
    if ((r = check_spec(q, &checked, NULL)) < 0 && r != -E2BIG)
        return r;
    queue_advance(q, now);
    if (runs(changed)) {
        queue_charge(q, changed);
        if (changed->state == PLACE_RUNNING)
            queue_running_remove(q, place);
    } else if (q->config.policy != QUEUE_RR) { /* a turn is kept */
        queue_waiting_remove(q, place);
    }
    q->tickets -= changed->spec.tickets;
    changed->spec.estimate_ns = spec->estimate_ns;
    changed->spec.priority = spec->priority;
    changed->spec.tickets = spec->tickets ? spec->tickets : 100;
    q->tickets += changed->spec.tickets;
    if (changed->state == PLACE_RUNNING)
        queue_running_add(q, place);
    else if (changed->state == PLACE_WAITING && q->config.policy != QUEUE_RR)
        queue_waiting_add(q, place);
    return 0;
}

void queue_set_capacity(struct queue *q, uint64_t now, const uint64_t capacity[QUEUE_RESOURCES])
{
    queue_advance(q, now);
    memcpy(q->config.capacity, capacity, sizeof(q->config.capacity));
}

int queue_inspect(const struct queue *q, uint64_t now, queue_job_t job, struct queue_view *ret)
{
    uint32_t place;
    const struct queue_job *seen = find(q, job, &place);
    uint64_t since;

    if (!seen)
        return -ENOENT;
    since = MAX(now, q->now) - seen->since_ns;
    *ret = (struct queue_view){
        .state = runs(seen) ? QUEUE_RUNNING : QUEUE_WAITING,
        .server = seen->server,
        .ran_ns = seen->spec.ran_ns + (runs(seen) ? since : 0),
        .waited_ns = seen->spec.waited_ns + (runs(seen) ? 0 : since),
        .started_ns = seen->started_ns,
        .pauses = seen->pauses,
        .spec = seen->spec,
        .level = seen->spec.priority,
        .remaining_ns = QUEUE_NEVER,
    };
    if (seen->spec.estimate_ns)
        ret->remaining_ns = seen->spec.estimate_ns > ret->ran_ns
                                ? seen->spec.estimate_ns - ret->ran_ns
                                : 0;
    if (q->config.policy == QUEUE_PRIORITY && q->config.ageing_ns)
        ret->level -= (double)ret->waited_ns / (double)q->config.ageing_ns;
    return 0;
}

static int compare_nodes(const void *a, const void *b)
{
    return queue_node_before(a, b) ? -1 : queue_node_before(b, a);
}

int queue_order(const struct queue *q, queue_job_t *ret_jobs, size_t max, size_t *ret_count)
{
    CLEANUP(freep) struct queue_node *nodes = calloc(q->nr_waiting + (size_t)1, sizeof(*nodes));
    uint32_t count = 0;

    if (!nodes)
        return -ENOMEM;
    if (q->config.policy != QUEUE_LOTTERY && q->waiting.length) {
        memcpy(nodes, q->waiting.nodes, q->waiting.length * sizeof(*nodes));
        count = q->waiting.length;
    }
    for (uint32_t place = 0; q->config.policy == QUEUE_LOTTERY && place < q->places_used; place++)
        if (q->jobs[place].state == PLACE_WAITING)
            nodes[count++] = (struct queue_node){.key = -(int64_t)q->jobs[place].spec.tickets,
                                                 .seq = q->jobs[place].seq,
                                                 .place = place};
    qsort(nodes, count, sizeof(*nodes), compare_nodes);
    for (uint32_t i = 0; i < count && i < max; i++)
        ret_jobs[i] = queue_handle(q, nodes[i].place);
    *ret_count = count;
    return 0;
}

void queue_totals(const struct queue *q, struct queue_totals *ret)
{
    *ret = q->totals;
    ret->waiting = q->nr_waiting;
    ret->running = q->nr_running;
}
