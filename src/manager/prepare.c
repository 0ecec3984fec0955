/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must be on the disk before an instance can start, written anew at each start: directories,
 * the bundle or the command of a VM, and the shim's configuration. And taking it all away.
 *
 *      STATE/instances/ID/{upper,work}   the container's writable layer     stay until `rm`
 *      STATE/instances/ID/root.ext4      the VM's
 *      STATE/instances/ID/{log,log.1,exit}
 *      RUN/i/ID/{lock,sock,shim.json,config.json,rootfs/,pid,tty,log}       of one run
 *      RUN/oci/ID                        lodge-oci's own state
 */
#include "image/vdisk.h"
#include "manager/internal.h"
#include "manager/pins.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/util.h"
#include "shim_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LOG_MAX (16 * MIB)

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)ftw;
    /* Of an ordinary user's: what its container closed to itself. */
    if (type == FTW_DNR && geteuid() != 0 && chmod(path, 0700) == 0)
        nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    remove(path);
    return 0;
}

void files_remove(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static int make_dir(const char *path, mode_t mode, struct err *err)
{
    if (mkdir(path, mode) < 0 && errno != EEXIST)
        return err_errno(err, -errno, "make '%s'", path);
    return 0;
}

/* The writable layer begins with the owner and mode of the image's root directory. */
int prepare_layer(struct manager *m, const char *id, const char *image_root, struct err *err)
{
    char dir[PATH_SIZE], upper[PATH_SIZE], work[PATH_SIZE];
    struct stat st;
    int result;

    manager_path(m, dir, sizeof(dir), "instances/%s", id);
    manager_path(m, upper, sizeof(upper), "instances/%s/upper", id);
    manager_path(m, work, sizeof(work), "instances/%s/work", id);
    if ((result = make_dir(dir, 0700, err)) < 0 || (result = make_dir(work, 0700, err)) < 0)
        return result;
    if (mkdir(upper, 0755) < 0)
        return errno == EEXIST ? 0 : err_errno(err, -errno, "make '%s'", upper);
    /* An ordinary user's is their own. */
    if (stat(image_root, &st) < 0 || (geteuid() == 0 && chown(upper, st.st_uid, st.st_gid) < 0) ||
        chmod(upper, st.st_mode & 07777) < 0)
        return err_errno(err, -errno, "make '%s'", upper);
    return 0;
}

/* An ordinary user's container cannot make the mount point in a directory of an image that belongs
 * to root: it stands in the layer before. Nothing there is followed; what cannot be made is found
 * missing by the runtime. */
static void make_resolv_conf(const char *upper)
{
    CLEANUP(fd_closep) int layer = open(upper, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    CLEANUP(fd_closep) int etc = -1, file = -1;

    mkdirat(layer, "etc", 0755);
    etc = openat(layer, "etc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    file = openat(etc, "resolv.conf", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
}

int prepare_layers(const struct image *image, struct buf *lower, char users[PATH_MAX])
{
    snprintf(users, PATH_MAX, "%s", image->rootfs);
    for (size_t i = image->nr_layers; i-- > 0;) {
        char passwd[PATH_MAX + 16];
        struct stat st;

        snprintf(passwd, sizeof(passwd), "%s/etc/passwd", image->layers[i].path);
        if (lstat(passwd, &st) == 0 && S_ISREG(st.st_mode))
            snprintf(users, PATH_MAX, "%s", image->layers[i].path);
    }
    for (size_t i = 0; i < image->nr_layers; i++)
        if (buf_printf(lower, "%s%s", i ? ":" : "", image->layers[i].path) < 0)
            return -ENOMEM;
    if (!image->nr_layers && buf_append_string(lower, image->rootfs) < 0)
        return -ENOMEM;
    return buf_string(lower) ? 0 : -ENOMEM;
}

struct launch_request prepare_request(const struct spec *spec)
{
    return (struct launch_request){.argv = spec->command,
                                   .env = (const char *const *)spec->env,
                                   .nr_env = spec->nr_env,
                                   .cwd = spec->cwd,
                                   .user = spec->user,
                                   .term = spec->tty ? "xterm" : NULL};
}

static int write_container(struct manager *m, const struct instance *instance,
                           const struct spec *spec, const struct image *image,
                           const struct network_place *place, struct err *err)
{
    struct launch_request request = prepare_request(spec);
    char upper[PATH_SIZE], work[PATH_SIZE], config[PATH_SIZE], rootfs[PATH_SIZE];
    char cgroup[ENVIRONMENT_PATH_MAX];
    char users[PATH_MAX];
    CLEANUP(buf_donep) struct buf lower;
    struct launch_command command;
    struct bundle bundle = {.command = &command,
                            .image_root = users,
                            .hostname = spec->hostname ?: instance->id,
                            .cgroup = cgroup,
                            .tty = spec->tty,
                            .volumes = spec->volumes,
                            .nr_volumes = spec->nr_volumes,
                            .upper = upper,
                            .work = work,
                            .network_namespace = place && !place->user ? place->namespace : NULL,
                            .resolv_conf = place ? place->resolv_conf : NULL,
                            .network_program = place && place->user ? m->options.lodge : NULL,
                            .network_text = place ? place->user : NULL,
                            .rootless = geteuid() != 0};
    int result;

    manager_path(m, upper, sizeof(upper), "instances/%s/upper", instance->id);
    manager_path(m, work, sizeof(work), "instances/%s/work", instance->id);
    run_path(m, config, sizeof(config), "i/%s/config.json", instance->id);
    run_path(m, rootfs, sizeof(rootfs), "i/%s/rootfs", instance->id);
    instance_cgroup_path(m, instance, cgroup);
    spec_limits(spec, &bundle.limits);
    buf_init(&lower, 1 << 20);
    if (prepare_layers(image, &lower, users) < 0)
        return err_set(err, -ENOMEM, "out of memory");
    bundle.lower = lower.data;
    if ((result = make_dir(rootfs, 0755, err)) < 0 ||
        (result = prepare_layer(m, instance->id, image->rootfs, err)) < 0 ||
        (result = launch_command_build(&request, image, &command, err)) < 0)
        return result;
    if (bundle.rootless && place)
        make_resolv_conf(upper);
    result = bundle_write(&bundle, config, err);
    launch_command_done(&command);
    return result;
}

static void add(json_t *list, const char *text)
{
    json_array_append_new(list, json_string(text));
}

static void add_option(json_t *list, const char *option, const char *value)
{
    if (!value)
        return;
    add(list, option);
    add(list, value);
}

static int add_disks(const struct manager *m, const struct spec *spec, json_t *argv,
                     struct err *err)
{
    int result = 0;

    for (unsigned i = 0; i < spec->nr_disks; i++) {
        char id[HARDWARE_ID_MAX + 1];
        struct vdisk disk;

        if ((result = hardware_find_disk(m, &spec->disks[i], &disk, err)) < 0)
            return result;
        hardware_disk_id(spec->disks[i].disk, id);
        add(argv, "--disk");
        json_array_append_new(argv, json_sprintf("%s,%s%s,%s", id, disk.qcow2 ? "qcow2" : "raw",
                                                 spec->disks[i].read_only ? ",ro" : "", disk.path));
    }
    return 0;
}

/* A VM's session is `lodge run --vm`, which knows all that there is to know about it. */
static int vm_runtime(const struct manager *m, const struct instance *instance,
                      const struct spec *spec, json_t **ret, struct err *err)
{
    json_t *argv = json_array();
    char number[32], layer[PATH_SIZE];
    int result;

    add(argv, m->options.lodge);
    add(argv, "run");
    add(argv, "--vm");
    add(argv, "--quiet");
    add(argv, "--balloon");
    add(argv, "--hotplug");
    if ((result = add_disks(m, spec, argv, err)) < 0) {
        json_decref(argv);
        return result;
    }
    add_option(argv, "--name", "vm");
    add_option(argv, "--hostname", spec->hostname ?: instance->id);
    add_option(argv, "--engine", spec->engine);
    add_option(argv, "--kernel", spec->kernel);
    if (!spec->auto_remove) { /* what it writes outlives this run */
        manager_path(m, layer, sizeof(layer), "instances/%s/root.ext4", instance->id);
        add_option(argv, "--root-layer", layer);
    }
    add_option(argv, "--net", spec->network);
    add_option(argv, "--ip", spec->address4);
    for (size_t i = 0; i < spec->nr_more; i++)
        add_option(argv, "--join", spec->more[i]);
    for (size_t i = 0; i < spec->nr_ports; i++)
        add_option(argv, "--publish", spec->ports[i]);
    add_option(argv, "--workdir", spec->cwd);
    add_option(argv, "--user", spec->user);
    if (spec->memory_bytes) {
        snprintf(number, sizeof(number), "%llu", (unsigned long long)spec->memory_bytes);
        add_option(argv, "--memory", number);
    }
    if (spec->cpu_millis) {
        snprintf(number, sizeof(number), "%llu",
                 (unsigned long long)((spec->cpu_millis + 999) / 1000));
        add_option(argv, "--cpus", number);
    }
    if (spec->tty)
        add(argv, "-t");
    if (spec->stdin_open)
        add(argv, "-i");
    for (size_t i = 0; i < spec->nr_env; i++)
        add_option(argv, "--env", spec->env[i]);
    for (size_t i = 0; i < spec->nr_volumes; i++) {
        add(argv, "--volume");
        json_array_append_new(argv, json_sprintf("%s:%s%s", spec->volumes[i].source,
                                                 spec->volumes[i].target,
                                                 spec->volumes[i].read_only ? ":ro" : ""));
    }
    add(argv, spec->image);
    for (size_t i = 0; spec->command[i]; i++)
        add(argv, spec->command[i]);
    *ret = argv;
    return 0;
}

static json_t *container_runtime(const struct manager *m, const struct instance *instance, bool tty)
{
    char bundle[PATH_SIZE], root[PATH_SIZE], pid[PATH_SIZE], log[PATH_SIZE], console[PATH_SIZE];
    json_t *argv = json_array();

    run_path(m, bundle, sizeof(bundle), "i/%s", instance->id);
    run_path(m, root, sizeof(root), "oci");
    run_path(m, pid, sizeof(pid), "i/%s/pid", instance->id);
    run_path(m, log, sizeof(log), "i/%s/log", instance->id);
    run_path(m, console, sizeof(console), "i/%s/tty", instance->id);
    add(argv, m->options.oci);
    add_option(argv, "--root", root);
    add_option(argv, "--log", log);
    add_option(argv, "--log-format", "json");
    add(argv, "run");
    add(argv, "--detach");
    add_option(argv, "--bundle", bundle);
    add_option(argv, "--pid-file", pid);
    if (tty)
        add_option(argv, "--console-socket", console);
    add(argv, instance->id);
    return argv;
}

/* What programs of ours need of the manager's environment, and no more. */
static json_t *shim_environment(const struct manager *m, const struct instance *instance)
{
    static const char *const passed[] = {"PATH",          "HOME",           "LODGE_HOME",
                                         "LODGE_VMM",     "LODGE_INIT",     "XDG_DATA_HOME",
                                         "LODGE_VOLUMES", "LODGE_NETWORKS", "TMPDIR"};
    char runtime[PATH_SIZE];
    json_t *env = json_array();

    for (size_t i = 0; i < ARRAY_LEN(passed); i++)
        if (getenv(passed[i]))
            json_array_append_new(env, json_sprintf("%s=%s", passed[i], getenv(passed[i])));
    run_path(m, runtime, sizeof(runtime), "i/%s", instance->id);
    json_array_append_new(env, json_sprintf("LODGE_RUNTIME=%s/v", runtime));
    json_array_append_new(env, json_sprintf("LODGE_ENDPOINT=%s", instance->name));
    run_path(m, runtime, sizeof(runtime), "i/%s/lock", instance->id);
    json_array_append_new(env, json_sprintf("LODGE_ENDPOINT_LOCK=%s", runtime));
    add(env, "LODGE_READY_FD=3");
    return env;
}

static void put_path(json_t *object, const char *name, const char *path)
{
    json_object_set_new(object, name, json_string(path));
}

static int write_shim_config(struct manager *m, const struct instance *instance,
                             const struct spec *spec, uint64_t run, bool client, struct err *err)
{
    json_t *config, *argv, *enter;
    char path[PATH_SIZE], cgroup[ENVIRONMENT_PATH_MAX];
    CLEANUP(freep) char *text = NULL;
    int result;

    if (!spec->vm)
        argv = container_runtime(m, instance, spec->tty);
    else if ((result = spec->hardware ? hardware_prepare(m, instance, spec, &argv, err)
                                      : vm_runtime(m, instance, spec, &argv, err)) < 0)
        return result;
    if ((result = environment_prepare(m, instance, &enter, err)) < 0) {
        json_decref(argv);
        return result;
    }
    config = json_object();
    json_object_set_new(config, "enter", enter);
    put_path(config, "id", instance->id);
    json_object_set_new(config, "run", json_integer((json_int_t)run));
    json_object_set_new(config, "runtime", argv);
    put_path(config, "program", spec->vm ? "" : m->options.oci);
    run_path(m, path, sizeof(path), "oci");
    put_path(config, "root", path);
    run_path(m, path, sizeof(path), "i/%s/pid", instance->id);
    put_path(config, "pid_file", path);
    run_path(m, path, sizeof(path), "i/%s/tty", instance->id);
    put_path(config, "console_socket", path);
    run_path(m, path, sizeof(path), "i/%s/sock", instance->id);
    put_path(config, "socket", path);
    run_path(m, path, sizeof(path), "i/%s/log", instance->id);
    put_path(config, "runtime_log", spec->vm ? "" : path);
    manager_path(m, path, sizeof(path), "instances/%s/exit", instance->id);
    put_path(config, "exit_file", path);
    manager_path(m, path, sizeof(path), "instances/%s/log", instance->id);
    put_path(config, "log_file", path);
    instance_cgroup_path(m, instance, cgroup);
    put_path(config, "cgroup", spec->vm || geteuid() != 0 ? "" : cgroup);
    run_path(m, path, sizeof(path), "i/%s/v/vm/vsock", instance->id);
    put_path(config, "agent_socket", spec->vm ? path : "");
    json_object_set_new(config, "env", shim_environment(m, instance));
    json_object_set_new(config, "log_max", json_integer(LOG_MAX));
    json_object_set_new(config, "tty", json_boolean(spec->tty));
    json_object_set_new(config, "stdin", json_boolean(spec->stdin_open || spec->hardware));
    json_object_set_new(config, "foreground", json_boolean(spec->vm));
    json_object_set_new(config, "client", json_boolean(client));
    text = json_text(config, JSON_COMPACT);
    json_decref(config);
    if (!text)
        return err_set(err, -EINVAL, "a path is not UTF-8");
    run_path(m, path, sizeof(path), "i/%s/shim.json", instance->id);
    return file_replace_unsynced(AT_FDCWD, path, text, strlen(text), 0600, err);
}

void prepare_clear(struct manager *m, const struct instance *instance)
{
    static const char *const names[] = {"pid", "log", "tty", "sock"};
    char path[PATH_SIZE];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        run_path(m, path, sizeof(path), "i/%s/%s", instance->id, names[i]);
        unlink(path);
    }
    run_path(m, path, sizeof(path), "oci/%s", instance->id);
    if (access(path, F_OK) == 0) {
        const char *words[] = {"delete", "--force", instance->id, NULL};

        runtime_run(m, words, NULL, NULL, NULL);
    }
}

/* In this order: what can be refused comes first. */
static int prepare_container(struct manager *m, const struct instance *instance, struct spec *spec,
                             const struct image *image, struct volume_holds *holds, struct err *err)
{
    struct network_place place = {.user = NULL};
    bool networked = spec_is_networked(spec), user = spec_is_user_network(spec);
    int result;

    if ((result = volumes_take(m, instance, spec, holds, err)) < 0 ||
        (networked && (result = networks_join(m, instance, spec, &place, err)) < 0) ||
        (user && (result = networks_user_mode(m, instance, spec, &place, err)) < 0))
        return result;
    result = write_container(m, instance, spec, image, networked || user ? &place : NULL, err);
    free(place.user);
    return result;
}

int prepare_instance(struct manager *m, const struct instance *instance, uint64_t run, bool client,
                     struct volume_holds *holds, struct err *err)
{
    char dir[PATH_SIZE];
    struct image *image = calloc(1, sizeof(*image));
    struct spec spec;
    int result;

    if (!image)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = spec_parse_text(instance->spec, &spec, err)) < 0) {
        free(image);
        return result;
    }
    pins_resolve(m, instance->id, &spec);
    manager_path(m, dir, sizeof(dir), "instances/%s", instance->id);
    prepare_clear(m, instance);
    if ((result = make_dir(dir, 0700, err)) == 0 && spec.hardware) {
        result = write_shim_config(m, instance, &spec, run, client, err);
    } else if (result == 0 &&
               (result = image_open(m->options.images, spec.image, image, err)) == 0) {
        if (!spec.vm)
            result = prepare_container(m, instance, &spec, image, holds, err);
        else if (spec_is_networked(&spec))
            result = networks_expect(m, &spec, err);
        if (result == 0)
            result = write_shim_config(m, instance, &spec, run, client, err);
        image_done(image);
    }
    spec_done(&spec);
    free(image);
    return result;
}

int prepare_process(struct manager *m, const struct spec *spec, pid_t pid, uint16_t rows,
                    uint16_t cols, json_t **ret, struct err *err)
{
    struct launch_request request = prepare_request(spec);
    struct image *image = calloc(1, sizeof(*image));
    CLEANUP(buf_donep) struct buf lower;
    struct launch_command command;
    char root[PATH_MAX];
    struct bundle bundle = {
        .command = &command, .image_root = root, .tty = spec->tty, .rows = rows, .cols = cols};
    int result;

    buf_init(&lower, 1 << 20);
    if (!image)
        return err_set(err, -ENOMEM, "out of memory");
    if ((result = image_open(m->options.images, spec->image, image, err)) == 0) {
        snprintf(root, sizeof(root), "/proc/%d/root", (int)pid);
        /* An ordinary user's manager may not look there; the users are the image's. */
        if (geteuid() != 0 && prepare_layers(image, &lower, root) < 0)
            result = err_set(err, -ENOMEM, "out of memory");
        if (result == 0 && (result = launch_command_build(&request, image, &command, err)) == 0) {
            result = bundle_process(&bundle, ret, err);
            launch_command_done(&command);
        }
        image_done(image);
    }
    free(image);
    return result;
}

void prepare_remove_files(struct manager *m, const struct instance *instance)
{
    char path[PATH_SIZE];

    prepare_clear(m, instance);
    environment_clear(m, instance);
    run_path(m, path, sizeof(path), "i/%s", instance->id);
    files_remove(path);
    manager_path(m, path, sizeof(path), "instances/%s", instance->id);
    files_remove(path);
    pins_drop(m, instance->id);
}
