/* SPDX-License-Identifier: Apache-2.0 */
/* What the files that speak with a machine's monitor about its parts share. */
#ifndef LODGE_MANAGER_HOTPLUG_INTERNAL_H
#define LODGE_MANAGER_HOTPLUG_INTERNAL_H

#include "manager/hotplug.h"

/* request is consumed; fd goes along unless it is -1. *ret (may be NULL): its result. */
int hotplug_ask(struct manager *m, const struct instance *instance, json_t *request, int fd,
                json_t **ret, struct err *err);
/* 1: it is there and driven, 0: it is there, -ENOENT: it is not, or what went wrong. */
#define HOTPLUG_REVOKED 2 /* a disk that is there, but of no use any more */
int hotplug_look(struct manager *m, const struct instance *instance, const char *id,
                 struct err *err);
/* A tap is opened here: the monitor may not. *text is what it is told. */
int hotplug_send_net(struct manager *m, const struct instance *instance, const char *id,
                     const char *text, struct err *err);
/* Of a machine of an image (hotplug_guest.c): the guest takes the disk that the monitor has; the
 * guest lets it go, and the monitor takes it away. */
int hotplug_guest_disk(struct manager *m, const struct instance *instance, const char *id,
                       struct err *err);
int hotplug_guest_detach(struct manager *m, const struct instance *instance, const char *id,
                         bool force, struct err *err);
int hotplug_check_running(const struct instance *instance, struct err *err);

#endif
