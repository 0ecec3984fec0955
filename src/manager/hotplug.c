/* SPDX-License-Identifier: Apache-2.0 */
#include "manager/hotplug.h"

#include <errno.h>

static int refuse(const struct instance *instance, struct err *err)
{
    return err_set(err, -EOPNOTSUPP, "'%s' runs: `lodge vm stop %s` first", instance->name,
                   instance->name);
}

int hotplug_disk(struct manager *m, const struct instance *instance,
                 const struct hardware_disk *disk, struct err *err)
{
    (void)m, (void)disk;
    return refuse(instance, err);
}

int hotplug_net(struct manager *m, const struct instance *instance, const struct hardware_net *net,
                struct err *err)
{
    (void)m, (void)net;
    return refuse(instance, err);
}

int hotplug_detach(struct manager *m, const struct instance *instance, const char *id, bool force,
                   struct err *err)
{
    (void)m, (void)id, (void)force;
    return refuse(instance, err);
}
