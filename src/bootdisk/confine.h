/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gives up everything that reading open descriptors does not need: no names, no network, no new
 * processes, no rights; memory and processor time have limits. Builds with sanitizers, which need
 * more, keep the system calls.
 */
#ifndef LODGE_BOOTDISK_CONFINE_H
#define LODGE_BOOTDISK_CONFINE_H

#include "base/err.h"

int confine(struct err *err);

#endif
