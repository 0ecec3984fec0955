/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machines that are put together part by part: disks and network interfaces come to an instance
 * and go, while it stands and, where its guest can, while it runs.
 *
 * The specification is the truth: what it has, the next start has. So an attachment is stored
 * first, then made in the running machine, and taken back when that fails; a detachment is made in
 * the running machine first. Killed in between, the same request again completes it.
 */
#include "manager/api/request.h"

#include "base/util.h"
#include "image/vdisk.h"
#include "manager/hotplug.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum part_kind { PART_DISK, PART_NETWORK };

struct part {
    enum part_kind kind;
    const char *list;  /* the member of "hardware" */
    const char *key;   /* what names one */
    const char *value; /* borrowed from the body */
    bool force;
    json_t *entry; /* to be attached; borrowed */
};

static json_t *list_of(json_t *spec, const char *name)
{
    json_t *hardware = json_object_get(spec, "hardware");

    return json_object_get(hardware ? hardware : spec, name);
}

/* A copy of the list without the part; *ret_found says whether it was in it. */
static json_t *list_without(json_t *spec, const struct part *part, bool *ret_found)
{
    json_t *from = list_of(spec, part->list), *copy = json_array();

    *ret_found = false;
    for (size_t i = 0; i < json_array_size(from); i++) {
        json_t *entry = json_array_get(from, i);
        const char *value = json_string_value(json_object_get(entry, part->key)) ?: "";

        if (!strcmp(value, part->value))
            *ret_found = true;
        else
            json_array_append(copy, entry);
    }
    return copy;
}

static int store_list(struct manager *m, struct instance *instance, const char *name, json_t *list,
                      struct err *err)
{
    json_t *changes = instance->brief->hardware ? json_pack("{s:{s:O}}", "hardware", name, list)
                                                : json_pack("{s:O}", name, list);
    int result = changes ? 0 : err_set(err, -ENOMEM, "out of memory");

    if (result == 0)
        result = instance_change_spec(m, instance, changes, err);
    json_decref(changes);
    return result;
}

static int check_instance(const struct instance *instance, const struct part *part, struct err *err)
{
    enum instance_state state = instance->row.state;

    if (!instance->brief->vm)
        return err_set(
            err, -EOPNOTSUPP,
            "'%s' is a container, which takes no disks: `lodge run -v` gives it a volume "
            "at its start, `lodge network connect` a network",
            instance->name);
    if (!instance->brief->hardware && part->kind == PART_NETWORK)
        return err_set(err, -EOPNOTSUPP,
                       "'%s' was made of an image: `lodge network connect` gives it a network",
                       instance->name);
    if (state == INSTANCE_STARTING || state == INSTANCE_STOPPING || state == INSTANCE_REMOVING)
        return err_set(err, -EBUSY, "'%s' is %s; try again", instance->name,
                       instance_state_name(state));
    return 0;
}

static bool runs(const struct instance *instance)
{
    return instance->row.state == INSTANCE_RUNNING || instance->row.state == INSTANCE_PAUSED;
}

static int plug(struct manager *m, struct instance *instance, const struct part *part,
                struct err *err)
{
    struct hardware_disk disk;
    struct hardware_net net;
    struct json_at at;
    int result;

    json_at_root(part->entry, &at);
    if (part->kind == PART_DISK)
        return (result = hardware_parse_disk(&at, &disk, err)) < 0
                   ? result
                   : hotplug_disk(m, instance, &disk, err);
    return (result = hardware_parse_net(&at, &net, err)) < 0 ? result
                                                             : hotplug_net(m, instance, &net, err);
}

static int attach_stored(struct manager *m, struct instance *instance, const struct part *part,
                         json_t *spec, struct err *err)
{
    bool found;
    json_t *before = list_without(spec, part, &found), *after = json_copy(before);
    int result;

    json_array_append(after, part->entry);
    pthread_mutex_lock(&m->disk_lock);
    result = found && !runs(instance) ? err_set(err, -EEXIST, "'%s' is attached to '%s' already",
                                                part->value, instance->name)
                                      : store_list(m, instance, part->list, after, err);
    pthread_mutex_unlock(&m->disk_lock);
    if (result == 0 && runs(instance) && (result = plug(m, instance, part, err)) < 0 && !found)
        store_list(m, instance, part->list, before, NULL);
    json_decref(before);
    json_decref(after);
    return result;
}

/* The network of the host's that the part is on; "" when none. */
static void network_of(json_t *spec, const struct part *part, char ret[NETWORK_NAME_MAX])
{
    json_t *list = list_of(spec, part->list);
    struct hardware_net net;

    *ret = '\0';
    for (size_t i = 0; part->kind == PART_NETWORK && i < json_array_size(list); i++) {
        struct json_at at;

        json_at_root(json_array_get(list, i), &at);
        if (hardware_parse_net(&at, &net, NULL) == 0 && !strcmp(net.id, part->value))
            memcpy(ret, net.network, NETWORK_NAME_MAX);
    }
}

static int detach_stored(struct manager *m, struct instance *instance, const struct part *part,
                         json_t *spec, struct err *err)
{
    char id[HARDWARE_ID_MAX + 1], network[NETWORK_NAME_MAX];
    bool found;
    json_t *after = list_without(spec, part, &found);
    int result = 0;

    network_of(spec, part, network);
    if (!found)
        result = err_set(err, -ENOENT, "'%s' is not attached to '%s'", part->value, instance->name);
    if (result == 0 && runs(instance)) {
        if (part->kind == PART_DISK)
            hardware_disk_id(part->value, id);
        else
            snprintf(id, sizeof(id), "%s", part->value);
        result = hotplug_detach(m, instance, id, part->force, err);
    }
    if (result == 0 && *network)
        result = networks_disconnect(m, instance, network, err);
    if (result == 0)
        result = store_list(m, instance, part->list, after, err);
    json_decref(after);
    return result;
}

/* The name of its interface on that network; "" when it has none. */
static int interface_id(const struct instance *instance, const char *network,
                        char ret[HARDWARE_ID_MAX + 1], struct err *err)
{
    struct spec spec;
    int result = spec_parse_text(instance->spec, &spec, err);

    *ret = '\0';
    if (result < 0)
        return result;
    for (unsigned i = 0; i < spec.hardware->nr_nets; i++)
        if (!strcmp(spec.hardware->nets[i].network, network))
            snprintf(ret, HARDWARE_ID_MAX + 1, "%s", spec.hardware->nets[i].id);
    spec_done(&spec);
    return 0;
}

static int change_stored(struct manager *m, struct instance *instance, const struct part *part,
                         bool attach, struct err *err)
{
    json_t *spec = NULL;
    int result;

    if ((result = check_instance(instance, part, err)) == 0 &&
        (result = json_parse(instance->spec, strlen(instance->spec), "spec", &spec, err)) == 0)
        result = attach ? attach_stored(m, instance, part, spec, err)
                        : detach_stored(m, instance, part, spec, err);
    json_decref(spec);
    return result;
}

static void change(struct api_request *request, struct api_reply *reply, const struct part *part,
                   bool attach)
{
    struct instance *instance = api_instance(request, reply);
    struct manager *m = request->m;
    struct err err = ERR_INIT;
    int result;

    if (!instance)
        return;
    if ((result = instance_acquire(m, instance, &err)) == 0) {
        result = change_stored(m, instance, part, attach, &err);
        instance_release(m, instance);
    }
    if (result < 0) {
        api_fail_err(reply, result, &err);
    } else {
        event_add(m, instance, attach ? "attach" : "detach", part->value);
        pthread_mutex_lock(&m->lock);
        out_instance(&reply->body, instance);
        pthread_mutex_unlock(&m->lock);
        buf_append(&reply->body, "\n", 1);
    }
    instance_unref(m, instance);
}

/* The interface's name: the network's, where that is one. */
int api_hardware_connect(struct manager *m, struct instance *instance, const char *network,
                         const char *address4, bool connect, struct err *err)
{
    char id[HARDWARE_ID_MAX + 1];
    struct part part = {.kind = PART_NETWORK, .list = "networks", .key = "id", .value = id};
    json_t *entry;
    int result;

    if ((result = interface_id(instance, network, id, err)) < 0)
        return result;
    if (!connect && !*id)
        return err_set(err, -ENOENT, "it is not on network '%.40s'", network);
    /* Stored, and not there: a manager was killed in between. */
    if (connect && *id && (!runs(instance) || networks_placed(m, instance, network)))
        return err_set(err, -EEXIST, "it is on network '%s' already", network);
    if (connect && !*id)
        hardware_net_id(network, id);
    entry = address4
                ? json_pack("{s:s, s:o}", "id", id, "net",
                            json_sprintf("network=%s,ip=%s", network, address4))
                : json_pack("{s:s, s:o}", "id", id, "net", json_sprintf("network=%s", network));
    part.entry = entry;
    result = entry ? change_stored(m, instance, &part, connect, err)
                   : err_set(err, -ENOMEM, "out of memory");
    json_decref(entry);
    if (result == 0)
        event_add(m, instance, connect ? "connect" : "disconnect", network);
    return result;
}

void api_attach_disk(struct api_request *request, struct api_reply *reply)
{
    struct part part = {PART_DISK, "disks", "disk", NULL, false, request->json};
    struct err err = ERR_INIT;
    struct hardware_disk disk;
    struct json_at body;
    int result;

    json_at_root(request->json, &body);
    if ((result = hardware_parse_disk(&body, &disk, &err)) < 0) {
        api_fail_err(reply, result, &err);
        return;
    }
    part.value = disk.disk;
    change(request, reply, &part, true);
}

void api_attach_network(struct api_request *request, struct api_reply *reply)
{
    struct part part = {PART_NETWORK, "networks", "id", NULL, false, request->json};
    struct err err = ERR_INIT;
    struct hardware_net net;
    struct json_at body;
    int result;

    json_at_root(request->json, &body);
    if ((result = hardware_parse_net(&body, &net, &err)) < 0) {
        api_fail_err(reply, result, &err);
        return;
    }
    part.value = net.id;
    change(request, reply, &part, true);
}

static void detach(struct api_request *request, struct api_reply *reply, struct part *part)
{
    const char *const known[] = {part->key, "force", NULL};
    struct err err = ERR_INIT;
    struct json_at body;
    int result;

    json_at_root(request->json, &body);
    if ((result = json_reject_unknown(&body, known, &err)) < 0 ||
        (result = json_get_string(&body, part->key, &part->value, &err)) < 0 ||
        (result = json_opt_bool(&body, "force", &part->force, &err)) < 0) {
        api_fail_err(reply, result, &err);
        return;
    }
    change(request, reply, part, false);
}

void api_detach_disk(struct api_request *request, struct api_reply *reply)
{
    struct part part = {.kind = PART_DISK, .list = "disks", .key = "disk"};

    detach(request, reply, &part);
}

void api_detach_network(struct api_request *request, struct api_reply *reply)
{
    struct part part = {.kind = PART_NETWORK, .list = "networks", .key = "id"};

    detach(request, reply, &part);
}
