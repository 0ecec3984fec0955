/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where our decoder and Zydis 4.0 differ on purpose, each with its reason.
 */
#include "decode_oracle.h"

#include "cpu/state.h"

#include <string.h>

/* clang-format off */
/* Extensions that the CPUID policy always hides: undefined. */
static const uint16_t hidden_sets[] = {
    ZYDIS_ISA_SET_AMD3DNOW, ZYDIS_ISA_SET_AMD_INVLPGB, ZYDIS_ISA_SET_AMX_BF16, ZYDIS_ISA_SET_AMX_INT8,
    ZYDIS_ISA_SET_AMX_TILE, ZYDIS_ISA_SET_AVX_VNNI, ZYDIS_ISA_SET_CET, ZYDIS_ISA_SET_CLZERO,
    ZYDIS_ISA_SET_ENQCMD, ZYDIS_ISA_SET_FMA4, ZYDIS_ISA_SET_HRESET, ZYDIS_ISA_SET_KEYLOCKER,
    ZYDIS_ISA_SET_KEYLOCKER_WIDE, ZYDIS_ISA_SET_KNCE, ZYDIS_ISA_SET_KNCJKBR, ZYDIS_ISA_SET_KNCSTREAM,
    ZYDIS_ISA_SET_KNCV, ZYDIS_ISA_SET_KNC_MISC, ZYDIS_ISA_SET_KNC_PF_HINT, ZYDIS_ISA_SET_LWP, ZYDIS_ISA_SET_MCOMMIT, ZYDIS_ISA_SET_MONITORX,
    ZYDIS_ISA_SET_MOVDIR, ZYDIS_ISA_SET_MPX, ZYDIS_ISA_SET_PADLOCK_ACE, ZYDIS_ISA_SET_PADLOCK_PHE,
    ZYDIS_ISA_SET_PADLOCK_PMM, ZYDIS_ISA_SET_PADLOCK_RNG, ZYDIS_ISA_SET_PCONFIG, ZYDIS_ISA_SET_PKU,
    ZYDIS_ISA_SET_PT, ZYDIS_ISA_SET_RDPRU, ZYDIS_ISA_SET_RTM, ZYDIS_ISA_SET_SERIALIZE, ZYDIS_ISA_SET_SGX,
    ZYDIS_ISA_SET_SGX_ENCLV, ZYDIS_ISA_SET_SMX, ZYDIS_ISA_SET_SNP, ZYDIS_ISA_SET_TBM, ZYDIS_ISA_SET_TDX,
    ZYDIS_ISA_SET_TSX_LDTRK, ZYDIS_ISA_SET_UINTR, ZYDIS_ISA_SET_VMFUNC, ZYDIS_ISA_SET_WAITPKG,
    ZYDIS_ISA_SET_XOP,
};
/* clang-format on */

static bool hidden(const struct oracle_case *c)
{
    if (!c->valid || c->result != INSN_UNDEFINED)
        return false;
    if (c->theirs.meta.isa_set >= ZYDIS_ISA_SET_AVX512BW_128 &&
        c->theirs.meta.isa_set <= ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_512)
        return true;
    for (size_t i = 0; i < sizeof(hidden_sets) / sizeof(hidden_sets[0]); i++)
        if (hidden_sets[i] == c->theirs.meta.isa_set)
            return true;
    return false;
}

static bool virtualization(const struct oracle_case *c)
{
    return c->valid && c->result == INSN_UNDEFINED &&
           (c->theirs.meta.isa_set == ZYDIS_ISA_SET_VTX ||
            c->theirs.meta.isa_set == ZYDIS_ISA_SET_SVM);
}

/* Ours reads and writes the first operand, theirs only writes it. */
static bool also_read(const struct oracle_case *c)
{
    static const uint16_t ids[] = {
        /* the destination may stay as it was */
        INSN_CMOVCC, INSN_FCMOVB, INSN_FCMOVE, INSN_FCMOVBE, INSN_FCMOVU, INSN_FCMOVNB,
        INSN_FCMOVNE, INSN_FCMOVNBE, INSN_FCMOVNU, INSN_BSF, INSN_BSR, INSN_LAR, INSN_LSL,
        /* a part of the destination stays as it was */
        INSN_MOVLPS, INSN_MOVLPD, INSN_MOVHPS, INSN_MOVHPD, INSN_MOVHLPS, INSN_MOVLHPS,
        INSN_CVTPI2PS, INSN_MOVSS, INSN_MOVSD, INSN_SQRTSS, INSN_SQRTSD, INSN_RSQRTSS, INSN_RCPSS,
        INSN_ROUNDSS, INSN_ROUNDSD, INSN_CVTSS2SD, INSN_CVTSD2SS, INSN_CVTSI2SS, INSN_CVTSI2SD,
        INSN_EXTRQ, INSN_INSERTQ};

    if (c->ours.operand[0].access != (INSN_READ | INSN_WRITE))
        return false;
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
        if (ids[i] == c->ours.id)
            return true;
    return false;
}

/* Names its operand, but does not access it. */
static bool no_access(const struct oracle_case *c)
{
    switch (c->ours.id) {
    case INSN_NOP:
    case INSN_UD0:
    case INSN_UD1:
    case INSN_LEA:
    case INSN_INVLPG:
    case INSN_PREFETCH:
    case INSN_PREFETCHW:
    case INSN_PREFETCHNTA:
    case INSN_PREFETCHT0:
    case INSN_PREFETCHT1:
    case INSN_PREFETCHT2:
    case INSN_CLFLUSH:
    case INSN_CLFLUSHOPT:
    case INSN_CLWB:
        return true;
    default:
        return false;
    }
}

static bool xsave_area(const struct oracle_case *c)
{
    return c->ours.feature >= INSN_FEATURE_XSAVE && c->ours.feature <= INSN_FEATURE_XSAVES &&
           c->ours.operand[0].kind == INSN_OPERAND_MEM && c->ours.operand[0].size == 0;
}

static bool shift_or_rotate(const struct oracle_case *c)
{
    switch (c->ours.id) {
    case INSN_ROL:
    case INSN_ROR:
    case INSN_RCL:
    case INSN_RCR:
    case INSN_SHL:
    case INSN_SHR:
    case INSN_SAR:
    case INSN_SHLD:
    case INSN_SHRD:
        return true;
    default:
        return false;
    }
}

static bool shift_by_cl(const struct oracle_case *c)
{
    const struct insn_operand *count;

    if (!shift_or_rotate(c))
        return false;
    count = &c->ours.operand[c->ours.nr_operands - 1];
    return count->kind == INSN_OPERAND_REG && count->reg == CPU_RCX;
}

static bool shift_by_constant(const struct oracle_case *c)
{
    return shift_or_rotate(c) &&
           c->ours.operand[c->ours.nr_operands - 1].kind == INSN_OPERAND_IMM &&
           (c->ours.imm & 31) <= 1;
}

static bool rep_compare(const struct oracle_case *c)
{
    return (c->ours.id == INSN_CMPS || c->ours.id == INSN_SCAS) &&
           (c->ours.prefixes & (INSN_PREFIX_REP | INSN_PREFIX_REPNE));
}

static bool software_interrupt(const struct oracle_case *c)
{
    return c->ours.id == INSN_INT || c->ours.id == INSN_INT1 || c->ours.id == INSN_INT3 ||
           c->ours.id == INSN_INTO || c->ours.id == INSN_SYSCALL;
}

static bool vex_test(const struct oracle_case *c)
{
    return c->ours.id == INSN_VTESTPS || c->ours.id == INSN_VTESTPD || c->ours.id == INSN_VPTEST;
}

static bool ascii_adjust(const struct oracle_case *c)
{
    return c->ours.id == INSN_AAA || c->ours.id == INSN_AAS || c->ours.id == INSN_AAM ||
           c->ours.id == INSN_AAD;
}

/* mod 0, SIB.base 5, REX.B: no base register, whatever the address size. */
static bool no_base_67(const struct oracle_case *c)
{
    const struct insn *i = &c->ours;

    return i->has_modrm && i->modrm < 0x40 && (i->modrm & 7) == 4 && i->address_size == 4 &&
           (i->rex & 1) && i->mode == INSN_MODE_64 && (c->bytes[i->modrm_offset + 1] & 7) == 5 &&
           i->mem.base == INSN_NO_REG;
}

static bool compat_w1(const struct oracle_case *c)
{
    return c->ours.mode != INSN_MODE_64 && c->ours.vex_w;
}

static bool pause_r8(const struct oracle_case *c)
{
    return c->theirs.mnemonic == ZYDIS_MNEMONIC_PAUSE && (c->ours.rex & 1);
}

static bool rex_w(const struct oracle_case *c)
{
    return c->ours.rex & 8;
}

static bool operand_16(const struct oracle_case *c)
{
    return c->ours.operand_size == 2;
}

static const struct {
    bool (*applies)(const struct oracle_case *c); /* NULL: always */
    unsigned fields;
    uint16_t id; /* 0: any */
    const char *reason;
} exemptions[] = {
    {hidden, FIELD_VALID, 0, "hidden extension"},
    {virtualization, FIELD_VALID, 0, "VMX and SVM are hidden, but for VMCALL and VMMCALL"},
    {also_read, FIELD_ACCESS, 0, "a part or all of the destination may be kept: counts as read"},
    {no_access, FIELD_ACCESS | FIELD_SIZE, 0, "names its operand without accessing it"},
    {NULL, FIELD_OPERANDS, INSN_NOP, "Zydis lists ModRM.reg of the hint NOP space"},
    {NULL, FIELD_ACCESS, INSN_FFREE, "changes the tag only; Zydis has a read"},
    {NULL, FIELD_ACCESS, INSN_FFREEP, "changes the tag only; Zydis has a read"},
    {xsave_area, FIELD_SIZE, 0, "the size depends on XCR0 and the mask: 0"},
    {xsave_area, FIELD_ACCESS, 0, "XSAVE and XSAVEOPT also read the header"},
    {shift_by_cl, FIELD_FLAGS_READ, 0, "count 0 keeps the flags: counts as a read"},
    {shift_by_constant, FIELD_FLAGS_READ | FIELD_FLAGS_WRITTEN, 0,
     "count 0 keeps the flags, count 1 defines OF"},
    {rep_compare, FIELD_FLAGS_READ, 0, "rCX 0 keeps the flags: counts as a read"},
    {software_interrupt, FIELD_FLAGS_READ, 0, "RFLAGS is saved"},
    {vex_test, FIELD_FLAGS_WRITTEN, 0, "also clears AF, OF, PF, SF (SDM); Zydis omits them"},
    {NULL, FIELD_FLAGS_WRITTEN, INSN_SBB, "AF is defined (SDM); Zydis has undefined"},
    {NULL, FIELD_FLAGS_WRITTEN, INSN_BEXTR, "CF and OF are cleared (SDM); Zydis has undefined"},
    {NULL, FIELD_FLAGS_READ | FIELD_FLAGS_WRITTEN, INSN_VMCALL, "as a guest sees it: no flag"},
    {ascii_adjust, FIELD_OPERANDS, 0, "AX in one; Zydis has AL and AH"},
    {no_base_67, FIELD_MEMORY, 0, "SDM table 2-5: no base; Zydis gives r13d under 67"},
    {compat_w1, FIELD_OPERANDS, INSN_VPCMPESTRI, "no 64-bit registers; Zydis has rax and rdx"},
    {compat_w1, FIELD_OPERANDS, INSN_VPCMPESTRM, "no 64-bit registers; Zydis has rax and rdx"},
    {pause_r8, FIELD_NAME | FIELD_OPERANDS, INSN_XCHG, "F3 41 90 exchanges r8 and rax"},
    {NULL, FIELD_OPERANDS, INSN_MONITOR, "registers of the mode's size; Zydis follows 67"},
    {rex_w, FIELD_OPERANDS, INSN_LSL, "a selector: the source's upper part does not matter"},
    {NULL, FIELD_NAME, INSN_WBNOINVD, "Zydis 4.0 names F3 0F 09 WBINVD"},
    {operand_16, FIELD_SIZE, INSN_MOVSXD, "SDM: r16, r/m16; Zydis reads 32 bits"},
};

const char *decode_exemption(const struct oracle_case *c, enum oracle_field field)
{
    for (size_t i = 0; i < sizeof(exemptions) / sizeof(exemptions[0]); i++)
        if ((exemptions[i].fields & field) &&
            (!exemptions[i].id || exemptions[i].id == c->ours.id) &&
            (!exemptions[i].applies || exemptions[i].applies(c)))
            return exemptions[i].reason;
    return NULL;
}
