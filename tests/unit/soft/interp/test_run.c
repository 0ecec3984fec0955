/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The run loop through the engine's own interface, with small real-mode programs: code that changes
 * under it, interrupts and their shadow, single step, breakpoints, halt, kick, INIT and SIPI, two
 * vCPUs.
 */
#include "soft/soft_cpu.h"
#include "soft/soft_guest.h"

#include <pthread.h>
#include <time.h>

#define RAM  0x40000u
#define CODE 0x1000u

struct fixture {
    struct guest guest;
    struct cpu_irqchip irqchip;
    int vector; /* what acknowledge gives, once */
};

static int acknowledge(void *context, unsigned cpu)
{
    struct fixture *f = context;

    (void)cpu;
    return __atomic_exchange_n(&f->vector, -1, __ATOMIC_SEQ_CST);
}

static bool pending(void *context, unsigned cpu)
{
    (void)cpu;
    return __atomic_load_n(&((struct fixture *)context)->vector, __ATOMIC_SEQ_CST) >= 0;
}

static uint64_t cr8_read(void *context, unsigned cpu)
{
    (void)context, (void)cpu;
    return 0;
}

static void cr8_write(void *context, unsigned cpu, uint64_t value)
{
    (void)context, (void)cpu, (void)value;
}

static int msr_read(void *context, unsigned cpu, uint32_t index, uint64_t *ret)
{
    (void)context, (void)cpu, (void)index;
    *ret = 0;
    return 0;
}

static int msr_write(void *context, unsigned cpu, uint32_t index, uint64_t value)
{
    (void)context, (void)cpu, (void)index, (void)value;
    return 0;
}

#define PROGRAM(f, gpa, ...) GUEST_PROGRAM(&(f)->guest, gpa, __VA_ARGS__)

/* IVT entry: 0000:offset */
static void vector_set(struct fixture *f, unsigned vector, uint16_t offset)
{
    uint32_t entry = offset;

    guest_put(&f->guest, 4 * vector, &entry, 4);
}

/* Real mode at 0000:CODE with all segments 0 and the stack below CODE. */
static struct cpu_state real_state(struct fixture *f, unsigned index)
{
    struct cpu_state state;

    ck_assert_int_eq(soft_engine.get_state(f->guest.cpu[index], &state, NULL), 0);
    state.segment[CPU_CS].base = 0;
    state.segment[CPU_CS].selector = 0;
    state.rip = CODE;
    state.gpr[CPU_RSP] = CODE - 0x100u * index;
    state.activity = CPU_ACTIVITY_RUNNING;
    return state;
}

static void enter(struct fixture *f, unsigned index, const struct cpu_state *state)
{
    ck_assert_int_eq(soft_engine.set_state(f->guest.cpu[index], state, NULL), 0);
}

static struct fixture *fixture_new(void)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct cpu_state state;

    ck_assert_ptr_nonnull(f);
    f->vector = -1;
    f->irqchip = (struct cpu_irqchip){f,         acknowledge, pending,  cr8_read,
                                      cr8_write, msr_read,    msr_write};
    guest_init(&f->guest, TEST_ENGINE_OPTIONS, GUEST_CPUS, RAM, &f->irqchip);
    state = real_state(f, 0);
    enter(f, 0, &state);
    return f;
}

static void fixture_free(struct fixture *f)
{
    guest_done(&f->guest);
    free(f);
}

static unsigned peek16(struct fixture *f, gpa_t gpa)
{
    uint16_t value;

    ck_assert_int_eq(memory_read(f->guest.memory, gpa, &value, 2), 0);
    return value;
}

START_TEST(store_into_the_next_instruction)
{
    struct fixture *f = fixture_new();
    struct cpu_state state;

    /* mov byte [CODE + 6], 42h; mov al, 1; hlt */
    PROGRAM(f, CODE, 0xc6, 0x06, 0x06, 0x10, 0x42, 0xb0, 0x01, 0xf4);
    state = guest_run(&f->guest, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(state.gpr[CPU_RAX] & 0xff, 0x42);
    ck_assert_uint_eq(state.rip, CODE + 8);
    fixture_free(f);
}
END_TEST

START_TEST(loop_that_changes_itself)
{
    struct fixture *f = fixture_new();
    struct cpu_counters counters;
    struct cpu_state state;

    /* mov cx, 3; l: inc byte [CODE + 8]; mov al, 10h; loop l; hlt */
    PROGRAM(f, CODE, 0xb9, 3, 0, 0xfe, 0x06, 0x08, 0x10, 0xb0, 0x10, 0xe2, 0xf8, 0xf4);
    state = guest_run(&f->guest, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(state.gpr[CPU_RAX] & 0xff, 0x13);
    soft_engine.counters(f->guest.cpu[0], &counters);
    if (!strcmp(TEST_ENGINE_OPTIONS,
                "tier=interp")) /* the other tier counts only what it interprets */
        ck_assert_uint_eq(counters.instructions, 1 + 3 * 3 + 1);
    fixture_free(f);
}
END_TEST

START_TEST(string_store_into_code)
{
    struct fixture *f = fixture_new();
    struct cpu_state state;

    /* mov di, CODE + 10; mov al, 90h; mov cx, 2; rep stosb; (at 10) mov bl, 5; hlt */
    PROGRAM(f, CODE, 0xbf, 0x0a, 0x10, 0xb0, 0x90, 0xb9, 2, 0, 0xf3, 0xaa, 0xb3, 5, 0xf4);
    state = guest_run(&f->guest, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(state.gpr[CPU_RBX] & 0xff, 0);
    fixture_free(f);
}
END_TEST

START_TEST(device_writes_code)
{
    struct fixture *f = fixture_new();
    struct cpu_state state;

    PROGRAM(f, CODE, 0xb0, 0x01, 0xf4);
    ck_assert_uint_eq(guest_run(&f->guest, 0, CPU_EXIT_HALT).gpr[CPU_RAX] & 0xff, 1);
    PROGRAM(f, CODE + 1, 0x02);
    state = real_state(f, 0);
    enter(f, 0, &state);
    ck_assert_uint_eq(guest_run(&f->guest, 0, CPU_EXIT_HALT).gpr[CPU_RAX] & 0xff, 2);
    fixture_free(f);
}
END_TEST

START_TEST(data_beside_code_invalidates_nothing)
{
    struct fixture *f = fixture_new();
    struct cpu_counters counters;

    /* mov cx, 1000; l: inc word [CODE + 200h]; loop l; hlt */
    PROGRAM(f, CODE, 0xb9, 0xe8, 0x03, 0xff, 0x06, 0x00, 0x12, 0xe2, 0xfa, 0xf4);
    guest_run(&f->guest, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(peek16(f, CODE + 0x200), 1000);
    soft_engine.counters(f->guest.cpu[0], &counters);
    ck_assert_uint_eq(counters.blocks_invalidated, 0);
    fixture_free(f);
}
END_TEST

START_TEST(page_crossing_instruction)
{
    struct fixture *f = fixture_new();
    struct cpu_state state;

    /* mov eax, 12345678h across CODE + 1000h; then its second half changes */
    PROGRAM(f, 0x1ffd, 0x66, 0xb8, 0x78, 0x56, 0x34, 0x12, 0xf4);
    state = real_state(f, 0);
    state.rip = 0x1ffd;
    enter(f, 0, &state);
    ck_assert_uint_eq(guest_run(&f->guest, 0, CPU_EXIT_HALT).gpr[CPU_RAX], 0x12345678);
    PROGRAM(f, 0x2002, 0x99);
    enter(f, 0, &state);
    ck_assert_uint_eq(guest_run(&f->guest, 0, CPU_EXIT_HALT).gpr[CPU_RAX], 0x99345678);
    fixture_free(f);
}
END_TEST

START_TEST(interrupt_waits_for_the_shadow)
{
    struct fixture *f = fixture_new();
    struct cpu_state state;

    vector_set(f, 0x20, 0x800);
    PROGRAM(f, 0x800, 0xb3, 0x77, 0xf4); /* mov bl, 77h; hlt */
    /* sti; mov al, 1; mov al, 2; hlt */
    PROGRAM(f, CODE, 0xfb, 0xb0, 0x01, 0xb0, 0x02, 0xf4);
    f->vector = 0x20;
    cpu_request(f->guest.cpu[0], CPU_REQUEST_INTERRUPT);
    state = guest_run(&f->guest, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(state.gpr[CPU_RBX] & 0xff, 0x77);
    ck_assert_uint_eq(state.gpr[CPU_RAX] & 0xff, 1);
    ck_assert_uint_eq(peek16(f, CODE - 6), CODE + 3);
    fixture_free(f);
}
END_TEST

START_TEST(halt_until_interrupt)
{
    struct fixture *f = fixture_new();
    struct cpu_state state;

    vector_set(f, 0x21, 0x800);
    PROGRAM(f, 0x800, 0x43, 0xcf);                  /* inc bx; iret */
    PROGRAM(f, CODE, 0xfb, 0xf4, 0xb0, 0x07, 0xf4); /* sti; hlt; mov al, 7; hlt */
    ck_assert_uint_eq(guest_run(&f->guest, 0, CPU_EXIT_HALT).rip, CODE + 2);
    guest_run(&f->guest, 0, CPU_EXIT_HALT); /* nothing to wake for */
    f->vector = 0x21;
    cpu_request(f->guest.cpu[0], CPU_REQUEST_INTERRUPT);
    state = guest_run(&f->guest, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(state.gpr[CPU_RAX] & 0xff, 7);
    ck_assert_uint_eq(state.gpr[CPU_RBX], 1);
    fixture_free(f);
}
END_TEST

START_TEST(nmi_wakes_with_interrupts_off)
{
    struct fixture *f = fixture_new();

    vector_set(f, CPU_VECTOR_NMI, 0x800);
    PROGRAM(f, 0x800, 0x43, 0xcf);
    PROGRAM(f, CODE, 0xf4, 0xf4); /* hlt; hlt */
    guest_run(&f->guest, 0, CPU_EXIT_HALT);
    cpu_request(f->guest.cpu[0], CPU_REQUEST_NMI);
    ck_assert_uint_eq(guest_run(&f->guest, 0, CPU_EXIT_HALT).gpr[CPU_RBX], 1);
    fixture_free(f);
}
END_TEST

START_TEST(single_step)
{
    struct fixture *f = fixture_new();
    struct cpu_state state;

    vector_set(f, CPU_VECTOR_DB, 0x800);
    PROGRAM(f, 0x800, 0x43, 0xcf); /* inc bx; iret */
    /* 3 nop; pushf; pop ax; and ax, ~TF; push ax; popf; hlt */
    PROGRAM(f, CODE, 0x90, 0x90, 0x90, 0x9c, 0x58, 0x25, 0xff, 0xfe, 0x50, 0x9d, 0xf4);
    state = real_state(f, 0);
    state.rflags |= CPU_FLAG_TF;
    enter(f, 0, &state);
    state = guest_run(&f->guest, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(state.gpr[CPU_RBX], 8);
    ck_assert_uint_ne(state.dr[6] & 0x4000, 0);
    fixture_free(f);
}
END_TEST

START_TEST(breakpoints)
{
    struct fixture *f = fixture_new();
    struct cpu_state state;

    vector_set(f, CPU_VECTOR_DB, 0x800);
    PROGRAM(f, 0x800, 0xf4);
    /* nop; nop; mov [3000h], al; nop */
    PROGRAM(f, CODE, 0x90, 0x90, 0xa2, 0x00, 0x30, 0x90, 0xf4);
    state = real_state(f, 0);
    state.dr[0] = CODE + 1;
    state.dr[7] = 0x401; /* execute */
    enter(f, 0, &state);
    state = guest_run(&f->guest, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(peek16(f, CODE - 6), CODE + 1);
    ck_assert_uint_eq(state.dr[6] & 0xf, 1);
    state = real_state(f, 0);
    state.dr[6] = 0xffff0ff0;
    state.dr[1] = 0x3000;
    state.dr[7] = 0x100404; /* write, one byte */
    enter(f, 0, &state);
    state = guest_run(&f->guest, 0, CPU_EXIT_HALT);
    ck_assert_uint_eq(peek16(f, CODE - 6), CODE + 5); /* a trap: behind it */
    ck_assert_uint_eq(state.dr[6] & 0xf, 2);
    fixture_free(f);
}
END_TEST

START_TEST(init_and_sipi)
{
    struct fixture *f = fixture_new();
    struct cpu_state state;

    PROGRAM(f, 0x10000, 0xb0, 0x05, 0xf4);
    ck_assert_int_eq(guest_run(&f->guest, 1, CPU_EXIT_HALT).activity, CPU_ACTIVITY_WAIT_FOR_SIPI);
    cpu_request(f->guest.cpu[1], CPU_REQUEST_INIT);
    guest_run(&f->guest, 1, CPU_EXIT_HALT);
    f->guest.cpu[1]->sipi_vector = 0x10;
    cpu_request(f->guest.cpu[1], CPU_REQUEST_SIPI);
    state = guest_run(&f->guest, 1, CPU_EXIT_HALT);
    ck_assert_uint_eq(state.gpr[CPU_RAX] & 0xff, 5);
    ck_assert_uint_eq(state.segment[CPU_CS].selector, 0x1000);
    ck_assert_uint_eq(state.rip, 3);
    fixture_free(f);
}
END_TEST

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

struct runner {
    struct fixture *f;
    unsigned index;
    struct cpu_exit exit;
};

static void *runner_main(void *argument)
{
    struct runner *r = argument;

    soft_engine.run(r->f->guest.cpu[r->index], &r->exit, NULL);
    return NULL;
}

START_TEST(kick_ends_a_loop)
{
    struct fixture *f = fixture_new();
    struct runner r = {.f = f};
    pthread_t thread;

    PROGRAM(f, CODE, 0xeb, 0xfe);
    ck_assert_int_eq(pthread_create(&thread, NULL, runner_main, &r), 0);
    sleep_ms(10);
    cpu_request(f->guest.cpu[0], CPU_REQUEST_KICK);
    pthread_join(thread, NULL);
    ck_assert_int_eq(r.exit.kind, CPU_EXIT_KICK);
    fixture_free(f);
}
END_TEST

START_TEST(another_thread_changes_a_running_loop)
{
    struct fixture *f = fixture_new();
    struct runner r = {.f = f};
    pthread_t thread;

    /* l: mov al, 1; cmp al, 2; jne l; hlt */
    PROGRAM(f, CODE, 0xb0, 0x01, 0x3c, 0x02, 0x75, 0xfa, 0xf4);
    ck_assert_int_eq(pthread_create(&thread, NULL, runner_main, &r), 0);
    sleep_ms(10);
    PROGRAM(f, CODE + 1, 0x02);
    pthread_join(thread, NULL);
    ck_assert_int_eq(r.exit.kind, CPU_EXIT_HALT);
    fixture_free(f);
}
END_TEST

START_TEST(locked_counter_of_two)
{
    struct fixture *f = fixture_new();
    struct runner r[GUEST_CPUS];
    pthread_t thread[GUEST_CPUS];
    struct cpu_state state;
    uint32_t sum;

    /* l: lock inc dword [3000h]; dec ecx; jnz l; hlt */
    PROGRAM(f, CODE, 0x66, 0xf0, 0xff, 0x06, 0x00, 0x30, 0x66, 0x49, 0x75, 0xf6, 0xf4);
    for (unsigned i = 0; i < GUEST_CPUS; i++) {
        state = real_state(f, i);
        state.gpr[CPU_RCX] = 300000;
        enter(f, i, &state);
        r[i] = (struct runner){.f = f, .index = i};
        ck_assert_int_eq(pthread_create(&thread[i], NULL, runner_main, &r[i]), 0);
    }
    for (unsigned i = 0; i < GUEST_CPUS; i++)
        pthread_join(thread[i], NULL);
    ck_assert_int_eq(memory_read(f->guest.memory, 0x3000, &sum, 4), 0);
    ck_assert_uint_eq(sum, GUEST_CPUS * 300000);
    fixture_free(f);
}
END_TEST

START_TEST(code_outside_memory)
{
    struct fixture *f = fixture_new();
    struct cpu_state state = real_state(f, 0);
    struct cpu_exit exit;

    state.segment[CPU_CS].base = 0xffff0000;
    state.rip = 0xfff0;
    enter(f, 0, &state);
    ck_assert_int_eq(soft_engine.run(f->guest.cpu[0], &exit, NULL), 0);
    ck_assert_int_eq(exit.kind, CPU_EXIT_UNSUPPORTED);
    ck_assert_uint_eq(exit.unsupported.linear_address, 0xfffffff0);
    ck_assert_ptr_nonnull(exit.unsupported.reason);
    fixture_free(f);
}
END_TEST

/* What the decoder knows has a handler, or is one of the few that are always hot. */
START_TEST(every_mnemonic_has_a_handler)
{
    static const enum insn_id always_hot[] = {INSN_LEA, INSN_SETCC, INSN_CMOVCC,
                                              INSN_CBW, INSN_CWDE,  INSN_CDQE,
                                              INSN_CWD, INSN_CDQ,   INSN_CQO};
    struct fixture *f = fixture_new();
    const struct soft_vm *vm = (const struct soft_vm *)(const void *)f->guest.vm;

    for (unsigned id = 1; id < INSN_NR_IDS; id++) {
        bool hot = false;

        for (unsigned i = 0; i < ARRAY_LEN(always_hot); i++)
            hot = hot || always_hot[i] == id;
        ck_assert_msg(hot || vm->handlers[id], "%s has no handler", insn_name((enum insn_id)id));
    }
    fixture_free(f);
}
END_TEST

TEST_MAIN("soft_run", tcase_add_test(tcase, store_into_the_next_instruction);
          tcase_add_test(tcase, loop_that_changes_itself);
          tcase_add_test(tcase, string_store_into_code); tcase_add_test(tcase, device_writes_code);
          tcase_add_test(tcase, data_beside_code_invalidates_nothing);
          tcase_add_test(tcase, page_crossing_instruction);
          tcase_add_test(tcase, interrupt_waits_for_the_shadow);
          tcase_add_test(tcase, halt_until_interrupt);
          tcase_add_test(tcase, nmi_wakes_with_interrupts_off); tcase_add_test(tcase, single_step);
          tcase_add_test(tcase, breakpoints); tcase_add_test(tcase, init_and_sipi);
          tcase_add_test(tcase, kick_ends_a_loop);
          tcase_add_test(tcase, another_thread_changes_a_running_loop);
          tcase_add_test(tcase, locked_counter_of_two); tcase_add_test(tcase, code_outside_memory);
          tcase_add_test(tcase, every_mnemonic_has_a_handler);)
