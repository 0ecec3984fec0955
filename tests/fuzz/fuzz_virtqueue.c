/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest against every virtio device. The first byte chooses the device (its highest bit:
 * the network device, whose back end hands frames of the input to it) and whether it
 * starts out set up; then the input is a program: pieces of guest memory, descriptors and ring
 * entries, register and configuration accesses, rounds of the loop. Whatever it does, the process
 * must stay whole, and a reset must bring the device back.
 */
#include "base/loop.h"
#include "base/util.h"
#include "block/block.h"
#include "virtio/spec.h"
#include "virtio/virtio.h"
#include "virtio_guest.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM_BYTES UINT64_C(0x100000)
#define STEPS_MAX 400

static struct memory *memory;
static struct loop *loop;
static struct virtio_host host;
#define NET     4u
#define BALLOON 5u

static struct virtio_device *devices[6];
static struct net wire;
static char vsock_path[64];
static int image_fd = -1;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void sink_set(void *context, unsigned gsi, bool level)
{
    (void)context;
    (void)gsi;
    (void)level;
}

static const struct irq_sink sink = {.set = sink_set};

static size_t take_output(void *context, const void *data, size_t length)
{
    (void)context;
    return length && (*(const uint8_t *)data & 1) ? length : length / 2;
}

static struct virtio_device *new_device(unsigned kind)
{
    struct virtio_device *device = NULL;
    char path[64];

    if (kind == 0) {
        struct block_options options = {.engine = BLOCK_ENGINE_THREADS};
        struct virtio_blk_config config = {.serial = "fuzz"};

        snprintf(path, sizeof(path), "/proc/self/fd/%d", image_fd);
        if (block_open_raw(path, &options, loop, &config.block, NULL) < 0 ||
            virtio_blk_new(&host, &config, &device, NULL) < 0)
            abort();
    } else if (kind == 1) {
        struct virtio_console_config config = {.output = take_output};

        if (virtio_console_new(&host, &config, &device, NULL) < 0)
            abort();
    } else if (kind == 2) {
        struct virtio_rng_config config = {0};

        if (virtio_rng_new(&host, &config, &device, NULL) < 0)
            abort();
    } else if (kind == BALLOON) {
        if (virtio_balloon_new(&host, &device, NULL) < 0)
            abort();
    } else if (kind == NET) {
        struct virtio_net_config config = {.net = &wire, .mac = {2, 0, 0, 0, 0, 7}};

        wire = (struct net){.driver = &wire_driver, .link = true};
        if (virtio_net_new(&host, &config, &device, NULL) < 0)
            abort();
    } else {
        struct virtio_vsock_config config = {
            .guest_cid = 3, .path = vsock_path, .connections_max = 8};

        if (virtio_vsock_new(&host, &config, &device, NULL) < 0)
            abort();
    }
    return device;
}

static void free_devices(void)
{
    for (unsigned i = 0; i < ARRAY_LEN(devices); i++)
        virtio_device_free(devices[i]);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct irq_line line = {.sink = &sink, .gsi = 5};

    (void)argc;
    (void)argv;
    if (memory_new(&memory, NULL) < 0 || memory_add_ram(memory, 0, RAM_BYTES, NULL) < 0 ||
        loop_new(&loop, NULL) < 0)
        abort();
    host = (struct virtio_host){.memory = memory, .loop = loop};
    snprintf(vsock_path, sizeof(vsock_path), "/tmp/fuzz_vsock.%d", getpid());
    image_fd = memfd_create("image", MFD_CLOEXEC);
    if (image_fd < 0 || ftruncate(image_fd, 1 << 20) < 0)
        abort();
    for (unsigned i = 0; i < ARRAY_LEN(devices); i++) {
        devices[i] = new_device(i);
        virtio_mmio_connect(devices[i], &line);
    }
    atexit(free_devices);
    return 0;
}

static void reg(struct virtio_device *device, uint64_t offset, uint32_t value)
{
    virtio_mmio_ops.write(device, 0, offset, &value, 4);
}

static void set_up(struct virtio_device *device)
{
    reg(device, VIRTIO_MMIO_STATUS, 0);
    reg(device, VIRTIO_MMIO_STATUS, 3);
    reg(device, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    reg(device, VIRTIO_MMIO_DRIVER_FEATURES,
        1u << VIRTIO_F_INDIRECT_DESC | (device == devices[NET]       ? 0x00168883u
                                        : device == devices[BALLOON] ? 0x26u
                                                                     : 0));
    reg(device, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    reg(device, VIRTIO_MMIO_DRIVER_FEATURES, 1);
    reg(device, VIRTIO_MMIO_STATUS, 11);
    for (unsigned q = 0; q < 3; q++) {
        reg(device, VIRTIO_MMIO_QUEUE_SEL, q);
        reg(device, VIRTIO_MMIO_QUEUE_NUM, RING_ENTRIES);
        reg(device, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)RING(q));
        reg(device, VIRTIO_MMIO_QUEUE_DRIVER_LOW, (uint32_t)RING(q) + RING_AVAIL);
        reg(device, VIRTIO_MMIO_QUEUE_DEVICE_LOW, (uint32_t)RING(q) + RING_USED);
        reg(device, VIRTIO_MMIO_QUEUE_READY, 1);
    }
    reg(device, VIRTIO_MMIO_STATUS, 15);
}

static void offer(struct virtio_device *device, struct input *in)
{
    uint32_t queue = (uint32_t)take(in, 1) % 3;

    put_available(memory, queue, in);
    reg(device, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
}

static void access_register(struct virtio_device *device, struct input *in, bool write)
{
    static const unsigned sizes[4] = {4, 1, 2, 8};
    unsigned size = sizes[take(in, 1) % 4];
    uint64_t offset = take(in, 2) % (VIRTIO_MMIO_SIZE - size + 1);
    uint64_t value = UINT64_MAX;

    if (size == 4)
        offset &= ~UINT64_C(3);
    if (!write) {
        virtio_mmio_ops.read(device, 0, offset, &value, size);
        return;
    }
    value = take(in, size);
    virtio_mmio_ops.write(device, 0, offset, &value, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    unsigned first = (unsigned)take(&in, 1);
    unsigned kind = first & 0x80 ? (first & 0x40 ? BALLOON : NET) : first % 4;
    struct virtio_device *device = devices[kind];
    bool empty = true;

    memset(memory_range(memory, 0, RAM_BYTES), 0, 0x20000);
    if (first & 4)
        set_up(device);
    for (unsigned step = 0; in.left && step < STEPS_MAX; step++) {
        switch (take(&in, 1) % 8) {
        case 0:
            put_memory(memory, &in);
            break;
        case 1:
        case 2:
            put_descriptor(memory, &in);
            break;
        case 3:
            offer(device, &in);
            break;
        case 4:
        case 5:
            access_register(device, &in, in.left & 1);
            break;
        case 6:
            loop_run_once(loop, 0);
            break;
        default:
            if (kind == NET && wire.started) {
                wire_deliver(&wire, &in);
            } else if (kind == 1) {
                virtio_console_input(device, in.data, in.left);
                virtio_console_output_ready(device);
            } else {
                set_up(device);
            }
            break;
        }
    }
    loop_run_once(loop, 0);
    /* Looked at before: a balloon may take away the very pages that the rings are in. */
    for (unsigned q = 0; q < 3; q++)
        empty &= load_le16(memory_range(memory, RING(q) + RING_AVAIL + 2, 2)) == 0;
    set_up(device);
    if (empty && virtio_device_failure(device))
        abort(); /* fresh empty rings do not break a device */
    reg(device, VIRTIO_MMIO_STATUS, 0);
    loop_run_once(loop, 0);
    return 0;
}
