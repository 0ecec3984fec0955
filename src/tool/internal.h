/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of a child before its program. Between fork and exec of a process with threads: system
 * calls and no memory. Private to tool/. */
#ifndef LODGE_TOOL_INTERNAL_H
#define LODGE_TOOL_INTERNAL_H

#include "tool/tool.h"

#include <linux/filter.h>
#include <stdbool.h>

#define TOOL_FILE_PLACE "/image"
#define TOOL_TREE_PLACE "/tree"
#define TOOL_FILES_MAX  64 /* descriptors; the program's own is above, where it cannot be again */
#define TOOL_PROGRAM_FD 200

/* Says on its standard error what does not work (errno), and ends. */
_Noreturn void tool_give_up(const char *what);

/* The host's directories with programs and libraries, NULL-terminated. */
extern const char *const tool_hosts[];

/* A root of its own. false: not to be had, nothing is changed but namespaces. */
bool tool_root_enter(const struct tool *tool);
/* Files by name, where there is no root of its own. false: not to be had, nothing is changed. */
bool tool_landlock_enter(const struct tool *tool);
/* 0, or -1 with errno. */
int tool_rights_drop(const struct tool *tool);
int tool_limits_set(const struct tool *tool);

/* The list of system calls, made before the fork. */
struct tool_filter {
    struct sock_filter *code;
    unsigned short length;
};
int tool_filter_make(struct tool_filter *ret, struct err *err);
void tool_filter_free(struct tool_filter *filter);

#endif
