/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs on real containers and VMs. Each job is a `lodge run` of our own in a cgroup of its own,
 * /lodge/job-PID-ID, where its monitor is too if it is a VM; a container's processes are in the
 * cgroup /lodge/NAME of its run. Pausing freezes both, the run first, so that it cannot make the
 * other one meanwhile; resuming thaws the container first.
 *
 * One thread: it sleeps in signalfd until a child ends, a job arrives, the queue wants to be asked,
 * or somebody wants us to stop. When we are killed the runs end by their parent-death signal.
 */
#include "cmd/job.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"
#include "host/cgroup.h"
#include "host/job_driver.h"
#include "policy/estimate.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define ARGUMENTS_MAX 256
#define PATH_SIZE     (JOB_ID_MAX + 48)
#define STOP_LIMIT    (20 * NS_PER_S)

struct live {  /* of a job that was started */
    pid_t pid; /* 0: ended */
    struct host_cgroup *cgroup;
    bool frozen;
};

struct runner {
    struct job_file *file;
    const struct job_run_options *options;
    struct queue *queue;
    struct estimator *estimates;
    queue_job_t *handles;
    struct live *live;
    size_t nr_arrived, nr_ended;
    uint64_t start_ns;
    int signals, logs;
    int keeper_fd; /* a word says that all is well; end of file that we are dead */
    pid_t keeper;
};

static uint64_t now_ns(const struct runner *run)
{
    return clock_monotonic_ns() - run->start_ns;
}

static void say(const struct runner *run, const struct job_entry *job, const char *what,
                const char *why)
{
    if (run->options->say)
        run->options->say(job, what, why, now_ns(run));
}

/* /lodge/NAME, the container's cgroup, or /lodge/run-NAME, its run's. */
static void cgroup_path(const struct job_entry *job, pid_t owner, bool run, char *ret, size_t size)
{
    snprintf(ret, size, "/lodge/%sjob-%d-%s", run ? "run-" : "", owner, job->id);
}

/* Jobs of one image and command are of one class. */
static void class_name(const struct job_entry *job, char *ret, size_t size)
{
    CLEANUP(freep) char *command = json_text(job->command, JSON_COMPACT);

    snprintf(ret, size, "%s %d %s", job->image, job->vm, command ? command : "");
}

static _Noreturn void become_run(const struct runner *run, const struct job_entry *job,
                                 struct host_cgroup *cgroup, pid_t parent)
{
    const char *arguments[ARGUMENTS_MAX] = {"lodge", "run", "-q", "--name"};
    char name[JOB_ID_MAX + 24], cpus[32], log[JOB_ID_MAX + 8];
    size_t n = 4, count = json_array_size(job->command);
    sigset_t none;
    int out;

    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent || host_cgroup_attach(cgroup, getpid(), NULL) < 0)
        _exit(125);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    snprintf(log, sizeof(log), "%s.log", job->id);
    out = run->logs >= 0
              ? openat(run->logs, log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644)
              : STDERR_FILENO;
    if (out < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
        _exit(125);
    snprintf(name, sizeof(name), "job-%d-%s", parent, job->id);
    arguments[n++] = name;
    if (job->vm)
        arguments[n++] = "--vm";
    if (job->cpus > 0) {
        snprintf(cpus, sizeof(cpus), job->vm ? "%.0f" : "%.2f",
                 job->vm ? __builtin_ceil(job->cpus) : job->cpus);
        arguments[n++] = "--cpus";
        arguments[n++] = cpus;
    }
    if (job->memory) {
        arguments[n++] = "--memory";
        arguments[n++] = job->memory;
    }
    arguments[n++] = job->image;
    for (size_t i = 0; i < count && n + 1 < ARGUMENTS_MAX; i++)
        arguments[n++] = json_string_value(json_array_get(job->command, i));
    arguments[n] = NULL;
    execv("/proc/self/exe", (char **)(uintptr_t)arguments);
    _exit(125);
}

static int job_start(void *owner, const struct queue_decision *decision, struct err *err)
{
    struct runner *run = owner;
    struct job_entry *job = &run->file->jobs[decision->cookie];
    struct live *live = &run->live[decision->cookie];
    char path[PATH_SIZE];
    pid_t parent = getpid();
    int r;

    cgroup_path(job, parent, true, path, sizeof(path));
    r = host_cgroup_make(path, &live->cgroup, err);
    if (r < 0)
        return r;
    live->pid = fork();
    if (live->pid == 0)
        become_run(run, job, live->cgroup, parent);
    if (live->pid < 0) {
        live->pid = 0;
        return err_errno(err, -errno, "start a process");
    }
    say(run, job, "start", queue_reason_text(decision->reason));
    return 0;
}

/* The container's own cgroup, if the job is one and has come so far. */
static int freeze_container(const struct job_entry *job, bool frozen, struct err *err)
{
    CLEANUP(host_cgroup_closep) struct host_cgroup *cgroup = NULL;
    char path[PATH_SIZE];

    cgroup_path(job, getpid(), false, path, sizeof(path));
    if (job->vm || host_cgroup_open(path, &cgroup, NULL) < 0)
        return 0;
    return host_cgroup_set_frozen(cgroup, frozen, err);
}

static int job_pause(void *owner, const struct queue_decision *decision, struct err *err)
{
    struct runner *run = owner;
    struct job_entry *job = &run->file->jobs[decision->cookie];
    struct live *live = &run->live[decision->cookie];
    int r = host_cgroup_set_frozen(live->cgroup, true, err);

    if (r >= 0)
        r = freeze_container(job, true, err);
    live->frozen = true;
    if (r >= 0)
        say(run, job, "pause", queue_reason_text(decision->reason));
    return r;
}

static int thaw(struct runner *run, size_t i, struct err *err)
{
    int r = freeze_container(&run->file->jobs[i], false, err);

    if (r >= 0)
        r = host_cgroup_set_frozen(run->live[i].cgroup, false, err);
    run->live[i].frozen = r < 0;
    return r;
}

static int job_resume(void *owner, const struct queue_decision *decision, struct err *err)
{
    struct runner *run = owner;
    int r = thaw(run, decision->cookie, err);

    if (r >= 0)
        say(run, &run->file->jobs[decision->cookie], "resume", queue_reason_text(decision->reason));
    return r;
}

static void job_ended(struct runner *run, size_t i, int status)
{
    struct job_entry *job = &run->file->jobs[i];

    job->status = status;
    job->ended = true;
    run->nr_ended++;
}

static void stop_job(struct runner *run, size_t i, int signal)
{
    if (run->live[i].pid <= 0)
        return;
    if (run->live[i].frozen)
        thaw(run, i, NULL);
    kill(run->live[i].pid, signal);
}

static void job_failed(void *owner, const struct queue_record *record, const struct err *err)
{
    struct runner *run = owner;
    struct job_entry *job = &run->file->jobs[record->cookie];

    log_error("job %s: %s", job->id, err->message);
    stop_job(run, record->cookie, SIGTERM);
    job->record = *record;
    job_ended(run, record->cookie, -1);
}

static const struct host_job_verbs verbs = {job_start, job_pause, job_resume, job_failed};

static void arrive(struct runner *run)
{
    while (run->nr_arrived < run->file->nr_jobs &&
           run->file->jobs[run->nr_arrived].arrival_ns <= now_ns(run)) {
        size_t i = run->nr_arrived++;
        struct job_entry *job = &run->file->jobs[i];
        struct queue_spec spec = job->spec;
        struct err err = ERR_INIT;
        struct estimate guess;
        char class[1024];

        class_name(job, class, sizeof(class));
        estimator_ask(run->estimates, class, &guess);
        if (!spec.estimate_ns && guess.of_class)
            spec.estimate_ns = MAX(guess.mean_ns, 1);
        if (queue_submit(run->queue, now_ns(run), &spec, &run->handles[i], &err) < 0) {
            log_error("job %s: %s", job->id, err.message);
            job_ended(run, i, -1);
        }
    }
}

static void collect(struct runner *run)
{
    for (size_t i = 0; i < run->nr_arrived; i++) {
        struct job_entry *job = &run->file->jobs[i];
        char class[1024];
        int status;

        if (run->live[i].pid <= 0 ||
            waitpid(run->live[i].pid, &status, WNOHANG) != run->live[i].pid)
            continue;
        run->live[i].pid = 0;
        host_cgroup_remove(run->live[i].cgroup);
        if (job->ended)
            continue; /* withdrawn before */
        if (queue_finish(run->queue, now_ns(run), run->handles[i], &job->record) < 0)
            queue_cancel(run->queue, now_ns(run), run->handles[i], &job->record);
        job_ended(run, i, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
        if (!job->status) {
            class_name(job, class, sizeof(class));
            estimator_learn(run->estimates, class, job->record.ran_ns);
        }
        say(run, job, "end", job->status ? "it failed" : "it is done");
    }
}

/* Until `until` (our clock) or a signal. Returns 1 when it was one that asks us to stop. */
static int sleep_until(struct runner *run, uint64_t until)
{
    struct pollfd poll_fd = {.fd = run->signals, .events = POLLIN};
    uint64_t now = now_ns(run), wait = until > now ? MIN(until - now, 3600 * NS_PER_S) : 0;
    struct timespec timeout = {.tv_sec = (time_t)(wait / NS_PER_S),
                               .tv_nsec = (long)(wait % NS_PER_S)};
    struct signalfd_siginfo info;
    int stop = 0;

    if (ppoll(&poll_fd, 1, &timeout, NULL) <= 0)
        return 0;
    while (read(run->signals, &info, sizeof(info)) == sizeof(info))
        stop |= info.ssi_signo != SIGCHLD;
    return stop;
}

static bool any_lives(const struct runner *run)
{
    for (size_t i = 0; i < run->nr_arrived; i++)
        if (run->live[i].pid > 0)
            return true;
    return false;
}

/* Ends all that lives: asked first, killed in the end. */
static void stop_all(struct runner *run)
{
    uint64_t deadline = now_ns(run) + STOP_LIMIT;

    for (size_t i = 0; i < run->nr_arrived; i++)
        stop_job(run, i, SIGTERM);
    while (any_lives(run)) {
        sleep_until(run, now_ns(run) + 50 * NS_PER_MS);
        collect(run);
        if (now_ns(run) < deadline)
            continue;
        for (size_t i = 0; i < run->nr_arrived; i++)
            stop_job(run, i, SIGKILL);
    }
}

static int runner_loop(struct runner *run, struct err *err)
{
    while (run->nr_ended < run->file->nr_jobs) {
        uint64_t next;

        collect(run);
        arrive(run);
        next = host_jobs_step(run->queue, now_ns(run), &verbs, run);
        if (run->nr_arrived < run->file->nr_jobs)
            next = MIN(next, run->file->jobs[run->nr_arrived].arrival_ns);
        if (run->nr_ended == run->file->nr_jobs)
            break;
        if (sleep_until(run, next))
            return err_set(err, -EINTR, "stopped by a signal; the jobs that were left are ended");
    }
    return 0;
}

static void thaw_path(const char *path)
{
    struct host_cgroup *cgroup;

    if (host_cgroup_open(path, &cgroup, NULL) < 0)
        return;
    host_cgroup_set_frozen(cgroup, false, NULL);
    host_cgroup_close(cgroup);
}

/* What a killed owner left: thawed, so that it ends; then the cgroups of the runs go. */
static _Noreturn void keeper_main(const struct job_file *file, pid_t owner, int fd)
{
    char path[PATH_SIZE], word;
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    setsid();
    if (read(fd, &word, 1) != 0)
        _exit(0);
    for (size_t i = 0; i < file->nr_jobs; i++)
        for (int run = 0; run <= 1; run++) {
            cgroup_path(&file->jobs[i], owner, run, path, sizeof(path));
            thaw_path(path);
        }
    for (uint64_t deadline = clock_monotonic_ns() + STOP_LIMIT; clock_monotonic_ns() < deadline;) {
        bool left = false;

        for (size_t i = 0; i < file->nr_jobs; i++) {
            struct host_cgroup *cgroup;

            cgroup_path(&file->jobs[i], owner, true, path, sizeof(path));
            if (host_cgroup_open(path, &cgroup, NULL) < 0)
                continue;
            left = host_cgroup_remove(cgroup) < 0 || left;
            host_cgroup_close(cgroup);
        }
        if (!left)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    _exit(0);
}

static int keeper_start(struct runner *run, struct err *err)
{
    pid_t owner = getpid();
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_errno(err, -errno, "pipe");
    run->keeper = fork();
    if (run->keeper == 0) {
        close(fds[1]);
        keeper_main(run->file, owner, fds[0]);
    }
    close(fds[0]);
    run->keeper_fd = fds[1];
    return run->keeper < 0 ? err_errno(err, -errno, "start a process") : 0;
}

static void keeper_end(struct runner *run)
{
    if (run->keeper <= 0)
        return;
    (void)!write(run->keeper_fd, "q", 1);
    while (waitpid(run->keeper, NULL, 0) < 0 && errno == EINTR)
        ;
    run->keeper = 0;
}

static void runner_done(struct runner *run)
{
    for (size_t i = 0; run->live && i < run->file->nr_jobs; i++) {
        if (!run->live[i].cgroup)
            continue;
        host_cgroup_remove(run->live[i].cgroup); /* unless it is gone already */
        host_cgroup_close(run->live[i].cgroup);
    }
    keeper_end(run);
    fd_closep(&run->keeper_fd);
    queue_free(run->queue);
    estimator_free(run->estimates);
    free(run->handles);
    free(run->live);
    fd_closep(&run->signals);
    fd_closep(&run->logs);
}

static int open_logs(const char *path, int *ret, struct err *err)
{
    if (!path)
        return 0;
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return err_errno(err, -errno, "make the directory '%s'", path);
    *ret = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret < 0 ? err_errno(err, -errno, "open the directory '%s'", path) : 0;
}

int job_run(struct job_file *file, const struct job_run_options *options,
            struct queue_totals *ret_totals, struct err *err)
{
    CLEANUP(runner_done)
    struct runner run = {
        .file = file, .options = options, .signals = -1, .logs = -1, .keeper_fd = -1};
    sigset_t watched, before;
    int r = open_logs(options->logs, &run.logs, err);

    if (r >= 0)
        r = queue_new(&options->queue, &run.queue, err);
    if (r >= 0)
        r = estimator_new(&(struct estimate_config){0}, &run.estimates, err);
    if (r < 0)
        return r;
    run.handles = calloc(file->nr_jobs + 1, sizeof(*run.handles));
    run.live = calloc(file->nr_jobs + 1, sizeof(*run.live));
    if (!run.handles || !run.live)
        return err_set(err, -ENOMEM, "out of memory");
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    sigaddset(&watched, SIGINT);
    sigaddset(&watched, SIGTERM);
    sigaddset(&watched, SIGHUP);
    sigprocmask(SIG_BLOCK, &watched, &before);
    run.signals = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    run.start_ns = clock_monotonic_ns();
    r = run.signals < 0 ? err_errno(err, -errno, "signalfd") : keeper_start(&run, err);
    if (r >= 0)
        r = runner_loop(&run, err);
    stop_all(&run);
    queue_totals(run.queue, ret_totals);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return r;
}
