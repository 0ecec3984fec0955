/* SPDX-License-Identifier: Apache-2.0 */
/* Settings, and a child (lodge-tls) for each connection. */
#include "cmd/remote.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/util.h"
#include "cmd/programs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SCHEME "tcp://"

struct setting {
    const char *option, *variable, *member, *file;
};

enum { HOST, CA, CERTIFICATE, KEY, NR_SETTINGS };

static const struct setting settings[NR_SETTINGS] = {
    [HOST] = {"--host", "LODGE_HOST", "host", NULL},
    [CA] = {"--tls-ca", "LODGE_TLS_CA", "tls_ca", "ca.pem"},
    [CERTIFICATE] = {"--tls-cert", "LODGE_TLS_CERT", "tls_cert", "cert.pem"},
    [KEY] = {"--tls-key", "LODGE_TLS_KEY", "tls_key", "key.pem"},
};

static const struct setting *find_option(const char *word, size_t length)
{
    for (size_t i = 0; i < NR_SETTINGS; i++)
        if (strlen(settings[i].option) == length && !strncmp(settings[i].option, word, length))
            return &settings[i];
    return NULL;
}

const char *remote_option_at(size_t at, bool *ret_file)
{
    *ret_file = at != HOST;
    return at < NR_SETTINGS ? settings[at].option : NULL;
}

int remote_take_options(int *argc, char **argv, struct err *err)
{
    int at = 1;

    while (at < *argc) {
        size_t length = strcspn(argv[at], "=");
        const struct setting *setting = find_option(argv[at], length);
        const char *value;

        if (!setting)
            break;
        value = argv[at][length] ? argv[at] + length + 1 : at + 1 < *argc ? argv[++at] : NULL;
        at++;
        if (!value || !*value)
            return err_set(err, -EINVAL, "option '%s' needs a value", setting->option);
        if (setenv(setting->variable, value, 1) < 0)
            return err_set(err, -ENOMEM, "out of memory");
    }
    if (at > 1) {
        memmove(argv + 1, argv + at, sizeof(*argv) * (size_t)(*argc - at + 1));
        *argc -= at - 1;
    }
    return 0;
}

/* Where client.json is; "" when there is no place for it. */
static void config_dir(char ret[PATH_MAX])
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

    *ret = '\0';
    if (xdg && *xdg == '/')
        snprintf(ret, PATH_MAX, "%s/lodge", xdg);
    else if (home && *home == '/')
        snprintf(ret, PATH_MAX, "%s/.config/lodge", home);
}

/* *ret: a new reference; NULL when there is no such file. */
static int read_config(const char *dir, json_t **ret, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    char path[PATH_MAX + 16];
    int result;

    *ret = NULL;
    buf_init(&text, 65536);
    snprintf(path, sizeof(path), "%s/client.json", dir);
    if (!*dir || access(path, F_OK) < 0)
        return 0;
    if ((result = file_load(AT_FDCWD, path, &text, err)) < 0 ||
        (result = json_parse(text.data ?: "", text.length, path, ret, err)) < 0)
        return result;
    if (!json_is_object(*ret))
        return err_set(err, -EINVAL, "'%s' is not a JSON object", path);
    return 0;
}

static int find_setting(const struct setting *setting, const char *dir, const json_t *config,
                        char *ret, size_t size, struct err *err)
{
    const char *given = getenv(setting->variable);
    const json_t *member = json_object_get(config, setting->member);
    int n = 0;

    *ret = '\0';
    if (member && !json_is_string(member))
        return err_set(err, -EINVAL, "%s/client.json: %s is not a string", dir, setting->member);
    if (!given || !*given)
        given = json_string_value(member);
    if (given)
        n = snprintf(ret, size, "%s", given);
    else if (setting->file && *dir)
        n = snprintf(ret, size, "%s/%s", dir, setting->file);
    return (size_t)n < size ? 0 : err_set(err, -ENAMETOOLONG, "%s is too long", setting->variable);
}

static int find_all(const char *dir, const json_t *config, struct remote *ret, struct err *err)
{
    char *const to[NR_SETTINGS] = {ret->where, ret->ca, ret->certificate, ret->key};
    const size_t sizes[NR_SETTINGS] = {sizeof(ret->where), PATH_MAX, PATH_MAX, PATH_MAX};
    size_t scheme = strlen(SCHEME);
    int result = 0;

    for (size_t i = 0; i < NR_SETTINGS && result == 0; i++)
        result = find_setting(&settings[i], dir, config, to[i], sizes[i], err);
    if (result < 0 || !*ret->where)
        return result;
    if (strncmp(ret->where, SCHEME, scheme) != 0)
        return err_set(err, -EINVAL, "the host '%s' is not of the form tcp://HOST:PORT",
                       ret->where);
    memmove(ret->where, ret->where + scheme, strlen(ret->where) - scheme + 1);
    return 0;
}

int remote_find(struct remote *ret, struct err *err)
{
    char dir[PATH_MAX];
    json_t *config = NULL;
    int result;

    memset(ret, 0, sizeof(*ret));
    config_dir(dir);
    if ((result = read_config(dir, &config, err)) == 0)
        result = find_all(dir, config, ret, err);
    json_decref(config);
    return result;
}

bool remote_is_set(void)
{
    CLEANUP(freep) struct remote *remote = malloc(sizeof(*remote));

    /* What cannot be understood is elsewhere, too: remote_connect says what is wrong with it. */
    return remote && (remote_find(remote, NULL) < 0 || *remote->where);
}

int remote_check_verb(const char *verb, struct err *err)
{
    static const char *const here[] = {"image", "images", "disk",    "kernels", "vm",
                                       "job",   "env",    "explain", "balance", "stats"};

    for (size_t i = 0; i < ARRAY_LEN(here); i++)
        if (!strcmp(verb, here[i]) && remote_is_set())
            return err_set(err, -EOPNOTSUPP,
                           "'lodge %s' works on this host only, and the manager that was asked for "
                           "is on another; leave out --host (LODGE_HOST, client.json)",
                           verb);
    return 0;
}

/* In the child: argv for lodge-tls, and its three descriptors. */
static _Noreturn void become_tls(const char *program, const struct remote *remote, int fd, int note)
{
    char *argv[] = {(char *)(uintptr_t) "lodge-tls", (char *)(uintptr_t)remote->where,
                    (char *)(uintptr_t)remote->ca,   (char *)(uintptr_t)remote->certificate,
                    (char *)(uintptr_t)remote->key,  NULL};

    if (dup2(fd, STDIN_FILENO) >= 0 && dup2(note, STDOUT_FILENO) >= 0)
        execv(program, argv);
    _exit(127);
}

/* Twice removed from us, so that it is not ours to reap. */
static int spawn(const char *program, const struct remote *remote, int fd, int note,
                 struct err *err)
{
    pid_t child = fork();

    if (child < 0)
        return err_errno(err, -errno, "start '%s'", program);
    if (child == 0) {
        if (fork() == 0)
            become_tls(program, remote, fd, note);
        _exit(0);
    }
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
    return 0;
}

int remote_connect(int *ret_fd, int *ret_note, struct err *err)
{
    CLEANUP(freep) struct remote *remote = calloc(1, sizeof(*remote));
    CLEANUP(freep) struct store *store = calloc(1, sizeof(*store));
    int ends[2] = {-1, -1}, note[2] = {-1, -1}, result;
    char program[PATH_MAX];

    if (!remote || !store)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = remote_find(remote, err)) < 0 || (result = store_open(store, err)) < 0 ||
        (result = program_find(store, "lodge-tls", "LODGE_TLS", program, err)) < 0)
        return result;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 || pipe2(note, O_CLOEXEC) < 0)
        result = err_errno(err, -errno, "reach '%s'", remote->where);
    else
        result = spawn(program, remote, ends[1], note[1], err);
    fd_closep(&ends[1]);
    fd_closep(&note[1]);
    if (result < 0) {
        fd_closep(&ends[0]);
        fd_closep(&note[0]);
        return result;
    }
    *ret_fd = ends[0];
    *ret_note = note[0];
    return 0;
}

void remote_explain(int note_fd, struct err *err)
{
    char text[512];
    const char *where = getenv("LODGE_HOST");
    size_t length = 0;
    ssize_t n;

    while (length < sizeof(text) - 1 &&
           (n = read(note_fd, text + length, sizeof(text) - 1 - length)) > 0)
        length += (size_t)n;
    close(note_fd);
    text[length] = '\0';
    if (length && err)
        err_set(err, err->code, "reach the manager%s%s: %s", where ? " at " : "", where ?: "",
                text);
}
