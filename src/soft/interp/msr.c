/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model-specific registers: what kernels read and write at boot and in work. Reads of registers
 * that only describe hardware give a value that means "nothing special"; an MSR that is not here
 * gives #GP(0), which kernels expect for what CPUID does not promise.
 *
 * Source: SDM 4; AMD APM 2 appendix A and the processor programming references; Linux
 * Documentation/virt/kvm/x86/msr.
 */
#include "soft/interp/sys.h"

#include "base/log.h"

enum {
    MSR_P5_MC_ADDR = 0x0,
    MSR_P5_MC_TYPE = 0x1,
    MSR_TSC = 0x10,
    MSR_KVM_WALL_CLOCK_OLD = 0x11,
    MSR_KVM_SYSTEM_TIME_OLD = 0x12,
    MSR_PLATFORM_ID = 0x17,
    MSR_APIC_BASE = 0x1b,
    MSR_FEATURE_CONTROL = 0x3a,
    MSR_TSC_ADJUST = 0x3b,
    MSR_SPEC_CTRL = 0x48,
    MSR_PRED_CMD = 0x49,
    MSR_BIOS_UPDATE_TRIGGER = 0x79,
    MSR_PATCH_LEVEL = 0x8b,
    MSR_PLATFORM_INFO = 0xce,
    MSR_MTRR_CAP = 0xfe,
    MSR_ARCH_CAPABILITIES = 0x10a,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MCG_CAP = 0x179,
    MSR_MCG_STATUS = 0x17a,
    MSR_MISC_ENABLE = 0x1a0,
    MSR_DEBUGCTL = 0x1d9,
    MSR_LAST_BRANCH_FIRST = 0x1db,
    MSR_LAST_BRANCH_LAST = 0x1de,
    MSR_MTRR_VARIABLE = 0x200,
    MSR_MTRR_FIXED_64K = 0x250,
    MSR_MTRR_FIXED_16K = 0x258,
    MSR_MTRR_FIXED_4K = 0x268,
    MSR_PAT = 0x277,
    MSR_MTRR_DEF_TYPE = 0x2ff,
    MSR_TSC_DEADLINE = 0x6e0,
    MSR_X2APIC_FIRST = 0x800,
    MSR_X2APIC_LAST = 0x8ff,
};
#define MSR_KVM_WALL_CLOCK  0x4b564d00u
#define MSR_KVM_SYSTEM_TIME 0x4b564d01u
#define MSR_EFER            0xc0000080u
#define MSR_STAR            0xc0000081u
#define MSR_LSTAR           0xc0000082u
#define MSR_CSTAR           0xc0000083u
#define MSR_SFMASK          0xc0000084u
#define MSR_FS_BASE         0xc0000100u
#define MSR_GS_BASE         0xc0000101u
#define MSR_KERNEL_GS_BASE  0xc0000102u
#define MSR_TSC_AUX         0xc0000103u
/* AMD */
#define MSR_SYSCFG         0xc0010010u
#define MSR_HWCR           0xc0010015u
#define MSR_TOP_MEM        0xc001001au
#define MSR_TOP_MEM2       0xc001001du
#define MSR_NB_CFG         0xc001001fu
#define MSR_INT_PENDING    0xc0010055u
#define MSR_MMIO_CONF_BASE 0xc0010058u
#define MSR_PSTATE_LIMIT   0xc0010061u
#define MSR_PSTATE_STATUS  0xc0010063u
#define MSR_LS_CFG         0xc0011020u
#define MSR_IC_CFG         0xc0011021u
#define MSR_DC_CFG         0xc0011022u
#define MSR_BU_CFG         0xc0011023u
#define MSR_DE_CFG         0xc0011029u
#define MSR_BU_CFG2        0xc001102au

#define MTRR_CAP_VALUE        UINT64_C(0x508) /* WC, fixed ranges, 8 variable */
#define MTRR_VARIABLES        8u
#define HWCR_TSC_P0           (UINT64_C(1) << 24) /* the TSC counts at the P0 frequency */
#define DE_CFG_LFENCE         UINT64_C(2)         /* LFENCE serialises dispatch */
#define PATCH_AMD             UINT64_C(0x01000065)
#define PATCH_INTEL           (UINT64_C(1) << 32)
#define EFER_WRITABLE         (CPU_EFER_SCE | CPU_EFER_LME | CPU_EFER_NXE)
#define CPUID_7_EDX_SPEC_CTRL 26
#define CPUID_7_EDX_STIBP     27
#define CPUID_7_EDX_SSBD      31

static enum soft_result refused(struct soft_cpu *cpu)
{
    return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
}

static enum soft_result unknown(struct soft_cpu *cpu, uint32_t index, const char *what)
{
    static struct log_limit limit = {.burst = 5};

    if (log_limit_allow(&limit))
        log_debug("vCPU %u: %s of unknown MSR 0x%x", cpu->cpu.index, what, index);
    return refused(cpu);
}

static bool memory_type_valid(uint64_t type, bool pat)
{
    return type <= 1 || (type >= 4 && type <= 6) || (pat && type == 7);
}

static bool memory_types_valid(uint64_t value, bool pat)
{
    for (unsigned i = 0; i < 8; i++)
        if (!memory_type_valid(value >> (8 * i) & 0xff, pat))
            return false;
    return true;
}

/* The fixed-range register of this index, or NULL. */
static uint64_t *mtrr_fixed(struct soft_cpu *cpu, uint32_t index)
{
    if (index == MSR_MTRR_FIXED_64K)
        return &cpu->mtrr.fixed[0];
    if (index == MSR_MTRR_FIXED_16K || index == MSR_MTRR_FIXED_16K + 1)
        return &cpu->mtrr.fixed[1 + index - MSR_MTRR_FIXED_16K];
    if (index >= MSR_MTRR_FIXED_4K && index < MSR_MTRR_FIXED_4K + 8)
        return &cpu->mtrr.fixed[3 + index - MSR_MTRR_FIXED_4K];
    return NULL;
}

static uint64_t *mtrr_variable(struct soft_cpu *cpu, uint32_t index)
{
    uint32_t i = index - MSR_MTRR_VARIABLE;

    if (i >= 2 * MTRR_VARIABLES)
        return NULL;
    return i & 1 ? &cpu->mtrr.variable[i / 2].mask : &cpu->mtrr.variable[i / 2].base;
}

static enum soft_result mtrr_write(struct soft_cpu *cpu, uint32_t index, uint64_t *reg,
                                   uint64_t value)
{
    uint64_t address = cpu->vm->physical_address_mask & ~GUEST_PAGE_MASK;

    if (mtrr_fixed(cpu, index)) {
        if (!memory_types_valid(value, false))
            return refused(cpu);
    } else if (index & 1) { /* mask */
        if (value & ~(address | 0x800))
            return refused(cpu);
    } else if ((value & ~(address | 0xff)) || !memory_type_valid(value & 0xff, false)) {
        return refused(cpu);
    }
    *reg = value;
    return SOFT_OK;
}

static bool is_irqchip_msr(uint32_t index)
{
    return index == MSR_APIC_BASE || index == MSR_TSC_DEADLINE ||
           (index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST);
}

static uint64_t spec_ctrl_bits(const struct soft_cpu *cpu)
{
    uint32_t seven[4];

    cpuid_of(cpu, 7, 0, seven);
    return (seven[3] >> CPUID_7_EDX_SPEC_CTRL & 1 ? 3 : 0) |
           (seven[3] >> CPUID_7_EDX_STIBP & 1 ? 2 : 0) | (seven[3] >> CPUID_7_EDX_SSBD & 1 ? 4 : 0);
}

static enum soft_result read_amd(struct soft_cpu *cpu, uint32_t index, uint64_t *ret)
{
    switch (index) {
    case MSR_HWCR:
        *ret = HWCR_TSC_P0;
        return SOFT_OK;
    case MSR_DE_CFG:
        *ret = DE_CFG_LFENCE;
        return SOFT_OK;
    case MSR_SYSCFG:
    case MSR_TOP_MEM:
    case MSR_TOP_MEM2:
    case MSR_NB_CFG:
    case MSR_INT_PENDING:
    case MSR_MMIO_CONF_BASE:
    case MSR_PSTATE_LIMIT:
    case MSR_PSTATE_STATUS:
    case MSR_LS_CFG:
    case MSR_IC_CFG:
    case MSR_DC_CFG:
    case MSR_BU_CFG:
    case MSR_BU_CFG2:
        *ret = 0;
        return SOFT_OK;
    default:
        return unknown(cpu, index, "read");
    }
}

static enum soft_result read_intel(struct soft_cpu *cpu, uint32_t index, uint64_t *ret)
{
    switch (index) {
    case MSR_MISC_ENABLE:
        *ret = cpu->misc_enable;
        return SOFT_OK;
    case MSR_FEATURE_CONTROL:
        *ret = 1; /* locked, nothing enabled */
        return SOFT_OK;
    case MSR_ARCH_CAPABILITIES:
        *ret = cpu->vm->config->cpuid->arch_capabilities;
        return *ret ? SOFT_OK : refused(cpu);
    case MSR_P5_MC_ADDR:
    case MSR_P5_MC_TYPE:
    case MSR_PLATFORM_ID:
    case MSR_PLATFORM_INFO:
        *ret = 0;
        return SOFT_OK;
    default:
        return unknown(cpu, index, "read");
    }
}

/* Plain registers that are read and written as they are; canonical: #GP unless it is one. */
static uint64_t *plain(struct soft_cpu *cpu, uint32_t index, bool *ret_canonical)
{
    *ret_canonical = false;
    switch (index) {
    case MSR_STAR:
        return &cpu->star;
    case MSR_SYSENTER_CS:
        return &cpu->sysenter_cs;
    default:
        break;
    }
    *ret_canonical = true;
    switch (index) {
    case MSR_LSTAR:
        return &cpu->lstar;
    case MSR_CSTAR:
        return &cpu->cstar;
    case MSR_FS_BASE:
        return &cpu->segment[CPU_FS].base;
    case MSR_GS_BASE:
        return &cpu->segment[CPU_GS].base;
    case MSR_KERNEL_GS_BASE:
        return &cpu->kernel_gs_base;
    case MSR_SYSENTER_ESP:
        return &cpu->sysenter_esp;
    case MSR_SYSENTER_EIP:
        return &cpu->sysenter_eip;
    default:
        return NULL;
    }
}

static bool tsc_aux_exposed(const struct soft_cpu *cpu)
{
    return cpu->vm->features[INSN_FEATURE_RDTSCP] || cpu->vm->features[INSN_FEATURE_RDPID];
}

static enum soft_result read_common(struct soft_cpu *cpu, uint32_t index, uint64_t *ret)
{
    switch (index) {
    case MSR_TSC:
        *ret = soft_tsc(cpu);
        return SOFT_OK;
    case MSR_TSC_ADJUST:
        *ret = cpu->tsc_adjust;
        return SOFT_OK;
    case MSR_TSC_AUX:
        *ret = cpu->tsc_aux;
        return tsc_aux_exposed(cpu) ? SOFT_OK : refused(cpu);
    case MSR_EFER:
        *ret = cpu->efer;
        return SOFT_OK;
    case MSR_SFMASK:
        *ret = cpu->sfmask;
        return SOFT_OK;
    case MSR_PAT:
        *ret = cpu->pat;
        return SOFT_OK;
    case MSR_MTRR_CAP:
        *ret = MTRR_CAP_VALUE;
        return SOFT_OK;
    case MSR_MTRR_DEF_TYPE:
        *ret = cpu->mtrr.def_type;
        return SOFT_OK;
    case MSR_SPEC_CTRL:
        *ret = cpu->spec_ctrl;
        return spec_ctrl_bits(cpu) ? SOFT_OK : refused(cpu);
    case MSR_DEBUGCTL:
        *ret = cpu->debugctl;
        return SOFT_OK;
    case MSR_PATCH_LEVEL:
        *ret = cpu_is_intel(cpu) ? PATCH_INTEL : PATCH_AMD;
        return SOFT_OK;
    case MSR_MCG_CAP: /* no banks */
    case MSR_MCG_STATUS:
        *ret = 0;
        return SOFT_OK;
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_OLD:
        *ret = cpu->kvm_wall_clock_msr;
        return SOFT_OK;
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_OLD:
        *ret = cpu->kvm_system_time_msr;
        return SOFT_OK;
    default:
        return cpu_is_intel(cpu) ? read_intel(cpu, index, ret) : read_amd(cpu, index, ret);
    }
}

enum soft_result msr_read(struct soft_cpu *cpu, uint32_t index, uint64_t *ret)
{
    const struct cpu_irqchip *irqchip = cpu->vm->config->irqchip;
    const uint64_t *reg;
    bool canonical;

    if (is_irqchip_msr(index))
        return irqchip && irqchip->msr_read(irqchip->context, cpu->cpu.index, index, ret) == 0
                   ? SOFT_OK
                   : refused(cpu);
    reg = plain(cpu, index, &canonical);
    if (!reg)
        reg = mtrr_fixed(cpu, index);
    if (!reg)
        reg = mtrr_variable(cpu, index);
    if (reg) {
        *ret = *reg;
        return SOFT_OK;
    }
    if (index >= MSR_LAST_BRANCH_FIRST && index <= MSR_LAST_BRANCH_LAST) {
        *ret = 0;
        return SOFT_OK;
    }
    return read_common(cpu, index, ret);
}

static enum soft_result efer_write(struct soft_cpu *cpu, uint64_t value)
{
    uint64_t changed;

    if (value & ~(EFER_WRITABLE | CPU_EFER_LMA))
        return refused(cpu);
    value = (value & EFER_WRITABLE) | (cpu->efer & CPU_EFER_LMA);
    changed = value ^ cpu->efer;
    if ((changed & CPU_EFER_LME) && (cpu->cr0 & CPU_CR0_PG))
        return refused(cpu);
    cpu->efer = value;
    if (changed & CPU_EFER_NXE)
        mmu_flush_all(cpu);
    soft_cpu_update_mode(cpu);
    return SOFT_OK;
}

static enum soft_result tsc_adjust_write(struct soft_cpu *cpu, uint64_t value)
{
    cpu->tsc_offset += value - cpu->tsc_adjust;
    cpu->tsc_adjust = value;
    return SOFT_OK;
}

static enum soft_result write_vendor(struct soft_cpu *cpu, uint32_t index, uint64_t value)
{
    uint64_t ignored;

    if (cpu_is_intel(cpu)) {
        if (index == MSR_MISC_ENABLE) {
            cpu->misc_enable = value;
            return SOFT_OK;
        }
        if (index == MSR_BIOS_UPDATE_TRIGGER || index == MSR_PATCH_LEVEL)
            return SOFT_OK;
        return unknown(cpu, index, "write");
    }
    /* What can be read may be written, without effect: they tune hardware that is not there. */
    return read_amd(cpu, index, &ignored);
}

static enum soft_result write_common(struct soft_cpu *cpu, uint32_t index, uint64_t value)
{
    switch (index) {
    case MSR_TSC:
        cpu->tsc_adjust += value - soft_tsc(cpu);
        tsc_write(cpu, value);
        return SOFT_OK;
    case MSR_TSC_ADJUST:
        return tsc_adjust_write(cpu, value);
    case MSR_TSC_AUX:
        if (!tsc_aux_exposed(cpu) || value >> 32)
            return refused(cpu);
        cpu->tsc_aux = value;
        return SOFT_OK;
    case MSR_EFER:
        return efer_write(cpu, value);
    case MSR_SFMASK:
        cpu->sfmask = (uint32_t)value;
        return SOFT_OK;
    case MSR_PAT:
        if (!memory_types_valid(value, true))
            return refused(cpu);
        cpu->pat = value;
        return SOFT_OK;
    case MSR_MTRR_DEF_TYPE:
        if ((value & ~UINT64_C(0xcff)) || !memory_type_valid(value & 0xff, false))
            return refused(cpu);
        cpu->mtrr.def_type = value;
        return SOFT_OK;
    case MSR_SPEC_CTRL:
        if (!spec_ctrl_bits(cpu) || (value & ~spec_ctrl_bits(cpu)))
            return refused(cpu);
        cpu->spec_ctrl = value;
        return SOFT_OK;
    case MSR_PRED_CMD:
        return spec_ctrl_bits(cpu) && !(value & ~UINT64_C(1)) ? SOFT_OK : refused(cpu);
    case MSR_DEBUGCTL:
        if (value & ~UINT64_C(0x3f)) /* LBR, BTF and AMD's pin controls: no effect */
            return refused(cpu);
        cpu->debugctl = value;
        return SOFT_OK;
    case MSR_MCG_STATUS:
        return SOFT_OK;
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_OLD:
        cpu->kvm_wall_clock_msr = value;
        kvmclock_write_wall_clock(cpu);
        return SOFT_OK;
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_OLD:
        cpu->kvm_system_time_msr = value;
        kvmclock_write_system_time(cpu);
        return SOFT_OK;
    default:
        return write_vendor(cpu, index, value);
    }
}

enum soft_result msr_write(struct soft_cpu *cpu, uint32_t index, uint64_t value)
{
    const struct cpu_irqchip *irqchip = cpu->vm->config->irqchip;
    bool canonical;
    uint64_t *reg;

    if (is_irqchip_msr(index)) {
        if (!irqchip || irqchip->msr_write(irqchip->context, cpu->cpu.index, index, value))
            return refused(cpu);
        cpu->interrupt_possible = true;
        cpu->end_block = true;
        return SOFT_OK;
    }
    reg = plain(cpu, index, &canonical);
    if (reg) {
        if (canonical && !address_is_canonical(value))
            return refused(cpu);
        *reg = value;
        return SOFT_OK;
    }
    reg = mtrr_fixed(cpu, index);
    if (!reg)
        reg = mtrr_variable(cpu, index);
    if (reg)
        return mtrr_write(cpu, index, reg, value);
    return write_common(cpu, index, value);
}

enum soft_result op_rdmsr(struct soft_cpu *cpu, const struct insn *insn)
{
    enum soft_result result;
    uint64_t value = 0;

    (void)insn;
    if (cpu->cpl != 0)
        return refused(cpu);
    result = msr_read(cpu, (uint32_t)cpu->gpr[CPU_RCX], &value);
    if (result)
        return result;
    cpu->gpr[CPU_RAX] = (uint32_t)value;
    cpu->gpr[CPU_RDX] = value >> 32;
    return SOFT_OK;
}

enum soft_result op_wrmsr(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    if (cpu->cpl != 0)
        return refused(cpu);
    return msr_write(cpu, (uint32_t)cpu->gpr[CPU_RCX],
                     cpu->gpr[CPU_RDX] << 32 | (uint32_t)cpu->gpr[CPU_RAX]);
}
