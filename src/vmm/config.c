/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON form of a VM's configuration. Every member is typed and known; an unknown one is an
 * error that names it, so that a misspelt option is not silently ignored.
 */
#include "vmm/config.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/size.h"
#include "base/util.h"
#include "cpu/cpu.h"
#include "machine/machine.h"
#include "vmm/boot_disk.h"
#include "vmm/config_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_FILE_MAX MIB

void vmm_config_init(struct vmm_config *config)
{
    *config = (struct vmm_config){
        .memory_bytes = VMM_MEMORY_DEFAULT,
        .nr_cpus = 1,
        .rng = true,
        .jail = true,
        .ready_fd = -1,
    };
}

void vmm_config_done(struct vmm_config *config)
{
    free(config->kernel);
    free(config->boot);
    free(config->cmdline);
    for (unsigned i = 0; i < config->nr_modules; i++) {
        free(config->modules[i].path);
        free(config->modules[i].cmdline);
    }
    free(config->engine_options);
    for (unsigned i = 0; i < config->nr_disks; i++) {
        free(config->disks[i].path);
        free(config->disks[i].serial);
        for (unsigned j = 0; j < config->disks[i].nr_backing; j++)
            free(config->disks[i].backing[j]);
    }
    config_nets_done(config);
    config_shares_done(config);
    free(config->vsock_path);
    free(config->control);
    free(config->profile);
    for (unsigned i = 0; i < config->nr_symbols; i++)
        free(config->symbols[i]);
    memset(config, 0, sizeof(*config));
}

int config_string_set(char **place, const char *value, struct err *err)
{
    char *copy;

    if (!value)
        return 0;
    copy = strdup(value);
    if (!copy)
        return err_set(err, -ENOMEM, "out of memory");
    free(*place);
    *place = copy;
    return 0;
}

static int word_find(const char *text, const char *const *words, unsigned nr, const char *what,
                     unsigned *ret, struct err *err)
{
    for (unsigned i = 0; i < nr; i++)
        if (!strcmp(text, words[i])) {
            *ret = i;
            return 0;
        }
    return err_set(err, -EINVAL, "%s: '%s' is not one of %s, %s%s%s", what, text, words[0],
                   words[1], nr > 2 ? ", " : "", nr > 2 ? words[2] : "");
}

int config_engine_set(struct vmm_config *config, const char *text, const char *what,
                      struct err *err)
{
    static const char *const words[] = {"auto", "kvm", "soft"};
    const char *comma = strchr(text, ',');
    CLEANUP(freep) char *name = comma ? strndup(text, (size_t)(comma - text)) : strdup(text);
    unsigned engine = 0;
    int r;

    if (!name)
        return err_set(err, -ENOMEM, "out of memory");
    r = word_find(name, words, ARRAY_LEN(words), what, &engine, err);
    if (r < 0)
        return r;
    config->engine = (enum vmm_engine)engine;
    free(config->engine_options);
    config->engine_options = NULL;
    return config_string_set(&config->engine_options, comma ? comma + 1 : NULL, err);
}

int config_console_set(struct vmm_config *config, const char *text, const char *what,
                       struct err *err)
{
    static const char *const words[] = {"stdio", "virtio", "none"};
    unsigned console = 0;
    int r = word_find(text, words, ARRAY_LEN(words), what, &console, err);

    if (r == 0)
        config->console = (enum vmm_console)console;
    return r;
}

int config_on_reset_set(struct vmm_config *config, const char *text, const char *what,
                        struct err *err)
{
    static const char *const words[] = {"reboot", "exit"};
    unsigned on_reset = 0;
    int r = word_find(text, words, ARRAY_LEN(words), what, &on_reset, err);

    if (r == 0)
        config->on_reset = (enum vmm_on_reset)on_reset;
    return r;
}

int config_disk_add(struct vmm_config *config, const char *path, bool read_only, const char *serial,
                    struct err *err)
{
    struct vmm_disk *disk = &config->disks[config->nr_disks];
    int r;

    if (config->nr_disks == VMM_DISKS_MAX)
        return err_set(err, -E2BIG, "more than %d disks", VMM_DISKS_MAX);
    if (!path[0])
        return err_set(err, -EINVAL, "a disk needs the path of its image");
    *disk = (struct vmm_disk){.read_only = read_only};
    config->nr_disks++;
    r = config_string_set(&disk->path, path, err);
    return r < 0 ? r : config_string_set(&disk->serial, serial, err);
}

static bool format_find(const char *text, size_t length, enum block_format *ret)
{
    *ret = length == 5 ? BLOCK_FORMAT_QCOW2 : BLOCK_FORMAT_RAW;
    return (length == 3 && !strncmp(text, "raw", 3)) || (length == 5 && !strncmp(text, "qcow2", 5));
}

int config_disk_format(struct vmm_config *config, const char *text, struct err *err)
{
    struct vmm_disk *disk = &config->disks[config->nr_disks - 1];

    if (!format_find(text, strlen(text), &disk->format))
        return err_set(err, -EINVAL, "disk format '%s': 'raw' and 'qcow2' are known", text);
    return 0;
}

int config_disk_backing(struct vmm_config *config, const char *text, struct err *err)
{
    struct vmm_disk *disk = &config->disks[config->nr_disks - 1];
    const char *colon = strchr(text, ':');
    enum block_format format;

    if (disk->nr_backing == BLOCK_BACKING_MAX)
        return err_set(err, -E2BIG, "more than %d backing files", BLOCK_BACKING_MAX);
    if (!colon || !colon[1] || !format_find(text, (size_t)(colon - text), &format))
        return err_set(err, -EINVAL, "backing file '%s': 'raw:FILE' or 'qcow2:FILE' is needed",
                       text);
    disk->backing_formats[disk->nr_backing] = format;
    return config_string_set(&disk->backing[disk->nr_backing++], colon + 1, err);
}

int config_module_add(struct vmm_config *config, const char *path, const char *cmdline,
                      struct err *err)
{
    struct vmm_module *module = &config->modules[config->nr_modules];
    int r;

    if (config->nr_modules == VMM_MODULES_MAX)
        return err_set(err, -E2BIG, "more than %d modules", VMM_MODULES_MAX);
    *module = (struct vmm_module){NULL, NULL};
    config->nr_modules++;
    r = config_string_set(&module->path, path, err);
    return r < 0 ? r : config_string_set(&module->cmdline, cmdline, err);
}

int config_symbols_add(struct vmm_config *config, const char *path, struct err *err)
{
    if (config->nr_symbols == VMM_SYMBOLS_MAX)
        return err_set(err, -E2BIG, "more than %d symbol files", VMM_SYMBOLS_MAX);
    return config_string_set(&config->symbols[config->nr_symbols++], path, err);
}

/* Sizes are numbers of bytes, or text such as "512M". */
static int parse_memory(struct vmm_config *config, const struct json_at *root, struct err *err)
{
    struct json_at member;
    const char *text = NULL;
    int r = json_at_member(root, "memory", &member, err);

    if (r < 0 || !member.value)
        return r;
    if (json_is_integer(member.value))
        return json_get_uint(root, "memory", &config->memory_bytes, err);
    r = json_get_string(root, "memory", &text, err);
    if (r < 0)
        return r;
    r = size_parse(text, &config->memory_bytes, err);
    if (r < 0)
        err_wrap(err, "memory");
    return r;
}

static int parse_disk(struct vmm_config *config, const struct json_at *at, struct err *err)
{
    static const char *const known[] = {"path",   "read_only", "cdrom", "serial",
                                        "format", "backing",   NULL};
    const char *path = NULL, *serial = NULL, *format = "raw";
    struct json_at array, item;
    bool read_only = false, cdrom = false;
    int r;

    if ((r = json_reject_unknown(at, known, err)) < 0 ||
        (r = json_opt_bool(at, "cdrom", &cdrom, err)) < 0 ||
        (r = json_get_string(at, "path", &path, err)) < 0 ||
        (r = json_opt_bool(at, "read_only", &read_only, err)) < 0 ||
        (r = json_opt_string(at, "serial", &serial, err)) < 0 ||
        (r = json_opt_string(at, "format", &format, err)) < 0 ||
        (r = json_at_member(at, "backing", &array, err)) < 0 ||
        (r = config_disk_add(config, path, read_only || cdrom, serial, err)) < 0 ||
        (r = config_disk_format(config, format, err)) < 0)
        return r;
    config->disks[config->nr_disks - 1].cdrom = cdrom;
    if (array.value && !json_is_array(array.value))
        return err_set(err, -EINVAL, "%s: an array is needed", array.path);
    for (size_t i = 0; array.value && i < json_array_size(array.value); i++) {
        if ((r = json_at_index(&array, i, &item, err)) < 0)
            return r;
        if (!json_is_string(item.value))
            return err_set(err, -EINVAL, "%s: a string is needed", item.path);
        if ((r = config_disk_backing(config, json_string_value(item.value), err)) < 0)
            return r;
    }
    return 0;
}

static int parse_module(struct vmm_config *config, const struct json_at *at, struct err *err)
{
    static const char *const known[] = {"path", "cmdline", NULL};
    const char *path = NULL, *cmdline = NULL;
    int r;

    if ((r = json_reject_unknown(at, known, err)) < 0 ||
        (r = json_get_string(at, "path", &path, err)) < 0 ||
        (r = json_opt_string(at, "cmdline", &cmdline, err)) < 0)
        return r;
    return config_module_add(config, path, cmdline, err);
}

static int parse_symbols(struct vmm_config *config, const struct json_at *at, struct err *err)
{
    if (!json_is_string(at->value))
        return err_set(err, -EINVAL, "%s: a string is needed", at->path);
    return config_symbols_add(config, json_string_value(at->value), err);
}

typedef int parse_item_fn(struct vmm_config *config, const struct json_at *at, struct err *err);

static int parse_array(struct vmm_config *config, const struct json_at *root, const char *name,
                       parse_item_fn *parse, struct err *err)
{
    struct json_at array, item;
    int r = json_at_member(root, name, &array, err);

    if (r < 0 || !array.value)
        return r;
    if (!json_is_array(array.value))
        return err_set(err, -EINVAL, "%s: an array is needed", array.path);
    for (size_t i = 0; i < json_array_size(array.value); i++)
        if ((r = json_at_index(&array, i, &item, err)) < 0 || (r = parse(config, &item, err)) < 0)
            return r;
    return 0;
}

static int parse_vsock(struct vmm_config *config, const struct json_at *root, struct err *err)
{
    static const char *const known[] = {"cid", "path", NULL};
    const char *path = NULL;
    struct json_at at;
    int r = json_at_member(root, "vsock", &at, err);

    if (r < 0 || !at.value)
        return r;
    if ((r = json_reject_unknown(&at, known, err)) < 0 ||
        (r = json_get_uint(&at, "cid", &config->vsock_cid, err)) < 0 ||
        (r = json_get_string(&at, "path", &path, err)) < 0)
        return r;
    return config_string_set(&config->vsock_path, path, err);
}

typedef int set_word_fn(struct vmm_config *config, const char *text, const char *what,
                        struct err *err);

static int parse_word(struct vmm_config *config, const struct json_at *root, const char *name,
                      set_word_fn *set, struct err *err)
{
    const char *text = NULL;
    int r = json_opt_string(root, name, &text, err);

    return r < 0 || !text ? r : set(config, text, name, err);
}

static int parse_root(struct vmm_config *config, const struct json_at *root, struct err *err)
{
    static const char *const known[] = {
        "kernel",        "initrd",  "cmdline",  "modules",   "memory",  "cpus",    "engine",
        "disks",         "console", "on_reset", "exit_port", "vsock",   "rng",     "control",
        "debug_console", "jail",    "quiet",    "networks",  "profile", "symbols", "perf_map",
        "shares",        "balloon", "boot",     "hotplug",   "places",  NULL};
    const char *kernel = NULL, *initrd = NULL, *cmdline = NULL, *control = NULL, *profile = NULL,
               *boot = NULL;
    int r;

    if ((r = json_reject_unknown(root, known, err)) < 0 ||
        (r = json_opt_string(root, "kernel", &kernel, err)) < 0 ||
        (r = config_string_set(&config->kernel, kernel, err)) < 0 ||
        (r = json_opt_string(root, "boot", &boot, err)) < 0 ||
        (r = config_string_set(&config->boot, boot, err)) < 0 ||
        (r = json_opt_string(root, "initrd", &initrd, err)) < 0 ||
        (r = initrd ? config_module_add(config, initrd, NULL, err) : 0) < 0 ||
        (r = json_opt_string(root, "cmdline", &cmdline, err)) < 0 ||
        (r = config_string_set(&config->cmdline, cmdline, err)) < 0 ||
        (r = parse_array(config, root, "modules", parse_module, err)) < 0 ||
        (r = parse_memory(config, root, err)) < 0 ||
        (r = json_opt_uint(root, "cpus", &config->nr_cpus, err)) < 0 ||
        (r = parse_word(config, root, "engine", config_engine_set, err)) < 0 ||
        (r = parse_array(config, root, "disks", parse_disk, err)) < 0 ||
        (r = parse_array(config, root, "networks", config_net_parse, err)) < 0 ||
        (r = parse_array(config, root, "shares", config_share_parse, err)) < 0 ||
        (r = parse_word(config, root, "console", config_console_set, err)) < 0 ||
        (r = parse_word(config, root, "on_reset", config_on_reset_set, err)) < 0 ||
        (r = json_opt_bool(root, "exit_port", &config->exit_port, err)) < 0 ||
        (r = parse_vsock(config, root, err)) < 0 ||
        (r = json_opt_bool(root, "rng", &config->rng, err)) < 0 ||
        (r = json_opt_bool(root, "balloon", &config->balloon, err)) < 0 ||
        (r = json_opt_string(root, "control", &control, err)) < 0 ||
        (r = config_string_set(&config->control, control, err)) < 0 ||
        (r = json_opt_string(root, "profile", &profile, err)) < 0 ||
        (r = config_string_set(&config->profile, profile, err)) < 0 ||
        (r = parse_array(config, root, "symbols", parse_symbols, err)) < 0 ||
        (r = json_opt_bool(root, "perf_map", &config->perf_map, err)) < 0 ||
        (r = json_opt_bool(root, "debug_console", &config->debug_console, err)) < 0 ||
        (r = json_opt_bool(root, "jail", &config->jail, err)) < 0 ||
        (r = json_opt_bool(root, "hotplug", &config->hotplug, err)) < 0 ||
        (r = json_opt_bool(root, "places", &config->places, err)) < 0 ||
        (r = json_opt_bool(root, "quiet", &config->quiet, err)) < 0)
        return r;
    return 0;
}

int vmm_config_from_json(struct vmm_config *config, const char *text, size_t length,
                         const char *source, struct err *err)
{
    struct json_at root;
    json_t *document;
    int r = json_parse(text, length, source, &document, err);

    if (r < 0)
        return r;
    json_at_root(document, &root);
    r = parse_root(config, &root, err);
    if (r < 0)
        err_wrap(err, "%s", source);
    json_decref(document);
    return r;
}

int vmm_config_from_file(struct vmm_config *config, const char *path, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    int r;

    buf_init(&text, CONFIG_FILE_MAX);
    r = file_load(AT_FDCWD, path, &text, err);
    if (r < 0)
        return r;
    return vmm_config_from_json(config, text.data ? text.data : "", text.length, path, err);
}

/* What does not depend on where the kernel comes from. */
static int check_machine(const struct vmm_config *config, struct err *err)
{
    if (config->nr_cpus < 1 || config->nr_cpus > CPU_MAX)
        return err_set(err, -EINVAL, "%llu vCPUs: 1 to %d are possible",
                       (unsigned long long)config->nr_cpus, CPU_MAX);
    if (config->memory_bytes < MACHINE_MEMORY_LEAST)
        return err_set(err, -EINVAL, "memory of %llu bytes is too small: at least %llu MiB",
                       (unsigned long long)config->memory_bytes,
                       (unsigned long long)(MACHINE_MEMORY_LEAST / MIB));
    if (config->memory_bytes & GUEST_PAGE_MASK)
        return err_set(err, -EINVAL, "memory of %llu bytes is not a multiple of 4096",
                       (unsigned long long)config->memory_bytes);
    if (config->vsock_path && (config->vsock_cid < 3 || config->vsock_cid > 0xfffffffe))
        return err_set(err, -EINVAL, "vsock CID %llu: 3 to 4294967294 are possible",
                       (unsigned long long)config->vsock_cid);
    if (config->places && config->hotplug)
        return err_set(err, -EINVAL, "places and hotplug exclude each other: leave out one");
    return config_shares_check(config, err);
}

int vmm_config_check(const struct vmm_config *config, struct err *err)
{
    int r = config->boot ? boot_order_check(config->boot, err) : 0;

    if (r < 0)
        return r;
    if (!config->boot && !config->kernel)
        return err_set(
            err, -EINVAL,
            "no kernel is named: give --kernel FILE, or --boot disk for the one on a disk");
    return check_machine(config, err);
}
