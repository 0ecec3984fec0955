/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A manager on another host: where it is and with which certificates it is asked. Said by options
 * before the verb, else by the environment (LODGE_HOST, LODGE_TLS_CA, LODGE_TLS_CERT,
 * LODGE_TLS_KEY), else by client.json in $XDG_CONFIG_HOME/lodge or ~/.config/lodge, whose members
 * are host, tls_ca, tls_cert and tls_key. Files that nobody names are ca.pem, cert.pem and key.pem
 * in that directory.
 */
#ifndef LODGE_CMD_REMOTE_H
#define LODGE_CMD_REMOTE_H

#include "base/err.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

struct remote {
    char where[300]; /* HOST:PORT; "": the manager is this host's own */
    char ca[PATH_MAX], certificate[PATH_MAX], key[PATH_MAX];
};

/* Takes the options off argv[1..] and puts them into our environment. -EINVAL says what is wrong.
 */
int remote_take_options(int *argc, char **argv, struct err *err);
/* Their names; NULL after the last. *ret_file: the value is a file. */
const char *remote_option_at(size_t at, bool *ret_file);
/* -EINVAL: a setting that cannot be understood. */
int remote_find(struct remote *ret, struct err *err);
bool remote_is_set(void);
/* -EOPNOTSUPP when this verb can only work here, and the manager is elsewhere. */
int remote_check_verb(const char *verb, struct err *err);
/* A connection, carried by lodge-tls. *ret_note: where it writes what goes wrong, to be read once
 * the connection has ended before its time. */
int remote_connect(int *ret_fd, int *ret_note, struct err *err);
/* Those words as the error, and note_fd closed; the error stays as it is when there are none. */
void remote_explain(int note_fd, struct err *err);

#endif
