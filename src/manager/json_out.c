/* SPDX-License-Identifier: Apache-2.0 */
/* JSON written straight into a buffer. */
#include "manager/internal.h"

#include "base/clock.h"

#include <string.h>
#include <time.h>

void error_copy(char to[ERROR_MAX], const char *from)
{
    size_t length = strlen(from);

    static const char more[] = "...";
    bool cut = length > ERROR_MAX - 1;

    if (cut)
        for (length = ERROR_MAX - sizeof(more);
             length && ((unsigned char)from[length] & 0xc0) == 0x80;)
            length--;
    memcpy(to, from, length);
    strcpy(to + length, cut ? more : "");
}

/* Bytes of the UTF-8 character here (RFC 3629); 0: there is none. */
static size_t utf8_length(const char *text)
{
    const unsigned char *t = (const unsigned char *)text;
    size_t length = t[0] < 0x80 ? 1 : t[0] < 0xc2 ? 0 : t[0] < 0xe0 ? 2 : t[0] < 0xf0 ? 3 : 4;

    if (t[0] > 0xf4 || (t[0] == 0xe0 && t[1] < 0xa0) || (t[0] == 0xed && t[1] > 0x9f) ||
        (t[0] == 0xf0 && t[1] < 0x90) || (t[0] == 0xf4 && t[1] > 0x8f))
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((t[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

void out_string(struct buf *to, const char *text)
{
    const char *start = text;

    buf_append(to, "\"", 1);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        size_t length = utf8_length(text);

        if (length && c >= 32 && c != '"' && c != '\\' && c != 127) {
            text += length - 1;
            continue;
        }
        buf_append(to, start, (size_t)(text - start));
        if (!length)
            buf_append_string(to, "\\ufffd");
        else if (c == '"' || c == '\\')
            buf_printf(to, "\\%c", c);
        else if (c == '\n')
            buf_append(to, "\\n", 2);
        else
            buf_printf(to, "\\u%04x", c);
        start = text + 1;
    }
    buf_append(to, start, (size_t)(text - start));
    buf_append(to, "\"", 1);
}

void out_time(struct buf *to, int64_t time_ns)
{
    time_t seconds = (time_t)(time_ns / (int64_t)NS_PER_S);
    struct tm utc;
    char text[40];

    if (time_ns <= 0) {
        buf_append(to, "null", 4);
        return;
    }
    gmtime_r(&seconds, &utc);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
    buf_printf(to, "\"%s.%09lldZ\"", text, (long long)(time_ns % (int64_t)NS_PER_S));
}

static const char *shown_state(const struct instance *instance)
{
    if (instance->restart_at_ns && instance->row.state == INSTANCE_EXITED)
        return "restarting";
    return instance_state_name(instance->row.state);
}

static void out_labels(struct buf *to, const char *labels)
{
    buf_append(to, "{", 1);
    for (const char *at = labels; *at; at += strlen(at) + 1) {
        const char *equals = strchr(at, '=');
        char name[300];

        snprintf(name, sizeof(name), "%.*s", (int)(equals - at), at);
        if (at != labels)
            buf_append(to, ", ", 2);
        out_string(to, name);
        buf_append(to, ": ", 2);
        out_string(to, equals + 1);
    }
    buf_append(to, "}", 1);
}

static void out_members(struct buf *to, const struct instance *instance)
{
    static const char *const health[] = {"none", "starting", "healthy", "unhealthy"};
    const struct instance_row *row = &instance->row;

    buf_printf(to, "\"id\": \"%s\", \"name\": ", instance->id);
    out_string(to, instance->name);
    buf_append_string(to, ", \"image\": ");
    out_string(to, instance->brief->image);
    buf_append_string(to, ", \"command\": ");
    out_string(to, instance->brief->command);
    buf_printf(to,
               ", \"isolation\": \"%s\", \"state\": \"%s\", \"exit_code\": %d, \"pid\": %d, "
               "\"restarts\": %llu, \"health\": \"%s\", \"created\": ",
               instance->brief->vm ? "vm" : "container", shown_state(instance), row->exit_code,
               life_is_active(row->state) ? (int)instance->pid : 0,
               (unsigned long long)row->restarts, health[instance->health]);
    out_time(to, instance->created_ns);
    buf_append_string(to, ", \"started\": ");
    out_time(to, row->started_ns);
    buf_append_string(to, ", \"finished\": ");
    out_time(to, row->finished_ns);
    buf_append_string(to, ", \"error\": ");
    out_string(to, row->error);
    buf_append_string(to, ", \"labels\": ");
    out_labels(to, instance->brief->labels);
}

void out_instance_brief(struct buf *to, const struct instance *instance)
{
    buf_append(to, "{", 1);
    out_members(to, instance);
    buf_append(to, "}", 1);
}

void out_instance(struct buf *to, const struct instance *instance)
{
    buf_append(to, "{", 1);
    out_members(to, instance);
    buf_printf(to, ", \"run\": %llu, \"spec\": %s}", (unsigned long long)instance->row.run,
               instance->spec);
}
