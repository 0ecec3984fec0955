/* SPDX-License-Identifier: Apache-2.0 */
/* Each value carries its path, extended as the document is entered: an error then needs no search.
 */
#include "base/json.h"

#include "base/buf.h"
#include "base/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>

/* Digits that begin a number beyond int64 (20 digits cannot be one that fits). */
static bool is_wide(const char *digits, size_t length)
{
    static const char max[] = "9223372036854775807";

    return length > sizeof(max) - 1 ||
           (length == sizeof(max) - 1 && memcmp(digits, max, sizeof(max) - 1) > 0);
}

/*
 * The parser holds integers in 64 bits with a sign and refuses a text with larger ones, but 2^64 -
 * 1 is how several formats write "unlimited". Such numbers are read as reals: each gets ".0" behind
 * it.
 */
static json_t *load_wide(const char *text, size_t length, json_error_t *error)
{
    CLEANUP(buf_donep) struct buf copy;
    bool in_string = false;
    size_t i = 0;

    buf_init(&copy, 4 * length + 64);
    while (i < length) {
        size_t start = i;

        if (in_string || text[i] < '0' || text[i] > '9') {
            if (in_string && text[i] == '\\' && i + 1 < length)
                i++;
            else if (text[i] == '"')
                in_string = !in_string;
            i++;
        } else {
            while (i < length && text[i] >= '0' && text[i] <= '9')
                i++;
        }
        if (buf_append(&copy, text + start, i - start) < 0)
            return NULL;
        /* A fraction or an exponent makes it a real already; one before it makes these digits its
         * tail. */
        if (!in_string && text[start] >= '0' && text[start] <= '9' &&
            is_wide(text + start, i - start) && (i == length || !strchr(".eE", text[i])) &&
            (start == 0 || !strchr(".eE+", text[start - 1])) && buf_append(&copy, ".0", 2) < 0)
            return NULL;
    }
    return json_loadb(copy.data, copy.length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, error);
}

void json_seed(void)
{
    const char *random = (const char *)(uintptr_t)getauxval(AT_RANDOM);
    size_t seed = 0;

    if (random)
        memcpy(&seed, random, sizeof(seed));
    /* The same bytes guard the stack: what can be guessed of a hash should not tell them. 0 would
     * mean "choose one". */
    json_object_seed((seed ^ (seed >> 29)) * 0x9e3779b97f4a7c15u | 1);
}

int json_parse(const char *text, size_t length, const char *source, json_t **ret, struct err *err)
{
    json_error_t error;
    json_t *value = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);

    if (!value && json_error_code(&error) == json_error_numeric_overflow)
        value = load_wide(text, length, &error);
    if (!value)
        return err_set(err, -EINVAL, "%s:%d:%d: %s", source, error.line, error.column, error.text);
    *ret = value;
    return 0;
}

void json_at_root(json_t *value, struct json_at *ret)
{
    ret->value = value;
    ret->path[0] = '\0';
}

static const char *path_of(const struct json_at *at)
{
    return at->path[0] ? at->path : "the document";
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a real number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "unknown";
}

int json_at_member(const struct json_at *at, const char *name, struct json_at *ret, struct err *err)
{
    struct json_at found;

    if (!at->value || !json_is_object(at->value))
        return err_set(err, -EINVAL, "%s: an object is needed", path_of(at));
    if (at->path[0])
        snprintf(found.path, sizeof(found.path), "%.*s.%s", JSON_PATH_MAX / 2, at->path, name);
    else
        snprintf(found.path, sizeof(found.path), "%s", name);
    found.value = json_object_get(at->value, name);
    if (found.value && json_typeof(found.value) == JSON_NULL)
        found.value = NULL;
    *ret = found;
    return 0;
}

int json_at_index(const struct json_at *at, size_t index, struct json_at *ret, struct err *err)
{
    struct json_at found;

    if (!at->value || !json_is_array(at->value))
        return err_set(err, -EINVAL, "%s: an array is needed", path_of(at));
    snprintf(found.path, sizeof(found.path), "%.*s[%zu]", JSON_PATH_MAX / 2, at->path, index);
    found.value = json_array_get(at->value, index);
    if (!found.value)
        return err_set(err, -EINVAL, "%s: absent", found.path);
    *ret = found;
    return 0;
}

int json_opt_string(const struct json_at *at, const char *name, const char **ret, struct err *err)
{
    struct json_at member;
    int result = json_at_member(at, name, &member, err);

    if (result < 0 || !member.value)
        return result;
    if (!json_is_string(member.value))
        return err_set(err, -EINVAL, "%s: %s where a string is needed", member.path,
                       type_name(member.value));
    if (strlen(json_string_value(member.value)) != json_string_length(member.value))
        return err_set(err, -EINVAL, "%s: the string has a NUL character in it", member.path);
    *ret = json_string_value(member.value);
    return 0;
}

int json_opt_int(const struct json_at *at, const char *name, int64_t *ret, struct err *err)
{
    struct json_at member;
    int result = json_at_member(at, name, &member, err);

    if (result < 0 || !member.value)
        return result;
    if (!json_is_integer(member.value))
        return err_set(err, -EINVAL, "%s: %s where an integer is needed", member.path,
                       type_name(member.value));
    *ret = json_integer_value(member.value);
    return 0;
}

int json_opt_uint(const struct json_at *at, const char *name, uint64_t *ret, struct err *err)
{
    int64_t value = -1;
    struct json_at member;
    int result = json_at_member(at, name, &member, err);

    if (result < 0 || !member.value)
        return result;
    if ((result = json_opt_int(at, name, &value, err)) < 0)
        return result;
    if (value < 0)
        return err_set(err, -EINVAL, "%s: %lld is negative", member.path, (long long)value);
    *ret = (uint64_t)value;
    return 0;
}

int json_opt_bool(const struct json_at *at, const char *name, bool *ret, struct err *err)
{
    struct json_at member;
    int result = json_at_member(at, name, &member, err);

    if (result < 0 || !member.value)
        return result;
    if (!json_is_boolean(member.value))
        return err_set(err, -EINVAL, "%s: %s where true or false is needed", member.path,
                       type_name(member.value));
    *ret = json_boolean_value(member.value);
    return 0;
}

static int require_member(const struct json_at *at, const char *name, struct err *err)
{
    struct json_at member;
    int result = json_at_member(at, name, &member, err);

    if (result < 0)
        return result;
    if (!member.value)
        return err_set(err, -EINVAL, "%s: required, and absent", member.path);
    return 0;
}

#define DEFINE_GET(kind, type)                                                                  \
    int json_get_##kind(const struct json_at *at, const char *name, type *ret, struct err *err) \
    {                                                                                           \
        int result = require_member(at, name, err);                                             \
                                                                                                \
        return result < 0 ? result : json_opt_##kind(at, name, ret, err);                       \
    }
DEFINE_GET(string, const char *)
DEFINE_GET(uint, uint64_t)
DEFINE_GET(int, int64_t)
DEFINE_GET(bool, bool)

char *json_text(const json_t *json, size_t flags)
{
    size_t length = json ? json_dumpb(json, NULL, 0, flags) : 0;
    CLEANUP(freep) char *text = length ? malloc(length + 1) : NULL;

    if (!text || json_dumpb(json, text, length, flags) != length)
        return NULL;
    text[length] = '\0';
    return TAKE_PTR(text);
}

int json_put_string(json_t *object, const char *name, const char *text)
{
    return text && json_object_set_new(object, name, json_string(text)) < 0 ? -ENOMEM : 0;
}

int json_reject_unknown(const struct json_at *at, const char *const *known, struct err *err)
{
    const char *key;
    json_t *value;

    if (!at->value || !json_is_object(at->value))
        return err_set(err, -EINVAL, "%s: an object is needed", path_of(at));
    json_object_foreach(at->value, key, value)
    {
        size_t i = 0;

        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (!known[i])
            return err_set(err, -EINVAL, "%s%s%s: unknown member", at->path, at->path[0] ? "." : "",
                           key);
    }
    return 0;
}
