/* SPDX-License-Identifier: Apache-2.0 */
/* The shim's configuration file: include/shim_protocol.h. */
#include "shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/file.h"

#define CONFIG_MAX (4u << 20)

static int string_list(const struct json_at *root, const char *name, char ***ret, struct err *err)
{
    struct json_at list;
    size_t nr;
    int result = json_at_member(root, name, &list, err);

    if (result < 0)
        return result;
    nr = json_array_size(list.value);
    if (!(*ret = calloc(nr + 1, sizeof(char *))))
        return err_set(err, -ENOMEM, "out of memory");
    for (size_t i = 0; i < nr; i++)
        if (!((*ret)[i] = (char *)(uintptr_t)json_string_value(json_array_get(list.value, i))))
            return err_set(err, -EINVAL, "%s[%zu] is not a string", name, i);
    return 0;
}

static int read_members(const struct json_at *root, struct shim_config *c, struct err *err)
{
    const struct {
        const char *name, **place;
    } strings[] = {{"id", &c->id},
                   {"program", &c->program},
                   {"root", &c->root},
                   {"pid_file", &c->pid_file},
                   {"console_socket", &c->console_socket},
                   {"socket", &c->socket},
                   {"exit_file", &c->exit_file},
                   {"log_file", &c->log_file},
                   {"runtime_log", &c->runtime_log},
                   {"cgroup", &c->cgroup},
                   {"agent_socket", &c->agent_socket}};
    const struct {
        const char *name;
        bool *place;
    } flags[] = {{"tty", &c->tty},
                 {"stdin", &c->stdin_open},
                 {"foreground", &c->foreground},
                 {"client", &c->client}};
    int result = 0;

    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]) && result == 0; i++)
        result = json_get_string(root, strings[i].name, strings[i].place, err);
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]) && result == 0; i++)
        result = json_get_bool(root, flags[i].name, flags[i].place, err);
    if (result < 0 || (result = json_get_uint(root, "run", &c->run, err)) < 0 ||
        (result = json_get_uint(root, "log_max", &c->log_max, err)) < 0 ||
        (result = string_list(root, "runtime", &c->runtime, err)) < 0 ||
        (result = string_list(root, "env", &c->env, err)) < 0 ||
        (result = string_list(root, "enter", &c->enter, err)) < 0)
        return result;
    return c->runtime[0] ? 0 : err_set(err, -EINVAL, "runtime: empty");
}

int shim_config_load(const char *path, struct shim_config *ret, struct err *err)
{
    struct shim_config config = {0};
    CLEANUP(buf_donep) struct buf text;
    struct json_at root;
    int result;

    buf_init(&text, CONFIG_MAX);
    if ((result = file_load(AT_FDCWD, path, &text, err)) < 0 ||
        (result = json_parse(text.data ?: "", text.length, path, &config.document, err)) < 0)
        return result;
    json_at_root(config.document, &root);
    if ((result = read_members(&root, &config, err)) < 0) {
        shim_config_done(&config);
        return result;
    }
    *ret = config;
    return 0;
}

void shim_config_done(struct shim_config *config)
{
    free(config->runtime);
    free(config->env);
    free(config->enter);
    json_decref(config->document);
    *config = (struct shim_config){0};
}
