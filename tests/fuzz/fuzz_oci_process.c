/* SPDX-License-Identifier: Apache-2.0 */
/* What exec adds to a container: up to the first NUL a --user, the rest a process.json; each
 * becomes part of a checked configuration or is refused with a reason. */
#include "base/json.h"
#include "oci/exec_process.h"
#include "oci/spec.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Takes config. */
static void check(json_t *config, int result, struct err *err)
{
    struct oci_spec *spec = NULL;

    if (result == 0)
        result = oci_spec_from_json(config, "exec", &spec, err);
    if (result < 0 && (err->message[0] == '\0' || err->code >= 0))
        __builtin_trap();
    /* A user that was not said to be root is not: -1 leaves the caller's. */
    if (result == 0 && (spec->process.uid == UINT32_MAX || spec->process.gid == UINT32_MAX ||
                        !spec->process.args.length))
        __builtin_trap();
    oci_spec_free(spec);
    json_decref(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char program[] = "true", *args[] = {program, NULL};
    size_t length = strnlen((const char *)data, size);
    char *user = strndup((const char *)data, length);
    struct exec_options options = {.args = args, .user = user};
    json_t *config = oci_spec_default(), *process = NULL;
    struct err err = ERR_INIT;

    if (size > 65536 || !user || !config) {
        json_decref(config);
        free(user);
        return 0;
    }
    check(config, exec_process_place(&options, config, &err), &err);
    free(user);
    if (length == size || json_parse((const char *)data + length + 1, size - length - 1, "process",
                                     &process, &err) < 0)
        return 0;
    if (!(config = oci_spec_default()))
        __builtin_trap();
    json_object_set_new(config, "process", process);
    err = (struct err)ERR_INIT;
    check(config, 0, &err);
    return 0;
}
