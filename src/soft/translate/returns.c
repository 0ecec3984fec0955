/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stack of return points: the host stack of generated code.
 *
 *   RSP ▶ host address of the code behind the last guest CALL    (a guest CALL is a host call)
 *         ~ linear address that it pushed on the guest's stack
 *         ... of the call before, and so on; at the end two pairs that lead to return_empty
 *
 * A RET whose address is the pair's is a host ret; any other leaves the stack alone and asks the
 * jump table. So a pair is a hint about where a linear address is translated, and must be true
 * whenever it is there:
 *  1. Pairs are forgotten when mmu.epoch of their half of the address space moves, at INVLPG in
 *     that half, and when all translations are dropped. There is a stack for user mode and one
 *     for the rest, because what may be fetched differs.
 *  2. The code of a return point outlives its translation (its memory is kept until all are
 *     dropped), and does nothing but go to the next block by a link, which is cut when that
 *     block dies.
 *  3. Forgetting is moving RSP to the end: what lies below RSP is never read.
 * Calls without returns (longjmp, switched stacks) leave pairs behind. So every CALL polls, and
 * leaves generated code when RSP has come to the lower half of the memory; the stack then begins
 * anew. The lower half also holds the frames of signal handlers.
 *
 * Threads: the vCPU's own, except returns_kick (any).
 */
#include "soft/translate/translate_internal.h"

#include <errno.h>
#include <sys/mman.h>

/* Upper half: RETURNS_LIMIT is 1 in its addresses. */
#define RETURNS_LIMIT  UINT64_C(0x8000)
#define RETURNS_STRIDE (2 * RETURNS_LIMIT)
#define RETURNS_MAP    (RETURNS_STRIDE * (RETURNS_NR + 1))

static unsigned stack_of(unsigned number)
{
    return number != MMU_CLASS_USER;
}

int returns_init(struct translate *translate)
{
    uint8_t *map = mmap(NULL, RETURNS_MAP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                        0);

    if (map == MAP_FAILED)
        return -ENOMEM;
    translate->return_memory = map;
    for (unsigned i = 0; i < RETURNS_NR; i++) {
        uint64_t end = align_up((uintptr_t)map + i * RETURNS_STRIDE, RETURNS_STRIDE) +
                       RETURNS_STRIDE;
        uint64_t *pair = (void *)(uintptr_t)(end - 64);

        for (unsigned j = 0; j < 2; j++) {
            pair[2 * j] = (uintptr_t)translate->return_empty;
            pair[2 * j + 1] = ~UINT64_C(0); /* of address 0, where return_empty goes as well */
        }
        translate->return_base[i] = translate->return_rsp[i] = (uintptr_t)pair;
    }
    translate->return_current = RETURNS_NR;
    returns_kicked(translate);
    return 0;
}

void returns_done(struct translate *translate)
{
    if (translate->return_memory)
        munmap(translate->return_memory, RETURNS_MAP);
}

void returns_switch(struct translate *translate, unsigned number)
{
    struct translate_hot *hot = translate->hot;
    unsigned stack = stack_of(number);

    if (translate->return_current == stack)
        return;
    if (translate->return_current < RETURNS_NR)
        translate->return_rsp[translate->return_current] = hot->return_rsp;
    translate->return_current = stack;
    hot->return_rsp = translate->return_rsp[stack];
    hot->return_base = translate->return_base[stack];
}

static void forget(struct translate *translate, unsigned stack)
{
    translate->return_rsp[stack] = translate->return_base[stack];
    translate->return_foreign[stack] = false;
    if (translate->return_current == stack)
        translate->hot->return_rsp = translate->return_base[stack];
}

void returns_enter(struct translate *translate)
{
    unsigned stack = translate->return_current;

    /* Code of the other half pushes what is not forgotten with this half. */
    if (UNLIKELY(translate->hot->page >> 63 != stack))
        translate->return_foreign[stack] = true;
}

void returns_half_forget(struct translate *translate, unsigned half)
{
    forget(translate, half);
    if (translate->return_foreign[!half])
        forget(translate, !half);
}

void returns_forget(struct translate *translate)
{
    for (unsigned i = 0; i < RETURNS_NR; i++)
        forget(translate, i);
}

void returns_poll(struct translate *translate)
{
    if (!(translate->hot->return_rsp & RETURNS_LIMIT))
        forget(translate, translate->return_current);
}

void returns_kick(struct translate *translate)
{
    __atomic_store_n(&translate->hot->pending, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&translate->hot->go_on, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&translate->hot->call_poll, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&translate->hot->jump_mask, 0, __ATOMIC_SEQ_CST);
}

void returns_kicked(struct translate *translate)
{
    __atomic_store_n(&translate->hot->jump_mask, TRANSLATE_JUMP_MASK, __ATOMIC_SEQ_CST);
    __atomic_store_n(&translate->hot->call_poll, RETURNS_LIMIT, __ATOMIC_SEQ_CST);
    __atomic_store_n(&translate->hot->go_on, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&translate->hot->pending, 0, __ATOMIC_SEQ_CST);
}
