/* SPDX-License-Identifier: Apache-2.0 */
/* The text that tells why a guest was stopped: reason, vCPU, address, bytes, registers. */
#include "vmm/vm.h"

#include "base/util.h"

#include <stdarg.h>
#include <stdio.h>

struct text {
    char *at;
    size_t left;
};

static void add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct text *text, const char *format, ...)
{
    va_list args;
    int length;

    va_start(args, format);
    length = vsnprintf(text->at, text->left, format, args);
    va_end(args);
    if (length < 0)
        return;
    length = (int)MIN((size_t)length, text->left - 1);
    text->at += length;
    text->left -= (size_t)length;
}

static void add_registers(struct text *text, const struct cpu_state *s)
{
    static const char *const gpr[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                      "r8 ", "r9 ", "r10", "r11", "r12", "r13", "r14", "r15"};
    static const char *const segment[] = {"es", "cs", "ss", "ds", "fs", "gs"};

    for (unsigned i = 0; i < CPU_NR_GPRS; i++)
        add(text, "%s%s %016llx", i % 4 ? "  " : "\n  ", gpr[i], (unsigned long long)s->gpr[i]);
    add(text, "\n  rip %016llx  rflags %08llx", (unsigned long long)s->rip,
        (unsigned long long)s->rflags);
    add(text, "  cr0 %08llx  cr2 %016llx", (unsigned long long)s->cr0, (unsigned long long)s->cr2);
    add(text, "\n  cr3 %016llx  cr4 %08llx  efer %04llx", (unsigned long long)s->cr3,
        (unsigned long long)s->cr4, (unsigned long long)s->efer);
    for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++)
        add(text, "%s%s %04x base %llx limit %x attributes %05x", i % 2 ? "  " : "\n  ", segment[i],
            s->segment[i].selector, (unsigned long long)s->segment[i].base, s->segment[i].limit,
            s->segment[i].attributes);
    add(text, "\n  gdt %llx limit %x  idt %llx limit %x", (unsigned long long)s->gdtr.base,
        s->gdtr.limit, (unsigned long long)s->idtr.base, s->idtr.limit);
}

void report_exit(char *text, size_t size, unsigned cpu, const char *what,
                 const struct cpu_exit *exit, const struct cpu_state *state)
{
    struct text t = {text, size};

    text[0] = '\0';
    add(&t, "vCPU %u: %s", cpu, what);
    if (state)
        add(&t, ", at %04x:%llx", state->segment[CPU_CS].selector, (unsigned long long)state->rip);
    if (exit) {
        add(&t, ", linear address %llx, bytes",
            (unsigned long long)exit->unsupported.linear_address);
        for (unsigned i = 0; i < exit->unsupported.nr_bytes; i++)
            add(&t, " %02x", exit->unsupported.bytes[i]);
        if (!exit->unsupported.nr_bytes)
            add(&t, " not readable");
    }
    if (state)
        add_registers(&t, state);
}
