/* SPDX-License-Identifier: Apache-2.0 */
/* `-v NAME:DST`: the named volumes of a run, held while it lasts. */
#ifndef LODGE_CMD_RUN_VOLUMES_H
#define LODGE_CMD_RUN_VOLUMES_H

#include "cmd/run_dir.h"
#include "cmd/run_options.h"

struct run_volumes;

/* A source without a slash ("." and ".." are directories). */
bool run_volume_is_name(const char *source);

/* Takes each volume that is named and puts its path in the place of the name. Those with a size are
 * disks of a virtual machine; for a container they are mounted below the run's directory, in a
 * mount namespace of this process from then on. */
int run_volumes_take(struct run_options *options, const struct run_dir *dir,
                     struct run_volumes **ret, struct err *err);
void run_volumes_release(struct run_volumes *volumes);

#endif
