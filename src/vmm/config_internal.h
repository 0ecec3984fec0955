/* SPDX-License-Identifier: Apache-2.0 */
/* What config.c and options.c share: one setter for each kind of member. `what` names it in errors.
 */
#ifndef LODGE_VMM_CONFIG_INTERNAL_H
#define LODGE_VMM_CONFIG_INTERNAL_H

#include "vmm/config.h"

int config_string_set(char **place, const char *value, struct err *err); /* NULL changes nothing */
int config_engine_set(struct vmm_config *config, const char *text, const char *what,
                      struct err *err);
int config_console_set(struct vmm_config *config, const char *text, const char *what,
                       struct err *err);
int config_on_reset_set(struct vmm_config *config, const char *text, const char *what,
                        struct err *err);
int config_disk_add(struct vmm_config *config, const char *path, bool read_only, const char *serial,
                    struct err *err);
/* Of the disk that was added last: "raw" or "qcow2"; "raw:FILE" or "qcow2:FILE". */
int config_disk_format(struct vmm_config *config, const char *text, struct err *err);
int config_disk_backing(struct vmm_config *config, const char *text, struct err *err);
/* "tap=NAME[,OPTION]..." or "user[,OPTION]...". */
int config_net_add(struct vmm_config *config, const char *text, struct err *err);
struct json_at;
int config_net_parse(struct vmm_config *config, const struct json_at *at, struct err *err);
void config_nets_done(struct vmm_config *config);
/* "TAG=DIRECTORY[,ro]" or "TAG/NAME=PATH[,ro]". */
int config_share_add(struct vmm_config *config, const char *text, struct err *err);
int config_share_parse(struct vmm_config *config, const struct json_at *at, struct err *err);
int config_shares_check(const struct vmm_config *config, struct err *err);
void config_shares_done(struct vmm_config *config);
int config_symbols_add(struct vmm_config *config, const char *path, struct err *err);
int config_module_add(struct vmm_config *config, const char *path, const char *cmdline,
                      struct err *err);

#endif
