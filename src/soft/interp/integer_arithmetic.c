/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic, logic and shifts in the forms that are not hot: LOCKed, shifts of memory, RCL and
 * RCR, SHLD and SHRD, ADCX and ADOX.
 *
 * Source: SDM 2A/2B, the pages of the instructions.
 */
#include "soft/interp/compute.h"
#include "soft/interp/integer.h"

/* A handler: operand[0] = compute(operand[0], operand[1]). */
#define MODIFY(name)                                                                     \
    static enum soft_result run_##name(struct soft_cpu *cpu, const struct insn *insn)    \
    {                                                                                    \
        uint64_t b = 0;                                                                  \
        enum soft_result result = insn->nr_operands > 1 ? integer_read(cpu, insn, 1, &b) \
                                                        : SOFT_OK;                       \
                                                                                         \
        return result ? result : integer_modify(cpu, insn, compute_##name, b, NULL);     \
    }
#define EACH_BINARY(X) X(add) X(or) X(adc) X(sbb) X(and) X(sub) X(xor)
#define EACH_UNARY(X)  X(inc) X(dec) X(neg) X(not )
#define EACH_SHIFT(X)  X(rol) X(ror) X(rcl) X(rcr) X(shl) X(shr) X(sar)
EACH_BINARY(COMPUTE_BINARY)
EACH_UNARY(COMPUTE_UNARY)
EACH_SHIFT(COMPUTE_SHIFT)
EACH_BINARY(MODIFY)
EACH_UNARY(MODIFY)
EACH_SHIFT(MODIFY)
COMPUTE_BINARY(cmp)
COMPUTE_BINARY(test)

static enum soft_result compare(struct soft_cpu *cpu, const struct insn *insn,
                                integer_compute_fn *compute)
{
    uint64_t flags = 0, a, b;
    enum soft_result result = integer_read(cpu, insn, 0, &a);

    if (!result)
        result = integer_read(cpu, insn, 1, &b);
    if (result)
        return result;
    compute(insn->operand[0].size, a, b, &flags);
    integer_set_flags(cpu, flags);
    return SOFT_OK;
}

static enum soft_result run_cmp(struct soft_cpu *cpu, const struct insn *insn)
{
    return compare(cpu, insn, compute_cmp);
}

static enum soft_result run_test(struct soft_cpu *cpu, const struct insn *insn)
{
    return compare(cpu, insn, compute_test);
}

/* The count is masked by the host; with 16 bits and a count above 16 it gives what it gives. */
static uint64_t shift_double(bool left, unsigned size, uint64_t a, uint64_t b, uint8_t count,
                             uint64_t *flags)
{
    switch (size) {
    case 2:
        return left ? host_shld16((uint16_t)a, (uint16_t)b, count, flags)
                    : host_shrd16((uint16_t)a, (uint16_t)b, count, flags);
    case 4:
        return left ? host_shld32((uint32_t)a, (uint32_t)b, count, flags)
                    : host_shrd32((uint32_t)a, (uint32_t)b, count, flags);
    default:
        return left ? host_shld64(a, b, count, flags) : host_shrd64(a, b, count, flags);
    }
}

/* SHLD, SHRD: two inputs besides the destination, and no LOCK. */
static enum soft_result run_double_shift(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t flags = interp_flags_to_host(cpu->rflags);
    unsigned size = insn->operand[0].size;
    uint64_t address = 0, a = 0, b, count;
    enum soft_result result;

    if (insn->operand[0].kind == INSN_OPERAND_MEM) {
        address = integer_address(cpu, insn);
        result = mmu_probe_store(cpu, insn->mem.segment, address, size);
        if (result)
            return result;
    }
    result = integer_read(cpu, insn, 0, &a);
    if (!result)
        result = integer_read(cpu, insn, 1, &b);
    if (!result)
        result = integer_read(cpu, insn, 2, &count);
    if (result)
        return result;
    a = shift_double(insn->id == INSN_SHLD, size, a, b, (uint8_t)count, &flags);
    result = integer_write(cpu, insn, 0, a);
    if (!result)
        integer_set_flags(cpu, flags);
    return result;
}

static uint64_t compute_adcx(unsigned size, uint64_t a, uint64_t b, uint64_t *flags)
{
    return size == 8 ? host_adcx64(a, b, flags) : host_adcx32((uint32_t)a, (uint32_t)b, flags);
}

static uint64_t compute_adox(unsigned size, uint64_t a, uint64_t b, uint64_t *flags)
{
    return size == 8 ? host_adox64(a, b, flags) : host_adox32((uint32_t)a, (uint32_t)b, flags);
}
MODIFY(adcx)
MODIFY(adox)

const struct soft_handler integer_handlers_arithmetic[] = {
    {INSN_ADD, run_add},
    {INSN_OR, run_or},
    {INSN_ADC, run_adc},
    {INSN_SBB, run_sbb},
    {INSN_AND, run_and},
    {INSN_SUB, run_sub},
    {INSN_XOR, run_xor},
    {INSN_CMP, run_cmp},
    {INSN_TEST, run_test},
    {INSN_INC, run_inc},
    {INSN_DEC, run_dec},
    {INSN_NEG, run_neg},
    {INSN_NOT, run_not},
    {INSN_ROL, run_rol},
    {INSN_ROR, run_ror},
    {INSN_RCL, run_rcl},
    {INSN_RCR, run_rcr},
    {INSN_SHL, run_shl},
    {INSN_SHR, run_shr},
    {INSN_SAR, run_sar},
    {INSN_SHLD, run_double_shift},
    {INSN_SHRD, run_double_shift},
    {INSN_ADCX, run_adcx},
    {INSN_ADOX, run_adox},
    {INSN_NONE, NULL},
};
