/* SPDX-License-Identifier: Apache-2.0 */
/* Fields are found by counting colons within one line; a line that is not well-formed is passed
 * over. */
#include "oci/passwd.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/util.h"
#include "oci/inroot.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PASSWD_SIZE_MAX (8 * MIB)

/* Field `index` (from 0) of a line; its length in *ret_length. NULL when there are fewer. */
static const char *field_of(const char *line, size_t length, unsigned index, size_t *ret_length)
{
    const char *end = line + length;

    for (; index; index--) {
        line = memchr(line, ':', (size_t)(end - line));
        if (!line)
            return NULL;
        line++;
    }
    length = (size_t)(end - line);
    end = memchr(line, ':', length);
    *ret_length = end ? (size_t)(end - line) : length;
    return line;
}

/* All digits and within range, or not this line. */
static int is_uid(const char *field, size_t length, uid_t uid)
{
    uint64_t value = 0;

    if (length == 0 || length > 10)
        return 0;
    for (size_t i = 0; i < length; i++) {
        if (!isdigit((unsigned char)field[i]))
            return 0;
        value = value * 10 + (uint64_t)(field[i] - '0');
    }
    return value == uid;
}

char *passwd_home_in(const char *text, size_t length, uid_t uid)
{
    const char *end = text + length;

    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        size_t line_length = (size_t)((newline ? newline : end) - text);
        size_t uid_length = 0, home_length = 0;
        const char *id = field_of(text, line_length, 2, &uid_length);
        const char *home = field_of(text, line_length, 5, &home_length);

        if (id && home && is_uid(id, uid_length, uid))
            return home_length && home[0] == '/' ? strndup(home, home_length) : NULL;
        text += line_length + 1;
    }
    return NULL;
}

/* It is the image's file: what is no ordinary one (a FIFO that nobody writes to, a device) is
 * neither waited for nor read. */
static int load(struct buf *ret)
{
    CLEANUP(fd_closep)
    int fd = inroot_open_inside("/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || (size_t)st.st_size > PASSWD_SIZE_MAX ||
        buf_reserve(ret, (size_t)st.st_size) < 0)
        return -EINVAL;
    n = file_read_full(fd, ret->data, (size_t)st.st_size);
    ret->length = n > 0 ? (size_t)n : 0;
    return 0;
}

char *passwd_home(uid_t uid)
{
    CLEANUP(buf_donep) struct buf text;
    char *home = NULL;

    buf_init(&text, PASSWD_SIZE_MAX);
    if (load(&text) == 0 && text.length)
        home = passwd_home_in(text.data, text.length, uid);
    return home ? home : strdup("/");
}
