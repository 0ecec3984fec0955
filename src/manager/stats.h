/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an instance uses, as the host's kernel counts it (cgroups of version 1 and 2, /proc), and
 * for a VM what its guest says of itself. Docs: docs/API, schema Stats.
 */
#ifndef LODGE_MANAGER_STATS_H
#define LODGE_MANAGER_STATS_H

#include "manager/internal.h"

/* A figure that is not known here. */
#define STATS_UNKNOWN UINT64_MAX

struct stats {
    uint64_t cpu_ns, throttled_ns, throttled_periods;
    uint64_t waiting_ns;  /* ready to run, without a processor: steal, for a VM's processors */
    uint64_t reclaimed;   /* pages looked at, or (version 1) times its limit was met */
    uint64_t io_requests; /* to the host's block devices */
    uint64_t memory_bytes, memory_limit_bytes; /* limit: STATS_UNKNOWN when there is none */
    uint64_t pids;                             /* a VM: the guest's tasks */
    uint64_t block_read_bytes, block_written_bytes;
    uint64_t net_received_bytes, net_sent_bytes;
    uint64_t guest_memory_bytes; /* a VM: what its kernel has given out */
    double pressure[3]; /* cpu, memory, io: some, average of 10 s, 0 ... 1; negative: not known */
};

/* ask_guest: a VM's guest, too, for at most a second or two. A guest that does not answer leaves
 * its figures unknown. -ESRCH: it does not run. */
int stats_read(struct manager *m, const char *id, bool vm, pid_t pid, bool ask_guest,
               struct stats *ret, struct err *err);
void stats_write_json(struct buf *to, const struct stats *stats);

#endif
