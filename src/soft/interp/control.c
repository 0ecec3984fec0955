/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control registers, TLB invalidation, XCR0, and the small privileged instructions.
 *
 * Every write is checked completely before anything changes. What a change invalidates is told to
 * the MMU here, since only here old and new value are both known.
 *
 * Source: SDM 3A 2.5, 4.10.4, 9.8.5; 2 MOV CR, LMSW, INVPCID, XSETBV.
 */
#include "soft/fpu/fpu.h"
#include "soft/interp/sys.h"

#define CR0_DEFINED                                                                             \
    (CPU_CR0_PE | CPU_CR0_MP | CPU_CR0_EM | CPU_CR0_TS | CPU_CR0_ET | CPU_CR0_NE | CPU_CR0_WP | \
     CPU_CR0_AM | CPU_CR0_NW | CPU_CR0_CD | CPU_CR0_PG)
#define CR3_NO_FLUSH (UINT64_C(1) << 63)
#define CR3_DEFINED  UINT64_C(0x000fffffffffffff)

#define XCR0_LEAF 0xdu

static enum soft_result gp0(struct soft_cpu *cpu)
{
    return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
}

/* PAE paging outside long mode: would loading CR3 be refused? Intel checks the four pointers then,
 * AMD when they are used. */
static bool pdptes_bad(struct soft_cpu *cpu, uint64_t cr0, uint64_t cr3, uint64_t cr4)
{
    uint64_t reserved = ~cpu->vm->physical_address_mask | UINT64_C(0x1e6);
    uint64_t entry[4];

    if (!(cr0 & CPU_CR0_PG) || !(cr4 & CPU_CR4_PAE) || cpu_long_mode(cpu) || !cpu_is_intel(cpu))
        return false;
    if (memory_read(cpu->vm->memory, cr3 & UINT64_C(0xffffffe0), entry, sizeof(entry)))
        return false;
    for (unsigned i = 0; i < ARRAY_LEN(entry); i++)
        if ((entry[i] & 1) && (entry[i] & reserved))
            return true;
    return false;
}

/* Turning paging on with EFER.LME activates long mode. */
static enum soft_result paging_on(struct soft_cpu *cpu, uint64_t *efer)
{
    if (!(cpu->efer & CPU_EFER_LME))
        return SOFT_OK;
    if (!(cpu->cr4 & CPU_CR4_PAE) || (cpu->segment[CPU_CS].attributes & CPU_SEGMENT_L))
        return gp0(cpu);
    *efer |= CPU_EFER_LMA;
    return SOFT_OK;
}

static enum soft_result cr0_write(struct soft_cpu *cpu, uint64_t value)
{
    uint64_t changed, efer = cpu->efer;
    enum soft_result result;

    if (value >> 32)
        return gp0(cpu);
    value = (value & CR0_DEFINED) | CPU_CR0_ET;
    changed = value ^ cpu->cr0;
    if (((value & CPU_CR0_PG) && !(value & CPU_CR0_PE)) ||
        ((value & CPU_CR0_NW) && !(value & CPU_CR0_CD)))
        return gp0(cpu);
    if ((changed & CPU_CR0_PG) && (value & CPU_CR0_PG)) {
        result = paging_on(cpu, &efer);
        if (result)
            return result;
        if (!(efer & CPU_EFER_LMA) && pdptes_bad(cpu, value, cpu->cr3, cpu->cr4))
            return gp0(cpu);
    } else if (changed & CPU_CR0_PG) {
        if (cpu->mode == SOFT_MODE_LONG64 || (cpu->cr4 & CPU_CR4_PCIDE))
            return gp0(cpu);
        efer &= ~CPU_EFER_LMA;
    }
    cpu->cr0 = value;
    cpu->efer = efer;
    if (changed & (CPU_CR0_PG | CPU_CR0_WP | CPU_CR0_PE))
        mmu_flush_all(cpu);
    soft_cpu_update_mode(cpu);
    return SOFT_OK;
}

static uint64_t cr4_defined(const struct soft_cpu *cpu)
{
    uint64_t mask = CPU_CR4_TSD | CPU_CR4_DE | CPU_CR4_PSE | CPU_CR4_PAE | CPU_CR4_MCE |
                    CPU_CR4_PGE | CPU_CR4_PCE | CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT;
    uint32_t one[4], seven[4];

    cpuid_of(cpu, 1, 0, one);
    cpuid_of(cpu, 7, 0, seven);
    mask |= one[2] >> 17 & 1 ? CPU_CR4_PCIDE : 0;
    mask |= one[2] >> 26 & 1 ? CPU_CR4_OSXSAVE : 0;
    mask |= seven[1] >> 0 & 1 ? CPU_CR4_FSGSBASE : 0;
    mask |= seven[1] >> 7 & 1 ? CPU_CR4_SMEP : 0;
    mask |= seven[1] >> 20 & 1 ? CPU_CR4_SMAP : 0;
    mask |= seven[2] >> 2 & 1 ? CPU_CR4_UMIP : 0;
    return mask;
}

static enum soft_result cr4_write(struct soft_cpu *cpu, uint64_t value)
{
    uint64_t changed = value ^ cpu->cr4;

    if (value & ~cr4_defined(cpu))
        return gp0(cpu);
    if (cpu_long_mode(cpu) && !(value & CPU_CR4_PAE))
        return gp0(cpu);
    if ((changed & value & CPU_CR4_PCIDE) && (!cpu_long_mode(cpu) || (cpu->cr3 & 0xfff)))
        return gp0(cpu);
    if ((changed & (CPU_CR4_PAE | CPU_CR4_PSE | CPU_CR4_PGE)) &&
        pdptes_bad(cpu, cpu->cr0, cpu->cr3, value))
        return gp0(cpu);
    cpu->cr4 = value;
    if (changed &
        (CPU_CR4_PSE | CPU_CR4_PAE | CPU_CR4_PGE | CPU_CR4_PCIDE | CPU_CR4_SMEP | CPU_CR4_SMAP))
        mmu_flush_all(cpu);
    soft_cpu_update_mode(cpu);
    return SOFT_OK;
}

static enum soft_result cr3_write(struct soft_cpu *cpu, uint64_t value)
{
    bool keep = false;

    if (cpu->cr4 & CPU_CR4_PCIDE) {
        keep = value & CR3_NO_FLUSH;
        value &= ~CR3_NO_FLUSH;
    }
    if (cpu_long_mode(cpu) &&
        (value & ~(cpu->vm->physical_address_mask | GUEST_PAGE_MASK) & UINT64_MAX))
        return gp0(cpu);
    value &= cpu->mode == SOFT_MODE_LONG64 ? CR3_DEFINED : 0xffffffff;
    if (pdptes_bad(cpu, cpu->cr0, value, cpu->cr4))
        return gp0(cpu);
    cpu->cr3 = value;
    mmu_cr3_loaded(cpu, keep);
    cpu->end_block = true;
    return SOFT_OK;
}

static enum soft_result cr8_write(struct soft_cpu *cpu, uint64_t value)
{
    const struct cpu_irqchip *irqchip = cpu->vm->config->irqchip;

    if (value & ~UINT64_C(0xf))
        return gp0(cpu);
    irqchip->cr8_write(irqchip->context, cpu->cpu.index, value);
    cpu->interrupt_possible = true;
    cpu->end_block = true;
    return SOFT_OK;
}

static enum soft_result cr_write(struct soft_cpu *cpu, unsigned n, uint64_t value)
{
    switch (n) {
    case 0:
        return cr0_write(cpu, value);
    case 2:
        cpu->cr2 = value;
        return SOFT_OK;
    case 3:
        return cr3_write(cpu, value);
    case 4:
        return cr4_write(cpu, value);
    case 8:
        return cr8_write(cpu, value);
    default:
        return fault_raise(cpu, CPU_VECTOR_UD);
    }
}

static enum soft_result cr_read(struct soft_cpu *cpu, unsigned n, uint64_t *ret)
{
    const struct cpu_irqchip *irqchip = cpu->vm->config->irqchip;

    switch (n) {
    case 0:
        *ret = cpu->cr0;
        return SOFT_OK;
    case 2:
        *ret = cpu->cr2;
        return SOFT_OK;
    case 3:
        *ret = cpu->cr3;
        return SOFT_OK;
    case 4:
        *ret = cpu->cr4;
        return SOFT_OK;
    case 8:
        *ret = irqchip->cr8_read(irqchip->context, cpu->cpu.index);
        return SOFT_OK;
    default:
        return fault_raise(cpu, CPU_VECTOR_UD);
    }
}

enum soft_result op_mov_cr(struct soft_cpu *cpu, const struct insn *insn)
{
    bool write = insn->operand[0].reg_class == INSN_REG_CR;
    unsigned n = insn->operand[write ? 0 : 1].reg;
    const struct insn_operand *reg = &insn->operand[write ? 1 : 0];
    enum soft_result result;
    uint64_t value = 0;

    if (n == 1 || (n > 4 && n != 8))
        return fault_raise(cpu, CPU_VECTOR_UD);
    if (cpu->cpl != 0)
        return gp0(cpu);
    if (write)
        return cr_write(cpu, n, sys_reg_read(cpu, reg));
    result = cr_read(cpu, n, &value);
    if (!result)
        sys_reg_write(cpu, reg, value);
    return result;
}

enum soft_result op_clts(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    if (cpu->cpl != 0)
        return gp0(cpu);
    cpu->cr0 &= ~CPU_CR0_TS;
    cpu->end_block = true;
    return SOFT_OK;
}

enum soft_result op_lmsw(struct soft_cpu *cpu, const struct insn *insn)
{
    enum soft_result result;
    uint64_t value;

    if (cpu->cpl != 0)
        return gp0(cpu);
    result = sys_operand_read(cpu, insn, 0, 2, &value);
    if (result)
        return result;
    value &= 0xf;
    value |= cpu->cr0 & CPU_CR0_PE; /* LMSW cannot leave protected mode */
    return cr0_write(cpu, (cpu->cr0 & ~UINT64_C(0xf)) | value);
}

enum soft_result op_smsw(struct soft_cpu *cpu, const struct insn *insn)
{
    if ((cpu->cr4 & CPU_CR4_UMIP) && cpu->cpl > 0)
        return gp0(cpu);
    return sys_operand_write(cpu, insn, 0, cpu->cr0);
}

enum soft_result op_invlpg(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t address = sys_effective_address(cpu, insn);

    if (cpu->cpl != 0)
        return gp0(cpu);
    if (cpu->mode != SOFT_MODE_LONG64)
        address = (uint32_t)(address + cpu->segment[insn->mem.segment].base);
    else if (insn->mem.segment >= CPU_FS)
        address += cpu->segment[insn->mem.segment].base;
    if (address_is_canonical(address))
        mmu_flush_page(cpu, address);
    cpu->end_block = true;
    return SOFT_OK;
}

enum soft_result op_invpcid(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t type = cpu->gpr[insn->operand[0].reg], descriptor[2];
    enum soft_result result;

    if (cpu->mode == SOFT_MODE_V86)
        return gp0(cpu);
    if (!cpu->vm->features[INSN_FEATURE_INVPCID])
        return fault_raise(cpu, CPU_VECTOR_UD);
    if (cpu->cpl != 0)
        return gp0(cpu);
    if (cpu->mode != SOFT_MODE_LONG64)
        type = (uint32_t)type;
    result = mmu_load(cpu, insn->mem.segment, sys_effective_address(cpu, insn), descriptor, 16);
    if (result)
        return result;
    if (type > 3 || (descriptor[0] & ~UINT64_C(0xfff)))
        return gp0(cpu);
    if (type < 2 && !(cpu->cr4 & CPU_CR4_PCIDE) && descriptor[0])
        return gp0(cpu);
    if (type == 0 && !address_is_canonical(descriptor[1]))
        return gp0(cpu);
    switch (type) {
    case 0:
        mmu_flush_page(cpu, descriptor[1]);
        break;
    case 1:
        mmu_flush_pcid(cpu, (unsigned)descriptor[0]);
        break;
    case 2:
        mmu_flush_all(cpu);
        break;
    case 3:
        mmu_flush_non_global(cpu);
        break;
    }
    cpu->end_block = true;
    return SOFT_OK;
}

enum soft_result op_xsetbv(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t value = (cpu->gpr[CPU_RDX] << 32) | (uint32_t)cpu->gpr[CPU_RAX];
    uint32_t leaf[4];

    (void)insn;
    if (!(cpu->cr4 & CPU_CR4_OSXSAVE))
        return fault_raise(cpu, CPU_VECTOR_UD);
    cpuid_of(cpu, XCR0_LEAF, 0, leaf);
    if (cpu->cpl != 0 || (uint32_t)cpu->gpr[CPU_RCX] != 0 ||
        (value & ~(leaf[0] | (uint64_t)leaf[3] << 32) & UINT64_MAX) || !(value & CPU_XCR0_X87) ||
        (value & (CPU_XCR0_AVX | CPU_XCR0_SSE)) == CPU_XCR0_AVX)
        return gp0(cpu);
    cpu->xcr0 = value & CPU_XCR0_SUPPORTED;
    cpu->end_block = true;
    return SOFT_OK;
}

enum soft_result op_xgetbv(struct soft_cpu *cpu, const struct insn *insn)
{
    uint32_t index = (uint32_t)cpu->gpr[CPU_RCX];

    (void)insn;
    if (!(cpu->cr4 & CPU_CR4_OSXSAVE))
        return fault_raise(cpu, CPU_VECTOR_UD);
    if (index > 1)
        return gp0(cpu);
    cpu->gpr[CPU_RAX] = (uint32_t)(index ? cpu->xcr0 & fpu_in_use(cpu) : cpu->xcr0);
    cpu->gpr[CPU_RDX] = 0; /* no component above bit 31 exists */
    return SOFT_OK;
}

enum soft_result op_clac_stac(struct soft_cpu *cpu, const struct insn *insn)
{
    if (!cpu->vm->features[INSN_FEATURE_SMAP] || cpu->cpl != 0)
        return fault_raise(cpu, CPU_VECTOR_UD);
    if (insn->id == INSN_STAC)
        cpu->rflags |= CPU_FLAG_AC;
    else
        cpu->rflags &= ~CPU_FLAG_AC;
    mmu_context_changed(cpu);
    return SOFT_OK;
}

enum soft_result op_swapgs(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t base = cpu->segment[CPU_GS].base;

    (void)insn;
    if (cpu->mode != SOFT_MODE_LONG64)
        return fault_raise(cpu, CPU_VECTOR_UD);
    if (cpu->cpl != 0)
        return gp0(cpu);
    cpu->segment[CPU_GS].base = cpu->kernel_gs_base;
    cpu->kernel_gs_base = base;
    return SOFT_OK;
}

enum soft_result op_fsgsbase(struct soft_cpu *cpu, const struct insn *insn)
{
    bool gs = insn->id == INSN_RDGSBASE || insn->id == INSN_WRGSBASE;
    bool write = insn->id == INSN_WRFSBASE || insn->id == INSN_WRGSBASE;
    struct cpu_segment *s = &cpu->segment[gs ? CPU_GS : CPU_FS];
    uint64_t value;

    if (cpu->mode != SOFT_MODE_LONG64 || !(cpu->cr4 & CPU_CR4_FSGSBASE))
        return fault_raise(cpu, CPU_VECTOR_UD);
    if (!write) {
        sys_reg_write(cpu, &insn->operand[0], s->base);
        return SOFT_OK;
    }
    value = sys_reg_read(cpu, &insn->operand[0]);
    if (!address_is_canonical(value))
        return gp0(cpu);
    s->base = value;
    return SOFT_OK;
}

/* INVD, WBINVD: caches are the host's and coherent. */
enum soft_result op_cache(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    return cpu->cpl == 0 ? SOFT_OK : gp0(cpu);
}
