/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 8259A logic. Priorities are positions counted from the input after lowest_priority; an input is
 * served when nothing in service has the same or a better position.
 */
#include "machine/i8259.h"

#include "machine/irqchip.h"

#include <string.h>

#define CASCADE_IRQ 2

/* Inputs that an ELCR may make level-triggered (0, 1, 2, 8 and 13 are edge by definition). */
static const uint8_t elcr_writable[2] = {0xf8, 0xde};

static void chip_reset(struct i8259_chip_state *chip)
{
    uint8_t lines = chip->lines;

    memset(chip, 0, sizeof(*chip));
    chip->lines = lines;
    chip->lowest_priority = 7;
    chip->imr = 0xff; /* undefined by the data sheet; nothing until the guest has set it up */
}

void i8259_reset_locked(struct i8259 *pic)
{
    for (unsigned i = 0; i < 2; i++) {
        pic->state.chips[i].lines = 0;
        chip_reset(&pic->state.chips[i]);
    }
    pic->state.chips[1].vector_base = 8;
}

/* Position 0..7 of the best input in mask, or 8. */
static unsigned chip_position(const struct i8259_chip_state *chip, uint8_t mask)
{
    for (unsigned position = 0; position < 8; position++)
        if (mask & 1u << ((chip->lowest_priority + 1u + position) & 7))
            return position;
    return 8;
}

static uint8_t chip_requests(const struct i8259_chip_state *chip)
{
    /* A level-triggered input requests as long as it is asserted, latched or not. */
    return (uint8_t)((chip->irr | (chip->lines & chip->elcr)) & ~chip->imr);
}

/* The input that would be served now, or -1. */
static int chip_best(const struct i8259_chip_state *chip, bool first)
{
    uint8_t in_service = chip->isr;
    unsigned request, service;

    /* In special mask mode a level that is masked holds off nothing, in service or not. */
    if (chip->special_mask)
        in_service &= (uint8_t)~chip->imr;
    /* In special fully nested mode the slave may interrupt its own service (data sheet, p. 20). */
    if (first && chip->special_fully_nested)
        in_service &= (uint8_t) ~(1u << CASCADE_IRQ);
    request = chip_position(chip, chip_requests(chip));
    if (request == 8)
        return -1;
    service = chip_position(chip, in_service);
    return request < service ? (int)((chip->lowest_priority + 1u + request) & 7) : -1;
}

static void pic_cascade(struct i8259 *pic)
{
    struct i8259_chip_state *first = &pic->state.chips[0];

    if (chip_best(&pic->state.chips[1], false) >= 0)
        first->irr |= 1u << CASCADE_IRQ;
    else
        first->irr &= (uint8_t) ~(1u << CASCADE_IRQ);
}

bool i8259_output_locked(const struct i8259 *pic)
{
    return chip_best(&pic->state.chips[0], true) >= 0;
}

void i8259_set_locked(struct i8259 *pic, unsigned irq, bool asserted)
{
    struct i8259_chip_state *chip = &pic->state.chips[irq / 8];
    uint8_t bit = (uint8_t)(1u << (irq % 8));

    if (asserted) {
        if (!(chip->lines & bit))
            chip->irr |= bit;
        chip->lines |= bit;
    } else {
        /* A request must stay up until it is acknowledged; if not, IRR drops it (data sheet, IR7
         * spurious). Edge requests are kept: devices here pulse their lines. */
        if (chip->elcr & bit)
            chip->irr &= (uint8_t)~bit;
        chip->lines &= (uint8_t)~bit;
    }
    pic_cascade(pic);
    irqchip_pic_changed_locked(pic->chip);
}

static void chip_end(struct i8259_chip_state *chip, unsigned irq, bool rotate)
{
    chip->isr &= (uint8_t) ~(1u << irq);
    if (rotate)
        chip->lowest_priority = (uint8_t)irq;
}

/* INTA for one chip: the input served, or 7 when the request has gone. */
static unsigned chip_acknowledge(struct i8259_chip_state *chip, bool first)
{
    int best = chip_best(chip, first);

    if (best < 0)
        return 7;
    if (!(chip->elcr & 1u << best))
        chip->irr &= (uint8_t) ~(1u << best);
    chip->isr |= (uint8_t)(1u << best);
    if (chip->auto_eoi)
        chip_end(chip, (unsigned)best, chip->rotate_on_auto_eoi);
    return (unsigned)best;
}

uint8_t i8259_acknowledge_locked(struct i8259 *pic)
{
    struct i8259_chip_state *first = &pic->state.chips[0], *second = &pic->state.chips[1];
    unsigned irq = chip_acknowledge(first, true);
    uint8_t vector;

    if (irq == CASCADE_IRQ && !first->single)
        vector = (uint8_t)(second->vector_base + chip_acknowledge(second, false));
    else
        vector = (uint8_t)(first->vector_base + irq);
    pic_cascade(pic);
    irqchip_pic_changed_locked(pic->chip);
    return vector;
}

static void chip_write_icw1(struct i8259_chip_state *chip, uint8_t value)
{
    uint8_t elcr = chip->elcr, base = chip->vector_base;

    chip_reset(chip);
    chip->elcr = elcr;
    chip->vector_base = base;
    chip->imr = 0;
    chip->needs_icw4 = value & 1;
    chip->single = value >> 1 & 1;
    chip->step = I8259_STEP_ICW2;
}

static void chip_write_ocw2(struct i8259_chip_state *chip, uint8_t value)
{
    unsigned command = value >> 5, irq = value & 7;
    unsigned position = chip_position(chip, chip->isr);
    unsigned served = (chip->lowest_priority + 1u + position) & 7;

    switch (command) {
    case 1: /* non-specific EOI */
    case 5: /* with rotation */
        if (position < 8)
            chip_end(chip, served, command == 5);
        break;
    case 3: /* specific EOI */
    case 7: /* with rotation */
        chip_end(chip, irq, command == 7);
        break;
    case 6: /* set priority */
        chip->lowest_priority = (uint8_t)irq;
        break;
    case 0:
    case 4:
        chip->rotate_on_auto_eoi = command == 4;
        break;
    default:
        break;
    }
}

static void chip_write_command(struct i8259_chip_state *chip, uint8_t value)
{
    if (value & 0x10) {
        chip_write_icw1(chip, value);
    } else if (value & 0x08) { /* OCW3 */
        if (value & 0x40)
            chip->special_mask = value >> 5 & 1;
        if (value & 0x02)
            chip->read_isr = value & 1;
        chip->poll = value >> 2 & 1;
    } else {
        chip_write_ocw2(chip, value);
    }
}

static void chip_write_data(struct i8259_chip_state *chip, uint8_t value)
{
    switch (chip->step) {
    case I8259_STEP_ICW2:
        chip->vector_base = value & 0xf8;
        chip->step = chip->single ? (chip->needs_icw4 ? I8259_STEP_ICW4 : I8259_STEP_OCW1)
                                  : I8259_STEP_ICW3;
        break;
    case I8259_STEP_ICW3: /* the wiring is what it is */
        chip->step = chip->needs_icw4 ? I8259_STEP_ICW4 : I8259_STEP_OCW1;
        break;
    case I8259_STEP_ICW4:
        chip->auto_eoi = value >> 1 & 1;
        chip->special_fully_nested = value >> 4 & 1;
        chip->step = I8259_STEP_OCW1;
        break;
    default:
        chip->imr = value;
        break;
    }
}

uint8_t i8259_read_locked(struct i8259 *pic, uint16_t port)
{
    unsigned which = port >= 0x4d0 ? port & 1 : port >> 7 & 1;
    struct i8259_chip_state *chip = &pic->state.chips[which];
    uint8_t value;

    if (port >= 0x4d0)
        return chip->elcr;
    if (chip->poll) {
        bool any = chip_best(chip, which == 0) >= 0;

        chip->poll = 0;
        value = (uint8_t)(chip_acknowledge(chip, which == 0) | (any ? 0x80 : 0));
        pic_cascade(pic);
        irqchip_pic_changed_locked(pic->chip);
        return any ? value : 0;
    }
    if (port & 1)
        return chip->imr;
    return chip->read_isr ? chip->isr : (uint8_t)(chip->irr | (chip->lines & chip->elcr));
}

void i8259_write_locked(struct i8259 *pic, uint16_t port, uint8_t value)
{
    unsigned which = port >= 0x4d0 ? port & 1 : port >> 7 & 1;
    struct i8259_chip_state *chip = &pic->state.chips[which];

    if (port >= 0x4d0)
        chip->elcr = value & elcr_writable[which];
    else if (port & 1)
        chip_write_data(chip, value);
    else
        chip_write_command(chip, value);
    pic_cascade(pic);
    irqchip_pic_changed_locked(pic->chip);
}
