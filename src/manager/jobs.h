/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manager's job queues, as its other files see them: docs/design/manager.md has the picture.
 *
 * Life: jobs_new before the recovery of instances, jobs_open after it, jobs_stop before the workers
 * are stopped, jobs_free last. Threads: any, without manager.lock.
 */
#ifndef LODGE_MANAGER_JOBS_H
#define LODGE_MANAGER_JOBS_H

#include "base/err.h"

#include <stdbool.h>

struct manager;
struct instance;

int jobs_new(struct manager *m, struct err *err);
/* Loads queues and jobs and goes on with them. */
int jobs_open(struct manager *m, struct err *err);
void jobs_stop(struct manager *m);
void jobs_free(struct manager *m);

/* By who has the instance, whose row says that it ended. lost: nobody saw its end. */
void jobs_instance_ended(struct manager *m, struct instance *instance, bool lost);

#endif
