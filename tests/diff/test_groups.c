/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vector table per instruction group, against the host: each row's bytes run natively and
 * interpreted from many register, flag and memory states (boundary values among them), and
 * everything that comes out has to agree. The generated streams of diff_main.c cover more; these
 * rows say by name what is covered whatever the dice say.
 */
#include "diff.h"

#include "base/util.h"
#include "../unit/testing.h"

#define STATES 48u

struct vector {
    const char *name;
    const char *hex; /* one instruction; its memory operands are [rbx] or [rsi], [rdi] */
};

/* clang-format off */
static const struct vector moves[] = {
    {"mov eax, ecx", "89c8"},        {"mov al, ah", "88e0"},          {"mov ch, [rbx]", "8a2b"},
    {"mov [rbx], dx", "668913"},     {"mov rax, imm32", "48c7c080000000"},
    {"mov [rbx], imm8", "c60355"},   {"movzx eax, bh", "0fb6c7"},     {"movsx rdx, word [rbx]", "480fbf13"},
    {"movsxd r9, ecx", "4c63c9"},    {"movbe rcx, [rbx]", "480f38f00b"}, {"movbe [rbx], ax", "660f38f103"},
    {"lea r8d, [rbx+rcx*8+5]", "448d44cb05"}, {"bswap rdx", "480fca"}, {"xchg [rbx], rcx", "48870b"},
    {"xchg al, ah", "86c4"},         {"cmova rdx, [rbx]", "480f4713"}, {"cmovl edx, ecx", "0f4cd1"},
    {"setg [rbx]", "0f9f03"},        {"setnp dh", "0f9bc6"},          {"cqo", "4899"},
    {"cdq", "99"},                   {"cwd", "6699"},                 {"cbw", "6698"},
    {"cdqe", "4898"},                {"xlat", "d7"},                  {"push rdx", "52"},
    {"push imm8", "6aff"},           {"push word cx", "6651"},        {"pop r10", "415a"},
    {"pop [rbx]", "8f03"},           {"pushf", "9c"},                 {"enter 16, 0", "c8100000"},
    {"enter 8, 3", "c8080003"},      {"leave", "c9"},                 {"movnti [rbx], rdx", "480fc313"},
    {"mov ss:[rsp], rax", "48890424"}, {"lahf", "9f"},                {"sahf", "9e"},
};

static const struct vector arithmetic[] = {
    {"add al, cl", "00c8"},          {"add ax, [rbx]", "660303"},     {"add rcx, rdx", "4801d1"},
    {"adc [rbx], edx", "1113"},      {"adc rax, imm8", "4883d07f"},   {"sbb ecx, edx", "19d1"},
    {"sbb byte [rbx], 80h", "801b80"}, {"sub rdx, [rbx]", "482b13"},  {"cmp ah, 80h", "80fc80"},
    {"cmp [rbx], rcx", "48390b"},    {"inc byte [rbx]", "fe03"},      {"inc rax", "48ffc0"},
    {"dec word [rbx]", "66ff0b"},    {"dec ch", "fecd"},              {"neg rdx", "48f7da"},
    {"neg byte [rbx]", "f61b"},      {"not ecx", "f7d1"},             {"and [rbx], al", "2003"},
    {"or rdx, imm32", "4881ca00000080"}, {"xor ch, [rbx]", "322b"},   {"test [rbx], rdx", "488513"},
    {"test al, imm8", "a8f0"},       {"adcx rax, rcx", "66480f38f6c1"}, {"adox eax, [rbx]", "f30f38f603"},
    {"mul cl", "f6e1"},              {"mul word [rbx]", "66f723"},    {"mul rcx", "48f7e1"},
    {"imul dl", "f6ea"},             {"imul rdx", "48f7ea"},          {"imul eax, [rbx]", "0faf03"},
    {"imul r8, rcx, imm8", "4c6bc1f9"}, {"imul cx, dx, imm16", "6669ca0180"},
    {"div cl", "f6f1"},              {"div ecx", "f7f1"},             {"div qword [rbx]", "48f733"},
    {"idiv ch", "f6fd"},             {"idiv cx", "66f7f9"},           {"idiv rcx", "48f7f9"},
    {"mulx rcx, rdx, [rbx]", "c4e2ebf60b"},
};

static const struct vector shifts[] = {
    {"rol al, cl", "d2c0"},          {"rol rdx, 13", "48c1c20d"},     {"ror word [rbx], 1", "66d10b"},
    {"ror dl, cl", "d2ca"},          {"rcl ax, cl", "66d3d0"},        {"rcl byte [rbx], 9", "c01309"},
    {"rcr rdx, cl", "48d3da"},       {"rcr eax, 1", "d1d8"},          {"shl dh, cl", "d2e6"},
    {"shl rax, 63", "48c1e03f"},     {"shr dword [rbx], cl", "d32b"}, {"shr ax, 17", "66c1e811"},
    {"sar dl, 31", "c0fa1f"},        {"sar rdx, cl", "48d3fa"},       {"shld edx, eax, cl", "0fa5c2"},
    {"shld dx, ax, 20", "660fa4c214"}, {"shrd [rbx], rax, 7", "480fac0307"},
    {"shrd word [rbx], ax, cl", "660fad03"}, {"rorx rdx, [rbx], 5", "c4e3fbf01305"},
    {"sarx edx, eax, ecx", "c4e272f7d0"}, {"shlx rdx, [rbx], rcx", "c4e2f1f713"},
    {"shrx edx, [rbx], ecx", "c4e273f713"},
};

static const struct vector bits[] = {
    {"bt rdx, rcx", "480fa3ca"},     {"bt [rbx], cx", "660fa30b"},    {"bts dword [rbx], 33", "0fba2b21"},
    {"btr rdx, 63", "480fbaf23f"},   {"btc [rbx], ecx", "0fbb0b"},    {"bsf rdx, rcx", "480fbcd1"},
    {"bsf dx, [rbx]", "660fbc13"},   {"bsr eax, edx", "0fbdc2"},      {"bsr rdx, [rbx]", "480fbd13"},
    {"popcnt dx, [rbx]", "66f30fb813"}, {"lzcnt rdx, rcx", "f3480fbdd1"}, {"tzcnt edx, [rbx]", "f30fbc13"},
    {"andn rdx, rcx, [rbx]", "c4e2f0f213"}, {"bextr edx, [rbx], ecx", "c4e270f713"},
    {"blsi rdx, rcx", "c4e2e8f3d9"}, {"blsmsk edx, [rbx]", "c4e268f313"}, {"blsr rdx, rcx", "c4e2e8f3c9"},
    {"bzhi rdx, [rbx], rcx", "c4e2f0f513"}, {"pdep rdx, rcx, [rbx]", "c4e2f3f513"},
    {"pext edx, ecx, [rbx]", "c4e272f513"}, {"crc32 edx, byte [rbx]", "f20f38f013"},
    {"crc32 rdx, rcx", "f2480f38f1d1"}, {"crc32 eax, cx", "66f20f38f1c1"},
};

static const struct vector locked[] = {
    {"lock add [rbx], rcx", "f048010b"}, {"lock sbb [rbx], dl", "f01813"}, {"lock inc word [rbx]", "66f0ff03"},
    {"lock neg dword [rbx]", "f0f71b"},  {"lock not qword [rbx]", "f048f713"},
    {"lock bts [rbx], rcx", "f0480fab0b"}, {"lock xadd [rbx], edx", "f00fc113"}, {"xadd rcx, rcx", "480fc1c9"},
    {"xadd [rbx], ah", "0fc023"},        {"lock cmpxchg [rbx], rcx", "f0480fb10b"},
    {"cmpxchg [rbx], dl", "0fb013"},     {"cmpxchg edx, ecx", "0fb1ca"}, {"cmpxchg ah, cl", "0fb0cc"},
    {"lock cmpxchg8b [rbx]", "f00fc70b"}, {"lock cmpxchg16b [rbx]", "f0480fc70b"},
    {"cmpxchg16b [rbx]", "480fc70b"},
};

static const struct vector strings[] = {
    {"movsb", "a4"},             {"movsq", "48a5"},           {"rep movsb", "f3a4"},
    {"rep movsw", "f366a5"},     {"rep movsd, 32-bit", "67f3a5"}, {"stosd", "ab"},
    {"rep stosq", "f348ab"},     {"rep stosb", "f3aa"},       {"lodsw", "66ad"},
    {"rep lodsq", "f348ad"},     {"scasb", "ae"},             {"repne scasb", "f2ae"},
    {"repe scasd", "f3af"},      {"cmpsb", "a6"},             {"repe cmpsq", "f348a7"},
    {"repne cmpsw", "f266a7"},   {"std", "fd"},               {"cld", "fc"},
};

static const struct vector control[] = {
    {"clc", "f8"},           {"stc", "f9"},           {"cmc", "f5"},
    {"nop", "90"},           {"long nop", "0f1f8400000000fe"}, {"pause", "f390"},
    {"endbr64", "f30f1efa"}, {"lfence", "0faee8"},    {"mfence", "0faef0"},
    {"prefetcht0 [0]", "0f180c2500000000"}, {"clflush [rbx]", "0fae3b"}, {"ud2", "0f0b"},
    {"int3", "cc"},          {"hlt", "f4"},
    {"cli", "fa"},           {"in al, dx", "ec"},     {"out 80h, al", "e680"},
    {"popf", "9d"},          {"mov cr0, rax", "0f22c0"}, {"load non-canonical", "48a10000000000008000"},
    {"store to code", "c6042500000010cc"}, {"call rdx, wild", "ffd2"},
    {"call [rbx], wild", "ff13"}, {"jmp rdx, wild", "ffe2"}, {"jmp [rbx], wild", "ff23"},
    {"ret, wild", "c3"},     {"ret 8, wild", "c20800"},
};

/* What only 16- and 32-bit code has, or what differs there. */
static const struct vector legacy[] = {
    {"daa", "27"},               {"das", "2f"},              {"aaa", "37"},
    {"aas", "3f"},               {"aam", "d40a"},            {"aad", "d50a"},
    {"aam 7", "d407"},           {"aad 81h", "d581"},        {"inc eax", "40"},
    {"dec sp", "664c"},          {"pusha", "60"},            {"pushaw", "6660"},
    {"popa", "61"},              {"popaw", "6661"},          {"bound eax, [rbx]", "6203"},
    {"bound ax, [rbx]", "666203"}, {"into", "ce"},           {"aam 0", "d400"},
    {"push cs", "0e"},           {"push ds", "1e"},          {"push word ss", "6616"},
    {"pop es", "07"},            {"pop ss", "17"},           {"mov ds, [rbx]", "8e1b"},
    {"mov [rbx], es", "8c03"},   {"mov eax, ss", "8cd0"},    {"les eax, [rbx]", "c403"},
    {"lds ax, [rbx]", "66c503"}, {"lss esp, [rbx]", "0fb223"}, {"arpl [rbx], cx", "630b"},
    {"arpl cs:[rbx], cx", "2e630b"}, {"arpl [20002000h], cx", "630d00200020"},
    {"mov al, moffs", "a000010020"}, {"mov moffs, eax", "a3fe0f0020"},
    {"mov eax, fs:[rbx]", "648b03"}, {"mov cs:[rbx], eax", "2e8903"},
    {"mov eax, [bx+si+10h], 16-bit", "678b4010"}, {"movsb, 16-bit", "67a4"},
    {"rep stosd, 16-bit", "67f3ab"}, {"jcxz", "67e300"},     {"jecxz", "e300"},
    {"loop, 16-bit", "67e200"},  {"salc", "d6"},             {"add [rbx], al by 82h", "820380"},
    {"enter 16, 2", "c8100002"}, {"leave", "c9"},            {"pushf", "9c"},
    {"popfw", "669d"},           {"push word imm8", "666a80"}, {"call far 0:0", "9a000000000000"},
    {"call far kernel", "9a000000001000"}, {"jmp far null", "ea000000000300"},
    {"jmp far data", "ea000000002b00"}, {"jmp far [rbx]", "ff2b"}, {"call far [rbx]", "ff1b"},
    {"retf", "cb"},              {"iret", "cf"},             {"ret, wild", "c3"},
    {"call eax, wild", "ffd0"},  {"jmp [rbx], wild", "ff23"}, {"int 21h", "cd21"},
    {"crc32 eax, ecx", "f20f38f1c1"}, {"mulx ecx, edx, [rbx]", "c4e273f60b"},
    {"andn edx, ecx, eax, W", "c4e2f0f2d0"}, {"cmpxchg8b [rbx]", "0fc70b"},
    {"movd eax, xmm1", "660f7ec8"}, {"vmovd eax, xmm1, W", "c4e1f97ec8"},
    {"vcvtsi2sd xmm0, xmm1, eax, W", "c4e1f32ac0"}, {"cvttsd2si eax, xmm1", "f20f2cc1"},
    {"pcmpestri xmm0, xmm1", "660f3a61c104"}, {"vpcmpestri xmm0, xmm1, W", "c4e3f961c100"},
    {"vpcmpestrm xmm0, [rbx], W", "c4e3f9600340"}, {"fld tbyte [rbx]", "db2b"},
    {"fild qword [rbx]", "df2b"}, {"fnstcw [rbx]", "d93b"},  {"maskmovdqu xmm0, xmm1", "660ff7c1"},
};
/* clang-format on */

static unsigned unhex(const char *hex, uint8_t *bytes)
{
    unsigned length = 0, value;

    for (; sscanf(hex, "%2x", &value) == 1; hex += 2)
        bytes[length++] = (uint8_t)value;
    return length;
}

static void run_row(struct diff_native *native, struct diff_guest *guest, const struct vector *row,
                    enum insn_mode code_mode)
{
    static struct diff_stream stream[STATES];
    static struct diff_result expected[STATES];
    uint8_t bytes[INSN_LENGTH_MAX];
    unsigned length = unhex(row->hex, bytes);
    struct diff_report report;
    struct insn insn;

    ck_assert_msg(insn_decode(bytes, length, code_mode, &insn) == INSN_OK && insn.length == length,
                  "%s: the row's bytes are not one instruction", row->name);
    for (unsigned i = 0; i < STATES; i++) {
        diff_generate(guest, code_mode == INSN_MODE_64 ? DIFF_MODE_INTEGER : DIFF_MODE_ALL,
                      code_mode, i * 7919 + 1, &stream[i]);
        stream[i].nr_insns = 1;
        stream[i].insn[0] = (struct diff_insn){0};
        stream[i].undefined_flags = diff_undefined_flags(insn.id);
        stream[i].insn[0].partial = strstr(row->name, "popa") != NULL;
        stream[i].insn[0].length = (uint8_t)length;
        memcpy(stream[i].insn[0].bytes, bytes, length);
    }
    if (!diff_guest_exposes(guest, &insn))
        return;
    diff_native_start(native, stream, STATES);
    diff_native_wait(native, expected);
    for (unsigned i = 0; i < STATES; i++) {
        struct diff_result result;

        ck_assert_msg(!expected[i].lost, "%s: lost natively", row->name);
        diff_guest_run(guest, &stream[i], &result);
        ck_assert_msg(diff_equal(&stream[i], &expected[i], &result, &report),
                      "%s, state %u, rdx %llx:\n%s", row->name, i,
                      (unsigned long long)stream[i].initial.gpr[CPU_RDX], report.text);
    }
}

static void run_engine(const char *options, const struct vector *table, unsigned nr,
                       enum insn_mode code_mode)
{
    struct diff_native *native;
    struct diff_guest *guest;
    struct err err = ERR_INIT;

    ck_assert_msg(!diff_native_new(&native, &err), "%s", err.message);
    ck_assert_msg(!diff_guest_new(options, &guest, &err), "%s", err.message);
    for (unsigned i = 0; i < nr; i++)
        run_row(native, guest, &table[i], code_mode);
    diff_guest_free(guest);
    diff_native_free(native);
}

static void run_table(const struct vector *table, unsigned nr, enum insn_mode code_mode)
{
    run_engine("tier=interp", table, nr, code_mode);
    run_engine("tier=translate,runs=0", table, nr, code_mode);
}

#define GROUP(name, mode)                       \
    START_TEST(group_##name)                    \
    {                                           \
        run_table(name, ARRAY_LEN(name), mode); \
    }                                           \
    END_TEST
/* clang-format off */
GROUP(moves, INSN_MODE_64)
GROUP(arithmetic, INSN_MODE_64)
GROUP(shifts, INSN_MODE_64)
GROUP(bits, INSN_MODE_64)
GROUP(locked, INSN_MODE_64)
GROUP(strings, INSN_MODE_64)
GROUP(control, INSN_MODE_64)
GROUP(legacy, INSN_MODE_32)
/* clang-format on */

TEST_MAIN("diff_groups", tcase_add_test(tcase, group_moves);
          tcase_add_test(tcase, group_arithmetic); tcase_add_test(tcase, group_shifts);
          tcase_add_test(tcase, group_bits); tcase_add_test(tcase, group_locked);
          tcase_add_test(tcase, group_strings); tcase_add_test(tcase, group_control);
          tcase_add_test(tcase, group_legacy);)
