/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of the agent protocol for one command in one VM: waits for the guest to connect,
 * has the command run, forwards signals and window sizes, and learns how it ended.
 *
 *      booting ──HELLO: greet──▶ ready ──INFO: start_run──▶ running ──EXITED, outputs ended──▶ over
 *         │ monitor ends, Ctrl-C, time limit: error        │ ERROR: over with its status
 */
#ifndef LODGE_CMD_VM_SESSION_H
#define LODGE_CMD_VM_SESSION_H

#include "agent_protocol.h"
#include "cmd/vmm_process.h"

#include <stdbool.h>

struct vm_session_options {
    int listen_fd; /* guest connections to AGENT_PORT arrive here */
    int signal_fd; /* signalfd, non-blocking: what to forward, and SIGWINCH */
    const struct agent_run *run;
    bool raw_terminal; /* put ours into raw mode while the command runs */
    unsigned boot_limit_s;
    void (*on_ready)(const struct agent_info *info, void *context); /* may be NULL */
    void (*on_started)(void *context); /* the command runs; may be NULL */
    void *context;
};

/* *ret_status: what to exit with. Negative: the VM failed, or was broken off before the command ran
 * (-EINTR, *ret_status then 128 + signal). */
int vm_session_serve(const struct vm_session_options *options, struct vmm_process *vmm,
                     int *ret_status, struct err *err);

#endif
