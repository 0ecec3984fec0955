/* SPDX-License-Identifier: Apache-2.0 */
/* The software engine's options; tier.h holds their list. */
#include "soft/tier.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>

static int unknown(const char *option, size_t length, struct err *err)
{
    return err_set(err, -EINVAL,
                   "engine soft: option '%.*s': known are tier=interp, tier=translate, runs=0 to "
                   "runs=9, cache=%u to cache=%u (KiB) and window=auto, off or always",
                   (int)MIN(length, (size_t)60), option, SOFT_CACHE_LEAST >> 10,
                   SOFT_CACHE_MOST >> 10);
}

static bool is(const char *option, size_t length, const char *word)
{
    return length == strlen(word) && !strncmp(option, word, length);
}

/* Digits alone; false: no number, or beyond `most`. */
static bool number(const char *text, size_t length, unsigned long most, unsigned long *ret)
{
    unsigned long value = 0;

    if (!length || length > 8)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (unsigned long)(text[i] - '0');
    }
    *ret = value;
    return value <= most;
}

static bool option_parse(const char *option, size_t length, struct soft_options *ret)
{
    unsigned long value;

    if (is(option, length, "tier=interp")) {
        ret->tier = SOFT_TIER_INTERPRET;
    } else if (is(option, length, "tier=translate")) {
        ret->tier = SOFT_TIER_TRANSLATE;
    } else if (length > 5 && !strncmp(option, "runs=", 5)) {
        if (!number(option + 5, length - 5, 9, &value))
            return false;
        ret->runs = (int)value;
    } else if (length > 6 && !strncmp(option, "cache=", 6)) {
        if (!number(option + 6, length - 6, SOFT_CACHE_MOST >> 10, &value) ||
            value < SOFT_CACHE_LEAST >> 10)
            return false;
        ret->cache_size = (size_t)value << 10;
    } else if (is(option, length, "window=auto")) {
        ret->window = SOFT_WINDOW_AUTO;
    } else if (is(option, length, "window=off")) {
        ret->window = SOFT_WINDOW_OFF;
    } else if (is(option, length, "window=always")) {
        ret->window = SOFT_WINDOW_ALWAYS;
    } else {
        return false;
    }
    return true;
}

int soft_options_parse(const char *text, struct soft_options *ret, struct err *err)
{
    struct soft_options options = {
        .tier = SOFT_TIER_BEST, .runs = SOFT_RUNS_DEFAULT, .cache_size = SOFT_CACHE_DEFAULT};

    while (text && *text) {
        size_t length = strcspn(text, ",");

        if (!option_parse(text, length, &options))
            return unknown(text, length, err);
        text += length + (text[length] == ',');
    }
    *ret = options;
    return 0;
}

int soft_tier_choose(const struct soft_options *options, const char *why_not, bool *ret,
                     struct err *err)
{
    if (options->tier == SOFT_TIER_TRANSLATE && why_not)
        return err_set(err, -ENOTSUP, "engine soft: tier=translate: %s", why_not);
    *ret = options->tier != SOFT_TIER_INTERPRET && !why_not;
    return 0;
}
