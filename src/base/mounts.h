/* SPDX-License-Identifier: Apache-2.0 */
/* What a process does to the mounts it sees, once it has a mount namespace of its own. */
#ifndef LODGE_BASE_MOUNTS_H
#define LODGE_BASE_MOUNTS_H

/*
 * Gives every mount of the caller's own mount namespace this propagation (MS_PRIVATE or MS_SLAVE),
 * so that no mount made here is seen outside. Works from inside a chroot as well, whose root is no
 * mount point and so has no propagation of its own: the root then becomes a mount, which
 * pivot_root needs too. For a process with one thread. -errno.
 */
int mounts_set_propagation(unsigned long propagation);

#endif
