/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instruction decoder: prefixes, opcode, choice of the form, its attributes. The operands are
 * in operands.c, and what the instructions are is in the tables (decode_table.h).
 *
 * Invariants:
 *  1. No byte at or past min(length, 15) is read (decoder.h).
 *  2. On anything but INSN_OK the content of *ret has no meaning but for length, which is 0.
 *
 * Where vendors differ: 66 before a near branch in 64-bit mode is ignored (Intel; AMD truncates
 * RIP), and REX.W gives far pointers in memory a 64-bit offset (Intel; AMD ignores it).
 *
 * Threads: no state.
 * Source: SDM 2A chapter 2 and 3.1.1, SDM 2D appendix A; APM 3 chapter 1.
 */
#include "cpu/state.h"
#include "soft/decode/decoder.h"

/* What a byte is when it stands before the opcode. */
enum prefix_class {
    PREFIX_NONE,
    PREFIX_REX,
    PREFIX_OPERAND,
    PREFIX_ADDRESS,
    PREFIX_LOCK,
    PREFIX_REPEAT,
    PREFIX_SEGMENT, /* + enum cpu_segment_index */
};

/* clang-format off */
static const uint8_t prefix_class[256] = {
    [0x26] = PREFIX_SEGMENT + CPU_ES, [0x2e] = PREFIX_SEGMENT + CPU_CS, [0x36] = PREFIX_SEGMENT + CPU_SS,
    [0x3e] = PREFIX_SEGMENT + CPU_DS, [0x64] = PREFIX_SEGMENT + CPU_FS, [0x65] = PREFIX_SEGMENT + CPU_GS,
    [0x40 ... 0x4f] = PREFIX_REX,
    [0x66] = PREFIX_OPERAND, [0x67] = PREFIX_ADDRESS, [0xf0] = PREFIX_LOCK,
    [0xf2] = PREFIX_REPEAT, [0xf3] = PREFIX_REPEAT,
};

static const struct flags_effect {
    uint8_t read, written, undefined;
} flags_effects[] = {
#define FLAGS_EFFECT(name, read, written, undefined) {(read), (written), (undefined)},
    FLAGS_LIST(FLAGS_EFFECT)
#undef FLAGS_EFFECT
};

/* By condition / 2: O B Z BE S P L LE. */
static const uint8_t condition_flags[8] = {
    FLAG_OF, FLAG_CF, FLAG_ZF, FLAG_CF | FLAG_ZF, FLAG_SF, FLAG_PF, FLAG_SF | FLAG_OF,
    FLAG_SF | FLAG_OF | FLAG_ZF,
};
/* clang-format on */

static const uint8_t mandatory_prefix[4] = {0, 0x66, 0xf3, 0xf2};

/* Leaves `*ret_opcode` the first byte that is no prefix. */
static inline enum insn_result read_prefixes(struct decoder *d, struct insn *insn,
                                             uint8_t *ret_opcode)
{
    uint8_t byte, class, rex = 0;

    for (;;) {
        if (!take_byte(d, &byte))
            return out_of_bytes(d);
        class = prefix_class[byte];
        if (LIKELY(class == PREFIX_NONE))
            break;
        if (class == PREFIX_REX) {
            if (insn->mode != INSN_MODE_64)
                break;
            rex = byte;
            continue;
        }
        rex = 0; /* a REX that does not stand right before the opcode is ignored */
        switch (class) {
        case PREFIX_OPERAND:
            insn->prefixes |= INSN_PREFIX_OPERAND_SIZE;
            break;
        case PREFIX_ADDRESS:
            insn->prefixes |= INSN_PREFIX_ADDRESS_SIZE;
            break;
        case PREFIX_LOCK:
            insn->prefixes |= INSN_PREFIX_LOCK;
            break;
        case PREFIX_REPEAT:
            d->repeat = byte;
            break;
        default:
            insn->prefixes |= INSN_PREFIX_SEGMENT;
            class -= PREFIX_SEGMENT;
            if (insn->mode != INSN_MODE_64 || class >= CPU_FS)
                d->segment = class;
            break;
        }
    }
    if (rex) {
        insn->rex = rex;
        insn->prefixes |= INSN_PREFIX_REX;
    }
    *ret_opcode = byte;
    return INSN_OK;
}

/* The two or three bytes behind C4 or C5, and the opcode. */
static enum insn_result read_vex(struct decoder *d, struct insn *insn, uint8_t first)
{
    uint8_t p0, p1;

    if ((insn->prefixes & (INSN_PREFIX_OPERAND_SIZE | INSN_PREFIX_LOCK | INSN_PREFIX_REX)) ||
        d->repeat)
        return INSN_UNDEFINED;
    if (!take_byte(d, &p0))
        return out_of_bytes(d);
    p1 = p0 & 0x7f;
    insn->map = 1;
    insn->rex = (~p0 >> 5) & REX_R;
    if (first == 0xc4) {
        if (!take_byte(d, &p1))
            return out_of_bytes(d);
        insn->rex = (~p0 >> 5) & (REX_R | REX_X | REX_B);
        insn->rex |= p1 >> 4 & REX_W;
        insn->map = p0 & 0x1f;
    }
    insn->prefixes |= INSN_PREFIX_VEX;
    d->vector_l = p1 >> 2 & 1;
    insn->vex_l = d->vector_l;
    insn->vex_w = first == 0xc4 && p1 >> 7;
    insn->vex_vvvv = (~p1 >> 3) & 15;
    d->vvvv_present = insn->vex_vvvv != 0;
    d->pp = p1 & 3;
    if (insn->mode != INSN_MODE_64) {
        insn->rex = 0;
        insn->vex_vvvv &= 7;
    }
    if (insn->map < 1 || insn->map > 3)
        return INSN_UNDEFINED;
    insn->opcode_offset = d->position;
    if (!take_byte(d, &insn->opcode))
        return out_of_bytes(d);
    return INSN_OK;
}

/* The opcode bytes behind the prefixes, of which `byte` is the first. */
static inline enum insn_result read_opcode(struct decoder *d, struct insn *insn, uint8_t byte,
                                           const struct decode_entry **ret)
{
    static const struct decode_entry *const vex_maps[4] = {
        NULL, decode_map_vex_0f, decode_map_vex_0f38, decode_map_vex_0f3a};
    const struct decode_entry *map = decode_map_one_byte;
    enum insn_result result;

    insn->opcode = byte;
    insn->opcode_offset = d->position - 1;
    if (byte == 0x0f) {
        map = decode_map_0f;
        insn->map = 1;
        if (!take_byte(d, &insn->opcode))
            return out_of_bytes(d);
        if (insn->opcode == 0x38 || insn->opcode == 0x3a) {
            map = insn->opcode == 0x38 ? decode_map_0f38 : decode_map_0f3a;
            insn->map = insn->opcode == 0x38 ? 2 : 3;
            if (!take_byte(d, &insn->opcode))
                return out_of_bytes(d);
        }
        insn->opcode_offset = d->position - 1;
    } else if (UNLIKELY((byte & 0xfe) == 0xc4)) {
        if (d->position >= d->length)
            return out_of_bytes(d);
        /* Outside 64-bit mode these are LES and LDS, which take no register. */
        if (insn->mode == INSN_MODE_64 || d->bytes[d->position] >= 0xc0) {
            result = read_vex(d, insn, byte);
            if (result != INSN_OK)
                return result;
            map = vex_maps[insn->map];
        }
    }
    *ret = &map[insn->opcode];
    return INSN_OK;
}

static inline unsigned operand_size_index(const struct insn *insn, bool prefix_66, unsigned rule)
{
    if (insn->mode != INSN_MODE_64) {
        if (rule == SIZE_NATIVE)
            return 1;
        return (insn->mode == INSN_MODE_32) != prefix_66;
    }
    if ((insn->rex & REX_W) || rule >= SIZE_FORCE_64)
        return 2;
    if (prefix_66)
        return 0;
    return rule == SIZE_DEFAULT_64 ? 2 : 1;
}

/* The first form of the entry whose condition holds, or NULL; settles what depends on it. */
static inline const struct decode_form *choose_form(struct decoder *d, struct insn *insn,
                                                    const struct decode_entry *entry)
{
    const struct decode_form *form = entry->forms;
    bool prefix_66 = insn->prefixes & INSN_PREFIX_OPERAND_SIZE;
    unsigned rule, pp_mask;
    uint32_t situation;

    d->size = operand_size_index(insn, prefix_66, SIZE_NORMAL);
    situation = d->pp << S_PP_SHIFT | (uint32_t)(insn->modrm >> 3 & 7) << S_REG_SHIFT |
                (uint32_t)(insn->modrm & 7) << S_RM_SHIFT |
                (uint32_t)(insn->modrm >= 0xc0) << S_MOD3_SHIFT | d->vector_l << S_L_SHIFT |
                (uint32_t)(insn->mode == INSN_MODE_64) << S_M64_SHIFT | d->size << S_SIZE_SHIFT |
                (uint32_t)(insn->rex & REX_B) << S_REXB_SHIFT;
    if (insn->prefixes & INSN_PREFIX_VEX)
        situation |= (uint32_t)insn->vex_w << S_W_SHIFT;
    else
        situation |= (uint32_t)(insn->rex >> 3 & 1) << S_W_SHIFT;
    while ((situation & (uint32_t)(form->condition >> 32)) != (uint32_t)form->condition)
        form++;
    if (form->id == INSN_NONE)
        return NULL;

    rule = form->attributes >> A_SIZE_SHIFT & 7;
    pp_mask = form->condition >> (32 + S_PP_SHIFT) & 3;
    if (pp_mask == 3) { /* the prefix is part of the opcode */
        insn->mandatory = mandatory_prefix[d->pp];
        if (d->pp == 1)
            prefix_66 = false;
    } else if (d->repeat) {
        insn->prefixes |= d->repeat == 0xf3 ? INSN_PREFIX_REP : INSN_PREFIX_REPNE;
    }
    d->size = operand_size_index(insn, prefix_66, rule);
    insn->operand_size = (uint8_t)(2u << d->size);
    return form;
}

/* Flags, traits and feature of the form, as this instruction uses it. */
static inline bool apply_attributes(struct insn *insn, const struct decode_form *form, bool memory)
{
    uint64_t attributes = form->attributes;
    const struct flags_effect *flags = &flags_effects[attributes >> A_FLAGS_SHIFT & 63];
    unsigned count;

    insn->feature = attributes >> A_FEATURE_SHIFT & 0xff;
    insn->flags_read = flags->read;
    insn->flags_written = flags->written;
    insn->flags_undefined = flags->undefined;
    switch (attributes >> A_SPECIAL_SHIFT & 15) {
    case SPECIAL_CONDITION:
        insn->condition = insn->opcode & 15;
        insn->flags_read = condition_flags[insn->condition >> 1];
        break;
    case SPECIAL_SHIFT:
        count = insn->imm & (insn->operand[0].size == 8 ? 63 : 31);
        if (count == 0)
            insn->flags_read = insn->flags_written = insn->flags_undefined = 0;
        else if (count == 1)
            insn->flags_undefined &= ~FLAG_OF;
        break;
    case SPECIAL_REP_FLAGS:
        if (insn->prefixes & (INSN_PREFIX_REP | INSN_PREFIX_REPNE))
            insn->flags_read = FLAGS_ALL;
        break;
    case SPECIAL_GATHER:
        if (insn->mem.index == insn->operand[0].reg || insn->mem.index == insn->operand[2].reg ||
            insn->operand[0].reg == insn->operand[2].reg)
            return false;
        break;
    default:
        break;
    }
    if ((insn->traits & INSN_TRAIT_SSE) && memory && !(attributes >> A_UNALIGNED_SHIFT & 1)) {
        for (unsigned i = 0; i < 2; i++)
            if (insn->operand[i].kind == INSN_OPERAND_MEM && insn->operand[i].size == 16)
                insn->traits |= INSN_TRAIT_ALIGNED;
    }
    return true;
}

static inline enum insn_result decode_body(struct decoder *d, struct insn *insn)
{
    static const uint8_t address_sizes[3][2] = {{2, 4}, {4, 2}, {8, 4}};
    const struct decode_entry *entry;
    const struct decode_form *form;
    enum insn_result result;
    uint8_t byte;
    bool memory;

    result = read_prefixes(d, insn, &byte);
    if (result != INSN_OK)
        return result;
    result = read_opcode(d, insn, byte, &entry);
    if (result != INSN_OK)
        return result;
    if (!entry->forms)
        return INSN_UNDEFINED;
    if (!(insn->prefixes & INSN_PREFIX_VEX))
        d->pp = d->repeat                                     ? (d->repeat == 0xf3 ? 2 : 3)
                : (insn->prefixes & INSN_PREFIX_OPERAND_SIZE) ? 1
                                                              : 0;
    insn->address_size = address_sizes[insn->mode][!!(insn->prefixes & INSN_PREFIX_ADDRESS_SIZE)];
    if (entry->has_modrm) {
        insn->has_modrm = true;
        insn->modrm_offset = d->position;
        if (!take_byte(d, &insn->modrm))
            return out_of_bytes(d);
    }
    form = choose_form(d, insn, entry);
    if (!form)
        return INSN_UNDEFINED;
    insn->id = form->id;
    insn->traits = form->attributes & 0xffff;
    memory = entry->has_modrm && insn->modrm < 0xc0 && !entry->ignores_mod;
    if ((insn->prefixes & INSN_PREFIX_LOCK) && !(memory && (insn->traits & INSN_TRAIT_LOCKABLE)))
        return INSN_UNDEFINED;
    if (memory) {
        if (!decode_memory(d, insn, (form->attributes >> A_SPECIAL_SHIFT & 15) == SPECIAL_GATHER))
            return out_of_bytes(d);
        if (d->segment != INSN_NO_REG)
            insn->mem.segment = d->segment;
    }
    result = decode_operands(d, insn, form);
    if (result != INSN_OK)
        return result;
    return apply_attributes(insn, form, memory) ? INSN_OK : INSN_UNDEFINED;
}

enum insn_result insn_decode(const uint8_t *bytes, size_t length, enum insn_mode mode,
                             struct insn *ret)
{
    struct decoder d = {
        .bytes = bytes,
        .length = length < INSN_LENGTH_MAX ? (unsigned)length : INSN_LENGTH_MAX,
        .segment = INSN_NO_REG,
    };
    enum insn_result result;

    memset(ret, 0, sizeof(*ret));
    ret->mode = mode;
    ret->mem.base = INSN_NO_REG;
    ret->mem.index = INSN_NO_REG;
    ret->mem.scale = 1;
    ret->mem.segment = CPU_DS;
    result = decode_body(&d, ret);
    if (result == INSN_OK)
        ret->length = d.position;
    return result;
}
