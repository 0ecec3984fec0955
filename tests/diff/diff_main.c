/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The differential test as a program.
 *
 *   diff [--mode int|vec|all|int32|vec32|all32|int16|all16]
 *        [--count INSTRUCTIONS] [--seconds T] [--seed S] [--one SEED]
 *        [--engine OPTIONS]...   of the software engine: each stream runs on all of these;
 *                                default: tier=interp
 *
 * LODGE_TEST_LONG=N in the environment makes count and seconds N times as large.
 *
 * With --interpret-only nothing runs natively: for builds with the address sanitizer, whose shadow
 * memory in the low 2 GiB makes wild addresses valid in the child.
 *
 * Streams come in batches: the child runs one natively while this process interprets the same one.
 * A stream that differs is made smaller (every instruction that can go goes) and printed with its
 * seed. Exit status 1 when any differed.
 */
#include "diff.h"

#include "base/clock.h"
#include "base/util.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SKIPPED     77 /* to Meson */
#define ENGINES_MAX 4u

struct options {
    enum diff_mode mode;
    enum insn_mode code_mode;
    uint64_t count, seed, one;
    double seconds;
    unsigned most_failures;
    const char *engine[ENGINES_MAX]; /* options of the software engine */
    unsigned nr_engines;
    bool only_one;
    bool interpret_only;
};

struct run {
    struct diff_native *native;
    struct diff_guest *guest[ENGINES_MAX];
    const struct options *options;
    uint64_t streams, lost, failures, faults;
    uint64_t endless; /* instructions of endless streams, which do not count */
};

static struct diff_stream streams[DIFF_BATCH];
static struct diff_result native_results[DIFF_BATCH], guest_results[ENGINES_MAX][DIFF_BATCH];

/* Runs one stream on all sides. */
static bool differs(struct run *run, const struct diff_stream *stream, struct diff_report *report)
{
    diff_native_start(run->native, stream, 1);
    for (unsigned g = 0; g < run->options->nr_engines; g++)
        diff_guest_run(run->guest[g], stream, &guest_results[g][0]);
    diff_native_wait(run->native, &native_results[0]);
    if (native_results[0].lost)
        return false;
    for (unsigned g = 0; g < run->options->nr_engines; g++)
        if (!diff_equal(stream, &native_results[0], &guest_results[g][0], report)) {
            snprintf(report->text + strlen(report->text),
                     sizeof(report->text) - strlen(report->text), "    on %s\n",
                     run->options->engine[g]);
            return true;
        }
    return false;
}

static void remove_insn(struct diff_stream *stream, unsigned index)
{
    for (unsigned i = index; i + 1 < stream->nr_insns; i++)
        stream->insn[i] = stream->insn[i + 1];
    stream->nr_insns--;
    for (unsigned i = 0; i < stream->nr_insns; i++)
        if (stream->insn[i].target > index + 1)
            stream->insn[i].target--;
}

static void minimise(struct run *run, struct diff_stream *stream)
{
    struct diff_report report;
    bool shrunk = true;

    while (shrunk) {
        shrunk = false;
        for (unsigned i = 0; i < stream->nr_insns; i++) {
            struct diff_stream smaller = *stream;

            if (stream->insn[i].undefined_flags)
                continue;
            remove_insn(&smaller, i);
            if (!differs(run, &smaller, &report))
                continue;
            *stream = smaller;
            shrunk = true;
            i--;
        }
    }
}

static void print_stream(const struct diff_stream *stream)
{
    for (unsigned i = 0; i < stream->nr_insns; i++) {
        const struct diff_insn *in = &stream->insn[i];
        struct insn insn;

        printf("    ");
        for (unsigned b = 0; b < in->length; b++)
            printf("%02x", in->bytes[b]);
        insn_decode(in->bytes, in->length, (enum insn_mode)stream->code_mode, &insn);
        printf("  %s operand size %u", insn_name((enum insn_id)insn.id), insn.operand_size);
        if (in->target)
            printf(" -> %u", in->target);
        printf("\n");
    }
    for (unsigned i = 0; i < CPU_NR_GPRS; i++)
        printf("    r%-2u %016llx%s", i, (unsigned long long)stream->initial.gpr[i],
               i % 4 == 3 ? "\n" : "");
    printf("    flags %llx\n", (unsigned long long)stream->initial.rflags);
}

static void report_failure(struct run *run, const struct diff_stream *stream, uint64_t seed)
{
    struct diff_stream smallest = *stream;
    struct diff_report report;

    run->failures++;
    if (run->failures > run->options->most_failures)
        return;
    printf("DIFFERENT: --one %llu\n", (unsigned long long)seed);
    if (!differs(run, &smallest, &report)) {
        printf("  not when it runs alone\n");
        return;
    }
    minimise(run, &smallest);
    differs(run, &smallest, &report);
    print_stream(&smallest);
    printf("%s", report.text);
    fflush(stdout);
}

static void interpret(struct run *run, unsigned nr)
{
    for (unsigned g = 0; g < run->options->nr_engines; g++)
        for (unsigned i = 0; i < nr; i++) {
            struct diff_result *result = &guest_results[g][i];
            uint64_t before = diff_guest_instructions(run->guest[g]);

            diff_guest_run(run->guest[g], &streams[i], result);
            if (g == 0 && result->vector == DIFF_ENDLESS)
                run->endless += diff_guest_instructions(run->guest[g]) - before;
        }
}

static void batch(struct run *run, uint64_t first_seed, unsigned nr)
{
    bool bad[DIFF_BATCH] = {false};
    struct diff_report report;

    for (unsigned i = 0; i < nr; i++)
        diff_generate(run->guest[0], run->options->mode, run->options->code_mode, first_seed + i,
                      &streams[i]);
    if (!run->options->interpret_only)
        diff_native_start(run->native, streams, nr);
    interpret(run, nr);
    if (run->options->interpret_only) {
        run->streams += nr;
        return;
    }
    diff_native_wait(run->native, native_results);
    for (unsigned i = 0; i < nr; i++) {
        run->streams++;
        if (native_results[i].lost)
            run->lost++;
        for (unsigned g = 0; g < run->options->nr_engines && !native_results[i].lost; g++)
            bad[i] |= !diff_equal(&streams[i], &native_results[i], &guest_results[g][i], &report);
        run->faults += native_results[i].vector != DIFF_COMPLETED;
    }
    for (unsigned i = 0; i < nr; i++)
        if (bad[i])
            report_failure(run, &streams[i], first_seed + i);
}

static uint64_t compared(const struct run *run)
{
    return diff_guest_instructions(run->guest[0]) - run->endless;
}

static int run_all(struct run *run)
{
    const struct options *options = run->options;
    uint64_t start = clock_monotonic_ns(), seed = options->seed << 32;
    double seconds = 0;

    if (options->only_one) {
        batch(run, options->one, 1);
    } else {
        while (compared(run) < options->count && seconds < options->seconds &&
               run->failures < 200) {
            batch(run, seed, DIFF_BATCH);
            seed += DIFF_BATCH;
            seconds = (double)(clock_monotonic_ns() - start) / (double)NS_PER_S;
        }
    }
    printf("%llu instructions in %llu streams (%.1f each; %.0f%% end in an exception), %llu lost, "
           "%llu different, %.1f s\n",
           (unsigned long long)compared(run), (unsigned long long)run->streams,
           (double)compared(run) / (double)MAX(run->streams, 1u),
           100.0 * (double)run->faults / (double)MAX(run->streams, 1u),
           (unsigned long long)run->lost, (unsigned long long)run->failures,
           (double)(clock_monotonic_ns() - start) / (double)NS_PER_S);
    /* A few streams may break the child; many mean that the test tests nothing. */
    return run->failures || run->lost * 1000 > run->streams + 1000 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static bool mode_parse(const char *name, struct options *options)
{
    static const struct {
        const char *name;
        enum diff_mode mode;
        enum insn_mode code_mode;
    } modes[] = {
        {"int", DIFF_MODE_INTEGER, INSN_MODE_64},   {"vec", DIFF_MODE_VECTOR, INSN_MODE_64},
        {"all", DIFF_MODE_ALL, INSN_MODE_64},       {"int32", DIFF_MODE_INTEGER, INSN_MODE_32},
        {"vec32", DIFF_MODE_VECTOR, INSN_MODE_32},  {"all32", DIFF_MODE_ALL, INSN_MODE_32},
        {"int16", DIFF_MODE_INTEGER, INSN_MODE_16}, {"all16", DIFF_MODE_ALL, INSN_MODE_16},
    };

    for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
        if (strcmp(name, modes[i].name))
            continue;
        options->mode = modes[i].mode;
        options->code_mode = modes[i].code_mode;
        return true;
    }
    return false;
}

static bool options_parse(int argc, char **argv, struct options *options)
{
    static const struct option table[] = {{"mode", required_argument, NULL, 'm'},
                                          {"count", required_argument, NULL, 'c'},
                                          {"seconds", required_argument, NULL, 't'},
                                          {"seed", required_argument, NULL, 's'},
                                          {"engine", required_argument, NULL, 'e'},
                                          {"one", required_argument, NULL, 'o'},
                                          {"failures", required_argument, NULL, 'f'},
                                          {"interpret-only", no_argument, NULL, 'i'},
                                          {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "", table, NULL)) >= 0) {
        switch (c) {
        case 'm':
            if (!mode_parse(optarg, options))
                return false;
            break;
        case 'c':
            options->count = strtoull(optarg, NULL, 0);
            break;
        case 't':
            options->seconds = strtod(optarg, NULL);
            break;
        case 's':
            options->seed = strtoull(optarg, NULL, 0);
            break;
        case 'o':
            options->one = strtoull(optarg, NULL, 0);
            options->only_one = true;
            break;
        case 'i':
            options->interpret_only = true;
            break;
        case 'e':
            if (options->nr_engines == ENGINES_MAX)
                return false;
            options->engine[options->nr_engines++] = optarg;
            break;
        case 'f':
            options->most_failures = (unsigned)strtoul(optarg, NULL, 0);
            break;
        default:
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    struct options options = {.mode = DIFF_MODE_ALL,
                              .code_mode = INSN_MODE_64,
                              .count = 1000000,
                              .seed = 1,
                              .seconds = 600,
                              .most_failures = 10};
    const char *more = getenv("LODGE_TEST_LONG");
    struct run run = {.options = &options};
    struct err err = ERR_INIT;
    int status;

    if (!options_parse(argc, argv, &options))
        return 2;
    if (!options.nr_engines)
        options.engine[options.nr_engines++] = "tier=interp";
    if (more && strtod(more, NULL) > 1) {
        options.count *= (uint64_t)strtod(more, NULL);
        options.seconds *= strtod(more, NULL);
    }
    status = diff_native_new(&run.native, &err);
    for (unsigned g = 0; g < options.nr_engines && !status; g++)
        status = diff_guest_new(options.engine[g], &run.guest[g], &err);
    if (status) {
        fprintf(stderr, "diff: %s\n", err.message);
        return 2;
    }
    if (options.code_mode == INSN_MODE_16 && !diff_native_has_16(run.native)) {
        printf("skipped: the kernel gives no 16-bit segments (modify_ldt)\n");
        status = SKIPPED;
    } else {
        status = run_all(&run);
    }
    for (unsigned g = 0; g < options.nr_engines; g++)
        diff_guest_free(run.guest[g]);
    diff_native_free(run.native);
    return status;
}
