/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May it run? The reservations of all that run (or are about to) stay within quota * overcommit, of
 * the host and of the environment; policy/admission.h decides and finds the words.
 *
 * Reservations count from the start of an instance to its end, not from its making: what lies still
 * needs nothing. What could never run is refused when it is made.
 */
#include "base/util.h"
#include "manager/environment.h"
#include "manager/internal.h"

#include "host/memory_round.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void admission_reservation(const struct spec_share *share, double ret[ALLOCATION_RESOURCES])
{
    memset(ret, 0, ALLOCATION_RESOURCES * sizeof(*ret));
    ret[ALLOCATION_CPU] = (double)share->reserve_cpu_millis / 1000;
    ret[ALLOCATION_MEMORY] = (double)share->reserve_memory_bytes;
}

static bool counts(const struct instance *instance)
{
    return instance->admitted || life_is_active(instance->row.state);
}

static void sum_locked(struct manager *m, const struct environment *e, const struct instance *but,
                       struct admission_level *level)
{
    for (const struct instance *at = m->first; at; at = at->next) {
        double reservation[ALLOCATION_RESOURCES];

        if (at == but || !counts(at) || (e && !environment_has_locked(e, at)))
            continue;
        admission_reservation(&at->brief->share, reservation);
        admission_add(level, reservation);
    }
}

static void fill_level(struct admission_level *level, const char *name,
                       const struct environment_spec *spec, double cores, double memory)
{
    *level = (struct admission_level){.name = name, .instances_max = spec->instances_max};
    for (unsigned i = 0; i < ALLOCATION_RESOURCES; i++) {
        level->total[i] = ALLOCATION_UNLIMITED;
        level->overcommit[i] = spec->overcommit[i];
    }
    level->total[ALLOCATION_CPU] = cores;
    level->total[ALLOCATION_MEMORY] = memory;
}

unsigned admission_levels_locked(struct manager *m, const struct environment *e,
                                 const struct instance *but, struct admission_level levels[2],
                                 char name[SPEC_NAME_MAX + 32])
{
    struct memory_host host = {0};

    host_memory_read(&host, NULL);
    fill_level(&levels[0], "host", &m->environments->spec, (double)sysconf(_SC_NPROCESSORS_ONLN),
               host.total_bytes ? (double)host.total_bytes : ALLOCATION_UNLIMITED);
    /* The number of instances is the default environment's own matter. */
    levels[0].instances_max = 0;
    sum_locked(m, NULL, but, &levels[0]);
    snprintf(name, SPEC_NAME_MAX + 32, "environment %s", e->name);
    fill_level(&levels[1], name, &e->spec, e->spec.cpus, e->spec.memory);
    sum_locked(m, e, but, &levels[1]);
    return 2;
}

static int ask(const struct admission_level *levels, unsigned nr, const double *reservation,
               const char *who, struct err *err)
{
    struct admission_answer answer;
    char text[200];
    int result = admission_ask(levels, nr, reservation, &answer, err);

    if (result < 0 || answer.admitted)
        return result;
    admission_explain(levels, &answer, text, sizeof(text));
    return err_set(err, -ECANCELED, "not admitted%s: %s", who, text);
}

int admission_question_locked(struct manager *m, const struct admission_question *question,
                              struct err *err)
{
    struct admission_level levels[2];
    struct environment *e;
    char name[SPEC_NAME_MAX + 32];
    unsigned nr;
    int result = environment_find_locked(m, question->environment, &e, err);

    if (result < 0)
        return result;
    nr = admission_levels_locked(m, e, question->but, levels, name);
    return ask(levels, nr, question->reservation, "", err);
}

int admission_fits_locked(struct manager *m, const struct environment *e, struct err *err)
{
    struct admission_level levels[2];
    char name[SPEC_NAME_MAX + 32];
    unsigned nr = admission_levels_locked(m, e, NULL, levels, name);

    for (unsigned i = 0; i < nr; i++)
        for (unsigned r = 0; r < ALLOCATION_RESOURCES; r++) {
            double most = levels[i].total[r] * levels[i].overcommit[r];
            double unit = r == ALLOCATION_CPU ? 1 : (double)MIB;

            if (levels[i].reserved[r] > most * (1 + 1e-9))
                return err_set(err, -ECANCELED,
                               "%s: %.6g %s are reserved by what runs, %.6g would be left; stop "
                               "some first",
                               levels[i].name, levels[i].reserved[r] / unit,
                               r == ALLOCATION_CPU ? "cores" : "MiB of memory", most / unit);
        }
    return 0;
}

/* As if nothing else ran. */
static int ask_alone_locked(struct manager *m, const char *environment,
                            const struct spec_share *share, struct err *err)
{
    struct admission_level levels[2];
    double reservation[ALLOCATION_RESOURCES];
    struct environment *e;
    char name[SPEC_NAME_MAX + 32];
    int result;

    admission_reservation(share, reservation);
    if ((result = environment_find_locked(m, environment, &e, err)) == 0) {
        unsigned nr = admission_levels_locked(m, e, NULL, levels, name);

        for (unsigned i = 0; i < nr; i++) {
            memset(levels[i].reserved, 0, sizeof(levels[i].reserved));
            levels[i].instances = 0;
        }
        result = ask(levels, nr, reservation, " (and could not be alone either)", err);
    }
    return result;
}

int admission_ever(struct manager *m, const struct spec *spec, struct err *err)
{
    int result;

    pthread_mutex_lock(&m->lock);
    result = ask_alone_locked(m, spec->environment, &spec->share, err);
    pthread_mutex_unlock(&m->lock);
    return result;
}

bool admission_never_locked(struct manager *m, const struct instance *instance)
{
    const struct instance_brief *brief = instance->brief;

    return ask_alone_locked(m, brief->environment, &brief->share, NULL) < 0;
}

bool admission_never(struct manager *m, const struct instance *instance)
{
    bool never;

    pthread_mutex_lock(&m->lock);
    never = admission_never_locked(m, instance);
    pthread_mutex_unlock(&m->lock);
    return never;
}

int admission_would_start_locked(struct manager *m, const struct instance *instance,
                                 struct err *err)
{
    struct admission_question question = {.but = instance};
    const struct instance_brief *brief = instance->brief;
    struct environment *e;
    int result;

    question.environment = brief->environment;
    admission_reservation(&brief->share, question.reservation);
    result = environment_find_locked(m, brief->environment, &e, err);
    /* Without a reservation there is nothing that could be short; only their number counts. */
    if (result == 0 && (brief->share.reserve_cpu_millis || brief->share.reserve_memory_bytes ||
                        e->spec.instances_max))
        result = admission_question_locked(m, &question, err);
    return result;
}

int admission_start(struct manager *m, struct instance *instance, struct err *err)
{
    int result;

    pthread_mutex_lock(&m->lock);
    if ((result = admission_would_start_locked(m, instance, err)) == 0)
        instance->admitted = true;
    pthread_mutex_unlock(&m->lock);
    return result;
}

void admission_settled(struct manager *m, struct instance *instance)
{
    pthread_mutex_lock(&m->lock);
    instance->admitted = false;
    pthread_mutex_unlock(&m->lock);
}

int admission_change(struct manager *m, struct instance *instance, const struct spec *spec,
                     struct err *err)
{
    struct admission_question question = {.but = instance, .environment = spec_environment(spec)};
    struct environment *e;
    bool active;
    int result;

    if ((result = admission_ever(m, spec, err)) < 0)
        return result;
    pthread_mutex_lock(&m->lock);
    active = counts(instance);
    admission_reservation(&spec->share, question.reservation);
    result = active ? admission_question_locked(m, &question, err)
                    : environment_find_locked(m, question.environment, &e, err);
    if (result == 0)
        snprintf(instance->moving_to, sizeof(instance->moving_to), "%s",
                 *question.environment ? question.environment : ENVIRONMENT_DEFAULT);
    pthread_mutex_unlock(&m->lock);
    return result;
}

void admission_changed(struct manager *m, struct instance *instance)
{
    pthread_mutex_lock(&m->lock);
    instance->moving_to[0] = '\0';
    pthread_mutex_unlock(&m->lock);
}
