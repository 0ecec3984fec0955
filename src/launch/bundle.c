/* SPDX-License-Identifier: Apache-2.0 */
/* config.json written from struct bundle. */
#include "launch/bundle.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/users.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static json_t *string_list(const char *const *list, size_t nr)
{
    json_t *array = json_array();

    for (size_t i = 0; i < nr; i++)
        json_array_append_new(array, json_string(list[i]));
    return array;
}

static json_t *capabilities(void)
{
    static const char *const names[] = {
        "CAP_CHOWN",  "CAP_DAC_OVERRIDE", "CAP_FSETID",           "CAP_FOWNER",     "CAP_MKNOD",
        "CAP_SETGID", "CAP_SETUID",       "CAP_SETFCAP",          "CAP_SETPCAP",    "CAP_NET_RAW",
        "CAP_KILL",   "CAP_SYS_CHROOT",   "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE"};

    return json_pack("{s:o, s:o, s:o}", "bounding", string_list(names, ARRAY_LEN(names)),
                     "effective", string_list(names, ARRAY_LEN(names)), "permitted",
                     string_list(names, ARRAY_LEN(names)));
}

static json_t *process_user(const struct user *user)
{
    json_t *groups = json_array();

    for (size_t i = 0; i < user->nr_groups; i++)
        json_array_append_new(groups, json_integer(user->groups[i]));
    return json_pack("{s:I, s:I, s:o}", "uid", (json_int_t)user->uid, "gid", (json_int_t)user->gid,
                     "additionalGids", groups);
}

static json_t *process(const struct bundle *bundle, const struct user *user)
{
    const struct launch_command *command = bundle->command;
    json_t *object, *args = json_array(), *env = json_array();
    bool home = false;

    for (char **arg = command->argv; *arg; arg++)
        json_array_append_new(args, json_string(*arg));
    for (char **entry = command->env; *entry; entry++) {
        json_array_append_new(env, json_string(*entry));
        home = home || !strncmp(*entry, "HOME=", 5);
    }
    if (!home)
        json_array_append_new(env, json_sprintf("HOME=%s", user->home));
    object = json_pack("{s:b, s:o, s:o, s:o, s:s, s:o, s:b}", "terminal", bundle->tty, "user",
                       process_user(user), "args", args, "env", env, "cwd", command->cwd,
                       "capabilities", capabilities(), "noNewPrivileges", 1);
    if (bundle->tty && bundle->rows)
        json_object_set_new(object, "consoleSize",
                            json_pack("{s:i, s:i}", "height", bundle->rows, "width", bundle->cols));
    return object;
}

static json_t *mount_entry(const char *target, const char *type, const char *source,
                           const char *options)
{
    json_t *list = json_array();
    CLEANUP(freep) char *copy = strdup(options);
    char *word, *rest;

    for (word = copy ? strtok_r(copy, ",", &rest) : NULL; word; word = strtok_r(NULL, ",", &rest))
        json_array_append_new(list, json_string(word));
    return json_pack("{s:s, s:s, s:s, s:o}", "destination", target, "type", type, "source", source,
                     "options", list);
}

static int mounts(const struct bundle *bundle, json_t **ret, struct err *err)
{
    static const char *const standard[][4] = {
        {"/proc", "proc", "proc", "nosuid,noexec,nodev"},
        {"/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"},
        {"/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"},
        {"/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k"},
        {"/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"},
        {"/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"},
        {"/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro"},
    };
    json_t *list = json_array();

    for (size_t i = 0; i < ARRAY_LEN(standard); i++) {
        const char *options = standard[i][3];

        /* Nobody but the one user is there to own a terminal. */
        if (bundle->rootless && !strcmp(standard[i][1], "devpts"))
            options = "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620";
        json_array_append_new(list,
                              mount_entry(standard[i][0], standard[i][1], standard[i][2], options));
    }
    for (size_t i = 0; i < bundle->nr_volumes; i++) {
        const struct bundle_volume *volume = &bundle->volumes[i];
        char source[PATH_MAX];

        if (!realpath(volume->source, source)) {
            json_decref(list);
            return err_errno(err, -errno, "-v %s:%s: '%s' on the host", volume->source,
                             volume->target, volume->source);
        }
        json_array_append_new(list, mount_entry(volume->target, "bind", source,
                                                volume->read_only ? "rbind,ro" : "rbind,rw"));
    }
    if (bundle->resolv_conf)
        json_array_append_new(
            list, mount_entry("/etc/resolv.conf", "bind", bundle->resolv_conf, "rbind,ro"));
    *ret = list;
    return 0;
}

/* None, but the harmless ones and the container's own terminals; making device files is allowed, as
 * using them is not. */
static json_t *device_rules(void)
{
    /* null, zero, full, random, urandom, tty, ptmx, pts */
    static const int numbers[][2] = {{1, 3}, {1, 5}, {1, 7}, {1, 8},
                                     {1, 9}, {5, 0}, {5, 2}, {136, -1}};
    json_t *rules = json_pack("[{s:b, s:s}, {s:b, s:s, s:s}, {s:b, s:s, s:s}]", "allow", 0,
                              "access", "rwm", "allow", 1, "type", "c", "access", "m", "allow", 1,
                              "type", "b", "access", "m");

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        json_t *rule = json_pack("{s:b, s:s, s:i, s:s}", "allow", 1, "type", "c", "major",
                                 numbers[i][0], "access", "rwm");

        if (numbers[i][1] >= 0)
            json_object_set_new(rule, "minor", json_integer(numbers[i][1]));
        json_array_append_new(rules, rule);
    }
    return rules;
}

json_t *bundle_limits_json(const struct bundle_limits *limits)
{
    json_t *object = json_object();

    if (limits->memory_bytes || limits->memory_reserved_bytes) {
        json_t *memory = json_object();

        if (limits->memory_bytes)
            json_object_set_new(memory, "limit", json_integer((json_int_t)limits->memory_bytes));
        if (limits->memory_reserved_bytes)
            json_object_set_new(memory, "reservation",
                                json_integer((json_int_t)limits->memory_reserved_bytes));
        json_object_set_new(object, "memory", memory);
    }
    if (limits->cpu_quota_us || limits->cpu_shares || (limits->cpuset && *limits->cpuset)) {
        json_t *cpu = json_object();

        if (limits->cpuset && *limits->cpuset)
            json_object_set_new(cpu, "cpus", json_string(limits->cpuset));

        if (limits->cpu_quota_us) {
            json_object_set_new(cpu, "quota", json_integer((json_int_t)limits->cpu_quota_us));
            json_object_set_new(cpu, "period", json_integer(BUNDLE_CPU_PERIOD_US));
        }
        if (limits->cpu_shares)
            json_object_set_new(cpu, "shares", json_integer((json_int_t)limits->cpu_shares));
        json_object_set_new(object, "cpu", cpu);
    }
    if (limits->io_weight)
        json_object_set_new(object, "blockIO",
                            json_pack("{s:I}", "weight", (json_int_t)limits->io_weight));
    if (limits->pids)
        json_object_set_new(object, "pids", json_pack("{s:I}", "limit", (json_int_t)limits->pids));
    return object;
}

static json_t *resources(const struct bundle *bundle)
{
    json_t *object = bundle_limits_json(&bundle->limits);

    json_object_set_new(object, "devices", device_rules());
    return object;
}

static json_t *own_mapping(uid_t id)
{
    return json_pack("[{s:i, s:I, s:i}]", "containerID", 0, "hostID", (json_int_t)id, "size", 1);
}

static json_t *linux_part(const struct bundle *bundle)
{
    static const char *const masked[] = {
        "/proc/acpi",          "/proc/asound",     "/proc/kcore",       "/proc/keys",
        "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
        "/proc/scsi",          "/sys/firmware"};
    static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                            "/proc/sysrq-trigger"};
    static const char *const namespaces[] = {"pid", "ipc", "uts", "mount", "network", "cgroup"};
    json_t *list = json_array();

    for (size_t i = 0; i < ARRAY_LEN(namespaces); i++)
        json_array_append_new(list, json_pack("{s:s}", "type", namespaces[i]));
    if (bundle->rootless) {
        json_array_append_new(list, json_pack("{s:s}", "type", "user"));
        return json_pack("{s:o, s:o, s:o, s:o, s:o}", "namespaces", list, "uidMappings",
                         own_mapping(geteuid()), "gidMappings", own_mapping(getegid()),
                         "maskedPaths", string_list(masked, ARRAY_LEN(masked)), "readonlyPaths",
                         string_list(read_only, ARRAY_LEN(read_only)));
    }
    if (bundle->network_namespace) /* made before, with its interface in it */
        json_object_set_new(json_array_get(list, 4), "path",
                            json_string(bundle->network_namespace));
    return json_pack("{s:o, s:s, s:o, s:o, s:o}", "namespaces", list, "cgroupsPath", bundle->cgroup,
                     "resources", resources(bundle), "maskedPaths",
                     string_list(masked, ARRAY_LEN(masked)), "readonlyPaths",
                     string_list(read_only, ARRAY_LEN(read_only)));
}

static int find_user(const struct bundle *bundle, struct user *ret, struct err *err)
{
    CLEANUP(fd_closep) int root = open(bundle->image_root, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (root < 0)
        return err_errno(err, -errno, "open '%s'", bundle->image_root);
    return user_find(root, bundle->command->user, ret, err);
}

int bundle_process(const struct bundle *bundle, json_t **ret, struct err *err)
{
    struct user user;
    int result = find_user(bundle, &user, err);

    if (result < 0)
        return result;
    *ret = process(bundle, &user);
    return *ret ? 0 : err_set(err, -EINVAL, "the command or its environment is not UTF-8");
}

static json_t *annotations(const struct bundle *bundle)
{
    /* The command is not process 1, so signals end it as they would anywhere else. */
    json_t *object = json_pack("{s:s}", "io.lodge.init", "true");

    if (bundle->upper) {
        json_object_set_new(object, "io.lodge.overlay.lower", json_string(bundle->lower));
        json_object_set_new(object, "io.lodge.overlay.upper", json_string(bundle->upper));
        json_object_set_new(object, "io.lodge.overlay.work", json_string(bundle->work));
    }
    return object;
}

int bundle_write(const struct bundle *bundle, const char *path, struct err *err)
{
    CLEANUP(freep) char *text = NULL;
    struct user user;
    json_t *config, *mount_list = NULL;
    int result;

    if ((result = find_user(bundle, &user, err)) < 0 ||
        (result = mounts(bundle, &mount_list, err)) < 0)
        return result;
    config = json_pack("{s:s, s:o, s:{s:s, s:b}, s:s, s:o, s:o, s:o}", "ociVersion", "1.2.0",
                       "process", process(bundle, &user), "root", "path", "rootfs", "readonly", 0,
                       "hostname", bundle->hostname, "mounts", mount_list, "annotations",
                       annotations(bundle), "linux", linux_part(bundle));
    if (bundle->network_program)
        json_object_set_new(config, "hooks",
                            json_pack("{s:[{s:s, s:[s,s,s,s]}]}", "createRuntime", "path",
                                      bundle->network_program, "args", "lodge", "network", "serve",
                                      bundle->network_text));
    text = json_text(config, JSON_INDENT(2));
    json_decref(config);
    if (!text)
        return err_set(err, -EINVAL, "the command, its environment or a path is not UTF-8");
    return file_replace_unsynced(AT_FDCWD, path, text, strlen(text), 0600, err);
}
