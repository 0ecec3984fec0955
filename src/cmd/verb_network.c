/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge network: makes, lists, describes and removes networks, and puts instances of the manager on
 * them. The manager is asked where there is one; without it, the state is ours to change.
 */
#include "cmd/cli.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/size.h"
#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/network_hook.h"
#include "cmd/shared_api.h"
#include "network/network.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NETWORKS "/v1/networks"

struct arguments {
    const char *words[17];
    unsigned nr_words;
    bool json;
    const char *address4;
    struct network_create create;
};

static void put_path(struct buf *path, const char *name, const char *rest)
{
    buf_init(path, 1024);
    buf_append_string(path, NETWORKS "/");
    api_escape(path, name);
    buf_append_string(path, rest);
}

static bool by_manager(bool wake, json_t **ret)
{
    return shared_by_manager(NETWORKS, network_directory(), true, wake && !getenv("LODGE_NETWORKS"),
                             ret);
}

/* All networks as a JSON list; a new reference. */
static int list_all(json_t **ret, struct err *err)
{
    struct network_state state;
    json_t *answer;
    int r;

    if (by_manager(false, &answer)) {
        *ret = json_incref(json_object_get(answer, "networks"));
        json_decref(answer);
        return 0;
    }
    if ((r = network_state_open(NULL, true, &state, err)) < 0)
        return r;
    *ret = json_array();
    for (unsigned i = 0; i < state.nr; i++)
        json_array_append_new(*ret, network_json(&state.networks[i]));
    network_state_close(&state);
    return 0;
}

static const char *text_of(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name)) ?: "";
}

static int make(const struct arguments *a, json_t **ret, struct err *err)
{
    struct network_create create = a->create;
    struct network_state state;
    struct network *network;
    json_t *body;
    int r;

    create.name = a->words[0];
    if (by_manager(false, NULL)) {
        body = json_pack("{s:s, s:b, s:b}", "name", create.name, "ipv6", !create.no_ipv6,
                         "internal", create.internal);
        json_put_string(body, "subnet", create.subnet4);
        if (create.mtu)
            json_object_set_new(body, "mtu", json_integer(create.mtu));
        return api_ask("POST", NETWORKS, body, ret, NULL, err);
    }
    if ((r = network_state_open(NULL, false, &state, err)) < 0)
        return r;
    if ((r = network_create(&state, &create, &network, err)) == 0)
        *ret = network_json(network);
    network_state_close(&state);
    return r;
}

static int do_create(const struct arguments *a, struct err *err)
{
    json_t *network = NULL;
    int r = make(a, &network, err);

    if (r < 0)
        return r;
    if (a->json) {
        shared_print(network);
        return 0;
    }
    printf("%s %s\n", text_of(network, "name"), text_of(network, "subnet"));
    json_decref(network);
    return 0;
}

static void print_row(const json_t *network)
{
    printf("%-20s %-18s %-15s %5lld %zu%s\n", text_of(network, "name"), text_of(network, "subnet"),
           text_of(network, "bridge"),
           (long long)json_integer_value(json_object_get(network, "mtu")),
           json_array_size(json_object_get(network, "endpoints")),
           json_is_true(json_object_get(network, "internal")) ? " (internal)" : "");
}

static int do_ls(const struct arguments *a, struct err *err)
{
    char heading[80];

    snprintf(heading, sizeof(heading), "%-20s %-18s %-15s %5s %s", "NETWORK", "SUBNET", "BRIDGE",
             "MTU", "GUESTS");
    return shared_ls(list_all, a->json, heading, print_row, err);
}

static int do_inspect(const struct arguments *a, struct err *err)
{
    json_t *all = NULL, *array = json_array();
    int r = list_all(&all, err);

    for (unsigned i = 0; r == 0 && i < a->nr_words; i++) {
        json_t *network, *found = NULL;
        size_t at;

        json_array_foreach(all, at, network)
        {
            if (!strcmp(text_of(network, "name"), a->words[i]))
                found = network;
        }
        if (found)
            json_array_append(array, found);
        else
            r = err_set(err, -ENOENT, "there is no network '%s'; `lodge network ls` lists them",
                        a->words[i]);
    }
    json_decref(all);
    if (r < 0)
        json_decref(array);
    else
        shared_print(array);
    return r;
}

static int remove_by_manager(const char *name, struct err *err)
{
    CLEANUP(buf_donep) struct buf path;

    put_path(&path, name, "");
    return api_ask("DELETE", buf_string(&path) ?: "/", NULL, NULL, NULL, err);
}

static int do_rm(const struct arguments *a, struct err *err)
{
    struct network_state state;
    int r = 0;

    if (by_manager(true, NULL)) {
        for (unsigned i = 0; r == 0 && i < a->nr_words; i++)
            r = remove_by_manager(a->words[i], err);
        return r;
    }
    if ((r = network_state_open(NULL, false, &state, err)) < 0)
        return r;
    for (unsigned i = 0; r == 0 && i < a->nr_words; i++)
        r = network_remove(&state, a->words[i], err);
    network_state_close(&state);
    return r;
}

static int connect_or_not(const struct arguments *a, const char *verb, struct err *err)
{
    json_t *body = json_pack("{s:s}", "instance", a->words[1]);
    CLEANUP(buf_donep) struct buf path;

    json_put_string(body, "ip", a->address4);
    put_path(&path, a->words[0], verb);
    return api_ask("POST", buf_string(&path) ?: "/", body, NULL, NULL, err);
}

static int do_connect(const struct arguments *a, struct err *err)
{
    return connect_or_not(a, "/connect", err);
}

static int do_disconnect(const struct arguments *a, struct err *err)
{
    return connect_or_not(a, "/disconnect", err);
}

static const struct verb {
    const char *name;
    int (*run)(const struct arguments *a, struct err *err);
    unsigned least, most;
} verbs[] = {
    {"create", do_create, 1, 1}, {"ls", do_ls, 0, 0},           {"inspect", do_inspect, 1, 16},
    {"rm", do_rm, 1, 16},        {"connect", do_connect, 2, 2}, {"disconnect", do_disconnect, 2, 2},
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
        } else if (!strcmp(word, "--ip") && i + 1 < argc) {
            a->address4 = argv[++i];
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
static int resolve(const char *name, bool coming)
{
    const char *dir = getenv("LODGE_NETWORKS");
    struct err err = ERR_INIT;
    int null = open("/dev/null", O_RDWR);

    if (fork() != 0)
        return 0;
    setsid();
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    close_range(3, ~0u, 0);
    if (chdir("/") < 0)
        return CLI_EXIT_FAILURE;
    if (!dir || network_resolve(dir, name, coming, &err) < 0) {
        log_error("%s", dir ? err.message : "LODGE_NETWORKS is needed");
        return CLI_EXIT_FAILURE;
    }
    return 0;
}

static int run(int argc, char **argv)
{
    struct arguments arguments = {0};
    struct err err = ERR_INIT;
    const struct verb *verb = NULL;
    int r;

    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(verbs); i++)
        if (!strcmp(argv[1], verbs[i].name))
            verb = &verbs[i];
    if (argc == 3 && !strcmp(argv[1], "resolve"))
        return resolve(argv[2], false);
    if (argc == 4 && !strcmp(argv[1], "resolve") && !strcmp(argv[3], NETWORK_COMING))
        return resolve(argv[2], true);
    if (argc == 3 && !strcmp(argv[1], "serve"))
        return network_hook(argv[2]);
    if (!verb)
        return cli_usage_error(&verb_network,
                               "create, ls, inspect, rm, connect or disconnect is needed");
    if ((r = parse(&arguments, argc, argv)))
        return r;
    if (arguments.nr_words < verb->least || arguments.nr_words > verb->most)
        return cli_usage_error(&verb_network, "%s: %s", verb->name,
                               verb->least == 2 ? "the names of a network and of an instance are "
                                                  "needed"
                               : verb->most     ? "the name of a network is needed"
                                                : "no name is needed");
    if ((r = verb->run(&arguments, &err)) < 0)
        log_error("%s%s", err.message,
                  geteuid() != 0 && strstr(err.message, strerror(EACCES))
                      ? "; networks by name are root's (--net user needs no rights)"
                      : "");
    return r < 0 ? CLI_EXIT_FAILURE : 0;
}

const struct cli_verb verb_network = {
    .name = "network",
    .summary = "Makes, lists and removes networks for guests",
    .usage = "network create NAME [options] | ls | inspect NAME... | rm NAME... |\n"
             "       connect NAME INSTANCE | disconnect NAME INSTANCE",
    .help =
        "Guests of both isolations join a network by name (see `lodge help run`); they reach\n"
        "one another by name, and the outside through this host. Needs root and nft.\n"
        "\n"
        "  --subnet A.B.C.D/N  of create: its IPv4 addresses (default: a free /24)\n"
        "  --mtu N             of create: 1280 to 65535 (default 1500)\n"
        "  --no-ipv6           of create: no IPv6 addresses\n"
        "  --internal          of create: no way out\n"
        "  --ip ADDRESS        of connect: the instance's IPv4 address there\n"
        "  --json              machine-readable\n"
        "\n"
        "connect and disconnect are of the manager's instances (lodge ps), and take effect at\n"
        "once. A virtual machine's guest gets a further interface with its address; in a machine\n"
        "of lodge vm its system sets that by itself.\n",
    .run = run,
};
