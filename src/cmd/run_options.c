/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of options, their parsing, and what of them fits together. The first word that is no
 * option is the image; what follows it is never looked at.
 */
#include "cmd/run_options.h"

#include "base/cleanup.h"
#include "base/size.h"
#include "base/util.h"
#include "cmd/cli.h"
#include "cmd/run_disks.h"
#include "cmd/run_network.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

enum option_id {
    OPTION_VM,
    OPTION_CONTAINER,
    OPTION_ENGINE,
    OPTION_CPUS,
    OPTION_MEMORY,
    OPTION_ENV,
    OPTION_VOLUME,
    OPTION_WORKDIR,
    OPTION_USER,
    OPTION_STDIN,
    OPTION_TTY,
    OPTION_NAME,
    OPTION_HOSTNAME,
    OPTION_NET,
    OPTION_PUBLISH,
    OPTION_IP,
    OPTION_KERNEL,
    OPTION_ROOT_LAYER,
    OPTION_AGENT,
    OPTION_PROFILE,
    OPTION_SYMBOLS,
    OPTION_QUIET,
    OPTION_BALLOON,
    OPTION_HOTPLUG,
    OPTION_DISK,
    OPTION_JOIN,
    OPTION_DETACH, /* from here on: a matter of the manager's */
    OPTION_REMOVE,
    OPTION_LABEL,
    OPTION_RESTART,
    OPTION_CPU_SHARES,
    OPTION_PIDS,
    OPTION_IO_WEIGHT,
    OPTION_HEALTH,
    OPTION_HEALTH_INTERVAL,
    OPTION_HEALTH_TIMEOUT,
    OPTION_HEALTH_RETRIES,
    OPTION_HEALTH_START,
    OPTION_STOP_TIMEOUT,
    OPTION_STOP_SIGNAL,
    OPTION_ENVIRONMENT,
    OPTION_PRIORITY,
    OPTION_ALPHA,
    OPTION_BETA,
    OPTION_CPU_MAX,
    OPTION_RESERVE_CPU,
    OPTION_RESERVE_MEMORY,
    OPTION_CPUSET,
};

static const struct option_spec {
    const char *name;
    char letter; /* 0: none */
    bool value;
    enum option_id id;
} specs[] = {
    {"--vm", 0, false, OPTION_VM},
    {"--container", 0, false, OPTION_CONTAINER},
    {"--engine", 0, true, OPTION_ENGINE},
    {"--cpus", 0, true, OPTION_CPUS},
    {"--memory", 'm', true, OPTION_MEMORY},
    {"--env", 'e', true, OPTION_ENV},
    {"--volume", 'v', true, OPTION_VOLUME},
    {"--workdir", 'w', true, OPTION_WORKDIR},
    {"--user", 'u', true, OPTION_USER},
    {"--interactive", 'i', false, OPTION_STDIN},
    {"--tty", 't', false, OPTION_TTY},
    {"--name", 0, true, OPTION_NAME},
    {"--hostname", 'h', true, OPTION_HOSTNAME},
    {"--net", 0, true, OPTION_NET},
    {"--publish", 'p', true, OPTION_PUBLISH},
    {"--ip", 0, true, OPTION_IP},
    {"--kernel", 0, true, OPTION_KERNEL},
    {"--root-layer", 0, true, OPTION_ROOT_LAYER},
    {"--agent", 0, false, OPTION_AGENT},
    {"--profile", 0, true, OPTION_PROFILE},
    {"--symbols", 0, true, OPTION_SYMBOLS},
    {"--quiet", 'q', false, OPTION_QUIET},
    {"--balloon", 0, false, OPTION_BALLOON},
    {"--hotplug", 0, false, OPTION_HOTPLUG},
    {"--disk", 0, true, OPTION_DISK},
    {"--join", 0, true, OPTION_JOIN},
    {"--detach", 'd', false, OPTION_DETACH},
    {"--rm", 0, false, OPTION_REMOVE},
    {"--label", 'l', true, OPTION_LABEL},
    {"--restart", 0, true, OPTION_RESTART},
    {"--cpu-shares", 0, true, OPTION_CPU_SHARES},
    {"--pids", 0, true, OPTION_PIDS},
    {"--io-weight", 0, true, OPTION_IO_WEIGHT},
    {"--health-cmd", 0, true, OPTION_HEALTH},
    {"--health-interval", 0, true, OPTION_HEALTH_INTERVAL},
    {"--health-timeout", 0, true, OPTION_HEALTH_TIMEOUT},
    {"--health-retries", 0, true, OPTION_HEALTH_RETRIES},
    {"--health-start-period", 0, true, OPTION_HEALTH_START},
    {"--stop-timeout", 0, true, OPTION_STOP_TIMEOUT},
    {"--stop-signal", 0, true, OPTION_STOP_SIGNAL},
    {"--in", 0, true, OPTION_ENVIRONMENT},
    {"--priority", 0, true, OPTION_PRIORITY},
    {"--alpha", 0, true, OPTION_ALPHA},
    {"--beta", 0, true, OPTION_BETA},
    {"--cpu-max", 0, true, OPTION_CPU_MAX},
    {"--reserve-cpu", 0, true, OPTION_RESERVE_CPU},
    {"--reserve-memory", 0, true, OPTION_RESERVE_MEMORY},
    {"--cpuset", 0, true, OPTION_CPUSET},
};

static const struct option_spec *find_letter(char letter)
{
    for (size_t i = 0; i < ARRAY_LEN(specs); i++)
        if (specs[i].letter == letter)
            return &specs[i];
    return NULL;
}

static const struct option_spec *find_name(const char *name, size_t length)
{
    for (size_t i = 0; i < ARRAY_LEN(specs); i++)
        if (strlen(specs[i].name) == length && !strncmp(specs[i].name, name, length))
            return &specs[i];
    return NULL;
}

static int unknown_option(const char *word, struct err *err)
{
    const char *names[ARRAY_LEN(specs) + 1], *nearest;
    size_t i;

    for (i = 0; i < ARRAY_LEN(specs); i++)
        names[i] = specs[i].name;
    names[i] = NULL;
    nearest = cli_nearest(word, names);
    return err_set(err, -EINVAL, "unknown option '%s'%s%s%s", word,
                   nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
}

/* SRC:DST[:ro|rw]; the parts go into storage. */
static int add_volume(struct run_options *options, char *text, const char *given, struct err *err)
{
    struct run_volume *volume = &options->volumes[options->nr_volumes];
    char *target = strchr(text, ':'), *mode;

    if (options->nr_volumes >= RUN_VOLUMES_MAX)
        return err_set(err, -E2BIG, "more than %d volumes", RUN_VOLUMES_MAX);
    if (!target || target == text)
        return err_set(err, -EINVAL, "-v %s: SRC:DST or SRC:DST:ro is needed", given);
    *target++ = '\0';
    if ((mode = strchr(target, ':'))) {
        *mode++ = '\0';
        if (strcmp(mode, "ro") != 0 && strcmp(mode, "rw") != 0)
            return err_set(err, -EINVAL, "-v %s: '%s' is neither ro nor rw", given, mode);
    }
    if (*target != '/')
        return err_set(err, -EINVAL, "-v %s: the place in the guest, '%s', is no absolute path",
                       given, target);
    *volume = (struct run_volume){text, target, mode && !strcmp(mode, "ro")};
    options->nr_volumes++;
    return 0;
}

static int check_name(const char *option, const char *name, struct err *err)
{
    size_t length = strlen(name);

    if (length == 0 || length > 63 || !isalnum((unsigned char)name[0]))
        return err_set(
            err, -EINVAL,
            "%s '%.70s': 1 to 63 letters, digits, '-', '_' and '.' are needed, the first a "
            "letter or digit",
            option, name);
    for (const char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("-_.", *c))
            return err_set(err, -EINVAL, "%s '%s': '%c' cannot be in it", option, name, *c);
    return 0;
}

static int check_engine(const char *engine, struct err *err)
{
    size_t length = strcspn(engine, ",");

    if ((length == 4 && !strncmp(engine, "auto", 4)) ||
        (length == 3 && !strncmp(engine, "kvm", 3)) || (length == 4 && !strncmp(engine, "soft", 4)))
        return 0;
    return err_set(err, -EINVAL, "--engine '%s': auto, kvm or soft is needed", engine);
}

static int add_env(struct run_options *options, const char *value, struct err *err)
{
    if (options->nr_env >= RUN_ENV_MAX)
        return err_set(err, -E2BIG, "more than %d environment variables", RUN_ENV_MAX);
    if (!*value || *value == '=')
        return err_set(err, -EINVAL, "-e '%s': NAME=VALUE (or NAME, to pass ours on) is needed",
                       value);
    options->env[options->nr_env++] = value;
    return 0;
}

static int add_label(struct run_options *options, const char *value, struct err *err)
{
    if (options->nr_labels >= RUN_LABELS_MAX)
        return err_set(err, -E2BIG, "more than %d labels", RUN_LABELS_MAX);
    if (!*value || *value == '=')
        return err_set(err, -EINVAL, "--label '%s': NAME=VALUE or NAME is needed", value);
    options->labels[options->nr_labels++] = value;
    return 0;
}

static int run_disk_add(struct run_options *options, const char *value, struct err *err)
{
    if (options->nr_disks == RUN_DISKS_MAX)
        return err_set(err, -E2BIG, "more than %d disks", RUN_DISKS_MAX);
    options->disks[options->nr_disks++] = value;
    return run_disk_parse(value, &(struct run_disk){0}, err);
}

static int apply_share(struct run_options *options, enum option_id id, const char *value,
                       struct err *err)
{
    struct share_options *share = &options->share;
    const char **place = id == OPTION_PRIORITY         ? &share->priority
                         : id == OPTION_ALPHA          ? &share->alpha
                         : id == OPTION_BETA           ? &share->beta
                         : id == OPTION_CPU_MAX        ? &share->cpu_max
                         : id == OPTION_RESERVE_CPU    ? &share->reserve_cpu
                         : id == OPTION_RESERVE_MEMORY ? &share->reserve_memory
                         : id == OPTION_CPUSET         ? &share->cpuset
                                                       : &options->environment;
    json_t *checked = json_object();
    int result;

    *place = value;
    result = id == OPTION_ENVIRONMENT ? check_name("--in", value, err)
                                      : share_options_put(share, checked, err);
    json_decref(checked);
    return result;
}

/* What only a manager can do. */
static int apply_managed(struct run_options *options, enum option_id id, const char *value,
                         struct err *err)
{
    struct health_options *health = &options->health;

    options->managed = true;
    if (id >= OPTION_ENVIRONMENT)
        return apply_share(options, id, value, err);
    switch (id) {
    case OPTION_DETACH:
        options->detach = true;
        return 0;
    case OPTION_REMOVE:
        options->remove = true;
        return 0;
    case OPTION_LABEL:
        return add_label(options, value, err);
    case OPTION_RESTART:
        options->restart = value;
        return restart_put(NULL, value, err);
    case OPTION_CPU_SHARES:
        return number_parse(value, "--cpu-shares", 2, 262144, &options->cpu_shares, err);
    case OPTION_PIDS:
        return number_parse(value, "--pids", 1, 4194304, &options->pids, err);
    case OPTION_IO_WEIGHT:
        return number_parse(value, "--io-weight", 10, 1000, &options->io_weight, err);
    case OPTION_HEALTH:
        health->command = value;
        return 0;
    case OPTION_HEALTH_INTERVAL:
        return number_parse(value, "--health-interval", 1, 86400, &health->interval_s, err);
    case OPTION_HEALTH_TIMEOUT:
        return number_parse(value, "--health-timeout", 1, 86400, &health->timeout_s, err);
    case OPTION_HEALTH_RETRIES:
        return number_parse(value, "--health-retries", 1, 100, &health->retries, err);
    case OPTION_HEALTH_START:
        return number_parse(value, "--health-start-period", 1, 86400, &health->start_s, err);
    case OPTION_STOP_TIMEOUT:
        options->stop_timeout_given = true;
        return number_parse(value, "--stop-timeout", 0, 86400, &options->stop_timeout_s, err);
    case OPTION_STOP_SIGNAL:
        options->stop_signal = value;
        return 0;
    default:
        return err_set(err, -EINVAL, "option not handled");
    }
}

static int apply(struct run_options *options, enum option_id id, const char *value, char **storage,
                 struct err *err)
{
    char *copy;
    int result;

    if (id >= OPTION_DETACH)
        return apply_managed(options, id, value, err);
    switch (id) {
    case OPTION_VM:
    case OPTION_CONTAINER:
        options->vm = id == OPTION_VM;
        return 0;
    case OPTION_ENGINE:
        options->engine = value;
        return check_engine(value, err);
    case OPTION_CPUS:
        return number_parse(value, "--cpus", 1, RUN_CPUS_MAX, &options->nr_cpus, err);
    case OPTION_MEMORY:
        if ((result = size_parse(value, &options->memory_bytes, err)) < 0)
            err_wrap(err, "--memory");
        else if (options->memory_bytes == 0)
            return err_set(err, -EINVAL, "--memory 0: a size such as 256M is needed");
        return result;
    case OPTION_ENV:
        return add_env(options, value, err);
    case OPTION_VOLUME:
        copy = *storage;
        strcpy(copy, value);
        *storage += strlen(value) + 1;
        return add_volume(options, copy, value, err);
    case OPTION_WORKDIR:
        options->cwd = value;
        if (*value != '/')
            return err_set(err, -EINVAL, "-w '%s': an absolute path is needed", value);
        return 0;
    case OPTION_USER:
        options->user = value;
        return 0;
    case OPTION_STDIN:
        options->stdin_open = true;
        return 0;
    case OPTION_TTY:
        options->tty = true;
        return 0;
    case OPTION_NAME:
        options->name = value;
        return check_name("--name", value, err);
    case OPTION_HOSTNAME:
        options->hostname = value;
        return check_name("--hostname", value, err);
    case OPTION_NET:
        options->network = value;
        options->network_given = true;
        return run_network_check(value, err);
    case OPTION_PUBLISH:
        if (options->nr_ports == RUN_PORTS_MAX)
            return err_set(err, -E2BIG, "more than %d published ports", RUN_PORTS_MAX);
        options->ports[options->nr_ports++] = value;
        return run_network_check_port(value, err);
    case OPTION_IP:
        options->address4 = value;
        return 0;
    case OPTION_KERNEL:
        options->kernel = value;
        return 0;
    case OPTION_ROOT_LAYER:
        options->root_layer = value;
        return 0;
    case OPTION_AGENT:
        options->agent = true;
        return 0;
    case OPTION_PROFILE:
        options->profile = value;
        return 0;
    case OPTION_SYMBOLS:
        if (options->nr_symbols == RUN_SYMBOLS_MAX)
            return err_set(err, -E2BIG, "more than %d symbol files", RUN_SYMBOLS_MAX);
        options->symbols[options->nr_symbols++] = value;
        return 0;
    case OPTION_QUIET:
        options->quiet = true;
        return 0;
    case OPTION_BALLOON:
        options->balloon = true;
        return 0;
    case OPTION_HOTPLUG:
        options->hotplug = true;
        return 0;
    case OPTION_JOIN:
        if (options->nr_joined == RUN_JOINED_MAX)
            return err_set(err, -E2BIG, "more than %d further networks", RUN_JOINED_MAX);
        options->joined[options->nr_joined++] = value;
        return 0;
    case OPTION_DISK:
        return run_disk_add(options, value, err);
    default:
        break;
    }
    return err_set(err, -EINVAL, "option not handled");
}

/* A cluster of letters, as in -it or -eA=1. */
static int parse_letters(struct run_options *options, char **argv, int argc, int *i, char **storage,
                         struct err *err)
{
    for (const char *c = argv[*i] + 1; *c; c++) {
        const struct option_spec *spec = find_letter(*c);
        const char *value = "";
        int result;

        if (!spec)
            return err_set(err, -EINVAL, "unknown option '-%c' in '%s'", *c, argv[*i]);
        if (spec->value) {
            value = c[1] ? c + 1 : (*i + 1 < argc ? argv[++*i] : NULL);
            if (!value)
                return err_set(err, -EINVAL, "option '-%c' needs a value", *c);
        }
        if ((result = apply(options, spec->id, value, storage, err)) < 0 || spec->value)
            return result;
    }
    return 0;
}

static int parse_long(struct run_options *options, char **argv, int argc, int *i, char **storage,
                      struct err *err)
{
    const char *word = argv[*i], *equals = strchr(word, '='), *value = "";
    const struct option_spec *spec = find_name(word,
                                               equals ? (size_t)(equals - word) : strlen(word));

    if (!spec)
        return unknown_option(word, err);
    if (equals && !spec->value)
        return err_set(err, -EINVAL, "option '%s' takes no value", spec->name);
    if (spec->value) {
        value = equals ? equals + 1 : (*i + 1 < argc ? argv[++*i] : NULL);
        if (!value)
            return err_set(err, -EINVAL, "option '%s' needs a value", spec->name);
    }
    return apply(options, spec->id, value, storage, err);
}

static int check_together(const struct run_options *options, struct err *err)
{
    if (!options->vm && options->engine)
        return err_set(err, -EINVAL, "--engine is for virtual machines: add --vm");
    if (options->nr_ports && !run_network_is_named(options->network) &&
        !(options->network && run_network_is_user(options->network)))
        return err_set(err, -EINVAL,
                       "-p needs --net NAME, of a network that `lodge network create` made, or "
                       "--net user, which needs no rights");
    if (options->address4 && !run_network_is_named(options->network))
        return err_set(err, -EINVAL,
                       "--ip needs --net NAME, of a network that `lodge network "
                       "create` made");
    if (!options->vm && options->kernel)
        return err_set(err, -EINVAL, "--kernel is for virtual machines: add --vm");
    if (!options->vm && options->root_layer)
        return err_set(err, -EINVAL, "--root-layer is for virtual machines: add --vm");
    if (!options->vm && options->agent)
        return err_set(err, -EINVAL, "--agent is for virtual machines: add --vm");
    if (options->managed && options->agent)
        return err_set(err, -EINVAL, "--agent is for `lodge run` without -d, --rm and the like");
    if (options->agent && !(options->command && *options->command))
        return err_set(err, -EINVAL, "--agent needs a command: copy-in, copy-out, ...");
    if (options->managed && options->root_layer)
        return err_set(err, -EINVAL,
                       "--root-layer is for `lodge run` without -d, --rm and the like: a managed "
                       "machine has one of its own");
    if (!options->vm && options->balloon)
        return err_set(err, -EINVAL, "--balloon is for virtual machines: add --vm");
    if (!options->vm && (options->hotplug || options->nr_disks))
        return err_set(err, -EINVAL, "%s is for virtual machines: add --vm",
                       options->hotplug ? "--hotplug" : "--disk");
    if (options->nr_joined &&
        (!options->vm || options->managed || !run_network_is_named(options->network)))
        return err_set(err, -EINVAL,
                       "--join is for virtual machines with the name of a network in --net, "
                       "without -d, --rm and the like: `lodge network connect` is for managed "
                       "ones");
    if (options->managed && options->nr_disks)
        return err_set(err, -EINVAL,
                       "--disk is for `lodge run` without -d, --rm and the like: `lodge disk "
                       "attach` gives disks to a managed machine");
    if (!options->vm && options->profile)
        return err_set(err, -EINVAL, "--profile is for virtual machines: add --vm");
    if (options->nr_symbols && !options->profile)
        return err_set(err, -EINVAL, "--symbols names what is in a profile: add --profile FILE");
    if (options->managed && options->profile)
        return err_set(err, -EINVAL, "--profile is for `lodge run` without -d, --rm and the like");
    if (options->remove && options->restart)
        return err_set(err, -EINVAL, "--rm and --restart exclude each other: leave out one");
    if (!options->image)
        return err_set(err, -EINVAL, "an IMAGE or ROOTFS-DIR is needed");
    return health_options_check(&options->health, err);
}

int run_options_parse(struct run_options *ret, int argc, char **argv, struct err *err)
{
    struct run_options options = {0};
    size_t size = 1;
    char *storage;
    int i, result = 0;

    for (i = 0; i < argc; i++)
        size += strlen(argv[i]) + 1;
    if (!(storage = options.storage = malloc(size)))
        return err_set(err, -ENOMEM, "out of memory");
    for (i = 1; i < argc && result == 0; i++) {
        if (!strcmp(argv[i], "--")) {
            i++;
            break;
        }
        if (argv[i][0] != '-' || !argv[i][1])
            break;
        result = argv[i][1] == '-' ? parse_long(&options, argv, argc, &i, &storage, err)
                                   : parse_letters(&options, argv, argc, &i, &storage, err);
    }
    if (result == 0 && i < argc)
        options.image = argv[i++];
    options.command = argv + MIN(i, argc);
    if (result == 0)
        result = check_together(&options, err);
    if (result < 0) {
        run_options_done(&options);
        return result;
    }
    if (!options.engine)
        options.engine = "auto";
    if (!options.network)
        options.network = "none";
    if (!options.kernel)
        options.kernel = "cloud";
    *ret = options;
    return 0;
}

void run_options_done(struct run_options *options)
{
    free(options->storage);
    options->storage = NULL;
}

const char *run_option_name(size_t index)
{
    return index < ARRAY_LEN(specs) ? specs[index].name : NULL;
}

const char *run_option_awaiting(const char *word)
{
    const struct option_spec *spec;

    if (word[0] != '-' || !word[1])
        return NULL;
    if (word[1] == '-') {
        spec = find_name(word, strlen(word));
        return spec && spec->value ? spec->name : NULL;
    }
    /* The first letter that takes a value takes the rest of the cluster, if there is one. */
    for (const char *c = word + 1; *c; c++)
        if (!(spec = find_letter(*c)) || spec->value)
            return spec && !c[1] ? spec->name : NULL;
    return NULL;
}
