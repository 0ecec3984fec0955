/* SPDX-License-Identifier: Apache-2.0 */
/* Random programs for the comparison of the tiers, and where their bytes go. */
#include "tiers_writer.h"

#include "base/util.h"

#include <string.h>

uint64_t tiers_code_va(const struct tiers_program *program)
{
    return (program->ring0 ? TIERS_UPPER : 0) + DIFF_CODE_VA;
}

struct tiers_item *tiers_add(struct tiers_writer *w, enum tiers_item_kind kind, const void *bytes,
                             unsigned length)
{
    struct tiers_item *item = &w->p->item[w->p->nr_items++];

    *item = (struct tiers_item){.kind = (uint8_t)kind, .length = (uint8_t)length};
    memcpy(item->bytes, bytes, length);
    return item;
}

/* op [address], imm32: c7 /0 mov */
static void add_store_state(struct tiers_writer *w, uint32_t field, uint32_t value)
{
    struct tiers_item *item = TIERS_ADD(w, TIERS_GLUE, 0xc7, 0x04, 0x25, 0, 0, 0, 0, 0, 0, 0, 0);

    store_le32(item->bytes + 3, TIERS_STATE_VA + field);
    store_le32(item->bytes + 7, value);
}

void tiers_add_mov(struct tiers_writer *w, enum tiers_item_kind kind, unsigned reg, uint32_t value)
{
    uint8_t bytes[6] = {0x41, (uint8_t)(0xb8 | (reg & 7))};
    unsigned rex = reg >= 8;

    store_le32(bytes + 2, value);
    tiers_add(w, kind, bytes + 1 - rex, 5 + rex);
}

static uint32_t scratch(struct tiers_writer *w)
{
    return DIFF_SCRATCH_VA + (diff_pick(w->seed, 8) ? 1024 + diff_pick(w->seed, 6144)
                                                    : 4096 - 32 + diff_pick(w->seed, 64));
}

/* An immediate that others write: mov r32, imm32 or op r32, imm32. */
static void add_point(struct tiers_writer *w)
{
    uint8_t bytes[7] = {0x41};
    unsigned reg = diff_pick(w->seed, CPU_NR_GPRS), length = 1;

    if (w->p->nr_points == TIERS_POINTS || reg == CPU_RSP)
        return;
    bytes[0] |= diff_pick(w->seed, 2) << 3;
    bytes[0] = (uint8_t)(bytes[0] & ~1u) | (reg >= 8);
    if (diff_pick(w->seed, 2)) {
        bytes[length++] = (uint8_t)(0xb8 | (reg & 7));
        bytes[0] &= (uint8_t)~8u; /* no 64-bit immediate */
    } else {
        bytes[length++] = 0x81;
        bytes[length++] = (uint8_t)(0xc0 | diff_pick(w->seed, 8) << 3 | (reg & 7));
    }
    store_le32(bytes + length, (uint32_t)diff_random(w->seed));
    w->p->point[w->p->nr_points++] = (uint16_t)w->p->nr_items;
    tiers_add(w, TIERS_POINT, bytes, length + 4);
}

/* A store into a point, which is chosen when all are known: `target` is a random number until
 * then. */
static void add_patch(struct tiers_writer *w)
{
    static const uint8_t forms[][4] = {
        {1, 0x88},       /* mov [], r8 */
        {1, 0x89},       /* mov [], r32 */
        {2, 0x66, 0x89}, /* mov [], r16 */
        {1, 0x01},       /* add [], r32 */
        {1, 0x87},       /* xchg [], r32 */
        {2, 0xf0, 0x31}, /* lock xor [], r32 */
        {1, 0x11},       /* adc [], r32 */
    };
    const uint8_t *form = forms[diff_pick(w->seed, ARRAY_LEN(forms))];
    unsigned reg = (unsigned[]){CPU_RAX, CPU_RCX, CPU_RDX, CPU_RBX}[diff_pick(w->seed, 4)];
    uint8_t bytes[INSN_LENGTH_MAX];
    struct tiers_item *item;
    unsigned length = form[0];

    memcpy(bytes, form + 1, length);
    bytes[length++] = (uint8_t)(0x04 | reg << 3);
    bytes[length++] = 0x25;
    memset(bytes + length, 0, 4);
    item = tiers_add(w, TIERS_STORE, bytes, length + 4);
    item->displacement_offset = (uint8_t)length;
    item->target = (uint8_t)diff_random(w->seed);
    item->shift = (uint8_t)(form[1] == 0x88   ? diff_pick(w->seed, 4)
                            : form[1] == 0x66 ? diff_pick(w->seed, 3)
                                              : 0);
}

/* out TIERS_PORT, eax: the machine changes page tables; then the flush. RAX decides what. */
static void add_remap(struct tiers_writer *w)
{
    add_store_state(w, TIERS_STATE_FLUSH, (uint32_t)diff_random(w->seed));
    TIERS_ADD(w, TIERS_GLUE, 0xe7, TIERS_PORT);
    TIERS_ADD(w, TIERS_GLUE, 0xcd, TIERS_INT_FLUSH);
}

/* mov eax, [TIERS_MMIO_VA]: the device asks for an interrupt. */
static void add_device_read(struct tiers_writer *w)
{
    struct tiers_item *item = TIERS_ADD(w, TIERS_PLAIN, 0x8b, 0x04, 0x25, 0, 0, 0, 0);

    store_le32(item->bytes + 3, TIERS_MMIO_VA + 8 * diff_pick(w->seed, 4));
}

/* What only ring 0 may do, without an end to the program. */
static void add_system(struct tiers_writer *w)
{
    static const uint8_t forms[][5] = {
        {1, 0xfa},             /* cli */
        {1, 0xfb},             /* sti */
        {2, 0xfb, 0x90},       /* sti; nop */
        {3, 0x0f, 0x01, 0xcb}, /* stac */
        {3, 0x0f, 0x01, 0xca}, /* clac */
        {3, 0x0f, 0x01, 0xf8}, /* swapgs */
        {2, 0x9c, 0x58},       /* pushf; pop rax */
        {3, 0x0f, 0x20, 0xd0}, /* mov rax, cr2 */
        {2, 0x8c, 0xd2},       /* mov edx, ss */
        {2, 0xfb, 0xfa},       /* sti; cli: never an interrupt */
    };
    const uint8_t *form = forms[diff_pick(w->seed, ARRAY_LEN(forms))];

    if (w->p->ring0)
        tiers_add(w, TIERS_PLAIN, form + 1, form[0]);
}

static void add_extra(struct tiers_writer *w)
{
    if (w->p->wild && diff_pick(w->seed, 2)) {
        tiers_add_wild(w);
        return;
    }
    switch (diff_pick(w->seed, 19)) {
    case 0:
    case 1:
    case 2:
        add_patch(w);
        break;
    case 3:
    case 4:
    case 5:
        add_point(w);
        break;
    case 6:
        add_patch(w);
        add_point(w);
        break;
    case 7: /* a wild program would not flush */
        if (!w->p->wild)
            add_remap(w);
        break;
    case 12:
    case 13:
        tiers_add_toggle(w);
        break;
    case 14:
    case 15:
        tiers_add_toggle(w);
        tiers_add_switch(w);
        break;
    case 16:
    case 18:
        tiers_add_data_code(w);
        break;
    case 17:
        tiers_add_switch(w);
        break;
    case 8:
    case 9:
        add_system(w);
        break;
    default:
        add_device_read(w);
        break;
    }
}

bool tiers_dangerous(const struct tiers_program *p, const struct insn *insn)
{
    if (insn->id == INSN_INT)
        return true;
    return p->ring0 && ((insn->traits & INSN_TRAIT_PRIVILEGED) || insn->id == INSN_INT3 ||
                        insn->id == INSN_POPF || insn->id == INSN_CLI || insn->id == INSN_HLT);
}

static bool dangerous(const struct tiers_program *p, const struct diff_insn *in)
{
    struct insn insn;

    return insn_decode(in->bytes, in->length, INSN_MODE_64, &insn) != INSN_OK ||
           tiers_dangerous(p, &insn);
}

static void add_body(struct tiers_writer *w)
{
    enum diff_mode mode = (enum diff_mode)diff_pick(w->seed, 3);
    unsigned place[DIFF_INSNS_MAX + 1], first = w->p->nr_items;
    static struct diff_stream stream;

    diff_generate(w->features, mode, INSN_MODE_64, diff_random(w->seed), &stream);
    stream.nr_insns = MIN(stream.nr_insns, 6 + diff_pick(w->seed, 40));
    for (unsigned i = 0; i < stream.nr_insns; i++) {
        const struct diff_insn *in = &stream.insn[i];
        struct tiers_item *item;

        if (!diff_pick(w->seed, w->p->wild ? 4 : 8))
            add_extra(w);
        place[i] = w->p->nr_items;
        item = tiers_add(w, in->target ? TIERS_FORWARD : TIERS_PLAIN, in->bytes, in->length);
        item->target = in->target;
        item->displacement_offset = in->displacement_offset;
        item->displacement_size = in->displacement_size;
        item->removed = dangerous(w->p, in);
    }
    place[stream.nr_insns] = w->p->nr_items;
    for (unsigned i = first; i < w->p->nr_items; i++) {
        struct tiers_item *item = &w->p->item[i];

        if (item->kind == TIERS_FORWARD)
            item->target = (uint8_t)(place[MIN((unsigned)item->target, stream.nr_insns)] - i);
    }
}

/* A branch with a displacement of 32 bits to a segment. */
static void add_branch(struct tiers_writer *w, unsigned segment, const uint8_t *opcode,
                       unsigned length)
{
    uint8_t bytes[8] = {0};
    struct tiers_item *item;

    memcpy(bytes, opcode, length);
    item = tiers_add(w, TIERS_SEGMENT, bytes, length + 4);
    item->displacement_offset = (uint8_t)length;
    item->displacement_size = 4;
    item->target = (uint8_t)segment;
}

static void add_end(struct tiers_writer *w)
{
    unsigned next = diff_pick(w->seed, w->p->nr_segments);
    uint32_t entry = TIERS_STATE_VA + TIERS_STATE_TABLE + 8 * next;
    struct tiers_item *item;

    if (diff_pick(w->seed, 2)) {
        uint8_t jcc[2] = {0x0f, (uint8_t)(0x80 | diff_pick(w->seed, 16))};

        add_branch(w, diff_pick(w->seed, w->p->nr_segments), jcc, 2);
    }
    switch (diff_pick(w->seed, 6)) {
    case 0: /* jmp [table] */
        item = TIERS_ADD(w, TIERS_GLUE, 0xff, 0x24, 0x25, 0, 0, 0, 0);
        store_le32(item->bytes + 3, entry);
        break;
    case 1: /* push [table]; ret */
        tiers_add_mov(w, TIERS_GLUE, CPU_RSP, DIFF_SCRATCH_VA + 2048);
        item = TIERS_ADD(w, TIERS_GLUE, 0xff, 0x34, 0x25, 0, 0, 0, 0);
        store_le32(item->bytes + 3, entry);
        TIERS_ADD(w, TIERS_GLUE, 0xc3);
        break;
    case 2: /* call segment */
        tiers_add_mov(w, TIERS_GLUE, CPU_RSP, DIFF_SCRATCH_VA + 4096 + 8);
        add_branch(w, next, (const uint8_t[]){0xe8}, 1);
        break;
    case 3: /* mov r10, [table]; jmp r10 */
        item = TIERS_ADD(w, TIERS_GLUE, 0x4c, 0x8b, 0x14, 0x25, 0, 0, 0, 0);
        store_le32(item->bytes + 4, entry);
        TIERS_ADD(w, TIERS_GLUE, 0x41, 0xff, 0xe2);
        break;
    default:
        add_branch(w, next, (const uint8_t[]){0xe9}, 1);
        break;
    }
}

static void add_segment(struct tiers_writer *w, unsigned number)
{
    static const uint8_t pointers[] = {CPU_RBX, CPU_RBP, CPU_RSI, CPU_RDI, CPU_R13, CPU_R14};
    struct tiers_item *item;

    w->p->first[number] = (uint16_t)w->p->nr_items;
    w->p->gap[number] = (uint16_t)(diff_pick(w->seed, 2) ? 0 : diff_pick(w->seed, 400));
    w->p->page_end[number] = (uint16_t)(diff_pick(w->seed, 3) ? 0 : 1 + diff_pick(w->seed, 120));
    add_store_state(w, TIERS_STATE_NEXT, number);
    /* dec dword [left]; jns over; int end */
    item = TIERS_ADD(w, TIERS_GLUE, 0xff, 0x0c, 0x25, 0, 0, 0, 0);
    store_le32(item->bytes + 3, TIERS_STATE_VA + TIERS_STATE_LEFT);
    TIERS_ADD(w, TIERS_GLUE, 0x79, 0x02);
    TIERS_ADD(w, TIERS_GLUE, 0xcd, TIERS_INT_END);
    for (unsigned i = 0; i < ARRAY_LEN(pointers); i++)
        if (diff_pick(w->seed, 4))
            tiers_add_mov(w, TIERS_PLAIN, pointers[i], scratch(w));
    tiers_add_mov(w, TIERS_PLAIN, CPU_RSP, DIFF_SCRATCH_VA + 1024 + 8 * diff_pick(w->seed, 700));
    if (diff_pick(w->seed, 4))
        TIERS_ADD(w, TIERS_PLAIN, 0xfc); /* cld */
    if (diff_pick(w->seed, 4) == 0)
        TIERS_ADD(w, TIERS_PLAIN, 0xfb); /* sti */
    add_body(w);
    add_end(w);
}

static void resolve_points(struct tiers_program *p)
{
    for (unsigned i = 0; i < p->nr_items; i++) {
        struct tiers_item *item = &p->item[i];

        if (item->kind != TIERS_STORE)
            continue;
        item->removed = !p->nr_points;
        /* Half of the time the next one: soon, perhaps in the same block. */
        for (unsigned k = 0; k < p->nr_points && (item->target & 1); k++)
            if (p->point[k] > i) {
                item->target = (uint8_t)k;
                break;
            }
        if (p->nr_points)
            item->target %= p->nr_points;
    }
}

void tiers_generate(const struct diff_guest *features, uint64_t seed, struct tiers_program *ret)
{
    static struct diff_stream stream;
    uint64_t random = seed;
    static struct tiers_writer w;

    memset(ret, 0, sizeof(*ret));
    w.features = features;
    w.p = ret;
    w.seed = &random;
    tiers_pool_fill(&w);
    ret->seed = seed;
    ret->ring0 = diff_pick(&random, 2);
    ret->wild = !ret->ring0 && !diff_pick(&random, 3);
    ret->data_code_across = diff_pick(&random, 2);
    ret->smap = ret->ring0 && diff_pick(&random, 2);
    ret->global = diff_pick(&random, 2);
    ret->rounds = 20 + diff_pick(&random, 120);
    ret->nr_segments = 2 + diff_pick(&random, TIERS_SEGMENTS - 2);
    ret->interrupt_seed = (uint32_t)diff_random(&random);
    diff_generate(features, DIFF_MODE_ALL, INSN_MODE_64, diff_random(&random), &stream);
    ret->memory_seed = stream.memory_seed;
    ret->initial = stream.initial;
    ret->initial.rflags &= ~(uint64_t)CPU_FLAG_AC;
    if (!ret->ring0 && !ret->wild)
        ret->initial.rflags |= CPU_FLAG_IOPL;
    for (unsigned i = 0; i < ret->nr_segments; i++)
        add_segment(&w, i);
    ret->first[ret->nr_segments] = (uint16_t)ret->nr_items;
    resolve_points(ret);
    tiers_resolve(&w);
}

static void fix(struct tiers_program *p, unsigned number)
{
    const struct tiers_item *item = &p->item[number];
    uint8_t *at = p->code + p->offset[number], *field = at + item->displacement_offset;
    unsigned end = p->offset[number] + item->length, target;

    switch (item->kind) {
    case TIERS_FORWARD:
        target = p->offset[number + item->target];
        if (item->displacement_size == 1)
            *field = (uint8_t)MIN(target - end, 127u);
        else if (item->displacement_size == 2)
            store_le16(field, (uint16_t)(target - end));
        else
            store_le32(field, target - end);
        break;
    case TIERS_SEGMENT:
        store_le32(field, p->start[item->target] - end);
        break;
    case TIERS_STORE:
        target = p->point[item->target];
        target = p->offset[target] + p->item[target].length - 4u + item->shift;
        store_le32(field, DIFF_CODE_VA + target);
        break;
    default:
        tiers_fix_rewrite(p, number);
        break;
    }
}

bool tiers_item_gone(const struct tiers_program *p, const struct tiers_item *item)
{
    return item->removed ||
           (item->kind == TIERS_STORE && p->item[p->point[item->target]].removed) ||
           (item->kind == TIERS_TOGGLE && p->item[item->to].removed);
}

/* A page that is exchanged for its copy must not hold half of a switch. */
static unsigned behind_split(struct tiers_program *p, const struct tiers_item *item, unsigned at)
{
    unsigned page = (TIERS_PAGES - 2) * 4096;

    if (item->kind != TIERS_SWITCH || at >= page || at + item->length <= page)
        return at;
    memset(p->code + at, 0x90, page - at);
    return page;
}

bool tiers_layout(struct tiers_program *p)
{
    unsigned at = 0, most = (TIERS_PAGES - 1) * 4096;

    memset(p->code, 0xcc, sizeof(p->code));
    for (unsigned s = 0; s < p->nr_segments; s++) {
        at += p->gap[s];
        if (p->page_end[s])
            at = (unsigned)align_up(at + p->page_end[s], 4096) - p->page_end[s];
        p->start[s] = (uint16_t)at;
        for (unsigned i = p->first[s]; i < p->first[s + 1]; i++) {
            p->offset[i] = (uint16_t)at;
            if (tiers_item_gone(p, &p->item[i]))
                continue;
            p->offset[i] = (uint16_t)(at = behind_split(p, &p->item[i], at));
            if (at + p->item[i].length > most)
                return false;
            memcpy(p->code + at, p->item[i].bytes, p->item[i].length);
            at += p->item[i].length;
        }
    }
    for (unsigned i = 0; i < p->nr_items; i++)
        if (!tiers_item_gone(p, &p->item[i]))
            fix(p, i);
    /* The last page's other copy has other immediates. */
    memcpy(p->code + most, p->code + most - 4096, 4096);
    for (unsigned k = 0; k < p->nr_points; k++) {
        unsigned i = p->point[k], end = p->offset[i] + p->item[i].length;

        if (!p->item[i].removed && p->offset[i] >= most - 4096)
            p->code[end - 2 + 4096] ^= 0x55;
    }
    return true;
}
