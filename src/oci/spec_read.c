/* SPDX-License-Identifier: Apache-2.0 */
/* Thin layers over base/json.h that allocate lists for the specification's owner to free. */
#include "oci/spec_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LIST_LENGTH_MAX 65536

int spec_read_array(const struct json_at *at, const char *name, struct json_at *ret,
                    size_t *ret_length, struct err *err)
{
    int result = json_at_member(at, name, ret, err);

    *ret_length = 0;
    if (result < 0 || !ret->value)
        return result;
    if (!json_is_array(ret->value))
        return err_set(err, -EINVAL, "%s: an array is needed", ret->path);
    *ret_length = json_array_size(ret->value);
    if (*ret_length > LIST_LENGTH_MAX)
        return err_set(err, -E2BIG, "%s: %zu elements, at most %d are allowed", ret->path,
                       *ret_length, LIST_LENGTH_MAX);
    return 0;
}

void *spec_new_list(size_t length, size_t size)
{
    return calloc(length + 1, size);
}

int spec_read_strings(const struct json_at *at, const char *name, struct oci_strings *ret,
                      struct err *err)
{
    struct json_at array, item;
    size_t length;
    int result = spec_read_array(at, name, &array, &length, err);

    if (result < 0 || !array.value)
        return result;
    if (!(ret->items = spec_new_list(length, sizeof(char *))))
        return err_set(err, -ENOMEM, "%s: out of memory", array.path);
    for (size_t i = 0; i < length; i++) {
        if ((result = json_at_index(&array, i, &item, err)) < 0)
            return result;
        if (!json_is_string(item.value) ||
            strlen(json_string_value(item.value)) != json_string_length(item.value))
            return err_set(err, -EINVAL, "%s: a string without NUL is needed", item.path);
        ret->items[i] = json_string_value(item.value);
    }
    ret->length = length;
    return 0;
}

int spec_read_uint32(const struct json_at *at, const char *name, uint32_t *ret, struct err *err)
{
    uint64_t value = *ret;
    int result = json_opt_uint(at, name, &value, err);

    if (result < 0)
        return result;
    if (value > UINT32_MAX)
        return err_set(err, -ERANGE, "%s.%s: %llu is too large", at->path, name,
                       (unsigned long long)value);
    *ret = (uint32_t)value;
    return 0;
}
