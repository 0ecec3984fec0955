/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files that a program needs and no others, by Landlock (landlock(7)): for who has no root of
 * its own. Owners stay what they are, which in a user namespace they do not. What it cannot do is
 * hide that a file is there, and its attributes.
 */
#include "tool/internal.h"

#include "base/util.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define READ_FILES   LANDLOCK_ACCESS_FS_READ_FILE
#define READ_TREE    (READ_FILES | LANDLOCK_ACCESS_FS_READ_DIR)
#define RUN          LANDLOCK_ACCESS_FS_EXECUTE
#define WRITE_FILES  (READ_FILES | LANDLOCK_ACCESS_FS_WRITE_FILE)
#define FIRST_RIGHTS (LANDLOCK_ACCESS_FS_MAKE_SYM * 2 - 1) /* of version 1: all up to this one */
/* Rights of later versions, which headers may not have. */
#define REFER     (UINT64_C(1) << 13)
#define TRUNCATE  (UINT64_C(1) << 14)
#define IOCTL_DEV (UINT64_C(1) << 15)

static uint64_t handled(long version)
{
    return FIRST_RIGHTS | (version >= 2 ? REFER : 0) | (version >= 3 ? TRUNCATE : 0) |
           (version >= 5 ? IOCTL_DEV : 0);
}

static bool allow(int rules, int fd, uint64_t rights)
{
    struct landlock_path_beneath_attr beneath = {.allowed_access = rights, .parent_fd = fd};

    return fd >= 0 &&
           !syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
}

/* One that is not there is not needed. */
static void allow_path(int rules, const char *path, uint64_t rights)
{
    int fd = open(path, O_PATH | O_CLOEXEC);

    allow(rules, fd, rights);
    if (fd >= 0)
        close(fd);
}

static bool fill(int rules, const struct tool *tool, uint64_t all)
{
    int tree = tool->tree ? open(tool->tree, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    bool filled = !tool->tree || allow(rules, tree, READ_TREE);

    if (tree >= 0)
        close(tree);
    for (size_t i = 0; tool_hosts[i]; i++)
        allow_path(rules, tool_hosts[i], READ_TREE | RUN);
    allow_path(rules, "/etc/ld.so.cache", READ_FILES);
    allow_path(rules, "/dev/null", WRITE_FILES);
    return filled && allow(rules, TOOL_PROGRAM_FD, READ_FILES | RUN) &&
           allow(rules, tool->file, WRITE_FILES | (all & TRUNCATE));
}

bool tool_landlock_enter(const struct tool *tool)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct landlock_ruleset_attr attributes = {.handled_access_fs = handled(version)};
    bool entered = false;
    int rules;

    if (version < 1)
        return false;
    /* The version that this header knows may have more members: these are the first. */
    rules = (int)syscall(SYS_landlock_create_ruleset, &attributes,
                         sizeof(attributes.handled_access_fs), 0);
    if (rules < 0)
        return false;
    entered = fill(rules, tool, attributes.handled_access_fs) &&
              !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
              !syscall(SYS_landlock_restrict_self, rules, 0);
    close(rules);
    return entered;
}
