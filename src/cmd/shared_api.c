/* SPDX-License-Identifier: Apache-2.0 */
/* Who keeps networks and volumes: a manager, or nobody but their own state. */
#include "cmd/shared_api.h"

#include "cmd/api_client.h"
#include "cmd/manager_paths.h"
#include "cmd/remote.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool has_store(void)
{
    struct manager_paths paths;
    char path[MANAGER_PATHS_MAX + 16];

    if (manager_paths_find(&paths, NULL) < 0)
        return false;
    snprintf(path, sizeof(path), "%s/state.db", paths.state);
    return access(path, F_OK) == 0;
}

bool shared_by_manager(const char *path, const char *directory, bool in_namespace, bool wake,
                       json_t **ret)
{
    json_t *answer = NULL;
    const char *theirs;
    struct stat own;
    bool same, remote = remote_is_set();

    if (!remote && !api_is_there() && !(wake && has_store()))
        return false;
    if (api_ask("GET", path, NULL, &answer, NULL, NULL) < 0)
        return false;
    theirs = json_string_value(json_object_get(answer, "directory"));
    same = remote || (theirs && !strcmp(theirs, directory));
    if (same && in_namespace && !remote)
        same = stat("/proc/self/ns/net", &own) == 0 &&
               json_integer_value(json_object_get(answer, "namespace")) == (json_int_t)own.st_ino;
    if (same && ret)
        *ret = json_incref(answer);
    json_decref(answer);
    return same;
}

void shared_print(json_t *value)
{
    json_dumpf(value, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(value);
}

int shared_ls(int (*all)(json_t **ret, struct err *err), bool json, const char *heading,
              void (*print_row)(const json_t *one), struct err *err)
{
    json_t *array = NULL;
    int r = all(&array, err);

    if (r < 0)
        return r;
    if (json) {
        shared_print(array);
        return 0;
    }
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (i == 0)
            puts(heading);
        print_row(json_array_get(array, i));
    }
    json_decref(array);
    return 0;
}
