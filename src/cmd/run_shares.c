/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All directories are members "v0", "v1", ... of one virtio-fs file system with the tag "lodge";
 * volumes with a size are disks, "/dev/vdb" or what comes after it. The kernel's command line tells
 * lodge-init their places, percent-encoded.
 */
#include "cmd/run_shares.h"

#include "base/buf.h"
#include "vmm/config.h"

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

/* ret_name: what lodge-init knows it by. */
static int add_disk(const struct run_volume *volume, json_t *config, char *ret_name, size_t size,
                    struct err *err)
{
    json_t *disks = json_object_get(config, "disks");
    size_t nr = json_array_size(disks);

    if (nr >= VMM_DISKS_MAX)
        return err_set(err, -E2BIG,
                       "-v: a virtual machine has at most %d disks, its own among them: "
                       "fewer volumes with a size",
                       VMM_DISKS_MAX);
    snprintf(ret_name, size, "/dev/vd%c", (char)('a' + nr));
    json_array_append_new(disks, json_pack("{s:s, s:s, s:b}", "path", volume->source, "format",
                                           "raw", "read_only", (int)volume->read_only));
    return 0;
}

static int add_volume(const struct run_volume *volume, size_t number, json_t *config,
                      struct buf *cmdline, struct err *err)
{
    char name[24];
    int r = check_source(volume, err);

    if (r < 0)
        return r;
    snprintf(name, sizeof(name), "v%zu", number);
    if (volume->disk) {
        if ((r = add_disk(volume, config, name, sizeof(name), err)) < 0)
            return r;
    } else {
        json_array_append_new(json_object_get(config, "shares"),
                              json_pack("{s:s, s:s, s:s, s:b}", "tag", "lodge", "name", name,
                                        "path", volume->source, "read_only",
                                        (int)volume->read_only));
    }
    if ((r = buf_printf(cmdline, " lodge.mount=%s,", name)) == 0 &&
        (r = append_encoded(cmdline, volume->target)) == 0 && volume->read_only)
        r = buf_append_string(cmdline, ",ro");
    return r < 0 ? err_set(err, -E2BIG,
                           "the places of the volumes are too long together for a kernel's command "
                           "line; share a directory above them")
                 : 0;
}

int run_shares_config(const struct run_options *options, json_t *config, struct err *err)
{
    CLEANUP(buf_donep) struct buf cmdline;
    int r;

    buf_init(&cmdline, CMDLINE_MAX);
    json_object_set_new(config, "shares", json_array());
    r = buf_append_string(&cmdline, json_string_value(json_object_get(config, "cmdline")));
    for (size_t i = 0; r == 0 && i < options->nr_volumes; i++)
        r = add_volume(&options->volumes[i], i, config, &cmdline, err);
    if (r < 0)
        return r;
    if (!buf_string(&cmdline))
        return err_set(err, -ENOMEM, "out of memory");
    json_object_set_new(config, "cmdline", json_string(buf_string(&cmdline)));
    return 0;
}

bool run_shares_any(const struct run_options *options)
{
    for (size_t i = 0; i < options->nr_volumes; i++)
        if (!options->volumes[i].disk)
            return true;
    return false;
}
