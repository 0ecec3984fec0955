/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random streams. Bytes are drawn with a bias towards what decodes (prefixes, maps, ModRM with a
 * base register that holds a pointer), decoded, and kept when the instruction is allowed
 * (allowed.c).
 *
 * A stream should run on for long, and still fault now and then. So what faults surely is drawn
 * seldom, and most instructions whose address, count or bit offset would lead out of the scratch
 * pages get a MOV before them that puts the register right. `lost` says which pointer registers
 * hold something else by now.
 */
#include "diff.h"

#include "base/util.h"

#include <string.h>

/* In how many draws one is kept that ends the stream, and how many repairs are left out. */
#define SELDOM 80u

/* What repair puts before an instruction (base, index, bit offset, stack pointer), itself, and
 * what define_flags puts behind it. */
#define REPAIRS_MAX 10u

struct builder {
    const struct diff_guest *guest;
    enum diff_mode mode;
    enum insn_mode code_mode;
    uint64_t *seed;
    struct diff_stream *stream;
    unsigned nr;   /* instructions that it shall have */
    uint32_t lost; /* by register */
};

/* Registers that start as pointers into the scratch pages; the first four have 16-bit addressing
 * forms too. */
static const uint8_t pointer_registers[] = {CPU_RBX, CPU_RBP, CPU_RSI, CPU_RDI, CPU_R13, CPU_R14};

static unsigned nr_pointers(enum insn_mode code_mode)
{
    return code_mode == INSN_MODE_64 ? 6 : 4;
}

static bool is_pointer(enum insn_mode code_mode, unsigned reg)
{
    for (unsigned i = 0; i < nr_pointers(code_mode); i++)
        if (pointer_registers[i] == reg)
            return true;
    return reg == CPU_RSP;
}

/* Wild displacements stay away from what only one side has (the trampoline's page, the guest's own
 * tables): few values of the top byte. */
#define WILD_TOP_BYTE 0xc0u

static unsigned put_modrm_16(uint64_t *seed, uint8_t *bytes)
{
    unsigned mod = diff_pick(seed, 3), rm = diff_pick(seed, 8);

    /* Two registers together lead out of the segment more often. */
    if (rm < 4 && diff_pick(seed, 2))
        rm |= 4;
    bytes[0] = (uint8_t)(mod << 6 | diff_pick(seed, 8) << 3 | rm);
    store_le16(bytes + 1,
               (uint16_t)(diff_pick(seed, 16) ? diff_pick(seed, 2048) : diff_random(seed)));
    return 3;
}

/* ModRM, SIB and displacement; returns the bytes written. rex_b: of the base. */
static unsigned put_modrm(const struct builder *b, unsigned address_size, uint8_t *bytes,
                          bool *rex_b)
{
    uint64_t *seed = b->seed;
    unsigned reg = diff_pick(seed, 8), base;

    if (diff_pick(seed, 100) < 40) {
        bytes[0] = (uint8_t)(0xc0 | reg << 3 | diff_pick(seed, 8));
        return 1;
    }
    if (address_size == 2)
        return put_modrm_16(seed, bytes);
    if (diff_pick(seed, 100) < 4) {
        /* Anything, RIP-relative and absolute too. */
        store_le64(bytes, diff_random(seed));
        bytes[0] &= 0xbf;
        bytes[4] &= WILD_TOP_BYTE;
        bytes[5] &= WILD_TOP_BYTE;
        return 6;
    }
    base = pointer_registers[diff_pick(seed, nr_pointers(b->code_mode))];
    *rex_b = base >= 8;
    base &= 7;
    if (base != 4 && diff_pick(seed, 2)) {
        bytes[0] = (uint8_t)(0x40 | reg << 3 | base);
        bytes[1] = (uint8_t)diff_random(seed);
        return 2;
    }
    if (diff_pick(seed, 3)) {
        bytes[0] = (uint8_t)(0x80 | reg << 3 | base);
        store_le32(bytes + 1, diff_pick(seed, 2 * SELDOM)
                                  ? diff_pick(seed, 2048) - 1024u
                                  : (uint32_t)diff_random(seed) & 0xc0ffffffu);
        return 5;
    }
    /* SIB: no index, or RCX, which often is small. */
    bytes[0] = (uint8_t)(0x40 | reg << 3 | 4);
    bytes[1] = (uint8_t)(diff_pick(seed, 4) << 6 | (diff_pick(seed, 2) ? 4u : 1u) << 3 | base);
    bytes[2] = (uint8_t)diff_random(seed);
    return 3;
}

static unsigned put_prefixes(uint64_t *seed, uint8_t *bytes, bool *address)
{
    static const uint8_t prefixes[] = {0x66, 0x66, 0x66, 0xf2, 0xf3, 0xf3, 0xf0,
                                       0xf0, 0x67, 0x2e, 0x36, 0x3e, 0x26, 0x65};
    unsigned n = 0;

    while (n < 3 && diff_pick(seed, 100) < 30) {
        bytes[n] = prefixes[diff_pick(seed, ARRAY_LEN(prefixes))];
        *address |= bytes[n++] == 0x67;
    }
    return n;
}

static unsigned put_vex(const struct builder *b, uint8_t *bytes, bool rex_b)
{
    uint64_t *seed = b->seed;
    bool integer = b->mode == DIFF_MODE_INTEGER;
    unsigned map = integer ? 2 + diff_pick(seed, 2) : 1 + diff_pick(seed, 3);
    unsigned rx = b->code_mode == INSN_MODE_64 ? diff_pick(seed, 4) : 0;

    bytes[0] = 0xc4;
    bytes[1] = (uint8_t)((rx << 6 ^ 0xc0) | (rex_b ? 0u : 0x20u) | map);
    bytes[2] = (uint8_t)((diff_random(seed) & 0x80) | (diff_pick(seed, 16) << 3) |
                         diff_pick(seed, 8));
    if (integer)
        bytes[2] &= (uint8_t)~4;
    return 3;
}

static unsigned put_opcode(const struct builder *b, unsigned kind, uint8_t *bytes)
{
    bool integer = b->mode == DIFF_MODE_INTEGER;
    uint8_t any = (uint8_t)diff_random(b->seed);
    unsigned n = 0;

    if (kind < 60) {
        bytes[n++] = b->mode == DIFF_MODE_VECTOR && diff_pick(b->seed, 2)
                         ? (uint8_t)(0xd8 | diff_pick(b->seed, 8))
                         : any;
        return n;
    }
    bytes[n++] = 0x0f;
    if (kind >= 90)
        bytes[n++] = kind & 1 ? 0x38 : 0x3a;
    bytes[n++] = kind >= 90 && integer ? (uint8_t)(0xf0 | (any & 7)) : any;
    return n;
}

/* Random bytes of one would-be instruction. */
static void draw(const struct builder *b, uint8_t bytes[24])
{
    uint64_t *seed = b->seed;
    bool is_64 = b->code_mode == INSN_MODE_64, integer = b->mode == DIFF_MODE_INTEGER;
    bool rex_b = is_64 && diff_pick(seed, 2), address = false, vex;
    uint8_t prefix[4], modrm[8];
    unsigned kind = diff_pick(seed, 100), n = 0, prefixes, length, address_size;

    for (unsigned i = 0; i < 24; i += 8)
        store_le64(bytes + i, diff_random(seed));
    vex = kind < (integer ? 6u : 35u);
    prefixes = vex ? 0 : put_prefixes(seed, prefix, &address);
    address_size = (b->code_mode == INSN_MODE_16) != address ? 2 : 4;
    length = put_modrm(b, is_64 ? 4 : address_size, modrm, &rex_b);
    if (vex) {
        n = put_vex(b, bytes, rex_b);
        bytes[n++] = integer ? (uint8_t)(0xf0 | diff_pick(seed, 8)) : (uint8_t)diff_random(seed);
    } else {
        memcpy(bytes, prefix, prefixes);
        n = prefixes;
        if (is_64 && (rex_b || diff_pick(seed, 2)))
            bytes[n++] = (uint8_t)(0x40 | (diff_pick(seed, 2) ? 8u : 0u) |
                                   (diff_pick(seed, 4) << 1 & 6u) | rex_b);
        n += put_opcode(b, kind, bytes + n);
    }
    memcpy(bytes + n, modrm, length);
}

static bool uses_stack(const struct insn *insn)
{
    switch (insn->id) {
    case INSN_PUSH:
    case INSN_POP:
    case INSN_PUSHA:
    case INSN_POPA:
    case INSN_PUSHF:
    case INSN_POPF:
    case INSN_CALL:
    case INSN_RET:
    case INSN_ENTER:
    case INSN_CALL_FAR:
    case INSN_RET_FAR:
    case INSN_IRET:
        return true;
    default:
        return false;
    }
}

/* What ends most streams: sure exceptions, control that goes anywhere. */
static bool unwelcome(const struct insn *insn)
{
    if (insn->traits & (INSN_TRAIT_PRIVILEGED | INSN_TRAIT_IO))
        return true;
    if ((insn->traits & INSN_TRAIT_BRANCH) &&
        (insn->operand[0].kind != INSN_OPERAND_REL ||
         (insn->mode == INSN_MODE_32 && insn->operand_size == 2 /* truncates EIP */)))
        return true;
    switch (insn->id) {
    case INSN_POPF:
    case INSN_HLT:
    case INSN_CLI:
    case INSN_STI:
    case INSN_INT:
    case INSN_INT3:
    case INSN_INT1:
    case INSN_INTO:
    case INSN_UD1:
    case INSN_UD2:
    case INSN_DIV:
    case INSN_IDIV:
    case INSN_BOUND:
    case INSN_LDS:
    case INSN_LES:
    case INSN_LSS:
    case INSN_MOV_SEG:
        return true;
    case INSN_POP:
        return insn->operand[0].reg_class == INSN_REG_SEGMENT;
    case INSN_ENTER:
        return insn->imm > 256;
    default:
        break;
    }
    for (unsigned i = 0; i < insn->nr_operands; i++) {
        const struct insn_operand *operand = &insn->operand[i];

        if (operand->kind == INSN_OPERAND_MEM && insn->id != INSN_LEA &&
            ((insn->mem.segment == CPU_GS && insn->mode != INSN_MODE_64) ||
             insn->mem.rip_relative || (insn->address_size == 2 && insn->mode == INSN_MODE_32)))
            return true;
    }
    return false;
}

/* mov $value, %reg: all of its 32 bits, in every mode. */
static void put_mov(const struct builder *b, unsigned reg, uint32_t value)
{
    struct diff_insn *ret = &b->stream->insn[b->stream->nr_insns++];

    *ret = (struct diff_insn){.length = 0};
    if (reg >= 8)
        ret->bytes[ret->length++] = 0x41;
    if (b->code_mode == INSN_MODE_16)
        ret->bytes[ret->length++] = 0x66;
    ret->bytes[ret->length++] = (uint8_t)(0xb8 | (reg & 7));
    store_le32(ret->bytes + ret->length, value);
    ret->length += 4;
}

static uint32_t scratch_address(const struct builder *b, unsigned offset)
{
    return b->code_mode == INSN_MODE_16 ? offset : DIFF_SCRATCH_VA + offset;
}

static void restore_pointer(struct builder *b, unsigned reg)
{
    if (reg >= CPU_NR_GPRS || !(b->lost >> reg & 1) || !diff_pick(b->seed, SELDOM))
        return;
    put_mov(b, reg, scratch_address(b, 1536 + (diff_pick(b->seed, 4096) & ~7u)));
    b->lost &= ~(1u << reg);
}

static void repair_memory(struct builder *b, const struct insn *insn)
{
    const struct insn_mem *mem = &insn->mem;

    if (mem->base != INSN_NO_REG && is_pointer(b->code_mode, mem->base))
        restore_pointer(b, mem->base);
    else if (mem->base != INSN_NO_REG && diff_pick(b->seed, SELDOM))
        put_mov(b, mem->base, scratch_address(b, diff_pick(b->seed, 4096)));
    if (mem->index == INSN_NO_REG || mem->vsib)
        return;
    if (is_pointer(b->code_mode, mem->index) || mem->index == mem->base) {
        restore_pointer(b, mem->index);
    } else if (diff_pick(b->seed, SELDOM)) {
        put_mov(b, mem->index, diff_pick(b->seed, 64) - (insn->address_size == 8 ? 0u : 16u));
        b->lost |= 1u << mem->index;
    }
}

/* An address without a register, and one too far from it, is put into the scratch pages. */
static void repair_displacement(struct builder *b, const struct insn *insn, uint8_t *bytes)
{
    uint32_t value = scratch_address(b, diff_pick(b->seed, DIFF_WRITABLE - 64));
    unsigned size = insn->displacement_size;

    if (insn->mem.base != INSN_NO_REG)
        value = diff_pick(b->seed, 2048) - 1024u;
    if (size < 2 || insn->mem.rip_relative || !diff_pick(b->seed, SELDOM))
        return;
    memset(bytes + insn->displacement_offset, 0, size);
    if (size == 2)
        store_le16(bytes + insn->displacement_offset, (uint16_t)value);
    else
        store_le32(bytes + insn->displacement_offset, value);
}

static void repair_id(struct builder *b, const struct insn *insn)
{
    bool repeats = insn->prefixes & (INSN_PREFIX_REP | INSN_PREFIX_REPNE);

    switch (insn->id) {
    case INSN_BT:
    case INSN_BTS:
    case INSN_BTR:
    case INSN_BTC:
        if (insn->operand[0].kind == INSN_OPERAND_MEM &&
            insn->operand[1].kind == INSN_OPERAND_REG && diff_pick(b->seed, SELDOM) &&
            !is_pointer(b->code_mode, insn->operand[1].reg))
            put_mov(b, insn->operand[1].reg,
                    diff_pick(b->seed, 8192) - (insn->operand_size == 8 ? 0u : 4096u));
        break;
    case INSN_MOVS:
    case INSN_STOS:
    case INSN_LODS:
    case INSN_SCAS:
    case INSN_CMPS:
        restore_pointer(b, CPU_RSI);
        restore_pointer(b, CPU_RDI);
        if (repeats && diff_pick(b->seed, SELDOM))
            put_mov(b, CPU_RCX, diff_pick(b->seed, 48));
        break;
    case INSN_LEAVE:
        restore_pointer(b, CPU_RBP);
        break;
    case INSN_XLAT:
        restore_pointer(b, CPU_RBX);
        break;
    default:
        break;
    }
}

/* What has to stand before the instruction. At most REPAIRS_MAX - 1 instructions. */
static void repair(struct builder *b, const struct insn *insn, uint8_t *bytes)
{
    for (unsigned i = 0; i < insn->nr_operands; i++) {
        if (insn->operand[i].kind != INSN_OPERAND_MEM || insn->operand[i].implicit)
            continue;
        repair_memory(b, insn);
        repair_displacement(b, insn, bytes);
    }
    repair_id(b, insn);
    if (uses_stack(insn))
        restore_pointer(b, CPU_RSP);
}

static void note_lost(struct builder *b, const struct insn *insn)
{
    for (unsigned i = 0; i < insn->nr_operands; i++) {
        const struct insn_operand *operand = &insn->operand[i];

        if (operand->kind == INSN_OPERAND_REG && (operand->access & INSN_WRITE)) {
            if (operand->reg_class == INSN_REG_GPR)
                b->lost |= 1u << operand->reg;
            else if (operand->reg_class == INSN_REG_GPR8_HIGH)
                b->lost |= 1u << (operand->reg & 3);
        }
    }
    if (insn->id == INSN_POPA)
        b->lost |= 0xff & ~(1u << CPU_RSP);
    if (insn->id == INSN_LEAVE)
        b->lost |= 1u << CPU_RBP;
}

uint32_t diff_undefined_flags(unsigned id)
{
    switch (id) {
    case INSN_AAA:
    case INSN_AAS:
        return CPU_FLAG_OF | CPU_FLAG_SF | CPU_FLAG_ZF | CPU_FLAG_PF;
    case INSN_AAM:
    case INSN_AAD:
        return CPU_FLAG_OF | CPU_FLAG_AF | CPU_FLAG_CF;
    case INSN_DAA:
    case INSN_DAS:
        return CPU_FLAG_OF;
    default:
        return 0;
    }
}

/* mov esp, somewhere; pushfd; and dword [esp], ~flags; popfd */
static void define_flags(struct builder *b, uint32_t flags)
{
    static const uint8_t bytes[3][8] = {{0x66, 0x9c}, {0x67, 0x66, 0x81, 0x24, 0x24}, {0x66, 0x9d}};
    static const uint8_t length[3] = {2, 9, 2};
    static const uint8_t prefixes[3] = {1, 2, 1}; /* not there in 32-bit code */
    unsigned first = b->stream->nr_insns;

    put_mov(b, CPU_RSP, scratch_address(b, 2048));
    for (unsigned i = 0; i < 3; i++) {
        struct diff_insn *ret = &b->stream->insn[b->stream->nr_insns++];
        unsigned skip = b->code_mode == INSN_MODE_16 ? 0 : prefixes[i];

        *ret = (struct diff_insn){.length = (uint8_t)(length[i] - skip)};
        memcpy(ret->bytes, bytes[i] + skip, sizeof(bytes[i]) - skip);
        if (i == 1)
            store_le32(ret->bytes + ret->length - 4, ~flags);
    }
    for (unsigned i = first; i < b->stream->nr_insns; i++)
        b->stream->insn[i].undefined_flags = (uint16_t)flags;
}

static bool draw_insn(struct builder *b)
{
    struct diff_insn *ret;
    uint8_t bytes[24];
    struct insn insn;

    draw(b, bytes);
    if (insn_decode(bytes, INSN_LENGTH_MAX, b->code_mode, &insn) != INSN_OK ||
        !diff_allowed(b->guest, b->mode, &insn) || (unwelcome(&insn) && diff_pick(b->seed, SELDOM)))
        return false;
    if (insn.nr_operands && insn.operand[0].kind == INSN_OPERAND_REL && insn.imm_size != 1 &&
        insn.imm_size != 2 && insn.imm_size != 4)
        return false;
    repair(b, &insn, bytes);
    note_lost(b, &insn);
    ret = &b->stream->insn[b->stream->nr_insns++];
    *ret = (struct diff_insn){.length = insn.length,
                              .partial = insn.id == INSN_POPA,
                              .any_order = insn.id == INSN_RET_FAR || insn.id == INSN_IRET};
    memcpy(ret->bytes, bytes, insn.length);
    if (insn.nr_operands && insn.operand[0].kind == INSN_OPERAND_REL) {
        ret->target = (uint8_t)(b->stream->nr_insns + diff_pick(b->seed, 4));
        ret->displacement_offset = insn.imm_offset;
        ret->displacement_size = insn.imm_size;
    }
    if (diff_undefined_flags(insn.id))
        define_flags(b, diff_undefined_flags(insn.id));
    return true;
}

static uint64_t interesting(uint64_t *seed)
{
    static const uint64_t values[] = {0,
                                      1,
                                      UINT64_MAX,
                                      0x7f,
                                      0x80,
                                      0x7fff,
                                      0x8000,
                                      0x7fffffff,
                                      0x80000000,
                                      0xffffffff,
                                      INT64_MAX,
                                      UINT64_C(1) << 63,
                                      UINT64_C(0x0000800000000000),
                                      UINT64_C(0x00007fffffffffff)};

    switch (diff_pick(seed, 4)) {
    case 0:
        return values[diff_pick(seed, ARRAY_LEN(values))];
    case 1:
        return diff_pick(seed, 64);
    case 2:
        return diff_random(seed) >> diff_pick(seed, 64);
    default:
        return diff_random(seed);
    }
}

/* Mostly inside; often across the boundary of the writable pages, now and then where it faults. */
static uint64_t pointer(uint64_t *seed)
{
    static const uint16_t spots[] = {0, 8192, 12288};

    if (!diff_pick(seed, 8))
        return DIFF_SCRATCH_VA + 4096 + diff_pick(seed, 64) - 32u;
    if (diff_pick(seed, 24))
        return DIFF_SCRATCH_VA + 512 + diff_pick(seed, DIFF_WRITABLE - 1024);
    return DIFF_SCRATCH_VA + spots[diff_pick(seed, ARRAY_LEN(spots))] + diff_pick(seed, 64) - 32u;
}

static void xsave_fill(uint64_t *seed, uint8_t *xsave)
{
    static const uint16_t exponents[] = {0, 1, 0x3fff, 0x4000, 0x3ffe, 0x7fff, 0x403e};
    static const uint32_t floats[] = {0x3f800000, 0xbf800000, 0,          0x80000000, 0x7f800000,
                                      0x7fc00000, 0x7f800001, 0x00000001, 0x7f7fffff};

    memset(xsave, 0, CPU_XSAVE_SIZE);
    store_le16(xsave, (uint16_t)(0x037f | (diff_pick(seed, 4) << 10)));
    xsave[4] = (uint8_t)(diff_pick(seed, 2) ? 0xff : diff_random(seed));
    store_le16(xsave + 2, (uint16_t)(diff_pick(seed, 8) << 11));
    store_le32(xsave + 24,
               0x1f80u | diff_pick(seed, 4) << 13 | (diff_pick(seed, 8) ? 0u : 0x8040u));
    for (unsigned i = 0; i < 8; i++) {
        store_le64(xsave + 32 + 16 * i, diff_random(seed) | UINT64_C(1) << 63);
        store_le16(xsave + 40 + 16 * i,
                   (uint16_t)(exponents[diff_pick(seed, ARRAY_LEN(exponents))] |
                              (diff_pick(seed, 2) << 15)));
        if (!load_le16(xsave + 40 + 16 * i) || diff_pick(seed, 8) == 0)
            store_le64(xsave + 32 + 16 * i, 0), store_le16(xsave + 40 + 16 * i, 0);
    }
    for (unsigned i = 0; i < 256; i += 4) {
        uint32_t value = diff_pick(seed, 2) ? floats[diff_pick(seed, ARRAY_LEN(floats))]
                                            : (uint32_t)diff_random(seed);

        store_le32(xsave + 160 + i, value);
        store_le32(xsave + CPU_XSAVE_AVX_OFFSET + i, (uint32_t)diff_random(seed));
    }
    store_le64(xsave + 512, CPU_XCR0_SUPPORTED);
}

/* Addresses of 16-bit code are offsets into its data segment. */
static uint64_t own_pointer(uint64_t *seed, enum insn_mode code_mode)
{
    if (code_mode != INSN_MODE_16)
        return pointer(seed);
    if (diff_pick(seed, 8))
        return diff_pick(seed, DIFF_WRITABLE / 2);
    return (pointer(seed) - DIFF_SCRATCH_VA) & 0xffff;
}

static void state_fill(uint64_t *seed, enum insn_mode code_mode, struct diff_state *state)
{
    for (unsigned i = 0; i < CPU_NR_GPRS; i++)
        state->gpr[i] = interesting(seed);
    for (unsigned i = 0; i < nr_pointers(code_mode); i++)
        state->gpr[pointer_registers[i]] = own_pointer(seed, code_mode);
    state->gpr[CPU_RSP] = (code_mode == INSN_MODE_16 ? 0 : DIFF_SCRATCH_VA) + 2048 +
                          8u * diff_pick(seed, 512);
    if (diff_pick(seed, 4) == 0)
        state->gpr[CPU_RSP] = own_pointer(seed, code_mode);
    if (diff_pick(seed, 2))
        state->gpr[CPU_RCX] = diff_pick(seed, 32);
    for (unsigned i = 0; i < CPU_NR_GPRS && code_mode != INSN_MODE_64; i++)
        state->gpr[i] &= UINT32_MAX;
    state->rflags = CPU_FLAG_ONE | CPU_FLAG_IF | (diff_random(seed) & CPU_FLAGS_STATUS) |
                    (diff_pick(seed, 4) ? 0 : CPU_FLAG_DF) |
                    (diff_pick(seed, 64) ? 0 : CPU_FLAG_AC);
}

void diff_generate(const struct diff_guest *guest, enum diff_mode mode, enum insn_mode code_mode,
                   uint64_t seed, struct diff_stream *ret)
{
    unsigned by_form = mode == DIFF_MODE_INTEGER ? 0 : mode == DIFF_MODE_VECTOR ? 95 : 40;
    struct builder b = {
        .guest = guest, .mode = mode, .code_mode = code_mode, .seed = &seed, .stream = ret};

    b.nr = 8 + diff_pick(&seed, DIFF_INSNS_MAX - 8);
    if (code_mode == INSN_MODE_16)
        by_form = 0; /* their addresses are 32 bits wide */
    memset(ret, 0, sizeof(*ret));
    ret->code_mode = (uint8_t)code_mode;
    ret->memory_seed = diff_random(&seed) | 1;
    ret->vector = mode != DIFF_MODE_INTEGER;
    state_fill(&seed, code_mode, &ret->initial);
    if (ret->vector) {
        b.nr = 16 + diff_pick(&seed, DIFF_INSNS_MAX - 16);
        xsave_fill(&seed, ret->initial.xsave);
    }
    while (ret->nr_insns + REPAIRS_MAX < b.nr) {
        if (diff_pick(&seed, 100) < by_form)
            ret->nr_insns += diff_draw_form(guest, code_mode, &seed, &ret->insn[ret->nr_insns]);
        else
            draw_insn(&b);
    }
}
