/* SPDX-License-Identifier: Apache-2.0 */
#include "manager/api/words.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

int words_check(const char *what, const char *word, bool required, struct err *err)
{
    if (!word)
        return required ? err_set(err, -EINVAL, "%s is missing", what) : 0;
    if (!*word || *word == '-' || strlen(word) >= PATH_MAX)
        return err_set(err, -EINVAL, "%s '%.40s' is none", what, word);
    return 0;
}

int words_check_path(const char *what, const char *path, bool required, struct err *err)
{
    if (path && *path != '/')
        return err_set(err, -EINVAL, "%s '%.40s' is not absolute", what, path);
    return words_check(what, path, required, err);
}

void words_add_option(json_t *words, const char *option, const char *value)
{
    if (!value)
        return;
    json_array_append_new(words, json_string(option));
    json_array_append_new(words, json_string(value));
}

void words_add_number(json_t *words, const char *option, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    words_add_option(words, option, value ? text : NULL);
}

void words_add(json_t *words, const char *word)
{
    if (word)
        json_array_append_new(words, json_string(word));
}

int api_task_wait(struct api_request *request, struct api_reply *reply, uint64_t *ret_s)
{
    return api_query_number(request, reply, "wait", 86400, 600, ret_s);
}

void api_task(struct api_request *request, struct api_reply *reply, const char *kind,
              const char *subject, const char *target, json_t *words, uint64_t wait_s)
{
    struct operation *operation;
    struct err err = ERR_INIT;
    int result = task_new(request->m, kind, subject, target, words, &operation, &err);

    if (result < 0)
        api_fail_err(reply, result, &err);
    else
        api_operate(request, reply, operation, wait_s);
}
