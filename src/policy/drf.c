/* SPDX-License-Identifier: Apache-2.0 */
/* Progressive filling with a heap of users, the one with the smallest dominant share on top. */
#include "policy/drf.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <math.h>

struct entry {
    double share; /* dominant share over weight */
    size_t user;
};

static bool before(const struct entry *a, const struct entry *b)
{
    return a->share < b->share || (a->share <= b->share && a->user < b->user);
}

static void sift_down(struct entry *heap, size_t length, size_t at, struct entry entry)
{
    for (;;) {
        size_t child = at * 2 + 1;

        if (child >= length)
            break;
        if (child + 1 < length && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &entry))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = entry;
}

/* One task's part of the whole, of the resource it needs most of; -1: no valid need. */
static double dominant(const double *capacity, unsigned nr_resources, const struct drf_user *user,
                       unsigned *ret_resource)
{
    double most = -1;

    for (unsigned r = 0; r < nr_resources; r++) {
        double part = user->need[r] > 0 ? user->need[r] / capacity[r] : 0;

        if (!(user->need[r] >= 0) || isnan(part) || isinf(part))
            return -1;
        if (part > most) {
            most = part;
            *ret_resource = r;
        }
    }
    return most;
}

/* Sums of many tasks may be off in the last bits; the last task that fits exactly is not lost. */
static bool fits(const double *capacity, const double *used, unsigned nr_resources,
                 const struct drf_user *user)
{
    for (unsigned r = 0; r < nr_resources; r++)
        if (user->need[r] > 0 && used[r] + user->need[r] > capacity[r] * (1 + 1e-12))
            return false;
    return true;
}

int drf_fill(const double *capacity, unsigned nr_resources, struct drf_user *users, size_t n,
             double *ret_used, struct err *err)
{
    CLEANUP(freep) struct entry *heap = calloc(n + 1, sizeof(*heap));
    double used[DRF_RESOURCES_MAX] = {0};
    size_t length = n;

    if (nr_resources < 1 || nr_resources > DRF_RESOURCES_MAX)
        return err_set(err, -EINVAL, "1 to %d resources, not %u", DRF_RESOURCES_MAX, nr_resources);
    if (!heap)
        return err_set(err, -ENOMEM, "%zu users: out of memory", n);
    for (size_t i = 0; i < n; i++) {
        double part = dominant(capacity, nr_resources, &users[i], &users[i].dominant_resource);

        if (!(part > 0) || !(users[i].weight >= 0) || isinf(users[i].weight))
            return err_set(err, -EINVAL, "user %zu: needs nothing, or weight %g is none", i,
                           users[i].weight);
        for (unsigned r = 0; r < nr_resources; r++)
            used[r] += users[i].need[r] * (double)users[i].tasks;
        users[i].dominant_share = part * (double)users[i].tasks;
        heap[i] = (struct entry){
            users[i].dominant_share / (users[i].weight > 0 ? users[i].weight : 1), i};
    }
    for (size_t i = n / 2; i-- > 0;)
        sift_down(heap, n, i, heap[i]);
    while (length) {
        struct entry top = heap[0];
        struct drf_user *user = &users[top.user];

        if ((user->tasks_max && user->tasks >= user->tasks_max) ||
            !fits(capacity, used, nr_resources, user)) {
            if (--length)
                sift_down(heap, length, 0, heap[length]);
            continue;
        }
        for (unsigned r = 0; r < nr_resources; r++)
            used[r] += user->need[r];
        user->tasks++;
        user->dominant_share = user->need[user->dominant_resource] /
                               capacity[user->dominant_resource] * (double)user->tasks;
        top.share = user->dominant_share / (user->weight > 0 ? user->weight : 1);
        sift_down(heap, length, 0, top);
    }
    for (unsigned r = 0; ret_used && r < nr_resources; r++)
        ret_used[r] = used[r];
    return 0;
}
