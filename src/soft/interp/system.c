/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptor-table instructions and the table of all system handlers.
 *
 * Source: SDM 2 LGDT, LIDT, SGDT, SIDT, SLDT, STR, LLDT, LTR, LAR, LSL, VERR, VERW, ARPL.
 */
#include "soft/interp/sys.h"

/* #UD in real and virtual-8086 mode. */
static bool not_protected(const struct soft_cpu *cpu)
{
    return !cpu_protected(cpu);
}

static bool umip_forbids(const struct soft_cpu *cpu)
{
    return (cpu->cr4 & CPU_CR4_UMIP) && cpu->cpl > 0;
}

enum soft_result op_lgdt_lidt(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t address = sys_effective_address(cpu, insn);
    bool long64 = cpu->mode == SOFT_MODE_LONG64;
    struct cpu_table_register *table = insn->id == INSN_LGDT ? &cpu->gdtr : &cpu->idtr;
    enum soft_result result;
    uint64_t base = 0;
    uint16_t limit;

    if (cpu->cpl != 0)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    result = mmu_load16(cpu, insn->mem.segment, address, &limit);
    if (!result)
        result = mmu_load(cpu, insn->mem.segment, address + 2, &base, long64 ? 8 : 4);
    if (result)
        return result;
    if (long64 && !address_is_canonical(base))
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    if (!long64 && insn->operand_size == 2)
        base &= 0xffffff;
    table->base = base;
    table->limit = limit;
    return SOFT_OK;
}

enum soft_result op_sgdt_sidt(struct soft_cpu *cpu, const struct insn *insn)
{
    const struct cpu_table_register *table = insn->id == INSN_SGDT ? &cpu->gdtr : &cpu->idtr;
    uint64_t address = sys_effective_address(cpu, insn);
    unsigned base_size = cpu->mode == SOFT_MODE_LONG64 ? 8 : 4;
    uint8_t image[10];

    if (umip_forbids(cpu))
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    store_le16(image, table->limit);
    store_le64(image + 2, table->base);
    return mmu_store(cpu, insn->mem.segment, address, image, 2 + base_size);
}

enum soft_result op_lldt(struct soft_cpu *cpu, const struct insn *insn)
{
    enum soft_result result;
    uint64_t selector;

    if (not_protected(cpu))
        return fault_raise(cpu, CPU_VECTOR_UD);
    if (cpu->cpl != 0)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    result = sys_operand_read(cpu, insn, 0, 2, &selector);
    return result ? result : ldtr_load(cpu, (uint16_t)selector, CPU_VECTOR_GP);
}

enum soft_result op_ltr(struct soft_cpu *cpu, const struct insn *insn)
{
    struct descriptor d;
    enum soft_result result;
    uint16_t selector;
    unsigned type;
    uint64_t value;

    if (not_protected(cpu))
        return fault_raise(cpu, CPU_VECTOR_UD);
    if (cpu->cpl != 0)
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    result = sys_operand_read(cpu, insn, 0, 2, &value);
    if (result)
        return result;
    selector = (uint16_t)value;
    if (selector_is_null(selector) || (selector & 4))
        return fault_raise_error(cpu, CPU_VECTOR_GP, selector & 0xfffc);
    result = descriptor_read(cpu, selector, CPU_VECTOR_GP, &d);
    if (result)
        return result;
    type = descriptor_type(&d);
    if (descriptor_is_segment(&d) ||
        !(type == SYSTEM_TSS || (type == SYSTEM_TSS16 && !cpu_long_mode(cpu))))
        return fault_raise_error(cpu, CPU_VECTOR_GP, selector & 0xfffc);
    if (!descriptor_present(&d))
        return fault_raise_error(cpu, CPU_VECTOR_NP, selector & 0xfffc);
    if (cpu_long_mode(cpu))
        result = descriptor_read_upper(cpu, selector, CPU_VECTOR_GP, &d);
    if (!result)
        result = descriptor_set_type(cpu, &d, type | 2);
    if (result)
        return result;
    descriptor_expand(&d, selector, &cpu->tr);
    return SOFT_OK;
}

static enum soft_result store_selector(struct soft_cpu *cpu, const struct insn *insn,
                                       uint16_t selector)
{
    if (not_protected(cpu))
        return fault_raise(cpu, CPU_VECTOR_UD);
    if (umip_forbids(cpu))
        return fault_raise_error(cpu, CPU_VECTOR_GP, 0);
    return sys_operand_write(cpu, insn, 0, selector);
}

enum soft_result op_sldt(struct soft_cpu *cpu, const struct insn *insn)
{
    return store_selector(cpu, insn, cpu->ldtr.selector);
}

enum soft_result op_str(struct soft_cpu *cpu, const struct insn *insn)
{
    return store_selector(cpu, insn, cpu->tr.selector);
}

static void set_zf(struct soft_cpu *cpu, bool set)
{
    cpu->rflags = set ? cpu->rflags | CPU_FLAG_ZF : cpu->rflags & ~CPU_FLAG_ZF;
}

/* Reads the descriptor for a probing instruction. SOFT_OK with *ret_found false where it may not
 * be seen; faults are page faults only. */
static enum soft_result probe_descriptor(struct soft_cpu *cpu, uint16_t selector,
                                         struct descriptor *d, bool *ret_found)
{
    enum soft_result result;

    *ret_found = false;
    if (selector_is_null(selector))
        return SOFT_OK;
    result = descriptor_read(cpu, selector, CPU_VECTOR_GP, d);
    if (result)
        return cpu->fault.vector == CPU_VECTOR_GP ? SOFT_OK : result;
    *ret_found = true;
    return SOFT_OK;
}

static bool visible(const struct soft_cpu *cpu, const struct descriptor *d, uint16_t selector)
{
    return descriptor_conforming(d) ||
           (cpu->cpl <= descriptor_dpl(d) && (selector & 3u) <= descriptor_dpl(d));
}

/* Bit n: LAR (LSL) accepts system type n, outside and in long mode. */
static bool system_type_accepted(const struct soft_cpu *cpu, bool lsl, unsigned type)
{
    static const uint16_t legacy[2] = {0x1a3e, 0x0a0e}, long_mode[2] = {0x1a04, 0x0a04};

    return (cpu_long_mode(cpu) ? long_mode : legacy)[lsl] >> type & 1;
}

enum soft_result op_lar_lsl(struct soft_cpu *cpu, const struct insn *insn)
{
    bool lsl = insn->id == INSN_LSL;
    struct cpu_segment expanded;
    struct descriptor d;
    enum soft_result result;
    uint64_t selector;
    bool found;

    if (not_protected(cpu))
        return fault_raise(cpu, CPU_VECTOR_UD);
    result = sys_operand_read(cpu, insn, 1, 2, &selector);
    if (!result)
        result = probe_descriptor(cpu, (uint16_t)selector, &d, &found);
    if (result)
        return result;
    found = found && visible(cpu, &d, (uint16_t)selector) &&
            (descriptor_is_segment(&d) || system_type_accepted(cpu, lsl, descriptor_type(&d)));
    set_zf(cpu, found);
    if (!found)
        return SOFT_OK;
    descriptor_expand(&d, (uint16_t)selector, &expanded);
    sys_reg_write(cpu, &insn->operand[0], lsl ? expanded.limit : d.high & 0x00ffff00);
    return SOFT_OK;
}

enum soft_result op_verr_verw(struct soft_cpu *cpu, const struct insn *insn)
{
    struct descriptor d;
    enum soft_result result;
    uint64_t selector;
    bool found, ok;

    if (not_protected(cpu))
        return fault_raise(cpu, CPU_VECTOR_UD);
    result = sys_operand_read(cpu, insn, 0, 2, &selector);
    if (!result)
        result = probe_descriptor(cpu, (uint16_t)selector, &d, &found);
    if (result)
        return result;
    ok = found && descriptor_is_segment(&d) && visible(cpu, &d, (uint16_t)selector);
    if (ok && insn->id == INSN_VERR)
        ok = !descriptor_is_code(&d) || (descriptor_type(&d) & SEGMENT_TYPE_READABLE);
    else if (ok)
        ok = !descriptor_is_code(&d) && (descriptor_type(&d) & SEGMENT_TYPE_WRITABLE);
    set_zf(cpu, ok);
    return SOFT_OK;
}

enum soft_result op_arpl(struct soft_cpu *cpu, const struct insn *insn)
{
    enum soft_result result;
    uint64_t to, from;

    if (not_protected(cpu))
        return fault_raise(cpu, CPU_VECTOR_UD);
    result = sys_operand_read(cpu, insn, 0, 2, &to);
    if (!result)
        result = sys_operand_read(cpu, insn, 1, 2, &from);
    if (result)
        return result;
    if ((to & 3) >= (from & 3)) {
        /* As processors do it: without a write, nor a check for one. */
        set_zf(cpu, false);
        return SOFT_OK;
    }
    result = sys_operand_write(cpu, insn, 0, (to & ~UINT64_C(3)) | (from & 3));
    if (!result)
        set_zf(cpu, true);
    return result;
}

const struct soft_handler soft_handlers_system[] = {
    {INSN_MOV_SEG, op_mov_seg},
    {INSN_LDS, op_load_far_pointer},
    {INSN_LES, op_load_far_pointer},
    {INSN_LSS, op_load_far_pointer},
    {INSN_LFS, op_load_far_pointer},
    {INSN_LGS, op_load_far_pointer},
    {INSN_LGDT, op_lgdt_lidt},
    {INSN_LIDT, op_lgdt_lidt},
    {INSN_SGDT, op_sgdt_sidt},
    {INSN_SIDT, op_sgdt_sidt},
    {INSN_LLDT, op_lldt},
    {INSN_LTR, op_ltr},
    {INSN_SLDT, op_sldt},
    {INSN_STR, op_str},
    {INSN_LAR, op_lar_lsl},
    {INSN_LSL, op_lar_lsl},
    {INSN_VERR, op_verr_verw},
    {INSN_VERW, op_verr_verw},
    {INSN_ARPL, op_arpl},
    {INSN_CALL_FAR, op_call_far},
    {INSN_JMP_FAR, op_jmp_far},
    {INSN_RET_FAR, op_ret_far},
    {INSN_IRET, op_iret},
    {INSN_SYSCALL, op_syscall},
    {INSN_SYSRET, op_sysret},
    {INSN_SYSENTER, op_sysenter},
    {INSN_SYSEXIT, op_sysexit},
    {INSN_MOV_CR, op_mov_cr},
    {INSN_CLTS, op_clts},
    {INSN_LMSW, op_lmsw},
    {INSN_SMSW, op_smsw},
    {INSN_INVLPG, op_invlpg},
    {INSN_INVPCID, op_invpcid},
    {INSN_XSETBV, op_xsetbv},
    {INSN_XGETBV, op_xgetbv},
    {INSN_CLAC, op_clac_stac},
    {INSN_STAC, op_clac_stac},
    {INSN_SWAPGS, op_swapgs},
    {INSN_RDFSBASE, op_fsgsbase},
    {INSN_RDGSBASE, op_fsgsbase},
    {INSN_WRFSBASE, op_fsgsbase},
    {INSN_WRGSBASE, op_fsgsbase},
    {INSN_INVD, op_cache},
    {INSN_WBINVD, op_cache},
    {INSN_WBNOINVD, op_cache},
    {INSN_MOV_DR, op_mov_dr},
    {INSN_RDMSR, op_rdmsr},
    {INSN_WRMSR, op_wrmsr},
    {INSN_CPUID, op_cpuid},
    {INSN_MONITOR, op_monitor},
    {INSN_MWAIT, op_monitor},
    {INSN_VMCALL, op_hypercall},
    {INSN_VMMCALL, op_hypercall},
    {INSN_RSM, op_rsm},
    {INSN_IN, op_in},
    {INSN_OUT, op_out},
    {INSN_INS, op_ins},
    {INSN_OUTS, op_outs},
    {INSN_NONE, NULL},
};
