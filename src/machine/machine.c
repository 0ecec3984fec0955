/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine put together. Order of making: memory, bus, timers, interrupt routing, devices; of
 * freeing: the reverse. Events are passed on at most once until the next reset: guests repeat
 * them (a reset by three ports in turn), monitors should not have to care.
 */
#include "machine/machine.h"

#include "base/cleanup.h"
#include "base/util.h"
#include "machine/acpi/tables.h"
#include "machine/acpi_pm.h"
#include "machine/debug_ports.h"
#include "machine/i8042.h"
#include "machine/i8254.h"
#include "machine/irqchip.h"
#include "machine/mc146818.h"
#include "machine/ns16550.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#define GSI_PIT  0
#define GSI_COM1 4
#define GSI_RTC  8

#define COM1_PORT 0x3f8

#define HIGH_RAM_START     (UINT64_C(4) << 30)
#define CONVENTIONAL_END   UINT64_C(0x9fc00)
#define VIRTIO_REGION_SIZE (UINT64_C(16) << 20)

/* Where RTC RAM tells the size of memory (kernels without e820 look there). */
#define CMOS_BASE_MEMORY     0x15
#define CMOS_EXTENDED_MEMORY 0x17
#define CMOS_ABOVE_16M       0x34

struct machine {
    struct machine_config config;
    struct memory *memory;
    struct bus *bus;
    struct cpu_bus cpu_bus;
    struct timers *timers;
    struct irq_sink sink;
    struct irqchip *irqchip; /* NULL: the engine's */
    struct cpu_irqchip cpu_irqchip;
    /* Only with engine_irqchip. The lock keeps the engine's VM in being under a device's or timer's
     * thread that interrupts while the VM is taken down. */
    pthread_mutex_t engine_lock;
    const struct cpu_engine *engine;
    struct cpu_vm *engine_vm;
    struct i8254 *pit;
    struct mc146818 *rtc;
    struct ns16550 *serial;
    struct i8042 *kbc;
    struct acpi_pm *pm;
    struct pci *pci; /* NULL: none */
    struct debug_ports debug_ports;
    bool event_sent; /* atomic */
};

static const unsigned virtio_gsis[MACHINE_VIRTIO_MAX] = {16, 17, 18, 19, 20, 21, 22,
                                                         23, 5,  10, 11, 7,  6};

struct machine_virtio machine_virtio_window(unsigned index)
{
    index %= MACHINE_VIRTIO_MAX;
    return (struct machine_virtio){MACHINE_VIRTIO_BASE + index * MACHINE_VIRTIO_SIZE,
                                   virtio_gsis[index]};
}

/* --- events --- */

static bool first_event(struct machine *machine)
{
    return !__atomic_exchange_n(&machine->event_sent, true, __ATOMIC_ACQ_REL);
}

static void on_power_off(void *context)
{
    struct machine *machine = context;

    if (first_event(machine) && machine->config.events.power_off)
        machine->config.events.power_off(machine->config.events.context);
}

static void on_reset(void *context)
{
    struct machine *machine = context;

    if (first_event(machine) && machine->config.events.reset)
        machine->config.events.reset(machine->config.events.context);
}

static void on_exit_code(void *context, int status)
{
    struct machine *machine = context;

    if (first_event(machine) && machine->config.events.exit_code)
        machine->config.events.exit_code(machine->config.events.context, status);
}

static void on_ejected(void *context, unsigned slot)
{
    struct machine *machine = context;

    if (machine->config.events.ejected)
        machine->config.events.ejected(machine->config.events.context, slot);
}

static void on_gpe(void *context, bool raised)
{
    struct machine *machine = context;

    acpi_pm_set_gpe(machine->pm, raised);
}

static void on_output(void *context, const void *data, size_t length)
{
    struct machine *machine = context;

    if (machine->config.serial_functions.output)
        machine->config.serial_functions.output(machine->config.serial_functions.context, data,
                                                length);
}

static void on_input_ready(void *context)
{
    struct machine *machine = context;

    if (machine->config.serial_functions.input_ready)
        machine->config.serial_functions.input_ready(machine->config.serial_functions.context);
}

/* --- interrupts to an engine with chips of its own --- */

static void engine_set(void *context, unsigned gsi, bool level)
{
    struct machine *machine = context;

    pthread_mutex_lock(&machine->engine_lock);
    if (machine->engine)
        machine->engine->irq_line(machine->engine_vm, gsi, level);
    pthread_mutex_unlock(&machine->engine_lock);
}

static void engine_msi(void *context, uint64_t address, uint32_t data)
{
    struct machine *machine = context;

    pthread_mutex_lock(&machine->engine_lock);
    if (machine->engine)
        machine->engine->msi(machine->engine_vm, address, data);
    pthread_mutex_unlock(&machine->engine_lock);
}

void machine_set_engine(struct machine *machine, const struct cpu_engine *engine, struct cpu_vm *vm)
{
    if (!machine->config.engine_irqchip)
        return;
    pthread_mutex_lock(&machine->engine_lock);
    machine->engine = engine;
    machine->engine_vm = vm;
    pthread_mutex_unlock(&machine->engine_lock);
}

/* --- making --- */

static int check_config(const struct machine_config *config, struct err *err)
{
    if (!config->nr_cpus || config->nr_cpus > CPU_MAX)
        return err_set(err, -EINVAL, "%u vCPUs; 1 to %d are possible", config->nr_cpus, CPU_MAX);
    if (config->memory_bytes < MACHINE_MEMORY_LEAST)
        return err_set(err, -EINVAL,
                       "%" PRIu64 " KiB of memory; at least %" PRIu64 " MiB are needed",
                       config->memory_bytes / KIB, MACHINE_MEMORY_LEAST / MIB);
    if (config->memory_bytes & GUEST_PAGE_MASK)
        return err_set(err, -EINVAL, "%" PRIu64 " bytes of memory are not whole pages of 4096",
                       config->memory_bytes);
    if (config->nr_virtio > MACHINE_VIRTIO_MAX)
        return err_set(err, -EINVAL, "%u virtio devices; at most %d are possible",
                       config->nr_virtio, MACHINE_VIRTIO_MAX);
    if (config->hotplug && config->nr_virtio > MACHINE_VIRTIO_MAX - PCI_SLOTS_MAX)
        return err_set(err, -EINVAL, "%u virtio devices; at most %d are possible with hot-plug",
                       config->nr_virtio, MACHINE_VIRTIO_MAX - PCI_SLOTS_MAX);
    for (unsigned i = 0; i < config->nr_virtio; i++)
        if (config->virtio[i].gpa < MACHINE_VIRTIO_BASE ||
            !range_fits(config->virtio[i].gpa - MACHINE_VIRTIO_BASE, MACHINE_VIRTIO_SIZE,
                        VIRTIO_REGION_SIZE) ||
            config->virtio[i].gsi >= IOAPIC_PINS)
            return err_set(err, -EINVAL, "virtio window %u at 0x%" PRIx64 ", GSI %u, is misplaced",
                           i, config->virtio[i].gpa, config->virtio[i].gsi);
    return 0;
}

static int make_memory(struct machine *machine, struct err *err)
{
    uint64_t low = MIN(machine->config.memory_bytes, MACHINE_LOW_RAM_END);
    uint64_t high = machine->config.memory_bytes - low;
    int result;

    if ((result = memory_new(&machine->memory, err)) < 0 ||
        (result = memory_add_ram(machine->memory, 0, low, err)) < 0)
        return result;
    return high ? memory_add_ram(machine->memory, HIGH_RAM_START, high, err) : 0;
}

static int make_irqchip(struct machine *machine, struct err *err)
{
    uint64_t tsc_hz = machine->config.tsc_hz;
    struct irqchip_config config = {
        .nr_cpus = machine->config.nr_cpus,
        .timers = machine->timers,
        .tsc_hz = tsc_hz,
        .timer_hz = MAX(tsc_hz / 2, UINT64_C(1)), /* the crystal of CPUID leaf 15h */
    };
    struct irq_line pit_irq = {&machine->sink, GSI_PIT};
    int result;

    if (machine->config.engine_irqchip) {
        machine->sink = (struct irq_sink){.context = machine, .set = engine_set, .msi = engine_msi};
        return 0;
    }
    if ((result = irqchip_new(&config, &machine->irqchip, err)) < 0)
        return result;
    irqchip_sink(machine->irqchip, &machine->sink);
    irqchip_cpu_functions(machine->irqchip, &machine->cpu_irqchip);
    if ((result = irqchip_add_to_bus(machine->irqchip, machine->bus, err)) < 0 ||
        (result = i8254_new(machine->timers, &pit_irq, &machine->pit, err)) < 0)
        return result;
    return i8254_add_to_bus(machine->pit, machine->bus, err);
}

static int make_serial(struct machine *machine, struct err *err)
{
    struct irq_line irq = {&machine->sink, GSI_COM1};
    struct ns16550_functions functions = {
        .context = machine, .output = on_output, .input_ready = on_input_ready};
    int result;

    if (!machine->config.serial)
        return 0;
    if ((result = ns16550_new(&irq, &functions, &machine->serial, err)) < 0)
        return result;
    return ns16550_add_to_bus(machine->serial, machine->bus, COM1_PORT, err);
}

static void fill_cmos(struct machine *machine)
{
    uint64_t low = MIN(machine->config.memory_bytes, MACHINE_LOW_RAM_END);
    unsigned extended = (unsigned)MIN((low - MIB) / KIB, UINT64_C(0xffff));
    unsigned above = low > 16 * MIB ? (unsigned)MIN((low - 16 * MIB) / (64 * KIB), UINT64_C(0xffff))
                                    : 0;
    const unsigned words[][2] = {{CMOS_BASE_MEMORY, 639},
                                 {CMOS_EXTENDED_MEMORY, extended},
                                 {CMOS_EXTENDED_MEMORY + 0x19, extended}, /* again at 30h */
                                 {CMOS_ABOVE_16M, above}};

    for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
        mc146818_set_ram(machine->rtc, words[i][0], (uint8_t)words[i][1]);
        mc146818_set_ram(machine->rtc, words[i][0] + 1, (uint8_t)(words[i][1] >> 8));
    }
}

static int make_legacy(struct machine *machine, struct err *err)
{
    struct irq_line rtc_irq = {&machine->sink, GSI_RTC}, sci = {&machine->sink, ACPI_SCI_GSI};
    struct acpi_pm_functions pm_functions = {machine, on_power_off};
    struct i8042_functions kbc_functions = {machine, on_reset};
    int result;

    machine->debug_ports = (struct debug_ports){
        .context = machine,
        .exit_code = machine->config.exit_port ? on_exit_code : NULL,
        .output = machine->config.debug_console ? on_output : NULL,
        .reset = on_reset,
        .pci = machine->config.hotplug,
    };
    if ((result = mc146818_new(machine->timers, &rtc_irq, NULL, &machine->rtc, err)) < 0 ||
        (result = mc146818_add_to_bus(machine->rtc, machine->bus, err)) < 0 ||
        (result = i8042_new(&kbc_functions, &machine->kbc, err)) < 0 ||
        (result = i8042_add_to_bus(machine->kbc, machine->bus, err)) < 0 ||
        (result = acpi_pm_new(machine->timers, &sci, &pm_functions, &machine->pm, err)) < 0 ||
        (result = acpi_pm_add_to_bus(machine->pm, machine->bus, err)) < 0)
        return result;
    fill_cmos(machine);
    return debug_ports_add_to_bus(&machine->debug_ports, machine->bus, err);
}

static int make_pci(struct machine *machine, struct err *err)
{
    struct pci_functions functions = {machine, on_ejected, on_reset};
    unsigned gsis[PCI_SLOTS_MAX];
    int result;

    if (!machine->config.hotplug)
        return 0;
    for (unsigned i = 0; i < PCI_SLOTS_MAX; i++)
        gsis[i] = virtio_gsis[MACHINE_VIRTIO_MAX - PCI_SLOTS_MAX + i];
    if ((result = pci_new(&machine->sink, gsis, on_gpe, machine, &functions, &machine->pci, err)) <
        0)
        return result;
    return pci_add_to_bus(machine->pci, machine->bus, err);
}

int machine_new(const struct machine_config *config, struct machine **ret, struct err *err)
{
    CLEANUP(machine_freep) struct machine *machine = NULL;
    int result;

    if ((result = check_config(config, err)) < 0)
        return result;
    if (!(machine = calloc(1, sizeof(*machine))))
        return err_set(err, -ENOMEM, "out of memory for a machine");
    pthread_mutex_init(&machine->engine_lock, NULL);
    machine->config = *config;
    if (!machine->config.tsc_hz)
        machine->config.tsc_hz = cpu_host_tsc_hz();
    if ((result = make_memory(machine, err)) < 0 || (result = bus_new(&machine->bus, err)) < 0 ||
        (result = timers_new(&machine->timers, err)) < 0 ||
        (result = make_irqchip(machine, err)) < 0 || (result = make_serial(machine, err)) < 0 ||
        (result = make_legacy(machine, err)) < 0 || (result = make_pci(machine, err)) < 0)
        return result;
    bus_connect(machine->bus, &machine->cpu_bus);
    *ret = TAKE_PTR(machine);
    return 0;
}

void machine_free(struct machine *machine)
{
    if (!machine)
        return;
    pci_free(machine->pci);
    acpi_pm_free(machine->pm);
    i8042_free(machine->kbc);
    mc146818_free(machine->rtc);
    ns16550_free(machine->serial);
    i8254_free(machine->pit);
    irqchip_free(machine->irqchip);
    timers_free(machine->timers);
    bus_free(machine->bus);
    memory_free(machine->memory);
    pthread_mutex_destroy(&machine->engine_lock);
    free(machine);
}

/* --- parts --- */

struct memory *machine_memory(struct machine *machine)
{
    return machine->memory;
}

struct bus *machine_bus(struct machine *machine)
{
    return machine->bus;
}

const struct cpu_bus *machine_cpu_bus(struct machine *machine)
{
    return &machine->cpu_bus;
}

const struct cpu_irqchip *machine_cpu_irqchip(struct machine *machine)
{
    return machine->irqchip ? &machine->cpu_irqchip : NULL;
}

const struct irq_sink *machine_irq_sink(struct machine *machine)
{
    return &machine->sink;
}

struct pci *machine_pci(struct machine *machine)
{
    return machine->pci;
}

struct timers *machine_timers(struct machine *machine)
{
    return machine->timers;
}

void machine_attach_cpu(struct machine *machine, unsigned index, struct cpu *cpu)
{
    if (machine->irqchip && index < machine->config.nr_cpus)
        irqchip_attach_cpu(machine->irqchip, index, cpu);
}

size_t machine_serial_input(struct machine *machine, const void *data, size_t length)
{
    return machine->serial ? ns16550_input(machine->serial, data, length) : length;
}

void machine_power_button(struct machine *machine)
{
    acpi_pm_power_button(machine->pm);
}

/* --- boot and reset --- */

static void add_region(struct boot_machine *boot, gpa_t gpa, uint64_t size_bytes,
                       enum boot_region_kind kind)
{
    boot->regions[boot->nr_regions++] = (struct boot_region){gpa, size_bytes, kind};
}

static void describe_memory(const struct machine *machine, struct boot_machine *ret)
{
    uint64_t low = MIN(machine->config.memory_bytes, MACHINE_LOW_RAM_END);
    uint64_t high = machine->config.memory_bytes - low;

    add_region(ret, 0, CONVENTIONAL_END, BOOT_REGION_RAM);
    add_region(ret, CONVENTIONAL_END, 0xa0000 - CONVENTIONAL_END, BOOT_REGION_RESERVED);
    add_region(ret, ACPI_AREA_START, ACPI_AREA_SIZE, BOOT_REGION_RESERVED);
    add_region(ret, MIB, low - MIB, BOOT_REGION_RAM);
    if (high)
        add_region(ret, HIGH_RAM_START, high, BOOT_REGION_RAM);
}

int machine_boot(struct machine *machine, const struct boot_source *source, struct cpu_state *ret,
                 struct err *err)
{
    struct acpi_virtio virtio[MACHINE_VIRTIO_MAX];
    struct acpi_config acpi = {
        .nr_cpus = machine->config.nr_cpus,
        .serial = machine->config.serial,
        .virtio = virtio,
        .nr_virtio = machine->config.nr_virtio,
        .pci = machine->config.hotplug,
    };
    struct boot_machine boot = {.memory = machine->memory};
    struct boot_result loaded;
    int result;

    for (unsigned i = 0; i < acpi.nr_virtio; i++)
        virtio[i] = (struct acpi_virtio){machine->config.virtio[i].gpa,
                                         (uint32_t)MACHINE_VIRTIO_SIZE,
                                         machine->config.virtio[i].gsi};
    for (unsigned i = 0; acpi.pci && i < PCI_SLOTS_MAX; i++)
        acpi.pci_gsis[i] = pci_line(machine->pci, i).gsi;
    describe_memory(machine, &boot);
    if ((result = acpi_install(&acpi, machine->memory, &boot.rsdp, err)) < 0 ||
        (result = boot_load(&boot, source, &loaded, err)) < 0)
        return result;
    *ret = loaded.state;
    return 0;
}

void machine_reset(struct machine *machine)
{
    if (machine->irqchip)
        irqchip_reset(machine->irqchip);
    if (machine->pit)
        i8254_reset(machine->pit);
    if (machine->serial)
        ns16550_reset(machine->serial);
    mc146818_reset(machine->rtc);
    i8042_reset(machine->kbc);
    acpi_pm_reset(machine->pm);
    if (machine->pci)
        pci_reset(machine->pci);
    __atomic_store_n(&machine->event_sent, false, __ATOMIC_RELEASE);
}
