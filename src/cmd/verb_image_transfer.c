/* SPDX-License-Identifier: Apache-2.0 */
/* lodge image import, pull, push, save: images in and out. */
#include "cmd/image_cli.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CREDENTIALS_MAX 65536

void image_cli_report(const struct image_cli *cli, json_t *result)
{
    json_int_t skipped = json_integer_value(json_object_get(result, "devices_skipped"));
    json_t *name;
    size_t i;

    if (cli->report) {
        report_result(result);
        return;
    }
    if (cli->json) {
        json_dumpf(result, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(result);
        return;
    }
    json_array_foreach(json_object_get(result, "names"), i, name)
    {
        printf("%s\n", json_string_value(name));
    }
    if (skipped > 0 && !cli->quiet)
        log_info("%lld device nodes were left out (--devices make keeps them)", (long long)skipped);
    json_decref(result);
}

static int report(const struct image_cli *cli, const struct import_result *result)
{
    json_t *names = json_array();

    for (size_t i = 0; i < result->nr_references; i++)
        json_array_append_new(names, json_string(result->references[i]));
    image_cli_report(cli, json_pack("{s:o, s:s, s:I, s:I, s:I}", "names", names, "digest",
                                    result->digest, "layers", (json_int_t)result->nr_layers,
                                    "layers_new", (json_int_t)result->nr_layers_new,
                                    "devices_skipped", (json_int_t)result->nr_devices_skipped));
    return 0;
}

int image_cli_import(struct image_cli *cli, struct err *err)
{
    CLEANUP(freep) struct import_result *result = calloc(1, sizeof(*result));
    int r;

    if (!result)
        return err_set(err, -ENOMEM, "out of memory");
    cli->import.reference = cli->nr > 1 ? cli->arguments[1] : NULL;
    r = image_import(cli->store, cli->arguments[0], &cli->import, result, err);
    cli->import.progress(cli->import.context, "", 0, 0);
    return r < 0 ? r : report(cli, result);
}

/* Credentials from standard input ("-"), where skopeo finds them: in memory, and nowhere else. */
static int take_credentials(struct image_cli *cli, struct err *err)
{
    char data[CREDENTIALS_MAX];
    ssize_t n;
    int fd, r;

    if (!cli->import.auth_file || strcmp(cli->import.auth_file, "-") != 0)
        return 0;
    if ((n = file_read_full(STDIN_FILENO, data, sizeof(data))) < 0)
        return err_errno(err, (int)n, "read credentials from standard input");
    if (n == sizeof(data))
        return err_set(err, -E2BIG, "credentials of more than %d bytes", CREDENTIALS_MAX);
    if ((fd = memfd_create("credentials", 0)) < 0) /* skopeo inherits it */
        return err_errno(err, -errno, "keep credentials");
    if ((r = file_write_full(fd, data, (size_t)n)) < 0)
        return err_errno(err, r, "keep credentials");
    snprintf(cli->credentials, sizeof(cli->credentials), "/proc/self/fd/%d", fd);
    cli->import.auth_file = cli->credentials;
    return 0;
}

int image_cli_pull(struct image_cli *cli, struct err *err)
{
    CLEANUP(freep) struct import_result *result = calloc(1, sizeof(*result));
    int r;

    if (!result)
        return err_set(err, -ENOMEM, "out of memory");
    if ((r = take_credentials(cli, err)) < 0)
        return r;
    cli->import.reference = cli->nr > 1 ? cli->arguments[1] : NULL;
    r = image_pull(cli->store, cli->arguments[0], &cli->import, result, err);
    return r < 0 ? r : report(cli, result);
}

int image_cli_push(struct image_cli *cli, struct err *err)
{
    int r = take_credentials(cli, err);

    return r < 0 ? r
                 : image_push(cli->store, cli->arguments[0], cli->nr > 1 ? cli->arguments[1] : NULL,
                              &cli->import, err);
}

/* Into a file that appears whole, or to standard output. */
int image_cli_save(struct image_cli *cli, struct err *err)
{
    char temporary[PATH_MAX];
    CLEANUP(fd_closep) int fd = -1;
    int r;

    if (!cli->output)
        return err_set(err, -EINVAL, "save: where to? -o FILE is needed ('-': standard output)");
    if (!strcmp(cli->output, "-")) {
        if (isatty(STDOUT_FILENO))
            return err_set(err, -EINVAL, "save: standard output is a terminal; -o FILE is needed");
        return image_save(cli->store, cli->arguments[0], STDOUT_FILENO, &cli->import, err);
    }
    if (snprintf(temporary, sizeof(temporary), "%s.%d.tmp", cli->output, (int)getpid()) >=
        (int)sizeof(temporary))
        return err_set(err, -ENAMETOOLONG, "the file's name is too long");
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_errno(err, -errno, "create '%s'", temporary);
    r = image_save(cli->store, cli->arguments[0], fd, &cli->import, err);
    if (r == 0 && (fsync(fd) < 0 || rename(temporary, cli->output) < 0))
        r = err_errno(err, -errno, "write '%s'", cli->output);
    if (r < 0)
        unlink(temporary);
    return r;
}
