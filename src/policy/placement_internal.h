/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a placement, shared by placement.c (hosts and instances come, go and move),
 * placement_index.c (the grid), placement_groups.c (how many of a group are where) and
 * placement_choose.c (judging and choosing).
 */
#ifndef LODGE_POLICY_PLACEMENT_INTERNAL_H
#define LODGE_POLICY_PLACEMENT_INTERNAL_H

#include "policy/placement.h"

#define PLACEMENT_LEVELS                                                     \
    (PLACEMENT_GRID + 1) /* 0 ... PLACEMENT_GRID: quite empty of the largest \
                          */
#define PLACEMENT_WORDS   ((PLACEMENT_LEVELS + 63) / 64)
#define PLACEMENT_NO_CELL UINT32_MAX

struct placement_host_entry {
    uint32_t capacity[PLACEMENT_RESOURCES];
    uint32_t free[PLACEMENT_RESOURCES];
    uint64_t labels;
    uint32_t instances, first_instance;
    uint32_t cell, cell_next, cell_previous; /* PLACEMENT_NO_CELL: closed or removed */
    uint8_t zone;
    bool open, present;
};

struct placement_instance_entry {
    uint32_t host; /* PLACEMENT_NONE: a free place */
    uint32_t need[PLACEMENT_RESOURCES];
    uint32_t group;
    uint64_t labels, labels_avoid;
    uint32_t next, previous; /* on the same host; next: in the list of free places */
    uint16_t group_max_per_host;
    bool group_together, spread_zones;
    float load_max;
};

/* Counts under 64-bit keys: open addressing, linear probing. */
struct placement_counts {
    uint64_t *keys; /* 0: empty */
    uint32_t *counts;
    uint32_t size, used;
};

struct placement {
    struct placement_config config;
    struct placement_host_entry *hosts;
    uint32_t nr_hosts, hosts_room;
    struct placement_instance_entry *instances;
    uint32_t nr_instances, instances_room, free_instance;
    struct placement_counts groups;
    uint32_t zone_hosts[PLACEMENT_ZONES];

    uint32_t unit[2];                                    /* grid: capacity of the highest level */
    uint32_t cells[PLACEMENT_LEVELS * PLACEMENT_LEVELS]; /* first host */
    uint64_t rows[PLACEMENT_LEVELS][PLACEMENT_WORDS];    /* which cells are not empty */
};

/* placement_index.c */
void placement_index_add(struct placement *p, uint32_t host);
void placement_index_remove(struct placement *p, uint32_t host);
void placement_index_update(struct placement *p, uint32_t host);
/* A host of this capacity comes: the grid is laid out again if it is the largest. */
void placement_index_scale(struct placement *p, const uint32_t *capacity);
/* The next cell of a row that is not empty, at `column` or above (or below); -1: none. */
int placement_row_up(const struct placement *p, unsigned row, unsigned column);
int placement_row_down(const struct placement *p, unsigned row, int column);

static inline unsigned placement_level(const struct placement *p, unsigned r, uint32_t amount)
{
    uint64_t level = p->unit[r] ? (uint64_t)amount * PLACEMENT_GRID / p->unit[r] : 0;

    return level < PLACEMENT_GRID ? (unsigned)level : PLACEMENT_GRID;
}

/* placement_groups.c */
uint32_t placement_group_count(const struct placement *p, uint32_t group, uint32_t host);
uint32_t placement_group_in_zone(const struct placement *p, uint32_t group, unsigned zone);
uint32_t placement_group_size(const struct placement *p, uint32_t group);
int placement_group_reserve(struct placement *p); /* room for one more instance: -ENOMEM */
void placement_group_add(struct placement *p, uint32_t group, uint32_t host);
void placement_group_remove(struct placement *p, uint32_t group, uint32_t host);

/* placement.c: to where it was a moment ago, whatever its constraints say */
void placement_move_back(struct placement *p, uint32_t instance, uint32_t host);

/* placement_choose.c */
enum placement_verdict placement_check(const struct placement *p, const struct placement_need *need,
                                       uint32_t host);

#endif
