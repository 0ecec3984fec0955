/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/instances: made, listed, looked at, changed. */
#include "manager/api/request.h"
#include "manager/pins.h"

#include "base/clock.h"
#include "base/util.h"
#include "volume/volume.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define IMAGE_USER_MAX (SPEC_NAME_MAX + 16)

struct filter {
    const char *label, *name, *state, *isolation, *image;
    bool all;
};

static bool label_fits(const char *labels, const char *wanted)
{
    size_t length = strlen(wanted);

    for (const char *at = labels; *at; at += strlen(at) + 1)
        if (!strncmp(at, wanted, length) &&
            (!at[length] || (!strchr(wanted, '=') && at[length] == '=')))
            return true;
    return false;
}

static bool fits(const struct filter *filter, const struct instance *instance)
{
    if (filter->state
            ? strcmp(filter->state, instance_state_name(instance->row.state)) != 0
            : !filter->all && !life_is_active(instance->row.state) && !instance->restart_at_ns)
        return false;
    if (filter->name && !strstr(instance->name, filter->name))
        return false;
    if (filter->image && strcmp(filter->image, instance->brief->image) != 0)
        return false;
    if (filter->isolation &&
        strcmp(filter->isolation, instance->brief->vm ? "vm" : "container") != 0)
        return false;
    return !filter->label || label_fits(instance->brief->labels, filter->label);
}

void api_list(struct api_request *request, struct api_reply *reply)
{
    struct filter filter = {.label = api_query(request, "label"),
                            .name = api_query(request, "name"),
                            .state = api_query(request, "state"),
                            .isolation = api_query(request, "isolation"),
                            .image = api_query(request, "image"),
                            .all = api_query_flag(request, "all")};
    bool first = true;

    buf_reserve(&reply->body, 65536);
    buf_append_string(&reply->body, "{\"instances\": [");
    pthread_mutex_lock(&request->m->lock);
    for (const struct instance *at = request->m->first; at; at = at->next) {
        if (!fits(&filter, at))
            continue;
        if (!first)
            buf_append(&reply->body, ",\n", 2);
        first = false;
        out_instance_brief(&reply->body, at);
    }
    pthread_mutex_unlock(&request->m->lock);
    buf_append_string(&reply->body, "]}\n");
}

static void reply_instance(struct api_request *request, struct api_reply *reply,
                           const struct instance *instance)
{
    CLEANUP(buf_donep) struct buf places;

    bool networked;

    buf_init(&places, 1 << 20);
    pthread_mutex_lock(&request->m->lock);
    networked = instance->brief->networked;
    pthread_mutex_unlock(&request->m->lock);
    if (networked)
        networks_describe(request->m, instance, &places);
    pthread_mutex_lock(&request->m->lock);
    out_instance(&reply->body, instance);
    pthread_mutex_unlock(&request->m->lock);
    /* Among its members, before the last brace. */
    if (places.length && reply->body.length && reply->body.data[reply->body.length - 1] == '}') {
        reply->body.length--;
        buf_append(&reply->body, places.data, places.length);
        buf_append(&reply->body, "}", 1);
    }
    buf_append(&reply->body, "\n", 1);
}

void api_inspect(struct api_request *request, struct api_reply *reply)
{
    struct instance *instance = api_instance(request, reply);

    if (!instance)
        return;
    reply_instance(request, reply, instance);
    instance_unref(request->m, instance);
}

static int fresh_id(struct manager *m, char id[INSTANCE_ID_LENGTH + 1])
{
    unsigned char bytes[INSTANCE_ID_LENGTH / 2];

    do {
        if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
            return -EIO;
        for (size_t i = 0; i < sizeof(bytes); i++)
            snprintf(id + 2 * i, 3, "%02x", bytes[i]);
    } while (instance_find_id(m, id));
    return 0;
}

/* What an ordinary user's manager cannot do. */
static int check_rootless(const struct spec *spec, struct err *err)
{
    if (spec_is_networked(spec))
        return err_set(err, -EOPNOTSUPP,
                       "network: those by name need a manager that runs as root; \"user\" does not "
                       "(--net user -p 8080:80)");
    if (!spec->vm && (spec->memory_bytes || spec->cpu_millis || spec->cpu_shares ||
                      spec->io_weight || spec->pids))
        return err_set(err, -EOPNOTSUPP,
                       "resources: limits of a container need a manager that runs as root; those "
                       "of a virtual machine do not");
    return 0;
}

int instance_check_spec(struct manager *m, const struct spec *spec, struct err *err)
{
    struct image *image;
    int result;

    if (spec->hardware)
        return hardware_check(m, NULL, spec->hardware, err);
    if (!(image = calloc(1, sizeof(*image))))
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = image_open(m->options.images, spec->image, image, err)) == 0)
        image_done(image);
    free(image);
    if (result < 0)
        return result;
    if ((geteuid() != 0 && (result = check_rootless(spec, err)) < 0) ||
        (result = networks_check(spec, err)) < 0 ||
        (result = hardware_check_disks(m, NULL, spec->disks, spec->nr_disks, err)) < 0 ||
        (result = environment_check_io_weight(spec, err)) < 0)
        return result;
    for (size_t i = 0; i < spec->nr_volumes; i++)
        if (spec->volumes[i].source[0] != '/' &&
            (result = volume_check(NULL, spec->volumes[i].source, err)) < 0)
            return result;
    if (!spec->vm && !*m->options.oci)
        return err_set(err, -EOPNOTSUPP, "lodge-oci was not found beside lodged");
    return 0;
}

static int store_also(struct sqlite3 *db, void *context)
{
    const struct instance_also *also = context;

    return also->fn(db, also->instance, also->context);
}

static void image_user(const char *name, char ret[IMAGE_USER_MAX])
{
    snprintf(ret, IMAGE_USER_MAX, "instance '%s'", name);
}

static int pin_image(struct manager *m, const struct instance *instance, struct err *err)
{
    char user[IMAGE_USER_MAX];

    image_user(instance->name, user);
    return *instance->brief->image
               ? pins_take(m, instance->id, instance->brief->image, user, false, err)
               : 0;
}

/* Into the tables as one that is worked at, then into the store: so a name is never given twice. */
static int insert(struct manager *m, struct instance *instance, bool named,
                  struct instance_also *also, struct err *err)
{
    struct store_instance put;
    struct store_change change = {.put = &put, .also = also ? store_also : NULL, .context = also};
    struct environment *environment;
    int result;

    pthread_mutex_lock(&m->lock);
    if ((result = fresh_id(m, instance->id)) == 0 && !named) {
        free(instance->name);
        instance->name = strdup(instance->id);
    }
    if (result == 0 && !instance->name)
        result = -ENOMEM;
    if (result == 0 && instance_find_name(m, instance->name))
        result = -EEXIST;
    if (result == 0 &&
        environment_find_locked(m, instance->brief->environment, &environment, err) < 0) {
        pthread_mutex_unlock(&m->lock);
        return -ENOENT;
    }
    if (result == 0) {
        instance->busy = true;
        instance->created_ns = (int64_t)clock_realtime_ns();
        instance_ref_locked(instance);
        instance_insert(m, instance);
    }
    pthread_mutex_unlock(&m->lock);
    if (result == -EEXIST)
        return err_set(err, -EEXIST,
                       "the name '%s' is in use; `lodge rm %s` frees it, `lodge rename` changes it",
                       instance->name, instance->name);
    if (result < 0)
        return err_errno(err, result, "make an instance");
    instance_store_form(instance, &instance->row, &put);
    result = pin_image(m, instance, err);
    if (result < 0 || (result = state_store_apply(m->store, &change, err)) < 0) {
        pins_drop(m, instance->id);
        pthread_mutex_lock(&m->lock);
        instance_remove(m, instance);
        pthread_mutex_unlock(&m->lock);
    }
    instance_release(m, instance);
    return result;
}

int instance_create(struct manager *m, json_t *document, struct instance_also *also,
                    struct instance **ret, struct err *err)
{
    CLEANUP(freep) char *name = NULL, *text = NULL;
    const char *given = json_string_value(json_object_get(document, "name"));
    struct instance *instance;
    struct spec spec;
    int result;

    if (json_object_get(document, "name") && !given)
        return err_set(err, -EINVAL, "name: not a string");
    if (given && (result = spec_check_name(given, err)) < 0)
        return result;
    name = strdup(given ?: "unnamed");
    json_object_del(document, "name");
    if ((result = environment_inherit(m, document, err)) < 0)
        return result;
    if ((result = spec_parse(document, &spec, err)) < 0)
        return result;
    if ((result = instance_check_spec(m, &spec, err)) == 0)
        result = admission_ever(m, &spec, err);
    spec_done(&spec);
    if (result < 0)
        return result;
    if (!name || !(text = json_text(document, JSON_COMPACT)))
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = instance_new("", name, text, &instance, err)) < 0)
        return result;
    if (also)
        also->instance = instance;
    if ((result = insert(m, instance, given != NULL, also, err)) < 0) {
        instance_unref(m, instance);
        return result;
    }
    event_add(m, instance, "create", NULL);
    *ret = instance;
    return 0;
}

void api_create(struct api_request *request, struct api_reply *reply)
{
    bool disks = json_object_get(request->json, "hardware") != NULL;
    struct instance *instance;
    struct err err = ERR_INIT;
    int result;

    if (disks)
        pthread_mutex_lock(&request->m->disk_lock);
    result = instance_create(request->m, request->json, NULL, &instance, &err);
    if (disks)
        pthread_mutex_unlock(&request->m->disk_lock);

    if (result < 0) {
        api_fail_err(reply, result, &err);
        return;
    }
    reply->status = 201;
    reply_instance(request, reply, instance);
    instance_unref(request->m, instance);
}

static int rename_to(struct manager *m, struct instance *instance, const char *name,
                     struct err *err)
{
    struct store_instance put;
    struct store_change change = {.put = &put};
    char *copy, user[IMAGE_USER_MAX];
    int result = spec_check_name(name, err);

    if (result < 0)
        return result;
    if (!(copy = strdup(name)))
        return err_set(err, -ENOMEM, "out of memory");
    pthread_mutex_lock(&m->lock);
    if (instance_find_name(m, name) && instance_find_name(m, name) != instance)
        result = err_set(err, -EEXIST, "the name '%s' is in use", name);
    pthread_mutex_unlock(&m->lock);
    instance_store_form(instance, &instance->row, &put);
    put.name = name;
    /* The networks first: they may refuse. */
    if (result == 0 && (result = networks_rename(m, instance, instance->name, name, err)) == 0 &&
        (result = state_store_apply(m->store, &change, err)) < 0)
        networks_rename(m, instance, name, instance->name, NULL);
    if (result < 0) {
        free(copy);
        return result;
    }
    pthread_mutex_lock(&m->lock);
    instance_rename(m, instance, copy);
    pthread_mutex_unlock(&m->lock);
    image_user(name, user);
    pins_rename(m, instance->id, user);
    event_add(m, instance, "rename", name);
    return 0;
}

/* New limits of a running container take effect at once. */
static int apply_limits(struct manager *m, const struct instance *instance, const struct spec *spec,
                        struct err *err)
{
    const char *words[] = {"update", "--resources", "-", instance->id, NULL};
    struct bundle_limits limits;
    CLEANUP(freep) char *text = NULL;
    json_t *resources;

    spec_limits(spec, &limits);
    resources = bundle_limits_json(&limits);
    text = json_text(resources, JSON_COMPACT);
    json_decref(resources);
    if (!text)
        return err_set(err, -ENOMEM, "out of memory");
    return runtime_run(m, words, text, NULL, err);
}

static int apply_vm_limits(struct manager *m, const struct instance *instance,
                           const struct spec *spec, struct err *err)
{
    struct spec before;
    int result;

    if (instance->row.state != INSTANCE_RUNNING)
        return err_set(err, -EBUSY, "'%s' is %s; its limits change while it runs or is stopped",
                       instance->name, instance_state_name(instance->row.state));
    if ((result = spec_parse_text(instance->spec, &before, err)) < 0)
        return result;
    result = vm_limits_change(m, instance, &before, spec, err);
    spec_done(&before);
    return result;
}

/* Stored first: what was acknowledged, or begun, is completed after a crash. */
static int carry_out(struct manager *m, struct instance *instance, const struct spec *spec,
                     const char *text, bool resources, struct err *err)
{
    CLEANUP(freep) char *before = strdup(instance->spec);
    bool active = life_is_active(instance->row.state);
    bool moves = strcmp(instance->brief->environment, spec_environment(spec)) != 0;
    int result;

    if (!before)
        return err_set(err, -ENOMEM, "out of memory");
    if (moves && active && instance->row.state != INSTANCE_RUNNING)
        return err_set(err, -EBUSY, "'%s' is %s; `lodge resume` it before it is moved",
                       instance->name, instance_state_name(instance->row.state));
    if (resources && !spec->vm && geteuid() != 0)
        result = check_rootless(spec, err);
    else if (resources && active)
        result = spec->vm ? apply_vm_limits(m, instance, spec, err)
                          : apply_limits(m, instance, spec, err);
    else
        result = 0;
    if (result < 0 || (result = instance_put_spec(m, instance, text, err)) < 0)
        return result;
    if (moves && active && (result = environment_move(m, instance, err)) < 0) {
        struct err ignored = ERR_INIT;

        instance_put_spec(m, instance, before, &ignored);
        environment_move(m, instance, &ignored);
    }
    if (active)
        allocator_round(m, instance);
    return result;
}

int instance_change_spec(struct manager *m, struct instance *instance, json_t *changes,
                         struct err *err)
{
    bool resources = json_object_get(changes, "resources") != NULL;
    bool io_weight = json_object_get(json_object_get(changes, "resources"), "io_weight") != NULL;
    json_t *document = NULL, *changed = NULL;
    CLEANUP(freep) char *text = NULL;
    struct spec spec;
    int result = json_parse(instance->spec, strlen(instance->spec), "spec", &document, err);

    if (result < 0)
        return result;
    result = spec_change(document, changes, &changed, err);
    json_decref(document);
    if (result < 0)
        return result;
    text = json_text(changed, JSON_COMPACT);
    result = text ? spec_parse(changed, &spec, err) : -ENOMEM;
    json_decref(changed);
    if (result < 0)
        return result;
    if (spec.hardware)
        result = hardware_check(m, instance, spec.hardware, err);
    else
        result = hardware_check_disks(m, instance, spec.disks, spec.nr_disks, err);
    if (result == 0 && io_weight)
        result = environment_check_io_weight(&spec, err);
    if (result == 0 && (result = admission_change(m, instance, &spec, err)) == 0) {
        result = carry_out(m, instance, &spec, text, resources, err);
        admission_changed(m, instance);
    }
    spec_done(&spec);
    if (result == 0)
        event_add(m, instance, "update", NULL);
    return result;
}

static int patch(struct manager *m, struct instance *instance, json_t *changes, struct err *err)
{
    json_t *name = json_object_get(changes, "name");
    json_t *hardware = json_object_get(changes, "hardware");
    int result = 0;

    if (name && !json_is_string(name))
        return err_set(err, -EINVAL, "name: not a string");
    if (hardware && (result = hardware_change_allowed(instance, hardware, err)) < 0)
        return result;
    if (json_object_get(changes, "disks"))
        return err_set(err, -EINVAL, "disks: attach-disk and detach-disk change them");
    json_incref(name);
    json_object_del(changes, "name");
    if (json_object_size(changes)) {
        if (hardware)
            pthread_mutex_lock(&m->disk_lock);
        result = instance_change_spec(m, instance, changes, err);
        if (hardware)
            pthread_mutex_unlock(&m->disk_lock);
    }
    if (result == 0 && name)
        result = rename_to(m, instance, json_string_value(name), err);
    json_decref(name);
    return result;
}

void api_patch(struct api_request *request, struct api_reply *reply)
{
    struct instance *instance = api_instance(request, reply);
    struct err err = ERR_INIT;
    int result;

    if (!instance)
        return;
    if ((result = instance_acquire(request->m, instance, &err)) == 0) {
        result = patch(request->m, instance, request->json, &err);
        instance_release(request->m, instance);
    }
    if (result < 0)
        api_fail_err(reply, result, &err);
    else
        reply_instance(request, reply, instance);
    instance_unref(request->m, instance);
}
