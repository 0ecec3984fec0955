/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Near branches and the stack instructions.
 *
 * A direct jump inside the page is a host jump, patched once its target is translated. Everything
 * else looks the linear address up in translate_class.jump_tag. An indirect branch looks before it
 * changes anything, and is interpreted when the target is not there.
 *
 * A CALL is a host call and its RET a host return, when the guest's return address is the one that
 * the call left on the host's stack (returns.c); otherwise the table is asked.
 *
 * Source: SDM 2A CALL, JMP, Jcc; 2B POP, PUSH, RET.
 */
#include "soft/translate/translator.h"

/* R10 = linear target. R11 = its index; a known one skips the next `bytes`. Clobbers RCX. */
static void compare_tag(struct emit *e, uint8_t bytes)
{
    emit_pext(e, HOST_R11, HOST_R10, HOT(jump_mask));
    emit_load_indexed(e, HOST_RCX, CLASS(jump_tag));
    emit_lea(e, HOST_RCX, HOST_RCX, HOST_R10, 0, 0);
    emit8(e, 0xe3); /* jrcxz */
    emit8(e, bytes);
}

/* R10 = linear target. R11 = its index, if it is known; otherwise leaves. Clobbers RCX. */
static void lookup(struct translator *tr)
{
    struct emit *e = &tr->e;

    compare_tag(e, 5);
    translator_exit(tr, emit_jump(e), TRANSLATE_EXIT_REST, tr->op);
    tr->stub[tr->nr_stubs - 1].leave = tr->cpu->translate->jump_miss;
}

/* R10 = linear target. hot.target_code = its code; otherwise leaves. Clobbers RCX and R11. */
static void lookup_code(struct translator *tr)
{
    struct emit *e = &tr->e;

    compare_tag(e, 7);
    translator_exit(tr, emit_call(e), TRANSLATE_EXIT_REST, tr->op);
    tr->stub[tr->nr_stubs - 1].leave = tr->cpu->translate->call_miss; /* returns with R11 */
    emit8(e, 0xeb);
    emit8(e, 8);
    emit_load_indexed(e, HOST_R11, CLASS(jump_code));
    emit_store_hot(e, HOST_R11, HOT(target_code));
}

const uint8_t *translate_lookup(struct translate *translate, const struct translate_link *link)
{
    struct emit e = {.at = translate->code.write + translate->code.used};
    const uint8_t *start = code_cache_run(&translate->code, e.at);
    uint8_t *miss;

    if (translate->code.cold - translate->code.used < 256)
        return NULL;
    if (!link->far)
        emit_load_hot(&e, HOST_R10, HOT(page));
    emit_lea(&e, HOST_R10, HOST_R10, HOST_NONE, 0,
             link->far ? link->target & (int32_t)GUEST_PAGE_MASK : link->target);
    emit_pext(&e, HOST_R11, HOST_R10, HOT(jump_mask));
    emit_load_indexed(&e, HOST_RCX, CLASS(jump_tag));
    emit_lea(&e, HOST_RCX, HOST_RCX, HOST_R10, 0, 0);
    emit8(&e, 0xe3);
    emit8(&e, 5);
    miss = emit_jump(&e);
    emit_jump_indexed(&e);
    emit_patch(miss, e.at);
    emit8(&e, 0xb9);
    emit32(&e, TRANSLATE_EXIT_GOTO);
    emit_patch(emit_jump(&e), translate->jump_miss);
    translate->code.used = align_up((uint64_t)(e.at - translate->code.write), 8);
    return start;
}

static bool in_page(int64_t target)
{
    return target >= 0 && target < (int64_t)GUEST_PAGE_SIZE;
}

/* From the page of the block to that of a target in another one. */
static int32_t page_distance(int64_t target)
{
    return (int32_t)(target & ~(int64_t)GUEST_PAGE_MASK);
}

static void link_add(struct translator *tr, unsigned slot, uint8_t *patch, int64_t target)
{
    tr->t->link[slot].patch = patch;
    tr->t->link[slot].target = (int32_t)target;
    tr->t->link[slot].far = !in_page(target);
    translator_exit(tr, patch, TRANSLATE_EXIT_LINK, slot);
}

void translator_goto(struct translator *tr, unsigned slot, int64_t target)
{
    if (!in_page(target)) {
        emit_load_hot(&tr->e, HOST_R10, HOT(page));
        emit_lea(&tr->e, HOST_R10, HOST_R10, HOST_NONE, 0, page_distance(target));
    }
    link_add(tr, slot, emit_jump(&tr->e), target);
}

static int64_t target_of(const struct translator *tr)
{
    return (int64_t)tr->offset + tr->insn.length + (int64_t)tr->insn.imm;
}

/* Links and distances between pages have 32 bits. */
static bool in_reach(const struct translator *tr)
{
    int64_t target = target_of(tr), most = INT32_MAX - 2 * (int64_t)GUEST_PAGE_SIZE;

    return tr->insn.operand[0].kind != INSN_OPERAND_REL || (target >= -most && target <= most);
}

static void jcc(struct translator *tr, unsigned link)
{
    int64_t target = target_of(tr);
    uint8_t *patch = emit_jump_if(&tr->e, tr->insn.condition & 15);

    if (in_page(target))
        link_add(tr, link, patch, target);
    else
        tr->far[tr->nr_far++] =
            (struct translator_far){.patch = patch, .link = link, .target = target};
}

static bool branch_jcc(struct translator *tr)
{
    jcc(tr, TRANSLATOR_LINK_TAKEN);
    translator_goto(tr, TRANSLATOR_LINK_BEHIND, (int64_t)tr->offset + tr->insn.length);
    return true;
}

void translator_side(struct translator *tr)
{
    jcc(tr, TRANSLATOR_LINK_SIDES + tr->nr_sides++);
    tr->rcx_kept = true;
}

/* A push's store: the address and its check. */
static void push_begin(struct translator *tr)
{
    translator_stack_access(tr, CPU_RSP, -8, true);
}

static void push_end(struct translator *tr, unsigned value)
{
    emit_guest(&tr->e, 0x89, value, &tr->operand);
    emit_lea(&tr->e, HOST_R15, HOST_R15, HOST_NONE, 0, -8);
}

static void push_return(struct translator *tr)
{
    push_begin(tr);
    emit_load_hot(&tr->e, HOST_R11, HOT(page));
    emit_lea(&tr->e, HOST_R11, HOST_R11, HOST_NONE, 0, (int32_t)(tr->offset + tr->insn.length));
    push_end(tr, HOST_R11);
}

/* R10 = the value of operand 0, a 64-bit register or memory. */
static bool load_target(struct translator *tr)
{
    const struct insn_operand *operand = &tr->insn.operand[0];

    if (operand->size != 8)
        return false;
    if (operand->kind == INSN_OPERAND_REG) {
        if (emit_home[operand->reg] == HOST_NONE)
            emit_load_hot(&tr->e, HOST_R10, emit_kept(operand->reg));
        else
            emit_move(&tr->e, HOST_R10, emit_home[operand->reg]);
        return true;
    }
    if (operand->kind != INSN_OPERAND_MEM || !translator_access(tr, 8, false, false))
        return false;
    emit_guest(&tr->e, 0x8b, HOST_R10, &tr->operand);
    return true;
}

static bool branch_jmp(struct translator *tr)
{
    if (tr->insn.operand[0].kind == INSN_OPERAND_REL) {
        translator_goto(tr, 0, target_of(tr));
        return true;
    }
    if (!load_target(tr))
        return false;
    lookup(tr);
    emit_jump_indexed(&tr->e);
    return true;
}

/* R11 = return address: the pair's upper half. */
static void pair_push(struct translator *tr)
{
    emit_not(&tr->e, HOST_R11);
    emit_push(&tr->e, HOST_R11);
}

/* Where the host's return leads, with R10 = the guest's return address. */
static void return_point(struct translator *tr)
{
    int64_t offset = (int64_t)tr->offset + tr->insn.length;

    emit_pop(&tr->e, HOST_RCX);
    emit_lea(&tr->e, HOST_R10, HOST_R10, HOST_NONE, 0, -(int32_t)offset);
    emit_store_hot(&tr->e, HOST_R10, HOT(page));
    translator_goto(tr, 1, offset);
}

static bool emit_call_direct(struct translator *tr)
{
    int64_t target = target_of(tr);
    uint8_t *patch;

    push_return(tr);
    if (!in_page(target))
        emit_lea(&tr->e, HOST_R10, HOST_R11, HOST_NONE, 0,
                 page_distance(target) - (int32_t)(tr->offset + tr->insn.length));
    pair_push(tr);
    patch = emit_call(&tr->e);
    link_add(tr, 0, patch, target);
    return_point(tr);
    return true;
}

/* The register that the code at this CALL's target, `mov [rsp], register; ret`, returns to; or
 * HOST_NONE. The target's bytes are looked at only where the block's own granule has them: a write
 * there kills it. */
static unsigned retpoline_register(const struct translator *tr)
{
    int64_t target = target_of(tr);
    const uint8_t *at = tr->bytes + tr->insn.length + tr->insn.imm;

    if (target <= tr->offset || (target + 4) / CACHE_GRANULE != tr->offset / CACHE_GRANULE ||
        tr->insn.length != 5)
        return HOST_NONE;
    if ((at[0] & 0xfb) != 0x48 || at[1] != 0x89 || (at[2] & 0xc7) != 0x04 || at[3] != 0x24 ||
        at[4] != 0xc3 || (at[0] == 0x48 && at[2] == 0x24))
        return HOST_NONE;
    return (at[0] & 4) << 1 | (at[2] >> 3 & 7);
}

/* An indirect jump in the form that kernels give it against the speculation of processors: a call
 * whose return address is overwritten. Translated as what it is, for as returns such things would
 * only confuse the host; nothing here makes speculation less safe than the jump table does. */
static void emit_retpoline(struct translator *tr, unsigned reg)
{
    if (emit_home[reg] == HOST_NONE)
        emit_load_hot(&tr->e, HOST_R10, emit_kept(reg));
    else
        emit_move(&tr->e, HOST_R10, emit_home[reg]);
    lookup_code(tr);
    emit_store_hot(&tr->e, HOST_R10, HOT(target));
    push_begin(tr);
    emit_load_hot(&tr->e, HOST_R11, HOT(target));
    emit_guest(&tr->e, 0x89, HOST_R11, &tr->operand);
    emit_load_hot(&tr->e, HOST_R10, HOT(target));
    emit_branch_hot(&tr->e, 4, HOT(target_code));
}

static bool branch_call(struct translator *tr)
{
    unsigned reg;

    if (tr->insn.operand[0].kind == INSN_OPERAND_REL) {
        reg = retpoline_register(tr);
        if (reg == HOST_NONE)
            return emit_call_direct(tr);
        emit_retpoline(tr, reg);
        return true;
    }
    if (!load_target(tr))
        return false;
    lookup_code(tr);
    emit_store_hot(&tr->e, HOST_R10, HOT(target));
    push_return(tr);
    pair_push(tr);
    emit_load_hot(&tr->e, HOST_R10, HOT(target));
    emit_branch_hot(&tr->e, 2, HOT(target_code));
    return_point(tr);
    return true;
}

static bool branch_ret(struct translator *tr)
{
    struct emit *e = &tr->e;

    if (tr->insn.operand[0].kind == INSN_OPERAND_IMM && tr->insn.imm)
        return false;
    translator_stack_access(tr, CPU_RSP, 0, false);
    emit_guest(e, 0x8b, HOST_R10, &tr->operand);
    emit_memory(e, 0x8b, HOST_RCX, HOST_RSP, 8);
    emit_lea(e, HOST_RCX, HOST_RCX, HOST_R10, 0, 1);
    emit8(e, 0xe3); /* jrcxz over the jump */
    emit8(e, 5);
    translator_exit(tr, emit_jump(e), TRANSLATE_EXIT_REST, tr->op);
    tr->stub[tr->nr_stubs - 1].leave = tr->cpu->translate->return_miss;
    emit_lea(e, HOST_R15, HOST_R15, HOST_NONE, 0, 8);
    emit8(e, 0xc3);
    return true;
}

bool translator_branch(struct translator *tr)
{
    uint8_t *start = tr->e.at;
    unsigned nr_stubs = tr->nr_stubs;
    bool done = false;

    if (tr->insn.operand_size != 8 || !in_reach(tr))
        return false;
    switch (tr->insn.id) {
    case INSN_JCC:
        done = branch_jcc(tr);
        break;
    case INSN_JMP:
        done = branch_jmp(tr);
        break;
    case INSN_CALL:
        done = branch_call(tr);
        break;
    case INSN_RET:
        done = branch_ret(tr);
        break;
    default:
        break;
    }
    if (!done) {
        tr->e.at = start;
        tr->nr_stubs = nr_stubs;
    }
    return done;
}

/* Is the next instruction a PUSH or POP like this one that can leave nothing undone: in the same
 * range, which has been checked? RSP then changes once, behind the last of them. */
static bool stack_goes_on(const struct translator *tr)
{
    const struct insn *next = &tr->insns[tr->op + 1];
    const struct insn_operand *operand = &next->operand[0];
    unsigned range = tr->range_of[tr->op];

    if ((!tr->t->ranged && !tr->window) || range == TRANSLATOR_NO_RANGE ||
        tr->op + 1u >= tr->t->nr_ops || tr->range_of[tr->op + 1] != range ||
        next->id != tr->insn.id || next->operand_size != 8 || tr->insn.operand[0].reg == CPU_RSP)
        return false;
    return operand->kind == INSN_OPERAND_REG && operand->reg_class == INSN_REG_GPR &&
           operand->reg != CPU_RSP;
}

/* RSP changes by so much. */
static void stack_move(struct translator *tr, int32_t by)
{
    tr->rsp_pending += by;
    if (stack_goes_on(tr))
        return;
    emit_lea(&tr->e, HOST_R15, HOST_R15, HOST_NONE, 0, tr->rsp_pending);
    tr->rsp_pending = 0;
}

static bool stack_push(struct translator *tr)
{
    const struct insn_operand *operand = &tr->insn.operand[0];
    unsigned value = HOST_R11;

    if (operand->kind == INSN_OPERAND_MEM) {
        if (!load_target(tr))
            return false;
        emit_store_hot(&tr->e, HOST_R10, HOT(target));
    } else if (operand->kind == INSN_OPERAND_REG && operand->reg_class != INSN_REG_GPR) {
        return false;
    }
    push_begin(tr);
    switch (operand->kind) {
    case INSN_OPERAND_IMM:
        emit8(&tr->e, 0x49); /* mov r11, imm32 */
        emit8(&tr->e, 0xc7);
        emit8(&tr->e, 0xc3);
        emit32(&tr->e, (uint32_t)tr->insn.imm);
        break;
    case INSN_OPERAND_MEM:
        emit_load_hot(&tr->e, HOST_R11, HOT(target));
        break;
    default:
        value = emit_home[operand->reg];
        if (value == HOST_NONE) {
            value = HOST_R11;
            emit_load_hot(&tr->e, value, emit_kept(operand->reg));
        }
        break;
    }
    emit_guest(&tr->e, 0x89, value, &tr->operand);
    stack_move(tr, -8);
    tr->rcx_kept = true;
    return true;
}

static bool stack_pop(struct translator *tr)
{
    const struct insn_operand *operand = &tr->insn.operand[0];
    unsigned home;

    if (operand->kind != INSN_OPERAND_REG || operand->reg_class != INSN_REG_GPR)
        return false;
    home = emit_home[operand->reg];
    translator_stack_access(tr, CPU_RSP, 0, false);
    emit_guest(&tr->e, 0x8b, home == HOST_NONE ? HOST_R11 : home, &tr->operand);
    if (home == HOST_NONE)
        emit_store_hot(&tr->e, HOST_R11, emit_kept(operand->reg));
    tr->rcx_kept = true;
    if (operand->reg != CPU_RSP)
        stack_move(tr, 8);
    return true;
}

static bool stack_leave(struct translator *tr)
{
    translator_stack_access(tr, CPU_RBP, 0, false);
    emit_guest(&tr->e, 0x8b, HOST_R11, &tr->operand);
    emit_lea(&tr->e, HOST_R15, HOST_RBP, HOST_NONE, 0, 8);
    emit_move(&tr->e, HOST_RBP, HOST_R11);
    return true;
}

bool translator_stack(struct translator *tr)
{
    uint8_t *start = tr->e.at;
    unsigned nr_stubs = tr->nr_stubs;
    bool done = false;

    if (tr->insn.operand_size != 8)
        return false;
    if (tr->insn.id == INSN_PUSH)
        done = stack_push(tr);
    else if (tr->insn.id == INSN_POP)
        done = stack_pop(tr);
    else if (tr->insn.id == INSN_LEAVE)
        done = stack_leave(tr);
    if (!done) {
        tr->e.at = start;
        tr->nr_stubs = nr_stubs;
    }
    return done;
}
