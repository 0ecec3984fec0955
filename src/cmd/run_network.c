/* SPDX-License-Identifier: Apache-2.0 */
/* `--net` of `lodge run`: its text, and what the monitor is told. */
#include "cmd/run_network.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "cmd/run_options.h"
#include "net/net.h"
#include "network/network.h"

#include <errno.h>
#include <string.h>

static int check_word(const char *word, struct err *err)
{
    struct net_forward forward;

    if (!strncmp(word, "hostfwd=", 8))
        return net_forward_parse(word + 8, &forward, err);
    if (!strcmp(word, "host-loopback=on") || !strcmp(word, "host-loopback=off"))
        return 0;
    return err_set(err, -EINVAL, "'%s' is neither hostfwd=... nor host-loopback=on", word);
}

bool run_network_is_user(const char *text)
{
    size_t length = strlen(RUN_NETWORK_USER);

    return !strncmp(text, RUN_NETWORK_USER, length) && (!text[length] || text[length] == ',');
}

bool run_network_is_named(const char *text)
{
    return text && network_name_ok(text);
}

int run_network_check_port(const char *text, struct err *err)
{
    struct net_forward port;

    return network_port_parse(text, &port, err);
}

int run_network_check(const char *text, struct err *err)
{
    CLEANUP(freep) char *copy = strdup(text);
    char *word, *rest;
    int r = 0;

    if (!copy)
        return err_set(err, -ENOMEM, "out of memory");
    if (!strcmp(text, "none") || run_network_is_named(text))
        return 0;
    word = strtok_r(copy, ",", &rest);
    if (!word || strcmp(word, RUN_NETWORK_USER) != 0)
        return err_set(err, -EINVAL, "--net '%s': none, user or the name of a network is needed",
                       text);
    while (r == 0 && (word = strtok_r(NULL, ",", &rest)))
        r = check_word(word, err);
    return r < 0 ? err_wrap(err, "--net") : 0;
}

json_t *run_network_config(const char *text)
{
    CLEANUP(freep) char *copy = strdup(text);
    json_t *forwards = json_array();
    bool loopback = false;
    char *word, *rest;

    word = copy ? strtok_r(copy, ",", &rest) : NULL;
    if (!word || strcmp(word, RUN_NETWORK_USER) != 0) {
        json_decref(forwards);
        return NULL;
    }
    while ((word = strtok_r(NULL, ",", &rest))) {
        if (!strncmp(word, "hostfwd=", 8))
            json_array_append_new(forwards, json_string(word + 8));
        else
            loopback = !strcmp(word, "host-loopback=on");
    }
    return json_pack("[{s:s, s:o, s:b}]", "type", "user", "hostfwd", forwards, "host_loopback",
                     loopback);
}

int run_network_user_options(const char *text, struct net_forward *forwards,
                             struct net_user_options *ret, struct err *err)
{
    CLEANUP(freep) char *copy = strdup(text);
    char *word, *rest;
    int r = run_network_check(text, err);

    if (r < 0)
        return r;
    *ret = (struct net_user_options){.forwards = forwards};
    word = copy ? strtok_r(copy, ",", &rest) : NULL;
    while (word && (word = strtok_r(NULL, ",", &rest))) {
        if (!strcmp(word, "host-loopback=on"))
            ret->host_loopback = true;
        if (strncmp(word, "hostfwd=", 8) != 0)
            continue;
        if (ret->nr_forwards == NET_FORWARDS_MAX)
            return err_set(err, -E2BIG, "more than %d published ports", NET_FORWARDS_MAX);
        if ((r = net_forward_parse(word + 8, &forwards[ret->nr_forwards++], err)) < 0)
            return r;
    }
    return 0;
}

int run_network_user_text(const struct run_options *options, struct buf *to, struct err *err)
{
    int r = buf_append_string(to, options->network);

    for (size_t i = 0; r == 0 && i < options->nr_ports; i++)
        r = network_user_forward(options->ports[i], to, err);
    return r;
}
