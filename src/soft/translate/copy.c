/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies one instruction that is neither a branch nor a stack instruction: the same opcode with
 * the registers of emit.h and translator.operand for the memory operand. Which: copy_list.c.
 *
 * A register that lives in memory is the memory operand, where the instruction has that form and no
 * other; else it is loaded to a scratch register before and stored behind; the
 * memory operand's check comes first. So are AH, BH, CH and DH where the copy needs a REX prefix,
 * and CH always: rotated to the lowest byte and back.
 */
#include "soft/translate/copy_list.h"
#include "soft/translate/translator.h"

/* A guest register that a scratch register stands for. */
struct copy_kept {
    uint8_t guest, scratch;
    bool load, store;
    bool high; /* its bits 8 to 15 */
};

/* What the encoding of the copy is made of. */
struct copy {
    const struct insn *insn;
    unsigned reg, rm, vvvv; /* fields */
    bool memory, vex;
    bool needs_rex, no_rex;
    bool split;    /* no AH, BH, DH: a REX prefix is needed */
    unsigned size; /* of the memory operand */
    bool write;    /* of it */
    struct copy_kept kept[3];
    unsigned nr_kept;
    bool vector, count; /* uses vector registers; CL holds a count */
    bool mmx;
    bool rcx;      /* RCX is scratch for a register */
    unsigned flip; /* of the opcode: the bit that says which operand is written */
};

static bool is_vector(const struct insn_operand *operand)
{
    return operand->reg_class == INSN_REG_XMM || operand->reg_class == INSN_REG_YMM ||
           operand->reg_class == INSN_REG_MMX;
}

/* Does it write its first operand, up to the highest bit, without reading it? */
static bool only_writes(const struct insn *insn, const struct insn_operand *operand)
{
    if (operand != &insn->operand[0] || operand->size < 4)
        return false;
    return insn->id == INSN_MOV || insn->id == INSN_MOVZX || insn->id == INSN_MOVSX ||
           insn->id == INSN_MOVSXD;
}

/* The scratch register that stands for a guest register. */
static unsigned kept_add(struct copy *c, const struct insn_operand *operand, unsigned scratch)
{
    bool written = operand->access & INSN_WRITE, high = operand->reg_class == INSN_REG_GPR8_HIGH;
    bool load = !only_writes(c->insn, operand);

    for (unsigned i = 0; i < c->nr_kept; i++) {
        if (c->kept[i].guest == operand->reg && c->kept[i].high == high) {
            c->kept[i].store |= written;
            c->kept[i].load |= load;
            return c->kept[i].scratch;
        }
    }
    c->kept[c->nr_kept++] = (struct copy_kept){
        .guest = operand->reg,
        .scratch = (uint8_t)scratch,
        .load = load,
        .store = written,
        .high = high,
    };
    c->rcx |= scratch == HOST_RCX;
    return scratch;
}

/* Host register of a guest register; `scratch` when it lives in memory. */
static unsigned home_of(struct copy *c, const struct insn_operand *operand, unsigned scratch)
{
    unsigned home = emit_home[operand->reg];

    return home != HOST_NONE ? home : kept_add(c, operand, scratch);
}

/* The value of a register field; false: has no copy. */
static bool field_of(struct copy *c, const struct insn_operand *operand, unsigned scratch,
                     unsigned *ret)
{
    if (operand->kind != INSN_OPERAND_REG)
        return false;
    switch (operand->reg_class) {
    case INSN_REG_XMM:
    case INSN_REG_YMM:
        c->vector = true;
        *ret = operand->reg;
        return true;
    case INSN_REG_MMX:
        c->mmx = true;
        *ret = operand->reg;
        return true;
    case INSN_REG_GPR8_HIGH:
        if (c->split || operand->reg == CPU_RCX) {
            *ret = kept_add(c, operand, scratch);
            return true;
        }
        c->no_rex = true;
        *ret = operand->reg + 4u;
        return true;
    case INSN_REG_GPR:
        *ret = home_of(c, operand, scratch);
        if (operand->size == 1 && *ret >= 4 && *ret < 8)
            c->needs_rex = true;
        return true;
    default:
        return false;
    }
}

/* Number in the instruction's own encoding. */
static unsigned encoded(const struct insn_operand *operand)
{
    return operand->reg + (operand->reg_class == INSN_REG_GPR8_HIGH ? 4u : 0u);
}

static bool can_be(const struct insn_operand *operand, unsigned field, bool memory)
{
    if (operand->kind == INSN_OPERAND_MEM)
        return memory;
    return !memory && encoded(operand) == field;
}

/* Which explicit operands are the fields of ModRM and VEX. */
static bool fields_find(struct copy *c, const struct insn_operand *const *operand, unsigned nr,
                        enum copy_kind kind)
{
    const struct insn *insn = c->insn;
    unsigned reg = (insn->modrm >> 3 & 7) | (insn->rex & 4 ? 8 : 0);
    unsigned rm = (insn->modrm & 7) | (insn->rex & 1 ? 8 : 0);
    const struct insn_operand *a = operand[0], *b = nr > 1 ? operand[1] : NULL;
    bool first;

    if (nr == 1) {
        c->reg = insn->modrm >> 3 & 7;
        return c->memory ? a->kind == INSN_OPERAND_MEM : field_of(c, a, HOST_R11, &c->rm);
    }
    if (nr != 2)
        return false;
    if (c->memory) {
        first = b->kind == INSN_OPERAND_MEM;
    } else if (a->kind == INSN_OPERAND_REG && b->kind == INSN_OPERAND_REG &&
               is_vector(a) != is_vector(b)) {
        /* a is the field reg when it is of the class that reg has */
        first = is_vector(a) != (kind == COPY_GPR_FIRST);
    } else {
        first = a->kind == INSN_OPERAND_REG && encoded(a) == reg && can_be(b, rm, false);
    }
    if (!first) {
        const struct insn_operand *swap = a;

        a = b;
        b = swap;
    }
    if (a->kind != INSN_OPERAND_REG || encoded(a) != reg || !can_be(b, rm, c->memory))
        return false;
    if (!field_of(c, a, c->memory ? HOST_R11 : HOST_R10, &c->reg))
        return false;
    return c->memory || field_of(c, b, HOST_R11, &c->rm);
}

/* VEX: vvvv is one of the explicit operands, or none. */
static bool vex_fields_find(struct copy *c, const struct insn_operand *const *operand, unsigned nr,
                            enum copy_kind kind)
{
    const struct insn *insn = c->insn;
    const struct insn_operand *rest[2];
    unsigned vvvv_at = 1;

    if (nr == 4) /* the fourth is in the immediate */
        nr = 3;
    switch (insn->id) {
    case INSN_BEXTR:
    case INSN_BZHI:
    case INSN_SARX:
    case INSN_SHLX:
    case INSN_SHRX:
        vvvv_at = 2;
        break;
    case INSN_BLSI:
    case INSN_BLSMSK:
    case INSN_BLSR:
        vvvv_at = 0;
        break;
    default:
        /* Vector shifts by a constant: vvvv, rm. */
        if (insn->map == 1 && insn->opcode >= 0x71 && insn->opcode <= 0x73)
            vvvv_at = 0;
        /* Stores of VMOVSS and the like have no vvvv; VMOVSS of registers may put reg last. */
        break;
    }
    if (nr == 3 || vvvv_at == 0) {
        const struct insn_operand *v = operand[vvvv_at];
        unsigned n = 0;

        if (v->kind != INSN_OPERAND_REG || v->reg != insn->vex_vvvv)
            return false;
        if (!field_of(c, v, HOST_RCX, &c->vvvv))
            return false;
        for (unsigned i = 0; i < nr; i++)
            if (i != vvvv_at)
                rest[n++] = operand[i];
        return fields_find(c, rest, n, kind);
    }
    if (insn->vex_vvvv)
        return false;
    return fields_find(c, operand, nr, kind);
}

static bool plan_once(struct copy *c, enum copy_kind kind)
{
    const struct insn *insn = c->insn;
    const struct insn_operand *explicit[INSN_OPERANDS_MAX];
    unsigned nr = 0;

    for (unsigned i = 0; i < insn->nr_operands; i++) {
        const struct insn_operand *operand = &insn->operand[i];

        if (operand->kind == INSN_OPERAND_MEM) {
            if (operand->implicit || !c->memory || !operand->size)
                return false;
            c->size = operand->size;
            c->write = operand->access & INSN_WRITE;
        }
        if (operand->kind == INSN_OPERAND_REG && operand->reg_class == INSN_REG_MMX)
            c->mmx = true;
        else if (operand->kind == INSN_OPERAND_REG && is_vector(operand))
            c->vector = true;
        if (operand->implicit || operand->kind == INSN_OPERAND_IMM ||
            (c->count && i > 0 && i + 1u == insn->nr_operands))
            continue;
        explicit[nr++] = operand;
    }
    if (!nr)
        return false;
    return c->vex ? vex_fields_find(c, explicit, nr, kind) : fields_find(c, explicit, nr, kind);
}

/* The highest bit of register fields. */
static bool fields_need_rex(const struct copy *c)
{
    return c->needs_rex || (c->insn->rex & 8) || c->reg >= 8 || (!c->memory && c->rm >= 8);
}

static bool plan(struct copy *c, enum copy_kind kind)
{
    struct copy split = *c;

    split.split = true;
    if (!plan_once(c, kind))
        return false;
    if (!c->no_rex || (!c->memory && !fields_need_rex(c)))
        return true;
    *c = split;
    return plan_once(c, kind);
}

static void immediate(struct translator *tr)
{
    for (unsigned i = 0; i < tr->insn.imm_size; i++)
        emit8(&tr->e, tr->bytes[tr->insn.imm_offset + i]);
}

static void legacy_prefixes(struct emit *e, const struct insn *insn)
{
    if (insn->prefixes & INSN_PREFIX_LOCK)
        emit8(e, 0xf0);
    if ((insn->prefixes & INSN_PREFIX_OPERAND_SIZE) || insn->mandatory == 0x66)
        emit8(e, 0x66);
    if (insn->mandatory == 0xf2 || insn->mandatory == 0xf3)
        emit8(e, insn->mandatory);
}

static void opcode_map(struct emit *e, unsigned map)
{
    if (map)
        emit8(e, 0x0f);
    if (map >= 2)
        emit8(e, map == 2 ? 0x38 : 0x3a);
}

static void modrm(struct translator *tr, const struct copy *c)
{
    if (c->memory)
        emit_operand(&tr->e, c->reg, &tr->operand);
    else
        emit8(&tr->e, 0xc0 | (c->reg & 7) << 3 | (c->rm & 7));
}

static bool encode_legacy(struct translator *tr, const struct copy *c)
{
    const struct insn *insn = c->insn;
    unsigned rex = insn->rex & 8u;

    rex |= c->reg >= 8 ? 4u : 0u;
    if (c->memory)
        rex |= emit_rex_of(HOST_NONE, tr->operand.base, tr->operand.index);
    else
        rex |= c->rm >= 8 ? 1u : 0u;
    if (c->no_rex && (rex || c->needs_rex))
        return false;
    legacy_prefixes(&tr->e, insn);
    if (rex || c->needs_rex)
        emit8(&tr->e, 0x40 | rex);
    opcode_map(&tr->e, insn->map);
    emit8(&tr->e, insn->opcode ^ c->flip);
    modrm(tr, c);
    immediate(tr);
    return true;
}

static bool encode_vex(struct translator *tr, const struct copy *c)
{
    const struct insn *insn = c->insn;
    unsigned pp = insn->mandatory == 0x66   ? 1
                  : insn->mandatory == 0xf3 ? 2
                  : insn->mandatory == 0xf2 ? 3
                                            : 0;
    unsigned high = (c->reg < 8 ? 0x80u : 0u);

    if (c->memory)
        high |= (~emit_rex_of(HOST_NONE, tr->operand.base, tr->operand.index) & 3u) << 5;
    else
        high |= 0x40u | (c->rm < 8 ? 0x20u : 0u);
    emit8(&tr->e, 0xc4);
    emit8(&tr->e, high | insn->map);
    emit8(&tr->e, (insn->vex_w ? 0x80u : 0u) | (~c->vvvv & 15) << 3 | (insn->vex_l ? 4u : 0u) | pp);
    emit8(&tr->e, insn->opcode);
    modrm(tr, c);
    immediate(tr);
    return true;
}

static void kept_load(struct translator *tr, const struct copy *c)
{
    for (unsigned i = 0; i < c->nr_kept; i++) {
        const struct copy_kept *kept = &c->kept[i];

        if (kept->high)
            emit_rorx(&tr->e, kept->scratch, emit_home[kept->guest], 8);
        else if (kept->load)
            emit_load_hot(&tr->e, kept->scratch, emit_kept(kept->guest));
    }
}

/* Instructions that do the same to a register and to memory. */
static bool same_in_memory(const struct insn *insn)
{
    switch (insn->id) {
    case INSN_ADD:
    case INSN_OR:
    case INSN_ADC:
    case INSN_SBB:
    case INSN_AND:
    case INSN_SUB:
    case INSN_XOR:
    case INSN_CMP:
    case INSN_TEST:
    case INSN_MOV:
    case INSN_MOVZX:
    case INSN_MOVSX:
    case INSN_MOVSXD:
    case INSN_CMOVCC:
    case INSN_INC:
    case INSN_DEC:
    case INSN_NEG:
    case INSN_NOT:
        return true;
    case INSN_IMUL:
        return insn->map == 1 || insn->opcode == 0x69 || insn->opcode == 0x6b;
    case INSN_SHL:
    case INSN_SHR:
    case INSN_SAR:
        return insn->opcode == 0xc1 || insn->opcode == 0xd1;
    default:
        return false;
    }
}

/* Is the order of the two registers of ModRM a matter of the opcode? *ret_flip: the bit. */
static bool can_swap(const struct insn *insn, unsigned *ret_flip)
{
    *ret_flip = 2;
    if (insn->map)
        return false;
    if (insn->opcode < 0x40 && (insn->opcode & 7) < 4)
        return true;
    if (insn->opcode >= 0x88 && insn->opcode <= 0x8b)
        return true;
    *ret_flip = 0;
    return insn->opcode == 0x84 || insn->opcode == 0x85;
}

static unsigned size_of(const struct insn *insn, unsigned guest)
{
    for (unsigned i = 0; i < insn->nr_operands; i++)
        if (insn->operand[i].kind == INSN_OPERAND_REG && insn->operand[i].reg == guest)
            return insn->operand[i].size;
    return 0;
}

/* The one register that lives in memory becomes a memory operand there, if that does the same:
 * what is written must be all of it, as 4 bytes would leave the others, and fewer be slow to load
 * again. */
static void kept_address(struct translator *tr, struct copy *c)
{
    const struct copy_kept *kept = &c->kept[0];
    unsigned flip;

    if (c->memory || c->vex || c->vector || c->mmx || c->count || c->no_rex || c->nr_kept != 1 ||
        kept->high || !same_in_memory(c->insn) ||
        (kept->store && size_of(c->insn, kept->guest) != 8))
        return;
    if (kept->scratch == HOST_R10) { /* it is the field reg */
        if (c->rm == HOST_R10 || !can_swap(c->insn, &flip))
            return;
        c->flip = flip;
        c->reg = c->rm;
    } else if (kept->scratch != HOST_R11 || c->rm != HOST_R11) {
        return;
    }
    c->memory = true;
    c->nr_kept = 0;
    tr->operand = (struct emit_operand){
        .base = HOST_BASE,
        .index = HOST_NONE,
        .displacement = emit_based(emit_kept(kept->guest)),
    };
}

/* False: RCX is not what it was. */
static bool kept_store(struct translator *tr, const struct copy *c)
{
    bool same = !c->rcx;

    for (unsigned i = 0; i < c->nr_kept; i++) {
        const struct copy_kept *kept = &c->kept[i];

        if (!kept->store)
            continue;
        if (kept->high) {
            emit_rorx(&tr->e, HOST_RCX, emit_home[kept->guest], 8);
            emit8(&tr->e, 0x44); /* mov cl, scratch */
            emit8(&tr->e, 0x88);
            emit8(&tr->e, 0xc1 | (kept->scratch & 7) << 3);
            emit_rorx(&tr->e, emit_home[kept->guest], HOST_RCX, 56);
            same = false;
        } else {
            emit_store_hot(&tr->e, kept->scratch, emit_kept(kept->guest));
        }
    }
    return same;
}

/* Leaves unless the vector registers are loaded, and AVX is on where it is used: once a block each.
 * A block of SSE may have loaded them and led here. */
static void vector_check(struct translator *tr)
{
    bool avx = tr->insn.prefixes & INSN_PREFIX_VEX;

    if (avx ? tr->t->avx : tr->vector_seen)
        return;
    tr->t->avx |= avx;
    tr->vector_seen = true;
    tr->t->vector = true;
    tr->held = TRANSLATOR_NO_RANGE;
    emit_load_hot(&tr->e, HOST_RCX, avx ? HOT(avx_here) : HOT(vector_here));
    translator_leave_if_zero(tr, TRANSLATE_EXIT_VECTOR);
}

static bool shift_by_cl(const struct insn *insn)
{
    if (insn->map == 0)
        return insn->opcode == 0xd2 || insn->opcode == 0xd3;
    return insn->map == 1 && !(insn->prefixes & INSN_PREFIX_VEX) &&
           (insn->opcode == 0xa5 || insn->opcode == 0xad) &&
           (insn->id == INSN_SHLD || insn->id == INSN_SHRD);
}

static bool copy_modrm(struct translator *tr, enum copy_kind kind)
{
    const struct insn *insn = &tr->insn;
    struct copy c = {
        .insn = insn,
        .memory = insn->modrm >> 6 != 3,
        .vex = insn->prefixes & INSN_PREFIX_VEX,
        .count = shift_by_cl(insn),
    };
    bool index;

    if (!plan(&c, kind))
        return false;
    if (c.count && c.memory && c.nr_kept)
        return false;
    index = copy_writes_rcx(insn);
    if ((insn->traits & INSN_TRAIT_MMX) && !c.mmx)
        return false;
    /* Conversions from memory to a general register use MXCSR and nothing else. */
    if (c.vector || (!copy_is_integer(insn) && (!c.mmx || (insn->traits & INSN_TRAIT_SSE))))
        vector_check(tr);
    if (c.mmx)
        translator_x87_check(tr);
    if (c.memory) {
        bool locked = (insn->prefixes & INSN_PREFIX_LOCK) || insn->id == INSN_XCHG;
        /* The host faults too, and guard.c knows what to do. */
        bool aligned = (insn->traits & INSN_TRAIT_ALIGNED) && !tr->cpu->translate->flat;

        if (!c.size || c.size > 32)
            return false;
        if ((c.size & (c.size - 1)) && (locked || (insn->traits & INSN_TRAIT_ALIGNED)))
            return false;
        if (!translator_access(tr, c.size, c.write, locked || aligned))
            return false;
    }
    if ((c.count || c.rcx) && c.memory)
        translator_free_rcx(tr);
    kept_address(tr, &c);
    kept_load(tr, &c);
    if (c.count)
        emit_move(&tr->e, HOST_RCX, HOST_R9);
    if (!(c.vex ? encode_vex(tr, &c) : encode_legacy(tr, &c)))
        return false;
    if (index)
        emit_move(&tr->e, HOST_R9, HOST_RCX);
    tr->rcx_kept = kept_store(tr, &c) && !c.count && !index;
    return true;
}

/* One instruction, where no register lives in memory. */
static bool copy_lea_direct(struct translator *tr, unsigned home)
{
    const struct insn_mem *mem = &tr->insn.mem;
    unsigned base = mem->base == INSN_NO_REG ? HOST_NONE : emit_home[mem->base];
    unsigned index = mem->index == INSN_NO_REG ? HOST_NONE : emit_home[mem->index];
    unsigned rex;

    if (home == HOST_NONE || tr->insn.address_size != 8 || mem->rip_relative || mem->vsib ||
        (base == HOST_NONE && mem->base != INSN_NO_REG) ||
        (index == HOST_NONE && mem->index != INSN_NO_REG) ||
        mem->displacement != (int32_t)mem->displacement)
        return false;
    rex = (tr->insn.operand_size == 8 ? 8u : 0u) | emit_rex_of(home, base, index);
    if (rex)
        emit8(&tr->e, 0x40 | rex);
    emit8(&tr->e, 0x8d);
    emit_address(&tr->e, home, base, index, (unsigned)__builtin_ctz(mem->scale ? mem->scale : 1u),
                 (int32_t)mem->displacement);
    tr->rcx_kept = true;
    return true;
}

static bool copy_lea(struct translator *tr)
{
    const struct insn_operand *operand = &tr->insn.operand[0];
    unsigned home = emit_home[operand->reg];

    if (tr->insn.operand_size == 2)
        return false;
    if (copy_lea_direct(tr, home))
        return true;
    if (!translator_address(tr))
        return false;
    if (home == HOST_NONE)
        home = HOST_R11;
    if (tr->insn.operand_size == 8) {
        emit_move(&tr->e, home, HOST_R10);
    } else {
        emit8(&tr->e, 0x44 | home >> 3); /* mov home, r10d */
        emit8(&tr->e, 0x89);
        emit8(&tr->e, 0xd0 | (home & 7));
    }
    if (emit_home[operand->reg] == HOST_NONE)
        emit_store_hot(&tr->e, HOST_R11, emit_kept(operand->reg));
    tr->rcx_kept = true;
    return true;
}

/* No ModRM byte: the register is in the opcode, or it is RAX. */
static bool copy_short(struct translator *tr)
{
    const struct insn *insn = &tr->insn;
    struct copy c = {.insn = insn};
    bool in_opcode = insn->map == 0 ? (insn->opcode >= 0xb0 && insn->opcode <= 0xbf) ||
                                          (insn->opcode >= 0x90 && insn->opcode <= 0x97)
                                    : insn->opcode >= 0xc8;
    unsigned encoding = (insn->opcode & 7) | (insn->rex & 1 ? 8 : 0), reg = 0, rex = insn->rex & 8u;

    for (unsigned i = 0; i < insn->nr_operands; i++) {
        const struct insn_operand *operand = &insn->operand[i];

        if (operand->kind == INSN_OPERAND_IMM)
            continue;
        if (operand->kind != INSN_OPERAND_REG || operand->reg_class == INSN_REG_SEGMENT)
            return false;
        if (in_opcode && encoded(operand) == encoding) {
            if (!field_of(&c, operand, HOST_R10, &reg))
                return false;
        } else if (operand->reg_class != INSN_REG_GPR || operand->reg != CPU_RAX) {
            return false;
        }
    }
    rex |= reg >= 8 ? 1u : 0u;
    if (c.no_rex && (rex || c.needs_rex))
        return false;
    kept_load(tr, &c);
    legacy_prefixes(&tr->e, insn);
    if (rex || c.needs_rex)
        emit8(&tr->e, 0x40 | rex);
    opcode_map(&tr->e, insn->map);
    emit8(&tr->e, in_opcode ? (insn->opcode & ~7u) | (reg & 7) : insn->opcode);
    immediate(tr);
    tr->rcx_kept = kept_store(tr, &c);
    return true;
}

static bool copy_verbatim(struct translator *tr)
{
    const struct insn *insn = &tr->insn;

    if (insn->id == INSN_PAUSE) {
        emit_load_hot(&tr->e, HOST_RCX, HOT(pauses));
        emit_lea(&tr->e, HOST_RCX, HOST_RCX, HOST_NONE, 0, -1);
        translator_leave_if_zero(tr, TRANSLATE_EXIT_PAUSE);
        emit_store_hot(&tr->e, HOST_RCX, HOT(pauses));
        emit8(&tr->e, 0xf3);
        emit8(&tr->e, 0x90);
        return true;
    }
    if (insn->prefixes & INSN_PREFIX_OPERAND_SIZE)
        emit8(&tr->e, 0x66);
    if (insn->rex & 8)
        emit8(&tr->e, 0x48);
    opcode_map(&tr->e, insn->map);
    emit8(&tr->e, insn->opcode);
    if (insn->has_modrm)
        emit8(&tr->e, insn->modrm);
    return true;
}

static bool copy_vzero(struct translator *tr)
{
    vector_check(tr);
    emit8(&tr->e, 0xc5);
    emit8(&tr->e, tr->insn.vex_l ? 0xfc : 0xf8);
    emit8(&tr->e, 0x77);
    tr->rcx_kept = true;
    return true;
}

static bool copy(struct translator *tr)
{
    enum copy_kind kind = copy_kind_of(&tr->insn);

    if (tr->insn.id == INSN_DIV || tr->insn.id == INSN_IDIV)
        return translator_divide(tr);
    if (tr->insn.id == INSN_EMMS) {
        translator_x87_check(tr);
        return copy_verbatim(tr);
    }
    switch (kind) {
    case COPY_NO:
        return false;
    case COPY_NOTHING:
        tr->rcx_kept = true;
        return true;
    case COPY_VERBATIM:
        tr->rcx_kept = tr->insn.id != INSN_PAUSE;
        return copy_verbatim(tr);
    case COPY_NO_BIT_MEM:
        if (tr->insn.operand[0].kind == INSN_OPERAND_MEM &&
            tr->insn.operand[1].kind != INSN_OPERAND_IMM)
            return false;
        break;
    default:
        break;
    }
    if (tr->insn.id == INSN_LEA)
        return copy_lea(tr);
    if (tr->insn.id == INSN_VZEROUPPER || tr->insn.id == INSN_VZEROALL)
        return copy_vzero(tr);
    return tr->insn.has_modrm ? copy_modrm(tr, kind) : copy_short(tr);
}

bool translator_copy(struct translator *tr)
{
    uint8_t *start = tr->e.at;
    unsigned nr_stubs = tr->nr_stubs;
    bool vector_seen = tr->vector_seen, vector = tr->t->vector, avx = tr->t->avx;
    bool x87_seen = tr->x87_seen, x87 = tr->t->x87;

    if (tr->insn.traits & (INSN_TRAIT_PRIVILEGED | INSN_TRAIT_X87 | INSN_TRAIT_IO))
        return false;
    if (copy(tr))
        return true;
    tr->e.at = start;
    tr->nr_stubs = nr_stubs;
    tr->vector_seen = vector_seen;
    tr->t->vector = vector;
    tr->t->avx = avx;
    tr->x87_seen = x87_seen;
    tr->t->x87 = x87;
    return false;
}

bool translator_keeps_rcx(const struct insn *insn)
{
    if (insn->id == INSN_PUSH || insn->id == INSN_POP || insn->id == INSN_JCC)
        return true;
    if (!translator_copies(insn) || insn->id == INSN_DIV || insn->id == INSN_IDIV ||
        insn->id == INSN_PAUSE || shift_by_cl(insn) || copy_writes_rcx(insn))
        return false;
    if ((insn->prefixes & INSN_PREFIX_VEX) && copy_is_integer(insn) &&
        emit_home[insn->vex_vvvv] == HOST_NONE)
        return false;
    for (unsigned i = 0; i < insn->nr_operands; i++)
        if (insn->operand[i].kind == INSN_OPERAND_REG &&
            insn->operand[i].reg_class == INSN_REG_GPR8_HIGH)
            return false;
    return true;
}
