/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers of the guest of hostile.c: on with a random address of its code. Without and with an
 * error code. */
#define SEED 0x9000
#define CODE 0x20000
#define MASK 0x3ffff
        .section .rodata
        .globl hostile_handlers, hostile_handler_error, hostile_handlers_end
hostile_handlers:
        push    %rax
        mov     SEED, %rax
        imul    $0x5851f42d, %rax, %rax
        add     $0x14057b7f, %rax
        mov     %rax, SEED
        shr     $29, %rax
        and     $MASK, %eax
        add     $CODE, %eax
        mov     %rax, 8(%rsp)
        andl    $~0x44100, 24(%rsp)
        pop     %rax
        iretq
hostile_handler_error:
        add     $8, %rsp
        jmp     hostile_handlers
hostile_handlers_end:
        .section .note.GNU-stack, "", @progbits
