/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every vector and x87 form of the decoder, with random operands, against the host CPU. The forms
 * that depend on the XSAVE bookkeeping of the processor are in test_xsave.c.
 */
#define TESTING_TIMEOUT 280
#include "instance.h"
#include "soft/fpu/thunk.h"

#include "testing.h"

#include <string.h>

static struct forms forms;

static bool is_elsewhere(enum insn_id id)
{
    return id >= INSN_FXSAVE && id <= INSN_XRSTORS;
}

static void describe(const uint8_t *bytes, const struct insn *insn, const struct form *form,
                     const struct native_state *state, const char *what, int vector)
{
    const struct fpu_area *host = &harness.host.area, *ours = &harness.cpu.fpu.area;

    printf("%s (%s%s): %s; host exception %d, ours %u; bytes", insn_name((enum insn_id)insn->id),
           form->vex ? "VEX " : "", form->memory ? "memory" : "register", what, vector,
           harness.cpu.fault.vector);
    for (unsigned i = 0; i < insn->length; i++)
        printf(" %02x", bytes[i]);
    printf("; MXCSR %04x (host %04x, ours %04x)", state->area.mxcsr, host->mxcsr, ours->mxcsr);
    printf("; FCW %04x FTW %02x FSW %04x (host %04x, ours %04x)\n", state->area.fcw,
           state->area.ftw, state->area.fsw, host->fsw, ours->fsw);
}

static bool names_gpr(const struct insn *insn)
{
    for (unsigned i = 0; i < insn->nr_operands; i++)
        if (insn->operand[i].kind == INSN_OPERAND_REG && insn->operand[i].reg_class == INSN_REG_GPR)
            return true;
    return false;
}

/* Register forms that mean the same in 32-bit mode: *insn becomes what is decoded there. */
static bool decode_as_32(const struct form *form, const uint8_t *bytes, struct insn *insn)
{
    struct insn insn32;

    if (form->memory || (form->map == 1 && form->opcode == 0xf7) || insn->rex & 7 ||
        insn->vex_vvvv > 7 || (form->w && names_gpr(insn)) ||
        insn_decode(bytes, insn->length, INSN_MODE_32, &insn32) != INSN_OK ||
        insn32.id != insn->id || insn32.length != insn->length)
        return false;
    /* The register in the immediate has three bits there. */
    if (insn->nr_operands > 3 && (insn->imm & 0x80))
        return false;
    *insn = insn32;
    return true;
}

static bool run_instance(const struct form *form, unsigned *ret_as_32)
{
    struct native_state state;
    uint8_t bytes[32];
    struct insn insn;
    const char *differs;
    int vector;

    harness_randomise(&state, true);
    if (!form_instance(form, &state, bytes, &insn)) {
        printf("%s: an instance does not decode: map %u opcode %02x\n", insn_name(form->id),
               form->map, form->opcode);
        return false;
    }
    harness.cpu.fault.vector = 0;
    *ret_as_32 += decode_as_32(form, bytes, &insn);
    differs = harness_compare(bytes, &insn, &state, &vector);
    if (!differs)
        return true;
    describe(bytes, &insn, form, &state, differs, vector);
    memcpy(harness.copy, harness.arena, HARNESS_READABLE);
    return false;
}

START_TEST(agrees_with_the_host)
{
    const char *rounds_text = getenv("LODGE_VECTOR_ROUNDS");
    unsigned rounds = rounds_text ? (unsigned)atoi(rounds_text) : 700;
    unsigned failed_forms = 0, run = 0, as_32 = 0;

    TEST_NEEDS(harness_init(), "the host cannot be the oracle");
    forms_sweep(&forms);
    ck_assert_uint_gt(forms.count, 1500);
    for (unsigned i = 0; i < forms.count; i++) {
        unsigned failures = 0;

        if (is_elsewhere(forms.form[i].id) || !harness_handler(forms.form[i].id))
            continue;
        for (unsigned n = 0; n < rounds && failures < 2; n++) {
            if (run % 64 == 0)
                harness_randomise_arena();
            failures += !run_instance(&forms.form[i], &as_32);
            run++;
        }
        failed_forms += failures != 0;
    }
    printf("%u forms, %u instructions (%u decoded for 32-bit mode), %u forms differ; %llu thunks, "
           "dropped %llu times\n",
           forms.count, run, as_32, failed_forms,
           (unsigned long long)harness.cpu.fpu.thunks->nr_made,
           (unsigned long long)harness.cpu.fpu.thunks->nr_flushes);
    fflush(stdout);
    ck_assert_uint_eq(failed_forms, 0);
    ck_assert_uint_gt(as_32, 0);
    if (rounds >= 100)
        ck_assert_uint_gt(harness.cpu.fpu.thunks->nr_flushes, 0);
}
END_TEST

TEST_MAIN("fpu_native", tcase_add_test(tcase, agrees_with_the_host);)
