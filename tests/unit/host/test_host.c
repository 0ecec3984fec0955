/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocations and job queues on real processes. Everything is measured in processor time that the
 * kernel counted for the cgroups, never in wall time, so that whatever else the host does changes
 * how long a test takes and not its answer: weights divide what the group as a whole gets, and the
 * clock of the job queue is the processor time of its one server.
 */
#define TESTING_TIMEOUT 300

#include "host/division.h"
#include "host/job_driver.h"
#include "host/memory_round.h"

#include "base/clock.h"
#include "base/util.h"
#include "testing.h"

#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define HOGS_MAX 5
#define DEADLINE (240 * NS_PER_S)
#define NEEDS    "root, and cgroups with the controller cpu that can be written"

struct group {
    struct host_cgroup *parent, *cgroups[HOGS_MAX];
    pid_t pids[HOGS_MAX];
    size_t n;
};

static bool able(void)
{
    struct host_cgroup *probe;
    struct host_figures figures;
    struct allocation_cgroup cpu;
    bool ok;

    if (geteuid() || host_cgroup_make("/lodge-test-probe", &probe, NULL) < 0)
        return false;
    allocation_cgroup(1, 1, ALLOCATION_UNLIMITED, 0, &cpu);
    ok = host_cgroup_read(probe, &figures, NULL) == 0 &&
         host_cgroup_set_cpu(probe, &cpu, NULL) == 0;
    host_cgroup_remove(probe);
    host_cgroup_close(probe);
    return ok;
}

/* One processor for all, so that the weights are against one another alone. */
static void stay_on_one_processor(void)
{
    cpu_set_t allowed, one;

    ck_assert_int_eq(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed)) {
            CPU_SET(cpu, &one);
            break;
        }
    ck_assert_int_eq(sched_setaffinity(0, sizeof(one), &one), 0);
}

static uint64_t own_cpu_ns(void)
{
    return clock_read_ns(CLOCK_PROCESS_CPUTIME_ID);
}

/* A child in the cgroup that uses so much processor time and ends. */
static pid_t burn(struct host_cgroup *cgroup, uint64_t cpu_ns)
{
    struct err err = ERR_INIT;
    pid_t parent = getpid(), pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || host_cgroup_attach(cgroup, getpid(), &err) < 0)
        _exit(99);
    stay_on_one_processor();
    for (uint64_t start = own_cpu_ns(); own_cpu_ns() - start < cpu_ns;)
        for (volatile unsigned i = 0; i < 1000; i++)
            ;
    _exit(0);
}

static void group_make(struct group *group, size_t n, bool hogs)
{
    char path[96];
    struct err err = ERR_INIT;

    *group = (struct group){.n = n};
    snprintf(path, sizeof(path), "/lodge-test-%d", getpid());
    ck_assert_msg(host_cgroup_make(path, &group->parent, &err) == 0, "%s", err.message);
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof(path), "/lodge-test-%d/%zu", getpid(), i);
        ck_assert_msg(host_cgroup_make(path, &group->cgroups[i], &err) == 0, "%s", err.message);
        if (hogs)
            group->pids[i] = burn(group->cgroups[i], DEADLINE);
    }
}

static void group_done(struct group *group)
{
    for (size_t i = 0; i < group->n; i++) {
        if (group->pids[i] > 0) {
            kill(group->pids[i], SIGKILL);
            host_cgroup_set_frozen(group->cgroups[i], false, NULL);
            waitpid(group->pids[i], NULL, 0);
        }
        host_cgroup_remove(group->cgroups[i]);
        host_cgroup_close(group->cgroups[i]);
    }
    host_cgroup_remove(group->parent);
    host_cgroup_close(group->parent);
}

static void read_all(const struct group *group, struct host_figures *figures, uint64_t *ret_total)
{
    struct err err = ERR_INIT;

    *ret_total = 0;
    for (size_t i = 0; i < group->n; i++) {
        ck_assert_msg(host_cgroup_read(group->cgroups[i], &figures[i], &err) == 0, "%s",
                      err.message);
        *ret_total += figures[i].cpu_ns;
    }
}

/* Waits until the group has used so much more, and reads the counters then. */
static void let_use(const struct group *group, uint64_t cpu_ns, struct host_figures *figures)
{
    uint64_t start, now, deadline = clock_monotonic_ns() + DEADLINE;

    read_all(group, figures, &start);
    do {
        ck_assert_msg(clock_monotonic_ns() < deadline, "the processes get no processor time");
        usleep(10000);
        read_all(group, figures, &now);
    } while (now - start < cpu_ns);
}

static struct allocation_instance hog(double priority)
{
    struct allocation_instance instance = {.alpha = 1, .priority = priority};

    for (unsigned r = 0; r < ALLOCATION_RESOURCES; r++)
        instance.limit[r] = ALLOCATION_UNLIMITED;
    return instance;
}

static void divide(const struct group *group, const struct allocation_instance *instances,
                   struct host_division *division)
{
    const struct allocation_policy policy = {.mode = ALLOCATION_STATIC};
    struct allocation_result results[HOGS_MAX];
    struct err err = ERR_INIT;

    ck_assert_msg(host_division_apply(1, &policy, instances, group->cgroups, group->n, results,
                                      division, &err) == 0,
                  "%s", err.message);
}

static void expect_shares(const struct group *group, const struct host_division *division,
                          uint64_t cpu_ns, const char *what)
{
    struct host_figures before[HOGS_MAX], after[HOGS_MAX];
    double shares[HOGS_MAX], deviation;

    let_use(group, 1, before);
    let_use(group, cpu_ns, after);
    ck_assert_int_eq(host_division_verify(division, before, after, group->n, shares, &deviation),
                     0);
    printf("%s:", what);
    for (size_t i = 0; i < group->n; i++)
        printf(" %.4f of %.4f", shares[i], division[i].expected);
    printf(", off by %.2f %%\n", 100 * deviation);
    fflush(stdout);
    ck_assert_msg(deviation <= 0.05, "%s: off by %.2f %%", what, 100 * deviation);
}

/* Hogs with weights 1:2:4; then the priorities change while they run, and after two periods of the
 * kernel's bandwidth (0.2 s of processor time) the new shares hold. */
START_TEST(weights_and_a_change)
{
    struct group group;
    struct allocation_instance instances[3] = {hog(1), hog(2), hog(4)};
    struct host_division division[3];
    struct host_figures figures[HOGS_MAX];

    TEST_NEEDS(able(), NEEDS);
    group_make(&group, 3, true);
    divide(&group, instances, division);
    ck_assert_double_eq_tol(division[2].expected, 4.0 / 7, 1e-9);
    let_use(&group, 100 * NS_PER_MS, figures);
    expect_shares(&group, division, 2 * NS_PER_S, "1:2:4");
    instances[0].priority = 4;
    instances[2].priority = 1;
    divide(&group, instances, division);
    let_use(&group, 200 * NS_PER_MS, figures);
    expect_shares(&group, division, 2 * NS_PER_S, "4:2:1, changed");
    group_done(&group);
}
END_TEST

/* The 10 GHz example: shares 2000, 1000, 1000; the first limited to 3, the second with 2 reserved:
 * 3 / 3.5 / 3.5, one core standing for 10. */
START_TEST(reservation_and_limit)
{
    struct group group;
    struct allocation_instance instances[3] = {hog(2000), hog(1000), hog(1000)};
    struct host_division division[3];
    struct host_figures figures[HOGS_MAX];

    TEST_NEEDS(able(), NEEDS);
    instances[0].limit[ALLOCATION_CPU] = 0.3;
    instances[1].reservation[ALLOCATION_CPU] = 0.2;
    group_make(&group, 3, true);
    divide(&group, instances, division);
    ck_assert_double_eq_tol(division[0].expected, 0.30, 1e-9);
    ck_assert_double_eq_tol(division[1].expected, 0.35, 1e-9);
    ck_assert_int_eq(division[0].written.quota_us, 30000);
    let_use(&group, 100 * NS_PER_MS, figures);
    expect_shares(&group, division, 2 * NS_PER_S, "10 GHz");
    group_done(&group);
}
END_TEST

/* A capped one never has more than its cap (and what a period may add at both ends). */
START_TEST(cap_is_kept)
{
    struct group group;
    struct allocation_instance instance = hog(1);
    struct host_division division;
    struct host_figures before, after;
    uint64_t start, elapsed;

    TEST_NEEDS(able(), NEEDS);
    instance.limit[ALLOCATION_CPU] = 0.2;
    group_make(&group, 1, true);
    divide(&group, &instance, &division);
    let_use(&group, 50 * NS_PER_MS, &before);
    start = clock_monotonic_ns();
    let_use(&group, 200 * NS_PER_MS, &after);
    elapsed = clock_monotonic_ns() - start;
    ck_assert_uint_le(after.cpu_ns - before.cpu_ns, elapsed / 5 + 2 * 20 * NS_PER_MS);
    ck_assert_uint_gt(after.throttled, before.throttled);
    ck_assert_uint_gt(after.throttled_ns, before.throttled_ns);
    group_done(&group);
}
END_TEST

/* Three alike on one processor: each is ready without it for at least as long as it has it. */
START_TEST(waiting_is_seen)
{
    struct group group;
    struct allocation_instance instances[3] = {hog(1), hog(1), hog(1)};
    struct host_division division[3];
    struct host_figures before[HOGS_MAX], after[HOGS_MAX];
    struct err err = ERR_INIT;
    uint64_t waited[2];
    uint32_t tasks;

    TEST_NEEDS(able() && access("/proc/self/schedstat", R_OK) == 0, NEEDS ", and schedstat");
    group_make(&group, 3, true);
    divide(&group, instances, division);
    let_use(&group, 100 * NS_PER_MS, before);
    for (unsigned k = 0; k < 2; k++) {
        ck_assert_msg(host_cgroup_waiting(group.cgroups[1], &waited[k], &tasks, &err) == 0, "%s",
                      err.message);
        ck_assert_uint_eq(tasks, 1);
        if (!k)
            let_use(&group, 600 * NS_PER_MS, after);
    }
    ck_assert_uint_gt(waited[1] - waited[0], after[1].cpu_ns - before[1].cpu_ns);
    group_done(&group);
}
END_TEST

#define FILE_SIZE (96 * MIB)

/* A child that has read a file into the cgroup's page cache and has some memory of its own; it
 * writes a byte each time it has read the file, and reads it again when it is told to. */
static pid_t file_reader(struct host_cgroup *cgroup, int file, int told, int tells)
{
    pid_t parent = getpid(), pid = fork();
    char byte;

    ck_assert_int_ge(pid, 0);
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || host_cgroup_attach(cgroup, getpid(), NULL) < 0)
        _exit(99);
    do {
        char *own = calloc(1, 8 * MIB);
        static char part[64 * KIB];

        for (size_t i = 0; own && i < 8 * MIB; i += 4096)
            ((volatile char *)own)[i] = 1;
        for (uint64_t at = 0; at < FILE_SIZE; at += sizeof(part))
            if (pread(file, part, sizeof(part), (off_t)at) != sizeof(part))
                _exit(98);
        if (write(tells, "x", 1) != 1)
            _exit(97);
        free(own);
    } while (read(told, &byte, 1) == 1);
    _exit(0);
}

/* Not yet in anybody's page cache, so that who reads it is charged for it. */
static int cold_file(void)
{
    char path[] = "lodge-test-XXXXXX", part[64 * KIB] = "";
    int fd = mkstemp(path);

    ck_assert_int_ge(fd, 0);
    unlink(path);
    for (uint64_t at = 0; at < FILE_SIZE; at += sizeof(part))
        ck_assert_int_eq(write(fd, part, sizeof(part)), sizeof(part));
    ck_assert_int_eq(fdatasync(fd), 0);
    ck_assert_int_eq(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    return fd;
}

/* Under pressure of the host at least 70 % of what an idle instance does not use comes back within
 * ten periods, nothing is killed, and it grows again when it wants to. */
START_TEST(memory_comes_back)
{
    struct group group;
    struct memory_policy policy = {.floor_bytes = 4 * MIB};
    struct memory_host pressed = {.total_bytes = 64 * GIB, .available_bytes = GIB};
    struct memory_instance instance = {.limit_bytes = 512 * MIB};
    struct memory_target target;
    struct host_figures figures;
    struct err err = ERR_INIT;
    uint64_t unused, used;
    int told[2], tells[2], file;
    char byte;

    TEST_NEEDS(able(), NEEDS);
    group_make(&group, 1, false);
    ck_assert(pipe(told) == 0 && pipe(tells) == 0);
    file = cold_file();
    group.pids[0] = file_reader(group.cgroups[0], file, told[0], tells[1]);
    ck_assert_int_eq(read(tells[0], &byte, 1), 1);
    ck_assert_int_eq(host_cgroup_read(group.cgroups[0], &figures, &err), 0);
    if (figures.file_bytes == UINT64_MAX || figures.file_bytes < FILE_SIZE / 2) {
        group_done(&group);
        TEST_NEEDS(false, "the controller memory, and a file system whose pages can be reclaimed");
    }
    used = figures.memory_bytes;
    unused = figures.file_bytes;
    for (unsigned period = 0; period < 10; period++) {
        ck_assert_msg(
            host_memory_round(&policy, &pressed, &instance, group.cgroups, 1, &target, &err) == 0,
            "%s", err.message);
        instance.target_bytes = target.target_bytes;
    }
    ck_assert_int_eq(host_cgroup_read(group.cgroups[0], &figures, &err), 0);
    printf("memory: %llu MiB used, %llu not needed; %llu used after ten periods\n",
           (unsigned long long)(used / MIB), (unsigned long long)(unused / MIB),
           (unsigned long long)(figures.memory_bytes / MIB));
    fflush(stdout);
    ck_assert_uint_le(figures.memory_bytes, used - unused * 7 / 10);
    ck_assert_int_eq(waitpid(group.pids[0], NULL, WNOHANG), 0);
    ck_assert_int_eq(write(told[1], "x", 1), 1);
    ck_assert_int_eq(read(tells[0], &byte, 1), 1);
    ck_assert_int_eq(host_cgroup_read(group.cgroups[0], &figures, &err), 0);
    ck_assert_uint_ge(figures.memory_bytes, used - unused / 2);
    close(file);
    group_done(&group);
}
END_TEST

START_TEST(host_memory)
{
    struct memory_host host;

    ck_assert_int_eq(host_memory_read(&host, NULL), 0);
    ck_assert_uint_gt(host.total_bytes, host.available_bytes);
    ck_assert(host.pressure >= 0 && host.pressure <= 1);
}
END_TEST

struct real_job {
    unsigned arrival, burst; /* units of the table */
    queue_job_t handle;
    struct queue_record record;
    bool told, done;
};

struct real_run {
    struct group group;
    struct queue *q;
    struct real_job jobs[HOGS_MAX];
    uint64_t unit_ns, start_ns;
};

static int job_start(void *owner, const struct queue_decision *decision, struct err *err)
{
    struct real_run *run = owner;
    uint64_t i = decision->cookie;

    (void)err;
    run->group.pids[i] = burn(run->group.cgroups[i], run->jobs[i].burst * run->unit_ns);
    return 0;
}

static int job_pause(void *owner, const struct queue_decision *decision, struct err *err)
{
    struct real_run *run = owner;

    return host_cgroup_set_frozen(run->group.cgroups[decision->cookie], true, err);
}

static int job_resume(void *owner, const struct queue_decision *decision, struct err *err)
{
    struct real_run *run = owner;

    return host_cgroup_set_frozen(run->group.cgroups[decision->cookie], false, err);
}

static void job_failed(void *owner, const struct queue_record *record, const struct err *err)
{
    (void)owner;
    ck_abort_msg("job %llu: %s", (unsigned long long)record->cookie, err->message);
}

static const struct host_job_verbs verbs = {job_start, job_pause, job_resume, job_failed};

/* Processor time of the one server: what all jobs have used. */
static uint64_t server_clock(struct real_run *run)
{
    struct host_figures figures[HOGS_MAX];
    uint64_t total;

    read_all(&run->group, figures, &total);
    return total - run->start_ns;
}

static void tell_arrivals(struct real_run *run, uint64_t now, const int *priorities)
{
    for (size_t i = 0; i < run->group.n; i++) {
        struct real_job *job = &run->jobs[i];
        struct queue_spec spec = {
            .cookie = i, .estimate_ns = job->burst * run->unit_ns, .priority = priorities[i]};

        if (job->told || job->arrival * run->unit_ns > now)
            continue;
        /* It arrived when it arrived, however late that was noticed: but time never goes back. */
        ck_assert_int_eq(queue_submit(run->q, now, &spec, &job->handle, NULL), 0);
        job->told = true;
    }
}

static size_t tell_ends(struct real_run *run)
{
    size_t done = 0;

    for (size_t i = 0; i < run->group.n; i++) {
        struct real_job *job = &run->jobs[i];
        int status;

        if (!job->done && run->group.pids[i] > 0 &&
            waitpid(run->group.pids[i], &status, WNOHANG) == run->group.pids[i]) {
            ck_assert(WIFEXITED(status) && !WEXITSTATUS(status));
            run->group.pids[i] = 0;
            job->done = true;
            ck_assert_int_eq(queue_finish(run->q, server_clock(run), job->handle, &job->record), 0);
        }
        done += job->done;
    }
    return done;
}

static const struct {
    const char *name;
    struct queue_config config;
    unsigned quantum, n;
    unsigned arrivals[4], bursts[4];
    int priorities[4];
    double mean_wait;
} real_answers[] = {
    {"SJF 6 8 7 3", {.policy = QUEUE_SJF}, 0, 4, {0}, {6, 8, 7, 3}, {0}, 7},
    {"RR q=4 24 3 3", {.policy = QUEUE_RR}, 4, 3, {0}, {24, 3, 3}, {0}, 17.0 / 3},
    {"SRTF, arrivals 0 1 2 3", {.policy = QUEUE_SRTF}, 0, 4, {0, 1, 2, 3}, {8, 4, 9, 5}, {0}, 6.5},
    {"FCFS 24 3 3", {.policy = QUEUE_FCFS}, 0, 3, {0}, {24, 3, 3}, {0}, 17},
};

/* The mean wait in units of this length. */
static double real_mean_wait(unsigned which, uint64_t unit_ns)
{
    struct real_run run = {.unit_ns = unit_ns};
    struct queue_config config = real_answers[which].config;
    uint64_t deadline = clock_monotonic_ns() + DEADLINE;
    double waited = 0;

    config.servers = 1;
    config.quantum_ns = real_answers[which].quantum * run.unit_ns;
    ck_assert_int_eq(queue_new(&config, &run.q, NULL), 0);
    for (unsigned i = 0; i < real_answers[which].n; i++)
        run.jobs[i] = (struct real_job){.arrival = real_answers[which].arrivals[i],
                                        .burst = real_answers[which].bursts[i]};
    group_make(&run.group, real_answers[which].n, false);
    run.start_ns = server_clock(&run);
    while (tell_ends(&run) < run.group.n) {
        uint64_t now = server_clock(&run);

        ck_assert_uint_lt(clock_monotonic_ns(), deadline);
        tell_arrivals(&run, now, real_answers[which].priorities);
        host_jobs_step(run.q, now, &verbs, &run);
        usleep(1000);
    }
    for (unsigned i = 0; i < run.group.n; i++)
        waited += (double)run.jobs[i].record.waited_ns / (double)run.unit_ns;
    queue_free(run.q);
    group_done(&run.group);
    return waited / (double)run.group.n;
}

/* What is decided late on a busy host is a smaller part of a longer unit: so twice more with that.
 */
START_TEST(jobs_in_real_time)
{
    double off = 1;

    TEST_NEEDS(able(), NEEDS);
    /* Whoever decides is awake at once; where that is not allowed, it is a little late. */
    sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &(struct sched_param){1});
    for (unsigned i = 0; i < 3 && fabs(off) > 0.05; i++) {
        double mean = real_mean_wait((unsigned)_i, (50 * NS_PER_MS) << i);

        off = mean / real_answers[_i].mean_wait - 1;
        printf("%s: mean wait %.3f, known %.3f: off by %.2f %%\n", real_answers[_i].name, mean,
               real_answers[_i].mean_wait, 100 * off);
        fflush(stdout);
    }
    ck_assert_msg(fabs(off) <= 0.05, "%s: off by %.2f %%", real_answers[_i].name, 100 * off);
}
END_TEST

static int refuse(void *owner, const struct queue_decision *decision, struct err *err)
{
    (void)owner;
    return decision->cookie == 1 ? err_set(err, -EIO, "broken") : 0;
}

static void count_failure(void *owner, const struct queue_record *record, const struct err *err)
{
    ck_assert_uint_eq(record->cookie, 1);
    ck_assert_str_eq(err->message, "broken");
    ++*(unsigned *)owner;
}

/* One job that cannot be started does not stop the next. */
START_TEST(broken_job)
{
    static const struct host_job_verbs broken = {refuse, refuse, refuse, count_failure};
    struct queue_config config = {.policy = QUEUE_FCFS, .servers = 1};
    struct queue_totals totals;
    unsigned failures = 0;
    struct queue *q;

    ck_assert_int_eq(queue_new(&config, &q, NULL), 0);
    for (unsigned i = 1; i <= 2; i++) {
        queue_job_t job;

        ck_assert_int_eq(queue_submit(q, 0, &(struct queue_spec){.cookie = i}, &job, NULL), 0);
    }
    ck_assert_uint_eq(host_jobs_step(q, 0, &broken, &failures), QUEUE_NEVER);
    queue_totals(q, &totals);
    ck_assert_uint_eq(failures, 1);
    ck_assert_uint_eq(totals.running, 1);
    ck_assert_uint_eq(totals.cancelled, 1);
    queue_free(q);
}
END_TEST

START_TEST(bad_paths)
{
    static const char *const paths[] = {"", "/", "relative", "/a/../b", "/lodge-test-not-there"};
    struct host_cgroup *cgroup;
    struct err err = ERR_INIT;

    ck_assert_int_lt(host_cgroup_open(paths[_i], &cgroup, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.message, paths[_i]));
}
END_TEST

TEST_MAIN("host", tcase_add_test(tcase, weights_and_a_change);
          tcase_add_test(tcase, reservation_and_limit); tcase_add_test(tcase, cap_is_kept);
          tcase_add_test(tcase, waiting_is_seen); tcase_add_test(tcase, memory_comes_back);
          tcase_add_test(tcase, host_memory);
          tcase_add_loop_test(tcase, jobs_in_real_time, 0, (int)ARRAY_LEN(real_answers));
          tcase_add_test(tcase, broken_job); tcase_add_loop_test(tcase, bad_paths, 0, 5);)
