/* SPDX-License-Identifier: Apache-2.0 */
/* `mounts` (config.md, "Mounts") and the id ranges that mounts and user namespaces are given. */
#include "oci/spec_parts.h"

#include "base/json.h"
#include "base/util.h"
#include "oci/spec_read.h"

#include <errno.h>

/* One member of a range, which has to be there: a hostID that was forgotten would be the host's
 * root. */
static int read_id(const struct json_at *item, const char *name, uint32_t *ret, struct err *err)
{
    uint64_t value = 0;
    int result = json_get_uint(item, name, &value, err);

    if (result == 0 && value > UINT32_MAX)
        return err_set(err, -ERANGE, "%s.%s: %llu is no id", item->path, name,
                       (unsigned long long)value);
    *ret = (uint32_t)value;
    return result;
}

int spec_read_id_maps(const struct json_at *linux_at, const char *name, struct oci_id_map **ret,
                      size_t *ret_length, struct err *err)
{
    struct json_at array, item;
    size_t length;
    int result = spec_read_array(linux_at, name, &array, &length, err);

    if (result < 0 || !length)
        return result;
    if (length > 340)
        return err_set(err, -E2BIG, "%s: the kernel takes at most 340 ranges", array.path);
    if (!(*ret = spec_new_list(length, sizeof(**ret))))
        return err_set(err, -ENOMEM, "%s: out of memory", array.path);
    for (size_t i = 0; i < length; i++) {
        struct oci_id_map *map = &(*ret)[i];

        if ((result = json_at_index(&array, i, &item, err)) < 0 ||
            (result = read_id(&item, "containerID", &map->container_id, err)) < 0 ||
            (result = read_id(&item, "hostID", &map->host_id, err)) < 0 ||
            (result = read_id(&item, "size", &map->size, err)) < 0)
            return result;
        if (map->size == 0)
            return err_set(err, -EINVAL, "%s.size: must be at least 1", item.path);
        /* The last id, 2^32 - 1, is nobody's. */
        if (map->size > UINT32_MAX - MAX(map->container_id, map->host_id))
            return err_set(err, -ERANGE, "%s: the range of %u ids goes past the last one",
                           item.path, map->size);
    }
    *ret_length = length;
    return 0;
}

int spec_read_mounts(const struct json_at *root, struct oci_spec *ret, struct err *err)
{
    struct json_at array, item;
    size_t length;
    int result = spec_read_array(root, "mounts", &array, &length, err);

    if (result < 0 || !length)
        return result;
    if (!(ret->mounts = spec_new_list(length, sizeof(*ret->mounts))))
        return err_set(err, -ENOMEM, "mounts: out of memory");
    for (size_t i = 0; i < length; i++) {
        struct oci_mount *mount = &ret->mounts[i];

        mount->tree_fd = -1;
        ret->nr_mounts++;
        if ((result = json_at_index(&array, i, &item, err)) < 0 ||
            (result = json_get_string(&item, "destination", &mount->destination, err)) < 0 ||
            (result = json_opt_string(&item, "type", &mount->type, err)) < 0 ||
            (result = json_opt_string(&item, "source", &mount->source, err)) < 0 ||
            (result = spec_read_strings(&item, "options", &mount->options, err)) < 0 ||
            (result = spec_read_id_maps(&item, "uidMappings", &mount->uid_maps, &mount->nr_uid_maps,
                                        err)) < 0 ||
            (result = spec_read_id_maps(&item, "gidMappings", &mount->gid_maps, &mount->nr_gid_maps,
                                        err)) < 0)
            return result;
    }
    return 0;
}
