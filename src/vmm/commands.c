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

/* The request's member "cpu"; 0 when it has none. */
static int cpu_number(const json_t *request, unsigned *ret, struct err *err)
{
    const json_t *number = json_object_get(request, "cpu");
    json_int_t cpu = json_integer_value(number);

    if ((number && !json_is_integer(number)) || cpu < 0 || cpu >= CPU_MAX)
        return err_set(err, -EINVAL, "cpu: a number from 0 to %d is needed", CPU_MAX - 1);
    *ret = (unsigned)cpu;
    return 0;
}

/* The most that a reply has of one group: it is one line of VMM_CONTROL_LINE_MAX. */
#define GROUP_MAX 48

static void figure_add(void *context, const char *group, const char *name, uint64_t value)
{
    json_t *cpu = context, *members = json_object_get(cpu, group);
    const char *least_name = NULL, *key;
    json_int_t least = (json_int_t)value;
    json_t *member;

    if (!members) {
        members = json_object();
        json_object_set_new(cpu, group, members);
    }
    if (json_object_size(members) >= GROUP_MAX) {
        json_object_foreach(members, key, member) if (json_integer_value(member) < least)
        {
            least = json_integer_value(member);
            least_name = key;
        }
        if (!least_name)
            return;
        json_object_del(members, least_name);
    }
    json_object_set_new(members, name, json_integer((json_int_t)value));
}

static json_t *counters_of(struct vm *vm, unsigned index)
{
    struct cpu_counters n = {0};

    vm_cpu_counters(vm, index, &n);

    const struct {
        const char *name;
        uint64_t value;
    } members[] = {
        {"instructions", n.instructions},
        {"blocks_decoded", n.blocks_decoded},
        {"blocks_invalidated", n.blocks_invalidated},
        {"blocks_translated", n.blocks_translated},
        {"translated_exits", n.translated_exits},
        {"translated_fills", n.translated_fills},
        {"translated_handbacks", n.translated_handbacks},
        {"tlb_misses", n.tlb_misses},
        {"tlb_flushes", n.tlb_flushes},
        {"exceptions", n.exceptions},
        {"interrupts", n.interrupts},
        {"io_accesses", n.io_accesses},
        {"mmio_accesses", n.mmio_accesses},
        {"halts", n.halts},
    };
    json_t *cpu = json_object();

    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        json_object_set_new(cpu, members[i].name, json_integer((json_int_t)members[i].value));
    return cpu;
}

/* Of all vCPUs; of one, with what its engine tells beyond that. */
static int command_counters(struct commands *c, const json_t *request, json_t **ret,
                            struct err *err)
{
    unsigned nr_cpus = c->vm->cpu_config.nr_cpus, cpu = 0;
    json_t *cpus;
    int r = cpu_number(request, &cpu, err);

    if (r < 0)
        return r;
    if (cpu >= nr_cpus)
        return err_set(err, -ENOENT, "vCPU %u does not exist", cpu);
    cpus = json_array();
    if (json_object_get(request, "cpu")) {
        json_array_append_new(cpus, counters_of(c->vm, cpu));
        vm_cpu_figures(c->vm, cpu, figure_add, json_array_get(cpus, 0));
    } else {
        for (unsigned i = 0; i < nr_cpus; i++)
            json_array_append_new(cpus, counters_of(c->vm, i));
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
    struct cpu_state state;
    unsigned cpu;
    int r = cpu_number(request, &cpu, err);

    if (r < 0)
        return r;
    r = vm_pause(c->vm, err);
    if (r < 0)
        return r;
    r = vm_cpu_state(c->vm, cpu, &state, err);
    if (!was_paused)
        vm_resume(c->vm);
    if (r < 0)
        return r;
    *ret = json_pack("{s:I, s:s, s:o}", "cpu", (json_int_t)cpu, "activity",
                     state.activity < ARRAY_LEN(activities) ? activities[state.activity] : "?",
                     "registers", registers_object(&state));
    return 0;
}

/* What is less than this, no guest could live with. */
#define BALLOON_GUEST_LEAST (16 * MIB)

static int balloon_target(struct commands *c, const json_t *target, struct err *err)
{
    json_int_t bytes = json_integer_value(target);

    if (!json_is_integer(target) || bytes < (json_int_t)BALLOON_GUEST_LEAST)
        return err_set(err, -EINVAL, "target_bytes: a number of bytes, at least %llu, is needed",
                       (unsigned long long)BALLOON_GUEST_LEAST);
    return devices_balloon_set(c->devices, (uint64_t)bytes, err);
}

static int command_balloon(struct commands *c, const json_t *request, json_t **ret, struct err *err)
{
    static const char *const names[VIRTIO_BALLOON_STATS] = {
        "swap_in_bytes",        "swap_out_bytes",   "major_faults",    "minor_faults",
        "free_bytes",           "total_bytes",      "available_bytes", "cache_bytes",
        "huge_pages_allocated", "huge_pages_failed"};
    const json_t *target = json_object_get(request, "target_bytes");
    uint64_t memory = memory_size(c->vm->cpu_config.memory);
    struct virtio_balloon_info info;
    json_t *values;
    int r = target ? balloon_target(c, target, err) : 0;

    if (r < 0 || (r = devices_balloon_get(c->devices, &info, err)) < 0)
        return r;
    values = json_object();
    for (unsigned i = 0; i < VIRTIO_BALLOON_STATS; i++)
        if (info.known & 1u << i)
            json_object_set_new(values, names[i], json_integer((json_int_t)info.values[i]));
    *ret = json_pack("{s:b, s:I, s:I, s:I, s:o, s:I}", "driver", (int)info.running, "target_bytes",
                     (json_int_t)(memory - MIN(memory, info.target_bytes)), "guest_bytes",
                     (json_int_t)(memory - MIN(memory, info.actual_bytes)), "returned_bytes",
                     (json_int_t)info.returned_bytes, "statistics", values, "statistics_age_ms",
                     (json_int_t)info.age_ms);
    return 0;
}

static int command_perf_map(struct commands *c, struct err *err)
{
    bool was_paused = __atomic_load_n(&c->vm->want, __ATOMIC_ACQUIRE) == VM_PAUSED;
    int r = vm_pause(c->vm, err);

    if (r < 0)
        return r;
    r = vm_perf_map(c->vm, err);
    if (!was_paused)
        vm_resume(c->vm);
    return r;
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
        return command_counters(c, request, ret, err);
    if (!strcmp(command, VMM_CONTROL_BALLOON))
        return command_balloon(c, request, ret, err);
    if (!strcmp(command, VMM_CONTROL_PERF_MAP))
        return command_perf_map(c, err);
    if (!strcmp(command, VMM_CONTROL_STATE))
        return command_state(c, request, ret, err);
    if (!strcmp(command, VMM_CONTROL_ATTACH_DISK))
        return hotplug_attach_disk(c->hotplug, request, control_take_fd(c->control), err);
    if (!strcmp(command, VMM_CONTROL_ATTACH_NET))
        return hotplug_attach_net(c->hotplug, request, control_take_fd(c->control), err);
    if (!strcmp(command, VMM_CONTROL_DETACH))
        return hotplug_detach(c->hotplug, request, ret, err);
    if (!strcmp(command, VMM_CONTROL_DEVICES))
        return hotplug_list(c->hotplug, ret, err);
    return err_set(err, -EINVAL, "unknown command '%s'", command);
}
