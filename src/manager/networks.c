/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places of managed instances on networks. A container's namespace is made and joined before its
 * runtime starts, by who holds the instance's lock, which the shim then inherits: the endpoints
 * belong to that lock. A VM's session (`lodge run --vm`) joins by itself, under the same lock.
 *
 *      RUN/i/ID/netns        the container's network namespace, mounted
 *      RUN/i/ID/resolv.conf
 */
#include "manager/internal.h"

#include "base/file.h"
#include "network/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void lock_path(const struct manager *m, const struct instance *instance, char *ret)
{
    run_path(m, ret, PATH_SIZE, "i/%s/lock", instance->id);
}

static int check_name(struct network_state *state, const char *name, struct err *err)
{
    return network_find(state, name)
               ? 0
               : err_set(err, -ENOENT,
                         "there is no network '%s'; `lodge network create %s` makes it", name,
                         name);
}

int networks_check(const struct spec *spec, struct err *err)
{
    struct network_state state;
    int result = 0;

    if (!spec_is_networked(spec))
        return 0;
    if ((result = network_state_open(NULL, true, &state, err)) < 0)
        return result;
    for (size_t i = 0; result == 0 && i <= spec->nr_more; i++)
        result = check_name(&state, i ? spec->more[i - 1] : spec->network, err);
    network_state_close(&state);
    return result;
}

int networks_check_name(const char *name, struct err *err)
{
    struct network_state state;
    int result;

    if (!name || !network_name_ok(name))
        return 0;
    if ((result = network_state_open(NULL, true, &state, err)) < 0)
        return result;
    result = check_name(&state, name, err);
    network_state_close(&state);
    return result;
}

static int write_resolv_conf(const char *path, const struct network *network, struct err *err)
{
    struct in_addr gateway = {htonl(network_gateway4(network))};
    char address[INET_ADDRSTRLEN], text[64];

    inet_ntop(AF_INET, &gateway, address, sizeof(address));
    snprintf(text, sizeof(text), "nameserver %s\noptions ndots:0\n", address);
    return file_replace_unsynced(AT_FDCWD, path, text, strlen(text), 0644, err);
}

/* One network after the other, the first with the published ports and the way out. */
static int join_all(struct network_state *state, const struct spec *spec,
                    struct network_attach *attach, const char *resolv_conf, struct err *err)
{
    struct net_forward ports[SPEC_PORTS_MAX];
    struct network_endpoint *endpoint = calloc(1, sizeof(*endpoint));
    int result = endpoint ? 0 : err_set(err, -ENOMEM, "out of memory");

    for (size_t i = 0; result == 0 && i < spec->nr_ports; i++)
        result = network_port_parse(spec->ports[i], &ports[i], err);
    attach->ports = ports;
    attach->nr_ports = (unsigned)spec->nr_ports;
    attach->address4 = spec->address4;
    if (result == 0)
        result = network_attach(state, spec->network, attach, endpoint, err);
    if (result == 0)
        result = write_resolv_conf(resolv_conf, network_find(state, spec->network), err);
    attach->nr_ports = 0;
    attach->address4 = NULL;
    attach->no_route = true;
    for (size_t i = 0; result == 0 && i < spec->nr_more; i++)
        result = network_attach(state, spec->more[i], attach, endpoint, err);
    free(endpoint);
    return result;
}

static int start_resolvers(struct manager *m, const struct spec *spec, bool coming, struct err *err)
{
    int result = resolvers_start(m, spec->network, coming, err);

    for (size_t i = 0; result == 0 && i < spec->nr_more; i++)
        result = resolvers_start(m, spec->more[i], coming, err);
    return result;
}

int networks_join(struct manager *m, const struct instance *instance, const struct spec *spec,
                  struct network_place *ret, struct err *err)
{
    CLEANUP(fd_closep) int netns = -1;
    char lock[PATH_SIZE];
    struct network_attach attach = {.id = instance->name, .keep = true, .lock = lock};
    struct network_state state;
    int result;

    lock_path(m, instance, lock);
    run_path(m, ret->namespace, sizeof(ret->namespace), "i/%s/netns", instance->id);
    run_path(m, ret->resolv_conf, sizeof(ret->resolv_conf), "i/%s/resolv.conf", instance->id);
    if ((result = network_state_open(NULL, false, &state, err)) < 0)
        return result;
    /* What an earlier run of it left, whose lock is held again now: by us. */
    result = network_detach_lock(&state, lock, NULL, err);
    if (result == 0 && (result = network_namespace_make(ret->namespace, &netns, err)) == 0) {
        attach.netns_fd = netns;
        result = join_all(&state, spec, &attach, ret->resolv_conf, err);
    }
    network_state_close(&state);
    return result < 0 ? result : start_resolvers(m, spec, false, err);
}

int networks_expect(struct manager *m, const struct spec *spec, struct err *err)
{
    return start_resolvers(m, spec, true, err);
}

int networks_user_mode(struct manager *m, const struct instance *instance, const struct spec *spec,
                       struct network_place *ret, struct err *err)
{
    char resolv_conf[4096] = "";
    CLEANUP(buf_donep) struct buf text;
    int result = 0;

    buf_init(&text, 1 << 16);
    buf_append_string(&text, spec->network);
    for (size_t i = 0; result == 0 && i < spec->nr_ports; i++)
        result = network_user_forward(spec->ports[i], &text, err);
    if (result < 0)
        return result;
    network_user_resolv_conf(resolv_conf, sizeof(resolv_conf));
    run_path(m, ret->resolv_conf, sizeof(ret->resolv_conf), "i/%s/resolv.conf", instance->id);
    if ((result = file_replace_unsynced(AT_FDCWD, ret->resolv_conf, resolv_conf,
                                        strlen(resolv_conf), 0644, err)) < 0)
        return result;
    ret->user = strdup(buf_string(&text) ?: "user");
    return ret->user ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static void detach(struct manager *m, const struct instance *instance, bool forget)
{
    struct network_state state;
    char path[PATH_SIZE];

    if (network_state_open(NULL, false, &state, NULL) == 0) {
        lock_path(m, instance, path);
        network_detach_lock(&state, path, forget ? instance->name : NULL, NULL);
        network_state_close(&state);
    }
    run_path(m, path, sizeof(path), "i/%s/netns", instance->id);
    network_namespace_remove(path);
}

/* One that was disconnected from its last network while it ran has its namespace yet. */
static bool has_namespace(struct manager *m, const struct instance *instance)
{
    char path[PATH_SIZE];

    run_path(m, path, sizeof(path), "i/%s/netns", instance->id);
    return access(path, F_OK) == 0;
}

void networks_leave(struct manager *m, const struct instance *instance)
{
    if (instance->brief->networked || has_namespace(m, instance))
        detach(m, instance, false);
}

void networks_forget(struct manager *m, const struct instance *instance)
{
    detach(m, instance, true);
}

int networks_rename(struct manager *m, const struct instance *instance, const char *from,
                    const char *to, struct err *err)
{
    struct network_state state;
    char lock[PATH_SIZE];
    int result;

    if (!instance->brief->networked)
        return 0;
    lock_path(m, instance, lock);
    if ((result = network_state_open(NULL, false, &state, err)) < 0)
        return result;
    result = network_rename(&state, lock, from, to, err);
    network_state_close(&state);
    return result;
}

/* The namespace of a container that runs: ours, or the one that its runtime made. */
static int open_namespace(struct manager *m, const struct instance *instance, struct err *err)
{
    char path[PATH_SIZE];
    int fd;

    run_path(m, path, sizeof(path), "i/%s/netns", instance->id);
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) >= 0)
        return fd;
    pthread_mutex_lock(&m->lock);
    snprintf(path, sizeof(path), "/proc/%d/ns/net", instance->pid > 1 ? (int)instance->pid : 0);
    pthread_mutex_unlock(&m->lock);
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return err_set(err, -ESRCH, "'%s' has no network namespace to connect: does it run?",
                       instance->name);
    return fd;
}

static unsigned places_of(const struct network_state *state, const char *lock)
{
    unsigned nr = 0;

    for (unsigned i = 0; i < state->nr; i++)
        for (unsigned j = 0; j < state->networks[i].nr_endpoints; j++)
            nr += !strcmp(state->networks[i].endpoints[j].lock, lock);
    return nr;
}

int networks_connect(struct manager *m, const struct instance *instance, const char *network,
                     const char *address4, struct err *err)
{
    CLEANUP(fd_closep) int netns = open_namespace(m, instance, err);
    CLEANUP(freep) struct network_endpoint *endpoint = calloc(1, sizeof(*endpoint));
    char lock[PATH_SIZE];
    struct network_attach attach = {
        .id = instance->name, .netns_fd = netns, .address4 = address4, .keep = true, .lock = lock};
    struct network_state state;
    int result;

    if (netns < 0)
        return netns;
    if (!endpoint)
        return err_set(err, -ENOMEM, "out of memory");
    lock_path(m, instance, lock);
    if ((result = network_state_open(NULL, false, &state, err)) < 0)
        return result;
    attach.no_route = places_of(&state, lock) > 0;
    result = network_attach(&state, network, &attach, endpoint, err);
    network_state_close(&state);
    return result < 0 ? result : resolvers_start(m, network, false, err);
}

static const struct network_endpoint *place_of(const struct network *network, const char *lock)
{
    for (unsigned i = 0; network && i < network->nr_endpoints; i++)
        if (!strcmp(network->endpoints[i].lock, lock))
            return &network->endpoints[i];
    return NULL;
}

int networks_place(struct manager *m, const struct instance *instance, const char *network,
                   const char *address4, char ret[NETWORKS_TAP_SIZE], struct err *err)
{
    CLEANUP(freep) struct network_endpoint *endpoint = calloc(1, sizeof(*endpoint));
    const struct network_endpoint *place;
    char lock[PATH_SIZE];
    struct network_attach attach = {.id = instance->name,
                                    .tap = true,
                                    .netns_fd = -1,
                                    .address4 = address4,
                                    .keep = true,
                                    .lock = lock};
    struct network_state state;
    int result;

    if (!endpoint)
        return err_set(err, -ENOMEM, "out of memory");
    lock_path(m, instance, lock);
    if ((result = network_state_open(NULL, false, &state, err)) < 0)
        return result;
    if (!place_of(network_find(&state, network), lock))
        result = network_attach(&state, network, &attach, endpoint, err);
    if (result == 0 && (place = place_of(network_find(&state, network), lock)))
        snprintf(ret, NETWORKS_TAP_SIZE, "tap=%s,mac=%02x:%02x:%02x:%02x:%02x:%02x,mtu=%u",
                 place->interface, place->mac[0], place->mac[1], place->mac[2], place->mac[3],
                 place->mac[4], place->mac[5], network_find(&state, network)->mtu);
    network_state_close(&state);
    return result < 0 ? result : resolvers_start(m, network, false, err);
}

static void describe_interface(const struct network *network, const struct network_endpoint *place,
                               bool way_out, struct networks_interface *ret)
{
    struct in_addr address = {htonl(place->address4)}, gateway = {htonl(network_gateway4(network))};
    struct in6_addr address6 = network_address6(network, place);
    struct in6_addr gateway6 = network_gateway6(network);
    char text[INET6_ADDRSTRLEN], gateway_text[INET6_ADDRSTRLEN];

    snprintf(ret->mac, sizeof(ret->mac), "%02x:%02x:%02x:%02x:%02x:%02x", place->mac[0],
             place->mac[1], place->mac[2], place->mac[3], place->mac[4], place->mac[5]);
    inet_ntop(AF_INET, &address, text, sizeof(text));
    inet_ntop(AF_INET, &gateway, gateway_text, sizeof(gateway_text));
    snprintf(ret->text4, sizeof(ret->text4), "%.15s/%u%s%.15s", text, network->subnet4.bits,
             way_out ? "," : "", way_out ? gateway_text : "");
    *ret->text6 = '\0';
    if (!network->has6)
        return;
    inet_ntop(AF_INET6, &address6, text, sizeof(text));
    inet_ntop(AF_INET6, &gateway6, gateway_text, sizeof(gateway_text));
    snprintf(ret->text6, sizeof(ret->text6), "%s/64%s%s", text, way_out ? "," : "",
             way_out ? gateway_text : "");
}

int networks_interface(struct manager *m, const struct instance *instance, const char *name,
                       bool way_out, struct networks_interface *ret, struct err *err)
{
    const struct network_endpoint *place;
    const struct network *network;
    struct network_state state;
    char lock[PATH_SIZE];
    int result = network_state_open(NULL, true, &state, err);

    if (result < 0)
        return result;
    lock_path(m, instance, lock);
    network = network_find(&state, name);
    if ((place = place_of(network, lock)))
        describe_interface(network, place, way_out, ret);
    else
        result = err_set(err, -ENOENT, "it has no place on network '%.40s'", name);
    network_state_close(&state);
    return result;
}

bool networks_placed(struct manager *m, const struct instance *instance, const char *network)
{
    struct network_state state;
    char lock[PATH_SIZE];
    bool placed;

    lock_path(m, instance, lock);
    if (network_state_open(NULL, true, &state, NULL) < 0)
        return false;
    placed = place_of(network_find(&state, network), lock);
    network_state_close(&state);
    return placed;
}

int networks_exists(const char *network, struct err *err)
{
    struct network_state state;
    int result = network_state_open(NULL, true, &state, err);

    if (result < 0)
        return result;
    if (!network_find(&state, network))
        result = err_set(err, -ENOENT, "there is no network '%.40s'; `lodge network ls` lists them",
                         network);
    network_state_close(&state);
    return result;
}

int networks_disconnect(struct manager *m, const struct instance *instance, const char *network,
                        struct err *err)
{
    const struct network_endpoint *place;
    struct network_state state;
    char lock[PATH_SIZE];
    int result = network_state_open(NULL, false, &state, err);

    if (result < 0)
        return result;
    lock_path(m, instance, lock);
    if ((place = place_of(network_find(&state, network), lock)))
        result = network_detach(&state, network, place->id, err);
    if (result == 0)
        result = network_forget(&state, network, instance->name, err);
    network_state_close(&state);
    return result;
}

static void describe_one(const struct network *network, const struct network_endpoint *endpoint,
                         bool first, struct buf *to)
{
    json_t *object = network_endpoint_json(network, endpoint);
    CLEANUP(freep) char *text = NULL;

    json_put_string(object, "network", network->name);
    text = json_text(object, JSON_COMPACT);
    json_decref(object);
    if (text)
        buf_printf(to, "%s%s", first ? "" : ", ", text);
}

void networks_describe(struct manager *m, const struct instance *instance, struct buf *to)
{
    struct network_state state;
    char lock[PATH_SIZE];
    bool first = true;

    lock_path(m, instance, lock);
    if (network_state_open(NULL, true, &state, NULL) < 0)
        return;
    buf_append_string(to, ", \"endpoints\": [");
    for (unsigned i = 0; i < state.nr; i++)
        for (unsigned j = 0; j < state.networks[i].nr_endpoints; j++)
            if (!strcmp(state.networks[i].endpoints[j].lock, lock)) {
                describe_one(&state.networks[i], &state.networks[i].endpoints[j], first, to);
                first = false;
            }
    buf_append_string(to, "]");
    network_state_close(&state);
}

/* Whether the specification names it. */
static bool names_network(const struct spec *spec, const char *network)
{
    if (spec->network && !strcmp(spec->network, network))
        return true;
    for (size_t i = 0; i < spec->nr_more; i++)
        if (!strcmp(spec->more[i], network))
            return true;
    return hardware_is_networked(spec->hardware, network);
}

static bool names_volume(const struct spec *spec, const char *volume)
{
    for (size_t i = 0; i < spec->nr_volumes; i++)
        if (!strcmp(spec->volumes[i].source, volume))
            return true;
    return false;
}

/* Specifications are parsed only where the brief says that it may be so. */
static char *find_user(struct manager *m, const char *name, bool volume)
{
    char *found = NULL;

    pthread_mutex_lock(&m->lock);
    for (struct instance *at = m->first; at && !found; at = at->next) {
        struct spec spec;

        if (!(volume ? at->brief->volumes : at->brief->networked) ||
            spec_parse_text(at->spec, &spec, NULL) < 0)
            continue;
        if (volume ? names_volume(&spec, name) : names_network(&spec, name))
            found = strdup(at->name);
        spec_done(&spec);
    }
    pthread_mutex_unlock(&m->lock);
    return found;
}

char *networks_user(struct manager *m, const char *network)
{
    return find_user(m, network, false);
}

char *volumes_user(struct manager *m, const char *volume)
{
    return find_user(m, volume, true);
}
