/* SPDX-License-Identifier: Apache-2.0 */
/* exec: a further program in a container, from a process.json or from the command line. */
#include "base/cleanup.h"
#include "base/size.h"
#include "cmd/oci_cli.h"
#include "oci/exec.h"

#include <stdlib.h>

#define EXIT_EXEC_FAILED 255

enum {
    OPTION_CONSOLE_SOCKET = 256,
    OPTION_CWD,
    OPTION_PID_FILE,
    OPTION_NO_NEW_PRIVS,
    OPTION_PRESERVE_FDS,
    OPTION_IGNORE_PAUSED,
    OPTION_PROCESS_LABEL,
    OPTION_APPARMOR,
    OPTION_CGROUP,
};

static const struct option options[] = {
    {"console-socket", required_argument, NULL, OPTION_CONSOLE_SOCKET},
    {"cwd", required_argument, NULL, OPTION_CWD},
    {"env", required_argument, NULL, 'e'},
    {"tty", no_argument, NULL, 't'},
    {"user", required_argument, NULL, 'u'},
    {"additional-gids", required_argument, NULL, 'g'},
    {"process", required_argument, NULL, 'p'},
    {"detach", no_argument, NULL, 'd'},
    {"pid-file", required_argument, NULL, OPTION_PID_FILE},
    {"no-new-privs", no_argument, NULL, OPTION_NO_NEW_PRIVS},
    {"cap", required_argument, NULL, 'c'},
    {"preserve-fds", required_argument, NULL, OPTION_PRESERVE_FDS},
    {"ignore-paused", no_argument, NULL, OPTION_IGNORE_PAUSED},
    {"process-label", required_argument, NULL, OPTION_PROCESS_LABEL},
    {"apparmor", required_argument, NULL, OPTION_APPARMOR},
    {"cgroup", required_argument, NULL, OPTION_CGROUP},
    {NULL, 0, NULL, 0},
};

static int parse_option(const struct oci_global *global, int option, struct exec_options *ret)
{
    struct err err;
    uint64_t number;

    switch (option) {
    case 'e':
        ret->env[ret->nr_env++] = optarg;
        return 0;
    case 'c':
        ret->capabilities[ret->nr_capabilities++] = optarg;
        return 0;
    case 'g':
        ret->additional_gids[ret->nr_additional_gids++] = optarg;
        return 0;
    case 't':
        ret->tty = true;
        return 0;
    case 'd':
        ret->detach = true;
        return 0;
    case 'u':
        ret->user = optarg;
        return 0;
    case 'p':
        ret->process_file = optarg;
        return 0;
    case OPTION_CWD:
        ret->cwd = optarg;
        return 0;
    case OPTION_CONSOLE_SOCKET:
        ret->console_socket = optarg;
        return 0;
    case OPTION_PID_FILE:
        ret->pid_file = optarg;
        return 0;
    case OPTION_NO_NEW_PRIVS:
        ret->no_new_privileges = true;
        return 0;
    case OPTION_IGNORE_PAUSED:
        ret->ignore_paused = true;
        return 0;
    case OPTION_PRESERVE_FDS:
        if (number_parse(optarg, "--preserve-fds", 0, 1024, &number, &err) < 0)
            return oci_fail(global, &err);
        ret->preserve_fds = (int)number;
        return 0;
    case OPTION_PROCESS_LABEL:
        ret->process_label = optarg;
        return 0;
    case OPTION_APPARMOR:
        ret->apparmor = optarg;
        return 0;
    case OPTION_CGROUP:
        ret->cgroup = optarg;
        return 0;
    default:
        return oci_unknown_option();
    }
}

int oci_verb_exec(const struct oci_global *global, int argc, char **argv)
{
    /* No list can be longer than the command line. */
    CLEANUP(freep) const char **lists = calloc(3 * (size_t)argc, sizeof(*lists));
    struct exec_options exec = {.root = global->root};
    struct err err = ERR_INIT;
    int option, status = 0;

    if (!lists)
        return EXIT_EXEC_FAILED;
    exec.env = lists;
    exec.capabilities = lists + argc;
    exec.additional_gids = lists + 2 * argc;
    while ((option = getopt_long(argc, argv, "+e:tu:g:p:dc:", options, NULL)) >= 0)
        if (parse_option(global, option, &exec) != 0)
            return EXIT_EXEC_FAILED;
    if (oci_check_preserved(global, argv[0], exec.preserve_fds) != 0)
        return EXIT_EXEC_FAILED;
    if (optind == argc) {
        oci_usage_error(global, "exec: a container id is needed");
        return EXIT_EXEC_FAILED;
    }
    exec.id = argv[optind];
    exec.args = argv + optind + 1;
    if (!exec.process_file && !exec.args[0]) {
        oci_usage_error(global, "exec: a program or --process is needed");
        return EXIT_EXEC_FAILED;
    }
    if (container_exec(&exec, &status, &err) < 0) {
        oci_fail(global, &err);
        return EXIT_EXEC_FAILED;
    }
    return status;
}
