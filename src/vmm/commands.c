/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the control socket: see include/vmm_control.h. */
#include "vmm/commands.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/util.h"
#include "vmm_control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int command_status(struct commands *c, json_t **ret)
{
    static const char *const names[] = {
        [VM_STOPPED] = "stopping", [VM_STARTING] = "starting", [VM_RUNNING] = "running",
        [VM_PAUSED] = "paused",    [VM_STOPPING] = "stopping",
    };
    struct vm *vm = c->vm;

    *ret = json_pack("{s:s, s:s, s:i, s:i, s:I, s:I, s:i}", "state",
                     names[__atomic_load_n(&vm->want, __ATOMIC_ACQUIRE)], "engine",
                     vm->engine->name, "pid", (int)getpid(), "cpus", (int)vm->cpu_config.nr_cpus,
                     "memory_bytes", (json_int_t)memory_size(vm->cpu_config.memory), "uptime_ms",
                     (json_int_t)((clock_monotonic_ns() - c->started_ns) / NS_PER_MS), "reboots",
                     (int)c->reboots);
    return 0;
}

static int command_counters(struct commands *c, json_t **ret)
{
    json_t *cpus = json_array();

    for (unsigned i = 0; i < c->vm->cpu_config.nr_cpus; i++) {
        struct cpu_counters n;

        vm_cpu_counters(c->vm, i, &n);
        json_array_append_new(
            cpus,
            json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "instructions",
                      (json_int_t)n.instructions, "blocks_decoded", (json_int_t)n.blocks_decoded,
                      "blocks_invalidated", (json_int_t)n.blocks_invalidated, "tlb_misses",
                      (json_int_t)n.tlb_misses, "tlb_flushes", (json_int_t)n.tlb_flushes,
                      "exceptions", (json_int_t)n.exceptions, "interrupts",
                      (json_int_t)n.interrupts, "io_accesses", (json_int_t)n.io_accesses,
                      "mmio_accesses", (json_int_t)n.mmio_accesses, "halts", (json_int_t)n.halts));
    }
    *ret = json_pack("{s:o}", "cpus", cpus);
    return 0;
}

static void register_add(json_t *registers, const char *name, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "0x%llx", (unsigned long long)value);
    json_object_set_new(registers, name, json_string(text));
}

static json_t *registers_object(const struct cpu_state *s)
{
    static const char *const gpr[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    static const char *const segment[] = {"es", "cs", "ss", "ds", "fs", "gs"};
    json_t *registers = json_object();

    for (unsigned i = 0; i < CPU_NR_GPRS; i++)
        register_add(registers, gpr[i], s->gpr[i]);
    register_add(registers, "rip", s->rip);
    register_add(registers, "rflags", s->rflags);
    for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++)
        register_add(registers, segment[i], s->segment[i].selector);
    register_add(registers, "fs_base", s->segment[CPU_FS].base);
    register_add(registers, "gs_base", s->segment[CPU_GS].base);
    register_add(registers, "cr0", s->cr0);
    register_add(registers, "cr2", s->cr2);
    register_add(registers, "cr3", s->cr3);
    register_add(registers, "cr4", s->cr4);
    register_add(registers, "efer", s->efer);
    return registers;
}

static int command_state(struct commands *c, const json_t *request, json_t **ret, struct err *err)
{
    static const char *const activities[] = {
        [CPU_ACTIVITY_RUNNING] = "running",
        [CPU_ACTIVITY_HALTED] = "halted",
        [CPU_ACTIVITY_WAIT_FOR_SIPI] = "wait-for-sipi",
        [CPU_ACTIVITY_SHUTDOWN] = "shutdown",
    };
    bool was_paused = __atomic_load_n(&c->vm->want, __ATOMIC_ACQUIRE) == VM_PAUSED;
    const json_t *number = json_object_get(request, "cpu");
    json_int_t cpu = json_integer_value(number);
    struct cpu_state state;
    int r;

    if ((number && !json_is_integer(number)) || cpu < 0 || cpu >= CPU_MAX)
        return err_set(err, -EINVAL, "cpu: a number from 0 to %d is needed", CPU_MAX - 1);
    r = vm_pause(c->vm, err);
    if (r < 0)
        return r;
    r = vm_cpu_state(c->vm, (unsigned)cpu, &state, err);
    if (!was_paused)
        vm_resume(c->vm);
    if (r < 0)
        return r;
    *ret = json_pack("{s:I, s:s, s:o}", "cpu", cpu, "activity",
                     state.activity < ARRAY_LEN(activities) ? activities[state.activity] : "?",
                     "registers", registers_object(&state));
    return 0;
}

int commands_run(void *context, const char *command, const json_t *request, json_t **ret,
                 struct err *err)
{
    struct commands *c = context;

    if (!strcmp(command, VMM_CONTROL_STATUS))
        return command_status(c, ret);
    if (!strcmp(command, VMM_CONTROL_PAUSE))
        return vm_pause(c->vm, err);
    if (!strcmp(command, VMM_CONTROL_RESUME)) {
        vm_resume(c->vm);
        return 0;
    }
    if (!strcmp(command, VMM_CONTROL_STOP)) {
        vm_end(c->vm, VM_END_ASKED, 0);
        return 0;
    }
    if (!strcmp(command, VMM_CONTROL_POWER_BUTTON)) {
        machine_power_button(c->vm->machine);
        return 0;
    }
    if (!strcmp(command, VMM_CONTROL_COUNTERS))
        return command_counters(c, ret);
    if (!strcmp(command, VMM_CONTROL_STATE))
        return command_state(c, request, ret, err);
    return err_set(err, -EINVAL, "unknown command '%s'", command);
}
