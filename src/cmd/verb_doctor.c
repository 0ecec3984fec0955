/* SPDX-License-Identifier: Apache-2.0 */
/* lodge doctor: prints the findings, as lines or as JSON. */
#include "cmd/cli.h"
#include "cmd/doctor.h"

#include "base/log.h"
#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const level_words[] = {"ok", "limited", "missing"};

static void print_text(const struct findings *findings)
{
    for (size_t i = 0; i < findings->nr; i++) {
        const struct finding *f = &findings->list[i];

        printf("%-8s %-14s %s\n", level_words[f->level], f->subject, f->detail);
        if (*f->advice)
            printf("%-8s %-14s -> %s\n", "", "", f->advice);
    }
}

static void print_json(const struct findings *findings)
{
    json_t *array = json_array();

    for (size_t i = 0; i < findings->nr; i++) {
        const struct finding *f = &findings->list[i];

        json_array_append_new(array, json_pack("{s:s, s:s, s:s, s:s}", "subject", f->subject,
                                               "level", level_words[f->level], "detail", f->detail,
                                               "advice", f->advice));
    }
    json_dumpf(array, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(array);
}

static int run(int argc, char **argv)
{
    struct findings findings = {.nr = 0};
    struct err err = ERR_INIT;
    struct store store;
    bool json = false;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") != 0)
            return cli_usage_error(&verb_doctor, "unknown argument '%s'", argv[i]);
        json = true;
    }
    if (store_open(&store, &err) < 0) {
        log_error("%s", err.message);
        return CLI_EXIT_FAILURE;
    }
    doctor_check_kernel(&findings);
    doctor_check_installation(&findings, &store);
    if (json)
        print_json(&findings);
    else
        print_text(&findings);
    for (size_t i = 0; i < findings.nr; i++)
        if (findings.list[i].level == FINDING_MISSING)
            return 1;
    return 0;
}

const struct cli_verb verb_doctor = {
    .name = "doctor",
    .summary = "Says what this host offers, and what to do about what is missing",
    .usage = "doctor [--json]",
    .help = "ok: there. limited: works, with less. missing: `lodge run` needs it. The exit status "
            "is 1\n"
            "when something is missing.\n",
    .run = run,
};
