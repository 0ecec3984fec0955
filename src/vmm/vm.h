/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The running part of a VM: engine, vCPU threads, and what the guest or anybody else wants of them.
 * Private to vmm/.
 *
 *                vm_start                    vm_pause
 *   STOPPED ----------------> RUNNING <--------------------> PAUSED
 *      ^                         |          vm_resume           |
 *      |  vm_join                |  vm_end (any thread)         |
 *      +---------------------- STOPPING <-----------------------+
 *
 * `want` is what the vCPU threads are to do; each looks at it after every exit of its engine, and
 * vm_end and vm_pause kick those that run. vm_end notes the first reason only and posts `ended` to
 * the loop. After vm_join a VM can be started again (a guest's reboot).
 *
 * Threads: vm_end from any; the rest from the loop's thread.
 */
#ifndef LODGE_VMM_VM_H
#define LODGE_VMM_VM_H

#include "base/loop.h"
#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "machine/machine.h"

#include <pthread.h>
#include <stdbool.h>

enum vm_want {
    VM_STOPPED, /* no vCPU threads */
    VM_STARTING,
    VM_RUNNING,
    VM_PAUSED,
    VM_STOPPING,
};

enum vm_end_kind {
    VM_END_NONE,
    VM_END_POWER_OFF,
    VM_END_EXIT_PORT,
    VM_END_RESET,
    VM_END_TRIPLE_FAULT,
    VM_END_UNSUPPORTED,
    VM_END_ENGINE,
    VM_END_ASKED, /* control socket, Ctrl-A x */
    VM_END_SIGNAL,
};

#define VM_REPORT_MAX 4096

struct vm;
struct profile;

struct vcpu {
    struct vm *vm;
    unsigned index;
    pthread_t thread;
    bool started;    /* thread is to be joined */
    bool ready;      /* cpu_new has ended: cpu or err is set; under vm.lock */
    bool parked;     /* stands still for VM_PAUSED; under vm.lock */
    struct cpu *cpu; /* from ready to vm_join */
    struct err err;
};

struct vm {
    struct loop *loop;       /* borrowed */
    struct machine *machine; /* borrowed */
    const struct cpu_engine *engine;
    struct cpuid_policy cpuid;
    struct cpu_vm_config cpu_config;
    struct cpu_vm *cpu_vm;
    struct cpu_state boot_state; /* of vCPU 0 */
    struct vcpu vcpus[CPU_MAX];
    struct loop_call ended;  /* posted by vm_end */
    struct profile *profile; /* borrowed; NULL: none */

    pthread_mutex_t lock;
    pthread_cond_t changed;     /* want, ready, parked */
    enum vm_want want;          /* written under lock, read atomically */
    enum vm_end_kind end;       /* under lock until vm_join */
    int end_value;              /* exit-port status or signal */
    char report[VM_REPORT_MAX]; /* of triple faults, unsupported instructions, engine failures */
};

/* engine_options is borrowed. ended is called on the loop's thread once after each vm_end. */
void vm_init(struct vm *vm, struct loop *loop, struct machine *machine,
             const struct cpu_engine *engine, const char *engine_options, unsigned nr_cpus,
             loop_fn *ended, void *context);
void vm_done(struct vm *vm);

/* Makes the engine's VM and the vCPUs, and lets vCPU 0 start at boot_state. */
int vm_start(struct vm *vm, const struct cpu_state *boot_state, struct err *err);
/* Waits for the vCPU threads to leave (want is VM_STOPPING), and takes down the engine's VM. */
void vm_join(struct vm *vm);

void vm_end(struct vm *vm, enum vm_end_kind kind, int value);
/* Stops every vCPU between instructions; -EBUSY when one does not stop within some seconds. */
int vm_pause(struct vm *vm, struct err *err);
void vm_resume(struct vm *vm);

/* For a paused VM. */
int vm_cpu_state(struct vm *vm, unsigned index, struct cpu_state *ret, struct err *err);
void vm_cpu_counters(struct vm *vm, unsigned index, struct cpu_counters *ret);
/* While all vCPUs are paused: --perf-map's file as of now. -ENOENT: there is none. */
int vm_perf_map(struct vm *vm, struct err *err);
/* The engine's own figures of a vCPU: none when there is no such vCPU now. */
void vm_cpu_figures(struct vm *vm, unsigned index, cpu_figure_fn *fn, void *context);

/* report.c: why vCPU stopped, its bytes and registers, as lines of text. */
void report_exit(char *text, size_t size, unsigned cpu, const char *what,
                 const struct cpu_exit *exit, const struct cpu_state *state);

#endif
