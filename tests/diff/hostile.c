/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile guests: whatever a guest does, the process goes on, and nothing of it changes but the
 * guest's own memory.
 *
 *   hostile [--seconds T] [--seed S] [--one SEED] [--engine OPTIONS]
 *
 * Each guest has two vCPUs on threads of their own, in one of these states, and runs for some
 * milliseconds, or until it dies of something that has a name (shutdown, unsupported):
 *
 *   noise     random bytes for memory and registers, in any mode
 *   tables    long mode; descriptor tables and page tables partly random, pointing everywhere
 *   accesses  long mode, ring 0 and 3: every instruction that decodes, with registers that hold the
 *             worst addresses (not canonical, edges of memory, pointers of this process),
 * exceptions lead to other code, so that it runs for long and is translated
 *
 * Witnesses: pages of a known pattern before, between and behind all mappings of the engine, blocks
 * on the heap between its own. They are looked through after each guest. Guests run in a child of
 * their own, by the hundred: a crash is the parent's to report, with the seed.
 *
 * LODGE_TEST_LONG=N in the environment: N times as long.
 */
#include "diff.h"

#include "base/clock.h"
#include "base/util.h"
#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "soft/soft.h"

#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR_CPUS     2u
#define RAM         0x200000u
#define HIGH        UINT64_C(0x100000000) /* a second slot */
#define HIGH_SIZE   0x10000u
#define CODE        0x20000u
#define CODE_SIZE   0x40000u
#define GPA_SEED    0x9000u
#define GPA_PML4    0x1000u
#define GPA_HANDLER 0x8000u
#define GPA_GDT     0xa000u
#define GPA_IDT     0xb000u
#define GPA_TSS     0xc000u
#define GPA_STACKS  0x10000u
#define PATTERN     UINT64_C(0x6c6f646765776974)
#define NR_PAGES    24u
#define PAGES_SIZE  65536u
#define NR_BLOCKS   64u
#define BLOCK_SIZE  512u
#define PER_CHILD   60u

extern const uint8_t hostile_handlers[], hostile_handler_error[], hostile_handlers_end[];

struct shared {
    uint64_t seed, guests, exits[8], translated, exceptions;
    char what[200]; /* a witness changed */
};

struct guest {
    struct memory *memory;
    struct cpuid_policy policy;
    struct cpu_bus bus;
    struct cpu_irqchip irqchip;
    struct cpu_vm *vm;
    struct cpu *cpu[NR_CPUS];
    uint8_t *ram;
    uint64_t seed[NR_CPUS]; /* of the bus, one a thread */
    struct shared *shared;
};

static uint64_t *pages[NR_PAGES], *blocks[NR_BLOCKS];
static unsigned nr_pages, nr_blocks;

static void witness(void)
{
    if (nr_pages < NR_PAGES) {
        uint64_t *map = mmap(NULL, PAGES_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                             -1, 0);

        if (map == MAP_FAILED)
            exit(2);
        for (unsigned i = 0; i < PAGES_SIZE / 8; i++)
            map[i] = PATTERN ^ (uintptr_t)&map[i];
        pages[nr_pages++] = map;
    }
    for (unsigned k = 0; k < 4 && nr_blocks < NR_BLOCKS; k++) {
        uint64_t *block = malloc(BLOCK_SIZE);

        if (!block)
            exit(2);
        for (unsigned i = 0; i < BLOCK_SIZE / 8; i++)
            block[i] = PATTERN ^ (uintptr_t)&block[i];
        blocks[nr_blocks++] = block;
    }
}

static bool whole(const uint64_t *words, unsigned size, struct shared *shared)
{
    for (unsigned i = 0; i < size / 8; i++)
        if (words[i] != (PATTERN ^ (uintptr_t)&words[i])) {
            snprintf(shared->what, sizeof(shared->what), "%p holds %016llx",
                     (const void *)&words[i], (unsigned long long)words[i]);
            return false;
        }
    return true;
}

static bool witnesses_whole(struct shared *shared)
{
    bool good = true;

    for (unsigned i = 0; i < nr_pages && good; i++)
        good = whole(pages[i], PAGES_SIZE, shared);
    for (unsigned i = 0; i < nr_blocks && good; i++)
        good = whole(blocks[i], BLOCK_SIZE, shared);
    return good;
}

static void answer(struct guest *guest, unsigned cpu, void *data, unsigned size)
{
    uint64_t value = diff_random(&guest->seed[cpu]);

    if (size > 8 || !size)
        abort();
    memcpy(data, &value, size);
}

static void io_read(void *context, unsigned cpu, uint16_t port, void *data, unsigned size)
{
    (void)port;
    answer(context, cpu, data, size);
}

static void io_write(void *context, unsigned cpu, uint16_t port, const void *data, unsigned size)
{
    (void)context, (void)cpu, (void)port, (void)data;
    if (size > 4)
        abort();
}

static void mmio_read(void *context, unsigned cpu, gpa_t gpa, void *data, unsigned size)
{
    (void)gpa;
    answer(context, cpu, data, size);
}

static void mmio_write(void *context, unsigned cpu, gpa_t gpa, const void *data, unsigned size)
{
    (void)context, (void)cpu, (void)gpa, (void)data;
    if (size > 8)
        abort();
}

static int acknowledge(void *context, unsigned cpu)
{
    struct guest *guest = context;
    uint64_t value = diff_random(&guest->seed[cpu]);

    return value & 3 ? -1 : (int)(value >> 8 & 0xff);
}

static bool pending(void *context, unsigned cpu)
{
    (void)context, (void)cpu;
    return false;
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
    (void)index;
    answer(context, cpu, ret, 8);
    return 0;
}

static int msr_write(void *context, unsigned cpu, uint32_t index, uint64_t value)
{
    (void)context, (void)cpu, (void)index, (void)value;
    return 0;
}

/* An address that should hurt. */
static uint64_t bad_address(uint64_t *seed)
{
    static const uint64_t edges[] = {0,
                                     0x1000,
                                     0xa0000,
                                     RAM,
                                     0x80000000,
                                     HIGH,
                                     HIGH + HIGH_SIZE,
                                     UINT64_C(0x7fffffffffff),
                                     UINT64_C(0x800000000000),
                                     UINT64_C(0xffff7fffffffffff),
                                     UINT64_C(0xffff800000000000),
                                     UINT64_C(0x4000000000000000),
                                     UINT64_C(0x8000000000000000),
                                     0};

    switch (diff_pick(seed, 8)) {
    case 6: /* the same low bits as a good one, which may be cached */
    case 7:
        return diff_pick(seed, RAM) + (diff_random(seed) << (38 + diff_pick(seed, 6)));
    case 0:
        return diff_random(seed);
    case 1: /* of this process */
        return (uintptr_t)pages[diff_pick(seed, nr_pages)] + diff_pick(seed, PAGES_SIZE);
    case 2:
        return diff_pick(seed, RAM);
    case 3:
        return (uintptr_t)&hostile_handlers + diff_pick(seed, 4096);
    default:
        return edges[diff_pick(seed, ARRAY_LEN(edges))] + diff_pick(seed, 64) - 32u;
    }
}

/* mov r64, imm64 and an instruction that decodes, again and again; jumps of all kinds come with
 * them. */
static void fill_code(struct guest *guest, uint64_t *seed)
{
    uint8_t *code = guest->ram + CODE;
    unsigned at = 0;

    while (at < CODE_SIZE - 64) {
        uint8_t bytes[16];
        struct insn insn;

        if (!diff_pick(seed, 3)) {
            unsigned reg = diff_pick(seed, CPU_NR_GPRS);

            code[at++] = (uint8_t)(0x48 | (reg >= 8));
            code[at++] = (uint8_t)(0xb8 | (reg & 7));
            store_le64(code + at, bad_address(seed));
            at += 8;
        }
        store_le64(bytes, diff_random(seed));
        store_le64(bytes + 8, diff_random(seed));
        if (diff_pick(seed, 3) == 0)
            bytes[0] = 0x0f;
        else if (diff_pick(seed, 4) == 0)
            bytes[0] = 0xc4, bytes[1] = (uint8_t)((bytes[1] & 0xe0) | (1 + bytes[1] % 3));
        else if (diff_pick(seed, 3) == 0)
            bytes[0] = (uint8_t)(0x40 | (bytes[0] & 15));
        if (insn_decode(bytes, INSN_LENGTH_MAX, INSN_MODE_64, &insn) != INSN_OK)
            continue;
        /* What ends a guest at once, seldom. */
        if ((insn.id == INSN_HLT || insn.id == INSN_CLI || insn.id == INSN_LIDT ||
             insn.id == INSN_MOV_CR || insn.id == INSN_LTR || insn.id == INSN_WRMSR) &&
            diff_pick(seed, 20))
            continue;
        memcpy(code + at, bytes, insn.length);
        at += insn.length;
    }
}

static void put_gate(struct guest *guest, unsigned vector)
{
    static const uint32_t with_error = 0x00227d00; /* 8, 10-14, 17, 21 */
    uint64_t handler = GPA_HANDLER;

    if (vector < 32 && (with_error >> vector & 1))
        handler += (uint64_t)(hostile_handler_error - hostile_handlers);
    store_le64(guest->ram + GPA_IDT + 16 * vector, (handler & 0xffff) | UINT64_C(8) << 16 |
                                                       UINT64_C(0xee01) << 32 |
                                                       (handler & 0xffff0000) << 32);
    store_le64(guest->ram + GPA_IDT + 16 * vector + 8, 0);
}

/* Identity for 2 MiB by small pages, user, in both halves; 1 GiB pages above. */
static void fill_tables(struct guest *guest, uint64_t *seed, bool garbage)
{
    uint8_t *ram = guest->ram;

    for (unsigned half = 0; half < 2; half++)
        store_le64(ram + GPA_PML4 + 2048 * half, 0x2007);
    store_le64(ram + 0x2000, 0x3007);
    for (uint64_t i = 1; i < 5; i++)
        store_le64(ram + 0x2000 + 8 * i, i << 30 | 0x87);
    store_le64(ram + 0x3000, 0x4007);
    for (uint64_t i = 0; i < 512; i++)
        store_le64(ram + 0x4000 + 8 * i, i << 12 | 0x67);
    memcpy(ram + GPA_HANDLER, hostile_handlers, (size_t)(hostile_handlers_end - hostile_handlers));
    store_le64(ram + GPA_SEED, diff_random(seed));
    store_le64(ram + GPA_GDT + 8, UINT64_C(0x00af9b000000ffff));
    store_le64(ram + GPA_GDT + 16, UINT64_C(0x00cf93000000ffff));
    store_le64(ram + GPA_GDT + 24, UINT64_C(0x00cff3000000ffff));
    store_le64(ram + GPA_GDT + 32, UINT64_C(0x00affb000000ffff));
    store_le64(ram + GPA_GDT + 40, UINT64_C(0x00008b0000000067) | (uint64_t)GPA_TSS << 16);
    for (unsigned vector = 0; vector < 256; vector++)
        put_gate(guest, vector);
    for (unsigned i = 0; i < 8; i++)
        store_le64(ram + GPA_TSS + 0x24 + 8 * i, GPA_STACKS + 0x1000);
    store_le64(ram + GPA_TSS + 4, GPA_STACKS + 0x2000);
    for (unsigned n = garbage ? 20 + diff_pick(seed, 400) : 0; n; n--) {
        /* Somewhere in page tables, descriptors and gates. */
        static const uint32_t tables[] = {0x1000, 0x2000, 0x3000, 0x4000, 0x4000, 0xa000, 0xb000};
        uint32_t place = tables[diff_pick(seed, ARRAY_LEN(tables))] + (diff_pick(seed, 512) * 8);
        uint64_t value = diff_random(seed);

        if (diff_pick(seed, 2))
            value = (value & (RAM - 1) & ~UINT64_C(0xfff)) | (value >> 40 & 0x1ff) | 1;
        if (place >= 0x4000 + 8 * 16 || diff_pick(seed, 8) == 0)
            store_le64(ram + place, value);
    }
}

static void state_long(struct guest *guest, uint64_t *seed, struct cpu_state *s)
{
    bool user = diff_pick(seed, 2);

    s->cr0 = CPU_CR0_PE | CPU_CR0_ET | CPU_CR0_NE | CPU_CR0_MP | CPU_CR0_PG |
             (diff_random(seed) & (CPU_CR0_WP | CPU_CR0_AM));
    s->cr3 = GPA_PML4;
    s->cr4 = CPU_CR4_PAE | CPU_CR4_OSFXSR | CPU_CR4_OSXMMEXCPT | CPU_CR4_OSXSAVE |
             CPU_CR4_FSGSBASE | (diff_random(seed) & (CPU_CR4_PGE | CPU_CR4_UMIP));
    s->efer = CPU_EFER_SCE | CPU_EFER_LME | CPU_EFER_LMA | CPU_EFER_NXE;
    s->xcr0 = CPU_XCR0_SUPPORTED;
    s->lstar = CODE + diff_pick(seed, CODE_SIZE);
    s->star = UINT64_C(0x0013000800000000);
    s->gdtr = (struct cpu_table_register){.base = GPA_GDT, .limit = 0x7f};
    s->idtr = (struct cpu_table_register){.base = GPA_IDT, .limit = 0xfff};
    s->tr =
        (struct cpu_segment){.base = GPA_TSS, .limit = 0x67, .attributes = 0x8b, .selector = 40};
    s->segment[CPU_CS] = (struct cpu_segment){
        .limit = 0xffffffff, .attributes = user ? 0xa0fb : 0xa09b, .selector = user ? 0x23 : 8};
    s->segment[CPU_SS] = (struct cpu_segment){
        .limit = 0xffffffff, .attributes = user ? 0xc0f3 : 0xc093, .selector = user ? 0x1b : 16};
    s->segment[CPU_FS].base = bad_address(seed);
    s->segment[CPU_GS].base = bad_address(seed);
    s->kernel_gs_base = bad_address(seed);
    for (unsigned i = 0; i < CPU_NR_GPRS; i++)
        s->gpr[i] = bad_address(seed);
    s->gpr[CPU_RSP] = GPA_STACKS + 0x4000;
    s->rflags = 0x3202 | (diff_random(seed) & CPU_FLAGS_STATUS);
    s->rip = (diff_pick(seed, 2) ? 0 : UINT64_C(0xffff800000000000)) + CODE +
             diff_pick(seed, CODE_SIZE);
    (void)guest;
}

static void state_noise(uint64_t *seed, struct cpu_state *s)
{
    unsigned mode = diff_pick(seed, 3);

    for (unsigned i = 0; i < CPU_NR_GPRS; i++)
        s->gpr[i] = diff_pick(seed, 2) ? diff_random(seed) : bad_address(seed);
    s->rip = diff_pick(seed, mode ? RAM : 0x10000);
    s->rflags = (diff_random(seed) & 0x3ed5) | 2;
    s->segment[CPU_CS].base = mode ? 0 : diff_pick(seed, 0x10000) << 4;
    s->gdtr = (struct cpu_table_register){.base = diff_pick(seed, RAM), .limit = 0xffff};
    s->idtr = (struct cpu_table_register){.base = diff_pick(seed, RAM), .limit = 0xffff};
    if (!mode)
        return;
    s->cr0 |= CPU_CR0_PE;
    for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++)
        s->segment[i] = (struct cpu_segment){.base = diff_pick(seed, 2) ? 0 : diff_pick(seed, RAM),
                                             .limit = (uint32_t)diff_random(seed) | 0xfff,
                                             .attributes = 0xc093,
                                             .selector = 16};
    s->segment[CPU_CS].attributes = 0xc09b;
    if (mode == 2) { /* 32-bit paging through noise */
        s->cr3 = diff_pick(seed, RAM) & ~0xfffu;
        s->cr0 |= CPU_CR0_PG;
    }
}

static void *run_cpu(void *argument)
{
    struct cpu *cpu = argument;
    struct cpu_exit exit = {.kind = CPU_EXIT_SHUTDOWN};

    for (unsigned halts = 0; halts < 200; halts++) {
        if (soft_engine.run(cpu, &exit, NULL))
            abort();
        if (exit.kind != CPU_EXIT_HALT)
            break;
        cpu_request(cpu, halts & 1 ? CPU_REQUEST_NMI : CPU_REQUEST_INTERRUPT);
    }
    return (void *)(uintptr_t)exit.kind; /* NOLINT(performance-no-int-to-ptr) */
}

static struct guest *guest_new(const char *engine, struct shared *shared)
{
    struct guest *guest = calloc(1, sizeof(*guest));
    struct cpuid_options options = {.nr_cpus = NR_CPUS, .tsc_hz = cpu_host_tsc_hz()};
    struct cpu_vm_config config = {.nr_cpus = NR_CPUS, .tsc_hz = options.tsc_hz, .options = engine};
    struct err err = ERR_INIT;
    int r;

    if (!guest)
        exit(2);
    guest->shared = shared;
    guest->bus = (struct cpu_bus){guest, io_read, io_write, mmio_read, mmio_write};
    guest->irqchip = (struct cpu_irqchip){guest,     acknowledge, pending,  cr8_read,
                                          cr8_write, msr_read,    msr_write};
    cpuid_policy_init(&guest->policy, &options);
    witness();
    r = memory_new(&guest->memory, &err);
    if (!r)
        r = memory_add_ram(guest->memory, 0, RAM, &err);
    witness();
    if (!r)
        r = memory_add_ram(guest->memory, HIGH, HIGH_SIZE, &err);
    witness();
    config.memory = guest->memory;
    config.bus = &guest->bus;
    config.irqchip = &guest->irqchip;
    config.cpuid = &guest->policy;
    if (!r)
        r = soft_engine.vm_new(&config, &guest->vm, &err);
    for (unsigned i = 0; i < NR_CPUS && !r; i++) {
        witness();
        r = soft_engine.cpu_new(guest->vm, i, &guest->cpu[i], &err);
    }
    witness();
    if (r) {
        fprintf(stderr, "hostile: %s\n", err.message);
        exit(2);
    }
    guest->ram = memory_range(guest->memory, 0, RAM);
    return guest;
}

static void guest_free(struct guest *guest)
{
    for (unsigned i = 0; i < NR_CPUS; i++)
        soft_engine.cpu_free(guest->cpu[i]);
    soft_engine.vm_free(guest->vm);
    memory_free(guest->memory);
    free(guest);
}

static void guest_fill(struct guest *guest, uint64_t seed)
{
    unsigned kind = diff_pick(&seed, 5);

    for (unsigned i = 0; i < RAM; i += 8)
        store_le64(guest->ram + i, kind ? 0 : diff_random(&seed));
    if (kind) {
        fill_tables(guest, &seed, kind == 1);
        fill_code(guest, &seed);
    }
    memory_written(guest->memory, 0, RAM);
    for (unsigned i = 0; i < NR_CPUS; i++) {
        struct cpu_state state;

        guest->seed[i] = diff_random(&seed);
        cpu_state_reset(&state, i);
        state.activity = CPU_ACTIVITY_RUNNING;
        if (kind)
            state_long(guest, &seed, &state);
        else
            state_noise(&seed, &state);
        soft_engine.set_state(guest->cpu[i], &state, NULL);
        cpu_take_requests(guest->cpu[i], UINT32_MAX & ~CPU_REQUEST_ENGINE);
    }
}

static void guest_run(struct guest *guest, uint64_t seed)
{
    unsigned us = 500 + (unsigned)(seed % 7) * 700;
    pthread_t thread[NR_CPUS];
    struct cpu_state state;
    void *kind;

    guest_fill(guest, seed);
    for (unsigned i = 0; i < NR_CPUS; i++)
        if (pthread_create(&thread[i], NULL, run_cpu, guest->cpu[i]))
            exit(2);
    for (unsigned i = 0; i < 8; i++) {
        usleep(us / 8);
        cpu_request(guest->cpu[i & 1], i & 2 ? CPU_REQUEST_NMI : CPU_REQUEST_INTERRUPT);
    }
    for (unsigned i = 0; i < NR_CPUS; i++) {
        cpu_request(guest->cpu[i], CPU_REQUEST_KICK);
        pthread_join(thread[i], &kind);
        guest->shared->exits[(uintptr_t)kind % ARRAY_LEN(guest->shared->exits)]++;
        if (soft_engine.get_state(guest->cpu[i], &state, NULL))
            abort();
    }
    guest->shared->guests++;
}

static void note_counters(struct guest *guest)
{
    for (unsigned i = 0; i < NR_CPUS; i++) {
        struct cpu_counters counters;

        soft_engine.counters(guest->cpu[i], &counters);
        guest->shared->translated += counters.blocks_translated;
        guest->shared->exceptions += counters.exceptions;
    }
}

static _Noreturn void child_main(const char *engine, struct shared *shared, unsigned nr)
{
    struct guest *guest = guest_new(engine, shared);
    bool good = true;

    alarm(60 + nr);
    for (; nr && good; nr--) {
        guest_run(guest, shared->seed);
        good = witnesses_whole(shared);
        if (good)
            shared->seed++;
    }
    note_counters(guest);
    guest_free(guest);
    for (unsigned i = 0; i < nr_blocks; i++)
        free(blocks[i]);
    exit(good ? 0 : 3);
}

int main(int argc, char **argv)
{
    static const struct option table[] = {{"seconds", required_argument, NULL, 't'},
                                          {"seed", required_argument, NULL, 's'},
                                          {"one", required_argument, NULL, 'o'},
                                          {"engine", required_argument, NULL, 'e'},
                                          {NULL, 0, NULL, 0}};
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const char *engine = "tier=translate,runs=0,cache=1024", *more = getenv("LODGE_TEST_LONG");
    double seconds = 20;
    uint64_t one = 0, start = clock_monotonic_ns();
    int c, status = 0;

    if (shared == MAP_FAILED)
        return 2;
    shared->seed = UINT64_C(1) << 32;
    while ((c = getopt_long(argc, argv, "", table, NULL)) >= 0) {
        if (c == 't')
            seconds = strtod(optarg, NULL);
        else if (c == 's')
            shared->seed = strtoull(optarg, NULL, 0) << 32;
        else if (c == 'o')
            one = shared->seed = strtoull(optarg, NULL, 0);
        else if (c == 'e')
            engine = optarg;
        else
            return 2;
    }
    if (more && strtod(more, NULL) > 1)
        seconds *= strtod(more, NULL);
    while (!status && (double)(clock_monotonic_ns() - start) < seconds * (double)NS_PER_S) {
        pid_t child = fork();

        if (!child)
            child_main(engine, shared, one ? 1 : PER_CHILD);
        if (child < 0 || waitpid(child, &status, 0) != child)
            return 2;
        if (one)
            shared->seed = one;
    }
    if (status)
        printf("FAILED: --one %llu: status 0x%x %s\n", (unsigned long long)shared->seed, status,
               shared->what);
    printf("%llu guests: halted %llu, kicked %llu, shut down %llu, unsupported %llu; "
           "%llu blocks translated, %llu exceptions\n",
           (unsigned long long)shared->guests, (unsigned long long)shared->exits[CPU_EXIT_HALT],
           (unsigned long long)shared->exits[CPU_EXIT_KICK],
           (unsigned long long)shared->exits[CPU_EXIT_SHUTDOWN],
           (unsigned long long)shared->exits[CPU_EXIT_UNSUPPORTED],
           (unsigned long long)shared->translated, (unsigned long long)shared->exceptions);
    return status ? EXIT_FAILURE : EXIT_SUCCESS;
}
