/* SPDX-License-Identifier: Apache-2.0 */
/* uidMappings and gidMappings, of the container and of a mount: what is taken can be written to the
 * kernel, and no range is empty or goes past the last id. */
#include "base/json.h"
#include "oci/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct oci_id_map *maps, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (maps[i].size == 0 || UINT32_MAX - maps[i].size < maps[i].container_id ||
            UINT32_MAX - maps[i].size < maps[i].host_id)
            __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *config = oci_spec_default(), *maps = NULL, *mount, *linux_object;
    struct oci_spec *spec = NULL;
    struct err err = ERR_INIT;

    if (size > 16384 || !config ||
        json_parse((const char *)data, size, "mappings", &maps, &err) < 0) {
        json_decref(config);
        return 0;
    }
    linux_object = json_object_get(config, "linux");
    json_array_append_new(json_object_get(linux_object, "namespaces"),
                          json_pack("{s:s}", "type", "user"));
    json_object_set(linux_object, "uidMappings", maps);
    json_object_set(linux_object, "gidMappings", maps);
    mount = json_pack("{s:s, s:s, s:s, s:[s], s:O, s:O}", "destination", "/mnt", "type", "bind",
                      "source", "/mnt", "options", "ridmap", "uidMappings", maps, "gidMappings",
                      maps);
    json_array_append_new(json_object_get(config, "mounts"), mount);
    json_decref(maps);
    err = (struct err)ERR_INIT;
    if (oci_spec_from_json(config, "config.json", &spec, &err) == 0) {
        check(spec->uid_maps, spec->nr_uid_maps);
        check(spec->gid_maps, spec->nr_gid_maps);
        for (size_t i = 0; i < spec->nr_mounts; i++) {
            check(spec->mounts[i].uid_maps, spec->mounts[i].nr_uid_maps);
            check(spec->mounts[i].gid_maps, spec->mounts[i].nr_gid_maps);
        }
    } else if (err.message[0] == '\0' || err.code >= 0) {
        __builtin_trap();
    }
    oci_spec_free(spec);
    json_decref(config);
    return 0;
}
