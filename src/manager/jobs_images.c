/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The images of jobs that have not ended: a job finds its image by its name when it first runs, so
 * the name has to stay. One pin (manager/pins.h) for each image, whatever the number of jobs.
 *
 * A pin is taken without the lock and dropped with it; the last look (pin_one) sees to it that none
 * stays behind. An image that cannot be opened has no pin: its jobs say what is wrong when they
 * run.
 */
#include "manager/jobs_internal.h"

#include "base/cleanup.h"
#include "base/hash.h"
#include "manager/pins.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct job_image {
    char *name;
    size_t nr_jobs;
    bool pinned; /* or about to be */
    struct job_image *next;
};

#define PIN_ID_MAX 32

static void pin_id(const char *image, char ret[PIN_ID_MAX])
{
    snprintf(ret, PIN_ID_MAX, "jobs-%016llx",
             (unsigned long long)hash_bytes(HASH_START, image, strlen(image)));
}

static struct job_image **find(struct jobs *js, const char *name)
{
    struct job_image **at = &js->images;

    while (*at && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

int job_image_use(struct jobs *js, struct job *job)
{
    struct job_image **at = find(js, job->image), *image = *at;

    if (image) { /* to the front: many jobs in a row have the same */
        *at = image->next;
    } else if (!(image = calloc(1, sizeof(*image))) || !(image->name = strdup(job->image))) {
        free(image);
        return -ENOMEM;
    }
    image->nr_jobs++;
    image->next = js->images;
    js->images = image;
    job->uses_image = true;
    return 0;
}

static void forget(struct job_image **at)
{
    struct job_image *image = *at;

    *at = image->next;
    free(image->name);
    free(image);
}

void job_image_release(struct jobs *js, struct job *job)
{
    struct job_image **at = find(js, job->image);
    char id[PIN_ID_MAX];

    if (!job->uses_image)
        return;
    job->uses_image = false;
    if (!*at || --(*at)->nr_jobs)
        return;
    pin_id(job->image, id);
    pins_drop(js->m, id);
    forget(at);
}

/* The name of one without a pin, which the caller is to take (malloc); NULL: there is none. */
static char *next_unpinned(struct jobs *js)
{
    char *name = NULL;

    pthread_mutex_lock(&js->lock);
    for (struct job_image *at = js->images; at && !name; at = at->next)
        if (!at->pinned && (name = strdup(at->name)))
            at->pinned = true;
    pthread_mutex_unlock(&js->lock);
    return name;
}

static void pin_one(struct jobs *js, const char *name)
{
    char id[PIN_ID_MAX];

    pin_id(name, id);
    if (pins_take(js->m, id, name, "jobs that have not ended", true, NULL) < 0)
        return;
    pthread_mutex_lock(&js->lock);
    if (!*find(js, name))
        pins_drop(js->m, id);
    pthread_mutex_unlock(&js->lock);
}

void jobs_images_pin(struct jobs *js)
{
    char *name;

    while ((name = next_unpinned(js))) {
        pin_one(js, name);
        free(name);
    }
}

void jobs_images_free(struct jobs *js)
{
    while (js->images)
        forget(&js->images);
}
