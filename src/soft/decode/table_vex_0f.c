/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VEX opcode map 0F (SDM 2D A.3, table A-3, the rows with a v prefix). No L0 or L1: both, by
 * the vector length; scalars ignore L.
 */
#include "soft/decode/decode_table.h"

/* clang-format off */
#define PS_PD3(name, traits) \
    F(V##name##PS, NP, AVX | (traits), W(VL), R(HL), R(WL)), F(V##name##PD, P66, AVX | (traits), W(VL), R(HL), R(WL))
#define SS_SD3(name, traits) \
    F(V##name##SS, PF3, AVX | (traits), W(V), R(H), R(Wd)), F(V##name##SD, PF2, AVX | (traits), W(V), R(H), R(Wq))
#define FLOAT4(name) OPM(PS_PD3(name, FPX), SS_SD3(name, FPX))

/* Integer operations: 256 bits came with AVX2. */
#define WIDTHS(name, when, ...) \
    F(name, (when) | L0, AVX, __VA_ARGS__), F(name, (when) | L1, AVX2, __VA_ARGS__)
#define INT(name)    OPM(WIDTHS(V##name, P66, W(VL), R(HL), R(WL)))
#define SHIFTS(name) OPM(WIDTHS(V##name, P66, W(VL), R(HL), R(Wdq)))
#define SHIFT_IMM(name, n) WIDTHS(V##name, P66 | SLASH(n) | REG, W(HL), R(UL), R(Ib))

const struct decode_entry decode_map_vex_0f[256] = {
    [0x10] = OPM(F(VMOVUPS, NP, AVX, W(VL), R(WL)), F(VMOVUPD, P66, AVX, W(VL), R(WL)),
                 F(VMOVSS, PF3 | MEM, AVX, W(V), R(Md)), F(VMOVSS, PF3 | REG, AVX, W(V), R(H), R(U)),
                 F(VMOVSD, PF2 | MEM, AVX, W(V), R(Mq)), F(VMOVSD, PF2 | REG, AVX, W(V), R(H), R(U))),
    [0x11] = OPM(F(VMOVUPS, NP, AVX, W(WL), R(VL)), F(VMOVUPD, P66, AVX, W(WL), R(VL)),
                 F(VMOVSS, PF3 | MEM, AVX, W(Md), R(V)), F(VMOVSS, PF3 | REG, AVX, W(U), R(H), R(V)),
                 F(VMOVSD, PF2 | MEM, AVX, W(Mq), R(V)), F(VMOVSD, PF2 | REG, AVX, W(U), R(H), R(V))),
    [0x12] = OPM(F(VMOVLPS, NP | MEM | L0, AVX, W(V), R(H), R(Mq)), F(VMOVHLPS, NP | REG | L0, AVX, W(V), R(H), R(U)),
                 F(VMOVLPD, P66 | MEM | L0, AVX, W(V), R(H), R(Mq)),
                 F(VMOVSLDUP, PF3, AVX, W(VL), R(WL)), F(VMOVDDUP, PF2, AVX, W(VL), R(WLddup))),
    [0x13] = OPM(F(VMOVLPS, NP | MEM | L0, AVX, W(Mq), R(V)), F(VMOVLPD, P66 | MEM | L0, AVX, W(Mq), R(V))),
    [0x14] = OPM(PS_PD3(UNPCKL, 0)),
    [0x15] = OPM(PS_PD3(UNPCKH, 0)),
    [0x16] = OPM(F(VMOVHPS, NP | MEM | L0, AVX, W(V), R(H), R(Mq)), F(VMOVLHPS, NP | REG | L0, AVX, W(V), R(H), R(U)),
                 F(VMOVHPD, P66 | MEM | L0, AVX, W(V), R(H), R(Mq)), F(VMOVSHDUP, PF3, AVX, W(VL), R(WL))),
    [0x17] = OPM(F(VMOVHPS, NP | MEM | L0, AVX, W(Mq), R(V)), F(VMOVHPD, P66 | MEM | L0, AVX, W(Mq), R(V))),
    [0x28] = OPM(F(VMOVAPS, NP, AVX | ALIGNED, W(VL), R(WL)), F(VMOVAPD, P66, AVX | ALIGNED, W(VL), R(WL))),
    [0x29] = OPM(F(VMOVAPS, NP, AVX | ALIGNED, W(WL), R(VL)), F(VMOVAPD, P66, AVX | ALIGNED, W(WL), R(VL))),
    [0x2a] = OPM(F(VCVTSI2SS, PF3, AVX | FPX, W(V), R(H), R(Ey)), F(VCVTSI2SD, PF2, AVX | FPX, W(V), R(H), R(Ey))),
    [0x2b] = OPM(F(VMOVNTPS, NP, AVX | ALIGNED, W(Mx), R(VL)), F(VMOVNTPD, P66, AVX | ALIGNED, W(Mx), R(VL))),
    [0x2c] = OPM(F(VCVTTSS2SI, PF3, AVX | FPX, W(Gy), R(Wd)), F(VCVTTSD2SI, PF2, AVX | FPX, W(Gy), R(Wq))),
    [0x2d] = OPM(F(VCVTSS2SI, PF3, AVX | FPX, W(Gy), R(Wd)), F(VCVTSD2SI, PF2, AVX | FPX, W(Gy), R(Wq))),
    [0x2e] = OPM(F(VUCOMISS, NP, AVX | FPX | FL(ARITH), R(V), R(Wd)), F(VUCOMISD, P66, AVX | FPX | FL(ARITH), R(V), R(Wq))),
    [0x2f] = OPM(F(VCOMISS, NP, AVX | FPX | FL(ARITH), R(V), R(Wd)), F(VCOMISD, P66, AVX | FPX | FL(ARITH), R(V), R(Wq))),
    [0x50] = OPM(F(VMOVMSKPS, NP, AVX, W(Gd), R(UL)), F(VMOVMSKPD, P66, AVX, W(Gd), R(UL))),
    [0x51] = OPM(F(VSQRTPS, NP, AVX | FPX, W(VL), R(WL)), F(VSQRTPD, P66, AVX | FPX, W(VL), R(WL)), SS_SD3(SQRT, FPX)),
    [0x52] = OPM(F(VRSQRTPS, NP, AVX, W(VL), R(WL)), F(VRSQRTSS, PF3, AVX, W(V), R(H), R(Wd))),
    [0x53] = OPM(F(VRCPPS, NP, AVX, W(VL), R(WL)), F(VRCPSS, PF3, AVX, W(V), R(H), R(Wd))),
    [0x54] = OPM(PS_PD3(AND, 0)),
    [0x55] = OPM(PS_PD3(ANDN, 0)),
    [0x56] = OPM(PS_PD3(OR, 0)),
    [0x57] = OPM(PS_PD3(XOR, 0)),
    [0x58] = FLOAT4(ADD),
    [0x59] = FLOAT4(MUL),
    [0x5a] = OPM(F(VCVTPS2PD, NP, AVX | FPX, W(VL), R(Wxh)), F(VCVTPD2PS, P66, AVX | FPX, W(V), R(WL)),
                 F(VCVTSS2SD, PF3, AVX | FPX, W(V), R(H), R(Wd)), F(VCVTSD2SS, PF2, AVX | FPX, W(V), R(H), R(Wq))),
    [0x5b] = OPM(F(VCVTDQ2PS, NP, AVX | FPX, W(VL), R(WL)), F(VCVTPS2DQ, P66, AVX | FPX, W(VL), R(WL)),
                 F(VCVTTPS2DQ, PF3, AVX | FPX, W(VL), R(WL))),
    [0x5c] = FLOAT4(SUB),
    [0x5d] = FLOAT4(MIN),
    [0x5e] = FLOAT4(DIV),
    [0x5f] = FLOAT4(MAX),
    [0x60] = INT(PUNPCKLBW), [0x61] = INT(PUNPCKLWD), [0x62] = INT(PUNPCKLDQ), [0x63] = INT(PACKSSWB),
    [0x64] = INT(PCMPGTB), [0x65] = INT(PCMPGTW), [0x66] = INT(PCMPGTD), [0x67] = INT(PACKUSWB),
    [0x68] = INT(PUNPCKHBW), [0x69] = INT(PUNPCKHWD), [0x6a] = INT(PUNPCKHDQ), [0x6b] = INT(PACKSSDW),
    [0x6c] = INT(PUNPCKLQDQ), [0x6d] = INT(PUNPCKHQDQ),
    [0x6e] = OPM(F(VMOVQ, P66 | L0 | W1 | M64, AVX, W(V), R(Ey)), F(VMOVD, P66 | L0, AVX, W(V), R(Ey))),
    [0x6f] = OPM(F(VMOVDQA, P66, AVX | ALIGNED, W(VL), R(WL)), F(VMOVDQU, PF3, AVX, W(VL), R(WL))),
    [0x70] = OPM(WIDTHS(VPSHUFD, P66, W(VL), R(WL), R(Ib)), WIDTHS(VPSHUFHW, PF3, W(VL), R(WL), R(Ib)),
                 WIDTHS(VPSHUFLW, PF2, W(VL), R(WL), R(Ib))),
    [0x71] = OPM(SHIFT_IMM(PSRLW, 2), SHIFT_IMM(PSRAW, 4), SHIFT_IMM(PSLLW, 6)),
    [0x72] = OPM(SHIFT_IMM(PSRLD, 2), SHIFT_IMM(PSRAD, 4), SHIFT_IMM(PSLLD, 6)),
    [0x73] = OPM(SHIFT_IMM(PSRLQ, 2), SHIFT_IMM(PSRLDQ, 3), SHIFT_IMM(PSLLQ, 6), SHIFT_IMM(PSLLDQ, 7)),
    [0x74] = INT(PCMPEQB), [0x75] = INT(PCMPEQW), [0x76] = INT(PCMPEQD),
    [0x77] = OP(F(VZEROUPPER, NP | L0, AVX), F(VZEROALL, NP | L1, AVX)),
    [0x7c] = OPM(F(VHADDPD, P66, AVX | FPX, W(VL), R(HL), R(WL)), F(VHADDPS, PF2, AVX | FPX, W(VL), R(HL), R(WL))),
    [0x7d] = OPM(F(VHSUBPD, P66, AVX | FPX, W(VL), R(HL), R(WL)), F(VHSUBPS, PF2, AVX | FPX, W(VL), R(HL), R(WL))),
    [0x7e] = OPM(F(VMOVQ, P66 | L0 | W1 | M64, AVX, W(Ey), R(V)), F(VMOVD, P66 | L0, AVX, W(Ey), R(V)),
                 F(VMOVQ, PF3 | L0, AVX, W(V), R(Wq))),
    [0x7f] = OPM(F(VMOVDQA, P66, AVX | ALIGNED, W(WL), R(VL)), F(VMOVDQU, PF3, AVX, W(WL), R(VL))),
    [0xae] = OPM(F(VLDMXCSR, NP | L0 | SLASH(2) | MEM, AVX, R(Md)), F(VSTMXCSR, NP | L0 | SLASH(3) | MEM, AVX, W(Md))),
    [0xc2] = OPM(F(VCMPPS, NP, AVX | FPX, W(VL), R(HL), R(WL), R(Ib)), F(VCMPPD, P66, AVX | FPX, W(VL), R(HL), R(WL), R(Ib)),
                 F(VCMPSS, PF3, AVX | FPX, W(V), R(H), R(Wd), R(Ib)), F(VCMPSD, PF2, AVX | FPX, W(V), R(H), R(Wq), R(Ib))),
    [0xc4] = OPM(F(VPINSRW, P66 | L0, AVX, W(V), R(H), R(Ed_Mw), R(Ib))),
    [0xc5] = OPM(F(VPEXTRW, P66 | L0, AVX, W(Gd), R(U), R(Ib))),
    [0xc6] = OPM(F(VSHUFPS, NP, AVX, W(VL), R(HL), R(WL), R(Ib)), F(VSHUFPD, P66, AVX, W(VL), R(HL), R(WL), R(Ib))),
    [0xd0] = OPM(F(VADDSUBPD, P66, AVX | FPX, W(VL), R(HL), R(WL)), F(VADDSUBPS, PF2, AVX | FPX, W(VL), R(HL), R(WL))),
    [0xd1] = SHIFTS(PSRLW), [0xd2] = SHIFTS(PSRLD), [0xd3] = SHIFTS(PSRLQ), [0xd4] = INT(PADDQ), [0xd5] = INT(PMULLW),
    [0xd6] = OPM(F(VMOVQ, P66 | L0, AVX, W(Wq), R(V))),
    [0xd7] = OPM(WIDTHS(VPMOVMSKB, P66, W(Gd), R(UL))),
    [0xd8] = INT(PSUBUSB), [0xd9] = INT(PSUBUSW), [0xda] = INT(PMINUB), [0xdb] = INT(PAND),
    [0xdc] = INT(PADDUSB), [0xdd] = INT(PADDUSW), [0xde] = INT(PMAXUB), [0xdf] = INT(PANDN),
    [0xe0] = INT(PAVGB), [0xe1] = SHIFTS(PSRAW), [0xe2] = SHIFTS(PSRAD), [0xe3] = INT(PAVGW),
    [0xe4] = INT(PMULHUW), [0xe5] = INT(PMULHW),
    [0xe6] = OPM(F(VCVTTPD2DQ, P66, AVX | FPX, W(V), R(WL)), F(VCVTDQ2PD, PF3, AVX, W(VL), R(Wxh)),
                 F(VCVTPD2DQ, PF2, AVX | FPX, W(V), R(WL))),
    [0xe7] = OPM(F(VMOVNTDQ, P66, AVX | ALIGNED, W(Mx), R(VL))),
    [0xe8] = INT(PSUBSB), [0xe9] = INT(PSUBSW), [0xea] = INT(PMINSW), [0xeb] = INT(POR),
    [0xec] = INT(PADDSB), [0xed] = INT(PADDSW), [0xee] = INT(PMAXSW), [0xef] = INT(PXOR),
    [0xf0] = OPM(F(VLDDQU, PF2, AVX, W(VL), R(Mx))),
    [0xf1] = SHIFTS(PSLLW), [0xf2] = SHIFTS(PSLLD), [0xf3] = SHIFTS(PSLLQ), [0xf4] = INT(PMULUDQ),
    [0xf5] = INT(PMADDWD), [0xf6] = INT(PSADBW),
    [0xf7] = OPM(F(VMASKMOVDQU, P66 | L0, AVX, R(V), R(U), W(MASKdq))),
    [0xf8] = INT(PSUBB), [0xf9] = INT(PSUBW), [0xfa] = INT(PSUBD), [0xfb] = INT(PSUBQ),
    [0xfc] = INT(PADDB), [0xfd] = INT(PADDW), [0xfe] = INT(PADDD),
};
