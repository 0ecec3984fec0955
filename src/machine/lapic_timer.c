/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local APIC timer (SDM 3A 11.5.4): one-shot and periodic by a divided clock, and TSC deadline.
 * One struct timer carries all three; timer_deadline_ns says when the next expiry is due, so the
 * current count is computed, not counted.
 *
 * A callback that comes late or for a deadline that was replaced meanwhile sees that its time has
 * not come and does nothing. A periodic timer that fell behind skips what it missed, and never
 * fires more often than once in PERIOD_LEAST_NS: a guest cannot keep the timer thread busy.
 */
#include "base/clock.h"
#include "base/util.h"
#include "machine/irqchip.h"

#define PERIOD_LEAST_NS (20 * NS_PER_US)

static uint64_t multiply_divide(uint64_t value, uint64_t by, uint64_t divisor)
{
    unsigned __int128 result = (unsigned __int128)value * by / divisor;

    return result > UINT64_MAX / 4 ? UINT64_MAX / 4 : (uint64_t)result;
}

static uint32_t timer_mode(const struct lapic *lapic)
{
    return lapic->state.registers[LAPIC_LVT_TIMER] & LAPIC_LVT_TIMER_MODE;
}

/* Bits 3, 1, 0: 2, 4, 8, .. 128, 1. */
static unsigned timer_divisor(const struct lapic *lapic)
{
    uint32_t value = lapic->state.registers[LAPIC_TIMER_DIVIDE];
    unsigned code = (value & 3) | (value >> 1 & 4);

    return 1u << ((code + 1) & 7);
}

static uint64_t timer_now_ns(const struct lapic *lapic)
{
    return timers_now_ns(lapic->chip->config.timers);
}

static uint64_t count_to_ns(const struct lapic *lapic, uint64_t count)
{
    return multiply_divide(count * timer_divisor(lapic), NS_PER_S, lapic->chip->config.timer_hz);
}

static void timer_set(struct lapic *lapic, uint64_t deadline_ns)
{
    lapic->timer_deadline_ns = deadline_ns;
    timer_arm(lapic->timer, deadline_ns);
}

static void timer_next_period(struct lapic *lapic, uint64_t now_ns)
{
    uint64_t period_ns = count_to_ns(lapic, lapic->state.registers[LAPIC_TIMER_INITIAL]);
    uint64_t next_ns;

    period_ns = MAX(period_ns, PERIOD_LEAST_NS);
    next_ns = lapic->timer_deadline_ns + period_ns;
    if (next_ns <= now_ns)
        next_ns += (now_ns - next_ns) / period_ns * period_ns + period_ns;
    timer_set(lapic, next_ns);
}

static void timer_expired(void *context)
{
    struct lapic *lapic = context;
    struct irqchip *chip = lapic->chip;
    uint64_t now_ns = timer_now_ns(lapic);

    pthread_mutex_lock(&chip->lock);
    if (lapic->timer_deadline_ns <= now_ns) {
        if (timer_mode(lapic) == LAPIC_TIMER_PERIODIC)
            timer_next_period(lapic, now_ns);
        else
            lapic->timer_deadline_ns = TIMER_NEVER;
        lapic->state.tsc_deadline = 0;
        lapic_local_event_locked(lapic, LAPIC_LVT_TIMER);
    }
    pthread_mutex_unlock(&chip->lock);
}

int lapic_timer_init(struct lapic *lapic, struct err *err)
{
    lapic->timer_deadline_ns = TIMER_NEVER;
    return timer_new(lapic->chip->config.timers, timer_expired, lapic, &lapic->timer, err);
}

void lapic_timer_stop_locked(struct lapic *lapic)
{
    timer_set(lapic, TIMER_NEVER);
    lapic->state.tsc_deadline = 0;
}

void lapic_timer_set_initial_locked(struct lapic *lapic, uint32_t count)
{
    if (timer_mode(lapic) == LAPIC_TIMER_DEADLINE)
        return;
    lapic->state.registers[LAPIC_TIMER_INITIAL] = count;
    if (count)
        timer_set(lapic, timer_now_ns(lapic) + count_to_ns(lapic, count));
    else
        lapic_timer_stop_locked(lapic);
}

uint32_t lapic_timer_current_locked(struct lapic *lapic)
{
    uint64_t now_ns = timer_now_ns(lapic), left_ns, count;

    if (lapic->timer_deadline_ns == TIMER_NEVER || timer_mode(lapic) == LAPIC_TIMER_DEADLINE ||
        lapic->timer_deadline_ns <= now_ns)
        return 0;
    left_ns = lapic->timer_deadline_ns - now_ns;
    count = multiply_divide(left_ns, lapic->chip->config.timer_hz, NS_PER_S);
    count = (count + timer_divisor(lapic) - 1) / timer_divisor(lapic);
    return (uint32_t)MIN(count, (uint64_t)lapic->state.registers[LAPIC_TIMER_INITIAL]);
}

void lapic_timer_set_divide_locked(struct lapic *lapic, uint32_t value)
{
    uint32_t current = lapic_timer_current_locked(lapic);

    lapic->state.registers[LAPIC_TIMER_DIVIDE] = value & 0xb;
    if (current)
        timer_set(lapic, timer_now_ns(lapic) + count_to_ns(lapic, current));
}

void lapic_timer_set_lvt_locked(struct lapic *lapic, uint32_t value)
{
    uint32_t before = timer_mode(lapic);

    value &= 0xffu | LAPIC_LVT_MASKED | LAPIC_LVT_TIMER_MODE;
    if ((value & LAPIC_LVT_TIMER_MODE) == LAPIC_LVT_TIMER_MODE) /* reserved mode: keep ours */
        value = (value & ~LAPIC_LVT_TIMER_MODE) | before;
    if (!lapic_software_enabled(lapic))
        value |= LAPIC_LVT_MASKED;
    lapic->state.registers[LAPIC_LVT_TIMER] = value;
    /* Into and out of TSC deadline mode disarms (SDM 3A 11.5.4.1). */
    if ((before == LAPIC_TIMER_DEADLINE) != (timer_mode(lapic) == LAPIC_TIMER_DEADLINE)) {
        lapic_timer_stop_locked(lapic);
        lapic->state.registers[LAPIC_TIMER_INITIAL] = 0;
    }
}

uint64_t lapic_timer_deadline_locked(const struct lapic *lapic)
{
    return timer_mode(lapic) == LAPIC_TIMER_DEADLINE ? lapic->state.tsc_deadline : 0;
}

void lapic_timer_set_deadline_locked(struct lapic *lapic, uint64_t tsc)
{
    const struct cpu *cpu = lapic->cpu;
    uint64_t now_tsc, delta_ns = 0;

    if (timer_mode(lapic) != LAPIC_TIMER_DEADLINE || !lapic_enabled(lapic))
        return;
    if (!tsc) {
        lapic_timer_stop_locked(lapic);
        return;
    }
    now_tsc = cpu && cpu->engine && cpu->engine->guest_tsc ? cpu->engine->guest_tsc(lapic->cpu)
                                                           : cpu_host_tsc();
    if (tsc > now_tsc)
        delta_ns = multiply_divide(tsc - now_tsc, NS_PER_S, lapic->chip->config.tsc_hz);
    lapic->state.tsc_deadline = tsc;
    timer_set(lapic, timer_now_ns(lapic) + delta_ns);
}

void lapic_timer_save_locked(struct lapic *lapic, struct lapic_state *ret)
{
    uint64_t now_ns = timer_now_ns(lapic);

    ret->registers[LAPIC_TIMER_CURRENT] = lapic_timer_current_locked(lapic);
    if (lapic->timer_deadline_ns == TIMER_NEVER)
        ret->timer_remaining_ns = UINT64_MAX;
    else
        ret->timer_remaining_ns = lapic->timer_deadline_ns > now_ns
                                      ? lapic->timer_deadline_ns - now_ns
                                      : 0;
}

void lapic_timer_load_locked(struct lapic *lapic, uint64_t remaining_ns)
{
    if (remaining_ns == UINT64_MAX)
        timer_set(lapic, TIMER_NEVER);
    else
        timer_set(lapic, timer_now_ns(lapic) + MIN(remaining_ns, UINT64_MAX / 4));
}
