/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/run_disks.h"

#include "vmm/config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LINK_CMDLINE " lodge.disks=link"

static const char *after(const char *at, const char *word)
{
    size_t length = strlen(word);

    return !strncmp(at, word, length) ? at + length : NULL;
}

int run_disk_parse(const char *text, struct run_disk *ret, struct err *err)
{
    const char *comma = strchr(text, ','), *rest = NULL, *path;
    size_t length = comma ? (size_t)(comma - text) : 0;

    if (comma && length && length < sizeof(ret->serial)) {
        ret->format = "raw";
        if (!(rest = after(comma, ",raw,")) && (rest = after(comma, ",qcow2,")))
            ret->format = "qcow2";
    }
    if (!rest)
        return err_set(err, -EINVAL, "--disk '%s': SERIAL,FORMAT[,ro],PATH is needed", text);
    snprintf(ret->serial, sizeof(ret->serial), "%.*s", (int)length, text);
    path = after(rest, "ro,");
    ret->read_only = path;
    ret->path = path ? path : rest;
    return 0;
}

int run_disks_config(const struct run_options *options, json_t *config, struct err *err)
{
    json_t *list = json_object_get(config, "disks");
    struct run_disk disk;

    if (!options->nr_disks)
        return 0;
    if (json_array_size(list) + options->nr_disks > VMM_DISKS_MAX)
        return err_set(err, -E2BIG,
                       "a virtual machine has at most %d disks, its own and volumes with a size "
                       "among them: detach some",
                       VMM_DISKS_MAX);
    for (size_t i = 0; i < options->nr_disks; i++)
        if (run_disk_parse(options->disks[i], &disk, err) == 0)
            json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:b}", "path", disk.path,
                                                  "serial", disk.serial, "format", disk.format,
                                                  "read_only", (int)disk.read_only));
    json_object_set_new(
        config, "cmdline",
        json_sprintf("%s" LINK_CMDLINE, json_string_value(json_object_get(config, "cmdline"))));
    return 0;
}
