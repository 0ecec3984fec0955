/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI transport as a driver meets it: through the bus's ports and window, with the kernel's own
 * numbers of registers (linux/virtio_pci.h, linux/pci_regs.h). The device is the entropy device.
 */
#include "base/util.h"
#include "fake_driver.h"
#include "machine/pci.h"
#include "pci_guest.h"
#include "testing.h"
#include "virtio/spec.h"

#include <linux/pci_regs.h>
#include <string.h>

#define SLOT   2
#define NUMBER (SLOT + 1)
#define BAR    (PCI_WINDOW_BASE + 0x100000)
#define ROM    UINT64_C(0x10000000)

static struct fake fake;
static struct pci_guest guest;
static struct pci_guest_device place;
static struct pci *pci;

static void on_gpe(void *context, bool raised)
{
    (void)context;
    (void)raised;
}

static void on_ejected(void *context, unsigned slot)
{
    (void)context;
    (void)slot;
}

static void on_reset(void *context)
{
    (void)context;
}

#define MESSAGES 16

static struct {
    uint64_t address;
    uint32_t data;
} messages[MESSAGES];
static unsigned nr_messages; /* that came and were not taken yet */

static void on_message(void *context, uint64_t address, uint32_t data)
{
    (void)context;
    ck_assert_uint_lt(nr_messages, MESSAGES);
    messages[nr_messages].address = address;
    messages[nr_messages++].data = data;
}

static void setup(void)
{
    static const struct pci_functions functions = {NULL, on_ejected, on_reset};
    static const unsigned gsis[PCI_SLOTS_MAX] = {23, 5, 10, 11, 7, 6};
    struct virtio_rng_config config = {.bytes_per_second = 1 << 30};
    struct pci_device described;
    struct memory_slot *rom;
    struct irq_line line;

    nr_messages = 0;
    fake_init(&fake);
    fake.sink.msi = on_message;
    ck_assert_int_eq(memory_add_ram(fake.memory, ROM, 0x10000, NULL), 0);
    rom = (struct memory_slot *)(uintptr_t)memory_slot_find(fake.memory, ROM);
    ck_assert_ptr_nonnull(rom);
    rom->read_only = true;
    ck_assert_int_eq(bus_new(&guest.bus, NULL), 0);
    ck_assert_int_eq(pci_new(&fake.sink, gsis, on_gpe, NULL, &functions, &pci, NULL), 0);
    ck_assert_int_eq(pci_add_to_bus(pci, guest.bus, NULL), 0);
    bus_connect(guest.bus, &guest.cpu_bus);
    ck_assert_int_eq(virtio_rng_new(&fake.host, &config, &fake.device, NULL), 0);
    line = pci_line(pci, SLOT);
    virtio_pci_describe(fake.device, &line, &described);
    pci_plug(pci, SLOT, &described, false);
    pci_guest_probe(&guest, NUMBER, BAR, &place);
}

static void teardown(void)
{
    pci_unplug(pci, SLOT);
    fake_done(&fake);
    pci_free(pci);
    bus_free(guest.bus);
}

static uint64_t get(unsigned offset, unsigned size)
{
    return pci_guest_read(&guest, place.at[VIRTIO_PCI_CAP_COMMON_CFG] + offset, size);
}

static void put(unsigned offset, uint64_t value, unsigned size)
{
    pci_guest_write(&guest, place.at[VIRTIO_PCI_CAP_COMMON_CFG] + offset, value, size);
}

static unsigned status(void)
{
    return (unsigned)get(VIRTIO_PCI_COMMON_STATUS, 1);
}

static void set_features(uint64_t features)
{
    for (unsigned i = 0; i < 2; i++) {
        put(VIRTIO_PCI_COMMON_GFSELECT, i, 4);
        put(VIRTIO_PCI_COMMON_GF, (uint32_t)(features >> 32 * i), 4);
    }
}

/* Up to FEATURES_OK. */
static void negotiate(void)
{
    put(VIRTIO_PCI_COMMON_STATUS, 0, 1);
    put(VIRTIO_PCI_COMMON_STATUS, 3, 1);
    set_features(VIRTIO_F(VIRTIO_F_VERSION_1));
    put(VIRTIO_PCI_COMMON_STATUS, 11, 1);
    ck_assert_uint_eq(status(), 11);
    for (unsigned i = 0; i < 2; i++)
        fake.queues[i] =
            (struct fake_queue){.size = 64, .desc = 0x10000, .avail = 0x12000, .used = 0x14000};
}

static void set_queue(uint64_t desc, uint64_t avail, uint64_t used)
{
    put(VIRTIO_PCI_COMMON_Q_SELECT, 0, 2);
    put(VIRTIO_PCI_COMMON_Q_DESCLO, (uint32_t)desc, 4);
    put(VIRTIO_PCI_COMMON_Q_DESCHI, desc >> 32, 4);
    put(VIRTIO_PCI_COMMON_Q_AVAILLO, (uint32_t)avail, 4);
    put(VIRTIO_PCI_COMMON_Q_AVAILHI, avail >> 32, 4);
    put(VIRTIO_PCI_COMMON_Q_USEDLO, (uint32_t)used, 4);
    put(VIRTIO_PCI_COMMON_Q_USEDHI, used >> 32, 4);
    put(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
}

/* A driver that works, with a queue of `size`; 0: as large as it is. */
static void start(uint16_t size)
{
    negotiate();
    put(VIRTIO_PCI_COMMON_Q_SELECT, 0, 2);
    if (size)
        put(VIRTIO_PCI_COMMON_Q_SIZE, size, 2);
    fake.queues[0].size = (uint16_t)get(VIRTIO_PCI_COMMON_Q_SIZE, 2);
    set_queue(fake.queues[0].desc, fake.queues[0].avail, fake.queues[0].used);
    put(VIRTIO_PCI_COMMON_STATUS, 15, 1);
    ck_assert_uint_eq(status(), 15);
}

static void notify(void)
{
    uint64_t at = place.at[VIRTIO_PCI_CAP_NOTIFY_CFG] +
                  get(VIRTIO_PCI_COMMON_Q_NOFF, 2) * place.notify_multiplier;

    pci_guest_write(&guest, at, 0, 2);
}

/* One request for random bytes, answered. */
static void work(void)
{
    struct fake_segment segment = {FAKE_DATA_GPA, 32, true};
    uint64_t deadline = 100;

    fake_add(&fake, 0, &segment, 1);
    notify();
    while (!fake_used(&fake, 0, NULL, NULL)) {
        ck_assert_uint_gt(deadline--, 0);
        ck_assert_ptr_null(virtio_device_failure(fake.device));
        fake_run(&fake, 100);
    }
}

START_TEST(configuration_space_is_what_drivers_expect)
{
    ck_assert_uint_eq(pci_guest_config_in(&guest, NUMBER, PCI_VENDOR_ID, 2), 0x1af4);
    ck_assert_uint_eq(pci_guest_config_in(&guest, NUMBER, PCI_DEVICE_ID, 2),
                      0x1040 + VIRTIO_ID_ENTROPY);
    ck_assert_uint_ge(pci_guest_config_in(&guest, NUMBER, PCI_REVISION_ID, 1), 1);
    ck_assert_uint_eq(pci_guest_config_in(&guest, NUMBER, PCI_HEADER_TYPE, 1), 0);
    ck_assert_uint_eq(pci_guest_config_in(&guest, NUMBER, PCI_INTERRUPT_PIN, 1), 1);
    ck_assert_uint_eq(pci_guest_config_in(&guest, NUMBER, PCI_INTERRUPT_LINE, 1), 10);
    for (unsigned at = PCI_BASE_ADDRESS_1; at <= PCI_BASE_ADDRESS_5; at += 4) {
        pci_guest_config_out(&guest, NUMBER, at, UINT32_MAX, 4);
        ck_assert_uint_eq(pci_guest_config_in(&guest, NUMBER, at, 4), 0);
    }
    pci_guest_config_out(&guest, NUMBER, PCI_ROM_ADDRESS, UINT32_MAX, 4);
    ck_assert_uint_eq(pci_guest_config_in(&guest, NUMBER, PCI_ROM_ADDRESS, 4), 0);
    ck_assert_uint_ge(place.bytes[VIRTIO_PCI_CAP_COMMON_CFG], sizeof(struct virtio_pci_common_cfg));
    ck_assert_uint_ge(place.bytes[VIRTIO_PCI_CAP_ISR_CFG], 1);
    ck_assert_uint_eq(place.at[VIRTIO_PCI_CAP_COMMON_CFG] % 4, 0);
}
END_TEST

/* What a write of ones by this size to each place changes, against what may change. */
START_TEST(writes_change_what_they_may)
{
    static const unsigned sizes[] = {1, 2, 4};
    unsigned size = sizes[_i];
    uint8_t before[256], after[256], may[256] = {0};
    uint32_t bar_mask = ~((uint32_t)place.bar_bytes - 1);

    store_le16(may + PCI_COMMAND,
               PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
    store_le32(may + PCI_BASE_ADDRESS_0, bar_mask);
    may[PCI_INTERRUPT_LINE] = 0xff;
    if (place.msix)
        store_le16(may + place.msix + PCI_MSIX_FLAGS,
                   PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    for (unsigned i = 0; i < 256; i++)
        before[i] = (uint8_t)pci_guest_config_in(&guest, NUMBER, i, 1);
    for (unsigned i = 0; i < 256; i += size)
        pci_guest_config_out(&guest, NUMBER, i, UINT32_MAX, size);
    for (unsigned i = 0; i < 256; i++) {
        after[i] = (uint8_t)pci_guest_config_in(&guest, NUMBER, i, 1);
        ck_assert_msg(after[i] == (before[i] | may[i]), "byte %#x: %#x, was %#x", i, after[i],
                      before[i]);
    }
    for (unsigned i = 0; i < 256; i += size)
        pci_guest_config_out(&guest, NUMBER, i, 0, size);
    for (unsigned i = 0; i < 256; i++)
        ck_assert_uint_eq(pci_guest_config_in(&guest, NUMBER, i, 1), before[i] & ~may[i]);
}
END_TEST

START_TEST(accesses_that_straddle)
{
    uint32_t address = 0x80000000u | NUMBER << 11 | 0xfc;

    pci_guest_out(&guest, 0xcf8, address, 4);
    /* Of the address port what there is of it; nothing beside it, and no configuration access. */
    ck_assert_uint_eq(pci_guest_in(&guest, 0xcfa, 4), 0xffff0000u | address >> 16);
    ck_assert_uint_eq(pci_guest_in(&guest, 0xcfb, 2), 0xff00u | address >> 24);
    ck_assert_uint_eq(pci_guest_in(&guest, 0xcf9, 2), address >> 8 & 0xffff);
    ck_assert_uint_eq(pci_guest_in(&guest, 0xcfd, 4), UINT32_MAX); /* beyond the ports */
    pci_guest_out(&guest, 0xcfa, 0, 4);
    ck_assert_uint_eq(pci_guest_in(&guest, 0xcf8, 4), address);
    ck_assert_uint_eq(pci_guest_read(&guest, BAR + place.bar_bytes - 2, 4), UINT32_MAX);
    ck_assert_uint_eq(pci_guest_read(&guest, BAR - 2, 4), UINT32_MAX);
    ck_assert_uint_eq(pci_guest_read(&guest, PCI_WINDOW_BASE + PCI_WINDOW_SIZE - 1, 8), UINT64_MAX);
    /* The end of a structure. */
    ck_assert_uint_eq(get(sizeof(struct virtio_pci_common_cfg) - 4, 8), 0);
    pci_guest_write(&guest, BAR + place.bar_bytes - 2, 0, 4);
}
END_TEST

/* Whatever is written anywhere in the BAR by any size. */
START_TEST(every_place_takes_every_size)
{
    for (unsigned size = 1; size <= 8; size++)
        for (uint64_t at = 0; at < place.bar_bytes + 8; at++) {
            pci_guest_write(&guest, BAR + at, UINT64_MAX, size);
            pci_guest_read(&guest, BAR + at, size);
        }
    put(VIRTIO_PCI_COMMON_STATUS, 0, 1);
    ck_assert_uint_eq(status(), 0);
    start(64);
    work();
}
END_TEST

START_TEST(features_are_negotiated)
{
    uint64_t offered = 0;

    for (unsigned i = 0; i < 2; i++) {
        put(VIRTIO_PCI_COMMON_DFSELECT, i, 4);
        ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_DFSELECT, 4), i);
        offered |= get(VIRTIO_PCI_COMMON_DF, 4) << 32 * i;
    }
    ck_assert(offered & VIRTIO_F(VIRTIO_F_VERSION_1));
    for (unsigned i = 2; i; i = i == 2 ? 32 : i == 32 ? UINT32_MAX : 0) {
        put(VIRTIO_PCI_COMMON_DFSELECT, i, 4);
        ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_DF, 4), 0);
        put(VIRTIO_PCI_COMMON_GFSELECT, i, 4);
        put(VIRTIO_PCI_COMMON_GF, UINT32_MAX, 4);
        ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_GF, 4), 0);
    }
    put(VIRTIO_PCI_COMMON_STATUS, 3, 1);
    put(VIRTIO_PCI_COMMON_STATUS, 11, 1); /* without VERSION_1 */
    ck_assert_uint_eq(status(), 3);
    for (unsigned bit = 0; bit < 64; bit++) {
        if (offered >> bit & 1)
            continue;
        set_features(VIRTIO_F(VIRTIO_F_VERSION_1) | VIRTIO_F(bit));
        put(VIRTIO_PCI_COMMON_STATUS, 11, 1);
        ck_assert_uint_eq(status(), 3);
    }
    put(VIRTIO_PCI_COMMON_STATUS, 7, 1); /* DRIVER_OK first */
    ck_assert_uint_eq(status(), 3);
    set_features(offered);
    put(VIRTIO_PCI_COMMON_GFSELECT, 1, 4);
    put(VIRTIO_PCI_COMMON_GF, 0, 2); /* of a wrong size: nothing */
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_GF, 4), offered >> 32);
    put(VIRTIO_PCI_COMMON_STATUS, 11, 1);
    ck_assert_uint_eq(status(), 11);
    set_features(0); /* too late */
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_GF, 4), offered >> 32);
    put(VIRTIO_PCI_COMMON_STATUS, 0, 4); /* of a wrong size */
    ck_assert_uint_eq(status(), 11);
    put(VIRTIO_PCI_COMMON_STATUS, 1, 1); /* bits are not taken back */
    ck_assert_uint_eq(status(), 11);
    put(VIRTIO_PCI_COMMON_STATUS, 0, 1);
    ck_assert_uint_eq(status(), 0);
    put(VIRTIO_PCI_COMMON_GFSELECT, 0, 4);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_GF, 4), 0);
}
END_TEST

START_TEST(queues_are_set_up_once)
{
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_NUMQ, 2), 1);
    put(VIRTIO_PCI_COMMON_Q_SELECT, 1, 2);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 0); /* there is none */
    put(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
    put(VIRTIO_PCI_COMMON_Q_SELECT, 0xffff, 2);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
    put(VIRTIO_PCI_COMMON_Q_SELECT, 0, 2);
    put(VIRTIO_PCI_COMMON_Q_DESCLO, 0x1000, 4); /* before FEATURES_OK */
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_DESCLO, 4), 0);
    negotiate();
    put(VIRTIO_PCI_COMMON_Q_DESCLO, UINT64_C(0x1122334455667788), 8);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_DESCLO, 8), UINT64_C(0x1122334455667788));
    put(VIRTIO_PCI_COMMON_Q_DESCHI, 0xaabbccdd, 4);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_DESCLO, 8), UINT64_C(0xaabbccdd55667788));
    set_queue(0x10000, 0x12000, 0x14000);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
    set_queue(0x20000, 0x22000, 0x24000); /* enabled: frozen */
    put(VIRTIO_PCI_COMMON_Q_ENABLE, 0, 2);
    put(VIRTIO_PCI_COMMON_Q_SIZE, 2, 2);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_DESCLO, 8), 0x10000);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_USEDLO, 8), 0x14000);
    ck_assert_uint_ne(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 2);
    put(VIRTIO_PCI_COMMON_STATUS, 0, 1);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_DESCLO, 8), 0);
}
END_TEST

/* The size that a queue has after a reset is one that may be used (4.1.4.3). */
START_TEST(a_queue_of_its_own_size)
{
    start(0);
    ck_assert_uint_eq(fake.queues[0].size, 256);
    work();
    start(8);
    work();
}
END_TEST

START_TEST(hostile_queues_need_a_reset)
{
    static const struct {
        uint64_t desc, avail, used;
        uint16_t size;
    } cases[] = {
        {FAKE_RAM_BYTES, 0x12000, 0x14000, 64},
        {FAKE_RAM_BYTES - 512, 0x12000, 0x14000, 64},
        {UINT64_MAX - 15, 0x12000, 0x14000, 64},
        {0x10000, UINT64_MAX - 1, 0x14000, 64},
        {0x10000, 0x12000, UINT64_MAX - 3, 64},
        {0x10000, 0x12000, ROM, 64}, /* nothing writes there */
        {0x10008, 0x12000, 0x14000, 64},
        {0x10000, 0x12001, 0x14000, 64},
        {0x10000, 0x12000, 0x14002, 64},
        {PCI_WINDOW_BASE, 0x12000, 0x14000, 64},
        {0x10000, BAR, 0x14000, 64},
        {0x10000, 0x12000, 0x14000, 63},
        {0x10000, 0x12000, 0x14000, 512},
        {0x10000, 0x12000, 0x14000, 0xffff},
    };

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        negotiate();
        put(VIRTIO_PCI_COMMON_Q_SELECT, 0, 2);
        put(VIRTIO_PCI_COMMON_Q_SIZE, cases[i].size, 2);
        set_queue(cases[i].desc, cases[i].avail, cases[i].used);
        put(VIRTIO_PCI_COMMON_STATUS, 15, 1);
        ck_assert_msg(status() == (15 | VIRTIO_STATUS_NEEDS_RESET), "case %u: status %#x", i,
                      status());
        ck_assert(fake.irq_level);
        notify();
        fake_run(&fake, 0);
    }
    start(64);
    ck_assert(!fake.irq_level);
    work();
}
END_TEST

START_TEST(the_isr_is_cleared_by_reading)
{
    uint64_t isr = place.at[VIRTIO_PCI_CAP_ISR_CFG];

    start(64);
    ck_assert_uint_eq(pci_guest_read(&guest, isr, 1), 0);
    work();
    ck_assert(fake.irq_level);
    pci_guest_write(&guest, isr, 0, 1); /* changes nothing */
    ck_assert(fake.irq_level);
    ck_assert_uint_eq(pci_guest_read(&guest, isr + 1, 1), 0);
    ck_assert(fake.irq_level);
    ck_assert_uint_eq(pci_guest_read(&guest, isr, 1), VIRTIO_INTERRUPT_USED);
    ck_assert(!fake.irq_level);
    ck_assert_uint_eq(pci_guest_read(&guest, isr, 1), 0);
    work();
    ck_assert_uint_eq(pci_guest_read(&guest, isr, 4), VIRTIO_INTERRUPT_USED);
    ck_assert(!fake.irq_level);
    work();
    ck_assert(fake.irq_level);
    put(VIRTIO_PCI_COMMON_STATUS, 0, 1);
    ck_assert(!fake.irq_level);
}
END_TEST

static bool interrupt_pending(void)
{
    return pci_guest_config_in(&guest, NUMBER, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT;
}

static void set_command(uint16_t value)
{
    pci_guest_config_out(&guest, NUMBER, PCI_COMMAND, value, 2);
}

START_TEST(interrupts_can_be_switched_off)
{
    uint16_t on = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

    start(64);
    ck_assert(!interrupt_pending());
    set_command(on | PCI_COMMAND_INTX_DISABLE);
    work();
    ck_assert(!fake.irq_level);
    ck_assert(interrupt_pending());
    set_command(on);
    ck_assert(fake.irq_level);
    set_command(on | PCI_COMMAND_INTX_DISABLE);
    ck_assert(!fake.irq_level);
    ck_assert_uint_eq(pci_guest_read(&guest, place.at[VIRTIO_PCI_CAP_ISR_CFG], 1),
                      VIRTIO_INTERRUPT_USED);
    ck_assert(!interrupt_pending());
    set_command(on);
    ck_assert(!fake.irq_level);
}
END_TEST

static bool answered(void)
{
    for (unsigned i = 0; i < 10; i++)
        fake_run(&fake, 1);
    return fake_used(&fake, 0, NULL, NULL);
}

/* Neither rings nor buffers; started or not. */
START_TEST(memory_is_reached_by_a_bus_master)
{
    struct fake_segment segment = {FAKE_DATA_GPA, 32, true};
    static const uint8_t nothing[32];

    start(64);
    work();
    for (unsigned turn = 0; turn < 3; turn++) {
        set_command(PCI_COMMAND_MEMORY);
        if (turn == 1) {
            memset(fake_host(&fake, 0x10000, 0x6000), 0, 0x6000); /* the rings */
            start(64);
        }
        memset(fake_host(&fake, FAKE_DATA_GPA, 32), 0, 32);
        fake_add(&fake, 0, &segment, 1);
        notify();
        ck_assert(!answered());
        ck_assert(!memcmp(fake_host(&fake, FAKE_DATA_GPA, 32), nothing, 32));
        ck_assert_uint_eq(status(), 15);
        set_command(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER); /* what waits needs no notification */
        ck_assert(answered());
        ck_assert(memcmp(fake_host(&fake, FAKE_DATA_GPA, 32), nothing, 32) != 0);
        work();
    }
}
END_TEST

START_TEST(notifications_of_nothing)
{
    uint64_t at = place.at[VIRTIO_PCI_CAP_NOTIFY_CFG];
    uint32_t bytes = place.bytes[VIRTIO_PCI_CAP_NOTIFY_CFG];

    notify(); /* not started */
    fake_run(&fake, 0);
    start(64);
    for (uint32_t i = 1; i < bytes; i += i < 64 ? 1 : 61)
        pci_guest_write(&guest, at + i, UINT64_MAX, 2);
    fake_run(&fake, 0);
    ck_assert_uint_eq(status(), 15);
    ck_assert_uint_eq(pci_guest_read(&guest, at, 2), 0);
    work();
}
END_TEST

START_TEST(a_reset_of_the_machine_starts_anew)
{
    start(64);
    work();
    set_command(PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE);
    pci_reset(pci);
    ck_assert_uint_eq(pci_guest_config_in(&guest, NUMBER, PCI_COMMAND, 2), 0);
    ck_assert_uint_eq(pci_guest_read(&guest, BAR, 4), UINT32_MAX);
    ck_assert(!fake.irq_level);
    pci_guest_probe(&guest, NUMBER, BAR + 0x10000, &place);
    ck_assert_uint_eq(status(), 0);
    start(64);
    work();
    ck_assert(fake.irq_level);
}
END_TEST

static uint64_t table_at(unsigned vector)
{
    return BAR +
           (pci_guest_config_in(&guest, NUMBER, place.msix + PCI_MSIX_TABLE, 4) &
            PCI_MSIX_TABLE_OFFSET) +
           vector * PCI_MSIX_ENTRY_SIZE;
}

static uint64_t pending_bits(void)
{
    return pci_guest_read(&guest,
                          BAR + (pci_guest_config_in(&guest, NUMBER, place.msix + PCI_MSIX_PBA, 4) &
                                 PCI_MSIX_PBA_OFFSET),
                          8);
}

static void set_msix(uint16_t flags)
{
    pci_guest_config_out(&guest, NUMBER, place.msix + PCI_MSIX_FLAGS, flags, 2);
}

static void mask(unsigned vector, bool masked)
{
    pci_guest_write(&guest, table_at(vector) + PCI_MSIX_ENTRY_VECTOR_CTRL, masked, 4);
}

static void set_message(unsigned vector, uint64_t address, uint32_t data)
{
    pci_guest_write(&guest, table_at(vector) + PCI_MSIX_ENTRY_LOWER_ADDR, address, 8);
    pci_guest_write(&guest, table_at(vector) + PCI_MSIX_ENTRY_DATA, data, 4);
    mask(vector, false);
}

static void took(unsigned number, uint64_t address, uint32_t data)
{
    ck_assert_uint_eq(nr_messages, number);
    for (unsigned i = 0; i < number; i++) {
        ck_assert_uint_eq(messages[i].address, address);
        ck_assert_uint_eq(messages[i].data, data);
    }
    nr_messages = 0;
}

/* The table and the bits lie in the BAR, beside everything else. */
START_TEST(vectors_have_a_place)
{
    uint32_t table = pci_guest_config_in(&guest, NUMBER, place.msix + PCI_MSIX_TABLE, 4);
    uint32_t bits = pci_guest_config_in(&guest, NUMBER, place.msix + PCI_MSIX_PBA, 4);
    uint64_t starts[] = {table, bits};

    ck_assert_uint_ne(place.msix, 0);
    ck_assert_uint_eq(pci_guest_config_in(&guest, NUMBER, place.msix + PCI_MSIX_FLAGS, 2),
                      1); /* two vectors */
    ck_assert_uint_eq(table & PCI_MSIX_TABLE_BIR, 0);
    ck_assert_uint_eq(bits & PCI_MSIX_PBA_BIR, 0);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_uint_le(starts[i] + 0x1000, place.bar_bytes);
        for (unsigned type = 1; type < PCI_GUEST_CAPABILITIES; type++)
            ck_assert(BAR + starts[i] >= place.at[type] + place.bytes[type] ||
                      BAR + starts[i] + 0x1000 <= place.at[type]);
    }
    ck_assert(table + 0x1000 <= bits || bits + 0x1000 <= table);
    for (unsigned i = 0; i < 2; i++)
        ck_assert_uint_eq(pci_guest_read(&guest, table_at(i) + PCI_MSIX_ENTRY_VECTOR_CTRL, 4), 1);
}
END_TEST

START_TEST(the_table_takes_words)
{
    for (unsigned size = 1; size <= 8; size++)
        for (unsigned at = 0; at < 64; at++)
            if (size != 4 && (size != 8 || at % 8))
                pci_guest_write(&guest, table_at(0) + at, UINT64_MAX, size);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_uint_eq(pci_guest_read(&guest, table_at(i), 8), 0);
        ck_assert_uint_eq(pci_guest_read(&guest, table_at(i) + 8, 8), UINT64_C(1) << 32);
    }
    pci_guest_write(&guest, table_at(2), UINT64_MAX, 8); /* there are two */
    ck_assert_uint_eq(pci_guest_read(&guest, table_at(2), 8), 0);
    pci_guest_write(&guest, table_at(1), UINT64_MAX, 8);
    pci_guest_write(&guest, table_at(1) + 8, UINT64_MAX, 8);
    ck_assert_uint_eq(pci_guest_read(&guest, table_at(1), 8), ~UINT64_C(3));
    ck_assert_uint_eq(pci_guest_read(&guest, table_at(1) + 8, 8), UINT64_C(0x1ffffffff));
    ck_assert_uint_eq(pending_bits(), 0);
}
END_TEST

START_TEST(vectors_are_chosen)
{
    put(VIRTIO_PCI_COMMON_Q_SELECT, 0, 2);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_MSIX, 2), 0xffff);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffff);
    put(VIRTIO_PCI_COMMON_MSIX, 0, 2);
    put(VIRTIO_PCI_COMMON_Q_MSIX, 1, 2);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_MSIX, 2), 0);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), 1);
    put(VIRTIO_PCI_COMMON_MSIX, 2, 2); /* there is none */
    put(VIRTIO_PCI_COMMON_Q_MSIX, 0xfffe, 2);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_MSIX, 2), 0xffff);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffff);
    put(VIRTIO_PCI_COMMON_Q_SELECT, 3, 2); /* no such queue */
    put(VIRTIO_PCI_COMMON_Q_MSIX, 1, 2);
    put(VIRTIO_PCI_COMMON_Q_SELECT, 0, 2);
    put(VIRTIO_PCI_COMMON_Q_MSIX, 1, 2);
    put(VIRTIO_PCI_COMMON_STATUS, 0, 1);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffff);
}
END_TEST

static void start_with_vectors(void)
{
    start(64);
    put(VIRTIO_PCI_COMMON_MSIX, 0, 2);
    put(VIRTIO_PCI_COMMON_Q_MSIX, 1, 2);
    set_msix(PCI_MSIX_FLAGS_ENABLE);
}

START_TEST(messages_take_the_place_of_the_line)
{
    uint64_t isr = place.at[VIRTIO_PCI_CAP_ISR_CFG];

    start_with_vectors();
    set_message(1, UINT64_C(0x1fee01000), 0x4041);
    work();
    took(1, UINT64_C(0x1fee01000), 0x4041);
    ck_assert(!fake.irq_level);
    ck_assert_uint_eq(pci_guest_read(&guest, isr, 1), 0);
    put(VIRTIO_PCI_COMMON_Q_MSIX, 0xffff, 2);
    work();
    took(0, 0, 0);
    put(VIRTIO_PCI_COMMON_Q_MSIX, 1, 2);
    set_msix(0);
    work();
    took(0, 0, 0);
    ck_assert(fake.irq_level);
    set_msix(PCI_MSIX_FLAGS_ENABLE);
    ck_assert(!fake.irq_level);
    took(0, 0, 0);
}
END_TEST

START_TEST(masked_messages_wait)
{
    start_with_vectors();
    work(); /* masked since the reset */
    took(0, 0, 0);
    ck_assert_uint_eq(pending_bits(), 2);
    set_message(1, 0xfee00000, 0x31);
    took(1, 0xfee00000, 0x31);
    ck_assert_uint_eq(pending_bits(), 0);
    set_msix(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    work();
    work();
    took(0, 0, 0);
    ck_assert_uint_eq(pending_bits(), 2);
    mask(1, true);
    set_msix(PCI_MSIX_FLAGS_ENABLE);
    took(0, 0, 0);
    set_message(1, 0xfee02000, 0x32); /* as it is then */
    took(1, 0xfee02000, 0x32);
    mask(1, true);
    work();
    pci_reset(pci);
    ck_assert_uint_eq(nr_messages, 0);
    pci_guest_probe(&guest, NUMBER, BAR, &place);
    ck_assert_uint_eq(pending_bits(), 0);
    set_msix(PCI_MSIX_FLAGS_ENABLE);
    mask(1, false);
    took(0, 0, 0);
}
END_TEST

START_TEST(messages_are_a_bus_masters)
{
    start_with_vectors();
    mask(1, true);
    work();
    ck_assert_uint_eq(pending_bits(), 2);
    set_command(PCI_COMMAND_MEMORY);
    set_message(1, 0xfee00000, 0x31);
    took(0, 0, 0);
    set_command(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    work();
    took(1, 0xfee00000, 0x31);
}
END_TEST

START_TEST(a_change_of_configuration_is_a_message)
{
    uint64_t isr = place.at[VIRTIO_PCI_CAP_ISR_CFG];

    start_with_vectors();
    set_message(0, 0xfee00000, 0x30);
    fake_offer(&fake, 0, 999); /* no such descriptor */
    notify();
    fake_run(&fake, 0);
    ck_assert_uint_eq(status(), 15 | VIRTIO_STATUS_NEEDS_RESET);
    took(1, 0xfee00000, 0x30);
    ck_assert(!fake.irq_level);
    ck_assert_uint_eq(pci_guest_read(&guest, isr, 1), VIRTIO_INTERRUPT_CONFIG);
}
END_TEST

TEST_MAIN("virtio_pci", tcase_add_checked_fixture(tcase, setup, teardown);
          tcase_add_test(tcase, configuration_space_is_what_drivers_expect);
          tcase_add_loop_test(tcase, writes_change_what_they_may, 0, 3);
          tcase_add_test(tcase, accesses_that_straddle);
          tcase_add_test(tcase, every_place_takes_every_size);
          tcase_add_test(tcase, features_are_negotiated);
          tcase_add_test(tcase, queues_are_set_up_once);
          tcase_add_test(tcase, a_queue_of_its_own_size);
          tcase_add_test(tcase, hostile_queues_need_a_reset);
          tcase_add_test(tcase, the_isr_is_cleared_by_reading);
          tcase_add_test(tcase, interrupts_can_be_switched_off);
          tcase_add_test(tcase, notifications_of_nothing);
          tcase_add_test(tcase, memory_is_reached_by_a_bus_master);
          tcase_add_test(tcase, messages_are_a_bus_masters);
          tcase_add_test(tcase, a_reset_of_the_machine_starts_anew);
          tcase_add_test(tcase, vectors_have_a_place); tcase_add_test(tcase, the_table_takes_words);
          tcase_add_test(tcase, vectors_are_chosen);
          tcase_add_test(tcase, messages_take_the_place_of_the_line);
          tcase_add_test(tcase, masked_messages_wait);
          tcase_add_test(tcase, a_change_of_configuration_is_a_message))
