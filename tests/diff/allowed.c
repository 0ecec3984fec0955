/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The allow-list: what a user program may do, whose result the two sides can share. Not on it:
 * system calls, what differs by design (CPUID, time stamps, random numbers, the other side's
 * tables), what processor vendors do differently, and, in 64-bit code, branches through registers
 * to anywhere. 16- and 32-bit code may load segment registers (not FS and GS: they are the child's
 * thread storage) and transfer to wherever memory says, since nothing else is mapped below 4 GiB.
 */
#include "diff.h"

#include "base/util.h"

static bool writes_fs_or_gs(const struct insn *insn)
{
    for (unsigned i = 0; i < insn->nr_operands; i++)
        if (insn->operand[i].reg_class == INSN_REG_SEGMENT && insn->operand[i].reg >= CPU_FS &&
            (insn->operand[i].access & INSN_WRITE))
            return true;
    return insn->id == INSN_LFS || insn->id == INSN_LGS;
}

static bool integer_allowed(const struct insn *insn)
{
    bool is_64 = insn->mode == INSN_MODE_64;

    switch (insn->id) {
    case INSN_RET:
    case INSN_CALL_FAR:
    case INSN_JMP_FAR:
    case INSN_IRET:
    case INSN_MOV_SEG:
    case INSN_LDS:
    case INSN_LES:
    case INSN_LSS:
        return !is_64 && !writes_fs_or_gs(insn);
    case INSN_RET_FAR: /* some read the outer stack's place before they check the selector */
        return !is_64 && insn->imm < 512;
    case INSN_LFS:
    case INSN_LGS:
        return false;
    case INSN_INT:
        return insn->imm != 0x80; /* a system call */
    case INSN_INT1:               /* under a hypervisor it may be a fault */
    case INSN_SYSCALL:
    case INSN_SYSENTER:
    case INSN_SYSRET:
    case INSN_SYSEXIT:
    case INSN_CPUID:
    case INSN_RDTSC:
    case INSN_RDTSCP:
    case INSN_RDPMC:
    case INSN_RDPID:
    case INSN_RDRAND:
    case INSN_RDSEED:
    case INSN_XGETBV:
    case INSN_XSETBV:
    case INSN_VMCALL:
    case INSN_VMMCALL:
    case INSN_SGDT: /* kernels emulate it where UMIP forbids it */
    case INSN_SIDT:
    case INSN_SMSW:
    case INSN_SLDT:
    case INSN_STR:
    case INSN_LSL: /* the host's GDT has limits of its own */
    case INSN_LAR:
    case INSN_VERR:
    case INSN_VERW:
    case INSN_RDFSBASE:
    case INSN_RDGSBASE:
    case INSN_WRFSBASE:
    case INSN_WRGSBASE:
    case INSN_MONITOR:
    case INSN_MWAIT:
    case INSN_UD0: /* the host's length of it is the vendor's */
    case INSN_RSM:
        return false;
    default:
        break;
    }
    if ((insn->id == INSN_PUSH || insn->id == INSN_POP) &&
        insn->operand[0].reg_class == INSN_REG_SEGMENT)
        return !is_64 && !writes_fs_or_gs(insn);
    /* Its memory operand is 16 or 32 bits wide, by vendor. */
    if (insn->id == INSN_MOVSXD && insn->operand_size == 2)
        return false;
    /* Likewise 0F 0D with a register is #UD on AMD, a NOP on Intel. */
    if (insn->map == 1 && insn->opcode == 0x0d && insn->modrm >= 0xc0)
        return false;
    /* Some processors take F2 and F3 for the condition of LOOPE and LOOPNE. */
    if ((insn->id == INSN_LOOPE || insn->id == INSN_LOOPNE) &&
        (insn->prefixes & (INSN_PREFIX_REP | INSN_PREFIX_REPNE)))
        return false;
    /* With 66 a near branch of 64-bit mode is 16 bits wide on AMD and unchanged on Intel. */
    if (is_64 && (insn->traits & INSN_TRAIT_BRANCH))
        return insn->operand[0].kind == INSN_OPERAND_REL &&
               !(insn->prefixes & INSN_PREFIX_OPERAND_SIZE);
    return true;
}

static bool is_vector(const struct insn *insn)
{
    if (insn->traits & (INSN_TRAIT_X87 | INSN_TRAIT_MMX | INSN_TRAIT_SSE | INSN_TRAIT_AVX))
        return true;
    for (unsigned i = 0; i < insn->nr_operands; i++)
        if (insn->operand[i].kind == INSN_OPERAND_REG &&
            insn->operand[i].reg_class >= INSN_REG_ST && insn->operand[i].reg_class <= INSN_REG_YMM)
            return true;
    return insn->id >= INSN_FXSAVE && insn->id <= INSN_EMMS;
}

/* Not those whose image holds the last x87 instruction's address, which processors keep
 * differently. */
static bool vector_allowed(const struct insn *insn)
{
    switch (insn->id) {
    case INSN_FXSAVE:
    case INSN_FXRSTOR:
    case INSN_XSAVE:
    case INSN_XRSTOR:
    case INSN_XSAVEOPT:
    case INSN_XSAVEC:
    case INSN_XSAVES:
    case INSN_XRSTORS:
    case INSN_FNSTENV:
    case INSN_FLDENV:
    case INSN_FNSAVE:
    case INSN_FRSTOR:
        return false;
    default:
        return true;
    }
}

bool diff_allowed(const struct diff_guest *guest, enum diff_mode mode, const struct insn *insn)
{
    bool vector = is_vector(insn);

    if (!diff_guest_exposes(guest, insn))
        return false;
    /* Outside 64-bit mode VEX.W of an instruction with a general register is ignored on Intel, #UD
     * on AMD. */
    if (insn->mode != INSN_MODE_64 && insn->vex_w &&
        (insn->id == INSN_VPEXTRD || insn->id == INSN_VPINSRD))
        return false;
    /* FS is the child's thread storage. */
    for (unsigned i = 0; i < insn->nr_operands; i++)
        if (insn->operand[i].kind == INSN_OPERAND_MEM && insn->mem.segment == CPU_FS)
            return false;
    if (vector)
        return mode != DIFF_MODE_INTEGER && vector_allowed(insn);
    return mode != DIFF_MODE_VECTOR && integer_allowed(insn);
}
