/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the control socket, over a running VM. Private to vmm/. */
#ifndef LODGE_VMM_COMMANDS_H
#define LODGE_VMM_COMMANDS_H

#include "vmm/control.h"
#include "vmm/devices.h"
#include "vmm/hotplug.h"
#include "vmm/vm.h"

#include <jansson.h>

struct commands {
    struct vm *vm;
    struct devices *devices;
    struct hotplug *hotplug;
    struct control *control; /* whose requests these are; for what comes along with them */
    uint64_t started_ns;     /* CLOCK_MONOTONIC */
    unsigned reboots;
};

/* A control_fn; context is a struct commands. */
int commands_run(void *context, const char *command, const json_t *request, json_t **ret,
                 struct err *err);

#endif
