/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves of the generator (tiers_program.c, tiers_rewrite.c) share. */
#ifndef LODGE_TESTS_DIFF_TIERS_WRITER_H
#define LODGE_TESTS_DIFF_TIERS_WRITER_H

#include "tiers.h"

struct tiers_writer {
    const struct diff_guest *features;
    struct tiers_program *p;
    uint64_t *seed;
    struct diff_stream pool; /* where the instructions of switches come from */
};

struct tiers_item *tiers_add(struct tiers_writer *w, enum tiers_item_kind kind, const void *bytes,
                             unsigned length);
#define TIERS_ADD(w, kind, ...) \
    tiers_add(w, kind, (const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}))
/* mov reg, value */
void tiers_add_mov(struct tiers_writer *w, enum tiers_item_kind kind, unsigned reg, uint32_t value);
/* What ring 0 must not do to itself. */
bool tiers_dangerous(const struct tiers_program *p, const struct insn *insn);

/* tiers_rewrite.c */
void tiers_pool_fill(struct tiers_writer *w);
void tiers_add_switch(struct tiers_writer *w);
void tiers_add_toggle(struct tiers_writer *w);
void tiers_add_wild(struct tiers_writer *w);
/* Instructions into a data page, perhaps across its end, and a call of them. */
void tiers_add_data_code(struct tiers_writer *w);
/* When all items are known: where they store. */
void tiers_resolve(struct tiers_writer *w);
/* tiers_layout: puts what the layout decides into the item's bytes in p->code. */
void tiers_fix_rewrite(struct tiers_program *p, unsigned number);

#endif
