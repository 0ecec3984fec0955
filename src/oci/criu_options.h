/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options of one request to CRIU, collected field by field. The first failure (memory, cap) is
 * kept in `result`; what comes after it does nothing.
 */
#ifndef LODGE_OCI_CRIU_OPTIONS_H
#define LODGE_OCI_CRIU_OPTIONS_H

#include "oci/criu.h"

#include <stdint.h>

struct criu_options {
    struct buf fields;
    int result; /* 0 or -errno */
};

void criu_options_init(struct criu_options *options);
void criu_options_done(struct criu_options *options);

/* Nothing is written for false and NULL: CRIU's defaults. */
void criu_options_flag(struct criu_options *options, enum criu_option field, bool value);
void criu_options_number(struct criu_options *options, enum criu_option field, uint64_t value);
void criu_options_text(struct criu_options *options, enum criu_option field, const char *text);
/* A message of two strings: external mounts, cgroup roots, namespaces to join. */
void criu_options_pair(struct criu_options *options, enum criu_option field, const char *first,
                       const char *second);
/* In place of what the image calls `key`, the restored processes get our descriptor fd. */
void criu_options_inherit(struct criu_options *options, const char *key, int fd);
void criu_options_page_server(struct criu_options *options, const char *address, uint64_t port);

#endif
