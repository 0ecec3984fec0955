/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local APIC of one vCPU (SDM 3A chapter 11). Part of struct irqchip, whose lock guards
 * everything here; functions ending in _locked are called with it held.
 *
 * The register file is kept as the register page has it (offset / 16), so that reading, saving and
 * exchange with an in-kernel APIC are plain copies. Registers that are computed when read (PPR,
 * current count, LDR in x2APIC mode) are brought up to date at that moment.
 */
#ifndef LODGE_MACHINE_LAPIC_H
#define LODGE_MACHINE_LAPIC_H

#include "base/err.h"
#include "cpu/cpu.h"
#include "machine/timers.h"

#include <stdbool.h>
#include <stdint.h>

#define LAPIC_BASE UINT64_C(0xfee00000)
#define LAPIC_SIZE UINT64_C(0x1000)

#define LAPIC_REGISTERS 64

/* Indexes into the register page. */
enum lapic_register {
    LAPIC_ID = 0x02,
    LAPIC_VERSION = 0x03,
    LAPIC_TPR = 0x08,
    LAPIC_APR = 0x09,
    LAPIC_PPR = 0x0a,
    LAPIC_EOI = 0x0b,
    LAPIC_RRD = 0x0c,
    LAPIC_LDR = 0x0d,
    LAPIC_DFR = 0x0e,
    LAPIC_SVR = 0x0f,
    LAPIC_ISR = 0x10, /* 8 registers each */
    LAPIC_TMR = 0x18,
    LAPIC_IRR = 0x20,
    LAPIC_ESR = 0x28,
    LAPIC_LVT_CMCI = 0x2f,
    LAPIC_ICR_LOW = 0x30,
    LAPIC_ICR_HIGH = 0x31,
    LAPIC_LVT_TIMER = 0x32,
    LAPIC_LVT_THERMAL = 0x33,
    LAPIC_LVT_PERFORMANCE = 0x34,
    LAPIC_LVT_LINT0 = 0x35,
    LAPIC_LVT_LINT1 = 0x36,
    LAPIC_LVT_ERROR = 0x37,
    LAPIC_TIMER_INITIAL = 0x38,
    LAPIC_TIMER_CURRENT = 0x39,
    LAPIC_TIMER_DIVIDE = 0x3e,
    LAPIC_SELF_IPI = 0x3f, /* x2APIC only */
};

#define LAPIC_BASE_BSP        (UINT64_C(1) << 8)
#define LAPIC_BASE_X2APIC     (UINT64_C(1) << 10)
#define LAPIC_BASE_ENABLE     (UINT64_C(1) << 11)
#define LAPIC_SVR_ENABLE      (1u << 8)
#define LAPIC_SVR_NO_EOI_CAST (1u << 12)
#define LAPIC_LVT_MASKED      (1u << 16)
#define LAPIC_LVT_LEVEL       (1u << 15)
#define LAPIC_LVT_TIMER_MODE  (3u << 17)
#define LAPIC_TIMER_ONE_SHOT  (0u << 17)
#define LAPIC_TIMER_PERIODIC  (1u << 17)
#define LAPIC_TIMER_DEADLINE  (2u << 17)
#define LAPIC_VERSION_VALUE   (0x14u | 5u << 16 | 1u << 24) /* 6 LVTs, EOI broadcast suppression */

#define LAPIC_ERROR_SEND_VECTOR    (1u << 5)
#define LAPIC_ERROR_RECEIVE_VECTOR (1u << 6)
#define LAPIC_ERROR_REGISTER       (1u << 7)

#define LAPIC_MSR_APIC_BASE    0x1bu
#define LAPIC_MSR_TSC_DEADLINE 0x6e0u
#define LAPIC_MSR_X2APIC       0x800u

struct lapic_state {
    uint64_t apic_base;
    uint64_t tsc_deadline;       /* guest TSC; 0: not armed */
    uint64_t timer_remaining_ns; /* to the next expiry; UINT64_MAX: the timer does not run */
    uint32_t error_pending;      /* errors since the last write to ESR */
    uint32_t reserved;
    uint32_t registers[LAPIC_REGISTERS];
};

struct irqchip;

struct lapic {
    struct irqchip *chip;
    unsigned index;
    struct cpu *cpu; /* NULL until attached */
    struct timer *timer;
    uint64_t timer_deadline_ns; /* next expiry, TIMER_NEVER while it does not run */
    bool deliverable;           /* written under the lock, read by irqchip.pending without */
    struct lapic_state state;
};

int lapic_init(struct lapic *lapic, struct irqchip *chip, unsigned index, struct err *err);
void lapic_done(struct lapic *lapic);

enum lapic_reset {
    LAPIC_RESET_POWER_ON,
    LAPIC_RESET_INIT,    /* the mode (APIC_BASE) and the id stay */
    LAPIC_RESET_DISABLE, /* APIC_BASE.EN went to 0 */
};
void lapic_reset_locked(struct lapic *lapic, enum lapic_reset kind);

/* Registers by index, as xAPIC (32 bits). */
uint32_t lapic_read_locked(struct lapic *lapic, unsigned index);
void lapic_write_locked(struct lapic *lapic, unsigned index, uint32_t value);
int lapic_msr_read_locked(struct lapic *lapic, uint32_t msr, uint64_t *ret);
int lapic_msr_write_locked(struct lapic *lapic, uint32_t msr, uint64_t value);

/* Puts a vector into IRR (or records the error of an illegal one). */
void lapic_accept_locked(struct lapic *lapic, uint8_t vector, bool level);
/* Moves the best vector from IRR to ISR and returns it; -1 when none may be delivered. */
int lapic_take_locked(struct lapic *lapic);
void lapic_eoi_locked(struct lapic *lapic);
/* Recomputes `deliverable` and requests the vCPU when it is set. */
void lapic_update_locked(struct lapic *lapic);
void lapic_error_locked(struct lapic *lapic, uint32_t bits);
void lapic_send_ipi_locked(struct lapic *lapic, uint64_t icr);
/* What an LVT other than the timer's does when its event comes. */
void lapic_local_event_locked(struct lapic *lapic, unsigned lvt);

uint8_t lapic_ppr_locked(const struct lapic *lapic);
uint32_t lapic_ldr_locked(const struct lapic *lapic);
bool lapic_wants_pic_locked(const struct lapic *lapic);

static inline bool lapic_enabled(const struct lapic *lapic)
{
    return lapic->state.apic_base & LAPIC_BASE_ENABLE;
}

static inline bool lapic_is_x2apic(const struct lapic *lapic)
{
    return lapic->state.apic_base & LAPIC_BASE_X2APIC;
}

/* Both by APIC_BASE and by the spurious vector register: takes fixed interrupts. */
static inline bool lapic_software_enabled(const struct lapic *lapic)
{
    return lapic_enabled(lapic) && lapic->state.registers[LAPIC_SVR] & LAPIC_SVR_ENABLE;
}

/* lapic_timer.c */
int lapic_timer_init(struct lapic *lapic, struct err *err);
void lapic_timer_stop_locked(struct lapic *lapic);
void lapic_timer_set_initial_locked(struct lapic *lapic, uint32_t count);
void lapic_timer_set_divide_locked(struct lapic *lapic, uint32_t value);
void lapic_timer_set_lvt_locked(struct lapic *lapic, uint32_t value);
uint32_t lapic_timer_current_locked(struct lapic *lapic);
uint64_t lapic_timer_deadline_locked(const struct lapic *lapic);
void lapic_timer_set_deadline_locked(struct lapic *lapic, uint64_t tsc);
void lapic_timer_save_locked(struct lapic *lapic, struct lapic_state *ret);
void lapic_timer_load_locked(struct lapic *lapic, uint64_t remaining_ns);

#endif
