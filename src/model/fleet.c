/* SPDX-License-Identifier: Apache-2.0 */
/* A fleet's file, and questions to its placement. */
#include "model/fleet.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint32_t units(double value, double scale)
{
    return (uint32_t)llround(fmin(value * scale, 4e9));
}

static struct fleet *fleet_new(uint32_t hosts, size_t kinds, const double overcommit[3])
{
    struct fleet *fleet = calloc(1, sizeof(*fleet));

    if (!fleet)
        return NULL;
    fleet->host_names = calloc(hosts, sizeof(*fleet->host_names));
    fleet->host_cores = calloc(hosts, sizeof(double));
    fleet->host_busy = calloc(hosts, sizeof(double));
    fleet->kinds = calloc(kinds ? kinds : 1, sizeof(*fleet->kinds));
    if (!fleet->host_names || !fleet->host_cores || !fleet->host_busy || !fleet->kinds) {
        fleet_free(fleet);
        return NULL;
    }
    for (unsigned i = 0; i < FLEET_LEVELS; i++)
        for (unsigned k = 0; k < ALLOCATION_RESOURCES; k++)
            fleet->levels[i].total[k] = ALLOCATION_UNLIMITED;
    fleet->nr_levels = 1;
    fleet->levels[FLEET_HOSTS].name = hosts > 1 ? "all hosts" : "the host";
    fleet->levels[FLEET_HOSTS].total[ALLOCATION_CPU] = 0;
    fleet->levels[FLEET_HOSTS].total[ALLOCATION_MEMORY] = 0;
    fleet->levels[FLEET_HOSTS].overcommit[ALLOCATION_CPU] = overcommit[0];
    fleet->levels[FLEET_HOSTS].overcommit[ALLOCATION_MEMORY] = overcommit[1];
    return fleet;
}

/* What admission promises to one of that kind: cores, bytes. */
static void reservation_of(const struct fleet_kind *kind, double ret[ALLOCATION_RESOURCES])
{
    memset(ret, 0, ALLOCATION_RESOURCES * sizeof(*ret));
    ret[ALLOCATION_CPU] = kind->need.need[PLACEMENT_CPU] / 1000.0;
    ret[ALLOCATION_MEMORY] = kind->need.need[PLACEMENT_MEMORY] * 1048576.0;
}

void fleet_free(struct fleet *fleet)
{
    placement_free(fleet->placement);
    free(fleet->host_names);
    free(fleet->host_cores);
    free(fleet->host_busy);
    free(fleet->kinds);
    free(fleet->instance_kinds);
    free(fleet);
}

uint32_t fleet_host(const struct fleet *fleet, const char *name)
{
    for (uint32_t i = 0; i < fleet->nr_hosts; i++)
        if (!strcmp(fleet->host_names[i], name))
            return i;
    return PLACEMENT_NONE;
}

static int host_add(struct fleet *fleet, const char *name, const double capacity[3], uint8_t zone,
                    struct err *err)
{
    struct placement_host host = {
        .capacity = {units(capacity[0], 1000), units(capacity[1], 1), units(capacity[2], 1)},
        .zone = zone};
    uint32_t number;
    int r = placement_host_add(fleet->placement, &host, &number, err);

    if (r < 0)
        return r;
    snprintf(fleet->host_names[fleet->nr_hosts], FLEET_NAME_MAX, "%s", name);
    fleet->host_cores[fleet->nr_hosts++] = capacity[0];
    fleet->levels[FLEET_HOSTS].total[ALLOCATION_CPU] += capacity[0];
    fleet->levels[FLEET_HOSTS].total[ALLOCATION_MEMORY] += capacity[1] * 1048576;
    return 0;
}

/* ---- the file ---- */

static int read_capacity(const struct json_at *at, double *ret, struct err *err)
{
    int r = document_number(at, "cpus", 0, 4e6, &ret[0], err);

    if (r == 0)
        r = document_number(at, "memory", 0, 4e9, &ret[1], err);
    return r < 0 ? r : document_opt_number(at, "disk", 0, 4e9, &ret[2], err);
}

static int read_hosts(const struct json_at *list, struct fleet *fleet, struct err *err)
{
    static const char *const known[] = {"name", "count", "cpus", "memory", "disk", "zone", NULL};
    size_t nr = json_array_size(list->value);
    int r = 0;

    for (size_t i = 0; r == 0 && i < nr; i++) {
        double capacity[3] = {0, 0, 4e9};
        uint64_t count = 1, zone = 0;
        struct json_at at;
        const char *name;

        if ((r = json_at_index(list, i, &at, err)) < 0 ||
            (r = json_reject_unknown(&at, known, err)) < 0 ||
            (r = json_get_string(&at, "name", &name, err)) < 0 ||
            (r = document_opt_count(&at, "count", 1, FLEET_HOSTS_MAX, &count, err)) < 0 ||
            (r = document_opt_count(&at, "zone", 0, PLACEMENT_ZONES - 1, &zone, err)) < 0 ||
            (r = read_capacity(&at, capacity, err)) < 0)
            break;
        for (unsigned k = 0; r == 0 && k < count; k++) {
            char numbered[FLEET_NAME_MAX];

            if (count > 1)
                snprintf(numbered, sizeof(numbered), "%.30s.%u", name, k + 1);
            else
                snprintf(numbered, sizeof(numbered), "%.40s", name);
            r = host_add(fleet, numbered, capacity, (uint8_t)zone, err);
        }
    }
    return r;
}

static int count_hosts(const struct json_at *list, uint32_t *ret, struct err *err)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < json_array_size(list->value) && sum <= FLEET_HOSTS_MAX; i++) {
        uint64_t count = 1;
        struct json_at at;
        int r = json_at_index(list, i, &at, err);

        if (r < 0 || (r = document_opt_count(&at, "count", 1, FLEET_HOSTS_MAX, &count, err)) < 0)
            return r;
        sum += count;
    }
    if (sum < 1 || sum > FLEET_HOSTS_MAX)
        return err_set(err, -EINVAL, "hosts: 1 to %u hosts are needed", FLEET_HOSTS_MAX);
    *ret = (uint32_t)sum;
    return 0;
}

static int read_kind(const struct json_at *list, size_t i, struct fleet *fleet, struct err *err)
{
    static const char *const known[] = {"name",         "count",  "cpus",       "memory",
                                        "disk",         "busy",   "group",      "host",
                                        "max_per_host", "spread", "dirty_rate", NULL};
    struct fleet_kind *kind = &fleet->kinds[i];
    double capacity[3] = {0};
    uint64_t count = 1, group = 0, most = 0;
    const char *name, *host = NULL;
    struct json_at at;
    bool spread = false;
    int r = json_at_index(list, i, &at, err);

    kind->dirty_rate = -1;
    if (r < 0 || (r = json_reject_unknown(&at, known, err)) < 0 ||
        (r = json_get_string(&at, "name", &name, err)) < 0 ||
        (r = document_opt_count(&at, "count", 0, FLEET_INSTANCES_MAX, &count, err)) < 0 ||
        (r = document_opt_number(&at, "busy", 0, 1e6, &kind->busy, err)) < 0 ||
        (r = document_opt_number(&at, "dirty_rate", 0, 1e9, &kind->dirty_rate, err)) < 0 ||
        (r = document_opt_count(&at, "group", 0, 1000000000, &group, err)) < 0 ||
        (r = document_opt_count(&at, "max_per_host", 0, 65535, &most, err)) < 0 ||
        (r = json_opt_bool(&at, "spread", &spread, err)) < 0 ||
        (r = json_opt_string(&at, "host", &host, err)) < 0 ||
        (r = read_capacity(&at, capacity, err)) < 0)
        return r;
    snprintf(kind->name, sizeof(kind->name), "%.40s", name);
    kind->count = count;
    kind->need = (struct placement_need){
        .need = {units(capacity[0], 1000), units(capacity[1], 1), units(capacity[2], 1)},
        .group = group > 0            ? (uint32_t)group
                 : most > 0 || spread ? (uint32_t)i + 1
                                      : 0,
        .group_max_per_host = (uint16_t)most,
        .spread_zones = spread};
    kind->fixed = PLACEMENT_NONE;
    if (host && (kind->fixed = fleet_host(fleet, host)) == PLACEMENT_NONE)
        return err_set(err, -EINVAL, "%s.host: there is no host '%.40s'", at.path, host);
    return 0;
}

static int instance_note(struct fleet *fleet, uint32_t instance, size_t kind, uint32_t host,
                         struct err *err)
{
    double reservation[ALLOCATION_RESOURCES];

    if (instance >= fleet->instance_capacity) {
        size_t capacity = MAX(2 * fleet->instance_capacity, (size_t)instance + 64);
        uint32_t *kinds = reallocarray(fleet->instance_kinds, capacity, sizeof(*kinds));

        if (!kinds)
            return err_set(err, -ENOMEM, "fleet");
        fleet->instance_kinds = kinds;
        fleet->instance_capacity = capacity;
    }
    fleet->instance_kinds[instance] = (uint32_t)kind;
    fleet->host_busy[host] += fleet->kinds[kind].busy;
    fleet->kinds[kind].placed++;
    reservation_of(&fleet->kinds[kind], reservation);
    for (size_t i = 0; i < fleet->nr_levels; i++)
        admission_add(&fleet->levels[i], reservation);
    return 0;
}

static int put_fixed(struct fleet *fleet, struct err *err)
{
    for (size_t k = 0; k < fleet->nr_kinds; k++) {
        struct fleet_kind *kind = &fleet->kinds[k];
        uint32_t instance;
        int r = 0;

        while (kind->fixed != PLACEMENT_NONE && r == 0 && kind->placed < kind->count) {
            r = placement_commit(fleet->placement, &kind->need, kind->fixed, &instance, err);
            if (r < 0)
                return err_wrap(err, "instances[%zu].host: %s does not take number %llu", k,
                                fleet->host_names[kind->fixed],
                                (unsigned long long)kind->placed + 1);
            r = instance_note(fleet, instance, k, kind->fixed, err);
        }
        if (r < 0)
            return r;
    }
    return 0;
}

static int read_config(const struct json_at *root, struct placement_config *config, struct err *err)
{
    static const char *const known[] = {"cpu", "memory", "disk", NULL};
    const char *rule = NULL;
    struct json_at overcommit;
    int r = json_opt_string(root, "rule", &rule, err);

    if (r < 0 || (r = json_at_member(root, "overcommit", &overcommit, err)) < 0)
        return r;
    if (rule && (r = placement_rule_parse(rule)) < 0)
        return err_set(err, -EINVAL,
                       "rule: '%.40s' is not one of best-fit, worst-fit, dot-product, dominant",
                       rule);
    config->rule = rule ? (enum placement_rule)r : PLACEMENT_BEST_FIT;
    if (!overcommit.value)
        return 0;
    if ((r = json_reject_unknown(&overcommit, known, err)) < 0)
        return r;
    for (unsigned i = 0; r == 0 && i < 3; i++)
        r = document_opt_number(&overcommit, known[i], .01, 100, &config->overcommit[i], err);
    return r;
}

static int read_environment(const struct json_at *root, struct fleet *fleet, struct err *err)
{
    static const char *const known[] = {"name", "cpus", "memory", "instances", NULL};
    struct admission_level *level = &fleet->levels[FLEET_ENVIRONMENT];
    double cpus = -1, memory = -1;
    uint64_t instances = 0;
    struct json_at at;
    const char *name;
    int r = json_at_member(root, "environment", &at, err);

    if (r < 0 || !at.value)
        return r;
    if ((r = json_reject_unknown(&at, known, err)) < 0 ||
        (r = json_get_string(&at, "name", &name, err)) < 0 ||
        (r = document_opt_number(&at, "cpus", 0, 4e9, &cpus, err)) < 0 ||
        (r = document_opt_number(&at, "memory", 0, 4e12, &memory, err)) < 0 ||
        (r = document_opt_count(&at, "instances", 1, 1000000000, &instances, err)) < 0)
        return r;
    snprintf(fleet->environment, sizeof(fleet->environment), "environment %.30s", name);
    level->name = fleet->environment;
    if (cpus >= 0)
        level->total[ALLOCATION_CPU] = cpus;
    if (memory >= 0)
        level->total[ALLOCATION_MEMORY] = memory * 1048576;
    level->instances_max = instances;
    fleet->nr_levels = FLEET_ENVIRONMENT + 1;
    return 0;
}

int fleet_read(const struct json_at *root, struct fleet **ret, struct err *err)
{
    static const char *const known[] = {"name",       "hosts",       "instances", "rule",
                                        "overcommit", "environment", NULL};
    CLEANUP(fleet_freep) struct fleet *fleet = NULL;
    struct placement_config config = {0};
    struct json_at hosts, instances;
    uint32_t nr;
    size_t kinds;
    int r;

    if ((r = json_reject_unknown(root, known, err)) < 0 ||
        (r = json_at_member(root, "hosts", &hosts, err)) < 0 ||
        (r = json_at_member(root, "instances", &instances, err)) < 0 ||
        (r = count_hosts(&hosts, &nr, err)) < 0 || (r = read_config(root, &config, err)) < 0)
        return r;
    if (instances.value && !json_is_array(instances.value))
        return err_set(err, -EINVAL, "instances: an array is needed");
    kinds = json_array_size(instances.value);
    if (kinds > FLEET_KINDS_MAX)
        return err_set(err, -EINVAL, "instances: more than %u kinds", FLEET_KINDS_MAX);
    if (!(fleet = fleet_new(nr, kinds, config.overcommit)))
        return err_set(err, -ENOMEM, "fleet");
    fleet->rule = config.rule;
    if ((r = placement_new(&config, &fleet->placement, err)) < 0 ||
        (r = read_hosts(&hosts, fleet, err)) < 0 || (r = read_environment(root, fleet, err)) < 0)
        return r;
    for (; r == 0 && fleet->nr_kinds < kinds; fleet->nr_kinds++)
        r = read_kind(&instances, fleet->nr_kinds, fleet, err);
    if (r == 0)
        r = put_fixed(fleet, err);
    if (r == 0)
        *ret = TAKE_PTR(fleet);
    return r;
}

int fleet_of_host(double cores, double memory_mib, double disk_mib, struct fleet **ret,
                  struct err *err)
{
    struct placement_config config = {.rule = PLACEMENT_BEST_FIT};
    CLEANUP(fleet_freep) struct fleet *fleet = fleet_new(1, 1, config.overcommit);
    const double capacity[3] = {cores, memory_mib, disk_mib};
    int r;

    if (!fleet)
        return err_set(err, -ENOMEM, "fleet");
    if ((r = placement_new(&config, &fleet->placement, err)) < 0 ||
        (r = host_add(fleet, "this host", capacity, 0, err)) < 0)
        return r;
    fleet->nr_kinds = 1;
    fleet->kinds[0].fixed = PLACEMENT_NONE;
    *ret = TAKE_PTR(fleet);
    return 0;
}

/* ---- questions ---- */

int fleet_place_one(struct fleet *fleet, size_t kind, uint32_t *ret_host, uint32_t *ret_instance,
                    struct err *err)
{
    int r = placement_place(fleet->placement, &fleet->kinds[kind].need, ret_host, ret_instance,
                            err);

    return r < 0 ? r : instance_note(fleet, *ret_instance, kind, *ret_host, err);
}

struct by_size {
    double size;
    size_t kind;
};

static int larger_first(const void *a, const void *b)
{
    const struct by_size *x = a, *y = b;

    if (x->size != y->size)
        return x->size < y->size ? 1 : -1;
    return x->kind < y->kind ? -1 : x->kind > y->kind;
}

int fleet_place_all(struct fleet *fleet, struct err *err)
{
    CLEANUP(freep) struct by_size *order = calloc(fleet->nr_kinds + 1, sizeof(*order));
    double largest[3] = {1, 1, 1};
    int r = 0;

    if (!order)
        return err_set(err, -ENOMEM, "fleet");
    for (size_t k = 0; k < fleet->nr_kinds; k++)
        for (unsigned i = 0; i < 3; i++)
            largest[i] = fmax(largest[i], fleet->kinds[k].need.need[i]);
    for (size_t k = 0; k < fleet->nr_kinds; k++) {
        order[k].kind = k;
        for (unsigned i = 0; i < 3; i++)
            order[k].size += fleet->kinds[k].need.need[i] / largest[i];
    }
    qsort(order, fleet->nr_kinds, sizeof(*order), larger_first);
    for (size_t k = 0; k < fleet->nr_kinds; k++) {
        struct fleet_kind *kind = &fleet->kinds[order[k].kind];

        for (r = 0; r == 0 && kind->placed < kind->count;) {
            uint32_t host, instance;

            r = fleet_place_one(fleet, order[k].kind, &host, &instance, err);
        }
        if (r < 0 && r != -ENOSPC)
            return r;
    }
    err_clear(err);
    return 0;
}

/* How many of the kind admission lets in, and how it refuses the next. */
static int ask_admission(const struct fleet *fleet, size_t kind, struct fleet_fit *fit,
                         struct err *err)
{
    double reservation[ALLOCATION_RESOURCES];
    struct admission_level then[FLEET_LEVELS];
    int r;

    reservation_of(&fleet->kinds[kind], reservation);
    if ((r = admission_ask(fleet->levels, fleet->nr_levels, reservation, &fit->refusal, err)) < 0)
        return r;
    fit->admitted = fit->refusal.admitted ? fit->refusal.copies : 0;
    if (fit->admitted == UINT64_MAX)
        return 0;
    memcpy(then, fleet->levels, sizeof(then));
    for (size_t i = 0; i < fleet->nr_levels; i++) {
        for (unsigned k = 0; k < ALLOCATION_RESOURCES; k++)
            then[i].reserved[k] += reservation[k] * (double)fit->admitted;
        then[i].instances += fit->admitted;
    }
    if ((r = admission_ask(then, fleet->nr_levels, reservation, &fit->refusal, err)) < 0)
        return r;
    if (!fit->refusal.admitted)
        admission_explain(then, &fit->refusal, fit->because, sizeof(fit->because));
    return 0;
}

int fleet_fit(struct fleet *fleet, size_t kind, double busy_most, uint64_t most,
              struct fleet_fit *ret, struct err *err)
{
    struct fleet_fit fit = {.copies_ok = UINT64_MAX, .busy_host = PLACEMENT_NONE};
    uint32_t host, instance;
    int r = ask_admission(fleet, kind, &fit, err);

    if (r < 0)
        return r;
    while (fit.copies < most && (r = fleet_place_one(fleet, kind, &host, &instance, err)) == 0) {
        if (fit.busy_host == PLACEMENT_NONE &&
            fleet->host_busy[host] > busy_most * fleet->host_cores[host]) {
            fit.copies_ok = fit.copies;
            fit.busy_host = host;
        }
        fit.copies++;
    }
    if (r < 0 && r != -ENOSPC)
        return r;
    for (uint32_t i = 0; i < fleet->nr_hosts; i++) {
        struct placement_candidate candidate;

        if (placement_judge(fleet->placement, &fleet->kinds[kind].need, i, &candidate) < 0)
            continue;
        for (unsigned k = 0; k < PLACEMENT_RESOURCES; k++)
            fit.short_of[k] += candidate.left[k] < 0;
        fit.forbidden += candidate.verdict > PLACEMENT_SHORT_OF_DISK;
    }
    err_clear(err);
    *ret = fit;
    return 0;
}
