/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint, restore: named so that callers get a reason instead of a riddle. */
#include "cmd/oci_cli.h"

static int refuse(const struct oci_global *global, const char *verb)
{
    struct err err;

    err_set(&err, -ENOTSUP, "%s: containers are not saved and restored by this runtime yet", verb);
    return oci_fail(global, &err);
}

int oci_verb_checkpoint(const struct oci_global *global, int argc, char **argv)
{
    (void)argc;
    return refuse(global, argv[0]);
}

int oci_verb_restore(const struct oci_global *global, int argc, char **argv)
{
    (void)argc;
    return refuse(global, argv[0]);
}
