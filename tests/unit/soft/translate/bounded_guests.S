/* SPDX-License-Identifier: Apache-2.0 */
/* Guests of test_bounded.c: position independent, 64-bit, ring 0. RBX counts up to RBP, then HLT;
 * going on from there counts further after RBP was raised. */
        .section .rodata

        .macro  guest name
        .globl  \name, \name\()_end
\name:
        .endm

/* Writes mov eax, RBX; add rsi, rax; ret at RDI and calls it three times; on by R14 up to R13, then
 * from R12 again. RSI: the sum. */
guest endless_code
1:      movb    $0xb8, (%rdi)
        mov     %ebx, 1(%rdi)
        movl    $0xc3c60148, 5(%rdi)
        call    *%rdi
        call    *%rdi
        call    *%rdi
        inc     %rbx
        add     %r14, %rdi
        cmp     %r13, %rdi
        jb      2f
        mov     %r12, %rdi
2:      cmp     %rbp, %rbx
        jb      1b
        hlt
        jmp     1b
endless_code_end:

/* Touches a page R14 further each time, in the lower half. */
guest endless_data
1:      add     %r14, %rdi
        and     %r13, %rdi
        incq    (%rdi)
        mov     8(%rdi), %rax
        inc     %rbx
        cmp     %rbp, %rbx
        jb      1b
        hlt
        jmp     1b
endless_data_end:

/* Calls what stands at the same place of pages R14 apart: in the upper half, R12 added. */
guest endless_places
1:      add     %r14, %rdi
        and     %r13, %rdi
        lea     (%rdi, %r12), %rax
        call    *%rax
        call    *%rax
        call    *%rax
        inc     %rbx
        cmp     %rbp, %rbx
        jb      1b
        hlt
        jmp     1b
endless_places_end:
        .section .note.GNU-stack, "", @progbits
