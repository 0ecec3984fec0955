/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/machine.h"

#include "images.h"

#include <errno.h>

static unsigned nr_power_off, nr_reset;
static int exit_status = -1;
static char sent[16];
static size_t nr_sent;

static void power_off(void *context)
{
    (void)context;
    nr_power_off++;
}

static void reset(void *context)
{
    (void)context;
    nr_reset++;
}

static void exit_code(void *context, int status)
{
    (void)context;
    exit_status = status;
}

static void output(void *context, const void *data, size_t length)
{
    (void)context;
    memcpy(sent + nr_sent, data, length);
    nr_sent += length;
}

static struct machine_config config(void)
{
    struct machine_config c = {
        .nr_cpus = 2,
        .memory_bytes = 64 * MIB,
        .tsc_hz = 1000000000,
        .serial = true,
        .exit_port = true,
        .debug_console = true,
        .nr_virtio = 2,
        .serial_functions = {.output = output},
        .events = {.power_off = power_off, .reset = reset, .exit_code = exit_code},
    };

    c.virtio[0] = machine_virtio_window(0);
    c.virtio[1] = machine_virtio_window(1);
    return c;
}

static void write_port(struct machine *machine, uint16_t port, uint32_t value, unsigned size)
{
    const struct cpu_bus *bus = machine_cpu_bus(machine);

    bus->io_write(bus->context, 0, port, &value, size);
}

static uint32_t read_port(struct machine *machine, uint16_t port, unsigned size)
{
    const struct cpu_bus *bus = machine_cpu_bus(machine);
    uint32_t value = 0;

    bus->io_read(bus->context, 0, port, &value, size);
    return value;
}

START_TEST(events_are_told_once_until_reset)
{
    struct machine_config c = config();
    struct machine *machine;

    ck_assert_int_eq(machine_new(&c, &machine, NULL), 0);
    write_port(machine, 0x604, 0x1400, 2); /* S5 without SLP_EN */
    ck_assert_uint_eq(nr_power_off, 0);
    write_port(machine, 0x604, 0x2400, 2); /* S1 */
    ck_assert_uint_eq(nr_power_off, 0);
    write_port(machine, 0x604, 0x3400, 2);
    ck_assert_uint_eq(nr_power_off, 1);
    write_port(machine, 0x604, 0x3400, 2);
    ck_assert_uint_eq(nr_power_off, 1);
    write_port(machine, 0xcf9, 6, 1);
    ck_assert_uint_eq(nr_reset, 0);
    machine_reset(machine);
    write_port(machine, 0xcf9, 2, 1); /* chooses how, does not do it */
    ck_assert_uint_eq(nr_reset, 0);
    write_port(machine, 0xcf9, 6, 1);
    ck_assert_uint_eq(nr_reset, 1);
    machine_reset(machine);
    write_port(machine, 0x64, 0xfe, 1);
    ck_assert_uint_eq(nr_reset, 2);
    machine_reset(machine);
    write_port(machine, 0xf4, 21, 4);
    ck_assert_int_eq(exit_status, 43);
    machine_free(machine);
}
END_TEST

START_TEST(power_button_raises_the_sci)
{
    static struct cpu cpus[2];
    struct machine_config c = config();
    struct machine *machine;
    const struct cpu_irqchip *chip;
    const struct cpu_bus *bus;
    uint32_t value;

    ck_assert_int_eq(machine_new(&c, &machine, NULL), 0);
    bus = machine_cpu_bus(machine);
    chip = machine_cpu_irqchip(machine);
    machine_attach_cpu(machine, 0, &cpus[0]);
    value = 0x1ff;
    bus->mmio_write(bus->context, 0, 0xfee000f0, &value, 4);
    value = 0x10 + 2 * 9;
    bus->mmio_write(bus->context, 0, 0xfec00000, &value, 4);
    value = 0x8059; /* level */
    bus->mmio_write(bus->context, 0, 0xfec00010, &value, 4);
    ck_assert_uint_eq(read_port(machine, 0x604, 2) & 1, 1); /* ACPI mode */
    machine_power_button(machine);
    ck_assert_int_eq(chip->acknowledge(chip->context, 0), -1); /* not enabled */
    write_port(machine, 0x602, 0x100, 2);
    ck_assert_int_eq(chip->acknowledge(chip->context, 0), 0x59);
    ck_assert(cpus[0].requests & CPU_REQUEST_INTERRUPT);
    ck_assert_uint_eq(read_port(machine, 0x600, 2), 0x100);
    write_port(machine, 0x600, 0x100, 2); /* clears */
    value = 0;
    bus->mmio_write(bus->context, 0, 0xfee000b0, &value, 4);
    ck_assert_int_eq(chip->acknowledge(chip->context, 0), -1);
    machine_attach_cpu(machine, 0, NULL);
    machine_free(machine);
}
END_TEST

START_TEST(ports_without_a_chip)
{
    struct machine_config c = config();
    struct machine *machine;
    uint32_t first;

    ck_assert_int_eq(machine_new(&c, &machine, NULL), 0);
    write_port(machine, 0xe9, 'x', 1);
    write_port(machine, 0x3f8, 'y', 1);
    ck_assert_uint_eq(nr_sent, 2);
    ck_assert_mem_eq(sent, "xy", 2);
    ck_assert_uint_eq(read_port(machine, 0xe9, 1), 0xe9);
    ck_assert_uint_eq(read_port(machine, 0x1234, 2), 0xffff);
    write_port(machine, 0x64, 0xaa, 1); /* 8042 self test */
    ck_assert_uint_eq(read_port(machine, 0x64, 1) & 1, 1);
    ck_assert_uint_eq(read_port(machine, 0x60, 1), 0x55);
    ck_assert_uint_eq(read_port(machine, 0x64, 1) & 1, 0);
    first = read_port(machine, 0x608, 4);
    while (read_port(machine, 0x608, 4) == first) /* the PM timer runs */
        ;
    machine_free(machine);
}
END_TEST

START_TEST(boots_with_tables_and_memory_in_place)
{
    static const struct images_elf spec = {
        .gpa = 0x1000000, .entry = 0x1000000, .memory_size = 0x1000};
    struct machine_config c = config();
    struct boot_source source = {0};
    struct machine *machine;
    struct cpu_state state;
    struct buf elf, file;
    char signature[8];

    c.memory_bytes = 5 * GIB;
    ck_assert_int_eq(machine_new(&c, &machine, NULL), 0);
    ck_assert_uint_eq(machine_memory(machine)->nr_slots, 2);
    ck_assert_uint_eq(machine_memory(machine)->slots[1].gpa, 4 * GIB);
    ck_assert_uint_eq(machine_memory(machine)->slots[1].size_bytes, 2 * GIB);
    buf_init(&elf, MIB), buf_init(&file, MIB);
    images_elf(&elf, &spec);
    images_bzimage(&file, elf.data, elf.length);
    source.kernel = (struct boot_file){.bytes = file.data, .nr_bytes = file.length};
    ck_assert_int_eq(machine_boot(machine, &source, &state, NULL), 0);
    ck_assert_uint_eq(state.rip, 0x1000000);
    ck_assert_int_eq(memory_read(machine_memory(machine), 0xe0000, signature, 8), 0);
    ck_assert_mem_eq(signature, "RSD PTR ", 8);
    buf_done(&elf), buf_done(&file);
    machine_free(machine);
}
END_TEST

START_TEST(wrong_configurations_are_named)
{
    static const struct {
        const char *text;
        unsigned nr_cpus, nr_virtio;
        uint64_t memory_bytes;
        gpa_t gpa;
    } cases[] = {
        {"0 vCPUs", 0, 0, 64 * MIB, 0},     {"65 vCPUs", 65, 0, 64 * MIB, 0},
        {"at least 4 MiB", 1, 0, MIB, 0},   {"whole pages", 1, 0, 64 * MIB + 1, 0},
        {"at most 13", 1, 14, 64 * MIB, 0}, {"window 0", 1, 1, 64 * MIB, 0x1000},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct machine_config c = config();
        struct machine *machine;
        struct err err = ERR_INIT;

        c.nr_cpus = cases[i].nr_cpus;
        c.nr_virtio = cases[i].nr_virtio;
        c.memory_bytes = cases[i].memory_bytes;
        c.virtio[0].gpa = cases[i].gpa;
        ck_assert_int_eq(machine_new(&c, &machine, &err), -EINVAL);
        ck_assert_msg(strstr(err.message, cases[i].text), "%s", err.message);
    }
}
END_TEST

struct lines {
    unsigned gsi;
    bool level;
};

static int engine_line(struct cpu_vm *vm, unsigned gsi, bool level)
{
    *(struct lines *)(void *)vm = (struct lines){gsi, level};
    return 0;
}

START_TEST(an_engine_with_chips_gets_the_lines)
{
    static const struct cpu_engine engine = {.irq_line = engine_line};
    struct machine_config c = config();
    struct machine *machine;
    struct lines lines = {0};

    c.engine_irqchip = true;
    ck_assert_int_eq(machine_new(&c, &machine, NULL), 0);
    ck_assert_ptr_null(machine_cpu_irqchip(machine));
    ck_assert_uint_eq(read_port(machine, 0x21, 1), 0xff); /* no PIC here */
    machine_set_engine(machine, &engine, (struct cpu_vm *)(void *)&lines);
    write_port(machine, 0x3f9, 2, 1); /* transmitter interrupt */
    write_port(machine, 0x3fc, 8, 1);
    ck_assert_uint_eq(lines.gsi, 4);
    ck_assert(lines.level);
    machine_free(machine);
}
END_TEST

TEST_MAIN("machine", tcase_add_test(tcase, events_are_told_once_until_reset);
          tcase_add_test(tcase, power_button_raises_the_sci);
          tcase_add_test(tcase, ports_without_a_chip);
          tcase_add_test(tcase, boots_with_tables_and_memory_in_place);
          tcase_add_test(tcase, wrong_configurations_are_named);
          tcase_add_test(tcase, an_engine_with_chips_gets_the_lines))
