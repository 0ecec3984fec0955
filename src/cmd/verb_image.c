/* SPDX-License-Identifier: Apache-2.0 */
/* lodge image: the subverbs, their options, and the progress bar that the slow ones share. */
#include "cmd/cli.h"
#include "cmd/image_cli.h"
#include "cmd/progress.h"

#include "base/cleanup.h"
#include "base/size.h"
#include "base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct subverb {
    const char *name;
    image_cli_fn *run;
    size_t least, most; /* arguments */
    const char *arguments;
} subverbs[] = {
    {"ls", image_cli_list, 0, 1, "[NAME]"},
    {"import", image_cli_import, 1, 2, "SOURCE [NAME[:TAG]]"},
    {"pull", image_cli_pull, 1, 2, "[HOST[:PORT]/]NAME[:TAG] [AS]"},
    {"push", image_cli_push, 1, 2, "IMAGE [[HOST[:PORT]/]NAME[:TAG]]"},
    {"save", image_cli_save, 1, 1, "IMAGE -o FILE"},
    {"tag", image_cli_tag, 2, 2, "IMAGE NAME[:TAG]"},
    {"rm", image_cli_remove, 1, IMAGE_ARGUMENTS_MAX, "IMAGE..."},
    {"prune", image_cli_prune, 0, 0, ""},
    {"inspect", image_cli_inspect, 1, 1, "IMAGE"},
    {"history", image_cli_history, 1, 1, "IMAGE"},
};

static void show(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct image_cli *cli = context;

    if (cli->report && !*what)
        return; /* how far it came stays */
    if (cli->report)
        report_progress(&cli->reported, what, done, total);
    else
        progress_show(&cli->progress, what, done, total);
}

static int parse_devices(const char *value, struct image_cli *cli, struct err *err)
{
    static const char *const names[] = {[UNPACK_DEVICES_SKIP] = "skip",
                                        [UNPACK_DEVICES_REFUSE] = "refuse",
                                        [UNPACK_DEVICES_MAKE] = "make"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!strcmp(value, names[i])) {
            cli->import.unpack.devices = (enum unpack_devices)i;
            return 0;
        }
    return err_set(err, -EINVAL, "--devices '%s' is none of skip, refuse, make", value);
}

static int parse_value(const char *name, const char *value, struct image_cli *cli, struct err *err)
{
    uint64_t number = 0;
    int result;

    if (!strcmp(name, "--output") || !strcmp(name, "-o")) {
        cli->output = value;
        return 0;
    }
    if (!strcmp(name, "--authfile")) {
        cli->import.auth_file = value;
        return 0;
    }
    if (!strcmp(name, "--source")) {
        cli->import.source = value;
        return 0;
    }
    if (!strcmp(name, "--devices"))
        return parse_devices(value, cli, err);
    if (!strcmp(name, "--max-size"))
        return size_parse(value, &cli->import.unpack.most_bytes, err);
    if (!strcmp(name, "--max-files"))
        return number_parse(value, name, 1, UINT32_MAX, &cli->import.unpack.most_entries, err);
    result = number_parse(value, name, 1, 1000000, &number, err);
    cli->import.unpack.most_ratio = (unsigned)number;
    return result;
}

static bool parse_flag(const char *word, struct image_cli *cli)
{
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {{"--json", &cli->json},
                 {"--quiet", &cli->quiet},
                 {"-q", &cli->quiet},
                 {"--all", &cli->all},
                 {"--force", &cli->force},
                 {"-f", &cli->force},
                 {"--insecure", &cli->import.insecure},
                 {"--local", &cli->local},
                 {"--report", &cli->report}};

    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (!strcmp(word, flags[i].name)) {
            *flags[i].flag = true;
            return true;
        }
    return false;
}

static const char *const valued[] = {"--output",    "-o",         "--authfile",
                                     "--devices",   "--max-size", "--max-files",
                                     "--max-ratio", "--source",   NULL};

static int parse(int argc, char **argv, struct image_cli *cli, struct err *err)
{
    char name[32];

    for (int i = 2; i < argc; i++) {
        const char *equals = strchr(argv[i], '='), *value = NULL;
        size_t known = 0;
        int result;

        if (argv[i][0] != '-' || !argv[i][1]) {
            if (cli->nr == IMAGE_ARGUMENTS_MAX)
                return err_set(err, -E2BIG, "too many arguments");
            cli->arguments[cli->nr++] = argv[i];
            continue;
        }
        if (parse_flag(argv[i], cli))
            continue;
        snprintf(name, sizeof(name), "%.*s", equals ? (int)(equals - argv[i]) : 31, argv[i]);
        while (valued[known] && strcmp(valued[known], name) != 0)
            known++;
        if (!valued[known])
            return err_set(err, -EINVAL, "unknown option '%s'", argv[i]);
        value = equals ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (!value || !*value)
            return err_set(err, -EINVAL, "'%s' needs a value", name);
        if ((result = parse_value(name, value, cli, err)) < 0)
            return result;
    }
    return 0;
}

static const struct subverb *find_subverb(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(subverbs); i++)
        if (!strcmp(name, subverbs[i].name))
            return &subverbs[i];
    return NULL;
}

static int unknown_subverb(const char *name)
{
    const char *names[ARRAY_LEN(subverbs) + 1] = {NULL};

    for (size_t i = 0; i < ARRAY_LEN(subverbs); i++)
        names[i] = subverbs[i].name;
    return cli_unknown_word(&verb_image, name, names);
}

static int run(int argc, char **argv)
{
    CLEANUP(freep) struct store *store = calloc(1, sizeof(*store));
    struct image_cli cli = {.store = store};
    const struct subverb *subverb;
    struct err err = ERR_INIT;
    int result;

    if (argc < 2)
        return cli_usage_error(&verb_image, "ls, import, pull and so on is needed");
    if (!(subverb = find_subverb(argv[1])))
        return unknown_subverb(argv[1]);
    if (cli_helps(&verb_image, argc, argv))
        return 0;
    if (parse(argc, argv, &cli, &err) < 0)
        return cli_usage_error(&verb_image, "%s", err.message);
    if (cli.nr < subverb->least || cli.nr > subverb->most)
        return cli_subverb_error(&verb_image, subverb->name, subverb->arguments,
                                 cli.nr < subverb->least);
    cli.quiet |= cli.report;
    progress_init(&cli.progress, cli.quiet || cli.json);
    cli.import.progress = show;
    cli.import.context = &cli;
    result = store ? store_open(store, &err) : -ENOMEM;
    if (result == 0 && (cli.local || cli.report || !image_managed(&cli, argv[1], &result, &err)))
        result = subverb->run(&cli, &err);
    progress_end(&cli.progress);
    return report_exit(cli.report, result, &err);
}

const struct cli_verb verb_image = {
    .name = "image",
    .summary = "Imports, fetches, lists and removes images",
    .usage = "image ls|import|pull|push|save|tag|rm|prune|inspect|history [options] ...",
    .help =
        "  ls [NAME]                 lists images; --json\n"
        "  import SOURCE [NAME]      a directory or tar with a root file system, a docker-archive, "
        "or\n"
        "                            an OCI layout as directory or tar; '-': standard input\n"
        "  pull NAME [AS]            fetches from a registry (needs skopeo); --insecure, "
        "--authfile FILE\n"
        "  push IMAGE [NAME]         sends to a registry; --insecure, --authfile FILE\n"
        "  save IMAGE -o FILE        a tar for other tools (OCI layout and docker-archive); "
        "'-': standard output\n"
        "  tag IMAGE NAME            gives an image one more name\n"
        "  rm IMAGE...               removes names, and what nothing names any more; -f, --force:\n"
        "                            also a name that instances or jobs need\n"
        "  prune                     removes what nothing names; --all: and every image that is "
        "not in\n"
        "                            use; --all --force: the names of those, too\n"
        "  inspect IMAGE, history IMAGE   what it is made of; --json\n"
        "\n"
        "What an archive may unpack to: --max-size SIZE (64G), --max-files N (1000000),\n"
        "--max-ratio N (200). Device nodes in it: --devices skip|refuse|make (skip).\n"
        "What changes the store is the manager's work (lodge operation) where one runs; --local: "
        "not so.\n"
        "-q, --quiet: no progress bar. An IMAGE is NAME[:TAG] or the first digits of a digest.\n",
    .run = run,
};
