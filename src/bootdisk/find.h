/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel that a disk or CD would boot by itself: its partitions are gone through in order, and
 * in each the places where boot loaders keep their configuration; the first that leads to a kernel
 * counts. Without any, the kernel that the distribution's packages leave at a known place.
 */
#ifndef LODGE_BOOTDISK_FIND_H
#define LODGE_BOOTDISK_FIND_H

#include "bootdisk/menu.h"
#include "bootdisk/volume.h"

#define BOOT_KERNEL_MAX (UINT64_C(256) << 20)
#define BOOT_INITRD_MAX (UINT64_C(1) << 30)

struct boot_found {
    struct menu_entry entry;  /* paths on the partition */
    unsigned partition;       /* 0: the whole disk */
    char from[MENU_PATH_MAX]; /* the configuration, or what else led there */
};

/* device: as the guest will call the disk ("vda"), for a root= of ours. kernel and initrd get the
 * files; several initial RAM disks one behind the other, as the kernel expects them. -ENOENT with
 * everything that was looked for. */
int boot_find(const struct disk_bytes *disk, const char *device, volume_sink_fn *kernel,
              void *kernel_context, volume_sink_fn *initrd, void *initrd_context,
              struct boot_found *ret, struct err *err);

#endif
