/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The comparison of the tiers (tiers.h) as a program.
 *
 *   tiers [--count INSTRUCTIONS] [--seconds T] [--seed S] [--one SEED] [--tries N] [--failures N]
 *         [--engine OPTIONS]
 *
 * Programs go round several translating machines, which keep what they know of the programs before:
 * every number of runs before translation, a cache so small that it overflows all the time. With
 * --engine: that one only. LODGE_TEST_LONG=N in the environment makes count and seconds N times as
 * large.
 */
#include "tiers.h"

#include "base/clock.h"
#include "base/util.h"
#include "cpu/cpu.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const engines[] = {
    "tier=translate,runs=0",
    "tier=translate,runs=2",
    "tier=translate,runs=7",
    "tier=translate,runs=0,cache=256",
    "tier=translate,runs=1,cache=256",
    "tier=translate,runs=0,window=always",
    "tier=translate,runs=2,window=always",
};

struct run {
    struct tiers_guest *translated[ARRAY_LEN(engines)], *stepped;
    const char *engine[ARRAY_LEN(engines)];
    struct diff_guest *features;
    unsigned nr_engines, tries, failures;
    uint64_t programs, steps, interrupts, other_ends;
};

static struct tiers_outcome *outcome[2];
static struct tiers_program program, smaller;

static void say_registers(const struct cpu_state *a, const struct cpu_state *b)
{
    for (unsigned i = 0; i < CPU_NR_GPRS; i++)
        if (a->gpr[i] != b->gpr[i])
            printf("  r%u: translated %016llx, interpreted %016llx\n", i,
                   (unsigned long long)a->gpr[i], (unsigned long long)b->gpr[i]);
    if (a->rip != b->rip || a->rflags != b->rflags || a->cr2 != b->cr2)
        printf("  rip %llx, %llx; rflags %llx, %llx; cr2 %llx, %llx\n", (unsigned long long)a->rip,
               (unsigned long long)b->rip, (unsigned long long)a->rflags,
               (unsigned long long)b->rflags, (unsigned long long)a->cr2,
               (unsigned long long)b->cr2);
    if (a->dr[TIERS_SUM_OF_MEMORY] != b->dr[TIERS_SUM_OF_MEMORY])
        printf("  memory differs\n");
    for (unsigned i = 0; i < CPU_XSAVE_SIZE; i++)
        if (a->xsave[i] != b->xsave[i]) {
            printf("  vector state, byte %u: %02x, %02x\n", i, a->xsave[i], b->xsave[i]);
            break;
        }
}

/* The handlers' last runs, from the first that differs. */
static void say_log(const struct tiers_outcome *a, const struct tiers_outcome *b)
{
    const uint8_t *state[2] = {a->ram + TIERS_STATE_GPA, b->ram + TIERS_STATE_GPA};
    uint32_t count = load_le32(state[0] + TIERS_STATE_COUNT), said = 0;

    printf("  handlers ran %u, %u times\n", count, load_le32(state[1] + TIERS_STATE_COUNT));
    for (uint32_t i = count > 32 ? count - 32 : 0; i < count && said < 3; i++) {
        const uint8_t *entry[2] = {state[0] + TIERS_STATE_LOG + (i & 31) * 64,
                                   state[1] + TIERS_STATE_LOG + (i & 31) * 64};

        if (!memcmp(entry[0], entry[1], 56))
            continue;
        said++;
        for (unsigned k = 0; k < 2; k++)
            printf("  %u: vector %x error %x rip %llx rflags %llx rsp %llx cr2 %llx\n", i,
                   load_le32(entry[k]), load_le32(entry[k] + 8),
                   (unsigned long long)load_le64(entry[k] + 16),
                   (unsigned long long)load_le64(entry[k] + 32),
                   (unsigned long long)load_le64(entry[k] + 40),
                   (unsigned long long)load_le64(entry[k] + 48));
    }
}

static void say_difference(const struct tiers_outcome *a, const struct tiers_outcome *b)
{
    unsigned said = 0;

    printf("  exits %d, %d; interrupts %u, replayed %u\n", a->exit, b->exit, a->nr_deliveries,
           b->nr_deliveries);
    if (b->nr_deliveries < a->nr_deliveries) {
        const struct cpu_state *missing = &a->delivery[b->nr_deliveries];

        printf("  never in the state of interrupt %u: rip %llx rflags %llx\n", b->nr_deliveries,
               (unsigned long long)missing->rip, (unsigned long long)missing->rflags);
        if (b->near.rip == missing->rip)
            say_registers(missing, &b->near);
        printf("  at the end:\n");
    }
    say_registers(&a->end, &b->end);
    say_log(a, b);
    for (unsigned i = 0; i < TIERS_RAM && said < 8; i += 8)
        if (memcmp(a->ram + i, b->ram + i, 8)) {
            printf("  memory at 0x%x: %016llx, %016llx\n", i,
                   (unsigned long long)load_le64(a->ram + i),
                   (unsigned long long)load_le64(b->ram + i));
            said++;
        }
}

/* Accessed bits of page tables may be set ahead of an access that faults. */
static void hide_accessed(struct tiers_outcome *of)
{
    for (unsigned i = TIERS_TABLES; i < TIERS_TABLES_END; i += 8)
        of->ram[i] &= (uint8_t)~0x20;
}

static bool equal(struct tiers_outcome *a, struct tiers_outcome *b)
{
    hide_accessed(a);
    hide_accessed(b);
    return a->exit == b->exit && a->nr_deliveries == b->nr_deliveries &&
           !memcmp(&a->end, &b->end, sizeof(a->end)) && !memcmp(a->ram, b->ram, TIERS_RAM);
}

/* A second run of what seems endless on the translator alone has so many times as long. */
#define PATIENCE 200u

/* Do the tiers differ? outcome[] holds the two runs. */
static bool differ(struct run *run, unsigned engine, const struct tiers_program *p)
{
    for (unsigned patience = 1; patience <= PATIENCE; patience *= PATIENCE) {
        tiers_guest_run(run->translated[engine], p, NULL, patience, outcome[0]);
        tiers_guest_run(run->stepped, p, outcome[0], 1, outcome[1]);
        /* Endless, or slow: on a busy host, with sanitizers? */
        if (outcome[0]->exit != CPU_EXIT_KICK || outcome[1]->exit == CPU_EXIT_KICK)
            break;
    }
    /* One that ran into a loop was stopped anywhere. */
    if (outcome[0]->exit == CPU_EXIT_KICK || outcome[1]->exit == CPU_EXIT_KICK)
        return outcome[0]->exit != outcome[1]->exit && outcome[1]->exit != CPU_EXIT_KICK;
    return !equal(outcome[0], outcome[1]);
}

/* The same in a new machine, a few times: interrupts come when they come. */
static bool differ_anew(struct run *run, unsigned engine, const struct tiers_program *p)
{
    bool found = false;

    for (unsigned i = 0; i < run->tries && !found; i++) {
        struct err err = ERR_INIT;

        tiers_guest_free(run->translated[engine]);
        if (tiers_guest_new(run->engine[engine], false, &run->translated[engine], &err)) {
            fprintf(stderr, "tiers: %s\n", err.message);
            exit(2);
        }
        found = differ(run, engine, p);
    }
    return found;
}

static void minimise(struct run *run, unsigned engine)
{
    for (unsigned i = 0; i < program.nr_items; i++) {
        if (program.item[i].removed || program.item[i].kind == TIERS_GLUE)
            continue;
        smaller = program;
        smaller.item[i].removed = true;
        if (tiers_layout(&smaller) && differ_anew(run, engine, &smaller))
            program = smaller;
    }
}

static void say_program(const struct tiers_program *p)
{
    for (unsigned s = 0; s < p->nr_segments; s++) {
        printf("  segment %u at %llx:\n", s, (unsigned long long)tiers_code_va(p) + p->start[s]);
        for (unsigned i = p->first[s]; i < p->first[s + 1]; i++) {
            const struct tiers_item *item = &p->item[i];
            struct insn insn;

            if (item->removed)
                continue;
            printf("    %04x ", p->offset[i]);
            for (unsigned b = 0; b < item->length; b++)
                printf("%02x", p->code[p->offset[i] + b]);
            insn_decode(p->code + p->offset[i], item->length, INSN_MODE_64, &insn);
            printf("  %s\n", insn_name((enum insn_id)insn.id));
        }
    }
}

static void report(struct run *run, unsigned engine, unsigned most)
{
    if (run->failures++ >= most)
        return;
    printf("DIFFERENT: --one %llu --engine %s (ring %u%s%s%s)\n", (unsigned long long)program.seed,
           run->engine[engine], program.ring0 ? 0u : 3u, program.smap ? ", SMAP" : "",
           program.wild ? ", wild" : "", program.global ? ", global pages" : "");
    say_difference(outcome[0], outcome[1]);
    if (!differ_anew(run, engine, &program)) {
        printf("  not in a new machine\n");
        return;
    }
    minimise(run, engine);
    differ_anew(run, engine, &program);
    say_program(&program);
    say_difference(outcome[0], outcome[1]);
    fflush(stdout);
}

static void run_one(struct run *run, uint64_t seed, unsigned engine, unsigned most)
{
    tiers_generate(run->features, seed, &program);
    if (!tiers_layout(&program))
        return;
    if (differ(run, engine, &program))
        report(run, engine, most);
    run->programs++;
    if (outcome[1]->exit != CPU_EXIT_KICK)
        run->steps += outcome[1]->steps;
    run->interrupts += outcome[1]->nr_deliveries;
    run->other_ends += outcome[1]->exit != CPU_EXIT_HALT;
}

static void run_init(struct run *run, const char *engine)
{
    struct err err = ERR_INIT;
    int r = diff_guest_new("tier=interp", &run->features, &err);

    if (!r)
        r = tiers_guest_new("tier=interp", true, &run->stepped, &err);
    run->nr_engines = engine ? 1 : (unsigned)ARRAY_LEN(engines);
    for (unsigned i = 0; i < run->nr_engines && !r; i++) {
        run->engine[i] = engine ? engine : engines[i];
        r = tiers_guest_new(run->engine[i], false, &run->translated[i], &err);
    }
    for (unsigned i = 0; i < 2; i++) {
        outcome[i] = aligned_alloc(64, align_up(sizeof(*outcome[i]), 64));
        if (outcome[i])
            memset(outcome[i], 0, sizeof(*outcome[i])), outcome[i]->ram = malloc(TIERS_RAM);
        if (!outcome[i] || !outcome[i]->ram)
            r = -1;
    }
    if (r) {
        fprintf(stderr, "tiers: %s\n", err.message);
        exit(2);
    }
}

static void run_done(struct run *run)
{
    for (unsigned i = 0; i < run->nr_engines; i++)
        tiers_guest_free(run->translated[i]);
    tiers_guest_free(run->stepped);
    diff_guest_free(run->features);
    for (unsigned i = 0; i < 2; i++) {
        free(outcome[i]->ram);
        free(outcome[i]);
    }
}

int main(int argc, char **argv)
{
    static const struct option table[] = {
        {"count", required_argument, NULL, 'c'},  {"seconds", required_argument, NULL, 't'},
        {"seed", required_argument, NULL, 's'},   {"one", required_argument, NULL, 'o'},
        {"tries", required_argument, NULL, 'n'},  {"failures", required_argument, NULL, 'f'},
        {"engine", required_argument, NULL, 'e'}, {NULL, 0, NULL, 0}};
    const char *engine = NULL, *more = getenv("LODGE_TEST_LONG");
    uint64_t count = 1000000, seed = 1, one = 0, start = clock_monotonic_ns();
    double seconds = 60, factor = more ? strtod(more, NULL) : 1;
    struct run run = {.tries = 6};
    unsigned most = 3;
    int c;

    while ((c = getopt_long(argc, argv, "", table, NULL)) >= 0) {
        switch (c) {
        case 'c':
            count = strtoull(optarg, NULL, 0);
            break;
        case 't':
            seconds = strtod(optarg, NULL);
            break;
        case 's':
            seed = strtoull(optarg, NULL, 0);
            break;
        case 'o':
            one = strtoull(optarg, NULL, 0);
            break;
        case 'n':
            run.tries = (unsigned)strtoul(optarg, NULL, 0);
            break;
        case 'f':
            most = (unsigned)strtoul(optarg, NULL, 0);
            break;
        case 'e':
            engine = optarg;
            break;
        default:
            return 2;
        }
    }
    factor = factor < 1 ? 1 : factor;
    run_init(&run, engine);
    for (seed <<= 32; run.failures < 20; seed++) {
        double passed = (double)(clock_monotonic_ns() - start) / (double)NS_PER_S;

        if (one ? run.programs >= run.tries
                : (double)run.steps >= (double)count * factor || passed >= seconds * factor)
            break;
        run_one(&run, one ? one : seed, (unsigned)(seed % run.nr_engines), most);
    }
    printf("%llu instructions in %llu programs, %llu interrupts; %llu did not end by themselves; "
           "%u different, %.1f s\n",
           (unsigned long long)run.steps, (unsigned long long)run.programs,
           (unsigned long long)run.interrupts, (unsigned long long)run.other_ends, run.failures,
           (double)(clock_monotonic_ns() - start) / (double)NS_PER_S);
    run_done(&run);
    /* Few interrupts mean that the test tests nothing. */
    return run.failures || (!one && run.interrupts < run.programs) ? EXIT_FAILURE : EXIT_SUCCESS;
}
