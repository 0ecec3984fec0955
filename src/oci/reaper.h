/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An optional first process inside the container (annotation `io.lodge.init` = "true"), for
 * programs that were not written to be process 1: it starts the program as its child, passes
 * signals on to it, reaps orphans, and exits with its status (128 + n when signal n ended it).
 * Without it the program itself is process 1, for which the kernel ignores every signal that it
 * does not handle.
 */
#ifndef LODGE_OCI_REAPER_H
#define LODGE_OCI_REAPER_H

#include "base/err.h"
#include "oci/spec.h"

#include <stdbool.h>

bool reaper_is_wanted(const struct oci_spec *spec);
/*
 * Forks. In the child: returns 0, with default signals, in a process group of its own (in the
 * terminal's foreground when there is one). In the parent: closes `socket` and every descriptor but
 * the standard streams, becomes the reaper, and never returns. own_user: the container has one
 * user, who started it.
 */
int reaper_fork(bool terminal, bool own_user, int socket, struct err *err);

#endif
