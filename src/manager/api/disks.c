/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/disks: the named disks of the store, and which machines have them. */
#include "manager/api/request.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "image/vdisk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Names of the instances to which the disk is attached, as a JSON array. */
static int owners(struct manager *m, const char *name, json_t *ret, struct err *err)
{
    int result = 0;

    pthread_mutex_lock(&m->lock);
    for (const struct instance *at = m->first; at && result == 0; at = at->next) {
        const struct hardware_disk *disks;
        struct spec spec;
        unsigned nr;

        if (!at->brief->disks)
            continue;
        if ((result = spec_parse_text(at->spec, &spec, err)) < 0)
            break;
        disks = spec_disks(&spec, &nr);
        for (unsigned i = 0; i < nr; i++)
            if (!strcmp(disks[i].disk, name))
                json_array_append_new(ret, json_string(at->name));
        spec_done(&spec);
    }
    pthread_mutex_unlock(&m->lock);
    return result;
}

struct listing {
    struct manager *m;
    json_t *array;
};

static void add_disk(const struct vdisk *disk, void *context)
{
    struct listing *listing = context;
    json_t *attached = json_array();
    struct stat st;

    if (stat(disk->path, &st) < 0) /* gone meanwhile */
        st = (struct stat){0};
    owners(listing->m, disk->name, attached, NULL);
    json_array_append_new(listing->array,
                          json_pack("{s:s, s:s, s:s, s:I, s:o}", "name", disk->name, "path",
                                    disk->path, "format", disk->qcow2 ? "qcow2" : "raw",
                                    "file_bytes", (json_int_t)st.st_size, "attached_to", attached));
}

void api_disks(struct api_request *request, struct api_reply *reply)
{
    struct listing listing = {request->m, json_array()};
    char directory[PATH_MAX];
    json_t *answer;
    CLEANUP(freep) char *text = NULL;

    vdisk_list(request->m->options.images, add_disk, &listing);
    if (store_writable_dir(request->m->options.images, "vdisks", directory) < 0)
        *directory = '\0';
    answer = json_pack("{s:o, s:s}", "disks", listing.array, "directory", directory);
    text = json_text(answer, JSON_INDENT(2));
    json_decref(answer);
    if (!text)
        api_fail(reply, 500, "a path is not UTF-8");
    else
        buf_printf(&reply->body, "%s\n", text);
}

static int remove_disk(struct manager *m, const char *name, struct err *err)
{
    json_t *attached = json_array();
    struct vdisk disk;
    int result;

    if (strchr(name, '/')) {
        json_decref(attached);
        return err_set(err, -EINVAL, "'%s': only disks of the store are removed, by name", name);
    }
    pthread_mutex_lock(&m->disk_lock);
    if ((result = owners(m, name, attached, err)) == 0 && json_array_size(attached))
        result = err_set(err, -EBUSY, "disk '%s' is attached to '%s': `lodge disk detach` first",
                         name, json_string_value(json_array_get(attached, 0)));
    if (result == 0 && (result = vdisk_find(m->options.images, name, NULL, &disk, err)) == 0 &&
        unlink(disk.path) < 0)
        result = err_errno(err, -errno, "remove '%s'", disk.path);
    pthread_mutex_unlock(&m->disk_lock);
    json_decref(attached);
    return result;
}

void api_remove_disk(struct api_request *request, struct api_reply *reply)
{
    struct err err = ERR_INIT;
    int result = remove_disk(request->m, request->args[0], &err);

    if (result < 0)
        api_fail_err(reply, result, &err);
    else
        buf_append_string(&reply->body, "{}\n");
}
