/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may follow depends on the words before: first the verb, then its options and their values,
 * for `run` up to the image. `run` brings its own table of options, the others are listed here.
 */
#include "cmd/completion.h"

#include "base/util.h"
#include "cmd/cli.h"
#include "cmd/plan.h"
#include "cmd/remote.h"
#include "cmd/run_options.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct completion {
    const struct completion_names *names;
    const char *word;   /* what candidates must begin with */
    const char *prefix; /* what stands before it in the same word */
    size_t prefix_length;
    void (*offer)(const char *candidate, void *context);
    void *context;
};

/* What an option's value is. `run` has its own table of options. */
static const struct value_kind {
    const char *option;
    const char *const *values; /* NULL-terminated */
    char kind;                 /* f files, d directories, i images, k kernels, 0: none of these */
} value_kinds[] = {
    {"--engine", (const char *const[]){"auto", "kvm", "soft", NULL}, 0},
    {"--net", (const char *const[]){"none", "user", NULL}, 0},
    {"--restart", (const char *const[]){"no", "on-failure", "always", "unless-stopped", NULL}, 0},
    {"--condition", (const char *const[]){"exited", "running", "healthy", "removed", NULL}, 0},
    {"--isolation", (const char *const[]){"container", "vm", NULL}, 0},
    {"--state",
     (const char *const[]){"created", "starting", "running", "paused", "stopping", "exited", NULL},
     0},
    {"--boot", (const char *const[]){"cdrom", "disk", "kernel", NULL}, 0},
    {"--cdrom", NULL, 'f'},
    {"--initrd", NULL, 'f'},
    {"--kernel", NULL, 'k'},
    {"--volume", NULL, 'f'},
    {"--profile", NULL, 'f'},
    {"--root-layer", NULL, 'f'},
    {"--symbols", NULL, 'f'},
    {"--initramfs", NULL, 'k'},
    {"--disk", NULL, 'i'},
    {"--output", NULL, 'f'},
    {"--format", (const char *const[]){"raw", "qcow2", NULL}, 0},
    {"--to", (const char *const[]){"raw", "qcow2", NULL}, 0},
    {"--authfile", NULL, 'f'},
    {"--policy",
     (const char *const[]){"fcfs", "sjf", "srtf", "rr", "priority", "stride", "lottery", NULL}, 0},
    {"--logs", NULL, 'f'},
    {"--devices", (const char *const[]){"skip", "refuse", "make", NULL}, 0},
};

/* In a list of words: the names of instances. */
#define INSTANCES ":instances"
/* Of virtual machines that run. */
#define MACHINES ":machines"

static const struct verb_words {
    const char *verb;
    const char *const *words;        /* options and other words, NULL-terminated */
    const char *const *with_a_value; /* those of them that take the next word */
} verb_words[] = {
    {"images", (const char *const[]){"--json", NULL}, (const char *const[]){NULL}},
    {"image",
     (const char *const[]){"ls",          "import",   "pull",      "push",       "save",
                           "tag",         "rm",       "prune",     "inspect",    "history",
                           "--json",      "--quiet",  "--all",     "--force",    "--insecure",
                           "--authfile",  "--output", "--devices", "--max-size", "--max-files",
                           "--max-ratio", "--local",  NULL},
     (const char *const[]){"--authfile", "--output", "-o", "--devices", "--max-size", "--max-files",
                           "--max-ratio", NULL}},
    {"disk",
     (const char *const[]){"ls",     "create",    "inspect", "resize",      "convert",  "snapshot",
                           "check",  "attach",    "detach",  "--read-only", INSTANCES,  "rm",
                           "--json", "--quiet",   "--force", "--shrink",    "--repair", "--format",
                           "--to",   "--backing", "--local", NULL},
     (const char *const[]){"--format", "--to", "--backing", NULL}},
    {"vm", (const char *const[]){"create",   "ls",       "inspect",  "update",     "start",
                                 "stop",     "delete",   "console",  "attach-net", "detach-net",
                                 "--memory", "--cpus",   "--boot",   "--disk",     "--net",
                                 "--cdrom",  "--kernel", "--initrd", "--cmdline",  "--restart",
                                 "--engine", "--time",   "--force",  "--json",     INSTANCES,
                                 NULL},
     (const char *const[]){"--memory", "-m", "--cpus", "-c", "--boot", "--disk", "--net", "--cdrom",
                           "--kernel", "--initrd", "--cmdline", "--restart", "--engine", "--time",
                           "-t", NULL}},
    {"volume",
     (const char *const[]){"create", "ls", "inspect", "rm", "prune", "--json", "--size", NULL},
     (const char *const[]){"--size", NULL}},
    {"network",
     (const char *const[]){"create", "ls", "inspect", "rm", "connect", "disconnect", "--json",
                           "--subnet", "--mtu", "--no-ipv6", "--internal", "--ip", INSTANCES, NULL},
     (const char *const[]){"--subnet", "--mtu", "--ip", NULL}},
    {"job", (const char *const[]){"run",        "submit",
                                  "ls",         "inspect",
                                  "explain",    "logs",
                                  "wait",       "cancel",
                                  "update",     "rm",
                                  "queue",      "stats",
                                  "chart",      "--policy",
                                  "--quantum",  "--preemptive",
                                  "--ageing",   "--servers",
                                  "--slots",    "--cpus",
                                  "--memory",   "--backfill",
                                  "--logs",     "--json",
                                  "--quiet",    "--queue",
                                  "--name",     "--count",
                                  "--wait",     "--restartable",
                                  "--estimate", "--priority",
                                  "--tickets",  "--all",
                                  "--state",    "--limit",
                                  "--follow",   "--tail",
                                  "--force",    "--hold",
                                  "--release",  "--keep",
                                  "--output",   "--timeout",
                                  "--vm",       NULL},
     (const char *const[]){
         "--policy", "--quantum", "--ageing", "--servers", "--slots",    "--cpus",     "--memory",
         "--logs",   "--queue",   "--name",   "--count",   "--estimate", "--priority", "--tickets",
         "--state",  "--limit",   "--tail",   "--keep",    "--output",   "--timeout",  NULL}},
    {"stats", (const char *const[]){"--json", "--all", "--follow", INSTANCES, MACHINES, NULL},
     (const char *const[]){NULL}},
    {"doctor", (const char *const[]){"--json", NULL}, (const char *const[]){NULL}},
    {"kernels", (const char *const[]){"--json", "--initramfs", "--module", "--disk", NULL},
     (const char *const[]){"--initramfs", "--module", "--disk", NULL}},
    {"completion", (const char *const[]){"bash", "zsh", NULL}, (const char *const[]){NULL}},
    {"events", (const char *const[]){"--json", "--since", NULL},
     (const char *const[]){"--since", NULL}},
    {"ps",
     (const char *const[]){"--all", "--quiet", "--json", "--label", "--name", "--state",
                           "--isolation", NULL},
     (const char *const[]){"--label", "-l", "--name", "--state", "--isolation", NULL}},
    {"start", (const char *const[]){INSTANCES, NULL}, (const char *const[]){NULL}},
    {"stop", (const char *const[]){"--time", "--signal", INSTANCES, NULL},
     (const char *const[]){"--time", "-t", "--signal", "-s", NULL}},
    {"restart", (const char *const[]){"--time", "--signal", INSTANCES, NULL},
     (const char *const[]){"--time", "-t", "--signal", "-s", NULL}},
    {"pause", (const char *const[]){INSTANCES, NULL}, (const char *const[]){NULL}},
    {"resume", (const char *const[]){INSTANCES, NULL}, (const char *const[]){NULL}},
    {"kill", (const char *const[]){"--signal", INSTANCES, NULL},
     (const char *const[]){"--signal", "-s", NULL}},
    {"rm", (const char *const[]){"--force", INSTANCES, NULL}, (const char *const[]){NULL}},
    {"exec",
     (const char *const[]){"--interactive", "--tty", "--env", "--user", "--workdir", INSTANCES,
                           NULL},
     (const char *const[]){"--env", "-e", "--user", "-u", "--workdir", "-w", NULL}},
    {"operation",
     (const char *const[]){"ls", "inspect", "wait", "cancel", "--all", "--json", "--quiet", NULL},
     (const char *const[]){NULL}},
    {"cp", (const char *const[]){"--archive", "--quiet", INSTANCES, NULL},
     (const char *const[]){NULL}},
    {"attach", (const char *const[]){"--no-stdin", INSTANCES, NULL}, (const char *const[]){NULL}},
    {"logs",
     (const char *const[]){"--follow", "--tail", "--since", "--timestamps", INSTANCES, NULL},
     (const char *const[]){"--tail", "-n", "--since", NULL}},
    {"inspect", (const char *const[]){INSTANCES, NULL}, (const char *const[]){NULL}},
    {"top", (const char *const[]){"--json", "--all", INSTANCES, NULL}, (const char *const[]){NULL}},
    {"wait", (const char *const[]){"--condition", "--timeout", INSTANCES, NULL},
     (const char *const[]){"--condition", "--timeout", NULL}},
    {"rename", (const char *const[]){INSTANCES, NULL}, (const char *const[]){NULL}},
    {"update",
     (const char *const[]){"--memory", "--cpu-millis", "--cpu-shares", "--pids", "--io-weight",
                           "--restart", "--cpus", "--cpu-max", "--priority", "--alpha", "--beta",
                           "--reserve-cpu", "--reserve-memory", "--cpuset", "--in", INSTANCES,
                           NULL},
     (const char *const[]){"--memory", "-m", "--cpu-millis", "--cpu-shares", "--pids",
                           "--io-weight", "--restart", "--cpus", "--cpu-max", "--priority",
                           "--alpha", "--beta", "--reserve-cpu", "--reserve-memory", "--cpuset",
                           "--in", NULL}},
    {"explain", (const char *const[]){"--json", INSTANCES, NULL}, (const char *const[]){NULL}},
    {"env",
     (const char *const[]){
         "create",       "ls",          "inspect",     "update", "rm",       "chart",  "--cpus",
         "--memory",     "--priority",  "--alpha",     "--beta", "--policy", "--drf",  "--no-drf",
         "--overcommit", "--instances", "--keep-free", "--net",  "--output", "--json", NULL},
     (const char *const[]){"--cpus", "--memory", "-m", "--priority", "--alpha", "--beta",
                           "--policy", "--overcommit", "--instances", "--keep-free", "--net",
                           "--output", "-o", NULL}},
    {"balance",
     (const char *const[]){"--dry-run", "--hosts", "--aim", "--host", "--threshold", "--moves",
                           "--json", NULL},
     (const char *const[]){"--hosts", "--aim", "--host", "--threshold", "--moves", NULL}},
};

static void offer_word(const char *candidate, void *context)
{
    struct completion *c = context;
    char whole[512];

    if (strncmp(candidate, c->word, strlen(c->word)) != 0)
        return;
    snprintf(whole, sizeof(whole), "%.*s%s", (int)MIN(c->prefix_length, (size_t)200), c->prefix,
             candidate);
    c->offer(whole, c->context);
}

static void offer_list(struct completion *c, const char *const *list)
{
    for (; list && *list; list++) {
        if (strcmp(*list, INSTANCES) != 0 && strcmp(*list, MACHINES) != 0)
            offer_word(*list, c);
        else if (c->word[0] != '-' && !strcmp(*list, INSTANCES))
            c->names->instances(offer_word, c);
        else if (c->word[0] != '-')
            c->names->machines(offer_word, c);
    }
}

static void offer_value(struct completion *c, const char *option)
{
    for (size_t i = 0; i < ARRAY_LEN(value_kinds); i++) {
        const struct value_kind *kind = &value_kinds[i];

        if (strcmp(kind->option, option) != 0)
            continue;
        offer_list(c, kind->values);
        if (!strcmp(option, "--engine") && !strncmp(c->word, "soft,", 5))
            offer_list(c, (const char *const[]){"soft,tier=interp", "soft,tier=translate", NULL});
        if (kind->kind == 'i')
            c->names->images(offer_word, c);
        if (kind->kind == 'k')
            c->names->kernels(offer_word, c);
        if (kind->kind == 'f' || (kind->kind == 'k' && strchr(c->word, '/')))
            c->offer(COMPLETION_FILES, c->context);
    }
}

static bool in_list(const char *const *list, const char *word)
{
    for (; list && *list; list++)
        if (!strcmp(*list, word))
            return true;
    return false;
}

/* The option whose value the word after `word` is, or NULL. */
static const char *awaiting(const struct verb_words *verb, const char *word)
{
    if (!verb)
        return run_option_awaiting(word);
    return in_list(verb->with_a_value, word) ? word : NULL;
}

/* Which option the last word is the value of (NULL: none); *ret_image: the image stands before. */
static const char *find_option(const struct verb_words *verb, size_t nr, char **words,
                               bool *ret_image)
{
    const char *option = NULL;

    *ret_image = false;
    for (size_t i = 0; i + 1 < nr && !*ret_image; i++) {
        if (option) {
            option = NULL;
            continue;
        }
        if (!strcmp(words[i], "--")) {
            *ret_image = i + 2 < nr;
            return NULL;
        }
        option = awaiting(verb, words[i]);
        *ret_image = !option && words[i][0] != '-';
    }
    return option;
}

static void complete_run(struct completion *c)
{
    if (c->word[0] == '-') {
        for (size_t i = 0; run_option_name(i); i++)
            offer_word(run_option_name(i), c);
        offer_word("--help", c);
    } else if (strchr(c->word, '/') || c->word[0] == '.') {
        c->offer(COMPLETION_DIRS, c->context);
    } else {
        c->names->images(offer_word, c);
    }
}

/* What `lodge image SUBVERB` names: an image that there is, or a file to import. */
static void complete_image(struct completion *c, const char *subverb)
{
    if (!strcmp(subverb, "import"))
        c->offer(COMPLETION_FILES, c->context);
    else if (strcmp(subverb, "pull") != 0 && strcmp(subverb, "prune") != 0)
        c->names->images(offer_word, c);
}

/* "--name=value" as one word: the value is what is completed. */
static const char *split_value(struct completion *c, const struct verb_words *verb, char *name,
                               size_t size)
{
    const char *equals = c->word[0] == '-' ? strchr(c->word, '=') : NULL;

    if (!equals || (size_t)(equals - c->word) >= size)
        return NULL;
    snprintf(name, size, "%.*s", (int)(equals - c->word), c->word);
    c->prefix = c->word;
    c->prefix_length = (size_t)(equals + 1 - c->word);
    c->word = equals + 1;
    return awaiting(verb, name);
}

/* The commands of `plan` have options of their own: first the command, then its words. */
static void complete_plan(struct completion *c, size_t nr, char **words)
{
    const struct plan_command *command = NULL;

    for (size_t i = 0; plan_command_at(i); i++) {
        if (nr == 1)
            offer_word(plan_command_at(i)->name, c);
        else if (!strcmp(words[0], plan_command_at(i)->name))
            command = plan_command_at(i);
    }
    if (command)
        plan_complete(command, nr - 1, words + 1, offer_word, c);
    if (command && c->word[0] != '-')
        c->offer(COMPLETION_FILES, c->context);
    if (nr == 1 || command) {
        offer_list(c, (const char *const[]){"--json", "--csv", "--help", NULL});
    }
}

static void complete_arguments(struct completion *c, const char *name, size_t nr, char **words)
{
    const struct verb_words *verb = NULL;
    bool is_run = !strcmp(name, verb_run.name) || !strcmp(name, verb_create.name), image;
    const char *option;
    char long_name[64];

    for (size_t i = 0; i < ARRAY_LEN(verb_words); i++)
        if (!strcmp(verb_words[i].verb, name))
            verb = &verb_words[i];
    if (!strcmp(name, verb_help.name)) {
        for (size_t i = 0; nr == 1 && i < cli_nr_verbs; i++)
            offer_word(cli_verbs[i]->name, c);
        return;
    }
    if (!strcmp(name, verb_plan.name))
        complete_plan(c, nr, words);
    if (!verb && !is_run)
        return;
    option = find_option(verb, nr, words, &image);
    if (is_run && image)
        return; /* the guest's own command line */
    if (!option && c->word[0] == '-' && strchr(c->word, '=')) {
        if (!(option = split_value(c, verb, long_name, sizeof(long_name))))
            return;
    }
    if (option) {
        offer_value(c, option);
    } else if (is_run) {
        complete_run(c);
    } else if (!strcmp(name, verb_image.name) && nr > 1 && c->word[0] != '-') {
        complete_image(c, words[0]);
    } else {
        offer_list(c, verb->words);
        offer_word("--help", c);
    }
}

static const char *remote_option(const char *word, bool *ret_file)
{
    const char *option;

    for (size_t i = 0; (option = remote_option_at(i, ret_file)); i++)
        if (strlen(option) == strcspn(word, "=") && !strncmp(option, word, strlen(option)))
            return option;
    return NULL;
}

/* How many words before the verb say where the manager is; all of them: the last is a value. */
static size_t skip_remote(size_t nr, char **words, bool *ret_file)
{
    size_t at = 0;

    while (at < nr && remote_option(words[at], ret_file) && (at + 1 < nr || strchr(words[at], '=')))
        at += strchr(words[at], '=') ? 1 : 2;
    return at;
}

void completion_offer(const struct completion_names *names, size_t nr_words, char **words,
                      void (*offer)(const char *candidate, void *context), void *context)
{
    struct completion c = {.names = names, .prefix = "", .offer = offer, .context = context};
    bool file = false;
    size_t skipped;

    if (nr_words == 0)
        return;
    skipped = skip_remote(nr_words, words, &file);
    c.word = words[nr_words - 1];
    if (skipped >= nr_words) {
        if (file)
            offer(COMPLETION_FILES, context);
        return;
    }
    nr_words -= skipped;
    words += skipped;
    if (nr_words > 1) {
        complete_arguments(&c, words[0], nr_words - 1, words + 1);
        return;
    }
    for (size_t i = 0; i < cli_nr_verbs; i++)
        offer_word(cli_verbs[i]->name, &c);
    if (c.word[0] == '-') {
        offer_word("--help", &c);
        offer_word("--version", &c);
        for (size_t i = 0; remote_option_at(i, &file); i++)
            offer_word(remote_option_at(i, &file), &c);
    }
}
