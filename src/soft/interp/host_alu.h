/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic by the host's own instructions, so that every flag, undefined ones included, is what
 * this processor gives. Flags are in the layout of cpu->host_flags (op.h): FLAGS_IN brings all six
 * into the host's, FLAGS_OUT takes them back.
 */
#ifndef LODGE_SOFT_INTERP_HOST_ALU_H
#define LODGE_SOFT_INTERP_HOST_ALU_H

#include <stdint.h>

#define HOST_FLAGS_IN  "addb $0x7f, %%al\n\tsahf\n\t"
#define HOST_FLAGS_OUT "\n\tlahf\n\tseto %%al"

/* The operand modifier that names a register in each size. */
#define HOST_MODIFIER_8  "b"
#define HOST_MODIFIER_16 "w"
#define HOST_MODIFIER_32 "k"
#define HOST_MODIFIER_64 "q"

/* value = a OP b, all flags written whatever they were. */
#define HOST_DEFINE_BINARY(name, insn, bits)                                                  \
    static inline uint##bits##_t host_##name##bits(uint##bits##_t a, uint##bits##_t b,        \
                                                   uint64_t *flags)                           \
    {                                                                                         \
        uint64_t f = 0;                                                                       \
        __asm__(insn " %" HOST_MODIFIER_##bits "2, %" HOST_MODIFIER_##bits "0" HOST_FLAGS_OUT \
                : "+&r"(a), "+&a"(f)                                                          \
                : "r"(b)                                                                      \
                : "cc");                                                                      \
        *flags = f;                                                                           \
        return a;                                                                             \
    }

/* The same with flags as input (carry, or flags that the instruction leaves alone). */
#define HOST_DEFINE_BINARY_FLAGS(name, insn, bits)                                       \
    static inline uint##bits##_t host_##name##bits(uint##bits##_t a, uint##bits##_t b,   \
                                                   uint64_t *flags)                      \
    {                                                                                    \
        uint64_t f = *flags;                                                             \
        __asm__(HOST_FLAGS_IN insn " %" HOST_MODIFIER_##bits "2, %" HOST_MODIFIER_##bits \
                "0" HOST_FLAGS_OUT                                                       \
                : "+&r"(a), "+&a"(f)                                                     \
                : "r"(b)                                                                 \
                : "cc");                                                                 \
        *flags = f;                                                                      \
        return a;                                                                        \
    }

#define HOST_DEFINE_UNARY_FLAGS(name, insn, bits)                                     \
    static inline uint##bits##_t host_##name##bits(uint##bits##_t a, uint64_t *flags) \
    {                                                                                 \
        uint64_t f = *flags;                                                          \
        __asm__(HOST_FLAGS_IN insn " %" HOST_MODIFIER_##bits "0" HOST_FLAGS_OUT       \
                : "+&r"(a), "+&a"(f)                                                  \
                :                                                                     \
                : "cc");                                                              \
        *flags = f;                                                                   \
        return a;                                                                     \
    }

/* Shifts: count in CL (masked by the host as by the guest). */
#define HOST_DEFINE_SHIFT(name, insn, bits)                                           \
    static inline uint##bits##_t host_##name##bits(uint##bits##_t a, uint8_t count,   \
                                                   uint64_t *flags)                   \
    {                                                                                 \
        uint64_t f = *flags;                                                          \
        __asm__(HOST_FLAGS_IN insn " %%cl, %" HOST_MODIFIER_##bits "0" HOST_FLAGS_OUT \
                : "+&r"(a), "+&a"(f)                                                  \
                : "c"(count)                                                          \
                : "cc");                                                              \
        *flags = f;                                                                   \
        return a;                                                                     \
    }

/* a OP (b, CL) */
#define HOST_DEFINE_DOUBLE_SHIFT(name, insn, bits)                                             \
    static inline uint##bits##_t host_##name##bits(uint##bits##_t a, uint##bits##_t b,         \
                                                   uint8_t count, uint64_t *flags)             \
    {                                                                                          \
        uint64_t f = *flags;                                                                   \
        __asm__(HOST_FLAGS_IN insn " %%cl, %" HOST_MODIFIER_##bits "2, %" HOST_MODIFIER_##bits \
                "0" HOST_FLAGS_OUT                                                             \
                : "+&r"(a), "+&a"(f)                                                           \
                : "r"(b), "c"(count)                                                           \
                : "cc");                                                                       \
        *flags = f;                                                                            \
        return a;                                                                              \
    }

#define HOST_EACH_SIZE(define, name, insn) \
    define(name, insn, 8) define(name, insn, 16) define(name, insn, 32) define(name, insn, 64)
#define HOST_EACH_WIDE(define, name, insn) \
    define(name, insn, 16) define(name, insn, 32) define(name, insn, 64)

HOST_EACH_SIZE(HOST_DEFINE_BINARY, add, "add")
HOST_EACH_SIZE(HOST_DEFINE_BINARY, or, "or")
HOST_EACH_SIZE(HOST_DEFINE_BINARY_FLAGS, adc, "adc")
HOST_EACH_SIZE(HOST_DEFINE_BINARY_FLAGS, sbb, "sbb")
HOST_EACH_SIZE(HOST_DEFINE_BINARY, and, "and")
HOST_EACH_SIZE(HOST_DEFINE_BINARY, sub, "sub")
HOST_EACH_SIZE(HOST_DEFINE_BINARY, xor, "xor")
HOST_EACH_SIZE(HOST_DEFINE_BINARY, cmp, "cmp")
HOST_EACH_SIZE(HOST_DEFINE_BINARY, test, "test")
HOST_EACH_SIZE(HOST_DEFINE_UNARY_FLAGS, inc, "inc")
HOST_EACH_SIZE(HOST_DEFINE_UNARY_FLAGS, dec, "dec")
HOST_EACH_SIZE(HOST_DEFINE_UNARY_FLAGS, neg, "neg")
HOST_EACH_SIZE(HOST_DEFINE_UNARY_FLAGS, not, "not")
HOST_EACH_SIZE(HOST_DEFINE_SHIFT, rol, "rol")
HOST_EACH_SIZE(HOST_DEFINE_SHIFT, ror, "ror")
HOST_EACH_SIZE(HOST_DEFINE_SHIFT, rcl, "rcl")
HOST_EACH_SIZE(HOST_DEFINE_SHIFT, rcr, "rcr")
HOST_EACH_SIZE(HOST_DEFINE_SHIFT, shl, "shl")
HOST_EACH_SIZE(HOST_DEFINE_SHIFT, shr, "shr")
HOST_EACH_SIZE(HOST_DEFINE_SHIFT, sar, "sar")
HOST_EACH_WIDE(HOST_DEFINE_DOUBLE_SHIFT, shld, "shld")
HOST_EACH_WIDE(HOST_DEFINE_DOUBLE_SHIFT, shrd, "shrd")
HOST_EACH_WIDE(HOST_DEFINE_BINARY_FLAGS, imul, "imul")
HOST_EACH_WIDE(HOST_DEFINE_BINARY_FLAGS, bt, "bt")
HOST_EACH_WIDE(HOST_DEFINE_BINARY_FLAGS, bts, "bts")
HOST_EACH_WIDE(HOST_DEFINE_BINARY_FLAGS, btr, "btr")
HOST_EACH_WIDE(HOST_DEFINE_BINARY_FLAGS, btc, "btc")
HOST_EACH_WIDE(HOST_DEFINE_BINARY_FLAGS, bsf, "bsf")
HOST_EACH_WIDE(HOST_DEFINE_BINARY_FLAGS, bsr, "bsr")
/* Extensions: called only where the CPUID policy, which is cut from the host's, exposes them. */
HOST_EACH_WIDE(HOST_DEFINE_BINARY_FLAGS, popcnt, "popcnt")
HOST_EACH_WIDE(HOST_DEFINE_BINARY_FLAGS, lzcnt, "lzcnt")
HOST_EACH_WIDE(HOST_DEFINE_BINARY_FLAGS, tzcnt, "tzcnt")
HOST_DEFINE_BINARY_FLAGS(adcx, "adcx", 32)
HOST_DEFINE_BINARY_FLAGS(adcx, "adcx", 64)
HOST_DEFINE_BINARY_FLAGS(adox, "adox", 32)
HOST_DEFINE_BINARY_FLAGS(adox, "adox", 64)

/* Three-operand VEX forms: a = OP(b, c) with b the register (vvvv) and c the r/m operand; operands
 * of the assembler's order are passed in. */
#define HOST_DEFINE_VEX3(name, insn, bits)                                                      \
    static inline uint##bits##_t host_##name##bits(uint##bits##_t first, uint##bits##_t second, \
                                                   uint64_t *flags)                             \
    {                                                                                           \
        uint64_t f = *flags;                                                                    \
        uint##bits##_t a;                                                                       \
        __asm__(HOST_FLAGS_IN insn " %" HOST_MODIFIER_##bits "3, %" HOST_MODIFIER_##bits        \
                "2, %" HOST_MODIFIER_##bits "0" HOST_FLAGS_OUT                                  \
                : "=&r"(a), "+&a"(f)                                                            \
                : "r"(first), "r"(second)                                                       \
                : "cc");                                                                        \
        *flags = f;                                                                             \
        return a;                                                                               \
    }
#define HOST_DEFINE_VEX2(name, insn, bits)                                               \
    static inline uint##bits##_t host_##name##bits(uint##bits##_t b, uint64_t *flags)    \
    {                                                                                    \
        uint64_t f = *flags;                                                             \
        uint##bits##_t a;                                                                \
        __asm__(HOST_FLAGS_IN insn " %" HOST_MODIFIER_##bits "2, %" HOST_MODIFIER_##bits \
                "0" HOST_FLAGS_OUT                                                       \
                : "=&r"(a), "+&a"(f)                                                     \
                : "r"(b)                                                                 \
                : "cc");                                                                 \
        *flags = f;                                                                      \
        return a;                                                                        \
    }
#define HOST_EACH_VEX(define, name, insn) define(name, insn, 32) define(name, insn, 64)
HOST_EACH_VEX(HOST_DEFINE_VEX3, andn, "andn")
HOST_EACH_VEX(HOST_DEFINE_VEX3, bextr, "bextr")
HOST_EACH_VEX(HOST_DEFINE_VEX3, bzhi, "bzhi")
HOST_EACH_VEX(HOST_DEFINE_VEX3, pdep, "pdep")
HOST_EACH_VEX(HOST_DEFINE_VEX3, pext, "pext")
HOST_EACH_VEX(HOST_DEFINE_VEX3, sarx, "sarx")
HOST_EACH_VEX(HOST_DEFINE_VEX3, shlx, "shlx")
HOST_EACH_VEX(HOST_DEFINE_VEX3, shrx, "shrx")
HOST_EACH_VEX(HOST_DEFINE_VEX2, blsi, "blsi")
HOST_EACH_VEX(HOST_DEFINE_VEX2, blsmsk, "blsmsk")
HOST_EACH_VEX(HOST_DEFINE_VEX2, blsr, "blsr")

#endif
