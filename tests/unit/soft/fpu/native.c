/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See native.h. One private mapping holds, from its start: the code (prologue, the instruction,
 * epilogue), and a struct slots that all of it addresses relative to RIP, so that no register is
 * needed. A signal handler copies the interrupted registers and goes on at the epilogue.
 */
#include "native.h"

#include "base/util.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define CODE_SIZE  4096u
#define INSN_SPACE 16u

struct slots {
    struct native_state in, out;
    uint64_t host_rsp;
    uint64_t vector; /* written by the signal handler */
    uint32_t fcw, mxcsr;
    uint8_t stack[4096] __attribute__((aligned(64)));
};

static uint8_t *code;
static struct slots *slots;
static unsigned insn_at, epilogue_at, resume_at;
static volatile int running;

struct assembler {
    unsigned at;
};

static void put(struct assembler *as, const void *bytes, unsigned length)
{
    memcpy(code + as->at, bytes, length);
    as->at += length;
}

/* opcode bytes, then modrm for [rip + slot] */
static void put_slot(struct assembler *as, const char *opcode, unsigned length, unsigned reg,
                     const void *slot)
{
    uint8_t modrm = (uint8_t)(reg << 3 | 5);
    int32_t displacement;

    put(as, opcode, length);
    put(as, &modrm, 1);
    displacement = (int32_t)((const uint8_t *)slot - (code + as->at + 4));
    put(as, &displacement, 4);
}

#define PUT(as, literal)                 put(as, literal, sizeof(literal) - 1)
#define PUT_SLOT(as, literal, reg, slot) put_slot(as, literal, sizeof(literal) - 1, reg, slot)

static void put_gprs(struct assembler *as, bool store, uint64_t *gpr)
{
    for (unsigned i = 0; i < 16; i++) {
        char opcode[2] = {(char)(i < 8 ? 0x48 : 0x4c), (char)(store ? 0x89 : 0x8b)};

        put_slot(as, opcode, 2, i & 7, &gpr[i]);
    }
}

static void assemble(void)
{
    struct assembler as = {0};

    PUT(&as, "\x53\x55\x41\x54\x41\x55\x41\x56\x41\x57");
    PUT_SLOT(&as, "\x48\x89", 4, &slots->host_rsp);
    PUT(&as, "\xb8\x07\x00\x00\x00\x31\xd2");
    PUT_SLOT(&as, "\x48\x0f\xae", 5, &slots->in.area); /* xrstor64 */
    PUT_SLOT(&as, "\xff", 6, &slots->in.rflags);       /* push; popfq */
    PUT(&as, "\x9d");
    put_gprs(&as, false, slots->in.gpr);
    insn_at = as.at;
    as.at += INSN_SPACE;
    epilogue_at = as.at;
    put_gprs(&as, true, slots->out.gpr);
    PUT_SLOT(&as, "\x48\x8d", 4, slots->stack + sizeof(slots->stack)); /* lea rsp */
    PUT(&as, "\x9c");
    PUT_SLOT(&as, "\x8f", 0, &slots->out.rflags);
    PUT(&as, "\xb8\x07\x00\x00\x00\xba\x00\x00\x00\x00");
    PUT_SLOT(&as, "\x48\x0f\xae", 4, &slots->out.area); /* xsave64 */
    PUT_SLOT(&as, "\xd9", 6, slots->out.env);           /* fnstenv */
    resume_at = as.at;
    PUT(&as, "\xdb\xe3"); /* fninit */
    PUT_SLOT(&as, "\x0f\xae", 2, &slots->mxcsr);
    PUT(&as, "\xc5\xf8\x77");
    PUT_SLOT(&as, "\x48\x8b", 4, &slots->host_rsp);
    PUT(&as, "\x41\x5f\x41\x5e\x41\x5d\x41\x5c\x5d\x5b\xfc\xc3");
}

static void on_signal(int signal_number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *g = uc->uc_mcontext.gregs;
    static const uint8_t from[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                     REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                     REG_R12, REG_R13, REG_R14, REG_R15};

    (void)info;
    if (!running) {
        signal(signal_number, SIG_DFL);
        return;
    }
    for (unsigned i = 0; i < 16; i++)
        slots->out.gpr[i] = (uint64_t)g[from[i]];
    slots->out.rflags = (uint64_t)g[REG_EFL];
    slots->vector = (uint64_t)g[REG_TRAPNO];
    memcpy(&slots->out.area, uc->uc_mcontext.fpregs, sizeof(slots->out.area));
    g[REG_RIP] = (greg_t)(uintptr_t)(code + resume_at);
}

int native_init(void)
{
    static uint8_t signal_stack[65536];
    stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof(signal_stack)};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    size_t size = CODE_SIZE + (size_t)align_up(sizeof(struct slots), 4096);
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};

    code = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED)
        return -errno;
    slots = (struct slots *)(void *)(code + CODE_SIZE);
    slots->mxcsr = FPU_MXCSR_DEFAULT;
    assemble();
    sigaltstack(&stack, NULL);
    for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
        sigaction(signals[i], &action, NULL);
    return 0;
}

uint64_t native_rip(void)
{
    return (uint64_t)(uintptr_t)(code + insn_at);
}

int native_run(const uint8_t *bytes, unsigned length, struct native_state *state)
{
    void (*run)(void) = (void (*)(void))(uintptr_t)code;

    memcpy(code + insn_at, bytes, length);
    memset(code + insn_at + length, 0x90, INSN_SPACE - length);
    slots->in = *state;
    slots->in.area.xstate_bv = CPU_XCR0_SUPPORTED;
    slots->in.area.xcomp_bv = 0;
    slots->in.rflags = (state->rflags & CPU_FLAGS_STATUS) | CPU_FLAG_ONE;
    slots->vector = (uint64_t)NATIVE_OK;
    memset(&slots->out.area, 0, sizeof(slots->out.area));
    running = 1;
    run();
    running = 0;
    *state = slots->out;
    if (!(state->area.xstate_bv & CPU_XCR0_X87)) {
        memset(&state->area, 0, offsetof(struct fpu_area, mxcsr));
        memset(state->area.st, 0, sizeof(state->area.st));
        state->area.fcw = FPU_FCW_DEFAULT;
    }
    if (!(state->area.xstate_bv & CPU_XCR0_SSE))
        memset(state->area.xmm, 0, sizeof(state->area.xmm));
    if (!(state->area.xstate_bv & CPU_XCR0_AVX))
        memset(state->area.ymm_high, 0, sizeof(state->area.ymm_high));
    return (int)(int64_t)slots->vector;
}
