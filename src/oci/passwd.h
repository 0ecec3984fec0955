/* SPDX-License-Identifier: Apache-2.0 */
/* The container's own /etc/passwd (passwd(5)), read strictly: a hostile file gives no more than a
 * wrong home directory. */
#ifndef LODGE_OCI_PASSWD_H
#define LODGE_OCI_PASSWD_H

#include <stddef.h>
#include <sys/types.h>

/* Home directory of uid by /etc/passwd of the current root, or "/" where that has no usable answer.
 * malloc; NULL: out of memory. */
char *passwd_home(uid_t uid);

/* The same on the text of such a file; NULL when uid is not in it. */
char *passwd_home_in(const char *text, size_t length, uid_t uid);

#endif
