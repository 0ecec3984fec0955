/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Architectural state of a KVM vCPU, to and from struct cpu_state. MSRs that the kernel does not
 * know are left out on both ways (each is tried by itself when the batch stops at it).
 *
 * Not carried: an interrupt that the kernel has taken from its local APIC and not yet delivered,
 * and the interrupt controllers themselves; those belong to the machine's state.
 */
#include "kvm/kvm_internal.h"

#include "base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define MSR_TSC            0x10
#define MSR_TSC_ADJUST     0x3b
#define MSR_SPEC_CTRL      0x48
#define MSR_MTRR_PHYS_BASE 0x200
#define MSR_SYSENTER_CS    0x174
#define MSR_SYSENTER_ESP   0x175
#define MSR_SYSENTER_EIP   0x176
#define MSR_MISC_ENABLE    0x1a0
#define MSR_PAT            0x277
#define MSR_MTRR_DEF_TYPE  0x2ff
#define MSR_STAR           0xc0000081
#define MSR_LSTAR          0xc0000082
#define MSR_CSTAR          0xc0000083
#define MSR_SFMASK         0xc0000084
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX        0xc0000103
#define MSR_KVM_WALL_CLOCK 0x4b564d00
#define MSR_KVM_SYSTEM     0x4b564d01

#define MSRS_MAX 64

struct msr_field {
    uint32_t index;
    uint64_t *value;
};

struct msr_list {
    struct msr_field field[MSRS_MAX];
    unsigned nr;
};

static void list_add(struct msr_list *list, uint32_t index, uint64_t *value)
{
    list->field[list->nr++] = (struct msr_field){index, value};
}

static void list_fill(struct msr_list *list, struct cpu_state *s)
{
    static const uint32_t fixed[ARRAY_LEN(s->mtrr.fixed)] = {
        0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
    };

    list->nr = 0;
    list_add(list, MSR_STAR, &s->star);
    list_add(list, MSR_LSTAR, &s->lstar);
    list_add(list, MSR_CSTAR, &s->cstar);
    list_add(list, MSR_SFMASK, &s->sfmask);
    list_add(list, MSR_KERNEL_GS_BASE, &s->kernel_gs_base);
    list_add(list, MSR_SYSENTER_CS, &s->sysenter_cs);
    list_add(list, MSR_SYSENTER_ESP, &s->sysenter_esp);
    list_add(list, MSR_SYSENTER_EIP, &s->sysenter_eip);
    list_add(list, MSR_PAT, &s->pat);
    list_add(list, MSR_MISC_ENABLE, &s->misc_enable);
    list_add(list, MSR_TSC_AUX, &s->tsc_aux);
    list_add(list, MSR_SPEC_CTRL, &s->spec_ctrl);
    list_add(list, MSR_MTRR_DEF_TYPE, &s->mtrr.def_type);
    for (unsigned i = 0; i < ARRAY_LEN(fixed); i++)
        list_add(list, fixed[i], &s->mtrr.fixed[i]);
    for (unsigned i = 0; i < ARRAY_LEN(s->mtrr.variable); i++) {
        list_add(list, MSR_MTRR_PHYS_BASE + 2 * i, &s->mtrr.variable[i].base);
        list_add(list, MSR_MTRR_PHYS_BASE + 2 * i + 1, &s->mtrr.variable[i].mask);
    }
    /* Before the clock MSRs, which look at the TSC. */
    list_add(list, MSR_TSC, &s->tsc);
    list_add(list, MSR_TSC_ADJUST, &s->tsc_adjust);
    list_add(list, MSR_KVM_WALL_CLOCK, &s->kvm_wall_clock_msr);
    list_add(list, MSR_KVM_SYSTEM, &s->kvm_system_time_msr);
}

struct msr_batch {
    struct kvm_msrs head;
    struct kvm_msr_entry entries[MSRS_MAX];
};

/* Transfers all of the list, stepping over each MSR that the kernel refuses. */
static int msrs_transfer(struct kvm_vcpu *vcpu, struct msr_list *list, bool set, struct err *err)
{
    unsigned done = 0;

    while (done < list->nr) {
        struct msr_batch batch = {.head.nmsrs = list->nr - done};
        int r;

        for (unsigned i = 0; i < batch.head.nmsrs; i++)
            batch.entries[i] = (struct kvm_msr_entry){.index = list->field[done + i].index,
                                                      .data = *list->field[done + i].value};
        r = ioctl(vcpu->fd, set ? KVM_SET_MSRS : KVM_GET_MSRS, &batch);
        if (r < 0)
            return err_errno(err, -errno, "%s the MSRs of KVM vCPU %u", set ? "set" : "read",
                             vcpu->cpu.index);
        for (int i = 0; !set && i < r; i++)
            *list->field[done + (unsigned)i].value = batch.entries[i].data;
        done += (unsigned)r + ((unsigned)r < batch.head.nmsrs);
    }
    return 0;
}

static const uint8_t gpr_offset[CPU_NR_GPRS] = {
    [CPU_RAX] = offsetof(struct kvm_regs, rax), [CPU_RCX] = offsetof(struct kvm_regs, rcx),
    [CPU_RDX] = offsetof(struct kvm_regs, rdx), [CPU_RBX] = offsetof(struct kvm_regs, rbx),
    [CPU_RSP] = offsetof(struct kvm_regs, rsp), [CPU_RBP] = offsetof(struct kvm_regs, rbp),
    [CPU_RSI] = offsetof(struct kvm_regs, rsi), [CPU_RDI] = offsetof(struct kvm_regs, rdi),
    [CPU_R8] = offsetof(struct kvm_regs, r8),   [CPU_R9] = offsetof(struct kvm_regs, r9),
    [CPU_R10] = offsetof(struct kvm_regs, r10), [CPU_R11] = offsetof(struct kvm_regs, r11),
    [CPU_R12] = offsetof(struct kvm_regs, r12), [CPU_R13] = offsetof(struct kvm_regs, r13),
    [CPU_R14] = offsetof(struct kvm_regs, r14), [CPU_R15] = offsetof(struct kvm_regs, r15),
};

static const uint16_t segment_offset[CPU_NR_SEGMENTS] = {
    [CPU_ES] = offsetof(struct kvm_sregs, es), [CPU_CS] = offsetof(struct kvm_sregs, cs),
    [CPU_SS] = offsetof(struct kvm_sregs, ss), [CPU_DS] = offsetof(struct kvm_sregs, ds),
    [CPU_FS] = offsetof(struct kvm_sregs, fs), [CPU_GS] = offsetof(struct kvm_sregs, gs),
};

static struct cpu_segment segment_from(const void *from)
{
    const struct kvm_segment *k = from;

    return (struct cpu_segment){
        .base = k->base,
        .limit = k->limit,
        .selector = k->selector,
        .attributes = (uint32_t)(k->type & 0xf) | (k->s & 1u) << 4 | (k->dpl & 3u) << 5 |
                      (k->present & 1u) << 7 | (k->avl & 1u) << 12 | (k->l & 1u) << 13 |
                      (k->db & 1u) << 14 | (k->g & 1u) << 15 |
                      (k->unusable ? CPU_SEGMENT_UNUSABLE : 0),
    };
}

static void segment_to(const struct cpu_segment *s, void *to)
{
    uint32_t a = s->attributes;

    *(struct kvm_segment *)to = (struct kvm_segment){
        .base = s->base,
        .limit = s->limit,
        .selector = s->selector,
        .type = a & CPU_SEGMENT_TYPE,
        .s = (a >> 4) & 1,
        .dpl = CPU_SEGMENT_DPL(a),
        .present = (a >> 7) & 1,
        .avl = (a >> 12) & 1,
        .l = (a >> 13) & 1,
        .db = (a >> 14) & 1,
        .g = (a >> 15) & 1,
        .unusable = !!(a & CPU_SEGMENT_UNUSABLE),
    };
}

static void regs_from(const struct kvm_regs *regs, const struct kvm_sregs *sregs,
                      struct cpu_state *s)
{
    for (unsigned i = 0; i < CPU_NR_GPRS; i++)
        s->gpr[i] = load_le64((const uint8_t *)regs + gpr_offset[i]);
    s->rip = regs->rip;
    s->rflags = regs->rflags;
    for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++)
        s->segment[i] = segment_from((const uint8_t *)sregs + segment_offset[i]);
    s->tr = segment_from(&sregs->tr);
    s->ldtr = segment_from(&sregs->ldt);
    s->gdtr = (struct cpu_table_register){sregs->gdt.base, sregs->gdt.limit};
    s->idtr = (struct cpu_table_register){sregs->idt.base, sregs->idt.limit};
    s->cr0 = sregs->cr0;
    s->cr2 = sregs->cr2;
    s->cr3 = sregs->cr3;
    s->cr4 = sregs->cr4;
    s->cr8 = sregs->cr8;
    s->efer = sregs->efer;
    s->apic_base = sregs->apic_base;
}

static void regs_to(const struct cpu_state *s, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
    for (unsigned i = 0; i < CPU_NR_GPRS; i++)
        store_le64((uint8_t *)regs + gpr_offset[i], s->gpr[i]);
    regs->rip = s->rip;
    regs->rflags = s->rflags;
    for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++)
        segment_to(&s->segment[i], (uint8_t *)sregs + segment_offset[i]);
    segment_to(&s->tr, &sregs->tr);
    segment_to(&s->ldtr, &sregs->ldt);
    sregs->gdt = (struct kvm_dtable){.base = s->gdtr.base, .limit = s->gdtr.limit};
    sregs->idt = (struct kvm_dtable){.base = s->idtr.base, .limit = s->idtr.limit};
    sregs->cr0 = s->cr0;
    sregs->cr2 = s->cr2;
    sregs->cr3 = s->cr3;
    sregs->cr4 = s->cr4;
    sregs->cr8 = s->cr8;
    sregs->efer = s->efer;
    sregs->apic_base = s->apic_base;
}

static int call(struct kvm_vcpu *vcpu, unsigned long request, void *argument, const char *what,
                struct err *err)
{
    if (ioctl(vcpu->fd, request, argument))
        return err_errno(err, -errno, "%s of KVM vCPU %u", what, vcpu->cpu.index);
    return 0;
}

static void events_from(const struct kvm_vcpu_events *e, struct cpu_state *s)
{
    s->exception_pending = e->exception.injected || e->exception.pending;
    s->exception_has_error = e->exception.has_error_code;
    s->exception_vector = e->exception.nr;
    s->exception_error = e->exception.error_code;
    s->nmi_pending = e->nmi.pending || e->nmi.injected;
    s->nmi_blocked = e->nmi.masked;
    s->interrupt_shadow = e->interrupt.shadow;
}

static void events_to(const struct cpu_state *s, struct kvm_vcpu_events *e)
{
    e->exception.injected = s->exception_pending;
    e->exception.has_error_code = s->exception_has_error;
    e->exception.nr = s->exception_vector;
    e->exception.error_code = s->exception_error;
    e->nmi.pending = s->nmi_pending;
    e->nmi.masked = s->nmi_blocked;
    e->interrupt.shadow = s->interrupt_shadow;
    e->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
}

static enum cpu_activity activity_from(uint32_t mp_state)
{
    switch (mp_state) {
    case KVM_MP_STATE_HALTED:
        return CPU_ACTIVITY_HALTED;
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED:
    case KVM_MP_STATE_SIPI_RECEIVED:
        return CPU_ACTIVITY_WAIT_FOR_SIPI;
    default:
        return CPU_ACTIVITY_RUNNING;
    }
}

static uint32_t activity_to(enum cpu_activity activity)
{
    switch (activity) {
    case CPU_ACTIVITY_HALTED:
        return KVM_MP_STATE_HALTED;
    case CPU_ACTIVITY_WAIT_FOR_SIPI:
        return KVM_MP_STATE_UNINITIALIZED;
    default:
        return KVM_MP_STATE_RUNNABLE;
    }
}

int kvm_cpu_get_state(struct cpu *cpu, struct cpu_state *ret, struct err *err)
{
    struct kvm_vcpu *vcpu = kvm_vcpu_of(cpu);
    struct kvm_vcpu_events events;
    struct kvm_debugregs debug;
    struct kvm_mp_state mp;
    struct kvm_sregs sregs;
    struct kvm_xsave xsave;
    struct kvm_xcrs xcrs;
    struct kvm_regs regs;
    struct msr_list list;
    int r;

    memset(ret, 0, sizeof(*ret));
    /* First, because reading it may move a pending INIT or SIPI into the registers. */
    if ((r = call(vcpu, KVM_GET_MP_STATE, &mp, "activity", err)) < 0 ||
        (r = call(vcpu, KVM_GET_REGS, &regs, "registers", err)) < 0 ||
        (r = call(vcpu, KVM_GET_SREGS, &sregs, "system registers", err)) < 0 ||
        (r = call(vcpu, KVM_GET_XCRS, &xcrs, "XCR0", err)) < 0 ||
        (r = call(vcpu, KVM_GET_XSAVE, &xsave, "vector state", err)) < 0 ||
        (r = call(vcpu, KVM_GET_DEBUGREGS, &debug, "debug registers", err)) < 0 ||
        (r = call(vcpu, KVM_GET_VCPU_EVENTS, &events, "events", err)) < 0)
        return r;
    regs_from(&regs, &sregs, ret);
    ret->activity = activity_from(mp.mp_state);
    ret->xcr0 = CPU_XCR0_X87;
    for (unsigned i = 0; i < xcrs.nr_xcrs; i++)
        if (xcrs.xcrs[i].xcr == 0)
            ret->xcr0 = xcrs.xcrs[i].value;
    memcpy(ret->xsave, xsave.region, sizeof(ret->xsave));
    for (unsigned i = 0; i < 4; i++)
        ret->dr[i] = debug.db[i];
    ret->dr[6] = debug.dr6;
    ret->dr[7] = debug.dr7;
    events_from(&events, ret);
    list_fill(&list, ret);
    return msrs_transfer(vcpu, &list, false, err);
}

int kvm_cpu_set_state(struct cpu *cpu, const struct cpu_state *state, struct err *err)
{
    struct kvm_vcpu *vcpu = kvm_vcpu_of(cpu);
    struct cpu_state copy = *state; /* the MSR list points into it, writable */
    struct kvm_mp_state mp = {.mp_state = activity_to(state->activity)};
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0] = {.xcr = 0, .value = state->xcr0}};
    struct kvm_vcpu_events events = {0};
    struct kvm_debugregs debug = {.dr6 = state->dr[6], .dr7 = state->dr[7]};
    struct kvm_sregs sregs = {0};
    struct kvm_xsave xsave = {0};
    struct kvm_regs regs = {0};
    struct msr_list list;
    int r;

    regs_to(state, &regs, &sregs);
    events_to(state, &events);
    memcpy(xsave.region, state->xsave, sizeof(state->xsave));
    for (unsigned i = 0; i < 4; i++)
        debug.db[i] = state->dr[i];
    if ((r = call(vcpu, KVM_SET_MP_STATE, &mp, "activity", err)) < 0 ||
        (r = call(vcpu, KVM_SET_SREGS, &sregs, "system registers", err)) < 0 ||
        (r = call(vcpu, KVM_SET_REGS, &regs, "registers", err)) < 0 ||
        (r = call(vcpu, KVM_SET_XSAVE, &xsave, "vector state", err)) < 0 ||
        (r = call(vcpu, KVM_SET_DEBUGREGS, &debug, "debug registers", err)) < 0)
        return r;
    /* A guest without XSAVE has no XCR0 to set. */
    if (ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs) && state->xcr0 != CPU_XCR0_X87)
        return err_errno(err, -errno, "XCR0 of KVM vCPU %u", cpu->index);
    list_fill(&list, &copy);
    r = msrs_transfer(vcpu, &list, true, err);
    if (r < 0)
        return r;
    return call(vcpu, KVM_SET_VCPU_EVENTS, &events, "events", err);
}
