/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest at windows whose devices come and go: it writes and reads any register, sets
 * queues up over any memory and rings them, while its host attaches disks, asks for them back and
 * takes them by force. The input is a program; whatever it does, the process must stay whole, and
 * a device whose driver has reset it must leave its place.
 */
#include "base/cleanup.h"
#include "base/util.h"
#include "virtio/spec.h"
#include "vmm/hotplug.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM_BYTES  MACHINE_MEMORY_LEAST
#define PLACES     4u
#define STEP_BYTES 4u
#define STEPS_MAX  400u
#define DISK_BYTES (64 << 10)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct machine *machine;
static const struct cpu_bus *bus;
static struct vmm_config config = {.places = true};
static struct devices devices;
static struct hotplug hotplug;
static struct loop *loop;

static void end(void)
{
    hotplug_done(&hotplug);
    devices_free(&devices);
    loop_free(loop);
    machine_free(machine);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct machine_config wanted = {
        .nr_cpus = 1, .memory_bytes = RAM_BYTES, .tsc_hz = 1000000000, .nr_virtio = PLACES};

    (void)argc;
    (void)argv;
    for (unsigned i = 0; i < PLACES; i++)
        wanted.virtio[i] = machine_virtio_window(i);
    if (machine_new(&wanted, &machine, NULL) < 0 || loop_new(&loop, NULL) < 0 ||
        devices_open(&devices, &config, NULL) < 0)
        abort();
    bus = machine_cpu_bus(machine);
    hotplug_init(&hotplug, &config, &devices, machine, loop);
    if (devices_attach(&devices, &config, machine, NULL, NULL) < 0)
        abort();
    hotplug_take(&hotplug);
    atexit(end);
    return 0;
}

static void put(unsigned window, unsigned at, uint32_t value)
{
    bus->mmio_write(bus->context, 0, machine_virtio_window(window).gpa + at, &value, 4);
}

static void id_of(unsigned number, char ret[2])
{
    ret[0] = (char)('a' + number % (PLACES + 1));
    ret[1] = '\0';
}

static void attach(unsigned number, bool read_only)
{
    char id[2];
    int fd = memfd_create("disk", MFD_CLOEXEC);
    json_t *request;

    id_of(number, id);
    request = json_pack("{s:s, s:b}", "id", id, "read_only", (int)read_only);
    if (fd < 0 || ftruncate(fd, DISK_BYTES) < 0 || !request)
        abort();
    hotplug_attach_disk(&hotplug, request, fd, NULL);
    json_decref(request);
}

static bool detach(unsigned number, bool force)
{
    json_t *answer = NULL, *request;
    char id[2];
    bool gone;

    id_of(number, id);
    request = json_pack("{s:s, s:b}", "id", id, "force", (int)force);
    gone = hotplug_detach(&hotplug, request, &answer, NULL) == 0 &&
           *json_string_value(json_object_get(answer, "state")) == 'g';
    json_decref(answer);
    json_decref(request);
    return gone;
}

/* A driver that goes as far as it should, with rings somewhere in memory. */
static void drive(unsigned window, uint8_t where)
{
    uint32_t base = (uint32_t)where << 12;

    put(window, VIRTIO_MMIO_STATUS, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
    put(window, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    put(window, VIRTIO_MMIO_DRIVER_FEATURES, 1);
    put(window, VIRTIO_MMIO_STATUS, 11);
    put(window, VIRTIO_MMIO_QUEUE_SEL, 0);
    put(window, VIRTIO_MMIO_QUEUE_NUM, 16);
    put(window, VIRTIO_MMIO_QUEUE_DESC_LOW, base);
    put(window, VIRTIO_MMIO_QUEUE_DRIVER_LOW, base + 0x400);
    put(window, VIRTIO_MMIO_QUEUE_DEVICE_LOW, base + 0x800);
    put(window, VIRTIO_MMIO_QUEUE_READY, 1);
    put(window, VIRTIO_MMIO_STATUS, 15);
}

static void step(const uint8_t code[STEP_BYTES])
{
    unsigned window = code[1] % PLACES;
    uint64_t value = 0;

    switch (code[0] % 7) {
    case 0:
        put(window, (code[2] & 0x7fu) * 4, code[3]);
        return;
    case 1:
        bus->mmio_read(bus->context, 0, machine_virtio_window(window).gpa + code[2], &value,
                       1u << code[3] % 4);
        return;
    case 2:
        attach(code[2], code[3] & 1);
        return;
    case 3:
        detach(code[2], code[3] & 1);
        return;
    case 4:
        drive(window, code[2]);
        return;
    case 5: /* a word of its rings */
        value = code[3];
        memory_write(machine_memory(machine), (uint64_t)code[1] << 12 | (uint64_t)code[2] << 4,
                     &value, sizeof(value));
        return;
    default:
        loop_run_once(devices.loop, 0);
        loop_run_once(loop, 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t nr = MIN(size / STEP_BYTES, STEPS_MAX);

    for (size_t i = 0; i < nr; i++)
        step(data + i * STEP_BYTES);
    for (unsigned i = 0; i < PLACES; i++)
        put(i, VIRTIO_MMIO_STATUS, 0);
    for (unsigned i = 0; i <= PLACES; i++)
        if (!detach(i, false))
            abort();
    return 0;
}
