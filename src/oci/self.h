/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our own program file is in reach of every process that we start a container with: an image may
 * name /proc/self/exe as the program (or as a script's interpreter), hold the file open and write
 * to it when we are gone (CVE-2019-5736).
 */
#ifndef LODGE_OCI_SELF_H
#define LODGE_OCI_SELF_H

#include <stdbool.h>

/* Set where it was found out before main (oci_entry.c). */
extern bool self_is_protected;

/* Executes this program anew from a read-only mount of its file, on which no open for writing
 * succeeds, for whom ever. Returns when that is the case already, or when we may not mount: then a
 * container's root is not the host's, which the file belongs to. */
void self_protect(char **argv);

/* The descriptor of that mount, which lives as long as anybody has it open: -1 when there is none,
 * or closed already. The last close of it waits for the kernel's readers (0.1 to 5 ms), so it is
 * left to whoever nobody waits for: see its uses. */
int self_mount(void);

#endif
