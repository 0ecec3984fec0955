/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /v1/networks: the networks of this host, which `lodge network` and `lodge run --net` see as well.
 * Their truth is src/network's state, under its lock; what is the manager's own is which instances
 * name them.
 */
#include "manager/api/request.h"

#include "manager/hotplug.h"
#include "network/network.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void api_reply_json(struct api_reply *reply, json_t *value)
{
    CLEANUP(freep) char *text = json_text(value, JSON_INDENT(1));

    json_decref(value);
    if (!text) {
        api_fail(reply, 503, "out of memory");
        return;
    }
    buf_append_string(&reply->body, text);
    buf_append(&reply->body, "\n", 1);
}

void api_networks(struct api_request *request, struct api_reply *reply)
{
    struct network_state state;
    struct err err = ERR_INIT;
    json_t *list = json_array();
    struct stat own = {0};
    int result = network_state_open(NULL, true, &state, &err);

    (void)request;
    if (result < 0) {
        json_decref(list);
        api_fail_err(reply, result, &err);
        return;
    }
    for (unsigned i = 0; i < state.nr; i++)
        json_array_append_new(list, network_json(&state.networks[i]));
    stat("/proc/self/ns/net", &own);
    /* So that a client may see whether these are the networks that it would find itself. */
    api_reply_json(reply, json_pack("{s:o, s:s, s:I}", "networks", list, "directory", state.dir,
                                    "namespace", (json_int_t)own.st_ino));
    network_state_close(&state);
}

static int read_create(json_t *body, struct network_create *ret, struct err *err)
{
    static const char *const known[] = {"name", "subnet", "mtu", "ipv6", "internal", NULL};
    bool ipv6 = true;
    uint64_t mtu = 0;
    struct json_at at;
    int result;

    json_at_root(body, &at);
    if ((result = json_reject_unknown(&at, known, err)) < 0 ||
        (result = json_get_string(&at, "name", &ret->name, err)) < 0 ||
        (result = json_opt_string(&at, "subnet", &ret->subnet4, err)) < 0 ||
        (result = json_opt_uint(&at, "mtu", &mtu, err)) < 0 ||
        (result = json_opt_bool(&at, "ipv6", &ipv6, err)) < 0 ||
        (result = json_opt_bool(&at, "internal", &ret->internal, err)) < 0)
        return result;
    if (mtu > UINT16_MAX)
        return err_set(err, -EINVAL, "mtu: 1280 to 65535 are possible");
    ret->mtu = (unsigned)mtu;
    ret->no_ipv6 = !ipv6;
    return 0;
}

void api_network_create(struct api_request *request, struct api_reply *reply)
{
    struct network_create create = {0};
    struct network_state state;
    struct network *network;
    struct err err = ERR_INIT;
    int result;

    if ((result = read_create(request->json, &create, &err)) < 0 ||
        (result = network_state_open(NULL, false, &state, &err)) < 0) {
        api_fail_err(reply, result, &err);
        return;
    }
    if ((result = network_create(&state, &create, &network, &err)) < 0) {
        api_fail_err(reply, result, &err);
    } else {
        reply->status = 201;
        api_reply_json(reply, network_json(network));
    }
    network_state_close(&state);
}

void api_network(struct api_request *request, struct api_reply *reply)
{
    const char *name = request->args[0];
    struct network_state state;
    struct err err = ERR_INIT;
    const struct network *network;
    int result = network_state_open(NULL, true, &state, &err);

    if (result < 0) {
        api_fail_err(reply, result, &err);
        return;
    }
    if ((network = network_find(&state, name)))
        api_reply_json(reply, network_json(network));
    else
        api_fail(reply, 404, "there is no network '%.40s'; `lodge network ls` lists them", name);
    network_state_close(&state);
}

void api_network_delete(struct api_request *request, struct api_reply *reply)
{
    const char *name = request->args[0];
    CLEANUP(freep) char *user = networks_user(request->m, name);
    CLEANUP(freep) char *environment = environment_with_network(request->m, name);
    struct network_state state;
    struct err err = ERR_INIT;
    int result;

    if (user) {
        api_fail(reply, 409,
                 "network '%.40s' is in use by instance '%s'; `lodge network disconnect %.40s %s` "
                 "or `lodge rm %s` first",
                 name, user, name, user, user);
        return;
    }
    if (environment) {
        api_fail(
            reply, 409,
            "network '%.40s' is that of environment '%s'; `lodge env update %s --net ''` first",
            name, environment, environment);
        return;
    }
    if ((result = network_state_open(NULL, false, &state, &err)) == 0) {
        result = network_remove(&state, name, &err);
        network_state_close(&state);
    }
    if (result < 0)
        api_fail_err(reply, result, &err);
    else
        buf_append_string(&reply->body, "{}\n");
}

/* --- connect, disconnect --- */

static int store_spec(struct manager *m, struct instance *instance, const json_t *document,
                      struct err *err)
{
    CLEANUP(freep) char *text = json_text(document, JSON_COMPACT);
    struct spec spec;
    int result = text ? spec_parse_text(text, &spec, err) : err_set(err, -ENOMEM, "out of memory");

    if (result < 0)
        return result;
    spec_done(&spec);
    return instance_put_spec(m, instance, text, err);
}

static json_t *list_of(json_t *document)
{
    json_t *list = json_object_get(document, "networks");

    if (!json_is_array(list)) {
        list = json_array();
        json_object_set_new(document, "networks", list);
    }
    return list;
}

static int spec_add(json_t *document, const struct spec *spec, const char *network,
                    const char *address4, struct err *err)
{
    if (spec->network && !strcmp(spec->network, network))
        return err_set(err, -EEXIST, "it is on network '%s' already", network);
    for (size_t i = 0; i < spec->nr_more; i++)
        if (!strcmp(spec->more[i], network))
            return err_set(err, -EEXIST, "it is on network '%s' already", network);
    if (spec_is_networked(spec)) {
        json_array_append_new(list_of(document), json_string(network));
        return 0;
    }
    json_object_set_new(document, "network", json_string(network));
    if (address4)
        json_object_set_new(document, "ip", json_string(address4));
    return 0;
}

static int spec_remove(json_t *document, const struct spec *spec, const char *network,
                       struct err *err)
{
    json_t *list = list_of(document);

    for (size_t i = 0; i < spec->nr_more; i++)
        if (!strcmp(spec->more[i], network)) {
            json_array_remove(list, i);
            return 0;
        }
    if (!spec->network || strcmp(spec->network, network) != 0 || !spec_is_networked(spec))
        return err_set(err, -ENOENT, "it is not on network '%.40s'", network);
    /* The next one leads out from now on; published ports were of the first. */
    json_object_del(document, "ip");
    json_object_del(document, "ports");
    json_object_set_new(document, "network", json_string(spec->nr_more ? spec->more[0] : "none"));
    json_array_remove(list, 0);
    return 0;
}

/* Of a virtual machine that runs. What is stored is what it is to be, whatever becomes of us: so a
 * connection is stored first. */
static int change_running_vm(struct manager *m, struct instance *instance, const struct spec *spec,
                             const json_t *document, const char *network, const char *address4,
                             bool connect, struct err *err)
{
    CLEANUP(freep) char *before = strdup(instance->spec);
    bool first = spec->network && !strcmp(spec->network, network);
    int result;

    if (!before)
        return err_set(err, -ENOMEM, "out of memory");
    if (connect) {
        if ((result = store_spec(m, instance, document, err)) == 0 &&
            (result = hotplug_connect(m, instance, network, address4, !spec_is_networked(spec),
                                      err)) < 0)
            instance_put_spec(m, instance, before, NULL);
        return result;
    }
    if ((result = hotplug_disconnect(m, instance, network, err)) < 0 ||
        (result = store_spec(m, instance, document, err)) < 0)
        return result;
    /* The next one leads out now. */
    return first && spec->nr_more ? hotplug_connect(m, instance, spec->more[0], NULL, true, err)
                                  : 0;
}

/* By who has the instance. */
static int change(struct manager *m, struct instance *instance, const char *network,
                  const char *address4, bool connect, struct err *err)
{
    bool runs = life_is_active(instance->row.state);
    json_t *document = NULL;
    struct spec spec;
    int result = spec_parse_text(instance->spec, &spec, err);

    if (result < 0)
        return result;
    result = json_parse(instance->spec, strlen(instance->spec), "spec", &document, err);
    if (result == 0)
        result = connect ? spec_add(document, &spec, network, address4, err)
                         : spec_remove(document, &spec, network, err);
    if (result == 0 && spec.vm && runs) {
        result = change_running_vm(m, instance, &spec, document, network, address4, connect, err);
        goto done;
    }
    /* The running one first: what is refused there is not stored. */
    if (result == 0 && runs && connect)
        result = networks_connect(m, instance, network, address4, err);
    else if (result == 0 && !connect)
        result = networks_disconnect(m, instance, network, err);
    if (result == 0 && (result = store_spec(m, instance, document, err)) < 0 && runs && connect)
        networks_disconnect(m, instance, network, NULL);
done:
    json_decref(document);
    spec_done(&spec);
    if (result == 0)
        event_add(m, instance, connect ? "connect" : "disconnect", network);
    return result;
}

static void connect_or_not(struct api_request *request, struct api_reply *reply, bool connect)
{
    static const char *const known[] = {"instance", "ip", NULL};
    const char *ref = NULL, *address4 = NULL;
    struct instance *instance = NULL;
    struct err err = ERR_INIT;
    struct json_at body;
    int result;

    json_at_root(request->json, &body);
    if ((result = json_reject_unknown(&body, known, &err)) == 0 &&
        (result = json_get_string(&body, "instance", &ref, &err)) == 0)
        result = json_opt_string(&body, "ip", &address4, &err);
    if (result == 0 && (!connect || (result = networks_exists(request->args[0], &err)) == 0))
        result = instance_find(request->m, ref, &instance, &err);
    if (result == 0 && (result = instance_acquire(request->m, instance, &err)) == 0) {
        result = instance->brief->hardware
                     ? api_hardware_connect(request->m, instance, request->args[0], address4,
                                            connect, &err)
                     : change(request->m, instance, request->args[0], address4, connect, &err);
        instance_release(request->m, instance);
    }
    instance_unref(request->m, instance);
    if (result < 0)
        api_fail_err(reply, result, &err);
    else
        buf_append_string(&reply->body, "{}\n");
}

void api_network_connect(struct api_request *request, struct api_reply *reply)
{
    connect_or_not(request, reply, true);
}

void api_network_disconnect(struct api_request *request, struct api_reply *reply)
{
    connect_or_not(request, reply, false);
}
