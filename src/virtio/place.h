/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A window of the MMIO transport whose device may come and go while the guest runs. While there is
 * none it reads as device type 0, a placeholder (virtio 1.2 4.2.2.2), which a driver passes over;
 * the guest is told by other means to look again.
 *
 * Invariant: a device is called only while it is in its place: virtio_place_empty waits for
 * accesses under way.
 *
 * Threads: any that no access waits for, so not the devices' loop.
 */
#ifndef LODGE_VIRTIO_PLACE_H
#define LODGE_VIRTIO_PLACE_H

#include "virtio/virtio.h"

struct virtio_place;

/* Adds an empty one at gpa. line is copied; its sink is borrowed. No device is owned. */
int virtio_place_new(struct bus *bus, gpa_t gpa, const struct irq_line *line,
                     struct virtio_place **ret, struct err *err);
/* No vCPU runs any more. NULL is fine. */
void virtio_place_free(struct virtio_place *place);
/* The place is empty. */
void virtio_place_fill(struct virtio_place *place, struct virtio_device *device);
void virtio_place_empty(struct virtio_place *place);

#endif
