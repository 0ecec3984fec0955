/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /v1/images: what the store has, and what is done to it as operations (manager/tasks.c). A path is
 * one of the manager's host.
 */
#include "manager/api/words.h"

#include "base/util.h"
#include "image/pin.h"

#include <errno.h>
#include <string.h>

static json_t *users_of(const struct image *image)
{
    struct layout layout;
    json_t *users;

    if (!image->imported || layout_open(image->store_dir, false, &layout, NULL) < 0)
        return json_array();
    users = pin_users(&layout, image->digest, image->name);
    layout_close(&layout);
    return users;
}

static void list_one(const struct image *image, void *context)
{
    json_t *one = json_pack("{s:s, s:s, s:b, s:o}", "name", image->name, "digest", image->digest,
                            "imported", image->imported, "used_by", users_of(image));

    if (one)
        json_array_append_new(context, one);
}

void api_images(struct api_request *request, struct api_reply *reply)
{
    const struct store *store = request->m->options.images;
    json_t *list = json_array();
    char directory[PATH_MAX];

    image_list(store, list_one, list);
    if (store_writable_dir(store, "oci", directory) < 0)
        *directory = '\0';
    api_reply_json(reply, json_pack("{s:o, s:s}", "images", list, "directory", directory));
}

/* What the body says; strings are borrowed. */
struct adding {
    const char *action, *path, *source, *reference, *name, *devices, *auth_file;
    uint64_t most_bytes, most_files, most_ratio;
    bool insecure, upload, credentials;
};

static int parse(json_t *json, struct adding *ret, struct err *err)
{
    static const char *const known[] = {
        "action",    "path",      "reference", "name",   "devices",     "auth_file", "max_bytes",
        "max_files", "max_ratio", "insecure",  "upload", "credentials", "source",    NULL};
    struct json_at body;
    int r;

    json_at_root(json, &body);
    if ((r = json_reject_unknown(&body, known, err)) < 0 ||
        (r = json_get_string(&body, "action", &ret->action, err)) < 0 ||
        (r = json_opt_string(&body, "path", &ret->path, err)) < 0 ||
        (r = json_opt_string(&body, "source", &ret->source, err)) < 0 ||
        (r = json_opt_bool(&body, "upload", &ret->upload, err)) < 0 ||
        (r = json_opt_bool(&body, "credentials", &ret->credentials, err)) < 0 ||
        (r = json_opt_string(&body, "reference", &ret->reference, err)) < 0 ||
        (r = json_opt_string(&body, "name", &ret->name, err)) < 0 ||
        (r = json_opt_string(&body, "devices", &ret->devices, err)) < 0 ||
        (r = json_opt_string(&body, "auth_file", &ret->auth_file, err)) < 0 ||
        (r = json_opt_uint(&body, "max_bytes", &ret->most_bytes, err)) < 0 ||
        (r = json_opt_uint(&body, "max_files", &ret->most_files, err)) < 0 ||
        (r = json_opt_uint(&body, "max_ratio", &ret->most_ratio, err)) < 0 ||
        (r = json_opt_bool(&body, "insecure", &ret->insecure, err)) < 0)
        return r;
    return 0;
}

static int check_reference(const char *what, const char *text, bool required, struct err *err)
{
    char normal[REFERENCE_MAX];
    int r = words_check(what, text, required, err);

    return r < 0 || !text ? r : reference_normalize(text, normal, err);
}

static int import_words(const struct adding *a, json_t *words, struct err *err)
{
    static const char *const kinds[] = {"skip", "refuse", "make"};
    bool known = !a->devices;
    int r;

    for (size_t i = 0; i < ARRAY_LEN(kinds) && !known; i++)
        known = !strcmp(a->devices, kinds[i]);
    if (!known)
        return err_set(err, -EINVAL, "devices '%.40s' is none of skip, refuse, make", a->devices);
    if ((r = words_check_path("path", a->path, !strcmp(a->action, "import") && !a->upload, err)) <
            0 ||
        (r = words_check("source", a->source, false, err)) < 0 ||
        (r = check_reference("name", a->name, false, err)) < 0 ||
        (r = words_check_path("auth_file", a->auth_file, false, err)) < 0)
        return r;
    words_add_option(words, "--source", a->source);
    words_add_option(words, "--devices", a->devices);
    words_add_number(words, "--max-size", a->most_bytes);
    words_add_number(words, "--max-files", a->most_files);
    words_add_number(words, "--max-ratio", a->most_ratio);
    words_add_option(words, "--authfile", a->credentials ? "-" : a->auth_file);
    if (a->insecure)
        words_add(words, "--insecure");
    return 0;
}

static int check_members(const struct adding *a, struct err *err)
{
    bool import = !strcmp(a->action, "import");

    if (!import && strcmp(a->action, "pull") != 0 && strcmp(a->action, "push") != 0 &&
        strcmp(a->action, "tag") != 0)
        return err_set(err, -EINVAL, "action '%.40s' is none of import, pull, push, tag",
                       a->action);
    if (import && a->reference)
        return err_set(err, -EINVAL, "reference is of pull, push and tag; import has a path");
    if (!import && (a->path || a->source || a->upload))
        return err_set(err, -EINVAL, "path, source and upload are of import");
    if (a->upload && a->path)
        return err_set(err, -EINVAL, "path: what is uploaded has none here, but a source");
    if (a->credentials &&
        (a->auth_file || (strcmp(a->action, "pull") != 0 && strcmp(a->action, "push") != 0)))
        return err_set(err, -EINVAL, "credentials are of pull and push, without auth_file");
    if (a->source && !a->upload)
        return err_set(err, -EINVAL, "source is of what is uploaded");
    return 0;
}

/* The words of `lodge image`; what each action needs is checked, since it is to be a refusal and
 * not an operation that fails. */
static int make_words(const struct adding *a, json_t *words, const char **ret_subject,
                      struct err *err)
{
    bool push = !strcmp(a->action, "push"), tag = !strcmp(a->action, "tag");
    bool import = !strcmp(a->action, "import"), named = push || tag;
    int r;

    if ((r = check_members(a, err)) < 0)
        return r;
    words_add(words, "image");
    words_add(words, a->action);
    if ((r = import_words(a, words, err)) < 0 ||
        (r = check_reference("reference", a->reference, !import && !push, err)) < 0 ||
        (named && (r = words_check("name", a->name, true, err)) < 0))
        return r;
    *ret_subject = a->upload ? (a->source ?: "-")
                   : import  ? a->path
                   : named   ? a->name
                             : a->reference;
    words_add(words, a->upload ? "-" : *ret_subject);
    words_add(words, named ? a->reference : a->name);
    return 0;
}

/* A promise; it begins when its content comes (manager/content.c). */
static void expect_content(struct api_request *request, struct api_reply *reply, const char *kind,
                           const char *subject, json_t *words)
{
    struct manager *m = request->m;
    struct operation *operation;
    struct err err = ERR_INIT;
    int result = task_new(m, kind, subject, NULL, words, &operation, &err);

    if (result < 0) {
        api_fail_err(reply, result, &err);
        return;
    }
    if ((result = content_expect(m, operation, &err)) < 0) {
        operation_abandon(m, operation, &err);
        api_fail_err(reply, result, &err);
    } else {
        reply->status = 202;
        operation_write_json(m, operation, &reply->body);
        buf_append(&reply->body, "\n", 1);
    }
    operation_unref(m, operation);
}

void api_image_add(struct api_request *request, struct api_reply *reply)
{
    json_t *words = json_array();
    struct adding adding = {0};
    struct err err = ERR_INIT;
    const char *subject = "";
    uint64_t wait_s;
    char kind[16];
    int result;

    if (api_task_wait(request, reply, &wait_s) < 0) {
        json_decref(words);
        return;
    }
    if ((result = parse(request->json, &adding, &err)) < 0 ||
        (result = make_words(&adding, words, &subject, &err)) < 0) {
        json_decref(words);
        api_fail_err(reply, result, &err);
        return;
    }
    snprintf(kind, sizeof(kind), "image-%s", adding.action);
    if (adding.upload || adding.credentials)
        expect_content(request, reply, kind, subject, words);
    else
        api_task(request, reply, kind, subject, NULL, words, wait_s);
}

void api_image_remove(struct api_request *request, struct api_reply *reply)
{
    const char *name = api_query(request, "name");
    struct err err = ERR_INIT;
    json_t *words;
    uint64_t wait_s;
    int result;

    if (api_task_wait(request, reply, &wait_s) < 0)
        return;
    if ((result = words_check("name", name, true, &err)) < 0) {
        api_fail_err(reply, result, &err);
        return;
    }
    words = json_pack("[s, s, s]", "image", "rm", name);
    if (api_query_flag(request, "force"))
        words_add(words, "--force");
    api_task(request, reply, "image-remove", name, NULL, words, wait_s);
}

void api_images_prune(struct api_request *request, struct api_reply *reply)
{
    static const char *const known[] = {"all", "force", NULL};
    json_t *words = json_pack("[s, s]", "image", "prune");
    struct err err = ERR_INIT;
    struct json_at body;
    uint64_t wait_s;
    bool all = false, force = false;
    int result = 0;

    json_at_root(request->json, &body);
    if (request->json && (result = json_reject_unknown(&body, known, &err)) == 0 &&
        (result = json_opt_bool(&body, "all", &all, &err)) == 0)
        result = json_opt_bool(&body, "force", &force, &err);
    if (result < 0)
        api_fail_err(reply, result, &err);
    if (result < 0 || api_task_wait(request, reply, &wait_s) < 0) {
        json_decref(words);
        return;
    }
    if (all)
        words_add(words, "--all");
    if (force)
        words_add(words, "--force");
    api_task(request, reply, "image-prune", all ? "all" : "", NULL, words, wait_s);
}
