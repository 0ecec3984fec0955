/* SPDX-License-Identifier: Apache-2.0 */
/* What `--net` of `lodge run` means for a VM. */
#ifndef LODGE_CMD_RUN_NETWORK_H
#define LODGE_CMD_RUN_NETWORK_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

#define RUN_NETWORK_USER "user"

/* "none" or "user[,hostfwd=...]...[,host-loopback=on]"; -EINVAL with what is right. */
int run_network_check(const char *text, struct err *err);
/* The text of a user-mode network with the published ports (-p) in it. */
struct run_options;
struct buf;
int run_network_user_text(const struct run_options *options, struct buf *to, struct err *err);
/* The options of a user-mode network; forwards has room for NET_FORWARDS_MAX. */
struct net_user_options;
struct net_forward;
int run_network_user_options(const char *text, struct net_forward *forwards,
                             struct net_user_options *ret, struct err *err);
/* The monitor's form of it; NULL: no memory, or no network. */
json_t *run_network_config(const char *text);

/* "user", with or without options. */
bool run_network_is_user(const char *text);
/* The name of a network of `lodge network`. NULL is none. */
bool run_network_is_named(const char *text);
int run_network_check_port(const char *text, struct err *err);

#endif
