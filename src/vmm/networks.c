/* SPDX-License-Identifier: Apache-2.0 */
/* Networks of a VM's configuration, as text of the command line and as JSON. */
#include "vmm/config.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/util.h"
#include "base/size.h"
#include "vmm/config_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NET_MTU_LEAST 68

void config_nets_done(struct vmm_config *config)
{
    for (unsigned i = 0; i < config->nr_nets; i++) {
        free(config->nets[i].tap);
        free(config->nets[i].id);
    }
}

static int new_net(struct vmm_config *config, struct vmm_net **ret, struct err *err)
{
    if (config->nr_nets == VMM_NETS_MAX)
        return err_set(err, -E2BIG, "more than %d networks", VMM_NETS_MAX);
    *ret = &config->nets[config->nr_nets++];
    **ret = (struct vmm_net){0};
    return 0;
}

static int set_tap(struct vmm_net *net, const char *name, struct err *err)
{
    net->kind = VMM_NET_TAP;
    if (!name[0])
        return err_set(err, -EINVAL, "a tap network needs the name of its interface");
    return config_string_set(&net->tap, name, err);
}

static int set_mac(struct vmm_net *net, const char *text, struct err *err)
{
    net->has_mac = true;
    return net_mac_parse(text, net->mac, err);
}

static int add_forward(struct vmm_net *net, const char *text, struct err *err)
{
    if (net->kind != VMM_NET_USER)
        return err_set(err, -EINVAL, "only a user-mode network forwards ports");
    if (net->nr_forwards == NET_FORWARDS_MAX)
        return err_set(err, -E2BIG, "more than %d forwarded ports", NET_FORWARDS_MAX);
    return net_forward_parse(text, &net->forwards[net->nr_forwards++], err);
}

static int set_mtu(struct vmm_net *net, uint64_t mtu, struct err *err)
{
    if (mtu < NET_MTU_LEAST || mtu > UINT16_MAX)
        return err_set(err, -EINVAL, "an MTU of %llu bytes: %d to %d are possible",
                       (unsigned long long)mtu, NET_MTU_LEAST, UINT16_MAX);
    net->mtu = (uint16_t)mtu;
    return 0;
}

/* The value when word is "name=value". */
static const char *value_of(const char *word, const char *name)
{
    size_t length = strlen(name);

    return !strncmp(word, name, length) && word[length] == '=' ? word + length + 1 : NULL;
}

static int set_switch(const char *word, const char *value, bool on_is, bool *ret, struct err *err)
{
    if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
        return err_set(err, -EINVAL, "'%s': 'on' or 'off' is needed", word);
    *ret = (strcmp(value, "on") == 0) == on_is;
    return 0;
}

static int apply(struct vmm_net *net, const char *word, struct err *err)
{
    const char *value;
    uint64_t number;
    int r;

    if ((value = value_of(word, "id")))
        return config_string_set(&net->id, value, err);
    if ((value = value_of(word, "mac")))
        return set_mac(net, value, err);
    if ((value = value_of(word, "mtu"))) {
        r = number_parse(value, "mtu", NET_MTU_LEAST, UINT16_MAX, &number, err);
        return r < 0 ? r : set_mtu(net, number, err);
    }
    if ((value = value_of(word, "filter")))
        return set_switch(word, value, false, &net->any_source, err);
    if (net->kind == VMM_NET_USER && (value = value_of(word, "hostfwd")))
        return add_forward(net, value, err);
    if (net->kind == VMM_NET_USER && (value = value_of(word, "host-loopback")))
        return set_switch(word, value, true, &net->host_loopback, err);
    return err_set(err, -EINVAL, "'%s' is no option of this network", word);
}

int config_net_add(struct vmm_config *config, const char *text, struct err *err)
{
    CLEANUP(freep) char *copy = strdup(text);
    struct vmm_net *net;
    char *word, *rest;
    const char *name;
    int r;

    if (!copy)
        return err_set(err, -ENOMEM, "out of memory");
    if ((r = new_net(config, &net, err)) < 0)
        return r;
    word = strtok_r(copy, ",", &rest);
    if (word && (name = value_of(word, "tap")))
        r = set_tap(net, name, err);
    else if (word && !strcmp(word, "user"))
        net->kind = VMM_NET_USER;
    else
        r = err_set(err, -EINVAL, "'tap=NAME' or 'user' is needed");
    while (r == 0 && (word = strtok_r(NULL, ",", &rest)))
        r = apply(net, word, err);
    return r < 0 ? err_wrap(err, "--net %s", text) : 0;
}

static int parse_forwards(struct vmm_net *net, const struct json_at *at, struct err *err)
{
    struct json_at array, item;
    int r = json_at_member(at, "hostfwd", &array, err);

    if (r < 0 || !array.value)
        return r;
    if (!json_is_array(array.value))
        return err_set(err, -EINVAL, "%s: an array is needed", array.path);
    for (size_t i = 0; i < json_array_size(array.value); i++) {
        if ((r = json_at_index(&array, i, &item, err)) < 0)
            return r;
        if (!json_is_string(item.value))
            return err_set(err, -EINVAL, "%s: a string is needed", item.path);
        if ((r = add_forward(net, json_string_value(item.value), err)) < 0)
            return err_wrap(err, "%s", item.path);
    }
    return 0;
}

int config_net_parse(struct vmm_config *config, const struct json_at *at, struct err *err)
{
    static const char *const known[] = {"type",    "tap",           "mac", "mtu", "filter",
                                        "hostfwd", "host_loopback", "id",  NULL};
    const char *type = NULL, *tap = NULL, *mac = NULL, *id = NULL;
    struct vmm_net *net;
    uint64_t mtu = 0;
    bool filter = true;
    int r;

    if ((r = new_net(config, &net, err)) < 0 || (r = json_reject_unknown(at, known, err)) < 0 ||
        (r = json_get_string(at, "type", &type, err)) < 0 ||
        (r = json_opt_string(at, "tap", &tap, err)) < 0 ||
        (r = json_opt_string(at, "mac", &mac, err)) < 0 ||
        (r = json_opt_string(at, "id", &id, err)) < 0 ||
        (r = config_string_set(&net->id, id, err)) < 0 ||
        (r = json_opt_uint(at, "mtu", &mtu, err)) < 0 ||
        (r = json_opt_bool(at, "filter", &filter, err)) < 0 ||
        (r = json_opt_bool(at, "host_loopback", &net->host_loopback, err)) < 0)
        return r;
    net->any_source = !filter;
    if (!strcmp(type, "tap"))
        r = set_tap(net, tap ? tap : "", err);
    else if (!strcmp(type, "user"))
        net->kind = VMM_NET_USER;
    else
        r = err_set(err, -EINVAL, "type: '%s' is not one of tap, user", type);
    if (r == 0 && mac)
        r = set_mac(net, mac, err);
    if (r == 0 && mtu)
        r = set_mtu(net, mtu, err);
    if (r == 0)
        r = parse_forwards(net, at, err);
    return r < 0 ? err_wrap(err, "%s", at->path) : 0;
}
