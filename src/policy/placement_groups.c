/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many instances of a group are on a host, in a zone, and in all: counts under the key
 * (group, place), where a place is a host number, or one of two ranges above all host numbers.
 */
#include "policy/placement_internal.h"

#include <stdlib.h>

#define PLACE_ZONE UINT32_C(0xfffffe00)
#define PLACE_ALL  UINT32_C(0xffffffff)

static uint64_t key_of(uint32_t group, uint32_t place)
{
    return (uint64_t)group << 32 | place;
}

static uint32_t slot_of(const struct placement_counts *c, uint64_t key)
{
    uint64_t mixed = key * UINT64_C(0x9e3779b97f4a7c15);

    return (uint32_t)(mixed >> 32) & (c->size - 1);
}

static uint32_t find(const struct placement_counts *c, uint64_t key)
{
    uint32_t slot = slot_of(c, key);

    while (c->keys[slot] && c->keys[slot] != key)
        slot = (slot + 1) & (c->size - 1);
    return slot;
}

static uint32_t count(const struct placement *p, uint64_t key)
{
    const struct placement_counts *c = &p->groups;

    return c->size ? c->counts[find(c, key)] : 0;
}

uint32_t placement_group_count(const struct placement *p, uint32_t group, uint32_t host)
{
    return count(p, key_of(group, host));
}

uint32_t placement_group_in_zone(const struct placement *p, uint32_t group, unsigned zone)
{
    return count(p, key_of(group, PLACE_ZONE + zone));
}

uint32_t placement_group_size(const struct placement *p, uint32_t group)
{
    return count(p, key_of(group, PLACE_ALL));
}

/* At most half full; an instance adds at most three keys. */
int placement_group_reserve(struct placement *p)
{
    struct placement_counts *c = &p->groups, grown = {.used = c->used};

    if (c->size && (uint64_t)c->used + 3 <= c->size / 2)
        return 0;
    if (c->size > UINT32_MAX / 2)
        return -ENOMEM;
    grown.size = c->size ? c->size * 2 : 64;
    grown.keys = calloc(grown.size, sizeof(*grown.keys));
    grown.counts = calloc(grown.size, sizeof(*grown.counts));
    if (!grown.keys || !grown.counts) {
        free(grown.keys);
        free(grown.counts);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < c->size; i++)
        if (c->keys[i]) {
            uint32_t slot = find(&grown, c->keys[i]);

            grown.keys[slot] = c->keys[i];
            grown.counts[slot] = c->counts[i];
        }
    free(c->keys);
    free(c->counts);
    *c = grown;
    return 0;
}

static void add(struct placement_counts *c, uint64_t key)
{
    uint32_t slot = find(c, key);

    if (!c->keys[slot]) {
        c->keys[slot] = key;
        c->used++;
    }
    c->counts[slot]++;
}

/* A count that falls to 0 leaves, and what had to step aside for it moves back. */
static void subtract(struct placement_counts *c, uint64_t key)
{
    uint32_t mask = c->size - 1, hole = find(c, key);

    if (!c->keys[hole] || --c->counts[hole])
        return;
    c->used--;
    for (uint32_t slot = (hole + 1) & mask; c->keys[slot]; slot = (slot + 1) & mask) {
        uint32_t home = slot_of(c, c->keys[slot]);

        if (((slot - home) & mask) < ((slot - hole) & mask))
            continue;
        c->keys[hole] = c->keys[slot];
        c->counts[hole] = c->counts[slot];
        hole = slot;
    }
    c->keys[hole] = 0;
    c->counts[hole] = 0;
}

void placement_group_add(struct placement *p, uint32_t group, uint32_t host)
{
    add(&p->groups, key_of(group, host));
    add(&p->groups, key_of(group, PLACE_ZONE + p->hosts[host].zone));
    add(&p->groups, key_of(group, PLACE_ALL));
}

void placement_group_remove(struct placement *p, uint32_t group, uint32_t host)
{
    subtract(&p->groups, key_of(group, host));
    subtract(&p->groups, key_of(group, PLACE_ZONE + p->hosts[host].zone));
    subtract(&p->groups, key_of(group, PLACE_ALL));
}
