/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/send_all.h"

#include <errno.h>
#include <sys/socket.h>

int send_all(int fd, const void *data, size_t length, const volatile sig_atomic_t *stop)
{
    const char *at = data;

    while (length) {
        ssize_t n = stop && *stop ? -1 : send(fd, at, length, MSG_NOSIGNAL);

        if (n < 0 && stop && *stop)
            return -ECANCELED;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        at += n;
        length -= (size_t)n;
    }
    return 0;
}
