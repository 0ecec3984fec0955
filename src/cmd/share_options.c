/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/share_options.h"

#include "base/size.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int real_parse(const char *text, const char *what, double least, double most, double *ret,
               struct err *err)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !isfinite(value) || value < least || value > most)
        return err_set(err, -EINVAL, "%s '%.60s': a number from %g to %g is needed", what, text,
                       least, most);
    *ret = value;
    return 0;
}

int put_real(json_t *object, const char *name, const char *option, const char *text, double least,
             double most, struct err *err)
{
    double value;
    int result;

    if (!text)
        return 0;
    if ((result = real_parse(text, option, least, most, &value, err)) == 0)
        json_object_set_new(object, name, json_real(value));
    return result;
}

int put_processors(json_t *object, const char *name, const char *option, const char *text,
                   struct err *err)
{
    double value;
    int result;

    if (!text)
        return 0;
    if ((result = real_parse(text, option, 0, 1000, &value, err)) < 0)
        return result;
    if (value > 0 && value < 0.001)
        return err_set(err, -EINVAL, "%s '%.60s': less than a thousandth of a processor", option,
                       text);
    json_object_set_new(object, name,
                        value > 0 ? json_integer((json_int_t)llround(value * 1000)) : json_null());
    return 0;
}

int put_bytes(json_t *object, const char *name, const char *option, const char *text,
              struct err *err)
{
    uint64_t bytes;
    int result;

    if (!text)
        return 0;
    if ((result = size_parse(text, &bytes, err)) < 0)
        return err_wrap(err, "%s", option);
    json_object_set_new(object, name, bytes ? json_integer((json_int_t)bytes) : json_null());
    return 0;
}

int share_options_put(const struct share_options *o, json_t *resources, struct err *err)
{
    int result;

    if ((result = put_real(resources, "priority", "--priority", o->priority, 0.001, 1e6, err)) <
            0 ||
        (result = put_real(resources, "alpha", "--alpha", o->alpha, 0.001, 1e6, err)) < 0 ||
        (result = put_real(resources, "beta", "--beta", o->beta, -1e6, 1e6, err)) < 0 ||
        (result = put_processors(resources, "cpu_max_millis", "--cpu-max", o->cpu_max, err)) < 0 ||
        (result = put_processors(resources, "reserve_cpu_millis", "--reserve-cpu", o->reserve_cpu,
                                 err)) < 0 ||
        (result = put_bytes(resources, "reserve_memory_bytes", "--reserve-memory",
                            o->reserve_memory, err)) < 0)
        return result;
    if (o->cpuset)
        json_object_set_new(resources, "cpuset", *o->cpuset ? json_string(o->cpuset) : json_null());
    return 0;
}
