/* SPDX-License-Identifier: Apache-2.0 */
/* config.json from anyone: parsed or refused, never more. */
#include "oci/mount_options.h"
#include "oci/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct oci_spec *spec = NULL;
    struct err err = ERR_INIT;

    if (oci_spec_parse((const char *)data, size, "config.json", &spec, &err) < 0) {
        if (err.message[0] == '\0' || err.code >= 0)
            __builtin_trap();
        return 0;
    }
    for (size_t i = 0; i < spec->nr_mounts; i++) {
        struct mount_options options;

        if (mount_options_parse(&spec->mounts[i], &options, &err) == 0)
            mount_options_done(&options);
    }
    oci_spec_free(spec);
    return 0;
}
