/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which handler runs which mnemonic that touches x87, MMX, SSE or AVX registers. Two handlers do
 * nearly all: fpu_run_x87 and fpu_run_vector; the table names the others.
 * tests/unit/soft/fpu/test_coverage.c sweeps the opcode maps against it.
 */
#include "soft/fpu/fpu.h"
#include "soft/fpu/fpu_internal.h"

#define ROW(name, handler)             \
    {                                  \
        INSN_##name, fpu_run_##handler \
    }

/* clang-format off */
const struct soft_handler fpu_handlers_special[] = {
    ROW(PREFETCHNTA, nop), ROW(PREFETCHT0, nop), ROW(PREFETCHT1, nop), ROW(PREFETCHT2, nop),
    ROW(PREFETCH, nop), ROW(PREFETCHW, nop),
    ROW(EMMS, emms),
    ROW(VLDMXCSR, mxcsr), ROW(VSTMXCSR, mxcsr), ROW(LDMXCSR, mxcsr), ROW(STMXCSR, mxcsr),
    ROW(VZEROUPPER, vzero), ROW(VZEROALL, vzero),
    ROW(FXSAVE, fxsave),
    ROW(FXRSTOR, fxrstor),
    ROW(XSAVE, xsave), ROW(XSAVEOPT, xsave), ROW(XSAVEC, xsave), ROW(XSAVES, xsave),
    ROW(XRSTOR, xrstor), ROW(XRSTORS, xrstor),
    ROW(FNCLEX, fnclex),
    ROW(FNINIT, fninit),
    ROW(FNSTCW, fnstcw),
    ROW(FLDCW, fldcw),
    ROW(FNSTSW, fnstsw),
    ROW(FNSTENV, fnstenv),
    ROW(FLDENV, fldenv),
    ROW(FNSAVE, fnsave),
    ROW(FRSTOR, frstor),
    ROW(FWAIT, fwait),
    ROW(ANDPS, logic), ROW(ANDPD, logic), ROW(ANDNPS, logic), ROW(ANDNPD, logic), ROW(ORPS, logic),
    ROW(ORPD, logic), ROW(XORPS, logic), ROW(XORPD, logic), ROW(PAND, logic), ROW(PANDN, logic),
    ROW(POR, logic), ROW(PXOR, logic),
    ROW(MOVAPS, move), ROW(MOVAPD, move), ROW(MOVUPS, move), ROW(MOVUPD, move), ROW(MOVNTPS, move),
    ROW(MOVNTPD, move), ROW(MOVDQA, move), ROW(MOVDQU, move), ROW(LDDQU, move), ROW(MOVNTDQ, move),
    ROW(MOVNTDQA, move), ROW(VMOVAPS, move), ROW(VMOVAPD, move), ROW(VMOVUPS, move),
    ROW(VMOVUPD, move), ROW(VMOVNTPS, move), ROW(VMOVNTPD, move), ROW(VMOVDQA, move),
    ROW(VMOVDQU, move), ROW(VLDDQU, move), ROW(VMOVNTDQ, move), ROW(VMOVNTDQA, move),
    ROW(MOVSS, movss), ROW(MOVSD, movss), ROW(MOVNTSS, movss), ROW(MOVNTSD, movss),
    ROW(VMOVSS, movss), ROW(VMOVSD, movss),
    ROW(MOVLPS, move_half), ROW(MOVLPD, move_half), ROW(MOVHPS, move_half), ROW(MOVHPD, move_half),
    ROW(MOVD, movd), ROW(MOVQ, movd), ROW(VMOVD, movd), ROW(VMOVQ, movd),
    ROW(MASKMOVDQU, maskmov_bytes), ROW(MASKMOVQ, maskmov_bytes), ROW(VMASKMOVDQU, maskmov_bytes),
    ROW(VMASKMOVPS, maskmov_vex), ROW(VMASKMOVPD, maskmov_vex), ROW(VPMASKMOVD, maskmov_vex),
    ROW(VPMASKMOVQ, maskmov_vex),
    ROW(VGATHERDPS, gather), ROW(VGATHERDPD, gather), ROW(VGATHERQPS, gather),
    ROW(VGATHERQPD, gather), ROW(VPGATHERDD, gather), ROW(VPGATHERDQ, gather),
    ROW(VPGATHERQD, gather), ROW(VPGATHERQQ, gather),
    {INSN_NONE, NULL},
};
/* clang-format on */

static void fill_range(soft_handler_fn *table[INSN_NR_IDS], unsigned first, unsigned last,
                       soft_handler_fn *run)
{
    for (unsigned id = first; id <= last; id++)
        table[id] = run;
}

void fpu_handlers_fill(soft_handler_fn *table[INSN_NR_IDS])
{
    fill_range(table, INSN_FADD, INSN_FWAIT, fpu_run_x87);
    fill_range(table, INSN_ADDPS, INSN_VFMSUBADD231PD, fpu_run_vector);
    for (const struct soft_handler *handler = fpu_handlers_special; handler->run; handler++)
        table[handler->id] = handler->run;
}
