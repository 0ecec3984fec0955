/* SPDX-License-Identifier: Apache-2.0 */
/* Devices that come to windows kept for them and leave: the host's commands, and a guest played by
 * the test, whose registers are those of virtio 1.2 4.2.2. */
#include "hotplug_calls.h"

#include "base/util.h"
#include "testing.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAGIC      0x74726976u
#define WINDOW(n)  (machine_virtio_window(n).gpa)
#define ID         0x008u
#define FEATURES   0x020u
#define SELECT     0x024u
#define STATUS     0x070u
#define NR_PLACES  4u
#define DISK_BYTES (1 << 20)

static struct vmm_config config;
static struct machine *machine;
static struct devices devices;
static struct hotplug hotplug;
static struct loop *loop;
static struct err err;

static void start(const struct vmm_config *wanted)
{
    struct machine_config made = {.nr_cpus = 1, .memory_bytes = 16 * MIB, .tsc_hz = 1000000000};

    config = *wanted;
    memset(&devices, 0, sizeof(devices));
    made.nr_virtio = devices_count(&config);
    for (unsigned i = 0; i < made.nr_virtio; i++)
        made.virtio[i] = machine_virtio_window(i);
    ck_assert_int_eq(machine_new(&made, &machine, NULL), 0);
    ck_assert_int_eq(loop_new(&loop, NULL), 0);
    ck_assert_int_eq(devices_open(&devices, &config, NULL), 0);
    hotplug_init(&hotplug, &config, &devices, machine, loop);
    ck_assert_int_eq(devices_attach(&devices, &config, machine, NULL, &err), 0);
    hotplug_take(&hotplug);
    ck_assert_int_eq(devices_start(&devices, NULL), 0);
}

static void setup(void)
{
    start(&(struct vmm_config){.places = true});
}

static void teardown(void)
{
    hotplug_done(&hotplug);
    devices_free(&devices);
    loop_free(loop);
    machine_free(machine);
}

static uint32_t look(unsigned window, unsigned at)
{
    const struct cpu_bus *bus = machine_cpu_bus(machine);
    uint32_t value = 0;

    bus->mmio_read(bus->context, 0, WINDOW(window) + at, &value, sizeof(value));
    return value;
}

static void put(unsigned window, unsigned at, uint32_t value)
{
    const struct cpu_bus *bus = machine_cpu_bus(machine);

    bus->mmio_write(bus->context, 0, WINDOW(window) + at, &value, sizeof(value));
}

/* As far as DRIVER_OK, with version 1 alone. */
static void drive(unsigned window)
{
    put(window, STATUS, 1 | 2);
    put(window, SELECT, 1);
    put(window, FEATURES, 1);
    put(window, STATUS, 1 | 2 | 8);
    put(window, STATUS, 1 | 2 | 4 | 8);
    ck_assert_uint_eq(look(window, STATUS), 1 | 2 | 4 | 8);
}

static int attach(const char *id)
{
    json_t *request = json_pack("{s:s}", "id", id);
    int fd = memfd_create("disk", MFD_CLOEXEC), result;

    ck_assert_int_eq(ftruncate(fd, DISK_BYTES), 0);
    result = hotplug_attach_disk(&hotplug, request, fd, &err);
    json_decref(request);
    return result;
}

START_TEST(an_empty_place_is_a_placeholder)
{
    for (unsigned i = 0; i < NR_PLACES; i++) {
        ck_assert_uint_eq(look(i, 0), MAGIC);
        ck_assert_uint_eq(look(i, 4), 2);
        for (unsigned at = 8; at < VIRTIO_MMIO_SIZE; at += 4) {
            put(i, at, UINT32_MAX);
            ck_assert_uint_eq(look(i, at), 0);
        }
    }
    ck_assert_uint_eq(devices.nr, NR_PLACES);
    ck_assert_uint_eq(hotplug_count(&hotplug), 0);
}
END_TEST

START_TEST(one_comes_and_goes)
{
    ck_assert_msg(attach("a") == 0, "%s", err.message);
    ck_assert_uint_eq(look(0, ID), 2);
    ck_assert_int_eq(attach("a"), -EEXIST);
    drive(0);
    ck_assert_str_eq(detached(&hotplug, "a", false), "asked"); /* the driver has it yet */
    ck_assert_uint_eq(hotplug_count(&hotplug), 1);
    put(0, STATUS, 0);
    ck_assert_str_eq(detached(&hotplug, "a", false), "gone");
    ck_assert_str_eq(detached(&hotplug, "a", false), "gone"); /* what is not there is no error */
    ck_assert_uint_eq(look(0, ID), 0);
    ck_assert_msg(attach("b") == 0, "%s", err.message);
    ck_assert_str_eq(detached(&hotplug, "b", false), "gone"); /* nobody looked at it */
}
END_TEST

/* What was taken by force leaves its place as soon as its driver does. */
START_TEST(places_are_given_back)
{
    char id[2] = "a";

    for (unsigned i = 0; i < NR_PLACES; i++, id[0]++)
        ck_assert_msg(attach(id) == 0, "%s", err.message);
    drive(3);
    ck_assert_str_eq(detached(&hotplug, "d", true), "revoked");
    ck_assert_int_eq(attach("x"), -ENOSPC);
    put(3, STATUS, 0);
    ck_assert_uint_eq(hotplug_count(&hotplug), NR_PLACES - 1);
    ck_assert_msg(attach("x") == 0, "%s", err.message);
    ck_assert_uint_eq(look(3, ID), 2);
}
END_TEST

static int memory_disk(const char *path)
{
    int fd = memfd_create(path, 0);

    ck_assert_int_eq(ftruncate(fd, DISK_BYTES), 0);
    return fd;
}

/* A disk with a serial number of its own leaves; one without stays. */
START_TEST(what_was_there_goes_too)
{
    char first[32], second[32], serial[] = "data";
    struct vmm_config wanted = {.places = true, .nr_disks = 2};

    teardown();
    snprintf(first, sizeof(first), "/proc/self/fd/%d", memory_disk("first"));
    snprintf(second, sizeof(second), "/proc/self/fd/%d", memory_disk("second"));
    wanted.disks[0].path = first;
    wanted.disks[1].path = second;
    wanted.disks[1].serial = serial;
    start(&wanted);
    ck_assert_uint_eq(devices.nr, 2 + NR_PLACES);
    ck_assert_uint_eq(hotplug_count(&hotplug), 1);
    ck_assert_uint_eq(look(1, ID), 2);
    ck_assert_str_eq(detached(&hotplug, "data", false), "gone");
    ck_assert_uint_eq(look(1, ID), 0);
    ck_assert_uint_eq(look(0, ID), 2);
}
END_TEST

TEST_MAIN("vmm_places", tcase_add_checked_fixture(tcase, setup, teardown);
          tcase_add_test(tcase, an_empty_place_is_a_placeholder);
          tcase_add_test(tcase, one_comes_and_goes); tcase_add_test(tcase, places_are_given_back);
          tcase_add_test(tcase, what_was_there_goes_too))
