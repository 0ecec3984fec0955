/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio devices of one VM: see devices.h. */
#include "vmm/devices.h"

#include "base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PLACES             4    /* empty ones, where there are so many windows */
#define VIRTIO_MMIO_STATUS 0x70 /* virtio 1.2 4.2.2: writing 0 resets the device */

static int open_disk(struct devices *d, const struct vmm_disk *disk, struct block **ret,
                     struct err *err)
{
    struct block_options options = {.read_only = disk->read_only, .nr_backing = disk->nr_backing};

    for (unsigned i = 0; i < disk->nr_backing; i++)
        options.backing[i] = (struct block_backing){disk->backing[i], disk->backing_formats[i]};
    if (disk->format == BLOCK_FORMAT_QCOW2)
        return block_open_qcow2(disk->path, &options, d->loop, ret, err);
    if (disk->nr_backing)
        return err_set(err, -EINVAL, "disk image '%s': only qcow2 images have backing files",
                       disk->path);
    return block_open_raw(disk->path, &options, d->loop, ret, err);
}

static int open_net(struct devices *d, const struct vmm_net *net, struct net **ret, struct err *err)
{
    struct net_user_options user = {
        .forwards = net->forwards,
        .nr_forwards = net->nr_forwards,
        .host_loopback = net->host_loopback,
    };

    return net->kind == VMM_NET_TAP ? net_open_tap(net->tap, d->loop, ret, err)
                                    : net_open_user(&user, d->loop, ret, err);
}

int devices_open(struct devices *d, const struct vmm_config *config, struct err *err)
{
    int r = loop_new(&d->loop, err);

    for (unsigned i = 0; r == 0 && i < config->nr_disks; i++) {
        r = open_disk(d, &config->disks[i], &d->blocks[i], err);
        if (r == 0)
            d->nr_blocks++;
    }
    for (unsigned i = 0; r == 0 && i < config->nr_nets; i++) {
        r = open_net(d, &config->nets[i], &d->nets[i], err);
        if (r == 0)
            d->nr_nets++;
    }
    return r;
}

/* The members of the tag that the index-th share is the first of. */
static int start_tag(struct devices *d, const struct vmm_config *config, unsigned index,
                     struct err *err)
{
    struct share_path_config paths[VMM_SHARES_MAX];
    const char *tag = config->shares[index].tag;
    unsigned nr = 0;

    for (unsigned i = index; i < config->nr_shares; i++)
        if (!strcmp(config->shares[i].tag, tag))
            paths[nr++] = (struct share_path_config){
                config->shares[i].name ?: "", config->shares[i].path, config->shares[i].read_only};
    d->tags[d->nr_shares] = tag;
    return share_server_start(paths, nr, config->jail, &d->shares[d->nr_shares], err);
}

static bool tag_known(const struct devices *d, const char *tag)
{
    for (unsigned i = 0; i < d->nr_shares; i++)
        if (!strcmp(d->tags[i], tag))
            return true;
    return false;
}

int devices_fork(struct devices *d, const struct vmm_config *config, struct err *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < config->nr_shares; i++) {
        if (tag_known(d, config->shares[i].tag))
            continue;
        r = start_tag(d, config, i, err);
        d->nr_shares += r == 0;
    }
    return r;
}

static unsigned count_tags(const struct vmm_config *config)
{
    unsigned nr = 0;

    for (unsigned i = 0; i < config->nr_shares; i++) {
        unsigned first = 0;

        while (strcmp(config->shares[first].tag, config->shares[i].tag) != 0)
            first++;
        nr += first == i;
    }
    return nr;
}

static unsigned count_fixed(const struct vmm_config *config)
{
    return config->nr_disks + config->nr_nets + count_tags(config) + config->rng + config->balloon +
           !!config->vsock_path + (config->console == VMM_CONSOLE_VIRTIO);
}

unsigned devices_count(const struct vmm_config *config)
{
    unsigned fixed = count_fixed(config);

    if (!config->places || fixed >= MACHINE_VIRTIO_MAX)
        return fixed;
    return fixed + MIN(PLACES, MACHINE_VIRTIO_MAX - fixed);
}

static struct irq_line next_window(struct devices *d, struct machine *machine, unsigned *ret_index)
{
    unsigned i = d->nr++;

    d->windows[i] = machine_virtio_window(i);
    *ret_index = i;
    return (struct irq_line){machine_irq_sink(machine), d->windows[i].gsi};
}

/* Puts the device just made at d->all[d->nr] on the bus. */
static int attach(struct devices *d, struct machine *machine, struct err *err)
{
    unsigned i;
    struct irq_line line = next_window(d, machine, &i);

    return virtio_mmio_attach(d->all[i], machine_bus(machine), d->windows[i].gpa, &line, err);
}

/* Likewise, in a place that it may leave; NULL: an empty one. */
static int attach_movable(struct devices *d, struct machine *machine, struct virtio_device *device,
                          const char *id, const char *kind, struct err *err)
{
    struct device_place *at = &d->places[d->nr_places];
    unsigned i;
    struct irq_line line = next_window(d, machine, &i);
    int r = virtio_place_new(machine_bus(machine), d->windows[i].gpa, &line, &at->place, err);

    d->all[i] = r < 0 ? device : NULL;
    if (r < 0)
        return r;
    d->nr_places++;
    at->device = device;
    at->id = id;
    at->kind = kind;
    if (device)
        virtio_place_fill(at->place, device);
    return 0;
}

static size_t console_take(void *context, const void *data, size_t length)
{
    struct devices *d = context;
    char copy[4096]; /* data is guest memory: it may change under the reader */

    for (size_t done = 0; done < length;) {
        size_t part = MIN(length - done, sizeof(copy));

        memcpy(copy, (const char *)data + done, part);
        console_output(d->terminal, copy, part);
        done += part;
    }
    return length;
}

static void console_room(void *context)
{
    struct devices *d = context;

    console_input_ready(d->terminal);
}

static int attach_disks(struct devices *d, const struct vmm_config *config, struct machine *machine,
                        struct err *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < config->nr_disks; i++) {
        char serial[VIRTIO_BLK_ID_BYTES + 8];
        struct virtio_blk_config blk = {.block = d->blocks[i], .serial = config->disks[i].serial};

        snprintf(serial, sizeof(serial), "lodge-disk-%u", i % VMM_DISKS_MAX);
        if (!blk.serial)
            blk.serial = serial;
        r = virtio_blk_new(&d->host, &blk, &d->all[d->nr], err);
        if (r < 0)
            return r;
        d->blocks[i] = NULL;
        r = config->places && config->disks[i].serial
                ? attach_movable(d, machine, d->all[d->nr], config->disks[i].serial, "disk", err)
                : attach(d, machine, err);
    }
    return r;
}

static int attach_nets(struct devices *d, const struct vmm_config *config, struct machine *machine,
                       struct err *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < config->nr_nets; i++) {
        const struct vmm_net *wanted = &config->nets[i];
        struct virtio_net_config net = {
            .net = d->nets[i], .mtu = wanted->mtu, .any_source = wanted->any_source};

        memcpy(net.mac, wanted->mac, NET_MAC_BYTES);
        if (!wanted->has_mac && (r = net_mac_random(net.mac, err)) < 0)
            return r;
        if ((r = virtio_net_new(&d->host, &net, &d->all[d->nr], err)) < 0)
            return r;
        d->nets[i] = NULL;
        r = config->places && wanted->id
                ? attach_movable(d, machine, d->all[d->nr], wanted->id, "network", err)
                : attach(d, machine, err);
    }
    return r;
}

static int attach_shares(struct devices *d, struct machine *machine, struct err *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < d->nr_shares; i++) {
        struct virtio_fs_config fs = {.server = d->shares[i], .tag = d->tags[i]};

        if ((r = virtio_fs_new(&d->host, &fs, &d->all[d->nr], err)) < 0)
            return r;
        d->shares[i] = NULL;
        r = attach(d, machine, err);
    }
    return r;
}

int devices_attach(struct devices *d, const struct vmm_config *config, struct machine *machine,
                   struct console *terminal, struct err *err)
{
    int r;

    d->host = (struct virtio_host){.memory = machine_memory(machine), .loop = d->loop};
    d->terminal = terminal;
    r = attach_disks(d, config, machine, err);
    if (r == 0)
        r = attach_nets(d, config, machine, err);
    if (r == 0)
        r = attach_shares(d, machine, err);
    if (r == 0 && config->rng) {
        struct virtio_rng_config rng = {0};

        r = virtio_rng_new(&d->host, &rng, &d->all[d->nr], err);
        if (r == 0)
            r = attach(d, machine, err);
    }
    if (r == 0 && config->balloon) {
        r = virtio_balloon_new(&d->host, &d->balloon, err);
        if (r == 0) {
            d->all[d->nr] = d->balloon;
            r = attach(d, machine, err);
        }
    }
    if (r == 0 && config->vsock_path) {
        struct virtio_vsock_config vsock = {.guest_cid = config->vsock_cid,
                                            .path = config->vsock_path};

        r = virtio_vsock_new(&d->host, &vsock, &d->all[d->nr], err);
        if (r == 0)
            r = attach(d, machine, err);
    }
    if (r == 0 && config->console == VMM_CONSOLE_VIRTIO) {
        struct virtio_console_config console = {
            .context = d, .output = console_take, .input_ready = console_room};

        r = virtio_console_new(&d->host, &console, &d->console, err);
        if (r == 0) {
            d->all[d->nr] = d->console;
            r = attach(d, machine, err);
        }
    }
    for (unsigned nr = devices_count(config); r == 0 && d->nr < nr;)
        r = attach_movable(d, machine, NULL, NULL, NULL, err);
    return r;
}

int devices_start(struct devices *d, struct err *err)
{
    int r;

    loop_look_first(d->loop);
    r = loop_thread_start(d->loop, "devices", err);
    d->runs = r == 0;
    return r;
}

void devices_reset(struct devices *d, struct machine *machine)
{
    const struct cpu_bus *bus = machine_cpu_bus(machine);
    uint32_t reset = 0;

    for (unsigned i = 0; i < d->nr; i++)
        bus->mmio_write(bus->context, 0, d->windows[i].gpa + VIRTIO_MMIO_STATUS, &reset,
                        sizeof(reset));
}

void devices_free(struct devices *d)
{
    if (d->runs)
        loop_thread_stop(d->loop);
    for (unsigned i = 0; i < d->nr; i++)
        virtio_device_free(d->all[i]);
    for (unsigned i = 0; i < d->nr_places; i++) {
        virtio_device_free(d->places[i].device);
        virtio_place_free(d->places[i].place);
    }
    for (unsigned i = 0; i < d->nr_blocks; i++)
        block_close(d->blocks[i]);
    for (unsigned i = 0; i < d->nr_nets; i++)
        net_free(d->nets[i]);
    for (unsigned i = 0; i < d->nr_shares; i++)
        share_server_free(d->shares[i]);
    if (d->loop)
        loop_free(d->loop);
    *d = (struct devices){0};
}

struct input {
    struct devices *devices;
    const void *data;
    size_t length, taken;
    uint16_t columns, rows;
};

static void input_call(void *context)
{
    struct input *input = context;

    input->taken = virtio_console_input(input->devices->console, input->data, input->length);
}

size_t devices_console_input(struct devices *d, const void *data, size_t length)
{
    struct input input = {.devices = d, .data = data, .length = length};

    loop_sync(d->loop, input_call, &input);
    return input.taken;
}

static void resize_call(void *context)
{
    struct input *input = context;

    virtio_console_resize(input->devices->console, input->columns, input->rows);
}

void devices_console_resize(struct devices *d, uint16_t columns, uint16_t rows)
{
    struct input input = {.devices = d, .columns = columns, .rows = rows};

    if (d->console)
        loop_sync(d->loop, resize_call, &input);
}

struct balloon_call {
    struct virtio_device *balloon;
    uint64_t bytes;
    struct virtio_balloon_info *info;
};

static void balloon_call(void *context)
{
    struct balloon_call *call = context;

    if (call->info)
        virtio_balloon_get(call->balloon, call->info);
    else
        virtio_balloon_set(call->balloon, call->bytes);
}

static int balloon_run(struct devices *d, struct balloon_call *call, struct err *err)
{
    if (!d->balloon)
        return err_set(
            err, -ENODEV,
            "this VM has no memory balloon: start it with --balloon (\"balloon\": true)");
    call->balloon = d->balloon;
    loop_sync(d->loop, balloon_call, call);
    return 0;
}

int devices_balloon_set(struct devices *d, uint64_t guest_bytes, struct err *err)
{
    uint64_t memory = d->host.memory ? memory_size(d->host.memory) : 0;
    struct balloon_call call = {.bytes = memory - MIN(guest_bytes, memory)};

    return balloon_run(d, &call, err);
}

int devices_balloon_get(struct devices *d, struct virtio_balloon_info *ret, struct err *err)
{
    struct balloon_call call = {.info = ret};

    return balloon_run(d, &call, err);
}
