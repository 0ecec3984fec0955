/* SPDX-License-Identifier: Apache-2.0 */
/* The manager put together, and taken apart again. */
#include "manager/internal.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "manager/api/api.h"
#include "manager/jobs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

__attribute__((format(printf, 4, 0))) static int format_path(char *ret, size_t size,
                                                             const char *dir, const char *format,
                                                             va_list args)
{
    int n = snprintf(ret, size, "%s/", dir);

    if (n > 0 && (size_t)n < size)
        n += vsnprintf(ret + n, size - (size_t)n, format, args);
    return n > 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

int manager_path(const struct manager *m, char *ret, size_t size, const char *format, ...)
{
    va_list args;
    int result;

    va_start(args, format);
    result = format_path(ret, size, m->options.state_dir, format, args);
    va_end(args);
    return result;
}

int run_path(const struct manager *m, char *ret, size_t size, const char *format, ...)
{
    va_list args;
    int result;

    va_start(args, format);
    result = format_path(ret, size, m->options.runtime_dir, format, args);
    va_end(args);
    return result;
}

static int make_dirs(struct manager *m, struct err *err)
{
    char path[PATH_SIZE];
    const char *const dirs[] = {"i", "oci"};

    manager_path(m, path, sizeof(path), "instances");
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_errno(err, -errno, "make '%s'", path);
    for (size_t i = 0; i < 2; i++) {
        run_path(m, path, sizeof(path), "%s", dirs[i]);
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
            return err_errno(err, -errno, "make '%s'", path);
    }
    return 0;
}

static int lock_state(struct manager *m, struct err *err)
{
    uint64_t deadline_ns = clock_monotonic_ns() + 10 * NS_PER_S;
    char path[PATH_SIZE];

    manager_path(m, path, sizeof(path), "lock");
    if ((m->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0)
        return err_errno(err, -errno, "open '%s'", path);
    /* One that was killed may have a child between fork and exec for another moment. */
    while (flock(m->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        if (clock_monotonic_ns() >= deadline_ns)
            return err_set(err, -EBUSY, "another manager has '%s'", m->options.state_dir);
        usleep(2000);
    }
    return 0;
}

static void init_locks(struct manager *m)
{
    pthread_mutex_init(&m->lock, NULL);
    pthread_mutex_init(&m->disk_lock, NULL);
    pthread_mutex_init(&m->event_lock, NULL);
    pthread_cond_init(&m->event_there, NULL);
    pthread_cond_init(&m->operation_changed, NULL);
    pthread_cond_init(&m->work_there, NULL);
    pthread_cond_init(&m->workers_gone, NULL);
}

/* A store that is missing, or empty, beside what instances wrote would be begun anew, and all of
 * them forgotten. */
static int check_store_there(struct manager *m, const char *store, struct err *err)
{
    CLEANUP(dir_closep) DIR *dir = NULL;
    char path[PATH_SIZE];
    struct dirent *entry;
    struct stat st;
    bool any = false;

    manager_path(m, path, sizeof(path), "state.db-wal");
    if ((stat(store, &st) == 0 && st.st_size > 0) || (stat(path, &st) == 0 && st.st_size > 0))
        return 0;
    manager_path(m, path, sizeof(path), "instances");
    for (dir = opendir(path); dir && !any && (entry = readdir(dir));)
        any = entry->d_name[0] != '.';
    return any ? err_set(err, -ENOENT,
                         "the store '%s' is not there, but what instances wrote is, in '%s': bring "
                         "back the store, or move that away",
                         store, path)
               : 0;
}

int manager_open(const struct manager_options *options, struct manager **ret, struct err *err)
{
    struct manager *m = calloc(1, sizeof(*m));
    char path[PATH_SIZE];
    int result;

    if (!m)
        return err_set(err, -ENOMEM, "out of memory");
    m->options = *options;
    m->lock_fd = -1;
    m->operations_last = &m->operations;
    m->work_last = &m->work;
    m->tasks_waiting_last = &m->tasks_waiting;
    m->next_operation = 1;
    /* Higher than any number that a manager before us gave: a client may go on from there. */
    m->first_event = m->next_event = clock_realtime_ns() / NS_PER_US;
    m->started_ns = (int64_t)clock_realtime_ns();
    init_locks(m);
    manager_path(m, path, sizeof(path), "state.db");
    if ((result = lock_state(m, err)) < 0 || (result = make_dirs(m, err)) < 0 ||
        (result = check_store_there(m, path, err)) < 0 ||
        (result = state_store_open(path, &m->store, err)) < 0 ||
        (result = environments_load(m, err)) < 0 || (result = allocator_open(m, err)) < 0 ||
        (result = watch_open(m, err)) < 0 || (result = jobs_new(m, err)) < 0 ||
        (result = recover(m, err)) < 0 || (result = jobs_open(m, err)) < 0 ||
        (result = api_open(m, options->listen_fd, &m->api, err)) < 0) {
        manager_close(m);
        return result;
    }
    resolvers_adopt(m);
    *ret = m;
    return 0;
}

void manager_close(struct manager *m)
{
    if (!m)
        return;
    atomic_store(&m->stopping, true);
    pthread_mutex_lock(&m->event_lock);
    pthread_cond_broadcast(&m->event_there);
    pthread_mutex_unlock(&m->event_lock);
    pthread_mutex_lock(&m->lock);
    pthread_cond_broadcast(&m->operation_changed);
    pthread_mutex_unlock(&m->lock);
    jobs_stop(m);
    tasks_stop(m);
    workers_stop(m);
    /* Closing them here would close them for the shims, too. */
    if (atomic_load(&m->nr_streams) > 0) {
        state_store_close(m->store);
        _exit(0);
    }
    api_close(m->api);
    watch_close(m);
    allocator_close(m); /* all of these wake it */
    state_store_close(m->store);
    operations_free(m);
    jobs_free(m);
    while (m->first) {
        pthread_mutex_lock(&m->lock);
        instance_remove(m, m->first);
        pthread_mutex_unlock(&m->lock);
    }
    environments_free(m);
    resolvers_free(m);
    for (size_t i = 0; i < MANAGER_EVENTS; i++)
        free(m->events[i].text);
    fd_closep(&m->lock_fd);
    free(m);
}
