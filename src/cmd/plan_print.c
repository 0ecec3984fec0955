/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results for people and for other programs. A result is an object: its numbers and texts are
 * printed one a line, its arrays of objects as tables, its objects as paragraphs of their own.
 */
#include "cmd/plan.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define COLUMNS_MAX 32
#define CELL_MAX    128

static void cell_text(const json_t *value, char *text, size_t size, const char *nothing)
{
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_STRING:
        snprintf(text, size, "%s", json_string_value(value));
        break;
    case JSON_INTEGER:
        snprintf(text, size, "%lld", (long long)json_integer_value(value));
        break;
    case JSON_REAL:
        snprintf(text, size, "%.6g", json_real_value(value));
        break;
    case JSON_TRUE:
        snprintf(text, size, "yes");
        break;
    case JSON_FALSE:
        snprintf(text, size, "no");
        break;
    default:
        snprintf(text, size, "%s", nothing);
    }
}

static bool is_table(const json_t *value)
{
    return json_is_array(value) && json_is_object(json_array_get(value, 0));
}

static void print_table(const json_t *rows)
{
    const char *names[COLUMNS_MAX], *name;
    int widths[COLUMNS_MAX];
    bool is_text[COLUMNS_MAX] = {false};
    size_t nr = 0;
    json_t *value;
    char text[CELL_MAX];

    json_object_foreach(json_array_get(rows, 0), name, value) if (nr < COLUMNS_MAX &&
                                                                  !json_is_array(value) &&
                                                                  !json_is_object(value))
    {
        names[nr] = name;
        widths[nr++] = (int)strlen(name);
    }
    for (size_t i = 0; i < json_array_size(rows); i++)
        for (size_t k = 0; k < nr; k++) {
            value = json_object_get(json_array_get(rows, i), names[k]);
            is_text[k] = is_text[k] || json_is_string(value);
            cell_text(value, text, sizeof(text), "-");
            widths[k] = MAX(widths[k], (int)strlen(text));
        }
    for (size_t k = 0; k < nr; k++)
        printf("  %*s", is_text[k] ? -widths[k] : widths[k], names[k]);
    putchar('\n');
    for (size_t i = 0; i < json_array_size(rows); i++) {
        for (size_t k = 0; k < nr; k++) {
            cell_text(json_object_get(json_array_get(rows, i), names[k]), text, sizeof(text), "-");
            printf("  %*s", is_text[k] ? -widths[k] : widths[k], text);
        }
        putchar('\n');
    }
}

static void print_object(const json_t *object, const char *title)
{
    const char *name;
    json_t *value;
    char text[1024];
    int width = 0;

    json_object_foreach((json_t *)object, name, value) width = MAX(width, (int)strlen(name));
    if (title)
        printf("%s:\n", title);
    json_object_foreach((json_t *)object, name, value)
    {
        if (json_is_array(value) || json_is_object(value))
            continue;
        cell_text(value, text, sizeof(text), "-");
        printf("%s%-*s  %s\n", title ? "  " : "", width, name, text);
    }
    json_object_foreach((json_t *)object, name, value)
    {
        if (json_is_object(value)) {
            print_object(value, name);
        } else if (is_table(value)) {
            printf("%s:\n", name);
            print_table(value);
        } else if (json_is_array(value) && json_array_size(value)) {
            printf("%s:\n", name);
            for (size_t i = 0; i < json_array_size(value); i++) {
                cell_text(json_array_get(value, i), text, sizeof(text), "-");
                printf("  %s\n", text);
            }
        }
    }
}

void plan_print_tables(const json_t *result)
{
    print_object(result, NULL);
}

void plan_print_json(const json_t *result)
{
    json_dumpf(result, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    putchar('\n');
}

static void csv_cell(const json_t *value)
{
    char text[512];

    cell_text(value, text, sizeof(text), "");
    if (json_is_real(value))
        snprintf(text, sizeof(text), "%.15g", json_real_value(value));
    if (!strpbrk(text, ",\"\n")) {
        fputs(text, stdout);
        return;
    }
    putchar('"');
    for (const char *p = text; *p; p++) {
        if (*p == '"')
            putchar('"');
        putchar(*p);
    }
    putchar('"');
}

/* The first table; a result without one as two columns. */
void plan_print_csv(const json_t *result)
{
    const char *name, *column;
    json_t *value, *cell;

    json_object_foreach((json_t *)result, name, value)
    {
        bool first = true;

        if (!is_table(value))
            continue;
        json_object_foreach(json_array_get(value, 0), column, cell)
        {
            printf("%s%s", first ? "" : ",", column);
            first = false;
        }
        putchar('\n');
        for (size_t i = 0; i < json_array_size(value); i++) {
            first = true;
            json_object_foreach(json_array_get(value, 0), column, cell)
            {
                if (!first)
                    putchar(',');
                csv_cell(json_object_get(json_array_get(value, i), column));
                first = false;
            }
            putchar('\n');
        }
        return;
    }
    printf("name,value\n");
    json_object_foreach((json_t *)result, name, value)
    {
        if (json_is_array(value) || json_is_object(value))
            continue;
        printf("%s,", name);
        csv_cell(value);
        putchar('\n');
    }
}

int plan_write(const char *path, const char *text, size_t length, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    int r;

    if (!strcmp(path, "-"))
        return fwrite(text, 1, length, stdout) == length ? 0 : err_set(err, -EIO, "write");
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_errno(err, -errno, "write '%s'", path);
    r = file_write_full(fd, text, length);
    return r < 0 ? err_errno(err, r, "write '%s'", path) : 0;
}
