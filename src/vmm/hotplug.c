/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hotplug.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "vmm/config_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DISK "disk"

int hotplug_prepare(const struct vmm_config *config, struct err *err)
{
    struct err why = ERR_INIT;

    (void)err;
    if (config->hotplug && net_user_preload(&why) < 0)
        log_warning("no user-mode network can be attached later: %s", why.message);
    return 0;
}

struct freeing {
    struct virtio_device *device;
    int result;
};

static void revoke_call(void *context)
{
    struct freeing *revoking = context;

    revoking->result = virtio_blk_revoke(revoking->device);
}

static void free_call(void *context)
{
    struct freeing *freeing = context;

    virtio_device_free(freeing->device);
}

static unsigned nr_slots(const struct hotplug *h)
{
    return h->config->places ? h->devices->nr_places : PCI_SLOTS_MAX;
}

/* The device is off the bus: nobody is in it, or will be. */
static void slot_empty(struct hotplug *h, struct hotplug_slot *slot)
{
    struct freeing freeing = {.device = slot->device};

    loop_sync(h->devices->loop, free_call, &freeing);
    *slot = (struct hotplug_slot){0};
}

static void take_ejected(void *context)
{
    struct hotplug *h = context;
    uint32_t bits = __atomic_exchange_n(&h->ejected, 0, __ATOMIC_ACQ_REL);

    for (unsigned i = 0; i < PCI_SLOTS_MAX; i++) {
        if (!(bits & 1u << i) || !h->slots[i].device)
            continue;
        pci_unplug(machine_pci(h->machine), i);
        slot_empty(h, &h->slots[i]);
    }
}

void hotplug_init(struct hotplug *h, const struct vmm_config *config, struct devices *devices,
                  struct machine *machine, struct loop *loop)
{
    *h = (struct hotplug){.config = config, .devices = devices, .machine = machine, .loop = loop};
    h->ejected_call = (struct loop_call){.fn = take_ejected, .context = h};
}

void hotplug_take(struct hotplug *h)
{
    for (unsigned i = 0; i < h->devices->nr_places; i++) {
        struct device_place *place = &h->devices->places[i];
        struct hotplug_slot *slot = &h->slots[i];

        if (!place->device)
            continue;
        *slot = (struct hotplug_slot){
            .device = TAKE_PTR(place->device), .kind = place->kind, .boot = true};
        snprintf(slot->id, sizeof(slot->id), "%s", place->id);
    }
}

void hotplug_done(struct hotplug *h)
{
    if (!h->loop)
        return;
    loop_cancel(h->loop, &h->ejected_call);
    for (unsigned i = 0; i < HOTPLUG_SLOTS_MAX; i++)
        if (h->slots[i].device)
            slot_empty(h, &h->slots[i]);
}

/* Any thread. */
void hotplug_ejected(struct hotplug *h, unsigned slot)
{
    __atomic_fetch_or(&h->ejected, 1u << slot, __ATOMIC_ACQ_REL);
    loop_post(h->loop, &h->ejected_call);
}

/* Out of its place, when it was asked for and no driver works with it (any more). */
static bool leave_place(struct hotplug *h, struct hotplug_slot *slot)
{
    if (!h->config->places || !slot->asked || virtio_device_driven(slot->device))
        return false;
    virtio_place_empty(h->devices->places[slot - h->slots].place);
    slot_empty(h, slot);
    return true;
}

static struct hotplug_slot *find(struct hotplug *h, const char *id)
{
    for (unsigned i = 0; i < nr_slots(h); i++)
        if (h->slots[i].device && !strcmp(h->slots[i].id, id))
            return &h->slots[i];
    return NULL;
}

/* An empty slot for a device of this name. */
static int slot_for(struct hotplug *h, const char *id, unsigned *ret, struct err *err)
{
    if (!h->config->hotplug && !h->config->places)
        return err_set(err, -EOPNOTSUPP, "this VM was started without hot-plug (--hotplug)");
    if (!id || !*id || strlen(id) > HOTPLUG_ID_MAX)
        return err_set(err, -EINVAL, "id: 1 to %d bytes are needed", HOTPLUG_ID_MAX);
    if (find(h, id))
        return err_set(err, -EEXIST, "'%s' is there already", id);
    for (unsigned i = 0; i < nr_slots(h); i++)
        if (!h->slots[i].device || leave_place(h, &h->slots[i])) {
            *ret = i;
            return 0;
        }
    return err_set(err, -ENOSPC, "all %u places for disks and networks are taken: detach one first",
                   nr_slots(h));
}

static void plug(struct hotplug *h, unsigned index, struct virtio_device *device, const char *id,
                 const char *kind)
{
    struct hotplug_slot *slot = &h->slots[index];
    struct pci_device described;
    struct irq_line line;

    slot->device = device;
    slot->kind = kind;
    snprintf(slot->id, sizeof(slot->id), "%s", id);
    if (h->config->places) {
        virtio_place_fill(h->devices->places[index].place, device);
        return;
    }
    line = pci_line(machine_pci(h->machine), index);
    virtio_pci_describe(device, &line, &described);
    pci_plug(machine_pci(h->machine), index, &described, true);
}

/* What is made on the devices' thread. */
struct making {
    struct devices *devices;
    const char *path, *id;
    bool read_only, qcow2;
    const struct vmm_net *net;
    int tap_fd; /* taken */
    struct virtio_device *device;
    struct err *err;
    int result;
};

static void make_disk(void *context)
{
    struct making *m = context;
    struct block_options options = {.read_only = m->read_only, .engine = BLOCK_ENGINE_THREADS};
    CLEANUP(block_closep) struct block *block = NULL;
    struct virtio_blk_config blk = {.serial = m->id};

    m->result = m->qcow2 ? block_open_qcow2(m->path, &options, m->devices->loop, &block, m->err)
                         : block_open_raw(m->path, &options, m->devices->loop, &block, m->err);
    if (m->result < 0)
        return;
    blk.block = block;
    if ((m->result = virtio_blk_new(&m->devices->host, &blk, &m->device, m->err)) == 0)
        block = NULL;
}

int hotplug_attach_disk(struct hotplug *h, const json_t *request, int fd, struct err *err)
{
    const char *id = json_string_value(json_object_get(request, "id"));
    const char *format = json_string_value(json_object_get(request, "format")) ?: "raw";
    CLEANUP(fd_closep) int file = fd;
    char path[32];
    struct making making = {.devices = h->devices, .path = path, .id = id, .err = err};
    struct stat st;
    unsigned slot;
    int r = slot_for(h, id, &slot, err);

    if (r < 0)
        return r;
    if (file < 0 || fstat(file, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(err, -EINVAL,
                       "disk '%s': a regular file's descriptor must come with the request", id);
    if (strcmp(format, "raw") != 0 && strcmp(format, "qcow2") != 0)
        return err_set(err, -EINVAL, "format '%.40s': 'raw' and 'qcow2' are known", format);
    making.qcow2 = *format == 'q';
    making.read_only = json_is_true(json_object_get(request, "read_only"));
    snprintf(path, sizeof(path), BLOCK_PATH_FD "%d", file);
    loop_sync(h->devices->loop, make_disk, &making);
    if (making.result < 0)
        return err_wrap(err, "disk '%s'", id);
    plug(h, slot, making.device, id, DISK);
    return 0;
}

static int open_net(struct making *m, struct net **ret)
{
    struct net_user_options user = {.forwards = m->net->forwards,
                                    .nr_forwards = m->net->nr_forwards,
                                    .host_loopback = m->net->host_loopback};

    return m->net->kind == VMM_NET_TAP
               ? net_adopt_tap(TAKE_FD(m->tap_fd), m->net->mtu, m->devices->loop, ret, m->err)
               : net_open_user(&user, m->devices->loop, ret, m->err);
}

static void make_net(void *context)
{
    struct making *m = context;
    struct virtio_net_config config = {.mtu = m->net->mtu, .any_source = m->net->any_source};

    memcpy(config.mac, m->net->mac, NET_MAC_BYTES);
    if ((!m->net->has_mac && (m->result = net_mac_random(config.mac, m->err)) < 0) ||
        (m->result = open_net(m, &config.net)) < 0)
        return;
    if ((m->result = virtio_net_new(&m->devices->host, &config, &m->device, m->err)) < 0)
        net_free(config.net);
}

/* A tap is the descriptor that came along: reads of it must not wait. */
static int check_tap(const struct vmm_net *net, int fd, struct err *err)
{
    if (net->kind != VMM_NET_TAP)
        return 0;
    if (fd < 0)
        return err_set(err, -EINVAL, "tap '%s': its descriptor must come with the request",
                       net->tap);
    return fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0
               ? err_errno(err, -errno, "tap '%s'", net->tap)
               : 0;
}

int hotplug_attach_net(struct hotplug *h, const json_t *request, int fd, struct err *err)
{
    const char *id = json_string_value(json_object_get(request, "id"));
    const char *net = json_string_value(json_object_get(request, "net")) ?: "";
    CLEANUP(freep) struct vmm_config *config = calloc(1, sizeof(*config));
    CLEANUP(fd_closep) int tap_fd = fd;
    struct making making = {.devices = h->devices, .id = id, .err = err, .tap_fd = -1};
    unsigned slot;
    int r = slot_for(h, id, &slot, err);

    if (r < 0)
        return r;
    if (!config)
        return err_set(err, -ENOMEM, "out of memory");
    if ((r = config_net_add(config, net, err)) == 0 &&
        (r = check_tap(&config->nets[0], tap_fd, err)) == 0) {
        making.net = &config->nets[0];
        if (making.net->kind == VMM_NET_TAP)
            making.tap_fd = TAKE_FD(tap_fd);
        loop_sync(h->devices->loop, make_net, &making);
        r = making.result;
    }
    if (making.tap_fd >= 0)
        close(making.tap_fd);
    config_nets_done(config);
    if (r < 0)
        return r;
    plug(h, slot, making.device, id, "network");
    return 0;
}

/* Is it a part that was there from the beginning? */
static bool is_fixed(const struct hotplug *h, const char *id)
{
    for (unsigned i = 0; i < h->config->nr_disks; i++)
        if (h->config->disks[i].serial && !strcmp(h->config->disks[i].serial, id))
            return true;
    for (unsigned i = 0; i < h->config->nr_nets; i++)
        if (h->config->nets[i].id && !strcmp(h->config->nets[i].id, id))
            return true;
    return false;
}

int hotplug_detach(struct hotplug *h, const json_t *request, json_t **ret, struct err *err)
{
    const char *id = json_string_value(json_object_get(request, "id")) ?: "";
    bool force = json_is_true(json_object_get(request, "force"));
    struct hotplug_slot *slot = find(h, id);
    const char *state = "gone";

    if (!slot && is_fixed(h, id))
        return err_set(err, -EBUSY,
                       "'%s' was there when the machine started, its system may live on it: stop "
                       "the machine first",
                       id);
    if (slot && force && !slot->revoked && !strcmp(slot->kind, DISK)) {
        struct freeing revoking = {.device = slot->device};

        loop_sync(h->devices->loop, revoke_call, &revoking);
        if (revoking.result < 0)
            return err_set(err, revoking.result, "out of memory");
        slot->revoked = true;
    }
    if (slot) {
        slot->asked = true;
        state = slot->revoked ? "revoked" : "asked";
        if (!h->config->places)
            pci_ask_back(machine_pci(h->machine), (unsigned)(slot - h->slots));
        else if (leave_place(h, slot))
            state = "gone";
    }
    *ret = json_pack("{s:s}", "state", state);
    return 0;
}

int hotplug_list(struct hotplug *h, json_t **ret, struct err *err)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < nr_slots(h); i++)
        if (h->slots[i].device && !leave_place(h, &h->slots[i]))
            json_array_append_new(
                list, json_pack("{s:s, s:s, s:i, s:b, s:b, s:b, s:b}", "id", h->slots[i].id, "kind",
                                h->slots[i].kind, "slot", (int)i + 1, "driven",
                                (int)virtio_device_driven(h->slots[i].device), "asked",
                                (int)h->slots[i].asked, "boot", (int)h->slots[i].boot, "revoked",
                                (int)h->slots[i].revoked));
    if (!(*ret = json_pack("{s:o}", "devices", list)))
        return err_set(err, -ENOMEM, "out of memory");
    return 0;
}
