/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The native side: a child process that runs batches of streams on the host's own CPU.
 *
 * The child maps code, scratch and trampoline pages at fixed addresses, takes every exception in a
 * signal handler on a stack of its own, and lives under a seccomp filter that allows it read,
 * write, rt_sigreturn and exit: a stray system call kills it. It and its parent share the jobs.
 *
 * The trampoline reaches its data by absolute 32-bit addresses, so that it needs no register.
 */
#include "diff.h"

#include "base/util.h"

#include <asm/ldt.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

struct job {
    uint8_t code[DIFF_CODE_MAX];
    unsigned code_length;
    uint8_t code_mode;
    bool vector;
    uint64_t memory_seed;
    struct diff_state state; /* in and out */
    struct diff_result result;
};

struct shared {
    bool has_16;
    unsigned nr_jobs;
    unsigned done; /* jobs completed: the next one is the culprit when the child dies */
    struct job job[DIFF_BATCH];
};

struct diff_native {
    struct shared *shared;
    pid_t child;
    int to_child, from_child;
    unsigned nr;
    unsigned lost;
};

/* The trampoline's page. Offsets are in the assembly below. */
struct area {
    uint64_t gpr[16];    /* 0x000 */
    uint64_t rflags;     /* 0x080 */
    uint64_t host_stack; /* 0x088 */
    uint32_t code;       /* 0x090: far pointer */
    uint16_t code_selector;
    uint64_t vector; /* 0x098: load and store vector state */
    uint64_t data;   /* 0x0a0: selector of DS and ES */
    uint64_t stack;  /* 0x0a8: of SS */
    uint64_t reserved[2];
    uint8_t xsave[CPU_XSAVE_SIZE] __attribute__((aligned(64)));      /* 0x0c0 */
    uint8_t host_xsave[CPU_XSAVE_SIZE] __attribute__((aligned(64))); /* 0x400 */
};
_Static_assert(offsetof(struct area, xsave) == 0xc0, "offset in the trampoline");
_Static_assert(offsetof(struct area, host_xsave) == 0x400, "offset in the trampoline");

void diff_enter(void);
void diff_leave(void);
void diff_return(void);

/* clang-format off */
__asm__(
    ".text\n"
    ".set AREA, 0x35a3c000\n"
    ".globl diff_enter, diff_leave, diff_return\n"
    ".hidden diff_enter, diff_leave, diff_return\n"
    "diff_enter:\n"
    "    push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
    "    mov %rsp, AREA+0x88\n"
    "    cmpq $0, AREA+0x98\n"
    "    je 1f\n"
    "    mov $7, %eax\n xor %edx, %edx\n"
    "    xsave AREA+0x400\n"
    "    xrstor AREA+0xc0\n"
    "1:  mov AREA+0xa0, %ds\n mov AREA+0xa0, %es\n"
    "    pushq AREA+0x80\n popfq\n"
    "    mov AREA+0x00, %rax\n mov AREA+0x08, %rcx\n mov AREA+0x10, %rdx\n mov AREA+0x18, %rbx\n"
    "    mov AREA+0x28, %rbp\n mov AREA+0x30, %rsi\n mov AREA+0x38, %rdi\n"
    "    mov AREA+0x40, %r8\n mov AREA+0x48, %r9\n mov AREA+0x50, %r10\n mov AREA+0x58, %r11\n"
    "    mov AREA+0x60, %r12\n mov AREA+0x68, %r13\n mov AREA+0x70, %r14\n mov AREA+0x78, %r15\n"
    "    mov AREA+0xa8, %ss\n mov AREA+0x20, %rsp\n"
    "    ljmpl *AREA+0x90\n"
    "diff_leave:\n"
    "    mov %rax, AREA+0x00\n mov %rcx, AREA+0x08\n mov %rdx, AREA+0x10\n mov %rbx, AREA+0x18\n"
    "    mov %rsp, AREA+0x20\n mov %rbp, AREA+0x28\n mov %rsi, AREA+0x30\n mov %rdi, AREA+0x38\n"
    "    mov %r8, AREA+0x40\n mov %r9, AREA+0x48\n mov %r10, AREA+0x50\n mov %r11, AREA+0x58\n"
    "    mov %r12, AREA+0x60\n mov %r13, AREA+0x68\n mov %r14, AREA+0x70\n mov %r15, AREA+0x78\n"
    "    mov $0x2b, %eax\n mov %eax, %ss\n mov AREA+0x88, %rsp\n"
    "    pushfq\n popq AREA+0x80\n"
    "    cmpq $0, AREA+0x98\n"
    "    je diff_return\n"
    "    mov $7, %eax\n xor %edx, %edx\n"
    "    xsave AREA+0xc0\n"
    "diff_return:\n"
    "    mov AREA+0x88, %rsp\n"
    "    pushq $2\n popfq\n"
    "    cmpq $0, AREA+0x98\n"
    "    je 2f\n"
    "    mov $7, %eax\n xor %edx, %edx\n"
    "    xrstor AREA+0x400\n"
    "2:  pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
    "    ret\n");
/* clang-format on */

static struct area *area(void)
{
    return (struct area *)(uintptr_t)DIFF_AREA_VA; /* NOLINT(performance-no-int-to-ptr) */
}

static uint8_t *at(uint32_t address)
{
    return (uint8_t *)(uintptr_t)address; /* NOLINT(performance-no-int-to-ptr) */
}

/* The job that runs; the signal handler's only way to it. */
static struct job *current;
static volatile unsigned ticks;

static void copy_registers(struct diff_state *state, const greg_t *from)
{
    static const int order[CPU_NR_GPRS] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                           REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                           REG_R12, REG_R13, REG_R14, REG_R15};

    for (unsigned i = 0; i < CPU_NR_GPRS; i++)
        state->gpr[i] = (uint64_t)from[order[i]];
    state->rflags = (uint64_t)from[REG_EFL];
}

/* Does the tick stop the stream? Only while it runs, not in the trampoline. */
static bool tick_stops(const greg_t *gregs)
{
    bool is_64 = (uint16_t)gregs[REG_CSGSFS] == DIFF_SELECTOR_CODE_64;

    return ++ticks >= 3 && (!is_64 || (uint64_t)gregs[REG_RIP] - DIFF_CODE_VA < 4096);
}

/* An exception of the stream: keep what the kernel saved and go back to diff_enter's caller. */
static void on_signal(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *gregs = uc->uc_mcontext.gregs;

    /* AC may be set: nothing unaligned before it is cleared. */
    __asm__ volatile("pushfq; andl $~0x40000, (%%rsp); popfq" ::: "cc", "memory");
    (void)info;
    if (number == SIGVTALRM && (!current || !tick_stops(gregs)))
        return;
    if (!current)
        _exit(3);
    current->result.vector = number == SIGVTALRM ? DIFF_ENDLESS : (uint8_t)gregs[REG_TRAPNO];
    current->result.error = (uint32_t)gregs[REG_ERR];
    current->result.address = (uint64_t)gregs[REG_CR2];
    current->result.rip = (uint64_t)gregs[REG_RIP];
    if (current->result.rip == (uint64_t)(uintptr_t)diff_leave)
        current->result.rip = DIFF_END_VA;
    copy_registers(&current->state, gregs);
    if (current->vector && uc->uc_mcontext.fpregs)
        memcpy(current->state.xsave, uc->uc_mcontext.fpregs, CPU_XSAVE_SIZE);
    gregs[REG_RIP] = (greg_t)(uintptr_t)diff_return;
    gregs[REG_CSGSFS] = (greg_t)((uint64_t)DIFF_SELECTOR_DATA << 48 | DIFF_SELECTOR_CODE_64);
    gregs[REG_EFL] = 0x202;
}

static void segments_fill(struct area *a, uint8_t code_mode)
{
    bool is_16 = code_mode == INSN_MODE_16;

    a->code = is_16 ? 0 : DIFF_CODE_VA;
    a->code_selector = is_16                       ? DIFF_SELECTOR_CODE_16
                       : code_mode == INSN_MODE_32 ? DIFF_SELECTOR_CODE_32
                                                   : DIFF_SELECTOR_CODE_64;
    a->stack = is_16 ? DIFF_SELECTOR_DATA_16 : DIFF_SELECTOR_DATA;
    a->data = code_mode == INSN_MODE_64 ? 0 : a->stack;
}

static void run_job(struct job *job, uint8_t *code_alias)
{
    struct area *a = area();

    memset(&job->result, 0, offsetof(struct diff_result, state));
    memcpy(code_alias, job->code, job->code_length);
    memset(code_alias + job->code_length, 0xcc, DIFF_CODE_MAX - job->code_length);
    diff_memory_fill(job->memory_seed, job->result.memory);
    memcpy(at(DIFF_SCRATCH_VA), job->result.memory, DIFF_WRITABLE);
    memcpy(a->gpr, job->state.gpr, sizeof(a->gpr));
    a->rflags = job->state.rflags;
    segments_fill(a, job->code_mode);
    a->vector = job->vector;
    memcpy(a->xsave, job->state.xsave, sizeof(a->xsave));
    job->result.vector = DIFF_COMPLETED;
    ticks = 0;
    current = job;
    diff_enter();
    current = NULL;
    if (job->result.vector == DIFF_COMPLETED) {
        memcpy(job->state.gpr, a->gpr, sizeof(a->gpr));
        job->state.rflags = a->rflags;
        memcpy(job->state.xsave, a->xsave, sizeof(a->xsave));
    }
    job->result.state = job->state;
    memcpy(job->result.memory, at(DIFF_SCRATCH_VA), DIFF_WRITABLE);
}

static bool sandbox_enter(void)
{
#define ALLOW(number)                                    \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_read),
        ALLOW(SYS_write),
        ALLOW(SYS_rt_sigreturn),
        ALLOW(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {.len = ARRAY_LEN(filter), .filter = filter};

    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
           !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void *map_fixed(uint32_t address, size_t size, int protection, int fd)
{
    return mmap(at(address), size, protection,
                MAP_FIXED_NOREPLACE | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED), fd, 0);
}

/* Code page (with a writable alias), scratch, trampoline. NULL: failed. */
static uint8_t *child_map(void)
{
    uint8_t memory[DIFF_SCRATCH];
    int fd = memfd_create("code", MFD_CLOEXEC);
    uint8_t *alias;

    if (fd < 0 || ftruncate(fd, 4096) ||
        map_fixed(DIFF_CODE_VA, 4096, PROT_READ | PROT_EXEC, fd) == MAP_FAILED ||
        map_fixed(DIFF_SCRATCH_VA, DIFF_SCRATCH, PROT_READ | PROT_WRITE, -1) == MAP_FAILED ||
        map_fixed(DIFF_AREA_VA, 4096, PROT_READ | PROT_WRITE, -1) == MAP_FAILED)
        return NULL;
    alias = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (alias == MAP_FAILED)
        return NULL;
    memset(alias, 0xcc, 4096);
    diff_gate_fill(alias + DIFF_GATE_VA - DIFF_CODE_VA);
    diff_memory_fill(0, memory);
    memcpy(at(DIFF_SCRATCH_VA), memory, DIFF_SCRATCH);
    if (mprotect(at(DIFF_SCRATCH_VA + DIFF_WRITABLE), 4096, PROT_READ))
        return NULL;
    store_le64(at(DIFF_LEAVE_POINTER), (uint64_t)(uintptr_t)diff_leave);
    return alias;
}

/* The segments of 16-bit streams. */
static bool child_ldt(void)
{
    struct user_desc code = {.entry_number = DIFF_SELECTOR_CODE_16 >> 3,
                             .base_addr = DIFF_CODE_VA,
                             .limit = 0xffff,
                             .contents = 2 /* code, readable */,
                             .useable = 1};
    struct user_desc data = {.entry_number = DIFF_SELECTOR_DATA_16 >> 3,
                             .base_addr = DIFF_SCRATCH_VA,
                             .limit = DIFF_SCRATCH - 1,
                             .useable = 1};

    return !syscall(SYS_modify_ldt, 1, &code, sizeof(code)) &&
           !syscall(SYS_modify_ldt, 1, &data, sizeof(data));
}

static bool child_signals(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGVTALRM};
    stack_t stack = {.ss_size = 65536};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    stack.ss_sp = mmap(NULL, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                       0);
    if (stack.ss_sp == MAP_FAILED || sigaltstack(&stack, NULL))
        return false;
    for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
        if (sigaction(signals[i], &action, NULL))
            return false;
    diff_ticks_start(NULL);
    return true;
}

static _Noreturn void child_main(struct shared *shared, int commands, int replies)
{
    uint8_t *alias = child_map();
    char byte = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    shared->has_16 = child_ldt();
    if (!alias || !child_signals() || !sandbox_enter() || write(replies, &byte, 1) != 1)
        _exit(2);
    while (read(commands, &byte, 1) == 1) {
        for (shared->done = 0; shared->done < shared->nr_jobs; shared->done++)
            run_job(&shared->job[shared->done], alias);
        if (write(replies, &byte, 1) != 1)
            break;
    }
    _exit(0);
}

static int child_start(struct diff_native *native)
{
    int commands[2], replies[2];
    char byte;

    if (pipe(commands) || pipe(replies))
        return -errno;
    native->child = fork();
    if (native->child < 0)
        return -errno;
    if (!native->child) {
        close(commands[1]);
        close(replies[0]);
        child_main(native->shared, commands[0], replies[1]);
    }
    close(commands[0]);
    close(replies[1]);
    native->to_child = commands[1];
    native->from_child = replies[0];
    return read(replies[0], &byte, 1) == 1 ? 0 : -EIO;
}

static int child_stop(struct diff_native *native)
{
    int status = 0;

    if (native->child > 0) {
        kill(native->child, SIGKILL);
        waitpid(native->child, &status, 0);
        close(native->to_child);
        close(native->from_child);
    }
    native->child = 0;
    return status;
}

int diff_native_new(struct diff_native **ret, struct err *err)
{
    struct diff_native *native = calloc(1, sizeof(*native));
    int r;

    if (!native)
        return err_set(err, -ENOMEM, "native side");
    native->shared = mmap(NULL, sizeof(*native->shared), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (native->shared == MAP_FAILED)
        return err_set(err, -ENOMEM, "native side");
    signal(SIGPIPE, SIG_IGN);
    r = child_start(native);
    if (r)
        return err_errno(err, r, "native side: start the child");
    *ret = native;
    return 0;
}

void diff_native_free(struct diff_native *native)
{
    if (!native)
        return;
    child_stop(native);
    munmap(native->shared, sizeof(*native->shared));
    free(native);
}

bool diff_native_has_16(const struct diff_native *native)
{
    return native->shared->has_16;
}

void diff_native_start(struct diff_native *native, const struct diff_stream *streams, unsigned nr)
{
    struct shared *shared = native->shared;
    uint16_t offset[DIFF_INSNS_MAX + 1];

    for (unsigned i = 0; i < nr; i++) {
        struct job *job = &shared->job[i];

        job->code_length = diff_layout(&streams[i], job->code, offset);
        job->code_mode = streams[i].code_mode;
        job->vector = streams[i].vector;
        job->memory_seed = streams[i].memory_seed;
        job->state = streams[i].initial;
    }
    shared->nr_jobs = native->nr = nr;
    shared->done = 0;
    if (write(native->to_child, "r", 1) != 1)
        shared->done = 0;
}

void diff_native_wait(struct diff_native *native, struct diff_result *ret_results)
{
    struct pollfd poll_fd = {.fd = native->from_child, .events = POLLIN};
    unsigned done = native->nr;
    int status;
    char byte;

    if (poll(&poll_fd, 1, 20000) != 1 || read(native->from_child, &byte, 1) != 1) {
        done = native->shared->done;
        status = child_stop(native);
        fprintf(stderr, "native child died (status 0x%x) in stream %u of its batch\n", status,
                done);
        if (child_start(native))
            abort();
    }
    for (unsigned i = 0; i < native->nr; i++) {
        if (i < done) {
            ret_results[i] = native->shared->job[i].result;
            continue;
        }
        ret_results[i].lost = true;
        snprintf(ret_results[i].reason, sizeof(ret_results[i].reason), "native child died");
    }
}
