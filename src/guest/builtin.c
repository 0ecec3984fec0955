/* SPDX-License-Identifier: Apache-2.0 */
/* Small readers of /proc and /sys; what they print is plain lines, for a reader that trusts none.
 */
#include "guest/builtin.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"
#include "copy/copy.h"
#include "guest/parts.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define COMMAND_MAX 512

static unsigned long long number_after(const char *text, const char *name)
{
    const char *at = strstr(text, name);

    return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static char *load(struct buf *text, const char *path)
{
    text->length = 0;
    return file_load(AT_FDCWD, path, text, NULL) == 0 ? buf_string(text) : NULL;
}

/* One line, unless it is the kernel's own (no command line) or gone. */
static void print_process(int pid, struct buf *text)
{
    unsigned long long user = 0, kernel = 0;
    char path[64], command[COMMAND_MAX], *name_end;
    long resident = 0;
    size_t length;

    snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
    if (!load(text, path) || !text->length)
        return;
    length = MIN(text->length, sizeof(command) - 1);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text->data[i];

        command[i] = (char)(c == 0 ? ' ' : c < 32 || c > 126 ? '?' : c);
    }
    while (length && command[length - 1] == ' ')
        length--;
    command[length] = '\0';
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    if (!load(text, path) || !(name_end = strrchr(text->data, ')')) ||
        sscanf(name_end + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d "
               "%*u %*u %ld",
               &user, &kernel, &resident) != 3)
        return;
    /* What a process of few pages has, the kernel's short form does not know yet. */
    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
    if (load(text, path) && number_after(text->data, "Rss:"))
        resident = (long)(number_after(text->data, "Rss:") * 1024 /
                          (unsigned long long)sysconf(_SC_PAGESIZE));
    printf("%d %llu %lld %s\n", pid,
           (user + kernel) * 1000 / (unsigned long long)sysconf(_SC_CLK_TCK),
           (long long)resident * sysconf(_SC_PAGESIZE), command);
}

/* This process, and the session that serves it. */
static bool is_ours(int pid)
{
    return pid == getpid() || pid == getppid();
}

static int top(struct buf *text)
{
    CLEANUP(dir_closep) DIR *dir = opendir("/proc");
    const struct dirent *entry;

    while (dir && (entry = readdir(dir)))
        if (isdigit((unsigned char)entry->d_name[0]) && !is_ours(atoi(entry->d_name)))
            print_process(atoi(entry->d_name), text);
    return dir ? 0 : 1;
}

/* All interfaces but the loopback; all disks but partitions of them. */
static void print_devices(struct buf *text)
{
    unsigned long long received = 0, sent = 0, read_bytes = 0, written_bytes = 0;
    char *line, *rest;

    for (line = load(text, "/proc/net/dev") ? strtok_r(text->data, "\n", &rest) : NULL; line;
         line = strtok_r(NULL, "\n", &rest)) {
        unsigned long long in, out;
        char name[64];

        if (sscanf(line, " %63[^:]: %llu %*u %*u %*u %*u %*u %*u %*u %llu", name, &in, &out) == 3 &&
            strcmp(name, "lo") != 0) {
            received += in;
            sent += out;
        }
    }
    for (line = load(text, "/proc/diskstats") ? strtok_r(text->data, "\n", &rest) : NULL; line;
         line = strtok_r(NULL, "\n", &rest)) {
        unsigned long long in, out;
        char name[64], path[128];

        if (sscanf(line, " %*u %*u %63s %*u %*u %llu %*u %*u %*u %llu", name, &in, &out) != 3)
            continue;
        snprintf(path, sizeof(path), "/sys/block/%s", name);
        if (access(path, F_OK) == 0) {
            read_bytes += in * 512;
            written_bytes += out * 512;
        }
    }
    printf("net_received_bytes %llu\nnet_sent_bytes %llu\nblock_read_bytes %llu\n"
           "block_written_bytes %llu\n",
           received, sent, read_bytes, written_bytes);
}

static int figures(struct buf *text)
{
    static const char *const pressures[] = {"cpu", "memory", "io"};
    unsigned long long tasks = 0, up, down;
    char path[64];

    if (load(text, "/proc/meminfo"))
        printf("memory_total_bytes %llu\nmemory_available_bytes %llu\n",
               number_after(text->data, "MemTotal:") * 1024,
               number_after(text->data, "MemAvailable:") * 1024);
    if (load(text, "/proc/loadavg") && sscanf(text->data, "%*s %*s %*s %llu/%llu", &up, &down) == 2)
        tasks = down;
    printf("tasks %llu\n", tasks);
    for (size_t i = 0; i < ARRAY_LEN(pressures); i++) {
        snprintf(path, sizeof(path), "/proc/pressure/%s", pressures[i]);
        if (load(text, path))
            printf("pressure_%s_some_us %llu\n", pressures[i], number_after(text->data, "total="));
    }
    print_devices(text);
    return 0;
}

static int stdout_write(const void *data, size_t length, void *context)
{
    (void)context;
    return file_write_full(STDOUT_FILENO, data, length);
}

static ssize_t stdin_read(void *data, size_t most, void *context)
{
    ssize_t n;

    (void)context;
    do
        n = read(STDIN_FILENO, data, most);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int copy(char *const *argv)
{
    struct copy_in_options options = {.keep_owner = argv[1] && argv[2] && !strcmp(argv[2], "keep")};
    CLEANUP(fd_closep) int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct err err = ERR_INIT;
    int result = argv[1] ? 0 : err_set(&err, -EINVAL, "a path is needed");

    if (result == 0 && !strcmp(argv[0], "copy-out"))
        result = copy_out(root, argv[1], stdout_write, NULL, NULL, &err);
    else if (result == 0)
        result = copy_in(root, argv[1], &options, stdin_read, NULL, NULL, &err);
    if (result < 0)
        fprintf(stderr, "%s\n", err.message);
    return result < 0 ? 1 : 0;
}

/* "net-attach MAC TEXT4 [TEXT6]", "net-detach MAC", "disk-attach SERIAL", "disk-detach SERIAL
 * [force]" */
static int part(char *const *argv)
{
    const char *second = argv[1] ? argv[2] : NULL;
    char disk[PARTS_DISK_MAX] = "";
    struct err err = ERR_INIT;
    int result;

    if (!argv[1] || (!strcmp(argv[0], "net-attach") && !second))
        result = err_set(&err, -EINVAL, "%s: a name and an address are needed", argv[0]);
    else if (!strcmp(argv[0], "net-attach"))
        result = parts_attach_net(argv[1], second, argv[3], &err);
    else if (!strcmp(argv[0], "net-detach"))
        result = parts_detach_net(argv[1], &err);
    else if (!strcmp(argv[0], "disk-attach"))
        result = parts_attach_disk(argv[1], disk, &err);
    else
        result = parts_detach_disk(argv[1], second && !strcmp(second, "force"), &err);
    if (result < 0)
        fprintf(stderr, "%s\n", err.message);
    else if (*disk)
        printf("%s\n", disk);
    return result == -EBUSY ? 2 : result < 0 ? 1 : 0;
}

int builtin_main(char *const *argv)
{
    CLEANUP(buf_donep) struct buf text;
    int status = 127;

    buf_init(&text, 4 << 20);
    if (!strcmp(argv[0], "top")) {
        status = top(&text);
    } else if (!strcmp(argv[0], "figures")) {
        status = figures(&text);
    } else if (!strcmp(argv[0], "sync")) {
        sync();
        status = 0;
    } else if (!strcmp(argv[0], "copy-out") || !strcmp(argv[0], "copy-in")) {
        status = copy(argv);
    } else if (!strcmp(argv[0], "net-attach") || !strcmp(argv[0], "net-detach") ||
               !strcmp(argv[0], "disk-attach") || !strcmp(argv[0], "disk-detach")) {
        status = part(argv);
    } else {
        fprintf(stderr, "the agent of this guest has no '%s'\n", argv[0]);
    }
    fflush(stdout);
    return status;
}
