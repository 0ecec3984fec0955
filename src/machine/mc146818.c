/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MC146818A logic. Register B's SET stops the clock: its time is then `frozen_s`, and writes to
 * time registers change that; when SET goes, the offset to the host's time is worked out anew.
 * Writes to time registers without SET act as if it were set around them.
 */
#include "machine/mc146818.h"

#include "base/clock.h"
#include "base/util.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    RTC_SECONDS = 0x00,
    RTC_SECONDS_ALARM = 0x01,
    RTC_MINUTES = 0x02,
    RTC_MINUTES_ALARM = 0x03,
    RTC_HOURS = 0x04,
    RTC_HOURS_ALARM = 0x05,
    RTC_WEEKDAY = 0x06,
    RTC_DAY = 0x07,
    RTC_MONTH = 0x08,
    RTC_YEAR = 0x09,
    RTC_A = 0x0a,
    RTC_B = 0x0b,
    RTC_C = 0x0c,
    RTC_D = 0x0d,
    RTC_CENTURY = 0x32,
};

#define A_UPDATING      0x80
#define A_DIVIDER_32K   0x20
#define A_RATE          0x0f
#define B_SET           0x80
#define B_PERIODIC      0x40
#define B_ALARM         0x20
#define B_UPDATE        0x10
#define B_INTERRUPTS    (B_PERIODIC | B_ALARM | B_UPDATE)
#define B_BINARY        0x04
#define B_24_HOURS      0x02
#define C_INTERRUPT     0x80
#define D_VALID         0x80
#define HOURS_PM        0x80
#define ALARM_ANY       0xc0              /* both top bits: matches always */
#define UPDATE_TIME_NS  (244 * NS_PER_US) /* UIP rises so long before the update */
#define PERIOD_CLOCK_HZ 32768
#define DAY_S           UINT64_C(86400)

struct mc146818 {
    pthread_mutex_t lock;
    struct timers *timers;
    struct timer *timer;
    struct irq_line irq;
    mc146818_realtime_fn *realtime;
    struct mc146818_state state;
    uint64_t seen_s;           /* flags are up to date until this second of guest time */
    uint64_t next_periodic_ns; /* by timers' clock */
    uint64_t due_ns;           /* what the timer is armed for */
};

static uint64_t guest_ns(const struct mc146818 *rtc)
{
    return rtc->realtime() + (uint64_t)rtc->state.offset_s * NS_PER_S;
}

static bool held(const struct mc146818 *rtc)
{
    return rtc->state.cmos[RTC_B] & B_SET;
}

static uint64_t guest_s(const struct mc146818 *rtc)
{
    return held(rtc) ? rtc->state.frozen_s : guest_ns(rtc) / NS_PER_S;
}

/* --- formats --- */

static uint8_t encode(const struct mc146818 *rtc, unsigned value)
{
    if (rtc->state.cmos[RTC_B] & B_BINARY)
        return (uint8_t)value;
    return (uint8_t)(value / 10 % 10 << 4 | value % 10);
}

static unsigned decode(const struct mc146818 *rtc, uint8_t value)
{
    if (rtc->state.cmos[RTC_B] & B_BINARY)
        return value;
    return (value >> 4) * 10u + (value & 0xf);
}

static uint8_t encode_hours(const struct mc146818 *rtc, unsigned hours)
{
    if (rtc->state.cmos[RTC_B] & B_24_HOURS)
        return encode(rtc, hours);
    return encode(rtc, hours % 12 ? hours % 12 : 12) | (hours >= 12 ? HOURS_PM : 0);
}

static unsigned decode_hours(const struct mc146818 *rtc, uint8_t value)
{
    if (rtc->state.cmos[RTC_B] & B_24_HOURS)
        return decode(rtc, value);
    return decode(rtc, value & (uint8_t)~HOURS_PM) % 12 + (value & HOURS_PM ? 12 : 0);
}

static bool is_time(unsigned index)
{
    return index == RTC_CENTURY || (index <= RTC_YEAR && !(index < RTC_WEEKDAY && index & 1));
}

static uint8_t time_read(const struct mc146818 *rtc, unsigned index)
{
    time_t now = (time_t)guest_s(rtc);
    struct tm tm;

    gmtime_r(&now, &tm);
    switch (index) {
    case RTC_SECONDS:
        return encode(rtc, (unsigned)tm.tm_sec);
    case RTC_MINUTES:
        return encode(rtc, (unsigned)tm.tm_min);
    case RTC_HOURS:
        return encode_hours(rtc, (unsigned)tm.tm_hour);
    case RTC_WEEKDAY:
        return encode(rtc, (unsigned)tm.tm_wday + 1);
    case RTC_DAY:
        return encode(rtc, (unsigned)tm.tm_mday);
    case RTC_MONTH:
        return encode(rtc, (unsigned)tm.tm_mon + 1);
    case RTC_YEAR:
        return encode(rtc, (unsigned)tm.tm_year % 100);
    default:
        return encode(rtc, ((unsigned)tm.tm_year + 1900) / 100);
    }
}

static void time_write(struct mc146818 *rtc, unsigned index, uint8_t value)
{
    time_t before = (time_t)guest_s(rtc);
    int number = (int)decode(rtc, value);
    struct tm tm;

    gmtime_r(&before, &tm);
    switch (index) {
    case RTC_SECONDS:
        tm.tm_sec = number;
        break;
    case RTC_MINUTES:
        tm.tm_min = number;
        break;
    case RTC_HOURS:
        tm.tm_hour = (int)decode_hours(rtc, value);
        break;
    case RTC_DAY:
        tm.tm_mday = number;
        break;
    case RTC_MONTH:
        tm.tm_mon = number - 1;
        break;
    case RTC_YEAR:
        tm.tm_year = tm.tm_year / 100 * 100 + number % 100;
        break;
    case RTC_CENTURY:
        tm.tm_year = tm.tm_year % 100 + number * 100 - 1900;
        break;
    default: /* the day of the week follows from the date */
        break;
    }
    if (held(rtc))
        rtc->state.frozen_s = (uint64_t)timegm(&tm);
    else
        rtc->state.offset_s += (int64_t)(timegm(&tm) - before);
    rtc->seen_s = guest_s(rtc);
}

/* --- interrupts --- */

static uint64_t period_ns(const struct mc146818 *rtc)
{
    unsigned rate = rtc->state.cmos[RTC_A] & A_RATE;

    if (!rate || (rtc->state.cmos[RTC_A] & 0x70) != A_DIVIDER_32K)
        return 0;
    if (rate < 3)
        rate += 7;
    return (NS_PER_S << (rate - 1)) / PERIOD_CLOCK_HZ;
}

static bool alarm_matches(const struct mc146818 *rtc, uint64_t second)
{
    const uint8_t *cmos = rtc->state.cmos;
    unsigned of_day = (unsigned)(second % DAY_S);

    if ((cmos[RTC_SECONDS_ALARM] & ALARM_ANY) != ALARM_ANY &&
        decode(rtc, cmos[RTC_SECONDS_ALARM]) != of_day % 60)
        return false;
    if ((cmos[RTC_MINUTES_ALARM] & ALARM_ANY) != ALARM_ANY &&
        decode(rtc, cmos[RTC_MINUTES_ALARM]) != of_day / 60 % 60)
        return false;
    return (cmos[RTC_HOURS_ALARM] & ALARM_ANY) == ALARM_ANY ||
           decode_hours(rtc, cmos[RTC_HOURS_ALARM]) == of_day / 3600;
}

/* Sets the flags of everything that has happened since the last look. */
static void catch_up_locked(struct mc146818 *rtc)
{
    uint64_t now_s = guest_s(rtc), now_ns = timers_now_ns(rtc->timers), period = period_ns(rtc);

    if (!held(rtc) && now_s > rtc->seen_s) {
        rtc->state.flags |= B_UPDATE;
        /* A day of seconds covers every alarm. */
        for (uint64_t s = MAX(rtc->seen_s + 1, now_s > DAY_S ? now_s - DAY_S : 0);
             s <= now_s && !(rtc->state.flags & B_ALARM); s++)
            if (alarm_matches(rtc, s))
                rtc->state.flags |= B_ALARM;
    }
    rtc->seen_s = now_s;
    if (period && now_ns >= rtc->next_periodic_ns) {
        rtc->state.flags |= B_PERIODIC;
        rtc->next_periodic_ns += ((now_ns - rtc->next_periodic_ns) / period + 1) * period;
    }
}

static void irq_update_locked(struct mc146818 *rtc)
{
    irq_line_set(&rtc->irq, rtc->state.flags & rtc->state.cmos[RTC_B] & B_INTERRUPTS);
}

/* Arms the timer for the next thing that may interrupt. */
static void schedule_locked(struct mc146818 *rtc)
{
    uint8_t enabled = rtc->state.cmos[RTC_B] & B_INTERRUPTS & (uint8_t)~rtc->state.flags;
    uint64_t due_ns = TIMER_NEVER;

    if (enabled & B_PERIODIC && period_ns(rtc))
        due_ns = rtc->next_periodic_ns;
    if (enabled & (B_UPDATE | B_ALARM) && !held(rtc)) {
        uint64_t left_ns = NS_PER_S - guest_ns(rtc) % NS_PER_S;

        due_ns = MIN(due_ns, timers_now_ns(rtc->timers) + left_ns);
    }
    rtc->due_ns = due_ns;
    timer_arm(rtc->timer, due_ns);
}

static void settle_locked(struct mc146818 *rtc)
{
    irq_update_locked(rtc);
    schedule_locked(rtc);
}

static void timer_due(void *context)
{
    struct mc146818 *rtc = context;

    pthread_mutex_lock(&rtc->lock);
    catch_up_locked(rtc);
    settle_locked(rtc);
    pthread_mutex_unlock(&rtc->lock);
}

/* --- registers --- */

static uint8_t register_read_locked(struct mc146818 *rtc, unsigned index)
{
    uint8_t value;

    if (is_time(index))
        return time_read(rtc, index);
    switch (index) {
    case RTC_A:
        value = rtc->state.cmos[RTC_A];
        if (!held(rtc) && guest_ns(rtc) % NS_PER_S >= NS_PER_S - UPDATE_TIME_NS)
            value |= A_UPDATING;
        return value;
    case RTC_C:
        catch_up_locked(rtc);
        value = rtc->state.flags;
        if (value & rtc->state.cmos[RTC_B] & B_INTERRUPTS)
            value |= C_INTERRUPT;
        rtc->state.flags = 0;
        settle_locked(rtc);
        return value;
    case RTC_D:
        return D_VALID;
    default:
        return rtc->state.cmos[index];
    }
}

static void b_write_locked(struct mc146818 *rtc, uint8_t value)
{
    bool was_held = held(rtc);
    uint64_t now_s = guest_s(rtc);

    if (value & B_SET)
        value &= (uint8_t)~B_UPDATE; /* SET clears UIE (data sheet) */
    rtc->state.cmos[RTC_B] = value;
    if (!was_held && held(rtc)) {
        rtc->state.frozen_s = now_s;
    } else if (was_held && !held(rtc)) {
        rtc->state.offset_s += (int64_t)(rtc->state.frozen_s - guest_ns(rtc) / NS_PER_S);
        rtc->seen_s = guest_s(rtc);
    }
}

static void register_write_locked(struct mc146818 *rtc, unsigned index, uint8_t value)
{
    catch_up_locked(rtc);
    if (is_time(index)) {
        time_write(rtc, index, value);
    } else if (index == RTC_A) {
        rtc->state.cmos[RTC_A] = value & (uint8_t)~A_UPDATING;
        rtc->next_periodic_ns = timers_now_ns(rtc->timers) + period_ns(rtc);
    } else if (index == RTC_B) {
        b_write_locked(rtc, value);
    } else if (index != RTC_C && index != RTC_D) {
        rtc->state.cmos[index] = value;
    }
    settle_locked(rtc);
}

static void rtc_bus_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    struct mc146818 *rtc = device;
    uint8_t *bytes = data;

    (void)cpu;
    pthread_mutex_lock(&rtc->lock);
    for (unsigned i = 0; i < size; i++) /* the index register cannot be read back */
        if (offset + i == 1)
            bytes[i] = register_read_locked(rtc, rtc->state.index);
    pthread_mutex_unlock(&rtc->lock);
}

static void rtc_bus_write(void *device, unsigned cpu, uint64_t offset, const void *data,
                          unsigned size)
{
    struct mc146818 *rtc = device;
    const uint8_t *bytes = data;

    (void)cpu;
    pthread_mutex_lock(&rtc->lock);
    for (unsigned i = 0; i < size; i++) {
        if (offset + i == 0)
            rtc->state.index = bytes[i] & (MC146818_SIZE - 1); /* bit 7: NMI mask, no NMI source */
        else
            register_write_locked(rtc, rtc->state.index, bytes[i]);
    }
    pthread_mutex_unlock(&rtc->lock);
}

int mc146818_add_to_bus(struct mc146818 *rtc, struct bus *bus, struct err *err)
{
    static const struct bus_ops ops = {rtc_bus_read, rtc_bus_write};

    return bus_add(bus, BUS_IO, MC146818_PORT, 2, &ops, rtc, "RTC", err);
}

int mc146818_new(struct timers *timers, const struct irq_line *irq, mc146818_realtime_fn *realtime,
                 struct mc146818 **ret, struct err *err)
{
    struct mc146818 *rtc = calloc(1, sizeof(*rtc));
    int result;

    if (!rtc)
        return err_set(err, -ENOMEM, "out of memory for the RTC");
    pthread_mutex_init(&rtc->lock, NULL);
    rtc->timers = timers;
    rtc->irq = *irq;
    rtc->realtime = realtime ? realtime : clock_realtime_ns;
    if ((result = timer_new(timers, timer_due, rtc, &rtc->timer, err)) < 0) {
        mc146818_free(rtc);
        return result;
    }
    rtc->state.cmos[RTC_A] = A_DIVIDER_32K | 6; /* 1024 Hz, as firmware sets it */
    rtc->state.cmos[RTC_B] = B_24_HOURS;
    mc146818_reset(rtc);
    *ret = rtc;
    return 0;
}

void mc146818_free(struct mc146818 *rtc)
{
    if (!rtc)
        return;
    timer_free(rtc->timer);
    pthread_mutex_destroy(&rtc->lock);
    free(rtc);
}

void mc146818_reset(struct mc146818 *rtc)
{
    pthread_mutex_lock(&rtc->lock);
    rtc->state.cmos[RTC_B] &= (uint8_t)~B_INTERRUPTS;
    rtc->state.flags = 0;
    rtc->seen_s = guest_s(rtc);
    rtc->next_periodic_ns = timers_now_ns(rtc->timers) + period_ns(rtc);
    settle_locked(rtc);
    pthread_mutex_unlock(&rtc->lock);
}

void mc146818_set_ram(struct mc146818 *rtc, unsigned index, uint8_t value)
{
    pthread_mutex_lock(&rtc->lock);
    rtc->state.cmos[index % MC146818_SIZE] = value;
    pthread_mutex_unlock(&rtc->lock);
}

void mc146818_save(struct mc146818 *rtc, struct mc146818_state *ret)
{
    pthread_mutex_lock(&rtc->lock);
    catch_up_locked(rtc);
    *ret = rtc->state;
    pthread_mutex_unlock(&rtc->lock);
}

void mc146818_load(struct mc146818 *rtc, const struct mc146818_state *state)
{
    pthread_mutex_lock(&rtc->lock);
    rtc->state = *state;
    rtc->state.index &= MC146818_SIZE - 1;
    rtc->state.flags &= B_INTERRUPTS;
    rtc->seen_s = guest_s(rtc);
    rtc->next_periodic_ns = timers_now_ns(rtc->timers) + period_ns(rtc);
    settle_locked(rtc);
    pthread_mutex_unlock(&rtc->lock);
}
