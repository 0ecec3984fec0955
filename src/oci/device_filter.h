/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device rules on cgroup version 2: there is no file for them, but a BPF program of type
 * BPF_PROG_TYPE_CGROUP_DEVICE that is asked for each access. Semantics are version 1's: what the
 * last rule that fits says holds; without one, nothing is allowed.
 */
#ifndef LODGE_OCI_DEVICE_FILTER_H
#define LODGE_OCI_DEVICE_FILTER_H

#include "base/err.h"
#include "oci/spec.h"

#include <linux/bpf.h>

/* At most this many instructions come of `length` rules. */
#define DEVICE_FILTER_LENGTH(length) (8 + 8 * (length))

/* Writes the program for `rules`, then `more` (later rules win), into items, which has room for
 * DEVICE_FILTER_LENGTH(length + nr_more). Returns the number of instructions. */
size_t device_filter_make(const struct oci_device_rule *rules, size_t length,
                          const struct oci_device_rule *more, size_t nr_more,
                          struct bpf_insn *items);
/* Loads it and attaches it to the v2 cgroup directory_fd, in place of one that is there. */
int device_filter_attach(int directory_fd, const struct bpf_insn *items, size_t length,
                         struct err *err);

#endif
