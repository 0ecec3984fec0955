/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares one instruction as our decoder sees it with what Zydis makes of it. Differences that are
 * meant are in the table of exemptions of decode_exemptions.c, each with its reason; every other
 * one is counted, and the first of each kind is kept with its bytes.
 */
#ifndef LODGE_TESTS_DECODE_ORACLE_H
#define LODGE_TESTS_DECODE_ORACLE_H

#include "soft/decode/insn.h"

#include <Zydis/Zydis.h>
#include <stdbool.h>
#include <stdint.h>

enum oracle_field {
    FIELD_VALID = 1 << 0,
    FIELD_LENGTH = 1 << 1,
    FIELD_NAME = 1 << 2,
    FIELD_OPERANDS = 1 << 3, /* number, kind, register */
    FIELD_SIZE = 1 << 4,
    FIELD_ACCESS = 1 << 5,
    FIELD_MEMORY = 1 << 6,
    FIELD_IMMEDIATE = 1 << 7,
    FIELD_FLAGS_READ = 1 << 8,
    FIELD_FLAGS_WRITTEN = 1 << 9,
    FIELD_PARTS = 1 << 10, /* offsets of opcode, ModRM, displacement, immediate */
};

struct oracle_case {
    const uint8_t *bytes; /* INSN_LENGTH_MAX of them */
    enum insn_mode mode;
    enum insn_result result;
    struct insn ours;
    bool valid; /* Zydis: */
    ZydisDecodedInstruction theirs;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

#define ORACLE_KINDS_MAX 200

struct oracle {
    ZydisDecoder decoders[3];
    uint16_t id_of[ZYDIS_MNEMONIC_MAX_VALUE + 1]; /* enum insn_id; INSN_NONE: we have none */
    int8_t condition_of[ZYDIS_MNEMONIC_MAX_VALUE + 1];
    uint64_t nr_compared, nr_valid, nr_exempted;
    uint64_t nr_differences;
    struct oracle_kind {
        unsigned field;
        unsigned mnemonic, id;
        uint64_t count;
    } kinds[ORACLE_KINDS_MAX];
    unsigned nr_kinds;
};

void oracle_init(struct oracle *oracle);
/* `bytes` holds INSN_LENGTH_MAX bytes. */
void oracle_compare(struct oracle *oracle, const uint8_t *bytes, enum insn_mode mode);

/* The reason why the difference in `field` is meant, or NULL. */
const char *decode_exemption(const struct oracle_case *c, enum oracle_field field);

#endif
