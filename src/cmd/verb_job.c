/* SPDX-License-Identifier: Apache-2.0 */
/* lodge job: jobs through a queue under one of the scheduling policies, as containers and VMs. */
#include "cmd/cli.h"
#include "cmd/job.h"
#include "cmd/job_cli.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/size.h"
#include "base/util.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct job_words {
    struct job_run_options options;
    const char *file;
    bool json, quiet;
};

static void say(const struct job_entry *job, const char *what, const char *why, uint64_t now)
{
    fprintf(stderr, "%8.2f s  %-6s  %s: %s\n", (double)now / 1e9, what, job->id, why);
}

static int seconds(const char *text, const char *what, uint64_t *ret)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || (*end && strcmp(end, "s") != 0) || !(value > 0 && value <= 200000))
        return cli_usage_error(&verb_job, "%s '%s' is not a number of seconds above 0", what, text);
    *ret = (uint64_t)(value * (double)NS_PER_S + 0.5);
    return 0;
}

static int take_policy(struct queue_config *queue, const char *name)
{
    int policy = queue_policy_parse(name);

    if (policy < 0)
        return cli_usage_error(&verb_job,
                               "there is no policy '%s': fcfs, sjf, srtf, rr, priority, stride or "
                               "lottery",
                               name);
    queue->policy = (enum queue_policy)policy;
    return 0;
}

static int take_option(int option, struct job_words *words)
{
    struct queue_config *queue = &words->options.queue;
    struct err err = ERR_INIT;
    uint64_t number = 0;
    double cpus;
    char *end;

    switch (option) {
    case 'p':
        return take_policy(queue, optarg);
    case 'u':
        return seconds(optarg, "--quantum", &queue->quantum_ns);
    case 'a':
        return seconds(optarg, "--ageing", &queue->ageing_ns);
    case 's':
        if (number_parse(optarg, "--servers", 1, QUEUE_SERVERS_MAX, &number, &err) < 0)
            return cli_usage_error(&verb_job, "%s", err.message);
        queue->servers = (uint32_t)number;
        return 0;
    case 'c':
        cpus = strtod(optarg, &end);
        if (end == optarg || *end || !(cpus >= 0.001 && cpus <= 1e6))
            return cli_usage_error(&verb_job, "--cpus '%s' is not a number of processors", optarg);
        queue->capacity[0] = (uint64_t)(cpus * 1000 + 0.5);
        return 0;
    case 'm':
        if (size_parse(optarg, &queue->capacity[1], &err) < 0)
            return cli_usage_error(&verb_job, "--memory: %s", err.message);
        return 0;
    case 'P':
        queue->preemptive = true;
        return 0;
    case 'b':
        queue->backfill = QUEUE_BACKFILL_EASY;
        return 0;
    case 'l':
        words->options.logs = optarg;
        return 0;
    case 'j':
        words->json = true;
        return 0;
    case 'q':
        words->quiet = true;
        return 0;
    default:
        return cli_usage_error(&verb_job, "see above");
    }
}

static int take_words(int argc, char **argv, struct job_words *words)
{
    static const struct option options[] = {
        {"policy", required_argument, NULL, 'p'}, {"quantum", required_argument, NULL, 'u'},
        {"ageing", required_argument, NULL, 'a'}, {"servers", required_argument, NULL, 's'},
        {"cpus", required_argument, NULL, 'c'},   {"memory", required_argument, NULL, 'm'},
        {"preemptive", no_argument, NULL, 'P'},   {"backfill", no_argument, NULL, 'b'},
        {"logs", required_argument, NULL, 'l'},   {"json", no_argument, NULL, 'j'},
        {"quiet", no_argument, NULL, 'q'},        {NULL, 0, NULL, 0}};
    int option, status;

    optind = 0;
    while ((option = getopt_long(argc, argv, "+q", options, NULL)) >= 0)
        if ((status = take_option(option, words)))
            return status;
    if (optind >= argc || strcmp(argv[optind], "run") != 0)
        return cli_usage_error(&verb_job,
                               optind < argc ? "there is no 'lodge job %s', but 'run'"
                                             : "what is to be done? 'run'%s",
                               optind < argc ? argv[optind] : "");
    argc -= optind;
    argv += optind;
    optind = 0;
    while ((option = getopt_long(argc, argv, "q", options, NULL)) >= 0)
        if ((status = take_option(option, words)))
            return status;
    if (argc - optind != 1)
        return cli_usage_error(&verb_job, "one file of jobs is expected");
    words->file = argv[optind];
    return 0;
}

/* What the policy needs and was not given. */
static void complete(struct queue_config *queue)
{
    if (!queue->servers && !queue->capacity[0] && !queue->capacity[1])
        queue->servers = 1;
    if (!queue->quantum_ns)
        queue->quantum_ns = NS_PER_S;
}

static double in_seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

static void print_table(const struct job_file *file, const struct queue_totals *totals)
{
    double finished = (double)totals->finished;

    printf("%-16s %9s %9s %9s %11s %7s  %s\n", "JOB", "ARRIVED", "WAITED", "RAN", "TURNAROUND",
           "PAUSES", "STATUS");
    for (size_t i = 0; i < file->nr_jobs; i++) {
        const struct job_entry *job = &file->jobs[i];
        const struct queue_record *r = &job->record;

        printf("%-16s %9.2f %9.2f %9.2f %11.2f %7u  ", job->id, in_seconds(job->arrival_ns),
               in_seconds(r->waited_ns), in_seconds(r->ran_ns), in_seconds(r->turnaround_ns),
               r->pauses);
        if (job->status < 0)
            puts("not run");
        else
            printf("%d\n", job->status);
    }
    if (totals->finished)
        printf("T_total %.2f s, T_wait %.2f s; mean wait %.3f s, mean turnaround %.3f s\n",
               in_seconds(totals->t_total_ns), in_seconds(totals->t_wait_ns),
               in_seconds(totals->t_wait_ns) / finished,
               in_seconds(totals->turnaround_ns) / finished);
}

static int print_json(const struct job_words *words, const struct job_file *file,
                      const struct queue_totals *totals)
{
    CLEANUP(freep) char *text = NULL;
    json_t *jobs = json_array(), *whole;
    double finished = totals->finished ? (double)totals->finished : 1;

    for (size_t i = 0; i < file->nr_jobs; i++) {
        const struct job_entry *job = &file->jobs[i];
        const struct queue_record *r = &job->record;
        bool started = job->ended && r->ended_ns && r->started_ns != QUEUE_NEVER;

        json_array_append_new(
            jobs, json_pack("{s:s, s:f, s:o, s:f, s:f, s:f, s:f, s:i, s:o}", "id", job->id,
                            "arrival", in_seconds(job->arrival_ns), "started",
                            started ? json_real(in_seconds(r->started_ns)) : json_null(), "ended",
                            in_seconds(r->ended_ns), "waited", in_seconds(r->waited_ns), "ran",
                            in_seconds(r->ran_ns), "turnaround", in_seconds(r->turnaround_ns),
                            "pauses", (int)r->pauses, "status",
                            job->status < 0 ? json_null() : json_integer(job->status)));
    }
    whole = json_pack("{s:s, s:o, s:I, s:f, s:f, s:f, s:f}", "policy",
                      queue_policy_name(words->options.queue.policy), "jobs", jobs, "finished",
                      (json_int_t)totals->finished, "t_total", in_seconds(totals->t_total_ns),
                      "t_wait", in_seconds(totals->t_wait_ns), "mean_wait",
                      in_seconds(totals->t_wait_ns) / finished, "mean_turnaround",
                      in_seconds(totals->turnaround_ns) / finished);
    text = json_text(whole, JSON_INDENT(2));
    json_decref(whole);
    if (!text)
        return -ENOMEM;
    puts(text);
    return 0;
}

static int run_file(int argc, char **argv)
{
    struct job_words words = {0};
    struct job_file file;
    struct queue_totals totals = {0};
    struct err err = ERR_INIT;
    int status = take_words(argc, argv, &words), r;

    if (status)
        return status;
    complete(&words.options.queue);
    if (!words.quiet)
        words.options.say = say;
    r = job_file_load(words.file, &file, &err);
    if (r < 0) {
        log_error("%s", err.message);
        return CLI_EXIT_FAILURE;
    }
    r = job_run(&file, &words.options, &totals, &err);
    if (r < 0)
        log_error("%s", err.message);
    if (r >= 0 || r == -EINTR) {
        if (words.json)
            print_json(&words, &file, &totals);
        else
            print_table(&file, &totals);
    }
    for (size_t i = 0; i < file.nr_jobs; i++)
        status = status || file.jobs[i].status ? 1 : 0;
    job_file_done(&file);
    return r == -EINTR ? 130 : r < 0 ? CLI_EXIT_FAILURE : status;
}

/* Those that ask the manager; `run` needs none. */
static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"submit", job_submit}, {"ls", job_ls},       {"inspect", job_inspect},
    {"logs", job_logs},     {"wait", job_wait},   {"cancel", job_cancel},
    {"update", job_update}, {"rm", job_rm},       {"queue", job_queue},
    {"stats", job_stats},   {"chart", job_chart}, {"explain", job_explain},
};

static int run(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(commands); i++)
        if (!strcmp(argv[1], commands[i].name))
            return commands[i].run(argc - 1, argv + 1);
    return run_file(argc, argv);
}

const struct cli_verb verb_job = {
    .name = "job",
    .summary = "Queues jobs and runs them by a scheduling policy",
    .usage =
        "job submit|ls|inspect|explain|logs|wait|cancel|update|rm|queue|stats|chart|run [options]",
    .help =
        "The manager's queues keep jobs on the disk and start, pause and resume them as "
        "containers\n"
        "or virtual machines, whatever becomes of the manager meanwhile:\n"
        "\n"
        "  submit [--queue NAME] [--name NAME] [--estimate 30s] [--priority N] [--tickets N]\n"
        "         [--restartable] [--count N] [--wait] [--json] [options of run] IMAGE "
        "[COMMAND...]\n"
        "                     prints the job's number; --cpus and --memory limit it, and are what\n"
        "                     it takes of its queue's capacity\n"
        "  ls [-a] [-q] [--queue NAME] [--state STATE] [--name PART] [--limit N] [--json]\n"
        "  inspect JOB...     all that is known: specification, times, what was decided and why\n"
        "  explain JOB...     in words: why it runs, waits or stands still\n"
        "  logs [-f] [-n N] [-t] JOB, wait [--timeout S] JOB..., cancel JOB..., rm [-f] JOB...\n"
        "  update [--priority N] [--estimate T] [--tickets N] JOB\n"
        "  queue create|update NAME [--policy POLICY] [--quantum T] [--preemptive[=no]]\n"
        "        [--ageing T] [--slots N] [--cpus N] [--memory SIZE] [--backfill[=no]] [--keep N]\n"
        "        [--hold | --release]; queue ls, inspect NAME, rm [-f] NAME\n"
        "  stats [QUEUE]      T_total, T_wait and means, by queue and policy; --json\n"
        "  chart QUEUE        a Gantt chart as SVG; --output FILE, --limit N\n"
        "\n"
        "job run FILE runs the jobs of FILE here and now, without a manager. FILE is a JSON "
        "array:\n"
        "[{\"id\": \"a\", \"image\": \"debian\", \"command\": [\"sleep\", \"5\"]}, ...]. Each may "
        "also have\n"
        "arrival and estimate (seconds), priority (smaller first), tickets, cpus, memory, vm.\n"
        "\n"
        "  --policy POLICY    fcfs (default), sjf, srtf, rr, priority, stride, lottery\n"
        "  --quantum SECONDS  rr, stride, lottery: how long a turn is (1)\n"
        "  --preemptive       priority: a better one pauses a running one\n"
        "  --ageing SECONDS   priority: each so long of waiting makes it one better\n"
        "  --servers N        jobs at once (1, if nothing else limits them)\n"
        "  --cpus N           processors for all together, against what each job says it needs\n"
        "  --memory SIZE      memory likewise\n"
        "  --backfill         let later ones go ahead that do not delay the first\n"
        "  --logs DIR         what a job writes goes to DIR/ID.log; without it, to standard error\n"
        "  --json             the result as JSON; -q, --quiet  no word while they run\n"
        "\n"
        "Its exit status is 0 if all jobs' are, 1 if not, 130 when a signal ended it.\n"
        "`lodge plan schedule` tells beforehand what to expect, `lodge plan compare --queue NAME`\n"
        "what another policy would have done with the jobs that a queue has had.\n",
    .run = run,
};
