/* SPDX-License-Identifier: Apache-2.0 */
#include "image/manifest.h"

#include "base/json.h"
#include "base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define STRINGS_MAX 4096

bool digest_valid(const char *digest)
{
    if (strncmp(digest, "sha256:", 7) != 0)
        return false;
    return strlen(digest) == 71 && strspn(digest + 7, "0123456789abcdef") == 64;
}

const char *digest_hex(const char *digest)
{
    return digest + 7;
}

void digest_format(const uint8_t hash[32], char ret[DIGEST_MAX])
{
    memcpy(ret, "sha256:", 7);
    for (unsigned i = 0; i < 32; i++)
        snprintf(ret + 7 + 2 * i, 3, "%02x", hash[i]);
}

static int get_digest(const struct json_at *at, const char *name, char ret[DIGEST_MAX],
                      struct err *err)
{
    const char *digest;
    int result = json_get_string(at, name, &digest, err);

    if (result < 0)
        return result;
    if (!digest_valid(digest))
        return err_set(err, -EINVAL, "%s%s%s: '%.100s' is no sha256 digest", at->path,
                       *at->path ? "." : "", name, digest);
    memcpy(ret, digest, DIGEST_MAX);
    return 0;
}

static int descriptor_read(const struct json_at *at, struct descriptor *ret, struct err *err)
{
    const char *media_type = "";
    int result;

    memset(ret, 0, sizeof(*ret));
    if ((result = json_opt_string(at, "mediaType", &media_type, err)) < 0 ||
        (result = get_digest(at, "digest", ret->digest, err)) < 0 ||
        (result = json_get_uint(at, "size", &ret->bytes, err)) < 0)
        return result;
    if (snprintf(ret->media_type, sizeof(ret->media_type), "%s", media_type) >=
        (int)sizeof(ret->media_type))
        return err_set(err, -EINVAL, "%s.mediaType is too long", at->path);
    return 0;
}

int descriptor_parse(json_t *value, const char *source, struct descriptor *ret, struct err *err)
{
    struct json_at at;
    int result;

    json_at_root(value, &at);
    result = descriptor_read(&at, ret, err);
    return result < 0 ? err_wrap(err, "%s", source) : 0;
}

static bool is_layer(const char *media_type)
{
    static const char *const known[] = {MEDIA_OCI_LAYER,
                                        MEDIA_OCI_LAYER "+gzip",
                                        MEDIA_OCI_LAYER "+zstd",
                                        "application/vnd.docker.image.rootfs.diff.tar",
                                        "application/vnd.docker.image.rootfs.diff.tar.gzip",
                                        "application/vnd.docker.image.rootfs.diff.tar.zstd"};

    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (!strcmp(media_type, known[i]))
            return true;
    return false;
}

static int read_manifest(json_t *document, struct manifest *ret, struct err *err)
{
    struct json_at root, config, layers;
    int result;

    json_at_root(document, &root);
    if ((result = json_at_member(&root, "config", &config, err)) < 0 ||
        (result = json_at_member(&root, "layers", &layers, err)) < 0)
        return result;
    if (!config.value || !json_is_array(layers.value))
        return err_set(err, -EINVAL, "is no image manifest: 'config' and 'layers' are needed");
    if ((result = descriptor_read(&config, &ret->config, err)) < 0)
        return result;
    ret->nr_layers = json_array_size(layers.value);
    if (ret->nr_layers == 0 || ret->nr_layers > MANIFEST_LAYERS)
        return err_set(err, -EINVAL, "%zu layers: 1 to %d are possible", ret->nr_layers,
                       MANIFEST_LAYERS);
    for (size_t i = 0; i < ret->nr_layers; i++) {
        struct json_at layer;

        if ((result = json_at_index(&layers, i, &layer, err)) < 0 ||
            (result = descriptor_read(&layer, &ret->layers[i], err)) < 0)
            return result;
        if (!is_layer(ret->layers[i].media_type))
            return err_set(err, -ENOTSUP, "layers[%zu]: '%s' is no layer that can be unpacked", i,
                           ret->layers[i].media_type);
    }
    return 0;
}

int manifest_parse(const char *text, size_t length, const char *source, struct manifest *ret,
                   struct err *err)
{
    json_t *document;
    int result = json_parse(text, length, source, &document, err);

    if (result < 0)
        return result;
    memset(ret, 0, sizeof(*ret));
    result = read_manifest(document, ret, err);
    json_decref(document);
    return result < 0 ? err_wrap(err, "%s", source) : 0;
}

/* 2: for this machine; 1: for any; 0: for another. */
static unsigned platform_fit(json_t *entry)
{
    json_t *platform = json_object_get(entry, "platform");
    const char *os = json_string_value(json_object_get(platform, "os"));
    const char *machine = json_string_value(json_object_get(platform, "architecture"));

    if (!json_is_object(platform))
        return 1;
    return os && machine && !strcmp(os, "linux") && !strcmp(machine, "amd64") ? 2 : 0;
}

int manifest_pick(const char *text, size_t length, const char *source, bool *ret_index,
                  struct descriptor *ret, struct err *err)
{
    json_t *document, *list, *best = NULL;
    unsigned best_fit = 0;
    int result = json_parse(text, length, source, &document, err);

    if (result < 0)
        return result;
    list = json_object_get(document, "manifests");
    *ret_index = json_is_array(list);
    for (size_t i = 0; i < json_array_size(list); i++) {
        unsigned fit = platform_fit(json_array_get(list, i));

        if (fit > best_fit) {
            best = json_array_get(list, i);
            best_fit = fit;
        }
    }
    if (best)
        result = descriptor_parse(best, source, ret, err);
    else if (*ret_index)
        result = err_set(err, -ENOENT, "%s: has no image for linux/amd64", source);
    json_decref(document);
    return result;
}

static int read_diff_ids(struct image_config *config, size_t nr_layers, struct err *err)
{
    struct json_at root, rootfs, list = {0};
    int result;

    json_at_root(config->document, &root);
    if ((result = json_at_member(&root, "rootfs", &rootfs, err)) < 0)
        return result;
    if (rootfs.value && (result = json_at_member(&rootfs, "diff_ids", &list, err)) < 0)
        return result;
    if (!json_is_array(list.value) || json_array_size(list.value) != nr_layers ||
        nr_layers > MANIFEST_LAYERS)
        return err_set(err, -EINVAL, "rootfs.diff_ids: %zu digests are needed, one a layer",
                       nr_layers);
    for (size_t i = 0; i < nr_layers; i++) {
        const char *id = json_string_value(json_array_get(list.value, i));

        if (!id || !digest_valid(id))
            return err_set(err, -EINVAL, "rootfs.diff_ids[%zu] is no sha256 digest", i);
        memcpy(config->diff_ids[i], id, DIGEST_MAX);
    }
    config->nr_layers = nr_layers;
    return 0;
}

int image_config_parse(const char *text, size_t length, const char *source, size_t nr_layers,
                       struct image_config *ret, struct err *err)
{
    struct image_config *config = ret;
    int result;

    memset(config, 0, sizeof(*config));
    if ((result = json_parse(text, length, source, &config->document, err)) < 0)
        return result;
    if ((result = read_diff_ids(config, nr_layers, err)) < 0) {
        image_config_done(config);
        return err_wrap(err, "%s", source);
    }
    return 0;
}

void image_config_done(struct image_config *config)
{
    json_decref(config->document);
    config->document = NULL;
}

/* A list of strings, without what is none. */
static json_t *strings(json_t *list)
{
    json_t *result = json_array();

    for (size_t i = 0; i < MIN(json_array_size(list), (size_t)STRINGS_MAX); i++)
        if (json_is_string(json_array_get(list, i)))
            json_array_append(result, json_array_get(list, i));
    return result;
}

json_t *image_config_run(const struct image_config *config)
{
    json_t *from = json_object_get(config->document, "config");
    const char *workdir = json_string_value(json_object_get(from, "WorkingDir"));
    const char *user = json_string_value(json_object_get(from, "User"));

    return json_pack(
        "{s:o, s:o, s:o, s:s, s:s}", "entrypoint", strings(json_object_get(from, "Entrypoint")),
        "cmd", strings(json_object_get(from, "Cmd")), "env", strings(json_object_get(from, "Env")),
        "workdir", workdir && *workdir ? workdir : "/", "user", user ? user : "");
}

static bool name_valid(const char *name, size_t length)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    bool after_letter = false;

    for (size_t i = 0; i < length; i++) {
        bool letter = strchr(letters, name[i]) != NULL;

        if (!letter && !strchr("._-/:", name[i]))
            return false;
        if (name[i] == '/' && !after_letter)
            return false;
        if (name[i] == '.' && i + 1 < length && name[i + 1] == '.')
            return false;
        after_letter = letter || name[i] == '_' || name[i] == '-';
    }
    return after_letter && strchr(letters, name[0]);
}

int reference_normalize(const char *text, char ret[REFERENCE_MAX], struct err *err)
{
    const char *slash = strrchr(text, '/'), *colon = strrchr(text, ':'), *tag = "latest";
    size_t name = strlen(text);

    if (colon && (!slash || colon > slash)) {
        tag = colon + 1;
        name = (size_t)(colon - text);
    }
    if (!*text || name == 0 || !name_valid(text, name) || !*tag || strlen(tag) > 127 ||
        !name_valid(tag, strlen(tag)) || strpbrk(tag, "/:") || name + strlen(tag) + 2 > 250)
        return err_set(err, -EINVAL,
                       "'%.100s' is no image reference: [HOST[:PORT]/]NAME[:TAG] of letters, "
                       "digits and . _ - is needed",
                       text);
    snprintf(ret, REFERENCE_MAX, "%.*s:%s", (int)name, text, tag);
    return 0;
}
