/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations of the host: images and disks. Each is the work of a process of its own,
 * `lodge VERB ... --report`, whose lines on standard output say how far it is, and its result
 * (cmd/report.h): what reads archives of strangers is not the manager, and what is broken off ends
 * at once.
 *
 *      task_new -> waiting -> running (run_task) -> over (operation_finish)
 *
 * Invariants:
 *  1. The process and what it starts are a process group, which ends with the thread that waits for
 *     it: so with the manager, too.
 *  2. `worker` is a process that is not reaped yet, so a signal never meets a stranger.
 *  3. What a process that was killed had made is removed before its operation is over.
 *  4. One that was under way when the manager was killed has failed; it is not taken up again.
 */
#include "manager/internal.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "image/import.h"
#include "image/vdisk.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUNNING_MAX 4
#define WAITING_MAX 256
#define LINE_BYTES  65536
#define WORDS_MAX   32

/* Takes what `operation->arguments` says of it: {"subject", "target", "words", "result"}. */
int task_load(struct operation *operation)
{
    json_t *arguments = NULL;
    const char *subject;

    if (json_parse(operation->arguments, strlen(operation->arguments), "arguments", &arguments,
                   NULL) < 0)
        return 0;
    subject = json_string_value(json_object_get(arguments, "subject"));
    operation->task = true;
    operation->subject = strdup(subject ?: "");
    operation->result = json_text(json_object_get(arguments, "result"), JSON_COMPACT);
    json_decref(arguments);
    return operation->subject ? 0 : -ENOMEM;
}

int task_new(struct manager *m, const char *kind, const char *subject, const char *target,
             json_t *words, struct operation **ret, struct err *err)
{
    json_t *arguments = json_pack("{s:s, s:s, s:o}", "subject", subject, "target", target ?: "",
                                  "words", words);
    CLEANUP(freep) char *text = json_text(arguments, JSON_COMPACT);
    struct operation *operation;
    int result;

    json_decref(arguments);
    if (!text)
        return err_set(err, -EINVAL, "a name is not UTF-8");
    if ((result = operation_new(m, kind, NULL, text, &operation, err)) < 0)
        return result;
    pthread_mutex_lock(&m->lock); /* it can be seen already */
    operation->task = true;
    operation->subject = strdup(subject);
    pthread_mutex_unlock(&m->lock);
    *ret = operation;
    return 0;
}

void child_begin(pid_t parent)
{
    sigset_t none;

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    signal(SIGPIPE, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* input: -1: none */
static _Noreturn void worker_child(const char *program, char *const *words, int input, int output,
                                   pid_t parent)
{
    int null = open("/dev/null", O_RDWR);

    child_begin(parent);
    dup2(input < 0 ? null : input, STDIN_FILENO);
    dup2(output, STDOUT_FILENO);
    execv(program, words);
    _exit(127);
}

/* *ret_fd: its standard output. The process, or a negative errno. */
static pid_t start_worker(struct manager *m, json_t *list, int input, int *ret_fd, struct err *err)
{
    const char *words[WORDS_MAX + 3] = {"lodge"};
    size_t nr = 1;
    pid_t pid, parent = getpid();
    int fds[2];

    if (json_array_size(list) > WORDS_MAX)
        return err_set(err, -E2BIG, "too many words");
    for (size_t i = 0; i < json_array_size(list); i++)
        words[nr++] = json_string_value(json_array_get(list, i));
    words[nr] = "--report";
    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_errno(err, -errno, "pipe");
    if ((pid = fork()) == 0)
        worker_child(m->options.lodge, (char *const *)(uintptr_t)words, input, fds[1], parent);
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        return err_errno(err, -errno, "start '%s'", m->options.lodge);
    }
    setpgid(pid, pid);
    *ret_fd = fds[0];
    return pid;
}

static uint64_t number_of(const json_t *object, const char *name)
{
    json_int_t number = json_integer_value(json_object_get(object, name));

    return number > 0 ? (uint64_t)number : 0;
}

/* One line of cmd/report.h. err gets what is said to have gone wrong. */
static void take_line(struct operation *operation, const char *line, size_t length, struct err *err)
{
    struct manager *m = operation->manager;
    json_t *report = NULL, *part;

    if (json_parse(line, length, "report", &report, NULL) < 0)
        return;
    pthread_mutex_lock(&m->lock);
    if ((part = json_object_get(report, "progress"))) {
        struct operation_progress *progress = &operation->progress;

        snprintf(progress->text, sizeof(progress->text), "%.60s",
                 json_string_value(json_object_get(part, "text")) ?: "");
        progress->done = number_of(part, "done");
        progress->total = number_of(part, "total");
        snprintf(progress->unit, sizeof(progress->unit), "%s",
                 progress->done || progress->total ? "bytes" : "");
    } else if (json_is_object(part = json_object_get(report, "result"))) {
        free(operation->result);
        operation->result = json_text(part, JSON_COMPACT);
    } else if ((part = json_object_get(report, "error"))) {
        uint64_t code = number_of(part, "code");

        err_set(err, code && code < 4096 ? -(int)code : -EIO, "%s",
                json_string_value(json_object_get(part, "message")) ?: "");
    }
    pthread_mutex_unlock(&m->lock);
    json_decref(report);
}

/* Until its end; -E2BIG: a line that is none of ours. */
static int read_report(struct operation *operation, int fd, struct err *err)
{
    CLEANUP(buf_donep) struct buf in;

    buf_init(&in, 2 * LINE_BYTES);
    for (;;) {
        char *end;
        ssize_t n;

        if (in.length > LINE_BYTES || buf_reserve(&in, 4096) < 0)
            return -E2BIG;
        n = read(fd, in.data + in.length, 4096);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return 0;
        in.length += (size_t)n;
        while (in.length && (end = memchr(in.data, '\n', in.length))) {
            take_line(operation, in.data, (size_t)(end - in.data), err);
            buf_consume(&in, (size_t)(end + 1 - in.data));
        }
    }
}

/* lock. Why it is broken off; NULL: it is not. */
static const char *broken_off(const struct operation *operation)
{
    return *operation->broken_off                       ? operation->broken_off
           : atomic_load(&operation->manager->stopping) ? "the manager ended"
                                                        : NULL;
}

/* Ends what is left of its group, then reaps it. */
static int reap(struct operation *operation, pid_t pid)
{
    struct manager *m = operation->manager;
    siginfo_t info;
    int status = 0;

    while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
        continue;
    kill(-pid, SIGKILL);
    pthread_mutex_lock(&m->lock);
    operation->worker = 0;
    pthread_mutex_unlock(&m->lock);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

static void clean_up(struct operation *operation, pid_t pid)
{
    struct manager *m = operation->manager;
    json_t *arguments = NULL;
    const char *target;

    if (!strncmp(operation->kind, "image-", 6))
        image_abandon(m->options.images, pid);
    json_parse(operation->arguments, strlen(operation->arguments), "arguments", &arguments, NULL);
    target = json_string_value(json_object_get(arguments, "target"));
    if (target && *target)
        vdisk_abandon(target, pid);
    json_decref(arguments);
}

/* What became of it, once its process is over. */
static int judge(struct operation *operation, int status, struct err *err)
{
    struct manager *m = operation->manager;
    const char *why;

    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    pthread_mutex_lock(&m->lock);
    if ((why = broken_off(operation)))
        err_set(err, -ECANCELED, "%s", why);
    pthread_mutex_unlock(&m->lock);
    if (why)
        return -ECANCELED;
    if (WIFSIGNALED(status))
        return err_set(err, -EIO, "its process was ended by signal %d", WTERMSIG(status));
    return err->code < 0
               ? err->code
               : err_set(err, -EIO, "its process ended with status %d", WEXITSTATUS(status));
}

static int take_input(struct operation *operation)
{
    int fd;

    pthread_mutex_lock(&operation->manager->lock);
    fd = TAKE_FD(operation->input_fd);
    pthread_mutex_unlock(&operation->manager->lock);
    return fd;
}

static int run_worker(struct operation *operation, json_t *words, struct err *err)
{
    struct manager *m = operation->manager;
    CLEANUP(fd_closep) int fd = -1;
    CLEANUP(fd_closep) int input = take_input(operation);
    pid_t pid = start_worker(m, words, input, &fd, err);
    int status;

    fd_closep(&input); /* with the process's end who writes to it is told */
    input = -1;
    if (pid < 0)
        return pid;
    pthread_mutex_lock(&m->lock);
    operation->worker = pid;
    if (broken_off(operation))
        kill(-pid, SIGKILL);
    pthread_mutex_unlock(&m->lock);
    if (read_report(operation, fd, err) < 0)
        kill(-pid, SIGKILL);
    status = reap(operation, pid);
    if (WIFSIGNALED(status))
        clean_up(operation, pid);
    return judge(operation, status, err);
}

/* Its result becomes part of what is stored. */
static void keep_result(struct operation *operation, json_t *arguments)
{
    struct manager *m = operation->manager;
    json_t *value = NULL;
    char *text;

    pthread_mutex_lock(&m->lock);
    if (operation->result &&
        json_parse(operation->result, strlen(operation->result), "result", &value, NULL) == 0) {
        json_object_set_new(arguments, "result", value);
        if ((text = json_text(arguments, JSON_COMPACT))) {
            free(operation->arguments);
            operation->arguments = text;
        }
    }
    pthread_mutex_unlock(&m->lock);
}

static void run_task(struct manager *m, struct operation *operation)
{
    const struct log_subject subject = {.instance = operation->kind, .operation = operation->id};
    const struct log_subject *before = log_set_subject(&subject);
    json_t *arguments = NULL;
    struct err err = ERR_INIT;
    const char *why;
    int result = json_parse(operation->arguments, strlen(operation->arguments), "arguments",
                            &arguments, &err);

    pthread_mutex_lock(&m->lock);
    if (result == 0 && (why = broken_off(operation)))
        result = err_set(&err, -ECANCELED, "%s", why);
    pthread_mutex_unlock(&m->lock);
    if (result == 0 &&
        (result = run_worker(operation, json_object_get(arguments, "words"), &err)) == 0)
        keep_result(operation, arguments);
    json_decref(arguments);
    log_debug("%s: %s", operation->kind, result < 0 ? err.message : "done");
    log_set_subject(before);
    operation_finish(m, operation, result, &err);
    operation_unref(m, operation);
}

/* On a worker: as long as some wait. */
static void work_tasks(struct manager *m, void *context)
{
    struct operation *operation;

    (void)context;
    pthread_mutex_lock(&m->lock);
    while ((operation = m->tasks_waiting)) {
        if (!(m->tasks_waiting = operation->next_waiting))
            m->tasks_waiting_last = &m->tasks_waiting;
        m->nr_tasks_waiting--;
        pthread_mutex_unlock(&m->lock);
        run_task(m, operation);
        pthread_mutex_lock(&m->lock);
    }
    m->nr_tasks--;
    pthread_mutex_unlock(&m->lock);
}

int task_start(struct manager *m, struct operation *operation, struct err *err)
{
    bool more;

    pthread_mutex_lock(&m->lock);
    if (m->nr_tasks_waiting == WAITING_MAX) {
        pthread_mutex_unlock(&m->lock);
        return err_set(err, -EAGAIN, "%d operations on images and disks wait already", WAITING_MAX);
    }
    operation->nr_refs++;
    *m->tasks_waiting_last = operation;
    m->tasks_waiting_last = &operation->next_waiting;
    m->nr_tasks_waiting++;
    if ((more = m->nr_tasks < RUNNING_MAX))
        m->nr_tasks++;
    else
        snprintf(operation->progress.text, sizeof(operation->progress.text), "waiting");
    pthread_mutex_unlock(&m->lock);
    /* -EAGAIN: it stays in the queue of the workers. */
    if (more && work_post(m, work_tasks, NULL) == -ENOMEM) {
        pthread_mutex_lock(&m->lock);
        m->nr_tasks--;
        pthread_mutex_unlock(&m->lock);
    }
    return 0;
}

/* lock: out of those that wait; false: it does not. */
static bool withdraw(struct manager *m, struct operation *operation)
{
    struct operation **at = &m->tasks_waiting;

    while (*at && *at != operation)
        at = &(*at)->next_waiting;
    if (!*at)
        return false;
    if (!(*at = operation->next_waiting))
        m->tasks_waiting_last = at;
    m->nr_tasks_waiting--;
    return true;
}

bool task_break_off(struct manager *m, struct operation *operation, const char *why)
{
    struct err err = {-ECANCELED, ""};
    bool awaited = content_unexpect(m, operation), under_way, waiting;

    pthread_mutex_lock(&m->lock);
    under_way = operation->task && !operation->done;
    waiting = under_way && withdraw(m, operation);
    if (under_way && !*operation->broken_off)
        snprintf(operation->broken_off, sizeof(operation->broken_off), "%s", why);
    if (operation->worker)
        kill(-operation->worker, SIGKILL);
    pthread_mutex_unlock(&m->lock);
    if (waiting || awaited) {
        err_set(&err, -ECANCELED, "%s", why);
        operation_finish(m, operation, -ECANCELED, &err);
    }
    if (waiting)
        operation_unref(m, operation);
    return under_way;
}

void tasks_stop(struct manager *m)
{
    pthread_mutex_lock(&m->lock);
    for (struct operation *at = m->operations; at; at = at->next)
        if (at->worker)
            kill(-at->worker, SIGKILL);
    pthread_mutex_unlock(&m->lock);
}

static void resume_work(struct manager *m, void *context)
{
    struct operation *operation = context;
    const struct err ended = {-ECANCELED, "the manager ended"};

    clean_up(operation, 0);
    operation_finish(m, operation, -ECANCELED, &ended);
    operation_unref(m, operation);
}

int task_resume(struct manager *m, struct operation *operation)
{
    int result;

    pthread_mutex_lock(&m->lock);
    operation->nr_refs++;
    pthread_mutex_unlock(&m->lock);
    if ((result = work_post(m, resume_work, operation)) == -ENOMEM)
        operation_unref(m, operation);
    return result == -ENOMEM ? result : 0;
}
