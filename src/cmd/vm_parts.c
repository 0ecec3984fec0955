/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/vm_parts.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/util.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct taken {
    const char *name;
    const char **list;
    unsigned *nr;
};

/* 1: the word after it is its value, too; 0: it is none of ours. */
static int take(const struct taken *t, char **argv, int left, int *ret_words, struct err *err)
{
    size_t length = strlen(t->name);
    const char *value;

    if (strncmp(argv[0], t->name, length) != 0 || (argv[0][length] && argv[0][length] != '='))
        return 0;
    *ret_words = argv[0][length] ? 1 : 2;
    value = argv[0][length] ? argv[0] + length + 1 : left > 1 ? argv[1] : "";
    if (!*value)
        return err_set(err, -EINVAL, "'%s' needs a value", t->name);
    if (*t->nr == VM_PARTS_MAX)
        return err_set(err, -E2BIG, "more than %d of %s", VM_PARTS_MAX, t->name);
    t->list[(*t->nr)++] = value;
    return 1;
}

int vm_parts_take(struct vm_parts *parts, int *argc, char **argv, struct err *err)
{
    const struct taken kinds[] = {{"--disk", parts->disks, &parts->nr_disks},
                                  {"--net", parts->nets, &parts->nr_nets}};
    int kept = 1;

    for (int i = 1; i < *argc;) {
        int words = 0, result = 0;

        for (size_t k = 0; k < ARRAY_LEN(kinds) && result == 0; k++)
            result = take(&kinds[k], argv + i, *argc - i, &words, err);
        if (result < 0)
            return result;
        if (result == 0)
            argv[kept++] = argv[i++];
        i += words;
    }
    argv[kept] = NULL;
    *argc = kept;
    return 0;
}

int vm_parts_disk_name(const char *name_or_path, char **ret, struct err *err)
{
    *ret = strchr(name_or_path, '/') ? realpath(name_or_path, NULL) : strdup(name_or_path);
    return *ret ? 0 : err_errno(err, -errno, "disk '%s'", name_or_path);
}

int vm_parts_disk(const char *text, json_t **ret, struct err *err)
{
    CLEANUP(freep) char *copy = strdup(text), *name = NULL;
    char *word, *rest = NULL;
    json_t *disk;
    int result;

    if (!copy)
        return err_set(err, -ENOMEM, "out of memory");
    word = *copy == ',' ? NULL : strtok_r(copy, ",", &rest);
    if ((result = vm_parts_disk_name(word ?: "", &name, err)) < 0)
        return result;
    disk = json_object();
    json_put_string(disk, "disk", name);
    while ((word = strtok_r(NULL, ",", &rest))) {
        if (!strcmp(word, "ro")) {
            json_object_set_new(disk, "read_only", json_true());
        } else if (!strncmp(word, "format=", 7)) {
            json_put_string(disk, "format", word + 7);
        } else {
            json_decref(disk);
            return err_set(err, -EINVAL, "--disk %s: '%s' is none of ro, format=", text, word);
        }
    }
    *ret = disk;
    return 0;
}

int vm_parts_put(const struct vm_parts *parts, json_t *hardware, struct err *err)
{
    json_t *disks = json_array(), *nets = json_array();
    int result = 0;

    if (parts->nr_disks)
        json_object_set(hardware, "disks", disks);
    if (parts->nr_nets)
        json_object_set(hardware, "networks", nets);
    for (unsigned i = 0; i < parts->nr_disks && result == 0; i++) {
        json_t *disk = NULL;

        if ((result = vm_parts_disk(parts->disks[i], &disk, err)) == 0)
            json_array_append_new(disks, disk);
    }
    for (unsigned i = 0; i < parts->nr_nets; i++) {
        char id[16];

        snprintf(id, sizeof(id), "net%u", i);
        json_array_append_new(nets, json_pack("{s:s, s:s}", "id", id, "net", parts->nets[i]));
    }
    json_decref(disks);
    json_decref(nets);
    return result;
}
