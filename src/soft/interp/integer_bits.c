/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bit tests (with bit strings in memory), bit scans and counts, BMI1, BMI2, CRC32 and BSWAP.
 *
 * Source: SDM 2A/2B/2C, the pages of the instructions.
 */
#include "soft/interp/compute.h"
#include "soft/interp/integer.h"

COMPUTE_WIDE(bt)
COMPUTE_WIDE(bts)
COMPUTE_WIDE(btr)
COMPUTE_WIDE(btc)
COMPUTE_WIDE(bsf)
COMPUTE_WIDE(bsr)
COMPUTE_WIDE(popcnt)
COMPUTE_WIDE(lzcnt)
COMPUTE_WIDE(tzcnt)

/* A bit offset in a register reaches beyond the operand: the address moves by whole operands. */
static uint64_t bit_string_address(const struct soft_cpu *cpu, const struct insn *insn,
                                   uint64_t bit)
{
    unsigned size = insn->operand[0].size;
    uint64_t address = integer_address(cpu, insn);

    if (insn->operand[1].kind != INSN_OPERAND_REG)
        return address;
    address += (uint64_t)((integer_sign_extend(bit, size) >> (size == 8   ? 6
                                                              : size == 4 ? 5
                                                                          : 4)) *
                          (int64_t)size);
    return address & integer_mask(insn->address_size);
}

static enum soft_result run_bt(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t flags = interp_flags_to_host(cpu->rflags);
    unsigned size = insn->operand[0].size;
    uint64_t bit, value = 0;
    enum soft_result result = integer_read(cpu, insn, 1, &bit);

    if (insn->operand[0].kind == INSN_OPERAND_MEM)
        result = mmu_load(cpu, insn->mem.segment, bit_string_address(cpu, insn, bit), &value, size);
    else
        value = integer_register(cpu, &insn->operand[0]);
    if (result)
        return result;
    compute_bt(size, value, bit, &flags);
    integer_set_flags(cpu, flags);
    return SOFT_OK;
}

static enum soft_result run_bit_modify(struct soft_cpu *cpu, const struct insn *insn)
{
    integer_compute_fn *compute = insn->id == INSN_BTS   ? compute_bts
                                  : insn->id == INSN_BTR ? compute_btr
                                                         : compute_btc;
    uint64_t flags = interp_flags_to_host(cpu->rflags);
    enum soft_result result;
    uint64_t bit, old;

    integer_read(cpu, insn, 1, &bit);
    if (insn->operand[0].kind != INSN_OPERAND_MEM)
        return integer_modify(cpu, insn, compute, bit, NULL);
    result = integer_modify_memory(cpu, insn->mem.segment, bit_string_address(cpu, insn, bit),
                                   insn->operand[0].size, insn->prefixes & INSN_PREFIX_LOCK,
                                   compute, bit, &flags, &old);
    if (!result)
        integer_set_flags(cpu, flags);
    return result;
}

/* BSF, BSR leave the destination alone when the source is zero. */
static enum soft_result run_bit_scan(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t flags = interp_flags_to_host(cpu->rflags);
    unsigned size = insn->operand[0].size;
    uint64_t value, source;
    enum soft_result result = integer_read(cpu, insn, 1, &source);

    if (result)
        return result;
    value = integer_register(cpu, &insn->operand[0]);
    value = insn->id == INSN_BSF ? compute_bsf(size, value, source, &flags)
                                 : compute_bsr(size, value, source, &flags);
    if (source)
        integer_register_write(cpu, &insn->operand[0], value);
    integer_set_flags(cpu, flags);
    return SOFT_OK;
}

static enum soft_result run_bit_count(struct soft_cpu *cpu, const struct insn *insn)
{
    integer_compute_fn *compute = insn->id == INSN_POPCNT  ? compute_popcnt
                                  : insn->id == INSN_LZCNT ? compute_lzcnt
                                                           : compute_tzcnt;
    uint64_t flags = interp_flags_to_host(cpu->rflags);
    uint64_t source;
    enum soft_result result = integer_read(cpu, insn, 1, &source);

    if (result)
        return result;
    integer_register_write(cpu, &insn->operand[0],
                           compute(insn->operand[0].size, 0, source, &flags));
    integer_set_flags(cpu, flags);
    return SOFT_OK;
}

static enum soft_result run_bswap(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t value = integer_register(cpu, &insn->operand[0]);

    if (insn->operand[0].size == 2)
        value = 0; /* undefined; what processors give */
    else
        value = insn->operand[0].size == 8 ? __builtin_bswap64(value)
                                           : __builtin_bswap32((uint32_t)value);
    integer_register_write(cpu, &insn->operand[0], value);
    return SOFT_OK;
}

/* destination = name(operand[1], operand[2]) */
#define THREE_OPERANDS(name, first, second)                                           \
    static enum soft_result run_##name(struct soft_cpu *cpu, const struct insn *insn) \
    {                                                                                 \
        uint64_t flags = interp_flags_to_host(cpu->rflags);                           \
        uint64_t b, c, value;                                                         \
        enum soft_result result = integer_read(cpu, insn, 1, &b);                     \
                                                                                      \
        if (!result)                                                                  \
            result = integer_read(cpu, insn, 2, &c);                                  \
        if (result)                                                                   \
            return result;                                                            \
        value = insn->operand[0].size == 8                                            \
                    ? host_##name##64(first, second, &flags)                          \
                    : host_##name##32((uint32_t)(first), (uint32_t)(second), &flags); \
        integer_register_write(cpu, &insn->operand[0], value);                        \
        integer_set_flags(cpu, flags);                                                \
        return SOFT_OK;                                                               \
    }
THREE_OPERANDS(andn, b, c)
THREE_OPERANDS(pdep, b, c)
THREE_OPERANDS(pext, b, c)
/* r/m is the first source, VEX.vvvv the second */
THREE_OPERANDS(bextr, b, c)
THREE_OPERANDS(bzhi, b, c)
THREE_OPERANDS(sarx, b, c)
THREE_OPERANDS(shlx, b, c)
THREE_OPERANDS(shrx, b, c)

#define TWO_OPERANDS(name)                                                                         \
    static enum soft_result run_##name(struct soft_cpu *cpu, const struct insn *insn)              \
    {                                                                                              \
        uint64_t flags = interp_flags_to_host(cpu->rflags);                                        \
        uint64_t b;                                                                                \
        enum soft_result result = integer_read(cpu, insn, 1, &b);                                  \
                                                                                                   \
        if (result)                                                                                \
            return result;                                                                         \
        integer_register_write(cpu, &insn->operand[0],                                             \
                               insn->operand[0].size == 8 ? host_##name##64(b, &flags)             \
                                                          : host_##name##32((uint32_t)b, &flags)); \
        integer_set_flags(cpu, flags);                                                             \
        return SOFT_OK;                                                                            \
    }
TWO_OPERANDS(blsi)
TWO_OPERANDS(blsmsk)
TWO_OPERANDS(blsr)

static enum soft_result run_rorx(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned bits = 8u * insn->operand[0].size;
    unsigned count = (unsigned)insn->imm & (bits - 1);
    uint64_t value;
    enum soft_result result = integer_read(cpu, insn, 1, &value);

    if (result)
        return result;
    if (count)
        value = value >> count | value << (bits - count);
    integer_register_write(cpu, &insn->operand[0], value);
    return SOFT_OK;
}

/* CRC32C, polynomial 11EDC6F41h, bit-reflected. */
static enum soft_result run_crc32(struct soft_cpu *cpu, const struct insn *insn)
{
    uint32_t crc = (uint32_t)cpu->gpr[insn->operand[0].reg];
    uint64_t value;
    enum soft_result result = integer_read(cpu, insn, 1, &value);

    if (result)
        return result;
    for (unsigned bit = 0; bit < 8u * insn->operand[1].size; bit++) {
        uint32_t low = (crc ^ (uint32_t)(value >> bit)) & 1;

        crc = crc >> 1 ^ (low ? 0x82f63b78u : 0);
    }
    cpu->gpr[insn->operand[0].reg] = crc;
    return SOFT_OK;
}

const struct soft_handler integer_handlers_bits[] = {
    {INSN_BT, run_bt},
    {INSN_BTS, run_bit_modify},
    {INSN_BTR, run_bit_modify},
    {INSN_BTC, run_bit_modify},
    {INSN_BSF, run_bit_scan},
    {INSN_BSR, run_bit_scan},
    {INSN_POPCNT, run_bit_count},
    {INSN_LZCNT, run_bit_count},
    {INSN_TZCNT, run_bit_count},
    {INSN_BSWAP, run_bswap},
    {INSN_ANDN, run_andn},
    {INSN_BEXTR, run_bextr},
    {INSN_BZHI, run_bzhi},
    {INSN_PDEP, run_pdep},
    {INSN_PEXT, run_pext},
    {INSN_SARX, run_sarx},
    {INSN_SHLX, run_shlx},
    {INSN_SHRX, run_shrx},
    {INSN_BLSI, run_blsi},
    {INSN_BLSMSK, run_blsmsk},
    {INSN_BLSR, run_blsr},
    {INSN_RORX, run_rorx},
    {INSN_CRC32, run_crc32},
    {INSN_NONE, NULL},
};
