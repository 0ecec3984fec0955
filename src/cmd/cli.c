/* SPDX-License-Identifier: Apache-2.0 */
/* Help, usage errors and the guess at what a mistyped word was meant to be. */
#include "cmd/cli.h"

#include "base/util.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define WORD_MAX 32

void cli_print_help(const struct cli_verb *verb)
{
    printf("usage: lodge %s\n%s.\n", verb->usage, verb->summary);
    if (*verb->help)
        printf("\n%s", verb->help);
}

bool cli_helps(const struct cli_verb *verb, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            cli_print_help(verb);
            return true;
        }
    return false;
}

int cli_usage_error(const struct cli_verb *verb, const char *format, ...)
{
    va_list args;

    fprintf(stderr, "lodge: %s: ", verb->name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\nusage: lodge %s\nSee: lodge help %s\n", verb->usage, verb->name);
    return CLI_EXIT_USAGE;
}

int cli_subverb_error(const struct cli_verb *verb, const char *subverb, const char *arguments,
                      bool too_few)
{
    fprintf(stderr, "lodge: %s %s: %s\nusage: lodge %s %s%s%s\nSee: lodge help %s\n", verb->name,
            subverb, too_few ? "an argument is missing" : "too many arguments", verb->name, subverb,
            *arguments ? " " : "", arguments, verb->name);
    return CLI_EXIT_USAGE;
}

/* Levenshtein's distance, for short words. */
static size_t distance(const char *a, const char *b)
{
    size_t row[WORD_MAX + 1], length_a = strlen(a), length_b = strlen(b);

    if (length_a > WORD_MAX || length_b > WORD_MAX)
        return WORD_MAX;
    for (size_t j = 0; j <= length_b; j++)
        row[j] = j;
    for (size_t i = 1; i <= length_a; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= length_b; j++) {
            size_t changed = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            row[j] = MIN(changed, MIN(row[j] + 1, row[j - 1] + 1));
        }
    }
    return row[length_b];
}

const char *cli_nearest(const char *word, const char *const *known)
{
    const char *best = NULL;
    size_t best_distance = MIN(MAX(strlen(word) / 3, (size_t)2) + 1, strlen(word));

    for (; *known; known++) {
        size_t d = distance(word, *known);

        if (d < best_distance) {
            best_distance = d;
            best = *known;
        }
    }
    return best;
}

int cli_unknown_word(const struct cli_verb *verb, const char *word, const char *const *known)
{
    const char *nearest = cli_nearest(word, known);

    return cli_usage_error(verb, "there is no '%s'%s%s%s", word, nearest ? "; did you mean '" : "",
                           nearest ?: "", nearest ? "'?" : "");
}
