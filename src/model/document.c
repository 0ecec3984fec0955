/* SPDX-License-Identifier: Apache-2.0 */
/* The text is known to be good JSON when a line is looked for: the scanner only has to skip. */
#include "model/document.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"

#include <fcntl.h>
#include <math.h>
#include <string.h>

struct scan {
    const char *at, *end;
};

static void skip_space(struct scan *s)
{
    while (s->at < s->end && strchr(" \t\r\n,:", *s->at) && *s->at)
        s->at++;
}

static void skip_string(struct scan *s)
{
    for (s->at++; s->at < s->end && *s->at != '"'; s->at++)
        if (*s->at == '\\')
            s->at++;
    s->at += s->at < s->end;
    if (s->at > s->end)
        s->at = s->end;
}

static void skip_value(struct scan *s)
{
    size_t depth = 0;

    skip_space(s);
    do {
        char c = s->at < s->end ? *s->at : '\0';

        if (s->at >= s->end)
            return;
        if (c == '"') {
            skip_string(s);
            continue;
        }
        if (c == '{' || c == '[')
            depth++;
        else if ((c == '}' || c == ']') && depth-- == 0)
            return;
        s->at++;
        if (depth == 0 && s->at < s->end && strchr(",}] \t\r\n", *s->at))
            return;
    } while (depth > 0 || (s->at < s->end && !strchr(",}] \t\r\n", *s->at)));
}

/* From '{' to the value of the member of that name; false leaves the position. */
static bool enter_member(struct scan *s, const char *name, size_t length)
{
    struct scan in = {s->at + 1, s->end};

    if (s->at >= s->end || *s->at != '{')
        return false;
    for (;;) {
        const char *key;

        skip_space(&in);
        if (in.at >= in.end || *in.at != '"')
            return false;
        key = in.at + 1;
        skip_string(&in);
        if ((size_t)(in.at - key) == length + 1 && !memcmp(key, name, length)) {
            skip_space(&in);
            *s = in;
            return true;
        }
        skip_value(&in);
    }
}

static bool enter_index(struct scan *s, unsigned long index)
{
    struct scan in = {s->at + 1, s->end};

    if (s->at >= s->end || *s->at != '[')
        return false;
    for (;; index--) {
        skip_space(&in);
        if (in.at >= in.end || *in.at == ']')
            return false;
        if (index == 0)
            break;
        skip_value(&in);
    }
    *s = in;
    return true;
}

unsigned document_line(const char *text, size_t length, const char *path)
{
    struct scan s = {text, text + length};
    unsigned line = 1;
    bool found = true;

    skip_space(&s);
    while (found && *path) {
        if (*path == '[') {
            char *end;

            found = enter_index(&s, strtoul(path + 1, &end, 10));
            path = *end == ']' ? end + 1 : end;
        } else {
            size_t word = strcspn(path, ".[");

            found = enter_member(&s, path, word);
            path += word;
        }
        path += *path == '.';
    }
    for (const char *p = text; p < s.at; p++)
        line += *p == '\n';
    return line;
}

int document_parse(const char *text, size_t length, const char *source, struct document *ret,
                   struct err *err)
{
    struct document document = {.length = length};
    int r = json_parse(text, length, source, &document.root, err);

    if (r < 0)
        return r;
    document.source = strdup(source);
    if (!(document.text = malloc(length + 1)) || !document.source) {
        document_done(&document);
        return err_set(err, -ENOMEM, "read '%s'", source);
    }
    memcpy(document.text, text, length);
    document.text[length] = '\0';
    *ret = document;
    return 0;
}

int document_load(const char *path, struct document *ret, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    int r;

    buf_init(&text, DOCUMENT_MAX);
    r = file_load(AT_FDCWD, path, &text, err);
    return r < 0 ? r : document_parse(text.data ? text.data : "", text.length, path, ret, err);
}

void document_done(struct document *document)
{
    json_decref(document->root);
    free(document->text);
    free(document->source);
    memset(document, 0, sizeof(*document));
}

int document_error(const struct document *document, struct err *err)
{
    char path[JSON_PATH_MAX];
    size_t length;

    if (!err)
        return -EINVAL;
    length = strcspn(err->message, ":");
    snprintf(path, sizeof(path), "%.*s", (int)(length < sizeof(path) ? length : 0), err->message);
    return err_wrap(err, "%s:%u", document->source,
                    document_line(document->text, document->length, path));
}

int document_opt_number(const struct json_at *at, const char *name, double least, double most,
                        double *ret, struct err *err)
{
    struct json_at member;
    double value;
    int r = json_at_member(at, name, &member, err);

    if (r < 0 || !member.value)
        return r;
    if (!json_is_number(member.value))
        return err_set(err, -EINVAL, "%s: a number is needed", member.path);
    value = json_number_value(member.value);
    if (!(value >= least && value <= most))
        return err_set(err, -ERANGE, "%s: %g is not in %g to %g", member.path, value, least, most);
    *ret = value;
    return 0;
}

int document_number(const struct json_at *at, const char *name, double least, double most,
                    double *ret, struct err *err)
{
    struct json_at member;
    int r = json_at_member(at, name, &member, err);

    if (r == 0 && !member.value)
        return err_set(err, -EINVAL, "%s: needed, a number", member.path);
    return r < 0 ? r : document_opt_number(at, name, least, most, ret, err);
}

int document_opt_count(const struct json_at *at, const char *name, uint64_t least, uint64_t most,
                       uint64_t *ret, struct err *err)
{
    struct json_at member;
    double value = (double)*ret;
    int r = document_opt_number(at, name, (double)least, (double)most, &value, err);

    if (r < 0 || (r = json_at_member(at, name, &member, err)) < 0 || !member.value)
        return r;
    if (floor(value) != value)
        return err_set(err, -EINVAL, "%s: %g is not a whole number", member.path, value);
    *ret = (uint64_t)value;
    return 0;
}

int document_opt_word(const struct json_at *at, const char *name, const char *const *words,
                      unsigned *ret, struct err *err)
{
    const char *word = NULL;
    char known[256] = "";
    struct json_at member;
    int r = json_opt_string(at, name, &word, err);

    if (r < 0 || !word)
        return r;
    for (unsigned i = 0; words[i]; i++) {
        size_t used = strlen(known);

        if (!strcmp(words[i], word)) {
            *ret = i;
            return 0;
        }
        snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "", words[i]);
    }
    json_at_member(at, name, &member, NULL);
    return err_set(err, -EINVAL, "%s: '%s' is not one of %s", member.path, word, known);
}
