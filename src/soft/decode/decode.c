/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instruction decoder: prefixes, opcode, choice of the form, memory operand, operands. What the
 * instructions are is in the tables (decode_table.h); what is here is how they are encoded.
 *
 * Invariants:
 *  1. No byte at or past min(length, 15) is read: every read goes through take().
 *  2. On anything but INSN_OK the content of *ret has no meaning but for length, which is 0.
 *
 * Where vendors differ: 66 before a near branch in 64-bit mode is ignored (Intel; AMD truncates
 * RIP), and REX.W gives far pointers in memory a 64-bit offset (Intel; AMD ignores it).
 *
 * Threads: no state.
 * Source: SDM 2A chapter 2 and 3.1.1, SDM 2D appendix A; APM 3 chapter 1.
 */
#include "soft/decode/decode_table.h"
#include "cpu/state.h"

#include <string.h>

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

struct decoder {
    const uint8_t *bytes;
    unsigned length; /* of bytes, at most 15 */
    unsigned position;
    unsigned pp;       /* as in VEX.pp */
    unsigned size;     /* index of the operand size: 0 2 bytes, 1 4, 2 8 */
    unsigned vector_l; /* VEX.L */
    uint8_t repeat;    /* F2 or F3, the last one */
    uint8_t segment;   /* override, or INSN_NO_REG */
    bool vvvv_present; /* VEX.vvvv names a register (is not 1111b) */
    bool vvvv_used;
    bool rip_relative;
};

enum { REX_B = 1, REX_X = 2, REX_R = 4, REX_W = 8 };

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

/* Columns: operand size 16, 32, 64 bits with VEX.L 0, then with VEX.L 1. */
static const uint16_t operand_bytes[Z_NR_SIZES][6] = {
    [Z_1]  = {1, 1, 1, 1, 1, 1},
    [Z_2]  = {2, 2, 2, 2, 2, 2},
    [Z_4]  = {4, 4, 4, 4, 4, 4},
    [Z_6]  = {6, 6, 6, 6, 6, 6},
    [Z_8]  = {8, 8, 8, 8, 8, 8},
    [Z_10] = {10, 10, 10, 10, 10, 10},
    [Z_16] = {16, 16, 16, 16, 16, 16},
    [Z_32] = {32, 32, 32, 32, 32, 32},
    [Z_512] = {512, 512, 512, 512, 512, 512},
    [Z_V]  = {2, 4, 8, 2, 4, 8},
    [Z_Z]  = {2, 4, 4, 2, 4, 4},
    [Z_Y]  = {4, 4, 8, 4, 4, 8},
    [Z_P]  = {4, 6, 10, 4, 6, 10},
    [Z_A]  = {4, 8, 16, 4, 8, 16},
    [Z_X]  = {16, 16, 16, 32, 32, 32},
    [Z_XH] = {8, 8, 8, 16, 16, 16},
    [Z_XQ] = {4, 4, 4, 8, 8, 8},
    [Z_XE] = {2, 2, 2, 4, 4, 4},
    [Z_DDUP] = {8, 8, 8, 32, 32, 32},
    [Z_TABLE] = {6, 6, 10, 6, 6, 10},
    [Z_NATIVE_W] = {2, 2, 2, 2, 2, 2},
    [Z_1_REG4] = {1, 1, 1, 1, 1, 1},
    [Z_2_REG4] = {2, 2, 2, 2, 2, 2},
    [Z_ENV] = {14, 28, 28, 14, 28, 28},
    [Z_X87] = {94, 108, 108, 94, 108, 108},
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

static enum insn_result out_of_bytes(const struct decoder *d)
{
    return d->length >= INSN_LENGTH_MAX ? INSN_TOO_LONG : INSN_TRUNCATED;
}

static inline bool take_byte(struct decoder *d, uint8_t *ret)
{
    if (UNLIKELY(d->position >= d->length))
        return false;
    *ret = d->bytes[d->position++];
    return true;
}

/* Little-endian; `size` is 1, 2, 4 or 8. */
static inline bool take(struct decoder *d, unsigned size, uint64_t *ret)
{
    const uint8_t *p = d->bytes + d->position;
    uint16_t u16;
    uint32_t u32;

    if (UNLIKELY(size > d->length - d->position))
        return false;
    d->position += size;
    switch (size) {
    case 1:
        *ret = *p;
        break;
    case 2:
        memcpy(&u16, p, 2);
        *ret = u16;
        break;
    case 4:
        memcpy(&u32, p, 4);
        *ret = u32;
        break;
    default:
        memcpy(ret, p, 8);
        break;
    }
    return true;
}

static inline uint64_t sign_extend(uint64_t value, unsigned size)
{
    unsigned shift = 64 - size * 8;

    return (uint64_t)((int64_t)(value << shift) >> shift);
}

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

static bool decode_memory_16(struct decoder *d, struct insn *insn)
{
    static const uint8_t bases[8] = {CPU_RBX, CPU_RBX, CPU_RBP, CPU_RBP,
                                     CPU_RSI, CPU_RDI, CPU_RBP, CPU_RBX};
    static const uint8_t indices[8] = {CPU_RSI,     CPU_RDI,     CPU_RSI,     CPU_RDI,
                                       INSN_NO_REG, INSN_NO_REG, INSN_NO_REG, INSN_NO_REG};
    unsigned mod = insn->modrm >> 6, rm = insn->modrm & 7;
    unsigned size = mod == 2 ? 2 : mod;
    uint64_t displacement;

    if (mod == 0 && rm == 6) {
        size = 2;
    } else {
        insn->mem.base = bases[rm];
        insn->mem.index = indices[rm];
    }
    if (insn->mem.base == CPU_RBP)
        insn->mem.segment = CPU_SS;
    if (size) {
        insn->displacement_offset = d->position;
        insn->displacement_size = size;
        if (!take(d, size, &displacement))
            return false;
        insn->mem.displacement = (int64_t)sign_extend(displacement, size);
    }
    return true;
}

/* ModRM with mod != 3: SIB, displacement, default segment. */
static inline bool decode_memory(struct decoder *d, struct insn *insn, bool vsib)
{
    unsigned mod = insn->modrm >> 6, base = insn->modrm & 7, index;
    unsigned size = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    uint64_t displacement;
    uint8_t sib;

    if (UNLIKELY(insn->address_size == 2))
        return decode_memory_16(d, insn);
    if (base == 4) {
        if (!take_byte(d, &sib))
            return false;
        base = sib & 7;
        index = (sib >> 3 & 7) | (insn->rex & REX_X) << 2;
        if (index != CPU_RSP || vsib) {
            insn->mem.index = index;
            insn->mem.scale = (uint8_t)(1u << (sib >> 6));
        }
    } else if (mod == 0 && base == 5 && insn->mode == INSN_MODE_64) {
        insn->mem.rip_relative = true;
    }
    if (mod == 0 && base == 5) {
        size = 4;
    } else {
        base |= (insn->rex & REX_B) << 3;
        insn->mem.base = base;
        if (base == CPU_RSP || base == CPU_RBP)
            insn->mem.segment = CPU_SS;
    }
    if (size) {
        insn->displacement_offset = d->position;
        insn->displacement_size = size;
        if (!take(d, size, &displacement))
            return false;
        insn->mem.displacement = (int64_t)sign_extend(displacement, size);
    }
    return true;
}

static inline bool take_immediate(struct decoder *d, struct insn *insn, unsigned size,
                                  uint64_t *ret)
{
    if (!insn->imm_offset)
        insn->imm_offset = d->position;
    insn->imm_size += size;
    return take(d, size, ret);
}

static inline void set_register(struct insn_operand *operand, enum insn_reg_class class,
                                unsigned reg, unsigned size)
{
    operand->kind = INSN_OPERAND_REG;
    operand->reg_class = class;
    operand->reg = reg;
    operand->size = size;
}

static inline void set_gpr(const struct insn *insn, struct insn_operand *operand, unsigned reg,
                           unsigned size)
{
    bool high = size == 1 && reg >= 4 && !insn->rex;

    set_register(operand, high ? INSN_REG_GPR8_HIGH : INSN_REG_GPR, high ? reg - 4 : reg, size);
}

static inline void set_vector(struct insn_operand *operand, unsigned reg, unsigned l)
{
    set_register(operand, l ? INSN_REG_YMM : INSN_REG_XMM, reg, l ? 32 : 16);
}

static inline void set_memory(struct insn_operand *operand, unsigned size)
{
    operand->kind = INSN_OPERAND_MEM;
    operand->size = size;
}

/* A general register named by ModRM.rm: some sizes differ from those of the memory form. */
static inline unsigned register_bytes(const struct insn *insn, unsigned code, unsigned size)
{
    if (LIKELY(code < Z_NATIVE_W))
        return size;
    if (code == Z_NATIVE_W)
        return insn->operand_size;
    return code <= Z_2_REG4 ? 4 : size;
}

static enum insn_result immediate_operand(struct decoder *d, struct insn *insn,
                                          struct insn_operand *operand, unsigned method,
                                          unsigned size)
{
    operand->kind = INSN_OPERAND_IMM;
    operand->size = size;
    switch (method) {
    case M_I:
        if (!take_immediate(d, insn, size, &insn->imm))
            return out_of_bytes(d);
        return INSN_OK;
    case M_SIB:
        operand->size = size = 1;
        break;
    case M_I2:
        if (!take_immediate(d, insn, 1, &insn->imm2))
            return out_of_bytes(d);
        return INSN_OK;
    case M_ONE:
        operand->implicit = true;
        insn->imm = 1;
        return INSN_OK;
    case M_J:
        operand->kind = INSN_OPERAND_REL;
        break;
    case M_A:
        operand->kind = INSN_OPERAND_FAR;
        if (!take_immediate(d, insn, size - 2, &insn->imm) ||
            !take_immediate(d, insn, 2, &insn->imm2))
            return out_of_bytes(d);
        return INSN_OK;
    default:
        break;
    }
    if (!take_immediate(d, insn, size, &insn->imm))
        return out_of_bytes(d);
    insn->imm = sign_extend(insn->imm, size);
    return INSN_OK;
}

/* Memory that no ModRM byte names: moffs, the string registers, XLAT, MASKMOV. */
static enum insn_result implicit_memory(struct decoder *d, struct insn *insn,
                                        struct insn_operand *operand, unsigned method,
                                        unsigned size)
{
    unsigned base = CPU_RDI, segment = d->segment == INSN_NO_REG ? CPU_DS : d->segment;
    uint64_t offset;

    set_memory(operand, size);
    operand->implicit = true;
    switch (method) {
    case M_O:
        operand->implicit = false;
        insn->displacement_offset = d->position;
        insn->displacement_size = insn->address_size;
        insn->mem.segment = segment;
        if (!take(d, insn->address_size, &offset))
            return out_of_bytes(d);
        insn->mem.displacement = (int64_t)offset;
        return INSN_OK;
    case M_X:
        base = CPU_RSI;
        break;
    case M_XLAT:
        base = CPU_RBX;
        break;
    case M_Y:
        operand->reg = base;
        if (insn->mem.base != INSN_NO_REG) /* CMPS: insn.mem describes the DS:rSI operand */
            return INSN_OK;
        segment = CPU_ES;
        break;
    default: /* M_MASKMOV */
        break;
    }
    operand->reg = base;
    insn->mem.base = base;
    insn->mem.segment = segment;
    return INSN_OK;
}

static inline enum insn_result decode_operand(struct decoder *d, struct insn *insn,
                                              struct insn_operand *operand, unsigned spec)
{
    unsigned method = spec & 63, code = spec >> 6 & 31;
    unsigned size = operand_bytes[code][d->size + 3 * d->vector_l];
    unsigned reg = (insn->modrm >> 3 & 7) | (insn->rex & REX_R) << 1;
    unsigned rm = (insn->modrm & 7) | (insn->rex & REX_B) << 3;
    bool memory = insn->modrm < 0xc0;
    uint64_t imm;

    operand->access = spec >> 11 & 3;
    switch (method) {
    case M_E:
        if (memory)
            set_memory(operand, size);
        else
            set_gpr(insn, operand, rm, register_bytes(insn, code, size));
        return INSN_OK;
    case M_G:
        set_gpr(insn, operand, reg, size);
        return INSN_OK;
    case M_M:
        if (!memory)
            return INSN_UNDEFINED;
        set_memory(operand, size);
        return INSN_OK;
    case M_R:
        set_gpr(insn, operand, rm, size);
        return INSN_OK;
    case M_Z:
        set_gpr(insn, operand, (insn->opcode & 7) | (insn->rex & REX_B) << 3, size);
        return INSN_OK;
    case M_B:
        d->vvvv_used = true;
        set_gpr(insn, operand, insn->vex_vvvv, size);
        return INSN_OK;
    case M_FIXED ... M_FIXED_LAST:
        operand->implicit = true;
        set_register(operand, INSN_REG_GPR, method - M_FIXED, size);
        return INSN_OK;
    case M_AH:
        operand->implicit = true;
        set_register(operand, INSN_REG_GPR8_HIGH, 0, 1);
        return INSN_OK;
    case M_SEGMENT ... M_SEGMENT_LAST:
        operand->implicit = true;
        set_register(operand, INSN_REG_SEGMENT, method - M_SEGMENT, 2);
        return INSN_OK;
    case M_S:
    case M_SW:
        reg &= 7;
        if (reg > CPU_GS || (method == M_SW && reg == CPU_CS))
            return INSN_UNDEFINED;
        set_register(operand, INSN_REG_SEGMENT, reg, 2);
        return INSN_OK;
    case M_C:
        if (reg == 1 || (reg > 4 && reg != 8))
            return INSN_UNDEFINED;
        set_register(operand, INSN_REG_CR, reg, size);
        return INSN_OK;
    case M_D:
        if (reg > 7)
            return INSN_UNDEFINED;
        set_register(operand, INSN_REG_DR, reg, size);
        return INSN_OK;
    case M_ST0:
        operand->implicit = true;
        set_register(operand, INSN_REG_ST, 0, 10);
        return INSN_OK;
    case M_STI:
        set_register(operand, INSN_REG_ST, insn->modrm & 7, 10);
        return INSN_OK;
    case M_P:
        set_register(operand, INSN_REG_MMX, reg & 7, 8);
        return INSN_OK;
    case M_N:
    case M_Q:
        if (!memory)
            set_register(operand, INSN_REG_MMX, rm & 7, 8);
        else if (method == M_N)
            return INSN_UNDEFINED;
        else
            set_memory(operand, size);
        return INSN_OK;
    case M_V:
        set_vector(operand, reg, 0);
        return INSN_OK;
    case M_VL:
        set_vector(operand, reg, d->vector_l);
        return INSN_OK;
    case M_WX:
    case M_WL:
        if (memory)
            set_memory(operand, size);
        else
            set_vector(operand, rm, method == M_WL && d->vector_l);
        return INSN_OK;
    case M_U:
    case M_UL:
        if (memory)
            return INSN_UNDEFINED;
        set_vector(operand, rm, method == M_UL && d->vector_l);
        return INSN_OK;
    case M_H:
    case M_HL:
        d->vvvv_used = true;
        set_vector(operand, insn->vex_vvvv, method == M_HL && d->vector_l);
        return INSN_OK;
    case M_IS4:
    case M_IS4L:
        if (!take_immediate(d, insn, 1, &imm))
            return out_of_bytes(d);
        insn->imm = imm;
        imm >>= 4;
        set_vector(operand, insn->mode == INSN_MODE_64 ? imm : imm & 7,
                   method == M_IS4L && d->vector_l);
        return INSN_OK;
    case M_XMM0:
        operand->implicit = true;
        set_vector(operand, 0, 0);
        return INSN_OK;
    case M_VSIB:
    case M_VSIBL:
        if (!memory || (insn->modrm & 7) != 4 || insn->address_size == 2)
            return INSN_UNDEFINED;
        set_memory(operand, size);
        operand->reg_class = method == M_VSIBL && d->vector_l ? INSN_REG_YMM : INSN_REG_XMM;
        operand->reg = insn->mem.index;
        insn->mem.vsib = true;
        return INSN_OK;
    case M_I ... M_A:
        return immediate_operand(d, insn, operand, method, size);
    default:
        return implicit_memory(d, insn, operand, method, size);
    }
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

static inline enum insn_result decode_operands(struct decoder *d, struct insn *insn,
                                               const struct decode_form *form)
{
    enum insn_result result;
    unsigned i;

    for (i = 0; i < INSN_OPERANDS_MAX && form->operand[i]; i++) {
        result = decode_operand(d, insn, &insn->operand[i], form->operand[i]);
        if (UNLIKELY(result != INSN_OK))
            return result;
    }
    insn->nr_operands = i;
    if (d->vvvv_present && !d->vvvv_used)
        return INSN_UNDEFINED;
    return INSN_OK;
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
