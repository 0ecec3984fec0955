/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/disks: made, sized and converted, as operations (manager/tasks.c). */
#include "manager/api/words.h"

#include "image/vdisk.h"

#include <errno.h>
#include <string.h>

/* A name of the store, or a path of the manager's host. */
static int check_disk(const char *what, const char *disk, struct err *err)
{
    return disk && strchr(disk, '/') ? words_check_path(what, disk, true, err)
                                     : words_check(what, disk, true, err);
}

/* What gives a disk a size. */
static const struct sizing {
    const char *verb, *task, *member; /* member: of the document, which says which disk */
    const char *const *known;
    bool makes;
} sizing_create = {"create", "disk-create", "name",
                   (const char *const[]){"name", "size_bytes", "format", NULL}, true},
  sizing_resize = {"resize", "disk-resize", "disk",
                   (const char *const[]){"disk", "size_bytes", "format", "shrink", NULL}, false};

struct sized {
    const char *disk, *format;
    uint64_t bytes;
    bool shrink;
};

static int parse_sized(json_t *json, const struct sizing *sizing, struct sized *ret,
                       struct err *err)
{
    struct json_at body;
    int r;

    json_at_root(json, &body);
    if ((r = json_reject_unknown(&body, sizing->known, err)) < 0 ||
        (r = json_get_string(&body, sizing->member, &ret->disk, err)) < 0 ||
        (r = json_get_uint(&body, "size_bytes", &ret->bytes, err)) < 0 ||
        (r = json_opt_string(&body, "format", &ret->format, err)) < 0 ||
        (r = json_opt_bool(&body, "shrink", &ret->shrink, err)) < 0)
        return r;
    return check_disk(sizing->member, ret->disk, err);
}

static void size_disk(struct api_request *request, struct api_reply *reply,
                      const struct sizing *sizing)
{
    const struct store *store = request->m->options.images;
    struct err err = ERR_INIT;
    struct sized sized = {0};
    struct vdisk disk;
    uint64_t wait_s;
    json_t *words;
    int r;

    if (api_task_wait(request, reply, &wait_s) < 0)
        return;
    if ((r = parse_sized(request->json, sizing, &sized, &err)) == 0)
        r = sizing->makes ? vdisk_place(store, sized.disk, sized.format, &disk, &err)
                          : vdisk_find(store, sized.disk, sized.format, &disk, &err);
    if (r < 0) {
        api_fail_err(reply, r, &err);
        return;
    }
    words = json_pack("[s, s, s, o]", "disk", sizing->verb, disk.path,
                      json_sprintf("%llu", (unsigned long long)sized.bytes));
    words_add_option(words, "--format", disk.qcow2 ? "qcow2" : "raw");
    words_add(words, sized.shrink ? "--shrink" : NULL);
    api_task(request, reply, sizing->task, sized.disk, sizing->makes ? disk.path : NULL, words,
             wait_s);
}

void api_disk_create(struct api_request *request, struct api_reply *reply)
{
    size_disk(request, reply, &sizing_create);
}

void api_disk_resize(struct api_request *request, struct api_reply *reply)
{
    size_disk(request, reply, &sizing_resize);
}

struct converting {
    const char *disk, *new, *format, *to;
    bool force;
};

static int parse_convert(json_t *json, struct converting *ret, struct err *err)
{
    static const char *const known[] = {"disk", "new", "format", "to", "force", NULL};
    struct json_at body;
    int r;

    json_at_root(json, &body);
    if ((r = json_reject_unknown(&body, known, err)) < 0 ||
        (r = json_get_string(&body, "disk", &ret->disk, err)) < 0 ||
        (r = json_get_string(&body, "new", &ret->new, err)) < 0 ||
        (r = json_opt_string(&body, "format", &ret->format, err)) < 0 ||
        (r = json_opt_string(&body, "to", &ret->to, err)) < 0 ||
        (r = json_opt_bool(&body, "force", &ret->force, err)) < 0 ||
        (r = check_disk("disk", ret->disk, err)) < 0)
        return r;
    return check_disk("new", ret->new, err);
}

void api_disk_convert(struct api_request *request, struct api_reply *reply)
{
    const struct store *store = request->m->options.images;
    struct converting c = {0};
    struct err err = ERR_INIT;
    struct vdisk from, to;
    uint64_t wait_s;
    json_t *words;
    int r;

    if (api_task_wait(request, reply, &wait_s) < 0)
        return;
    if ((r = parse_convert(request->json, &c, &err)) == 0 &&
        (r = vdisk_find(store, c.disk, c.format, &from, &err)) == 0) {
        r = vdisk_place(store, c.new, c.to, &to, &err);
        if (r == -EEXIST && c.force)
            r = vdisk_find(store, c.new, NULL, &to, &err);
    }
    if (r < 0) {
        api_fail_err(reply, r, &err);
        return;
    }
    words = json_pack("[s, s, s, s]", "disk", "convert", from.path, to.path);
    words_add_option(words, "--format", from.qcow2 ? "qcow2" : "raw");
    words_add_option(words, "--to", to.qcow2 ? "qcow2" : "raw");
    words_add(words, c.force ? "--force" : NULL);
    api_task(request, reply, "disk-convert", c.disk, to.path, words, wait_s);
}
