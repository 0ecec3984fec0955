/* SPDX-License-Identifier: Apache-2.0 */
/* A user namespace for who is not root (user_namespaces(7)). */
#ifndef LODGE_BASE_USERNS_H
#define LODGE_BASE_USERNS_H

#include <stdbool.h>

/* Into a new user namespace, and those of flags (CLONE_NEW...): our user and group are themselves
 * in it, and nobody else is. false: errno tells why there are none. If only the mapping fails,
 * files show up as nobody's. */
bool userns_unshare(int flags);

#endif
