/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel command line, as far as it speaks to lodge-init: words that start with "lodge.". */
#include "guest/init.h"

#include <stdio.h>
#include <string.h>

static void take(const char *word, size_t length, const char *name, char *to, size_t size)
{
    size_t name_length = strlen(name);

    if (length > name_length && length - name_length < size && !strncmp(word, name, name_length))
        snprintf(to, size, "%.*s", (int)(length - name_length), word + name_length);
}

/* Appends the word's value and a blank. */
static void collect(const char *word, size_t length, const char *name, char *to, size_t size)
{
    size_t name_length = strlen(name), have = strlen(to);

    if (length > name_length && have + length - name_length + 2 <= size &&
        !strncmp(word, name, name_length))
        snprintf(to + have, size - have, "%.*s ", (int)(length - name_length), word + name_length);
}

void init_params_parse(const char *cmdline, struct init_params *ret)
{
    struct init_params params = {.root = "/dev/vda", .rw = "50%"};
    const char *at = cmdline;

    while (*at) {
        size_t length;

        at += strspn(at, " \t\n");
        length = strcspn(at, " \t\n");
        /* What follows is for the command, not for us. */
        if (length == 2 && !strncmp(at, "--", 2))
            break;
        take(at, length, "lodge.agent=", params.agent, sizeof(params.agent));
        take(at, length, "lodge.root=", params.root, sizeof(params.root));
        take(at, length, "lodge.net=", params.net, sizeof(params.net));
        take(at, length, "lodge.net6=", params.net6, sizeof(params.net6));
        take(at, length, "lodge.disks=", params.disks, sizeof(params.disks));
        take(at, length, "lodge.rw=", params.rw, sizeof(params.rw));
        collect(at, length, "lodge.nic=", params.nics, sizeof(params.nics));
        collect(at, length, "lodge.mount=", params.mounts, sizeof(params.mounts));
        at += length;
    }
    *ret = params;
}
