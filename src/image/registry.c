/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registries, by skopeo as a process of its own: what speaks to the network and knows credentials
 * is not us. It sees the store's blobs as a shared directory, so that a layer that is there is not
 * fetched again; what it brings is held to its digests here all the same.
 */
#include "image/import.h"

#include "base/file.h"
#include "base/util.h"
#include "image/sending.h"
#include "image/source.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define WORDS_MAX 16
#define LOOK_MS   250

struct words {
    const char *list[WORDS_MAX];
    size_t nr;
};

static void add_word(struct words *words, const char *word)
{
    if (words->nr + 1 < WORDS_MAX)
        words->list[words->nr++] = word;
}

static _Noreturn void skopeo_child(const struct layout *layout, int output,
                                   const struct words *words)
{
    sigset_t none;
    int null = open("/dev/null", O_RDONLY);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (fchdir(layout->fd) < 0)
        _exit(127);
    dup2(null, STDIN_FILENO);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    execvp("skopeo", (char **)(uintptr_t)words->list);
    dprintf(STDERR_FILENO, "skopeo cannot be run (%s): install the package skopeo",
            strerror(errno));
    _exit(127);
}

/*
 * How far skopeo is. Of a pull: what it has written so far, the layout's files, where a blob is
 * until it is whole (it moves to the store's blobs then); counted in steps, so that a blob that
 * moves away does not count twice. Of a push: sending.h.
 */
struct transfer {
    const struct layout *layout;
    const char *dir;         /* of a pull; NULL: nothing is fetched */
    struct sending *sending; /* of a push */
    const struct import_options *options;
    pid_t pid;
    char what[64];
    uint64_t whole, partly; /* bytes of blobs that moved away; of those that are there */
};

static void show(const struct transfer *t)
{
    if (!t->options->progress)
        return;
    if (t->sending)
        t->options->progress(t->options->context, t->what, sending_sent(t->sending),
                             sending_total(t->sending));
    else
        t->options->progress(t->options->context, t->what, t->whole + t->partly, 0);
}

static void look_at_files(struct transfer *t)
{
    CLEANUP(dir_closep) DIR *dir = NULL;
    int fd = t->dir ? openat(t->layout->fd, t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    struct dirent *entry;
    uint64_t bytes = 0;

    if (fd < 0 || !(dir = fdopendir(fd))) {
        fd_closep(&fd);
        return;
    }
    while ((entry = readdir(dir))) {
        struct stat st;

        if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            bytes += (uint64_t)st.st_size;
    }
    if (bytes < t->partly)
        t->whole += t->partly - bytes;
    t->partly = bytes;
}

static void look(struct transfer *t)
{
    if (t->sending)
        sending_look(t->sending, t->pid);
    else
        look_at_files(t);
    show(t);
}

/* Up to the quote that ends the message, and without the backslashes before those in it. */
static void unquote(char *text)
{
    char *to = text;

    for (const char *from = text; *from && *from != '"'; from++) {
        if (*from == '\\' && from[1])
            from++;
        *to++ = *from;
    }
    *to = '\0';
}

/* The last line, without what stands before its message, is the reason of a failure. */
static void take_line(struct transfer *t, char *line, char *last, size_t size)
{
    const char *message = strstr(line, "msg=\"");

    line[strcspn(line, "\n")] = '\0';
    if (!*line)
        return;
    snprintf(last, size, "%.*s", (int)size - 1, message ? message + 5 : line);
    if (message) {
        unquote(last);
        return;
    }
    if (t->sending)
        sending_line(t->sending, line);
    else
        snprintf(t->what, sizeof(t->what), "%s", line);
    show(t);
}

/* Its lines are progress while it runs, and so is what it writes. */
static void read_lines(int fd, struct transfer *t, char *last, size_t size)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    FILE *lines = fdopen(fd, "r");
    char *line = NULL;
    size_t room = 0;

    if (!lines)
        close(fd);
    else
        setvbuf(lines, NULL, _IONBF, 0); /* so that what poll says is all that there is */
    while (lines) {
        if (t->options->progress && poll(&poll_fd, 1, LOOK_MS) == 0) {
            look(t);
            continue;
        }
        if (getline(&line, &room, lines) <= 0)
            break;
        take_line(t, line, last, size);
    }
    free(line);
    if (lines)
        fclose(lines);
}

static int skopeo(struct transfer *transfer, struct words *words, struct err *err)
{
    char last[700] = "";
    int fds[2], status = 0;
    pid_t pid;

    words->list[words->nr] = NULL;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_errno(err, -errno, "pipe");
    if ((pid = fork()) == 0)
        skopeo_child(transfer->layout, fds[1], words);
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        return err_errno(err, -errno, "start skopeo");
    }
    transfer->pid = pid;
    read_lines(fds[0], transfer, last, sizeof(last));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    return err_set(err, strstr(last, "no space left") ? -ENOSPC : -EIO, "%s",
                   *last ? last : "skopeo failed without a word");
}

/* `skopeo copy FROM TO`, where one of the two is a layout whose blobs are the store's. */
static void copy_words(struct words *words, const struct import_options *options,
                       const char *tls_option, const char *blobs_option, const char *from,
                       const char *to)
{
    add_word(words, "skopeo");
    add_word(words, "--override-os=linux");
    add_word(words, "--override-arch=amd64");
    add_word(words, "copy");
    if (options->auth_file) {
        add_word(words, "--authfile");
        add_word(words, options->auth_file);
    }
    if (options->insecure)
        add_word(words, tls_option);
    add_word(words, blobs_option);
    add_word(words, "blobs");
    add_word(words, from);
    add_word(words, to);
}

static int pull(const struct layout *layout, const char *reference,
                const struct import_options *options, struct import_result *ret, struct err *err)
{
    char name[64], from[REFERENCE_MAX + 16], to[96];
    struct words words = {.nr = 0};
    struct image_source source = {.layout = layout};
    struct transfer transfer = {.layout = layout, .dir = name, .options = options};
    CLEANUP(fd_closep) int dir = -1;
    int result;

    layout_temporary("pull", name);
    snprintf(from, sizeof(from), "docker://%s", reference);
    snprintf(to, sizeof(to), "oci:%s:it", name);
    copy_words(&words, options, "--src-tls-verify=false", "--dest-shared-blob-dir", from, to);
    if ((result = skopeo(&transfer, &words, err)) == 0) {
        if ((dir = openat(layout->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
            result = err_errno(err, -errno, "open what was fetched");
        else if ((result = source_open(layout, dir, true, &source, err)) == 0) {
            result = import_source(layout, &source, false,
                                   options->reference ? options->reference : reference, options,
                                   ret, err);
            source_close(&source);
        }
    }
    tree_remove(layout->fd, name);
    return result;
}

int image_pull(const struct store *store, const char *reference,
               const struct import_options *options, struct import_result *ret, struct err *err)
{
    struct import_options own = *options;
    char dir[PATH_MAX], from[REFERENCE_MAX], as[REFERENCE_MAX];
    CLEANUP(fd_closep) int lock = -1;
    struct layout layout;
    int result;

    memset(ret, 0, sizeof(*ret));
    if ((result = reference_normalize(reference, from, err)) < 0 ||
        (result = reference_normalize(own.reference ? own.reference : reference, as, err)) < 0 ||
        (result = import_store_dir(store, dir, err)) < 0 ||
        (result = layout_open(dir, true, &layout, err)) < 0)
        return result;
    own.reference = as;
    if ((lock = layout_lock(&layout, LAYOUT_ADD, err)) < 0)
        result = lock;
    else
        result = pull(&layout, from, &own, ret, err);
    layout_close(&layout);
    return result < 0 ? err_wrap(err, "pull '%s'", from) : 0;
}

/* A layout of this one image, over the store's blobs. */
static int make_layout(const struct layout *layout, const char *name,
                       const struct descriptor *target, struct err *err)
{
    static const char version[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
    char index[512];
    CLEANUP(fd_closep) int dir = -1;
    int n, result;

    if (mkdirat(layout->fd, name, 0700) < 0 ||
        (dir = openat(layout->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return err_errno(err, -errno, "create '%s/%s'", layout->path, name);
    n = snprintf(index, sizeof(index),
                 "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"%s\",\"digest\":\"%s\","
                 "\"size\":%llu}]}",
                 target->media_type, target->digest, (unsigned long long)target->bytes);
    if ((result = file_replace_unsynced(dir, "oci-layout", version, strlen(version), 0644, err)) <
        0)
        return result;
    return file_replace_unsynced(dir, "index.json", index, (size_t)n, 0644, err);
}

static int send(const struct layout *layout, const struct descriptor *target,
                struct sending *sending, const char *to, const struct import_options *options,
                struct err *err)
{
    struct transfer transfer = {
        .layout = layout, .sending = sending, .options = options, .what = "sending"};
    char temporary[64], from[96], reference[REFERENCE_MAX + 16];
    struct words words = {.nr = 0};
    int result;

    layout_temporary("push", temporary);
    snprintf(from, sizeof(from), "oci:%s", temporary);
    snprintf(reference, sizeof(reference), "docker://%s", to);
    copy_words(&words, options, "--dest-tls-verify=false", "--src-shared-blob-dir", from,
               reference);
    if ((result = make_layout(layout, temporary, target, err)) == 0)
        result = skopeo(&transfer, &words, err);
    if (result == 0) {
        for (size_t i = 0; i < sending->nr; i++)
            sending->blobs[i].sent = sending->blobs[i].bytes;
        snprintf(transfer.what, sizeof(transfer.what), "sent");
        show(&transfer);
    }
    tree_remove(layout->fd, temporary);
    return result;
}

static int push(const struct layout *layout, const char *name, const char *to,
                const struct import_options *options, struct err *err)
{
    CLEANUP(freep) struct layout_image *image = calloc(1, sizeof(*image));
    struct sending sending;
    int result;

    if (!image)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = layout_image_load(layout, name, image, err)) < 0)
        return result;
    if ((result = sending_init(&sending, &image->manifest)) < 0)
        err_set(err, result, "out of memory");
    else
        result = send(layout, &image->target, &sending, to, options, err);
    sending_done(&sending);
    layout_image_done(image);
    return result;
}

int image_push(const struct store *store, const char *name, const char *to,
               const struct import_options *options, struct err *err)
{
    char target[REFERENCE_MAX];
    CLEANUP(fd_closep) int lock = -1;
    struct layout layout;
    int result;

    if ((result = reference_normalize(to ? to : name, target, err)) < 0 ||
        (result = import_find(store, name, &layout, err)) < 0)
        return result;
    if ((lock = layout_lock(&layout, LAYOUT_ADD, err)) < 0)
        result = lock;
    else
        result = push(&layout, name, target, options, err);
    layout_close(&layout);
    return result < 0 ? err_wrap(err, "push '%s' to '%s'", name, target) : 0;
}
