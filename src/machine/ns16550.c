/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 16550A logic. The FIFO is the front of the receive queue: the guest sees at most 16 bytes of it
 * (one when FIFOs are off). As bytes never trickle, a FIFO below its trigger level counts as timed
 * out at once.
 */
#include "machine/ns16550.h"

#include "base/util.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    REGISTER_DATA = 0,
    REGISTER_IER = 1,
    REGISTER_IIR_FCR = 2,
    REGISTER_LCR = 3,
    REGISTER_MCR = 4,
    REGISTER_LSR = 5,
    REGISTER_MSR = 6,
    REGISTER_SCRATCH = 7,
    NR_REGISTERS = 8,
};

#define IER_RECEIVED  0x01
#define IER_THR_EMPTY 0x02
#define IER_LINE      0x04
#define IER_MODEM     0x08

#define IIR_NONE      0x01
#define IIR_MODEM     0x00
#define IIR_THR_EMPTY 0x02
#define IIR_RECEIVED  0x04
#define IIR_LINE      0x06
#define IIR_TIMEOUT   0x0c
#define IIR_FIFOS     0xc0

#define FCR_ENABLE         0x01
#define FCR_CLEAR_RECEIVER 0x02

#define LCR_DLAB 0x80

#define MCR_DTR      0x01
#define MCR_RTS      0x02
#define MCR_OUT1     0x04
#define MCR_OUT2     0x08 /* lets the interrupt out */
#define MCR_LOOPBACK 0x10

#define LSR_DATA_READY 0x01
#define LSR_OVERRUN    0x02
#define LSR_THR_EMPTY  0x20
#define LSR_IDLE       0x40

#define MSR_CTS 0x10
#define MSR_DSR 0x20
#define MSR_RI  0x40
#define MSR_DCD 0x80

struct ns16550 {
    pthread_mutex_t lock;
    struct irq_line irq;
    struct ns16550_functions functions;
    struct ns16550_state state;
    bool refused;  /* input was turned away: input_ready is owed */
    bool irq_high; /* what was last told to the line */
};

static unsigned trigger_level(const struct ns16550 *uart)
{
    static const uint8_t levels[] = {1, 4, 8, 14};

    return uart->state.fcr & FCR_ENABLE ? levels[uart->state.fcr >> 6] : 1;
}

/* Modem inputs: wired as if a modem were there and ready, or from the outputs in loopback. */
static uint8_t modem_lines(const struct ns16550 *uart)
{
    uint8_t mcr = uart->state.mcr;

    if (!(mcr & MCR_LOOPBACK))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (uint8_t)((mcr & MCR_RTS ? MSR_CTS : 0) | (mcr & MCR_DTR ? MSR_DSR : 0) |
                     (mcr & MCR_OUT1 ? MSR_RI : 0) | (mcr & MCR_OUT2 ? MSR_DCD : 0));
}

/* Bytes that the guest can read now: none while RTS holds the peer off (a guest that has never
 * written MCR polls without flow control). */
static unsigned nr_readable(const struct ns16550 *uart)
{
    const struct ns16550_state *s = &uart->state;

    if (s->mcr & MCR_LOOPBACK)
        return s->nr_looped;
    return s->mcr & MCR_RTS || !s->mcr_written ? s->nr_received : 0;
}

/* The interrupt of highest priority (data sheet, table 5). */
static uint8_t interrupt_cause(const struct ns16550 *uart)
{
    const struct ns16550_state *s = &uart->state;

    if (s->ier & IER_LINE && s->overrun)
        return IIR_LINE;
    if (s->ier & IER_RECEIVED && nr_readable(uart))
        return nr_readable(uart) >= trigger_level(uart) ? IIR_RECEIVED : IIR_TIMEOUT;
    if (s->ier & IER_THR_EMPTY && s->thr_empty_pending)
        return IIR_THR_EMPTY;
    if (s->ier & IER_MODEM && s->msr_delta)
        return IIR_MODEM;
    return IIR_NONE;
}

static void irq_update_locked(struct ns16550 *uart)
{
    /* In loopback OUT2 is cut off from its pin, and with it the interrupt. */
    bool open = (uart->state.mcr & (MCR_OUT2 | MCR_LOOPBACK)) == MCR_OUT2;
    bool high = open && interrupt_cause(uart) != IIR_NONE;

    if (high != uart->irq_high) {
        uart->irq_high = high;
        irq_line_set(&uart->irq, high);
    }
}

static uint8_t receive_locked(struct ns16550 *uart)
{
    struct ns16550_state *s = &uart->state;
    bool loopback = s->mcr & MCR_LOOPBACK;
    uint8_t *bytes = loopback ? s->looped : s->received;
    uint8_t value = bytes[0];

    if (!nr_readable(uart))
        return 0;
    if (loopback)
        memmove(bytes, bytes + 1, --s->nr_looped);
    else
        memmove(bytes, bytes + 1, --s->nr_received);
    return value;
}

static void mcr_write_locked(struct ns16550 *uart, uint8_t value)
{
    uint8_t before = modem_lines(uart), changed;

    uart->state.mcr = value & 0x1f;
    uart->state.mcr_written = 1;
    if (!(value & MCR_LOOPBACK))
        uart->state.nr_looped = 0;
    changed = before ^ modem_lines(uart);
    uart->state.msr_delta |= (changed & (MSR_CTS | MSR_DSR | MSR_DCD)) >> 4;
    if (changed & before & MSR_RI) /* trailing edge only */
        uart->state.msr_delta |= MSR_RI >> 4;
}

static void fcr_write_locked(struct ns16550 *uart, uint8_t value)
{
    if ((value ^ uart->state.fcr) & FCR_ENABLE || value & FCR_CLEAR_RECEIVER)
        uart->state.nr_looped = 0;
    uart->state.fcr = value & FCR_ENABLE ? value & 0xc9 : 0;
}

/* Gives true when the byte is to go out. */
static bool transmit_locked(struct ns16550 *uart, uint8_t value)
{
    struct ns16550_state *s = &uart->state;

    s->thr_empty_pending = 1;
    if (!(s->mcr & MCR_LOOPBACK))
        return true;
    if (s->nr_looped >= (s->fcr & FCR_ENABLE ? NS16550_FIFO : 1))
        s->overrun = 1;
    else
        s->looped[s->nr_looped++] = value;
    return false;
}

static uint8_t register_read_locked(struct ns16550 *uart, unsigned index)
{
    struct ns16550_state *s = &uart->state;
    uint8_t value;

    switch (index) {
    case REGISTER_DATA:
        return s->lcr & LCR_DLAB ? s->divisor_low : receive_locked(uart);
    case REGISTER_IER:
        return s->lcr & LCR_DLAB ? s->divisor_high : s->ier;
    case REGISTER_IIR_FCR:
        value = interrupt_cause(uart);
        if (value == IIR_THR_EMPTY)
            s->thr_empty_pending = 0;
        return value | (s->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
    case REGISTER_LCR:
        return s->lcr;
    case REGISTER_MCR:
        return s->mcr;
    case REGISTER_LSR:
        value = (uint8_t)(LSR_THR_EMPTY | LSR_IDLE | (nr_readable(uart) ? LSR_DATA_READY : 0) |
                          (s->overrun ? LSR_OVERRUN : 0));
        s->overrun = 0;
        return value;
    case REGISTER_MSR:
        value = modem_lines(uart) | s->msr_delta;
        s->msr_delta = 0;
        return value;
    default:
        return s->scratch;
    }
}

static bool register_write_locked(struct ns16550 *uart, unsigned index, uint8_t value)
{
    struct ns16550_state *s = &uart->state;

    switch (index) {
    case REGISTER_DATA:
        if (!(s->lcr & LCR_DLAB))
            return transmit_locked(uart, value);
        s->divisor_low = value;
        break;
    case REGISTER_IER:
        if (s->lcr & LCR_DLAB) {
            s->divisor_high = value;
            break;
        }
        /* Enabling it while the transmitter is empty (it always is) interrupts at once. */
        if (value & ~s->ier & IER_THR_EMPTY)
            s->thr_empty_pending = 1;
        s->ier = value & 0x0f;
        break;
    case REGISTER_IIR_FCR:
        fcr_write_locked(uart, value);
        break;
    case REGISTER_LCR:
        s->lcr = value;
        break;
    case REGISTER_MCR:
        mcr_write_locked(uart, value);
        break;
    case REGISTER_SCRATCH:
        s->scratch = value;
        break;
    default:
        break;
    }
    return false;
}

static void uart_bus_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    struct ns16550 *uart = device;
    uint8_t *bytes = data;
    bool ready;

    (void)cpu;
    pthread_mutex_lock(&uart->lock);
    for (unsigned i = 0; i < size; i++)
        bytes[i] = register_read_locked(uart, (unsigned)offset + i);
    irq_update_locked(uart);
    ready = uart->refused && uart->state.nr_received <= NS16550_QUEUE / 2;
    if (ready)
        uart->refused = false;
    pthread_mutex_unlock(&uart->lock);
    if (ready && uart->functions.input_ready)
        uart->functions.input_ready(uart->functions.context);
}

static void uart_bus_write(void *device, unsigned cpu, uint64_t offset, const void *data,
                           unsigned size)
{
    struct ns16550 *uart = device;
    const uint8_t *bytes = data;
    uint8_t out[8];
    size_t nr_out = 0;

    (void)cpu;
    pthread_mutex_lock(&uart->lock);
    for (unsigned i = 0; i < size; i++)
        if (register_write_locked(uart, (unsigned)offset + i, bytes[i]))
            out[nr_out++] = bytes[i];
    irq_update_locked(uart);
    pthread_mutex_unlock(&uart->lock);
    if (nr_out && uart->functions.output)
        uart->functions.output(uart->functions.context, out, nr_out);
}

int ns16550_add_to_bus(struct ns16550 *uart, struct bus *bus, uint16_t port, struct err *err)
{
    static const struct bus_ops ops = {uart_bus_read, uart_bus_write};

    return bus_add(bus, BUS_IO, port, NR_REGISTERS, &ops, uart, "serial port", err);
}

int ns16550_new(const struct irq_line *irq, const struct ns16550_functions *functions,
                struct ns16550 **ret, struct err *err)
{
    struct ns16550 *uart = calloc(1, sizeof(*uart));

    if (!uart)
        return err_set(err, -ENOMEM, "out of memory for a serial port");
    pthread_mutex_init(&uart->lock, NULL);
    uart->irq = *irq;
    uart->functions = *functions;
    ns16550_reset(uart);
    *ret = uart;
    return 0;
}

void ns16550_free(struct ns16550 *uart)
{
    if (!uart)
        return;
    pthread_mutex_destroy(&uart->lock);
    free(uart);
}

void ns16550_reset(struct ns16550 *uart)
{
    pthread_mutex_lock(&uart->lock);
    memset(&uart->state, 0, sizeof(uart->state));
    uart->state.divisor_low = 12; /* 9600 baud */
    uart->state.lcr = 0x03;
    irq_update_locked(uart);
    pthread_mutex_unlock(&uart->lock);
}

size_t ns16550_input(struct ns16550 *uart, const void *data, size_t length)
{
    size_t taken;

    pthread_mutex_lock(&uart->lock);
    taken = MIN(length, (size_t)NS16550_QUEUE - uart->state.nr_received);
    memcpy(uart->state.received + uart->state.nr_received, data, taken);
    uart->state.nr_received = (uint16_t)(uart->state.nr_received + taken);
    if (taken < length)
        uart->refused = true;
    irq_update_locked(uart);
    pthread_mutex_unlock(&uart->lock);
    return taken;
}

void ns16550_save(struct ns16550 *uart, struct ns16550_state *ret)
{
    pthread_mutex_lock(&uart->lock);
    *ret = uart->state;
    pthread_mutex_unlock(&uart->lock);
}

void ns16550_load(struct ns16550 *uart, const struct ns16550_state *state)
{
    pthread_mutex_lock(&uart->lock);
    uart->state = *state;
    uart->state.nr_received = MIN(uart->state.nr_received, NS16550_QUEUE);
    uart->state.nr_looped = MIN(uart->state.nr_looped, NS16550_FIFO);
    irq_update_locked(uart);
    pthread_mutex_unlock(&uart->lock);
}
