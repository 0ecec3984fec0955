/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/managed_figures.h"

#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/managed.h"

#include <stdio.h>

#define CELL 24

enum form { SECONDS, COUNT, PERCENT };

/* pressure: a member of "pressure". */
static const struct column {
    const char *title, *name, *pressure;
    enum form form;
    int width;
} columns[] = {
    {"RUN s", "run_ns", NULL, SECONDS, 9},        {"WAIT s", "waiting_ns", NULL, SECONDS, 9},
    {"HELD s", "throttled_ns", NULL, SECONDS, 9}, {"HELD", "throttled_periods", NULL, COUNT, 7},
    {"PSI cpu", NULL, "cpu", PERCENT, 8},         {"PSI mem", NULL, "memory", PERCENT, 8},
    {"PSI io", NULL, "io", PERCENT, 8},           {"RECLAIM", "reclaimed", NULL, COUNT, 10},
    {"REQUESTS", "io_requests", NULL, COUNT, 10},
};

int managed_figures_ask(const char *ref, json_t **ret, struct err *err)
{
    char path[MANAGED_PATH_MAX];

    managed_path(path, ref, "/figures");
    return api_ask("GET", path, NULL, ret, NULL, err);
}

void managed_figures_add(json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *one = json_array_get(list, i), *figures = NULL;
        struct err ignored = ERR_INIT;

        managed_figures_ask(json_string_value(json_object_get(one, "id")) ?: "", &figures,
                            &ignored);
        json_object_set_new(one, "figures", figures ?: json_null());
    }
}

static const char *cell(const struct column *column, const json_t *figures, char to[CELL])
{
    const json_t *value = column->pressure ? json_object_get(json_object_get(figures, "pressure"),
                                                             column->pressure)
                                           : json_object_get(figures, column->name);

    if (!json_is_number(value))
        return "-"; /* this host's kernel does not say */
    if (column->form == SECONDS)
        snprintf(to, CELL, "%.2f", json_number_value(value) / 1e9);
    else if (column->form == PERCENT)
        snprintf(to, CELL, "%.1f%%", json_number_value(value) * 100);
    else
        snprintf(to, CELL, "%.0f", json_number_value(value));
    return to;
}

void managed_figures_print(const json_t *list)
{
    bool begun = false;

    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i), *figures = json_object_get(one, "figures");
        char text[CELL];

        if (!json_is_object(figures))
            continue;
        if (!begun) {
            printf("%-20s %-9s", "NAME", "ISOLATION");
            for (size_t k = 0; k < ARRAY_LEN(columns); k++)
                printf(" %*s", columns[k].width, columns[k].title);
            putchar('\n');
        }
        begun = true;
        printf("%-20.20s %-9s", json_string_value(json_object_get(one, "name")) ?: "",
               json_string_value(json_object_get(one, "isolation")) ?: "");
        for (size_t k = 0; k < ARRAY_LEN(columns); k++)
            printf(" %*s", columns[k].width, cell(&columns[k], figures, text));
        putchar('\n');
    }
}
