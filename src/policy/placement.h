/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which host? A model of hosts (capacity, what is reserved on them, zone, labels) and of the
 * instances on them, and the choice of a host for one more, by one of these rules among the hosts
 * that fit and satisfy its constraints:
 *
 *   BEST_FIT     the least left over: fills hosts up, keeps large holes whole
 *   WORST_FIT    the most left over: spreads load
 *   DOT_PRODUCT  the largest sum over r of (need_r / unit_r) * (free_r / unit_r): aligns the shape
 *                of the need with the shape of the hole
 *   DOMINANT     the largest smaller remainder, max min over r of left_r / unit_r: on equal hosts,
 *                the smallest dominant share afterwards
 *
 * left_r is what is free after placing; left over is the sum of left_r / unit_r over processors and
 * memory; unit_r is about the largest capacity of any host. Ties: the lower host number where the
 * choice is exhaustive.
 *
 * Index: hosts lie in a grid of cells by free processors and free memory, PLACEMENT_GRID steps
 * each. All rules are monotone in both, so a choice looks at one end of each row: its cost does not
 * grow with the number of hosts. The choice is then the best to within about one step per resource.
 * Up to PLACEMENT_EXACT_HOSTS hosts it is exhaustive and exact; and so it is (among the hosts with
 * enough processors and memory) when a constraint excludes all of the first few looked at, so that
 * a host that can take it is always found. Memory: about 80 bytes a host, 64 an instance.
 *
 * Threads: one at a time. Deterministic. Sources: Panigrahy et al., Heuristics for Vector Bin
 * Packing; Ghodsi et al. (dominant share).
 */
#ifndef LODGE_POLICY_PLACEMENT_H
#define LODGE_POLICY_PLACEMENT_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum placement_resource {
    PLACEMENT_CPU,    /* thousandths of a processor */
    PLACEMENT_MEMORY, /* MiB */
    PLACEMENT_DISK,   /* MiB; checked, not part of the scores */
    PLACEMENT_RESOURCES
};

#define PLACEMENT_NONE        UINT32_MAX
#define PLACEMENT_EXACT_HOSTS 256
#define PLACEMENT_GRID        256
#define PLACEMENT_ZONES       256

enum placement_rule {
    PLACEMENT_BEST_FIT,
    PLACEMENT_WORST_FIT,
    PLACEMENT_DOT_PRODUCT,
    PLACEMENT_DOMINANT,
    PLACEMENT_RULES
};

struct placement_config {
    enum placement_rule rule;
    double overcommit[PLACEMENT_RESOURCES]; /* 0: 1.0; applied to capacity as hosts are added */
    uint32_t hosts_max, instances_max;      /* 0: 2^23 and 2^27; more are refused */
};

struct placement_host {
    uint32_t capacity[PLACEMENT_RESOURCES]; /* as reported, before overcommit */
    uint64_t labels;                        /* bit set: the owner's meaning */
    uint8_t zone;
};

struct placement_need {
    uint32_t need[PLACEMENT_RESOURCES];
    uint64_t labels;             /* all of these must be on the host */
    uint64_t labels_avoid;       /* none of these may be */
    uint32_t group;              /* 0: none. Instances of one group: */
    uint16_t group_max_per_host; /* anti-affinity: at most so many on one host; 0: any */
    bool group_together;         /* affinity: on a host that has one already, if there is any */
    bool spread_zones;           /* in the zone where the group has the fewest (that fits) */
    double load_max;             /* max of used / capacity of the host afterwards; 0: any */
    uint32_t not_host_plus_1;    /* exclude this host (moving away from it) + 1; 0: none */
};

enum placement_verdict {
    PLACEMENT_FITS,
    PLACEMENT_SHORT_OF_CPU,
    PLACEMENT_SHORT_OF_MEMORY,
    PLACEMENT_SHORT_OF_DISK,
    PLACEMENT_LABELS,   /* a label is missing, or one to avoid is there */
    PLACEMENT_GROUP,    /* the group has as many there as it may, or must be elsewhere */
    PLACEMENT_LOADED,   /* fits, but would be loaded above load_max */
    PLACEMENT_ZONE,     /* fits, but a zone with fewer of the group was preferred */
    PLACEMENT_EXCLUDED, /* named not to be used, drained, or gone */
};

struct placement_candidate {
    uint32_t host;
    enum placement_verdict verdict;
    double score;                     /* larger is better, by the rule; 0 unless it fits */
    double short_by;                  /* of the resource that is short */
    double left[PLACEMENT_RESOURCES]; /* free afterwards */
};

struct placement_choice {
    uint32_t host; /* PLACEMENT_NONE: nowhere */
    double score;
    uint32_t looked_at; /* hosts looked at one by one */
    bool exact;         /* exhaustive */
};

struct placement_state {                    /* of one host */
    uint32_t capacity[PLACEMENT_RESOURCES]; /* with overcommit */
    uint32_t free[PLACEMENT_RESOURCES];
    uint32_t instances;
    uint64_t labels;
    uint8_t zone;
    bool open;    /* takes new instances */
    bool present; /* false: removed */
};

struct placement;

int placement_new(const struct placement_config *config, struct placement **ret, struct err *err);
void placement_free(struct placement *p);
static inline void placement_freep(struct placement **p)
{
    if (*p)
        placement_free(*p);
}

/* Host numbers are 0, 1, 2, ... in order of adding, and stay. */
int placement_host_add(struct placement *p, const struct placement_host *host, uint32_t *ret_host,
                       struct err *err);
/* Closed hosts take nothing new (draining). -ENOENT. */
int placement_host_open(struct placement *p, uint32_t host, bool open);
/* -EBUSY: instances are on it. */
int placement_host_remove(struct placement *p, uint32_t host);
int placement_host_state(const struct placement *p, uint32_t host, struct placement_state *ret);
uint32_t placement_hosts(const struct placement *p); /* numbers given so far */

/* A rehearsal: where would it go? Changes nothing. -EINVAL, -ENOMEM; nowhere is no error. */
int placement_choose(struct placement *p, const struct placement_need *need,
                     struct placement_choice *ret, struct err *err);

/* Puts it on that host. -ENOSPC: does not fit there any more; -EPERM: a constraint forbids. */
int placement_commit(struct placement *p, const struct placement_need *need, uint32_t host,
                     uint32_t *ret_instance, struct err *err);

/* Choose and commit. -ENOSPC: nowhere (err says of what hosts are short: placement_explain). */
int placement_place(struct placement *p, const struct placement_need *need, uint32_t *ret_host,
                    uint32_t *ret_instance, struct err *err);

/* -ENOENT. Instance numbers are used again. */
int placement_remove(struct placement *p, uint32_t instance);
int placement_move(struct placement *p, uint32_t instance, uint32_t host, struct err *err);

/* Where an instance is (PLACEMENT_NONE: no such instance), and what it needs (ret may be NULL). */
uint32_t placement_where(const struct placement *p, uint32_t instance, struct placement_need *ret);
/* The instances on a host, newest first: first with PLACEMENT_NONE, PLACEMENT_NONE at the end. */
uint32_t placement_next_on(const struct placement *p, uint32_t host, uint32_t instance);

/* What one host is for this need. */
int placement_judge(const struct placement *p, const struct placement_need *need, uint32_t host,
                    struct placement_candidate *ret);

/*
 * All hosts judged, the best first (then those that do not fit, the nearest miss first; ties by
 * number); at most max are written. O(hosts log hosts). -ENOMEM.
 */
int placement_explain(const struct placement *p, const struct placement_need *need,
                      struct placement_candidate *ret, size_t max, size_t *ret_count);

const char *placement_rule_name(enum placement_rule rule); /* "best-fit", "worst-fit", ... */
int placement_rule_parse(const char *name);                /* -EINVAL */
const char *placement_verdict_text(enum placement_verdict verdict);

#endif
