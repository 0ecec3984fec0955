/* SPDX-License-Identifier: Apache-2.0 */
/* `lodge network serve`, which is not for users. */
#ifndef LODGE_CMD_NETWORK_HOOK_H
#define LODGE_CMD_NETWORK_HOOK_H

/* text: as for `--net`. Returns the exit status. */
int network_hook(const char *text);

#endif
