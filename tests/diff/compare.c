/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Are the two sides' results equal? Not compared: RF (the kernel's signal frame keeps it as it
 * likes), the last x87 instruction and operand addresses, and XSTATE_BV.
 */
#include "base/sanitizer.h"
#include "diff.h"

#include "base/util.h"

#include <stdarg.h>
#include <stdio.h>

static void add(struct diff_report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void add(struct diff_report *report, const char *format, ...)
{
    size_t used = strlen(report->text);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(report->text + used, sizeof(report->text) - used, format, arguments);
    va_end(arguments);
}

static void compare_value(struct diff_report *report, const char *what, uint64_t native,
                          uint64_t guest)
{
    if (native != guest)
        add(report, "  %s: native %llx, interpreted %llx\n", what, (unsigned long long)native,
            (unsigned long long)guest);
}

static void compare_vector(struct diff_report *report, const struct diff_state *native,
                           const struct diff_state *guest)
{
    static const struct {
        const char *name;
        unsigned offset, size, count, stride;
    } parts[] = {
        {"fcw", 0, 2, 1, 0},
        {"fsw", 2, 2, 1, 0},
        {"ftw", 4, 1, 1, 0},
        {"mxcsr", 24, 4, 1, 0},
        {"st", 32, 10, 8, 16},
        {"xmm", 160, 16, 16, 16},
        {"ymm upper", CPU_XSAVE_AVX_OFFSET, 16, 16, 16},
    };

    for (unsigned p = 0; p < ARRAY_LEN(parts); p++) {
        for (unsigned i = 0; i < parts[p].count; i++) {
            const uint8_t *a = native->xsave + parts[p].offset + i * parts[p].stride;
            const uint8_t *b = guest->xsave + parts[p].offset + i * parts[p].stride;

            if (!memcmp(a, b, parts[p].size))
                continue;
            add(report, "  %s%u: native ", parts[p].name, i);
            for (unsigned k = parts[p].size; k-- > 0;)
                add(report, "%02x", a[k]);
            add(report, ", interpreted ");
            for (unsigned k = parts[p].size; k-- > 0;)
                add(report, "%02x", b[k]);
            add(report, "\n");
        }
    }
}

/* Components that XSTATE_BV leaves out hold their initial values. */
static void normalise(struct diff_state *state)
{
    uint64_t present = load_le64(state->xsave + 512);

    if (!(present & CPU_XCR0_X87)) {
        memset(state->xsave, 0, 24);
        memset(state->xsave + 32, 0, 128);
        store_le16(state->xsave, 0x037f);
    }
    if (!(present & CPU_XCR0_SSE))
        memset(state->xsave + 160, 0, 256);
    if (!(present & CPU_XCR0_AVX))
        memset(state->xsave + CPU_XSAVE_AVX_OFFSET, 0, 256);
}

/* The kernel reports what is above the last user page as present; the guest has its own system
 * structures at DIFF_KERNEL_VA. */
static bool present_differs(uint64_t address)
{
    return address >= UINT64_C(0x7ffffffff000) || address - DIFF_KERNEL_VA < DIFF_KERNEL_SIZE;
}

/* Memory that only the native side has: the address sanitizer's shadow, in the child too. */
static bool only_native(const struct diff_result *guest)
{
    return SANITIZER_ADDRESS && guest->vector == CPU_VECTOR_PF &&
           guest->address >= UINT64_C(0x7fff0000) && guest->address < UINT64_C(0x100080000000);
}

/* Around the 4 GiB limit of a flat segment, whether an access that wraps faults on the limit is the
 * implementation's (SDM 3A 5.3). */
static bool limit_differs(const struct diff_stream *stream, const struct diff_result *native,
                          const struct diff_result *guest)
{
    if (stream->code_mode != INSN_MODE_32 || native->error ||
        (native->vector != CPU_VECTOR_SS && native->vector != CPU_VECTOR_GP))
        return false;
    return guest->vector == CPU_VECTOR_AC ||
           (guest->vector == CPU_VECTOR_PF &&
            (guest->address >= 0xffffffc0 || guest->address < 64));
}

/* The instruction that faulted; NULL: none. */
static const struct diff_insn *faulted_insn(const struct diff_stream *stream,
                                            const struct diff_result *guest)
{
    uint64_t base = stream->code_mode == INSN_MODE_16 ? 0 : DIFF_CODE_VA;
    uint16_t offset[DIFF_INSNS_MAX + 1];
    uint8_t code[DIFF_CODE_MAX];

    if (guest->vector == DIFF_COMPLETED)
        return NULL;
    diff_layout(stream, code, offset);
    for (unsigned i = 0; i < stream->nr_insns; i++)
        if (base + offset[i] == guest->rip)
            return &stream->insn[i];
    return NULL;
}

/* Control that went into the middle of bytes met INT1, which under a hypervisor may be a fault. */
static bool met_int1(const struct diff_stream *stream, const struct diff_result *native)
{
    uint64_t base = stream->code_mode == INSN_MODE_16 ? 0 : DIFF_CODE_VA;
    uint16_t offset[DIFF_INSNS_MAX + 1];
    uint8_t code[DIFF_CODE_MAX];

    return native->vector == CPU_VECTOR_DB &&
           native->rip - base < diff_layout(stream, code, offset) &&
           code[native->rip - base] == 0xf1;
}

static void compare_gprs(struct diff_report *report, const struct diff_stream *stream,
                         const struct diff_state *native, const struct diff_state *guest,
                         bool partial)
{
    bool is_64 = stream->code_mode == INSN_MODE_64;
    uint64_t mask = is_64 ? UINT64_MAX : UINT32_MAX;
    char name[8];

    for (unsigned i = 0; i < (is_64 ? CPU_NR_GPRS : CPU_R8); i++) {
        snprintf(name, sizeof(name), "r%u", i);
        if (!partial || i == CPU_RSP)
            compare_value(report, name, native->gpr[i] & mask, guest->gpr[i] & mask);
    }
}

bool diff_equal(const struct diff_stream *stream, const struct diff_result *native,
                const struct diff_result *guest, struct diff_report *report)
{
    const struct diff_insn *faulted = faulted_insn(stream, guest);
    uint64_t mask = ~(CPU_FLAG_RF | (faulted ? faulted->undefined_flags : stream->undefined_flags));
    char name[8];

    report->text[0] = 0;
    if (guest->lost) {
        add(report, "  interpreted: %s\n", guest->reason);
        return false;
    }
    /* A wild address hit the trampoline's page, which the child can write. */
    if (guest->vector == CPU_VECTOR_PF && guest->address - (DIFF_AREA_VA - 64) < 4096 + 128)
        return true;
    if (only_native(guest))
        return true;
    /* Control that went into the middle of bytes met x87 state that this stream does not set. */
    if (!stream->vector && (native->vector == CPU_VECTOR_MF || guest->vector == CPU_VECTOR_MF))
        return true;
    if (native->vector == DIFF_ENDLESS && guest->vector == DIFF_ENDLESS)
        return true;
    if (limit_differs(stream, native, guest))
        compare_value(report, "at", native->rip, guest->rip);
    else if (native->vector != guest->vector)
        add(report, "  exception (ff: none): native %x, interpreted %x\n", native->vector,
            guest->vector);
    if (native->vector != guest->vector && report->text[0])
        add(report,
            "  native at %llx, error %x, cr2 %llx; interpreted at %llx, error %x, cr2 %llx\n",
            (unsigned long long)native->rip, native->error, (unsigned long long)native->address,
            (unsigned long long)guest->rip, guest->error, (unsigned long long)guest->address);
    if (native->vector != DIFF_COMPLETED && native->vector == guest->vector) {
        if (!met_int1(stream, native))
            compare_value(report, "at", native->rip, guest->rip);
        if (native->vector == CPU_VECTOR_PF &&
            !(faulted && faulted->any_order && native->address - guest->address < 16))
            compare_value(report, "cr2", native->address, guest->address);
        if (native->vector == CPU_VECTOR_PF && present_differs(native->address))
            compare_value(report, "error code", native->error | 1, guest->error | 1);
        else
            compare_value(report, "error code", native->error, guest->error);
    }
    compare_gprs(report, stream, &native->state, &guest->state, faulted && faulted->partial);
    compare_value(report, "flags", native->state.rflags & mask, guest->state.rflags & mask);
    for (unsigned i = 0; i < DIFF_WRITABLE; i += 8) {
        if (load_le64(native->memory + i) == load_le64(guest->memory + i))
            continue;
        snprintf(name, sizeof(name), "m+%x", i);
        compare_value(report, name, load_le64(native->memory + i), load_le64(guest->memory + i));
        if (strlen(report->text) > sizeof(report->text) / 2)
            break;
    }
    if (stream->vector) {
        struct diff_state a = native->state, b = guest->state;

        normalise(&a);
        normalise(&b);
        compare_vector(report, &a, &b);
    }
    return !report->text[0];
}
