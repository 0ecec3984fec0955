/* SPDX-License-Identifier: Apache-2.0 */
/* The server's process and the monitor's end of its socket: see server.h. */
#include "share/server.h"

#include "base/fdpass.h"
#include "base/util.h"
#include "share/sandbox.h"
#include "share/share.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILES_MAX 16384

struct share_server {
    int socket;
    pid_t pid;
};

/* A slot of guest memory, as it is announced and as the server has it. */
struct region {
    uint64_t gpa, size, fd_offset;
};

struct process {
    int socket;
    struct share *share;
    struct region regions[SHARE_REGIONS_MAX];
    uint8_t *hosts[SHARE_REGIONS_MAX];
    unsigned nr_regions;
    struct share_message message;
    struct iovec iov[SHARE_SEGMENTS_MAX];
};

/* --- the process --- */

static void *guest_range(const struct process *p, uint64_t gpa, uint64_t length)
{
    for (unsigned i = 0; i < p->nr_regions; i++)
        if (gpa >= p->regions[i].gpa &&
            range_fits(gpa - p->regions[i].gpa, length, p->regions[i].size))
            return p->hosts[i] + (gpa - p->regions[i].gpa);
    return NULL;
}

static int map_region(struct process *p, const struct region *region, int fd)
{
    void *host;

    if (p->nr_regions == SHARE_REGIONS_MAX)
        return -E2BIG;
    host = mmap(NULL, region->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
                (off_t)region->fd_offset);
    if (host == MAP_FAILED)
        return -errno;
    madvise(host, region->size, MADV_DONTDUMP);
    p->regions[p->nr_regions] = *region;
    p->hosts[p->nr_regions++] = host;
    return 0;
}

static int answer_request(struct process *p, size_t length)
{
    const struct share_message *m = &p->message;
    unsigned nr = (unsigned)m->nr_out + m->nr_in;
    struct share_request request = {
        .out = p->iov, .nr_out = m->nr_out, .in = p->iov + m->nr_out, .nr_in = m->nr_in};
    struct share_answer answer = {.slot = m->slot};

    if (nr > SHARE_SEGMENTS_MAX ||
        length != offsetof(struct share_message, segments) + nr * sizeof(m->segments[0]))
        return -EPROTO;
    for (unsigned i = 0; i < nr; i++) {
        p->iov[i].iov_base = guest_range(p, m->segments[i].gpa, m->segments[i].length);
        p->iov[i].iov_len = m->segments[i].length;
        if (!p->iov[i].iov_base)
            return -EPROTO;
    }
    answer.length = share_handle(p->share, &request);
    answer.touched = request.touched;
    while (send(p->socket, &answer, sizeof(answer), MSG_NOSIGNAL) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

/* Until the monitor hangs up, or says what it should not. */
static int serve(struct process *p)
{
    for (;;) {
        int fd = -1, r;
        ssize_t n = fdpass_receive(p->socket, &p->message, sizeof(p->message), &fd);

        if (n == -EINTR)
            continue;
        if (n <= 0)
            return (int)n;
        if (fd >= 0) {
            struct region region;

            memcpy(&region, &p->message, sizeof(region));
            r = (size_t)n == sizeof(region) ? map_region(p, &region, fd) : -EPROTO;
            close(fd);
        } else {
            r = answer_request(p, (size_t)n);
        }
        if (r < 0)
            return r;
    }
}

static bool has_capability_setuid(void)
{
    return geteuid() == 0;
}

static void raise_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit))
        return;
    limit.rlim_cur = MIN(limit.rlim_max, (rlim_t)FILES_MAX);
    setrlimit(RLIMIT_NOFILE, &limit);
}

static _Noreturn void process_main(int socket, struct share_member *members, unsigned nr,
                                   bool confined, pid_t parent)
{
    struct share_config config = {
        .members = members, .nr_members = nr, .owners = has_capability_setuid()};
    struct process *p = calloc(1, sizeof(*p));
    struct err err = ERR_INIT;
    sigset_t none;
    int r;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "lodge-share");
    if (!p || getppid() != parent)
        _exit(1);
    p->socket = socket;
    /* A terminal's Ctrl-C is the monitor's affair: this process ends with it. A write beyond the
     * limit of file sizes fails with EFBIG. */
    for (int i = 1; i < NSIG; i++)
        signal(i, i == SIGINT || i == SIGTERM || i == SIGHUP || i == SIGQUIT || i == SIGPIPE ||
                          i == SIGXFSZ
                      ? SIG_IGN
                      : SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(0);
    raise_files();
    if (confined)
        sandbox_namespaces(members, nr);
    r = share_enter_proc(&err);
    if (r == 0 && confined)
        sandbox_root();
    if (r == 0)
        r = share_new(&config, &p->share, &err);
    if (r == 0 && confined)
        r = sandbox_rights(&err);
    if (r < 0)
        fprintf(stderr, "lodge-vmm: error: shared directories: %s\n", err.message);
    else
        r = serve(p);
    _exit(r < 0);
}

/* --- the monitor --- */

static int open_member(const struct share_path_config *path, unsigned nr_paths,
                       struct share_member *ret, struct err *err)
{
    CLEANUP(fd_closep) int fd = open(path->path, O_PATH | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st))
        return err_errno(err, -errno, "share '%s'", path->path);
    if (!S_ISDIR(st.st_mode) && !(S_ISREG(st.st_mode) && path->name[0]))
        return err_set(err, -ENOTDIR, "share '%s': a directory%s is needed", path->path,
                       path->name[0] ? " or a file" : "");
    if (strlen(path->name) >= sizeof(ret->name) || strchr(path->name, '/') ||
        (nr_paths > 1 && !path->name[0]) || path->name[0] == '.')
        return err_set(err, -EINVAL, "share '%s': '%s' cannot be its name", path->path, path->name);
    *ret = (struct share_member){.fd = TAKE_FD(fd), .read_only = path->read_only};
    memcpy(ret->name, path->name, strlen(path->name) + 1);
    return 0;
}

/* Everything but the first three descriptors, the socket and the members goes. */
static void close_others(int socket, const struct share_member *members, unsigned nr)
{
    for (int fd = 3; fd < FILES_MAX; fd++) {
        int next = FILES_MAX;

        if (socket >= fd)
            next = socket;
        for (unsigned i = 0; i < nr; i++)
            if (members[i].fd >= fd && members[i].fd < next)
                next = members[i].fd;
        if (next > fd)
            close_range((unsigned)fd, next == FILES_MAX ? ~0u : (unsigned)next - 1, 0);
        fd = next;
    }
}

static int start(struct share_server *server, struct share_member *members, unsigned nr,
                 bool confined, struct err *err)
{
    int pair[2], room = 1 << 20;
    pid_t parent = getpid();

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return err_errno(err, -errno, "make a socket for shared directories");
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    server->socket = pair[0];
    server->pid = fork();
    if (server->pid == 0) {
        close_others(pair[1], members, nr);
        process_main(pair[1], members, nr, confined, parent);
    }
    close(pair[1]);
    if (server->pid < 0)
        return err_errno(err, -errno, "start the process for shared directories");
    return fcntl(pair[0], F_SETFL, O_NONBLOCK) ? err_errno(err, -errno, "prepare a socket") : 0;
}

int share_server_start(const struct share_path_config *paths, unsigned nr_paths, bool confined,
                       struct share_server **ret, struct err *err)
{
    struct share_member members[SHARE_PATHS_MAX];
    CLEANUP(share_server_freep) struct share_server *server = NULL;
    unsigned nr = 0;
    int r = 0;

    if (!nr_paths || nr_paths > SHARE_PATHS_MAX)
        return err_set(err, -E2BIG, "a share has 1 to %d members", SHARE_PATHS_MAX);
    if (!(server = calloc(1, sizeof(*server))))
        return err_set(err, -ENOMEM, "out of memory");
    server->socket = -1;
    for (; r == 0 && nr < nr_paths; nr += r == 0)
        r = open_member(&paths[nr], nr_paths, &members[nr], err);
    if (r == 0)
        r = start(server, members, nr, confined, err);
    while (nr)
        close(members[--nr].fd);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(server);
    return 0;
}

int share_server_map(struct share_server *server, uint64_t gpa, uint64_t size, int fd,
                     uint64_t fd_offset, struct err *err)
{
    struct region region = {.gpa = gpa, .size = size, .fd_offset = fd_offset};
    int r = fdpass_send(server->socket, &region, sizeof(region), fd);

    return r < 0 ? err_errno(err, r, "give guest memory to the process for shared directories") : 0;
}

int share_server_send(struct share_server *server, const struct share_message *message)
{
    size_t length = offsetof(struct share_message, segments) +
                    ((size_t)message->nr_out + message->nr_in) * sizeof(message->segments[0]);

    while (send(server->socket, message, length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        if (errno == EAGAIN || errno == ENOBUFS)
            return -EAGAIN;
        if (errno != EINTR)
            return -EPIPE;
    }
    return 0;
}

int share_server_receive(struct share_server *server, struct share_answer *ret)
{
    ssize_t n;

    do
        n = recv(server->socket, ret, sizeof(*ret), MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)sizeof(*ret))
        return 1;
    return n < 0 && errno == EAGAIN ? 0 : -EPIPE;
}

int share_server_fd(const struct share_server *server)
{
    return server->socket;
}

void share_server_free(struct share_server *server)
{
    if (!server)
        return;
    fd_closep(&server->socket);
    if (server->pid > 0)
        while (waitpid(server->pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    free(server);
}
