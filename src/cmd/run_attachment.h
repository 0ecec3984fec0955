/* SPDX-License-Identifier: Apache-2.0 */
/* `--net NAME`: a run's place on a network of `lodge network`, for as long as the run lasts. */
#ifndef LODGE_CMD_RUN_ATTACHMENT_H
#define LODGE_CMD_RUN_ATTACHMENT_H

#include "cmd/run.h"

#include <jansson.h>

struct run_attachment;

/* Of a VM: attached at once. Of a container: its namespace is made and attached by
 * run_attachment_namespace, in the mount namespace where it is to be seen. */
int run_attachment_new(const struct run_context *context, struct run_attachment **ret,
                       struct err *err);
int run_attachment_namespace(struct run_attachment *attachment, const struct run_context *context,
                             struct err *err);
/* Detaches. NULL is fine. */
void run_attachment_free(struct run_attachment *attachment);

/* Of a container: the namespace's path, and the path of its resolv.conf. */
const char *run_attachment_path(const struct run_attachment *attachment);
const char *run_attachment_resolv_conf(const struct run_attachment *attachment);
/* Of a VM: the monitor's "networks", the kernel's command line, the text of resolv.conf. */
json_t *run_attachment_config(const struct run_attachment *attachment);
void run_attachment_cmdline(const struct run_attachment *attachment, const char *before, char *ret,
                            size_t size);
void run_attachment_resolver(const struct run_attachment *attachment, char *ret, size_t size);

#endif
