/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From struct insn to the code of a thunk (thunk.h has the register plan). Only bytes are made
 * here; nothing is executed and no guest state is seen.
 *
 * Encodings: SDM 2A 2.1-2.3. What is emitted around the instruction itself is legacy SSE for legacy
 * instructions and VEX for VEX ones, so that neither meets dirty upper halves.
 */
#include "soft/fpu/thunk.h"

#include <string.h>

/* Host register numbers as modrm has them. */
#define HOST_RAX 0u
#define HOST_RCX 1u
#define HOST_RDX 2u
#define HOST_RSI 6u
#define HOST_RDI 7u

#define IO_GPR   offsetof(struct thunk_io, gpr)
#define IO_FLAGS offsetof(struct thunk_io, flags)
#define IO_RAX   offsetof(struct thunk_io, rax)
#define IO_RDX   offsetof(struct thunk_io, rdx)
#define IO_RCX   offsetof(struct thunk_io, rcx)

static void emit(struct thunk_code *code, unsigned byte)
{
    if (code->length < THUNK_MAX_BYTES)
        code->bytes[code->length++] = (uint8_t)byte;
    else
        code->overflow = true;
}

void thunk_put(struct thunk_code *code, const char *bytes, unsigned length)
{
    for (unsigned i = 0; i < length; i++)
        emit(code, (uint8_t)bytes[i]);
}

#define EMIT(code, literal) thunk_put(code, literal, sizeof(literal) - 1)

static void emit32(struct thunk_code *code, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        emit(code, value >> 8 * i & 0xff);
}

/* mov (%r8 + offset) <-> rax, rcx, rdx */
static void emit_io(struct thunk_code *code, bool store, unsigned reg, size_t offset)
{
    emit(code, 0x49);
    emit(code, store ? 0x89 : 0x8b);
    emit(code, 0x40 | reg << 3);
    emit(code, (unsigned)offset);
}

/* movups/vmovups between the low half at (base) and register reg */
static void emit_low(struct thunk_code *code, bool vex, bool store, unsigned reg, unsigned base)
{
    if (vex)
        EMIT(code, "\xc5\xf8");
    else
        emit(code, 0x0f);
    emit(code, store ? 0x11 : 0x10);
    emit(code, reg << 3 | base);
}

/* vinsertf128 / vextractf128 of the high half at THUNK_HIGH(base) */
static void emit_high(struct thunk_code *code, bool store, unsigned reg, unsigned base)
{
    emit(code, 0xc4);
    emit(code, 0xe3);
    emit(code, (store ? 0x78u : (~reg & 15) << 3) | 0x05);
    emit(code, store ? 0x19 : 0x18);
    emit(code, 0x80 | reg << 3 | base);
    emit32(code, (uint32_t)THUNK_HIGH);
    emit(code, 1);
}

static void emit_mmx(struct thunk_code *code, bool store, unsigned reg, unsigned base)
{
    emit(code, 0x0f);
    emit(code, store ? 0x7f : 0x6f);
    emit(code, reg << 3 | base);
}

static const uint8_t role_base[THUNK_NR_ROLES] = {
    [THUNK_A] = HOST_RDI, [THUNK_B] = HOST_RDX, [THUNK_C] = HOST_RSI, [THUNK_D] = HOST_RCX};

static unsigned role_register(const struct thunk *thunk, enum thunk_role role)
{
    if (role == THUNK_D)
        return thunk->flags & THUNK_X0 ? 0 : 4;
    if (thunk->kind[role] == THUNK_KIND_GPR)
        return HOST_RAX;
    return role == THUNK_A ? 1 : role == THUNK_B ? 2 : 3;
}

static void emit_loads(const struct thunk *thunk, struct thunk_code *code)
{
    for (unsigned role = 0; role < THUNK_NR_ROLES; role++) {
        unsigned reg = role_register(thunk, role);
        unsigned base = role_base[role];

        switch (thunk->kind[role]) {
        case THUNK_KIND_VECTOR:
            emit_low(code, thunk->vex, false, reg, base);
            if (thunk->vex)
                emit_high(code, false, reg, base);
            break;
        case THUNK_KIND_MMX:
            emit_mmx(code, false, reg, base);
            break;
        case THUNK_KIND_GPR:
            emit_io(code, false, HOST_RAX, IO_GPR);
            break;
        default:
            break;
        }
    }
    if (thunk->flags & THUNK_RAX_RDX_IN) {
        emit_io(code, false, HOST_RAX, IO_RAX);
        emit_io(code, false, HOST_RDX, IO_RDX);
    }
}

static void emit_stores(const struct thunk *thunk, struct thunk_code *code)
{
    if (thunk->flags & THUNK_FLAGS_OUT) {
        EMIT(code, "\x9c\x41\x8f\x40"); /* pushfq; pop flags(%r8) */
        emit(code, (unsigned)IO_FLAGS);
    }
    if (thunk->flags & THUNK_GPR_OUT)
        emit_io(code, true, HOST_RAX, IO_GPR);
    if (thunk->flags & THUNK_RCX_OUT)
        emit_io(code, true, HOST_RCX, IO_RCX);
    if (thunk->destination != THUNK_NO_ROLE) {
        unsigned reg = role_register(thunk, thunk->destination);
        unsigned base = role_base[thunk->destination];

        if (thunk->kind[thunk->destination] == THUNK_KIND_MMX) {
            emit_mmx(code, true, reg, base);
        } else {
            emit_low(code, thunk->vex, true, reg, base);
            if (thunk->vex)
                emit_high(code, true, reg, base);
        }
    }
    if (thunk->vex)
        EMIT(code, "\xc5\xf8\x77"); /* vzeroupper */
    if (thunk->flags & THUNK_USES_MMX)
        EMIT(code, "\x0f\x77"); /* emms */
    emit(code, 0xc3);
}

static void emit_opcode_legacy(const struct insn *insn, struct thunk_code *code)
{
    if (insn->mandatory)
        emit(code, insn->mandatory);
    if (insn->mode == INSN_MODE_64 && (insn->rex & 8))
        emit(code, 0x48);
    emit(code, 0x0f);
    if (insn->map == 2)
        emit(code, 0x38);
    else if (insn->map == 3)
        emit(code, 0x3a);
    emit(code, insn->opcode);
}

/* Opcodes whose W names a 64-bit general register or integer (lengths of VPCMPESTRx too): ignored
 * outside 64-bit mode. */
static bool w_is_integer_size(const struct insn *insn)
{
    unsigned op = insn->opcode;

    if (insn->map == 1)
        return op == 0x2a || op == 0x2c || op == 0x2d || op == 0x6e || op == 0x7e;
    return insn->map == 3 && (op == 0x16 || op == 0x22 || op == 0x60 || op == 0x61);
}

static void emit_opcode_vex(const struct insn *insn, const struct thunk *thunk,
                            struct thunk_code *code)
{
    unsigned vvvv = thunk->kind[THUNK_B] != THUNK_KIND_NONE ? role_register(thunk, THUNK_B) : 0;
    unsigned pp = insn->mandatory == 0x66   ? 1
                  : insn->mandatory == 0xf3 ? 2
                  : insn->mandatory == 0xf2 ? 3
                                            : 0;
    bool w = insn->vex_w && (insn->mode == INSN_MODE_64 || !w_is_integer_size(insn));

    emit(code, 0xc4);
    emit(code, 0xe0 | insn->map);
    emit(code, (unsigned)w << 7 | (~vvvv & 15) << 3 | (unsigned)insn->vex_l << 2 | pp);
    emit(code, insn->opcode);
}

static bool has_two_immediates(const struct insn *insn)
{
    return insn->map == 1 && insn->opcode == 0x78;
}

void thunk_emit_vector(const struct insn *insn, const struct thunk *thunk, struct thunk_code *code)
{
    unsigned reg = thunk->kind[THUNK_A] == THUNK_KIND_NONE ? insn->modrm >> 3 & 7
                                                           : role_register(thunk, THUNK_A);

    emit_loads(thunk, code);
    if (thunk->vex)
        emit_opcode_vex(insn, thunk, code);
    else
        emit_opcode_legacy(insn, code);
    if (thunk->kind[THUNK_C] == THUNK_KIND_MEM)
        emit(code, reg << 3 | HOST_RSI);
    else
        emit(code, 0xc0 | reg << 3 | role_register(thunk, THUNK_C));
    if (thunk->flags & THUNK_IS4)
        emit(code, 4u << 4 | (insn->imm & 15));
    else if (insn->imm_size)
        emit(code, insn->imm & 0xff);
    if (has_two_immediates(insn))
        emit(code, insn->imm2 & 0xff);
    emit_stores(thunk, code);
}

/*
 * The x87 image is at (%rdi). The instruction runs with the guest's own control word: an exception
 * that it unmasks only becomes pending, and is dropped (fnclex) before any instruction that would
 * report it.
 */
void thunk_emit_x87(const struct insn *insn, const struct thunk *thunk, struct thunk_code *code)
{
    bool memory = (insn->modrm >> 6) != 3;

    (void)thunk;
    EMIT(code, "\x48\x0f\xae\x0f"); /* fxrstor64 (%rdi) */
    if (insn->flags_read || insn->flags_written) {
        EMIT(code, "\x41\xff\x70"); /* push flags(%r8); popfq */
        emit(code, (unsigned)IO_FLAGS);
        emit(code, 0x9d);
    }
    emit(code, insn->opcode);
    emit(code, memory ? (insn->modrm & 0x38) | HOST_RSI : insn->modrm);
    if (insn->flags_written) {
        EMIT(code, "\x9c\x41\x8f\x40");
        emit(code, (unsigned)IO_FLAGS);
    }
    EMIT(code, "\x48\x0f\xae\x07" /* fxsave64 (%rdi) */
               "\xf6\x47\x02\x80" /* testb $0x80, 2(%rdi) */
               "\x74\x02"         /* jz +2 */
               "\xdb\xe2"         /* fnclex */
               "\x0f\x77"         /* emms */
               "\x41\xd9\x68");   /* fldcw fcw(%r8) */
    emit(code, (unsigned)offsetof(struct thunk_io, fcw));
    emit(code, 0xc3);
}

/* Is modrm.rm the first operand of this opcode? */
static bool rm_is_first(const struct insn *insn)
{
    unsigned op = insn->opcode;

    switch (insn->map) {
    case 1:
        if (op == 0x7e)
            return insn->mandatory != 0xf3;
        if (op == 0xd6 || op == 0x78)
            return insn->mandatory == 0x66;
        return op == 0x11 || op == 0x13 || op == 0x17 || op == 0x29 || op == 0x2b || op == 0x7f ||
               op == 0xe7 || (op >= 0x71 && op <= 0x73);
    case 2:
        return op == 0x2e || op == 0x2f || op == 0x8e;
    case 3:
        return (op >= 0x14 && op <= 0x17) || op == 0x19 || op == 0x39 || op == 0x1d;
    default:
        return false;
    }
}

/* The role of explicit operand `index` of `count`. */
static enum thunk_role operand_role(const struct insn *insn, unsigned index, unsigned count)
{
    static const uint8_t forward2[] = {THUNK_A, THUNK_C};
    static const uint8_t forward[] = {THUNK_A, THUNK_B, THUNK_C, THUNK_D};
    static const uint8_t backward2[] = {THUNK_C, THUNK_A};
    static const uint8_t backward3[] = {THUNK_C, THUNK_B, THUNK_A, THUNK_D};
    static const uint8_t shift[] = {THUNK_B, THUNK_C};

    if (!rm_is_first(insn))
        return count <= 2 ? forward2[index] : forward[index];
    if (insn->map == 1 && insn->opcode >= 0x71 && insn->opcode <= 0x73 &&
        (insn->prefixes & INSN_PREFIX_VEX))
        return shift[index & 1];
    return count <= 2 ? backward2[index] : backward3[index];
}

static bool plan_operand(struct thunk *thunk, const struct insn_operand *operand,
                         enum thunk_role role)
{
    bool writes = operand->access & INSN_WRITE;

    if (operand->kind == INSN_OPERAND_MEM) {
        if (!operand->size || operand->size > THUNK_MEM_MAX)
            return false;
        thunk->kind[role] = THUNK_KIND_MEM;
        thunk->mem_size = (uint8_t)operand->size;
        thunk->flags |= writes ? THUNK_STORES : THUNK_LOADS;
        return true;
    }
    switch (operand->reg_class) {
    case INSN_REG_XMM:
    case INSN_REG_YMM:
        thunk->kind[role] = THUNK_KIND_VECTOR;
        thunk->flags |= THUNK_USES_XMM;
        break;
    case INSN_REG_MMX:
        thunk->kind[role] = THUNK_KIND_MMX;
        thunk->flags |= THUNK_USES_MMX;
        break;
    case INSN_REG_GPR:
        thunk->kind[role] = THUNK_KIND_GPR;
        if (writes)
            thunk->flags |= THUNK_GPR_OUT;
        return true;
    default:
        return false;
    }
    if (writes)
        thunk->destination = role;
    return true;
}

static void plan_string_compare(const struct insn *insn, struct thunk *thunk)
{
    switch (insn->id) {
    case INSN_PCMPESTRI:
    case INSN_VPCMPESTRI:
        thunk->flags |= THUNK_RAX_RDX_IN | THUNK_RCX_OUT;
        break;
    case INSN_PCMPESTRM:
    case INSN_VPCMPESTRM:
        thunk->flags |= THUNK_RAX_RDX_IN | THUNK_X0;
        break;
    case INSN_PCMPISTRI:
    case INSN_VPCMPISTRI:
        thunk->flags |= THUNK_RCX_OUT;
        break;
    case INSN_PCMPISTRM:
    case INSN_VPCMPISTRM:
        thunk->flags |= THUNK_X0;
        break;
    default:
        return;
    }
    if (thunk->flags & THUNK_X0) {
        thunk->kind[THUNK_D] = THUNK_KIND_VECTOR;
        thunk->destination = THUNK_D;
    }
}

bool thunk_plan_vector(const struct insn *insn, struct thunk *thunk)
{
    const struct insn_operand *explicit_operand[INSN_OPERANDS_MAX];
    unsigned count = 0;

    if (insn->map < 1 || insn->map > 3 || !insn->has_modrm || insn->mem.vsib)
        return false;
    thunk->vex = insn->prefixes & INSN_PREFIX_VEX;
    thunk->destination = THUNK_NO_ROLE;
    for (unsigned i = 0; i < insn->nr_operands && i < INSN_OPERANDS_MAX; i++) {
        const struct insn_operand *operand = &insn->operand[i];

        if (operand->kind != INSN_OPERAND_REG && operand->kind != INSN_OPERAND_MEM)
            continue;
        if (!operand->implicit) {
            explicit_operand[count++] = operand;
        } else if (operand->reg_class == INSN_REG_XMM) {
            thunk->flags |= THUNK_X0;
            thunk->kind[THUNK_D] = THUNK_KIND_VECTOR;
        }
    }
    if (count < 1 || count > 4)
        return false;
    for (unsigned i = 0; i < count; i++)
        if (!plan_operand(thunk, explicit_operand[i], operand_role(insn, i, count)))
            return false;
    if (count == 4)
        thunk->flags |= THUNK_IS4;
    plan_string_compare(insn, thunk);
    if (insn->flags_written)
        thunk->flags |= THUNK_FLAGS_OUT;
    if (insn->traits & INSN_TRAIT_FP_EXCEPTIONS)
        thunk->flags |= THUNK_FP;
    return true;
}
