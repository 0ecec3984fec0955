/* SPDX-License-Identifier: Apache-2.0 */
/* Room for one descriptor only: what a peer sends beyond it the kernel closes, so nothing leaks. */
#include "base/fdpass.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

/* Room for one descriptor; the union gives it the header's alignment. */
union control {
    char data[CMSG_SPACE(sizeof(int))];
    struct cmsghdr header;
};

int fdpass_send(int socket, const void *data, size_t length, int fd)
{
    struct iovec iov = {(void *)(uintptr_t)data, length};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    union control control;
    ssize_t n;

    if (fd >= 0) {
        memset(&control, 0, sizeof(control));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(int));
        message.msg_control = control.data;
        message.msg_controllen = sizeof(control.data);
    }
    do
        n = sendmsg(socket, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

ssize_t fdpass_receive(int socket, void *data, size_t length, int *ret_fd)
{
    struct iovec iov = {data, length};
    union control control;
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.data,
                             .msg_controllen = sizeof(control.data)};
    struct cmsghdr *header;
    ssize_t n;

    *ret_fd = -1;
    do
        n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(ret_fd, CMSG_DATA(header), sizeof(int));
    return n;
}
