/* SPDX-License-Identifier: Apache-2.0 */
/* The table of instances, who works at one, and how a change becomes true. */
#include "manager/internal.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMMAND_MAX 256

const char *instance_state_name(enum instance_state state)
{
    static const char *const names[] = {"created",  "starting", "running", "paused",
                                        "stopping", "exited",   "removing"};

    return names[state];
}

static size_t bucket(const char *text)
{
    return hash_bytes(HASH_START, text, strlen(text)) % MANAGER_BUCKETS;
}

static void append_command(struct buf *to, char *const *command)
{
    for (size_t i = 0; command && command[i]; i++) {
        if (i)
            buf_append(to, " ", 1);
        buf_append(to, command[i], strnlen(command[i], COMMAND_MAX));
        if (to->length > COMMAND_MAX)
            break;
    }
}

/* The strings behind the struct, one after the other. */
static struct instance_brief *make_brief(const struct spec *spec)
{
    CLEANUP(buf_donep) struct buf text;
    struct instance_brief *brief;
    size_t image_at, labels_at, environment_at, cpuset_at;
    const char *name;
    json_t *value;
    char *strings;

    buf_init(&text, 1 << 20);
    append_command(&text, spec->command);
    text.length = MIN(text.length, (size_t)COMMAND_MAX);
    /* A cut may have split a character. */
    while (text.length && ((unsigned char)text.data[text.length - 1] & 0xc0) == 0x80 &&
           text.length == COMMAND_MAX)
        text.length--;
    if (text.length == COMMAND_MAX - 1 || text.length == COMMAND_MAX)
        while (text.length && (unsigned char)text.data[text.length - 1] >= 0x80)
            text.length--;
    buf_append(&text, "", 1);
    image_at = text.length;
    buf_append(&text, spec->image, strlen(spec->image) + 1);
    labels_at = text.length;
    json_object_foreach(json_object_get(spec->document, "labels"), name, value)
    {
        buf_printf(&text, "%s=%s", name, json_string_value(value));
        buf_append(&text, "", 1);
    }
    buf_append(&text, "", 1);
    environment_at = text.length;
    buf_append_string(&text, spec_environment(spec));
    buf_append(&text, "", 1);
    cpuset_at = text.length;
    buf_append_string(&text, spec->share.cpuset);
    if (buf_append(&text, "", 1) < 0 || !(brief = malloc(sizeof(*brief) + text.length)))
        return NULL;
    strings = (char *)(brief + 1);
    memcpy(strings, text.data, text.length);
    *brief = (struct instance_brief){
        .vm = spec->vm,
        .hardware = spec->hardware != NULL,
        .disks = spec->hardware || spec->nr_disks,
        .auto_remove = spec->auto_remove,
        .tty = spec->tty,
        .restart = spec->restart,
        .max_retries = spec->max_retries,
        .command = strings,
        .image = strings + image_at,
        .labels = strings + labels_at,
        .health = spec->health.command != NULL,
        .networked = spec_is_networked(spec) || hardware_is_networked(spec->hardware, NULL),
        .environment = strings + environment_at,
        .share = spec->share,
        .memory_bytes = spec->hardware ? spec->hardware->memory_bytes : spec->memory_bytes,
        .cpu_limit_millis = spec_cpu_limit_millis(spec),
        .cpu_shares = spec->cpu_shares,
        .io_weight = spec->io_weight};
    for (size_t i = 0; i < spec->nr_volumes; i++)
        brief->volumes |= spec->volumes[i].source[0] != '/';
    brief->share.cpuset = strings + cpuset_at;
    return brief;
}

int instance_set_spec(struct instance *instance, const char *text, struct err *err)
{
    struct spec spec;
    struct instance_brief *brief;
    char *copy;
    int result = spec_parse_text(text, &spec, err);

    if (result < 0)
        return result;
    brief = make_brief(&spec);
    copy = strdup(text);
    spec_done(&spec);
    if (!brief || !copy) {
        free(brief);
        free(copy);
        return err_set(err, -ENOMEM, "out of memory");
    }
    free(instance->brief);
    free(instance->spec);
    instance->brief = brief;
    instance->spec = copy;
    return 0;
}

static void instance_free(struct instance *instance)
{
    pthread_cond_destroy(&instance->changed);
    free(instance->name);
    free(instance->spec);
    free(instance->brief);
    free(instance);
}

int instance_new(const char *id, const char *name, const char *spec, struct instance **ret,
                 struct err *err)
{
    struct instance *instance = calloc(1, sizeof(*instance));
    int result;

    if (!instance)
        return err_set(err, -ENOMEM, "out of memory");
    snprintf(instance->id, sizeof(instance->id), "%s", id);
    instance->nr_refs = 1;
    pthread_cond_init(&instance->changed, NULL);
    if (!(instance->name = strdup(name)))
        result = err_set(err, -ENOMEM, "out of memory");
    else
        result = instance_set_spec(instance, spec, err);
    if (result < 0) {
        instance_free(instance);
        return result;
    }
    *ret = instance;
    return 0;
}

static void name_insert(struct manager *m, struct instance *instance)
{
    struct instance **place = &m->by_name[bucket(instance->name)];

    instance->same_name = *place;
    *place = instance;
}

static void name_remove(struct manager *m, const struct instance *instance)
{
    struct instance **place = &m->by_name[bucket(instance->name)];

    while (*place && *place != instance)
        place = &(*place)->same_name;
    if (*place)
        *place = instance->same_name;
}

void instance_insert(struct manager *m, struct instance *instance)
{
    struct instance **place = &m->by_id[bucket(instance->id)];

    instance->same_id = *place;
    *place = instance;
    name_insert(m, instance);
    instance->previous = m->last;
    if (m->last)
        m->last->next = instance;
    else
        m->first = instance;
    m->last = instance;
    m->nr_instances++;
    m->nr_states[instance->row.state]++;
}

void instance_remove(struct manager *m, struct instance *instance)
{
    struct instance **place = &m->by_id[bucket(instance->id)];

    if (instance->gone)
        return;
    while (*place && *place != instance)
        place = &(*place)->same_id;
    if (*place)
        *place = instance->same_id;
    name_remove(m, instance);
    if (instance->previous)
        instance->previous->next = instance->next;
    else
        m->first = instance->next;
    if (instance->next)
        instance->next->previous = instance->previous;
    else
        m->last = instance->previous;
    m->nr_instances--;
    m->nr_states[instance->row.state]--;
    instance->gone = true;
    pthread_cond_broadcast(&instance->changed);
    instance_unref_locked(instance);
}

void instance_rename(struct manager *m, struct instance *instance, char *name)
{
    name_remove(m, instance);
    free(instance->name);
    instance->name = name;
    name_insert(m, instance);
}

struct instance *instance_find_name(struct manager *m, const char *name)
{
    struct instance *at = m->by_name[bucket(name)];

    while (at && strcmp(at->name, name) != 0)
        at = at->same_name;
    return at;
}

struct instance *instance_find_id(struct manager *m, const char *id)
{
    struct instance *at = m->by_id[bucket(id)];

    while (at && strcmp(at->id, id) != 0)
        at = at->same_id;
    return at;
}

static int find_prefix(struct manager *m, const char *ref, struct instance **ret, struct err *err)
{
    size_t length = strlen(ref);
    struct instance *found = NULL;

    for (struct instance *at = m->first; at && length >= 2; at = at->next) {
        if (strncmp(at->id, ref, length) != 0)
            continue;
        if (found)
            return err_set(err, -EINVAL, "'%.80s' is the beginning of more than one id", ref);
        found = at;
    }
    if (!found)
        return err_set(err, -ENOENT, "there is no instance '%.80s'; `lodge ps -a` lists all", ref);
    *ret = found;
    return 0;
}

int instance_find(struct manager *m, const char *ref, struct instance **ret, struct err *err)
{
    struct instance *found;
    int result = 0;

    pthread_mutex_lock(&m->lock);
    if (!(found = instance_find_name(m, ref)) && !(found = instance_find_id(m, ref)))
        result = find_prefix(m, ref, &found, err);
    if (result == 0) {
        instance_ref_locked(found);
        *ret = found;
    }
    pthread_mutex_unlock(&m->lock);
    return result;
}

void instance_ref_locked(struct instance *instance)
{
    instance->nr_refs++;
}

void instance_unref_locked(struct instance *instance)
{
    if (--instance->nr_refs == 0)
        instance_free(instance);
}

void instance_unref(struct manager *m, struct instance *instance)
{
    if (!instance)
        return;
    pthread_mutex_lock(&m->lock);
    instance_unref_locked(instance);
    pthread_mutex_unlock(&m->lock);
}

int instance_acquire(struct manager *m, struct instance *instance, struct err *err)
{
    int result = 0;

    pthread_mutex_lock(&m->lock);
    while (instance->busy && !instance->gone)
        pthread_cond_wait(&instance->changed, &m->lock);
    if (instance->gone)
        result = err_set(err, -ENOENT, "instance '%s' was removed meanwhile", instance->name);
    else
        instance->busy = true;
    pthread_mutex_unlock(&m->lock);
    return result;
}

void instance_release(struct manager *m, struct instance *instance)
{
    pthread_mutex_lock(&m->lock);
    instance->busy = false;
    pthread_cond_broadcast(&instance->changed);
    pthread_mutex_unlock(&m->lock);
}

void instance_store_form(const struct instance *instance, const struct instance_row *row,
                         struct store_instance *ret)
{
    *ret = (struct store_instance){.id = instance->id,
                                   .name = instance->name,
                                   .spec = instance->spec,
                                   .state = instance_state_name(row->state),
                                   .error = row->error,
                                   .run = row->run,
                                   .restarts = row->restarts,
                                   .created_ns = instance->created_ns,
                                   .started_ns = row->started_ns,
                                   .finished_ns = row->finished_ns,
                                   .exit_code = row->exit_code,
                                   .wanted = row->wanted};
}

int instance_put_spec(struct manager *m, struct instance *instance, const char *text,
                      struct err *err)
{
    struct store_instance put;
    struct store_change change = {.put = &put};
    int result;

    instance_store_form(instance, &instance->row, &put);
    put.spec = text;
    if ((result = state_store_apply(m->store, &change, err)) < 0)
        return result;
    pthread_mutex_lock(&m->lock);
    result = instance_set_spec(instance, text, err);
    pthread_mutex_unlock(&m->lock);
    return result;
}

int instance_change(struct manager *m, struct instance *instance, const struct instance_row *row,
                    struct operation *operation, struct err *err)
{
    struct store_instance put;
    struct store_operation stored;
    struct store_change change = {.put = &put};
    int result;

    instance_store_form(instance, row, &put);
    if (operation) {
        operation_store_form(operation, &stored);
        change.operation = &stored;
    }
    if ((result = state_store_apply(m->store, &change, err)) < 0) {
        atomic_fetch_add(&m->counters.store_failures, 1);
        return result;
    }
    pthread_mutex_lock(&m->lock);
    m->nr_states[instance->row.state]--;
    m->nr_states[row->state]++;
    instance->row = *row;
    if (operation)
        operation->stored = true;
    pthread_cond_broadcast(&instance->changed);
    pthread_mutex_unlock(&m->lock);
    return 0;
}

void instance_change_surely(struct manager *m, struct instance *instance,
                            const struct instance_row *row, struct operation *operation)
{
    struct err err = ERR_INIT;
    bool said = false;

    while (instance_change(m, instance, row, operation, &err) < 0) {
        if (!said)
            log_error("instance %s: %s; trying again", instance->id, err.message);
        said = true;
        if (atomic_load(&m->stopping))
            return;
        usleep(500000);
    }
}
