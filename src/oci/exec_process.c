/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Either a process.json as it stands, or the container's own process with the command line's
 * changes. Everything is checked afterwards, with the rest of the configuration (spec.h).
 */
#include "oci/exec_process.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/size.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define PROCESS_SIZE_MAX (4 * MIB)

static int load_process(const char *path, json_t *config, struct err *err)
{
    CLEANUP(json_decrefp) json_t *process = NULL;
    CLEANUP(buf_donep) struct buf text;
    int result;

    buf_init(&text, PROCESS_SIZE_MAX);
    if ((result = file_load(AT_FDCWD, path, &text, err)) < 0 ||
        (result = json_parse(text.data, text.length, path, &process, err)) < 0)
        return err_wrap(err, "process");
    if (!json_is_object(process))
        return err_set(err, -EINVAL, "process '%s': an object is needed", path);
    return json_object_set(config, "process", process) < 0
               ? err_set(err, -ENOMEM, "process: out of memory")
               : 0;
}

/* The member `name` of object, made by `make` where it is missing. Borrowed. */
static json_t *member(json_t *object, const char *name, json_t *(*make)(void))
{
    json_t *value = json_object_get(object, name);

    if (value && !json_is_null(value))
        return value;
    json_object_set_new(object, name, make());
    return json_object_get(object, name);
}

static int append_strings(json_t *array, char *const *strings, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (json_array_append_new(array, json_string(strings[i])) < 0)
            return -1;
    return 0;
}

/* Decimal digits and nothing else: what another program reads differently (0x, 010, a sign, white
 * space) is no identity. */
static int parse_id(const char *text, const char *what, uint64_t *ret, struct err *err)
{
    size_t digits = strspn(text, "0123456789");

    if (digits == 0 || text[digits] || digits > 10 || (digits > 1 && text[0] == '0'))
        return err_set(err, -EINVAL, "%s: '%s' is not a numeric id", what, text);
    return number_parse(text, what, 0, UINT32_MAX - 1, ret, err);
}

/* "uid" or "uid:gid", numbers only: names are the image's business, which no runtime reads. */
static int set_user(json_t *process, const struct exec_options *options, struct err *err)
{
    json_t *user = member(process, "user", json_object);
    CLEANUP(freep) char *text = options->user ? strdup(options->user) : NULL;
    char *colon = text ? strchr(text, ':') : NULL;
    uint64_t uid, gid;
    int result;

    if (colon)
        *colon = '\0';
    if (text) {
        if ((result = parse_id(text, "--user", &uid, err)) < 0 ||
            (colon && (result = parse_id(colon + 1, "--user", &gid, err)) < 0))
            return result;
        json_object_set_new(user, "uid", json_integer((json_int_t)uid));
        if (colon)
            json_object_set_new(user, "gid", json_integer((json_int_t)gid));
    }
    for (size_t i = 0; i < options->nr_additional_gids; i++) {
        result = parse_id(options->additional_gids[i], "--additional-gids", &gid, err);
        if (result < 0)
            return result;
        json_array_append_new(member(user, "additionalGids", json_array),
                              json_integer((json_int_t)gid));
    }
    return 0;
}

static void add_capabilities(json_t *process, const struct exec_options *options)
{
    static const char *const sets[] = {"bounding", "effective", "permitted"};
    json_t *capabilities;

    if (!options->nr_capabilities)
        return;
    capabilities = member(process, "capabilities", json_object);
    for (size_t i = 0; i < ARRAY_LEN(sets); i++)
        append_strings(member(capabilities, sets[i], json_array),
                       (char *const *)(uintptr_t)options->capabilities, options->nr_capabilities);
}

static int change_process(const struct exec_options *options, json_t *config, struct err *err)
{
    json_t *process = json_object_get(config, "process");
    json_t *args = json_array();
    size_t nr_args = 0;
    int result;

    while (options->args && options->args[nr_args])
        nr_args++;
    if (!json_is_object(process) || !args || append_strings(args, options->args, nr_args) < 0 ||
        json_object_set_new(process, "args", args) < 0 ||
        json_object_set_new(process, "terminal", json_boolean(options->tty)) < 0 ||
        append_strings(member(process, "env", json_array), (char *const *)(uintptr_t)options->env,
                       options->nr_env) < 0)
        return err_set(err, -EINVAL, "process: the container's own cannot be used as a pattern");
    json_object_del(process, "consoleSize");
    if (options->cwd)
        json_object_set_new(process, "cwd", json_string(options->cwd));
    if (options->apparmor)
        json_object_set_new(process, "apparmorProfile", json_string(options->apparmor));
    if (options->process_label)
        json_object_set_new(process, "selinuxLabel", json_string(options->process_label));
    if (options->no_new_privileges)
        json_object_set_new(process, "noNewPrivileges", json_true());
    if ((result = set_user(process, options, err)) < 0)
        return result;
    add_capabilities(process, options);
    return 0;
}

int exec_process_place(const struct exec_options *options, json_t *config, struct err *err)
{
    return options->process_file ? load_process(options->process_file, config, err)
                                 : change_process(options, config, err);
}
