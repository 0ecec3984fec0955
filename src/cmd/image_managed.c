/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge image through the manager: what changes the store, when a manager runs that has the same
 * one. What is imported, and credentials, we open with our rights, and send: the manager reads no
 * path of ours.
 */
#include "cmd/image_cli.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/util.h"
#include "cmd/api_client.h"
#include "cmd/operate.h"
#include "cmd/remote.h"
#include "cmd/shared_api.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMAGES "/v1/images"

static bool is_kept_by_manager(const struct store *store)
{
    char directory[PATH_MAX];

    /* The store of another host is not what was asked for. */
    return !remote_is_set() && store_writable_dir(store, "oci", directory) == 0 &&
           shared_by_manager(IMAGES, directory, false, false, NULL);
}

static void put_number(json_t *body, const char *name, uint64_t value)
{
    if (value)
        json_object_set_new(body, name, json_integer((json_int_t)value));
}

static void put_flag(json_t *body, const char *name, bool value)
{
    if (value)
        json_object_set_new(body, name, json_true());
}

/* The members that all actions have. */
static void describe(const struct image_cli *cli, const char *subverb, json_t *body)
{
    static const char *const devices[] = {[UNPACK_DEVICES_SKIP] = "skip",
                                          [UNPACK_DEVICES_REFUSE] = "refuse",
                                          [UNPACK_DEVICES_MAKE] = "make"};
    const struct import_options *import = &cli->import;

    json_put_string(body, "action", subverb);
    json_put_string(body, "devices", devices[import->unpack.devices]);
    put_number(body, "max_bytes", import->unpack.most_bytes);
    put_number(body, "max_files", import->unpack.most_entries);
    put_number(body, "max_ratio", import->unpack.most_ratio);
    put_flag(body, "insecure", import->insecure);
}

/* What is sent. */
struct source {
    const char *name;
    int fd;
    bool directory;
    uint64_t bytes; /* UINT64_MAX: not known */
};

static int source_open(const char *name, struct source *ret, struct err *err)
{
    struct stat st;

    *ret = (struct source){.name = name, .fd = STDIN_FILENO, .bytes = UINT64_MAX};
    if (!strcmp(name, "-"))
        return 0;
    ret->fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (ret->fd < 0 || fstat(ret->fd, &st) < 0)
        return err_errno(err, -errno, "open '%s'", name);
    if (S_ISREG(st.st_mode))
        ret->bytes = (uint64_t)st.st_size;
    else if (!(ret->directory = S_ISDIR(st.st_mode)))
        return err_set(err, -EINVAL,
                       "'%s' is neither a directory nor a file ('-' is standard input)", name);
    return 0;
}

static void source_done(struct source *source)
{
    if (source->fd > STDIN_FILENO)
        close(source->fd);
}

static int send_file(const struct source *source, void *to, struct err *err)
{
    CLEANUP(freep) char *data = malloc(MIB);
    uint64_t left = source->bytes;
    ssize_t n = 1;
    int result = data ? 0 : err_set(err, -ENOMEM, "out of memory");

    while (result == 0 && left && n) {
        n = read(source->fd, data, MIN(left, MIB));
        if (n < 0 && errno == EINTR && !operate_interrupted())
            continue;
        if (n < 0)
            result = err_errno(err, -errno, "read '%s'", source->name);
        else if (n == 0 && left != UINT64_MAX)
            result = err_set(err, -EIO, "'%s' became shorter while it was read", source->name);
        else
            result = operate_write(to, data, (size_t)n);
        if (left != UINT64_MAX)
            left -= (uint64_t)MAX(n, (ssize_t)0);
    }
    return result;
}

static int produce(void *to, void *context, struct err *err)
{
    const struct source *source = context;

    return source->directory ? image_pack(source->fd, operate_write, to, err)
                             : send_file(source, to, err);
}

static int manage_import(struct image_cli *cli, json_t *body, json_t **ret, struct err *err)
{
    struct source source;
    struct operate_content content = {.produce = produce, .context = &source};
    int result = source_open(cli->arguments[0], &source, err);

    if (result == 0) {
        content.length = source.bytes;
        put_flag(body, "upload", true);
        if (source.fd != STDIN_FILENO)
            json_put_string(body, "source", source.name);
        if (cli->nr > 1)
            json_put_string(body, "name", cli->arguments[1]);
        result = operate("POST", IMAGES "?wait=0", json_incref(body), &content, &cli->progress, ret,
                         err);
    }
    source_done(&source);
    return result;
}

/* The credentials are sent as well, so that they are read by us, and stored nowhere. */
static int manage_with_credentials(struct image_cli *cli, json_t *body, const char *file,
                                   json_t **ret, struct err *err)
{
    struct source source;
    struct operate_content content = {.produce = produce, .context = &source};
    int result = source_open(file, &source, err);

    if (result == 0 && source.directory)
        result = err_set(err, -EISDIR, "'%s' is a directory", file);
    if (result == 0) {
        content.length = source.bytes;
        put_flag(body, "credentials", true);
        result = operate("POST", IMAGES "?wait=0", json_incref(body), &content, &cli->progress, ret,
                         err);
    }
    source_done(&source);
    return result;
}

/* push, pull, tag */
static int manage_named(struct image_cli *cli, const char *subverb, json_t *body, json_t **ret,
                        struct err *err)
{
    const char *credentials = cli->import.auth_file ?: getenv("REGISTRY_AUTH_FILE");
    bool pull = !strcmp(subverb, "pull");

    json_put_string(body, pull ? "reference" : "name", cli->arguments[0]);
    if (cli->nr > 1)
        json_put_string(body, pull ? "name" : "reference", cli->arguments[1]);
    if (credentials && *credentials && strcmp(subverb, "tag") != 0)
        return manage_with_credentials(cli, body, credentials, ret, err);
    return operate("POST", IMAGES "?wait=0", json_incref(body), NULL, &cli->progress, ret, err);
}

static int manage_add(struct image_cli *cli, const char *subverb, struct err *err)
{
    CLEANUP(json_decrefp) json_t *body = json_object();
    CLEANUP(json_decrefp) json_t *made = NULL;
    bool import = !strcmp(subverb, "import");
    int result;

    describe(cli, subverb, body);
    result = import ? manage_import(cli, body, &made, err)
                    : manage_named(cli, subverb, body, &made, err);
    if (result == 0 && (import || !strcmp(subverb, "pull")))
        image_cli_report(cli, json_incref(made));
    return result;
}

/* Figures are summed, names listed. */
static void add_removed(json_t *sum, const json_t *one)
{
    const char *name;
    json_t *value, *before;

    json_object_foreach((json_t *)(uintptr_t)one, name, value)
    {
        if (!(before = json_object_get(sum, name)))
            json_object_set_new(sum, name, json_deep_copy(value));
        else if (json_is_array(before))
            json_array_extend(before, value);
        else
            json_integer_set(before, json_integer_value(before) + json_integer_value(value));
    }
}

static int manage_remove(struct image_cli *cli, struct err *err)
{
    json_t *sum = json_object();
    int result = 0;

    for (size_t i = 0; i < cli->nr && result == 0; i++) {
        CLEANUP(json_decrefp) json_t *one = NULL;
        CLEANUP(buf_donep) struct buf path;

        buf_init(&path, 16384);
        buf_printf(&path, IMAGES "?wait=0&force=%d&name=", cli->force);
        api_escape(&path, cli->arguments[i]);
        result = operate("DELETE", buf_string(&path) ?: IMAGES, NULL, NULL, &cli->progress, &one,
                         err);
        if (result == 0)
            add_removed(sum, one);
    }
    image_cli_removed(cli, result, sum);
    return result;
}

static int manage_prune(struct image_cli *cli, struct err *err)
{
    json_t *body = json_object(), *made = NULL;
    int result;

    put_flag(body, "all", cli->all);
    put_flag(body, "force", cli->force);
    result = operate("POST", IMAGES "/prune?wait=0", body, NULL, &cli->progress, &made, err);
    if (result == 0)
        image_cli_pruned(cli, made);
    return result;
}

bool image_managed(struct image_cli *cli, const char *subverb, int *ret_result, struct err *err)
{
    static const char *const adding[] = {"import", "pull", "push", "tag"};
    bool adds = false, removes = !strcmp(subverb, "rm"), prunes = !strcmp(subverb, "prune");

    for (size_t i = 0; i < ARRAY_LEN(adding); i++)
        adds |= !strcmp(subverb, adding[i]);
    if ((!adds && !removes && !prunes) || !is_kept_by_manager(cli->store))
        return false;
    *ret_result = adds      ? manage_add(cli, subverb, err)
                  : removes ? manage_remove(cli, err)
                            : manage_prune(cli, err);
    return true;
}
