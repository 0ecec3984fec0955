/* SPDX-License-Identifier: Apache-2.0 */
/* The table of environments: made, changed, removed, found. */
#include "manager/environment.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "host/cgroup.h"
#include "manager/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static void environment_free(struct environment *e)
{
    if (!e)
        return;
    free(e->text);
    free(e);
}

static int environment_new(const char *name, const char *id, const char *text,
                           struct environment **ret, struct err *err)
{
    CLEANUP(json_decrefp) json_t *document = NULL;
    struct environment *e;
    int result = json_parse(text, strlen(text), "environment", &document, err);

    if (result < 0)
        return result;
    if (!(e = calloc(1, sizeof(*e))) || !(e->text = strdup(text))) {
        free(e);
        return err_set(err, -ENOMEM, "out of memory");
    }
    snprintf(e->name, sizeof(e->name), "%s", name);
    snprintf(e->id, sizeof(e->id), "%s", id);
    if ((result = environment_spec_parse(document, &e->spec, err)) < 0) {
        environment_free(e);
        return result;
    }
    *ret = e;
    return 0;
}

static void insert_locked(struct manager *m, struct environment *e)
{
    struct environment **place = &m->environments;

    while (*place)
        place = &(*place)->next;
    *place = e;
    m->nr_environments++;
}

static void remove_locked(struct manager *m, struct environment *e)
{
    struct environment **place = &m->environments;

    while (*place && *place != e)
        place = &(*place)->next;
    if (*place) {
        *place = e->next;
        m->nr_environments--;
    }
}

static int load_one(const struct store_environment *stored, void *context)
{
    struct manager *m = context;
    struct environment *e, *old;
    struct err err = ERR_INIT;

    if (environment_new(stored->name, stored->id, stored->spec, &e, &err) < 0) {
        log_error("environment %s cannot be read from the store: %s", stored->name, err.message);
        return err.code == -ENOMEM ? -ENOMEM : 0;
    }
    e->created_ns = stored->created_ns;
    e->stored = true;
    if (!strcmp(e->name, ENVIRONMENT_DEFAULT)) {
        old = m->environments;
        e->next = old->next;
        m->environments = e;
        environment_free(old);
        return 0;
    }
    insert_locked(m, e);
    return 0;
}

/* At the start, before any other thread is. */
int environments_load(struct manager *m, struct err *err)
{
    struct environment *fallback;
    int result = environment_new(ENVIRONMENT_DEFAULT, "", "{}", &fallback, err);

    if (result < 0)
        return result;
    insert_locked(m, fallback);
    return state_store_load_environments(m->store, load_one, m, err);
}

void environments_free(struct manager *m)
{
    while (m->environments) {
        struct environment *e = m->environments;

        m->environments = e->next;
        environment_free(e);
    }
}

int environment_find_locked(struct manager *m, const char *name, struct environment **ret,
                            struct err *err)
{
    char names[160];
    size_t used = 0;

    if (!name || !*name)
        name = ENVIRONMENT_DEFAULT;
    for (struct environment *e = m->environments; e; e = e->next)
        if (!strcmp(e->name, name) && !e->removing) {
            *ret = e;
            return 0;
        }
    names[0] = '\0';
    for (struct environment *e = m->environments; e; e = e->next) {
        int n = snprintf(names + used, sizeof(names) - used, "%s%s", used ? ", " : "", e->name);

        if (n < 0 || (size_t)n >= sizeof(names) - used) {
            names[used] = '\0';
            break;
        }
        used += (size_t)n;
    }
    return err_set(
        err, -ENOENT,
        "there is no environment '%.80s' (there are: %s); `lodge env create %.80s` makes "
        "it",
        name, names, name);
}

int environment_inherit(struct manager *m, json_t *document, struct err *err)
{
    const char *name = json_string_value(json_object_get(document, "environment"));
    struct environment *e;
    char network[sizeof(e->spec.network)];
    int result;

    if (json_object_get(document, "network"))
        return 0;
    pthread_mutex_lock(&m->lock);
    if ((result = environment_find_locked(m, name, &e, err)) == 0)
        snprintf(network, sizeof(network), "%s", e->spec.network);
    pthread_mutex_unlock(&m->lock);
    if (result == 0 && *network &&
        json_object_set_new(document, "network", json_string(network)) < 0)
        return err_set(err, -ENOMEM, "out of memory");
    return result;
}

char *environment_with_network(struct manager *m, const char *network)
{
    char *found = NULL;

    pthread_mutex_lock(&m->lock);
    for (const struct environment *e = m->environments; e && !found; e = e->next)
        if (!strcmp(e->spec.network, network))
            found = strdup(e->name);
    pthread_mutex_unlock(&m->lock);
    return found;
}

bool environment_has_locked(const struct environment *e, const struct instance *instance)
{
    const char *name = instance->brief->environment;

    if (!strcmp(*name ? name : ENVIRONMENT_DEFAULT, e->name))
        return true;
    return *instance->moving_to && !strcmp(instance->moving_to, e->name);
}

void environment_path(const struct environment *e, char ret[ENVIRONMENT_PATH_MAX])
{
    if (*e->id)
        snprintf(ret, ENVIRONMENT_PATH_MAX, "/lodge/env-%s-%s", e->name, e->id);
    else
        snprintf(ret, ENVIRONMENT_PATH_MAX, "/lodge");
}

void instance_cgroup_path_locked(struct manager *m, const struct instance *instance,
                                 char ret[ENVIRONMENT_PATH_MAX])
{
    struct environment *e;
    size_t length;

    if (environment_find_locked(m, instance->brief->environment, &e, NULL) < 0)
        e = m->environments;
    environment_path(e, ret);
    length = strlen(ret);
    snprintf(ret + length, ENVIRONMENT_PATH_MAX - length, "/%s", instance->id);
}

void instance_cgroup_path(struct manager *m, const struct instance *instance,
                          char ret[ENVIRONMENT_PATH_MAX])
{
    pthread_mutex_lock(&m->lock);
    instance_cgroup_path_locked(m, instance, ret);
    pthread_mutex_unlock(&m->lock);
}

void instance_cgroup_path_of(struct manager *m, const char *id, char ret[ENVIRONMENT_PATH_MAX])
{
    const struct instance *instance;

    pthread_mutex_lock(&m->lock);
    if ((instance = instance_find_id(m, id)))
        instance_cgroup_path_locked(m, instance, ret);
    else
        snprintf(ret, ENVIRONMENT_PATH_MAX, "/lodge/%s", id);
    pthread_mutex_unlock(&m->lock);
}

static int store_environment(struct manager *m, const struct environment *e, const char *text,
                             struct err *err)
{
    struct store_environment put = {e->name, e->id, text, e->created_ns};
    struct store_change change = {.environment = &put};

    return state_store_apply(m->store, &change, err);
}

/* Into the table as one that is not stored yet (removing: nobody finds it), then into the store. */
static int add(struct manager *m, struct environment *e, struct err *err)
{
    int result = 0;

    pthread_mutex_lock(&m->lock);
    for (struct environment *at = m->environments; at && result == 0; at = at->next)
        if (!strcmp(at->name, e->name))
            result = err_set(err, -EEXIST,
                             "there is an environment '%s' already; `lodge env update %s` changes "
                             "it",
                             e->name, e->name);
    if (result == 0 && m->nr_environments >= ENVIRONMENTS_MAX)
        result = err_set(err, -EBUSY, "there are %d environments, which is the most",
                         ENVIRONMENTS_MAX);
    if (result == 0) {
        e->removing = true;
        insert_locked(m, e);
    }
    pthread_mutex_unlock(&m->lock);
    if (result < 0)
        return result;
    result = store_environment(m, e, e->text, err);
    pthread_mutex_lock(&m->lock);
    if (result < 0)
        remove_locked(m, e);
    e->removing = false;
    e->stored = true;
    pthread_mutex_unlock(&m->lock);
    return result;
}

/* A quota that the host could never give is a mistake. */
static int check_quota(const struct environment_spec *spec, struct err *err)
{
    double cores = (double)sysconf(_SC_NPROCESSORS_ONLN);

    if (spec->cpus < ALLOCATION_UNLIMITED && spec->cpus > cores)
        return err_set(err, -EINVAL,
                       "cpu_millis: %.0f are more than this host's %.0f (%.0f processors)",
                       spec->cpus * 1000, cores * 1000, cores);
    return 0;
}

int environment_create(struct manager *m, json_t *document, char ret_name[SPEC_NAME_MAX + 1],
                       struct err *err)
{
    const char *name = json_string_value(json_object_get(document, "name"));
    CLEANUP(freep) char *text = NULL;
    struct environment *e;
    unsigned char bytes[4];
    char id[9];
    int result;

    if (!name)
        return err_set(err, -EINVAL, "name: a string is needed");
    if ((result = spec_check_name(name, err)) < 0)
        return result;
    snprintf(ret_name, SPEC_NAME_MAX + 1, "%s", name);
    json_object_del(document, "name");
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return err_set(err, -EIO, "no random numbers");
    snprintf(id, sizeof(id), "%02x%02x%02x%02x", bytes[0], bytes[1], bytes[2], bytes[3]);
    if (!(text = json_text(document, JSON_COMPACT)))
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = environment_new(ret_name, id, text, &e, err)) < 0)
        return result;
    e->created_ns = (int64_t)clock_realtime_ns();
    if ((result = check_quota(&e->spec, err)) < 0 ||
        (result = networks_check_name(e->spec.network, err)) < 0 || (result = add(m, e, err)) < 0) {
        environment_free(e);
        return result;
    }
    return 0;
}

/* What runs must still fit after the change. */
static int check_members_locked(struct manager *m, struct environment *e,
                                const struct environment_spec *spec, struct err *err)
{
    struct environment_spec before = e->spec;
    int result;

    e->spec = *spec;
    result = admission_fits_locked(m, e, err);
    e->spec = before;
    return result;
}

static int check_free_locked(const struct environment *e, struct err *err)
{
    return e->busy ? err_set(err, -EBUSY, "environment '%s' is being changed; try again", e->name)
                   : 0;
}

int environment_update(struct manager *m, const char *name, json_t *changes, struct err *err)
{
    CLEANUP(json_decrefp) json_t *document = NULL;
    CLEANUP(json_decrefp) json_t *changed = NULL;
    CLEANUP(freep) char *text = NULL;
    struct environment_spec spec;
    struct environment *e;
    int result;

    /* Only the one that is said: what was there may be gone, and is no obstacle to other changes.
     */
    if ((result = networks_check_name(json_string_value(json_object_get(changes, "network")),
                                      err)) < 0)
        return result;
    pthread_mutex_lock(&m->lock);
    if ((result = environment_find_locked(m, name, &e, err)) == 0 &&
        (result = json_parse(e->text, strlen(e->text), "environment", &document, err)) == 0 &&
        (result = environment_spec_change(document, changes, &changed, err)) == 0 &&
        (result = environment_spec_parse(changed, &spec, err)) == 0 &&
        (result = check_quota(&spec, err)) == 0 && (result = check_free_locked(e, err)) == 0 &&
        (result = check_members_locked(m, e, &spec, err)) == 0)
        e->busy = true; /* for the time of the store: two changes never cross */
    pthread_mutex_unlock(&m->lock);
    if (result < 0)
        return result;
    text = json_text(changed, JSON_COMPACT);
    result = text ? store_environment(m, e, text, err) : err_set(err, -ENOMEM, "out of memory");
    pthread_mutex_lock(&m->lock);
    e->busy = false;
    if (result == 0) {
        free(e->text);
        e->text = TAKE_PTR(text);
        e->spec = spec;
        e->stored = true;
    }
    pthread_mutex_unlock(&m->lock);
    return result;
}

static int check_empty_locked(struct manager *m, const struct environment *e, struct err *err)
{
    const struct instance *first = NULL;
    size_t nr = 0;

    for (const struct instance *at = m->first; at; at = at->next)
        if (environment_has_locked(e, at)) {
            first = first ?: at;
            nr++;
        }
    if (!nr)
        return 0;
    return err_set(err, -EBUSY,
                   "environment '%s' has %zu instance%s ('%s'%s); move them (`lodge update --in "
                   "OTHER %s`) or remove them first",
                   e->name, nr, nr == 1 ? "" : "s", first->name, nr == 1 ? "" : " and others",
                   first->name);
}

int environment_remove(struct manager *m, const char *name, struct err *err)
{
    struct store_change change = {.remove_environment = name};
    char path[ENVIRONMENT_PATH_MAX];
    struct environment *e;
    int result;

    if (!strcmp(name, ENVIRONMENT_DEFAULT))
        return err_set(err, -EINVAL, "'default' is what has no environment: it is always there");
    pthread_mutex_lock(&m->lock);
    if ((result = environment_find_locked(m, name, &e, err)) == 0 &&
        (result = check_free_locked(e, err)) == 0 && (result = check_empty_locked(m, e, err)) == 0)
        e->removing = true;
    pthread_mutex_unlock(&m->lock);
    if (result < 0)
        return result;
    result = state_store_apply(m->store, &change, err);
    pthread_mutex_lock(&m->lock);
    e->removing = false;
    if (result == 0)
        remove_locked(m, e);
    pthread_mutex_unlock(&m->lock);
    if (result < 0)
        return result;
    environment_path(e, path);
    if (geteuid() == 0 && host_cgroup_remove_tree(path) < 0)
        log_warning("cgroup %s is still in use", path);
    environment_free(e);
    return 0;
}
