/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 8254 logic. With d ticks since the count n was loaded (or the gate rose):
 *   mode 0  output rises at d = n                     count n - d
 *   mode 1  as 0, from the gate's rise                n - d
 *   mode 2  low for the last tick of every n          n - d mod n
 *   mode 3  high for the first half of every n        n - 2d mod n
 *   mode 4  low for the tick at d = n                 n - d
 *   mode 5  as 4, from the gate's rise                n - d
 */
#include "machine/i8254.h"

#include "base/clock.h"
#include "base/util.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PORT_BASE    0x40
#define PORT_CONTROL 3
#define PORT_SPEAKER 0x61

#define ACCESS_LATCH 0
#define ACCESS_LOW   1
#define ACCESS_HIGH  2
#define ACCESS_BOTH  3

#define STATUS_OUT        0x80
#define STATUS_NULL_COUNT 0x40

#define SPEAKER_GATE      0x01
#define SPEAKER_WRITABLE  0x0f
#define SPEAKER_REFRESH   0x10
#define SPEAKER_OUT       0x20
#define REFRESH_PERIOD_NS 15085 /* the bit flips this often */

#define EDGE_LEAST_NS (20 * NS_PER_US)

struct i8254 {
    pthread_mutex_t lock;
    struct timers *timers;
    struct irq_line irq;
    struct timer *timer;
    uint64_t edge_ns; /* when channel 0's output rises next, TIMER_NEVER: not */
    struct i8254_state state;
};

static uint64_t ns_to_ticks(uint64_t ns)
{
    return (uint64_t)((unsigned __int128)ns * I8254_HZ / NS_PER_S);
}

static uint64_t ticks_to_ns(uint64_t ticks)
{
    return (uint64_t)(((unsigned __int128)ticks * NS_PER_S + I8254_HZ - 1) / I8254_HZ);
}

static bool gate_triggers(const struct i8254_channel_state *ch)
{
    return ch->mode == 1 || ch->mode == 5;
}

/* Does time count now? */
static bool channel_runs(const struct i8254_channel_state *ch)
{
    if (!ch->loaded)
        return false;
    return gate_triggers(ch) ? ch->triggered : ch->gate;
}

static uint64_t channel_ticks(const struct i8254_channel_state *ch, uint64_t now_ns)
{
    if (!channel_runs(ch) || now_ns < ch->start_ns)
        return ch->elapsed_ticks;
    return ch->elapsed_ticks + ns_to_ticks(now_ns - ch->start_ns);
}

static void channel_restart(struct i8254_channel_state *ch, uint64_t now_ns)
{
    ch->elapsed_ticks = 0;
    ch->start_ns = now_ns;
}

static bool channel_out(const struct i8254_channel_state *ch, uint64_t now_ns)
{
    uint64_t d = channel_ticks(ch, now_ns);

    if (!ch->loaded)
        return ch->mode != 0;
    switch (ch->mode) {
    case 0:
        return d >= ch->count;
    case 1:
        return !ch->triggered || d >= ch->count;
    case 2:
        return !ch->gate || ch->count < 2 || d % ch->count != ch->count - 1;
    case 3:
        return !ch->gate || d % ch->count < (ch->count + 1) / 2;
    default:
        return (ch->mode == 5 && !ch->triggered) || d != ch->count;
    }
}

static uint16_t channel_count(const struct i8254_channel_state *ch, uint64_t now_ns)
{
    uint64_t d = channel_ticks(ch, now_ns), modulus = ch->bcd ? 10000 : 0x10000, value;

    if (!ch->loaded)
        return 0;
    if (ch->mode == 2)
        value = ch->count - d % ch->count;
    else if (ch->mode == 3)
        value = (ch->count - 2 * d % ch->count) & ~UINT64_C(1);
    else
        value = ch->count + modulus - d % modulus;
    value %= modulus;
    if (ch->bcd)
        value = value % 10 | value / 10 % 10 << 4 | value / 100 % 10 << 8 | value / 1000 << 12;
    return (uint16_t)value;
}

/* Ticks (as channel_ticks counts) at which channel 0's output rises next; UINT64_MAX: never. */
static uint64_t channel_next_rise(const struct i8254_channel_state *ch, uint64_t now_ns)
{
    uint64_t d = channel_ticks(ch, now_ns);

    if (!channel_runs(ch))
        return UINT64_MAX;
    switch (ch->mode) {
    case 0:
    case 1:
        return d < ch->count ? ch->count : UINT64_MAX;
    case 2:
    case 3:
        return (d / ch->count + 1) * ch->count;
    default:
        return d <= ch->count ? ch->count + UINT64_C(1) : UINT64_MAX;
    }
}

static void schedule_locked(struct i8254 *pit, uint64_t now_ns)
{
    const struct i8254_channel_state *ch = &pit->state.channels[0];
    uint64_t ticks = channel_next_rise(ch, now_ns);

    pit->edge_ns = TIMER_NEVER;
    if (ticks != UINT64_MAX)
        pit->edge_ns = MAX(ch->start_ns + ticks_to_ns(ticks - ch->elapsed_ticks),
                           now_ns + (ch->mode == 2 || ch->mode == 3 ? EDGE_LEAST_NS : 0));
    timer_arm(pit->timer, pit->edge_ns);
}

static void edge_due(void *context)
{
    struct i8254 *pit = context;
    uint64_t now_ns = timers_now_ns(pit->timers);

    pthread_mutex_lock(&pit->lock);
    if (pit->edge_ns <= now_ns) {
        irq_line_set(&pit->irq, false);
        irq_line_set(&pit->irq, true);
        schedule_locked(pit, now_ns);
    }
    pthread_mutex_unlock(&pit->lock);
}

/* After a change of a channel's mode, count or gate. */
static void channel_changed_locked(struct i8254 *pit, unsigned index, uint64_t now_ns)
{
    if (index != 0)
        return;
    irq_line_set(&pit->irq, channel_out(&pit->state.channels[0], now_ns));
    schedule_locked(pit, now_ns);
}

static void channel_load(struct i8254_channel_state *ch, uint16_t raw, uint64_t now_ns)
{
    uint32_t count = raw;

    if (ch->bcd)
        count = (raw & 0xf) + (raw >> 4 & 0xf) * 10u + (raw >> 8 & 0xf) * 100u +
                (raw >> 12) * 1000u;
    ch->count = count ? count : ch->bcd ? 10000 : 0x10000;
    ch->loaded = 1;
    if (!gate_triggers(ch))
        channel_restart(ch, now_ns);
}

static void channel_write(struct i8254 *pit, unsigned index, uint8_t value, uint64_t now_ns)
{
    struct i8254_channel_state *ch = &pit->state.channels[index];

    if (ch->access == ACCESS_BOTH && !ch->write_high) {
        ch->write_low_value = value;
        ch->write_high = 1;
        if (ch->mode == 0) /* writing the first byte stops the count (data sheet, mode 0) */
            ch->loaded = 0;
    } else {
        channel_load(ch,
                     ch->access == ACCESS_BOTH   ? (uint16_t)(value << 8 | ch->write_low_value)
                     : ch->access == ACCESS_HIGH ? (uint16_t)(value << 8)
                                                 : value,
                     now_ns);
        ch->write_high = 0;
    }
    channel_changed_locked(pit, index, now_ns);
}

static void channel_latch_count(struct i8254_channel_state *ch, uint64_t now_ns)
{
    if (ch->nr_latched)
        return;
    ch->latched_count = channel_count(ch, now_ns);
    ch->nr_latched = ch->access == ACCESS_BOTH ? 2 : 1;
    ch->read_high = ch->access == ACCESS_HIGH;
}

static void channel_latch_status(struct i8254_channel_state *ch, uint64_t now_ns)
{
    if (ch->status_latched)
        return;
    ch->latched_status = (uint8_t)((channel_out(ch, now_ns) ? STATUS_OUT : 0) |
                                   (ch->loaded ? 0 : STATUS_NULL_COUNT) | ch->access << 4 |
                                   ch->mode << 1 | ch->bcd);
    ch->status_latched = 1;
}

static uint8_t channel_read(struct i8254_channel_state *ch, uint64_t now_ns)
{
    uint16_t value;
    bool high;

    if (ch->status_latched) {
        ch->status_latched = 0;
        return ch->latched_status;
    }
    value = ch->nr_latched ? ch->latched_count : channel_count(ch, now_ns);
    high = ch->access == ACCESS_HIGH || (ch->access == ACCESS_BOTH && ch->read_high);
    if (ch->access == ACCESS_BOTH)
        ch->read_high = !ch->read_high;
    if (ch->nr_latched)
        ch->nr_latched--;
    return (uint8_t)(high ? value >> 8 : value);
}

static void read_back(struct i8254 *pit, uint8_t value, uint64_t now_ns)
{
    for (unsigned i = 0; i < I8254_CHANNELS; i++) {
        if (!(value & 2u << i))
            continue;
        if (!(value & 0x20))
            channel_latch_count(&pit->state.channels[i], now_ns);
        if (!(value & 0x10))
            channel_latch_status(&pit->state.channels[i], now_ns);
    }
}

static void control_write(struct i8254 *pit, uint8_t value, uint64_t now_ns)
{
    unsigned index = value >> 6, mode = value >> 1 & 7;
    struct i8254_channel_state *ch;

    if (index == I8254_CHANNELS) {
        read_back(pit, value, now_ns);
        return;
    }
    ch = &pit->state.channels[index];
    if ((value >> 4 & 3) == ACCESS_LATCH) {
        channel_latch_count(ch, now_ns);
        return;
    }
    ch->access = value >> 4 & 3;
    ch->mode = (uint8_t)(mode > 5 ? mode - 4 : mode);
    ch->bcd = value & 1;
    ch->loaded = 0;
    ch->triggered = 0;
    ch->write_high = 0;
    ch->read_high = 0;
    ch->nr_latched = 0;
    ch->status_latched = 0;
    channel_changed_locked(pit, index, now_ns);
}

static void channel_gate(struct i8254_channel_state *ch, bool gate, uint64_t now_ns)
{
    bool rises = gate && !ch->gate;

    if (gate == !!ch->gate)
        return;
    if (!rises)
        ch->elapsed_ticks = channel_ticks(ch, now_ns);
    ch->gate = gate;
    if (!rises)
        return;
    ch->start_ns = now_ns;
    if (ch->mode != 0 && ch->mode != 4)
        ch->elapsed_ticks = 0;
    if (gate_triggers(ch) && ch->loaded)
        ch->triggered = 1;
}

static uint8_t pit_read(struct i8254 *pit, uint16_t port)
{
    uint64_t now_ns = timers_now_ns(pit->timers);
    uint8_t value = 0xff;

    pthread_mutex_lock(&pit->lock);
    if (port == PORT_SPEAKER)
        value = (uint8_t)(pit->state.speaker |
                          (now_ns / REFRESH_PERIOD_NS & 1 ? SPEAKER_REFRESH : 0) |
                          (channel_out(&pit->state.channels[2], now_ns) ? SPEAKER_OUT : 0));
    else if (port - PORT_BASE < PORT_CONTROL)
        value = channel_read(&pit->state.channels[port - PORT_BASE], now_ns);
    pthread_mutex_unlock(&pit->lock);
    return value;
}

static void pit_write(struct i8254 *pit, uint16_t port, uint8_t value)
{
    uint64_t now_ns = timers_now_ns(pit->timers);

    pthread_mutex_lock(&pit->lock);
    if (port == PORT_SPEAKER) {
        pit->state.speaker = value & SPEAKER_WRITABLE;
        channel_gate(&pit->state.channels[2], value & SPEAKER_GATE, now_ns);
    } else if (port - PORT_BASE == PORT_CONTROL) {
        control_write(pit, value, now_ns);
    } else {
        channel_write(pit, port - PORT_BASE, value, now_ns);
    }
    pthread_mutex_unlock(&pit->lock);
}

static void pit_bus_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    uint8_t *bytes = data;

    (void)cpu;
    for (unsigned i = 0; i < size; i++)
        bytes[i] = pit_read(device, (uint16_t)(PORT_BASE + offset + i));
}

static void pit_bus_write(void *device, unsigned cpu, uint64_t offset, const void *data,
                          unsigned size)
{
    const uint8_t *bytes = data;

    (void)cpu;
    for (unsigned i = 0; i < size; i++)
        pit_write(device, (uint16_t)(PORT_BASE + offset + i), bytes[i]);
}

static void speaker_bus_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    (void)cpu, (void)offset, (void)size;
    *(uint8_t *)data = pit_read(device, PORT_SPEAKER);
}

static void speaker_bus_write(void *device, unsigned cpu, uint64_t offset, const void *data,
                              unsigned size)
{
    (void)cpu, (void)offset, (void)size;
    pit_write(device, PORT_SPEAKER, *(const uint8_t *)data);
}

int i8254_add_to_bus(struct i8254 *pit, struct bus *bus, struct err *err)
{
    static const struct bus_ops pit_ops = {pit_bus_read, pit_bus_write};
    static const struct bus_ops speaker_ops = {speaker_bus_read, speaker_bus_write};
    int result = bus_add(bus, BUS_IO, PORT_BASE, 4, &pit_ops, pit, "PIT", err);

    if (result < 0)
        return result;
    return bus_add(bus, BUS_IO, PORT_SPEAKER, 1, &speaker_ops, pit, "port 0x61", err);
}

int i8254_new(struct timers *timers, const struct irq_line *irq, struct i8254 **ret,
              struct err *err)
{
    struct i8254 *pit = calloc(1, sizeof(*pit));
    int result;

    if (!pit)
        return err_set(err, -ENOMEM, "out of memory for the PIT");
    pthread_mutex_init(&pit->lock, NULL);
    pit->timers = timers;
    pit->irq = *irq;
    pit->edge_ns = TIMER_NEVER;
    if ((result = timer_new(timers, edge_due, pit, &pit->timer, err)) < 0) {
        i8254_free(pit);
        return result;
    }
    i8254_reset(pit);
    *ret = pit;
    return 0;
}

void i8254_free(struct i8254 *pit)
{
    if (!pit)
        return;
    timer_free(pit->timer);
    pthread_mutex_destroy(&pit->lock);
    free(pit);
}

void i8254_reset(struct i8254 *pit)
{
    pthread_mutex_lock(&pit->lock);
    memset(&pit->state, 0, sizeof(pit->state));
    for (unsigned i = 0; i < I8254_CHANNELS; i++) {
        pit->state.channels[i].access = ACCESS_BOTH;
        pit->state.channels[i].count = 0x10000;
        pit->state.channels[i].mode = 3;
        pit->state.channels[i].gate = i != 2;
    }
    irq_line_set(&pit->irq, false);
    pit->edge_ns = TIMER_NEVER;
    timer_arm(pit->timer, TIMER_NEVER);
    pthread_mutex_unlock(&pit->lock);
}

void i8254_save(struct i8254 *pit, struct i8254_state *ret)
{
    uint64_t now_ns = timers_now_ns(pit->timers);

    pthread_mutex_lock(&pit->lock);
    *ret = pit->state;
    for (unsigned i = 0; i < I8254_CHANNELS; i++) {
        ret->channels[i].elapsed_ticks = channel_ticks(&pit->state.channels[i], now_ns);
        ret->channels[i].start_ns = 0;
    }
    pthread_mutex_unlock(&pit->lock);
}

void i8254_load(struct i8254 *pit, const struct i8254_state *state)
{
    uint64_t now_ns = timers_now_ns(pit->timers);

    pthread_mutex_lock(&pit->lock);
    pit->state = *state;
    for (unsigned i = 0; i < I8254_CHANNELS; i++) {
        struct i8254_channel_state *ch = &pit->state.channels[i];

        ch->start_ns = now_ns;
        ch->elapsed_ticks = MIN(ch->elapsed_ticks, UINT64_C(1) << 60);
        ch->mode = (uint8_t)MIN(ch->mode, 5);
        ch->access = ch->access & 3 ? ch->access & 3 : ACCESS_BOTH;
        ch->count = ch->count - 1 < 0x10000 ? ch->count : 0x10000;
    }
    channel_changed_locked(pit, 0, now_ns);
    pthread_mutex_unlock(&pit->lock);
}
