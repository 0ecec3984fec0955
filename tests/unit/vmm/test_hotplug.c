/* SPDX-License-Identifier: Apache-2.0 */
/* Devices that come and go: a machine with a PCI bus, its host's commands, and a guest played by
 * the test. The devices' loop has a thread of its own, as in the monitor. */
#include "hotplug_calls.h"

#include "../virtio/pci_guest.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/util.h"
#include "testing.h"
#include "virtio/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BAR        PCI_WINDOW_BASE
#define DESC       UINT64_C(0x10000)
#define AVAIL      UINT64_C(0x12000)
#define USED       UINT64_C(0x14000)
#define HEADER     UINT64_C(0x16000)
#define DATA       UINT64_C(0x100000)
#define QUEUE      256u
#define REQUESTS   64u
#define DATA_BYTES (32u << 10)
#define DISK_BYTES (8 << 20)
#define LIMIT_NS   (20 * NS_PER_S)

static struct vmm_config config;
static struct machine *machine;
static struct devices devices;
static struct hotplug hotplug;
static struct loop *loop;
static struct pci_guest guest;
static struct err err;

static void on_ejected(void *context, unsigned slot)
{
    (void)context;
    hotplug_ejected(&hotplug, slot);
}

static void setup(void)
{
    struct machine_config wanted = {
        .nr_cpus = 1,
        .memory_bytes = 16 * MIB,
        .tsc_hz = 1000000000,
        .hotplug = true,
        .events = {.ejected = on_ejected},
    };

    config = (struct vmm_config){.hotplug = true};
    memset(&devices, 0, sizeof(devices));
    ck_assert_int_eq(machine_new(&wanted, &machine, NULL), 0);
    ck_assert_int_eq(loop_new(&loop, NULL), 0);
    ck_assert_int_eq(loop_new(&devices.loop, NULL), 0);
    ck_assert_int_eq(loop_thread_start(devices.loop, "devices", NULL), 0);
    devices.host = (struct virtio_host){.memory = machine_memory(machine), .loop = devices.loop};
    hotplug_init(&hotplug, &config, &devices, machine, loop);
    guest = (struct pci_guest){machine_bus(machine), *machine_cpu_bus(machine)};
}

static void teardown(void)
{
    hotplug_done(&hotplug);
    loop_free(devices.loop);
    loop_free(loop);
    machine_free(machine);
}

static int new_disk(void)
{
    int fd = memfd_create("disk", MFD_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, DISK_BYTES), 0);
    return fd;
}

/* The same file, opened again: locks are of the opened one. */
static int opened_again(int fd)
{
    char path[32];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

/* Takes fd. */
static int attach(const char *id, int fd)
{
    json_t *request = json_pack("{s:s}", "id", id);
    int result = hotplug_attach_disk(&hotplug, request, fd, &err);

    json_decref(request);
    return result;
}

static void eject(unsigned slot)
{
    pci_guest_out(&guest, PCI_HOTPLUG_PORT + PCI_HOTPLUG_EJECT, 1u << slot, 4);
}

static void wait_devices(size_t nr)
{
    uint64_t deadline = clock_monotonic_ns() + LIMIT_NS;

    while (hotplug_count(&hotplug) != nr) {
        ck_assert_uint_lt(clock_monotonic_ns(), deadline);
        ck_assert_int_eq(loop_run_once(loop, 100), 0);
    }
}

static void *ram(gpa_t gpa, uint64_t length)
{
    void *host = memory_range(machine_memory(machine), gpa, length);

    ck_assert_ptr_nonnull(host);
    return host;
}

static void descriptor(unsigned index, gpa_t gpa, uint32_t length, unsigned flags)
{
    uint8_t *d = ram(DESC + 16 * index, 16);

    store_le64(d, gpa);
    store_le32(d + 8, length);
    store_le16(d + 12, (uint16_t)flags);
    store_le16(d + 14, (uint16_t)(index + 1));
}

static void start_driver(struct pci_guest_device *disk)
{
    uint64_t common;

    memset(ram(AVAIL, 0x2000), 0, 0x2000); /* of a driver before it */
    memset(ram(USED, 0x2000), 0, 0x2000);
    pci_guest_probe(&guest, 1, BAR, disk);
    common = disk->at[VIRTIO_PCI_CAP_COMMON_CFG];
    pci_guest_write(&guest, common + VIRTIO_PCI_COMMON_STATUS, 3, 1);
    pci_guest_write(&guest, common + VIRTIO_PCI_COMMON_GFSELECT, 1, 4);
    pci_guest_write(&guest, common + VIRTIO_PCI_COMMON_GF, 1, 4);
    pci_guest_write(&guest, common + VIRTIO_PCI_COMMON_STATUS, 11, 1);
    pci_guest_write(&guest, common + VIRTIO_PCI_COMMON_Q_SELECT, 0, 2);
    pci_guest_write(&guest, common + VIRTIO_PCI_COMMON_Q_SIZE, QUEUE, 2);
    pci_guest_write(&guest, common + VIRTIO_PCI_COMMON_Q_DESCLO, DESC, 8);
    pci_guest_write(&guest, common + VIRTIO_PCI_COMMON_Q_AVAILLO, AVAIL, 8);
    pci_guest_write(&guest, common + VIRTIO_PCI_COMMON_Q_USEDLO, USED, 8);
    pci_guest_write(&guest, common + VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
    pci_guest_write(&guest, common + VIRTIO_PCI_COMMON_STATUS, 15, 1);
    ck_assert_uint_eq(pci_guest_read(&guest, common + VIRTIO_PCI_COMMON_STATUS, 1), 15);
}

/* Writes of the whole disk, all at once. */
static void make_busy(const struct pci_guest_device *disk)
{
    for (unsigned i = 0; i < REQUESTS; i++) {
        gpa_t header = HEADER + 32 * i;

        store_le32(ram(header, 32), 1);
        store_le64(ram(header + 8, 8), (uint64_t)i * DATA_BYTES / 512);
        descriptor(3 * i, header, 16, VIRTQ_DESC_F_NEXT);
        descriptor(3 * i + 1, DATA + i * DATA_BYTES, DATA_BYTES, VIRTQ_DESC_F_NEXT);
        descriptor(3 * i + 2, header + 16, 1, VIRTQ_DESC_F_WRITE);
        memset(ram(DATA + i * DATA_BYTES, DATA_BYTES), (int)i + 1, DATA_BYTES);
        store_le16(ram(AVAIL + 4 + 2 * i, 2), (uint16_t)(3 * i));
    }
    __atomic_store_n((uint16_t *)ram(AVAIL + 2, 2), (uint16_t)REQUESTS, __ATOMIC_SEQ_CST);
    pci_guest_write(&guest, disk->at[VIRTIO_PCI_CAP_NOTIFY_CFG], 0, 2);
}

/* What was begun is finished, what was not is not done by halves; then the file is free. */
START_TEST(ejected_while_busy)
{
    struct pci_guest_device disk;
    uint8_t bytes[DATA_BYTES];
    int fd = new_disk();

    ck_assert_msg(attach("a", opened_again(fd)) == 0, "%s", err.message);
    start_driver(&disk);
    make_busy(&disk);
    eject(0);
    wait_devices(0);
    ck_assert_uint_eq(pci_guest_config_in(&guest, 1, PCI_VENDOR, 4), UINT32_MAX);
    ck_assert_uint_eq(pci_guest_read(&guest, BAR, 4), UINT32_MAX);
    pci_guest_write(&guest, disk.at[VIRTIO_PCI_CAP_NOTIFY_CFG], 0, 2);
    for (unsigned i = 0; i < REQUESTS; i++) {
        ck_assert_int_eq(pread(fd, bytes, DATA_BYTES, (off_t)i * DATA_BYTES), DATA_BYTES);
        ck_assert(bytes[0] == 0 || bytes[0] == i + 1);
        ck_assert(!memcmp(bytes, bytes + 1, DATA_BYTES - 1));
    }
    ck_assert_msg(attach("again", fd) == 0, "%s", err.message); /* nobody has its lock */
}
END_TEST

START_TEST(taken_by_force_while_busy)
{
    struct pci_guest_device disk;
    int fd = new_disk();

    ck_assert_int_eq(attach("a", opened_again(fd)), 0);
    start_driver(&disk);
    make_busy(&disk);
    ck_assert_str_eq(detached(&hotplug, "a", true), "revoked");
    ck_assert_str_eq(detached(&hotplug, "a", true), "revoked");
    ck_assert_msg(attach("again", fd) == 0, "%s", err.message); /* the file is free at once */
    ck_assert_uint_eq(hotplug_count(&hotplug), 2);
    eject(0);
    wait_devices(1);
}
END_TEST

START_TEST(slots_are_taken_and_given_back)
{
    char id[2] = "a";

    for (unsigned i = 0; i < PCI_SLOTS_MAX; i++, id[0]++)
        ck_assert_msg(attach(id, new_disk()) == 0, "%s", err.message);
    ck_assert_uint_eq(pci_guest_in(&guest, PCI_HOTPLUG_PORT + PCI_HOTPLUG_INSERTED, 4), 0x3f);
    ck_assert_int_eq(attach("x", new_disk()), -ENOSPC);
    ck_assert_str_eq(detached(&hotplug, "c", false), "asked");
    ck_assert_uint_eq(pci_guest_in(&guest, PCI_HOTPLUG_PORT + PCI_HOTPLUG_ASKED, 4), 1u << 2);
    eject(2);
    wait_devices(PCI_SLOTS_MAX - 1);
    ck_assert_str_eq(detached(&hotplug, "c", false), "gone");
    eject(2); /* there is nothing */
    ck_assert_int_eq(loop_run_once(loop, 0), 0);
    ck_assert_int_eq(attach("x", new_disk()), 0);
    eject(0); /* nobody asked */
    wait_devices(PCI_SLOTS_MAX - 1);
}
END_TEST

START_TEST(what_is_refused)
{
    int image = new_disk();

    ck_assert_int_eq(attach("", new_disk()), -EINVAL);
    ck_assert_int_eq(attach("a-name-that-is-too-long", new_disk()), -EINVAL);
    ck_assert_int_eq(attach("a", -1), -EINVAL);
    ck_assert_int_eq(attach("a", opened_again(image)), 0);
    ck_assert_int_eq(attach("a", new_disk()), -EEXIST);
    ck_assert_int_lt(attach("b", image), 0); /* somebody writes to it */
    ck_assert_uint_eq(hotplug_count(&hotplug), 1);
    config.hotplug = false;
    ck_assert_int_eq(attach("c", new_disk()), -EOPNOTSUPP);
}
END_TEST

START_TEST(a_reset_while_busy)
{
    struct pci_guest_device disk;

    ck_assert_int_eq(attach("a", new_disk()), 0);
    start_driver(&disk);
    make_busy(&disk);
    machine_reset(machine);
    ck_assert_uint_eq(pci_guest_in(&guest, PCI_HOTPLUG_PORT + PCI_HOTPLUG_INSERTED, 4), 0);
    start_driver(&disk);
    make_busy(&disk);
    eject(0);
    wait_devices(0);
}
END_TEST

static int attach_net(const char *id, const char *net, int fd)
{
    json_t *request = json_pack("{s:s, s:s}", "id", id, "net", net);
    int result = hotplug_attach_net(&hotplug, request, fd, &err);

    json_decref(request);
    return result;
}

START_TEST(taps_that_are_none)
{
    ck_assert_int_eq(attach_net("n", "tap=tap0", -1), -EINVAL);
    ck_assert_int_lt(attach_net("n", "tap=tap0", new_disk()), 0);
    ck_assert_int_lt(attach_net("n", "tap=tap0,no=option", new_disk()), 0);
    ck_assert_int_lt(attach_net("n", "nothing", new_disk()), 0);
    ck_assert_uint_eq(hotplug_count(&hotplug), 0);
}
END_TEST

TEST_MAIN("vmm_hotplug", tcase_add_checked_fixture(tcase, setup, teardown);
          tcase_add_test(tcase, ejected_while_busy);
          tcase_add_test(tcase, taken_by_force_while_busy);
          tcase_add_test(tcase, slots_are_taken_and_given_back);
          tcase_add_test(tcase, what_is_refused); tcase_add_test(tcase, a_reset_while_busy);
          tcase_add_test(tcase, taps_that_are_none))
