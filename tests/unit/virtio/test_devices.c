/* SPDX-License-Identifier: Apache-2.0 */
/* The transport's registers, and the console and entropy devices. */
#include "base/clock.h"
#include "fake_driver.h"
#include "testing.h"
#include "virtio/spec.h"

static struct fake fake;
static char output[4096];
static size_t output_bytes, output_room;
static unsigned nr_input_ready;

static size_t take_output(void *context, const void *data, size_t length)
{
    size_t n = MIN(length, output_room);

    (void)context;
    memcpy(output + output_bytes, data, n);
    output_bytes += n;
    output_room -= n;
    return n;
}

static void input_ready(void *context)
{
    (void)context;
    nr_input_ready++;
}

static void setup(void)
{
    struct virtio_console_config config = {
        .output = take_output, .input_ready = input_ready, .columns = 80, .rows = 25};

    output_bytes = 0;
    output_room = sizeof(output);
    nr_input_ready = 0;
    fake_init(&fake);
    ck_assert_int_eq(virtio_console_new(&fake.host, &config, &fake.device, NULL), 0);
}

static void teardown(void)
{
    fake_done(&fake);
}

START_TEST(registers)
{
    uint8_t byte = 0xff;
    uint64_t wide = UINT64_MAX;

    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_VERSION), 2);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_DEVICE_ID), 3);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_SHM_LEN_LOW), UINT32_MAX);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_SHM_BASE_HIGH), UINT32_MAX);
    fake_write(&fake, VIRTIO_MMIO_QUEUE_SEL, 1);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_QUEUE_NUM_MAX), 256);
    fake_write(&fake, VIRTIO_MMIO_QUEUE_SEL, 2);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    fake_write(&fake, VIRTIO_MMIO_QUEUE_SEL, UINT32_MAX);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    fake_write(&fake, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_DEVICE_FEATURES), 0);
    virtio_mmio_ops.read(fake.device, 0, VIRTIO_MMIO_MAGIC_VALUE, &byte, 1);
    ck_assert_uint_eq(byte, 0);
    virtio_mmio_ops.read(fake.device, 0, VIRTIO_MMIO_CONFIG + 0xf8, &wide, 8);
    ck_assert_uint_eq(wide, 0);
    fake_write(&fake, VIRTIO_MMIO_QUEUE_NOTIFY, UINT32_MAX);
    fake_write(&fake, VIRTIO_MMIO_INTERRUPT_ACK, UINT32_MAX);
}
END_TEST

START_TEST(negotiation_is_checked)
{
    fake_write(&fake, VIRTIO_MMIO_STATUS, 3);
    fake_write(&fake, VIRTIO_MMIO_STATUS, 11); /* without VERSION_1 */
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_STATUS), 3);
    fake_write(&fake, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    fake_write(&fake, VIRTIO_MMIO_DRIVER_FEATURES, 3); /* bit 33 is not offered */
    fake_write(&fake, VIRTIO_MMIO_STATUS, 11);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_STATUS), 3);
    fake_write(&fake, VIRTIO_MMIO_STATUS, 7); /* DRIVER_OK before FEATURES_OK */
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_STATUS), 3);
    fake_write(&fake, VIRTIO_MMIO_DRIVER_FEATURES, 1);
    fake_write(&fake, VIRTIO_MMIO_STATUS, 11);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_STATUS), 11);
    fake_write(&fake, VIRTIO_MMIO_STATUS, 1); /* bits are not cleared one by one */
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_STATUS), 11);
    fake_write(&fake, VIRTIO_MMIO_STATUS, 15); /* queues are not ready: nothing happens on them */
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_STATUS), 15);
    fake_write(&fake, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
    fake_run(&fake, 0);
    ck_assert_uint_eq(virtio_console_input(fake.device, "x", 1), 0);
    fake_write(&fake, VIRTIO_MMIO_STATUS, 0);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_STATUS), 0);
}
END_TEST

START_TEST(console_output_with_back_pressure)
{
    struct fake_segment segments[2] = {{FAKE_DATA_GPA, 6, false}, {FAKE_DATA_GPA + 100, 5, false}};

    fake_start(&fake, fake.device, UINT64_MAX, 2);
    memcpy(fake_host(&fake, FAKE_DATA_GPA, 6), "hello ", 6);
    memcpy(fake_host(&fake, FAKE_DATA_GPA + 100, 5), "world", 5);
    output_room = 8;
    fake_add(&fake, 1, segments, 2);
    fake_add(&fake, 1, segments, 2);
    fake_notify(&fake, 1);
    fake_run(&fake, 0);
    ck_assert_uint_eq(output_bytes, 8);
    ck_assert(!fake_used(&fake, 1, NULL, NULL));
    output_room = 1000;
    virtio_console_output_ready(fake.device);
    ck_assert(fake_used(&fake, 1, NULL, NULL) && fake_used(&fake, 1, NULL, NULL));
    ck_assert_uint_eq(output_bytes, 22);
    ck_assert_mem_eq(output, "hello worldhello world", 22);
}
END_TEST

START_TEST(console_input_with_back_pressure)
{
    struct fake_segment segment = {FAKE_DATA_GPA, 4, true};
    uint32_t length;

    fake_start(&fake, fake.device, UINT64_MAX, 2);
    ck_assert_uint_eq(virtio_console_input(fake.device, "abcdef", 6), 0);
    ck_assert_uint_eq(nr_input_ready, 0);
    fake_add(&fake, 0, &segment, 1);
    fake_notify(&fake, 0);
    fake_run(&fake, 0);
    ck_assert_uint_eq(nr_input_ready, 1);
    ck_assert_uint_eq(virtio_console_input(fake.device, "abcdef", 6), 4);
    ck_assert(fake_used(&fake, 0, NULL, &length));
    ck_assert_uint_eq(length, 4);
    ck_assert_mem_eq(fake_host(&fake, FAKE_DATA_GPA, 4), "abcd", 4);
    ck_assert(fake.irq_level);
}
END_TEST

START_TEST(console_resize_is_announced)
{
    uint32_t generation;

    fake_start(&fake, fake.device, UINT64_MAX, 2);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_CONFIG), 80 | 25 << 16);
    generation = fake_read(&fake, VIRTIO_MMIO_CONFIG_GENERATION);
    virtio_console_resize(fake.device, 132, 50);
    ck_assert_uint_ne(fake_read(&fake, VIRTIO_MMIO_CONFIG_GENERATION), generation);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_CONFIG), 132 | 50 << 16);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_INTERRUPT_CONFIG);
}
END_TEST

START_TEST(entropy_rate_is_bounded)
{
    struct virtio_rng_config config = {.bytes_per_second = 20000};
    struct fake_segment segment = {FAKE_DATA_GPA, 4096, true};
    uint64_t start = clock_monotonic_ns(), total = 0;

    virtio_device_free(fake.device);
    ck_assert_int_eq(virtio_rng_new(&fake.host, &config, &fake.device, NULL), 0);
    fake_start(&fake, fake.device, UINT64_MAX, 1);
    while (clock_monotonic_ns() - start < 300 * NS_PER_MS) {
        fake_add(&fake, 0, &segment, 1);
        fake_notify(&fake, 0);
        total += fake_wait_used(&fake, 0, NULL);
    }
    /* One second's worth in store, and 0.3 s; with some slack for a slow machine. */
    ck_assert_uint_ge(total, 20000);
    ck_assert_uint_le(total, 20000 + (clock_monotonic_ns() - start) * 20000 / NS_PER_S + 4096);
}
END_TEST

START_TEST(balloon_takes_pages_of_ram_only)
{
    struct fake_segment pfns = {FAKE_DATA_GPA, 6 * 4, false};
    struct fake_segment free_pages = {0x400800, 0x2000, true};
    uint32_t list[] = {0x300, 0x301, 0x2ff, 0xffffffff, 0x1000, 0x500};
    struct virtio_balloon_info info;

    virtio_device_free(fake.device);
    ck_assert_int_eq(virtio_balloon_new(&fake.host, &fake.device, NULL), 0);
    fake_start(&fake, fake.device, UINT64_MAX, 4);
    memset(fake_host(&fake, 0x2fe000, 0x5000), 0xaa, 0x5000);
    memset(fake_host(&fake, 0x400000, 0x3000), 0xaa, 0x3000);
    memcpy(fake_host(&fake, FAKE_DATA_GPA, sizeof(list)), list, sizeof(list));
    virtio_balloon_set(fake.device, 5 << 12);
    fake_add(&fake, 0, &pfns, 1);
    fake_notify(&fake, 0);
    fake_wait_used(&fake, 0, NULL);
    /* 2ff to 301, and 500; what is no memory (RAM ends at page 1000h) is passed over. */
    ck_assert_uint_eq(*(uint8_t *)fake_host(&fake, 0x2fefff, 1), 0xaa);
    ck_assert_uint_eq(*(uint8_t *)fake_host(&fake, 0x2ff000, 1), 0);
    ck_assert_uint_eq(*(uint8_t *)fake_host(&fake, 0x301fff, 1), 0);
    ck_assert_uint_eq(*(uint8_t *)fake_host(&fake, 0x302000, 1), 0xaa);
    /* Reported: whole pages of it alone. */
    fake_add(&fake, 3, &free_pages, 1);
    fake_notify(&fake, 3);
    fake_wait_used(&fake, 3, NULL);
    ck_assert_uint_eq(*(uint8_t *)fake_host(&fake, 0x400fff, 1), 0xaa);
    ck_assert_uint_eq(*(uint8_t *)fake_host(&fake, 0x401000, 1), 0);
    ck_assert_uint_eq(*(uint8_t *)fake_host(&fake, 0x402000, 1), 0xaa);
    virtio_balloon_get(fake.device, &info);
    ck_assert(info.running && info.target_bytes == 5 << 12);
    ck_assert_uint_eq(info.returned_bytes, 5 << 12);
    ck_assert(!fake_failed(&fake));
}
END_TEST

TEST_MAIN("devices", tcase_add_checked_fixture(tcase, setup, teardown);
          tcase_add_test(tcase, registers); tcase_add_test(tcase, negotiation_is_checked);
          tcase_add_test(tcase, console_output_with_back_pressure);
          tcase_add_test(tcase, console_input_with_back_pressure);
          tcase_add_test(tcase, console_resize_is_announced);
          tcase_add_test(tcase, entropy_rate_is_bounded);
          tcase_add_test(tcase, balloon_takes_pages_of_ram_only);)
