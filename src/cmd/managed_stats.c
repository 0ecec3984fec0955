/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/managed_stats.h"

#include "base/util.h"
#include "cmd/api_client.h"

#include <stdio.h>
#include <string.h>

#define CELL 24

int managed_stats_ask(json_t **ret, struct err *err)
{
    json_t *answer = NULL;
    int result = 0;

    if (api_is_there() && (result = api_ask("GET", "/v1/stats", NULL, &answer, NULL, err)) < 0)
        return result;
    *ret = json_incref(json_object_get(answer, "stats")) ?: json_array();
    json_decref(answer);
    return 0;
}

static const char *bytes_text(const json_t *value, char to[CELL])
{
    static const char units[] = "BKMGTP";
    double bytes = (double)json_integer_value(value);
    size_t unit = 0;

    if (!json_is_integer(value))
        return "-";
    for (; bytes >= 1000 && units[unit + 1]; unit++)
        bytes /= 1024;
    snprintf(to, CELL, bytes < 10 && unit ? "%.1f%c" : "%.0f%c", bytes, units[unit]);
    return to;
}

static void pair(char to[2 * CELL], const json_t *object, const char *a, const char *b)
{
    char first[CELL], second[CELL];

    snprintf(to, (size_t)2 * CELL, "%s/%s", bytes_text(json_object_get(object, a), first),
             bytes_text(json_object_get(object, b), second));
}

static const json_t *same(const json_t *list, const json_t *one)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_equal(json_object_get(json_array_get(list, i), "id"), json_object_get(one, "id")))
            return json_array_get(list, i);
    return NULL;
}

static void print_one(const json_t *one, const json_t *before, double seconds)
{
    char memory[2 * CELL], net[2 * CELL], block[2 * CELL], share[CELL] = "-", pids[CELL] = "-";
    json_int_t cpu_ns = json_integer_value(json_object_get(one, "cpu_ns"));
    const json_t *nr = json_object_get(one, "pids");

    if (before && seconds > 0)
        snprintf(share, sizeof(share), "%.1f%%",
                 (double)(cpu_ns - json_integer_value(json_object_get(before, "cpu_ns"))) /
                     (seconds * 1e7));
    if (json_is_integer(nr))
        snprintf(pids, sizeof(pids), "%lld", (long long)json_integer_value(nr));
    pair(memory, one, "memory_bytes", "memory_limit_bytes");
    pair(net, one, "net_received_bytes", "net_sent_bytes");
    pair(block, one, "block_read_bytes", "block_written_bytes");
    printf("%-20.20s %-9s %7s %9.2f %9.2f %13s %6s %13s %13s\n",
           json_string_value(json_object_get(one, "name")),
           json_string_value(json_object_get(one, "isolation")), share, (double)cpu_ns / 1e9,
           (double)json_integer_value(json_object_get(one, "throttled_ns")) / 1e9, memory, pids,
           net, block);
}

void managed_stats_print(const json_t *now, const json_t *earlier, double seconds)
{
    if (!json_array_size(now))
        return;
    printf("%-20s %-9s %7s %9s %9s %13s %6s %13s %13s\n", "NAME", "ISOLATION", "CPU", "CPU s",
           "HELD s", "MEM/LIMIT", "PIDS", "NET IN/OUT", "DISK IN/OUT");
    for (size_t i = 0; i < json_array_size(now); i++) {
        const json_t *one = json_array_get(now, i);

        print_one(one, same(earlier, one), seconds);
    }
}
