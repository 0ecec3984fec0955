/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks and network interfaces that come to a running machine and go, as the agent's own programs
 * (include/agent_protocol.h). A part is looked for in the windows that were empty at the boot, and
 * leaves by its driver being taken off its window: the host puts it in before, and takes it out
 * afterwards. Each may be done twice. In a process of the agent's, one at a time.
 */
#ifndef LODGE_GUEST_PARTS_H
#define LODGE_GUEST_PARTS_H

#include "base/err.h"

#include <stdbool.h>

/* By the first process: the directory of modules that are loaded when something needs them. */
void parts_keep_modules(int dirfd);

/* Links of the disks that are there, as parts_attach_disk makes one. */
void parts_link_disks(void);

/* text4, text6 (NULL: none): ADDRESS/BITS, and with ",GATEWAY" the way out and the names. */
int parts_attach_net(const char *mac, const char *text4, const char *text6, struct err *err);
int parts_detach_net(const char *mac, struct err *err);
/* ret: its path, as /dev/vdb. */
#define PARTS_DISK_MAX 32
int parts_attach_disk(const char *serial, char ret[PARTS_DISK_MAX], struct err *err);
/* -EBUSY: it is mounted, or used otherwise; by force it goes all the same. */
int parts_detach_disk(const char *serial, bool force, struct err *err);

#endif
