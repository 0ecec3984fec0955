/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of translate/ share: the memory that generated code addresses, what is known of a
 * translation, and the exits.
 *
 *   GS base                                    emit.h's base register
 *      ▼ stores (flat) │ struct translate_class ▼ loads (flat) │
 *
 * There is a struct translate_class for each class of data accesses (user, supervisor, supervisor
 * under SMAP). Its last page, struct translate_hot, is the same memory in all three.
 *
 * Invariants:
 *  1. Generated code reaches guest memory only by adding an addend to the address: one of
 *     translate_class.addend, at an index whose tag it has compared with the address just before;
 *     or one of the flat tables, found by some bits of the address, which leads to that page or to
 *     nothing (guard.c). Entries are written by view_fill alone, and give one page of one slot.
 *  2. write_tag is set only where the page is writable for the class, dirty in the guest's tables,
 *     not logged, and holds no decoded code.
 *  3. An instruction leaves generated code either complete or untouched: every check comes before
 *     the first write to a register, flag or memory. So each exit names an instruction that the
 *     interpreter runs from its beginning.
 *  4. Generated code changes status flags only where the guest's instruction does.
 */
#ifndef LODGE_SOFT_TRANSLATE_INTERNAL_H
#define LODGE_SOFT_TRANSLATE_INTERNAL_H

#include "soft/cache/code_cache.h"
#include "soft/fpu/thunk.h"
#include "soft/interp/cache.h"
#include "soft/translate/translate.h"

#define TRANSLATE_CACHE_LEAST (128u * KIB)
#define TRANSLATE_BLOCK_BYTES 24576u /* more than the code of any block */
#define TRANSLATE_INDEX       1024u
/* The bits of an address that are its index. Functions begin at multiples of 16, so low bits say
 * little; but two labels of a switch that drove each other out would be slow. */
#define TRANSLATE_JUMP_SHIFT 2
#define TRANSLATE_JUMP_MASK  ((TRANSLATE_JUMPS - 1) << TRANSLATE_JUMP_SHIFT)
#define TRANSLATE_JUMP_LOG   4096u
#define TRANSLATE_JUMPS      65536u
#define TRANSLATE_JUMP_PAGES 1024u
/* Targets that drive each other out of the table differ above its bits only. */
#define TRANSLATE_SECOND_MASK (UINT64_C(0xff) << TRANSLATE_JUMP_SHIFT | UINT64_C(0xf) << 18)
#define TRANSLATE_SECONDS     4096u
#define TRANSLATE_PAGES       4096u /* hash heads */
#define TRANSLATE_FAR_PAGES   16384u
#define TRANSLATE_KEPT        5u /* guest registers that live in memory */
#define RETURNS_NR            2u /* stacks of return points: user's, supervisor's */
#define FLAT_SHIFT            7u /* a granule of the flat tables: 128 bytes of address */
#define FLAT_SPAN             (1u << FLAT_SHIFT) /* what an entry allows behind an address in its granule */
#define FLAT_LOG              8192u
#define FLAT_PAGE             (4096u >> FLAT_SHIFT) /* granules of a page */
#define FLAT_INDEX_BITS       33u                   /* of a granule's number */
#define FLAT_ALIAS_BITS       38u /* addresses of one entry differ by a multiple of 2^38 */
/* Bits of an address that are the number of its granule. User mode: as many as 32-bit registers
 * hold. Kernels: Linux begins its areas at multiples of 2^40, and 40 and 41 tell them apart. */
#define FLAT_USER_MASK   ((UINT64_C(1) << 39) - (UINT64_C(1) << FLAT_SHIFT))
#define FLAT_KERNEL_LOW  ((UINT64_C(1) << 38) - (UINT64_C(1) << FLAT_SHIFT))
#define FLAT_KERNEL_MASK (FLAT_KERNEL_LOW | UINT64_C(3) << 40)
/* Bytes of a table of loads, or of stores. */
#define FLAT_SIZE (UINT64_C(8) << FLAT_INDEX_BITS)
/* Of 64 KiB of addresses each, which is a page of both tables. */
#define FLAT_TOUCHED_SHIFT 16u
/* The window's table (window.c): a byte for every 128 KiB of user addresses, a page for a block. */
#define WINDOW_BLOCK_SHIFT 29u
#define WINDOW_TABLE_SHIFT (WINDOW_BLOCK_SHIFT - 12u)
#define WINDOW_MASK        ((UINT64_C(1) << 47) - (UINT64_C(1) << WINDOW_TABLE_SHIFT))
#define WINDOW_TABLE_SIZE  (UINT64_C(1) << (47 - WINDOW_TABLE_SHIFT))
#define WINDOW_MARGIN      (UINT64_C(1) << 20) /* around a block, where nothing of ours is either */
#define WINDOW_NEAR        (1 << 19) /* a check of a register is one of what is so near to it */
#define WINDOW_SPAN        (1 << 16) /* ... and of what is so near to that */
#define WINDOW_BLOCKS      32u
#define WINDOW_PAGES       8192u
#define WINDOW_PLACES      32768u
#define TRANSLATE_RANGES   16u
#define TRANSLATE_PASSED   8192u
#define TRANSLATE_SEAMS    1024u
#define SEAM_AREA_BYTES    (TRANSLATE_SEAMS * 2 * GUEST_PAGE_SIZE)
#define LARGE_PAGE         ((size_t)1 << 21) /* of the host */
#define TRANSLATE_PAUSES   1024u             /* some 20 to 50 us of a guest that spins */

/* What stays of a word when a bit (or all but a few) are cleared without touching the flags. */
enum translate_keep {
    TRANSLATE_KEEP_NOT_IF,
    TRANSLATE_KEEP_NOT_DF,
    TRANSLATE_KEEP_NOT_AC,
    TRANSLATE_KEEP_DF,
    TRANSLATE_KEEP_STATUS,
    TRANSLATE_KEEP_PUSHED, /* neither the status flags nor RF and VM */
    TRANSLATE_KEEP_TSD,    /* of CR4 */
    TRANSLATE_KEEP_NO_FPU, /* EM and TS, of CR0 */
    TRANSLATE_KEEP_FSGSBASE,
    TRANSLATE_NR_KEEP,
};

/* C functions that generated code calls (callout.c). */
enum translate_callout {
    TRANSLATE_CALLOUT_SYSCALL,
    TRANSLATE_CALLOUT_SYSRET,
    TRANSLATE_CALLOUT_IRET,
    TRANSLATE_CALLOUT_STRING, /* hot.address: the code behind the instruction */
    TRANSLATE_NR_CALLOUTS,
};

struct translate_hot {
    union {
        struct {
            uint64_t pending;     /* nonzero: leave at the next poll; other threads set it */
            uint64_t host_rsp;    /* of C, while generated code runs */
            uint64_t return_rsp;  /* of generated code, while it does not: returns.c */
            uint64_t return_base; /* that of the empty stack */
            uint64_t spilled;     /* RCX, in the trampolines */
            uint64_t pauses;      /* PAUSEs until the processor is offered to others */
            uint64_t seam_wait;   /* exact checks until one leaves: seams.c */
            uint64_t vector_left; /* nonzero: they were loaded until the last exit */
            uint64_t avx_here;    /* as vector_here, and the guest has enabled AVX */
            uint64_t target; /* of an indirect call or PUSH of memory, between its two accesses */
            uint64_t target_code;
            uint64_t index_mask, second_mask;
            uint64_t check_mask[7]; /* page bits; with the bits below 1 << i too */
            uint64_t address;       /* R10 at the last exit */
            uint64_t enter;         /* where to go in */
            uint64_t cpu;           /* struct soft_cpu */
            uint32_t mxcsr_host, reserved;
            uint64_t keep[TRANSLATE_NR_KEEP]; /* enum translate_keep: masks of RFLAGS for PEXT and
                                                 PDEP */
            uint64_t low_bits[2];             /* 31, 63 */
            uint64_t class_base[MMU_NR_CLASSES];
            uint32_t seen_epoch[MMU_NR_CLASSES][2]; /* mmu.epoch, as the class's tables follow it */
            uint64_t gs;                            /* what the GS base is; 0: not known */
            uint64_t shadow; /* linear address behind the last STI that generated code executed */
            uint32_t leave_with; /* in a callout: its exit; after one that returned NULL: the one to
                                    take */
            uint32_t smap;       /* CR4.SMAP at the last entry */
            /* x87.c. Of the last instruction: offset in x87_page, FOP above; of its memory operand:
             * address and segment. TRANSLATE_X87_NONE: none since the state was loaded or settled.
             */
            uint64_t x87_absent; /* the x87 state is in fpu.area, not in the host's registers */
            uint64_t x87_page, x87_data;
            uint32_t x87_last, x87_segment;
        };
        uint8_t seldom[4096 - 8 * (TRANSLATE_RANGES + 10 + TRANSLATE_KEPT)];
    };
    /* What generated code reaches from emit.h's base register with a displacement of one byte: the
     * last 16 words of the page, of `range` the end. */
    uint64_t range[TRANSLATE_RANGES]; /* addends, while a block runs; those used first are last */
    uint64_t kept[TRANSLATE_KEPT];    /* guest R9, R10, R11, R14, R15 */
    uint64_t page;            /* linear address of the page that the running block lies in */
    uint64_t go_on;           /* 0 when `pending` */
    uint64_t call_poll;       /* bits of RSP without which a CALL leaves: none when `pending` */
    uint64_t vector_here;     /* nonzero: the vector registers are the host's; 0: in fpu.area */
    uint64_t segment_base[2]; /* FS, GS */
    uint64_t jump_mask;       /* TRANSLATE_JUMP_MASK; 0 when `pending`: every look misses */
    uint64_t flat_mask, flat_user_mask, window_mask;
};

struct translate_class {
    /* In a large page of their own: every indirect jump looks at a random place of both. */
    _Alignas(LARGE_PAGE) uint64_t jump_tag[TRANSLATE_JUMPS]; /* negated linear address */
    uint64_t jump_code[TRANSLATE_JUMPS];
    /* What others have driven out of there (TRANSLATE_SECOND_MASK). */
    uint64_t second_tag[TRANSLATE_SECONDS];
    uint64_t second_code[TRANSLATE_SECONDS];
    /* Negated: tag + address is the offset in the page when the entry is the address's. */
    _Alignas(LARGE_PAGE) uint64_t read_tag[TRANSLATE_INDEX];
    uint64_t write_tag[TRANSLATE_INDEX];
    uint64_t addend[TRANSLATE_INDEX];
    _Alignas(4096) struct translate_hot hot;
};

/*
 * Around each struct translate_class, when the host has the addresses: the flat tables, an addend
 * for every granule of 128 bytes, 0 where there is none. The number of a granule is bits 7 to 38 of
 * its linear address in user mode, bits 7 to 37, 40 and 41 for a kernel (view.c). That of granule i
 * for loads is at FLAT_LOAD + 8i from the class, for stores at 8i - FLAT_SIZE; before these is the
 * window's table, where the GS base is. A page's last
 * granule has one only where the host's memory goes on with the next page (seams.c), so that every
 * access of up to FLAT_SPAN + 1 bytes that begins in a granule with an entry finds all its bytes.
 */
/* From the GS base to emit.h's base register. */
#define TRANSLATE_BASE (WINDOW_TABLE_SIZE + FLAT_SIZE + FLAT_LOAD)
#define FLAT_LOAD      ((uint32_t)(offsetof(struct translate_class, hot) + 4096))
_Static_assert(sizeof(struct translate_hot) == 4096, "the flat table of loads begins behind it");

/* Why generated code is left: low bits of what it returns, over the operation and the
 * translation's number. */
enum translate_exit {
    TRANSLATE_EXIT_LOAD,    /* hot.address is not cached for reading */
    TRANSLATE_EXIT_STORE,   /* hot.address is not cached for writing */
    TRANSLATE_EXIT_ONE,     /* interpret this instruction, then go on behind it */
    TRANSLATE_EXIT_REST,    /* interpret from this instruction to the block's end */
    TRANSLATE_EXIT_LINK,    /* direct jump, not yet linked: operation field = slot */
    TRANSLATE_EXIT_GOTO,    /* the block is done, hot.address is the next RIP */
    TRANSLATE_EXIT_POLL,    /* hot.pending was set, before this instruction */
    TRANSLATE_EXIT_VECTOR,  /* vector registers are wanted, at the block's start */
    TRANSLATE_EXIT_CAREFUL, /* a range is not in one cached page: on in the careful translation */
    TRANSLATE_EXIT_PAUSE,   /* hot.pauses are used up, before this instruction */
    TRANSLATE_EXIT_GUARD,   /* REST, because the host stopped this instruction: guard.c */
};
#define TRANSLATE_EXIT_BITS 4u
#define TRANSLATE_OP_BITS   6u
#define TRANSLATE_SHIFT     (TRANSLATE_EXIT_BITS + TRANSLATE_OP_BITS)

/* Written by the vCPU's thread, read by any: figures.c. */
struct translate_counts {
    uint64_t instructions; /* translated */
    uint64_t code_bytes;   /* made of them */
    uint64_t flushes;      /* everything dropped */
    uint64_t killed;       /* translations whose code was written to, or evicted */
    uint64_t jump_flushes; /* jump tables emptied */
    uint64_t link_cuts;    /* jumps between pages that became exits or lookups again */
    uint64_t exits[1u << TRANSLATE_EXIT_BITS];
    uint64_t handbacks[INSN_NR_IDS]; /* by the instruction that the interpreter was given */
};

#define TRANSLATE_X87_NONE UINT32_MAX

struct translate_link {
    uint8_t *patch; /* writable address of the jump's displacement; NULL: slot not used */
    const uint8_t *stub;
    int32_t target; /* offset from the start of the page */
    bool far;       /* it is in another page; R10 = linear address of that at the jump */
    bool listed;    /* in a list by far_next */
    struct translate_link *next, **back; /* of those that jump to the same translation; back NULL:
                                            not patched to one */
    struct translate_link *far_next;
    const uint8_t *lookup;       /* code that asks the jump table; NULL: not made */
    struct translate_page *page; /* far: where it is */
};

/* A page that translations lie in. */
struct translate_page {
    struct translate_page *next;
    gpa_t gpa;
    uint64_t linear;     /* where it has been executed; UINT64_MAX: nowhere */
    uint32_t nr_flushes; /* translate.nr_flushes of that half then */
    /* Translations that were entered through a jump table; translate.nr_jump_flushes when they were
     * put into each class's. */
    struct translation *targets;
    uint32_t tables[MMU_NR_CLASSES];
    uint32_t key; /* the blocks' */
    bool aliased; /* at other addresses too */
};

struct translation {
    struct interp_block *block; /* NULL: dead */
    const uint8_t *entry;       /* hot.page is set */
    const uint8_t *entry_far;   /* R10 = linear address of the block */
    const uint8_t *entry_page;  /* R10 = that of its page */
    uint32_t number;
    uint32_t code_bytes; /* from entry_far */
    uint32_t cold;       /* where its code at the cache's end begins: up to the last one's */
    uint16_t start;      /* offset in the page */
    uint8_t nr_ops, nr_links;
    bool vector, avx, x87;       /* wants these registers loaded */
    bool ranged;                 /* has ranges (ranges.c): entered at its start only */
    struct translation *careful; /* of the same block, without; made when it is wanted */
    uint32_t *careful_jump; /* of each operation's exit CAREFUL: the displacement, from entry */
    struct translate_page *page;
    struct translate_link *link; /* [nr_links] */
    struct translate_link *incoming;
    struct translation *next_target;
    uint8_t tables; /* classes that it was put into the jump table of */
    uint8_t nr_guard_exits;
    bool target; /* in page->targets */
    /* For TRANSLATE_EXIT_ONE: pairs of the operation and an op_end, by position. */
    struct interp_op *single;
    uint32_t offset[]; /* of each operation's code from entry */
};

/* A place in the area where two guest pages are mapped side by side. */
struct translate_seam {
    const uint8_t *host[2]; /* of what; NULL: nothing */
    uint64_t page;          /* linear address of the first, in the class */
    uint8_t number;
    bool crossed; /* accesses go beyond, where nothing is */
};

/* A page of the guest's in the window, small or of 2 MiB. */
struct window_page {
    uint64_t linear; /* WINDOW_LARGE: it is of 2 MiB */
    uint64_t host;   /* its place in guest memory; WINDOW_WRITE: for stores too. 0: not any more */
};
#define WINDOW_WRITE 1u
#define WINDOW_LARGE 1u

/* Addresses of the host that are the guest's alone. */
struct window_block {
    uint32_t number;         /* of its address, over WINDOW_BLOCK_SHIFT */
    bool used;               /* has pages */
    uint64_t at, size_bytes; /* what was taken for it */
};

/* An address space: CR3's address, for long as a page of its stack is what it was. */
struct window_space {
    uint64_t root; /* 0: none */
    gva_t stack;
    gpa_t stack_gpa;
};

struct translate_window {
    bool possible;
    bool on;                   /* the pages are those of the present mapping, and code uses them */
    struct window_space owner; /* whose pages they are */
    uint32_t nr_blocks;
    struct window_block block[WINDOW_BLOCKS];
    /* In the order in which they came, and by hash, where they are, plus 1. */
    struct window_page *page; /* [WINDOW_PAGES] */
    uint16_t *place;          /* [WINDOW_PLACES] */
    uint32_t nr_pages, nr_large;
    bool cut;          /* some small ones are parts of the guest's large ones */
    uint64_t expected; /* the page that was missing when the guest got a page fault, if any */
    /* When: ns of the monotonic clock. */
    struct window_space candidate; /* who might be the next owner */
    int64_t candidate_since;
    int64_t candidate_pages; /* the most that it has touched between changes of CR3 */
    uint64_t declined;       /* CR3's address, whose pages lie where others do */
    int64_t since, resume_at, not_before, sync_cost, penalty, pause;
    uint32_t nr_foreign; /* since it began */
    int64_t credit;      /* so many faults more, at credit_since */
    int64_t credit_since;
    uint32_t last_exit; /* of the last fault, and its page and whether it was a store */
    uint64_t last_page;
    struct {
        uint64_t begun, resumed, mapped, faults;
    } counts;
};

struct translate {
    struct translate_class *region[MMU_NR_CLASSES];
    uint8_t *class_map[MMU_NR_CLASSES]; /* the memory that each is in */
    struct translate_hot *hot;
    struct code_cache code;
    size_t code_start; /* behind the trampolines */
    uint8_t *arena;
    size_t arena_size, arena_used;
    struct translation **table;
    uint32_t nr_translations;
    struct translate_counts counts;
    uint32_t where; /* the last exit, until something else is run: for position.c; 0: nothing */
    uint32_t generation; /* counts translate_flushed */
    uint32_t patience;   /* runs of a block before it is translated */
    int64_t flushed_s;   /* when everything was dropped last */
    bool full;           /* drop everything before the next block */
    uint64_t settle_at;  /* when the code of the machine's start is forgotten, once; 0: it was */
    /* What jump_code leads to; and which pages, hashed, have an entry: INVLPG of others leaves the
     * table alone. */
    struct translation *jump_translation[MMU_NR_CLASSES][TRANSLATE_JUMPS];
    struct translation *second_translation[MMU_NR_CLASSES][TRANSLATE_SECONDS];
    uint32_t nr_seconds[MMU_NR_CLASSES];                   /* put there since the last flush */
    uint16_t jump_log[MMU_NR_CLASSES][TRANSLATE_JUMP_LOG]; /* indexes filled since the last flush */
    uint32_t nr_jump_log[MMU_NR_CLASSES];
    uint32_t nr_jump_flushes[MMU_NR_CLASSES];
    uint64_t jump_pages[MMU_NR_CLASSES][TRANSLATE_JUMP_PAGES / 64];
    struct translate_page *page_hash[TRANSLATE_PAGES];
    /* By the half of the address space: patched to their targets; to the jump table; pages that the
     * former lead to, hashed; how often mappings were forgotten. */
    struct translate_link *far_links[2], *far_lookups[2];
    uint64_t far_pages[2][TRANSLATE_FAR_PAGES / 64];
    uint32_t nr_flushes[2];
    uint32_t stable_epoch; /* of the lower half, which began before stable_since */
    bool stable;
    int64_t stable_since, stable_next; /* when lookups are looked at again */
    uint32_t (*enter)(struct soft_cpu *cpu);
    uint32_t (*enter_vector)(struct soft_cpu *cpu); /* upper halves of YMM are 0 */
    uint32_t (*enter_wide)(struct soft_cpu *cpu);
    const uint8_t *leave;
    const uint8_t *return_miss, *return_empty, *jump_miss, *call_miss;
    const uint8_t *check[2]; /* exact checks of loads and stores, one behind the other */
    const uint8_t *check_end;
    uint8_t *return_memory;           /* both stacks */
    uint64_t return_base[RETURNS_NR]; /* of each stack */
    uint64_t return_rsp[RETURNS_NR];  /* of the one that hot does not hold */
    bool return_foreign[RETURNS_NR];  /* may hold pairs of the other half of the address space */
    unsigned return_current;          /* which one hot holds */
    const uint8_t
        *callout[TRANSLATE_NR_CALLOUTS]; /* ECX = exit if it declines, R10 = hot.address */
    uint64_t no_tag[TRANSLATE_INDEX], no_jump[TRANSLATE_JUMPS], no_second[TRANSLATE_SECONDS];
    bool flat; /* there are flat tables */
    /* Pages with entries, by class and half of the address space. */
    uint64_t flat_log[MMU_NR_CLASSES][2][FLAT_LOG];
    uint32_t flat_host[MMU_NR_CLASSES][2][FLAT_LOG]; /* of its place in the host, low bits */
    uint32_t nr_flat_log[MMU_NR_CLASSES][2];
    /* Which pages of the flat tables have been touched (one bit for 64 KiB of addresses), so that
     * their memory has a cap. */
    uint64_t *flat_touched[MMU_NR_CLASSES];
    uint32_t nr_flat_touched;
    uint32_t passed[TRANSLATE_PASSED]; /* pages of view_pass, hashed: class and address */
    uint8_t *seam_area;                /* NULL: none */
    uint64_t fault_address;            /* of the last exit GUARD, in the host */
    bool fault_page, fault_write;      /* it was a page fault, of a store */
    struct translate_window window;
    unsigned nr_seams; /* a power of two */
    struct translate_seam seam[TRANSLATE_SEAMS];
    /* Handshake of translate_stores_revoke_*: written by any thread. */
    uint64_t revoke; /* the host's address of the page; all ones: of all */
    uint32_t inside;
    struct translation nobody; /* number 0; last, for its array of no members */
};

#define TRANSLATE_TABLE_MAX (1u << 20)

/* The instruction of each operation: behind translation.offset. */
static inline uint16_t *translation_ids(struct translation *t)
{
    return (uint16_t *)&t->offset[t->nr_ops];
}

/* What RSP lacks, in words, at each operation's beginning (of PUSHes or POPs in a row): behind
 * these. Only an exit GUARD may find it so. */
static inline int8_t *translation_rsp_pending(struct translation *t)
{
    return (int8_t *)&translation_ids(t)[t->nr_ops];
}

/* returns.c: -errno */
int returns_init(struct translate *translate);
void returns_done(struct translate *translate);
/* Makes the stack of this class of data accesses hot's. */
void returns_switch(struct translate *translate, unsigned number);
/* Before each entry, hot.page is set. */
void returns_enter(struct translate *translate);
/* No return point is known any more, of code in this half of the address space (by bit 63); of all
 * code. */
void returns_half_forget(struct translate *translate, unsigned half);
void returns_forget(struct translate *translate);
/* At a poll: begins anew when the stack is nearly full. */
void returns_poll(struct translate *translate);
/* What translate_kick sets, and its end. */
void returns_kick(struct translate *translate);
void returns_kicked(struct translate *translate);
/* 64-bit code at CPL 0 or 3 (what generated code relies on), and accesses that need no look at
 * alignment or debug registers. */
static inline bool translate_possible(const struct soft_cpu *cpu)
{
    return cpu->code_mode == INSN_MODE_64 && cpu->mmu.tag[0] != MMU_TAG_NEVER &&
           (cpu->cpl == 0 || cpu->cpl == 3);
}

/* The x87 pointers, from what generated code has noted. */
static inline void x87_settle(struct soft_cpu *cpu, struct translate_hot *hot)
{
    bool zero = cpu->fpu.thunks->zero_selectors;

    if (hot->x87_last != TRANSLATE_X87_NONE) {
        cpu->fpu.area.fip = hot->x87_page + (hot->x87_last & GUEST_PAGE_MASK);
        cpu->fpu.area.fop = (uint16_t)(hot->x87_last >> GUEST_PAGE_SHIFT & 0x7ff);
        cpu->fpu.fcs = zero ? 0 : cpu->segment[CPU_CS].selector;
        hot->x87_last = TRANSLATE_X87_NONE;
    }
    if (hot->x87_segment < CPU_NR_SEGMENTS) {
        cpu->fpu.area.fdp = hot->x87_data;
        cpu->fpu.fds = zero ? 0 : cpu->segment[hot->x87_segment].selector;
        hot->x87_segment = TRANSLATE_X87_NONE;
    }
}

/* trampoline.c */
int trampolines_emit(struct translate *translate);

/*
 * callout.c. Called with the registers that C does not preserve, and RSP, in cpu->gpr (R9, R10,
 * R11, R14 and R15 in hot.kept), the status flags in cpu->host_flags; the vector registers may be
 * the guest's: this file is compiled to leave them alone. `exit` names the instruction. Returns
 * where generated code goes on, with R10 = hot.address, or NULL: it leaves with hot.leave_with.
 */
typedef const uint8_t *translate_callout_fn(struct soft_cpu *cpu, uint32_t exit);
extern translate_callout_fn *const translate_callouts[TRANSLATE_NR_CALLOUTS];

/* x87.c. May the state be loaded; load it before generated code is entered; take it back. */
bool x87_allowed(const struct soft_cpu *cpu);
void x87_load(struct soft_cpu *cpu);
void x87_save(struct soft_cpu *cpu);

/* view.c. view_init: empty tables, and translate->hot. */
int view_init(struct soft_vm *vm, struct translate *translate);
void view_done(struct translate *translate);
/* Forgets in the current class what mmu.epoch says. */
void view_sync(struct soft_cpu *cpu);
/* Before generated code is entered: stores that were revoked. */
void view_obey(struct translate *translate);
/* Caches the page of hot.address for loads (and stores) if it can be. False: the instruction is to
 * be interpreted; with *ret_fault, cpu->fault is what the access raises. */
bool view_fill(struct soft_cpu *cpu, bool write, bool *ret_fault);

/* For a string instruction on its way through the page of hot.address: the first time only the
 * interpreter's TLB gets it, where the callout looks as well. Results as view_fill's. */
bool view_pass(struct soft_cpu *cpu, bool write, bool *ret_fault);

/* The number of an address's granule in this class. */
static inline uint64_t flat_granule(unsigned number, uint64_t address)
{
    if (number == MMU_CLASS_USER)
        return (address & FLAT_USER_MASK) >> FLAT_SHIFT;
    return (address & FLAT_KERNEL_LOW) >> FLAT_SHIFT | (address >> 40 & 3) << (38 - FLAT_SHIFT);
}

/* Of a page's first granule. */
static inline uint64_t *flat_loads(const struct translate *translate, unsigned number,
                                   uint64_t page)
{
    uint8_t *table = (uint8_t *)translate->region[number] + FLAT_LOAD;

    return (uint64_t *)(void *)table + flat_granule(number, page);
}

static inline uint64_t *flat_stores(const struct translate *translate, unsigned number,
                                    uint64_t page)
{
    uint8_t *table = (uint8_t *)translate->region[number] - FLAT_SIZE;

    return (uint64_t *)(void *)table + flat_granule(number, page);
}

static inline uint8_t *window_table(const struct translate *translate)
{
    return (uint8_t *)translate->region[MMU_CLASS_USER] - FLAT_SIZE - WINDOW_TABLE_SIZE;
}

/* Does the page's part of a flat table have memory? (Where it has not, all entries are 0.) */
static inline bool flat_is_touched(const struct translate *translate, unsigned number,
                                   uint64_t page)
{
    uint64_t bit = flat_granule(number, page) >> (FLAT_TOUCHED_SHIFT - FLAT_SHIFT);

    return translate->flat_touched[number][bit / 64] >> (bit % 64) & 1;
}

/* guard.c. Are faults of generated code exits GUARD? */
bool faults_come_here(void);
/* May pages of guest memory at this host address be in flat tables? */
bool guard_covers(struct soft_vm *vm, const uint8_t *host);
/* SEAM_AREA_BYTES for each vCPU, guarded as guest memory is; NULL: there was no room. */
uint8_t *guard_area(const struct soft_vm *vm);
/* Takes what guards the memory that there is now, before other things lie there. */
void guards_reserve(struct soft_vm *vm);
/* Pieces of guest memory that have no guard. */
unsigned guards_missing(const struct soft_vm *vm);
/* What the thread is running: set around each entry of generated code. */
extern __thread struct translate *guard_running;

/* window.c */
enum window_result {
    WINDOW_AGAIN,     /* the access will do now */
    WINDOW_INTERPRET, /* it is not the window's */
    WINDOW_FAULT,     /* ... and cpu->fault is what it raises */
};
void window_init(struct soft_cpu *cpu);
void window_done(struct translate *translate);
/* At a poll of user code: is it time? */
void window_poll(struct soft_cpu *cpu);
/* Before user code is looked for. */
void window_enter_slow(struct soft_cpu *cpu);
/* At an exit GUARD of code that uses the window. */
enum window_result window_fault(struct soft_cpu *cpu, uint32_t exit);
/* What the user class may access has changed: a page is no more; the page at this host address is
 * for loads alone, or all are; the whole mapping (view_sync has forgotten the code). */
void window_page_gone(struct translate *translate, uint64_t address);
void window_host_revoke(struct translate *translate, uint64_t host);
void window_clear(struct translate *translate);
void window_changed(struct soft_cpu *cpu);

static inline void window_enter(struct soft_cpu *cpu)
{
    if (UNLIKELY(cpu->translate->window.expected ||
                 cpu->vm->translate_window == SOFT_WINDOW_ALWAYS))
        window_enter_slow(cpu);
}

/* seams.c */
void seams_init(struct soft_cpu *cpu);
/* This page or the next has new entries: that of its last granule, if it costs nothing. */
void seam_keep(struct soft_cpu *cpu, unsigned number, uint64_t page);
/* At an exit LOAD, STORE or CAREFUL: was it (perhaps) because hot.seam_wait has run out? Then the
 * page of hot.address has a seam now, if it can have one. */
bool seam_due(struct soft_cpu *cpu);
/* At an exit GUARD: was it an access beyond a seam, which is no more? */
bool seam_crossed(struct translate *translate);

/* jumps.c */
void jumps_init(struct translate *translate);
void jumps_flush(struct translate *translate);
/* Of one translation. */
void jumps_forget(struct translate *translate, const struct translation *t);
/* half: by bit 63 of the address */
void jumps_half_flush(struct translate *translate, unsigned number, unsigned half);
/* INVLPG */
void jumps_page_flush(struct translate *translate, gva_t address);
/* The translation at RIP, if the current class's table has it; and to have it from now on. */
struct translation *jumps_find(struct soft_cpu *cpu);
void jumps_add(struct soft_cpu *cpu, struct translation *t);
/* What the user class's table has for an address; it must be up to date. */
struct translation *jumps_user_find(const struct translate *translate, gva_t address);

/* links.c. The record of a page; there must be room in the arena. */
struct translate_page *page_of(struct translate *translate, gpa_t gpa, uint32_t key);
/* `t` is about to be entered at this linear address. */
void page_seen(struct translate *translate, struct translation *t, gva_t address);
/* `link` was left, and the next block, at RIP, is `to`. */
void link_make(struct soft_cpu *cpu, struct translation *from, struct translate_link *link,
               struct translation *to);
/* Jumps to `t` become exits again; those that depend on mappings in this half of the address space,
 * or of this page (INVLPG). */
void links_cut(struct translate *translate, struct translation *t);
void links_half_cut(struct translate *translate, unsigned half);
void links_page_cut(struct translate *translate, gva_t address);
/* At a poll, some milliseconds apart: is the lower half worth linking? */
void links_stable(struct soft_cpu *cpu);
/* All translations are gone. */
void links_flushed(struct translate *translate);

/* branch.c: code that goes on to this link's target through the jump table. NULL: no room. */
const uint8_t *translate_lookup(struct translate *translate, const struct translate_link *link);
/* block.c: NULL when the block is not for this tier or there is no room (translate->full). */
struct translation *translate_block(struct soft_cpu *cpu, struct interp_block *block, bool careful);

#endif
