/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed, checked reads from JSON documents (parsed by jansson). Each getter names the member by its
 * full path in its error ("memory.size: 12 is not a string"), so that the user can find it.
 *
 * A struct json_at is a value plus its path; it borrows the document, which its owner frees with
 * json_decref.
 */
#ifndef LODGE_BASE_JSON_H
#define LODGE_BASE_JSON_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_PATH_MAX 160

struct json_at {
    json_t *value; /* borrowed; NULL: the member is absent */
    char path[JSON_PATH_MAX];
};

/* Before the first document, for a program that lives shortly: hashes are seeded from what the
 * kernel has given it, instead of from /dev/urandom. */
void json_seed(void);

/* Parses text; a syntax error names `source`, line and column. Duplicate keys are errors. */
int json_parse(const char *text, size_t length, const char *source, json_t **ret, struct err *err);

void json_at_root(json_t *value, struct json_at *ret);
/* -EINVAL when `at` is not an object; an absent member gives ret->value == NULL and 0. */
int json_at_member(const struct json_at *at, const char *name, struct json_at *ret,
                   struct err *err);
/* -EINVAL when `at` is not an array or index is out of it. */
int json_at_index(const struct json_at *at, size_t index, struct json_at *ret, struct err *err);

/* Required members: absent or of another type is -EINVAL. The string is borrowed from the document.
 */
int json_get_string(const struct json_at *at, const char *name, const char **ret, struct err *err);
int json_get_uint(const struct json_at *at, const char *name, uint64_t *ret, struct err *err);
int json_get_int(const struct json_at *at, const char *name, int64_t *ret, struct err *err);
int json_get_bool(const struct json_at *at, const char *name, bool *ret, struct err *err);

/* Optional members: absent (or null) leaves *ret as it is and returns 0. */
int json_opt_string(const struct json_at *at, const char *name, const char **ret, struct err *err);
int json_opt_uint(const struct json_at *at, const char *name, uint64_t *ret, struct err *err);
int json_opt_int(const struct json_at *at, const char *name, int64_t *ret, struct err *err);
int json_opt_bool(const struct json_at *at, const char *name, bool *ret, struct err *err);

/* The document as text (malloc); NULL without memory, or for a NULL. Not json_dumps, which goes on
 * after an allocation that failed and returns a text with a hole in it (jansson 2.14). */
char *json_text(const json_t *json, size_t flags);

/* Adds a member; nothing for a NULL text. -ENOMEM, also where json_pack with "s:s*" would take an
 * allocation that failed for a NULL, and leave the member out without a word. */
int json_put_string(json_t *object, const char *name, const char *text);

/* -EINVAL naming the first member that is not in `known` (NULL-terminated). */
int json_reject_unknown(const struct json_at *at, const char *const *known, struct err *err);

#endif
