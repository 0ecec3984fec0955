/* SPDX-License-Identifier: Apache-2.0 */
/* Every vector or x87 mnemonic that decodes has a handler, and none has two. */
#include "instance.h"
#include "soft/fpu/fpu_internal.h"

#include "testing.h"

static struct forms forms;

START_TEST(every_form_has_a_handler)
{
    unsigned missing = 0;

    forms_sweep(&forms);
    ck_assert_uint_gt(forms.count, 1500);
    for (unsigned i = 0; i < forms.count; i++)
        if (!harness_handler(forms.form[i].id)) {
            printf("no handler: %s (map %u, opcode %02x)\n", insn_name(forms.form[i].id),
                   forms.form[i].map, forms.form[i].opcode);
            missing++;
        }
    ck_assert_uint_eq(missing, 0);
}
END_TEST

START_TEST(no_mnemonic_has_two)
{
    static uint8_t seen[INSN_NR_IDS];

    for (const struct soft_handler *row = fpu_handlers_special; row->run; row++) {
        ck_assert_msg(!seen[row->id], "%s has two handlers", insn_name(row->id));
        seen[row->id] = 1;
    }
}
END_TEST

TEST_MAIN("fpu_coverage", tcase_add_test(tcase, every_form_has_a_handler);
          tcase_add_test(tcase, no_mnemonic_has_two);)
