/* SPDX-License-Identifier: Apache-2.0 */
/* Judging hosts, choosing one by the grid or exhaustively, and explaining the choice. */
#include "policy/placement_internal.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <math.h>

/* Hosts looked at one by one before the choice becomes exhaustive. */
#define LOOK_AT_MOST 96
#define ANY_ZONE     (-1)

static const char *const rule_names[] = {"best-fit", "worst-fit", "dot-product", "dominant"};

const char *placement_rule_name(enum placement_rule rule)
{
    return (unsigned)rule < ARRAY_LEN(rule_names) ? rule_names[rule] : "?";
}

int placement_rule_parse(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(rule_names); i++)
        if (!strcmp(name, rule_names[i]))
            return (int)i;
    return -EINVAL;
}

const char *placement_verdict_text(enum placement_verdict verdict)
{
    static const char *const texts[] = {
        [PLACEMENT_FITS] = "fits",
        [PLACEMENT_SHORT_OF_CPU] = "too few processors are free",
        [PLACEMENT_SHORT_OF_MEMORY] = "too little memory is free",
        [PLACEMENT_SHORT_OF_DISK] = "too little disk is free",
        [PLACEMENT_LABELS] = "a label is missing, or one to avoid is there",
        [PLACEMENT_GROUP] = "its group has as many there as it may, or is elsewhere",
        [PLACEMENT_LOADED] = "fits, but it would be loaded too high",
        [PLACEMENT_ZONE] = "fits, but a zone with fewer of its group is preferred",
        [PLACEMENT_EXCLUDED] = "takes nothing new",
    };

    return (unsigned)verdict < ARRAY_LEN(texts) ? texts[verdict] : "?";
}

static double load_after(const struct placement_host_entry *host, const struct placement_need *need)
{
    double load = 0;

    for (unsigned r = 0; r < 2; r++)
        if (host->capacity[r])
            load = fmax(load, 1 - ((double)host->free[r] - need->need[r]) / host->capacity[r]);
    return load;
}

enum placement_verdict placement_check(const struct placement *p, const struct placement_need *need,
                                       uint32_t number)
{
    const struct placement_host_entry *host = &p->hosts[number];

    if (!host->present || !host->open || number + UINT32_C(1) == need->not_host_plus_1)
        return PLACEMENT_EXCLUDED;
    if ((need->labels & ~host->labels) || (need->labels_avoid & host->labels))
        return PLACEMENT_LABELS;
    if (need->group && (need->group_max_per_host || need->group_together)) {
        uint32_t here = placement_group_count(p, need->group, number);

        if ((need->group_max_per_host && here >= need->group_max_per_host) ||
            (need->group_together && !here && placement_group_size(p, need->group)))
            return PLACEMENT_GROUP;
    }
    for (unsigned r = 0; r < PLACEMENT_RESOURCES; r++)
        if (need->need[r] > host->free[r])
            return (enum placement_verdict)(PLACEMENT_SHORT_OF_CPU + r);
    if (need->load_max > 0 && load_after(host, need) > need->load_max)
        return PLACEMENT_LOADED;
    return PLACEMENT_FITS;
}

/* The rule's figure for what is free in units, need taken off where the rule says so. */
static double score_of(enum placement_rule rule, const double free[2], const double need[2])
{
    switch (rule) {
    case PLACEMENT_BEST_FIT:
        return need[0] + need[1] - free[0] - free[1];
    case PLACEMENT_WORST_FIT:
        return free[0] + free[1] - need[0] - need[1];
    case PLACEMENT_DOT_PRODUCT:
        return free[0] * need[0] + free[1] * need[1];
    case PLACEMENT_DOMINANT:
    case PLACEMENT_RULES:
        break;
    }
    return fmin(free[0] - need[0], free[1] - need[1]);
}

static double score_host(const struct placement *p, const struct placement_need *need,
                         uint32_t number)
{
    double free[2], wanted[2];

    for (unsigned r = 0; r < 2; r++) {
        free[r] = p->unit[r] ? (double)p->hosts[number].free[r] / p->unit[r] : 0;
        wanted[r] = p->unit[r] ? (double)need->need[r] / p->unit[r] : 0;
    }
    return score_of(p->config.rule, free, wanted);
}

struct search {
    const struct placement *p;
    const struct placement_need *need;
    int zone;         /* ANY_ZONE, or this one alone */
    bool plain;       /* processors and memory decide alone */
    unsigned low[2];  /* levels below have no host that fits */
    unsigned sure[2]; /* levels from here on fit surely */
    double wanted[2];
    double best;
    uint32_t found, looked_at;
};

static bool fits(const struct search *s, uint32_t host)
{
    return (s->zone == ANY_ZONE || s->p->hosts[host].zone == s->zone) &&
           placement_check(s->p, s->need, host) == PLACEMENT_FITS;
}

static uint32_t look_into(struct search *s, unsigned row, unsigned column)
{
    uint32_t host = s->p->cells[row * PLACEMENT_LEVELS + column];

    if (s->plain && row >= s->sure[0] && column >= s->sure[1]) {
        s->looked_at++;
        return host;
    }
    for (; host != PLACEMENT_NONE && s->looked_at < LOOK_AT_MOST; s->looked_at++) {
        if (fits(s, host))
            return host;
        host = s->p->hosts[host].cell_next;
    }
    return PLACEMENT_NONE;
}

static double score_cell(const struct search *s, unsigned row, unsigned column)
{
    const double free[2] = {(double)row / PLACEMENT_GRID, (double)column / PLACEMENT_GRID};

    return score_of(s->p->config.rule, free, s->wanted);
}

/* Best fit: rows from the lowest that may fit, in each the lowest column. */
static void search_up(struct search *s)
{
    for (unsigned row = s->low[0]; row < PLACEMENT_LEVELS; row++) {
        int column;

        if (score_cell(s, row, s->low[1]) <= s->best)
            break;
        for (column = placement_row_up(s->p, row, s->low[1]);
             column >= 0 && score_cell(s, row, (unsigned)column) > s->best;
             column = placement_row_up(s->p, row, (unsigned)column + 1)) {
            uint32_t host = look_into(s, row, (unsigned)column);

            if (host == PLACEMENT_NONE)
                continue;
            s->found = host;
            s->best = score_cell(s, row, (unsigned)column);
        }
    }
}

/* The other rules: rows from the highest, in each the highest column. */
static void search_down(struct search *s)
{
    for (int row = PLACEMENT_GRID; row >= (int)s->low[0]; row--) {
        int column;

        if (score_cell(s, (unsigned)row, PLACEMENT_GRID) <= s->best)
            break;
        for (column = placement_row_down(s->p, (unsigned)row, PLACEMENT_GRID);
             column >= (int)s->low[1] && score_cell(s, (unsigned)row, (unsigned)column) > s->best;
             column = placement_row_down(s->p, (unsigned)row, column - 1)) {
            uint32_t host = look_into(s, (unsigned)row, (unsigned)column);

            if (host == PLACEMENT_NONE)
                continue;
            s->found = host;
            s->best = score_cell(s, (unsigned)row, (unsigned)column);
        }
    }
}

static void consider(struct search *s, uint32_t host)
{
    double score;

    s->looked_at++;
    if (!fits(s, host))
        return;
    score = score_host(s->p, s->need, host);
    if (s->found != PLACEMENT_NONE && (score < s->best || (score <= s->best && host > s->found)))
        return;
    s->best = score;
    s->found = host;
}

static void search_all(struct search *s)
{
    s->best = -(double)INFINITY;
    s->found = PLACEMENT_NONE;
    for (unsigned row = s->low[0]; row < PLACEMENT_LEVELS; row++)
        for (int column = placement_row_up(s->p, row, s->low[1]); column >= 0;
             column = placement_row_up(s->p, row, (unsigned)column + 1)) {
            uint32_t host = s->p->cells[row * PLACEMENT_LEVELS + (unsigned)column];

            for (; host != PLACEMENT_NONE; host = s->p->hosts[host].cell_next)
                consider(s, host);
        }
}

static void search_zone(const struct placement *p, const struct placement_need *need, int zone,
                        struct placement_choice *choice)
{
    struct search s = {.p = p,
                       .need = need,
                       .zone = zone,
                       .plain = zone == ANY_ZONE && !need->labels && !need->labels_avoid &&
                                !need->group && !need->not_host_plus_1 && !(need->load_max > 0) &&
                                !need->need[PLACEMENT_DISK],
                       .best = -(double)INFINITY,
                       .found = PLACEMENT_NONE};

    for (unsigned r = 0; r < 2; r++) {
        if (need->need[r] > p->unit[r])
            return; /* larger than any host */
        s.low[r] = s.sure[r] = placement_level(p, r, need->need[r]);
        if (p->unit[r] && (uint64_t)need->need[r] * PLACEMENT_GRID % p->unit[r])
            s.sure[r]++;
        s.wanted[r] = p->unit[r] ? (double)need->need[r] / p->unit[r] : 0;
    }
    choice->exact = p->nr_hosts <= PLACEMENT_EXACT_HOSTS;
    if (choice->exact)
        search_all(&s);
    else if (p->config.rule == PLACEMENT_BEST_FIT)
        search_up(&s);
    else
        search_down(&s);
    if (s.found == PLACEMENT_NONE && s.looked_at >= LOOK_AT_MOST && !choice->exact) {
        choice->exact = true;
        search_all(&s);
    }
    choice->looked_at += s.looked_at;
    choice->host = s.found;
    if (s.found != PLACEMENT_NONE)
        choice->score = score_host(p, need, s.found);
}

static bool zone_is_tried(const uint64_t *tried, unsigned zone)
{
    return tried[zone / 64] >> zone % 64 & 1;
}

/* Zones in order of how many of the group they have, until one has a host that fits. */
static void search_zones(const struct placement *p, const struct placement_need *need,
                         struct placement_choice *choice)
{
    uint64_t tried[PLACEMENT_ZONES / 64] = {0};

    for (;;) {
        uint32_t fewest = UINT32_MAX;
        int zone = -1;

        for (unsigned z = 0; z < PLACEMENT_ZONES; z++) {
            uint32_t count;

            if (!p->zone_hosts[z] || zone_is_tried(tried, z))
                continue;
            count = placement_group_in_zone(p, need->group, z);
            if (count < fewest) {
                fewest = count;
                zone = (int)z;
            }
        }
        if (zone < 0)
            return;
        tried[zone / 64] |= UINT64_C(1) << zone % 64;
        search_zone(p, need, zone, choice);
        if (choice->host != PLACEMENT_NONE)
            return;
    }
}

int placement_choose(struct placement *p, const struct placement_need *need,
                     struct placement_choice *ret, struct err *err)
{
    struct placement_choice choice = {.host = PLACEMENT_NONE};

    if (!(need->load_max >= 0))
        return err_set(err, -EINVAL, "load_max %g is no load", need->load_max);
    if (need->spread_zones && need->group)
        search_zones(p, need, &choice);
    else
        search_zone(p, need, ANY_ZONE, &choice);
    *ret = choice;
    return 0;
}

int placement_judge(const struct placement *p, const struct placement_need *need, uint32_t host,
                    struct placement_candidate *ret)
{
    if (host >= p->nr_hosts)
        return -ENOENT;
    *ret = (struct placement_candidate){.host = host, .verdict = placement_check(p, need, host)};
    for (unsigned r = 0; r < PLACEMENT_RESOURCES; r++)
        ret->left[r] = (double)p->hosts[host].free[r] - need->need[r];
    if (ret->verdict == PLACEMENT_FITS)
        ret->score = score_host(p, need, host);
    else if (ret->verdict <= PLACEMENT_SHORT_OF_DISK)
        ret->short_by = -ret->left[ret->verdict - PLACEMENT_SHORT_OF_CPU];
    return 0;
}

/* Fitting ones first, by score; then by verdict and by how little is missing. */
static int compare_candidates(const void *a, const void *b)
{
    const struct placement_candidate *x = a, *y = b;

    if (x->verdict != y->verdict)
        return x->verdict < y->verdict ? -1 : 1;
    if (x->score > y->score || x->score < y->score)
        return x->score > y->score ? -1 : 1;
    if (x->short_by > y->short_by || x->short_by < y->short_by)
        return x->short_by < y->short_by ? -1 : 1;
    return x->host < y->host ? -1 : x->host > y->host;
}

static void mark_zones(const struct placement *p, const struct placement_need *need,
                       struct placement_candidate *all, uint32_t n)
{
    uint32_t fewest = UINT32_MAX;

    for (uint32_t i = 0; i < n; i++)
        if (all[i].verdict == PLACEMENT_FITS)
            fewest = MIN(fewest, placement_group_in_zone(p, need->group, p->hosts[i].zone));
    for (uint32_t i = 0; i < n; i++)
        if (all[i].verdict == PLACEMENT_FITS &&
            placement_group_in_zone(p, need->group, p->hosts[i].zone) > fewest) {
            all[i].verdict = PLACEMENT_ZONE;
            all[i].score = 0;
        }
}

int placement_explain(const struct placement *p, const struct placement_need *need,
                      struct placement_candidate *ret, size_t max, size_t *ret_count)
{
    CLEANUP(freep) struct placement_candidate *all = calloc((size_t)p->nr_hosts + 1, sizeof(*all));

    if (!all)
        return -ENOMEM;
    for (uint32_t host = 0; host < p->nr_hosts; host++)
        placement_judge(p, need, host, &all[host]);
    if (need->spread_zones && need->group)
        mark_zones(p, need, all, p->nr_hosts);
    qsort(all, p->nr_hosts, sizeof(*all), compare_candidates);
    if (max)
        memcpy(ret, all, MIN(max, p->nr_hosts) * sizeof(*all));
    *ret_count = p->nr_hosts;
    return 0;
}
