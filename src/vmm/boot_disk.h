/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM boots when it is told an order (`--boot disk,cdrom,kernel`): the kernel on its own disk
 * or CD, found by the program lodge-bootdisk in a confined process, or the one that is named. The
 * first of the order that can be booted counts. Private to vmm/.
 */
#ifndef LODGE_VMM_BOOT_DISK_H
#define LODGE_VMM_BOOT_DISK_H

#include "vmm/config.h"

struct boot_choice {
    bool from_disk; /* else the kernel and modules of the configuration; the rest is for a disk */
    int kernel_fd, initrd_fd; /* initrd_fd -1: none. The caller closes both */
    char what[512];           /* "'/boot/vmlinuz-1' on 'disk.raw', partition 1" */
    char cmdline[4096];
};

/* Without an order the configuration's kernel. The error has a reason for each that was tried. */
int boot_choose(const struct vmm_config *config, struct boot_choice *ret, struct err *err);
/* "disk", "cdrom" and "kernel", each at most once, with commas between. */
int boot_order_check(const char *order, struct err *err);

#endif
