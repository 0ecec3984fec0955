/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint, restore: a container saved to files and made again from them, by CRIU. */
#include "base/size.h"
#include "base/util.h"
#include "cmd/oci_cli.h"
#include "oci/checkpoint.h"

#include <linux/sched.h>
#include <string.h>

/* Options of either verb; `verbs` says whose: c checkpoint, r restore. */
enum {
    OPTION_IMAGE_PATH = 256,
    OPTION_WORK_PATH,
    OPTION_PARENT_PATH,
    OPTION_PAGE_SERVER,
    OPTION_CGROUPS_MODE,
    OPTION_EMPTY_NS,
    OPTION_STATUS_FD,
    OPTION_LSM_PROFILE,
    OPTION_LSM_MOUNT_CONTEXT,
    OPTION_PID_FILE,
    OPTION_CONSOLE_SOCKET,
    OPTION_LAZY_PAGES,
    OPTION_IGNORED,
    OPTION_FLAG, /* + index into flags */
};

struct flag {
    const char *name;
    size_t offset;
    const char *verbs;
};

static const struct flag flags[] = {
    {"leave-running", offsetof(struct checkpoint_options, leave_running), "c"},
    {"pre-dump", offsetof(struct checkpoint_options, pre_dump), "c"},
    {"auto-dedup", offsetof(struct checkpoint_options, auto_dedup), "cr"},
    {"tcp-established", offsetof(struct checkpoint_options, tcp_established), "cr"},
    {"tcp-skip-in-flight", offsetof(struct checkpoint_options, tcp_skip_in_flight), "c"},
    {"tcp-close", offsetof(struct checkpoint_options, tcp_close), "cr"},
    {"ext-unix-sk", offsetof(struct checkpoint_options, ext_unix_sk), "cr"},
    {"shell-job", offsetof(struct checkpoint_options, shell_job), "cr"},
    {"file-locks", offsetof(struct checkpoint_options, file_locks), "cr"},
    {"link-remap", offsetof(struct checkpoint_options, link_remap), "cr"},
};

static const struct {
    const char *name;
    int has_argument, value;
    const char *verbs;
} others[] = {
    {"image-path", required_argument, OPTION_IMAGE_PATH, "cr"},
    {"work-path", required_argument, OPTION_WORK_PATH, "cr"},
    {"parent-path", required_argument, OPTION_PARENT_PATH, "c"},
    {"page-server", required_argument, OPTION_PAGE_SERVER, "c"},
    {"manage-cgroups-mode", required_argument, OPTION_CGROUPS_MODE, "cr"},
    {"empty-ns", required_argument, OPTION_EMPTY_NS, "cr"},
    {"status-fd", required_argument, OPTION_STATUS_FD, "cr"},
    {"lazy-pages", no_argument, OPTION_LAZY_PAGES, "cr"},
    {"lsm-profile", required_argument, OPTION_LSM_PROFILE, "r"},
    {"lsm-mount-context", required_argument, OPTION_LSM_MOUNT_CONTEXT, "r"},
    {"bundle", required_argument, 'b', "r"},
    {"detach", no_argument, 'd', "r"},
    {"pid-file", required_argument, OPTION_PID_FILE, "r"},
    {"console-socket", required_argument, OPTION_CONSOLE_SOCKET, "r"},
    {"no-subreaper", no_argument, OPTION_IGNORED, "r"},
    {"no-pivot", no_argument, OPTION_IGNORED, "r"},
};

struct arguments {
    struct checkpoint_options checkpoint;
    struct container_options container;
};

static void fill_options(struct option *options, char verb)
{
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (strchr(flags[i].verbs, verb))
            options[n++] = (struct option){flags[i].name, no_argument, NULL, OPTION_FLAG + (int)i};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (strchr(others[i].verbs, verb))
            options[n++] = (struct option){others[i].name, others[i].has_argument, NULL,
                                           others[i].value};
    options[n] = (struct option){NULL, 0, NULL, 0};
}

static int parse_option(const struct oci_global *global, const char *verb, int option,
                        struct arguments *ret)
{
    struct checkpoint_options *c = &ret->checkpoint;
    uint64_t number;
    struct err err;

    switch (option) {
    case OPTION_IMAGE_PATH:
        c->image_path = optarg;
        return 0;
    case OPTION_WORK_PATH:
        c->work_path = optarg;
        return 0;
    case OPTION_PARENT_PATH:
        c->parent_path = optarg;
        return 0;
    case OPTION_PAGE_SERVER:
        c->page_server = optarg;
        return 0;
    case OPTION_CGROUPS_MODE:
        c->cgroups_mode = optarg;
        return 0;
    case OPTION_LSM_PROFILE:
        c->lsm_profile = optarg;
        return 0;
    case OPTION_LSM_MOUNT_CONTEXT:
        c->lsm_mount_context = optarg;
        return 0;
    case OPTION_EMPTY_NS:
        if (strcmp(optarg, "network") != 0)
            return oci_usage_error(global, "%s: --empty-ns: '%s' is not network", verb, optarg);
        c->empty_namespaces |= CLONE_NEWNET;
        return 0;
    case OPTION_STATUS_FD:
        if (number_parse(optarg, "--status-fd", 0, 65535, &number, &err) < 0)
            return oci_fail(global, &err);
        c->status_fd = (int)number;
        return 0;
    case 'b':
        ret->container.bundle = optarg;
        return 0;
    case 'd':
        ret->container.detach = true;
        return 0;
    case OPTION_PID_FILE:
        ret->container.pid_file = optarg;
        return 0;
    case OPTION_CONSOLE_SOCKET:
        ret->container.console_socket = optarg;
        return 0;
    case OPTION_LAZY_PAGES:
        return oci_usage_error(global,
                               "%s: --lazy-pages: memory is saved and restored at once; "
                               "leave the option out",
                               verb);
    case OPTION_IGNORED:
        return 0;
    default:
        return oci_unknown_option();
    }
}

static int parse(const struct oci_global *global, int argc, char **argv, struct arguments *ret)
{
    struct option options[ARRAY_LEN(flags) + ARRAY_LEN(others) + 1];
    bool restore = argv[0][0] == 'r';
    int option;

    *ret = (struct arguments){.checkpoint = {.criu = global->criu ? global->criu : "criu",
                                             .image_path = "checkpoint",
                                             .status_fd = -1},
                              .container = {.root = global->root, .bundle = "."}};
    fill_options(options, argv[0][0]);
    while ((option = getopt_long(argc, argv, restore ? "b:d" : "", options, NULL)) >= 0) {
        if (option >= OPTION_FLAG)
            *(bool *)((char *)&ret->checkpoint + flags[option - OPTION_FLAG].offset) = true;
        else if (parse_option(global, argv[0], option, ret) != 0)
            return 1;
    }
    return (ret->container.id = oci_single_id(global, argc, argv)) ? 0 : 1;
}

int oci_verb_checkpoint(const struct oci_global *global, int argc, char **argv)
{
    struct arguments a;
    struct err err = ERR_INIT;

    if (parse(global, argc, argv, &a) != 0)
        return 1;
    if (container_checkpoint(global->root, a.container.id, &a.checkpoint, &err) < 0)
        return oci_fail(global, &err);
    return 0;
}

int oci_verb_restore(const struct oci_global *global, int argc, char **argv)
{
    struct arguments a;
    struct err err = ERR_INIT;
    int status = 1;

    if (parse(global, argc, argv, &a) != 0)
        return 1;
    if (container_restore(&a.container, &a.checkpoint, &status, &err) < 0)
        return oci_fail(global, &err);
    return status;
}
