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

bool diff_equal(const struct diff_stream *stream, const struct diff_result *native,
                const struct diff_result *guest, struct diff_report *report)
{
    uint64_t mask = ~CPU_FLAG_RF;
    char name[8];

    report->text[0] = 0;
    if (guest->lost) {
        add(report, "  interpreted: %s\n", guest->reason);
        return false;
    }
    if (only_native(guest))
        return true;
    compare_value(report, "exception (ff: none)", native->vector, guest->vector);
    if (native->vector != DIFF_COMPLETED && native->vector == guest->vector) {
        compare_value(report, "at", native->rip, guest->rip);
        if (native->vector == CPU_VECTOR_PF)
            compare_value(report, "cr2", native->address, guest->address);
        if (native->vector == CPU_VECTOR_PF && present_differs(native->address))
            compare_value(report, "error code", native->error | 1, guest->error | 1);
        else
            compare_value(report, "error code", native->error, guest->error);
    }
    for (unsigned i = 0; i < CPU_NR_GPRS; i++) {
        snprintf(name, sizeof(name), "r%u", i);
        compare_value(report, name, native->state.gpr[i], guest->state.gpr[i]);
    }
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
