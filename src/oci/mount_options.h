/* SPDX-License-Identifier: Apache-2.0 */
/* Mount options of an OCI mount entry, sorted by what they act on (config.md "mounts", mount(8)).
 */
#ifndef LODGE_OCI_MOUNT_OPTIONS_H
#define LODGE_OCI_MOUNT_OPTIONS_H

#include "base/err.h"
#include "oci/spec.h"

#include <stdbool.h>
#include <stdint.h>

struct mount_options {
    bool bind, recursive;
    uint64_t attributes_set, attributes_clear; /* MOUNT_ATTR_* */
    uint64_t recursive_set, recursive_clear;   /* the same for the whole tree (rro, rnosuid, ...) */
    unsigned long propagation;                 /* MS_SHARED, ... | MS_REC; 0: untouched */
    bool superblock_read_only;
    bool copy_up; /* tmpcopyup */
    bool idmap, idmap_recursive;
    struct oci_strings data; /* the rest: for the file system; items owned, strings borrowed */
};

int mount_options_parse(const struct oci_mount *mount, struct mount_options *ret, struct err *err);
void mount_options_done(struct mount_options *options);

#endif
