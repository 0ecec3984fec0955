/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   EVENT_ARRIVAL (class) ─▶ enter ─▶ visit station 0 ... visit the last ─▶ answer
 *   EVENT_SERVED (customer): at a station in order, or a delay, it is done
 *   EVENT_SHARED (station): the one with the least left at a shared station is done
 *   EVENT_THOUGHT (customer): a closed customer asks again
 *
 * A shared station keeps one clock of service given to each that is inside (v); a request that
 * enters at v with demand d leaves when the clock shows v + d: one event a station, whatever the
 * number inside.
 */
#include "model/requests.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "model/check.h"
#include "model/event.h"

#include <stdlib.h>
#include <string.h>

enum { EVENT_ARRIVAL, EVENT_SERVED, EVENT_SHARED, EVENT_THOUGHT };

#define NOBODY UINT32_MAX

struct customer {
    uint64_t asked_ns;
    double demand; /* at the station where it waits */
    uint32_t next; /* in a station's line, or of the free ones */
    uint16_t station, class;
};

struct place { /* in a shared station's heap, least `leaves` first */
    double leaves;
    uint32_t customer;
};

struct station {
    uint32_t busy, inside, first, last; /* the line */
    uint64_t changed_ns;
    double busy_ns, inside_ns; /* integrals */
    struct place *heap;
    uint32_t capacity;
    double v;
    event_t next;
};

struct simulation {
    const struct requests *config;
    struct requests_result *result;
    struct event_queue events;
    struct station stations[REQUESTS_STATIONS_MAX];
    struct random *streams; /* class * (stations + 1) + station; the last: between or think */
    struct customer *customers;
    uint32_t nr_customers, capacity, free_customer, inside[REQUESTS_CLASSES_MAX];
    uint64_t answers, counted_from_ns, inside_changed_ns[REQUESTS_CLASSES_MAX];
    double inside_ns[REQUESTS_CLASSES_MAX];
    bool counting;
    int failure;
};

static uint64_t to_ns(double seconds)
{
    return (uint64_t)(fmin(seconds, 1e9) * 1e9 + .5);
}

static struct random *stream(struct simulation *s, size_t class, size_t station)
{
    return &s->streams[class * (s->config->nr_stations + 1) + station];
}

static uint32_t customer_new(struct simulation *s)
{
    uint32_t number = s->free_customer;

    if (number != NOBODY) {
        s->free_customer = s->customers[number].next;
        return number;
    }
    if (s->nr_customers == s->capacity) {
        uint32_t capacity = s->capacity ? 2 * s->capacity : 64;
        struct customer *customers;

        if (capacity > REQUESTS_INSIDE_MAX) {
            s->failure = -ERANGE;
            return NOBODY;
        }
        if (!(customers = reallocarray(s->customers, capacity, sizeof(*customers)))) {
            s->failure = -ENOMEM;
            return NOBODY;
        }
        s->customers = customers;
        s->capacity = capacity;
    }
    return s->nr_customers++;
}

static void account(struct simulation *s, struct station *station)
{
    double passed = (double)(s->events.now - station->changed_ns);

    station->busy_ns += passed * station->busy;
    station->inside_ns += passed * station->inside;
    station->changed_ns = s->events.now;
}

static void count_inside(struct simulation *s, unsigned class, int change)
{
    s->inside_ns[class] += (double)s->inside[class] *
                           (double)(s->events.now - s->inside_changed_ns[class]);
    s->inside_changed_ns[class] = s->events.now;
    s->inside[class] += (uint32_t)change;
}

/* ---- shared stations ---- */

static void shared_clock(const struct simulation *s, struct station *station, uint32_t servers)
{
    if (station->inside > 0)
        station->v += (double)(s->events.now - station->changed_ns) *
                      fmin(1, (double)servers / station->inside);
}

static void shared_plan(struct simulation *s, struct station *station, uint32_t servers)
{
    double left;

    event_cancel(&s->events, station->next);
    station->next = EVENT_NONE;
    if (station->inside == 0) {
        station->v = 0; /* keeps its digits */
        return;
    }
    left = fmax(station->heap[0].leaves - station->v, 0) *
           fmax(1, (double)station->inside / servers);
    station->next = event_add(&s->events, s->events.now + (uint64_t)(left + .5), EVENT_SHARED,
                              (uint32_t)(station - s->stations));
}

static bool shared_push(struct simulation *s, struct station *station, struct place place)
{
    uint32_t at = station->inside;

    if (at == station->capacity) {
        uint32_t capacity = station->capacity ? 2 * station->capacity : 64;
        struct place *heap = reallocarray(station->heap, capacity, sizeof(*heap));

        if (!heap) {
            s->failure = -ENOMEM;
            return false;
        }
        station->heap = heap;
        station->capacity = capacity;
    }
    for (; at > 0 && station->heap[(at - 1) / 2].leaves > place.leaves; at = (at - 1) / 2)
        station->heap[at] = station->heap[(at - 1) / 2];
    station->heap[at] = place;
    return true;
}

/* inside still counts the one that goes. */
static uint32_t shared_pop(struct station *station)
{
    uint32_t customer = station->heap[0].customer, nr = station->inside - 1, at = 0;
    struct place last = station->heap[nr];

    for (;;) {
        uint32_t child = 2 * at + 1;

        if (child + 1 < nr && station->heap[child + 1].leaves < station->heap[child].leaves)
            child++;
        if (child >= nr || station->heap[child].leaves >= last.leaves)
            break;
        station->heap[at] = station->heap[child];
        at = child;
    }
    station->heap[at] = last;
    return customer;
}

/* ---- the way of a request ---- */

static void answer(struct simulation *s, uint32_t number)
{
    struct customer *customer = &s->customers[number];
    unsigned class = customer->class;
    struct requests_class_result *result = &s->result->classes[class];

    s->answers++;
    count_inside(s, class, -1);
    if (s->counting) {
        uint64_t response = s->events.now - customer->asked_ns;

        result->answers++;
        tally_add(&result->response, (double)response * 1e-9);
        series_add(&result->course, (double)response * 1e-9);
        histogram_add(&result->response_ns, response);
    }
    if (s->config->classes[class].open) {
        customer->next = s->free_customer;
        s->free_customer = number;
        return;
    }
    event_add(&s->events,
              s->events.now + to_ns(distribution_draw(&s->config->classes[class].think,
                                                      stream(s, class, s->config->nr_stations))),
              EVENT_THOUGHT, number);
}

static void serve(struct simulation *s, uint32_t number)
{
    event_add(&s->events, s->events.now + to_ns(s->customers[number].demand), EVENT_SERVED, number);
}

/* The next station with a demand, from `from` on. */
static void visit(struct simulation *s, uint32_t number, size_t from)
{
    const struct requests *config = s->config;
    struct customer *customer = &s->customers[number];
    const struct distribution *demand = config->classes[customer->class].demand;
    struct station *station;
    uint32_t servers;

    while (from < config->nr_stations && demand[from].mean <= 0)
        from++;
    if (from == config->nr_stations) {
        answer(s, number);
        return;
    }
    station = &s->stations[from];
    servers = config->stations[from].servers;
    customer->station = (uint16_t)from;
    customer->demand = distribution_draw(&demand[from], stream(s, customer->class, from));
    if (config->stations[from].order == REQUESTS_SHARED) {
        shared_clock(s, station, servers);
        account(s, station);
        if (!shared_push(s, station, (struct place){station->v + customer->demand * 1e9, number}))
            return;
        station->inside++;
        station->busy = MIN(station->inside, servers);
        shared_plan(s, station, servers);
        return;
    }
    account(s, station);
    station->inside++;
    if (config->stations[from].order == REQUESTS_DELAY || station->busy < servers) {
        station->busy++;
        serve(s, number);
        return;
    }
    customer->next = NOBODY;
    if (station->first == NOBODY)
        station->first = number;
    else
        s->customers[station->last].next = number;
    station->last = number;
}

static void served(struct simulation *s, uint32_t number)
{
    size_t at = s->customers[number].station;
    struct station *station = &s->stations[at];

    account(s, station);
    station->inside--;
    if (station->first == NOBODY) {
        station->busy--;
    } else {
        uint32_t next = station->first;

        station->first = s->customers[next].next;
        serve(s, next);
    }
    visit(s, number, at + 1);
}

static void shared_served(struct simulation *s, size_t at)
{
    struct station *station = &s->stations[at];
    uint32_t servers = s->config->stations[at].servers, number;

    station->next = EVENT_NONE;
    shared_clock(s, station, servers);
    account(s, station);
    number = shared_pop(station);
    station->inside--;
    station->busy = MIN(station->inside, servers);
    shared_plan(s, station, servers);
    visit(s, number, at + 1);
}

static void enter(struct simulation *s, uint32_t number)
{
    s->customers[number].asked_ns = s->events.now;
    count_inside(s, s->customers[number].class, 1);
    visit(s, number, 0);
}

static void plan_arrival(struct simulation *s, uint32_t class)
{
    const struct requests_class *c = &s->config->classes[class];
    double between = distribution_draw(&c->between, stream(s, class, s->config->nr_stations));

    event_add(&s->events, s->events.now + to_ns(between), EVENT_ARRIVAL, class);
}

static void arrival(struct simulation *s, uint32_t class)
{
    uint32_t number = customer_new(s);

    plan_arrival(s, class);
    if (number == NOBODY)
        return;
    s->customers[number].class = (uint16_t) class;
    enter(s, number);
}

/* From here on it counts. */
static void count_from_now(struct simulation *s)
{
    s->counting = true;
    s->counted_from_ns = s->events.now;
    for (size_t i = 0; i < s->config->nr_stations; i++) {
        account(s, &s->stations[i]);
        s->stations[i].busy_ns = s->stations[i].inside_ns = 0;
    }
    for (unsigned k = 0; k < s->config->nr_classes; k++) {
        count_inside(s, k, 0);
        s->inside_ns[k] = 0;
    }
}

static int run(struct simulation *s, struct err *err)
{
    uint64_t warm_up = (uint64_t)(s->config->warm_up * (double)s->config->answers);
    struct event event;

    while (s->answers < s->config->answers && s->failure == 0 && event_next(&s->events, &event)) {
        switch (event.kind) {
        case EVENT_ARRIVAL:
            arrival(s, event.subject);
            break;
        case EVENT_SERVED:
            served(s, event.subject);
            break;
        case EVENT_SHARED:
            shared_served(s, event.subject);
            break;
        default:
            enter(s, event.subject);
        }
        if (!s->counting && s->answers >= warm_up)
            count_from_now(s);
    }
    if (s->failure == -ERANGE)
        return err_set(err, -ERANGE,
                       "unstable: more than %u requests wait; arrivals must stay below what the "
                       "stations can serve",
                       REQUESTS_INSIDE_MAX / 2);
    if (s->failure < 0 || s->events.failed)
        return err_set(err, -ENOMEM, "simulation");
    return 0;
}

static int check(const struct requests *requests, struct err *err)
{
    int r = check_count("stations", requests->nr_stations, 1, REQUESTS_STATIONS_MAX, err);

    if (r == 0)
        r = check_count("classes", requests->nr_classes, 1, REQUESTS_CLASSES_MAX, err);
    if (r == 0)
        r = check_count("answers", requests->answers, 1, UINT64_C(1) << 50, err);
    if (r == 0 && !(requests->warm_up >= 0 && requests->warm_up < 1))
        r = err_set(err, -ERANGE, "range: warm_up is %g, must be in 0 to 1", requests->warm_up);
    for (size_t i = 0; r == 0 && i < requests->nr_stations; i++)
        if (requests->stations[i].order != REQUESTS_DELAY)
            r = check_count("servers", requests->stations[i].servers, 1, 1000000, err);
    for (size_t k = 0; r == 0 && k < requests->nr_classes; k++) {
        const struct requests_class *class = &requests->classes[k];
        double sum = class->open ? class->between.mean : class->think.mean;

        for (size_t i = 0; !class->open && i < requests->nr_stations; i++)
            sum += class->demand[i].mean;
        if (sum < 1e-8)
            r = err_set(err, -ERANGE, "range: class %zu goes round in less than 10 ns", k + 1);
        if (!class->open)
            r = check_count("customers", class->customers, 0, REQUESTS_INSIDE_MAX / 4, err);
    }
    return r;
}

static int start(struct simulation *s, struct err *err)
{
    const struct requests *config = s->config;
    size_t nr_streams = config->nr_classes * (config->nr_stations + 1);

    event_queue_init(&s->events);
    s->free_customer = NOBODY;
    for (size_t i = 0; i < config->nr_stations; i++) {
        s->stations[i].first = s->stations[i].last = NOBODY;
        s->stations[i].next = EVENT_NONE;
    }
    if (!(s->streams = calloc(nr_streams, sizeof(*s->streams))))
        return err_set(err, -ENOMEM, "simulation");
    for (size_t i = 0; i < nr_streams; i++)
        random_init(&s->streams[i], config->seed, i);
    for (unsigned k = 0; k < config->nr_classes; k++) {
        memset(&s->result->classes[k], 0, sizeof(s->result->classes[k]));
        series_init(&s->result->classes[k].course);
        if (config->classes[k].open)
            plan_arrival(s, k);
        for (uint32_t i = 0; !config->classes[k].open && i < config->classes[k].customers; i++) {
            uint32_t number = customer_new(s);
            double think;

            if (number == NOBODY)
                return err_set(err, -ENOMEM, "simulation");
            s->customers[number].class = (uint16_t)k;
            think = distribution_draw(&config->classes[k].think, stream(s, k, config->nr_stations));
            event_add(&s->events, to_ns(think), EVENT_THOUGHT, number);
        }
    }
    return 0;
}

static void finish(struct simulation *s)
{
    const struct requests *config = s->config;
    double time = (double)(s->events.now - s->counted_from_ns);

    s->result->time = time * 1e-9;
    s->result->events = s->events.happened;
    time = fmax(time, 1);
    for (size_t i = 0; i < config->nr_stations; i++) {
        uint32_t servers = config->stations[i].order == REQUESTS_DELAY
                               ? 1
                               : config->stations[i].servers;

        account(s, &s->stations[i]);
        s->result->utilisation[i] = s->stations[i].busy_ns / time / servers;
        s->result->inside[i] = s->stations[i].inside_ns / time;
    }
    for (unsigned k = 0; k < config->nr_classes; k++) {
        count_inside(s, k, 0);
        s->result->classes[k].throughput = (double)s->result->classes[k].answers / time * 1e9;
        s->result->classes[k].mean_inside = s->inside_ns[k] / time;
    }
}

int requests_simulate(const struct requests *requests, struct requests_result *ret, struct err *err)
{
    struct simulation *s;
    int r = check(requests, err);

    if (r < 0)
        return r;
    if (!(s = calloc(1, sizeof(*s))))
        return err_set(err, -ENOMEM, "simulation");
    s->config = requests;
    s->result = ret;
    if ((r = start(s, err)) == 0 && (r = run(s, err)) == 0)
        finish(s);
    for (size_t i = 0; i < REQUESTS_STATIONS_MAX; i++)
        free(s->stations[i].heap);
    event_queue_done(&s->events);
    free(s->streams);
    free(s->customers);
    free(s);
    return r;
}
