/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU's translator comes and goes; translations die.
 *
 * A translation dies with its block (translate_block_killed) or with everything
 * (translate_flushed). Its memory stays until the latter, which is called only between blocks.
 */
#include "soft/translate/translate_internal.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <time.h>

#define HWCAP2_WRGSBASE 2u
#define PATIENCE_S      2
#define SETTLE_NS       (10 * NS_PER_S)
#define PATIENCE_MAX    4096u

int translate_probe(struct err *err)
{
    struct code_cache code = {0};
    int error;

    if (!__builtin_cpu_supports("bmi2"))
        return err_set(err, -ENOTSUP, "the host's processor has no BMI2");
    if (!__builtin_cpu_supports("avx2"))
        return err_set(err, -ENOTSUP, "the host's processor has no AVX2");
    if (!(getauxval(AT_HWCAP2) & HWCAP2_WRGSBASE))
        return err_set(err, -ENOTSUP, "the host's processor or kernel has no FSGSBASE");
    error = code_cache_init(&code, 65536, err); /* a policy may forbid code in memory */
    code_cache_done(&code);
    return error ? -ENOTSUP : 0;
}

static int memory_map(struct translate *translate, size_t size, struct err *err)
{
    int error = code_cache_init(&translate->code, size, err);

    if (error)
        return error;
    translate->arena_size = size; /* a block's tables are about as large as its code */
    translate->arena = mmap(NULL, translate->arena_size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    translate->table = mmap(NULL, TRANSLATE_TABLE_MAX * sizeof(translate->table[0]),
                            PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                            0);
    if (translate->arena != MAP_FAILED)
        madvise(translate->arena, translate->arena_size, MADV_HUGEPAGE);
    if (translate->arena == MAP_FAILED || translate->table == (void *)MAP_FAILED)
        return err_set(err, -ENOMEM, "engine soft: memory for translated code");
    return 0;
}

static void hot_fill(struct translate *translate)
{
    static const uint64_t keep[TRANSLATE_NR_KEEP] = {
        [TRANSLATE_KEEP_NOT_IF] = ~CPU_FLAG_IF,
        [TRANSLATE_KEEP_NOT_DF] = ~CPU_FLAG_DF,
        [TRANSLATE_KEEP_NOT_AC] = ~CPU_FLAG_AC,
        [TRANSLATE_KEEP_DF] = CPU_FLAG_DF,
        [TRANSLATE_KEEP_STATUS] = CPU_FLAGS_STATUS,
        [TRANSLATE_KEEP_PUSHED] = ~(CPU_FLAGS_STATUS | CPU_FLAG_RF | CPU_FLAG_VM),
        [TRANSLATE_KEEP_TSD] = CPU_CR4_TSD,
        [TRANSLATE_KEEP_NO_FPU] = CPU_CR0_EM | CPU_CR0_TS,
        [TRANSLATE_KEEP_FSGSBASE] = CPU_CR4_FSGSBASE,
    };
    struct translate_hot *hot = translate->hot;

    memcpy(hot->keep, keep, sizeof(keep));
    hot->low_bits[0] = 31;
    hot->low_bits[1] = 63;
    for (unsigned i = 0; i < MMU_NR_CLASSES; i++)
        hot->class_base[i] = (uintptr_t)translate->region[i] - FLAT_SIZE - WINDOW_TABLE_SIZE;
}

int translate_init(struct soft_cpu *cpu, struct err *err)
{
    size_t size = cpu->vm->translate_memory / cpu->vm->config->nr_cpus / 2;
    struct translate *translate;
    int error;

    translate = aligned_alloc(LARGE_PAGE, align_up(sizeof(*translate), LARGE_PAGE));
    if (!translate)
        return err_set(err, -ENOMEM, "engine soft: memory for translated code");
    madvise(translate, align_up(sizeof(*translate), LARGE_PAGE), MADV_HUGEPAGE);
    memset(translate, 0, sizeof(*translate));
    cpu->translate = translate;
    error = memory_map(translate, align_down(MAX(size, (size_t)TRANSLATE_CACHE_LEAST), 65536), err);
    if (error)
        return error;
    error = view_init(cpu->vm, translate);
    if (error)
        return err_set(err, error, "engine soft: memory for translated code");
    seams_init(cpu);
    window_init(cpu);
    translate->table[0] = &translate->nobody;
    translate->patience = (uint32_t)cpu->vm->translate_runs;
    translate->flushed_s = INT64_MIN / 2;
    translate->settle_at = clock_monotonic_ns() + SETTLE_NS;
    translate->nr_translations = 1;
    translate->hot->pauses = TRANSLATE_PAUSES;
    translate->hot->x87_absent = 1;
    translate->hot->x87_last = translate->hot->x87_segment = TRANSLATE_X87_NONE;
    translate->hot->mxcsr_host = FPU_MXCSR_DEFAULT;
    translate->hot->cpu = (uintptr_t)cpu;
    hot_fill(translate);
    error = trampolines_emit(translate);
    jumps_init(translate);
    if (!error)
        error = returns_init(translate);
    return error ? err_set(err, error, "engine soft: memory for translated code") : 0;
}

void translate_done(struct soft_cpu *cpu)
{
    struct translate *translate = cpu->translate;

    if (!translate)
        return;
    cpu->translate = NULL;
    code_cache_done(&translate->code);
    if (translate->arena && translate->arena != MAP_FAILED)
        munmap(translate->arena, translate->arena_size);
    if (translate->table && translate->table != (void *)MAP_FAILED)
        munmap(translate->table, TRANSLATE_TABLE_MAX * sizeof(translate->table[0]));
    returns_done(translate);
    window_done(translate);
    view_done(translate);
    free(translate);
}

void translate_begin(struct soft_cpu *cpu)
{
    cpu->translate->hot->gs = 0;
}

void translate_block_killed(struct soft_cpu *cpu, struct interp_block *block)
{
    struct translation *t = block->translation;

    if (!t)
        return;
    block->translation = NULL;
    t->block = NULL;
    if (t->careful)
        t->careful->block = NULL;
    cpu->translate->counts.killed++;
    links_cut(cpu->translate, t);
    jumps_forget(cpu->translate, t);
}

/* Code that does not find room is not translated again at once: what is flushed again and again
 * must have run more often first, so that a loop larger than the memory is rather interpreted. */
static void patience_set(const struct soft_cpu *cpu)
{
    struct translate *translate = cpu->translate;
    struct timespec time;

    if (!translate->full)
        return;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    if (time.tv_sec - translate->flushed_s < PATIENCE_S)
        translate->patience = MIN((translate->patience + 1) * 4, PATIENCE_MAX);
    else
        translate->patience = (uint32_t)cpu->vm->translate_runs;
    translate->flushed_s = time.tv_sec;
}

void translate_flushed(struct soft_cpu *cpu)
{
    struct translate *translate = cpu->translate;

    if (!translate)
        return;
    for (uint32_t i = 0; i < translate->nr_translations; i++) {
        struct translation *t = translate->table[i];

        if (t->block) {
            t->block->translation = NULL;
            t->block->runs = 0;
        }
        t->block = NULL;
    }
    patience_set(cpu);
    translate->nr_translations = 1;
    translate->counts.flushes++;
    translate->generation++;
    returns_forget(translate);
    links_flushed(translate);
    translate->arena_used = 0;
    madvise(translate->arena, translate->arena_size, MADV_DONTNEED);
    translate->code.used = translate->code_start;
    translate->code.cold = translate->code.size;
    translate->full = false;
    jumps_flush(translate);
}

void translate_kick(struct soft_cpu *cpu)
{
    if (cpu->translate)
        returns_kick(cpu->translate);
}
