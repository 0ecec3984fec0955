/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching one run. The endpoint belongs to this process: should it be killed, whoever next works
 * with networks (the resolver looks twice a second) takes it back.
 */
#include "cmd/run_attachment.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"
#include "network/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>

/* A place on one network. */
struct joined {
    char network[NETWORK_NAME_MAX];
    struct network settings; /* without endpoints */
    struct network_endpoint endpoint;
};

struct run_attachment {
    struct joined all[1 + RUN_JOINED_MAX]; /* the first leads out, and has the published ports */
    unsigned nr;
    char state_dir[PATH_MAX];
    char namespace[PATH_MAX], resolv_conf[PATH_MAX];
};

static int join(struct run_attachment *a, struct network_state *state, const char *network,
                const struct network_attach *attach, struct err *err)
{
    struct joined *joined = &a->all[a->nr];
    int r = network_attach(state, network, attach, &joined->endpoint, err);

    if (r < 0)
        return r;
    snprintf(joined->network, sizeof(joined->network), "%s", network);
    joined->settings = *network_find(state, network);
    joined->settings.endpoints = NULL;
    joined->settings.leases = NULL;
    a->nr++;
    return 0;
}

static int attach(struct run_attachment *a, const struct run_context *context, int netns_fd,
                  struct err *err)
{
    const struct run_options *options = context->options;
    struct net_forward ports[RUN_PORTS_MAX];
    /* Of an instance of the manager: its name, and the lock that its shim holds. */
    const char *name = getenv("LODGE_ENDPOINT"), *lock = getenv("LODGE_ENDPOINT_LOCK");
    struct network_attach attach = {.id = name && *name ? name : context->dir->id,
                                    .tap = options->vm,
                                    .netns_fd = netns_fd,
                                    .address4 = options->address4,
                                    .keep = name && *name,
                                    .lock = lock && *lock ? lock : NULL,
                                    .ports = ports,
                                    .nr_ports = (unsigned)options->nr_ports,
                                    .owner = getpid()};
    struct network_state state;
    int r = 0;

    for (size_t i = 0; r == 0 && i < options->nr_ports; i++)
        r = network_port_parse(options->ports[i], &ports[i], err);
    if (r < 0 || (r = network_state_open(NULL, false, &state, err)) < 0)
        return r;
    snprintf(a->state_dir, sizeof(a->state_dir), "%s", state.dir);
    r = join(a, &state, options->network, &attach, err);
    attach.nr_ports = 0;
    attach.address4 = NULL;
    for (size_t i = 0; r == 0 && i < options->nr_joined; i++)
        r = join(a, &state, options->joined[i], &attach, err);
    network_state_close(&state);
    for (unsigned i = 0; r == 0 && i < a->nr; i++)
        r = network_resolver_start("/proc/self/exe", a->state_dir, a->all[i].network, false, err);
    return r;
}

int run_attachment_new(const struct run_context *context, struct run_attachment **ret,
                       struct err *err)
{
    struct run_attachment *a = calloc(1, sizeof(*a));
    int r = 0;

    if (!a)
        return err_set(err, -ENOMEM, "out of memory");
    if (context->options->vm)
        r = attach(a, context, -1, err);
    if (r < 0) {
        run_attachment_free(a);
        return r;
    }
    *ret = a;
    return 0;
}

int run_attachment_namespace(struct run_attachment *a, const struct run_context *context,
                             struct err *err)
{
    CLEANUP(fd_closep) int netns = -1;
    char text[256];
    int r;

    if ((r = run_dir_path(context->dir, "netns", a->namespace, err)) < 0 ||
        (r = run_dir_path(context->dir, "resolv.conf", a->resolv_conf, err)) < 0 ||
        (r = network_namespace_make(a->namespace, &netns, err)) < 0 ||
        (r = attach(a, context, netns, err)) < 0)
        return r;
    run_attachment_resolver(a, text, sizeof(text));
    return file_replace_unsynced(AT_FDCWD, a->resolv_conf, text, strlen(text), 0644, err);
}

void run_attachment_free(struct run_attachment *a)
{
    struct network_state state;

    if (!a)
        return;
    if (a->nr && network_state_open(NULL, false, &state, NULL) == 0) {
        for (unsigned i = 0; i < a->nr; i++)
            network_detach(&state, a->all[i].network, a->all[i].endpoint.id, NULL);
        network_state_close(&state);
    }
    if (a->namespace[0])
        network_namespace_remove(a->namespace);
    free(a);
}

const char *run_attachment_path(const struct run_attachment *a)
{
    return a->namespace;
}

const char *run_attachment_resolv_conf(const struct run_attachment *a)
{
    return a->resolv_conf;
}

static void mac_text(const struct joined *joined, char ret[18])
{
    const uint8_t *m = joined->endpoint.mac;

    snprintf(ret, 18, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
}

json_t *run_attachment_config(const struct run_attachment *a)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < a->nr; i++) {
        const struct joined *joined = &a->all[i];
        char mac[18];

        mac_text(joined, mac);
        /* The manager takes it away by that name. */
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:i}", "type", "tap", "tap",
                                              joined->endpoint.interface, "mac", mac, "id", mac,
                                              "mtu", (int)joined->settings.mtu));
    }
    return list;
}

static void address_text(uint32_t address, char ret[INET_ADDRSTRLEN])
{
    struct in_addr in = {htonl(address)};

    inet_ntop(AF_INET, &in, ret, INET_ADDRSTRLEN);
}

/* " lodge.net=" and " lodge.net6=" of the first, one " lodge.nic=" of each other. */
static int append_addresses(const struct joined *joined, bool first, struct buf *to)
{
    struct in6_addr address6 = network_address6(&joined->settings, &joined->endpoint);
    struct in6_addr gateway6 = network_gateway6(&joined->settings);
    char address[INET_ADDRSTRLEN], gateway[INET_ADDRSTRLEN], mac[18];
    char text6[INET6_ADDRSTRLEN], text_gateway6[INET6_ADDRSTRLEN];
    unsigned bits = joined->settings.subnet4.bits;
    int r;

    address_text(joined->endpoint.address4, address);
    address_text(network_gateway4(&joined->settings), gateway);
    inet_ntop(AF_INET6, &address6, text6, sizeof(text6));
    inet_ntop(AF_INET6, &gateway6, text_gateway6, sizeof(text_gateway6));
    mac_text(joined, mac);
    r = first ? buf_printf(to, " lodge.net=%s/%u,%s", address, bits, gateway)
              : buf_printf(to, " lodge.nic=%s+%s/%u", mac, address, bits);
    if (r < 0 || !joined->settings.has6)
        return r;
    return first ? buf_printf(to, " lodge.net6=%s/64,%s", text6, text_gateway6)
                 : buf_printf(to, "+%s/64", text6);
}

void run_attachment_cmdline(const struct run_attachment *a, const char *before, char *ret,
                            size_t size)
{
    CLEANUP(buf_donep) struct buf text;

    buf_init(&text, size);
    buf_append_string(&text, before);
    for (unsigned i = 0; i < a->nr; i++)
        append_addresses(&a->all[i], i == 0, &text);
    snprintf(ret, size, "%s", buf_string(&text) ?: before);
}

void run_attachment_resolver(const struct run_attachment *a, char *ret, size_t size)
{
    char gateway[INET_ADDRSTRLEN];

    address_text(network_gateway4(&a->all[0].settings), gateway);
    snprintf(ret, size, "nameserver %s\noptions ndots:0\n", gateway);
}
