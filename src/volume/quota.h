/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Project quotas: a limit on what a directory and all below it take of their file system, enforced
 * by its kernel (ext4 with the feature `project` or xfs, mounted with `prjquota`). Private to
 * volume/.
 *
 * What is made below the directory inherits its project. Threads: any.
 */
#ifndef LODGE_VOLUME_QUOTA_H
#define LODGE_VOLUME_QUOTA_H

#include "base/err.h"

#include <stdint.h>

/* Limits the directory, which is new and empty, under a project that nobody else has: *ret_project.
 * -EOPNOTSUPP: its file system has no such quotas, or they are not enforced, or we lack the right
 * to set them. */
int quota_limit(int dir_fd, uint64_t size_bytes, uint32_t *ret_project, struct err *err);
/* What the project takes; -errno: who may not ask, or where quotas are off now. */
int quota_used(int dir_fd, uint32_t project, uint64_t *ret_bytes);
/* 0 while the limit holds; -EOPNOTSUPP: the file system was mounted without its quotas. */
int quota_check(int dir_fd, struct err *err);
/* The limit goes, as what it was for does. */
void quota_drop(int dir_fd, uint32_t project);

#endif
