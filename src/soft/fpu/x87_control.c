/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x87 control instructions: control and status words, the environment and the whole state in their
 * four memory formats (SDM 1 8.1.10): 16- or 32-bit, real-address (and virtual-8086) or protected.
 *
 * None of them changes FIP, FDP or FOP, but for those that load or clear them.
 */
#include "soft/fpu/fpu_internal.h"

#include <string.h>

#define ENV_SIZE_MAX   28u
#define STATE_SIZE_MAX (ENV_SIZE_MAX + 80u)

static void init_state(struct soft_cpu *cpu)
{
    struct fpu_area *area = &cpu->fpu.area;

    area->fcw = FPU_FCW_DEFAULT;
    area->fsw = 0;
    area->ftw = 0;
    area->fop = 0;
    area->fip = 0;
    area->fdp = 0;
    cpu->fpu.fcs = 0;
    cpu->fpu.fds = 0;
}

enum soft_result fpu_run_fninit(struct soft_cpu *cpu, const struct insn *insn)
{
    struct fpu_area *area = &cpu->fpu.area;
    unsigned top = fpu_top(area);
    struct fpu_st physical[8];

    if (fpu_check_x87(cpu, insn, false) != SOFT_OK)
        return SOFT_FAULT;
    /* The registers keep their contents where they are; only TOP moves. */
    for (unsigned i = 0; i < 8; i++)
        physical[(top + i) & 7] = area->st[i];
    memcpy(area->st, physical, sizeof(physical));
    init_state(cpu);
    return SOFT_OK;
}

enum soft_result fpu_run_fnclex(struct soft_cpu *cpu, const struct insn *insn)
{
    if (fpu_check_x87(cpu, insn, false) != SOFT_OK)
        return SOFT_FAULT;
    cpu->fpu.area.fsw &= (uint16_t) ~(FPU_EXCEPTIONS | FPU_FSW_SF | FPU_FSW_ES | FPU_FSW_B);
    return SOFT_OK;
}

enum soft_result fpu_run_fnstcw(struct soft_cpu *cpu, const struct insn *insn)
{
    if (fpu_check_x87(cpu, insn, false) != SOFT_OK)
        return SOFT_FAULT;
    return mmu_store(cpu, insn->mem.segment, fpu_address(cpu, insn), &cpu->fpu.area.fcw, 2);
}

enum soft_result fpu_run_fldcw(struct soft_cpu *cpu, const struct insn *insn)
{
    uint16_t value;

    if (fpu_check_x87(cpu, insn, true) != SOFT_OK ||
        mmu_load(cpu, insn->mem.segment, fpu_address(cpu, insn), &value, 2) != SOFT_OK)
        return SOFT_FAULT;
    cpu->fpu.area.fcw = (value & 0x1f3f) | 0x40;
    fpu_update_es(&cpu->fpu.area);
    return SOFT_OK;
}

enum soft_result fpu_run_fnstsw(struct soft_cpu *cpu, const struct insn *insn)
{
    if (fpu_check_x87(cpu, insn, false) != SOFT_OK)
        return SOFT_FAULT;
    if (insn->operand[0].kind == INSN_OPERAND_MEM)
        return mmu_store(cpu, insn->mem.segment, fpu_address(cpu, insn), &cpu->fpu.area.fsw, 2);
    store_le16(&cpu->gpr[CPU_RAX], cpu->fpu.area.fsw);
    return SOFT_OK;
}

enum soft_result fpu_run_fwait(struct soft_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    if ((cpu->cr0 & (CPU_CR0_MP | CPU_CR0_TS)) == (CPU_CR0_MP | CPU_CR0_TS))
        return fault_raise(cpu, CPU_VECTOR_NM);
    /* Neither EM nor TS without MP stops FWAIT. */
    if ((cpu->fpu.area.fsw & FPU_FSW_ES) && (cpu->cr0 & CPU_CR0_NE))
        return fault_raise(cpu, CPU_VECTOR_MF);
    return SOFT_OK;
}

/* The two-bit tag of a register that is not empty (SDM 1 8.1.7). */
static unsigned tag_of(const struct fpu_st *st)
{
    unsigned exponent = st->exponent & 0x7fff;

    if (exponent == 0 && st->mantissa == 0)
        return 1;
    if (exponent == 0 || exponent == 0x7fff || !(st->mantissa >> 63))
        return 2;
    return 0;
}

static uint16_t full_tags(const struct fpu_area *area)
{
    unsigned tags = 0;

    for (unsigned i = 0; i < 8; i++) {
        unsigned tag = area->ftw >> i & 1 ? tag_of(&area->st[(i - fpu_top(area)) & 7]) : 3;

        tags |= tag << 2 * i;
    }
    return (uint16_t)tags;
}

static bool is_real_format(const struct soft_cpu *cpu)
{
    return cpu->mode == SOFT_MODE_REAL || cpu->mode == SOFT_MODE_V86;
}

static unsigned env_size(const struct insn *insn)
{
    return insn->operand_size == 2 ? 14 : 28;
}

static void env_build16(const struct soft_cpu *cpu, uint8_t *env)
{
    const struct fpu_area *area = &cpu->fpu.area;

    store_le16(env + 0, area->fcw);
    store_le16(env + 2, area->fsw);
    store_le16(env + 4, full_tags(area));
    if (is_real_format(cpu)) {
        uint32_t ip = (uint32_t)area->fip + cpu->fpu.fcs * 16u;
        uint32_t dp = (uint32_t)area->fdp + cpu->fpu.fds * 16u;

        store_le16(env + 6, (uint16_t)ip);
        store_le16(env + 8, (uint16_t)((ip >> 16 & 15) << 12 | area->fop));
        store_le16(env + 10, (uint16_t)dp);
        store_le16(env + 12, (uint16_t)((dp >> 16 & 15) << 12));
    } else {
        store_le16(env + 6, (uint16_t)area->fip);
        store_le16(env + 8, cpu->fpu.fcs);
        store_le16(env + 10, (uint16_t)area->fdp);
        store_le16(env + 12, cpu->fpu.fds);
    }
}

static void env_build32(const struct soft_cpu *cpu, uint8_t *env)
{
    const struct fpu_area *area = &cpu->fpu.area;

    store_le32(env + 0, 0xffff0000u | area->fcw);
    store_le32(env + 4, 0xffff0000u | area->fsw);
    store_le32(env + 8, 0xffff0000u | full_tags(area));
    if (is_real_format(cpu)) {
        uint32_t ip = (uint32_t)area->fip + cpu->fpu.fcs * 16u;
        uint32_t dp = (uint32_t)area->fdp + cpu->fpu.fds * 16u;

        store_le32(env + 12, 0xffff0000u | (ip & 0xffff));
        store_le32(env + 16, (ip >> 16) << 12 | area->fop);
        store_le32(env + 20, 0xffff0000u | (dp & 0xffff));
        store_le32(env + 24, (dp >> 16) << 12);
    } else {
        store_le32(env + 12, (uint32_t)area->fip);
        store_le32(env + 16, (uint32_t)area->fop << 16 | cpu->fpu.fcs);
        store_le32(env + 20, (uint32_t)area->fdp);
        store_le32(env + 24, 0xffff0000u | cpu->fpu.fds);
    }
}

static void env_build(const struct soft_cpu *cpu, const struct insn *insn, uint8_t *env)
{
    if (insn->operand_size == 2)
        env_build16(cpu, env);
    else
        env_build32(cpu, env);
}

/* Abridged tags from full ones; the contents decide what a tag becomes when it is stored again. */
static uint8_t abridge_tags(uint16_t tags)
{
    unsigned abridged = 0;

    for (unsigned i = 0; i < 8; i++)
        if ((tags >> 2 * i & 3) != 3)
            abridged |= 1u << i;
    return (uint8_t)abridged;
}

/* Moves the registers so that their physical places stay and ST(i) follows the new TOP. */
static void set_status(struct fpu_area *area, uint16_t fsw)
{
    unsigned old = fpu_top(area);
    struct fpu_st physical[8];

    for (unsigned i = 0; i < 8; i++)
        physical[(old + i) & 7] = area->st[i];
    area->fsw = fsw;
    for (unsigned i = 0; i < 8; i++)
        area->st[i] = physical[(fpu_top(area) + i) & 7];
}

static void env_apply_pointers16(struct soft_cpu *cpu, const uint8_t *env)
{
    struct fpu_area *area = &cpu->fpu.area;

    area->fip = load_le16(env + 6);
    area->fdp = load_le16(env + 10);
    if (is_real_format(cpu)) {
        area->fip |= (uint64_t)(load_le16(env + 8) >> 12) << 16;
        area->fop = load_le16(env + 8) & 0x7ff;
        area->fdp |= (uint64_t)(load_le16(env + 12) >> 12) << 16;
        cpu->fpu.fcs = 0;
        cpu->fpu.fds = 0;
    } else {
        area->fop = 0;
        fpu_set_selectors(cpu, load_le16(env + 8), load_le16(env + 12));
    }
}

static void env_apply_pointers32(struct soft_cpu *cpu, const uint8_t *env)
{
    struct fpu_area *area = &cpu->fpu.area;

    if (is_real_format(cpu)) {
        area->fip = load_le16(env + 12) | (uint64_t)(load_le32(env + 16) >> 12 & 0xffff) << 16;
        area->fop = load_le16(env + 16) & 0x7ff;
        area->fdp = load_le16(env + 20) | (uint64_t)(load_le32(env + 24) >> 12 & 0xffff) << 16;
        cpu->fpu.fcs = 0;
        cpu->fpu.fds = 0;
    } else {
        area->fip = load_le32(env + 12);
        area->fop = load_le16(env + 18) & 0x7ff;
        area->fdp = load_le32(env + 20);
        fpu_set_selectors(cpu, load_le16(env + 16), load_le16(env + 24));
    }
}

static void env_apply(struct soft_cpu *cpu, const struct insn *insn, const uint8_t *env)
{
    struct fpu_area *area = &cpu->fpu.area;
    unsigned word = insn->operand_size == 2 ? 2 : 4;

    area->fcw = (load_le16(env) & 0x1f3f) | 0x40;
    set_status(area, load_le16(env + word));
    area->ftw = abridge_tags(load_le16(env + 2 * word));
    if (word == 2)
        env_apply_pointers16(cpu, env);
    else
        env_apply_pointers32(cpu, env);
    fpu_update_es(area);
}

enum soft_result fpu_run_fnstenv(struct soft_cpu *cpu, const struct insn *insn)
{
    uint8_t env[ENV_SIZE_MAX];

    if (fpu_check_x87(cpu, insn, false) != SOFT_OK)
        return SOFT_FAULT;
    env_build(cpu, insn, env);
    if (mmu_store(cpu, insn->mem.segment, fpu_address(cpu, insn), env, env_size(insn)) != SOFT_OK)
        return SOFT_FAULT;
    cpu->fpu.area.fcw |= FPU_EXCEPTIONS;
    fpu_update_es(&cpu->fpu.area);
    return SOFT_OK;
}

enum soft_result fpu_run_fldenv(struct soft_cpu *cpu, const struct insn *insn)
{
    uint8_t env[ENV_SIZE_MAX];

    if (fpu_check_x87(cpu, insn, true) != SOFT_OK ||
        mmu_load(cpu, insn->mem.segment, fpu_address(cpu, insn), env, env_size(insn)) != SOFT_OK)
        return SOFT_FAULT;
    env_apply(cpu, insn, env);
    return SOFT_OK;
}

enum soft_result fpu_run_fnsave(struct soft_cpu *cpu, const struct insn *insn)
{
    struct fpu_area *area = &cpu->fpu.area;
    uint8_t state[STATE_SIZE_MAX];
    unsigned size = env_size(insn);

    if (fpu_check_x87(cpu, insn, false) != SOFT_OK)
        return SOFT_FAULT;
    env_build(cpu, insn, state);
    for (unsigned i = 0; i < 8; i++)
        memcpy(state + size + 10 * i, &area->st[i], 10);
    if (fpu_store(cpu, insn, fpu_address(cpu, insn), state, size + 80) != SOFT_OK)
        return SOFT_FAULT;
    return fpu_run_fninit(cpu, insn);
}

enum soft_result fpu_run_frstor(struct soft_cpu *cpu, const struct insn *insn)
{
    struct fpu_area *area = &cpu->fpu.area;
    uint8_t state[STATE_SIZE_MAX];
    unsigned size = env_size(insn);

    if (fpu_check_x87(cpu, insn, true) != SOFT_OK ||
        fpu_load(cpu, insn, fpu_address(cpu, insn), state, size + 80) != SOFT_OK)
        return SOFT_FAULT;
    env_apply(cpu, insn, state);
    for (unsigned i = 0; i < 8; i++)
        memcpy(&area->st[i], state + size + 10 * i, 10);
    return SOFT_OK;
}
