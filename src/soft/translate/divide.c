/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DIV and IDIV: copied where they cannot fault, which is looked at before; other cases are
 * interpreted.
 *
 * Source: SDM 2A DIV, IDIV.
 */
#include "soft/translate/translator.h"

/* Leaves when RCX is zero (or is not). */
static void leave_if_rcx(struct translator *tr, bool zero)
{
    emit8(&tr->e, 0xe3);
    emit8(&tr->e, zero ? 2 : 5);
    if (zero) { /* over the jump that the other case takes */
        emit8(&tr->e, 0xeb);
        emit8(&tr->e, 5);
    }
    translator_exit(tr, emit_jump(&tr->e), TRANSLATE_EXIT_REST, tr->op);
}

/* Three bytes with a REX prefix, which may be absent. */
static void divide_byte3(struct emit *e, unsigned rex, unsigned op, unsigned modrm_byte)
{
    if (rex)
        emit8(e, 0x40 | rex);
    emit8(e, op);
    emit8(e, modrm_byte);
}

/* RCX = 0 when the dividend's upper half is the extension of RAX. */
static void divide_upper(struct emit *e, bool is_signed, unsigned w)
{
    if (!is_signed) {
        divide_byte3(e, w, 0x89, 0xd1); /* mov rcx, rdx */
        return;
    }
    emit8(e, 0x41); /* mov r10d, 63 or 31 */
    emit8(e, 0xba);
    emit32(e, w ? 63 : 31);
    emit8(e, 0xc4); /* sarx rcx, rax, r10 */
    emit8(e, 0xe2);
    emit8(e, w ? 0xaa : 0x2a);
    emit8(e, 0xf7);
    emit8(e, 0xc8);
    divide_byte3(e, w, 0xf7, 0xd1); /* not rcx */
    if (w)
        emit8(e, 0x48);
    emit8(e, 0x8d); /* lea rcx, [rcx + rdx + 1] */
    emit8(e, 0x4c);
    emit8(e, 0x11);
    emit8(e, 1);
}

/* The upper half extends the lower, the divisor is not 0 (and not -1). */
bool translator_divide(struct translator *tr)
{
    const struct insn *insn = &tr->insn;
    bool is_signed = insn->id == INSN_IDIV;
    unsigned w = insn->operand_size == 8 ? 8 : 0;

    if (insn->operand_size < 4 || !(insn->opcode & 1))
        return false;
    if (insn->modrm >> 6 != 3) {
        if (!translator_access(tr, insn->operand_size, false, false))
            return false;
        emit8(&tr->e, 0x40 | w | emit_rex_of(HOST_R11, tr->operand.base, tr->operand.index));
        emit8(&tr->e, 0x8b); /* mov r11 */
        emit_operand(&tr->e, HOST_R11, &tr->operand);
    } else {
        unsigned guest = (insn->modrm & 7) | (insn->rex & 1 ? 8 : 0), home = emit_home[guest];

        if (home == HOST_NONE) {
            home = HOST_R11;
            emit_load_hot(&tr->e, home, emit_kept(guest));
        }
        divide_byte3(&tr->e, 1u | w | (home >= 8 ? 4u : 0u), 0x89, 0xc3 | (home & 7) << 3);
    }
    divide_upper(&tr->e, is_signed, w);
    leave_if_rcx(tr, false);
    divide_byte3(&tr->e, 4u | w, 0x89, 0xd9); /* mov rcx, r11 */
    leave_if_rcx(tr, true);
    if (is_signed) {
        emit8(&tr->e, 0x41 | w); /* lea rcx, [r11 + 1] */
        emit8(&tr->e, 0x8d);
        emit8(&tr->e, 0x4b);
        emit8(&tr->e, 1);
        leave_if_rcx(tr, true);
    }
    divide_byte3(&tr->e, 1u | w, 0xf7, is_signed ? 0xfb : 0xf3);
    return true;
}
