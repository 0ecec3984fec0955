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

static json_t *size_word(uint64_t bytes)
{
    return json_sprintf("%llu", (unsigned long long)bytes);
}

void api_disk_create(struct api_request *request, struct api_reply *reply)
{
    static const char *const known[] = {"name", "size_bytes", "format", NULL};
    const char *name = NULL, *format = NULL;
    struct err err = ERR_INIT;
    uint64_t bytes = 0, wait_s;
    struct json_at body;
    struct vdisk disk;
    json_t *words;
    int r;

    json_at_root(request->json, &body);
    if (api_task_wait(request, reply, &wait_s) < 0)
        return;
    if ((r = json_reject_unknown(&body, known, &err)) < 0 ||
        (r = json_get_string(&body, "name", &name, &err)) < 0 ||
        (r = json_get_uint(&body, "size_bytes", &bytes, &err)) < 0 ||
        (r = json_opt_string(&body, "format", &format, &err)) < 0 ||
        (r = check_disk("name", name, &err)) < 0 ||
        (r = vdisk_place(request->m->options.images, name, format, &disk, &err)) < 0) {
        api_fail_err(reply, r, &err);
        return;
    }
    words = json_pack("[s, s, s, o]", "disk", "create", disk.path, size_word(bytes));
    words_add_option(words, "--format", disk.qcow2 ? "qcow2" : "raw");
    api_task(request, reply, "disk-create", name, disk.path, words, wait_s);
}

void api_disk_resize(struct api_request *request, struct api_reply *reply)
{
    static const char *const known[] = {"disk", "size_bytes", "format", "shrink", NULL};
    const char *name = NULL, *format = NULL;
    struct err err = ERR_INIT;
    uint64_t bytes = 0, wait_s;
    bool shrink = false;
    struct json_at body;
    struct vdisk disk;
    json_t *words;
    int r;

    json_at_root(request->json, &body);
    if (api_task_wait(request, reply, &wait_s) < 0)
        return;
    if ((r = json_reject_unknown(&body, known, &err)) < 0 ||
        (r = json_get_string(&body, "disk", &name, &err)) < 0 ||
        (r = json_get_uint(&body, "size_bytes", &bytes, &err)) < 0 ||
        (r = json_opt_string(&body, "format", &format, &err)) < 0 ||
        (r = json_opt_bool(&body, "shrink", &shrink, &err)) < 0 ||
        (r = check_disk("disk", name, &err)) < 0 ||
        (r = vdisk_find(request->m->options.images, name, format, &disk, &err)) < 0) {
        api_fail_err(reply, r, &err);
        return;
    }
    words = json_pack("[s, s, s, o]", "disk", "resize", disk.path, size_word(bytes));
    words_add_option(words, "--format", disk.qcow2 ? "qcow2" : "raw");
    words_add(words, shrink ? "--shrink" : NULL);
    api_task(request, reply, "disk-resize", name, NULL, words, wait_s);
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
