/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From bytes to blocks: decodes instructions until a branch, the end of the page or a limit, and
 * lowers each to an operation: registers to byte offsets, RIP-relative addresses and branch
 * targets to distances from the block's start, and the function that is specialised for its form;
 * what has no such function becomes op_generic with a copy of the struct insn.
 *
 * An instruction that crosses into the next page is always a block of its own: so a block in one
 * page depends on one translation.
 */
#include "soft/interp/cache.h"

#define BLOCK_OPS_MAX 48u

struct builder {
    struct soft_cpu *cpu;
    gpa_t gpa; /* of the first byte */
    uint32_t key;
    enum insn_mode mode;
    unsigned nr_ops;        /* instructions so far */
    unsigned offset;        /* bytes so far */
    unsigned most;          /* instructions */
    bool no_memory;         /* the arena is full */
    bool ended;             /* the last operation ends the block by itself */
    bool trace;             /* a forward Jcc need not */
    unsigned nr_sides;      /* Jcc that did not */
    gpa_t second_gpa;       /* where an instruction that crosses goes on */
    unsigned second_length; /* bytes there; 0: does not cross */
    struct interp_op ops[BLOCK_OPS_MAX + 1];
};

static uint64_t mask_of_size(unsigned size)
{
    return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * size)) - 1;
}

static bool is_gpr(const struct insn_operand *operand)
{
    return operand->kind == INSN_OPERAND_REG &&
           (operand->reg_class == INSN_REG_GPR || operand->reg_class == INSN_REG_GPR8_HIGH);
}

static uint16_t register_place(const struct insn_operand *operand)
{
    return (uint16_t)(INTERP_GPR(operand->reg) + (operand->reg_class == INSN_REG_GPR8_HIGH));
}

bool hot_address_flat(const struct insn *insn)
{
    return insn->mode == INSN_MODE_64 && insn->address_size == 8 && insn->mem.segment < CPU_FS;
}

enum hot_form hot_form_of(const struct insn *insn)
{
    const struct insn_operand *a = &insn->operand[0], *b = &insn->operand[1];
    bool flat = hot_address_flat(insn);

    if (insn->nr_operands < 2)
        return HOT_NONE;
    if (is_gpr(a) && is_gpr(b))
        return HOT_RR;
    if (is_gpr(a) && b->kind == INSN_OPERAND_IMM)
        return HOT_RI;
    if (is_gpr(a) && b->kind == INSN_OPERAND_MEM)
        return flat ? HOT_RM_F : HOT_RM_G;
    if (a->kind == INSN_OPERAND_MEM && is_gpr(b))
        return flat ? HOT_MR_F : HOT_MR_G;
    if (a->kind == INSN_OPERAND_MEM && b->kind == INSN_OPERAND_IMM)
        return flat ? HOT_MI_F : HOT_MI_G;
    return HOT_NONE;
}

static void lower_address(const struct insn *insn, struct interp_op *op)
{
    const struct insn_mem *mem = &insn->mem;

    op->base = op->index = (uint16_t)offsetof(struct soft_cpu, zero);
    op->displacement = mem->displacement;
    op->segment = mem->segment;
    op->mask = mask_of_size(insn->address_size);
    if (mem->rip_relative) {
        op->base = (uint16_t)offsetof(struct soft_cpu, rip);
        op->displacement += op->offset + op->length;
    } else if (mem->base != INSN_NO_REG) {
        op->base = INTERP_GPR(mem->base);
    }
    if (mem->index != INSN_NO_REG && !mem->vsib) {
        op->index = INTERP_GPR(mem->index);
        op->scale = (uint8_t)__builtin_ctz(mem->scale ? mem->scale : 1u);
    }
}

static void lower_operands(const struct insn *insn, struct interp_op *op)
{
    const struct insn_operand *operand = insn->operand;

    op->dst = op->src = (uint16_t)offsetof(struct soft_cpu, zero);
    op->imm = insn->imm;
    op->condition = insn->condition & 15;
    lower_address(insn, op);
    if (insn->nr_operands > 0 && is_gpr(&operand[0]))
        op->dst = register_place(&operand[0]);
    if (insn->nr_operands > 1 && is_gpr(&operand[1]))
        op->src = register_place(&operand[1]);
    if (insn->nr_operands > 0 && operand[0].kind == INSN_OPERAND_REL) {
        op->imm += op->offset + op->length;
        op->mask = mask_of_size(insn->operand_size);
    }
}

static bool feature_hidden(const struct soft_vm *vm, const struct insn *insn)
{
    return insn->feature != INSN_FEATURE_BASE && !vm->features[insn->feature];
}

static bool ends_block(const struct insn *insn)
{
    return insn->traits & (INSN_TRAIT_BRANCH | INSN_TRAIT_BLOCK_END);
}

static interp_fn *lower_generic(struct builder *b, const struct insn *insn, struct interp_op *op)
{
    soft_handler_fn *handler = b->cpu->vm->handlers[insn->id];
    struct interp_generic *generic;

    if (!handler)
        return op_unsupported;
    generic = cache_alloc(b->cpu, sizeof(*generic));
    if (!generic) {
        b->no_memory = true;
        return op_unsupported;
    }
    generic->run = handler;
    generic->insn = *insn;
    generic->guarded = insn->traits & (INSN_TRAIT_NOT_REAL_MODE | INSN_TRAIT_PRIVILEGED);
    op->generic = generic;
    return ends_block(insn) ? op_generic_end : op_generic;
}

static interp_fn *select_hot(const struct insn *insn, struct interp_op *op)
{
    static interp_fn *(*const selectors[])(const struct insn *, struct interp_op *) = {
        hot_move_select, hot_alu_select, hot_branch_select, hot_stack_select, hot_unary_select,
    };
    interp_fn *found = NULL;

    if (insn->traits & (INSN_TRAIT_NOT_REAL_MODE | INSN_TRAIT_PRIVILEGED))
        return NULL;
    for (unsigned i = 0; i < ARRAY_LEN(selectors) && !found; i++)
        found = selectors[i](insn, op);
    return found;
}

/* Does the block go on behind this one? */
static bool goes_on(struct builder *b, const struct interp_op *op)
{
    return b->trace && b->nr_sides < CACHE_SIDES_MAX && b->nr_ops + 1u < b->most &&
           cache_goes_on(b->cpu, b->gpa, b->key, op);
}

static void lower(struct builder *b, const struct insn *insn)
{
    struct interp_op *op = &b->ops[b->nr_ops];

    *op = (struct interp_op){
        .offset = (uint16_t)b->offset,
        .position = (uint16_t)b->nr_ops,
        .length = insn->length,
    };
    b->ended = ends_block(insn);
    if (feature_hidden(b->cpu->vm, insn)) {
        op->run = op_undefined;
        b->ended = true;
    } else {
        lower_operands(insn, op);
        op->run = select_hot(insn, op);
        if (!op->run)
            op->run = lower_generic(b, insn, op);
        if (b->ended && goes_on(b, op)) {
            hot_jcc_go_on(op);
            b->nr_sides++;
            b->ended = false;
        }
    }
    b->nr_ops++;
    b->offset += insn->length;
}

/* An operation that raises an exception or leaves, whatever follows. looked: how many bytes of the
 * first page say so; a write to any of them may make another instruction of it. */
static void lower_end(struct builder *b, interp_fn *run, unsigned looked)
{
    b->ops[b->nr_ops] = (struct interp_op){
        .run = run,
        .offset = (uint16_t)b->offset,
        .position = (uint16_t)b->nr_ops,
    };
    b->nr_ops++;
    b->offset += MAX(looked, 1u);
    b->ended = true;
}

/* Up to 15 bytes at the builder's offset, in the first page. */
static unsigned fetch_first(struct builder *b, uint8_t bytes[INSN_LENGTH_MAX])
{
    unsigned left = (unsigned)(GUEST_PAGE_SIZE - (b->gpa & GUEST_PAGE_MASK)) - b->offset;
    unsigned length = MIN(left, (unsigned)INSN_LENGTH_MAX);
    gpa_t gpa = b->gpa + b->offset;

    if (b->mode != INSN_MODE_64) {
        uint64_t rip = b->cpu->rip + b->offset, limit = b->cpu->segment[CPU_CS].limit;

        length = rip > limit ? 0 : (unsigned)MIN((uint64_t)length, limit - rip + 1);
    }
    if (!length || !cache_mark(b->cpu, gpa, length))
        return 0;
    memcpy(bytes, memory_range(b->cpu->vm->memory, gpa, length), length);
    return length;
}

/* Completes an instruction whose first `have` bytes end the page (or the segment). */
static int fetch_second(struct builder *b, uint8_t bytes[INSN_LENGTH_MAX], unsigned have,
                        unsigned *ret_length)
{
    struct soft_cpu *cpu = b->cpu;
    unsigned length;
    gpa_t gpa;
    int result = (int)mmu_fetch(cpu, cpu->rip + have, bytes + have, INSN_LENGTH_MAX - have, &length,
                                &gpa);

    if (result)
        return result;
    if (gpa == UINT64_MAX || !cache_mark(cpu, gpa, length)) {
        interp_unsupported(cpu, "code outside memory");
        return SOFT_EXIT;
    }
    memcpy(bytes + have, memory_range(cpu->vm->memory, gpa, length), length);
    b->second_gpa = gpa;
    b->second_length = length;
    *ret_length = have + length;
    return SOFT_OK;
}

/* One instruction; SOFT_OK with b->ended, or INTERP_LEFT: it belongs to a block of its own. */
static int build_one(struct builder *b)
{
    uint8_t bytes[INSN_LENGTH_MAX];
    unsigned length = fetch_first(b, bytes), first = length;
    enum insn_result decoded;
    struct insn insn;
    int result;

    decoded = length ? insn_decode(bytes, length, b->mode, &insn) : INSN_TRUNCATED;
    if (decoded == INSN_TRUNCATED && length < INSN_LENGTH_MAX) {
        if (b->nr_ops)
            return INTERP_LEFT;
        result = fetch_second(b, bytes, length, &length);
        if (result)
            return result;
        decoded = insn_decode(bytes, length, b->mode, &insn);
    }
    switch (decoded) {
    case INSN_OK:
        lower(b, &insn);
        break;
    case INSN_UNDEFINED:
        lower_end(b, op_undefined, first);
        break;
    default:
        lower_end(b, op_too_long, first);
        break;
    }
    return SOFT_OK;
}

static uint64_t granules(gpa_t gpa, unsigned length)
{
    unsigned first = (gpa & GUEST_PAGE_MASK) / CACHE_GRANULE;
    unsigned last = ((gpa & GUEST_PAGE_MASK) + length - 1) / CACHE_GRANULE;

    return (UINT64_MAX << first) & (UINT64_MAX >> (63 - MIN(last, 63u)));
}

static struct interp_block *finish(struct builder *b)
{
    struct interp_block *block;
    unsigned nr_instructions = b->nr_ops;

    if (!b->ended) {
        b->ops[b->nr_ops] = (struct interp_op){
            .run = b->mode == INSN_MODE_64 ? op_end : op_end_legacy,
            .offset = (uint16_t)b->offset,
            .position = (uint16_t)b->nr_ops,
        };
        b->nr_ops++;
    }
    block = cache_alloc(b->cpu, sizeof(*block) + b->nr_ops * sizeof(block->ops[0]));
    if (!block || b->no_memory)
        return NULL;
    *block = (struct interp_block){
        .gpa = b->gpa,
        .key = b->key,
        .nr_instructions = nr_instructions,
        .nr_ops = b->nr_ops,
        .nr_sides = b->nr_sides,
    };
    block->page[0].gpa = b->gpa & ~GUEST_PAGE_MASK;
    block->page[0].mask = granules(b->gpa, b->offset);
    if (b->second_length) {
        block->page[1].gpa = b->second_gpa & ~GUEST_PAGE_MASK;
        block->page[1].mask = granules(b->second_gpa, b->second_length);
    }
    memcpy(block->ops, b->ops, b->nr_ops * sizeof(block->ops[0]));
    b->cpu->counters.blocks_decoded++;
    return block;
}

int block_build(struct soft_cpu *cpu, gpa_t gpa, uint32_t key, bool trace,
                struct interp_block **ret)
{
    struct builder b;
    int result;

    b.cpu = cpu;
    b.gpa = gpa;
    b.key = key;
    b.mode = (enum insn_mode)(key & CACHE_KEY_MODE);
    b.most = key & CACHE_KEY_SINGLE ? 1 : BLOCK_OPS_MAX;
    b.nr_ops = b.offset = b.second_length = 0;
    b.no_memory = b.ended = false;
    b.trace = trace;
    b.nr_sides = 0;
    *ret = NULL;
    while (!b.ended && !b.second_length && b.nr_ops < b.most) {
        result = build_one(&b);
        if (result == INTERP_LEFT)
            break;
        if (result)
            return result;
    }
    *ret = finish(&b);
    return SOFT_OK;
}
