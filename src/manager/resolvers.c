/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who answers for names on the networks of our guests: a process for each network, nobody's child,
 * which ends by itself with the last guest (network/resolver.c). It may be killed, or end because
 * something fails: then another is started.
 *
 *      resolvers_start ─▶ watched ──not there, guests──▶ started again, after a wait that doubles
 *                            │                           from 1 s to 30 s while they do not last
 *                            └──not there, no guests──▶ forgotten
 *
 * Whether there is one its lock says, so it makes no difference who started it, and when: those of
 * a manager before us are watched like our own.
 *
 * Threads: any; the table has the manager's lock. Files are looked at by a worker, one at a time.
 */
#include "manager/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"
#include "network/network.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_NS      NS_PER_S
#define BACKOFF_MOST (30 * NS_PER_S)
/* One that has lasted so long did not end because of how it began. */
#define GOOD_NS (10 * NS_PER_S)
/* A guest of whom one was told before it joined is there by then. */
#define COMING_NS (60 * NS_PER_S)

/* All monotonic; (lock). */
struct resolver_watch {
    char network[NETWORK_NAME_MAX];
    uint64_t look_ns;
    uint64_t again_ns;  /* not started again before; 0: never was */
    uint64_t coming_ns; /* not forgotten before */
    unsigned failures;  /* in a row */
    struct resolver_watch *next;
};

/* lock */
static struct resolver_watch *find(struct manager *m, const char *network)
{
    struct resolver_watch *at = m->resolvers;

    while (at && strcmp(at->network, network) != 0)
        at = at->next;
    return at;
}

static void watch(struct manager *m, const char *network, uint64_t look_ns, uint64_t coming_ns)
{
    struct resolver_watch *at;

    pthread_mutex_lock(&m->lock);
    if (!(at = find(m, network)) && (at = calloc(1, sizeof(*at)))) {
        snprintf(at->network, sizeof(at->network), "%s", network);
        at->next = m->resolvers;
        m->resolvers = at;
    }
    if (at) {
        at->look_ns = look_ns;
        at->coming_ns = MAX(at->coming_ns, coming_ns);
    }
    pthread_mutex_unlock(&m->lock);
}

int resolvers_start(struct manager *m, const char *network, bool coming, struct err *err)
{
    uint64_t now_ns = clock_monotonic_ns();
    int result = network_resolver_start(m->options.lodge, network_directory(), network, coming,
                                        err);

    if (result == 0)
        watch(m, network, now_ns + LOOK_NS, coming ? now_ns + COMING_NS : 0);
    return result;
}

void resolvers_adopt(struct manager *m)
{
    struct network_state state;

    if (network_state_open(NULL, true, &state, NULL) < 0)
        return;
    for (unsigned i = 0; i < state.nr; i++)
        if (state.networks[i].nr_endpoints)
            watch(m, state.networks[i].name, 0, 0);
    network_state_close(&state);
}

/* Negative: that cannot be said. */
static int nr_guests(const char *name)
{
    struct network_state state;
    const struct network *network;
    int nr = network_state_open(NULL, true, &state, NULL);

    if (nr < 0)
        return nr;
    network = network_find(&state, name);
    nr = network ? (int)network->nr_endpoints : 0;
    network_state_close(&state);
    return nr;
}

static void forget(struct manager *m, const char *network)
{
    struct resolver_watch **at = &m->resolvers, *found;

    pthread_mutex_lock(&m->lock);
    while (*at && strcmp((*at)->network, network) != 0)
        at = &(*at)->next;
    /* Meanwhile it may have been asked for anew. */
    if ((found = *at) && found->look_ns <= clock_monotonic_ns()) {
        *at = found->next;
        free(found);
    }
    pthread_mutex_unlock(&m->lock);
}

/* Written back as far as nobody else has; times are ours. */
static void put_back(struct manager *m, const struct resolver_watch *seen)
{
    struct resolver_watch *at;

    pthread_mutex_lock(&m->lock);
    if ((at = find(m, seen->network))) {
        at->look_ns = seen->look_ns;
        at->again_ns = seen->again_ns;
        at->failures = seen->failures;
    }
    pthread_mutex_unlock(&m->lock);
}

static void start_again(struct manager *m, struct resolver_watch *seen, uint64_t now_ns)
{
    struct err err = ERR_INIT;

    log_warning("network %s: who answers for its names has ended; started again", seen->network);
    if (network_resolver_start(m->options.lodge, network_directory(), seen->network, false, &err) <
        0)
        log_warning("network %s: %s", seen->network, err.message);
    seen->again_ns = now_ns + MIN(NS_PER_S << MIN(seen->failures, 6u), BACKOFF_MOST);
    seen->failures++;
    seen->look_ns = now_ns + LOOK_NS;
}

static void look(struct manager *m, struct resolver_watch *seen)
{
    uint64_t now_ns = clock_monotonic_ns();
    bool there = network_resolver_is_there(network_directory(), seen->network);
    int nr = there ? 1 : nr_guests(seen->network);

    if (nr == 0 && now_ns >= seen->coming_ns) {
        forget(m, seen->network);
        return;
    }
    seen->look_ns = now_ns + LOOK_NS;
    if (there && now_ns >= seen->again_ns + GOOD_NS)
        seen->failures = 0;
    if (!there && nr > 0 && now_ns >= seen->again_ns)
        start_again(m, seen, now_ns);
    put_back(m, seen);
}

/* The next one that is due; false: none. */
static bool next_due(struct manager *m, struct resolver_watch *ret)
{
    uint64_t now_ns = clock_monotonic_ns();
    const struct resolver_watch *at;

    pthread_mutex_lock(&m->lock);
    for (at = m->resolvers; at && at->look_ns > now_ns;)
        at = at->next;
    if (at)
        *ret = *at;
    else
        m->resolvers_looked_at = false;
    pthread_mutex_unlock(&m->lock);
    return at;
}

static void look_at_all(struct manager *m, void *context)
{
    struct resolver_watch seen;

    (void)context;
    while (next_due(m, &seen))
        look(m, &seen);
}

void resolvers_tick(struct manager *m, uint64_t now_ns)
{
    bool due = false;

    pthread_mutex_lock(&m->lock);
    for (const struct resolver_watch *at = m->resolvers; at && !due; at = at->next)
        due = at->look_ns <= now_ns && !m->resolvers_looked_at;
    m->resolvers_looked_at |= due;
    pthread_mutex_unlock(&m->lock);
    if (due && work_post(m, look_at_all, NULL) == -ENOMEM) {
        pthread_mutex_lock(&m->lock);
        m->resolvers_looked_at = false;
        pthread_mutex_unlock(&m->lock);
    }
}

void resolvers_free(struct manager *m)
{
    while (m->resolvers) {
        struct resolver_watch *at = m->resolvers;

        m->resolvers = at->next;
        free(at);
    }
}
