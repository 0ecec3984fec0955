/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 16550A serial port (National Semiconductor PC16550D data sheet). Transmission takes no time:
 * each byte written is given to `output` at once. Received bytes wait in a queue behind the
 * 16-byte FIFO; ns16550_input takes what there is room for, and input_ready tells when there is
 * room again, so nothing is ever overrun. The peer honours RTS and sends again what a cleared FIFO
 * threw away: input given before the guest opens its port is not lost.
 *
 * Threads: ports on vCPU threads, input from any; one lock, held neither while output nor while
 * input_ready is called. Bytes of one vCPU leave in order.
 */
#ifndef LODGE_MACHINE_NS16550_H
#define LODGE_MACHINE_NS16550_H

#include "base/err.h"
#include "machine/bus.h"
#include "machine/irq.h"

#include <stddef.h>
#include <stdint.h>

#define NS16550_FIFO  16
#define NS16550_QUEUE 4096

struct ns16550_functions {
    void *context;
    void (*output)(void *context, const void *data, size_t length); /* may be NULL */
    void (*input_ready)(void *context);                             /* may be NULL */
};

struct ns16550_state {
    uint8_t ier, fcr, lcr, mcr, scratch;
    uint8_t divisor_low, divisor_high;
    uint8_t msr_delta;
    uint8_t thr_empty_pending; /* the transmitter interrupt waits to be seen */
    uint8_t overrun;           /* only in loopback */
    uint8_t mcr_written;
    uint8_t nr_looped; /* what came back in loopback mode */
    uint8_t looped[NS16550_FIFO];
    uint16_t nr_received;
    uint8_t received[NS16550_QUEUE];
};

struct ns16550;

/* irq and functions are copied. */
int ns16550_new(const struct irq_line *irq, const struct ns16550_functions *functions,
                struct ns16550 **ret, struct err *err);
void ns16550_free(struct ns16550 *uart);
int ns16550_add_to_bus(struct ns16550 *uart, struct bus *bus, uint16_t port, struct err *err);
void ns16550_reset(struct ns16550 *uart);

/* Queues bytes for the guest; how many were taken. */
size_t ns16550_input(struct ns16550 *uart, const void *data, size_t length);

void ns16550_save(struct ns16550 *uart, struct ns16550_state *ret);
void ns16550_load(struct ns16550 *uart, const struct ns16550_state *state);

#endif
