/* SPDX-License-Identifier: Apache-2.0 */
/* lodge explain: why an instance has what it has. */
#include "cmd/cli.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/job_cli.h"
#include "cmd/managed.h"

#include <stdio.h>
#include <string.h>

static double number(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

static const char *text(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name)) ?: "";
}

static void print_weight(const json_t *weight)
{
    printf(
        "  weight      R = alpha * P + beta * T = %.6g * %.6g + %.6g * %.6g s = %.6g (%.3g %% of "
        "all weights)\n",
        number(weight, "alpha"), number(weight, "priority"), number(weight, "beta"),
        number(weight, "run_seconds"), number(weight, "value"), 100 * number(weight, "fraction"));
}

/* With dominant-resource fairness there is no water level. */
static void print_dominance(const json_t *itself)
{
    if (json_is_number(json_object_get(itself, "dominant_share")))
        printf("  dominant    its share of %s, %.1f %%, is the largest that it has of anything: "
               "made equal by weight\n",
               text(itself, "dominant_resource"), 100 * number(itself, "dominant_share"));
}

static void print_bound(const json_t *share, bool levelled, double unit, const char *unit_name)
{
    const json_t *limit = json_object_get(share, "limit"), *level = json_object_get(share, "level");

    printf("              %.6g of %.6g %s: %s\n", number(share, "amount") / unit,
           number(share, "capacity") / unit, unit_name, text(share, "bound"));
    printf("              reservation %.6g", number(share, "reservation") / unit);
    if (json_is_number(limit))
        printf(", limit %.6g", json_number_value(limit) / unit);
    else
        printf(", no limit");
    if (!levelled)
        putchar('\n');
    else if (json_is_number(level))
        printf(", water level %.6g %s a weight\n", json_number_value(level) / unit, unit_name);
    else
        printf(", no water level: there is enough for all\n");
    printf("              %.6g if all wanted everything\n", number(share, "entitled") / unit);
}

static void print_count(const json_t *measured, const char *title, const char *name, double unit,
                        const char *unit_name)
{
    const json_t *value = json_object_get(measured, name);

    if (json_is_number(value))
        printf("              %-22s %.6g %s\n", title, json_number_value(value) / unit, unit_name);
}

static void print_measured(const json_t *measured)
{
    static const char *const names[] = {"cpu", "memory", "io"};
    const json_t *pressure = json_object_get(measured, "pressure");

    if (!json_is_object(measured)) {
        printf("  measured    nothing: it has no cgroup of its own (a manager without rights)\n");
        return;
    }
    printf("  measured    %.4g cores just now, by the kernel's counters; since its start:\n",
           number(measured, "used_cores"));
    print_count(measured, "run (T)", "run_ns", 1e9, "s");
    print_count(measured, "ready, waiting (W)", "waiting_ns", 1e9, "s");
    print_count(measured, "throttled by its cap", "throttled_ns", 1e9, "s");
    print_count(measured, "memory", "memory_bytes", (double)MIB, "MiB");
    print_count(measured, "of it pages of files", "reclaimable_bytes", (double)MIB, "MiB");
    print_count(measured, "reclaim", "reclaimed", 1, "");
    print_count(measured, "device requests (V)", "io_requests", 1, "");
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (json_is_number(json_object_get(pressure, names[i])))
            printf("              stalled for %-10s %.2f %% of the last 10 s\n", names[i],
                   100 * number(pressure, names[i]));
}

static void print_competitors(const json_t *answer)
{
    const json_t *others = json_object_get(answer, "competitors");

    if (!json_array_size(others)) {
        printf("  competitors none in its environment\n");
        return;
    }
    printf("  competitors %-24s %-11s %8s %8s %8s  %s\n", "", "", "WEIGHT", "CORES", "USED", "");
    for (size_t i = 0; i < json_array_size(others); i++) {
        const json_t *one = json_array_get(others, i);

        printf("              %-24s %-11s %8.4g %8.4g %8.4g  %s\n", text(one, "name"),
               text(one, "kind"), number(one, "weight"), number(one, "cores"),
               number(one, "used_cores"), text(one, "bound"));
    }
}

static void print_answer(const json_t *answer)
{
    const json_t *cpu = json_object_get(answer, "cpu"),
                 *written = json_object_get(answer, "written");
    const json_t *above = json_object_get(answer, "above");
    bool drf = json_is_true(json_object_get(answer, "drf"));

    printf("%s: %s in environment %s, policy %s%s\n", text(answer, "instance"),
           text(answer, "isolation"), text(answer, "environment"), text(answer, "policy"),
           drf ? ", dominant-resource fairness" : "");
    printf("  rule        %s\n", text(answer, "rule"));
    print_weight(json_object_get(answer, "weight"));
    print_dominance(json_object_get(answer, "itself"));
    printf("  processors\n");
    print_bound(cpu, !drf, 1, "cores");
    printf("  memory\n");
    print_bound(json_object_get(answer, "memory"), !drf, (double)MIB, "MiB");
    if (json_is_object(above))
        printf("  environment %s has %.6g of %.6g cores: %s\n", text(answer, "environment"),
               number(above, "amount"), number(above, "capacity"), text(above, "bound"));
    printf("  kernel      %s: cpu.shares %.0f (cpu.weight %.0f), ", text(written, "cgroup"),
           number(written, "cpu_shares"), number(written, "cpu_weight"));
    if (number(written, "quota_us") > 0)
        printf("at most %.0f of %.0f us\n", number(written, "quota_us"),
               number(written, "period_us"));
    else
        printf("no cap\n");
    if (number(answer, "memory_target_bytes") > 0)
        printf("  balloon     leaves it %.0f MiB: the host is short of memory\n",
               number(answer, "memory_target_bytes") / (double)MIB);
    print_measured(json_object_get(answer, "measured"));
    print_competitors(answer);
}

static int run(int argc, char **argv)
{
    bool json = false;
    const struct managed_option options[] = {{"--json", 0, &json, NULL}};
    int nr = managed_parse(&verb_explain, options, 1, argc, argv), status = 0;

    if (nr < 0)
        return CLI_EXIT_USAGE;
    if (nr == 0)
        return cli_usage_error(&verb_explain, "which instance?");
    for (int i = 1; i <= nr; i++) {
        CLEANUP(json_decrefp) json_t *answer = NULL;
        char path[MANAGED_PATH_MAX];
        struct err err = ERR_INIT;

        managed_path(path, argv[i], "/explain");
        if (api_ask("GET", path, NULL, &answer, NULL, &err) < 0) {
            struct err of_job = ERR_INIT;

            /* A number that is no instance's is a job's. */
            if (json || argv[i][strspn(argv[i], "0123456789")] ||
                job_explain_one(argv[i], &of_job) < 0)
                status = managed_fail(&err);
        } else if (json) {
            json_dumpf(answer, stdout, JSON_INDENT(2));
            putchar('\n');
        } else {
            print_answer(answer);
        }
    }
    return status;
}

const struct cli_verb verb_explain = {
    .name = "explain",
    .summary = "Says why an instance has what it has of the host",
    .usage = "explain [--json] INSTANCE|JOB...",
    .help = "Its weight with all terms, reservation, limit and water level, what the kernel was "
            "told,\n"
            "what the kernel's counters say it used, and who else competes.\n"
            "Of a job, by its number: the queue's rule, its place, and what was decided and why.\n"
            "  --json  all of it, machine-readable (a job: lodge job inspect)\n",
    .run = run,
};
