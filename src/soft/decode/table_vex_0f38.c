/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VEX opcode maps 0F 38 and 0F 3A (SDM 2D A.3, tables, the rows with a v prefix).
 * AVX-VNNI, AVX-IFMA and later extensions are hidden: empty.
 */
#include "soft/decode/decode_table.h"

/* clang-format off */
#define WIDTHS(name, when, ...) \
    F(name, (when) | L0, AVX, __VA_ARGS__), F(name, (when) | L1, AVX2, __VA_ARGS__)
#define INT(name) OPM(WIDTHS(V##name, P66, W(VL), R(HL), R(WL)))
#define ABS(name) OPM(WIDTHS(V##name, P66, W(VL), R(WL)))
#define EXTEND(name, size) OPM(WIDTHS(V##name, P66, W(VL), R(size)))
#define PACKED(name, when, set) F(name, P66 | (when), set, W(VL), R(HL), R(WL))

#define FMA_PACKED(name) \
    OPM(F(name##PS, P66 | W0, FMA, RW(VL), R(HL), R(WL)), F(name##PD, P66 | W1, FMA, RW(VL), R(HL), R(WL)))
#define FMA_SCALAR(name) \
    OPM(F(name##SS, P66 | W0, FMA, RW(V), R(H), R(Wd)), F(name##SD, P66 | W1, FMA, RW(V), R(H), R(Wq)))
#define FMA_ORDER(base, order) \
    [(base) + 0x06] = FMA_PACKED(VFMADDSUB##order), [(base) + 0x07] = FMA_PACKED(VFMSUBADD##order), \
    [(base) + 0x08] = FMA_PACKED(VFMADD##order),    [(base) + 0x09] = FMA_SCALAR(VFMADD##order), \
    [(base) + 0x0a] = FMA_PACKED(VFMSUB##order),    [(base) + 0x0b] = FMA_SCALAR(VFMSUB##order), \
    [(base) + 0x0c] = FMA_PACKED(VFNMADD##order),   [(base) + 0x0d] = FMA_SCALAR(VFNMADD##order), \
    [(base) + 0x0e] = FMA_PACKED(VFNMSUB##order),   [(base) + 0x0f] = FMA_SCALAR(VFNMSUB##order)

#define VAES(name) \
    OPM(F(name, P66 | L0, AVXV(AES), W(VL), R(HL), R(WL)), F(name, P66 | L1, AVXV(VAES), W(VL), R(HL), R(WL)))
#define BLS(name, n) F(name, NP | L0 | SLASH(n), BMI1 | FL(BMI), W(By), R(Ey))

const struct decode_entry decode_map_vex_0f38[256] = {
    [0x00] = INT(PSHUFB), [0x01] = INT(PHADDW), [0x02] = INT(PHADDD), [0x03] = INT(PHADDSW),
    [0x04] = INT(PMADDUBSW), [0x05] = INT(PHSUBW), [0x06] = INT(PHSUBD), [0x07] = INT(PHSUBSW),
    [0x08] = INT(PSIGNB), [0x09] = INT(PSIGNW), [0x0a] = INT(PSIGND), [0x0b] = INT(PMULHRSW),
    [0x0c] = OPM(PACKED(VPERMILPS, W0, AVX)), [0x0d] = OPM(PACKED(VPERMILPD, W0, AVX)),
    [0x0e] = OPM(F(VTESTPS, P66 | W0, AVX | FL(ARITH), R(VL), R(WL))),
    [0x0f] = OPM(F(VTESTPD, P66 | W0, AVX | FL(ARITH), R(VL), R(WL))),
    [0x13] = OPM(F(VCVTPH2PS, P66 | W0, AVXV(F16C) | FPX, W(VL), R(Wxh))),
    [0x16] = OPM(PACKED(VPERMPS, L1 | W0, AVX2)),
    [0x17] = OPM(F(VPTEST, P66, AVX | FL(ARITH), R(VL), R(WL))),
    [0x18] = OPM(F(VBROADCASTSS, P66 | W0 | MEM, AVX, W(VL), R(Md)), F(VBROADCASTSS, P66 | W0 | REG, AVX2, W(VL), R(U))),
    [0x19] = OPM(F(VBROADCASTSD, P66 | L1 | W0 | MEM, AVX, W(VL), R(Mq)),
                 F(VBROADCASTSD, P66 | L1 | W0 | REG, AVX2, W(VL), R(U))),
    [0x1a] = OPM(F(VBROADCASTF128, P66 | L1 | W0, AVX, W(VL), R(Mdq))),
    [0x1c] = ABS(PABSB), [0x1d] = ABS(PABSW), [0x1e] = ABS(PABSD),
    [0x20] = EXTEND(PMOVSXBW, Wxh), [0x21] = EXTEND(PMOVSXBD, Wxq), [0x22] = EXTEND(PMOVSXBQ, Wxe),
    [0x23] = EXTEND(PMOVSXWD, Wxh), [0x24] = EXTEND(PMOVSXWQ, Wxq), [0x25] = EXTEND(PMOVSXDQ, Wxh),
    [0x28] = INT(PMULDQ), [0x29] = INT(PCMPEQQ),
    [0x2a] = OPM(F(VMOVNTDQA, P66 | L0, AVX | ALIGNED, W(VL), R(Mx)), F(VMOVNTDQA, P66 | L1, AVX2 | ALIGNED, W(VL), R(Mx))),
    [0x2b] = INT(PACKUSDW),
    [0x2c] = OPM(F(VMASKMOVPS, P66 | W0, AVX, W(VL), R(HL), R(Mx))),
    [0x2d] = OPM(F(VMASKMOVPD, P66 | W0, AVX, W(VL), R(HL), R(Mx))),
    [0x2e] = OPM(F(VMASKMOVPS, P66 | W0, AVX, W(Mx), R(HL), R(VL))),
    [0x2f] = OPM(F(VMASKMOVPD, P66 | W0, AVX, W(Mx), R(HL), R(VL))),
    [0x30] = EXTEND(PMOVZXBW, Wxh), [0x31] = EXTEND(PMOVZXBD, Wxq), [0x32] = EXTEND(PMOVZXBQ, Wxe),
    [0x33] = EXTEND(PMOVZXWD, Wxh), [0x34] = EXTEND(PMOVZXWQ, Wxq), [0x35] = EXTEND(PMOVZXDQ, Wxh),
    [0x36] = OPM(PACKED(VPERMD, L1 | W0, AVX2)),
    [0x37] = INT(PCMPGTQ),
    [0x38] = INT(PMINSB), [0x39] = INT(PMINSD), [0x3a] = INT(PMINUW), [0x3b] = INT(PMINUD),
    [0x3c] = INT(PMAXSB), [0x3d] = INT(PMAXSD), [0x3e] = INT(PMAXUW), [0x3f] = INT(PMAXUD),
    [0x40] = INT(PMULLD),
    [0x41] = OPM(F(VPHMINPOSUW, P66 | L0, AVX, W(V), R(Wdq))),
    [0x45] = OPM(PACKED(VPSRLVD, W0, AVX2), PACKED(VPSRLVQ, W1, AVX2)),
    [0x46] = OPM(PACKED(VPSRAVD, W0, AVX2)),
    [0x47] = OPM(PACKED(VPSLLVD, W0, AVX2), PACKED(VPSLLVQ, W1, AVX2)),
    [0x58] = OPM(F(VPBROADCASTD, P66 | W0, AVX2, W(VL), R(Wd))),
    [0x59] = OPM(F(VPBROADCASTQ, P66 | W0, AVX2, W(VL), R(Wq))),
    [0x5a] = OPM(F(VBROADCASTI128, P66 | L1 | W0, AVX2, W(VL), R(Mdq))),
    [0x78] = OPM(F(VPBROADCASTB, P66 | W0, AVX2, W(VL), R(Wb))),
    [0x79] = OPM(F(VPBROADCASTW, P66 | W0, AVX2, W(VL), R(Ww))),
    [0x8c] = OPM(F(VPMASKMOVD, P66 | W0, AVX2, W(VL), R(HL), R(Mx)), F(VPMASKMOVQ, P66 | W1, AVX2, W(VL), R(HL), R(Mx))),
    [0x8e] = OPM(F(VPMASKMOVD, P66 | W0, AVX2, W(Mx), R(HL), R(VL)), F(VPMASKMOVQ, P66 | W1, AVX2, W(Mx), R(HL), R(VL))),
    [0x90] = OPM(F(VPGATHERDD, P66 | W0, AVX2 | GATHER, RW(VL), R(VSIBLd), RW(HL)),
                 F(VPGATHERDQ, P66 | W1, AVX2 | GATHER, RW(VL), R(VSIBq), RW(HL))),
    [0x91] = OPM(F(VPGATHERQD, P66 | W0, AVX2 | GATHER, RW(V), R(VSIBLd), RW(H)),
                 F(VPGATHERQQ, P66 | W1, AVX2 | GATHER, RW(VL), R(VSIBLq), RW(HL))),
    [0x92] = OPM(F(VGATHERDPS, P66 | W0, AVX2 | GATHER, RW(VL), R(VSIBLd), RW(HL)),
                 F(VGATHERDPD, P66 | W1, AVX2 | GATHER, RW(VL), R(VSIBq), RW(HL))),
    [0x93] = OPM(F(VGATHERQPS, P66 | W0, AVX2 | GATHER, RW(V), R(VSIBLd), RW(H)),
                 F(VGATHERQPD, P66 | W1, AVX2 | GATHER, RW(VL), R(VSIBLq), RW(HL))),
    FMA_ORDER(0x90, 132),
    FMA_ORDER(0xa0, 213),
    FMA_ORDER(0xb0, 231),
    [0xcf] = OPM(F(VGF2P8MULB, P66 | W0, AVXV(GFNI), W(VL), R(HL), R(WL))),
    [0xdb] = OPM(F(VAESIMC, P66 | L0, AVXV(AES), W(V), R(Wdq))),
    [0xdc] = VAES(VAESENC), [0xdd] = VAES(VAESENCLAST), [0xde] = VAES(VAESDEC), [0xdf] = VAES(VAESDECLAST),
    [0xf2] = OPM(F(ANDN, NP | L0, BMI1 | FL(BMI), W(Gy), R(By), R(Ey))),
    [0xf3] = OPM(BLS(BLSR, 1), BLS(BLSMSK, 2), BLS(BLSI, 3)),
    [0xf5] = OPM(F(BZHI, NP | L0, BMI2 | FL(BMI), W(Gy), R(Ey), R(By)),
                 F(PEXT, PF3 | L0, BMI2, W(Gy), R(By), R(Ey)), F(PDEP, PF2 | L0, BMI2, W(Gy), R(By), R(Ey))),
    [0xf6] = OPM(F(MULX, PF2 | L0, BMI2, W(Gy), W(By), R(Ey), R(yDX))),
    [0xf7] = OPM(F(BEXTR, NP | L0, BMI1 | FL(EXTRACT), W(Gy), R(Ey), R(By)),
                 F(SHLX, P66 | L0, BMI2, W(Gy), R(Ey), R(By)), F(SARX, PF3 | L0, BMI2, W(Gy), R(Ey), R(By)),
                 F(SHRX, PF2 | L0, BMI2, W(Gy), R(Ey), R(By))),
};

const struct decode_entry decode_map_vex_0f3a[256] = {
    [0x00] = OPM(F(VPERMQ, P66 | L1 | W1, AVX2, W(VL), R(WL), R(Ib))),
    [0x01] = OPM(F(VPERMPD, P66 | L1 | W1, AVX2, W(VL), R(WL), R(Ib))),
    [0x02] = OPM(F(VPBLENDD, P66 | W0, AVX2, W(VL), R(HL), R(WL), R(Ib))),
    [0x04] = OPM(F(VPERMILPS, P66 | W0, AVX, W(VL), R(WL), R(Ib))),
    [0x05] = OPM(F(VPERMILPD, P66 | W0, AVX, W(VL), R(WL), R(Ib))),
    [0x06] = OPM(F(VPERM2F128, P66 | L1 | W0, AVX, W(VL), R(HL), R(WL), R(Ib))),
    [0x08] = OPM(F(VROUNDPS, P66, AVX | FPX, W(VL), R(WL), R(Ib))),
    [0x09] = OPM(F(VROUNDPD, P66, AVX | FPX, W(VL), R(WL), R(Ib))),
    [0x0a] = OPM(F(VROUNDSS, P66, AVX | FPX, W(V), R(H), R(Wd), R(Ib))),
    [0x0b] = OPM(F(VROUNDSD, P66, AVX | FPX, W(V), R(H), R(Wq), R(Ib))),
    [0x0c] = OPM(F(VBLENDPS, P66, AVX, W(VL), R(HL), R(WL), R(Ib))),
    [0x0d] = OPM(F(VBLENDPD, P66, AVX, W(VL), R(HL), R(WL), R(Ib))),
    [0x0e] = OPM(WIDTHS(VPBLENDW, P66, W(VL), R(HL), R(WL), R(Ib))),
    [0x0f] = OPM(WIDTHS(VPALIGNR, P66, W(VL), R(HL), R(WL), R(Ib))),
    [0x14] = OPM(F(VPEXTRB, P66 | L0, AVX, W(Ed_Mb), R(V), R(Ib))),
    [0x15] = OPM(F(VPEXTRW, P66 | L0, AVX, W(Ed_Mw), R(V), R(Ib))),
    [0x16] = OPM(F(VPEXTRQ, P66 | L0 | W1 | M64, AVX, W(Ey), R(V), R(Ib)), F(VPEXTRD, P66 | L0, AVX, W(Ey), R(V), R(Ib))),
    [0x17] = OPM(F(VEXTRACTPS, P66 | L0, AVX, W(Ed), R(V), R(Ib))),
    [0x18] = OPM(F(VINSERTF128, P66 | L1 | W0, AVX, W(VL), R(HL), R(Wdq), R(Ib))),
    [0x19] = OPM(F(VEXTRACTF128, P66 | L1 | W0, AVX, W(Wdq), R(VL), R(Ib))),
    [0x1d] = OPM(F(VCVTPS2PH, P66 | W0, AVXV(F16C) | FPX, W(Wxh), R(VL), R(Ib))),
    [0x20] = OPM(F(VPINSRB, P66 | L0, AVX, W(V), R(H), R(Ed_Mb), R(Ib))),
    [0x21] = OPM(F(VINSERTPS, P66 | L0, AVX, W(V), R(H), R(Wd), R(Ib))),
    [0x22] = OPM(F(VPINSRQ, P66 | L0 | W1 | M64, AVX, W(V), R(H), R(Ey), R(Ib)),
                 F(VPINSRD, P66 | L0, AVX, W(V), R(H), R(Ey), R(Ib))),
    [0x38] = OPM(F(VINSERTI128, P66 | L1 | W0, AVX2, W(VL), R(HL), R(Wdq), R(Ib))),
    [0x39] = OPM(F(VEXTRACTI128, P66 | L1 | W0, AVX2, W(Wdq), R(VL), R(Ib))),
    [0x40] = OPM(F(VDPPS, P66, AVX | FPX, W(VL), R(HL), R(WL), R(Ib))),
    [0x41] = OPM(F(VDPPD, P66 | L0, AVX | FPX, W(V), R(H), R(Wdq), R(Ib))),
    [0x42] = OPM(WIDTHS(VMPSADBW, P66, W(VL), R(HL), R(WL), R(Ib))),
    [0x44] = OPM(F(VPCLMULQDQ, P66 | L0, AVXV(PCLMULQDQ), W(VL), R(HL), R(WL), R(Ib)),
                 F(VPCLMULQDQ, P66 | L1, AVXV(VPCLMULQDQ), W(VL), R(HL), R(WL), R(Ib))),
    [0x46] = OPM(F(VPERM2I128, P66 | L1 | W0, AVX2, W(VL), R(HL), R(WL), R(Ib))),
    [0x4a] = OPM(F(VBLENDVPS, P66 | W0, AVX, W(VL), R(HL), R(WL), R(LL))),
    [0x4b] = OPM(F(VBLENDVPD, P66 | W0, AVX, W(VL), R(HL), R(WL), R(LL))),
    [0x4c] = OPM(WIDTHS(VPBLENDVB, P66 | W0, W(VL), R(HL), R(WL), R(LL))),
    [0x60] = OPM(F(VPCMPESTRM, P66 | L0, AVX | FL(ARITH), R(V), R(Wdq), R(Ib), R(yAX), R(yDX))),
    [0x61] = OPM(F(VPCMPESTRI, P66 | L0, AVX | FL(ARITH), R(V), R(Wdq), R(Ib), R(yAX), R(yDX))),
    [0x62] = OPM(F(VPCMPISTRM, P66 | L0, AVX | FL(ARITH), R(V), R(Wdq), R(Ib), W(XMM0))),
    [0x63] = OPM(F(VPCMPISTRI, P66 | L0, AVX | FL(ARITH), R(V), R(Wdq), R(Ib), W(ECX))),
    [0xce] = OPM(F(VGF2P8AFFINEQB, P66 | W1, AVXV(GFNI), W(VL), R(HL), R(WL), R(Ib))),
    [0xcf] = OPM(F(VGF2P8AFFINEINVQB, P66 | W1, AVXV(GFNI), W(VL), R(HL), R(WL), R(Ib))),
    [0xdf] = OPM(F(VAESKEYGENASSIST, P66 | L0, AVXV(AES), W(V), R(Wdq), R(Ib))),
    [0xf0] = OPM(F(RORX, PF2 | L0, BMI2, W(Gy), R(Ey), R(Ib))),
};
