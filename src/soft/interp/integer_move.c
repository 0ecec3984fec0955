/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data movement that is not hot: extensions in odd sizes, MOVBE, MOVNTI, exchanges with memory,
 * XADD, CMPXCHG, CMPXCHG8B/16B, XLAT.
 *
 * Source: SDM 2A/2B, the pages of the instructions.
 */
#include "soft/interp/compute.h"
#include "soft/interp/host_alu.h"
#include "soft/interp/integer.h"

static enum soft_result run_mov(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t value;
    enum soft_result result = integer_read(cpu, insn, 1, &value);

    return result ? result : integer_write(cpu, insn, 0, value);
}

static enum soft_result run_movsx(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t value;
    enum soft_result result = integer_read(cpu, insn, 1, &value);

    if (result)
        return result;
    return integer_write(cpu, insn, 0, (uint64_t)integer_sign_extend(value, insn->operand[1].size));
}

static enum soft_result run_movbe(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t value;
    enum soft_result result = integer_read(cpu, insn, 1, &value);

    if (result)
        return result;
    value = __builtin_bswap64(value) >> (64 - 8 * insn->operand[0].size);
    return integer_write(cpu, insn, 0, value);
}

static uint64_t compute_exchange(unsigned size, uint64_t a, uint64_t b, uint64_t *flags)
{
    (void)size, (void)a, (void)flags;
    return b;
}

/* XCHG with memory is LOCKed by itself. The memory operand may be either one. */
static enum soft_result run_xchg(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned memory = insn->operand[1].kind == INSN_OPERAND_MEM;
    const struct insn_operand *reg = &insn->operand[!memory];
    uint64_t flags = 0, old;
    enum soft_result result;

    if (insn->operand[memory].kind != INSN_OPERAND_MEM) {
        old = integer_register(cpu, &insn->operand[0]);
        integer_register_write(cpu, &insn->operand[0], integer_register(cpu, &insn->operand[1]));
        integer_register_write(cpu, &insn->operand[1], old);
        return SOFT_OK;
    }
    result = integer_modify_memory(cpu, insn->mem.segment, integer_address(cpu, insn), reg->size,
                                   true, compute_exchange, integer_register(cpu, reg), &flags,
                                   &old);
    if (!result)
        integer_register_write(cpu, reg, old);
    return result;
}

COMPUTE_BINARY(add)
COMPUTE_BINARY(cmp)

static enum soft_result run_xadd(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t b = integer_register(cpu, &insn->operand[1]), old;
    uint64_t flags = 0;
    enum soft_result result;

    if (insn->operand[0].kind == INSN_OPERAND_MEM) {
        result = integer_modify(cpu, insn, compute_add, b, &old);
        if (!result)
            integer_register_write(cpu, &insn->operand[1], old);
        return result;
    }
    /* The source is written first: XADD r, r leaves the sum. */
    old = integer_register(cpu, &insn->operand[0]);
    integer_register_write(cpu, &insn->operand[1], old);
    integer_register_write(cpu, &insn->operand[0],
                           compute_add(insn->operand[0].size, old, b, &flags));
    integer_set_flags(cpu, flags);
    return SOFT_OK;
}

/* What a compare-exchange in memory needs besides the new value. */
struct exchange {
    uint64_t expected, desired;
};

static uint64_t compute_compare_exchange(unsigned size, uint64_t a, uint64_t b, uint64_t *flags)
{
    const struct exchange *exchange = (const struct exchange *)(uintptr_t)b; /* NOLINT */

    compute_cmp(size, exchange->expected, a, flags);
    return a == exchange->expected ? exchange->desired : a;
}

/* The accumulator is written only when the comparison fails; memory is written in any case. */
static enum soft_result run_cmpxchg(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand[0].size;
    struct exchange exchange = {
        .expected = integer_gpr(cpu, CPU_RAX, size),
        .desired = integer_register(cpu, &insn->operand[1]),
    };
    uint64_t flags = 0, old;
    enum soft_result result;

    if (insn->operand[0].kind == INSN_OPERAND_MEM) {
        result = integer_modify_memory(cpu, insn->mem.segment, integer_address(cpu, insn), size,
                                       insn->prefixes & INSN_PREFIX_LOCK, compute_compare_exchange,
                                       (uint64_t)(uintptr_t)&exchange, &flags, &old);
        if (result)
            return result;
        if (old != exchange.expected)
            integer_gpr_write(cpu, CPU_RAX, size, old);
        integer_set_flags(cpu, flags);
        return SOFT_OK;
    }
    old = integer_register(cpu, &insn->operand[0]);
    compute_cmp(size, exchange.expected, old, &flags);
    if (old == exchange.expected) {
        integer_register_write(cpu, &insn->operand[0], exchange.desired);
    } else {
        integer_gpr_write(cpu, CPU_RAX, size, old);
    }
    integer_set_flags(cpu, flags);
    return SOFT_OK;
}

/* CMPXCHG8B, CMPXCHG16B: half is the size of each of rDX:rAX. */
static bool pair_exchange(struct soft_cpu *cpu, unsigned half, uint64_t low, uint64_t high,
                          uint64_t *ret_low, uint64_t *ret_high)
{
    bool equal = low == integer_gpr(cpu, CPU_RAX, half) && high == integer_gpr(cpu, CPU_RDX, half);

    *ret_low = equal ? integer_gpr(cpu, CPU_RBX, half) : low;
    *ret_high = equal ? integer_gpr(cpu, CPU_RCX, half) : high;
    return equal;
}

static void pair_finish(struct soft_cpu *cpu, unsigned half, bool equal, uint64_t low,
                        uint64_t high)
{
    if (equal) {
        cpu->rflags |= CPU_FLAG_ZF;
        return;
    }
    cpu->rflags &= ~CPU_FLAG_ZF;
    integer_gpr_write(cpu, CPU_RAX, half, low);
    integer_gpr_write(cpu, CPU_RDX, half, high);
}

static bool host_cmpxchg16b(void *host, uint64_t old[2], uint64_t low, uint64_t high)
{
    bool done;

    __asm__ volatile("lock cmpxchg16b %1"
                     : "=@ccz"(done), "+m"(*(unsigned __int128 *)host), "+a"(old[0]), "+d"(old[1])
                     : "b"(low), "c"(high)
                     : "memory");
    return done;
}

static enum soft_result run_cmpxchg16b(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t address = integer_address(cpu, insn);
    uint64_t old[2] = {cpu->gpr[CPU_RAX], cpu->gpr[CPU_RDX]}, new[2];
    enum soft_result result;
    uint64_t linear = address;
    void *host;
    bool equal;

    /* 64-bit mode only; alignment is checked before canonicality. */
    if (insn->mem.segment >= CPU_FS)
        linear += cpu->segment[insn->mem.segment].base;
    if (linear & 15)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    result = mmu_rmw_begin(cpu, insn->mem.segment, address, 16, &host);
    if (result)
        return result;
    if (host) {
        equal = host_cmpxchg16b(host, old, cpu->gpr[CPU_RBX], cpu->gpr[CPU_RCX]);
        mmu_rmw_done(cpu, host, 16);
    } else {
        integer_bus_lock(cpu->vm);
        result = mmu_load(cpu, insn->mem.segment, address, old, 16);
        equal = pair_exchange(cpu, 8, old[0], old[1], &new[0], &new[1]);
        if (!result)
            result = mmu_store(cpu, insn->mem.segment, address, new, 16);
        integer_bus_unlock(cpu->vm);
        if (result)
            return result;
    }
    pair_finish(cpu, 8, equal, old[0], old[1]);
    return SOFT_OK;
}

static uint64_t compute_pair(unsigned size, uint64_t a, uint64_t b, uint64_t *flags)
{
    const struct exchange *exchange = (const struct exchange *)(uintptr_t)b; /* NOLINT */

    (void)size, (void)flags;
    return a == exchange->expected ? exchange->desired : a;
}

static enum soft_result run_cmpxchg8b(struct soft_cpu *cpu, const struct insn *insn)
{
    struct exchange exchange = {
        .expected = integer_gpr(cpu, CPU_RDX, 4) << 32 | integer_gpr(cpu, CPU_RAX, 4),
        .desired = integer_gpr(cpu, CPU_RCX, 4) << 32 | integer_gpr(cpu, CPU_RBX, 4),
    };
    uint64_t flags = 0, old;
    enum soft_result result = integer_modify_memory(
        cpu, insn->mem.segment, integer_address(cpu, insn), 8, insn->prefixes & INSN_PREFIX_LOCK,
        compute_pair, (uint64_t)(uintptr_t)&exchange, &flags, &old);

    if (!result)
        pair_finish(cpu, 4, old == exchange.expected, (uint32_t)old, old >> 32);
    return result;
}

static enum soft_result run_xlat(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t address = (cpu->gpr[CPU_RBX] + (cpu->gpr[CPU_RAX] & 0xff)) &
                       integer_mask(insn->address_size);
    uint8_t value;
    enum soft_result result = mmu_load8(cpu, insn->mem.segment, address, &value);

    if (!result)
        integer_gpr_write(cpu, CPU_RAX, 1, value);
    return result;
}

const struct soft_handler integer_handlers_move[] = {
    {INSN_MOV, run_mov},
    {INSN_MOVZX, run_mov},
    {INSN_MOVSX, run_movsx},
    {INSN_MOVSXD, run_movsx},
    {INSN_MOVBE, run_movbe},
    {INSN_MOVNTI, run_mov},
    {INSN_XCHG, run_xchg},
    {INSN_XADD, run_xadd},
    {INSN_CMPXCHG, run_cmpxchg},
    {INSN_CMPXCHG8B, run_cmpxchg8b},
    {INSN_CMPXCHG16B, run_cmpxchg16b},
    {INSN_XLAT, run_xlat},
    {INSN_NONE, NULL},
};
