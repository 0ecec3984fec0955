/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both sides must do alike: the bytes of a stream with its branches and its end, the pages'
 * contents from their seed, and the random numbers themselves.
 */
#include "diff.h"

#include "base/util.h"

#include <signal.h>
#include <string.h>
#include <sys/time.h>

uint64_t diff_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

void diff_ticks_start(void (*handler)(int number))
{
    struct itimerval interval = {.it_interval = {.tv_usec = DIFF_TICK_US},
                                 .it_value = {.tv_usec = DIFF_TICK_US}};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART | SA_ONSTACK};

    if (handler)
        sigaction(SIGVTALRM, &action, NULL);
    setitimer(ITIMER_VIRTUAL, &interval, NULL);
}

unsigned diff_pick(uint64_t *seed, unsigned n)
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

/* jmp *DIFF_LEAVE_POINTER, of 64-bit code */
static unsigned put_leave(uint8_t *code)
{
    memcpy(code, "\xff\x24\x25", 3);
    store_le32(code + 3, DIFF_LEAVE_POINTER);
    return 7;
}

void diff_gate_fill(uint8_t *code)
{
    put_leave(code);
}

/* jmp far DIFF_SELECTOR_CODE_64:DIFF_GATE_VA, with a 32-bit offset */
static unsigned put_far_leave(uint8_t *code, bool is_16)
{
    unsigned length = 0;

    if (is_16)
        code[length++] = 0x66;
    code[length++] = 0xea;
    store_le32(code + length, DIFF_GATE_VA);
    store_le16(code + length + 4, DIFF_SELECTOR_CODE_64);
    return length + 6;
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
        else if (insn->displacement_size == 2)
            store_le16(code + offset[i] + insn->displacement_offset, (uint16_t)distance);
        else
            store_le32(code + offset[i] + insn->displacement_offset, (uint32_t)distance);
    }
    if (stream->code_mode == INSN_MODE_64)
        return length + put_leave(code + length);
    return length + put_far_leave(code + length, stream->code_mode == INSN_MODE_16);
}
