/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/id_map.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int id_map_write_file(pid_t pid, const char *file, const struct oci_id_map *maps, size_t length)
{
    CLEANUP(buf_donep) struct buf text;
    char path[64];
    int result = 0;

    buf_init(&text, 65536);
    if (!length)
        return 0;
    for (size_t i = 0; result == 0 && i < length; i++)
        result = buf_printf(&text, "%u %u %u\n", maps[i].container_id, maps[i].host_id,
                            maps[i].size);
    if (result == 0 && !buf_string(&text))
        result = -ENOMEM;
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    return result < 0 ? result : file_write_string(AT_FDCWD, path, text.data);
}

static int write_directly(pid_t pid, const char *file, const struct oci_id_map *maps, size_t length,
                          struct err *err)
{
    int result = id_map_write_file(pid, file, maps, length);

    return result < 0 ? err_errno(err, result, "write /proc/%d/%s", (int)pid, file) : 0;
}

/* program PID CONTAINER-ID HOST-ID SIZE... */
static int run_helper(const char *program, pid_t pid, const struct oci_id_map *maps, size_t length,
                      struct err *err)
{
    CLEANUP(freep) char **argv = calloc(3 * length + 3, sizeof(*argv));
    CLEANUP(freep) char *numbers = calloc(3 * length + 1, 16);
    int status = 0;
    pid_t helper;

    if (!argv || !numbers)
        return err_set(err, -ENOMEM, "%s: out of memory", program);
    argv[0] = (char *)(uintptr_t)program;
    for (size_t i = 0; i < 3 * length + 1; i++) {
        const struct oci_id_map *map = i ? &maps[(i - 1) / 3] : NULL;
        uint32_t triple[3] = {map ? map->container_id : 0, map ? map->host_id : 0,
                              map ? map->size : 0};

        argv[i + 1] = numbers + 16 * i;
        snprintf(argv[i + 1], 16, "%u", map ? triple[(i - 1) % 3] : (unsigned)pid);
    }
    helper = fork();
    if (helper == 0) {
        sigset_t none;

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execvp(program, argv);
        _exit(127);
    }
    if (helper < 0 || waitpid(helper, &status, 0) != helper)
        return err_errno(err, -errno, "run %s", program);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return err_set(err, -ENOENT,
                       "%s is not installed: without it only your own id can be mapped", program);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return err_set(err, -EPERM, "%s refused the mapping (see /etc/subuid and /etc/subgid)",
                       program);
    return 0;
}

/* What the kernel lets anybody map: one id, their own. */
static bool is_own_id(const struct oci_id_map *maps, size_t length, uint32_t id)
{
    return length == 1 && maps[0].size == 1 && maps[0].host_id == id;
}

static int write_gid_map(pid_t pid, const struct oci_spec *spec, struct err *err)
{
    char path[64];
    int result;

    if (geteuid() == 0)
        return write_directly(pid, "gid_map", spec->gid_maps, spec->nr_gid_maps, err);
    if (!is_own_id(spec->gid_maps, spec->nr_gid_maps, getegid()))
        return run_helper("newgidmap", pid, spec->gid_maps, spec->nr_gid_maps, err);
    /* Nobody may shed a group that was given to keep them out of something. */
    snprintf(path, sizeof(path), "/proc/%d/setgroups", (int)pid);
    if ((result = file_write_string(AT_FDCWD, path, "deny")) < 0)
        return err_errno(err, result, "write %s", path);
    return write_directly(pid, "gid_map", spec->gid_maps, spec->nr_gid_maps, err);
}

int id_map_write(pid_t pid, const struct oci_spec *spec, struct err *err)
{
    int result;

    if (geteuid() == 0 || is_own_id(spec->uid_maps, spec->nr_uid_maps, geteuid()))
        result = write_directly(pid, "uid_map", spec->uid_maps, spec->nr_uid_maps, err);
    else
        result = run_helper("newuidmap", pid, spec->uid_maps, spec->nr_uid_maps, err);
    return result < 0 ? result : write_gid_map(pid, spec, err);
}
