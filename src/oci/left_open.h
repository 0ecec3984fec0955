/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that the first process opens while it builds the root. It closes all that it has at
 * once before a path of the image is looked up for good (init.c), so closing them one by one is
 * mostly a system call for nothing.
 */
#ifndef LODGE_OCI_LEFT_OPEN_H
#define LODGE_OCI_LEFT_OPEN_H

/* For CLEANUP, in the first process only: leaves *fd open, unless many are already. */
void left_openp(int *fd);

#endif
