/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways into generated code and out of it, generated too: they move the guest's registers and
 * flags between struct soft_cpu and the host's registers.
 *
 *   enter         uint32_t (struct soft_cpu *): registers, flags, stack; then jmp gs:[hot.enter]
 *   enter_vector, enter_wide  the same after loading XMM and MXCSR; and YMM
 *   leave         RCX = exit code, R10 = address: stores everything, returns ECX
 *   return_miss, return_empty: the slow ends of a RET
 *   check         the exact check of an access
 *   jump_miss, call_miss  those of jumps and calls through the table
 *
 * Flags go through LAHF's layout of soft_cpu.host_flags; the direction flag stays clear.
 */
#include "soft/translate/emit.h"

#include <errno.h>

#define GPR(n) ((int32_t)(offsetof(struct soft_cpu, gpr) + 8 * (n)))
#define FLAGS  ((int32_t)offsetof(struct soft_cpu, host_flags))
#define XMM(n) ((int32_t)(offsetof(struct soft_cpu, fpu.area.xmm) + 16 * (n)))
#define YMM(n) ((int32_t)(offsetof(struct soft_cpu, fpu.area.ymm_high) + 16 * (n)))
#define MXCSR  ((int32_t)offsetof(struct soft_cpu, fpu.area.mxcsr))

/* vmovdqu xmm, [base + displacement], or the store */
static void vector_move(struct emit *e, bool store, unsigned xmm, unsigned base,
                        int32_t displacement)
{
    emit8(e, 0xc4);
    emit8(e, (xmm < 8 ? 0x80 : 0) | 0x40 | (base < 8 ? 0x20 : 0) | 1);
    emit8(e, 0x7a);
    emit8(e, store ? 0x7f : 0x6f);
    emit_address(e, xmm, base, HOST_NONE, 0, displacement);
}

/* vinsertf128 ymm, ymm, [..], 1; vextractf128 [..], ymm, 1 */
static void vector_move_high(struct emit *e, bool store, unsigned ymm, unsigned base,
                             int32_t displacement)
{
    emit8(e, 0xc4);
    emit8(e, (ymm < 8 ? 0x80 : 0) | 0x40 | (base < 8 ? 0x20 : 0) | 3);
    emit8(e, store ? 0x7d : 0x05 | (~ymm & 15) << 3);
    emit8(e, store ? 0x19 : 0x18);
    emit_address(e, ymm, base, HOST_NONE, 0, displacement);
    emit8(e, 1);
}

/* ldmxcsr (2), stmxcsr (3) [base + displacement] */
static void mxcsr_move(struct emit *e, unsigned extension, unsigned base, int32_t displacement)
{
    if (base >= 8)
        emit8(e, 0x41);
    emit8(e, 0x0f);
    emit8(e, 0xae);
    emit_address(e, extension, base, HOST_NONE, 0, displacement);
}

/* The status flags, from struct soft_cpu at `base`; RAX is lost. */
static void flags_load(struct emit *e, unsigned base)
{
    emit_memory(e, 0x8b, HOST_RAX, base, FLAGS);
    emit8(e, 0x04); /* add al, 127 */
    emit8(e, 0x7f);
    emit8(e, 0x9e); /* sahf */
}

/* ... to struct soft_cpu at R10; RAX is lost. */
static void flags_store(struct emit *e)
{
    emit8(e, 0xb8); /* mov eax, 0: keeps the flags */
    emit32(e, 0);
    emit8(e, 0x9f); /* lahf */
    emit8(e, 0x0f); /* seto al */
    emit8(e, 0x90);
    emit8(e, 0xc0);
    emit_memory(e, 0x89, HOST_RAX, HOST_R10, FLAGS);
}

/* To the stack of C, with R10 kept. */
static void stack_change(struct emit *e)
{
    emit_store_hot(e, HOST_RSP, HOT(return_rsp));
    emit_load_hot(e, HOST_RSP, HOT(host_rsp));
    emit_store_hot(e, HOST_R10, HOT(address));
}

static const uint8_t saved[] = {HOST_RBX, HOST_RBP, HOST_R12, HOST_R13, HOST_R14, HOST_R15};

/* HOST_BASE += TRANSLATE_BASE. Clobbers R10. */
static void base_add(struct emit *e)
{
    emit8(e, 0x49); /* mov r10, TRANSLATE_BASE */
    emit8(e, 0xba);
    emit64(e, TRANSLATE_BASE);
    emit_lea(e, HOST_BASE, HOST_BASE, HOST_R10, 0, 0);
}

/* HOST_BASE, on the way in. */
static void base_read(struct emit *e)
{
    emit8(e, 0xf3); /* rdgsbase */
    emit8(e, 0x48 | HOST_BASE >> 3);
    emit8(e, 0x0f);
    emit8(e, 0xae);
    emit8(e, 0xc8 | (HOST_BASE & 7));
    base_add(e);
}

/* wide: with the registers' upper halves; otherwise those are 0, and known to the processor to be:
 * legacy SSE instructions wait for upper halves that are not. */
static void enter_emit(struct emit *e, bool vector, bool wide)
{
    for (unsigned i = 0; i < ARRAY_LEN(saved); i++)
        emit_push(e, saved[i]);
    base_read(e);
    emit_store_hot(e, HOST_RSP, HOT(host_rsp));
    emit_load_hot(e, HOST_RSP, HOT(return_rsp));
    emit_move(e, HOST_RCX, HOST_RDI);
    if (vector) {
        emit8(e, 0xc5); /* vzeroupper */
        emit8(e, 0xf8);
        emit8(e, 0x77);
        for (unsigned i = 0; i < 16; i++) {
            vector_move(e, false, i, HOST_RCX, XMM(i));
            if (wide)
                vector_move_high(e, false, i, HOST_RCX, YMM(i));
        }
        mxcsr_move(e, 2, HOST_RCX, MXCSR);
    }
    flags_load(e, HOST_RCX);
    for (unsigned i = 0; i < CPU_NR_GPRS; i++) {
        if (emit_home[i] != HOST_NONE) {
            emit_memory(e, 0x8b, emit_home[i], HOST_RCX, GPR(i));
        } else {
            emit_memory(e, 0x8b, HOST_R10, HOST_RCX, GPR(i));
            emit_store_hot(e, HOST_R10, emit_kept(i));
        }
    }
    emit_branch_hot(e, 4, HOT(enter));
}

static void vector_store(struct emit *e)
{
    uint8_t *skip;

    emit_memory(e, 0x83, 7, HOST_BASE, emit_based(HOT(vector_here))); /* cmp qword .., 0 */
    emit8(e, 0);
    skip = emit_jump_if(e, 4); /* zero */
    for (unsigned i = 0; i < 16; i++) {
        vector_move(e, true, i, HOST_R10, XMM(i));
        vector_move_high(e, true, i, HOST_R10, YMM(i));
    }
    mxcsr_move(e, 3, HOST_R10, MXCSR);
    mxcsr_move(e, 2, HOST_BASE, emit_based(HOT(mxcsr_host)));
    emit8(e, 0xc5); /* vzeroupper */
    emit8(e, 0xf8);
    emit8(e, 0x77);
    emit_memory(e, 0xc7, 0, HOST_BASE, emit_based(HOT(vector_here))); /* mov qword .., 0 */
    emit32(e, 0);
    emit_memory(e, 0xc7, 0, HOST_BASE, emit_based(HOT(vector_left)));
    emit32(e, 1);
    emit_patch(skip, e->at);
}

static void leave_emit(struct emit *e)
{
    stack_change(e);
    emit_load_hot(e, HOST_R10, HOT(cpu));
    for (unsigned i = 0; i < CPU_NR_GPRS; i++) {
        if (emit_home[i] != HOST_NONE) {
            emit_memory(e, 0x89, emit_home[i], HOST_R10, GPR(i));
        } else {
            emit_load_hot(e, HOST_R11, emit_kept(i));
            emit_memory(e, 0x89, HOST_R11, HOST_R10, GPR(i));
        }
    }
    flags_store(e);
    vector_store(e);
    emit8(e, 0x89); /* mov eax, ecx */
    emit8(e, 0xc8);
    for (unsigned i = ARRAY_LEN(saved); i-- > 0;)
        emit_pop(e, saved[i]);
    emit8(e, 0xc3);
}

/* A RET whose address (R10) is not the last call's; ECX = its exit. Perhaps the last call's frame
 * was left out and it is the one before's; else the table is asked, and the stack stays. Polls:
 * these are the returns that a loop may be made of. */
static void return_miss_emit(struct emit *e, const uint8_t *leave)
{
    uint8_t *second, *hit, *leave_now;

    emit_store_hot(e, HOST_RCX, HOT(spilled));
    emit_load_hot(e, HOST_RCX, HOT(pending));
    emit8(e, 0xe3);
    emit8(e, 2);
    emit8(e, 0xeb);
    leave_now = e->at++;
    emit_memory(e, 0x8b, HOST_RCX, HOST_RSP, 24);
    emit_lea(e, HOST_RCX, HOST_RCX, HOST_R10, 0, 1);
    emit8(e, 0xe3);
    second = e->at++;
    emit_pext(e, HOST_R11, HOST_R10, HOT(jump_mask));
    emit_load_indexed(e, HOST_RCX, CLASS(jump_tag));
    emit_lea(e, HOST_RCX, HOST_RCX, HOST_R10, 0, 0);
    emit8(e, 0xe3);
    hit = e->at++;
    *leave_now = (uint8_t)(e->at - (leave_now + 1));
    emit_load_hot(e, HOST_RCX, HOT(spilled));
    emit_patch(emit_jump(e), leave);
    *second = (uint8_t)(e->at - (second + 1));
    emit_lea(e, HOST_RSP, HOST_RSP, HOST_NONE, 0, 16);
    emit_lea(e, HOST_R15, HOST_R15, HOST_NONE, 0, 8);
    emit8(e, 0xc3);
    *hit = (uint8_t)(e->at - (hit + 1));
    emit_lea(e, HOST_R15, HOST_R15, HOST_NONE, 0, 8);
    emit_jump_indexed(e);
}

/* R11 = index of R10 in the second table; the jump whose displacement is returned is taken when it
 * is there, and nothing is pending. */
static uint8_t *second_probe(struct emit *e)
{
    uint8_t *hit, *out;

    emit_store_hot(e, HOST_RCX, HOT(spilled));
    emit_load_hot(e, HOST_RCX, HOT(go_on));
    emit8(e, 0xe3);
    out = e->at++;
    emit_pext(e, HOST_R11, HOST_R10, HOT(second_mask));
    emit_load_indexed(e, HOST_RCX, CLASS(second_tag));
    emit_lea(e, HOST_RCX, HOST_RCX, HOST_R10, 0, 0);
    emit8(e, 0xe3);
    hit = e->at++;
    *out = (uint8_t)(e->at - (out + 1));
    emit_load_hot(e, HOST_RCX, HOT(spilled));
    return hit;
}

/* A jump whose target (R10) the jump table does not have; ECX = its exit. Perhaps another target
 * has taken its place. */
static void jump_miss_emit(struct emit *e, const uint8_t *leave)
{
    uint8_t *hit = second_probe(e);

    emit_patch(emit_jump(e), leave);
    *hit = (uint8_t)(e->at - (hit + 1));
    emit_jump_table(e, CLASS(second_code));
}

/* The same for a CALL, which has called this: returns with R11 = the target's code. */
static void call_miss_emit(struct emit *e, const uint8_t *leave)
{
    uint8_t *hit = second_probe(e);

    emit_lea(e, HOST_RSP, HOST_RSP, HOST_NONE, 0, 8);
    emit_patch(emit_jump(e), leave);
    *hit = (uint8_t)(e->at - (hit + 1));
    emit_load_indexed(e, HOST_R11, CLASS(second_code));
    emit8(e, 0xc3);
}

/* The exact check of an access from R10 to R11: returns with RCX = addend, or 0, also when the
 * seams are to be looked at. Clobbers R11. */
static void check_emit(struct emit *e, bool write)
{
    uint8_t *hit, *out;

    emit_load_hot(e, HOST_RCX, HOT(seam_wait));
    emit8(e, 0xe3); /* and stays 0 until somebody looks */
    out = e->at++;
    emit_lea(e, HOST_RCX, HOST_RCX, HOST_NONE, 0, -1);
    emit_store_hot(e, HOST_RCX, HOT(seam_wait));
    emit_pext(e, HOST_RCX, HOST_R10, HOT(index_mask));
    emit_load_at(e, HOST_RCX, HOST_RCX, write ? CLASS(write_tag) : CLASS(read_tag));
    emit_lea(e, HOST_RCX, HOST_RCX, HOST_R11, 0, 0);
    emit_pext(e, HOST_RCX, HOST_RCX, HOT(check_mask));
    emit8(e, 0xe3);
    hit = e->at++;
    emit8(e, 0xb9); /* mov ecx, 0 */
    emit32(e, 0);
    *out = (uint8_t)(e->at - (out + 1));
    emit8(e, 0xc3);
    *hit = (uint8_t)(e->at - (hit + 1));
    emit_pext(e, HOST_R11, HOST_R10, HOT(index_mask));
    emit_load_indexed(e, HOST_RCX, CLASS(addend));
    emit8(e, 0xc3);
}

/* Where a return from the empty stack leads: R10 = where to. */
static void return_empty_emit(struct emit *e)
{
    emit_load_hot(e, HOST_RSP, HOT(return_base));
    emit8(e, 0xb9);
    emit32(e, TRANSLATE_EXIT_GOTO);
}

/* What C does not preserve, and RSP: where generated code has it. */
static const uint8_t called[] = {CPU_RAX, CPU_RCX, CPU_RDX, CPU_RSP, CPU_RSI, CPU_RDI, CPU_R8};

static void called_load(struct emit *e)
{
    emit_load_hot(e, HOST_BASE, HOT(gs)); /* the class may be another */
    base_add(e);
    emit_load_hot(e, HOST_R10, HOT(cpu));
    flags_load(e, HOST_R10);
    for (unsigned i = 0; i < ARRAY_LEN(called); i++)
        emit_memory(e, 0x8b, emit_home[called[i]], HOST_R10, GPR(called[i]));
    emit_load_hot(e, HOST_R10, HOT(address));
}

/* R11 = the function, RCX = exit. */
static void callout_emit(struct emit *e, const uint8_t *leave)
{
    uint8_t *declined;

    stack_change(e);
    emit_memory32(e, 0x89, HOST_RCX, HOST_BASE, emit_based(HOT(leave_with))); /* position.c */
    emit_load_hot(e, HOST_R10, HOT(cpu));
    for (unsigned i = 0; i < ARRAY_LEN(called); i++)
        emit_memory(e, 0x89, emit_home[called[i]], HOST_R10, GPR(called[i]));
    flags_store(e);
    emit_move(e, HOST_RDI, HOST_R10);
    emit8(e, 0x89); /* mov esi, ecx */
    emit8(e, 0xce);
    emit_lea(e, HOST_RSP, HOST_RSP, HOST_NONE, 0, -8); /* aligned: 7 words since the caller's */
    emit8(e, 0x41);                                    /* call r11 */
    emit8(e, 0xff);
    emit8(e, 0xd3);
    emit_load_hot(e, HOST_RSP, HOT(return_rsp));
    emit_move(e, HOST_R11, HOST_RAX);
    emit8(e, 0x4d); /* test r11, r11 */
    emit8(e, 0x85);
    emit8(e, 0xdb);
    declined = emit_jump_if(e, 4);
    called_load(e);
    emit8(e, 0x41); /* jmp r11 */
    emit8(e, 0xff);
    emit8(e, 0xe3);
    emit_patch(declined, e->at);
    called_load(e);
    emit_memory32(e, 0x8b, HOST_RCX, HOST_BASE, emit_based(HOT(leave_with)));
    emit_patch(emit_jump(e), leave);
}

static void callouts_emit(struct translate *translate, struct emit *e)
{
    uint8_t *patch[TRANSLATE_NR_CALLOUTS];

    for (unsigned i = 0; i < TRANSLATE_NR_CALLOUTS; i++) {
        translate->callout[i] = e->at;
        emit8(e, 0x49); /* mov r11, function */
        emit8(e, 0xbb);
        emit64(e, (uintptr_t)translate_callouts[i]);
        patch[i] = emit_jump(e);
    }
    for (unsigned i = 0; i < TRANSLATE_NR_CALLOUTS; i++)
        emit_patch(patch[i], e->at);
    callout_emit(e, translate->leave);
}

int trampolines_emit(struct translate *translate)
{
    struct code_cache *code = &translate->code;
    struct emit e = {.at = code->write};

    if (code->size < 16384)
        return -ENOMEM;
    translate->enter = (uint32_t(*)(struct soft_cpu *))(uintptr_t)code_cache_run(code, e.at);
    enter_emit(&e, false, false);
    translate->enter_vector = (uint32_t(*)(struct soft_cpu *))(uintptr_t)code_cache_run(code, e.at);
    enter_emit(&e, true, false);
    translate->enter_wide = (uint32_t(*)(struct soft_cpu *))(uintptr_t)code_cache_run(code, e.at);
    enter_emit(&e, true, true);
    translate->leave = e.at;
    leave_emit(&e);
    translate->return_miss = e.at;
    return_miss_emit(&e, translate->leave);
    translate->jump_miss = e.at;
    jump_miss_emit(&e, translate->leave);
    translate->call_miss = e.at;
    call_miss_emit(&e, translate->leave);
    translate->return_empty = code_cache_run(code, e.at);
    return_empty_emit(&e);
    emit_patch(emit_jump(&e), translate->leave);
    callouts_emit(translate, &e);
    for (unsigned i = 0; i < 2; i++) {
        translate->check[i] = e.at;
        check_emit(&e, i);
    }
    translate->check_end = e.at;
    translate->code_start = align_up((uint64_t)(e.at - code->write), 64);
    code->used = translate->code_start;
    code->cold = code->size;
    return 0;
}
