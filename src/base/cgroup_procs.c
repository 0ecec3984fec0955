/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cgroup_procs.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int cgroup_move_once(int from, int to, int *ret_error)
{
    CLEANUP(fd_closep) int fd = openat(from, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    CLEANUP(file_closep) FILE *list = fd < 0 ? NULL : fdopen(fd, "r");
    char line[32];
    int seen = 0;

    *ret_error = 0;
    if (!list)
        return 0;
    fd = -1; /* the stream has it */
    while (fgets(line, sizeof(line), list)) {
        int r;

        line[strcspn(line, "\n")] = '\0';
        r = file_write_string(to, "cgroup.procs", line);
        seen++;
        if (r < 0 && r != -ESRCH)
            *ret_error = r;
    }
    return seen;
}
