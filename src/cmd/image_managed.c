/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge image import, pull, push through the manager: when one runs that has the same store. What
 * is the caller's own (standard input, the working directory) is made plain before, or stays here.
 */
#include "cmd/image_cli.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/util.h"
#include "cmd/operate.h"
#include "cmd/remote.h"
#include "cmd/shared_api.h"

#include <errno.h>
#include <string.h>

#define IMAGES "/v1/images"

static bool is_kept_by_manager(const struct store *store)
{
    char directory[PATH_MAX];

    /* The store of another host is not what was asked for. */
    return !remote_is_set() && store_writable_dir(store, "oci", directory) == 0 &&
           shared_by_manager(IMAGES, directory, false, false, NULL);
}

static int put_path(json_t *body, const char *name, const char *path, struct err *err)
{
    char whole[PATH_MAX];
    int result = path ? operate_path(path, whole, sizeof(whole), err) : 0;

    if (path && result == 0)
        json_put_string(body, name, whole);
    return result;
}

static void put_number(json_t *body, const char *name, uint64_t value)
{
    if (value)
        json_object_set_new(body, name, json_integer((json_int_t)value));
}

static int describe(const struct image_cli *cli, const char *subverb, json_t *body, struct err *err)
{
    static const char *const devices[] = {[UNPACK_DEVICES_SKIP] = "skip",
                                          [UNPACK_DEVICES_REFUSE] = "refuse",
                                          [UNPACK_DEVICES_MAKE] = "make"};
    const char *second = cli->nr > 1 ? cli->arguments[1] : NULL;
    const struct import_options *import = &cli->import;
    bool push = !strcmp(subverb, "push");
    int result = 0;

    json_put_string(body, "action", subverb);
    if (!strcmp(subverb, "import"))
        result = put_path(body, "path", cli->arguments[0], err);
    else
        json_put_string(body, push ? "name" : "reference", cli->arguments[0]);
    json_put_string(body, push ? "reference" : "name", second);
    if (result == 0)
        result = put_path(body, "auth_file", import->auth_file ?: getenv("REGISTRY_AUTH_FILE"),
                          err);
    json_put_string(body, "devices", devices[import->unpack.devices]);
    put_number(body, "max_bytes", import->unpack.most_bytes);
    put_number(body, "max_files", import->unpack.most_entries);
    put_number(body, "max_ratio", import->unpack.most_ratio);
    if (import->insecure)
        json_object_set_new(body, "insecure", json_true());
    return result;
}

bool image_managed(struct image_cli *cli, const char *subverb, int *ret_result, struct err *err)
{
    json_t *body, *result = NULL;

    if ((strcmp(subverb, "import") != 0 && strcmp(subverb, "pull") != 0 &&
         strcmp(subverb, "push") != 0) ||
        !strcmp(cli->arguments[0], "-") || !is_kept_by_manager(cli->store))
        return false;
    body = json_object();
    if ((*ret_result = describe(cli, subverb, body, err)) < 0) {
        json_decref(body);
        return true;
    }
    *ret_result = operate(IMAGES "?wait=0", body, &cli->progress, &result, err);
    if (*ret_result == 0 && strcmp(subverb, "push") != 0)
        image_cli_report(cli, json_incref(result));
    json_decref(result);
    return true;
}
