/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory comes back by itself: from figures of the host and of each instance to a target for each
 * (memory.high of a container, guest memory less balloon of a VM), once a period.
 *
 *   working set   ws = used - reclaimable + margin, not below the reservation and the floor
 *   host at ease  (free above `free_high`, pressure low): targets rise step by step to the limit
 *   host pressed  (free below `free_low` or pressure high): the missing amount is taken from the
 *                 unused memory of each (current - ws), by unused / weight: the idle pay first
 *   an instance that stalls itself (its own pressure high) is not taken from; it grows
 *
 * A target never falls by more than `step_down` of the current in one period, never below ws (so
 * nothing is killed), never rises above the limit. Between free_low and free_high nothing moves:
 * hysteresis. Pure: same figures, same targets.
 */
#ifndef LODGE_POLICY_MEMORY_H
#define LODGE_POLICY_MEMORY_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum memory_action { MEMORY_KEEP, MEMORY_SHRINK, MEMORY_GROW };

struct memory_policy {
    double free_low, free_high; /* parts of the host's total; 0: 0.10 and 0.20 */
    double pressure_high;       /* PSI some, 0..1; 0: 0.10 */
    double step_down, step_up;  /* part of the current target a period; 0: 0.30, 0.25 */
    double margin;              /* part of the working set left on top; 0: 0.10 */
    uint64_t floor_bytes;       /* no instance below; 0: 32 MiB */
};

struct memory_host {
    uint64_t total_bytes, available_bytes; /* MemTotal, MemAvailable */
    double pressure;                       /* /proc/pressure/memory some, 0..1 */
};

struct memory_instance {
    uint64_t limit_bytes;       /* the most it may have; a VM: its size */
    uint64_t reservation_bytes; /* never below */
    uint64_t target_bytes;      /* in force now; 0: the limit */
    uint64_t used_bytes; /* memory.current; a VM: what the guest holds of the host's memory */
    uint64_t reclaimable_bytes; /* of it: inactive file pages; a VM: what its guest calls free */
    double pressure;            /* its own memory PSI some, 0..1 */
    double weight;              /* R_i; 0: 1 */
};

struct memory_target {
    uint64_t target_bytes;
    uint64_t working_set_bytes;
    uint64_t freed_bytes; /* what shrinking to the target gives back: at most used - target */
    enum memory_action action;
};

/* -EINVAL: a figure that cannot be (err names index and field), -ENOMEM. ret has room for n. */
int memory_targets(const struct memory_policy *policy, const struct memory_host *host,
                   const struct memory_instance *instances, size_t n, struct memory_target *ret,
                   struct err *err);

const char *memory_action_name(enum memory_action action);

#endif
