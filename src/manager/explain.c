/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The explanations are the decision itself, taken anew from the same survey and told with all its
 * terms: they cannot say anything else than what was done.
 */
#include "manager/explain.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "manager/allocation.h"
#include "manager/figures.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>

#define MEASURE_NS 250000000

/* Whole numbers as such, infinite ones as null. */
static void out_number(struct buf *to, const char *name, double value)
{
    if (isfinite(value))
        buf_printf(to, "\"%s\": %.10g", name, value);
    else
        buf_printf(to, "\"%s\": null", name);
}

static void out_numbers(struct buf *to, size_t nr, const char *const names[], const double values[])
{
    for (size_t i = 0; i < nr; i++) {
        if (i)
            buf_append(to, ", ", 2);
        out_number(to, names[i], values[i]);
    }
}

static void out_weight(struct buf *to, const struct allocation_instance *claim,
                       const struct allocation_result *result)
{
    const double values[] = {claim->alpha,       claim->priority, claim->beta,
                             claim->run_seconds, result->weight,  result->fraction};
    static const char *const names[] = {"alpha",       "priority", "beta",
                                        "run_seconds", "value",    "fraction"};

    buf_append_string(to, "{\"formula\": \"R = alpha * P + beta * T\", ");
    out_numbers(to, ARRAY_LEN(names), names, values);
    buf_append(to, "}", 1);
}

static void out_share(struct buf *to, const struct allocation_group *group, size_t i,
                      enum allocation_resource r)
{
    static const char *const names[] = {"amount", "capacity", "reservation", "limit",
                                        "level",  "entitled", "idle"};
    const struct allocation_result *result = &group->results[i];
    const double values[] = {
        result->share[r].amount,      group->capacity[r],   group->instances[i].reservation[r],
        group->instances[i].limit[r], group->fill[r].level, result->entitled[r],
        group->fill[r].idle};
    char text[1024];

    buf_append(to, "{", 1);
    out_numbers(to, ARRAY_LEN(names), names, values);
    buf_append_string(to, ", \"bound\": ");
    out_string(to, allocation_bound_text(result->share[r].bound));
    allocation_explain(&group->instances[i], result, &group->fill[r], r, group->capacity[r], text,
                       sizeof(text));
    buf_append_string(to, ", \"text\": ");
    out_string(to, text);
    buf_append(to, "}", 1);
}

static void out_written(struct buf *to, const struct allocation_group *group, size_t i)
{
    const struct allocation_cgroup *cpu = &group->divisions[i].written;

    buf_append_string(to, "{\"cgroup\": ");
    out_string(to, group->members[i].path);
    buf_printf(to,
               ", \"cpu_shares\": %llu, \"cpu_weight\": %llu, \"quota_us\": %lld, \"period_us\": "
               "%llu, \"expected_part\": %.6f}",
               (unsigned long long)cpu->v1_shares, (unsigned long long)cpu->v2_weight,
               (long long)cpu->quota_us, (unsigned long long)cpu->period_us,
               group->divisions[i].expected);
}

/* One claim as a competitor sees it. */
static void out_member(struct buf *to, const struct allocation_group *group, size_t i)
{
    const struct allocation_member *member = &group->members[i];
    const double values[] = {group->results[i].weight,
                             group->results[i].share[ALLOCATION_CPU].amount,
                             group->instances[i].used[ALLOCATION_CPU],
                             group->instances[i].reservation[ALLOCATION_CPU],
                             group->instances[i].limit[ALLOCATION_CPU],
                             group->results[i].share[ALLOCATION_MEMORY].amount,
                             group->instances[i].used[ALLOCATION_MEMORY],
                             group->divisions[i].expected};
    static const char *const names[] = {
        "weight",      "cores",        "used_cores",        "reserved_cores",
        "limit_cores", "memory_bytes", "used_memory_bytes", "expected_part"};

    buf_append_string(to, "{\"name\": ");
    out_string(to, member->name);
    buf_printf(to, ", \"kind\": \"%s\", ",
               !member->instance ? "environment"
               : member->vm      ? "vm"
                                 : "container");
    out_numbers(to, ARRAY_LEN(names), names, values);
    if (group->spec.drf && member->instance)
        buf_printf(to, ", \"dominant_resource\": \"%s\", \"dominant_share\": %.6f",
                   allocation_resource_name((enum allocation_resource)member->dominant_resource),
                   member->dominant_share);
    buf_append_string(to, ", \"bound\": ");
    out_string(to, allocation_bound_text(group->results[i].share[ALLOCATION_CPU].bound));
    buf_append(to, "}", 1);
}

static void out_members(struct buf *to, const struct allocation_group *group, size_t but)
{
    bool first = true;

    buf_append(to, "[", 1);
    for (size_t i = 0; i < group->nr; i++) {
        if (i == but)
            continue;
        if (!first)
            buf_append(to, ", ", 2);
        first = false;
        out_member(to, group, i);
    }
    buf_append(to, "]", 1);
}

static void out_levels(struct manager *m, const char *name, struct buf *to)
{
    static const char *const names[] = {
        "cores",        "reserved_cores",        "free_cores",
        "memory_bytes", "reserved_memory_bytes", "free_memory_bytes"};
    struct admission_level levels[2];
    struct environment *e;
    char text[SPEC_NAME_MAX + 32];
    unsigned nr = 0;

    pthread_mutex_lock(&m->lock);
    if (environment_find_locked(m, name, &e, NULL) == 0)
        nr = admission_levels_locked(m, e, NULL, levels, text);
    pthread_mutex_unlock(&m->lock);
    buf_append(to, "[", 1);
    for (unsigned i = 0; i < nr; i++) {
        const struct admission_level *l = &levels[i];
        const double values[] = {l->total[ALLOCATION_CPU] * l->overcommit[ALLOCATION_CPU],
                                 l->reserved[ALLOCATION_CPU],
                                 admission_free(l, ALLOCATION_CPU),
                                 l->total[ALLOCATION_MEMORY] * l->overcommit[ALLOCATION_MEMORY],
                                 l->reserved[ALLOCATION_MEMORY],
                                 admission_free(l, ALLOCATION_MEMORY)};

        buf_append_string(to, i ? ", {\"level\": " : "{\"level\": ");
        out_string(to, l->name);
        buf_append(to, ", ", 2);
        out_numbers(to, ARRAY_LEN(names), names, values);
        buf_append(to, "}", 1);
    }
    buf_append(to, "]", 1);
}

/* Twice, so that the use is a rate of now. */
static int take(struct manager *m, bool measured, struct allocation_survey *ret, struct err *err)
{
    int result = survey_take(m, ret, err);

    if (result < 0)
        return result;
    if (measured) {
        survey_measure(ret, true);
        nanosleep(&(struct timespec){.tv_nsec = MEASURE_NS}, NULL);
        survey_measure(ret, true);
    }
    if ((result = survey_decide(ret, err)) < 0)
        survey_done(ret);
    return result;
}

static const char *mode_name(enum allocation_mode mode)
{
    return mode == ALLOCATION_DYNAMIC ? "dynamic" : "static";
}

static void write_instance(struct manager *m, struct allocation_survey *survey,
                           const struct allocation_group *group, size_t i, struct buf *to)
{
    const struct allocation_member *member = &group->members[i];
    struct instance_figures figures;

    buf_append_string(to, "{\"instance\": ");
    out_string(to, member->name);
    buf_append_string(to, ", \"environment\": ");
    out_string(to, group->name);
    buf_printf(to,
               ", \"isolation\": \"%s\", \"policy\": \"%s\", \"drf\": %s, \"rule\": \"%s\", "
               "\"weight\": ",
               member->vm ? "vm" : "container", mode_name(group->spec.mode),
               group->spec.drf ? "true" : "false",
               group->spec.drf
                   ? "x = max(tasks * need, reservation), max over resources of x / capacity / R "
                     "equal"
                   : "x = min(max(level * R, reservation), min(limit, demand))");
    out_weight(to, &group->instances[i], &group->results[i]);
    buf_append_string(to, ", \"cpu\": ");
    out_share(to, group, i, ALLOCATION_CPU);
    buf_append_string(to, ", \"memory\": ");
    out_share(to, group, i, ALLOCATION_MEMORY);
    buf_append_string(to, ", \"written\": ");
    out_written(to, group, i);
    buf_append_string(to, ", \"itself\": ");
    out_member(to, group, i);
    buf_append_string(to, ", \"competitors\": ");
    out_members(to, group, i);
    buf_append_string(to, ", \"above\": ");
    if (group == survey->groups)
        buf_append_string(to, "null");
    for (size_t k = 0; group != survey->groups && k < survey->groups[0].nr; k++)
        if (!survey->groups[0].members[k].instance &&
            &survey->groups[survey->groups[0].members[k].group] == group)
            out_share(to, &survey->groups[0], k, ALLOCATION_CPU);
    buf_append_string(to, ", \"admission\": ");
    out_levels(m, group->name, to);
    buf_printf(to, ", \"memory_target_bytes\": %llu, \"measured\": ",
               (unsigned long long)member->meter.memory_target);
    if (figures_read(m, member->instance, &figures, NULL) == 0) {
        buf_append(to, "{", 1);
        out_number(to, "used_cores", member->meter.used_cores);
        buf_append(to, ", ", 2);
        figures_write(to, &figures);
        buf_append_string(to, "}}\n");
    } else {
        buf_append_string(to, "null}\n");
    }
}

int explain_instance(struct manager *m, struct instance *instance, struct buf *to, struct err *err)
{
    struct allocation_survey survey;
    struct allocation_group *group;
    size_t i;
    int result = take(m, true, &survey, err);

    if (result < 0)
        return result;
    if (survey_find(&survey, instance, &group, &i))
        write_instance(m, &survey, group, i, to);
    else
        result = err_set(err, -ESRCH,
                         "'%s' does not run, so it has nothing to explain; `lodge start %s`",
                         instance->name, instance->name);
    survey_done(&survey);
    return result;
}

static void out_head_locked(struct manager *m, const struct environment *e, struct buf *to)
{
    char path[ENVIRONMENT_PATH_MAX];
    size_t nr = 0, running = 0;

    for (const struct instance *at = m->first; at; at = at->next)
        if (environment_has_locked(e, at)) {
            nr++;
            running += life_is_active(at->row.state);
        }
    environment_path(e, path);
    buf_append_string(to, "\"name\": ");
    out_string(to, e->name);
    buf_printf(to, ", \"policy\": \"%s\", \"drf\": %s, \"instances\": %zu, \"running\": %zu, ",
               mode_name(e->spec.mode), e->spec.drf ? "true" : "false", nr, running);
    out_number(to, "cores", e->spec.cpus);
    buf_append(to, ", ", 2);
    out_number(to, "memory_bytes", e->spec.memory);
    buf_append(to, ", ", 2);
    out_number(to, "priority", e->spec.priority);
    buf_append_string(to, ", \"network\": ");
    out_string(to, e->spec.network);
    buf_append_string(to, ", \"cgroup\": ");
    out_string(to, path);
    buf_append_string(to, ", \"created\": ");
    out_time(to, e->created_ns);
    buf_printf(to, ", \"spec\": %s", e->text);
}

void explain_environments(struct manager *m, struct buf *to)
{
    buf_append_string(to, "{\"environments\": [");
    pthread_mutex_lock(&m->lock);
    for (const struct environment *e = m->environments; e; e = e->next) {
        buf_append_string(to, e == m->environments ? "{" : ",\n{");
        out_head_locked(m, e, to);
        buf_append(to, "}", 1);
    }
    pthread_mutex_unlock(&m->lock);
    buf_append_string(to, "]}\n");
}

int explain_environment(struct manager *m, const char *name, bool measured, struct buf *to,
                        struct err *err)
{
    struct allocation_survey survey;
    struct environment *e;
    int result;

    pthread_mutex_lock(&m->lock);
    if ((result = environment_find_locked(m, name, &e, err)) == 0) {
        buf_append(to, "{", 1);
        out_head_locked(m, e, to);
    }
    pthread_mutex_unlock(&m->lock);
    if (result < 0 || (result = take(m, measured, &survey, err)) < 0)
        return result;
    for (size_t g = 0; g < survey.nr; g++) {
        static const char *const names[] = {"capacity_cores", "capacity_memory_bytes", "level",
                                            "idle_cores"};
        const struct allocation_group *group = &survey.groups[g];
        const double values[] = {
            group->capacity[ALLOCATION_CPU], group->capacity[ALLOCATION_MEMORY],
            group->fill[ALLOCATION_CPU].level, group->fill[ALLOCATION_CPU].idle};

        if (strcmp(group->name, name) != 0)
            continue;
        buf_append(to, ", ", 2);
        out_numbers(to, ARRAY_LEN(names), names, values);
        buf_append_string(to, ", \"members\": ");
        out_members(to, group, SIZE_MAX);
    }
    survey_done(&survey);
    buf_append_string(to, ", \"admission\": ");
    out_levels(m, name, to);
    buf_append_string(to, "}\n");
    return 0;
}
