/* SPDX-License-Identifier: Apache-2.0 */
/* Image and request put together. What the image says is checked: it may be anybody's. */
#include "launch/command.h"

#include "base/cleanup.h"
#include "base/json.h"

#include <errno.h>
#include <string.h>

#define STRINGS_MAX 4096

static bool same_name(const char *a, const char *b)
{
    size_t length = strcspn(a, "=");

    return length == strcspn(b, "=") && !strncmp(a, b, length);
}

/* Adds NAME=VALUE, in the place of an earlier NAME. */
static int env_set(struct launch_command *command, const char *entry)
{
    char *copy = strdup(entry), **grown;

    if (!copy)
        return -ENOMEM;
    for (size_t i = 0; i < command->nr_env; i++)
        if (same_name(command->env[i], entry)) {
            free(command->env[i]);
            command->env[i] = copy;
            return 0;
        }
    if (!(grown = realloc(command->env, (command->nr_env + 2) * sizeof(*grown)))) {
        free(copy);
        return -ENOMEM;
    }
    grown[command->nr_env++] = copy;
    grown[command->nr_env] = NULL;
    command->env = grown;
    return 0;
}

/* -e NAME passes ours on, when we have it. */
static int env_set_option(struct launch_command *command, const char *option)
{
    CLEANUP(freep) char *entry = NULL;
    const char *value;

    if (strchr(option, '='))
        return env_set(command, option);
    if (!(value = getenv(option)))
        return 0;
    if (asprintf(&entry, "%s=%s", option, value) < 0) {
        entry = NULL;
        return -ENOMEM;
    }
    return env_set(command, entry);
}

static int image_strings(const struct image *image, const char *name, struct json_at *ret,
                         size_t *ret_nr, struct err *err)
{
    struct json_at root;
    int result;

    json_at_root(image->config, &root);
    if ((result = json_at_member(&root, name, ret, err)) < 0)
        return result;
    if (ret->value && !json_is_array(ret->value))
        return err_set(err, -EINVAL, "image '%s': %s is not a list", image->name, name);
    *ret_nr = json_array_size(ret->value);
    for (size_t i = 0; i < *ret_nr; i++)
        if (!json_is_string(json_array_get(ret->value, i)))
            return err_set(err, -EINVAL, "image '%s': %s[%zu] is not a string", image->name, name,
                           i);
    if (*ret_nr > STRINGS_MAX)
        return err_set(err, -E2BIG, "image '%s': %s is too long", image->name, name);
    return 0;
}

/* The image's entry point, then the command of the request or, without one, the image's. */
static int build_argv(const struct launch_request *request, const struct image *image,
                      struct launch_command *command, struct err *err)
{
    struct json_at entrypoint, list;
    size_t nr_entrypoint = 0, nr_list = 0, nr = 0;
    int result;

    if ((result = image_strings(image, "entrypoint", &entrypoint, &nr_entrypoint, err)) < 0 ||
        (result = image_strings(image, "cmd", &list, &nr_list, err)) < 0)
        return result;
    if (*request->argv)
        for (nr_list = 0; request->argv[nr_list];)
            nr_list++;
    if (!(command->argv = calloc(nr_entrypoint + nr_list + 2, sizeof(char *))))
        return err_set(err, -ENOMEM, "out of memory");
    for (size_t i = 0; i < nr_entrypoint; i++)
        command->argv[nr++] =
            (char *)(uintptr_t)json_string_value(json_array_get(entrypoint.value, i));
    for (size_t i = 0; i < nr_list; i++)
        command->argv[nr++] =
            *request->argv ? request->argv[i]
                           : (char *)(uintptr_t)json_string_value(json_array_get(list.value, i));
    if (nr == 0)
        command->argv[0] = (char *)(uintptr_t) "/bin/sh";
    return 0;
}

static int build_env(const struct launch_request *request, const struct image *image,
                     struct launch_command *command, struct err *err)
{
    static const char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    struct json_at list;
    size_t nr;
    int result = env_set(command, path);

    if (result == 0 && request->term) {
        CLEANUP(freep) char *term = NULL;

        if (asprintf(&term, "TERM=%s", request->term) < 0)
            term = NULL;
        result = term ? env_set(command, term) : -ENOMEM;
    }
    if (result < 0)
        return err_set(err, result, "out of memory");
    if ((result = image_strings(image, "env", &list, &nr, err)) < 0)
        return result;
    for (size_t i = 0; i < nr && result == 0; i++)
        result = env_set(command, json_string_value(json_array_get(list.value, i)));
    for (size_t i = 0; i < request->nr_env && result == 0; i++)
        result = env_set_option(command, request->env[i]);
    return result < 0 ? err_set(err, result, "out of memory") : 0;
}

int launch_command_build(const struct launch_request *request, const struct image *image,
                         struct launch_command *ret, struct err *err)
{
    struct launch_command command = {.cwd = "/", .user = ""};
    struct json_at root;
    int result;

    json_at_root(image->config, &root);
    if ((result = json_opt_string(&root, "workdir", &command.cwd, err)) < 0 ||
        (result = json_opt_string(&root, "user", &command.user, err)) < 0)
        return err_wrap(err, "image '%s'", image->name);
    if (request->cwd)
        command.cwd = request->cwd;
    if (request->user)
        command.user = request->user;
    if (!*command.cwd)
        command.cwd = "/";
    if ((result = build_argv(request, image, &command, err)) < 0 ||
        (result = build_env(request, image, &command, err)) < 0) {
        launch_command_done(&command);
        return result;
    }
    *ret = command;
    return 0;
}

void launch_command_done(struct launch_command *command)
{
    for (size_t i = 0; i < command->nr_env; i++)
        free(command->env[i]);
    free(command->env);
    free(command->argv);
    *command = (struct launch_command){0};
}
