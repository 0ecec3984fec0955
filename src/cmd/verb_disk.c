/* SPDX-License-Identifier: Apache-2.0 */
/* lodge disk: disks for virtual machines, as files: made, looked at, sized, converted, checked. */
#include "cmd/cli.h"
#include "cmd/disk_attach.h"
#include "cmd/disk_managed.h"
#include "cmd/progress.h"
#include "cmd/report.h"

#include "base/cleanup.h"
#include "base/size.h"
#include "base/util.h"
#include "block/disk_file.h"
#include "image/vdisk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ARGUMENTS_MAX 8

struct disk_cli {
    const char *arguments[ARGUMENTS_MAX];
    size_t nr;
    bool json, quiet, force, shrink, repair, read_only, local, report;
    const char *format, *to_format;
    const char *sought; /* the disk that was last looked for */
    struct block_backing backing[BLOCK_BACKING_MAX];
    unsigned nr_backing;
    struct progress progress;
    struct report reported;
    struct store *store;
};

static enum block_format format_of(const struct vdisk *disk)
{
    return disk->qcow2 ? BLOCK_FORMAT_QCOW2 : BLOCK_FORMAT_RAW;
}

static int find(struct disk_cli *cli, const char *name, struct vdisk *disk,
                struct disk_source *source, struct err *err)
{
    int result = vdisk_find(cli->store, name, cli->format, disk, err);

    cli->sought = name;
    *source = (struct disk_source){.path = disk->path, .format = format_of(disk)};
    memcpy(source->backing, cli->backing, sizeof(source->backing));
    source->nr_backing = cli->nr_backing;
    return result;
}

/* What was made. */
static void show_path(struct disk_cli *cli, const char *path)
{
    progress_end(&cli->progress);
    if (cli->report)
        report_result(json_pack("{s:s}", "path", path));
    else if (!cli->quiet)
        printf("%s\n", path);
}

/* It appears whole, by rename. */
static int create_at(const char *path, enum block_format format, const struct block_create *create,
                     struct err *err)
{
    char temporary[PATH_MAX + 24];
    int result;

    if (access(path, F_OK) == 0)
        return err_set(err, -EEXIST, "create '%s': there is a file already", path);
    snprintf(temporary, sizeof(temporary), "%s.%d.tmp", path, (int)getpid());
    unlink(temporary);
    if ((result = disk_create(temporary, format, create, err)) == 0 &&
        renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_NOREPLACE) < 0)
        result = err_errno(err, -errno, "create '%s'", path);
    if (result < 0)
        unlink(temporary);
    return result;
}

static int create(struct disk_cli *cli, struct err *err)
{
    struct block_create create = {0};
    struct vdisk disk;
    int result;

    if ((result = size_parse(cli->arguments[1], &create.bytes, err)) < 0 ||
        (result = vdisk_place(cli->store, cli->arguments[0], cli->format, &disk, err)) < 0)
        return result;
    if (cli->nr_backing) {
        create.backing = cli->backing[0].path;
        create.backing_format = cli->backing[0].format;
    }
    if ((result = create_at(disk.path, format_of(&disk), &create, err)) == 0)
        show_path(cli, disk.path);
    return result;
}

static json_t *describe(const struct vdisk *disk, const struct disk_info *info)
{
    json_t *object = json_pack("{s:s, s:s, s:s, s:I, s:I}", "name", disk->name, "path", disk->path,
                               "format", disk->qcow2 ? "qcow2" : "raw", "bytes",
                               (json_int_t)info->bytes, "allocated_bytes",
                               (json_int_t)info->allocated_bytes);

    if (info->in_use)
        json_object_set_new(object, "in_use", json_true());
    if (disk->qcow2) {
        json_object_set_new(object, "version", json_integer(info->version));
        json_object_set_new(object, "cluster_bytes", json_integer(info->cluster_bytes));
        json_object_set_new(object, "snapshots", json_integer(info->nr_snapshots));
        json_object_set_new(object, "dirty", json_boolean(info->dirty));
        json_object_set_new(object, "corrupt", json_boolean(info->corrupt));
        if (*info->backing)
            json_object_set_new(object, "backing", json_string(info->backing));
    }
    return object;
}

struct listing {
    json_t *array;  /* NULL: a table */
    json_t *owners; /* by name: the machines that have it */
    size_t nr;
};

static void list_one(const struct vdisk *disk, void *context)
{
    struct listing *listing = context;
    struct disk_info info = {0};
    struct err err = ERR_INIT;
    json_t *attached = json_object_get(listing->owners, disk->name);
    char owner[80] = "-";
    bool failed = disk_info(disk->path, format_of(disk), &info, &err) < 0;

    if (json_array_size(attached))
        snprintf(owner, sizeof(owner), "%s", json_string_value(json_array_get(attached, 0)) ?: "");
    else if (info.in_use)
        snprintf(owner, sizeof(owner), "(in use)");
    if (listing->array) {
        json_t *object = describe(disk, &info);

        json_object_set(object, "attached_to", attached);

        if (failed)
            json_object_set_new(object, "error", json_string(err.message));
        json_array_append_new(listing->array, object);
    } else {
        if (listing->nr == 0)
            printf("%-24s %-6s %10s %10s %9s %-16s %s\n", "DISK", "FORMAT", "SIZE", "ON HOST",
                   "SNAPSHOTS", "ATTACHED TO", "PATH");
        if (failed)
            printf("%-24s %-6s %10s %10s %9s %-16s %s\n", disk->name, disk->qcow2 ? "qcow2" : "raw",
                   "-", "-", "-", owner, err.message);
        else
            printf("%-24s %-6s %6llu MiB %6llu MiB %9u %-16s %s\n", disk->name,
                   disk->qcow2 ? "qcow2" : "raw", (unsigned long long)(info.bytes / MIB),
                   (unsigned long long)(info.allocated_bytes / MIB), info.nr_snapshots, owner,
                   disk->path);
    }
    listing->nr++;
}

static int list(struct disk_cli *cli, struct err *err)
{
    struct listing listing = {.array = cli->json ? json_array() : NULL, .owners = disk_owners()};

    (void)err;
    vdisk_list(cli->store, list_one, &listing);
    json_decref(listing.owners);
    if (listing.array) {
        json_dumpf(listing.array, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(listing.array);
    } else if (listing.nr == 0) {
        printf("no disks yet; make one: lodge disk create NAME SIZE\n");
    }
    return 0;
}

static void add_snapshot(void *context, const struct block_snapshot *snapshot)
{
    json_array_append_new(context,
                          json_pack("{s:s, s:s, s:I}", "id", snapshot->id, "name", snapshot->name,
                                    "seconds", (json_int_t)snapshot->seconds));
}

static int inspect(struct disk_cli *cli, struct err *err)
{
    struct disk_source source;
    struct disk_info info;
    struct vdisk disk;
    json_t *object, *snapshots;
    int result;

    if ((result = find(cli, cli->arguments[0], &disk, &source, err)) < 0 ||
        (result = disk_info(disk.path, source.format, &info, err)) < 0)
        return result;
    object = describe(&disk, &info);
    if (disk.qcow2 && !info.in_use && (snapshots = json_array())) {
        result = block_list_qcow2_snapshots(disk.path, add_snapshot, snapshots, err);
        json_object_set_new(object, "snapshots", snapshots);
    }
    if (result == 0) {
        json_dumpf(object, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    json_decref(object);
    return result;
}

static int resize(struct disk_cli *cli, struct err *err)
{
    struct disk_source source;
    struct vdisk disk;
    uint64_t bytes;
    int result;

    if ((result = find(cli, cli->arguments[0], &disk, &source, err)) < 0 ||
        (result = size_parse(cli->arguments[1], &bytes, err)) < 0)
        return result;
    if ((result = disk_resize(&source, bytes, cli->shrink, err)) == 0 && cli->report)
        show_path(cli, disk.path);
    return result;
}

static void show(void *context, uint64_t done, uint64_t total)
{
    struct disk_cli *cli = context;

    if (cli->report)
        report_progress(&cli->reported, "converting", done, total);
    else
        progress_show(&cli->progress, "converting", done, total);
}

static int convert(struct disk_cli *cli, struct err *err)
{
    struct disk_convert convert = {.replace = cli->force, .progress = show, .context = cli};
    struct disk_managed managed = {.from = cli->arguments[0],
                                   .to = cli->arguments[1],
                                   .from_format = cli->format,
                                   .to_format = cli->to_format,
                                   .force = cli->force};
    struct disk_source source;
    struct vdisk disk, target;
    int result;

    /* What is below it is named by the caller alone. */
    if (!cli->local && !cli->report && !cli->nr_backing &&
        disk_managed_convert(cli->store, &managed, &cli->progress, &result, err)) {
        if (result == 0)
            show_path(cli, managed.path);
        return result;
    }
    if ((result = find(cli, cli->arguments[0], &disk, &source, err)) < 0)
        return result;
    result = vdisk_place(cli->store, cli->arguments[1], cli->to_format, &target, err);
    if (result == -EEXIST && cli->force)
        result = vdisk_find(cli->store, cli->arguments[1], NULL, &target, err);
    if (result < 0)
        return result;
    convert.format = format_of(&target);
    result = disk_convert(&source, target.path, &convert, err);
    if (result == 0)
        show_path(cli, target.path);
    return result;
}

static int snapshot(struct disk_cli *cli, struct err *err)
{
    static const struct {
        const char *name;
        int (*run)(const char *path, const char *name, struct err *err);
    } actions[] = {{"create", disk_snapshot_create},
                   {"apply", disk_snapshot_apply},
                   {"rm", disk_snapshot_remove}};
    struct disk_source source;
    struct vdisk disk;
    int result;

    if ((result = find(cli, cli->arguments[1], &disk, &source, err)) < 0)
        return result;
    if (!disk.qcow2)
        return err_set(err, -ENOTSUP,
                       "'%s' is a raw disk, which has no snapshots: convert it to qcow2",
                       cli->arguments[1]);
    for (size_t i = 0; i < ARRAY_LEN(actions); i++)
        if (!strcmp(cli->arguments[0], actions[i].name))
            return actions[i].run(disk.path, cli->arguments[2], err);
    return err_set(err, -EINVAL, "snapshot '%s' is none of create, apply, rm (list: inspect)",
                   cli->arguments[0]);
}

static int check(struct disk_cli *cli, struct err *err)
{
    struct disk_checked checked;
    struct disk_source source;
    struct vdisk disk;
    int result;

    if ((result = find(cli, cli->arguments[0], &disk, &source, err)) < 0)
        return result;
    if (!disk.qcow2) {
        printf("a raw disk has nothing to check\n");
        return 0;
    }
    if ((result = disk_check(disk.path, cli->repair, &checked, err)) < 0)
        return result;
    if (cli->json)
        printf("{\"errors\": %llu, \"leaks\": %llu, \"repaired\": %llu, \"clusters\": %llu}\n",
               (unsigned long long)checked.nr_errors, (unsigned long long)checked.nr_leaks,
               (unsigned long long)checked.nr_repaired, (unsigned long long)checked.nr_clusters);
    else
        printf("%llu errors, %llu leaked clusters, %llu repaired; %llu clusters in use\n",
               (unsigned long long)checked.nr_errors, (unsigned long long)checked.nr_leaks,
               (unsigned long long)checked.nr_repaired, (unsigned long long)checked.nr_clusters);
    return checked.nr_errors || (checked.nr_leaks && !cli->repair) ? 1 : 0;
}

/* Held open for writing meanwhile: no VM can have it. */
static int remove_disk(struct disk_cli *cli, struct err *err)
{
    for (size_t i = 0; i < cli->nr; i++) {
        CLEANUP(disk_file_closep) struct disk_file *file = NULL;
        struct disk_source source;
        struct vdisk disk;
        int result;

        if (strchr(cli->arguments[i], '/'))
            return err_set(err, -EINVAL, "'%s': only disks of the store are removed here, by name",
                           cli->arguments[i]);
        if ((result = find(cli, cli->arguments[i], &disk, &source, err)) < 0)
            return result;
        source.format = BLOCK_FORMAT_RAW; /* whatever is in it */
        if ((result = disk_file_open(&source, false, &file, err)) < 0)
            return result;
        cli->sought = NULL; /* the manager says itself whose it is */
        if ((result = disk_remove_managed(cli->arguments[i], err)) == 0)
            continue;
        if (result != -EAGAIN)
            return result;
        if (unlink(disk.path) < 0)
            return err_errno(err, -errno, "remove '%s'", disk.path);
    }
    return 0;
}

static int attach(struct disk_cli *cli, struct err *err)
{
    return disk_attach(cli->arguments[0], cli->arguments[1], cli->format, cli->read_only, err);
}

static int detach(struct disk_cli *cli, struct err *err)
{
    return disk_detach(cli->arguments[0], cli->arguments[1], cli->force, err);
}

static const struct subverb {
    const char *name;
    int (*run)(struct disk_cli *cli, struct err *err);
    size_t least, most;
    const char *arguments;
} subverbs[] = {
    {"ls", list, 0, 0, ""},
    {"create", create, 2, 2, "NAME SIZE"},
    {"inspect", inspect, 1, 1, "DISK"},
    {"resize", resize, 2, 2, "DISK SIZE"},
    {"convert", convert, 2, 2, "DISK NEW"},
    {"snapshot", snapshot, 3, 3, "create|apply|rm DISK NAME"},
    {"check", check, 1, 1, "DISK"},
    {"attach", attach, 2, 2, "DISK VM"},
    {"detach", detach, 2, 2, "DISK VM"},
    {"rm", remove_disk, 1, ARGUMENTS_MAX, "DISK..."},
};

static int add_backing(struct disk_cli *cli, const char *value, struct err *err)
{
    struct block_backing *backing = &cli->backing[cli->nr_backing];

    if (cli->nr_backing == BLOCK_BACKING_MAX)
        return err_set(err, -E2BIG, "more than %d backing files", BLOCK_BACKING_MAX);
    if (!strncmp(value, "raw:", 4))
        *backing = (struct block_backing){value + 4, BLOCK_FORMAT_RAW};
    else if (!strncmp(value, "qcow2:", 6))
        *backing = (struct block_backing){value + 6, BLOCK_FORMAT_QCOW2};
    else
        return err_set(err, -EINVAL, "--backing '%s': raw:FILE or qcow2:FILE is needed", value);
    cli->nr_backing++;
    return 0;
}

static bool parse_flag(const char *word, struct disk_cli *cli)
{
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {
        {"--json", &cli->json},           {"--quiet", &cli->quiet},   {"-q", &cli->quiet},
        {"--force", &cli->force},         {"--shrink", &cli->shrink}, {"--repair", &cli->repair},
        {"--read-only", &cli->read_only}, {"--local", &cli->local},   {"--report", &cli->report}};

    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (!strcmp(word, flags[i].name)) {
            *flags[i].flag = true;
            return true;
        }
    return false;
}

static int parse(int argc, char **argv, struct disk_cli *cli, struct err *err)
{
    for (int i = 2; i < argc; i++) {
        const char *equals = strchr(argv[i], '='), *value;
        size_t length = equals ? (size_t)(equals - argv[i]) : strlen(argv[i]);
        int result = 0;

        if (argv[i][0] != '-') {
            if (cli->nr == ARGUMENTS_MAX)
                return err_set(err, -E2BIG, "too many arguments");
            cli->arguments[cli->nr++] = argv[i];
            continue;
        }
        if (parse_flag(argv[i], cli))
            continue;
        if ((length != 8 || strncmp(argv[i], "--format", 8) != 0) &&
            (length != 4 || strncmp(argv[i], "--to", 4) != 0) &&
            (length != 9 || strncmp(argv[i], "--backing", 9) != 0))
            return err_set(err, -EINVAL, "unknown option '%s'", argv[i]);
        value = equals ? equals + 1 : i + 1 < argc ? argv[i + 1] : "";
        if (!*value)
            return err_set(err, -EINVAL, "'%s' needs a value", argv[i]);
        if (length == 8)
            cli->format = value;
        else if (length == 4)
            cli->to_format = value;
        else
            result = add_backing(cli, value, err);
        if (result < 0)
            return result;
        i += !equals;
    }
    return 0;
}

static int usage(const char *name)
{
    const char *names[ARRAY_LEN(subverbs) + 1] = {NULL};

    for (size_t i = 0; i < ARRAY_LEN(subverbs); i++)
        names[i] = subverbs[i].name;
    return cli_unknown_word(&verb_disk, name, names);
}

static int run(int argc, char **argv)
{
    CLEANUP(freep) struct store *store = calloc(1, sizeof(*store));
    struct disk_cli cli = {.store = store};
    const struct subverb *subverb = NULL;
    struct err err = ERR_INIT;
    int result;

    if (argc < 2)
        return cli_usage_error(&verb_disk, "create, ls and so on is needed");
    for (size_t i = 0; i < ARRAY_LEN(subverbs); i++)
        if (!strcmp(argv[1], subverbs[i].name))
            subverb = &subverbs[i];
    if (!subverb)
        return usage(argv[1]);
    if (cli_helps(&verb_disk, argc, argv))
        return 0;
    if (parse(argc, argv, &cli, &err) < 0)
        return cli_usage_error(&verb_disk, "%s", err.message);
    if (cli.nr < subverb->least || cli.nr > subverb->most)
        return cli_subverb_error(&verb_disk, subverb->name, subverb->arguments,
                                 cli.nr < subverb->least);
    progress_init(&cli.progress, cli.quiet || cli.json || cli.report);
    result = store ? store_open(store, &err) : -ENOMEM;
    if (result == 0)
        result = subverb->run(&cli, &err);
    if (result == -EBUSY && cli.sought && !strchr(cli.sought, '/'))
        disk_name_owner(cli.sought, &err);
    progress_end(&cli.progress);
    return report_exit(cli.report, result, &err);
}

const struct cli_verb verb_disk = {
    .name = "disk",
    .summary = "Makes, converts, checks and removes disks for virtual machines",
    .usage = "disk ls|create|inspect|resize|convert|snapshot|check|attach|detach|rm [options] ...",
    .help =
        "  ls                        lists the disks of the store; --json\n"
        "  create NAME SIZE          a new, empty disk; --format raw|qcow2 (raw), --backing "
        "raw|qcow2:FILE\n"
        "  inspect DISK              size, space, snapshots\n"
        "  resize DISK SIZE          --shrink: what is behind a smaller end may be lost\n"
        "  convert DISK NEW          a copy in another format; --to raw|qcow2, --force; the "
        "manager's "
        "work\n"
        "                            (lodge operation) where one runs, unless --local\n"
        "  snapshot create|apply|rm DISK NAME   states of a qcow2 disk\n"
        "  check DISK                of qcow2; --repair gives lost clusters back. Status 1: not "
        "clean\n"
        "  attach DISK VM            to a virtual machine, while it runs, too; --read-only\n"
        "  detach DISK VM            --force: whatever its guest says\n"
        "  rm DISK...                those that are attached to nothing\n"
        "\n"
        "A DISK is a name of the store or a path with a '/'. The format is what its name ends in "
        "(.qcow2,\n"
        "else raw) or --format says, never what is in the file. Files below a disk are named with\n"
        "--backing, the nearest first. A disk that a VM writes to is only listed and inspected.\n",
    .run = run,
};
