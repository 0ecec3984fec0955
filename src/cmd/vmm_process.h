/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge-vmm as our child: in a session of its own (a Ctrl-C at the terminal is for the guest, not
 * for the monitor), dying with us, its serial output and its log kept in memory, the last part of
 * each: a guest can print without end and costs nobody a disk.
 */
#ifndef LODGE_CMD_VMM_PROCESS_H
#define LODGE_CMD_VMM_PROCESS_H

#include "base/err.h"

#include <stddef.h>
#include <sys/types.h>

#define TAIL_SIZE 8192

struct tail {
    char data[TAIL_SIZE];
    size_t total; /* bytes ever seen; the last TAIL_SIZE are kept */
};

void tail_append(struct tail *tail, const char *data, size_t length);
/* The last `nr_lines` lines, each led by `indent`, control characters replaced; a string in to. */
void tail_last_lines(const struct tail *tail, unsigned nr_lines, const char *indent, char *to,
                     size_t size);

struct vmm_process {
    pid_t pid;
    int pid_fd;
    int console_fd, log_fd; /* read ends, non-blocking; -1 at their end */
    struct tail console, log;
};

int vmm_process_start(const char *program, const char *config_path, struct vmm_process *ret,
                      struct err *err);
/* Reads what there is from both pipes. */
void vmm_process_drain(struct vmm_process *vmm);
/* Ends it (SIGTERM, then SIGKILL) and reaps it; returns its wait status, -1 when unknown. */
int vmm_process_stop(struct vmm_process *vmm);
/* err: how it ended, with its last words and the guest's. */
void vmm_process_describe_end(struct vmm_process *vmm, int status, struct err *err);

#endif
