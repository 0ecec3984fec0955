/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting lodge-vmm and reading what it prints into two rings of bounded size, for the error
 * message of a VM that did not come up.
 */
#include "cmd/vmm_process.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* How long SIGTERM may take. */
#define STOP_MS 2000

void tail_append(struct tail *tail, const char *data, size_t length)
{
    if (length > TAIL_SIZE) {
        tail->total += length - TAIL_SIZE;
        data += length - TAIL_SIZE;
        length = TAIL_SIZE;
    }
    for (size_t i = 0; i < length; i++)
        tail->data[(tail->total + i) % TAIL_SIZE] = data[i];
    tail->total += length;
}

void tail_last_lines(const struct tail *tail, unsigned nr_lines, const char *indent, char *to,
                     size_t size)
{
    size_t least = tail->total > TAIL_SIZE ? tail->total - TAIL_SIZE : 0;
    size_t end = tail->total, start, used = 0;
    bool fresh = true;

    while (end > least && strchr("\r\n", tail->data[(end - 1) % TAIL_SIZE]))
        end--;
    for (start = end; start > least; start--)
        if (tail->data[(start - 1) % TAIL_SIZE] == '\n' && --nr_lines == 0)
            break;
    to[0] = '\0';
    for (; start < end; start++) {
        unsigned char c = (unsigned char)tail->data[start % TAIL_SIZE];

        if (c == '\r')
            continue;
        if (used + strlen(indent) + 2 >= size)
            break;
        if (fresh)
            used += (size_t)snprintf(to + used, size - used, "%s", indent);
        fresh = c == '\n';
        to[used++] = (char)(c == '\n' || c == '\t' || (c >= 32 && c != 127) ? c : '.');
    }
    to[MIN(used, size - 1)] = '\0';
}

static _Noreturn void child_main(const char *program, const char *config_path, pid_t parent,
                                 const int console[2], const int log[2])
{
    int null = open("/dev/null", O_RDWR);
    sigset_t none;

    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(125);
    dup2(null, STDIN_FILENO);
    dup2(console[1], STDOUT_FILENO);
    dup2(log[1], STDERR_FILENO);
    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execl(program, program, "--config", config_path, (char *)NULL);
    dprintf(STDERR_FILENO, "cannot run '%s': %s\n", program, strerror(errno));
    _exit(127);
}

int vmm_process_start(const char *program, const char *config_path, struct vmm_process *ret,
                      struct err *err)
{
    int console[2], log[2];
    pid_t parent = getpid();

    if (pipe2(console, O_CLOEXEC) < 0)
        return err_errno(err, -errno, "pipe");
    if (pipe2(log, O_CLOEXEC) < 0) {
        close(console[0]);
        close(console[1]);
        return err_errno(err, -errno, "pipe");
    }
    memset(ret, 0, sizeof(*ret));
    if ((ret->pid = fork()) == 0)
        child_main(program, config_path, parent, console, log);
    close(console[1]);
    close(log[1]);
    fcntl(console[0], F_SETFL, O_NONBLOCK);
    fcntl(log[0], F_SETFL, O_NONBLOCK);
    ret->console_fd = console[0];
    ret->log_fd = log[0];
    ret->pid_fd = ret->pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, ret->pid, 0);
    if (ret->pid_fd < 0) {
        int code = -errno;

        if (ret->pid > 0) {
            kill(ret->pid, SIGKILL);
            waitpid(ret->pid, NULL, 0);
        }
        close(console[0]);
        close(log[0]);
        return err_errno(err, code, "start '%s'", program);
    }
    return 0;
}

static void drain_one(int *fd, struct tail *tail)
{
    char data[4096];

    /* Bounded: the loop has other things to do than to listen to a chatty guest. */
    for (int i = 0; i < 16 && *fd >= 0; i++) {
        ssize_t n = read(*fd, data, sizeof(data));

        if (n > 0) {
            tail_append(tail, data, (size_t)n);
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        close(*fd);
        *fd = -1;
    }
}

void vmm_process_drain(struct vmm_process *vmm)
{
    drain_one(&vmm->console_fd, &vmm->console);
    drain_one(&vmm->log_fd, &vmm->log);
}

int vmm_process_stop(struct vmm_process *vmm)
{
    struct pollfd end = {.fd = vmm->pid_fd, .events = POLLIN};
    int status = -1;

    if (vmm->pid <= 0)
        return -1;
    if (poll(&end, 1, 0) == 0) {
        kill(vmm->pid, SIGTERM);
        /* Its pipes are not read any more: it must not wait for us. */
        vmm_process_drain(vmm);
        if (poll(&end, 1, STOP_MS) <= 0)
            kill(vmm->pid, SIGKILL);
    }
    while (waitpid(vmm->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    vmm_process_drain(vmm);
    vmm->pid = 0;
    fd_closep(&vmm->pid_fd);
    fd_closep(&vmm->console_fd);
    fd_closep(&vmm->log_fd);
    vmm->pid_fd = vmm->console_fd = vmm->log_fd = -1;
    return status;
}

void vmm_process_describe_end(struct vmm_process *vmm, int status, struct err *err)
{
    char how[64] = "ended", log[400], console[480];

    if (WIFSIGNALED(status))
        snprintf(how, sizeof(how), "was killed by signal %d", WTERMSIG(status));
    else if (WIFEXITED(status))
        snprintf(how, sizeof(how), "ended with status %d", WEXITSTATUS(status));
    tail_last_lines(&vmm->log, 4, "  ", log, sizeof(log));
    tail_last_lines(&vmm->console, 5, "  ", console, sizeof(console));
    err_set(err, -EIO, "the virtual machine's monitor %s before the command did%s%s%s%s", how,
            *log ? ". It said:\n" : "", log, *console ? "\nthe guest's console, last lines:\n" : "",
            console);
}
