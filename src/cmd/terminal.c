/* SPDX-License-Identifier: Apache-2.0 */
/* Only standard input's terminal is ever changed; the window size may come from standard output. */
#include "cmd/terminal.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

void terminal_save(struct terminal *ret)
{
    ret->fd = -1;
    if (tcgetattr(STDIN_FILENO, &ret->before) == 0)
        ret->fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
}

bool terminal_make_raw(struct terminal *ret)
{
    struct termios raw;

    terminal_save(ret);
    if (ret->fd < 0)
        return false;
    raw = ret->before;
    cfmakeraw(&raw);
    tcsetattr(ret->fd, TCSADRAIN, &raw);
    return true;
}

void terminal_restore(struct terminal *terminal)
{
    sigset_t ttou, before;

    if (terminal->fd < 0)
        return;
    /* In the background the change would stop us instead. */
    sigemptyset(&ttou);
    sigaddset(&ttou, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &ttou, &before);
    tcsetattr(terminal->fd, TCSANOW, &terminal->before);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    terminal_forget(terminal);
}

void terminal_forget(struct terminal *terminal)
{
    if (terminal->fd >= 0)
        close(terminal->fd);
    terminal->fd = -1;
}

bool terminal_size(uint16_t *ret_rows, uint16_t *ret_cols)
{
    struct winsize size;

    if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
        return false;
    *ret_rows = size.ws_row;
    *ret_cols = size.ws_col;
    return true;
}
