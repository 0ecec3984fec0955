/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System instructions that need no interpreter: what generated code can do to struct soft_cpu by
 * itself, and the calls of callout.c. Also the instructions on memory that copy.c's scheme does not
 * fit: bit strings, CMPXCHG16B.
 *
 * No code here changes the flags: RFLAGS' other bits are in cpu->rflags, and bits of it are cleared
 * by PEXT and PDEP with a mask. Privileged instructions are emitted for blocks of CPL 0 only; a
 * state that they cannot deal with leaves for the interpreter (REST) before anything has changed.
 *
 * Interrupts. An instruction that may set IF leaves when an interrupt was seen while IF was clear
 * (cpu->interrupt_possible). STI notes where its shadow is: a poll that hits there delivers one
 * instruction later.
 *
 * Source: SDM 2, the pages of the instructions; 3A 6.8.1.
 */
#include "soft/translate/translator.h"

#define SOFT(field) ((int32_t)offsetof(struct soft_cpu, field))
#define KEEP(which) (HOT(keep) + 8u * TRANSLATE_KEEP_##which)
#define SELECTOR(n)  \
    (SOFT(segment) + \
     (int32_t)(sizeof(struct cpu_segment) * (n) + offsetof(struct cpu_segment, selector)))
#define BASE(n)      \
    (SOFT(segment) + \
     (int32_t)(sizeof(struct cpu_segment) * (n) + offsetof(struct cpu_segment, base)))

/* The instruction is the interpreter's from here: jumps there unless RCX is 0. */
static void leave_unless_rcx_zero(struct translator *tr)
{
    emit8(&tr->e, 0xe3);
    emit8(&tr->e, 5);
    translator_exit(tr, emit_jump(&tr->e), TRANSLATE_EXIT_REST, tr->op);
}

/* The other way round. */
static void leave_if_rcx_zero(struct translator *tr)
{
    emit8(&tr->e, 0xe3);
    emit8(&tr->e, 2);
    emit8(&tr->e, 0xeb);
    emit8(&tr->e, 5);
    translator_exit(tr, emit_jump(&tr->e), TRANSLATE_EXIT_REST, tr->op);
}

/* R10 = cpu */
static void load_cpu(struct translator *tr)
{
    emit_load_hot(&tr->e, HOST_R10, HOT(cpu));
}

/* cpu->rflags (R10 = cpu) without what the mask excludes, plus `set`. Clobbers RCX. */
static void rflags_change(struct translator *tr, uint32_t keep, int32_t set)
{
    emit_memory(&tr->e, 0x8b, HOST_RCX, HOST_R10, SOFT(rflags));
    emit_pext(&tr->e, HOST_RCX, HOST_RCX, keep);
    emit_pdep(&tr->e, HOST_RCX, HOST_RCX, keep);
    if (set)
        emit_lea(&tr->e, HOST_RCX, HOST_RCX, HOST_NONE, 0, set);
    emit_memory(&tr->e, 0x89, HOST_RCX, HOST_R10, SOFT(rflags));
}

static bool emit_cli(struct translator *tr)
{
    load_cpu(tr);
    rflags_change(tr, KEEP(NOT_IF), 0);
    return true;
}

static bool emit_cld(struct translator *tr)
{
    load_cpu(tr);
    rflags_change(tr, KEEP(NOT_DF), 0);
    return true;
}

/* movzx ecx, byte [r10 + offset] */
static void load_byte(struct translator *tr, int32_t offset)
{
    emit8(&tr->e, 0x41);
    emit8(&tr->e, 0x0f);
    emit8(&tr->e, 0xb6);
    emit_address(&tr->e, HOST_RCX, HOST_R10, HOST_NONE, 0, offset);
}

static bool emit_sti(struct translator *tr)
{
    translator_islands(tr, false);
    emit_load_hot(&tr->e, HOST_RCX, HOT(pending));
    emit8(&tr->e, 0xe3);
    emit8(&tr->e, 5);
    translator_exit(tr, emit_jump(&tr->e), TRANSLATE_EXIT_POLL, tr->op);
    load_cpu(tr);
    load_byte(tr, SOFT(interrupt_possible));
    leave_unless_rcx_zero(tr);
    rflags_change(tr, KEEP(NOT_IF), (int32_t)CPU_FLAG_IF);
    emit_load_hot(&tr->e, HOST_R10, HOT(page));
    emit_lea(&tr->e, HOST_R10, HOST_R10, HOST_NONE, 0, (int32_t)(tr->offset + tr->insn.length));
    emit_store_hot(&tr->e, HOST_R10, HOT(shadow));
    return true;
}

static bool emit_swapgs(struct translator *tr)
{
    load_cpu(tr);
    emit_memory(&tr->e, 0x8b, HOST_RCX, HOST_R10, BASE(CPU_GS));
    emit_memory(&tr->e, 0x8b, HOST_R11, HOST_R10, SOFT(kernel_gs_base));
    emit_memory(&tr->e, 0x89, HOST_RCX, HOST_R10, SOFT(kernel_gs_base));
    emit_memory(&tr->e, 0x89, HOST_R11, HOST_R10, BASE(CPU_GS));
    emit_store_hot(&tr->e, HOST_R11, HOT(segment_base) + 8);
    return true;
}

/* RCX = 0 when R11 is RCX */
static void compare(struct translator *tr)
{
    emit8(&tr->e, 0x48); /* not rcx */
    emit8(&tr->e, 0xf7);
    emit8(&tr->e, 0xd1);
    emit_lea(&tr->e, HOST_RCX, HOST_RCX, HOST_R11, 0, 1);
}

/* STAC, CLAC: another class of data accesses, if its tables are up to date. */
static bool emit_ac(struct translator *tr, bool set)
{
    unsigned class = set ? MMU_CLASS_SUPERVISOR : MMU_CLASS_SUPERVISOR_SMAP;

    translator_islands(tr, false);
    emit_memory32(&tr->e, 0x8b, HOST_RCX, HOST_BASE, emit_based(HOT(smap)));
    leave_if_rcx_zero(tr);
    load_cpu(tr);
    emit_memory(&tr->e, 0x8b, HOST_RCX, HOST_R10, SOFT(mmu.epoch));
    emit_load_hot(&tr->e, HOST_R11, HOT(seen_epoch) + 8 * class);
    compare(tr);
    leave_unless_rcx_zero(tr);
    rflags_change(tr, KEEP(NOT_AC), set ? (int32_t)CPU_FLAG_AC : 0);
    emit8(&tr->e, 0x41); /* mov byte [r10 + current_class], class */
    emit8(&tr->e, 0xc6);
    emit_address(&tr->e, 0, HOST_R10, HOST_NONE, 0, SOFT(mmu.current_class));
    emit8(&tr->e, class);
    emit_lea(&tr->e, HOST_RCX, HOST_R10, HOST_NONE, 0,
             SOFT(mmu.data_table) +
                 (int32_t)(sizeof(((struct soft_mmu *)NULL)->data_table[0]) * class));
    emit_memory(&tr->e, 0x89, HOST_RCX, HOST_R10, SOFT(mmu.data));
    emit_load_hot(&tr->e, HOST_RCX, HOT(class_base) + 8 * class);
    emit_store_hot(&tr->e, HOST_RCX, HOT(gs));
    emit8(&tr->e, 0xf3); /* wrgsbase rcx */
    emit8(&tr->e, 0x48);
    emit8(&tr->e, 0x0f);
    emit8(&tr->e, 0xae);
    emit8(&tr->e, 0xd9);
    emit8(&tr->e, 0x49); /* mov r10, TRANSLATE_BASE */
    emit8(&tr->e, 0xba);
    emit64(&tr->e, TRANSLATE_BASE);
    emit_lea(&tr->e, HOST_BASE, HOST_RCX, HOST_R10, 0, 0);
    return true;
}

/* Leaves unless (or if) CR4 has the bit that the mask at `keep` picks. R10 = cpu. */
static void cr4_require(struct translator *tr, uint32_t keep, bool set)
{
    emit_memory(&tr->e, 0x8b, HOST_RCX, HOST_R10, SOFT(cr4));
    emit_pext(&tr->e, HOST_RCX, HOST_RCX, keep);
    if (set)
        leave_if_rcx_zero(tr);
    else
        leave_unless_rcx_zero(tr);
}

static bool emit_rdtsc(struct translator *tr)
{
    struct emit *e = &tr->e;

    translator_islands(tr, false);
    load_cpu(tr);
    if (tr->user)
        cr4_require(tr, KEEP(TSD), false);
    if (tr->insn.id == INSN_RDTSCP) {
        emit8(e, 0x0f); /* as RDTSCP waits for what comes before: lfence */
        emit8(e, 0xae);
        emit8(e, 0xe8);
    }
    emit8(e, 0x0f);
    emit8(e, 0x31);
    emit_rorx(e, HOST_RDX, HOST_RDX, 32);
    emit_lea(e, HOST_RAX, HOST_RAX, HOST_RDX, 0, 0);
    emit_memory(e, 0x8b, HOST_RDX, HOST_R10, SOFT(tsc_offset));
    emit_lea(e, HOST_RAX, HOST_RAX, HOST_RDX, 0, 0);
    emit_rorx(e, HOST_RDX, HOST_RAX, 32);
    emit8(e, 0x89); /* mov edx, edx; mov eax, eax */
    emit8(e, 0xd2);
    emit8(e, 0x89);
    emit8(e, 0xc0);
    if (tr->insn.id == INSN_RDTSCP) {
        emit8(e, 0x45); /* mov r9d, [r10 + tsc_aux] */
        emit8(e, 0x8b);
        emit_address(e, HOST_R9, HOST_R10, HOST_NONE, 0, SOFT(tsc_aux));
    }
    return true;
}

/* The guest register `reg` is what R11 is. */
static void write_register(struct translator *tr, unsigned reg)
{
    if (emit_home[reg] == HOST_NONE)
        emit_store_hot(&tr->e, HOST_R11, emit_kept(reg));
    else
        emit_move(&tr->e, emit_home[reg], HOST_R11);
}

static void read_register(struct translator *tr, unsigned reg, unsigned to)
{
    if (emit_home[reg] == HOST_NONE)
        emit_load_hot(&tr->e, to, emit_kept(reg));
    else
        emit_move(&tr->e, to, emit_home[reg]);
}

/* mov r11d, [r10 + offset]; size 2: movzx */
static void load_part(struct translator *tr, unsigned size, int32_t offset)
{
    emit8(&tr->e, 0x45);
    if (size == 2) {
        emit8(&tr->e, 0x0f);
        emit8(&tr->e, 0xb7);
    } else {
        emit8(&tr->e, 0x8b);
    }
    emit_address(&tr->e, HOST_R11, HOST_R10, HOST_NONE, 0, offset);
}

static bool emit_fsgsbase(struct translator *tr)
{
    const struct insn_operand *operand = &tr->insn.operand[0];
    bool gs = tr->insn.id == INSN_RDGSBASE || tr->insn.id == INSN_WRGSBASE;
    int32_t base = gs ? BASE(CPU_GS) : BASE(CPU_FS);

    if (operand->kind != INSN_OPERAND_REG || tr->insn.operand_size != 8)
        return false;
    load_cpu(tr);
    cr4_require(tr, KEEP(FSGSBASE), true);
    if (tr->insn.id == INSN_RDFSBASE || tr->insn.id == INSN_RDGSBASE) {
        emit_memory(&tr->e, 0x8b, HOST_R11, HOST_R10, base);
        write_register(tr, operand->reg);
        return true;
    }
    /* Canonical: bits 47 to 63 are all equal. */
    read_register(tr, operand->reg, HOST_R11);
    emit8(&tr->e, 0xb9); /* mov ecx, 47 */
    emit32(&tr->e, 47);
    emit8(&tr->e, 0xc4); /* sarx rcx, r11, rcx */
    emit8(&tr->e, 0xc2);
    emit8(&tr->e, 0xf2);
    emit8(&tr->e, 0xf7);
    emit8(&tr->e, 0xcb);
    emit8(&tr->e, 0xe3); /* jrcxz over the other case */
    emit8(&tr->e, 4 + 2 + 5);
    emit8(&tr->e, 0x48); /* lea rcx, [rcx + 1] */
    emit8(&tr->e, 0x8d);
    emit8(&tr->e, 0x49);
    emit8(&tr->e, 1);
    leave_unless_rcx_zero(tr);
    emit_memory(&tr->e, 0x89, HOST_R11, HOST_R10, base);
    emit_store_hot(&tr->e, HOST_R11, HOT(segment_base) + (gs ? 8 : 0));
    return true;
}

/* CR0, CR2, CR3 and CR4 to a register. */
static bool emit_mov_cr(struct translator *tr)
{
    static const int32_t places[] = {SOFT(cr0), 0, SOFT(cr2), SOFT(cr3), SOFT(cr4)};
    const struct insn_operand *from = &tr->insn.operand[1];

    if (from->reg_class != INSN_REG_CR || from->reg >= ARRAY_LEN(places) || !places[from->reg])
        return false;
    load_cpu(tr);
    emit_memory(&tr->e, 0x8b, HOST_R11, HOST_R10, places[from->reg]);
    write_register(tr, tr->insn.operand[0].reg);
    return true;
}

/* mov reg16, r11w; reg: RCX or a guest register's home */
static void write_word(struct translator *tr, unsigned reg)
{
    emit8(&tr->e, 0x66);
    emit8(&tr->e, 0x44 | reg >> 3);
    emit8(&tr->e, 0x89);
    emit8(&tr->e, 0xd8 | (reg & 7));
}

/* A selector to a register of any size. */
static bool emit_mov_seg(struct translator *tr)
{
    const struct insn_operand *to = &tr->insn.operand[0], *from = &tr->insn.operand[1];

    if (to->kind != INSN_OPERAND_REG || to->reg_class != INSN_REG_GPR || to->size < 2 ||
        from->reg_class != INSN_REG_SEGMENT || from->reg >= CPU_NR_SEGMENTS)
        return false;
    load_cpu(tr);
    load_part(tr, 2, SELECTOR(from->reg));
    if (to->size > 2) {
        write_register(tr, to->reg);
    } else if (emit_home[to->reg] != HOST_NONE) {
        write_word(tr, emit_home[to->reg]);
    } else {
        emit_load_hot(&tr->e, HOST_RCX, emit_kept(to->reg));
        write_word(tr, HOST_RCX);
        emit_store_hot(&tr->e, HOST_RCX, emit_kept(to->reg));
    }
    return true;
}

/* The image is made first: the access check needs the scratch registers. */
static bool emit_pushf(struct translator *tr)
{
    if (tr->insn.operand_size != 8)
        return false;
    load_cpu(tr);
    emit_memory(&tr->e, 0x8b, HOST_R11, HOST_R10, SOFT(rflags));
    emit_pext(&tr->e, HOST_R11, HOST_R11, KEEP(PUSHED));
    emit_pdep(&tr->e, HOST_R11, HOST_R11, KEEP(PUSHED));
    emit8(&tr->e, 0x9c); /* pushfq; pop rcx */
    emit8(&tr->e, 0x59);
    emit_pext(&tr->e, HOST_RCX, HOST_RCX, KEEP(STATUS));
    emit_pdep(&tr->e, HOST_RCX, HOST_RCX, KEEP(STATUS));
    emit_lea(&tr->e, HOST_RCX, HOST_RCX, HOST_R11, 0, 0);
    emit_store_hot(&tr->e, HOST_RCX, HOT(target));
    emit_lea(&tr->e, HOST_R10, HOST_R15, HOST_NONE, 0, -8);
    translator_check(tr, 8, true, false);
    emit_load_hot(&tr->e, HOST_R11, HOT(target));
    emit_guest(&tr->e, 0x89, HOST_R11, &tr->operand);
    emit_lea(&tr->e, HOST_R15, HOST_R15, HOST_NONE, 0, -8);
    return true;
}

static bool emit_cmpxchg_wide(struct translator *tr)
{
    unsigned size = tr->insn.id == INSN_CMPXCHG16B ? 16 : 8;
    bool locked = tr->insn.prefixes & INSN_PREFIX_LOCK;

    if (!translator_address(tr))
        return false;
    translator_check(tr, size, true, locked || size == 16);
    translator_free_rcx(tr);
    emit_move(&tr->e, HOST_RCX, HOST_R9);
    if (locked)
        emit8(&tr->e, 0xf0);
    emit8(&tr->e, (size == 16 ? 0x48 : 0x40) | emit_rex_of(1, tr->operand.base, tr->operand.index));
    emit8(&tr->e, 0x0f);
    emit8(&tr->e, 0xc7);
    emit_operand(&tr->e, 1, &tr->operand);
    return true;
}

/* BT and its kin with the bit offset in a register: the word that has the bit is addressed, then
 * the bit in it. */
static bool emit_bit(struct translator *tr)
{
    const struct insn_operand *word = &tr->insn.operand[0], *bit = &tr->insn.operand[1];
    bool wide = word->size == 8, locked = tr->insn.prefixes & INSN_PREFIX_LOCK;
    struct emit *e = &tr->e;

    if (word->kind != INSN_OPERAND_MEM || bit->kind != INSN_OPERAND_REG || word->size < 4 ||
        !translator_address(tr))
        return false;
    read_register(tr, bit->reg, HOST_RCX);
    if (!wide) { /* movsxd rcx, ecx */
        emit8(e, 0x48);
        emit8(e, 0x63);
        emit8(e, 0xc9);
    }
    emit8(e, 0x41); /* mov r11d, log2 of the word's bits */
    emit8(e, 0xbb);
    emit32(e, wide ? 6 : 5);
    emit8(e, 0xc4); /* sarx r11, rcx, r11 */
    emit8(e, 0x62);
    emit8(e, 0xa2);
    emit8(e, 0xf7);
    emit8(e, 0xd9);
    emit_lea(e, HOST_R10, HOST_R10, HOST_R11, wide ? 3 : 2, 0);
    translator_check(tr, word->size, tr->insn.id != INSN_BT, locked);
    read_register(tr, bit->reg, HOST_R11);
    emit_pext(e, HOST_R11, HOST_R11, HOT(low_bits) + (wide ? 8 : 0));
    if (locked)
        emit8(e, 0xf0);
    emit8(e, (wide ? 0x48 : 0x40) | emit_rex_of(HOST_R11, tr->operand.base, tr->operand.index));
    emit8(e, 0x0f);
    emit8(e, tr->insn.opcode);
    emit_operand(e, HOST_R11, &tr->operand);
    return true;
}

/* R10 is what the callout gets in hot.address. */
static bool emit_callout(struct translator *tr, enum translate_callout which)
{
    uint32_t exit = tr->t->number << TRANSLATE_SHIFT | tr->op << TRANSLATE_EXIT_BITS |
                    (uint32_t)TRANSLATE_EXIT_REST;

    emit8(&tr->e, 0xb9); /* mov ecx, exit */
    emit32(&tr->e, exit);
    emit_patch(emit_jump(&tr->e), tr->cpu->translate->callout[which]);
    return true;
}

static bool emit_syscall(struct translator *tr)
{
    emit_load_hot(&tr->e, HOST_R10, HOT(page));
    emit_lea(&tr->e, HOST_R10, HOST_R10, HOST_NONE, 0, (int32_t)(tr->offset + tr->insn.length));
    return emit_callout(tr, TRANSLATE_CALLOUT_SYSCALL);
}

/* op reg, operand of `size` bytes; `op` is the form for bytes; reg is RAX or R11. */
static void guest_op(struct translator *tr, unsigned size, unsigned op, unsigned reg)
{
    if (size == 2)
        emit8(&tr->e, 0x66);
    emit8(&tr->e,
          (size == 8 ? 0x48 : 0x40) | emit_rex_of(reg, tr->operand.base, tr->operand.index));
    emit8(&tr->e, size == 1 ? op : op | 1);
    emit_operand(&tr->e, reg, &tr->operand);
}

/* One element upwards: RSI's goes through hot.target. */
static bool emit_string_one(struct translator *tr)
{
    unsigned id = tr->insn.id, size = tr->insn.operand[0].size, reg = HOST_RAX;
    bool source = id == INSN_MOVS || id == INSN_LODS || id == INSN_CMPS;

    load_cpu(tr);
    emit_memory(&tr->e, 0x8b, HOST_RCX, HOST_R10, SOFT(rflags));
    emit_pext(&tr->e, HOST_RCX, HOST_RCX, KEEP(DF));
    leave_unless_rcx_zero(tr);
    if (source) {
        emit_move(&tr->e, HOST_R10, HOST_RSI);
        translator_check(tr, size, false, false);
    }
    if (id == INSN_MOVS || id == INSN_CMPS) {
        guest_op(tr, size, 0x8a, HOST_R11);
        emit_store_hot(&tr->e, HOST_R11, HOT(target));
        reg = HOST_R11;
    }
    if (id != INSN_LODS) {
        emit_move(&tr->e, HOST_R10, HOST_RDI);
        translator_check(tr, size, id == INSN_MOVS || id == INSN_STOS, false);
        if (reg == HOST_R11)
            emit_load_hot(&tr->e, HOST_R11, HOT(target));
    }
    guest_op(tr, size,
             id == INSN_LODS                      ? 0x8a
             : id == INSN_MOVS || id == INSN_STOS ? 0x88
                                                  : 0x3a,
             reg);
    if (source)
        emit_lea(&tr->e, HOST_RSI, HOST_RSI, HOST_NONE, 0, (int32_t)size);
    if (id != INSN_LODS)
        emit_lea(&tr->e, HOST_RDI, HOST_RDI, HOST_NONE, 0, (int32_t)size);
    return true;
}

static bool emit_string(struct translator *tr)
{
    const struct insn *insn = &tr->insn;

    if (insn->address_size != 8 || insn->mem.segment >= CPU_FS)
        return false;
    if (!(insn->prefixes & (INSN_PREFIX_REP | INSN_PREFIX_REPNE)))
        return emit_string_one(tr);
    emit8(&tr->e, 0x4c); /* lea r10, [rip + what emit_callout emits] */
    emit8(&tr->e, 0x8d);
    emit8(&tr->e, 0x15);
    emit32(&tr->e, 10);
    return emit_callout(tr, TRANSLATE_CALLOUT_STRING);
}

static bool emit_at_any_level(struct translator *tr)
{
    switch (tr->insn.id) {
    case INSN_CLD:
        return emit_cld(tr);
    case INSN_RDTSC:
    case INSN_RDTSCP:
        return emit_rdtsc(tr);
    case INSN_RDFSBASE:
    case INSN_RDGSBASE:
    case INSN_WRFSBASE:
    case INSN_WRGSBASE:
        return emit_fsgsbase(tr);
    case INSN_MOV_SEG:
        return emit_mov_seg(tr);
    case INSN_PUSHF:
        return emit_pushf(tr);
    case INSN_MOVS:
    case INSN_STOS:
    case INSN_LODS:
    case INSN_CMPS:
    case INSN_SCAS:
        return emit_string(tr);
    case INSN_CMPXCHG8B:
    case INSN_CMPXCHG16B:
        return emit_cmpxchg_wide(tr);
    case INSN_BT:
    case INSN_BTS:
    case INSN_BTR:
    case INSN_BTC:
        return emit_bit(tr);
    default:
        return false;
    }
}

static bool emit_privileged(struct translator *tr)
{
    switch (tr->insn.id) {
    case INSN_CLI:
        return emit_cli(tr);
    case INSN_STI:
        return emit_sti(tr);
    case INSN_STAC:
    case INSN_CLAC:
        return emit_ac(tr, tr->insn.id == INSN_STAC);
    case INSN_SWAPGS:
        return emit_swapgs(tr);
    case INSN_MOV_CR:
        return emit_mov_cr(tr);
    default:
        return false;
    }
}

/* Those after which the next instruction is known to the callout alone. */
static bool emit_transfer(struct translator *tr)
{
    switch (tr->insn.id) {
    case INSN_SYSCALL:
        return emit_syscall(tr);
    case INSN_SYSRET:
        return !tr->user && tr->insn.operand_size == 8 &&
               emit_callout(tr, TRANSLATE_CALLOUT_SYSRET);
    case INSN_IRET:
        return !tr->user && tr->insn.operand_size == 8 && emit_callout(tr, TRANSLATE_CALLOUT_IRET);
    default:
        return false;
    }
}

bool translator_system(struct translator *tr, bool last, bool *ret_open)
{
    uint8_t *start = tr->e.at;
    unsigned nr_stubs = tr->nr_stubs;

    if (last && emit_transfer(tr)) {
        *ret_open = false;
        return true;
    }
    if (emit_at_any_level(tr) || (!tr->user && emit_privileged(tr))) {
        *ret_open = true; /* the block's end, if it is here, is a jump to the next one */
        return true;
    }
    tr->e.at = start;
    tr->nr_stubs = nr_stubs;
    return false;
}
