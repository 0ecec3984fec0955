/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks and network interfaces that come and go while the guest runs: virtio devices in the slots
 * of the machine's PCI bus, or in places among its MMIO windows (virtio/place.h). Private to vmm/.
 *
 * A device is asked back (the guest's eject button), and given up when the guest ejects it. By
 * force a disk is closed at once besides: what is in flight is finished, later requests fail. The
 * device itself stays on the bus until the guest ejects it, since drivers wait for an answer from
 * it. Files come as descriptors, since nothing can be opened by name any more.
 *
 * Places have no such button: who asks for a device has told the guest's driver to leave it, and it
 * is given up when no driver works with it any more.
 *
 * Threads: the main loop's; hotplug_ejected on a vCPU's.
 */
#ifndef LODGE_VMM_HOTPLUG_H
#define LODGE_VMM_HOTPLUG_H

#include "base/json.h"
#include "machine/machine.h"
#include "vmm/devices.h"

#define HOTPLUG_ID_MAX    VIRTIO_BLK_ID_BYTES
#define HOTPLUG_SLOTS_MAX MACHINE_VIRTIO_MAX /* not less than PCI_SLOTS_MAX */

struct hotplug_slot {
    struct virtio_device *device; /* NULL: empty */
    char id[HOTPLUG_ID_MAX + 1];
    const char *kind;
    bool asked, revoked;
    bool boot; /* in a place since the beginning */
};

struct hotplug {
    const struct vmm_config *config;
    struct devices *devices;
    struct machine *machine;
    struct loop *loop; /* the main one */
    struct hotplug_slot slots[HOTPLUG_SLOTS_MAX];
    struct loop_call ejected_call;
    uint32_t ejected; /* atomic: slots that the guest has ejected */
};

/* Before the jail: what later cannot be loaded any more. */
int hotplug_prepare(const struct vmm_config *config, struct err *err);
void hotplug_init(struct hotplug *hotplug, const struct vmm_config *config, struct devices *devices,
                  struct machine *machine, struct loop *loop);
/* After devices_attach: what is in places from the beginning may leave them, too. */
void hotplug_take(struct hotplug *hotplug);
/* Frees what is plugged, while the devices' loop runs and no vCPU does. */
void hotplug_done(struct hotplug *hotplug);
void hotplug_ejected(struct hotplug *hotplug, unsigned slot);

/* Commands of the control socket: include/vmm_control.h. fd: -1, or taken. */
int hotplug_attach_disk(struct hotplug *hotplug, const json_t *request, int fd, struct err *err);
int hotplug_attach_net(struct hotplug *hotplug, const json_t *request, int fd, struct err *err);
int hotplug_detach(struct hotplug *hotplug, const json_t *request, json_t **ret, struct err *err);
int hotplug_list(struct hotplug *hotplug, json_t **ret, struct err *err);

#endif
