/* SPDX-License-Identifier: Apache-2.0 */
/* The chips together: lock, bus windows, lines and messages, save and load. */
#include "machine/irqchip.h"

#include "base/cleanup.h"
#include "base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIC_GSIS       16u
#define GSI_PIT        0u
#define GSI_CASCADE    2u
#define IOAPIC_PIN_PIT 2u

/* MSI address (SDM 3A 11.11.1) */
#define MSI_ADDRESS_BASE    UINT64_C(0xfee00000)
#define MSI_ADDRESS_MASK    UINT64_C(0xfff00000)
#define MSI_ADDRESS_LOGICAL (1u << 2)
#define MSI_DATA_LEVEL      (1u << 15)

void irqchip_end_of_interrupt_locked(struct irqchip *chip, uint8_t vector)
{
    ioapic_eoi_locked(&chip->ioapic, vector);
}

void irqchip_pic_changed_locked(struct irqchip *chip)
{
    for (unsigned i = 0; i < chip->config.nr_cpus; i++)
        if (lapic_wants_pic_locked(&chip->lapics[i]))
            lapic_update_locked(&chip->lapics[i]);
}

/* --- lines and messages --- */

static void sink_set(void *context, unsigned gsi, bool level)
{
    struct irqchip *chip = context;

    if (gsi >= IOAPIC_PINS || gsi == GSI_CASCADE)
        return;
    pthread_mutex_lock(&chip->lock);
    if (gsi < PIC_GSIS)
        i8259_set_locked(&chip->pic, gsi, level);
    ioapic_set_locked(&chip->ioapic, gsi == GSI_PIT ? IOAPIC_PIN_PIT : gsi, level);
    pthread_mutex_unlock(&chip->lock);
}

static void sink_msi(void *context, uint64_t address, uint32_t data)
{
    struct irqchip *chip = context;
    struct irq_message message = {
        .destination = (uint32_t)(address >> 12 & 0xff),
        .logical = address & MSI_ADDRESS_LOGICAL,
        .delivery = (uint8_t)(data >> 8 & 7),
        .vector = (uint8_t)data,
        .level = data & MSI_DATA_LEVEL,
    };

    if ((address & MSI_ADDRESS_MASK) != MSI_ADDRESS_BASE)
        return;
    pthread_mutex_lock(&chip->lock);
    irqchip_deliver_locked(chip, &message);
    pthread_mutex_unlock(&chip->lock);
}

void irqchip_sink(struct irqchip *chip, struct irq_sink *ret)
{
    *ret = (struct irq_sink){.context = chip, .set = sink_set, .msi = sink_msi};
}

/* --- what a vCPU calls --- */

static int chip_acknowledge(void *context, unsigned cpu)
{
    struct irqchip *chip = context;
    struct lapic *lapic = &chip->lapics[cpu];
    int vector;

    pthread_mutex_lock(&chip->lock);
    if (lapic_wants_pic_locked(lapic) && i8259_output_locked(&chip->pic))
        vector = i8259_acknowledge_locked(&chip->pic);
    else
        vector = lapic_take_locked(lapic);
    lapic_update_locked(lapic);
    pthread_mutex_unlock(&chip->lock);
    return vector;
}

static bool chip_pending(void *context, unsigned cpu)
{
    struct irqchip *chip = context;

    return __atomic_load_n(&chip->lapics[cpu].deliverable, __ATOMIC_ACQUIRE);
}

static uint64_t chip_cr8_read(void *context, unsigned cpu)
{
    struct irqchip *chip = context;

    return __atomic_load_n(&chip->lapics[cpu].state.registers[LAPIC_TPR], __ATOMIC_RELAXED) >> 4;
}

static void chip_cr8_write(void *context, unsigned cpu, uint64_t value)
{
    struct irqchip *chip = context;

    pthread_mutex_lock(&chip->lock);
    lapic_write_locked(&chip->lapics[cpu], LAPIC_TPR, (uint32_t)(value & 0xf) << 4);
    pthread_mutex_unlock(&chip->lock);
}

static int chip_msr_read(void *context, unsigned cpu, uint32_t index, uint64_t *ret)
{
    struct irqchip *chip = context;
    int result;

    pthread_mutex_lock(&chip->lock);
    result = lapic_msr_read_locked(&chip->lapics[cpu], index, ret);
    pthread_mutex_unlock(&chip->lock);
    return result;
}

static int chip_msr_write(void *context, unsigned cpu, uint32_t index, uint64_t value)
{
    struct irqchip *chip = context;
    int result;

    pthread_mutex_lock(&chip->lock);
    result = lapic_msr_write_locked(&chip->lapics[cpu], index, value);
    pthread_mutex_unlock(&chip->lock);
    return result;
}

void irqchip_cpu_functions(struct irqchip *chip, struct cpu_irqchip *ret)
{
    *ret = (struct cpu_irqchip){
        .context = chip,
        .acknowledge = chip_acknowledge,
        .pending = chip_pending,
        .cr8_read = chip_cr8_read,
        .cr8_write = chip_cr8_write,
        .msr_read = chip_msr_read,
        .msr_write = chip_msr_write,
    };
}

/* --- windows on the bus --- */

/* Registers are 32 bits wide on 16-byte boundaries; only aligned 32-bit accesses are architectural,
 * narrower ones get the bytes they ask for. */
static void lapic_bus_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    struct irqchip *chip = device;
    struct lapic *lapic = &chip->lapics[cpu];
    uint32_t value = 0;

    if (offset % 16 + size > 4)
        return;
    pthread_mutex_lock(&chip->lock);
    if (lapic_enabled(lapic) && !lapic_is_x2apic(lapic))
        value = lapic_read_locked(lapic, (unsigned)MIN(offset / 16, (uint64_t)LAPIC_REGISTERS));
    else
        value = UINT32_MAX;
    pthread_mutex_unlock(&chip->lock);
    memcpy(data, (char *)&value + offset % 16, size);
}

static void lapic_bus_write(void *device, unsigned cpu, uint64_t offset, const void *data,
                            unsigned size)
{
    struct irqchip *chip = device;
    struct lapic *lapic = &chip->lapics[cpu];
    uint32_t value = 0;

    if (offset % 16 || size > 4)
        return;
    memcpy(&value, data, size);
    pthread_mutex_lock(&chip->lock);
    if (lapic_enabled(lapic) && !lapic_is_x2apic(lapic))
        lapic_write_locked(lapic, (unsigned)MIN(offset / 16, (uint64_t)LAPIC_REGISTERS), value);
    pthread_mutex_unlock(&chip->lock);
}

static void ioapic_bus_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    struct irqchip *chip = device;
    uint32_t value;

    (void)cpu;
    pthread_mutex_lock(&chip->lock);
    value = ioapic_read_locked(&chip->ioapic, offset & 0xff);
    pthread_mutex_unlock(&chip->lock);
    memset(data, 0, size);
    memcpy(data, &value, MIN(size, 4u));
}

static void ioapic_bus_write(void *device, unsigned cpu, uint64_t offset, const void *data,
                             unsigned size)
{
    struct irqchip *chip = device;
    uint32_t value = 0;

    (void)cpu;
    memcpy(&value, data, MIN(size, 4u));
    pthread_mutex_lock(&chip->lock);
    ioapic_write_locked(&chip->ioapic, offset & 0xff, value);
    pthread_mutex_unlock(&chip->lock);
}

static void pic_read(struct irqchip *chip, uint16_t base, uint64_t offset, void *data,
                     unsigned size)
{
    uint8_t *bytes = data;

    pthread_mutex_lock(&chip->lock);
    for (unsigned i = 0; i < size; i++)
        bytes[i] = i8259_read_locked(&chip->pic, (uint16_t)(base + offset + i));
    pthread_mutex_unlock(&chip->lock);
}

static void pic_write(struct irqchip *chip, uint16_t base, uint64_t offset, const void *data,
                      unsigned size)
{
    const uint8_t *bytes = data;

    pthread_mutex_lock(&chip->lock);
    for (unsigned i = 0; i < size; i++)
        i8259_write_locked(&chip->pic, (uint16_t)(base + offset + i), bytes[i]);
    pthread_mutex_unlock(&chip->lock);
}

static void pic_first_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    (void)cpu;
    pic_read(device, 0x20, offset, data, size);
}

static void pic_first_write(void *device, unsigned cpu, uint64_t offset, const void *data,
                            unsigned size)
{
    (void)cpu;
    pic_write(device, 0x20, offset, data, size);
}

static void pic_second_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    (void)cpu;
    pic_read(device, 0xa0, offset, data, size);
}

static void pic_second_write(void *device, unsigned cpu, uint64_t offset, const void *data,
                             unsigned size)
{
    (void)cpu;
    pic_write(device, 0xa0, offset, data, size);
}

static void pic_elcr_read(void *device, unsigned cpu, uint64_t offset, void *data, unsigned size)
{
    (void)cpu;
    pic_read(device, 0x4d0, offset, data, size);
}

static void pic_elcr_write(void *device, unsigned cpu, uint64_t offset, const void *data,
                           unsigned size)
{
    (void)cpu;
    pic_write(device, 0x4d0, offset, data, size);
}

int irqchip_add_to_bus(struct irqchip *chip, struct bus *bus, struct err *err)
{
    static const struct {
        enum bus_space space;
        uint64_t base, length;
        struct bus_ops ops;
        const char *name;
    } windows[] = {
        {BUS_MMIO, LAPIC_BASE, LAPIC_SIZE, {lapic_bus_read, lapic_bus_write}, "local APIC"},
        {BUS_MMIO, IOAPIC_BASE, IOAPIC_SIZE, {ioapic_bus_read, ioapic_bus_write}, "I/O APIC"},
        {BUS_IO, 0x20, 2, {pic_first_read, pic_first_write}, "PIC"},
        {BUS_IO, 0xa0, 2, {pic_second_read, pic_second_write}, "second PIC"},
        {BUS_IO, 0x4d0, 2, {pic_elcr_read, pic_elcr_write}, "ELCR"},
    };
    int result;

    for (unsigned i = 0; i < ARRAY_LEN(windows); i++) {
        result = bus_add(bus, windows[i].space, windows[i].base, windows[i].length, &windows[i].ops,
                         chip, windows[i].name, err);
        if (result < 0)
            return result;
    }
    return 0;
}

/* --- life --- */

void irqchip_free(struct irqchip *chip)
{
    if (!chip)
        return;
    for (unsigned i = 0; i < chip->config.nr_cpus; i++)
        lapic_done(&chip->lapics[i]);
    pthread_mutex_destroy(&chip->lock);
    free(chip);
}

static inline void irqchip_freep(struct irqchip **chip)
{
    irqchip_free(*chip);
}

int irqchip_new(const struct irqchip_config *config, struct irqchip **ret, struct err *err)
{
    CLEANUP(irqchip_freep) struct irqchip *chip = NULL;
    int result;

    if (!config->nr_cpus || config->nr_cpus > CPU_MAX || !config->tsc_hz || !config->timer_hz)
        return err_set(err, -EINVAL, "interrupt chips: %u processors", config->nr_cpus);
    if (!(chip = calloc(1, sizeof(*chip))))
        return err_set(err, -ENOMEM, "out of memory for interrupt chips");
    pthread_mutex_init(&chip->lock, NULL);
    chip->config = *config;
    chip->ioapic.chip = chip;
    chip->pic.chip = chip;
    for (unsigned i = 0; i < config->nr_cpus; i++)
        if ((result = lapic_init(&chip->lapics[i], chip, i, err)) < 0)
            return result;
    irqchip_reset(chip);
    *ret = TAKE_PTR(chip);
    return 0;
}

void irqchip_reset(struct irqchip *chip)
{
    pthread_mutex_lock(&chip->lock);
    ioapic_reset_locked(&chip->ioapic);
    i8259_reset_locked(&chip->pic);
    for (unsigned i = 0; i < chip->config.nr_cpus; i++)
        lapic_reset_locked(&chip->lapics[i], LAPIC_RESET_POWER_ON);
    pthread_mutex_unlock(&chip->lock);
}

void irqchip_attach_cpu(struct irqchip *chip, unsigned index, struct cpu *cpu)
{
    pthread_mutex_lock(&chip->lock);
    chip->lapics[index].cpu = cpu;
    lapic_update_locked(&chip->lapics[index]);
    pthread_mutex_unlock(&chip->lock);
}

/* --- save and load --- */

void irqchip_save(struct irqchip *chip, struct irqchip_state *ret)
{
    memset(ret, 0, sizeof(*ret));
    pthread_mutex_lock(&chip->lock);
    ret->nr_cpus = chip->config.nr_cpus;
    for (unsigned i = 0; i < chip->config.nr_cpus; i++) {
        ret->lapics[i] = chip->lapics[i].state;
        lapic_timer_save_locked(&chip->lapics[i], &ret->lapics[i]);
    }
    ret->ioapic = chip->ioapic.state;
    ret->pic = chip->pic.state;
    pthread_mutex_unlock(&chip->lock);
}

int irqchip_load(struct irqchip *chip, const struct irqchip_state *state, struct err *err)
{
    if (state->nr_cpus != chip->config.nr_cpus)
        return err_set(err, -EINVAL, "saved interrupt chips are of %u processors, not %u",
                       state->nr_cpus, chip->config.nr_cpus);
    pthread_mutex_lock(&chip->lock);
    chip->ioapic.state = state->ioapic;
    chip->ioapic.state.lines &= (1u << IOAPIC_PINS) - 1;
    chip->pic.state = state->pic;
    for (unsigned i = 0; i < 2; i++)
        chip->pic.state.chips[i].lowest_priority &= 7;
    for (unsigned i = 0; i < chip->config.nr_cpus; i++) {
        struct lapic *lapic = &chip->lapics[i];

        lapic->state = state->lapics[i];
        /* What this machine fixes, whatever the state says. */
        lapic->state.apic_base = LAPIC_BASE |
                                 (lapic->state.apic_base &
                                  (LAPIC_BASE_BSP | LAPIC_BASE_X2APIC | LAPIC_BASE_ENABLE));
        lapic->state.registers[LAPIC_ID] = lapic_is_x2apic(lapic) ? lapic->index
                                                                  : lapic->index << 24;
        lapic_timer_load_locked(lapic, state->lapics[i].timer_remaining_ns);
        lapic_update_locked(lapic);
    }
    pthread_mutex_unlock(&chip->lock);
    return 0;
}
