/* SPDX-License-Identifier: Apache-2.0 */
/* Small duties of the first process: loopback, identity, the console's session, the end. */
#include "guest/init.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

int init_loopback_up(struct err *err)
{
    CLEANUP(fd_closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo"};

    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0)
        return err_errno(err, -errno, "look at the loopback interface");
    request.ifr_flags |= IFF_UP | IFF_RUNNING;
    if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
        return err_errno(err, -errno, "start the loopback interface");
    return 0;
}

static void write_file(const char *path, const char *text)
{
    CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd >= 0)
        (void)!file_write_full(fd, text, strlen(text));
}

void init_identify(const char *hostname, const char *resolv_conf)
{
    char text[320];

    if (*hostname && sethostname(hostname, strlen(hostname)) == 0) {
        mkdir("/etc", 0755);
        snprintf(text, sizeof(text), "%.255s\n", hostname);
        write_file("/etc/hostname", text);
        snprintf(text, sizeof(text), "127.0.0.1\tlocalhost %.200s\n::1\tlocalhost\n", hostname);
        write_file("/etc/hosts", text);
    }
    if (*resolv_conf) {
        /* A dangling symbolic link, as systemd images have, would swallow the text. */
        unlink("/etc/resolv.conf");
        write_file("/etc/resolv.conf", resolv_conf);
    }
}

/* The terminal behind /dev/console, which itself cannot be a controlling terminal. */
static int open_console_tty(void)
{
    char name[64], path[80];
    char *last;
    ssize_t length;
    CLEANUP(fd_closep) int fd = open("/sys/class/tty/console/active", O_RDONLY | O_CLOEXEC);

    if (fd < 0 || (length = file_read_full(fd, name, sizeof(name) - 1)) <= 0)
        return open("/dev/console", O_RDWR);
    name[length] = '\0';
    name[strcspn(name, "\n")] = '\0';
    last = strrchr(name, ' ');
    snprintf(path, sizeof(path), "/dev/%s", last ? last + 1 : name);
    return open(path, O_RDWR);
}

static _Noreturn void console_child(int argc, char *const *argv)
{
    static char *const shell[] = {(char *)(uintptr_t) "sh", NULL};
    int fd;

    setsid();
    fd = open_console_tty();
    if (fd >= 0) {
        ioctl(fd, TIOCSCTTY, 1);
        dup2(fd, STDIN_FILENO);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        if (fd > STDERR_FILENO)
            close(fd);
    }
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    setenv("HOME", "/root", 1);
    setenv("TERM", "linux", 0);
    if (argc > 0)
        execvp(argv[0], argv);
    else
        execv("/bin/sh", shell);
    dprintf(STDERR_FILENO, "lodge-init: cannot run '%s': %s\n", argc > 0 ? argv[0] : "/bin/sh",
            strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
}

int init_console_run(int argc, char *const *argv, struct err *err)
{
    pid_t pid = fork(), ended;
    int status;

    if (pid < 0)
        return err_errno(err, -errno, "fork");
    if (pid == 0)
        console_child(argc, argv);
    while ((ended = wait(&status)) != pid)
        if (ended < 0 && errno != EINTR)
            return err_errno(err, -errno, "wait for the command");
    return status;
}

_Noreturn void init_poweroff(void)
{
    kill(-1, SIGKILL);
    sync();
    reboot(RB_POWER_OFF);
    /* A machine that cannot be turned off restarts, which ends it too. */
    reboot(RB_AUTOBOOT);
    for (;;)
        pause();
}
