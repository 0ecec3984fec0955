/* SPDX-License-Identifier: Apache-2.0 */
/* lodge disk attach, detach: what the manager is asked for. */
#include "cmd/disk_attach.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "cmd/api_client.h"
#include "cmd/managed.h"
#include "cmd/manager_paths.h"
#include "cmd/vm_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int disk_attach(const char *disk, const char *machine, const char *format, bool read_only,
                struct err *err)
{
    char path[MANAGED_PATH_MAX];
    json_t *body = NULL;
    int result = vm_parts_disk(disk, &body, err);

    if (result < 0)
        return result;
    if (format)
        json_put_string(body, "format", format);
    if (read_only)
        json_object_set_new(body, "read_only", json_true());
    managed_path(path, machine, "/attach-disk");
    return api_ask("POST", path, body, NULL, NULL, err);
}

int disk_detach(const char *disk, const char *machine, bool force, struct err *err)
{
    CLEANUP(freep) char *name = NULL;
    char path[MANAGED_PATH_MAX];
    int result = vm_parts_disk_name(disk, &name, err);

    if (result < 0)
        return result;
    managed_path(path, machine, "/detach-disk");
    return api_ask("POST", path, json_pack("{s:s, s:b}", "disk", name, "force", (int)force), NULL,
                   NULL, err);
}

/* Whether there ever was a manager that could have given disks to machines. */
static bool manager_known(void)
{
    struct manager_paths paths;
    char store[MANAGER_PATHS_MAX + 16];

    if (api_is_there())
        return true;
    if (manager_paths_find(&paths, NULL) < 0)
        return false;
    snprintf(store, sizeof(store), "%s/state.db", paths.state);
    return access(store, F_OK) == 0;
}

int disk_remove_managed(const char *name, struct err *err)
{
    CLEANUP(buf_donep) struct buf path;
    int result;

    buf_init(&path, 4096);
    if (!manager_known())
        return -EAGAIN;
    buf_append_string(&path, "/v1/disks/");
    api_escape(&path, name);
    if ((result = api_ask("DELETE", buf_string(&path) ?: "/", NULL, NULL, NULL, err)) == -EAGAIN)
        result = -EIO;
    return result;
}

json_t *disk_owners(void)
{
    json_t *answer = NULL, *owners = json_object();
    const json_t *list;

    if (!api_is_there() || api_ask("GET", "/v1/disks", NULL, &answer, NULL, NULL) < 0)
        return owners;
    list = json_object_get(answer, "disks");
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *disk = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(disk, "name"));

        if (name)
            json_object_set(owners, name, json_object_get(disk, "attached_to"));
    }
    json_decref(answer);
    return owners;
}

void disk_name_owner(const char *name, struct err *err)
{
    json_t *owners = disk_owners();
    const char *machine = json_string_value(json_array_get(json_object_get(owners, name), 0));

    if (machine)
        err_set(err, -EBUSY, "disk '%s' is in use, and attached to '%s': `lodge vm stop %s` first",
                name, machine, machine);
    json_decref(owners);
}
