/* SPDX-License-Identifier: Apache-2.0 */
/* run, create, start: from a bundle to a program that runs. */
#include "base/size.h"
#include "cmd/oci_cli.h"
#include "oci/container.h"
#include "oci/notify_socket.h"

#include <stdlib.h>

enum {
    OPTION_PID_FILE = 256,
    OPTION_CONSOLE_SOCKET,
    OPTION_PRESERVE_FDS,
    OPTION_KEEP,
    OPTION_EXIT_WITH_PARENT,
    OPTION_IGNORED
};

static const struct option options[] = {
    {"bundle", required_argument, NULL, 'b'},
    {"detach", no_argument, NULL, 'd'},
    {"pid-file", required_argument, NULL, OPTION_PID_FILE},
    {"console-socket", required_argument, NULL, OPTION_CONSOLE_SOCKET},
    {"preserve-fds", required_argument, NULL, OPTION_PRESERVE_FDS},
    {"keep", no_argument, NULL, OPTION_KEEP},
    {"exit-with-parent", no_argument, NULL, OPTION_EXIT_WITH_PARENT},
    {"no-pivot", no_argument, NULL, OPTION_IGNORED},
    {"no-new-keyring", no_argument, NULL, OPTION_IGNORED},
    {"no-subreaper", no_argument, NULL, OPTION_IGNORED},
    {NULL, 0, NULL, 0},
};

static int parse(const struct oci_global *global, int argc, char **argv,
                 struct container_options *ret)
{
    struct err err;
    uint64_t number;
    int option;

    *ret = (struct container_options){.root = global->root, .bundle = "."};
    while ((option = getopt_long(argc, argv, "b:d", options, NULL)) >= 0)
        switch (option) {
        case 'b':
            ret->bundle = optarg;
            break;
        case 'd':
            ret->detach = true;
            break;
        case OPTION_PID_FILE:
            ret->pid_file = optarg;
            break;
        case OPTION_CONSOLE_SOCKET:
            ret->console_socket = optarg;
            break;
        case OPTION_PRESERVE_FDS:
            if (number_parse(optarg, "--preserve-fds", 0, 1024, &number, &err) < 0)
                return oci_fail(global, &err);
            ret->preserve_fds = (int)number;
            break;
        case OPTION_KEEP:
            ret->keep = true;
            break;
        case OPTION_EXIT_WITH_PARENT:
            ret->exit_with_parent = true;
            break;
        case OPTION_IGNORED:
            break;
        default:
            return oci_unknown_option();
        }
    ret->listen_fds = notify_listen_fds();
    ret->preserve_fds += (int)ret->listen_fds;
    if (oci_check_preserved(global, argv[0], ret->preserve_fds) != 0)
        return 1;
    return (ret->id = oci_single_id(global, argc, argv)) ? 0 : 1;
}

int oci_verb_run(const struct oci_global *global, int argc, char **argv)
{
    struct container_options container;
    struct err err = ERR_INIT;
    int status = 1, result = parse(global, argc, argv, &container);

    if (result != 0)
        return result;
    if (container_run(&container, &status, &err) < 0) {
        oci_fail(global, &err);
        return status > 0 ? status : 1;
    }
    return status;
}

int oci_verb_create(const struct oci_global *global, int argc, char **argv)
{
    struct container_options container;
    struct err err;
    int result = parse(global, argc, argv, &container);

    if (result != 0)
        return result;
    return container_create(&container, &err) < 0 ? oci_fail(global, &err) : 0;
}

int oci_verb_start(const struct oci_global *global, int argc, char **argv)
{
    const char *id;
    struct err err;

    if (!(id = oci_only_id(global, argc, argv)))
        return 1;
    return container_start(global->root, id, &err) < 0 ? oci_fail(global, &err) : 0;
}
