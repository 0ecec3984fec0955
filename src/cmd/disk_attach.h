/* SPDX-License-Identifier: Apache-2.0 */
/* What `lodge disk` asks of the manager: which machine has which disk. */
#ifndef LODGE_CMD_DISK_ATTACH_H
#define LODGE_CMD_DISK_ATTACH_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

/* disk: a name or a path, and ",ro", ",format=FORMAT" behind it. format NULL: by its name. */
int disk_attach(const char *disk, const char *machine, const char *format, bool read_only,
                struct err *err);
int disk_detach(const char *disk, const char *machine, bool force, struct err *err);
/* Removes a disk that no machine has. -EAGAIN: there is no manager, so it is nobody's. */
int disk_remove_managed(const char *name, struct err *err);
/* Names of disks, each with an array of machines; empty when no manager runs. New reference. */
json_t *disk_owners(void);
/* A better word than that some process uses the disk, where a machine has it. */
void disk_name_owner(const char *name, struct err *err);

#endif
