/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lodged: the manager's process. Options, the listening socket, signals; src/manager does the rest.
 * A socket that comes by the service manager's protocol (LISTEN_FDS) is taken as it is.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "cmd/cli.h"
#include "cmd/manager_paths.h"
#include "cmd/programs.h"
#include "manager/manager.h"
#include "tls/listener.h"
#include "tls/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define LOCK_PATIENCE_NS (10 * NS_PER_S)
#define ANSWER_MS        250

static const char help[] =
    "usage: lodged [--detach] [--log FILE] [--log-format text|json] [--log-level LEVEL]\n"
    "              [--listen tcp://ADDRESS:PORT --tls-ca FILE --tls-cert FILE --tls-key FILE]\n"
    "\n"
    "The manager of virtual machines and containers. `lodge` starts it by itself when it is "
    "needed.\n"
    "\n"
    "  --detach     return when it serves, and go on in the background\n"
    "  --log FILE   where its log goes; without it, standard error\n"
    "  --log-format text|json  json: an object a line, with what it is about (instance,\n"
    "               operation, client)\n"
    "  --log-level LEVEL  error, warning, info (without it) or debug: requests and events, too\n"
    "  --listen tcp://ADDRESS:PORT  serve other hosts, too: clients whose certificate is of the\n"
    "               authority --tls-ca alone. --tls-cert and --tls-key: who we are\n"
    "  --version\n"
    "\n"
    "LODGE_MANAGER=DIR puts its state and its socket below DIR; LODGE_HOME=DIR is the store of\n"
    "images and kernels. See lodged(8).\n";

struct options {
    bool detach;
    const char *log;
    const char *listen; /* ADDRESS:PORT; NULL: this host alone */
    struct tls_files tls;
};

/* Whoever may ask may do anything to this host: so there is no port without certificates. */
static int check_listen(struct options *options)
{
    bool any = options->tls.ca || options->tls.certificate || options->tls.key;
    bool all = options->tls.ca && options->tls.certificate && options->tls.key;

    if (!options->listen && !any)
        return 0;
    if (!options->listen)
        fputs("lodged: --tls-... belongs to --listen tcp://ADDRESS:PORT\n", stderr);
    else if (strncmp(options->listen, "tcp://", 6) != 0)
        fprintf(stderr,
                "lodged: --listen '%s' is not tcp://ADDRESS:PORT; the unix socket is "
                "always there\n",
                options->listen);
    else if (!all)
        fputs("lodged: --listen needs --tls-ca, --tls-cert and --tls-key: a port is served only to "
              "clients that show a certificate\n",
              stderr);
    if (!options->listen || !all || strncmp(options->listen, "tcp://", 6) != 0)
        return -EINVAL;
    options->listen += 6;
    return 0;
}

static bool set_log(int option, const char *value)
{
    enum log_level level;

    if (option == 'e') {
        if (log_level_parse(value, &level)) {
            log_init("lodged", level);
            return true;
        }
        fprintf(stderr, "lodged: --log-level '%s' is none of error, warning, info, debug\n", value);
        return false;
    }
    if (strcmp(value, "text") != 0 && strcmp(value, "json") != 0) {
        fprintf(stderr, "lodged: --log-format '%s' is neither text nor json\n", value);
        return false;
    }
    log_set_format(!strcmp(value, "json") ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT);
    return true;
}

static int parse(int argc, char **argv, struct options *ret)
{
    static const struct option options[] = {{"detach", no_argument, NULL, 'd'},
                                            {"log", required_argument, NULL, 'l'},
                                            {"log-format", required_argument, NULL, 'f'},
                                            {"log-level", required_argument, NULL, 'e'},
                                            {"listen", required_argument, NULL, 'L'},
                                            {"tls-ca", required_argument, NULL, 'A'},
                                            {"tls-cert", required_argument, NULL, 'C'},
                                            {"tls-key", required_argument, NULL, 'K'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'v'},
                                            {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "dh", options, NULL)) >= 0)
        switch (option) {
        case 'd':
            ret->detach = true;
            break;
        case 'l':
            ret->log = optarg;
            break;
        case 'f':
        case 'e':
            if (!set_log(option, optarg))
                return -EINVAL;
            break;
        case 'L':
            ret->listen = optarg;
            break;
        case 'A':
            ret->tls.ca = optarg;
            break;
        case 'C':
            ret->tls.certificate = optarg;
            break;
        case 'K':
            ret->tls.key = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            exit(0);
        case 'v':
            puts("lodged " LODGE_VERSION);
            exit(0);
        default:
            return -EINVAL;
        }
    if (optind < argc) {
        fprintf(stderr, "lodged: what is '%s'?\n", argv[optind]);
        return -EINVAL;
    }
    return check_listen(ret);
}

/* Held as long as we live. */
static int lock_socket(const char *path, struct err *err)
{
    uint64_t deadline_ns = clock_monotonic_ns() + LOCK_PATIENCE_NS;
    char lock[PATH_MAX];
    int fd;

    snprintf(lock, sizeof(lock), "%s.lock", path);
    if ((fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0)
        return err_errno(err, -errno, "open '%s'", lock);
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (clock_monotonic_ns() >= deadline_ns || manager_answers(path, ANSWER_MS)) {
            close(fd);
            return err_set(err, -EBUSY, "a manager serves at '%s' already", path);
        }
        usleep(2000);
    }
    return 0;
}

static int listen_at(const char *path, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CLEANUP(fd_closep) int fd = -1;
    const char *given = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
    mode_t before;
    int result;

    if (given && pid && atoi(given) == 1 && atoi(pid) == (int)getpid()) {
        fcntl(3, F_SETFD, FD_CLOEXEC);
        return 3;
    }
    if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
        return err_errno(err, -errno, "socket");
    if (snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >=
        (int)sizeof(address.sun_path))
        return err_set(err, -ENAMETOOLONG, "the socket path '%s' is too long", path);
    if ((result = lock_socket(path, err)) < 0)
        return result;
    unlink(path);
    before = umask(0177); /* 0600 */
    result = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 512) < 0
                 ? -errno
                 : 0;
    umask(before);
    return result < 0 ? err_errno(err, result, "listen at '%s'", path) : TAKE_FD(fd);
}

static void raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigprocmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* In the background before any thread is: the parent waits for one byte that says all is well. */
static int detach(int *ret_ready)
{
    int ends[2];
    char byte;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0 || (pid = fork()) < 0)
        return -errno;
    if (pid > 0) {
        close(ends[1]);
        _exit(read(ends[0], &byte, 1) == 1 ? 0 : 1);
    }
    close(ends[0]);
    setsid();
    *ret_ready = ends[1];
    return 0;
}

static void turn_from_terminal(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return;
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    close(null);
}

static int find_programs(struct manager_options *options, const struct store *images,
                         struct err *err)
{
    int result;

    if (program_find(images, "lodge-oci", "LODGE_OCI", options->oci, NULL) < 0)
        options->oci[0] = '\0';
    if (program_find(images, "lodge-vmm", "LODGE_VMM", options->vmm, NULL) < 0)
        options->vmm[0] = '\0';
    if ((result = program_find(images, "lodge-shim", "LODGE_SHIM", options->shim, err)) < 0)
        return result;
    return program_find(images, "lodge", "LODGE_PROGRAM", options->lodge, err);
}

/* The port for other hosts. */
struct front {
    struct tls_identity *identity;
    struct tls_listener *listener;
};

static bool name_is_ours(const char *host, void *context)
{
    const struct front *front = context;

    return front->identity && tls_identity_names(front->identity, host);
}

static int open_front(const struct options *options, const char *socket_path, struct front *front,
                      struct err *err)
{
    int result;

    if (!options->listen)
        return 0;
    if ((result = tls_listener_open(options->listen, front->identity, socket_path, &front->listener,
                                    err)) < 0)
        return result;
    log_info("clients with certificates are served at port %u", tls_listener_port(front->listener));
    return 0;
}

static void close_front(struct front *front)
{
    tls_listener_close(front->listener);
    tls_identity_free(front->identity);
}

static int open_manager(struct manager_options *options, struct store *images,
                        struct manager_paths *where, struct manager **ret, struct err *err)
{
    struct manager_paths paths;
    int result;

    if ((result = store_open(images, err)) < 0 || (result = manager_paths_find(&paths, err)) < 0 ||
        (result = manager_paths_make(&paths, err)) < 0 ||
        (result = find_programs(options, images, err)) < 0)
        return result;
    options->images = images;
    options->version = LODGE_VERSION;
    snprintf(options->state_dir, sizeof(options->state_dir), "%s", paths.state);
    snprintf(options->runtime_dir, sizeof(options->runtime_dir), "%s", paths.runtime);
    if ((options->listen_fd = listen_at(paths.socket, err)) < 0)
        return options->listen_fd;
    *where = paths;
    if (chdir("/") < 0)
        return err_errno(err, -errno, "chdir /");
    return manager_open(options, ret, err);
}

static int serve(const struct options *options, int ready)
{
    CLEANUP(freep) struct manager_options *manager = calloc(1, sizeof(*manager));
    CLEANUP(freep) struct store *images = calloc(1, sizeof(*images));
    struct manager *m = NULL;
    struct manager_paths paths;
    struct front front = {0};
    struct err err = ERR_INIT;
    sigset_t set;
    int number = 0;

    block_signals(&set);
    raise_limits();
    if (!manager || !images)
        return 1;
    manager->name_is_ours = name_is_ours;
    manager->name_context = &front;
    /* The certificates first: they may be named relative to where we are now. */
    if ((options->listen &&
         tls_identity_load(&options->tls, TLS_SERVER, &front.identity, &err) < 0) ||
        open_manager(manager, images, &paths, &m, &err) < 0 ||
        open_front(options, paths.socket, &front, &err) < 0) {
        log_error("%s", err.message);
        manager_close(m);
        close_front(&front);
        return 1;
    }
    log_info("serving; state in %s", manager->state_dir);
    if (ready >= 0) {
        if (!options->log)
            turn_from_terminal();
        (void)!write(ready, "1", 1);
        close(ready);
    }
    do
        sigwait(&set, &number);
    while (number == SIGHUP);
    log_info("ends by signal %d; guests go on", number);
    tls_listener_close(front.listener);
    front.listener = NULL;
    manager_close(m);
    close_front(&front);
    return 0;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    int ready = -1, fd;

    log_init("lodged", LOG_LEVEL_INFO);
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
    if (parse(argc, argv, &options) < 0) {
        fputs("See: lodged --help\n", stderr);
        return CLI_EXIT_USAGE;
    }
    if (options.log) {
        fd = open(options.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) {
            log_error("open the log '%s': %s", options.log, strerror(errno));
            return 1;
        }
        log_set_fd(fd);
    }
    if (options.detach && detach(&ready) < 0) {
        log_error("go to the background: %s", strerror(errno));
        return 1;
    }
    if (options.detach && options.log)
        turn_from_terminal();
    json_seed();
    return serve(&options, ready);
}
