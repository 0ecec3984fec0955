/* SPDX-License-Identifier: Apache-2.0 */
/* Output cut into lines, each written with its time by one write(2). */
#include "shim/log_file.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A longer line is cut into parts. */
#define LINE_MAX_BYTES 16384

int log_file_open(struct log_file *log, const char *path, uint64_t most, struct err *err)
{
    struct stat st;

    *log = (struct log_file){.most = most};
    if (snprintf(log->path, sizeof(log->path), "%s", path) >= (int)sizeof(log->path))
        return err_set(err, -ENAMETOOLONG, "the log's path is too long");
    buf_init(&log->line[0], LINE_MAX_BYTES);
    buf_init(&log->line[1], LINE_MAX_BYTES);
    log->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log->fd < 0 || fstat(log->fd, &st) < 0)
        return err_errno(err, -errno, "open the log '%s'", path);
    log->size = (uint64_t)st.st_size;
    return 0;
}

static void turn_over(struct log_file *log)
{
    char old[PATH_MAX + 2];
    int fd;

    snprintf(old, sizeof(old), "%s.1", log->path);
    if (rename(log->path, old) < 0)
        return;
    fd = open(log->path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    close(log->fd);
    log->fd = fd;
    log->size = 0;
}

static bool write_entry(struct log_file *log, const char *stream, char flag, const char *text,
                        size_t length)
{
    char entry[LINE_MAX_BYTES + 128];
    struct timespec now;
    struct tm utc;
    size_t used;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    used = strftime(entry, sizeof(entry), "%Y-%m-%dT%H:%M:%S", &utc);
    used += (size_t)snprintf(entry + used, sizeof(entry) - used, ".%09ldZ %s %c ", now.tv_nsec,
                             stream, flag);
    length = MIN(length, sizeof(entry) - used - 1);
    memcpy(entry + used, text, length);
    used += length;
    entry[used++] = '\n';
    if (log->size + used > log->most)
        turn_over(log);
    if (log->fd < 0 || file_write_full(log->fd, entry, used) < 0)
        return false;
    log->size += used;
    return true;
}

static void put(struct log_file *log, unsigned stream, char flag, const char *text, size_t length)
{
    char note[80];

    if (log->dropped) {
        int n = snprintf(note, sizeof(note), "[%llu bytes of output could not be logged]",
                         (unsigned long long)log->dropped);

        if (!write_entry(log, "stderr", 'F', note, (size_t)n)) {
            log->dropped += length;
            return;
        }
        log->dropped = 0;
    }
    if (!write_entry(log, stream ? "stderr" : "stdout", flag, text, length))
        log->dropped += length;
}

static void flush(struct log_file *log, unsigned stream, char flag)
{
    struct buf *line = &log->line[stream];

    put(log, stream, flag, line->data ?: "", line->length);
    buf_consume(line, line->length);
}

void log_file_write(struct log_file *log, unsigned stream, const char *data, size_t length)
{
    struct buf *line = &log->line[stream];

    while (length) {
        const char *end = memchr(data, '\n', length);
        size_t part = end ? (size_t)(end - data) : length, room = LINE_MAX_BYTES - line->length;

        if (part > room) {
            part = room;
            end = NULL;
        }
        if (buf_append(line, data, part) < 0)
            log->dropped += part;
        data += part;
        length -= part;
        if (end) {
            flush(log, stream, 'F');
            data++;
            length--;
        } else if (line->length == LINE_MAX_BYTES) {
            flush(log, stream, 'P');
        }
    }
}

void log_file_close(struct log_file *log)
{
    for (unsigned stream = 0; stream < 2; stream++) {
        if (log->line[stream].length)
            flush(log, stream, 'P');
        buf_done(&log->line[stream]);
    }
    if (log->fd >= 0)
        close(log->fd);
    log->fd = -1;
}
