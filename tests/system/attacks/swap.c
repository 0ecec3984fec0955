/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side of a race over a directory that several containers share: changes what stands at a
 * name, as fast as it can, until it is killed.
 *
 *   swap exchange A B       A and B change places
 *   swap replace A TARGET   A is taken away; whatever then appears there becomes a symlink to
 * TARGET
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

static void replace(const char *name, const char *target)
{
    char link[4096];
    struct stat st;

    snprintf(link, sizeof(link), "%s.swap", name);
    for (;;) {
        unlink(link);
        if (symlink(target, link) < 0)
            return;
        while (lstat(name, &st) < 0)
            ;
        rename(link, name);
        /* Long enough to be met, short enough to let the next one be made. */
        for (int i = 0; i < 50; i++)
            lstat(name, &st);
        unlink(name);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    if (strcmp(argv[1], "replace") == 0)
        replace(argv[2], argv[3]);
    for (;;)
        if (renameat2(AT_FDCWD, argv[2], AT_FDCWD, argv[3], RENAME_EXCHANGE) < 0)
            return 1;
}
