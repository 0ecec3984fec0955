/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching one run. The endpoint belongs to this process: should it be killed, whoever next works
 * with networks (the resolver looks twice a second) takes it back.
 */
#include "cmd/run_attachment.h"

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

struct run_attachment {
    char network[NETWORK_NAME_MAX];
    struct network settings; /* without endpoints */
    struct network_endpoint endpoint;
    bool attached;
    char state_dir[PATH_MAX];
    char namespace[PATH_MAX], resolv_conf[PATH_MAX];
};

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
    r = network_attach(&state, a->network, &attach, &a->endpoint, err);
    if (r == 0) {
        a->attached = true;
        a->settings = *network_find(&state, a->network);
        a->settings.endpoints = NULL;
        a->settings.leases = NULL;
    }
    network_state_close(&state);
    return r < 0 ? r
                 : network_resolver_start("/proc/self/exe", a->state_dir, a->network, false, err);
}

int run_attachment_new(const struct run_context *context, struct run_attachment **ret,
                       struct err *err)
{
    struct run_attachment *a = calloc(1, sizeof(*a));
    int r = 0;

    if (!a)
        return err_set(err, -ENOMEM, "out of memory");
    snprintf(a->network, sizeof(a->network), "%s", context->options->network);
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
    if (a->attached && network_state_open(NULL, false, &state, NULL) == 0) {
        network_detach(&state, a->network, a->endpoint.id, NULL);
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

json_t *run_attachment_config(const struct run_attachment *a)
{
    const uint8_t *m = a->endpoint.mac;
    char mac[18];

    snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
    /* The manager takes it away by that name. */
    return json_pack("[{s:s, s:s, s:s, s:s, s:i}]", "type", "tap", "tap", a->endpoint.interface,
                     "mac", mac, "id", mac, "mtu", (int)a->settings.mtu);
}

static void address_text(uint32_t address, char ret[INET_ADDRSTRLEN])
{
    struct in_addr in = {htonl(address)};

    inet_ntop(AF_INET, &in, ret, INET_ADDRSTRLEN);
}

void run_attachment_cmdline(const struct run_attachment *a, const char *before, char *ret,
                            size_t size)
{
    struct in6_addr address6 = network_address6(&a->settings, &a->endpoint);
    struct in6_addr gateway6 = network_gateway6(&a->settings);
    char address[INET_ADDRSTRLEN], gateway[INET_ADDRSTRLEN];
    char text6[INET6_ADDRSTRLEN], text_gateway6[INET6_ADDRSTRLEN];
    int n;

    address_text(a->endpoint.address4, address);
    address_text(network_gateway4(&a->settings), gateway);
    inet_ntop(AF_INET6, &address6, text6, sizeof(text6));
    inet_ntop(AF_INET6, &gateway6, text_gateway6, sizeof(text_gateway6));
    n = snprintf(ret, size, "%s lodge.net=%s/%u,%s", before, address, a->settings.subnet4.bits,
                 gateway);
    if (a->settings.has6 && n > 0 && (size_t)n < size)
        snprintf(ret + n, size - (size_t)n, " lodge.net6=%s/64,%s", text6, text_gateway6);
}

void run_attachment_resolver(const struct run_attachment *a, char *ret, size_t size)
{
    char gateway[INET_ADDRSTRLEN];

    address_text(network_gateway4(&a->settings), gateway);
    snprintf(ret, size, "nameserver %s\noptions ndots:0\n", gateway);
}
