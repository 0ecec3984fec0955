/* SPDX-License-Identifier: Apache-2.0 */
/* What the server's process gives up. Private to share/. */
#ifndef LODGE_SHARE_SANDBOX_H
#define LODGE_SHARE_SANDBOX_H

#include "share/share.h"

/* While paths still mean something: namespaces; the members' descriptors are replaced by private
 * copies of their mounts. Where the kernel refuses, things stay as they are. */
void sandbox_namespaces(struct share_member *members, unsigned nr);
/* After everything is open (and the working directory is /proc/self/fd): an empty root directory,
 * where the namespaces were had. */
void sandbox_root(void);
/* Capabilities beyond those over files, then the system call filter. */
int sandbox_rights(struct err *err);

#endif
