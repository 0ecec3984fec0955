/* SPDX-License-Identifier: Apache-2.0 */
/* Shared directories of a VM's configuration, as text of the command line and as JSON. */
#include "vmm/config.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "virtio/virtio.h"
#include "vmm/config_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 63

void config_shares_done(struct vmm_config *config)
{
    for (unsigned i = 0; i < config->nr_shares; i++) {
        free(config->shares[i].tag);
        free(config->shares[i].path);
        free(config->shares[i].name);
    }
}

static int check_word(const char *what, const char *word, size_t most, struct err *err)
{
    size_t length = strlen(word);

    if (length == 0 || length > most || word[0] == '.')
        return err_set(err, -EINVAL, "%s '%.80s': 1 to %zu bytes are needed, the first no dot",
                       what, word, most);
    for (const char *c = word; *c; c++)
        if (!isgraph((unsigned char)*c) || strchr("/,=", *c))
            return err_set(err, -EINVAL, "%s '%s': '%c' cannot be in it", what, word,
                           isprint((unsigned char)*c) ? *c : '?');
    return 0;
}

static int share_add(struct vmm_config *config, const char *tag, const char *name, const char *path,
                     bool read_only, struct err *err)
{
    struct vmm_share *share = &config->shares[config->nr_shares];
    int r;

    if (config->nr_shares == VMM_SHARES_MAX)
        return err_set(err, -E2BIG, "more than %d shared directories", VMM_SHARES_MAX);
    if ((r = check_word("tag", tag, VIRTIO_FS_TAG_BYTES, err)) < 0 ||
        (r = name ? check_word("name", name, NAME_MAX_BYTES, err) : 0) < 0)
        return r;
    if (!path[0])
        return err_set(err, -EINVAL, "share '%s' needs the path of its directory", tag);
    *share = (struct vmm_share){.read_only = read_only};
    config->nr_shares++;
    if ((r = config_string_set(&share->tag, tag, err)) < 0 ||
        (r = config_string_set(&share->path, path, err)) < 0)
        return r;
    return config_string_set(&share->name, name, err);
}

int config_share_add(struct vmm_config *config, const char *text, struct err *err)
{
    CLEANUP(freep) char *copy = strdup(text);
    char *path = copy ? strchr(copy, '=') : NULL, *name, *comma;
    bool read_only = false;
    int r;

    if (!copy)
        return err_set(err, -ENOMEM, "out of memory");
    if (!path)
        return err_set(err, -EINVAL, "--share %s: TAG=DIRECTORY is needed", text);
    *path++ = '\0';
    if ((name = strchr(copy, '/')))
        *name++ = '\0';
    comma = strrchr(path, ',');
    if (comma && (!strcmp(comma, ",ro") || !strcmp(comma, ",rw"))) {
        read_only = comma[2] == 'o';
        *comma = '\0';
    }
    r = share_add(config, copy, name, path, read_only, err);
    return r < 0 ? err_wrap(err, "--share %s", text) : 0;
}

int config_share_parse(struct vmm_config *config, const struct json_at *at, struct err *err)
{
    static const char *const known[] = {"tag", "name", "path", "read_only", NULL};
    const char *tag = NULL, *name = NULL, *path = NULL;
    bool read_only = false;
    int r;

    if ((r = json_reject_unknown(at, known, err)) < 0 ||
        (r = json_get_string(at, "tag", &tag, err)) < 0 ||
        (r = json_opt_string(at, "name", &name, err)) < 0 ||
        (r = json_get_string(at, "path", &path, err)) < 0 ||
        (r = json_opt_bool(at, "read_only", &read_only, err)) < 0)
        return r;
    r = share_add(config, tag, name, path, read_only, err);
    return r < 0 ? err_wrap(err, "%s", at->path) : 0;
}

int config_shares_check(const struct vmm_config *config, struct err *err)
{
    unsigned tags = 0;

    for (unsigned i = 0; i < config->nr_shares; i++) {
        const struct vmm_share *a = &config->shares[i];
        bool first = true;

        for (unsigned j = 0; j < i; j++) {
            const struct vmm_share *b = &config->shares[j];

            if (strcmp(a->tag, b->tag) != 0)
                continue;
            first = false;
            if (!a->name || !b->name || !strcmp(a->name, b->name))
                return err_set(err, -EINVAL,
                               "share '%s': several directories of one tag need a name each "
                               "(TAG/NAME=PATH), all different",
                               a->tag);
        }
        tags += first;
    }
    if (tags > VMM_TAGS_MAX)
        return err_set(err, -E2BIG,
                       "more than %d tags of shares (one can hold several: "
                       "TAG/NAME=PATH)",
                       VMM_TAGS_MAX);
    return 0;
}
