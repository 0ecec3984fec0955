/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process is given besides user, limits and capabilities: scheduling policy, I/O priority,
 * execution domain, security labels. The same for the first process and for ones that join later.
 */
#ifndef LODGE_OCI_PROCESS_ATTRIBUTES_H
#define LODGE_OCI_PROCESS_ATTRIBUTES_H

#include "base/json.h"
#include "oci/spec.h"

#include <sched.h>

/* Reads scheduler, ioPriority, execCPUAffinity, apparmorProfile, selinuxLabel of `process`. */
int process_attributes_read(const struct json_at *process, struct oci_process *ret,
                            struct err *err);
/* -ENOTSUP for a label that this host cannot carry: its security module is not there. */
int process_attributes_check_labels(const struct oci_spec *spec, struct err *err);

/* Scheduler and I/O priority of the calling process; before capabilities are given up. */
int process_attributes_apply(const struct oci_process *process, struct err *err);
/* The calling process's attr/exec, opened while the host's /proc is in sight; -1: no label is
 * wanted; -errno with err set. */
int process_attributes_open_label(const struct oci_process *process, struct err *err);
/* The label for the next execve. fd -1: nothing to do. */
int process_attributes_set_label(const struct oci_process *process, int fd, struct err *err);

/* The CPUs of the calling process. list NULL: nothing to do. */
int process_attributes_set_affinity(const char *list, struct err *err);

/* "0-3,8" -> the set; -EINVAL. */
int cpu_list_parse(const char *list, cpu_set_t *ret);

#endif
