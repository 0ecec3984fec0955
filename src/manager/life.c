/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of an instance. Each function is called by who has it (instance_acquire).
 *
 *      created ──start──▶ starting ──shim: running──▶ running ⇄ paused
 *      exited  ──start──▶    │ shim: exited              │ stop: stopping
 *                            ▼                           ▼ shim: exited
 *                          exited ◀──────── settle ──────┘
 *      any that does not run ──rm──▶ removing ──▶ gone
 *
 * An intent is in the store before anything is done for it (starting with its run's number,
 * removing), and the result after: docs/design/manager.md has what a crash between any two steps
 * comes to.
 */
#include "manager/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "manager/jobs.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOCK_MS        15000
#define START_LIMIT_NS (900 * NS_PER_S)
#define KILL_LIMIT_NS  (30 * NS_PER_S)
/* What could not be done because the guest has just ended is known for that within this time. */
#define END_GRACE_NS  NS_PER_S
#define BACKOFF_LEAST (200 * NS_PER_MS)
#define BACKOFF_MOST  (60 * NS_PER_S)
/* A run of this length was a good one: the next failure is a first one again. */
#define GOOD_RUN_NS   (10 * NS_PER_S)
#define WRITE_BACK_MS 5000

bool life_is_active(enum instance_state state)
{
    return state == INSTANCE_STARTING || state == INSTANCE_RUNNING || state == INSTANCE_PAUSED ||
           state == INSTANCE_STOPPING;
}

static struct timespec realtime_deadline(uint64_t in_ns)
{
    uint64_t at_ns = clock_realtime_ns() + in_ns;

    return (struct timespec){(time_t)(at_ns / NS_PER_S), (long)(at_ns % NS_PER_S)};
}

/* Until the watch says so. True: it ended. */
static bool wait_end(struct manager *m, struct instance *instance, uint64_t limit_ns)
{
    struct timespec deadline = realtime_deadline(limit_ns);
    bool ended;

    pthread_mutex_lock(&m->lock);
    while (!instance->ended && !atomic_load(&m->stopping))
        if (pthread_cond_timedwait(&instance->changed, &m->lock, &deadline) != 0)
            break;
    ended = instance->ended;
    pthread_mutex_unlock(&m->lock);
    return ended;
}

enum outcome { OUTCOME_RUNNING, OUTCOME_ENDED, OUTCOME_CANCELLED, OUTCOME_LATE };

static enum outcome wait_start(struct manager *m, struct instance *instance)
{
    struct timespec deadline = realtime_deadline(START_LIMIT_NS);
    enum outcome outcome = OUTCOME_LATE;
    int result = 0;

    pthread_mutex_lock(&m->lock);
    while (!instance->said_running && !instance->ended && !instance->cancel && result == 0 &&
           !atomic_load(&m->stopping))
        result = pthread_cond_timedwait(&instance->changed, &m->lock, &deadline);
    if (instance->said_running)
        outcome = OUTCOME_RUNNING;
    else if (instance->ended)
        outcome = OUTCOME_ENDED;
    else if (instance->cancel)
        outcome = OUTCOME_CANCELLED;
    pthread_mutex_unlock(&m->lock);
    return outcome;
}

static int send_signal(struct manager *m, const struct instance *instance, int number,
                       struct err *err)
{
    return shim_ask(m, instance->id, json_pack("{s:s, s:i}", "command", "kill", "signal", number),
                    -1, err);
}

/* How a guest is asked to end: a machine without an agent of ours has a power button. */
static int ask_to_end(struct manager *m, const struct instance *instance, int number,
                      struct err *err)
{
    if (instance->brief->hardware && number == SIGTERM &&
        hardware_power_button(m, instance, NULL) == 0)
        return 0;
    return send_signal(m, instance, number, err);
}

/* A signal that comes before the guest does is lost: so again and again. */
static bool kill_until_end(struct manager *m, struct instance *instance)
{
    uint64_t deadline_ns = clock_monotonic_ns() + KILL_LIMIT_NS;
    bool ended;

    do {
        send_signal(m, instance, SIGKILL, NULL);
        ended = wait_end(m, instance, 50 * NS_PER_MS);
    } while (!ended && !atomic_load(&m->stopping) && clock_monotonic_ns() < deadline_ns);
    return ended;
}

/* The row of an instance whose start has come to nothing. -ESRCH: the user of its command is none
 * of the image's. */
static void fail_start(struct manager *m, struct instance *instance, int result, const char *why)
{
    struct instance_row row = instance->row;

    row.state = INSTANCE_EXITED;
    row.exit_code = result == -ESRCH ? 126 : 125;
    row.finished_ns = (int64_t)clock_realtime_ns();
    error_copy(row.error, why);
    instance_change_surely(m, instance, &row, NULL);
    event_add(m, instance, "die", row.error);
}

/* What it held of the host's while it ran. */
static void leave(struct manager *m, const struct instance *instance)
{
    networks_leave(m, instance);
    if (instance->brief->volumes)
        volumes_leave(m, instance);
}

static int launch(struct manager *m, struct instance *instance, struct operation *operation,
                  int client_fd, struct err *err)
{
    int lock = shim_lock(m, instance->id, LOCK_MS, err), result;
    struct volume_holds holds = {.nr = 0};

    if (lock < 0)
        return lock;
    operation_progress(m, operation, "preparing its files");
    result = prepare_instance(m, instance, instance->row.run, client_fd >= 0, &holds, err);
    if (result == 0)
        operation_progress(m, operation, instance->brief->vm ? "booting" : "starting");
    if (result < 0) {
        leave(m, instance);
        close(lock);
    } else if ((result = shim_start(m, instance, lock, client_fd, &holds, err)) == 0 && operation) {
        operation->handed_over = true;
    }
    volume_holds_done(&holds);
    return result;
}

/* A monitor, or its session, that gives up before its guest runs says why in the log. */
static void explain_end(struct manager *m, struct instance *instance)
{
    char words[ERROR_MAX];

    if (!instance->brief->vm)
        return;
    hardware_last_words(m, instance, words, sizeof(words));
    pthread_mutex_lock(&m->lock);
    if (!*instance->end.error)
        error_copy(instance->end.error, words);
    pthread_mutex_unlock(&m->lock);
}

static int finish_start(struct manager *m, struct instance *instance, struct err *err)
{
    struct instance_row row = instance->row;
    bool ran;

    switch (wait_start(m, instance)) {
    case OUTCOME_RUNNING:
        row.state = INSTANCE_RUNNING;
        pthread_mutex_lock(&m->lock);
        row.started_ns = instance->end.started_ns;
        if (instance->brief->health) {
            instance->health = HEALTH_STARTING;
            instance->health_failures = 0;
            instance->health_at_ns = 1;
        }
        pthread_mutex_unlock(&m->lock);
        instance_change_surely(m, instance, &row, NULL);
        event_add(m, instance, "start", NULL);
        allocator_wake(m);
        return 0;
    case OUTCOME_ENDED:
        pthread_mutex_lock(&m->lock);
        ran = instance->end.started_ns && !*instance->end.error;
        pthread_mutex_unlock(&m->lock);
        if (ran) /* and so briefly that its end was seen first */
            event_add(m, instance, "start", NULL);
        if (!ran)
            explain_end(m, instance);
        life_settle(m, instance);
        if (ran)
            return 0;
        return err_set(err, -ECANCELED, "%s",
                       *instance->row.error ? instance->row.error : "it ended before it ran");
    case OUTCOME_CANCELLED:
        if (kill_until_end(m, instance))
            life_settle(m, instance);
        return err_set(err, -ECANCELED, "the start was broken off");
    default:
        return err_set(err, -ETIMEDOUT, "it did not come up in time");
    }
}

/* The intent: in the store before anything is done for it. */
static int intend_start(struct manager *m, struct instance *instance, struct operation *operation,
                        struct err *err)
{
    struct instance_row row = instance->row;
    int result;

    if (row.state == INSTANCE_REMOVING)
        return err_set(err, -EBUSY, "'%s' is being removed", instance->name);
    if (row.state == INSTANCE_PAUSED)
        return err_set(err, -EBUSY, "'%s' is paused; `lodge resume %s` lets it go on",
                       instance->name, instance->name);
    if (life_is_active(row.state))
        return err_set(err, -EALREADY, "'%s' runs already", instance->name);
    row.state = INSTANCE_STARTING;
    row.wanted = true;
    row.run++;
    /* Without an operation it is the policy that starts it. */
    row.restarts = operation ? 0 : row.restarts + 1;
    row.error[0] = '\0';
    row.exit_code = 0;
    row.finished_ns = 0;
    pthread_mutex_lock(&m->lock);
    instance->cancel = false;
    instance->restart_at_ns = 0;
    pthread_mutex_unlock(&m->lock);
    if ((result = admission_start(m, instance, err)) < 0)
        return result;
    result = instance_change(m, instance, &row, operation, err);
    admission_settled(m, instance);
    return result;
}

int life_start(struct manager *m, struct instance *instance, struct operation *operation,
               int client_fd, struct err *err)
{
    CLEANUP(fd_closep) int client = client_fd;
    int result;

    /* Starting already: taken up again after a crash. */
    if (instance->row.state != INSTANCE_STARTING &&
        (result = intend_start(m, instance, operation, err)) < 0)
        return result;
    atomic_fetch_add(&m->counters.starts, 1);
    if ((result = launch(m, instance, operation, client, err)) < 0) {
        fail_start(m, instance, result, err->message);
        if (instance->brief->auto_remove)
            life_remove(m, instance, NULL, false, NULL);
    } else {
        result = finish_start(m, instance, err);
    }
    if (result < 0 && operation &&
        (instance->row.exit_code == 126 || instance->row.exit_code == 127))
        operation->exit_code = instance->row.exit_code;
    return result;
}

int life_finish_start(struct manager *m, struct instance *instance, struct err *err)
{
    return finish_start(m, instance, err);
}

/* Whether and when it starts again. */
static bool restart_is_due(const struct instance *instance, const struct instance_row *row)
{
    const struct instance_brief *brief = instance->brief;

    if (!row->wanted)
        return false;
    switch (brief->restart) {
    case SPEC_RESTART_ALWAYS:
    case SPEC_RESTART_UNLESS_STOPPED:
        return true;
    case SPEC_RESTART_ON_FAILURE:
        return row->exit_code != 0 &&
               (brief->max_retries == 0 || row->restarts < brief->max_retries);
    default:
        return false;
    }
}

static void plan_restart(struct manager *m, struct instance *instance)
{
    const struct instance_row *row = &instance->row;
    uint64_t wait_ns;

    pthread_mutex_lock(&m->lock);
    if (row->started_ns && row->finished_ns - row->started_ns > (int64_t)GOOD_RUN_NS)
        instance->backoff = 0;
    wait_ns = BACKOFF_LEAST << (instance->backoff < 9 ? instance->backoff : 9);
    instance->backoff++;
    instance->restart_at_ns = clock_monotonic_ns() +
                              (wait_ns < BACKOFF_MOST ? wait_ns : BACKOFF_MOST);
    pthread_mutex_unlock(&m->lock);
}

/* A guest whose shim was killed is not ours to know any more: it ends. */
static void end_orphan(struct manager *m, const struct instance *instance)
{
    struct err err = ERR_INIT;
    int lock = shim_lock(m, instance->id, LOCK_MS, &err);

    if (lock < 0) {
        log_warning("instance %s: %s", instance->name, err.message);
        return;
    }
    prepare_clear(m, instance);
    close(lock);
}

void life_settle(struct manager *m, struct instance *instance)
{
    struct instance_row row = instance->row;
    struct instance_end end;
    bool due;
    char code[16];

    pthread_mutex_lock(&m->lock);
    due = instance->ended && life_is_active(row.state);
    end = instance->end;
    if (due) {
        instance->health = HEALTH_NONE;
        instance->health_at_ns = 0;
    }
    pthread_mutex_unlock(&m->lock);
    if (!due)
        return;
    if (end.lost)
        end_orphan(m, instance);
    leave(m, instance);
    if (row.state == INSTANCE_STOPPING)
        row.wanted = false;
    row.state = INSTANCE_EXITED;
    row.exit_code = end.exit_code;
    row.started_ns = end.started_ns ?: row.started_ns;
    row.finished_ns = end.finished_ns;
    error_copy(row.error, *end.error ? end.error : end.oom ? "out of memory" : "");
    atomic_fetch_add(&m->counters.exits, 1);
    if (instance->brief->auto_remove && !atomic_load(&m->stopping)) {
        pthread_mutex_lock(&m->lock);
        m->nr_states[instance->row.state]--;
        m->nr_states[row.state]++;
        instance->row = row;
        pthread_cond_broadcast(&instance->changed);
        pthread_mutex_unlock(&m->lock);
    } else {
        instance_change_surely(m, instance, &row, NULL);
    }
    jobs_instance_ended(m, instance, end.lost);
    allocator_wake(m);
    snprintf(code, sizeof(code), "%d", row.exit_code);
    event_add(m, instance, "die", *row.error ? row.error : code);
    if (instance->brief->auto_remove)
        life_remove(m, instance, NULL, false, NULL);
    else if (restart_is_due(instance, &row))
        plan_restart(m, instance);
}

void life_replan(struct manager *m, struct instance *instance)
{
    if (restart_is_due(instance, &instance->row))
        plan_restart(m, instance);
}

/* Time for another try. */
static void restart_if_due(struct manager *m, struct instance *instance)
{
    struct instance_row row = instance->row;
    struct err err = ERR_INIT;
    bool due;

    pthread_mutex_lock(&m->lock);
    due = instance->restart_at_ns && clock_monotonic_ns() >= instance->restart_at_ns &&
          row.state == INSTANCE_EXITED;
    if (due)
        instance->restart_at_ns = 0;
    pthread_mutex_unlock(&m->lock);
    if (!due || !row.wanted || atomic_load(&m->stopping))
        return;
    atomic_fetch_add(&m->counters.restarts, 1);
    if (life_start(m, instance, NULL, -1, &err) < 0) {
        log_warning("restart of %s: %s", instance->name, err.message);
        if (instance->row.state == INSTANCE_EXITED && !instance->restart_at_ns &&
            restart_is_due(instance, &instance->row))
            plan_restart(m, instance);
    }
}

void life_settle_work(struct manager *m, void *context)
{
    struct instance *instance = context;

    if (instance_acquire(m, instance, NULL) == 0) {
        life_settle(m, instance);
        if (!instance->gone)
            restart_if_due(m, instance);
        instance_release(m, instance);
    }
    instance_unref(m, instance);
}

static int set_state(struct manager *m, struct instance *instance, enum instance_state state,
                     bool wanted, struct operation *operation, struct err *err)
{
    struct instance_row row = instance->row;

    row.state = state;
    row.wanted = wanted;
    return instance_change(m, instance, &row, operation, err);
}

/* What a VM's guest holds in its memory yet would be gone with it. Best effort: a guest that does
 * not answer is not waited for. */
void life_write_back(struct manager *m, const struct instance *instance)
{
    if (instance->brief->vm && !instance->brief->auto_remove)
        guest_ask(m, instance->id, "sync", NULL, WRITE_BACK_MS, NULL);
}

static int stop_now(struct manager *m, struct instance *instance, int number, int64_t timeout_s,
                    struct err *err)
{
    struct err said = ERR_INIT;
    int result = timeout_s > 0 ? ask_to_end(m, instance, number, &said) : 0;

    if (result < 0 && result != -ESRCH && result != -ECANCELED)
        return err_set(err, result, "%s", said.message);
    if (timeout_s <= 0 || !wait_end(m, instance, (uint64_t)timeout_s * NS_PER_S)) {
        if (timeout_s >= 0)
            life_write_back(m, instance);
        result = send_signal(m, instance, SIGKILL, &said);
        if (!wait_end(m, instance, KILL_LIMIT_NS))
            return err_set(err, -ETIMEDOUT, "'%s' does not end even when it is killed%s%s",
                           instance->name, result < 0 ? ": " : "", result < 0 ? said.message : "");
    }
    return 0;
}

int life_stop(struct manager *m, struct instance *instance, struct operation *operation, int number,
              int64_t timeout_s, struct err *err)
{
    struct instance_row *row = &instance->row;
    int result;

    if (row->state == INSTANCE_PAUSED && (result = life_pause(m, instance, NULL, false, err)) < 0 &&
        life_is_active(row->state))
        return result;
    if (instance->gone)
        return 0;
    if (!life_is_active(row->state)) {
        pthread_mutex_lock(&m->lock);
        instance->restart_at_ns = 0;
        pthread_mutex_unlock(&m->lock);
        if (!row->wanted)
            return 0;
        return set_state(m, instance, row->state, false, operation, err);
    }
    operation_progress(m, operation, "waiting for its end");
    if ((result = set_state(m, instance, INSTANCE_STOPPING, false, operation, err)) < 0 ||
        (result = stop_now(m, instance, number, timeout_s, err)) < 0)
        return result;
    life_settle(m, instance);
    if (!instance->gone)
        event_add(m, instance, "stop", NULL);
    return 0;
}

int life_remove(struct manager *m, struct instance *instance, struct operation *operation,
                bool force, struct err *err)
{
    struct store_change change = {.remove = instance->id};
    struct store_operation stored;
    bool full;
    int result, lock;

    if (instance->gone)
        return 0;
    if (life_is_active(instance->row.state)) {
        if (!force)
            return err_set(err, -EBUSY,
                           "'%s' runs; `lodge stop %s` first, or `lodge rm --force %s`",
                           instance->name, instance->name, instance->name);
        if ((result = life_stop(m, instance, operation, SIGKILL, LIFE_AT_ONCE, err)) < 0)
            return result;
        if (instance->gone)
            return 0;
    }
    if (instance->row.state != INSTANCE_REMOVING && !instance->brief->auto_remove &&
        (result = set_state(m, instance, INSTANCE_REMOVING, false, operation, err)) < 0 &&
        result != -ENOSPC)
        return result;
    /* On a full disk the intent cannot be kept; what is removed makes the room for the result. */
    full = instance->row.state != INSTANCE_REMOVING && !instance->brief->auto_remove;
    if ((lock = shim_lock(m, instance->id, LOCK_MS, err)) < 0)
        return lock;
    leave(m, instance);
    if (instance->brief->networked)
        networks_forget(m, instance);
    prepare_remove_files(m, instance);
    close(lock);
    if (operation) {
        operation_store_form(operation, &stored);
        change.operation = &stored;
    }
    while ((result = state_store_apply(m->store, &change, err)) < 0 && !full &&
           !atomic_load(&m->stopping))
        usleep(500000);
    if (result < 0)
        return err_wrap(err, "what '%s' had written is gone, but not yet its name: remove it again",
                        instance->name),
               result;
    pthread_mutex_lock(&m->lock);
    instance_ref_locked(instance);
    instance_remove(m, instance);
    pthread_mutex_unlock(&m->lock);
    event_add(m, instance, "remove", NULL);
    instance_unref(m, instance);
    return 0;
}

/* The containers of a bundle are frozen by the runtime; a VM's processors stand. */
static int pause_guest(struct manager *m, const struct instance *instance, bool pause,
                       struct err *err)
{
    const char *words[] = {pause ? "pause" : "resume", instance->id, NULL};

    if (!instance->brief->vm && geteuid() != 0)
        return err_set(err, -EOPNOTSUPP,
                       "containers are paused by a manager that runs as root; virtual machines by "
                       "any");
    return instance->brief->vm ? vm_command(m, instance->id, words[0], err)
                               : runtime_run(m, words, NULL, NULL, err);
}

int life_pause(struct manager *m, struct instance *instance, struct operation *operation,
               bool pause, struct err *err)
{
    enum instance_state state = instance->row.state;
    int result;

    if (state == (pause ? INSTANCE_PAUSED : INSTANCE_RUNNING))
        return 0;
    if (state != (pause ? INSTANCE_RUNNING : INSTANCE_PAUSED))
        return err_set(err, -ESRCH, "'%s' is %s, so it cannot be %s", instance->name,
                       instance_state_name(state), pause ? "paused" : "resumed");
    if ((result = pause_guest(m, instance, pause, err)) < 0) {
        if (!wait_end(m, instance, END_GRACE_NS))
            return result;
        life_settle(m, instance);
        return err_set(err, -ESRCH, "'%s' has ended meanwhile", instance->name);
    }
    if ((result = set_state(m, instance, pause ? INSTANCE_PAUSED : INSTANCE_RUNNING,
                            instance->row.wanted, operation, err)) < 0) {
        pause_guest(m, instance, !pause, NULL);
        return result;
    }
    event_add(m, instance, pause ? "pause" : "resume", NULL);
    return 0;
}

int life_pause_surely(struct manager *m, struct instance *instance, bool pause, struct err *err)
{
    enum instance_state state = instance->row.state, wanted;
    struct err ignored = ERR_INIT;
    int result;

    if (state != INSTANCE_RUNNING && state != INSTANCE_PAUSED)
        return life_pause(m, instance, NULL, pause, err);
    wanted = pause ? INSTANCE_PAUSED : INSTANCE_RUNNING;
    /* To make it what it was already is an error: so it is made the other first. */
    pause_guest(m, instance, !pause, &ignored);
    if ((result = pause_guest(m, instance, pause, err)) < 0 || state == wanted)
        return result;
    return set_state(m, instance, wanted, instance->row.wanted, NULL, err);
}

bool life_await_end(struct manager *m, struct instance *instance, uint64_t limit_ns)
{
    if (!life_is_active(instance->row.state) || !wait_end(m, instance, limit_ns))
        return false;
    life_settle(m, instance);
    return true;
}
