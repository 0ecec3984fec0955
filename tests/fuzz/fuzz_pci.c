/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest on the PCI bus: the ports of configuration and hot-plug, the window, devices
 * whose rings it makes; while its host attaches disks, asks for them back, takes them by force and
 * resets the machine. Slots 0 to 3 are for disks, 4 has an entropy device, 5 a network. The input
 * is a program; whatever it does, the process must stay whole, and after a reset of the machine the
 * entropy device must work.
 */
#include "base/cleanup.h"
#include "virtio/spec.h"
#include "virtio_guest.h"
#include "vmm/hotplug.h"

#include <linux/virtio_pci.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM_BYTES  MACHINE_MEMORY_LEAST
#define STEPS_MAX  300
#define DISKS      4u
#define RNG        4u
#define NET        5u
#define DEVICES    6u
#define AT_NOTIFY  0x3000u
#define AT_VECTORS 0x4000u
#define AT_FLAGS   0xfeu /* stands for the control of MSI-X, wherever it is */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct machine *machine;
static struct memory *memory;
static const struct cpu_bus *bus;
static struct vmm_config config = {.hotplug = true};
static struct devices devices;
static struct hotplug hotplug;
static struct loop *loop;
static struct virtio_device *rng, *net_device;
static struct net wire;

static void on_ejected(void *context, unsigned slot)
{
    (void)context;
    hotplug_ejected(&hotplug, slot);
}

static void nothing(void *context)
{
    (void)context;
}

static void plug(unsigned slot, struct virtio_device *device)
{
    struct irq_line line = pci_line(machine_pci(machine), slot);
    struct pci_device described;

    virtio_pci_describe(device, &line, &described);
    pci_plug(machine_pci(machine), slot, &described, false);
}

static void end(void)
{
    hotplug_done(&hotplug);
    for (unsigned slot = RNG; slot <= NET; slot++)
        pci_unplug(machine_pci(machine), slot);
    virtio_device_free(rng);
    virtio_device_free(net_device);
    loop_free(devices.loop);
    loop_free(loop);
    machine_free(machine);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct machine_config wanted = {
        .nr_cpus = 1,
        .memory_bytes = RAM_BYTES,
        .tsc_hz = 1000000000,
        .hotplug = true,
        .events = {.power_off = nothing, .reset = nothing, .ejected = on_ejected},
    };
    struct virtio_rng_config random = {.bytes_per_second = 1 << 30};
    struct virtio_net_config network = {.net = &wire, .mac = {2, 0, 0, 0, 0, 7}};

    (void)argc;
    (void)argv;
    wire = (struct net){.driver = &wire_driver, .link = true};
    if (machine_new(&wanted, &machine, NULL) < 0 || loop_new(&loop, NULL) < 0 ||
        loop_new(&devices.loop, NULL) < 0)
        abort();
    memory = machine_memory(machine);
    bus = machine_cpu_bus(machine);
    devices.host = (struct virtio_host){.memory = memory, .loop = devices.loop};
    hotplug_init(&hotplug, &config, &devices, machine, loop);
    if (virtio_rng_new(&devices.host, &random, &rng, NULL) < 0 ||
        virtio_net_new(&devices.host, &network, &net_device, NULL) < 0)
        abort();
    plug(RNG, rng);
    plug(NET, net_device);
    atexit(end);
    return 0;
}

/* --- what a guest does --- */

static uint64_t bar_of(unsigned slot)
{
    return PCI_WINDOW_BASE + 0x10000 * (uint64_t)slot;
}

static void out(uint16_t port, uint32_t value, unsigned size)
{
    bus->io_write(bus->context, 0, port, &value, size);
}

static uint32_t in_port(uint16_t port, unsigned size)
{
    uint32_t value = 0;

    bus->io_read(bus->context, 0, port, &value, size);
    return value;
}

static uint16_t select_register(unsigned slot, unsigned at)
{
    out(0xcf8, 0x80000000u | (slot + 1) << 11 | (at & 0xfc), 4);
    return (uint16_t)(0xcfc + (at & 3));
}

static void config_out(unsigned slot, unsigned at, uint32_t value, unsigned size)
{
    out(select_register(slot, at), value, size);
}

static unsigned msix_of(unsigned slot)
{
    unsigned at = in_port(select_register(slot, PCI_CAPABILITY), 1);

    for (unsigned i = 0; at && at != 0xff && i < 16; i++) {
        if ((in_port(select_register(slot, at), 4) & 0xff) == 0x11)
            return at;
        at = in_port(select_register(slot, at), 4) >> 8 & 0xff;
    }
    return 0x40;
}

static void bar_out(unsigned slot, uint64_t at, uint64_t value, unsigned size)
{
    bus->mmio_write(bus->context, 0, bar_of(slot) + at, &value, size);
}

static uint64_t bar_in(unsigned slot, uint64_t at, unsigned size)
{
    uint64_t value = 0;

    bus->mmio_read(bus->context, 0, bar_of(slot) + at, &value, size);
    return value;
}

static void place(unsigned slot)
{
    config_out(slot, PCI_BAR0, (uint32_t)bar_of(slot), 4);
    config_out(slot, PCI_COMMAND, 6, 2);
}

static void set_up(unsigned slot)
{
    place(slot);
    bar_out(slot, VIRTIO_PCI_COMMON_STATUS, 0, 1);
    bar_out(slot, VIRTIO_PCI_COMMON_STATUS, 3, 1);
    bar_out(slot, VIRTIO_PCI_COMMON_GFSELECT, 0, 4);
    bar_out(slot, VIRTIO_PCI_COMMON_GF,
            1u << VIRTIO_F_INDIRECT_DESC | (slot == NET ? 0x00168883u : 0), 4);
    bar_out(slot, VIRTIO_PCI_COMMON_GFSELECT, 1, 4);
    bar_out(slot, VIRTIO_PCI_COMMON_GF, 1, 4);
    bar_out(slot, VIRTIO_PCI_COMMON_STATUS, 11, 1);
    bar_out(slot, VIRTIO_PCI_COMMON_MSIX, 0, 2);
    for (unsigned q = 0; q < 3; q++) {
        bar_out(slot, VIRTIO_PCI_COMMON_Q_SELECT, q, 2);
        bar_out(slot, VIRTIO_PCI_COMMON_Q_SIZE, RING_ENTRIES, 2);
        bar_out(slot, VIRTIO_PCI_COMMON_Q_MSIX, q + 1, 2);
        bar_out(slot, VIRTIO_PCI_COMMON_Q_DESCLO, RING(q), 8);
        bar_out(slot, VIRTIO_PCI_COMMON_Q_AVAILLO, RING(q) + RING_AVAIL, 8);
        bar_out(slot, VIRTIO_PCI_COMMON_Q_USEDLO, RING(q) + RING_USED, 8);
        bar_out(slot, VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
    }
    bar_out(slot, VIRTIO_PCI_COMMON_STATUS, 15, 1);
}

static void access_port(struct input *in, bool write)
{
    static const uint16_t bases[4] = {0xcf8, PCI_GPE_PORT, PCI_HOTPLUG_PORT, PCI_HOTPLUG_PORT + 8};
    static const unsigned sizes[4] = {4, 1, 2, 4};
    uint16_t port = (uint16_t)(bases[take(in, 1) % 4] + take(in, 1) % 8);
    unsigned size = sizes[take(in, 1) % 4];

    if (write)
        out(port, (uint32_t)take(in, size), size);
    else
        in_port(port, size);
}

static void access_config(struct input *in)
{
    unsigned slot = (unsigned)take(in, 1) % DEVICES, at = (unsigned)take(in, 1);

    if (at == AT_FLAGS)
        at = msix_of(slot) + MSIX_CONTROL;
    config_out(slot, at, (uint32_t)take(in, 4), at & 1 ? 1 : at & 2 ? 2 : 4);
    in_port(select_register(slot, at), 4);
}

static void access_window(struct input *in, bool write)
{
    unsigned slot = (unsigned)take(in, 1) % DEVICES, size = 1u << take(in, 1) % 4;
    uint64_t at = take(in, 2) % 0x8004;

    if (at & 0x800) /* most places mean nothing */
        at = (at & 0x7000) | (at & 0x3f);
    if (write)
        bar_out(slot, at, take(in, size), size);
    else
        bar_in(slot, at, size);
}

static void offer(struct input *in)
{
    unsigned slot = (unsigned)take(in, 1) % DEVICES;
    uint32_t queue = (uint32_t)take(in, 1) % 3;

    put_available(memory, queue, in);
    bar_out(slot, AT_NOTIFY + 4 * queue, queue, 2);
}

/* --- what its host does --- */

static void attach(struct input *in)
{
    unsigned which = (unsigned)take(in, 1);
    char id[2] = {(char)('a' + which % 8), 0};
    bool room = false;
    json_t *request;
    int fd;

    for (unsigned i = 0; i < DISKS; i++)
        room |= !hotplug.slots[i].device;
    if (!room)
        return;
    fd = memfd_create("disk", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, 1 << 16) < 0 || !(request = json_pack("{s:s}", "id", id)))
        abort();
    hotplug_attach_disk(&hotplug, request, fd, NULL);
    json_decref(request);
}

static void detach(struct input *in)
{
    unsigned which = (unsigned)take(in, 1);
    char id[2] = {(char)('a' + which % 8), 0};
    json_t *request = json_pack("{s:s, s:b}", "id", id, "force", (int)(which >> 7));
    json_t *answer = NULL;

    if (request)
        hotplug_detach(&hotplug, request, &answer, NULL);
    json_decref(request);
    json_decref(answer);
}

static void run_loops(void)
{
    loop_run_once(devices.loop, 0);
    loop_run_once(loop, 0);
}

static void do_step(struct input *in)
{
    switch (take(in, 1) % 14) {
    case 0:
        put_memory(memory, in);
        break;
    case 1:
        put_descriptor(memory, in);
        break;
    case 2:
        offer(in);
        break;
    case 3:
        set_up((unsigned)take(in, 1) % DEVICES);
        break;
    case 4:
    case 5:
        access_port(in, in->left & 1);
        break;
    case 6:
        access_config(in);
        break;
    case 7:
    case 8:
        access_window(in, in->left & 1);
        break;
    case 9:
        run_loops();
        break;
    case 10:
        attach(in);
        break;
    case 11:
        detach(in);
        break;
    case 12:
        wire_deliver(&wire, in);
        break;
    default:
        if (take(in, 1) % 8 == 0)
            machine_reset(machine);
        break;
    }
}

/* One request for random bytes. */
static void check_rng(void)
{
    uint8_t *d = memory_range(memory, RING(0), 16), *used;

    memset(memory_range(memory, 0, 0x20000), 0, 0x20000);
    set_up(RNG);
    if (bar_in(RNG, VIRTIO_PCI_COMMON_STATUS, 1) != 15)
        abort();
    store_le64(d, 0x8000);
    store_le32(d + 8, 16);
    store_le16(d + 12, VIRTQ_DESC_F_WRITE);
    store_le16(memory_range(memory, RING(0) + RING_AVAIL + 2, 2), 1);
    bar_out(RNG, AT_NOTIFY, 0, 2);
    used = memory_range(memory, RING(0) + RING_USED, 16);
    for (unsigned i = 0; i < 1000 && load_le16(used + 2) == 0; i++)
        loop_run_once(devices.loop, 10);
    if (load_le16(used + 2) != 1)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};

    memset(memory_range(memory, 0, 0x20000), 0, 0x20000);
    for (unsigned slot = 0; slot < DEVICES; slot++)
        place(slot);
    for (unsigned step = 0; in.left && step < STEPS_MAX; step++)
        do_step(&in);
    run_loops();
    out(PCI_HOTPLUG_PORT + PCI_HOTPLUG_EJECT, UINT32_MAX, 4);
    loop_run_once(loop, 0);
    for (unsigned i = 0; i < PCI_SLOTS_MAX; i++)
        if (hotplug.slots[i].device)
            abort(); /* ejected, and still there */
    machine_reset(machine);
    check_rng();
    machine_reset(machine);
    run_loops();
    return 0;
}
