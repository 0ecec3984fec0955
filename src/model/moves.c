/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   EVENT_ROUND ─▶ the round of one copy ends: the next one, or the last with the guest stopped, or
 *                  it is done; then who waits may begin
 *
 * Whenever a copy begins or is done, the shares of those at its two hosts change: what they have
 * left is brought up to date (settle) and the end of their round set anew (aim).
 */
#include "model/moves.h"

#include "base/cleanup.h"
#include "model/check.h"
#include "model/event.h"

#include <stdlib.h>
#include <string.h>

enum { EVENT_ROUND };

enum stage { WAITS, COPIES, STOPPED, DONE };

struct copy {
    enum stage stage;
    double left, rate; /* of this round */
    uint64_t since_ns, round_ns;
    event_t end;
    struct migration migration;
    struct placement_need need;
    uint32_t held; /* the place at the destination that is kept for it */
};

struct at_host {
    uint32_t sending, receiving;
};

struct simulation {
    const struct moves *moves;
    struct moves_result *result;
    struct placement *placement;
    struct event_queue events;
    struct copy *copies;
    struct at_host *hosts;
    uint32_t at_once;
};

static void settle(struct simulation *s, struct copy *copy)
{
    double sent = copy->rate * (double)(s->events.now - copy->since_ns) * 1e-9;

    copy->left = fmax(copy->left - sent, 0);
    copy->since_ns = s->events.now;
}

static void aim(struct simulation *s, uint32_t number)
{
    struct copy *copy = &s->copies[number];
    const struct balancing_move *move = &s->moves->moves[number];
    double link = copy->migration.bandwidth;

    copy->rate = fmin(link / s->hosts[move->from].sending, link / s->hosts[move->to].receiving);
    event_cancel(&s->events, copy->end);
    copy->end = event_add(
        &s->events, s->events.now + (uint64_t)llround(fmin(copy->left / copy->rate, 1e9) * 1e9),
        EVENT_ROUND, number);
}

/* The copies that share a link with this one. */
static void aim_all_at(struct simulation *s, const struct balancing_move *changed)
{
    for (size_t i = 0; i < s->moves->nr_moves; i++) {
        const struct balancing_move *move = &s->moves->moves[i];
        struct copy *copy = &s->copies[i];

        if ((copy->stage != COPIES && copy->stage != STOPPED) ||
            (move->from != changed->from && move->to != changed->to))
            continue;
        settle(s, copy);
        aim(s, (uint32_t)i);
    }
}

/* A round of `left` begins: with the guest running, or stopped, as the formula would have it at the
 * rate of now. */
static void begin_round(struct simulation *s, uint32_t number, double left)
{
    struct copy *copy = &s->copies[number];
    struct move_result *result = &s->result->each[number];
    struct migration now = copy->migration;
    const char *reason;

    now.bandwidth = copy->rate;
    copy->left = left;
    copy->since_ns = copy->round_ns = s->events.now;
    result->sent += left;
    if (migration_ends(&now, result->rounds, left, &reason))
        copy->stage = STOPPED;
    else
        result->rounds++;
    aim(s, number);
}

static int begin(struct simulation *s, uint32_t number, bool *ret_begun, struct err *err)
{
    const struct balancing_move *move = &s->moves->moves[number];
    struct copy *copy = &s->copies[number];
    uint32_t parallel = s->moves->parallel ? s->moves->parallel : 1;
    struct at_host *from = &s->hosts[move->from], *to = &s->hosts[move->to];
    int r;

    *ret_begun = false;
    if (from->sending + from->receiving >= parallel || to->sending + to->receiving >= parallel ||
        placement_where(s->placement, move->instance, &copy->need) != move->from)
        return 0;
    r = placement_commit(s->placement, &copy->need, move->to, &copy->held, err);
    if (r == -ENOSPC || r == -EPERM)
        return 0;
    if (r < 0)
        return r;
    *ret_begun = true;
    copy->stage = COPIES;
    s->result->each[number].begin = (double)s->events.now * 1e-9;
    from->sending++;
    to->receiving++;
    if (++s->at_once > s->result->most_at_once)
        s->result->most_at_once = s->at_once;
    copy->rate = fmin(copy->migration.bandwidth / from->sending,
                      copy->migration.bandwidth / to->receiving);
    begin_round(s, number, copy->migration.memory);
    aim_all_at(s, move);
    return 0;
}

static int begin_all(struct simulation *s, struct err *err)
{
    bool begun;
    int r = 0;

    for (size_t i = 0; r == 0 && i < s->moves->nr_moves; i++)
        if (s->copies[i].stage == WAITS)
            r = begin(s, (uint32_t)i, &begun, err);
    return r;
}

static int finish(struct simulation *s, uint32_t number, struct err *err)
{
    const struct balancing_move *move = &s->moves->moves[number];
    struct move_result *result = &s->result->each[number];
    struct copy *copy = &s->copies[number];
    int r;

    copy->stage = DONE;
    s->hosts[move->from].sending--;
    s->hosts[move->to].receiving--;
    s->at_once--;
    result->done = true;
    result->end = (double)s->events.now * 1e-9;
    result->downtime = (double)(s->events.now - copy->round_ns) * 1e-9;
    /* A nanosecond is the clock's grain. */
    result->converged = result->downtime <= copy->migration.downtime_limit + 2e-9;
    s->result->done++;
    s->result->unconverged += !result->converged;
    s->result->took = fmax(s->result->took, result->end);
    s->result->sent += result->sent;
    s->result->downtime += result->downtime;
    s->result->most_downtime = fmax(s->result->most_downtime, result->downtime);
    if ((r = placement_remove(s->placement, copy->held)) < 0 ||
        (r = placement_move(s->placement, move->instance, move->to, err)) < 0)
        return err_wrap(err, "move %u", number);
    aim_all_at(s, move);
    return begin_all(s, err);
}

static int round_ended(struct simulation *s, uint32_t number, struct err *err)
{
    struct copy *copy = &s->copies[number];
    double time = (double)(s->events.now - copy->round_ns) * 1e-9;

    copy->end = EVENT_NONE;
    if (copy->stage == STOPPED)
        return finish(s, number, err);
    begin_round(s, number, migration_dirtied(&copy->migration, time));
    return 0;
}

static int prepare(struct simulation *s, struct err *err)
{
    size_t nr = s->moves->nr_moves;
    uint32_t hosts = placement_hosts(s->placement);
    int r;

    event_queue_init(&s->events);
    s->copies = calloc(nr + 1, sizeof(*s->copies));
    s->hosts = calloc(hosts + 1, sizeof(*s->hosts));
    if (!s->copies || !s->hosts)
        return err_set(err, -ENOMEM, "simulation");
    for (size_t i = 0; i < nr; i++) {
        struct copy *copy = &s->copies[i];
        struct migration_result alone;

        copy->end = EVENT_NONE;
        copy->migration = s->moves->copy;
        copy->migration.memory = s->moves->moves[i].memory_mib;
        if (s->moves->dirty_rates)
            copy->migration.dirty_rate = s->moves->dirty_rates[i];
        if (s->moves->moves[i].from >= hosts || s->moves->moves[i].to >= hosts)
            return err_set(err, -EINVAL, "range: move %zu names a host that is none", i);
        /* For its checks of the parameters. */
        if ((r = migration_precopy(&copy->migration, &alone, err)) < 0)
            return err_wrap(err, "move %zu", i);
    }
    return 0;
}

int moves_simulate(struct placement *p, const struct moves *moves, struct moves_result *ret,
                   struct err *err)
{
    struct simulation s = {.moves = moves, .result = ret, .placement = p};
    struct move_result *each = ret->each;
    struct event event;
    int r;

    memset(ret, 0, sizeof(*ret));
    ret->each = each;
    memset(each, 0, moves->nr_moves * sizeof(*each));
    if ((r = prepare(&s, err)) == 0)
        r = begin_all(&s, err);
    while (r == 0 && event_next(&s.events, &event))
        r = round_ended(&s, event.subject, err);
    if (r == 0 && s.events.failed)
        r = err_set(err, -ENOMEM, "simulation");
    ret->waiting = moves->nr_moves - ret->done;
    ret->events = s.events.happened;
    event_queue_done(&s.events);
    free(s.copies);
    free(s.hosts);
    return r;
}
