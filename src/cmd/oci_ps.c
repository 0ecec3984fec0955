/* SPDX-License-Identifier: Apache-2.0 */
/* ps: the container's processes, as the host's ps(1) describes them or as numbers. */
#include "base/cleanup.h"
#include "base/json.h"
#include "cmd/oci_cli.h"
#include "oci/control.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* The column of the heading line that is called PID; -1: none. */
static int pid_column(const char *heading)
{
    int column = 0;

    for (const char *c = heading + strspn(heading, " \n"); *c; c += strspn(c, " \n"), column++) {
        size_t length = strcspn(c, " \n");

        if (length == 3 && strncmp(c, "PID", 3) == 0)
            return column;
        c += length;
    }
    return -1;
}

static pid_t pid_in(const char *line, int column)
{
    const char *c = line + strspn(line, " ");

    for (; column > 0; column--) {
        c += strcspn(c, " ");
        c += strspn(c, " ");
    }
    return (pid_t)strtol(c, NULL, 10);
}

static int compare(const void *a, const void *b)
{
    pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

    return (x > y) - (x < y);
}

/* Copies ps's heading and the container's lines. */
static int filter(FILE *ps, const pid_t *pids, size_t length)
{
    CLEANUP(freep) char *line = NULL;
    size_t size = 0;
    int column;

    if (getline(&line, &size, ps) < 0 || (column = pid_column(line)) < 0)
        return -EINVAL;
    fputs(line, stdout);
    while (getline(&line, &size, ps) >= 0) {
        pid_t pid = pid_in(line, column);

        if (bsearch(&pid, pids, length, sizeof(pid), compare))
            fputs(line, stdout);
    }
    return 0;
}

static int print_table(char **arguments, const pid_t *pids, size_t length, struct err *err)
{
    static const char *const default_arguments[] = {"ps", "-ef", NULL};
    CLEANUP(file_closep) FILE *stream = NULL;
    int ends[2], status = 0, result;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(err, -errno, "ps");
    if ((pid = fork()) < 0)
        return err_errno(err, -errno, "ps");
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        /* The verb's place in argv is the program's name. */
        arguments[0] = (char *)(uintptr_t) "ps";
        execvp("ps", arguments[1] ? arguments : (char *const *)(uintptr_t)default_arguments);
        _exit(127);
    }
    close(ends[1]);
    if (!(stream = fdopen(ends[0], "r"))) {
        close(ends[0]);
        return err_set(err, -ENOMEM, "ps: out of memory");
    }
    result = filter(stream, pids, length);
    fclose(TAKE_PTR(stream));
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return err_set(err, -ENOENT, "ps: the host has no ps(1); use --format json");
    return result < 0 ? err_set(err, result, "ps: its output has no column PID") : 0;
}

static int print_json(const struct oci_global *global, const pid_t *pids, size_t length)
{
    CLEANUP(json_decrefp) json_t *list = json_array();

    for (size_t i = 0; i < length; i++)
        json_array_append_new(list, json_integer(pids[i]));
    return oci_print_json(global, list, JSON_COMPACT);
}

int oci_verb_ps(const struct oci_global *global, int argc, char **argv)
{
    static const struct option options[] = {{"format", required_argument, NULL, 'f'},
                                            {NULL, 0, NULL, 0}};
    CLEANUP(freep) pid_t *pids = NULL;
    bool json = false;
    size_t length = 0;
    struct err err;
    int option;

    while ((option = getopt_long(argc, argv, "+f:", options, NULL)) >= 0) {
        if (option != 'f')
            return oci_unknown_option();
        json = strcmp(optarg, "json") == 0;
        if (!json && strcmp(optarg, "table") != 0)
            return oci_usage_error(global, "ps: --format is table or json, not '%s'", optarg);
    }
    if (optind == argc)
        return oci_usage_error(global, "ps: a container id is needed");
    if (container_processes(global->root, argv[optind], &pids, &length, &err) < 0)
        return oci_fail(global, &err);
    if (json)
        return print_json(global, pids, length);
    return print_table(argv + optind, pids, length, &err) < 0 ? oci_fail(global, &err) : 0;
}
