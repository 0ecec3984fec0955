/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of a machine that runs: asked of its monitor, which opens nothing by name, so that what is
 * attached goes along as a descriptor. By who has the instance.
 */
#ifndef LODGE_MANAGER_HOTPLUG_H
#define LODGE_MANAGER_HOTPLUG_H

#include "manager/hardware.h"
#include "manager/internal.h"

/* What is there already is no error. */
int hotplug_disk(struct manager *m, const struct instance *instance,
                 const struct hardware_disk *disk, struct err *err);
int hotplug_net(struct manager *m, const struct instance *instance, const struct hardware_net *net,
                struct err *err);
/* Until the guest has let it go; what is not there is no error. force: it is taken away, whatever
 * the guest says. -EBUSY: the guest keeps it. */
int hotplug_detach(struct manager *m, const struct instance *instance, const char *id, bool force,
                   struct err *err);

#endif
