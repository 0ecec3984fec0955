/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An index of the modules below lib/modules, the .modinfo section found by hand in each ELF file
 * (which may be anything), and a depth-first walk over what needs what.
 */
#include "image/modules.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define MODULE_MAX  (32u << 20) /* bytes of one module */
#define DEPTH_MAX   16
#define MODULES_MAX 4096

/* Every module file below a kernel's directory, by name. */
struct index {
    char **paths;
    size_t nr, capacity;
    struct buf builtin; /* modules.builtin, as text */
};

static void index_done(struct index *index)
{
    for (size_t i = 0; i < index->nr; i++)
        free(index->paths[i]);
    free(index->paths);
    buf_done(&index->builtin);
}

void module_list_done(struct module_list *list)
{
    for (size_t i = 0; i < list->nr; i++)
        free(list->paths[i]);
    free(list->paths);
    *list = (struct module_list){0};
}

static int append_path(char ***paths, size_t *nr, const char *path)
{
    char **grown, *copy;

    if (*nr >= MODULES_MAX)
        return -E2BIG;
    if (!(grown = realloc(*paths, (*nr + 1) * sizeof(*grown))))
        return -ENOMEM;
    *paths = grown;
    if (!(copy = strdup(path)))
        return -ENOMEM;
    grown[(*nr)++] = copy;
    return 0;
}

/* Is `path` the file of module `name`? '-' and '_' are the same letter in module names. */
static bool path_is_module(const char *path, size_t length, const char *name)
{
    size_t n = strlen(name);
    const char *base = memrchr(path, '/', length);

    base = base ? base + 1 : path;
    if ((size_t)(path + length - base) != n + 3 || strncmp(base + n, ".ko", 3) != 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if (base[i] != name[i] && !(strchr("-_", base[i]) && strchr("-_", name[i])))
            return false;
    return true;
}

static const char *index_find(const struct index *index, const char *name)
{
    for (size_t i = 0; i < index->nr; i++)
        if (path_is_module(index->paths[i], strlen(index->paths[i]), name))
            return index->paths[i];
    return NULL;
}

static bool index_builtin(const struct index *index, const char *name)
{
    const char *at = index->builtin.data, *end = at + index->builtin.length;

    while (at && at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((newline ? newline : end) - at);

        if (path_is_module(at, length, name))
            return true;
        at += length + 1;
    }
    return false;
}

static int index_open(struct index *index, const char *kernel_dir, const char *release,
                      struct err *err)
{
    char root[PATH_MAX], builtin[PATH_MAX + 32];
    char *roots[] = {root, NULL};
    FTSENT *entry;
    FTS *walk;
    int result = 0;

    if (snprintf(root, sizeof(root), "%s/lib/modules/%s", kernel_dir, release) >= (int)sizeof(root))
        return err_set(err, -ENAMETOOLONG, "the path of the kernel's modules is too long");
    snprintf(builtin, sizeof(builtin), "%s/modules.builtin", root);
    if ((result = file_load(AT_FDCWD, builtin, &index->builtin, err)) < 0)
        return result;
    if (!(walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL)))
        return err_errno(err, -errno, "read '%s'", root);
    while (result == 0 && (entry = fts_read(walk)))
        if (entry->fts_info == FTS_F && entry->fts_namelen > 3 &&
            !strcmp(entry->fts_name + entry->fts_namelen - 3, ".ko"))
            result = append_path(&index->paths, &index->nr, entry->fts_path);
    fts_close(walk);
    return result < 0 ? err_errno(err, result, "read '%s'", root) : 0;
}

/* The header of the section of that name, and where its name is; false when the image is no
 * well-formed 64-bit ELF object or has none. */
static bool section_find(const uint8_t *image, size_t size, const char *name, Elf64_Shdr *ret,
                         size_t *ret_name_at)
{
    size_t name_size = strlen(name) + 1;
    Elf64_Ehdr header;
    Elf64_Shdr names, section;

    if (size < sizeof(header))
        return false;
    memcpy(&header, image, sizeof(header));
    if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_shentsize != sizeof(section) || header.e_shstrndx >= header.e_shnum ||
        !range_fits(header.e_shoff, (uint64_t)header.e_shnum * sizeof(section), size))
        return false;
    memcpy(&names, image + header.e_shoff + header.e_shstrndx * sizeof(section), sizeof(names));
    if (!range_fits(names.sh_offset, names.sh_size, size))
        return false;
    for (unsigned i = 0; i < header.e_shnum; i++) {
        memcpy(&section, image + header.e_shoff + i * sizeof(section), sizeof(section));
        if (!range_fits(section.sh_name, name_size, names.sh_size) ||
            memcmp(image + names.sh_offset + section.sh_name, name, name_size) != 0)
            continue;
        *ret = section;
        *ret_name_at = names.sh_offset + section.sh_name;
        return true;
    }
    return false;
}

/* The .modinfo section's bytes, or NULL. */
static const char *modinfo_section(const uint8_t *image, size_t size, size_t *ret_length)
{
    Elf64_Shdr section;
    size_t name_at;

    if (!section_find(image, size, ".modinfo", &section, &name_at) ||
        section.sh_type == SHT_NOBITS || !range_fits(section.sh_offset, section.sh_size, size))
        return NULL;
    *ret_length = section.sh_size;
    return (const char *)image + section.sh_offset;
}

size_t module_strip(void *image, size_t size)
{
    static const char marker[] = "~Module signature appended~\n";
    const size_t marker_size = sizeof(marker) - 1, info_size = 12;
    uint8_t *bytes = image;
    Elf64_Shdr section;
    size_t name_at;

    /* struct module_signature, then the marker: its last four bytes are the signature's length. */
    if (size > marker_size + info_size &&
        !memcmp(bytes + size - marker_size, marker, marker_size)) {
        size_t signature = __builtin_bswap32(load_le32(bytes + size - marker_size - 4));

        if (signature < size - marker_size - info_size)
            size -= marker_size + info_size + signature;
    }
    if (section_find(bytes, size, ".BTF", &section, &name_at))
        bytes[name_at] = '-';
    return size;
}

const char *modinfo_find(const void *image, size_t size, const char *key, size_t index)
{
    size_t length, key_length = strlen(key);
    const char *at = modinfo_section(image, size, &length), *end;

    if (!at || length == 0 || at[length - 1] != '\0')
        return NULL;
    for (end = at + length; at < end; at += strlen(at) + 1)
        if (!strncmp(at, key, key_length) && at[key_length] == '=' && index-- == 0)
            return at + key_length + 1;
    return NULL;
}

struct resolver {
    struct index index;
    struct module_list list;
};

static int resolve(struct resolver *r, const char *name, bool optional, int depth, struct err *err);

/* Resolves each word of a list. Soft dependencies may be names of algorithms, not of files. */
static int resolve_words(struct resolver *r, const char *words, const char *separators,
                         bool optional, int depth, struct err *err)
{
    int result = 0;

    while (*words && result == 0) {
        size_t length = strcspn(words, separators);
        char name[128];

        if (length > 0 && length < sizeof(name)) {
            snprintf(name, sizeof(name), "%.*s", (int)length, words);
            if (name[length - 1] == ':')
                break;
            result = resolve(r, name, optional, depth + 1, err);
        }
        words += length;
        words += strspn(words, separators);
    }
    return result;
}

static int resolve_needs(struct resolver *r, const char *path, int depth, struct err *err)
{
    CLEANUP(buf_donep) struct buf image;
    const char *text;
    int result;

    buf_init(&image, MODULE_MAX);
    if ((result = file_load(AT_FDCWD, path, &image, err)) < 0)
        return result;
    for (size_t i = 0; (text = modinfo_find(image.data, image.length, "softdep", i)); i++)
        if (!strncmp(text, "pre: ", 5) &&
            (result = resolve_words(r, text + 5, " ", true, depth, err)) < 0)
            return result;
    if (!(text = modinfo_find(image.data, image.length, "depends", 0)))
        return err_set(err, -EINVAL, "'%s' is no kernel module", path);
    return resolve_words(r, text, ",", false, depth, err);
}

static int resolve(struct resolver *r, const char *name, bool optional, int depth, struct err *err)
{
    const char *path;
    int result;

    /* The checksum that file systems ask for by its algorithm's name. */
    if (!strcmp(name, "crc32c") || !strcmp(name, "crypto-crc32c"))
        name = "crc32c_generic";
    if (depth > DEPTH_MAX)
        return err_set(err, -ELOOP, "kernel module '%s' needs itself", name);
    for (size_t i = 0; i < r->list.nr; i++)
        if (path_is_module(r->list.paths[i], strlen(r->list.paths[i]), name))
            return 0;
    if (!(path = index_find(&r->index, name))) {
        if (optional || index_builtin(&r->index, name))
            return 0;
        return err_set(err, -ENOENT, "the kernel has no module '%s', neither apart nor built in",
                       name);
    }
    if ((result = resolve_needs(r, path, depth, err)) < 0)
        return result;
    if ((result = append_path(&r->list.paths, &r->list.nr, path)) < 0)
        return err_set(err, result, "list the kernel's modules");
    return 0;
}

int modules_resolve(const char *kernel_dir, const char *release, const char *const *wanted,
                    struct module_list *ret, struct err *err)
{
    struct resolver r = {0};
    int result;

    buf_init(&r.index.builtin, 4u << 20);
    result = index_open(&r.index, kernel_dir, release, err);
    for (; result == 0 && *wanted; wanted++)
        result = resolve(&r, *wanted + (**wanted == '?'), **wanted == '?', 0, err);
    index_done(&r.index);
    if (result < 0) {
        module_list_done(&r.list);
        return result;
    }
    *ret = r.list;
    return 0;
}
