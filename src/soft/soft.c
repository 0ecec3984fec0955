/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software engine as a struct cpu_engine: VMs and vCPUs made and freed, options, counters. The
 * work is in interp/ (run loop, instructions), mmu/ and fpu/.
 *
 * Threads: vm_new and vm_free while no vCPU runs; the rest as cpu/cpu.h says.
 */
#include "soft/soft.h"

#include "soft/fpu/fpu.h"
#include "soft/interp/cache.h"
#include "soft/interp/run.h"
#include "soft/tier.h"
#include "soft/translate/translate.h"

#include <errno.h>
#include <stdlib.h>

/* struct cpu_vm is opaque: it points to a struct soft_vm. */
static struct soft_vm *vm_of(struct cpu_vm *vm)
{
    return (struct soft_vm *)(void *)vm;
}

static struct soft_cpu *cpu_of(struct cpu *cpu)
{
    return CONTAINER_OF(cpu, struct soft_cpu, cpu);
}

static int soft_probe(struct err *err)
{
    (void)err;
    return 0;
}

int soft_translates(struct err *err)
{
    return translate_probe(err);
}

/* Where CPUID tells of each feature: leaf, subleaf, register (0 EAX .. 3 EDX), bit. */
struct feature_bit {
    uint8_t feature;
    uint32_t leaf, subleaf;
    uint8_t reg, bit;
};

static const struct feature_bit feature_bits[] = {
    {INSN_FEATURE_X87, 1, 0, 3, 0},
    {INSN_FEATURE_CX8, 1, 0, 3, 8},
    {INSN_FEATURE_SEP, 1, 0, 3, 11},
    {INSN_FEATURE_CMOV, 1, 0, 3, 15},
    {INSN_FEATURE_CLFLUSH, 1, 0, 3, 19},
    {INSN_FEATURE_MMX, 1, 0, 3, 23},
    {INSN_FEATURE_FXSR, 1, 0, 3, 24},
    {INSN_FEATURE_SSE, 1, 0, 3, 25},
    {INSN_FEATURE_SSE2, 1, 0, 3, 26},
    {INSN_FEATURE_SSE3, 1, 0, 2, 0},
    {INSN_FEATURE_PCLMULQDQ, 1, 0, 2, 1},
    {INSN_FEATURE_MONITOR, 1, 0, 2, 3},
    {INSN_FEATURE_SSSE3, 1, 0, 2, 9},
    {INSN_FEATURE_FMA, 1, 0, 2, 12},
    {INSN_FEATURE_CX16, 1, 0, 2, 13},
    {INSN_FEATURE_SSE4_1, 1, 0, 2, 19},
    {INSN_FEATURE_SSE4_2, 1, 0, 2, 20},
    {INSN_FEATURE_MOVBE, 1, 0, 2, 22},
    {INSN_FEATURE_POPCNT, 1, 0, 2, 23},
    {INSN_FEATURE_AES, 1, 0, 2, 25},
    {INSN_FEATURE_XSAVE, 1, 0, 2, 26},
    {INSN_FEATURE_AVX, 1, 0, 2, 28},
    {INSN_FEATURE_F16C, 1, 0, 2, 29},
    {INSN_FEATURE_RDRAND, 1, 0, 2, 30},
    {INSN_FEATURE_FSGSBASE, 7, 0, 1, 0},
    {INSN_FEATURE_BMI1, 7, 0, 1, 3},
    {INSN_FEATURE_AVX2, 7, 0, 1, 5},
    {INSN_FEATURE_BMI2, 7, 0, 1, 8},
    {INSN_FEATURE_INVPCID, 7, 0, 1, 10},
    {INSN_FEATURE_RDSEED, 7, 0, 1, 18},
    {INSN_FEATURE_ADX, 7, 0, 1, 19},
    {INSN_FEATURE_SMAP, 7, 0, 1, 20},
    {INSN_FEATURE_CLFLUSHOPT, 7, 0, 1, 23},
    {INSN_FEATURE_CLWB, 7, 0, 1, 24},
    {INSN_FEATURE_SHA, 7, 0, 1, 29},
    {INSN_FEATURE_GFNI, 7, 0, 2, 8},
    {INSN_FEATURE_VAES, 7, 0, 2, 9},
    {INSN_FEATURE_VPCLMULQDQ, 7, 0, 2, 10},
    {INSN_FEATURE_RDPID, 7, 0, 2, 22},
    {INSN_FEATURE_XSAVEOPT, 0xd, 1, 0, 0},
    {INSN_FEATURE_XSAVEC, 0xd, 1, 0, 1},
    {INSN_FEATURE_XSAVES, 0xd, 1, 0, 3},
    {INSN_FEATURE_LAHF64, 0x80000001, 0, 2, 0},
    {INSN_FEATURE_LZCNT, 0x80000001, 0, 2, 5},
    {INSN_FEATURE_SSE4A, 0x80000001, 0, 2, 6},
    {INSN_FEATURE_3DNOWPREFETCH, 0x80000001, 0, 2, 8},
    {INSN_FEATURE_SYSCALL, 0x80000001, 0, 3, 11},
    {INSN_FEATURE_RDTSCP, 0x80000001, 0, 3, 27},
};

static void features_set(struct soft_vm *vm)
{
    vm->features[INSN_FEATURE_BASE] = 1;
    for (unsigned i = 0; i < ARRAY_LEN(feature_bits); i++) {
        const struct feature_bit *f = &feature_bits[i];
        uint32_t regs[4];

        cpuid_query(vm->config->cpuid, 0, f->leaf, f->subleaf, 0, CPU_XCR0_SUPPORTED, regs);
        vm->features[f->feature] = regs[f->reg] >> f->bit & 1;
    }
}

static void soft_vm_free(struct cpu_vm *base)
{
    struct soft_vm *vm = vm_of(base);

    if (!vm)
        return;
    vm->memory->code_written = NULL;
    translate_vm_done(vm);
    cache_vm_done(vm);
    free(vm);
}

static int soft_vm_new(const struct cpu_vm_config *config, struct cpu_vm **ret, struct err *err)
{
    struct soft_vm *vm;
    struct soft_options options;
    struct err why_not = ERR_INIT;
    bool translated = false;
    int error = soft_options_parse(config->options, &options, err);

    if (!error)
        error = soft_tier_choose(&options, translate_probe(&why_not) ? why_not.message : NULL,
                                 &translated, err);
    if (error)
        return error;
    if (!config->nr_cpus || config->nr_cpus > CPU_MAX)
        return err_set(err, -EINVAL, "engine soft: %u vCPUs; 1 to %d are possible", config->nr_cpus,
                       CPU_MAX);
    vm = calloc(1, sizeof(*vm));
    if (!vm)
        return err_set(err, -ENOMEM, "engine soft: make a VM");
    vm->config_copy = *config;
    vm->config = &vm->config_copy;
    vm->translate_runs = translated ? options.runs : -1;
    vm->translate_memory = options.cache_size;
    vm->translate_window = options.window;
    vm->memory = config->memory;
    vm->physical_address_mask = (UINT64_C(1) << MIN(config->cpuid->physical_address_bits, 52u)) - 1;
    if (translated && translate_vm_init(vm)) {
        free(vm);
        return err_set(err, -ENOMEM, "engine soft: make a VM");
    }
    features_set(vm);
    interp_handlers_fill(vm->handlers);
    cache_vm_init(vm);
    vm->memory->code_written_context = vm;
    vm->memory->code_written = cache_code_written;
    *ret = (struct cpu_vm *)vm;
    return 0;
}

static void soft_cpu_free(struct cpu *base)
{
    struct soft_cpu *cpu;

    if (!base)
        return;
    cpu = cpu_of(base);
    pthread_mutex_lock(&cpu->vm->code_lock);
    __atomic_store_n(&cpu->vm->cpus[base->index], NULL, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&cpu->vm->code_lock);
    fpu_done(cpu);
    mmu_done(cpu);
    cache_done(cpu);
    translate_done(cpu);
    free(cpu);
}

static int soft_cpu_new(struct cpu_vm *vm, unsigned index, struct cpu **ret, struct err *err)
{
    struct soft_cpu *cpu = aligned_alloc(64, align_up(sizeof(*cpu), 64));
    struct cpu_state state;
    int error;

    if (!cpu)
        return err_set(err, -ENOMEM, "engine soft: make vCPU %u", index);
    memset(cpu, 0, sizeof(*cpu));
    cpu->cpu.engine = &soft_engine;
    cpu->cpu.vm = vm;
    cpu->cpu.index = index;
    cpu->vm = vm_of(vm);
    mmu_init(cpu);
    error = cache_init(cpu);
    if (error)
        err_set(err, error, "engine soft: make vCPU %u", index);
    else
        error = fpu_init(cpu, err);
    if (!error && cpu->vm->translate_runs >= 0)
        error = translate_init(cpu, err);
    if (!error) {
        cpu_state_reset(&state, index);
        error = soft_set_state(&cpu->cpu, &state, err);
    }
    if (error) {
        soft_cpu_free(&cpu->cpu);
        return error;
    }
    __atomic_store_n(&cpu->vm->cpus[index], cpu, __ATOMIC_RELEASE);
    *ret = &cpu->cpu;
    return 0;
}

static int soft_run(struct cpu *base, struct cpu_exit *ret, struct err *err)
{
    struct soft_cpu *cpu = cpu_of(base);

    (void)err;
    run_until_exit(cpu);
    *ret = cpu->exit;
    return 0;
}

static void soft_kick(struct cpu *base)
{
    translate_kick(cpu_of(base));
}

/* Any thread; a vCPU counts without atomics, so a value may be a moment old: no race that matters.
 */
__attribute__((no_sanitize("thread"))) static void soft_counters(struct cpu *base,
                                                                 struct cpu_counters *ret)
{
    *ret = cpu_of(base)->counters;
}

static void soft_figures(struct cpu *base, cpu_figure_fn *fn, void *context)
{
    translate_figures(cpu_of(base), fn, context);
}

static bool soft_position(struct cpu *base, const void *context, struct cpu_position *ret)
{
    return translate_position(cpu_of(base), context, ret);
}

static void soft_code_map(struct cpu *base, cpu_code_fn *fn, void *context)
{
    translate_code_map(cpu_of(base), fn, context);
}

/* Called while all vCPUs are paused: nothing cached may bypass the log. */
static int soft_dirty_log_changed(struct cpu_vm *base, struct err *err)
{
    struct soft_vm *vm = vm_of(base);

    (void)err;
    for (unsigned i = 0; i < vm->config->nr_cpus; i++)
        if (vm->cpus[i])
            mmu_flush_all(vm->cpus[i]);
    return 0;
}

static uint64_t soft_guest_tsc(struct cpu *base)
{
    return soft_tsc(cpu_of(base));
}

const struct cpu_engine soft_engine = {
    .name = "soft",
    .probe = soft_probe,
    .vm_new = soft_vm_new,
    .vm_free = soft_vm_free,
    .cpu_new = soft_cpu_new,
    .cpu_free = soft_cpu_free,
    .run = soft_run,
    .get_state = soft_get_state,
    .set_state = soft_set_state,
    .kick = soft_kick,
    .counters = soft_counters,
    .figures = soft_figures,
    .position = soft_position,
    .code_map = soft_code_map,
    .dirty_log_changed = soft_dirty_log_changed,
    .guest_tsc = soft_guest_tsc,
};
