/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the planner: JSON whose errors name file, line and member ("web.json:12:
 * stations[1].demand: ..."). The parser keeps no lines, so that they are looked up again in the
 * text from the member's path, once an error is there.
 */
#ifndef LODGE_MODEL_DOCUMENT_H
#define LODGE_MODEL_DOCUMENT_H

#include "base/json.h"

#define DOCUMENT_MAX (64u << 20)

struct document {
    char *text, *source;
    size_t length;
    json_t *root;
};

int document_parse(const char *text, size_t length, const char *source, struct document *ret,
                   struct err *err);
int document_load(const char *path, struct document *ret, struct err *err);
void document_done(struct document *document);

/* Puts "file:line: " in front of an error that begins with a member's path. Returns its code. */
int document_error(const struct document *document, struct err *err);
/* The line, from 1, of the member at `path` ("stations[1].demand"), or of the nearest member around
 * it that is there. */
unsigned document_line(const char *text, size_t length, const char *path);

/* Numbers, integer or real. Required, and optional (absent leaves *ret as it is). The error of a
 * value outside of [least, most] names both. */
int document_number(const struct json_at *at, const char *name, double least, double most,
                    double *ret, struct err *err);
int document_opt_number(const struct json_at *at, const char *name, double least, double most,
                        double *ret, struct err *err);
/* A whole number; one that is not is an error. */
int document_opt_count(const struct json_at *at, const char *name, uint64_t least, uint64_t most,
                       uint64_t *ret, struct err *err);
/* One of `words` (NULL-terminated): its index. Absent leaves *ret as it is. */
int document_opt_word(const struct json_at *at, const char *name, const char *const *words,
                      unsigned *ret, struct err *err);

static inline void document_donep(struct document *document)
{
    document_done(document);
}

#endif
