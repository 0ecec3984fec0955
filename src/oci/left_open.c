/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/left_open.h"

#include <unistd.h>

/* The caller's limit may be low, and a configuration long. */
#define LEFT_OPEN_MAX 24

void left_openp(int *fd)
{
    static unsigned nr_open;

    if (*fd >= 0 && nr_open++ >= LEFT_OPEN_MAX)
        close(*fd);
}
