/* SPDX-License-Identifier: Apache-2.0 */
/* lodge env: named groups of instances with a quota, made, listed, changed, drawn, removed. */
#include "cmd/cli.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/size.h"
#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/managed.h"
#include "cmd/share_options.h"
#include "model/chart.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct words {
    const char *cpus, *memory, *priority, *alpha, *beta, *overcommit, *policy, *network;
    const char *instances, *keep_free, *output;
    bool drf, no_drf, json;
    char **names;
    int nr;
};

/* "1.5" for both, or "cpu=4,memory=1.2". */
static int put_overcommit(json_t *spec, const char *text, struct err *err)
{
    CLEANUP(freep) char *copy = text ? strdup(text) : NULL;
    json_t *object;
    char *word, *rest = NULL;
    int result = 0;

    if (!text)
        return 0;
    if (!copy || !(object = json_object()))
        return err_set(err, -ENOMEM, "out of memory");
    json_object_set_new(spec, "overcommit", object);
    for (word = strtok_r(copy, ",", &rest); word && result == 0;
         word = strtok_r(NULL, ",", &rest)) {
        const char *value = strchr(word, '=');
        bool cpu = !strncmp(word, "cpu=", 4), memory = !strncmp(word, "memory=", 7);

        if (value && !cpu && !memory)
            return err_set(err, -EINVAL,
                           "--overcommit '%.60s': a factor, or cpu=FACTOR,memory=FACTOR", text);
        value = value ? value + 1 : word;
        if (!memory)
            result = put_real(object, "cpu", "--overcommit", value, 0.01, 100, err);
        if (result == 0 && !cpu)
            result = put_real(object, "memory", "--overcommit", value, 0.01, 100, err);
    }
    return result;
}

static int put_number(json_t *spec, const char *name, const char *option, const char *text,
                      struct err *err)
{
    uint64_t number;
    int result;

    if (!text)
        return 0;
    if ((result = number_parse(text, option, 0, 1000000, &number, err)) == 0)
        json_object_set_new(spec, name, json_integer((json_int_t)number));
    return result;
}

static int put_spec(const struct words *w, json_t *spec, struct err *err)
{
    int result;

    if ((result = put_processors(spec, "cpu_millis", "--cpus", w->cpus, err)) < 0 ||
        (result = put_bytes(spec, "memory_bytes", "--memory", w->memory, err)) < 0 ||
        (result = put_real(spec, "priority", "--priority", w->priority, 0.001, 1e6, err)) < 0 ||
        (result = put_real(spec, "alpha", "--alpha", w->alpha, 0.001, 1e6, err)) < 0 ||
        (result = put_real(spec, "beta", "--beta", w->beta, -1e6, 1e6, err)) < 0 ||
        (result = put_real(spec, "keep_free", "--keep-free", w->keep_free, 0, 0.999, err)) < 0 ||
        (result = put_number(spec, "instances_max", "--instances", w->instances, err)) < 0 ||
        (result = put_overcommit(spec, w->overcommit, err)) < 0)
        return result;
    if (w->policy)
        json_object_set_new(spec, "policy", json_string(w->policy));
    if (w->network)
        json_object_set_new(spec, "network", *w->network ? json_string(w->network) : json_null());
    if (w->drf || w->no_drf)
        json_object_set_new(spec, "drf", json_boolean(w->drf));
    return 0;
}

static int print(const json_t *document)
{
    json_dumpf(document, stdout, JSON_INDENT(2));
    putchar('\n');
    return 0;
}

static double number(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

static const char *text(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name)) ?: "";
}

static int create(const struct words *w, struct err *err)
{
    json_t *spec = json_pack("{s:s}", "name", w->names[1]);
    CLEANUP(json_decrefp) json_t *answer = NULL;
    int result = put_spec(w, spec, err);

    if (result < 0) {
        json_decref(spec);
        return result;
    }
    if ((result = api_ask("POST", "/v1/environments", spec, &answer, NULL, err)) < 0)
        return result;
    if (w->json)
        return print(answer);
    puts(w->names[1]);
    return 0;
}

static void quota(const json_t *environment, const char *name, double unit, char ret[16])
{
    if (json_is_number(json_object_get(environment, name)))
        snprintf(ret, 16, "%.6g", number(environment, name) / unit);
    else
        snprintf(ret, 16, "-");
}

static int list(const struct words *w, struct err *err)
{
    CLEANUP(json_decrefp) json_t *answer = NULL;
    const json_t *all;
    int result = api_ask("GET", "/v1/environments", NULL, &answer, NULL, err);

    if (result < 0)
        return result;
    all = json_object_get(answer, "environments");
    if (w->json)
        return print(all);
    printf("%-20s %8s %10s %9s %-12s %9s %s\n", "ENVIRONMENT", "CPUS", "MEMORY/MiB", "PRIORITY",
           "POLICY", "INSTANCES", "NETWORK");
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *e = json_array_get(all, i);
        char cpus[16], memory[16], policy[16], instances[32];

        quota(e, "cores", 1, cpus);
        quota(e, "memory_bytes", (double)MIB, memory);
        snprintf(policy, sizeof(policy), "%s%s", text(e, "policy"),
                 json_is_true(json_object_get(e, "drf")) ? "+drf" : "");
        snprintf(instances, sizeof(instances), "%.0f/%.0f", number(e, "running"),
                 number(e, "instances"));
        printf("%-20s %8s %10s %9.6g %-12s %9s %s\n", text(e, "name"), cpus, memory,
               number(e, "priority"), policy, instances, text(e, "network"));
    }
    return 0;
}

static int inspect(const struct words *w, struct err *err)
{
    CLEANUP(json_decrefp) json_t *all = json_array();
    int result = 0;

    for (int i = 1; i <= w->nr && result == 0; i++) {
        char path[MANAGED_PATH_MAX];
        json_t *answer = NULL;

        managed_path_of(path, "environments", w->names[i], "?measure=1");
        if ((result = api_ask("GET", path, NULL, &answer, NULL, err)) == 0)
            json_array_append_new(all, answer);
    }
    return result < 0 ? result : print(all);
}

static int update(const struct words *w, struct err *err)
{
    CLEANUP(json_decrefp) json_t *changes = json_object();
    int result = put_spec(w, changes, err);

    if (result == 0 && !json_object_size(changes))
        result = err_set(err, -EINVAL, "what is to change? See lodge env --help");
    for (int i = 1; i <= w->nr && result == 0; i++) {
        char path[MANAGED_PATH_MAX];

        managed_path_of(path, "environments", w->names[i], "");
        result = api_ask("PATCH", path, json_incref(changes), NULL, NULL, err);
    }
    return result;
}

static int remove_them(const struct words *w, struct err *err)
{
    int result = 0;

    for (int i = 1; i <= w->nr && result == 0; i++) {
        char path[MANAGED_PATH_MAX];

        managed_path_of(path, "environments", w->names[i], "");
        if ((result = api_ask("DELETE", path, NULL, NULL, NULL, err)) == 0)
            puts(w->names[i]);
    }
    return result;
}

/* Two bars for each member: what it is entitled to, and what it used of the capacity just now. */
static int draw(const json_t *environment, struct buf *out)
{
    const json_t *members = json_object_get(environment, "members");
    size_t nr = json_array_size(members), kept = 0;
    CLEANUP(freep) char(*names)[96] = calloc(2 * nr + 1, sizeof(*names));
    CLEANUP(freep) const char **pointers = calloc(2 * nr + 1, sizeof(*pointers));
    CLEANUP(freep) double *values = calloc(2 * nr + 1, sizeof(*values));
    double capacity = number(environment, "capacity_cores");
    char title[160];

    if (!names || !pointers || !values)
        return -ENOMEM;
    for (size_t i = 0; i < nr; i++) {
        const json_t *member = json_array_get(members, i);
        const double amounts[] = {number(member, "cores"), number(member, "used_cores")};

        for (unsigned k = 0; k < 2; k++) {
            snprintf(names[kept], sizeof(names[kept]), "%.63s %s %.3g", text(member, "name"),
                     k ? "used" : "entitled to", amounts[k]);
            pointers[kept] = names[kept];
            values[kept++] = capacity > 0 ? MIN(MAX(amounts[k] / capacity, 0.0), 1.0) : 0;
        }
    }
    snprintf(title, sizeof(title), "Environment %s: parts of %.4g processors",
             text(environment, "name"), capacity);
    return chart_bars(out, title, pointers, values, kept);
}

static int chart(const struct words *w, struct err *err)
{
    CLEANUP(json_decrefp) json_t *answer = NULL;
    CLEANUP(buf_donep) struct buf out;
    char path[MANAGED_PATH_MAX];
    int result;

    buf_init(&out, CHART_BYTES_MAX);
    managed_path_of(path, "environments", w->names[1], "?measure=1");
    if ((result = api_ask("GET", path, NULL, &answer, NULL, err)) < 0)
        return result;
    if (draw(answer, &out) < 0)
        return err_set(err, -ENOMEM, "chart: out of memory");
    if (!w->output) {
        fwrite(out.data, 1, out.length, stdout);
        return 0;
    }
    return file_replace(AT_FDCWD, w->output, out.data, out.length, 0644, err);
}

static const struct {
    const char *name;
    int (*run)(const struct words *w, struct err *err);
    int least, most;
} verbs[] = {
    {"create", create, 1, 1},  {"ls", list, 0, 0},         {"inspect", inspect, 1, 64},
    {"update", update, 1, 64}, {"rm", remove_them, 1, 64}, {"chart", chart, 1, 1},
};

static int run(int argc, char **argv)
{
    struct words w = {0};
    const struct managed_option options[] = {
        {"--cpus", 0, NULL, &w.cpus},           {"--memory", 'm', NULL, &w.memory},
        {"--priority", 0, NULL, &w.priority},   {"--alpha", 0, NULL, &w.alpha},
        {"--beta", 0, NULL, &w.beta},           {"--overcommit", 0, NULL, &w.overcommit},
        {"--policy", 0, NULL, &w.policy},       {"--net", 0, NULL, &w.network},
        {"--instances", 0, NULL, &w.instances}, {"--keep-free", 0, NULL, &w.keep_free},
        {"--output", 'o', NULL, &w.output},     {"--drf", 0, &w.drf, NULL},
        {"--no-drf", 0, &w.no_drf, NULL},       {"--json", 0, &w.json, NULL}};
    struct err err = ERR_INIT;

    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(verbs); i++) {
        if (strcmp(argv[1], verbs[i].name) != 0)
            continue;
        w.names = argv + 1;
        if ((w.nr = managed_parse(&verb_env, options, ARRAY_LEN(options), argc - 1, argv + 1)) < 0)
            return CLI_EXIT_USAGE;
        if (w.nr < verbs[i].least || w.nr > verbs[i].most)
            return cli_usage_error(&verb_env, "%s: %s", verbs[i].name,
                                   verbs[i].most ? "the name of an environment is needed"
                                                 : "no name is needed");
        return verbs[i].run(&w, &err) < 0 ? managed_fail(&err) : 0;
    }
    return cli_usage_error(&verb_env, "create, ls, inspect, update, rm or chart is needed");
}

const struct cli_verb verb_env = {
    .name = "env",
    .summary = "Makes and changes environments: groups of instances with a quota",
    .usage = "env create NAME [options] | ls | inspect NAME... | update NAME... [options] | rm "
             "NAME... | chart NAME [-o FILE]",
    .help =
        "An instance joins one by option `in` of `lodge run`, and moves by that of `lodge "
        "update`.\n"
        "'default' is what has none: its settings are the host's own.\n"
        "\n"
        "  --cpus N           processors that all members may use together (2, 0.5; 0: no quota)\n"
        "  -m, --memory SIZE  memory likewise\n"
        "  --priority N       its weight among the environments (1)\n"
        "  --alpha, --beta N  of members that have none of their own: weight R = alpha P + beta T\n"
        "  --policy P         static: parts as if all wanted everything; dynamic: by use and "
        "pressure\n"
        "  --drf, --no-drf    equal dominant shares of processors and memory\n"
        "  --overcommit F     reservations up to F times the quota; or cpu=F,memory=F (1)\n"
        "  --instances N      so many may run at once (0: any number)\n"
        "  --keep-free PART   of memory: with less available members give theirs back (0.1)\n"
        "  --net NAME         network of members that name none\n"
        "  -o, --output FILE  of chart: where the SVG goes (standard output)\n"
        "  --json             of create and ls: machine-readable\n",
    .run = run,
};
