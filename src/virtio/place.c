/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/place.h"

#include "base/util.h"
#include "virtio/spec.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct virtio_place {
    struct irq_line line;
    pthread_rwlock_t lock; /* read by accesses, for as long as they take */
    struct virtio_device *device;
};

/* An empty place has its magic value and version, and device type 0. */
static void read_empty(uint64_t offset, void *data, unsigned size)
{
    memset(data, 0, size);
    if (size == 4 && offset == VIRTIO_MMIO_MAGIC_VALUE)
        store_le32(data, VIRTIO_MMIO_MAGIC);
    else if (size == 4 && offset == VIRTIO_MMIO_VERSION)
        store_le32(data, 2);
}

static void place_read(void *context, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    struct virtio_place *place = context;

    pthread_rwlock_rdlock(&place->lock);
    if (place->device)
        virtio_mmio_ops.read(place->device, cpu, offset, data, size);
    else
        read_empty(offset, data, size);
    pthread_rwlock_unlock(&place->lock);
}

static void place_write(void *context, unsigned cpu, uint64_t offset, const void *data,
                        unsigned size)
{
    struct virtio_place *place = context;

    pthread_rwlock_rdlock(&place->lock);
    if (place->device)
        virtio_mmio_ops.write(place->device, cpu, offset, data, size);
    pthread_rwlock_unlock(&place->lock);
}

int virtio_place_new(struct bus *bus, gpa_t gpa, const struct irq_line *line,
                     struct virtio_place **ret, struct err *err)
{
    static const struct bus_ops ops = {place_read, place_write};
    struct virtio_place *place = calloc(1, sizeof(*place));
    int result;

    if (!place)
        return err_set(err, -ENOMEM, "out of memory");
    place->line = *line;
    pthread_rwlock_init(&place->lock, NULL);
    if ((result = bus_add(bus, BUS_MMIO, gpa, VIRTIO_MMIO_SIZE, &ops, place, "virtio place", err)) <
        0) {
        virtio_place_free(place);
        return result;
    }
    *ret = place;
    return 0;
}

void virtio_place_free(struct virtio_place *place)
{
    if (!place)
        return;
    pthread_rwlock_destroy(&place->lock);
    free(place);
}

void virtio_place_fill(struct virtio_place *place, struct virtio_device *device)
{
    virtio_mmio_connect(device, &place->line);
    pthread_rwlock_wrlock(&place->lock);
    place->device = device;
    pthread_rwlock_unlock(&place->lock);
}

void virtio_place_empty(struct virtio_place *place)
{
    pthread_rwlock_wrlock(&place->lock);
    place->device = NULL;
    pthread_rwlock_unlock(&place->lock);
}
