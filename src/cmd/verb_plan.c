/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge plan: questions about performance before money is spent. The commands are in plan_NAME.c;
 * here their words are taken apart and their results printed.
 */
#include "cmd/cli.h"
#include "cmd/plan.h"

#include "base/log.h"
#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct plan_option common[] = {
    {"json", NULL, "the whole result as JSON"},
    {"csv", NULL, "the result's first table as CSV"},
};

static const struct plan_command *const commands[] = {
    &plan_formula, &plan_schedule, &plan_compare,   &plan_trace, &plan_predict,
    &plan_what_if, &plan_place,    &plan_rebalance, &plan_fit,   &plan_from_host};

const struct plan_command *plan_command_at(size_t i)
{
    return i < ARRAY_LEN(commands) ? commands[i] : NULL;
}

void plan_complete(const struct plan_command *command, size_t nr_words, char **words,
                   void (*offer)(const char *candidate, void *context), void *context)
{
    const char *before = nr_words > 1 ? words[nr_words - 2] : "";

    for (const struct plan_option *o = command->options; o->name; o++) {
        char option[64];

        snprintf(option, sizeof(option), "--%s", o->name);
        if (o->value && !strcmp(before, option))
            return; /* its value is being typed */
        if (words[nr_words - 1][0] == '-')
            offer(option, context);
    }
}

const char *plan_value(const struct plan_arguments *arguments, const char *name)
{
    for (size_t i = 0; i < arguments->nr_options; i++)
        if (!strcmp(arguments->options[i].name, name))
            return arguments->values[i];
    return NULL;
}

int plan_number(const struct plan_arguments *arguments, const char *name, double least, double most,
                double *ret, struct err *err)
{
    const char *text = plan_value(arguments, name);
    char *end;
    double value;

    if (!text)
        return 0;
    value = strtod(text, &end);
    if (end == text || *end)
        return err_set(err, -EINVAL, "--%s '%.60s' is not a number", name, text);
    if (!(value >= least && value <= most))
        return err_set(err, -ERANGE, "--%s %g is not in %g to %g", name, value, least, most);
    *ret = value;
    return 0;
}

static int command_usage(const struct plan_command *command, const char *format, const char *word)
{
    fprintf(stderr, "lodge: plan %s: ", command->name);
    fprintf(stderr, "%s '%s'", format, word);
    fprintf(stderr, "\nusage: lodge plan %s %s\nSee: lodge plan %s --help\n", command->name,
            command->usage, command->name);
    return CLI_EXIT_USAGE;
}

static void command_help(const struct plan_command *command)
{
    printf("usage: lodge plan %s %s\n%c%s.\n\n%s", command->name, command->usage,
           command->summary[0] - ('a' <= command->summary[0] && command->summary[0] <= 'z') * 32,
           command->summary + 1, command->text ? command->text : "");
    for (const struct plan_option *o = command->options; o->name; o++) {
        char option[64];

        snprintf(option, sizeof(option), "--%s%s%s", o->name, o->value ? " " : "",
                 o->value ? o->value : "");
        printf("%-26s %s\n", option, o->meaning);
    }
    for (size_t i = 0; i < ARRAY_LEN(common); i++)
        printf("--%-24s %s\n", common[i].name, common[i].meaning);
}

/* 0, or the exit status of wrong usage. */
static int parse(const struct plan_command *command, int argc, char **argv,
                 struct plan_arguments *a, struct plan_option *options)
{
    for (const struct plan_option *o = command->options;
         o->name && a->nr_options + ARRAY_LEN(common) < PLAN_OPTIONS_MAX; o++)
        options[a->nr_options++] = *o;
    for (size_t i = 0; i < ARRAY_LEN(common); i++)
        options[a->nr_options++] = common[i];
    a->options = options;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *equals;
        size_t length, k = 0;

        if (word[0] != '-' || word[1] == '\0') {
            if (a->nr_positionals == PLAN_POSITIONALS_MAX)
                return command_usage(command, "too many words, at", word);
            a->positionals[a->nr_positionals++] = word;
            continue;
        }
        word += word[1] == '-' ? 2 : 1;
        equals = strchr(word, '=');
        length = equals ? (size_t)(equals - word) : strlen(word);
        while (k < a->nr_options &&
               (strlen(options[k].name) != length || strncmp(options[k].name, word, length) != 0))
            k++;
        if (k == a->nr_options)
            return command_usage(command, "unknown option", argv[i]);
        if (!options[k].value)
            a->values[k] = "";
        else if (equals)
            a->values[k] = equals + 1;
        else if (i + 1 < argc)
            a->values[k] = argv[++i];
        else
            return command_usage(command, "a value is missing after", argv[i]);
    }
    return 0;
}

static int run_command(const struct plan_command *command, int argc, char **argv)
{
    struct plan_option options[PLAN_OPTIONS_MAX];
    struct plan_arguments arguments = {0};
    struct err err = ERR_INIT;
    json_t *result = NULL;
    int r;

    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            command_help(command);
            return 0;
        }
    if ((r = parse(command, argc, argv, &arguments, options)) != 0)
        return r;
    if (command->run(&arguments, &result, &err) < 0) {
        log_error("plan %s: %s", command->name, err.message);
        return CLI_EXIT_FAILURE;
    }
    if (plan_value(&arguments, "json"))
        plan_print_json(result);
    else if (plan_value(&arguments, "csv"))
        plan_print_csv(result);
    else
        plan_print_tables(result);
    json_decref(result);
    return fflush(stdout) == 0 ? 0 : CLI_EXIT_FAILURE;
}

static int run(int argc, char **argv)
{
    const char *names[ARRAY_LEN(commands) + 1], *nearest;
    size_t i;

    if (argc < 2) {
        cli_print_help(&verb_plan);
        return CLI_EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--from-host")) /* as other programs write it */
        argv[1] += 2;
    for (i = 0; i < ARRAY_LEN(commands); i++) {
        names[i] = commands[i]->name;
        if (!strcmp(argv[1], commands[i]->name))
            return run_command(commands[i], argc - 1, argv + 1);
    }
    names[i] = NULL;
    nearest = cli_nearest(argv[1], names);
    return cli_usage_error(&verb_plan, "there is no command '%s'%s%s%s", argv[1],
                           nearest ? "; did you mean '" : "", nearest ? nearest : "",
                           nearest ? "'?" : "");
}

const struct cli_verb verb_plan = {
    .name = "plan",
    .summary = "Predicts how much fits, how fast it will be, and which policy serves best",
    .usage = "plan COMMAND [ARGUMENT...]",
    .help = "formula    an analytic model by name: queues, networks of queues, migration\n"
            "schedule   jobs of a file under one policy, with a Gantt chart\n"
            "compare    the policies side by side on the same jobs\n"
            "trace      a recorded workload under one policy\n"
            "predict    throughput, latency and utilisation of a service over its load\n"
            "what-if    a scenario, or jobs, with changes\n"
            "fit        how many more of an instance there is room for, what breaks first\n"
            "place      where instances would go, and why\n"
            "rebalance  which instances would move, and what that costs\n"
            "from-host  a scenario from what this host counts\n"
            "--help after a command says more. Every command takes\n"
            "--json     the whole result as JSON\n"
            "--csv      its first table as CSV\n",
    .run = run,
};
