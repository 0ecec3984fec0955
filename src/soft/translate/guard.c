/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What makes the flat tables of view.c safe: they tell linear addresses apart by some of their bits
 * only, so generated code may add the addend of one page to an address that differs from it in
 * others. The host address is then that of the page plus a multiple of STRIDE. Here all such
 * places (place_needed) of each piece of guest memory are taken, without access, so that nothing
 * else of the process ever lies there; the access faults, and the handler turns the fault into an
 * exit of the instruction. The same for an access that the host faults for its alignment.
 *
 * Invariants:
 *  1. A page gets into a flat table only when guard_covers it: its slot and all its places
 *     are reserved (those outside of user addresses are never accessible).
 *  2. The handler acts on faults of generated code alone, which it knows by guard_running (set
 * around every entry, per thread) and the code's range; all other faults go to who was there
 * before.
 *  3. Generated code that accesses guest memory has not changed guest state before (rule of
 *     translator_check), so the exit may name the instruction from its beginning.
 *
 * Threads: guard_covers any vCPU thread; the handler the faulting one.
 */
#include "soft/translate/translate_internal.h"

#include "base/log.h"
#include "base/sanitizer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#define STRIDE     (UINT64_C(1) << FLAT_ALIAS_BITS)
#define USER_START INT64_C(65536) /* below this is nothing of ours */
#define USER_END   ((INT64_C(1) << 47) - 4096)
#define PLACES     (USER_END / (int64_t)STRIDE + 1)
#define VSYSCALL   UINT64_C(0xffffffffff600000) /* a page of the kernel's that may be readable */
#define GUARDS_MAX MEMORY_SLOTS_MAX
#define AREA_TRIES 16u
#define AREA_STEP  (UINT64_C(1) << 30)
#define TRAP_STACK 12
#define TRAP_PAGE  14

struct guard {
    const uint8_t *host;
    uint64_t size_bytes;
    bool reserved;
};

struct translate_guards {
    pthread_mutex_t lock;
    unsigned nr; /* published after the entry */
    struct guard guard[GUARDS_MAX];
    bool area_asked;
    struct guard area; /* not guest memory: seams.c */
};

__thread struct translate *guard_running;

/* SIGBUS: an address that is not canonical, made of RBP (window_access.c), is a stack fault. */
static const int signals[] = {SIGSEGV, SIGBUS};
static struct sigaction previous[ARRAY_LEN(signals)];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool installed;

/* The operation whose code holds `at`, or false. */
static bool operation_at(const struct translate *translate, const uint8_t *at, uint32_t *ret_exit)
{
    uint32_t low = 1, high = translate->nr_translations;
    const struct translation *t;
    unsigned op = 0;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (translate->table[middle]->entry <= at)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 1)
        return false;
    t = translate->table[low - 1];
    while (op + 1u < t->nr_ops && t->entry + t->offset[op + 1] <= at)
        op++;
    *ret_exit = t->number << TRANSLATE_SHIFT | op << TRANSLATE_EXIT_BITS |
                (uint32_t)TRANSLATE_EXIT_GUARD;
    return true;
}

static void fault(int signal, siginfo_t *info, void *context)
{
    ucontext_t *user = context;
    greg_t *regs = user->uc_mcontext.gregs;
    const uint8_t *at = (const uint8_t *)(uintptr_t)regs[REG_RIP]; /* NOLINT */
    struct translate *translate = guard_running;
    const struct sigaction *before = &previous[signal == SIGBUS];
    uint32_t exit;

    if (translate && (signal == SIGSEGV || regs[REG_TRAPNO] == TRAP_STACK) &&
        (size_t)(at - translate->code.run) < translate->code.size &&
        operation_at(translate, at, &exit)) {
        translate->fault_address = (uintptr_t)info->si_addr;
        translate->fault_page = regs[REG_TRAPNO] == TRAP_PAGE;
        translate->fault_write = regs[REG_ERR] & 2;
        regs[REG_RCX] = exit;
        regs[REG_RIP] = (greg_t)(uintptr_t)code_cache_run(&translate->code, translate->leave);
        return;
    }
    if (before->sa_flags & SA_SIGINFO) {
        before->sa_sigaction(signal, info, context);
    } else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
        before->sa_handler(signal);
    } else {
        struct sigaction none = {.sa_handler = SIG_DFL};

        sigaction(signal, &none, NULL); /* and again */
    }
}

static void install(void)
{
    struct sigaction action = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO | SA_NODEFER};

    installed = true;
    for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
        installed &= !sigaction(signals[i], &action, &previous[i]);
}

/* ThreadSanitizer has most addresses for itself, and handles signals when it likes. */
bool faults_come_here(void)
{
    return installed && !SANITIZER_THREAD;
}

int translate_vm_init(struct soft_vm *vm)
{
    struct translate_guards *guards = calloc(1, sizeof(*guards));

    if (!guards)
        return -ENOMEM;
    pthread_once(&once, install);
    pthread_mutex_init(&guards->lock, NULL);
    vm->guards = guards;
    return 0;
}

/*
 * Can an entry for one address be used with another, `distance` strides away? In user mode bits 39
 * and above may differ; for a kernel 38, 39, and 42 and above.
 */
static bool place_needed(int64_t distance)
{
    return !(distance & 1) || ((distance + 3) & 15) <= 6;
}

/* The place so many strides away, as much of it as lies in user addresses; false: nothing. */
static bool place_at(const struct guard *guard, int64_t distance, void **ret, size_t *ret_size)
{
    int64_t start = (int64_t)(uintptr_t)guard->host + distance * (int64_t)STRIDE;
    int64_t end = MIN(start + (int64_t)guard->size_bytes, USER_END);

    start = MAX(start, USER_START);
    if (!distance || !place_needed(distance) || start >= end)
        return false;
    *ret = (void *)(uintptr_t)start; /* NOLINT */
    *ret_size = (size_t)(end - start);
    return true;
}

/* Those below this distance. */
static void places_release(const struct guard *guard, int64_t below)
{
    size_t size;
    void *at;

    for (int64_t i = -PLACES; i < below; i++)
        if (place_at(guard, i, &at, &size))
            munmap(at, size);
}

void translate_vm_done(struct soft_vm *vm)
{
    struct translate_guards *guards = vm->guards;

    if (!guards)
        return;
    for (unsigned i = 0; i < guards->nr; i++)
        if (guards->guard[i].reserved)
            places_release(&guards->guard[i], PLACES);
    if (guards->area.reserved) {
        places_release(&guards->area, PLACES);
        munmap((void *)(uintptr_t)guards->area.host, guards->area.size_bytes);
    }
    pthread_mutex_destroy(&guards->lock);
    free(guards);
    vm->guards = NULL;
}

static bool reserve(const struct guard *guard)
{
    size_t size;
    void *at;

    /* (And reads MAP_FIXED_NOREPLACE as a hint.) */
    if (!faults_come_here() ||
        ((VSYSCALL - (uintptr_t)guard->host) & (STRIDE - 1)) < guard->size_bytes ||
        guard->size_bytes > STRIDE)
        return false;
    for (int64_t i = -PLACES; i < PLACES; i++) {
        void *map;

        if (!place_at(guard, i, &at, &size))
            continue;
        map = mmap(at, size, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (map == at)
            continue;
        if (map != MAP_FAILED)
            munmap(map, size);
        places_release(guard, i);
        return false;
    }
    return true;
}

/* Takes memory for the seams of all vCPUs (seams.c) that can be guarded: behind guest memory, where
 * what guards it is free as a rule. */
static void area_take(struct soft_vm *vm)
{
    struct guard *area = &vm->guards->area;
    uint64_t behind = (uintptr_t)vm->memory->slots[0].host + vm->memory->slots[0].size_bytes;

    area->size_bytes = vm->config->nr_cpus * SEAM_AREA_BYTES;
    for (unsigned i = 0; i < AREA_TRIES && !area->reserved; i++) {
        void *at = (void *)(uintptr_t)align_up(behind + i * AREA_STEP, LARGE_PAGE); /* NOLINT */
        void *map = mmap(at, area->size_bytes, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

        if (map == MAP_FAILED)
            continue;
        area->host = map;
        area->reserved = map == at && reserve(area);
        if (!area->reserved)
            munmap(map, area->size_bytes);
    }
}

uint8_t *guard_area(const struct soft_vm *vm)
{
    return vm->guards->area.reserved ? (uint8_t *)(uintptr_t)vm->guards->area.host : NULL;
}

static const struct guard *guard_find(const struct translate_guards *guards, const uint8_t *host)
{
    unsigned nr = __atomic_load_n(&guards->nr, __ATOMIC_ACQUIRE);

    for (unsigned i = 0; i < nr; i++)
        if ((uint64_t)(host - guards->guard[i].host) < guards->guard[i].size_bytes)
            return &guards->guard[i];
    return NULL;
}

static const struct guard *guard_make(struct soft_vm *vm, const uint8_t *host)
{
    struct translate_guards *guards = vm->guards;
    const struct guard *found;

    pthread_mutex_lock(&guards->lock);
    found = guard_find(guards, host);
    for (unsigned i = 0; !found && i < vm->memory->nr_slots; i++) {
        const struct memory_slot *slot = &vm->memory->slots[i];
        struct guard *guard = &guards->guard[guards->nr];

        if ((uint64_t)(host - slot->host) >= slot->size_bytes || guards->nr == GUARDS_MAX)
            continue;
        guard->host = slot->host;
        guard->size_bytes = slot->size_bytes;
        guard->reserved = reserve(guard);
        if (!guard->reserved)
            log_info("engine soft: the addresses that would guard memory slot %u are taken: "
                     "slower memory accesses",
                     i);
        __atomic_store_n(&guards->nr, guards->nr + 1, __ATOMIC_RELEASE);
        found = guard;
    }
    pthread_mutex_unlock(&guards->lock);
    return found;
}

bool guard_covers(struct soft_vm *vm, const uint8_t *host)
{
    const struct guard *guard = guard_find(vm->guards, host);

    if (UNLIKELY(!guard))
        guard = guard_make(vm, host);
    return guard && guard->reserved;
}

void guards_reserve(struct soft_vm *vm)
{
    for (unsigned i = 0; i < vm->memory->nr_slots; i++)
        guard_covers(vm, vm->memory->slots[i].host);
    pthread_mutex_lock(&vm->guards->lock);
    if (!vm->guards->area_asked && vm->memory->nr_slots)
        area_take(vm);
    vm->guards->area_asked = true;
    pthread_mutex_unlock(&vm->guards->lock);
}

unsigned guards_missing(const struct soft_vm *vm)
{
    unsigned nr = __atomic_load_n(&vm->guards->nr, __ATOMIC_ACQUIRE), missing = 0;

    for (unsigned i = 0; i < nr; i++)
        missing += !vm->guards->guard[i].reserved;
    return missing;
}
