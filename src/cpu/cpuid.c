/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPUID policy. Feature words are the host's, cut by the masks below: a bit stands in a mask
 * only when every engine of ours implements it. What the machine provides by itself (x2APIC,
 * TSC-deadline, ARAT, hypervisor) is set whatever the host says.
 *
 * Left out on purpose: speculation controls (SPEC_CTRL, IBPB, SSBD), so that the guest writes no
 * MSR on every entry to its kernel; MONITOR, PMU, SVM, VMX, LA57, PKU, CET, AMX, TSX, MPX, AVX-512,
 * XSAVES.
 *
 * Source: SDM 2A CPUID; AMD APM 3 appendix E; Linux Documentation/virt/kvm/x86/cpuid.
 */
#include "cpu/cpuid.h"

#include "base/util.h"
#include "cpu/state.h"

#include <cpuid.h>
#include <string.h>

#define BIT(n) (1u << (n))

#define CPUID_1_ECX_PCID         BIT(17)
#define CPUID_1_ECX_X2APIC       BIT(21)
#define CPUID_1_ECX_TSC_DEADLINE BIT(24)
#define CPUID_1_ECX_XSAVE        BIT(26)
#define CPUID_1_ECX_OSXSAVE      BIT(27)
#define CPUID_1_ECX_AVX          BIT(28)
#define CPUID_1_ECX_HYPERVISOR   BIT(31)
#define CPUID_1_EDX_APIC         BIT(9)
#define CPUID_1_EDX_HTT          BIT(28)

/* SSE3 PCLMUL SSSE3 FMA CX16 PCID SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND */
#define MASK_1_ECX                                                                         \
    (BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(13) | CPUID_1_ECX_PCID | BIT(19) | BIT(20) | \
     BIT(22) | BIT(23) | BIT(25) | CPUID_1_ECX_XSAVE | CPUID_1_ECX_AVX | BIT(29) | BIT(30))
/* What leaf 1 and AMD's 80000001h share: FPU DE PSE TSC MSR PAE MCE CX8 APIC MTRR PGE MCA CMOV PAT
 * PSE36 MMX FXSR */
#define MASK_EDX_COMMON                                                                         \
    (BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | CPUID_1_EDX_APIC | \
     BIT(12) | BIT(13) | BIT(14) | BIT(15) | BIT(16) | BIT(17) | BIT(23) | BIT(24))
/* and SEP CLFSH SSE SSE2 */
#define MASK_1_EDX (MASK_EDX_COMMON | BIT(11) | BIT(19) | BIT(25) | BIT(26))

#define CPUID_6_EAX_ARAT BIT(2)

/* FSGSBASE TSC_ADJUST BMI1 AVX2 FDP_EXCPTN_ONLY SMEP BMI2 ERMS INVPCID ZERO_FCS_FDS RDSEED ADX SMAP
 * CLFLUSHOPT CLWB SHA */
#define MASK_7_EBX                                                                               \
    (BIT(0) | BIT(1) | BIT(3) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(9) | BIT(10) | BIT(13) | \
     BIT(18) | BIT(19) | BIT(20) | BIT(23) | BIT(24) | BIT(29))
#define MASK_7_EBX_AVX BIT(5)
/* UMIP GFNI VAES VPCLMULQDQ RDPID */
#define MASK_7_ECX     (BIT(2) | BIT(8) | BIT(9) | BIT(10) | BIT(22))
#define MASK_7_ECX_AVX (BIT(9) | BIT(10))
/* FSRM */
#define MASK_7_EDX                    BIT(4)
#define CPUID_7_EDX_ARCH_CAPABILITIES BIT(29)

/* XSAVEOPT XSAVEC XGETBV(1) */
#define MASK_D1_EAX (BIT(0) | BIT(1) | BIT(2))

/* LAHF LZCNT SSE4A 3DNOWPREFETCH */
#define MASK_80000001_ECX          (BIT(0) | BIT(5) | BIT(6) | BIT(8))
#define CPUID_80000001_ECX_LEGACY  BIT(1)
#define CPUID_80000001_ECX_TOPOEXT BIT(22)
/* SYSCALL NX 1GiB RDTSCP LM; AMD also MMXEXT */
#define MASK_80000001_EDX                (BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29))
#define MASK_80000001_EDX_AMD            (MASK_EDX_COMMON | BIT(22))
#define CPUID_80000007_EDX_INVARIANT_TSC BIT(8)
/* XSAVEERPTR */
#define MASK_80000008_EBX BIT(2)
/* LFENCE always serialising */
#define MASK_80000021_EAX BIT(2)

#define KVM_SIGNATURE_LEAF       0x40000000u
#define KVM_FEATURE_NOP_IO_DELAY BIT(1)
#define KVM_FEATURE_CLOCKSOURCE2 BIT(3)
#define KVM_FEATURE_STABLE       BIT(24)

/* IA32_ARCH_CAPABILITIES (SDM 4 table 2-2): RDCL_NO SKIP_L1DFL_VMENTRY SSB_NO MDS_NO
 * PSCHANGE_MC_NO TAA_NO SBDR_SSDP_NO FBSDP_NO PSDP_NO BHI_NO PBRSB_NO GDS_NO RFDS_NO */
#define ARCH_CAPABILITIES_IMMUNE                                                                   \
    (BIT(0) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(13) | BIT(14) | BIT(15) | BIT(20) | \
     BIT(24) | BIT(26) | BIT(27))

enum vendor { VENDOR_INTEL, VENDOR_AMD };

struct builder {
    struct cpuid_policy *policy;
    const struct cpuid_options *options;
    enum vendor vendor;
    uint32_t host_max, host_max_extended;
    unsigned topology_shift; /* bits of the APIC id that number the processors of the package */
};

static struct cpuid_entry host(const struct builder *b, uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_entry e = {.leaf = leaf, .subleaf = subleaf};
    uint32_t max = leaf & BIT(31) ? b->host_max_extended : b->host_max;

    if (leaf <= max)
        __cpuid_count(leaf, subleaf, e.eax, e.ebx, e.ecx, e.edx);
    return e;
}

static struct cpuid_entry *add(struct builder *b, struct cpuid_entry e)
{
    struct cpuid_policy *p = b->policy;

    if (p->nr_entries == CPUID_ENTRIES_MAX)
        return &p->entries[CPUID_ENTRIES_MAX - 1];
    p->entries[p->nr_entries] = e;
    return &p->entries[p->nr_entries++];
}

static struct cpuid_entry *add_subleaf(struct builder *b, struct cpuid_entry e)
{
    e.subleaf_matters = true;
    return add(b, e);
}

static void add_basic_features(struct builder *b)
{
    struct cpuid_entry e = host(b, 0, 0);
    bool avx;

    e.eax = b->vendor == VENDOR_INTEL ? 0x1f : 0x16;
    add(b, e);

    e = host(b, 1, 0);
    e.ebx = 8u << 8 | (uint32_t)(1u << b->topology_shift) << 16;
    e.ecx = (e.ecx & MASK_1_ECX) | CPUID_1_ECX_X2APIC | CPUID_1_ECX_TSC_DEADLINE |
            CPUID_1_ECX_HYPERVISOR;
    e.edx = (e.edx & MASK_1_EDX) | CPUID_1_EDX_APIC;
    if (b->options->nr_cpus > 1)
        e.edx |= CPUID_1_EDX_HTT;
    avx = e.ecx & CPUID_1_ECX_AVX;
    add(b, e);

    if (b->vendor == VENDOR_INTEL)
        add(b, host(b, 2, 0));
    add(b, (struct cpuid_entry){.leaf = 6, .eax = CPUID_6_EAX_ARAT});

    e = host(b, 7, 0);
    e.eax = 0;
    e.ebx &= MASK_7_EBX & (avx ? ~0u : ~MASK_7_EBX_AVX);
    e.ecx &= MASK_7_ECX & (avx ? ~0u : ~MASK_7_ECX_AVX);
    e.edx &= MASK_7_EDX;
    if (b->policy->arch_capabilities)
        e.edx |= CPUID_7_EDX_ARCH_CAPABILITIES;
    add_subleaf(b, e);

    e = host(b, 0xd, 0);
    e.eax = avx ? CPU_XCR0_SUPPORTED : CPU_XCR0_X87 | CPU_XCR0_SSE;
    e.ecx = avx ? CPU_XSAVE_SIZE : CPU_XSAVE_AVX_OFFSET;
    e.ebx = e.ecx; /* cpuid_query makes it follow XCR0 */
    e.edx = 0;
    add_subleaf(b, e);
    e = host(b, 0xd, 1);
    e.eax &= MASK_D1_EAX;
    e.ecx = e.edx = 0;
    add_subleaf(b, e);
    if (avx)
        add_subleaf(b, (struct cpuid_entry){.leaf = 0xd,
                                            .subleaf = 2,
                                            .eax = CPU_XSAVE_SIZE - CPU_XSAVE_AVX_OFFSET,
                                            .ebx = CPU_XSAVE_AVX_OFFSET});
}

/* Leaf 4 (Intel) and 8000001Dh (AMD): the host's caches; the last level is shared by all. */
static void add_caches(struct builder *b, uint32_t leaf)
{
    for (uint32_t i = 0; i < 8; i++) {
        struct cpuid_entry e = host(b, leaf, i);
        uint32_t level = (e.eax >> 5) & 7;
        uint32_t sharing = level >= 3 ? (1u << b->topology_shift) - 1 : 0;

        if (!(e.eax & 0x1f))
            break;
        e.eax = (e.eax & 0x3fff) | sharing << 14;
        if (leaf == 4)
            e.eax |= ((1u << b->topology_shift) - 1) << 26;
        add_subleaf(b, e);
    }
}

/* Leaves 0Bh and 1Fh: one thread a core, all cores in one package. x2APIC ids come in at query. */
static void add_topology(struct builder *b, uint32_t leaf)
{
    add_subleaf(b, (struct cpuid_entry){.leaf = leaf, .subleaf = 0, .ebx = 1, .ecx = 1u << 8});
    add_subleaf(b, (struct cpuid_entry){.leaf = leaf,
                                        .subleaf = 1,
                                        .eax = b->topology_shift,
                                        .ebx = b->options->nr_cpus,
                                        .ecx = 2u << 8 | 1});
}

/* The crystal is put at half the TSC: then the products that kernels compute in 32 bits (crystal in
 * kHz times EBX) fit, and rounding to kHz costs under one part in a million. */
static void add_frequencies(struct builder *b)
{
    uint64_t hz = b->options->tsc_hz;
    uint32_t mhz = (uint32_t)((hz + 500000) / 1000000);

    add(b, (struct cpuid_entry){.leaf = 0x15, .eax = 1, .ebx = 2, .ecx = (uint32_t)(hz / 2)});
    add(b, (struct cpuid_entry){.leaf = 0x16, .eax = mhz, .ebx = mhz, .ecx = 100});
}

static void add_kvm(struct builder *b)
{
    struct cpuid_entry e = {.leaf = KVM_SIGNATURE_LEAF, .eax = KVM_SIGNATURE_LEAF + 1};

    memcpy(&e.ebx, "KVMK", 4);
    memcpy(&e.ecx, "VMKV", 4);
    memcpy(&e.edx, "M\0\0\0", 4);
    add(b, e);
    add(b, (struct cpuid_entry){.leaf = KVM_SIGNATURE_LEAF + 1,
                                .eax = KVM_FEATURE_NOP_IO_DELAY | KVM_FEATURE_CLOCKSOURCE2 |
                                       KVM_FEATURE_STABLE});
}

static void add_extended_features(struct builder *b)
{
    bool amd = b->vendor == VENDOR_AMD;
    struct cpuid_entry e = host(b, 0x80000000, 0);

    e.eax = amd ? 0x80000021 : 0x80000008;
    add(b, e);
    e = host(b, 0x80000001, 0);
    e.ecx &= MASK_80000001_ECX;
    e.edx &= MASK_80000001_EDX | (amd ? MASK_80000001_EDX_AMD : 0);
    if (amd) {
        e.ebx = 0;
        e.ecx |= CPUID_80000001_ECX_TOPOEXT;
        if (b->options->nr_cpus > 1)
            e.ecx |= CPUID_80000001_ECX_LEGACY;
    }
    e.edx |= BIT(11); /* SYSCALL: Intel shows it in 64-bit mode only, AMD always */
    add(b, e);
    for (uint32_t leaf = 0x80000002; leaf <= 0x80000006; leaf++)
        add(b, host(b, leaf, 0));
    add(b, (struct cpuid_entry){.leaf = 0x80000007, .edx = CPUID_80000007_EDX_INVARIANT_TSC});
    e = host(b, 0x80000008, 0);
    e.eax = b->policy->physical_address_bits | 48u << 8;
    e.ebx &= amd ? MASK_80000008_EBX : 0;
    e.ecx = amd ? (b->options->nr_cpus - 1) | b->topology_shift << 12 : 0;
    e.edx = 0;
    add(b, e);
    if (!amd)
        return;
    e = host(b, 0x8000001a, 0);
    e.eax &= 7;
    add(b, e);
    add_caches(b, 0x8000001d);
    add(b, (struct cpuid_entry){.leaf = 0x8000001e});
    e = host(b, 0x80000021, 0);
    e.eax &= MASK_80000021_EAX;
    e.ebx = e.ecx = e.edx = 0;
    add(b, e);
}

void cpuid_policy_init(struct cpuid_policy *policy, const struct cpuid_options *options)
{
    struct builder b = {.policy = policy, .options = options};
    char vendor[13] = "";
    uint32_t ebx, ecx, edx, ignored;

    memset(policy, 0, sizeof(*policy));
    policy->physical_address_bits = options->physical_address_bits ? options->physical_address_bits
                                                                   : 40;
    __cpuid(0, b.host_max, ebx, ecx, edx);
    memcpy(vendor, &ebx, 4);
    memcpy(vendor + 4, &edx, 4);
    memcpy(vendor + 8, &ecx, 4);
    __cpuid(0x80000000, b.host_max_extended, ignored, ignored, ignored);
    b.vendor = !strcmp(vendor, "AuthenticAMD") || !strcmp(vendor, "HygonGenuine") ? VENDOR_AMD
                                                                                  : VENDOR_INTEL;
    while ((1u << b.topology_shift) < options->nr_cpus)
        b.topology_shift++;
    if (b.vendor == VENDOR_INTEL)
        policy->arch_capabilities = ARCH_CAPABILITIES_IMMUNE;
    add_basic_features(&b);
    if (b.vendor == VENDOR_INTEL)
        add_caches(&b, 4);
    add_topology(&b, 0xb);
    add_frequencies(&b);
    if (b.vendor == VENDOR_INTEL)
        add_topology(&b, 0x1f);
    add_kvm(&b);
    add_extended_features(&b);
}

static const struct cpuid_entry *entry_find(const struct cpuid_policy *policy, uint32_t leaf,
                                            uint32_t subleaf)
{
    for (unsigned i = 0; i < policy->nr_entries; i++) {
        const struct cpuid_entry *e = &policy->entries[i];

        if (e->leaf == leaf && (!e->subleaf_matters || e->subleaf == subleaf))
            return e;
    }
    return NULL;
}

/* The leaf that is answered when `leaf` is asked: Intel gives the highest basic leaf for any leaf
 * that is out of range, AMD zeros. */
static bool leaf_resolve(const struct cpuid_policy *policy, uint32_t *leaf)
{
    const struct cpuid_entry *basic = entry_find(policy, 0, 0);
    const struct cpuid_entry *extended = entry_find(policy, 0x80000000, 0);
    bool intel = policy->arch_capabilities != 0;

    if (!basic || !extended)
        return true;
    if (*leaf <= basic->eax || (*leaf >= 0x80000000 && *leaf <= extended->eax))
        return true;
    if (*leaf >= KVM_SIGNATURE_LEAF && *leaf <= KVM_SIGNATURE_LEAF + 0xff)
        return *leaf <= KVM_SIGNATURE_LEAF + 1;
    *leaf = basic->eax;
    return intel;
}

/* Size of the XSAVE area for the components in xcr0: the standard format, and with only x87, SSE
 * and AVX the compacted one too. */
static uint32_t xsave_size(uint64_t xcr0)
{
    return xcr0 & CPU_XCR0_AVX ? CPU_XSAVE_SIZE : CPU_XSAVE_AVX_OFFSET;
}

void cpuid_query(const struct cpuid_policy *policy, unsigned cpu, uint32_t leaf, uint32_t subleaf,
                 uint64_t cr4, uint64_t xcr0, uint32_t ret[4])
{
    const struct cpuid_entry *e = NULL;

    memset(ret, 0, 4 * sizeof(ret[0]));
    if (leaf_resolve(policy, &leaf))
        e = entry_find(policy, leaf, subleaf);
    if (e) {
        ret[0] = e->eax;
        ret[1] = e->ebx;
        ret[2] = e->ecx;
        ret[3] = e->edx;
    }
    switch (leaf) {
    case 1:
        ret[1] |= (uint32_t)cpu << 24;
        if (cr4 & CPU_CR4_OSXSAVE)
            ret[2] |= CPUID_1_ECX_OSXSAVE;
        break;
    case 0xb:
    case 0x1f:
        if (!e && entry_find(policy, leaf, 0))
            ret[2] = subleaf & 0xff;
        if (entry_find(policy, leaf, 0))
            ret[3] = cpu;
        break;
    case 0xd:
        if (subleaf == 0 || (subleaf == 1 && e && e->eax & BIT(1)))
            ret[1] = xsave_size(xcr0);
        break;
    case 0x8000001e:
        if (e) {
            ret[0] = cpu;
            ret[1] = cpu & 0xff;
        }
        break;
    default:
        break;
    }
}
