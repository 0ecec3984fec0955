/* SPDX-License-Identifier: Apache-2.0 */
/* lodge plan what-if on hosts and instances: what a fleet comes to, before and after the changes.
 * "One host less" is a host taken away; who was on it goes where there is room. */
#include "cmd/plan_fleet.h"

#include "base/cleanup.h"

#include <math.h>
#include <string.h>

static int read_document(const struct document *document, struct fleet **ret, struct err *err)
{
    struct json_at root;

    json_at_root(document->root, &root);
    return fleet_read(&root, ret, err) < 0 ? document_error(document, err) : 0;
}

/* The hosts alone. */
static int read_hosts(const json_t *root, struct fleet **ret, struct err *err)
{
    CLEANUP(json_decrefp)
    json_t *hosts = json_pack("{s:O?}", "hosts", json_object_get(root, "hosts"));
    struct json_at at;

    if (!hosts)
        return err_set(err, -ENOMEM, "hosts");
    json_at_root(hosts, &at);
    return fleet_read(&at, ret, err);
}

int plan_fleet_let_go(const json_t *was, json_t *root, struct err *err)
{
    CLEANUP(fleet_freep) struct fleet *then = NULL, *now = NULL;
    const json_t *instances = json_object_get(root, "instances");
    int r;

    if ((r = read_hosts(was, &then, err)) < 0 || (r = read_hosts(root, &now, err)) < 0)
        return r;
    for (size_t i = 0; i < json_array_size(instances); i++) {
        json_t *one = json_array_get(instances, i);
        const char *host = json_string_value(json_object_get(one, "host"));

        if (host && fleet_host(then, host) != PLACEMENT_NONE &&
            fleet_host(now, host) == PLACEMENT_NONE)
            json_object_del(one, "host");
    }
    return 0;
}

static void put_hosts(const struct fleet *fleet, json_t *to)
{
    double sum = 0, squares = 0, most = 0, busy = 0, n = fleet->nr_hosts;
    json_int_t used = 0;

    for (uint32_t i = 0; i < fleet->nr_hosts; i++) {
        double load = balancing_load(fleet->placement, i);

        sum += load;
        squares += load * load;
        most = fmax(most, load);
        busy = fmax(busy,
                    fleet->host_cores[i] > 0 ? fleet->host_busy[i] / fleet->host_cores[i] : 0);
        used += placement_next_on(fleet->placement, i, PLACEMENT_NONE) != PLACEMENT_NONE;
    }
    json_object_set_new(to, "hosts", json_integer((json_int_t)fleet->nr_hosts));
    json_object_set_new(to, "hosts_used", json_integer(used));
    json_object_set_new(to, "reserved_mean", json_real(sum / n));
    json_object_set_new(to, "reserved_most", json_real(most));
    json_object_set_new(to, "spread", json_real(sqrt(fmax(squares / n - sum / n * sum / n, 0))));
    json_object_set_new(to, "busy_most", json_real(busy));
}

static void put_kinds(const struct fleet *fleet, json_t *to)
{
    uint64_t wanted = 0, placed = 0;

    for (size_t k = 0; k < fleet->nr_kinds; k++) {
        const struct fleet_kind *kind = &fleet->kinds[k];
        char name[FLEET_NAME_MAX + 16];

        wanted += kind->count;
        placed += kind->placed;
        snprintf(name, sizeof(name), "placed_%s", kind->name);
        json_object_set_new(to, name, json_integer((json_int_t)kind->placed));
    }
    json_object_set_new(to, "wanted", json_integer((json_int_t)wanted));
    json_object_set_new(to, "without_room", json_integer((json_int_t)(wanted - placed)));
}

int plan_fleet_figures(const struct plan_arguments *arguments, const struct document *document,
                       json_t **ret, struct err *err)
{
    CLEANUP(fleet_freep) struct fleet *fleet = NULL;
    double busy_most = .8;
    struct fleet_fit fit;
    char name[FLEET_NAME_MAX + 16];
    size_t kind = 0;
    int r = read_document(document, &fleet, err);

    if (r < 0 || (r = plan_number(arguments, "busy-most", .01, 10, &busy_most, err)) < 0 ||
        (r = fleet_place_all(fleet, err)) < 0 ||
        (r = plan_fleet_kind(arguments, fleet, &kind, err)) < 0)
        return r;
    *ret = json_object();
    put_hosts(fleet, *ret);
    put_kinds(fleet, *ret);
    if ((r = fleet_fit(fleet, kind, busy_most, 1000000, &fit, err)) < 0)
        return r;
    snprintf(name, sizeof(name), "more_%s", fleet->kinds[kind].name);
    json_object_set_new(*ret, name, json_integer((json_int_t)fleet_fit_more(&fit)));
    return 0;
}
