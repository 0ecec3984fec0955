/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two 8259A interrupt controllers of a PC, the second on input 2 of the first, with the
 * edge/level control registers at 0x4d0 (Intel 8259A data sheet). Part of struct irqchip and
 * guarded by its lock.
 */
#ifndef LODGE_MACHINE_I8259_H
#define LODGE_MACHINE_I8259_H

#include <stdbool.h>
#include <stdint.h>

enum i8259_step { /* what a write to the data port means */
                  I8259_STEP_OCW1 = 0,
                  I8259_STEP_ICW2 = 1,
                  I8259_STEP_ICW3 = 2,
                  I8259_STEP_ICW4 = 3,
};

struct i8259_chip_state {
    uint8_t lines; /* asserted inputs */
    uint8_t irr, isr, imr;
    uint8_t vector_base;     /* ICW2 */
    uint8_t lowest_priority; /* the input that comes last; 7 after ICW1 */
    uint8_t elcr;            /* 1: level-triggered */
    uint8_t step;            /* enum i8259_step */
    uint8_t needs_icw4, single;
    uint8_t auto_eoi, rotate_on_auto_eoi;
    uint8_t special_mask, special_fully_nested;
    uint8_t read_isr, poll;
};

struct i8259_state {
    struct i8259_chip_state chips[2];
};

struct irqchip;

struct i8259 {
    struct irqchip *chip;
    struct i8259_state state;
};

void i8259_reset_locked(struct i8259 *pic);
void i8259_set_locked(struct i8259 *pic, unsigned irq, bool asserted);
/* Level of the INT output. */
bool i8259_output_locked(const struct i8259 *pic);
/* An INTA cycle: always gives a vector (spurious ones too). */
uint8_t i8259_acknowledge_locked(struct i8259 *pic);
/* Ports 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1. */
uint8_t i8259_read_locked(struct i8259 *pic, uint16_t port);
void i8259_write_locked(struct i8259 *pic, uint16_t port, uint8_t value);

#endif
