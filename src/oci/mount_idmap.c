/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/mount_idmap.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"
#include "oci/id_map.h"
#include "oci/mount_options.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef MOUNT_ATTR_IDMAP
#define MOUNT_ATTR_IDMAP 0x00100000
#endif

/* A process that does nothing but hold a new user namespace. */
static pid_t hold_namespace(void)
{
    struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));

    if (pid != 0)
        return pid < 0 ? -errno : pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    for (;;)
        pause();
}

/* A user namespace with these maps; fd or -errno. */
static int open_namespace(const struct oci_id_map *uid_maps, size_t nr_uid_maps,
                          const struct oci_id_map *gid_maps, size_t nr_gid_maps)
{
    pid_t pid = hold_namespace();
    char path[64];
    int fd = -1, result;

    if (pid < 0)
        return pid;
    result = id_map_write_file(pid, "uid_map", uid_maps, nr_uid_maps);
    if (result == 0)
        result = id_map_write_file(pid, "gid_map", gid_maps, nr_gid_maps);
    if (result == 0) {
        snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        result = fd < 0 ? -errno : 0;
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return result < 0 ? result : fd;
}

static int prepare(const struct oci_spec *spec, struct oci_mount *mount,
                   const struct mount_options *options, int bundle_fd, struct err *err)
{
    bool own = mount->nr_uid_maps && mount->nr_gid_maps;
    CLEANUP(fd_closep) int namespace_fd = -1;
    CLEANUP(fd_closep) int tree = -1;
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_IDMAP};

    if ((!options->bind && mount->type) || !mount->source)
        return err_set(err, -EINVAL, "mount '%s': only a bind of a source can be id-mapped",
                       mount->destination);
    if (!own && (mount->nr_uid_maps || mount->nr_gid_maps))
        return err_set(err, -EINVAL, "mount '%s': uidMappings and gidMappings belong together",
                       mount->destination);
    if (!own && (!spec->nr_uid_maps || !spec->nr_gid_maps))
        return err_set(err, -EINVAL, "mount '%s': idmap needs mappings, its own or the container's",
                       mount->destination);
    namespace_fd = own ? open_namespace(mount->uid_maps, mount->nr_uid_maps, mount->gid_maps,
                                        mount->nr_gid_maps)
                       : open_namespace(spec->uid_maps, spec->nr_uid_maps, spec->gid_maps,
                                        spec->nr_gid_maps);
    if (namespace_fd < 0)
        return err_errno(err, namespace_fd, "mount '%s': id map", mount->destination);
    tree = open_tree(bundle_fd, mount->source,
                     OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
                         (options->recursive ? AT_RECURSIVE : 0u));
    if (tree < 0)
        return err_errno(err, -errno, "mount '%s': source '%s'", mount->destination, mount->source);
    attributes.userns_fd = (uint64_t)(unsigned)namespace_fd;
    if (mount_setattr(tree, "", AT_EMPTY_PATH | (options->idmap_recursive ? AT_RECURSIVE : 0),
                      &attributes, sizeof(attributes)) < 0)
        return err_errno(err, -errno, "mount '%s': id map on '%s'", mount->destination,
                         mount->source);
    mount->tree_fd = TAKE_FD(tree);
    return 0;
}

int mount_idmap_prepare(struct oci_spec *spec, int bundle_fd, struct err *err)
{
    int result = 0;

    for (size_t i = 0; result == 0 && i < spec->nr_mounts; i++) {
        struct oci_mount *mount = &spec->mounts[i];
        CLEANUP(mount_options_done) struct mount_options options = {0};

        if ((result = mount_options_parse(mount, &options, err)) < 0)
            return result;
        if (options.idmap || mount->nr_uid_maps || mount->nr_gid_maps)
            result = prepare(spec, mount, &options, bundle_fd, err);
    }
    return result;
}
