/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts and instances come, go and move; the sums and the index follow. */
#include "policy/placement_internal.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <math.h>

#define HOSTS_MAX     (UINT32_C(1) << 23)
#define INSTANCES_MAX (UINT32_C(1) << 27)

int placement_new(const struct placement_config *config, struct placement **ret, struct err *err)
{
    struct placement *p;

    if ((unsigned)config->rule >= PLACEMENT_RULES)
        return err_set(err, -EINVAL, "placement: no rule has the number %u", config->rule);
    for (unsigned r = 0; r < PLACEMENT_RESOURCES; r++)
        if (!(config->overcommit[r] >= 0) || config->overcommit[r] > 1000)
            return err_set(err, -EINVAL, "placement: overcommit %g is not within 0 ... 1000",
                           config->overcommit[r]);
    if (config->hosts_max > HOSTS_MAX || config->instances_max > INSTANCES_MAX)
        return err_set(err, -EINVAL, "placement: at most %u hosts and %u instances", HOSTS_MAX,
                       INSTANCES_MAX);
    p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(err, -ENOMEM, "placement: out of memory");
    p->config = *config;
    if (!p->config.hosts_max)
        p->config.hosts_max = HOSTS_MAX;
    if (!p->config.instances_max)
        p->config.instances_max = INSTANCES_MAX;
    p->free_instance = PLACEMENT_NONE;
    for (uint32_t i = 0; i < ARRAY_LEN(p->cells); i++)
        p->cells[i] = PLACEMENT_NONE;
    *ret = p;
    return 0;
}

void placement_free(struct placement *p)
{
    if (!p)
        return;
    free(p->hosts);
    free(p->instances);
    free(p->groups.keys);
    free(p->groups.counts);
    free(p);
}

static int make_room(void *array_pointer, size_t size, uint32_t *room, uint32_t used, uint32_t max)
{
    void **array = array_pointer, *grown;
    uint32_t count = *room ? *room * 2 : 64;

    if (used < *room)
        return 0;
    if (used >= max)
        return -ENOSPC;
    count = MIN(count, max);
    grown = realloc(*array, size * count);
    if (!grown)
        return -ENOMEM;
    *array = grown;
    *room = count;
    return 0;
}

int placement_host_add(struct placement *p, const struct placement_host *host, uint32_t *ret_host,
                       struct err *err)
{
    int r = make_room(&p->hosts, sizeof(p->hosts[0]), &p->hosts_room, p->nr_hosts,
                      p->config.hosts_max);
    struct placement_host_entry *h;

    if (r < 0)
        return err_set(err, r, "placement: no room for one host more than %u", p->nr_hosts);
    h = &p->hosts[p->nr_hosts];
    *h = (struct placement_host_entry){.labels = host->labels,
                                       .zone = host->zone,
                                       .first_instance = PLACEMENT_NONE,
                                       .cell = PLACEMENT_NO_CELL,
                                       .open = true,
                                       .present = true};
    for (unsigned k = 0; k < PLACEMENT_RESOURCES; k++) {
        double factor = p->config.overcommit[k] > 0 ? p->config.overcommit[k] : 1;

        h->capacity[k] = h->free[k] = (uint32_t)fmin(host->capacity[k] * factor, UINT32_MAX);
    }
    placement_index_scale(p, h->capacity);
    p->zone_hosts[h->zone]++;
    placement_index_add(p, p->nr_hosts);
    *ret_host = p->nr_hosts++;
    return 0;
}

int placement_host_open(struct placement *p, uint32_t host, bool open)
{
    if (host >= p->nr_hosts || !p->hosts[host].present)
        return -ENOENT;
    if (open == p->hosts[host].open)
        return 0;
    p->hosts[host].open = open;
    if (open)
        placement_index_add(p, host);
    else
        placement_index_remove(p, host);
    return 0;
}

int placement_host_remove(struct placement *p, uint32_t host)
{
    if (host >= p->nr_hosts || !p->hosts[host].present)
        return -ENOENT;
    if (p->hosts[host].instances)
        return -EBUSY;
    placement_host_open(p, host, false);
    p->hosts[host].present = false;
    p->zone_hosts[p->hosts[host].zone]--;
    return 0;
}

int placement_host_state(const struct placement *p, uint32_t host, struct placement_state *ret)
{
    const struct placement_host_entry *h;

    if (host >= p->nr_hosts)
        return -ENOENT;
    h = &p->hosts[host];
    *ret = (struct placement_state){.instances = h->instances,
                                    .labels = h->labels,
                                    .zone = h->zone,
                                    .open = h->open,
                                    .present = h->present};
    memcpy(ret->capacity, h->capacity, sizeof(ret->capacity));
    memcpy(ret->free, h->free, sizeof(ret->free));
    return 0;
}

uint32_t placement_hosts(const struct placement *p)
{
    return p->nr_hosts;
}

static void attach(struct placement *p, uint32_t instance, uint32_t host)
{
    struct placement_instance_entry *e = &p->instances[instance];
    struct placement_host_entry *h = &p->hosts[host];

    e->host = host;
    e->previous = PLACEMENT_NONE;
    e->next = h->first_instance;
    if (e->next != PLACEMENT_NONE)
        p->instances[e->next].previous = instance;
    h->first_instance = instance;
    h->instances++;
    for (unsigned r = 0; r < PLACEMENT_RESOURCES; r++)
        h->free[r] -= e->need[r];
    if (e->group)
        placement_group_add(p, e->group, host);
    placement_index_update(p, host);
}

static void detach(struct placement *p, uint32_t instance)
{
    struct placement_instance_entry *e = &p->instances[instance];
    struct placement_host_entry *h = &p->hosts[e->host];

    if (e->next != PLACEMENT_NONE)
        p->instances[e->next].previous = e->previous;
    if (e->previous != PLACEMENT_NONE)
        p->instances[e->previous].next = e->next;
    else
        h->first_instance = e->next;
    h->instances--;
    for (unsigned r = 0; r < PLACEMENT_RESOURCES; r++)
        h->free[r] += e->need[r];
    if (e->group)
        placement_group_remove(p, e->group, e->host);
    placement_index_update(p, e->host);
}

static int put(struct placement *p, const struct placement_need *need, uint32_t host,
               uint32_t *ret_instance, struct err *err)
{
    uint32_t instance = p->free_instance;
    int r = 0;

    if (need->group)
        r = placement_group_reserve(p);
    if (r >= 0 && instance == PLACEMENT_NONE)
        r = make_room(&p->instances, sizeof(p->instances[0]), &p->instances_room, p->nr_instances,
                      p->config.instances_max);
    if (r < 0)
        return err_set(err, r, "placement: no room for one instance more than %u", p->nr_instances);
    if (instance != PLACEMENT_NONE)
        p->free_instance = p->instances[instance].next;
    else
        instance = p->nr_instances++;
    p->instances[instance] =
        (struct placement_instance_entry){.group = need->group,
                                          .labels = need->labels,
                                          .labels_avoid = need->labels_avoid,
                                          .group_max_per_host = need->group_max_per_host,
                                          .group_together = need->group_together,
                                          .spread_zones = need->spread_zones,
                                          .load_max = (float)need->load_max};
    memcpy(p->instances[instance].need, need->need, sizeof(need->need));
    attach(p, instance, host);
    *ret_instance = instance;
    return 0;
}

static int check_place(const struct placement *p, const struct placement_need *need, uint32_t host,
                       struct err *err)
{
    enum placement_verdict verdict;

    if (host >= p->nr_hosts)
        return err_set(err, -ENOENT, "there is no host %u", host);
    verdict = placement_check(p, need, host);
    if (verdict == PLACEMENT_FITS)
        return 0;
    return err_set(err, verdict <= PLACEMENT_SHORT_OF_DISK ? -ENOSPC : -EPERM, "host %u: %s", host,
                   placement_verdict_text(verdict));
}

int placement_commit(struct placement *p, const struct placement_need *need, uint32_t host,
                     uint32_t *ret_instance, struct err *err)
{
    int r = check_place(p, need, host, err);

    return r < 0 ? r : put(p, need, host, ret_instance, err);
}

int placement_place(struct placement *p, const struct placement_need *need, uint32_t *ret_host,
                    uint32_t *ret_instance, struct err *err)
{
    struct placement_choice choice;
    int r = placement_choose(p, need, &choice, err);

    if (r < 0)
        return r;
    if (choice.host == PLACEMENT_NONE)
        return err_set(err, -ENOSPC,
                       "no host of %u takes it: %u thousandths of a processor, %u MiB of memory, "
                       "%u MiB of disk, with its constraints",
                       p->nr_hosts, need->need[PLACEMENT_CPU], need->need[PLACEMENT_MEMORY],
                       need->need[PLACEMENT_DISK]);
    r = put(p, need, choice.host, ret_instance, err);
    if (r >= 0)
        *ret_host = choice.host;
    return r;
}

static bool is_placed(const struct placement *p, uint32_t instance)
{
    return instance < p->nr_instances && p->instances[instance].host != PLACEMENT_NONE;
}

int placement_remove(struct placement *p, uint32_t instance)
{
    if (!is_placed(p, instance))
        return -ENOENT;
    detach(p, instance);
    p->instances[instance].host = PLACEMENT_NONE;
    p->instances[instance].next = p->free_instance;
    p->free_instance = instance;
    return 0;
}

int placement_move(struct placement *p, uint32_t instance, uint32_t host, struct err *err)
{
    struct placement_need need;
    uint32_t from = placement_where(p, instance, &need);
    int r;

    if (from == PLACEMENT_NONE)
        return err_set(err, -ENOENT, "there is no instance %u", instance);
    if (from == host)
        return 0;
    detach(p, instance);
    r = check_place(p, &need, host, err);
    if (r >= 0 && need.group)
        r = placement_group_reserve(p);
    attach(p, instance, r < 0 ? from : host);
    return r;
}

void placement_move_back(struct placement *p, uint32_t instance, uint32_t host)
{
    detach(p, instance);
    attach(p, instance, host);
}

uint32_t placement_where(const struct placement *p, uint32_t instance, struct placement_need *ret)
{
    const struct placement_instance_entry *e;

    if (!is_placed(p, instance))
        return PLACEMENT_NONE;
    e = &p->instances[instance];
    if (ret) {
        *ret = (struct placement_need){.group = e->group,
                                       .labels = e->labels,
                                       .labels_avoid = e->labels_avoid,
                                       .group_max_per_host = e->group_max_per_host,
                                       .group_together = e->group_together,
                                       .spread_zones = e->spread_zones,
                                       .load_max = (double)e->load_max};
        memcpy(ret->need, e->need, sizeof(ret->need));
    }
    return e->host;
}

uint32_t placement_next_on(const struct placement *p, uint32_t host, uint32_t instance)
{
    if (host >= p->nr_hosts)
        return PLACEMENT_NONE;
    if (instance == PLACEMENT_NONE)
        return p->hosts[host].first_instance;
    return is_placed(p, instance) ? p->instances[instance].next : PLACEMENT_NONE;
}
