/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instruction decoder on any bytes: first byte the mode, the rest the code. The code is copied
 * to an allocation of exactly its size, so that AddressSanitizer sees a read past it. Checked on
 * every instruction: the contract of insn.h on lengths, offsets and registers, and that a longer
 * buffer does not change the outcome.
 */
#include "soft/decode/insn.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void check_part(const struct insn *insn, unsigned offset, unsigned size)
{
    check(size == 0 || (offset > 0 && offset + size <= insn->length));
}

static void check_operand(const struct insn *insn, const struct insn_operand *operand)
{
    check(operand->kind != INSN_OPERAND_NONE && operand->kind <= INSN_OPERAND_FAR);
    check(operand->access <= (INSN_READ | INSN_WRITE));
    if (operand->kind != INSN_OPERAND_REG)
        return;
    check(operand->reg_class != INSN_REG_NONE && operand->reg_class <= INSN_REG_YMM);
    check(operand->reg < (insn->mode == INSN_MODE_64 ? 16 : 8));
    check(operand->size > 0);
    if (operand->reg_class == INSN_REG_GPR8_HIGH)
        check(operand->reg < 4 && operand->size == 1);
    if (operand->reg_class == INSN_REG_GPR && insn->mode != INSN_MODE_64)
        check(operand->size <= 4);
}

static void check_insn(const struct insn *insn, size_t size)
{
    check(insn->length > 0 && insn->length <= INSN_LENGTH_MAX && insn->length <= size);
    check(insn->id > INSN_NONE && insn->id < INSN_NR_IDS && insn_name(insn->id)[0] != '?');
    check(insn->feature < INSN_NR_FEATURES && insn->nr_operands <= INSN_OPERANDS_MAX);
    check(insn->opcode_offset < insn->length);
    check(!insn->has_modrm || insn->modrm_offset > insn->opcode_offset);
    check_part(insn, insn->modrm_offset, insn->has_modrm);
    check_part(insn, insn->displacement_offset, insn->displacement_size);
    check_part(insn, insn->imm_offset, insn->imm_size);
    check((insn->flags_undefined & ~insn->flags_written) == 0);
    check(insn->mem.base == INSN_NO_REG || insn->mem.base < 16);
    check(insn->mem.index == INSN_NO_REG || insn->mem.index < 16);
    for (unsigned i = 0; i < insn->nr_operands; i++)
        check_operand(insn, &insn->operand[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum insn_mode mode;
    enum insn_result result;
    struct insn insn, again;
    uint8_t *code;

    if (size < 1 || size > 64)
        return 0;
    mode = (enum insn_mode)(data[0] % 3);
    size--;
    code = malloc(size ? size : 1);
    if (!code)
        return 0;
    memcpy(code, data + 1, size);
    result = insn_decode(code, size, mode, &insn);
    if (result == INSN_OK) {
        check_insn(&insn, size);
        check(insn_decode(code, insn.length, mode, &again) == INSN_OK);
        check(memcmp(&insn, &again, sizeof(insn)) == 0);
        check(insn_decode(code, insn.length - 1u, mode, &again) != INSN_OK);
    } else {
        check(insn.length == 0);
        check(result != INSN_TRUNCATED || size < INSN_LENGTH_MAX);
        check(result != INSN_TOO_LONG || size >= INSN_LENGTH_MAX);
    }
    free(code);
    return 0;
}
