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

/*
 * Of a virtual machine of an image (hotplug_guest.c), whose guest's agent is told what to do with
 * what came. Each may be done twice. -EBUSY: the guest does not do it within a time.
 */
/* way_out: its default route, and where it asks for names. What fails is taken back. */
int hotplug_connect(struct manager *m, const struct instance *instance, const char *network,
                    const char *address4, bool way_out, struct err *err);
int hotplug_disconnect(struct manager *m, const struct instance *instance, const char *network,
                       struct err *err);
/* Makes a machine that was found running what its specification says: who was to give it a part may
 * have been killed. What cannot be given is logged. */
void hotplug_settle(struct manager *m, const struct instance *instance);

#endif
