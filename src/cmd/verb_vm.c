/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge vm: machines without an image, put together part by part and kept by the manager: hardware
 * only. Paths are made absolute here, since the manager has another working directory.
 */
#include "cmd/cli.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/size.h"
#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/life_options.h"
#include "cmd/managed.h"
#include "cmd/vm_parts.h"
#include "image/store.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options {
    const char *memory, *cpus, *boot, *kernel, *initrd, *cmdline, *cdrom, *restart, *engine, *time;
    bool json, force;
    struct vm_parts parts; /* what may be given several times */
};

static int parse(struct options *o, int *argc, char **argv, struct err *err)
{
    const struct managed_option options[] = {
        {"--memory", 'm', NULL, &o->memory}, {"--cpus", 'c', NULL, &o->cpus},
        {"--boot", 0, NULL, &o->boot},       {"--kernel", 0, NULL, &o->kernel},
        {"--initrd", 0, NULL, &o->initrd},   {"--cmdline", 0, NULL, &o->cmdline},
        {"--cdrom", 0, NULL, &o->cdrom},     {"--restart", 0, NULL, &o->restart},
        {"--engine", 0, NULL, &o->engine},   {"--time", 't', NULL, &o->time},
        {"--json", 0, &o->json, NULL},       {"--force", 'f', &o->force, NULL}};
    int result = vm_parts_take(&o->parts, argc, argv, err);

    if (result < 0)
        return cli_usage_error(&verb_vm, "%s", err->message);
    *argc = managed_parse(&verb_vm, options, ARRAY_LEN(options), *argc, argv);
    return *argc < 0 ? CLI_EXIT_USAGE : 0;
}

/* "none" takes the member away. */
static int put_path(json_t *object, const char *name, const char *path, struct err *err)
{
    char whole[PATH_MAX];

    if (!path)
        return 0;
    if (!strcmp(path, "none")) {
        json_object_set_new(object, name, json_null());
        return 0;
    }
    if (!realpath(path, whole))
        return err_errno(err, -errno, "%s '%s'", name, path);
    return json_put_string(object, name, whole);
}

static int put_boot(json_t *object, const char *boot, struct err *err)
{
    json_t *list;

    if (!boot)
        return 0;
    list = json_array();
    for (const char *word = boot;;) {
        size_t length = strcspn(word, ",");

        json_array_append_new(list, json_stringn(word, length));
        if (!word[length])
            break;
        word += length + 1;
    }
    return json_object_set_new(object, "boot", list) < 0 ? err_set(err, -ENOMEM, "out of memory")
                                                         : 0;
}

static int put_sizes(json_t *object, const struct options *o, struct err *err)
{
    uint64_t number;
    int result;

    if (o->memory) {
        if ((result = size_parse(o->memory, &number, err)) < 0)
            return result;
        json_object_set_new(object, "memory_bytes", json_integer((json_int_t)number));
    }
    if (o->cpus) {
        if ((result = number_parse(o->cpus, "--cpus", 1, 64, &number, err)) < 0)
            return result;
        json_object_set_new(object, "cpus", json_integer((json_int_t)number));
    }
    return 0;
}

/* A file, or one of `lodge kernels` by its name. */
static int put_kernel(json_t *object, const char *name, struct err *err)
{
    CLEANUP(freep) struct store *store = NULL;
    CLEANUP(freep) struct kernel *kernel = NULL;
    int result;

    if (!name || strchr(name, '/') || access(name, F_OK) == 0)
        return put_path(object, "kernel", name, err);
    store = calloc(1, sizeof(*store));
    kernel = calloc(1, sizeof(*kernel));
    if (!store || !kernel)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = store_open(store, err)) < 0 ||
        (result = kernel_open(store, name, kernel, err)) < 0)
        return result;
    return put_path(object, "kernel", kernel->vmlinuz, err);
}

static int hardware_of(const struct options *o, json_t **ret, struct err *err)
{
    json_t *object = json_object();
    int result;

    if ((result = put_sizes(object, o, err)) < 0 || (result = put_boot(object, o->boot, err)) < 0 ||
        (result = put_kernel(object, o->kernel, err)) < 0 ||
        (result = put_path(object, "initrd", o->initrd, err)) < 0 ||
        (result = put_path(object, "cdrom", o->cdrom, err)) < 0 ||
        (result = o->cmdline ? json_put_string(object, "cmdline", o->cmdline) : 0) < 0) {
        json_decref(object);
        return result;
    }
    *ret = object;
    return 0;
}

static int create(struct options *o, int argc, char **argv, struct err *err)
{
    json_t *body, *hardware, *made = NULL;
    int result = hardware_of(o, &hardware, err);

    (void)argc;
    if (result < 0)
        return result;
    body = json_pack("{s:s, s:s, s:o}", "name", argv[1], "isolation", "vm", "hardware", hardware);
    if (o->engine)
        json_object_set_new(body, "engine", json_string(o->engine));
    if ((result = restart_put(body, o->restart, err)) < 0 ||
        (result = vm_parts_put(&o->parts, hardware, err)) < 0) {
        json_decref(body);
        return result;
    }
    if ((result = api_ask("POST", "/v1/instances", body, &made, NULL, err)) == 0)
        puts(json_string_value(json_object_get(made, "id")) ?: "");
    json_decref(made);
    return result;
}

/* What comes and goes by verbs of its own, or stays as it was made. */
static int refuse_at_update(const struct options *o, const char *name, struct err *err)
{
    if (o->parts.nr_disks)
        return err_set(err, -EINVAL, "update does not take --disk; try: lodge disk attach %s %s",
                       o->parts.disks[0], name);
    if (o->parts.nr_nets)
        return err_set(err, -EINVAL,
                       "update does not take --net; try: lodge vm attach-net %s ID %s", name,
                       o->parts.nets[0]);
    if (o->engine)
        return err_set(err, -EINVAL, "a machine keeps the engine that it was created with");
    return 0;
}

static int update(struct options *o, int argc, char **argv, struct err *err)
{
    char path[MANAGED_PATH_MAX];
    json_t *changes = json_object(), *hardware = NULL;
    int result = refuse_at_update(o, argv[1], err);

    (void)argc;
    if (result == 0)
        result = hardware_of(o, &hardware, err);
    if (result == 0 && json_object_size(hardware))
        json_object_set(changes, "hardware", hardware);
    if (result == 0)
        result = restart_put(changes, o->restart, err);
    json_decref(hardware);
    if (result == 0 && !json_object_size(changes))
        result = err_set(err, -EINVAL, "what is to change? See: lodge vm --help");
    if (result < 0) {
        json_decref(changes);
        return result;
    }
    managed_path(path, argv[1], "");
    return api_ask("PATCH", path, changes, NULL, NULL, err);
}

/* Takes body. What was done is named. */
static int one(const char *name, const char *method, const char *rest, json_t *body,
               struct err *err)
{
    char path[MANAGED_PATH_MAX];
    int result;

    managed_path(path, name, rest);
    if ((result = api_ask(method, path, body, NULL, NULL, err)) == 0)
        puts(name);
    return result;
}

static int each(int argc, char **argv, const char *method, const char *rest, struct err *err)
{
    int result = 0;

    for (int i = 1; i <= argc && result == 0; i++)
        result = one(argv[i], method, rest, NULL, err);
    return result;
}

static int start(struct options *o, int argc, char **argv, struct err *err)
{
    (void)o;
    return each(argc, argv, "POST", "/start", err);
}

/* A guest that was deaf to its button has lost what it had not written: that is worth a word. */
static void tell_pulled(const char *name)
{
    char path[MANAGED_PATH_MAX];
    json_t *instance = NULL;

    managed_path(path, name, "");
    if (api_ask("GET", path, NULL, &instance, NULL, NULL) == 0 &&
        json_integer_value(json_object_get(instance, "exit_code")) == 128 + SIGKILL)
        log_info(
            "the guest of '%s' did not power off in time (--time SECONDS): its plug was pulled",
            name);
    json_decref(instance);
}

static int stop(struct options *o, int argc, char **argv, struct err *err)
{
    uint64_t seconds = 0;
    int result = 0;

    if (o->time && (result = number_parse(o->time, "--time", 0, 86400, &seconds, err)) < 0)
        return result;
    for (int i = 1; i <= argc && result == 0; i++) {
        json_t *body = o->time || o->force ? json_pack("{s:I}", "timeout_s", (json_int_t)seconds)
                                           : json_object();

        result = one(argv[i], "POST", "/stop", body, err);
        if (result == 0 && !o->force)
            tell_pulled(argv[i]);
    }
    return result;
}

static int delete_them(struct options *o, int argc, char **argv, struct err *err)
{
    return each(argc, argv, "DELETE", o->force ? "?force=1" : "", err);
}

static int inspect(struct options *o, int argc, char **argv, struct err *err)
{
    char path[MANAGED_PATH_MAX];
    json_t *answer = NULL;
    int result;

    (void)o, (void)argc;
    managed_path(path, argv[1], "");
    if ((result = api_ask("GET", path, NULL, &answer, NULL, err)) < 0)
        return result;
    json_dumpf(answer, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(answer);
    return 0;
}

static const char *text(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name)) ?: "";
}

/* "cdrom,disk" */
static void boot_text(const json_t *hardware, char *to, size_t size)
{
    const json_t *list = json_object_get(hardware, "boot");
    size_t used = 0;

    snprintf(to, size, "%s", json_object_get(hardware, "kernel") ? "kernel" : "disk");
    for (size_t i = 0; i < json_array_size(list) && used < size; i++)
        used += (size_t)snprintf(to + used, size - used, "%s%s", i ? "," : "",
                                 json_string_value(json_array_get(list, i)) ?: "");
}

static void print_row(const json_t *instance)
{
    const json_t *hardware = json_object_get(json_object_get(instance, "spec"), "hardware");
    const json_t *memory = json_object_get(hardware, "memory_bytes");
    const json_t *cpus = json_object_get(hardware, "cpus");
    char boot[32];

    boot_text(hardware, boot, sizeof(boot));
    printf("%-12s  %-20s %-10s %6llu MiB %5lld %6zu %5zu  %s\n", text(instance, "id"),
           text(instance, "name"), text(instance, "state"),
           (unsigned long long)(memory ? (uint64_t)json_integer_value(memory) / MIB : 512),
           cpus ? (long long)json_integer_value(cpus) : 1LL,
           json_array_size(json_object_get(hardware, "disks")),
           json_array_size(json_object_get(hardware, "networks")), boot);
}

static int list(struct options *o, int argc, char **argv, struct err *err)
{
    json_t *answer = NULL, *machines = json_array(), *all;
    int result = api_ask("GET", "/v1/instances?all=1&isolation=vm&image=", NULL, &answer, NULL,
                         err);

    (void)argc, (void)argv;
    all = json_object_get(answer, "instances");
    for (size_t i = 0; result == 0 && i < json_array_size(all); i++) {
        char path[MANAGED_PATH_MAX];
        json_t *one = NULL;

        managed_path(path, text(json_array_get(all, i), "id"), "");
        if (api_ask("GET", path, NULL, &one, NULL, NULL) == 0) /* else gone meanwhile */
            json_array_append_new(machines, one);
    }
    if (result == 0 && o->json) {
        json_dumpf(machines, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (result == 0) {
        printf("%-12s  %-20s %-10s %10s %5s %6s %5s  %s\n", "ID", "NAME", "STATE", "MEMORY", "CPUS",
               "DISKS", "NICS", "BOOT");
        for (size_t i = 0; i < json_array_size(machines); i++)
            print_row(json_array_get(machines, i));
    }
    json_decref(answer);
    json_decref(machines);
    return result;
}

static int console(struct options *o, int argc, char **argv, struct err *err)
{
    char path[MANAGED_PATH_MAX];
    int fd, status = 0, result;

    (void)o, (void)argc;
    managed_path(path, argv[1], "/attach");
    if ((result = api_upgrade(path, NULL, &fd, err)) < 0)
        return result;
    if (isatty(STDIN_FILENO))
        log_info("the serial port of '%s'; Ctrl-] leaves it", argv[1]);
    return (result = managed_console(fd, &status, err)) < 0 ? result : status;
}

static int attach_net(struct options *o, int argc, char **argv, struct err *err)
{
    char path[MANAGED_PATH_MAX];

    (void)o, (void)argc;
    managed_path(path, argv[1], "/attach-network");
    return api_ask("POST", path, json_pack("{s:s, s:s}", "id", argv[2], "net", argv[3]), NULL, NULL,
                   err);
}

static int detach_net(struct options *o, int argc, char **argv, struct err *err)
{
    char path[MANAGED_PATH_MAX];

    (void)argc;
    managed_path(path, argv[1], "/detach-network");
    return api_ask("POST", path, json_pack("{s:s, s:b}", "id", argv[2], "force", (int)o->force),
                   NULL, NULL, err);
}

static const struct subverb {
    const char *name;
    int (*run)(struct options *options, int argc, char **argv, struct err *err);
    int least, most;
    const char *arguments;
} subverbs[] = {
    {"create", create, 1, 1, "NAME"},
    {"ls", list, 0, 0, ""},
    {"inspect", inspect, 1, 1, "NAME"},
    {"update", update, 1, 1, "NAME"},
    {"start", start, 1, INT_MAX, "NAME..."},
    {"stop", stop, 1, INT_MAX, "NAME..."},
    {"delete", delete_them, 1, INT_MAX, "NAME..."},
    {"console", console, 1, 1, "NAME"},
    {"attach-net", attach_net, 3, 3, "NAME ID NET"},
    {"detach-net", detach_net, 2, 2, "NAME ID"},
};

static const struct subverb *find(const char *name)
{
    const char *names[ARRAY_LEN(subverbs) + 1] = {NULL};

    for (size_t i = 0; i < ARRAY_LEN(subverbs); i++) {
        if (!strcmp(name, subverbs[i].name))
            return &subverbs[i];
        names[i] = subverbs[i].name;
    }
    cli_unknown_word(&verb_vm, name, names);
    return NULL;
}

static int run(int argc, char **argv)
{
    const struct subverb *subverb;
    struct options options = {0};
    struct err err = ERR_INIT;
    int nr = argc - 1, result;

    if (argc < 2)
        return cli_usage_error(&verb_vm, "create, start, ls and so on is needed");
    if (cli_helps(&verb_vm, argc, argv))
        return 0;
    if (!(subverb = find(argv[1])))
        return CLI_EXIT_USAGE;
    if ((result = parse(&options, &nr, argv + 1, &err)) != 0)
        return result;
    if (nr < subverb->least || nr > subverb->most)
        return cli_subverb_error(&verb_vm, subverb->name, subverb->arguments, nr < subverb->least);
    result = subverb->run(&options, nr, argv + 1, &err);
    return result < 0 ? managed_fail(&err) : result;
}

const struct cli_verb verb_vm = {
    .name = "vm",
    .summary = "Puts virtual machines together: memory, disks, a boot order, no image",
    .usage =
        "vm create|ls|inspect|update|start|stop|delete|console|attach-net|detach-net [options] "
        "...",
    .help =
        "  create NAME               prints its id. It does not start\n"
        "  update NAME               the same options; memory, CPUs and the CD while it is "
        "stopped, "
        "the\n"
        "                            rest takes effect at the next start\n"
        "    -m, --memory SIZE       512M, unless said otherwise\n"
        "    -c, --cpus N            1\n"
        "    --boot ORDER            cdrom, disk, kernel, with commas between: the first that can "
        "be booted\n"
        "    --disk DISK[,ro][,format=raw|qcow2]   (create) of `lodge disk ls`, or a path with a "
        "'/'\n"
        "    --net user|tap=NAME[,...]             (create) as lodge-vmm(1) has it\n"
        "    --net network=NAME[,ip=ADDRESS]       (create) of lodge network\n"
        "    --cdrom FILE            or none\n"
        "    --kernel FILE|KERNEL, --initrd FILE, --cmdline TEXT   for --boot kernel\n"
        "    --restart POLICY        no, on-failure[:N], always, unless-stopped\n"
        "    --engine ENGINE         (create) auto, kvm, soft\n"
        "  ls                        --json\n"
        "  inspect NAME\n"
        "  start NAME...\n"
        "  stop NAME...              the power button; after --time SECONDS (10) the plug. "
        "--force: "
        "at once\n"
        "  delete NAME...            --force: those that run, too. Their disks stay\n"
        "  console NAME              its serial port; Ctrl-] leaves it\n"
        "  attach-net NAME ID NET    a network interface; while it runs, too\n"
        "  detach-net NAME ID        --force: whatever the guest says\n"
        "\n"
        "Disks: lodge disk create, attach, detach. What the console showed: lodge logs NAME.\n",
    .run = run,
};
