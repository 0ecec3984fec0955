/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the processes of instances are: made, entered, moved.
 *
 * A container's cgroup is lodge-oci's: it makes it, and moves it when asked (update
 * --cgroups-path), so that its own state, device rules and exec follow. A VM's is made here, and
 * entered by the shim's child before it becomes the VM's session.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "host/cgroup.h"
#include "manager/environment.h"
#include "manager/internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define ADOPT_NS (15 * NS_PER_S)

/* The hierarchies by which a VM is divided and counted; "": version 2. */
static const char *const entered[] = {"",         "/cpu",   "/cpuacct", "/memory",
                                      "/freezer", "/blkio", "/cpuset",  "/unified"};

int environment_cgroup_make(struct manager *m, const char *path, struct err *err)
{
    struct host_cgroup *cgroup;
    int result;

    (void)m;
    if (geteuid() != 0)
        return 0;
    if ((result = host_cgroup_make(path, &cgroup, err)) == 0)
        host_cgroup_close(cgroup);
    return result;
}

int environment_check_io_weight(const struct spec *spec, struct err *err)
{
    CLEANUP(host_cgroup_closep) struct host_cgroup *cgroup = NULL;
    int result;

    if (!spec->io_weight)
        return 0;
    if (geteuid() != 0)
        return err_set(err, -EOPNOTSUPP, "resources.io_weight: needs a manager that runs as root");
    /* The topmost one of ours: the root has no such files. */
    if ((result = host_cgroup_make("/lodge", &cgroup, err)) == 0)
        result = host_cgroup_check_io_weight(cgroup, err);
    return result < 0 ? err_wrap(err, "resources.io_weight"), result : 0;
}

static json_t *enter_files(const char *path)
{
    json_t *list = json_array();

    for (size_t i = 0; i < sizeof(entered) / sizeof(entered[0]); i++) {
        char file[ENVIRONMENT_PATH_MAX + 64];

        snprintf(file, sizeof(file), "/sys/fs/cgroup%s%s/cgroup.procs", entered[i], path);
        if (access(file, W_OK) == 0)
            json_array_append_new(list, json_string(file));
    }
    return list;
}

int environment_prepare(struct manager *m, const struct instance *instance, json_t **ret_enter,
                        struct err *err)
{
    const struct instance_brief *brief = instance->brief;
    CLEANUP(host_cgroup_closep) struct host_cgroup *cgroup = NULL;
    char path[ENVIRONMENT_PATH_MAX], *slash;
    struct err ignored = ERR_INIT;
    int result;

    *ret_enter = NULL;
    if (geteuid() != 0) {
        *ret_enter = json_array();
        return 0;
    }
    instance_cgroup_path(m, instance, path);
    slash = strrchr(path, '/');
    *slash = '\0';
    result = environment_cgroup_make(m, path, err);
    *slash = '/';
    if (result < 0 || !brief->vm) {
        *ret_enter = json_array();
        return result;
    }
    if ((result = host_cgroup_make(path, &cgroup, err)) < 0)
        return result;
    if (*brief->share.cpuset &&
        (result = host_cgroup_set_cpuset(cgroup, brief->share.cpuset, err)) < 0)
        return result;
    if (brief->io_weight && host_cgroup_set_io_weight(cgroup, brief->io_weight, &ignored) < 0)
        log_warning("instance %s: %s", instance->name, ignored.message);
    *ret_enter = enter_files(path);
    return 0;
}

void environment_clear(struct manager *m, const struct instance *instance)
{
    char path[ENVIRONMENT_PATH_MAX];

    if (geteuid() != 0)
        return;
    instance_cgroup_path(m, instance, path);
    if (instance->brief->vm)
        host_cgroup_remove_tree(path);
}

/* lodge-oci moves what is its own. */
static int move_container(struct manager *m, const struct instance *instance, const char *path,
                          struct err *err)
{
    const char *words[] = {"update", "--cgroups-path", path, instance->id, NULL};

    return runtime_run(m, words, NULL, NULL, err);
}

static int move_vm(struct manager *m, const struct instance *instance, const char *from,
                   const char *path, struct err *err)
{
    CLEANUP(host_cgroup_closep) struct host_cgroup *source = NULL;
    CLEANUP(host_cgroup_closep) struct host_cgroup *target = NULL;
    json_t *enter;
    int result;

    /* Makes it, with its list of processors. */
    if ((result = environment_prepare(m, instance, &enter, err)) < 0)
        return result;
    json_decref(enter);
    if ((result = host_cgroup_open(path, &target, err)) < 0 ||
        (result = host_cgroup_open(from, &source, err)) < 0 ||
        (result = host_cgroup_move(source, target, err)) < 0)
        return result;
    host_cgroup_remove_tree(from);
    return 0;
}

/* From where the kernel says it is. */
static int move_from(struct manager *m, struct instance *instance, const char *from,
                     struct err *err)
{
    char path[ENVIRONMENT_PATH_MAX], *slash;
    int result;

    instance_cgroup_path(m, instance, path);
    if (!strcmp(path, from))
        return 0;
    slash = strrchr(path, '/');
    *slash = '\0';
    result = environment_cgroup_make(m, path, err);
    *slash = '/';
    if (result < 0)
        return result;
    result = instance->brief->vm ? move_vm(m, instance, from, path, err)
                                 : move_container(m, instance, path, err);
    if (result == 0)
        shim_ask(m, instance->id, json_pack("{s:s, s:s}", "command", "cgroup", "path", path), -1,
                 NULL);
    return result;
}

static bool find_process(struct manager *m, struct instance *instance, char *ret, size_t size)
{
    pid_t pid;

    pthread_mutex_lock(&m->lock);
    pid = instance->pid;
    pthread_mutex_unlock(&m->lock);
    return geteuid() == 0 && pid > 0 && host_cgroup_of_process(pid, ret, size) == 0 &&
           strstr(ret, instance->id);
}

int environment_move(struct manager *m, struct instance *instance, struct err *err)
{
    char from[PATH_SIZE];

    if (geteuid() != 0)
        return 0; /* it has no cgroup of ours */
    if (!find_process(m, instance, from, sizeof(from)))
        return err_set(err, -ESRCH, "'%s': its processes are not found in a cgroup of ours",
                       instance->name);
    return move_from(m, instance, from, err);
}

/* An adopted shim tells the process, in its own time. */
static void wait_for_process(struct manager *m, struct instance *instance)
{
    uint64_t at_ns = clock_realtime_ns() + ADOPT_NS;
    struct timespec deadline = {(time_t)(at_ns / NS_PER_S), (long)(at_ns % NS_PER_S)};

    pthread_mutex_lock(&m->lock);
    while (!instance->pid && !instance->ended && !atomic_load(&m->stopping))
        if (pthread_cond_timedwait(&instance->changed, &m->lock, &deadline) != 0)
            break;
    pthread_mutex_unlock(&m->lock);
}

/* Directories that a move left behind when it was broken off at its very end. */
static void sweep_elsewhere(struct manager *m, const struct instance *instance)
{
    char here[ENVIRONMENT_PATH_MAX], there[ENVIRONMENT_PATH_MAX];

    instance_cgroup_path(m, instance, here);
    for (size_t i = 0;; i++) {
        const struct environment *e;
        size_t at = 0, length;

        pthread_mutex_lock(&m->lock);
        for (e = m->environments; e && at < i; e = e->next)
            at++;
        if (e)
            environment_path(e, there);
        pthread_mutex_unlock(&m->lock);
        if (!e)
            return;
        length = strlen(there);
        snprintf(there + length, sizeof(there) - length, "/%s", instance->id);
        if (strcmp(here, there) != 0 && host_cgroup_exists(there))
            host_cgroup_remove_tree(there);
    }
}

void environment_reconcile(struct manager *m, struct instance *instance)
{
    char from[PATH_SIZE];
    struct err err = ERR_INIT;

    if (instance->row.state != INSTANCE_RUNNING && instance->row.state != INSTANCE_STARTING)
        return; /* a paused one is moved when it goes on */
    wait_for_process(m, instance);

    if (find_process(m, instance, from, sizeof(from)) && move_from(m, instance, from, &err) < 0)
        log_warning("instance %s stays in cgroup %s: %s", instance->name, from, err.message);
    else
        sweep_elsewhere(m, instance);
}
