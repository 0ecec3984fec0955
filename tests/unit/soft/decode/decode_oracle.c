/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The comparison. Operands are compared in the order of the SDM: those that Zydis calls explicit or
 * implicit. What we list beyond them must be among its hidden ones.
 */
#include "decode_oracle.h"

#include "cpu/state.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const char *const conditions[16] = {"o", "no", "b", "nb", "z", "nz", "be", "nbe",
                                           "s", "ns", "p", "np", "l", "nl", "le", "nle"};

/* Mnemonics that Zydis tells apart where the SDM's, or our one id, does not. */
static const struct {
    const char *theirs;
    enum insn_id ours;
} names[] = {
    {"movsb", INSN_MOVS},
    {"movsw", INSN_MOVS},
    {"movsq", INSN_MOVS},
    {"cmpsb", INSN_CMPS},
    {"cmpsw", INSN_CMPS},
    {"cmpsq", INSN_CMPS},
    {"scasb", INSN_SCAS},
    {"scasw", INSN_SCAS},
    {"scasd", INSN_SCAS},
    {"scasq", INSN_SCAS},
    {"lodsb", INSN_LODS},
    {"lodsw", INSN_LODS},
    {"lodsd", INSN_LODS},
    {"lodsq", INSN_LODS},
    {"stosb", INSN_STOS},
    {"stosw", INSN_STOS},
    {"stosd", INSN_STOS},
    {"stosq", INSN_STOS},
    {"insb", INSN_INS},
    {"insw", INSN_INS},
    {"insd", INSN_INS},
    {"outsb", INSN_OUTS},
    {"outsw", INSN_OUTS},
    {"outsd", INSN_OUTS},
    {"pushfd", INSN_PUSHF},
    {"pushfq", INSN_PUSHF},
    {"popfd", INSN_POPF},
    {"popfq", INSN_POPF},
    {"pushad", INSN_PUSHA},
    {"popad", INSN_POPA},
    {"iretd", INSN_IRET},
    {"iretq", INSN_IRET},
    {"jcxz", INSN_JRCXZ},
    {"jecxz", INSN_JRCXZ},
    {"jrcxz", INSN_JRCXZ},
    {"prefetchwt1", INSN_PREFETCH},
    {"fxsave64", INSN_FXSAVE},
    {"fxrstor64", INSN_FXRSTOR},
    {"xsave64", INSN_XSAVE},
    {"xrstor64", INSN_XRSTOR},
    {"xsaveopt64", INSN_XSAVEOPT},
    {"xsavec64", INSN_XSAVEC},
    {"xsaves64", INSN_XSAVES},
    {"xrstors64", INSN_XRSTORS},
    {"fneni8087_nop", INSN_FNOP},
    {"fndisi8087_nop", INSN_FNOP},
    {"fnsetpm287_nop", INSN_FNOP},
    {"feni8087_nop", INSN_FNOP},
    {"fdisi8087_nop", INSN_FNOP},
    {"fsetpm287_nop", INSN_FNOP},
    {"fstpnce", INSN_FSTP},
};

void oracle_init(struct oracle *oracle)
{
    static const ZydisMachineMode modes[3] = {
        ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_MACHINE_MODE_LONG_64};
    static const ZydisStackWidth widths[3] = {ZYDIS_STACK_WIDTH_16, ZYDIS_STACK_WIDTH_32,
                                              ZYDIS_STACK_WIDTH_64};

    memset(oracle, 0, sizeof(*oracle));
    for (int i = 0; i < 3; i++) {
        ZydisDecoderInit(&oracle->decoders[i], modes[i], widths[i]);
        ZydisDecoderEnableMode(&oracle->decoders[i], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
        ZydisDecoderEnableMode(&oracle->decoders[i], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
        ZydisDecoderEnableMode(&oracle->decoders[i], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
        ZydisDecoderEnableMode(&oracle->decoders[i], ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_TRUE);
    }
    for (unsigned m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++) {
        const char *name = ZydisMnemonicGetString((ZydisMnemonic)m);
        char upper[64] = {0};

        oracle->condition_of[m] = -1;
        if (!name)
            continue;
        for (size_t i = 0; name[i] && i < sizeof(upper) - 1; i++)
            upper[i] = (char)toupper((unsigned char)name[i]);
        for (unsigned id = 1; id < INSN_NR_IDS; id++)
            if (strcmp(upper, insn_name((enum insn_id)id)) == 0)
                oracle->id_of[m] = (uint16_t)id;
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
            if (strcmp(name, names[i].theirs) == 0)
                oracle->id_of[m] = (uint16_t)names[i].ours;
        for (int i = 0; i < 16; i++) {
            static const struct {
                const char *prefix;
                enum insn_id id;
            } families[] = {{"j", INSN_JCC}, {"set", INSN_SETCC}, {"cmov", INSN_CMOVCC}};

            for (int f = 0; f < 3; f++) {
                size_t length = strlen(families[f].prefix);

                if (strncmp(name, families[f].prefix, length) == 0 &&
                    strcmp(name + length, conditions[i]) == 0) {
                    oracle->id_of[m] = (uint16_t)families[f].id;
                    oracle->condition_of[m] = (int8_t)i;
                }
            }
        }
    }
}

static bool same_register(const struct insn_operand *ours, ZydisRegister theirs)
{
    int id = ZydisRegisterGetId(theirs);

    switch (ZydisRegisterGetClass(theirs)) {
    case ZYDIS_REGCLASS_GPR8:
        if (theirs >= ZYDIS_REGISTER_AH && theirs <= ZYDIS_REGISTER_BH)
            return ours->reg_class == INSN_REG_GPR8_HIGH && ours->reg == theirs - ZYDIS_REGISTER_AH;
        id = theirs >= ZYDIS_REGISTER_SPL ? theirs - ZYDIS_REGISTER_SPL + 4
                                          : theirs - ZYDIS_REGISTER_AL;
        return ours->reg_class == INSN_REG_GPR && ours->reg == id && ours->size == 1;
    case ZYDIS_REGCLASS_GPR16:
        return ours->reg_class == INSN_REG_GPR && ours->reg == id && ours->size == 2;
    case ZYDIS_REGCLASS_GPR32:
        return ours->reg_class == INSN_REG_GPR && ours->reg == id && ours->size == 4;
    case ZYDIS_REGCLASS_GPR64:
        return ours->reg_class == INSN_REG_GPR && ours->reg == id && ours->size == 8;
    case ZYDIS_REGCLASS_X87:
        return ours->reg_class == INSN_REG_ST && ours->reg == id;
    case ZYDIS_REGCLASS_MMX:
        return ours->reg_class == INSN_REG_MMX && ours->reg == id;
    case ZYDIS_REGCLASS_XMM:
        return ours->reg_class == INSN_REG_XMM && ours->reg == id && ours->size == 16;
    case ZYDIS_REGCLASS_YMM:
        return ours->reg_class == INSN_REG_YMM && ours->reg == id && ours->size == 32;
    case ZYDIS_REGCLASS_SEGMENT:
        return ours->reg_class == INSN_REG_SEGMENT && ours->reg == theirs - ZYDIS_REGISTER_ES;
    case ZYDIS_REGCLASS_CONTROL:
        return ours->reg_class == INSN_REG_CR && ours->reg == theirs - ZYDIS_REGISTER_CR0;
    case ZYDIS_REGCLASS_DEBUG:
        return ours->reg_class == INSN_REG_DR && ours->reg == theirs - ZYDIS_REGISTER_DR0;
    default:
        return false;
    }
}

static unsigned register_number(ZydisRegister reg)
{
    return reg == ZYDIS_REGISTER_NONE ? INSN_NO_REG : (unsigned)ZydisRegisterGetId(reg);
}

static unsigned compare_memory(const struct oracle_case *c, const struct insn_operand *ours,
                               const ZydisDecodedOperand *theirs)
{
    const struct insn_mem *mem = &c->ours.mem;
    unsigned base, segment, index;
    uint64_t displacement;

    /* The operand that insn.mem does not describe: ES:rDI beside DS:rSI. */
    if (ours->implicit && ours->reg == CPU_RDI && mem->base == CPU_RSI)
        return register_number(theirs->mem.base) == CPU_RDI &&
                       theirs->mem.segment == ZYDIS_REGISTER_ES
                   ? 0
                   : FIELD_MEMORY;
    base = theirs->mem.base == ZYDIS_REGISTER_RIP || theirs->mem.base == ZYDIS_REGISTER_EIP
               ? INSN_NO_REG
               : register_number(theirs->mem.base);
    index = register_number(theirs->mem.index);
    segment = theirs->mem.segment - ZYDIS_REGISTER_ES;
    if (mem->base != base ||
        mem->rip_relative != (base == INSN_NO_REG && theirs->mem.base != ZYDIS_REGISTER_NONE))
        return FIELD_MEMORY;
    if (mem->index != index || (index != INSN_NO_REG && mem->scale != theirs->mem.scale &&
                                !(mem->scale == 1 && theirs->mem.scale == 0)))
        return FIELD_MEMORY;
    if (theirs->mem.segment != ZYDIS_REGISTER_NONE && mem->segment != segment &&
        theirs->mem.type != ZYDIS_MEMOP_TYPE_AGEN)
        return FIELD_MEMORY;
    if (mem->vsib != (theirs->mem.type == ZYDIS_MEMOP_TYPE_VSIB))
        return FIELD_MEMORY;
    displacement = (uint64_t)(theirs->mem.disp.has_displacement ? theirs->mem.disp.value : 0);
    if (!c->ours.has_modrm && c->ours.displacement_size < 8) /* moffs: ours is zero-extended */
        displacement &= (UINT64_C(1) << (c->ours.displacement_size * 8)) - 1;
    return (uint64_t)mem->displacement == displacement ? 0 : FIELD_MEMORY;
}

static unsigned compare_immediate(const struct oracle_case *c, uint64_t ours,
                                  const ZydisDecodedOperand *theirs)
{
    uint64_t value = theirs->imm.value.u;
    unsigned bits = theirs->size;
    uint64_t mask = bits >= 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;

    /* An 8-bit immediate of an 8-bit operation, and the full-size one of B8, are not extended. */
    if (theirs->imm.is_relative ||
        (theirs->imm.is_signed && !(c->ours.operand[0].size == 1 && bits == 8) &&
         !(c->ours.map == 0 && (c->ours.opcode & 0xf8) == 0xb8)))
        return ours == value ? 0 : FIELD_IMMEDIATE;
    return (ours & mask) == (value & mask) ? 0 : FIELD_IMMEDIATE;
}

static unsigned actions(const ZydisDecodedOperand *theirs)
{
    unsigned access = 0;

    if (theirs->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
        access |= INSN_READ;
    if (theirs->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
        access |= INSN_WRITE;
    return access;
}

static unsigned compare_operand(const struct oracle_case *c, const struct insn_operand *ours,
                                const ZydisDecodedOperand *theirs, unsigned *nr_immediates)
{
    unsigned different = 0;
    uint64_t imm = *nr_immediates ? c->ours.imm2 : c->ours.imm;

    switch (theirs->type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
        if (ours->kind != INSN_OPERAND_REG || !same_register(ours, theirs->reg.value))
            return FIELD_OPERANDS;
        break;
    case ZYDIS_OPERAND_TYPE_MEMORY:
        if (ours->kind != INSN_OPERAND_MEM)
            return FIELD_OPERANDS;
        different |= compare_memory(c, ours, theirs);
        if (ours->size * 8 != theirs->size)
            different |= FIELD_SIZE;
        break;
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        if (ours->kind != INSN_OPERAND_IMM && ours->kind != INSN_OPERAND_REL)
            return FIELD_OPERANDS;
        if (theirs->imm.is_relative != (ours->kind == INSN_OPERAND_REL))
            return FIELD_OPERANDS;
        ++*nr_immediates;
        return different | compare_immediate(c, imm, theirs);
    case ZYDIS_OPERAND_TYPE_POINTER:
        if (ours->kind != INSN_OPERAND_FAR)
            return FIELD_OPERANDS;
        if (c->ours.imm != theirs->ptr.offset || c->ours.imm2 != theirs->ptr.segment)
            different |= FIELD_IMMEDIATE;
        return different;
    default:
        return FIELD_OPERANDS;
    }
    if (ours->access != actions(theirs))
        different |= FIELD_ACCESS;
    return different;
}

static bool among_hidden(const struct oracle_case *c, const struct insn_operand *ours)
{
    for (unsigned i = c->theirs.operand_count_visible; i < c->theirs.operand_count; i++) {
        const ZydisDecodedOperand *theirs = &c->operands[i];

        if (theirs->type == ZYDIS_OPERAND_TYPE_REGISTER && ours->kind == INSN_OPERAND_REG &&
            same_register(ours, theirs->reg.value))
            return true;
        if (theirs->type == ZYDIS_OPERAND_TYPE_MEMORY && ours->kind == INSN_OPERAND_MEM &&
            compare_memory(c, ours, theirs) == 0)
            return true;
    }
    return false;
}

static unsigned compare_operands(const struct oracle_case *c)
{
    unsigned different = 0, nr_immediates = 0, at = 0;

    for (unsigned i = 0; i < c->theirs.operand_count_visible; i++) {
        const ZydisDecodedOperand *theirs = &c->operands[i];

        /* The x87 stack registers that the SDM does not write down. */
        if (theirs->visibility == ZYDIS_OPERAND_VISIBILITY_IMPLICIT &&
            theirs->type == ZYDIS_OPERAND_TYPE_REGISTER &&
            theirs->reg.value == ZYDIS_REGISTER_ST0 &&
            !(at < c->ours.nr_operands && c->ours.operand[at].reg_class == INSN_REG_ST &&
              c->ours.operand[at].implicit))
            continue;
        if (at >= c->ours.nr_operands)
            return different | FIELD_OPERANDS;
        different |= compare_operand(c, &c->ours.operand[at++], theirs, &nr_immediates);
    }
    for (; at < c->ours.nr_operands; at++)
        if (!among_hidden(c, &c->ours.operand[at]))
            different |= FIELD_OPERANDS;
    return different;
}

/* RFLAGS to the layout of insn.flags_*. */
static unsigned flags_layout(uint32_t flags)
{
    return (flags & 0xd5) | (flags & ZYDIS_CPUFLAG_OF ? 0x08 : 0);
}

static unsigned compare_flags(const struct oracle_case *c)
{
    const ZydisAccessedFlags *f = c->theirs.cpu_flags;
    unsigned different = 0, read, written;

    if (!f)
        return c->ours.flags_read || c->ours.flags_written ? FIELD_FLAGS_READ : 0;
    read = flags_layout(f->tested);
    written = flags_layout(f->modified | f->set_0 | f->set_1 | f->undefined);
    if (read != c->ours.flags_read)
        different |= FIELD_FLAGS_READ;
    if (written != c->ours.flags_written || flags_layout(f->undefined) != c->ours.flags_undefined)
        different |= FIELD_FLAGS_WRITTEN;
    return different;
}

static unsigned compare_parts(const struct oracle_case *c)
{
    const struct insn *ours = &c->ours;
    const ZydisDecodedInstruction *theirs = &c->theirs;
    unsigned disp_size = theirs->raw.disp.size / 8, imm_size = theirs->raw.imm[0].size / 8;

    imm_size += theirs->raw.imm[1].size / 8;
    if (ours->has_modrm != !!(theirs->attributes & ZYDIS_ATTRIB_HAS_MODRM))
        return FIELD_PARTS;
    if (ours->has_modrm && ours->modrm_offset != theirs->raw.modrm.offset)
        return FIELD_PARTS;
    if (ours->displacement_size != disp_size || ours->imm_size != imm_size ||
        (disp_size && ours->displacement_offset != theirs->raw.disp.offset) ||
        (imm_size && ours->imm_offset != theirs->raw.imm[0].offset))
        return FIELD_PARTS;
    return ours->address_size * 8 == theirs->address_width ? 0 : FIELD_PARTS;
}

static bool same_name(const struct oracle *oracle, const struct oracle_case *c)
{
    unsigned id = oracle->id_of[c->theirs.mnemonic];
    int condition = oracle->condition_of[c->theirs.mnemonic];

    if (condition >= 0 && condition != c->ours.condition)
        return false;
    /* One name of theirs, several ids of ours. */
    if (c->theirs.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        id = id == INSN_CALL  ? INSN_CALL_FAR
             : id == INSN_JMP ? INSN_JMP_FAR
             : id == INSN_RET ? INSN_RET_FAR
                              : id;
    if (c->theirs.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT)
        id = id == INSN_MOVSD ? INSN_MOVS : id == INSN_CMPSD ? INSN_CMPS : id;
    for (unsigned i = 0; id == INSN_MOV && i < 2; i++) {
        if (c->operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        switch (ZydisRegisterGetClass(c->operands[i].reg.value)) {
        case ZYDIS_REGCLASS_CONTROL:
            id = INSN_MOV_CR;
            break;
        case ZYDIS_REGCLASS_DEBUG:
            id = INSN_MOV_DR;
            break;
        case ZYDIS_REGCLASS_SEGMENT:
            id = INSN_MOV_SEG;
            break;
        default:
            break;
        }
    }
    return id == c->ours.id;
}

static unsigned compare(const struct oracle *oracle, const struct oracle_case *c)
{
    unsigned different = 0;

    if ((c->result == INSN_OK) != c->valid)
        return FIELD_VALID;
    if (!c->valid)
        return 0;
    if (c->ours.length != c->theirs.length)
        different |= FIELD_LENGTH;
    if (!same_name(oracle, c))
        different |= FIELD_NAME;
    return different | compare_operands(c) | compare_flags(c) | compare_parts(c);
}

static void note(struct oracle *oracle, const struct oracle_case *c, unsigned field)
{
    unsigned mnemonic = c->valid ? c->theirs.mnemonic : 0;
    unsigned id = c->result == INSN_OK ? c->ours.id : 0;

    oracle->nr_differences++;
    for (unsigned i = 0; i < oracle->nr_kinds; i++) {
        struct oracle_kind *kind = &oracle->kinds[i];

        if (kind->field == field && kind->mnemonic == mnemonic && kind->id == id) {
            kind->count++;
            return;
        }
    }
    if (oracle->nr_kinds == ORACLE_KINDS_MAX)
        return;
    oracle->kinds[oracle->nr_kinds++] = (struct oracle_kind){field, mnemonic, id, 1};
    printf("mode %d, field %03x, theirs %s (isa %s), ours %s:", 16 << c->mode, field,
           c->valid ? ZydisMnemonicGetString(c->theirs.mnemonic) : "undefined",
           c->valid ? ZydisISASetGetString(c->theirs.meta.isa_set) : "",
           c->result == INSN_OK ? insn_name((enum insn_id)c->ours.id) : "undefined");
    for (int i = 0; i < INSN_LENGTH_MAX; i++)
        printf(" %02x", c->bytes[i]);
    printf("\n");
}

void oracle_compare(struct oracle *oracle, const uint8_t *bytes, enum insn_mode mode)
{
    struct oracle_case c;
    unsigned different;

    c.bytes = bytes;
    c.mode = mode;
    c.result = insn_decode(bytes, INSN_LENGTH_MAX, mode, &c.ours);
    c.valid = ZYAN_SUCCESS(ZydisDecoderDecodeFull(&oracle->decoders[mode], bytes, INSN_LENGTH_MAX,
                                                  &c.theirs, c.operands));
    oracle->nr_compared++;
    oracle->nr_valid += c.valid && c.result == INSN_OK;
    different = compare(oracle, &c);
    for (unsigned field = 1; different; field <<= 1) {
        if (!(different & field))
            continue;
        different &= ~field;
        if (decode_exemption(&c, field))
            oracle->nr_exempted++;
        else
            note(oracle, &c, field);
    }
}
