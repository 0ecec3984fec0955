/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thunk table and the memory that thunks live in: a bounded hash with short linear probing, and
 * one code buffer, filled from its start and emptied as a whole.
 *
 * The buffer is a memfd mapped once for writing and once for running. Code is only ever written
 * where none has run since the last flush; after a flush the processor is serialised, because the
 * two addresses of one byte hide the modification from it (SDM 3A 8.1.3).
 */
#include "soft/fpu/thunk.h"

#include "base/cleanup.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define THUNK_PROBES        8u
#define SIGNATURE_HYGON_EBX 0x6f677948u /* "Hygo" */

DEFINE_CLEANUP(thunks_freep, struct fpu_thunks *, thunks_free);

/* Does FXSAVE of this host write the instruction pointers while no exception is pending? */
static bool host_saves_pointers(void)
{
    static const double one = 1.0;
    struct fpu_area area;

    memset(&area, 0, sizeof(area));
    __asm__ volatile("fninit; fldl %1; fxsave64 %0; fninit" : "+m"(area) : "m"(one));
    return area.fip != 0;
}

/* AMD and Hygon do not ask SHA operands to be aligned; Intel does. The guest's vendor is the
 * host's.
 */
static bool host_is_amd(void)
{
    unsigned a, b, c, d;

    return __get_cpuid(0, &a, &b, &c, &d) && (b == signature_AMD_ebx || b == SIGNATURE_HYGON_EBX);
}

static void detect_host(struct fpu_thunks *thunks)
{
    unsigned a, b, c, d;

    thunks->host_saves_pointers = host_saves_pointers();
    thunks->host_is_amd = host_is_amd();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return;
    thunks->zero_selectors = b >> 13 & 1;
    thunks->fdp_by_exception = b >> 6 & 1;
}

static int map_code(struct fpu_thunks *thunks, struct err *err)
{
    CLEANUP(fd_closep) int fd = memfd_create("lodge-thunks", MFD_CLOEXEC);
    void *map;

    if (fd < 0)
        return err_errno(err, -errno, "memory for generated code");
    if (ftruncate(fd, THUNK_CODE_SIZE) < 0)
        return err_errno(err, -errno, "memory for generated code");
    map = mmap(NULL, THUNK_CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return err_errno(err, -errno, "map generated code for writing");
    thunks->code_write = map;
    map = mmap(NULL, THUNK_CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return err_errno(err, -errno, "map generated code for running");
    thunks->code_run = map;
    return 0;
}

int thunks_new(struct fpu_thunks **ret, struct err *err)
{
    CLEANUP(thunks_freep) struct fpu_thunks *thunks = NULL;
    void *memory = NULL;
    int r;

    if (posix_memalign(&memory, 64, sizeof(*thunks)))
        return err_set(err, -ENOMEM, "out of memory for the table of generated code");
    thunks = memory;
    memset(thunks, 0, sizeof(*thunks));
    r = map_code(thunks, err);
    if (r < 0)
        return r;
    thunks->io.fcw = FPU_FCW_DEFAULT;
    detect_host(thunks);
    *ret = TAKE_PTR(thunks);
    return 0;
}

void thunks_free(struct fpu_thunks *thunks)
{
    if (!thunks)
        return;
    if (thunks->code_write)
        munmap(thunks->code_write, THUNK_CODE_SIZE);
    if (thunks->code_run)
        munmap((void *)(uintptr_t)thunks->code_run, THUNK_CODE_SIZE);
    free(thunks);
}

/* IRET to the next instruction: the serialising instruction that costs least in user mode. */
static void serialise(void)
{
    uint64_t scratch;

    __asm__ volatile("mov %%rsp, %0\n\t"
                     "sub $128, %%rsp\n\t"
                     "and $-16, %%rsp\n\t"
                     "mov %%ss, %%eax\n\t"
                     "pushq %%rax\n\t"
                     "pushq %0\n\t"
                     "pushfq\n\t"
                     "mov %%cs, %%eax\n\t"
                     "pushq %%rax\n\t"
                     "lea 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "iretq\n"
                     "1:"
                     : "=&r"(scratch)
                     :
                     : "rax", "memory", "cc");
}

static void flush(struct fpu_thunks *thunks)
{
    memset(thunks->table, 0, sizeof(thunks->table));
    thunks->nr_thunks = 0;
    thunks->code_used = 0;
    thunks->nr_flushes++;
    serialise();
}

static struct thunk *free_slot(struct fpu_thunks *thunks, uint64_t key)
{
    unsigned slot = (unsigned)(key * UINT64_C(0x9e3779b97f4a7c15) >> 48);

    for (unsigned i = 0; i < THUNK_PROBES; i++) {
        struct thunk *thunk = &thunks->table[(slot + i) % THUNK_TABLE_SIZE];

        if (!thunk->key)
            return thunk;
    }
    return NULL;
}

struct thunk *thunk_make(struct fpu_thunks *thunks, const struct insn *insn, uint64_t key)
{
    struct thunk_code code = {.length = 0};
    struct thunk plan = {.key = key};
    struct thunk *slot;
    unsigned lean_at = 0;

    if (insn->traits & INSN_TRAIT_X87) {
        thunk_emit_x87(insn, &plan, &code);
        lean_at = code.length;
        lean_plan(insn, &plan);
        lean_emit(insn, &plan, &code);
    } else if (thunk_plan_vector(insn, &plan)) {
        thunk_emit_vector(insn, &plan, &code);
    } else {
        return NULL;
    }
    if (code.overflow)
        return NULL;
    slot = free_slot(thunks, key);
    if (!slot || thunks->code_used + code.length > THUNK_CODE_SIZE) {
        flush(thunks);
        slot = free_slot(thunks, key);
        if (!slot)
            return NULL;
    }
    memcpy(thunks->code_write + thunks->code_used, code.bytes, code.length);
    plan.run = (thunk_fn *)(uintptr_t)(thunks->code_run + thunks->code_used);
    plan.run_lean = (thunk_fn *)(uintptr_t)(thunks->code_run + thunks->code_used + lean_at);
    thunks->code_used = (size_t)align_up(thunks->code_used + code.length, 16);
    thunks->nr_thunks++;
    thunks->nr_made++;
    *slot = plan;
    return slot;
}
