/* SPDX-License-Identifier: Apache-2.0 */
/* One request a connection to the monitor's control socket: include/vmm_control.h. */
#include "manager/hotplug_internal.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fdpass.h"
#include "image/vdisk.h"
#include "vmm_control.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_S    10
#define TAKE_LIMIT  (30 * NS_PER_S) /* for the guest's driver */
#define EJECT_LIMIT (20 * NS_PER_S)
#define POLL_US     20000

static int reach(struct manager *m, const struct instance *instance, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = ANSWER_S};

    if (fd < 0)
        return err_errno(err, -errno, "socket");
    if (run_path(m, address.sun_path, sizeof(address.sun_path), "i/%s/v/vm/control", instance->id) <
        0)
        return err_set(err, -ENAMETOOLONG, "the path of the monitor's socket is too long");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return err_errno(err, -errno, "reach the machine's monitor");
    return TAKE_FD(fd);
}

static int read_answer(int fd, struct buf *line, struct err *err)
{
    while (!line->length || line->data[line->length - 1] != '\n') {
        ssize_t n;

        if (buf_reserve(line, 4096) < 0)
            return err_set(err, -EPROTO, "the machine's monitor says too much");
        n = recv(fd, line->data + line->length, 4096, 0);
        if (n <= 0)
            return err_set(err, -ETIMEDOUT, "the machine's monitor does not answer");
        line->length += (size_t)n;
    }
    return 0;
}

int hotplug_ask(struct manager *m, const struct instance *instance, json_t *request, int fd,
                json_t **ret, struct err *err)
{
    CLEANUP(buf_donep) struct buf line = {0};
    CLEANUP(fd_closep) int link = -1;
    CLEANUP(freep) char *text = json_text(request, JSON_COMPACT);
    json_t *reply = NULL;
    int result;

    buf_init(&line, VMM_CONTROL_LINE_MAX);
    json_decref(request);
    if (!text || buf_printf(&line, "%s\n", text) < 0)
        return err_set(err, -ENOMEM, "out of memory");
    if ((link = reach(m, instance, err)) < 0)
        return link;
    if ((result = fdpass_send(link, line.data, line.length, fd)) < 0)
        return err_errno(err, result, "ask the machine's monitor");
    buf_consume(&line, line.length);
    if ((result = read_answer(link, &line, err)) < 0 ||
        (result = json_parse(line.data, line.length, "monitor", &reply, err)) < 0)
        return result;
    if (!json_is_true(json_object_get(reply, "ok")))
        result = err_set(err, -EBUSY, "%s",
                         json_string_value(json_object_get(reply, "error")) ?: "refused");
    else if (ret)
        *ret = json_incref(json_object_get(reply, "result"));
    json_decref(reply);
    return result;
}

int hotplug_look(struct manager *m, const struct instance *instance, const char *id,
                 struct err *err)
{
    json_t *answer = NULL;
    const json_t *list;
    int result = hotplug_ask(m, instance, json_pack("{s:s}", "command", VMM_CONTROL_DEVICES), -1,
                             &answer, err);

    if (result < 0)
        return result;
    list = json_object_get(answer, "devices");
    result = -ENOENT;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *device = json_array_get(list, i);

        if (!strcmp(json_string_value(json_object_get(device, "id")) ?: "", id))
            result = json_is_true(json_object_get(device, "revoked"))
                         ? HOTPLUG_REVOKED
                         : json_is_true(json_object_get(device, "driven"));
    }
    json_decref(answer);
    return result;
}

/* Until a look at it says `wanted`; false when the time is over or the monitor is. */
static bool wait_for(struct manager *m, const struct instance *instance, const char *id, int wanted,
                     uint64_t limit_ns)
{
    uint64_t until_ns = clock_monotonic_ns() + limit_ns;
    struct err err = ERR_INIT;
    int now;

    while ((now = hotplug_look(m, instance, id, &err)) != wanted) {
        if ((now < 0 && now != -ENOENT) || clock_monotonic_ns() >= until_ns ||
            atomic_load(&m->stopping))
            return false;
        usleep(POLL_US);
    }
    return true;
}

/* A guest that cannot take it gets it at its next start only, and that is to be said. */
static int wait_taken(struct manager *m, const struct instance *instance, const char *id,
                      struct err *err)
{
    if (!instance->brief->hardware)
        return hotplug_guest_disk(m, instance, id, err);
    if (wait_for(m, instance, id, 1, TAKE_LIMIT))
        return 0;
    hotplug_ask(m, instance,
                json_pack("{s:s, s:s, s:b}", "command", VMM_CONTROL_DETACH, "id", id, "force", 1),
                -1, NULL, NULL);
    return err_set(
        err, -EOPNOTSUPP,
        "the guest of '%s' does not take it: its kernel needs hot-plug of PCI by ACPI and "
        "the driver virtio_pci. `lodge vm stop %s`, then attach it",
        instance->name, instance->name);
}

int hotplug_check_running(const struct instance *instance, struct err *err)
{
    if (instance->row.state == INSTANCE_PAUSED)
        return err_set(err, -EBUSY, "'%s' is paused; `lodge resume %s` first", instance->name,
                       instance->name);
    return 0;
}

int hotplug_disk(struct manager *m, const struct instance *instance,
                 const struct hardware_disk *disk, struct err *err)
{
    char id[HARDWARE_ID_MAX + 1];
    CLEANUP(fd_closep) int fd = -1;
    struct vdisk file;
    struct stat st;
    int result = hotplug_check_running(instance, err);

    if (result < 0 || (result = hardware_find_disk(m, disk, &file, err)) < 0)
        return result;
    hardware_disk_id(disk->disk, id);
    if ((result = hotplug_look(m, instance, id, NULL)) == HOTPLUG_REVOKED)
        return err_set(err, -EBUSY,
                       "disk '%s' was taken away by force, and the guest of '%s' has not let go of "
                       "it yet",
                       disk->disk, instance->name);
    if (result >= 0)
        return wait_taken(m, instance, id, err);
    fd = open(file.path, (disk->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fcntl(fd, F_SETFL, 0) < 0 || fstat(fd, &st) < 0)
        return err_errno(err, -errno, "open disk '%s'", file.path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, -EOPNOTSUPP,
                       "disk '%s' is a block device, which can be attached only while the machine "
                       "is stopped",
                       file.path);
    result = hotplug_ask(m, instance,
                         json_pack("{s:s, s:s, s:s, s:b}", "command", VMM_CONTROL_ATTACH_DISK, "id",
                                   id, "format", file.qcow2 ? "qcow2" : "raw", "read_only",
                                   (int)disk->read_only),
                         fd, NULL, err);
    return result < 0 ? result : wait_taken(m, instance, id, err);
}

int hotplug_send_net(struct manager *m, const struct instance *instance, const char *id,
                     const char *text, struct err *err)
{
    CLEANUP(fd_closep) int fd = -1;
    char name[IFNAMSIZ] = "";

    if (!strncmp(text, "tap=", 4)) {
        size_t length = strcspn(text + 4, ",");

        if (length < sizeof(name))
            memcpy(name, text + 4, length);
        if ((fd = network_tap_open(name, err)) < 0)
            return fd;
    }
    return hotplug_ask(
        m, instance,
        json_pack("{s:s, s:s, s:s}", "command", VMM_CONTROL_ATTACH_NET, "id", id, "net", text), fd,
        NULL, err);
}

static int plug_net(struct manager *m, const struct instance *instance,
                    const struct hardware_net *net, struct err *err)
{
    char place[NETWORKS_TAP_SIZE] = "";
    int result = 0;

    if (hotplug_look(m, instance, net->id, NULL) >= 0)
        return wait_taken(m, instance, net->id, err);
    if (net->network[0])
        result = networks_place(m, instance, net->network, net->address4, place, err);
    if (result == 0)
        result = hotplug_send_net(m, instance, net->id, *place ? place : net->net, err);
    return result < 0 ? result : wait_taken(m, instance, net->id, err);
}

int hotplug_net(struct manager *m, const struct instance *instance, const struct hardware_net *net,
                struct err *err)
{
    int result = hotplug_check_running(instance, err);

    if (result < 0)
        return result;
    if ((result = plug_net(m, instance, net, err)) < 0 && net->network[0])
        networks_disconnect(m, instance, net->network, NULL);
    return result;
}

int hotplug_detach(struct manager *m, const struct instance *instance, const char *id, bool force,
                   struct err *err)
{
    json_t *answer = NULL;
    bool over;
    int result = hotplug_check_running(instance, err);

    if (result == 0 && !instance->brief->hardware)
        return hotplug_guest_detach(m, instance, id, force, err);
    if (result < 0 ||
        (result = hotplug_ask(m, instance,
                              json_pack("{s:s, s:s, s:b}", "command", VMM_CONTROL_DETACH, "id", id,
                                        "force", (int)force),
                              -1, &answer, err)) < 0)
        return result;
    over = strcmp(json_string_value(json_object_get(answer, "state")) ?: "", "asked") != 0;
    json_decref(answer);
    if (over || wait_for(m, instance, id, -ENOENT, EJECT_LIMIT))
        return 0;
    return err_set(err, -EBUSY,
                   "the guest of '%s' has not let it go: stop using it there, or --force (it sees "
                   "errors then)",
                   instance->name);
}
