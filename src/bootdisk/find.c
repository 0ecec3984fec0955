/* SPDX-License-Identifier: Apache-2.0 */
#include "bootdisk/find.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_MAX   (1u << 20)
#define ENTRIES_MAX  64
#define INCLUDES_MAX 16

static const char *const grub_paths[] = {"/boot/grub/grub.cfg", "/boot/grub2/grub.cfg",
                                         "/grub/grub.cfg", "/grub2/grub.cfg", "/EFI/BOOT/grub.cfg"};
static const char *const loader_dirs[] = {"/boot/loader/entries", "/loader/entries"};
static const char *const isolinux_paths[] = {
    "/isolinux/isolinux.cfg",      "/boot/isolinux/isolinux.cfg", "/isolinux.cfg",
    "/boot/syslinux/syslinux.cfg", "/syslinux/syslinux.cfg",      "/extlinux.conf",
    "/boot/extlinux/extlinux.conf"};

struct search {
    struct volume *volume;
    const struct partition *partition;
    const char *device;
    struct menu *menu;
    struct buf text;
    struct boot_found *found;
    unsigned nr_includes;
    char dir[MENU_PATH_MAX]; /* of the configuration that is read */
};

/* Names in a directory, sorted so that the newest version is first. */
struct names {
    char list[ENTRIES_MAX][MENU_NAME_MAX];
    size_t nr;
    const char *prefix, *suffix;
};

static bool has_suffix(const char *name, const char *suffix)
{
    size_t length = strlen(name), tail = strlen(suffix);

    return length >= tail && !strcmp(name + length - tail, suffix);
}

static void add_name(void *context, const char *name)
{
    struct names *names = context;

    if (names->nr < ENTRIES_MAX && strlen(name) < MENU_NAME_MAX &&
        !strncmp(name, names->prefix, strlen(names->prefix)) && has_suffix(name, names->suffix) &&
        !strstr(name, "rescue"))
        strcpy(names->list[names->nr++], name);
}

static int newest_first(const void *a, const void *b)
{
    return strverscmp(b, a);
}

static struct names *list_names(struct volume *volume, const char *dir, const char *prefix,
                                const char *suffix)
{
    struct names *names = calloc(1, sizeof(*names));

    if (!names)
        return NULL;
    names->prefix = prefix;
    names->suffix = suffix;
    (void)volume_list(volume, dir, add_name, names);
    qsort(names->list, names->nr, sizeof(names->list[0]), newest_first);
    return names;
}

static bool found_by(struct search *s, const char *from)
{
    const struct menu_entry *entry = menu_default(s->menu);

    if (!entry)
        return false;
    s->found->entry = *entry;
    s->found->partition = s->partition->number;
    snprintf(s->found->from, sizeof(s->found->from), "%s", from);
    return true;
}

static bool read_entries(struct search *s)
{
    for (size_t i = 0; i < ARRAY_LEN(loader_dirs); i++) {
        CLEANUP(freep) struct names *names = list_names(s->volume, loader_dirs[i], "", ".conf");

        for (size_t n = 0; names && n < names->nr; n++) {
            char path[MENU_PATH_MAX + MENU_NAME_MAX];

            snprintf(path, sizeof(path), "%s/%s", loader_dirs[i], names->list[n]);
            if (volume_load_text(s->volume, path, &s->text) < 0)
                continue;
            names->list[n][strlen(names->list[n]) - strlen(".conf")] = '\0';
            menu_read_loader_entry(s->menu, names->list[n], s->text.data);
        }
        if (names && names->nr && found_by(s, loader_dirs[i]))
            return true;
    }
    return false;
}

static void clear_menu(struct search *s)
{
    memset(s->menu, 0, sizeof(*s->menu));
    s->nr_includes = 0;
}

static bool try_grub(struct search *s)
{
    for (size_t i = 0; i < ARRAY_LEN(grub_paths); i++) {
        char env[MENU_PATH_MAX];

        clear_menu(s);
        snprintf(env, sizeof(env), "%.*s/grubenv",
                 (int)(strrchr(grub_paths[i], '/') - grub_paths[i]), grub_paths[i]);
        if (volume_load_text(s->volume, env, &s->text) == 0)
            menu_read_grubenv(s->menu, s->text.data);
        if (volume_load_text(s->volume, grub_paths[i], &s->text) < 0)
            continue;
        menu_read_grub(s->menu, s->text.data);
        if (s->menu->wants_entries && read_entries(s))
            return true;
        if (found_by(s, grub_paths[i]))
            return true;
    }
    clear_menu(s);
    return read_entries(s);
}

static void include(void *context, const char *path)
{
    struct search *s = context;
    char whole[2 * MENU_PATH_MAX];
    CLEANUP(freep) char *text = NULL;

    if (s->nr_includes++ >= INCLUDES_MAX)
        return;
    snprintf(whole, sizeof(whole), "%s%s%s", *path == '/' ? "" : s->dir, *path == '/' ? "" : "/",
             path);
    if (volume_load_text(s->volume, whole, &s->text) < 0 || !(text = strdup(s->text.data)))
        return;
    menu_read_isolinux(s->menu, text, include, s);
}

static bool try_isolinux(struct search *s)
{
    for (size_t i = 0; i < ARRAY_LEN(isolinux_paths); i++) {
        const char *path = isolinux_paths[i];
        CLEANUP(freep) char *text = NULL;

        clear_menu(s);
        snprintf(s->dir, sizeof(s->dir), "%.*s", (int)(strrchr(path, '/') - path), path);
        if (volume_load_text(s->volume, path, &s->text) < 0 || !(text = strdup(s->text.data)))
            continue;
        menu_read_isolinux(s->menu, text, include, s);
        if (found_by(s, path)) {
            /* Files without a '/' in front lie beside the configuration. */
            struct menu_entry *entry = &s->found->entry;
            char whole[2 * MENU_PATH_MAX];

            for (size_t n = 0; n <= entry->nr_initrds; n++) {
                char *at = n ? entry->initrds[n - 1] : entry->kernel;

                snprintf(whole, sizeof(whole), "%s/%s", s->dir, at);
                if (*at != '/')
                    snprintf(at, MENU_PATH_MAX, "%.*s", MENU_PATH_MAX - 1, whole);
            }
            return true;
        }
    }
    return false;
}

static int discard(void *context, const void *data, size_t length)
{
    (void)context, (void)data, (void)length;
    return -ECANCELED; /* enough: it is there */
}

static bool is_there(struct volume *volume, const char *path)
{
    int result = volume_load(volume, path, BOOT_INITRD_MAX, discard, NULL);

    return result == 0 || result == -ECANCELED;
}

static void own_arguments(struct search *s)
{
    char part[16] = "";

    if (s->partition->number)
        snprintf(part, sizeof(part), "%u", s->partition->number);
    snprintf(s->found->entry.args, sizeof(s->found->entry.args), "root=/dev/%s%s ro", s->device,
             part);
    s->found->partition = s->partition->number;
}

/* /vmlinuz and /initrd.img, or the newest /boot/vmlinuz-VERSION with what belongs to it. */
static bool try_packages(struct search *s)
{
    static const char *const kernels[] = {"/vmlinuz", "/boot/vmlinuz"};
    static const char *const initrds[] = {"/initrd.img", "/boot/initrd.img"};
    CLEANUP(freep) struct names *names = NULL;
    struct menu_entry *entry = &s->found->entry;

    memset(entry, 0, sizeof(*entry));
    for (size_t i = 0; i < ARRAY_LEN(kernels); i++) {
        if (!is_there(s->volume, kernels[i]))
            continue;
        snprintf(entry->kernel, sizeof(entry->kernel), "%s", kernels[i]);
        if (is_there(s->volume, initrds[i]))
            snprintf(entry->initrds[entry->nr_initrds++], MENU_PATH_MAX, "%s", initrds[i]);
        snprintf(s->found->from, sizeof(s->found->from), "%s", kernels[i]);
        own_arguments(s);
        return true;
    }
    names = list_names(s->volume, "/boot", "vmlinuz-", "");
    if (!names || !names->nr)
        return false;
    snprintf(entry->kernel, sizeof(entry->kernel), "/boot/%s", names->list[0]);
    for (unsigned i = 0; i < 3 && !entry->nr_initrds; i++) {
        static const char *const forms[] = {"/boot/initrd.img-%s", "/boot/initramfs-%s.img",
                                            "/boot/initrd-%s"};
        const char *version = names->list[0] + strlen("vmlinuz-");
        char path[MENU_PATH_MAX];

        snprintf(path, sizeof(path), "%.*s%s%s", (int)(strstr(forms[i], "%s") - forms[i]), forms[i],
                 version, strstr(forms[i], "%s") + 2);
        if (is_there(s->volume, path))
            memcpy(entry->initrds[entry->nr_initrds++], path, sizeof(path));
    }
    snprintf(s->found->from, sizeof(s->found->from), "%s", "/boot");
    own_arguments(s);
    return true;
}

struct padder {
    volume_sink_fn *sink;
    void *context;
    uint64_t bytes;
};

static int pad_sink(void *context, const void *data, size_t length)
{
    struct padder *padder = context;

    padder->bytes += length;
    return padder->sink(padder->context, data, length);
}

static int load(struct volume *volume, const struct boot_found *found, volume_sink_fn *kernel,
                void *kernel_context, volume_sink_fn *initrd, void *initrd_context, struct err *err)
{
    struct padder padder = {initrd, initrd_context, 0};
    const struct menu_entry *entry = &found->entry;
    int result = volume_load(volume, entry->kernel, BOOT_KERNEL_MAX, kernel, kernel_context);

    if (result < 0)
        return err_errno(err, result, "the kernel '%s', which %s names", entry->kernel,
                         found->from);
    for (size_t i = 0; i < entry->nr_initrds; i++) {
        static const char zeros[4];

        if (padder.bytes % 4 &&
            (result = pad_sink(&padder, zeros, 4 - (size_t)(padder.bytes % 4))) < 0)
            return err_errno(err, result, "keep the initial RAM disk");
        result = volume_load(volume, entry->initrds[i], BOOT_INITRD_MAX, pad_sink, &padder);
        if (result < 0)
            return err_errno(err, result, "the initial RAM disk '%s', which %s names",
                             entry->initrds[i], found->from);
    }
    return 0;
}

struct part_bytes {
    const struct disk_bytes *disk;
    uint64_t offset;
};

static int part_read(void *context, uint64_t offset, void *data, size_t length)
{
    const struct part_bytes *part = context;

    return disk_bytes_read(part->disk, part->offset + offset, data, length);
}

static void note(struct buf *looked, const struct partition *partition, const char *what)
{
    if (partition->number)
        (void)buf_printf(looked, "%spartition %u: %s", looked->length ? "; " : "",
                         partition->number, what);
    else
        (void)buf_printf(looked, "%swhole disk: %s", looked->length ? "; " : "", what);
}

int boot_find(const struct disk_bytes *disk, const char *device, volume_sink_fn *kernel,
              void *kernel_context, volume_sink_fn *initrd, void *initrd_context,
              struct boot_found *ret, struct err *err)
{
    struct partition partitions[PARTITIONS_MAX + 1];
    struct search s = {.device = device, .found = ret};
    CLEANUP(buf_donep) struct buf looked;
    const char *table;
    size_t nr = partitions_find(disk, partitions, &table);
    int result = -ENOENT;

    buf_init(&looked, 600);
    buf_init(&s.text, CONFIG_MAX);
    memset(ret, 0, sizeof(*ret));
    if (!(s.menu = menu_new()))
        return err_set(err, -ENOMEM, "out of memory");
    /* A hybrid CD has a partition table as well. */
    if (partitions[0].number)
        partitions[nr++] = (struct partition){0, 0, disk->bytes};
    for (size_t i = 0; i < nr && result == -ENOENT; i++) {
        struct part_bytes part = {disk, partitions[i].offset};
        struct disk_bytes bytes = {partitions[i].bytes, part_read, &part};
        struct volume *volume;

        if (volume_open_ext(&bytes, &volume) < 0 && volume_open_iso(&bytes, &volume) < 0) {
            if (partitions[i].number || nr == 1)
                note(&looked, &partitions[i], "no ext4 or ISO 9660");
            continue;
        }
        s.volume = volume;
        s.partition = &partitions[i];
        if (try_grub(&s) || try_isolinux(&s) || try_packages(&s))
            result = load(volume, ret, kernel, kernel_context, initrd, initrd_context, err);
        else
            note(&looked, &partitions[i], volume->kind);
        volume_close(volume);
    }
    menu_free(s.menu);
    buf_done(&s.text);
    if (result != -ENOENT || ret->entry.kernel[0])
        return result;
    return err_set(err, -ENOENT, "no kernel on it (partition table: %s; %s)", table,
                   buf_string(&looked) ? looked.data : "nothing");
}
