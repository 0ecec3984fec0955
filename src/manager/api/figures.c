/* SPDX-License-Identifier: Apache-2.0 */
/* What instances use and what runs in them: /stats and /top, of both isolations. */
#include "manager/api/request.h"

#include "base/file.h"
#include "manager/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOP_MS 10000

/* What is asked for an answer, copied out of the tables. */
struct subject {
    char id[INSTANCE_ID_LENGTH + 1], name[SPEC_NAME_MAX + 1];
    enum instance_state state;
    bool vm, agent; /* agent: of ours, in a VM's guest */
    pid_t pid;
};

static void look_at_locked(const struct instance *instance, struct subject *ret)
{
    *ret = (struct subject){.state = instance->row.state,
                            .vm = instance->brief->vm,
                            .pid = instance->pid,
                            .agent = instance->brief->vm && !instance->brief->hardware};
    snprintf(ret->id, sizeof(ret->id), "%s", instance->id);
    snprintf(ret->name, sizeof(ret->name), "%s", instance->name);
}

/* -ESRCH: it does not run. Negative: api_fail was called. */
static int find(struct api_request *request, struct api_reply *reply, struct subject *ret)
{
    struct instance *instance = api_instance(request, reply);

    if (!instance)
        return -ENOENT;
    pthread_mutex_lock(&request->m->lock);
    look_at_locked(instance, ret);
    pthread_mutex_unlock(&request->m->lock);
    instance_unref(request->m, instance);
    if (life_is_active(ret->state))
        return 0;
    api_fail(reply, 409, "'%s' does not run; `lodge start %s` starts it", request->args[0],
             request->args[0]);
    return -ESRCH;
}

static int write_stats(struct manager *m, const struct subject *subject, struct buf *to,
                       struct err *err)
{
    struct stats stats;
    int result = stats_read(m, subject->id, subject->vm, subject->pid,
                            subject->agent && subject->state == INSTANCE_RUNNING, &stats, err);

    if (result < 0)
        return result;
    buf_printf(to, "{\"id\": \"%s\", \"name\": \"%s\", \"isolation\": \"%s\", ", subject->id,
               subject->name, subject->vm ? "vm" : "container");
    stats_write_json(to, &stats);
    buf_append(to, "}", 1);
    return 0;
}

void api_stats(struct api_request *request, struct api_reply *reply)
{
    struct subject subject;
    struct err err = ERR_INIT;
    int result;

    if (find(request, reply, &subject) < 0)
        return;
    if ((result = write_stats(request->m, &subject, &reply->body, &err)) < 0)
        api_fail_err(reply, result, &err);
    else
        buf_append(&reply->body, "\n", 1);
}

/* Of all that run; one that ends meanwhile is left out. */
void api_stats_all(struct api_request *request, struct api_reply *reply)
{
    struct manager *m = request->m;
    CLEANUP(freep) struct subject *subjects = NULL;
    size_t nr = 0;
    bool first = true;

    pthread_mutex_lock(&m->lock);
    subjects = calloc(m->nr_instances + 1, sizeof(*subjects));
    for (const struct instance *at = m->first; subjects && at; at = at->next)
        if (at->row.state == INSTANCE_RUNNING || at->row.state == INSTANCE_PAUSED)
            look_at_locked(at, &subjects[nr++]);
    pthread_mutex_unlock(&m->lock);
    if (!subjects) {
        api_fail(reply, 503, "out of memory");
        return;
    }
    buf_append_string(&reply->body, "{\"stats\": [");
    for (size_t i = 0; i < nr; i++) {
        size_t before = reply->body.length;

        if (!first)
            buf_append(&reply->body, ",\n", 2);
        if (write_stats(m, &subjects[i], &reply->body, NULL) < 0)
            reply->body.length = before;
        else
            first = false;
    }
    buf_append_string(&reply->body, "]}\n");
}

static void out_process(struct buf *to, int pid)
{
    CLEANUP(buf_donep) struct buf text;
    char path[64], *name_end;
    unsigned long long user = 0, kernel = 0;
    long resident = 0;

    buf_init(&text, 65536);
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    if (file_load(AT_FDCWD, path, &text, NULL) == 0 && buf_string(&text) &&
        (name_end = strrchr(text.data, ')')))
        (void)!sscanf(name_end + 1,
                      " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d "
                      "%*d %*u %*u %ld",
                      &user, &kernel, &resident);
    buf_consume(&text, text.length);
    snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
    file_load(AT_FDCWD, path, &text, NULL);
    for (size_t i = 0; i < text.length; i++)
        if (!text.data[i] || (unsigned char)text.data[i] >= 0x80)
            text.data[i] = text.data[i] ? '?' : ' ';
    while (text.length && text.data[text.length - 1] == ' ') /* one that named itself anew */
        text.length--;
    buf_printf(to, "{\"pid\": %d, \"cpu_ms\": %llu, \"resident_bytes\": %lld, \"command\": ", pid,
               (user + kernel) * 1000 / (unsigned long long)sysconf(_SC_CLK_TCK),
               (long long)resident * sysconf(_SC_PAGESIZE));
    out_string(to, buf_string(&text) ?: "");
    buf_append(to, "}", 1);
}

static void write_processes(struct buf *to, const json_t *pids)
{
    for (size_t i = 0; i < json_array_size(pids); i++) {
        if (i)
            buf_append(to, ",\n", 2);
        out_process(to, (int)json_integer_value(json_array_get(pids, i)));
    }
}

/* Without root no cgroup tells: those that are in its namespace of processes. */
static int rootless_top(pid_t first, struct buf *to, struct err *err)
{
    CLEANUP(dir_closep) DIR *dir = opendir("/proc");
    struct stat inside, one;
    const struct dirent *entry;
    char path[300];
    bool begun = false;

    snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)first);
    if (!dir || stat(path, &inside) < 0)
        return err_errno(err, -errno, "look at its processes");
    while ((entry = readdir(dir))) {
        snprintf(path, sizeof(path), "/proc/%s/ns/pid", entry->d_name);
        if (atoi(entry->d_name) <= 0 || stat(path, &one) < 0 || one.st_ino != inside.st_ino)
            continue;
        if (begun)
            buf_append(to, ",\n", 2);
        begun = true;
        out_process(to, atoi(entry->d_name));
    }
    return 0;
}

/* The runtime's list of a container's processes. */
static int container_top(struct manager *m, const char *id, struct buf *to, struct err *err)
{
    const char *words[] = {"ps", "-f", "json", id, NULL};
    CLEANUP(buf_donep) struct buf text;
    json_t *document = NULL;
    int result;

    buf_init(&text, 4 << 20);
    if ((result = runtime_run(m, words, NULL, &text, err)) == 0)
        result = json_parse(text.data ?: "", text.length, "ps", &document, err);
    if (result == 0)
        write_processes(to, document);
    json_decref(document);
    return result;
}

/* Lines of the guest's own saying: numbers are read as numbers, the rest is text. */
static int vm_top(struct manager *m, const char *id, struct buf *to, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    char *line, *rest;
    bool first = true;
    int result;

    buf_init(&text, 1 << 20);
    if ((result = guest_ask(m, id, "top", &text, TOP_MS, err)) < 0)
        return result;
    for (size_t i = 0; i < text.length; i++)
        if (!text.data[i] || (unsigned char)text.data[i] >= 0x80)
            text.data[i] = '?';
    for (line = buf_string(&text) ? strtok_r(text.data, "\n", &rest) : NULL; line;
         line = strtok_r(NULL, "\n", &rest)) {
        unsigned long long cpu_ms, resident;
        int pid, at = 0;

        if (sscanf(line, "%9d %15llu %18llu %n", &pid, &cpu_ms, &resident, &at) != 3 || !at ||
            pid < 0)
            return err_set(err, -EPROTO, "the guest's agent sent what is not in the protocol");
        buf_printf(to, "%s{\"pid\": %d, \"cpu_ms\": %llu, \"resident_bytes\": %llu, \"command\": ",
                   first ? "" : ",\n", pid, cpu_ms, resident);
        out_string(to, line + at);
        buf_append(to, "}", 1);
        first = false;
    }
    return 0;
}

void api_top(struct api_request *request, struct api_reply *reply)
{
    struct subject subject;
    struct err err = ERR_INIT;
    int result;

    if (find(request, reply, &subject) < 0)
        return;
    if (subject.vm && !subject.agent) {
        api_fail(reply, 501, "'%s' is a machine of its own: no agent of ours is in it",
                 request->args[0]);
        return;
    }
    if (subject.vm && subject.state == INSTANCE_PAUSED) {
        api_fail(reply, 409,
                 "'%s' is paused, and only its guest knows its processes; `lodge resume %s`",
                 request->args[0], request->args[0]);
        return;
    }
    buf_append_string(&reply->body, "{\"processes\": [");
    result = subject.vm       ? vm_top(request->m, subject.id, &reply->body, &err)
             : geteuid() == 0 ? container_top(request->m, subject.id, &reply->body, &err)
                              : rootless_top(subject.pid, &reply->body, &err);
    if (result < 0)
        api_fail_err(reply, result, &err);
    else
        buf_append_string(&reply->body, "]}\n");
}
