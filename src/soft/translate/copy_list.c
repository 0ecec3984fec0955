/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The allow-list of the translator: only what is listed here is copied, by instruction and by the
 * form of its operands. Not on the list: anything that can fault other than by its memory operand
 * (x87: x87.c), reads or writes state that is not the guest's in this tier (MXCSR, segment bases,
 * DF), repeats, or has an implicit RCX other than a shift count or the index of PCMPISTRI and its
 * kin.
 */
#include "soft/translate/copy_list.h"

#include "soft/translate/translator.h"

static const uint8_t copy_integer[INSN_NR_IDS] = {
    [INSN_ADD] = COPY_YES,
    [INSN_OR] = COPY_YES,
    [INSN_ADC] = COPY_YES,
    [INSN_SBB] = COPY_YES,
    [INSN_AND] = COPY_YES,
    [INSN_SUB] = COPY_YES,
    [INSN_XOR] = COPY_YES,
    [INSN_CMP] = COPY_YES,
    [INSN_TEST] = COPY_YES,
    [INSN_NOT] = COPY_YES,
    [INSN_NEG] = COPY_YES,
    [INSN_INC] = COPY_YES,
    [INSN_DEC] = COPY_YES,
    [INSN_MUL] = COPY_YES,
    [INSN_IMUL] = COPY_YES,
    [INSN_ROL] = COPY_YES,
    [INSN_ROR] = COPY_YES,
    [INSN_RCL] = COPY_YES,
    [INSN_RCR] = COPY_YES,
    [INSN_SHL] = COPY_YES,
    [INSN_SHR] = COPY_YES,
    [INSN_SAR] = COPY_YES,
    [INSN_SHLD] = COPY_YES,
    [INSN_SHRD] = COPY_YES,
    [INSN_ADCX] = COPY_YES,
    [INSN_ADOX] = COPY_YES,
    [INSN_BT] = COPY_NO_BIT_MEM,
    [INSN_BTS] = COPY_NO_BIT_MEM,
    [INSN_BTR] = COPY_NO_BIT_MEM,
    [INSN_BTC] = COPY_NO_BIT_MEM,
    [INSN_BSF] = COPY_YES,
    [INSN_BSR] = COPY_YES,
    [INSN_BSWAP] = COPY_YES,
    [INSN_POPCNT] = COPY_YES,
    [INSN_LZCNT] = COPY_YES,
    [INSN_TZCNT] = COPY_YES,
    [INSN_ANDN] = COPY_YES,
    [INSN_BEXTR] = COPY_YES,
    [INSN_BLSI] = COPY_YES,
    [INSN_BLSMSK] = COPY_YES,
    [INSN_BLSR] = COPY_YES,
    [INSN_BZHI] = COPY_YES,
    [INSN_MULX] = COPY_YES,
    [INSN_PDEP] = COPY_YES,
    [INSN_PEXT] = COPY_YES,
    [INSN_RORX] = COPY_YES,
    [INSN_SARX] = COPY_YES,
    [INSN_SHLX] = COPY_YES,
    [INSN_SHRX] = COPY_YES,
    [INSN_CRC32] = COPY_YES,
    [INSN_MOV] = COPY_YES,
    [INSN_MOVSX] = COPY_YES,
    [INSN_MOVSXD] = COPY_YES,
    [INSN_MOVZX] = COPY_YES,
    [INSN_MOVBE] = COPY_YES,
    [INSN_MOVNTI] = COPY_YES,
    [INSN_LEA] = COPY_YES,
    [INSN_XCHG] = COPY_YES,
    [INSN_XADD] = COPY_YES,
    [INSN_CMPXCHG] = COPY_YES,
    [INSN_CMOVCC] = COPY_YES,
    [INSN_SETCC] = COPY_YES,
    [INSN_CBW] = COPY_VERBATIM,
    [INSN_CWDE] = COPY_VERBATIM,
    [INSN_CDQE] = COPY_VERBATIM,
    [INSN_CWD] = COPY_VERBATIM,
    [INSN_CDQ] = COPY_VERBATIM,
    [INSN_CQO] = COPY_VERBATIM,
    [INSN_LAHF] = COPY_VERBATIM,
    [INSN_SAHF] = COPY_VERBATIM,
    [INSN_CLC] = COPY_VERBATIM,
    [INSN_STC] = COPY_VERBATIM,
    [INSN_CMC] = COPY_VERBATIM,
    [INSN_PAUSE] = COPY_VERBATIM,
    [INSN_LFENCE] = COPY_VERBATIM,
    [INSN_MFENCE] = COPY_VERBATIM,
    [INSN_SFENCE] = COPY_VERBATIM,
    [INSN_NOP] = COPY_NOTHING,
    [INSN_PREFETCHNTA] = COPY_NOTHING,
    [INSN_PREFETCHT0] = COPY_NOTHING,
    [INSN_PREFETCHT1] = COPY_NOTHING,
    [INSN_PREFETCHT2] = COPY_NOTHING,
    [INSN_PREFETCH] = COPY_NOTHING,
    [INSN_PREFETCHW] = COPY_NOTHING,
};

/* The groups of insn_ids.h, without what the comment at the top of this file excludes. */
static enum copy_kind copy_vector(const struct insn *insn)
{
    unsigned id = insn->id;

    switch (id) {
    case INSN_MASKMOVDQU:
    case INSN_VMASKMOVDQU:
    case INSN_VLDMXCSR:
    case INSN_VSTMXCSR:
    case INSN_VMASKMOVPS:
    case INSN_VMASKMOVPD:
    case INSN_VPMASKMOVD:
    case INSN_VPMASKMOVQ:
        return COPY_NO;
    case INSN_CVTSS2SI:
    case INSN_CVTSD2SI:
    case INSN_CVTTSS2SI:
    case INSN_CVTTSD2SI:
    case INSN_VCVTSS2SI:
    case INSN_VCVTSD2SI:
    case INSN_VCVTTSS2SI:
    case INSN_VCVTTSD2SI:
    case INSN_MOVMSKPS:
    case INSN_MOVMSKPD:
    case INSN_VMOVMSKPS:
    case INSN_VMOVMSKPD:
    case INSN_PMOVMSKB:
    case INSN_VPMOVMSKB:
        return COPY_GPR_FIRST;
    case INSN_PEXTRW:
    case INSN_VPEXTRW:
        return insn->map == 1 ? COPY_GPR_FIRST : COPY_YES;
    default:
        break;
    }
    if (id >= INSN_VGATHERDPS && id <= INSN_VPGATHERQQ)
        return COPY_NO;
    if (id >= INSN_ADDPS && id <= INSN_GF2P8AFFINEINVQB)
        return COPY_YES;
    if (id >= INSN_VADDPS && id <= INSN_VFMSUBADD231PD)
        return COPY_YES;
    return COPY_NO;
}

bool copy_writes_rcx(const struct insn *insn)
{
    switch (insn->id) {
    case INSN_PCMPESTRI:
    case INSN_PCMPISTRI:
    case INSN_VPCMPESTRI:
    case INSN_VPCMPISTRI:
        return true;
    default:
        return false;
    }
}

bool copy_is_integer(const struct insn *insn)
{
    return copy_integer[insn->id] != COPY_NO;
}

enum copy_kind copy_kind_of(const struct insn *insn)
{
    return copy_is_integer(insn) ? (enum copy_kind)copy_integer[insn->id] : copy_vector(insn);
}

bool translator_copies(const struct insn *insn)
{
    if (insn->traits & (INSN_TRAIT_PRIVILEGED | INSN_TRAIT_X87 | INSN_TRAIT_MMX | INSN_TRAIT_IO |
                        INSN_TRAIT_BRANCH))
        return false;
    return insn->id == INSN_DIV || insn->id == INSN_IDIV || copy_kind_of(insn) != COPY_NO;
}
