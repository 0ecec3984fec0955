/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The grid: a host lies in the cell (level of its free processors, level of its free memory); hosts
 * of a cell are a list, rows of cells a bit map. Level l holds amounts from l to below l + 1 parts
 * of PLACEMENT_GRID of the unit, so a host in a cell above the level of a need surely fits.
 */
#include "policy/placement_internal.h"

#include "base/util.h"

static uint32_t cell_of(const struct placement *p, const struct placement_host_entry *host)
{
    return placement_level(p, 0, host->free[0]) * PLACEMENT_LEVELS +
           placement_level(p, 1, host->free[1]);
}

void placement_index_add(struct placement *p, uint32_t host)
{
    struct placement_host_entry *h = &p->hosts[host];
    uint32_t *first;

    h->cell = cell_of(p, h);
    first = &p->cells[h->cell];
    h->cell_next = *first;
    h->cell_previous = PLACEMENT_NONE;
    if (*first != PLACEMENT_NONE)
        p->hosts[*first].cell_previous = host;
    else
        p->rows[h->cell / PLACEMENT_LEVELS][h->cell % PLACEMENT_LEVELS / 64] |=
            UINT64_C(1) << h->cell % PLACEMENT_LEVELS % 64;
    *first = host;
}

void placement_index_remove(struct placement *p, uint32_t host)
{
    struct placement_host_entry *h = &p->hosts[host];

    if (h->cell == PLACEMENT_NO_CELL)
        return;
    if (h->cell_next != PLACEMENT_NONE)
        p->hosts[h->cell_next].cell_previous = h->cell_previous;
    if (h->cell_previous != PLACEMENT_NONE)
        p->hosts[h->cell_previous].cell_next = h->cell_next;
    else
        p->cells[h->cell] = h->cell_next;
    if (p->cells[h->cell] == PLACEMENT_NONE)
        p->rows[h->cell / PLACEMENT_LEVELS][h->cell % PLACEMENT_LEVELS / 64] &=
            ~(UINT64_C(1) << h->cell % PLACEMENT_LEVELS % 64);
    h->cell = PLACEMENT_NO_CELL;
}

void placement_index_update(struct placement *p, uint32_t host)
{
    struct placement_host_entry *h = &p->hosts[host];

    if (h->cell == PLACEMENT_NO_CELL || h->cell == cell_of(p, h))
        return;
    placement_index_remove(p, host);
    placement_index_add(p, host);
}

void placement_index_scale(struct placement *p, const uint32_t *capacity)
{
    bool larger = false;

    for (unsigned r = 0; r < 2; r++)
        if (capacity[r] > p->unit[r]) {
            uint64_t step = p->unit[r] + (uint64_t)p->unit[r] / 8;

            p->unit[r] = (uint32_t)MIN(MAX(step, capacity[r]), UINT32_MAX);
            larger = true;
        }
    if (!larger)
        return;
    memset(p->rows, 0, sizeof(p->rows));
    for (uint32_t i = 0; i < ARRAY_LEN(p->cells); i++)
        p->cells[i] = PLACEMENT_NONE;
    for (uint32_t host = 0; host < p->nr_hosts; host++)
        if (p->hosts[host].cell != PLACEMENT_NO_CELL)
            placement_index_add(p, host);
}

int placement_row_up(const struct placement *p, unsigned row, unsigned column)
{
    unsigned word = column / 64;
    uint64_t bits;

    if (column >= PLACEMENT_LEVELS)
        return -1;
    bits = p->rows[row][word] & ~UINT64_C(0) << column % 64;
    while (!bits && ++word < PLACEMENT_WORDS)
        bits = p->rows[row][word];
    return bits ? (int)word * 64 + __builtin_ctzll(bits) : -1;
}

int placement_row_down(const struct placement *p, unsigned row, int column)
{
    int word = column / 64;
    uint64_t bits;

    if (column < 0)
        return -1;
    bits = p->rows[row][word] & ~UINT64_C(0) >> (63 - column % 64);
    while (!bits && --word >= 0)
        bits = p->rows[row][word];
    return bits ? word * 64 + 63 - __builtin_clzll(bits) : -1;
}
