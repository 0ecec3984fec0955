/* SPDX-License-Identifier: Apache-2.0 */
/* The state after RESET: SDM 3A table 9-1 and 9.1.1, 11.11.2.1 (MTRRs), 11.12.4 (PAT). */
#include "cpu/state.h"

#include "base/util.h"

#include <string.h>

#define APIC_BASE_ADDRESS UINT64_C(0xfee00000)
#define APIC_BASE_BSP     (UINT64_C(1) << 8)
#define APIC_BASE_ENABLE  (UINT64_C(1) << 11)

#define MISC_ENABLE_FAST_STRING UINT64_C(1)

#define PAT_RESET UINT64_C(0x0007040600070406)
#define DR6_RESET UINT64_C(0xffff0ff0)
#define DR7_RESET UINT64_C(0x400)

#define FCW_RESET   0x0040 /* FNINIT would give 037Fh */
#define MXCSR_RESET 0x1f80

#define TYPE_DATA_RW_ACCESSED  0x3u
#define TYPE_CODE_RW_ACCESSED  0xbu
#define TYPE_LDT               0x2u
#define TYPE_TSS32_BUSY        0xbu
#define FXSAVE_FCW_OFFSET      0
#define FXSAVE_FTW_OFFSET      4
#define FXSAVE_MXCSR_OFFSET    24
#define FXSAVE_FTW_ABRIDGED    0xff /* tag word 5555h after RESET: every register valid, zero */
#define CPU_RESET_SIGNATURE_DX 0x600

static struct cpu_segment segment_reset(uint32_t type, bool system)
{
    return (struct cpu_segment){
        .limit = 0xffff,
        .attributes = type | (system ? 0 : CPU_SEGMENT_S) | CPU_SEGMENT_P,
    };
}

void cpu_state_reset(struct cpu_state *state, unsigned cpu_index)
{
    memset(state, 0, sizeof(*state));
    state->gpr[CPU_RDX] = CPU_RESET_SIGNATURE_DX;
    state->rip = 0xfff0;
    state->rflags = CPU_FLAG_ONE;
    for (unsigned i = 0; i < CPU_NR_SEGMENTS; i++)
        state->segment[i] = segment_reset(TYPE_DATA_RW_ACCESSED, false);
    state->segment[CPU_CS] = segment_reset(TYPE_CODE_RW_ACCESSED, false);
    state->segment[CPU_CS].selector = 0xf000;
    state->segment[CPU_CS].base = 0xffff0000;
    state->tr = segment_reset(TYPE_TSS32_BUSY, true);
    state->ldtr = segment_reset(TYPE_LDT, true);
    state->gdtr.limit = 0xffff;
    state->idtr.limit = 0xffff;
    state->cr0 = CPU_CR0_CD | CPU_CR0_NW | CPU_CR0_ET;
    state->xcr0 = CPU_XCR0_X87;
    state->dr[6] = DR6_RESET;
    state->dr[7] = DR7_RESET;
    state->pat = PAT_RESET;
    state->misc_enable = MISC_ENABLE_FAST_STRING;
    state->apic_base = APIC_BASE_ADDRESS | APIC_BASE_ENABLE | (cpu_index == 0 ? APIC_BASE_BSP : 0);
    state->activity = cpu_index == 0 ? CPU_ACTIVITY_RUNNING : CPU_ACTIVITY_WAIT_FOR_SIPI;
    store_le16(&state->xsave[FXSAVE_FCW_OFFSET], FCW_RESET);
    state->xsave[FXSAVE_FTW_OFFSET] = FXSAVE_FTW_ABRIDGED;
    store_le32(&state->xsave[FXSAVE_MXCSR_OFFSET], MXCSR_RESET);
    /* XSTATE_BV: x87 and SSE hold what stands above, AVX is initial. */
    store_le64(&state->xsave[512], CPU_XCR0_X87 | CPU_XCR0_SSE);
}
