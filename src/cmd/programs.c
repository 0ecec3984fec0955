/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks for a program where the environment says, then beside this one, then in libexec: a build
 * tree and an installation alike.
 */
#include "cmd/programs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A bare name is looked up in PATH, as a shell would. */
static int search_path(const char *name, char ret[PATH_MAX])
{
    const char *path = getenv("PATH");

    while (path && *path) {
        size_t length = strcspn(path, ":");
        int n = snprintf(ret, PATH_MAX, "%.*s/%s", (int)length, path, name);

        if (n > 0 && n < PATH_MAX && access(ret, X_OK) == 0)
            return 0;
        path += length + (path[length] == ':');
    }
    return -ENOENT;
}

int program_find(const struct store *store, const char *name, const char *override,
                 char ret[PATH_MAX], struct err *err)
{
    const char *given = getenv(override);

    if (given && *given) {
        if (!strchr(given, '/') && search_path(given, ret) == 0)
            return 0;
        if (access(given, X_OK) < 0)
            return err_errno(err, -errno, "%s '%s'", override, given);
        snprintf(ret, PATH_MAX, "%s", given);
        return 0;
    }
    if (snprintf(ret, PATH_MAX, "%s/%s", store->exe_dir, name) < PATH_MAX && access(ret, X_OK) == 0)
        return 0;
    if (snprintf(ret, PATH_MAX, "%s/../libexec/lodge/%s", store->exe_dir, name) < PATH_MAX &&
        access(ret, X_OK) == 0)
        return 0;
    return err_set(err, -ENOENT,
                   "the program '%s' is missing: it belongs into '%s' (or name it with %s)", name,
                   store->exe_dir, override);
}
