/* SPDX-License-Identifier: Apache-2.0 */
/* Admission: sums of promises against what there is, level by level, and honest refusals. */
#include "policy/admission.h"

#include "base/util.h"

#include <math.h>
#include <stdio.h>

/* Sums of many small amounts may be off by this part; a promise is not refused for it. */
#define ROUNDING 1e-9

static double promised_at_most(const struct admission_level *level, unsigned r)
{
    return level->total[r] * (level->overcommit[r] > 0 ? level->overcommit[r] : 1);
}

double admission_free(const struct admission_level *level, enum allocation_resource resource)
{
    return fmax(promised_at_most(level, resource) - level->reserved[resource], 0);
}

static int check(const struct admission_level *levels, size_t nr_levels,
                 const double reservation[ALLOCATION_RESOURCES], struct err *err)
{
    for (unsigned r = 0; r < ALLOCATION_RESOURCES; r++) {
        const char *name = allocation_resource_name((enum allocation_resource)r);

        if (!(reservation[r] >= 0) || isinf(reservation[r]))
            return err_set(err, -EINVAL, "reservation of %s: %g is no amount", name,
                           reservation[r]);
        for (size_t i = 0; i < nr_levels; i++)
            if (!(levels[i].total[r] >= 0) || !(levels[i].reserved[r] >= 0) ||
                !(levels[i].overcommit[r] >= 0))
                return err_set(err, -EINVAL, "%s: %s: total, reserved or overcommit is no number",
                               levels[i].name, name);
    }
    return 0;
}

static void refuse(const struct admission_level *levels, size_t i,
                   const double reservation[ALLOCATION_RESOURCES], struct admission_answer *answer)
{
    const struct admission_level *level = &levels[i];
    double worst = 0;

    for (unsigned r = 0; r < ALLOCATION_RESOURCES; r++) {
        double free = admission_free(level, (enum allocation_resource)r);
        double most = promised_at_most(level, r);
        double over = (reservation[r] - free) / fmax(most, 1e-300);

        if (isinf(most) || reservation[r] <= free + most * ROUNDING || over <= worst)
            continue;
        worst = over;
        answer->admitted = false;
        answer->level = i;
        answer->resource = (enum allocation_resource)r;
        answer->asked = reservation[r];
        answer->free = free;
        answer->total = most;
    }
}

int admission_ask(const struct admission_level *levels, size_t nr_levels,
                  const double reservation[ALLOCATION_RESOURCES], struct admission_answer *ret,
                  struct err *err)
{
    struct admission_answer answer = {.admitted = true, .copies = UINT64_MAX};
    int r = check(levels, nr_levels, reservation, err);

    if (r < 0)
        return r;
    for (unsigned k = 0; k < ALLOCATION_RESOURCES; k++) {
        answer.fits[k] = ALLOCATION_UNLIMITED;
        for (size_t i = 0; i < nr_levels; i++)
            answer.fits[k] = fmin(answer.fits[k],
                                  admission_free(&levels[i], (enum allocation_resource)k));
        if (reservation[k] > 0 && !isinf(answer.fits[k]))
            answer.copies =
                MIN(answer.copies,
                    (uint64_t)fmin(floor(answer.fits[k] / reservation[k] * (1 + ROUNDING)), 1e18));
    }
    for (size_t i = 0; i < nr_levels; i++) {
        const struct admission_level *level = &levels[i];

        if (!level->instances_max)
            continue;
        answer.copies = MIN(answer.copies,
                            level->instances_max - MIN(level->instances, level->instances_max));
        if (answer.admitted && level->instances >= level->instances_max) {
            answer.admitted = false;
            answer.by_count = true;
            answer.level = i;
            answer.asked = 1;
            answer.total = (double)level->instances_max;
        }
    }
    for (size_t i = 0; i < nr_levels && answer.admitted; i++)
        refuse(levels, i, reservation, &answer);
    *ret = answer;
    return 0;
}

static const struct {
    const char *unit;
    double divisor;
} units[ALLOCATION_RESOURCES] = {{"cores", 1},
                                 {"MiB of memory", 1 << 20},
                                 {"MiB/s of disk", 1 << 20},
                                 {"MiB/s of network", 1 << 20}};

int admission_explain(const struct admission_level *levels, const struct admission_answer *answer,
                      char *text, size_t size)
{
    const char *level = levels[answer->level].name;
    double divisor = units[answer->resource].divisor;

    if (answer->admitted && answer->copies == UINT64_MAX)
        return snprintf(text, size, "admitted");
    if (answer->admitted)
        return snprintf(text, size, "admitted: one of %llu like this that fit now",
                        (unsigned long long)answer->copies);
    if (answer->by_count)
        return snprintf(text, size, "%s: it has all the %.0f instances it may have", level,
                        answer->total);
    return snprintf(text, size,
                    "%s: %.6g of %.6g %s are not reserved yet, %.6g were asked for; ask for at "
                    "most %.6g, or free some, or raise the quota or the overcommit",
                    level, answer->free / divisor, answer->total / divisor,
                    units[answer->resource].unit, answer->asked / divisor,
                    answer->fits[answer->resource] / divisor);
}

void admission_add(struct admission_level *level, const double reservation[ALLOCATION_RESOURCES])
{
    for (unsigned r = 0; r < ALLOCATION_RESOURCES; r++)
        level->reserved[r] += reservation[r];
    level->instances++;
}

void admission_remove(struct admission_level *level, const double reservation[ALLOCATION_RESOURCES])
{
    for (unsigned r = 0; r < ALLOCATION_RESOURCES; r++)
        level->reserved[r] = fmax(level->reserved[r] - reservation[r], 0);
    if (level->instances)
        level->instances--;
}
