/* SPDX-License-Identifier: Apache-2.0 */
/* Reading symbol files into one sorted table. The files are the user's, but are not believed. */
#include "vmm/symbols.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX    (256u * MIB)
#define SYMBOLS_MAX 1000000u
#define NAME_MAX_   120u

struct symbol {
    uint64_t address, size; /* size 0: not known */
    char *name;
};

struct symbols {
    struct symbol *table;
    size_t nr, room;
};

struct symbols *symbols_new(void)
{
    return calloc(1, sizeof(struct symbols));
}

void symbols_free(struct symbols *symbols)
{
    if (!symbols)
        return;
    for (size_t i = 0; i < symbols->nr; i++)
        free(symbols->table[i].name);
    free(symbols->table);
    free(symbols);
}

/* Characters that collapsed stacks and perf's maps use for themselves are replaced. */
static char *name_copy(const char *name, size_t length)
{
    char *copy = strndup(name, MIN(length, (size_t)NAME_MAX_));

    for (char *c = copy; c && *c; c++)
        if (*c <= ' ' || *c == ';' || *c == 127)
            *c = '_';
    return copy;
}

static int add(struct symbols *symbols, uint64_t address, uint64_t size, const char *name,
               size_t length, struct err *err)
{
    if (symbols->nr == SYMBOLS_MAX)
        return err_set(err, -E2BIG, "more than %u symbols", SYMBOLS_MAX);
    if (symbols->nr == symbols->room) {
        size_t room = symbols->room ? 2 * symbols->room : 4096;
        struct symbol *table = realloc(symbols->table, room * sizeof(*table));

        if (!table)
            return err_set(err, -ENOMEM, "out of memory");
        symbols->table = table;
        symbols->room = room;
    }
    symbols->table[symbols->nr] = (struct symbol){address, size, name_copy(name, length)};
    if (!symbols->table[symbols->nr].name)
        return err_set(err, -ENOMEM, "out of memory");
    symbols->nr++;
    return 0;
}

/* "ffffffff81000000 T _stext", perhaps with a tab and "[module]" behind. */
static int line_add(struct symbols *symbols, const char *line, struct err *err)
{
    char *end;
    uint64_t address = strtoull(line, &end, 16);
    char type = end[0] == ' ' ? end[1] : 0;

    if (end == line || !address || !strchr("tTwW", type) || !type || end[2] != ' ')
        return 0;
    return add(symbols, address, 0, end + 3, strcspn(end + 3, "\t\n "), err);
}

static int text_load(struct symbols *symbols, char *text, struct err *err)
{
    size_t before = symbols->nr;
    char *line, *rest;
    int r = 0;

    for (line = strtok_r(text, "\n", &rest); r == 0 && line; line = strtok_r(NULL, "\n", &rest))
        r = line_add(symbols, line, err);
    if (r == 0 && symbols->nr == before)
        r = err_set(err, -EINVAL,
                    "no function in it: a System.map, a copy of /proc/kallsyms (read by root), or "
                    "an ELF file with symbols is needed");
    return r;
}

/* [offset, offset + size) of the file, or NULL. */
static const void *part(const struct buf *file, uint64_t offset, uint64_t size)
{
    return offset <= file->length && size <= file->length - offset ? file->data + offset : NULL;
}

static int table_add(struct symbols *symbols, const struct buf *file, const Elf64_Shdr *table,
                     const Elf64_Shdr *strings, uint64_t base, struct err *err)
{
    const char *data = part(file, table->sh_offset, table->sh_size);
    const char *names = part(file, strings->sh_offset, strings->sh_size);
    int r = 0;

    for (uint64_t at = 0; r == 0 && data && names && table->sh_size - at >= sizeof(Elf64_Sym);
         at += sizeof(Elf64_Sym)) {
        Elf64_Sym symbol;

        memcpy(&symbol, data + at, sizeof(symbol));
        if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && symbol.st_shndx &&
            symbol.st_name < strings->sh_size)
            r = add(symbols, base + symbol.st_value, symbol.st_size, names + symbol.st_name,
                    strnlen(names + symbol.st_name, strings->sh_size - symbol.st_name), err);
    }
    return r;
}

static int elf_load(struct symbols *symbols, const struct buf *file, uint64_t base, struct err *err)
{
    size_t before = symbols->nr;
    Elf64_Ehdr header;
    const char *sections;
    int r = 0;

    memcpy(&header, file->data, sizeof(header));
    sections = part(file, header.e_shoff, (uint64_t)header.e_shnum * sizeof(Elf64_Shdr));
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || !sections)
        return err_set(err, -EINVAL, "no 64-bit ELF file, or a damaged one");
    for (unsigned i = 0; r == 0 && i < header.e_shnum; i++) {
        Elf64_Shdr table, strings;

        memcpy(&table, sections + i * sizeof(table), sizeof(table));
        if ((table.sh_type != SHT_SYMTAB && table.sh_type != SHT_DYNSYM) ||
            table.sh_link >= header.e_shnum)
            continue;
        memcpy(&strings, sections + table.sh_link * sizeof(strings), sizeof(strings));
        r = table_add(symbols, file, &table, &strings, base, err);
    }
    if (r == 0 && symbols->nr == before)
        r = err_set(err, -EINVAL, "it has no symbols of functions");
    return r;
}

static int compare(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;

    if (x->address != y->address)
        return x->address < y->address ? -1 : 1;
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    return strcmp(x->name, y->name); /* of several names, always the same */
}

int symbols_load(struct symbols *symbols, const char *path, uint64_t base, struct err *err)
{
    CLEANUP(buf_donep) struct buf file;
    int r;

    buf_init(&file, FILE_MAX);
    r = file_load(AT_FDCWD, path, &file, err);
    if (r == 0 && file.length >= sizeof(Elf64_Ehdr) && !memcmp(file.data, ELFMAG, SELFMAG))
        r = elf_load(symbols, &file, base, err);
    else if (r == 0)
        r = buf_append(&file, "", 1) < 0 ? err_set(err, -ENOMEM, "out of memory")
                                         : text_load(symbols, file.data, err);
    if (symbols->nr)
        qsort(symbols->table, symbols->nr, sizeof(symbols->table[0]), compare);
    if (r < 0)
        err_wrap(err, "symbols of '%s'", path);
    return r;
}

const char *symbols_find(const struct symbols *symbols, uint64_t address)
{
    size_t low = 0, high = symbols->nr;
    const struct symbol *symbol;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (symbols->table[middle].address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (!low)
        return NULL;
    symbol = &symbols->table[low - 1];
    return address - symbol->address < (symbol->size ? symbol->size : SYMBOLS_REACH) ? symbol->name
                                                                                     : NULL;
}
