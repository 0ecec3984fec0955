/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What boot loaders are configured to boot: GRUB 2's grub.cfg (of its language the assignments, the
 * menu and the commands linux and initrd; conditions are not evaluated: all branches run in turn,
 * so that the last assignment holds), boot loader entries (the Boot Loader Specification's type 1)
 * and ISOLINUX. Pure parsing of foreign text: sizes and counts are capped, nothing is executed.
 */
#ifndef LODGE_BOOTDISK_MENU_H
#define LODGE_BOOTDISK_MENU_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define MENU_ENTRIES_MAX 64
#define MENU_INITRDS_MAX 4
#define MENU_PATH_MAX    512
#define MENU_ARGS_MAX    2048
#define MENU_NAME_MAX    128
#define MENU_VARS_MAX    64

struct menu_entry {
    char title[MENU_NAME_MAX], id[MENU_NAME_MAX], number[32]; /* number: "2" or "1>0" */
    char kernel[MENU_PATH_MAX], args[MENU_ARGS_MAX];
    char initrds[MENU_INITRDS_MAX][MENU_PATH_MAX];
    size_t nr_initrds;
};

struct menu_variable {
    char name[MENU_NAME_MAX], value[MENU_ARGS_MAX];
};

struct menu {
    size_t nr_entries;
    struct menu_entry entries[MENU_ENTRIES_MAX];
    size_t nr_variables;
    struct menu_variable variables[MENU_VARS_MAX];
    char chosen[MENU_NAME_MAX]; /* ISOLINUX: the label */
    bool wants_entries;         /* GRUB's blscfg */
};

struct menu *menu_new(void);
void menu_free(struct menu *menu);

const char *menu_get(const struct menu *menu, const char *name); /* "" when not set */
void menu_set(struct menu *menu, const char *name, const char *value);

/* grubenv: NAME=VALUE lines. */
void menu_read_grubenv(struct menu *menu, const char *text);
/* text may be read over several calls (configfile, source). */
void menu_read_grub(struct menu *menu, const char *text);
/* One entry's file; its file name without ".conf" is its id. */
void menu_read_loader_entry(struct menu *menu, const char *id, const char *text);
/* include: called for each INCLUDE or CONFIG line. */
typedef void menu_include_fn(void *context, const char *path);
void menu_read_isolinux(struct menu *menu, const char *text, menu_include_fn *include,
                        void *context);

/* The entry that would be booted without a hand on the keys; NULL: none has a kernel. */
const struct menu_entry *menu_default(const struct menu *menu);

#endif
