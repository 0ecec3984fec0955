/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Classes are in a hash table (open chains by index) and in a list from the one that learnt least
 * recently to the one that learnt last; both are arrays of places, made once.
 */
#include "policy/estimate.h"

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/util.h"

#include <math.h>

#define NO_PLACE UINT32_MAX
#define RUN_MAX  1e18

struct place {
    struct estimate_class state;
    uint32_t chain;        /* next in its bucket */
    uint32_t older, newer; /* by when it learnt */
};

struct estimator {
    struct estimate_config config;
    struct place *places;
    uint32_t *buckets;
    uint32_t nr_buckets, nr_places, oldest, newest;
    struct estimate_class all;
};

int estimator_new(const struct estimate_config *config, struct estimator **ret, struct err *err)
{
    CLEANUP(estimator_freep) struct estimator *e = NULL;

    if (!(config->a >= 0) || config->a > 1 || !(config->b >= 0) || config->b > 1)
        return err_set(err, -EINVAL, "estimates: a %g and b %g are not within 0 ... 1", config->a,
                       config->b);
    if (config->classes_max > (1 << 24))
        return err_set(err, -EINVAL, "estimates: at most %d classes", 1 << 24);
    e = calloc(1, sizeof(*e));
    if (!e)
        return err_set(err, -ENOMEM, "estimates: out of memory");
    e->config = (struct estimate_config){.a = config->a > 0 ? config->a : 0.5,
                                         .b = config->b > 0 ? config->b : 0.25,
                                         .classes_max = config->classes_max ? config->classes_max
                                                                            : 4096};
    for (e->nr_buckets = 16; e->nr_buckets < e->config.classes_max; e->nr_buckets *= 2)
        ;
    e->places = calloc(e->config.classes_max, sizeof(*e->places));
    e->buckets = calloc(e->nr_buckets, sizeof(*e->buckets));
    if (!e->places || !e->buckets)
        return err_set(err, -ENOMEM, "estimates: out of memory");
    for (uint32_t i = 0; i < e->nr_buckets; i++)
        e->buckets[i] = NO_PLACE;
    e->oldest = e->newest = NO_PLACE;
    *ret = TAKE_PTR(e);
    return 0;
}

void estimator_free(struct estimator *e)
{
    if (!e)
        return;
    free(e->places);
    free(e->buckets);
    free(e);
}

static uint64_t name_hash(const char *name)
{
    return hash_bytes(HASH_START, name, strlen(name));
}

static uint32_t *bucket_of(const struct estimator *e, uint64_t hash)
{
    return &e->buckets[(hash ^ hash >> 32) & (e->nr_buckets - 1)];
}

static uint32_t find(const struct estimator *e, uint64_t hash)
{
    uint32_t place = *bucket_of(e, hash);

    while (place != NO_PLACE && e->places[place].state.name_hash != hash)
        place = e->places[place].chain;
    return place;
}

static void unlink_age(struct estimator *e, uint32_t place)
{
    struct place *p = &e->places[place];

    if (p->older == NO_PLACE)
        e->oldest = p->newer;
    else
        e->places[p->older].newer = p->newer;
    if (p->newer == NO_PLACE)
        e->newest = p->older;
    else
        e->places[p->newer].older = p->older;
}

static void link_newest(struct estimator *e, uint32_t place)
{
    e->places[place].older = e->newest;
    e->places[place].newer = NO_PLACE;
    if (e->newest == NO_PLACE)
        e->oldest = place;
    else
        e->places[e->newest].newer = place;
    e->newest = place;
}

/* The class's place, as the one that learnt last; a new one is empty. */
static struct estimate_class *take(struct estimator *e, uint64_t hash)
{
    uint32_t place = find(e, hash), *link;

    if (place != NO_PLACE) {
        unlink_age(e, place);
        link_newest(e, place);
        return &e->places[place].state;
    }
    if (e->nr_places < e->config.classes_max) {
        place = e->nr_places++;
    } else {
        place = e->oldest;
        unlink_age(e, place);
        for (link = bucket_of(e, e->places[place].state.name_hash); *link != place;)
            link = &e->places[*link].chain;
        *link = e->places[place].chain;
    }
    link = bucket_of(e, hash);
    e->places[place].state = (struct estimate_class){.name_hash = hash};
    e->places[place].chain = *link;
    *link = place;
    link_newest(e, place);
    return &e->places[place].state;
}

static void learn(const struct estimator *e, struct estimate_class *state, double run)
{
    if (!state->runs++) {
        state->mean_ns = run;
        state->deviation_ns = run / 2;
        return;
    }
    state->deviation_ns += e->config.b * (fabs(run - state->mean_ns) - state->deviation_ns);
    state->mean_ns += e->config.a * (run - state->mean_ns);
}

void estimator_learn(struct estimator *e, const char *class_name, uint64_t run_ns)
{
    double run = fmin((double)run_ns, RUN_MAX);

    learn(e, take(e, name_hash(class_name)), run);
    learn(e, &e->all, run);
}

void estimator_ask(const struct estimator *e, const char *class_name, struct estimate *ret)
{
    uint32_t place = find(e, name_hash(class_name));
    const struct estimate_class *state = place != NO_PLACE ? &e->places[place].state : &e->all;

    *ret = (struct estimate){
        .mean_ns = (uint64_t)llround(state->mean_ns),
        .deviation_ns = (uint64_t)llround(state->deviation_ns),
        .safe_ns = (uint64_t)llround(state->mean_ns + 2 * state->deviation_ns),
        .runs = state->runs,
        .of_class = place != NO_PLACE,
    };
}

size_t estimator_list(const struct estimator *e, struct estimate_class *ret, size_t max)
{
    size_t count = 0;

    for (uint32_t place = e->oldest; place != NO_PLACE; place = e->places[place].newer) {
        if (count < max)
            ret[count] = e->places[place].state;
        count++;
    }
    return count;
}

int estimator_restore(struct estimator *e, const struct estimate_class *state)
{
    if (!(state->mean_ns >= 0) || !(state->deviation_ns >= 0) || state->mean_ns > RUN_MAX ||
        state->deviation_ns > RUN_MAX || !state->runs)
        return -EINVAL;
    *take(e, state->name_hash) = *state;
    learn(e, &e->all, state->mean_ns);
    return 0;
}
