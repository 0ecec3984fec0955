/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operand access for integer handlers (integer.h).
 *
 * A LOCKed operation is a compare-and-swap loop on guest memory as the host maps it, so it is
 * atomic against every other vCPU's plain and LOCKed accesses. Where no single host access can do
 * it (across a cache line or page, MMIO) the VM's bus lock orders it against other such operations
 * only; guests that split locks across lines get atomicity among those.
 */
#include "soft/interp/integer.h"

uint64_t integer_register(const struct soft_cpu *cpu, const struct insn_operand *operand)
{
    if (operand->reg_class == INSN_REG_GPR8_HIGH)
        return (cpu->gpr[operand->reg] >> 8) & 0xff;
    return integer_gpr(cpu, operand->reg, operand->size);
}

void integer_register_write(struct soft_cpu *cpu, const struct insn_operand *operand,
                            uint64_t value)
{
    if (operand->reg_class == INSN_REG_GPR8_HIGH)
        cpu->gpr[operand->reg] = (cpu->gpr[operand->reg] & ~UINT64_C(0xff00)) | (value & 0xff) << 8;
    else
        integer_gpr_write(cpu, operand->reg, operand->size, value);
}

enum soft_result integer_read(struct soft_cpu *cpu, const struct insn *insn, unsigned i,
                              uint64_t *ret)
{
    const struct insn_operand *operand = &insn->operand[i];

    switch (operand->kind) {
    case INSN_OPERAND_REG:
        *ret = integer_register(cpu, operand);
        return SOFT_OK;
    case INSN_OPERAND_MEM:
        *ret = 0;
        return mmu_load(cpu, insn->mem.segment, integer_address(cpu, insn), ret, operand->size);
    default:
        *ret = insn->imm;
        return SOFT_OK;
    }
}

enum soft_result integer_write(struct soft_cpu *cpu, const struct insn *insn, unsigned i,
                               uint64_t value)
{
    const struct insn_operand *operand = &insn->operand[i];

    if (operand->kind == INSN_OPERAND_MEM)
        return mmu_store(cpu, insn->mem.segment, integer_address(cpu, insn), &value, operand->size);
    integer_register_write(cpu, operand, value);
    return SOFT_OK;
}

void integer_bus_lock(struct soft_vm *vm)
{
    while (__atomic_exchange_n(&vm->bus_lock, 1, __ATOMIC_ACQUIRE))
        __builtin_ia32_pause();
}

void integer_bus_unlock(struct soft_vm *vm)
{
    __atomic_store_n(&vm->bus_lock, 0, __ATOMIC_RELEASE);
}

static uint64_t host_load(const void *host, unsigned size)
{
    switch (size) {
    case 1:
        return *(const volatile uint8_t *)host;
    case 2:
        return ((const volatile struct mmu_unaligned16 *)host)->value;
    case 4:
        return ((const volatile struct mmu_unaligned32 *)host)->value;
    default:
        return ((const volatile struct mmu_unaligned64 *)host)->value;
    }
}

static void host_store(void *host, unsigned size, uint64_t value)
{
    switch (size) {
    case 1:
        *(volatile uint8_t *)host = (uint8_t)value;
        break;
    case 2:
        ((volatile struct mmu_unaligned16 *)host)->value = (uint16_t)value;
        break;
    case 4:
        ((volatile struct mmu_unaligned32 *)host)->value = (uint32_t)value;
        break;
    default:
        ((volatile struct mmu_unaligned64 *)host)->value = value;
    }
}

/* *host == *old ? *host = value : (*old = *host). One LOCK CMPXCHG, aligned or not. */
static bool host_compare_exchange(void *host, unsigned size, uint64_t *old, uint64_t value)
{
    uint64_t expected = *old;
    bool done;

    switch (size) {
    case 1:
        __asm__ volatile("lock cmpxchgb %b3, %1"
                         : "=@ccz"(done), "+m"(*(uint8_t *)host), "+a"(expected)
                         : "q"(value)
                         : "memory");
        break;
    case 2:
        __asm__ volatile("lock cmpxchgw %w3, %1"
                         : "=@ccz"(done), "+m"(*(struct mmu_unaligned16 *)host), "+a"(expected)
                         : "r"(value)
                         : "memory");
        break;
    case 4:
        __asm__ volatile("lock cmpxchgl %k3, %1"
                         : "=@ccz"(done), "+m"(*(struct mmu_unaligned32 *)host), "+a"(expected)
                         : "r"(value)
                         : "memory");
        break;
    default:
        __asm__ volatile("lock cmpxchgq %3, %1"
                         : "=@ccz"(done), "+m"(*(struct mmu_unaligned64 *)host), "+a"(expected)
                         : "r"(value)
                         : "memory");
    }
    *old = expected & integer_mask(size);
    return done;
}

/* Where no single host access will do. */
static enum soft_result modify_slowly(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                      unsigned size, bool atomic, integer_compute_fn *compute,
                                      uint64_t b, uint64_t *flags, uint64_t *ret_old)
{
    enum soft_result result = mmu_probe_store(cpu, segment, offset, size);
    uint64_t old = 0, value;

    if (result)
        return result;
    if (atomic)
        integer_bus_lock(cpu->vm);
    result = mmu_load(cpu, segment, offset, &old, size);
    if (!result) {
        value = compute(size, old, b, flags);
        result = mmu_store(cpu, segment, offset, &value, size);
    }
    if (atomic)
        integer_bus_unlock(cpu->vm);
    *ret_old = old;
    return result;
}

enum soft_result integer_modify_memory(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                       unsigned size, bool atomic, integer_compute_fn *compute,
                                       uint64_t b, uint64_t *flags, uint64_t *ret_old)
{
    uint64_t old, value, result_flags;
    enum soft_result result;
    void *host;

    result = mmu_rmw_begin(cpu, segment, offset, size, &host);
    if (result)
        return result;
    if (!host)
        return modify_slowly(cpu, segment, offset, size, atomic, compute, b, flags, ret_old);
    old = host_load(host, size);
    do {
        result_flags = *flags;
        value = compute(size, old, b, &result_flags);
        if (!atomic) {
            host_store(host, size, value);
            break;
        }
    } while (!host_compare_exchange(host, size, &old, value));
    *flags = result_flags;
    *ret_old = old;
    mmu_rmw_done(cpu, host, size);
    return SOFT_OK;
}

enum soft_result integer_modify(struct soft_cpu *cpu, const struct insn *insn,
                                integer_compute_fn *compute, uint64_t b, uint64_t *ret_old)
{
    const struct insn_operand *operand = &insn->operand[0];
    uint64_t flags = interp_flags_to_host(cpu->rflags);
    enum soft_result result;
    uint64_t old = 0;

    if (operand->kind == INSN_OPERAND_MEM) {
        result = integer_modify_memory(cpu, insn->mem.segment, integer_address(cpu, insn),
                                       operand->size, insn->prefixes & INSN_PREFIX_LOCK, compute, b,
                                       &flags, &old);
        if (result)
            return result;
    } else {
        old = integer_register(cpu, operand);
        integer_register_write(cpu, operand, compute(operand->size, old, b, &flags));
    }
    if (ret_old)
        *ret_old = old;
    integer_set_flags(cpu, flags);
    return SOFT_OK;
}
