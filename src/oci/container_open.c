/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/container_open.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/util.h"
#include "oci/cgroup_processes.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

int container_open(const char *root, const char *id, int *ret_dir_fd, struct container_state **ret,
                   struct err *err)
{
    CLEANUP(fd_closep) int fd = state_open(root, id, err);
    int result;

    if (fd < 0)
        return fd;
    if ((result = state_load(fd, ret, err)) < 0)
        return err_wrap(err, "container '%s'", id);
    *ret_dir_fd = TAKE_FD(fd);
    return 0;
}

enum container_status container_status(int dir_fd, const struct container_state *state)
{
    enum container_status status = state_status(dir_fd, state);

    if (status == CONTAINER_RUNNING && state->cgroup_path && cgroup_is_frozen(state->cgroup_path))
        return CONTAINER_PAUSED;
    return status;
}

int container_open_process(const struct container_state *state)
{
    CLEANUP(fd_closep)
    int fd = state->pid > 0 ? (int)syscall(SYS_pidfd_open, state->pid, 0) : -1;
    uint64_t start_time;

    if (fd < 0 || state_pid_start_time(state->pid, &start_time) < 0 ||
        start_time != state->pid_start_time)
        return -ESRCH;
    return TAKE_FD(fd);
}

int container_load_config(const struct container_state *state, json_t **ret, struct err *err)
{
    int result;

    if (!state->config)
        return err_set(err, -ENOENT, "container '%s': its configuration is missing", state->id);
    if ((result = json_parse(state->config, state->config_length, "config.json", ret, err)) < 0)
        return err_wrap(err, "container '%s'", state->id);
    return 0;
}
