/* SPDX-License-Identifier: Apache-2.0 */
/* The block device against an image file, and with a disk that fails or hangs. */
#include "block/fault.h"
#include "fake_driver.h"
#include "machine/pci.h"
#include "testing.h"
#include "virtio/spec.h"

#include <errno.h>

#define SECTORS 2048
#define HEADER  FAKE_DATA_GPA
#define STATUS  (FAKE_DATA_GPA + 0x800)
#define DATA    (FAKE_DATA_GPA + 0x1000)

#define F_RO         VIRTIO_F(5)
#define F_FLUSH      VIRTIO_F(9)
#define F_CONFIG_WCE VIRTIO_F(11)
#define F_DISCARD    VIRTIO_F(13)
#define F_ALL        UINT64_MAX

#define T_IN           0u
#define T_OUT          1u
#define T_FLUSH        4u
#define T_GET_ID       8u
#define T_DISCARD      11u
#define T_WRITE_ZEROES 13u

static struct fake fake;
static struct block_fault_plan plan;
static struct block *disk;
static char image[64];

static void make(bool read_only, uint64_t features)
{
    struct block_options options = {.read_only = read_only};
    struct virtio_blk_config config = {.serial = "disk-serial-that-is-too-long"};
    struct virtio_device *device = NULL;
    struct block *raw = NULL;
    struct err err = ERR_INIT;

    ck_assert_msg(block_open_raw(image, &options, fake.loop, &raw, &err) == 0, "%s", err.message);
    ck_assert_int_eq(block_fault_new(raw, &plan, fake.loop, &disk, &err), 0);
    config.block = disk;
    ck_assert_int_eq(virtio_blk_new(&fake.host, &config, &device, &err), 0);
    fake_start(&fake, device, features, 1);
}

static void setup(void)
{
    int fd;

    snprintf(image, sizeof(image), "/tmp/test_blk.XXXXXX");
    fd = mkstemp(image);
    ck_assert_int_eq(ftruncate(fd, SECTORS * 512), 0);
    close(fd);
    plan = (struct block_fault_plan){0};
    fake_init(&fake);
}

static void teardown(void)
{
    fake_done(&fake);
    unlink(image);
}

/* Offers header, data (cut in odd pieces) and status. */
static void offer(uint32_t type, uint64_t sector, uint32_t length, bool to_guest)
{
    uint8_t *header = fake_host(&fake, HEADER, 16);
    uint32_t first = length / 3 + 1;
    struct fake_segment segments[5] = {{HEADER, 7, false}, {HEADER + 7, 9, false}};
    unsigned nr = 2;

    store_le32(header, type);
    store_le64(header + 8, sector);
    *(uint8_t *)fake_host(&fake, STATUS, 1) = 0xee;
    if (length) {
        segments[nr++] = (struct fake_segment){DATA, first, to_guest};
        if (length > first)
            segments[nr++] = (struct fake_segment){DATA + first, length - first, to_guest};
    }
    segments[nr++] = (struct fake_segment){STATUS, 1, true};
    fake_add(&fake, 0, segments, nr);
    fake_notify(&fake, 0);
}

static uint8_t status(void)
{
    return *(uint8_t *)fake_host(&fake, STATUS, 1);
}

static int request(uint32_t type, uint64_t sector, uint32_t length, bool to_guest)
{
    uint32_t written;

    offer(type, sector, length, to_guest);
    written = fake_wait_used(&fake, 0, NULL);
    ck_assert_uint_eq(written, to_guest ? length + 1 : 1);
    return status();
}

static int range_request(uint32_t type, uint64_t sector, uint32_t nr, uint32_t flags)
{
    uint8_t *range = fake_host(&fake, DATA, 16);

    store_le64(range, sector);
    store_le32(range + 8, nr);
    store_le32(range + 12, flags);
    return request(type, 0, 16, false);
}

START_TEST(moves_data)
{
    uint8_t *data = fake_host(&fake, DATA, 8192);
    uint8_t copy[8192];

    make(false, F_ALL);
    for (int i = 0; i < 8192; i++)
        data[i] = copy[i] = (uint8_t)(i * 3 + (i >> 7));
    ck_assert_int_eq(request(T_OUT, 100, 8192, false), 0);
    ck_assert_int_eq(request(T_FLUSH, 0, 0, false), 0);
    memset(data, 0, 8192);
    ck_assert_int_eq(request(T_IN, 100, 8192, true), 0);
    ck_assert_mem_eq(data, copy, 8192);
    ck_assert_int_eq(range_request(T_WRITE_ZEROES, 101, 2, 1), 0);
    ck_assert_int_eq(range_request(T_DISCARD, 108, 8, 0), 0);
    ck_assert_int_eq(request(T_IN, 100, 4096, true), 0);
    ck_assert_mem_eq(data, copy, 512);
    for (int i = 512; i < 1536; i++)
        ck_assert_int_eq(data[i], 0);
    ck_assert_mem_eq(data + 1536, copy + 1536, 2560);
    ck_assert_int_eq(request(T_GET_ID, 0, 20, true), 0);
    ck_assert_mem_eq(data, "disk-serial-that-is-", 20);
}
END_TEST

START_TEST(answers_bad_requests)
{
    make(false, F_ALL);
    ck_assert_int_eq(request(T_IN, SECTORS, 512, true), 1);
    ck_assert_int_eq(request(T_IN, SECTORS - 1, 1024, true), 1);
    ck_assert_int_eq(request(T_OUT, UINT64_MAX, 512, false), 1);
    ck_assert_int_eq(request(T_IN, 0, 500, true), 1);
    ck_assert_int_eq(request(T_OUT, 0, 500, false), 1);
    ck_assert_int_eq(request(77, 0, 512, true), 2);
    ck_assert_int_eq(request(T_GET_ID, 0, 10, true), 1);
    ck_assert_int_eq(range_request(T_DISCARD, UINT64_MAX - 2, 8, 0), 1);
    ck_assert_int_eq(range_request(T_DISCARD, 0, 8, 1), 2);
    ck_assert_int_eq(range_request(T_WRITE_ZEROES, 0, UINT32_MAX, 0), 1);
    ck_assert_int_eq(range_request(T_WRITE_ZEROES, 0, 8, 0x10), 2);
    ck_assert_int_eq(request(T_DISCARD, 0, 512, false), 1);
    ck_assert_int_eq(request(T_IN, 0, 512, true), 0);
}
END_TEST

START_TEST(read_only_disk)
{
    make(true, F_ALL);
    fake_write(&fake, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    ck_assert(fake_read(&fake, VIRTIO_MMIO_DEVICE_FEATURES) & F_RO);
    ck_assert(!(fake_read(&fake, VIRTIO_MMIO_DEVICE_FEATURES) & F_DISCARD));
    ck_assert_int_eq(request(T_OUT, 0, 512, false), 1);
    ck_assert_int_eq(range_request(T_WRITE_ZEROES, 0, 8, 0), 1);
    ck_assert_int_eq(request(T_IN, 0, 512, true), 0);
    ck_assert_int_eq(request(T_FLUSH, 0, 0, false), 0);
}
END_TEST

/* No status byte, or no header: the one breaks the device, the other is an error. */
START_TEST(requests_without_frame)
{
    struct fake_segment only_status = {STATUS, 1, true}, only_header = {HEADER, 16, false};

    make(false, F_ALL);
    fake_add(&fake, 0, &only_status, 1);
    fake_notify(&fake, 0);
    fake_wait_used(&fake, 0, NULL);
    ck_assert_int_eq(status(), 1);
    fake_add(&fake, 0, &only_header, 1);
    fake_notify(&fake, 0);
    fake_run(&fake, 0);
    ck_assert(fake_failed(&fake));
}
END_TEST

START_TEST(disk_errors_reach_the_guest)
{
    make(false, F_ALL);
    plan = (struct block_fault_plan){.ops = ~0u, .fail_every = 1, .error = _i ? -ENOSPC : -EIO};
    ck_assert_int_eq(request(T_OUT, 0, 512, false), 1);
    ck_assert_int_eq(request(T_IN, 0, 512, true), 1);
    ck_assert_int_eq(request(T_FLUSH, 0, 0, false), 1);
    ck_assert_int_eq(range_request(T_DISCARD, 0, 8, 0), 1);
    plan = (struct block_fault_plan){0};
    ck_assert_int_eq(request(T_OUT, 0, 512, false), 0);
}
END_TEST

/* With a write-through cache a write ends after its flush: a failing flush fails the write. */
START_TEST(write_through)
{
    uint8_t writeback = 0;

    plan = (struct block_fault_plan){.ops = 1u << BLOCK_FLUSH, .fail_every = 1, .error = -EIO};
    make(false, F_ALL);
    ck_assert_int_eq(request(T_OUT, 0, 512, false), 0);
    virtio_mmio_ops.write(fake.device, 0, VIRTIO_MMIO_CONFIG + 32, &writeback, 1);
    ck_assert_int_eq(request(T_OUT, 0, 512, false), 1);
    writeback = 1;
    virtio_mmio_ops.write(fake.device, 0, VIRTIO_MMIO_CONFIG + 32, &writeback, 1);
    ck_assert_int_eq(request(T_OUT, 0, 512, false), 0);
    /* A driver that cannot flush gets write-through. */
    fake_start(&fake, fake.device, F_ALL & ~(F_FLUSH | F_CONFIG_WCE), 1);
    ck_assert_int_eq(request(T_OUT, 0, 512, false), 1);
    /* Nothing else in the configuration is writable. */
    virtio_mmio_ops.write(fake.device, 0, VIRTIO_MMIO_CONFIG, &writeback, 1);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_CONFIG), SECTORS);
}
END_TEST

/* Requests in flight at a reset end before it does; the guest's new driver sees none of them. */
START_TEST(reset_drains)
{
    make(false, F_ALL);
    plan = (struct block_fault_plan){.ops = ~0u, .hold = true, .newest_first = _i};
    for (int i = 0; i < 8; i++) {
        offer(i % 2 ? T_IN : T_OUT, (uint64_t)i, 512, i % 2);
        fake_run(&fake, 0);
    }
    ck_assert_uint_eq(block_fault_nr_held(disk), 8);
    if (_i == 2) { /* a broken ring does not lose them either */
        fake_offer(&fake, 0, 999);
        fake_notify(&fake, 0);
        fake_run(&fake, 0);
        ck_assert(fake_failed(&fake));
        block_fault_release(disk);
        for (int i = 0; i < 20; i++)
            fake_run(&fake, 1);
    }
    fake_write(&fake, VIRTIO_MMIO_STATUS, 0);
    ck_assert_uint_eq(block_nr_in_flight(disk), 0);
    plan = (struct block_fault_plan){0};
    fake_start(&fake, fake.device, F_ALL, 1);
    ck_assert(!fake_used(&fake, 0, NULL, NULL));
    ck_assert_int_eq(request(T_IN, 0, 512, true), 0);
    plan = (struct block_fault_plan){.ops = ~0u, .hold = true};
    offer(T_IN, 0, 512, true);
    fake_run(&fake, 0); /* teardown frees the device with one in flight */
}
END_TEST

/* Completions out of order carry the right heads. */
START_TEST(completes_out_of_order)
{
    uint16_t head, last = 0;

    make(false, F_ALL);
    plan = (struct block_fault_plan){.ops = ~0u, .hold = true, .newest_first = true};
    for (int i = 0; i < 10; i++)
        offer(T_FLUSH, 0, 0, false);
    fake_run(&fake, 0);
    ck_assert_uint_eq(block_fault_nr_held(disk), 10);
    plan.hold = false;
    block_fault_release(disk);
    for (int i = 0; i < 10; i++) {
        fake_wait_used(&fake, 0, &head);
        ck_assert_uint_eq(head % 3, 0);
        last = MAX(last, head);
    }
    ck_assert_uint_eq(last, 27);
}
END_TEST

START_TEST(a_whole_queue_of_requests)
{
    make(false, F_ALL);
    fake_negotiate(&fake, fake.device, F_ALL);
    fake_queue_setup(&fake, 0, 256);
    fake_driver_ok(&fake);
    for (int turn = 0; turn < 20; turn++) {
        for (int i = 0; i < 256 / 4; i++)
            offer(T_IN, (uint64_t)i, 1, true); /* odd length: IOERR at once */
        for (int i = 0; i < 256 / 4; i++)
            fake_wait_used(&fake, 0, NULL);
    }
}
END_TEST

/* Over PCI the bus master bit decides whether the device reaches memory: what is under way ends
 * before it may not any more, what comes then waits. */
START_TEST(what_is_in_flight_ends_with_mastership)
{
    const struct irq_line line = {&fake.sink, 5};
    struct pci_device described;

    make(false, F_ALL);
    virtio_pci_describe(fake.device, &line, &described);
    for (unsigned i = 0; i < 4; i++) {
        described.master(described.context, true);
        memset(fake_host(&fake, DATA, 4096), 0xaa, 4096);
        offer(T_IN, i, 4096, true);
        fake_run(&fake, 0); /* taken; how far it comes is the disk's */
        described.master(described.context, false);
        ck_assert(fake_used(&fake, 0, NULL, NULL));
        ck_assert_uint_eq(status(), 0);
        ck_assert_uint_eq(*(uint8_t *)fake_host(&fake, DATA + 4095, 1), 0);
        memset(fake_host(&fake, DATA, 4096), 0xaa, 4096);
        offer(T_IN, i, 4096, true);
        for (unsigned k = 0; k < 10; k++)
            fake_run(&fake, 1);
        ck_assert(!fake_used(&fake, 0, NULL, NULL));
        ck_assert_uint_eq(status(), 0xee);
        ck_assert_uint_eq(*(uint8_t *)fake_host(&fake, DATA, 1), 0xaa);
        described.master(described.context, true);
        fake_wait_used(&fake, 0, NULL);
        ck_assert_uint_eq(status(), 0);
    }
}
END_TEST

TEST_MAIN("blk", tcase_add_checked_fixture(tcase, setup, teardown);
          tcase_add_test(tcase, moves_data); tcase_add_test(tcase, answers_bad_requests);
          tcase_add_test(tcase, read_only_disk); tcase_add_test(tcase, requests_without_frame);
          tcase_add_loop_test(tcase, disk_errors_reach_the_guest, 0, 2);
          tcase_add_test(tcase, write_through); tcase_add_loop_test(tcase, reset_drains, 0, 3);
          tcase_add_test(tcase, completes_out_of_order);
          tcase_add_test(tcase, a_whole_queue_of_requests);
          tcase_add_test(tcase, what_is_in_flight_ends_with_mastership);)
