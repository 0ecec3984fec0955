/* SPDX-License-Identifier: Apache-2.0 */
/* The findings of `lodge doctor`: one line a subject, with what to do where something is missing.
 */
#ifndef LODGE_CMD_DOCTOR_H
#define LODGE_CMD_DOCTOR_H

#include "image/store.h"

#include <stddef.h>

enum finding_level {
    FINDING_OK,
    FINDING_LIMITED, /* works, but slower or with less */
    FINDING_MISSING, /* something that `lodge run` needs */
};

struct finding {
    const char *subject;
    enum finding_level level;
    char detail[320];
    char advice[320]; /* "" when there is nothing to do */
};

#define FINDINGS_MAX 24

struct findings {
    struct finding list[FINDINGS_MAX];
    size_t nr;
};

/* Adds one; advice may be NULL. The detail is set by the caller in what is returned; never NULL. */
struct finding *findings_add(struct findings *findings, const char *subject,
                             enum finding_level level, const char *advice);

/* The host's kernel: KVM, cgroups, namespaces, overlay, io_uring, userfaultfd, seccomp, devices. */
void doctor_check_kernel(struct findings *findings);
/* What Lodge is made of: programs, guest kernels, images, tools, directories. */
void doctor_check_installation(struct findings *findings, const struct store *store);

#endif
