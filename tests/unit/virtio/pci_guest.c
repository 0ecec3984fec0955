/* SPDX-License-Identifier: Apache-2.0 */
#include "pci_guest.h"

#include "testing.h"

#include <linux/pci_regs.h>

#define ADDRESS 0xcf8
#define DATA    0xcfc

uint32_t pci_guest_in(struct pci_guest *guest, uint16_t port, unsigned size)
{
    uint32_t value = 0;

    guest->cpu_bus.io_read(guest->cpu_bus.context, 0, port, &value, size);
    return value;
}

void pci_guest_out(struct pci_guest *guest, uint16_t port, uint32_t value, unsigned size)
{
    guest->cpu_bus.io_write(guest->cpu_bus.context, 0, port, &value, size);
}

static uint16_t select_register(struct pci_guest *guest, unsigned number, unsigned at)
{
    pci_guest_out(guest, ADDRESS, 0x80000000u | number << 11 | (at & 0xfc), 4);
    return (uint16_t)(DATA + (at & 3));
}

uint32_t pci_guest_config_in(struct pci_guest *guest, unsigned number, unsigned at, unsigned size)
{
    return pci_guest_in(guest, select_register(guest, number, at), size);
}

void pci_guest_config_out(struct pci_guest *guest, unsigned number, unsigned at, uint32_t value,
                          unsigned size)
{
    pci_guest_out(guest, select_register(guest, number, at), value, size);
}

uint64_t pci_guest_read(struct pci_guest *guest, uint64_t gpa, unsigned size)
{
    uint64_t value = 0;

    guest->cpu_bus.mmio_read(guest->cpu_bus.context, 0, gpa, &value, size);
    return value;
}

void pci_guest_write(struct pci_guest *guest, uint64_t gpa, uint64_t value, unsigned size)
{
    guest->cpu_bus.mmio_write(guest->cpu_bus.context, 0, gpa, &value, size);
}

static void read_vendor_capability(struct pci_guest *guest, unsigned at,
                                   struct pci_guest_device *ret)
{
    unsigned type = pci_guest_config_in(guest, ret->number, at + VIRTIO_PCI_CAP_CFG_TYPE, 1);
    uint32_t offset = pci_guest_config_in(guest, ret->number, at + VIRTIO_PCI_CAP_OFFSET, 4);
    uint32_t length = pci_guest_config_in(guest, ret->number, at + VIRTIO_PCI_CAP_LENGTH, 4);

    ck_assert_uint_eq(pci_guest_config_in(guest, ret->number, at + VIRTIO_PCI_CAP_BAR, 1), 0);
    ck_assert_uint_gt(type, 0);
    ck_assert_uint_lt(type, PCI_GUEST_CAPABILITIES);
    ck_assert_uint_eq(ret->bytes[type], 0); /* once each */
    ck_assert_uint_gt(length, 0);
    ck_assert(offset <= ret->bar_bytes && length <= ret->bar_bytes - offset);
    ret->at[type] = ret->bar + offset;
    ret->bytes[type] = length;
    if (type == VIRTIO_PCI_CAP_NOTIFY_CFG) {
        ck_assert_uint_ge(pci_guest_config_in(guest, ret->number, at + VIRTIO_PCI_CAP_LEN, 1), 20);
        ret->notify_multiplier = pci_guest_config_in(guest, ret->number,
                                                     at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4);
    }
}

void pci_guest_probe(struct pci_guest *guest, unsigned number, uint64_t bar,
                     struct pci_guest_device *ret)
{
    unsigned at, nr = 0;

    *ret = (struct pci_guest_device){.number = number, .bar = bar};
    pci_guest_config_out(guest, number, PCI_BASE_ADDRESS_0, UINT32_MAX, 4);
    ret->bar_bytes = (uint32_t)-pci_guest_config_in(guest, number, PCI_BASE_ADDRESS_0, 4);
    ck_assert_uint_ge(ret->bar_bytes, 0x1000);
    ck_assert_uint_eq(ret->bar_bytes & (ret->bar_bytes - 1), 0);
    pci_guest_config_out(guest, number, PCI_BASE_ADDRESS_0, (uint32_t)bar, 4);
    ck_assert_uint_eq(pci_guest_config_in(guest, number, PCI_BASE_ADDRESS_0, 4), bar);
    pci_guest_config_out(guest, number, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
    ck_assert(pci_guest_config_in(guest, number, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST);
    for (at = pci_guest_config_in(guest, number, PCI_CAPABILITY_LIST, 1); at;
         at = pci_guest_config_in(guest, number, at + PCI_CAP_LIST_NEXT, 1)) {
        ck_assert_uint_ge(at, 0x40);
        ck_assert_uint_eq(at % 4, 0);
        ck_assert_uint_lt(nr++, 16);
        if (pci_guest_config_in(guest, number, at, 1) == PCI_CAP_ID_VNDR)
            read_vendor_capability(guest, at, ret);
        else if (pci_guest_config_in(guest, number, at, 1) == PCI_CAP_ID_MSIX)
            ret->msix = at;
    }
    for (unsigned type = VIRTIO_PCI_CAP_COMMON_CFG; type <= VIRTIO_PCI_CAP_DEVICE_CFG; type++)
        ck_assert_uint_ne(ret->bytes[type], 0);
}
