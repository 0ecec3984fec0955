/* SPDX-License-Identifier: Apache-2.0 */
/* A seccomp profile from anyone: translated into a program that the kernel's rules allow, or
 * refused with a reason. */
#include "base/json.h"
#include "oci/seccomp_filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seccomp_program program = {0};
    struct err err = ERR_INIT;
    json_t *profile = NULL;

    if (size > 16384 || json_parse((const char *)data, size, "profile", &profile, &err) < 0)
        return 0;
    if (seccomp_describe(profile, &program, &err) == 0 &&
        seccomp_compile(profile, &program, &err) == 0) {
        /* Ends in a return, and every jump stays inside. */
        if (program.length == 0 || program.length > BPF_MAXINSNS ||
            BPF_CLASS(program.filter[program.length - 1].code) != BPF_RET)
            __builtin_trap();
        for (size_t i = 0; i < program.length; i++) {
            const struct sock_filter *f = &program.filter[i];
            size_t furthest = f->jt > f->jf ? f->jt : f->jf;

            if (BPF_CLASS(f->code) == BPF_JMP &&
                i + 1 + (BPF_OP(f->code) == BPF_JA ? f->k : furthest) >= program.length)
                __builtin_trap();
        }
    } else if (err.message[0] == '\0' || err.code >= 0) {
        __builtin_trap();
    }
    seccomp_program_done(&program);
    json_decref(profile);
    return 0;
}
