/* SPDX-License-Identifier: Apache-2.0 */
/* kill, delete, pause, resume. */
#include "base/size.h"
#include "base/util.h"
#include "cmd/oci_cli.h"
#include "oci/container.h"
#include "oci/control.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* 15, TERM, SIGTERM, RTMIN+3. */
static int parse_signal(const char *text, int *ret)
{
    struct err err;
    uint64_t number;

    if (isdigit((unsigned char)text[0])) {
        if (number_parse(text, "signal", 0, 64, &number, &err) < 0)
            return -EINVAL;
        *ret = (int)number;
        return 0;
    }
    if (strncasecmp(text, "SIG", 3) == 0)
        text += 3;
    if (strncasecmp(text, "RTM", 3) == 0 && (text[5] == '\0' || strchr("+-", text[5]))) {
        bool least = strncasecmp(text, "RTMIN", 5) == 0;

        number = 0;
        if ((!least && strncasecmp(text, "RTMAX", 5) != 0) ||
            (text[5] && number_parse(text + 6, "signal", 0, 30, &number, &err) < 0))
            return -EINVAL;
        *ret = least ? SIGRTMIN + (int)number : SIGRTMAX - (int)number;
        return 0;
    }
    for (int i = 1; i < NSIG; i++) {
        const char *name = sigabbrev_np(i);

        if (name && strcasecmp(name, text) == 0) {
            *ret = i;
            return 0;
        }
    }
    return -EINVAL;
}

int oci_verb_kill(const struct oci_global *global, int argc, char **argv)
{
    static const struct option options[] = {{"all", no_argument, NULL, 'a'}, {NULL, 0, NULL, 0}};
    int option, number = SIGTERM;
    bool all = false;
    struct err err;

    while ((option = getopt_long(argc, argv, "+a", options, NULL)) >= 0) {
        if (option != 'a')
            return oci_unknown_option();
        all = true;
    }
    if (argc - optind < 1 || argc - optind > 2)
        return oci_usage_error(global, "kill: a container id and at most one signal are needed");
    if (argc - optind == 2 && parse_signal(argv[optind + 1], &number) < 0)
        return oci_usage_error(global, "unknown signal '%s'", argv[optind + 1]);
    return container_kill(global->root, argv[optind], number, all, &err) < 0
               ? oci_fail(global, &err)
               : 0;
}

int oci_verb_delete(const struct oci_global *global, int argc, char **argv)
{
    static const struct option options[] = {{"force", no_argument, NULL, 'f'}, {NULL, 0, NULL, 0}};
    bool force = false;
    int option, status = 0;
    struct err err;

    while ((option = getopt_long(argc, argv, "+f", options, NULL)) >= 0) {
        if (option != 'f')
            return oci_unknown_option();
        force = true;
    }
    if (optind == argc)
        return oci_usage_error(global, "delete: a container id is needed");
    for (; optind < argc; optind++)
        if (container_delete(global->root, argv[optind], force, &err) < 0)
            status = oci_fail(global, &err);
    return status;
}

static int freeze(const struct oci_global *global, int argc, char **argv, bool frozen)
{
    const char *id;
    struct err err;

    if (!(id = oci_only_id(global, argc, argv)))
        return 1;
    return container_freeze(global->root, id, frozen, &err) < 0 ? oci_fail(global, &err) : 0;
}

int oci_verb_pause(const struct oci_global *global, int argc, char **argv)
{
    return freeze(global, argc, argv, true);
}

int oci_verb_resume(const struct oci_global *global, int argc, char **argv)
{
    return freeze(global, argc, argv, false);
}
