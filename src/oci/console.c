/* SPDX-License-Identifier: Apache-2.0 */
/* posix_openpt would open the host's /dev/ptmx: the container's own is opened below its root
 * instead. */
#include "oci/console.h"

#include "base/cleanup.h"
#include "base/fdpass.h"
#include "oci/inroot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/vfs.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

int console_make(int root_fd, unsigned width, unsigned height, int *ret_master, int *ret_slave,
                 struct err *err)
{
    /* Opening a device can be an act of its own, so first it is made sure that this is one of
     * devpts, not one that the image brought along. */
    CLEANUP(fd_closep) int pts = inroot_open_plain(root_fd, "/dev/pts", O_PATH | O_DIRECTORY);
    CLEANUP(fd_closep) int master = -1;
    CLEANUP(fd_closep) int slave = -1;
    int unlocked = 0;
    struct statfs fs;

    if (pts < 0)
        return err_errno(err, pts, "terminal: /dev/pts in the container");
    if (fstatfs(pts, &fs) < 0 || fs.f_type != DEVPTS_SUPER_MAGIC)
        return err_set(
            err, -ENODEV,
            "terminal: /dev/pts in the container is no devpts (is it among the mounts?)");
    if ((master = openat(pts, "ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC)) < 0)
        return err_errno(err, -errno, "terminal: open /dev/pts/ptmx in the container");
    if (ioctl(master, TIOCSPTLCK, &unlocked) < 0)
        return err_errno(err, -errno, "terminal: unlock");
    slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0)
        return err_errno(err, -errno, "terminal: open the slave");
    if (width && height) {
        struct winsize size = {.ws_row = (unsigned short)height, .ws_col = (unsigned short)width};

        ioctl(master, TIOCSWINSZ, &size);
    }
    *ret_master = TAKE_FD(master);
    *ret_slave = TAKE_FD(slave);
    return 0;
}

int console_take(int slave, struct err *err)
{
    if (ioctl(slave, TIOCSCTTY, 0) < 0)
        return err_errno(err, -errno, "terminal: make it the controlling one");
    for (int fd = 0; fd < 3; fd++)
        if (dup2(slave, fd) < 0)
            return err_errno(err, -errno, "terminal: standard stream %d", fd);
    return 0;
}

int console_send(const char *socket_path, int master, struct err *err)
{
    static const char name[] = "/dev/ptmx";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int result;

    if (strlen(socket_path) >= sizeof(address.sun_path))
        return err_set(err, -ENAMETOOLONG, "console socket '%s': the path is too long",
                       socket_path);
    memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return err_errno(err, -errno, "console socket '%s'", socket_path);
    if ((result = fdpass_send(fd, name, sizeof(name) - 1, master)) < 0)
        return err_errno(err, result, "console socket '%s'", socket_path);
    return 0;
}

void console_raw_enter(struct console_raw *raw)
{
    struct termios now;

    raw->active = false;
    if (tcgetattr(STDIN_FILENO, &raw->saved) < 0)
        return;
    now = raw->saved;
    cfmakeraw(&now);
    raw->active = tcsetattr(STDIN_FILENO, TCSANOW, &now) == 0;
}

void console_raw_restore(struct console_raw *raw)
{
    if (raw->active)
        tcsetattr(STDIN_FILENO, TCSANOW, &raw->saved);
    raw->active = false;
}

void console_copy_size(int master)
{
    struct winsize size;

    if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col)
        ioctl(master, TIOCSWINSZ, &size);
}
