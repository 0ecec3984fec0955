/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The three-byte opcode maps 0F 38 and 0F 3A without VEX (SDM 2D A.3, tables ).
 */
#include "soft/decode/decode_table.h"

/* clang-format off */
#define BOTH(name) OPM(F(name, NP, MMX_SSSE3, RW(Pq), R(Qq)), F(name, P66, SSSE3, RW(V), R(Wdq)))
#define ABS(name)  OPM(F(name, NP, MMX_SSSE3, W(Pq), R(Qq)), F(name, P66, SSSE3, W(V), R(Wdq)))
#define INT41(name) OPM(F(name, P66, SSE41, RW(V), R(Wdq)))
#define EXTEND(name, size) OPM(F(name, P66, SSE41, W(V), R(size)))
#define BLENDV(name) OPM(F(name, P66, SSE41, RW(V), R(Wdq), R(XMM0)))
#define SHA(name) OPM(F(name, NP, SSEV(SHA), RW(V), R(Wdq)))
#define AES(name) OPM(F(name, P66, SSEV(AES), RW(V), R(Wdq)))

const struct decode_entry decode_map_0f38[256] = {
    [0x00] = BOTH(PSHUFB), [0x01] = BOTH(PHADDW), [0x02] = BOTH(PHADDD), [0x03] = BOTH(PHADDSW),
    [0x04] = BOTH(PMADDUBSW), [0x05] = BOTH(PHSUBW), [0x06] = BOTH(PHSUBD), [0x07] = BOTH(PHSUBSW),
    [0x08] = BOTH(PSIGNB), [0x09] = BOTH(PSIGNW), [0x0a] = BOTH(PSIGND), [0x0b] = BOTH(PMULHRSW),
    [0x10] = BLENDV(PBLENDVB), [0x14] = BLENDV(BLENDVPS), [0x15] = BLENDV(BLENDVPD),
    [0x17] = OPM(F(PTEST, P66, SSE41 | FL(ARITH), R(V), R(Wdq))),
    [0x1c] = ABS(PABSB), [0x1d] = ABS(PABSW), [0x1e] = ABS(PABSD),
    [0x20] = EXTEND(PMOVSXBW, Wq), [0x21] = EXTEND(PMOVSXBD, Wd), [0x22] = EXTEND(PMOVSXBQ, Ww),
    [0x23] = EXTEND(PMOVSXWD, Wq), [0x24] = EXTEND(PMOVSXWQ, Wd), [0x25] = EXTEND(PMOVSXDQ, Wq),
    [0x28] = INT41(PMULDQ), [0x29] = INT41(PCMPEQQ),
    [0x2a] = OPM(F(MOVNTDQA, P66, SSE41, W(V), R(Mdq))),
    [0x2b] = INT41(PACKUSDW),
    [0x30] = EXTEND(PMOVZXBW, Wq), [0x31] = EXTEND(PMOVZXBD, Wd), [0x32] = EXTEND(PMOVZXBQ, Ww),
    [0x33] = EXTEND(PMOVZXWD, Wq), [0x34] = EXTEND(PMOVZXWQ, Wd), [0x35] = EXTEND(PMOVZXDQ, Wq),
    [0x37] = OPM(F(PCMPGTQ, P66, SSE42, RW(V), R(Wdq))),
    [0x38] = INT41(PMINSB), [0x39] = INT41(PMINSD), [0x3a] = INT41(PMINUW), [0x3b] = INT41(PMINUD),
    [0x3c] = INT41(PMAXSB), [0x3d] = INT41(PMAXSD), [0x3e] = INT41(PMAXUW), [0x3f] = INT41(PMAXUD),
    [0x40] = INT41(PMULLD),
    [0x41] = OPM(F(PHMINPOSUW, P66, SSE41, W(V), R(Wdq))),
    [0x82] = OPM(F(INVPCID, P66, FEATURE(INVPCID) | NATIVE | PRIV | END, R(Gv), R(Mdq))),
    [0xc8] = SHA(SHA1NEXTE), [0xc9] = SHA(SHA1MSG1), [0xca] = SHA(SHA1MSG2),
    [0xcb] = OPM(F(SHA256RNDS2, NP, SSEV(SHA), RW(V), R(Wdq), R(XMM0))),
    [0xcc] = SHA(SHA256MSG1), [0xcd] = SHA(SHA256MSG2),
    [0xcf] = OPM(F(GF2P8MULB, P66, SSEV(GFNI), RW(V), R(Wdq))),
    [0xdb] = OPM(F(AESIMC, P66, SSEV(AES), W(V), R(Wdq))),
    [0xdc] = AES(AESENC), [0xdd] = AES(AESENCLAST), [0xde] = AES(AESDEC), [0xdf] = AES(AESDECLAST),
    [0xf0] = OPM(F(MOVBE, NOREP, FEATURE(MOVBE), W(Gv), R(Mv)), F(CRC32, PF2, FEATURE(SSE4_2), RW(Gy), R(Eb))),
    [0xf1] = OPM(F(MOVBE, NOREP, FEATURE(MOVBE), W(Mv), R(Gv)), F(CRC32, PF2, FEATURE(SSE4_2), RW(Gy), R(Ev))),
    [0xf6] = OPM(F(ADCX, P66, FEATURE(ADX) | FL(CHAIN_CF), RW(Gy), R(Ey)),
                 F(ADOX, PF3, FEATURE(ADX) | FL(CHAIN_OF), RW(Gy), R(Ey))),
};

const struct decode_entry decode_map_0f3a[256] = {
    [0x08] = OPM(F(ROUNDPS, P66, SSE41 | FPX, W(V), R(Wdq), R(Ib))),
    [0x09] = OPM(F(ROUNDPD, P66, SSE41 | FPX, W(V), R(Wdq), R(Ib))),
    [0x0a] = OPM(F(ROUNDSS, P66, SSE41 | FPX, RW(V), R(Wd), R(Ib))),
    [0x0b] = OPM(F(ROUNDSD, P66, SSE41 | FPX, RW(V), R(Wq), R(Ib))),
    [0x0c] = OPM(F(BLENDPS, P66, SSE41, RW(V), R(Wdq), R(Ib))),
    [0x0d] = OPM(F(BLENDPD, P66, SSE41, RW(V), R(Wdq), R(Ib))),
    [0x0e] = OPM(F(PBLENDW, P66, SSE41, RW(V), R(Wdq), R(Ib))),
    [0x0f] = OPM(F(PALIGNR, NP, MMX_SSSE3, RW(Pq), R(Qq), R(Ib)), F(PALIGNR, P66, SSSE3, RW(V), R(Wdq), R(Ib))),
    [0x14] = OPM(F(PEXTRB, P66, SSE41, W(Ed_Mb), R(V), R(Ib))),
    [0x15] = OPM(F(PEXTRW, P66, SSE41, W(Ed_Mw), R(V), R(Ib))),
    [0x16] = OPM(F(PEXTRQ, P66 | W1, SSE41, W(Ey), R(V), R(Ib)), F(PEXTRD, P66, SSE41, W(Ey), R(V), R(Ib))),
    [0x17] = OPM(F(EXTRACTPS, P66, SSE41, W(Ed), R(V), R(Ib))),
    [0x20] = OPM(F(PINSRB, P66, SSE41, RW(V), R(Ed_Mb), R(Ib))),
    [0x21] = OPM(F(INSERTPS, P66, SSE41, RW(V), R(Wd), R(Ib))),
    [0x22] = OPM(F(PINSRQ, P66 | W1, SSE41, RW(V), R(Ey), R(Ib)), F(PINSRD, P66, SSE41, RW(V), R(Ey), R(Ib))),
    [0x40] = OPM(F(DPPS, P66, SSE41 | FPX, RW(V), R(Wdq), R(Ib))),
    [0x41] = OPM(F(DPPD, P66, SSE41 | FPX, RW(V), R(Wdq), R(Ib))),
    [0x42] = OPM(F(MPSADBW, P66, SSE41, RW(V), R(Wdq), R(Ib))),
    [0x44] = OPM(F(PCLMULQDQ, P66, SSEV(PCLMULQDQ), RW(V), R(Wdq), R(Ib))),
    [0x60] = OPM(F(PCMPESTRM, P66, SSE42 | UNALIGNED | FL(ARITH), R(V), R(Wdq), R(Ib), R(yAX), R(yDX))),
    [0x61] = OPM(F(PCMPESTRI, P66, SSE42 | UNALIGNED | FL(ARITH), R(V), R(Wdq), R(Ib), R(yAX), R(yDX))),
    [0x62] = OPM(F(PCMPISTRM, P66, SSE42 | UNALIGNED | FL(ARITH), R(V), R(Wdq), R(Ib), W(XMM0))),
    [0x63] = OPM(F(PCMPISTRI, P66, SSE42 | UNALIGNED | FL(ARITH), R(V), R(Wdq), R(Ib), W(ECX))),
    [0xcc] = OPM(F(SHA1RNDS4, NP, SSEV(SHA), RW(V), R(Wdq), R(Ib))),
    [0xce] = OPM(F(GF2P8AFFINEQB, P66, SSEV(GFNI), RW(V), R(Wdq), R(Ib))),
    [0xcf] = OPM(F(GF2P8AFFINEINVQB, P66, SSEV(GFNI), RW(V), R(Wdq), R(Ib))),
    [0xdf] = OPM(F(AESKEYGENASSIST, P66, SSEV(AES), W(V), R(Wdq), R(Ib))),
};
