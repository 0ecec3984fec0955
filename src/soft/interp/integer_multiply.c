/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Multiplication, division and decimal adjustment. Division is checked for #DE first and then done
 * by the host, whose flags (undefined by the SDM) are taken.
 *
 * Source: SDM 2A/2B, the pages of the instructions.
 */
#include "soft/interp/host_alu.h"
#include "soft/interp/integer.h"

/* high:low = low * b (one operand MUL, IMUL, DIV, IDIV): the host's instruction on rAX and rDX. */
#define DEFINE_ONE_OPERAND(name, insn, bits)                                           \
    static void name##bits(uint64_t *low, uint64_t *high, uint64_t b, uint64_t *flags) \
    {                                                                                  \
        uint64_t f = *flags, a = *low, d = *high;                                      \
        __asm__("mov %[f], %%rax\n\t" HOST_FLAGS_IN "mov %[a], %%rax\n\t" insn         \
                " %" HOST_MODIFIER_##bits                                              \
                "[b]\n\t"                                                              \
                "mov %%rax, %[a]\n\tlahf\n\tseto %%al\n\tmov %%rax, %[f]"              \
                : [f] "+&r"(f), [a] "+&r"(a), "+&d"(d)                                 \
                : [b] "r"(b)                                                           \
                : "rax", "cc");                                                        \
        *low = a;                                                                      \
        *high = d;                                                                     \
        *flags = f & 0xffff;                                                           \
    }
#define EACH_ONE_OPERAND(name, insn)   \
    DEFINE_ONE_OPERAND(name, insn, 8)  \
    DEFINE_ONE_OPERAND(name, insn, 16) \
    DEFINE_ONE_OPERAND(name, insn, 32) \
    DEFINE_ONE_OPERAND(name, insn, 64)
EACH_ONE_OPERAND(mul, "mul")
EACH_ONE_OPERAND(imul, "imul")
EACH_ONE_OPERAND(div, "div")
EACH_ONE_OPERAND(idiv, "idiv")

typedef void one_operand_fn(uint64_t *low, uint64_t *high, uint64_t b, uint64_t *flags);

/* Runs fn on rDX:rAX (AX alone for bytes), whole registers in and out. */
static void on_accumulators(struct soft_cpu *cpu, unsigned size, one_operand_fn *const fn[4],
                            uint64_t b)
{
    uint64_t flags = interp_flags_to_host(cpu->rflags);

    fn[hot_size_index(size)](&cpu->gpr[CPU_RAX], &cpu->gpr[CPU_RDX], b, &flags);
    integer_set_flags(cpu, flags);
}

static enum soft_result run_mul(struct soft_cpu *cpu, const struct insn *insn)
{
    static one_operand_fn *const fn[4] = {mul8, mul16, mul32, mul64};
    uint64_t b;
    enum soft_result result = integer_read(cpu, insn, 0, &b);

    if (!result)
        on_accumulators(cpu, insn->operand[0].size, fn, b);
    return result;
}

static uint64_t compute_imul(unsigned size, uint64_t a, uint64_t b, uint64_t *flags)
{
    switch (size) {
    case 2:
        return host_imul16((uint16_t)a, (uint16_t)b, flags);
    case 4:
        return host_imul32((uint32_t)a, (uint32_t)b, flags);
    default:
        return host_imul64(a, b, flags);
    }
}

/* F6/F7: accumulators; 0F AF: two operands; 69/6B: three. */
static enum soft_result run_imul(struct soft_cpu *cpu, const struct insn *insn)
{
    static one_operand_fn *const fn[4] = {imul8, imul16, imul32, imul64};
    bool one = insn->map == 0 && (insn->opcode == 0xf6 || insn->opcode == 0xf7);
    uint64_t flags = interp_flags_to_host(cpu->rflags);
    enum soft_result result;
    uint64_t a, b;

    result = integer_read(cpu, insn, one ? 0 : 1, &b);
    if (result)
        return result;
    if (one) {
        on_accumulators(cpu, insn->operand[0].size, fn, b);
        return SOFT_OK;
    }
    a = insn->map == 1 ? integer_register(cpu, &insn->operand[0]) : insn->imm;
    a = compute_imul(insn->operand[0].size, a, b, &flags);
    integer_register_write(cpu, &insn->operand[0], a);
    integer_set_flags(cpu, flags);
    return SOFT_OK;
}

/* The dividend's halves; bytes: AX is high:low. */
static void dividend(const struct soft_cpu *cpu, unsigned size, uint64_t *low, uint64_t *high)
{
    if (size == 1) {
        *low = cpu->gpr[CPU_RAX] & 0xff;
        *high = (cpu->gpr[CPU_RAX] >> 8) & 0xff;
    } else {
        *low = integer_gpr(cpu, CPU_RAX, size);
        *high = integer_gpr(cpu, CPU_RDX, size);
    }
}

static enum soft_result run_div(struct soft_cpu *cpu, const struct insn *insn)
{
    static one_operand_fn *const fn[4] = {div8, div16, div32, div64};
    uint64_t b, low, high;
    enum soft_result result = integer_read(cpu, insn, 0, &b);

    if (result)
        return result;
    dividend(cpu, insn->operand[0].size, &low, &high);
    if (high >= b)
        return fault_raise(cpu, CPU_VECTOR_DE);
    on_accumulators(cpu, insn->operand[0].size, fn, b);
    return SOFT_OK;
}

/* Does the quotient of a signed division fit in `size` bytes? b is sign-extended and not 0. */
static bool quotient_fits(uint64_t low, uint64_t high, int64_t b, unsigned size)
{
    unsigned bits = 8 * size;
    __int128 value =
        (__int128)((unsigned __int128)(__int128)integer_sign_extend(high, size) << bits | low);
    unsigned __int128 magnitude = value < 0 ? -(unsigned __int128)value : (unsigned __int128)value;
    uint64_t divisor = b < 0 ? -(uint64_t)b : (uint64_t)b;
    unsigned __int128 most = (unsigned __int128)1 << (bits - 1);

    if ((value < 0) == (b < 0))
        most--;
    /* magnitude / divisor <= most, without overflow: most + 1 <= 2^63 + 1 */
    return magnitude < (most + 1) * divisor;
}

static enum soft_result run_idiv(struct soft_cpu *cpu, const struct insn *insn)
{
    static one_operand_fn *const fn[4] = {idiv8, idiv16, idiv32, idiv64};
    unsigned size = insn->operand[0].size;
    uint64_t b, low, high;
    enum soft_result result = integer_read(cpu, insn, 0, &b);

    if (result)
        return result;
    dividend(cpu, size, &low, &high);
    if (!b || !quotient_fits(low, high, integer_sign_extend(b, size), size))
        return fault_raise(cpu, CPU_VECTOR_DE);
    on_accumulators(cpu, size, fn, b);
    return SOFT_OK;
}

/* MULX high, low, r/m: the second destination is VEX.vvvv; when both are one register it gets the
 * high half. */
static enum soft_result run_mulx(struct soft_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->operand[0].size;
    unsigned __int128 product;
    uint64_t b;
    enum soft_result result = integer_read(cpu, insn, 2, &b);

    if (result)
        return result;
    product = (unsigned __int128)integer_gpr(cpu, CPU_RDX, size) * b;
    integer_register_write(cpu, &insn->operand[1], (uint64_t)product);
    integer_register_write(cpu, &insn->operand[0], (uint64_t)(product >> (8 * size)));
    return SOFT_OK;
}

static void al_ah_write(struct soft_cpu *cpu, uint8_t al, uint8_t ah)
{
    cpu->gpr[CPU_RAX] = (cpu->gpr[CPU_RAX] & ~UINT64_C(0xffff)) | (uint64_t)ah << 8 | al;
}

/* SF, ZF, PF of a byte; CF and AF as given. OF, undefined, is cleared. */
static void adjust_flags(struct soft_cpu *cpu, uint8_t value, bool carry, bool auxiliary)
{
    cpu->rflags &= ~CPU_FLAGS_STATUS;
    cpu->rflags |= (carry ? CPU_FLAG_CF : 0) | (auxiliary ? CPU_FLAG_AF : 0) |
                   (value ? 0 : CPU_FLAG_ZF) | (value & 0x80 ? CPU_FLAG_SF : 0) |
                   (__builtin_parity(value) ? 0 : CPU_FLAG_PF);
}

/* DAA, DAS */
static enum soft_result run_decimal(struct soft_cpu *cpu, const struct insn *insn)
{
    bool add = insn->id == INSN_DAA;
    uint8_t old = (uint8_t)cpu->gpr[CPU_RAX], value = old;
    bool old_carry = cpu->rflags & CPU_FLAG_CF, carry = false, auxiliary = false;

    if ((old & 0xf) > 9 || (cpu->rflags & CPU_FLAG_AF)) {
        carry = old_carry || (add ? old > 0xf9 : old < 6);
        value = (uint8_t)(add ? value + 6 : value - 6);
        auxiliary = true;
    }
    if (old > 0x99 || old_carry) {
        value = (uint8_t)(add ? value + 0x60 : value - 0x60);
        carry = true;
    } else if (add) {
        carry = false;
    }
    integer_gpr_write(cpu, CPU_RAX, 1, value);
    adjust_flags(cpu, value, carry, auxiliary);
    return SOFT_OK;
}

/* AAA, AAS */
static enum soft_result run_ascii(struct soft_cpu *cpu, const struct insn *insn)
{
    uint16_t ax = (uint16_t)cpu->gpr[CPU_RAX];
    bool adjust = (ax & 0xf) > 9 || (cpu->rflags & CPU_FLAG_AF);

    if (adjust)
        ax = (uint16_t)(insn->id == INSN_AAA ? ax + 0x106 : ax - 0x106);
    al_ah_write(cpu, ax & 0xf, (uint8_t)(ax >> 8));
    adjust_flags(cpu, ax & 0xf, adjust, adjust);
    return SOFT_OK;
}

static enum soft_result run_aam(struct soft_cpu *cpu, const struct insn *insn)
{
    uint8_t base = (uint8_t)insn->imm, al = (uint8_t)cpu->gpr[CPU_RAX];

    if (!base)
        return fault_raise(cpu, CPU_VECTOR_DE);
    al_ah_write(cpu, al % base, al / base);
    adjust_flags(cpu, al % base, false, false);
    return SOFT_OK;
}

static enum soft_result run_aad(struct soft_cpu *cpu, const struct insn *insn)
{
    uint8_t al = (uint8_t)cpu->gpr[CPU_RAX], ah = (uint8_t)(cpu->gpr[CPU_RAX] >> 8);
    uint8_t value = (uint8_t)(al + ah * (uint8_t)insn->imm);

    al_ah_write(cpu, value, 0);
    adjust_flags(cpu, value, false, false);
    return SOFT_OK;
}

const struct soft_handler integer_handlers_multiply[] = {
    {INSN_MUL, run_mul},   {INSN_IMUL, run_imul},   {INSN_DIV, run_div},     {INSN_IDIV, run_idiv},
    {INSN_MULX, run_mulx}, {INSN_DAA, run_decimal}, {INSN_DAS, run_decimal}, {INSN_AAA, run_ascii},
    {INSN_AAS, run_ascii}, {INSN_AAM, run_aam},     {INSN_AAD, run_aad},     {INSN_NONE, NULL},
};
