/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory for hot operations: the inline path of mmu_fast.h around out-of-line slow paths that
 * take and return registers only, so that the callers keep no addressable locals and can end in a
 * tail call.
 */
#ifndef LODGE_SOFT_INTERP_ACCESS_H
#define LODGE_SOFT_INTERP_ACCESS_H

#include "soft/interp/op.h"

#define INTERP_INLINE static inline __attribute__((always_inline))

struct interp_loaded {
    uint64_t value;
    uint64_t result; /* enum soft_result */
};

struct interp_loaded interp_load_slow(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                      unsigned size);
int interp_store_slow(struct soft_cpu *cpu, unsigned segment, uint64_t offset, unsigned size,
                      uint64_t value);
void interp_code_stored(struct soft_cpu *cpu, const void *host, unsigned size);

INTERP_INLINE uint64_t interp_address_F(struct soft_cpu *cpu, const struct interp_op *op)
{
    return INTERP_REG64(op->base) + (INTERP_REG64(op->index) << op->scale) +
           (uint64_t)op->displacement;
}

INTERP_INLINE uint64_t interp_address_G(struct soft_cpu *cpu, const struct interp_op *op)
{
    return interp_address_F(cpu, op) & op->mask;
}

/* F: the fast path need not look at the segment; only the slow one tells SS from DS. */
#define INTERP_SEGMENT_F(op) CPU_DS
#define INTERP_SEGMENT_G(op) ((op)->segment)

#define INTERP_DEFINE_ACCESS(bits, form)                                                          \
    INTERP_INLINE struct interp_loaded interp_load##bits##_##form(struct soft_cpu *cpu,           \
                                                                  const struct interp_op *op)     \
    {                                                                                             \
        uint64_t address = interp_address_##form(cpu, op);                                        \
        const volatile struct mmu_unaligned##bits *host =                                         \
            mmu_host_read_fast(cpu, INTERP_SEGMENT_##form(op), address, (bits) / 8);              \
                                                                                                  \
        if (UNLIKELY(!host))                                                                      \
            return interp_load_slow(cpu, op->segment, address, (bits) / 8);                       \
        return (struct interp_loaded){host->value, SOFT_OK};                                      \
    }                                                                                             \
    INTERP_INLINE int interp_store##bits##_##form(struct soft_cpu *cpu,                           \
                                                  const struct interp_op *op, uint64_t value)     \
    {                                                                                             \
        uint64_t address = interp_address_##form(cpu, op);                                        \
        uint8_t *code_byte;                                                                       \
        volatile struct mmu_unaligned##bits *host =                                               \
            mmu_host_write_fast(cpu, INTERP_SEGMENT_##form(op), address, (bits) / 8, &code_byte); \
                                                                                                  \
        if (UNLIKELY(!host))                                                                      \
            return interp_store_slow(cpu, op->segment, address, (bits) / 8, value);               \
        host->value = (uint##bits##_t)value;                                                      \
        if (UNLIKELY(*(volatile uint8_t *)code_byte))                                             \
            interp_code_stored(cpu, (const void *)(uintptr_t)host, (bits) / 8);                   \
        return SOFT_OK;                                                                           \
    }

#define INTERP_DEFINE_ACCESSES(bits) INTERP_DEFINE_ACCESS(bits, F) INTERP_DEFINE_ACCESS(bits, G)
INTERP_DEFINE_ACCESSES(8)
INTERP_DEFINE_ACCESSES(16)
INTERP_DEFINE_ACCESSES(32)
INTERP_DEFINE_ACCESSES(64)

/*
 * *address = COMPUTE(old value) for a memory destination without LOCK. Declares `old` and `value`;
 * COMMIT follows the store. For use as a whole function body.
 */
#define INTERP_RMW(bits, form, compute, commit)                                             \
    do {                                                                                    \
        uint64_t address_ = interp_address_##form(cpu, op);                                 \
        uint8_t *code_byte_;                                                                \
        uint##bits##_t old, value;                                                          \
        volatile struct mmu_unaligned##bits *host_ = mmu_host_write_fast(                   \
            cpu, INTERP_SEGMENT_##form(op), address_, (bits) / 8, &code_byte_);             \
                                                                                            \
        if (LIKELY(host_)) {                                                                \
            old = host_->value;                                                             \
            compute;                                                                        \
            host_->value = value;                                                           \
            commit;                                                                         \
            if (UNLIKELY(*(volatile uint8_t *)code_byte_))                                  \
                interp_code_stored(cpu, (const void *)(uintptr_t)host_, (bits) / 8);        \
        } else {                                                                            \
            struct interp_loaded loaded_ = interp_rmw_load_slow(cpu, op->segment, address_, \
                                                                (bits) / 8);                \
            int result_ = (int)loaded_.result;                                              \
                                                                                            \
            if (result_)                                                                    \
                return interp_leave_fault(cpu, op, result_);                                \
            old = (uint##bits##_t)loaded_.value;                                            \
            compute;                                                                        \
            result_ = interp_store_slow(cpu, op->segment, address_, (bits) / 8, value);     \
            if (result_)                                                                    \
                return interp_leave_fault(cpu, op, result_);                                \
            commit;                                                                         \
        }                                                                                   \
    } while (0)

/* Checks for writing, then loads. */
struct interp_loaded interp_rmw_load_slow(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                          unsigned size);

#endif
