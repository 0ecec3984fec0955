/* SPDX-License-Identifier: Apache-2.0 */
/* lodge network: makes, lists, describes and removes networks. */
#include "cmd/cli.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/size.h"
#include "base/util.h"
#include "network/network.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

struct arguments {
    const char *words[17];
    unsigned nr_words;
    bool json;
    struct network_create create;
};

static void subnet_text(const struct network *network, char *ret, size_t size)
{
    struct in_addr in = {htonl(network->subnet4.address)};

    snprintf(ret, size, "%s/%u", inet_ntoa(in), network->subnet4.bits);
}

static json_t *endpoint_json(const struct network *network, const struct network_endpoint *e)
{
    struct in6_addr address6 = network_address6(network, e);
    struct in_addr address4 = {htonl(e->address4)};
    char text6[INET6_ADDRSTRLEN], mac[18];
    json_t *ports = json_array(), *object;

    for (unsigned i = 0; i < e->nr_ports; i++) {
        struct in_addr host = {htonl(e->ports[i].host_address)};

        json_array_append_new(ports,
                              json_pack("{s:s, s:s, s:i, s:i}", "protocol",
                                        e->ports[i].udp ? "udp" : "tcp", "host_address",
                                        inet_ntoa(host), "host_port", (int)e->ports[i].host_port,
                                        "guest_port", (int)e->ports[i].guest_port));
    }
    inet_ntop(AF_INET6, &address6, text6, sizeof(text6));
    snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", e->mac[0], e->mac[1], e->mac[2],
             e->mac[3], e->mac[4], e->mac[5]);
    object = json_pack("{s:s, s:s, s:s, s:s, s:o}", "name", e->id, "interface", e->interface, "mac",
                       mac, "ipv4", inet_ntoa(address4), "ports", ports);
    if (network->has6)
        json_object_set_new(object, "ipv6", json_string(text6));
    return object;
}

static json_t *network_json(const struct network *network)
{
    struct in_addr gateway4 = {htonl(network_gateway4(network))};
    struct in6_addr gateway6 = network_gateway6(network);
    char subnet[32], text6[INET6_ADDRSTRLEN], prefix[INET6_ADDRSTRLEN + 4];
    json_t *endpoints = json_array(), *object;

    for (unsigned i = 0; i < network->nr_endpoints; i++)
        json_array_append_new(endpoints, endpoint_json(network, &network->endpoints[i]));
    subnet_text(network, subnet, sizeof(subnet));
    object = json_pack("{s:s, s:s, s:s, s:s, s:i, s:b, s:o}", "name", network->name, "bridge",
                       network->bridge, "subnet", subnet, "gateway", inet_ntoa(gateway4), "mtu",
                       (int)network->mtu, "internal", (int)network->internal, "endpoints",
                       endpoints);
    if (network->has6) {
        inet_ntop(AF_INET6, &network->prefix6, text6, sizeof(text6));
        snprintf(prefix, sizeof(prefix), "%s/64", text6);
        json_object_set_new(object, "subnet6", json_string(prefix));
        inet_ntop(AF_INET6, &gateway6, text6, sizeof(text6));
        json_object_set_new(object, "gateway6", json_string(text6));
    }
    return object;
}

static void print_json(json_t *value)
{
    json_dumpf(value, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(value);
}

static int do_create(const struct arguments *a, struct network_state *state, struct err *err)
{
    struct network_create create = a->create;
    struct network *network;
    char subnet[32];
    int r;

    create.name = a->words[0];
    if ((r = network_create(state, &create, &network, err)) < 0)
        return r;
    subnet_text(network, subnet, sizeof(subnet));
    if (a->json)
        print_json(network_json(network));
    else
        printf("%s %s\n", network->name, subnet);
    return 0;
}

static int do_ls(const struct arguments *a, struct network_state *state, struct err *err)
{
    json_t *array = json_array();

    (void)err;
    for (unsigned i = 0; i < state->nr; i++) {
        const struct network *network = &state->networks[i];
        char subnet[32];

        if (a->json) {
            json_array_append_new(array, network_json(network));
            continue;
        }
        if (i == 0)
            printf("%-20s %-18s %-15s %5s %s\n", "NETWORK", "SUBNET", "BRIDGE", "MTU", "GUESTS");
        subnet_text(network, subnet, sizeof(subnet));
        printf("%-20s %-18s %-15s %5u %u%s\n", network->name, subnet, network->bridge, network->mtu,
               network->nr_endpoints, network->internal ? " (internal)" : "");
    }
    if (a->json)
        print_json(array);
    else
        json_decref(array);
    return 0;
}

static int do_inspect(const struct arguments *a, struct network_state *state, struct err *err)
{
    json_t *array = json_array();

    for (unsigned i = 0; i < a->nr_words; i++) {
        const struct network *network = network_find(state, a->words[i]);

        if (!network) {
            json_decref(array);
            return err_set(err, -ENOENT, "there is no network '%s'; `lodge network ls` lists them",
                           a->words[i]);
        }
        json_array_append_new(array, network_json(network));
    }
    print_json(array);
    return 0;
}

static int do_rm(const struct arguments *a, struct network_state *state, struct err *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < a->nr_words; i++)
        r = network_remove(state, a->words[i], err);
    return r;
}

static const struct verb {
    const char *name;
    int (*run)(const struct arguments *a, struct network_state *state, struct err *err);
    unsigned least, most;
    bool reads;
} verbs[] = {
    {"create", do_create, 1, 1, false},
    {"ls", do_ls, 0, 0, true},
    {"inspect", do_inspect, 1, 16, true},
    {"rm", do_rm, 1, 16, false},
};

/* 0, or what cli_usage_error gave. */
static int parse(struct arguments *a, int argc, char **argv)
{
    uint64_t mtu;

    for (int i = 2; i < argc; i++) {
        const char *word = argv[i];

        if (!strcmp(word, "--json")) {
            a->json = true;
        } else if (!strcmp(word, "--internal")) {
            a->create.internal = true;
        } else if (!strcmp(word, "--no-ipv6")) {
            a->create.no_ipv6 = true;
        } else if (!strcmp(word, "--subnet") && i + 1 < argc) {
            a->create.subnet4 = argv[++i];
        } else if (!strcmp(word, "--mtu") && i + 1 < argc) {
            if (number_parse(argv[++i], "--mtu", 1280, 65535, &mtu, NULL) < 0)
                return cli_usage_error(&verb_network, "--mtu '%s': 1280 to 65535 is needed",
                                       argv[i]);
            a->create.mtu = (unsigned)mtu;
        } else if (word[0] == '-') {
            return cli_usage_error(&verb_network, "unknown option '%s', or its value is missing",
                                   word);
        } else if (a->nr_words < ARRAY_LEN(a->words)) {
            a->words[a->nr_words++] = word;
        }
    }
    return 0;
}

/* Not for users: the resolver of one network, in the background. */
static int resolve(const char *name)
{
    const char *dir = getenv("LODGE_NETWORKS");
    struct err err = ERR_INIT;

    if (!dir || network_resolve(dir, name, &err) < 0) {
        log_error("%s", dir ? err.message : "LODGE_NETWORKS is needed");
        return CLI_EXIT_FAILURE;
    }
    return 0;
}

static int run(int argc, char **argv)
{
    struct arguments arguments = {0};
    struct err err = ERR_INIT;
    struct network_state state;
    const struct verb *verb = NULL;
    int r;

    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(verbs); i++)
        if (!strcmp(argv[1], verbs[i].name))
            verb = &verbs[i];
    if (argc == 3 && !strcmp(argv[1], "resolve"))
        return resolve(argv[2]);
    if (!verb)
        return cli_usage_error(&verb_network, "create, ls, inspect or rm is needed");
    if ((r = parse(&arguments, argc, argv)))
        return r;
    if (arguments.nr_words < verb->least || arguments.nr_words > verb->most)
        return cli_usage_error(&verb_network, "%s: %s", verb->name,
                               verb->most ? "the name of a network is needed"
                                          : "no name is needed");
    r = network_state_open(NULL, verb->reads, &state, &err);
    if (r == 0) {
        r = verb->run(&arguments, &state, &err);
        network_state_close(&state);
    }
    if (r < 0)
        log_error("%s", err.message);
    return r < 0 ? CLI_EXIT_FAILURE : 0;
}

const struct cli_verb verb_network = {
    .name = "network",
    .summary = "Makes, lists and removes networks for guests",
    .usage = "network create NAME [options] | ls | inspect NAME... | rm NAME...",
    .help = "Guests of both isolations join a network by name (see `lodge help run`); they reach\n"
            "one another by name, and the outside through this host. Needs root and nft.\n"
            "\n"
            "  --subnet A.B.C.D/N  of create: its IPv4 addresses (default: a free /24)\n"
            "  --mtu N             of create: 1280 to 65535 (default 1500)\n"
            "  --no-ipv6           of create: no IPv6 addresses\n"
            "  --internal          of create: no way out\n"
            "  --json              machine-readable\n",
    .run = run,
};
