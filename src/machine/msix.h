/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Message-signalled interrupts of one PCI device (PCI 3.0 6.8.2, MSI-X): the capability, the table
 * of messages and the bits of those that wait. The bus writes the capability's control, the device
 * has table and bits in a BAR and raises vectors; both the messages' addresses and their data are
 * the guest's business.
 *
 *   msix_raise ──▶ sent, or while masked ──▶ pending ──unmasked──▶ sent
 *
 * Threads: any. The message is sent with the lock held, so that one that was masked before the
 * write of the mask returns does not come afterwards.
 */
#ifndef LODGE_MACHINE_MSIX_H
#define LODGE_MACHINE_MSIX_H

#include "machine/irq.h"

#include <pthread.h>

#define MSIX_VECTORS_MAX      8
#define MSIX_ENTRY_BYTES      16u
#define MSIX_CAPABILITY_BYTES 12u
#define MSIX_CONTROL          2u /* offset of the control in the capability, 16 bits */
#define MSIX_CONTROL_KEPT     0xc000u
#define MSIX_CONTROL_ENABLE   0x8000u
#define MSIX_CONTROL_MASK     0x4000u

struct msix_vector {
    uint32_t words[4]; /* as in the table: address, its upper half, data, control */
    bool pending;
};

struct msix {
    pthread_mutex_t lock;
    const struct irq_sink *sink;
    unsigned nr;
    uint16_t control; /* atomic for msix_enabled */
    struct msix_vector vectors[MSIX_VECTORS_MAX];
};

void msix_init(struct msix *msix, unsigned nr_vectors);
void msix_done(struct msix *msix);
/* Where messages go. Before the first vector is raised. */
void msix_connect(struct msix *msix, const struct irq_sink *sink);
/* Power-on state: off, all masked. */
void msix_reset(struct msix *msix);

/* The capability's bytes, with the table and the bits of what is pending at these offsets of BAR 0.
 */
void msix_describe(const struct msix *msix, uint8_t *capability, uint8_t next, uint32_t table,
                   uint32_t pending);
void msix_set_control(struct msix *msix, uint16_t control);
static inline bool msix_enabled(const struct msix *msix)
{
    return __atomic_load_n(&msix->control, __ATOMIC_ACQUIRE) & MSIX_CONTROL_ENABLE;
}
/* A vector that does not exist, or a device that is not enabled: nothing. */
void msix_raise(struct msix *msix, unsigned vector);

/* Aligned accesses of 4 and 8 bytes; others read zeros and write nothing. */
void msix_table_read(struct msix *msix, uint64_t offset, void *data, unsigned size);
void msix_table_write(struct msix *msix, uint64_t offset, const void *data, unsigned size);
void msix_pending_read(struct msix *msix, uint64_t offset, void *data, unsigned size);

#endif
