/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file in which a caller finds a process's pid. It appears at once and whole, and it is without
 * a name until then: a runtime that is killed meanwhile leaves nothing beside it that nobody would
 * ever remove.
 */
#ifndef LODGE_OCI_PID_FILE_H
#define LODGE_OCI_PID_FILE_H

#include "base/err.h"

#include <sys/types.h>

/* path NULL: none is wanted. */
int pid_file_write(const char *path, pid_t pid, struct err *err);

#endif
