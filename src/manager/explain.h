/* SPDX-License-Identifier: Apache-2.0 */
/* Why an instance has what it has, and how an environment is shared, as JSON objects. */
#ifndef LODGE_MANAGER_EXPLAIN_H
#define LODGE_MANAGER_EXPLAIN_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

struct manager;
struct instance;

/* Formula, terms, bounds, level, what the kernel was told and has counted since, who competes.
 * Takes a quarter of a second, in which the use is measured. -ESRCH: it does not run. */
int explain_instance(struct manager *m, struct instance *instance, struct buf *to, struct err *err);
/* The environment: its specification, members, capacity, what is reserved and free. measured:
 * likewise takes a quarter of a second. */
int explain_environment(struct manager *m, const char *name, bool measured, struct buf *to,
                        struct err *err);
/* The list of them, without members. */
void explain_environments(struct manager *m, struct buf *to);

#endif
