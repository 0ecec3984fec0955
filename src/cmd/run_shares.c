/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All volumes are members "v0", "v1", ... of one virtio-fs file system with the tag "lodge"; the
 * kernel's command line tells lodge-init their places, percent-encoded.
 */
#include "cmd/run_shares.h"

#include "base/buf.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define CMDLINE_MAX 2000 /* Linux on x86 takes 2047 */
#define TARGET_MAX  250

static int append_encoded(struct buf *to, const char *text)
{
    int r = 0;

    for (const char *c = text; r == 0 && *c; c++)
        r = isalnum((unsigned char)*c) || strchr("/._-+", *c)
                ? buf_append(to, c, 1)
                : buf_printf(to, "%%%02x", (unsigned char)*c);
    return r;
}

static int check_source(const struct run_volume *volume, struct err *err)
{
    struct stat st;

    if (stat(volume->source, &st) < 0)
        return err_errno(err, -errno, "-v: '%s'", volume->source);
    if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
        return err_set(err, -EINVAL, "-v: '%s' is neither a directory nor a file", volume->source);
    if (strlen(volume->target) > TARGET_MAX)
        return err_set(err, -ENAMETOOLONG, "-v: the place '%.40s...' is longer than %d bytes",
                       volume->target, TARGET_MAX);
    return 0;
}

int run_shares_config(const struct run_options *options, json_t *config, struct err *err)
{
    CLEANUP(buf_donep) struct buf cmdline;
    json_t *shares = json_array();
    int r = 0;

    buf_init(&cmdline, CMDLINE_MAX);
    json_object_set_new(config, "shares", shares);
    r = buf_append_string(&cmdline, json_string_value(json_object_get(config, "cmdline")));
    for (size_t i = 0; r == 0 && i < options->nr_volumes; i++) {
        const struct run_volume *volume = &options->volumes[i];
        char name[24];

        if ((r = check_source(volume, err)) < 0)
            return r;
        snprintf(name, sizeof(name), "v%zu", i);
        json_array_append_new(shares, json_pack("{s:s, s:s, s:s, s:b}", "tag", "lodge", "name",
                                                name, "path", volume->source, "read_only",
                                                (int)volume->read_only));
        if ((r = buf_printf(&cmdline, " lodge.mount=%s,", name)) == 0 &&
            (r = append_encoded(&cmdline, volume->target)) == 0 && volume->read_only)
            r = buf_append_string(&cmdline, ",ro");
    }
    if (r < 0 || !buf_string(&cmdline))
        return err_set(err, -E2BIG,
                       "the places of %zu volumes are too long together for a kernel's command "
                       "line; share a directory above them",
                       options->nr_volumes);
    json_object_set_new(config, "cmdline", json_string(buf_string(&cmdline)));
    return 0;
}
