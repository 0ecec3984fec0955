/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio devices of a VM (virtio 1.2) and their MMIO transport. Use: make a device, attach it
 * to the bus, start the loop's thread, run the vCPUs; stop the vCPUs, then free the devices.
 *
 * A device runs on its loop's thread: a queue notification from a vCPU only wakes that thread, so a
 * vCPU never waits for I/O (a device reset alone waits, until what is in flight has ended).
 *
 * A malformed ring or descriptor makes the device stop with DEVICE_NEEDS_RESET; it works again
 * after the driver's reset. Nothing a guest does ends the process.
 *
 * Threads: constructors, virtio_device_free and functions marked (loop): the loop's thread, or any
 * single thread while the loop does not run. The transport's bus functions: any vCPU thread.
 */
#ifndef LODGE_VIRTIO_VIRTIO_H
#define LODGE_VIRTIO_VIRTIO_H

#include "base/cleanup.h"
#include "base/err.h"
#include "base/loop.h"
#include "block/block.h"
#include "cpu/memory.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "net/net.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the bus window: registers, then 256 bytes of device configuration. In the DSDT: _HID
 * "LNRO0005", _CRS Memory32Fixed(gpa, VIRTIO_MMIO_SIZE) and a level, active-high interrupt (GSI).
 */
#define VIRTIO_MMIO_SIZE 0x200

struct virtio_device;

/* What every device is given. Borrowed; both outlive the device. */
struct virtio_host {
    struct memory *memory;
    struct loop *loop;
};

/* Adds the device's registers at gpa. line is copied; its sink is borrowed. Once per device. */
int virtio_mmio_attach(struct virtio_device *device, struct bus *bus, gpa_t gpa,
                       const struct irq_line *line, struct err *err);
/* The same without a bus: the caller routes accesses to virtio_mmio_ops with the device. */
void virtio_mmio_connect(struct virtio_device *device, const struct irq_line *line);
extern const struct bus_ops virtio_mmio_ops;

/* The device as it looks on a PCI bus, with this interrupt line. In the place of attach. */
struct pci_device;
void virtio_pci_describe(struct virtio_device *device, const struct irq_line *line,
                         struct pci_device *ret);

/* Resets (drains) and destroys. No vCPU may run, or be inside the device, any more. May wait for
 * the disk, and for host programs that still read what the guest sent them. */
void virtio_device_free(struct virtio_device *device);
const char *virtio_device_name(const struct virtio_device *device); /* "blk", "vsock", ... */
/* Whether a driver works with it. Any thread. */
bool virtio_device_driven(const struct virtio_device *device);
/* Why the device asked for a reset, or NULL while it works. Any thread; static text. */
const char *virtio_device_failure(const struct virtio_device *device);

DEFINE_CLEANUP(virtio_device_freep, struct virtio_device *, virtio_device_free);

/* Block device, virtio 1.2 5.2. Owns `block` from success on (opened on the same loop). */
#define VIRTIO_BLK_ID_BYTES 20
struct virtio_blk_config {
    struct block *block;
    const char *serial; /* copied, cut to 20 bytes; NULL: empty */
};
int virtio_blk_new(const struct virtio_host *host, const struct virtio_blk_config *config,
                   struct virtio_device **ret, struct err *err);

/* (loop) Takes the disk out of the device, and closes it: what is in flight is finished first, what
 * comes afterwards fails. */
int virtio_blk_revoke(struct virtio_device *device);

/* Memory balloon, 5.5, with statistics and free-page reporting. */
#define VIRTIO_BALLOON_STATS 10 /* by tag: 5.5.6.4 */
struct virtio_balloon_info {
    bool running; /* a driver is there */
    uint64_t target_bytes, actual_bytes;
    uint64_t returned_bytes; /* given back to the host since the device was made */
    uint32_t known;          /* bit a value */
    uint64_t values[VIRTIO_BALLOON_STATS];
    uint64_t age_ms; /* of the values */
};
int virtio_balloon_new(const struct virtio_host *host, struct virtio_device **ret, struct err *err);
/* (loop) How much memory the driver is to give. */
void virtio_balloon_set(struct virtio_device *device, uint64_t balloon_bytes);
/* (loop) Asks for new statistics besides: they are there soon after. */
void virtio_balloon_get(struct virtio_device *device, struct virtio_balloon_info *ret);

/* File system device, 5.11. Owns `server` from success on; gives it the guest's memory. */
#define VIRTIO_FS_TAG_BYTES 36
struct share_server;
struct virtio_fs_config {
    struct share_server *server;
    const char *tag; /* copied */
};
int virtio_fs_new(const struct virtio_host *host, const struct virtio_fs_config *config,
                  struct virtio_device **ret, struct err *err);

/* Network device, 5.1. Owns `net` from success on (opened on the same loop). */
struct virtio_net_config {
    struct net *net;
    uint8_t mac[NET_MAC_BYTES];
    uint16_t mtu; /* 0: the back end's, or none */
    /* The guest may send under any hardware address, and change its own. Otherwise frames and ARP
     * messages under another one than `mac` are dropped. */
    bool any_source;
};
int virtio_net_new(const struct virtio_host *host, const struct virtio_net_config *config,
                   struct virtio_device **ret, struct err *err);

/* Entropy device, 5.4. */
struct virtio_rng_config {
    uint64_t bytes_per_second; /* 0: 1 MiB */
};
int virtio_rng_new(const struct virtio_host *host, const struct virtio_rng_config *config,
                   struct virtio_device **ret, struct err *err);

/* Console device with port 0, 5.3. All callbacks and functions (loop). */
struct virtio_console_config {
    void *context;
    /* Guest output. Returns how many bytes were taken; fewer than length stops output until
     * virtio_console_output_ready. data may change under the reader (guest memory). */
    size_t (*output)(void *context, const void *data, size_t length);
    /* There is room for input again, after virtio_console_input took less than it was given. */
    void (*input_ready)(void *context);
    uint16_t columns, rows; /* 0: not known yet */
};
int virtio_console_new(const struct virtio_host *host, const struct virtio_console_config *config,
                       struct virtio_device **ret, struct err *err);
/* Input for the guest: returns how many bytes were taken. */
size_t virtio_console_input(struct virtio_device *device, const void *data, size_t length);
void virtio_console_output_ready(struct virtio_device *device);
void virtio_console_resize(struct virtio_device *device, uint16_t columns, uint16_t rows);

/*
 * Socket device, 5.10, stream sockets. The host side is unix sockets:
 *  - A host program connects to `path`, writes "CONNECT <port>\n" (decimal guest port) and reads
 *    "OK <hostport>\n"; then the stream is the guest's. The connection closes without "OK" when
 *    nobody listens in the guest (or its driver is not up yet): try again.
 *  - A guest that connects to CID 2, port N reaches the unix socket `path`_N ("/run/vm.vsock_1024"
 *    for path "/run/vm.vsock").
 * Shutdown of either direction and resets are passed on both ways.
 */
struct virtio_vsock_config {
    uint64_t guest_cid;       /* 3 .. 0xfffffffe */
    const char *path;         /* copied; the listening socket is made here and removed at the end */
    unsigned connections_max; /* 0: 1024 */
};
int virtio_vsock_new(const struct virtio_host *host, const struct virtio_vsock_config *config,
                     struct virtio_device **ret, struct err *err);

#endif
