/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/disk_managed.h"

#include "base/json.h"
#include "cmd/operate.h"
#include "cmd/remote.h"
#include "cmd/shared_api.h"

#include <string.h>

#define DISKS "/v1/disks"

/* A name as it is, a path as the manager finds it. */
static int put_disk(json_t *body, const char *name, const char *disk, struct err *err)
{
    char path[PATH_MAX];
    int result;

    if (!strchr(disk, '/'))
        return json_put_string(body, name, disk);
    result = operate_path(disk, path, sizeof(path), err);
    return result < 0 ? result : json_put_string(body, name, path);
}

bool disk_managed_convert(const struct store *store, struct disk_managed *convert,
                          struct progress *progress, int *ret_result, struct err *err)
{
    char directory[PATH_MAX];
    json_t *body, *result = NULL;
    int r;

    if (remote_is_set() || store_writable_dir(store, "vdisks", directory) < 0 ||
        !shared_by_manager(DISKS, directory, false, false, NULL))
        return false;
    body = json_object();
    if ((r = put_disk(body, "disk", convert->from, err)) < 0 ||
        (r = put_disk(body, "new", convert->to, err)) < 0) {
        json_decref(body);
        *ret_result = r;
        return true;
    }
    json_put_string(body, "format", convert->from_format);
    json_put_string(body, "to", convert->to_format);
    if (convert->force)
        json_object_set_new(body, "force", json_true());
    if ((r = operate("POST", DISKS "/convert?wait=0", body, NULL, progress, &result, err)) == 0)
        snprintf(convert->path, sizeof(convert->path), "%s",
                 json_string_value(json_object_get(result, "path")) ?: convert->to);
    json_decref(result);
    *ret_result = r;
    return true;
}
