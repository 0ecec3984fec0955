/* SPDX-License-Identifier: Apache-2.0 */
#include "bootdisk/menu.h"

#include "base/util.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 128
#define LINE_MAX_ 8192
#define DEPTH_MAX 8

struct menu *menu_new(void)
{
    return calloc(1, sizeof(struct menu));
}

void menu_free(struct menu *menu)
{
    free(menu);
}

static void copy(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%.*s", (int)size - 1, from);
}

const char *menu_get(const struct menu *menu, const char *name)
{
    for (size_t i = 0; i < menu->nr_variables; i++)
        if (!strcmp(menu->variables[i].name, name))
            return menu->variables[i].value;
    return "";
}

void menu_set(struct menu *menu, const char *name, const char *value)
{
    size_t i = 0;

    while (i < menu->nr_variables && strcmp(menu->variables[i].name, name) != 0)
        i++;
    if (i == MENU_VARS_MAX || strlen(name) >= MENU_NAME_MAX)
        return;
    if (i == menu->nr_variables)
        copy(menu->variables[menu->nr_variables++].name, MENU_NAME_MAX, name);
    copy(menu->variables[i].value, MENU_ARGS_MAX, value);
}

/* The next line without its end; false at the end of the text. */
static bool next_line(const char **text, char line[LINE_MAX_])
{
    size_t length = strcspn(*text, "\n");

    if (!**text)
        return false;
    copy(line, MIN(length + 1, (size_t)LINE_MAX_), *text);
    line[strcspn(line, "\r")] = '\0';
    *text += length + ((*text)[length] == '\n');
    return true;
}

static void append(char *to, size_t size, const char *from, size_t length)
{
    size_t has = strlen(to);

    if (has + 1 < size)
        snprintf(to + has, size - has, "%.*s", (int)MIN(length, size), from);
}

/* "$name" and "${name}" at text[0] == '$': the value is appended; how many bytes were read. */
static size_t expand(const struct menu *menu, const char *text, char *to, size_t size)
{
    bool braces = text[1] == '{';
    const char *name = text + 1 + braces;
    char variable[MENU_NAME_MAX];
    size_t length = 0;
    const char *value;

    while (isalnum((unsigned char)name[length]) || name[length] == '_')
        length++;
    if (length == 0 || (braces && name[length] != '}')) {
        append(to, size, "$", 1);
        return 1;
    }
    copy(variable, MIN(length + 1, sizeof(variable)), name);
    value = menu_get(menu, variable);
    append(to, size, value, strlen(value));
    return 1 + length + (braces ? 2 : 0);
}

/* One word of a shell-like line, quotes taken off and variables put in. NULL: no more. */
static const char *next_word(const struct menu *menu, const char *at, char *word, size_t size)
{
    char quote = '\0';

    *word = '\0';
    while (*at == ' ' || *at == '\t')
        at++;
    if (!*at || *at == '#')
        return NULL;
    if (*at == ';' || *at == '{' || *at == '}') {
        append(word, size, at, 1);
        return at + 1;
    }
    while (*at && (quote || !strchr(" \t;", *at))) {
        if (*at == quote && quote) {
            quote = '\0';
            at++;
        } else if (!quote && (*at == '"' || *at == '\'')) {
            quote = *at++;
        } else if (*at == '\\' && at[1] && quote != '\'') {
            append(word, size, at + 1, 1);
            at += 2;
        } else if (*at == '$' && quote != '\'' && menu) {
            at += expand(menu, at, word, size);
        } else {
            append(word, size, at++, 1);
        }
    }
    return at;
}

/* "(hd0,gpt2)/boot/vmlinuz": the device is ours to know. */
static const char *strip_device(const char *path)
{
    const char *end = *path == '(' ? strchr(path, ')') : NULL;

    return end ? end + 1 : path;
}

struct grub {
    struct menu *menu;
    struct menu_entry *entry; /* that we are in */
    unsigned depth;           /* of braces */
    unsigned entry_depth;
    unsigned counts[DEPTH_MAX]; /* entries so far, by level of submenus */
    unsigned level;
    unsigned submenu_depths[DEPTH_MAX];
};

static void number_entry(struct grub *g, char *to, size_t size)
{
    *to = '\0';
    for (unsigned i = 0; i <= g->level; i++) {
        char part[16];

        snprintf(part, sizeof(part), "%s%u", i ? ">" : "",
                 i < g->level ? g->counts[i] - 1 : g->counts[i]);
        append(to, size, part, strlen(part));
    }
}

/* menuentry TITLE [OPTION VALUE]... { */
static void grub_entry(struct grub *g, const char *rest, bool submenu)
{
    char word[MENU_ARGS_MAX], title[MENU_NAME_MAX] = "", id[MENU_NAME_MAX] = "", number[32];
    bool wants_id = false, first = true;

    number_entry(g, number, sizeof(number));
    while ((rest = next_word(g->menu, rest, word, sizeof(word))) && strcmp(word, "{") != 0) {
        if (first)
            copy(title, sizeof(title), word);
        if (wants_id)
            copy(id, sizeof(id), word);
        first = false;
        /* $menuentry_id_option is "--id" in a running GRUB. */
        wants_id = !strcmp(word, "--id");
    }
    g->counts[g->level]++;
    if (submenu) {
        if (g->level + 1 < DEPTH_MAX) {
            g->submenu_depths[g->level++] = g->depth;
            g->counts[g->level] = 0;
        }
    } else if (g->menu->nr_entries < MENU_ENTRIES_MAX) {
        g->entry = &g->menu->entries[g->menu->nr_entries++];
        memset(g->entry, 0, sizeof(*g->entry));
        copy(g->entry->title, sizeof(g->entry->title), title);
        copy(g->entry->id, sizeof(g->entry->id), id);
        copy(g->entry->number, sizeof(g->entry->number), number);
        g->entry_depth = g->depth;
    }
    g->depth++;
}

static void grub_close(struct grub *g)
{
    if (g->depth)
        g->depth--;
    if (g->entry && g->depth == g->entry_depth)
        g->entry = NULL;
    else if (!g->entry && g->level && g->depth == g->submenu_depths[g->level - 1])
        g->level--;
}

/* All words of a line, as GRUB hands them over: those that were quoted for a space in them in
 * quotes again, those of nothing left out. */
static void add_argument(struct menu_entry *entry, const char *word, bool quoted)
{
    const char *quote = quoted && strchr(word, ' ') ? "\"" : "";

    if (!*word)
        return;
    append(entry->args, MENU_ARGS_MAX, " ", *entry->args ? 1 : 0);
    append(entry->args, MENU_ARGS_MAX, quote, strlen(quote));
    append(entry->args, MENU_ARGS_MAX, word, strlen(word));
    append(entry->args, MENU_ARGS_MAX, quote, strlen(quote));
}

static void add_arguments(const struct menu *menu, struct menu_entry *entry, const char *rest)
{
    char word[MENU_ARGS_MAX];
    const char *from = rest;

    while ((rest = next_word(menu, from, word, sizeof(word)))) {
        size_t quote = strcspn(from, "\"'");

        add_argument(entry, word, quote < (size_t)(rest - from));
        from = rest;
    }
}

static void grub_linux(struct grub *g, const char *rest)
{
    char word[MENU_ARGS_MAX];

    if (!(rest = next_word(g->menu, rest, word, sizeof(word))))
        return;
    copy(g->entry->kernel, MENU_PATH_MAX, strip_device(word));
    *g->entry->args = '\0';
    add_arguments(g->menu, g->entry, rest);
}

static void add_initrds(const struct menu *menu, struct menu_entry *entry, const char *rest)
{
    char word[MENU_PATH_MAX];

    while ((rest = next_word(menu, rest, word, sizeof(word))))
        if (entry->nr_initrds < MENU_INITRDS_MAX)
            copy(entry->initrds[entry->nr_initrds++], MENU_PATH_MAX, strip_device(word));
}

static void grub_set(struct grub *g, const char *rest)
{
    char word[MENU_ARGS_MAX], *equals;

    if (!next_word(g->menu, rest, word, sizeof(word)) || !(equals = strchr(word, '=')))
        return;
    *equals = '\0';
    menu_set(g->menu, word, equals + 1);
}

static void grub_line(struct grub *g, const char *line)
{
    char word[MENU_ARGS_MAX];
    const char *rest = next_word(g->menu, line, word, sizeof(word));

    if (!rest)
        return;
    if (!strcmp(word, "menuentry") || !strcmp(word, "submenu"))
        grub_entry(g, rest, *word == 's');
    else if (!strcmp(word, "}"))
        grub_close(g);
    else if (!strcmp(word, "set"))
        grub_set(g, rest);
    else if (!strcmp(word, "blscfg"))
        g->menu->wants_entries = true;
    else if (g->entry && (!strcmp(word, "linux") || !strcmp(word, "linux16") ||
                          !strcmp(word, "linuxefi") || !strcmp(word, "kernel")))
        grub_linux(g, rest);
    else if (g->entry &&
             (!strcmp(word, "initrd") || !strcmp(word, "initrd16") || !strcmp(word, "initrdefi"))) {
        g->entry->nr_initrds = 0;
        add_initrds(g->menu, g->entry, rest);
    } else if (strlen(line) && line[strlen(line) - 1] == '{') {
        g->depth++; /* a function */
    }
}

void menu_read_grub(struct menu *menu, const char *text)
{
    struct grub g = {.menu = menu};
    char line[LINE_MAX_];

    menu_set(menu, "menuentry_id_option", "--id");
    while (next_line(&text, line)) {
        size_t length = strlen(line);

        /* A line that goes on in the next one. */
        while (length && line[length - 1] == '\\' && *text) {
            char more[LINE_MAX_];

            line[length - 1] = '\0';
            if (next_line(&text, more))
                append(line, sizeof(line), more, strlen(more));
            length = strlen(line);
            if (length + 1 >= sizeof(line))
                break;
        }
        grub_line(&g, line);
    }
}

void menu_read_grubenv(struct menu *menu, const char *text)
{
    char line[LINE_MAX_], *equals;

    while (next_line(&text, line))
        if (*line != '#' && (equals = strchr(line, '='))) {
            *equals = '\0';
            menu_set(menu, line, equals + 1);
        }
}

/* "key rest": the rest when the line begins with that key, whatever its case. */
static const char *after_key(const char *line, const char *key)
{
    size_t length = strlen(key);

    while (*line == ' ' || *line == '\t')
        line++;
    if (strncasecmp(line, key, length) != 0 || (line[length] != ' ' && line[length] != '\t'))
        return NULL;
    line += length;
    while (*line == ' ' || *line == '\t')
        line++;
    return line;
}

void menu_read_loader_entry(struct menu *menu, const char *id, const char *text)
{
    struct menu_entry *entry = &menu->entries[menu->nr_entries];
    char line[LINE_MAX_];
    const char *value, *rest;

    if (menu->nr_entries == MENU_ENTRIES_MAX)
        return;
    memset(entry, 0, sizeof(*entry));
    copy(entry->id, sizeof(entry->id), id);
    while (next_line(&text, line)) {
        if ((value = after_key(line, "title")))
            copy(entry->title, sizeof(entry->title), value);
        else if ((value = after_key(line, "linux")))
            copy(entry->kernel, sizeof(entry->kernel), value);
        else if ((value = after_key(line, "initrd")))
            add_initrds(menu, entry, value);
        else if ((rest = after_key(line, "options")))
            add_arguments(menu, entry, rest);
    }
    if (*entry->kernel)
        menu->nr_entries++;
}

/* Arguments, without the initrd= that names files of the disk. */
static void isolinux_append(struct menu_entry *entry, const char *rest)
{
    char word[MENU_ARGS_MAX] = "";

    *entry->args = '\0';
    while ((rest = next_word(NULL, rest, word, sizeof(word)))) {
        if (!strncmp(word, "initrd=", 7)) {
            for (char *path = word + 7; path && *path;) {
                char *comma = strchr(path, ',');

                if (comma)
                    *comma++ = '\0';
                if (entry->nr_initrds < MENU_INITRDS_MAX)
                    copy(entry->initrds[entry->nr_initrds++], MENU_PATH_MAX, path);
                path = comma;
            }
            continue;
        }
        add_argument(entry, word, false);
    }
}

static bool is_module(const char *path)
{
    size_t length = strlen(path);

    return length > 4 &&
           (!strcasecmp(path + length - 4, ".c32") || !strcasecmp(path + length - 4, ".bin"));
}

void menu_read_isolinux(struct menu *menu, const char *text, menu_include_fn *include,
                        void *context)
{
    struct menu_entry *entry = menu->nr_entries ? &menu->entries[menu->nr_entries - 1] : NULL;
    char line[LINE_MAX_], word[MENU_PATH_MAX];
    const char *value;

    while (next_line(&text, line)) {
        if ((value = after_key(line, "label"))) {
            entry = menu->nr_entries < MENU_ENTRIES_MAX ? &menu->entries[menu->nr_entries++] : NULL;
            if (entry) {
                memset(entry, 0, sizeof(*entry));
                copy(entry->id, sizeof(entry->id), value);
            }
        } else if ((value = after_key(line, "default")) || (value = after_key(line, "ontimeout"))) {
            if (next_word(NULL, value, word, sizeof(word)) && !is_module(word) && !*menu->chosen)
                copy(menu->chosen, sizeof(menu->chosen), word);
        } else if ((value = after_key(line, "include")) || (value = after_key(line, "config"))) {
            if (next_word(NULL, value, word, sizeof(word)))
                include(context, word);
            /* What was included may have brought entries. */
            entry = menu->nr_entries ? &menu->entries[menu->nr_entries - 1] : NULL;
        } else if (entry && (value = after_key(line, "menu"))) {
            if (!strncasecmp(value, "default", 7))
                copy(menu->chosen, sizeof(menu->chosen), entry->id);
        } else if (entry &&
                   ((value = after_key(line, "kernel")) || (value = after_key(line, "linux")))) {
            if (next_word(NULL, value, word, sizeof(word)) && !is_module(word))
                copy(entry->kernel, sizeof(entry->kernel), word);
        } else if (entry && (value = after_key(line, "initrd"))) {
            add_initrds(NULL, entry, value);
        } else if (entry && (value = after_key(line, "append"))) {
            isolinux_append(entry, value);
        }
    }
}

static bool entry_is(const struct menu_entry *entry, const char *wanted)
{
    return *wanted && (!strcmp(entry->number, wanted) || !strcmp(entry->id, wanted) ||
                       !strcmp(entry->title, wanted));
}

const struct menu_entry *menu_default(const struct menu *menu)
{
    const char *wanted = *menu->chosen ? menu->chosen : menu_get(menu, "default");

    /* "submenu>entry", each by number, title or id: the last part says enough. */
    for (unsigned pass = 0; pass < 2; pass++) {
        const char *last = pass ? strrchr(wanted, '>') : NULL;

        if (pass && !last)
            break;
        for (size_t i = 0; i < menu->nr_entries; i++)
            if (*menu->entries[i].kernel && entry_is(&menu->entries[i], last ? last + 1 : wanted))
                return &menu->entries[i];
    }
    for (size_t i = 0; i < menu->nr_entries; i++)
        if (*menu->entries[i].kernel)
            return &menu->entries[i];
    return NULL;
}
