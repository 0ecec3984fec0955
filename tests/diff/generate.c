/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random streams. Bytes are drawn with a bias towards what decodes (prefixes, maps, ModRM with a
 * base register that holds a pointer), decoded, and kept when the instruction is on the allow-list:
 * what a user program may do, whose result the two sides can share. Not on it: system calls, what
 * differs by design (CPUID, time stamps, random numbers, segment selectors), and branches through
 * registers to anywhere.
 */
#include "diff.h"

#include "base/util.h"

#include <string.h>

uint64_t diff_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static unsigned pick(uint64_t *seed, unsigned n)
{
    return (unsigned)(diff_random(seed) % n);
}

void diff_memory_fill(uint64_t seed, uint8_t memory[DIFF_SCRATCH])
{
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

    for (unsigned i = 0; i < DIFF_SCRATCH; i += 8) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        store_le64(memory + i, state ^ state >> 29);
    }
}

unsigned diff_layout(const struct diff_stream *stream, uint8_t code[DIFF_CODE_MAX],
                     uint16_t offset[DIFF_INSNS_MAX + 1])
{
    unsigned length = 0;

    for (unsigned i = 0; i < stream->nr_insns; i++) {
        offset[i] = (uint16_t)length;
        memcpy(code + length, stream->insn[i].bytes, stream->insn[i].length);
        length += stream->insn[i].length;
    }
    offset[stream->nr_insns] = (uint16_t)length;
    for (unsigned i = 0; i < stream->nr_insns; i++) {
        const struct diff_insn *insn = &stream->insn[i];
        unsigned target = MIN((unsigned)insn->target, stream->nr_insns);
        int32_t distance = offset[MAX(target, i + 1)] - offset[i + 1];

        if (!insn->target)
            continue;
        if (insn->displacement_size == 1)
            code[offset[i] + insn->displacement_offset] = (uint8_t)distance;
        else
            store_le32(code + offset[i] + insn->displacement_offset, (uint32_t)distance);
    }
    /* jmp *DIFF_LEAVE_POINTER */
    code[length++] = 0xff;
    code[length++] = 0x24;
    code[length++] = 0x25;
    store_le32(code + length, DIFF_LEAVE_POINTER);
    return length + 4;
}

static bool integer_allowed(const struct insn *insn)
{
    switch (insn->id) {
    case INSN_INT: /* int 80h is a system call */
    case INSN_RET:
    case INSN_CALL_FAR:
    case INSN_JMP_FAR:
    case INSN_RET_FAR:
    case INSN_IRET:
    case INSN_SYSCALL:
    case INSN_SYSENTER:
    case INSN_SYSRET:
    case INSN_SYSEXIT:
    case INSN_CPUID:
    case INSN_RDTSC:
    case INSN_RDTSCP:
    case INSN_RDPMC:
    case INSN_RDPID:
    case INSN_RDRAND:
    case INSN_RDSEED:
    case INSN_XGETBV:
    case INSN_XSETBV:
    case INSN_VMCALL:
    case INSN_VMMCALL:
    case INSN_MOV_SEG:
    case INSN_LDS:
    case INSN_LES:
    case INSN_LSS:
    case INSN_LFS:
    case INSN_LGS:
    case INSN_SGDT:
    case INSN_SIDT:
    case INSN_SLDT:
    case INSN_STR:
    case INSN_SMSW:
    case INSN_LAR:
    case INSN_LSL:
    case INSN_VERR:
    case INSN_VERW:
    case INSN_RDFSBASE:
    case INSN_RDGSBASE:
    case INSN_WRFSBASE:
    case INSN_WRGSBASE:
    case INSN_MONITOR:
    case INSN_MWAIT:
    case INSN_UD0: /* the host's length of it is the vendor's */
    case INSN_RSM:
        return false;
    default:
        break;
    }
    if ((insn->id == INSN_PUSH || insn->id == INSN_POP) &&
        insn->operand[0].reg_class == INSN_REG_SEGMENT)
        return false;
    /* Its memory operand is 16 or 32 bits wide, by vendor. */
    if (insn->id == INSN_MOVSXD && insn->operand_size == 2)
        return false;
    /* Likewise 0F 0D with a register is #UD on AMD, a NOP on Intel. */
    if (insn->map == 1 && insn->opcode == 0x0d && insn->modrm >= 0xc0)
        return false;
    /* Some processors take F2 and F3 for the condition of LOOPE and LOOPNE. */
    if ((insn->id == INSN_LOOPE || insn->id == INSN_LOOPNE) &&
        (insn->prefixes & (INSN_PREFIX_REP | INSN_PREFIX_REPNE)))
        return false;
    /* With 66 a near branch of 64-bit mode is 16 bits wide on AMD and unchanged on Intel. */
    if (insn->traits & INSN_TRAIT_BRANCH)
        return insn->operand[0].kind == INSN_OPERAND_REL &&
               !(insn->prefixes & INSN_PREFIX_OPERAND_SIZE);
    return true;
}

static bool is_vector(const struct insn *insn)
{
    if (insn->traits & (INSN_TRAIT_X87 | INSN_TRAIT_MMX | INSN_TRAIT_SSE | INSN_TRAIT_AVX))
        return true;
    for (unsigned i = 0; i < insn->nr_operands; i++)
        if (insn->operand[i].kind == INSN_OPERAND_REG &&
            insn->operand[i].reg_class >= INSN_REG_ST && insn->operand[i].reg_class <= INSN_REG_YMM)
            return true;
    return insn->id >= INSN_FXSAVE && insn->id <= INSN_EMMS;
}

/* Not those whose image holds the last x87 instruction's address, which processors keep
 * differently. */
static bool vector_allowed(const struct insn *insn)
{
    switch (insn->id) {
    case INSN_FXSAVE:
    case INSN_FXRSTOR:
    case INSN_XSAVE:
    case INSN_XRSTOR:
    case INSN_XSAVEOPT:
    case INSN_XSAVEC:
    case INSN_XSAVES:
    case INSN_XRSTORS:
    case INSN_FNSTENV:
    case INSN_FLDENV:
    case INSN_FNSAVE:
    case INSN_FRSTOR:
        return false;
    default:
        return true;
    }
}

bool diff_allowed(const struct diff_guest *guest, enum diff_mode mode, const struct insn *insn)
{
    bool vector = is_vector(insn);

    if (!diff_guest_exposes(guest, insn))
        return false;
    /* FS is the child's thread storage. */
    for (unsigned i = 0; i < insn->nr_operands; i++)
        if (insn->operand[i].kind == INSN_OPERAND_MEM && insn->mem.segment == CPU_FS)
            return false;
    if (vector)
        return mode != DIFF_MODE_INTEGER && vector_allowed(insn);
    return mode != DIFF_MODE_VECTOR && integer_allowed(insn);
}

/* Registers that start as pointers into the scratch pages. */
static const uint8_t pointer_registers[] = {CPU_RBX, CPU_RBP, CPU_RSI, CPU_RDI, CPU_R13, CPU_R14};

/* Wild displacements stay away from what only one side has (the trampoline's page, the guest's own
 * tables): few values of the top byte. */
#define WILD_TOP_BYTE 0xc0u

/* ModRM, SIB and displacement; returns the bytes written. rex_b: of the base. */
static unsigned put_modrm(uint64_t *seed, uint8_t *bytes, bool *rex_b)
{
    unsigned reg = pick(seed, 8), base;

    if (pick(seed, 100) < 40) {
        bytes[0] = (uint8_t)(0xc0 | reg << 3 | pick(seed, 8));
        return 1;
    }
    if (pick(seed, 100) < 4) {
        /* Anything, RIP-relative and absolute too. */
        store_le64(bytes, diff_random(seed));
        bytes[0] &= 0xbf;
        bytes[4] &= WILD_TOP_BYTE;
        bytes[5] &= WILD_TOP_BYTE;
        return 6;
    }
    base = pointer_registers[pick(seed, ARRAY_LEN(pointer_registers))];
    *rex_b = base >= 8;
    base &= 7;
    if (base != 4 && pick(seed, 2)) {
        bytes[0] = (uint8_t)(0x40 | reg << 3 | base);
        bytes[1] = (uint8_t)diff_random(seed);
        return 2;
    }
    if (pick(seed, 3)) {
        bytes[0] = (uint8_t)(0x80 | reg << 3 | base);
        store_le32(bytes + 1, pick(seed, 4) ? pick(seed, 4096) - 2048u
                                            : (uint32_t)diff_random(seed) & 0xc0ffffffu);
        return 5;
    }
    /* SIB: no index, or RCX, which often is small. */
    bytes[0] = (uint8_t)(0x40 | reg << 3 | 4);
    bytes[1] = (uint8_t)(pick(seed, 4) << 6 | (pick(seed, 2) ? 4u : 1u) << 3 | base);
    bytes[2] = (uint8_t)diff_random(seed);
    return 3;
}

static unsigned put_prefixes(uint64_t *seed, uint8_t *bytes)
{
    static const uint8_t prefixes[] = {0x66, 0x66, 0x66, 0xf2, 0xf3, 0xf3, 0xf0,
                                       0xf0, 0x67, 0x2e, 0x36, 0x3e, 0x26, 0x65};
    unsigned n = 0;

    while (n < 3 && pick(seed, 100) < 30)
        bytes[n++] = prefixes[pick(seed, ARRAY_LEN(prefixes))];
    return n;
}

static unsigned put_vex(uint64_t *seed, uint8_t *bytes, bool rex_b, enum diff_mode mode)
{
    unsigned map = mode == DIFF_MODE_INTEGER ? 2 + pick(seed, 2) : 1 + pick(seed, 3);

    bytes[0] = 0xc4;
    bytes[1] = (uint8_t)((pick(seed, 4) << 6 ^ 0xc0) | (rex_b ? 0u : 0x20u) | map);
    bytes[2] = (uint8_t)((diff_random(seed) & 0x80) | (pick(seed, 16) << 3) | pick(seed, 8));
    if (mode == DIFF_MODE_INTEGER)
        bytes[2] &= (uint8_t)~4;
    return 3;
}

/* Random bytes of one would-be instruction. */
static void draw(uint64_t *seed, enum diff_mode mode, uint8_t bytes[24])
{
    uint8_t modrm[8];
    bool rex_b = pick(seed, 2);
    unsigned n = 0, length = put_modrm(seed, modrm, &rex_b);
    unsigned kind = pick(seed, 100);

    for (unsigned i = 0; i < 24; i += 8)
        store_le64(bytes + i, diff_random(seed));
    if (kind < (mode == DIFF_MODE_INTEGER ? 6u : 35u)) {
        n = put_vex(seed, bytes, rex_b, mode);
        bytes[n++] = mode == DIFF_MODE_INTEGER ? (uint8_t)(0xf0 | pick(seed, 8))
                                               : (uint8_t)diff_random(seed);
    } else {
        n = put_prefixes(seed, bytes);
        if (rex_b || pick(seed, 2))
            bytes[n++] = (uint8_t)(0x40 | (pick(seed, 2) ? 8u : 0u) | (pick(seed, 4) << 1 & 6u) |
                                   rex_b);
        if (kind < 60) {
            bytes[n++] = mode == DIFF_MODE_VECTOR && pick(seed, 2) ? (uint8_t)(0xd8 | pick(seed, 8))
                                                                   : (uint8_t)diff_random(seed);
        } else {
            bytes[n++] = 0x0f;
            if (kind >= 90)
                bytes[n++] = kind & 1 ? 0x38 : 0x3a;
            bytes[n++] = kind >= 90 && mode == DIFF_MODE_INTEGER ? (uint8_t)(0xf0 | pick(seed, 8))
                                                                 : (uint8_t)diff_random(seed);
        }
    }
    memcpy(bytes + n, modrm, length);
}

static bool is_pointer(unsigned reg)
{
    for (unsigned i = 0; i < ARRAY_LEN(pointer_registers); i++)
        if (pointer_registers[i] == reg)
            return true;
    return reg == CPU_RSP;
}

/* What ends most streams is drawn less often: sure exceptions, lost pointers. */
static bool unwelcome(const struct insn *insn)
{
    if (insn->traits & (INSN_TRAIT_PRIVILEGED | INSN_TRAIT_IO))
        return true;
    switch (insn->id) {
    case INSN_POPF:
    case INSN_LEAVE:
    case INSN_ENTER:
    case INSN_HLT:
    case INSN_CLI:
    case INSN_STI:
    case INSN_INT3:
    case INSN_INT1:
    case INSN_UD1:
    case INSN_UD2:
    case INSN_DIV:
    case INSN_IDIV:
    case INSN_XLAT:
        return true;
    default:
        break;
    }
    for (unsigned i = 0; i < insn->nr_operands; i++) {
        const struct insn_operand *operand = &insn->operand[i];

        if (operand->kind == INSN_OPERAND_REG && operand->reg_class == INSN_REG_GPR &&
            (operand->access & INSN_WRITE) && is_pointer(operand->reg))
            return true;
        if (operand->kind == INSN_OPERAND_MEM && !operand->implicit &&
            (insn->mem.base == INSN_NO_REG || !is_pointer(insn->mem.base)))
            return true;
    }
    return false;
}

static bool draw_insn(const struct diff_guest *guest, enum diff_mode mode, uint64_t *seed,
                      unsigned index, unsigned nr, struct diff_insn *ret)
{
    uint8_t bytes[24];
    struct insn insn;

    draw(seed, mode, bytes);
    if (insn_decode(bytes, INSN_LENGTH_MAX, INSN_MODE_64, &insn) != INSN_OK ||
        !diff_allowed(guest, mode, &insn) || (unwelcome(&insn) && pick(seed, 12)))
        return false;
    *ret = (struct diff_insn){.length = insn.length};
    memcpy(ret->bytes, bytes, insn.length);
    if (insn.nr_operands && insn.operand[0].kind == INSN_OPERAND_REL) {
        if (insn.imm_size != 1 && insn.imm_size != 4)
            return false;
        ret->target = (uint8_t)(index + 1 + pick(seed, nr - index));
        ret->displacement_offset = insn.imm_offset;
        ret->displacement_size = insn.imm_size;
    }
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

    switch (pick(seed, 4)) {
    case 0:
        return values[pick(seed, ARRAY_LEN(values))];
    case 1:
        return pick(seed, 64);
    case 2:
        return diff_random(seed) >> pick(seed, 64);
    default:
        return diff_random(seed);
    }
}

/* Mostly inside, often near the page boundaries and the end. */
static uint64_t pointer(uint64_t *seed)
{
    static const uint16_t spots[] = {0, 4096, 8192, 12288};

    if (pick(seed, 3))
        return DIFF_SCRATCH_VA + 512 + pick(seed, DIFF_WRITABLE - 1024);
    return DIFF_SCRATCH_VA + spots[pick(seed, ARRAY_LEN(spots))] + pick(seed, 64) - 32u;
}

static void xsave_fill(uint64_t *seed, uint8_t *xsave)
{
    static const uint16_t exponents[] = {0, 1, 0x3fff, 0x4000, 0x3ffe, 0x7fff, 0x403e};
    static const uint32_t floats[] = {0x3f800000, 0xbf800000, 0,          0x80000000, 0x7f800000,
                                      0x7fc00000, 0x7f800001, 0x00000001, 0x7f7fffff};

    memset(xsave, 0, CPU_XSAVE_SIZE);
    store_le16(xsave, (uint16_t)(0x037f | (pick(seed, 4) << 10)));
    xsave[4] = (uint8_t)(pick(seed, 2) ? 0xff : diff_random(seed));
    store_le16(xsave + 2, (uint16_t)(pick(seed, 8) << 11));
    store_le32(xsave + 24, 0x1f80u | pick(seed, 4) << 13 | (pick(seed, 8) ? 0u : 0x8040u));
    for (unsigned i = 0; i < 8; i++) {
        store_le64(xsave + 32 + 16 * i, diff_random(seed) | UINT64_C(1) << 63);
        store_le16(xsave + 40 + 16 * i,
                   (uint16_t)(exponents[pick(seed, ARRAY_LEN(exponents))] | (pick(seed, 2) << 15)));
        if (!load_le16(xsave + 40 + 16 * i) || pick(seed, 8) == 0)
            store_le64(xsave + 32 + 16 * i, 0), store_le16(xsave + 40 + 16 * i, 0);
    }
    for (unsigned i = 0; i < 256; i += 4) {
        uint32_t value = pick(seed, 2) ? floats[pick(seed, ARRAY_LEN(floats))]
                                       : (uint32_t)diff_random(seed);

        store_le32(xsave + 160 + i, value);
        store_le32(xsave + CPU_XSAVE_AVX_OFFSET + i, (uint32_t)diff_random(seed));
    }
    store_le64(xsave + 512, CPU_XCR0_SUPPORTED);
}

static void state_fill(uint64_t *seed, struct diff_state *state)
{
    for (unsigned i = 0; i < CPU_NR_GPRS; i++)
        state->gpr[i] = interesting(seed);
    for (unsigned i = 0; i < ARRAY_LEN(pointer_registers); i++)
        state->gpr[pointer_registers[i]] = pointer(seed);
    state->gpr[CPU_RSP] = DIFF_SCRATCH_VA + 2048 + 8u * pick(seed, 512);
    if (pick(seed, 16) == 0)
        state->gpr[CPU_RSP] = pointer(seed);
    if (pick(seed, 2))
        state->gpr[CPU_RCX] = pick(seed, 32);
    state->rflags = CPU_FLAG_ONE | CPU_FLAG_IF | (diff_random(seed) & CPU_FLAGS_STATUS) |
                    (pick(seed, 4) ? 0 : CPU_FLAG_DF) | (pick(seed, 64) ? 0 : CPU_FLAG_AC);
}

void diff_generate(const struct diff_guest *guest, enum diff_mode mode, uint64_t seed,
                   struct diff_stream *ret)
{
    unsigned nr = 4 + pick(&seed, DIFF_INSNS_MAX - 4);
    unsigned by_form = mode == DIFF_MODE_INTEGER ? 0 : mode == DIFF_MODE_VECTOR ? 95 : 40;

    memset(ret, 0, sizeof(*ret));
    ret->memory_seed = diff_random(&seed) | 1;
    ret->vector = mode != DIFF_MODE_INTEGER;
    state_fill(&seed, &ret->initial);
    if (ret->vector) {
        nr = 16 + pick(&seed, DIFF_INSNS_MAX - 16);
        xsave_fill(&seed, ret->initial.xsave);
    }
    while (ret->nr_insns < nr)
        if (pick(&seed, 100) < by_form && ret->nr_insns + 2 <= nr)
            ret->nr_insns += diff_draw_form(guest, &seed, &ret->insn[ret->nr_insns]);
        else if (draw_insn(guest, mode, &seed, ret->nr_insns, nr, &ret->insn[ret->nr_insns]))
            ret->nr_insns++;
}
