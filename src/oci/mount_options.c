/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table from option names to mount attributes and propagation; what is in neither goes to the
 * file system itself as data.
 */
#include "oci/mount_options.h"

#include "base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif

static const struct attribute_name {
    const char *name;
    uint64_t set, clear;
} attribute_names[] = {
    {"ro", MOUNT_ATTR_RDONLY, 0},
    {"rw", 0, MOUNT_ATTR_RDONLY},
    {"nosuid", MOUNT_ATTR_NOSUID, 0},
    {"suid", 0, MOUNT_ATTR_NOSUID},
    {"nodev", MOUNT_ATTR_NODEV, 0},
    {"dev", 0, MOUNT_ATTR_NODEV},
    {"noexec", MOUNT_ATTR_NOEXEC, 0},
    {"exec", 0, MOUNT_ATTR_NOEXEC},
    {"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
    {"atime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"norelatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    {"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    {"nostrictatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
    {"diratime", 0, MOUNT_ATTR_NODIRATIME},
    {"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
    {"symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW},
};

static const struct {
    const char *name;
    unsigned long flags;
} propagation_names[] = {
    {"private", MS_PRIVATE},       {"rprivate", MS_PRIVATE | MS_REC},
    {"shared", MS_SHARED},         {"rshared", MS_SHARED | MS_REC},
    {"slave", MS_SLAVE},           {"rslave", MS_SLAVE | MS_REC},
    {"unbindable", MS_UNBINDABLE}, {"runbindable", MS_UNBINDABLE | MS_REC},
};

/* Options that mean what is the case already. */
static const char *const ignored[] = {"defaults",   "async", "nomand",
                                      "noiversion", "auto",  "noauto"};

static const struct attribute_name *find_attribute(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(attribute_names); i++)
        if (strcmp(attribute_names[i].name, name) == 0)
            return &attribute_names[i];
    return NULL;
}

static bool take_propagation(struct mount_options *options, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(propagation_names); i++)
        if (strcmp(propagation_names[i].name, name) == 0) {
            options->propagation = propagation_names[i].flags;
            return true;
        }
    return false;
}

static bool is_ignored(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
        if (strcmp(ignored[i], name) == 0)
            return true;
    return false;
}

/* A name that both lists know by a leading "r" (rro, rnosuid) acts on the whole tree. */
static void take_option(struct mount_options *options, const char *name)
{
    const struct attribute_name *attribute = find_attribute(name);
    bool whole_tree = false;

    if (!attribute && name[0] == 'r' && (attribute = find_attribute(name + 1)))
        whole_tree = true;
    if (attribute) {
        uint64_t *set = whole_tree ? &options->recursive_set : &options->attributes_set;
        uint64_t *clear = whole_tree ? &options->recursive_clear : &options->attributes_clear;

        *set = (*set & ~attribute->clear) | attribute->set;
        *clear = (*clear & ~attribute->set) | attribute->clear;
        if (attribute->set & MOUNT_ATTR_RDONLY)
            options->superblock_read_only = true;
        return;
    }
    if (strcmp(name, "bind") == 0 || strcmp(name, "rbind") == 0) {
        options->bind = true;
        options->recursive = name[0] == 'r';
    } else if (strcmp(name, "tmpcopyup") == 0) {
        options->copy_up = true;
    } else if (strcmp(name, "idmap") == 0 || strcmp(name, "ridmap") == 0) {
        options->idmap = true;
        options->idmap_recursive = name[0] == 'r';
    } else if (!take_propagation(options, name) && !is_ignored(name)) {
        options->data.items[options->data.length++] = name;
    }
}

int mount_options_parse(const struct oci_mount *mount, struct mount_options *ret, struct err *err)
{
    struct mount_options options = {0};

    options.data.items = calloc(mount->options.length + 2, sizeof(char *));
    if (!options.data.items)
        return err_set(err, -ENOMEM, "mount '%s': out of memory", mount->destination);
    for (size_t i = 0; i < mount->options.length; i++)
        take_option(&options, mount->options.items[i]);
    if (mount->type && strcmp(mount->type, "bind") == 0)
        options.bind = true;
    if (mount->label_option && !options.bind)
        options.data.items[options.data.length++] = mount->label_option;
    *ret = options;
    return 0;
}

void mount_options_done(struct mount_options *options)
{
    free(options->data.items);
    options->data.items = NULL;
}
