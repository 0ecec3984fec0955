/* SPDX-License-Identifier: Apache-2.0 */
/* See acpi_pm.h. The SCI is a level: status AND enable. */
#include "machine/acpi_pm.h"

#include "base/clock.h"
#include "base/util.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define STATUS_POWER_BUTTON 0x0100
#define STATUS_KNOWN        0x8531 /* timer, bus master, global, power, sleep, RTC, wake */
#define ENABLE_KNOWN        0x0521
#define CONTROL_SCI_ENABLE  0x0001
#define CONTROL_SLEEP       0x2000
#define CONTROL_KEPT        0x1c06 /* sleep type, bus master reload, global release */
#define CONTROL_TYPE(v)     ((v) >> 10 & 7)

struct acpi_pm {
    pthread_mutex_t lock;
    struct timers *timers;
    struct irq_line irq;
    struct acpi_pm_functions functions;
    struct acpi_pm_state state;
    bool gpe;
    uint64_t timer_start_ns;
};

static void sci_update_locked(struct acpi_pm *pm)
{
    irq_line_set(&pm->irq, pm->gpe || (pm->state.status & pm->state.enable));
}

/* The blocks as 16-bit registers: status, enable, control. */
static void pm_bus_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    struct acpi_pm *pm = device;
    uint8_t bytes[8] = {0};

    (void)cpu;
    pthread_mutex_lock(&pm->lock);
    store_le16(bytes, pm->state.status);
    store_le16(bytes + 2, pm->state.enable);
    store_le16(bytes + 4, pm->state.control | CONTROL_SCI_ENABLE);
    pthread_mutex_unlock(&pm->lock);
    memcpy(data, bytes + offset, size);
}

static void pm_bus_write(void *device, unsigned cpu, uint64_t offset, const void *data,
                         unsigned size)
{
    struct acpi_pm *pm = device;
    uint8_t bytes[8] = {0}, written[8] = {0};
    bool power_off = false;

    (void)cpu;
    memcpy(bytes + offset, data, size);
    memset(written + offset, 0xff, size);
    pthread_mutex_lock(&pm->lock);
    pm->state.status &= (uint16_t)~load_le16(bytes); /* written ones clear */
    if (load_le16(written + 2))
        pm->state.enable = ((pm->state.enable & ~load_le16(written + 2)) | load_le16(bytes + 2)) &
                           ENABLE_KNOWN;
    if (load_le16(written + 4)) {
        uint16_t control = (uint16_t)((pm->state.control & ~load_le16(written + 4)) |
                                      load_le16(bytes + 4));

        pm->state.control = control & CONTROL_KEPT;
        power_off = control & CONTROL_SLEEP && CONTROL_TYPE(control) == ACPI_S5_TYPE;
    }
    sci_update_locked(pm);
    pthread_mutex_unlock(&pm->lock);
    if (power_off)
        pm->functions.power_off(pm->functions.context);
}

static void timer_bus_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    struct acpi_pm *pm = device;
    uint64_t ns = timers_now_ns(pm->timers) - pm->timer_start_ns;
    uint32_t value = (uint32_t)((unsigned __int128)ns * ACPI_PM_TIMER_HZ / NS_PER_S);

    (void)cpu;
    memcpy(data, (char *)&value + offset, size);
}

static void timer_bus_write(void *device, unsigned cpu, uint64_t offset, const void *data,
                            unsigned size)
{
    (void)device, (void)cpu, (void)offset, (void)data, (void)size;
}

int acpi_pm_add_to_bus(struct acpi_pm *pm, struct bus *bus, struct err *err)
{
    static const struct bus_ops pm_ops = {pm_bus_read, pm_bus_write};
    static const struct bus_ops timer_ops = {timer_bus_read, timer_bus_write};
    int result = bus_add(bus, BUS_IO, ACPI_PM1_EVENT_PORT, 8, &pm_ops, pm, "ACPI PM1", err);

    if (result < 0)
        return result;
    return bus_add(bus, BUS_IO, ACPI_PM_TIMER_PORT, 4, &timer_ops, pm, "ACPI PM timer", err);
}

int acpi_pm_new(struct timers *timers, const struct irq_line *irq,
                const struct acpi_pm_functions *functions, struct acpi_pm **ret, struct err *err)
{
    struct acpi_pm *pm = calloc(1, sizeof(*pm));

    if (!pm)
        return err_set(err, -ENOMEM, "out of memory for ACPI registers");
    pthread_mutex_init(&pm->lock, NULL);
    pm->timers = timers;
    pm->irq = *irq;
    pm->functions = *functions;
    acpi_pm_reset(pm);
    *ret = pm;
    return 0;
}

void acpi_pm_free(struct acpi_pm *pm)
{
    if (!pm)
        return;
    pthread_mutex_destroy(&pm->lock);
    free(pm);
}

void acpi_pm_reset(struct acpi_pm *pm)
{
    pthread_mutex_lock(&pm->lock);
    pm->state = (struct acpi_pm_state){0};
    pm->timer_start_ns = timers_now_ns(pm->timers);
    sci_update_locked(pm);
    pthread_mutex_unlock(&pm->lock);
}

void acpi_pm_power_button(struct acpi_pm *pm)
{
    pthread_mutex_lock(&pm->lock);
    pm->state.status |= STATUS_POWER_BUTTON;
    sci_update_locked(pm);
    pthread_mutex_unlock(&pm->lock);
}

void acpi_pm_set_gpe(struct acpi_pm *pm, bool raised)
{
    pthread_mutex_lock(&pm->lock);
    pm->gpe = raised;
    sci_update_locked(pm);
    pthread_mutex_unlock(&pm->lock);
}

void acpi_pm_save(struct acpi_pm *pm, struct acpi_pm_state *ret)
{
    pthread_mutex_lock(&pm->lock);
    *ret = pm->state;
    ret->timer_ns = timers_now_ns(pm->timers) - pm->timer_start_ns;
    pthread_mutex_unlock(&pm->lock);
}

void acpi_pm_load(struct acpi_pm *pm, const struct acpi_pm_state *state)
{
    pthread_mutex_lock(&pm->lock);
    pm->state = *state;
    pm->state.status &= STATUS_KNOWN;
    pm->state.enable &= ENABLE_KNOWN;
    pm->timer_start_ns = timers_now_ns(pm->timers) - state->timer_ns;
    sci_update_locked(pm);
    pthread_mutex_unlock(&pm->lock);
}
