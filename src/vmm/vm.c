/* SPDX-License-Identifier: Apache-2.0 */
/* vCPU threads and their common life: see vm.h. */
#include "vmm/vm.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"
#include "vmm/profile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PAUSE_TIMEOUT_NS (3 * NS_PER_S)
#define HYPERCALL_ENOSYS 1000 /* KVM_ENOSYS: what an unknown KVM hypercall returns, negated */

void vm_init(struct vm *vm, struct loop *loop, struct machine *machine,
             const struct cpu_engine *engine, const char *engine_options, unsigned nr_cpus,
             loop_fn *ended, void *context)
{
    struct cpuid_options options = {.nr_cpus = nr_cpus, .tsc_hz = cpu_host_tsc_hz()};

    memset(vm, 0, sizeof(*vm));
    vm->loop = loop;
    vm->machine = machine;
    vm->engine = engine;
    vm->ended = (struct loop_call){.fn = ended, .context = context};
    cpuid_policy_init(&vm->cpuid, &options);
    vm->cpu_config = (struct cpu_vm_config){
        .nr_cpus = nr_cpus,
        .memory = machine_memory(machine),
        .bus = machine_cpu_bus(machine),
        .irqchip = machine_cpu_irqchip(machine),
        .cpuid = &vm->cpuid,
        .tsc_hz = options.tsc_hz,
        .options = engine_options,
    };
    pthread_mutex_init(&vm->lock, NULL);
    pthread_cond_init(&vm->changed, NULL);
}

void vm_done(struct vm *vm)
{
    loop_cancel(vm->loop, &vm->ended);
    pthread_cond_destroy(&vm->changed);
    pthread_mutex_destroy(&vm->lock);
}

static void want_set_locked(struct vm *vm, enum vm_want want)
{
    __atomic_store_n(&vm->want, want, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&vm->changed);
}

static void kick_all_locked(struct vm *vm)
{
    for (unsigned i = 0; i < vm->cpu_config.nr_cpus; i++)
        if (vm->vcpus[i].cpu)
            cpu_request(vm->vcpus[i].cpu, CPU_REQUEST_KICK);
}

void vm_end(struct vm *vm, enum vm_end_kind kind, int value)
{
    pthread_mutex_lock(&vm->lock);
    /* Whoever wants the VM gone wins over a guest that reboots in that moment. */
    if (vm->end == VM_END_NONE ||
        (vm->end == VM_END_RESET && (kind == VM_END_ASKED || kind == VM_END_SIGNAL))) {
        vm->end = kind;
        vm->end_value = value;
        want_set_locked(vm, VM_STOPPING);
        kick_all_locked(vm);
        loop_post(vm->loop, &vm->ended);
    }
    pthread_mutex_unlock(&vm->lock);
}

/* Waits while the VM is paused or starting; false when the thread has to leave. */
static bool vcpu_may_run(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    bool run;

    if (LIKELY(__atomic_load_n(&vm->want, __ATOMIC_ACQUIRE) == VM_RUNNING))
        return true;
    pthread_mutex_lock(&vm->lock);
    while (vm->want == VM_PAUSED || vm->want == VM_STARTING) {
        if (!vcpu->parked) {
            vcpu->parked = true;
            pthread_cond_broadcast(&vm->changed);
        }
        pthread_cond_wait(&vm->changed, &vm->lock);
    }
    vcpu->parked = false;
    run = vm->want == VM_RUNNING;
    pthread_mutex_unlock(&vm->lock);
    return run;
}

/* The first vCPU that fails writes the report; the others are stopped by it. */
static void vcpu_fail(struct vcpu *vcpu, enum vm_end_kind kind, const char *what,
                      const struct cpu_exit *exit)
{
    struct vm *vm = vcpu->vm;
    struct cpu_state state;
    char report[VM_REPORT_MAX];
    bool known = vm->engine->get_state(vcpu->cpu, &state, NULL) == 0;

    report_exit(report, sizeof(report), vcpu->index, what, exit, known ? &state : NULL);
    pthread_mutex_lock(&vm->lock);
    if (vm->end == VM_END_NONE)
        memcpy(vm->report, report, sizeof(report));
    pthread_mutex_unlock(&vm->lock);
    vm_end(vm, kind, 0);
}

/* No hypercall is offered: the guest learns so. */
static int vcpu_hypercall(struct vcpu *vcpu, struct err *err)
{
    const struct cpu_engine *engine = vcpu->vm->engine;
    struct cpu_state state;
    int r = engine->get_state(vcpu->cpu, &state, err);

    if (r < 0)
        return r;
    state.gpr[CPU_RAX] = (uint64_t)-HYPERCALL_ENOSYS;
    return engine->set_state(vcpu->cpu, &state, err);
}

static void vcpu_loop(struct vcpu *vcpu)
{
    const struct vm *vm = vcpu->vm;
    const struct cpu_engine *engine = vm->engine;
    struct cpu_exit exit;
    int r = 0;

    while (r == 0 && vcpu_may_run(vcpu)) {
        r = engine->run(vcpu->cpu, &exit, &vcpu->err);
        if (r < 0)
            break;
        switch (exit.kind) {
        case CPU_EXIT_KICK:
            break;
        case CPU_EXIT_HALT:
            /* `want` is set before the kick, so it is seen here whatever became of the kick. */
            if (__atomic_load_n(&vm->want, __ATOMIC_ACQUIRE) == VM_RUNNING)
                cpu_wait(vcpu->cpu);
            break;
        case CPU_EXIT_HYPERCALL:
            r = vcpu_hypercall(vcpu, &vcpu->err);
            break;
        case CPU_EXIT_SHUTDOWN:
            vcpu_fail(vcpu, VM_END_TRIPLE_FAULT, "triple fault", NULL);
            break;
        case CPU_EXIT_UNSUPPORTED:
            vcpu_fail(vcpu, VM_END_UNSUPPORTED, exit.unsupported.reason, &exit);
            break;
        }
    }
    if (r < 0)
        vcpu_fail(vcpu, VM_END_ENGINE, vcpu->err.message, NULL);
}

static void *vcpu_main(void *context)
{
    struct vcpu *vcpu = context;
    struct vm *vm = vcpu->vm;
    struct cpu *cpu = NULL;
    char name[16];
    int r;

    snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
    pthread_setname_np(pthread_self(), name); /* another thread's would need a file of /proc */
    r = vm->engine->cpu_new(vm->cpu_vm, vcpu->index, &cpu, &vcpu->err);
    if (r == 0 && vcpu->index == 0)
        r = vm->engine->set_state(cpu, &vm->boot_state, &vcpu->err);
    if (r == 0)
        r = profile_begin(vm->profile, vcpu->index, cpu, &vcpu->err);
    pthread_mutex_lock(&vm->lock);
    vcpu->cpu = cpu;
    vcpu->ready = true;
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
    if (r == 0)
        vcpu_loop(vcpu);
    profile_end(vm->profile, vcpu->index);
    return NULL;
}

static int vcpu_start(struct vm *vm, unsigned index, struct err *err)
{
    struct vcpu *vcpu = &vm->vcpus[index];
    int r;

    *vcpu = (struct vcpu){.vm = vm, .index = index};
    r = pthread_create(&vcpu->thread, NULL, vcpu_main, vcpu);
    if (r)
        return err_errno(err, -r, "start the thread of vCPU %u", index);
    vcpu->started = true;
    return 0;
}

/* Starts the threads and waits until each has made its vCPU. */
static int vcpus_start(struct vm *vm, struct err *err)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < vm->cpu_config.nr_cpus; i++)
        r = vcpu_start(vm, i, err);
    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < vm->cpu_config.nr_cpus; i++) {
        struct vcpu *vcpu = &vm->vcpus[i];

        while (vcpu->started && !vcpu->ready)
            pthread_cond_wait(&vm->changed, &vm->lock);
        if (r == 0 && vcpu->err.code) {
            r = vcpu->err.code;
            err_set(err, r, "%s", vcpu->err.message);
        }
    }
    pthread_mutex_unlock(&vm->lock);
    return r;
}

int vm_start(struct vm *vm, const struct cpu_state *boot_state, struct err *err)
{
    int r = vm->engine->vm_new(&vm->cpu_config, &vm->cpu_vm, err);

    if (r < 0)
        return r;
    vm->boot_state = *boot_state;
    vm->end = VM_END_NONE;
    vm->report[0] = '\0';
    if (vm->engine->irq_line)
        machine_set_engine(vm->machine, vm->engine, vm->cpu_vm);
    pthread_mutex_lock(&vm->lock);
    want_set_locked(vm, VM_STARTING);
    pthread_mutex_unlock(&vm->lock);
    r = vcpus_start(vm, err);
    for (unsigned i = 0; r == 0 && i < vm->cpu_config.nr_cpus; i++)
        machine_attach_cpu(vm->machine, i, vm->vcpus[i].cpu);
    pthread_mutex_lock(&vm->lock);
    want_set_locked(vm, r == 0 ? VM_RUNNING : VM_STOPPING);
    pthread_mutex_unlock(&vm->lock);
    if (r < 0)
        vm_join(vm);
    return r;
}

void vm_join(struct vm *vm)
{
    for (unsigned i = 0; i < vm->cpu_config.nr_cpus; i++)
        if (vm->vcpus[i].started)
            pthread_join(vm->vcpus[i].thread, NULL);
    /* Only now: until the last thread has left, a vCPU may interrupt any other. */
    profile_map_begin(vm->profile);
    for (unsigned i = 0; i < vm->cpu_config.nr_cpus; i++) {
        machine_attach_cpu(vm->machine, i, NULL);
        if (vm->vcpus[i].cpu)
            profile_map(vm->profile, vm->vcpus[i].cpu);
        vm->engine->cpu_free(vm->vcpus[i].cpu);
        vm->vcpus[i] = (struct vcpu){.vm = vm, .index = i};
    }
    machine_set_engine(vm->machine, NULL, NULL);
    if (vm->cpu_vm)
        vm->engine->vm_free(vm->cpu_vm);
    vm->cpu_vm = NULL;
    pthread_mutex_lock(&vm->lock);
    want_set_locked(vm, VM_STOPPED);
    pthread_mutex_unlock(&vm->lock);
}

static bool all_parked_locked(const struct vm *vm)
{
    for (unsigned i = 0; i < vm->cpu_config.nr_cpus; i++)
        if (!vm->vcpus[i].parked)
            return false;
    return true;
}

int vm_pause(struct vm *vm, struct err *err)
{
    uint64_t end = clock_realtime_ns() + PAUSE_TIMEOUT_NS;
    struct timespec deadline = {.tv_sec = (time_t)(end / NS_PER_S),
                                .tv_nsec = (long)(end % NS_PER_S)};
    int r = 0;

    pthread_mutex_lock(&vm->lock);
    if (vm->want == VM_RUNNING) {
        want_set_locked(vm, VM_PAUSED);
        kick_all_locked(vm);
    }
    while (r == 0 && vm->want == VM_PAUSED && !all_parked_locked(vm))
        r = pthread_cond_timedwait(&vm->changed, &vm->lock, &deadline);
    if (vm->want != VM_PAUSED) {
        r = err_set(err, -ESRCH, "the VM is ending");
    } else if (r) {
        want_set_locked(vm, VM_RUNNING);
        r = err_set(err, -EBUSY, "a vCPU does not stop: is the reader of the console stuck?");
    }
    pthread_mutex_unlock(&vm->lock);
    return r;
}

void vm_resume(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    if (vm->want == VM_PAUSED)
        want_set_locked(vm, VM_RUNNING);
    pthread_mutex_unlock(&vm->lock);
}

int vm_cpu_state(struct vm *vm, unsigned index, struct cpu_state *ret, struct err *err)
{
    if (index >= vm->cpu_config.nr_cpus || !vm->vcpus[index].cpu)
        return err_set(err, -ENOENT, "vCPU %u does not exist", index);
    return vm->engine->get_state(vm->vcpus[index].cpu, ret, err);
}

void vm_cpu_counters(struct vm *vm, unsigned index, struct cpu_counters *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (index < vm->cpu_config.nr_cpus && vm->vcpus[index].cpu && vm->engine->counters)
        vm->engine->counters(vm->vcpus[index].cpu, ret);
}

int vm_perf_map(struct vm *vm, struct err *err)
{
    if (!profile_map_begin(vm->profile))
        return err_set(err, -ENOENT, "the machine was started without --perf-map");
    for (unsigned i = 0; i < vm->cpu_config.nr_cpus; i++)
        if (vm->vcpus[i].cpu)
            profile_map(vm->profile, vm->vcpus[i].cpu);
    return 0;
}

void vm_cpu_figures(struct vm *vm, unsigned index, cpu_figure_fn *fn, void *context)
{
    if (index < vm->cpu_config.nr_cpus && vm->vcpus[index].cpu && vm->engine->figures)
        vm->engine->figures(vm->vcpus[index].cpu, fn, context);
}
