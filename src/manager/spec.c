/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and checking an instance's specification. */
#include "manager/spec.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "network/network.h"
#include "volume/volume.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX   4096
#define NOT_GIVEN  __builtin_nan("")
#define STRING_MAX (128u << 10) /* the kernel's own limit for one argument */

int spec_check_name(const char *name, struct err *err)
{
    size_t length = strlen(name);

    if (length == 0 || length > SPEC_NAME_MAX || !isalnum((unsigned char)name[0]) ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") != length)
        return err_set(err, -EINVAL,
                       "'%.80s' cannot be a name: letters, digits, '_', '.' and '-', at most %d, a "
                       "letter or digit first",
                       name, SPEC_NAME_MAX);
    return 0;
}

int spec_signal(const char *name, struct err *err)
{
    char *end;
    long number = strtol(name, &end, 10);

    if (end != name && !*end && number > 0 && number < 65)
        return (int)number;
    if (!strncasecmp(name, "SIG", 3))
        name += 3;
    for (int i = 1; i < NSIG; i++)
        if (sigabbrev_np(i) && !strcasecmp(sigabbrev_np(i), name))
            return i;
    return err_set(err, -EINVAL, "there is no signal '%.40s'", name);
}

const char *spec_restart_name(enum spec_restart restart)
{
    static const char *const names[] = {"no", "on-failure", "always", "unless-stopped"};

    return names[restart];
}

/* A string without NUL inside (jansson refuses those) and of a bounded size. */
static int get_text(const struct json_at *at, const char *name, const char **ret, struct err *err)
{
    int result = json_opt_string(at, name, ret, err);

    if (result == 0 && *ret && strlen(*ret) > TEXT_MAX)
        return err_set(err, -EINVAL, "%s: more than %d bytes", name, TEXT_MAX);
    return result;
}

static int get_strings(const struct json_at *at, const char *name, char ***ret, size_t *ret_nr,
                       struct err *err)
{
    struct json_at list;
    size_t nr;
    int result = json_at_member(at, name, &list, err);

    if (result < 0)
        return result;
    if (list.value && !json_is_array(list.value))
        return err_set(err, -EINVAL, "%s: not a list of strings", list.path);
    if ((nr = json_array_size(list.value)) > SPEC_STRINGS_MAX)
        return err_set(err, -EINVAL, "%s: %zu entries are more than %d", list.path, nr,
                       SPEC_STRINGS_MAX);
    if (!(*ret = calloc(nr + 1, sizeof(char *))))
        return err_set(err, -ENOMEM, "out of memory");
    for (size_t i = 0; i < nr; i++) {
        const char *text = json_string_value(json_array_get(list.value, i));

        if (!text || strlen(text) >= STRING_MAX)
            return err_set(err, -EINVAL, "%s[%zu]: not a string of less than 128 KiB", list.path,
                           i);
        (*ret)[i] = (char *)(uintptr_t)text;
    }
    *ret_nr = nr;
    return 0;
}

static int check_range(const char *name, uint64_t value, uint64_t least, uint64_t most,
                       struct err *err)
{
    if (value < least || value > most)
        return err_set(err, -EINVAL, "%s: %llu is not within %llu and %llu", name,
                       (unsigned long long)value, (unsigned long long)least,
                       (unsigned long long)most);
    return 0;
}

/* Absent stays what it was. */
int spec_get_number(const struct json_at *at, const char *name, uint64_t least, uint64_t most,
                    uint64_t *ret, struct err *err)
{
    struct json_at member;
    int result = json_at_member(at, name, &member, err);

    if (result < 0 || !member.value || json_is_null(member.value))
        return result;
    if ((result = json_opt_uint(at, name, ret, err)) < 0)
        return result;
    return check_range(member.path, *ret, least, most, err);
}

int spec_get_real(const struct json_at *at, const char *name, double least, double most,
                  double *ret, struct err *err)
{
    struct json_at member;
    double value;
    int result = json_at_member(at, name, &member, err);

    if (result < 0 || !member.value || json_is_null(member.value))
        return result;
    if (!json_is_number(member.value))
        return err_set(err, -EINVAL, "%s: not a number", member.path);
    value = json_number_value(member.value);
    if (!(value >= least && value <= most))
        return err_set(err, -EINVAL, "%s: %g is not within %g and %g", member.path, value, least,
                       most);
    *ret = value;
    return 0;
}

/* As the kernel writes lists of processors: "0-1,4". */
static bool is_cpu_list(const char *text)
{
    while (isdigit((unsigned char)*text)) {
        char *end;
        unsigned long first = strtoul(text, &end, 10), last = first;

        if (*end == '-' && isdigit((unsigned char)end[1]))
            last = strtoul(end + 1, &end, 10);
        if (last < first || last > 8191)
            return false;
        if (!*end)
            return true;
        if (*end != ',')
            return false;
        text = end + 1;
    }
    return false;
}

static int read_share(const struct json_at *at, struct spec_share *share, struct err *err)
{
    int result;

    if ((result = spec_get_real(at, "priority", 0.001, 1e6, &share->priority, err)) < 0 ||
        (result = spec_get_real(at, "alpha", 0.001, 1e6, &share->alpha, err)) < 0 ||
        (result = spec_get_real(at, "beta", -1e6, 1e6, &share->beta, err)) < 0 ||
        (result = spec_get_number(at, "reserve_cpu_millis", 0, 1000000, &share->reserve_cpu_millis,
                                  err)) < 0 ||
        (result = spec_get_number(at, "reserve_memory_bytes", 0, UINT64_C(1) << 50,
                                  &share->reserve_memory_bytes, err)) < 0 ||
        (result = spec_get_number(at, "cpu_max_millis", 10, 1000000, &share->cpu_max_millis, err)) <
            0 ||
        (result = json_opt_string(at, "cpuset", &share->cpuset, err)) < 0)
        return result;
    if (*share->cpuset && (strlen(share->cpuset) > 255 || !is_cpu_list(share->cpuset)))
        return err_set(err, -EINVAL,
                       "resources.cpuset: '%.40s' is no list of processors such as 0-1,4",
                       share->cpuset);
    return 0;
}

uint64_t spec_cpu_limit_millis(const struct spec *spec)
{
    uint64_t cap = spec->share.cpu_max_millis;

    /* Of a VM `cpu_millis` says how many processors it sees; its devices' work comes on top. */
    if (!spec->vm && spec->cpu_millis && (!cap || spec->cpu_millis < cap))
        cap = spec->cpu_millis;
    return cap;
}

/* A guarantee above the limit cannot be kept. */
static int check_share(const struct spec *spec, struct err *err)
{
    uint64_t limit = spec_cpu_limit_millis(spec);

    if (limit && spec->share.reserve_cpu_millis > limit)
        return err_set(err, -EINVAL,
                       "resources.reserve_cpu_millis: %llu are more than its limit of %llu; lower "
                       "it or raise the limit",
                       (unsigned long long)spec->share.reserve_cpu_millis,
                       (unsigned long long)limit);
    if (spec->memory_bytes && spec->share.reserve_memory_bytes > spec->memory_bytes)
        return err_set(err, -EINVAL,
                       "resources.reserve_memory_bytes: %llu are more than its limit of %llu; "
                       "lower it or raise memory_bytes",
                       (unsigned long long)spec->share.reserve_memory_bytes,
                       (unsigned long long)spec->memory_bytes);
    return 0;
}

static int read_resources(const struct json_at *root, struct spec *spec, struct err *err)
{
    static const char *const known[] = {
        "memory_bytes",   "cpu_millis", "cpu_shares", "io_weight",          "pids",
        "priority",       "alpha",      "beta",       "reserve_cpu_millis", "reserve_memory_bytes",
        "cpu_max_millis", "cpuset",     NULL};
    struct json_at at;
    int result = json_at_member(root, "resources", &at, err);

    spec->share = (struct spec_share){
        .priority = NOT_GIVEN, .alpha = NOT_GIVEN, .beta = NOT_GIVEN, .cpuset = ""};
    if (result < 0 || !at.value)
        return result;
    if ((result = json_reject_unknown(&at, known, err)) < 0 ||
        (result = spec_get_number(&at, "memory_bytes", 4 * MIB, UINT64_C(1) << 50,
                                  &spec->memory_bytes, err)) < 0 ||
        (result = spec_get_number(&at, "cpu_millis", 10, 1000000, &spec->cpu_millis, err)) < 0 ||
        (result = spec_get_number(&at, "cpu_shares", 2, 262144, &spec->cpu_shares, err)) < 0 ||
        (result = spec_get_number(&at, "io_weight", 10, 1000, &spec->io_weight, err)) < 0 ||
        (result = spec_get_number(&at, "pids", 1, 4194304, &spec->pids, err)) < 0 ||
        (result = read_share(&at, &spec->share, err)) < 0)
        return result;
    return check_share(spec, err);
}

static int read_restart(const struct json_at *root, struct spec *spec, struct err *err)
{
    static const char *const known[] = {"policy", "max_retries", NULL};
    const char *policy = "no";
    struct json_at at;
    int result = json_at_member(root, "restart", &at, err);

    if (result < 0 || !at.value)
        return result;
    if ((result = json_reject_unknown(&at, known, err)) < 0 ||
        (result = json_opt_string(&at, "policy", &policy, err)) < 0 ||
        (result = spec_get_number(&at, "max_retries", 0, 1000000, &spec->max_retries, err)) < 0)
        return result;
    for (int i = SPEC_RESTART_NO; i <= SPEC_RESTART_UNLESS_STOPPED; i++)
        if (!strcmp(policy, spec_restart_name((enum spec_restart)i))) {
            spec->restart = (enum spec_restart)i;
            return 0;
        }
    return err_set(err, -EINVAL,
                   "restart.policy: '%.40s' is none of no, on-failure, always, unless-stopped",
                   policy);
}

static int read_health(const struct json_at *root, struct spec *spec, struct err *err)
{
    static const char *const known[] = {"command",         "interval_ms", "timeout_ms",
                                        "start_period_ms", "retries",     NULL};
    struct spec_health *health = &spec->health;
    struct json_at at;
    size_t nr = 0;
    int result = json_at_member(root, "health", &at, err);

    if (result < 0 || !at.value)
        return result;
    *health = (struct spec_health){.interval_ms = 30000, .timeout_ms = 30000, .retries = 3};
    if ((result = json_reject_unknown(&at, known, err)) < 0 ||
        (result = get_strings(&at, "command", &health->command, &nr, err)) < 0 ||
        (result = spec_get_number(&at, "interval_ms", 100, 86400000, &health->interval_ms, err)) <
            0 ||
        (result = spec_get_number(&at, "timeout_ms", 100, 86400000, &health->timeout_ms, err)) <
            0 ||
        (result = spec_get_number(&at, "start_period_ms", 0, 86400000, &health->start_period_ms,
                                  err)) < 0 ||
        (result = spec_get_number(&at, "retries", 1, 100, &health->retries, err)) < 0)
        return result;
    if (nr == 0)
        return err_set(err, -EINVAL, "health.command: empty");
    return 0;
}

static int read_volume(const struct json_at *at, struct bundle_volume *ret, struct err *err)
{
    static const char *const known[] = {"source", "target", "read_only", NULL};
    int result;

    if ((result = json_reject_unknown(at, known, err)) < 0 ||
        (result = json_get_string(at, "source", &ret->source, err)) < 0 ||
        (result = json_get_string(at, "target", &ret->target, err)) < 0 ||
        (result = json_opt_bool(at, "read_only", &ret->read_only, err)) < 0)
        return result;
    if ((ret->source[0] != '/' && !volume_name_ok(ret->source)) || ret->target[0] != '/' ||
        strlen(ret->source) > TEXT_MAX - 1 || strlen(ret->target) > TEXT_MAX - 1)
        return err_set(err, -EINVAL,
                       "%s: source must be an absolute path or the name of a volume, target an "
                       "absolute path",
                       at->path);
    return 0;
}

static int read_volumes(const struct json_at *root, struct spec *spec, struct err *err)
{
    struct json_at list;
    int result = json_at_member(root, "volumes", &list, err);

    if (result < 0 || !list.value)
        return result;
    if (!json_is_array(list.value) || json_array_size(list.value) > SPEC_VOLUMES_MAX)
        return err_set(err, -EINVAL, "volumes: not a list of at most %d", SPEC_VOLUMES_MAX);
    for (size_t i = 0; i < json_array_size(list.value); i++) {
        struct json_at at;

        if ((result = json_at_index(&list, i, &at, err)) < 0 ||
            (result = read_volume(&at, &spec->volumes[i], err)) < 0)
            return result;
        spec->nr_volumes++;
    }
    return 0;
}

static int check_labels(const struct json_at *root, struct err *err)
{
    const char *name;
    struct json_at at;
    json_t *value;
    int result = json_at_member(root, "labels", &at, err);

    if (result < 0 || !at.value)
        return result;
    if (!json_is_object(at.value) || json_object_size(at.value) > SPEC_LABELS_MAX)
        return err_set(err, -EINVAL, "labels: not an object of at most %d members",
                       SPEC_LABELS_MAX);
    json_object_foreach(at.value, name, value)
    {
        if (!*name || strchr(name, '=') || strlen(name) > 255 || !json_is_string(value) ||
            json_string_length(value) > TEXT_MAX)
            return err_set(err, -EINVAL,
                           "labels.%.80s: names have 1 to 255 bytes without '=', values are "
                           "strings",
                           name);
    }
    return 0;
}

static int read_names(const struct json_at *root, struct spec *spec, struct err *err)
{
    const char *isolation = "container", *stop_signal = "TERM";
    int result;

    if (spec->hardware)
        spec->image = "";
    else if ((result = json_get_string(root, "image", &spec->image, err)) < 0)
        return result;
    if ((result = get_text(root, "image", &spec->image, err)) < 0 ||
        (result = json_opt_string(root, "isolation", &isolation, err)) < 0 ||
        (result = get_text(root, "cwd", &spec->cwd, err)) < 0 ||
        (result = get_text(root, "user", &spec->user, err)) < 0 ||
        (result = get_text(root, "hostname", &spec->hostname, err)) < 0 ||
        (result = get_text(root, "engine", &spec->engine, err)) < 0 ||
        (result = get_text(root, "kernel", &spec->kernel, err)) < 0 ||
        (result = get_text(root, "network", &spec->network, err)) < 0 ||
        (result = get_text(root, "environment", &spec->environment, err)) < 0 ||
        (result = json_opt_string(root, "stop_signal", &stop_signal, err)) < 0)
        return result;
    if (!*spec->image != (spec->hardware != NULL))
        return spec->hardware ? err_set(err, -EINVAL, "image: \"hardware\" has none")
                              : err_set(err, -EINVAL, "image: empty");
    if (spec->hostname && (strlen(spec->hostname) > 63 || !*spec->hostname))
        return err_set(err, -EINVAL, "hostname: not 1 to 63 bytes");
    if (strcmp(isolation, "container") != 0 && strcmp(isolation, "vm") != 0)
        return err_set(err, -EINVAL, "isolation: '%.40s' is neither container nor vm", isolation);
    spec->vm = !strcmp(isolation, "vm");
    if (spec->hardware && !spec->vm)
        return err_set(err, -EINVAL, "hardware: only with \"isolation\": \"vm\"");
    if ((spec->stop_signal = spec_signal(stop_signal, err)) < 0)
        return err_wrap(err, "stop_signal");
    return 0;
}

bool spec_is_networked(const struct spec *spec)
{
    return spec->network && network_name_ok(spec->network);
}

bool spec_is_user_network(const struct spec *spec)
{
    return spec->network && !strncmp(spec->network, "user", 4) &&
           (!spec->network[4] || spec->network[4] == ',');
}

const struct hardware_disk *spec_disks(const struct spec *spec, unsigned *ret_nr)
{
    *ret_nr = spec->hardware ? spec->hardware->nr_disks : spec->nr_disks;
    return spec->hardware ? spec->hardware->disks : spec->disks;
}

static int read_list(const struct json_at *root, const char *name, const char **to, size_t most,
                     size_t *ret_nr, struct err *err)
{
    CLEANUP(freep) char **list = NULL;
    size_t nr = 0;
    struct json_at at;
    int result = json_at_member(root, name, &at, err);

    if (result < 0 || !at.value)
        return result;
    if ((result = get_strings(root, name, &list, &nr, err)) < 0)
        return result;
    if (nr > most)
        return err_set(err, -EINVAL, "%s: more than %zu", name, most);
    memcpy(to, list, nr * sizeof(*to));
    *ret_nr = nr;
    return 0;
}

static int check_network(const struct spec *spec, struct err *err)
{
    const char *network = spec->network ?: "none";
    bool user = spec_is_user_network(spec);

    if (strcmp(network, "none") != 0 && !user && !network_name_ok(network))
        return err_set(err, -EINVAL,
                       "network: '%.40s' is none of none, user and the name of a network", network);
    if ((spec->address4 || spec->nr_more) && !spec_is_networked(spec))
        return err_set(err, -EINVAL, "%s: \"network\" must be the name of a network",
                       spec->address4 ? "ip" : "networks");
    if (spec->nr_ports && !spec_is_networked(spec) && !user)
        return err_set(err, -EINVAL, "ports: \"network\" must be the name of a network, or user");
    for (size_t i = 0; i < spec->nr_more; i++) {
        bool twice = !strcmp(spec->more[i], network);

        for (size_t j = 0; j < i; j++)
            twice = twice || !strcmp(spec->more[i], spec->more[j]);
        if (!network_name_ok(spec->more[i]) || twice)
            return err_set(err, -EINVAL, "networks[%zu]: '%.40s' %s", i, spec->more[i],
                           twice ? "is there twice" : "cannot be the name of a network");
    }
    return 0;
}

static int read_network(const struct json_at *root, struct spec *spec, struct err *err)
{
    struct net_forward port;
    struct in_addr in;
    int result;

    if ((result = get_text(root, "ip", &spec->address4, err)) < 0 ||
        (result = read_list(root, "ports", spec->ports, SPEC_PORTS_MAX, &spec->nr_ports, err)) <
            0 ||
        (result = read_list(root, "networks", spec->more, SPEC_NETWORKS_MAX, &spec->nr_more, err)) <
            0)
        return result;
    if (spec->address4 && inet_pton(AF_INET, spec->address4, &in) != 1)
        return err_set(err, -EINVAL, "ip: '%.40s' is no IPv4 address", spec->address4);
    for (size_t i = 0; i < spec->nr_ports; i++)
        if ((result = network_port_parse(spec->ports[i], &port, err)) < 0)
            return err_wrap(err, "ports[%zu]", i);
    return check_network(spec, err);
}

static int read_hardware(const struct json_at *root, struct spec *spec, struct err *err)
{
    static const char *const strange[] = {"command",   "env",     "cwd",     "user",
                                          "hostname",  "volumes", "network", "kernel",
                                          "resources", "health",  "tty"};
    struct json_at at;
    int result = json_at_member(root, "hardware", &at, err);

    if (result < 0 || !at.value)
        return result;
    for (size_t i = 0; i < ARRAY_LEN(strange); i++)
        if (json_object_get(root->value, strange[i]))
            return err_set(err, -EINVAL,
                           "%s: a machine without an image has none; \"hardware\" has members of "
                           "its own",
                           strange[i]);
    if (!(spec->hardware = calloc(1, sizeof(*spec->hardware))))
        return err_set(err, -ENOMEM, "out of memory");
    return hardware_parse(&at, spec->hardware, err);
}

static int read_spec(const struct json_at *root, struct spec *spec, struct err *err)
{
    static const char *const known[] = {"image",       "isolation",   "command",   "env",
                                        "cwd",         "user",        "hostname",  "tty",
                                        "stdin",       "volumes",     "labels",    "restart",
                                        "health",      "auto_remove", "engine",    "kernel",
                                        "network",     "stop_signal", "resources", "stop_timeout_s",
                                        "ip",          "ports",       "networks",  "hardware",
                                        "environment", "disks",       NULL};
    size_t nr;
    int result;

    spec->stop_timeout_s = 10;
    if ((result = json_reject_unknown(root, known, err)) < 0 ||
        (result = read_hardware(root, spec, err)) < 0 ||
        (result = read_names(root, spec, err)) < 0 ||
        (result = json_opt_bool(root, "tty", &spec->tty, err)) < 0 ||
        (result = json_opt_bool(root, "stdin", &spec->stdin_open, err)) < 0 ||
        (result = json_opt_bool(root, "auto_remove", &spec->auto_remove, err)) < 0 ||
        (result = get_strings(root, "command", &spec->command, &nr, err)) < 0 ||
        (result = get_strings(root, "env", &spec->env, &spec->nr_env, err)) < 0 ||
        (result = read_resources(root, spec, err)) < 0 ||
        (result = read_restart(root, spec, err)) < 0 ||
        (result = read_health(root, spec, err)) < 0 ||
        (result = read_volumes(root, spec, err)) < 0 || (result = check_labels(root, err)) < 0 ||
        (result = spec_get_number(root, "stop_timeout_s", 0, 86400, &spec->stop_timeout_s, err)) <
            0)
        return result;
    for (size_t i = 0; i < spec->nr_env; i++)
        if (spec->env[i][0] == '=' || !strchr(spec->env[i], '='))
            return err_set(err, -EINVAL, "env[%zu]: '%.80s' is not NAME=VALUE", i, spec->env[i]);
    if ((result = read_network(root, spec, err)) < 0 ||
        (result = hardware_parse_disks(root, spec->disks, &spec->nr_disks, err)) < 0)
        return result;
    if (spec->nr_disks && (!spec->vm || spec->hardware))
        return err_set(err, -EINVAL, "disks: %s",
                       spec->vm ? "those of a machine without an image are in \"hardware\""
                                : "a container has none; volumes are for it");
    if (spec->auto_remove && spec->restart != SPEC_RESTART_NO)
        return err_set(err, -EINVAL,
                       "auto_remove and a restart policy exclude each other: leave out one");
    return 0;
}

int spec_parse(json_t *document, struct spec *ret, struct err *err)
{
    struct spec spec = {.document = json_incref(document)};
    struct json_at root;
    int result;

    json_at_root(document, &root);
    if (!json_is_object(document))
        result = err_set(err, -EINVAL, "not a JSON object");
    else
        result = read_spec(&root, &spec, err);
    if (result < 0) {
        spec_done(&spec);
        return result;
    }
    *ret = spec;
    return 0;
}

int spec_parse_text(const char *text, struct spec *ret, struct err *err)
{
    json_t *document;
    int result = json_parse(text, strlen(text), "specification", &document, err);

    if (result < 0)
        return result;
    result = spec_parse(document, ret, err);
    json_decref(document);
    return result;
}

void spec_done(struct spec *spec)
{
    free(spec->command);
    free(spec->env);
    free(spec->health.command);
    free(spec->hardware);
    json_decref(spec->document);
    *spec = (struct spec){0};
}

const char *spec_environment(const struct spec *spec)
{
    return spec->environment && strcmp(spec->environment, "default") != 0 ? spec->environment : "";
}

void spec_limits(const struct spec *spec, struct bundle_limits *ret)
{
    *ret = (struct bundle_limits){.memory_bytes = spec->memory_bytes,
                                  .cpu_quota_us = spec_cpu_limit_millis(spec) *
                                                  BUNDLE_CPU_PERIOD_US / 1000,
                                  .cpuset = spec->share.cpuset,
                                  .memory_reserved_bytes = spec->share.reserve_memory_bytes,
                                  .cpu_shares = spec->cpu_shares,
                                  .io_weight = spec->io_weight,
                                  .pids = spec->pids};
}

/* A member that is null is taken away. */
static void merge(json_t *into, json_t *from)
{
    const char *name;
    json_t *value;

    json_object_foreach(from, name, value)
    {
        if (json_is_null(value))
            json_object_del(into, name);
        else
            json_object_set(into, name, value);
    }
}

int spec_change(json_t *document, json_t *changes, json_t **ret, struct err *err)
{
    static const char *const known[] = {"resources",   "hardware",    "labels", "restart",
                                        "auto_remove", "environment", "disks",  NULL};
    static const char *const merged[] = {"resources", "hardware", "labels"};
    struct json_at at;
    struct spec spec;
    json_t *changed;
    int result;

    json_at_root(changes, &at);
    if ((result = json_reject_unknown(&at, known, err)) < 0)
        return result;
    if (!(changed = json_deep_copy(document)))
        return err_set(err, -ENOMEM, "out of memory");
    for (size_t i = 0; i < ARRAY_LEN(merged); i++) {
        json_t *from = json_object_get(changes, merged[i]);

        if (!json_is_object(from))
            continue;
        if (!json_is_object(json_object_get(changed, merged[i])))
            json_object_set_new(changed, merged[i], json_object());
        merge(json_object_get(changed, merged[i]), from);
        json_object_del(changes, merged[i]);
    }
    merge(changed, changes);
    if ((result = spec_parse(changed, &spec, err)) < 0) {
        json_decref(changed);
        return result;
    }
    spec_done(&spec);
    *ret = changed;
    return 0;
}
