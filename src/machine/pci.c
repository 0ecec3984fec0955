/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/pci.h"

#include "base/util.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define ADDRESS_PORT   0xcf8
#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_KEPT   0x80fffffcu
#define RESET_OFFSET   1 /* 0xcf9 */
#define RESET_FULL     0x04
#define COMMAND_MEMORY 0x0002u
#define COMMAND_MASTER 0x0004u
#define COMMAND_KEPT   0x0406u /* INTA off, bus master, memory */
#define COMMAND_SILENT 0x0400u
#define STATUS_PENDING 0x08u

/* INTA of a slot: what the device asks for, and whether the guest wants to hear it. */
struct inta {
    struct pci *pci;
    struct irq_sink sink; /* the device's */
    pthread_mutex_t lock;
    bool asked, silent;
    bool master; /* may write to memory, so send messages */
};

struct slot {
    bool plugged;
    struct pci_device device;
    struct inta inta;
};

struct pci {
    const struct irq_sink *sink;
    unsigned gsis[PCI_SLOTS_MAX];
    void (*gpe)(void *context, bool raised);
    void *gpe_context;
    struct pci_functions functions;
    pthread_rwlock_t lock; /* slots; read by accesses to devices, for as long as they take */
    struct slot slots[PCI_SLOTS_MAX];
    pthread_mutex_t event_lock; /* what follows */
    uint32_t address, inserted, asked;
    uint8_t gpe_status, gpe_enable;
};

/* Of the host bridge, device 0. */
static const uint8_t bridge[] = {0x36, 0x1b, 0x08, 0x00, 0, 0, 0, 0, 0, 0, 0x00, 0x06};

/* --- interrupts --- */

/* inta->lock */
static void inta_change(struct inta *inta, unsigned gsi, bool asked, bool silent)
{
    bool before = inta->asked && !inta->silent, now = asked && !silent;

    inta->asked = asked;
    inta->silent = silent;
    if (now != before)
        inta->pci->sink->set(inta->pci->sink->context, gsi, now);
}

static void inta_set(void *context, unsigned gsi, bool level)
{
    struct inta *inta = context;

    pthread_mutex_lock(&inta->lock);
    inta_change(inta, gsi, level, inta->silent);
    pthread_mutex_unlock(&inta->lock);
}

static void inta_msi(void *context, uint64_t address, uint32_t data)
{
    struct inta *inta = context;
    bool master;

    pthread_mutex_lock(&inta->lock);
    master = inta->master;
    pthread_mutex_unlock(&inta->lock);
    if (master)
        inta->pci->sink->msi(inta->pci->sink->context, address, data);
}

static bool inta_asked(struct inta *inta)
{
    bool asked;

    pthread_mutex_lock(&inta->lock);
    asked = inta->asked;
    pthread_mutex_unlock(&inta->lock);
    return asked;
}

/* lock, for writing. What the device ends because it may no longer is announced by message yet. */
static void master_change(struct slot *slot, bool master)
{
    if (slot->inta.master == master)
        return;
    if (!master && slot->device.master)
        slot->device.master(slot->device.context, false);
    pthread_mutex_lock(&slot->inta.lock);
    slot->inta.master = master;
    pthread_mutex_unlock(&slot->inta.lock);
    if (master && slot->device.master)
        slot->device.master(slot->device.context, true);
}

/* lock, for writing: the device's registers have changed. */
static void registers_changed(struct pci *pci, unsigned index)
{
    struct slot *slot = &pci->slots[index];
    const uint8_t *config = slot->device.config;
    struct msix *msix = slot->device.msix;
    bool silent = load_le16(config + PCI_COMMAND) & COMMAND_SILENT;

    if (msix) {
        msix_set_control(msix, load_le16(config + slot->device.msix_at + MSIX_CONTROL));
        silent |= msix_enabled(msix);
    }
    pthread_mutex_lock(&slot->inta.lock);
    inta_change(&slot->inta, pci->gsis[index], slot->inta.asked, silent);
    pthread_mutex_unlock(&slot->inta.lock);
    master_change(slot, load_le16(config + PCI_COMMAND) & COMMAND_MASTER);
}

/* --- events --- */

/* event_lock */
static void gpe_update(struct pci *pci)
{
    pci->gpe(pci->gpe_context, pci->gpe_status & pci->gpe_enable);
}

static void announce_bit(struct pci *pci, uint32_t *bits, unsigned slot)
{
    pthread_mutex_lock(&pci->event_lock);
    *bits |= 1u << slot;
    pci->gpe_status |= 1u << PCI_GPE_BIT;
    gpe_update(pci);
    pthread_mutex_unlock(&pci->event_lock);
}

static void gpe_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    struct pci *pci = device;
    uint8_t bytes[2];

    (void)cpu;
    pthread_mutex_lock(&pci->event_lock);
    bytes[0] = pci->gpe_status;
    bytes[1] = pci->gpe_enable;
    pthread_mutex_unlock(&pci->event_lock);
    memcpy(data, bytes + offset, size);
}

static void gpe_write(void *device, unsigned cpu, uint64_t offset, const void *data, unsigned size)
{
    struct pci *pci = device;
    const uint8_t *bytes = data;

    (void)cpu;
    pthread_mutex_lock(&pci->event_lock);
    for (unsigned i = 0; i < size; i++)
        if (offset + i == 0)
            pci->gpe_status &= (uint8_t)~bytes[i]; /* written ones clear */
        else
            pci->gpe_enable = bytes[i];
    gpe_update(pci);
    pthread_mutex_unlock(&pci->event_lock);
}

static void hotplug_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    struct pci *pci = device;
    uint32_t words[3] = {0};

    (void)cpu;
    pthread_mutex_lock(&pci->event_lock);
    words[PCI_HOTPLUG_INSERTED / 4] = pci->inserted;
    words[PCI_HOTPLUG_ASKED / 4] = pci->asked;
    pthread_mutex_unlock(&pci->event_lock);
    memcpy(data, (const char *)words + offset, size);
}

static void hotplug_write(void *device, unsigned cpu, uint64_t offset, const void *data,
                          unsigned size)
{
    struct pci *pci = device;
    uint32_t value;

    (void)cpu;
    if (size != 4)
        return;
    value = load_le32(data);
    pthread_mutex_lock(&pci->event_lock);
    if (offset == PCI_HOTPLUG_INSERTED)
        pci->inserted &= ~value;
    else if (offset == PCI_HOTPLUG_ASKED)
        pci->asked &= ~value;
    pthread_mutex_unlock(&pci->event_lock);
    for (unsigned i = 0; offset == PCI_HOTPLUG_EJECT && i < PCI_SLOTS_MAX; i++)
        if (value & 1u << i)
            pci->functions.ejected(pci->functions.context, i);
}

/* --- configuration space --- */

/* The slot that the address names and the register in it; NULL: there is none. */
static struct slot *addressed(struct pci *pci, uint32_t address, unsigned *ret_register)
{
    unsigned number = address >> 11 & 31;

    *ret_register = address & 0xfc;
    if (!(address & ADDRESS_ENABLE) || address >> 16 & 0xff || address >> 8 & 7 || number == 0 ||
        number > PCI_SLOTS_MAX || !pci->slots[number - 1].plugged)
        return NULL;
    return &pci->slots[number - 1];
}

static void config_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    struct pci *pci = device;
    uint32_t address;
    unsigned at;
    struct slot *slot;

    (void)cpu;
    pthread_mutex_lock(&pci->event_lock);
    address = pci->address;
    pthread_mutex_unlock(&pci->event_lock);
    if (offset < 4) { /* and nothing of the data port beside it */
        memcpy(data, (const char *)&address + offset, MIN(size, 4u - (unsigned)offset));
        return;
    }
    offset -= 4;
    pthread_rwlock_rdlock(&pci->lock);
    if ((slot = addressed(pci, address, &at))) {
        uint8_t config[PCI_CONFIG_BYTES];

        memcpy(config, slot->device.config, sizeof(config));
        config[PCI_STATUS] |= inta_asked(&slot->inta) ? STATUS_PENDING : 0;
        memcpy(data, config + at + offset, size);
    } else if ((address & ~0xfcu) == ADDRESS_ENABLE)
        for (unsigned i = 0; i < size; i++)
            ((uint8_t *)data)[i] = at + offset + i < sizeof(bridge) ? bridge[at + offset + i] : 0;
    pthread_rwlock_unlock(&pci->lock);
}

static void config_write_byte(struct pci_device *device, unsigned at, uint8_t value)
{
    uint32_t mask = ~(device->bar_bytes - 1);

    if (at == PCI_COMMAND || at == PCI_COMMAND + 1)
        device->config[at] = value & (uint8_t)(COMMAND_KEPT >> 8 * (at - PCI_COMMAND));
    else if (at >= PCI_BAR0 && at < PCI_BAR0 + 4)
        device->config[at] = value & (uint8_t)(mask >> 8 * (at - PCI_BAR0));
    else if (device->msix && at == device->msix_at + MSIX_CONTROL + 1)
        device->config[at] = (uint8_t)((device->config[at] & ~(MSIX_CONTROL_KEPT >> 8)) |
                                       (value & MSIX_CONTROL_KEPT >> 8));
    else if (at == PCI_LINE)
        device->config[at] = value;
}

static void config_write(void *device, unsigned cpu, uint64_t offset, const void *data,
                         unsigned size)
{
    struct pci *pci = device;
    const uint8_t *bytes = data;
    uint32_t address;
    unsigned at;
    struct slot *slot;

    (void)cpu;
    if (offset == RESET_OFFSET && size == 1 && bytes[0] & RESET_FULL)
        pci->functions.reset(pci->functions.context);
    pthread_mutex_lock(&pci->event_lock);
    if (offset == 0 && size == 4)
        pci->address = load_le32(data) & ADDRESS_KEPT;
    address = pci->address;
    pthread_mutex_unlock(&pci->event_lock);
    if (offset < 4)
        return;
    pthread_rwlock_wrlock(&pci->lock);
    if ((slot = addressed(pci, address, &at))) {
        for (unsigned i = 0; i < size; i++)
            config_write_byte(&slot->device, at + (unsigned)offset - 4 + i, bytes[i]);
        registers_changed(pci, (unsigned)(slot - pci->slots));
    }
    pthread_rwlock_unlock(&pci->lock);
}

/* --- the devices' memory --- */

/* lock. The device whose BAR holds all of the access. */
static const struct pci_device *decode(const struct pci *pci, uint64_t offset, unsigned size,
                                       uint64_t *ret_offset)
{
    for (unsigned i = 0; i < PCI_SLOTS_MAX; i++) {
        const struct pci_device *device = &pci->slots[i].device;
        uint64_t bar = load_le32(device->config + PCI_BAR0);

        if (!pci->slots[i].plugged || !(device->config[PCI_COMMAND] & COMMAND_MEMORY) ||
            PCI_WINDOW_BASE + offset < bar ||
            !range_fits(PCI_WINDOW_BASE + offset - bar, size, device->bar_bytes))
            continue;
        *ret_offset = PCI_WINDOW_BASE + offset - bar;
        return device;
    }
    return NULL;
}

static void window_read(void *context, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    struct pci *pci = context;
    const struct pci_device *device;
    uint64_t at;

    pthread_rwlock_rdlock(&pci->lock);
    if ((device = decode(pci, offset, size, &at)))
        device->ops->read(device->context, cpu, at, data, size);
    pthread_rwlock_unlock(&pci->lock);
}

static void window_write(void *context, unsigned cpu, uint64_t offset, const void *data,
                         unsigned size)
{
    struct pci *pci = context;
    const struct pci_device *device;
    uint64_t at;

    pthread_rwlock_rdlock(&pci->lock);
    if ((device = decode(pci, offset, size, &at)))
        device->ops->write(device->context, cpu, at, data, size);
    pthread_rwlock_unlock(&pci->lock);
}

int pci_add_to_bus(struct pci *pci, struct bus *bus, struct err *err)
{
    static const struct bus_ops config_ops = {config_read, config_write};
    static const struct bus_ops window_ops = {window_read, window_write};
    static const struct bus_ops gpe_ops = {gpe_read, gpe_write};
    static const struct bus_ops hotplug_ops = {hotplug_read, hotplug_write};
    int result;

    if ((result = bus_add(bus, BUS_IO, ADDRESS_PORT, 8, &config_ops, pci, "PCI", err)) < 0 ||
        (result = bus_add(bus, BUS_IO, PCI_GPE_PORT, 2, &gpe_ops, pci, "ACPI GPE", err)) < 0 ||
        (result = bus_add(bus, BUS_IO, PCI_HOTPLUG_PORT, 12, &hotplug_ops, pci, "PCI hot-plug",
                          err)) < 0)
        return result;
    return bus_add(bus, BUS_MMIO, PCI_WINDOW_BASE, PCI_WINDOW_SIZE, &window_ops, pci, "PCI window",
                   err);
}

/* --- life --- */

int pci_new(const struct irq_sink *sink, const unsigned gsis[PCI_SLOTS_MAX],
            void (*gpe)(void *context, bool raised), void *gpe_context,
            const struct pci_functions *functions, struct pci **ret, struct err *err)
{
    struct pci *pci = calloc(1, sizeof(*pci));

    if (!pci)
        return err_set(err, -ENOMEM, "out of memory for a PCI bus");
    pci->sink = sink;
    memcpy(pci->gsis, gsis, sizeof(pci->gsis));
    pci->gpe = gpe;
    pci->gpe_context = gpe_context;
    pci->functions = *functions;
    pthread_rwlock_init(&pci->lock, NULL);
    pthread_mutex_init(&pci->event_lock, NULL);
    for (unsigned i = 0; i < PCI_SLOTS_MAX; i++) {
        struct inta *inta = &pci->slots[i].inta;

        pthread_mutex_init(&inta->lock, NULL);
        inta->pci = pci;
        inta->sink = (struct irq_sink){.context = inta, .set = inta_set, .msi = inta_msi};
    }
    *ret = pci;
    return 0;
}

void pci_free(struct pci *pci)
{
    if (!pci)
        return;
    for (unsigned i = 0; i < PCI_SLOTS_MAX; i++)
        pthread_mutex_destroy(&pci->slots[i].inta.lock);
    pthread_rwlock_destroy(&pci->lock);
    pthread_mutex_destroy(&pci->event_lock);
    free(pci);
}

struct irq_line pci_line(const struct pci *pci, unsigned slot)
{
    return (struct irq_line){&pci->slots[slot].inta.sink, pci->gsis[slot]};
}

void pci_plug(struct pci *pci, unsigned slot, const struct pci_device *device, bool announce)
{
    pthread_rwlock_wrlock(&pci->lock);
    pci->slots[slot].device = *device;
    pci->slots[slot].device.config[PCI_LINE] = (uint8_t)pci->gsis[slot];
    pci->slots[slot].device.config[PCI_PIN] = 1;
    pci->slots[slot].plugged = true;
    registers_changed(pci, slot);
    pthread_rwlock_unlock(&pci->lock);
    if (announce)
        announce_bit(pci, &pci->inserted, slot);
}

void pci_ask_back(struct pci *pci, unsigned slot)
{
    announce_bit(pci, &pci->asked, slot);
}

void pci_unplug(struct pci *pci, unsigned slot)
{
    pthread_rwlock_wrlock(&pci->lock);
    pci->slots[slot].plugged = false;
    pthread_mutex_lock(&pci->slots[slot].inta.lock);
    pci->slots[slot].inta.master = false;
    pthread_mutex_unlock(&pci->slots[slot].inta.lock);
    pthread_rwlock_unlock(&pci->lock);
}

static void slot_reset(struct pci *pci, unsigned index)
{
    struct pci_device *device = &pci->slots[index].device;

    memset(device->config + PCI_BAR0, 0, 4);
    memset(device->config + PCI_COMMAND, 0, 2);
    if (device->msix) {
        device->config[device->msix_at + MSIX_CONTROL + 1] &= (uint8_t) ~(MSIX_CONTROL_KEPT >> 8);
        msix_reset(device->msix);
    }
    registers_changed(pci, index);
    if (device->reset)
        device->reset(device->context);
}

void pci_reset(struct pci *pci)
{
    for (unsigned i = 0; i < PCI_SLOTS_MAX; i++)
        if (pci->slots[i].plugged)
            slot_reset(pci, i);
    pci->address = pci->inserted = pci->asked = 0;
    pci->gpe_status = pci->gpe_enable = 0;
    gpe_update(pci);
}
