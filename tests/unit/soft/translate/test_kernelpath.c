/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What generated code does of a kernel's work by itself: programs that go through it in ring 0 and
 * ring 3, once on the translator and once on the interpreter. Registers, flags, segments, vector
 * and x87 state and memory have to be equal at the end; and the translator must not have asked the
 * interpreter more often than `handbacks`.
 */
#include "soft/soft_guest.h"

#include <string.h>

#define RAM   0x200000u
#define USER  0x10000u
#define ENTRY 0x18000u
#define DATA  0x20000u
#define STACK 0x30000u
#define UPPER UINT64_C(0xffff800000000000)

#define PTE_USER(gpa) ((gpa) | UINT64_C(0x67)) /* present, writable, user, accessed, dirty */

/* RAX = 0 ends the program in the kernel. */
GUEST_TEXT(user_calls, "mov $300, %ebx\n"
                       "1: mov %rbx, %rax\n stc\n syscall\n adc $0, %r13\n add %rcx, %r12\n"
                       "xor %r11, %r14\n dec %ebx\n jnz 1b\n xor %eax, %eax\n syscall\n");
GUEST_TEXT(kernel_entry,
           "swapgs\n test %eax, %eax\n jnz 1f\n swapgs\n hlt\n"
           "1: mov %rsp, %gs:0x100\n movabs $0xffff800000031000, %rsp\n push %r11\n push %rcx\n"
           "cld\n sti\n mov %cr0, %rdx\n mov %cr3, %rsi\n add %rsi, %rdx\n mov %ds, %esi\n"
           "mov %ss, %edi\n mov %cs, %di\n mov $-1, %r10\n mov %ss, %r10w\n"
           "mov $-2, %rdx\n mov %ss, %dx\n add %r10, %rdi\n add %rdx, %rdi\n mov %cr0, %rdx\n "
           "rdfsbase %r8\n lea 8(%r8), %r9\n wrfsbase %r9\n pushfq\n pop %r10\n"
           "add %r10, %r15\n add %rdx, %r15\n mov %rbx, %rcx\n and $1023, %ecx\n"
           "btsq %rcx, %gs:0x200\n adc %rdi, %r15\n btcl %ecx, %gs:0x300\n btq %rcx, %gs:0x200\n"
           "adc %rsi, %r15\n cli\n mov %ch, %dl\n add %dl, %ch\n add %rcx, %r15\n"
           "pop %rcx\n pop %r11\n mov %gs:0x100, %rsp\n swapgs\n sysretq\n");

/* DATA: a line of bytes, copied, searched and compared; 90 bytes before the page's end too. */
GUEST_TEXT(
    strings,
    "mov $40, %ebx\n"
    "1: mov $0x20000, %esi\n mov $0x20800, %edi\n lea 17(%rbx), %ecx\n rep movsb\n"
    "mov $0x20fc0, %edi\n mov %rbx, %rax\n mov $200, %ecx\n rep stosl\n"
    "mov $0x20f80, %esi\n mov $0x22ff1, %edi\n mov $50, %ecx\n rep movsq\n"
    "mov $0x20800, %edi\n mov $0x41, %al\n mov $4000, %ecx\n repne scasb\n"
    "setc %dl\n sets %dh\n add %rcx, %r12\n add %rdx, %r13\n"
    "mov $0x20000, %esi\n mov $0x20800, %edi\n mov $300, %ecx\n repe cmpsw\n"
    "pushfq\n pop %rdx\n add %rdx, %r14\n add %rcx, %r12\n"
    "mov $0x20000, %esi\n lodsb\n movsl\n stosw\n scasq\n cmpsb\n pushfq\n pop %rdx\n"
    "add %rdx, %r14\n add %rax, %r15\n add %rsi, %r8\n add %rdi, %r9\n"
    "std\n mov $0x20100, %esi\n mov $0x20200, %edi\n mov $9, %ecx\n rep movsw\n lodsl\n cld\n"
    "mov $0x20000, %esi\n lea 3(%rsi), %edi\n mov $20, %ecx\n rep movsb\n"
    "xor %ecx, %ecx\n rep stosb\n repne scasb\n dec %ebx\n jnz 1b\n xor %eax, %eax\n syscall\n");

/* A megabyte is filled, and copied by pieces that begin anywhere; each page is read once more, as
 * code would. The last copies are from a page to itself, at an address of the same number in every
 * table. */
GUEST_TEXT(
    pages,
    "mov $0x80000, %edi\n mov $0x0123456789abcdef, %rax\n mov $0x20000, %ecx\n rep stosq\n"
    "mov $13, %ebx\n mov $0x20000, %esi\n mov $0x80123, %edi\n mov $0x1000, %ecx\n rep movsb\n"
    "mov $0x80000, %esi\n mov $0x90007, %edi\n"
    "1: mov $0xffd3, %ecx\n rep movsb\n dec %ebx\n jnz 1b\n"
    "mov $0x100000, %esi\n mov $0x20800, %edi\n mov $0x600, %ecx\n rep movsq\n"
    "mov $0x80000, %esi\n"
    "2: mov (%rsi), %rax\n lea (%r12,%rax,4), %r12\n add $0x1000, %esi\n cmp $0x180000, %esi\n "
    "jb 2b\n"
    "movabs $0xffff800000180000, %rsi\n mov $0x180300, %edi\n mov $0x1800, %ecx\n rep movsb\n"
    "mov $0x180000, %esi\n movabs $0xffff800000180300, %rdi\n mov $0x300, %ecx\n rep movsq\n"
    "mov $0x180000, %esi\n mov $0x23000, %edi\n mov $0x200, %ecx\n rep movsq\n"
    "xor %eax, %eax\n hlt\n");
GUEST_TEXT(pages_only,
           "mov $0x80000, %edi\n xor %eax, %eax\n mov $0x100000, %ecx\n rep stosb\n"
           "mov $0x80000, %esi\n mov $0x100000, %edi\n mov $0x10000, %ecx\n rep movsq\n hlt\n");

/* Indirect calls by a return whose address is overwritten; one's target is the other's thunk. */
GUEST_TEXT(retpolines,
           "mov $200, %ebx\n lea 6f(%rip), %r11\n lea 7f(%rip), %rax\n"
           "1: stc\n call 4f\n adc %rsp, %r12\n call 5f\n add %rcx, %r13\n pushfq\n pop %rdx\n"
           "add %rdx, %r14\n dec %ebx\n jnz 1b\n xor %eax, %eax\n syscall\n"
           ".balign 64\n 4: call 3f\n 2: pause\n lfence\n jmp 2b\n 3: mov %r11, (%rsp)\n ret\n"
           ".balign 64\n 5: call 3f\n 2: pause\n lfence\n jmp 2b\n 3: mov %rax, (%rsp)\n ret\n"
           ".balign 64\n 6: lea 3(%rbx), %rcx\n adc -8(%rsp), %r15\n ret\n"
           "7: lea 5(%rcx), %rcx\n jmp 4b\n");

GUEST_TEXT(
    x87, "mov $50, %ebx\n fninit\n fld1\n fldz\n"
         "1: fld1\n faddp\n fldpi\n fmul %st(1), %st\n fstps 0x20008\n fildl 0x20010\n fsqrt\n"
         "fcomi %st(1), %st\n adc $0, %r12\n fstpt 0x20020\n fnstcw 0x20030\n fldcw 0x20030\n"
         "movw $0x0f7f, 0x20032\n fldcw 0x20032\n fldt 0x20020\n fistpll 0x20040\n fldcw 0x20030\n"
         "fnstsw %ax\n add %rax, %r13\n fxch\n fsin\n fxch\n fwait\n dec %ebx\n jnz 1b\n"
         "fxsave64 0x20400\n fnstenv 0x20700\n"
         "mov $7, %ebx\n 2: movq 0x20000, %mm1\n paddw %mm1, %mm2\n pshufw $0x1b, %mm2, %mm3\n"
         "movd %ebx, %mm4\n pmullw %mm4, %mm3\n movq %mm3, 0x20050\n pmovmskb %mm3, %ecx\n"
         "movq2dq %mm3, %xmm1\n cvtpi2ps %mm3, %xmm2\n add %rcx, %r14\n dec %ebx\n jnz 2b\n"
         "fxsave64 0x20a00\n emms\n hlt\n");
/* An exception is unmasked, and pending: the interpreter's from there on. */
GUEST_TEXT(x87_unmasked,
           "fninit\n fld1\n movw $0x37b, 0x20032\n fldcw 0x20032\n fldz\n fdivrp\n fnstsw %ax\n"
           "fnstenv 0x20700\n fnclex\n fldcw 0x20700\n fldl2e\n hlt\n");

static void kernel_init(struct guest *m, const char *engine_options)
{
    guest_init(m, engine_options, 1, RAM, NULL);
    guest_put64(m, 0x1000, PTE_USER(0x2000));
    guest_put64(m, 0x1800, PTE_USER(0x2000));
    guest_put64(m, 0x2000, PTE_USER(0x3000));
    guest_put64(m, 0x3000, PTE_USER(0x4000));
    for (uint64_t page = 0; page < RAM / 4096; page++)
        guest_put64(m, 0x4000 + 8 * page, PTE_USER(page * 4096));
    for (unsigned i = 0; i < 4096; i++)
        guest_put(m, DATA + i, &(uint8_t){(uint8_t)(i * 37 >> 2)}, 1);
}

static void start(struct guest *m, unsigned cpl, uint64_t rip)
{
    struct cpu_state s;

    guest_long_mode(&s, 0, rip, STACK);
    s.cr0 |= CPU_CR0_MP;
    s.cr4 |= CPU_CR4_FSGSBASE;
    s.efer |= CPU_EFER_SCE;
    s.star = UINT64_C(0x1b0008) << 32;
    s.lstar = UPPER + ENTRY;
    s.sfmask = 0x47700;
    s.kernel_gs_base = UPPER + DATA;
    s.rflags |= CPU_FLAG_IF;
    s.segment[CPU_CS] = (struct cpu_segment){.limit = 0xffffffff,
                                             .attributes = 0xa09b | cpl << 5,
                                             .selector = (uint16_t)(cpl ? 0x2b : 8)};
    s.segment[CPU_SS] = (struct cpu_segment){.limit = 0xffffffff,
                                             .attributes = 0xc093 | cpl << 5,
                                             .selector = (uint16_t)(cpl ? 0x23 : 16)};
    ck_assert_int_eq(soft_engine.set_state(m->cpu[0], &s, NULL), 0);
}

struct outcome {
    struct cpu_state state;
    uint8_t data[0x4000];
    uint64_t handbacks, flat_touched;
};

static void figure(void *context, const char *group, const char *name, uint64_t value)
{
    struct outcome *outcome = context;

    if (!strcmp(group, "code") && !strcmp(name, "flat_touched"))
        outcome->flat_touched = value;
}

static void outcome_of(const char *options, const uint8_t *user, size_t length, unsigned cpl,
                       struct outcome *ret)
{
    struct cpu_counters counters;
    struct cpu_exit exit;
    struct guest m;

    kernel_init(&m, options);
    guest_put(&m, USER, user, length);
    guest_put(&m, ENTRY, kernel_entry, (size_t)(kernel_entry_end - kernel_entry));
    start(&m, cpl, cpl ? USER : UPPER + USER);
    ck_assert_int_eq(soft_engine.run(m.cpu[0], &exit, NULL), 0);
    ck_assert_int_eq(exit.kind, CPU_EXIT_HALT);
    memset(&ret->state, 0, sizeof(ret->state));
    ck_assert_int_eq(soft_engine.get_state(m.cpu[0], &ret->state, NULL), 0);
    ck_assert_int_eq(memory_read(m.memory, DATA, ret->data, sizeof(ret->data)), 0);
    soft_engine.counters(m.cpu[0], &counters);
    ret->handbacks = counters.translated_handbacks;
    soft_engine.figures(m.cpu[0], figure, ret);
    guest_done(&m);
}

static void compare(const uint8_t *program, const uint8_t *end, unsigned cpl, uint64_t handbacks)
{
    static struct outcome wanted, got;
    size_t length = (size_t)(end - program);

    outcome_of("tier=interp", program, length, cpl, &wanted);
    outcome_of("tier=translate,runs=0", program, length, cpl, &got);
    for (unsigned i = 0; i < CPU_NR_GPRS; i++)
        ck_assert_msg(got.state.gpr[i] == wanted.state.gpr[i], "register %u: %lx, not %lx", i,
                      (unsigned long)got.state.gpr[i], (unsigned long)wanted.state.gpr[i]);
    ck_assert_uint_eq(got.state.rip, wanted.state.rip);
    ck_assert_uint_eq(got.state.rflags, wanted.state.rflags);
    for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++) {
        ck_assert_uint_eq(got.state.segment[i].selector, wanted.state.segment[i].selector);
        ck_assert_uint_eq(got.state.segment[i].attributes, wanted.state.segment[i].attributes);
        ck_assert_uint_eq(got.state.segment[i].base, wanted.state.segment[i].base);
    }
    ck_assert_uint_eq(got.state.kernel_gs_base, wanted.state.kernel_gs_base);
    ck_assert_mem_eq(got.state.xsave, wanted.state.xsave, sizeof(got.state.xsave));
    for (unsigned i = 0; i < sizeof(got.data); i++)
        ck_assert_msg(got.data[i] == wanted.data[i], "byte %x: %x, not %x", DATA + i, got.data[i],
                      wanted.data[i]);
    ck_assert_uint_le(got.handbacks, handbacks);
}

START_TEST(system_calls_stay_inside)
{
    compare(user_calls, user_calls_end, 3, 60);
}
END_TEST

START_TEST(strings_are_the_interpreters)
{
    /* The downward ones and those that begin in two pages are handed back. */
    compare(strings, strings_end, 3, 400);
    compare(strings, strings_end, 0, 400);
}
END_TEST

START_TEST(pages_are_copied_through)
{
    static struct outcome got;

    compare(pages, pages_end, 0, 400);
    /* Nor do they fill the tables that single accesses look at: of 32 places these are few. */
    outcome_of("tier=translate,runs=0", pages_only, (size_t)(pages_only_end - pages_only), 0, &got);
    ck_assert_uint_le(got.flat_touched, 4);
    ck_assert_uint_le(got.handbacks, 40);
}
END_TEST

START_TEST(retpolines_are_jumps)
{
    compare(retpolines, retpolines_end, 3, 40);
    compare(retpolines, retpolines_end, 0, 40);
}
END_TEST

START_TEST(x87_state_and_pointers_are_the_interpreters)
{
    compare(x87, x87_end, 0, 40);
}
END_TEST

START_TEST(pending_x87_exceptions_are_the_interpreters)
{
    compare(x87_unmasked, x87_unmasked_end, 0, 100);
}
END_TEST

TEST_MAIN("kernelpath", tcase_add_test(tcase, system_calls_stay_inside);
          tcase_add_test(tcase, strings_are_the_interpreters);
          tcase_add_test(tcase, pages_are_copied_through);
          tcase_add_test(tcase, retpolines_are_jumps);
          tcase_add_test(tcase, x87_state_and_pointers_are_the_interpreters);
          tcase_add_test(tcase, pending_x87_exceptions_are_the_interpreters);)
