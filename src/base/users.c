/* SPDX-License-Identifier: Apache-2.0 */
/* Line by line through the image's own files, in place, without the C library's databases. */
#include "base/users.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define DATABASE_MAX (4u << 20)
#define FIELDS_MAX   7

/* Splits one line in place at ':'; returns the number of fields. */
static size_t split(char *line, char *fields[FIELDS_MAX])
{
    size_t nr = 0;

    while (nr < FIELDS_MAX) {
        fields[nr++] = line;
        if (!(line = strchr(line, ':')))
            break;
        *line++ = '\0';
    }
    return nr;
}

static bool parse_id(const char *text, uint32_t *ret)
{
    uint64_t value = 0;

    if (!*text || strlen(text) > 10)
        return false;
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text))
            return false;
        value = value * 10 + (uint64_t)(*text - '0');
    }
    if (value >= UINT32_MAX)
        return false;
    *ret = (uint32_t)value;
    return true;
}

/* The database's text, empty when the image has none. NULL: unreadable or over the cap. */
static char *load(int root_fd, const char *path, struct buf *buf)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    CLEANUP(fd_closep) int fd = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
    struct stat st;
    ssize_t n;

    buf_init(buf, DATABASE_MAX);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? buf_string(buf) : NULL;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size >= DATABASE_MAX ||
        buf_reserve(buf, (size_t)st.st_size + 1) < 0)
        return NULL;
    if ((n = file_read_full(fd, buf->data, (size_t)st.st_size)) < 0)
        return NULL;
    buf->length = (size_t)n;
    return buf_string(buf);
}

/* Finds name (or the number it is) in passwd; *ret_login points into text. False: no such line. */
static bool passwd_find(char *text, const char *name, struct user *user, const char **ret_login)
{
    uint32_t wanted, uid, gid;
    bool numeric = parse_id(name, &wanted);
    char *rest, *line;

    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *fields[FIELDS_MAX];

        if (split(line, fields) < 6 || !parse_id(fields[2], &uid) || !parse_id(fields[3], &gid))
            continue;
        if (strcmp(fields[0], name) != 0 && !(numeric && uid == wanted))
            continue;
        user->uid = uid;
        user->gid = gid;
        *ret_login = fields[0];
        snprintf(user->home, sizeof(user->home), "%s", fields[5]);
        return true;
    }
    return false;
}

static bool list_has(const char *list, const char *name)
{
    size_t length = strlen(name);

    while (length && (list = strstr(list, name))) {
        if (list[length] == ',' || list[length] == '\0')
            return true;
        list += length;
    }
    return false;
}

/* Looks for `group` (may be NULL), and gathers the groups that list `member`. */
static bool group_scan(char *text, const char *group, const char *member, struct user *user)
{
    bool found = false;
    uint32_t gid;
    char *rest, *line;

    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *fields[FIELDS_MAX];

        if (split(line, fields) < 4 || !parse_id(fields[2], &gid))
            continue;
        if (group && !found && !strcmp(fields[0], group)) {
            user->gid = gid;
            found = true;
        }
        if (!group && user->nr_groups < USERS_GROUPS_MAX && list_has(fields[3], member))
            user->groups[user->nr_groups++] = gid;
    }
    return found;
}

int user_find(int root_fd, const char *spec, struct user *ret, struct err *err)
{
    CLEANUP(buf_donep) struct buf passwd = {0};
    CLEANUP(buf_donep) struct buf groups = {0};
    struct user user = {.home = "/"};
    char name[128];
    const char *group = strchr(spec, ':');
    char *passwd_text, *group_text;
    const char *login = "";
    uint32_t id;

    if (snprintf(name, sizeof(name), "%.*s", group ? (int)(group - spec) : 1000, spec) >=
        (int)sizeof(name))
        return err_set(err, -EINVAL, "the user name '%.40s...' is too long", spec);
    if (!*name)
        snprintf(name, sizeof(name), "0");
    group = group ? group + 1 : NULL;
    if (!(passwd_text = load(root_fd, "etc/passwd", &passwd)) ||
        !(group_text = load(root_fd, "etc/group", &groups)))
        return err_set(err, -EINVAL, "the image's /etc/passwd or /etc/group cannot be read");
    if (!passwd_find(passwd_text, name, &user, &login)) {
        if (!parse_id(name, &id))
            return err_set(err, -ESRCH, "the image has no user '%s' in /etc/passwd", name);
        user.uid = id;
        if (id == 0)
            snprintf(user.home, sizeof(user.home), "/root");
    }
    if (group && parse_id(group, &id))
        user.gid = id;
    else if (!group_scan(group_text, group, login, &user) && group)
        return err_set(err, -ESRCH, "the image has no group '%s' in /etc/group", group);
    *ret = user;
    return 0;
}
