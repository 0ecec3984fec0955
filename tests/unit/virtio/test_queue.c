/* SPDX-License-Identifier: Apache-2.0 */
/* Rings as a hostile driver builds them, seen through the entropy device. */
#include "base/sanitizer.h"
#include "fake_driver.h"
#include "testing.h"
#include "virtio/spec.h"

#include <pthread.h>

#define ALL_FEATURES UINT64_MAX

static struct fake fake;

static struct virtio_device *new_rng(void)
{
    struct virtio_rng_config config = {.bytes_per_second = GIB};
    struct virtio_device *device = NULL;

    ck_assert_int_eq(virtio_rng_new(&fake.host, &config, &device, NULL), 0);
    return device;
}

static void setup(void)
{
    fake_init(&fake);
    fake_start(&fake, new_rng(), ALL_FEATURES, 1);
}

static void teardown(void)
{
    fake_done(&fake);
}

static unsigned count_nonzero(gpa_t gpa, unsigned length)
{
    const uint8_t *p = fake_host(&fake, gpa, length);
    unsigned nr = 0;

    for (unsigned i = 0; i < length; i++)
        nr += p[i] != 0;
    return nr;
}

/* The device takes buffers over several wraps of both indices, with either kind of suppression. */
START_TEST(serves_past_index_wrap)
{
    uint64_t features = _i ? ALL_FEATURES : ALL_FEATURES & ~VIRTIO_F(VIRTIO_F_EVENT_IDX);
    struct fake_segment segments[2] = {{FAKE_DATA_GPA, 16, true}, {FAKE_DATA_GPA + 64, 16, true}};

    fake_start(&fake, fake.device, features, 1);
    for (unsigned i = 0; i < 70000; i++) {
        uint16_t head, want = fake_add(&fake, 0, segments, 2);

        fake_notify(&fake, 0);
        ck_assert_uint_eq(fake_wait_used(&fake, 0, &head), 32);
        ck_assert_uint_eq(head, want);
    }
    ck_assert_uint_gt(count_nonzero(FAKE_DATA_GPA, 16), 4);
    ck_assert_uint_gt(count_nonzero(FAKE_DATA_GPA + 64, 16), 4);
    ck_assert_uint_eq(count_nonzero(FAKE_DATA_GPA + 16, 48), 0);
}
END_TEST

START_TEST(takes_indirect_tables)
{
    uint8_t *table = fake_host(&fake, FAKE_DATA_GPA + 0x1000, 32);
    uint16_t head;

    store_le64(table, FAKE_DATA_GPA);
    store_le32(table + 8, 8);
    store_le16(table + 12, FAKE_WRITE | FAKE_NEXT);
    store_le16(table + 14, 1);
    store_le64(table + 16, FAKE_DATA_GPA + 32);
    store_le32(table + 24, 8);
    store_le16(table + 28, FAKE_WRITE);
    fake_desc(&fake, 0, 3, FAKE_DATA_GPA + 0x1000, 32, FAKE_INDIRECT, 0);
    fake_offer(&fake, 0, 3);
    fake_notify(&fake, 0);
    ck_assert_uint_eq(fake_wait_used(&fake, 0, &head), 16);
    ck_assert_uint_eq(head, 3);
    ck_assert_uint_gt(count_nonzero(FAKE_DATA_GPA + 32, 8), 1);
}
END_TEST

/* One descriptor, or two, that must break the ring. */
static const struct {
    const char *what;
    uint64_t gpa;
    uint32_t length;
    uint16_t flags, next;
    uint16_t head;
} bad[] = {
    {"outside of memory", UINT64_C(1) << 40, 64, FAKE_WRITE, 0, 0},
    {"last byte outside", FAKE_RAM_BYTES - 63, 64, FAKE_WRITE, 0, 0},
    {"wraps the address space", UINT64_MAX - 8, 64, FAKE_WRITE, 0, 0},
    {"longest length", FAKE_DATA_GPA, UINT32_MAX, FAKE_WRITE, 0, 0},
    {"no length", FAKE_DATA_GPA, 0, FAKE_WRITE, 0, 0},
    {"loop of one", FAKE_DATA_GPA, 64, FAKE_WRITE | FAKE_NEXT, 0, 0},
    {"next beyond the table", FAKE_DATA_GPA, 64, FAKE_WRITE | FAKE_NEXT, 64, 0},
    {"next far beyond", FAKE_DATA_GPA, 64, FAKE_WRITE | FAKE_NEXT, 65535, 0},
    {"head beyond the table", FAKE_DATA_GPA, 64, FAKE_WRITE, 0, 64},
    {"readable behind writable", FAKE_DATA_GPA, 64, FAKE_WRITE | FAKE_NEXT, 10, 0},
    {"indirect with next", FAKE_DATA_GPA, 64, FAKE_INDIRECT | FAKE_NEXT, 1, 0},
    {"indirect of no length", FAKE_DATA_GPA, 0, FAKE_INDIRECT, 0, 0},
    {"indirect of half a descriptor", FAKE_DATA_GPA, 24, FAKE_INDIRECT, 0, 0},
    {"indirect too long", FAKE_DATA_GPA, 16 * 257, FAKE_INDIRECT, 0, 0},
    {"indirect outside", UINT64_C(1) << 45, 64, FAKE_INDIRECT, 0, 0},
    {"indirect inside indirect", FAKE_DATA_GPA + 0x2000, 16, FAKE_INDIRECT, 0, 0},
    {"indirect loop", FAKE_DATA_GPA + 0x3000, 32, FAKE_INDIRECT, 0, 0},
    {"indirect next beyond its table", FAKE_DATA_GPA + 0x4000, 16, FAKE_INDIRECT, 0, 0},
};

static void put_desc(gpa_t at, uint64_t gpa, uint32_t length, uint16_t flags, uint16_t next)
{
    uint8_t *d = fake_host(&fake, at, 16);

    store_le64(d, gpa);
    store_le32(d + 8, length);
    store_le16(d + 12, flags);
    store_le16(d + 14, next);
}

START_TEST(refuses_malformed_chains)
{
    struct fake_segment good = {FAKE_DATA_GPA, 16, true};

    put_desc(FAKE_DATA_GPA + 0x2000, FAKE_DATA_GPA, 16, FAKE_INDIRECT, 0);
    put_desc(FAKE_DATA_GPA + 0x3000, FAKE_DATA_GPA, 16, FAKE_WRITE | FAKE_NEXT, 1);
    put_desc(FAKE_DATA_GPA + 0x3010, FAKE_DATA_GPA, 16, FAKE_WRITE | FAKE_NEXT, 0);
    put_desc(FAKE_DATA_GPA + 0x4000, FAKE_DATA_GPA, 16, FAKE_WRITE | FAKE_NEXT, 1);
    fake_desc(&fake, 0, 0, bad[_i].gpa, bad[_i].length, bad[_i].flags, bad[_i].next);
    fake_desc(&fake, 0, 10, FAKE_DATA_GPA, 16, 0, 0);
    fake_offer(&fake, 0, bad[_i].head);
    fake_notify(&fake, 0);
    fake_run(&fake, 0);
    ck_assert_msg(fake_failed(&fake), "%s", bad[_i].what);
    ck_assert_ptr_nonnull(virtio_device_failure(fake.device));
    ck_assert_msg(!fake_used(&fake, 0, NULL, NULL), "%s", bad[_i].what);
    ck_assert(fake.irq_level);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_INTERRUPT_CONFIG);

    /* A reset brings it back. */
    fake_start(&fake, fake.device, ALL_FEATURES, 1);
    ck_assert(!fake.irq_level);
    ck_assert_ptr_null(virtio_device_failure(fake.device));
    fake_add(&fake, 0, &good, 1);
    fake_notify(&fake, 0);
    ck_assert_uint_eq(fake_wait_used(&fake, 0, NULL), 16);
}
END_TEST

START_TEST(refuses_a_runaway_index)
{
    uint8_t *avail = fake_host(&fake, fake.queues[0].avail, 4);

    store_le16(avail + 2, 65);
    fake_notify(&fake, 0);
    fake_run(&fake, 0);
    ck_assert(fake_failed(&fake));
}
END_TEST

START_TEST(refuses_indirect_when_not_negotiated)
{
    fake_start(&fake, fake.device, ALL_FEATURES & ~VIRTIO_F(VIRTIO_F_INDIRECT_DESC), 1);
    put_desc(FAKE_DATA_GPA + 0x1000, FAKE_DATA_GPA, 16, FAKE_WRITE, 0);
    fake_desc(&fake, 0, 0, FAKE_DATA_GPA + 0x1000, 16, FAKE_INDIRECT, 0);
    fake_offer(&fake, 0, 0);
    fake_notify(&fake, 0);
    fake_run(&fake, 0);
    ck_assert(fake_failed(&fake));
}
END_TEST

/* Queue size, addresses and readiness are fixed by DRIVER_OK. */
START_TEST(setup_is_frozen)
{
    struct fake_segment good = {FAKE_DATA_GPA, 16, true};

    fake_write(&fake, VIRTIO_MMIO_QUEUE_SEL, 0);
    fake_write(&fake, VIRTIO_MMIO_QUEUE_READY, 0);
    fake_write(&fake, VIRTIO_MMIO_QUEUE_NUM, 256);
    fake_write(&fake, VIRTIO_MMIO_QUEUE_DESC_LOW, 0xfffff000);
    fake_write(&fake, VIRTIO_MMIO_QUEUE_DESC_HIGH, 0xffffffff);
    fake_write(&fake, VIRTIO_MMIO_QUEUE_READY, 1);
    fake_write(&fake, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    fake_write(&fake, VIRTIO_MMIO_DRIVER_FEATURES, 0);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_QUEUE_READY), 1);
    for (int i = 0; i < 200; i++) {
        fake_add(&fake, 0, &good, 1);
        fake_notify(&fake, 0);
        ck_assert_uint_eq(fake_wait_used(&fake, 0, NULL), 16);
    }
}
END_TEST

static const struct {
    uint32_t size;
    uint64_t desc, avail, used;
} bad_setup[] = {
    {0, 0x10000, 0x12000, 0x14000},
    {3, 0x10000, 0x12000, 0x14000},
    {512, 0x10000, 0x12000, 0x14000},
    {65536 + 64, 0x10000, 0x12000, 0x14000},
    {64, 0x10008, 0x12000, 0x14000},
    {64, 0x10000, 0x12001, 0x14000},
    {64, 0x10000, 0x12000, 0x14002},
    {64, FAKE_RAM_BYTES - 16, 0x12000, 0x14000},
    {64, 0x10000, FAKE_RAM_BYTES - 16, 0x14000},
    {64, 0x10000, 0x12000, UINT64_MAX - 3},
};

START_TEST(refuses_bad_setups)
{
    fake_negotiate(&fake, fake.device, ALL_FEATURES);
    fake_write(&fake, VIRTIO_MMIO_QUEUE_SEL, 0);
    fake_write(&fake, VIRTIO_MMIO_QUEUE_NUM, bad_setup[_i].size);
    fake_write(&fake, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)bad_setup[_i].desc);
    fake_write(&fake, VIRTIO_MMIO_QUEUE_DESC_HIGH, (uint32_t)(bad_setup[_i].desc >> 32));
    fake_write(&fake, VIRTIO_MMIO_QUEUE_DRIVER_LOW, (uint32_t)bad_setup[_i].avail);
    fake_write(&fake, VIRTIO_MMIO_QUEUE_DRIVER_HIGH, (uint32_t)(bad_setup[_i].avail >> 32));
    fake_write(&fake, VIRTIO_MMIO_QUEUE_DEVICE_LOW, (uint32_t)bad_setup[_i].used);
    fake_write(&fake, VIRTIO_MMIO_QUEUE_DEVICE_HIGH, (uint32_t)(bad_setup[_i].used >> 32));
    fake_write(&fake, VIRTIO_MMIO_QUEUE_READY, 1);
    fake_driver_ok(&fake);
    ck_assert(fake_failed(&fake));
    fake_notify(&fake, 0);
    fake_run(&fake, 0);
}
END_TEST

/* Interrupts: none while the driver does not want one, in both ways to say so. */
START_TEST(suppresses_interrupts)
{
    struct fake_segment good = {FAKE_DATA_GPA, 16, true};
    struct fake_queue *queue = &fake.queues[0];
    bool event_idx = _i;
    uint8_t *avail;

    fake_start(&fake, fake.device,
               event_idx ? ALL_FEATURES : ALL_FEATURES & ~VIRTIO_F(VIRTIO_F_EVENT_IDX), 1);
    avail = fake_host(&fake, queue->avail, 6 + 2 * 64);
    store_le16(avail, event_idx ? 0 : VIRTQ_AVAIL_F_NO_INTERRUPT);
    store_le16(avail + 4 + 2 * 64, 2); /* used_event: interrupt when index 2 is used */
    for (int i = 0; i < 2; i++) {
        fake_add(&fake, 0, &good, 1);
        fake_notify(&fake, 0);
        fake_wait_used(&fake, 0, NULL);
        ck_assert(!fake.irq_level);
    }
    store_le16(avail, 0);
    fake_add(&fake, 0, &good, 1);
    fake_notify(&fake, 0);
    fake_wait_used(&fake, 0, NULL);
    ck_assert(fake.irq_level);
    ck_assert_uint_eq(fake_read(&fake, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_INTERRUPT_USED);
    fake_write(&fake, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_INTERRUPT_USED);
    ck_assert(!fake.irq_level);
}
END_TEST

#if !SANITIZER_THREAD
static bool mutator_stop;

/* Rewrites descriptor 0 without end: good, outside, endless, huge. */
static void *mutator(void *context)
{
    uint8_t *d = fake_host(&fake, fake.queues[0].desc, 16);
    unsigned seed = 1;

    (void)context;
    while (!__atomic_load_n(&mutator_stop, __ATOMIC_RELAXED)) {
        seed = seed * 1103515245 + 12345;
        store_le64(d, seed & 0x10000 ? FAKE_DATA_GPA : (uint64_t)seed << 20);
        store_le32(d + 8, seed & 0x20000 ? 16 : seed);
        store_le16(d + 12, (uint16_t)(seed >> 16));
        store_le16(d + 14, (uint16_t)(seed >> 8));
    }
    return NULL;
}

/* Whatever the device saw, it either served the buffer or asked for a reset; nothing else is
 * touched (a wild access would end the test). */
START_TEST(survives_changing_descriptors)
{
    unsigned served = 0, failed = 0;
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, mutator, NULL), 0);
    /* On a busy host the other thread may stand still for long: until both outcomes were seen. */
    for (int i = 0; i < 30000 || ((!served || !failed) && i < 10000000); i++) {
        fake_offer(&fake, 0, 0);
        fake_notify(&fake, 0);
        fake_run(&fake, 0);
        if (fake_failed(&fake)) {
            failed++;
            fake_start(&fake, fake.device, ALL_FEATURES, 1);
        } else {
            served += fake_used(&fake, 0, NULL, NULL);
        }
    }
    __atomic_store_n(&mutator_stop, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    ck_assert_uint_gt(failed, 0);
    ck_assert_uint_gt(served, 0);
}
END_TEST
#endif

/* Written pages reach the dirty log: buffer, used ring; the descriptor table does not. */
START_TEST(reports_written_memory)
{
    struct fake_segment good = {FAKE_DATA_GPA + 0x5000, 16, true};
    uint64_t bits[FAKE_RAM_BYTES / 4096 / 64];
    uint64_t page;

    ck_assert_int_eq(memory_dirty_start(fake.memory, NULL), 0);
    fake_add(&fake, 0, &good, 1);
    fake_notify(&fake, 0);
    fake_wait_used(&fake, 0, NULL);
    ck_assert_int_eq(memory_dirty_fetch(fake.memory, 0, bits), 0);
    page = good.gpa >> 12;
    ck_assert(bits[page / 64] >> (page % 64) & 1);
    page = fake.queues[0].used >> 12;
    ck_assert(bits[page / 64] >> (page % 64) & 1);
    page = fake.queues[0].desc >> 12;
    ck_assert(!(bits[page / 64] >> (page % 64) & 1));
}
END_TEST

#if !SANITIZER_THREAD
#define ADD_RACY tcase_add_test(tcase, survives_changing_descriptors)
#else
#define ADD_RACY (void)0
#endif

TEST_MAIN("queue", tcase_add_checked_fixture(tcase, setup, teardown);
          tcase_add_loop_test(tcase, serves_past_index_wrap, 0, 2);
          tcase_add_test(tcase, takes_indirect_tables);
          tcase_add_loop_test(tcase, refuses_malformed_chains, 0, (int)ARRAY_LEN(bad));
          tcase_add_test(tcase, refuses_a_runaway_index);
          tcase_add_test(tcase, refuses_indirect_when_not_negotiated);
          tcase_add_test(tcase, setup_is_frozen);
          tcase_add_loop_test(tcase, refuses_bad_setups, 0, (int)ARRAY_LEN(bad_setup));
          tcase_add_loop_test(tcase, suppresses_interrupts, 0, 2); ADD_RACY;
          tcase_add_test(tcase, reports_written_memory);)
