/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's processes written to files by CRIU, and made again from them: the same container
 * later, or on another host that has the same root file system and bind sources.
 *
 * In the image's directory, besides CRIU's own files, is descriptors.json: what standard input,
 * output and error were, so that `restore` puts its own in their places.
 */
#ifndef LODGE_OCI_CHECKPOINT_H
#define LODGE_OCI_CHECKPOINT_H

#include "oci/container.h"

struct checkpoint_options {
    const char *criu;         /* program */
    const char *image_path;   /* directory; made by a checkpoint */
    const char *work_path;    /* for logs; NULL: image_path */
    const char *parent_path;  /* an earlier pre-dump, relative to image_path; NULL: none */
    const char *page_server;  /* ADDRESS:PORT to send memory to; NULL: none */
    const char *cgroups_mode; /* ignore, none, props, soft, full, strict; NULL: soft */
    const char *lsm_profile, *lsm_mount_context; /* restore; NULL: as saved */
    bool leave_running, pre_dump, auto_dedup;
    bool tcp_established, tcp_skip_in_flight, tcp_close, ext_unix_sk, shell_job, file_locks,
        link_remap;
    unsigned empty_namespaces; /* CLONE_NEW*: not saved, made empty */
    int status_fd;             /* told when CRIU is ready; -1: none */
};

/* Unless leave_running or pre_dump is set the container is gone afterwards, state and all. */
int container_checkpoint(const char *root, const char *id, const struct checkpoint_options *options,
                         struct err *err);
/* As container_run, from an image; the bundle's configuration is in force. */
int container_restore(const struct container_options *container,
                      const struct checkpoint_options *options, int *ret_status, struct err *err);

#endif
