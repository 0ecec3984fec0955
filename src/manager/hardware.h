/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual machine that is put together part by part, without an image: memory, processors, disks,
 * a CD, network interfaces, and what it boots. It is the member "hardware" of an instance's
 * specification; docs/API describes it. lodge-vmm runs it, directly.
 *
 * A disk is named as `lodge disk` names it, or by an absolute path. It may be attached to one
 * machine that writes to it, or to several that only read it.
 *
 * hardware_parse is pure; the other functions touch files, and are called by any thread.
 */
#ifndef LODGE_MANAGER_HARDWARE_H
#define LODGE_MANAGER_HARDWARE_H

#include "base/json.h"
#include "network/network.h"

#include <stdbool.h>
#include <stdint.h>

#define HARDWARE_DISKS_MAX  7 /* lodge-vmm's eight, less the CD */
#define HARDWARE_NETS_MAX   4
#define HARDWARE_ID_MAX     20 /* what a virtio block device tells as its serial number */
#define HARDWARE_CPUS_MAX   64
#define HARDWARE_CDROM      "cdrom" /* the CD's serial number */
#define HARDWARE_BOOT_BYTES 24

/* Strings are borrowed from the document. */
struct hardware_disk {
    const char *disk, *format; /* format NULL: what the name ends in */
    bool read_only;
};

/* A network of the host's, "network=NAME[,ip=ADDRESS]", or what lodge-vmm's --net takes. */
struct hardware_net {
    const char *id, *net;
    char network[NETWORK_NAME_MAX]; /* "": none of the host's */
    const char *address4;           /* NULL: a free one */
};

struct hardware {
    uint64_t memory_bytes, cpus;
    char boot[HARDWARE_BOOT_BYTES];                /* "cdrom,disk,kernel"; as lodge-vmm's --boot */
    const char *kernel, *initrd, *cmdline, *cdrom; /* NULL: none */
    struct hardware_disk disks[HARDWARE_DISKS_MAX];
    unsigned nr_disks;
    struct hardware_net nets[HARDWARE_NETS_MAX];
    unsigned nr_nets;
};

int hardware_parse(const struct json_at *at, struct hardware *ret, struct err *err);
/* The member "disks" of `root`, and one member of it, of "networks". */
int hardware_parse_disks(const struct json_at *root, struct hardware_disk ret[HARDWARE_DISKS_MAX],
                         unsigned *ret_nr, struct err *err);
int hardware_parse_disk(const struct json_at *at, struct hardware_disk *ret, struct err *err);
int hardware_parse_net(const struct json_at *at, struct hardware_net *ret, struct err *err);
/* The serial number of a disk in its guest, and what the monitor knows it by. */
void hardware_disk_id(const char *disk, char ret[HARDWARE_ID_MAX + 1]);

/* The same of the interface on a network of the host's. */
void hardware_net_id(const char *network, char ret[HARDWARE_ID_MAX + 1]);
/* Whether it has a place on a network of the host's (that one, unless NULL). */
bool hardware_is_networked(const struct hardware *hardware, const char *network);

struct manager;
struct instance;
struct spec;

/* What a first start would find wrong: disks that are not there, or that another machine has.
 * `self` (may be NULL) is the instance that it is for. */
int hardware_check(struct manager *m, const struct instance *self, const struct hardware *hardware,
                   struct err *err);
/* The same of disks alone. */
int hardware_check_disks(struct manager *m, const struct instance *self,
                         const struct hardware_disk *disks, unsigned nr, struct err *err);
/* Whether this part of "hardware" may change now: a machine that runs keeps its size. */
int hardware_change_allowed(const struct instance *instance, const json_t *changes,
                            struct err *err);
struct vdisk;
/* Where the disk is. */
int hardware_find_disk(const struct manager *m, const struct hardware_disk *wanted,
                       struct vdisk *ret, struct err *err);
/* Writes lodge-vmm's configuration of one run; *ret is the command. */
int hardware_prepare(struct manager *m, const struct instance *instance, const struct spec *spec,
                     json_t **ret, struct err *err);
/* Asks the guest to power off. */
int hardware_power_button(struct manager *m, const struct instance *instance, struct err *err);
/* The last error that a run has logged, or nothing. ret has `size` bytes. */
void hardware_last_words(struct manager *m, const struct instance *instance, char *ret,
                         size_t size);

#endif
