/* SPDX-License-Identifier: Apache-2.0 */
/* Processes of one cgroup into another, on either version of cgroups. */
#ifndef LODGE_BASE_CGROUP_PROCS_H
#define LODGE_BASE_CGROUP_PROCS_H

/*
 * Writes each process that `from` (a cgroup's directory, as a descriptor) has into `to`, once.
 * Returns how many were seen: more may come by fork(2), so call again until none is. One that ends
 * meanwhile is no failure; *ret_error is the last -errno of another kind, or 0.
 */
int cgroup_move_once(int from, int to, int *ret_error);

#endif
