/* SPDX-License-Identifier: Apache-2.0 */
/* Strict: no sign, no white space, nothing behind the number and its unit, no overflow. */
#include "base/size.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int size_parse(const char *text, uint64_t *ret_bytes, struct err *err)
{
    static const char units[] = "KMGT";
    unsigned long long value;
    const char *unit;
    char *end = NULL;
    unsigned shift = 0;

    errno = 0;
    value = isdigit((unsigned char)text[0]) ? strtoull(text, &end, 10) : 0;
    if (!end)
        return err_set(err, -EINVAL, "'%s' is not a size (write 512M, 2G or a number of bytes)",
                       text);
    if (*end && (unit = strchr(units, toupper((unsigned char)*end)))) {
        shift = 10 * (unsigned)(unit - units + 1);
        end++;
        if (end[0] == 'i' && end[1] == 'B')
            end += 2;
    }
    if (*end == 'B' || *end == 'b')
        end++;
    if (*end)
        return err_set(err, -EINVAL, "'%s' is not a size (write 512M, 2G or a number of bytes)",
                       text);
    if (errno == ERANGE || (shift && value > UINT64_MAX >> shift))
        return err_set(err, -ERANGE, "size '%s' is too large", text);
    *ret_bytes = (uint64_t)value << shift;
    return 0;
}

int number_parse(const char *text, const char *what, uint64_t least, uint64_t most, uint64_t *ret,
                 struct err *err)
{
    int base = strncmp(text, "0x", 2) == 0 ? 16 : 10;
    unsigned long long value = 0;
    char *end = NULL;

    errno = 0;
    if (isdigit((unsigned char)text[0]))
        value = strtoull(text, &end, base);
    if (!end || *end)
        return err_set(err, -EINVAL, "%s: '%s' is not a number", what, text);
    if (errno == ERANGE || value < least || value > most)
        return err_set(err, -ERANGE, "%s: %s is not in %llu..%llu", what, text,
                       (unsigned long long)least, (unsigned long long)most);
    *ret = value;
    return 0;
}
