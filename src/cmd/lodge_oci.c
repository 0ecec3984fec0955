/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodge-oci: the OCI command line. Global options, then a verb with its own; each verb is in a file
 * of its own (oci_cli.h).
 */
#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/util.h"
#include "cmd/oci_cli.h"
#include "oci/self.h"
#include "oci/state.h"

#include <stdio.h>
#include <string.h>

#define VERSION "0.1.0"

static const char usage[] =
    "Usage: lodge-oci [--root DIR] [--log FILE] [--log-format text|json] [--criu PROGRAM]\n"
    "                 VERB [options] [ID]\n"
    "\n"
    "  run      make, start and wait for a container  [-b|--bundle B] [-d|--detach] [--pid-file "
    "F]\n"
    "                                                 [--console-socket S] [--preserve-fds N]\n"
    "                                                 [--keep] [--exit-with-parent] ID\n"
    "  create   make a container, do not start it yet [-b|--bundle B] [--pid-file F]\n"
    "                                                 [--console-socket S] [--preserve-fds N] ID\n"
    "  start    start a created container             ID\n"
    "  exec     run a further program in a container  [-d|--detach] [-t|--tty] [-e|--env K=V]\n"
    "                                                 [-u|--user UID[:GID]] [-c|--cap CAP]\n"
    "                                                 [-g|--additional-gids GID] [--cwd DIR]\n"
    "                                                 [--pid-file F] [--process-label L]\n"
    "                                                 [--console-socket S] [--preserve-fds N]\n"
    "                                                 [--no-new-privs] [--ignore-paused]\n"
    "                                                 [--cgroup [CONTROLLER,...:]PATH]\n"
    "                                                 [--apparmor P] {-p|--process FILE ID |\n"
    "                                                 ID PROGRAM [ARG...]}\n"
    "  kill     send a signal (TERM)                  [--all] ID [SIGNAL]\n"
    "  delete   remove stopped containers             [--force] ID...\n"
    "  pause    freeze all processes of a container   ID\n"
    "  resume   let them run again                    ID\n"
    "  state    print a container's state as JSON     ID\n"
    "  list     print all containers                  [-f|--format table|json] [-q|--quiet]\n"
    "  ps       print a container's processes         [-f|--format table|json] ID [PS OPTION]\n"
    "  update   change a container's limits           [-r|--resources FILE] [--memory N]\n"
    "                                                 [--cgroups-path PATH]\n"
    "                                                 [--memory-swap N]\n"
    "                                                 [--memory-reservation N] [--pids-limit N]\n"
    "                                                 [--cpu-quota N] [--cpu-period N]\n"
    "                                                 [--cpu-share N] [--cpu-rt-runtime N]\n"
    "                                                 [--cpu-rt-period N] [--cpuset-cpus L]\n"
    "                                                 [--cpuset-mems L] [--blkio-weight N]\n"
    "                                                 [--l3-cache-schema S]\n"
    "                                                 [--mem-bw-schema S] ID\n"
    "  events   print what a container uses           [--stats] [--interval 5s] ID\n"
    "  checkpoint  save a container to files (CRIU)   [--image-path DIR] [--work-path DIR]\n"
    "                                                 [--leave-running] [--pre-dump]\n"
    "                                                 [--parent-path DIR] [--page-server A:PORT]\n"
    "                                                 [--tcp-established] [--tcp-skip-in-flight]\n"
    "                                                 [--tcp-close] [--ext-unix-sk] [--shell-job]\n"
    "                                                 [--file-locks] [--link-remap] "
    "[--auto-dedup]\n"
    "                                                 [--manage-cgroups-mode MODE]\n"
    "                                                 [--empty-ns network] [--status-fd N] ID\n"
    "  restore  make it again from them               [-b|--bundle B] [-d|--detach] [--pid-file "
    "F]\n"
    "                                                 [--console-socket S] [--image-path DIR]\n"
    "                                                 [--lsm-profile P] [--lsm-mount-context C]\n"
    "                                                 [as checkpoint] ID\n"
    "  spec     write a default config.json           [-b|--bundle B] [--rootless]\n"
    "  features print what is supported, as JSON\n";

static const struct oci_verb verbs[] = {
    {"run", oci_verb_run},
    {"create", oci_verb_create},
    {"start", oci_verb_start},
    {"exec", oci_verb_exec},
    {"kill", oci_verb_kill},
    {"delete", oci_verb_delete},
    {"pause", oci_verb_pause},
    {"resume", oci_verb_resume},
    {"state", oci_verb_state},
    {"list", oci_verb_list},
    {"ps", oci_verb_ps},
    {"update", oci_verb_update},
    {"events", oci_verb_events},
    {"spec", oci_verb_spec},
    {"features", oci_verb_features},
    {"checkpoint", oci_verb_checkpoint},
    {"restore", oci_verb_restore},
};

/* The verb's own lines of the usage: from its name to the next one's. */
static int explain_verb(const char *verb)
{
    size_t length = strlen(verb);

    for (const char *line = usage; (line = strstr(line, "\n  ")); line++) {
        const char *end = line + 3;

        if (strncmp(line + 3, verb, length) != 0 || line[3 + length] != ' ')
            continue;
        while ((end = strchr(end, '\n')) && strncmp(end + 1, "   ", 3) == 0)
            end++;
        printf("lodge-oci %.*s\n", (int)(end ? end - line - 3 : (ptrdiff_t)strlen(line + 3)),
               line + 3);
        return 0;
    }
    return 1;
}

static int run_verb(const struct oci_global *global, int argc, char **argv)
{
    optind = 0;
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (strcmp(verbs[i].name, argv[0]) == 0 && argc > 1 &&
            (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
            return explain_verb(argv[0]);
        else if (strcmp(verbs[i].name, argv[0]) == 0)
            return verbs[i].run(global, argc, argv);
    return oci_usage_error(global, "unknown verb '%s'", argv[0]);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"root", required_argument, NULL, 'r'},
        {"log", required_argument, NULL, 'l'},
        {"log-format", required_argument, NULL, 'F'},
        {"debug", no_argument, NULL, 'd'},
        {"systemd-cgroup", no_argument, NULL, 's'},
        {"cgroup-manager", required_argument, NULL, 'm'},
        {"rootless", required_argument, NULL, 'i'},
        {"criu", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    CLEANUP(freep) char *default_root = state_default_root();
    struct oci_global global = {.root = default_root};
    bool systemd = false;
    int option;

    log_init("lodge-oci", LOG_LEVEL_INFO);
    json_seed();
    while ((option = getopt_long(argc, argv, "+hv", options, NULL)) >= 0)
        switch (option) {
        case 'r':
            global.root = optarg;
            break;
        case 'l':
            global.log_path = optarg;
            break;
        case 'F':
            global.log_json = strcmp(optarg, "json") == 0;
            break;
        case 'd':
        case 'i':
            break;
        case 'c':
            global.criu = optarg;
            break;
        case 's':
            systemd = true;
            break;
        case 'm':
            systemd = systemd || strcmp(optarg, "systemd") == 0;
            break;
        case 'h':
            fputs(usage, stdout);
            return 0;
        case 'v':
            printf("lodge-oci version %s\nspec: 1.2.0\n", VERSION);
            return 0;
        default:
            return oci_unknown_option();
        }
    /* After all options: the log may be named behind it. */
    if (systemd)
        return oci_usage_error(&global, "--systemd-cgroup: cgroups are made by the runtime itself "
                                        "here (cgroupfs); leave the option out");
    if (optind == argc) {
        fputs(usage, stderr);
        return 1;
    }
    /* The verbs whose processes become a container's. */
    if (strcmp(argv[optind], "run") == 0 || strcmp(argv[optind], "create") == 0 ||
        strcmp(argv[optind], "exec") == 0)
        self_protect(argv);
    return run_verb(&global, argc - optind, argv + optind);
}
