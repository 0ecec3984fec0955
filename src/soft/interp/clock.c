/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest time: the TSC's offset, and the two structures of kvmclock.
 *
 * Invariants:
 *  1. All vCPUs of a VM have the same TSC offset unless the guest itself sets them apart: two
 * values set within a second of guest time of one another are the same clock. A restored TSC never
 * runs backwards for that: the vCPUs set before it move forward instead.
 *  2. System time is a pure function of the TSC (base 0), so it is the same on every vCPU and the
 * TSC_STABLE flag is true.
 *  3. A structure's version is odd while it is written.
 *
 * Source: Linux Documentation/virt/kvm/x86/msr, arch/x86/include/asm/pvclock-abi.
 */
#include "soft/interp/sys.h"

#include "base/clock.h"

#define SYSTEM_TIME_ENABLE UINT64_C(1)
#define TSC_STABLE         1u

struct pvclock_time_info {
    uint32_t version;
    uint32_t pad0;
    uint64_t tsc_timestamp;
    uint64_t system_time;
    uint32_t tsc_to_system_mul;
    int8_t tsc_shift;
    uint8_t flags;
    uint8_t pad[2];
};

struct pvclock_wall_clock {
    uint32_t version;
    uint32_t sec;
    uint32_t nsec;
};

_Static_assert(sizeof(struct pvclock_time_info) == 32, "layout of the guest's structure");
_Static_assert(sizeof(struct pvclock_wall_clock) == 12, "layout of the guest's structure");

static void lock(int *word)
{
    while (__atomic_exchange_n(word, 1, __ATOMIC_ACQUIRE))
        __builtin_ia32_pause();
}

static void unlock(int *word)
{
    __atomic_store_n(word, 0, __ATOMIC_RELEASE);
}

/* Nearer than a second of guest time: meant as the same clock. */
static bool offsets_near(const struct soft_vm *vm, uint64_t a, uint64_t b)
{
    uint64_t distance = a - b;

    if ((int64_t)distance < 0)
        distance = 0 - distance;
    return distance < vm->config->tsc_hz;
}

void tsc_write(struct soft_cpu *cpu, uint64_t value)
{
    struct soft_vm *vm = cpu->vm;
    uint64_t offset = value - cpu_host_tsc();

    lock(&vm->tsc_lock);
    if (!vm->tsc_offset_valid || !offsets_near(vm, offset, vm->tsc_offset))
        vm->tsc_offset = offset;
    vm->tsc_offset_valid = true;
    cpu->tsc_offset = vm->tsc_offset;
    unlock(&vm->tsc_lock);
}

void tsc_restore(struct soft_cpu *cpu, uint64_t value)
{
    struct soft_vm *vm = cpu->vm;
    uint64_t offset = value - cpu_host_tsc(), old;

    lock(&vm->tsc_lock);
    old = vm->tsc_offset;
    if (!vm->tsc_offset_valid || (int64_t)(offset - old) > 0 || !offsets_near(vm, offset, old))
        vm->tsc_offset = offset;
    for (unsigned i = 0; vm->tsc_offset_valid && i < CPU_MAX; i++) {
        struct soft_cpu *other = __atomic_load_n(&vm->cpus[i], __ATOMIC_ACQUIRE);

        if (other && other->tsc_offset == old && offsets_near(vm, offset, old))
            __atomic_store_n(&other->tsc_offset, vm->tsc_offset, __ATOMIC_RELAXED);
    }
    vm->tsc_offset_valid = true;
    cpu->tsc_offset = vm->tsc_offset;
    unlock(&vm->tsc_lock);
}

/* ns = ((tsc << shift) * mul) >> 32 */
static void scale_of(uint64_t hz, uint32_t *ret_mul, int8_t *ret_shift)
{
    int8_t shift = 0;

    while (hz && hz <= NS_PER_S) { /* the factor must stay below 1 */
        hz *= 2;
        shift++;
    }
    *ret_mul = hz ? (uint32_t)(((__uint128_t)NS_PER_S << 32) / hz) : 0;
    *ret_shift = shift;
}

static uint64_t system_time_ns(const struct soft_cpu *cpu)
{
    uint32_t mul;
    int8_t shift;

    scale_of(cpu->vm->config->tsc_hz, &mul, &shift);
    return (uint64_t)(((__uint128_t)(soft_tsc(cpu) << shift) * mul) >> 32);
}

void kvmclock_write_system_time(struct soft_cpu *cpu)
{
    gpa_t gpa = cpu->kvm_system_time_msr & ~SYSTEM_TIME_ENABLE;
    struct pvclock_time_info info = {.flags = TSC_STABLE};
    struct memory *memory = cpu->vm->memory;
    uint32_t version;

    if (!(cpu->kvm_system_time_msr & SYSTEM_TIME_ENABLE) ||
        memory_read(memory, gpa, &version, sizeof(version)))
        return;
    version = (version & ~1u) + 1;
    if (memory_write(memory, gpa, &version, sizeof(version)))
        return;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    info.version = version;
    scale_of(cpu->vm->config->tsc_hz, &info.tsc_to_system_mul, &info.tsc_shift);
    memory_write(memory, gpa, &info, sizeof(info));
    __atomic_thread_fence(__ATOMIC_RELEASE);
    version++;
    memory_write(memory, gpa, &version, sizeof(version));
}

void kvmclock_write_wall_clock(struct soft_cpu *cpu)
{
    uint64_t boot_ns = clock_realtime_ns() - system_time_ns(cpu);
    struct memory *memory = cpu->vm->memory;
    gpa_t gpa = cpu->kvm_wall_clock_msr;
    struct pvclock_wall_clock wall;
    uint32_t version;

    if (!gpa || memory_read(memory, gpa, &version, sizeof(version)))
        return;
    wall.version = (version & ~1u) + 1;
    wall.sec = (uint32_t)(boot_ns / NS_PER_S);
    wall.nsec = (uint32_t)(boot_ns % NS_PER_S);
    memory_write(memory, gpa, &wall, sizeof(wall));
    __atomic_thread_fence(__ATOMIC_RELEASE);
    version = wall.version + 1;
    memory_write(memory, gpa, &version, sizeof(version));
}
