/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making, locking, removing and sweeping the directories of runs. The lock is an flock held by
 * lodge and its keeper: it is free exactly when both are gone.
 */
#include "cmd/run_dir.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "cmd/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

/* A directory that was never renamed into its place is dead after this long. */
#define UNFINISHED_S 60

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    remove(path);
    return 0;
}

static void remove_tree(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* Ends and removes the container whose state is below the directory, if there is one. */
static void remove_container(const char *path, const char *id, const char *oci_program)
{
    char root[PATH_MAX + 8], state[PATH_MAX + 80];
    pid_t pid;

    snprintf(root, sizeof(root), "%s/oci", path);
    snprintf(state, sizeof(state), "%s/%s", root, id);
    if (!*oci_program || access(state, F_OK) < 0)
        return;
    if ((pid = fork()) == 0) {
        int null = open("/dev/null", O_RDWR);

        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        execl(oci_program, oci_program, "--root", root, "delete", "--force", id, (char *)NULL);
        _exit(127);
    }
    if (pid > 0)
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            continue;
}

static void remove_run(const char *path, const char *id, const char *oci_program)
{
    remove_container(path, id, oci_program);
    remove_tree(path);
}

static void base_name(char ret[PATH_MAX])
{
    const char *given = getenv("LODGE_RUNTIME"), *xdg = getenv("XDG_RUNTIME_DIR");

    if (given && *given)
        snprintf(ret, PATH_MAX, "%s", given);
    else if (geteuid() == 0)
        snprintf(ret, PATH_MAX, "/run/lodge");
    else if (xdg && *xdg == '/')
        snprintf(ret, PATH_MAX, "%s/lodge", xdg);
    else
        snprintf(ret, PATH_MAX, "/tmp/lodge-%u", (unsigned)geteuid());
}

static int base_path(char ret[PATH_MAX], struct err *err)
{
    struct stat st;

    base_name(ret);
    if (mkdir(ret, 0700) < 0 && errno != EEXIST)
        return err_errno(err, -errno,
                         "make the runtime directory '%s' (LODGE_RUNTIME names another)", ret);
    if (lstat(ret, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
        return err_set(err, -EPERM, "the runtime directory '%s' is not a directory of ours", ret);
    return 0;
}

/* The lock of a run, or -EWOULDBLOCK while its owner lives. */
static int lock_run(const char *path, int flags)
{
    char lock[PATH_MAX + 8];
    CLEANUP(fd_closep) int fd = -1;

    snprintf(lock, sizeof(lock), "%s/lock", path);
    if ((fd = open(lock, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600)) < 0)
        return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return -errno;
    return TAKE_FD(fd);
}

static void sweep(const char *base, const char *oci_program)
{
    CLEANUP(dir_closep) DIR *dir = opendir(base);
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        char path[PATH_MAX];
        struct stat st;
        int fd;

        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
            snprintf(path, sizeof(path), "%s/%s", base, entry->d_name) >= (int)sizeof(path) ||
            lstat(path, &st) < 0 || !S_ISDIR(st.st_mode))
            continue;
        if (entry->d_name[0] == '.') {
            if (time(NULL) - st.st_ctime > UNFINISHED_S)
                remove_tree(path);
            continue;
        }
        fd = lock_run(path, 0);
        if (fd >= 0 || fd == -ENOENT)
            remove_run(path, entry->d_name, oci_program);
        if (fd >= 0)
            close(fd);
    }
}

static _Noreturn void keeper_main(const struct run_dir *dir, const char *oci_program, int pipe_fd,
                                  struct terminal *terminal)
{
    sigset_t all;
    char byte;
    ssize_t n;
    int null = open("/dev/null", O_RDWR);

    prctl(PR_SET_NAME, "lodge-keeper");
    setsid();
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    /* Whoever reads our standard output waits for its end: it must not be us who holds it open. */
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    do
        n = read(pipe_fd, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 0) {
        terminal_restore(terminal);
        sigemptyset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        remove_run(dir->path, dir->id, oci_program);
    }
    _exit(0);
}

/* The keeper must not inherit the end that only lodge may hold. */
static int start_keeper(struct run_dir *dir, const char *oci_program, struct err *err)
{
    struct terminal terminal;
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(err, -errno, "pipe");
    terminal_save(&terminal);
    if ((dir->keeper = fork()) < 0) {
        close(ends[0]);
        close(ends[1]);
        terminal_forget(&terminal);
        return err_errno(err, -errno, "start a process");
    }
    if (dir->keeper == 0) {
        close(ends[1]);
        close(dir->lock_fd);
        keeper_main(dir, oci_program, ends[0], &terminal);
    }
    terminal_forget(&terminal);
    close(ends[0]);
    dir->keeper_fd = ends[1];
    return 0;
}

static int make_id(const char *name, char *ret, size_t size)
{
    uint32_t random[2];

    if (name) {
        snprintf(ret, size, "%s", name);
        return 0;
    }
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return -EIO;
    snprintf(ret, size, "%08x%04x", random[0], random[1] & 0xffff);
    return 0;
}

int run_dir_create(const char *name, const char *oci_program, struct run_dir *ret, struct err *err)
{
    struct run_dir dir = {.lock_fd = -1, .keeper_fd = -1};
    char base[PATH_MAX], young[PATH_MAX];
    int result;

    if ((result = base_path(base, err)) < 0)
        return result;
    if ((result = make_id(name, dir.id, sizeof(dir.id))) < 0)
        return err_errno(err, result, "choose an id");
    sweep(base, oci_program);
    if (snprintf(dir.path, sizeof(dir.path), "%s/%s", base, dir.id) >= 80 ||
        snprintf(young, sizeof(young), "%s/.%s.%d", base, dir.id, (int)getpid()) >= PATH_MAX)
        return err_set(err, -ENAMETOOLONG,
                       "the runtime directory '%s' has too long a path for sockets", base);
    if (mkdir(young, 0700) < 0)
        return err_errno(err, -errno, "make '%s'", young);
    if ((dir.lock_fd = lock_run(young, O_CREAT)) < 0) {
        result = err_errno(err, dir.lock_fd, "make '%s/lock'", young);
        rmdir(young);
        return result;
    }
    /* An empty directory would be replaced; a run's never is. */
    if (rename(young, dir.path) < 0) {
        result = errno == ENOTEMPTY || errno == EEXIST
                     ? err_set(err, -EEXIST, "the name '%s' is in use by another run", dir.id)
                     : err_errno(err, -errno, "make '%s'", dir.path);
        remove_tree(young);
        close(dir.lock_fd);
        return result;
    }
    if ((result = start_keeper(&dir, oci_program, err)) < 0) {
        remove_tree(dir.path);
        close(dir.lock_fd);
        return result;
    }
    *ret = dir;
    return 0;
}

void run_dir_done(struct run_dir *dir)
{
    if (!*dir->path)
        return;
    remove_tree(dir->path);
    (void)!write(dir->keeper_fd, "q", 1);
    while (waitpid(dir->keeper, NULL, 0) < 0 && errno == EINTR)
        continue;
    close(dir->keeper_fd);
    close(dir->lock_fd);
    dir->path[0] = '\0';
}

int run_dir_path(const struct run_dir *dir, const char *name, char ret[PATH_MAX], struct err *err)
{
    if (snprintf(ret, PATH_MAX, "%s/%s", dir->path, name) >= PATH_MAX)
        return err_set(err, -ENAMETOOLONG, "the runtime directory's path is too long");
    return 0;
}

int run_dir_each(void (*each)(const char *id, const char *path, void *context), void *context,
                 struct err *err)
{
    char base[PATH_MAX];
    const struct dirent *entry;
    CLEANUP(dir_closep) DIR *dir = NULL;

    base_name(base);
    if (!(dir = opendir(base)))
        return errno == ENOENT ? 0 : err_errno(err, -errno, "read '%s'", base);
    while ((entry = readdir(dir))) {
        char path[PATH_MAX];
        int fd;

        if (entry->d_name[0] == '.' ||
            snprintf(path, sizeof(path), "%s/%s", base, entry->d_name) >= (int)sizeof(path))
            continue;
        fd = lock_run(path, 0);
        if (fd == -EWOULDBLOCK)
            each(entry->d_name, path, context);
        if (fd >= 0)
            close(fd);
    }
    return 0;
}
