/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtual PC, without its processors: guest memory, the I/O bus, interrupt chips, timers,
 * legacy devices, ACPI tables and the boot loader, assembled. The monitor makes it, makes a cpu_vm
 * over its memory, bus and chips, attaches the vCPUs, adds virtio devices at the windows that the
 * ACPI tables announce, and loads a kernel.
 *
 *   machine_new -> engine->vm_new(machine_memory, machine_cpu_bus, machine_cpu_irqchip)
 *     -> machine_set_engine -> cpu_new + machine_attach_cpu for each vCPU -> bus_add of virtio
 *     devices -> machine_boot -> set_state of vCPU 0 -> run
 *
 * What lies where: docs/design/machine.md. It does not run anything and knows no virtio.
 *
 * Threads: set-up calls from one thread before the vCPUs run; machine_reset and machine_boot only
 * while no vCPU runs; machine_serial_input and machine_power_button from any thread. Events are
 * called on a vCPU's thread.
 */
#ifndef LODGE_MACHINE_MACHINE_H
#define LODGE_MACHINE_MACHINE_H

#include "base/err.h"
#include "cpu/cpu.h"
#include "machine/boot/boot.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/pci.h"
#include "machine/timers.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MACHINE_VIRTIO_MAX  13
#define MACHINE_VIRTIO_BASE UINT64_C(0xd0000000)
#define MACHINE_VIRTIO_SIZE UINT64_C(0x1000) /* what a window occupies; the device uses 0x200 */

#define MACHINE_MEMORY_LEAST (UINT64_C(4) << 20)
#define MACHINE_LOW_RAM_END  (UINT64_C(3) << 30) /* RAM beyond this size goes above 4 GiB */

struct machine_virtio {
    gpa_t gpa;
    unsigned gsi; /* level-triggered, active high */
};

/* What the guest asks of its machine. Called on a vCPU's thread, at most once each until
 * machine_reset: they should note the fact and make the vCPUs stop (CPU_REQUEST_KICK). */
struct machine_events {
    void *context;
    void (*power_off)(void *context);              /* ACPI S5 */
    void (*reset)(void *context);                  /* 0xcf9, ACPI reset register, i8042 */
    void (*exit_code)(void *context, int status);  /* debug-exit port: (value << 1) | 1 */
    void (*ejected)(void *context, unsigned slot); /* as often as the guest likes */
};

/* COM1. output gets what the guest transmits, on a vCPU's thread; input_ready says (any thread)
 * that machine_serial_input, having been refused bytes, has room again. Either may be NULL. */
struct machine_serial {
    void *context;
    void (*output)(void *context, const void *data, size_t length);
    void (*input_ready)(void *context);
};

struct machine_config {
    unsigned nr_cpus;      /* 1..CPU_MAX */
    uint64_t memory_bytes; /* a multiple of 4096, from MACHINE_MEMORY_LEAST */
    uint64_t tsc_hz;       /* the guest's; 0: cpu_host_tsc_hz() */
    /* The engine has interrupt chips and the PIT of its own (kvm): none of ours are made. */
    bool engine_irqchip;
    bool serial;                                      /* COM1 at 0x3f8, GSI 4 */
    bool exit_port;                                   /* 0xf4 */
    bool debug_console;                               /* 0xe9: written to the serial output */
    struct machine_virtio virtio[MACHINE_VIRTIO_MAX]; /* see machine_virtio_window */
    unsigned nr_virtio;
    /* A PCI bus whose slots can be filled later. Its interrupts are those of virtio windows that
     * are not used, so nr_virtio is at most MACHINE_VIRTIO_MAX - PCI_SLOTS_MAX then. */
    bool hotplug;
    struct machine_serial serial_functions;
    struct machine_events events;
};

struct machine;

/* The usual place of the index-th virtio-mmio window. index < MACHINE_VIRTIO_MAX. */
struct machine_virtio machine_virtio_window(unsigned index);

/* config is copied. -EINVAL names the member that is wrong. */
int machine_new(const struct machine_config *config, struct machine **ret, struct err *err);
/* After the vCPUs and the cpu_vm are gone. */
void machine_free(struct machine *machine);

struct memory *machine_memory(struct machine *machine);
struct bus *machine_bus(struct machine *machine);
const struct cpu_bus *machine_cpu_bus(struct machine *machine);
const struct cpu_irqchip *machine_cpu_irqchip(struct machine *machine); /* NULL: the engine's own */
const struct irq_sink *machine_irq_sink(struct machine *machine);
struct pci *machine_pci(struct machine *machine); /* NULL without hotplug */
struct timers *machine_timers(struct machine *machine);

/* Only with engine_irqchip: lines and messages go to engine->irq_line and engine->msi of vm; with
 * NULL, and before, nowhere. While no vCPU runs. */
void machine_set_engine(struct machine *machine, const struct cpu_engine *engine,
                        struct cpu_vm *vm);
/* From now on interrupts wake this vCPU. NULL detaches it (before cpu_free). */
void machine_attach_cpu(struct machine *machine, unsigned index, struct cpu *cpu);

/*
 * Writes ACPI tables, kernel, modules and boot data into guest memory and gives the state in which
 * vCPU 0 starts (the others wait for SIPI, in reset state).
 */
int machine_boot(struct machine *machine, const struct boot_source *source, struct cpu_state *ret,
                 struct err *err);

/* All devices to their power-on state; guest memory is left as it is. Then machine_boot again. */
void machine_reset(struct machine *machine);

/* How many bytes COM1 took; the rest is to be offered again after input_ready. */
size_t machine_serial_input(struct machine *machine, const void *data, size_t length);

/* A press of the power button, as ACPI fixed event. */
void machine_power_button(struct machine *machine);

static inline void machine_freep(struct machine **machine)
{
    machine_free(*machine);
}

#endif
