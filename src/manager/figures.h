/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an instance has had, by the kernel's counters, for both isolations alike (a VM's are those
 * of its session and monitor). docs/policy.md: T_i, W_i, V_i.
 */
#ifndef LODGE_MANAGER_FIGURES_H
#define LODGE_MANAGER_FIGURES_H

#include "base/buf.h"
#include "host/cgroup.h"

struct manager;
struct instance;

struct instance_figures {
    struct host_figures host;
    uint64_t waited_ns; /* ready to run, without a processor: the living tasks' run delay */
    uint32_t tasks;
};

/* -ESRCH: it does not run, or has no cgroup of ours. */
int figures_read(struct manager *m, const struct instance *instance, struct instance_figures *ret,
                 struct err *err);
/* As members of a JSON object, without its braces; what is not counted here is null. */
void figures_write(struct buf *to, const struct instance_figures *figures);
/* For Prometheus: all that run, up to a bounded number. */
void figures_metrics(struct manager *m, struct buf *to);

#endif
