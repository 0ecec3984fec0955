/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI fixed hardware (ACPI 6.4 chapter 4.8): PM1 event block with the power button, PM1 control
 * block with S5, and the power management timer, which interrupts nobody. The machine is always in
 * ACPI mode (SCI_EN reads 1; there is no SMI command port).
 *
 * Threads: any; one lock, not held while power_off is called.
 */
#ifndef LODGE_MACHINE_ACPI_PM_H
#define LODGE_MACHINE_ACPI_PM_H

#include "base/err.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/timers.h"

#include <stdbool.h>
#include <stdint.h>

#define ACPI_PM1_EVENT_PORT   0x600
#define ACPI_PM1_CONTROL_PORT 0x604
#define ACPI_PM_TIMER_PORT    0x608
#define ACPI_SCI_GSI          9
#define ACPI_S5_TYPE          5
#define ACPI_PM_TIMER_HZ      UINT64_C(3579545)

struct acpi_pm_state {
    uint16_t status, enable, control;
    uint16_t reserved;
    uint64_t timer_ns; /* age of the timer; kept only in a saved state */
};

struct acpi_pm_functions {
    void *context;
    void (*power_off)(void *context);
};

struct acpi_pm;

/* irq and functions are copied. */
int acpi_pm_new(struct timers *timers, const struct irq_line *irq,
                const struct acpi_pm_functions *functions, struct acpi_pm **ret, struct err *err);
void acpi_pm_free(struct acpi_pm *pm);
int acpi_pm_add_to_bus(struct acpi_pm *pm, struct bus *bus, struct err *err);
void acpi_pm_reset(struct acpi_pm *pm);
void acpi_pm_power_button(struct acpi_pm *pm);
/* A general-purpose event is raised, or not any more: the SCI is theirs, too. */
void acpi_pm_set_gpe(struct acpi_pm *pm, bool raised);
void acpi_pm_save(struct acpi_pm *pm, struct acpi_pm_state *ret);
void acpi_pm_load(struct acpi_pm *pm, const struct acpi_pm_state *state);

#endif
