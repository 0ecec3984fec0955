/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtual machine, from configuration to exit status.
 *
 * vmm_run does everything: it opens what the configuration names, puts machine, devices and engine
 * together, narrows its own rights, runs the guest, and takes all of it down again. One VM a
 * process: it uses standard input and output, signals and process-wide rights.
 *
 * Exit status:
 *   0        the guest powered off, or `stop` over the control socket, or Ctrl-A x
 *   odd      the guest's debug-exit port: (value << 1) | 1, low byte
 *   VMM_EXIT_*                  below
 *   128 + n  ended by signal n (SIGTERM, SIGINT, SIGHUP)
 */
#ifndef LODGE_VMM_VMM_H
#define LODGE_VMM_VMM_H

#include "base/err.h"
#include "vmm/config.h"

#define VMM_EXIT_FAILURE      2  /* the VM could not be made: configuration, files, host */
#define VMM_EXIT_UNSUPPORTED  70 /* an instruction or state that the engine cannot execute */
#define VMM_EXIT_TRIPLE_FAULT 72
#define VMM_EXIT_ENGINE       74 /* the engine itself failed */
#define VMM_EXIT_RESET        76 /* the guest reset itself, with --on-reset exit */

/* Returns the exit status; or, when the VM could not be made, a negative errno with *err. */
int vmm_run(const struct vmm_config *config, struct err *err);

#endif
