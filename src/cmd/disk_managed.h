/* SPDX-License-Identifier: Apache-2.0 */
/* lodge disk convert through the manager. */
#ifndef LODGE_CMD_DISK_MANAGED_H
#define LODGE_CMD_DISK_MANAGED_H

#include "cmd/progress.h"
#include "image/store.h"

struct disk_managed {
    const char *from, *to, *from_format, *to_format; /* formats: NULL for what the names say */
    bool force;
    char path[PATH_MAX]; /* the new disk's; written by disk_managed_convert */
};

/* false: no manager runs that keeps the same store. *ret_result: how it went. */
bool disk_managed_convert(const struct store *store, struct disk_managed *convert,
                          struct progress *progress, int *ret_result, struct err *err);

#endif
