/* SPDX-License-Identifier: Apache-2.0 */
/* Options that may be given several times: --disk and --net of `lodge vm create`. */
#ifndef LODGE_CMD_VM_PARTS_H
#define LODGE_CMD_VM_PARTS_H

#include "base/err.h"

#include <jansson.h>

#define VM_PARTS_MAX 16

struct vm_parts {
    const char *disks[VM_PARTS_MAX], *nets[VM_PARTS_MAX];
    unsigned nr_disks, nr_nets;
};

/* Takes them out of argv[1..*argc]. */
int vm_parts_take(struct vm_parts *parts, int *argc, char **argv, struct err *err);
/* As "disks" and "networks" of `hardware`; networks are net0, net1, ... */
int vm_parts_put(const struct vm_parts *parts, json_t *hardware, struct err *err);
/* "DISK[,ro][,format=raw|qcow2]" as the API wants it; a path becomes absolute. New reference. */
int vm_parts_disk(const char *text, json_t **ret, struct err *err);
/* The name or absolute path of a disk: malloc. */
int vm_parts_disk_name(const char *name_or_path, char **ret, struct err *err);

#endif
