/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans are made by carrying out moves on the placement and taking them back at the end, so that
 * each move is judged with those before it done. SPREAD keeps two heaps of the open hosts, by load
 * from the top and from the bottom; a source that has no move worth making leaves the first.
 */
#include "policy/balancing.h"
#include "policy/placement_internal.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <math.h>

#define DESTINATIONS 15  /* of the least loaded: the first four levels of the heap */
#define SOURCES_SEEN 256 /* instances of one host looked at for one move */
#define MOVES_MAX    1000000

struct ranking { /* hosts in a heap by key, the smallest first */
    uint32_t *hosts, *positions;
    const double *keys;
    uint32_t length;
    bool descending;
};

struct planner {
    struct placement *p;
    struct balancing_config config;
    struct balancing_plan plan;
    size_t room;
    uint32_t nr_hosts, nr_open;
    double *loads;
    double sum, squares; /* of the loads of open hosts */
    struct ranking top, bottom;
};

double balancing_load(const struct placement *p, uint32_t host)
{
    struct placement_state state;
    double load = 0;

    if (placement_host_state(p, host, &state) < 0)
        return 0;
    for (unsigned r = 0; r < 2; r++)
        if (state.capacity[r])
            load = fmax(load, 1 - (double)state.free[r] / state.capacity[r]);
    return load;
}

static double load_with(const struct placement *p, uint32_t host, const struct placement_need *need,
                        int sign)
{
    struct placement_state state;
    double load = 0;

    if (placement_host_state(p, host, &state) < 0)
        return 0;
    for (unsigned r = 0; r < 2; r++)
        if (state.capacity[r])
            load = fmax(load, 1 - ((double)state.free[r] - sign * (double)need->need[r]) /
                                      state.capacity[r]);
    return load;
}

static bool ranks_before(const struct ranking *k, uint32_t a, uint32_t b)
{
    double x = k->keys[a], y = k->keys[b];

    if (x < y || x > y)
        return (x < y) != k->descending;
    return a < b;
}

static void rank_put(struct ranking *k, uint32_t at, uint32_t host)
{
    k->hosts[at] = host;
    k->positions[host] = at;
}

/* The host at this position has a new key, or is new there. */
static void rank_settle(struct ranking *k, uint32_t at)
{
    uint32_t host = k->hosts[at];

    while (at && ranks_before(k, host, k->hosts[(at - 1) / 2])) {
        rank_put(k, at, k->hosts[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        uint32_t child = at * 2 + 1;

        if (child >= k->length)
            break;
        if (child + 1 < k->length && ranks_before(k, k->hosts[child + 1], k->hosts[child]))
            child++;
        if (!ranks_before(k, k->hosts[child], host))
            break;
        rank_put(k, at, k->hosts[child]);
        at = child;
    }
    rank_put(k, at, host);
}

static void rank_remove(struct ranking *k, uint32_t host)
{
    uint32_t at = k->positions[host];

    if (at == PLACEMENT_NONE)
        return;
    k->positions[host] = PLACEMENT_NONE;
    if (at != --k->length) {
        rank_put(k, at, k->hosts[k->length]);
        rank_settle(k, at);
    }
}

static int rank_make(struct ranking *k, const struct planner *b, bool descending)
{
    k->hosts = calloc((size_t)b->nr_hosts + 1, sizeof(*k->hosts));
    k->positions = calloc((size_t)b->nr_hosts + 1, sizeof(*k->positions));
    k->keys = b->loads;
    k->descending = descending;
    if (!k->hosts || !k->positions)
        return -ENOMEM;
    for (uint32_t host = 0; host < b->nr_hosts; host++) {
        struct placement_state state;

        k->positions[host] = PLACEMENT_NONE;
        placement_host_state(b->p, host, &state);
        if (state.present && state.open)
            rank_put(k, k->length++, host);
    }
    for (uint32_t at = k->length / 2; at-- > 0;)
        rank_settle(k, at);
    return 0;
}

static void planner_done(struct planner *b)
{
    free(b->loads);
    free(b->top.hosts);
    free(b->top.positions);
    free(b->bottom.hosts);
    free(b->bottom.positions);
    balancing_plan_done(&b->plan);
}

void balancing_plan_done(struct balancing_plan *plan)
{
    free(plan->moves);
    plan->moves = NULL;
    plan->nr_moves = 0;
}

static double spread(const struct planner *b)
{
    double mean = b->nr_open ? b->sum / b->nr_open : 0;

    return b->nr_open ? sqrt(fmax(b->squares / b->nr_open - mean * mean, 0)) : 0;
}

/* The sums anew: they are of hosts that are open now. */
static void measure(struct planner *b, double *ret_spread, uint32_t *ret_used)
{
    b->sum = b->squares = 0;
    b->nr_open = *ret_used = 0;
    for (uint32_t host = 0; host < b->nr_hosts; host++) {
        struct placement_state state;

        placement_host_state(b->p, host, &state);
        b->loads[host] = balancing_load(b->p, host);
        *ret_used += state.instances > 0;
        if (!state.present || !state.open)
            continue;
        b->nr_open++;
        b->sum += b->loads[host];
        b->squares += b->loads[host] * b->loads[host];
    }
    *ret_spread = spread(b);
}

static int note_move(struct planner *b, uint32_t instance, uint32_t to, struct err *err)
{
    struct placement_need need;
    struct balancing_move move = {
        .instance = instance, .from = placement_where(b->p, instance, &need), .to = to};
    int r;

    if (b->plan.nr_moves == b->room) {
        size_t room = b->room ? b->room * 2 : 32;
        struct balancing_move *grown = realloc(b->plan.moves, room * sizeof(*grown));

        if (!grown)
            return err_set(err, -ENOMEM, "balancing: out of memory");
        b->plan.moves = grown;
        b->room = room;
    }
    move.from_before = balancing_load(b->p, move.from);
    move.to_before = balancing_load(b->p, to);
    r = placement_move(b->p, instance, to, err);
    if (r < 0)
        return r;
    move.from_after = balancing_load(b->p, move.from);
    move.to_after = balancing_load(b->p, to);
    move.gain = move.from_before * move.from_before + move.to_before * move.to_before -
                move.from_after * move.from_after - move.to_after * move.to_after;
    move.memory_mib = need.need[PLACEMENT_MEMORY];
    b->loads[move.from] = move.from_after;
    b->loads[to] = move.to_after;
    b->plan.moves[b->plan.nr_moves++] = move;
    return 0;
}

/* Takes moves back, the last first, down to `count`. */
static void take_back(struct planner *b, size_t count)
{
    for (size_t i = b->plan.nr_moves; i-- > count;) {
        const struct balancing_move *move = &b->plan.moves[i];

        placement_move_back(b->p, move->instance, move->from);
        b->loads[move->from] = balancing_load(b->p, move->from);
        b->loads[move->to] = balancing_load(b->p, move->to);
    }
}

struct best_move {
    uint32_t instance, to;
    double gain;
};

static void consider_move(struct planner *b, uint32_t from, uint32_t instance,
                          struct best_move *best)
{
    struct placement_need need;
    double before = b->loads[from], after;

    placement_where(b->p, instance, &need);
    after = load_with(b->p, from, &need, -1);
    for (uint32_t i = 0; i < MIN(b->bottom.length, DESTINATIONS); i++) {
        uint32_t to = b->bottom.hosts[i];
        struct placement_candidate candidate;
        double to_after, gain;

        if (to == from)
            continue;
        to_after = load_with(b->p, to, &need, 1);
        gain = before * before + b->loads[to] * b->loads[to] - after * after - to_after * to_after;
        if (gain < best->gain ||
            (gain <= best->gain &&
             (instance > best->instance || (instance == best->instance && to > best->to))))
            continue;
        if (gain < b->config.gain_min * need.need[PLACEMENT_MEMORY] / 1024 ||
            placement_judge(b->p, &need, to, &candidate) < 0 || candidate.verdict != PLACEMENT_FITS)
            continue;
        *best = (struct best_move){instance, to, gain};
    }
}

static int plan_spread(struct planner *b, struct err *err)
{
    int r = rank_make(&b->top, b, true);

    if (r >= 0)
        r = rank_make(&b->bottom, b, false);
    if (r < 0)
        return err_set(err, r, "balancing: out of memory");
    for (;;) {
        struct best_move best = {.instance = PLACEMENT_NONE, .gain = 1e-9};
        uint32_t from, instance = PLACEMENT_NONE, seen = 0;

        b->plan.stop = "the spread is within the threshold";
        if (spread(b) <= b->config.threshold)
            return 0;
        b->plan.stop = "no move that is worth its cost is left";
        if (!b->top.length || b->loads[from = b->top.hosts[0]] <= b->sum / b->nr_open)
            return 0;
        b->plan.stop = "the most moves that a plan may have are reached";
        if (b->plan.nr_moves >= b->config.moves_max)
            return 0;
        while (seen++ < SOURCES_SEEN &&
               (instance = placement_next_on(b->p, from, instance)) != PLACEMENT_NONE)
            consider_move(b, from, instance, &best);
        if (best.instance == PLACEMENT_NONE) {
            rank_remove(&b->top, from);
            continue;
        }
        r = note_move(b, best.instance, best.to, err);
        if (r < 0)
            return r;
        b->sum += b->loads[from] + b->loads[best.to] -
                  b->plan.moves[b->plan.nr_moves - 1].from_before -
                  b->plan.moves[b->plan.nr_moves - 1].to_before;
        b->squares -= b->plan.moves[b->plan.nr_moves - 1].gain;
        rank_settle(&b->top, b->top.positions[from]);
        rank_settle(&b->bottom, b->bottom.positions[from]);
        rank_settle(&b->bottom, b->bottom.positions[best.to]);
        if (b->top.positions[best.to] != PLACEMENT_NONE)
            rank_settle(&b->top, b->top.positions[best.to]);
    }
}

/* Moves all that is on a host elsewhere; returns how many stay. The host is closed meanwhile. */
static int empty_host(struct planner *b, uint32_t host, double load_max, uint32_t *ret_stuck,
                      struct err *err)
{
    uint32_t instance = placement_next_on(b->p, host, PLACEMENT_NONE), next;

    *ret_stuck = 0;
    for (; instance != PLACEMENT_NONE; instance = next) {
        struct placement_need need;
        struct placement_choice choice;
        int r;

        next = placement_next_on(b->p, host, instance);
        placement_where(b->p, instance, &need);
        need.load_max = load_max;
        r = placement_choose(b->p, &need, &choice, err);
        if (r < 0)
            return r;
        if (choice.host == PLACEMENT_NONE || b->plan.nr_moves >= b->config.moves_max) {
            (*ret_stuck)++;
            if (load_max > 0)
                return 0; /* all or nothing */
            continue;
        }
        r = note_move(b, instance, choice.host, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int plan_drain(struct planner *b, struct err *err)
{
    struct placement_state state;
    int r;

    if (placement_host_state(b->p, b->config.host, &state) < 0 || !state.present)
        return err_set(err, -EINVAL, "balancing: there is no host %u", b->config.host);
    placement_host_open(b->p, b->config.host, false);
    r = empty_host(b, b->config.host, 0, &b->plan.stuck, err);
    placement_host_open(b->p, b->config.host, state.open);
    b->plan.stop = b->plan.stuck ? "what is left on the host fits nowhere else"
                                 : "the host is empty";
    return r;
}

/* In use, open, and not to be touched any more once something was moved to it. */
enum { HOST_LEFT_ALONE, HOST_IN_USE, HOST_CLOSED_FOR_PLAN };

static void close_idle(struct planner *b, uint8_t *marks)
{
    for (uint32_t host = 0; host < b->nr_hosts; host++) {
        struct placement_state state;

        placement_host_state(b->p, host, &state);
        if (!state.present || !state.open)
            continue;
        marks[host] = state.instances ? HOST_IN_USE : HOST_CLOSED_FOR_PLAN;
        if (!state.instances)
            placement_host_open(b->p, host, false);
    }
}

static int plan_consolidate(struct planner *b, struct err *err)
{
    CLEANUP(freep) uint8_t *marks = calloc((size_t)b->nr_hosts + 1, 1);
    int r = marks ? rank_make(&b->bottom, b, false) : -ENOMEM;

    if (r < 0)
        return err_set(err, r, "balancing: out of memory");
    close_idle(b, marks);
    while (r >= 0 && b->bottom.length && b->plan.nr_moves < b->config.moves_max) {
        uint32_t host = b->bottom.hosts[0], stuck;
        size_t count = b->plan.nr_moves;

        rank_remove(&b->bottom, host);
        if (marks[host] != HOST_IN_USE)
            continue;
        placement_host_open(b->p, host, false);
        r = empty_host(b, host, b->config.high, &stuck, err);
        if (r < 0 || stuck) {
            take_back(b, count);
            b->plan.nr_moves = count;
            placement_host_open(b->p, host, true);
            marks[host] = HOST_LEFT_ALONE;
            continue;
        }
        marks[host] = HOST_CLOSED_FOR_PLAN;
        for (size_t i = count; i < b->plan.nr_moves; i++)
            marks[b->plan.moves[i].to] = HOST_LEFT_ALONE;
    }
    for (uint32_t host = 0; host < b->nr_hosts; host++)
        if (marks[host] == HOST_CLOSED_FOR_PLAN)
            placement_host_open(b->p, host, true);
    b->plan.stop = "no further host can be emptied onto the others";
    return r;
}

static int check(const struct balancing_config *config, struct err *err)
{
    if (!(config->threshold >= 0) || !(config->gain_min >= 0) || !(config->high >= 0) ||
        config->moves_max > MOVES_MAX)
        return err_set(err, -EINVAL,
                       "balancing: threshold %g, least gain %g, highest load %g or %u moves: no "
                       "such thing",
                       config->threshold, config->gain_min, config->high, config->moves_max);
    return 0;
}

int balancing_plan(struct placement *p, const struct balancing_config *config,
                   struct balancing_plan *ret, struct err *err)
{
    CLEANUP(planner_done)
    struct planner b = {.p = p, .config = *config, .nr_hosts = placement_hosts(p)};
    int r = check(config, err);

    if (r < 0)
        return r;
    b.config.threshold = config->threshold > 0 ? config->threshold : 0.05;
    b.config.high = config->high > 0 ? config->high : 0.90;
    b.config.moves_max = config->moves_max ? config->moves_max : 1000;
    b.loads = calloc((size_t)b.nr_hosts + 1, sizeof(*b.loads));
    if (!b.loads)
        return err_set(err, -ENOMEM, "balancing: out of memory");
    measure(&b, &b.plan.spread_before, &b.plan.hosts_used_before);
    if (config->aim == BALANCING_SPREAD)
        r = plan_spread(&b, err);
    else if (config->aim == BALANCING_CONSOLIDATE)
        r = plan_consolidate(&b, err);
    else if (config->aim == BALANCING_DRAIN)
        r = plan_drain(&b, err);
    else
        r = err_set(err, -EINVAL, "balancing: no aim has the number %u", config->aim);
    if (r >= 0)
        measure(&b, &b.plan.spread_after, &b.plan.hosts_used_after);
    take_back(&b, 0);
    if (r < 0)
        return r;
    *ret = b.plan;
    b.plan.moves = NULL;
    return 0;
}

int balancing_apply(struct placement *p, const struct balancing_plan *plan, struct err *err)
{
    for (size_t i = 0; i < plan->nr_moves; i++) {
        const struct balancing_move *move = &plan->moves[i];
        int r;

        if (placement_where(p, move->instance, NULL) != move->from)
            return err_set(err, -ESTALE, "move %zu: instance %u is not on host %u any more", i,
                           move->instance, move->from);
        r = placement_move(p, move->instance, move->to, err);
        if (r < 0)
            return err_wrap(err, "move %zu", i);
    }
    return 0;
}
