/* SPDX-License-Identifier: Apache-2.0 */
/* state, list. */
#include "base/cleanup.h"
#include "base/json.h"
#include "cmd/oci_cli.h"
#include "oci/container.h"

#include <stdio.h>
#include <string.h>

static const char *text_of(const json_t *item, const char *name)
{
    const char *text = json_string_value(json_object_get(item, name));

    return text ? text : "";
}

static void print_table(json_t *list)
{
    json_t *item;
    size_t i;

    printf("%-24s %-8s %-9s %-32s %-31s %s\n", "ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER");
    json_array_foreach(list, i, item)
    {
        printf("%-24s %-8lld %-9s %-32s %-31s %s\n", text_of(item, "id"),
               (long long)json_integer_value(json_object_get(item, "pid")), text_of(item, "status"),
               text_of(item, "bundle"), text_of(item, "created"), text_of(item, "owner"));
    }
}

int oci_verb_list(const struct oci_global *global, int argc, char **argv)
{
    static const struct option options[] = {{"format", required_argument, NULL, 'f'},
                                            {"quiet", no_argument, NULL, 'q'},
                                            {NULL, 0, NULL, 0}};
    CLEANUP(json_decrefp) json_t *list = NULL;
    bool quiet = false, json = false;
    struct err err;
    json_t *item;
    size_t i;
    int option;

    while ((option = getopt_long(argc, argv, "+f:q", options, NULL)) >= 0) {
        if (option == 'q')
            quiet = true;
        else if (option == 'f' && (json = strcmp(optarg, "json") == 0) == false &&
                 strcmp(optarg, "table") != 0)
            return oci_usage_error(global, "list: --format is table or json, not '%s'", optarg);
        else if (option != 'f')
            return oci_unknown_option();
    }
    if (container_list(global->root, &list, &err) < 0)
        return oci_fail(global, &err);
    if (json)
        return oci_print_json(global, list, JSON_COMPACT);
    if (!quiet) {
        print_table(list);
        return 0;
    }
    json_array_foreach(list, i, item)
    {
        puts(text_of(item, "id"));
    }
    return 0;
}

int oci_verb_state(const struct oci_global *global, int argc, char **argv)
{
    CLEANUP(json_decrefp) json_t *state = NULL;
    const char *id;
    struct err err;

    if (!(id = oci_only_id(global, argc, argv)))
        return 1;
    if (container_state(global->root, id, &state, &err) < 0)
        return oci_fail(global, &err);
    return oci_print_json(global, state, JSON_INDENT(2));
}
