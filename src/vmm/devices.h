/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio devices of one VM, on an event loop with a thread of its own. Private to vmm/.
 *
 *   devices_fork   servers of shared directories start (one thread only)
 *   devices_open   disks and networks are opened (needs rights)
 *   devices_count  how many windows the machine has to announce
 *   devices_attach devices are made on the machine's bus
 *   devices_start  the thread runs; stopped and taken down by devices_free, after the vCPUs
 */
#ifndef LODGE_VMM_DEVICES_H
#define LODGE_VMM_DEVICES_H

#include "base/loop.h"
#include "block/block.h"
#include "machine/machine.h"
#include "virtio/place.h"
#include "virtio/virtio.h"
#include "share/server.h"
#include "vmm/config.h"
#include "vmm/console.h"

/* A window that a device may leave, and another come to. */
struct device_place {
    struct virtio_place *place;
    struct virtio_device *device; /* there since the beginning, until hotplug_init takes it */
    const char *id, *kind;        /* of that; the configuration's */
};

struct devices {
    struct loop *loop;
    struct block *blocks[VMM_DISKS_MAX]; /* until their device owns them */
    unsigned nr_blocks;
    struct net *nets[VMM_NETS_MAX]; /* likewise */
    unsigned nr_nets;
    struct share_server *shares[VMM_TAGS_MAX]; /* likewise, one a tag */
    const char *tags[VMM_TAGS_MAX];            /* the configuration's */
    unsigned nr_shares;
    struct virtio_device *all[MACHINE_VIRTIO_MAX]; /* NULL: in a place */
    struct machine_virtio windows[MACHINE_VIRTIO_MAX];
    unsigned nr;
    struct device_place places[MACHINE_VIRTIO_MAX];
    unsigned nr_places;
    struct virtio_device *balloon; /* one of all, or NULL */
    struct virtio_device *console; /* one of all, or NULL */
    struct console *terminal;      /* borrowed; where console's output goes */
    struct virtio_host host;
    bool runs;
};

int devices_fork(struct devices *devices, const struct vmm_config *config, struct err *err);
int devices_open(struct devices *devices, const struct vmm_config *config, struct err *err);
unsigned devices_count(const struct vmm_config *config);
int devices_attach(struct devices *devices, const struct vmm_config *config,
                   struct machine *machine, struct console *terminal, struct err *err);
int devices_start(struct devices *devices, struct err *err);
/* Puts every device in its power-on state; no vCPU runs. */
void devices_reset(struct devices *devices, struct machine *machine);
void devices_free(struct devices *devices);

/* Input and size for the virtio console; any thread but the devices'. */
size_t devices_console_input(struct devices *devices, const void *data, size_t length);
void devices_console_resize(struct devices *devices, uint16_t columns, uint16_t rows);

/* The balloon, if there is one; any thread but the devices'. guest_bytes: what the guest keeps. */
int devices_balloon_set(struct devices *devices, uint64_t guest_bytes, struct err *err);
int devices_balloon_get(struct devices *devices, struct virtio_balloon_info *ret, struct err *err);

#endif
