/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes to a running machine of an image goes through three hands: the host's (a place on a
 * network), the monitor's (a device in an empty window), the guest's (its agent: a driver, an
 * address). It goes the other way round. An interface is known by its hardware address.
 */
#include "manager/hotplug_internal.h"

#include "base/log.h"
#include "vmm_control.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define ATTACH_LIMIT_MS 30000
#define DETACH_LIMIT_MS 20000
#define FORCE_LIMIT_MS  5000
#define GUEST_REFUSES   2 /* exit status of the agent's programs: it is in use */
#define ANSWER_MAX      256

/* One of the agent's own programs. */
static int tell_guest(struct manager *m, const struct instance *instance, const char *const *words,
                      uint64_t limit_ms, struct err *err)
{
    struct err said = ERR_INIT;
    int status = 1,
        result = guest_run(m, instance->id, guest_program(words), limit_ms, NULL, &status, &said);

    if (result == -ETIMEDOUT)
        return err_set(err, -EBUSY,
                       "the guest of '%s' did not do its part (%s) within %llu seconds",
                       instance->name, words[0], (unsigned long long)limit_ms / 1000);
    if (result < 0)
        return err_set(err, result, "%s", said.message);
    if (status != 0)
        return err_set(err, status == GUEST_REFUSES ? -EBUSY : -EREMOTEIO, "the guest of '%s': %s",
                       instance->name, *said.message ? said.message : "its agent failed");
    return 0;
}

/* The guest has let it go; the monitor takes it away. */
static int take_away(struct manager *m, const struct instance *instance, const char *id, bool force,
                     struct err *err)
{
    json_t *answer = NULL;
    bool gone;
    int result = hotplug_ask(
        m, instance,
        json_pack("{s:s, s:s, s:b}", "command", VMM_CONTROL_DETACH, "id", id, "force", (int)force),
        -1, &answer, err);

    if (result < 0)
        return result;
    gone = strcmp(json_string_value(json_object_get(answer, "state")) ?: "", "asked") != 0;
    json_decref(answer);
    return gone ? 0
                : err_set(err, -EBUSY, "the guest of '%s' has not let it go: its driver is there",
                          instance->name);
}

static int detach_net(struct manager *m, const struct instance *instance, const char *mac,
                      struct err *err)
{
    const char *words[] = {"net-detach", mac, NULL};
    int result = tell_guest(m, instance, words, DETACH_LIMIT_MS, err);

    return result < 0 ? result : take_away(m, instance, mac, false, err);
}

int hotplug_guest_disk(struct manager *m, const struct instance *instance, const char *id,
                       struct err *err)
{
    const char *words[] = {"disk-attach", id, NULL};
    int result = tell_guest(m, instance, words, ATTACH_LIMIT_MS, err);

    if (result == -EBUSY) /* it would not answer to that either */
        take_away(m, instance, id, true, NULL);
    else if (result < 0)
        hotplug_guest_detach(m, instance, id, true, NULL);
    return result;
}

int hotplug_guest_detach(struct manager *m, const struct instance *instance, const char *id,
                         bool force, struct err *err)
{
    const char *words[] = {"disk-detach", id, force ? "force" : NULL, NULL};
    struct err said = ERR_INIT;
    int result = tell_guest(m, instance, words, force ? FORCE_LIMIT_MS : DETACH_LIMIT_MS, &said);

    if (result == -EBUSY && !force)
        return err_set(err, -EBUSY, "%s: stop using it there, or --force (it sees errors then)",
                       said.message);
    if (result < 0 && !force)
        return err_set(err, result, "%s", said.message);
    /* By force whatever the guest does about it. */
    return take_away(m, instance, id, force, err);
}

/* What is there without a place is what a guest kept that was to let it go: its tap is gone. */
static int clear_net(struct manager *m, const struct instance *instance, const char *mac,
                     bool fresh, struct err *err)
{
    return fresh && hotplug_look(m, instance, mac, NULL) >= 0 ? detach_net(m, instance, mac, err)
                                                              : 0;
}

static int give_net(struct manager *m, const struct instance *instance, const char *network,
                    const char *address4, bool way_out, struct networks_interface *ret,
                    struct err *err)
{
    const char *words[] = {"net-attach", ret->mac, ret->text4, NULL, NULL};
    bool fresh = !networks_placed(m, instance, network);
    char tap[NETWORKS_TAP_SIZE] = "";
    int result;

    if ((result = networks_place(m, instance, network, address4, tap, err)) < 0 ||
        (result = networks_interface(m, instance, network, way_out, ret, err)) < 0 ||
        (result = clear_net(m, instance, ret->mac, fresh, err)) < 0)
        return result;
    if (*ret->text6)
        words[3] = ret->text6;
    if (hotplug_look(m, instance, ret->mac, NULL) < 0 &&
        (result = hotplug_send_net(m, instance, ret->mac, tap, err)) < 0)
        return result;
    return tell_guest(m, instance, words, ATTACH_LIMIT_MS, err);
}

int hotplug_connect(struct manager *m, const struct instance *instance, const char *network,
                    const char *address4, bool way_out, struct err *err)
{
    struct networks_interface interface = {0};
    int result = hotplug_check_running(instance, err);

    if (result < 0)
        return result;
    result = give_net(m, instance, network, address4, way_out, &interface, err);
    if (result < 0) {
        if (*interface.mac &&
            (result == -EBUSY || detach_net(m, instance, interface.mac, NULL) < 0))
            take_away(m, instance, interface.mac, true, NULL);
        networks_disconnect(m, instance, network, NULL);
    }
    return result;
}

int hotplug_disconnect(struct manager *m, const struct instance *instance, const char *network,
                       struct err *err)
{
    struct networks_interface interface = {0};
    int result = hotplug_check_running(instance, err);

    if (result < 0)
        return result;
    if (networks_interface(m, instance, network, false, &interface, NULL) == 0 &&
        (result = detach_net(m, instance, interface.mac, err)) < 0)
        return result;
    return networks_disconnect(m, instance, network, err);
}

/* Whether the monitor has it since the machine's start: then the guest has known it from there. */
static bool since_boot(const json_t *devices, const char *id)
{
    for (size_t i = 0; i < json_array_size(devices); i++) {
        const json_t *device = json_array_get(devices, i);

        if (json_is_true(json_object_get(device, "boot")) &&
            !strcasecmp(json_string_value(json_object_get(device, "id")) ?: "", id))
            return true;
    }
    return false;
}

static void settle_net(struct manager *m, const struct instance *instance, const json_t *devices,
                       const char *network, bool way_out)
{
    struct networks_interface interface = {0};
    struct err err = ERR_INIT;

    if (networks_interface(m, instance, network, way_out, &interface, NULL) == 0 &&
        since_boot(devices, interface.mac))
        return;
    if (hotplug_connect(m, instance, network, NULL, way_out, &err) < 0)
        log_warning("instance %s: network '%s': %s", instance->name, network, err.message);
}

static void settle_disk(struct manager *m, const struct instance *instance, const json_t *devices,
                        const struct hardware_disk *disk)
{
    char id[HARDWARE_ID_MAX + 1];
    struct err err = ERR_INIT;

    hardware_disk_id(disk->disk, id);
    if (!since_boot(devices, id) && hotplug_disk(m, instance, disk, &err) < 0)
        log_warning("instance %s: disk '%s': %s", instance->name, disk->disk, err.message);
}

static void settle(struct manager *m, const struct instance *instance, const struct spec *spec)
{
    json_t *answer = NULL;
    const json_t *devices;

    if (hotplug_ask(m, instance, json_pack("{s:s}", "command", VMM_CONTROL_DEVICES), -1, &answer,
                    NULL) < 0)
        return;
    devices = json_object_get(answer, "devices");
    for (size_t i = 0; spec_is_networked(spec) && i <= spec->nr_more; i++)
        settle_net(m, instance, devices, i ? spec->more[i - 1] : spec->network, i == 0);
    for (unsigned i = 0; i < spec->nr_disks; i++)
        settle_disk(m, instance, devices, &spec->disks[i]);
    json_decref(answer);
}

void hotplug_settle(struct manager *m, const struct instance *instance)
{
    struct spec spec;

    if (!instance->brief->vm || instance->brief->hardware ||
        spec_parse_text(instance->spec, &spec, NULL) < 0)
        return;
    if (spec_is_networked(&spec) || spec.nr_disks)
        settle(m, instance, &spec);
    spec_done(&spec);
}
